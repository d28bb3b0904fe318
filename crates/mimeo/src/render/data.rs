//! Checks data against the fields of a template, and brings them into the one form that is cached and drawn.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::color::Rgb;
use super::picture::{Decoded, Picture};
use super::template::{Field, FieldKind, Template};
use super::{Limits, RenderError, money};

/// Texts without a limit of their own end here.
const DEFAULT_MAX_CHARS: usize = 500;

impl Template {
    /// The data with defaults filled in, colours and amounts spelled one way, and nothing unknown.
    /// Doing it twice changes nothing more.
    pub(super) fn canonical_data(&self, data: &Value, limits: &Limits) -> Result<Value, RenderError> {
        let data = data.as_object().ok_or(RenderError::NotAnObject)?;
        if let Some(unknown) = data.keys().find(|key| !self.fields.iter().any(|field| field.name == **key)) {
            let known: Vec<&str> = self.fields.iter().map(|field| field.name.as_str()).collect();
            let problem = format!("template {:?} has no such field; it has: {}", self.id, known.join(", "));
            return Err(RenderError::field(unknown, problem));
        }
        let mut out = Map::new();
        for field in &self.fields {
            let given = data.get(&field.name).filter(|value| !is_blank(value));
            match given.or(field.default.as_ref()) {
                Some(value) => {
                    out.insert(field.name.clone(), field.canonical(value, limits)?);
                }
                None if field.required => return Err(RenderError::field(&field.name, "is required")),
                None => {}
            }
        }
        Ok(Value::Object(out))
    }

    /// The pictures among canonical data, by field.
    pub(super) fn pictures(&self, data: &Value, limits: &Limits) -> Result<BTreeMap<String, Decoded>, RenderError> {
        self.fields
            .iter()
            .filter(|field| field.kind == FieldKind::Image)
            .filter_map(|field| Some((field, data.get(&field.name)?.as_str()?)))
            .map(|(field, url)| {
                let picture = Picture::from_data_url(url, limits)
                    .and_then(|picture| picture.decode())
                    .map_err(|problem| RenderError::field(&field.name, problem))?;
                Ok((field.name.clone(), picture))
            })
            .collect()
    }
}

/// Nothing was filled in: an empty text is what forms send for it.
fn is_blank(value: &Value) -> bool {
    value.is_null() || value.as_str().is_some_and(|text| clean(text).is_empty())
}

impl Field {
    /// The canonical form of one value.
    pub(super) fn canonical(&self, value: &Value, limits: &Limits) -> Result<Value, RenderError> {
        let wrong = |problem: String| RenderError::field(&self.name, problem);
        let must_be = |what: &str| wrong(format!("must be {what}, not {}", kind_of(value)));
        match self.kind {
            FieldKind::Text => {
                let text = clean(value.as_str().ok_or_else(|| must_be("a text"))?);
                let (len, max) = (text.chars().count(), self.max_chars.unwrap_or(DEFAULT_MAX_CHARS));
                if len > max {
                    return Err(wrong(format!("has {len} characters, at most {max} are allowed")));
                }
                Ok(Value::String(text))
            }
            FieldKind::Number => {
                let number = value.as_f64().ok_or_else(|| must_be("a number"))?;
                let (min, max) = (self.min.unwrap_or(f64::MIN), self.max.unwrap_or(f64::MAX));
                if !(min..=max).contains(&number) {
                    return Err(wrong(format!("must be between {min} and {max}, not {number}")));
                }
                Ok(value.clone())
            }
            FieldKind::Money => self.canonical_money(value),
            FieldKind::Color => {
                let color = value.as_str().and_then(|text| Rgb::parse(text.trim()));
                let color = color.ok_or_else(|| wrong("must be a colour such as \"#0f62fe\"".to_owned()))?;
                Ok(Value::String(color.to_string()))
            }
            FieldKind::Image => {
                let url = value.as_str().ok_or_else(|| must_be("a data: URL"))?.trim();
                Picture::from_data_url(url, limits).map_err(wrong)?;
                Ok(Value::String(url.to_owned()))
            }
            FieldKind::Bool => value.as_bool().map(Value::Bool).ok_or_else(|| must_be("true or false")),
            FieldKind::Choice => {
                let chosen = value.as_str().map(str::trim).unwrap_or_default();
                if !self.options.iter().any(|option| option == chosen) {
                    return Err(wrong(format!("must be one of: {}", self.options.join(", "))));
                }
                Ok(Value::String(chosen.to_owned()))
            }
        }
    }

    fn canonical_money(&self, value: &Value) -> Result<Value, RenderError> {
        let wrong = |problem: String| RenderError::field(&self.name, problem);
        let shape = || wrong("must look like {\"amount\": \"49.90\", \"currency\": \"EUR\"}".to_owned());
        let members = value.as_object().filter(|members| members.len() == 2).ok_or_else(shape)?;
        let currency = members.get("currency").and_then(Value::as_str).ok_or_else(shape)?;
        if currency.len() != 3 || !currency.bytes().all(|byte| byte.is_ascii_uppercase()) {
            return Err(wrong(format!("the currency must be an ISO 4217 code such as \"EUR\", not {currency:?}")));
        }
        let amount = match members.get("amount") {
            Some(Value::String(text)) => text.trim().to_owned(),
            Some(Value::Number(number)) => number.to_string(),
            _ => return Err(shape()),
        };
        let amount = money::canonical_amount(&amount, currency).map_err(wrong)?;
        Ok(json!({ "amount": amount, "currency": currency }))
    }
}

/// Turns control characters into spaces, and trims: they have no glyph and no place in a card.
/// Line breaks stay, for templates that keep them.
fn clean(text: &str) -> String {
    text.replace("\r\n", "\n").replace(|c: char| c.is_control() && c != '\n', " ").trim().to_owned()
}

fn kind_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a text",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}
