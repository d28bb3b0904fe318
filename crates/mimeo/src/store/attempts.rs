//! Attempts and the ledger rows that go with them. An attempt's state and its money change in one
//! transaction, or not at all, and only at the hand of the process that owns it in its present term.

use super::calls::Timing;
use super::entries::{EntryWrite, NewPicture, Refusal, put_pictures, write_refusal};
use super::money::{BudgetLimit, BudgetUse, Deltas, Subject, append};
use super::sql::{Row, Sql, SqlError, lock_name, price, values};
use super::{Store, StoreError};
use crate::clock::{Millis, millis};
use crate::domain::{AttemptId, Digest, Price, RequestId, Usd};

/// Where an attempt stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AttemptState {
    /// Money is set aside; nothing was sent. May be repeated.
    Reserved,
    /// The first byte may have left. Never repeated.
    Sending,
    /// The provider gave a job id; it can be asked again.
    Accepted,
    /// Pictures came.
    Done,
    /// The content policy said no.
    Refused,
    /// Certainly not billed.
    Failed,
    /// Nobody knows.
    Unknown,
}

impl AttemptState {
    /// As stored.
    pub const fn name(self) -> &'static str {
        match self {
            AttemptState::Reserved => "reserved",
            AttemptState::Sending => "sending",
            AttemptState::Accepted => "accepted",
            AttemptState::Done => "done",
            AttemptState::Refused => "refused",
            AttemptState::Failed => "failed",
            AttemptState::Unknown => "unknown",
        }
    }
}

/// A process in one uninterrupted stretch of being alive in the eyes of the others. Whoever is given up by
/// them can finish nothing of what it began, and goes on under another term.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Term(pub(super) u128);

/// A paid call about to be made.
#[derive(Clone, Debug)]
pub struct NewAttempt {
    /// Its name.
    pub id: AttemptId,
    /// Whom and what it is about.
    pub subject: Subject,
    /// The most that it may cost.
    pub expected: Price,
    /// `Reserved`, or `Sending` if nothing stands between the reservation and the first byte.
    pub state: AttemptState,
    /// What its pictures are to answer.
    pub key: Digest,
    /// True if what it makes answers others as well, so that they wait for it, and it for them.
    pub joinable: bool,
    /// The last entry of the key that was seen before this was decided; a later one of somebody else's
    /// forbids it. `None` does not look.
    pub seen: Option<i64>,
    /// An attempt for the same key whose outcome nobody knows forbids this one, if it was made since.
    pub unknown_since: Option<Millis>,
    /// What it must fit in.
    pub budgets: Vec<BudgetLimit>,
}

/// Whether a reservation was made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reserved {
    /// It was.
    Yes {
        /// Under which term; the end of the attempt must name it.
        term: Term,
        /// Budgets that only warn and are overrun with this, by their position, and what is used of them.
        warnings: Vec<(usize, BudgetUse)>,
    },
    /// It would overrun a budget.
    Over {
        /// Its position.
        budget: usize,
        /// What is used of it already.
        used: BudgetUse,
    },
    /// Somebody else is making the same picture.
    UnderWay,
    /// Somebody else has made it meanwhile.
    Landed,
    /// It was sent before, and nobody knows what came of it.
    Unknown {
        /// The attempt in suspense.
        attempt: AttemptId,
        /// Its request.
        request: RequestId,
        /// When it was made.
        at_ms: Millis,
    },
}

/// How the money of an attempt ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Settlement {
    /// It was billed this much.
    Settle(Price),
    /// It was not billed.
    Release,
    /// Nobody knows: the reserved amount goes to suspense.
    Suspend,
}

/// The end of an attempt, and what comes of it. One transaction.
#[derive(Clone, Debug)]
pub struct Finish {
    /// The attempt.
    pub id: AttemptId,
    /// The term in which it was begun.
    pub term: Term,
    /// `Done`, `Refused`, `Failed` or `Unknown`.
    pub state: AttemptState,
    /// Whom and what it is about, as when it began.
    pub subject: Subject,
    /// What was reserved, as when it began.
    pub expected: Price,
    /// What becomes of the money.
    pub settlement: Settlement,
    /// Why it failed.
    pub fault: Option<String>,
    /// What it says about who was asked; `None` is nothing.
    pub timing: Option<Timing>,
    /// Pictures to store.
    pub pictures: Vec<NewPicture>,
    /// The key that they answer.
    pub entry: Option<EntryWrite>,
    /// A refusal to keep, and for which key.
    pub refusal: Option<(Digest, Refusal)>,
    /// Now.
    pub at_ms: Millis,
}

