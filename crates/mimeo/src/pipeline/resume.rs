//! Jobs that a provider has accepted and nobody waits for any more, because their process ended or their call took
//! too long. They are asked for until they have ended, and end as every other call does; nothing is sent again.

use std::sync::Arc;
use std::time::Duration;

use reqwest::header::HeaderMap;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::make::{Account, Called};
use super::papers::Papers;
use super::{LOOK_AGAIN, Landed, Laps, Order, Pipeline};
use crate::attempt::{Attempt, Held, Surroundings, is_last_word};
use crate::clock::millis;
use crate::config::Secret;
use crate::domain::{Answer, AttemptId, Digest, Fault, FaultKind, Generated, Progress, RequestId, Source};
use crate::error::{Error, Kind, Result};
use crate::providers::webhook::Delivery;
use crate::providers::{Job, Model, Provider};
use crate::shared::{Hint, heard};
use crate::store::{AcceptedJob, AttemptState, Finish, Settlement, StoreError};

/// How long after a job could not be asked for it is asked for again, at first and at most.
const PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(120);

/// How often it is looked up whether a request was called off, where no hint says so.
const LOOK_UP: Duration = Duration::from_secs(1);

impl Pipeline {
    /// Ends what processes that are gone have left open, and asks from now on for the jobs of theirs that a provider
    /// has accepted. Returns how many attempts were released and how many are in suspense.
    ///
    /// # Errors
    /// The store fails.
    pub async fn recover(self: &Arc<Self>) -> Result<(u32, u32), StoreError> {
        let ended = self.store.recover(self.clock.now()).await?;
        if !self.leaving.is_cancelled() {
            for (job, held) in self.attempts.adopt().await? {
                tracing::info!(attempt = %job.attempt.id, provider = job.attempt.subject.provider,
                               "a job that nobody asked for is asked for here now");
                let this = Arc::clone(self);
                let work = async move { Box::pin(this.see_through(job, held)).await };
                self.tracker.spawn(self.leaving.clone().run_until_cancelled_owned(work));
            }
        }
        Ok(ended)
    }

    /// From here on no job is asked for that nobody in this process waits for: another process will.
    pub fn leave_jobs(&self) {
        self.leaving.cancel();
    }

    /// Asks for one job until it has ended.
    async fn see_through(self: &Arc<Self>, job: AcceptedJob, held: Option<Held>) {
        let (provider, model, papers, held) = match self.read(&job, held) {
            Ok(read) => read,
            Err(why) => return self.give_up(&job, why).await,
        };
        // What is lacking of a larger request, whoever asks again has made.
        let is_whole = papers.are_of_all(&job);
        if is_whole {
            self.stand_in(job.attempt.subject.request).await;
        }
        let order = papers.order(&job, &self.cache, &provider, &model, &self.stories);
        self.take_up(&order).await;
        let started = Instant::now();
        let result = self.ask_until_it_ends(&order, &provider, &model, &job, &held).await;
        let Some(candidate) = order.plan.candidates.first() else { return };
        let attempt = Attempt {
            id: job.attempt.id,
            term: job.term,
            expected: job.attempt.expected,
            subject: job.attempt.subject.clone(),
            result,
            warnings: Vec::new(),
            reserving: Duration::ZERO,
            calling: started.elapsed(),
            // It began in another process, or was learned from as one that takes too long.
            timing: None,
            job: Some(held),
        };
        let account =
            Account { candidate, provider: &provider, model: &model, after: &[], begun: Instant::now(), pot: None };
        let mut laps = Laps::new();
        let called = self.conclude(&order, account, job.attempt.subject.pictures, attempt, &mut laps).await;
        order.notes.called(&candidate.name, started, Some(job.attempt.id), job.attempt.expected, &called);
        if job.joinable {
            self.shared.tell(Hint::Landed(job.key));
        }
        let outcome = match called {
            Ok(Called::Pictures(seen)) => {
                let landed = Landed { made: seen.good, findings: seen.findings, ..Landed::of(Vec::new()) };
                let source = if order.reads_cache() { Source::Miss } else { Source::Bypass };
                Ok(self.answer(&order, source, &landed, laps))
            }
            Ok(Called::Fault(_, error)) | Err(error) => Err(error),
            Ok(_) => return,
        };
        if is_whole {
            order.notes.answered(&outcome);
            self.answer_for_another(job.attempt.subject.request, outcome).await;
        }
        order.notes.tell();
    }

