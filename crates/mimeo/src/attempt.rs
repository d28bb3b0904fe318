//! One paid call. Money is set aside and the intent written durably before the first byte leaves; what
//! came of it is written with what it cost. Nothing is ever sent twice from here: a repetition is a new
//! attempt, and whether there may be one is the pipeline's decision.

mod queue;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout};

use crate::clock::Clock;
use crate::config::Limits;
use crate::domain::{AttemptId, Call, Fault, Generated, Price, Progress};
use crate::error::{Error, Result};
use crate::failpoint::failpoint;
use crate::ledger::{Ledger, subject};
use crate::providers::{Job, Provider};
use crate::store::{AttemptState, Finish, NewAttempt, Settlement, Store, Subject};
use queue::WaitingRooms;

/// Makes paid calls. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Attempts {
    store: Arc<Store>,
    ledger: Ledger,
    clock: Clock,
    gates: Arc<Mutex<HashMap<String, Arc<Gate>>>>,
    rooms: WaitingRooms,
}

/// A call that was made and has not been accounted for yet.
#[derive(Debug)]
#[must_use = "an attempt must be finished, or its money stays set aside until the process ends"]
pub struct Attempt {
    /// Its name, in the ledger and at the provider.
    pub id: AttemptId,
    /// What was set aside.
    pub expected: Price,
    /// Whom and what it is about.
    pub subject: Subject,
    /// What the provider delivered, or how it failed.
    pub result: Result<Generated, Fault>,
    /// How long it took to set the money aside and to wait for the account's limits.
    pub reserving: Duration,
    /// How long the provider took, to the last byte.
    pub calling: Duration,
}

impl Attempts {
    /// Attempts that are written to `store` and accounted for in `ledger`.
    pub fn new(store: Arc<Store>, ledger: Ledger, clock: Clock) -> Self {
        Attempts { store, ledger, clock, gates: Arc::default(), rooms: WaitingRooms::default() }
    }

    /// Sends `job` to `provider`, which may cost `expected` at most. The inner error is that of a caller who was
    /// turned away because too many wait for the account's limits: nothing was set aside, and there is no attempt.
    ///
    /// # Errors
    /// The budget does not allow it, or it could not be written down. Nothing was sent.
    pub async fn make(
        &self,
        call: &Call,
        provider: &Provider,
        job: &Job<'_>,
        expected: Price,
        progress: &(dyn Fn(Progress) + Send + Sync),
    ) -> Result<Result<Attempt, Fault>> {
        let started = Instant::now();
        let id = job.attempt;
        let subject = subject(call, &provider.name, &job.model.id, job.n);
        let gate = self.gate(&provider.name, provider.limits);
        // Where the limiter lets it pass at once, the reservation and the intent are one commit.
        let passed = gate.try_pass();
        let room = self.rooms.of(&provider.name, provider.limits);
        let seat = if passed.is_some() { None } else { Some(room.sit_down(call.deadline)) };
        let seat = match seat.transpose() {
            Ok(seat) => seat,
            Err(full) => return Ok(Err(full)),
        };
        let state = if passed.is_some() { AttemptState::Sending } else { AttemptState::Reserved };
        failpoint!("attempt::before_intent");
        self.ledger.reserve(NewAttempt { id, subject: subject.clone(), expected, state }).await?;
        let _pass = match passed {
            Some(pass) => pass,
            None => {
                let Ok(pass) = timeout(room.patience(), gate.pass()).await else {
                    let (result, reserving) = (Err(room.gave_up()), started.elapsed());
                    return Ok(Ok(Attempt { id, expected, subject, result, reserving, calling: Duration::ZERO }));
                };
                if !self.store.mark_sending(id, self.clock.now()).await? {
                    return Err(Error::internal("attempt", format!("{id} is not reserved any more; nothing was sent")));
                }
                pass
            }
        };
        failpoint!("attempt::after_intent");
        drop(seat);
        let _calling = room.call();
        let sending = Instant::now();
        let result = provider.submit(job, progress).await;
        failpoint!("attempt::after_answer");
        Ok(Ok(Attempt { id, expected, subject, result, reserving: sending - started, calling: sending.elapsed() }))
    }

