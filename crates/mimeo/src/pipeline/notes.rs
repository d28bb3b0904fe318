//! What is noted of one request while it is served: by its caller's future, and by the task that makes its pictures,
//! which may outlive it.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::time::Instant;

use super::make::Called;
use super::stories::Stories;
use super::{Landed, Landing, Making, total};
use crate::clock::Millis;
use crate::domain::{
    Answer, AttemptId, Call, Considered, Delivered, Digest, Outcome, Price, Reason, Story, Tried, Verdict,
};
use crate::error::{Error, Result};
use crate::route::Plan;

/// Candidates that are few enough to be told of in every story.
const FEW: usize = 16;

/// The story of a request so far.
#[derive(Debug)]
pub(super) struct Notes {
    stories: Stories,
    begun: Instant,
    noted: Mutex<Noted>,
}

#[derive(Debug)]
struct Noted {
    story: Story,
    /// True once it was written down: its caller is answered, or has gone.
    is_told: bool,
}

/// The duty to tell what came of a request. Dropped without that, its caller has hung up.
#[derive(Debug)]
pub(super) struct Telling {
    pub(super) notes: Arc<Notes>,
}

impl Telling {
    /// Begins the story of `call`.
    pub(super) fn begin(stories: &Stories, call: &Call, now: Millis) -> Telling {
        Telling { notes: Arc::new(Notes::of(stories, call, now)) }
    }
}

impl Drop for Telling {
    fn drop(&mut self) {
        self.notes.tell();
    }
}

impl Notes {
    /// Nothing but what was asked for.
    pub(super) fn of(stories: &Stories, call: &Call, now: Millis) -> Notes {
        let story = Story {
            request: call.id,
            parent: call.leg.and_then(|leg| leg.parent),
            stage: call.leg.map(|leg| leg.stage),
            at_ms: now,
            took_ms: 0,
            tenant: call.caller.tenant.clone(),
            key: call.caller.key.clone(),
            route: String::new(),
            model: call.model.clone(),
            purpose: call.purpose.clone(),
            category: call.category.clone(),
            prompt: stories.keep_prompts().then(|| call.request.prompt.clone()),
            reading: Vec::new(),
            objective: None,
            candidates: Vec::new(),
            attempts: Vec::new(),
            joined: None,
            cache: None,
            cache_key: None,
            cost: Price::FREE,
            saved: None,
            pictures: Vec::new(),
            warnings: Vec::new(),
            outcome: Outcome::Error {
                kind: "left".to_owned(),
                code: "caller_left".to_owned(),
                message: "Its caller hung up before it was answered.".to_owned(),
            },
        };
        Notes { stories: stories.clone(), begun: Instant::now(), noted: Mutex::new(Noted { story, is_told: false }) }
    }

    /// What was told of the request before; what is noted from now on is added to that.
    pub(super) fn take_up(&self, told: Story) {
        let mut noted = self.noted();
        noted.story = told;
        noted.is_told = true;
    }

    /// ① Who may serve it.
    pub(super) fn planned(&self, call: &Call, plan: &Plan, key: Digest) {
        if !self.stories.keep() && !call.explain {
            return;
        }
        let mut noted = self.noted();
        noted.story.route.clone_from(&plan.route);
        noted.story.purpose.clone_from(&plan.sense.purpose);
        noted.story.category.clone_from(&plan.sense.category);
        // Where all models that are there are candidates, only whoever has a picture made, or asks, reads about them.
        if call.explain || plan.candidates.len() <= FEW {
            noted.story.candidates = plan.considered(call.n, call.stream.unwrap_or(0));
        }
        noted.story.objective = plan.objective();
        noted.story.cache_key = Some(key.to_string());
    }

    /// Something that was found out about the request before it was made, in a clause.
    pub(super) fn read(&self, line: String) {
        let mut noted = self.noted();
        if !noted.story.reading.contains(&line) {
            noted.story.reading.push(line);
        }
    }

    /// ④ What is thought of those who may serve it, now that it has to be made.
    pub(super) fn ranked(&self, plan: &Plan, considered: Vec<Considered>) {
        self.noted().story.candidates = considered.into_iter().chain(plan.unfit().take(FEW)).collect();
    }

    /// The candidate `name` could serve, and is left alone.
    pub(super) fn rests(&self, name: &str, code: &str, why: String) {
        self.judge(name, Verdict::Resting, code, why);
    }

    /// The candidate `name` is not for this caller.
    pub(super) fn bars(&self, name: &str, why: String) {
        self.judge(name, Verdict::Dropped, "environment", why);
    }

    /// The candidate `name` was down, and this request finds out whether it is back.
    pub(super) fn probes(&self, name: &str) {
        self.judge(name, Verdict::Probe, "was_down", "it was down, and is asked whether it is back".to_owned());
    }

    fn judge(&self, name: &str, verdict: Verdict, code: &str, text: String) {
        let mut noted = self.noted();
        if let Some(candidate) = noted.story.candidates.iter_mut().find(|candidate| candidate.name == name) {
            candidate.verdict = verdict;
            candidate.reason = Some(Reason { code: code.to_owned(), text });
        }
    }

