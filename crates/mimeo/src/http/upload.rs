//! Reads what a caller sends: into one buffer, up to a limit, and without waiting for ever.

use std::time::Duration;

use axum::body::Body;
use axum::http::{HeaderMap, header};
use bytes::{Bytes, BytesMut};
use http_body::Body as _;
use tokio::time::{Instant, timeout_at};

use super::load::BodyMemory;
use crate::error::{Error, Kind, Result};

/// What a sender must bring within its patience, again and again: a byte now and then would keep a connection,
/// and the memory for its body, for ever.
const PROGRESS: usize = 16 << 10;
/// What is read and thrown away of a body that nobody wants …
const DRAIN_BYTES: u64 = 256 << 20;
/// … and for how long.
const DRAIN_TIME: Duration = Duration::from_secs(10);
/// The same for the body of somebody who is sent away because there is too much to do already …
const BRUSH_OFF_BYTES: u64 = 1 << 20;
/// … and for how long.
const BRUSH_OFF_TIME: Duration = Duration::from_secs(1);

/// The whole body, if it is not larger than `limit` bytes and keeps coming. Takes what it needs of `memory`: all
/// of it at once where the length is announced, else as it comes.
///
/// # Errors
/// Too large, broken off, too slow, or no memory for it.
pub async fn read(
    headers: &HeaderMap,
    mut body: Body,
    limit: usize,
    patience: Duration,
    mut memory: BodyMemory,
) -> Result<Bytes> {
    refuse_compression(headers)?;
    let announced = body.size_hint().exact().and_then(|length| usize::try_from(length).ok());
    if body.size_hint().lower() > limit as u64 {
        drain(headers, body).await;
        return Err(too_large(limit));
    }
    if let Err(full) = memory.grow_to(announced.unwrap_or(0)) {
        brush_off(headers, body).await;
        return Err(full);
    }
    // One allocation where the length is known: uploads are megabytes, and growing copies them.
    let mut whole = BytesMut::with_capacity(announced.unwrap_or(16 * 1024).min(limit));
    let (mut until, mut came) = (Instant::now() + patience, 0);
    loop {
        let Ok(next) = timeout_at(until, next_data(&mut body)).await else {
            return Err(Error::new(
                Kind::Stalled,
                format!(
                    "The request body stopped arriving: less than {PROGRESS} bytes came within {} s \
                     (server.timeouts.body_s).",
                    patience.as_secs()
                ),
            ));
        };
        match next {
            Some(Ok(data)) if data.len() > limit - whole.len() => {
                drop(data);
                discard(body, DRAIN_BYTES, DRAIN_TIME).await;
                return Err(too_large(limit));
            }
            Some(Ok(data)) => {
                if let Err(full) = memory.grow_to(whole.len() + data.len()) {
                    drop((data, whole));
                    discard(body, BRUSH_OFF_BYTES, BRUSH_OFF_TIME).await;
                    return Err(full);
                }
                whole.extend_from_slice(&data);
                if whole.len() - came >= PROGRESS {
                    (until, came) = (Instant::now() + patience, whole.len());
                }
            }
            Some(Err(cause)) => {
                return Err(Error::new(Kind::BadRequest, "The request body ended before it was complete.")
                    .code("body_incomplete")
                    .context("cause", cause));
            }
            None => return Ok(memory.hold(whole.freeze())),
        }
    }
}

/// Gets rid of a body that nobody has begun to read.
pub async fn drain(headers: &HeaderMap, body: Body) {
    // Such a caller waits for the answer before it sends; reading would tell it to go on.
    if !headers.contains_key(header::EXPECT) {
        discard(body, DRAIN_BYTES, DRAIN_TIME).await;
    }
}

/// The same, of somebody who is sent away because there is too much to do: next to no more work for that.
pub async fn brush_off(headers: &HeaderMap, body: Body) {
    if !headers.contains_key(header::EXPECT) {
        discard(body, BRUSH_OFF_BYTES, BRUSH_OFF_TIME).await;
    }
}

/// Reads a bounded part of an unwanted body and throws it away. A caller that is still sending when
/// the connection closes sees a reset in place of the answer that says why.
async fn discard(mut body: Body, bytes: u64, time: Duration) {
    let until = Instant::now() + time;
    let mut left = bytes;
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
    use super::super::load::Load;
    use super::*;
    use futures_util::StreamExt as _;

    fn memory(bytes: usize) -> BodyMemory {
        Load::new(1, bytes, tokio_util::task::TaskTracker::new()).body()
    }

    const PATIENCE: Duration = Duration::from_secs(30);

    /// A body that comes in pieces of that size, with a pause before each.
    fn dripping(size: usize, pieces: u64, pause: Duration) -> Body {
        let pieces = futures_util::stream::iter(0..pieces).then(move |_| async move {
            tokio::time::sleep(pause).await;
            Ok::<_, std::convert::Infallible>(Bytes::from(vec![7; size]))
        });
        Body::from_stream(pieces)
    }

    #[tokio::test(start_paused = true)]
    async fn slow_senders_are_given_up_and_steady_ones_are_not() {
        let send = |size, pieces| {
            let body = dripping(size, pieces, Duration::from_secs(20));
            async move { read(&HeaderMap::new(), body, 1 << 20, PATIENCE, memory(1 << 20)).await }
        };
        assert_eq!(send(PROGRESS, 50).await.unwrap().len(), 50 * PROGRESS);
        let start = Instant::now();
        assert_eq!(send(1, 50).await.unwrap_err().kind, Kind::Stalled);
        assert_eq!(start.elapsed(), PATIENCE, "a byte now and then is no progress");
    }

    #[tokio::test(start_paused = true)]
    async fn bodies_need_memory_announced_or_not() {
        let full = |error: Error| (error.kind, error.code, error.retry_after.is_some());
        let expected = (Kind::Unavailable, Some("overloaded".to_owned()), true);
        let announced = read(&HeaderMap::new(), Body::from(vec![7; 2049]), 1 << 20, PATIENCE, memory(2048)).await;
        assert_eq!(full(announced.unwrap_err()), expected);
        let chunked = async |pieces| {
            let body = dripping(1024, pieces, Duration::from_secs(1));
            read(&HeaderMap::new(), body, 1 << 20, PATIENCE, memory(2048)).await
        };
        assert_eq!(chunked(2).await.unwrap().len(), 2048);
        assert_eq!(full(chunked(3).await.unwrap_err()), expected);
    }

    fn block_on<F: Future>(future: F) -> F::Output {
        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
    }

    #[test]
    fn the_limit_is_exact() {
        let read_all =
            |size: usize| block_on(read(&HeaderMap::new(), Body::from(vec![7; size]), 10, PATIENCE, memory(1024)));
        assert_eq!(read_all(10).unwrap().len(), 10);
        let error = read_all(11).unwrap_err();
        assert_eq!(error.kind, Kind::TooLarge);
        assert!(error.message.contains("10 bytes"));
    }

    #[test]
    fn compressed_bodies_are_refused() {
        let mut headers = HeaderMap::new();
        headers.insert(header::CONTENT_ENCODING, header::HeaderValue::from_static("gzip"));
        assert_eq!(
            block_on(read(&headers, Body::empty(), 10, PATIENCE, memory(0))).unwrap_err().kind,
            Kind::BadRequest
        );
    }
}
