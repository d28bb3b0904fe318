//! Which processes are alive, so that nobody waits for, or gives up, the wrong one.
//!
//! A process that does paid work is in the table `instances` until a time that it keeps moving forward.
//! One whose time has passed may be given up by any other: its row goes, and with it its right to finish
//! what it began (see [`super::attempts`]). Should it come back, because it was only frozen or cut off,
//! it starts over under another [`Term`].
//!
//! On one machine each process also holds a lock on a file of its own. The operating system drops it when
//! the process ends, however it ends, so that a restart need not wait for the time to pass.

use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::attempts::Term;
use super::sql::values;
use super::{Store, StoreError};
use crate::clock::{Millis, millis};

/// This process among the others.
#[derive(Debug)]
pub(super) struct Instance {
    /// How long the others believe in it after each sign of life.
    lease: Duration,
    /// Where the lock files are; `None` if the others may be on other machines.
    folder: Option<PathBuf>,
    /// Under which term it is known, if it ever did paid work.
    term: tokio::sync::Mutex<Option<Held>>,
    /// Since when signs of life have come through without a gap: who was cut off itself must not give
    /// others up for having been silent.
    steady: Mutex<Steady>,
}

#[derive(Debug)]
struct Held {
    term: Term,
    // Held open, and thereby locked, as long as the term lasts.
    lock: Option<(File, PathBuf)>,
}

#[derive(Clone, Copy, Debug)]
struct Steady {
    since: Instant,
    last: Instant,
}

impl Instance {
    pub(super) fn new(lease: Duration, folder: Option<PathBuf>) -> io::Result<Instance> {
        if let Some(folder) = &folder {
            std::fs::create_dir_all(folder)?;
        }
        let now = Instant::now();
        let steady = Mutex::new(Steady { since: now, last: now });
        Ok(Instance { lease, folder, term: tokio::sync::Mutex::new(None), steady })
    }

    /// Notes that the database answered.
    fn heard(&self) {
        let now = Instant::now();
        let mut steady = self.steady.lock().unwrap_or_else(PoisonError::into_inner);
        if now - steady.last > self.lease / 2 {
            steady.since = now;
        }
        steady.last = now;
    }

    /// True if this process would have heard of the others, had they said anything.
    fn is_steady(&self) -> bool {
        let steady = *self.steady.lock().unwrap_or_else(PoisonError::into_inner);
        steady.since.elapsed() >= self.lease / 2 && steady.last.elapsed() <= self.lease / 2
    }

    fn hold(&self, term: Term) -> io::Result<Held> {
        let Some(folder) = &self.folder else { return Ok(Held { term, lock: None }) };
        let path = path_of(folder, term);
        let file = OpenOptions::new().create(true).truncate(false).write(true).read(true).open(&path)?;
        file.lock()?;
        Ok(Held { term, lock: Some((file, path)) })
    }

    /// True if the process of `term` was on this machine and has ended.
    fn has_ended(&self, term: Term) -> bool {
        let Some(folder) = &self.folder else { return false };
        match File::open(path_of(folder, term)) {
            Err(error) => error.kind() == io::ErrorKind::NotFound,
            Ok(file) => match file.try_lock() {
                Ok(()) => {
                    let _ = std::fs::remove_file(path_of(folder, term));
                    true
                }
                Err(TryLockError::WouldBlock | TryLockError::Error(_)) => false,
            },
        }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        if let Some((_, path)) = &self.lock {
            let _ = std::fs::remove_file(path);
        }
    }
}

impl Store {
    /// How often a sign of life is due.
    pub fn heartbeat(&self) -> Duration {
        self.instance.lease / 3
    }

    /// The term under which this process does paid work now; makes it known if it is new.
    pub(super) async fn term(&self) -> Result<Term, StoreError> {
        let mut held = self.instance.term.lock().await;
        if let Some(held) = held.as_ref() {
            return Ok(held.term);
        }
        let term = Term(crate::domain::id::random());
        // The lock before the row: nobody may find the row and no lock.
        let new = self.instance.hold(term).map_err(|error| StoreError::folder(&self.path, &error))?;
        let lease = self.lease_ms();
        self.engine
            .write(move |sql| {
                let now = sql.now()?;
                sql.execute(
                    "INSERT INTO instances (id, started_ms, expires_ms) VALUES (?1, ?2, ?3) ON CONFLICT (id) DO NOTHING",
                    &values![term.0.to_be_bytes(), now, now.saturating_add(lease)],
                )
            })
            .await?;
        self.instance.heard();
        *held = Some(new);
        Ok(term)
    }

