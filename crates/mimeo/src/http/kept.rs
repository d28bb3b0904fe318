//! Answers that are kept: the headers that ask for it (`Idempotency-Key`, `Prefer`), what who asks again or
//! does not wait is told, and `/v1/images/jobs/{id}`.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::{Extension, Path, Query, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};

use super::auth::Identity;
use super::failure::{ErrorObject, Failure};
use super::images::base_url;
use super::pieces::Pieces;
use super::wire::Delivery;
use super::{Edge, answer};
use crate::domain::RequestId;
use crate::error::{Error, Kind, Result};
use crate::pipeline::{self, Kept, Wish};

const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
const REPLAYED: HeaderName = HeaderName::from_static("idempotency-replayed");
const PREFER: HeaderName = HeaderName::from_static("prefer");
const APPLIED: HeaderName = HeaderName::from_static("preference-applied");

/// Characters of an idempotency key at most.
const LONGEST_KEY: usize = 255;
/// The longest that a caller may prefer to wait, in seconds.
const LONGEST_WAIT: u64 = 600;

/// What the headers ask of an answer; `None` if it need not be kept. `is_stored` says whether its pictures are.
///
/// # Errors
/// There is an `Idempotency-Key`, and it is none.
pub fn wish(headers: &HeaderMap, is_stored: bool, delivery: Delivery) -> Result<Option<Wish>> {
    let idempotency = idempotency(headers)?;
    // What is streamed is waited for by nature, and what is not stored could not be fetched later.
    let may_wait = delivery != Delivery::Events && is_stored;
    let wait = wait(headers).filter(|_| may_wait);
    let form = match delivery {
        Delivery::Base64 => "b64_json",
        Delivery::Url => "url",
        Delivery::Raw => "picture",
        Delivery::Events => "events",
    };
    Ok((idempotency.is_some() || wait.is_some()).then_some(Wish { idempotency, form, wait }))
}

fn idempotency(headers: &HeaderMap) -> Result<Option<String>> {
    let mut keys = headers.get_all(IDEMPOTENCY_KEY).iter();
    let Some(key) = keys.next() else { return Ok(None) };
    let text = key.to_str().unwrap_or_default();
    let is_key = (1..=LONGEST_KEY).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic());
    if !is_key || keys.next().is_some() {
        let message = format!(
            "Invalid 'Idempotency-Key': expected once, 1 to {LONGEST_KEY} visible ASCII characters without spaces."
        );
        return Err(Error::bad("Idempotency-Key", message));
    }
    Ok(Some(text.to_owned()))
}

/// How long the caller prefers to wait. Preferences that nobody knows, or that make no sense, are ignored, and
/// of one that is said twice the first counts, as RFC 7240 has it.
fn wait(headers: &HeaderMap) -> Option<Duration> {
    let (mut wait, mut is_async) = (None, false);
    for value in headers.get_all(PREFER) {
        for preference in value.to_str().unwrap_or_default().split(',') {
            let bare = preference.split(';').next().unwrap_or_default();
            let (name, argument) = bare.split_once('=').unwrap_or((bare, ""));
            match name.trim().to_ascii_lowercase().as_str() {
                "wait" if wait.is_none() => wait = Some(argument.trim().trim_matches('"').parse::<u64>().ok()),
                "respond-async" => is_async = true,
                _ => {}
            }
        }
    }
    let seconds = wait.flatten().or(is_async.then_some(0))?;
    Some(Duration::from_secs(seconds.min(LONGEST_WAIT)))
}

/// `kept` with its pictures, if it has any, as they are to be given out.
pub async fn brought(edge: &Edge, mut kept: Kept, delivery: Delivery) -> Kept {
    if let pipeline::State::Succeeded(answer) = &mut kept.state {
        edge.pipeline.bring(answer, delivery == Delivery::Url).await;
    }
    kept
}

/// The response to a request whose answer is kept. `base` is the address that addresses begin with.
pub fn respond(kept: Kept, wish: &Wish, delivery: Delivery, base: &str) -> Response {
    let first = kept.is_replay.then_some(kept.id);
    let mut response = match kept.state {
        pipeline::State::Running | pipeline::State::Cancelling => {
            return accepted(&kept, wish.wait.unwrap_or_default(), base);
        }
        pipeline::State::Succeeded(answer) => answer::respond(&answer, delivery, base),
        pipeline::State::Failed(error) => Failure(error).into_response(),
    };
    mark(first, response.headers_mut());
    response
}

