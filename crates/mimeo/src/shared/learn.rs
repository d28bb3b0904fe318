//! What an account's limits turn out to be, as its provider's answers tell.
//!
//! * A refusal for too many calls pauses the account for as long as the provider says, for everybody.
//! * It also says at which rate calls were refused. From then on calls are spaced at 85 % of that, go back to it
//!   along a cubic curve, stay close to it for a while, and go beyond it slowly: the curve of TCP CUBIC (RFC 9438),
//!   which was made for the same question. It forgets by itself.
//! * Headers that say what is left before when are believed, until then.
//!
//! No I/O and no clock of its own: whoever asks says what time it is.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::Instant;

use crate::domain::{Allowance, RateNews, id};

/// How much later than told the next window is taken to begin, at least.
const TOO_EARLY: Duration = Duration::from_millis(20);

/// Windows that providers count in. The shortest that is no shorter than the wait that a provider asks for is taken
/// to be its own.
const WINDOWS: [f64; 3] = [1.0, 10.0, 60.0];
/// What is asked for less than this time says nothing of the rate, in seconds.
const SHORTEST: f64 = 0.2;
/// To which part of the rate at which calls were refused the rate falls.
const FALL: f64 = 0.85;
/// How close to it the rate stays.
const PLATEAU: f64 = 0.98;
/// After how many windows it is there again: after the first refusal, when little is known, and after later ones.
const RECOVERY: (f64, f64) = (3.0, 10.0);
/// What is that many times too fast is no limit any more.
const FORGET: f64 = 20.0;
/// The longest pause: after that one call asks again.
const LONGEST_PAUSE: Duration = Duration::from_secs(15 * 60);
/// The pause where the provider names none, at first and at most.
const PAUSES: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(8));
/// How long, and how many, calls are remembered.
const MEMORY: (Duration, usize) = (Duration::from_secs(60), 1 << 14);

/// What was learned of one account.
#[derive(Debug, Default)]
pub(super) struct Learned {
    paused: Option<Instant>,
    /// Refusals in a row for which the provider named no pause.
    streak: u32,
    rate: Option<Rate>,
    calls: Option<Left>,
    pictures: Option<Left>,
    /// When calls went out lately, and for how many pictures; the newest last.
    begun: VecDeque<(Instant, u32)>,
}

/// The rate that calls are kept to since they were refused.
#[derive(Clone, Copy, Debug)]
struct Rate {
    /// The refusal. Others of calls that had begun before belong to it.
    since: Instant,
    /// The provider's window, in seconds, as far as can be told.
    window: f64,
    /// Calls that went out in the window before, and those of them that were refused.
    sent: u32,
    refused: u32,
    /// It is not below this, whatever got through: one call in twice the time that the provider asks for.
    least: f64,
    /// The rate before, in calls per second: the new one is neither above it nor below half of it.
    before: Option<f64>,
    /// A call that began since was taken.
    proven: bool,
    /// When the next call is due.
    due: Instant,
}

/// What a header said is left.
#[derive(Clone, Copy, Debug)]
struct Left {
    /// When the call was sent that was told so.
    sent: Instant,
    left: i64,
    until: Instant,
}

impl Rate {
    /// The rate at which the provider began to refuse, in calls per second.
    fn ceiling(&self) -> f64 {
        let passed = f64::from(self.sent.saturating_sub(self.refused)) / self.window;
        self.before.map_or(passed, |before| passed.clamp(before / 2.0, before)).max(self.least)
    }

    /// Calls per second that may be sent now.
    fn at(&self, now: Instant) -> f64 {
        let recovery = if self.before.is_none() { RECOVERY.0 } else { RECOVERY.1 };
        let past = now.saturating_duration_since(self.since).as_secs_f64() / (recovery * self.window);
        PLATEAU * self.ceiling() * (1.0 - (1.0 - FALL) * (1.0 - past).powi(3))
    }
}

impl Learned {
    /// How long a call for so many pictures has to wait.
    pub(super) fn wait(&self, pictures: u32, now: Instant) -> Duration {
        let due = self.rate.map(|rate| rate.due);
        let left = |left: &Option<Left>, units: u32| left.filter(|l| l.left < i64::from(units)).map(|l| l.until);
        let latest =
            [self.paused, due, left(&self.calls, 1), left(&self.pictures, pictures)].into_iter().flatten().max();
        latest.map_or(Duration::ZERO, |until| until.saturating_duration_since(now))
    }

    /// Until when nothing may be sent at all.
    pub(super) fn paused(&self, now: Instant) -> Duration {
        self.paused.map_or(Duration::ZERO, |until| until.saturating_duration_since(now))
    }

    /// Between two calls, as far as that was learned.
    pub(super) fn interval(&self, now: Instant) -> Duration {
        self.rate.map_or(Duration::ZERO, |rate| Duration::from_secs_f64(1.0 / rate.at(now)))
    }

