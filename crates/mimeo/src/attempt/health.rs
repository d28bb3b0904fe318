//! Which providers are down, as their last calls tell. One that is, is left alone for a while, and then one call at a
//! time finds out whether it is back.
//!
//! * Five calls in a row that failed say so, or more than half of the last twenty. In both cases they must span the
//!   time that a call usually takes: when many are under way, those that fail often come back long before those that
//!   do not, and would look like all there is.
//! * It is left alone for ten seconds, twice as long each time that it fails the first call after that, at most five
//!   minutes.
//!
//! A pure state machine; whoever asks says what time it is.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::domain::{Fault, FaultKind};

/// Failures in a row that count as an outage.
const IN_A_ROW: usize = 5;
/// Calls that are remembered; an outage if more than half of so many failed.
const REMEMBERED: usize = 20;
/// The least time that failures must span.
const SPAN: Duration = Duration::from_secs(1);
/// How long a provider is left alone, at first and at most.
const RESTS: (Duration, Duration) = (Duration::from_secs(10), Duration::from_secs(300));
/// How long it must have been well for the next rest to be a short one again.
const RECOVERED: Duration = Duration::from_secs(300);

/// How the providers are. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub(super) struct Health(Arc<Mutex<HashMap<String, Patient>>>);

/// Whether a provider is to be asked now.
#[derive(Debug)]
pub enum Standing {
    /// As usual.
    Well,
    /// With this one call, which finds out whether it is back.
    Probe(Probe),
    /// Not for so long: it is down.
    Down(Duration, String),
}

/// The one call that finds out whether a provider is back. Another one may when this is dropped.
#[derive(Debug)]
pub struct Probe(Health, String);

/// How a call ended, as far as it tells how a provider is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sign {
    /// It answered after this time, whatever it said.
    Answered(Duration),
    /// It did not, or with something unusable.
    Failed(FaultKind),
}

#[derive(Debug, Default)]
struct Patient {
    /// When the last calls ended, and whether they failed; the newest last.
    ended: VecDeque<(Instant, bool)>,
    /// How many failed since the last that was answered, and when the first of them did.
    in_a_row: usize,
    failing_since: Option<Instant>,
    /// How long a call takes that is answered: each new one counts an eighth.
    typical: Duration,
    down: Option<Down>,
    /// Rests in a row, and when it was last down.
    rests: u32,
    well_since: Option<Instant>,
}

#[derive(Debug)]
struct Down {
    until: Instant,
    is_probed: bool,
    why: String,
}

impl Sign {
    /// What a call says that took so long, if it says anything. Who is too busy, or does not accept a key, is there.
    pub(super) fn of<T>(result: &Result<T, Fault>, took: Duration) -> Option<Sign> {
        match result.as_ref().map_err(|fault| fault.kind) {
            Err(kind @ (FaultKind::NotSent | FaultKind::Failed | FaultKind::Unknown | FaultKind::BadAnswer)) => {
                Some(Sign::Failed(kind))
            }
            Err(FaultKind::Cancelled | FaultKind::Unfinished) => None,
            Ok(_) | Err(_) => Some(Sign::Answered(took)),
        }
    }
}

impl Health {
    /// Whether `provider` is to be asked now.
    pub(super) fn standing(&self, provider: &str, now: Instant) -> Standing {
        let mut patients = self.patients();
        let Some(down) = patients.get_mut(provider).and_then(|patient| patient.down.as_mut()) else {
            return Standing::Well;
        };
        if down.until <= now && !down.is_probed {
            down.is_probed = true;
            return Standing::Probe(Probe(self.clone(), provider.to_owned()));
        }
        Standing::Down(down.until.saturating_duration_since(now), down.why.clone())
    }

    /// True if `provider` is not down, or it is time to find out.
    pub(super) fn may_be_asked(&self, provider: &str, now: Instant) -> bool {
        let patients = self.patients();
        let down = patients.get(provider).and_then(|patient| patient.down.as_ref());
        down.is_none_or(|down| down.until <= now && !down.is_probed)
    }

    /// Takes in how a call ended.
    pub(super) fn note(&self, provider: &str, sign: Sign, now: Instant) {
        let mut patients = self.patients();
        let patient = match patients.get_mut(provider) {
            Some(patient) => patient,
            None => patients.entry(provider.to_owned()).or_default(),
        };
        patient.note(provider, sign, now);
    }

    fn patients(&self) -> MutexGuard<'_, HashMap<String, Patient>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Patient {
    fn note(&mut self, provider: &str, sign: Sign, now: Instant) {
        match (&mut self.down, sign) {
            (Some(_), Sign::Answered(_)) => {
                tracing::info!(provider, "it answers again");
                *self =
                    Patient { typical: self.typical, rests: self.rests, well_since: Some(now), ..Patient::default() };
            }
            (Some(down), Sign::Failed(_)) if down.is_probed => {
                let why = std::mem::take(&mut down.why);
                self.rest(provider, why, now);
            }
            // A call that was made before it was known, or because there was nobody else to ask.
            (Some(_), Sign::Failed(_)) => {}
            (None, Sign::Answered(took)) => {
                self.typical = if self.typical.is_zero() { took } else { (self.typical * 7 + took) / 8 };
                self.remember(false, now);
            }
            (None, Sign::Failed(kind)) => {
                self.remember(true, now);
                let failed = self.ended.iter().filter(|(_, failed)| *failed).count();
                let first = self.ended.front().map(|(ended, _)| *ended);
                if self.in_a_row >= IN_A_ROW && self.spans(self.failing_since, now) {
                    self.rest(provider, format!("its last {} calls failed ({})", self.in_a_row, kind.name()), now);
                } else if self.ended.len() == REMEMBERED && failed > REMEMBERED / 2 && self.spans(first, now) {
                    self.rest(provider, format!("{failed} of its last {REMEMBERED} calls failed"), now);
                }
            }
        }
    }

    fn remember(&mut self, failed: bool, now: Instant) {
        self.ended.push_back((now, failed));
        if self.ended.len() > REMEMBERED {
            self.ended.pop_front();
        }
        (self.in_a_row, self.failing_since) =
            if failed { (self.in_a_row + 1, self.failing_since.or(Some(now))) } else { (0, None) };
    }

    /// True if more time has passed since than a call usually takes.
    fn spans(&self, since: Option<Instant>, now: Instant) -> bool {
        since.is_some_and(|since| now.saturating_duration_since(since) >= self.typical.max(SPAN))
    }

    fn rest(&mut self, provider: &str, why: String, now: Instant) {
        if self.well_since.take().is_some_and(|since| now.saturating_duration_since(since) >= RECOVERED) {
            self.rests = 0;
        }
        let rest = (RESTS.0 * 2_u32.saturating_pow(self.rests.min(16))).min(RESTS.1);
        self.rests = self.rests.saturating_add(1);
        tracing::warn!(provider, why, rest_s = rest.as_secs(), "it is left alone for a while: it seems to be down");
        self.down = Some(Down { until: now + rest, is_probed: false, why });
    }
}

impl Drop for Probe {
    fn drop(&mut self) {
        if let Some(down) = self.0.patients().get_mut(&self.1).and_then(|patient| patient.down.as_mut()) {
            down.is_probed = false;
        }
    }
}

#[cfg(test)]
#[path = "health_tests.rs"]
mod tests;
