//! What a provider has accepted is never given up with its process: one other takes it over, and ends it.

use mimeo::domain::{AttemptId, Price, RequestId};
use mimeo::store::{AcceptedJob, AttemptState, Claim, Finished, NewAttempt, Reserved, Settlement, Store, Term};

use super::{Database, NOW, balances, begin, call, cents, drawn, end, finish, key, on_both};

on_both!(
    what_is_accepted_is_adopted_and_not_suspended,
    many_adopt_and_one_gets_each,
    what_is_held_here_is_not_adopted_here,
    what_was_adopted_is_ended_by_who_adopted_it,
    only_what_was_sent_can_be_accepted,
    who_leaves_hands_its_jobs_over,
    others_wait_for_what_nobody_asks_for,
    a_request_is_called_off_until_it_is_answered,
    an_abandoned_request_is_answered_by_who_ends_its_job,
    all_make_the_same_addresses,
);

/// Notes that `attempt` was accepted as the job `name`.
async fn accept(store: &Store, attempt: &NewAttempt, term: Term, name: &str) -> bool {
    let papers = format!("papers of {name}");
    store.mark_accepted(attempt.id, term, name.to_owned(), papers, NOW).await.unwrap()
}

/// Sends `attempt` and has it accepted.
async fn accepted(store: &Store, attempt: &NewAttempt, name: &str) -> Term {
    let term = begin(store, attempt).await;
    assert!(accept(store, attempt, term, name).await);
    term
}

async fn adopted(store: &Store) -> Vec<AcceptedJob> {
    store.adopt(|_| false).await.unwrap()
}

async fn what_is_accepted_is_adopted_and_not_suspended(database: Database) {
    let (gone, other) = (database.open(), database.open());
    let (sent, job) = (call("sent"), call("job"));
    begin(&gone, &sent).await;
    let term = accepted(&gone, &job, "j-1").await;
    assert_eq!(database.attempt(job.id), "accepted|");
    assert!(adopted(&other).await.is_empty(), "its process is there");
    gone.leave().await.unwrap();
    assert_eq!(other.recover(NOW).await.unwrap(), (0, 1), "what was only sent is in suspense");
    assert_eq!(balances(&other).await, [5, 0, 5], "the job's money stays set aside");
    let [found] = adopted(&other).await.try_into().unwrap();
    assert_eq!((found.attempt.id, found.attempt.state), (job.id, AttemptState::Accepted));
    assert_eq!((found.ticket.as_str(), found.papers.as_str()), ("j-1", "papers of j-1"));
    assert_eq!((found.key, found.joinable, found.attempt.expected), (job.key, true, job.expected));
    assert_eq!(found.attempt.subject.request, job.subject.request);
    assert_ne!(found.term, term);
    assert_eq!(database.rows(job.id), ["reserve"], "no money moves");
}

async fn many_adopt_and_one_gets_each(database: Database) {
    let others = [database.open(), database.open(), database.open()];
    for round in 0..10 {
        let gone = database.open();
        let jobs: Vec<_> = (0..5).map(|number| call(&format!("{round} {number}"))).collect();
        for job in &jobs {
            accepted(&gone, job, "j").await;
        }
        gone.leave().await.unwrap();
        let mine = |id: AttemptId| !jobs.iter().any(|job| job.id == id);
        let [a, b, c] = &others;
        let (a, b, c) = tokio::join!(a.adopt(mine), b.adopt(mine), c.adopt(mine));
        let mut all: Vec<AttemptId> =
            [a, b, c].into_iter().flat_map(|jobs| jobs.unwrap()).map(|job| job.attempt.id).collect();
        all.sort();
        let mut expected: Vec<AttemptId> = jobs.iter().map(|job| job.id).collect();
        expected.sort();
        assert_eq!(all, expected, "each once");
    }
}

