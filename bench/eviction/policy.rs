//! What a cache does, whatever its policy.

use crate::traces::Item;

/// A cache that is bounded by bytes.
pub trait Policy {
    /// Somebody asks for picture `key` at `now_ms`. True if it is there; otherwise it is made, and the policy decides
    /// whether to keep it and what to drop for it.
    fn request(&mut self, key: u32, item: Item, now_ms: i64) -> bool;

    /// Bytes of the pictures that are kept.
    fn bytes(&self) -> u64;
}
