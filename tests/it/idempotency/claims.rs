//! The store's side of it: who may answer, and who may pay, in two processes; on both databases.

use mimeo::clock::Clock;
use mimeo::config::{BlobPlace, Durability, Secret, Storage};
use mimeo::domain::{AttemptId, Digest, Price, RequestId};
use mimeo::store::{AttemptState, Claim, NewAttempt, Past, Reserved, Store, Subject};

use crate::engines::Postgres;
use crate::world::Folder;

/// A store in `folder`, or with its database at `url`.
fn open(folder: &Folder, url: Option<&Secret>) -> Store {
    let storage = Storage { path: folder.0.clone(), durability: Durability::Process, ..Storage::default() };
    Store::open(&storage, url, &BlobPlace::Folder(folder.0.join("blobs")), Clock::System).expect("it opens")
}

/// A request that goes on in another process does not pay beside its first one, should that one only have been
/// frozen.
#[tokio::test(flavor = "multi_thread")]
async fn i10_a_request_in_two_processes_pays_in_one() {
    let postgres = Postgres::start();
    for url in [None, Some(Secret::new(postgres.url()))] {
        pays_in_one(url.as_ref()).await;
    }
}

async fn pays_in_one(url: Option<&Secret>) {
    let folder = Folder::new();
    let (one, other) = (open(&folder, url), open(&folder, url));
    let subject = Subject {
        tenant: "shop".into(),
        api_key: "web".into(),
        route: "r".into(),
        provider: "p".into(),
        model: "m".into(),
        purpose: None,
        request: RequestId::random(),
        pictures: 1,
        credit: None,
    };
    let attempt = || NewAttempt {
        id: AttemptId::at(1),
        subject: subject.clone(),
        expected: Price::FREE,
        state: AttemptState::Sending,
        key: Digest([7; 32]),
        joinable: true,
        seen: Some(0),
        unknown_since: Some(0),
        budgets: Vec::new(),
    };
    let begin = async |store: &Store| store.begin_attempt(attempt(), 1).await.expect("the store works");
    assert!(matches!(begin(&one).await, Reserved::Yes { .. }));
    assert!(matches!(begin(&one).await, Reserved::Yes { .. }), "several calls of one request go side by side");
    assert_eq!(begin(&other).await, Reserved::UnderWay);
    let past = async |store: &Store| store.past_of(subject.request).await.expect("the store works");
    assert_eq!(past(&other).await, Past { open: 2, ..Past::default() });
    one.leave().await.expect("it leaves");
    assert_eq!(past(&other).await, Past { unknown: 2, ..Past::default() });
    other.recover(2).await.expect("it recovers");
    assert!(matches!(begin(&other).await, Reserved::Unknown { request, .. } if request == subject.request));
}

/// A claim that is left is the next one's, under its first name; one that is given back leaves its key free.
#[tokio::test(flavor = "multi_thread")]
async fn i10_claims_are_left_and_given_back() {
    let postgres = Postgres::start();
    for url in [None, Some(Secret::new(postgres.url()))] {
        left_and_given_back(url.as_ref()).await;
    }
}

async fn left_and_given_back(url: Option<&Secret>) {
    let folder = Folder::new();
    let store = open(&folder, url);
    let claim = |fingerprint| Claim {
        id: RequestId::random(),
        tenant: "shop".into(),
        idempotency: Some("k".into()),
        fingerprint: Digest([fingerprint; 32]),
        expires_ms: 1000,
    };
    let first = claim(1);
    let claimed = async |claim: Claim| store.claim_reply(claim, 1).await.expect("the store works");
    assert_eq!(claimed(first.clone()).await, None);
    let term = store.answering_term().await.expect("a term");
    assert!(store.abandon_reply(first.id, term).await.expect("written"));
    assert!(!store.answer_reply(first.id, term, "late".into()).await.expect("written"), "it is nobody's");
    assert!(store.reply("shop".into(), first.id, 1).await.expect("read").is_some_and(|reply| reply.is_abandoned));
    let other = claimed(claim(2)).await.expect("it is not for another thing");
    assert_eq!((other.fingerprint, other.is_abandoned), (first.fingerprint, true));
    let taken = claimed(claim(1)).await.expect("a claim");
    assert_eq!((taken.id, taken.is_abandoned), (first.id, true));
    for _ in 0..2 {
        assert!(store.release_reply(first.id, term, "failed".into()).await.expect("written"), "twice is once");
    }
    assert_eq!(claimed(claim(2)).await, None, "the key is free");
    let told = store.reply("shop".into(), first.id, 1).await.expect("read").expect("it is told under its name");
    assert_eq!(told.answer.as_deref(), Some("failed"));
    let under = store.reply_under("shop".into(), "k".into(), 1).await.expect("read").expect("claimed");
    assert_eq!((under.fingerprint, under.answer), (Digest([2; 32]), None));
    assert!(!store.abandon_reply(first.id, term).await.expect("written"), "what is answered is not left");
}
