//! Pictures that are asked for often, in memory, bounded by their bytes. Never the only copy.

use quick_cache::sync::Cache;
use quick_cache::{DefaultHashBuilder, OptionsBuilder, Weighter};

use crate::domain::{ImageId, Picture};

/// A stored picture, by its id.
#[derive(Clone, Debug)]
pub struct Stored {
    /// The picture. Its bytes are shared.
    pub picture: Picture,
    /// When it was made, in milliseconds since the Unix epoch.
    pub created_ms: i64,
    /// True if a simulated provider made it.
    pub simulated: bool,
}

/// What an entry costs besides the picture's bytes.
const OVERHEAD: u64 = 256;

#[derive(Clone, Debug)]
struct Bytes;

impl Weighter<ImageId, Stored> for Bytes {
    fn weight(&self, _: &ImageId, stored: &Stored) -> u64 {
        stored.picture.bytes.len() as u64 + OVERHEAD
    }
}

#[derive(Debug)]
pub(super) struct Memory {
    cache: Option<Cache<ImageId, Stored, Bytes>>,
    // A picture larger than this would push out too much of everything else.
    largest: u64,
}

impl Memory {
    pub(super) fn new(bytes: u64) -> Self {
        // One shard: the bound is split over shards, and a large picture must fit in its own.
        let options = OptionsBuilder::new()
            .estimated_items_capacity(usize::try_from(bytes / 65_536).unwrap_or(1024).max(64))
            .weight_capacity(bytes)
            .shards(1)
            .build()
            .ok()
            .filter(|_| bytes > 0);
        let cache = options
            .map(|options| Cache::with_options(options, Bytes, DefaultHashBuilder::default(), Default::default()));
        Memory { cache, largest: bytes / 4 }
    }

    pub(super) fn get(&self, id: ImageId) -> Option<Stored> {
        self.cache.as_ref()?.get(&id)
    }

    pub(super) fn put(&self, id: ImageId, stored: Stored) {
        if let Some(cache) = &self.cache
            && stored.picture.bytes.len() as u64 <= self.largest
        {
            cache.insert(id, stored);
        }
    }

    pub(super) fn clear(&self) {
        if let Some(cache) = &self.cache {
            cache.clear();
        }
    }

    pub(super) fn bytes(&self) -> u64 {
        self.cache.as_ref().map_or(0, Cache::weight)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{Digest, Format};

    fn stored(length: usize) -> Stored {
        let bytes = bytes::Bytes::from(vec![0; length]);
        let picture = Picture { digest: Digest::of(&bytes), bytes, format: Format::Png, width: 1, height: 1 };
        Stored { picture, created_ms: 0, simulated: false }
    }

    #[test]
    fn stays_within_its_bytes() {
        let memory = Memory::new(1 << 20);
        for id in 0..200 {
            memory.put(ImageId(id), stored(50_000));
            assert!(memory.bytes() <= 1 << 20);
        }
        assert!(memory.bytes() > 500_000, "it does hold something");
        memory.put(ImageId(1000), stored(600_000));
        assert!(memory.get(ImageId(1000)).is_none(), "too large for a quarter of it");
        memory.clear();
        assert_eq!(memory.bytes(), 0);
    }

    #[test]
    fn none_is_none() {
        let memory = Memory::new(0);
        memory.put(ImageId(1), stored(10));
        assert!(memory.get(ImageId(1)).is_none());
    }
}
