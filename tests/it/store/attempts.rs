//! An attempt's state and its money move together, once, at the hand of who began it.

use std::sync::Arc;

use futures_util::future::join_all;
use mimeo::domain::{AttemptId, Price, Usd};
use mimeo::store::{AttemptState, Finish, Finished, LedgerQuery, Refusal, Reserved, Settlement};

use super::{Database, NOW, balances, begin, call, cents, drawn, end, finish, granted, on_both, totals};

on_both!(
    each_end_moves_exactly_its_money,
    an_unknown_price_is_counted_and_in_no_sum,
    an_end_that_is_told_twice_is_done_once,
    sixteen_tell_the_same_end_at_once,
    what_is_marked_as_sending_is_told_twice_and_no_more,
    a_stranger_ends_nothing,
    a_beginning_that_is_told_twice_is_made_once,
    sixteen_tell_the_same_beginning_at_once,
    what_is_abandoned_after_its_beginning_is_released,
    what_is_abandoned_before_its_beginning_never_begins,
    a_beginning_and_its_abandoning_meet,
    what_is_learnt_late_moves_no_money,
    what_is_in_suspense_is_resolved_once,
    whatever_a_provider_says_is_written_down,
);

async fn each_end_moves_exactly_its_money(database: Database) {
    use AttemptState::{Done, Failed, Refused, Reserved, Sending, Unknown};
    let store = database.open();
    let billed = Settlement::Settle(Price::Known(cents(3)));
    let free = Settlement::Settle(Price::FREE);
    // How it begins and ends; the row that is written; what is spent and in suspense then.
    let ends = [
        (Sending, Done, billed, "settle", 3, 0),
        (Sending, Done, free, "settle", 0, 0),
        (Sending, Refused, billed, "settle", 3, 0),
        (Sending, Refused, Settlement::Release, "release", 0, 0),
        (Sending, Failed, Settlement::Release, "release", 0, 0),
        (Sending, Unknown, Settlement::Suspend, "suspend", 0, 5),
        (Reserved, Failed, Settlement::Release, "release", 0, 0),
    ];
    let (mut spent, mut suspense) = (0, 0);
    for (number, (start, state, settlement, kind, paid, held)) in ends.into_iter().enumerate() {
        let mut attempt = call(&format!("end {number}"));
        attempt.state = start;
        let term = begin(&store, &attempt).await;
        assert_eq!(balances(&store).await, [5, spent, suspense], "{number}: set aside");
        assert_eq!(database.attempt(attempt.id), format!("{}|", start.name()));
        let mut told = end(&attempt, term, state, settlement);
        told.fault = Some("for a reason".into());
        assert_eq!(finish(&store, &told).await, Finished::Yes);
        (spent, suspense) = (spent + paid, suspense + held);
        assert_eq!(balances(&store).await, [0, spent, suspense], "{number}: {kind}");
        assert_eq!(database.attempt(attempt.id), format!("{}|for a reason", state.name()));
        assert_eq!(database.rows(attempt.id), ["reserve", kind]);
    }
    assert_eq!(store.misspent().await.unwrap(), 0);
}

async fn an_unknown_price_is_counted_and_in_no_sum(database: Database) {
    let store = database.open();
    for settlement in [Settlement::Settle(Price::Unknown), Settlement::Suspend, Settlement::Release] {
        let mut attempt = call("unpriced");
        attempt.expected = Price::Unknown;
        let term = begin(&store, &attempt).await;
        finish(&store, &end(&attempt, term, AttemptState::Done, settlement)).await;
    }
    let sums = totals(&store).await;
    assert_eq!((sums.spent_usd, sums.suspense_usd, sums.reserved_usd), (Usd::ZERO, Usd::ZERO, Usd::ZERO));
    assert_eq!((sums.unpriced, sums.paid_pictures), (2, 1), "billed, or perhaps billed");
}

