//! One paid call. Money is set aside and the intent written durably before the first byte leaves; what
//! came of it is written with what it cost. Nothing is ever sent twice from here: a repetition is a new
//! attempt, and whether there may be one is the pipeline's decision.

mod again;
mod callback;
mod health;
mod job;
mod lessons;
mod queue;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::time::{Instant, timeout};
use tokio_util::task::TaskTracker;

use crate::clock::{Clock, Millis};
use crate::config::Environments;
use crate::domain::{AttemptId, Call, Caller, Digest, Fault, Generated, Price, Progress};
use crate::error::{Error, Kind, Result};
use crate::failpoint::failpoint;
use crate::ledger::{Ledger, Reservation, subject};
use crate::providers::{Job, Provider};
use crate::shared::Shared;
use crate::store::{
    AttemptState, BlobName, Finish, Finished, NewAttempt, Settlement, Store, StoreError, Subject, Term, Timing,
};
use again::RetryBudgets;
use health::Health;
use queue::WaitingRooms;

pub use again::backoff;
pub use callback::Callbacks;
pub use health::{Probe, Standing};
pub use job::{Held, Surroundings, is_last_word};

/// Makes paid calls. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Attempts {
    store: Arc<Store>,
    ledger: Ledger,
    clock: Clock,
    tracker: TaskTracker,
    shared: Shared,
    rooms: WaitingRooms,
    health: Health,
    again: RetryBudgets,
    callbacks: Callbacks,
    in_hand: job::InHand,
    environments: Arc<Environments>,
}

/// How often the end of an attempt is written again while the store cannot be reached.
const REWRITE: Duration = Duration::from_secs(1);

/// How long after their bytes the rows of pictures must be written, in milliseconds.
const SETTLE_WITHIN: Millis = 3_600_000;

/// How long paid pictures are held in memory while there is nowhere to put them.
const HOLD_PICTURES: Duration = Duration::from_secs(120);

/// A paid call to be made, as the rooms above see it.
#[derive(Clone, Copy, Debug)]
pub struct Errand<'a> {
    /// On whose behalf.
    pub call: &'a Call,
    /// The route, or the model that was asked for by its own name.
    pub route: &'a str,
    /// The pot of credits that it is made out of; `None` is money.
    pub pot: Option<&'a str>,
    /// What it is to answer.
    pub key: Digest,
    /// True if what it makes answers others as well, so that they wait for it and it for them.
    pub joinable: bool,
    /// The last entry of the key that was seen; a later one makes this call needless.
    pub seen: Option<i64>,
    /// Pay although nobody knows what came of the same call before.
    pub retry_unknown: bool,
    /// What is left of the caller's deadline.
    pub time_left: Option<Duration>,
}

/// What became of the wish to make a paid call.
#[derive(Debug)]
pub enum Made {
    /// It was made.
    Attempt(Box<Attempt>),
    /// It was not, because another process is making the same picture.
    UnderWay,
    /// It was not, because another process has made the same picture meanwhile.
    Landed,
    /// It was not, because the provider's account is spent.
    AccountSpent(Error),
    /// It was not, because the caller may not spend on the provider's account.
    Barred(Error),
    /// It was not, because too many wait for the limits of the provider's account already.
    TurnedAway(Fault),
}

/// How the end of an attempt was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// Its money is accounted for and its pictures are stored.
    Stored,
    /// Its money is accounted for; its pictures cannot be stored.
    Settled,
    /// Not at all: the others had given this process up, and the attempt is in suspense.
    GivenUp,
}

/// A call that was made and has not been accounted for yet.
#[derive(Debug)]
#[must_use = "an attempt must be finished, or its money stays set aside until the process ends"]
pub struct Attempt {
    /// Its name, in the ledger and at the provider.
    pub id: AttemptId,
    /// The term in which it was begun.
    pub term: Term,
    /// What was set aside.
    pub expected: Price,
    /// Whom and what it is about.
    pub subject: Subject,
    /// What the provider delivered, or how it failed.
    pub result: Result<Generated, Fault>,
    /// Soft budgets that are overrun with it, in words.
    pub warnings: Vec<String>,
    /// How long it took to set the money aside and to wait for the account's limits.
    pub reserving: Duration,
    /// How long the provider took, to the last byte.
    pub calling: Duration,
    /// What is to be learned of that; the room above knows whom it was asked of, and whether it says anything.
    pub timing: Option<Timing>,
    /// The job that it has become, if the provider has accepted it as one. Nobody else asks for it meanwhile.
    pub job: Option<Held>,
}

