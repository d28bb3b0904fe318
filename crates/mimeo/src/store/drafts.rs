//! Drafts that can be made final, with what was asked for.

use bytes::Bytes;

use super::money::{Saving, append_saving};
use super::sql::{Row, Sql, SqlError, Value, amount, lock_name, values};
use super::{Store, StoreError};
use crate::clock::Millis;
use crate::domain::{Digest, ImageId, Picture, RequestId, Usd, WishId};

/// How long it is known of an expired draft that there was one.
const REMEMBERED: Millis = 30 * 24 * 3_600_000;

/// A draft to be kept.
#[derive(Clone, Debug)]
pub struct NewDraft {
    /// The picture.
    pub picture: ImageId,
    /// Names what was asked for: the same picture may be the draft of several requests.
    pub wish: WishId,
    /// What was noted as saved because its final is not made.
    pub saved: Usd,
    /// What was asked for, as the room above wrote it.
    pub papers: String,
}

/// The drafts of one request.
#[derive(Clone, Debug)]
pub struct NewDrafts {
    /// Whose.
    pub tenant: String,
    /// The request that made or found them.
    pub request: RequestId,
    /// The pictures that were sent with it, in order; a mask is the last.
    pub inputs: Vec<Picture>,
    /// When they cannot be made final any more.
    pub expires_ms: Millis,
    /// The drafts.
    pub drafts: Vec<NewDraft>,
}

/// A draft that was kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Draft {
    /// Names what was asked for.
    pub wish: WishId,
    /// The request that made or found it.
    pub request: RequestId,
    /// What was noted as saved because its final is not made.
    pub saved: Usd,
    /// True if that was taken back.
    pub is_finalized: bool,
    /// When it cannot be made final any more.
    pub expires_ms: Millis,
    /// What was asked for; `None` if it is forgotten.
    pub papers: Option<String>,
    /// The pictures that were sent with it.
    pub inputs: Vec<Bytes>,
}

