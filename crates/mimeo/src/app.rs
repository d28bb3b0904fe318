//! Wiring: from a configuration to a running gateway. The only place that names concrete parts together.
//!
//! Two steps: [`Blueprint::draw`] checks everything without opening, binding or connecting anything
//! (that is `mimeo check`); [`App::open`] opens it.

use std::future::Future;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::alerts::Alerts;
use crate::cache::Cache;
use crate::classify::Classifier;
use crate::clock::Clock;
use crate::config::{self, BlobPlace, Config, ConfigFault, Environment, Environments, Secret, TextRef, Webhook};
use crate::duties::Duties;
use crate::http::auth::KeyRing;
use crate::http::{Edge, EdgeOptions, Load};
use crate::ledger::{Budgets, Credits, Ledger};
use crate::media;
use crate::pipeline::{Lifetimes, Parts, Pipeline};
use crate::prices::{PriceBook, PriceFeed};
use crate::providers::{Catalogue, RecordFault, Registry};
use crate::quality::{Judge, Opinions};
use crate::render::{RenderOptions, Renderer};
use crate::route::Routes;
use crate::shared::{Address, Settings, Shared};
use crate::store::{DatabaseAddress, Store, StoreError};

/// A checked configuration, with everything that can be made of it without touching the world.
#[derive(Debug)]
pub struct Blueprint {
    /// The configuration.
    pub config: Config,
    /// Who can make what.
    pub routes: Arc<Routes>,
    /// How requests are read for what they are for.
    pub classifier: Arc<Classifier>,
    /// Templates.
    pub renderer: Arc<Renderer>,
    /// Where the Redis is that replicas share, if they do.
    pub redis: Option<Address>,
    /// The keys that open it.
    pub keys: KeyRing,
    /// Where the database is, if it is on a server.
    pub storage_url: Option<Secret>,
    /// Where the bytes of pictures are.
    pub blobs: BlobPlace,
    /// Who judges pictures, if anybody does.
    pub judge: Option<Judge>,
    /// All providers that are known, whether they are there or not.
    pub catalogue: Catalogue,
    /// Where alerts are sent, if they are.
    pub webhook: Option<Webhook>,
    /// Lists of prices that are looked at again and again.
    pub feeds: Vec<PriceFeed>,
}

impl Blueprint {
    /// Makes what can be made of `config`; `file` is for messages.
    ///
    /// # Errors
    /// Every fault, each with its place and what to do.
    pub fn draw(config: Config, environment: &Environment, file: &Path) -> Result<Blueprint, Vec<ConfigFault>> {
        let mut faults = Vec::new();
        let fault = |message: String| ConfigFault::file(file, message);
        let catalogue = catalogue(&config).unwrap_or_else(|errors| {
            faults.extend(errors.into_iter().map(|record| ConfigFault {
                file: record.file.into(),
                line: record.line,
                message: record.message,
            }));
            Catalogue::embedded()
        });
        let registry = match Registry::build(&config.providers, environment, &catalogue) {
            Ok(registry) => Some(registry),
            Err(errors) => {
                faults.extend(errors.into_iter().map(|(name, message)| fault(format!("providers.{name}: {message}"))));
                None
            }
        };
        let options = RenderOptions {
            templates_dir: config.render.templates.clone(),
            fonts_dir: config.render.fonts.clone(),
            ..RenderOptions::default()
        };
        let renderer = match Renderer::new(options) {
            Ok(renderer) => Some(Arc::new(renderer)),
            Err(template) => {
                faults.push(fault(format!("render: {template}")));
                None
            }
        };
        let keys = KeyRing::new(&config.keys).unwrap_or_else(|message| {
            faults.push(fault(message));
            KeyRing::default()
        });
        let redis = redis(&config.shared, environment).unwrap_or_else(|message| {
            faults.push(fault(format!("shared: url {message}")));
            None
        });
        let storage_url = storage_url(&config, environment, file).unwrap_or_else(|missing| {
            faults.push(missing);
            None
        });
        let judge = config.quality.judge.as_ref().map(|judge| Judge::new(judge, environment)).transpose();
        let judge = judge.unwrap_or_else(|why| {
            faults.push(fault(format!("quality: judge.{why}")));
            None
        });
        let webhook = config.alerts.webhook(environment).unwrap_or_else(|message| {
            faults.push(fault(format!("alerts: {message}")));
            None
        });
        let mut feeds = Vec::new();
        for feed in &config.prices.feeds {
            match PriceFeed::new(feed.clone()) {
                Ok(feed) => feeds.push(feed),
                Err(message) => faults.push(fault(format!("prices: {message}"))),
            }
        }
        let blobs = config.blob_place(environment).map_err(|message| faults.push(fault(format!("blobs: {message}"))));
        let classifier = Classifier::new(&config.classifier, environment)
            .map_err(|wrong| faults.extend(wrong.iter().map(|message| classifier_fault(file, message))));
        if let (Some(registry), Some(renderer), Ok(blobs), Ok(classifier)) = (registry, renderer, blobs, classifier) {
            match Routes::new(registry, &config.routes, Arc::clone(&renderer)) {
                Ok(routes) if faults.is_empty() => {
                    return Ok(Blueprint {
                        config,
                        routes: Arc::new(routes),
                        classifier: Arc::new(classifier),
                        renderer,
                        redis,
                        keys,
                        storage_url,
                        blobs,
                        judge,
                        catalogue,
                        webhook,
                        feeds,
                    });
                }
                Ok(_) => {}
                Err(errors) => {
                    faults.extend(errors.into_iter().map(|(name, message)| fault(format!("routes.{name}: {message}"))));
                }
            }
        }
        Err(faults)
    }
}

