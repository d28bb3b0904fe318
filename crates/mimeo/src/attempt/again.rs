//! Whether a call that certainly cost nothing may be made once more, and when.
//!
//! Retries help against a hiccup and do harm in an outage, when everybody makes them at once. So there is a budget
//! per provider: each call pays a tenth of a retry into it, and it holds ten at most (the scheme of gRPC's retry
//! throttling, and of the retry budgets in the Site Reliability Engineering book). However many calls fail, those
//! that are repeated are at most a tenth of all, and ten.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::domain::id;

/// What one retry takes out of a budget, where each call pays in one.
const RETRY: u32 = 10;
/// The most that a budget holds, and what it holds at first.
const FULL: u32 = 10 * RETRY;
/// How long the first retry waits at most; each further one at most twice as long, up to the last.
const WAITS: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(8));

/// The retry budgets by provider. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub(super) struct RetryBudgets(Arc<Mutex<HashMap<String, u32>>>);

impl RetryBudgets {
    /// Notes that a call is made, the first or another one.
    pub(super) fn called(&self, provider: &str) {
        self.with(provider, |budget| *budget = (*budget + 1).min(FULL));
    }

    /// Takes one retry out of the budget of `provider`, if there is one.
    pub(super) fn take(&self, provider: &str) -> bool {
        self.with(provider, |budget| budget.checked_sub(RETRY).inspect(|left| *budget = *left).is_some())
    }

    fn with<T>(&self, provider: &str, change: impl FnOnce(&mut u32) -> T) -> T {
        let mut budgets = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match budgets.get_mut(provider) {
            Some(budget) => change(budget),
            None => change(budgets.entry(provider.to_owned()).or_insert(FULL)),
        }
    }
}

/// How long to wait before retry number `retry`, counted from 0: anything from nothing to a bound that doubles
/// ("full jitter"), so that those who failed together do not come back together.
pub fn backoff(retry: u32) -> Duration {
    let bound = (WAITS.0 * 2_u32.saturating_pow(retry.min(16))).min(WAITS.1);
    bound * (id::random() % 1001) as u32 / 1000
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retries_are_a_tenth_of_all_calls_and_ten() {
        let budgets = RetryBudgets::default();
        let (mut calls, mut retries) = (0_u32, 0_u32);
        for _ in 0..1000 {
            budgets.called("p");
            calls += 1;
            // Everything fails: each call would be repeated as often as it may.
            while budgets.take("p") {
                retries += 1;
                budgets.called("p");
                calls += 1;
            }
            assert!(retries * 10 <= calls + 100, "{retries} retries among {calls} calls");
        }
        assert!(retries > 100, "{retries}");
        assert!(budgets.take("another"), "each has its own");
    }

    #[test]
    fn waits_double_and_are_spread() {
        for (retry, bound) in [(0, 250), (1, 500), (3, 2000), (5, 8000), (9, 8000), (u32::MAX, 8000)] {
            let waits: Vec<u128> = (0..300).map(|_| backoff(retry).as_millis()).collect();
            assert!(waits.iter().all(|wait| *wait <= bound), "{retry}: {waits:?}");
            assert!(waits.iter().any(|wait| *wait < bound / 4) && waits.iter().any(|wait| *wait > bound * 3 / 4));
        }
    }
}
