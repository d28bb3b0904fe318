//! Requests whose answer is kept for who asks again: under an `Idempotency-Key`, or because the caller did
//! not want to wait (I10).
//!
//! ```text
//! board   one request per key in this process; the others wait for it      flight
//! claim   one process per key; the others look at what it comes to         store
//! run     as every request, in a task of its own                           pipeline
//! keep    the answer is written down before it leaves                      store
//! ```
//!
//! A process that dies between claim and answer leaves a claim that nobody is at. Whoever asks again takes it
//! over and runs the request once more under its first name: the pipeline finds what was made, and what
//! nobody knows is told as unknown. Nothing that was paid for is paid again.

mod fingerprint;
mod record;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tokio_util::sync::CancellationToken;

use self::fingerprint::{desk, fingerprint};
use self::record::Record;
use super::notes::Telling;
use super::{LOOK_AGAIN, Pipeline, too_late};
use crate::clock::{Millis, millis, rfc3339};
use crate::domain::{Answer, CacheMode, CachePolicy, Call, Progress, RequestId};
use crate::error::{Error, Kind, Result};
use crate::flight::{Flights, Join, Lead, Seat};
use crate::shared::Hint;
use crate::store::{Claim, Past, Reply, StoreError, Term};

/// The requests under way in this process whose answer is kept, by key and content.
pub(super) type Desks = Flights<Arc<Landed>>;

/// What a request has come to that a process is at.
const AT_IT: Past = Past { open: 1, unknown: 0, stored: 0, lost: 0 };

/// How often an answer is written again while the store cannot be reached.
const REWRITE: Duration = Duration::from_secs(1);

/// How a caller wants its answer kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wish {
    /// The caller's key: who sends the same under it gets the same answer.
    pub idempotency: Option<String>,
    /// In which form the answer is delivered. Another form is another request.
    pub form: &'static str,
    /// How long this caller waits until it is told where to ask for the answer; `None` waits to the end.
    pub wait: Option<Duration>,
}

/// A request whose answer is kept, as it stands.
#[derive(Debug)]
pub struct Kept {
    /// Its name: the first under its key.
    pub id: RequestId,
    /// When it was asked first.
    pub created_ms: Millis,
    /// True if this is not what came of the request at hand, but of an earlier one.
    pub is_replay: bool,
    /// What it has come to.
    pub state: State,
}

/// What a request has come to.
#[derive(Debug)]
pub enum State {
    /// Nothing yet.
    Running,
    /// Nothing yet, and its caller has called it off.
    Cancelling,
    /// Pictures.
    Succeeded(Box<Answer>),
    /// None.
    Failed(Error),
}

/// The end of a request, for all in this process who wait for it.
#[derive(Debug)]
pub(super) struct Landed {
    turn: Turn,
    outcome: Result<Answer>,
}

/// The right and the duty to answer.
#[derive(Clone, Copy, Debug)]
pub(super) struct Turn {
    id: RequestId,
    term: Term,
    created_ms: Millis,
    /// True if somebody else began it and did not end it.
    is_taken_over: bool,
}

/// How long one caller waits, and for what.
#[derive(Clone, Copy, Debug)]
struct Patience {
    /// Until then for an answer rather than for a place to ask for it.
    answer: Option<Instant>,
    /// Until then at all.
    deadline: Option<Instant>,
}

