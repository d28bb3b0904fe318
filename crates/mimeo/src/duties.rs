//! What a serving process does beside requests. Each duty is one function that does its work once, and
//! one interval.

use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::cache::Cache;
use crate::clock::Clock;
use crate::store::{PurgeFilter, Store, StoreError};

/// How soon a purge by another process is noticed.
const PURGES: Duration = Duration::from_millis(500);
/// How often expired pictures are removed from the disk.
const SWEEP: Duration = Duration::from_secs(60);
/// How often attempts of dead processes are looked for.
const RECOVERY: Duration = Duration::from_secs(15);

/// What the duties work on.
#[derive(Clone, Debug)]
pub struct Duties {
    /// The store.
    pub store: Arc<Store>,
    /// The cache, for its memory.
    pub cache: Arc<Cache>,
    /// Time.
    pub clock: Clock,
}

impl Duties {
    /// Begins all duties, until `stop`.
    ///
    /// # Errors
    /// The store fails.
    pub async fn begin(self, tasks: &TaskTracker, stop: &CancellationToken) -> Result<(), StoreError> {
        let mut known = self.store.purge_epoch().await?;
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
        let (duties, stopped) = (self, stop.clone());
        tasks.spawn(async move {
            while pause(&stopped, RECOVERY).await {
                match duties.store.recover(duties.clock.now()).await {
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

    /// Empties the memory if somebody has purged since `known`. Returns the new state of things.
    async fn notice_purges(&self, known: i64) -> Result<i64, StoreError> {
        let epoch = self.store.purge_epoch().await?;
        if epoch != known {
            self.cache.forget();
        }
        Ok(epoch)
    }

    /// Removes what has expired. The index does not give it out any more in any case.
    async fn sweep(&self) -> Result<(), StoreError> {
        self.store.forget_replies(self.clock.now()).await?;
        let filter = PurgeFilter { expired_by: Some(self.clock.now()), ..PurgeFilter::default() };
        self.store.purge(filter, self.clock.now()).await.map(|_| ())
    }
}

/// Gives signs of life until `stop`, from the beginning on: paid work may be done before anything is served.
pub fn keep_alive(store: Arc<Store>, tasks: &TaskTracker, stop: &CancellationToken) {
    let stopped = stop.clone();
    tasks.spawn(async move {
        while pause(&stopped, store.heartbeat()).await {
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
