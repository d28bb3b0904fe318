//! The account of every call: what was set aside, billed, given back, is unknown, and what was saved.
//!
//! Rows are only ever appended (a trigger in the database sees to it), each balance is a sum of rows,
//! and a reservation is checked against the budget and written in one transaction. Nothing outside
//! this room and the store writes money.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Unit;
use jiff::tz::TimeZone;

use crate::clock::{Clock, Millis};
use crate::config::{Budget, Period};
use crate::domain::{AttemptId, Call, Delivered, Price, Usd};
use crate::error::{Error, Kind, Result};
use crate::store::{
    BudgetLimit, LedgerEvent, LedgerQuery, LedgerReport, NewAttempt, OpenAttempt, Reserved, Saving, Store, Subject,
};

/// The ledger. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Ledger {
    store: Arc<Store>,
    clock: Clock,
    budgets: Arc<BTreeMap<String, Budget>>,
}

impl Ledger {
    /// A ledger over `store`, with the budgets of the keys by their names.
    pub fn new(store: Arc<Store>, clock: Clock, budgets: BTreeMap<String, Budget>) -> Self {
        Ledger { store, clock, budgets: Arc::new(budgets) }
    }

    /// Sets money aside for an attempt, durably. What it may cost at most must fit the budget of the
    /// key, together with everything that is spent, set aside or unknown already.
    ///
    /// # Errors
    /// The budget does not allow it, or the price is unknown and the key has a budget.
    pub async fn reserve(&self, attempt: NewAttempt) -> Result<()> {
        let now = self.clock.now();
        let key = attempt.subject.api_key.clone();
        let expected = attempt.expected;
        let budget = self.budgets.get(&key);
        if let (Some(_), Price::Unknown) = (budget, expected) {
            return Err(Error::new(
                Kind::OverBudget,
                format!(
                    "Nobody knows what {}/{} costs, and the key `{key}` has a budget. Set providers.{}.prices, or use a \
                     model with a known price.",
                    attempt.subject.provider, attempt.subject.model, attempt.subject.provider
                ),
            )
            .code("price_unknown"));
        }
        let limit = budget.map(|budget| BudgetLimit { limit: budget.usd, since_ms: begin(budget.per, now) });
        match self.store.begin_attempt(attempt, limit, now).await? {
            Reserved::Yes => Ok(()),
            Reserved::No { used } => {
                let (limit, per) = budget.map_or((Usd::ZERO, Period::Total), |budget| (budget.usd, budget.per));
                let wanted = expected.known().unwrap_or(Usd::ZERO);
                let (resets, retry_after) = match end(per, now) {
                    Some(at) => (
                        format!("It resets at {}.", crate::clock::rfc3339(at)),
                        std::time::Duration::try_from_secs_f64((at - now) as f64 / 1000.0).ok(),
                    ),
                    None => ("It does not reset.".to_owned(), None),
                };
                let mut error = Error::new(
                    Kind::OverBudget,
                    format!(
                        "This may cost up to ${wanted}, and the key `{key}` has used ${used} of its budget of ${limit} \
                         per {}. {resets}",
                        word(per)
                    ),
                );
                error.retry_after = retry_after;
                Err(error)
            }
        }
    }

    /// Notes what a layer saved. Queued, not waited for: no money moves.
    pub fn saved(&self, call: &Call, layer: &'static str, pictures: &[Delivered]) {
        // One row per model: they may come from several.
        let mut by_model: BTreeMap<(&str, &str), (u32, Price)> = BTreeMap::new();
        for picture in pictures {
            let (count, saved) = by_model.entry((&picture.provider, &picture.model)).or_insert((0, Price::FREE));
            *count += 1;
            *saved = match (*saved, picture.cost) {
                (Price::Known(sum), Price::Known(cost)) => Price::Known(sum + cost),
                _ => Price::Unknown,
            };
        }
        let at_ms = self.clock.now();
        let savings = by_model
            .into_iter()
            .map(|((provider, model), (count, saved))| Saving {
                layer,
                subject: subject(call, provider, model, count),
                saved,
                at_ms,
            })
            .collect();
        if let Err(error) = self.store.record_savings(savings) {
            tracing::warn!(%error, request = %call.id, "a saving could not be noted");
        }
    }

