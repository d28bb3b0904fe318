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

use rusqlite::config::DbConfig;
use rusqlite::types::{ToSqlOutput, ValueRef};
use rusqlite::{Connection, ErrorCode, OpenFlags, ToSql, TransactionBehavior, params_from_iter};
use tokio::sync::oneshot;

use super::StoreError;
use super::sql::{Row, Sql, SqlError, Value};
use crate::clock::{Clock, Millis};
use crate::config::Durability;

/// Forward-only migrations, in order. A database remembers in `user_version` how many it has.
const MIGRATIONS: &[&str] = &[
    include_str!("../../../../migrations/sqlite/0001_foundation.sql"),
    include_str!("../../../../migrations/sqlite/0002_replicas.sql"),
    include_str!("../../../../migrations/sqlite/0003_retention.sql"),
    include_str!("../../../../migrations/sqlite/0004_jobs.sql"),
    include_str!("../../../../migrations/sqlite/0005_credits.sql"),
    include_str!("../../../../migrations/sqlite/0006_feedback.sql"),
    include_str!("../../../../migrations/sqlite/0007_requests.sql"),
    include_str!("../../../../migrations/sqlite/0008_prices.sql"),
    include_str!("../../../../migrations/sqlite/0009_drafts.sql"),
    include_str!("../../../../migrations/sqlite/0010_timing.sql"),
    include_str!("../../../../migrations/sqlite/0011_wishes.sql"),
    include_str!("../../../../migrations/sqlite/0012_upkeep.sql"),
];

/// Writes that share a commit at most; more only wait for the next one.
const GROUP: usize = 256;

/// Idle readers that are kept.
const READERS: usize = 4;

impl From<rusqlite::Error> for SqlError {
    fn from(error: rusqlite::Error) -> Self {
        let why = error.to_string();
        match error.sqlite_error_code() {
            Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => SqlError::Conflict(why),
            // It passes when there is room again, and what was paid meanwhile is still to be written.
            Some(ErrorCode::DiskFull) => SqlError::Lost(why),
            _ => SqlError::Failed(why),
        }
    }
}

impl From<rusqlite::Error> for StoreError {
    fn from(error: rusqlite::Error) -> Self {
        SqlError::from(error).into()
    }
}

/// What SQLite makes of the shared words: one writer at a time, so a lock is there already.
struct Session<'a> {
    connection: &'a Connection,
    clock: &'a Clock,
}

impl Sql for Session<'_> {
    fn execute(&mut self, sql: &str, values: &[Value]) -> Result<u64, SqlError> {
        Ok(self.connection.prepare_cached(sql)?.execute(params_from_iter(values))? as u64)
    }

    fn query(&mut self, sql: &str, values: &[Value]) -> Result<Vec<Row>, SqlError> {
        let mut statement = self.connection.prepare_cached(sql)?;
        let columns = statement.column_count();
        let rows = statement.query_map(params_from_iter(values), |row| {
            let value = |column| {
                Ok(match row.get_ref(column)? {
                    ValueRef::Null => Value::Null,
                    ValueRef::Integer(number) => Value::Int(number),
                    ValueRef::Real(_) => {
                        let kind = rusqlite::types::Type::Real;
                        return Err(rusqlite::Error::InvalidColumnType(column, "a whole number".into(), kind));
                    }
                    ValueRef::Text(text) => Value::Text(String::from_utf8_lossy(text).into_owned()),
                    ValueRef::Blob(bytes) => Value::Bytes(bytes.to_vec()),
                })
            };
            (0..columns).map(value).collect::<rusqlite::Result<Vec<_>>>().map(Row)
        })?;
        Ok(rows.collect::<rusqlite::Result<Vec<_>>>()?)
    }

    fn lock(&mut self, _name: i64) -> Result<(), SqlError> {
        Ok(())
    }

    fn now(&mut self) -> Result<Millis, SqlError> {
        Ok(self.clock.now())
    }
}

impl ToSql for Value {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(match self {
            Value::Null => ToSqlOutput::Borrowed(ValueRef::Null),
            Value::Int(number) => ToSqlOutput::Borrowed(ValueRef::Integer(*number)),
            Value::Text(text) => ToSqlOutput::Borrowed(ValueRef::Text(text.as_bytes())),
            Value::Bytes(bytes) => ToSqlOutput::Borrowed(ValueRef::Blob(bytes)),
        })
    }
}

