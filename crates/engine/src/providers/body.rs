//! Request bodies: the canonical fields of a job at the places that the wiring gives them.

use base64_simd::STANDARD;
use reqwest::multipart::{Form as Multipart, Part};
use serde_json::{Map, Value, json};

use super::provider::Job;
use super::watch::Callback;
use super::wiring::{Encoding, Field, Form, Place, Polarity};
use super::{call::Payload, pointer};
use crate::domain::request::Decimal;
use crate::domain::{Fault, FaultKind, Format, InputPicture, Operation, Size};

/// What a call carries beside its path and its headers.
#[derive(Debug, Default)]
pub(super) struct Fields {
    /// The body, pictures left out where they become parts of a form.
    pub body: Map<String, Value>,
    /// Parameters of the address.
    pub query: Vec<(String, String)>,
}

/// The fields of a call, pictures left out. `partials` is set if unfinished pictures are to be streamed, and
/// `callback` if the provider may call back.
pub(super) fn fields(job: &Job<'_>, partials: Option<u8>, callback: Option<&Callback>) -> Fields {
    fields_on(Map::new(), job, partials, callback)
}

/// As [`fields`], written over what `body` holds already.
pub(super) fn fields_on(
    body: Map<String, Value>,
    job: &Job<'_>,
    partials: Option<u8>,
    callback: Option<&Callback>,
) -> Fields {
    let (wiring, request) = (&job.model.wiring, job.request);
    let mut fields = Fields { body, query: Vec::new() };
    let of_edits = wiring.edit_constants.iter().filter(|_| request.operation == Operation::Edit);
    for (place, value) in wiring.constants.iter().chain(of_edits).chain(&request.extras) {
        pointer::put(&mut fields.body, place, value.clone());
    }
    let mut put = |field: Field, value: Option<Value>| {
        if let (Some(place), Some(value)) = (wiring.place(field), value) {
            fields.put(place, value);
        }
    };
    let text = |text: &Option<String>| text.as_deref().map(Value::from);
    put(Field::Model, Some(Value::from(job.model.path.as_deref().unwrap_or(&job.model.id))));
    put(Field::Prompt, Some(Value::from(request.prompt.as_str())));
    put(Field::N, Some(Value::from(job.n)));
    if let Size::Exact(width, height) = request.size {
        let joined = |field: Field, usual: &str, a: &str, b: &str| {
            let separator = wiring.place(field).and_then(|place| place.separator.as_deref()).unwrap_or(usual);
            Some(Value::from(format!("{a}{separator}{b}")))
        };
        put(Field::Size, joined(Field::Size, "x", &width.to_string(), &height.to_string()));
        put(Field::Width, Some(Value::from(width)));
        put(Field::Height, Some(Value::from(height)));
        let ratio = job.model.ratio_of(width, height);
        put(Field::Ratio, joined(Field::Ratio, ":", &ratio.0.to_string(), &ratio.1.to_string()));
        put(Field::Tier, job.model.tier_of(width, height).map(Value::from));
    }
    put(Field::Quality, text(&request.quality));
    put(Field::Background, text(&request.background));
    put(Field::OutputFormat, request.output_format.map(Format::name).map(Value::from));
    put(Field::OutputCompression, request.output_compression.map(Value::from));
    put(Field::Style, text(&request.style));
    put(Field::Moderation, text(&request.moderation));
    put(Field::InputFidelity, text(&request.input_fidelity));
    put(Field::Seed, request.seed.map(Value::from));
    put(Field::Steps, request.steps.map(Value::from));
    put(Field::Guidance, request.guidance.map(Decimal::to_json));
    put(Field::NegativePrompt, text(&request.negative_prompt));
    put(Field::User, job.user.map(Value::from));
    if let Some(partials) = partials {
        put(Field::Stream, Some(Value::from(true)));
        put(Field::PartialImages, Some(Value::from(partials)));
    }
    if let Some(callback) = callback {
        put(Field::Callback, Some(Value::from(callback.address.as_str())));
        put(Field::CallbackSecret, Some(Value::from(callback.secret.reveal())));
    }
    fields
}

impl Fields {
    fn put(&mut self, place: &Place, value: Value) {
        let value = match &value {
            Value::String(word) => place.map.get(word).cloned().unwrap_or(value),
            _ => value,
        };
        let value = match place.form {
            Form::List => json!([value]),
            Form::Text => Value::from(plain(value)),
            _ => value,
        };
        match &place.query {
            Some(name) => self.query.push((name.clone(), plain(value))),
            None => pointer::put(&mut self.body, &place.at, value),
        }
    }

