//! Databases of other versions: an older one is brought up to date with all that is in it, a newer one is refused.

use mimeo::domain::{AttemptId, Digest, ImageId, Price, RequestId};
use mimeo::store::{
    Allowance, AttemptState, BlobRead, BudgetLimit, Finished, GroupBy, LedgerQuery, PurgeFilter, Scope, Settlement,
    StoreError,
};

use super::{Database, NOW, begin, call, cents, drawn, end, finish, key, on_both};

on_both!(a_newer_schema_is_refused, a_schema_that_is_up_to_date_is_left_alone, many_open_a_new_database_at_once);

/// What the first version left behind, with rows in every table. Hashes stand in for what they are made of.
fn old_database() -> Database {
    let database = Database::sqlite();
    let folder = &database.folder.0;
    let connection = rusqlite::Connection::open(folder.join("mimeo.sqlite")).unwrap();
    connection.execute_batch(include_str!("../../../migrations/sqlite/0001_foundation.sql")).unwrap();
    connection.pragma_update(None, "user_version", 1).unwrap();
    let hex = |bytes: &[u8]| -> String { bytes.iter().map(|byte| format!("{byte:02x}")).collect() };
    let (kite, boat) = (Digest::of(b"a kite"), Digest::of(b"a boat"));
    for (digest, content) in [(kite, "a kite"), (boat, "a boat")] {
        let shelf = folder.join("blobs").join(&digest.to_string()[..2]);
        std::fs::create_dir_all(&shelf).unwrap();
        std::fs::write(shelf.join(digest.to_string()), content).unwrap();
    }
    // Every process of that version had a file, and held a lock on it.
    std::fs::create_dir_all(folder.join("instances")).unwrap();
    std::fs::write(folder.join(format!("instances/{:032x}.lock", 9)), "").unwrap();
    let id = |number: u128| format!("x'{number:032x}'");
    let cents = |amount: i128| cents(amount).pico();
    let picture = |number, blob: Digest, attempt: &str| {
        format!(
            "INSERT INTO pictures VALUES ({}, 'acme', x'{}', 6, 'png', 640, 480, 'studio', 'brush-1', 0, {}, NULL, 'red', \
             {attempt}, {NOW});",
            id(number),
            hex(&blob.0),
            cents(3)
        )
    };
    let entry = |name, seq, number, expires: &str| {
        format!(
            "INSERT INTO entries VALUES (x'{}', {seq}, {}, 'acme', 'generate brush-1', {NOW}, {expires});",
            hex(&key(name).0),
            id(number)
        )
    };
    let attempt = |number, state, expected: i128| {
        format!(
            "INSERT INTO attempts VALUES ({}, {}, '{state}', {}, 'acme', 'web', 'studio', 'brush-1', 'cards', 1, {}, NULL, \
             {NOW}, {NOW});",
            id(number),
            id(9),
            id(number + 100),
            cents(expected)
        )
    };
    // At which hour, about which attempt: set aside, spent, in suspense, in cents.
    let row = |kind, hour: i64, number, [reserved, spent, suspense]: [i128; 3]| {
        format!(
            "INSERT INTO ledger (at_ms, kind, tenant, api_key, provider, model, purpose, request, attempt, pictures, reserved, \
             spent, suspense) VALUES ({}, '{kind}', 'acme', 'web', 'studio', 'brush-1', 'cards', {}, {}, 1, {}, {}, {});",
            NOW + hour * 3_600_000,
            id(number + 100),
            id(number),
            cents(reserved),
            cents(spent),
            cents(suspense)
        )
    };
    let rows = [
        picture(1, kite, &id(11)),
        picture(2, kite, &id(12)),
        picture(3, boat, "NULL"),
        entry("kite", 1, 1, "NULL"),
        entry("kite", 2, 2, "NULL"),
        entry("boat", 1, 3, &format!("{}", NOW + 10)),
        format!("INSERT INTO refusals VALUES (x'{}', 'studio', NULL, 'not this', {});", hex(&key("no").0), NOW + 10),
        attempt(11, "done", 5),
        attempt(12, "done", 5),
        attempt(13, "unknown", 5),
        attempt(14, "sending", 5),
        attempt(15, "reserved", 5),
        row("reserve", -1, 11, [5, 0, 0]),
        row("settle", -1, 11, [-5, 3, 0]),
        row("reserve", 0, 12, [5, 0, 0]),
        row("settle", 0, 12, [-5, 4, 0]),
        row("reserve", 0, 13, [5, 0, 0]),
        row("suspend", 0, 13, [-5, 0, 5]),
        row("reserve", 0, 14, [5, 0, 0]),
        row("reserve", 0, 15, [5, 0, 0]),
        format!(
            "INSERT INTO ledger (at_ms, kind, layer, tenant, api_key, provider, model, request, pictures, saved) \
             VALUES ({NOW}, 'save', 'hit', 'acme', 'web', 'studio', 'brush-1', {}, 1, {});",
            id(200),
            cents(3)
        ),
        "UPDATE meta SET value = 7 WHERE name = 'purge_epoch';".to_owned(),
    ];
    for statement in rows {
        connection.execute_batch(&statement).unwrap_or_else(|error| panic!("{statement}: {error}"));
    }
    database
}

