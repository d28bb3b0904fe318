//! Drafts that can be made final, with what was asked for.

use bytes::Bytes;

use super::money::{Saving, append_saving};
use super::sql::{SqlError, Value, amount, values};
use super::{Store, StoreError};
use crate::clock::Millis;
use crate::domain::{ImageId, RequestId, Usd};

/// How long it is known of an expired draft that there was one.
const REMEMBERED: Millis = 30 * 24 * 3_600_000;

/// A draft to be kept.
#[derive(Clone, Debug)]
pub struct NewDraft {
    /// The picture.
    pub picture: ImageId,
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
    pub inputs: Vec<Bytes>,
    /// When they cannot be made final any more.
    pub expires_ms: Millis,
    /// The drafts.
    pub drafts: Vec<NewDraft>,
}

/// A draft that was kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Draft {
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
    /// Keeps drafts, in place of what was kept of the same pictures before.
    pub async fn keep_drafts(&self, new: NewDrafts) -> Result<(), StoreError> {
        self.engine
            .write(move |sql| {
                for (place, bytes) in (0u32..).zip(&new.inputs) {
                    sql.execute(
                        "INSERT INTO draft_inputs (request, place, bytes, expires_ms) VALUES (?1, ?2, ?3, ?4)
                         ON CONFLICT (request, place) DO NOTHING",
                        &[
                            Value::from(new.request.to_bytes()),
                            Value::from(place),
                            Value::Bytes(bytes.to_vec()),
                            Value::from(new.expires_ms),
                        ],
                    )?;
                }
                for draft in &new.drafts {
                    sql.execute(
                        "INSERT INTO drafts (picture, tenant, request, saved, expires_ms, papers)
                         VALUES (?1, ?2, ?3, ?4, ?5, ?6) ON CONFLICT (picture, tenant) DO UPDATE SET
                           request = excluded.request, saved = excluded.saved, finalized = 0,
                           expires_ms = excluded.expires_ms, papers = excluded.papers",
                        &values![
                            draft.picture.to_bytes(),
                            &new.tenant,
                            new.request.to_bytes(),
                            amount(draft.saved)?,
                            new.expires_ms,
                            &draft.papers,
                        ],
                    )?;
                }
                Ok(())
            })
            .await
    }

    /// The draft `picture` of `tenant`, if there was one.
    pub async fn draft(&self, picture: ImageId, tenant: String) -> Result<Option<Draft>, StoreError> {
        self.engine
            .read(move |sql| {
                let row = sql.first(
                    "SELECT request, saved, finalized, expires_ms, papers FROM drafts WHERE picture = ?1 AND tenant = ?2",
                    &values![picture.to_bytes(), &tenant],
                )?;
                let Some(row) = row else { return Ok(None) };
                let request = RequestId::from_bytes(row.bytes(0)?);
                let inputs = sql.query(
                    "SELECT bytes FROM draft_inputs WHERE request = ?1 ORDER BY place",
                    &values![request.to_bytes()],
                )?;
                Ok(Some(Draft {
                    request,
                    saved: row.usd(1)?,
                    is_finalized: row.flag(2)?,
                    expires_ms: row.int(3)?,
                    papers: row.maybe_text(4)?,
                    inputs: inputs.iter().map(|row| row.blob(0).map(Bytes::from)).collect::<Result<_, SqlError>>()?,
                }))
            })
            .await
    }

    /// Notes that the final of a draft was made, and in the same transaction that what was saved by not making it is taken
    /// back. False, and nothing is written, if that was known.
    pub async fn finalized(
        &self,
        picture: ImageId,
        tenant: String,
        taken_back: Option<Saving>,
    ) -> Result<bool, StoreError> {
        self.engine
            .write(move |sql| {
                let changed = sql.execute(
                    "UPDATE drafts SET finalized = 1 WHERE picture = ?1 AND tenant = ?2 AND finalized = 0",
                    &values![picture.to_bytes(), &tenant],
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
        self.engine
            .write(move |sql| {
                sql.execute("DELETE FROM draft_inputs WHERE expires_ms <= ?1", &values![now])?;
                sql.execute(
                    "UPDATE drafts SET papers = NULL WHERE expires_ms <= ?1 AND papers IS NOT NULL",
                    &values![now],
                )?;
                sql.execute("DELETE FROM drafts WHERE expires_ms <= ?1", &values![now.saturating_sub(REMEMBERED)])?;
                Ok(())
            })
            .await
    }
}
