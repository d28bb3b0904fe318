//! What is kept and what goes: the pictures that are worth least when room is needed, what nothing leads
//! to any more, and bytes that a process left behind when it was killed.
//!
//! Rows go first, in one transaction that also puts the names of their bytes into the trash; bytes are
//! deleted after it. A name is never used twice. So nothing that something leads to is ever deleted,
//! whoever is killed or frozen in between, and whatever is left over is found later.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use futures_util::StreamExt as _;

use super::entries::drop_pictures;
use super::sql::{Row, SqlError, values};
use super::{BlobName, BlobRead, Store, StoreError};
use crate::clock::Millis;
use crate::domain::{Digest, ImageId, Price};

/// Rows that are read from one place of the table, for a sample.
const STRETCH: u32 = 16;

/// Names that are looked up at once.
const PAGE: usize = 256;

/// How a picture was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Uses {
    /// Times, the first included.
    pub asked: u32,
    /// Time between two requests, later ones counting more: thousandths of the binary logarithm of
    /// milliseconds.
    pub pace_milli: i64,
    /// The last time.
    pub used_ms: Millis,
}

/// A picture that may have to go.
#[derive(Clone, Copy, Debug)]
pub struct Kept {
    /// The picture.
    pub id: ImageId,
    /// Its length.
    pub bytes: u64,
    /// What it cost.
    pub cost: Price,
    /// How it was asked for.
    pub uses: Uses,
    /// When it was made.
    pub created_ms: Millis,
}

/// What [`Store::collect`] and [`Store::verify`] found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Findings {
    /// Blobs that were looked at.
    pub blobs: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Blobs that nothing leads to.
    pub orphans: u64,
    /// Blobs that something leads to and that are not there.
    pub missing: u64,
    /// Blobs that do not match their hash.
    pub corrupt: u64,
}

impl Store {
    /// Bytes of all pictures that are kept.
    pub async fn stored_bytes(&self) -> Result<u64, StoreError> {
        self.engine
            .read(|sql| {
                let sum = sql.first("SELECT CAST(sum(bytes) AS BIGINT) FROM blobs", &[])?;
                sum.map_or(Ok(0), |row| row.count(0))
            })
            .await
    }

    /// Pictures chosen at random, about `count` of them.
    pub async fn sample(&self, count: u32) -> Result<Vec<Kept>, StoreError> {
        // Ids are random, so whatever follows a random one is a random choice.
        let starts: Vec<[u8; 16]> =
            (0..count.div_ceil(STRETCH)).map(|_| crate::domain::id::random().to_be_bytes()).chain([[0; 16]]).collect();
        self.engine
            .read(move |sql| {
                let mut found = BTreeMap::new();
                for start in &starts {
                    let rows = sql.query(
                        "SELECT id, bytes, cost, asked, pace, used_ms, created_ms FROM pictures
                         WHERE id >= ?1 ORDER BY id LIMIT ?2",
                        &values![*start, STRETCH],
                    )?;
                    for row in &rows {
                        found.insert(row.bytes::<16>(0)?, kept(row)?);
                    }
                }
                Ok(found.into_values().collect())
            })
            .await
    }

    /// Drops pictures with the entries that lead to them, and their bytes if nothing else leads to those.
    pub async fn evict(&self, pictures: Vec<ImageId>, now: Millis) -> Result<(), StoreError> {
        self.engine
            .write(move |sql| {
                for id in &pictures {
                    let rows = sql.query("SELECT id, blob FROM pictures WHERE id = ?1", &values![id.to_bytes()])?;
                    drop_pictures(sql, &rows, now)?;
                }
                Ok(())
            })
            .await?;
        self.empty_trash().await;
        Ok(())
    }

    /// Drops pictures that no entry leads to, because newer ones took their place, and that were made before
    /// `before`: nobody who was given their address may rely on it any longer. Returns how many.
    pub async fn drop_unlisted(&self, before: Millis, now: Millis) -> Result<u64, StoreError> {
        let dropped = self
            .engine
            .write(move |sql| {
                let rows = sql.query(
                    "SELECT p.id, p.blob FROM pictures p
                     WHERE p.created_ms < ?1 AND NOT EXISTS (SELECT 1 FROM entries e WHERE e.picture = p.id) LIMIT 1000",
                    &values![before],
                )?;
                drop_pictures(sql, &rows, now)?;
                Ok(rows.len() as u64)
            })
            .await?;
        self.empty_trash().await;
        Ok(dropped)
    }

    /// Notes how pictures were asked for. Queued, not waited for.
    pub fn note_uses(&self, uses: Vec<(ImageId, Uses)>) -> Result<(), StoreError> {
        self.engine.write_later(move |sql| {
            for (id, uses) in &uses {
                sql.execute(
                    "UPDATE pictures SET asked = ?2, pace = ?3, used_ms = ?4 WHERE id = ?1 AND used_ms < ?4",
                    &values![id.to_bytes(), uses.asked, uses.pace_milli, uses.used_ms],
                )?;
            }
            Ok(())
        })
    }

