//! Pictures and the cache entries that lead to them.

use rusqlite::types::{FromSql, FromSqlError, FromSqlResult, ToSqlOutput, ValueRef};
use rusqlite::{Connection, OptionalExtension as _, Row, ToSql, params};

use super::{BlobName, Store, StoreError};
use crate::clock::Millis;
use crate::domain::{AttemptId, Digest, Format, ImageId, Price, RequestId, Usage, Usd};

/// A picture row: everything about a stored picture but its bytes.
#[derive(Clone, Debug)]
pub struct StoredPicture {
    /// The right to fetch it.
    pub id: ImageId,
    /// Where its bytes lie.
    pub blob: Digest,
    /// Encoding.
    pub format: Format,
    /// Width in pixels.
    pub width: u32,
    /// Height in pixels.
    pub height: u32,
    /// Provider instance that made it.
    pub provider: String,
    /// The provider's model that made it.
    pub model: String,
    /// True if the provider was a simulation.
    pub simulated: bool,
    /// What it cost.
    pub cost: Price,
    /// Its share of the tokens.
    pub usage: Option<Usage>,
    /// The prompt as the provider rewrote it.
    pub revised_prompt: Option<String>,
    /// When it was made.
    pub created_ms: Millis,
}

/// A picture to be stored; its blob is there already.
#[derive(Clone, Debug)]
pub struct NewPicture {
    /// The row.
    pub row: StoredPicture,
    /// Length of the blob in bytes.
    pub bytes: u64,
    /// Whose it is.
    pub tenant: String,
    /// The attempt that paid for it.
    pub attempt: Option<AttemptId>,
}

/// How pictures are to answer a key from now on.
#[derive(Clone, Debug)]
pub struct EntryWrite {
    /// The key.
    pub key: Digest,
    /// For listings: never the prompt.
    pub label: String,
    /// Drops what answered the key before this request, whose pictures may come from several attempts.
    pub replace: Option<RequestId>,
    /// When the new pictures stop answering; `None` is never.
    pub expires_ms: Option<Millis>,
}

/// A refusal that is kept.
#[derive(Clone, Debug)]
pub struct Refusal {
    /// Provider instance that refused.
    pub provider: String,
    /// Its code.
    pub code: Option<String>,
    /// Its message.
    pub message: String,
    /// When it stops answering.
    pub expires_ms: Millis,
}

/// What a key has.
#[derive(Clone, Debug, Default)]
pub struct Lookup {
    /// The pool of unexpired pictures, oldest first.
    pub pictures: Vec<StoredPicture>,
    /// A refusal that still holds.
    pub refusal: Option<Refusal>,
}

/// A cache entry, as listed.
#[derive(Clone, Debug, serde::Serialize)]
pub struct EntryListing {
    /// The key, in hex.
    pub key: String,
    /// Operation and model.
    pub label: String,
    /// Whose it is.
    pub tenant: String,
    /// Pictures in the pool.
    pub pictures: u32,
    /// Their bytes.
    pub bytes: u64,
    /// What they cost together, as far as known.
    pub cost_usd: Usd,
    /// When the newest was made, in milliseconds since the Unix epoch.
    pub created_ms: Millis,
    /// When the first stops answering; absent is never.
    pub expires_ms: Option<Millis>,
}

/// What a purge takes. All of the given conditions must hold.
#[derive(Clone, Debug, Default)]
pub struct PurgeFilter {
    /// Only this key.
    pub key: Option<Digest>,
    /// Only this tenant's.
    pub tenant: Option<String>,
    /// Only what is expired by this time.
    pub expired_by: Option<Millis>,
}

const COLUMNS: &str = "p.id, p.blob, p.format, p.width, p.height, p.provider, p.model, p.simulated, p.cost, p.usage, \
                       p.revised_prompt, p.created_ms";

impl Store {
    /// What answers `key` at `now`, made not before `not_before`.
    pub async fn lookup(&self, key: Digest, now: Millis, not_before: Option<Millis>) -> Result<Lookup, StoreError> {
        self.database
            .read(move |c| {
                let mut query = c.prepare_cached(
                    "SELECT p.id, p.blob, p.format, p.width, p.height, p.provider, p.model, p.simulated, p.cost,
                            p.usage, p.revised_prompt, p.created_ms
                     FROM entries e JOIN pictures p ON p.id = e.picture
                     WHERE e.key = ?1 AND (e.expires_ms IS NULL OR e.expires_ms > ?2) AND e.created_ms >= ?3
                     ORDER BY e.seq",
                )?;
                let rows = query.query_map(params![key.0, now, not_before.unwrap_or(Millis::MIN)], picture_of_row)?;
                let pictures = rows.collect::<Result<Vec<_>, _>>()?;
                let refusal = if pictures.is_empty() { refusal(c, key, now)? } else { None };
                Ok(Lookup { pictures, refusal })
            })
            .await
    }

    /// The picture `id`, whoever's it is: the id is the right to see it.
    pub async fn picture(&self, id: ImageId) -> Result<Option<StoredPicture>, StoreError> {
        self.database
            .read(move |c| {
                c.prepare_cached(&format!("SELECT {COLUMNS} FROM pictures p WHERE id = ?1"))?
                    .query_row([id.to_bytes()], picture_of_row)
                    .optional()
            })
            .await
    }

