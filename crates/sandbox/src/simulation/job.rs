//! Jobs: what was accepted, how it is doing, what came of it.
//!
//! Two clocks drive a job. It really goes on with time: it waits a quarter of the sandbox's latency, runs for the rest,
//! is billed and done. What a poll is told lags behind that by the number of polls that the simulation's file asks for,
//! so that a test without latency meets every state, the same one every time. A job that called back tells the truth at once.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::http::StatusCode;
use minijinja::value::Value;
use serde::Serialize;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::Simulation;
use super::sell::show;
use super::sheet::{BilledAt, Many};
use super::webhook::{self, Callback};
use super::wording::Facts;
use crate::picture::Picture;
use crate::problem::Problem;
use crate::sale::{self, Order};
use crate::script::Plan;
use crate::shop::Shop;

/// How a job will end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    Done,
    Failed,
    /// Refused in the provider's n-th way, from 1.
    Refused(usize),
    /// Nobody will know of it.
    Forgotten,
}

/// How far a job really is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Queued,
    Running,
    /// Being billed and drawn; too late to cancel.
    Ending,
    Ended,
    Cancelled,
}

/// An accepted job.
#[derive(Debug)]
pub(crate) struct Job {
    pub(super) id: String,
    pub(super) simulation: Arc<Simulation>,
    pub(super) order: Order,
    pub(super) plan: Plan,
    pub(super) end: End,
    /// Whether its end is billed.
    pub(super) bills: bool,
    /// What was known at the submission.
    pub(super) facts: Facts,
    pub(super) base: String,
    pub(super) callback: Option<Callback>,
    /// When its time is over, and it only has to be billed and drawn.
    due: Instant,
    /// Cancelled when nothing will change any more.
    settled: CancellationToken,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    phase: Phase,
    invoice: Option<u64>,
    pictures: Vec<Picture>,
    ended: Option<Instant>,
    polls: u32,
    /// What the last poll was told, and how many were told so.
    told: (&'static str, usize),
    odd_told: bool,
    poll_failed: bool,
    called_back: bool,
}

/// What somebody who asks is told.
#[derive(Debug)]
pub(super) struct Glance {
    /// `queued`, `running`, `odd`, `done`, `failed`, `refused`, `cancelled` or `gone`.
    pub state: &'static str,
    pub facts: Facts,
    pub picture: Option<Picture>,
}

/// A job as `GET /control/jobs` lists it.
#[derive(Clone, Debug, Serialize)]
pub struct Listed {
    /// The simulation that accepted it.
    pub simulation: String,
    /// Its name there.
    pub id: String,
    /// The model.
    pub model: String,
    /// How far it really is: `queued`, `running`, `ended` or `cancelled`.
    pub phase: &'static str,
    /// How often somebody asked how it is doing.
    pub polls: u32,
    /// The number of its invoice, if it is billed.
    pub invoice: Option<u64>,
    /// Where its end is told.
    pub webhook: Option<String>,
    /// Whether its end was told there.
    pub called_back: bool,
}

impl Job {
    /// A job that takes that long.
    pub(super) fn new(
        (order, plan): (Order, Plan),
        end: End,
        (simulation, id): (Arc<Simulation>, String),
        time: Duration,
    ) -> Self {
        let state = State {
            phase: Phase::Queued,
            invoice: None,
            pictures: Vec::new(),
            ended: None,
            polls: 0,
            told: ("", 0),
            odd_told: false,
            poll_failed: false,
            called_back: false,
        };
        let (facts, base) = (Facts::new(), String::new());
        let (bills, callback) = (false, None);
        let (due, settled, state) = (Instant::now() + time, CancellationToken::new(), Mutex::new(state));
        Self { id, simulation, order, plan, end, bills, facts, base, callback, due, settled, state }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes that it is billed already.
    pub(super) fn billed(&self, invoice: u64) {
        self.state().invoice = Some(invoice);
    }

    /// Carries the job out.
    pub(super) async fn run(self: Arc<Self>, shop: Arc<Shop>, time: Duration) {
        let _settles = self.settled.clone().drop_guard();
        for (phase, time) in [(Phase::Running, time / 4), (Phase::Ending, time * 3 / 4)] {
            tokio::select! {
                () = sale::wait(time) => {}
                () = shop.stop.cancelled() => return,
            }
            let mut state = self.state();
            if state.phase == Phase::Cancelled {
                return;
            }
            state.phase = phase;
        }
        // A failure here is the sandbox's own. The job then runs for ever, which no test can overlook.
        if self.conclude(&shop).await.is_err() {
            return;
        }
        self.settled.cancel();
        if let Some(callback) = &self.callback {
            let facts = self.told(&shop, self.truth(), 0);
            if webhook::deliver(&shop, &self.simulation.sheet, callback, facts).await {
                self.state().called_back = true;
            }
        }
    }

    /// Waits until the job is settled, if its time is over: what a test without latency sees of a job must not depend
    /// on how fast pictures are drawn.
    pub(super) async fn settle(&self) {
        if Instant::now() >= self.due {
            self.settled.cancelled().await;
        }
    }

    /// Bills and draws.
    async fn conclude(&self, shop: &Shop) -> Result<(), Problem> {
        let earlier = self.state().invoice;
        let invoice = match earlier {
            None if self.bills => Some(sale::bill(shop, &self.order).await?),
            earlier => earlier,
        };
        let pictures = match self.end {
            End::Failed | End::Forgotten => Vec::new(),
            End::Done | End::Refused(_) => {
                sale::draw(shop, &self.order, &self.plan, invoice.unwrap_or_default()).await?
            }
        };
        let mut state = self.state();
        state.invoice = invoice;
        state.pictures = pictures;
        state.phase = Phase::Ended;
        state.ended = Some(Instant::now());
        Ok(())
    }

    /// Its real state, in the words of templates.
    fn truth(&self) -> &'static str {
        let state = self.state();
        match state.phase {
            Phase::Queued => "queued",
            Phase::Running | Phase::Ending => "running",
            Phase::Cancelled => "cancelled",
            Phase::Ended => match self.end {
                End::Done | End::Forgotten => "done",
                End::Failed => "failed",
                End::Refused(_) => "refused",
            },
        }
    }

