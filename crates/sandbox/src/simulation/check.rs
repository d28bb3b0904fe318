//! Whether a body is one that the provider takes: every field is known, has the right type, and is in its range.
//!
//! Real providers let much pass that they do not know. This is stricter on purpose: what a gateway sends in vain, a
//! caller believes to have asked for.

use std::collections::BTreeMap;

use base64_simd::STANDARD;
use bytes::Bytes;
use serde::Serialize;
use serde_json::{Map, Value};

use super::path::{find, fits};
use super::sheet::{Encoding, Form, Kind, Route, Rule};

/// Something wrong with a field, in the words that most validators use.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Flaw {
    /// The field's names from the outside inward.
    pub path: Vec<String>,
    /// The same as a pointer.
    pub pointer: String,
    /// `missing`, `unknown`, `wrong_type`, `wrong_value` or `bad_picture`.
    pub kind: &'static str,
    pub message: String,
}

impl Flaw {
    pub(super) fn new(pointer: &str, kind: &'static str, message: impl Into<String>) -> Self {
        let path = pointer.split('/').map(str::to_owned).collect();
        Self { path, pointer: pointer.to_owned(), kind, message: message.into() }
    }
}

/// What came in a part of a form.
#[derive(Clone, Debug)]
pub(super) enum Part {
    Text(String),
    File(Bytes),
}

/// A body as it came.
#[derive(Clone, Debug)]
pub(super) enum Given {
    Json(Value),
    Parts(Vec<(String, Part)>),
}

/// A body that was looked through.
#[derive(Debug, Default)]
pub(super) struct Checked {
    /// The fields, numbers and truth values of forms read as such. Files of forms are left out.
    pub body: Value,
    /// Number of input pictures.
    pub pictures: usize,
    pub flaws: Vec<Flaw>,
}

/// Looks a body through by the rules of a route.
pub(super) fn check(route: &Route, rules: &BTreeMap<String, Rule>, given: Given) -> Checked {
    let mut checked = Checked::default();
    match given {
        Given::Json(body) => {
            if body.is_object() {
                let mut path = Vec::new();
                checked.value(rules, &body, &mut path);
            } else {
                checked.flaws.push(Flaw::new("", "wrong_type", "Input should be an object"));
            }
            checked.body = body;
        }
        Given::Parts(parts) => checked.parts(rules, parts, route.encoding),
    }
    checked.required(rules);
    checked.choices(route);
    checked
}

impl Checked {
    fn flaw(&mut self, pointer: &str, kind: &'static str, message: impl Into<String>) {
        self.flaws.push(Flaw::new(pointer, kind, message));
    }

    fn value(&mut self, rules: &BTreeMap<String, Rule>, value: &Value, path: &mut Vec<String>) {
        let pointer = path.join("/");
        let rule = rule_of(rules, path);
        let deeper = rules.keys().any(|pattern| leads_to(pattern, path));
        if let Some(rule) = rule {
            self.one(rule, value, &pointer, &[Form::Base64, Form::DataUrl]);
        } else if !deeper {
            self.flaw(&pointer, "unknown", "Extra inputs are not permitted");
            return;
        }
        if !deeper {
            return;
        }
        match value {
            Value::Object(map) => {
                for (name, value) in map {
                    path.push(name.clone());
                    self.value(rules, value, path);
                    path.pop();
                }
            }
            Value::Array(items) => {
                for (index, value) in items.iter().enumerate() {
                    path.push(index.to_string());
                    self.value(rules, value, path);
                    path.pop();
                }
            }
            _ if rule.is_none() => self.flaw(&pointer, "wrong_type", "Input should be an object or a list"),
            _ => {}
        }
    }

    fn parts(&mut self, rules: &BTreeMap<String, Rule>, parts: Vec<(String, Part)>, encoding: Encoding) {
        let mut body = Map::new();
        for (name, part) in parts {
            let Some(rule) = rule_of(rules, std::slice::from_ref(&name)) else {
                self.flaw(&name, "unknown", "Extra inputs are not permitted");
                continue;
            };
            let value = match part {
                Part::File(bytes) => {
                    self.file(rule, &name, &bytes);
                    // Only that something came is of interest later.
                    Value::Object(Map::new())
                }
                Part::Text(text) => {
                    let value = typed(rule.is, text);
                    let forms: &[Form] = if encoding == Encoding::Form { &[Form::Part] } else { &[Form::Url] };
                    self.one(rule, &value, &name, forms);
                    value
                }
            };
            match body.get_mut(&name) {
                None => {
                    body.insert(name, value);
                }
                Some(Value::Array(values)) => values.push(value),
                Some(first) => *first = Value::Array(vec![first.take(), value]),
            }
        }
        self.body = Value::Object(body);
    }

