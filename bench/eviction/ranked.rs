//! Policies that keep all pictures in one order and drop the first: LRU, LFU and GDSF.

use std::collections::BTreeSet;

use crate::policy::Policy;
use crate::traces::Item;

/// How a picture is ranked when it is asked for.
#[derive(Clone, Copy, Debug)]
pub enum Order {
    /// The longest unused goes first.
    Lru,
    /// The least often used goes first, the longest unused among equals. A picture that is dropped is forgotten.
    Lfu,
    /// The lowest `L + uses · price / bytes` goes first, where L is the rank of what was dropped last (Cherkasova's
    /// Greedy-Dual-Size-Frequency, with the price as its cost).
    Gdsf,
}

#[derive(Debug)]
struct Kept {
    rank: (u64, u64),
    uses: u64,
    bytes: u64,
}

/// A cache with one of the orders.
#[derive(Debug)]
pub struct Ranked {
    order: Order,
    capacity: u64,
    bytes: u64,
    requests: u64,
    level: f64,
    kept: Vec<Option<Kept>>,
    queue: BTreeSet<((u64, u64), u32)>,
}

impl Ranked {
    /// An empty cache of `capacity` bytes for pictures numbered below `keys`.
    pub fn new(order: Order, capacity: u64, keys: usize) -> Self {
        let kept = std::iter::repeat_with(|| None).take(keys).collect();
        Ranked { order, capacity, bytes: 0, requests: 0, level: 0.0, kept, queue: BTreeSet::new() }
    }

    fn rank(&self, uses: u64, item: Item) -> (u64, u64) {
        match self.order {
            Order::Lru => (self.requests, 0),
            Order::Lfu => (uses, self.requests),
            // Floats that are not negative are ordered as their bits are.
            Order::Gdsf => {
                ((self.level + uses as f64 * item.price as f64 / item.bytes as f64).to_bits(), self.requests)
            }
        }
    }
}

impl Policy for Ranked {
    fn request(&mut self, key: u32, item: Item, _: i64) -> bool {
        self.requests += 1;
        if let Some(kept) = self.kept[key as usize].take() {
            self.queue.remove(&(kept.rank, key));
            let uses = kept.uses + 1;
            let rank = self.rank(uses, item);
            self.queue.insert((rank, key));
            self.kept[key as usize] = Some(Kept { rank, uses, ..kept });
            return true;
        }
        if item.bytes > self.capacity {
            return false;
        }
        while self.bytes + item.bytes > self.capacity {
            let Some((rank, victim)) = self.queue.pop_first() else { break };
            if let Some(kept) = self.kept[victim as usize].take() {
                self.bytes -= kept.bytes;
            }
            if let Order::Gdsf = self.order {
                self.level = f64::from_bits(rank.0);
            }
        }
        let rank = self.rank(1, item);
        self.queue.insert((rank, key));
        self.kept[key as usize] = Some(Kept { rank, uses: 1, bytes: item.bytes });
        self.bytes += item.bytes;
        false
    }

    fn bytes(&self) -> u64 {
        self.bytes
    }
}
