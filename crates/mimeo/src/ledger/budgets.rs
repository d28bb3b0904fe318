//! Which budgets apply to a call, over which time they count, and what a caller is told of them.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Unit;
use jiff::tz::TimeZone;
use serde::Serialize;

use crate::clock::{Millis, rfc3339};
use crate::config::{self, Budget, Config, Period};
use crate::domain::{Caller, Price, Usd};
use crate::error::{Error, Kind};
use crate::store::{Allowance, BudgetLimit, BudgetUse, Scope, Subject};

/// The budgets of a configuration.
#[derive(Clone, Debug, Default)]
pub struct Budgets(BTreeMap<(Scope, String), Vec<Budget>>);

/// One limit of a budget in its present period.
#[derive(Clone, Debug)]
pub struct Applicable {
    /// For the store.
    pub limit: BudgetLimit,
    per: Period,
    resets_ms: Option<Millis>,
}

/// A limit and what is used of it, as listed.
#[derive(Clone, Debug, Serialize)]
pub struct BudgetListing {
    /// `key`, `tenant`, `route` or `provider`.
    pub scope: &'static str,
    /// Its name.
    pub name: String,
    /// `hour`, `day`, `month` or `total`.
    pub per: &'static str,
    /// The limit in US dollars, if it is one in money.
    pub limit_usd: Option<Usd>,
    /// The limit in pictures, if it is one in pictures.
    pub limit_pictures: Option<u64>,
    /// Spent in this period, set aside and in suspense.
    pub used_usd: Usd,
    /// Pictures paid for in this period, under way and in suspense.
    pub used_pictures: u64,
    /// True only warns.
    pub soft: bool,
    /// When it starts over (RFC 3339); absent is never.
    pub resets_at: Option<String>,
}

impl Budgets {
    /// The budgets that `config` names.
    pub fn of(config: &Config) -> Budgets {
        let mut all = BTreeMap::new();
        let mut add = |scope: Scope, name: &str, budgets: &config::Budgets| {
            if !budgets.0.is_empty() {
                all.insert((scope, name.to_owned()), budgets.0.clone());
            }
        };
        config.keys.iter().for_each(|(name, key)| add(Scope::Key, name, &key.budget));
        config.tenants.iter().for_each(|(name, tenant)| add(Scope::Tenant, name, &tenant.budget));
        config.routes.iter().for_each(|(name, route)| add(Scope::Route, name, &route.budget));
        config.providers.iter().for_each(|(name, provider)| add(Scope::Provider, name, &provider.budget));
        Budgets(all)
    }

    /// What a call about `subject` must fit in at `now`.
    pub fn applicable(&self, subject: &Subject, now: Millis) -> Vec<Applicable> {
        self.of_scopes(
            &[
                (Scope::Key, &subject.api_key),
                (Scope::Tenant, &subject.tenant),
                (Scope::Route, &subject.route),
                (Scope::Provider, &subject.provider),
            ],
            now,
        )
    }

    /// Those of a caller's key and of its tenant at `now`.
    pub fn of_caller(&self, caller: &Caller, now: Millis) -> Vec<Applicable> {
        self.of_scopes(&[(Scope::Key, &caller.key), (Scope::Tenant, &caller.tenant)], now)
    }

    fn of_scopes(&self, scopes: &[(Scope, &String)], now: Millis) -> Vec<Applicable> {
        if self.0.is_empty() {
            return Vec::new();
        }
        let of = |(scope, name): &(Scope, &String)| self.0.get_key_value(&(*scope, (*name).clone()));
        scopes.iter().filter_map(of).flat_map(|((scope, name), budgets)| limits(*scope, name, budgets, now)).collect()
    }

    /// All of them at `now`.
    pub fn all(&self, now: Millis) -> Vec<Applicable> {
        self.0.iter().flat_map(|((scope, name), budgets)| limits(*scope, name, budgets, now)).collect()
    }
}

fn limits(scope: Scope, name: &str, budgets: &[Budget], now: Millis) -> Vec<Applicable> {
    let limit = |budget: &Budget, allowance: Allowance| Applicable {
        limit: BudgetLimit {
            scope,
            name: name.to_owned(),
            allowance,
            since_ms: begin(budget.per, now),
            hard: !budget.soft,
        },
        per: budget.per,
        resets_ms: end(budget.per, now),
    };
    let both = |budget: &Budget| {
        let usd = budget.usd.map(|usd| limit(budget, Allowance::Usd(usd)));
        let pictures = budget.pictures.map(|count| limit(budget, Allowance::Pictures(count)));
        usd.into_iter().chain(pictures)
    };
    budgets.iter().flat_map(both).collect()
}

