//! `mimeo providers`: who is there, who could be, and what is wrong with a record.

mod check;
mod page;
mod show;

use std::path::PathBuf;

use clap::{Args, Subcommand};
use serde_json::{Value, json};

pub(super) use page::page;

use super::{Common, Outcome, print, print_json, table::table};
use crate::config::Environment;
use crate::providers::{Model, Need, Record};
use crate::route::listing::{describe, examples};

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
    /// Also what the catalogue knows and is not enabled, and what each of it needs
    #[arg(long)]
    all: bool,
    /// As JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// List providers and their models
    List(List),
    /// Show everything that is known of one provider, enabled or not
    Show {
        #[command(flatten)]
        common: Common,
        /// The provider, or a record of the catalogue
        name: String,
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// Check records, and explain every fault
    Check {
        /// Files of records
        #[arg(required = true, value_name = "FILE")]
        files: Vec<PathBuf>,
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// Print the JSON schema of records, for editors
    Schema,
}

pub(super) fn run(arguments: Arguments, environment: &Environment) -> Outcome {
    match arguments.command {
        None => list(&arguments.list, environment),
        Some(Command::List(listing)) => list(&listing, environment),
        Some(Command::Show { common, name, json }) => show::run(&common, &name, json, environment),
        Some(Command::Check { files, json }) => check::run(&files, json, environment),
        Some(Command::Schema) => print_json(&crate::providers::schema()),
    }
}

fn list(listing: &List, environment: &Environment) -> Outcome {
    let blueprint = listing.common.blueprint(listing.common.config(None)?, environment)?;
    let registry = blueprint.routes.registry();
    let mut rows = Vec::new();
    let mut values = Vec::new();
    for provider in registry.providers().filter(|provider| provider.record.shape.is_remote()) {
        for model in provider.models() {
            values.push(json!({ "provider": provider.name, "model": model.id, "details": describe(provider, model) }));
            let mut notes = vec![model.status.name().to_owned()];
            if provider.is_simulated() {
                notes.push("simulated".to_owned());
            }
            rows.push(vec![provider.name.clone(), model.id.clone(), prices(model), notes.join(", ")]);
        }
        if provider.is_open() {
            values.push(json!({ "provider": provider.name, "model": "*" }));
            rows.push(vec![provider.name.clone(), "any name".to_owned(), "set prices".to_owned(), String::new()]);
        }
    }
    let enabled: Vec<&str> = registry.providers().map(|provider| provider.record.name.as_str()).collect();
    let idle: Vec<_> = blueprint
        .catalogue
        .records()
        .filter(|record| !enabled.contains(&record.name.as_str()) && record.shape.is_remote())
        .collect();
    if listing.json {
        if listing.all {
            values.extend(idle.iter().map(|record| idle_value(record, environment)));
        }
        return print_json(&values);
    }
    if rows.is_empty() {
        eprintln!("No provider is enabled: only templates can be drawn.");
    } else {
        print(&table(&["provider", "model", "1024x1024, at most", "status"], rows, &[]))?;
    }
    if listing.all && !idle.is_empty() {
        let rows = idle.iter().map(|record| {
            let models = if record.open_models { "any name".to_owned() } else { record.models.len().to_string() };
            vec![record.name.clone(), record.title.clone(), models, missing(record, environment)]
        });
        print("\n")?;
        print(&table(&["not enabled", "title", "models", "to enable it"], rows, &[]))?;
    } else if !idle.is_empty() {
        eprintln!("{} more are known: `mimeo providers --all` says what each needs", idle.len());
    }
    for (name, added) in blueprint.catalogue.added() {
        let instead = if added.is_replacement { ", in place of the built-in one" } else { "" };
        eprintln!("{name}: from {}{instead}", added.file);
    }
    Ok(())
}

/// A record that is not enabled, for programs.
fn idle_value(record: &Record, environment: &Environment) -> Value {
    let needs = record.needs(environment);
    let key = needs.iter().find_map(|need| match need {
        Need::Key { variable, .. } => variable.clone(),
        _ => None,
    });
    json!({
        "provider": record.name,
        "enabled": false,
        "title": record.title,
        "models": record.models.iter().map(|model| &model.id).collect::<Vec<_>>(),
        "key_variable": key,
        "needs": needs.iter().map(ToString::to_string).collect::<Vec<_>>(),
    })
}

/// What to do to enable a record, in a sentence.
fn missing(record: &Record, environment: &Environment) -> String {
    let needs = record.needs(environment);
    if needs.is_empty() {
        // It is turned off, or known under another name.
        return format!("[providers.{}]", record.name);
    }
    needs.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}

/// What one picture costs, in short, the cheapest quality first.
fn prices(model: &Model) -> String {
    let known = |usd: Option<&str>| usd.map_or_else(|| "unknown".to_owned(), |usd| format!("${usd}"));
    match examples(model) {
        Value::Object(steps) => {
            let steps = model.qualities.iter().filter_map(|step| Some((step, steps.get(step)?)));
            steps.map(|(step, usd)| format!("{step} {}", known(usd.as_str()))).collect::<Vec<_>>().join(", ")
        }
        one => known(one.as_str()),
    }
}
