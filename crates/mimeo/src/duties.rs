//! What a serving process does beside requests. Each duty is one function that does its work once, and
//! one interval.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::alerts::{self, Alerts};
use crate::cache::{Cache, Retention};
use crate::clock::{Clock, Millis};
use crate::config;
use crate::pipeline::Pipeline;
use crate::prices::PriceFeed;
use crate::providers::Catalogue;
use crate::quality::Opinions;
use crate::route::performance::Performance;
use crate::shared::Shared;
use crate::store::{PurgeFilter, Store, StoreError};

/// How soon a purge by another process is noticed.
const PURGES: Duration = Duration::from_millis(500);
/// How soon feedback that another process was given is known here.
const FEEDBACK: Duration = Duration::from_secs(5);
/// How soon it is known here how long the calls of another process took.
const CALLS: Duration = Duration::from_secs(10);
/// How often expired pictures are removed from the disk.
const SWEEP: Duration = Duration::from_secs(60);
/// How often room is made, where what is stored is bounded.
const ROOM: Duration = Duration::from_secs(5);
/// How often what nothing leads to is looked for: pictures that were replaced, and bytes that a process left
/// behind when it was killed.
const COLLECTION: Duration = Duration::from_secs(6 * 3600);
/// How old bytes must be that nothing leads to: longer than any call takes.
const GRACE: Duration = Duration::from_secs(24 * 3600);
/// Milliseconds of a day.
const DAY: Millis = 24 * 3_600_000;
/// How often attempts of dead processes are looked for.
const RECOVERY: Duration = Duration::from_secs(15);
/// How soon a price that another process has learned is reckoned with.
const PRICES: Duration = Duration::from_secs(2);
/// How often models that are about to go are looked for, after the start.
const RETIRING: Duration = Duration::from_secs(3600);

/// What the duties work on.
#[derive(Clone, Debug)]
pub struct Duties {
    /// The store.
    pub store: Arc<Store>,
    /// The cache, for its memory.
    pub cache: Arc<Cache>,
    /// Asks for the jobs of processes that are gone.
    pub pipeline: Arc<Pipeline>,
    /// Sends what the operator is told.
    pub alerts: Alerts,
    /// What lists of prices are compared with.
    pub catalogue: Arc<Catalogue>,
    /// Lists of prices that are looked at.
    pub feeds: Vec<Arc<PriceFeed>>,
    /// Settings.
    pub settings: config::Cache,
    /// Which stories of requests are kept.
    pub requests: config::Requests,
    /// The routes as they are configured.
    pub routes: BTreeMap<String, config::Route>,
    /// Time.
    pub clock: Clock,
    /// What is believed of candidates.
    pub opinions: Opinions,
    /// How candidates have done of late.
    pub performance: Performance,
}

impl Duties {
    /// Begins all duties, until `stop`.
    ///
    /// # Errors
    /// The store fails.
    pub async fn begin(self, tasks: &TaskTracker, stop: &CancellationToken) -> Result<(), StoreError> {
        let mut known = self.store.purge_epoch().await?;
        self.opinions.refresh().await?;
        let (opinions, stopped) = (self.opinions.clone(), stop.clone());
        tasks.spawn(async move {
            while pause(&stopped, FEEDBACK).await {
                if let Err(error) = opinions.refresh().await {
                    tracing::warn!(%error, "what other processes were told of pictures could not be read");
                }
            }
        });
        self.performance.begin(&self.store, &self.clock).await?;
        let (duties, stopped) = (self.clone(), stop.clone());
        tasks.spawn(async move {
            while pause(&stopped, CALLS).await {
                if let Err(error) = duties.performance.refresh(&duties.store, &duties.clock).await {
                    tracing::warn!(%error, "how long the calls of other processes took could not be read");
                }
            }
        });
        let (duties, stopped) = (self.clone(), stop.clone());
        tasks.spawn(async move {
            while pause(&stopped, PURGES).await {
                match duties.notice_purges(known).await {
                    Ok(epoch) => known = epoch,
                    Err(error) => tracing::warn!(%error, "purges could not be looked for"),
                }
            }
        });
        let (duties, stopped) = (self.clone(), stop.clone());
        tasks.spawn(async move {
            while pause(&stopped, SWEEP).await {
                if let Err(error) = duties.sweep().await {
                    tracing::warn!(%error, "expired pictures could not be removed");
                }
            }
        });
        if self.settings.max_mb > 0 {
            let limit = self.settings.max_mb.saturating_mul(1 << 20);
            self.cache.retain(Retention::begin(&self.store, limit, self.clock.now()).await?);
            let (duties, stopped) = (self.clone(), stop.clone());
            tasks.spawn(async move {
                while pause(&stopped, ROOM).await {
                    duties.make_room().await;
                }
                duties.make_room().await;
            });
        }
        let (duties, stopped) = (self.clone(), stop.clone());
        tasks.spawn(async move {
            while pause(&stopped, COLLECTION).await {
                // There may be millions to look at.
                if let Some(Err(error)) = stopped.run_until_cancelled(duties.collect()).await {
                    tracing::warn!(%error, "what nothing leads to could not be removed");
                }
            }
        });
        self.clone().begin_prices(tasks, stop);
        let (duties, stopped) = (self, stop.clone());
        tasks.spawn(async move {
            while pause(&stopped, RECOVERY).await {
                match duties.pipeline.recover().await {
                    Ok((0, 0)) => {}
                    Ok((released, suspended)) => {
                        tracing::warn!(released, suspended, "calls of a process that ended were found open");
                    }
                    Err(error) => tracing::warn!(%error, "open calls could not be looked for"),
                }
            }
        });
        Ok(())
    }

