//! SQLite: one writer thread with group commit, a pool of readers.
//!
//! Everybody's writes of one moment go into one transaction and share its fsync; each has a savepoint
//! of its own, so that one that fails takes nothing of the others with it. A write is acknowledged
//! only after the commit.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::Duration;

use rusqlite::{Connection, OpenFlags, TransactionBehavior};
use tokio::sync::oneshot;

use crate::config::Durability;

/// Forward-only migrations, in order. A database remembers in `user_version` how many it has.
const MIGRATIONS: &[&str] = &[include_str!("../../../../migrations/sqlite/0001_foundation.sql")];

/// Writes that share a commit at most; more only wait for the next one.
const GROUP: usize = 256;

/// Idle readers that are kept.
const READERS: usize = 4;

/// Why the store could not do something.
#[derive(Clone, Debug, thiserror::Error)]
pub enum StoreError {
    /// The database said no.
    #[error("the database failed: {0}")]
    Database(String),
    /// The data folder cannot be used.
    #[error("the data folder {path} cannot be used: {cause}. Name another with --data")]
    Folder {
        /// The folder.
        path: String,
        /// What the operating system said.
        cause: String,
    },
    /// The database was written by a newer Mimeo.
    #[error(
        "{path} was written by a newer Mimeo (schema {found}, this one knows {known}): upgrade, or use another folder"
    )]
    Newer {
        /// The database file.
        path: String,
        /// Its schema.
        found: usize,
        /// The newest schema that this program knows.
        known: usize,
    },
    /// The place of the pictures' bytes cannot be used.
    #[error(transparent)]
    Blobs(#[from] super::BlobError),
    /// The writer has ended.
    #[error("the store is closed")]
    Closed,
}

impl StoreError {
    pub(super) fn folder(path: &Path, error: &std::io::Error) -> Self {
        StoreError::Folder { path: path.display().to_string(), cause: error.to_string() }
    }
}

impl From<rusqlite::Error> for StoreError {
    fn from(error: rusqlite::Error) -> Self {
        StoreError::Database(error.to_string())
    }
}

impl From<StoreError> for crate::error::Error {
    fn from(error: StoreError) -> Self {
        crate::error::Error::internal("store", error)
    }
}

/// A write: what to do inside the transaction, and how to tell of the commit.
trait Write: Send {
    /// Does the work in a savepoint.
    fn apply(&mut self, connection: &Connection);
    /// Tells the waiting task, after the commit or its failure.
    fn acknowledge(self: Box<Self>, commit: Result<(), StoreError>);
}

struct Pending<T, F> {
    work: Option<F>,
    result: Option<rusqlite::Result<T>>,
    reply: Option<oneshot::Sender<Result<T, StoreError>>>,
}

impl<T, F> Write for Pending<T, F>
where
    T: Send,
    F: FnOnce(&Connection) -> rusqlite::Result<T> + Send,
{
    fn apply(&mut self, connection: &Connection) {
        let Some(work) = self.work.take() else { return };
        let step = |sql| connection.prepare_cached(sql)?.execute([]).map(|_| ());
        let outcome = step("SAVEPOINT one").and_then(|()| match work(connection) {
            Ok(value) => step("RELEASE one").map(|()| value),
            Err(error) => {
                // The error of the work matters more than one of undoing it; the latter fails the commit.
                let _ = connection.execute_batch("ROLLBACK TO one; RELEASE one");
                Err(error)
            }
        });
        self.result = Some(outcome);
    }

    fn acknowledge(mut self: Box<Self>, commit: Result<(), StoreError>) {
        let Some(reply) = self.reply.take() else { return };
        let result = match (commit, self.result.take()) {
            (Err(error), _) => Err(error),
            (Ok(()), Some(result)) => result.map_err(StoreError::from),
            (Ok(()), None) => Err(StoreError::Closed),
        };
        let _ = reply.send(result);
    }
}

/// The database.
pub(super) struct Database {
    path: PathBuf,
    writes: Option<SyncSender<Box<dyn Write>>>,
    writer: Option<std::thread::JoinHandle<()>>,
    readers: Arc<Mutex<Vec<Connection>>>,
}

