//! What holds now: the catalogue's prices of today, what feeds have said since, and what bills have taught.
//!
//! ```text
//! catalogue (version of today, volume tier reached)
//!   └ a feed's last change, if one is in force              replaces it
//!       └ how much more or less bills were, three in a row  × what is reserved and settled
//!           └ bills beside what was set aside, usually      × what is thought likely; for choosing only
//! ```
//!
//! A change is a row in the history before it counts as news, and every replica reads what the others have written.

mod accuracy;
mod change;
mod drift;
mod evidence;
mod feeds;
mod precedence;
mod retiring;
mod revise;
#[cfg(test)]
mod tests;

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::ops::Deref;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use jiff::civil::Date;
use tokio_util::task::TaskTracker;

use crate::alerts::{Alert, AlertKind, Alerts};
use crate::clock::{Clock, Millis};
use crate::config;
use crate::domain::{Generated, ImageRequest, Price, Usd};
use crate::pricing::{Certainty, Prices};
use crate::providers::{Model, Provider, Registry};
use crate::store::{self, PriceChange, Store, StoreError};
pub use accuracy::{Accuracy, accuracy};
pub use change::in_words;
use change::{BILLS, Change, fingerprint};
use drift::{Bill, Ratio, Streak, Verdict};
use evidence::Evidence;
pub use feeds::{Polled, PriceFeed};
use precedence::is_older;

/// Days whose calls are learned from at the start.
const LOOK_BACK_DAYS: i64 = 30;

/// What a call is likely to cost. For choosing and for showing; what is set aside is [`PriceBook::expected`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Estimate {
    /// The likely price; never above the bound.
    pub usd: Price,
    /// How far estimates for this model and quality were from bills, as a part of the bills; `None` without evidence.
    pub error: Option<f64>,
    /// From how many settled calls this is known.
    pub settled: u64,
}

/// A call that has ended with pictures.
#[derive(Clone, Copy, Debug)]
pub struct SettledCall<'a> {
    /// Who was asked.
    pub provider: &'a Provider,
    /// Its model.
    pub model: &'a Model,
    /// For what, as the model takes it.
    pub request: &'a ImageRequest,
    /// How many pictures.
    pub n: u32,
    /// What was set aside.
    pub bound: Price,
    /// What it is settled at.
    pub billed: Price,
    /// True if credits pay for it in place of money.
    pub on_credit: bool,
    /// What came.
    pub generated: &'a Generated,
}

/// The prices that hold now, of every model. Cheap to clone.
#[derive(Clone, Debug)]
pub struct PriceBook(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    store: Arc<Store>,
    clock: Clock,
    alerts: Alerts,
    tasks: TaskTracker,
    settings: config::PriceSources,
    learned: Mutex<Learned>,
}

/// By provider and model.
#[derive(Debug, Default)]
struct Learned {
    models: HashMap<String, HashMap<String, Known>>,
    /// The last change that was read.
    seq: i64,
}

/// What is known of one model beside the catalogue.
#[derive(Debug, Default)]
struct Known {
    /// What feeds have said, the latest last; more than one only where some hold later.
    feeds: Vec<(Millis, Arc<Prices>)>,
    /// Of all qualities together, for those that were not asked for yet.
    evidence: Evidence,
    qualities: BTreeMap<String, Quality>,
    /// Pictures that were paid for in a month, counted from the year 0.
    paid: (i32, u64),
}

/// What is known of one quality of a model.
#[derive(Debug, Default)]
struct Quality {
    evidence: Evidence,
    streak: Streak,
    /// How much more or less is billed than the prices with that fingerprint say.
    correction: Option<(Ratio, String)>,
}

impl Known {
    /// What feeds say of `model` that holds at `now` in place of what is listed.
    fn fed(&self, model: &Model, now: Millis) -> Option<&Arc<Prices>> {
        let (since, prices) = self.feeds.iter().rev().find(|(effective, _)| *effective <= now)?;
        (!is_older(*since, model, day_of(now))).then_some(prices)
    }

    /// Pictures that were paid for in the month `month`.
    const fn paid_in(&self, month: i32) -> u64 {
        if self.paid.0 == month { self.paid.1 } else { 0 }
    }

    fn pay(&mut self, month: i32, pictures: u64) {
        self.paid = (month, self.paid_in(month).saturating_add(pictures));
    }

