//! PostgreSQL: a pool of connections on threads that may block, for any number of replicas.
//!
//! Each write is a transaction of its own, because the server groups commits by itself. What is lost
//! with its connection is done again, so every write of this room is one that may be done again.

use std::collections::HashMap;
use std::fmt;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use postgres::config::SslMode;
use postgres::error::SqlState;
use postgres::types::private::BytesMut;
use postgres::types::{IsNull, ToSql, Type, to_sql_checked};
use postgres::{Client, Config, NoTls, Statement, Transaction};
use rustls_platform_verifier::BuilderVerifierExt as _;
use tokio::sync::Semaphore;
use tokio::time::Instant;

use super::StoreError;
use super::address::DatabaseAddress;
use super::sql::{Row, Sql, SqlError, Value};
use crate::clock::Millis;

/// Forward-only migrations, in order. The table `mimeo_schema` remembers how many a database has.
const MIGRATIONS: &[&str] = &[
    include_str!("../../../../migrations/postgres/0001_foundation.sql"),
    include_str!("../../../../migrations/postgres/0002_retention.sql"),
    include_str!("../../../../migrations/postgres/0003_jobs.sql"),
    include_str!("../../../../migrations/postgres/0004_credits.sql"),
    include_str!("../../../../migrations/postgres/0005_feedback.sql"),
    include_str!("../../../../migrations/postgres/0006_requests.sql"),
    include_str!("../../../../migrations/postgres/0007_prices.sql"),
    include_str!("../../../../migrations/postgres/0008_drafts.sql"),
    include_str!("../../../../migrations/postgres/0009_timing.sql"),
    include_str!("../../../../migrations/postgres/0010_wishes.sql"),
    include_str!("../../../../migrations/postgres/0011_upkeep.sql"),
];

/// Connections of one process at most.
const CONNECTIONS: usize = 12;

/// How long a transaction is tried again when the server is away or others are in the way.
const PATIENCE: Duration = Duration::from_secs(10);

/// How long anybody waits for one transaction: a server that does not answer at all is away.
const STUCK: Duration = Duration::from_secs(15);

/// Savings that wait to be written; beyond that they are dropped, for they move no money.
const QUEUE: usize = 8192;

/// What the server enforces for each of our connections, in milliseconds: nobody waits longer for a lock
/// or a statement, and no lock is held by a process that went away in the middle.
const SESSION: &str = "-c statement_timeout=10000 -c lock_timeout=8000 -c idle_in_transaction_session_timeout=10000";

/// The lock under which a schema is brought up to date.
const MIGRATION_LOCK: i64 = 0x006d_696d_656f;

type Later = Box<dyn Fn(&mut dyn Sql) -> Result<(), SqlError> + Send + Sync>;

/// A database on a server.
pub(super) struct Postgres {
    pool: Arc<Pool>,
    permits: Arc<Semaphore>,
    later: Option<SyncSender<Later>>,
    writer: Option<std::thread::JoinHandle<()>>,
}

impl fmt::Debug for Postgres {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Postgres").field("at", &self.pool.place).finish_non_exhaustive()
    }
}

struct Pool {
    config: Config,
    tls: Option<tokio_postgres_rustls::MakeRustlsConnect>,
    /// For messages: never the password.
    place: String,
    idle: Mutex<Vec<Connection>>,
}

struct Connection {
    client: Client,
    statements: HashMap<String, Statement>,
}

impl Postgres {
    /// Connects and brings the schema up to date. Blocks, so not for a thread of the runtime.
    pub(super) fn open(url: &str) -> Result<Postgres, StoreError> {
        let address = DatabaseAddress::parse(url).map_err(|bad| StoreError::Database(format!("storage.url {bad}")))?;
        let place = format!("PostgreSQL at {address}");
        let mut config = address.into_config();
        let session = config.get_options().map_or_else(|| SESSION.to_owned(), |own| format!("{SESSION} {own}"));
        config
            .options(&session)
            .application_name("mimeo")
            .connect_timeout(Duration::from_secs(3))
            .tcp_user_timeout(Duration::from_secs(10))
            .keepalives_idle(Duration::from_secs(15));
        let tls = match config.get_ssl_mode() {
            SslMode::Disable => None,
            _ => secure(),
        };
        if tls.is_none() && config.get_ssl_mode() == SslMode::Require {
            return Err(StoreError::Database(format!(
                "{place} asks for TLS, and this machine has no certificates to check it with: install ca-certificates"
            )));
        }
        let pool = Arc::new(Pool { config, tls, place, idle: Mutex::default() });
        let mut connection = pool.patient(Pool::connect)?;
        migrate(&mut connection.client, &pool.place)?;
        pool.give_back(connection);
        let (later, queue) = sync_channel(QUEUE);
        let writer = {
            let pool = Arc::clone(&pool);
            std::thread::Builder::new()
                .name("store-savings".into())
                .spawn(move || write_later(&pool, &queue))
                .map_err(|error| StoreError::Database(error.to_string()))?
        };
        Ok(Postgres { pool, permits: Arc::new(Semaphore::new(CONNECTIONS)), later: Some(later), writer: Some(writer) })
    }