async fn what_is_held_here_is_not_adopted_here(database: Database) {
    let store = database.open();
    let job = call("held");
    accepted(&store, &job, "j").await;
    assert!(store.adopt(|id| id == job.id).await.unwrap().is_empty());
    // Nobody here waits for it any more, because its call took too long.
    assert_eq!(adopted(&store).await.len(), 1);
    assert_eq!(adopted(&store).await.len(), 1, "only its acknowledgement was lost");
    assert!(adopted(&database.open()).await.is_empty());
}

async fn what_was_adopted_is_ended_by_who_adopted_it(database: Database) {
    let (gone, other) = (database.open(), database.open());
    let job = call("job");
    let term = accepted(&gone, &job, "j").await;
    gone.leave().await.unwrap();
    let [found] = adopted(&other).await.try_into().unwrap();
    // It was only frozen, and has its picture after all.
    let late = drawn(&gone, &job, term, "late").await;
    assert_eq!(finish(&gone, &late).await, Finished::GivenUp);
    assert!(!accept(&gone, &job, term, "j").await);
    let told = drawn(&other, &job, found.term, "a kite").await;
    assert_eq!(finish(&other, &told).await, Finished::Yes);
    assert_eq!(database.rows(job.id), ["reserve", "settle"]);
    assert_eq!(balances(&other).await, [0, 3, 0]);
    assert_eq!(other.lookup(job.key, NOW, None).await.unwrap().pictures.len(), 1);
    assert!(adopted(&gone).await.is_empty());

    // Whoever adopts may die as well.
    let next = call("next");
    accepted(&other, &next, "k").await;
    other.leave().await.unwrap();
    let third = database.open();
    assert_eq!(adopted(&third).await.len(), 1);
    third.leave().await.unwrap();
    let [found] = adopted(&database.open()).await.try_into().unwrap();
    assert_eq!(found.ticket, "k");
}

async fn only_what_was_sent_can_be_accepted(database: Database) {
    let (store, other) = (database.open(), database.open());
    let mut job = call("not sent");
    job.state = AttemptState::Reserved;
    let term = begin(&store, &job).await;
    assert!(!accept(&store, &job, term, "j").await);
    assert!(store.mark_sending(job.id, term, NOW).await.unwrap());
    let stranger = begin(&other, &call("theirs")).await;
    assert!(!accept(&other, &job, stranger, "forged").await);
    for _ in 0..2 {
        assert!(accept(&store, &job, term, "j").await, "told twice, done once");
    }
    assert!(!store.mark_sending(job.id, term, NOW).await.unwrap(), "it is not sent again");
    assert_eq!(database.attempt(job.id), "accepted|");
    let told = end(&job, term, AttemptState::Failed, Settlement::Release);
    assert_eq!(finish(&store, &told).await, Finished::Yes);
    assert!(!accept(&store, &job, term, "j").await, "it has ended");
    assert_eq!(balances(&store).await, [5, 0, 0]);
}

async fn who_leaves_hands_its_jobs_over(database: Database) {
    let (store, other) = (database.open(), database.open());
    let (job, sent) = (call("job"), call("sent"));
    let term = accepted(&store, &job, "j").await;
    begin(&store, &sent).await;
    assert_eq!(other.hand_over().await.unwrap(), 0);
    assert_eq!(store.hand_over().await.unwrap(), 1);
    assert_eq!(adopted(&other).await.len(), 1, "at once, although its process is there");
    let told = drawn(&store, &job, term, "too late").await;
    assert_eq!(finish(&store, &told).await, Finished::GivenUp);
    assert_eq!(database.attempt(sent.id), "sending|", "what may not be asked for stays with it");
    assert_eq!(other.recover(NOW).await.unwrap(), (0, 0));
}