async fn an_end_that_is_told_twice_is_done_once(database: Database) {
    let store = database.open();
    let attempt = call("twice");
    let term = begin(&store, &attempt).await;
    let told = drawn(&store, &attempt, term, "a kite").await;
    assert_eq!(finish(&store, &told).await, Finished::Yes);
    assert_eq!(finish(&store, &told).await, Finished::Yes, "only its acknowledgement was lost");
    assert_eq!(store.lookup(attempt.key, NOW, None).await.unwrap().pictures.len(), 1);
    assert_eq!(balances(&store).await, [0, 3, 0]);

    // Another end of what has ended is nobody's to make.
    for state in [AttemptState::Failed, AttemptState::Unknown, AttemptState::Done] {
        let mut other = end(&attempt, term, state, Settlement::Release);
        other.at_ms += 1;
        assert_eq!(finish(&store, &other).await, Finished::GivenUp);
    }
    assert!(!store.mark_sending(attempt.id, term, NOW).await.unwrap());
    assert_eq!(database.rows(attempt.id), ["reserve", "settle"]);
    assert_eq!(balances(&store).await, [0, 3, 0]);
}

async fn sixteen_tell_the_same_end_at_once(database: Database) {
    let store = database.open();
    let attempt = call("at once");
    let term = begin(&store, &attempt).await;
    let told = drawn(&store, &attempt, term, "a kite").await;
    let all = join_all((0..16).map(|_| finish(&store, &told))).await;
    assert!(all.iter().all(|finished| *finished == Finished::Yes), "{all:?}");
    assert_eq!(store.lookup(attempt.key, NOW, None).await.unwrap().pictures.len(), 1);
    assert_eq!(balances(&store).await, [0, 3, 0]);
}

async fn what_is_marked_as_sending_is_told_twice_and_no_more(database: Database) {
    let store = database.open();
    let mut attempt = call("marked");
    attempt.state = AttemptState::Reserved;
    let term = begin(&store, &attempt).await;
    for _ in 0..2 {
        assert!(store.mark_sending(attempt.id, term, NOW).await.unwrap());
        assert_eq!(database.attempt(attempt.id), "sending|");
    }
    assert_eq!(database.rows(attempt.id), ["reserve"], "no money moves");
    finish(&store, &end(&attempt, term, AttemptState::Failed, Settlement::Release)).await;
    assert!(!store.mark_sending(attempt.id, term, NOW).await.unwrap(), "it has ended");
    assert!(!store.mark_sending(AttemptId::random(), term, NOW).await.unwrap(), "nobody began it");
    assert_eq!(database.attempt(attempt.id), "failed|");
}

async fn a_stranger_ends_nothing(database: Database) {
    let (ours, theirs) = (database.open(), database.open());
    let (mut attempt, other) = (call("ours"), call("theirs"));
    attempt.state = AttemptState::Reserved;
    let term = begin(&ours, &attempt).await;
    let stranger = begin(&theirs, &other).await;
    assert_ne!(term, stranger, "each process has a term of its own");
    for store in [&ours, &theirs] {
        assert!(!store.mark_sending(attempt.id, stranger, NOW).await.unwrap());
        let told = drawn(store, &attempt, stranger, "a forgery").await;
        assert_eq!(finish(store, &told).await, Finished::GivenUp);
    }
    // One that nobody knows to have abandoned it.
    theirs.abandon(attempt.id, attempt.subject.clone(), attempt.expected, NOW).await.unwrap();
    assert_eq!(database.attempt(attempt.id), "reserved|");
    assert_eq!(balances(&ours).await, [10, 0, 0]);
    assert_eq!(ours.lookup(attempt.key, NOW, None).await.unwrap().pictures.len(), 0, "nothing is stored");
    assert_eq!((database.count("pictures"), database.count("entries")), (0, 0));
    let told = drawn(&ours, &attempt, term, "a kite").await;
    assert_eq!(finish(&ours, &told).await, Finished::Yes);
}

