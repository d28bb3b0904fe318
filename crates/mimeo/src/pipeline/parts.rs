//! What a pipeline is made of.

use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::stories::Stories;
use super::{Pipeline, kept};
use crate::alerts::Alerts;
use crate::attempt::{Attempts, Callbacks};
use crate::cache::Cache;
use crate::classify::Classifier;
use crate::clock::Clock;
use crate::config::{self, Environments};
use crate::flight::Flights;
use crate::ledger::Ledger;
use crate::media::inspect::Habits;
use crate::prices::PriceBook;
use crate::quality::{Judge, Opinions};
use crate::render::Renderer;
use crate::route::Routes;
use crate::route::performance::Performance;
use crate::shared::Shared;
use crate::store::Store;

/// How long things answer the same request.
#[derive(Clone, Copy, Debug)]
pub struct Lifetimes {
    /// Pictures; `None` is for ever.
    pub pictures: Option<Duration>,
    /// Refusals by a content policy; zero asks again every time.
    pub refusals: Duration,
    /// Answers under an idempotency key, and of callers who do not wait.
    pub replies: Duration,
}

/// What a pipeline is made of.
#[derive(Debug)]
pub struct Parts {
    /// Where everything lasts.
    pub store: Arc<Store>,
    /// What other replicas know, too.
    pub shared: Shared,
    /// What is stored.
    pub cache: Arc<Cache>,
    /// Who can make what.
    pub routes: Arc<Routes>,
    /// The account.
    pub ledger: Ledger,
    /// What everything costs now.
    pub prices: PriceBook,
    /// Tells the operator.
    pub alerts: Alerts,
    /// Templates.
    pub renderer: Arc<Renderer>,
    /// Owns all paid work.
    pub tracker: TaskTracker,
    /// Time.
    pub clock: Clock,
    /// How long things answer the same request.
    pub lifetimes: Lifetimes,
    /// Which stories of requests are kept.
    pub requests: config::Requests,
    /// The address under which providers may call back, if there is one.
    pub public_url: Option<String>,
    /// Whether pictures that were paid for are looked at.
    pub is_inspecting: bool,
    /// What is believed of candidates.
    pub opinions: Opinions,
    /// Who judges pictures, if anybody does.
    pub judge: Option<Judge>,
    /// Which keys may spend on which accounts.
    pub environments: Environments,
    /// Reads requests for what they are for.
    pub classifier: Arc<Classifier>,
}

impl Pipeline {
    /// Puts the parts together.
    pub fn new(parts: Parts) -> Self {
        let Parts { store, shared, cache, routes, ledger, prices, alerts, renderer, tracker, clock, .. } = parts;
        let Parts { lifetimes, requests, public_url, is_inspecting, opinions, judge, environments, classifier, .. } =
            parts;
        let callbacks = Callbacks::new(public_url, Arc::clone(&store));
        Pipeline {
            attempts: Attempts::new(
                Arc::clone(&store),
                ledger.clone(),
                shared.clone(),
                clock.clone(),
                tracker.clone(),
                callbacks.clone(),
                environments,
            ),
            callbacks,
            performance: Performance::default(),
            classifier,
            stories: Stories::new(Arc::clone(&store), tracker.clone(), requests),
            flights: Flights::default(),
            desks: kept::Desks::default(),
            cache,
            routes,
            ledger,
            prices,
            alerts,
            shared,
            store,
            renderer,
            tracker,
            clock,
            lifetimes,
            is_inspecting,
            habits: Habits::default(),
            opinions,
            judge,
            leaving: CancellationToken::new(),
        }
    }
}