    /// Checks one value against its rule.
    fn one(&mut self, rule: &Rule, value: &Value, pointer: &str, usual: &[Form]) {
        let expected = match (rule.is, value) {
            (Kind::Any, _) | (Kind::String, Value::String(_)) | (Kind::Bool, Value::Bool(_)) => None,
            (Kind::Number, Value::Number(_)) => None,
            (Kind::Array, Value::Array(_)) | (Kind::Object, Value::Object(_)) => None,
            (Kind::Int, Value::Number(number)) if number.is_i64() || number.is_u64() => None,
            (Kind::Picture | Kind::Mask, Value::String(text)) => {
                let forms = if rule.forms.is_empty() { usual } else { &rule.forms };
                self.picture(rule, text, pointer, forms);
                return;
            }
            (Kind::String | Kind::Picture | Kind::Mask, _) => Some("a valid string"),
            (Kind::Bool, _) => Some("a valid boolean"),
            (Kind::Int, _) => Some("a valid integer"),
            (Kind::Number, _) => Some("a valid number"),
            (Kind::Array, _) => Some("a valid list"),
            (Kind::Object, _) => Some("an object"),
        };
        if let Some(expected) = expected {
            self.flaw(pointer, "wrong_type", format!("Input should be {expected}"));
            return;
        }
        if !rule.one_of.is_empty() && !rule.one_of.contains(value) {
            let choices: Vec<String> = rule.one_of.iter().map(Value::to_string).collect();
            self.flaw(pointer, "wrong_value", format!("Input should be one of {}", choices.join(", ")));
        }
        if let Some(number) = value.as_f64() {
            if let Some(min) = rule.min.filter(|min| number < *min) {
                self.flaw(pointer, "wrong_value", format!("Input should be greater than or equal to {min}"));
            }
            if let Some(max) = rule.max.filter(|max| number > *max) {
                self.flaw(pointer, "wrong_value", format!("Input should be less than or equal to {max}"));
            }
            if let (Some(of), Some(whole)) = (rule.multiple_of, value.as_i64())
                && !whole.unsigned_abs().is_multiple_of(of)
            {
                self.flaw(pointer, "wrong_value", format!("Input should be a multiple of {of}"));
            }
        }
        let length = match value {
            Value::String(text) => text.chars().count(),
            Value::Array(items) => items.len(),
            _ => 0,
        };
        if let Some(longest) = rule.longest.filter(|longest| length > *longest) {
            self.flaw(pointer, "wrong_value", format!("Input should have at most {longest} characters or elements"));
        }
    }

    /// Checks a picture that came as text.
    fn picture(&mut self, rule: &Rule, text: &str, pointer: &str, forms: &[Form]) {
        let link = text.starts_with("https://") || text.starts_with("http://");
        let data = text.strip_prefix("data:image/").and_then(|rest| rest.split_once(";base64,"));
        let encoded = match data {
            _ if link && forms.contains(&Form::Url) => None,
            Some((_, encoded)) if forms.contains(&Form::DataUrl) => Some(encoded),
            None if !link && forms.contains(&Form::Base64) => Some(text),
            _ => {
                self.flaw(pointer, "bad_picture", "Input should be an image, given in another way");
                return;
            }
        };
        if let Some(encoded) = encoded {
            let real = STANDARD.decode_to_vec(encoded).is_ok_and(|bytes| is_picture(&bytes));
            if !real {
                self.flaw(pointer, "bad_picture", "Input should be a readable PNG, JPEG or WebP image");
                return;
            }
        }
        self.pictures += usize::from(rule.is == Kind::Picture);
    }

    /// Checks a file of a form.
    fn file(&mut self, rule: &Rule, name: &str, bytes: &[u8]) {
        match rule.is {
            Kind::Picture | Kind::Mask if !rule.forms.is_empty() && !rule.forms.contains(&Form::Part) => {
                self.flaw(name, "bad_picture", "Input should be an image, given in another way");
            }
            Kind::Picture | Kind::Mask if is_picture(bytes) => self.pictures += usize::from(rule.is == Kind::Picture),
            Kind::Picture | Kind::Mask => {
                self.flaw(name, "bad_picture", "Input should be a readable PNG, JPEG or WebP image");
            }
            Kind::Any => {}
            _ => self.flaw(name, "wrong_type", "Input should not be a file"),
        }
    }

    /// Complains of what must be there and is not. Inside a list, of each element that lacks it.
    fn required(&mut self, rules: &BTreeMap<String, Rule>) {
        for pattern in rules.iter().filter(|(_, rule)| rule.required).map(|(pattern, _)| pattern) {
            let missing = match pattern.rsplit_once('/') {
                Some((outer, name)) if outer.contains('*') => {
                    find(&self.body, outer).into_iter().any(|parent| find(parent, name).is_empty())
                }
                _ => find(&self.body, pattern).is_empty(),
            };
            if missing {
                self.flaw(pattern, "missing", "Field required");
            }
        }
    }