impl Attempts {
    /// Attempts that are written to `store`, accounted for in `ledger`, and kept within the accounts' limits by
    /// `shared`; `tracker` owns what must still be written when nobody waits for it, providers are told to call
    /// back at `callbacks`, and `environments` says which keys may spend on which accounts.
    pub fn new(
        store: Arc<Store>,
        ledger: Ledger,
        shared: Shared,
        clock: Clock,
        tracker: TaskTracker,
        callbacks: Callbacks,
        environments: Environments,
    ) -> Self {
        let (rooms, in_hand) = (WaitingRooms::default(), job::InHand::default());
        let (health, again) = (Health::default(), RetryBudgets::default());
        let environments = Arc::new(environments);
        Attempts { store, ledger, clock, tracker, shared, rooms, health, again, callbacks, in_hand, environments }
    }

    /// Sends `job` to `provider`, which may cost `expected` at most, unless that is needless or not allowed.
    ///
    /// # Errors
    /// A budget or an unknown outcome forbids it, or it could not be written down. Nothing was sent.
    pub async fn make(
        &self,
        errand: Errand<'_>,
        provider: &Provider,
        job: &Job<'_>,
        expected: Price,
        around: Surroundings<'_>,
    ) -> Result<Made> {
        let started = Instant::now();
        let id = job.attempt;
        // The one gate that every call passes, whichever way it came here.
        if let Some(why) = self.barred(&errand.call.caller, provider) {
            return Ok(Made::Barred(forbidden(&why)));
        }
        let credit = errand.pot.map(str::to_owned);
        let subject = Subject { credit, ..subject(errand.call, errand.route, &provider.name, &job.model.id, job.n) };
        // Where the limiter lets it pass at once, the reservation and the intent are one commit.
        let passed = self.shared.try_pass(&provider.name, provider.limits, job.n).await;
        let room = self.rooms.of(&provider.name, provider.limits);
        let seat = if passed.is_some() { None } else { Some(room.sit_down(errand.time_left, self.outlook(provider))) };
        let seat = match seat.transpose() {
            Ok(seat) => seat,
            Err(full) => return Ok(Made::TurnedAway(full)),
        };
        let state = if passed.is_some() { AttemptState::Sending } else { AttemptState::Reserved };
        failpoint!("attempt::before_intent");
        let reserved = self
            .ledger
            .reserve(NewAttempt {
                id,
                subject: subject.clone(),
                expected,
                state,
                key: errand.key,
                joinable: errand.joinable,
                seen: errand.seen,
                unknown_since: (!errand.retry_unknown).then(|| self.ledger.unknown_since()),
                budgets: Vec::new(),
            })
            .await;
        let (term, warnings) = match reserved {
            Ok(Reservation::Granted { term, warnings }) => (term, warnings),
            Ok(Reservation::UnderWay) => return Ok(Made::UnderWay),
            Ok(Reservation::Landed) => return Ok(Made::Landed),
            Ok(Reservation::AccountSpent(error)) => return Ok(Made::AccountSpent(error)),
            Err(error) => {
                if error.kind == Kind::Unavailable {
                    self.abandon(id, subject, expected);
                }
                return Err(error);
            }
        };
        let mut intended = Instant::now();
        let pass = match passed {
            Some(pass) => pass,
            None => {
                // Who streams from a model that shows unfinished pictures expects nothing else.
                if job.model.partial_images == 0 {
                    (around.tell)(Progress::Queued { position: None });
                }
                let wait = self.shared.pass(&provider.name, provider.limits, job.n);
                let waited = tokio::select! {
                    biased;
                    () = around.stop.cancelled() => Err(job::called_off()),
                    waited = timeout(room.patience(), wait) => {
                        waited.map_err(|_| room.gave_up(self.outlook(provider)))
                    }
                };
                let pass = match waited {
                    Ok(pass) => pass,
                    Err(fault) => {
                        let (result, reserving, calling) = (Err(fault), started.elapsed(), Duration::ZERO);
                        let attempt = Attempt {
                            id,
                            term,
                            expected,
                            subject,
                            result,
                            warnings,
                            reserving,
                            calling,
                            timing: None,
                            job: None,
                        };
                        return Ok(Made::Attempt(Box::new(attempt)));
                    }
                };
                intended = Instant::now();
                match self.store.mark_sending(id, term, self.clock.now()).await {
                    Ok(true) => pass,
                    Ok(false) => return Err(given_up(id)),
                    Err(error) => {
                        self.abandon(id, subject, expected);
                        return Err(error.into());
                    }
                }
            }
        };
        let watch = self.watch(id, term, around).await;
        failpoint!("attempt::after_intent");
        // Frozen since then? The others may have given this process up, and told whoever asks that it may have been
        // sent. It was not, and is not now.
        if intended.elapsed() > self.store.heartbeat() {
            match self.store.mark_sending(id, term, self.clock.now()).await {
                Ok(true) => {}
                Ok(false) => {
                    self.note_late(id, "it was never sent: its process was frozen before it could be".to_owned()).await;
                    return Err(given_up(id));
                }
                Err(error) => {
                    self.abandon(id, subject, expected);
                    return Err(error.into());
                }
            }
        }
        drop(seat);
        let _calling = room.call();
        self.again.called(&provider.name);
        let sending = Instant::now();
        pass.sends(sending);
        let result = match around.stop.is_cancelled() {
            true => Err(job::called_off()),
            false => provider.submit(job, &watch).await,
        };
        let held = watch.into_held();
        self.learn(provider, (pass.begun(), sending), held.is_some(), &result);
        failpoint!("attempt::after_answer");
        let (reserving, calling) = (sending - started, sending.elapsed());
        let attempt =
            Attempt { id, term, expected, subject, result, warnings, reserving, calling, timing: None, job: held };
        Ok(Made::Attempt(Box::new(attempt)))
    }

