//! The few words in which this room speaks to a database, so that each statement is written once and
//! runs on every engine.
//!
//! Statements are in the dialect that SQLite and PostgreSQL share, with parameters `?1`, `?2`, …; all
//! numbers are 64-bit integers. What the engines do differently (how commits are grouped, what a lock
//! is, whose clock counts) is behind [`Sql`] and [`Engine`].

use std::path::Path;

use super::postgres::Postgres;
use super::sqlite::Sqlite;
use crate::clock::{Clock, Millis};
use crate::config::Durability;
use crate::domain::{Digest, Price, Usd};

/// A value in a statement or a row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Value {
    Null,
    Int(i64),
    Text(String),
    Bytes(Vec<u8>),
}

/// Why a transaction did not come about.
#[derive(Clone, Debug)]
pub(super) enum SqlError {
    /// The connection was lost, or the server is not there: whether it was committed is not known, and
    /// it may be tried again.
    Lost(String),
    /// Another transaction was in the way; nothing was written.
    Conflict(String),
    /// The statement or its data is at fault.
    Failed(String),
}

impl From<SqlError> for super::StoreError {
    fn from(error: SqlError) -> Self {
        match error {
            SqlError::Lost(why) | SqlError::Conflict(why) => super::StoreError::Unavailable(why),
            SqlError::Failed(why) => super::StoreError::Database(why),
        }
    }
}

/// A transaction that is under way.
pub(super) trait Sql {
    /// Runs a statement; how many rows it changed.
    fn execute(&mut self, sql: &str, values: &[Value]) -> Result<u64, SqlError>;

    /// Runs a query.
    fn query(&mut self, sql: &str, values: &[Value]) -> Result<Vec<Row>, SqlError>;

    /// Waits until no other transaction holds `name`, and holds it to the end of this one. Who needs
    /// several takes them in ascending order.
    fn lock(&mut self, name: i64) -> Result<(), SqlError>;

    /// Now, by the one clock that all who use this database share.
    fn now(&mut self) -> Result<Millis, SqlError>;

    /// The first row of a query.
    fn first(&mut self, sql: &str, values: &[Value]) -> Result<Option<Row>, SqlError> {
        Ok(self.query(sql, values)?.into_iter().next())
    }
}

/// A row, by position.
#[derive(Clone, Debug)]
pub(super) struct Row(pub(super) Vec<Value>);

impl Row {
    fn at(&self, column: usize) -> &Value {
        self.0.get(column).unwrap_or(&Value::Null)
    }

    fn mismatch<T>(&self, column: usize, wanted: &str) -> Result<T, SqlError> {
        let found = match self.at(column) {
            Value::Null => "NULL",
            Value::Int(_) => "a number",
            Value::Text(_) => "text",
            Value::Bytes(_) => "bytes",
        };
        Err(SqlError::Failed(format!("column {column} holds {found}, not {wanted}")))
    }

    pub(super) fn is_null(&self, column: usize) -> bool {
        *self.at(column) == Value::Null
    }

    pub(super) fn int(&self, column: usize) -> Result<i64, SqlError> {
        match self.at(column) {
            Value::Int(number) => Ok(*number),
            _ => self.mismatch(column, "a number"),
        }
    }

    pub(super) fn maybe_int(&self, column: usize) -> Result<Option<i64>, SqlError> {
        if self.is_null(column) { Ok(None) } else { self.int(column).map(Some) }
    }

    /// A number that counts something; NULL, the sum of nothing, is zero.
    pub(super) fn count(&self, column: usize) -> Result<u64, SqlError> {
        Ok(self.maybe_int(column)?.unwrap_or(0).unsigned_abs())
    }

    pub(super) fn small(&self, column: usize) -> Result<u32, SqlError> {
        self.int(column)?.try_into().or_else(|_| self.mismatch(column, "a number of 32 bits"))
    }

    pub(super) fn flag(&self, column: usize) -> Result<bool, SqlError> {
        Ok(self.int(column)? != 0)
    }

