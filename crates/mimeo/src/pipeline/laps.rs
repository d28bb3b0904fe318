//! How long each phase of a request took, for `server-timing`.

use std::time::Duration;

use tokio::time::Instant;

/// Wall time per phase.
#[derive(Debug)]
pub(super) struct Laps {
    last: Instant,
    laps: Vec<(&'static str, f64)>,
}

impl Laps {
    pub(super) fn new() -> Self {
        Laps { last: Instant::now(), laps: Vec::with_capacity(4) }
    }

    pub(super) fn lap(&mut self, name: &'static str) {
        let now = Instant::now();
        self.laps.push((name, (now - self.last).as_secs_f64() * 1000.0));
        self.last = now;
    }

    /// Adds a lap that somebody else measured.
    pub(super) fn put(&mut self, name: &'static str, took: Duration) {
        self.laps.push((name, took.as_secs_f64() * 1000.0));
        self.last = Instant::now();
    }

    /// Adds what was measured inside of the last lap.
    pub(super) fn extend(&mut self, inner: &[(&'static str, f64)]) {
        self.laps.extend_from_slice(inner);
    }

    pub(super) fn total(&self) -> f64 {
        self.laps.iter().map(|(_, milliseconds)| milliseconds).sum()
    }

    pub(super) fn done(self) -> Vec<(&'static str, f64)> {
        self.laps
    }
}
