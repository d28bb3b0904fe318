//! Answers that are kept for who asks again: under an `Idempotency-Key`, or because the caller did not wait.

use super::sql::{Row, SqlError, values};
use super::{Store, StoreError, Term};
use crate::clock::Millis;
use crate::domain::{Digest, RequestId};

/// A request whose answer is to be kept.
#[derive(Clone, Debug)]
pub struct Claim {
    /// The request.
    pub id: RequestId,
    /// Whose.
    pub tenant: String,
    /// The caller's key for it, if it gave one.
    pub idempotency: Option<String>,
    /// Hash of what was asked for.
    pub fingerprint: Digest,
    /// When the answer may be forgotten.
    pub expires_ms: Millis,
}

/// What is known of a request whose answer is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    /// The request that came first.
    pub id: RequestId,
    /// Hash of what it asked for.
    pub fingerprint: Digest,
    /// The answer, as the room above wrote it; `None` while it is under way.
    pub answer: Option<String>,
    /// True if nobody is there any more who would answer.
    pub is_abandoned: bool,
    /// True if its caller does not want it any more.
    pub is_called_off: bool,
    /// When it was asked.
    pub created_ms: Millis,
}

/// What the paid calls of a request have come to. Those that were certainly not billed are not counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Past {
    /// So many are under way.
    pub open: u32,
    /// Nobody knows what came of so many, those that a process left behind among them.
    pub unknown: u32,
    /// So many were paid, and a picture of theirs is stored.
    pub stored: u32,
    /// So many were paid, and no picture of theirs is stored.
    pub lost: u32,
}

/// Owns what is left to whoever asks next. No process is called so: their names are random.
pub(super) const NOBODY: [u8; 16] = [0; 16];

const COLUMNS: &str = "r.id, r.fingerprint, r.answer, r.created_ms, \
                       CASE WHEN EXISTS (SELECT 1 FROM instances i WHERE i.id = r.owner) THEN 0 ELSE 1 END, r.stop";

