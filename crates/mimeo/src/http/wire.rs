//! What a caller posts → a [`Call`]. Everything that can be wrong with a request by itself is found
//! here, before it costs anything; what depends on the model is the pipeline's to judge.

use std::collections::BTreeMap;
use std::time::Duration;

use axum::http::{HeaderMap, header};
use bytes::Bytes;

use super::Sniff;
use super::caching;
use super::fields::{Fields, string};
use super::inputs::{Inputs, Role};
use super::multipart;
use crate::domain::request::{TemplateCall, canonical_text as canonical};
use crate::domain::{CacheMode, Call, Caller, Format, ImageRequest, Operation, RequestId, Size};
use crate::error::{Error, Kind, Result};

/// Longest name of a model, purpose, user, style …
pub(super) const LABEL: usize = 256;
/// As in the OpenAI API.
const METADATA_PAIRS: usize = 16;
const METADATA_KEY: usize = 64;
const METADATA_VALUE: usize = 512;

/// How the pictures are handed over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Delivery {
    /// JSON with the pictures in base64.
    Base64,
    /// JSON with an address for each picture.
    Url,
    /// The one picture itself is the body: asked for with `Accept: image/*`.
    Raw,
    /// Server-sent events.
    Events,
}

/// A parsed request.
#[derive(Clone, Debug)]
pub struct Posted {
    /// What is to be done.
    pub call: Call,
    /// How it is to be answered.
    pub delivery: Delivery,
}

/// Where a request comes from.
#[derive(Clone, Debug)]
pub struct Origin {
    /// Its name.
    pub id: RequestId,
    /// Who sent it.
    pub caller: Caller,
}

/// `POST /v1/images/generations`: JSON.
///
/// # Errors
/// Whatever is wrong, with the field to blame.
pub fn generation(origin: Origin, headers: &HeaderMap, body: &Bytes) -> Result<Posted> {
    if !is_json(content_type(headers)?) {
        return Err(wrong_content_type("application/json"));
    }
    let fields = Fields::from_json(body)?;
    for name in ["image", "images", "mask"] {
        if fields.has(name) {
            let message = format!("'{name}' belongs to POST /v1/images/edits; this path takes a prompt only.");
            return Err(Error::bad(name, message).code("unknown_parameter"));
        }
    }
    let operation = if fields.has("template") { Operation::Render } else { Operation::Generate };
    posted(origin, headers, fields, operation, Inputs::default())
}

/// `POST /v1/images/edits`: a form, or JSON with data URLs.
///
/// # Errors
/// Whatever is wrong, with the field to blame.
pub fn edit(origin: Origin, headers: &HeaderMap, body: &Bytes, sniff: Sniff) -> Result<Posted> {
    let content_type = content_type(headers)?;
    if is_json(content_type) {
        let mut fields = Fields::from_json(body)?;
        let inputs = Inputs::from_json(&mut fields, sniff)?;
        return posted(origin, headers, fields, Operation::Edit, inputs);
    }
    if !essence(content_type).eq_ignore_ascii_case("multipart/form-data") {
        return Err(wrong_content_type("multipart/form-data or application/json"));
    }
    let parts = multipart::parse(body, &multipart::boundary(content_type)?)?;
    let mut inputs = Inputs::default();
    let mut texts = Vec::new();
    for part in &parts {
        match Role::of(&part.name) {
            Some(role) => inputs.add_part(role, part, sniff)?,
            None => {
                let text = std::str::from_utf8(&part.bytes)
                    .map_err(|_| Error::bad(&part.name, format!("Invalid '{}': expected UTF-8 text.", part.name)))?;
                texts.push((part.name.as_str(), text));
            }
        }
    }
    posted(origin, headers, Fields::from_form(texts)?, Operation::Edit, inputs)
}

fn posted(
    origin: Origin,
    headers: &HeaderMap,
    mut fields: Fields<'_>,
    operation: Operation,
    inputs: Inputs,
) -> Result<Posted> {
    let f = &mut fields;
    let request = image_request(f, operation, inputs)?;
    let n = f.integer("n", 1..=10)?.map_or(1, |n| n as u32);
    let cache = caching::policy(headers, f)?;
    let stream = stream(f)?;
    let response_format = f.one_of("response_format", &["b64_json", "url"])?;
    let call = Call {
        id: origin.id,
        caller: origin.caller,
        model: f.label("model", LABEL)?,
        route: None,
        request,
        n,
        cache,
        stream,
        deadline: deadline(f)?,
        max_spend: max_spend(f)?,
        purpose: f.label("purpose", LABEL)?,
        quality_tier: f.one_of("quality_tier", &["draft", "standard", "premium"])?.map(str::to_owned),
        category: f.label("category", LABEL)?,
        user: f.label("user", LABEL)?,
        metadata: metadata(f)?,
        retry_unknown: f.boolean("retry_unknown")?.unwrap_or(false),
        trim_prompt: f.boolean("trim_prompt")?,
        explain: f.boolean("explain")?.unwrap_or(false),
        unknown: BTreeMap::new(),
        leg: None,
    };
    no_route_options(f)?;
    let delivery = delivery(headers, &call, response_format)?;
    Ok(Posted { call: Call { unknown: fields.rest()?, ..call }, delivery })
}

