//! A purge takes what it names and nothing else, and everybody hears of it.

use mimeo::domain::Digest;
use mimeo::store::{BlobRead, EntryWrite, PurgeFilter, Refusal, Store};

use super::{Database, NOW, entry, key, on_both, picture};

on_both!(
    each_filter_takes_what_it_names,
    a_purge_is_heard_of_by_all,
    two_purges_at_once_take_everything_once,
    a_purge_takes_as_much_as_there_is,
    bytes_that_another_key_leads_to_stay,
);

/// Five pictures that differ in what a purge may ask for, and their refusals.
async fn filled(store: &Store) {
    // Key, tenant, route, tags (separated by white space), expiry.
    let rows = [
        ("a", "acme", "posters", "summer draft", Some(NOW + 10)),
        ("b", "acme", "icons", "summer", None),
        ("c", "other", "posters", "summer", Some(NOW + 20)),
        ("d", "other", "icons", "", None),
        ("d", "other", "icons", "draft", None),
    ];
    for (number, (name, tenant, route, tags, expires_ms)) in rows.into_iter().enumerate() {
        let mut made = picture(store, &format!("content {number}"), None).await;
        made.tenant = tenant.into();
        let tags = tags.split_whitespace().map(str::to_owned).collect();
        let write = EntryWrite { route: route.into(), tags, expires_ms, ..entry(key(name)) };
        store.put_free(vec![made], Some(write), NOW).await.unwrap();
    }
    for name in ["a", "e"] {
        let refusal = Refusal { provider: "studio".into(), code: None, message: "no".into(), expires_ms: NOW + 99 };
        store.put_refusal(key(name), refusal).await.unwrap();
    }
}

/// How many pictures of each key are left, and how many refusals.
fn left(database: &Database) -> ([u64; 4], u64) {
    let of = |name| database.count(&format!("entries WHERE key = {}", database.bytes(&key(name).0)));
    (["a", "b", "c", "d"].map(of), database.count("refusals"))
}

async fn each_filter_takes_what_it_names(database: Database) {
    let store = database.open();
    let none = PurgeFilter::default;
    let tag = |tag: &str| Some(tag.to_owned());
    // What is asked for; how many go; what is left; whether all are to hear of it.
    let cases = [
        (PurgeFilter { key: Some(key("d")), ..none() }, 2, ([1, 1, 1, 0], 2), 1),
        (PurgeFilter { key: Some(key("a")), ..none() }, 1, ([0, 1, 1, 2], 1), 1),
        (PurgeFilter { key: Some(key("e")), ..none() }, 0, ([1, 1, 1, 2], 1), 1),
        (PurgeFilter { tenant: Some("acme".into()), ..none() }, 2, ([0, 0, 1, 2], 2), 1),
        (PurgeFilter { route: Some("posters".into()), ..none() }, 2, ([0, 1, 0, 2], 2), 1),
        (PurgeFilter { tag: tag("summer"), ..none() }, 3, ([0, 0, 0, 2], 2), 1),
        (PurgeFilter { tag: tag("draft"), ..none() }, 2, ([0, 1, 1, 1], 2), 1),
        (PurgeFilter { tag: tag("draft"), tenant: Some("acme".into()), ..none() }, 1, ([0, 1, 1, 2], 2), 1),
        (PurgeFilter { tag: tag("winter"), ..none() }, 0, ([1, 1, 1, 2], 2), 1),
        (PurgeFilter { key: Some(key("a")), tenant: Some("other".into()), ..none() }, 0, ([1, 1, 1, 2], 2), 1),
        (PurgeFilter { expired_by: Some(NOW + 9), ..none() }, 0, ([1, 1, 1, 2], 2), 0),
        (PurgeFilter { expired_by: Some(NOW + 10), ..none() }, 1, ([0, 1, 1, 2], 2), 0),
        (PurgeFilter { expired_by: Some(NOW + 20), ..none() }, 2, ([0, 1, 0, 2], 2), 0),
        (none(), 5, ([0, 0, 0, 0], 0), 1),
    ];
    for (filter, gone, rest, heard) in cases {
        filled(&store).await;
        assert_eq!(left(&database), ([1, 1, 1, 2], 2));
        let epoch = store.purge_epoch().await.unwrap();
        assert_eq!(store.purge(filter.clone(), NOW).await.unwrap(), gone, "{filter:?}");
        assert_eq!(left(&database), rest, "{filter:?}");
        assert_eq!(store.purge_epoch().await.unwrap() - epoch, heard, "{filter:?}");
        // With the entries go the pictures, their tags and their bytes.
        let kept: u64 = rest.0.iter().sum();
        assert_eq!((database.count("pictures"), database.count("blobs")), (kept, kept), "{filter:?}");
        assert_eq!(database.count("tags WHERE picture NOT IN (SELECT id FROM pictures)"), 0, "{filter:?}");
        assert_eq!(database.count("trash"), 0, "{filter:?}");
        store.purge(none(), NOW).await.unwrap();
    }
}

