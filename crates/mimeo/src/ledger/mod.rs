//! The account of every call: what was set aside, billed, given back, is unknown, and what was saved.
//!
//! Rows are only ever appended (a trigger in the database sees to it), each balance is a sum of rows,
//! and a reservation is checked against the budgets and written in one transaction. Nothing outside
//! this room and the store writes money.

mod budgets;
pub mod credits;
pub mod reconcile;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

pub use budgets::{BudgetListing, Budgets};
pub use credits::{Credits, Left, covering};

use crate::clock::{Clock, Millis, rfc3339};
use crate::domain::{AttemptId, Call, Caller, Delivered, Price, RequestId, Usd};
use crate::error::{Error, Kind, Result};
use crate::store::{
    BudgetLimit, LedgerEvent, LedgerQuery, LedgerReport, NewAttempt, OpenAttempt, Reserved, Saving, Scope, Store,
    Subject, Term,
};

/// The ledger. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Ledger {
    store: Arc<Store>,
    clock: Clock,
    budgets: Arc<Budgets>,
    unknown_hold: Option<Duration>,
    credits: Arc<Credits>,
}

/// Whether there is money for an attempt, and reason to spend it.
#[derive(Debug)]
pub enum Reservation {
    /// It is set aside.
    Granted {
        /// Under which the attempt must be ended.
        term: Term,
        /// Soft budgets that are overrun with it, in words.
        warnings: Vec<String>,
    },
    /// Another process is making the same picture.
    UnderWay,
    /// Another process has made the same picture meanwhile.
    Landed,
    /// The account of the provider is spent; another one may have money left.
    AccountSpent(Error),
}

impl Ledger {
    /// A ledger over `store`. An attempt whose outcome nobody knows keeps the same request from being paid
    /// again for `unknown_hold`; `None` is until it is resolved.
    pub fn new(store: Arc<Store>, clock: Clock, budgets: Budgets, unknown_hold: Option<Duration>) -> Self {
        Ledger { store, clock, budgets: Arc::new(budgets), unknown_hold, credits: Arc::default() }
    }

    /// The same, with the free and prepaid credits of accounts.
    #[must_use]
    pub fn with_credits(self, credits: Credits) -> Self {
        Ledger { credits: Arc::new(credits), ..self }
    }

    /// Since when an unknown outcome counts.
    pub fn unknown_since(&self) -> Millis {
        let hold = self.unknown_hold.and_then(|hold| Millis::try_from(hold.as_millis()).ok());
        hold.map_or(Millis::MIN, |hold| self.clock.now().saturating_sub(hold))
    }

    /// Sets money aside for an attempt, durably. What it may cost at most must fit every budget that applies,
    /// together with everything that is spent, set aside or unknown already. `attempt.budgets` is filled in
    /// here. What a pot of credits pays for (`attempt.subject.credit`) must fit in that pot, and in no budget: it
    /// spends no money.
    ///
    /// # Errors
    /// A budget does not allow it, its price is unknown and there is a budget in money, or the same was sent
    /// before and nobody knows what came of it.
    pub async fn reserve(&self, mut attempt: NewAttempt) -> Result<Reservation> {
        let now = self.clock.now();
        if let Some(pot) = attempt.subject.credit.clone() {
            return self.reserve_credit(attempt, &pot, now).await;
        }
        let budgets = self.budgets.applicable(&attempt.subject, now);
        attempt.budgets = budgets.iter().map(|budget| budget.limit.clone()).collect();
        attempt.budgets.extend(self.credits.gate(&attempt.subject.provider));
        let (subject, expected) = (attempt.subject.clone(), attempt.expected);
        Ok(match self.store.begin_attempt(attempt, now).await? {
            Reserved::Yes { term, warnings } => {
                let budget = |(position, used)| budgets.get(position).map(|budget| (budget, used));
                let overrun = warnings.into_iter().filter_map(budget);
                let warnings: Vec<String> =
                    overrun.map(|(budget, used)| budget.warning(used, &subject, expected)).collect();
                for warning in &warnings {
                    tracing::warn!(request = %subject.request, "{warning}");
                }
                Reservation::Granted { term, warnings }
            }
            Reserved::UnderWay => Reservation::UnderWay,
            Reserved::Landed => Reservation::Landed,
            Reserved::Unknown { attempt, request, at_ms } => return Err(still_unknown(attempt, request, at_ms)),
            Reserved::Over { budget, used } => {
                let Some(budget) = budgets.get(budget) else {
                    return Err(Error::internal("ledger", "a budget that nobody has"));
                };
                let refusal = budget.refusal(used, &subject, expected, now);
                if budget.limit.scope != Scope::Provider {
                    return Err(refusal);
                }
                Reservation::AccountSpent(refusal)
            }
        })
    }

