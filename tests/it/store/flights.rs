//! One process makes the picture of a key; the others find out by the transaction that would pay again.

use mimeo::domain::RequestId;
use mimeo::store::{AttemptState, EntryWrite, Finished, NewAttempt, PurgeFilter, Reserved, Settlement, Store};

use super::{Database, NOW, begin, call, drawn, end, finish, granted, key, on_both};

on_both!(
    two_processes_begin_at_once_and_one_pays,
    who_looked_before_it_landed_does_not_pay_again,
    what_landed_is_seen_whatever_was_dropped_meanwhile,
    one_request_may_make_its_pictures_in_several_calls,
    what_nobody_may_join_stands_in_nobodys_way,
    an_unknown_outcome_forbids_the_same_until_it_is_resolved,
);

/// What the store says to `attempt`.
async fn asked(store: &Store, attempt: &NewAttempt) -> Reserved {
    store.begin_attempt(attempt.clone(), NOW).await.unwrap_or_else(|error| panic!("{error}"))
}

async fn two_processes_begin_at_once_and_one_pays(database: Database) {
    let stores = [database.open(), database.open()];
    let mut firsts = [0, 0];
    for round in 0..200 {
        let name = format!("round {round}");
        let (one, two) = (call(&name), call(&name));
        let [a, b] = &stores;
        // Both get the chance to be a little earlier.
        let (left, right) = if round % 2 == 0 {
            tokio::join!(asked(a, &one), asked(b, &two))
        } else {
            let (right, left) = tokio::join!(asked(b, &two), asked(a, &one));
            (left, right)
        };
        let (winner, store, attempt, term) = match (left, right) {
            (Reserved::Yes { term, .. }, Reserved::UnderWay) => (0, a, &one, term),
            (Reserved::UnderWay, Reserved::Yes { term, .. }) => (1, b, &two, term),
            both => panic!("round {round}: {both:?}"),
        };
        firsts[winner] += 1;
        assert!(a.is_under_way(key(&name)).await.unwrap() && b.is_under_way(key(&name)).await.unwrap());
        let told = end(attempt, term, AttemptState::Failed, Settlement::Release);
        assert_eq!(finish(store, &told).await, Finished::Yes);
        assert!(!a.is_under_way(key(&name)).await.unwrap());
    }
    assert_eq!(database.count("attempts"), 200, "one each: {firsts:?}");
}

async fn who_looked_before_it_landed_does_not_pay_again(database: Database) {
    let (first, second) = (database.open(), database.open());
    let (one, mut two) = (call("kite"), call("kite"));
    two.seen = Some(second.lookup(two.key, NOW, None).await.unwrap().last);
    let term = begin(&first, &one).await;
    assert_eq!(asked(&second, &two).await, Reserved::UnderWay);
    let told = drawn(&first, &one, term, "a kite").await;
    finish(&first, &told).await;
    assert_eq!(asked(&second, &two).await, Reserved::Landed);
    assert_eq!(database.count("attempts"), 1, "nothing is written of it");
    // Who has seen it and wants more, or does not look, goes on.
    let found = second.lookup(two.key, NOW, None).await.unwrap();
    assert_eq!(found.pictures.len(), 1);
    let (mut more, mut blind) = (call("kite"), call("kite"));
    (more.seen, more.joinable, blind.joinable) = (Some(found.last), false, false);
    granted(second.begin_attempt(more, NOW).await);
    granted(second.begin_attempt(blind, NOW).await);
}

/// The position that was seen stays a position, also when what stood there is dropped.
async fn what_landed_is_seen_whatever_was_dropped_meanwhile(database: Database) {
    let (first, second) = (database.open(), database.open());
    for (round, is_replaced) in [(0, false), (1, true)] {
        let name = format!("round {round}");
        let old = call(&name);
        let term = begin(&first, &old).await;
        let mut told = drawn(&first, &old, term, &name).await;
        told.entry.as_mut().unwrap().expires_ms = Some(NOW + 10);
        finish(&first, &told).await;

        // It has expired, and two see that.
        let found = second.lookup(old.key, NOW + 10, None).await.unwrap();
        assert!(found.pictures.is_empty() && found.last > 0);
        let (one, mut two) = (call(&name), call(&name));
        two.seen = Some(found.last);
        if !is_replaced {
            let expired = PurgeFilter { expired_by: Some(NOW + 10), ..PurgeFilter::default() };
            assert_eq!(second.purge(expired, NOW + 10).await.unwrap(), 1);
        }
        let term = begin(&first, &one).await;
        let mut told = drawn(&first, &one, term, "another").await;
        told.entry.as_mut().unwrap().replace = is_replaced.then_some(one.subject.request);
        finish(&first, &told).await;
        assert_eq!(asked(&second, &two).await, Reserved::Landed, "{name}");
    }
}