    fn evidence(&self, quality: &str) -> &Evidence {
        let own = self.qualities.get(quality).map(|quality| &quality.evidence);
        own.filter(|evidence| evidence.calls() > 0).unwrap_or(&self.evidence)
    }

    /// Forgets what bills have taught, because from now on they are others.
    fn start_over(&mut self) {
        self.evidence = Evidence::default();
        for quality in self.qualities.values_mut() {
            (quality.evidence, quality.streak) = (Evidence::default(), Streak::default());
        }
    }
}

impl Learned {
    fn of(&self, provider: &str, model: &str) -> Option<&Known> {
        self.models.get(provider)?.get(model)
    }

    fn of_mut(&mut self, provider: &str, model: &str) -> &mut Known {
        // Names are copied only for what is new.
        if !self.models.contains_key(provider) {
            self.models.insert(provider.to_owned(), HashMap::new());
        }
        let models = self.models.entry(provider.to_owned()).or_default();
        models.entry(model.to_owned()).or_default()
    }
}

/// Prices that hold now.
enum Now<'a> {
    Fed(Arc<Prices>),
    Listed(Cow<'a, Prices>),
}

impl Deref for Now<'_> {
    type Target = Prices;
    fn deref(&self) -> &Prices {
        match self {
            Now::Fed(prices) => prices,
            Now::Listed(prices) => prices,
        }
    }
}

impl PriceBook {
    /// A book that knows nothing but the catalogue before [`PriceBook::load`]. `tasks` owns what is written after a call
    /// has ended.
    pub fn new(
        store: Arc<Store>,
        clock: Clock,
        alerts: Alerts,
        tasks: TaskTracker,
        settings: config::PriceSources,
    ) -> PriceBook {
        PriceBook(Arc::new(Inner { store, clock, alerts, tasks, settings, learned: Mutex::default() }))
    }

    /// Learns what is in the store: all changes, and the bills of the last 30 days.
    ///
    /// # Errors
    /// The store fails.
    pub async fn load(&self) -> Result<(), StoreError> {
        let now = self.0.clock.now();
        let changes = self.0.store.price_changes(0).await?;
        let today = store::Settled::day_of(now);
        let settled = self.0.store.settled_since(today - LOOK_BACK_DAYS).await?;
        let (month, since_ms) = month_of(now);
        let paid = self.0.store.paid_pictures(since_ms).await?;
        let mut fresh = Learned::default();
        // Before a price changed, bills were others.
        let mut since: HashMap<(&str, &str), i64> = HashMap::new();
        for (seq, change) in &changes {
            self.take_in(&mut fresh, *seq, change);
            since.insert((&change.provider, &change.model), store::Settled::day_of(change.effective_ms.min(now)));
        }
        for day in &settled {
            if since.get(&(day.provider.as_str(), day.model.as_str())).is_none_or(|since| day.day > *since) {
                learn(fresh.of_mut(&day.provider, &day.model), day);
            }
        }
        for (provider, model, pictures) in paid {
            fresh.of_mut(&provider, &model).pay(month, pictures);
        }
        *self.learned() = fresh;
        Ok(())
    }

    /// Takes in what other processes have noticed since it was looked last. Returns how many changes.
    ///
    /// # Errors
    /// The store fails.
    pub async fn catch_up(&self) -> Result<usize, StoreError> {
        let seq = self.learned().seq;
        let changes = self.0.store.price_changes(seq).await?;
        let mut learned = self.learned();
        changes.iter().for_each(|(seq, change)| self.take_in(&mut learned, *seq, change));
        Ok(changes.len())
    }

    /// What `model` costs now, whatever the quality: see [`PriceBook::expected`] for what bills have taught. `None` if
    /// nobody knows.
    pub fn prices(&self, provider: &Provider, model: &Model) -> Option<Arc<Prices>> {
        self.now(provider, model).map(|now| match now {
            Now::Fed(prices) => prices,
            Now::Listed(prices) => Arc::new(prices.into_owned()),
        })
    }