    /// The keys and pictures that were asked for last, at most `limit`.
    pub async fn last_used(&self, limit: u32) -> Result<Vec<(Digest, Kept)>, StoreError> {
        self.engine
            .read(move |sql| {
                let rows = sql.query(
                    "SELECT p.id, p.bytes, p.cost, p.asked, p.pace, p.used_ms, p.created_ms, e.key
                     FROM entries e JOIN pictures p ON p.id = e.picture ORDER BY p.used_ms DESC LIMIT ?1",
                    &values![limit],
                )?;
                rows.iter().map(|row| Ok((row.digest(7)?, kept(row)?))).collect()
            })
            .await
    }

    /// Something that was written under a name with [`Store::write_note`].
    pub async fn note(&self, name: &'static str) -> Result<Option<String>, StoreError> {
        self.engine
            .read(move |sql| {
                let row = sql.first("SELECT value FROM notes WHERE name = ?1", &values![name])?;
                row.map(|row| row.text(0)).transpose()
            })
            .await
    }

    /// Writes something under a name, in place of what was there.
    pub async fn write_note(&self, name: &'static str, value: String) -> Result<(), StoreError> {
        self.engine
            .write(move |sql| {
                sql.execute(
                    "INSERT INTO notes (name, value) VALUES (?1, ?2)
                     ON CONFLICT (name) DO UPDATE SET value = excluded.value",
                    &values![name, &value],
                )
                .map(|_| ())
            })
            .await
    }

    /// Deletes bytes that nothing leads to: what a process had written when it was killed, before it could
    /// say so. Only what is older than `grace`, which must be longer than any call takes: younger ones may
    /// be about to be written down. With `only_look`, nothing is deleted.
    pub async fn collect(&self, grace: Duration, now: Millis, only_look: bool) -> Result<Findings, StoreError> {
        self.empty_trash().await;
        let mut findings = Findings::default();
        let mut old = Vec::with_capacity(PAGE);
        let mut listed = self.blobs.list();
        while let Some(blob) = listed.next().await {
            let blob = blob?;
            findings.blobs += 1;
            findings.bytes += blob.bytes;
            if blob.age(now) >= grace {
                old.push(blob.name);
            }
            if old.len() == PAGE {
                findings.orphans += self.collect_page(std::mem::take(&mut old), only_look).await?;
            }
        }
        findings.orphans += self.collect_page(old, only_look).await?;
        Ok(findings)
    }

    async fn collect_page(&self, names: Vec<BlobName>, only_look: bool) -> Result<u64, StoreError> {
        let asked = names.clone();
        let known: BTreeSet<String> = self
            .engine
            .read(move |sql| {
                let mut known = BTreeSet::new();
                for name in &asked {
                    let name = name.to_string();
                    if sql.first("SELECT 1 FROM blobs WHERE name = ?1", &values![&name])?.is_some() {
                        known.insert(name);
                    }
                }
                Ok(known)
            })
            .await?;
        let mut orphans = 0;
        for name in names.iter().filter(|name| !known.contains(&name.to_string())) {
            orphans += 1;
            if !only_look {
                self.blobs.remove(name).await?;
            }
        }
        Ok(orphans)
    }

    /// Reads every blob that something leads to, and holds it against its hash. Changes nothing.
    pub async fn verify(&self) -> Result<Findings, StoreError> {
        let mut findings = Findings::default();
        let mut after = String::new();
        loop {
            let from = after.clone();
            let rows = self
                .engine
                .read(move |sql| {
                    sql.query("SELECT name, bytes FROM blobs WHERE name > ?1 ORDER BY name LIMIT 256", &values![&from])
                })
                .await?;
            let Some(last) = rows.last() else { return Ok(findings) };
            after = last.text(0)?;
            for row in &rows {
                findings.blobs += 1;
                findings.bytes += row.count(1)?;
                let read = match row.text(0)?.parse::<BlobName>() {
                    Ok(name) => self.blobs.get(&name).await?,
                    Err(_) => BlobRead::Missing,
                };
                match read {
                    BlobRead::Found(_) => {}
                    BlobRead::Missing => findings.missing += 1,
                    BlobRead::Corrupt => findings.corrupt += 1,
                }
            }
        }
    }
}

fn kept(row: &Row) -> Result<Kept, SqlError> {
    let used = row.int(5)?;
    Ok(Kept {
        id: ImageId::from_bytes(row.bytes(0)?),
        bytes: row.count(1)?,
        cost: row.price(2)?,
        uses: Uses {
            asked: row.small(3)?,
            pace_milli: row.int(4)?,
            used_ms: if used == 0 { row.int(6)? } else { used },
        },
        created_ms: row.int(6)?,
    })
}
