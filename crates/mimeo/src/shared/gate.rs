//! The limits of one account, as one process keeps them by itself: calls under way, and calls started per
//! minute (evenly spaced, with a burst of a tenth of a minute's worth).

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

use crate::config::Limits;

/// The limits of one account in this process.
#[derive(Debug)]
pub(super) struct Gate {
    concurrent: Option<Arc<Semaphore>>,
    pace: Option<Pace>,
}

/// One of the calls under way, as far as these are limited.
pub(super) type Permit = Option<OwnedSemaphorePermit>;

/// How calls are spaced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Spacing {
    /// Between two calls, if all come evenly spaced.
    pub interval: Duration,
    /// How much earlier than that a call may come.
    pub burst: Duration,
}

impl Spacing {
    /// The spacing of so many calls per minute.
    pub(super) fn per_minute(n: u32) -> Self {
        let interval = Duration::from_secs(60) / n.max(1);
        Spacing { interval, burst: interval * (n / 10) }
    }
}

#[derive(Debug)]
struct Pace {
    spacing: Spacing,
    // The time at which the next call would be due if all came evenly spaced (GCRA).
    due: Mutex<Instant>,
}

impl Gate {
    pub(super) fn new(limits: Limits) -> Self {
        Gate {
            concurrent: limits.concurrent.map(|n| Arc::new(Semaphore::new(n as usize))),
            pace: limits
                .requests_per_minute
                .map(|n| Pace { spacing: Spacing::per_minute(n), due: Mutex::new(Instant::now()) }),
        }
    }

    /// One of the calls under way, if there is room now.
    pub(super) fn try_enter(&self) -> Option<Permit> {
        match &self.concurrent {
            None => Some(None),
            Some(semaphore) => Arc::clone(semaphore).try_acquire_owned().ok().map(Some),
        }
    }

    /// One of the calls under way, after those who came before.
    pub(super) async fn enter(&self) -> Permit {
        match &self.concurrent {
            None => None,
            // The semaphore is never closed.
            Some(semaphore) => Arc::clone(semaphore).acquire_owned().await.ok(),
        }
    }

    /// Books the next slot and tells how long to wait for it; `None` is now. With `later` false, only
    /// a slot that is free now is booked.
    pub(super) fn book(&self, later: bool) -> Option<Duration> {
        self.pace.as_ref()?.book(later)
    }

    /// Both, if that is possible now.
    pub(super) fn try_pass(&self) -> Option<Permit> {
        let permit = self.try_enter()?;
        self.book(false).is_none().then_some(permit)
    }

    /// Both, as soon as possible.
    pub(super) async fn pass(&self) -> Permit {
        let permit = self.enter().await;
        if let Some(wait) = self.book(true) {
            tokio::time::sleep(wait).await;
        }
        permit
    }
}

impl Pace {
    fn book(&self, later: bool) -> Option<Duration> {
        let now = Instant::now();
        let mut due = self.due.lock().unwrap_or_else(PoisonError::into_inner);
        let slot = (*due).max(now);
        let wait = slot.saturating_duration_since(now).saturating_sub(self.spacing.burst);
        if wait.is_zero() || later {
            *due = slot + self.spacing.interval;
        }
        (!wait.is_zero()).then_some(wait)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn calls_are_paced() {
        let gate = Gate::new(Limits { requests_per_minute: Some(60), concurrent: None, queue: None, max_wait_s: 30 });
        let start = Instant::now();
        for _ in 0..67 {
            gate.pass().await;
        }
        // 7 at once (the burst of 6 and the one that is due), then one a second.
        assert_eq!(start.elapsed(), Duration::from_secs(60));
        assert!(gate.try_pass().is_none());
        tokio::time::advance(Duration::from_secs(1)).await;
        assert!(gate.try_pass().is_some());
        assert!(gate.try_pass().is_none());
    }

    #[tokio::test]
    async fn calls_under_way_are_bounded() {
        let gate = Gate::new(Limits { requests_per_minute: None, concurrent: Some(2), queue: None, max_wait_s: 30 });
        let (first, second) = (gate.try_pass(), gate.try_pass());
        assert!(first.is_some() && second.is_some() && gate.try_pass().is_none());
        drop(first);
        assert!(gate.try_pass().is_some());
    }
}
