//! What is known of each candidate of a plan, put before [`choose`]; and what came of it, for people.

use std::time::Duration;

use super::choose::{Chosen, Seen, Sight, Terms, choose};
use super::{Candidate, Plan};
use crate::domain::{Considered, Price, Quality, Seconds, Usd};
use crate::quality::candidate_name;

/// How far a rating may well be off that nobody has confirmed, in points.
const DOUBT: f64 = 15.0;

/// What the moment and the caller have to say.
#[derive(Clone, Copy, Debug, Default)]
pub struct Moment {
    /// How soon the caller wants it, if it says so.
    pub deadline: Option<Duration>,
    /// The most that the caller would pay.
    pub max_spend: Option<Usd>,
    /// Milliseconds since the Unix epoch.
    pub now: i64,
    /// A number from 0 to 1 that is the same for the same request.
    pub dice: f64,
}

impl Plan {
    /// The candidates in the order in which they are tried, and what was thought of all of them in that order, those that
    /// are not tried last. `look` says what is known of one.
    pub fn rank(&self, moment: Moment, look: impl Fn(&Candidate) -> Sight) -> (Vec<&Candidate>, Vec<Considered>) {
        let sights: Vec<Sight> = self.candidates.iter().map(look).collect();
        let seen: Vec<Seen<'_>> = (self.candidates.iter().zip(&sights))
            .map(|(candidate, sight)| Seen { choice: &candidate.choice, region: candidate.region(), sight: *sight })
            .collect();
        let settings = &self.settings;
        let terms = Terms {
            objective: settings.objective,
            floor: self.floor(),
            is_floor_soft: self.is_floor_soft(),
            deadline: moment.deadline.or(settings.deadline_ms.map(Duration::from_millis)),
            slow: settings.slow_s.map(u64::from).map(Duration::from_secs),
            regions: &settings.regions,
            regions_only: settings.regions_only,
            max_spend: moment.max_spend,
            minute: u16::try_from(moment.now.rem_euclid(86_400_000) / 60_000).unwrap_or_default(),
            dice: moment.dice,
        };
        let chosen = choose(&seen, &terms);
        let mut ranked: Vec<(usize, &Candidate)> =
            self.candidates.iter().zip(&chosen).filter_map(|(one, chosen)| Some((chosen.rank?, one))).collect();
        ranked.sort_by_key(|(rank, _)| *rank);
        let shown = self.candidates.iter().zip(sights).zip(chosen);
        let mut considered: Vec<Considered> =
            shown.map(|((candidate, sight), chosen)| candidate.shown(&sight, chosen)).collect();
        considered.sort_by_key(|one| one.rank.unwrap_or(u32::MAX));
        (ranked.into_iter().map(|(_, candidate)| candidate).collect(), considered)
    }
}

impl Candidate {
    /// What it is called in what is learned of it: with the quality that it is asked for.
    pub fn known_as(&self) -> String {
        candidate_name(&self.name, self.request.quality.as_deref())
    }

    /// How good its pictures are thought to be before anybody has seen one. Where nobody has said so, dearer ones are
    /// taken to be better on the whole: a cent makes 45 points, and ten times as much fifteen more. `price` is that of
    /// `count` pictures.
    pub fn prior(&self, price: Price, count: u32) -> Quality {
        let points = match (self.rating, price) {
            (Some(rating), _) => f64::from(rating),
            (None, Price::Unknown) => 50.0,
            (None, Price::Known(usd)) => {
                let cents = usd.pico() as f64 / f64::from(count.max(1)) / (Usd::SCALE as f64 / 100.0);
                (45.0 + 15.0 * cents.max(1e-3).log10()).clamp(10.0, 85.0)
            }
        };
        Quality { mean: points, sd: DOUBT, evidence: 0.0 }
    }

    fn shown(&self, sight: &Sight, chosen: Chosen) -> Considered {
        Considered {
            name: self.name.clone(),
            rank: chosen.rank.and_then(|rank| u32::try_from(rank + 1).ok()),
            verdict: chosen.verdict,
            reason: chosen.reason,
            notes: self.remarks(),
            expected: sight.price,
            bound: sight.bound,
            seconds: sight.time.map(|time| Seconds {
                p50: rounded(time.p50),
                p95: rounded(time.p95),
                evidence: rounded(time.evidence),
            }),
            quality: Some(Quality {
                mean: rounded(sight.quality.mean),
                sd: rounded(sight.quality.sd),
                evidence: rounded(sight.quality.evidence),
            }),
            score: chosen.score.map(|score| (score * 1e9).round() / 1e9),
        }
    }
}

/// To three places: nobody knows more, and what is written down reads the same when it is read back.
fn rounded(number: f64) -> f64 {
    (number * 1e3).round() / 1e3
}
