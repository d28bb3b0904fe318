//! The shape of providers that answer with a job: it is submitted once, written down as accepted, and asked for until
//! it has ended. Asking costs nothing, so it goes on through whatever fails on the way; a job that was accepted is
//! never sent again.

use std::time::Duration;

use reqwest::header::{HeaderMap, RETRY_AFTER};
use reqwest::{Method, Url};
use serde_json::{Map, Value};
use tokio::time::{Instant, sleep};

use super::answer::Answer;
use super::call::{self, Payload, Reply};
use super::exchange::{self, Came};
use super::lift::Lifted;
use super::pace::Pace;
use super::provider::{Job, Provider};
use super::watch::{Ticket, Watch};
use super::wiring::{self, CancelMethod, Field, JobRules};
use super::{fault, pointer};
use crate::clock::millis;
use crate::domain::{Fault, FaultKind, Generated, Progress, Usd};
use crate::net::guard;

/// How long one question may take.
const QUESTION: Duration = Duration::from_secs(30);

/// Pause between questions where the provider calls back: only in case it does not.
const CALLED_BACK: Duration = Duration::from_secs(30);

/// How long a provider may not know a job that it has just accepted: its servers may lag behind each other.
const UNKNOWN_AT_FIRST: Duration = Duration::from_secs(20);

/// How many times in a row a question may be refused before the job is given up.
const DENIALS: u8 = 3;

/// Most bytes of an answer to cancelling that are read.
const LONGEST_WORD: usize = 16 << 10;

pub(super) async fn submit(provider: &Provider, job: &Job<'_>, watch: &dyn Watch) -> Result<Generated, Fault> {
    let rules = &job.model.wiring.job;
    let callback = watch.callback();
    let mut reply = exchange::send(provider, job, None, callback.as_ref()).await?;
    let mut answer = Answer::default();
    answer.note_costs(job, &Value::Null, Some(reply.headers()));
    let lifted = match exchange::receive(provider, job, &mut reply, &answer).await? {
        // Some finish small jobs at once.
        Came::Picture(picture) => {
            answer.pictures.push(picture);
            return exchange::conclude(provider, job, answer).await;
        }
        Came::Json(lifted) => lifted,
    };
    drop(reply);
    answer.note_costs(job, &lifted.value, None);
    let Some(id) = pointer::text(&lifted.value, &rules.id) else {
        exchange::check_error(provider, job, &lifted, &answer)?;
        return Err(Fault::new(FaultKind::Unknown, "it accepted the request and named no job"));
    };
    let told = |place: &Option<String>| place.as_ref().and_then(|place| pointer::text(&lifted.value, place));
    let ticket = Ticket {
        id,
        poll: told(&rules.poll),
        result: told(&rules.result),
        cancel: told(&rules.cancel),
        accepted_ms: provider.clock.now(),
        billed_pico: answer.billed.map(Usd::pico),
    };
    if watch.accepted(&ticket).await.is_err() {
        tracing::warn!(provider = provider.name, attempt = %job.attempt, "an accepted job could not be written down");
    }
    let mut asking =
        Asking { provider, job, watch, ticket: &ticket, answer, cancelling: false, denied: 0, unknown: None };
    match asking.judge(lifted, true).await.map_err(once)? {
        Some(generated) => Ok(generated),
        None => asking.until_it_ends().await.map_err(once),
    }
}

pub(super) async fn resume(
    provider: &Provider,
    job: &Job<'_>,
    ticket: &Ticket,
    watch: &dyn Watch,
) -> Result<Generated, Fault> {
    let answer = Answer { billed: ticket.billed_pico.map(Usd::from_pico), ..Answer::default() };
    Asking { provider, job, watch, ticket, answer, cancelling: false, denied: 0, unknown: None }.until_it_ends().await
}

/// A job that was accepted and failed is not sent again by itself, whatever is said of its bill: that it costs nothing
/// is the record's word alone, and what failed while it was worked on would most likely fail again.
fn once(fault: Fault) -> Fault {
    let should_retry = if fault.kind == FaultKind::Failed { Some(false) } else { fault.should_retry };
    Fault { should_retry, ..fault }
}

