//! How long candidates take, and how often they fail: learned from the calls of all processes on one store, and
//! forgotten again.
//!
//! Times lie in buckets that are each an eighth wider than the one before, so that a quantile is exact to 6 %. What is
//! old weighs less: half after half an hour, and each new call takes a fiftieth of the weight of all before it. Calls
//! that come after five minutes without one are kept apart: they may have to wait until something is started.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::clock::{Clock, Millis, millis};
use crate::domain::{AttemptId, Seconds};
use crate::store::{PastCall, Store, StoreError, Timing};

/// After which time what was learned counts half.
const HALF_LIFE: Duration = Duration::from_secs(1800);
/// What is left of the weight of all calls when another one comes.
const FADE: f64 = 0.98;
/// From which pause on a call finds its candidate cold.
const COLD: Duration = Duration::from_secs(300);
/// The upper end of the first bucket, in seconds, how much further each next one goes, and how many there are: up to
/// half an hour.
const BUCKETS: (f64, f64, usize) = (0.02, 1.125, 98);
/// So many calls the catalogue's word counts for.
const PRIOR: f64 = 3.0;
/// How far back whoever begins looks: after four half-lives a call counts a sixteenth.
const MEMORY: Duration = Duration::from_secs(4 * 1800);
/// How far back whoever knows of them looks for the calls of others. Longer than clocks differ and commits take.
const RECENT: Duration = Duration::from_secs(60);
/// Calls that are read at once, the newest: of each candidate hardly more than the last two hundred matter.
const MOST: u32 = 5000;

/// What was learned of all candidates. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Performance(Arc<Mutex<All>>);

#[derive(Debug, Default)]
struct All {
    candidates: HashMap<String, Learned>,
    /// The calls that count already and could be read once more, and when they ended.
    counted: HashMap<AttemptId, Instant>,
}

/// What was learned of one.
#[derive(Clone, Debug)]
struct Learned {
    warm: Times,
    cold: Times,
    calls: f64,
    failed: f64,
    /// When the last one ended.
    last: Instant,
}

/// How long calls took.
#[derive(Clone, Debug)]
struct Times {
    weights: Vec<f64>,
    total: f64,
}

/// What is known of a candidate's calls.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Known {
    /// How long they take; `None` if nobody knows.
    pub time: Option<Seconds>,
    /// The part of them that fails (0–1).
    pub errors: f64,
    /// How long ago the last one was; `None` is never.
    pub idle: Option<Duration>,
}

impl Times {
    const NONE: Times = Times { weights: Vec::new(), total: 0.0 };

    fn add(&mut self, seconds: f64, weight: f64) {
        let (first, factor, count) = BUCKETS;
        let bucket = ((seconds.max(first) / first).ln() / factor.ln()).ceil() as usize;
        if self.weights.is_empty() {
            self.weights = vec![0.0; count];
        }
        if let Some(slot) = self.weights.get_mut(bucket.min(count - 1)) {
            *slot += weight;
            self.total += weight;
        }
    }

    fn fade(&mut self, by: f64) {
        self.weights.iter_mut().for_each(|weight| *weight *= by);
        self.total *= by;
    }

    /// The time that this part of the calls stays below, in seconds.
    fn quantile(&self, part: f64) -> f64 {
        let (first, factor, _) = BUCKETS;
        let mut below = 0.0;
        for (bucket, weight) in self.weights.iter().enumerate() {
            below += weight;
            if below >= part * self.total && *weight > 0.0 {
                // The middle of the bucket, as its ends are a factor apart.
                return first * factor.powf(bucket as f64 - 0.5);
            }
        }
        0.0
    }
}

impl Learned {
    fn new(now: Instant) -> Learned {
        Learned { warm: Times::NONE, cold: Times::NONE, calls: 0.0, failed: 0.0, last: now }
    }

    /// The part of the weight that is left after a time.
    fn left(&self, now: Instant) -> f64 {
        left(now.saturating_duration_since(self.last))
    }
}

/// The part of its weight that something has so long afterwards.
fn left(age: Duration) -> f64 {
    0.5_f64.powf(age.as_secs_f64() / HALF_LIFE.as_secs_f64())
}

