//! The handlers of `/v1/images/…`: read, parse, run, answer.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Extension, Request, State};
use axum::http::{HeaderMap, HeaderValue, header};
use axum::response::Response;
use bytes::Bytes;

use super::auth::Identity;
use super::failure::Failure;
use super::load::Turn;
use super::wire::{self, Delivery, Origin, Posted};
use super::{Edge, EdgeOptions, answer, kept, stream, upload};
use crate::domain::{CacheMode, RequestId};
use crate::error::{Error, Kind, Result};
use crate::pipeline::Wish;

/// Bodies from this size on are parsed on a thread for such work: base64 and hashing of many megabytes
/// would hold up everybody else on this one.
const LARGE: usize = 256 * 1024;

/// `POST /v1/images/generations`.
pub async fn generations(
    State(edge): State<Arc<Edge>>,
    Extension(id): Extension<RequestId>,
    Extension(identity): Extension<Identity>,
    request: Request,
) -> Result<Response, Failure> {
    let origin = Origin { id, caller: identity.caller };
    let (turn, headers, posted) = receive_and_parse(&edge, request, origin, wire::generation).await?;
    Ok(turn.until_sent(run(&edge, &headers, posted).await?))
}

/// `POST /v1/images/jobs`: the body of a generation, for who does not wait for it.
pub async fn jobs(
    State(edge): State<Arc<Edge>>,
    Extension(id): Extension<RequestId>,
    Extension(identity): Extension<Identity>,
    request: Request,
) -> Result<Response, Failure> {
    let origin = Origin { id, caller: identity.caller };
    let (turn, mut headers, posted) = receive_and_parse(&edge, request, origin, wire::generation).await?;
    // Whatever else is preferred: a job is not waited for.
    headers.insert("prefer", HeaderValue::from_static("wait=0"));
    if posted.delivery == Delivery::Events {
        return Err(Failure(Error::bad(
            "stream",
            "A job is not streamed: leave `stream` out, or POST /v1/images/generations.",
        )));
    }
    if posted.call.cache.mode == CacheMode::NoStore {
        let message = "A job's pictures are fetched later, so they must be stored: leave `no-store` out.";
        return Err(Failure(Error::bad("cache", message)));
    }
    if !edge.pipeline.stores(&posted.call) {
        let message = "A job's pictures are fetched later, and this model's route stores none (`cache.off`): POST \
                       /v1/images/generations, or name another.";
        return Err(Failure(Error::bad("model", message)));
    }
    Ok(turn.until_sent(run(&edge, &headers, posted).await?))
}

/// `POST /v1/images/edits`.
pub async fn edits(
    State(edge): State<Arc<Edge>>,
    Extension(id): Extension<RequestId>,
    Extension(identity): Extension<Identity>,
    request: Request,
) -> Result<Response, Failure> {
    let origin = Origin { id, caller: identity.caller };
    let sniff = edge.sniff;
    let edit = move |origin, headers: &HeaderMap, body: &Bytes| wire::edit(origin, headers, body, sniff);
    let (turn, headers, posted) = receive_and_parse(&edge, request, origin, edit).await?;
    Ok(turn.until_sent(run(&edge, &headers, posted).await?))
}

/// `POST /v1/images/variations`: no model that still lives can do it.
pub async fn variations(request: Request) -> Failure {
    let (parts, body) = request.into_parts();
    upload::drain(&parts.headers, body).await;
    Failure(
        Error::new(
            Kind::NotFound,
            "No model makes variations any more. POST /v1/images/edits takes a picture and a prompt that says what to vary.",
        )
        .param("model")
        .code("model_not_found"),
    )
}

/// Lets a request in and reads it, or sends it away unread.
pub(super) async fn receive(edge: &Edge, request: Request) -> Result<(Turn, HeaderMap, Bytes)> {
    let (parts, body) = request.into_parts();
    let turn = match edge.load.admit() {
        Ok(turn) => turn,
        Err(full) => {
            upload::brush_off(&parts.headers, body).await;
            return Err(full);
        }
    };
    let EdgeOptions { max_body, timeouts, .. } = &edge.options;
    let patience = Duration::from_secs(u64::from(timeouts.body_s));
    let body = upload::read(&parts.headers, body, *max_body, patience, edge.load.body()).await?;
    Ok((turn, parts.headers, body))
}

/// The same, and what it asks for, as `parser` reads it.
async fn receive_and_parse<F>(
    edge: &Edge,
    request: Request,
    origin: Origin,
    parser: F,
) -> Result<(Turn, HeaderMap, Posted)>
where
    F: FnOnce(Origin, &HeaderMap, &Bytes) -> Result<Posted> + Send + 'static,
{
    let (turn, headers, body) = receive(edge, request).await?;
    if body.len() < LARGE {
        let posted = parser(origin, &headers, &body)?;
        return Ok((turn, headers, posted));
    }
    let asked = headers.clone();
    match edge.tracker.spawn_blocking(move || parser(origin, &asked, &body)).await {
        Ok(posted) => Ok((turn, headers, posted?)),
        Err(cause) => Err(Error::internal("parsing the request", cause)),
    }
}

async fn run(edge: &Arc<Edge>, headers: &HeaderMap, posted: Posted) -> Result<Response> {
    let Posted { call, delivery } = posted;
    let wish = kept::wish(headers, edge.pipeline.stores(&call), delivery)?;
    // Before anything is spent: without it there is nothing to answer with.
    let base = match (delivery, &wish) {
        (Delivery::Url, _) => base_url(edge.options.public_url.as_deref(), headers)?,
        // Who may be told where to ask later finds the path alone as well.
        (_, Some(Wish { wait: Some(_), .. })) => {
            base_url(edge.options.public_url.as_deref(), headers).unwrap_or_default()
        }
        _ => String::new(),
    };
    if delivery == Delivery::Events {
        return stream::respond(edge, call, wish).await;
    }
    let Some(wish) = wish else {
        let mut answer = Box::pin(edge.pipeline.run(call, None)).await?;
        edge.pipeline.bring(&mut answer, delivery == Delivery::Url).await;
        return Ok(answer::respond(&answer, delivery, &base));
    };
    let kept = Box::pin(edge.pipeline.run_kept(call, wish.clone(), None)).await?;
    let kept = kept::brought(edge, kept, delivery).await;
    Ok(kept::respond(kept, &wish, delivery, &base))
}

/// What the addresses that are given out begin with.
///
/// # Errors
/// Nobody says what this gateway is called.
pub fn base_url(public_url: Option<&str>, headers: &HeaderMap) -> Result<String> {
    if let Some(url) = public_url {
        return Ok(url.trim_end_matches('/').to_owned());
    }
    let is_host = |host: &&str| {
        !host.is_empty()
            && host.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_' | b':' | b'[' | b']'))
    };
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok()).filter(is_host);
    host.map(|host| format!("http://{host}")).ok_or_else(|| {
        Error::bad(
            "response_format",
            "Addresses need a Host header in the request, or server.public_url in the configuration.",
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::HeaderValue;

    #[test]
    fn addresses_begin_where_the_caller_came_in() {
        let with = |host: &str| HeaderMap::from_iter([(header::HOST, HeaderValue::from_str(host).unwrap())]);
        assert_eq!(base_url(None, &with("127.0.0.1:8080")).unwrap(), "http://127.0.0.1:8080");
        assert_eq!(base_url(Some("https://p.example/"), &with("x")).unwrap(), "https://p.example");
        assert!(base_url(None, &with("x\"><script>")).is_err());
        assert!(base_url(None, &HeaderMap::new()).is_err());
    }
}