/// Says of a response that the request `first` got the same.
pub fn mark(first: Option<RequestId>, headers: &mut HeaderMap) {
    if let Some(first) = first {
        headers.insert(REPLAYED, HeaderValue::from_static("true"));
        super::name(first, headers);
    }
}

/// 202: still at it.
fn accepted(kept: &Kept, waited: Duration, base: &str) -> Response {
    let mut response = json(open(kept, status(kept), base).text("}"));
    *response.status_mut() = StatusCode::ACCEPTED;
    let headers = response.headers_mut();
    super::name(kept.id, headers);
    headers.insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
    for (name, text) in [(header::LOCATION, path(kept.id)), (APPLIED, format!("wait={}", waited.as_secs()))] {
        if let Ok(value) = HeaderValue::try_from(text) {
            headers.insert(name, value);
        }
    }
    response
}

fn path(id: RequestId) -> String {
    format!("/v1/images/jobs/{id}")
}

/// The word for where a job stands.
fn status(kept: &Kept) -> &'static str {
    match &kept.state {
        pipeline::State::Running => "running",
        pipeline::State::Cancelling => "cancelling",
        pipeline::State::Succeeded(_) => "succeeded",
        pipeline::State::Failed(error) if error.kind == Kind::Cancelled => "cancelled",
        pipeline::State::Failed(_) => "failed",
    }
}

/// The fields that every job has, whatever became of it.
fn open(kept: &Kept, status: &str, base: &str) -> Pieces {
    let mut out = Pieces::default();
    out.text("{\"id\":")
        .json(&kept.id.to_string())
        .field("object", "image.job")
        .field("status", status)
        .field("created", &(kept.created_ms / 1000))
        .field("url", &format!("{base}{}", path(kept.id)));
    out
}

