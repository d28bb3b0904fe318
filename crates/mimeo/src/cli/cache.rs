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
    /// Read everything that is stored, and say what is missing or damaged
    Verify {
        #[command(flatten)]
        common: Common,
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// Delete bytes that nothing leads to, which a killed process may leave behind; a running gateway does so
    /// by itself
    Collect {
        #[command(flatten)]
        common: Common,
        /// Only what is older than so many hours: longer than any call takes
        #[arg(long, value_name = "HOURS", default_value_t = 24, value_parser = clap::value_parser!(u64).range(1..))]
        older_than: u64,
        /// Only say how much there is
        #[arg(long)]
        dry_run: bool,
        /// As JSON
        #[arg(long)]
        json: bool,
    },
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
        /// Only what came through this route, or for this model
        #[arg(long)]
        route: Option<String>,
        /// Only what bears this tag (`cache.tags` of a request)
        #[arg(long)]
        tag: Option<String>,
        /// Only what has expired
        #[arg(long)]
        expired: bool,
        /// Everything
        #[arg(long, conflicts_with_all = ["key", "tenant", "route", "tag", "expired"])]
        all: bool,
    },
}

pub(super) async fn run(arguments: Arguments, environment: &Environment) -> Outcome {
    match arguments.command {
        None => list(arguments.list, environment).await,
        Some(Command::List(listing)) => list(listing, environment).await,
        Some(Command::Verify { common, json }) => {
            let store = common.store(environment)?;
            store.check_blobs().await?;
            let found = store.verify().await?;
            if json {
                print_json(&found)?;
            } else {
                let (count, size) = (found.blobs, indicatif::HumanBytes(found.bytes));
                eprintln!("{count} pictures, {size}: {} missing, {} damaged", found.missing, found.corrupt);
            }
            match found.missing + found.corrupt {
                0 => Ok(()),
                bad => {
                    Err(Failure::Failed(format!("{bad} pictures are lost; each is made again when it is asked for")))
                }
            }
        }
        Some(Command::Collect { common, older_than, dry_run, json }) => {
            let grace = std::time::Duration::from_secs(older_than.saturating_mul(3600));
            let now = crate::clock::Clock::System.now();
            let store = common.store(environment)?;
            // To another database, all that this one leads to would seem to lead nowhere.
            store.check_blobs().await?;
            let found = store.collect(grace, now, dry_run).await?;
            if json {
                return print_json(&found);
            }
            let done = if dry_run { "would be deleted" } else { "deleted" };
            eprintln!("{} of {} blobs lead nowhere and {done}", found.orphans, found.blobs);
            Ok(())
        }
        Some(Command::Purge { common, key, tenant, route, tag, expired, all }) => {
            let names_something = key.is_some() || tenant.is_some() || route.is_some() || tag.is_some();
            if !all && !names_something && !expired {
                let message = "say what to purge: --key, --tenant, --route, --tag, --expired or --all";
                return Err(Failure::Usage(message.into()));
            }
            let key = match key.map(|key| key.parse::<Digest>()).transpose() {
                Ok(key) => key,
                Err(_) => return Err(Failure::Usage("--key is not one that `mimeo cache list` shows".into())),
            };
            let now = crate::clock::Clock::System.now();
            let filter = PurgeFilter { key, tenant, route, tag, expired_by: expired.then_some(now) };
            let gone = common.store(environment)?.purge(filter, now).await?;
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
            entry.route,
            entry.pictures.to_string(),
            indicatif::HumanBytes(entry.bytes).to_string(),
            format!("${}", entry.cost_usd),
            crate::clock::rfc3339(entry.created_ms),
            entry.expires_ms.map_or("never".to_owned(), crate::clock::rfc3339),
        ]
    });
    let header = ["key", "what", "tenant", "route", "pictures", "size", "cost", "made", "expires"];
    print(&table(&header, rows, &[4, 5, 6]))
}