impl fmt::Debug for Database {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Database").field("path", &self.path).finish_non_exhaustive()
    }
}

impl Database {
    pub(super) fn open(path: &Path, durability: Durability) -> Result<Database, StoreError> {
        let mut connection = Connection::open(path)?;
        connection.busy_timeout(Duration::from_secs(10))?;
        connection.execute_batch(match durability {
            // FULL syncs the log at every commit; NORMAL leaves that to the operating system, and still
            // never corrupts the database.
            Durability::Power => "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL;",
            Durability::Process => "PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL;",
        })?;
        // A checkpoint copies the log into the database and syncs both: every 32 MB of log, not every 4.
        connection.execute_batch(
            "PRAGMA foreign_keys = ON; PRAGMA wal_autocheckpoint = 8192; PRAGMA journal_size_limit = 67108864;",
        )?;
        connection.set_prepared_statement_cache_capacity(64);
        migrate(&mut connection, path)?;
        let (sender, receiver) = sync_channel(4 * GROUP);
        let writer = std::thread::Builder::new()
            .name("store-writer".into())
            .spawn(move || write_loop(&mut connection, &receiver))
            .map_err(|error| StoreError::folder(path, &error))?;
        Ok(Database {
            path: path.to_owned(),
            writes: Some(sender),
            writer: Some(writer),
            readers: Arc::new(Mutex::new(Vec::new())),
        })
    }

