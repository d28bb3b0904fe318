//! Simulated providers under full pressure: how much of what they allow is used, and how often they refuse.

use super::*;

/// How a simulated provider counts.
#[derive(Clone, Copy, Debug)]
enum Kind {
    /// In windows that begin at multiples of their length.
    Fixed,
    /// In windows that end now.
    Sliding,
    /// In a bucket that fills evenly.
    Bucket,
}

/// A provider that allows `count` calls in `window` seconds.
#[derive(Debug)]
struct Provider {
    kind: Kind,
    count: usize,
    window: f64,
    /// Says when to come back, in whole seconds or exactly, or does not.
    says: Option<bool>,
    taken: Vec<f64>,
}

impl Provider {
    /// Takes a call at that second, or says when to come back, if it says so.
    fn call(&mut self, at: f64) -> Result<(), Option<Duration>> {
        let Provider { kind, count, window, .. } = *self;
        let from = match kind {
            Kind::Fixed => (at / window).floor() * window,
            Kind::Sliding | Kind::Bucket => at - window,
        };
        let wait = match kind {
            Kind::Fixed | Kind::Sliding => {
                let within: Vec<f64> = self.taken.iter().copied().filter(|taken| *taken >= from).collect();
                match kind {
                    _ if within.len() < count => 0.0,
                    Kind::Fixed => from + window - at,
                    _ => within[within.len() - count] + window - at,
                }
            }
            Kind::Bucket => {
                // A bucket for a tenth of a window's calls.
                let interval = window / count as f64;
                let due = self.taken.iter().fold(0.0_f64, |due, taken| due.max(*taken) + interval);
                (due - at - interval * (count as f64 / 10.0)).max(0.0)
            }
        };
        if wait <= 0.0 {
            self.taken.push(at);
            return Ok(());
        }
        Err(self.says.map(|exactly| Duration::from_secs_f64(if exactly { wait } else { wait.ceil() })))
    }
}

/// What came of a while of full pressure.
#[derive(Debug)]
struct Outcome {
    /// Calls taken in each second.
    taken: Vec<f64>,
    /// When calls were refused.
    refused: Vec<f64>,
}

/// An answer under way: when it comes, whose it is, when its call was sent, what it says.
type Answer = (f64, usize, f64, Result<(), Option<Duration>>);

/// `clients` callers who begin again as soon as they are answered: refused after 20 ms, served after 300 ms.
fn pressure(provider: &mut Provider, learned: &mut [Learned], clients: usize, seconds: f64) -> Outcome {
    let start = Instant::now();
    let at = |second: f64| start + Duration::from_secs_f64(second);
    let mut refused = Vec::new();
    let mut answers: Vec<Answer> = Vec::new();
    let steps = (seconds * 1000.0) as u32;
    for second in (0..steps).map(|step| f64::from(step) / 1000.0) {
        let now = at(second);
        answers.retain(|(due, who, sent, answer)| {
            if *due > second {
                return true;
            }
            match answer {
                Ok(()) => learned[*who].accepted(at(*sent), now),
                Err(retry_after) => drop(learned[*who].refused(at(*sent), *retry_after, now)),
            }
            false
        });
        for who in 0..learned.len() {
            let own = answers.iter().filter(|(_, whose, ..)| *whose == who).count();
            for _ in own..clients / learned.len() {
                if !learned[who].wait(1, now).is_zero() {
                    break;
                }
                learned[who].take(1, now);
                let answer = provider.call(second);
                if answer.is_err() {
                    refused.push(second);
                }
                answers.push((second + if answer.is_ok() { 0.3 } else { 0.02 }, who, second, answer));
            }
        }
    }
    Outcome { taken: provider.taken.clone(), refused }
}

fn provider(kind: Kind, count: usize, window: f64, says: Option<bool>) -> Provider {
    Provider { kind, count, window, says, taken: Vec::new() }
}

#[test]
fn a_rate_per_second_is_learned_within_seconds() {
    for kind in [Kind::Fixed, Kind::Sliding, Kind::Bucket] {
        for says in [Some(true), Some(false), None] {
            for (count, clients) in [(5, 40), (20, 60)] {
                let mut provider = provider(kind, count, 1.0, says);
                let outcome = pressure(&mut provider, &mut [Learned::default()], clients, 60.0);
                let settled = outcome.taken.iter().filter(|taken| **taken >= 10.0).count() as f64;
                let share = settled / (50.0 * count as f64);
                let late = outcome.refused.iter().filter(|refused| **refused >= 10.0).count();
                // Few calls in a window leave much to rounding.
                let least = if count < 10 { 0.75 } else { 0.85 };
                assert!(share > least, "{kind:?}, says {says:?}, {count} per second: {share:.2} is used");
                assert!(late <= 4, "{kind:?}, says {says:?}, {count} per second: {late} refused in 50 s");
            }
        }
    }
}

#[test]
fn a_rate_per_minute_is_learned_by_the_second_minute() {
    for says in [Some(true), Some(false)] {
        let mut provider = provider(Kind::Fixed, 60, 60.0, says);
        let outcome = pressure(&mut provider, &mut [Learned::default()], 100, 600.0);
        let settled = outcome.taken.iter().filter(|taken| **taken >= 60.0).count() as f64;
        assert!(settled / 540.0 > 0.8, "says {says:?}: {settled} of 540");
        let late = outcome.refused.iter().filter(|refused| **refused >= 60.0).count();
        assert!(late <= 20, "says {says:?}: {late} refused");
    }
}

