//! Attempts and the ledger rows that go with them. An attempt's state and its money change in one
//! transaction, or not at all.

use rusqlite::{Connection, params};

use super::entries::{Amount, EntryWrite, NewPicture, Refusal, put_pictures, split_sum, write_refusal};
use super::{Store, StoreError};
use crate::clock::Millis;
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

/// Whom and what a ledger row is about.
#[derive(Clone, Debug)]
pub struct Subject {
    /// Whose money.
    pub tenant: String,
    /// Name of the key that was used.
    pub api_key: String,
    /// Provider instance.
    pub provider: String,
    /// The provider's model.
    pub model: String,
    /// What the picture is for.
    pub purpose: Option<String>,
    /// The request.
    pub request: RequestId,
    /// How many pictures.
    pub pictures: u32,
}

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
}

/// A budget that a reservation must fit in.
#[derive(Clone, Debug)]
pub struct BudgetLimit {
    /// The most that may be spent, set aside and unknown together.
    pub limit: Usd,
    /// Spending counts from here.
    pub since_ms: Millis,
}

/// Whether a reservation was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reserved {
    /// It was.
    Yes,
    /// It would overrun the budget, of which this much is used already.
    No {
        /// Spent, set aside and in suspense.
        used: Usd,
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
#[derive(Debug)]
pub struct Finish {
    /// The attempt.
    pub id: AttemptId,
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
    /// Pictures to store.
    pub pictures: Vec<NewPicture>,
    /// The key that they answer.
    pub entry: Option<EntryWrite>,
    /// A refusal to keep, and for which key.
    pub refusal: Option<(Digest, Refusal)>,
    /// Now.
    pub at_ms: Millis,
}

/// Something that was not paid because of a layer of Mimeo.
#[derive(Clone, Debug)]
pub struct Saving {
    /// Which layer: `hit`, `join`.
    pub layer: &'static str,
    /// Whom and what it is about.
    pub subject: Subject,
    /// How much.
    pub saved: Price,
    /// Now.
    pub at_ms: Millis,
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
    /// Sets money aside and writes the attempt, unless that would overrun `budget`.
    pub async fn begin_attempt(
        &self,
        attempt: NewAttempt,
        budget: Option<BudgetLimit>,
        now: Millis,
    ) -> Result<Reserved, StoreError> {
        let owner = self.instance.id;
        self.database
            .write(move |c| {
                let expected = attempt.expected.known();
                if let Some(budget) = budget {
                    let used = used(c, &attempt.subject.api_key, budget.since_ms)?;
                    if used + expected.unwrap_or(Usd::ZERO) > budget.limit {
                        return Ok(Reserved::No { used });
                    }
                }
                let subject = &attempt.subject;
                c.prepare_cached(
                    "INSERT INTO attempts (id, owner, state, request, tenant, api_key, provider, model, purpose, pictures,
                                           expected, created_ms, updated_ms)
                     VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?12)",
                )?
                .execute(params![
                    attempt.id.to_bytes(),
                    owner.to_be_bytes(),
                    attempt.state.name(),
                    subject.request.to_bytes(),
                    subject.tenant,
                    subject.api_key,
                    subject.provider,
                    subject.model,
                    subject.purpose,
                    subject.pictures,
                    expected.map(Amount),
                    now,
                ])?;
                let deltas = Deltas { reserved: expected.unwrap_or(Usd::ZERO), ..Deltas::of(attempt.expected) };
                append(c, "reserve", None, subject, Some(attempt.id), deltas, now)?;
                Ok(Reserved::Yes)
            })
            .await
    }

    /// Writes that the first byte is about to leave. False if the attempt is not `reserved` any more.
    pub async fn mark_sending(&self, id: AttemptId, now: Millis) -> Result<bool, StoreError> {
        self.database
            .write(move |c| {
                let changed = c.execute(
                    "UPDATE attempts SET state = 'sending', updated_ms = ?2 WHERE id = ?1 AND state = 'reserved'",
                    params![id.to_bytes(), now],
                )?;
                Ok(changed == 1)
            })
            .await
    }

    /// Ends an attempt: its state, its money, its pictures and the entry that they answer.
    pub async fn finish_attempt(&self, finish: Finish) -> Result<(), StoreError> {
        self.database
            .write(move |c| {
                end(c, finish.id, finish.state, &finish.subject, finish.expected, finish.settlement, finish.at_ms)?;
                if let Some(fault) = &finish.fault {
                    c.prepare_cached("UPDATE attempts SET fault = ?2 WHERE id = ?1")?
                        .execute(params![finish.id.to_bytes(), fault])?;
                }
                if let Some((key, refusal)) = &finish.refusal {
                    write_refusal(c, *key, refusal)?;
                }
                put_pictures(c, &finish.pictures, finish.entry.as_ref())
            })
            .await
    }

    /// Queues savings for the next commit. A crash may lose the last moment of them: no money moves.
    pub fn record_savings(&self, savings: Vec<Saving>) -> Result<(), StoreError> {
        self.database.write_later(move |c| {
            for saving in &savings {
                let deltas = Deltas { saved: saving.saved.known().unwrap_or(Usd::ZERO), ..Deltas::of(saving.saved) };
                append(c, "save", Some(saving.layer), &saving.subject, None, deltas, saving.at_ms)?;
            }
            Ok(())
        })
    }

    /// Ends the attempts of dead processes: what was not sent is released, what was sent is unknown and
    /// goes to suspense. Returns how many there were of each.
    pub async fn recover(&self, now: Millis) -> Result<(u32, u32), StoreError> {
        let open = self.database.read(|c| open_attempts(c, "state IN ('reserved', 'sending', 'accepted')")).await?;
        let mut dead = Vec::new();
        let mut known = std::collections::BTreeMap::new();
        for (owner, attempt) in open {
            if *known.entry(owner).or_insert_with(|| self.instance.is_dead(owner)) {
                dead.push(attempt);
            }
        }
        if dead.is_empty() {
            return Ok((0, 0));
        }
        self.database
            .write(move |c| {
                let (mut released, mut suspended) = (0, 0);
                for attempt in &dead {
                    let (state, settlement) = match attempt.state {
                        AttemptState::Reserved => (AttemptState::Failed, Settlement::Release),
                        _ => (AttemptState::Unknown, Settlement::Suspend),
                    };
                    // Another process may have recovered it between the read and now.
                    match end(c, attempt.id, state, &attempt.subject, attempt.expected, settlement, now) {
                        Ok(()) if settlement == Settlement::Release => released += 1,
                        Ok(()) => suspended += 1,
                        Err(rusqlite::Error::QueryReturnedNoRows) => {}
                        Err(error) => return Err(error),
                    }
                    c.execute(
                        "UPDATE attempts SET fault = 'the process that made it ended' WHERE id = ?1 AND fault IS NULL",
                        [attempt.id.to_bytes()],
                    )?;
                }
                Ok((released, suspended))
            })
            .await
    }

    /// Attempts whose outcome nobody knows, oldest first.
    pub async fn suspense(&self, tenant: Option<String>) -> Result<Vec<OpenAttempt>, StoreError> {
        let open = self.database.read(|c| open_attempts(c, "state = 'unknown'")).await?;
        let ours = |attempt: &OpenAttempt| tenant.as_ref().is_none_or(|tenant| *tenant == attempt.subject.tenant);
        Ok(open.into_iter().map(|(_, attempt)| attempt).filter(ours).collect())
    }

    /// Takes an attempt out of suspense: it was billed `billed` (zero: it was not). False if it is not
    /// in suspense.
    pub async fn resolve(&self, id: AttemptId, billed: Usd, now: Millis) -> Result<bool, StoreError> {
        self.database
            .write(move |c| {
                let open = open_attempts(c, "state = 'unknown'")?;
                let Some((_, attempt)) = open.into_iter().find(|(_, attempt)| attempt.id == id) else {
                    return Ok(false);
                };
                let state = if billed.is_zero() { AttemptState::Failed } else { AttemptState::Done };
                c.execute(
                    "UPDATE attempts SET state = ?2, updated_ms = ?3 WHERE id = ?1",
                    params![id.to_bytes(), state.name(), now],
                )?;
                let held = attempt.expected.known().unwrap_or(Usd::ZERO);
                let deltas = Deltas { spent: billed, suspense: -held, ..Deltas::default() };
                append(c, "resolve", None, &attempt.subject, Some(id), deltas, now)?;
                Ok(true)
            })
            .await
    }
}

