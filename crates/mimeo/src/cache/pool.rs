//! Pools of pictures for one key, handed out in rotation.
//!
//! With `variants = 1` a repetition gets the same picture. With `K` the pictures of a key stand in a
//! ring of K places, and each request takes the next `n` places; a place that is still empty is what has
//! to be made. So the first K pictures asked for are all new, and after that nothing is paid any more.
//! A request for more pictures than the ring has places makes the ring as large as itself.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use quick_cache::sync::Cache;

use crate::domain::Digest;

/// Rings whose position is remembered. A forgotten one starts at its first place again.
const RINGS: usize = 65_536;

#[derive(Debug)]
pub(super) struct Rotation {
    positions: Cache<Digest, Arc<AtomicU64>>,
}

impl Default for Rotation {
    fn default() -> Self {
        Rotation { positions: Cache::new(RINGS) }
    }
}

/// The places of a ring that one request gets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hand {
    places: Vec<usize>,
}

impl Rotation {
    pub(super) fn hand(&self, key: Digest, variants: u32, n: u32) -> Hand {
        let ring = u64::from(variants.max(n).max(1));
        let start = if variants <= 1 {
            0
        } else {
            let fresh = || Ok::<_, std::convert::Infallible>(Arc::default());
            // One position per ring, also for two who come first at once.
            let Ok(position) = self.positions.get_or_insert_with(&key, fresh);
            position.fetch_add(u64::from(n), Ordering::Relaxed)
        };
        Hand { places: (0..u64::from(n)).map(|i| ((start + i) % ring) as usize).collect() }
    }
}

impl Hand {
    /// How many pictures must be made, given a pool of `have`.
    pub fn lacking(&self, have: usize) -> u32 {
        self.places.iter().filter(|place| **place >= have).count() as u32
    }

    /// How many pictures a pool must have for all places of this hand.
    pub fn reach(&self) -> usize {
        self.places.iter().max().map_or(0, |last| last + 1)
    }

    /// The pictures of this hand, from a pool that had `had` pictures before `made` were made for it:
    /// stored ones at their places, new ones at the places that were empty. A provider may have delivered
    /// fewer than it was asked for: then there are fewer.
    pub fn deal<T: Clone>(&self, pool: &[T], made: &[T]) -> Vec<T> {
        let mut fresh = made.iter();
        self.places
            .iter()
            .filter_map(|place| match pool.get(*place) {
                Some(picture) => Some(picture.clone()),
                None => fresh.next().cloned(),
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const KEY: Digest = Digest([1; 32]);

    #[test]
    fn one_variant_is_always_the_same() {
        let rotation = Rotation::default();
        for _ in 0..3 {
            assert_eq!(rotation.hand(KEY, 1, 1).deal(&["a", "b"], &[]), ["a"]);
        }
        let three = rotation.hand(KEY, 1, 3);
        assert_eq!(three.lacking(1), 2);
        assert_eq!(three.deal(&["a"], &["b", "c"]), ["a", "b", "c"]);
        assert_eq!(three.deal(&["a"], &["b"]), ["a", "b"], "one fewer came than was asked for");
    }

    #[test]
    fn a_ring_fills_then_turns() {
        let rotation = Rotation::default();
        let mut pool: Vec<u32> = Vec::new();
        let mut paid = 0;
        let mut seen = Vec::new();
        for _ in 0..6 {
            let hand = rotation.hand(KEY, 3, 1);
            let made: Vec<u32> = (0..hand.lacking(pool.len())).map(|i| paid + i).collect();
            paid += made.len() as u32;
            seen.extend(hand.deal(&pool, &made));
            pool.extend(made);
        }
        assert_eq!(seen, [0, 1, 2, 0, 1, 2]);
        assert_eq!(paid, 3);
    }

    proptest! {
        #[test]
        fn a_hand_never_pays_for_more_than_the_ring(variants in 1u32..6, asks in prop::collection::vec(1u32..7, 1..20)) {
            let rotation = Rotation::default();
            let mut pool: Vec<u32> = Vec::new();
            let mut largest = variants;
            for n in asks {
                largest = largest.max(n);
                let hand = rotation.hand(KEY, variants, n);
                let lacking = hand.lacking(pool.len());
                prop_assert!(lacking <= n);
                let made: Vec<u32> = (0..lacking).map(|i| pool.len() as u32 + i).collect();
                let dealt = hand.deal(&pool, &made);
                prop_assert_eq!(dealt.len(), n as usize);
                pool.extend(made);
                prop_assert!(pool.len() <= 2 * largest as usize);
            }
        }
    }
}
