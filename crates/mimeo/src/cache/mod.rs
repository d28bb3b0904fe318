//! What a request *is* (its key), and whether its pictures are there.

pub mod key;
mod memory;
mod pool;
pub mod worth;

use std::sync::Arc;
use std::time::Duration;

use crate::clock::{Clock, Millis};
use crate::domain::{Delivered, Digest, ImageId, Picture};
use crate::error::{Error, Result};
use crate::store::{BlobRead, Refusal, Store, StoredPicture};
use memory::Memory;
pub use memory::Stored;
pub use pool::Hand;
use pool::Rotation;

/// Memory first, then index and blob. Whatever is read from disk is verified.
#[derive(Debug)]
pub struct Cache {
    store: Arc<Store>,
    memory: Memory,
    rotation: Rotation,
    clock: Clock,
}

/// What a lookup found.
#[derive(Clone, Debug)]
pub enum Found {
    /// Some or all or none of the pictures.
    Pool(Vec<Delivered>),
    /// A refusal that still holds.
    Refused(Refusal),
}

impl Cache {
    /// A cache over `store` with `memory_bytes` of memory for pictures.
    pub fn new(store: Arc<Store>, memory_bytes: u64, clock: Clock) -> Self {
        Cache { store, memory: Memory::new(memory_bytes), rotation: Rotation::default(), clock }
    }

    /// The unexpired pictures of `key` that are not older than `max_age`, oldest first. A picture whose
    /// bytes are missing or damaged is dropped, and so is made again by whoever needs it (I13).
    pub async fn look_up(&self, key: Digest, max_age: Option<Duration>) -> Result<Found> {
        let now = self.clock.now();
        let not_before =
            max_age.map(|age| now.saturating_sub(Millis::try_from(age.as_millis()).unwrap_or(Millis::MAX)));
        let lookup = self.store.lookup(key, now, not_before).await?;
        if let Some(refusal) = lookup.refusal {
            return Ok(Found::Refused(refusal));
        }
        let mut pool = Vec::with_capacity(lookup.pictures.len());
        for row in lookup.pictures {
            if let Some(delivered) = self.load(row).await? {
                pool.push(delivered);
            }
        }
        Ok(Found::Pool(pool))
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

    /// Keeps a stored picture in memory.
    pub fn remember(&self, delivered: &Delivered) {
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
    }

    /// Bytes of pictures in memory.
    pub fn memory_bytes(&self) -> u64 {
        self.memory.bytes()
    }

    async fn load(&self, row: StoredPicture) -> Result<Option<Delivered>> {
        if let Some(stored) = self.memory.get(row.id) {
            return Ok(Some(delivered(row, stored.picture)));
        }
        let read = self.store.blobs.get(row.blob).await.map_err(|error| Error::internal("blob", error))?;
        let BlobRead::Found(bytes) = read else {
            tracing::warn!(picture = %row.id, "a stored picture has lost its bytes; its entry is dropped");
            self.store.drop_picture(row.id).await?;
            return Ok(None);
        };
        let picture = Picture { bytes, digest: row.blob, format: row.format, width: row.width, height: row.height };
        let delivered = delivered(row, picture);
        self.remember(&delivered);
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
