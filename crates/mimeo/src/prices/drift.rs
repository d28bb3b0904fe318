//! When bills say that a price is another one. A pure state machine per model and quality.

use serde::{Deserialize, Serialize};

use crate::domain::Usd;

/// Bills in a row that must differ.
const IN_A_ROW: u32 = 3;

/// How much more or less is billed than the prices say, as two amounts whose quotient it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Ratio {
    /// What a call was billed.
    pub(super) billed: Usd,
    /// What the prices say of it; more than zero.
    pub(super) expected: Usd,
}

impl Ratio {
    /// `usd` times this, rounded up: what is reserved must not be too small.
    pub(super) fn of(self, usd: Usd) -> Usd {
        let whole = usd.pico().saturating_mul(self.billed.pico());
        let divisor = self.expected.pico().max(1);
        Usd::from_pico(whole.div_euclid(divisor) + i128::from(whole.rem_euclid(divisor) > 0))
    }

    /// True if it is the larger one.
    fn is_above(self, other: Ratio) -> bool {
        let across = |a: Usd, b: Usd| a.pico().saturating_mul(b.pico());
        across(self.billed, other.expected) > across(other.billed, self.expected)
    }
}

/// A bill whose amount the prices say exactly.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bill {
    /// What the prices say, without what was learned from bills.
    pub(super) listed: Usd,
    /// What was expected.
    pub(super) expected: Usd,
    /// What the provider says that it took.
    pub(super) billed: Usd,
}

/// What a bill changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Nothing.
    Stands,
    /// From now on this much more or less than the prices say.
    Corrected(Ratio),
    /// Bills are again what the prices say.
    AsListed,
    /// What is listed as free of charge is billed.
    NotFree,
}

/// Bills in a row that were not as expected.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Streak {
    bills: u32,
    /// The dearest of them.
    dearest: Option<Ratio>,
}

impl Streak {
    /// Takes in a bill. `tolerance` is in thousandths.
    pub(super) fn take(&mut self, bill: Bill, tolerance: u32) -> Verdict {
        let Bill { listed, expected, billed } = bill;
        if is_near(billed, expected, tolerance) {
            *self = Streak::default();
            return Verdict::Stands;
        }
        self.bills += 1;
        if listed.is_zero() {
            return if self.bills == IN_A_ROW { Verdict::NotFree } else { Verdict::Stands };
        }
        let ratio = Ratio { billed, expected: listed };
        // Where bills vary, the dearest is what is safe to set aside.
        let dearest = self.dearest.filter(|dearest| !ratio.is_above(*dearest)).unwrap_or(ratio);
        self.dearest = Some(dearest);
        if self.bills < IN_A_ROW {
            return Verdict::Stands;
        }
        *self = Streak::default();
        if is_near(dearest.billed, dearest.expected, tolerance) {
            Verdict::AsListed
        } else {
            Verdict::Corrected(dearest)
        }
    }
}

/// True if the two amounts differ by at most `tolerance` thousandths of the second.
fn is_near(billed: Usd, expected: Usd, tolerance: u32) -> bool {
    let off = (billed.pico() - expected.pico()).abs();
    off.saturating_mul(1000) <= expected.pico().abs().saturating_mul(i128::from(tolerance))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn bill(listed: i128, expected: i128, billed: i128) -> Bill {
        let usd = Usd::from_pico;
        Bill { listed: usd(listed), expected: usd(expected), billed: usd(billed) }
    }

    #[test]
    fn three_in_a_row_and_no_fewer() {
        let mut streak = Streak::default();
        let dear = bill(100, 100, 150);
        for bill in [dear, dear, bill(100, 100, 102), dear, dear] {
            assert_eq!(streak.take(bill, 20), Verdict::Stands);
        }
        let ratio = Ratio { billed: Usd::from_pico(150), expected: Usd::from_pico(100) };
        assert_eq!(streak.take(dear, 20), Verdict::Corrected(ratio));
        assert_eq!(ratio.of(Usd::from_pico(101)), Usd::from_pico(152));
        // From now on 150 is expected, and comes.
        assert_eq!(streak.take(bill(100, 150, 150), 20), Verdict::Stands);
        // Until it is as listed again.
        for _ in 0..2 {
            assert_eq!(streak.take(bill(100, 150, 100), 20), Verdict::Stands);
        }
        assert_eq!(streak.take(bill(100, 150, 100), 20), Verdict::AsListed);
    }

    #[test]
    fn bills_that_vary_leave_the_dearest() {
        let mut streak = Streak::default();
        assert_eq!(streak.take(bill(100, 100, 130), 20), Verdict::Stands);
        assert_eq!(streak.take(bill(200, 200, 300), 20), Verdict::Stands);
        let dearest = Ratio { billed: Usd::from_pico(300), expected: Usd::from_pico(200) };
        assert_eq!(streak.take(bill(100, 100, 50), 20), Verdict::Corrected(dearest));
    }

    #[test]
    fn what_is_listed_as_free_has_no_ratio() {
        let mut streak = Streak::default();
        let verdicts = [(); 4].map(|()| streak.take(bill(0, 0, 5), 20));
        assert_eq!(verdicts, [Verdict::Stands, Verdict::Stands, Verdict::NotFree, Verdict::Stands]);
        assert_eq!(streak.take(bill(0, 0, 0), 20), Verdict::Stands);
    }

    proptest! {
        #[test]
        fn a_corrected_price_covers_the_bill(listed in 1i128..1_000_000_000_000, billed in 0i128..1_000_000_000_000) {
            let mut streak = Streak::default();
            let mut verdict = Verdict::Stands;
            for _ in 0..IN_A_ROW {
                verdict = streak.take(bill(listed, listed, billed), 20);
            }
            if let Verdict::Corrected(ratio) = verdict {
                prop_assert_eq!(ratio.of(Usd::from_pico(listed)), Usd::from_pico(billed));
            } else {
                prop_assert!((listed - billed).abs() * 1000 <= listed * 20);
            }
        }
    }
}
