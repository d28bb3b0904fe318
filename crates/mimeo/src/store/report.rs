//! Sums of the ledger, and its rows as they were written.

use serde::Serialize;

use super::sql::{Row, Sql, SqlError, Value, halves, values};
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
    /// The route, or the model that was asked for by its name.
    Route,
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
            "route" => GroupBy::Route,
            "purpose" => GroupBy::Purpose,
            "day" => GroupBy::Day,
            _ => return Err(format!("`{text}` is not one of provider, model, tenant, key, route, purpose, day")),
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
            GroupBy::Route => "route",
            GroupBy::Purpose => "coalesce(purpose, '')",
            GroupBy::Day => "at_ms / 86400000",
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
    /// The route, or the model that was asked for by its name.
    pub route: String,
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

const SUMS: &str = concat!(
    halves!("spent"),
    ", ",
    halves!("saved"),
    ", ",
    halves!("suspense"),
    ", ",
    halves!("reserved"),
    ", CAST(sum(CASE WHEN kind IN ('settle', 'resolve') AND (spent > 0 OR unpriced > 0) THEN pictures ELSE 0 END) AS BIGINT)",
    ", CAST(sum(CASE WHEN kind = 'save' THEN pictures ELSE 0 END) AS BIGINT)",
    ", CAST(sum(CASE WHEN kind IN ('settle', 'suspend') THEN unpriced ELSE 0 END) AS BIGINT)"
);
// The comparison first: it tells PostgreSQL of which type the parameter is.
const MATCH: &str = "(tenant = ?1 OR ?1 IS NULL) AND at_ms >= ?2 AND at_ms < ?3";

impl LedgerQuery {
    fn values(&self) -> [Value; 3] {
        values![&self.tenant, self.since_ms.unwrap_or(Millis::MIN), self.until_ms.unwrap_or(Millis::MAX)]
    }
}

impl Store {
    /// Sums of the rows that `query` matches.
    pub async fn ledger(&self, query: LedgerQuery) -> Result<LedgerReport, StoreError> {
        self.engine
            .read(move |sql| {
                let matching = query.values();
                let totals = sql.first(&format!("SELECT {SUMS} FROM ledger WHERE {MATCH}"), &matching)?;
                let totals = totals.map_or(Ok(Totals::default()), |row| totals_at(&row, 0))?;
                let layers = sql.query(
                    &format!(
                        "SELECT layer, {}, CAST(sum(pictures) AS BIGINT) FROM ledger
                         WHERE kind = 'save' AND {MATCH} GROUP BY layer ORDER BY layer",
                        halves!("saved")
                    ),
                    &matching,
                )?;
                let saved_by_layer = layers
                    .iter()
                    .map(|row| {
                        Ok(LayerSaving {
                            layer: row.maybe_text(0)?.unwrap_or_default(),
                            saved_usd: row.sum(1)?,
                            pictures: row.count(3)?,
                        })
                    })
                    .collect::<Result<Vec<_>, SqlError>>()?;
                let rows = match query.group_by {
                    Some(group) => grouped(sql, group, &matching)?,
                    None => Vec::new(),
                };
                Ok(LedgerReport { totals, saved_by_layer, rows })
            })
            .await
    }

    /// The last `limit` rows, oldest first.
    pub async fn ledger_events(&self, query: LedgerQuery, limit: u32) -> Result<Vec<LedgerEvent>, StoreError> {
        self.engine
            .read(move |sql| {
                let [tenant, since, until] = query.values();
                let rows = sql.query(
                    &format!(
                        "SELECT seq, at_ms, kind, layer, tenant, api_key, provider, model, purpose, request, attempt,
                                pictures, reserved, spent, suspense, saved, unpriced, route
                         FROM ledger WHERE {MATCH} ORDER BY seq DESC LIMIT ?4"
                    ),
                    &[tenant, since, until, Value::from(limit)],
                )?;
                rows.iter().rev().map(event_of_row).collect()
            })
            .await
    }
}

fn grouped(sql: &mut dyn Sql, group: GroupBy, matching: &[Value]) -> Result<Vec<LedgerRow>, SqlError> {
    let name = group.expression();
    let rows =
        sql.query(&format!("SELECT {name}, {SUMS} FROM ledger WHERE {MATCH} GROUP BY 1 ORDER BY 1"), matching)?;
    let line = |row: &Row| {
        let name = match group {
            GroupBy::Day => day(row.int(0)?),
            _ => row.text(0)?,
        };
        Ok(LedgerRow { name, totals: totals_at(row, 1)? })
    };
    rows.iter().map(line).collect()
}

/// The date of a day that is counted from the Unix epoch.
fn day(number: i64) -> String {
    let date = crate::clock::rfc3339(number.saturating_mul(86_400_000));
    date.split('T').next().unwrap_or_default().to_owned()
}

fn totals_at(row: &Row, column: usize) -> Result<Totals, SqlError> {
    Ok(Totals {
        spent_usd: row.sum(column)?,
        saved_usd: row.sum(column + 2)?,
        suspense_usd: row.sum(column + 4)?,
        reserved_usd: row.sum(column + 6)?,
        paid_pictures: row.count(column + 8)?,
        saved_pictures: row.count(column + 9)?,
        unpriced: row.count(column + 10)?,
    })
}

fn event_of_row(row: &Row) -> Result<LedgerEvent, SqlError> {
    Ok(LedgerEvent {
        seq: row.int(0)?,
        at_ms: row.int(1)?,
        kind: row.text(2)?,
        layer: row.maybe_text(3)?,
        tenant: row.text(4)?,
        key: row.text(5)?,
        route: row.text(17)?,
        provider: row.text(6)?,
        model: row.text(7)?,
        purpose: row.maybe_text(8)?,
        request: RequestId::from_bytes(row.bytes(9)?).to_string(),
        attempt: row.maybe_bytes(10)?.map(|bytes| AttemptId::from_bytes(bytes).to_string()),
        pictures: row.small(11)?,
        reserved_usd: row.usd(12)?,
        spent_usd: row.usd(13)?,
        suspense_usd: row.usd(14)?,
        saved_usd: row.usd(15)?,
        unpriced: row.flag(16)?,
    })
}
