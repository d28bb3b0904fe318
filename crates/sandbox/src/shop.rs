//! What all routes share.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use axum::http::{HeaderMap, header};

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::Options;
use crate::book::Book;
use crate::files::Files;
use crate::graph::Graphs;
use crate::price::Tariff;
use crate::rate::Rate;
use crate::sale::nanoseconds;
use crate::script::Script;
use crate::simulation::{Jobs, Simulations};
use crate::stats::Counters;

/// The state of one sandbox.
#[derive(Debug)]
pub(crate) struct Shop {
    pub book: Arc<Book>,
    pub script: Script,
    pub rate: Rate,
    pub tariff: Tariff,
    pub counters: Arc<Counters>,
    pub files: Files,
    pub jobs: Jobs,
    pub simulations: Simulations,
    pub graphs: Graphs,
    /// Jobs run here, so that a stopping sandbox can wait for them.
    pub tasks: TaskTracker,
    /// Cancelled when the sandbox stops.
    pub stop: CancellationToken,
    /// The least size of every picture, in bytes, unless a fault says otherwise.
    pub picture_bytes: usize,
    address: SocketAddr,
    born: u128,
    names: AtomicU64,
    latency: AtomicU64,
}

impl Shop {
    /// A shop at that address, with the latency and the padding that the options ask for.
    pub(crate) fn new(
        options: &Options,
        (book, address): (Arc<Book>, SocketAddr),
        simulations: Simulations,
        (tasks, stop): (TaskTracker, CancellationToken),
    ) -> Self {
        let shop = Self {
            book,
            script: Script::default(),
            rate: Rate::default(),
            tariff: Tariff::default(),
            counters: Arc::default(),
            files: Files::default(),
            jobs: Jobs::default(),
            simulations,
            graphs: Graphs::default(),
            tasks,
            stop,
            picture_bytes: options.picture_bytes.unwrap_or(0),
            address,
            born: nanoseconds(),
            names: AtomicU64::new(0),
            latency: AtomicU64::new(0),
        };
        shop.set_latency(options.latency);
        shop
    }

    /// A name that nothing else has, not even in an earlier run: jobs are asked for by it.
    pub(crate) fn next_name(&self) -> String {
        let number = self.names.fetch_add(1, Relaxed);
        let hash = blake3::hash(&[self.born.to_le_bytes().as_slice(), &number.to_le_bytes()].concat()).to_hex();
        let part = |from: usize, to: usize| hash.get(from..to).unwrap_or_default();
        format!("{}-{}-4{}-8{}-{}", part(0, 8), part(8, 12), part(13, 16), part(17, 20), part(20, 32))
    }

    /// The time each billed answer takes.
    pub(crate) fn latency(&self) -> Duration {
        Duration::from_millis(self.latency.load(Relaxed))
    }

    /// Changes that time, in whole milliseconds.
    pub(crate) fn set_latency(&self, latency: Duration) {
        self.latency.store(u64::try_from(latency.as_millis()).unwrap_or(u64::MAX), Relaxed);
    }

    /// Where the client reached this sandbox. The `Host` header knows, also behind `0.0.0.0` or a port mapping.
    pub(crate) fn origin(&self, headers: &HeaderMap) -> String {
        match headers.get(header::HOST).and_then(|host| host.to_str().ok()) {
            Some(host) => format!("http://{host}"),
            None => format!("http://{}", self.address),
        }
    }
}

/// Who pays: the bearer token, if the request has one.
pub(crate) fn bearer(headers: &HeaderMap) -> Option<&str> {
    let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = value.split_once(' ')?;
    let token = token.trim();
    (scheme.eq_ignore_ascii_case("bearer") && !token.is_empty()).then_some(token)
}

/// The caller's own name for this try, which the book records.
pub(crate) fn attempt(headers: &HeaderMap) -> Option<String> {
    Some(headers.get("x-client-request-id")?.to_str().ok()?.to_owned())
}