impl Pipeline {
    /// Runs one call and keeps its answer as `wish` says, or tells what came of the same call before.
    /// Dropping this future cancels nothing. `progress` gets unfinished pictures, if it is this call that
    /// makes them.
    ///
    /// # Errors
    /// This caller cannot be answered: the key was used for something else, what it was answered cannot be
    /// given again, or the store fails. What the request itself comes to is in [`Kept::state`].
    pub async fn run_kept(
        self: &Arc<Self>,
        mut call: Call,
        wish: Wish,
        mut progress: Option<mpsc::Sender<Progress>>,
    ) -> Result<Kept> {
        let asked = Instant::now();
        let patience = Patience {
            answer: wish.wait.map(|wait| asked + wait),
            deadline: call.deadline.map(|deadline| asked + deadline),
        };
        let fingerprint = fingerprint(&call, wish.form);
        let tenant = call.caller.tenant.clone();
        loop {
            let (lead, join) = match &wish.idempotency {
                None => self.desks.charter(),
                Some(key) => match self.desks.board(desk(&tenant, key, fingerprint)) {
                    Seat::Lead(lead, join) => (lead, join),
                    Seat::Join(join) => match self.attend(join, &call, key, patience).await? {
                        Some(kept) => return Ok(kept),
                        None => continue,
                    },
                },
            };
            let now = self.clock.now();
            let claim = Claim {
                id: call.id,
                tenant: tenant.clone(),
                idempotency: wish.idempotency.clone(),
                fingerprint,
                expires_ms: now.saturating_add(millis(self.lifetimes.replies)),
            };
            // Before the claim: should it end between, the answer is not written, and the claim taken over.
            let term = self.store.answering_term().await?;
            let turn = match self.store.claim_reply(claim, now).await? {
                None => Turn { id: call.id, term, created_ms: now, is_taken_over: false },
                Some(reply) if reply.fingerprint != fingerprint => return Err(reused(&reply)),
                Some(Reply { answer: None, is_abandoned: true, id, created_ms, .. }) => {
                    Turn { id, term, created_ms, is_taken_over: true }
                }
                Some(reply) => match &reply.answer {
                    Some(answer) => return self.replay(&reply, answer).await,
                    // Another process is at it. The seat is kept meanwhile, so that one looks for all.
                    None => match patience.lasts(&call, self.ended_elsewhere(&tenant, &wish)).await? {
                        Some(ended) => {
                            ended?;
                            continue;
                        }
                        None => return Ok(running(reply.id, reply.created_ms)),
                    },
                },
            };
            call.id = turn.id;
            call.deadline = patience.deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
            return self.answer_in_turn(turn, call, lead, join, progress.take(), patience).await;
        }
    }

    /// What the request `id` of `tenant` has come to, if its answer is kept.
    ///
    /// # Errors
    /// The store fails.
    pub async fn job(&self, tenant: &str, id: RequestId) -> Result<Option<Kept>> {
        let Some(reply) = self.store.reply(tenant.to_owned(), id, self.clock.now()).await? else { return Ok(None) };
        let state = match &reply.answer {
            Some(answer) => match self.replay(&reply, answer).await {
                Ok(kept) => kept.state,
                Err(error) if matches!(error.kind, Kind::NotStored | Kind::Gone) => State::Failed(error),
                Err(error) => return Err(error),
            },
            None => match if reply.is_abandoned { self.store.past_of(id).await? } else { AT_IT } {
                Past { open: 0, unknown: 0, .. } => State::Failed(interrupted()),
                Past { open: 0, .. } => State::Failed(unknown(id)),
                _ if reply.is_called_off => State::Cancelling,
                _ => State::Running,
            },
        };
        Ok(Some(Kept { id, created_ms: reply.created_ms, is_replay: true, state }))
    }

    /// Calls off the request `id` of `tenant`, if its answer is kept and there is none yet. What it has come to so
    /// far: one that is sent already may be made all the same, and is kept then.
    ///
    /// # Errors
    /// The store fails.
    pub async fn cancel(&self, tenant: &str, id: RequestId) -> Result<Option<Kept>> {
        if self.store.reply(tenant.to_owned(), id, self.clock.now()).await?.is_some() && self.store.call_off(id).await?
        {
            self.shared.tell(Hint::CalledOff(id));
        }
        self.job(tenant, id).await
    }

    /// Takes over the request `id`, if its answer is kept and nobody is there any more who would give it.
    pub(super) async fn stand_in_for(&self, id: RequestId) -> Result<Option<Turn>> {
        let term = self.store.answering_term().await?;
        let taken = self.store.take_over_reply(id, term).await?;
        Ok(taken.map(|created_ms| Turn { id, term, created_ms, is_taken_over: true }))
    }

    /// Answers the request `id`, if its answer is kept and nobody else is there who would give it.
    pub(super) async fn answer_abandoned(self: &Arc<Self>, id: RequestId, outcome: Result<Answer>) -> Result<()> {
        if let Some(turn) = self.stand_in_for(id).await? {
            self.write_down(turn, &outcome).await;
        }
        Ok(())
    }

    /// Waits for the request under the same key in this process. `None`: it came to nothing that would be an
    /// answer to `call`, too.
    async fn attend(
        &self,
        mut join: Join<Arc<Landed>>,
        call: &Call,
        key: &str,
        patience: Patience,
    ) -> Result<Option<Kept>> {
        let Some(landed) = patience.lasts(call, join.outcome()).await? else {
            // What it is called is known once it is written down, which it is about to be.
            loop {
                let tenant = call.caller.tenant.clone();
                if let Some(reply) = self.store.reply_under(tenant, key.to_owned(), self.clock.now()).await? {
                    return Ok(Some(running(reply.id, reply.created_ms)));
                }
                tokio::select! {
                    biased;
                    landed = join.outcome() => return Ok(landed.and_then(|landed| landed.for_another())),
                    () = sleep(LOOK_AGAIN / 10) => {}
                }
            }
        };
        Ok(landed.and_then(|landed| landed.for_another()))
    }

