//! Counters of paid requests.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use serde::Serialize;

/// The counters, as `GET /control/stats` shows them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Stats {
    /// Requests that came to a paid route, the invalid and refused ones included.
    pub requests_seen: u64,
    /// Requests billed in this book, earlier runs included.
    pub billed: u64,
    /// Paid requests being worked on.
    pub in_flight: u64,
    /// The most paid requests that were ever worked on at once.
    pub peak_in_flight: u64,
    /// Clients that followed a `redirect` fault to `/elsewhere`.
    pub redirects_followed: u64,
    /// Pictures that were fetched with a key in a header, although they are given to everybody: keys given away.
    pub key_leaks: u64,
    /// Jobs that simulations accepted.
    pub jobs: u64,
    /// Requests that asked how a job is doing, or for its result.
    pub polls: u64,
    /// Calls that told a webhook address of the end of a job, and were answered with success.
    pub webhooks_delivered: u64,
    /// The same that failed; each is tried three times.
    pub webhooks_failed: u64,
}

/// The live counters.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    seen: AtomicU64,
    in_flight: AtomicU64,
    peak: AtomicU64,
    followed: AtomicU64,
    leaks: AtomicU64,
    jobs: AtomicU64,
    polls: AtomicU64,
    delivered: AtomicU64,
    undelivered: AtomicU64,
    answers: AtomicU64,
}

impl Counters {
    /// Counts a paid request as seen, and as in flight until the visit is dropped.
    pub(crate) fn enter(self: &Arc<Self>) -> Visit {
        self.seen.fetch_add(1, Relaxed);
        let now = self.in_flight.fetch_add(1, Relaxed) + 1;
        self.peak.fetch_max(now, Relaxed);
        Visit(Arc::clone(self))
    }

    /// Counts a followed redirect.
    pub(crate) fn follow(&self) {
        self.followed.fetch_add(1, Relaxed);
    }

    /// Counts a key that was sent where it has no business.
    pub(crate) fn leak(&self) {
        self.leaks.fetch_add(1, Relaxed);
    }

    /// Counts an accepted job.
    pub(crate) fn accept(&self) {
        self.jobs.fetch_add(1, Relaxed);
    }

    /// Counts a look at a job.
    pub(crate) fn poll(&self) {
        self.polls.fetch_add(1, Relaxed);
    }

    /// Counts a call to a webhook address.
    pub(crate) fn call(&self, delivered: bool) {
        if delivered { &self.delivered } else { &self.undelivered }.fetch_add(1, Relaxed);
    }

    /// The number of the next answer, from 1.
    pub(crate) fn next_id(&self) -> u64 {
        self.answers.fetch_add(1, Relaxed) + 1
    }

    /// The counters now. `billed` is the book's to say.
    pub(crate) fn read(&self, billed: u64) -> Stats {
        Stats {
            requests_seen: self.seen.load(Relaxed),
            billed,
            in_flight: self.in_flight.load(Relaxed),
            peak_in_flight: self.peak.load(Relaxed),
            redirects_followed: self.followed.load(Relaxed),
            key_leaks: self.leaks.load(Relaxed),
            jobs: self.jobs.load(Relaxed),
            polls: self.polls.load(Relaxed),
            webhooks_delivered: self.delivered.load(Relaxed),
            webhooks_failed: self.undelivered.load(Relaxed),
        }
    }
}

/// One paid request in flight.
#[derive(Debug)]
pub(crate) struct Visit(Arc<Counters>);

impl Drop for Visit {
    fn drop(&mut self) {
        self.0.in_flight.fetch_sub(1, Relaxed);
    }
}
