//! Reads what a caller sends: into one buffer, up to a limit, and without waiting for ever.

use std::time::Duration;

use axum::body::Body;
use axum::http::{HeaderMap, header};
use bytes::{Bytes, BytesMut};
use http_body::Body as _;
use tokio::time::{Instant, timeout, timeout_at};

use crate::error::{Error, Kind, Result};

/// A sender that says nothing for this long is given up.
const STALL: Duration = Duration::from_secs(60);
/// What is read and thrown away of a body that nobody wants …
const DRAIN_BYTES: u64 = 256 << 20;
/// … and for how long.
const DRAIN_TIME: Duration = Duration::from_secs(10);

/// The whole body, if it is not larger than `limit`.
///
/// # Errors
/// Too large, broken off, or stalled.
pub async fn read(headers: &HeaderMap, mut body: Body, limit: usize) -> Result<Bytes> {
    refuse_compression(headers)?;
    let announced = body.size_hint().exact().and_then(|length| usize::try_from(length).ok());
    if body.size_hint().lower() > limit as u64 {
        drain(headers, body).await;
        return Err(too_large(limit));
    }
    // One allocation where the length is known: uploads are megabytes, and growing copies them.
    let mut whole = BytesMut::with_capacity(announced.unwrap_or(16 * 1024).min(limit));
    loop {
        let Ok(next) = timeout(STALL, next_data(&mut body)).await else {
            return Err(Error::new(
                Kind::BadRequest,
                format!("The request body stopped arriving: nothing came for {} s.", STALL.as_secs()),
            )
            .code("body_stalled"));
        };
        match next {
            Some(Ok(data)) if data.len() > limit - whole.len() => {
                drop(data);
                discard(body).await;
                return Err(too_large(limit));
            }
            Some(Ok(data)) => whole.extend_from_slice(&data),
            Some(Err(cause)) => {
                return Err(Error::new(Kind::BadRequest, "The request body ended before it was complete.")
                    .code("body_incomplete")
                    .context("cause", cause));
            }
            None => return Ok(whole.freeze()),
        }
    }
}

/// Gets rid of a body that nobody has begun to read.
pub async fn drain(headers: &HeaderMap, body: Body) {
    // Such a caller waits for the answer before it sends; reading would tell it to go on.
    if !headers.contains_key(header::EXPECT) {
        discard(body).await;
    }
}

/// Reads a bounded part of an unwanted body and throws it away. A caller that is still sending when
/// the connection closes sees a reset in place of the answer that says why.
async fn discard(mut body: Body) {
    let until = Instant::now() + DRAIN_TIME;
    let mut left = DRAIN_BYTES;
    while let Ok(Some(Ok(data))) = timeout_at(until, next_data(&mut body)).await {
        left = left.saturating_sub(data.len() as u64);
        if left == 0 {
            return;
        }
    }
}

async fn next_data(body: &mut Body) -> Option<Result<Bytes, axum::Error>> {
    loop {
        let frame = std::future::poll_fn(|cx| std::pin::Pin::new(&mut *body).poll_frame(cx)).await?;
        match frame {
            // Anything but data is a trailer, which means nothing here.
            Ok(frame) => {
                if let Ok(data) = frame.into_data() {
                    return Some(Ok(data));
                }
            }
            Err(error) => return Some(Err(error)),
        }
    }
}

fn refuse_compression(headers: &HeaderMap) -> Result<()> {
    match headers.get(header::CONTENT_ENCODING) {
        Some(encoding) if !encoding.as_bytes().eq_ignore_ascii_case(b"identity") => Err(Error::new(
            Kind::BadRequest,
            "Compressed request bodies are not accepted: send it without Content-Encoding.",
        )
        .code("unsupported_content_encoding")),
        _ => Ok(()),
    }
}

fn too_large(limit: usize) -> Error {
    Error::new(
        Kind::TooLarge,
        format!(
            "The request body is larger than {limit} bytes ({:.1} MiB), the most that this gateway accepts \
             (server.max_body_mb).",
            limit as f64 / f64::from(1 << 20)
        ),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn block_on<F: Future>(future: F) -> F::Output {
        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
    }

    #[test]
    fn the_limit_is_exact() {
        let read_all = |size: usize| block_on(read(&HeaderMap::new(), Body::from(vec![7; size]), 10));
        assert_eq!(read_all(10).unwrap().len(), 10);
        let error = read_all(11).unwrap_err();
        assert_eq!(error.kind, Kind::TooLarge);
        assert!(error.message.contains("10 bytes"));
    }

    #[test]
    fn compressed_bodies_are_refused() {
        let mut headers = HeaderMap::new();
        headers.insert(header::CONTENT_ENCODING, header::HeaderValue::from_static("gzip"));
        assert_eq!(block_on(read(&headers, Body::empty(), 10)).unwrap_err().kind, Kind::BadRequest);
    }
}
