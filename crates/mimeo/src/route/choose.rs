//! Which candidate first, and which not at all: a pure function of what is known of them now.
//!
//! 1. *Ruled out*: outside its hours, in a wrong region, dearer than the request may cost, known to be worse than the
//!    floor.
//! 2. *Too slow*: what is known to miss the deadline, while something else is not, or could be found not to.
//! 3. *Order*: to whom the request is dealt, then by role (first, overflow, backup; those that the route calls slow are
//!    held to be busy), then by region, then by what the route's objective makes of price, time and quality.
//! 4. *Probe*: now and then one that has not been asked for long goes first, so that what is known of it stays true.

use std::ops::Deref;
use std::time::Duration;

use crate::config::{Choice, Hours, Objective, Role, Weights};
use crate::domain::{Price, Quality, Reason, Seconds, Usd, Verdict};
use crate::quality::chance_below;

/// A candidate is below the floor if that is as likely as this.
const SURE: f64 = 0.9;
/// Opinions from which on they count for more than what was thought beforehand.
const EVIDENCE: f64 = 5.0;
/// How many of all requests may go to a candidate that has not been asked for long.
const PROBES: f64 = 0.05;
/// From when on a candidate has not been asked for long.
const LONG: Duration = Duration::from_secs(600);
/// A probe costs no more than so many times what the first choice costs.
const PROBE_PRICE: i128 = 2;
/// How many of all requests that nobody is known to serve in time go to those of whom little is known.
const EXPLORATIONS: f64 = 0.25;
/// Calls from which on it is known how long one takes.
const KNOWN: f64 = 10.0;
/// How long a call is thought to take of which nobody knows, in seconds.
const UNKNOWN_SECONDS: f64 = 30.0;

/// What is asked of candidates.
#[derive(Clone, Debug)]
pub struct Terms<'a> {
    /// What is best.
    pub objective: Objective,
    /// How good they must be, in points, and for which category that is said.
    pub floor: Option<(f64, Option<&'a str>)>,
    /// True takes the best that there are if all are below the floor.
    pub is_floor_soft: bool,
    /// How soon they must be done.
    pub deadline: Option<Duration>,
    /// Whose slowest twentieth of calls takes longer is slow: others are asked first.
    pub slow: Option<Duration>,
    /// Regions, the best first, and whether nobody else is asked.
    pub regions: &'a [String],
    /// True asks nobody outside of `regions`.
    pub regions_only: bool,
    /// The most that all pictures may cost.
    pub max_spend: Option<Usd>,
    /// Minutes since midnight, in UTC.
    pub minute: u16,
    /// A number from 0 to 1 that is the same for the same request.
    pub dice: f64,
}

/// A candidate as it is seen now.
#[derive(Clone, Debug)]
pub struct Seen<'a> {
    /// What the route says of it.
    pub choice: &'a Choice,
    /// Its region: its own, or its provider's.
    pub region: Option<&'a str>,
    /// What is known of it now.
    pub sight: Sight,
}

/// What is known of a candidate now.
#[derive(Clone, Copy, Debug)]
pub struct Sight {
    /// The most that all pictures may cost. Nothing is chosen by it.
    pub bound: Price,
    /// What all pictures would probably cost.
    pub price: Price,
    /// How long it takes.
    pub time: Option<Seconds>,
    /// The part of its calls that fail (0–1).
    pub errors: f64,
    /// How good it is.
    pub quality: Quality,
    /// How good it was thought to be before anybody had an opinion, in points.
    pub rating: f64,
    /// How good it is taken to be this time: a draw from what its quality may be. Who is little known is drawn high
    /// at times, and so becomes known.
    pub sample: f64,
    /// True if it would have to wait, or is down.
    pub is_busy: bool,
    /// When it was last asked; `None` is never.
    pub idle: Option<Duration>,
}