    /// Goes on with what was told of a request before, by whom it was begun, if that was told.
    async fn take_up(&self, order: &Order) {
        match self.stories.of(order.call.id, None).await {
            Ok(Some(told)) => order.notes.take_up(told),
            Ok(None) => order.notes.planned(&order.call, &order.plan, order.key),
            Err(error) => tracing::warn!(request = %order.call.id, %error, "what was told of a request is not known"),
        }
    }

    /// Everything that it takes to ask for `job`, or why it cannot be asked for.
    fn read(&self, job: &AcceptedJob, held: Option<Held>) -> Result<(Arc<Provider>, Arc<Model>, Papers, Held), String> {
        let subject = &job.attempt.subject;
        let (Some(held), Ok(papers)) = (held, serde_json::from_str(&job.papers)) else {
            return Err("what was written down of it cannot be read".to_owned());
        };
        let provider = self.routes.registry().provider(&subject.provider).cloned();
        let provider =
            provider.ok_or_else(|| format!("the provider {} is not configured any more", subject.provider))?;
        let known = provider.models().iter().find(|model| model.id == subject.model).cloned();
        let model = known.or_else(|| provider.model(&subject.model).map(|resolved| resolved.model));
        let model = model.ok_or_else(|| format!("{} has no model {} any more", subject.provider, subject.model))?;
        let model = self.prices.priced(&provider, &model);
        Ok((provider, model, papers, held))
    }

    /// Asks, with pauses that grow where it cannot be asked for, until it has ended or its provider has forgotten it.
    async fn ask_until_it_ends(
        &self,
        order: &Order,
        provider: &Provider,
        model: &Model,
        job: &AcceptedJob,
        held: &Held,
    ) -> Result<Generated, Fault> {
        let subject = &job.attempt.subject;
        let stop = CancellationToken::new();
        let tell = |news: Progress| self.flights.tell(job.key, news);
        let around = Surroundings { tell: &tell, papers: &|| job.papers.clone(), stop: &stop };
        let watch = self.attempts.watch(job.attempt.id, job.term, around).await;
        let call = Job {
            model,
            request: &order.call.request,
            n: subject.pictures,
            attempt: job.attempt.id,
            user: None,
            partials: order.call.stream,
        };
        let ticket = &held.ticket;
        let keep = provider.timeout + model.keeps_jobs();
        let until = ticket.accepted_ms.saturating_add(millis(keep));
        let asking = async {
            let mut pause = PAUSE;
            loop {
                let fault = match provider.resume(&call, ticket, &watch).await {
                    Err(fault) if !is_last_word(&fault) => fault,
                    ended => return ended,
                };
                if self.clock.now().saturating_add(millis(pause)) > until {
                    let message = format!(
                        "its job {} had not ended {} s after it was accepted ({})",
                        ticket.id,
                        keep.as_secs(),
                        fault.message
                    );
                    return Err(Fault::new(FaultKind::Unknown, message));
                }
                tracing::debug!(attempt = %job.attempt.id, %fault, "a job is asked for again later");
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(LONGEST_PAUSE);
            }
        };
        tokio::select! {
            ended = asking => ended,
            never = async {
                self.until_called_off(subject.request).await;
                stop.cancel();
                std::future::pending().await
            } => never,
        }
    }

    /// A job that cannot be asked for is in suspense, with a note that says why.
    async fn give_up(self: &Arc<Self>, job: &AcceptedJob, why: String) {
        let AcceptedJob { attempt, term, .. } = job;
        let fault = Fault::new(FaultKind::Unknown, format!("its provider accepted it, and cannot be asked: {why}"));
        tracing::error!(attempt = %attempt.id, ticket = job.ticket, %fault, "an accepted job is in suspense");
        self.stand_in(attempt.subject.request).await;
        let finish = Finish {
            id: attempt.id,
            term: *term,
            state: AttemptState::Unknown,
            subject: attempt.subject.clone(),
            expected: attempt.expected,
            settlement: Settlement::Suspend,
            fault: Some(fault.to_string()),
            timing: None,
            pictures: Vec::new(),
            entry: None,
            refusal: None,
            at_ms: self.clock.now(),
        };
        if let Err(error) = self.attempts.finish(finish, Vec::new()).await {
            tracing::error!(%error, attempt = %attempt.id, "the end of an attempt is not written down yet");
        }
        if job.joinable {
            self.shared.tell(Hint::Landed(job.key));
        }
        let error = Error::from_fault(&fault, &attempt.subject.provider, attempt.id);
        self.answer_for_another(attempt.subject.request, Err(error)).await;
    }