/// Whether an attempt could be ended by who began it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Finished {
    /// It is ended, and everything that came of it is stored.
    Yes,
    /// The others had given this process up and ended the attempt for it; nothing was written.
    GivenUp,
}

/// An attempt that has not ended, or whose end nobody knows.
#[derive(Clone, Debug)]
pub struct OpenAttempt {
    /// The attempt.
    pub id: AttemptId,
    /// Its state.
    pub state: AttemptState,
    /// Whom and what it is about.
    pub subject: Subject,
    /// What was reserved.
    pub expected: Price,
    /// Why it is open, if that is known.
    pub fault: Option<String>,
    /// When it began.
    pub created_ms: Millis,
}

impl Store {
    /// Sets money aside and writes the attempt, unless a budget, another attempt for the same key, or an
    /// unknown outcome forbids it. All of that is decided and written in one transaction.
    pub async fn begin_attempt(&self, attempt: NewAttempt, now: Millis) -> Result<Reserved, StoreError> {
        loop {
            let term = self.term().await?;
            let attempt = attempt.clone();
            let begun = self.engine.write(move |sql| begin(sql, &attempt, term, now)).await?;
            match begun {
                Some(reserved) => return Ok(reserved),
                // Given up while it was away: it starts over as somebody else.
                None => self.renew().await?,
            }
        }
    }

    /// Writes that the first byte is about to leave. False if the attempt is not this process' any more.
    pub async fn mark_sending(&self, id: AttemptId, term: Term, now: Millis) -> Result<bool, StoreError> {
        self.engine
            .write(move |sql| {
                let clock = sql.now()?;
                let changed = sql.execute(
                    "UPDATE attempts SET state = 'sending', updated_ms = ?3
                     WHERE id = ?1 AND owner = ?2 AND state IN ('reserved', 'sending')
                       AND EXISTS (SELECT 1 FROM instances i WHERE i.id = ?2 AND i.expires_ms > ?4)",
                    &values![id, term.0.to_be_bytes(), now, clock],
                )?;
                Ok(changed == 1)
            })
            .await
    }

    /// Ends an attempt: its state, its money, its pictures and the entry that they answer.
    pub async fn finish_attempt(&self, finish: Finish) -> Result<Finished, StoreError> {
        self.engine
            .write(move |sql| {
                if let Some(entry) = &finish.entry {
                    sql.lock(lock_name("entry", &entry.key.0))?;
                }
                let Finish { id, state, subject, expected, settlement, at_ms, .. } = &finish;
                let owner = finish.term.0.to_be_bytes();
                let ended = end(sql, *id, Hand::Owner(owner), *state, subject, *expected, *settlement, *at_ms)?;
                if !ended {
                    // Either the commit was made and only its acknowledgement lost, or it is not ours any more.
                    let ours = sql.first(
                        "SELECT 1 FROM attempts WHERE id = ?1 AND owner = ?2 AND state = ?3 AND updated_ms = ?4",
                        &values![*id, owner, state.name(), *at_ms],
                    )?;
                    return Ok(if ours.is_some() { Finished::Yes } else { Finished::GivenUp });
                }
                if let Some(fault) = &finish.fault {
                    sql.execute("UPDATE attempts SET fault = ?2 WHERE id = ?1", &values![*id, fault])?;
                }
                if let Some(Timing { candidate, took }) = &finish.timing {
                    sql.execute(
                        "UPDATE attempts SET candidate = ?2, took_ms = ?3 WHERE id = ?1",
                        &values![*id, candidate, millis(*took)],
                    )?;
                }
                if let Some((key, refusal)) = &finish.refusal {
                    write_refusal(sql, *key, refusal)?;
                }
                put_pictures(sql, &finish.pictures, finish.entry.as_ref(), *at_ms)?;
                Ok(Finished::Yes)
            })
            .await
    }

