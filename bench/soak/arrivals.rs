//! When requests come: at random moments, at a steady mean rate, whatever becomes of those before them. Real callers
//! do not wait for each other's answers, and a client that does hides the very delays that overload makes.

use std::time::Duration;

/// A Poisson process: gaps are independent and exponentially distributed.
#[derive(Debug)]
pub struct Arrivals {
    mean: f64,
    state: u64,
}

impl Arrivals {
    /// `rate` arrivals per second on average; the same `seed` gives the same moments.
    pub fn new(rate: f64, seed: u64) -> Self {
        Self { mean: 1.0 / rate, state: seed }
    }

    /// The time from one arrival to the next.
    pub fn gap(&mut self) -> Duration {
        // The uniform number is never 0, whose logarithm would be no number.
        Duration::from_secs_f64(-self.mean * (1.0 - self.uniform()).ln())
    }

    /// A number from 0 up to, but not including, `below`.
    pub fn pick(&mut self, below: usize) -> usize {
        (self.uniform() * below as f64) as usize
    }

    /// At least 0 and below 1: SplitMix64, whose 64 bits of state are enough for so few numbers.
    fn uniform(&mut self) -> f64 {
        self.state = self.state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut bits = self.state;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((bits ^ (bits >> 31)) >> 11) as f64 / (1u64 << 53) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gaps_are_exponential_and_repeat() {
        let mut arrivals = Arrivals::new(100.0, 7);
        let gaps: Vec<f64> = (0..100_000).map(|_| arrivals.gap().as_secs_f64()).collect();
        let mean = gaps.iter().sum::<f64>() / 1e5;
        assert!((0.0099..0.0101).contains(&mean), "{mean}");
        let beyond = gaps.iter().filter(|gap| **gap > 0.02).count() as f64 / 1e5;
        assert!((0.130..0.141).contains(&beyond), "{beyond}: the share above twice the mean is 1/e²");
        let mut again = Arrivals::new(100.0, 7);
        assert!(gaps.iter().take(1000).all(|gap| *gap == again.gap().as_secs_f64()));
        assert!((0..1000).all(|_| again.pick(3) < 3));
    }
}
