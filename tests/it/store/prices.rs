//! The history of prices, the sums beside it, and what the operator is told.

use mimeo::store::{NewAlert, PriceChange, Settled};

use super::{Database, NOW, cents, eventually, on_both};

on_both!(
    the_history_of_prices_is_never_changed,
    what_is_said_twice_is_written_once,
    settled_calls_add_up_by_day,
    what_cannot_be_noted_takes_nothing_of_others_with_it,
    an_alert_is_told_once_in_a_while,
    an_alert_is_sent_by_one_and_given_up_after_a_few_tries,
);

fn change(source: &str, new: &str, at_ms: i64) -> PriceChange {
    PriceChange {
        at_ms,
        effective_ms: at_ms,
        provider: "studio".into(),
        model: "brush-1".into(),
        quality: String::new(),
        old: "\"listed\"".into(),
        new: new.into(),
        source: source.into(),
        certainty: "reported".into(),
    }
}

async fn the_history_of_prices_is_never_changed(database: Database) {
    let store = database.open();
    let seq = store.change_price(change("bills", "1", NOW)).await.unwrap().expect("it is news");
    for statement in ["UPDATE price_changes SET new = '2'", "DELETE FROM price_changes"] {
        let refused = database.ask(statement).expect_err(statement);
        assert!(refused.contains("the history of prices is append-only"), "{refused}");
    }
    let all = store.price_changes(0).await.unwrap();
    assert_eq!((all.len(), all[0].0, all[0].1.new.as_str()), (1, seq, "1"));
    assert_eq!(store.price_changes(seq).await.unwrap(), []);
}

async fn what_is_said_twice_is_written_once(database: Database) {
    let (one, other) = (database.open(), database.open());
    assert!(one.change_price(change("bills", "1", NOW)).await.unwrap().is_some());
    // Another process notices the same a moment later.
    assert_eq!(other.change_price(change("bills", "1", NOW + 1)).await.unwrap(), None);
    // It is something else from somebody else, of something else, and when it comes back.
    assert!(other.change_price(change("a feed", "1", NOW + 1)).await.unwrap().is_some());
    let fine = PriceChange { quality: "fine".into(), ..change("bills", "1", NOW + 1) };
    assert!(other.change_price(fine).await.unwrap().is_some());
    assert!(one.change_price(change("bills", "2", NOW + 2)).await.unwrap().is_some());
    assert!(other.change_price(change("bills", "1", NOW + 3)).await.unwrap().is_some());
    // Many at once are one.
    let many = (0..8).map(|n| one.change_price(change("bills", "3", NOW + 10 + n)));
    let written = futures_util::future::join_all(many).await;
    assert_eq!(written.into_iter().filter(|seq| matches!(seq, Ok(Some(_)))).count(), 1);
    let seqs: Vec<i64> = one.price_changes(0).await.unwrap().iter().map(|(seq, _)| *seq).collect();
    assert!(seqs.is_sorted() && seqs.len() == 6, "{seqs:?}");
}

async fn settled_calls_add_up_by_day(database: Database) {
    let store = database.open();
    let call = |day, quality: &str, billed| Settled {
        day,
        provider: "studio".into(),
        model: "brush-1".into(),
        quality: quality.into(),
        calls: 1,
        bound: cents(5),
        estimate: cents(4),
        billed: cents(billed),
        missed: cents((4 - billed).abs()),
    };
    for call in [call(7, "", 3), call(7, "", 6), call(7, "fine", 4), call(8, "", 4), call(6, "", 4)] {
        store.note_settled(call).unwrap();
    }
    let days = eventually(async || Some(store.settled_since(7).await.unwrap()).filter(|days| days.len() == 3)).await;
    let both = Settled { calls: 2, bound: cents(10), estimate: cents(8), missed: cents(3), ..call(7, "", 9) };
    assert_eq!(days, [both, call(7, "fine", 4), call(8, "", 4)]);
}

fn alert(kind: &'static str, subject: &str, at_ms: i64) -> NewAlert {
    NewAlert { at_ms, kind, subject: subject.into(), message: "look".into(), is_event: false, is_to_be_sent: true }
}

