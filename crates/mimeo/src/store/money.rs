//! The ledger: the one place that writes money. Rows are appended; what was spent per hour is kept
//! beside them, in the same transaction, so that a budget is a sum of few rows.

use super::sql::{Sql, SqlError, Value, amount, halves, lock_name, values};
use super::{Store, StoreError};
use crate::clock::Millis;
use crate::domain::{AttemptId, Price, RequestId, Usd};

/// Milliseconds of an hour. Every budget's period begins on a full one, in UTC.
const HOUR: Millis = 3_600_000;

/// Whom and what a ledger row is about.
#[derive(Clone, Debug)]
pub struct Subject {
    /// Whose money.
    pub tenant: String,
    /// Name of the key that was used.
    pub api_key: String,
    /// Name of the route, or of the model that was asked for.
    pub route: String,
    /// Provider instance.
    pub provider: String,
    /// The provider's model.
    pub model: String,
    /// What the picture is for.
    pub purpose: Option<String>,
    /// The request.
    pub request: RequestId,
    /// How many pictures.
    pub pictures: u32,
    /// The pot of credits that pays for it in place of money: `ACCOUNT/PERIOD/free/UNIT` or `ACCOUNT/PERIOD/prepaid/UNIT`.
    pub credit: Option<String>,
}

/// Something that was not paid because of a layer of Mimeo.
#[derive(Clone, Debug)]
pub struct Saving {
    /// Which layer: `hit`, `join`, `cascade`.
    pub layer: &'static str,
    /// Whom and what it is about.
    pub subject: Subject,
    /// How much; negative takes back what was noted before.
    pub saved: Price,
    /// Now.
    pub at_ms: Millis,
}

/// What a budget is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Scope {
    /// A key that callers authenticate with.
    Key,
    /// A tenant: all its keys together.
    Tenant,
    /// A route, or a model that is asked for by its own name.
    Route,
    /// A provider's account.
    Provider,
    /// A pot of free or prepaid credits. Whatever is paid on its account in money counts as drawn from it, too: a
    /// provider lets its customers use up what is included before it bills.
    Credit,
}

impl Scope {
    /// As stored and shown.
    pub const fn name(self) -> &'static str {
        match self {
            Scope::Key => "key",
            Scope::Tenant => "tenant",
            Scope::Route => "route",
            Scope::Provider => "provider",
            Scope::Credit => "credit",
        }
    }

    /// All that is out in this scope, and all that was spent since an hour, in one statement: it must see
    /// one state of things, or an attempt that is settled meanwhile is in neither sum.
    const fn used(self) -> &'static str {
        macro_rules! used {
            ($column:literal) => {
                concat!(
                    "SELECT CAST(sum(high) AS BIGINT), CAST(sum(low) AS BIGINT), CAST(sum(n) AS BIGINT) FROM (",
                    "SELECT sum(spent / 1000000) AS high, sum(spent % 1000000) AS low, sum(pictures) AS n ",
                    "FROM spending WHERE scope = ?1 AND name = ?2 AND hour >= ?3 UNION ALL ",
                    "SELECT sum(expected / 1000000), sum(expected % 1000000), sum(pictures) FROM attempts ",
                    "WHERE state IN ('reserved', 'sending', 'accepted', 'unknown') AND credit IS NULL AND ",
                    $column,
                    " = ?2) AS used"
                )
            };
        }
        match self {
            Scope::Key => used!("api_key"),
            Scope::Tenant => used!("tenant"),
            Scope::Route => used!("route"),
            Scope::Provider => used!("provider"),
            Scope::Credit => {
                "SELECT CAST(sum(high) AS BIGINT), CAST(sum(low) AS BIGINT), CAST(sum(n) AS BIGINT) FROM (
                 SELECT sum(spent / 1000000) AS high, sum(spent % 1000000) AS low, sum(pictures) AS n FROM spending
                 WHERE ((scope = ?1 AND name = ?2) OR (scope = 'provider' AND name = ?4)) AND hour >= ?3 UNION ALL
                 SELECT sum(expected / 1000000), sum(expected % 1000000), sum(pictures) FROM attempts
                 WHERE state IN ('reserved', 'sending', 'accepted', 'unknown') AND provider = ?4
                   AND (credit IS NULL OR credit = ?2)) AS used"
            }
        }
    }
}

/// How much a budget allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Allowance {
    /// Money.
    Usd(Usd),
    /// Pictures that are paid for, whatever they cost.
    Pictures(u64),
}

/// A budget that a reservation must fit in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BudgetLimit {
    /// What it is about.
    pub scope: Scope,
    /// The name of the key, tenant, route or provider.
    pub name: String,
    /// How much it allows.
    pub allowance: Allowance,
    /// What was spent counts from here.
    pub since_ms: Millis,
    /// False only warns.
    pub hard: bool,
}