    /// The model with the prices that hold now in place of the record's, for who speaks to the provider.
    pub fn priced(&self, provider: &Provider, model: &Arc<Model>) -> Arc<Model> {
        let prices = match self.now(provider, model) {
            Some(Now::Fed(prices)) => Some(Prices::clone(&prices)),
            Some(Now::Listed(Cow::Owned(prices))) => Some(prices),
            Some(Now::Listed(Cow::Borrowed(prices))) if !model.price_changes.is_empty() => Some(prices.clone()),
            // What the record says first, with nothing to come.
            Some(Now::Listed(Cow::Borrowed(_))) | None => return Arc::clone(model),
        };
        Arc::new(Model { prices, price_changes: Vec::new(), ..Model::clone(model) })
    }

    /// The most that a call can cost: what is set aside for it. As [`Model::expected`], at what holds now.
    pub fn expected(&self, provider: &Provider, model: &Model, request: &ImageRequest, n: u32, partials: u8) -> Price {
        let now = self.now(provider, model);
        let listed = model.expected_with(now.as_deref(), request, n, partials);
        self.corrected(provider, model, request, now.as_deref(), listed)
    }

    /// What a call did cost. As [`Model::billed`], at what holds now.
    pub fn billed(
        &self,
        provider: &Provider,
        model: &Model,
        request: &ImageRequest,
        (n, partials): (u32, u8),
        generated: &Generated,
    ) -> Price {
        let now = self.now(provider, model);
        let billed = model.billed_with(now.as_deref(), request, n, partials, generated);
        match generated.billed {
            // The provider says so itself.
            Some(_) => billed,
            None => self.corrected(provider, model, request, now.as_deref(), billed),
        }
    }

    /// What a call for `n` pictures is likely to cost.
    pub fn estimate(&self, provider: &Provider, model: &Model, request: &ImageRequest, n: u32) -> Estimate {
        let bound = self.expected(provider, model, request, n, 0);
        let learned = self.learned();
        let known = learned.of(&provider.name, &model.id);
        let evidence = known.map(|known| *known.evidence(quality_of(request))).unwrap_or_default();
        let usd = match bound {
            Price::Known(bound) => Price::Known(evidence.likely(bound)),
            Price::Unknown => Price::Unknown,
        };
        Estimate { usd, error: evidence.error(), settled: evidence.calls() }
    }

    /// Learns from a call that has ended.
    pub fn settled(&self, call: SettledCall<'_>) {
        self.learn_from(call);
        // As the ledger counts them, see `PriceBook::load`. Last: its bill is held against the price that it was made at, and
        // not against that of the next one.
        if !call.on_credit && call.billed != Price::FREE {
            let (month, _) = month_of(self.0.clock.now());
            self.learned().of_mut(&call.provider.name, &call.model.id).pay(month, u64::from(call.n));
        }
    }

    fn learn_from(&self, call: SettledCall<'_>) {
        let SettledCall { provider, model, request, bound, billed, .. } = call;
        let now = self.0.clock.now();
        let quality = quality_of(request);
        let (Price::Known(bound), Price::Known(billed)) = (bound, billed) else { return };
        let estimate = {
            let learned = self.learned();
            learned.of(&provider.name, &model.id).map_or(bound, |known| known.evidence(quality).likely(bound))
        };
        let missed = if estimate > billed { estimate - billed } else { billed - estimate };
        let settled = store::Settled {
            day: store::Settled::day_of(now),
            provider: provider.name.clone(),
            model: model.id.clone(),
            quality: quality.to_owned(),
            calls: 1,
            bound,
            estimate,
            billed,
            missed,
        };
        learn(self.learned().of_mut(&provider.name, &model.id), &settled);
        if let Err(error) = self.0.store.note_settled(settled) {
            tracing::warn!(%error, "what a call did cost could not be noted beside what was expected");
        }
        self.compare(call);
    }

    /// Announces models that will be gone in 30, 7 or 1 days, each once.
    ///
    /// # Errors
    /// The store fails.
    pub async fn announce(
        &self,
        registry: &Registry,
        routes: &BTreeMap<String, config::Route>,
    ) -> Result<(), StoreError> {
        let now = self.0.clock.now();
        for alert in retiring::announcements(registry, routes, day_of(now), now) {
            self.0.alerts.note(alert).await?;
        }
        Ok(())
    }