impl Store {
    /// Claims the right to answer. `None`: it is this request's. Otherwise what another request under the
    /// same key of the same tenant has come to; one that was abandoned is taken over by this request,
    /// under its first name.
    ///
    /// No two requests of one process may claim the same key for the same thing at a time: what this process
    /// itself began and did not answer counts as abandoned.
    pub async fn claim_reply(&self, claim: Claim, now: Millis) -> Result<Option<Reply>, StoreError> {
        let term = self.term().await?;
        self.engine
            .write(move |sql| {
                sql.execute(
                    "DELETE FROM replies WHERE tenant = ?1 AND idempotency = ?2 AND expires_ms <= ?3",
                    &values![&claim.tenant, &claim.idempotency, now],
                )?;
                let written = sql.execute(
                    "INSERT INTO replies (id, tenant, idempotency, fingerprint, owner, created_ms, expires_ms)
                     VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7) ON CONFLICT DO NOTHING",
                    &values![
                        claim.id.to_bytes(),
                        &claim.tenant,
                        &claim.idempotency,
                        claim.fingerprint,
                        term.0.to_be_bytes(),
                        now,
                        claim.expires_ms,
                    ],
                )?;
                if written == 1 {
                    return Ok(None);
                }
                let first = sql.first(
                    &format!(
                        "SELECT {COLUMNS} FROM replies r WHERE r.tenant = ?1 AND (r.idempotency = ?2 OR r.id = ?3)"
                    ),
                    &values![&claim.tenant, &claim.idempotency, claim.id.to_bytes()],
                )?;
                let Some(mut reply) = first.as_ref().map(reply_of_row).transpose()? else {
                    return Err(SqlError::Conflict("the key was given back this moment".to_owned()));
                };
                if reply.id == claim.id {
                    return Ok(None); // ours; only the acknowledgement was lost
                }
                if reply.answer.is_none() && reply.fingerprint == claim.fingerprint {
                    // Asked within the statement: another process may be taking it over this very moment.
                    let taken = sql.execute(
                        "UPDATE replies SET owner = ?2, stop = 0 WHERE id = ?1 AND answer IS NULL AND
                           (owner = ?2 OR NOT EXISTS (SELECT 1 FROM instances i WHERE i.id = replies.owner))",
                        &values![reply.id.to_bytes(), term.0.to_be_bytes()],
                    )?;
                    reply.is_abandoned = taken == 1;
                }
                Ok(Some(reply))
            })
            .await
    }

    /// Takes over the claim of the request `id`, if nobody is there any more who would answer it: when it was
    /// asked.
    pub async fn take_over_reply(&self, id: RequestId, term: Term) -> Result<Option<Millis>, StoreError> {
        self.engine
            .write(move |sql| {
                let taken = sql.execute(
                    "UPDATE replies SET owner = ?2 WHERE id = ?1 AND answer IS NULL AND
                       (owner = ?2 OR NOT EXISTS (SELECT 1 FROM instances i WHERE i.id = replies.owner))",
                    &values![id.to_bytes(), term.0.to_be_bytes()],
                )?;
                if taken == 0 {
                    return Ok(None);
                }
                let row = sql.first("SELECT created_ms FROM replies WHERE id = ?1", &values![id.to_bytes()])?;
                row.map(|row| row.int(0)).transpose()
            })
            .await
    }

    /// The term under which this process claims and answers now.
    pub async fn answering_term(&self) -> Result<Term, StoreError> {
        self.term().await
    }

    /// Writes the answer of a request. False if it is answered already, or not this process' to answer.
    pub async fn answer_reply(&self, id: RequestId, term: Term, answer: String) -> Result<bool, StoreError> {
        self.engine
            .write(move |sql| {
                let written = sql.execute(
                    "UPDATE replies SET answer = ?2 WHERE id = ?1 AND owner = ?3 AND (answer IS NULL OR answer = ?2)",
                    &values![id.to_bytes(), &answer, term.0.to_be_bytes()],
                )?;
                Ok(written == 1)
            })
            .await
    }

    /// Gives back the claim of a request and with it its key, so that whoever asks again under that key is the
    /// first. Under its own name the request is answered. False if it is answered already, or not this
    /// process' to answer.
    pub async fn release_reply(&self, id: RequestId, term: Term, answer: String) -> Result<bool, StoreError> {
        self.engine
            .write(move |sql| {
                let written = sql.execute(
                    "UPDATE replies SET idempotency = NULL, answer = ?2
                     WHERE id = ?1 AND owner = ?3 AND (answer IS NULL OR (answer = ?2 AND idempotency IS NULL))",
                    &values![id.to_bytes(), &answer, term.0.to_be_bytes()],
                )?;
                Ok(written == 1)
            })
            .await
    }

    /// Leaves the claim of a request to whoever asks again, who then takes it over. False if it is answered, or
    /// not this process' to answer.
    pub async fn abandon_reply(&self, id: RequestId, term: Term) -> Result<bool, StoreError> {
        self.engine
            .write(move |sql| {
                let written = sql.execute(
                    "UPDATE replies SET owner = ?3 WHERE id = ?1 AND owner = ?2 AND answer IS NULL",
                    &values![id.to_bytes(), term.0.to_be_bytes(), NOBODY],
                )?;
                Ok(written == 1)
            })
            .await
    }

    /// What the request under the key `idempotency` of `tenant` has come to.
    pub async fn reply_under(
        &self,
        tenant: String,
        idempotency: String,
        now: Millis,
    ) -> Result<Option<Reply>, StoreError> {
        self.engine
            .read(move |sql| {
                let row = sql.first(
                    &format!(
                        "SELECT {COLUMNS} FROM replies r
                         WHERE r.tenant = ?1 AND r.idempotency = ?2 AND r.expires_ms > ?3"
                    ),
                    &values![&tenant, &idempotency, now],
                )?;
                row.as_ref().map(reply_of_row).transpose()
            })
            .await
    }

    /// What the paid calls of the request `id` have come to.
    pub async fn past_of(&self, id: RequestId) -> Result<Past, StoreError> {
        self.engine
            .read(move |sql| {
                let rows = sql.query(
                    "SELECT a.state, CASE WHEN EXISTS (SELECT 1 FROM pictures p WHERE p.attempt = a.id) THEN 1 ELSE 0 END,
                            CASE WHEN EXISTS (SELECT 1 FROM instances i WHERE i.id = a.owner) THEN 1 ELSE 0 END
                     FROM attempts a
                     WHERE a.request = ?1 AND a.state IN ('reserved', 'sending', 'accepted', 'done', 'unknown')",
                    &values![id.to_bytes()],
                )?;
                let mut past = Past::default();
                for row in &rows {
                    let (has_picture, has_owner) = (row.flag(1)?, row.flag(2)?);
                    let count = match row.text(0)?.as_str() {
                        "done" if has_picture => &mut past.stored,
                        "done" => &mut past.lost,
                        "reserved" | "sending" if has_owner => &mut past.open,
                        "accepted" => &mut past.open, // whoever comes next asks for it
                        "reserved" => continue, // nothing was sent for it, and nothing will be
                        _ => &mut past.unknown,
                    };
                    *count += 1;
                }
                Ok(past)
            })
            .await
    }

    /// What the request `id` of `tenant` has come to.
    pub async fn reply(&self, tenant: String, id: RequestId, now: Millis) -> Result<Option<Reply>, StoreError> {
        self.engine
            .read(move |sql| {
                let row = sql.first(
                    &format!("SELECT {COLUMNS} FROM replies r WHERE r.id = ?1 AND r.tenant = ?2 AND r.expires_ms > ?3"),
                    &values![id.to_bytes(), &tenant, now],
                )?;
                row.as_ref().map(reply_of_row).transpose()
            })
            .await
    }

    /// Forgets the answers whose time has passed.
    pub async fn forget_replies(&self, now: Millis) -> Result<u64, StoreError> {
        self.engine.write(move |sql| sql.execute("DELETE FROM replies WHERE expires_ms <= ?1", &values![now])).await
    }
}

fn reply_of_row(row: &Row) -> Result<Reply, SqlError> {
    Ok(Reply {
        id: RequestId::from_bytes(row.bytes(0)?),
        fingerprint: row.digest(1)?,
        answer: row.maybe_text(2)?,
        created_ms: row.int(3)?,
        is_abandoned: row.flag(4)?,
        is_called_off: row.flag(5)?,
    })
}
