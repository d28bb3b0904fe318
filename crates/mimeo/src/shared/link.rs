//! One connection to Redis that is made again whenever it breaks, for ever, and a bound on how long anybody
//! waits for it.
//!
//! It is either *joining* (the first attempt after a while of quiet: callers wait a little), *up*, or *down*
//! (callers are told so at once, attempts go on in the background). Any failed or late call ends the connection:
//! a new one, which must pass a write as a probe, finds out whether Redis is there. So there is one judge of
//! it, and no retry of anything.

use std::sync::Arc;
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Client, PushInfo, PushKind, RedisResult};
use tokio::sync::watch;
use tokio::time::{Instant, timeout, timeout_at};

/// How long an attempt may take while nobody waits for it.
const CONNECT: Duration = Duration::from_secs(2);
/// How often an idle connection is tried. A Redis that hangs is noticed so soon, by nobody who waits.
const PROBE: Duration = Duration::from_secs(1);
/// A connection that lasted so long was good; whoever loses it tries again at once.
const CALM: Duration = Duration::from_secs(5);
/// Between attempts.
const PAUSES: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(2));

/// What is heard on the connection besides answers.
pub(super) type Heard = Arc<dyn Fn(PushInfo) + Send + Sync>;

/// What a link is made of.
pub(super) struct Plan {
    pub client: Client,
    /// Host and port, for the log.
    pub name: String,
    /// The key that is written as a probe.
    pub probe: String,
    /// The channel to listen to and what to do with what is heard. Only the link that listens logs: the others
    /// fail with it.
    pub channel: Option<(String, Heard)>,
    /// How long a call may take, the time to get a connection included; also how long a probe may.
    pub patience: Duration,
}

#[derive(Clone)]
enum State {
    Joining,
    Up(MultiplexedConnection, u64),
    Down,
}

/// A handle on the connection. Cheap to clone.
#[derive(Clone)]
pub(super) struct Link {
    state: watch::Receiver<State>,
    failed: watch::Sender<u64>,
    patience: Duration,
}

impl Link {
    /// A link and the task that keeps it.
    pub(super) fn new(plan: Plan) -> (Link, impl Future<Output = ()> + Send) {
        let (state, watched) = watch::channel(State::Joining);
        let failed = watch::Sender::new(0);
        let link = Link { state: watched, failed: failed.clone(), patience: plan.patience };
        (link, Keeper { plan, state, failed, told: false }.keep())
    }

    /// True if the last that was heard of Redis is good.
    pub(super) fn is_up(&self) -> bool {
        matches!(*self.state.borrow(), State::Up(..))
    }

    /// Returns when the connection is another than the `known` one, which it replaces.
    pub(super) async fn joined(&mut self, known: &mut u64) {
        let is_another = |state: &State| matches!(state, State::Up(_, current) if current != known);
        let joined = self.state.wait_for(is_another).await.map(|state| state.clone());
        match joined {
            Ok(State::Up(_, current)) => *known = current,
            // The keeper has ended, and with it everything that waits here.
            _ => std::future::pending().await,
        }
    }

    /// Does `work`, if that takes no longer than the link's patience. `None` is any failure.
    pub(super) async fn call<T, F>(&self, work: impl FnOnce(MultiplexedConnection) -> F) -> Option<T>
    where
        F: Future<Output = RedisResult<T>>,
    {
        let deadline = Instant::now() + self.patience;
        let mut state = self.state.clone();
        let known = timeout_at(deadline, state.wait_for(|state| !matches!(state, State::Joining)));
        let State::Up(connection, current) = known.await.ok()?.ok()?.clone() else { return None };
        let why = match timeout_at(deadline, work(connection)).await {
            Ok(Ok(value)) => return Some(value),
            Ok(Err(error)) => error.to_string(),
            Err(_) => format!("no answer within {} ms", self.patience.as_millis()),
        };
        tracing::debug!(why, "a call to Redis failed");
        fail(&self.failed, current);
        None
    }
}

