//! How calls are spaced, so that a provider that counts them finds no more than it allows.
//!
//! Providers count in windows that begin at full minutes, in windows that slide, or in buckets that fill evenly, and
//! rarely say in which. Two rules together keep within all three:
//!
//! * *No window holds too many.* A call begins no earlier than one window after the one that is `count` before it. So
//!   at most `count` calls begin in any window, wherever it begins.
//! * *Bursts are small.* The generic cell rate algorithm spaces calls evenly, and lets a tenth of a window's calls (at
//!   least four) come earlier.
//!
//! Between its beginning here and its arrival there a call is delayed, and not always by the same time. Windows are
//! therefore taken to be 3 % longer than they are: at most 1/1.03, or 97 %, of what is allowed is used.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::Instant;

use crate::config::Limits;

/// A limit on what may begin within a window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Rule {
    /// Its name in the configuration.
    pub name: &'static str,
    /// How many may begin; at least 1.
    pub count: u32,
    /// Within which time.
    pub window: Duration,
    /// True if pictures are counted, false for calls.
    pub of_pictures: bool,
}

impl Rule {
    /// The rules among `limits`.
    pub(super) fn all(limits: &Limits) -> Vec<Rule> {
        let rule = |name, count: Option<u32>, seconds, of_pictures| {
            count.map(|count| Rule { name, count: count.max(1), window: Duration::from_secs(seconds), of_pictures })
        };
        [
            rule("requests_per_second", limits.requests_per_second, 1, false),
            rule("requests_per_minute", limits.requests_per_minute, 60, false),
            rule("pictures_per_minute", limits.pictures_per_minute, 60, true),
        ]
        .into_iter()
        .flatten()
        .collect()
    }

    /// The part of it that one of so many processes may use; never less than 1.
    pub(super) fn shared(self, processes: u32) -> Rule {
        Rule { count: (self.count / processes.max(1)).max(1), ..self }
    }

    /// The window as it is kept, with room for calls that take longer to arrive than others.
    pub(super) fn span(&self) -> Duration {
        self.window + self.window * 3 / 100
    }

    /// Between two of them, if all come evenly spaced.
    pub(super) fn interval(&self) -> Duration {
        self.span() / self.count
    }

    /// How much earlier than evenly spaced one may come.
    pub(super) fn burst(&self) -> Duration {
        self.interval() * (self.count / 10).max(4).min(self.count - 1)
    }

    /// What a call for so many pictures counts. One that is larger than the whole limit counts as the whole limit, or
    /// it could never be made.
    pub(super) fn units(&self, pictures: u32) -> u32 {
        if self.of_pictures { pictures.clamp(1, self.count) } else { 1 }
    }
}

/// What has begun under one rule.
#[derive(Debug)]
pub(super) struct Pace {
    rule: Rule,
    /// When the next one would be due if all came evenly spaced.
    due: Instant,
    /// When the last `count` began, the newest last.
    begun: VecDeque<Instant>,
}

impl Pace {
    pub(super) fn new(rule: Rule, now: Instant) -> Pace {
        Pace { rule, due: now, begun: VecDeque::new() }
    }

    /// How long a call for so many pictures has to wait, where so many processes share the rule.
    pub(super) fn wait(&self, pictures: u32, processes: u32, now: Instant) -> Duration {
        let rule = self.rule.shared(processes);
        let of_spacing = self.due.saturating_duration_since(now).saturating_sub(rule.burst());
        // With this call no more than `count` may have begun within the window.
        let others = (rule.count - rule.units(pictures)) as usize;
        let crowding = self.begun.len().checked_sub(others + 1).and_then(|index| self.begun.get(index));
        let of_window = crowding.map_or(Duration::ZERO, |begun| (*begun + rule.span()).saturating_duration_since(now));
        of_spacing.max(of_window)
    }

    /// Notes that a call for so many pictures begins.
    pub(super) fn take(&mut self, pictures: u32, processes: u32, now: Instant) {
        let rule = self.rule.shared(processes);
        let units = rule.units(pictures);
        self.due = self.due.max(now) + rule.interval() * units;
        self.begun.extend(std::iter::repeat_n(now, units as usize));
        let surplus = self.begun.len().saturating_sub(self.rule.count as usize);
        self.begun.drain(..surplus);
    }

    /// Notes that the call for so many pictures that was let through at `begun` goes out only at `sent`: windows count
    /// from then on, or calls after it would come too early for it.
    pub(super) fn delay(&mut self, pictures: u32, begun: Instant, sent: Instant) {
        let mut units = self.rule.units(pictures);
        self.begun.retain(|other| {
            let is_one = *other == begun && units > 0;
            units -= u32::from(is_one);
            !is_one
        });
        let found = self.rule.units(pictures) - units;
        let at = self.begun.partition_point(|other| *other <= sent);
        for _ in 0..found {
            self.begun.insert(at, sent);
        }
    }

