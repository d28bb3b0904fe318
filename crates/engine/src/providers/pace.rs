//! How often a job is asked for: at first soon, then ever more seldom.

use std::time::Duration;

use super::wiring::JobRules;

/// The pauses between the questions about one job.
#[derive(Debug)]
pub(super) struct Pace {
    every: Duration,
    most: Duration,
}

impl Pace {
    /// The pause before the first question, and those after it, as the record has them.
    pub(super) fn of(rules: &JobRules) -> (Duration, Pace) {
        let millis = |given: Option<u32>, usual: u32| Duration::from_millis(u64::from(given.unwrap_or(usual)));
        let most = millis(rules.most_ms, 5000);
        (millis(rules.delay_ms, 500), Pace { every: millis(rules.every_ms, 1000).min(most), most })
    }

    /// The same for a job that somebody calls back about: as seldom as may be from the beginning, and no more often than
    /// once in `least`.
    pub(super) fn no_faster_than(self, least: Duration) -> Pace {
        let most = self.most.max(least);
        Pace { every: most, most }
    }

    /// The next pause. Each is a quarter longer than the one before, up to the longest.
    pub(super) fn next(&mut self) -> Duration {
        let pause = self.every;
        self.every = (pause + pause / 4).min(self.most);
        pause
    }
}