/// The records that the binary carries, with those of the configured folder.
///
/// # Errors
/// Every fault of that folder.
pub fn records(config: &Config) -> Result<Catalogue, Vec<RecordFault>> {
    let mut catalogue = Catalogue::embedded();
    if let Some(folder) = &config.catalogue.path {
        catalogue.add_folder(folder)?;
    }
    Ok(catalogue)
}

/// The same, with the configured prices laid over it.
///
/// # Errors
/// Every fault of the folder, or of the first file of prices that has one.
fn catalogue(config: &Config) -> Result<Catalogue, Vec<RecordFault>> {
    let mut catalogue = records(config)?;
    for path in &config.prices.files {
        let file = path.display().to_string();
        let text = std::fs::read_to_string(path).map_err(|error| {
            vec![RecordFault::file(&file, format!("cannot be read: {error}. prices.files names it"))]
        })?;
        catalogue.lay(&text, &file)?;
    }
    Ok(catalogue)
}

/// A fault of `[classifier]` in `file`.
pub fn classifier_fault(file: &Path, message: &str) -> ConfigFault {
    ConfigFault::file(file, format!("classifier: {message}"))
}

/// How long connections that are still open may take to end when all work is done.
const FAREWELL: Duration = Duration::from_secs(10);

/// When a serving gateway is to stop. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Stop {
    /// It is to finish what is under way, and stop then.
    pub asked: CancellationToken,
    /// It is not to wait for that any longer.
    pub hurried: CancellationToken,
}

/// How a gateway has stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// As soon as everything was finished, or `server.drain_s` was over.
    InTime,
    /// At once.
    Hurried {
        /// Paid calls that were under way: at the next start their money is in suspense.
        left: usize,
    },
}

/// A gateway with everything open.
#[derive(Debug)]
pub struct App {
    /// One request after another.
    pub pipeline: Arc<Pipeline>,
    /// Where everything lasts.
    pub store: Arc<Store>,
    /// What is believed of candidates.
    pub opinions: Opinions,
    /// Settings.
    pub config: Config,
    keys: KeyRing,
    alerts: Alerts,
    catalogue: Arc<Catalogue>,
    feeds: Vec<Arc<PriceFeed>>,
    shared: Shared,
    clock: Clock,
    paid_work: TaskTracker,
    duties: TaskTracker,
    stop: CancellationToken,
}