async fn an_alert_is_told_once_in_a_while(database: Database) {
    let (one, other) = (database.open(), database.open());
    let day = 86_400_000;
    assert!(one.alert(alert("price_drift", "a", NOW), Some(NOW - day)).await.unwrap());
    assert!(!other.alert(alert("price_drift", "a", NOW + 9), Some(NOW + 9 - day)).await.unwrap());
    assert!(other.alert(alert("price_drift", "b", NOW + 9), Some(NOW + 9 - day)).await.unwrap());
    assert!(other.alert(alert("feed_failed", "a", NOW + 9), Some(NOW + 9 - day)).await.unwrap());
    assert!(other.alert(alert("price_drift", "a", NOW + day), Some(NOW)).await.unwrap());
    // What is told once is not told after a restart, and not ten years later.
    assert!(one.alert(alert("model_retiring", "a", NOW), None).await.unwrap());
    drop(one);
    assert!(!database.open().alert(alert("model_retiring", "a", NOW + 3650 * day), None).await.unwrap());
    assert_eq!(other.alerts(2).await.unwrap().len(), 2);
    assert_eq!(database.count("alerts"), 5);
    // Of events every message is told, and each once.
    let event =
        |message: &str| NewAlert { is_event: true, message: message.into(), ..alert("price_changed", "a", NOW) };
    for (message, is_news) in [("up", true), ("down", true), ("up", false)] {
        assert_eq!(other.alert(event(message), Some(NOW - day)).await.unwrap(), is_news, "{message}");
    }
}

async fn an_alert_is_sent_by_one_and_given_up_after_a_few_tries(database: Database) {
    let (one, other) = (database.open(), database.open());
    let silent = NewAlert { is_to_be_sent: false, ..alert("price_drift", "nobody listens", NOW) };
    assert!(one.alert(silent, None).await.unwrap());
    assert_eq!(one.take_alert(NOW + 1, 1000, 3).await.unwrap(), None);
    assert!(one.alert(alert("price_drift", "a", NOW), None).await.unwrap());
    let taken = one.take_alert(NOW, 1000, 3).await.unwrap().expect("it is due");
    assert_eq!((taken.tries, taken.next_ms), (1, Some(NOW + 1000)));
    // Nobody else sends it meanwhile.
    assert_eq!(other.take_alert(NOW + 999, 1000, 3).await.unwrap(), None);
    let again = other.take_alert(NOW + 1000, 1000, 3).await.unwrap().expect("it is due again");
    assert_eq!((again.seq, again.tries, again.next_ms), (taken.seq, 2, Some(NOW + 3000)));
    let last = one.take_alert(NOW + 3000, 1000, 3).await.unwrap().expect("it is due once more");
    assert_eq!((last.tries, last.next_ms), (3, None));
    assert_eq!(one.take_alert(NOW + 1_000_000, 1000, 3).await.unwrap(), None);
    // What was taken by the webhook is not sent again.
    assert!(one.alert(alert("price_drift", "b", NOW), None).await.unwrap());
    let taken = one.take_alert(NOW, 1000, 3).await.unwrap().expect("it is due");
    one.told(taken.seq, NOW + 5).await.unwrap();
    assert_eq!(other.take_alert(NOW + 1_000_000, 1000, 3).await.unwrap(), None);
    assert_eq!(other.alerts(1).await.unwrap()[0].told_ms, Some(NOW + 5));
}

/// Notes of one moment share a commit, and nothing else.
async fn what_cannot_be_noted_takes_nothing_of_others_with_it(database: Database) {
    let store = database.open();
    let call = |day, billed| Settled {
        day,
        provider: "studio".into(),
        model: "brush-1".into(),
        quality: String::new(),
        calls: 1,
        bound: cents(5),
        estimate: cents(4),
        billed,
        missed: cents(0),
    };
    for day in 0..20 {
        // Beyond what a row holds.
        store.note_settled(call(100, cents(1_000_000_000))).unwrap();
        store.note_settled(call(day, cents(4))).unwrap();
    }
    let all = async || Some(store.settled_since(0).await.unwrap()).filter(|days| days.len() == 20);
    assert!(eventually(all).await.iter().all(|day| day.billed == cents(4)));
}