    /// Compares what a provider says that it took with what its prices say, where these say it exactly.
    fn compare(&self, call: SettledCall<'_>) {
        let SettledCall { provider, model, request, n, generated, .. } = call;
        let Some(stated) = generated.billed.filter(|_| generated.pictures.len() == n as usize) else { return };
        let Some(now) = self.now(provider, model).filter(|now| model.is_exact_with(now, request)) else { return };
        let listed = model.expected_with(Some(&now), request, n, 0);
        let expected = self.corrected(provider, model, request, Some(&now), listed);
        let (Price::Known(listed), Price::Known(expected)) = (listed, expected) else { return };
        let quality = quality_of(request).to_owned();
        let of = fingerprint(&now);
        let (verdict, old) = {
            let mut learned = self.learned();
            let known = learned.of_mut(&provider.name, &model.id);
            let here = known.qualities.entry(quality.clone()).or_default();
            let tolerance = self.0.settings.tolerance_permille;
            let verdict = here.streak.take(Bill { listed, expected, billed: stated }, tolerance);
            let old = here.correction.clone().map_or(Change::Listed, |(ratio, of)| Change::Bills { ratio, of });
            match verdict {
                Verdict::Stands | Verdict::NotFree => {}
                Verdict::Corrected(ratio) => here.correction = Some((ratio, of.clone())),
                Verdict::AsListed => here.correction = None,
            }
            if matches!(verdict, Verdict::Corrected(_) | Verdict::AsListed) {
                known.start_over();
            }
            (verdict, old)
        };
        let name = named(&provider.name, &model.id, &quality);
        let (new, message) = match verdict {
            Verdict::Stands => return,
            Verdict::Corrected(ratio) => (
                Change::Bills { ratio, of },
                format!(
                    "{name} bills ${} for what is listed at ${}. The bills are believed from now on; correct the price \
                     with [prices] or providers.{}.prices if they are right, or complain if they are not.",
                    ratio.billed, ratio.expected, provider.name
                ),
            ),
            Verdict::AsListed => (
                Change::Listed,
                format!("{name} bills again what is listed: ${stated} for what was expected at ${expected}."),
            ),
            Verdict::NotFree => {
                let message = format!("{name} is listed as free of charge, and bills ${stated}. Give it a price.");
                return self.0.alerts.raise(self.drift(name, message));
            }
        };
        let at_ms = self.0.clock.now();
        let change = PriceChange {
            at_ms,
            effective_ms: at_ms,
            provider: provider.name.clone(),
            model: model.id.clone(),
            quality,
            old: old.to_json(),
            new: new.to_json(),
            source: BILLS.to_owned(),
            certainty: Certainty::Verified.name().to_owned(),
        };
        let this = self.clone();
        self.0.tasks.spawn(async move {
            match this.0.store.change_price(change).await {
                Ok(Some(_)) => this.0.alerts.raise(this.drift(name, message)),
                Ok(None) => {}
                Err(error) => {
                    tracing::error!(%error, model = name, "a price that bills tell could not be written down");
                }
            }
        });
    }

    fn drift(&self, subject: String, message: String) -> Alert {
        Alert { kind: AlertKind::PriceDrift, subject, message, at: self.0.clock.now() }
    }

    /// `price`, which is what `prices` say, as bills have corrected it.
    fn corrected(
        &self,
        provider: &Provider,
        model: &Model,
        request: &ImageRequest,
        prices: Option<&Prices>,
        price: Price,
    ) -> Price {
        let (Price::Known(usd), Some(prices)) = (price, prices) else { return price };
        let learned = self.learned();
        let here = learned.of(&provider.name, &model.id).and_then(|known| known.qualities.get(quality_of(request)));
        match here.and_then(|quality| quality.correction.as_ref()) {
            Some((ratio, of)) if *of == fingerprint(prices) => Price::Known(ratio.of(usd)),
            _ => price,
        }
    }