    /// The term of [`Store::term`], if there is one.
    pub(super) async fn present_term(&self) -> Option<Term> {
        self.instance.term.lock().await.as_ref().map(|held| held.term)
    }

    /// A sign of life, for the others. If they have given this process up, it has no term any more until it
    /// needs one.
    ///
    /// # Errors
    /// The database cannot be reached.
    pub async fn renew(&self) -> Result<(), StoreError> {
        let mut held = self.instance.term.lock().await;
        let Some(term) = held.as_ref().map(|held| held.term) else {
            // Nothing to keep alive; still worth knowing that the database is there.
            self.engine.read(|sql| sql.now()).await?;
            self.instance.heard();
            return Ok(());
        };
        let lease = self.lease_ms();
        let renewed = self
            .engine
            .write(move |sql| {
                let expires = sql.now()?.saturating_add(lease);
                sql.execute(
                    "UPDATE instances SET expires_ms = ?2 WHERE id = ?1",
                    &values![term.0.to_be_bytes(), expires],
                )
            })
            .await?;
        self.instance.heard();
        if renewed == 0 {
            tracing::warn!("this process was silent for too long and was given up by the others; it starts over");
            *held = None;
        }
        Ok(())
    }

    /// How many processes do paid work on this store, as far as is known: those that do, and this one, whether it does
    /// already or not.
    ///
    /// # Errors
    /// The database cannot be reached.
    pub async fn processes(&self) -> Result<u32, StoreError> {
        let ours = self.instance.term.lock().await.as_ref().map(|held| held.term.0.to_be_bytes());
        let rows = self
            .engine
            .read(|sql| {
                let now = sql.now()?;
                sql.query("SELECT id FROM instances WHERE expires_ms > ?1", &values![now])
            })
            .await?;
        let others = rows.iter().filter(|row| row.bytes::<16>(0).ok() != ours).count();
        Ok(u32::try_from(others).unwrap_or(u32::MAX).saturating_add(1))
    }

    /// Says goodbye: nobody need wait for this process.
    ///
    /// # Errors
    /// The database cannot be reached; the others will find out by themselves.
    pub async fn leave(&self) -> Result<(), StoreError> {
        let mut held = self.instance.term.lock().await;
        if let Some(held) = held.take() {
            let id = held.term.0.to_be_bytes();
            self.engine.write(move |sql| sql.execute("DELETE FROM instances WHERE id = ?1", &values![id])).await?;
        }
        Ok(())
    }

    /// Takes away the term of every process that has ended, or was silent for longer than it may.
    pub(super) async fn give_up_the_dead(&self) -> Result<(), StoreError> {
        let ours = self.present_term().await;
        let (now, rows) =
            self.engine.read(|sql| Ok((sql.now()?, sql.query("SELECT id, expires_ms FROM instances", &[])?))).await?;
        self.instance.heard();
        let is_steady = self.instance.is_steady();
        for row in rows {
            let (Ok(id), Ok(expires)) = (row.bytes::<16>(0), row.int(1)) else { continue };
            let term = Term(u128::from_be_bytes(id));
            if ours == Some(term) {
                continue;
            }
            if self.instance.has_ended(term) {
                self.engine.write(move |sql| sql.execute("DELETE FROM instances WHERE id = ?1", &values![id])).await?;
            } else if is_steady && expires <= now {
                // Unless it has come back this very moment.
                self.engine
                    .write(move |sql| {
                        let now = sql.now()?;
                        sql.execute("DELETE FROM instances WHERE id = ?1 AND expires_ms <= ?2", &values![id, now])
                    })
                    .await?;
            }
        }
        Ok(())
    }

    fn lease_ms(&self) -> Millis {
        millis(self.instance.lease)
    }
}

fn path_of(folder: &Path, term: Term) -> PathBuf {
    folder.join(format!("{:032x}.lock", term.0))
}