    async fn reserve_credit(&self, mut attempt: NewAttempt, pot: &str, now: Millis) -> Result<Reservation> {
        attempt.budgets = self.credits.limits(pot, now);
        if attempt.budgets.is_empty() {
            return Err(Error::internal("ledger", "credits that nobody has"));
        }
        Ok(match self.store.begin_attempt(attempt, now).await? {
            Reserved::Yes { term, .. } => Reservation::Granted { term, warnings: Vec::new() },
            Reserved::UnderWay => Reservation::UnderWay,
            Reserved::Landed => Reservation::Landed,
            Reserved::Unknown { attempt, request, at_ms } => return Err(still_unknown(attempt, request, at_ms)),
            Reserved::Over { .. } => Reservation::AccountSpent(credits::spent(pot)),
        })
    }

    /// All budgets and what is used of them.
    ///
    /// # Errors
    /// The database fails.
    pub async fn budgets(&self) -> Result<Vec<BudgetListing>> {
        self.listed(self.budgets.all(self.clock.now())).await
    }

    /// The budgets of the caller's key and of its tenant, and what is used of them.
    ///
    /// # Errors
    /// The database fails.
    pub async fn budgets_of(&self, caller: &Caller) -> Result<Vec<BudgetListing>> {
        self.listed(self.budgets.of_caller(caller, self.clock.now())).await
    }

    async fn listed(&self, budgets: Vec<budgets::Applicable>) -> Result<Vec<BudgetListing>> {
        let limits: Vec<BudgetLimit> = budgets.iter().map(|budget| budget.limit.clone()).collect();
        let used = self.store.budget_use(limits).await?;
        Ok(budgets.iter().zip(used).map(|(budget, used)| budget.listing(used)).collect())
    }

    /// Notes what a layer saved. Queued, not waited for: no money moves.
    pub fn saved(&self, call: &Call, route: &str, layer: &'static str, pictures: &[Delivered]) {
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
                subject: subject(call, route, provider, model, count),
                saved,
                at_ms,
            })
            .collect();
        self.note(savings);
    }

    /// What `layer` has saved, `amount`, by not having `model` of a provider make pictures; less than nothing takes
    /// that back.
    pub fn spared(&self, call: &Call, route: &str, layer: &'static str, model: (&str, &str), amount: Usd) -> Saving {
        let subject = subject(call, route, model.0, model.1, 0);
        Saving { layer, subject, saved: Price::Known(amount), at_ms: self.clock.now() }
    }

    /// Notes `savings`. Queued, not waited for: no money moves.
    pub fn note(&self, savings: Vec<Saving>) {
        if let Err(error) = self.store.record_savings(savings) {
            tracing::warn!(%error, "a saving could not be noted");
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
pub fn subject(call: &Call, route: &str, provider: &str, model: &str, pictures: u32) -> Subject {
    Subject {
        route: route.to_owned(),
        tenant: call.caller.tenant.clone(),
        api_key: call.caller.key.clone(),
        provider: provider.to_owned(),
        model: model.to_owned(),
        purpose: call.purpose.clone(),
        request: call.asked_as(),
        pictures,
        credit: None,
    }
}

/// What the caller is told of a request that was sent before and may have been billed.
fn still_unknown(attempt: AttemptId, request: RequestId, at_ms: Millis) -> Error {
    let mut error = Error::new(
        Kind::OutcomeUnknown,
        format!(
            "The same was sent at {} by request {request}, and nobody knows whether it was made and billed. Nothing was \
             sent now. Look it up at the provider and say how it ended with `mimeo ledger resolve {attempt}`, or send \
             `retry_unknown`: true to pay for it again knowingly.",
            rfc3339(at_ms)
        ),
    )
    .context("attempt", attempt);
    error.may_have_billed = true;
    error
}
