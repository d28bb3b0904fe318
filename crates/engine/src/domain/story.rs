//! The story of a request: what was considered, what was tried, what came of it, and what it cost and saved.
//!
//! It is written down for every request, shown by `GET /v1/requests/{id}` and `mimeo requests show`, and the lines of
//! `explain` are read off it. No prompt is in it unless the operator wants that.

use serde::{Deserialize, Serialize};

use super::answer::Source;
use super::cascade::Stage;
use super::id::{AttemptId, ImageId, RequestId};
use super::money::{Price, Usd};

/// One request from its arrival to its answer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Story {
    /// The request.
    #[serde(rename = "request_id")]
    pub request: RequestId,
    /// The request that this one goes on with: the draft of a final, or the one whose shadow it is.
    #[serde(rename = "parent_id")]
    pub parent: Option<RequestId>,
    /// What it made, if its route makes a draft first, or if it is a shadow.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stage: Option<Stage>,
    /// When it was asked, in milliseconds since the Unix epoch.
    pub at_ms: i64,
    /// Milliseconds from then until its caller was answered.
    pub took_ms: u64,
    /// Whose it is.
    pub tenant: String,
    /// Name of the key that was used.
    pub key: String,
    /// The route, or the model that was asked for by its own name; empty if it came to neither.
    pub route: String,
    /// The model or route as the caller named it.
    pub model: Option<String>,
    /// What the picture is for.
    pub purpose: Option<String>,
    /// What it shows.
    pub category: Option<String>,
    /// The prompt, if the operator wants it kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prompt: Option<String>,
    /// What was read out of the request before candidates were considered, one line each.
    pub reading: Vec<String>,
    /// What the route was told to look for, such as `cheapest`.
    pub objective: Option<String>,
    /// All candidates of the route: first those that were kept, in the order in which they are tried.
    pub candidates: Vec<Considered>,
    /// What was tried for its pictures, in the order in which it ended. If it joined another request, what that one
    /// tried.
    pub attempts: Vec<Tried>,
    /// The request that made its pictures, if that was under way already.
    pub joined: Option<RequestId>,
    /// Where its pictures came from; `None` if there are none.
    pub cache: Option<Source>,
    /// What it is called in the cache.
    pub cache_key: Option<String>,
    /// What it cost; unknown while money is in suspense for it.
    #[serde(rename = "cost_usd")]
    pub cost: Price,
    /// What it would have cost more without Mimeo; may be negative where a saving is taken back.
    #[serde(rename = "saved_usd")]
    pub saved: Option<Usd>,
    /// Its pictures that are stored.
    pub pictures: Vec<ImageId>,
    /// What its caller should know although it succeeded.
    pub warnings: Vec<String>,
    /// What it came to.
    pub outcome: Outcome,
}

/// What a request came to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "status", rename_all = "snake_case")]
pub enum Outcome {
    /// Pictures.
    Ok,
    /// None.
    Error {
        /// What went wrong, as the gateway sees it: `over_budget`, `upstream`, ….
        kind: String,
        /// The `code` that its caller was told.
        code: String,
        /// What its caller was told.
        message: String,
    },
}

/// What became of a candidate before anything was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// It may be tried, in the order of ranks.
    Kept,
    /// It may be tried, and is first or so only to find out how good, or whether back, it is.
    Probe,
    /// It could have served, and was left alone because it is down, throttled or spent.
    Resting,
    /// It cannot serve this request, or is not good, fast or cheap enough.
    Dropped,
}

impl Verdict {
    /// As shown.
    pub const fn name(self) -> &'static str {
        match self {
            Verdict::Kept => "kept",
            Verdict::Probe => "probe",
            Verdict::Resting => "resting",
            Verdict::Dropped => "dropped",
        }
    }
}

/// Why something is so.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reason {
    /// For programs, such as `unsupported_value`.
    pub code: String,
    /// For people: a clause without a full stop.
    pub text: String,
}