    /// A look at the job; `None` if nobody knows it. `Err` is the status that a fault wants instead.
    pub(super) fn look(&self, shop: &Shop, counts: bool) -> Option<Result<Glance, StatusCode>> {
        let truth = self.truth();
        let rules = &self.simulation.sheet.job;
        let (shown, times) = {
            let mut state = self.state();
            if self.end == End::Forgotten {
                return None;
            }
            state.polls += u32::from(counts);
            if let Some(status) = self.plan.poll_fail.filter(|_| counts && !state.poll_failed) {
                state.poll_failed = true;
                return Some(Err(status));
            }
            let old = state.ended.is_some_and(|at| at.elapsed() > Duration::from_secs(rules.keep_s));
            let shown = match truth {
                "cancelled" => "cancelled",
                _ if old => "gone",
                _ if state.called_back => truth,
                _ if state.polls <= rules.queued_polls => "queued",
                "queued" => "queued",
                _ if self.plan.odd && !state.odd_told && counts => {
                    state.odd_told = true;
                    "odd"
                }
                _ if state.polls <= rules.queued_polls.saturating_add(rules.running_polls) => "running",
                truth => truth,
            };
            if counts {
                state.told = if state.told.0 == shown { (shown, state.told.1 + 1) } else { (shown, 0) };
            }
            (shown, state.told.1)
        };
        let facts = self.told(shop, shown, times);
        let picture = self.state().pictures.first().filter(|_| matches!(shown, "done" | "refused")).cloned();
        Some(Ok(Glance { state: shown, facts, picture }))
    }

    /// Cancels the job unless it is too late; says whether it did.
    pub(super) async fn cancel(&self, shop: &Shop) -> Result<bool, Problem> {
        let sheet = &self.simulation.sheet;
        let ran = {
            let mut state = self.state();
            let ran = state.phase == Phase::Running;
            if self.end == End::Forgotten || !(state.phase == Phase::Queued || (ran && sheet.job.cancels_running)) {
                return Ok(false);
            }
            state.phase = Phase::Cancelled;
            ran && sheet.billing.cancelled && state.invoice.is_none()
        };
        if ran {
            let invoice = sale::bill(shop, &self.order).await?;
            self.billed(invoice);
        }
        Ok(true)
    }

    /// The variables for an answer that tells this state.
    fn told(&self, shop: &Shop, shown: &'static str, times: usize) -> Facts {
        let mut facts = self.facts.clone();
        let state = self.state();
        let pictures = match shown {
            "done" | "refused" => state.pictures.as_slice(),
            _ => &[],
        };
        facts.insert("pictures", show(shop, &self.simulation, &self.base, &self.id, &self.order, &self.plan, pictures));
        let (refusal, times) = match self.end {
            End::Refused(way) if shown == "refused" => (way, way - 1),
            _ => (0, times),
        };
        let names = self.simulation.sheet.job.names.get(shown).map(Many::all).unwrap_or_default();
        let status = names.get(times).or_else(|| names.last()).map_or(shown, String::as_str);
        let progress = match shown {
            "queued" => 0,
            "running" | "odd" => (10 + 20 * u32::try_from(times).unwrap_or(4)).min(90),
            _ => 100,
        };
        let job = BTreeMap::from([
            ("id", Value::from(self.id.clone())),
            ("state", Value::from(shown)),
            ("status", Value::from(status)),
            ("progress", Value::from(progress)),
            ("position", Value::from(u32::from(shown == "queued"))),
            ("refusal", Value::from(refusal)),
            ("polls", Value::from(state.polls)),
            ("ended", Value::from(!matches!(shown, "queued" | "running" | "odd"))),
        ]);
        facts.insert("job", Value::from(job));
        facts
    }

