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
use crate::media::raster::{self, Edited};

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
    put(Field::Model, Some(Value::from(job.model.wire_name())));
    // Before the prompt, which may be one of the layers.
    put(Field::Data, request.template.as_ref().map(|call| call.data.clone()));
    put(Field::Prompt, Some(request.prompt.as_str()).filter(|prompt| !prompt.is_empty()).map(Value::from));
    put(Field::N, Some(Value::from(job.n)));
    if let Size::Exact(width, height) = request.size {
        let joined = |field: Field, usual: &str, a: &str, b: &str| {
            let separator = wiring.place(field).and_then(|place| place.separator.as_deref()).unwrap_or(usual);
            Some(Value::from(format!("{a}{separator}{b}")))
        };
        put(Field::Size, joined(Field::Size, "x", &width.to_string(), &height.to_string()));
        put(Field::Width, Some(Value::from(width)));
        put(Field::Height, Some(Value::from(height)));
        let ratio = job.model.sizes.ratio_of(width, height);
        put(Field::Ratio, joined(Field::Ratio, ":", &ratio.0.to_string(), &ratio.1.to_string()));
        put(Field::Tier, job.model.sizes.tier_of(width, height).map(Value::from));
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
            Form::Number => value.as_str().and_then(|text| text.parse::<u64>().ok()).map_or(value, Value::from),
            _ => value,
        };
        match (&place.query, value) {
            (Some(name), value) => self.query.push((name.clone(), plain(value))),
            (None, Value::Object(data)) => self.layers(place, data),
            (None, value) => self.write(place, &place.at, value, ""),
        }
    }

    /// Writes a template's data: each bare value as its layer wants it, and all of them as a list where that is asked
    /// for.
    fn layers(&mut self, place: &Place, data: Map<String, Value>) {
        let whole = |value: Value| {
            let name = match value.as_str() {
                Some(text) if text.starts_with("https://") => place.link.clone(),
                Some(_) => place.text.clone(),
                None => None,
            };
            match name {
                Some(name) => Value::Object(Map::from_iter([(name, value)])),
                None => value,
            }
        };
        let layers = data.into_iter().map(|(name, value)| (name, whole(value)));
        if place.at == "*" {
            self.body.extend(layers);
        } else if place.form == Form::Named {
            let named = layers.map(|(name, layer)| {
                let mut object = Map::from_iter([("name".to_owned(), Value::from(name))]);
                match layer {
                    Value::Object(layer) => object.extend(layer),
                    bare => drop(object.insert("value".to_owned(), bare)),
                }
                Value::Object(object)
            });
            pointer::put(&mut self.body, &place.at, named.collect());
        } else {
            pointer::put(&mut self.body, &place.at, Value::Object(layers.collect()));
        }
    }

    /// Writes a value with what belongs beside it.
    fn write(&mut self, place: &Place, at: &str, value: Value, mime: &str) {
        if place.beside.is_empty() {
            return pointer::put(&mut self.body, at, value);
        }
        // One object with all of it, because a place that makes a new element would make two.
        let (parent, name) = at.rsplit_once('/').unwrap_or(("", at));
        let mut object = Map::from_iter([(name.to_owned(), value)]);
        for (name, value) in &place.beside {
            object.insert(name.clone(), Value::from(value.replace("{mime}", mime)));
        }
        pointer::put(&mut self.body, parent, Value::Object(object));
    }

    /// The body of a call, with the pictures of an edit.
    ///
    /// # Errors
    /// A picture cannot be put into it.
    pub(super) async fn payload(mut self, job: &Job<'_>) -> Result<Payload, Fault> {
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
            let turned = turned(mask, place.polarity).await?;
            self.picture(place, 0, &turned, "mask", encoding, &mut parts)?;
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
            (Some(more), 1..) if !more.is_empty() => {
                more.replace("{i}", &(index + 1).to_string()).replace("{index}", &index.to_string())
            }
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
        let value = Value::from(text);
        let value = if place.form == Form::List { json!([value]) } else { value };
        self.write(place, &at, value, picture.format.mime());
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

/// The mask as a provider wants it.
pub(super) async fn turned(mask: &InputPicture, polarity: Polarity) -> Result<InputPicture, Fault> {
    let edited = match polarity {
        Polarity::Transparent => return Ok(mask.clone()),
        Polarity::White => Edited::White,
        Polarity::Black => Edited::Black,
    };
    let picture = mask.picture.clone();
    // It is decoded and encoded again: not on a thread that others wait for.
    let turned = tokio::task::spawn_blocking(move || raster::to_grey(&picture, edited)).await;
    let told = |why: String| Fault {
        param: Some("mask".to_owned()),
        ..Fault::new(FaultKind::Rejected, format!("the mask cannot be used: {why}"))
    };
    let picture = turned.map_err(|error| told(error.to_string()))?.map_err(|error| told(error.to_string()))?;
    Ok(InputPicture { picture, file_name: None })
}

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