impl App {
    /// Opens the store and puts the pipeline together.
    ///
    /// # Errors
    /// The data folder cannot be used.
    pub fn open(blueprint: Blueprint, clock: Clock) -> Result<App, StoreError> {
        let Blueprint { config, routes, renderer, redis, keys, storage_url, blobs, judge, catalogue, .. } = blueprint;
        let Blueprint { webhook, feeds, classifier, .. } = blueprint;
        let store = Arc::new(Store::open(&config.storage, storage_url.as_ref(), &blobs, clock.clone())?);
        let shared = redis.map_or_else(Shared::alone, |address| Shared::connect(&address, &settings(&config.shared)));
        let memory = u64::from(config.storage.memory_mb) << 20;
        let cache = Arc::new(Cache::new(Arc::clone(&store), shared.clone(), memory, clock.clone()));
        let unknown_hold = Some(config.cache.unknown_hold_s).filter(|hold| *hold > 0).map(Duration::from_secs);
        let ledger = Ledger::new(Arc::clone(&store), clock.clone(), Budgets::of(&config), unknown_hold)
            .with_credits(Credits::of(&config));
        let paid_work = TaskTracker::new();
        // Nobody waits for what these two write, but the process does before it ends.
        let written = paid_work.clone();
        let alerts = Alerts::new(Arc::clone(&store), clock.clone(), written.clone(), &config.alerts, webhook);
        let prices = PriceBook::new(Arc::clone(&store), clock.clone(), alerts.clone(), written, config.prices.clone());
        let lifetimes = Lifetimes {
            pictures: Some(config.cache.ttl_s).filter(|ttl| *ttl > 0).map(Duration::from_secs),
            refusals: Duration::from_secs(config.cache.refusal_ttl_s),
            replies: Duration::from_secs(config.server.idempotency_s),
        };
        let opinions = Opinions::new(Arc::clone(&store), clock.clone(), config.quality.half_life());
        let pipeline = Arc::new(Pipeline::new(Parts {
            store: Arc::clone(&store),
            shared: shared.clone(),
            cache,
            routes,
            ledger,
            prices,
            alerts: alerts.clone(),
            renderer,
            tracker: paid_work.clone(),
            clock: clock.clone(),
            lifetimes,
            requests: config.requests,
            public_url: config.server.public_url.clone(),
            is_inspecting: config.quality.checks,
            opinions: opinions.clone(),
            judge,
            environments: Environments::of(&config),
            classifier,
        }));
        let (duties, stop) = (TaskTracker::new(), CancellationToken::new());
        crate::duties::keep_alive(Arc::clone(&store), shared.clone(), &duties, &stop);
        let (catalogue, feeds) = (Arc::new(catalogue), feeds.into_iter().map(Arc::new).collect());
        Ok(App {
            pipeline,
            opinions,
            alerts,
            catalogue,
            feeds,
            store,
            config,
            keys,
            shared,
            clock,
            paid_work,
            duties,
            stop,
        })
    }

    /// Ends what dead processes left open, but for the jobs of theirs that are still made, and learns what prices have
    /// come to.
    ///
    /// # Errors
    /// The store fails.
    pub async fn recover(&self) -> Result<(), StoreError> {
        self.store.check_blobs().await?;
        self.pipeline.prices.load().await?;
        let (released, suspended) = self.store.recover(self.clock.now()).await?;
        if released + suspended > 0 {
            tracing::warn!(
                released,
                suspended,
                "calls of a process that ended were found open; those that may have \
                           been billed are in suspense: see `mimeo ledger suspense`"
            );
        }
        Ok(())
    }

