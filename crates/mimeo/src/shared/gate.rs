//! The limits of one account as one process keeps them by itself: calls and pictures under way, those that begin in a
//! window, and what was learned from the provider's answers.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

use super::learn::Learned;
use super::pace::{Pace, Rule};
use crate::config::Limits;
use crate::domain::RateNews;

/// The limits of one account in this process.
#[derive(Debug)]
pub(super) struct Gate {
    limits: Limits,
    now: Mutex<State>,
    /// Somebody has left, or something was learned: who waits asks again.
    pub changed: Notify,
}

#[derive(Debug)]
struct State {
    calls: u32,
    pictures: u32,
    paces: Vec<Pace>,
    learned: Learned,
}

/// What the gate says to a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Says {
    /// Go.
    Go,
    /// Not before this time has passed.
    Later(Duration),
    /// Not before another one has ended.
    Full,
}

/// Who keeps an account's limits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Keeper {
    /// So many processes, each its part.
    Alone(u32),
    /// All together elsewhere; here only what nobody may exceed.
    Elsewhere,
}

/// One of the calls under way, until it is dropped.
#[derive(Debug)]
pub(super) struct Permit {
    gate: Arc<Gate>,
    pictures: u32,
    /// When it got through.
    pub begun: Instant,
}

impl Gate {
    pub(super) fn new(limits: Limits) -> Self {
        let now = Instant::now();
        let paces = Rule::all(&limits).into_iter().map(|rule| Pace::new(rule, now)).collect();
        let now = Mutex::new(State { calls: 0, pictures: 0, paces, learned: Learned::default() });
        Gate { limits, now, changed: Notify::new() }
    }

    /// Whether a call for so many pictures may begin. Takes nothing.
    pub(super) fn ask(&self, pictures: u32, keeper: Keeper) -> Says {
        self.state().ask(&self.limits, pictures, keeper, Instant::now())
    }

    /// Takes what a call for so many pictures needs, whether it may begin or not.
    pub(super) fn take(self: &Arc<Self>, pictures: u32, keeper: Keeper) -> Permit {
        let begun = Instant::now();
        self.state().take(pictures, keeper, begun);
        Permit { gate: Arc::clone(self), pictures, begun }
    }

    /// Both in one step, if it may begin.
    pub(super) fn try_take(self: &Arc<Self>, pictures: u32, keeper: Keeper) -> Result<Permit, Says> {
        let (mut state, now) = (self.state(), Instant::now());
        match state.ask(&self.limits, pictures, keeper, now) {
            Says::Go => state.take(pictures, keeper, now),
            not_now => return Err(not_now),
        }
        drop(state);
        Ok(Permit { gate: Arc::clone(self), pictures, begun: now })
    }

    /// How long nothing at all will be let through, and the time between two calls from then on, as far as either is
    /// known.
    pub(super) fn outlook(&self, keeper: Keeper) -> (Duration, Duration) {
        let (state, now) = (self.state(), Instant::now());
        let processes = if let Keeper::Alone(processes) = keeper { processes } else { 1 };
        let paces = state.paces.iter().map(|pace| pace.interval(processes)).max().unwrap_or_default();
        (state.learned.paused(now), paces.max(state.learned.interval(now)))
    }

    /// Notes how a call that got through at `begun` ended: refused because there were too many, with what the provider
    /// says of when to come back, or not for that reason. Returns how long the account is to rest.
    pub(super) fn learn(&self, begun: Instant, refused: Option<Option<Duration>>) -> Option<Duration> {
        let now = Instant::now();
        let rest = match refused {
            Some(retry_after) => Some(self.state().learned.refused(begun, retry_after, now)),
            None => {
                self.state().learned.accepted(begun, now);
                None
            }
        };
        self.changed.notify_one();
        rest
    }

    /// Notes what an answer says of what is left.
    pub(super) fn hear(&self, sent: Instant, news: RateNews) {
        self.state().learned.heard(sent, news, Instant::now());
        self.changed.notify_one();
    }

