//! `mimeo budgets`.

use clap::Args;

use super::{Common, Outcome, print, print_json, table::table};
use crate::clock::Clock;
use crate::config::Environment;
use crate::ledger::{BudgetListing, Budgets, Ledger};

#[derive(Debug, Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    common: Common,
    /// As JSON
    #[arg(long)]
    json: bool,
}

pub(super) async fn run(arguments: Arguments, environment: &Environment) -> Outcome {
    let config = arguments.common.config(None)?;
    let budgets = Budgets::of(&config);
    let store = std::sync::Arc::new(arguments.common.store(environment)?);
    let listed = Ledger::new(store, Clock::System, budgets, None).budgets().await?;
    if arguments.json {
        return print_json(&listed);
    }
    if listed.is_empty() {
        eprintln!(
            "No budgets. Give one to a key, tenant, route or provider: budget = {{ usd = \"200\", per = \"month\" }}"
        );
        return Ok(());
    }
    let rows = listed.into_iter().map(|budget| {
        let (limit, used) = words(&budget);
        vec![
            budget.scope.to_owned(),
            budget.name,
            limit,
            used,
            budget.per.to_owned(),
            if budget.soft { "soft" } else { "hard" }.to_owned(),
            budget.resets_at.unwrap_or_else(|| "never".to_owned()),
        ]
    });
    print(&table(&["of", "name", "limit", "used", "per", "", "resets"], rows, &[2, 3]))
}

fn words(budget: &BudgetListing) -> (String, String) {
    match (budget.limit_usd, budget.limit_pictures) {
        (Some(usd), _) => (format!("${usd}"), format!("${}", budget.used_usd)),
        (None, count) => (format!("{} pictures", count.unwrap_or(0)), format!("{} pictures", budget.used_pictures)),
    }
}
