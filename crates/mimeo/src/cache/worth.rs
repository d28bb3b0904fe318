//! What it is worth to keep a picture: the dollars that each of its bytes saves in a unit of time. When room is
//! needed, the pictures with the lowest worth go.
//!
//! ```text
//! worth = price / bytes × requests expected per millisecond
//! ```
//!
//! Price and bytes are known. The third factor is read off a **life table**, as insurers keep one: how often were pictures
//! with such a past asked for at such an age? A past is how often a picture was asked for and at which pace; an age is
//! the time since the last request. Nothing is assumed about what people ask for: a stable favourite, a crowd for an
//! hour, a catalogue walked through in a loop or a prompt that nobody repeats, all show in the table after some hundreds
//! of requests, and what they did long ago fades from it.
//!
//! Two things are assumed, because they keep noise out and make decisions that can be understood: of two pictures with
//! the same past the one that was used later is not worth less, and of two with the same pace and age the one that was
//! asked for more often is not worth less.
//!
//! The table counts requests for pictures that are kept *and* for those that were dropped, so that what it says does not
//! depend on what was dropped. That takes a memory of names, [`NAMES`] at most. So nothing is to be done when a picture
//! is dropped, and one that is made again finds its past.
//!
//! There is no order to be kept up when a picture is used: an eviction looks at [`CANDIDATES`] pictures chosen at random
//! and drops the one that is worth least. `bench/eviction` compares this with other policies. No I/O and no clock here.

use std::collections::HashMap;

use serde::{Deserialize, Serialize, Serializer};

use crate::clock::Millis;

/// How many pictures chosen at random to look at for each that is dropped. Of so many, the one worth least is among the
/// lowest 1.5 % of all, in the mean. The newest is to be one more of them: often it is what is worth least.
pub const CANDIDATES: usize = 64;

/// How many keys are remembered, kept or not. All of them take 13 MB, and no memory is taken before they come.
pub const NAMES: usize = 262_144;

/// What drawing a picture here costs, in pico-dollars: about 100 ms of a rented core. No picture counts as cheaper than
/// that, for what costs no money still takes time to be made again.
pub const OWN_WORK_PICO: i64 = 1_000_000;

/// The price of a picture whose price is unknown, until there are known ones to learn from: 4 cents.
const USUAL_PICO: f64 = 4e10;

/// Classes of how often a picture was asked for, half an octave each: 1, 2, 3, 4, 6, 8 … 724 and more.
const COUNTS: usize = 20;
/// Classes of pace: none yet, then four octaves each.
const PACES: usize = 9;
/// Classes of age, an octave each: below 128 ms … more than a year.
const AGES: usize = 30;
/// The first age class ends at twice this power of two, in milliseconds.
const FIRST_AGE: u32 = 6;
/// Pictures that were asked for at least so often are between two classes, not in one.
const BETWEEN_CLASSES: u32 = 8;

/// How much the last interval between two requests counts in the pace, against all before.
const LAST_INTERVAL: f32 = 0.5;
/// How much counts of what was seen before each update of the table…
const KEEP: f64 = 0.8;
/// …of which there is one after so many requests, or after a quarter as many as there are names.
const UPDATE_EVERY: usize = 500;
/// How many requests a cell must have seen to be believed as much as those around it.
const DOUBT: f64 = 2.0;
/// What is assumed of all pictures before anything was seen: a request in eleven days.
const START: Seen = Seen { hits: 1e-3, time: 1e6 };

/// How a picture was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Past {
    /// How often, the first time included. At least 1.
    pub asked: u32,
    /// The time between two requests, later ones counting more: the binary logarithm of milliseconds. 0 if it was asked
    /// for only once.
    pub pace: f32,
    /// When last.
    pub used_ms: Millis,
}

/// What is known of a picture that is kept.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Life {
    /// What it cost, in pico-dollars. `None` is unknown and counts as the median of the known ones; see also
    /// [`OWN_WORK_PICO`].
    pub price_pico: Option<i64>,
    /// Its length.
    pub bytes: u64,
    /// How it was asked for.
    pub past: Past,
}