    fn choices(&mut self, route: &Route) {
        let there = |body: &Value, group: &[String]| group.iter().filter(|at| !find(body, at).is_empty()).count();
        for group in &route.exactly_one {
            if there(&self.body, group) != 1 {
                let first = group.first().map_or("", String::as_str);
                self.flaw(first, "wrong_value", format!("Exactly one of {} must be given", group.join(", ")));
            }
        }
        for group in &route.at_most_one {
            if there(&self.body, group) > 1 {
                let first = group.first().map_or("", String::as_str);
                self.flaw(first, "wrong_value", format!("At most one of {} may be given", group.join(", ")));
            }
        }
    }
}

/// The rule for exactly that path. Of several, the one whose pattern says most.
fn rule_of<'a>(rules: &'a BTreeMap<String, Rule>, path: &[String]) -> Option<&'a Rule> {
    let fitting = rules.iter().filter(|(pattern, _)| {
        let names: Vec<&str> = pattern.split('/').collect();
        names.len() == path.len() && names.iter().zip(path).all(|(pattern, name)| fits(pattern, name))
    });
    fitting.max_by_key(|(pattern, _)| pattern.chars().filter(|char| *char != '*').count()).map(|(_, rule)| rule)
}

/// Whether a pattern speaks of something inside of that path.
fn leads_to(pattern: &str, path: &[String]) -> bool {
    let names: Vec<&str> = pattern.split('/').collect();
    names.len() > path.len() && names.iter().zip(path).all(|(pattern, name)| fits(pattern, name))
}

/// The text of a form field as the type it should have.
fn typed(kind: Kind, text: String) -> Value {
    match kind {
        Kind::Int | Kind::Number | Kind::Bool | Kind::Array | Kind::Object => {
            serde_json::from_str(&text).unwrap_or(Value::String(text))
        }
        _ => Value::String(text),
    }
}

fn is_picture(bytes: &[u8]) -> bool {
    imagesize::blob_size(bytes).is_ok_and(|size| size.width > 0 && size.height > 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn route() -> Route {
        toml::from_str(
            r#"
            does = "generate"
            path = "/"
            exactly_one = [["a", "b"]]
            [fields]
            a = "string"
            b = "string"
            n = { is = "int", min = 1, max = 4 }
            "in/prompt" = "string!"
            "in/list/*/text" = "string!"
            "in/list/*/kind" = { is = "string", one_of = ["x", "y"] }
            "image_*" = "picture"
            open = "object"
            "#,
        )
        .unwrap()
    }

    fn flaws(given: Given) -> Vec<(String, &'static str)> {
        let route = route();
        let checked = check(&route, &route.fields, given);
        checked.flaws.into_iter().map(|flaw| (flaw.pointer, flaw.kind)).collect()
    }

    #[test]
    fn every_field_has_its_place() {
        let good = json!({ "a": "1", "in": { "prompt": "p", "list": [{ "text": "t" }] }, "open": { "what": [1] } });
        assert_eq!(flaws(Given::Json(good)), []);
        let bad = json!({
            "a": "1", "b": "2", "n": 5, "what": 1, "in": { "list": [{ "kind": "z" }], "prompt": 7 }, "image_1": "abcd",
        });
        let found = flaws(Given::Json(bad));
        for expected in [
            ("a", "wrong_value"),
            ("n", "wrong_value"),
            ("what", "unknown"),
            ("in/prompt", "wrong_type"),
            ("in/list/0/kind", "wrong_value"),
            ("in/list/*/text", "missing"),
            ("image_1", "bad_picture"),
        ] {
            assert!(found.contains(&(expected.0.to_owned(), expected.1)), "{expected:?} in {found:?}");
        }
        assert_eq!(found.len(), 7, "{found:?}");
        assert_eq!(flaws(Given::Json(json!({ "a": "1" }))), [("in/prompt".to_owned(), "missing")]);
        assert_eq!(flaws(Given::Json(json!({ "a": "1", "in": "x" })))[0], ("in".to_owned(), "wrong_type"));
        assert_eq!(flaws(Given::Json(json!([])))[0], (String::new(), "wrong_type"));
    }

    #[test]
    fn forms_are_read_by_their_rules() {
        let route: Route = toml::from_str(
            "does = 'generate'\npath = '/'\nencoding = 'form'\n[fields]\nn = 'int!'\nimage = 'picture'\ntags = 'string'",
        )
        .unwrap();
        let text = |name: &str, text: &str| (name.to_owned(), Part::Text(text.to_owned()));
        let parts = vec![text("n", "3"), text("tags", "a"), text("tags", "b"), text("image", "abcd")];
        let checked = check(&route, &route.fields, Given::Parts(parts));
        assert_eq!(checked.body["n"], 3);
        assert_eq!(checked.body["tags"], json!(["a", "b"]));
        assert_eq!(checked.flaws.len(), 1, "a picture is a file: {:?}", checked.flaws);
        let parts = vec![text("n", "many"), ("image".to_owned(), Part::File(Bytes::from_static(b"not a picture")))];
        let kinds: Vec<_> = check(&route, &route.fields, Given::Parts(parts)).flaws;
        assert_eq!(kinds.iter().map(|flaw| flaw.kind).collect::<Vec<_>>(), ["wrong_type", "bad_picture"]);
    }
}
