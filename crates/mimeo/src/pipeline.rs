//! One request, phase by phase. Read this first.
//!
//! ```text
//! ① key       what is asked for, as 256 bits          cache::key
//! ② lookup    is it there already?                    cache
//! ③ flight    is it being made already? else lead     flight
//! ④ route     who can make it, in which order         route
//! ⑤ reserve   set the money aside                     ledger
//! ⑥ attempt   intent, then the paid call              attempt
//! ⑦ admit     are these bytes that picture?           media, and how it looks: pipeline::inspect
//! ⑧ store     blob, row, entry, settlement            store
//! ⑨ answer    everybody on board gets it              domain::Answer
//! ```
//!
//! Around them, [`Pipeline::run_kept`] keeps the answer for who asks again under the same key.
//!
//! Phases ④ to ⑧ run in a tracked task that belongs to no caller's connection: who hangs up neither
//! cancels nor repeats paid work (I15), and a stopping process waits for the tracker (I14).

mod admit;
mod again;
mod answer;
mod cascade;
mod conclude;
mod copies;
mod credits;
mod feedback;
mod inspect;
mod kept;
mod laps;
mod make;
mod notes;
mod papers;
mod parts;
mod purse;
mod rank;
mod render;
mod resume;
mod shadow;
mod stories;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::alerts::Alerts;
use crate::attempt::{Attempts, Callbacks};
pub use crate::cache::Stored;
use crate::cache::{Cache, Found, Hand, Pool, key};
use crate::classify::Classifier;
use crate::clock::Clock;
use crate::domain::{Answer, CacheMode, Call, Delivered, Digest, ImageId, Progress, RequestId, Source};
use crate::error::{Error, Kind, Result};
use crate::failpoint::failpoint;
use crate::flight::{Flights, Lead, Seat};
use crate::ledger::Ledger;
use crate::media::inspect::Habits;
use crate::prices::PriceBook;
use crate::quality::{Judge, Opinions};
use crate::render::Renderer;
pub use crate::route::ModelListing;
use crate::route::performance::Performance;
use crate::route::{Plan, Routes, Sense};
use crate::shared::{Hint, Shared};
pub use crate::store::FeedbackKind;
use crate::store::Store;
pub use crate::store::{GroupBy, LedgerQuery, LedgerReport};
use answer::{total, wait};
pub use cascade::Approval;
pub use feedback::{Remark, Told, Topic};
pub use kept::{Kept, State, Wish};
use laps::Laps;
use notes::{Notes, Telling};
pub use parts::{Lifetimes, Parts};
use stories::Stories;
pub use stories::{Family, family};

/// What a flight ends with.
#[derive(Clone, Debug)]
struct Landing {
    /// What was noted of the request that led it.
    notes: Arc<Notes>,
    /// The pool of the key as it is now, newest last, or why there is none.
    outcome: Result<Arc<Landed>, Arc<Error>>,
}