    /// Stores pictures that cost nothing and have no attempt, and lets them answer `entry`.
    pub async fn put_free(&self, pictures: Vec<NewPicture>, entry: Option<EntryWrite>) -> Result<(), StoreError> {
        self.database.write(move |c| put_pictures(c, &pictures, entry.as_ref())).await
    }

    /// Keeps a refusal.
    pub async fn put_refusal(&self, key: Digest, refusal: Refusal) -> Result<(), StoreError> {
        self.database.write(move |c| write_refusal(c, key, &refusal)).await
    }

    /// Drops a picture whose blob is missing or corrupt, so that it is made again.
    pub async fn drop_picture(&self, id: ImageId) -> Result<(), StoreError> {
        self.database
            .write(move |c| {
                c.execute("DELETE FROM entries WHERE picture = ?1", [id.to_bytes()])?;
                c.execute("DELETE FROM pictures WHERE id = ?1", [id.to_bytes()])?;
                Ok(())
            })
            .await
    }

    /// Raised by every purge, of any process.
    pub async fn purge_epoch(&self) -> Result<i64, StoreError> {
        self.database
            .read(|c| {
                c.prepare_cached("SELECT value FROM meta WHERE name = 'purge_epoch'")?.query_row([], |row| row.get(0))
            })
            .await
    }

    /// The newest `limit` entries.
    pub async fn entries(&self, tenant: Option<String>, limit: u32) -> Result<Vec<EntryListing>, StoreError> {
        self.database
            .read(move |c| {
                let mut query = c.prepare_cached(
                    "SELECT e.key, min(e.label), min(e.tenant), count(*), sum(p.bytes),
                            sum(p.cost / 1000000), sum(p.cost % 1000000), max(e.created_ms), min(e.expires_ms)
                     FROM entries e JOIN pictures p ON p.id = e.picture
                     WHERE ?1 IS NULL OR e.tenant = ?1
                     GROUP BY e.key ORDER BY max(e.created_ms) DESC LIMIT ?2",
                )?;
                let rows = query.query_map(params![tenant, limit], |row| {
                    Ok(EntryListing {
                        key: Digest(row.get(0)?).to_string(),
                        label: row.get(1)?,
                        tenant: row.get(2)?,
                        pictures: row.get(3)?,
                        bytes: row.get::<_, i64>(4)?.unsigned_abs(),
                        cost_usd: split_sum(row, 5)?,
                        created_ms: row.get(7)?,
                        expires_ms: row.get(8)?,
                    })
                })?;
                rows.collect()
            })
            .await
    }

    /// Drops what `filter` names: entries, pictures that no entry leads to, and blobs that no picture
    /// leads to. Returns how many pictures are gone.
    pub async fn purge(&self, filter: PurgeFilter) -> Result<u64, StoreError> {
        let (blobs, runtime) = (self.blobs.clone(), tokio::runtime::Handle::current());
        self.database
            .write(move |c| {
                let mut victims = c.prepare_cached(
                    "SELECT p.id, p.blob FROM entries e JOIN pictures p ON p.id = e.picture
                     WHERE (?1 IS NULL OR e.key = ?1) AND (?2 IS NULL OR e.tenant = ?2)
                       AND (?3 IS NULL OR e.expires_ms <= ?3)",
                )?;
                let rows = victims
                    .query_map(params![filter.key.map(|k| k.0), filter.tenant, filter.expired_by], |row| {
                        Ok((row.get::<_, [u8; 16]>(0)?, Digest(row.get(1)?)))
                    })?;
                let victims = rows.collect::<Result<Vec<_>, _>>()?;
                for (id, _) in &victims {
                    c.execute("DELETE FROM entries WHERE picture = ?1", [id])?;
                    c.execute("DELETE FROM pictures WHERE id = ?1", [id])?;
                }
                if filter.expired_by.is_none() {
                    c.execute(
                        "DELETE FROM refusals WHERE (?1 IS NULL OR key = ?1) AND ?2 IS NULL",
                        params![filter.key.map(|k| k.0), filter.tenant],
                    )?;
                    // What has only expired may stay in memory: nothing leads to it.
                    c.execute("UPDATE meta SET value = value + 1 WHERE name = 'purge_epoch'", [])?;
                }
                // A blob goes only when no row names it. Should the commit fail after that, its rows lead
                // to a missing blob, which a read finds out and has made again.
                for (_, blob) in &victims {
                    let named = c
                        .prepare_cached("SELECT 1 FROM pictures WHERE blob = ?1 LIMIT 1")?
                        .query_row([blob.0], |_| Ok(()))
                        .optional()?;
                    if named.is_none()
                        && let Err(error) = runtime.block_on(blobs.remove(&BlobName::legacy(*blob)))
                    {
                        tracing::warn!(%blob, %error, "a purged blob could not be removed");
                    }
                }
                Ok(victims.len() as u64)
            })
            .await
    }
}

