//! `mimeo prices history`.

use serde_json::{Value, json};

use super::super::{Common, Outcome, print, print_json, table::table};
use crate::clock::rfc3339;
use crate::config::Environment;
use crate::prices::in_words;

pub(super) async fn run(common: &Common, json: bool, environment: &Environment) -> Outcome {
    let changes = common.store(environment)?.price_changes(0).await?;
    let parsed = |text: &str| serde_json::from_str::<Value>(text).unwrap_or_else(|_| text.into());
    if json {
        let values: Vec<_> = changes
            .iter()
            .map(|(seq, change)| {
                json!({
                    "seq": seq, "at": rfc3339(change.at_ms), "effective_at": rfc3339(change.effective_ms),
                    "provider": change.provider, "model": change.model,
                    "quality": Some(&change.quality).filter(|quality| !quality.is_empty()),
                    "old": parsed(&change.old), "new": parsed(&change.new),
                    "source": change.source, "certainty": change.certainty,
                })
            })
            .collect();
        return print_json(&values);
    }
    if changes.is_empty() {
        eprintln!("No price has changed since this database was made. Feeds are looked at with [[prices.feeds]].");
        return Ok(());
    }
    let rows = changes.iter().map(|(_, change)| {
        let quality = if change.quality.is_empty() { String::new() } else { format!("@{}", change.quality) };
        vec![
            rfc3339(change.effective_ms),
            format!("{}/{}{quality}", change.provider, change.model),
            in_words(&change.old),
            in_words(&change.new),
            change.source.clone(),
            change.certainty.clone(),
        ]
    });
    print(&table(&["from", "model", "before", "since then", "says", "how sure"], rows, &[]))
}