impl Applicable {
    /// As listed.
    pub fn listing(&self, used: BudgetUse) -> BudgetListing {
        let (limit_usd, limit_pictures) = match self.limit.allowance {
            Allowance::Usd(usd) => (Some(usd), None),
            Allowance::Pictures(count) => (None, Some(count)),
        };
        BudgetListing {
            scope: self.limit.scope.name(),
            name: self.limit.name.clone(),
            per: word(self.per),
            limit_usd,
            limit_pictures,
            used_usd: used.usd,
            used_pictures: used.pictures,
            soft: !self.limit.hard,
            resets_at: self.resets_ms.map(rfc3339),
        }
    }

    /// Which budget it is, its limit and what is used of it.
    fn state(&self, used: BudgetUse) -> String {
        let (scope, name, per) = (self.limit.scope.name(), &self.limit.name, word(self.per));
        match self.limit.allowance {
            Allowance::Usd(limit) => {
                format!("the {scope} `{name}` has used ${} of its budget of ${limit} per {per}", used.usd)
            }
            Allowance::Pictures(limit) => {
                format!("the {scope} `{name}` has used {} of its {limit} pictures per {per}", used.pictures)
            }
        }
    }

    /// What the caller of a call that only overruns a soft budget is told.
    pub fn warning(&self, used: BudgetUse, subject: &Subject, expected: Price) -> String {
        if self.is_unpriced(expected) {
            return format!("A soft budget cannot be kept. {}", unpriced(&self.limit, subject));
        }
        format!("Over a soft budget: {}, before this request.", self.state(used))
    }

    /// True if nobody knows the price of what is to fit in a limit in money.
    fn is_unpriced(&self, expected: Price) -> bool {
        expected == Price::Unknown && matches!(self.limit.allowance, Allowance::Usd(_))
    }

    /// What the caller of a call that does not fit is told.
    pub fn refusal(&self, used: BudgetUse, subject: &Subject, expected: Price, now: Millis) -> Error {
        if self.is_unpriced(expected) {
            let message = unpriced(&self.limit, subject);
            return Error::new(Kind::OverBudget, message).code("price_unknown");
        }
        let price = expected.known().unwrap_or(Usd::ZERO);
        let wanted = match self.limit.allowance {
            Allowance::Usd(_) => format!("This may cost up to ${price}"),
            Allowance::Pictures(_) => format!("This makes up to {} pictures", subject.pictures),
        };
        // What does not fit in an untouched budget is not to be waited for.
        let never = self.limit.is_overrun(BudgetUse::default(), expected, subject.pictures);
        let resets_ms = self.resets_ms.filter(|_| !never);
        let resets = match resets_ms {
            _ if never => "It is more than the whole budget.".to_owned(),
            Some(at) => format!("It resets at {}.", rfc3339(at)),
            None => "It does not reset.".to_owned(),
        };
        let mut error = Error::new(Kind::OverBudget, format!("{wanted}, and {}. {resets}", self.state(used)));
        error.retry_after = resets_ms.and_then(|at| u64::try_from(at - now).ok()).map(Duration::from_millis);
        error
    }
}

fn unpriced(limit: &BudgetLimit, subject: &Subject) -> String {
    let Subject { provider, model, .. } = subject;
    format!(
        "Nobody knows what {provider}/{model} costs, and the {} `{}` has a budget. Set providers.{provider}.prices, or \
         use a model with a known price.",
        limit.scope.name(),
        limit.name,
    )
}

pub(super) const fn word(period: Period) -> &'static str {
    match period {
        Period::Hour => "hour",
        Period::Day => "day",
        Period::Month => "month",
        Period::Total => "total",
    }
}

/// When the period around `now` began, in UTC.
pub(super) fn begin(period: Period, now: Millis) -> Millis {
    bounds(period, now).map_or(Millis::MIN, |(begin, _)| begin)
}

/// When the period around `now` ends, in UTC; `None` is never.
pub(super) fn end(period: Period, now: Millis) -> Option<Millis> {
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
