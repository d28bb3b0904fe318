//! Pictures and the cache entries that lead to them.

use super::sql::{Row, Sql, SqlError, halves, lock_name, price, values};
use super::{BlobName, Store, StoreError};
use crate::clock::Millis;
use crate::domain::{AttemptId, Digest, Format, ImageId, Price, RequestId, Usage, Usd};

/// A picture row: everything about a stored picture but its bytes.
#[derive(Clone, Debug)]
pub struct StoredPicture {
    /// The right to fetch it.
    pub id: ImageId,
    /// Hash of its bytes.
    pub blob: Digest,
    /// Where they lie.
    pub name: BlobName,
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
    /// Who made it, as people name it: `provider/model@quality`.
    pub candidate: Option<String>,
    /// What it shows, if somebody said.
    pub category: Option<String>,
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
    /// The route, or the model that was asked for by its name.
    pub route: String,
    /// The caller's labels, by which they can be purged.
    pub tags: Vec<String>,
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
    /// Position of the newest entry, whether it still answers or not; 0 if there is none.
    pub last: i64,
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
    /// The route, or the model that was asked for by its name.
    pub route: String,
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
    /// Only what came through this route, or for this model.
    pub route: Option<String>,
    /// Only what bears this tag.
    pub tag: Option<String>,
    /// Only what is expired by this time.
    pub expired_by: Option<Millis>,
}

const COLUMNS: &str = "p.id, p.blob, p.format, p.width, p.height, p.provider, p.model, p.simulated, p.cost, p.usage, \
                       p.revised_prompt, p.created_ms, b.name";

impl Store {
    /// What answers `key` at `now`, made not before `not_before`.
    pub async fn lookup(&self, key: Digest, now: Millis, not_before: Option<Millis>) -> Result<Lookup, StoreError> {
        self.engine
            .read(move |sql| {
                // Before the entries: what comes between is then later than `last`, and found out by who pays.
                let last = sql.first("SELECT coalesce(max(seq), 0) FROM entries WHERE key = ?1", &values![key])?;
                let rows = sql.query(
                    &format!(
                        "SELECT {COLUMNS} FROM entries e JOIN pictures p ON p.id = e.picture
                         JOIN blobs b ON b.digest = p.blob
                         WHERE e.key = ?1 AND (e.expires_ms IS NULL OR e.expires_ms > ?2) AND e.created_ms >= ?3
                         ORDER BY e.seq"
                    ),
                    &values![key, now, not_before.unwrap_or(Millis::MIN)],
                )?;
                let pictures = rows.iter().map(picture_of_row).collect::<Result<Vec<_>, _>>()?;
                let refusal = if pictures.is_empty() { refusal(sql, key, now)? } else { None };
                Ok(Lookup { pictures, refusal, last: last.map_or(Ok(0), |row| row.int(0))? })
            })
            .await
    }

    /// The picture `id`, whoever's it is: the id is the right to see it.
    pub async fn picture(&self, id: ImageId) -> Result<Option<StoredPicture>, StoreError> {
        self.engine
            .read(move |sql| {
                let query =
                    format!("SELECT {COLUMNS} FROM pictures p JOIN blobs b ON b.digest = p.blob WHERE p.id = ?1");
                sql.first(&query, &values![id.to_bytes()])?.as_ref().map(picture_of_row).transpose()
            })
            .await
    }

    /// Stores pictures that cost nothing and have no attempt, and lets them answer `entry`.
    pub async fn put_free(
        &self,
        pictures: Vec<NewPicture>,
        entry: Option<EntryWrite>,
        now: Millis,
    ) -> Result<(), StoreError> {
        self.engine
            .write(move |sql| {
                if let Some(entry) = &entry {
                    sql.lock(lock_name("entry", &entry.key.0))?;
                }
                if let Some(first) = pictures.first() {
                    let known = sql.first("SELECT 1 FROM pictures WHERE id = ?1", &values![first.row.id.to_bytes()])?;
                    if known.is_some() {
                        return Ok(()); // done already; only the acknowledgement was lost
                    }
                }
                put_pictures(sql, &pictures, entry.as_ref(), now)
            })
            .await
    }

    /// Keeps a refusal.
    pub async fn put_refusal(&self, key: Digest, refusal: Refusal) -> Result<(), StoreError> {
        self.engine.write(move |sql| write_refusal(sql, key, &refusal)).await
    }

