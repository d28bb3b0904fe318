//! Settles what is in suspense from a provider's usage export: [`export`] reads it, [`matching`] decides, and here
//! the ledger is asked and told. Deciding changes nothing; see [`Ledger::settle`].

pub mod export;
mod matching;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Display;
use std::time::Duration;

use serde::{Serialize, Serializer};

pub use export::{Columns, Row};
pub use matching::{Comparison, Difference};

use super::Ledger;
use crate::clock::{Millis, millis, rfc3339};
use crate::domain::{AttemptId, Price, Usd};
use crate::error::{Error, Kind, Result};
use crate::store::{LedgerEvent, LedgerQuery, OpenAttempt};
use matching::{Decision, Known, Rules, Standing, decide};

/// How an export is to be read against the ledger.
#[derive(Clone, Debug)]
pub struct Terms {
    /// Whose export it is; attempts at other providers are left alone. Without it a row counts only for the
    /// attempt that it names.
    pub provider: Option<String>,
    /// How far the time of a row may be from the beginning of its attempt, either way.
    pub window: Duration,
    /// What no row may be was not billed, where the export covers its time. Needs `provider`.
    pub absent_means_unbilled: bool,
}

/// What an export says of the ledger.
#[derive(Clone, Debug, Serialize)]
pub struct Reconciliation {
    /// True if the decisions are in the ledger.
    pub applied: bool,
    /// Each attempt in suspense, oldest first.
    pub attempts: Vec<Finding>,
    /// Settled attempts that rows name, as information: they are not changed.
    pub settled: Comparison,
}

/// What becomes of an attempt in suspense.
#[derive(Clone, Debug, Serialize)]
pub struct Finding {
    /// The attempt.
    #[serde(serialize_with = "as_text")]
    pub attempt: AttemptId,
    /// When it began (RFC 3339).
    pub at: String,
    /// The provider.
    pub provider: String,
    /// Its model.
    pub model: String,
    /// Whose.
    pub tenant: String,
    /// The most that it was said to cost; `None` if nobody knew.
    pub up_to_usd: Option<Usd>,
    /// What is to be done, or was.
    pub decision: Verdict,
    /// What it was billed, unless it stays open.
    pub billed_usd: Option<Usd>,
    /// Why.
    pub why: String,
    /// The rows that it may be; the one that it is, if that is known.
    pub candidates: Vec<Row>,
    /// Other attempts that those rows may be as well.
    #[serde(serialize_with = "as_texts")]
    pub rivals: Vec<AttemptId>,
}

/// What is to be done with an attempt in suspense.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// It was billed.
    Bill,
    /// It was not billed.
    Release,
    /// It stays in suspense.
    Open,
}

impl Verdict {
    /// The word for it.
    pub const fn name(self) -> &'static str {
        match self {
            Verdict::Bill => "bill",
            Verdict::Release => "release",
            Verdict::Open => "open",
        }
    }
}

/// How long before the first row a call that it names may have begun.
const LONGEST_CALL: Millis = 24 * 3_600_000;

impl Ledger {
    /// Decides what of the attempts in suspense `rows` settle. Nothing is changed.
    ///
    /// # Errors
    /// The ledger knows no attempt at the provider, or the database fails.
    pub async fn reconcile(&self, rows: &[Row], terms: &Terms) -> Result<Reconciliation> {
        let is_asked = |provider: &str| terms.provider.as_deref().is_none_or(|asked| asked == provider);
        let all = self.suspense(None).await?;
        let some_are_open = !all.is_empty();
        let open: Vec<OpenAttempt> = all.into_iter().filter(|open| is_asked(&open.subject.provider)).collect();
        let window_ms = millis(terms.window);
        let mut events = self.events(span(rows, window_ms), u32::MAX).await?;
        events.retain(|event| is_asked(&event.provider));
        if let Some(provider) = &terms.provider
            && some_are_open
            && open.is_empty()
            && events.is_empty()
        {
            let message = format!(
                "The ledger has no attempt at `{provider}` since this export begins. --provider is its name in the \
                 configuration; `mimeo ledger suspense` shows it before the model."
            );
            return Err(Error::new(Kind::NotFound, message));
        }
        let known = known(&open, events);
        let rules = Rules {
            window_ms,
            one_provider: terms.provider.is_some(),
            absent_means_unbilled: terms.absent_means_unbilled,
        };
        let (decisions, settled) = decide(rows, &known, rules);
        // `known` begins with what is open, so that the decisions are in its order.
        let attempts = open.into_iter().zip(decisions).map(|(open, decision)| finding(open, decision, rows)).collect();
        Ok(Reconciliation { applied: false, attempts, settled })
    }

    /// Writes the decisions of `reconciliation` to the ledger, one by one. What somebody else has settled
    /// meanwhile is left as it is, and said so; the rest may be written by another run.
    ///
    /// # Errors
    /// The database fails; what came before is written.
    pub async fn settle(&self, reconciliation: &mut Reconciliation) -> Result<()> {
        for finding in &mut reconciliation.attempts {
            let Some(billed) = finding.billed_usd else { continue };
            match self.resolve(finding.attempt, billed).await {
                Ok(()) => {}
                Err(error) if error.kind == Kind::NotFound => {
                    (finding.decision, finding.billed_usd) = (Verdict::Open, None);
                    "somebody else settled it meanwhile".clone_into(&mut finding.why);
                }
                Err(error) => return Err(error),
            }
        }
        reconciliation.applied = true;
        Ok(())
    }
}