#[test]
fn replicas_that_know_nothing_of_each_other_find_their_shares() {
    let mut provider = provider(Kind::Fixed, 20, 1.0, Some(true));
    let outcome = pressure(&mut provider, &mut [Learned::default(), Learned::default()], 60, 60.0);
    let settled = outcome.taken.iter().filter(|taken| **taken >= 10.0).count() as f64;
    let late = outcome.refused.iter().filter(|refused| **refused >= 10.0).count();
    assert!(settled / 1000.0 > 0.8, "{settled} of 1000");
    assert!(late as f64 <= settled / 20.0, "{late} refused");
}

fn at(start: Instant, second: f64) -> Instant {
    start + Duration::from_secs_f64(second)
}

#[test]
fn a_refusal_pauses_everybody_for_as_long_as_it_says_and_no_longer_than_may_be() {
    let start = Instant::now();
    let mut learned = Learned::default();
    learned.take(1, start);
    let pause = learned.refused(start, Some(Duration::from_secs(7)), at(start, 0.1));
    assert_eq!(pause, Duration::from_secs(7));
    // A shorter one that is heard later shortens nothing.
    learned.take(1, at(start, 0.2));
    learned.refused(at(start, 0.2), Some(Duration::from_secs(1)), at(start, 0.3));
    assert!(learned.wait(1, at(start, 7.0)) > Duration::ZERO);
    assert!(learned.wait(1, at(start, 7.1)).is_zero());
    let mut learned = Learned::default();
    learned.take(1, start);
    assert_eq!(learned.refused(start, Some(Duration::from_secs(86_400)), start), LONGEST_PAUSE);
}

#[test]
fn without_a_word_pauses_grow_until_one_gets_through() {
    let start = Instant::now();
    let mut learned = Learned::default();
    let mut second = 0.0;
    let mut pauses = Vec::new();
    for _ in 0..12 {
        learned.take(1, at(start, second));
        pauses.push(learned.refused(at(start, second), None, at(start, second + 0.001)).as_secs_f64());
        second += 20.0;
    }
    for (index, pause) in pauses.iter().enumerate() {
        let longest = (0.25 * 2_f64.powi(index as i32)).min(8.0);
        assert!((longest / 2.0..=longest).contains(pause), "pause {index}: {pause}");
    }
    learned.take(1, at(start, second));
    learned.accepted(at(start, second), at(start, second + 1.0));
    learned.take(1, at(start, second + 2.0));
    let pause = learned.refused(at(start, second + 2.0), None, at(start, second + 2.1));
    assert!(pause <= PAUSES.0, "it begins anew: {pause:?}");
}

#[test]
fn who_comes_back_too_early_is_not_slowed_down_for_it() {
    let start = Instant::now();
    let mut learned = Learned::default();
    for _ in 0..20 {
        learned.take(1, start);
    }
    learned.refused(start, None, at(start, 0.01));
    let known = learned.interval(at(start, 0.01));
    for second in [0.3, 0.6, 1.0] {
        learned.take(1, at(start, second));
        learned.refused(at(start, second), None, at(start, second + 0.01));
        assert_eq!(learned.interval(at(start, second + 0.01)), known, "at second {second}");
    }
    // Once one was taken in between, it is a rate that was too high.
    learned.take(1, at(start, 5.0));
    learned.accepted(at(start, 5.0), at(start, 5.3));
    learned.take(1, at(start, 5.4));
    learned.refused(at(start, 5.4), None, at(start, 5.5));
    assert!(learned.interval(at(start, 5.5)) > known);
}

#[test]
fn what_is_left_is_believed_until_then() {
    let start = Instant::now();
    let mut learned = Learned::default();
    let news = |remaining, seconds| RateNews {
        requests: Some(Allowance { remaining, reset: Duration::from_secs(seconds) }),
        pictures: None,
    };
    for second in [0.0, 0.1, 0.2] {
        learned.take(1, at(start, second));
    }
    // The first is told that three are left; two have gone out since.
    learned.heard(start, news(3, 10), at(start, 0.5));
    assert!(learned.wait(1, at(start, 0.5)).is_zero());
    learned.take(1, at(start, 0.5));
    // A little later than told: whoever comes on the stroke comes too early.
    let margin = Duration::from_secs(10) / 64 + TOO_EARLY;
    assert_eq!(learned.wait(1, at(start, 1.0)), Duration::from_secs(9) + margin);
    // What an earlier call was told is no news, and neither is what was true until a moment ago.
    learned.heard(at(start, 0.1), news(0, 1), at(start, 2.0));
    assert_eq!(learned.wait(1, at(start, 2.0)), Duration::from_secs(8) + margin);
    assert!(learned.wait(1, at(start, 10.2)).is_zero());
    let pictures =
        RateNews { requests: None, pictures: Some(Allowance { remaining: 4, reset: Duration::from_secs(20) }) };
    learned.heard(at(start, 10.2), pictures, at(start, 10.2));
    assert!(learned.wait(4, at(start, 10.2)).is_zero() && !learned.wait(5, at(start, 10.2)).is_zero());
}

#[test]
fn a_limit_that_is_gone_is_forgotten() {
    let start = Instant::now();
    let mut learned = Learned::default();
    for _ in 0..20 {
        learned.take(1, start);
    }
    for _ in 0..10 {
        learned.refused(start, Some(Duration::from_secs(1)), at(start, 0.1));
    }
    assert!((0.11..0.13).contains(&learned.interval(at(start, 0.1)).as_secs_f64()), "85 % of 98 % of ten");
    assert!((0.10..0.105).contains(&learned.interval(at(start, 3.1)).as_secs_f64()));
    learned.take(1, at(start, 300.0));
    assert!(learned.interval(at(start, 300.0)).is_zero() && learned.wait(1, at(start, 300.0)).is_zero());
}