fn refusal(c: &Connection, key: Digest, now: Millis) -> rusqlite::Result<Option<Refusal>> {
    c.prepare_cached("SELECT provider, code, message, expires_ms FROM refusals WHERE key = ?1 AND expires_ms > ?2")?
        .query_row(params![key.0, now], |row| {
            Ok(Refusal { provider: row.get(0)?, code: row.get(1)?, message: row.get(2)?, expires_ms: row.get(3)? })
        })
        .optional()
}

pub(super) fn write_refusal(c: &Connection, key: Digest, refusal: &Refusal) -> rusqlite::Result<()> {
    c.execute(
        "INSERT INTO refusals (key, provider, code, message, expires_ms) VALUES (?1, ?2, ?3, ?4, ?5)
         ON CONFLICT (key) DO UPDATE SET provider = ?2, code = ?3, message = ?4, expires_ms = ?5",
        params![key.0, refusal.provider, refusal.code, refusal.message, refusal.expires_ms],
    )?;
    Ok(())
}

/// Adds picture rows and, with `entry`, lets them answer its key after those that do already.
pub(super) fn put_pictures(
    c: &Connection,
    pictures: &[NewPicture],
    entry: Option<&EntryWrite>,
) -> rusqlite::Result<()> {
    if let Some(entry) = entry {
        if let Some(request) = entry.replace {
            c.prepare_cached(
                "DELETE FROM entries WHERE key = ?1 AND picture NOT IN
                   (SELECT p.id FROM pictures p JOIN attempts a ON a.id = p.attempt WHERE a.request = ?2)",
            )?
            .execute(params![entry.key.0, request.to_bytes()])?;
        }
        c.prepare_cached("DELETE FROM refusals WHERE key = ?1")?.execute([entry.key.0])?;
    }
    for new in pictures {
        let row = &new.row;
        let usage = row.usage.and_then(|usage| serde_json::to_string(&usage).ok());
        c.prepare_cached(
            "INSERT INTO pictures (id, tenant, blob, bytes, format, width, height, provider, model, simulated, cost,
                                   usage, revised_prompt, attempt, created_ms)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15)",
        )?
        .execute(params![
            row.id.to_bytes(),
            new.tenant,
            row.blob.0,
            i64::try_from(new.bytes).unwrap_or(i64::MAX),
            row.format.name(),
            row.width,
            row.height,
            row.provider,
            row.model,
            row.simulated,
            row.cost.known().map(Amount),
            usage,
            row.revised_prompt,
            new.attempt.map(AttemptId::to_bytes),
            row.created_ms,
        ])?;
        if let Some(entry) = entry {
            c.prepare_cached(
                "INSERT INTO entries (key, seq, picture, tenant, label, created_ms, expires_ms)
                 SELECT ?1, coalesce(max(seq), 0) + 1, ?2, ?3, ?4, ?5, ?6 FROM entries WHERE key = ?1",
            )?
            .execute(params![
                entry.key.0,
                row.id.to_bytes(),
                new.tenant,
                entry.label,
                row.created_ms,
                entry.expires_ms
            ])?;
        }
    }
    Ok(())
}

fn picture_of_row(row: &Row<'_>) -> rusqlite::Result<StoredPicture> {
    let usage: Option<String> = row.get(9)?;
    Ok(StoredPicture {
        id: ImageId::from_bytes(row.get(0)?),
        blob: Digest(row.get(1)?),
        format: Format::from_name(&row.get::<_, String>(2)?)
            .ok_or_else(|| rusqlite::Error::InvalidColumnType(2, "format".into(), rusqlite::types::Type::Text))?,
        width: row.get(3)?,
        height: row.get(4)?,
        provider: row.get(5)?,
        model: row.get(6)?,
        simulated: row.get(7)?,
        cost: row.get::<_, Option<Amount>>(8)?.map_or(Price::Unknown, |amount| Price::Known(amount.0)),
        usage: usage.and_then(|text| serde_json::from_str(&text).ok()),
        revised_prompt: row.get(10)?,
        created_ms: row.get(11)?,
    })
}

/// Money in a column: pico-dollars in 64 bits, up to nine million dollars a row.
pub(super) struct Amount(pub(super) Usd);

impl ToSql for Amount {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        let pico = i64::try_from(self.0.pico())
            .map_err(|_| rusqlite::Error::ToSqlConversionFailure("an amount beyond nine million dollars".into()))?;
        Ok(pico.into())
    }
}

impl FromSql for Amount {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
        match value {
            ValueRef::Integer(pico) => Ok(Amount(Usd::from_pico(i128::from(pico)))),
            _ => Err(FromSqlError::InvalidType),
        }
    }
}

/// A sum of money that SQL made in two halves, `sum(x / 1000000)` at `column` and `sum(x % 1000000)`
/// after it: one sum in 64 bits would overflow at nine million dollars.
pub(super) fn split_sum(row: &Row<'_>, column: usize) -> rusqlite::Result<Usd> {
    let high: Option<i64> = row.get(column)?;
    let low: Option<i64> = row.get(column + 1)?;
    Ok(Usd::from_pico(i128::from(high.unwrap_or(0)) * 1_000_000 + i128::from(low.unwrap_or(0))))
}
