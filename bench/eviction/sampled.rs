//! Policies that look at a few pictures, chosen at random, and drop the one that is worth least.

use fastrand::Rng;
use mimeo::cache::worth::{CANDIDATES, Learned, Life};

use crate::policy::Policy;
use crate::traces::Item;

/// Says what a picture is worth.
pub trait Judge {
    /// What it remembers of a kept picture.
    type Life;

    /// A picture comes in.
    fn enter(&mut self, key: u32, item: Item, now_ms: i64) -> Self::Life;
    /// A kept picture is asked for.
    fn hit(&mut self, key: u32, life: &mut Self::Life, now_ms: i64);
    /// What it is worth to keep it.
    fn worth(&self, life: &Self::Life, now_ms: i64) -> f64;
}

/// A cache of so many bytes.
#[derive(Debug)]
pub struct Sampled<J: Judge> {
    judge: J,
    capacity: u64,
    bytes: u64,
    kept: Vec<(u32, u64, J::Life)>,
    places: Vec<Option<usize>>,
    rng: Rng,
}

impl<J: Judge> Sampled<J> {
    /// An empty cache of `capacity` bytes for pictures numbered below `keys`.
    pub fn new(judge: J, capacity: u64, keys: usize) -> Self {
        Sampled { judge, capacity, bytes: 0, kept: Vec::new(), places: vec![None; keys], rng: Rng::with_seed(7) }
    }

    fn drop_one(&mut self, now_ms: i64) {
        // The newest is always among them: it is the one of which least is known to speak for it.
        let newest = self.kept.len() - 1;
        let mut worst = (newest, self.judge.worth(&self.kept[newest].2, now_ms));
        for _ in 0..CANDIDATES {
            let at = self.rng.usize(..self.kept.len());
            let worth = self.judge.worth(&self.kept[at].2, now_ms);
            if worth < worst.1 {
                worst = (at, worth);
            }
        }
        let (key, bytes, _) = self.kept.swap_remove(worst.0);
        self.bytes -= bytes;
        self.places[key as usize] = None;
        if let Some((moved, ..)) = self.kept.get(worst.0) {
            self.places[*moved as usize] = Some(worst.0);
        }
    }
}

impl<J: Judge> Policy for Sampled<J> {
    fn request(&mut self, key: u32, item: Item, now_ms: i64) -> bool {
        if let Some(at) = self.places[key as usize] {
            self.judge.hit(key, &mut self.kept[at].2, now_ms);
            return true;
        }
        let life = self.judge.enter(key, item, now_ms);
        if item.bytes > self.capacity {
            return false;
        }
        self.places[key as usize] = Some(self.kept.len());
        self.kept.push((key, item.bytes, life));
        self.bytes += item.bytes;
        while self.bytes > self.capacity {
            self.drop_one(now_ms);
        }
        false
    }

    fn bytes(&self) -> u64 {
        self.bytes
    }
}

/// Mimeo's own policy: what the gateway runs, in a simulated store.
impl Judge for Learned {
    type Life = Life;

    fn enter(&mut self, key: u32, item: Item, now_ms: i64) -> Life {
        self.on_insert(u64::from(key), Some(item.price), item.bytes, now_ms)
    }

    fn hit(&mut self, key: u32, life: &mut Life, now_ms: i64) {
        self.on_hit(u64::from(key), life, now_ms);
    }

    fn worth(&self, life: &Life, now_ms: i64) -> f64 {
        Learned::worth(self, life, now_ms)
    }
}

/// Hyperbolic caching (Blankstein, Sen and Freedman, ATC 2017), with cost and size: uses · price / (bytes · time in the
/// cache).
#[derive(Debug)]
pub struct Hyperbolic;

impl Judge for Hyperbolic {
    type Life = (f64, f64, i64);

    fn enter(&mut self, _: u32, item: Item, now_ms: i64) -> Self::Life {
        (1.0, item.price as f64 / item.bytes as f64, now_ms)
    }

    fn hit(&mut self, _: u32, life: &mut Self::Life, _: i64) {
        life.0 += 1.0;
    }

    fn worth(&self, life: &Self::Life, now_ms: i64) -> f64 {
        life.0 * life.1 / (now_ms - life.2 + 1) as f64
    }
}

/// LFU with prices that forgets nothing: all requests ever · price / bytes, those before a picture was dropped included.
/// Its memory has no bound. Where popularity never changes, little can do better.
#[derive(Debug)]
pub struct PricedLfu(Vec<u32>);

impl PricedLfu {
    /// For pictures numbered below `keys`.
    pub fn new(keys: usize) -> Self {
        PricedLfu(vec![0; keys])
    }
}

impl Judge for PricedLfu {
    type Life = (u32, f64);

    fn enter(&mut self, key: u32, item: Item, now_ms: i64) -> Self::Life {
        let mut life = (0, item.price as f64 / item.bytes as f64);
        self.hit(key, &mut life, now_ms);
        life
    }

    fn hit(&mut self, key: u32, life: &mut Self::Life, _: i64) {
        self.0[key as usize] += 1;
        life.0 = self.0[key as usize];
    }

    fn worth(&self, life: &Self::Life, _: i64) -> f64 {
        f64::from(life.0) * life.1
    }
}
