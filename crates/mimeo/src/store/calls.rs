//! What calls that have ended teach about those who made them: to this process when it begins, and to the others.

use std::time::Duration;

use super::sql::{SqlError, values};
use super::{Store, StoreError};
use crate::clock::Millis;
use crate::domain::AttemptId;

/// What an attempt says about who was asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Timing {
    /// Who, as people name it: `provider/model@quality`.
    pub candidate: String,
    /// How long it took, to the last byte, without waiting for the limits of the account.
    pub took: Duration,
}

/// A call that has ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PastCall {
    /// The attempt.
    pub attempt: AttemptId,
    /// Who was asked, and how long it took.
    pub timing: Timing,
    /// True if pictures came of it.
    pub is_made: bool,
    /// When it ended, by the clock of the process that made it.
    pub at_ms: Millis,
}

impl Store {
    /// The newest calls of all processes that have ended since then, at most `limit`, oldest first. Without those that
    /// say nothing about who was asked, such as refusals.
    pub async fn calls_since(&self, since: Millis, limit: u32) -> Result<Vec<PastCall>, StoreError> {
        self.engine
            .read(move |sql| {
                let rows = sql.query(
                    "SELECT id, candidate, took_ms, state, updated_ms FROM attempts
                     WHERE took_ms IS NOT NULL AND updated_ms >= ?1 AND state IN ('done', 'failed', 'unknown')
                     ORDER BY updated_ms DESC, id LIMIT ?2",
                    &values![since, limit],
                )?;
                let calls = rows.iter().rev().map(|row| {
                    let took = Duration::from_millis(row.count(2)?);
                    Ok(PastCall {
                        attempt: AttemptId::from_bytes(row.bytes(0)?),
                        timing: Timing { candidate: row.text(1)?, took },
                        is_made: row.text(3)? == "done",
                        at_ms: row.int(4)?,
                    })
                });
                calls.collect::<Result<_, SqlError>>()
            })
            .await
    }
}
