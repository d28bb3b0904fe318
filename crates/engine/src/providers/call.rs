//! One HTTP exchange with a provider: sent once, bounded in time, and watched, so that after a failure it is known
//! whether anything had left.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Frame, SizeHint};
use reqwest::header::{AUTHORIZATION, CONTENT_LENGTH, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use reqwest::{Body, RequestBuilder, Response};
use tokio::time::{Instant, timeout_at};

use super::fault;
use super::provider::{Job, Provider};
use super::record::Scheme;
use crate::domain::{Fault, FaultKind};

/// The answer to a call: its head is there, its body is still coming.
#[derive(Debug)]
pub(super) struct Reply {
    response: Response,
    deadline: Instant,
    seconds: u64,
}

/// Sends a POST to `path`, with the body that `body` puts into it.
pub(super) async fn post(
    provider: &Provider,
    job: &Job<'_>,
    path: &str,
    body: impl FnOnce(RequestBuilder) -> RequestBuilder,
) -> Result<Reply, Fault> {
    let not_sent = |message: &str| Fault::new(FaultKind::NotSent, message);
    let base = provider.base.as_ref().ok_or_else(|| not_sent("it has no address"))?;
    let client = provider.clients.for_base(base).map_err(|error| not_sent(&error.to_string()))?;
    let address = format!("{}{path}", base.as_str().trim_end_matches('/'));
    let request = body(client.post(address).headers(headers(provider, job)?)).build();
    let mut request = request.map_err(|error| {
        tracing::error!(provider = provider.name, error = %error.without_url(), "a call could not be put together");
        not_sent("the call could not be put together")
    })?;
    let left = Arc::new(AtomicBool::new(false));
    if let Some(body) = request.body_mut().take() {
        *request.body_mut() = Some(Body::wrap(Watched { body, left: Arc::clone(&left) }));
    }
    let deadline = Instant::now() + provider.timeout;
    let seconds = provider.timeout.as_secs();
    let sent = Instant::now();
    match timeout_at(deadline, client.execute(request)).await {
        Ok(Ok(response)) => {
            provider.heard.note(sent, response.headers(), provider.clock.now());
            Ok(Reply { response, deadline, seconds })
        }
        Ok(Err(error)) => Err(fault::of_transport(provider, error, left.load(Ordering::Acquire))),
        Err(_) if left.load(Ordering::Acquire) => Err(fault::too_late(seconds)),
        Err(_) => Err(not_sent("no connection came about in time")),
    }
}

fn headers(provider: &Provider, job: &Job<'_>) -> Result<HeaderMap, Fault> {
    let bad = |_| Fault::new(FaultKind::NotSent, "its record names a header that cannot be sent");
    let mut headers = HeaderMap::with_capacity(4);
    if let Some(name) = &provider.record.wire.attempt_header {
        let name: HeaderName = name.parse().map_err(|_| bad(()))?;
        headers.insert(name, HeaderValue::from_str(&job.attempt.to_string()).map_err(|_| bad(()))?);
    }
    if let Some((name, value)) = credentials(provider).map_err(|()| bad(()))? {
        headers.insert(name, value);
    }
    Ok(headers)
}

/// The header that carries the key, if there is one.
pub(super) fn credentials(provider: &Provider) -> Result<Option<(HeaderName, HeaderValue)>, ()> {
    let Some(key) = &provider.key else { return Ok(None) };
    let auth = &provider.record.auth;
    let (name, value) = match (auth.scheme, &auth.header) {
        (Scheme::None, _) => return Ok(None),
        (Scheme::Bearer, _) => (AUTHORIZATION, format!("Bearer {}", key.reveal())),
        (Scheme::Header, Some(name)) => (name.parse().map_err(|_| ())?, key.reveal().to_owned()),
        (Scheme::Header, None) => return Err(()),
    };
    let mut value = HeaderValue::from_str(&value).map_err(|_| ())?;
    // Keeps it out of every log of the HTTP library, and out of the HTTP/2 compression tables.
    value.set_sensitive(true);
    Ok(Some((name, value)))
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