    /// Sums.
    ///
    /// # Errors
    /// The database fails.
    pub async fn report(&self, query: LedgerQuery) -> Result<LedgerReport> {
        Ok(self.store.ledger(query).await?)
    }

    /// The last rows as written.
    ///
    /// # Errors
    /// The database fails.
    pub async fn events(&self, query: LedgerQuery, limit: u32) -> Result<Vec<LedgerEvent>> {
        Ok(self.store.ledger_events(query, limit).await?)
    }

    /// Attempts whose outcome nobody knows.
    ///
    /// # Errors
    /// The database fails.
    pub async fn suspense(&self, tenant: Option<String>) -> Result<Vec<OpenAttempt>> {
        Ok(self.store.suspense(tenant).await?)
    }

    /// Takes an attempt out of suspense, as the provider's own bill says.
    ///
    /// # Errors
    /// It is not in suspense, or the database fails.
    pub async fn resolve(&self, attempt: AttemptId, billed: Usd) -> Result<()> {
        if billed < Usd::ZERO {
            return Err(Error::bad("billed", "A bill cannot be negative. Use --release if nothing was billed."));
        }
        if self.store.resolve(attempt, billed, self.clock.now()).await? {
            Ok(())
        } else {
            Err(Error::new(
                Kind::NotFound,
                format!("{attempt} is not in suspense. `mimeo ledger suspense` lists what is."),
            ))
        }
    }
}

/// Whom and what a row about `call` is about.
pub fn subject(call: &Call, provider: &str, model: &str, pictures: u32) -> Subject {
    Subject {
        tenant: call.caller.tenant.clone(),
        api_key: call.caller.key.clone(),
        provider: provider.to_owned(),
        model: model.to_owned(),
        purpose: call.purpose.clone(),
        request: call.id,
        pictures,
    }
}

const fn word(period: Period) -> &'static str {
    match period {
        Period::Hour => "hour",
        Period::Day => "day",
        Period::Month => "month",
        Period::Total => "lifetime",
    }
}

/// When the period around `now` began, in UTC.
fn begin(period: Period, now: Millis) -> Millis {
    bounds(period, now).map_or(Millis::MIN, |(begin, _)| begin)
}

/// When the period around `now` ends, in UTC; `None` is never.
fn end(period: Period, now: Millis) -> Option<Millis> {
    bounds(period, now).map(|(_, end)| end)
}

fn bounds(period: Period, now: Millis) -> Option<(Millis, Millis)> {
    let at = jiff::Timestamp::from_millisecond(now).ok()?.to_zoned(TimeZone::UTC);
    let (begin, end) = match period {
        Period::Total => return None,
        Period::Hour => {
            let begin = at.round(jiff::ZonedRound::new().smallest(Unit::Hour).mode(jiff::RoundMode::Trunc)).ok()?;
            let end = begin.checked_add(jiff::Span::new().hours(1)).ok()?;
            (begin, end)
        }
        Period::Day => {
            let begin = at.start_of_day().ok()?;
            let end = begin.checked_add(jiff::Span::new().days(1)).ok()?;
            (begin, end)
        }
        Period::Month => {
            let begin = at.first_of_month().ok()?.start_of_day().ok()?;
            let end = begin.checked_add(jiff::Span::new().months(1)).ok()?;
            (begin, end)
        }
    };
    Some((begin.timestamp().as_millisecond(), end.timestamp().as_millisecond()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn periods_begin_and_end_in_utc() {
        let now = "2026-11-21T08:46:09.123Z".parse::<jiff::Timestamp>().unwrap().as_millisecond();
        let at = |text: &str| text.parse::<jiff::Timestamp>().unwrap().as_millisecond();
        assert_eq!(begin(Period::Hour, now), at("2026-11-21T08:00:00Z"));
        assert_eq!(end(Period::Hour, now), Some(at("2026-11-21T09:00:00Z")));
        assert_eq!(begin(Period::Day, now), at("2026-11-21T00:00:00Z"));
        assert_eq!(end(Period::Day, now), Some(at("2026-11-22T00:00:00Z")));
        assert_eq!(begin(Period::Month, now), at("2026-11-01T00:00:00Z"));
        assert_eq!(end(Period::Month, now), Some(at("2026-12-01T00:00:00Z")));
        assert_eq!(begin(Period::Total, now), Millis::MIN);
        assert_eq!(end(Period::Total, now), None);
    }
}