    pub(super) async fn write<T, F>(&self, work: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: Fn(&mut dyn Sql) -> Result<T, SqlError> + Send + Sync + 'static,
    {
        self.run(move |pool| pool.patient(|pool| pool.transaction(&work))).await
    }

    pub(super) async fn read<T, F>(&self, query: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: Fn(&mut dyn Sql) -> Result<T, SqlError> + Send + Sync + 'static,
    {
        self.run(move |pool| pool.patient(|pool| pool.query(&query))).await
    }

    pub(super) fn write_later<F>(&self, work: F) -> Result<(), StoreError>
    where
        F: Fn(&mut dyn Sql) -> Result<(), SqlError> + Send + Sync + 'static,
    {
        let later = self.later.as_ref().ok_or(StoreError::Closed)?;
        later.try_send(Box::new(work)).map_err(|error| match error {
            TrySendError::Full(_) => StoreError::Unavailable(format!("{} is behind", self.pool.place)),
            TrySendError::Disconnected(_) => StoreError::Closed,
        })
    }

    async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Pool) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let away = || StoreError::Unavailable(format!("{} does not answer", self.pool.place));
        let pool = Arc::clone(&self.pool);
        let permits = Arc::clone(&self.permits);
        let answer = async move {
            let permit = permits.acquire_owned().await.map_err(|_| StoreError::Closed)?;
            // The permit goes with the thread: one that is stuck still counts.
            tokio::task::spawn_blocking(move || {
                let answer = work(&pool);
                drop(permit);
                answer
            })
            .await
            .map_err(|_| StoreError::Closed)?
        };
        tokio::time::timeout(STUCK, answer).await.map_err(|_| away())?
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        // Closing the queue ends the writer after what is queued.
        drop(self.later.take());
        let (writer, pool) = (self.writer.take(), Arc::clone(&self.pool));
        // A client must not be dropped on a thread of the runtime, because it says goodbye and waits.
        let closing = std::thread::spawn(move || {
            if let Some(writer) = writer {
                let _ = writer.join();
            }
            pool.forget();
        });
        let _ = closing.join();
    }
}

impl Pool {
    fn connect(&self) -> Result<Connection, SqlError> {
        let client = match &self.tls {
            Some(tls) => self.config.connect(tls.clone()),
            None => self.config.connect(NoTls),
        };
        let client = client.map_err(|error| match classify(error) {
            SqlError::Failed(why) => SqlError::Failed(format!(
                "{}: {why}. Correct storage.url, or create that user and database on the server",
                self.place
            )),
            passing => passing,
        })?;
        Ok(Connection { client, statements: HashMap::new() })
    }

    fn take(&self) -> Result<Connection, SqlError> {
        let idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
        match idle {
            Some(connection) if !connection.client.is_closed() => Ok(connection),
            _ => self.connect(),
        }
    }

    fn give_back(&self, connection: Connection) {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).push(connection);
    }

    /// After one connection was lost the others are no better, and would be found out one by one.
    fn forget(&self) {
        let idle = std::mem::take(&mut *self.idle.lock().unwrap_or_else(PoisonError::into_inner));
        drop(idle);
    }

    /// Tries until it works, it is hopeless, or patience ends.
    fn patient<T>(&self, attempt: impl Fn(&Pool) -> Result<T, SqlError>) -> Result<T, StoreError> {
        let begun = Instant::now();
        let mut pause = Duration::from_millis(20);
        loop {
            let why = match attempt(self) {
                Ok(value) => return Ok(value),
                Err(SqlError::Failed(why)) => return Err(StoreError::Database(why)),
                Err(SqlError::Lost(why)) => {
                    self.forget();
                    why
                }
                Err(SqlError::Conflict(why)) => why,
            };
            if begun.elapsed() + pause > PATIENCE {
                return Err(StoreError::Unavailable(format!("{}: {why}", self.place)));
            }
            std::thread::sleep(pause);
            pause = (pause * 2).min(Duration::from_secs(1));
        }
    }

    fn transaction<T>(&self, work: &dyn Fn(&mut dyn Sql) -> Result<T, SqlError>) -> Result<T, SqlError> {
        let mut connection = self.take()?;
        let value = {
            let Connection { client, statements } = &mut connection;
            let transaction = client.transaction().map_err(classify)?;
            let mut session = Session { transaction, statements };
            let value = work(&mut session)?; // dropped without a commit, it is rolled back with its connection
            let Session { transaction, .. } = session;
            transaction.commit().map_err(classify)?;
            value
        };
        self.give_back(connection);
        Ok(value)
    }

    fn query<T>(&self, work: &dyn Fn(&mut dyn Sql) -> Result<T, SqlError>) -> Result<T, SqlError> {
        let mut connection = self.take()?;
        let value = work(&mut connection)?;
        self.give_back(connection);
        Ok(value)
    }
}

