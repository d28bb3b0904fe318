//! Who is alive, and what becomes of the calls of who is not.

use std::time::Duration;

use mimeo::store::{AttemptState, Finished, Settlement, Store};

use super::{Database, NOW, ask_postgres, balances, begin, call, drawn, end, eventually, finish, granted, on_both};

on_both!(
    what_a_silent_process_began_is_ended_by_others,
    a_process_that_was_only_frozen_goes_on_if_nobody_minded,
    who_leaves_is_not_waited_for,
    many_give_up_one_and_end_its_calls_once,
    who_is_given_up_sends_nothing,
);

/// Both kinds of open attempts of a process, by what becomes of them: released and suspended.
async fn recovered(store: &Store) -> (u32, u32) {
    store.recover(NOW).await.unwrap_or_else(|error| panic!("{error}"))
}

async fn what_a_silent_process_began_is_ended_by_others(database: Database) {
    let (frozen, awake, other) =
        (database.open_with_lease(1), database.open_with_lease(1), database.open_with_lease(1));
    let (mut unsent, sent, kept) = (call("unsent"), call("sent"), call("kept"));
    unsent.state = AttemptState::Reserved;
    let term = begin(&frozen, &unsent).await;
    assert_eq!(begin(&frozen, &sent).await, term, "one term for all that it does");
    let kept_term = begin(&awake, &kept).await;

    let (mut released, mut suspended) = (0, 0);
    eventually(async || {
        awake.renew().await.unwrap();
        let (r, s) = recovered(&other).await;
        (released, suspended) = (released + r, suspended + s);
        (released + suspended > 0).then_some(())
    })
    .await;
    assert_eq!((released, suspended), (1, 1));
    assert_eq!(database.attempt(unsent.id), "failed|the process that made it ended");
    assert_eq!(database.attempt(sent.id), "unknown|the process that made it ended");
    assert_eq!(database.attempt(kept.id), "sending|", "its process gives signs of life");
    assert_eq!(balances(&other).await, [5, 0, 5]);

    // It comes back, and may finish nothing of what it began.
    assert!(!frozen.mark_sending(unsent.id, term, NOW).await.unwrap());
    for attempt in [&unsent, &sent] {
        let told = drawn(&frozen, attempt, term, "too late").await;
        assert_eq!(finish(&frozen, &told).await, Finished::GivenUp);
        assert_eq!(frozen.lookup(attempt.key, NOW, None).await.unwrap().pictures.len(), 0);
    }
    assert_eq!((database.count("pictures"), database.count("blobs"), database.count("entries")), (0, 0, 0));
    assert_eq!(balances(&other).await, [5, 0, 5]);

    // What it begins from here on is somebody else's.
    let again = call("again");
    let new_term = begin(&frozen, &again).await;
    assert_ne!(new_term, term);
    let told = drawn(&frozen, &again, new_term, "in time").await;
    assert_eq!(finish(&frozen, &told).await, Finished::Yes);
    let told = drawn(&awake, &kept, kept_term, "all along").await;
    assert_eq!(finish(&awake, &told).await, Finished::Yes);
    assert_eq!(balances(&other).await, [0, 6, 5]);
}

async fn a_process_that_was_only_frozen_goes_on_if_nobody_minded(database: Database) {
    let store = database.open();
    let (attempt, next) = (call("before"), call("after"));
    let term = begin(&store, &attempt).await;
    database.let_leases_pass();
    assert_eq!(begin(&store, &next).await, term, "nobody has given it up");
    database.let_leases_pass();
    let told = drawn(&store, &attempt, term, "a kite").await;
    assert_eq!(finish(&store, &told).await, Finished::Yes, "what it began is its own until somebody takes it");
    store.renew().await.unwrap();
    assert_eq!(recovered(&database.open()).await, (0, 0));
}

async fn who_leaves_is_not_waited_for(database: Database) {
    let (store, other) = (database.open(), database.open());
    let (mut unsent, sent) = (call("unsent"), call("sent"));
    unsent.state = AttemptState::Reserved;
    let term = begin(&store, &unsent).await;
    begin(&store, &sent).await;
    assert_eq!(recovered(&other).await, (0, 0), "it is there");
    store.leave().await.unwrap();
    assert_eq!(database.count("instances"), 0);
    assert_eq!(recovered(&other).await, (1, 1));
    store.leave().await.unwrap();
    assert_ne!(begin(&store, &call("again")).await, term);
    assert_eq!(balances(&other).await, [5, 0, 5]);
}

async fn many_give_up_one_and_end_its_calls_once(database: Database) {
    let others = [database.open(), database.open(), database.open()];
    for round in 0..10 {
        let store = database.open();
        let attempts: Vec<_> = (0..6).map(|number| call(&format!("{round} {number}"))).collect();
        for attempt in &attempts {
            begin(&store, attempt).await;
        }
        store.leave().await.unwrap();
        let [a, b, c] = &others;
        let (a, b, c) = tokio::join!(recovered(a), recovered(b), recovered(c));
        assert_eq!((a.0 + b.0 + c.0, a.1 + b.1 + c.1), (0, 6));
        for attempt in &attempts {
            assert_eq!(database.rows(attempt.id), ["reserve", "suspend"]);
        }
    }
    assert_eq!(balances(&others[0]).await, [0, 0, 300]);
}