/// What a generation made.
#[derive(Debug)]
struct Landed {
    /// Pictures that answered the key before.
    pool: Vec<Delivered>,
    /// Pictures made now.
    made: Vec<Delivered>,
    /// Pictures that were made, paid for, and are not given out, because they failed their checks.
    failed: Vec<Delivered>,
    /// True if another process made them, and this one waited.
    is_joined: bool,
    /// What the caller should know all the same.
    warnings: Vec<String>,
    /// What was found in the pictures that were made: for everybody who gets them.
    findings: Vec<String>,
    /// Milliseconds per phase of the call that took longest.
    laps: Vec<(&'static str, f64)>,
}

/// Whether a generation came about.
#[derive(Debug)]
enum Making {
    /// It did.
    Made(Landed),
    /// Another process is making the same picture.
    UnderWay,
    /// Another process has made the same picture meanwhile.
    Landed,
}

impl Landed {
    /// Pictures that were there.
    fn of(pool: Vec<Delivered>) -> Landed {
        Landed {
            pool,
            made: Vec::new(),
            failed: Vec::new(),
            is_joined: false,
            warnings: Vec::new(),
            findings: Vec::new(),
            laps: Vec::new(),
        }
    }
}

/// How soon somebody who waits for another process looks again.
const LOOK_AGAIN: Duration = Duration::from_millis(200);

/// Everything that a request passes through.
#[derive(Debug)]
pub struct Pipeline {
    /// What is stored.
    pub cache: Arc<Cache>,
    /// Who can make what.
    pub routes: Arc<Routes>,
    /// The account.
    pub ledger: Ledger,
    /// What everything costs now.
    pub prices: PriceBook,
    alerts: Alerts,
    store: Arc<Store>,
    shared: Shared,
    renderer: Arc<Renderer>,
    attempts: Attempts,
    /// How candidates have done of late.
    pub performance: Performance,
    classifier: Arc<Classifier>,
    callbacks: Callbacks,
    flights: Flights<Landing>,
    desks: kept::Desks,
    tracker: TaskTracker,
    clock: Clock,
    lifetimes: Lifetimes,
    stories: Stories,
    /// Whether pictures that were paid for are looked at.
    is_inspecting: bool,
    /// What providers' pictures have in common that they should not.
    habits: Habits,
    /// What is believed of candidates.
    opinions: Opinions,
    judge: Option<Judge>,
    /// Cancelled when jobs are left to other processes.
    leaving: CancellationToken,
}

/// One request with what is decided about it. Shared by the caller and the task that makes its pictures.
#[derive(Debug)]
struct Order {
    call: Call,
    plan: Plan,
    key: Digest,
    hand: Hand,
    notes: Arc<Notes>,
}

impl Pipeline {
    /// Runs one call to its answer. Dropping this future never cancels paid work. `progress` gets
    /// unfinished pictures.
    ///
    /// # Errors
    /// Anything that keeps the caller from having the pictures asked for; see [`Kind`].
    pub async fn run(self: &Arc<Self>, call: Call, progress: Option<mpsc::Sender<Progress>>) -> Result<Answer> {
        self.run_unless(&CancellationToken::new(), call, progress).await
    }

    /// The same, for a caller who may call it off by `stop`. What is made then all the same, because it was sent
    /// already or because somebody else wants it, is kept.
    async fn run_unless(
        self: &Arc<Self>,
        stop: &CancellationToken,
        call: Call,
        progress: Option<mpsc::Sender<Progress>>,
    ) -> Result<Answer> {
        let sense = if self.routes.reads_for_cascade(&call) { self.sense_of(&call).await.0 } else { Sense::default() };
        match self.routes.cascade(&call, &sense) {
            Some((cascade, route)) => {
                // By name from here on: a draft is asked for in other words than its final, and both are that route's.
                let named = sense.reading.is_some().then(|| route.to_owned());
                let call = Call { route: named, ..call };
                Box::pin(self.draft_first(stop, call, progress, cascade, route)).await
            }
            None => self.run_once(stop, call, progress).await,
        }
    }

    /// What `call` is for and what it shows, and how that was found out. The same request is read the same way.
    async fn sense_of(&self, call: &Call) -> (Sense, Vec<String>) {
        let reading = self.classifier.read_with_endpoint(call).await;
        let lines = reading.lines();
        (Sense::of(reading), lines)
    }

    /// One request, as it stands.
    async fn run_once(
        self: &Arc<Self>,
        stop: &CancellationToken,
        call: Call,
        progress: Option<mpsc::Sender<Progress>>,
    ) -> Result<Answer> {
        let telling = Telling::begin(&self.stories, &call, self.clock.now());
        self.run_noted(stop, call, progress, &telling.notes).await
    }

    /// The same, with what comes of it noted.
    async fn run_noted(
        self: &Arc<Self>,
        stop: &CancellationToken,
        call: Call,
        progress: Option<mpsc::Sender<Progress>>,
        notes: &Arc<Notes>,
    ) -> Result<Answer> {
        let (deadline, wants_story, leg) = (call.deadline, call.explain, call.leg);
        let answer = self.phases(stop, call, progress, notes);
        let mut answer = match deadline {
            None => answer.await,
            Some(deadline) => tokio::time::timeout(deadline, answer).await.unwrap_or_else(|_| Err(too_late(deadline))),
        };
        if let (Some(leg), Ok(answer)) = (leg, &mut answer) {
            answer.saved += leg.saving(&answer.pictures);
        }
        notes.answered(&answer);
        if let (true, Ok(answer)) = (wants_story, &mut answer) {
            let story = notes.story();
            answer.explain = story.lines();
            answer.story = Some(Box::new(story));
        }
        answer
    }

