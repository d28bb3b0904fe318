//! `mimeo providers show`.

use std::fmt::Write as _;

use serde_json::{Value, json};

use super::{missing, prices};
use crate::cli::{Common, Failure, Outcome, print, print_json};
use crate::config::Environment;
use crate::providers::{Model, Need, Provider, Record, Status, near};
use crate::route::listing::{describe, describe_record};

pub(super) fn run(common: &Common, name: &str, as_json: bool, environment: &Environment) -> Outcome {
    let blueprint = common.blueprint(common.config(None)?, environment)?;
    let registry = blueprint.routes.registry();
    let provider = registry.provider(name);
    let Some(record) = provider.map(|provider| &provider.record).or_else(|| blueprint.catalogue.record(name)) else {
        let mut known: Vec<&str> = registry.providers().map(|provider| provider.name.as_str()).collect();
        known.extend(blueprint.catalogue.records().map(|record| record.name.as_str()));
        let close = near(name, known.iter().copied());
        let hint = match close.as_slice() {
            [] => "`mimeo providers --all` lists those that are known".to_owned(),
            close => format!("did you mean {}?", close.join(" or ")),
        };
        return Err(Failure::Failed(format!("there is no provider {name}; {hint}")));
    };
    let models: Vec<(&Model, Value)> = match provider {
        Some(provider) => provider.models().iter().map(|model| (&**model, describe(provider, model))).collect(),
        None => record.models.iter().map(|model| (model, describe_record(record, model))).collect(),
    };
    if as_json {
        return print_json(&value(name, record, provider.map(|provider| &**provider), &models, environment));
    }
    print(&text(record, provider.is_some(), &models, environment))
}

fn value(
    name: &str,
    record: &Record,
    provider: Option<&Provider>,
    models: &[(&Model, Value)],
    environment: &Environment,
) -> Value {
    let limits = &record.limits;
    json!({
        "name": name,
        "record": record.name,
        "title": record.title,
        "enabled": provider.is_some(),
        "needs": record.needs(environment).iter().map(ToString::to_string).collect::<Vec<_>>(),
        "shape": record.shape.name(),
        "docs": record.docs,
        "certainty": record.certainty.name(),
        "as_of": record.as_of.map(|day| day.to_string()),
        "base_url": record.base_url,
        "timeout_s": provider.map_or(u64::from(record.timeout_s), |provider| provider.timeout.as_secs()),
        "limits": {
            "requests_per_second": limits.requests_per_second, "requests_per_minute": limits.requests_per_minute,
            "pictures_per_minute": limits.pictures_per_minute, "concurrent": limits.concurrent,
            "concurrent_pictures": limits.concurrent_pictures,
        },
        "open_models": record.open_models,
        "models": models.iter().map(|(model, details)| (model.id.clone(), details.clone())).collect::<serde_json::Map<_, _>>(),
        "configuration": snippet(record),
    })
}

fn text(record: &Record, is_enabled: bool, models: &[(&Model, Value)], environment: &Environment) -> String {
    let mut out = format!("{} ({})\n", record.title, record.name);
    let mut line = |name: &str, value: String| {
        let _ = writeln!(out, "  {name:<10} {value}");
    };
    line(
        "state",
        if is_enabled { "enabled".to_owned() } else { format!("not enabled: {}", missing(record, environment)) },
    );
    line("shape", record.shape.name().to_owned());
    let read = record.as_of.map_or_else(String::new, |day| format!(", read {day}"));
    line("facts", format!("{}{read}", record.certainty.name()));
    if let Some(docs) = &record.docs {
        line("docs", docs.clone());
    }
    let limits = &record.limits;
    let limits: Vec<String> = [
        (limits.requests_per_second, "requests per second"),
        (limits.requests_per_minute, "requests per minute"),
        (limits.pictures_per_minute, "pictures per minute"),
        (limits.concurrent, "calls at a time"),
        (limits.concurrent_pictures, "pictures at a time"),
    ]
    .into_iter()
    .filter_map(|(limit, what)| limit.map(|limit| format!("{limit} {what}")))
    .collect();
    if !limits.is_empty() {
        line("limits", limits.join(", "));
    }
    if record.open_models {
        line("models", "any name; say models = […] and prices".to_owned());
    }
    for (model, details) in models {
        out.push_str(&block(model, details));
    }
    let _ = write!(out, "\nConfiguration:\n\n{}", snippet(record));
    out
}