/// What was learned from all requests. It can be stored, so that a restart does not begin with nothing. The names are
/// not stored with it; see [`Learned::recall`].
#[derive(Clone, Debug, Deserialize)]
#[serde(from = "Stored")]
pub struct Learned {
    names: HashMap<u64, Past>,
    room: usize,
    /// Requests since the last update of the table, and when that was.
    requests: usize,
    updated_ms: Millis,
    /// Per past, see [`Past::cell`], and age.
    seen: Vec<[Seen; AGES]>,
    /// Requests per millisecond, learned from `seen`: never rising with age, never falling with the count.
    rates: Vec<[f64; AGES]>,
    /// How many prices there were, by the binary logarithm of pico-dollars.
    prices: Vec<u32>,
}

/// What was seen of all pictures together, while they were of one past and age.
#[derive(Clone, Copy, Debug, Default)]
struct Seen {
    /// Requests.
    hits: f64,
    /// Milliseconds.
    time: f64,
}

impl Seen {
    fn plus(self, other: Seen) -> Seen {
        Seen { hits: self.hits + other.hits, time: self.time + other.time }
    }

    /// Adds some doubt: requests that would come at `rate`.
    fn doubted(self, rate: f64) -> Seen {
        self.plus(Seen { hits: DOUBT, time: DOUBT / rate })
    }
}

impl Past {
    fn first(now: Millis) -> Self {
        Past { asked: 1, pace: 0.0, used_ms: now }
    }

    fn and_now(self, now: Millis) -> Self {
        let interval = (self.age(now).max(1) as f32).log2();
        let pace = if self.asked < 2 { interval } else { self.pace + LAST_INTERVAL * (interval - self.pace) };
        Past { asked: self.asked.saturating_add(1), pace, used_ms: now }
    }

    fn age(self, now: Millis) -> Millis {
        now.saturating_sub(self.used_ms).max(0)
    }

    fn cell(self) -> usize {
        // The sliver makes 2 and 4 fall to the right of their boundary, whatever rounding does.
        let count = (2.0 * f64::from(self.asked.max(1)).log2() + 1e-6) as usize;
        let pace = if self.asked < 2 { 0 } else { 1 + (self.pace - FIRST_AGE as f32).max(0.0) as usize / 4 };
        count.min(COUNTS - 1) * PACES + pace.min(PACES - 1)
    }
}

fn age_class(age: Millis) -> usize {
    (age.max(1).unsigned_abs().ilog2().saturating_sub(FIRST_AGE) as usize).min(AGES - 1)
}

/// How much more often a picture of this class of counts is asked for than one that was asked for once, if requests to
/// come are as those that came.
fn weight(count: usize) -> f64 {
    (count as f64 / 2.0).exp2()
}

/// The rates of `cells` that fit best among those that never rise. Where they would, neighbours are taken together.
fn never_rising<const N: usize>(cells: [Seen; N]) -> [f64; N] {
    let mut groups: Vec<(Seen, usize)> = Vec::with_capacity(N);
    for cell in cells {
        let mut group = (cell, 1);
        while let Some((before, count)) =
            groups.pop_if(|(before, _)| before.hits * group.0.time < group.0.hits * before.time)
        {
            group = (before.plus(group.0), count + group.1);
        }
        groups.push(group);
    }
    let mut rates = groups.iter().flat_map(|(group, count)| std::iter::repeat_n(group.hits / group.time, *count));
    std::array::from_fn(|_| rates.next().unwrap_or_default())
}

impl Default for Learned {
    fn default() -> Self {
        Learned::with_room_for(NAMES)
    }
}

impl Learned {
    /// Nothing learned yet, with a memory of at most `names` keys. It should be several times what is kept.
    pub fn with_room_for(names: usize) -> Self {
        let mut learned = Learned {
            names: HashMap::new(),
            room: names.max(1),
            requests: 0,
            updated_ms: 0,
            seen: vec![[Seen::default(); AGES]; COUNTS * PACES],
            rates: vec![[0.0; AGES]; COUNTS * PACES],
            prices: vec![0; 64],
        };
        learned.learn();
        learned
    }