/// The right to send is asked for in the very statement that notes it.
async fn who_is_given_up_sends_nothing(database: Database) {
    let store = database.open();
    let mut attempt = call("not sent");
    attempt.state = AttemptState::Reserved;
    let term = begin(&store, &attempt).await;
    database.let_leases_pass();
    assert!(!store.mark_sending(attempt.id, term, NOW).await.unwrap(), "its time has passed");
    store.renew().await.unwrap();
    assert!(store.mark_sending(attempt.id, term, NOW).await.unwrap(), "nobody minded");
    let mut next = call("not sent either");
    next.state = AttemptState::Reserved;
    begin(&store, &next).await;
    database.sql("DELETE FROM instances");
    assert!(!store.mark_sending(next.id, term, NOW).await.unwrap(), "it was given up");
    assert_eq!(database.attempt(next.id), "reserved|");
}

/// The operating system tells at once that a process on this machine has ended, however long its lease.
#[tokio::test]
async fn on_one_machine_an_end_is_noticed_at_once() {
    let database = Database::sqlite();
    let (store, other) = (database.open(), database.open());
    begin(&store, &call("sent")).await;
    assert_eq!(recovered(&other).await, (0, 0), "it holds its lock");
    drop(store);
    assert_eq!(recovered(&other).await, (0, 1));
}

/// Who has heard nothing itself cannot tell that others were silent.
async fn who_was_cut_off_gives_nobody_up(database: Database) {
    let (frozen, other) = (database.open(), database.open_with_lease(4));
    let attempt = call("sent");
    begin(&frozen, &attempt).await;
    database.let_leases_pass();
    assert_eq!(recovered(&other).await, (0, 0), "it has only just come");
    let (mut suspended, mut asked) = (0, 0);
    eventually(async || {
        asked += 1;
        suspended += recovered(&other).await.1;
        (suspended > 0).then_some(())
    })
    .await;
    assert!(asked > 1);

    let next = call("next");
    begin(&frozen, &next).await;
    database.let_leases_pass();
    // A gap of twice its lease.
    tokio::time::pause();
    tokio::time::advance(Duration::from_secs(8)).await;
    tokio::time::resume();
    assert_eq!(recovered(&other).await, (0, 0), "it was cut off");
    assert_eq!(database.attempt(next.id), "sending|");
    suspended = 0;
    eventually(async || {
        suspended += recovered(&other).await.1;
        (suspended > 0).then_some(())
    })
    .await;
    assert_eq!(suspended, 1);
}

/// These move the clock by hand, which takes a runtime of one thread.
#[tokio::test]
async fn who_was_cut_off_gives_nobody_up_sqlite() {
    Box::pin(who_was_cut_off_gives_nobody_up(Database::sqlite())).await;
}

#[tokio::test]
async fn who_was_cut_off_gives_nobody_up_postgres() {
    Box::pin(who_was_cut_off_gives_nobody_up(Database::postgres())).await;
}

/// A process stands still between noting that it sends and committing that; the others, who cannot see the note
/// yet, give it up. What it sends when it goes on must not count as never sent.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_noted_as_sent_meanwhile_is_not_released() {
    let database = Database::postgres();
    let (store, other) = (database.open(), database.open());
    let mut attempt = call("sent meanwhile");
    attempt.state = AttemptState::Reserved;
    let term = begin(&store, &attempt).await;

    let postgres = database.postgres.as_ref().expect("it is one");
    let (url, id) = (postgres.url(), database.bytes(&attempt.id.to_bytes()));
    let (noted, is_noted) = tokio::sync::oneshot::channel();
    let sending = std::thread::spawn(move || {
        let mut client = postgres::Client::connect(&url, postgres::NoTls).unwrap();
        let mut transaction = client.transaction().unwrap();
        transaction.batch_execute(&format!("UPDATE attempts SET state = 'sending' WHERE id = {id}")).unwrap();
        noted.send(()).unwrap();
        // Until somebody waits for the row.
        let waits = "SELECT count(*) FROM pg_locks WHERE NOT granted AND pid <> pg_backend_pid()";
        let begun = std::time::Instant::now();
        while ask_postgres(&url, waits).unwrap() == "0" {
            assert!(begun.elapsed() < Duration::from_secs(30), "nobody gives it up");
        }
        transaction.commit().unwrap();
    });
    is_noted.await.unwrap();
    database.sql("DELETE FROM instances");
    let first = recovered(&other).await;
    sending.join().unwrap();
    let second = recovered(&other).await;
    assert_eq!((first.0 + second.0, first.1 + second.1), (0, 1), "sent, not released");
    assert_eq!(balances(&other).await, [0, 0, 5]);
    let told = end(&attempt, term, AttemptState::Done, Settlement::Release);
    assert_eq!(finish(&store, &told).await, Finished::GivenUp);
    granted(store.begin_attempt(call("another"), NOW).await);
}
