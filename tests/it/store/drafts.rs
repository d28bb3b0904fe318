//! Drafts that can be made final: their tenants', for a time.

use bytes::Bytes;
use mimeo::domain::{Digest, Format, ImageId, Picture, Price, RequestId, Usd, WishId};
use mimeo::store::{Draft, NewDraft, NewDrafts, Saving, Store};

use super::{Database, NOW, call, cents, on_both, totals};

on_both!(
    a_draft_is_its_tenants_and_the_latest_counts,
    what_was_asked_for_is_forgotten_in_time,
    what_was_sent_is_kept_once,
);

const WISH: WishId = WishId(5);

fn drafts(tenant: &str, pictures: &[u128], inputs: &[&'static str]) -> NewDrafts {
    let draft = |picture: &u128| NewDraft {
        picture: ImageId(*picture),
        wish: WISH,
        saved: cents(-3),
        papers: format!("papers of {picture}"),
    };
    NewDrafts {
        tenant: tenant.to_owned(),
        request: RequestId::random(),
        inputs: inputs.iter().map(sent).collect(),
        expires_ms: NOW + 1000,
        drafts: pictures.iter().map(draft).collect(),
    }
}

fn sent(text: &&'static str) -> Picture {
    let bytes = Bytes::from_static(text.as_bytes());
    Picture { digest: Digest::of(&bytes), bytes, format: Format::Png, width: 64, height: 64 }
}

async fn a_draft_is_its_tenants_and_the_latest_counts(database: Database) {
    let (store, other) = (database.open(), database.open());
    let (first, foreign) = (drafts("acme", &[1, 2], &["a kite", "a mask"]), drafts("shop", &[1], &[]));
    store.keep_drafts(first.clone()).await.unwrap();
    store.keep_drafts(foreign.clone()).await.unwrap();
    let of = |picture, tenant: &str| other.draft(ImageId(picture), tenant.to_owned(), Some(WISH));
    let known = Draft {
        wish: WISH,
        request: first.request,
        saved: cents(-3),
        is_finalized: false,
        expires_ms: NOW + 1000,
        papers: Some("papers of 2".to_owned()),
        inputs: vec![Bytes::from_static(b"a kite"), Bytes::from_static(b"a mask")],
    };
    assert_eq!(of(2, "acme").await.unwrap(), Some(known.clone()));
    assert_eq!(of(1, "shop").await.unwrap().unwrap().request, foreign.request);
    assert_eq!(of(2, "shop").await.unwrap(), None);

    let taken_back =
        || Saving { layer: "cascade", subject: call("a kite").subject, saved: Price::Known(cents(-3)), at_ms: NOW };
    let finalized = async |store: &Store, tenant: &str| {
        store.finalized(ImageId(2), tenant.to_owned(), WISH, Some(taken_back())).await
    };
    assert!(!finalized(&store, "shop").await.unwrap(), "there is none");
    assert_eq!(totals(&store).await.saved_usd, Usd::ZERO);
    assert!(finalized(&store, "acme").await.unwrap());
    assert_eq!(totals(&store).await.saved_usd, cents(-3), "together with it");
    assert!(!finalized(&other, "acme").await.unwrap(), "once");
    assert_eq!(totals(&store).await.saved_usd, cents(-3));
    assert_eq!(of(2, "acme").await.unwrap(), Some(Draft { is_finalized: true, ..known }));
    let again = drafts("acme", &[2], &[]);
    store.keep_drafts(again.clone()).await.unwrap();
    let known = of(2, "acme").await.unwrap().unwrap();
    assert_eq!((known.request, known.is_finalized, known.inputs.len()), (again.request, false, 0));

    // Who wants something else of the same picture takes nobody's place.
    let mut others = drafts("acme", &[2], &["a boat"]);
    others.drafts[0].wish = WishId(6);
    others.expires_ms += 1;
    store.keep_drafts(others.clone()).await.unwrap();
    assert_eq!(of(2, "acme").await.unwrap().unwrap().request, again.request);
    let last = || async { store.draft(ImageId(2), "acme".into(), None).await.unwrap().unwrap() };
    assert_eq!((last().await.request, last().await.wish, last().await.inputs.len()), (others.request, WishId(6), 1));
    assert!(store.finalized(ImageId(2), "acme".into(), WishId(6), None).await.unwrap());
    assert!(!of(2, "acme").await.unwrap().unwrap().is_finalized);
    assert_eq!(store.draft(ImageId(2), "acme".into(), Some(WishId(7))).await.unwrap(), None);
}

async fn what_was_asked_for_is_forgotten_in_time(database: Database) {
    let store = database.open();
    store.keep_drafts(drafts("acme", &[1], &["a kite"])).await.unwrap();
    let known = || async { store.draft(ImageId(1), "acme".into(), None).await.unwrap() };
    store.forget_drafts(NOW + 999).await.unwrap();
    assert_eq!(known().await.unwrap().inputs.len(), 1);
    store.forget_drafts(NOW + 1000).await.unwrap();
    let expired = known().await.unwrap();
    assert_eq!((expired.papers, expired.inputs.len()), (None, 0), "no prompt and no picture is left");
    store.forget_drafts(NOW + 1000 + 30 * 24 * 3_600_000).await.unwrap();
    assert_eq!(known().await, None);
}

/// What was kept before wishes had names can still be made final.
#[tokio::test]
async fn a_draft_of_an_older_version_is_there() {
    let database = Database::sqlite();
    drop(database.open());
    let connection = rusqlite::Connection::open(database.folder.0.join("mimeo.sqlite")).unwrap();
    connection.execute_batch("DROP TABLE drafts; DROP TABLE draft_inputs; DROP INDEX pictures_by_attempt").unwrap();
    connection.execute_batch(include_str!("../../../migrations/sqlite/0009_drafts.sql")).unwrap();
    let row = format!("x'{:032x}', 'acme', x'{:032x}', 3, 1, {}, 'papers'", 1, 2, NOW + 1000);
    connection.execute_batch(&format!("INSERT INTO drafts VALUES ({row})")).unwrap();
    connection.pragma_update(None, "user_version", 10).unwrap();
    drop(connection);
    let known = database.open().draft(ImageId(1), "acme".into(), None).await.unwrap().unwrap();
    assert_eq!((known.request, known.is_finalized, known.papers.as_deref()), (RequestId(2), true, Some("papers")));
}

/// A draft that is found again and again is kept each time, its pictures are not.
async fn what_was_sent_is_kept_once(database: Database) {
    let store = database.open();
    let again = |later: i64, tenant: &str| {
        let new = drafts(tenant, &[1, 2], &["a kite", "a mask"]);
        NewDrafts { expires_ms: NOW + later, ..new }
    };
    for later in [1000, 2000, 5000] {
        store.keep_drafts(again(later, "acme")).await.unwrap();
    }
    store.keep_drafts(again(3000, "shop")).await.unwrap();
    assert_eq!(database.count("draft_inputs"), 2);
    let sent = || async {
        let of = |tenant: &str| store.draft(ImageId(2), tenant.to_owned(), Some(WISH));
        [of("acme").await.unwrap().unwrap().inputs.len(), of("shop").await.unwrap().unwrap().inputs.len()]
    };
    for (now, left) in [(1000, [2, 2]), (3000, [2, 0]), (4999, [2, 0]), (5000, [0, 0])] {
        store.forget_drafts(NOW + now).await.unwrap();
        assert_eq!(sent().await, left, "{now}");
    }
    assert_eq!(database.count("draft_inputs"), 0);
}