    /// Makes sure that the attempt `id`, for which nothing was sent, is not under way and never will be:
    /// whether its beginning was written is not known, or may even come yet.
    pub async fn abandon(
        &self,
        id: AttemptId,
        subject: Subject,
        expected: Price,
        now: Millis,
    ) -> Result<(), StoreError> {
        let term = self.term().await?;
        self.engine
            .write(move |sql| {
                let owner = term.0.to_be_bytes();
                // A row of that name makes a beginning that comes late fail.
                sql.execute(
                    "INSERT INTO attempts (id, owner, state, request, tenant, api_key, provider, model, pictures,
                                           created_ms, updated_ms, fault)
                     VALUES (?1, ?2, 'failed', ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?9, 'the store could not be reached')
                     ON CONFLICT (id) DO NOTHING",
                    &values![
                        id,
                        owner,
                        subject.request.to_bytes(),
                        &subject.tenant,
                        &subject.api_key,
                        &subject.provider,
                        &subject.model,
                        subject.pictures,
                        now,
                    ],
                )?;
                let (failed, release) = (AttemptState::Failed, Settlement::Release);
                end(sql, id, Hand::Owner(owner), failed, &subject, expected, release, now).map(|_| ())
            })
            .await
    }

    /// Notes what a process that was given up learnt of its attempt too late. It moves no money: whoever
    /// resolves it reads it.
    pub async fn note_late(&self, id: AttemptId, note: String) -> Result<(), StoreError> {
        self.engine
            .write(move |sql| {
                sql.execute("UPDATE attempts SET fault = ?2 WHERE id = ?1 AND state = 'unknown'", &values![id, &note])
                    .map(|_| ())
            })
            .await
    }

    /// Ends the attempts of processes that are gone: what was not sent is released, what was sent is
    /// unknown and goes to suspense. Returns how many there were of each. What the provider has accepted is left to
    /// [`Store::adopt`].
    pub async fn recover(&self, now: Millis) -> Result<(u32, u32), StoreError> {
        self.give_up_the_dead().await?;
        let orphans = self.engine.read(|sql| open_attempts(sql, ORPHANS, &[])).await?;
        if orphans.is_empty() {
            return Ok((0, 0));
        }
        self.engine
            .write(move |sql| {
                let (mut released, mut suspended) = (0, 0);
                for attempt in &orphans {
                    let (state, settlement) = match attempt.state {
                        AttemptState::Reserved => (AttemptState::Failed, Settlement::Release),
                        _ => (AttemptState::Unknown, Settlement::Suspend),
                    };
                    // Another process may have ended it between the read and now.
                    let hand = Hand::Finder(attempt.state);
                    if !end(sql, attempt.id, hand, state, &attempt.subject, attempt.expected, settlement, now)? {
                        continue;
                    }
                    match settlement {
                        Settlement::Release => released += 1,
                        _ => suspended += 1,
                    }
                    sql.execute(
                        "UPDATE attempts SET fault = 'the process that made it ended' WHERE id = ?1 AND fault IS NULL",
                        &values![attempt.id],
                    )?;
                }
                Ok((released, suspended))
            })
            .await
    }

    /// True while somebody else's attempt for `key`, which others may join, is under way.
    pub async fn is_under_way(&self, key: Digest) -> Result<bool, StoreError> {
        self.engine
            .read(move |sql| {
                let found = sql.first(
                    "SELECT 1 FROM attempts WHERE state IN ('reserved', 'sending', 'accepted') AND key = ?1 AND joinable = 1",
                    &values![key],
                )?;
                Ok(found.is_some())
            })
            .await
    }

    /// Attempts whose outcome nobody knows, oldest first.
    pub async fn suspense(&self, tenant: Option<String>) -> Result<Vec<OpenAttempt>, StoreError> {
        let open = self.engine.read(|sql| open_attempts(sql, "a.state = 'unknown'", &[])).await?;
        let ours = |attempt: &OpenAttempt| tenant.as_ref().is_none_or(|tenant| *tenant == attempt.subject.tenant);
        Ok(open.into_iter().filter(ours).collect())
    }

    /// Takes an attempt out of suspense: it was billed `billed` (zero: it was not). False if it is not
    /// in suspense.
    pub async fn resolve(&self, id: AttemptId, billed: Usd, now: Millis) -> Result<bool, StoreError> {
        self.engine
            .write(move |sql| {
                let open = open_attempts(sql, "a.state = 'unknown' AND a.id = ?1", &values![id])?;
                let Some(attempt) = open.into_iter().next() else { return Ok(false) };
                let state = if billed.is_zero() { AttemptState::Failed } else { AttemptState::Done };
                let changed = sql.execute(
                    "UPDATE attempts SET state = ?2, updated_ms = ?3 WHERE id = ?1 AND state = 'unknown'",
                    &values![id, state.name(), now],
                )?;
                if changed != 1 {
                    return Ok(false);
                }
                let held = attempt.expected.known().unwrap_or(Usd::ZERO);
                let deltas = Deltas { spent: billed, suspense: -held, ..Deltas::default() };
                append(sql, "resolve", None, &attempt.subject, Some(id), deltas, now)?;
                Ok(true)
            })
            .await
    }
}

