//! What a key leads to, for how long, and which bytes stand behind it.

use mimeo::domain::{AttemptId, Digest, Price, RequestId, Usage};
use mimeo::store::{
    AttemptState, BlobRead, EntryWrite, Finish, Finished, NewPicture, PurgeFilter, Refusal, Settlement, Store,
};

use super::{Database, NOW, begin, call, cents, drawn, end, entry, finish, key, on_both, picture};

on_both!(
    pictures_answer_in_the_order_in_which_they_came,
    a_picture_comes_back_as_it_was_stored,
    who_asks_for_fresh_ones_drops_the_others,
    a_refusal_answers_until_it_expires_or_pictures_come,
    free_pictures_are_stored_once,
    equal_content_is_kept_once,
    equal_content_from_many_processes_is_kept_once,
    damaged_bytes_are_dropped_only_where_they_still_lie,
    bytes_are_deleted_after_the_commit_also_when_a_crash_came_between,
);

/// Ids of the pictures that answer `name` at `now`, by their content.
async fn contents(store: &Store, name: &str, now: i64, not_before: Option<i64>) -> Vec<Digest> {
    let found = store.lookup(key(name), now, not_before).await.unwrap();
    found.pictures.iter().map(|picture| picture.blob).collect()
}

/// Lets pictures answer `name`.
async fn put(store: &Store, name: &str, pictures: Vec<NewPicture>) {
    store.put_free(pictures, Some(entry(key(name))), NOW).await.unwrap();
}

async fn read(store: &Store, picture: &NewPicture) -> BlobRead {
    store.blobs.get(&picture.row.name).await.unwrap()
}

async fn pictures_answer_in_the_order_in_which_they_came(database: Database) {
    let (store, other) = (database.open(), database.open());
    assert_eq!(store.lookup(key("kite"), NOW, None).await.unwrap().last, 0, "nothing yet");
    let mut last = 0;
    for (number, from) in [(0, &store), (1, &other), (2, &store)] {
        let mut made = picture(from, &format!("kite {number}"), None).await;
        made.row.created_ms = NOW + number;
        // The second of them expires.
        let write = EntryWrite { expires_ms: (number == 1).then_some(NOW + 100), ..entry(key("kite")) };
        from.put_free(vec![made], Some(write), NOW).await.unwrap();
        let now = other.lookup(key("kite"), NOW, None).await.unwrap().last;
        assert!(now > last);
        last = now;
    }
    let [a, b, c] = ["kite 0", "kite 1", "kite 2"].map(key);
    assert_eq!(contents(&other, "kite", NOW + 99, None).await, [a, b, c]);
    assert_eq!(contents(&other, "kite", NOW + 100, None).await, [a, c], "expired");
    assert_eq!(contents(&other, "kite", NOW + 99, Some(NOW + 1)).await, [b, c], "too old for the caller");
    assert_eq!(contents(&other, "kite", NOW, Some(NOW + 3)).await, []);
    assert_eq!(contents(&other, "something else", NOW, None).await, []);
    // What came last is told, whether it still answers or not.
    assert_eq!(other.lookup(key("kite"), NOW, Some(NOW + 3)).await.unwrap().last, last);

    // Listings: the newest first, what they cost, and nobody else's.
    let mut theirs = picture(&store, "theirs", None).await;
    (theirs.tenant, theirs.row.created_ms, theirs.row.cost) = ("other".into(), NOW + 50, Price::Unknown);
    put(&store, "theirs", vec![theirs]).await;
    let listed = store.entries(None, 10).await.unwrap();
    assert_eq!(listed.iter().map(|entry| entry.tenant.as_str()).collect::<Vec<_>>(), ["other", "acme"]);
    let ours = store.entries(Some("acme".into()), 10).await.unwrap();
    assert_eq!(ours.len(), 1);
    assert_eq!((ours[0].key.as_str(), ours[0].label.as_str()), (key("kite").to_string().as_str(), "generate brush-1"));
    assert_eq!((ours[0].pictures, ours[0].bytes, ours[0].cost_usd), (3, 18, cents(9)));
    assert_eq!((ours[0].created_ms, ours[0].expires_ms, ours[0].route.as_str()), (NOW + 2, Some(NOW + 100), "posters"));
    assert_eq!(store.entries(None, 1).await.unwrap().len(), 1);
    assert_eq!(store.entries(Some("nobody".into()), 9).await.unwrap().len(), 0);
}

async fn a_picture_comes_back_as_it_was_stored(database: Database) {
    let (store, other) = (database.open(), database.open());
    let mut made = picture(&store, "a kite", None).await;
    made.row.usage = Some(Usage { input_text: 7, output_image: 4160, ..Usage::default() });
    made.row.revised_prompt = Some("a ‘red’ kite; with a tail 🪁".into());
    (made.row.cost, made.row.simulated) = (Price::Unknown, false);
    put(&store, "kite", vec![made.clone()]).await;
    let found = other.picture(made.row.id).await.unwrap().expect("it is there");
    assert_eq!(format!("{found:?}"), format!("{:?}", made.row));
    let answer = other.lookup(key("kite"), NOW, None).await.unwrap();
    assert_eq!(format!("{:?}", answer.pictures), format!("[{:?}]", made.row));
    assert_eq!(read(&other, &made).await, BlobRead::Found("a kite".into()));
    assert!(other.picture(mimeo::domain::ImageId::random()).await.unwrap().is_none());
}

