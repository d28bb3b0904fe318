//! The recipe of the requests. Everything follows from a seed: the same recipe gives the same trace everywhere.
//!
//! A trace is a catalogue (what each picture costs and how large it is) and a list of requests (who is asked for, when).
//!
//! * **Prices** are spread evenly over the orders of magnitude from 0.002 to 0.25 USD, **sizes** from 20 KB to 8 MB.
//!   [`Coupling`] says whether dear pictures are large, small, or either.
//! * **Popularity** follows Zipf: the picture of rank r is asked for with a weight of r^-α, and rank says nothing about
//!   price or size, except in [`Kind::Shop`].
//! * **Time**: requests come at random, [`GAP_MS`] apart in the mean.
//!
//! What asks for what is in [`Kind`].

use fastrand::Rng;

/// Mean time between two requests, in milliseconds.
const GAP_MS: f64 = 5_000.0;

const CENT: f64 = 1e10;
const PRICES: [f64; 2] = [0.2 * CENT, 25.0 * CENT];
const SIZES: [f64; 2] = [20e3, 8e6];

/// A picture as the cache sees it.
#[derive(Clone, Copy, Debug)]
pub struct Item {
    /// What it costs to make it, in pico-dollars.
    pub price: i64,
    /// How large it is.
    pub bytes: u64,
}

/// Which pictures are the large ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Coupling {
    /// The dear ones: price per byte varies by a factor of three.
    Alike,
    /// The cheap ones.
    Opposed,
    /// Any.
    Free,
}

/// What is asked for.
#[derive(Clone, Copy, Debug)]
pub enum Kind {
    /// The same popularity for ever, with this α.
    Zipf(f64),
    /// Six of ten requests are for a picture that nobody asks for again; the rest is Zipf 0.9.
    Scans,
    /// Zipf 0.9, in which a hundred times per trace a twentieth of all ranks, whichever they are, go to new pictures.
    Drift,
    /// Half of the requests are Zipf 0.8; the others are crowds: a picture out of nowhere is asked for 5 to 200 times
    /// within a short while, and never again.
    Bursts,
    /// The same pictures over and over in the same order, a fifth more than fit into each of the capacities in turn.
    Loops,
    /// A shop: 3 in 100 requests are for heroes (2 MB to 8 MB, 0.08 to 0.25 USD, Zipf 0.7, few), 57 for thumbnails (20
    /// to 150 KB, 0.002 to 0.006 USD, Zipf 1.0), 20 for products of the season, which changes ten times (0.2 to 2 MB,
    /// 0.01 to 0.08 USD, Zipf 0.9), and 20 for previews that are looked at once (0.1 to 1 MB, 0.002 to 0.04 USD).
    Shop,
}

/// A trace.
#[derive(Debug)]
pub struct Trace {
    /// For tables.
    pub name: String,
    /// The pictures.
    pub items: Vec<Item>,
    /// Index into `items`, and milliseconds since the Unix epoch.
    pub requests: Vec<(u32, i64)>,
}

impl Trace {
    /// The bytes of all pictures that are asked for at least once.
    pub fn footprint(&self) -> u64 {
        let mut seen = vec![false; self.items.len()];
        let fresh = self.requests.iter().filter(|(key, _)| !std::mem::replace(&mut seen[*key as usize], true));
        fresh.map(|(key, _)| self.items[*key as usize].bytes).sum()
    }
}

/// Every trace of the bench.
pub fn recipes() -> Vec<(Kind, Coupling)> {
    let couplings = [Coupling::Alike, Coupling::Opposed, Coupling::Free];
    let zipf = [0.6, 0.8, 1.0, 1.2].into_iter().flat_map(|a| couplings.map(|coupling| (Kind::Zipf(a), coupling)));
    let others = [Kind::Scans, Kind::Drift, Kind::Bursts, Kind::Loops]
        .into_iter()
        .flat_map(|kind| [Coupling::Alike, Coupling::Free].map(|coupling| (kind, coupling)));
    zipf.chain(others).chain([(Kind::Shop, Coupling::Free)]).collect()
}

