//! What goes when more is kept than may be.

use mimeo::cache::Retention;
use mimeo::domain::Price;

use super::{Database, NOW, cents, entry, key, on_both, picture};

on_both!(a_burst_of_cheap_pictures_does_not_drive_out_the_dear);

/// The cheap ones are too young to go yet: they are waited for.
async fn a_burst_of_cheap_pictures_does_not_drive_out_the_dear(database: Database) {
    const SECOND: i64 = 1000;
    let store = database.open();
    let put = async |name: String, cost: i128, at: i64| {
        let mut made = picture(&store, &name, None).await;
        (made.row.cost, made.row.created_ms) = (Price::Known(cents(cost)), at);
        made.bytes = 1000;
        store.put_free(vec![made], Some(entry(key(&name))), at).await.unwrap();
    };
    for number in 0..5 {
        put(format!("dear {number}"), 400, NOW).await;
    }
    for number in 0..15 {
        put(format!("cheap {number}"), 1, NOW + 11 * SECOND).await;
    }
    let kept = async || {
        let listed = store.entries(None, 100).await.unwrap();
        let dear = listed.iter().filter(|entry| entry.cost_usd == cents(400)).count();
        (dear, listed.len() - dear)
    };
    let retention = Retention::begin(&store, 12_000, NOW).await.unwrap();
    assert_eq!(retention.keep_within_bound(&store, NOW + 12 * SECOND).await.unwrap(), 0);
    assert_eq!(kept().await, (5, 15));
    assert_eq!(retention.keep_within_bound(&store, NOW + 22 * SECOND).await.unwrap(), 8);
    assert_eq!(kept().await, (5, 7));
}
