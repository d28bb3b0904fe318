//! What a request *is* (its key), and whether its pictures are there.

mod copies;
pub mod key;
mod memory;
mod pool;
mod retention;
pub mod worth;

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use crate::clock::{Clock, millis};
use crate::domain::{Delivered, Digest, Form, ImageId, Picture};
use crate::error::Result;
use crate::media::raster::Look;
use crate::shared::Shared;
use crate::store::{BlobRead, Refusal, Store, StoredPicture};
use copies::Copies;
pub use copies::NoCopy;
use memory::Memory;
pub use memory::Stored;
pub use pool::Hand;
use pool::Rotation;
pub use retention::Retention;

/// Memory first, then the index, what replicas keep hot, and the blob. Whatever is read is verified.
#[derive(Debug)]
pub struct Cache {
    store: Arc<Store>,
    shared: Shared,
    memory: Memory,
    copies: Copies,
    rotation: Rotation,
    retention: OnceLock<Retention>,
    clock: Clock,
}

/// What a lookup found.
#[derive(Clone, Debug)]
pub enum Found {
    /// Some or all or none of the pictures.
    Pool(Pool),
    /// A refusal that still holds.
    Refused(Refusal),
}

/// The pictures that answer a key.
#[derive(Clone, Debug, Default)]
pub struct Pool {
    /// Oldest first.
    pub pictures: Vec<Delivered>,
    /// Position of the newest entry that was seen, whether it still answers or not.
    pub last: i64,
}

impl Cache {
    /// A cache over `store` with `memory_bytes` of memory for pictures, a quarter as much again for copies of them, and
    /// what `shared` keeps hot.
    pub fn new(store: Arc<Store>, shared: Shared, memory_bytes: u64, clock: Clock) -> Self {
        Cache {
            store,
            shared,
            memory: Memory::new(memory_bytes),
            copies: Copies::new(memory_bytes / 4),
            rotation: Rotation::default(),
            retention: OnceLock::new(),
            clock,
        }
    }

    /// The unexpired pictures of `key` that are not older than `max_age`, oldest first, as far as `hand` reaches: no
    /// more of them are read. A picture whose bytes are missing or damaged is dropped, and so is made again by whoever
    /// needs it (I13).
    pub async fn look_up(&self, key: Digest, max_age: Option<Duration>, hand: &Hand) -> Result<Found> {
        let now = self.clock.now();
        let not_before = max_age.map(|age| now.saturating_sub(millis(age)));
        let lookup = self.store.lookup(key, now, not_before).await?;
        if let Some(refusal) = lookup.refusal {
            return Ok(Found::Refused(refusal));
        }
        let reach = hand.reach();
        let mut pool = Vec::with_capacity(lookup.pictures.len().min(reach));
        for row in lookup.pictures {
            if pool.len() >= reach {
                break;
            }
            if let Some(delivered) = self.load(row).await? {
                pool.push(delivered);
            }
        }
        Ok(Found::Pool(Pool { pictures: pool, last: lookup.last }))
    }

    /// Which pictures of a pool the next request for `n` gets, and how many must be made.
    pub fn hand(&self, key: Digest, variants: u32, n: u32) -> Hand {
        self.rotation.hand(key, variants, n)
    }

    /// A picture by its capability, if it is in memory.
    pub fn in_memory(&self, id: ImageId) -> Option<Stored> {
        self.memory.get(id)
    }

    /// A picture by its capability.
    pub async fn fetch(&self, id: ImageId) -> Result<Option<Stored>> {
        if let Some(stored) = self.memory.get(id) {
            return Ok(Some(stored));
        }
        let Some(row) = self.store.picture(id).await? else { return Ok(None) };
        let (created_ms, simulated) = (row.created_ms, row.simulated);
        let delivered = self.load(row).await?;
        Ok(delivered.map(|d| Stored { picture: d.picture, created_ms, simulated }))
    }