/// What PostgreSQL makes of the shared words.
struct Session<'a> {
    transaction: Transaction<'a>,
    statements: &'a mut HashMap<String, Statement>,
}

/// Prepares `sql` once per connection. Our parameters are `?1`, the server's are `$1`.
fn prepared(
    statements: &mut HashMap<String, Statement>,
    sql: &str,
    prepare: impl FnOnce(&str) -> Result<Statement, postgres::Error>,
) -> Result<Statement, SqlError> {
    if let Some(known) = statements.get(sql) {
        return Ok(known.clone());
    }
    let statement = prepare(&sql.replace('?', "$")).map_err(classify)?;
    statements.insert(sql.to_owned(), statement.clone());
    Ok(statement)
}

fn parameters(values: &[Value]) -> Vec<&(dyn ToSql + Sync)> {
    values.iter().map(|value| value as &(dyn ToSql + Sync)).collect()
}

const NOW: &str = "SELECT CAST(extract(epoch FROM clock_timestamp()) * 1000 AS BIGINT)";

impl Sql for Session<'_> {
    fn execute(&mut self, sql: &str, values: &[Value]) -> Result<u64, SqlError> {
        let statement = prepared(self.statements, sql, |sql| self.transaction.prepare(sql))?;
        self.transaction.execute(&statement, &parameters(values)).map_err(classify)
    }

    fn query(&mut self, sql: &str, values: &[Value]) -> Result<Vec<Row>, SqlError> {
        let statement = prepared(self.statements, sql, |sql| self.transaction.prepare(sql))?;
        let rows = self.transaction.query(&statement, &parameters(values)).map_err(classify)?;
        rows.iter().map(row).collect()
    }

    fn lock(&mut self, name: i64) -> Result<(), SqlError> {
        self.execute("SELECT pg_advisory_xact_lock(?1)", &[Value::Int(name)]).map(|_| ())
    }

    fn now(&mut self) -> Result<Millis, SqlError> {
        self.first(NOW, &[])?.map_or(Ok(0), |row| row.int(0))
    }
}

/// A connection outside a transaction, for reading: one statement sees one state of things.
impl Sql for Connection {
    fn execute(&mut self, sql: &str, values: &[Value]) -> Result<u64, SqlError> {
        let statement = prepared(&mut self.statements, sql, |sql| self.client.prepare(sql))?;
        self.client.execute(&statement, &parameters(values)).map_err(classify)
    }

    fn query(&mut self, sql: &str, values: &[Value]) -> Result<Vec<Row>, SqlError> {
        let statement = prepared(&mut self.statements, sql, |sql| self.client.prepare(sql))?;
        let rows = self.client.query(&statement, &parameters(values)).map_err(classify)?;
        rows.iter().map(row).collect()
    }

    fn lock(&mut self, _name: i64) -> Result<(), SqlError> {
        Err(SqlError::Failed("a lock outlives no statement outside a transaction".to_owned()))
    }

    fn now(&mut self) -> Result<Millis, SqlError> {
        self.first(NOW, &[])?.map_or(Ok(0), |row| row.int(0))
    }
}

fn row(row: &postgres::Row) -> Result<Row, SqlError> {
    let value = |(column, of): (usize, &postgres::Column)| {
        Ok(match *of.type_() {
            Type::INT8 => row.try_get::<_, Option<i64>>(column)?.map_or(Value::Null, Value::Int),
            Type::INT4 => row.try_get::<_, Option<i32>>(column)?.map_or(Value::Null, Value::from),
            Type::BYTEA => row.try_get::<_, Option<Vec<u8>>>(column)?.map_or(Value::Null, Value::Bytes),
            // Anything else that a statement of this room yields is text, or says so in the error.
            _ => row.try_get::<_, Option<String>>(column)?.map_or(Value::Null, Value::Text),
        })
    };
    let values: Result<Vec<Value>, postgres::Error> = row.columns().iter().enumerate().map(value).collect();
    Ok(Row(values.map_err(classify)?))
}

