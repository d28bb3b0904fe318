//! The edge: HTTP in, HTTP out. Who calls ([`auth`]), what they want ([`wire`]), and what they get
//! ([`answer`], [`stream`], [`kept`], [`media`]). What happens between is [`crate::pipeline`].
//!
//! One request passes through, in this order: [`serve`] (a connection; pictures in memory are answered
//! here) → `front` (name, key, panics, log) → [`images`] (or [`models`], [`ledger`], [`budgets`], [`requests`],
//! [`feedback`]) → [`load`] →
//! [`upload`] → [`wire`] → the pipeline → [`answer`] or [`stream`].

pub mod answer;
pub mod auth;
mod budgets;
mod caching;
mod callbacks;
pub mod failure;
mod feedback;
mod fields;
mod images;
mod inputs;
mod kept;
mod ledger;
mod load;
pub mod media;
mod models;
mod multipart;
mod panic;
mod patience;
mod pieces;
mod range;
mod requests;
mod serve;
mod stream;
mod upload;
mod wire;

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue, Method, Uri};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use bytes::Bytes;
use serde_json::json;
use tokio_util::task::TaskTracker;

pub use auth::KeyRing;
pub use load::Load;
pub use serve::serve;

use crate::clock::Clock;
use crate::config::Timeouts;
use crate::domain::{Picture, RequestId};
use crate::error::{Error, Kind};
use crate::pipeline::Pipeline;
use failure::Failure;

/// Checks that bytes are a picture, or says why they are not.
pub type Sniff = fn(Bytes) -> Result<Picture, String>;

/// The header that names a request in the log and in the ledger.
const REQUEST_ID: &str = "x-request-id";

/// Everything the edge needs.
pub struct Edge {
    /// Does the work.
    pub pipeline: Arc<Pipeline>,
    /// Who may call.
    pub keys: KeyRing,
    /// Tells the time.
    pub clock: Clock,
    /// What is accepted and given out.
    pub options: EdgeOptions,
    /// Checks input pictures.
    pub sniff: Sniff,
    /// Owns work that outlives its connection.
    pub tracker: TaskTracker,
    /// How much is carried at a time.
    pub load: Load,
}

/// What is accepted and given out.
#[derive(Clone, Debug)]
pub struct EdgeOptions {
    /// The largest request body, in bytes.
    pub max_body: usize,
    /// Connections that are open at a time.
    pub max_connections: usize,
    /// How long callers may be slow.
    pub timeouts: Timeouts,
    /// What picture addresses begin with; by default the `Host` of the request.
    pub public_url: Option<String>,
}

/// All routes, behind the door that asks for a key.
pub fn router(edge: Arc<Edge>) -> Router {
    Router::new()
        .route("/v1/images/generations", post(images::generations))
        .route("/v1/images/edits", post(images::edits))
        .route("/v1/images/variations", post(images::variations))
        .route("/v1/images/jobs", post(images::jobs))
        .route("/v1/images/jobs/{id}", get(kept::job).delete(kept::cancel))
        .route("/v1/callbacks/{attempt}/{token}", post(callbacks::called))
        .route("/v1/models", get(models::list))
        .route("/v1/models/{*id}", get(models::one))
        .route("/v1/ledger", get(ledger::report))
        .route("/v1/budgets", get(budgets::list))
        .route("/v1/requests/{id}", get(requests::one))
        .route("/v1/feedback", post(feedback::give))
        .route("/media/{id}", get(picture))
        .route("/media/{id}/{form}", get(copy))
        .route("/healthz", get(healthz))
        .route("/readyz", get(readyz))
        .fallback(unknown_url)
        .method_not_allowed_fallback(method_not_allowed)
        // Outermost, fallbacks included: what is not on the list of public paths needs a key.
        .layer(from_fn_with_state(Arc::clone(&edge), front))
        .with_state(edge)
}

