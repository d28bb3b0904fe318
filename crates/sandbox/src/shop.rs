//! What all routes share.

use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::http::{HeaderMap, header};

use crate::book::Book;
use crate::picture::Picture;
use crate::rate::Rate;
use crate::script::Script;
use crate::stats::Counters;

/// The state of one sandbox.
#[derive(Debug)]
pub(crate) struct Shop {
    pub book: Arc<Book>,
    pub script: Script,
    pub rate: Rate,
    pub counters: Arc<Counters>,
    pub files: Files,
    /// The least size of every picture, in bytes, unless a fault says otherwise.
    pub picture_bytes: usize,
    address: SocketAddr,
    latency: AtomicU64,
}

impl Shop {
    /// A shop at that address; `latency` is the time each billed answer takes.
    pub(crate) fn new(book: Arc<Book>, address: SocketAddr, latency: Duration, picture_bytes: usize) -> Self {
        let shop = Self {
            book,
            script: Script::default(),
            rate: Rate::default(),
            counters: Arc::default(),
            files: Files::default(),
            picture_bytes,
            address,
            latency: AtomicU64::new(0),
        };
        shop.set_latency(latency);
        shop
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

/// How many pictures can be fetched by URL; older ones are gone, as they are with every provider.
const FILES_KEPT: usize = 10_000;

/// The pictures that were answered as URLs.
#[derive(Debug, Default)]
pub(crate) struct Files(Mutex<Shelf>);

#[derive(Debug, Default)]
struct Shelf {
    pictures: HashMap<String, Picture>,
    oldest_first: VecDeque<String>,
}

impl Files {
    /// Keeps a picture under a name.
    pub(crate) fn put(&self, name: String, picture: Picture) {
        let mut shelf = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        shelf.oldest_first.push_back(name.clone());
        shelf.pictures.insert(name, picture);
        if shelf.oldest_first.len() > FILES_KEPT
            && let Some(oldest) = shelf.oldest_first.pop_front()
        {
            shelf.pictures.remove(&oldest);
        }
    }

    /// The picture under that name.
    pub(crate) fn get(&self, name: &str) -> Option<Picture> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).pictures.get(name).cloned()
    }
}