async fn a_beginning_that_is_told_twice_is_made_once(database: Database) {
    let store = database.open();
    let attempt = call("twice");
    let term = begin(&store, &attempt).await;
    assert_eq!(begin(&store, &attempt).await, term, "only its acknowledgement was lost");
    assert_eq!(database.rows(attempt.id), ["reserve"]);
    assert_eq!(balances(&store).await, [5, 0, 0]);
    // What has ended does not begin again: who would be told so would send it.
    finish(&store, &end(&attempt, term, AttemptState::Failed, Settlement::Release)).await;
    let again = store.begin_attempt(attempt.clone(), NOW).await;
    assert!(again.is_err(), "{again:?}");
    // Nor is what somebody else began.
    let other = call("other");
    begin(&store, &other).await;
    let stolen = database.open().begin_attempt(other, NOW).await;
    assert!(stolen.is_err(), "{stolen:?}");
    assert_eq!(balances(&store).await, [5, 0, 0]);
}

/// As when a connection is lost while its transaction still waits at the server.
async fn sixteen_tell_the_same_beginning_at_once(database: Database) {
    let store = database.open();
    for round in 0..10 {
        let attempt = call(&format!("round {round}"));
        let all = join_all((0..16).map(|_| store.begin_attempt(attempt.clone(), NOW))).await;
        all.into_iter().for_each(|reserved| _ = granted(reserved));
        assert_eq!(database.rows(attempt.id), ["reserve"]);
    }
    assert_eq!(balances(&store).await, [50, 0, 0]);
}

async fn what_is_abandoned_after_its_beginning_is_released(database: Database) {
    let store = database.open();
    let attempt = call("given up");
    let term = begin(&store, &attempt).await;
    for _ in 0..2 {
        store.abandon(attempt.id, attempt.subject.clone(), attempt.expected, NOW).await.unwrap();
        assert_eq!(database.attempt(attempt.id), "failed|");
        assert_eq!(database.rows(attempt.id), ["reserve", "release"]);
        assert_eq!(balances(&store).await, [0, 0, 0]);
    }
    let told = drawn(&store, &attempt, term, "a kite").await;
    assert_eq!(finish(&store, &told).await, Finished::GivenUp);

    // What was billed stays billed.
    let paid = call("paid");
    let term = begin(&store, &paid).await;
    let told = drawn(&store, &paid, term, "a kite").await;
    finish(&store, &told).await;
    store.abandon(paid.id, paid.subject.clone(), paid.expected, NOW).await.unwrap();
    assert_eq!((database.attempt(paid.id).as_str(), balances(&store).await), ("done|", [0, 3, 0]));
}

async fn what_is_abandoned_before_its_beginning_never_begins(database: Database) {
    let store = database.open();
    let attempt = call("late");
    store.abandon(attempt.id, attempt.subject.clone(), attempt.expected, NOW).await.unwrap();
    let late = store.begin_attempt(attempt.clone(), NOW).await;
    assert!(late.is_err(), "{late:?}");
    assert_eq!(database.rows(attempt.id), [""; 0], "no money has moved");
    assert!(!store.is_under_way(attempt.key).await.unwrap());
    // The same picture is anybody's to make.
    begin(&store, &call("late")).await;
}