async fn who_asks_for_fresh_ones_drops_the_others(database: Database) {
    let store = database.open();
    put(&store, "kite", vec![picture(&store, "old", None).await, picture(&store, "older", None).await]).await;
    let request = RequestId::random();
    let fresh = async |content: &str, kept: &[&str]| {
        let mut attempt = call("kite");
        (attempt.subject.request, attempt.joinable) = (request, false);
        let term = begin(&store, &attempt).await;
        let told = drawn(&store, &attempt, term, content).await;
        let told = Finish { entry: Some(EntryWrite { replace: Some(request), ..entry(key("kite")) }), ..told };
        assert_eq!(finish(&store, &told).await, Finished::Yes);
        let kept: Vec<Digest> = kept.iter().map(|content| key(content)).collect();
        assert_eq!(contents(&store, "kite", NOW, None).await, kept);
    };
    fresh("one", &["one"]).await;
    fresh("two", &["one", "two"]).await;
    // Somebody else's come after it, and go when the request makes one more.
    put(&store, "kite", vec![picture(&store, "between", None).await]).await;
    fresh("three", &["one", "two", "three"]).await;
}

async fn a_refusal_answers_until_it_expires_or_pictures_come(database: Database) {
    let store = database.open();
    let refusal = |message: &str| Refusal {
        provider: "studio".into(),
        code: Some("moderation".into()),
        message: message.into(),
        expires_ms: NOW + 100,
    };
    let found = async |now| {
        let refusal = store.lookup(key("no"), now, None).await.unwrap().refusal;
        refusal.map(|refusal| (refusal.provider, refusal.code, refusal.message, refusal.expires_ms))
    };
    let told = |message: &str| Some(("studio".into(), Some("moderation".into()), message.into(), NOW + 100));
    let attempt = call("no");
    let term = begin(&store, &attempt).await;
    let refused = end(&attempt, term, AttemptState::Refused, Settlement::Release);
    finish(&store, &Finish { refusal: Some((attempt.key, refusal("not this"))), ..refused }).await;
    assert_eq!(found(NOW).await, told("not this"));
    store.put_refusal(key("no"), refusal("nor that")).await.unwrap();
    assert_eq!(found(NOW + 99).await, told("nor that"), "the last one holds");
    assert_eq!(found(NOW + 100).await, None, "expired");
    // Pictures end it, also for the time after them.
    let made = picture(&store, "after all", None).await;
    let write = EntryWrite { expires_ms: Some(NOW + 1), ..entry(key("no")) };
    store.put_free(vec![made], Some(write), NOW).await.unwrap();
    assert_eq!(found(NOW).await, None);
    assert_eq!(found(NOW + 1).await, None);
}

/// A commit whose acknowledgement is lost is made again.
async fn free_pictures_are_stored_once(database: Database) {
    let store = database.open();
    let made = vec![picture(&store, "front", None).await, picture(&store, "back", None).await];
    for _ in 0..2 {
        put(&store, "card", made.clone()).await;
    }
    assert_eq!(contents(&store, "card", NOW, None).await, [key("front"), key("back")]);
    assert_eq!((database.count("pictures"), database.count("blobs"), database.count("trash")), (2, 2, 0));
    store.empty_trash().await;
    assert_eq!(read(&store, &made[0]).await, BlobRead::Found("front".into()));
    // Without a key they are there all the same.
    let made = picture(&store, "unasked", None).await;
    store.put_free(vec![made.clone()], None, NOW).await.unwrap();
    assert!(store.picture(made.row.id).await.unwrap().is_some());
    assert_eq!(database.count("entries"), 2);
}

async fn equal_content_is_kept_once(database: Database) {
    let store = database.open();
    let (first, second) = (picture(&store, "same", None).await, picture(&store, "same", None).await);
    assert_ne!(first.row.name, second.row.name, "a name is never used twice");
    put(&store, "one", vec![first.clone()]).await;
    put(&store, "two", vec![second.clone()]).await;
    assert_eq!(database.sql("SELECT name FROM blobs"), first.row.name.to_string());
    assert_eq!(database.sql("SELECT name FROM trash"), second.row.name.to_string());
    assert_eq!(store.picture(second.row.id).await.unwrap().unwrap().name, first.row.name);
    store.empty_trash().await;
    assert_eq!(read(&store, &second).await, BlobRead::Missing);
    assert_eq!(database.count("trash"), 0);

    // Dropping one of them keeps the bytes; dropping both deletes them.
    let only = |name| PurgeFilter { key: Some(key(name)), ..PurgeFilter::default() };
    assert_eq!(store.purge(only("one"), NOW).await.unwrap(), 1);
    assert_eq!(read(&store, &first).await, BlobRead::Found("same".into()));
    assert_eq!(contents(&store, "two", NOW, None).await, [key("same")]);
    assert_eq!(store.purge(only("two"), NOW).await.unwrap(), 1);
    assert_eq!(read(&store, &first).await, BlobRead::Missing);
    assert_eq!((database.count("blobs"), database.count("trash"), database.count("pictures")), (0, 0, 0));
    // And again, under a name of its own.
    let third = picture(&store, "same", None).await;
    put(&store, "one", vec![third.clone()]).await;
    assert_eq!(read(&store, &third).await, BlobRead::Found("same".into()));
}