    /// Everything that may keep a gateway from serving: the blobs are looked at, what dead processes left open is
    /// ended, and the background work begins. Who says that it listens says so after this.
    ///
    /// # Errors
    /// The store fails, or its blobs are others.
    pub async fn begin(&self) -> Result<(), StoreError> {
        self.recover().await?;
        self.pipeline.recover().await?;
        let duties = Duties {
            store: Arc::clone(&self.store),
            cache: Arc::clone(&self.pipeline.cache),
            pipeline: Arc::clone(&self.pipeline),
            alerts: self.alerts.clone(),
            catalogue: Arc::clone(&self.catalogue),
            feeds: self.feeds.clone(),
            settings: self.config.cache.clone(),
            requests: self.config.requests,
            routes: self.config.routes.clone(),
            clock: self.clock.clone(),
            opinions: self.opinions.clone(),
            performance: self.pipeline.performance.clone(),
        };
        duties.begin(&self.duties, &self.stop).await
    }

    /// Serves `listener`, after [`App::begin`], until it is asked to stop. From then on pictures are still given out and health is told, but no
    /// image request is let in, until everything under way is answered, or until there is no time left for that.
    pub async fn serve(self, listener: TcpListener, stop: Stop) -> Ended {
        let server = &self.config.server;
        let edge = Arc::new(Edge {
            pipeline: Arc::clone(&self.pipeline),
            keys: self.keys.clone(),
            clock: self.clock.clone(),
            options: EdgeOptions {
                max_body: (server.max_body_mb as usize) << 20,
                max_connections: server.max_connections as usize,
                timeouts: server.timeouts,
                public_url: server.public_url.clone(),
            },
            sniff: |bytes| media::examine(bytes).map_err(|bad| bad.to_string()),
            tracker: self.paid_work.clone(),
            load: Load::new(server.max_requests, (server.max_body_memory_mb as usize) << 20, self.paid_work.clone()),
        });
        let done = CancellationToken::new();
        let ending = async {
            stop.asked.cancelled().await;
            edge.load.drain();
            let ended = tokio::select! {
                ended = self.finish(edge.load.idle()) => ended,
                () = stop.hurried.cancelled() => Ended::Hurried { left: self.pipeline.paid_calls() },
            };
            done.cancel();
            ended
        };
        let serving = async {
            tokio::select! {
                () = crate::http::serve(listener, Arc::clone(&edge), done.cancelled()) => {}
                () = stop.hurried.cancelled() => {}
                // A caller who never reads its answer must not keep the process alive.
                () = async {
                    done.cancelled().await;
                    tokio::time::sleep(FAREWELL).await;
                } => tracing::warn!("some callers did not take their answers in time"),
            }
        };
        let (ended, ()) = tokio::join!(ending, serving);
        self.rest().await;
        ended
    }

    /// Waits for paid work under way, as long as configured, and for the last commit.
    pub async fn close(self) {
        self.finish(std::future::ready(())).await;
        self.rest().await;
    }

    /// Waits for `callers` to be answered and for paid work under way, as long as configured.
    async fn finish(&self, callers: impl Future<Output = ()>) -> Ended {
        let left = self.pipeline.paid_calls();
        if left > 0 {
            tracing::info!(left, "waiting for paid calls under way; a second signal ends the wait");
        }
        self.pipeline.leave_jobs();
        let patience = Duration::from_secs(u64::from(self.config.server.drain_s));
        let finished = async {
            // In this order: whoever is being served may still begin something.
            callers.await;
            self.paid_work.close();
            self.paid_work.wait().await;
        };
        if tokio::time::timeout(patience, finished).await.is_err() {
            let left = self.pipeline.paid_calls();
            tracing::warn!(
                left,
                "paid calls are still under way: what a provider has accepted as a job is left to the \
                           next process, the money of the others will be in suspense"
            );
        }
        Ended::InTime
    }

    /// Ends the background work.
    async fn rest(self) {
        self.shared.close().await;
        self.stop.cancel();
        self.duties.close();
        self.duties.wait().await;
        if let Err(error) = self.store.hand_over().await {
            tracing::warn!(%error, "the other processes will find out by themselves that its jobs are left to them");
        }
        if self.paid_work.is_empty()
            && let Err(error) = self.store.leave().await
        {
            tracing::warn!(%error, "the other processes will find out by themselves that this one has ended");
        }
    }
}

