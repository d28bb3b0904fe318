//! `mimeo providers`.

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::{Common, Failure, Outcome, print, print_json, table::table};
use crate::config::Environment;
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
    /// Also what the catalogue knows and is not enabled
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
    /// Show everything that is known of one provider's models
    Show {
        #[command(flatten)]
        common: Common,
        /// The provider
        name: String,
    },
}

pub(super) fn run(arguments: Arguments, environment: &Environment) -> Outcome {
    match arguments.command {
        None => list(&arguments.list, environment),
        Some(Command::List(listing)) => list(&listing, environment),
        Some(Command::Show { common, name }) => show(&common, &name, environment),
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
            rows.push(vec![provider.name.clone(), model.id.clone(), prices(&examples(model)), notes.join(", ")]);
        }
        if provider.is_open() {
            values.push(json!({ "provider": provider.name, "model": "*" }));
            rows.push(vec![provider.name.clone(), "any name".to_owned(), "set prices".to_owned(), String::new()]);
        }
    }
    let enabled: Vec<&str> = registry.providers().map(|provider| provider.record.name.as_str()).collect();
    let catalogue = crate::providers::Catalogue::embedded();
    let idle: Vec<_> = catalogue
        .records()
        .filter(|record| !enabled.contains(&record.name.as_str()) && record.shape.is_remote())
        .collect();
    if listing.all {
        for record in &idle {
            values.push(json!({ "provider": record.name, "enabled": false, "key_variable": record.auth.env }));
            for model in &record.models {
                let note = format!("{}, not enabled", model.status.name());
                rows.push(vec![record.name.clone(), model.id.clone(), prices(&examples(model)), note]);
            }
        }
    }
    if listing.json {
        return print_json(&values);
    }
    if rows.is_empty() {
        eprintln!("No provider is enabled: only templates can be drawn.");
    } else {
        print(&table(&["provider", "model", "1024x1024, at most", "status"], rows, &[]))?;
    }
    for record in idle {
        match &record.auth.env {
            Some(variable) => eprintln!("{}: set {variable} to enable it", record.name),
            None => eprintln!("{}: configure [providers.{}] to enable it", record.name, record.name),
        }
    }
    Ok(())
}

fn show(common: &Common, name: &str, environment: &Environment) -> Outcome {
    let blueprint = common.blueprint(common.config(None)?, environment)?;
    let registry = blueprint.routes.registry();
    let Some(provider) = registry.provider(name) else {
        let known: Vec<&str> = registry.providers().map(|provider| provider.name.as_str()).collect();
        return Err(Failure::Failed(format!("there is no provider {name}; there are: {}", known.join(", "))));
    };
    let models: serde_json::Map<String, Value> =
        provider.models().iter().map(|model| (model.id.clone(), describe(provider, model))).collect();
    print_json(&json!({
        "name": provider.name,
        "record": provider.record.name,
        "title": provider.record.title,
        "shape": provider.record.shape.name(),
        "timeout_s": provider.timeout.as_secs(),
        "models": models,
    }))
}

fn prices(examples: &Value) -> String {
    match examples {
        Value::String(usd) => format!("${usd}"),
        Value::Object(steps) => {
            let each = |(step, usd): (&String, &Value)| match usd.as_str() {
                Some(usd) => format!("{step} ${usd}"),
                None => format!("{step} unknown"),
            };
            steps.iter().map(each).collect::<Vec<_>>().join(", ")
        }
        _ => "unknown".to_owned(),
    }
}