impl Store {
    /// Keeps drafts, in place of those of the same pictures and wishes. The pictures that were sent are written only if
    /// they are not there yet: a draft may be found again many times.
    pub async fn keep_drafts(&self, new: NewDrafts) -> Result<(), StoreError> {
        let set = (!new.inputs.is_empty()).then(|| name_of(&new.inputs));
        self.engine
            .write(move |sql| {
                if let Some(set) = set {
                    // Who forgets it holds this lock as well.
                    sql.lock(lock_name("draft inputs", &set.0))?;
                    let known = sql.first("SELECT 1 FROM draft_inputs WHERE request = ?1 LIMIT 1", &values![set])?;
                    let unknown = if known.is_some() { &[] } else { new.inputs.as_slice() };
                    for (place, picture) in (0u32..).zip(unknown) {
                        sql.execute(
                            "INSERT INTO draft_inputs (request, place, bytes, expires_ms) VALUES (?1, ?2, ?3, ?4)",
                            &[
                                Value::from(set),
                                Value::from(place),
                                Value::Bytes(picture.bytes.to_vec()),
                                Value::from(new.expires_ms),
                            ],
                        )?;
                    }
                }
                for draft in &new.drafts {
                    sql.execute(
                        "INSERT INTO drafts (picture, tenant, wish, request, saved, expires_ms, papers, inputs)
                         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8) ON CONFLICT (picture, tenant, wish) DO UPDATE SET
                           request = excluded.request, saved = excluded.saved, finalized = 0,
                           expires_ms = excluded.expires_ms, papers = excluded.papers, inputs = excluded.inputs",
                        &values![
                            draft.picture.to_bytes(),
                            &new.tenant,
                            draft.wish.to_bytes(),
                            new.request.to_bytes(),
                            amount(draft.saved)?,
                            new.expires_ms,
                            &draft.papers,
                            set,
                        ],
                    )?;
                }
                Ok(())
            })
            .await
    }

    /// The draft `picture` of `tenant`, if there was one: with what was asked for as `wish`, or last.
    pub async fn draft(
        &self,
        picture: ImageId,
        tenant: String,
        wish: Option<WishId>,
    ) -> Result<Option<Draft>, StoreError> {
        self.engine
            .read(move |sql| {
                let rows = sql.query(
                    "SELECT wish, request, saved, finalized, expires_ms, papers, inputs FROM drafts
                     WHERE picture = ?1 AND tenant = ?2 ORDER BY expires_ms DESC, wish",
                    &values![picture.to_bytes(), &tenant],
                )?;
                for row in rows {
                    let found = WishId::from_bytes(row.bytes(0)?);
                    if wish.is_some_and(|wish| wish != found) {
                        continue;
                    }
                    return draft(sql, found, &row).map(Some);
                }
                Ok(None)
            })
            .await
    }

    /// Notes that the final of a draft was made, and in the same transaction that what was saved by not making it is taken
    /// back. False, and nothing is written, if that was known.
    pub async fn finalized(
        &self,
        picture: ImageId,
        tenant: String,
        wish: WishId,
        taken_back: Option<Saving>,
    ) -> Result<bool, StoreError> {
        self.engine
            .write(move |sql| {
                let changed = sql.execute(
                    "UPDATE drafts SET finalized = 1
                     WHERE picture = ?1 AND tenant = ?2 AND wish = ?3 AND finalized = 0",
                    &values![picture.to_bytes(), &tenant, wish.to_bytes()],
                )?;
                if changed == 1
                    && let Some(taken_back) = &taken_back
                {
                    append_saving(sql, taken_back)?;
                }
                Ok(changed == 1)
            })
            .await
    }

    /// Forgets what was asked for by drafts that have expired, and those that expired long ago altogether.
    pub async fn forget_drafts(&self, now: Millis) -> Result<(), StoreError> {
        let sets = self
            .engine
            .write(move |sql| {
                sql.execute(
                    "UPDATE drafts SET papers = NULL WHERE expires_ms <= ?1 AND papers IS NOT NULL",
                    &values![now],
                )?;
                sql.execute("DELETE FROM drafts WHERE expires_ms <= ?1", &values![now.saturating_sub(REMEMBERED)])?;
                sql.query("SELECT DISTINCT request FROM draft_inputs WHERE expires_ms <= ?1", &values![now])
            })
            .await?;
        for row in sets {
            let set = row.blob(0)?;
            self.engine
                .write(move |sql| {
                    sql.lock(lock_name("draft inputs", &set))?;
                    // Whoever asked for the same later still has it.
                    sql.execute(
                        "DELETE FROM draft_inputs WHERE request = ?1 AND NOT EXISTS
                           (SELECT 1 FROM drafts d WHERE d.inputs = ?1 AND d.expires_ms > ?2)",
                        &[Value::Bytes(set.clone()), Value::from(now)],
                    )
                })
                .await?;
        }
        Ok(())
    }
}

/// The draft of a row, with the pictures that were sent.
fn draft(sql: &mut dyn Sql, wish: WishId, row: &Row) -> Result<Draft, SqlError> {
    let papers = row.maybe_text(5)?;
    // They go when what was asked for goes, whoever else still has them.
    let set = if papers.is_none() {
        None
    } else if row.is_null(6) {
        Some(row.blob(1)?)
    } else {
        Some(row.blob(6)?)
    };
    let inputs = match set {
        Some(set) => {
            let sent = "SELECT bytes FROM draft_inputs WHERE request = ?1 ORDER BY place";
            let rows = sql.query(sent, &[Value::Bytes(set)])?;
            rows.iter().map(|row| row.blob(0).map(Bytes::from)).collect::<Result<_, SqlError>>()?
        }
        None => Vec::new(),
    };
    Ok(Draft {
        wish,
        request: RequestId::from_bytes(row.bytes(1)?),
        saved: row.usd(2)?,
        is_finalized: row.flag(3)?,
        expires_ms: row.int(4)?,
        papers,
        inputs,
    })
}

/// What pictures that were sent together are kept under.
fn name_of(pictures: &[Picture]) -> Digest {
    let digests: Vec<u8> = pictures.iter().flat_map(|picture| picture.digest.0).collect();
    Digest::of(&digests)
}
