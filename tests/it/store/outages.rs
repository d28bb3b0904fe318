//! A server that goes away: what was being done is done wholly or not at all, and nobody hangs.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use mimeo::store::{AttemptState, Finished, NewAttempt, Reserved, Settlement, Store, StoreError};
use tokio::time::Instant;

use super::{Database, NOW, balances, begin, call, drawn, end, eventually, finish};
use crate::engines::{Postgres, free_port};
use crate::world::Folder;

/// How many begin and finish at once.
const LOOPS: usize = 200;

fn own() -> Database {
    Database { postgres: Some(Postgres::own()), folder: Folder::new() }
}

/// One call from its beginning to its end, as the room above makes it: what cannot be written now is written when
/// the server is there again. True if it was made.
async fn whole(store: &Store, number: usize) -> bool {
    let attempt = call(&format!("loop {number}"));
    let begun = store.begin_attempt(attempt.clone(), NOW).await;
    let term = match begun {
        Ok(Reserved::Yes { term, .. }) => term,
        Err(StoreError::Unavailable(_)) => {
            abandoned(store, &attempt).await;
            return false;
        }
        other => panic!("{other:?}"),
    };
    let told = drawn(store, &attempt, term, &format!("picture {number}")).await;
    loop {
        match store.finish_attempt(told.clone()).await {
            Ok(Finished::Yes) => return true,
            Err(StoreError::Unavailable(_)) => {}
            other => panic!("{other:?}"),
        }
    }
}

async fn abandoned(store: &Store, attempt: &NewAttempt) {
    loop {
        match store.abandon(attempt.id, attempt.subject.clone(), attempt.expected, NOW).await {
            Ok(()) => return,
            Err(StoreError::Unavailable(_)) => {}
            Err(error) => panic!("{error}"),
        }
    }
}