    /// Runs `work` in a transaction and returns after its commit. `work` may be part of a larger
    /// commit, but succeeds or fails alone.
    pub(super) async fn write<T, F>(&self, work: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    {
        let (reply, committed) = oneshot::channel();
        self.enqueue(work, Some(reply))?;
        committed.await.map_err(|_| StoreError::Closed)?
    }

    /// Queues `work` for the next commit without waiting for it.
    pub(super) fn write_later<F>(&self, work: F) -> Result<(), StoreError>
    where
        F: FnOnce(&Connection) -> rusqlite::Result<()> + Send + 'static,
    {
        self.enqueue(work, None)
    }

    fn enqueue<T, F>(&self, work: F, reply: Option<oneshot::Sender<Result<T, StoreError>>>) -> Result<(), StoreError>
    where
        T: Send + 'static,
        F: FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    {
        let pending = Box::new(Pending { work: Some(work), result: None, reply });
        let writes = self.writes.as_ref().ok_or(StoreError::Closed)?;
        // A full queue blocks this thread for at most one commit: back-pressure on whoever writes most.
        writes.send(pending).map_err(|_| StoreError::Closed)
    }

    /// Runs `query` on a read-only connection, on a thread that may block.
    pub(super) async fn read<T, F>(&self, query: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    {
        let (readers, path) = (Arc::clone(&self.readers), self.path.clone());
        tokio::task::spawn_blocking(move || {
            let pooled = lock(&readers).pop();
            let connection = match pooled {
                Some(connection) => connection,
                None => open_reader(&path)?,
            };
            let result = query(&connection)?;
            let mut idle = lock(&readers);
            if idle.len() < READERS {
                idle.push(connection);
            }
            Ok(result)
        })
        .await
        .map_err(|_| StoreError::Closed)?
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        // Closing the queue ends the writer after what is queued; waiting for it keeps those writes.
        drop(self.writes.take());
        if let Some(writer) = self.writer.take() {
            let _ = writer.join();
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    // Connections stay usable whatever panicked while one was borrowed.
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

fn open_reader(path: &Path) -> rusqlite::Result<Connection> {
    let connection =
        Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX)?;
    connection.busy_timeout(Duration::from_secs(10))?;
    connection.set_prepared_statement_cache_capacity(32);
    // The operating system keeps the pages anyway; four readers with the usual 2 MB each would only keep copies.
    connection.pragma_update(None, "cache_size", -512)?;
    Ok(connection)
}

fn write_loop(connection: &mut Connection, writes: &Receiver<Box<dyn Write>>) {
    let mut group: Vec<Box<dyn Write>> = Vec::with_capacity(GROUP);
    while let Ok(first) = writes.recv() {
        group.push(first);
        let commit = commit_group(connection, writes, &mut group);
        if let Err(error) = &commit {
            tracing::error!(%error, writes = group.len(), "a commit failed");
        }
        for write in group.drain(..) {
            write.acknowledge(commit.clone());
        }
    }
}

/// Applies what is in `group` and what comes in meanwhile, then commits all of it.
fn commit_group(
    connection: &mut Connection,
    writes: &Receiver<Box<dyn Write>>,
    group: &mut Vec<Box<dyn Write>>,
) -> Result<(), StoreError> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let mut applied = 0;
    loop {
        while let Some(write) = group.get_mut(applied) {
            write.apply(&transaction);
            applied += 1;
        }
        if group.len() >= GROUP {
            break;
        }
        match writes.try_recv() {
            Ok(write) => group.push(write),
            Err(_) => break,
        }
    }
    transaction.commit()?;
    Ok(())
}

fn migrate(connection: &mut Connection, path: &Path) -> Result<(), StoreError> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let found: usize = transaction.query_row("PRAGMA user_version", [], |row| row.get::<_, u32>(0))? as usize;
    if found > MIGRATIONS.len() {
        return Err(StoreError::Newer { path: path.display().to_string(), found, known: MIGRATIONS.len() });
    }
    for (version, migration) in MIGRATIONS.iter().enumerate().skip(found) {
        transaction.execute_batch(migration)?;
        // PRAGMA takes no bound parameters; the number is ours.
        transaction.pragma_update(None, "user_version", version as u32 + 1)?;
    }
    transaction.commit()?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn database() -> (tempdir::Folder, Database) {
        let folder = tempdir::Folder::new();
        let database = Database::open(&folder.path.join("x.sqlite"), Durability::Process).unwrap();
        (folder, database)
    }

    /// A folder that is removed at the end of a test.
    mod tempdir {
        pub struct Folder {
            pub path: std::path::PathBuf,
        }
        impl Folder {
            pub fn new() -> Self {
                let path = std::env::temp_dir().join(format!("mimeo-test-{:032x}", crate::domain::id::random()));
                std::fs::create_dir_all(&path).unwrap();
                Folder { path }
            }
        }
        impl Drop for Folder {
            fn drop(&mut self) {
                let _ = std::fs::remove_dir_all(&self.path);
            }
        }
    }

    #[tokio::test]
    async fn a_failing_write_takes_nothing_of_others_with_it() {
        let (_folder, database) = database();
        let set = |name: &'static str, value: i64| {
            database.write(move |c| c.execute("INSERT INTO meta (name, value) VALUES (?1, ?2)", (name, value)))
        };
        let (a, twice, b) = tokio::join!(set("a", 1), set("purge_epoch", 1), set("b", 2));
        assert!(a.is_ok() && b.is_ok() && twice.is_err());
        let count =
            database.read(|c| c.query_row("SELECT count(*) FROM meta", [], |r| r.get::<_, i64>(0))).await.unwrap();
        assert_eq!(count, 3);
    }

    #[tokio::test]
    async fn the_ledger_is_append_only() {
        let (_folder, database) = database();
        database
            .write(|c| {
                c.execute(
                    "INSERT INTO ledger (at_ms, kind, tenant, api_key, provider, model, request, pictures)
                     VALUES (0, 'save', 't', 'k', 'p', 'm', x'00', 1)",
                    [],
                )
            })
            .await
            .unwrap();
        assert!(database.write(|c| c.execute("UPDATE ledger SET spent = 1", [])).await.is_err());
        assert!(database.write(|c| c.execute("DELETE FROM ledger", [])).await.is_err());
    }

    #[test]
    fn a_newer_database_is_refused() {
        let (folder, database) = database();
        drop(database);
        let path = folder.path.join("x.sqlite");
        Connection::open(&path).unwrap().pragma_update(None, "user_version", 99).unwrap();
        assert!(matches!(Database::open(&path, Durability::Process), Err(StoreError::Newer { found: 99, .. })));
    }
}
