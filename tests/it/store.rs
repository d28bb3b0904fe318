//! What the store promises the rooms above it, held against each database that it may stand on.
//!
//! Every promise is one function, run over SQLite in a data folder and over PostgreSQL. Each `Store` that a test
//! opens stands for a process: it has a term of its own, and the database is all that they share.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod attempts;
mod bound;
mod budgets;
mod calls;
mod credits;
mod drafts;
mod entries;
mod feedback;
mod flights;
mod jobs;
mod ledger;
mod migrations;
mod outages;
mod prices;
mod purges;
mod replies;
mod stories;
mod terms;

use std::time::Duration;

use bytes::Bytes;
use mimeo::clock::{Clock, Millis};
use mimeo::config::{BlobPlace, Durability, Secret, Storage};
use mimeo::domain::{AttemptId, Digest, Format, ImageId, Price, RequestId, Usd};
use mimeo::store::{
    AttemptState, EntryWrite, Finish, Finished, LedgerQuery, NewAttempt, NewPicture, Reserved, Settlement, Store,
    StoreError, StoredPicture, Subject, Term, Totals,
};

use crate::engines::Postgres;
use crate::world::Folder;

/// Runs each promise over both databases: `promise::sqlite` and `promise::postgres`.
macro_rules! on_both {
    ($($promise:ident),* $(,)?) => {$(
        mod $promise {
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn sqlite() {
                Box::pin(super::$promise($crate::store::Database::sqlite())).await;
            }

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn postgres() {
                Box::pin(super::$promise($crate::store::Database::postgres())).await;
            }
        }
    )*};
}
use on_both;

/// When the tests take place: on a full hour.
const NOW: Millis = 1_800_000_000_000;

/// A database and a folder for blobs, with nothing in them yet.
struct Database {
    postgres: Option<Postgres>,
    folder: Folder,
}

impl Database {
    fn sqlite() -> Database {
        Database { postgres: None, folder: Folder::new() }
    }

    fn postgres() -> Database {
        Database { postgres: Some(Postgres::start()), folder: Folder::new() }
    }

    /// A process that nobody gives up for its silence while a test lasts.
    fn open(&self) -> Store {
        self.open_with_lease(3600)
    }

    /// A process that may be silent for so many seconds.
    fn open_with_lease(&self, seconds: u32) -> Store {
        let url = self.postgres.as_ref().map(|postgres| postgres.url());
        self.try_open(seconds, url).unwrap_or_else(|error| panic!("it does not open: {error}"))
    }

    fn try_open(&self, lease: u32, url: Option<String>) -> Result<Store, StoreError> {
        let storage = Storage {
            path: self.folder.0.clone(),
            lease_s: Some(lease),
            // Nobody cuts the power.
            durability: Durability::Process,
            ..Storage::default()
        };
        let place = BlobPlace::Folder(self.folder.0.join("blobs"));
        Store::open(&storage, url.map(Secret::new).as_ref(), &place, Clock::System)
    }

    /// What the database itself says to a statement: one row a line, `|` between the columns.
    fn ask(&self, statement: &str) -> Result<String, String> {
        let Some(postgres) = &self.postgres else {
            return ask_sqlite(&self.folder.0.join("mimeo.sqlite"), statement).map_err(|error| error.to_string());
        };
        let (url, statement) = (postgres.url(), statement.to_owned());
        // The client brings a runtime of its own, which must not be started on a thread of the test's.
        std::thread::spawn(move || ask_postgres(&url, &statement)).join().expect("it asks")
    }

    #[track_caller]
    fn sql(&self, statement: &str) -> String {
        self.ask(statement).unwrap_or_else(|error| panic!("{statement}: {error}"))
    }

    /// Bytes, as this database spells them.
    fn bytes(&self, bytes: &[u8]) -> String {
        let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        if self.postgres.is_some() { format!("'\\x{hex}'::bytea") } else { format!("x'{hex}'") }
    }

    /// How an attempt stands, and why.
    #[track_caller]
    fn attempt(&self, id: AttemptId) -> String {
        let id = self.bytes(&id.to_bytes());
        self.sql(&format!("SELECT state, coalesce(fault, '') FROM attempts WHERE id = {id}"))
    }

    /// The kinds of an attempt's ledger rows, in their order.
    #[track_caller]
    fn rows(&self, id: AttemptId) -> Vec<String> {
        let id = self.bytes(&id.to_bytes());
        let rows = self.sql(&format!("SELECT kind FROM ledger WHERE attempt = {id} ORDER BY seq"));
        rows.lines().map(str::to_owned).collect()
    }

    #[track_caller]
    fn count(&self, of: &str) -> u64 {
        self.sql(&format!("SELECT count(*) FROM {of}")).parse().expect("a count")
    }

    /// Lets the lease of every process pass.
    fn let_leases_pass(&self) {
        self.sql("UPDATE instances SET expires_ms = 0");
    }
}

fn ask_sqlite(path: &std::path::Path, statement: &str) -> rusqlite::Result<String> {
    use rusqlite::types::ValueRef;
    let connection = rusqlite::Connection::open(path)?;
    connection.busy_timeout(Duration::from_secs(10))?;
    let mut statement = connection.prepare(statement)?;
    let columns = statement.column_count();
    let mut rows = statement.query([])?;
    let mut lines = Vec::new();
    while let Some(row) = rows.next()? {
        let value = |column| {
            Ok(match row.get_ref(column)? {
                ValueRef::Null => String::new(),
                ValueRef::Integer(number) => number.to_string(),
                ValueRef::Real(number) => number.to_string(),
                ValueRef::Text(text) => String::from_utf8_lossy(text).into_owned(),
                ValueRef::Blob(bytes) => format!("{bytes:02x?}"),
            })
        };
        lines.push((0..columns).map(value).collect::<rusqlite::Result<Vec<_>>>()?.join("|"));
    }
    Ok(lines.join("\n"))
}

