//! The beta distribution: what is believed of a share between 0 and 1 after so many votes for and against.

/// The least and the most that is expected of anybody: nobody always fails, and nobody never does.
const LEAST: f64 = 0.005;
pub(super) const MOST: f64 = 0.995;

/// Votes that a belief may be as strong as. More of them would not tell it from certainty.
const STRENGTHS: (f64, f64) = (0.1, 1e5);

/// A belief about a share.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Beta {
    /// Votes for, what was believed before included. More than 0.
    pub(super) good: f64,
    /// Votes against, likewise.
    pub(super) bad: f64,
}

impl Beta {
    /// A belief as strong as `votes` votes of which the share `mean` was good.
    pub(super) fn of(mean: f64, votes: f64) -> Beta {
        let mean = mean.clamp(LEAST, MOST);
        Beta { good: mean * votes, bad: (1.0 - mean) * votes }
    }

    /// The belief that has this mean and standard deviation, or the nearest to it that there is.
    pub(super) fn with(mean: f64, sd: f64) -> Beta {
        let mean = mean.clamp(LEAST, MOST);
        let votes = mean * (1.0 - mean) / (sd * sd) - 1.0;
        Beta::of(mean, votes.clamp(STRENGTHS.0, STRENGTHS.1))
    }

    pub(super) fn mean(self) -> f64 {
        self.good / (self.good + self.bad)
    }

    pub(super) fn sd(self) -> f64 {
        let mean = self.mean();
        (mean * (1.0 - mean) / (self.good + self.bad + 1.0)).sqrt()
    }

    /// The chance that the share is below `x`: the regularized incomplete beta function, by its continued fraction
    /// (NIST Digital Library of Mathematical Functions, 8.17.22), which converges fast below the mean; above, by its
    /// mirror image.
    pub(super) fn below(self, x: f64) -> f64 {
        if x <= 0.0 {
            return 0.0;
        }
        if x >= 1.0 {
            return 1.0;
        }
        let Beta { good: a, bad: b } = self;
        let front = (ln_gamma(a + b) - ln_gamma(a) - ln_gamma(b) + a * x.ln() + b * (1.0 - x).ln()).exp();
        let chance = if x < (a + 1.0) / (a + b + 2.0) {
            front * fraction(a, b, x) / a
        } else {
            1.0 - front * fraction(b, a, 1.0 - x) / b
        };
        chance.clamp(0.0, 1.0)
    }

    /// A share drawn from this belief: the same for the same seed.
    pub(super) fn sample(self, seed: u64) -> f64 {
        let mut dice = Dice(seed);
        let good = dice.gamma(self.good);
        let bad = dice.gamma(self.bad);
        if good + bad > 0.0 { good / (good + bad) } else { self.mean() }
    }
}

/// The continued fraction of the incomplete beta function, evaluated from the front (modified Lentz).
fn fraction(a: f64, b: f64, x: f64) -> f64 {
    const TINY: f64 = 1e-300;
    let away_from_zero = |value: f64| if value.abs() < TINY { TINY } else { value };
    let mut c = 1.0;
    let mut d = 1.0 / away_from_zero(1.0 - (a + b) * x / (a + 1.0));
    let mut value = d;
    for m in 1..500 {
        let m = f64::from(m);
        let even = m * (b - m) * x / ((a + 2.0 * m - 1.0) * (a + 2.0 * m));
        let odd = -(a + m) * (a + b + m) * x / ((a + 2.0 * m) * (a + 2.0 * m + 1.0));
        let mut change = 1.0;
        for term in [even, odd] {
            d = 1.0 / away_from_zero(1.0 + term * d);
            c = away_from_zero(1.0 + term / c);
            change = c * d;
            value *= change;
        }
        if (change - 1.0).abs() < 1e-13 {
            break;
        }
    }
    value
}

/// The logarithm of the gamma function for x > 0, to some 14 digits: the approximation of Lanczos, with g = 7.
fn ln_gamma(x: f64) -> f64 {
    const TERMS: [f64; 8] = [
        676.520_368_121_885_1,
        -1_259.139_216_722_402_8,
        771.323_428_777_653_1,
        -176.615_029_162_140_6,
        12.507_343_278_686_905,
        -0.138_571_095_265_720_12,
        9.984_369_578_019_572e-6,
        1.505_632_735_149_311_6e-7,
    ];
    if x < 0.5 {
        // Reflection: below, the series does not hold.
        return (std::f64::consts::PI / (std::f64::consts::PI * x).sin()).ln() - ln_gamma(1.0 - x);
    }
    let x = x - 1.0;
    let terms = TERMS.iter().zip(1..).map(|(term, at)| term / (x + f64::from(at)));
    let sum: f64 = 0.999_999_999_999_809_9 + terms.sum::<f64>();
    let t = x + 7.5;
    0.5 * (2.0 * std::f64::consts::PI).ln() + (x + 0.5) * t.ln() - t + sum.ln()
}

