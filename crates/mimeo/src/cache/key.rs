//! The identity of a request: 256 bits over everything that determines the picture, and nothing else (I12).
//!
//! The key is the hash of what would be sent to each candidate that may make the picture, with whose
//! pool it is. Requests are canonical when they come here (see `providers::fit`): defaults that were
//! spelled out are dropped, texts are trimmed and in Unicode NFC, decimals are exact. What remains is
//! hashed field by field, each with its length before it, so that no two requests can run into one
//! another. Input pictures go in by their content.

use serde_json::Value;

use crate::domain::request::{Decimal, TemplateCall};
use crate::domain::{Caller, Digest, ImageRequest, InputPicture, Size};

/// Leads every key. To be raised whenever the meaning of a field or the way of hashing changes; the
/// golden keys in the tests say when that is.
pub const VERSION: u8 = 1;

/// The key of a request by `caller` that any of `candidates` may serve: each the identity of a model
/// (`record/model`) and the canonical request as it would be sent there.
pub fn key<'a>(caller: &Caller, candidates: impl IntoIterator<Item = (&'a str, &'a ImageRequest)>) -> Digest {
    // The order of candidates decides who is asked first, not what may come of it.
    let mut alternatives: Vec<Digest> =
        candidates.into_iter().map(|(identity, request)| alternative(identity, request)).collect();
    alternatives.sort_unstable();
    alternatives.dedup();
    let mut hash = Fields::new();
    // A pool is named by the operator; a tenant cannot be taken for one.
    match &caller.pool {
        Some(pool) => hash.text("pool").text(pool),
        None => hash.text("tenant").text(&caller.tenant),
    };
    for digest in alternatives {
        hash.bytes(&digest.0);
    }
    hash.finish()
}

/// The hash of everything in `request` that determines the picture, and of the model that is to make it.
pub fn alternative(identity: &str, request: &ImageRequest) -> Digest {
    // Destructured, so that a new field does not compile until somebody decides about it here.
    let ImageRequest {
        operation,
        prompt,
        size,
        quality,
        background,
        output_format,
        output_compression,
        style,
        moderation,
        input_fidelity,
        seed,
        steps,
        guidance,
        negative_prompt,
        inputs,
        mask,
        template,
        extras,
    } = request;
    let mut hash = Fields::new();
    hash.text(identity);
    hash.text(operation.name());
    hash.text(prompt);
    match size {
        Size::Auto => hash.none(),
        Size::Exact(width, height) => hash.integer(i128::from(*width) << 32 | i128::from(*height)),
    };
    hash.optional(quality.as_deref());
    hash.optional(background.as_deref());
    hash.optional(output_format.map(|format| format.name()));
    hash.number(output_compression.map(i128::from));
    hash.optional(style.as_deref());
    hash.optional(moderation.as_deref());
    hash.optional(input_fidelity.as_deref());
    hash.number(seed.map(i128::from));
    hash.number(steps.map(i128::from));
    hash.number(guidance.map(Decimal::scaled));
    hash.optional(negative_prompt.as_deref());
    hash.integer(inputs.len() as i128);
    for input in inputs {
        hash.picture(input);
    }
    match mask {
        None => hash.none(),
        Some(mask) => hash.picture(mask),
    };
    match template {
        None => hash.none(),
        Some(TemplateCall { id, version, data }) => hash.text(id).text(version).value(data),
    };
    hash.integer(extras.len() as i128);
    for (name, value) in extras {
        hash.text(name).value(value);
    }
    hash.finish()
}

/// Fields, each with a tag and its length before it: no field can be mistaken for its neighbour's end.
pub struct Fields(blake3::Hasher);

impl Default for Fields {
    fn default() -> Self {
        Fields::new()
    }
}

impl Fields {
    /// None yet.
    pub fn new() -> Self {
        let mut hasher = blake3::Hasher::new();
        hasher.update(&[VERSION]);
        Fields(hasher)
    }

    fn tagged(&mut self, tag: u8, bytes: &[u8]) -> &mut Self {
        self.0.update(&[tag]).update(&(bytes.len() as u64).to_le_bytes()).update(bytes);
        self
    }

    /// A field that is not there.
    pub fn none(&mut self) -> &mut Self {
        self.tagged(b'-', &[])
    }

    /// A text.
    pub fn text(&mut self, text: &str) -> &mut Self {
        self.tagged(b's', text.as_bytes())
    }

    /// Bytes, such as another hash.
    pub fn bytes(&mut self, bytes: &[u8]) -> &mut Self {
        self.tagged(b'b', bytes)
    }

    /// A whole number.
    pub fn integer(&mut self, integer: i128) -> &mut Self {
        self.tagged(b'i', &integer.to_le_bytes())
    }

    /// A text, if it is there.
    pub fn optional(&mut self, text: Option<&str>) -> &mut Self {
        match text {
            Some(text) => self.text(text),
            None => self.none(),
        }
    }

    /// A whole number, if it is there.
    pub fn number(&mut self, number: Option<i128>) -> &mut Self {
        match number {
            Some(number) => self.integer(number),
            None => self.none(),
        }
    }

    fn picture(&mut self, input: &InputPicture) -> &mut Self {
        // The file name does not change the picture.
        let InputPicture { picture, file_name: _ } = input;
        self.bytes(&picture.digest.0)
    }

    /// JSON by meaning: fields of objects in order of their names, numbers by value.
    pub fn value(&mut self, value: &Value) -> &mut Self {
        match value {
            Value::Null => self.none(),
            Value::Bool(bool) => self.tagged(b't', &[u8::from(*bool)]),
            Value::String(text) => self.text(text),
            Value::Number(number) => match (number.as_i128(), number.to_string().parse::<Decimal>()) {
                // `2`, `2.0` and `2.00` are one number; integers are exact however long.
                (Some(integer), _) => self.tagged(b'n', format!("{integer}").as_bytes()),
                (None, Ok(decimal)) => self.tagged(b'n', decimal.to_string().as_bytes()),
                (None, Err(_)) => self.tagged(b'n', number.to_string().as_bytes()),
            },
            Value::Array(items) => {
                self.tagged(b'a', &(items.len() as u64).to_le_bytes());
                items.iter().for_each(|item| {
                    self.value(item);
                });
                self
            }
            Value::Object(fields) => {
                self.tagged(b'o', &(fields.len() as u64).to_le_bytes());
                let mut names: Vec<_> = fields.iter().collect();
                names.sort_unstable_by_key(|(name, _)| name.as_str());
                for (name, value) in names {
                    self.text(name).value(value);
                }
                self
            }
        }
    }

    /// The hash of them all.
    pub fn finish(self) -> Digest {
        Digest(*self.0.finalize().as_bytes())
    }
}

#[cfg(test)]
#[path = "key_tests.rs"]
mod tests;
