use super::*;
use crate::config::{BlobPlace, Storage};
use crate::domain::Usd;

fn change(new: &Change) -> PriceChange {
    PriceChange {
        at_ms: 1,
        effective_ms: 1,
        provider: "studio".into(),
        model: "brush-1".into(),
        quality: String::new(),
        old: String::new(),
        new: new.to_json(),
        source: BILLS.into(),
        certainty: "verified".into(),
    }
}

/// Two may read the history at once. Who read less of it, and is later with that, changes nothing back.
#[tokio::test]
async fn what_was_read_before_does_not_take_the_place_of_what_is_known() {
    let path = std::env::temp_dir().join(format!("mimeo-prices-{:032x}", crate::domain::id::random()));
    let storage = Storage { path: path.clone(), ..Storage::default() };
    let store = Arc::new(Store::open(&storage, None, &BlobPlace::Folder(path.join("blobs")), Clock::System).unwrap());
    let (clock, tasks) = (Clock::System, TaskTracker::new());
    let alerts = Alerts::new(Arc::clone(&store), clock.clone(), tasks.clone(), &config::Alerts::default(), None);
    let book = PriceBook::new(store, clock, alerts, tasks, config::PriceSources::default());
    let ratio = Ratio { billed: Usd::from_pico(3), expected: Usd::from_pico(2) };
    let bills = Change::Bills { ratio, of: "of".into() };
    let mut learned = Learned::default();
    book.take_in(&mut learned, 1, &change(&Change::Listed));
    book.take_in(&mut learned, 2, &change(&bills));
    book.take_in(&mut learned, 1, &change(&Change::Listed));
    let known = learned.of("studio", "brush-1").unwrap();
    assert_eq!(known.qualities[""].correction, Some((ratio, "of".into())));
    assert_eq!(learned.seq, 2);
    std::fs::remove_dir_all(path).unwrap();
}