async fn a_beginning_and_its_abandoning_meet(database: Database) {
    let store = database.open();
    let (mut before, mut after) = (0, 0);
    for round in 0..60 {
        let attempt = call(&format!("round {round}"));
        let begins = store.begin_attempt(attempt.clone(), NOW);
        let abandons = store.abandon(attempt.id, attempt.subject.clone(), attempt.expected, NOW);
        let begun = if round % 2 == 0 {
            let (begun, abandoned) = tokio::join!(begins, abandons);
            abandoned.unwrap();
            begun
        } else {
            let (abandoned, begun) = tokio::join!(abandons, begins);
            abandoned.unwrap();
            begun
        };
        let rows = database.rows(attempt.id);
        match begun {
            Ok(Reserved::Yes { .. }) => {
                before += 1;
                assert_eq!(rows, ["reserve", "release"]);
            }
            Err(_) => {
                after += 1;
                assert_eq!(rows, [""; 0]);
            }
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(before + after, 60);
    assert_eq!(balances(&store).await, [0, 0, 0]);
    assert_eq!(database.count("attempts WHERE state <> 'failed'"), 0);
}

async fn what_is_learnt_late_moves_no_money(database: Database) {
    let store = database.open();
    let (lost, done) = (call("lost"), call("done"));
    let term = begin(&store, &lost).await;
    finish(&store, &end(&lost, term, AttemptState::Unknown, Settlement::Suspend)).await;
    begin(&store, &done).await;
    let told = drawn(&store, &done, term, "a kite").await;
    finish(&store, &told).await;
    let events =
        async || serde_json::to_string(&store.ledger_events(LedgerQuery::default(), 99).await.unwrap()).unwrap();
    let before = events().await;
    for attempt in [&lost, &done] {
        store.note_late(attempt.id, "it was billed 3 cents".into()).await.unwrap();
    }
    assert_eq!(events().await, before);
    assert_eq!(database.attempt(lost.id), "unknown|it was billed 3 cents");
    assert_eq!(database.attempt(done.id), "done|", "of this one everything is known");
    assert_eq!(store.suspense(None).await.unwrap()[0].fault.as_deref(), Some("it was billed 3 cents"));
}

async fn what_is_in_suspense_is_resolved_once(database: Database) {
    let (store, other) = (Arc::new(database.open()), Arc::new(database.open()));
    let mut spent = 0;
    for (round, billed) in [(0, 4), (1, 0), (2, 4), (3, 0), (4, 9)] {
        let attempt = call(&format!("round {round}"));
        assert!(!store.resolve(attempt.id, cents(4), NOW).await.unwrap(), "nobody began it");
        let term = begin(&store, &attempt).await;
        assert!(!store.resolve(attempt.id, cents(4), NOW).await.unwrap(), "it is under way");
        finish(&store, &end(&attempt, term, AttemptState::Unknown, Settlement::Suspend)).await;
        assert_eq!(balances(&store).await, [0, spent, 5]);
        let ours = |open: Vec<mimeo::store::OpenAttempt>| open.iter().map(|open| open.id).collect::<Vec<_>>();
        assert_eq!(ours(store.suspense(Some("acme".into())).await.unwrap()), [attempt.id]);
        assert_eq!(ours(store.suspense(Some("other".into())).await.unwrap()), []);
        let tell = async |store: &mimeo::store::Store, at| store.resolve(attempt.id, cents(billed), NOW + at).await;
        let (one, two) = tokio::join!(tell(&store, 2), tell(&other, 3));
        assert_eq!(u8::from(one.unwrap()) + u8::from(two.unwrap()), 1, "one of two");
        spent += billed;
        assert_eq!(balances(&store).await, [0, spent, 0]);
        assert_eq!(database.rows(attempt.id), ["reserve", "suspend", "resolve"]);
        assert_eq!(database.attempt(attempt.id), if billed == 0 { "failed|" } else { "done|" });
    }
    assert_eq!(store.misspent().await.unwrap(), 0);
}

/// PostgreSQL has no text with a NUL in it. What was paid for is written down all the same.
async fn whatever_a_provider_says_is_written_down(database: Database) {
    let store = database.open();
    let (made, refused) = (call("a kite"), call("a gun"));
    let term = begin(&store, &made).await;
    let mut told = drawn(&store, &made, term, "a kite").await;
    told.pictures[0].row.revised_prompt = Some("a\0kite".into());
    assert_eq!(finish(&store, &told).await, Finished::Yes);
    let found = store.lookup(made.key, NOW, None).await.unwrap();
    assert_eq!(found.pictures[0].revised_prompt.as_deref(), Some("a\u{fffd}kite"));

    begin(&store, &refused).await;
    let refusal = Refusal {
        provider: "studio".into(),
        code: Some("\0".into()),
        message: "no\0way".into(),
        expires_ms: NOW + 1000,
    };
    let told = Finish {
        fault: Some("no\0".into()),
        refusal: Some((refused.key, refusal)),
        ..end(&refused, term, AttemptState::Refused, Settlement::Release)
    };
    assert_eq!(finish(&store, &told).await, Finished::Yes);
    let kept = store.lookup(refused.key, NOW, None).await.unwrap().refusal.expect("it is kept");
    assert_eq!((kept.code.as_deref(), kept.message.as_str()), (Some("\u{fffd}"), "no\u{fffd}way"));
    assert_eq!(balances(&store).await, [0, 3, 0]);
}