    /// Runs the call in a task of its own, has its answer written down and told to all who wait for it.
    async fn answer_in_turn(
        self: &Arc<Self>,
        turn: Turn,
        call: Call,
        lead: Lead<Arc<Landed>>,
        mut join: Join<Arc<Landed>>,
        progress: Option<mpsc::Sender<Progress>>,
        patience: Patience,
    ) -> Result<Kept> {
        let this = Arc::clone(self);
        let own = call.clone();
        self.tracker.spawn(async move {
            let stop = CancellationToken::new();
            let outcome = tokio::select! {
                outcome = Box::pin(this.perform(turn, own, progress, &stop)) => outcome,
                never = async {
                    this.until_called_off(turn.id).await;
                    stop.cancel();
                    std::future::pending().await
                } => never,
            };
            this.write_down(turn, &outcome).await;
            lead.publish(Arc::new(Landed { turn, outcome }));
        });
        // The deadline is kept by the task, which must write down that it has passed.
        match (Patience { deadline: None, ..patience }).lasts(&call, join.outcome()).await? {
            Some(Some(landed)) => Ok(landed.kept(turn.is_taken_over)),
            Some(None) => Err(Error::internal("kept", "the task that answered was lost")),
            None => Ok(running(turn.id, turn.created_ms)),
        }
    }

    /// The call itself. One that was taken over must not pay for what its first run has paid for.
    async fn perform(
        self: &Arc<Self>,
        turn: Turn,
        mut call: Call,
        progress: Option<mpsc::Sender<Progress>>,
        stop: &CancellationToken,
    ) -> Result<Answer> {
        if turn.is_taken_over
            && let Err(error) = self.take_over(turn, &mut call).await
        {
            self.tell_failure(&call, &error).await;
            return Err(error);
        }
        self.run_unless(stop, call, progress).await
    }

    /// Looks at what the first run of a request has come to, so that nothing of it is paid for again.
    async fn take_over(self: &Arc<Self>, turn: Turn, call: &mut Call) -> Result<()> {
        let started = Instant::now();
        let ended = self.ended(turn.id);
        let past = match call.deadline {
            None => ended.await?,
            Some(deadline) => timeout(deadline, ended).await.unwrap_or_else(|_| Err(too_late(deadline)))?,
        };
        call.deadline = call.deadline.map(|deadline| deadline.saturating_sub(started.elapsed()));
        tracing::info!(request = %turn.id, ?past, "a request that was not answered is taken over");
        if past.unknown > 0 {
            return Err(unknown(turn.id));
        }
        if past.lost > 0 {
            let mut error = Error::new(
                Kind::NotStored,
                "This request was paid for, and what came of it was lost with the process that was to hand it over, \
                     because it was not stored. To pay for it again, send it under a new Idempotency-Key.",
            );
            error.may_have_billed = true;
            return Err(error);
        }
        if past.stored > 0 {
            // Also for who wanted a new picture: it is the new one. As many as are asked for from the
            // beginning of the pool, so that nothing is made for the sake of a rotation.
            let mode = if call.cache.mode == CacheMode::NoCache { CacheMode::Default } else { call.cache.mode };
            call.cache = CachePolicy { mode, max_age: None, variants: Some(1), ..std::mem::take(&mut call.cache) };
        }
        Ok(())
    }

    /// Adds to what was told of the request that it failed before anything was tried now.
    async fn tell_failure(&self, call: &Call, error: &Error) {
        let telling = Telling::begin(&self.stories, call, self.clock.now());
        if let Ok(Some(told)) = self.stories.of(call.id, None).await {
            telling.notes.take_up(told);
        }
        telling.notes.answered(&Err(error.clone()));
    }

    /// What the request `id` has come to, once nothing is under way for it any more.
    async fn ended(self: &Arc<Self>, id: RequestId) -> Result<Past> {
        loop {
            self.recover().await?;
            let past = self.store.past_of(id).await?;
            if past.open == 0 {
                return Ok(past);
            }
            sleep(LOOK_AGAIN).await;
        }
    }