    /// Nothing is to be sent for so long: another process was told so.
    pub(super) fn rest(&self, pause: Duration) {
        let now = Instant::now();
        self.state().learned.pause(now + pause, now);
        self.changed.notify_one();
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.now.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn ask(&self, limits: &Limits, pictures: u32, keeper: Keeper, now: Instant) -> Says {
        let part = |limit: u32| match keeper {
            Keeper::Alone(processes) => (limit / processes.max(1)).max(1),
            Keeper::Elsewhere => limit,
        };
        let has_calls = limits.concurrent.is_none_or(|limit| self.calls < part(limit));
        // A call that is larger than the limit goes alone, or it could never be made.
        let has_pictures = limits
            .concurrent_pictures
            .is_none_or(|limit| self.pictures == 0 || self.pictures + pictures <= part(limit));
        if !(has_calls && has_pictures) {
            return Says::Full;
        }
        let of_pace = match keeper {
            Keeper::Alone(processes) => self.paces.iter().map(|pace| pace.wait(pictures, processes, now)).max(),
            Keeper::Elsewhere => None,
        };
        match of_pace.unwrap_or_default().max(self.learned.wait(pictures, now)) {
            Duration::ZERO => Says::Go,
            wait => Says::Later(wait),
        }
    }

    fn take(&mut self, pictures: u32, keeper: Keeper, now: Instant) {
        let processes = if let Keeper::Alone(processes) = keeper { processes } else { 1 };
        self.calls += 1;
        self.pictures += pictures;
        self.paces.iter_mut().for_each(|pace| pace.take(pictures, processes, now));
        self.learned.take(pictures, now);
    }
}

impl Permit {
    /// Notes that the call goes out only now.
    pub(super) fn sends(&self, now: Instant) {
        let mut state = self.gate.state();
        state.paces.iter_mut().for_each(|pace| pace.delay(self.pictures, self.begun, now));
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let mut state = self.gate.state();
        state.calls -= 1;
        state.pictures -= self.pictures;
        drop(state);
        self.gate.changed.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALONE: Keeper = Keeper::Alone(1);

    #[tokio::test(start_paused = true)]
    async fn everything_under_way_is_bounded_and_given_back() {
        let gate = Arc::new(Gate::new(Limits { concurrent: Some(2), concurrent_pictures: Some(5), ..Limits::NONE }));
        let first = gate.try_take(1, ALONE).unwrap();
        let second = gate.try_take(4, ALONE).unwrap();
        assert_eq!(gate.ask(1, ALONE), Says::Full, "two calls");
        drop(first);
        assert_eq!((gate.ask(1, ALONE), gate.ask(2, ALONE)), (Says::Go, Says::Full), "five pictures");
        drop(second);
        let large = gate.try_take(9, ALONE).unwrap();
        assert_eq!(gate.ask(1, ALONE), Says::Full);
        drop(large);
        assert_eq!(gate.ask(5, ALONE), Says::Go);
    }

    #[tokio::test(start_paused = true)]
    async fn processes_take_their_part_unless_all_is_kept_elsewhere() {
        let limits = Limits { concurrent: Some(4), requests_per_minute: Some(4), ..Limits::NONE };
        let gate = Arc::new(Gate::new(limits));
        let _held = [gate.try_take(1, Keeper::Alone(2)).unwrap(), gate.try_take(1, Keeper::Alone(2)).unwrap()];
        assert_eq!(gate.ask(1, Keeper::Alone(2)), Says::Full);
        assert!(matches!(gate.ask(1, Keeper::Alone(1)), Says::Go | Says::Later(_)));
        assert_eq!(gate.ask(1, Keeper::Elsewhere), Says::Go);
    }

    #[tokio::test(start_paused = true)]
    async fn calls_are_paced() {
        let gate = Arc::new(Gate::new(Limits { requests_per_minute: Some(60), ..Limits::NONE }));
        let start = Instant::now();
        for _ in 0..60 {
            while let Says::Later(wait) = gate.ask(1, ALONE) {
                tokio::time::advance(wait).await;
            }
            drop(gate.try_take(1, ALONE).unwrap());
        }
        // 7 at once (the burst of 6 and the one that is due), then one in 1.03 s.
        assert_eq!(start.elapsed(), Duration::from_millis(1030) * 53);
        assert_eq!(gate.outlook(ALONE), (Duration::ZERO, Duration::from_millis(1030)));
    }

    #[tokio::test(start_paused = true)]
    async fn a_refusal_wakes_and_pauses() {
        let gate = Arc::new(Gate::new(Limits::NONE));
        let sent = Instant::now();
        let permit = gate.try_take(1, ALONE).unwrap();
        let rest = gate.learn(sent, Some(Some(Duration::from_secs(3))));
        drop(permit);
        assert_eq!(rest, Some(Duration::from_secs(3)));
        assert_eq!(gate.ask(1, ALONE), Says::Later(Duration::from_secs(3)));
        assert_eq!(gate.ask(1, Keeper::Elsewhere), Says::Later(Duration::from_secs(3)), "wherever limits are kept");
        gate.rest(Duration::from_secs(5));
        assert_eq!(gate.outlook(ALONE).0, Duration::from_secs(5));
        gate.changed.notified().await;
    }
}
