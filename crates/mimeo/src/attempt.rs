//! One paid call. Money is set aside and the intent written durably before the first byte leaves; what
//! came of it is written with what it cost. Nothing is ever sent twice from here: a repetition is a new
//! attempt, and whether there may be one is the pipeline's decision.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::clock::Clock;
use crate::domain::{AttemptId, Call, Fault, Generated, Price, Progress};
use crate::error::{Error, Result};
use crate::ledger::{Ledger, subject};
use crate::providers::{Job, Provider};
use crate::shared::Shared;
use crate::store::{AttemptState, Finish, NewAttempt, Settlement, Store, Subject};

/// Makes paid calls. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Attempts {
    store: Arc<Store>,
    ledger: Ledger,
    clock: Clock,
    shared: Shared,
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
    /// Attempts that are written to `store`, accounted for in `ledger`, and kept within the accounts' limits by
    /// `shared`.
    pub fn new(store: Arc<Store>, ledger: Ledger, shared: Shared, clock: Clock) -> Self {
        Attempts { store, ledger, clock, shared }
    }

    /// Sends `job` to `provider`, which may cost `expected` at most.
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
    ) -> Result<Attempt> {
        let started = Instant::now();
        let id = job.attempt;
        let subject = subject(call, &provider.name, &job.model.id, job.n);
        // Where the limiter lets it pass at once, the reservation and the intent are one commit.
        let passed = self.shared.try_pass(&provider.name, provider.limits).await;
        let state = if passed.is_some() { AttemptState::Sending } else { AttemptState::Reserved };
        self.ledger.reserve(NewAttempt { id, subject: subject.clone(), expected, state }).await?;
        let _pass = match passed {
            Some(pass) => pass,
            None => {
                let pass = self.shared.pass(&provider.name, provider.limits).await;
                if !self.store.mark_sending(id, self.clock.now()).await? {
                    return Err(Error::internal("attempt", format!("{id} is not reserved any more; nothing was sent")));
                }
                pass
            }
        };
        let sending = Instant::now();
        let result = provider.submit(job, progress).await;
        Ok(Attempt { id, expected, subject, result, reserving: sending - started, calling: sending.elapsed() })
    }

    /// Writes how an attempt ended, what it cost and what it made, in one transaction.
    ///
    /// # Errors
    /// It could not be written. It will be found open, and go to suspense, at the next start.
    pub async fn finish(&self, finish: Finish) -> Result<()> {
        Ok(self.store.finish_attempt(finish).await?)
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