async fn a_purge_is_heard_of_by_all(database: Database) {
    let (store, other) = (database.open(), database.open());
    assert_eq!(other.purge_epoch().await.unwrap(), 0);
    for epoch in 1..4 {
        store.purge(PurgeFilter::default(), NOW).await.unwrap();
        assert_eq!(other.purge_epoch().await.unwrap(), epoch);
    }
}

async fn two_purges_at_once_take_everything_once(database: Database) {
    let (one, two) = (database.open(), database.open());
    for round in 0..10 {
        let mut names: Vec<Digest> = Vec::new();
        for number in 0..4 {
            // Two keys lead to the same bytes each.
            let made = picture(&one, &format!("{round} {}", number / 2), None).await;
            names.push(key(&format!("{number}")));
            one.put_free(vec![made], Some(entry(names[number])), NOW).await.unwrap();
        }
        let (a, b) = tokio::join!(one.purge(PurgeFilter::default(), NOW), two.purge(PurgeFilter::default(), NOW));
        assert!(a.unwrap().max(b.unwrap()) == 4);
        for table in ["entries", "pictures", "blobs", "trash"] {
            assert_eq!(database.count(table), 0, "{table}");
        }
    }
}

/// More than a server has room for locks in one transaction.
async fn a_purge_takes_as_much_as_there_is(database: Database) {
    let store = database.open();
    let (numbers, id, digest, hex) = if database.postgres.is_some() {
        let bytes = |length: u8| format!("convert_to(lpad(CAST(n AS TEXT), {length}, '0'), 'UTF8')");
        ("generate_series(1, 10000) AS n", bytes(16), bytes(32), "encode(blob, 'hex')")
    } else {
        let bytes = |length: u8| format!("CAST(printf('%0{length}d', n) AS BLOB)");
        let numbers = "(WITH RECURSIVE s(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM s LIMIT 10000) SELECT n FROM s)";
        (numbers, bytes(16), bytes(32), "lower(hex(blob))")
    };
    database.sql(&format!(
        "INSERT INTO pictures (id, tenant, blob, bytes, format, width, height, provider, model, simulated, created_ms)
         SELECT {id}, 'acme', {digest}, 1, 'png', 1, 1, 'studio', 'brush-1', 1, {NOW} FROM {numbers}"
    ));
    database.sql(&format!("INSERT INTO blobs (digest, name, bytes) SELECT blob, '30/' || {hex}, 1 FROM pictures"));
    database.sql(&format!(
        "INSERT INTO entries (key, seq, picture, tenant, label, created_ms, expires_ms)
         SELECT blob, 1, id, tenant, 'generate', {NOW}, {NOW} FROM pictures"
    ));
    filled(&store).await;
    let expired = PurgeFilter { expired_by: Some(NOW), ..PurgeFilter::default() };
    assert_eq!(store.purge(expired, NOW).await.unwrap(), 10_000);
    assert_eq!(left(&database), ([1, 1, 1, 2], 2));
    for (table, rest) in [("pictures", 5), ("blobs", 5), ("entries", 5), ("trash", 0)] {
        assert_eq!(database.count(table), rest, "{table}");
    }
}

/// The same content under two keys: whichever way one of them goes, the bytes stay for the other.
async fn bytes_that_another_key_leads_to_stay(database: Database) {
    let (one, other) = (database.open(), database.open());
    for is_evicted in [false, true] {
        let content = format!("evicted: {is_evicted}");
        let (gone, kept) = (key(&format!("{content}, gone")), key(&format!("{content}, kept")));
        let doomed = picture(&one, &content, None).await;
        let id = doomed.row.id;
        one.put_free(vec![doomed], Some(entry(gone)), NOW).await.unwrap();
        let same = picture(&other, &content, None).await;
        other.put_free(vec![same], Some(entry(kept)), NOW).await.unwrap();
        if is_evicted {
            one.evict(vec![id], NOW).await.unwrap();
        } else {
            let filter = PurgeFilter { key: Some(gone), ..PurgeFilter::default() };
            assert_eq!(one.purge(filter, NOW).await.unwrap(), 1);
        }
        assert!(other.lookup(gone, NOW, None).await.unwrap().pictures.is_empty());
        let found = other.lookup(kept, NOW, None).await.unwrap().pictures;
        assert_eq!(found.len(), 1, "{content}");
        assert_eq!(other.blobs.get(&found[0].name).await.unwrap(), BlobRead::Found(content.into()));
    }
}