/// `None` if this process' term has ended.
fn begin(sql: &mut dyn Sql, attempt: &NewAttempt, term: Term, now: Millis) -> Result<Option<Reserved>, SqlError> {
    let owner = term.0.to_be_bytes();
    let mut locks: Vec<i64> = attempt.budgets.iter().map(BudgetLimit::lock).collect();
    locks.push(lock_name("flight", &attempt.key.0));
    locks.sort_unstable();
    locks.dedup();
    locks.into_iter().try_for_each(|lock| sql.lock(lock))?;
    // Not before the locks are held: a first try whose connection was lost may still have waited for them.
    if let Some(row) = sql.first("SELECT owner, state FROM attempts WHERE id = ?1", &values![attempt.id])? {
        if row.bytes(0)? == owner && row.text(1)? == attempt.state.name() {
            // Done already; only the acknowledgement was lost.
            return Ok(Some(Reserved::Yes { term, warnings: Vec::new() }));
        }
        return Err(SqlError::Failed(format!("{} was abandoned or has ended: nothing may be sent for it", attempt.id)));
    }
    let clock = sql.now()?;
    let alive =
        sql.first("SELECT 1 FROM instances WHERE id = ?1 AND expires_ms > ?2", &values![owner, clock])?.is_some();
    if !alive {
        return Ok(None);
    }
    let subject = &attempt.subject;
    // A request may have several attempts; those that it had in another process are somebody else's.
    let others = sql.query(
        "SELECT id, request, state, joinable, created_ms FROM attempts
         WHERE state IN ('reserved', 'sending', 'accepted', 'unknown') AND key = ?1 AND (request <> ?2 OR owner <> ?3)",
        &values![attempt.key, subject.request.to_bytes(), owner],
    )?;
    for other in others {
        let at_ms = other.int(4)?;
        if other.text(2)? == AttemptState::Unknown.name() {
            if attempt.unknown_since.is_some_and(|since| at_ms >= since) {
                let (id, request) = (AttemptId::from_bytes(other.bytes(0)?), RequestId::from_bytes(other.bytes(1)?));
                return Ok(Some(Reserved::Unknown { attempt: id, request, at_ms }));
            }
        } else if attempt.joinable && other.flag(3)? {
            return Ok(Some(Reserved::UnderWay));
        }
    }
    // In this order: what lands between the two questions is seen by the second.
    if let Some(seen) = attempt.seen {
        let later = sql.first(
            "SELECT 1 FROM entries e JOIN pictures p ON p.id = e.picture LEFT JOIN attempts a ON a.id = p.attempt
             WHERE e.key = ?1 AND e.seq > ?2 AND (a.request IS NULL OR a.request <> ?3) LIMIT 1",
            &values![attempt.key, seen, subject.request.to_bytes()],
        )?;
        if later.is_some() {
            return Ok(Some(Reserved::Landed));
        }
    }
    let mut warnings = Vec::new();
    for (position, budget) in attempt.budgets.iter().enumerate() {
        let used = budget.used(sql)?;
        if budget.is_overrun(used, attempt.expected, subject.pictures) {
            if budget.hard {
                return Ok(Some(Reserved::Over { budget: position, used }));
            }
            warnings.push((position, used));
        }
    }
    sql.execute(
        "INSERT INTO attempts (id, owner, state, request, tenant, api_key, provider, model, purpose, pictures,
                               expected, created_ms, updated_ms, key, joinable, route, credit)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?12, ?13, ?14, ?15, ?16)",
        &values![
            attempt.id,
            owner,
            attempt.state.name(),
            subject.request.to_bytes(),
            &subject.tenant,
            &subject.api_key,
            &subject.provider,
            &subject.model,
            &subject.purpose,
            subject.pictures,
            price(attempt.expected)?,
            now,
            attempt.key,
            attempt.joinable,
            &subject.route,
            &subject.credit,
        ],
    )?;
    let reserved = attempt.expected.known().unwrap_or(Usd::ZERO);
    let deltas = Deltas { reserved, ..Deltas::of(attempt.expected) };
    append(sql, "reserve", None, subject, Some(attempt.id), deltas, now)?;
    Ok(Some(Reserved::Yes { term, warnings }))
}