    /// Writes down what a request has come to. After an error that is not the last word its key is given back,
    /// or, if something was or may be paid for it, left to who asks again and goes on with that.
    async fn write_down(self: &Arc<Self>, turn: Turn, outcome: &Result<Answer>) {
        let Turn { id, term, .. } = turn;
        let text = Record::of(outcome).to_json();
        let is_final = outcome.as_ref().err().is_none_or(is_final);
        let written = match is_final {
            true => self.store.answer_reply(id, term, text.clone()).await,
            false => match self.store.past_of(id).await {
                Ok(past) if past == Past::default() => self.store.release_reply(id, term, text.clone()).await,
                Ok(_) => self.store.abandon_reply(id, term).await,
                Err(error) => Err(error),
            },
        };
        match written {
            Ok(true) => {}
            Ok(false) => tracing::warn!(request = %id, "it was answered already, by who took it over"),
            // The answer goes out all the same, for it is paid; a repetition before it is written runs the
            // request again, and finds its pictures.
            Err(StoreError::Unavailable(why)) if is_final => {
                tracing::warn!(request = %id, why, "an answer cannot be written down now; it will be");
                let this = Arc::clone(self);
                self.tracker.spawn(async move {
                    while let Err(StoreError::Unavailable(_)) = this.store.answer_reply(id, term, text.clone()).await {
                        sleep(REWRITE).await;
                    }
                });
            }
            // The claim stays this process', and is taken over by the next who asks it.
            Err(error) => tracing::error!(request = %id, %error, "an answer could not be written down"),
        }
    }

    /// Waits until another process has answered what is under way under the key of `wish`, or has given up.
    async fn ended_elsewhere(self: &Arc<Self>, tenant: &str, wish: &Wish) -> Result<()> {
        let Some(key) = &wish.idempotency else { return Ok(()) };
        loop {
            sleep(LOOK_AGAIN).await;
            self.recover().await?;
            match self.store.reply_under(tenant.to_owned(), key.clone(), self.clock.now()).await? {
                Some(Reply { answer: None, is_abandoned: false, .. }) => {}
                _ => return Ok(()),
            }
        }
    }

    /// What was told the first time, with the pictures as they are stored.
    async fn replay(&self, reply: &Reply, answer: &str) -> Result<Kept> {
        let state = match Record::from_json(answer)? {
            Record::Failed(error) => State::Failed(error.into()),
            Record::Succeeded(record) => {
                let mut pictures = Vec::with_capacity(record.pictures.len());
                for id in record.pictures() {
                    let Some(id) = id else { return Err(not_stored(reply)) };
                    pictures.push(self.cache.delivered(id).await?.ok_or_else(|| gone(reply))?);
                }
                State::Succeeded(Box::new(record.into_answer(reply.id, pictures)))
            }
        };
        Ok(Kept { id: reply.id, created_ms: reply.created_ms, is_replay: true, state })
    }
}

impl Patience {
    /// Waits for `work`; `None` if the caller wants to be told where to ask for it instead.
    async fn lasts<T>(self, call: &Call, work: impl Future<Output = T>) -> Result<Option<T>> {
        tokio::select! {
            biased;
            done = work => Ok(Some(done)),
            () = at(self.deadline) => Err(too_late(call.deadline.unwrap_or_default())),
            () = at(self.answer) => Ok(None),
        }
    }
}

impl Landed {
    fn kept(&self, is_replay: bool) -> Kept {
        let state = match &self.outcome {
            Ok(answer) => State::Succeeded(Box::new(answer.clone())),
            Err(error) => State::Failed(error.clone()),
        };
        Kept { id: self.turn.id, created_ms: self.turn.created_ms, is_replay, state }
    }

    /// For who waited for it. A deadline is everybody's own.
    fn for_another(&self) -> Option<Kept> {
        let is_deadline = self.outcome.as_ref().is_err_and(|error| error.kind == Kind::DeadlinePassed);
        (!is_deadline).then(|| self.kept(true))
    }
}

/// At that moment; without one, never.
async fn at(moment: Option<Instant>) {
    match moment {
        Some(moment) => sleep_until(moment).await,
        None => std::future::pending().await,
    }
}

