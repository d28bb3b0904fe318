//! Words about pictures: appended, the last of each voice counts, and they come out in the order in which they went in.

use mimeo::domain::ImageId;
use mimeo::store::{Feedback, FeedbackKind, NewPicture};

use super::{Database, NOW, entry, key, on_both, picture};

on_both!(the_last_word_counts, what_is_imported_comes_in_once, pictures_are_spoken_of_by_their_own, many_speak_at_once);

fn word(picture: ImageId, voice: &str, value: u32) -> Feedback {
    Feedback {
        at_ms: NOW,
        picture,
        request: None,
        tenant: "acme".into(),
        key: voice.into(),
        candidate: "studio/brush-1".into(),
        category: "glass".into(),
        kind: FeedbackKind::Rating,
        value,
        trials: 1,
        note: Some("ü\n".into()),
    }
}

async fn the_last_word_counts(database: Database) {
    let store = database.open();
    let (first, second) = (ImageId::random(), ImageId::random());
    store.add_feedback(vec![word(first, "web", 1), word(first, "app", 2), word(second, "web", 3)]).await.unwrap();
    let accepted = Feedback { kind: FeedbackKind::Accepted, value: 1, ..word(first, "web", 1) };
    store.add_feedback(vec![accepted, word(first, "web", 5)]).await.unwrap();
    let heard = store.feedback_after(0, i64::MIN, 100).await.unwrap();
    let replaced: Vec<Option<u32>> = heard.iter().map(|heard| heard.replaced.as_ref().map(|word| word.value)).collect();
    assert_eq!(replaced, [None, None, None, None, Some(1)]);
    assert_eq!(heard[0].feedback, word(first, "web", 1), "as it went in");
    assert!(heard.windows(2).all(|two| two[0].seq < two[1].seq));
    let rest = store.feedback_after(heard[2].seq, i64::MIN, 1).await.unwrap();
    assert_eq!((rest.len(), rest[0].feedback.kind), (1, FeedbackKind::Accepted));
    assert!(store.feedback_after(0, NOW + 1, 100).await.unwrap().is_empty(), "what is older is not read");
    assert_eq!(store.latest_feedback(1).await.unwrap(), [word(first, "web", 5)]);
}

async fn what_is_imported_comes_in_once(database: Database) {
    let store = database.open();
    let id = ImageId::random();
    let newer = Feedback { at_ms: NOW + 9, ..word(id, "web", 5) };
    store.add_feedback(vec![newer.clone()]).await.unwrap();
    let rows = vec![word(id, "web", 1), newer, word(id, "app", 2)];
    assert_eq!(
        store.import_feedback(rows.clone()).await.unwrap(),
        1,
        "what is known, or older than what is, stays out"
    );
    assert_eq!(store.import_feedback(rows).await.unwrap(), 0);
}

async fn pictures_are_spoken_of_by_their_own(database: Database) {
    let store = database.open();
    let old = picture(&store, "a kite", None).await;
    let new = NewPicture {
        candidate: Some("studio/brush-1@high".into()),
        category: Some("glass".into()),
        ..picture(&store, "a boat", None).await
    };
    let (kite, boat) = (old.row.id, new.row.id);
    store.put_free(vec![old, new], Some(entry(key("both"))), NOW).await.unwrap();
    let of = async |tenant: &str, id| store.subject_of_feedback(tenant.to_owned(), id).await.unwrap();
    let subject = of("acme", boat).await.unwrap();
    assert_eq!((subject.candidate.as_str(), subject.category.as_deref()), ("studio/brush-1@high", Some("glass")));
    assert_eq!(
        of("acme", kite).await.unwrap().candidate,
        "studio/brush-1",
        "by its model, where nothing else is known"
    );
    assert!(of("other", boat).await.is_none());
    store.unlist(vec![boat]).await.unwrap();
    let left = store.lookup(key("both"), NOW, None).await.unwrap().pictures;
    assert_eq!(left.iter().map(|row| row.id).collect::<Vec<_>>(), [kite]);
    assert!(store.picture(boat).await.unwrap().is_some(), "its address is good");
}

/// Who reads on after the last position that was seen misses nobody, however many write.
async fn many_speak_at_once(database: Database) {
    let store = std::sync::Arc::new(database.open());
    let others = [database.open(), database.open()];
    let writing = futures_util::future::join_all((0..40u32).map(|number| {
        let store = &others[number as usize % 2];
        async move { store.add_feedback(vec![word(ImageId::random(), "web", 1 + number % 5)]).await.unwrap() }
    }));
    let reading = async {
        let (mut last, mut count) = (0, 0);
        while count < 40 {
            let page = store.feedback_after(last, i64::MIN, 7).await.unwrap();
            assert!(page.iter().all(|heard| heard.seq > last));
            count += page.len();
            last = page.last().map_or(last, |heard| heard.seq);
            tokio::task::yield_now().await;
        }
        count
    };
    let bounded = tokio::time::timeout(std::time::Duration::from_secs(60), reading);
    let (_, count) = tokio::join!(writing, bounded);
    assert_eq!(count.expect("none is missed"), 40);
}

/// Among millions of pictures those of one request are not looked for one by one.
#[tokio::test]
async fn what_a_request_paid_for_is_found_by_an_index() {
    let database = Database::sqlite();
    let _store = database.open();
    let plan = database.sql(
        "EXPLAIN QUERY PLAN SELECT p.id FROM attempts a JOIN pictures p ON p.attempt = a.id WHERE a.request = x'00'",
    );
    assert!(!plan.contains("SCAN") && !plan.contains("AUTOMATIC"), "{plan}");
}