    /// Why `caller` may not spend on the account of `provider`; `None` if it may.
    pub fn barred(&self, caller: &Caller, provider: &Provider) -> Option<String> {
        self.environments.barred(&caller.key, &provider.name)
    }

    /// Writes the pictures of an attempt, and then how it ended, what it cost and what answers from now on, in
    /// one transaction. If a store cannot be reached it goes on trying after this has returned, for as long as
    /// the process lives; until then the attempt counts as under way, and nobody pays for the same again.
    ///
    /// # Errors
    /// It is not written yet.
    pub async fn finish(&self, finish: Finish, pictures: Vec<(BlobName, Bytes)>) -> Result<Ended> {
        let id = finish.id;
        match self.write(&finish, &pictures).await {
            Err(error) if error.is_unavailable() => {
                tracing::warn!(attempt = %id, %error, "the end of an attempt cannot be written now; it will be");
                let (this, mut finish, mut pictures) = (self.clone(), finish, pictures);
                self.tracker.spawn(async move {
                    let begun = Instant::now();
                    loop {
                        tokio::time::sleep(REWRITE).await;
                        match this.write(&finish, &pictures).await {
                            // In the end the account matters more than the pictures.
                            Err(StoreError::Blobs(_)) if begun.elapsed() > HOLD_PICTURES => {
                                tracing::error!(attempt = %id, "its pictures cannot be stored; they were only delivered");
                                (finish.pictures, finish.entry) = (Vec::new(), None);
                                pictures.clear();
                            }
                            Err(error) if error.is_unavailable() => {}
                            Ok(Ended::GivenUp) => {
                                return tracing::warn!(attempt = %id, "it was given up meanwhile and is in suspense");
                            }
                            Ok(_) => return tracing::info!(attempt = %id, "its end is written now"),
                            Err(error) => return this.end_barely(&finish, &error).await,
                        }
                    }
                });
                Err(error.into())
            }
            Err(error) => {
                self.end_barely(&finish, &error).await;
                Err(error.into())
            }
            Ok(ended) => Ok(ended),
        }
    }