    async fn phases(
        self: &Arc<Self>,
        stop: &CancellationToken,
        call: Call,
        progress: Option<mpsc::Sender<Progress>>,
        notes: &Arc<Notes>,
    ) -> Result<Answer> {
        let mut laps = Laps::new();
        let order = Arc::new(self.understand(call, notes).await?); //                           ①
        laps.lap("key");
        let mut joined = false;
        loop {
            let landed_before = self.flights.landed();
            let pool = self.look_up(&order).await?; //                                          ②
            laps.lap("lookup");
            let lacking = order.hand.lacking(pool.pictures.len());
            if lacking == 0 && order.reads_cache() {
                let source = if joined { Source::Join } else { Source::Hit };
                return Ok(self.answer(&order, source, &Landed::of(pool.pictures), laps));
            }
            if order.call.cache.mode == CacheMode::OnlyIfCached {
                return Err(not_cached(lacking));
            }
            // ③
            let (leads, mut join) = match self.board(&order) {
                Seat::Lead(lead, join) => {
                    let stale = self.flights.landed() != landed_before;
                    self.depart(Arc::clone(&order), if stale { None } else { Some(pool) }, lead);
                    (true, join)
                }
                Seat::Join(join) => (false, join),
            };
            let landing = wait(&mut join, progress.as_ref(), stop, notes).await; //             ④–⑧ happen meanwhile
            laps.lap(if leads { "make" } else { "join" });
            let landed = match landing.map(|landing| notes.follow(landing)) {
                Some(Ok(landed)) => landed,
                // What the leader may not spend, somebody else may; and who has more time may wait.
                Some(Err(error)) if !leads && !stop.is_cancelled() && error.is_about_its_caller() => continue,
                Some(Err(error)) => return Err(error.as_ref().clone()),
                None => return Err(Error::internal("flight", "the task that made the picture was lost")),
            };
            if leads {
                self.shadow(&order, &landed);
                laps.extend(&landed.laps);
                let source = match order.reads_cache() {
                    true if landed.is_joined && landed.made.is_empty() => Source::Join,
                    true => Source::Miss,
                    false => Source::Bypass,
                };
                return Ok(self.answer(&order, source, &landed, laps)); //                        ⑨
            }
            // Whoever joined takes the pool as it is now. A rotation may still lack some: look again.
            joined = true;
            let all: Vec<Delivered> = landed.pool.iter().chain(&landed.made).cloned().collect();
            if order.hand.lacking(all.len()) == 0 {
                let landed = Landed { findings: landed.findings.clone(), ..Landed::of(all) };
                return Ok(self.answer(&order, Source::Join, &landed, laps));
            }
        }
    }

    /// ① What is asked for: the candidates that can serve it, the key, and which pictures of the key's
    /// pool are this caller's.
    async fn understand(&self, call: Call, notes: &Arc<Notes>) -> Result<Order> {
        let mut sense = Sense { purpose: call.purpose.clone(), category: call.category.clone(), reading: None };
        // Only where something depends on it: a picture to look at costs milliseconds, and an endpoint more.
        if self.routes.reads(&call) {
            let lines;
            (sense, lines) = self.sense_of(&call).await;
            lines.into_iter().for_each(|line| notes.read(line));
        }
        let plan = self.routes.plan(&call, sense)?;
        let alternatives = plan.alternatives();
        let key = key::key(&call.caller, alternatives.iter().map(|(identity, request)| (identity.as_str(), *request)));
        let variants = call.cache.variants.or(plan.settings.cache.variants).unwrap_or(1);
        let hand = self.cache.hand(key, variants, call.n);
        notes.planned(&call, &plan, key);
        Ok(Order { call, plan, key, hand, notes: Arc::clone(notes) })
    }

    /// ② The pictures that answer the key already; none if the caller wants new ones.
    async fn look_up(&self, order: &Order) -> Result<Pool> {
        if !order.reads_cache() {
            return Ok(Pool::default());
        }
        match self.cache.look_up(order.key, order.call.cache.max_age, &order.hand).await? {
            Found::Pool(pool) => Ok(pool),
            Found::Refused(refusal) => {
                let mut error = Error::new(
                    Kind::Refused,
                    format!("{}: {} (remembered; it was not asked again)", refusal.provider, refusal.message),
                );
                error.code = refusal.code;
                Err(error)
            }
        }
    }

    /// ③ A seat in the flight for the key. Who wants a new picture, or none stored, flies alone.
    fn board(&self, order: &Order) -> Seat<Landing> {
        if order.is_joinable() {
            return self.flights.board(order.key);
        }
        let (lead, join) = self.flights.charter();
        Seat::Lead(lead, join)
    }

