//! Sums of the ledger, and its rows as they were written.

use rusqlite::{Row, params};
use serde::Serialize;

use super::entries::{Amount, split_sum};
use super::{Store, StoreError};
use crate::clock::Millis;
use crate::domain::{AttemptId, RequestId, Usd};

/// What the rows of a report stand for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GroupBy {
    /// Provider instance.
    Provider,
    /// Provider instance and model.
    Model,
    /// Tenant.
    Tenant,
    /// Name of the key.
    Key,
    /// What the picture was for.
    Purpose,
    /// Day in UTC.
    Day,
}

impl std::str::FromStr for GroupBy {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        Ok(match text {
            "provider" => GroupBy::Provider,
            "model" => GroupBy::Model,
            "tenant" => GroupBy::Tenant,
            "key" => GroupBy::Key,
            "purpose" => GroupBy::Purpose,
            "day" => GroupBy::Day,
            _ => return Err(format!("`{text}` is not one of provider, model, tenant, key, purpose, day")),
        })
    }
}

impl GroupBy {
    /// A constant SQL expression; nothing of a caller's gets here.
    const fn expression(self) -> &'static str {
        match self {
            GroupBy::Provider => "provider",
            GroupBy::Model => "provider || '/' || model",
            GroupBy::Tenant => "tenant",
            GroupBy::Key => "api_key",
            GroupBy::Purpose => "coalesce(purpose, '')",
            GroupBy::Day => "date(at_ms / 1000, 'unixepoch')",
        }
    }
}

/// What to report.
#[derive(Clone, Debug, Default)]
pub struct LedgerQuery {
    /// Only this tenant's rows; `None` is everybody's.
    pub tenant: Option<String>,
    /// What the rows stand for; `None` gives totals only.
    pub group_by: Option<GroupBy>,
    /// From here.
    pub since_ms: Option<Millis>,
    /// Up to, not including, here.
    pub until_ms: Option<Millis>,
}

/// Sums of ledger rows. All amounts are exact decimals.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Totals {
    /// Billed by providers.
    pub spent_usd: Usd,
    /// Not paid because of Mimeo.
    pub saved_usd: Usd,
    /// Sent, and nobody knows whether it was billed.
    pub suspense_usd: Usd,
    /// Set aside for calls under way.
    pub reserved_usd: Usd,
    /// Pictures that were paid for.
    pub paid_pictures: u64,
    /// Pictures that were not.
    pub saved_pictures: u64,
    /// Rows whose amount nobody knows, and that are in no sum.
    pub unpriced: u64,
}

/// One line of a report.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct LedgerRow {
    /// The provider, model, tenant, key, purpose or day.
    pub name: String,
    /// Its sums.
    #[serde(flatten)]
    pub totals: Totals,
}

/// A report.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct LedgerReport {
    /// Sums of all rows that match.
    #[serde(flatten)]
    pub totals: Totals,
    /// What each layer saved.
    pub saved_by_layer: Vec<LayerSaving>,
    /// Sums per group.
    pub rows: Vec<LedgerRow>,
}

/// What a layer saved.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct LayerSaving {
    /// `hit`, `join`, ….
    pub layer: String,
    /// How much.
    pub saved_usd: Usd,
    /// How many pictures.
    pub pictures: u64,
}

/// A row of the ledger, as written.
#[derive(Clone, Debug, Serialize)]
pub struct LedgerEvent {
    /// Position in the ledger.
    pub seq: i64,
    /// When, in milliseconds since the Unix epoch.
    pub at_ms: Millis,
    /// `reserve`, `settle`, `release`, `suspend`, `resolve` or `save`.
    pub kind: String,
    /// For savings: which layer.
    pub layer: Option<String>,
    /// Whose.
    pub tenant: String,
    /// Name of the key.
    pub key: String,
    /// Provider instance.
    pub provider: String,
    /// Model.
    pub model: String,
    /// What the picture was for.
    pub purpose: Option<String>,
    /// The request.
    pub request: String,
    /// The attempt.
    pub attempt: Option<String>,
    /// How many pictures.
    pub pictures: u32,
    /// Change of what is set aside.
    pub reserved_usd: Usd,
    /// Change of what is spent.
    pub spent_usd: Usd,
    /// Change of what is in suspense.
    pub suspense_usd: Usd,
    /// What was saved.
    pub saved_usd: Usd,
    /// True if the amount is not known.
    pub unpriced: bool,
}

const SUMS: &str = "sum(spent / 1000000), sum(spent % 1000000), sum(saved / 1000000), sum(saved % 1000000), \
                    sum(suspense / 1000000), sum(suspense % 1000000), sum(reserved / 1000000), sum(reserved % 1000000), \
                    sum(CASE WHEN kind IN ('settle', 'resolve') AND (spent > 0 OR unpriced) THEN pictures ELSE 0 END), \
                    sum(CASE WHEN kind = 'save' THEN pictures ELSE 0 END), \
                    sum(CASE WHEN kind IN ('settle', 'suspend') THEN unpriced ELSE 0 END)";