#[tokio::test]
async fn everything_in_an_older_database_is_there_afterwards() {
    let database = old_database();
    let store = database.open();
    assert_eq!(database.sql("PRAGMA user_version"), "12");
    assert_eq!(store.purge_epoch().await.unwrap(), 7);

    // Pictures, what they answer, and their bytes where they always lay.
    let (kite, boat) = (Digest::of(b"a kite"), Digest::of(b"a boat"));
    let found = store.lookup(key("kite"), NOW, None).await.unwrap();
    assert_eq!(found.pictures.iter().map(|picture| picture.id).collect::<Vec<_>>(), [ImageId(1), ImageId(2)]);
    assert_eq!(found.last, 2);
    for (id, digest, content) in [(1, kite, "a kite"), (2, kite, "a kite"), (3, boat, "a boat")] {
        let picture = store.picture(ImageId(id)).await.unwrap().unwrap();
        assert_eq!(picture.name.to_string(), format!("{}/{digest}", &digest.to_string()[..2]));
        assert_eq!(store.blobs.get(&picture.name).await.unwrap(), BlobRead::Found(content.into()));
        assert_eq!(
            (picture.blob, picture.cost, picture.revised_prompt.as_deref()),
            (digest, Price::Known(cents(3)), Some("red"))
        );
    }
    assert_eq!(store.lookup(key("boat"), NOW + 9, None).await.unwrap().pictures.len(), 1);
    assert_eq!(store.lookup(key("boat"), NOW + 10, None).await.unwrap().pictures.len(), 0);
    assert_eq!(store.lookup(key("no"), NOW, None).await.unwrap().refusal.unwrap().message, "not this");
    let listed = store.entries(Some("acme".into()), 9).await.unwrap();
    let mut listed: Vec<_> = listed.iter().map(|entry| (entry.pictures, entry.route.as_str())).collect();
    listed.sort_unstable();
    assert_eq!(listed, [(1, ""), (2, "")]);

    // Money: each balance, and what budgets see of it.
    let sums = store.ledger(LedgerQuery { group_by: Some(GroupBy::Provider), ..LedgerQuery::default() }).await.unwrap();
    let totals = &sums.totals;
    let balances = (totals.reserved_usd, totals.spent_usd, totals.suspense_usd, totals.saved_usd);
    assert_eq!(balances, (cents(10), cents(7), cents(5), cents(3)));
    assert_eq!((sums.rows[0].name.as_str(), totals.paid_pictures), ("studio", 2));
    assert_eq!(store.misspent().await.unwrap(), 0);
    for (scope, name) in [(Scope::Key, "web"), (Scope::Tenant, "acme"), (Scope::Provider, "studio")] {
        let since = |since_ms| BudgetLimit {
            scope,
            name: name.into(),
            allowance: Allowance::Usd(cents(1)),
            since_ms,
            hard: true,
        };
        let used = store.budget_use(vec![since(NOW), since(NOW - 3_600_000)]).await.unwrap();
        assert_eq!(
            used.iter().map(|used| (used.usd, used.pictures)).collect::<Vec<_>>(),
            [(cents(19), 4), (cents(22), 5)]
        );
    }

    // What the processes of that version left open is ended, and what is in suspense can be resolved.
    assert_eq!(store.recover(NOW).await.unwrap(), (1, 1));
    let open = store.suspense(None).await.unwrap();
    let ids: Vec<_> = open.iter().map(|open| (open.id, open.subject.request, open.expected)).collect();
    let expected = |number| (AttemptId(number), RequestId(number + 100), Price::Known(cents(5)));
    assert_eq!(ids, [expected(13), expected(14)]);
    assert!(store.resolve(AttemptId(13), cents(5), NOW).await.unwrap());
    assert!(store.resolve(AttemptId(14), cents(0), NOW).await.unwrap());
    let totals = store.ledger(LedgerQuery::default()).await.unwrap().totals;
    assert_eq!((totals.reserved_usd, totals.spent_usd, totals.suspense_usd), (cents(0), cents(12), cents(0)));

    // It goes on from there.
    let mut attempt = call("kite");
    attempt.seen = Some(found.last);
    let term = begin(&store, &attempt).await;
    let told = drawn(&store, &attempt, term, "a kite").await;
    assert_eq!(finish(&store, &told).await, Finished::Yes);
    let pool = store.lookup(key("kite"), NOW, None).await.unwrap().pictures;
    assert_eq!(pool.iter().map(|picture| picture.name).collect::<std::collections::BTreeSet<_>>().len(), 1);
    assert_eq!(pool.len(), 3);
    assert_eq!(store.misspent().await.unwrap(), 0);
    // Also to the end.
    assert_eq!(store.purge(PurgeFilter::default(), NOW).await.unwrap(), 4);
    assert_eq!(store.blobs.get(&pool[0].name).await.unwrap(), BlobRead::Missing);
    drop(store);
    let store = database.open();
    let attempt = call("after");
    let term = begin(&store, &attempt).await;
    assert_eq!(finish(&store, &end(&attempt, term, AttemptState::Failed, Settlement::Release)).await, Finished::Yes);
}