/// At whose hand an attempt ends.
#[derive(Clone, Copy)]
enum Hand {
    /// Who began it, in that term.
    Owner([u8; 16]),
    /// Anybody, because its owner is gone. Only in the state in which it was found: what was noted as sent since
    /// then must not be taken for what was not.
    Finder(AttemptState),
}

/// Ends an attempt that is under way and `hand`'s to end. False if it is not.
#[expect(clippy::too_many_arguments, reason = "the parts of one row; a struct would only name them twice")]
fn end(
    sql: &mut dyn Sql,
    id: AttemptId,
    hand: Hand,
    state: AttemptState,
    subject: &Subject,
    expected: Price,
    settlement: Settlement,
    now: Millis,
) -> Result<bool, SqlError> {
    let changed = match hand {
        Hand::Owner(owner) => sql.execute(
            "UPDATE attempts SET state = ?2, updated_ms = ?3
             WHERE id = ?1 AND owner = ?4 AND state IN ('reserved', 'sending', 'accepted')",
            &values![id, state.name(), now, owner],
        )?,
        Hand::Finder(found) => sql.execute(
            "UPDATE attempts SET state = ?2, updated_ms = ?3
             WHERE id = ?1 AND state = ?4 AND state IN ('reserved', 'sending', 'accepted')
               AND NOT EXISTS (SELECT 1 FROM instances i WHERE i.id = attempts.owner)",
            &values![id, state.name(), now, found.name()],
        )?,
    };
    if changed != 1 {
        return Ok(false);
    }
    let held = expected.known().unwrap_or(Usd::ZERO);
    let (kind, deltas) = match settlement {
        Settlement::Settle(billed) => {
            ("settle", Deltas { spent: billed.known().unwrap_or(Usd::ZERO), ..Deltas::of(billed) })
        }
        Settlement::Release => ("release", Deltas::default()),
        Settlement::Suspend => ("suspend", Deltas { suspense: held, ..Deltas::of(expected) }),
    };
    append(sql, kind, None, subject, Some(id), Deltas { reserved: -held, ..deltas }, now)?;
    Ok(true)
}

/// Under way, and nobody is there to finish it. What was accepted is asked for instead, see [`super::jobs`].
const ORPHANS: &str = "a.state IN ('reserved', 'sending') \
                       AND NOT EXISTS (SELECT 1 FROM instances i WHERE i.id = a.owner)";

/// The columns of an [`OpenAttempt`].
pub(super) const OPEN: &str = "a.id, a.state, a.request, a.tenant, a.api_key, a.provider, a.model, a.purpose, \
                               a.pictures, a.expected, a.fault, a.created_ms, a.route, a.credit";

/// The attempts that `condition` (a constant of this file) names, oldest first.
fn open_attempts(
    sql: &mut dyn Sql,
    condition: &'static str,
    values: &[super::sql::Value],
) -> Result<Vec<OpenAttempt>, SqlError> {
    let rows =
        sql.query(&format!("SELECT {OPEN} FROM attempts a WHERE {condition} ORDER BY a.created_ms, a.id"), values)?;
    rows.iter().map(open_attempt).collect()
}

pub(super) fn open_attempt(row: &Row) -> Result<OpenAttempt, SqlError> {
    let state = match row.text(1)?.as_str() {
        "reserved" => AttemptState::Reserved,
        "sending" => AttemptState::Sending,
        "accepted" => AttemptState::Accepted,
        _ => AttemptState::Unknown,
    };
    Ok(OpenAttempt {
        id: AttemptId::from_bytes(row.bytes(0)?),
        state,
        subject: Subject {
            request: RequestId::from_bytes(row.bytes(2)?),
            tenant: row.text(3)?,
            api_key: row.text(4)?,
            provider: row.text(5)?,
            model: row.text(6)?,
            purpose: row.maybe_text(7)?,
            pictures: row.small(8)?,
            route: row.text(12)?,
            credit: row.maybe_text(13)?,
        },
        expected: row.price(9)?,
        fault: row.maybe_text(10)?,
        created_ms: row.int(11)?,
    })
}