    /// A stored picture with the account of how it came about, as long as the index knows it.
    pub async fn delivered(&self, id: ImageId) -> Result<Option<Delivered>> {
        match self.store.picture(id).await? {
            Some(row) => self.load(row).await,
            None => Ok(None),
        }
    }

    /// The copy of `original` in `form`: kept for a while, made by one for all who ask. Who has `patience` waits no
    /// longer than that for a thread.
    ///
    /// # Errors
    /// It cannot be made, or not in time.
    pub async fn copy(&self, original: &Picture, form: Form, patience: Option<Duration>) -> Result<Picture, NoCopy> {
        self.copies.get(original, form, patience).await
    }

    /// What is seen of `picture`, in small, if a thread that decodes is free within `patience`.
    ///
    /// # Errors
    /// It cannot be decoded, or not in time.
    pub async fn look(&self, picture: &Picture, patience: Duration) -> Result<Look, NoCopy> {
        self.copies.look(picture, patience).await
    }

    /// Lets stored pictures answer no key any more.
    ///
    /// # Errors
    /// The store fails.
    pub async fn unlist(&self, pictures: Vec<ImageId>) -> Result<()> {
        Ok(self.store.unlist(pictures).await?)
    }

    /// Bounds what is stored, from now on.
    pub fn retain(&self, retention: Retention) {
        // A second one would have learned nothing: the first stays.
        let _ = self.retention.set(retention);
    }

    /// What bounds what is stored, if anything does.
    pub fn retention(&self) -> Option<&Retention> {
        self.retention.get()
    }

    /// Notes that kept pictures of `key` were given out.
    pub fn used(&self, key: Digest, pictures: &[Delivered]) {
        if let Some(retention) = self.retention() {
            retention.used(key, pictures, self.clock.now());
        }
    }

    /// Keeps new stored pictures of `key` in memory, and hot for other replicas.
    pub fn remember(&self, key: Digest, made: &[Delivered]) {
        for delivered in made.iter().filter(|delivered| delivered.id.is_some()) {
            self.shared.keep_picture(delivered.picture.digest, delivered.picture.bytes.clone());
            self.keep_in_memory(delivered);
        }
        if let Some(retention) = self.retention() {
            retention.made(key, made, self.clock.now());
        }
    }

    fn keep_in_memory(&self, delivered: &Delivered) {
        if let Some(id) = delivered.id {
            let stored = Stored {
                picture: delivered.picture.clone(),
                created_ms: delivered.created_ms,
                simulated: delivered.simulated,
            };
            self.memory.put(id, stored);
        }
    }

    /// Forgets everything in memory, after a purge by whomever.
    pub fn forget(&self) {
        self.memory.clear();
        self.copies.clear();
    }

    /// Bytes of pictures in memory.
    pub fn memory_bytes(&self) -> u64 {
        self.memory.bytes()
    }

    async fn load(&self, row: StoredPicture) -> Result<Option<Delivered>> {
        if let Some(stored) = self.memory.get(row.id) {
            return Ok(Some(delivered(row, stored.picture)));
        }
        let bytes = match self.shared.picture(row.blob).await {
            Some(bytes) => bytes,
            None => {
                let BlobRead::Found(bytes) = self.store.blobs.get(&row.name).await? else {
                    tracing::warn!(picture = %row.id, "a stored picture has lost its bytes; its entry is dropped");
                    self.store.drop_blob(row.blob, row.name, self.clock.now()).await?;
                    return Ok(None);
                };
                self.shared.keep_picture(row.blob, bytes.clone());
                bytes
            }
        };
        let picture = Picture { bytes, digest: row.blob, format: row.format, width: row.width, height: row.height };
        let delivered = delivered(row, picture);
        self.keep_in_memory(&delivered);
        Ok(Some(delivered))
    }
}

fn delivered(row: StoredPicture, picture: Picture) -> Delivered {
    Delivered {
        id: Some(row.id),
        picture,
        cost: row.cost,
        usage: row.usage,
        revised_prompt: row.revised_prompt,
        provider: row.provider,
        model: row.model,
        simulated: row.simulated,
        created_ms: row.created_ms,
    }
}