/// What a ledger row adds to the balances.
#[derive(Clone, Copy, Default)]
struct Deltas {
    reserved: Usd,
    spent: Usd,
    suspense: Usd,
    saved: Usd,
    unpriced: bool,
}

impl Deltas {
    fn of(price: Price) -> Deltas {
        Deltas { unpriced: price == Price::Unknown, ..Deltas::default() }
    }
}

/// The one place that writes money.
fn append(
    c: &Connection,
    kind: &'static str,
    layer: Option<&'static str>,
    subject: &Subject,
    attempt: Option<AttemptId>,
    deltas: Deltas,
    at_ms: Millis,
) -> rusqlite::Result<()> {
    c.prepare_cached(
        "INSERT INTO ledger (at_ms, kind, layer, tenant, api_key, provider, model, purpose, request, attempt, pictures,
                             reserved, spent, suspense, saved, unpriced)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16)",
    )?
    .execute(params![
        at_ms,
        kind,
        layer,
        subject.tenant,
        subject.api_key,
        subject.provider,
        subject.model,
        subject.purpose,
        subject.request.to_bytes(),
        attempt.map(AttemptId::to_bytes),
        subject.pictures,
        Amount(deltas.reserved),
        Amount(deltas.spent),
        Amount(deltas.suspense),
        Amount(deltas.saved),
        deltas.unpriced,
    ])?;
    Ok(())
}

