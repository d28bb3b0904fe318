//! The JSON schema of a record, for editors.

use serde_json::Value;

use super::record::Record;

/// The schema of a record file. Its descriptions are the doc comments of the types.
pub fn schema() -> Value {
    let mut schema = schemars::schema_for!(Record).to_value();
    if let Some(root) = schema.as_object_mut() {
        root.insert("title".to_owned(), "A provider record".into());
        root.insert(
            "description".to_owned(),
            "How to speak to a provider of pictures, and what its models can and cost.".into(),
        );
    }
    schema
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The committed schema is what editors read. `mimeo providers schema > providers/schema.json` writes it.
    #[test]
    fn the_committed_schema_is_that_of_the_code() {
        let committed = include_str!("../../../../providers/schema.json");
        let committed: Value = serde_json::from_str(committed).expect("JSON");
        assert!(committed == schema(), "run: mimeo providers schema > providers/schema.json");
    }

    /// What an editor accepts and what the parser accepts have the same names.
    #[test]
    fn the_schema_knows_the_keys_of_every_record() {
        let schema = schema();
        for (file, text) in crate::providers::catalogue::EMBEDDED {
            let record: Value = toml::from_str(text).expect("TOML");
            let mut strange = Vec::new();
            walk(&schema, &schema, &record, file, &mut strange);
            assert!(strange.is_empty(), "{strange:#?}");
        }
    }

    /// Collects the keys of `value` that `part` of the schema has no word for.
    fn walk(schema: &Value, part: &Value, value: &Value, at: &str, strange: &mut Vec<String>) {
        if let Some(name) = part["$ref"].as_str().and_then(|path| path.strip_prefix("#/$defs/")) {
            return walk(schema, &schema["$defs"][name], value, at, strange);
        }
        let choices = ["anyOf", "oneOf"].iter().filter_map(|word| part[*word].as_array()).flatten();
        let choices: Vec<&Value> = choices.collect();
        if !choices.is_empty() {
            let tried = choices.iter().map(|choice| {
                let mut strange = Vec::new();
                walk(schema, choice, value, at, &mut strange);
                strange
            });
            strange.extend(tried.min_by_key(Vec::len).unwrap_or_default());
            return;
        }
        match value {
            Value::Object(map) => {
                let others = &part["additionalProperties"];
                for (key, value) in map {
                    let at = format!("{at}/{key}");
                    match part["properties"].get(key) {
                        Some(property) => walk(schema, property, value, &at, strange),
                        None if others.is_object() => walk(schema, others, value, &at, strange),
                        // A part without a type takes whatever comes.
                        None if *others == Value::Bool(true) || part["type"].is_null() => {}
                        None => strange.push(at),
                    }
                }
            }
            Value::Array(list) if part["type"] == "array" => {
                list.iter()
                    .enumerate()
                    .for_each(|(index, value)| walk(schema, &part["items"], value, &format!("{at}/{index}"), strange));
            }
            Value::Array(_) if part["type"].is_string() => strange.push(format!("{at}: no list")),
            _ => {
                let words = part["enum"].as_array();
                if words.is_some_and(|words| !words.contains(value))
                    || part.get("const").is_some_and(|word| word != value)
                {
                    strange.push(format!("{at}: {value}"));
                }
            }
        }
    }
}
