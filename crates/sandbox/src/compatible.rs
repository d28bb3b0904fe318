//! A simulated server of the OpenAI-compatible kind under `/compatible/v1`: any model name, a flat price per picture
//! (see [`crate::price::flat`]), URLs unless base64 is asked for, no usage, no key needed, extra parameters welcome.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::HeaderMap;
use axum::response::Response;
use axum::routing::{get, post};
use axum::{Json, Router};
use bytes::Bytes;
use serde_json::{Value, json};

use crate::fields::{Fields, parse_size};
use crate::files::Stored;
use crate::openai;
use crate::picture::Picture;
use crate::price;
use crate::problem::Problem;
use crate::sale::{Customary, Order, Reply, Sold, sell, unix_seconds};
use crate::shop::{Shop, attempt, bearer};
use crate::stats::Visit;

/// Longest edge of a picture, in pixels.
const LONGEST_EDGE: u32 = 4096;

/// Longest prompt, in characters.
const LONGEST_PROMPT: usize = 32_000;

/// The routes.
pub(crate) fn routes() -> Router<Arc<Shop>> {
    Router::new()
        .route("/models", get(models))
        .route("/images/generations", post(generations))
        .route("/images/edits", post(edits))
}

async fn models() -> Json<Value> {
    // Every name works; these show how prices are named.
    let models = ["simulated", "flat-0.002", "flat-0.04"];
    let models = models.map(|id| json!({ "id": id, "object": "model", "created": 0, "owned_by": "sandbox" }));
    Json(json!({ "object": "list", "data": models }))
}

async fn generations(State(shop): State<Arc<Shop>>, headers: HeaderMap, body: Bytes) -> Result<Response, Problem> {
    let visit = shop.counters.enter();
    let fields = Fields::from_json(&body)?;
    drop(body);
    answer(&shop, visit, &headers, &fields, false).await
}

async fn edits(State(shop): State<Arc<Shop>>, request: Request) -> Result<Response, Problem> {
    let visit = shop.counters.enter();
    let headers = request.headers().clone();
    let (fields, uploads) = openai::edit_fields(request).await?;
    if uploads.pictures == 0 {
        let message = "Missing required parameter: 'image'.";
        return Err(Problem::invalid("missing_required_parameter", "image", message));
    }
    answer(&shop, visit, &headers, &fields, true).await
}

async fn answer(
    shop: &Shop,
    visit: Visit,
    headers: &HeaderMap,
    fields: &Fields,
    edit: bool,
) -> Result<Response, Problem> {
    let by_url = fields.one_of("response_format", &["url", "b64_json"])? != Some("b64_json");
    let missing = || Problem::invalid("missing_required_parameter", "model", "Missing required parameter: 'model'.");
    let model = fields.text("model")?.filter(|model| !model.is_empty()).ok_or_else(missing)?;
    let prompt = fields.prompt(LONGEST_PROMPT)?;
    let n = fields.integer("n", 1..=10)?.unwrap_or(1).unsigned_abs();
    let (width, height) = size(fields)?;
    let order = Order {
        provider: "compatible".to_owned(),
        account: bearer(headers).unwrap_or("anonymous").to_owned(),
        attempt: attempt(headers),
        model: model.to_owned(),
        edit,
        n: n as usize,
        width,
        height,
        quality: fields.text("quality")?.map(str::to_owned),
        prompt: prompt.to_owned(),
        seed: fields.integer("seed", i64::MIN..=i64::MAX)?,
        format: openai::format(fields)?,
        transparent: false,
        usd: price::flat(model) * n,
        usage: None,
        events: 0,
    };
    let origin = shop.origin(headers);
    sell(shop, visit, order, &Customary, |sold| {
        let data = if by_url { links(shop, &origin, &sold) } else { inline(sold.pictures) };
        Ok(Reply::ok("application/json", data))
    })
    .await
}

/// The size from `size`, else from `width` and `height`, else 1024x1024; each side at most [`LONGEST_EDGE`].
pub(crate) fn size(fields: &Fields) -> Result<(u32, u32), Problem> {
    let limits = 1..=i64::from(LONGEST_EDGE);
    let bad = || {
        let message = format!("Invalid size: expected 'WIDTHxHEIGHT', each from 1 to {LONGEST_EDGE}.");
        Problem::invalid("invalid_value", "size", message)
    };
    match fields.text("size")? {
        Some(text) if text != "auto" => {
            parse_size(text).filter(|(width, height)| *width.max(height) <= LONGEST_EDGE).ok_or_else(bad)
        }
        _ => {
            let side = |name| Ok::<_, Problem>(fields.integer(name, limits.clone())?.unwrap_or(1024) as u32);
            Ok((side("width")?, side("height")?))
        }
    }
}

fn inline(pictures: &[Picture]) -> Vec<Bytes> {
    let mut pieces = vec![format!("{{\"created\":{},\"data\":[", unix_seconds()).into()];
    for (index, picture) in pictures.iter().enumerate() {
        let open = if index == 0 { "{\"b64_json\":\"" } else { "\"},{\"b64_json\":\"" };
        pieces.push(Bytes::from_static(open.as_bytes()));
        pieces.extend(picture.base64());
    }
    pieces.push(Bytes::from_static(b"\"}]}"));
    pieces
}

fn links(shop: &Shop, origin: &str, sold: &Sold<'_>) -> Vec<Bytes> {
    let mut data = Vec::with_capacity(sold.pictures.len());
    for (index, picture) in sold.pictures.iter().enumerate() {
        let name = format!("{}-{index}.{}", sold.invoice, picture.format().name());
        data.push(json!({ "url": format!("{origin}/files/{name}") }));
        shop.files.put(name, Stored::new(picture.clone(), sold.plan));
    }
    vec![json!({ "created": unix_seconds(), "data": data }).to_string().into()]
}
