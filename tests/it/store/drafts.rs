//! Drafts that can be made final: their tenants', for a time.

use bytes::Bytes;
use mimeo::domain::{ImageId, Price, RequestId, Usd};
use mimeo::store::{Draft, NewDraft, NewDrafts, Saving, Store};

use super::{Database, NOW, call, cents, on_both, totals};

on_both!(a_draft_is_its_tenants_and_the_latest_counts, what_was_asked_for_is_forgotten_in_time);

fn drafts(tenant: &str, pictures: &[u128], inputs: &[&'static str]) -> NewDrafts {
    let draft = |picture: &u128| NewDraft {
        picture: ImageId(*picture),
        saved: cents(-3),
        papers: format!("papers of {picture}"),
    };
    NewDrafts {
        tenant: tenant.to_owned(),
        request: RequestId::random(),
        inputs: inputs.iter().map(|text| Bytes::from_static(text.as_bytes())).collect(),
        expires_ms: NOW + 1000,
        drafts: pictures.iter().map(draft).collect(),
    }
}

async fn a_draft_is_its_tenants_and_the_latest_counts(database: Database) {
    let (store, other) = (database.open(), database.open());
    let (first, foreign) = (drafts("acme", &[1, 2], &["a kite", "a mask"]), drafts("shop", &[1], &[]));
    store.keep_drafts(first.clone()).await.unwrap();
    store.keep_drafts(foreign.clone()).await.unwrap();
    let of = |picture, tenant: &str| other.draft(ImageId(picture), tenant.to_owned());
    let known = Draft {
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
    let finalized =
        async |store: &Store, tenant: &str| store.finalized(ImageId(2), tenant.to_owned(), Some(taken_back())).await;
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
}

async fn what_was_asked_for_is_forgotten_in_time(database: Database) {
    let store = database.open();
    store.keep_drafts(drafts("acme", &[1], &["a kite"])).await.unwrap();
    let known = || async { store.draft(ImageId(1), "acme".into()).await.unwrap() };
    store.forget_drafts(NOW + 999).await.unwrap();
    assert_eq!(known().await.unwrap().inputs.len(), 1);
    store.forget_drafts(NOW + 1000).await.unwrap();
    let expired = known().await.unwrap();
    assert_eq!((expired.papers, expired.inputs.len()), (None, 0), "no prompt and no picture is left");
    store.forget_drafts(NOW + 1000 + 30 * 24 * 3_600_000).await.unwrap();
    assert_eq!(known().await, None);
}
