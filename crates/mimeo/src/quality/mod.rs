//! How good the pictures of a candidate are, as far as anybody has said so, and how sure that is.
//!
//! What people say (`POST /v1/feedback`) and what the configured [`Judge`] says is kept in the store, word by word. From
//! it follows an [`Opinion`] per candidate and category of pictures, which fades with time and which every replica
//! forms for itself from the same rows.

mod belief;
mod beta;
mod judge;
#[cfg(test)]
mod tests;

use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use serde::Serialize;

use crate::clock::{Clock, Millis};
use crate::domain::Digest;
use crate::store::{Feedback, Store, StoreError};
use belief::Votes;
use beta::Beta;
pub use judge::{Judge, NoJudge};

/// What is believed of a candidate of which nothing else is known: the middle, in points.
pub const NEUTRAL: f64 = 50.0;

/// Words that are read at once.
const PAGE: u32 = 1000;

/// After so many half-lives a word weighs a thousandth, and is not read any more.
const HALF_LIVES: f64 = 10.0;

/// What is believed of the quality of a candidate's pictures.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Opinion {
    /// The expected quality, in points from 0 to 100: the share of its pictures that people would take.
    pub mean: f64,
    /// The standard deviation of that, in points.
    pub sd: f64,
    /// Votes that it rests on beside the prior, of the category alone if one was named. Old ones count less.
    pub evidence: f64,
}

impl fmt::Display for Opinion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "quality {:.0} ± {:.0} of 100 by {:.1} votes", self.mean, self.sd, self.evidence)
    }
}

/// One line of all opinions.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Line {
    /// The candidate, as people name it.
    pub candidate: String,
    /// The category; `None` is all of them together.
    pub category: Option<String>,
    /// What is believed, starting from the candidate's prior.
    #[serde(flatten)]
    pub opinion: Opinion,
    /// Where it comes from.
    pub sources: Sources,
}

/// Words that count, by the way in which they were said.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Sources {
    /// Ratings.
    pub rating: u64,
    /// Pictures that were taken or not.
    pub accepted: u64,
    /// Pictures whose clicks were counted.
    pub clicks: u64,
    /// Pictures that the judge has looked at.
    pub judge: u64,
}

/// The opinions of this process. Cheap to clone; all clones share them.
#[derive(Clone, Debug)]
pub struct Opinions(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    store: Arc<Store>,
    clock: Clock,
    half_life: Duration,
    votes: RwLock<Votes>,
    /// The last row that is counted. Who holds it counts; others wait and then find nothing left to do.
    read: tokio::sync::Mutex<i64>,
}

impl Opinions {
    /// None yet: [`Opinions::refresh`] reads what `store` has. A word weighs half after `half_life`.
    pub fn new(store: Arc<Store>, clock: Clock, half_life: Duration) -> Self {
        let votes = RwLock::new(Votes::new(clock.now(), half_life.as_secs_f64() * 1000.0));
        Opinions(Arc::new(Inner { store, clock, half_life, votes, read: tokio::sync::Mutex::new(0) }))
    }

    /// Counts what was said since the last time, in whichever process.
    ///
    /// # Errors
    /// The store cannot be read. What is counted stays.
    pub async fn refresh(&self) -> Result<(), StoreError> {
        let Inner { store, half_life, votes, read, .. } = self.0.as_ref();
        let kept = half_life.as_secs_f64() * 1000.0 * HALF_LIVES;
        // The same for all reads of this process: what was counted once must be found again when it is replaced.
        let since = votes.read().unwrap_or_else(PoisonError::into_inner).reference().saturating_sub(kept as Millis);
        let mut last = read.lock().await;
        loop {
            let page = store.feedback_after(*last, since, PAGE).await?;
            let Some(newest) = page.last().map(|heard| heard.seq) else { return Ok(()) };
            let mut votes = votes.write().unwrap_or_else(PoisonError::into_inner);
            for heard in &page {
                if let Some(replaced) = &heard.replaced {
                    votes.take_back(replaced);
                }
                votes.add(&heard.feedback);
            }
            *last = newest;
        }
    }

