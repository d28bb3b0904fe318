//! What the replicas of a gateway share besides their store: hints, hot pictures, and the limits of accounts.
//!
//! With a Redis (or Valkey) the replicas are faster and keep each account's limits together. Without one, and
//! while it is down, slow or empty, every process goes on by itself: nothing in Redis is the truth, and nothing
//! here ever fails a request.

mod address;
mod gate;
mod learn;
mod leases;
mod link;
mod news;
mod pace;
mod pictures;
mod turnstile;
mod visit;

use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{broadcast, mpsc};
use tokio::time::Instant;
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;

pub use address::{Address, BadAddress};
pub use news::{Hint, heard};
pub use turnstile::Pass;
pub use visit::Visit;

use crate::config::Limits;
use crate::domain::{Digest, RateNews};
use leases::Leases;
use link::{Heard, Link, Plan};
use news::News;
use pictures::Pictures;
use turnstile::Turnstile;

/// Hints that a listener may be behind before it misses some.
const BACKLOG: usize = 1024;
/// Hints that may wait to be sent.
const UNSENT: usize = 1024;
/// How long a picture may take to be written, and the connection for pictures to answer.
const FREIGHT: Duration = Duration::from_secs(5);

/// What replicas share. Cheap to clone; its background work ends with the last clone.
#[derive(Clone)]
pub struct Shared(Arc<Inner>);

struct Inner {
    board: Arc<Board>,
    redis: Option<Redis>,
}

/// What is known in this process.
struct Board {
    hints: broadcast::Sender<Hint>,
    gates: Mutex<HashMap<Arc<str>, Arc<Turnstile>>>,
    /// Processes that do paid work on the same store.
    processes: Arc<AtomicU32>,
}

struct Redis {
    address: Address,
    origin: String,
    leases: Leases,
    pictures: Pictures,
    telling: mpsc::Sender<String>,
    _stop: DropGuard,
}

/// How [`Shared`] behaves.
#[derive(Clone, Debug)]
pub struct Settings {
    /// What the names of all keys begin with.
    pub namespace: String,
    /// How long a slot of an account outlives the process that holds it. It is renewed every third of this.
    pub lease: Duration,
    /// How long anybody waits for an answer of Redis before going on without it.
    pub patience: Duration,
    /// How long a picture stays after it was last written; zero keeps none.
    pub picture_ttl: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Settings {
            namespace: "mimeo".to_owned(),
            lease: Duration::from_secs(30),
            patience: Duration::from_millis(250),
            picture_ttl: Duration::from_secs(3600),
        }
    }
}

impl Shared {
    /// Everything in this process: there is nobody to share with.
    pub fn alone() -> Shared {
        Shared(Arc::new(Inner { board: Board::new(), redis: None }))
    }

    /// Shares through the Redis at `address`, whenever it is there. If it is not there yet, this is logged and
    /// nothing else: everything goes on in this process until it is. Must be called in a Tokio runtime, whose
    /// tasks do the background work.
    pub fn connect(address: &Address, settings: &Settings) -> Shared {
        let Settings { namespace, lease, patience, picture_ttl } = settings;
        let (board, stop, tasks) = (Board::new(), CancellationToken::new(), TaskTracker::new());
        let origin = format!("{:032x}", crate::domain::id::random());
        let plan = |channel, patience| Plan {
            client: address.client(),
            name: address.to_string(),
            probe: format!("{namespace}:probe"),
            channel,
            patience,
        };
        let heard: Heard = {
            let (board, origin) = (Arc::clone(&board), origin.clone());
            Arc::new(move |push: redis::PushInfo| board.hear(&push, &origin))
        };
        let channel = news::channel(namespace);
        let (control, kept) = Link::new(plan(Some((channel.clone(), heard)), *patience));
        let (freight, freight_kept) = Link::new(plan(None, FREIGHT));
        let (leases, errands) = Leases::new(control.clone(), namespace, *lease);
        let (pictures, parcels) = Pictures::new(freight, control.clone(), namespace, *patience, *picture_ttl);
        let (telling, told) = mpsc::channel(UNSENT);

        let until_stopped = |work: BoxedTask| drop(tasks.spawn(stop.clone().run_until_cancelled_owned(work)));
        until_stopped(Box::pin(kept));
        until_stopped(Box::pin(freight_kept));
        until_stopped(Box::pin(leases.clone().keep(errands)));
        until_stopped(Box::pin(pictures.clone().keep_all(parcels)));
        until_stopped(Box::pin(tell_all(control, channel, told)));
        let redis = Redis { address: address.clone(), origin, leases, pictures, telling, _stop: stop.drop_guard() };
        Shared(Arc::new(Inner { board, redis: Some(redis) }))
    }

    /// Gives `hint` to all who listen, here and at the other replicas. Never blocks and never fails: a hint
    /// that cannot be sent now is dropped.
    pub fn tell(&self, hint: Hint) {
        // An error means that nobody listens here.
        let _ = self.0.board.hints.send(hint);
        if let Some(redis) = &self.0.redis {
            let _ = redis.telling.try_send(news::hint(&redis.origin, hint));
        }
    }

    /// Hints from now on, one's own and others'. Whoever lags behind misses some, which does no harm.
    pub fn hints(&self) -> broadcast::Receiver<Hint> {
        self.0.board.hints.subscribe()
    }

    /// The picture with this content, if it is hot: verified, and within the patience of the settings.
    pub async fn picture(&self, digest: Digest) -> Option<Bytes> {
        self.0.redis.as_ref()?.pictures.get(digest).await
    }

