//! One request answers under a caller's key; who asks again is told what it came to.

use mimeo::clock::Millis;
use mimeo::domain::RequestId;
use mimeo::store::{Claim, Reply, Store};

use super::{Database, NOW, begin, call, key, on_both};

on_both!(
    a_claim_is_the_first_ones_and_the_others_see_it,
    tenants_share_no_keys,
    an_answer_is_written_once_and_by_who_claimed,
    what_was_abandoned_is_taken_over_by_one,
    answers_are_forgotten_in_time,
    of_two_claims_at_once_one_is_made,
);

fn claim(tenant: &str, idempotency: Option<&str>, asked: &str) -> Claim {
    Claim {
        id: RequestId::random(),
        tenant: tenant.into(),
        idempotency: idempotency.map(str::to_owned),
        fingerprint: key(asked),
        expires_ms: NOW + 1000,
    }
}

async fn claimed(store: &Store, claim: &Claim) -> Option<Reply> {
    claimed_at(store, claim, NOW).await
}

async fn claimed_at(store: &Store, claim: &Claim, now: Millis) -> Option<Reply> {
    store.claim_reply(claim.clone(), now).await.unwrap_or_else(|error| panic!("{error}"))
}

fn under_way(first: &Claim) -> Reply {
    Reply {
        id: first.id,
        fingerprint: first.fingerprint,
        answer: None,
        is_abandoned: false,
        is_called_off: false,
        created_ms: NOW,
    }
}

async fn a_claim_is_the_first_ones_and_the_others_see_it(database: Database) {
    let (store, other) = (database.open(), database.open());
    let first = claim("acme", Some("k"), "a kite");
    assert_eq!(claimed(&store, &first).await, None, "it is this request's");
    assert_eq!(claimed(&store, &first).await, None, "only the acknowledgement was lost");
    for asked in ["a kite", "a boat"] {
        let again = claimed(&other, &claim("acme", Some("k"), asked)).await;
        assert_eq!(again, Some(under_way(&first)), "the caller compares what was asked");
    }
    assert_eq!(other.reply("acme".into(), first.id, NOW).await.unwrap(), Some(under_way(&first)));
    // Without a key of the caller's, each is one of its own.
    for _ in 0..2 {
        assert_eq!(claimed(&store, &claim("acme", None, "a kite")).await, None);
    }
    assert_eq!(database.count("replies"), 3);
}

async fn tenants_share_no_keys(database: Database) {
    let store = database.open();
    let (ours, theirs) = (claim("acme", Some("k"), "a kite"), claim("other", Some("k"), "a kite"));
    assert_eq!(claimed(&store, &ours).await, None);
    assert_eq!(claimed(&store, &theirs).await, None);
    assert_eq!(store.reply("other".into(), ours.id, NOW).await.unwrap(), None);
    assert_eq!(store.reply("acme".into(), theirs.id, NOW).await.unwrap(), None);
    assert_eq!(store.reply("acme".into(), ours.id, NOW).await.unwrap(), Some(under_way(&ours)));
}

async fn an_answer_is_written_once_and_by_who_claimed(database: Database) {
    let (store, other) = (database.open(), database.open());
    let (term, stranger) = (begin(&store, &call("ours")).await, begin(&other, &call("theirs")).await);
    let first = claim("acme", Some("k"), "a kite");
    assert_eq!(claimed(&store, &first).await, None);
    assert!(!store.answer_reply(first.id, stranger, "forged".into()).await.unwrap());
    assert!(!store.answer_reply(RequestId::random(), term, "nobody's".into()).await.unwrap());
    for _ in 0..2 {
        assert!(store.answer_reply(first.id, term, "here".into()).await.unwrap(), "twice is once");
    }
    assert!(!store.answer_reply(first.id, term, "there".into()).await.unwrap(), "it is answered already");
    let answered = Some(Reply { answer: Some("here".into()), ..under_way(&first) });
    assert_eq!(claimed(&other, &claim("acme", Some("k"), "a kite")).await, answered);
    assert_eq!(other.reply("acme".into(), first.id, NOW).await.unwrap(), answered);
    // An answer outlives who gave it.
    store.leave().await.unwrap();
    let later = claimed(&other, &claim("acme", Some("k"), "a kite")).await.unwrap();
    assert_eq!((later.id, later.answer.as_deref()), (first.id, Some("here")));
    assert!(!other.answer_reply(first.id, stranger, "again".into()).await.unwrap());
}