    /// Begins what has to do with prices, and what the operator is told.
    fn begin_prices(self, tasks: &TaskTracker, stop: &CancellationToken) {
        let (duties, stopped) = (self.clone(), stop.clone());
        tasks.spawn(async move {
            while pause(&stopped, PRICES).await {
                if let Err(error) = duties.pipeline.prices.catch_up().await {
                    tracing::warn!(%error, "changed prices could not be looked for");
                }
            }
        });
        for feed in self.feeds.clone() {
            let (duties, stopped) = (self.clone(), stop.clone());
            tasks.spawn(async move {
                loop {
                    duties.look_at(&feed, &stopped).await;
                    if !pause(&stopped, feed.rest()).await {
                        return;
                    }
                }
            });
        }
        let (duties, stopped) = (self.clone(), stop.clone());
        tasks.spawn(async move {
            loop {
                let registry = duties.pipeline.routes.registry();
                if let Err(error) = duties.pipeline.prices.announce(registry, &duties.routes).await {
                    tracing::warn!(%error, "models that are about to go could not be announced");
                }
                if !pause(&stopped, RETIRING).await {
                    return;
                }
            }
        });
        let (alerts, stopped) = (self.alerts, stop.clone());
        tasks.spawn(async move {
            loop {
                // What is on its way then, the next process sends again.
                if let Some(Err(error)) = stopped.run_until_cancelled(alerts.deliver()).await {
                    tracing::warn!(%error, "alerts could not be sent");
                }
                let go_on = tokio::select! {
                    go_on = pause(&stopped, alerts::REST) => go_on,
                    () = alerts.waiting() => true,
                };
                if !go_on {
                    return;
                }
            }
        });
    }

    /// Looks at a list of prices, unless `stop` comes first.
    async fn look_at(&self, feed: &PriceFeed, stop: &CancellationToken) {
        let registry = self.pipeline.routes.registry();
        match self.pipeline.prices.refresh(feed, &self.catalogue, registry, stop).await {
            Ok(polled) => {
                tracing::debug!(feed = feed.name(), matched = polled.matched, changed = polled.changed.len(), "prices");
            }
            Err(error) => {
                tracing::warn!(feed = feed.name(), %error, "what a price feed says could not be written down");
            }
        }
    }

    /// Empties the memory if somebody has purged since `known`. Returns the new state of things.
    async fn notice_purges(&self, known: i64) -> Result<i64, StoreError> {
        let epoch = self.store.purge_epoch().await?;
        if epoch != known {
            self.cache.forget();
        }
        Ok(epoch)
    }

    /// Keeps what is stored within its bound.
    async fn make_room(&self) {
        let Some(retention) = self.cache.retention() else { return };
        match retention.keep_within_bound(&self.store, self.clock.now()).await {
            Ok(0) => {}
            Ok(pictures) => tracing::info!(pictures, "the pictures that were worth least were dropped"),
            Err(error) => tracing::warn!(%error, "no room could be made"),
        }
    }

    /// Removes pictures that were replaced long ago, and bytes that nothing leads to.
    async fn collect(&self) -> Result<(), StoreError> {
        let now = self.clock.now();
        let kept = Millis::try_from(self.settings.replaced_ttl_s).unwrap_or(Millis::MAX).saturating_mul(1000);
        while self.store.drop_unlisted(now.saturating_sub(kept), now).await? > 0 {}
        let found = self.store.collect(GRACE, now, false).await?;
        if found.orphans > 0 {
            tracing::info!(orphans = found.orphans, "bytes that a killed process had left behind were deleted");
        }
        Ok(())
    }

    /// Forgets the stories of old requests.
    async fn forget_stories(&self) -> Result<u64, StoreError> {
        let kept = Millis::from(self.requests.keep_days).saturating_mul(DAY);
        let most = Some(self.requests.max_rows).filter(|most| *most > 0);
        self.store.forget_stories(self.clock.now().saturating_sub(kept), most).await
    }

    /// Removes what has expired. The index does not give it out any more in any case.
    async fn sweep(&self) -> Result<(), StoreError> {
        self.store.forget_replies(self.clock.now()).await?;
        self.forget_stories().await?;
        self.store.forget_drafts(self.clock.now()).await?;
        let filter = PurgeFilter { expired_by: Some(self.clock.now()), ..PurgeFilter::default() };
        self.store.purge(filter, self.clock.now()).await.map(|_| ())
    }
}

/// Gives signs of life until `stop`, from the beginning on: paid work may be done before anything is served. Hears of
/// the others meanwhile, with whom it shares the limits of accounts.
pub fn keep_alive(store: Arc<Store>, shared: Shared, tasks: &TaskTracker, stop: &CancellationToken) {
    let stopped = stop.clone();
    tasks.spawn(async move {
        loop {
            match store.processes().await {
                Ok(processes) => shared.among(processes),
                Err(error) => tracing::warn!(%error, "the other processes cannot be counted"),
            }
            if !pause(&stopped, store.heartbeat()).await {
                return;
            }
            if let Err(error) = store.renew().await {
                tracing::warn!(%error, "no sign of life could be given");
            }
        }
    });
}

/// Waits; false if it is time to stop.
async fn pause(stop: &CancellationToken, time: Duration) -> bool {
    tokio::select! {
        () = stop.cancelled() => false,
        () = tokio::time::sleep(time) => true,
    }
}
