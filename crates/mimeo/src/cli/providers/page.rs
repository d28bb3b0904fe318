//! `docs/providers.md`, generated from the catalogue.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use crate::config::Environment;
use crate::providers::{Catalogue, Model, Record, Status};

/// How many models are named in a row of the table; of the others their number is told.
const NAMED: usize = 4;

/// The table of all providers that the binary knows, as Markdown.
pub(in crate::cli) fn page() -> String {
    let catalogue = Catalogue::embedded();
    let mut out = String::from(
        "# Providers\n\n\
         What the binary knows without any file. This page is generated from `providers/` by `mimeo reference providers`;\n\
         `mimeo providers show NAME` tells more: capabilities, prices, limits, and a configuration to copy. A provider that\n\
         is not here is one TOML file: see [add a provider](add-a-provider.md).\n\n\
         *Facts* says where the wire facts come from: `verified` (the provider's own text), `reported` (somebody else's) or\n\
         `recalled` (memory), and when they were read. Prices have their own certainty, model by model.\n\n\
         | record | provider | shape | can | models | facts | to enable it |\n|---|---|---|---|---|---|---|\n",
    );
    for record in catalogue.records() {
        let title = match &record.docs {
            Some(docs) => format!("[{}]({docs})", record.title),
            None => record.title.clone(),
        };
        let read = record.as_of.map_or_else(String::new, |day| format!(", {day}"));
        let _ = writeln!(
            out,
            "| `{}` | {title} | {} | {} | {} | {}{read} | {} |",
            record.name,
            record.shape.name(),
            operations(record),
            models(record),
            record.certainty.name(),
            enabling(record),
        );
    }
    out
}

fn operations(record: &Record) -> String {
    let models = record.models.iter().chain(&record.default_model);
    let names: BTreeSet<&str> = models.flat_map(|model| &model.operations).map(|operation| operation.name()).collect();
    names.into_iter().collect::<Vec<_>>().join(", ")
}

fn models(record: &Record) -> String {
    let is_there = |model: &&Model| !matches!(model.status, Status::Gone { .. });
    let names: Vec<String> = record.models.iter().filter(is_there).map(|model| format!("`{}`", model.id)).collect();
    let mut cell = names.iter().take(NAMED).cloned().collect::<Vec<_>>().join(", ");
    if names.len() > NAMED {
        let _ = write!(cell, " and {} more", names.len() - NAMED);
    }
    match (record.open_models, names.is_empty()) {
        (true, true) => "any name".to_owned(),
        (true, false) => cell + ", and any other name",
        (false, _) => cell,
    }
}

fn enabling(record: &Record) -> String {
    if record.simulated {
        return format!("`[providers.{}]`", record.name);
    }
    let needs = record.needs(&Environment::default());
    if needs.is_empty() {
        return "nothing".to_owned();
    }
    needs.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}