async fn a_newer_schema_is_refused(database: Database) {
    drop(database.open());
    match &database.postgres {
        Some(_) => database.sql("INSERT INTO mimeo_schema (version) VALUES (99)"),
        None => database.sql("PRAGMA user_version = 99"),
    };
    let url = database.postgres.as_ref().map(|postgres| postgres.url());
    let refused = database.try_open(60, url).expect_err("it is newer");
    assert!(matches!(refused, StoreError::Newer { found: 99, .. }), "{refused:?}");
    assert!(refused.to_string().contains("was written by a newer Mimeo"), "{refused}");
}

async fn a_schema_that_is_up_to_date_is_left_alone(database: Database) {
    let store = database.open();
    let attempt = call("kite");
    let term = begin(&store, &attempt).await;
    let told = drawn(&store, &attempt, term, "a kite").await;
    finish(&store, &told).await;
    drop(store);
    for _ in 0..2 {
        let store = database.open();
        assert_eq!(store.lookup(key("kite"), NOW, None).await.unwrap().pictures.len(), 1);
        assert_eq!(super::balances(&store).await, [0, 3, 0]);
    }
}

async fn many_open_a_new_database_at_once(database: Database) {
    std::thread::scope(|scope| {
        let opening: Vec<_> = (0..6).map(|_| scope.spawn(|| database.open())).collect();
        opening.into_iter().for_each(|opening| drop(opening.join().expect("it opens")));
    });
    let store = database.open();
    begin(&store, &call("kite")).await;
}
