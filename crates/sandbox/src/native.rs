//! A simulated provider with an interface of its own under `/native/v1`: the answer is the picture itself, the price
//! is fixed per model and told in a header.

use std::sync::Arc;

use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue};
use axum::response::Response;
use axum::routing::{get, post};
use axum::{Json, Router};
use bytes::Bytes;
use serde_json::{Value, json};

use crate::compatible::size;
use crate::fields::Fields;
use crate::picture::{Format, Picture};
use crate::price::NATIVE;
use crate::problem::Problem;
use crate::sale::{Customary, Order, Reply, Sold, sell};
use crate::shop::{Shop, attempt, bearer};

/// Longest prompt, in characters.
const LONGEST_PROMPT: usize = 32_000;

/// The routes.
pub(crate) fn routes() -> Router<Arc<Shop>> {
    Router::new().route("/models", get(models)).route("/draw", post(draw))
}

async fn models(State(shop): State<Arc<Shop>>) -> Json<Value> {
    let now = |id: &str| shop.tariff.native(id);
    let models: Vec<Value> = NATIVE.iter().map(|(id, _)| json!({ "id": id, "usd_per_picture": now(id) })).collect();
    Json(json!({ "models": models }))
}

async fn draw(State(shop): State<Arc<Shop>>, headers: HeaderMap, body: Bytes) -> Result<Response, Problem> {
    let visit = shop.counters.enter();
    let fields = Fields::from_json(&body)?;
    drop(body);
    let model = fields.text("model")?.unwrap_or("standard");
    let usd = shop.tariff.native(model).ok_or_else(|| Problem::no_model(model))?;
    fields.only(&["model", "prompt", "width", "height", "seed", "steps", "n", "format", "inputs"])?;
    fields.integer("n", 1..=1)?;
    fields.integer("steps", 1..=1000)?;
    let (width, height) = size(&fields)?;
    let format = match fields.one_of("format", &["png", "jpeg", "webp"])? {
        Some("jpeg") => Format::Jpeg { quality: 90 },
        Some("webp") => Format::Webp,
        _ => Format::Png,
    };
    let order = Order {
        provider: "native".to_owned(),
        account: bearer(&headers).unwrap_or("anonymous").to_owned(),
        attempt: attempt(&headers),
        model: model.to_owned(),
        edit: false,
        n: 1,
        width,
        height,
        quality: None,
        prompt: fields.prompt(LONGEST_PROMPT)?.to_owned(),
        seed: fields.integer("seed", i64::MIN..=i64::MAX)?,
        format,
        transparent: false,
        usd,
        usage: None,
        events: 0,
    };
    sell(&shop, visit, order, &Customary, |Sold { order, invoice, pictures, .. }| {
        let body = pictures.first().map(Picture::pieces).unwrap_or_default();
        let mut reply = Reply::ok(order.format.mime(), body);
        if let Reply::Whole(_, headers, _) = &mut reply {
            let usd = HeaderValue::from_str(&order.usd.to_string()).map_err(Problem::broken)?;
            headers.insert("x-sandbox-cost-usd", usd);
            headers.insert("x-sandbox-invoice", HeaderValue::from(invoice));
        }
        Ok(reply)
    })
    .await
}
