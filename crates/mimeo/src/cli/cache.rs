//! `mimeo cache`.

use clap::{Args, Subcommand};

use super::{Common, Failure, Outcome, print, print_json, table::table};
use crate::config::Environment;
use crate::domain::Digest;
use crate::store::PurgeFilter;

#[derive(Debug, Args)]
pub(super) struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    list: List,
}

#[derive(Debug, Args)]
struct List {
    #[command(flatten)]
    common: Common,
    /// Only this tenant's
    #[arg(long)]
    tenant: Option<String>,
    /// The newest so many
    #[arg(long, default_value_t = 50)]
    limit: u32,
    /// As JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// List what is stored, the newest first
    List(List),
    /// Remove what is stored; a running gateway notices within a second
    Purge {
        #[command(flatten)]
        common: Common,
        /// Only this key, as `mimeo cache list` shows it
        #[arg(long)]
        key: Option<String>,
        /// Only this tenant's
        #[arg(long)]
        tenant: Option<String>,
        /// Only what has expired
        #[arg(long)]
        expired: bool,
        /// Everything
        #[arg(long, conflicts_with_all = ["key", "tenant", "expired"])]
        all: bool,
    },
}

pub(super) async fn run(arguments: Arguments, environment: &Environment) -> Outcome {
    match arguments.command {
        None => list(arguments.list, environment).await,
        Some(Command::List(listing)) => list(listing, environment).await,
        Some(Command::Purge { common, key, tenant, expired, all }) => {
            if !all && key.is_none() && tenant.is_none() && !expired {
                return Err(Failure::Usage("say what to purge: --key, --tenant, --expired or --all".into()));
            }
            let key = match key.map(|key| key.parse::<Digest>()).transpose() {
                Ok(key) => key,
                Err(_) => return Err(Failure::Usage("--key is not one that `mimeo cache list` shows".into())),
            };
            let expired_by = expired.then(|| crate::clock::Clock::System.now());
            let gone = common.store(environment)?.purge(PurgeFilter { key, tenant, expired_by }).await?;
            eprintln!("{gone} picture{} removed", if gone == 1 { "" } else { "s" });
            Ok(())
        }
    }
}

async fn list(listing: List, environment: &Environment) -> Outcome {
    let entries = listing.common.store(environment)?.entries(listing.tenant, listing.limit).await?;
    if listing.json {
        return print_json(&entries);
    }
    if entries.is_empty() {
        eprintln!("Nothing is stored.");
        return Ok(());
    }
    let rows = entries.into_iter().map(|entry| {
        vec![
            entry.key,
            entry.label,
            entry.tenant,
            entry.pictures.to_string(),
            indicatif::HumanBytes(entry.bytes).to_string(),
            format!("${}", entry.cost_usd),
            crate::clock::rfc3339(entry.created_ms),
            entry.expires_ms.map_or("never".to_owned(), crate::clock::rfc3339),
        ]
    });
    let header = ["key", "what", "tenant", "pictures", "size", "cost", "made", "expires"];
    print(&table(&header, rows, &[3, 4, 5]))
}