/// Lets 200 begin and finish while `harm` is done, and looks at what is there afterwards.
async fn harmed(harm: impl FnOnce(&mut Postgres) + Send + 'static) {
    let mut database = own();
    let stores = Arc::new([database.open(), database.open()]);
    let (done, is_done) = std::sync::mpsc::channel();
    let mut postgres = database.postgres.take().expect("it is one");
    let harming = std::thread::spawn(move || {
        // In the middle of it.
        let first = is_done.iter().take(LOOPS / 10).count();
        assert!(first + is_done.try_iter().count() < LOOPS, "nothing is going on any more");
        harm(&mut postgres);
        postgres
    });
    let made = join_all((0..LOOPS).map(|number| {
        let (stores, done) = (Arc::clone(&stores), done.clone());
        let one = async move {
            let is_made = whole(&stores[number % 2], number).await;
            // Nobody counts any more once the harm is done.
            let _ = done.send(());
            is_made
        };
        async { tokio::spawn(one).await.unwrap() }
    }))
    .await;
    database.postgres = Some(harming.join().expect("the harm was done"));
    let made = made.into_iter().filter(|is_made| *is_made).count();
    let store = &stores[0];
    assert_eq!(balances(store).await, [0, 3 * i128::try_from(made).unwrap(), 0], "{made} of {LOOPS} were made");
    let made = u64::try_from(made).unwrap();
    assert_eq!(database.count("attempts WHERE state = 'done'"), made);
    assert_eq!(database.count("attempts WHERE state NOT IN ('done', 'failed')"), 0, "nothing is open");
    assert_eq!((database.count("pictures"), database.count("entries")), (made, made));
    assert_eq!(database.count("ledger WHERE kind = 'settle'"), made);
    let (reserved, released) = ("ledger WHERE kind = 'reserve'", "ledger WHERE kind = 'release'");
    assert_eq!(database.count(reserved), made + database.count(released));
    assert_eq!(store.misspent().await.unwrap(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_is_stopped_loses_nothing() {
    Box::pin(harmed(|postgres| {
        postgres.stop_fast();
        postgres.restart();
    }))
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_is_killed_loses_nothing() {
    Box::pin(harmed(|postgres| {
        postgres.kill();
        postgres.restart();
    }))
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_breaks_all_connections_loses_nothing() {
    Box::pin(harmed(|postgres| {
        for _ in 0..5 {
            postgres.sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'mimeo'");
        }
    }))
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_stands_still_holds_nobody_up_for_long() {
    let mut database = own();
    let store = database.open();
    let (open, kept) = (call("open"), call("kept"));
    let term = begin(&store, &open).await;
    begin(&store, &kept).await;
    database.postgres.as_mut().expect("it is one").pause();

    let begun = Instant::now();
    let lost: Vec<NewAttempt> = (0..20).map(|number| call(&format!("lost {number}"))).collect();
    let told = end(&open, term, AttemptState::Failed, Settlement::Release);
    let (beginnings, finished, found) = tokio::join!(
        join_all(lost.iter().map(|attempt| store.begin_attempt(attempt.clone(), NOW))),
        store.finish_attempt(told.clone()),
        store.lookup(open.key, NOW, None),
    );
    let waited = begun.elapsed();
    assert!(waited < Duration::from_secs(20), "{waited:?}");
    for begun in &beginnings {
        assert!(matches!(begun, Err(StoreError::Unavailable(_))), "{begun:?}");
    }
    assert!(matches!(finished, Err(StoreError::Unavailable(_))), "{finished:?}");
    assert!(matches!(found, Err(StoreError::Unavailable(_))), "{found:?}");

    database.postgres.as_mut().expect("it is one").resume();
    // It works again, without anybody opening anything.
    eventually(async || store.lookup(open.key, NOW, None).await.ok()).await;
    for attempt in &lost {
        abandoned(&store, attempt).await;
    }
    assert_eq!(finish(&store, &told).await, Finished::Yes);
    // Beginnings that were held up at the server may still come, and must not: nothing of them is left, also when
    // nothing is under way there any more.
    let busy = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'mimeo' AND state <> 'idle'";
    eventually(async || (database.sql(busy) == "0").then_some(())).await;
    assert_eq!(balances(&store).await, [5, 0, 0], "what was begun before is still open");
    assert_eq!(database.count("attempts WHERE state IN ('reserved', 'sending')"), 1);
    assert_eq!(database.attempt(kept.id), "sending|");
    assert_eq!(store.misspent().await.unwrap(), 0);
}

/// While the server is away each call says so within its patience, and what is begun again later is as if nothing
/// had been.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_is_away_is_told_of() {
    let mut database = own();
    let store = database.open();
    begin(&store, &call("before")).await;
    database.postgres.as_mut().expect("it is one").stop_fast();
    let begun = Instant::now();
    let attempt = call("away");
    let (beginning, renewed, recovered) =
        tokio::join!(store.begin_attempt(attempt.clone(), NOW), store.renew(), store.recover(NOW));
    assert!(matches!(beginning, Err(StoreError::Unavailable(_))), "{beginning:?}");
    assert!(matches!(renewed, Err(StoreError::Unavailable(_))), "{renewed:?}");
    assert!(matches!(recovered, Err(StoreError::Unavailable(_))), "{recovered:?}");
    assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());
    database.postgres.as_mut().expect("it is one").restart();
    begin(&store, &attempt).await;
    assert_eq!(balances(&store).await, [10, 0, 0]);
}

/// Somebody holds the database in the data folder for longer than anybody waits: a call that was paid is still to be
/// written, so it must be told apart from one that cannot be.
#[tokio::test]
async fn a_database_that_somebody_holds_is_told_of() {
    let database = Database::sqlite();
    let store = database.open();
    let attempt = call("paid");
    let term = begin(&store, &attempt).await;
    let told = drawn(&store, &attempt, term, "a kite").await;
    let holder = rusqlite::Connection::open(database.folder.0.join("mimeo.sqlite")).unwrap();
    holder.execute_batch("BEGIN IMMEDIATE").unwrap();
    let begun = Instant::now();
    let finished = store.finish_attempt(told.clone()).await;
    assert!(matches!(finished, Err(StoreError::Unavailable(_))), "{finished:?}");
    assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());
    assert_eq!(balances(&store).await, [5, 0, 0], "who only reads goes on");
    holder.execute_batch("ROLLBACK").unwrap();
    assert_eq!(finish(&store, &told).await, Finished::Yes);
    assert_eq!(balances(&store).await, [0, 3, 0]);
}

/// What cannot be opened says why, and never the password.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_opened_says_why_without_the_password() {
    let database = own();
    let postgres = database.postgres.as_ref().expect("it is one");
    // A user who needs a password; everybody else needs none.
    let rules = "host all stranger 127.0.0.1/32 scram-sha-256\nhost all all 127.0.0.1/32 trust";
    postgres.sql("CREATE USER stranger PASSWORD 'correct-horse'");
    let file = postgres.sql("SHOW hba_file");
    let rules = rules.replace('\n', "' UNION ALL SELECT '");
    postgres.sql(&format!("COPY (SELECT '{rules}') TO '{file}'"));
    postgres.sql("SELECT pg_reload_conf()");
    let (address, nowhere) = (postgres.address(), free_port());
    let refused = |url: String| {
        let error = database.try_open(60, Some(url)).expect_err("it cannot be opened");
        assert!(!format!("{error} {error:?}").contains("battery"), "{error:?}");
        error
    };
    // The server takes up its new rules a moment later.
    let error = eventually(async || {
        let url = format!("postgres://stranger:battery-staple@{address}/postgres");
        database.try_open(60, Some(url.clone())).is_err().then(|| refused(url))
    })
    .await;
    assert!(matches!(&error, StoreError::Database(why) if why.contains("password authentication failed")), "{error:?}");
    let error = refused(format!("postgres://mimeo:battery-staple@{address}/nosuch"));
    assert!(matches!(&error, StoreError::Database(why) if why.contains("\"nosuch\" does not exist")), "{error:?}");
    let error = refused(format!("postgres://mimeo:battery-staple@127.0.0.1:{nowhere}/postgres"));
    let place = format!("127.0.0.1:{nowhere}");
    assert!(matches!(&error, StoreError::Unavailable(why) if why.contains(&place)), "{error:?}");
    for url in [
        "postgres://mimeo:battery-staple@host:port/db",
        "battery-staple",
        "postgres://mimeo:battery-staple@host/db?sslmode=battery",
    ] {
        let error = refused(url.to_owned());
        assert!(matches!(&error, StoreError::Database(why) if why.contains("storage.url")), "{url}: {error:?}");
    }
    assert!(database.ask("SELECT 1").is_ok(), "and with what is right it can");
}
