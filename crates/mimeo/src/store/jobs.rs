//! Jobs that a provider has accepted. They outlive the process that sent them: whoever finds one whose process is
//! gone takes it over and asks the provider for it, and nothing is sent again.

use super::attempts::{OPEN, OpenAttempt, Term, open_attempt};
use super::replies::NOBODY;
use super::sql::values;
use super::{Store, StoreError};
use crate::clock::Millis;
use crate::domain::{AttemptId, Digest, RequestId};

/// A job that this process is to ask for.
#[derive(Clone, Debug)]
pub struct AcceptedJob {
    /// The attempt that it was sent by.
    pub attempt: OpenAttempt,
    /// Under which term it is this process'; its end must name it.
    pub term: Term,
    /// What its pictures are to answer.
    pub key: Digest,
    /// True if others wait for it.
    pub joinable: bool,
    /// What the provider calls it, as the room above wrote it.
    pub ticket: String,
    /// What it takes to end it, as the room above wrote it.
    pub papers: String,
}

impl Store {
    /// Writes that the provider has accepted an attempt: `ticket` is what to ask for it by, `papers` what it takes to
    /// end it elsewhere. False if the attempt is not this process' any more, or has ended.
    pub async fn mark_accepted(
        &self,
        id: AttemptId,
        term: Term,
        ticket: String,
        papers: String,
        now: Millis,
    ) -> Result<bool, StoreError> {
        self.engine
            .write(move |sql| {
                let changed = sql.execute(
                    "UPDATE attempts SET state = 'accepted', job = ?3, papers = ?4, updated_ms = ?5
                     WHERE id = ?1 AND owner = ?2 AND state IN ('sending', 'accepted')",
                    &values![id, term.0.to_be_bytes(), &ticket, &papers, now],
                )?;
                Ok(changed == 1)
            })
            .await
    }

    /// Takes over the accepted jobs that nobody asks for: those of processes that are gone, and this process' own
    /// but for those that are `held`. Of several processes that try, one gets each.
    pub async fn adopt(&self, held: impl Fn(AttemptId) -> bool) -> Result<Vec<AcceptedJob>, StoreError> {
        let ours = self.present_term().await.map(|term| term.0.to_be_bytes());
        let found = self
            .engine
            .read(move |sql| {
                let rows = sql.query(
                    &format!(
                        "SELECT {OPEN}, a.key, a.joinable, a.job, a.papers FROM attempts a
                         WHERE a.state = 'accepted' AND (a.owner = ?1 OR
                           NOT EXISTS (SELECT 1 FROM instances i WHERE i.id = a.owner))
                         ORDER BY a.created_ms, a.id"
                    ),
                    &values![ours.unwrap_or(NOBODY)],
                )?;
                let job = |row: &super::sql::Row| {
                    Ok(AcceptedJob {
                        attempt: open_attempt(row)?,
                        term: Term(0),
                        key: row.digest(14)?,
                        joinable: row.flag(15)?,
                        ticket: row.maybe_text(16)?.unwrap_or_default(),
                        papers: row.maybe_text(17)?.unwrap_or_default(),
                    })
                };
                rows.iter().map(job).collect::<Result<Vec<_>, _>>()
            })
            .await?;
        let found: Vec<AcceptedJob> = found.into_iter().filter(|job| !held(job.attempt.id)).collect();
        if found.is_empty() {
            return Ok(found);
        }
        let term = self.term().await?;
        self.engine
            .write(move |sql| {
                let clock = sql.now()?;
                let mut ours = Vec::with_capacity(found.len());
                for job in &found {
                    // What is ours already stays so: the acknowledgement of a first try may have been lost.
                    let taken = sql.execute(
                        "UPDATE attempts SET owner = ?2
                         WHERE id = ?1 AND state = 'accepted'
                           AND (owner = ?2 OR NOT EXISTS (SELECT 1 FROM instances i WHERE i.id = attempts.owner))
                           AND EXISTS (SELECT 1 FROM instances i WHERE i.id = ?2 AND i.expires_ms > ?3)",
                        &values![job.attempt.id, term.0.to_be_bytes(), clock],
                    )?;
                    if taken == 1 {
                        ours.push(AcceptedJob { term, ..job.clone() });
                    }
                }
                Ok(ours)
            })
            .await
    }

    /// Leaves this process' accepted jobs to whoever looks for such next. It may finish none of them from here on.
    pub async fn hand_over(&self) -> Result<u64, StoreError> {
        let Some(term) = self.present_term().await else { return Ok(0) };
        self.engine
            .write(move |sql| {
                sql.execute(
                    "UPDATE attempts SET owner = ?2 WHERE owner = ?1 AND state = 'accepted'",
                    &values![term.0.to_be_bytes(), NOBODY],
                )
            })
            .await
    }

    /// The provider of an attempt that is under way; `None` if it has ended.
    pub async fn provider_of(&self, id: AttemptId) -> Result<Option<String>, StoreError> {
        self.engine
            .read(move |sql| {
                let row = sql.first(
                    "SELECT provider FROM attempts WHERE id = ?1 AND state IN ('reserved', 'sending', 'accepted')",
                    &values![id],
                )?;
                row.map(|row| row.text(0)).transpose()
            })
            .await
    }

    /// Notes that the caller of the request `id` does not want it any more. False if it is answered already.
    pub async fn call_off(&self, id: RequestId) -> Result<bool, StoreError> {
        self.engine
            .write(move |sql| {
                let noted = sql
                    .execute("UPDATE replies SET stop = 1 WHERE id = ?1 AND answer IS NULL", &values![id.to_bytes()])?;
                Ok(noted == 1)
            })
            .await
    }

    /// True if the caller of the request `id` does not want it any more.
    pub async fn is_called_off(&self, id: RequestId) -> Result<bool, StoreError> {
        self.engine
            .read(move |sql| {
                let row = sql.first("SELECT stop FROM replies WHERE id = ?1", &values![id.to_bytes()])?;
                row.map_or(Ok(false), |row| row.flag(0))
            })
            .await
    }

    /// What the addresses that providers call back are made with: the same for all who have this store open.
    pub async fn callback_key(&self) -> Result<Digest, StoreError> {
        let mut fresh = crate::domain::id::random().to_be_bytes().to_vec();
        fresh.extend(crate::domain::id::random().to_be_bytes());
        let fresh = Digest::of(&fresh).to_string();
        self.engine
            .write(move |sql| {
                sql.execute(
                    "INSERT INTO notes (name, value) VALUES ('callback_key', ?1) ON CONFLICT (name) DO NOTHING",
                    &values![&fresh],
                )?;
                let row = sql.first("SELECT value FROM notes WHERE name = 'callback_key'", &[])?;
                let key = row.map(|row| row.text(0)).transpose()?.and_then(|text| text.parse().ok());
                key.ok_or_else(|| super::sql::SqlError::Failed("the note callback_key is damaged".to_owned()))
            })
            .await
    }
}