/// The part of the ledger in which attempts may be that `rows` are about: to its end, because an attempt may have
/// been resolved long after its call.
fn span(rows: &[Row], window_ms: Millis) -> LedgerQuery {
    let is_timed = rows.iter().all(|row| row.at_ms.is_some());
    let first = rows.iter().filter_map(|row| row.at_ms).min().filter(|_| is_timed);
    let reach = window_ms.saturating_add(LONGEST_CALL);
    LedgerQuery { since_ms: first.map(|first| first.saturating_sub(reach)), ..LedgerQuery::default() }
}

/// What is open, followed by the other attempts that begin in `events`, which are in the ledger's order. Of one that
/// begins before them only the end is there, whose time says nothing of the call's.
fn known(open: &[OpenAttempt], events: Vec<LedgerEvent>) -> Vec<Known> {
    let in_suspense = open.iter().map(|open| Known {
        id: open.id,
        model: open.subject.model.clone(),
        at_ms: open.created_ms,
        expected: open.expected,
        standing: Standing::Suspense,
    });
    let opened: BTreeSet<AttemptId> = open.iter().map(|open| open.id).collect();
    let mut others: BTreeMap<AttemptId, Known> = BTreeMap::new();
    for event in events {
        let Some(id) = event.attempt.and_then(|id| id.parse().ok()).filter(|id| !opened.contains(id)) else { continue };
        if event.kind == "reserve" {
            let (model, at_ms, standing) = (event.model, event.at_ms, Standing::UnderWay);
            others.insert(id, Known { id, model, at_ms, expected: Price::Unknown, standing });
        } else if let Some(known) = others.get_mut(&id) {
            known.standing = match event.kind.as_str() {
                // It was free, and is settled: that row came before.
                "save" => continue,
                "settle" => Standing::Billed(event.spent_usd),
                "resolve" if !event.spent_usd.is_zero() => Standing::Billed(event.spent_usd),
                "resolve" | "release" => Standing::Unbilled,
                // In suspense, or resolved between two looks at the ledger.
                _ => Standing::UnderWay,
            };
        }
    }
    in_suspense.chain(others.into_values()).collect()
}

fn finding(open: OpenAttempt, decision: Decision, rows: &[Row]) -> Finding {
    let OpenAttempt { id, subject, expected, created_ms, .. } = open;
    Finding {
        attempt: id,
        at: rfc3339(created_ms),
        provider: subject.provider,
        model: subject.model,
        tenant: subject.tenant,
        up_to_usd: expected.known(),
        decision: match decision.billed {
            Some(usd) if usd.is_zero() => Verdict::Release,
            Some(_) => Verdict::Bill,
            None => Verdict::Open,
        },
        billed_usd: decision.billed,
        why: decision.why,
        candidates: decision.rows.iter().map(|place| rows[*place].clone()).collect(),
        rivals: decision.rivals,
    }
}

fn as_text<S: Serializer>(value: &impl Display, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(value)
}

fn as_texts<S: Serializer>(values: &[impl Display], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(values.iter().map(ToString::to_string))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(attempt: u128, at_ms: Millis, kind: &str, spent: i128) -> LedgerEvent {
        LedgerEvent {
            seq: 0,
            at_ms,
            kind: kind.to_owned(),
            layer: None,
            tenant: String::new(),
            key: String::new(),
            route: String::new(),
            provider: "p".to_owned(),
            model: "m".to_owned(),
            purpose: None,
            request: String::new(),
            attempt: Some(AttemptId(attempt).to_string()),
            pictures: 1,
            reserved_usd: Usd::ZERO,
            spent_usd: Usd::from_pico(spent),
            suspense_usd: Usd::ZERO,
            saved_usd: Usd::ZERO,
            unpriced: false,
        }
    }

    /// What free credits pay for is settled, and then a row says what that saved.
    #[test]
    fn what_was_saved_by_an_attempt_does_not_open_it_again() {
        let events = vec![event(1, 5, "reserve", 0), event(1, 6, "settle", 0), event(1, 6, "save", 0)];
        let standing: Vec<_> = known(&[], events).into_iter().map(|known| known.standing).collect();
        assert_eq!(standing, [Standing::Billed(Usd::ZERO)]);
    }

    #[test]
    fn attempts_stand_where_their_last_row_leaves_them() {
        let events = vec![
            // It began long ago: when it was resolved says nothing of when it was made.
            event(1, 5, "resolve", 7),
            event(2, 10, "reserve", 0),
            event(3, 11, "reserve", 0),
            event(4, 12, "reserve", 0),
            event(5, 13, "reserve", 0),
            event(6, 14, "reserve", 0),
            event(2, 20, "settle", 4),
            event(3, 21, "release", 0),
            event(4, 22, "suspend", 0),
            event(5, 23, "suspend", 0),
            event(4, 90, "resolve", 3),
            event(5, 91, "resolve", 0),
        ];
        let standing: Vec<_> =
            known(&[], events).into_iter().map(|known| (known.id.0, known.at_ms, known.standing)).collect();
        assert_eq!(
            standing,
            [
                (2, 10, Standing::Billed(Usd::from_pico(4))),
                (3, 11, Standing::Unbilled),
                (4, 12, Standing::Billed(Usd::from_pico(3))),
                (5, 13, Standing::Unbilled),
                (6, 14, Standing::UnderWay),
            ]
        );
    }
}