/// What a trace is called.
pub fn name(kind: Kind, coupling: Coupling) -> String {
    match kind {
        Kind::Zipf(alpha) => format!("zipf {alpha:.1}, {}", coupling.name()),
        Kind::Shop => "shop".to_owned(),
        _ => format!("{}, {}", format!("{kind:?}").to_lowercase(), coupling.name()),
    }
}

/// Makes the trace of `length` requests. At least 1000, or some kinds have nothing to draw from.
pub fn trace(kind: Kind, coupling: Coupling, length: usize, seed: u64) -> Trace {
    let mut maker = Maker { rng: Rng::with_seed(seed), coupling, items: Vec::new(), keys: Vec::with_capacity(length) };
    match kind {
        Kind::Zipf(alpha) => maker.zipf(alpha, length),
        Kind::Scans => maker.scans(length),
        Kind::Drift => maker.drift(length),
        Kind::Bursts => maker.bursts(length),
        Kind::Loops => maker.loops(length),
        Kind::Shop => maker.shop(length),
    }
    let mut at = 0.0;
    let requests = maker.keys.iter().map(|key| {
        at += -GAP_MS * (1.0 - maker.rng.f64()).ln();
        (*key, 1_750_000_000_000 + at as i64)
    });
    let requests = requests.collect();
    Trace { name: name(kind, coupling), items: maker.items, requests }
}

impl Coupling {
    fn name(self) -> &'static str {
        match self {
            Coupling::Alike => "dear=large",
            Coupling::Opposed => "dear=small",
            Coupling::Free => "free",
        }
    }
}

/// Draws ranks from 0 with a weight of (rank + 1)^-α.
struct Zipf {
    sums: Vec<f64>,
}

impl Zipf {
    fn new(alpha: f64, ranks: usize) -> Self {
        let mut sum = 0.0;
        let sums = (1..=ranks).map(|rank| {
            sum += (rank as f64).powf(-alpha);
            sum
        });
        Zipf { sums: sums.collect() }
    }

    fn draw(&self, rng: &mut Rng) -> usize {
        let whole = self.sums.last().copied().unwrap_or_default();
        let at = rng.f64() * whole;
        self.sums.partition_point(|sum| *sum <= at).min(self.sums.len() - 1)
    }
}

/// From `low` to `high`, evenly over the orders of magnitude.
fn between([low, high]: [f64; 2], at: f64) -> f64 {
    low * (high / low).powf(at)
}

struct Maker {
    rng: Rng,
    coupling: Coupling,
    items: Vec<Item>,
    keys: Vec<u32>,
}

impl Maker {
    fn item(&mut self) -> u32 {
        let (price, other) = (self.rng.f64(), self.rng.f64());
        // Coupled sizes still differ a little: by a tenth of the range up or down.
        let near = |at: f64| (at + 0.2 * (other - 0.5)).clamp(0.0, 1.0);
        let size = match self.coupling {
            Coupling::Alike => near(price),
            Coupling::Opposed => near(1.0 - price),
            Coupling::Free => other,
        };
        self.add(between(PRICES, price), between(SIZES, size))
    }

    fn item_within(&mut self, prices: [f64; 2], sizes: [f64; 2]) -> u32 {
        let (price, size) = (between(prices, self.rng.f64()), between(sizes, self.rng.f64()));
        self.add(price, size)
    }

    fn add(&mut self, price: f64, bytes: f64) -> u32 {
        // Real prices have few digits.
        let price = (price / 1e8).round() as i64 * 100_000_000;
        self.items.push(Item { price, bytes: bytes as u64 });
        self.items.len() as u32 - 1
    }

    fn catalogue(&mut self, count: usize) -> Vec<u32> {
        (0..count).map(|_| self.item()).collect()
    }

