//! `docs/config.md`, generated from the types and their doc comments.

use std::fmt::Write as _;

use serde_json::Value;

use super::Config;

/// The reference of every configuration key, as Markdown.
pub fn reference() -> String {
    let schema = schemars::schema_for!(Config).to_value();
    let mut out = String::from(
        "# Configuration\n\n\
         One TOML file, `mimeo.toml` in the working folder or named with `--config` or `MIMEO_CONFIG`. Everything has a\n\
         default; unknown keys are errors; `mimeo check` names every fault with its line. This page is generated from\n\
         the code by `mimeo reference config`.\n\n\
         Environment: `MIMEO_CONFIG` (file), `MIMEO_DATA` (`storage.path`), `MIMEO_LISTEN` (`server.listen`), `MIMEO_LOG`\n\
         (log filter, such as `info` or `mimeo=debug`). A provider whose key variable is set (such as `OPENAI_API_KEY`)\n\
         is enabled without any configuration.\n",
    );
    let defaults = schema.get("properties").cloned().unwrap_or_default();
    for (section, property) in &object(&defaults) {
        let (head, target) = match property.get("additionalProperties") {
            Some(each) => (format!("[{section}.NAME]"), resolve(&schema, each)),
            None => (format!("[{section}]"), resolve(&schema, property)),
        };
        let about = text(property).or_else(|| text(&target)).unwrap_or_default();
        let _ = write!(out, "\n## `{head}`\n\n{about}\n\n| key | type | default | meaning |\n|---|---|---|---|\n");
        rows(&mut out, &schema, &target, "");
    }
    out
}

/// One table row per key of `target`; tables inside tables become dotted keys.
fn rows(out: &mut String, schema: &Value, target: &Value, prefix: &str) {
    let required: Vec<&str> =
        target.get("required").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str).collect();
    for (key, property) in &object(target.get("properties").unwrap_or(&Value::Null)) {
        let inner = resolve(schema, property);
        let about = text(property).or_else(|| text(&inner)).unwrap_or_default();
        if inner.get("properties").is_some() {
            rows(out, schema, &inner, &format!("{prefix}{key}."));
            continue;
        }
        let default = match property.get("default") {
            Some(Value::Null) | None if required.contains(&key.as_str()) => {
                if prefix.is_empty() {
                    "required".to_owned()
                } else {
                    format!("required in `{}`", prefix.trim_end_matches('.'))
                }
            }
            Some(Value::Null) | None => "–".to_owned(),
            Some(value) => format!("`{value}`"),
        };
        let _ = writeln!(out, "| `{prefix}{key}` | {} | {default} | {about} |", kind(schema, &inner));
        // A list of tables: one more row per key of each.
        if let Some(each) = inner.get("items").map(|items| resolve(schema, items)) {
            rows(out, schema, &each, &format!("{prefix}{key}[]."));
        }
    }
}

fn kind(schema: &Value, property: &Value) -> String {
    if let Some(choices) = property.get("enum").and_then(Value::as_array) {
        return choices.iter().filter_map(Value::as_str).map(|c| format!("`{c}`")).collect::<Vec<_>>().join(", ");
    }
    if let Some(choices) = property.get("oneOf").and_then(Value::as_array) {
        let words: Vec<String> = choices
            .iter()
            .filter_map(|c| match c.get("const") {
                Some(word) => word.as_str().map(|w| format!("`{w}`")),
                None => object(c.get("properties")?).first().map(|(k, _)| format!("`{{ {k} = \"…\" }}`")),
            })
            .collect();
        return words.join(" or ");
    }
    if let Some(choices) = property.get("anyOf").and_then(Value::as_array) {
        let kinds: Vec<String> = choices.iter().map(|choice| kind(schema, &resolve(schema, choice))).collect();
        return kinds.join(" or ");
    }
    match property.get("type") {
        Some(Value::String(one)) if one == "array" => {
            let of = property.get("items").map(|items| kind(schema, &resolve(schema, items))).unwrap_or_default();
            format!("list of {of}")
        }
        Some(Value::String(one)) => one.clone(),
        Some(Value::Array(several)) => {
            several.iter().filter_map(Value::as_str).filter(|t| *t != "null").collect::<Vec<_>>().join(" or ")
        }
        _ => "value".to_owned(),
    }
}

/// Follows a `$ref`, also when it stands in an `anyOf` with null or in an `allOf`.
fn resolve(schema: &Value, property: &Value) -> Value {
    let alternatives = ["anyOf", "allOf"].iter().filter_map(|k| property.get(k)?.as_array()).flatten();
    let direct = std::iter::once(property).chain(alternatives);
    for candidate in direct {
        if let Some(name) = candidate.get("$ref").and_then(Value::as_str).and_then(|r| r.rsplit('/').next())
            && let Some(found) = schema.get("$defs").and_then(|defs| defs.get(name))
        {
            return found.clone();
        }
    }
    property.clone()
}

fn text(property: &Value) -> Option<String> {
    property.get("description")?.as_str().map(|text| text.replace('\n', " "))
}

fn object(value: &Value) -> Vec<(String, Value)> {
    value.as_object().into_iter().flatten().map(|(k, v)| (k.clone(), v.clone())).collect()
}
