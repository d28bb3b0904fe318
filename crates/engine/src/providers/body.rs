//! Request bodies: the canonical fields of a job under the names that the record gives them.

use reqwest::multipart::{Form, Part};
use serde_json::{Map, Value};

use super::provider::{Job, Provider};
use super::record::{Field, Record};
use crate::domain::request::Decimal;
use crate::domain::{Fault, FaultKind, Format, InputPicture, Size};

/// The fields of a call, pictures left out. `partials` is set if unfinished pictures are to be streamed.
pub(super) fn fields(provider: &Provider, job: &Job<'_>, partials: Option<u8>) -> Map<String, Value> {
    let (record, request) = (&provider.record, job.request);
    let mut fields = Map::new();
    for (name, value) in record.constants.iter().chain(&request.extras) {
        fields.insert(name.clone(), value.clone());
    }
    let mut put = |field: Field, value: Option<Value>| {
        if let (Some(name), Some(value)) = (record.wire_name(field), value) {
            fields.insert(name.to_owned(), value);
        }
    };
    let text = |text: &Option<String>| text.as_deref().map(Value::from);
    put(Field::Model, Some(Value::from(job.model.id.as_str())));
    put(Field::Prompt, Some(Value::from(request.prompt.as_str())));
    put(Field::N, Some(Value::from(job.n)));
    if let Size::Exact(width, height) = request.size {
        put(Field::Size, Some(Value::from(request.size.to_string())));
        put(Field::Width, Some(Value::from(width)));
        put(Field::Height, Some(Value::from(height)));
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
    fields
}

/// The fields and pictures of an edit as a form. The pictures are shared, not copied.
pub(super) fn form(record: &Record, job: &Job<'_>, fields: Map<String, Value>) -> Result<Form, Fault> {
    let mut form = Form::new();
    for (name, value) in fields {
        let text = match value {
            Value::String(text) => text,
            other => other.to_string(),
        };
        form = form.text(name, text);
    }
    let image = record.wire_name(Field::Image).unwrap_or("image");
    for (index, input) in job.request.inputs.iter().enumerate() {
        form = form.part(image.to_owned(), part(input, &format!("image-{index}"))?);
    }
    if let (Some(mask), Some(name)) = (&job.request.mask, record.wire_name(Field::Mask)) {
        form = form.part(name.to_owned(), part(mask, "mask")?);
    }
    Ok(form)
}

fn part(input: &InputPicture, stem: &str) -> Result<Part, Fault> {
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