/// Gives up the connection `current`, unless there is a newer one already.
fn fail(failed: &watch::Sender<u64>, current: u64) {
    failed.send_if_modified(|last| {
        let is_news = *last < current;
        *last = current.max(*last);
        is_news
    });
}

struct Keeper {
    plan: Plan,
    state: watch::Sender<State>,
    failed: watch::Sender<u64>,
    /// The outage is in the log.
    told: bool,
}

impl Keeper {
    async fn keep(mut self) {
        let mut pause = Duration::ZERO;
        // Nobody waits for the very first attempt for long, and it may have to look up names and certificates.
        let mut patience = CONNECT;
        for current in 1.. {
            match timeout(patience, self.join(current)).await {
                Ok(Ok(connection)) => {
                    self.back();
                    self.state.send_replace(State::Up(connection.clone(), current));
                    let since = Instant::now();
                    let why = self.watch(connection, current).await;
                    if since.elapsed() >= CALM {
                        // It may be as short as a failover: whoever calls now waits for the attempt.
                        pause = Duration::ZERO;
                        patience = self.plan.patience;
                        self.state.send_replace(State::Joining);
                        continue;
                    }
                    self.gone(&why);
                }
                Ok(Err(error)) => self.gone(&error.to_string()),
                Err(_) => self.gone("it does not answer"),
            }
            patience = CONNECT;
            tokio::time::sleep(pause).await;
            pause = (pause * 2).clamp(PAUSES.0, PAUSES.1);
        }
    }

    async fn join(&self, current: u64) -> RedisResult<MultiplexedConnection> {
        let failed = self.failed.clone();
        let heard = self.plan.channel.as_ref().map(|(_, heard)| Arc::clone(heard));
        let listen = move |push: PushInfo| {
            match (&push.kind, &heard) {
                (PushKind::Disconnection, _) => fail(&failed, current),
                (_, Some(heard)) => heard(push),
                _ => {}
            }
            Ok::<(), redis::aio::SendError>(())
        };
        // Time limits are this module's own: they must hold for an attempt and a call as a whole.
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(None)
            .set_response_timeout(None)
            .set_push_sender(listen);
        let mut connection = self.plan.client.get_multiplexed_async_connection_with_config(&config).await?;
        if let Some((channel, _)) = &self.plan.channel {
            connection.subscribe(channel.as_str()).await?;
        }
        self.probe(connection.clone()).await?;
        Ok(connection)
    }

    /// A write, because a Redis that is loading, full or a read-only replica does answer to a ping.
    async fn probe(&self, mut connection: MultiplexedConnection) -> RedisResult<()> {
        redis::cmd("SET").arg(&self.plan.probe).arg(1).arg("PX").arg(1000).exec_async(&mut connection).await
    }

    /// Returns when the connection is of no use any more, and why.
    async fn watch(&self, connection: MultiplexedConnection, current: u64) -> String {
        let mut failed = self.failed.subscribe();
        loop {
            tokio::select! {
                // The sender is ours, so this cannot fail.
                _ = failed.wait_for(|last| *last >= current) => return "the connection broke, or a call took too long".into(),
                () = tokio::time::sleep(PROBE) => {}
            }
            match timeout(self.plan.patience, self.probe(connection.clone())).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => return error.to_string(),
                Err(_) => return "it does not answer".into(),
            }
        }
    }

    fn gone(&mut self, why: &str) {
        self.state.send_replace(State::Down);
        if !std::mem::replace(&mut self.told, true) && self.plan.channel.is_some() {
            tracing::warn!(
                redis = self.plan.name,
                why,
                "Redis is not there; until it is, this process keeps the accounts' \
                           limits by itself and reads pictures from the store"
            );
        }
    }

    fn back(&mut self) {
        if std::mem::take(&mut self.told) && self.plan.channel.is_some() {
            tracing::info!(redis = self.plan.name, "Redis is back");
        }
    }
}