    /// Drops the bytes called `name`, which are missing or damaged, with all pictures and entries that lead
    /// to them: they are made again when they are asked for. Does nothing if the bytes lie elsewhere by now.
    pub async fn drop_blob(&self, digest: Digest, name: BlobName, now: Millis) -> Result<(), StoreError> {
        self.engine
            .write(move |sql| {
                let named = sql
                    .first("SELECT 1 FROM blobs WHERE digest = ?1 AND name = ?2", &values![digest, name.to_string()])?;
                if named.is_none() {
                    return Ok(());
                }
                let pictures = sql.query("SELECT id, blob FROM pictures WHERE blob = ?1", &values![digest])?;
                drop_pictures(sql, &pictures, now)
            })
            .await
    }

    /// Raised by every purge, of any process.
    pub async fn purge_epoch(&self) -> Result<i64, StoreError> {
        self.engine
            .read(|sql| {
                let epoch = sql.first("SELECT value FROM meta WHERE name = 'purge_epoch'", &[])?;
                epoch.map_or(Ok(0), |row| row.int(0))
            })
            .await
    }

    /// The newest `limit` entries.
    pub async fn entries(&self, tenant: Option<String>, limit: u32) -> Result<Vec<EntryListing>, StoreError> {
        self.engine
            .read(move |sql| {
                let rows = sql.query(
                    concat!(
                        "SELECT e.key, min(e.label), min(e.tenant), count(*), CAST(sum(p.bytes) AS BIGINT), ",
                        halves!("p.cost"),
                        ", max(e.created_ms), min(e.expires_ms), min(e.route)
                         FROM entries e JOIN pictures p ON p.id = e.picture
                         WHERE e.tenant = ?1 OR ?1 IS NULL
                         GROUP BY e.key ORDER BY max(e.created_ms) DESC LIMIT ?2"
                    ),
                    &values![&tenant, limit],
                )?;
                let listing = |row: &Row| {
                    Ok(EntryListing {
                        key: row.digest(0)?.to_string(),
                        label: row.text(1)?,
                        tenant: row.text(2)?,
                        route: row.text(9)?,
                        pictures: row.small(3)?,
                        bytes: row.count(4)?,
                        cost_usd: row.sum(5)?,
                        created_ms: row.int(7)?,
                        expires_ms: row.maybe_int(8)?,
                    })
                };
                rows.iter().map(listing).collect()
            })
            .await
    }

    /// Drops what `filter` names: entries, their pictures, and bytes that no picture leads to any more.
    /// Returns how many pictures are gone.
    pub async fn purge(&self, filter: PurgeFilter, now: Millis) -> Result<u64, StoreError> {
        let is_sweep = filter.expired_by.is_some();
        let mut gone = 0;
        loop {
            let filter = filter.clone();
            // In pages: all at once would hold more locks than a server has room for, and take longer than anybody
            // waits.
            let page = self.engine.write(move |sql| purge_page(sql, &filter, is_sweep, now)).await?;
            gone += page;
            if page < PURGED_AT_ONCE {
                break;
            }
        }
        crate::failpoint::failpoint!("store::after_drop");
        self.empty_trash().await;
        Ok(gone)
    }

    /// Deletes the bytes that nothing refers to. What cannot be deleted now is tried again the next time.
    pub async fn empty_trash(&self) {
        let page = || self.engine.read(|sql| sql.query("SELECT name FROM trash ORDER BY since_ms LIMIT 256", &[]));
        loop {
            let names = match page().await {
                Ok(rows) => rows,
                Err(error) => return tracing::warn!(%error, "the trash could not be read"),
            };
            let mut gone = Vec::with_capacity(names.len());
            for row in &names {
                let Ok(text) = row.text(0) else { continue };
                // A name that is none leads to nothing.
                let removed = match text.parse::<BlobName>() {
                    Ok(name) => self.blobs.remove(&name).await.map(|_| ()),
                    Err(_) => Ok(()),
                };
                match removed {
                    Ok(()) => gone.push(text),
                    Err(error) => {
                        tracing::warn!(%error, blob = text, "a blob could not be deleted; it will be tried again");
                    }
                }
            }
            crate::failpoint::failpoint!("store::after_delete");
            let is_stuck = gone.len() < names.len();
            let done = self.engine.write(move |sql| {
                gone.iter()
                    .try_for_each(|name| sql.execute("DELETE FROM trash WHERE name = ?1", &values![name]).map(|_| ()))
            });
            if let Err(error) = done.await {
                return tracing::warn!(%error, "the trash could not be written");
            }
            if names.len() < 256 || is_stuck {
                return;
            }
        }
    }
}