impl All {
    /// Counts a call that ended at `at`, once.
    fn count(&mut self, attempt: AttemptId, timing: &Timing, is_made: bool, at: Instant) {
        if self.counted.insert(attempt, at).is_some() {
            return;
        }
        let Timing { candidate, took } = timing;
        let known = self.candidates.contains_key(candidate);
        let learned = match self.candidates.get_mut(candidate) {
            Some(learned) => learned,
            None => self.candidates.entry(candidate.clone()).or_insert_with(|| Learned::new(at)),
        };
        let began = at.checked_sub(*took).unwrap_or(at);
        let is_cold = !known || began.saturating_duration_since(learned.last) >= COLD;
        // Another process' call may be heard of after a later one.
        let weight = left(learned.last.saturating_duration_since(at));
        let fade = FADE * learned.left(at);
        learned.calls = learned.calls * fade + weight;
        learned.failed *= fade;
        learned.warm.fade(if is_cold { learned.left(at) } else { fade });
        learned.cold.fade(if is_cold { fade } else { learned.left(at) });
        learned.last = learned.last.max(at);
        if is_made {
            let times = if is_cold { &mut learned.cold } else { &mut learned.warm };
            times.add(took.as_secs_f64(), weight);
        } else {
            learned.failed += weight;
        }
    }
}

impl Performance {
    /// Notes that a call of this process has just ended, with pictures or without.
    pub fn note(&self, attempt: AttemptId, timing: &Timing, is_made: bool) {
        self.all().count(attempt, timing, is_made, Instant::now());
    }

    /// What the calls of the last two hours teach that `store` knows of, whoever made them.
    ///
    /// # Errors
    /// The store fails.
    pub async fn begin(&self, store: &Store, clock: &Clock) -> Result<(), StoreError> {
        self.read(store, clock.now(), MEMORY).await
    }

    /// Learns from the calls that other processes have ended since this was asked last, which must not be a minute ago.
    ///
    /// # Errors
    /// The store fails.
    pub async fn refresh(&self, store: &Store, clock: &Clock) -> Result<(), StoreError> {
        self.read(store, clock.now(), RECENT).await
    }

    async fn read(&self, store: &Store, now: Millis, of: Duration) -> Result<(), StoreError> {
        self.hear(&store.calls_since(now.saturating_sub(millis(of)), MOST).await?, now);
        Ok(())
    }

    /// Counts calls that were read `now`, oldest first, as far as they do not count yet.
    fn hear(&self, calls: &[PastCall], now: Millis) {
        let mut all = self.all();
        let here = Instant::now();
        for call in calls {
            let age = Duration::from_millis(u64::try_from(now.saturating_sub(call.at_ms)).unwrap_or(0));
            all.count(call.attempt, &call.timing, call.is_made, here.checked_sub(age).unwrap_or(here));
        }
        all.counted.retain(|_, at| here.saturating_duration_since(*at) < RECENT * 2);
    }

    /// What is known of `candidate`. `typical` is how long the catalogue says that its calls take, and `cold_start` how
    /// much longer after a pause.
    pub fn of(&self, candidate: &str, typical: Option<Duration>, cold_start: Duration) -> Known {
        let now = Instant::now();
        let all = self.all();
        let learned = all.candidates.get(candidate);
        let idle = learned.map(|learned| now.saturating_duration_since(learned.last));
        let is_cold = idle.is_none_or(|idle| idle >= COLD);
        let left = learned.map_or(0.0, |learned| learned.left(now));
        let (mut times, mut cold_start) = (Times::NONE, if is_cold { cold_start } else { Duration::ZERO });
        if let Some(learned) = learned {
            let is_told = is_cold && learned.cold.total > 0.0;
            times = if is_told || learned.warm.total <= 0.0 { learned.cold.clone() } else { learned.warm.clone() };
            if is_told {
                cold_start = Duration::ZERO;
            }
            times.fade(left);
        }
        let evidence = times.total;
        if let Some(typical) = typical {
            // As if so many calls had taken as long as the catalogue says, every third of them twice as long; fewer, the
            // more real ones there are.
            let (typical, prior) = (typical.as_secs_f64(), PRIOR / (1.0 + evidence));
            times.add(typical, prior * 2.0 / 3.0);
            times.add(typical * 2.0, prior / 3.0);
        }
        let time = (times.total > 0.0).then(|| Seconds {
            p50: times.quantile(0.5) + cold_start.as_secs_f64(),
            p95: times.quantile(0.95) + cold_start.as_secs_f64(),
            evidence,
        });
        // One failure is no rule: two calls that went well are thought to be before it.
        let errors = learned.map_or(0.0, |learned| learned.failed * left / (learned.calls * left + 2.0));
        Known { time, errors, idle }
    }

