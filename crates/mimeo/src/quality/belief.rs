//! From what was said to what is believed. Pure arithmetic.
//!
//! A picture that somebody takes is a vote for its candidate, one that is rejected a vote against it, and a rating between
//! is a vote split in two. What is believed of a candidate is a beta distribution: the prior counts as [`PRIOR`] votes, and
//! every vote adds one. What is believed of it in one category begins with what it is like in the others.

use std::collections::BTreeMap;

use super::Opinion;
use super::beta::Beta;
use crate::clock::Millis;
use crate::store::{Feedback, FeedbackKind};

/// How many votes the prior of a candidate counts for.
const PRIOR: f64 = 8.0;
/// How much the categories of one candidate are alike, as votes: so many of a category's own outweigh what it is like
/// elsewhere.
const KINSHIP: f64 = 8.0;
/// What the judge's word counts beside a person's.
const JUDGE: f64 = 0.25;
/// The most votes that all clicks of a candidate in one category count for: where a picture stands and what it sells
/// matters more to clicks than how well it is made.
const MOST_OF_CLICKS: f64 = 20.0;
/// Clicks and views that a category is taken to have had before any was counted, so that one click is not a rate.
const FIRST_CLICKS: (f64, f64) = (1.0, 50.0);
/// Pairs of candidate and category that are told apart; callers invent categories. Beyond, votes count for the candidate.
const MOST_CELLS: usize = 10_000;

/// What was said of one candidate in one category, in votes of the reference time.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Sums {
    pub(super) good: f64,
    pub(super) bad: f64,
    pub(super) clicks: f64,
    pub(super) views: f64,
    /// Words that count now, by kind, in the order of [`FeedbackKind`].
    pub(super) words: [i64; 4],
}

/// All that was said.
#[derive(Clone, Debug)]
pub(super) struct Votes {
    cells: BTreeMap<(String, String), Sums>,
    /// Clicks and views by category, over all candidates.
    rates: BTreeMap<String, (f64, f64)>,
    /// When a vote weighs exactly one. Earlier ones weigh less.
    reference: Millis,
    half_life_ms: f64,
}

impl Votes {
    pub(super) fn new(reference: Millis, half_life_ms: f64) -> Votes {
        Votes { cells: BTreeMap::new(), rates: BTreeMap::new(), reference, half_life_ms: half_life_ms.max(1.0) }
    }

    /// When a vote weighs exactly one.
    pub(super) const fn reference(&self) -> Millis {
        self.reference
    }

    /// Counts `word`.
    pub(super) fn add(&mut self, word: &Feedback) {
        self.count(word, 1.0);
    }

    /// Takes back what [`Votes::add`] counted.
    pub(super) fn take_back(&mut self, word: &Feedback) {
        self.count(word, -1.0);
    }

    /// What a vote of the time `at` weighs at the time `now`.
    fn weight(&self, at: Millis, now: Millis) -> f64 {
        (at.saturating_sub(now) as f64 / self.half_life_ms).clamp(-1000.0, 64.0).exp2()
    }

    fn count(&mut self, word: &Feedback, sign: f64) {
        let weight = sign * self.weight(word.at_ms, self.reference);
        let mut key = (word.candidate.clone(), category(&word.category));
        if self.cells.len() >= MOST_CELLS && !self.cells.contains_key(&key) {
            key.1.clear();
        }
        let rate = self.rates.entry(key.1.clone()).or_default();
        let sums = self.cells.entry(key).or_default();
        let value = f64::from(word.value);
        let mut vote = |good: f64, votes: f64| {
            sums.good += weight * votes * good;
            sums.bad += weight * votes * (1.0 - good);
        };
        match word.kind {
            FeedbackKind::Rating => vote((value - 1.0) / 4.0, 1.0),
            FeedbackKind::Accepted => vote(value, 1.0),
            FeedbackKind::Judge => vote(value / 100.0, JUDGE),
            FeedbackKind::Clicks => {
                let views = f64::from(word.trials);
                sums.clicks += weight * value;
                sums.views += weight * views;
                rate.0 += weight * value;
                rate.1 += weight * views;
            }
        }
        if let Some(words) = sums.words.get_mut(word.kind as usize) {
            *words += sign as i64;
        }
    }