/// Pictures that one transaction of a purge drops at most.
const PURGED_AT_ONCE: u64 = 256;

/// One page of [`Store::purge`]: how many pictures it dropped.
fn purge_page(sql: &mut dyn Sql, filter: &PurgeFilter, is_sweep: bool, now: Millis) -> Result<u64, SqlError> {
    // The comparisons first: they tell PostgreSQL of which types the parameters are.
    let pictures = sql.query(
        "SELECT DISTINCT p.id, p.blob FROM entries e JOIN pictures p ON p.id = e.picture
         WHERE (e.key = ?1 OR ?1 IS NULL) AND (e.tenant = ?2 OR ?2 IS NULL)
           AND (e.expires_ms <= ?3 OR ?3 IS NULL) AND (e.route = ?4 OR ?4 IS NULL)
           AND (EXISTS (SELECT 1 FROM tags t WHERE t.picture = p.id AND t.tag = ?5) OR ?5 IS NULL)
         LIMIT ?6",
        &values![filter.key, &filter.tenant, filter.expired_by, &filter.route, &filter.tag, PURGED_AT_ONCE],
    )?;
    drop_pictures(sql, &pictures, now)?;
    if is_sweep {
        sql.execute("DELETE FROM refusals WHERE expires_ms <= ?1", &values![filter.expired_by])?;
    } else {
        let names_no_key = filter.tenant.is_some() || filter.route.is_some() || filter.tag.is_some();
        if !names_no_key {
            sql.execute("DELETE FROM refusals WHERE key = ?1 OR ?1 IS NULL", &values![filter.key])?;
        }
        // With every page: who looks between two of them must look again. What has only expired may stay in
        // memory: nothing leads to it.
        sql.execute("UPDATE meta SET value = value + 1 WHERE name = 'purge_epoch'", &[])?;
    }
    Ok(pictures.len() as u64)
}

/// Drops pictures (rows of id and content hash) with their entries and tags. Bytes that no picture leads
/// to any more are put into the trash, to be deleted after the commit: whatever happens in between, no
/// bytes are deleted that something leads to, and none are forgotten.
pub(super) fn drop_pictures(sql: &mut dyn Sql, pictures: &[Row], now: Millis) -> Result<(), SqlError> {
    for row in pictures {
        let (id, blob) = (row.bytes::<16>(0)?, row.digest(1)?);
        sql.execute("DELETE FROM entries WHERE picture = ?1", &values![id])?;
        sql.execute("DELETE FROM tags WHERE picture = ?1", &values![id])?;
        sql.execute("DELETE FROM pictures WHERE id = ?1", &values![id])?;
        // Whoever adds a picture with the same content holds this lock as well.
        sql.lock(lock_name("blob", &blob.0))?;
        sql.execute(
            "INSERT INTO trash (name, since_ms) SELECT b.name, CAST(?2 AS BIGINT) FROM blobs b
             WHERE b.digest = ?1 AND NOT EXISTS (SELECT 1 FROM pictures p WHERE p.blob = ?1)",
            &values![blob, now],
        )?;
        sql.execute(
            "DELETE FROM blobs WHERE digest = ?1 AND NOT EXISTS (SELECT 1 FROM pictures p WHERE p.blob = ?1)",
            &values![blob],
        )?;
    }
    Ok(())
}

fn refusal(sql: &mut dyn Sql, key: Digest, now: Millis) -> Result<Option<Refusal>, SqlError> {
    let row = sql.first(
        "SELECT provider, code, message, expires_ms FROM refusals WHERE key = ?1 AND expires_ms > ?2",
        &values![key, now],
    )?;
    let refusal = |row: Row| {
        Ok(Refusal { provider: row.text(0)?, code: row.maybe_text(1)?, message: row.text(2)?, expires_ms: row.int(3)? })
    };
    row.map(refusal).transpose()
}

pub(super) fn write_refusal(sql: &mut dyn Sql, key: Digest, refusal: &Refusal) -> Result<(), SqlError> {
    sql.execute(
        "INSERT INTO refusals (key, provider, code, message, expires_ms) VALUES (?1, ?2, ?3, ?4, ?5)
         ON CONFLICT (key) DO UPDATE SET provider = excluded.provider, code = excluded.code,
                                         message = excluded.message, expires_ms = excluded.expires_ms",
        &values![key, &refusal.provider, &refusal.code, &refusal.message, refusal.expires_ms],
    )?;
    Ok(())
}

