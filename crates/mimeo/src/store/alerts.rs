//! What the operator is told, and whether it was taken.

use super::sql::{Row, SqlError, Value, lock_name, values};
use super::{Store, StoreError};
use crate::clock::Millis;

/// Something to tell the operator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewAlert {
    /// Now.
    pub at_ms: Millis,
    /// What it is, in one word.
    pub kind: &'static str,
    /// What it is about.
    pub subject: String,
    /// What to know and what to do.
    pub message: String,
    /// True if another message about the same is another alert.
    pub is_event: bool,
    /// True if there is somebody to send it to.
    pub is_to_be_sent: bool,
}

/// Something that the operator was, or is to be, told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AlertRow {
    /// Its place in the list.
    pub seq: i64,
    /// When it was noticed.
    pub at_ms: Millis,
    /// What it is, in one word.
    pub kind: String,
    /// What it is about.
    pub subject: String,
    /// What to know and what to do.
    pub message: String,
    /// How often it was sent.
    pub tries: u32,
    /// When it is sent (again); `None` if it is not.
    pub next_ms: Option<Millis>,
    /// When it was taken.
    pub told_ms: Option<Millis>,
}

const COLUMNS: &str = "seq, at_ms, kind, subject, message, tries, next_ms, told_ms";

impl Store {
    /// Writes an alert down, unless there was one of the same kind and subject, and of events the same message, after
    /// `since` (`None`: ever). True if it was written.
    pub async fn alert(&self, alert: NewAlert, since: Option<Millis>) -> Result<bool, StoreError> {
        self.engine
            .write(move |sql| {
                let NewAlert { at_ms, kind, subject, message, is_event, is_to_be_sent } = &alert;
                sql.lock(lock_name("alert", format!("{kind} {subject}").as_bytes()))?;
                let since = since.unwrap_or(Millis::MIN);
                let about = "SELECT 1 FROM alerts WHERE kind = ?1 AND subject = ?2 AND at_ms > ?3";
                let earlier = if *is_event {
                    sql.first(&format!("{about} AND message = ?4 LIMIT 1"), &values![*kind, subject, since, message])?
                } else {
                    sql.first(&format!("{about} LIMIT 1"), &values![*kind, subject, since])?
                };
                if earlier.is_some() {
                    return Ok(false);
                }
                let next_ms = is_to_be_sent.then_some(*at_ms);
                sql.execute(
                    "INSERT INTO alerts (at_ms, kind, subject, message, next_ms) VALUES (?1, ?2, ?3, ?4, ?5)",
                    &values![*at_ms, *kind, subject, message, next_ms],
                )?;
                Ok(true)
            })
            .await
    }

    /// The last `limit` alerts, oldest first.
    pub async fn alerts(&self, limit: u32) -> Result<Vec<AlertRow>, StoreError> {
        self.engine
            .read(move |sql| {
                let rows =
                    sql.query(&format!("SELECT {COLUMNS} FROM alerts ORDER BY seq DESC LIMIT ?1"), &values![limit])?;
                rows.iter().rev().map(alert_of_row).collect()
            })
            .await
    }

    /// Takes on the alert that has waited longest to be sent, if any is due: nobody sends it again for `pause_ms`, twice
    /// as long with each try, and after `most` tries nobody does.
    pub async fn take_alert(&self, now: Millis, pause_ms: Millis, most: u32) -> Result<Option<AlertRow>, StoreError> {
        self.engine
            .write(move |sql| {
                sql.lock(lock_name("alert", b"sending"))?;
                let due = format!("SELECT {COLUMNS} FROM alerts WHERE next_ms <= ?1 ORDER BY next_ms, seq LIMIT 1");
                let Some(row) = sql.first(&due, &values![now])? else { return Ok(None) };
                let mut alert = alert_of_row(&row)?;
                let pause_ms = pause_ms.saturating_mul(1 << alert.tries.min(20));
                alert.tries = alert.tries.saturating_add(1);
                alert.next_ms = (alert.tries < most).then_some(now.saturating_add(pause_ms));
                sql.execute(
                    "UPDATE alerts SET tries = ?2, next_ms = ?3 WHERE seq = ?1",
                    &[Value::from(alert.seq), Value::from(alert.tries), Value::from(alert.next_ms)],
                )?;
                Ok(Some(alert))
            })
            .await
    }

    /// Notes that an alert was taken: it is not sent again.
    pub async fn told(&self, seq: i64, now: Millis) -> Result<(), StoreError> {
        self.engine
            .write(move |sql| {
                sql.execute("UPDATE alerts SET told_ms = ?2, next_ms = NULL WHERE seq = ?1", &values![seq, now])
                    .map(|_| ())
            })
            .await
    }
}

fn alert_of_row(row: &Row) -> Result<AlertRow, SqlError> {
    Ok(AlertRow {
        seq: row.int(0)?,
        at_ms: row.int(1)?,
        kind: row.text(2)?,
        subject: row.text(3)?,
        message: row.text(4)?,
        tries: row.small(5)?,
        next_ms: row.maybe_int(6)?,
        told_ms: row.maybe_int(7)?,
    })
}