    /// Phases ④ to ⑧, in a task of their own. `pool` is what answers the key already; `None` if a
    /// flight has landed since it was looked up, so that it must be looked up again.
    fn depart(self: &Arc<Self>, order: Arc<Order>, pool: Option<Pool>, lead: Lead<Landing>) {
        let this = Arc::clone(self);
        self.tracker.spawn(async move {
            let landing = this.fly(&order, pool, &lead).await;
            failpoint!("flight::before_publish");
            if order.is_joinable() {
                this.shared.tell(Hint::Landed(order.key));
            }
            let (notes, outcome) = (Arc::clone(&order.notes), landing.map(Arc::new).map_err(Arc::new));
            notes.landed();
            lead.publish(Landing { notes, outcome });
        });
    }

    /// Makes what is lacking, unless another process is at it: then it waits and looks again.
    async fn fly(self: &Arc<Self>, order: &Order, pool: Option<Pool>, lead: &Lead<Landing>) -> Result<Landed> {
        let mut pool = match pool {
            Some(pool) => pool,
            None => self.look_up(order).await?,
        };
        let mut is_joined = false;
        loop {
            let count = order.hand.lacking(pool.pictures.len());
            if count == 0 {
                return Ok(Landed { is_joined, ..Landed::of(pool.pictures) });
            }
            // Asked before the account's limits are, so that who only waits takes no turn there.
            let is_made_elsewhere =
                self.store.is_shared() && order.is_joinable() && self.store.is_under_way(order.key).await?;
            let making = if is_made_elsewhere { Making::UnderWay } else { self.make(order, count, lead, pool).await? };
            match making {
                Making::Made(landed) => return Ok(landed),
                Making::UnderWay => tokio::select! {
                    biased;
                    () = lead.stop().cancelled() => return Err(called_off()),
                    followed = self.follow(order.key) => followed?,
                },
                Making::Landed => {}
            }
            is_joined = true;
            pool = self.look_up(order).await?;
        }
    }

    /// A fresh name for a request.
    pub fn new_request_id(&self) -> RequestId {
        RequestId::random()
    }

    /// A stored picture by its capability, if it is in memory.
    pub fn picture_in_memory(&self, id: ImageId) -> Option<Stored> {
        self.cache.in_memory(id)
    }

    /// A stored picture by its capability.
    ///
    /// # Errors
    /// The store fails.
    pub async fn picture(&self, id: ImageId) -> Result<Option<Stored>> {
        self.cache.fetch(id).await
    }

    /// True if what is made for `call` is stored, and so can be fetched later.
    pub fn stores(&self, call: &Call) -> bool {
        self.routes.stores(call)
    }

    /// What callers may name in `model`.
    pub fn models(&self) -> Vec<ModelListing> {
        self.routes.models(&self.prices)
    }

    /// Sums of the ledger.
    ///
    /// # Errors
    /// The store fails.
    pub async fn ledger(&self, query: &LedgerQuery) -> Result<LedgerReport> {
        self.ledger.report(query.clone()).await
    }

    /// Paid calls under way.
    pub fn paid_calls(&self) -> usize {
        self.attempts.calling()
    }

    /// Whether requests can be served now.
    ///
    /// # Errors
    /// The store cannot be read.
    pub async fn ready(&self) -> Result<()> {
        self.store.purge_epoch().await?;
        Ok(())
    }
}

impl Order {
    /// True if stored pictures may answer.
    fn reads_cache(&self) -> bool {
        !self.plan.settings.cache.off && matches!(self.call.cache.mode, CacheMode::Default | CacheMode::OnlyIfCached)
    }

    /// True if it may wait for others who make the same, and they for it.
    fn is_joinable(&self) -> bool {
        self.reads_cache() && self.stores()
    }

    /// True if what is made may answer others.
    fn stores(&self) -> bool {
        !self.plan.settings.cache.off && self.call.cache.mode != CacheMode::NoStore
    }
}

/// What who has called it off is told, if nothing was sent, or if it is made for somebody else.
fn called_off() -> Error {
    Error::new(Kind::Cancelled, "It was cancelled, and nothing was billed for it.")
}

fn too_late(deadline: Duration) -> Error {
    Error::new(
        Kind::DeadlinePassed,
        format!(
            "The picture was not ready within deadline_ms = {}. It is being made all the same: send the same request \
             again to get it without paying twice.",
            deadline.as_millis()
        ),
    )
}

fn not_cached(lacking: u32) -> Error {
    Error::new(
        Kind::NotCached,
        format!("only-if-cached: {lacking} of the pictures asked for are not in the cache. Nothing was made."),
    )
}