/// How long a candidate takes.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Seconds {
    /// The median.
    pub p50: f64,
    /// What nineteen of twenty calls stay below; the median where nothing more is known.
    pub p95: f64,
    /// How many calls speak for it; 0 if it is only what the catalogue says.
    pub evidence: f64,
}

/// How good a candidate's pictures are, from 0 to 100.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Quality {
    /// The best guess.
    pub mean: f64,
    /// How far off it may well be.
    pub sd: f64,
    /// How many opinions speak for it, those that are old or weak counting less; 0 if it is only what the catalogue says.
    pub evidence: f64,
}

/// One candidate of a route, as it was seen when the request came.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Considered {
    /// `provider/model`, `provider/model@quality` or `template/NAME`.
    pub name: String,
    /// In which place it is tried, counted from 1; `None` if it is not.
    pub rank: Option<u32>,
    /// What became of it.
    pub verdict: Verdict,
    /// Why, if it is not simply kept.
    pub reason: Option<Reason>,
    /// What else is to be known of it, such as what its pictures are brought to, a clause each.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
    /// What it would probably cost for all pictures asked for.
    #[serde(rename = "expected_usd")]
    pub expected: Price,
    /// What it would cost at most.
    #[serde(rename = "bound_usd")]
    pub bound: Price,
    /// How long it would take.
    pub seconds: Option<Seconds>,
    /// How good it would be.
    pub quality: Option<Quality>,
    /// What the objective makes of all that: the lowest is tried first.
    pub score: Option<f64>,
}

/// One call, or why one was not made.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Tried {
    /// Whom it went to, as in [`Considered::name`].
    pub candidate: String,
    /// The attempt, as the ledger names it; `None` if nothing was sent.
    #[serde(rename = "attempt_id")]
    pub attempt: Option<AttemptId>,
    /// How it ended: `made`, or why not: `refused`, `failed`, `unknown`, `account_spent`, ….
    pub outcome: String,
    /// The same for people.
    pub text: String,
    /// What was set aside for it.
    #[serde(rename = "expected_usd")]
    pub expected: Price,
    /// What it was billed: zero if certainly nothing, unknown while it is in suspense.
    #[serde(rename = "billed_usd")]
    pub billed: Price,
    /// How long it took, in milliseconds, waiting for the account's limits included.
    pub ms: u64,
}

impl Story {
    /// The lines of `explain`.
    pub fn lines(&self) -> Vec<String> {
        let mut lines = self.reading.clone();
        lines.extend(self.objective.as_ref().map(|objective| format!("objective: {objective}")));
        lines.extend(self.candidates.iter().map(Considered::line));
        let rests = self.candidates.iter().filter(|candidate| candidate.verdict == Verdict::Resting);
        lines.extend(rests.filter_map(|resting| Some(format!("{}: {}", resting.name, resting.reason.as_ref()?.text))));
        lines.extend(self.attempts.iter().map(|tried| format!("{}: {}", tried.candidate, tried.text)));
        if let (Some(source), Some(key)) = (self.cache, &self.cache_key) {
            lines.push(format!("cache: {}, key {key}", source.name()));
        }
        lines
    }

    /// What its own attempts were billed.
    pub fn billed(&self) -> Price {
        if self.joined.is_some() {
            return Price::FREE;
        }
        self.attempts.iter().map(|tried| tried.billed).fold(Price::FREE, Price::plus)
    }
}