    /// Votes for and against `candidate` in `category`, as they count at `now`.
    fn votes(&self, category: &str, sums: &Sums, now: Millis) -> (f64, f64) {
        let fade = self.weight(self.reference, now);
        // Taking back what was added leaves rounding behind, which may be below zero.
        let at = |sum: f64| (sum * fade).max(0.0);
        let (good, bad) = self.clicks(category, at(sums.clicks), at(sums.views), fade);
        (at(sums.good) + good, at(sums.bad) + bad)
    }

    /// Clicks as votes. With ρ the rate of clicks over the category's, ρ / (1 + ρ) of them are good: one half at the
    /// category's own rate, two thirds at twice that. A click that was to be expected weighs one vote.
    fn clicks(&self, category: &str, clicks: f64, views: f64, fade: f64) -> (f64, f64) {
        if views <= 0.0 {
            return (0.0, 0.0);
        }
        let (all, of) = self.rates.get(category).copied().unwrap_or_default();
        let rate = ((all * fade).max(0.0) + FIRST_CLICKS.0) / ((of * fade).max(0.0) + FIRST_CLICKS.1);
        let expected = rate * views;
        // One expected click more on both sides: what was hardly shown is like the others.
        let ratio = (clicks + 1.0) / (expected + 1.0);
        let votes = expected.min(MOST_OF_CLICKS);
        let good = ratio / (1.0 + ratio);
        (votes * good, votes * (1.0 - good))
    }

    /// What is believed of `candidate`, in a category if one is named. `prior` is a share between 0 and 1.
    pub(super) fn belief(&self, candidate: &str, wanted: Option<&str>, prior: f64, now: Millis) -> (Beta, f64) {
        let wanted = wanted.map(category).filter(|category| !category.is_empty());
        let (mut own, mut others) = ((0.0, 0.0), (0.0, 0.0));
        let of_candidate =
            self.cells.range((candidate.to_owned(), String::new())..).take_while(|((name, _), _)| name == candidate);
        for ((_, category), sums) in of_candidate {
            let (good, bad) = self.votes(category, sums, now);
            let into = if wanted.as_ref() == Some(category) { &mut own } else { &mut others };
            *into = (into.0 + good, into.1 + bad);
        }
        let prior = Beta::of(prior, PRIOR);
        let whole = Beta { good: prior.good + others.0, bad: prior.bad + others.1 };
        if wanted.is_none() {
            return (whole, others.0 + others.1);
        }
        // How far a category may be from the others, and how little is known of those: variances that add up.
        let strength = 1.0 / (1.0 / (KINSHIP + 1.0) + 1.0 / (whole.good + whole.bad + 1.0)) - 1.0;
        let parent = Beta::of(whole.mean(), strength);
        (Beta { good: parent.good + own.0, bad: parent.bad + own.1 }, own.0 + own.1)
    }

    /// The same in points.
    pub(super) fn opinion(&self, candidate: &str, wanted: Option<&str>, prior: f64, now: Millis) -> Opinion {
        let (belief, evidence) = self.belief(candidate, wanted, prior, now);
        Opinion { mean: 100.0 * belief.mean(), sd: 100.0 * belief.sd(), evidence }
    }

    /// Every candidate and category of which anything was said, in order.
    pub(super) fn cells(&self) -> impl Iterator<Item = (&str, &str, &Sums)> {
        let cells =
            self.cells.iter().map(|((candidate, category), sums)| (candidate.as_str(), category.as_str(), sums));
        cells.filter(|(_, _, sums)| sums.words.iter().any(|words| *words > 0))
    }
}

/// A category as it is compared: how it is spelled does not matter.
pub(super) fn category(text: &str) -> String {
    text.trim().to_lowercase()
}