    /// A call to the candidate `name`, begun at `begun`, with `expected` set aside for it, ended as `outcome`.
    /// `attempt` is what was sent.
    pub(super) fn called(
        &self,
        name: &str,
        begun: Instant,
        attempt: Option<AttemptId>,
        expected: Price,
        outcome: &Result<Called>,
    ) {
        let (word, text, billed) = match outcome {
            Ok(Called::Pictures(seen)) => {
                let made = format!("made {}", seen.good.len() + seen.failed.len());
                let text = seen.findings.iter().fold(made, |text, finding| format!("{text}; {finding}"));
                ("made", text, total(seen.good.iter().chain(&seen.failed)))
            }
            Ok(Called::Fault(fault, _)) => {
                let in_doubt = if fault.kind.may_have_billed() { Price::Unknown } else { Price::FREE };
                (fault.kind.name(), fault.to_string(), fault.billed.unwrap_or(in_doubt))
            }
            Ok(Called::Needless(Making::UnderWay)) => {
                ("needless", "another process was making the same".to_owned(), Price::FREE)
            }
            Ok(Called::Needless(_)) => ("needless", "another process had just made the same".to_owned(), Price::FREE),
            Ok(Called::AccountSpent(error)) => ("account_spent", error.message.clone(), Price::FREE),
            // Sent, and its provider is still at it: told again once it has ended.
            Err(error) if attempt.is_some() => ("unfinished", error.message.clone(), Price::Unknown),
            Err(error) => (code(error), error.message.clone(), Price::FREE),
        };
        let made = if let Ok(Called::Pictures(seen)) = outcome { seen.good.as_slice() } else { &[] };
        let tried = Tried {
            candidate: name.to_owned(),
            attempt,
            outcome: word.to_owned(),
            text,
            expected,
            billed,
            ms: since(begun),
        };
        self.tried(tried, made);
    }

    /// `pictures` were drawn here, from the template `name`.
    pub(super) fn rendered(&self, name: &str, begun: Instant, pictures: &[Delivered]) {
        let tried = Tried {
            candidate: name.to_owned(),
            attempt: None,
            outcome: "made".to_owned(),
            text: format!("made {}", pictures.len()),
            expected: Price::FREE,
            billed: Price::FREE,
            ms: since(begun),
        };
        self.tried(tried, pictures);
    }

    fn tried(&self, tried: Tried, made: &[Delivered]) {
        let mut noted = self.noted();
        let story = &mut noted.story;
        if story.joined.take().is_some() {
            // What it waited for came to nothing, and now it makes them itself.
            story.attempts.clear();
        }
        story.attempts.retain(|known| known.attempt.is_none() || known.attempt != tried.attempt);
        story.attempts.push(tried);
        story.pictures.extend(made.iter().filter_map(|delivered| delivered.id));
    }

    /// Notes what the flight came to that this request was on, and gives it out.
    pub(super) fn follow(self: &Arc<Self>, landing: Landing) -> Result<Arc<Landed>, Arc<Error>> {
        if !Arc::ptr_eq(self, &landing.notes) {
            let leader = landing.notes.story();
            let mut noted = self.noted();
            noted.story.joined = Some(leader.request);
            noted.story.attempts = leader.attempts;
        }
        landing.outcome
    }

    /// The task that makes its pictures has ended. Who was told of it already is told the rest.
    pub(super) fn landed(&self) {
        if self.noted().is_told {
            self.stories.tell(self.story());
        }
    }

    /// ⑨ What its caller is told.
    pub(super) fn answered(&self, outcome: &Result<Answer>) {
        let mut noted = self.noted();
        let story = &mut noted.story;
        story.took_ms = since(self.begun);
        match outcome {
            Ok(answer) => {
                story.cache = Some(answer.source);
                story.saved = Some(answer.saved);
                story.pictures = answer.pictures.iter().filter_map(|delivered| delivered.id).collect();
                story.warnings.clone_from(&answer.warnings);
                story.outcome = Outcome::Ok;
            }
            Err(error) => {
                let kind = serde_json::to_value(error.kind).unwrap_or_default();
                story.outcome = Outcome::Error {
                    kind: kind.as_str().unwrap_or_default().to_owned(),
                    code: code(error).to_owned(),
                    message: error.message.clone(),
                };
            }
        }
    }

    /// What its caller is told besides.
    pub(super) fn warned(&self, warnings: &[String]) {
        self.noted().story.warnings = warnings.to_vec();
    }

    /// The story so far.
    pub(super) fn story(&self) -> Story {
        let mut story = self.noted().story.clone();
        story.cost = story.billed();
        story
    }

    /// Has the story written down.
    pub(super) fn tell(&self) {
        self.noted().is_told = true;
        self.stories.tell(self.story());
    }

    fn noted(&self) -> MutexGuard<'_, Noted> {
        self.noted.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn since(begun: Instant) -> u64 {
    u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX)
}

fn code(error: &Error) -> &str {
    error.code.as_deref().unwrap_or(error.kind.code())
}