    /// The body of a call, with the pictures of an edit.
    ///
    /// # Errors
    /// A picture cannot be put into it.
    pub(super) fn payload(mut self, job: &Job<'_>) -> Result<Payload, Fault> {
        let wiring = &job.model.wiring;
        let is_edit = job.request.operation == Operation::Edit;
        let encoding = wiring.encoding(is_edit);
        let mut parts = Vec::new();
        if let Some(place) = wiring.place(Field::Image) {
            for (index, input) in job.request.inputs.iter().enumerate() {
                self.picture(place, index, input, &format!("image-{index}"), encoding, &mut parts)?;
            }
        }
        if let (Some(mask), Some(place)) = (&job.request.mask, wiring.place(Field::Mask)) {
            let turned = turned(mask, place.polarity)?;
            self.picture(place, 0, turned.as_ref().unwrap_or(mask), "mask", encoding, &mut parts)?;
        }
        Ok(match encoding {
            Encoding::Json => Payload::Json(Value::Object(self.body).to_string()),
            Encoding::Form => {
                let mut form = Multipart::new();
                for (name, value) in self.body {
                    form = form.text(name, plain(value));
                }
                Payload::Form(parts.into_iter().fold(form, |form, (name, part)| form.part(name, part)))
            }
        })
    }

    fn picture(
        &mut self,
        place: &Place,
        index: usize,
        input: &InputPicture,
        stem: &str,
        encoding: Encoding,
        parts: &mut Vec<(String, Part)>,
    ) -> Result<(), Fault> {
        let at = match (&place.more, index) {
            (Some(more), 1..) if !more.is_empty() => more.replace("{i}", &(index + 1).to_string()),
            _ => place.at.clone(),
        };
        let picture = &input.picture;
        let text = match (place.form, encoding) {
            (Form::Part, _) | (Form::Plain | Form::List, Encoding::Form) => {
                parts.push((at, part(input, stem)?));
                return Ok(());
            }
            (Form::DataUrl, _) => {
                let mut text = format!("data:{};base64,", picture.format.mime());
                STANDARD.encode_append(&picture.bytes, &mut text);
                text
            }
            _ => STANDARD.encode_to_string(&picture.bytes),
        };
        if place.beside.is_empty() {
            let value = Value::from(text);
            pointer::put(&mut self.body, &at, if place.form == Form::List { json!([value]) } else { value });
        } else {
            // One object with all of it, because a place that makes a new element would make two.
            let (parent, name) = at.rsplit_once('/').unwrap_or(("", &at));
            let mut object = Map::from_iter([(name.to_owned(), Value::from(text))]);
            for (name, value) in &place.beside {
                object.insert(name.clone(), Value::from(value.replace("{mime}", picture.format.mime())));
            }
            pointer::put(&mut self.body, parent, Value::Object(object));
        }
        Ok(())
    }
}

/// A value as the text of a form or of an address.
fn plain(value: Value) -> String {
    match value {
        Value::String(text) => text,
        other => other.to_string(),
    }
}

/// The mask as a provider wants it; `None` if that is as callers send it.
pub(super) fn turned(mask: &InputPicture, polarity: Polarity) -> Result<Option<InputPicture>, Fault> {
    let _ = mask;
    match polarity {
        Polarity::Transparent => Ok(None),
        Polarity::White | Polarity::Black => Err(Fault::new(FaultKind::Rejected, "masks are not taken yet")),
    }
}

/// A picture as a part of a form.
pub(super) fn part(input: &InputPicture, stem: &str) -> Result<Part, Fault> {
    let bytes = input.picture.bytes.clone();
    let length = bytes.len() as u64;
    let name = input.file_name.as_deref().filter(|name| is_plain(name));
    let name = name.map_or_else(|| format!("{stem}.{}", input.picture.format), str::to_owned);
    Part::stream_with_length(bytes, length)
        .file_name(name)
        .mime_str(input.picture.format.mime())
        .map_err(|_| Fault::new(FaultKind::NotSent, "an input picture could not be put into the call"))
}

/// A file name that needs no quoting and names no folder.
fn is_plain(name: &str) -> bool {
    (1..=80).contains(&name.len())
        && !name.starts_with('.')
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_'))
}