/// A write: what to do inside the transaction, and how to tell of the commit.
trait Write: Send {
    /// Does the work in a savepoint.
    fn apply(&mut self, connection: &Connection, clock: &Clock);
    /// Tells the waiting task, after the commit or its failure.
    fn acknowledge(self: Box<Self>, commit: Result<(), StoreError>);
}

struct Pending<T, F> {
    work: Option<F>,
    result: Option<Result<T, SqlError>>,
    reply: Option<oneshot::Sender<Result<T, StoreError>>>,
}

impl<T, F> Write for Pending<T, F>
where
    T: Send,
    F: Fn(&mut dyn Sql) -> Result<T, SqlError> + Send,
{
    fn apply(&mut self, connection: &Connection, clock: &Clock) {
        let Some(work) = self.work.take() else { return };
        let step = |sql| connection.prepare_cached(sql)?.execute([]).map(|_| ()).map_err(SqlError::from);
        let outcome = step("SAVEPOINT one").and_then(|()| match work(&mut Session { connection, clock }) {
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
pub(super) struct Sqlite {
    path: PathBuf,
    clock: Clock,
    writes: Option<SyncSender<Box<dyn Write>>>,
    writer: Option<std::thread::JoinHandle<()>>,
    readers: Arc<Mutex<Vec<Connection>>>,
}

impl fmt::Debug for Sqlite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sqlite").field("path", &self.path).finish_non_exhaustive()
    }
}

impl Sqlite {
    pub(super) fn open(path: &Path, durability: Durability, clock: Clock) -> Result<Sqlite, StoreError> {
        let mut connection = Connection::open(path)?;
        plan_once(&connection)?;
        connection.busy_timeout(Duration::from_secs(10))?;
        connection.execute_batch(match durability {
            // FULL syncs the log at every commit; NORMAL leaves that to the operating system, and still
            // never corrupts the database.
            Durability::Power => "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL;",
            Durability::Process => "PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL;",
        })?;
        // A checkpoint copies the log into the database and syncs both: every 32 MB of log, not every 4.
        connection.execute_batch(
            "PRAGMA foreign_keys = ON; PRAGMA recursive_triggers = ON; PRAGMA wal_autocheckpoint = 8192; PRAGMA journal_size_limit = 67108864;",
        )?;
        connection.set_prepared_statement_cache_capacity(64);
        migrate(&mut connection, path)?;
        let (sender, receiver) = sync_channel(4 * GROUP);
        let time = clock.clone();
        let writer = std::thread::Builder::new()
            .name("store-writer".into())
            .spawn(move || write_loop(&mut connection, &time, &receiver))
            .map_err(|error| StoreError::folder(path, &error))?;
        Ok(Sqlite {
            path: path.to_owned(),
            clock,
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
        F: Fn(&mut dyn Sql) -> Result<T, SqlError> + Send + 'static,
    {
        let (reply, committed) = oneshot::channel();
        self.enqueue(work, Some(reply))?;
        committed.await.map_err(|_| StoreError::Closed)?
    }

    /// Queues `work` for the next commit without waiting for it.
    pub(super) fn write_later<F>(&self, work: F) -> Result<(), StoreError>
    where
        F: Fn(&mut dyn Sql) -> Result<(), SqlError> + Send + 'static,
    {
        self.enqueue(work, None)
    }

    fn enqueue<T, F>(&self, work: F, reply: Option<oneshot::Sender<Result<T, StoreError>>>) -> Result<(), StoreError>
    where
        T: Send + 'static,
        F: Fn(&mut dyn Sql) -> Result<T, SqlError> + Send + 'static,
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
        F: Fn(&mut dyn Sql) -> Result<T, SqlError> + Send + 'static,
    {
        let (readers, path, clock) = (Arc::clone(&self.readers), self.path.clone(), self.clock.clone());
        tokio::task::spawn_blocking(move || {
            let pooled = lock(&readers).pop();
            let connection = match pooled {
                Some(connection) => connection,
                None => open_reader(&path)?,
            };
            let result = query(&mut Session { connection: &connection, clock: &clock })?;
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

impl Drop for Sqlite {
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

/// Has each statement planned when it is prepared, and not again for other values. Where there are partial indexes SQLite
/// would plan some of them anew at every use, in case a value makes one of these fit: four times for each picture made,
/// and twice for each that is found.
fn plan_once(connection: &Connection) -> rusqlite::Result<()> {
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true).map(drop)
}

fn open_reader(path: &Path) -> rusqlite::Result<Connection> {
    let connection =
        Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX)?;
    plan_once(&connection)?;
    connection.busy_timeout(Duration::from_secs(10))?;
    connection.set_prepared_statement_cache_capacity(32);
    // The operating system keeps the pages anyway; four readers with the usual 2 MB each would only keep copies.
    connection.pragma_update(None, "cache_size", -512)?;
    Ok(connection)
}

fn write_loop(connection: &mut Connection, clock: &Clock, writes: &Receiver<Box<dyn Write>>) {
    let mut group: Vec<Box<dyn Write>> = Vec::with_capacity(GROUP);
    while let Ok(first) = writes.recv() {
        group.push(first);
        let commit = commit_group(connection, clock, writes, &mut group);
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
    clock: &Clock,
    writes: &Receiver<Box<dyn Write>>,
    group: &mut Vec<Box<dyn Write>>,
) -> Result<(), StoreError> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let mut applied = 0;
    loop {
        while let Some(write) = group.get_mut(applied) {
            write.apply(&transaction, clock);
            applied += 1;
            // Where there is no room in the middle of it, SQLite undoes the whole transaction by itself.
            if transaction.is_autocommit() {
                return Err(StoreError::Unavailable("what was being written together was undone".to_owned()));
            }
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
    use super::super::sql::values;
    use super::*;

    fn database() -> (tempdir::Folder, Sqlite) {
        let folder = tempdir::Folder::new();
        let database = Sqlite::open(&folder.path.join("x.sqlite"), Durability::Process, Clock::System).unwrap();
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
            database
                .write(move |sql| sql.execute("INSERT INTO meta (name, value) VALUES (?1, ?2)", &values![name, value]))
        };
        let (a, twice, b) = tokio::join!(set("a", 1), set("purge_epoch", 1), set("b", 2));
        assert!(a.is_ok() && b.is_ok() && twice.is_err());
        let count = database.read(|sql| sql.first("SELECT count(*) FROM meta", &[])).await.unwrap().unwrap();
        assert_eq!(count.int(0).unwrap(), 3);
    }

    /// SQLite undoes the whole transaction when there is no room in the middle of it: nobody's write was made, and each
    /// may be made later.
    #[tokio::test]
    async fn without_room_nothing_is_taken_for_written_or_for_impossible() {
        let (_folder, database) = database();
        let pages = database.read(|sql| sql.first("PRAGMA page_count", &[])).await.unwrap().unwrap().int(0).unwrap();
        let limit: &'static str = format!("PRAGMA max_page_count = {}", pages + 4).leak();
        database.write(move |sql| sql.query(limit, &[])).await.unwrap();
        let note = |name: &'static str, length: usize| {
            let text = "x".repeat(length);
            database.write(move |sql| {
                sql.execute("INSERT INTO notes (name, value) VALUES (?1, ?2)", &values![name, text.as_str()])
            })
        };
        let (before, large, after) = tokio::join!(note("before", 9), note("large", 1 << 20), note("after", 9));
        assert!(matches!(large, Err(StoreError::Unavailable(_))), "{large:?}");
        for (name, told) in [("before", before), ("after", after)] {
            let found =
                database.read(move |sql| sql.first("SELECT 1 FROM notes WHERE name = ?1", &values![name])).await;
            match told {
                Ok(_) => assert!(found.unwrap().is_some(), "{name}"),
                Err(StoreError::Unavailable(_)) => assert!(found.unwrap().is_none(), "{name}"),
                Err(error) => panic!("{name}: {error}"),
            }
        }
        assert_eq!(note("later", 9).await.unwrap(), 1, "it goes on");
    }

    #[test]
    fn what_passes_by_itself_is_no_fault_of_a_statement() {
        let told = |code| StoreError::from(rusqlite::Error::SqliteFailure(rusqlite::ffi::Error::new(code), None));
        for code in [rusqlite::ffi::SQLITE_BUSY, rusqlite::ffi::SQLITE_LOCKED, rusqlite::ffi::SQLITE_FULL] {
            assert!(matches!(told(code), StoreError::Unavailable(_)), "{code}");
        }
        for code in [rusqlite::ffi::SQLITE_CONSTRAINT, rusqlite::ffi::SQLITE_CORRUPT] {
            assert!(matches!(told(code), StoreError::Database(_)), "{code}");
        }
    }

    #[test]
    fn a_newer_database_is_refused() {
        let (folder, database) = database();
        drop(database);
        let path = folder.path.join("x.sqlite");
        Connection::open(&path).unwrap().pragma_update(None, "user_version", 99).unwrap();
        let opened = Sqlite::open(&path, Durability::Process, Clock::System);
        assert!(matches!(opened, Err(StoreError::Newer { found: 99, .. })));
    }
}
