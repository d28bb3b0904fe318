//! The simulated OpenAI Images API under `/openai/v1`.

use std::sync::Arc;

use axum::extract::{FromRequest as _, Multipart, Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use bytes::Bytes;
use serde_json::{Value, json};

use crate::fields::{Fields, Uploads, parse_size};
use crate::picture::{Format, Picture};
use crate::price::{MODELS, Model, TOKENS_PER_INPUT_PICTURE, TOKENS_PER_PARTIAL, Usage, text_tokens};
use crate::problem::Problem;
use crate::sale::{Customary, Order, Reply, Sold, sell, unix_seconds};
use crate::shop::{Shop, attempt, bearer};
use crate::stats::Visit;

/// Longest prompt, in characters.
const LONGEST_PROMPT: usize = 32_000;
/// Most pixels of a picture.
const MOST_PIXELS: u64 = 8_294_400;
/// Longest edge of a picture, in pixels.
const LONGEST_EDGE: u32 = 3840;
/// Most input pictures of an edit.
const MOST_INPUTS: usize = 16;

/// Parameters of both routes.
const PARAMETERS: [&str; 13] = [
    "prompt",
    "model",
    "n",
    "size",
    "quality",
    "background",
    "output_format",
    "output_compression",
    "moderation",
    "stream",
    "partial_images",
    "user",
    "input_fidelity",
];

/// The routes.
pub(crate) fn routes() -> Router<Arc<Shop>> {
    Router::new()
        .route("/models", get(models))
        .route("/images/generations", post(generations))
        .route("/images/edits", post(edits))
}

async fn models(headers: HeaderMap) -> Result<Json<Value>, Problem> {
    account(&headers)?;
    let models: Vec<Value> = MODELS
        .iter()
        .map(|model| {
            let (id, until) = (model.id, model.shutdown_date);
            json!({ "id": id, "object": "model", "created": 1_760_000_000, "owned_by": "openai", "shutdown_date": until })
        })
        .collect();
    Ok(Json(json!({ "object": "list", "data": models })))
}

fn account(headers: &HeaderMap) -> Result<String, Problem> {
    bearer(headers).map(str::to_owned).ok_or_else(|| {
        let message = "You didn't provide an API key. Send it as 'Authorization: Bearer YOUR_KEY'.";
        Problem::new(StatusCode::UNAUTHORIZED, "invalid_request_error", Some("invalid_api_key"), message)
    })
}

async fn generations(State(shop): State<Arc<Shop>>, headers: HeaderMap, body: Bytes) -> Result<Response, Problem> {
    let visit = shop.counters.enter();
    let account = account(&headers)?;
    let fields = Fields::from_json(&body)?;
    drop(body);
    answer(&shop, visit, account, &headers, &fields, None).await
}

async fn edits(State(shop): State<Arc<Shop>>, request: Request) -> Result<Response, Problem> {
    let visit = shop.counters.enter();
    let headers = request.headers().clone();
    let account = account(&headers)?;
    let (fields, uploads) = edit_fields(request).await?;
    if uploads.pictures == 0 {
        let message = "Missing required parameter: 'image'.";
        return Err(Problem::invalid("missing_required_parameter", "image", message));
    }
    if uploads.pictures > MOST_INPUTS {
        let message = format!("Invalid 'image': at most {MOST_INPUTS} pictures, but got {}.", uploads.pictures);
        return Err(Problem::invalid("invalid_value", "image", message));
    }
    answer(&shop, visit, account, &headers, &fields, Some(uploads)).await
}

/// The parameters and pictures of an edit, sent as a form or as JSON.
pub(crate) async fn edit_fields(request: Request) -> Result<(Fields, Uploads), Problem> {
    let kind = request.headers().get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    let unreadable = |error: String| Problem::new(StatusCode::BAD_REQUEST, "invalid_request_error", None, error);
    if kind.starts_with("multipart/form-data") {
        let form = Multipart::from_request(request, &()).await.map_err(|error| unreadable(error.to_string()))?;
        return Fields::from_form(form).await;
    }
    let body = Bytes::from_request(request, &()).await.map_err(|error| unreadable(error.to_string()))?;
    let mut fields = Fields::from_json(&body)?;
    let uploads = fields.take_uploads();
    Ok((fields, uploads))
}

/// What the answer repeats of the request.
struct Echo {
    background: &'static str,
    partials: usize,
}

async fn answer(
    shop: &Shop,
    visit: Visit,
    account: String,
    headers: &HeaderMap,
    fields: &Fields,
    uploads: Option<Uploads>,
) -> Result<Response, Problem> {
    let (order, echo) = read(account, attempt(headers), fields, uploads)?;
    sell(shop, visit, order, &Customary, move |Sold { order, pictures, .. }| {
        Ok(match order.events {
            0 => Reply::ok("application/json", document(order, &echo, pictures)),
            _ => events(order, &echo, pictures),
        })
    })
    .await
}

/// Checks and prices a request as the vendor does.
fn read(
    account: String,
    attempt: Option<String>,
    fields: &Fields,
    uploads: Option<Uploads>,
) -> Result<(Order, Echo), Problem> {
    let edit = uploads.is_some();
    // The vendor's defaults are old models, one of them gone: callers must name one.
    let name = fields.text("model")?.unwrap_or(if edit { "gpt-image-1.5" } else { "dall-e-2" });
    let model = Model::find(name).ok_or_else(|| Problem::no_model(name))?;
    fields.only(if edit { &PARAMETERS } else { &PARAMETERS[..PARAMETERS.len() - 1] })?;
    let prompt = fields.prompt(LONGEST_PROMPT)?;
    let n = fields.integer("n", 1..=10)?.unwrap_or(1).unsigned_abs();
    let (width, height) = size(fields.text("size")?.unwrap_or("auto"), model)?;
    let mut qualities = vec!["auto"];
    qualities.extend(model.qualities());
    let quality = match fields.one_of("quality", &qualities)? {
        None | Some("auto") => "medium",
        Some(quality) => quality,
    };
    fields.one_of("moderation", &["auto", "low"])?;
    fields.one_of("input_fidelity", &["high", "low"])?;
    fields.text("user")?;
    let transparent = fields.one_of("background", &["transparent", "opaque", "auto"])? == Some("transparent");
    let format = format(fields)?;
    if transparent && matches!(format, Format::Jpeg { .. }) {
        let message = "Transparent background is not supported for JPEG output format.";
        return Err(Problem::invalid("invalid_value", "background", message));
    }
    let streams = fields.flag("stream")?;
    let partials = fields.integer("partial_images", 0..=3)?.unwrap_or(0).unsigned_abs();
    let partials = if streams { partials } else { 0 };

    let per_picture =
        model.output_tokens(quality, width, height).ok_or_else(|| bad_size("not a size of this model"))?;
    let inputs = uploads.map_or(0, |uploads| uploads.pictures) as u64;
    let usage = Usage::new(
        text_tokens(prompt),
        inputs * TOKENS_PER_INPUT_PICTURE,
        n * (per_picture + partials * TOKENS_PER_PARTIAL),
    );
    let order = Order {
        provider: "openai".to_owned(),
        account,
        attempt,
        model: model.id.to_owned(),
        edit,
        n: n as usize,
        width,
        height,
        quality: Some(quality.to_owned()),
        prompt: prompt.to_owned(),
        seed: None,
        format,
        transparent,
        usd: model.cost(&usage),
        usage: Some(usage),
        events: if streams { (n * (partials + 1)) as usize } else { 0 },
    };
    let echo = Echo { background: if transparent { "transparent" } else { "opaque" }, partials: partials as usize };
    Ok((order, echo))
}

/// The output format and how strongly it is compressed.
pub(crate) fn format(fields: &Fields) -> Result<Format, Problem> {
    let name = fields.one_of("output_format", &["png", "jpeg", "webp"])?.unwrap_or("png");
    let compression = fields.integer("output_compression", 0..=100)?;
    match name {
        // A full hundred would make files several times larger that look no different.
        "jpeg" => Ok(Format::Jpeg { quality: compression.unwrap_or(100).clamp(20, 92) as u8 }),
        "webp" => Ok(Format::Webp),
        _ if compression.is_some_and(|compression| compression < 100) => {
            let message = "Compression less than 100 is not supported for PNG output format.";
            Err(Problem::invalid("invalid_value", "output_compression", message))
        }
        _ => Ok(Format::Png),
    }
}

fn bad_size(reason: &str) -> Problem {
    Problem::invalid("invalid_value", "size", format!("Invalid size: {reason}."))
}

/// The size in pixels, within what the model can do.
fn size(text: &str, model: &Model) -> Result<(u32, u32), Problem> {
    if text == "auto" {
        return Ok((1024, 1024));
    }
    let (width, height) = parse_size(text).ok_or_else(|| bad_size("expected 'auto' or 'WIDTHxHEIGHT'"))?;
    if !model.takes_any_size() {
        return match (width, height) {
            (1024, 1024) | (1536, 1024) | (1024, 1536) => Ok((width, height)),
            _ => Err(bad_size("supported values are 1024x1024, 1536x1024, 1024x1536, auto")),
        };
    }
    let (long, short) = (width.max(height), width.min(height));
    if !width.is_multiple_of(16) || !height.is_multiple_of(16) {
        return Err(bad_size("width and height must be divisible by 16"));
    }
    if u64::from(long) > 3 * u64::from(short) {
        return Err(bad_size("the ratio of the sides must be between 1:3 and 3:1"));
    }
    if long > LONGEST_EDGE || u64::from(width) * u64::from(height) > MOST_PIXELS {
        return Err(bad_size("at most 3840 pixels a side and 8294400 in all"));
    }
    Ok((width, height))
}

/// The JSON answer. The base64 text goes from the cache to the socket without being copied together.
fn document(order: &Order, echo: &Echo, pictures: &[Picture]) -> Vec<Bytes> {
    let created = unix_seconds();
    let mut pieces = vec![format!("{{\"created\":{created},\"background\":\"{}\",\"data\":[", echo.background).into()];
    for (index, picture) in pictures.iter().enumerate() {
        let open = if index == 0 { "{\"b64_json\":\"" } else { "\"},{\"b64_json\":\"" };
        pieces.push(Bytes::from_static(open.as_bytes()));
        pieces.extend(picture.base64());
    }
    let rest = json!({
        "output_format": order.format.name(),
        "quality": order.quality,
        "size": format!("{}x{}", order.width, order.height),
        "usage": order.usage,
    });
    // The object goes on: its opening brace becomes a comma.
    pieces.push(format!("\"}}],{}", &rest.to_string()[1..]).into());
    pieces
}

/// The streamed answer: per picture its partial states, then the whole. Usage is told with each picture, and the sum
/// of these is what is billed: input tokens count with the first.
fn events(order: &Order, echo: &Echo, pictures: &[Picture]) -> Reply {
    let family = if order.edit { "image_edit" } else { "image_generation" };
    let total = order.usage.unwrap_or_else(|| Usage::new(0, 0, 0));
    let mut events = Vec::with_capacity(order.events);
    for (index, picture) in pictures.iter().enumerate() {
        let inputs = if index == 0 { total.input_tokens_details } else { Usage::new(0, 0, 0).input_tokens_details };
        let usage = Usage::new(inputs.text_tokens, inputs.image_tokens, total.output_tokens / order.n as u64);
        for partial in 0..=echo.partials {
            let mut rest = json!({
                "background": echo.background,
                "created_at": unix_seconds(),
                "output_format": order.format.name(),
                "quality": order.quality,
                "size": format!("{}x{}", order.width, order.height),
            });
            let kind = if partial < echo.partials { "partial_image" } else { "completed" };
            match kind {
                "completed" => rest["usage"] = json!(usage),
                _ => rest["partial_image_index"] = json!(partial),
            }
            let name = format!("{family}.{kind}");
            let mut event = vec![format!("event: {name}\ndata: {{\"type\":\"{name}\",\"b64_json\":\"").into()];
            event.extend(picture.base64());
            event.push(format!("\",{}\n\n", &rest.to_string()[1..]).into());
            events.push(event);
        }
    }
    Reply::Events(events)
}

/// The answer for a route that does not exist.
pub(crate) async fn not_found() -> Response {
    Problem::new(StatusCode::NOT_FOUND, "invalid_request_error", None, "No such route in this sandbox.").into_response()
}