    /// A picture was made and is kept from now on. `key` names it whenever it is made; the same name leads to the past of
    /// one that was dropped.
    pub fn on_insert(&mut self, key: u64, price_pico: Option<i64>, bytes: u64, now: Millis) -> Life {
        if let Some(octave) = price_pico.filter(|price| *price > 0).map(i64::ilog2) {
            self.prices[octave as usize] = self.prices[octave as usize].saturating_add(1);
        }
        let past = self.ask(key, None, now);
        Life { price_pico, bytes, past }
    }

    /// A picture that is kept was asked for. Brings its `life` up to date.
    pub fn on_hit(&mut self, key: u64, life: &mut Life, now: Millis) {
        life.past = self.ask(key, Some(life.past), now);
    }

    /// A picture that is kept under `key` was asked for, and how it was before is known from that name only.
    pub fn asked_for(&mut self, key: u64, now: Millis) -> Past {
        self.ask(key, None, now)
    }

    /// A picture was kept before this process started: so that what is never asked for again counts, too.
    pub fn recall(&mut self, key: u64, life: &Life, now: Millis) {
        if self.names.is_empty() {
            self.updated_ms = now;
        }
        if self.names.len() < self.room {
            self.names.insert(key, life.past);
        }
    }

    /// What it is worth to keep a picture: pico-dollars per byte and millisecond. Finite and above zero.
    pub fn worth(&self, life: &Life, now: Millis) -> f64 {
        let price = life.price_pico.map_or_else(|| self.median_price(), |price| price as f64);
        let (cell, age) = (life.past.cell(), age_class(life.past.age(now)));
        let mut rate = self.rates[cell][age];
        if life.past.asked >= BETWEEN_CLASSES {
            // What was learned of a class is true in its middle.
            let at = 2.0 * f64::from(life.past.asked).log2() - 0.5;
            let class = (at as usize).min(COUNTS - 2);
            let share = (at - class as f64).min(1.0);
            let [low, high] = [class, class + 1].map(|count| self.rates[count * PACES + cell % PACES][age]);
            rate = low + share * (high - low);
        }
        price.max(OWN_WORK_PICO as f64) / life.bytes.max(1) as f64 * rate
    }

    /// To within its octave.
    fn median_price(&self) -> f64 {
        let half = self.prices.iter().copied().map(u64::from).sum::<u64>().div_ceil(2);
        let mut sum = 0;
        let octave = self.prices.iter().position(|count| {
            sum += u64::from(*count);
            sum >= half
        });
        octave.filter(|_| half > 0).map_or(USUAL_PICO, |octave| 1.5 * (octave as f64).exp2())
    }

    fn ask(&mut self, key: u64, kept: Option<Past>, now: Millis) -> Past {
        self.requests += 1;
        if self.requests >= UPDATE_EVERY.max(self.names.len() / 4) {
            self.update(now);
        }
        let known = self.names.get(&key).copied();
        // Whose name was forgotten was not seen getting old: that it is asked for now says nothing about others.
        if let Some(past) = known {
            self.pass_time(past, now);
            self.seen[past.cell()][age_class(past.age(now))].hits += 1.0;
        } else if self.names.len() >= self.room {
            self.forget_oldest(now);
        }
        // What is stored may lag behind what is remembered, and the other way round after a restart.
        let last = [kept, known].into_iter().flatten().max_by_key(|past| past.used_ms);
        let past = last.map_or(Past::first(now), |past| past.and_now(now));
        self.names.insert(key, past);
        past
    }

    /// Counts the time of a picture since the last update, or since it was used, in each age that it was of.
    fn pass_time(&mut self, past: Past, now: Millis) {
        let (mut from, to) = (past.age(self.updated_ms), past.age(now));
        let cell = past.cell();
        while from < to {
            let class = age_class(from);
            let end = if class < AGES - 1 { to.min(2 << (class as u32 + FIRST_AGE)) } else { to };
            self.seen[cell][class].time += (end - from) as f64;
            from = end;
        }
    }

    /// Looks at every name, once per many requests.
    fn update(&mut self, now: Millis) {
        let pasts: Vec<Past> = self.names.values().copied().collect();
        for past in pasts {
            self.pass_time(past, now);
        }
        self.updated_ms = now;
        self.requests = 0;
        self.learn();
        for seen in self.seen.iter_mut().flatten() {
            *seen = Seen { hits: KEEP * seen.hits, time: KEEP * seen.time };
        }
    }