impl Sight {
    /// A template: drawn here and now, for nothing, and just what was asked for.
    pub const fn of_template() -> Sight {
        Sight {
            bound: Price::FREE,
            price: Price::FREE,
            time: None,
            errors: 0.0,
            quality: Quality { mean: 100.0, sd: 0.0, evidence: 0.0 },
            rating: 100.0,
            sample: 100.0,
            is_busy: false,
            idle: None,
        }
    }
}

impl Deref for Seen<'_> {
    type Target = Sight;
    fn deref(&self) -> &Sight {
        &self.sight
    }
}

/// What became of a candidate.
#[derive(Clone, Debug, PartialEq)]
pub struct Chosen {
    /// In which place it is tried, from 0.
    pub rank: Option<usize>,
    /// What became of it.
    pub verdict: Verdict,
    /// Why it is not simply kept.
    pub reason: Option<Reason>,
    /// What the objective makes of it: the lowest is tried first.
    pub score: Option<f64>,
}

/// What becomes of each of `seen`, in the same order. Nobody has a rank if all are ruled out.
pub fn choose(seen: &[Seen<'_>], terms: &Terms<'_>) -> Vec<Chosen> {
    let mut reasons: Vec<Option<Reason>> = seen.iter().map(|one| ruled_out(one, terms)).collect();
    drop_the_dear(seen, terms, &mut reasons);
    drop_the_poor(seen, terms, &mut reasons);
    drop_the_slow(seen, terms, &mut reasons);

    let left = |index: &usize| reasons.get(*index).is_some_and(Option::is_none);
    let kept: Vec<(usize, &Seen<'_>)> = seen.iter().enumerate().filter(|(index, _)| left(index)).collect();
    let has_overflow = kept.iter().any(|(_, one)| one.choice.role == Role::Overflow);
    let all_are_busy = kept.iter().all(|(_, one)| one.choice.role != Role::First || one.is_busy || is_slow(one, terms));
    let turn = |one: &Seen<'_>| match one.choice.role {
        // Others with a share are gone by now: the one that is left is whom the request is dealt to.
        _ if one.choice.share.is_some() => 0,
        Role::First if is_slow(one, terms) || has_overflow && one.is_busy => 3,
        Role::First => 1,
        Role::Overflow if all_are_busy => 2,
        Role::Overflow => 4,
        Role::Backup => 5,
    };
    let place = |one: &Seen<'_>| {
        let of = |region| terms.regions.iter().position(|wanted| wanted == region);
        one.region.and_then(of).unwrap_or(terms.regions.len())
    };
    let mut order: Vec<(usize, u8, usize, f64)> =
        kept.iter().map(|(index, one)| (*index, turn(one), place(one), score(one, *index, terms.objective))).collect();
    order.sort_by(|a, b| (a.1, a.2).cmp(&(b.1, b.2)).then(a.3.total_cmp(&b.3)).then(a.0.cmp(&b.0)));
    let probe = probe(seen, &order, terms);
    if let Some(from) = probe {
        let one = order.remove(from);
        order.insert(0, one);
    }

    let mut chosen: Vec<Chosen> = reasons
        .into_iter()
        .map(|reason| Chosen { rank: None, verdict: Verdict::Dropped, reason, score: None })
        .collect();
    for (rank, (index, _, _, score)) in order.into_iter().enumerate() {
        let (Some(one), Some(candidate)) = (chosen.get_mut(index), seen.get(index)) else { continue };
        let is_probe = probe.is_some() && rank == 0;
        let slow = || {
            let p95 = candidate.time.filter(|_| is_slow(candidate, terms))?.p95;
            let text = format!("one in twenty of its calls takes more than {p95:.1} s, so others are asked first");
            Some(reason("slow", text))
        };
        *one = Chosen {
            rank: Some(rank),
            verdict: if is_probe { Verdict::Probe } else { Verdict::Kept },
            reason: is_probe
                .then(|| reason("probe", "it has not been asked for long, and this request finds out how it is"))
                .or_else(slow),
            score: (terms.objective != Objective::Order && score.is_finite()).then_some(score),
        };
    }
    chosen
}

