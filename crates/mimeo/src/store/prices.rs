//! What was learned of prices: every change that was noticed at run time, and how far bills were from what was expected.

use super::sql::{Row, SqlError, amount, lock_name, values};
use super::{Store, StoreError};
use crate::clock::Millis;
use crate::domain::Usd;

/// Milliseconds of a day.
const DAY: Millis = 86_400_000;

/// A change of a price.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PriceChange {
    /// When it was noticed.
    pub at_ms: Millis,
    /// From when on it holds.
    pub effective_ms: Millis,
    /// The provider's name in this gateway.
    pub provider: String,
    /// The provider's name for the model.
    pub model: String,
    /// For which quality; empty is whatever the quality.
    pub quality: String,
    /// What held before, as JSON.
    pub old: String,
    /// What holds from then on, as JSON.
    pub new: String,
    /// Who says so: `bills`, or the name of a feed.
    pub source: String,
    /// How sure it is.
    pub certainty: String,
}

/// Settled calls to one model in one quality: one of them to be added, or the sums of a day.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settled {
    /// Days from 1970-01-01, UTC.
    pub day: i64,
    /// The provider's name in this gateway.
    pub provider: String,
    /// The provider's name for the model.
    pub model: String,
    /// The quality asked for; empty is the model's default.
    pub quality: String,
    /// How many calls.
    pub calls: u64,
    /// What was set aside for them.
    pub bound: Usd,
    /// What they were thought to cost.
    pub estimate: Usd,
    /// What they did cost.
    pub billed: Usd,
    /// The differences between the last two, added up without their signs.
    pub missed: Usd,
}

impl Settled {
    /// The day of a time.
    pub fn day_of(at_ms: Millis) -> i64 {
        at_ms.div_euclid(DAY)
    }
}

impl Store {
    /// Writes a change down, unless it is what the same source said last of the same: then somebody else was first.
    /// Returns its place in the history if it was written.
    pub async fn change_price(&self, change: PriceChange) -> Result<Option<i64>, StoreError> {
        self.engine
            .write(move |sql| {
                let PriceChange { provider, model, quality, source, .. } = &change;
                // One after the other, so that whoever has read up to one place misses none that comes to stand before it.
                sql.lock(lock_name("prices", b"history"))?;
                let last = "SELECT seq, new, at_ms FROM price_changes
                            WHERE provider = ?1 AND model = ?2 AND source = ?3 AND quality = ?4 ORDER BY seq DESC LIMIT 1";
                let about = values![provider, model, source, quality];
                if let Some(row) = sql.first(last, &about)?
                    && row.text(1)? == change.new
                {
                    // If it is this very row, its acknowledgement was lost.
                    return Ok(if row.int(2)? == change.at_ms { Some(row.int(0)?) } else { None });
                }
                sql.execute(
                    "INSERT INTO price_changes
                       (at_ms, effective_ms, provider, model, source, quality, old, new, certainty)
                     VALUES (?5, ?6, ?1, ?2, ?3, ?4, ?7, ?8, ?9)",
                    &values![
                        provider,
                        model,
                        source,
                        quality,
                        change.at_ms,
                        change.effective_ms,
                        &change.old,
                        &change.new,
                        &change.certainty,
                    ],
                )?;
                sql.first(last, &about)?.map(|row| row.int(0)).transpose()
            })
            .await
    }

    /// The changes after the one at `seq` (0 is before the first), each with its place in the history, oldest first.
    pub async fn price_changes(&self, seq: i64) -> Result<Vec<(i64, PriceChange)>, StoreError> {
        self.engine
            .read(move |sql| {
                let rows = sql.query(
                    "SELECT seq, at_ms, effective_ms, provider, model, quality, old, new, source, certainty
                     FROM price_changes WHERE seq > ?1 ORDER BY seq",
                    &values![seq],
                )?;
                rows.iter().map(change_of_row).collect()
            })
            .await
    }

    /// Adds a settled call to the sums of its day. Queued: it moves no money, and a crash may lose the last of them.
    pub fn note_settled(&self, call: Settled) -> Result<(), StoreError> {
        self.engine.write_later(move |sql| {
            sql.execute(
                "INSERT INTO price_accuracy (day, provider, model, quality, calls, bound, estimate, billed, missed)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)
                 ON CONFLICT (day, provider, model, quality) DO UPDATE SET
                   calls = price_accuracy.calls + excluded.calls, bound = price_accuracy.bound + excluded.bound,
                   estimate = price_accuracy.estimate + excluded.estimate,
                   billed = price_accuracy.billed + excluded.billed, missed = price_accuracy.missed + excluded.missed",
                &values![
                    call.day,
                    &call.provider,
                    &call.model,
                    &call.quality,
                    call.calls,
                    amount(call.bound)?,
                    amount(call.estimate)?,
                    amount(call.billed)?,
                    amount(call.missed)?,
                ],
            )
            .map(|_| ())
        })
    }

    /// The sums of each day from `day` on, the oldest first.
    pub async fn settled_since(&self, day: i64) -> Result<Vec<Settled>, StoreError> {
        self.engine
            .read(move |sql| {
                let rows = sql.query(
                    "SELECT day, provider, model, quality, calls, bound, estimate, billed, missed
                     FROM price_accuracy WHERE day >= ?1 ORDER BY day, provider, model, quality",
                    &values![day],
                )?;
                rows.iter().map(settled_of_row).collect()
            })
            .await
    }

    /// Pictures that were paid for since a time, by provider and model.
    pub async fn paid_pictures(&self, since_ms: Millis) -> Result<Vec<(String, String, u64)>, StoreError> {
        self.engine
            .read(move |sql| {
                let rows = sql.query(
                    "SELECT provider, model, CAST(sum(pictures) AS BIGINT) FROM ledger
                     WHERE at_ms >= ?1 AND kind IN ('settle', 'resolve') AND (spent > 0 OR unpriced > 0)
                     GROUP BY provider, model",
                    &values![since_ms],
                )?;
                rows.iter().map(|row| Ok((row.text(0)?, row.text(1)?, row.count(2)?))).collect()
            })
            .await
    }
}

fn change_of_row(row: &Row) -> Result<(i64, PriceChange), SqlError> {
    let change = PriceChange {
        at_ms: row.int(1)?,
        effective_ms: row.int(2)?,
        provider: row.text(3)?,
        model: row.text(4)?,
        quality: row.text(5)?,
        old: row.text(6)?,
        new: row.text(7)?,
        source: row.text(8)?,
        certainty: row.text(9)?,
    };
    Ok((row.int(0)?, change))
}

fn settled_of_row(row: &Row) -> Result<Settled, SqlError> {
    Ok(Settled {
        day: row.int(0)?,
        provider: row.text(1)?,
        model: row.text(2)?,
        quality: row.text(3)?,
        calls: row.count(4)?,
        bound: row.usd(5)?,
        estimate: row.usd(6)?,
        billed: row.usd(7)?,
        missed: row.usd(8)?,
    })
}