    /// Writes how an attempt ended, what it cost and what it made, in one transaction.
    ///
    /// # Errors
    /// It could not be written. It will be found open, and go to suspense, at the next start.
    pub async fn finish(&self, finish: Finish) -> Result<()> {
        Ok(self.store.finish_attempt(finish).await?)
    }

    /// Paid calls under way.
    pub fn calling(&self) -> usize {
        self.rooms.calling()
    }

    fn gate(&self, provider: &str, limits: Limits) -> Arc<Gate> {
        let mut gates = self.gates.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(gates.entry(provider.to_owned()).or_insert_with(|| Arc::new(Gate::new(limits))))
    }
}

impl Attempt {
    /// The end of this attempt in `state`, with nothing stored yet.
    pub fn end(&self, state: AttemptState, settlement: Settlement, clock: &Clock) -> Finish {
        Finish {
            id: self.id,
            state,
            subject: self.subject.clone(),
            expected: self.expected,
            settlement,
            fault: None,
            pictures: Vec::new(),
            entry: None,
            refusal: None,
            at_ms: clock.now(),
        }
    }
}

/// The limits of one account: calls under way, and calls started per minute (evenly spaced, with a
/// burst of a tenth of a minute's worth).
#[derive(Debug)]
struct Gate {
    concurrent: Option<Arc<Semaphore>>,
    pace: Option<Pace>,
}

#[derive(Debug)]
struct Pace {
    interval: Duration,
    burst: Duration,
    // The time at which the next call would be due if all came evenly spaced (GCRA).
    due: Mutex<Instant>,
}

/// The right to have one call under way.
#[derive(Debug)]
struct Pass {
    _permit: Option<OwnedSemaphorePermit>,
}

impl Gate {
    fn new(limits: Limits) -> Self {
        Gate {
            concurrent: limits.concurrent.map(|n| Arc::new(Semaphore::new(n as usize))),
            pace: limits.requests_per_minute.map(|n| {
                let interval = Duration::from_secs(60) / n.max(1);
                Pace { interval, burst: interval * (n / 10), due: Mutex::new(Instant::now()) }
            }),
        }
    }

    fn try_pass(&self) -> Option<Pass> {
        let permit = match &self.concurrent {
            None => None,
            Some(semaphore) => Some(Arc::clone(semaphore).try_acquire_owned().ok()?),
        };
        match &self.pace {
            Some(pace) if pace.book(false).is_some() => None,
            _ => Some(Pass { _permit: permit }),
        }
    }

    async fn pass(&self) -> Pass {
        let permit = match &self.concurrent {
            None => None,
            // The semaphore is never closed.
            Some(semaphore) => Arc::clone(semaphore).acquire_owned().await.ok(),
        };
        if let Some(wait) = self.pace.as_ref().and_then(|pace| pace.book(true)) {
            tokio::time::sleep(wait).await;
        }
        Pass { _permit: permit }
    }
}

impl Pace {
    /// Books the next slot and tells how long to wait for it; `None` is now. With `later` false, only
    /// a slot that is free now is booked.
    fn book(&self, later: bool) -> Option<Duration> {
        let now = Instant::now();
        let mut due = self.due.lock().unwrap_or_else(PoisonError::into_inner);
        let slot = (*due).max(now);
        let wait = slot.saturating_duration_since(now).saturating_sub(self.burst);
        if wait.is_zero() || later {
            *due = slot + self.interval;
        }
        (!wait.is_zero()).then_some(wait)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn calls_are_paced() {
        let gate = Gate::new(Limits { requests_per_minute: Some(60), ..Limits::default() });
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
        let gate = Gate::new(Limits { concurrent: Some(2), ..Limits::default() });
        let (first, second) = (gate.try_pass(), gate.try_pass());
        assert!(first.is_some() && second.is_some() && gate.try_pass().is_none());
        drop(first);
        assert!(gate.try_pass().is_some());
    }
}