/// Adds picture rows and, with `entry`, lets them answer its key after those that do already. Bytes that
/// are stored under another name already are used from there, and the new name goes to the trash.
pub(super) fn put_pictures(
    sql: &mut dyn Sql,
    pictures: &[NewPicture],
    entry: Option<&EntryWrite>,
    now: Millis,
) -> Result<(), SqlError> {
    let mut seq = 0;
    if let Some(entry) = entry {
        let last = sql.first("SELECT coalesce(max(seq), 0) FROM entries WHERE key = ?1", &values![entry.key])?;
        // Later than everything that ever stood here, also what was dropped since: who has seen that still finds
        // out that this is new.
        seq = last.map_or(Ok(0), |row| row.int(0))?.max(sql.now()?);
        if let Some(request) = entry.replace {
            sql.execute(
                "DELETE FROM entries WHERE key = ?1 AND picture NOT IN
                   (SELECT p.id FROM pictures p JOIN attempts a ON a.id = p.attempt WHERE a.request = ?2)",
                &values![entry.key, request.to_bytes()],
            )?;
        }
        sql.execute("DELETE FROM refusals WHERE key = ?1", &values![entry.key])?;
    }
    for new in pictures {
        let row = &new.row;
        let name = row.name.to_string();
        sql.lock(lock_name("blob", &row.blob.0))?;
        let is_new = sql.execute(
            "INSERT INTO blobs (digest, name, bytes) VALUES (?1, ?2, ?3) ON CONFLICT (digest) DO NOTHING",
            &values![row.blob, &name, new.bytes],
        )?;
        if is_new == 0 {
            sql.execute(
                "INSERT INTO trash (name, since_ms) SELECT CAST(?1 AS TEXT), CAST(?2 AS BIGINT)
                 WHERE NOT EXISTS (SELECT 1 FROM blobs WHERE name = ?1) ON CONFLICT (name) DO NOTHING",
                &values![&name, now],
            )?;
        }
        let usage = row.usage.and_then(|usage| serde_json::to_string(&usage).ok());
        sql.execute(
            "INSERT INTO pictures (id, tenant, blob, bytes, format, width, height, provider, model, simulated, cost,
                                   usage, revised_prompt, attempt, created_ms, candidate, category)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17)",
            &values![
                row.id.to_bytes(),
                &new.tenant,
                row.blob,
                new.bytes,
                row.format.name(),
                row.width,
                row.height,
                &row.provider,
                &row.model,
                row.simulated,
                price(row.cost)?,
                usage,
                &row.revised_prompt,
                new.attempt.map(AttemptId::to_bytes),
                row.created_ms,
                &new.candidate,
                &new.category,
            ],
        )?;
        let Some(entry) = entry else { continue };
        seq += 1;
        sql.execute(
            "INSERT INTO entries (key, seq, picture, tenant, label, created_ms, expires_ms, route)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
            &values![
                entry.key,
                seq,
                row.id.to_bytes(),
                &new.tenant,
                &entry.label,
                row.created_ms,
                entry.expires_ms,
                &entry.route,
            ],
        )?;
        for tag in &entry.tags {
            sql.execute(
                "INSERT INTO tags (tag, picture) VALUES (?1, ?2) ON CONFLICT (tag, picture) DO NOTHING",
                &values![tag, row.id.to_bytes()],
            )?;
        }
    }
    Ok(())
}

fn picture_of_row(row: &Row) -> Result<StoredPicture, SqlError> {
    let format = row.text(2)?;
    let name = row.text(12)?;
    let usage = row.maybe_text(9)?;
    Ok(StoredPicture {
        id: ImageId::from_bytes(row.bytes(0)?),
        blob: row.digest(1)?,
        name: name.parse().map_err(|_| SqlError::Failed(format!("`{name}` is no name of a blob")))?,
        format: Format::from_name(&format).ok_or_else(|| SqlError::Failed(format!("`{format}` is no format")))?,
        width: row.small(3)?,
        height: row.small(4)?,
        provider: row.text(5)?,
        model: row.text(6)?,
        simulated: row.flag(7)?,
        cost: row.price(8)?,
        usage: usage.and_then(|text| serde_json::from_str(&text).ok()),
        revised_prompt: row.maybe_text(10)?,
        created_ms: row.int(11)?,
    })
}
