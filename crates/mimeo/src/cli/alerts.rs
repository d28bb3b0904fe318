//! `mimeo alerts`: what the operator was told without asking.

use clap::Args;
use serde_json::json;

use super::{Common, Outcome, print, print_json, table::table};
use crate::clock::rfc3339;
use crate::config::Environment;
use crate::store::AlertRow;

#[derive(Debug, Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    common: Common,
    /// How many
    #[arg(long, default_value_t = 30)]
    limit: u32,
    /// As JSON
    #[arg(long)]
    json: bool,
}

pub(super) async fn run(arguments: Arguments, environment: &Environment) -> Outcome {
    let alerts = arguments.common.store(environment)?.alerts(arguments.limit).await?;
    if arguments.json {
        let values: Vec<_> = alerts
            .iter()
            .map(|alert| {
                json!({
                    "id": alert.seq, "at": rfc3339(alert.at_ms), "kind": alert.kind, "subject": alert.subject,
                    "message": alert.message, "tries": alert.tries, "sent_at": alert.told_ms.map(rfc3339),
                    "next_try_at": alert.next_ms.map(rfc3339),
                })
            })
            .collect();
        return print_json(&values);
    }
    if alerts.is_empty() {
        eprintln!("Nothing was to be told.");
        return Ok(());
    }
    let rows = alerts.iter().map(|alert| {
        vec![
            alert.seq.to_string(),
            rfc3339(alert.at_ms),
            alert.kind.clone(),
            alert.message.clone(),
            sent(alert).to_owned(),
        ]
    });
    print(&table(&["#", "at", "kind", "what", "webhook"], rows, &[0]))
}

/// Whether the webhook has it.
const fn sent(alert: &AlertRow) -> &'static str {
    match alert {
        AlertRow { told_ms: Some(_), .. } => "sent",
        AlertRow { next_ms: Some(_), .. } => "waits",
        AlertRow { tries: 0, .. } => "",
        _ => "not taken",
    }
}
