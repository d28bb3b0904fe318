//! One HTTP exchange with a provider: sent once, bounded in time, and watched, so that after a failure it is known
//! whether anything had left.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Frame, SizeHint};
use reqwest::header::{CONTENT_LENGTH, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use reqwest::multipart::Form as Multipart;
use reqwest::{Body, Method, Response, StatusCode, Url};
use tokio::time::{Instant, timeout_at};

use super::fault;
use super::provider::{Job, Provider};
use crate::domain::{Fault, FaultKind};

/// The answer to a call: its head is there, its body is still coming.
#[derive(Debug)]
pub(super) struct Reply {
    response: Response,
    deadline: Instant,
    seconds: u64,
}

/// The body of a call.
#[derive(Debug)]
pub(super) enum Payload {
    Nothing,
    Json(String),
    Form(Multipart),
}

/// Submits a job: a POST to a path of the record, named and counted so that after a failure it is known whether
/// anything had left.
///
/// # Errors
/// Nothing came back in time, or nothing left.
pub(super) async fn submit(
    provider: &Provider,
    job: &Job<'_>,
    path: &str,
    query: &[(String, String)],
    payload: Payload,
) -> Result<Reply, Fault> {
    let mut url = address(provider, &named(job, path))?;
    if !query.is_empty() {
        url.query_pairs_mut().extend_pairs(query);
    }
    let deadline = Instant::now() + provider.timeout;
    let sent = Instant::now();
    let reply = send(provider, Method::POST, url, headers(provider, job)?, payload, deadline).await?;
    provider.heard.note(sent, reply.headers(), provider.clock.now());
    Ok(reply)
}

/// Sends one request, with the account's credentials. Its address must be the provider's own.
///
/// # Errors
/// Nothing came back in time, or nothing left.
pub(super) async fn send(
    provider: &Provider,
    method: Method,
    url: Url,
    headers: HeaderMap,
    payload: Payload,
    deadline: Instant,
) -> Result<Reply, Fault> {
    let not_sent = |message: &str| Fault::new(FaultKind::NotSent, message);
    let client = provider.clients.for_base(&url).map_err(|error| not_sent(&error.to_string()))?;
    let is_empty = matches!(payload, Payload::Nothing);
    let request = client.request(method, url).headers(headers);
    let request = match payload {
        Payload::Nothing => request,
        Payload::Json(json) => request.header(CONTENT_TYPE, "application/json").body(json),
        Payload::Form(form) => request.multipart(form),
    };
    let mut request = request.build().map_err(|error| {
        tracing::error!(provider = provider.name, error = %error.without_url(), "a call could not be put together");
        not_sent("the call could not be put together")
    })?;
    provider.credentials.sign(&mut request, &provider.clients, &provider.clock).await?;
    let left = Arc::new(AtomicBool::new(is_empty));
    if let Some(body) = request.body_mut().take() {
        *request.body_mut() = Some(Body::wrap(Watched { body, left: Arc::clone(&left) }));
    }
    let seconds = provider.timeout.as_secs();
    match timeout_at(deadline, client.execute(request)).await {
        Ok(Ok(response)) => {
            if response.status() == StatusCode::UNAUTHORIZED {
                // The next call has another token. This one is not repeated: that is for others to decide.
                provider.credentials.rejected(&provider.clock);
            }
            Ok(Reply { response, deadline, seconds })
        }
        Ok(Err(error)) => Err(fault::of_transport(provider, error, left.load(Ordering::Acquire))),
        Err(_) if left.load(Ordering::Acquire) => Err(fault::too_late(seconds)),
        Err(_) => Err(not_sent("no connection came about in time")),
    }
}

const BAD_HEADER: &str = "its record names a header that cannot be sent";

/// The headers of the record, and the attempt's name.
pub(super) fn headers(provider: &Provider, job: &Job<'_>) -> Result<HeaderMap, Fault> {
    let bad = || Fault::new(FaultKind::NotSent, BAD_HEADER);
    let wire = &job.model.wiring.wire;
    let mut headers = HeaderMap::with_capacity(4);
    let attempt = wire.attempt_header.as_ref().map(|name| (name, job.attempt.to_string()));
    let constant = wire.headers.iter().map(|(name, value)| (name, provider.expand(value)));
    for (name, value) in constant.chain(attempt) {
        let name: HeaderName = name.parse().map_err(|_| bad())?;
        headers.insert(name, HeaderValue::from_str(&value).map_err(|_| bad())?);
    }
    Ok(headers)
}

/// `path` with the name of the job's model in it.
pub(super) fn named(job: &Job<'_>, path: &str) -> String {
    path.replace("{model}", &encoded(job.model.wire_name(), job.model.wiring.wire.encode_model))
}

/// A name as a piece of a path. Slashes stay, unless `all` is to be encoded.
pub(super) fn encoded(name: &str, all: bool) -> String {
    let mut text = String::with_capacity(name.len());
    for (index, segment) in name.split('/').enumerate() {
        if index > 0 {
            text.push_str(if all { "%2F" } else { "/" });
        }
        for byte in segment.bytes() {
            let is_plain = byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'~' | b'.');
            if is_plain || (!all && matches!(byte, b'@' | b':' | b'+' | b',')) {
                text.push(char::from(byte));
            } else {
                text.push_str(&format!("%{byte:02X}"));
            }
        }
    }
    text
}