/// Ends an attempt that is under way. `QueryReturnedNoRows` if it is not.
fn end(
    c: &Connection,
    id: AttemptId,
    state: AttemptState,
    subject: &Subject,
    expected: Price,
    settlement: Settlement,
    now: Millis,
) -> rusqlite::Result<()> {
    let changed = c
        .prepare_cached(
            "UPDATE attempts SET state = ?2, updated_ms = ?3
             WHERE id = ?1 AND state IN ('reserved', 'sending', 'accepted')",
        )?
        .execute(params![id.to_bytes(), state.name(), now])?;
    if changed != 1 {
        return Err(rusqlite::Error::QueryReturnedNoRows);
    }
    let held = expected.known().unwrap_or(Usd::ZERO);
    let (kind, deltas) = match settlement {
        Settlement::Settle(billed) => {
            ("settle", Deltas { spent: billed.known().unwrap_or(Usd::ZERO), ..Deltas::of(billed) })
        }
        Settlement::Release => ("release", Deltas::default()),
        Settlement::Suspend => ("suspend", Deltas { suspense: held, ..Deltas::of(expected) }),
    };
    append(c, kind, None, subject, Some(id), Deltas { reserved: -held, ..deltas }, now)
}

/// What a key has used of a budget that counts from `since`: spent since then, plus all that is out.
fn used(c: &Connection, api_key: &str, since: Millis) -> rusqlite::Result<Usd> {
    let spent = c
        .prepare_cached(
            "SELECT sum(spent / 1000000), sum(spent % 1000000) FROM ledger WHERE api_key = ?1 AND at_ms >= ?2",
        )?
        .query_row(params![api_key, since], |row| split_sum(row, 0))?;
    let out = c
        .prepare_cached(
            "SELECT sum(expected / 1000000), sum(expected % 1000000) FROM attempts
             WHERE api_key = ?1 AND state IN ('reserved', 'sending', 'accepted', 'unknown')",
        )?
        .query_row([api_key], |row| split_sum(row, 0))?;
    Ok(spent + out)
}

/// Attempts in the states that `condition` (a constant of this file) names, with their owners.
fn open_attempts(c: &Connection, condition: &'static str) -> rusqlite::Result<Vec<(u128, OpenAttempt)>> {
    let mut query = c.prepare_cached(&format!(
        "SELECT owner, id, state, request, tenant, api_key, provider, model, purpose, pictures, expected, fault, created_ms
         FROM attempts WHERE {condition} ORDER BY created_ms, id"
    ))?;
    let rows = query.query_map([], |row| {
        let state = match row.get::<_, String>(2)?.as_str() {
            "reserved" => AttemptState::Reserved,
            "sending" => AttemptState::Sending,
            "accepted" => AttemptState::Accepted,
            _ => AttemptState::Unknown,
        };
        let attempt = OpenAttempt {
            id: AttemptId::from_bytes(row.get(1)?),
            state,
            subject: Subject {
                request: RequestId::from_bytes(row.get(3)?),
                tenant: row.get(4)?,
                api_key: row.get(5)?,
                provider: row.get(6)?,
                model: row.get(7)?,
                purpose: row.get(8)?,
                pictures: row.get(9)?,
            },
            expected: row.get::<_, Option<Amount>>(10)?.map_or(Price::Unknown, |amount| Price::Known(amount.0)),
            fault: row.get(11)?,
            created_ms: row.get(12)?,
        };
        Ok((u128::from_be_bytes(row.get(0)?), attempt))
    })?;
    rows.collect()
}
