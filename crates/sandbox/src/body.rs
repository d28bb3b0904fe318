//! A body in pieces: shared bytes without copies, and on demand slow or broken off.

use std::collections::VecDeque;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::{Body, HttpBody};
use bytes::Bytes;
use http_body::{Frame, SizeHint};
use tokio::time::Sleep;

use crate::stats::Visit;

/// How long a body that will break off waits, so that the half it has sent leaves the machine first.
const BEFORE_BREAK: Duration = Duration::from_millis(20);

/// Pieces of a body on their way out.
pub(crate) struct Pieces {
    waiting: VecDeque<Bytes>,
    /// Time before each piece but the first.
    pause: Duration,
    /// The running pause, if one runs.
    sleep: Option<Pin<Box<Sleep>>>,
    started: bool,
    breaks: bool,
    /// Counts the request as in flight until its last piece is handed over.
    visit: Option<Visit>,
}

impl Pieces {
    /// A body that is sent at once.
    pub(crate) fn new(pieces: Vec<Bytes>) -> Self {
        Self { waiting: pieces.into(), pause: Duration::ZERO, sleep: None, started: false, breaks: false, visit: None }
    }

    /// All the bytes, for the `content-length`.
    pub(crate) fn len(&self) -> usize {
        self.waiting.iter().map(Bytes::len).sum()
    }

    /// Waits before every piece but the first; the request is in flight until the last one.
    pub(crate) fn paced(mut self, pause: Duration, visit: Visit) -> Self {
        self.pause = pause;
        self.visit = Some(visit);
        self
    }

    /// The same bytes in about `count` pieces of one length.
    pub(crate) fn cut_into(mut self, count: usize) -> Self {
        let whole = Bytes::from(Vec::from(std::mem::take(&mut self.waiting)).concat());
        let length = whole.len().div_ceil(count.max(1)).max(1);
        self.waiting =
            (0..whole.len()).step_by(length).map(|at| whole.slice(at..(at + length).min(whole.len()))).collect();
        self
    }

    /// Only the first half of the bytes; then the connection breaks.
    pub(crate) fn broken(mut self) -> Self {
        let mut left = self.len() / 2;
        let mut half = VecDeque::new();
        for mut piece in std::mem::take(&mut self.waiting) {
            piece.truncate(left);
            left -= piece.len();
            if !piece.is_empty() {
                half.push_back(piece);
            }
        }
        self.waiting = half;
        self.breaks = true;
        self
    }

    /// Waits for the running pause, or for the one that `time` starts.
    fn wait(&mut self, time: Duration, context: &mut Context<'_>) -> Poll<()> {
        let sleep = self.sleep.get_or_insert_with(|| Box::pin(tokio::time::sleep(time)));
        let ended = sleep.as_mut().poll(context);
        if ended.is_ready() {
            self.sleep = None;
        }
        ended
    }
}

impl HttpBody for Pieces {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        let this = &mut *self;
        if this.waiting.is_empty() {
            if !this.breaks {
                return Poll::Ready(None);
            }
            std::task::ready!(this.wait(BEFORE_BREAK, context));
            return Poll::Ready(Some(Err(io::Error::other("cut off, as the fault asks"))));
        }
        if this.started && !this.pause.is_zero() {
            std::task::ready!(this.wait(this.pause, context));
        }
        this.started = true;
        let piece = this.waiting.pop_front();
        if this.waiting.is_empty() {
            this.visit = None;
        }
        Poll::Ready(piece.map(|piece| Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        self.waiting.is_empty() && !self.breaks
    }

    fn size_hint(&self) -> SizeHint {
        if self.breaks { SizeHint::default() } else { SizeHint::with_exact(self.len() as u64) }
    }
}

impl From<Pieces> for Body {
    fn from(pieces: Pieces) -> Self {
        Self::new(pieces)
    }
}