    fn all(&self) -> MutexGuard<'_, All> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(seconds: f64) -> Duration {
        Duration::from_secs_f64(seconds)
    }

    impl Performance {
        /// A call to `a` that ends now.
        fn called(&self, took: f64, is_made: bool) {
            let timing = Timing { candidate: "a".to_owned(), took: seconds(took) };
            self.note(AttemptId::random(), &timing, is_made);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn quantiles_are_those_of_late() {
        let all = Performance::default();
        for call in 0..200 {
            tokio::time::advance(seconds(1.0)).await;
            all.called(if call % 10 == 9 { 8.0 } else { 2.0 }, true);
        }
        let time = all.of("a", None, Duration::ZERO).time.unwrap();
        assert!((1.85..2.15).contains(&time.p50) && (7.4..8.6).contains(&time.p95), "{time:?}");
        // It has become fast: what was before is forgotten within some hundred calls.
        for _ in 0..200 {
            tokio::time::advance(seconds(1.0)).await;
            all.called(0.5, true);
        }
        let time = all.of("a", None, Duration::ZERO).time.unwrap();
        assert!(time.p95 < 0.6, "{time:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn the_catalogue_is_believed_until_calls_say_otherwise() {
        let all = Performance::default();
        assert_eq!(all.of("a", None, Duration::ZERO).time, None);
        let time = all.of("a", Some(seconds(10.0)), seconds(5.0)).time.unwrap();
        assert!((14.0..16.0).contains(&time.p50) && time.p95 > 20.0 && time.evidence == 0.0, "{time:?}");
        for _ in 0..60 {
            tokio::time::advance(seconds(1.0)).await;
            all.called(1.0, true);
        }
        let time = all.of("a", Some(seconds(10.0)), seconds(5.0)).time.unwrap();
        assert!((0.9..1.1).contains(&time.p50), "{time:?}");
        // After a day it is the catalogue's word again.
        tokio::time::advance(Duration::from_secs(86_400)).await;
        let time = all.of("a", Some(seconds(10.0)), Duration::ZERO).time.unwrap();
        assert!((9.0..11.0).contains(&time.p50), "{time:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_cold_start_is_learned_apart() {
        let all = Performance::default();
        for _ in 0..10 {
            tokio::time::advance(Duration::from_secs(600)).await;
            all.called(20.0, true);
            for _ in 0..5 {
                tokio::time::advance(seconds(3.0)).await;
                all.called(2.0, true);
            }
        }
        let warm = all.of("a", None, Duration::ZERO).time.unwrap();
        assert!(warm.p50 < 2.3, "{warm:?}");
        tokio::time::advance(Duration::from_secs(400)).await;
        let cold = all.of("a", None, Duration::ZERO).time.unwrap();
        assert!(cold.p50 > 18.0, "{cold:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn failures_count_and_are_forgotten() {
        let all = Performance::default();
        for call in 0..100 {
            all.called(1.0, call % 2 == 0);
        }
        assert!((0.4..0.6).contains(&all.of("a", None, Duration::ZERO).errors));
        tokio::time::advance(HALF_LIFE * 10).await;
        assert!(all.of("a", None, Duration::ZERO).errors < 0.1);
    }

    fn past(took: f64, at_ms: Millis) -> PastCall {
        let timing = Timing { candidate: "a".to_owned(), took: seconds(took) };
        PastCall { attempt: AttemptId::random(), timing, is_made: true, at_ms }
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_read_counts_as_what_was_seen() {
        let (seen, read) = (Performance::default(), Performance::default());
        let mut calls = Vec::new();
        for call in 0..100_i64 {
            tokio::time::advance(seconds(30.0)).await;
            let took = if call % 10 == 9 { 9.0 } else { 3.0 };
            seen.called(took, true);
            calls.push(past(took, (call + 1) * 30_000));
        }
        read.hear(&calls, 100 * 30_000);
        assert_eq!(read.of("a", None, Duration::ZERO), seen.of("a", None, Duration::ZERO));
        // Once more is not twice.
        read.hear(&calls[98..], 100 * 30_000);
        assert_eq!(read.of("a", None, Duration::ZERO), seen.of("a", None, Duration::ZERO));
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_heard_late_counts_for_its_age() {
        let all = Performance::default();
        tokio::time::advance(HALF_LIFE * 4).await;
        for _ in 0..4 {
            all.called(1.0, true);
        }
        // Eight that took long, three half-lives ago: they weigh as one.
        let now = i64::try_from(HALF_LIFE.as_millis()).unwrap() * 4;
        let long_ago: Vec<PastCall> = (0..8).map(|_| past(60.0, now / 4)).collect();
        all.hear(&long_ago, now);
        let known = all.of("a", None, Duration::ZERO);
        assert_eq!(known.idle, Some(Duration::ZERO), "the last one is not the one that was heard last");
        let time = known.time.unwrap();
        assert!(time.p50 < 1.1 && time.p95 > 50.0 && (3.0..4.0).contains(&time.evidence), "{time:?}");
    }
}
