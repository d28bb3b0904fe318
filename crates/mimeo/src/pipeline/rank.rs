//! ④ Who is asked first: what is known now of each candidate, put before [`choose`].

use std::time::Duration;

use super::make::Account;
use super::{Order, Pipeline};
use crate::domain::{Considered, Fault, Generated, Price, Quality, Reason, Seconds, Usd, Verdict};
use crate::error::{Error, Kind, Result};
use crate::route::choose::{Chosen, Seen, Terms, choose};
use crate::route::{Candidate, Maker, fortune};

/// How far a rating may well be off that nobody has confirmed, in points.
const DOUBT: f64 = 15.0;

/// What is known of one candidate.
struct Sight {
    bound: Price,
    price: Price,
    time: Option<Seconds>,
    errors: f64,
    quality: Quality,
    sample: f64,
    is_busy: bool,
    idle: Option<Duration>,
}

impl Pipeline {
    /// The candidates of an order for `count` pictures in the order in which they are tried. What was thought of all of
    /// them is noted.
    ///
    /// # Errors
    /// None may be asked.
    pub(super) fn rank<'a>(&self, order: &'a Order, count: u32) -> Result<Vec<&'a Candidate>> {
        let plan = &order.plan;
        let settings = &plan.settings;
        let sights: Vec<Sight> =
            plan.candidates.iter().map(|candidate| self.look_at(order, candidate, count)).collect();
        let seen: Vec<Seen<'_>> = plan
            .candidates
            .iter()
            .zip(&sights)
            .map(|(candidate, sight)| Seen {
                choice: &candidate.choice,
                region: candidate.region(),
                price: sight.price,
                time: sight.time,
                errors: sight.errors,
                quality: Some(sight.quality),
                sample: sight.sample,
                is_busy: sight.is_busy,
                idle: sight.idle,
            })
            .collect();
        let terms = Terms {
            objective: settings.objective,
            floor: plan.floor(),
            is_floor_soft: plan.is_floor_soft(),
            deadline: order.call.deadline.or(settings.deadline_ms.map(Duration::from_millis)),
            regions: &settings.regions,
            regions_only: settings.regions_only,
            max_spend: order.call.max_spend,
            minute: u16::try_from(self.clock.now().rem_euclid(86_400_000) / 60_000).unwrap_or_default(),
            dice: fortune("probe", &order.call) as f64 / u64::MAX as f64,
        };
        let chosen = choose(&seen, &terms);
        let mut ranked: Vec<(usize, &Candidate)> =
            plan.candidates.iter().zip(&chosen).filter_map(|(one, chosen)| Some((chosen.rank?, one))).collect();
        ranked.sort_by_key(|(rank, _)| *rank);
        let mut considered: Vec<Considered> = plan
            .candidates
            .iter()
            .zip(sights)
            .zip(chosen)
            .map(|((candidate, sight), chosen)| shown(candidate, &sight, chosen))
            .collect();
        considered.sort_by_key(|one| one.rank.unwrap_or(u32::MAX));
        let nobody = ranked.is_empty().then(|| nobody(&plan.route, &considered));
        order.notes.ranked(plan, considered);
        match nobody {
            Some(error) => Err(error),
            None => Ok(ranked.into_iter().map(|(_, candidate)| candidate).collect()),
        }
    }

    /// Learns how long a call for `n` pictures took and what it cost, or that it failed.
    pub(super) fn learn(
        &self,
        order: &Order,
        account: Account<'_>,
        n: u32,
        took: Duration,
        outcome: &std::result::Result<Generated, Fault>,
    ) {
        let Account { candidate, model, .. } = account;
        let made = match outcome {
            Ok(generated) => {
                let billed = model.billed(&candidate.request, n, order.partials(), generated);
                Some((u64::from(n), billed.known().unwrap_or(Usd::ZERO)))
            }
            Err(fault) if fault.kind.is_its_providers() => None,
            // Who refuses, or is asked too often, is neither slow nor broken.
            Err(_) => return,
        };
        self.performance.note(&candidate.known_as(), took, made);
    }

    fn look_at(&self, order: &Order, candidate: &Candidate, count: u32) -> Sight {
        let Maker::Provider(provider, model) = &candidate.maker else {
            let quality = Quality { mean: 100.0, sd: 0.0, evidence: 0.0 };
            let (bound, time) = (Price::FREE, None);
            return Sight {
                bound,
                price: bound,
                time,
                errors: 0.0,
                quality,
                sample: 100.0,
                is_busy: false,
                idle: None,
            };
        };
        let bound = model.expected(&candidate.request, count, order.partials());
        let typical = model.typical_latency(candidate.request.quality.as_deref());
        let cold_start = Duration::from_secs(u64::from(candidate.choice.cold_start_s.unwrap_or(0)));
        let known = self.performance.of(&candidate.known_as(), typical, cold_start);
        let rating = candidate.rating.map_or_else(|| rating_of(bound, count), f64::from);
        let quality = Quality { mean: rating, sd: DOUBT, evidence: 0.0 };
        Sight {
            bound,
            price: bound,
            time: known.time,
            errors: known.errors,
            quality,
            sample: quality.mean,
            is_busy: !self.attempts.could_serve(provider, count.min(model.max_n.max(1))),
            idle: known.idle,
        }
    }
}

/// How good pictures are thought to be of which nobody has said so: dearer ones are better on the whole. A cent makes 45
/// points, and ten times as much fifteen more.
fn rating_of(price: Price, count: u32) -> f64 {
    let Price::Known(usd) = price else { return 50.0 };
    let cents = usd.pico() as f64 / f64::from(count.max(1)) / (Usd::SCALE as f64 / 100.0);
    (45.0 + 15.0 * cents.max(1e-3).log10()).clamp(10.0, 85.0)
}

fn shown(candidate: &Candidate, sight: &Sight, chosen: Chosen) -> Considered {
    Considered {
        name: candidate.name.clone(),
        rank: chosen.rank.and_then(|rank| u32::try_from(rank + 1).ok()),
        verdict: chosen.verdict,
        reason: chosen.reason,
        notes: candidate.remarks(),
        expected: sight.price,
        bound: sight.bound,
        seconds: sight.time,
        quality: Some(sight.quality),
        score: chosen.score,
    }
}

/// What a caller is told if nobody may be asked.
fn nobody(route: &str, considered: &[Considered]) -> Error {
    let why = |one: &Considered| {
        let reason: Option<&Reason> = one.reason.as_ref().filter(|_| one.verdict == Verdict::Dropped);
        reason.map(|reason| format!("{}: {}", one.name, reason.text))
    };
    let reasons: Vec<String> = considered.iter().filter_map(why).collect();
    let code = considered.iter().find_map(|one| one.reason.as_ref()).map(|reason| reason.code.clone());
    let mut error = Error::new(
        Kind::Unavailable,
        format!("No candidate of {route} may be asked now, and nothing was sent. {}.", reasons.join("; ")),
    )
    .param("model");
    error.code = code;
    error
}