/// They come in opposite orders, while others are dropped: nobody loses bytes that something leads to.
async fn equal_content_from_many_processes_is_kept_once(database: Database) {
    let stores = [database.open(), database.open(), database.open()];
    for round in 0..6 {
        let one = async |number: usize| {
            let store = &stores[number];
            let (here, there) = (format!("{round} here"), format!("{round} there"));
            let order = if number == 0 { [&here, &there] } else { [&there, &here] };
            let attempt = call(&format!("{round} {number}"));
            let term = begin(store, &attempt).await;
            let mut told = drawn(store, &attempt, term, order[0]).await;
            told.pictures.push(picture(store, order[1], Some(attempt.id)).await);
            assert_eq!(finish(store, &told).await, Finished::Yes);
            if number == 2 {
                let filter = PurgeFilter { key: Some(attempt.key), ..PurgeFilter::default() };
                assert_eq!(store.purge(filter, NOW).await.unwrap(), 2);
            }
        };
        tokio::join!(one(0), one(1), one(2));
        for number in 0..2 {
            let found = stores[2].lookup(key(&format!("{round} {number}")), NOW, None).await.unwrap();
            assert_eq!(found.pictures.len(), 2);
            for picture in found.pictures {
                let bytes = stores[0].blobs.get(&picture.name).await.unwrap();
                assert!(matches!(bytes, BlobRead::Found(_)), "{bytes:?}");
            }
        }
    }
    stores[0].empty_trash().await;
    assert_eq!((database.count("blobs"), database.count("trash"), database.count("pictures")), (12, 0, 24));
}

async fn damaged_bytes_are_dropped_only_where_they_still_lie(database: Database) {
    let store = database.open();
    let (first, second) = (picture(&store, "same", None).await, picture(&store, "same", None).await);
    put(&store, "one", vec![first.clone()]).await;
    put(&store, "two", vec![second.clone()]).await;
    let other = picture(&store, "other", None).await;
    put(&store, "one", vec![other.clone()]).await;
    store.drop_blob(first.row.blob, second.row.name, NOW).await.unwrap();
    store.drop_blob(other.row.blob, first.row.name, NOW).await.unwrap();
    assert_eq!(database.count("pictures"), 3, "no such bytes lie there");
    store.drop_blob(first.row.blob, first.row.name, NOW).await.unwrap();
    assert_eq!(contents(&store, "one", NOW, None).await, [other.row.blob]);
    assert_eq!(contents(&store, "two", NOW, None).await, []);
    assert!(store.picture(second.row.id).await.unwrap().is_none());
    assert_eq!((database.count("pictures"), database.count("blobs")), (1, 1));
    // Made again, they lie elsewhere, and whoever comes late with the old name drops nothing.
    let again = picture(&store, "same", None).await;
    put(&store, "two", vec![again.clone()]).await;
    store.drop_blob(first.row.blob, first.row.name, NOW).await.unwrap();
    store.empty_trash().await;
    assert_eq!(read(&store, &first).await, BlobRead::Missing);
    assert_eq!(read(&store, &again).await, BlobRead::Found("same".into()));
    assert_eq!(read(&store, &other).await, BlobRead::Found("other".into()));
}

async fn bytes_are_deleted_after_the_commit_also_when_a_crash_came_between(database: Database) {
    let store = database.open();
    // More than are deleted in one go.
    let mut doomed = Vec::new();
    for number in 0..300 {
        doomed.push(picture(&store, &format!("doomed {number}"), Some(AttemptId::random())).await);
    }
    let kept = picture(&store, "kept", None).await;
    put(&store, "doomed", doomed.clone()).await;
    put(&store, "kept", vec![kept.clone()]).await;
    // Dropping one by one names them for deletion, and deletes nothing yet.
    for picture in &doomed {
        store.drop_blob(picture.row.blob, picture.row.name, NOW).await.unwrap();
    }
    assert_eq!((database.count("trash"), database.count("pictures")), (300, 1));
    assert_eq!(read(&store, &doomed[0]).await, BlobRead::Found("doomed 0".into()));
    drop(store);
    let store = database.open();
    // A name that leads nowhere does not stand in the way of the others.
    database.sql("INSERT INTO trash (name, since_ms) VALUES ('00/gone', 0)");
    store.empty_trash().await;
    for picture in &doomed {
        assert_eq!(read(&store, picture).await, BlobRead::Missing);
    }
    assert_eq!(read(&store, &kept).await, BlobRead::Found("kept".into()));
    assert_eq!(database.count("trash"), 0);
}
