//! W-TinyLFU for pictures of different sizes (Einziger, Eytan, Friedman and Manes: "Lightweight Robust Size Aware Cache
//! Management"), with aggregated victims: what leaves the window gets in if it is asked for more often than all those
//! together that would have to go for it.

use std::collections::BTreeMap;

use crate::policy::Policy;
use crate::traces::Item;

/// A queue from the longest unused to the last used.
#[derive(Debug, Default)]
struct Lru {
    queue: BTreeMap<u64, u32>,
    bytes: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Nowhere,
    Window,
    Probation,
    Protected,
}

/// A cache with this policy: a window of 1 % of the bytes, and of the rest 80 % for what was used again. How often
/// pictures are asked for is counted exactly up to 15, where the original estimates it; all counts are halved after ten
/// requests per kept picture.
#[derive(Debug)]
pub struct TinyLfu {
    capacity: u64,
    requests: u64,
    counted: usize,
    window: Lru,
    probation: Lru,
    protected: Lru,
    counts: Vec<u8>,
    /// Where a picture is, and its place in that queue.
    places: Vec<(Place, u64)>,
    sizes: Vec<u64>,
}

impl TinyLfu {
    /// An empty cache of `capacity` bytes for pictures numbered below `keys`.
    pub fn new(capacity: u64, keys: usize) -> Self {
        TinyLfu {
            capacity,
            requests: 0,
            counted: 0,
            window: Lru::default(),
            probation: Lru::default(),
            protected: Lru::default(),
            counts: vec![0; keys],
            places: vec![(Place::Nowhere, 0); keys],
            sizes: vec![0; keys],
        }
    }

    fn count(&mut self, key: u32) {
        self.counts[key as usize] = (self.counts[key as usize] + 1).min(15);
        self.counted += 1;
        let kept = self.window.queue.len() + self.probation.queue.len() + self.protected.queue.len();
        if self.counted >= 10 * kept.max(100) {
            self.counts.iter_mut().for_each(|count| *count /= 2);
            self.counted /= 2;
        }
    }

    fn lru(&mut self, place: Place) -> Option<&mut Lru> {
        match place {
            Place::Nowhere => None,
            Place::Window => Some(&mut self.window),
            Place::Probation => Some(&mut self.probation),
            Place::Protected => Some(&mut self.protected),
        }
    }

    fn put(&mut self, key: u32, place: Place) {
        let (old, at) = self.places[key as usize];
        let (bytes, now) = (self.sizes[key as usize], self.requests);
        if let Some(lru) = self.lru(old) {
            lru.queue.remove(&at);
            lru.bytes -= bytes;
        }
        if let Some(lru) = self.lru(place) {
            lru.queue.insert(now, key);
            lru.bytes += bytes;
        }
        self.places[key as usize] = (place, now);
        // Two that are moved by one request still stand one behind the other.
        self.requests += 1;
    }

    fn admit(&mut self, key: u32) {
        let room = self.capacity - self.capacity / 100;
        let bytes = self.sizes[key as usize];
        let mut lacking = (self.probation.bytes + self.protected.bytes + bytes).saturating_sub(room);
        let mut victims = Vec::new();
        let mut wanted = 0;
        for victim in self.probation.queue.values().chain(self.protected.queue.values()) {
            if lacking == 0 {
                break;
            }
            lacking = lacking.saturating_sub(self.sizes[*victim as usize]);
            wanted += u32::from(self.counts[*victim as usize]);
            victims.push(*victim);
        }
        let better = victims.is_empty() || u32::from(self.counts[key as usize]) > wanted;
        if bytes > room || !better {
            return self.put(key, Place::Nowhere);
        }
        for victim in victims {
            self.put(victim, Place::Nowhere);
        }
        self.put(key, Place::Probation);
    }
}

impl Policy for TinyLfu {
    fn request(&mut self, key: u32, item: Item, _: i64) -> bool {
        self.count(key);
        self.sizes[key as usize] = item.bytes;
        match self.places[key as usize].0 {
            Place::Nowhere => {}
            Place::Window => {
                self.put(key, Place::Window);
                return true;
            }
            Place::Probation | Place::Protected => {
                self.put(key, Place::Protected);
                while self.protected.bytes > self.capacity / 100 * 79 {
                    let Some((_, old)) = self.protected.queue.first_key_value() else { break };
                    let old = *old;
                    self.put(old, Place::Probation);
                }
                return true;
            }
        }
        self.put(key, Place::Window);
        while self.window.bytes > self.capacity / 100 {
            let Some((_, old)) = self.window.queue.first_key_value() else { break };
            let old = *old;
            self.admit(old);
        }
        false
    }

    fn bytes(&self) -> u64 {
        self.window.bytes + self.probation.bytes + self.protected.bytes
    }
}