/// One model: its name and status, what it costs, what it can be asked for.
fn block(model: &Model, details: &Value) -> String {
    let word = |pointer: &str| details.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
    let status = match (word("/shutdown_date"), word("/successor")) {
        ("", _) => word("/status").to_owned(),
        (day, "") => format!("{} {day}", word("/status")),
        (day, heir) => format!("{} {day}, then {heir}", word("/status")),
    };
    let mut out = format!("\n{}   {status}\n", model.id);
    if matches!(model.status, Status::Gone { .. }) {
        return out;
    }
    let certainty = match (word("/prices/certainty"), word("/prices/as_of")) {
        ("", _) => String::new(),
        (certainty, "") => format!(" ({certainty})"),
        (certainty, day) => format!(" ({certainty}, {day})"),
    };
    let _ = writeln!(out, "  costs      {}{certainty}", prices(model));
    if let Some(seconds) = details.get("typical_s").and_then(Value::as_u64) {
        let _ = writeln!(out, "  takes      about {seconds} s");
    }
    for (index, line) in filled(&abilities(details), 100).iter().enumerate() {
        let _ = writeln!(out, "  {:<10} {line}", if index == 0 { "can" } else { "" });
    }
    out
}

/// What a model can be asked for, piece by piece.
fn abilities(details: &Value) -> Vec<String> {
    let list = |value: Option<&Value>| -> Vec<String> {
        value.and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect()
    };
    let fields = details.get("capabilities").and_then(Value::as_object);
    let fields = fields.into_iter().flatten().filter(|(name, _)| name.as_str() != "prompt");
    let each = fields.filter_map(|(name, field)| {
        let number = |key: &str| field.get(key).filter(|value| !value.is_null()).map(ToString::to_string);
        let values = list(field.get("values"));
        Some(match (values.as_slice(), number("min"), number("max"), number("max_per_call")) {
            ([], _, _, Some(most)) if most == "1" => return None,
            ([], _, _, Some(most)) => format!("{name} up to {most} a call"),
            ([], Some(min), Some(max), _) => format!("{name} {min}–{max}"),
            ([], _, Some(max), _) => format!("{name} up to {max}"),
            ([], ..) => name.clone(),
            (values, ..) if values.len() > 6 => format!("{name} of {}", values.len()),
            (values, ..) => format!("{name} {}", values.join("/")),
        })
    });
    list(details.get("operations")).into_iter().chain(each).collect()
}

/// `pieces` in lines of at most `width` characters, unless one of them is longer.
fn filled(pieces: &[String], width: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for piece in pieces {
        match lines.last_mut() {
            Some(line) if line.chars().count() + 2 + piece.chars().count() <= width => {
                line.push_str(", ");
                line.push_str(piece);
            }
            _ => lines.push(piece.clone()),
        }
    }
    lines
}

/// What to put into the configuration.
fn snippet(record: &Record) -> String {
    let mut out = format!("[providers.{}]\n", record.name);
    let nothing = crate::config::Environment::default();
    for need in record.needs(&nothing) {
        let _ = match need {
            Need::Key { variable, is_optional } => {
                let note = if is_optional { "   # if it wants one" } else { "" };
                let variable = variable.unwrap_or_else(|| "API_KEY".to_owned());
                writeln!(out, "api_key = {{ env = \"{variable}\" }}{note}")
            }
            Need::Address => writeln!(out, "base_url = \"http://HOST:PORT\"   # where it is"),
            Need::Var { name, about, variable } => {
                let about = if about.is_empty() { String::new() } else { format!("   # {about}") };
                match variable {
                    Some(variable) => writeln!(out, "vars.{name} = {{ env = \"{variable}\" }}{about}"),
                    None => writeln!(out, "vars.{name} = \"…\"{about}"),
                }
            }
        };
    }
    if record.open_models {
        out.push_str("models = [\"NAME\"]\nprices = { usd_per_image = \"0\" }   # what a picture costs\n");
    }
    let serving = record.models.iter().find(|model| model.status == Status::Live);
    let model = serving.map_or("NAME", |model| model.id.as_str());
    let _ = write!(out, "\n[routes.hero]\ncandidates = [\"{}/{model}\"]\n", record.name);
    out
}