/// What to do with an address that is a secret.
const HIDE_PASSWORD: &str =
    "holds a password, and secrets are not written here: say url = { env = \"NAME\" } or { file = \"PATH\" }";

/// Where the configured Redis is.
fn redis(settings: &config::Shared, environment: &Environment) -> Result<Option<Address>, String> {
    let Some(url) = &settings.url else { return Ok(None) };
    let text = url.resolve(environment).map_err(|why| format!("is not known: {why}"))?;
    let address = Address::parse(text.reveal()).map_err(|bad| bad.to_string())?;
    if address.has_password() && matches!(url, TextRef::Here(_)) {
        return Err(HIDE_PASSWORD.to_owned());
    }
    Ok(Some(address))
}

/// How replicas share.
fn settings(shared: &config::Shared) -> Settings {
    Settings {
        namespace: shared.namespace.clone(),
        picture_ttl: Duration::from_secs(u64::from(shared.picture_ttl_s)),
        patience: Duration::from_millis(u64::from(shared.patience_ms)),
        ..Settings::default()
    }
}

/// Where the database is, if it is on a server.
///
/// # Errors
/// The place where the configuration says that the address is holds none, or a password stands in the file.
pub fn storage_url(config: &Config, environment: &Environment, file: &Path) -> Result<Option<Secret>, ConfigFault> {
    let Some(url) = &config.storage.url else { return Ok(None) };
    let fault = |message: String| ConfigFault::file(file, format!("storage: url {message}"));
    let text = url.resolve(environment).map_err(|why| fault(format!("is not known: {why}")))?;
    let address = DatabaseAddress::parse(text.reveal()).map_err(|bad| fault(bad.to_string()))?;
    if address.has_password() && matches!(url, TextRef::Here(_)) {
        return Err(fault(HIDE_PASSWORD.to_owned()));
    }
    Ok(Some(text))
}

/// True if a provider of the simulated shape has no address, and so is to run in this process.
pub fn wants_sandbox(config: &Config) -> bool {
    !homeless(config).is_empty()
}

/// Starts a simulated provider in this process for every provider of that shape without an address, so
/// that `record = "sandbox"` works with nothing else. Returns what must be kept alive.
///
/// # Errors
/// It cannot listen or write its book.
pub async fn embed_sandbox(config: &mut Config) -> Result<Option<mimeo_sandbox::Sandbox>, mimeo_sandbox::StartError> {
    if !wants_sandbox(config) {
        return Ok(None);
    }
    let book = config.storage.path.join("sandbox-invoices.jsonl");
    if let Some(folder) = book.parent() {
        // If this fails, opening the book says so better.
        let _ = std::fs::create_dir_all(folder);
    }
    let options = mimeo_sandbox::Options {
        book: Some(book),
        latency: Duration::from_millis(400),
        ..mimeo_sandbox::Options::default()
    };
    let sandbox = mimeo_sandbox::start(options).await?;
    give_homes(config, &sandbox.url());
    Ok(Some(sandbox))
}

/// Stands in for [`embed_sandbox`] where a configuration is only looked at: nothing listens there.
pub fn imagine_sandbox(config: &mut Config) {
    give_homes(config, "http://127.0.0.1:9");
}

fn give_homes(config: &mut Config, url: &str) {
    for name in homeless(config) {
        if let Some(provider) = config.providers.get_mut(&name) {
            provider.base_url = Some(format!("{url}/native/v1"));
        }
    }
}

/// The simulated providers without an address.
fn homeless(config: &Config) -> Vec<String> {
    // What is wrong with it is told when the configuration is looked at as a whole.
    let catalogue = catalogue(config).unwrap_or_else(|_| Catalogue::embedded());
    let is_homeless = |name: &str, provider: &crate::config::Provider| {
        let record = provider.record.as_deref().unwrap_or(name);
        provider.base_url.is_none() && catalogue.record(record).is_some_and(|record| record.simulated)
    };
    config.providers.iter().filter(|(name, p)| is_homeless(name, p)).map(|(name, _)| name.clone()).collect()
}
