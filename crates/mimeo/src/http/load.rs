//! How much this process carries at a time, and who is sent away beyond that: at once, before anything is
//! read or spent, and told when to come back. What is let in is then served as fast as ever, and memory has
//! a bound that does not depend on the callers.

use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use http_body::{Frame, SizeHint};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;
use tokio_util::task::TaskTracker;

use crate::domain::id;
use crate::error::{Error, Kind, Result};

/// The unit in which memory for bodies is counted, in bytes.
const UNIT: usize = 1024;
/// How often the log is told that callers are sent away.
const TELL: Duration = Duration::from_secs(10);
/// Tasks that one request may have at a time: its stream and its pictures.
const TASKS_PER_REQUEST: usize = 2;

/// What is carried now, and the most that may be.
#[derive(Debug)]
pub struct Load {
    most: u32,
    requests: Arc<Semaphore>,
    bodies: Arc<Semaphore>,
    work: TaskTracker,
    is_draining: AtomicBool,
    sent_away: AtomicU64,
    told: Mutex<Option<Instant>>,
}

/// The right to have one image request served, until its answer is sent.
#[derive(Debug)]
pub struct Turn {
    _permit: OwnedSemaphorePermit,
}

/// Memory for one body. Given back when the last slice of the body is dropped.
#[derive(Debug)]
pub struct BodyMemory {
    all: Arc<Semaphore>,
    held: Option<OwnedSemaphorePermit>,
}

impl Load {
    /// At most `requests` image requests at a time and `bodies` bytes of request bodies. `work` is the tracker of
    /// what goes on after its caller has left.
    pub fn new(requests: u32, bodies: usize, work: TaskTracker) -> Self {
        Load {
            most: requests,
            requests: Arc::new(Semaphore::new(requests as usize)),
            bodies: Arc::new(Semaphore::new(bodies / UNIT)),
            work,
            is_draining: AtomicBool::new(false),
            sent_away: AtomicU64::new(0),
            told: Mutex::new(None),
        }
    }

    /// Lets an image request in.
    ///
    /// # Errors
    /// The process is full, or stopping.
    pub fn admit(&self) -> Result<Turn> {
        let turn = self.ready().and_then(|()| {
            let turn = Arc::clone(&self.requests).try_acquire_owned();
            turn.map(|permit| Turn { _permit: permit }).map_err(|_| overloaded("requests (server.max_requests)"))
        });
        if turn.is_err() {
            self.tell();
        }
        turn
    }

    /// Tells the log that somebody is sent away: not each time, for that would be most of the work.
    fn tell(&self) {
        let total = self.sent_away.fetch_add(1, Ordering::Relaxed) + 1;
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        if told.is_none_or(|at| at.elapsed() >= TELL) {
            *told = Some(Instant::now());
            tracing::warn!(total, "image requests are sent away: the gateway is full or stopping");
        }
    }

    /// Whether an image request would be let in now.
    ///
    /// # Errors
    /// The process is full, or stopping.
    pub fn ready(&self) -> Result<()> {
        if self.is_draining.load(Ordering::SeqCst) {
            return Err(later(Error::new(Kind::Unavailable, "The gateway is stopping. Send the same request again.")));
        }
        // Who hangs up leaves work behind that is paid and goes on: it must count, or hanging up would be a way in.
        if self.requests.available_permits() == 0 || self.work.len() >= self.most as usize * TASKS_PER_REQUEST {
            return Err(overloaded("requests (server.max_requests)"));
        }
        Ok(())
    }

    /// From here on nobody is let in.
    pub fn drain(&self) {
        self.is_draining.store(true, Ordering::SeqCst);
    }

    /// Waits until every request that was let in is answered. Call [`Load::drain`] before.
    pub async fn idle(&self) {
        // The semaphore is never closed.
        let _ = self.requests.acquire_many(self.most).await;
    }

    /// Memory for one more body, none of it taken yet.
    pub fn body(&self) -> BodyMemory {
        BodyMemory { all: Arc::clone(&self.bodies), held: None }
    }
}

impl Turn {
    /// Ends the turn when the last byte of `response` is sent, or its connection is gone.
    pub fn until_sent(self, response: Response) -> Response {
        response.map(|body| Body::new(Held { body, _turn: self }))
    }
}