    fn zipf(&mut self, alpha: f64, length: usize) {
        let zipf = Zipf::new(alpha, length / 10);
        let ranks = self.catalogue(length / 10);
        for _ in 0..length {
            self.keys.push(ranks[zipf.draw(&mut self.rng)]);
        }
    }

    fn scans(&mut self, length: usize) {
        let zipf = Zipf::new(0.9, length / 20);
        let ranks = self.catalogue(length / 20);
        for _ in 0..length {
            let key = if self.rng.f64() < 0.6 { self.item() } else { ranks[zipf.draw(&mut self.rng)] };
            self.keys.push(key);
        }
    }

    fn drift(&mut self, length: usize) {
        let zipf = Zipf::new(0.9, length / 20);
        let mut ranks = self.catalogue(length / 20);
        for request in 0..length {
            if request % (length / 100) == length / 100 - 1 {
                for _ in 0..ranks.len() / 20 {
                    let rank = self.rng.usize(..ranks.len());
                    ranks[rank] = self.item();
                }
            }
            self.keys.push(ranks[zipf.draw(&mut self.rng)]);
        }
    }

    fn bursts(&mut self, length: usize) {
        let zipf = Zipf::new(0.8, length / 20);
        let ranks = self.catalogue(length / 20);
        // Crowds that are there now: the picture, and how many are still to come.
        let mut crowds: Vec<(u32, usize)> = Vec::new();
        for _ in 0..length {
            if self.rng.bool() {
                self.keys.push(ranks[zipf.draw(&mut self.rng)]);
                continue;
            }
            while crowds.len() < 40 {
                let heads = between([5.0, 200.0], self.rng.f64()) as usize;
                crowds.push((self.item(), heads));
            }
            let at = self.rng.usize(..crowds.len());
            self.keys.push(crowds[at].0);
            crowds[at].1 -= 1;
            if crowds[at].1 == 0 {
                crowds.swap_remove(at);
            }
        }
    }

    fn loops(&mut self, length: usize) {
        let ranks = self.catalogue(length / 20);
        let rounds = [0.012, 0.06, 0.24, 1.0].map(|part| (ranks.len() as f64 * part) as usize);
        // The whole once, so that it is the footprint; then as many requests for each of the three, twice in turns.
        let part = (length - ranks.len()).div_ceil(6);
        self.keys.extend(&ranks);
        for turn in 0..6 {
            let round = rounds[turn % 3];
            let from = self.rng.usize(..ranks.len() - round);
            self.keys.extend(ranks[from..from + round].iter().cycle().take(part));
        }
        self.keys.truncate(length);
    }

    fn shop(&mut self, length: usize) {
        const DEAR: [f64; 2] = [8.0 * CENT, 25.0 * CENT];
        let parts = [length / 200, length / 25, length / 100];
        let laws = [Zipf::new(0.7, parts[0]), Zipf::new(1.0, parts[1]), Zipf::new(0.9, parts[2])];
        let heroes: Vec<_> = (0..parts[0]).map(|_| self.item_within(DEAR, [2e6, 8e6])).collect();
        let thumbs: Vec<_> = (0..parts[1]).map(|_| self.item_within([0.2 * CENT, 0.6 * CENT], [20e3, 150e3])).collect();
        let mut season = Vec::new();
        for request in 0..length {
            if request % (length / 10).max(1) == 0 {
                season = (0..parts[2]).map(|_| self.item_within([CENT, 8.0 * CENT], [200e3, 2e6])).collect();
            }
            let key = match self.rng.u32(..100) {
                0..3 => heroes[laws[0].draw(&mut self.rng)],
                3..60 => thumbs[laws[1].draw(&mut self.rng)],
                60..80 => season[laws[2].draw(&mut self.rng)],
                _ => self.item_within([0.2 * CENT, 4.0 * CENT], [100e3, 1e6]),
            };
            self.keys.push(key);
        }
    }
}