fn image_request(f: &mut Fields<'_>, operation: Operation, inputs: Inputs) -> Result<ImageRequest> {
    let template = template(f, operation)?;
    let prompt = prompt(f, operation)?;
    if operation == Operation::Edit && inputs.pictures.is_empty() {
        return Err(Error::bad("image", "Missing required parameter: 'image'.").code("missing_required_parameter"));
    }
    let negative_prompt = f.string("negative_prompt")?.map(|text| canonical(&text)).filter(|text| !text.is_empty());
    Ok(ImageRequest {
        operation,
        prompt,
        size: size(f)?,
        // `auto` is how the OpenAI API spells out the default.
        quality: f.label("quality", LABEL)?.filter(|quality| quality != "auto"),
        background: f
            .one_of("background", &["transparent", "opaque", "auto"])?
            .filter(|background| *background != "auto")
            .map(str::to_owned),
        output_format: output_format(f)?,
        output_compression: f.integer("output_compression", 0..=100)?.map(|percent| percent as u8),
        style: f.label("style", LABEL)?,
        moderation: f.one_of("moderation", &["auto", "low"])?.map(str::to_owned),
        input_fidelity: f.one_of("input_fidelity", &["high", "low"])?.map(str::to_owned),
        seed: f.integer("seed", 0..=u64::MAX)?,
        steps: f.integer("steps", 1..=10_000)?.map(|steps| steps as u32),
        guidance: guidance(f)?,
        negative_prompt,
        inputs: inputs.pictures,
        mask: inputs.mask,
        template,
        extras: BTreeMap::new(),
    })
}

fn prompt(f: &mut Fields<'_>, operation: Operation) -> Result<String> {
    let prompt = f.string("prompt")?;
    match (operation, prompt) {
        (Operation::Render, None) => Ok(String::new()),
        // The official SDKs cannot leave out a prompt; an empty one says as little.
        (Operation::Render, Some(prompt)) if prompt.trim().is_empty() => Ok(String::new()),
        (Operation::Render, Some(_)) => Err(Error::bad(
            "prompt",
            "'prompt' and 'template' exclude each other: a template is drawn from 'data' alone.",
        )),
        (_, None) => {
            Err(Error::bad("prompt", "Missing required parameter: 'prompt'.").code("missing_required_parameter"))
        }
        // An empty one is for the model to judge: who fills templates needs none, and the SDKs cannot leave it out.
        (_, Some(prompt)) => Ok(canonical(&prompt)),
    }
}

fn template(f: &mut Fields<'_>, operation: Operation) -> Result<Option<TemplateCall>> {
    let id = f.label("template", LABEL)?;
    let data = f.object("data")?;
    match (operation, id) {
        (Operation::Render, Some(id)) => {
            let data = data.map(Fields::rest).transpose()?.unwrap_or_default();
            // The version and the defaults of the data are the renderer's to fill in.
            Ok(Some(TemplateCall { id, version: String::new(), data: data.into_iter().collect() }))
        }
        (_, Some(_)) => Err(Error::bad("template", "'template' belongs to POST /v1/images/generations.")),
        (_, None) if data.is_some() => Err(Error::bad("data", "'data' fills a template: name one in 'template'.")),
        (_, None) => Ok(None),
    }
}

pub(super) fn size(f: &mut Fields<'_>) -> Result<Size> {
    match f.label("size", LABEL)? {
        None => Ok(Size::Auto),
        Some(text) => text.parse().map_err(|why| Error::bad("size", format!("Invalid 'size': {why}."))),
    }
}

fn output_format(f: &mut Fields<'_>) -> Result<Option<Format>> {
    let name = f.one_of("output_format", &["png", "jpeg", "jpg", "webp", "gif", "avif"])?;
    Ok(name.and_then(Format::from_name))
}

fn guidance(f: &mut Fields<'_>) -> Result<Option<crate::domain::request::Decimal>> {
    let Some(text) = f.decimal("guidance", false)? else { return Ok(None) };
    match text.parse() {
        Ok(guidance) if !text.starts_with('-') => Ok(Some(guidance)),
        _ => {
            Err(Error::bad("guidance", "Invalid 'guidance': expected a number of 0 or more with at most 12 decimals."))
        }
    }
}

/// How long the caller waits.
pub(super) fn deadline(f: &mut Fields<'_>) -> Result<Option<Duration>> {
    Ok(f.integer("deadline_ms", 1..=24 * 3600 * 1000)?.map(Duration::from_millis))
}