/// What of a budget is used: spent in its period, and all that is set aside or in suspense.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BudgetUse {
    /// Money.
    pub usd: Usd,
    /// Pictures.
    pub pictures: u64,
}

impl BudgetLimit {
    /// True if `pictures` more for `price` do not fit. A price that nobody knows fits no limit in money.
    pub fn is_overrun(&self, used: BudgetUse, price: Price, pictures: u32) -> bool {
        match (self.allowance, price) {
            (Allowance::Usd(limit), Price::Known(price)) => used.usd + price > limit,
            (Allowance::Usd(_), Price::Unknown) => true,
            (Allowance::Pictures(limit), _) => used.pictures + u64::from(pictures) > limit,
        }
    }

    /// The lock under which what is used of it is read and added to.
    pub(super) fn lock(&self) -> i64 {
        // All pots of an account share one, with whatever is paid on it in money.
        let name = if self.scope == Scope::Credit { account_of(&self.name) } else { &self.name };
        lock_name(self.scope.name(), name.as_bytes())
    }

    pub(super) fn used(&self, sql: &mut dyn Sql) -> Result<BudgetUse, SqlError> {
        let hour = self.since_ms.div_euclid(HOUR);
        let mut values = values![self.scope.name(), &self.name, hour].to_vec();
        if self.scope == Scope::Credit {
            values.extend(values![account_of(&self.name)]);
        }
        let sum = sql.first(self.scope.used(), &values)?;
        sum.map_or(Ok(BudgetUse::default()), |row| Ok(BudgetUse { usd: row.sum(0)?, pictures: row.count(2)? }))
    }
}

/// What a ledger row adds to the balances.
#[derive(Clone, Copy, Default)]
pub(super) struct Deltas {
    pub(super) reserved: Usd,
    pub(super) spent: Usd,
    pub(super) suspense: Usd,
    pub(super) saved: Usd,
    pub(super) unpriced: bool,
}

impl Deltas {
    /// Nothing yet, of a price that may be unknown.
    pub(super) fn of(price: Price) -> Deltas {
        Deltas { unpriced: price == Price::Unknown, ..Deltas::default() }
    }
}

/// What a row about a call that credits pay for moves: no money, unless it was billed all the same. And how much
/// it draws on its pot, if that is settled with it. What is taken out of suspense as not billed counts as drawn:
/// whether it was made and covered, or never made, is not known, and a pot is never overrun.
fn on_credit(kind: &str, deltas: Deltas) -> (Deltas, Option<Usd>) {
    let none = Deltas::default();
    match kind {
        "settle" => (none, Some(deltas.spent)),
        "resolve" if deltas.spent.is_zero() => (none, Some(-deltas.suspense)),
        "resolve" => (Deltas { spent: deltas.spent, ..none }, None),
        _ => (none, None),
    }
}

/// The account of a pot. The name of an account has no slash in it.
fn account_of(pot: &str) -> &str {
    pot.split('/').next().unwrap_or_default()
}

/// True if a pot was bought, and is not free of charge.
fn is_prepaid(pot: &str) -> bool {
    pot.split('/').nth(2) == Some("prepaid")
}

/// Writes one row of the ledger, and adds what was spent to its hour.
///
/// What free credits pay for costs nothing, and what it would have cost is saved. What prepaid credits pay for costs
/// nothing more, and nothing is saved by it: the plan's fee is paid in any case, and belongs to no request.
pub(super) fn append(
    sql: &mut dyn Sql,
    kind: &'static str,
    layer: Option<&'static str>,
    subject: &Subject,
    attempt: Option<AttemptId>,
    deltas: Deltas,
    at_ms: Millis,
) -> Result<(), SqlError> {
    if let Some(pot) = &subject.credit {
        let (moved, drawn) = on_credit(kind, deltas);
        let layer = if is_prepaid(pot) { "prepaid" } else { "free" };
        insert(sql, kind, Some(layer), subject, attempt, moved, at_ms)?;
        if let Some(drawn) = drawn {
            if kind == "settle" && !is_prepaid(pot) {
                insert(
                    sql,
                    "save",
                    Some(layer),
                    subject,
                    attempt,
                    Deltas { saved: drawn, ..Deltas::default() },
                    at_ms,
                )?;
            }
            sql.execute(
                "INSERT INTO spending (scope, name, hour, spent, pictures) VALUES ('credit', ?1, ?2, ?3, ?4)
                 ON CONFLICT (scope, name, hour)
                 DO UPDATE SET spent = spending.spent + excluded.spent, pictures = spending.pictures + excluded.pictures",
                &values![pot, at_ms.div_euclid(HOUR), amount(drawn)?, subject.pictures],
            )?;
        }
        return Ok(());
    }
    insert(sql, kind, layer, subject, attempt, deltas, at_ms)
}