    /// The request that a job was for is this process' to answer, if nobody else is there who would: from before its
    /// job ends, so that nobody takes it for left alone in between.
    async fn stand_in(&self, id: RequestId) {
        if let Err(error) = self.stand_in_for(id).await {
            tracing::warn!(request = %id, %error, "whose the request is that a job was for could not be noted");
        }
    }

    /// Answers the request that a job was for, if that is to be kept and nobody is there any more who would.
    async fn answer_for_another(self: &Arc<Self>, id: RequestId, outcome: Result<Answer>) {
        if let Err(error) = self.answer_abandoned(id, outcome).await {
            tracing::warn!(request = %id, %error, "the request that a job was for could not be answered");
        }
    }

    /// Waits until the caller of the request `id` does not want it any more.
    pub(super) async fn until_called_off(&self, id: RequestId) {
        let mut hints = self.shared.hints();
        loop {
            let _ = tokio::time::timeout(LOOK_UP, heard(&mut hints, Hint::CalledOff(id))).await;
            // Not knowing is waiting.
            if matches!(self.store.is_called_off(id).await, Ok(true)) {
                return;
            }
        }
    }

    /// What the provider of the attempt `id` was told to sign callbacks with, if `token` is what the address ends in
    /// that it was given.
    ///
    /// # Errors
    /// The store fails.
    pub async fn open_callback(&self, id: AttemptId, token: &str) -> Result<Option<Secret>> {
        Ok(self.callbacks.open(id, token).await?)
    }

    /// A provider has called back about the attempt `id`, at the address that it was given: whoever asks for the job,
    /// in whichever process, asks now. Its body says nothing that would be believed. False if it was not the provider.
    ///
    /// # Errors
    /// The store fails.
    pub async fn called_back(&self, id: AttemptId, secret: &Secret, headers: &HeaderMap, body: &[u8]) -> Result<bool> {
        // What has ended already needs nobody to ask for it.
        let Some(name) = self.store.provider_of(id).await? else { return Ok(true) };
        let Some(provider) = self.routes.registry().provider(&name) else { return Ok(true) };
        // That the address is one that was given out, is known by now.
        let delivery = Delivery { headers, body, word: Some(secret.reveal()) };
        if let Err(why) = provider.verify(delivery, Some(secret)).await {
            tracing::warn!(attempt = %id, provider = name, %why, "a callback is not believed");
            return Ok(false);
        }
        self.shared.tell(Hint::Called(id));
        Ok(true)
    }

    /// Waits until nobody is making the picture of `key` any more, in whichever process. Hints wake it; without them
    /// it looks again by itself. What a process that is gone was making is ended, or asked for, here as soon as may be.
    pub(super) async fn follow(self: &Arc<Self>, key: Digest) -> Result<()> {
        let mut hints = self.shared.hints();
        let mut pause = LOOK_AGAIN;
        while self.store.is_under_way(key).await? {
            if tokio::time::timeout(pause, heard(&mut hints, Hint::Landed(key))).await.is_err() {
                self.recover().await?;
                // Many may wait for long: the longer, the more seldom each of them asks.
                pause = (pause * 5 / 4).min(LOOK_AGAIN * 5);
            }
        }
        Ok(())
    }
}

/// What a caller is told whose call took longer than it may, while the provider still is at it.
pub(super) fn still_made(order: &Order, provider: &Provider, attempt: &Attempt) -> Error {
    let then = match (order.is_joinable(), order.stores()) {
        (true, _) => "send the same request again to get it without paying twice",
        (false, true) => "once it is made, the same request gets it without paying twice if it takes what is cached",
        (false, false) => {
            "it will be accounted for, and because it was not to be stored, it cannot be given out any more"
        }
    };
    let message = format!(
        "{} has accepted this and has not finished it within {} s. It is asked for in the background: {then}.",
        provider.name,
        provider.timeout.as_secs()
    );
    let mut error = Error::new(Kind::DeadlinePassed, message).code("still_being_made").context("attempt", attempt.id);
    // Who joins pays nothing; who may not join would pay again.
    error.may_have_billed = !order.is_joinable();
    error.retry_after = Some(Duration::from_secs(5));
    error
}