async fn one_request_may_make_its_pictures_in_several_calls(database: Database) {
    let store = database.open();
    let request = RequestId::random();
    let seen = store.lookup(key("fan"), NOW, None).await.unwrap().last;
    let of_request = || {
        let mut attempt = call("fan");
        (attempt.subject.request, attempt.seen) = (request, Some(seen));
        attempt
    };
    let (one, two, three) = (of_request(), of_request(), of_request());
    let term = begin(&store, &one).await;
    begin(&store, &two).await;
    assert_eq!(asked(&database.open(), &call("fan")).await, Reserved::UnderWay);
    let told = drawn(&store, &one, term, "one").await;
    finish(&store, &told).await;
    begin(&store, &three).await;
    for (attempt, content) in [(&two, "two"), (&three, "three")] {
        let mut told = drawn(&store, attempt, term, content).await;
        told.entry = Some(EntryWrite { replace: Some(request), ..told.entry.unwrap() });
        finish(&store, &told).await;
    }
    assert_eq!(store.lookup(key("fan"), NOW, None).await.unwrap().pictures.len(), 3, "none dropped another");
}

async fn what_nobody_may_join_stands_in_nobodys_way(database: Database) {
    let (first, second) = (database.open(), database.open());
    let (mut alone, mut also) = (call("alone"), call("alone"));
    (alone.joinable, also.joinable) = (false, false);
    begin(&first, &alone).await;
    assert!(!second.is_under_way(alone.key).await.unwrap());
    // One that others may join, although one that nobody may join is under way; and one beside it.
    begin(&second, &call("alone")).await;
    assert!(first.is_under_way(alone.key).await.unwrap());
    begin(&first, &also).await;
    assert_eq!(asked(&first, &call("alone")).await, Reserved::UnderWay);
    begin(&first, &call("something else")).await;
}

async fn an_unknown_outcome_forbids_the_same_until_it_is_resolved(database: Database) {
    let (first, second) = (database.open(), database.open());
    let lost = call("lost");
    let term = begin(&first, &lost).await;
    finish(&first, &end(&lost, term, AttemptState::Unknown, Settlement::Suspend)).await;
    let unknown = Reserved::Unknown { attempt: lost.id, request: lost.subject.request, at_ms: NOW };
    for joinable in [true, false] {
        let mut other = call("lost");
        (other.joinable, other.unknown_since) = (joinable, Some(NOW));
        assert_eq!(asked(&second, &other).await, unknown);
        other.unknown_since = Some(NOW + 1);
        let term = granted(second.begin_attempt(other.clone(), NOW).await);
        finish(&second, &end(&other, term, AttemptState::Failed, Settlement::Release)).await;
        let mut knowing = call("lost");
        (knowing.joinable, knowing.unknown_since) = (joinable, None);
        let term = granted(second.begin_attempt(knowing.clone(), NOW).await);
        finish(&second, &end(&knowing, term, AttemptState::Failed, Settlement::Release)).await;
    }
    // Its own request may still make other calls, but only in the process that made this one: another that has
    // taken the request over does not know what this one may still be doing.
    let mut same = call("lost");
    (same.unknown_since, same.subject.request) = (Some(NOW), lost.subject.request);
    assert_eq!(asked(&second, &same).await, unknown);
    let term = granted(first.begin_attempt(same.clone(), NOW).await);
    finish(&first, &end(&same, term, AttemptState::Failed, Settlement::Release)).await;

    assert!(first.resolve(lost.id, mimeo::domain::Usd::ZERO, NOW).await.unwrap());
    let mut after = call("lost");
    after.unknown_since = Some(NOW);
    granted(second.begin_attempt(after, NOW).await);
}
