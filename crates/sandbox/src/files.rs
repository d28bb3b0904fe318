//! Pictures that were answered as addresses, until they are too many.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};

use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};

use crate::body::Pieces;
use crate::picture::Picture;
use crate::problem::Problem;
use crate::script::Plan;
use crate::shop::Shop;

/// How many pictures can be fetched; older ones are gone, as they are with every provider.
const KEPT: usize = 10_000;

/// Headers that carry keys. Whoever sends one along when fetching a picture gives it away.
const KEYS: [&str; 7] =
    ["authorization", "x-key", "api-key", "x-api-key", "x-goog-api-key", "dma-api-key", "x-amz-security-token"];

/// A picture with an address.
#[derive(Clone, Debug)]
pub(crate) struct Stored {
    picture: Picture,
    /// The address has run out.
    expired: bool,
    /// So many fetches still come too early.
    lag: u32,
    /// The caller's own key must come along.
    needs_key: bool,
}

impl Stored {
    /// A picture whose address behaves as the plan says.
    pub(crate) fn new(picture: Picture, plan: &Plan) -> Self {
        Self { picture, expired: plan.expired, lag: plan.lag, needs_key: false }
    }

    /// The same, but it is given only to those who show a key.
    pub(crate) fn needing_key(mut self, needs_key: bool) -> Self {
        self.needs_key = needs_key;
        self
    }
}

/// The pictures by their names.
#[derive(Debug, Default)]
pub(crate) struct Files(Mutex<Shelf>);

#[derive(Debug, Default)]
struct Shelf {
    pictures: HashMap<String, Stored>,
    oldest_first: VecDeque<String>,
}

/// What comes of a fetch.
enum Fetched {
    Here(Picture),
    Expired,
    KeyMissing,
    Nowhere,
}

impl Files {
    /// Keeps a picture under a name.
    pub(crate) fn put(&self, name: String, stored: Stored) {
        let mut shelf = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // A job tells its pictures with every poll; they stay the same, and so does their lag.
        if let Entry::Vacant(place) = shelf.pictures.entry(name.clone()) {
            place.insert(stored);
            shelf.oldest_first.push_back(name);
        }
        if shelf.oldest_first.len() > KEPT
            && let Some(oldest) = shelf.oldest_first.pop_front()
        {
            shelf.pictures.remove(&oldest);
        }
    }

    /// The picture under that name, as far as its address works.
    fn fetch(&self, name: &str, with_key: bool, leaked: impl FnOnce()) -> Fetched {
        let mut shelf = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(stored) = shelf.pictures.get_mut(name) else {
            return Fetched::Nowhere;
        };
        match (stored.needs_key, with_key) {
            (true, false) => return Fetched::KeyMissing,
            (false, true) => leaked(),
            _ => {}
        }
        if stored.expired {
            return Fetched::Expired;
        }
        if stored.lag > 0 {
            stored.lag -= 1;
            return Fetched::Nowhere;
        }
        Fetched::Here(stored.picture.clone())
    }
}

/// `GET /files/{id}`: a picture that was answered as an address.
pub(crate) async fn file(State(shop): State<Arc<Shop>>, Path(id): Path<String>, headers: HeaderMap) -> Response {
    give(&shop, &id, &headers)
}

/// The picture under a name, or why not.
pub(crate) fn give(shop: &Shop, name: &str, headers: &HeaderMap) -> Response {
    let with_key = KEYS.iter().any(|name| headers.contains_key(*name));
    let no = |status, message: &str| Problem::new(status, "invalid_request_error", None, message).into_response();
    match shop.files.fetch(name, with_key, || shop.counters.leak()) {
        Fetched::Here(picture) => {
            let mime = [(header::CONTENT_TYPE, picture.format().mime())];
            (mime, axum::body::Body::from(Pieces::new(picture.pieces()))).into_response()
        }
        Fetched::Expired => no(StatusCode::FORBIDDEN, "This address has expired (simulated)."),
        Fetched::KeyMissing => no(StatusCode::UNAUTHORIZED, "This file is given only to those who show a key."),
        Fetched::Nowhere => no(StatusCode::NOT_FOUND, "No such file, or no longer."),
    }
}