fn ask_postgres(url: &str, statement: &str) -> Result<String, String> {
    use postgres::{Client, NoTls, SimpleQueryMessage};
    let why = |error: postgres::Error| error.as_db_error().map_or(error.to_string(), |said| said.message().to_owned());
    let mut client = Client::connect(url, NoTls).map_err(why)?;
    let messages = client.simple_query(statement).map_err(why)?;
    let line = |message| match message {
        SimpleQueryMessage::Row(row) => {
            let values: Vec<&str> = (0..row.len()).map(|column| row.get(column).unwrap_or_default()).collect();
            Some(values.join("|"))
        }
        _ => None,
    };
    Ok(messages.into_iter().filter_map(line).collect::<Vec<_>>().join("\n"))
}

/// An amount in US cents.
fn cents(amount: i128) -> Usd {
    Usd::from_pico(amount * Usd::SCALE / 100)
}

fn subject() -> Subject {
    Subject {
        tenant: "acme".into(),
        api_key: "web".into(),
        route: "posters".into(),
        provider: "studio".into(),
        model: "brush-1".into(),
        purpose: None,
        request: RequestId::random(),
        pictures: 1,
        credit: None,
    }
}

fn key(name: &str) -> Digest {
    Digest::of(name.as_bytes())
}

/// A call for 5 cents, sent at once, that others may join.
fn call(name: &str) -> NewAttempt {
    NewAttempt {
        id: AttemptId::random(),
        subject: subject(),
        expected: Price::Known(cents(5)),
        state: AttemptState::Sending,
        key: key(name),
        joinable: true,
        seen: None,
        unknown_since: None,
        budgets: Vec::new(),
    }
}

/// Begins what nothing forbids.
#[track_caller]
fn granted(reserved: Result<Reserved, StoreError>) -> Term {
    match reserved {
        Ok(Reserved::Yes { term, .. }) => term,
        other => panic!("not granted: {other:?}"),
    }
}

async fn begin(store: &Store, attempt: &NewAttempt) -> Term {
    granted(store.begin_attempt(attempt.clone(), NOW).await)
}

/// The end of `attempt`, with nothing to store.
fn end(attempt: &NewAttempt, term: Term, state: AttemptState, settlement: Settlement) -> Finish {
    Finish {
        id: attempt.id,
        term,
        state,
        subject: attempt.subject.clone(),
        expected: attempt.expected,
        settlement,
        fault: None,
        timing: None,
        pictures: Vec::new(),
        entry: None,
        refusal: None,
        at_ms: NOW + 1,
    }
}

/// The end of `attempt` with one picture for its key, billed 3 cents.
async fn drawn(store: &Store, attempt: &NewAttempt, term: Term, content: &str) -> Finish {
    let settlement = Settlement::Settle(Price::Known(cents(3)));
    Finish {
        pictures: vec![picture(store, content, Some(attempt.id)).await],
        entry: Some(entry(attempt.key)),
        ..end(attempt, term, AttemptState::Done, settlement)
    }
}

/// Puts the bytes `content` there, and describes a picture of them.
async fn picture(store: &Store, content: &str, attempt: Option<AttemptId>) -> NewPicture {
    let bytes = Bytes::copy_from_slice(content.as_bytes());
    let (digest, length) = (Digest::of(&bytes), bytes.len() as u64);
    let name = store.blobs.put(digest, bytes).await.expect("the folder is writable");
    NewPicture {
        row: StoredPicture {
            id: ImageId::random(),
            blob: digest,
            name,
            format: Format::Png,
            width: 640,
            height: 480,
            provider: "studio".into(),
            model: "brush-1".into(),
            simulated: true,
            cost: Price::Known(cents(3)),
            usage: None,
            revised_prompt: None,
            created_ms: NOW,
        },
        bytes: length,
        tenant: "acme".into(),
        attempt,
        candidate: None,
        category: None,
    }
}

/// What comes answers `key` for ever, after what does already.
fn entry(key: Digest) -> EntryWrite {
    EntryWrite {
        key,
        label: "generate brush-1".into(),
        replace: None,
        expires_ms: None,
        route: "posters".into(),
        tags: Vec::new(),
    }
}

async fn finish(store: &Store, finish: &Finish) -> Finished {
    store.finish_attempt(finish.clone()).await.unwrap_or_else(|error| panic!("{error}"))
}

/// The sums of all rows.
async fn totals(store: &Store) -> Totals {
    store.ledger(LedgerQuery::default()).await.expect("sums").totals
}

/// What is set aside, spent and in suspense, in cents.
async fn balances(store: &Store) -> [i128; 3] {
    let sums = totals(store).await;
    [sums.reserved_usd, sums.spent_usd, sums.suspense_usd].map(|sum| {
        assert_eq!(sum.pico() % cents(1).pico(), 0, "{sum:?} is no whole cent");
        sum.pico() / cents(1).pico()
    })
}

/// Asks every 50 ms until the answer is there. Bounded by a minute.
async fn eventually<T>(mut ask: impl AsyncFnMut() -> Option<T>) -> T {
    let mut ticks = tokio::time::interval(Duration::from_millis(50));
    for _ in 0..1200 {
        ticks.tick().await;
        if let Some(answer) = ask().await {
            return answer;
        }
    }
    panic!("it never came to be");
}
