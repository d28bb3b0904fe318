//! `mimeo credits`.

use clap::Args;

use super::{Common, Outcome, print, print_json, table::table};
use crate::clock::Clock;
use crate::config::Environment;
use crate::ledger::{Budgets, Credits, Ledger, Left};

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
    let store = std::sync::Arc::new(arguments.common.store(environment)?);
    let ledger = Ledger::new(store, Clock::System, Budgets::of(&config), None).with_credits(Credits::of(&config));
    let pots = ledger.all_credits_left().await?;
    if arguments.json {
        return print_json(&pots);
    }
    if pots.is_empty() {
        eprintln!("No credits. Say what an account's plan includes: [[providers.NAME.plan.included]]");
        return Ok(());
    }
    let rows = pots.into_iter().map(|pot| {
        let (limit, left) = words(&pot);
        vec![
            pot.provider,
            if pot.paid { "prepaid" } else { "free" }.to_owned(),
            limit,
            left,
            pot.per.to_owned(),
            pot.resets_at.unwrap_or_else(|| "never".to_owned()),
        ]
    });
    print(&table(&["account", "", "included", "left", "per", "full again"], rows, &[2, 3]))
}

fn words(pot: &Left) -> (String, String) {
    match (pot.limit_usd, pot.usd) {
        (Some(limit), Some(left)) => (format!("${limit}"), format!("${left}")),
        _ => {
            let count = |count: Option<u64>| format!("{} pictures", count.unwrap_or(0));
            (count(pot.limit_pictures), count(pot.pictures))
        }
    }
}