fn json(body: &mut Pieces) -> Response {
    let mut response = Response::new(Body::new(std::mem::take(body).finish()));
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

/// `GET /v1/images/jobs/{id}`: what became of a request whose answer is kept.
pub async fn job(
    State(edge): State<Arc<Edge>>,
    Extension(identity): Extension<Identity>,
    Path(id): Path<String>,
    uri: Uri,
    headers: HeaderMap,
) -> Result<Response, Failure> {
    let delivery = delivery(&uri)?;
    let kept = match id.parse() {
        Ok(id) => edge.pipeline.job(&identity.caller.tenant, id).await?,
        Err(_) => None,
    };
    let kept = brought(&edge, kept.ok_or_else(no_job)?, delivery).await;
    Ok(tell(&kept, delivery, &base_url(edge.options.public_url.as_deref(), &headers)?))
}

/// `DELETE /v1/images/jobs/{id}`: does not want it any more. 202 while that is under way; 200 says how it has ended,
/// which may have been before.
pub async fn cancel(
    State(edge): State<Arc<Edge>>,
    Extension(identity): Extension<Identity>,
    Path(id): Path<String>,
    uri: Uri,
    headers: HeaderMap,
) -> Result<Response, Failure> {
    let delivery = delivery(&uri)?;
    let base = base_url(edge.options.public_url.as_deref(), &headers)?;
    let kept = match id.parse() {
        Ok(id) => edge.pipeline.cancel(&identity.caller.tenant, id).await?,
        Err(_) => None,
    };
    let kept = brought(&edge, kept.ok_or_else(no_job)?, delivery).await;
    let mut response = tell(&kept, delivery, &base);
    if !is_over(&kept) {
        *response.status_mut() = StatusCode::ACCEPTED;
    }
    Ok(response)
}

fn no_job() -> Error {
    let message = "There is no such job, or not any more: an answer is kept for server.idempotency_s seconds.";
    Error::new(Kind::NotFound, message).code("job_not_found")
}

fn is_over(kept: &Kept) -> bool {
    !matches!(kept.state, pipeline::State::Running | pipeline::State::Cancelling)
}

/// A job as it stands, with its pictures if they are there.
fn tell(kept: &Kept, delivery: Delivery, base: &str) -> Response {
    let mut body = open(kept, status(kept), base);
    match &kept.state {
        pipeline::State::Running | pipeline::State::Cancelling => {}
        pipeline::State::Succeeded(answer) => answer::write(body.text(",\"result\":"), answer, delivery, base),
        pipeline::State::Failed(error) => _ = body.field("error", &ErrorObject::of(error)),
    }
    let mut response = json(body.text("}"));
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    if !is_over(kept) {
        response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
    }
    response
}

/// How the pictures of a job are wanted: addresses, unless the query says otherwise.
fn delivery(uri: &Uri) -> Result<Delivery> {
    let Query(pairs) = Query::<Vec<(String, String)>>::try_from_uri(uri)
        .map_err(|_| Error::new(Kind::BadRequest, "The query of this address cannot be read."))?;
    let mut delivery = Delivery::Url;
    for (name, value) in pairs {
        delivery = match (name.as_str(), value.as_str()) {
            ("response_format", "url") => Delivery::Url,
            ("response_format", "b64_json") => Delivery::Base64,
            ("response_format", _) => {
                return Err(Error::bad(name, "Invalid 'response_format': expected url or b64_json."));
            }
            _ => return Err(Error::bad(&name, format!("Unknown parameter: '{name}'.")).code("unknown_parameter")),
        };
    }
    Ok(delivery)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(pairs: &[(&'static str, &str)]) -> HeaderMap {
        let pair = |(name, value): &(&'static str, &str)| {
            (HeaderName::from_static(name), HeaderValue::from_bytes(value.as_bytes()).unwrap())
        };
        let mut headers = HeaderMap::new();
        for (name, value) in pairs.iter().map(pair) {
            headers.append(name, value);
        }
        headers
    }

    #[test]
    fn keys() {
        let key = |value: &str| idempotency(&with(&[("idempotency-key", value)]));
        let longest = "k".repeat(255);
        for good in ["a", "8e03978e-40d5-43dd-bc93-6894a57f9324", "!~\"quoted\"", longest.as_str()] {
            assert_eq!(key(good).unwrap().as_deref(), Some(good));
        }
        let too_long = "k".repeat(256);
        for bad in ["", "a b", "a\tb", "caf\u{e9}", too_long.as_str()] {
            assert_eq!(key(bad).unwrap_err().kind.status(), 400, "{bad:?}");
        }
        assert_eq!(idempotency(&HeaderMap::new()).unwrap(), None);
        assert!(idempotency(&with(&[("idempotency-key", "a"), ("idempotency-key", "a")])).is_err(), "which one?");
    }

    #[test]
    fn preferences_as_in_the_rfc() {
        for (values, seconds) in [
            (&["wait=5"][..], Some(5)),
            (&["Wait = \"5\" ; why=\"so\""], Some(5)),
            (&["return=minimal, wait=5"], Some(5)),
            (&["return=minimal", "wait=5"], Some(5)),
            (&["wait=5, wait=7"], Some(5)),
            (&["respond-async"], Some(0)),
            (&["respond-async, wait=10"], Some(10)),
            (&["wait=10, respond-async"], Some(10)),
            (&["wait=100000"], Some(600)),
            (&["wait=soon"], None),
            (&["wait=-1"], None),
            (&["wait"], None),
            (&["handling=lenient"], None),
            (&[""], None),
            (&[], None),
        ] {
            let pairs: Vec<_> = values.iter().map(|value| ("prefer", *value)).collect();
            assert_eq!(wait(&with(&pairs)), seconds.map(Duration::from_secs), "{values:?}");
        }
    }

    #[test]
    fn how_a_job_is_delivered() {
        let of = |path: &str| delivery(&path.parse().unwrap());
        assert_eq!(of("/x").unwrap(), Delivery::Url);
        assert_eq!(of("/x?response_format=b64_json").unwrap(), Delivery::Base64);
        assert_eq!(of("/x?response_format=png").unwrap_err().param.as_deref(), Some("response_format"));
        assert_eq!(of("/x?format=png").unwrap_err().code.as_deref(), Some("unknown_parameter"));
    }
}
