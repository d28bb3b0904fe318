//! What calls that have ended teach about who was asked: the same in every process, and only what they teach.

use std::time::Duration;

use mimeo::domain::Price;
use mimeo::store::{AttemptState, Finish, PastCall, Settlement, Store, Timing};

use super::{Database, NOW, begin, call, cents, end, finish, on_both};

on_both!(calls_are_told_to_others, only_the_newest_calls_are_read);

fn timing(candidate: &str, ms: u64) -> Timing {
    Timing { candidate: candidate.to_owned(), took: Duration::from_millis(ms) }
}

/// A call that ended so, at `at_ms`.
async fn called(store: &Store, name: &str, timing: Option<Timing>, state: AttemptState, at_ms: i64) -> PastCall {
    let attempt = call(name);
    let term = begin(store, &attempt).await;
    let settlement = match state {
        AttemptState::Done => Settlement::Settle(Price::Known(cents(3))),
        AttemptState::Unknown => Settlement::Suspend,
        _ => Settlement::Release,
    };
    let told = Finish { timing: timing.clone(), at_ms, ..end(&attempt, term, state, settlement) };
    finish(store, &told).await;
    let timing = timing.unwrap_or_else(|| self::timing("", 0));
    PastCall { attempt: attempt.id, timing, is_made: state == AttemptState::Done, at_ms }
}

async fn calls_are_told_to_others(database: Database) {
    let (one, other) = (database.open(), database.open());
    let late = called(&one, "late", Some(timing("studio/brush", 9000)), AttemptState::Done, NOW + 30).await;
    let failed = called(&one, "failed", Some(timing("studio/brush", 12)), AttemptState::Failed, NOW + 10).await;
    let unknown =
        called(&other, "unknown", Some(timing("studio/pen@high", 60_000)), AttemptState::Unknown, NOW + 20).await;
    // Who refuses is neither slow nor broken, what is under way has not ended, and what is old was forgotten.
    called(&one, "refused", None, AttemptState::Refused, NOW + 20).await;
    begin(&one, &call("under way")).await;
    called(&one, "old", Some(timing("studio/brush", 1)), AttemptState::Done, NOW - 1).await;
    for store in [&one, &other] {
        let told = store.calls_since(NOW, 100).await.expect("they are read");
        assert_eq!(told, [failed.clone(), unknown.clone(), late.clone()], "oldest first");
    }
}

async fn only_the_newest_calls_are_read(database: Database) {
    let store = database.open();
    for at in 0..5 {
        called(&store, &format!("call {at}"), Some(timing("studio/brush", 5)), AttemptState::Done, NOW + at).await;
    }
    let told = store.calls_since(NOW, 2).await.expect("they are read");
    assert_eq!(told.iter().map(|call| call.at_ms - NOW).collect::<Vec<_>>(), [3, 4]);
}
