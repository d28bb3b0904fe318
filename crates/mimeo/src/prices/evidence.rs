//! What bills were, beside what was set aside for them: learned per model and quality, later calls counting more.

use crate::domain::Usd;
use crate::store::Settled;

/// What of an older call still counts after each newer one.
const KEPT: f64 = 63.0 / 64.0;

/// Parts in which a ratio is counted.
const PARTS: i128 = 1_000_000;

/// What settled calls have taught. The sums are those of decayed means, not of money.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Evidence {
    bound: f64,
    billed: f64,
    missed: f64,
    calls: u64,
}

impl Evidence {
    /// Learns from calls. Those of a day count as if they had come one after the other, all at their mean.
    pub(super) fn add(&mut self, settled: &Settled) {
        let Settled { calls, bound, estimate: _, billed, missed, .. } = settled;
        if *calls == 0 {
            return;
        }
        let count = *calls as f64;
        let left = KEPT.powf(count);
        let weight = (1.0 - left) / (1.0 - KEPT) / count;
        let mix = |old: f64, new: &Usd| old * left + new.approximate() * weight;
        *self = Evidence {
            bound: mix(self.bound, bound),
            billed: mix(self.billed, billed),
            missed: mix(self.missed, missed),
            calls: self.calls.saturating_add(*calls),
        };
    }

    /// What a call is likely to cost for which `bound` is set aside; `bound` itself where nothing is known, and never
    /// more.
    pub(super) fn likely(&self, bound: Usd) -> Usd {
        if self.bound <= 0.0 {
            return bound;
        }
        let ratio = (self.billed / self.bound).clamp(0.0, 1.0);
        // At most PARTS, so the cast is exact.
        let parts = (ratio * PARTS as f64).ceil() as i128;
        let whole = bound.pico().saturating_mul(parts);
        Usd::from_pico(whole.div_euclid(PARTS) + i128::from(whole.rem_euclid(PARTS) > 0)).min(bound)
    }

    /// How far estimates were from bills, as a part of the bills; `None` if nothing was billed yet.
    pub(super) fn error(&self) -> Option<f64> {
        (self.billed > 0.0).then(|| self.missed / self.billed)
    }

    /// Calls that it has learned from.
    pub(super) const fn calls(&self) -> u64 {
        self.calls
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn settled(calls: u64, bound: i128, billed: i128, missed: i128) -> Settled {
        let usd = Usd::from_pico;
        Settled {
            day: 0,
            provider: "studio".into(),
            model: "brush-1".into(),
            quality: String::new(),
            calls,
            bound: usd(bound),
            estimate: usd(bound),
            billed: usd(billed),
            missed: usd(missed),
        }
    }

    #[test]
    fn nothing_known_is_the_bound_and_one_call_is_its_ratio() {
        let mut evidence = Evidence::default();
        assert_eq!(evidence.likely(Usd::from_pico(700)), Usd::from_pico(700));
        assert_eq!((evidence.error(), evidence.calls()), (None, 0));
        evidence.add(&settled(1, 1000, 250, 750));
        assert_eq!(evidence.likely(Usd::from_pico(1000)), Usd::from_pico(250));
        assert_eq!((evidence.error(), evidence.calls()), (Some(3.0), 1));
        // Rounded up: half a pico-dollar is one.
        assert_eq!(evidence.likely(Usd::from_pico(2)), Usd::from_pico(1));
    }

    #[test]
    fn later_calls_count_more_and_a_day_counts_as_its_calls() {
        let mut evidence = Evidence::default();
        evidence.add(&settled(200, 200_000, 100_000, 0));
        for _ in 0..64 {
            evidence.add(&settled(1, 1000, 1000, 0));
        }
        let likely = evidence.likely(Usd::from_pico(1_000_000)).pico();
        // (63/64)⁶⁴ ≈ 0.365 of what is remembered is from before: 1 - 0.365 / 2, a little more as 200 calls are not all.
        assert!((810_000..830_000).contains(&likely), "{likely}");
        let (mut one_by_one, mut at_once) = (Evidence::default(), Evidence::default());
        (0..40).for_each(|_| one_by_one.add(&settled(1, 1000, 300, 30)));
        at_once.add(&settled(40, 40_000, 12_000, 1200));
        assert!((one_by_one.bound - at_once.bound).abs() < at_once.bound / 1e9);
        assert!((one_by_one.error().unwrap() - 0.1).abs() < 1e-9 && (at_once.error().unwrap() - 0.1).abs() < 1e-9);
    }

    proptest! {
        #[test]
        fn an_estimate_is_never_above_the_bound(
            calls in proptest::collection::vec((1u64..50, 0i128..2_000_000, 0i128..4_000_000), 0..30),
            bound in 0i128..10_000_000_000_000,
        ) {
            let mut evidence = Evidence::default();
            for (count, bound, billed) in calls {
                evidence.add(&settled(count, bound, billed, (bound - billed).abs()));
            }
            let likely = evidence.likely(Usd::from_pico(bound));
            prop_assert!(likely >= Usd::ZERO && likely <= Usd::from_pico(bound));
        }
    }
}