const MATCH: &str = "(?1 IS NULL OR tenant = ?1) AND at_ms >= ?2 AND at_ms < ?3";

impl Store {
    /// Sums of the rows that `query` matches.
    pub async fn ledger(&self, query: LedgerQuery) -> Result<LedgerReport, StoreError> {
        self.database
            .read(move |c| {
                let since = query.since_ms.unwrap_or(Millis::MIN);
                let until = query.until_ms.unwrap_or(Millis::MAX);
                let totals = c
                    .prepare_cached(&format!("SELECT {SUMS} FROM ledger WHERE {MATCH}"))?
                    .query_row(params![query.tenant, since, until], |row| totals_at(row, 0))?;
                let mut layers = c.prepare_cached(&format!(
                    "SELECT layer, sum(saved / 1000000), sum(saved % 1000000), sum(pictures) FROM ledger
                     WHERE kind = 'save' AND {MATCH} GROUP BY layer ORDER BY layer"
                ))?;
                let layers = layers.query_map(params![query.tenant, since, until], |row| {
                    Ok(LayerSaving {
                        layer: row.get::<_, Option<String>>(0)?.unwrap_or_default(),
                        saved_usd: split_sum(row, 1)?,
                        pictures: count(row, 3)?,
                    })
                })?;
                let saved_by_layer = layers.collect::<Result<Vec<_>, _>>()?;
                let mut rows = Vec::new();
                if let Some(group) = query.group_by {
                    let name = group.expression();
                    let mut groups = c.prepare_cached(&format!(
                        "SELECT {name}, {SUMS} FROM ledger WHERE {MATCH} GROUP BY 1 ORDER BY 1"
                    ))?;
                    let found = groups.query_map(params![query.tenant, since, until], |row| {
                        Ok(LedgerRow { name: row.get(0)?, totals: totals_at(row, 1)? })
                    })?;
                    rows = found.collect::<Result<Vec<_>, _>>()?;
                }
                Ok(LedgerReport { totals, saved_by_layer, rows })
            })
            .await
    }

    /// The last `limit` rows, oldest first.
    pub async fn ledger_events(&self, query: LedgerQuery, limit: u32) -> Result<Vec<LedgerEvent>, StoreError> {
        self.database
            .read(move |c| {
                let mut events = c.prepare_cached(&format!(
                    "SELECT seq, at_ms, kind, layer, tenant, api_key, provider, model, purpose, request, attempt, pictures,
                            reserved, spent, suspense, saved, unpriced
                     FROM ledger WHERE {MATCH} ORDER BY seq DESC LIMIT ?4"
                ))?;
                let since = query.since_ms.unwrap_or(Millis::MIN);
                let until = query.until_ms.unwrap_or(Millis::MAX);
                let rows = events.query_map(params![query.tenant, since, until, limit], event_of_row)?;
                let mut rows = rows.collect::<Result<Vec<_>, _>>()?;
                rows.reverse();
                Ok(rows)
            })
            .await
    }
}

fn totals_at(row: &Row<'_>, column: usize) -> rusqlite::Result<Totals> {
    Ok(Totals {
        spent_usd: split_sum(row, column)?,
        saved_usd: split_sum(row, column + 2)?,
        suspense_usd: split_sum(row, column + 4)?,
        reserved_usd: split_sum(row, column + 6)?,
        paid_pictures: count(row, column + 8)?,
        saved_pictures: count(row, column + 9)?,
        unpriced: count(row, column + 10)?,
    })
}

fn count(row: &Row<'_>, column: usize) -> rusqlite::Result<u64> {
    Ok(row.get::<_, Option<i64>>(column)?.unwrap_or(0).unsigned_abs())
}

fn event_of_row(row: &Row<'_>) -> rusqlite::Result<LedgerEvent> {
    let attempt: Option<[u8; 16]> = row.get(10)?;
    let amount = |column: usize| row.get::<_, Amount>(column).map(|amount| amount.0);
    Ok(LedgerEvent {
        seq: row.get(0)?,
        at_ms: row.get(1)?,
        kind: row.get(2)?,
        layer: row.get(3)?,
        tenant: row.get(4)?,
        key: row.get(5)?,
        provider: row.get(6)?,
        model: row.get(7)?,
        purpose: row.get(8)?,
        request: RequestId::from_bytes(row.get(9)?).to_string(),
        attempt: attempt.map(|bytes| AttemptId::from_bytes(bytes).to_string()),
        pictures: row.get(11)?,
        reserved_usd: amount(12)?,
        spent_usd: amount(13)?,
        suspense_usd: amount(14)?,
        saved_usd: amount(15)?,
        unpriced: row.get(16)?,
    })
}