/// The address of a path of the record.
///
/// # Errors
/// The provider has no address, or the path leaves it.
pub(super) fn address(provider: &Provider, path: &str) -> Result<Url, Fault> {
    let not_sent = |message: &str| Fault::new(FaultKind::NotSent, message);
    let base = provider.base.as_ref().ok_or_else(|| not_sent("it has no address"))?;
    let path = provider.expand_address(path);
    let steps_out = path.split(['/', '?']).any(|segment| segment == ".." || segment == ".");
    let url = Url::parse(&format!("{}{path}", base.as_str().trim_end_matches('/')));
    url.ok().filter(|_| !steps_out).ok_or_else(|| not_sent("the name of the model makes no address"))
}

impl Reply {
    pub(super) fn status(&self) -> u16 {
        self.response.status().as_u16()
    }

    pub(super) fn is_success(&self) -> bool {
        self.response.status().is_success()
    }

    pub(super) fn headers(&self) -> &HeaderMap {
        self.response.headers()
    }

    /// The media type in lower case, without parameters.
    pub(super) fn media_type(&self) -> String {
        let value = self.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
        value.split(';').next().unwrap_or_default().trim().to_ascii_lowercase()
    }

    /// The length of the body, if the provider says it.
    pub(super) fn length(&self) -> Option<usize> {
        self.headers().get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
    }

    /// The next piece of the body; `None` at its end.
    ///
    /// # Errors
    /// It broke off or took too long. It had been sent, so its outcome is unknown.
    pub(super) async fn next(&mut self, provider: &Provider) -> Result<Option<Bytes>, Fault> {
        match timeout_at(self.deadline, self.response.chunk()).await {
            Ok(Ok(piece)) => Ok(piece),
            Ok(Err(error)) => Err(fault::of_transport(provider, error, true)),
            Err(_) => Err(fault::too_late(self.seconds)),
        }
    }

    /// The body, or its first `most` bytes. A body that breaks off is as long as it came: this is for errors,
    /// whose status says the essential.
    pub(super) async fn head_of_body(&mut self, provider: &Provider, most: usize) -> Vec<u8> {
        let mut body = Vec::new();
        while body.len() < most
            && let Ok(Some(piece)) = self.next(provider).await
        {
            let room = most - body.len();
            body.extend_from_slice(piece.get(..room.min(piece.len())).unwrap_or_default());
        }
        body
    }
}

/// A request body that notes when its first byte is asked for. Until then nothing of the call can have been
/// processed anywhere: no server acts on a request whose announced body has not begun.
struct Watched {
    body: Body,
    left: Arc<AtomicBool>,
}

impl http_body::Body for Watched {
    type Data = Bytes;
    type Error = reqwest::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, reqwest::Error>>> {
        self.left.store(true, Ordering::Release);
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