fn reason(code: &str, text: impl Into<String>) -> Reason {
    Reason { code: code.to_owned(), text: text.into() }
}

/// Why nothing about this request can make it a candidate now.
fn ruled_out(one: &Seen<'_>, terms: &Terms<'_>) -> Option<Reason> {
    if let Some(hours) = one.choice.hours.filter(|hours: &Hours| !hours.hold(terms.minute)) {
        return Some(reason("outside_hours", format!("it is asked at {hours} only")));
    }
    let is_elsewhere = || !one.region.is_some_and(|region| terms.regions.iter().any(|wanted| wanted == region));
    if terms.regions_only && is_elsewhere() {
        let place = one.region.map_or_else(|| "it is in no region".to_owned(), |region| format!("it is in {region}"));
        return Some(reason("wrong_region", format!("{place}, and the route asks {} only", terms.regions.join(", "))));
    }
    None
}

/// Drops what costs more than the request may, unless everything does: then nothing is sent, and who asks is told by how
/// much.
fn drop_the_dear(seen: &[Seen<'_>], terms: &Terms<'_>, reasons: &mut [Option<Reason>]) {
    let Some(most) = terms.max_spend else { return };
    let is_dear = |one: &Seen<'_>| one.price.known().is_none_or(|usd| usd > most);
    if !seen.iter().zip(reasons.iter()).any(|(one, reason)| reason.is_none() && !is_dear(one)) {
        return;
    }
    for (one, slot) in seen.iter().zip(reasons).filter(|(one, slot)| slot.is_none() && is_dear(one)) {
        let text = match one.price {
            Price::Known(usd) => format!("it would cost ${usd}, and max_spend_usd is {most}"),
            Price::Unknown => "nobody knows what it costs, and max_spend_usd is set".to_owned(),
        };
        *slot = Some(reason("too_dear", text));
    }
}

/// Drops what is below the floor.
fn drop_the_poor(seen: &[Seen<'_>], terms: &Terms<'_>, reasons: &mut [Option<Reason>]) {
    let Some((floor, category)) = terms.floor else { return };
    let is_poor = |one: &Seen<'_>| is_below(&one.quality, one.rating, floor);
    let left = || seen.iter().zip(reasons.iter()).filter(|(_, reason)| reason.is_none()).map(|(one, _)| one);
    let mut least = None;
    if terms.is_floor_soft && left().all(is_poor) {
        // The best there are, and those that are about as good.
        let best = left().map(|one| one.quality.mean).fold(f64::MIN, f64::max);
        least = Some(best - 5.0);
    }
    for (one, slot) in seen.iter().zip(reasons).filter(|(one, slot)| slot.is_none() && is_poor(one)) {
        let quality = one.quality;
        if least.is_some_and(|least| quality.mean >= least) {
            continue;
        }
        let what = category.map_or_else(|| "the route".to_owned(), |category| format!("the category {category}"));
        let text = if quality.evidence < 0.5 {
            format!("its pictures are rated {:.0} of 100, and {what} asks for {floor:.0}", quality.mean)
        } else {
            format!(
                "its pictures are rated {:.0} ± {:.0} of 100 by {:.0} opinions, and {what} asks for {floor:.0}",
                quality.mean, quality.sd, quality.evidence
            )
        };
        *slot = Some(reason("below_floor", text));
    }
}

/// True if pictures are below the floor, as far as is known. Who was thought to be good enough beforehand is believed to be
/// until it is nearly sure that this was wrong; who was not, until there are some opinions.
fn is_below(quality: &Quality, rating: f64, floor: f64) -> bool {
    if rating < floor && quality.evidence < EVIDENCE {
        return true;
    }
    chance_below(floor, quality.mean, quality.sd) > SURE
}

/// True if enough calls say that a candidate is slower than the route likes. They are forgotten in time, so that it is asked
/// again.
fn is_slow(one: &Seen<'_>, terms: &Terms<'_>) -> bool {
    let Some(slow) = terms.slow.map(|slow| slow.as_secs_f64()) else { return false };
    one.time.is_some_and(|time| time.evidence >= KNOWN && time.p95 > slow)
}

/// Drops what is known to miss the deadline, unless all do: then the fastest is the best there is, and now and then those
/// are tried of whom little is known. Else whoever was slow once would be asked for ever, if the others are only thought
/// to be slower.
fn drop_the_slow(seen: &[Seen<'_>], terms: &Terms<'_>, reasons: &mut [Option<Reason>]) {
    let Some(deadline) = terms.deadline.map(|deadline| deadline.as_secs_f64()) else { return };
    let late = |one: &Seen<'_>| one.time.filter(|time| time.p95 > deadline);
    let left = || seen.iter().zip(reasons.iter()).filter(|(_, reason)| reason.is_none()).map(|(one, _)| one);
    let explores = terms.dice < EXPLORATIONS && left().all(|one| late(one).is_some());
    let late = |one: &Seen<'_>| late(one).filter(|time| !explores || time.evidence >= KNOWN).map(|time| time.p95);
    let least = match left().any(|one| late(one).is_none()) {
        true => f64::MIN,
        false => left().filter_map(late).fold(f64::MAX, f64::min),
    };
    for (one, slot) in seen.iter().zip(reasons).filter(|(_, slot)| slot.is_none()) {
        if let Some(p95) = late(one).filter(|p95| *p95 > least) {
            let text = format!("one in twenty of its calls takes more than {p95:.1} s, and {deadline:.1} s are left");
            *slot = Some(reason("too_slow", text));
        }
    }
}

/// What the objective makes of a candidate: the lowest is the best.
fn score(one: &Seen<'_>, index: usize, objective: Objective) -> f64 {
    let price = one.price.known().map_or(f64::INFINITY, dollars);
    // Calls that fail are made again, here or elsewhere.
    let wasted = 1.0 / (1.0 - one.errors.clamp(0.0, 0.95));
    let seconds = one.time.map(|time| time.p50 * wasted);
    match objective {
        Objective::Order => index as f64,
        Objective::Cost => price,
        Objective::Latency => seconds.unwrap_or(f64::INFINITY),
        Objective::Quality => -one.sample,
        Objective::Weights(Weights { usd_per_second, usd_per_point }) => {
            let slow = dollars(usd_per_second) * seconds.unwrap_or(UNKNOWN_SECONDS);
            price + slow + dollars(usd_per_point) * (100.0 - one.sample)
        }
    }
}

/// For comparing only: nothing is billed by it.
fn dollars(usd: Usd) -> f64 {
    usd.pico() as f64 / Usd::SCALE as f64
}

/// Which of the order goes first although it is not the best, so that one learns how it is now.
fn probe(seen: &[Seen<'_>], order: &[(usize, u8, usize, f64)], terms: &Terms<'_>) -> Option<usize> {
    if terms.objective == Objective::Order || terms.deadline.is_some() || terms.dice >= PROBES {
        return None;
    }
    let (first, turn, place, _) = order.first()?;
    let affordable = seen.get(*first)?.price.known()? * PROBE_PRICE;
    let is_due = |(position, (index, their_turn, their_place, _)): &(usize, &(usize, u8, usize, f64))| {
        let Some(one) = seen.get(*index) else { return false };
        // Neither role nor region is a matter of what is known.
        *position > 0
            && (their_turn, their_place) == (turn, place)
            && one.choice.role == Role::First
            && !one.is_busy
            && one.idle.is_none_or(|idle| idle >= LONG)
            && one.price.known().is_some_and(|usd| usd <= affordable)
    };
    let idle = |index: usize| seen.get(index).and_then(|one| one.idle).unwrap_or(Duration::MAX);
    order.iter().enumerate().filter(is_due).max_by_key(|(_, (index, ..))| idle(*index)).map(|(position, _)| position)
}

#[cfg(test)]
#[path = "choose_tests.rs"]
mod tests;