/// An accepted job that is asked for.
struct Asking<'a> {
    provider: &'a Provider,
    job: &'a Job<'a>,
    watch: &'a dyn Watch,
    ticket: &'a Ticket,
    /// What is known of its bill so far.
    answer: Answer,
    /// True once it was told to stop.
    cancelling: bool,
    /// How many questions in a row were refused.
    denied: u8,
    /// A status that the record does not know, once it was seen.
    unknown: Option<String>,
}

/// How a job is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    Waiting,
    Running,
    Done,
    Refused,
    Failed,
    Cancelled,
}

impl Asking<'_> {
    fn rules(&self) -> &JobRules {
        &self.job.model.wiring.job
    }

    async fn until_it_ends(&mut self) -> Result<Generated, Fault> {
        let deadline = Instant::now() + self.provider.timeout;
        let (mut pause, mut pace) = Pace::of(self.rules());
        if self.job.model.wiring.place(Field::Callback).is_some() && self.watch.callback().is_some() {
            pace = pace.no_faster_than(CALLED_BACK);
        }
        loop {
            if Instant::now() + pause > deadline {
                return Err(self.not_ended());
            }
            tokio::select! {
                () = sleep(pause) => {}
                () = self.watch.woken() => {}
                () = self.watch.stopped(), if !self.cancelling => self.cancel().await,
            }
            let wait = match self.ask(deadline).await {
                Ok(lifted) => {
                    if let Some(generated) = self.judge(lifted, false).await? {
                        return Ok(generated);
                    }
                    None
                }
                Err(Ended::Come(answer)) => {
                    self.answer.pictures.extend(answer.pictures);
                    return exchange::conclude(self.provider, self.job, std::mem::take(&mut self.answer)).await;
                }
                Err(Ended::Not(wait)) => wait,
                Err(Ended::Fault(fault)) => return Err(fault),
            };
            pause = pace.next().max(wait.unwrap_or_default());
        }
    }

    fn not_ended(&self) -> Fault {
        let seconds = self.provider.timeout.as_secs();
        Fault::new(FaultKind::Unfinished, format!("it accepted the job and did not finish it within {seconds} s"))
    }

    /// One question. What fails on the way says nothing about the job.
    async fn ask(&mut self, deadline: Instant) -> Result<Lifted, Ended> {
        let rules = self.rules();
        let url = self.address(self.ticket.poll.as_deref(), rules.poll_path.as_deref()).map_err(Ended::Fault)?;
        let (method, payload) = match rules.poll_method {
            wiring::Method::Get => (Method::GET, Payload::Nothing),
            wiring::Method::Post => {
                let mut body = Map::new();
                for (place, value) in &rules.poll_body {
                    pointer::put(&mut body, place, Value::from(self.filled(value)));
                }
                (Method::POST, Payload::Json(Value::Object(body).to_string()))
            }
        };
        let mut reply = self.send(method, url, payload, deadline).await?;
        self.read(&mut reply).await
    }

    async fn send(&self, method: Method, url: Url, payload: Payload, deadline: Instant) -> Result<Reply, Ended> {
        let until = deadline.min(Instant::now() + QUESTION);
        let headers = call::headers(self.provider, self.job).map_err(Ended::Fault)?;
        match call::send(self.provider, method, url, headers, payload, until).await {
            Ok(reply) => Ok(reply),
            Err(fault) => {
                tracing::debug!(provider = self.provider.name, attempt = %self.job.attempt, %fault, "a question failed");
                Err(Ended::Not(None))
            }
        }
    }

    /// Reads the answer to a question.
    async fn read(&mut self, reply: &mut Reply) -> Result<Lifted, Ended> {
        let status = reply.status();
        self.denied = if matches!(status, 401 | 403) { self.denied.saturating_add(1) } else { 0 };
        if status == 202 && self.rules().http_status && self.rules().status.is_none() {
            self.watch.progress(Progress::Running { percent: None });
            return Err(Ended::Not(waits(reply.headers())));
        }
        let fault = match exchange::receive(self.provider, self.job, reply, &self.answer).await {
            Ok(Came::Json(lifted)) => return Ok(lifted),
            Ok(Came::Picture(picture)) => {
                return Err(Ended::Come(Answer { pictures: vec![picture], ..Answer::default() }));
            }
            Err(fault) => fault,
        };
        let age = self.provider.clock.now().saturating_sub(self.ticket.accepted_ms);
        let is_young = age < millis(UNKNOWN_AT_FIRST);
        match status {
            404 | 410 if is_young => Err(Ended::Not(None)),
            404 | 410 => {
                Err(Ended::Fault(Fault::new(FaultKind::Unknown, "it does not know the job any more that it accepted")))
            }
            // An access token may have run out meanwhile, and the next question gets another.
            401 | 403 if self.denied <= DENIALS && fault.kind == FaultKind::Denied => Err(Ended::Not(None)),
            // The question was too much, or somebody on the way is ill: the job goes on.
            408 | 425 | 429 | 500..=599 => Err(Ended::Not(fault.retry_after.or_else(|| waits(reply.headers())))),
            // What reads like a page or breaks off is somebody on the way, too.
            200..=299 if matches!(fault.kind, FaultKind::Unknown | FaultKind::BadAnswer) => Err(Ended::Not(None)),
            _ => Err(Ended::Fault(self.ended_with(fault))),
        }
    }

    /// What an answer says of the job: its pictures if it has ended well, `None` if it goes on.
    async fn judge(&mut self, lifted: Lifted, is_first: bool) -> Result<Option<Generated>, Fault> {
        let value = &lifted.value;
        self.answer.note_costs(self.job, value, None);
        match self.stage(value, is_first) {
            Stage::Waiting => {
                let place = self.rules().position.as_ref();
                let position = place.and_then(|place| pointer::first(value, place)).and_then(Value::as_u64);
                let position = position.and_then(|position| u32::try_from(position).ok());
                self.watch.progress(Progress::Queued { position });
                Ok(None)
            }
            Stage::Running => {
                self.watch.progress(Progress::Running { percent: self.percent(value) });
                Ok(None)
            }
            Stage::Done => self.collect(lifted).await.map(Some),
            Stage::Refused => {
                let message = self.reason(value).unwrap_or_else(|| "the content policy said no".to_owned());
                let mut fault = Fault::new(FaultKind::Refused, message);
                if self.job.model.wiring.billing.refused == Some(true) {
                    fault.billed = Some(self.answer.bill(self.job));
                }
                Err(fault)
            }
            Stage::Failed => {
                let message = self.reason(value).unwrap_or_else(|| "the job failed".to_owned());
                let known = fault::of_sign(self.provider, &self.job.model.wiring, 200, &HeaderMap::new(), value);
                Err(match known {
                    Some((fault, is_billed)) if is_billed || self.states_a_bill() => {
                        Fault { billed: Some(self.answer.bill(self.job)), ..fault }
                    }
                    Some((fault, _)) => fault,
                    None => self.ended_with(Fault::new(FaultKind::Failed, message)),
                })
            }
            Stage::Cancelled => Err(match self.job.model.wiring.billing.cancelled {
                Some(true) => Fault {
                    billed: Some(self.answer.bill(self.job)),
                    ..Fault::new(FaultKind::BadAnswer, "the job was cancelled, and is billed")
                },
                Some(false) => Fault::new(FaultKind::Cancelled, "the job was cancelled"),
                None => Fault::new(FaultKind::Unknown, "the job was cancelled, and may be billed"),
            }),
        }
    }

    /// True if the provider has said that this job costs something.
    fn states_a_bill(&self) -> bool {
        self.answer.billed.is_some_and(|usd| !usd.is_zero())
    }

    fn stage(&mut self, value: &Value, is_first: bool) -> Stage {
        let rules = &self.job.model.wiring.job;
        let Some(place) = &rules.status else {
            // Only the pictures tell.
            let has_pictures = Answer::has_pictures(self.job, value);
            return if has_pictures || !is_first { Stage::Done } else { Stage::Waiting };
        };
        let Some(status) = pointer::text(value, place) else {
            // The answer to a submission often has none.
            return Stage::Waiting;
        };
        let is = |list: &[String]| list.contains(&status);
        if is(&rules.done) {
            Stage::Done
        } else if is(&rules.refused) {
            Stage::Refused
        } else if is(&rules.failed) {
            Stage::Failed
        } else if is(&rules.cancelled) {
            Stage::Cancelled
        } else if is(&rules.waiting) {
            Stage::Waiting
        } else {
            if !is(&rules.running) && self.unknown.as_ref() != Some(&status) {
                let provider = &self.provider.name;
                let status: String = status.chars().take(60).collect();
                tracing::warn!(provider, attempt = %self.job.attempt, status, "a status that the record does not know");
                self.unknown = Some(status);
            }
            Stage::Running
        }
    }

    /// The pictures of a job that is done: in the answer that says so, or where it says that they are.
    async fn collect(&mut self, lifted: Lifted) -> Result<Generated, Fault> {
        let rules = self.rules();
        let told = rules.result.as_ref().and_then(|place| pointer::text(&lifted.value, place));
        let told = told.or_else(|| self.ticket.result.clone());
        let lifted = if told.is_none() && rules.result_path.is_none() {
            lifted
        } else {
            let url = self.address(told.as_deref(), self.rules().result_path.as_deref())?;
            match self.fetch(url).await? {
                Came::Json(lifted) => lifted,
                Came::Picture(picture) => {
                    self.answer.pictures.push(picture);
                    return exchange::conclude(self.provider, self.job, std::mem::take(&mut self.answer)).await;
                }
            }
        };
        self.answer.read_by_rules(self.job, &lifted)?;
        if self.answer.is_empty() {
            let known = fault::of_sign(self.provider, &self.job.model.wiring, 200, &HeaderMap::new(), &lifted.value);
            if let Some((fault, is_billed)) = known {
                let billed = is_billed.then(|| self.answer.bill(self.job));
                return Err(Fault { billed, ..fault });
            }
            exchange::check_error(self.provider, self.job, &lifted, &self.answer)?;
        }
        exchange::conclude(self.provider, self.job, std::mem::take(&mut self.answer)).await
    }

    /// Asks for the result of a job that is done. That it is done does not mean that it went well.
    async fn fetch(&self, url: Url) -> Result<Came, Fault> {
        let deadline = Instant::now() + self.provider.timeout;
        let mut pause = Duration::from_millis(250);
        loop {
            let last = match self.send(Method::GET, url.clone(), Payload::Nothing, deadline).await {
                Ok(mut reply) => match exchange::receive(self.provider, self.job, &mut reply, &self.answer).await {
                    Ok(came) => return Ok(came),
                    Err(fault) => {
                        let may_pass = matches!(reply.status(), 404 | 408 | 425 | 429 | 500..=599)
                            || (reply.is_success() && fault.kind == FaultKind::Unknown);
                        if !may_pass {
                            return Err(self.ended_with(fault));
                        }
                        fault
                    }
                },
                Err(Ended::Fault(fault)) => return Err(fault),
                Err(_) => Fault::new(FaultKind::Unfinished, "its result could not be fetched"),
            };
            if pause > Duration::from_secs(16) || Instant::now() + pause > deadline {
                return Err(match last.kind {
                    // It says that the job failed, again and again.
                    FaultKind::Failed => self.ended_with(last),
                    // It is there: whoever asks later may get it.
                    _ => Fault { kind: FaultKind::Unfinished, ..last },
                });
            }
            sleep(pause).await;
            pause *= 2;
        }
    }

    /// What a fault means that ended an accepted job.
    fn ended_with(&self, fault: Fault) -> Fault {
        match fault.kind {
            FaultKind::Refused if self.job.model.wiring.billing.refused == Some(true) => {
                Fault { billed: Some(self.answer.bill(self.job)), ..fault }
            }
            FaultKind::Refused => fault,
            // The question was refused, not the job.
            FaultKind::Denied => Fault { kind: FaultKind::Unknown, ..fault },
            _ => match self.job.model.wiring.billing.failed {
                Some(false) => Fault { kind: FaultKind::Failed, ..fault },
                Some(true) => Fault { kind: FaultKind::BadAnswer, billed: Some(self.answer.bill(self.job)), ..fault },
                None => Fault { kind: FaultKind::Unknown, ..fault },
            },
        }
    }

    /// Tells the provider to stop. Whether it did is what the next answers say.
    async fn cancel(&mut self) {
        self.cancelling = true;
        let rules = self.rules();
        if self.ticket.cancel.is_none() && rules.cancel_path.is_none() {
            return;
        }
        let method = match rules.cancel_method {
            CancelMethod::Post => Method::POST,
            CancelMethod::Put => Method::PUT,
            CancelMethod::Delete => Method::DELETE,
        };
        let Ok(url) = self.address(self.ticket.cancel.as_deref(), rules.cancel_path.as_deref()) else { return };
        if let Ok(mut reply) = self.send(method, url, Payload::Nothing, Instant::now() + QUESTION).await {
            let status = reply.status();
            let _ = reply.head_of_body(self.provider, LONGEST_WORD).await;
            tracing::info!(provider = self.provider.name, attempt = %self.job.attempt, status, "told a job to stop");
        }
    }

    /// The address that the provider told, if the key may go there, else the one that a path makes.
    fn address(&self, told: Option<&str>, path: Option<&str>) -> Result<Url, Fault> {
        let Some(told) = told else {
            let path = path.ok_or_else(|| Fault::new(FaultKind::Unknown, "its record does not say where to ask"))?;
            return call::address(self.provider, &self.filled_path(path));
        };
        let refused =
            |why: &str| Fault::new(FaultKind::Unknown, format!("the address to ask at may not be called: {why}"));
        let base = self.provider.base.as_ref().ok_or_else(|| refused("the provider has none"))?;
        let url = base.join(told).map_err(|_| refused("it cannot be read"))?;
        if url.origin() == base.origin() {
            return Ok(url);
        }
        guard::check(&url).map_err(|why| refused(&why.to_string()))?;
        match guard::is_within(&url, &self.rules().hosts) {
            true => Ok(url),
            false => Err(refused("it is on a host that its record does not name")),
        }
    }

    fn filled(&self, text: &str) -> String {
        self.provider.expand(text).replace("{id}", &self.ticket.id)
    }

    fn filled_path(&self, path: &str) -> String {
        call::named(self.job, path).replace("{id}", &call::encoded(&self.ticket.id, true))
    }

    fn percent(&self, value: &Value) -> Option<u8> {
        let share = self.rules().progress.as_ref()?;
        let number = pointer::first(value, &share.at)?.as_f64()?;
        let percent = (number / f64::from(share.full.max(1)) * 100.0).clamp(0.0, 100.0);
        // In range by the clamp.
        Some(percent as u8)
    }

    fn reason(&self, value: &Value) -> Option<String> {
        let text = self.rules().detail.iter().find_map(|place| {
            let found = pointer::first(value, place)?;
            match found {
                Value::String(text) => Some(text.clone()).filter(|text| !text.is_empty()),
                Value::Object(_) | Value::Array(_) => Some(found.to_string()),
                _ => None,
            }
        })?;
        Some(fault::clean(self.provider, &text)).filter(|text| !text.is_empty())
    }
}

/// Why a question brought no answer to judge.
enum Ended {
    /// It has not ended: ask again, after that time if it is said.
    Not(Option<Duration>),
    /// Its picture came as the answer.
    Come(Answer),
    /// It has ended badly.
    Fault(Fault),
}

/// How long an answer asks to wait.
fn waits(headers: &HeaderMap) -> Option<Duration> {
    let seconds: u64 = headers.get(RETRY_AFTER)?.to_str().ok()?.trim().parse().ok()?;
    Some(Duration::from_secs(seconds.min(60)))
}

#[cfg(test)]
#[path = "poll_tests.rs"]
mod tests;