async fn what_was_abandoned_is_taken_over_by_one(database: Database) {
    for round in 0..20 {
        let (store, one, two) = (database.open(), database.open(), database.open());
        let idempotency = format!("k{round}");
        let ask = |asked| claim("acme", Some(idempotency.as_str()), asked);
        let first = ask("a kite");
        let term = begin(&store, &call(&format!("{round}"))).await;
        assert_eq!(claimed(&store, &first).await, None);
        store.leave().await.unwrap();
        // Who asks for something else does not take it over.
        assert!(claimed(&one, &ask("a boat")).await.unwrap().is_abandoned);
        let (left, right) = (ask("a kite"), ask("a kite"));
        let (left, right) = tokio::join!(claimed(&one, &left), claimed(&two, &right));
        let (left, right) = (left.unwrap(), right.unwrap());
        assert_eq!((left.id, right.id), (first.id, first.id), "under its first name");
        assert_ne!(left.is_abandoned, right.is_abandoned, "one takes it over, the other waits for that one");
        assert!(!store.answer_reply(first.id, term, "too late".into()).await.unwrap());
        let (taker, waiter) = if left.is_abandoned { (&one, &two) } else { (&two, &one) };
        let (takers, waiters) = (
            begin(taker, &call(&format!("{round} taker"))).await,
            begin(waiter, &call(&format!("{round} waiter"))).await,
        );
        assert!(!waiter.answer_reply(first.id, waiters, "not mine".into()).await.unwrap());
        assert!(taker.answer_reply(first.id, takers, "mine".into()).await.unwrap());
    }
}

async fn answers_are_forgotten_in_time(database: Database) {
    let store = database.open();
    let (first, second) = (claim("acme", Some("k"), "a kite"), claim("acme", Some("k"), "a boat"));
    let other = claim("acme", Some("other"), "a tree");
    assert_eq!(claimed(&store, &first).await, None);
    assert_eq!(claimed_at(&store, &second, NOW + 999).await, Some(under_way(&first)));
    assert_eq!(store.reply("acme".into(), first.id, NOW + 1000).await.unwrap(), None, "expired");
    assert_eq!(claimed_at(&store, &second, NOW + 1000).await, None, "the key is free again");
    assert_eq!(store.forget_replies(NOW + 999).await.unwrap(), 0);
    assert_eq!(claimed(&store, &Claim { expires_ms: NOW + 2000, ..other.clone() }).await, None);
    assert_eq!(store.forget_replies(NOW + 1000).await.unwrap(), 1);
    assert_eq!(database.count("replies"), 1);
    assert!(store.reply("acme".into(), other.id, NOW).await.unwrap().is_some());
}

async fn of_two_claims_at_once_one_is_made(database: Database) {
    let (one, two) = (database.open(), database.open());
    for round in 0..100 {
        let idempotency = format!("k{round}");
        let (left, right) = (claim("acme", Some(&idempotency), "a kite"), claim("acme", Some(&idempotency), "a kite"));
        match tokio::join!(claimed(&one, &left), claimed(&two, &right)) {
            (None, Some(reply)) => assert_eq!(reply, under_way(&left)),
            (Some(reply), None) => assert_eq!(reply, under_way(&right)),
            both => panic!("{both:?}"),
        }
    }
    assert_eq!(database.count("replies"), 100);
}