impl Considered {
    /// Its line of `explain`.
    pub fn line(&self) -> String {
        let why = self.reason.as_ref().map(|reason| reason.text.as_str()).unwrap_or_default();
        match self.verdict {
            Verdict::Dropped => format!("dropped {}: {why}", self.name),
            Verdict::Kept | Verdict::Probe | Verdict::Resting => {
                let rank = self.rank.map(|rank| format!("{rank}. ")).unwrap_or_default();
                let is_told = self.verdict == Verdict::Probe && !why.is_empty();
                let why = is_told.then_some(why);
                let notes: String =
                    self.notes.iter().map(String::as_str).chain(why).map(|note| format!(" ({note})")).collect();
                format!("{rank}{}{notes}", self.name)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn story() -> Story {
        let considered = |name: &str, rank, verdict| Considered {
            name: name.to_owned(),
            rank,
            verdict,
            reason: None,
            notes: Vec::new(),
            expected: Price::Known(Usd::from_pico(40_000_000_000)),
            bound: Price::Unknown,
            seconds: Some(Seconds { p50: 1.5, p95: 4.0, evidence: 12.0 }),
            quality: None,
            score: None,
        };
        let reason = |code: &str, text: &str| Some(Reason { code: code.to_owned(), text: text.to_owned() });
        let tried = |candidate: &str, outcome: &str, text: &str, billed| Tried {
            candidate: candidate.to_owned(),
            attempt: Some(AttemptId(3)),
            outcome: outcome.to_owned(),
            text: text.to_owned(),
            expected: Price::FREE,
            billed,
            ms: 12,
        };
        Story {
            request: RequestId(1),
            parent: None,
            stage: None,
            at_ms: 5,
            took_ms: 7,
            tenant: "shop".to_owned(),
            key: "web".to_owned(),
            route: "hero".to_owned(),
            model: Some("hero".to_owned()),
            purpose: None,
            category: None,
            prompt: None,
            reading: vec!["category: food".to_owned()],
            objective: Some("cheapest".to_owned()),
            candidates: vec![
                Considered {
                    notes: vec!["in place of a/old".to_owned()],
                    ..considered("a/new", Some(1), Verdict::Kept)
                },
                Considered {
                    reason: reason("down", "left alone for 4 s"),
                    ..considered("b/x", Some(2), Verdict::Resting)
                },
                Considered { reason: reason("probe", "to learn"), ..considered("c/y", Some(3), Verdict::Probe) },
                Considered { reason: reason("unfit", "has no mask"), ..considered("d/z", None, Verdict::Dropped) },
            ],
            attempts: vec![
                tried("a/new", "failed", "failed: 503", Price::FREE),
                tried("c/y", "made", "made 1", Price::Known(Usd::from_pico(7))),
            ],
            joined: None,
            cache: Some(Source::Miss),
            cache_key: Some("abc".to_owned()),
            cost: Price::Known(Usd::from_pico(7)),
            saved: Some(Usd::ZERO),
            pictures: vec![ImageId(9)],
            warnings: Vec::new(),
            outcome: Outcome::Ok,
        }
    }

    #[test]
    fn it_reads_from_top_to_bottom() {
        assert_eq!(
            story().lines(),
            [
                "category: food",
                "objective: cheapest",
                "1. a/new (in place of a/old)",
                "2. b/x",
                "3. c/y (to learn)",
                "dropped d/z: has no mask",
                "b/x: left alone for 4 s",
                "a/new: failed: 503",
                "c/y: made 1",
                "cache: miss, key abc",
            ]
        );
    }

    #[test]
    fn what_is_billed_is_its_own_and_known_or_not() {
        let mut story = story();
        assert_eq!(story.billed(), Price::Known(Usd::from_pico(7)));
        story.attempts[0].billed = Price::Unknown;
        assert_eq!(story.billed(), Price::Unknown);
        story.joined = Some(RequestId(2));
        assert_eq!(story.billed(), Price::FREE);
    }

    #[test]
    fn it_is_written_down_and_read_again() {
        let story = story();
        let text = serde_json::to_string(&story).unwrap();
        assert!(text.contains("\"cost_usd\":\"0.000000000007\"") && text.contains("\"bound_usd\":null"), "{text}");
        assert!(text.contains("\"outcome\":{\"status\":\"ok\"}") && !text.contains("prompt"), "{text}");
        assert_eq!(serde_json::from_str::<Story>(&text).unwrap(), story);
    }
}
