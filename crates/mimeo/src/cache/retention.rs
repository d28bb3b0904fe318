//! Keeps the stored pictures within a bound: what is worth least goes (see [`super::worth`]).

use std::collections::{HashMap, HashSet};
use std::sync::{Mutex, PoisonError};

use super::worth::{CANDIDATES, Learned, Life, NAMES, Past};
use crate::clock::Millis;
use crate::domain::{Delivered, Digest, ImageId, Price};
use crate::store::{Kept, Store, StoreError, Uses};

/// Pictures that go at once: so many lowest of so many times [`CANDIDATES`].
const BATCH: usize = 8;

/// A picture is not dropped before it is so old: somebody may just be fetching it. Until then it is judged like
/// all others, and if it is to go it has its place among those that go: else a burst of cheap pictures would
/// drive out the dear ones that were there before.
const YOUNG_MS: Millis = 10_000;

/// The name under which what was learned is stored.
const NOTE: &str = "worth";

/// What is known of the use of pictures, and the bound.
#[derive(Debug)]
pub struct Retention {
    limit: u64,
    learned: Mutex<Learned>,
    /// How pictures were asked for since that was last written.
    uses: Mutex<HashMap<ImageId, Uses>>,
}

impl Retention {
    /// Keeps at most about `limit` bytes. Goes on with what was learned before, if `store` has it.
    ///
    /// # Errors
    /// The store fails.
    pub async fn begin(store: &Store, limit: u64, now: Millis) -> Result<Retention, StoreError> {
        let stored = store.note(NOTE).await?;
        // What another version wrote and this one cannot read is learned anew.
        let mut learned: Learned = stored.and_then(|text| serde_json::from_str(&text).ok()).unwrap_or_default();
        for (key, kept) in store.last_used(NAMES as u32).await? {
            learned.recall(name(key), &life(&kept), now);
        }
        Ok(Retention { limit, learned: Mutex::new(learned), uses: Mutex::default() })
    }

    /// Pictures of `key` were made and are kept.
    pub fn made(&self, key: Digest, pictures: &[Delivered], now: Millis) {
        for picture in pictures.iter().filter(|picture| picture.id.is_some()) {
            let bytes = picture.picture.bytes.len() as u64;
            let life = lock(&self.learned).on_insert(name(key), pico(picture.cost), bytes, now);
            self.note(picture.id, life.past);
        }
    }

    /// Pictures of `key` that were kept were asked for.
    pub fn used(&self, key: Digest, pictures: &[Delivered], now: Millis) {
        for picture in pictures {
            let past = lock(&self.learned).asked_for(name(key), now);
            self.note(picture.id, past);
        }
    }

    fn note(&self, id: Option<ImageId>, past: Past) {
        if let Some(id) = id {
            lock(&self.uses).insert(id, uses(past));
        }
    }

    /// Writes how pictures were asked for and what was learned from it, if they were, so that a restart does
    /// not begin with nothing; and drops what is worth least as far as that is needed. Returns how many
    /// pictures went.
    ///
    /// # Errors
    /// The store fails.
    pub async fn keep_within_bound(&self, store: &Store, now: Millis) -> Result<u64, StoreError> {
        let uses: Vec<_> = lock(&self.uses).drain().collect();
        if !uses.is_empty() {
            store.note_uses(uses)?;
            let learned = serde_json::to_string(&*lock(&self.learned));
            store.write_note(NOTE, learned.map_err(|error| StoreError::Database(error.to_string()))?).await?;
        }
        let mut excess = store.stored_bytes().await?.saturating_sub(self.limit);
        let (mut gone, mut spared) = (0, HashSet::new());
        while excess > 0 {
            let sample = store.sample((CANDIDATES * BATCH) as u32).await?;
            let wanted = sample.len().div_ceil(CANDIDATES);
            let mut judged: Vec<(f64, Kept)> = {
                let learned = lock(&self.learned);
                let judge = |kept: Kept| (learned.worth(&life(&kept), now), kept);
                sample.into_iter().filter(|kept| !spared.contains(&kept.id)).map(judge).collect()
            };
            judged.sort_by(|(a, _), (b, _)| a.total_cmp(b));
            let (mut victims, mut later) = (Vec::with_capacity(wanted), 0);
            for (_, kept) in judged.iter().take(wanted) {
                if excess == 0 {
                    break;
                }
                excess = excess.saturating_sub(kept.bytes);
                if kept.created_ms > now.saturating_sub(YOUNG_MS) {
                    later += 1;
                    spared.insert(kept.id);
                } else {
                    victims.push(kept.id);
                }
            }
            if victims.is_empty() && later == 0 {
                break;
            }
            gone += victims.len() as u64;
            store.evict(victims, now).await?;
        }
        Ok(gone)
    }
}

/// What the life of a picture is remembered under: a key's pictures share one.
fn name(key: Digest) -> u64 {
    let mut name = [0; 8];
    name.iter_mut().zip(key.0).for_each(|(to, from)| *to = from);
    u64::from_le_bytes(name)
}

fn pico(cost: Price) -> Option<i64> {
    cost.known().map(|usd| i64::try_from(usd.pico()).unwrap_or(i64::MAX))
}

fn life(kept: &Kept) -> Life {
    let Uses { asked, pace_milli, used_ms } = kept.uses;
    Life {
        price_pico: pico(kept.cost),
        bytes: kept.bytes,
        past: Past { asked, pace: pace_milli as f32 / 1000.0, used_ms },
    }
}

fn uses(past: Past) -> Uses {
    Uses { asked: past.asked, pace_milli: (past.pace * 1000.0) as i64, used_ms: past.used_ms }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    // Numbers stay usable whatever panicked while they were borrowed.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