    /// Ends an attempt whose end the database does not take, without all that came of it; a bill goes to suspense. What
    /// is under way for ever would keep waiting whoever asks for the same.
    async fn end_barely(&self, finish: &Finish, why: &StoreError) {
        tracing::error!(attempt = %finish.id, error = %why, "its end cannot be written");
        let (state, settlement) = match finish.settlement {
            Settlement::Settle(_) => (AttemptState::Unknown, Settlement::Suspend),
            kept => (finish.state, kept),
        };
        let fault = Some(format!("its end could not be written down: {why}"));
        let (pictures, entry, refusal) = (Vec::new(), None, None);
        let bare = Finish { state, settlement, fault, pictures, entry, refusal, ..finish.clone() };
        if let Err(error) = self.store.finish_attempt(bare).await {
            tracing::error!(attempt = %finish.id, %error, "it stays open until this process ends");
        }
    }

    async fn write(&self, finish: &Finish, pictures: &[(BlobName, Bytes)]) -> Result<Ended, StoreError> {
        let mut finish = finish.clone();
        let mut is_stored = true;
        let begun = self.clock.now();
        for (name, bytes) in pictures {
            match self.store.blobs.put_as(*name, bytes.clone()).await.map_err(StoreError::from) {
                Ok(()) => {}
                Err(error) if error.is_unavailable() => return Err(error),
                Err(error) => {
                    tracing::error!(%error, attempt = %finish.id, "a paid picture cannot be stored; it is only delivered");
                    (finish.pictures, finish.entry, is_stored) = (Vec::new(), None, false);
                    break;
                }
            }
        }
        failpoint!("store::after_blob");
        if self.clock.now().saturating_sub(begun) > SETTLE_WITHIN {
            // Bytes that nothing leads to are deleted after a day: they may be gone by now.
            return Err(StoreError::Unavailable("this process was suspended for too long".to_owned()));
        }
        let finished = self.store.finish_attempt(finish).await?;
        failpoint!("store::after_settle");
        Ok(match finished {
            Finished::Yes if is_stored => Ended::Stored,
            Finished::Yes => Ended::Settled,
            Finished::GivenUp => Ended::GivenUp,
        })
    }

    /// Paid calls under way.
    pub fn calling(&self) -> usize {
        self.rooms.calling()
    }

    /// Notes what was learnt of an attempt after the others had given this process up.
    pub async fn note_late(&self, id: AttemptId, note: String) {
        if let Err(error) = self.store.note_late(id, note).await {
            tracing::warn!(attempt = %id, %error, "what was learnt too late could not be noted");
        }
    }

    /// Makes sure that an attempt whose beginning may or may not have been written is not there, as soon as
    /// the store can be reached. Nothing was sent for it.
    fn abandon(&self, id: AttemptId, subject: Subject, expected: Price) {
        let this = self.clone();
        self.tracker.spawn(async move {
            while let Err(StoreError::Unavailable(_)) =
                this.store.abandon(id, subject.clone(), expected, this.clock.now()).await
            {
                tokio::time::sleep(REWRITE).await;
            }
        });
    }
}

fn forbidden(why: &str) -> Error {
    Error::new(Kind::Forbidden, format!("Nothing was sent: {why}.")).code("environment_forbidden")
}

fn given_up(id: AttemptId) -> Error {
    let message = "This gateway was silent for too long and was given up by the others before the call was sent. It was \
                   not sent; try again.";
    Error::new(Kind::Unavailable, message).context("attempt", id)
}

impl Attempt {
    /// The end of this attempt in `state`, with nothing stored yet.
    pub fn end(&self, state: AttemptState, settlement: Settlement, clock: &Clock) -> Finish {
        Finish {
            id: self.id,
            term: self.term,
            state,
            subject: self.subject.clone(),
            expected: self.expected,
            settlement,
            fault: None,
            timing: self.timing.clone(),
            pictures: Vec::new(),
            entry: None,
            refusal: None,
            at_ms: clock.now(),
        }
    }
}