fn insert(
    sql: &mut dyn Sql,
    kind: &'static str,
    layer: Option<&'static str>,
    subject: &Subject,
    attempt: Option<AttemptId>,
    deltas: Deltas,
    at_ms: Millis,
) -> Result<(), SqlError> {
    sql.execute(
        "INSERT INTO ledger (at_ms, kind, layer, tenant, api_key, provider, model, purpose, request, attempt, pictures,
                             reserved, spent, suspense, saved, unpriced, route)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17)",
        &values![
            at_ms,
            kind,
            layer,
            &subject.tenant,
            &subject.api_key,
            &subject.provider,
            &subject.model,
            &subject.purpose,
            subject.request.to_bytes(),
            attempt.map(AttemptId::to_bytes),
            subject.pictures,
            amount(deltas.reserved)?,
            amount(deltas.spent)?,
            amount(deltas.suspense)?,
            amount(deltas.saved)?,
            deltas.unpriced,
            &subject.route,
        ],
    )?;
    let was_paid = matches!(kind, "settle" | "resolve") && (!deltas.spent.is_zero() || deltas.unpriced);
    if !was_paid {
        return Ok(());
    }
    // Everybody's rows in the same order of scopes: two transactions never wait for each other in a circle.
    sql.execute(
        "INSERT INTO spending (scope, name, hour, spent, pictures)
         VALUES ('key', ?1, ?5, ?6, ?7), ('tenant', ?2, ?5, ?6, ?7), ('route', ?3, ?5, ?6, ?7), ('provider', ?4, ?5, ?6, ?7)
         ON CONFLICT (scope, name, hour)
         DO UPDATE SET spent = spending.spent + excluded.spent, pictures = spending.pictures + excluded.pictures",
        &values![
            &subject.api_key,
            &subject.tenant,
            &subject.route,
            &subject.provider,
            at_ms.div_euclid(HOUR),
            amount(deltas.spent)?,
            subject.pictures,
        ],
    )?;
    Ok(())
}

/// Writes what a layer saved.
pub(super) fn append_saving(sql: &mut dyn Sql, saving: &Saving) -> Result<(), SqlError> {
    let deltas = Deltas { saved: saving.saved.known().unwrap_or(Usd::ZERO), ..Deltas::of(saving.saved) };
    append(sql, "save", Some(saving.layer), &saving.subject, None, deltas, saving.at_ms)
}

impl Store {
    /// Queues savings for a later commit. A crash may lose the last moment of them: no money moves.
    pub fn record_savings(&self, savings: Vec<Saving>) -> Result<(), StoreError> {
        self.engine.write_later(move |sql| savings.iter().try_for_each(|saving| append_saving(sql, saving)))
    }

    /// What of each budget is used.
    pub async fn budget_use(&self, budgets: Vec<BudgetLimit>) -> Result<Vec<BudgetUse>, StoreError> {
        self.engine.read(move |sql| budgets.iter().map(|budget| budget.used(sql)).collect()).await
    }

    /// Hours and scopes whose kept sum is not the sum of the ledger's rows. Always none.
    pub async fn misspent(&self) -> Result<u64, StoreError> {
        self.engine
            .read(|sql| {
                let kept =
                    sql.first(concat!("SELECT ", halves!("spent"), " FROM spending WHERE scope = 'key'"), &[])?;
                let rows = sql.first(concat!("SELECT ", halves!("spent"), " FROM ledger"), &[])?;
                let sum = |row: Option<super::sql::Row>| row.map_or(Ok(Usd::ZERO), |row| row.sum(0));
                let wrong = sql.first(
                    "SELECT count(*) FROM (
                       SELECT scope, name, hour FROM (
                         SELECT scope, name, hour, spent FROM spending
                         UNION ALL SELECT 'key', api_key, at_ms / 3600000, -spent FROM ledger WHERE spent <> 0
                         UNION ALL SELECT 'tenant', tenant, at_ms / 3600000, -spent FROM ledger WHERE spent <> 0
                         UNION ALL SELECT 'provider', provider, at_ms / 3600000, -spent FROM ledger WHERE spent <> 0
                       ) AS both_sides WHERE scope NOT IN ('route', 'credit') GROUP BY scope, name, hour HAVING sum(spent) <> 0
                     ) AS wrong",
                    &[],
                )?;
                let wrong = wrong.map_or(Ok(0), |row| row.count(0))?;
                Ok(wrong + u64::from(sum(kept)? != sum(rows)?))
            })
            .await
    }
}

impl From<AttemptId> for Value {
    fn from(id: AttemptId) -> Value {
        Value::from(id.to_bytes())
    }
}