    /// Forgets an eighth of the names, and at least one. Their time until now counts.
    fn forget_oldest(&mut self, now: Millis) {
        let mut used: Vec<(Millis, u64)> = self.names.iter().map(|(key, past)| (past.used_ms, *key)).collect();
        let eighth = used.len() / 8;
        used.select_nth_unstable(eighth);
        for (_, key) in &used[..=eighth] {
            if let Some(past) = self.names.remove(key) {
                self.pass_time(past, now);
            }
        }
    }

    /// From what was seen to rates. What little was seen of is taken to be like what is around it: a past like all with
    /// the same count, these like all pictures.
    fn learn(&mut self) {
        let mut all = START;
        for (cell, seen) in self.seen.iter().enumerate() {
            let of_cell = seen.iter().copied().fold(Seen::default(), Seen::plus);
            all = all.plus(Seen { time: of_cell.time * weight(cell / PACES), ..of_cell });
        }
        let usual = |count: usize| all.hits / all.time * weight(count);
        for count in 0..COUNTS {
            let paces = count * PACES..(count + 1) * PACES;
            let of_count = never_rising::<AGES>(std::array::from_fn(|age| {
                let seen = self.seen[paces.clone()].iter().map(|seen| seen[age]);
                seen.fold(Seen::default(), Seen::plus).doubted(usual(count))
            }));
            for cell in paces {
                let seen = &self.seen[cell];
                self.rates[cell] = never_rising(std::array::from_fn(|age| seen[age].doubted(of_count[age])));
            }
        }
        // Counts from the highest to the lowest: never rising. Each weighs the same at all ages; so what never rises with
        // age still does not afterwards.
        for pace in 0..PACES {
            let cells: [usize; COUNTS] = std::array::from_fn(|index| (COUNTS - 1 - index) * PACES + pace);
            let times = cells
                .map(|cell| DOUBT / usual(cell / PACES) + self.seen[cell].iter().map(|seen| seen.time).sum::<f64>());
            for age in 0..AGES {
                let rates = never_rising::<COUNTS>(std::array::from_fn(|index| Seen {
                    hits: self.rates[cells[index]][age] * times[index],
                    time: times[index],
                }));
                for (cell, rate) in cells.into_iter().zip(rates) {
                    self.rates[cell][age] = rate;
                }
            }
        }
    }
}

/// How [`Learned`] is stored: only what was seen. A table of other classes is not taken over.
#[derive(Serialize, Deserialize)]
struct Stored {
    classes: [usize; 3],
    /// Place, requests and milliseconds of each cell in which anything was seen.
    seen: Vec<(usize, f64, f64)>,
    prices: Vec<u32>,
}

const CLASSES: [usize; 3] = [COUNTS, PACES, AGES];

impl Serialize for Learned {
    /// By hand, because a derived one would copy all names first, only to leave them out.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        Stored::from(self).serialize(serializer)
    }
}

impl From<&Learned> for Stored {
    fn from(learned: &Learned) -> Self {
        let places = learned.seen.iter().flatten().enumerate().filter(|(_, seen)| seen.time >= 1.0);
        let seen = places.map(|(place, seen)| (place, seen.hits, seen.time.round())).collect();
        Stored { classes: CLASSES, seen, prices: learned.prices.clone() }
    }
}

impl From<Stored> for Learned {
    fn from(stored: Stored) -> Self {
        let mut learned = Learned::default();
        if stored.classes == CLASSES && stored.prices.len() == learned.prices.len() {
            learned.prices = stored.prices;
            for (place, hits, time) in stored.seen {
                let fine = |number: f64| number.is_finite() && number >= 0.0;
                if let Some(seen) = learned.seen.get_mut(place / AGES)
                    && fine(hits)
                    && fine(time)
                {
                    seen[place % AGES] = Seen { hits, time };
                }
            }
            learned.learn();
        }
        learned
    }
}

#[cfg(test)]
#[path = "worth_tests.rs"]
mod tests;