    /// Between two calls for one picture each.
    pub(super) fn interval(&self, processes: u32) -> Duration {
        self.rule.shared(processes).interval()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn rule(count: u32, seconds: u64) -> Rule {
        Rule { name: "x", count, window: Duration::from_secs(seconds), of_pictures: true }
    }

    /// When calls of these sizes begin that come after these pauses, each as early as it may.
    fn run(rule: Rule, calls: &[(u64, u32)]) -> Vec<(Duration, u32)> {
        let start = Instant::now();
        let (mut now, mut pace) = (start, Pace::new(rule, start));
        let one = |(pause, pictures): &(u64, u32)| {
            now += Duration::from_millis(*pause);
            now += pace.wait(*pictures, 1, now);
            assert!(pace.wait(*pictures, 1, now).is_zero());
            pace.take(*pictures, 1, now);
            (now - start, rule.units(*pictures))
        };
        calls.iter().map(one).collect()
    }

    #[test]
    fn full_pressure_uses_what_is_allowed() {
        for (count, seconds) in [(1, 1), (3, 1), (20, 1), (500, 1), (1, 60), (5, 60), (60, 60), (5000, 60)] {
            let rule = rule(count, seconds);
            let begun = run(rule, &vec![(0, 1); 20 * count as usize + 1]);
            let took = begun.last().unwrap().0.as_secs_f64();
            let share = 20.0 * seconds as f64 / took;
            assert!((0.95..0.98).contains(&share), "{count} in {seconds} s: {share}");
        }
    }

    #[test]
    fn a_few_may_come_at_once_and_many_may_not() {
        for (count, at_once) in [(1, 1), (2, 2), (5, 5), (30, 5), (60, 7), (600, 61)] {
            let begun = run(rule(count, 60), &vec![(0, 1); count as usize + 1]);
            assert_eq!(begun.iter().filter(|(at, _)| at.is_zero()).count(), at_once, "{count}");
        }
    }

    #[test]
    fn processes_share_and_nobody_gets_nothing() {
        let start = Instant::now();
        for (processes, count) in [(0, 10), (1, 10), (3, 3), (50, 1)] {
            let mut pace = Pace::new(rule(10, 60), start);
            let mut begun = 0;
            while pace.wait(1, processes, start).is_zero() && begun < 100 {
                pace.take(1, processes, start);
                begun += 1;
            }
            assert_eq!(begun, if count > 5 { 5 } else { count }, "{processes} processes");
            assert_eq!(pace.interval(processes), Duration::from_millis(61_800) / count);
        }
    }

    #[test]
    fn a_call_that_is_held_up_counts_from_when_it_goes_out() {
        let start = Instant::now();
        let mut pace = Pace::new(rule(3, 60), start);
        for _ in 0..3 {
            pace.take(1, 1, start);
        }
        let sent = start + Duration::from_secs(5);
        pace.delay(1, start, sent);
        let window = pace.rule.span();
        assert!(pace.wait(1, 1, start + window).is_zero(), "two of the three are over");
        pace.take(1, 1, start + window);
        pace.take(1, 1, start + window);
        assert_eq!(pace.wait(1, 1, start + window), Duration::from_secs(5));
        // One that is not remembered any more changes nothing.
        pace.delay(1, start, sent + window);
        assert_eq!(pace.wait(1, 1, start + window), Duration::from_secs(5));
    }

    proptest! {
        /// Whatever comes, and however late each call arrives within 3 % of the window, no window of the provider's
        /// holds more than it allows.
        #[test]
        fn no_window_holds_too_many(
            count in 1u32..40,
            seconds in prop_oneof![Just(1u64), Just(60)],
            calls in proptest::collection::vec((prop_oneof![4 => Just(0u64), 1 => 0u64..90_000], 1u32..12, 0.0..0.0299), 1..200),
        ) {
            let rule = rule(count, seconds);
            let sizes: Vec<(u64, u32)> = calls.iter().map(|(pause, pictures, _)| (*pause, *pictures)).collect();
            let mut arrived: Vec<(Duration, u32)> = run(rule, &sizes)
                .into_iter()
                .zip(&calls)
                .map(|((at, units), (.., late))| (at + rule.window.mul_f64(*late), units))
                .collect();
            arrived.sort();
            for (index, (from, _)) in arrived.iter().enumerate() {
                let within = arrived[index..].iter().take_while(|(at, _)| *at < *from + rule.window);
                prop_assert!(within.map(|(_, units)| units).sum::<u32>() <= count);
            }
        }
    }
}