    pub(super) fn text(&self, column: usize) -> Result<String, SqlError> {
        match self.at(column) {
            Value::Text(text) => Ok(text.clone()),
            _ => self.mismatch(column, "text"),
        }
    }

    pub(super) fn maybe_text(&self, column: usize) -> Result<Option<String>, SqlError> {
        if self.is_null(column) { Ok(None) } else { self.text(column).map(Some) }
    }

    pub(super) fn bytes<const N: usize>(&self, column: usize) -> Result<[u8; N], SqlError> {
        match self.at(column) {
            Value::Bytes(bytes) => {
                bytes.as_slice().try_into().or_else(|_| self.mismatch(column, "bytes of that length"))
            }
            _ => self.mismatch(column, "bytes"),
        }
    }

    pub(super) fn maybe_bytes<const N: usize>(&self, column: usize) -> Result<Option<[u8; N]>, SqlError> {
        if self.is_null(column) { Ok(None) } else { self.bytes(column).map(Some) }
    }

    /// Bytes of any length.
    pub(super) fn blob(&self, column: usize) -> Result<Vec<u8>, SqlError> {
        match self.at(column) {
            Value::Bytes(bytes) => Ok(bytes.clone()),
            _ => self.mismatch(column, "bytes"),
        }
    }

    pub(super) fn digest(&self, column: usize) -> Result<Digest, SqlError> {
        self.bytes(column).map(Digest)
    }

    /// Pico-dollars; NULL is a price that nobody knows.
    pub(super) fn price(&self, column: usize) -> Result<Price, SqlError> {
        Ok(match self.maybe_int(column)? {
            Some(pico) => Price::Known(Usd::from_pico(i128::from(pico))),
            None => Price::Unknown,
        })
    }

    /// Pico-dollars.
    pub(super) fn usd(&self, column: usize) -> Result<Usd, SqlError> {
        Ok(Usd::from_pico(i128::from(self.int(column)?)))
    }

    /// A sum of money that [`halves!`] made at `column` and the one after it.
    pub(super) fn sum(&self, column: usize) -> Result<Usd, SqlError> {
        let half = |column| Ok::<_, SqlError>(i128::from(self.maybe_int(column)?.unwrap_or(0)));
        Ok(Usd::from_pico(half(column)? * 1_000_000 + half(column + 1)?))
    }
}

/// The SQL of a sum of money, in two columns: one sum in 64 bits would overflow at nine million dollars.
macro_rules! halves {
    ($column:literal) => {
        concat!("CAST(sum(", $column, " / 1000000) AS BIGINT), CAST(sum(", $column, " % 1000000) AS BIGINT)")
    };
}
pub(super) use halves;

/// Values of a statement, in the order of its parameters.
macro_rules! values {
    ($($value:expr),* $(,)?) => { [$($crate::store::sql::Value::from($value)),*] };
}
pub(super) use values;

/// Money as it is stored: pico-dollars in 64 bits, up to nine million dollars a row.
///
/// # Errors
/// The amount is larger.
pub(super) fn amount(usd: Usd) -> Result<Value, SqlError> {
    match i64::try_from(usd.pico()) {
        Ok(pico) => Ok(Value::Int(pico)),
        Err(_) => Err(SqlError::Failed(format!("${usd} is beyond what one row of the ledger holds"))),
    }
}

/// A price as it is stored; an unknown one is NULL.
///
/// # Errors
/// The amount is beyond nine million dollars.
pub(super) fn price(price: Price) -> Result<Value, SqlError> {
    price.known().map_or(Ok(Value::Null), amount)
}

/// The name of a lock, from what it is about. Different things may share one; they then wait for each other.
pub(super) fn lock_name(room: &str, about: &[u8]) -> i64 {
    let mut hasher = blake3::Hasher::new();
    hasher.update(room.as_bytes()).update(&[0]).update(about);
    let mut name = [0; 8];
    hasher.finalize_xof().fill(&mut name);
    i64::from_le_bytes(name)
}

