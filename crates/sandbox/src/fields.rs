//! The parameters of a request, read one by one with the vendor's kind of complaint when one is wrong.

use std::ops::RangeInclusive;

use axum::extract::Multipart;
use axum::extract::multipart::Field;
use axum::http::StatusCode;
use serde_json::{Map, Value};

use crate::problem::Problem;

/// Named parameters, from a JSON body or a form.
#[derive(Debug)]
pub(crate) struct Fields(Map<String, Value>);

/// The pictures that came with a form. Their content does not matter to a simulation, only that it looks right.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Uploads {
    /// Number of input pictures.
    pub pictures: usize,
    /// Whether a mask came with them.
    pub mask: bool,
}

/// Largest input picture, in bytes.
const LARGEST_UPLOAD: usize = 50 << 20;

/// Form fields whose text is a number or a truth value.
const UNQUOTED: [&str; 10] = [
    "n",
    "stream",
    "partial_images",
    "output_compression",
    "seed",
    "steps",
    "guidance",
    "cfg_scale",
    "width",
    "height",
];

impl Fields {
    /// The parameters of a JSON object.
    pub(crate) fn from_json(body: &[u8]) -> Result<Self, Problem> {
        serde_json::from_slice(body).map(Self).map_err(|error| {
            let message = format!("We could not parse the JSON body of your request: {error}");
            Problem::new(StatusCode::BAD_REQUEST, "invalid_request_error", None, message)
        })
    }

    /// The parameters and pictures of a form. Pictures are looked at as they pass and not kept.
    pub(crate) async fn from_form(mut form: Multipart) -> Result<(Self, Uploads), Problem> {
        let broken = |error: axum::extract::multipart::MultipartError| {
            Problem::new(StatusCode::BAD_REQUEST, "invalid_request_error", None, format!("Malformed form: {error}"))
        };
        let mut fields = Map::new();
        let mut uploads = Uploads::default();
        while let Some(field) = form.next_field().await.map_err(broken)? {
            let name = field.name().unwrap_or_default().to_owned();
            match name.as_str() {
                "image" | "image[]" => {
                    inspect("image", field).await?;
                    uploads.pictures += 1;
                }
                "mask" => {
                    inspect("mask", field).await?;
                    uploads.mask = true;
                }
                _ => {
                    let text = field.text().await.map_err(broken)?;
                    let value = match UNQUOTED.contains(&name.as_str()) {
                        true => serde_json::from_str(&text).unwrap_or(Value::String(text)),
                        false => Value::String(text),
                    };
                    fields.insert(name, value);
                }
            }
        }
        Ok((Self(fields), uploads))
    }

    /// Takes the pictures out of a JSON edit: `image` or `images`, one or a list, and `mask`.
    pub(crate) fn take_uploads(&mut self) -> Uploads {
        let count = |value: Value| match value {
            Value::Null => 0,
            Value::Array(items) => items.len(),
            _ => 1,
        };
        let pictures = ["image", "images"].iter().filter_map(|name| self.0.remove(*name)).map(count).sum();
        Uploads { pictures, mask: self.0.remove("mask").is_some_and(|mask| !mask.is_null()) }
    }

    /// Complains about the first parameter that is not in `known`.
    pub(crate) fn only(&self, known: &[&str]) -> Result<(), Problem> {
        match self.0.keys().find(|name| !known.contains(&name.as_str())) {
            Some(name) => {
                let name: String = name.chars().take(100).collect();
                Err(Problem::invalid("unknown_parameter", &name, format!("Unknown parameter: '{name}'.")))
            }
            None => Ok(()),
        }
    }

    fn get(&self, name: &str) -> Option<&Value> {
        self.0.get(name).filter(|value| !value.is_null())
    }

