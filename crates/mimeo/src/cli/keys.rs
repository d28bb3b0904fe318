//! `mimeo keys`.

use clap::{Args, Subcommand};

use super::{Common, Failure, Outcome, print, print_json, table::table};
use crate::http::auth;

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
    /// As JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// List the configured keys
    List(List),
    /// Make a key: the key itself goes to stderr, once; what to put into the configuration to stdout
    New {
        /// Name of the key, for the ledger
        name: String,
        /// Whose pictures and money these are [default: the name]
        #[arg(long)]
        tenant: Option<String>,
        /// Share the cache with all keys of this pool
        #[arg(long)]
        pool: Option<String>,
        /// May see all tenants' ledger rows
        #[arg(long)]
        admin: bool,
    },
}

pub(super) fn run(arguments: Arguments) -> Outcome {
    match arguments.command {
        None => list(&arguments.list),
        Some(Command::List(listing)) => list(&listing),
        Some(Command::New { name, tenant, pool, admin }) => new(&name, tenant, pool, admin),
    }
}

fn new(name: &str, tenant: Option<String>, pool: Option<String>, admin: bool) -> Outcome {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
    for word in [Some(name), tenant.as_deref(), pool.as_deref()].into_iter().flatten() {
        if word.is_empty() || !word.chars().all(plain) {
            return Err(Failure::Usage(format!("`{word}` must consist of letters, digits, - and _")));
        }
    }
    let (key, hash) = auth::new_key()?;
    let mut out = format!("[keys.{name}]\nhash = \"{hash}\"\n");
    if let Some(tenant) = tenant {
        out.push_str(&format!("tenant = \"{tenant}\"\n"));
    }
    if let Some(pool) = pool {
        out.push_str(&format!("pool = \"{pool}\"\n"));
    }
    if admin {
        out.push_str("admin = true\n");
    }
    eprintln!("The key, shown only this once. Callers send it as `Authorization: Bearer KEY`:\n\n  {key}\n");
    eprintln!("Put this into the configuration (mimeo keys new {name} >> mimeo.toml does so):\n");
    print(&out)
}

fn list(listing: &List) -> Outcome {
    let config = listing.common.config(None)?;
    if listing.json {
        let rows: Vec<_> = config
            .keys
            .iter()
            .map(|(name, key)| {
                serde_json::json!({
                    "name": name, "tenant": key.tenant.as_ref().unwrap_or(name), "pool": key.pool, "admin": key.admin,
                    "budgets": key.budget.0.iter().map(|budget| serde_json::json!({
                        "usd": budget.usd, "pictures": budget.pictures, "soft": budget.soft,
                        "per": format!("{:?}", budget.per).to_lowercase()
                    })).collect::<Vec<_>>(),
                })
            })
            .collect();
        return print_json(&rows);
    }
    if config.keys.is_empty() {
        eprintln!("No keys: whoever reaches the gateway on this machine may use it. Make one: mimeo keys new NAME");
        return Ok(());
    }
    let rows = config.keys.iter().map(|(name, key)| {
        let budgets: Vec<String> = key.budget.0.iter().map(budget).collect();
        vec![
            name.clone(),
            key.tenant.clone().unwrap_or_else(|| name.clone()),
            key.pool.clone().unwrap_or_else(|| "–".to_owned()),
            if budgets.is_empty() { "–".to_owned() } else { budgets.join(", ") },
            if key.admin { "admin".to_owned() } else { String::new() },
        ]
    });
    print(&table(&["key", "tenant", "pool", "budget", ""], rows, &[]))
}

/// A budget in words.
fn budget(budget: &crate::config::Budget) -> String {
    let usd = budget.usd.map(|usd| format!("${usd}"));
    let pictures = budget.pictures.map(|count| format!("{count} pictures"));
    let limits: Vec<String> = usd.into_iter().chain(pictures).collect();
    let soft = if budget.soft { " (soft)" } else { "" };
    format!("{} per {}{soft}", limits.join(" and "), format!("{:?}", budget.per).to_lowercase())
}
