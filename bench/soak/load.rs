//! Requests at their moments, and what became of each.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::Request;
use hyper::http::response::Parts;
use mimeo_bench::client::Connection;
use mimeo_bench::{Failure, Result};
use serde_json::Value;
use tokio::task::JoinSet;
use tokio::time::{Instant, interval, sleep_until};

use crate::arrivals::Arrivals;
use crate::{CONCURRENT, SERVICE_MS, World};

/// Pictures that are stored before the load begins, and asked for again during it.
const STORED: usize = 20;
/// Bytes of each picture.
const BYTES: usize = 32 << 10;
/// Between two looks at the gateway.
const LOOK: Duration = Duration::from_millis(500);
/// Where the random numbers begin: the same run every time.
const SEED: u64 = 2026;

/// What a request came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A new picture.
    Miss,
    /// A stored one.
    Hit,
    /// Sent away.
    Shed,
    /// Anything else.
    Other,
}

/// One answer.
#[derive(Clone, Debug)]
pub struct Answer {
    /// What it came to.
    pub kind: Kind,
    /// Seconds from the beginning of the run to when it was to be sent, and to its last byte.
    pub at: (f64, f64),
    /// Status, and the code of the error.
    pub status: (u16, String),
    /// True if it says when to come back.
    pub says_when: bool,
}

impl Answer {
    /// From the moment at which it was to be sent to its last byte, in milliseconds.
    pub fn ms(&self) -> f64 {
        (self.at.1 - self.at.0) * 1e3
    }
}

/// One look at the gateway.
#[derive(Clone, Copy, Debug)]
pub struct Look {
    /// Seconds from the beginning.
    pub second: f64,
    /// Memory, in MB of 10⁶ bytes.
    pub rss_mb: f64,
    /// Open descriptors.
    pub descriptors: usize,
}

/// Everything that was seen.
#[derive(Debug)]
pub struct Run {
    /// How long requests were sent.
    pub seconds: f64,
    /// Pictures that were made before.
    pub stored: usize,
    /// All answers, in the order in which they came.
    pub answers: Vec<Answer>,
    /// All looks.
    pub looks: Vec<Look>,
}

/// Calls per second that the provider can make.
pub fn capacity() -> f64 {
    f64::from(CONCURRENT) * 1e3 / f64::from(SERVICE_MS)
}

/// Sends twice what the provider can make, and a quarter of that again as repetitions, for so many seconds.
pub async fn run(world: &World, seconds: f64) -> Result<Run> {
    let order = |prompt: String| {
        let prompt = format!("{prompt} of a soak [[bytes={BYTES}]]");
        world.target.order(&prompt, "16x16", "b64_json")
    };
    for index in 0..STORED {
        Connection::open(world.target.address).await?.time(order(format!("stored {index}"))?, BYTES).await?;
    }
    let start = Instant::now() + Duration::from_millis(100);
    let idle: Rc<RefCell<Vec<Connection>>> = Rc::default();
    let mut requests = JoinSet::new();
    let mut answers = Vec::new();
    let mut looks = Vec::new();
    let mut look = interval(LOOK);
    let (mut misses, mut hits) = (Arrivals::new(2.0 * capacity(), SEED), Arrivals::new(0.5 * capacity(), SEED + 1));
    let (mut miss_at, mut hit_at) = (start + misses.gap(), start + hits.gap());
    let (end, mut number) = (start + Duration::from_secs_f64(seconds), 0);
    let local = tokio::task::LocalSet::new();
    local
        .run_until(async {
            while miss_at.min(hit_at) < end {
                tokio::select! {
                    biased;
                    () = sleep_until(miss_at.min(hit_at)) => {
                        let at = miss_at.min(hit_at);
                        let request = if at == miss_at {
                            number += 1;
                            miss_at += misses.gap();
                            order(format!("new {number}"))?
                        } else {
                            hit_at += hits.gap();
                            order(format!("stored {}", hits.pick(STORED)))?
                        };
                        requests.spawn_local(ask(world.target.address, Rc::clone(&idle), request, start, at));
                    }
                    _ = look.tick() => looks.push(Look {
                        second: start.elapsed().as_secs_f64(),
                        rss_mb: world.gateway.rss_mb(),
                        descriptors: world.gateway.descriptors(),
                    }),
                    Some(answer) = requests.join_next() => answers.push(answer??),
                }
            }
            while let Some(answer) = requests.join_next().await {
                answers.push(answer??);
            }
            Ok::<_, Failure>(())
        })
        .await?;
    Ok(Run { seconds, stored: STORED, answers, looks })
}

/// Sends one request over a connection of its own, and keeps the connection for another.
async fn ask(
    address: std::net::SocketAddr,
    idle: Rc<RefCell<Vec<Connection>>>,
    request: Request<Full<Bytes>>,
    start: Instant,
    at: Instant,
) -> Result<Answer> {
    let kept = idle.borrow_mut().pop();
    let mut connection = match kept {
        Some(connection) => connection,
        None => Connection::open(address).await?,
    };
    let (head, body) = connection.exchange(request).await?;
    let at = ((at - start).as_secs_f64(), start.elapsed().as_secs_f64());
    idle.borrow_mut().push(connection);
    Ok(read(&head, &body, at))
}

fn read(head: &Parts, body: &Bytes, at: (f64, f64)) -> Answer {
    let header = |name: &str| head.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let status = head.status.as_u16();
    let kind = match (status, header("x-mimeo-cache")) {
        (200, "miss") => Kind::Miss,
        (200, "hit") => Kind::Hit,
        (429 | 503, _) => Kind::Shed,
        _ => Kind::Other,
    };
    let code = if status == 200 {
        header("x-mimeo-cache").to_owned()
    } else {
        let error: Value = serde_json::from_slice(body).unwrap_or_default();
        error["error"]["code"].as_str().unwrap_or("?").to_owned()
    };
    Answer { kind, at, status: (status, code), says_when: head.headers.contains_key("retry-after") }
}