    /// Writes words down and counts them.
    ///
    /// # Errors
    /// They could not be written down.
    pub async fn note(&self, words: Vec<Feedback>) -> Result<(), StoreError> {
        self.0.store.add_feedback(words).await?;
        self.refresh().await
    }

    /// What is believed of `candidate` (`provider/model@quality`), in a category of pictures if one is named. `prior` is
    /// what is believed before anybody has said anything, in points from 0 to 100; it counts for eight votes. A category
    /// of which little was said is taken to be like the candidate's others.
    pub fn opinion(&self, candidate: &str, category: Option<&str>, prior: f64) -> Opinion {
        self.votes(|votes, now| votes.opinion(candidate, category, prior / 100.0, now))
    }

    /// A quality that `candidate` may have, in points, drawn from what is believed of it: who takes the candidate with the
    /// highest one tries those of which little is known as often as they may turn out to be the best (Thompson, 1933).
    /// The same seed gives the same for the same candidate and category, and something else for any other.
    pub fn sample(&self, candidate: &str, category: Option<&str>, prior: f64, seed: u64) -> f64 {
        let text = format!("{seed}\0{candidate}\0{}", belief::category(category.unwrap_or_default()));
        let Digest([a, b, c, d, e, f, g, h, ..]) = Digest::of(text.as_bytes());
        let seed = u64::from_le_bytes([a, b, c, d, e, f, g, h]);
        100.0 * self.votes(|votes, now| votes.belief(candidate, category, prior / 100.0, now).0).sample(seed)
    }

    /// All opinions, each candidate as a whole and then by category. `prior` is what a candidate is thought to be worth
    /// before anybody has spoken, in points.
    pub fn list(&self, prior: impl Fn(&str) -> f64) -> Vec<Line> {
        self.votes(|votes, now| {
            let mut lines: Vec<Line> = Vec::new();
            for (candidate, category, sums) in votes.cells() {
                let words = |at: usize| sums.words.get(at).map_or(0, |words| words.unsigned_abs());
                let sources = Sources { rating: words(0), accepted: words(1), clicks: words(2), judge: words(3) };
                let prior = prior(candidate) / 100.0;
                let whole = lines.iter_mut().rfind(|line| line.category.is_none() && line.candidate == candidate);
                match whole {
                    Some(whole) => whole.sources = whole.sources.plus(sources),
                    None => lines.push(Line {
                        candidate: candidate.to_owned(),
                        category: None,
                        opinion: votes.opinion(candidate, None, prior, now),
                        sources,
                    }),
                }
                if !category.is_empty() {
                    lines.push(Line {
                        candidate: candidate.to_owned(),
                        category: Some(category.to_owned()),
                        opinion: votes.opinion(candidate, Some(category), prior, now),
                        sources,
                    });
                }
            }
            lines
        })
    }

    fn votes<T>(&self, ask: impl FnOnce(&Votes, Millis) -> T) -> T {
        ask(&self.0.votes.read().unwrap_or_else(PoisonError::into_inner), self.0.clock.now())
    }
}

impl Sources {
    fn plus(self, other: Sources) -> Sources {
        Sources {
            rating: self.rating + other.rating,
            accepted: self.accepted + other.accepted,
            clicks: self.clicks + other.clicks,
            judge: self.judge + other.judge,
        }
    }
}

/// The chance that a quality is below `floor`, of which `mean` is expected with the standard deviation `sd`; all in
/// points. Nobody is believed to be perfect, so a floor of 100 asks for no more than the best that is believed of anybody.
pub fn chance_below(floor: f64, mean: f64, sd: f64) -> f64 {
    Beta::with(mean / 100.0, sd / 100.0).below((floor / 100.0).min(beta::MOST))
}

/// The name under which a candidate is spoken of: `provider/model@quality`, also where it was the caller who named the
/// quality.
pub fn candidate_name(name: &str, quality: Option<&str>) -> String {
    match quality {
        Some(quality) if !name.contains('@') => format!("{name}@{quality}"),
        _ => name.to_owned(),
    }
}