/// True if `error` is the last word on a request: the same again would be told the same, or would have to be
/// paid for again. All others leave the key free, so that a repetition can succeed.
fn is_final(error: &Error) -> bool {
    match error.kind {
        // What is asked for cannot be had, today or tomorrow.
        Kind::BadRequest | Kind::MethodNotAllowed | Kind::TooLarge | Kind::Refused | Kind::Cancelled => true,
        // Money is gone, or may be.
        Kind::OutcomeUnknown | Kind::NotStored | Kind::Gone => true,
        Kind::Upstream => error.may_have_billed,
        // Nothing was sent, and somebody can do something about it.
        Kind::Unauthenticated | Kind::Forbidden | Kind::NotFound | Kind::NotCached | Kind::KeyReused => false,
        Kind::OverBudget | Kind::Throttled | Kind::Stalled | Kind::Unavailable | Kind::RuledOut => false,
        // The picture is still being made: the repetition waits for it.
        Kind::DeadlinePassed => false,
        // Says nothing about the request. What was paid for nevertheless, the pipeline knows.
        Kind::Internal => false,
    }
}

fn running(id: RequestId, created_ms: Millis) -> Kept {
    Kept { id, created_ms, is_replay: false, state: State::Running }
}

fn reused(reply: &Reply) -> Error {
    Error::new(
        Kind::KeyReused,
        format!(
            "This Idempotency-Key was used at {} by request {} for something else. Send what was sent then, or take a \
             new key.",
            rfc3339(reply.created_ms),
            reply.id
        ),
    )
    .param("Idempotency-Key")
}

fn not_stored(reply: &Reply) -> Error {
    Error::new(
        Kind::NotStored,
        format!(
            "Request {}, asked at {}, was answered, and its pictures were not stored, so they cannot be given again. To \
             pay for new ones, take a new Idempotency-Key.",
            reply.id,
            rfc3339(reply.created_ms)
        ),
    )
}

fn gone(reply: &Reply) -> Error {
    Error::new(
        Kind::Gone,
        format!(
            "Request {}, asked at {}, was answered, and its pictures are not stored any more. Nothing was sent now. To ask \
             for them anew, take a new Idempotency-Key.",
            reply.id,
            rfc3339(reply.created_ms)
        ),
    )
}

fn interrupted() -> Error {
    Error::new(
        Kind::Unavailable,
        "This request was left before its end, because its process ended or its time was over. Send it again: what was \
         made for it costs nothing.",
    )
    .code("interrupted")
}

fn unknown(id: RequestId) -> Error {
    let mut error = Error::new(
        Kind::OutcomeUnknown,
        format!(
            "The process that was at request {id} ended while a provider was at it, and nobody knows whether that was \
             made and billed. Nothing was sent again. Look it up with `mimeo ledger suspense`. To pay for it again \
             knowingly, send it under a new Idempotency-Key with `retry_unknown`: true."
        ),
    );
    error.may_have_billed = true;
    error
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every kind with what becomes of its key, without and with money in doubt.
    #[test]
    fn what_is_the_last_word() {
        use Kind::*;
        let last = [BadRequest, MethodNotAllowed, TooLarge, Refused, OutcomeUnknown, NotStored, Gone];
        let open = [
            Unauthenticated,
            Forbidden,
            NotFound,
            NotCached,
            KeyReused,
            OverBudget,
            Throttled,
            Unavailable,
            DeadlinePassed,
            Internal,
        ];
        for (kinds, expected) in [(&last[..], true), (&open[..], false)] {
            for kind in kinds {
                assert_eq!(is_final(&Error::new(*kind, "no")), expected, "{kind:?}");
            }
        }
        let mut failed = Error::new(Upstream, "down").code("provider_error");
        assert!(!is_final(&failed), "certainly not billed: try again");
        failed.may_have_billed = true;
        assert!(is_final(&failed), "paid, and of no use");
    }

    #[tokio::test(start_paused = true)]
    async fn patience_ends_where_it_is_said() {
        let call = fingerprint::tests::call("a kite");
        let soon = |seconds| Some(Instant::now() + Duration::from_secs(seconds));
        let never = || std::future::pending::<()>();
        let waits = Patience { answer: soon(2), deadline: soon(5) };
        assert!(matches!(waits.lasts(&call, never()).await, Ok(None)));
        let waits = Patience { answer: soon(9), deadline: soon(5) };
        assert_eq!(waits.lasts(&call, never()).await.unwrap_err().kind, Kind::DeadlinePassed);
        let waits = Patience { answer: soon(0), deadline: None };
        assert!(matches!(waits.lasts(&call, async { 7 }).await, Ok(Some(7))), "what is there is given");
    }
}