    /// Keeps a picture hot, in the background. One of more than 8 MiB is not kept, nor is one that comes while
    /// 32 MiB are waiting to be written.
    pub fn keep_picture(&self, digest: Digest, bytes: Bytes) {
        if let Some(redis) = &self.0.redis {
            redis.pictures.keep(digest, bytes);
        }
    }

    /// Pictures that did not match their hash, since the start of this process.
    pub fn wrong_pictures(&self) -> u64 {
        self.0.redis.as_ref().map_or(0, |redis| redis.pictures.wrong())
    }

    /// The right to have one call for so many pictures under way at `account`, as soon as its limits allow.
    pub async fn pass(&self, account: &str, limits: Limits, pictures: u32) -> Pass {
        self.0.board.turnstile(account, limits).pass(pictures, self.leases()).await
    }

    /// The same, if the limits allow it now.
    pub async fn try_pass(&self, account: &str, limits: Limits, pictures: u32) -> Option<Pass> {
        self.0.board.turnstile(account, limits).try_pass(pictures, self.leases()).await
    }

    /// Whether a call for so many pictures would get through now, as far as this process can tell. Takes nothing.
    pub fn looks_open(&self, account: &str, limits: Limits, pictures: u32) -> bool {
        self.0.board.turnstile(account, limits).looks_open(pictures, self.0.redis.is_some())
    }

    /// How long nobody will be let through at `account`, and the time between two calls from then on, as far as
    /// either is known.
    pub fn outlook(&self, account: &str, limits: Limits) -> (Duration, Duration) {
        let turnstile = self.0.board.turnstile(account, limits);
        let keeper = if self.0.redis.is_some() { gate::Keeper::Elsewhere } else { turnstile.alone() };
        turnstile.gate.outlook(keeper)
    }

    /// Learns from a call whose pass was given at `begun` and that the account's provider refused, because there were
    /// too many. It rests until the provider takes calls again, here and at the other replicas.
    pub fn refused(&self, account: &str, limits: Limits, begun: Instant, retry_after: Option<Duration>) {
        let turnstile = self.0.board.turnstile(account, limits);
        if let (Some(rest), Some(redis)) = (turnstile.gate.learn(begun, Some(retry_after)), &self.0.redis) {
            let _ = redis.telling.try_send(news::rests(&redis.origin, account, rest));
        }
    }

    /// Learns from a call whose pass was given at `begun` and that was not refused for that reason.
    pub fn accepted(&self, account: &str, limits: Limits, begun: Instant) {
        self.0.board.turnstile(account, limits).gate.learn(begun, None);
    }

    /// Learns from what the answer to a call that went out at `sent` said of what is left.
    pub fn heard(&self, account: &str, limits: Limits, sent: Instant, news: RateNews) {
        self.0.board.turnstile(account, limits).gate.hear(sent, news);
    }

    /// Says how many processes do paid work on the same store, this one included. Where nothing else keeps their
    /// limits together, each keeps to its part.
    pub fn among(&self, processes: u32) {
        self.0.board.processes.store(processes.max(1), Ordering::Relaxed);
    }

    fn leases(&self) -> Option<&Leases> {
        self.0.redis.as_ref().map(|redis| &redis.leases)
    }

    /// Tells Redis of all passes that were dropped so far, if it is there. Without this, those that were
    /// dropped just before the process ends hold their slots until their leases are over.
    pub async fn close(&self) {
        if let Some(redis) = &self.0.redis {
            redis.leases.settled().await;
        }
    }
}

type BoxedTask = std::pin::Pin<Box<dyn Future<Output = ()> + Send>>;

/// Sends one message after another.
async fn tell_all(link: Link, channel: String, mut told: mpsc::Receiver<String>) {
    while let Some(message) = told.recv().await {
        let mut command = redis::cmd("PUBLISH");
        command.arg(&channel).arg(message);
        // A hint that nobody gets is no harm.
        let _ = link.call(|mut redis| async move { command.exec_async(&mut redis).await }).await;
    }
}

impl Board {
    fn new() -> Arc<Board> {
        Arc::new(Board {
            hints: broadcast::Sender::new(BACKLOG),
            gates: Mutex::default(),
            processes: Arc::new(AtomicU32::new(1)),
        })
    }

    fn turnstile(&self, account: &str, limits: Limits) -> Arc<Turnstile> {
        let mut gates = self.gates.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(turnstile) = gates.get(account) {
            return Arc::clone(turnstile);
        }
        let turnstile = Arc::new(Turnstile::new(account, limits, Arc::clone(&self.processes)));
        gates.insert(Arc::clone(&turnstile.account), Arc::clone(&turnstile));
        turnstile
    }

    /// Takes in what came on the channel; what this process has said itself is known here already.
    fn hear(&self, push: &redis::PushInfo, own: &str) {
        let (redis::PushKind::Message, [_, redis::Value::BulkString(message)]) = (&push.kind, push.data.as_slice())
        else {
            return;
        };
        match news::parse(message) {
            Some(News::Hint(origin, hint)) if origin != own => drop(self.hints.send(hint)),
            Some(News::Freed(account)) => {
                if let Some(turnstile) = self.known(account) {
                    turnstile.freed.notify_one();
                }
            }
            Some(News::Rests(origin, account, pause)) if origin != own => {
                if let Some(turnstile) = self.known(account) {
                    turnstile.gate.rest(pause);
                }
            }
            _ => {}
        }
    }

    fn known(&self, account: &str) -> Option<Arc<Turnstile>> {
        self.gates.lock().unwrap_or_else(PoisonError::into_inner).get(account).cloned()
    }
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared").field("redis", &self.0.redis.as_ref().map(|redis| &redis.address)).finish()
    }
}

#[cfg(test)]
mod tests;
