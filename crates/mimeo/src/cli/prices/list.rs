//! `mimeo prices list`.

use clap::Args;
use serde_json::{Value, json};

use super::{Common, Entry, Environment, Failure, Outcome, entries, plan_in_words, print, print_json, table, today};
use crate::pricing::compare;
use crate::providers::near;
use crate::route::listing::examples;

#[derive(Debug, Args)]
pub(super) struct List {
    #[command(flatten)]
    common: Common,
    /// Only this provider's
    #[arg(long, value_name = "NAME")]
    provider: Option<String>,
    /// Only of providers that can be called
    #[arg(long)]
    enabled: bool,
    /// As JSON
    #[arg(long)]
    json: bool,
}

pub(super) async fn run(listing: &List, environment: &Environment) -> Outcome {
    let blueprint = listing.common.blueprint(listing.common.config(None)?, environment)?;
    let book = listing.common.book(&blueprint.config, environment).await;
    let mut all = entries(&blueprint, book.as_ref(), today());
    if let Some(wanted) = &listing.provider {
        if !all.iter().any(|entry| entry.provider == *wanted) {
            let mut names: Vec<&str> = all.iter().map(|entry| entry.provider.as_str()).collect();
            names.dedup();
            let hint = match near(wanted, names.into_iter()).as_slice() {
                [] => "`mimeo providers --all` lists those that are known".to_owned(),
                close => format!("did you mean {}?", close.join(" or ")),
            };
            return Err(Failure::Failed(format!("there is no provider {wanted}; {hint}")));
        }
        all.retain(|entry| entry.provider == *wanted);
    }
    all.retain(|entry| entry.enabled || !listing.enabled);
    if listing.json {
        return print_json(&all.iter().map(value).collect::<Vec<_>>());
    }
    if all.is_empty() {
        eprintln!("No provider is enabled: only templates can be drawn.");
        return Ok(());
    }
    let is_dated = all.iter().any(|entry| entry.prices().is_some_and(|prices| prices.from.is_some()));
    let mut header = vec!["provider", "model", "unit", "1024x1024, at most", "certainty", "as of", "source"];
    if is_dated {
        header.insert(6, "from");
    }
    let rows = all.iter().map(|entry| {
        let prices = entry.prices();
        let day = |day: Option<jiff::civil::Date>| day.map(|day| day.to_string()).unwrap_or_default();
        let mut row = vec![
            entry.provider.clone(),
            entry.label(),
            prices.map_or("unknown", |prices| prices.rates.unit()).to_owned(),
            square(entry),
            prices.map(|prices| prices.certainty.name()).unwrap_or_default().to_owned(),
            day(prices.and_then(|prices| prices.as_of)),
            prices.map(|prices| prices.source.clone()).unwrap_or_default(),
        ];
        if is_dated {
            row.insert(6, day(prices.and_then(|prices| prices.from)));
        }
        row
    });
    print(&table(&header, rows, &[]))?;
    let mut told = Vec::new();
    for entry in all.iter().filter(|entry| entry.plan.is_some()) {
        if !told.contains(&&entry.provider) {
            told.push(&entry.provider);
            print(&format!("{}: {}\n", entry.provider, entry.plan.as_ref().map(plan_in_words).unwrap_or_default()))?;
        }
    }
    let later = all.iter().filter(|entry| !entry.model.price_changes.is_empty()).count();
    if later > 0 {
        eprintln!("{later} of them change on a day that has been announced: `mimeo prices show MODEL` tells which");
    }
    let off = all.iter().filter(|entry| !entry.bills.is_empty()).count();
    if off > 0 {
        let are = if off == 1 { "is" } else { "are" };
        eprintln!("{off} of them {are} billed at another price than listed: `mimeo prices show MODEL` tells which");
    }
    Ok(())
}

/// What a square picture costs, by quality, the cheapest first.
fn square(entry: &Entry) -> String {
    let known = |usd: Option<&str>| usd.map_or_else(|| "unknown".to_owned(), |usd| format!("${usd}"));
    match examples(&entry.model) {
        Value::Object(steps) => {
            let steps = entry.model.qualities.iter().filter_map(|step| Some((step, steps.get(step)?)));
            steps.map(|(step, usd)| format!("{step} {}", known(usd.as_str()))).collect::<Vec<_>>().join(", ")
        }
        one => known(one.as_str()),
    }
}

/// An entry for programs.
pub(super) fn value(entry: &Entry) -> Value {
    let prices = entry.prices();
    let rates = |prices: &crate::pricing::Prices| -> Vec<Value> {
        compare::rates(prices).into_iter().map(|(of, usd)| json!({ "of": of, "usd": usd })).collect()
    };
    json!({
        "provider": entry.provider,
        "model": if entry.is_any { "*" } else { entry.model.id.as_str() },
        "enabled": entry.enabled,
        "status": entry.model.status.name(),
        "unit": prices.map(|prices| prices.rates.unit()),
        "rates": prices.map(rates),
        "usd_per_image": examples(&entry.model),
        "certainty": prices.map(|prices| prices.certainty.name()),
        "as_of": prices.and_then(|prices| prices.as_of),
        "from": prices.and_then(|prices| prices.from),
        "source": prices.map(|prices| &prices.source),
        "batch_permille": prices.and_then(|prices| prices.batch_permille),
        "tiers": prices.map(|prices| &prices.tiers),
        "changes": entry.model.price_changes,
        "bills": entry.bills.iter().map(|(quality, billed, listed)| json!({
            "quality": Some(quality).filter(|quality| !quality.is_empty()), "billed_usd": billed, "listed_usd": listed,
        })).collect::<Vec<_>>(),
        "plan": entry.plan,
    })
}