/// Names the request, asks who calls, and sees that an answer in shape goes out whatever happens inside.
async fn front(State(edge): State<Arc<Edge>>, mut request: Request, next: Next) -> Response {
    let id = edge.pipeline.new_request_id();
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    request.extensions_mut().insert(id);
    let mut response = if auth::is_public(&method, &path) {
        panic::contain(next.run(request)).await
    } else {
        match edge.keys.identify(request.headers()) {
            Ok(identity) => {
                request.extensions_mut().insert(identity);
                panic::contain(next.run(request)).await
            }
            Err(error) => {
                let (parts, body) = request.into_parts();
                upload::drain(&parts.headers, body).await;
                Failure(error).into_response()
            }
        }
    };
    if let Some(error) = response.extensions().get::<Error>() {
        // A picture's name is the right to fetch it, and so not for the log; the same goes for callbacks.
        let path = match path.as_str() {
            path if media::is_picture_path(path) => "/media/{id}",
            path if callbacks::is_callback_path(path) => "/v1/callbacks/{attempt}/{token}",
            path => path,
        };
        failure::log(error, id, path);
    }
    // What was answered to an earlier request bears that one's name.
    if !response.headers().contains_key(REQUEST_ID) {
        name(id, response.headers_mut());
    }
    response
}

fn name(id: RequestId, headers: &mut HeaderMap) {
    if let Ok(value) = HeaderValue::try_from(id.to_string()) {
        headers.insert(REQUEST_ID, value);
    }
}

/// `GET /media/{id}` of what is not in memory (or of a `router` that is served by somebody else).
async fn picture(
    State(edge): State<Arc<Edge>>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
) -> Result<Response, Failure> {
    let Some(id) = media::id_in_path(uri.path()) else { return Ok(media::unknown()) };
    Ok(match edge.pipeline.picture(id).await? {
        Some(stored) => media::respond(&method, &headers, &stored),
        None => media::unknown(),
    })
}

/// `GET /media/{id}/{form}`: a copy.
async fn copy(State(edge): State<Arc<Edge>>, request: Request) -> Result<Response, Failure> {
    let path = request.uri().path();
    let Some((id, form)) = media::copy_in_path(path) else {
        return if media::is_picture_path(path) { Ok(media::unknown()) } else { Err(unknown_url(request).await) };
    };
    let Some(original) = edge.pipeline.picture(id).await? else { return Ok(media::unknown()) };
    let copy = edge.pipeline.copy(original, form).await?;
    Ok(media::respond(request.method(), request.headers(), &copy))
}

/// The process lives.
async fn healthz() -> Response {
    Json(json!({ "status": "ok" })).into_response()
}

/// It can also work: it is neither full nor stopping, and its store can be read.
/// How long the store may take to answer a gateway that is ready.
const READY_WITHIN: std::time::Duration = std::time::Duration::from_secs(2);

async fn readyz(State(edge): State<Arc<Edge>>) -> Result<Response, Failure> {
    edge.load.ready()?;
    // Who asks wants to know now: the store itself is more patient.
    tokio::time::timeout(READY_WITHIN, edge.pipeline.ready()).await.unwrap_or_else(|_| {
        Err(Error::new(Kind::Unavailable, "The gateway's store does not answer.").code("store_unavailable"))
    })?;
    Ok(Json(json!({ "status": "ready" })).into_response())
}

async fn unknown_url(request: Request) -> Failure {
    refuse(request, Kind::NotFound, "Unknown request URL").await
}

async fn method_not_allowed(request: Request) -> Failure {
    refuse(request, Kind::MethodNotAllowed, "This method is not allowed here").await
}

async fn refuse(request: Request, kind: Kind, what: &str) -> Failure {
    let (parts, body) = request.into_parts();
    upload::drain(&parts.headers, body).await;
    let path: String = parts.uri.path().chars().take(200).collect();
    let error = Error::new(kind, format!("{what}: {} {path}.", parts.method));
    Failure(if kind == Kind::NotFound { error.code("unknown_url") } else { error })
}
