//! ④ Who is asked first: what is known now of each candidate.

use std::time::Duration;

use super::make::Account;
use super::{Order, Pipeline};
use crate::alerts::{Alert, AlertKind};
use crate::attempt::Attempt;
use crate::config::Objective;
use crate::domain::{Considered, Quality, Reason, Verdict};
use crate::error::{Error, Kind, Result};
use crate::route::choose::Sight;
use crate::route::rank::Moment;
use crate::route::{Candidate, Maker, fortune};
use crate::store::Timing;

/// Calls from which on the slowest of them say something.
const ENOUGH: f64 = 10.0;

impl Pipeline {
    /// The candidates of an order for `count` pictures in the order in which they are tried. What was thought of all of
    /// them is noted.
    ///
    /// # Errors
    /// None may be asked.
    pub(super) fn rank<'a>(&self, order: &'a Order, count: u32) -> Result<Vec<&'a Candidate>> {
        let plan = &order.plan;
        let moment = Moment {
            deadline: order.call.deadline,
            max_spend: order.call.max_spend,
            now: self.clock.now(),
            dice: fortune("probe", &order.call) as f64 / u64::MAX as f64,
        };
        let (ranked, considered) = plan.rank(moment, |candidate| self.look_at(order, candidate, count));
        let nobody = ranked.is_empty().then(|| nobody(&plan.route, &considered));
        order.notes.ranked(plan, considered);
        nobody.map_or(Ok(ranked), Err)
    }

    /// Learns how long a call took, or that it failed; and what others are to learn of it, if anything.
    pub(super) fn learn(&self, order: &Order, account: Account<'_>, attempt: &Attempt) -> Option<Timing> {
        let Account { candidate, model, .. } = account;
        let is_made = match &attempt.result {
            Ok(_) => true,
            // It takes at least as long, and goes on.
            Err(_) if attempt.is_still_made() => true,
            Err(fault) if fault.kind.is_its_providers() => false,
            // Who refuses, or is asked too often, is neither slow nor broken.
            Err(_) => return None,
        };
        let name = candidate.known_as();
        let timing = Timing { candidate: name.clone(), took: attempt.calling };
        self.performance.note(attempt.id, &timing, is_made);
        let Some(slow) = order.plan.settings.slow_s.map(f64::from) else { return Some(timing) };
        let known = self.performance.of(&name, model.typical_latency(None), Duration::ZERO);
        if let Some(time) = known.time.filter(|time| time.evidence >= ENOUGH && time.p95 > slow) {
            let (p95, route) = (time.p95, &order.plan.route);
            let message = format!(
                "{name}: one in twenty of its calls takes more than {p95:.1} s, and routes.{route} calls {slow:.0} s slow. \
                 Others are asked first; a deadline_ms would leave it out."
            );
            self.alerts.raise(Alert { kind: AlertKind::SlowCandidate, subject: name, message, at: self.clock.now() });
        }
        Some(timing)
    }

    fn look_at(&self, order: &Order, candidate: &Candidate, count: u32) -> Sight {
        let Maker::Provider(provider, model) = &candidate.maker else { return Sight::of_template() };
        let bound = self.prices.expected(provider, model, &candidate.request, count, order.partials());
        let price = self.prices.estimate(provider, model, &candidate.request, count).usd;
        let typical = model.typical_latency(candidate.request.quality.as_deref());
        let cold_start = Duration::from_secs(u64::from(candidate.choice.cold_start_s.unwrap_or(0)));
        let (name, category) = (candidate.known_as(), order.plan.sense.category.as_deref());
        let known = self.performance.of(&name, typical, cold_start);
        let prior = candidate.prior(bound, count).mean;
        let opinion = self.opinions.opinion(&name, category, prior);
        let quality = Quality { mean: opinion.mean, sd: opinion.sd, evidence: opinion.evidence };
        // Without an objective that weighs quality nobody needs the draw, and the best guess will do.
        let draws = matches!(order.plan.settings.objective, Objective::Quality | Objective::Weights(_));
        let seed = fortune("quality", &order.call);
        let sample = if draws { self.opinions.sample(&name, category, prior, seed) } else { quality.mean };
        Sight {
            bound,
            price,
            time: known.time,
            errors: known.errors,
            quality,
            rating: prior,
            sample,
            is_busy: !self.attempts.could_serve(provider, count.min(model.max_n.max(1))),
            idle: known.idle,
        }
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
        Kind::RuledOut,
        format!("No candidate of {route} may be asked now, and nothing was sent. {}.", reasons.join("; ")),
    )
    .param("model");
    error.code = code;
    error
}
