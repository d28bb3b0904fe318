//! The same promises alone and with a real Redis, and what Redis adds to them and must not break.

mod hints;
mod limits;
mod outages;
mod pictures;
mod server;

use std::future::poll_fn;
use std::pin::Pin;
use std::task::Poll;
use std::time::Duration;

use tokio::time::Instant;

use super::{Address, Hint, Settings, Shared};
use server::Server;

/// Longer than anything takes that works, also on a machine that is busy with something else.
const BOUND: Duration = Duration::from_secs(30);

/// Settings under which a busy machine is not taken for a Redis that is down.
fn patient() -> Settings {
    Settings { patience: Duration::from_secs(10), ..Settings::default() }
}

/// What promises are tried on: replicas that share, with whatever they share through.
struct Place {
    replicas: Vec<Shared>,
    _server: Option<Server>,
}

/// One process by itself, and two that share a Redis.
fn places() -> [Place; 2] {
    let server = Server::start();
    let replicas = (0..2).map(|_| server.join(&patient())).collect();
    [Place { replicas: vec![Shared::alone()], _server: None }, Place { replicas, _server: Some(server) }]
}

/// Returns when each of the two hears the other; until then, what they tell each other is lost.
async fn meet(one: &Shared, other: &Shared) {
    for (from, to) in [(one, other), (other, one)] {
        let mut hints = to.hints();
        eventually("they hear each other", async || {
            from.tell(Hint::Purged);
            hints.try_recv().ok()
        })
        .await;
    }
}

/// Asks until it is so.
async fn eventually<T>(what: &str, mut ask: impl AsyncFnMut() -> Option<T>) -> T {
    let since = Instant::now();
    loop {
        if let Some(found) = ask().await {
            return found;
        }
        assert!(since.elapsed() < BOUND, "not in {BOUND:?}: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// What comes of `work`, which takes no longer than the bound.
async fn in_time<T>(what: &str, work: impl Future<Output = T>) -> T {
    tokio::time::timeout(BOUND, work).await.unwrap_or_else(|_| panic!("not in {BOUND:?}: {what}"))
}

/// Lets a future begin to wait.
async fn begin<T>(future: &mut Pin<Box<impl Future<Output = T>>>) {
    poll_fn(|context| {
        assert!(future.as_mut().poll(context).is_pending(), "it has to wait");
        Poll::Ready(())
    })
    .await;
}