impl BodyMemory {
    /// Takes what is lacking for a body of `bytes`.
    ///
    /// # Errors
    /// The bodies of all requests together would need more than they may.
    pub fn grow_to(&mut self, bytes: usize) -> Result<()> {
        let held = self.held.as_ref().map_or(0, OwnedSemaphorePermit::num_permits);
        let lacking = u32::try_from(bytes.div_ceil(UNIT).saturating_sub(held)).unwrap_or(u32::MAX);
        if lacking == 0 {
            return Ok(());
        }
        let Ok(more) = Arc::clone(&self.all).try_acquire_many_owned(lacking) else {
            return Err(overloaded("request bodies (server.max_body_memory_mb)"));
        };
        match &mut self.held {
            Some(held) => held.merge(more),
            None => self.held = Some(more),
        }
        Ok(())
    }

    /// The same bytes, which hold the memory for as long as any slice of them lives.
    pub fn hold(self, whole: Bytes) -> Bytes {
        Bytes::from_owner(Whole { whole, _memory: self })
    }
}

fn overloaded(of_what: &str) -> Error {
    let message = format!("The gateway has as many {of_what} as it may. Nothing was sent or spent. Come back later.");
    later(Error::new(Kind::Unavailable, message).code("overloaded"))
}

/// One to three seconds: those who are sent away together do not come back together.
fn later(mut error: Error) -> Error {
    error.retry_after = Some(Duration::from_secs(1 + (id::random() % 3) as u64));
    error
}

/// A body with the turn that it ends.
struct Held {
    body: Body,
    _turn: Turn,
}

impl http_body::Body for Held {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// A body that was read, with its memory.
struct Whole {
    whole: Bytes,
    _memory: BodyMemory,
}

impl AsRef<[u8]> for Whole {
    fn as_ref(&self) -> &[u8] {
        &self.whole
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(requests: u32) -> Load {
        Load::new(requests, 10 * UNIT, TaskTracker::new())
    }

    fn code(error: &Error) -> (Kind, Option<&str>) {
        assert!((1..=3).contains(&error.retry_after.unwrap().as_secs()));
        (error.kind, error.code.as_deref())
    }

    #[tokio::test]
    async fn requests_are_bounded_until_they_are_answered() {
        let load = load(2);
        let (first, second) = (load.admit().unwrap(), load.admit().unwrap());
        assert_eq!(code(&load.admit().unwrap_err()), (Kind::Unavailable, Some("overloaded")));
        let response = first.until_sent(Response::new(Body::from("picture")));
        assert!(load.ready().is_err(), "its answer is not sent yet");
        assert_eq!(http_body::Body::size_hint(response.body()).exact(), Some(7), "the length is still known");
        drop(response);
        load.ready().unwrap();
        load.drain();
        assert_eq!(code(&load.admit().unwrap_err()), (Kind::Unavailable, None));
        let mut idle = Box::pin(load.idle());
        assert!(futures_util::poll!(&mut idle).is_pending());
        drop(second);
        idle.await;
    }

    #[tokio::test]
    async fn work_whose_caller_has_left_counts() {
        let load = load(1);
        let (end, ended) = tokio::sync::watch::channel(());
        for _ in 0..2 {
            drop(load.admit().unwrap());
            let mut ended = ended.clone();
            load.work.spawn(async move { drop(ended.changed().await) });
        }
        assert_eq!(code(&load.admit().unwrap_err()), (Kind::Unavailable, Some("overloaded")));
        drop(end);
        load.work.close();
        load.work.wait().await;
        load.admit().unwrap();
    }

    #[test]
    fn bodies_hold_their_memory_until_the_last_slice_is_gone() {
        let load = load(1);
        let mut first = load.body();
        first.grow_to(3 * UNIT).unwrap();
        first.grow_to(8 * UNIT - 1).unwrap();
        let mut second = load.body();
        second.grow_to(2 * UNIT).unwrap();
        assert_eq!(code(&second.grow_to(2 * UNIT + 1).unwrap_err()), (Kind::Unavailable, Some("overloaded")));
        let body = first.hold(Bytes::from(vec![7; 8 * UNIT]));
        let slice = body.slice(5..9);
        drop(body);
        assert!(second.grow_to(3 * UNIT).is_err());
        assert_eq!(&slice[..], [7; 4]);
        drop(slice);
        second.grow_to(10 * UNIT).unwrap();
    }
}