impl ToSql for Value {
    fn to_sql(&self, ty: &Type, out: &mut BytesMut) -> Result<IsNull, Box<dyn std::error::Error + Sync + Send>> {
        match self {
            Value::Null => Ok(IsNull::Yes),
            Value::Int(number) if *ty == Type::INT4 => i32::try_from(*number)?.to_sql(ty, out),
            Value::Int(number) => number.to_sql(ty, out),
            Value::Text(text) => text.to_sql(ty, out),
            Value::Bytes(bytes) => bytes.to_sql(ty, out),
        }
    }

    fn accepts(_: &Type) -> bool {
        true
    }

    to_sql_checked!();
}

#[expect(clippy::needless_pass_by_value, reason = "it is what `map_err` calls")]
fn classify(error: postgres::Error) -> SqlError {
    let why = reason(&error);
    let Some(state) = error.code() else {
        // No word from the server: it went away, or never was there.
        return SqlError::Lost(why);
    };
    if [SqlState::T_R_SERIALIZATION_FAILURE, SqlState::T_R_DEADLOCK_DETECTED, SqlState::LOCK_NOT_AVAILABLE]
        .contains(state)
    {
        return SqlError::Conflict(why);
    }
    // 08: connection; 53: out of resources; 57: stopping, starting or cancelled; 25006: a standby that is read-only.
    match state.code() {
        code if ["08", "53", "57"].iter().any(|class| code.starts_with(class)) || code == "25006" => {
            SqlError::Lost(why)
        }
        _ => SqlError::Failed(why),
    }
}

/// What the server said, or else why it said nothing. Holds no part of the address.
fn reason(error: &postgres::Error) -> String {
    match error.as_db_error() {
        Some(said) => said.message().to_owned(),
        None => std::error::Error::source(error).map_or_else(|| error.to_string(), ToString::to_string),
    }
}

fn secure() -> Option<tokio_postgres_rustls::MakeRustlsConnect> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .ok()?
        .with_platform_verifier()
        .ok()?
        .with_no_client_auth();
    Some(tokio_postgres_rustls::MakeRustlsConnect::new(config))
}

fn write_later(pool: &Pool, queue: &Receiver<Later>) {
    while let Ok(first) = queue.recv() {
        let mut group = vec![first];
        group.extend(queue.try_iter().take(255));
        let all = |sql: &mut dyn Sql| group.iter().try_for_each(|work| work(sql));
        let Err(error) = pool.patient(|pool| pool.transaction(&all)) else { continue };
        if group.len() == 1 || !matches!(error, StoreError::Database(_)) {
            tracing::warn!(%error, rows = group.len(), "savings could not be noted");
            continue;
        }
        // One of them is at fault, and takes nothing of the others with it.
        for work in &group {
            if let Err(error) = pool.patient(|pool| pool.transaction(work.as_ref())) {
                tracing::warn!(%error, "a saving could not be noted");
            }
        }
    }
}

fn migrate(client: &mut Client, place: &str) -> Result<(), StoreError> {
    let failed = |error: postgres::Error| StoreError::Database(format!("{place}: {}", reason(&error)));
    let mut transaction = client.transaction().map_err(failed)?;
    transaction.execute("SELECT pg_advisory_xact_lock($1)", &[&MIGRATION_LOCK]).map_err(failed)?;
    transaction.batch_execute("CREATE TABLE IF NOT EXISTS mimeo_schema (version BIGINT NOT NULL)").map_err(failed)?;
    let found = transaction
        .query_one("SELECT coalesce(max(version), 0) FROM mimeo_schema", &[])
        .and_then(|row| row.try_get::<_, i64>(0))
        .map_err(failed)?;
    let found = usize::try_from(found).unwrap_or(0);
    if found > MIGRATIONS.len() {
        return Err(StoreError::Newer { path: place.to_owned(), found, known: MIGRATIONS.len() });
    }
    for (version, migration) in MIGRATIONS.iter().enumerate().skip(found) {
        transaction.batch_execute(migration).map_err(failed)?;
        let version = i64::try_from(version + 1).unwrap_or(i64::MAX);
        transaction.execute("INSERT INTO mimeo_schema (version) VALUES ($1)", &[&version]).map_err(failed)?;
    }
    transaction.commit().map_err(failed)
}
