//! `mimeo ledger`.

use clap::{Args, Subcommand};
use serde_json::json;

use super::{Common, Failure, Outcome, print, print_json, reconcile, table::table};
use crate::clock::{Clock, Millis, rfc3339};
use crate::config::Environment;
use crate::domain::{AttemptId, Price, Usd};
use crate::ledger::{Budgets, Ledger};
use crate::store::{GroupBy, LedgerQuery};

#[derive(Debug, Args)]
pub(super) struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    report: Report,
}

#[derive(Debug, Args)]
struct Report {
    #[command(flatten)]
    common: Common,
    /// What the lines stand for: provider, model, tenant, key, route, purpose or day
    #[arg(long, default_value = "model")]
    group_by: GroupBy,
    /// Only this tenant's
    #[arg(long)]
    tenant: Option<String>,
    /// From this time (RFC 3339, or a date in UTC)
    #[arg(long, value_parser = time)]
    since: Option<Millis>,
    /// Up to, not including, this time
    #[arg(long, value_parser = time)]
    until: Option<Millis>,
    /// As JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// The last rows as they were written
    Events {
        #[command(flatten)]
        common: Common,
        /// How many
        #[arg(long, default_value_t = 30)]
        limit: u32,
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// Calls that were sent and of which nobody knows whether they were billed
    Suspense {
        #[command(flatten)]
        common: Common,
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// Take a call out of suspense, as the provider's own bill says
    Resolve {
        #[command(flatten)]
        common: Common,
        /// The attempt, as `mimeo ledger suspense` shows it
        attempt: AttemptId,
        /// It was billed this many US dollars
        #[arg(long, value_name = "USD", required_unless_present = "release", conflicts_with = "release")]
        billed: Option<Usd>,
        /// It was not billed
        #[arg(long)]
        release: bool,
    },
    /// Settle what is in suspense from a provider's usage export
    Reconcile(reconcile::Arguments),
}

pub(super) async fn run(arguments: Arguments, environment: &Environment) -> Outcome {
    match arguments.command {
        None => report(arguments.report, environment).await,
        Some(Command::Events { common, limit, json }) => events(&common, environment, limit, json).await,
        Some(Command::Suspense { common, json }) => suspense(&common, environment, json).await,
        Some(Command::Resolve { common, attempt, billed, release: _ }) => {
            let billed = billed.unwrap_or(Usd::ZERO);
            open(&common, environment)?.resolve(attempt, billed).await?;
            eprintln!("{attempt} is settled at ${billed}");
            Ok(())
        }
        Some(Command::Reconcile(arguments)) => {
            let ledger = open(&arguments.common, environment)?;
            reconcile::run(arguments, &ledger).await
        }
    }
}

fn open(common: &Common, environment: &Environment) -> Result<Ledger, Failure> {
    Ok(Ledger::new(std::sync::Arc::new(common.store(environment)?), Clock::System, Budgets::default(), None))
}

async fn report(options: Report, environment: &Environment) -> Outcome {
    let query = LedgerQuery {
        tenant: options.tenant,
        group_by: Some(options.group_by),
        since_ms: options.since,
        until_ms: options.until,
    };
    let report = open(&options.common, environment)?.report(query).await?;
    if options.json {
        return print_json(&report);
    }
    let line = |name: String, totals: &crate::store::Totals| {
        vec![
            name,
            totals.paid_pictures.to_string(),
            format!("${}", totals.spent_usd),
            totals.saved_pictures.to_string(),
            format!("${}", totals.saved_usd),
            format!("${}", totals.suspense_usd),
            if totals.unpriced > 0 { format!("{} of unknown price", totals.unpriced) } else { String::new() },
        ]
    };
    let mut rows: Vec<_> = report.rows.iter().map(|row| line(row.name.clone(), &row.totals)).collect();
    rows.push(line("total".to_owned(), &report.totals));
    let header = ["", "paid", "spent", "not paid", "saved", "suspense", ""];
    print(&table(&header, rows, &[1, 2, 3, 4, 5]))?;
    for layer in &report.saved_by_layer {
        // What was not made is no picture that was spared.
        let of = if layer.pictures == 0 { String::new() } else { format!(" on {} pictures", layer.pictures) };
        print(&format!("saved by {}: ${}{of}\n", layer.layer, layer.saved_usd))?;
    }
    if !report.totals.suspense_usd.is_zero() {
        eprintln!("Some calls are in suspense: `mimeo ledger suspense` lists them.");
    }
    Ok(())
}

async fn events(common: &Common, environment: &Environment, limit: u32, json: bool) -> Outcome {
    let events = open(common, environment)?.events(LedgerQuery::default(), limit).await?;
    if json {
        return print_json(&events);
    }
    let rows = events.into_iter().map(|event| {
        let amount = [event.spent_usd, event.saved_usd, event.suspense_usd, event.reserved_usd]
            .into_iter()
            .find(|amount| !amount.is_zero())
            .unwrap_or(Usd::ZERO);
        vec![
            event.seq.to_string(),
            rfc3339(event.at_ms),
            match event.layer {
                Some(layer) => format!("{} ({layer})", event.kind),
                None => event.kind,
            },
            format!("{}/{}", event.provider, event.model),
            event.tenant,
            event.pictures.to_string(),
            if event.unpriced { "unknown".to_owned() } else { format!("${amount}") },
            event.attempt.unwrap_or_default(),
        ]
    });
    print(&table(&["#", "at", "row", "model", "tenant", "pictures", "amount", "attempt"], rows, &[0, 5, 6]))
}

async fn suspense(common: &Common, environment: &Environment, json: bool) -> Outcome {
    let open = open(common, environment)?.suspense(None).await?;
    if json {
        let rows: Vec<_> = open
            .iter()
            .map(|attempt| {
                json!({
                    "attempt": attempt.id.to_string(), "at_ms": attempt.created_ms, "provider": attempt.subject.provider,
                    "model": attempt.subject.model, "tenant": attempt.subject.tenant, "key": attempt.subject.api_key,
                    "request": attempt.subject.request.to_string(), "pictures": attempt.subject.pictures,
                    "reserved_usd": attempt.expected.known(), "why": attempt.fault,
                })
            })
            .collect();
        return print_json(&rows);
    }
    if open.is_empty() {
        eprintln!("Nothing is in suspense.");
        return Ok(());
    }
    let rows = open.into_iter().map(|attempt| {
        vec![
            attempt.id.to_string(),
            rfc3339(attempt.created_ms),
            format!("{}/{}", attempt.subject.provider, attempt.subject.model),
            attempt.subject.tenant,
            match attempt.expected {
                Price::Known(usd) => format!("${usd}"),
                Price::Unknown => "unknown".to_owned(),
            },
            attempt.fault.unwrap_or_default(),
        ]
    });
    print(&table(&["attempt", "at", "model", "tenant", "up to", "why"], rows, &[4]))?;
    eprintln!("Look it up in the provider's own usage, then: mimeo ledger resolve ATTEMPT --billed USD (or --release)");
    eprintln!("Or all at once from its usage export: mimeo ledger reconcile FILE --provider NAME");
    Ok(())
}

pub(super) fn time(text: &str) -> Result<Millis, String> {
    let bad = || format!("`{text}` is neither a time such as 2026-11-21T08:00:00Z nor a date such as 2026-11-21");
    if let Ok(at) = text.parse::<jiff::Timestamp>() {
        return Ok(at.as_millisecond());
    }
    let date: jiff::civil::Date = text.parse().map_err(|_| bad())?;
    let start = date.to_zoned(jiff::tz::TimeZone::UTC).map_err(|_| bad())?;
    Ok(start.timestamp().as_millisecond())
}