async fn others_wait_for_what_nobody_asks_for(database: Database) {
    let (gone, other) = (database.open(), database.open());
    let job = call("kite");
    accepted(&gone, &job, "j").await;
    gone.leave().await.unwrap();
    other.recover(NOW).await.unwrap();
    let again = call("kite");
    for _ in 0..2 {
        assert!(other.is_under_way(job.key).await.unwrap());
        let reserved = other.begin_attempt(again.clone(), NOW).await.unwrap();
        assert_eq!(reserved, Reserved::UnderWay);
        assert_eq!(other.past_of(job.subject.request).await.unwrap().open, 1, "it is not unknown");
        adopted(&other).await;
    }
    assert_eq!(other.provider_of(job.id).await.unwrap().as_deref(), Some("studio"));
    let [found] = adopted(&other).await.try_into().unwrap();
    let mut told = end(&job, found.term, AttemptState::Unknown, Settlement::Suspend);
    told.fault = Some("nobody can ask for it".into());
    finish(&other, &told).await;
    assert_eq!(other.provider_of(job.id).await.unwrap(), None);
    assert!(!other.is_under_way(key("kite")).await.unwrap());
    assert_eq!(balances(&other).await, [0, 0, 5]);
    assert!(other.resolve(job.id, cents(3), NOW).await.unwrap());
    assert_eq!(balances(&other).await, [0, 3, 0]);
}

/// A request whose answer is kept.
async fn claimed(store: &Store, id: RequestId) -> Term {
    let claim =
        Claim { id, tenant: "acme".into(), idempotency: None, fingerprint: key("asked"), expires_ms: NOW + 1_000_000 };
    let term = store.answering_term().await.unwrap();
    assert_eq!(store.claim_reply(claim, NOW).await.unwrap(), None);
    term
}

async fn a_request_is_called_off_until_it_is_answered(database: Database) {
    let (store, other) = (database.open(), database.open());
    let (id, unknown) = (RequestId::random(), RequestId::random());
    let term = claimed(&store, id).await;
    assert!(!other.call_off(unknown).await.unwrap());
    assert!(!store.is_called_off(id).await.unwrap() && !store.is_called_off(unknown).await.unwrap());
    for _ in 0..2 {
        assert!(other.call_off(id).await.unwrap());
        assert!(store.is_called_off(id).await.unwrap(), "whoever is at it learns of it");
    }
    assert!(other.reply("acme".into(), id, NOW).await.unwrap().unwrap().is_called_off);
    assert!(store.answer_reply(id, term, "{}".into()).await.unwrap());
    assert!(!other.call_off(id).await.unwrap(), "it has ended");
}

async fn an_abandoned_request_is_answered_by_who_ends_its_job(database: Database) {
    let (gone, other) = (database.open(), database.open());
    let id = RequestId::random();
    claimed(&gone, id).await;
    let term = other.answering_term().await.unwrap();
    assert_eq!(other.take_over_reply(id, term).await.unwrap(), None, "somebody is at it");
    gone.leave().await.unwrap();
    for _ in 0..2 {
        assert_eq!(other.take_over_reply(id, term).await.unwrap(), Some(NOW), "told twice");
    }
    assert!(other.answer_reply(id, term, "{}".into()).await.unwrap());
    let third = database.open();
    let stranger = third.answering_term().await.unwrap();
    assert_eq!(third.take_over_reply(id, stranger).await.unwrap(), None);
    assert_eq!(third.take_over_reply(RequestId::random(), stranger).await.unwrap(), None);
}

async fn all_make_the_same_addresses(database: Database) {
    let (one, other) = (database.open(), database.open());
    let (a, b) = tokio::join!(one.callback_key(), other.callback_key());
    let key = a.unwrap();
    assert_eq!(b.unwrap(), key);
    assert_eq!(database.open().callback_key().await.unwrap(), key, "after a restart, too");
    assert_ne!(database.sql("SELECT value FROM notes WHERE name = 'callback_key'"), "");
    // An attempt of unknown price is adopted like all others.
    let mut job = call("unpriced");
    job.expected = Price::Unknown;
    accepted(&one, &job, "j").await;
    one.leave().await.unwrap();
    let [found] = adopted(&other).await.try_into().unwrap();
    assert_eq!(found.attempt.expected, Price::Unknown);
}