/// Numbers that look random and follow from a seed (SplitMix64).
struct Dice(u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// Evenly between 0 and 1, neither of them included.
    fn even(&mut self) -> f64 {
        ((self.next() >> 11) as f64 + 0.5) / (1u64 << 53) as f64
    }

    /// Normal, with mean 0 and standard deviation 1 (Box and Muller).
    fn normal(&mut self) -> f64 {
        let (radius, angle) = (self.even(), self.even());
        (-2.0 * radius.ln()).sqrt() * (2.0 * std::f64::consts::PI * angle).cos()
    }

    /// Gamma with that shape and scale 1 (Marsaglia and Tsang, 2000).
    fn gamma(&mut self, shape: f64) -> f64 {
        if shape < 1.0 {
            // Their own way to small shapes: one more, made smaller.
            let smaller = self.even().powf(1.0 / shape);
            return self.gamma(shape + 1.0) * smaller;
        }
        let d = shape - 1.0 / 3.0;
        let c = 1.0 / (9.0 * d).sqrt();
        loop {
            let x = self.normal();
            let v = (1.0 + c * x).powi(3);
            if v > 0.0 && self.even().ln() < 0.5 * x * x + d - d * v + d * v.ln() {
                return d * v;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn who_is_certain_is_above_what_is_below() {
        for (mean, certain) in [(0.0, LEAST), (0.5, 0.5), (1.0, MOST)] {
            let belief = Beta::with(mean, 0.0);
            assert!(belief.below(certain - 0.0045) < 0.01 && belief.below(certain + 0.0045) > 0.99, "{belief:?}");
        }
    }

    #[test]
    fn known_values() {
        for (x, expected) in [(1.0, 0.0), (2.0, 0.0), (5.0, 24f64.ln()), (0.5, std::f64::consts::PI.sqrt().ln())] {
            assert!((ln_gamma(x) - expected).abs() < 1e-12, "{x}: {}", ln_gamma(x));
        }
        // With whole numbers it is a sum of binomial chances.
        let beta = Beta { good: 2.0, bad: 3.0 };
        let expected = |x: f64| 6.0 * x * x * (1.0 - x).powi(2) + 4.0 * x.powi(3) * (1.0 - x) + x.powi(4);
        for x in [0.01, 0.2, 0.5, 0.77, 0.99] {
            assert!((beta.below(x) - expected(x)).abs() < 1e-12, "{x}: {} {}", beta.below(x), expected(x));
        }
    }

    /// The area under the density, by the midpoint rule.
    fn area(beta: Beta, x: f64) -> f64 {
        let density = |at: f64| (at.ln() * (beta.good - 1.0) + (1.0 - at).ln() * (beta.bad - 1.0)).exp();
        let steps = 20_000;
        let up_to = |x: f64| (0..steps).map(|i| density((f64::from(i) + 0.5) / f64::from(steps) * x)).sum::<f64>() * x;
        up_to(x) / up_to(1.0)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(40))]

        #[test]
        fn chances_are_areas(good in 1.0f64..60.0, bad in 1.0f64..60.0, x in 0.02f64..0.98) {
            let beta = Beta { good, bad };
            prop_assert!((beta.below(x) - area(beta, x)).abs() < 1e-5, "{} {}", beta.below(x), area(beta, x));
        }

        #[test]
        fn mean_and_deviation_say_all(mean in 0.01f64..0.99, votes in 0.5f64..5e3, x in 0.0f64..1.0) {
            let belief = Beta::of(mean, votes);
            let again = Beta::with(belief.mean(), belief.sd());
            prop_assert!((belief.below(x) - again.below(x)).abs() < 1e-6, "{belief:?} {again:?}");
        }

        #[test]
        fn chances_grow_and_mirror(good in 0.05f64..5e4, bad in 0.05f64..5e4, x in 0.0f64..=1.0, y in 0.0f64..=1.0) {
            let beta = Beta { good, bad };
            let (low, high) = (x.min(y), x.max(y));
            prop_assert!(beta.below(low) <= beta.below(high) + 1e-9);
            let mirror = Beta { good: bad, bad: good }.below(1.0 - x);
            prop_assert!((beta.below(x) + mirror - 1.0).abs() < 1e-7);
        }

        #[test]
        fn samples_are_of_the_distribution(good in 0.2f64..40.0, bad in 0.2f64..40.0, seed in any::<u64>()) {
            let beta = Beta { good, bad };
            prop_assert_eq!(beta.sample(seed), beta.sample(seed));
            let drawn: Vec<f64> = (0..4000).map(|i| beta.sample(seed.wrapping_add(i << 20))).collect();
            prop_assert!(drawn.iter().all(|share| (0.0..=1.0).contains(share)));
            let mean = drawn.iter().sum::<f64>() / 4000.0;
            // Six standard errors: once in a billion.
            prop_assert!((mean - beta.mean()).abs() < 6.0 * beta.sd() / 4000f64.sqrt(), "{mean} {}", beta.mean());
            let below = drawn.iter().filter(|share| **share < beta.mean()).count() as f64 / 4000.0;
            prop_assert!((below - beta.below(beta.mean())).abs() < 0.05);
        }
    }
}
