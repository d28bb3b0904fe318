//! A policy on a trace.

use mimeo::cache::worth::Learned;

use crate::bound;
use crate::policy::Policy;
use crate::ranked::{Order, Ranked};
use crate::s3fifo::S3Fifo;
use crate::sampled::{Hyperbolic, PricedLfu, Sampled};
use crate::tinylfu::TinyLfu;
use crate::traces::Trace;

/// Makes an empty cache of so many bytes, for pictures numbered below so many.
type Make = fn(u64, usize) -> Box<dyn Policy>;

/// What others do.
pub const RIVALS: [(&str, Make); 7] = [
    ("LRU", |capacity, keys| Box::new(Ranked::new(Order::Lru, capacity, keys))),
    ("LFU", |capacity, keys| Box::new(Ranked::new(Order::Lfu, capacity, keys))),
    ("S3-FIFO", |capacity, keys| Box::new(S3Fifo::new(capacity, keys))),
    ("W-TinyLFU", |capacity, keys| Box::new(TinyLfu::new(capacity, keys))),
    ("GDSF", |capacity, keys| Box::new(Ranked::new(Order::Gdsf, capacity, keys))),
    ("Hyperbolic", |capacity, keys| Box::new(Sampled::new(Hyperbolic, capacity, keys))),
    ("priced LFU", |capacity, keys| Box::new(Sampled::new(PricedLfu::new(keys), capacity, keys))),
];

/// What one policy came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Pico-dollars that hits saved.
    pub saved: i128,
    /// Hits.
    pub hits: u64,
    /// Bytes of the hits.
    pub bytes: u64,
}

/// What all came to, on one trace with one capacity.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// The trace's name.
    pub trace: String,
    /// The capacity, in percent of the trace's footprint.
    pub percent: u64,
    /// Pico-dollars that a cache without a bound saves.
    pub endless: i128,
    /// Pico-dollars that nobody can save more of.
    pub bound: i128,
    /// Number of requests.
    pub requests: u64,
    /// Bytes of all requests.
    pub bytes: u64,
    /// The rivals in their order, then ours.
    pub tallies: Vec<Tally>,
}

impl Outcome {
    /// So much of what an endless cache saves.
    pub fn share(&self, saved: i128) -> f64 {
        saved as f64 / self.endless as f64
    }

    /// What Mimeo's policy came to.
    pub fn ours(&self) -> Tally {
        self.tallies.last().copied().unwrap_or_default()
    }

    /// The rival that saved most, and how much.
    pub fn best_other(&self) -> (&'static str, i128) {
        let others = RIVALS.iter().zip(&self.tallies).map(|((name, _), tally)| (*name, tally.saved));
        others.max_by_key(|(_, saved)| *saved).unwrap_or_default()
    }

    /// What Mimeo saves, relative to that.
    pub fn of_best(&self) -> f64 {
        self.ours().saved as f64 / self.best_other().1 as f64
    }
}

/// Runs all policies with `percent` of the trace's footprint. Mimeo's remembers `names` keys.
///
/// # Errors
/// If a policy keeps more than it may.
pub fn compare(trace: &Trace, percent: u64, names: usize) -> Result<Outcome, String> {
    let capacity = trace.footprint() * percent / 100;
    let keys = trace.items.len();
    let mut tallies = Vec::new();
    for (name, make) in RIVALS {
        tallies.push(run(trace, capacity, &mut *make(capacity, keys)).map_err(|error| format!("{name}: {error}"))?);
    }
    let mut ours = Sampled::new(Learned::with_room_for(names), capacity, keys);
    tallies.push(run(trace, capacity, &mut ours).map_err(|error| format!("Mimeo: {error}"))?);
    Ok(Outcome {
        trace: trace.name.clone(),
        percent,
        endless: bound::endless(trace),
        bound: bound::offline(trace, capacity),
        requests: trace.requests.len() as u64,
        bytes: trace.requests.iter().map(|(key, _)| trace.items[*key as usize].bytes).sum(),
        tallies,
    })
}

/// Runs one policy.
///
/// # Errors
/// If it keeps more than `capacity` bytes.
pub fn run(trace: &Trace, capacity: u64, policy: &mut dyn Policy) -> Result<Tally, String> {
    let mut tally = Tally::default();
    for (key, now_ms) in &trace.requests {
        let item = trace.items[*key as usize];
        if policy.request(*key, item, *now_ms) {
            tally.saved += i128::from(item.price);
            tally.hits += 1;
            tally.bytes += item.bytes;
        }
        if policy.bytes() > capacity {
            return Err(format!("{} bytes are kept where {capacity} may be, on {}", policy.bytes(), trace.name));
        }
    }
    Ok(tally)
}