macro_rules! from_number {
    ($($number:ty),*) => { $(impl From<$number> for Value {
        fn from(number: $number) -> Value { Value::Int(i64::from(number)) }
    })* };
}
from_number!(i64, i32, u32, u8, bool);

impl From<u64> for Value {
    fn from(number: u64) -> Value {
        Value::Int(i64::try_from(number).unwrap_or(i64::MAX))
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Value {
        Value::from(text.to_owned())
    }
}

impl From<&String> for Value {
    fn from(text: &String) -> Value {
        Value::from(text.clone())
    }
}

impl From<String> for Value {
    /// With what is unreadable in the place of each NUL: PostgreSQL holds none, and what a provider says must not keep
    /// what it was paid from being written down.
    fn from(text: String) -> Value {
        Value::Text(if text.contains('\0') { text.replace('\0', "\u{fffd}") } else { text })
    }
}

impl<const N: usize> From<[u8; N]> for Value {
    fn from(bytes: [u8; N]) -> Value {
        Value::Bytes(bytes.to_vec())
    }
}

impl From<Digest> for Value {
    fn from(digest: Digest) -> Value {
        Value::from(digest.0)
    }
}

impl<T: Into<Value>> From<Option<T>> for Value {
    fn from(value: Option<T>) -> Value {
        value.map_or(Value::Null, Into::into)
    }
}

impl From<&Option<String>> for Value {
    fn from(value: &Option<String>) -> Value {
        value.as_ref().map_or(Value::Null, Value::from)
    }
}

/// A database.
#[derive(Debug)]
pub(super) enum Engine {
    /// In the data folder, for the processes of one machine.
    Sqlite(Sqlite),
    /// A server, for any number of machines.
    Postgres(Postgres),
}

impl Engine {
    pub(super) fn sqlite(path: &Path, durability: Durability, clock: Clock) -> Result<Engine, super::StoreError> {
        Ok(Engine::Sqlite(Sqlite::open(path, durability, clock)?))
    }

    /// Connects to the server at `url`.
    pub(super) fn postgres(url: &str) -> Result<Engine, super::StoreError> {
        // The client brings a runtime of its own, which must not be started on a thread of ours.
        std::thread::scope(|scope| scope.spawn(|| Postgres::open(url)).join())
            .map_err(|_| super::StoreError::Closed)?
            .map(Engine::Postgres)
    }

    /// Runs `work` in a transaction and returns after its commit. Where whether it was committed cannot be
    /// known, or where others were in the way, it runs again: it must do no harm then.
    pub(super) async fn write<T, F>(&self, work: F) -> Result<T, super::StoreError>
    where
        T: Send + 'static,
        F: Fn(&mut dyn Sql) -> Result<T, SqlError> + Send + Sync + 'static,
    {
        match self {
            Engine::Sqlite(sqlite) => sqlite.write(work).await,
            Engine::Postgres(postgres) => postgres.write(work).await,
        }
    }

    /// Queues `work` for a later commit without waiting for it. A crash may lose it.
    pub(super) fn write_later<F>(&self, work: F) -> Result<(), super::StoreError>
    where
        F: Fn(&mut dyn Sql) -> Result<(), SqlError> + Send + Sync + 'static,
    {
        match self {
            Engine::Sqlite(sqlite) => sqlite.write_later(work),
            Engine::Postgres(postgres) => postgres.write_later(work),
        }
    }

    /// Runs `query`, which writes nothing.
    pub(super) async fn read<T, F>(&self, query: F) -> Result<T, super::StoreError>
    where
        T: Send + 'static,
        F: Fn(&mut dyn Sql) -> Result<T, SqlError> + Send + Sync + 'static,
    {
        match self {
            Engine::Sqlite(sqlite) => sqlite.read(query).await,
            Engine::Postgres(postgres) => postgres.read(query).await,
        }
    }
}
