//! The controls of the simulation, under `/control`: the book, the counters, the jobs, the script of faults, the latency, the prices.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::{get, post};
use axum::{Json, Router};
use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::book::Line;
use crate::money::Usd;
use crate::problem::Problem;
use crate::rate;
use crate::script::Entry;
use crate::shop::Shop;
use crate::simulation::Listed;
use crate::stats::Stats;

/// The routes.
pub(crate) fn routes() -> Router<Arc<Shop>> {
    Router::new()
        .route("/book", get(book))
        .route("/stats", get(stats))
        .route("/jobs", get(jobs))
        .route("/faults", get(faults).post(append).delete(clear))
        .route("/latency", post(latency))
        .route("/prices", post(price))
        .route("/rate", get(rate::show).post(rate::set).delete(rate::clear))
}

#[derive(Serialize)]
struct Shown {
    lines: Vec<Line>,
    count: u64,
    billed_usd: Usd,
}

async fn book(State(shop): State<Arc<Shop>>) -> Result<Json<Shown>, Problem> {
    let book = Arc::clone(&shop.book);
    let reading = tokio::task::spawn_blocking(move || book.lines());
    let lines = reading.await.map_err(Problem::broken)?.map_err(Problem::broken)?;
    let totals = crate::book::Totals::of(&lines);
    Ok(Json(Shown { lines, count: totals.count, billed_usd: totals.billed_usd }))
}

async fn stats(State(shop): State<Arc<Shop>>) -> Json<Stats> {
    Json(shop.counters.read(shop.book.totals().count))
}

#[derive(Serialize)]
struct Accepted {
    jobs: Vec<Listed>,
}

async fn jobs(State(shop): State<Arc<Shop>>) -> Json<Accepted> {
    Json(Accepted { jobs: shop.jobs.list() })
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Script {
    faults: Vec<Entry>,
}

async fn faults(State(shop): State<Arc<Shop>>) -> Json<Script> {
    Json(Script { faults: shop.script.waiting() })
}

async fn append(State(shop): State<Arc<Shop>>, body: Bytes) -> Result<Json<Script>, Problem> {
    let script: Script = read(&body)?;
    shop.script.append(script.faults);
    Ok(Json(Script { faults: shop.script.waiting() }))
}

async fn clear(State(shop): State<Arc<Shop>>) -> StatusCode {
    shop.script.clear();
    StatusCode::NO_CONTENT
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Latency {
    ms: u64,
}

async fn latency(State(shop): State<Arc<Shop>>, body: Bytes) -> Result<StatusCode, Problem> {
    let latency: Latency = read(&body)?;
    shop.set_latency(Duration::from_millis(latency.ms));
    Ok(StatusCode::NO_CONTENT)
}

/// A new price of one picture of a `native` model.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NewPrice {
    model: String,
    usd: Usd,
}

async fn price(State(shop): State<Arc<Shop>>, body: Bytes) -> Result<StatusCode, Problem> {
    let NewPrice { model, usd } = read(&body)?;
    if shop.tariff.set(&model, usd) { Ok(StatusCode::NO_CONTENT) } else { Err(Problem::no_model(&model)) }
}

/// Reads a JSON body whatever its content type says: these routes are called from shells.
pub(crate) fn read<'a, T: Deserialize<'a>>(body: &'a [u8]) -> Result<T, Problem> {
    serde_json::from_slice(body).map_err(|error| {
        Problem::new(StatusCode::BAD_REQUEST, "invalid_request_error", Some("invalid_json"), error.to_string())
    })
}