    /// A text, if given.
    pub(crate) fn text(&self, name: &str) -> Result<Option<&str>, Problem> {
        match self.get(name) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(other) => Err(wrong_type(name, "a string", other)),
        }
    }

    /// A text out of a few, if given.
    pub(crate) fn one_of(&self, name: &str, choices: &[&str]) -> Result<Option<&str>, Problem> {
        let text = self.text(name)?;
        match text {
            Some(text) if !choices.contains(&text) => {
                let message = format!("Invalid value for '{name}'. Supported values are: {}.", choices.join(", "));
                Err(Problem::invalid("invalid_value", name, message))
            }
            text => Ok(text),
        }
    }

    /// A whole number in a range, if given.
    pub(crate) fn integer(&self, name: &str, range: RangeInclusive<i64>) -> Result<Option<i64>, Problem> {
        let Some(value) = self.get(name) else {
            return Ok(None);
        };
        let number = value.as_i64().ok_or_else(|| wrong_type(name, "an integer", value))?;
        if range.contains(&number) {
            return Ok(Some(number));
        }
        let (low, high) = range.into_inner();
        let message = format!("Invalid '{name}': expected a value from {low} to {high}, but got {number}.");
        Err(Problem::invalid("invalid_value", name, message))
    }

    /// A truth value; false if not given.
    pub(crate) fn flag(&self, name: &str) -> Result<bool, Problem> {
        match self.get(name) {
            None => Ok(false),
            Some(Value::Bool(flag)) => Ok(*flag),
            Some(other) => Err(wrong_type(name, "a boolean", other)),
        }
    }

    /// The prompt: given, not blank, and at most `longest` characters.
    pub(crate) fn prompt(&self, longest: usize) -> Result<&str, Problem> {
        let prompt = self.text("prompt")?.filter(|prompt| !prompt.trim().is_empty());
        let missing =
            || Problem::invalid("missing_required_parameter", "prompt", "Missing required parameter: 'prompt'.");
        let prompt = prompt.ok_or_else(missing)?;
        if prompt.chars().count() > longest {
            let message = format!("Invalid 'prompt': string too long. Expected at most {longest} characters.");
            return Err(Problem::invalid("string_above_max_length", "prompt", message));
        }
        Ok(prompt)
    }
}

fn wrong_type(name: &str, expected: &str, got: &Value) -> Problem {
    let got = match got {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "an array",
        Value::Object(_) => "an object",
    };
    let message = format!("Invalid type for '{name}': expected {expected}, but got {got} instead.");
    Problem::invalid("invalid_type", name, message)
}

/// Reads an upload through, and complains unless it starts like a picture and is not too large.
async fn inspect(name: &str, mut field: Field<'_>) -> Result<(), Problem> {
    let mut head = Vec::new();
    let mut length = 0;
    loop {
        let chunk = field.chunk().await.map_err(|error| {
            Problem::invalid("invalid_image_file", name, format!("The upload of '{name}' broke off: {error}"))
        })?;
        let Some(chunk) = chunk else { break };
        length += chunk.len();
        if head.len() < 12 {
            head.extend_from_slice(&chunk[..chunk.len().min(12)]);
        }
        if length > LARGEST_UPLOAD {
            return Err(Problem::invalid("image_too_large", name, format!("'{name}' is larger than 50 MB.")));
        }
    }
    let known = head.starts_with(b"\x89PNG\r\n\x1a\n")
        || head.starts_with(b"\xFF\xD8\xFF")
        || (head.starts_with(b"RIFF") && head.get(8..12) == Some(b"WEBP"));
    if !known {
        let message = format!("Invalid image file for '{name}': png, jpeg or webp expected.");
        return Err(Problem::invalid("invalid_image_file", name, message));
    }
    Ok(())
}

/// Reads `WIDTHxHEIGHT`, in pixels, both at least 1.
pub(crate) fn parse_size(text: &str) -> Option<(u32, u32)> {
    let (width, height) = text.split_once('x')?;
    let side = |text: &str| text.parse::<u32>().ok().filter(|side| *side > 0 && !text.starts_with('+'));
    Some((side(width)?, side(height)?))
}