    fn listed(&self) -> Listed {
        let state = self.state();
        Listed {
            simulation: self.simulation.sheet.name.clone(),
            id: self.id.clone(),
            model: self.order.model.clone(),
            phase: match state.phase {
                Phase::Queued => "queued",
                Phase::Running | Phase::Ending => "running",
                Phase::Ended => "ended",
                Phase::Cancelled => "cancelled",
            },
            polls: state.polls,
            invoice: state.invoice,
            webhook: self.callback.as_ref().map(|callback| callback.url.clone()),
            called_back: state.called_back,
        }
    }
}

/// Whether accepting a job writes its invoice.
pub(super) fn billed_on_submission(simulation: &Simulation) -> bool {
    simulation.sheet.billing.at == BilledAt::Submit
}

/// How many jobs are kept; older ones are gone.
const KEPT: usize = 10_000;

/// All jobs, oldest first.
#[derive(Debug, Default)]
pub(crate) struct Jobs(Mutex<Vec<Arc<Job>>>);

impl Jobs {
    /// Keeps a job.
    pub(super) fn accept(&self, job: Arc<Job>) {
        let mut jobs = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if jobs.len() >= KEPT {
            jobs.remove(0);
        }
        jobs.push(job);
    }

    /// The job of that name.
    pub(super) fn find(&self, simulation: &str, id: &str) -> Option<Arc<Job>> {
        let jobs = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        jobs.iter().rev().find(|job| job.id == id && job.simulation.sheet.name == simulation).cloned()
    }

    /// Every job.
    pub(crate) fn list(&self) -> Vec<Listed> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).iter().map(|job| job.listed()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simulation::Simulations;
    use crate::{Book, Options};
    use tokio_util::sync::CancellationToken;
    use tokio_util::task::TaskTracker;

    // The clock is paused in these tests: a sleep moves it and takes no time.

    const SHEET: &str = r#"
name = "easel"
title = "The easel"
docs = "https://example.com"
as_of = "2026-11-21"
routes = []
[prices]
"*" = "0.25"
[billing]
cancelled = true
[errors]
[job]
queued_polls = 0
running_polls = 0
keep_s = 60
tells_gone = true
"#;

    fn shop(latency: Duration) -> Arc<Shop> {
        let book = Arc::new(Book::open(None, false).unwrap());
        let options = Options { latency, ..Options::default() };
        let work = (TaskTracker::new(), CancellationToken::new());
        Arc::new(Shop::new(&options, (book, options.listen), Simulations::default(), work))
    }

    /// A job that has begun.
    fn begun(shop: &Arc<Shop>) -> Arc<Job> {
        let simulation = Arc::new(Simulation::parse("easel.toml", SHEET).unwrap());
        let order = Order {
            provider: "easel".to_owned(),
            account: "a".to_owned(),
            attempt: None,
            model: "oil".to_owned(),
            edit: false,
            n: 1,
            width: 16,
            height: 16,
            quality: None,
            prompt: "a kite".to_owned(),
            seed: None,
            format: crate::picture::Format::Png,
            transparent: false,
            usd: "0.25".parse().unwrap(),
            usage: None,
            events: 0,
        };
        let time = shop.latency();
        let mut job = Job::new((order, Plan::default()), End::Done, (simulation, "1".to_owned()), time);
        job.bills = true;
        let job = Arc::new(job);
        shop.tasks.spawn(Arc::clone(&job).run(Arc::clone(shop), time));
        job
    }

    fn told(job: &Job, shop: &Shop) -> &'static str {
        job.look(shop, true).unwrap().unwrap().state
    }

    #[tokio::test(start_paused = true)]
    async fn a_job_waits_runs_ends_and_is_forgotten() {
        let shop = shop(Duration::from_secs(40));
        let job = begun(&shop);
        for (seconds, state) in [(9, "queued"), (29, "running")] {
            tokio::time::sleep(Duration::from_secs(seconds)).await;
            assert_eq!(told(&job, &shop), state);
        }
        assert_eq!(shop.book.totals().count, 0);
        tokio::time::sleep(Duration::from_secs(2)).await;
        job.settle().await;
        assert_eq!((told(&job, &shop), shop.book.totals().count), ("done", 1));
        assert!(!job.cancel(&shop).await.unwrap(), "too late");
        tokio::time::sleep(Duration::from_secs(61)).await;
        assert_eq!((told(&job, &shop), shop.book.totals().count), ("gone", 1));
    }

    #[tokio::test(start_paused = true)]
    async fn a_cancelled_job_is_billed_if_it_ran_and_the_file_says_so() {
        let shop = shop(Duration::from_secs(40));
        let (waits, runs) = (begun(&shop), begun(&shop));
        tokio::time::sleep(Duration::from_secs(5)).await;
        assert!(waits.cancel(&shop).await.unwrap());
        tokio::time::sleep(Duration::from_secs(10)).await;
        assert!(runs.cancel(&shop).await.unwrap());
        assert!(!runs.cancel(&shop).await.unwrap(), "only once");
        tokio::time::sleep(Duration::from_secs(60)).await;
        assert_eq!((told(&waits, &shop), told(&runs, &shop)), ("cancelled", "cancelled"));
        assert_eq!((waits.listed().invoice, runs.listed().invoice), (None, Some(1)));
        assert_eq!(shop.book.totals().count, 1);
    }
}