    fn now<'a>(&self, provider: &Provider, model: &'a Model) -> Option<Now<'a>> {
        let now = self.0.clock.now();
        let (month, _) = month_of(now);
        let pictures = {
            let learned = self.learned();
            let known = learned.of(&provider.name, &model.id);
            let pictures = known.map_or(0, |known| known.paid_in(month));
            if let Some(prices) = known.and_then(|known| known.fed(model, now)) {
                return Some(match prices.after(pictures) {
                    Cow::Borrowed(_) => Now::Fed(Arc::clone(prices)),
                    Cow::Owned(reached) => Now::Listed(Cow::Owned(reached)),
                });
            }
            pictures
        };
        model.prices_on(day_of(now), pictures).map(Now::Listed)
    }

    /// As [`PriceBook::prices`], before any discount by volume: what a list of prices can speak of.
    pub fn undiscounted(&self, provider: &Provider, model: &Model) -> Option<Arc<Prices>> {
        let now = self.0.clock.now();
        let fed = self.learned().of(&provider.name, &model.id).and_then(|known| known.fed(model, now).cloned());
        fed.or_else(|| model.prices_on(day_of(now), 0).map(|prices| Arc::new(prices.into_owned())))
    }

    /// Where bills have taught another price of `model` than the one that is listed now: for each such quality (empty is
    /// the model's default) what a call was billed, and what is listed for it.
    pub fn off_list(&self, provider: &Provider, model: &Model) -> Vec<(String, Usd, Usd)> {
        let Some(of) = self.now(provider, model).map(|now| fingerprint(&now)) else { return Vec::new() };
        let learned = self.learned();
        let qualities = learned.of(&provider.name, &model.id).into_iter().flat_map(|known| &known.qualities);
        let corrected = qualities.filter_map(|(quality, known)| {
            let (ratio, _) = known.correction.as_ref().filter(|(_, fingerprint)| *fingerprint == of)?;
            Some((quality.clone(), ratio.billed, ratio.expected))
        });
        corrected.collect()
    }

    /// Takes the change at `seq` of the history into `learned`.
    fn take_in(&self, learned: &mut Learned, seq: i64, change: &PriceChange) {
        if seq <= learned.seq {
            // Somebody else has read it, and perhaps what came after it.
            return;
        }
        learned.seq = seq;
        let Ok(new) = serde_json::from_str::<Change>(&change.new) else {
            tracing::warn!(seq, "a price in the history cannot be read; a newer version may have written it");
            return;
        };
        let is_of_bills = change.source == BILLS;
        if !is_of_bills && !self.0.settings.feeds.iter().any(|feed| feed.name() == change.source) {
            // The operator does not ask it any more.
            return;
        }
        let known = learned.of_mut(&change.provider, &change.model);
        match new {
            Change::Prices(prices) => {
                // What was said before holds until then, and not what it said of the time after.
                known.feeds.retain(|(effective, _)| *effective < change.effective_ms);
                known.feeds.push((change.effective_ms, Arc::new(*prices)));
                let now = self.0.clock.now();
                let over = known.feeds.iter().skip(1).take_while(|(effective, _)| *effective <= now).count();
                known.feeds.drain(..over);
            }
            Change::Bills { ratio, of } => {
                known.qualities.entry(change.quality.clone()).or_default().correction = Some((ratio, of));
            }
            Change::Listed => known.qualities.entry(change.quality.clone()).or_default().correction = None,
            Change::Unknown => return,
        }
        known.start_over();
    }

    fn learned(&self) -> MutexGuard<'_, Learned> {
        self.0.learned.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn learn(known: &mut Known, settled: &store::Settled) {
    known.evidence.add(settled);
    known.qualities.entry(settled.quality.clone()).or_default().evidence.add(settled);
}

/// The quality under which a request is remembered; what equals the model's default is left out of it already.
fn quality_of(request: &ImageRequest) -> &str {
    request.quality.as_deref().unwrap_or_default()
}

fn named(provider: &str, model: &str, quality: &str) -> String {
    if quality.is_empty() { format!("{provider}/{model}") } else { format!("{provider}/{model}@{quality}") }
}

/// The day of a time, in UTC.
fn day_of(at: Millis) -> Date {
    let time = jiff::Timestamp::from_millisecond(at).unwrap_or_default();
    time.to_zoned(jiff::tz::TimeZone::UTC).date()
}

/// The month of a time in UTC, counted from the year 0, and when it began.
fn month_of(at: Millis) -> (i32, Millis) {
    let first = day_of(at).first_of_month();
    let began = first.to_zoned(jiff::tz::TimeZone::UTC).map_or(at, |start| start.timestamp().as_millisecond());
    (i32::from(first.year()) * 12 + i32::from(first.month()), began)
}