pub(super) fn max_spend(f: &mut Fields<'_>) -> Result<Option<crate::domain::Usd>> {
    let Some(text) = f.decimal("max_spend_usd", true)? else { return Ok(None) };
    match text.parse() {
        Ok(usd) if !text.starts_with('-') => Ok(Some(usd)),
        _ => Err(Error::bad(
            "max_spend_usd",
            "Invalid 'max_spend_usd': expected US dollars, 0 or more, with at most 12 decimals.",
        )),
    }
}

/// How many partial pictures to show per picture, if the answer is to be streamed.
fn stream(f: &mut Fields<'_>) -> Result<Option<u8>> {
    let partial_images = f.integer("partial_images", 0..=3)?;
    match f.boolean("stream")? {
        Some(true) => Ok(Some(partial_images.unwrap_or(0) as u8)),
        _ if partial_images.is_some_and(|count| count > 0) => {
            Err(Error::bad("partial_images", "'partial_images' needs \"stream\": true."))
        }
        _ => Ok(None),
    }
}

fn metadata(f: &mut Fields<'_>) -> Result<BTreeMap<String, String>> {
    let Some(object) = f.object("metadata")? else { return Ok(BTreeMap::new()) };
    object
        .into_sent()
        .map(|(name, sent)| {
            let text = string(&sent).ok_or_else(|| {
                Error::bad("metadata", format!("Invalid type for 'metadata.{name}': expected a string."))
                    .code("invalid_type")
            })?;
            if name.chars().count() > METADATA_KEY || text.chars().count() > METADATA_VALUE {
                return Err(too_much_metadata());
            }
            Ok((name, text))
        })
        .collect::<Result<BTreeMap<_, _>>>()
        .and_then(|metadata| if metadata.len() > METADATA_PAIRS { Err(too_much_metadata()) } else { Ok(metadata) })
}

fn too_much_metadata() -> Error {
    Error::bad(
        "metadata",
        format!(
            "Invalid 'metadata': at most {METADATA_PAIRS} pairs, names of at most {METADATA_KEY} and values of at \
             most {METADATA_VALUE} characters."
        ),
    )
}

/// `route` has a place in the API and no options yet, which is better said than ignored.
fn no_route_options(f: &mut Fields<'_>) -> Result<()> {
    let Some(options) = f.object("route")? else { return Ok(()) };
    options.finish().map_err(|error| Error {
        message: format!(
            "{} Routes are set up in the configuration; name one in 'model'. Per request there are 'quality_tier', \
             'deadline_ms' and 'max_spend_usd'.",
            error.message
        ),
        ..error
    })
}

fn delivery(headers: &HeaderMap, call: &Call, response_format: Option<&'static str>) -> Result<Delivery> {
    if call.stream.is_some() {
        if response_format == Some("url") {
            return Err(Error::bad(
                "response_format",
                "A stream carries b64_json only: leave out 'response_format' or 'stream'.",
            ));
        }
        return Ok(Delivery::Events);
    }
    match response_format {
        Some("url") if call.cache.mode == CacheMode::NoStore => Err(Error::bad(
            "response_format",
            "'response_format': \"url\" and 'cache' no-store exclude each other: a picture that is not stored has no address.",
        )),
        Some("url") => Ok(Delivery::Url),
        Some(_) => Ok(Delivery::Base64),
        None if wants_picture(headers) => {
            if call.n > 1 {
                return Err(Error::bad(
                    "n",
                    "'n' must be 1 with `Accept: image/*`: the body is one picture. Accept application/json for more.",
                ));
            }
            Ok(Delivery::Raw)
        }
        None => Ok(Delivery::Base64),
    }
}

/// True if the caller accepts pictures and no JSON.
pub(super) fn wants_picture(headers: &HeaderMap) -> bool {
    let (mut picture, mut json) = (false, false);
    for accept in headers.get_all(header::ACCEPT) {
        for range in accept.to_str().unwrap_or_default().split(',') {
            let range = essence(range).to_ascii_lowercase();
            picture |= range.starts_with("image/");
            json |= matches!(range.as_str(), "*/*" | "application/*" | "application/json");
        }
    }
    picture && !json
}

fn content_type(headers: &HeaderMap) -> Result<&str> {
    match headers.get(header::CONTENT_TYPE).map(|value| value.to_str()) {
        Some(Ok(content_type)) => Ok(content_type),
        _ => Err(wrong_content_type("application/json")),
    }
}

/// The media type without its parameters.
fn essence(media_type: &str) -> &str {
    media_type.split_once(';').map_or(media_type, |(essence, _)| essence).trim()
}

fn is_json(content_type: &str) -> bool {
    let essence = essence(content_type).to_ascii_lowercase();
    essence == "application/json" || (essence.starts_with("application/") && essence.ends_with("+json"))
}

fn wrong_content_type(expected: &str) -> Error {
    Error::new(
        Kind::BadRequest,
        format!("Unsupported content type: send the body as {expected} and say so in Content-Type."),
    )
    .code("unsupported_content_type")
}

#[cfg(test)]
mod tests;