    /// Notes that a call for so many pictures begins.
    pub(super) fn take(&mut self, pictures: u32, now: Instant) {
        self.forget(now);
        if let Some(rate) = &mut self.rate {
            rate.due = rate.due.max(now) + Duration::from_secs_f64(1.0 / rate.at(now));
        }
        for (left, units) in [(&mut self.calls, 1), (&mut self.pictures, pictures)] {
            if let Some(left) = left {
                left.left -= i64::from(units);
            }
        }
        self.begun.push_back((now, pictures));
    }

    /// Nothing is to be sent before `until`.
    pub(super) fn pause(&mut self, until: Instant, now: Instant) {
        let until = until.min(now + LONGEST_PAUSE);
        self.paused = Some(self.paused.map_or(until, |known| known.max(until)));
    }

    /// A call that began at `begun` was refused because there were too many. Returns how long nothing is to be sent.
    pub(super) fn refused(&mut self, begun: Instant, retry_after: Option<Duration>, now: Instant) -> Duration {
        match &mut self.rate {
            // Many are under way when the first is refused. They say the same, and how many got through.
            Some(rate) if begun <= rate.since => {
                if rate.since.saturating_duration_since(begun).as_secs_f64() <= rate.window {
                    rate.refused += 1;
                }
            }
            // The first call after a refusal is refused, too: it came too early, but no faster than is known.
            Some(rate) if !rate.proven => {
                (rate.since, rate.due) = (now, now);
                self.streak = if retry_after.is_some() { 0 } else { self.streak.saturating_add(1) };
            }
            known => {
                let asked = retry_after.map(|wait| wait.as_secs_f64());
                let fits = |asked: f64| WINDOWS.into_iter().find(|window| asked <= *window).unwrap_or(WINDOWS[2]);
                let window = asked.map(fits).or(known.map(|rate| rate.window)).unwrap_or(WINDOWS[0]);
                let before = known.map(|rate| rate.at(now));
                let counts = |begun: &Instant| now.saturating_duration_since(*begun).as_secs_f64() <= window;
                let sent = self.begun.iter().rev().take_while(|(begun, _)| counts(begun)).count();
                let sent = u32::try_from(sent).unwrap_or(u32::MAX);
                let least = 0.5 / asked.unwrap_or(window).max(SHORTEST);
                *known = Some(Rate { since: now, window, sent, refused: 1, least, before, proven: false, due: now });
                self.streak = if retry_after.is_some() { 0 } else { self.streak.saturating_add(1) };
            }
        }
        let pause = retry_after.unwrap_or_else(|| {
            let longest = (PAUSES.0 * 2_u32.saturating_pow(self.streak.saturating_sub(1).min(8))).min(PAUSES.1);
            // Not all replicas at the same moment.
            longest / 2 + longest / 2 * (id::random() % 101) as u32 / 100
        });
        self.pause(now + pause, now);
        self.paused(now)
    }

    /// A call that began at `begun` was not refused for that reason.
    pub(super) fn accepted(&mut self, begun: Instant, now: Instant) {
        self.forget(now);
        if self.rate.is_none_or(|rate| rate.since < begun) {
            self.streak = 0;
            self.rate.iter_mut().for_each(|rate| rate.proven = true);
        }
    }

    /// What the answer to a call that went out at `sent` said of what is left.
    pub(super) fn heard(&mut self, sent: Instant, news: RateNews, now: Instant) {
        let begun = &self.begun;
        let since = |units: fn(u32) -> u32| -> i64 {
            let later = begun.iter().rev().take_while(|(begun, _)| *begun > sent);
            later.map(|(_, pictures)| i64::from(units(*pictures))).sum()
        };
        let told = |known: &mut Option<Left>, said: Option<Allowance>, used: i64| {
            let Some(Allowance { remaining, reset }) = said else { return };
            // Answers round, and clocks differ: who comes on the stroke comes a little too early.
            let until = sent + (reset + reset / 64 + TOO_EARLY).min(LONGEST_PAUSE);
            if until > now && known.is_none_or(|known| known.sent <= sent) {
                *known = Some(Left { sent, left: i64::from(remaining) - used, until });
            }
        };
        told(&mut self.calls, news.requests, since(|_| 1));
        told(&mut self.pictures, news.pictures, since(|pictures| pictures));
    }

    fn forget(&mut self, now: Instant) {
        let is_over = |until: &Instant| *until <= now;
        self.paused = self.paused.filter(|until| !is_over(until));
        self.calls = self.calls.filter(|left| !is_over(&left.until));
        self.pictures = self.pictures.filter(|left| !is_over(&left.until));
        self.rate = self.rate.filter(|rate| rate.at(now) < FORGET * rate.ceiling());
        while self.begun.len() >= MEMORY.1
            || self.begun.front().is_some_and(|(begun, _)| now.saturating_duration_since(*begun) > MEMORY.0)
        {
            self.begun.pop_front();
        }
    }
}

#[cfg(test)]
#[path = "learn_tests.rs"]
mod tests;
