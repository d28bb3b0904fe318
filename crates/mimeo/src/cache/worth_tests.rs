//! What must hold whatever was learned, and that the right things are learned.

use proptest::prelude::*;

use super::*;

const MINUTE: Millis = 60_000;
const HOUR: Millis = 60 * MINUTE;

fn life(price_pico: i64, bytes: u64, asked: u32, pace: f32, used_ms: Millis) -> Life {
    Life { price_pico: Some(price_pico), bytes, past: Past { asked, pace, used_ms } }
}

/// A small store in which `requests` for keys come after so many milliseconds each; all that is asked for is kept.
fn taught(learned: &mut Learned, requests: impl IntoIterator<Item = (u64, Millis)>) -> HashMap<u64, Life> {
    let mut kept = HashMap::new();
    let mut now = 1_750_000_000_000;
    for (key, after) in requests {
        now += after;
        match kept.get_mut(&key) {
            Some(life) => learned.on_hit(key, life, now),
            None => {
                kept.insert(key, learned.on_insert(key, Some(40_000_000_000), 1_000_000, now));
            }
        }
    }
    learned.update(now);
    kept
}

fn requests() -> impl Strategy<Value = Vec<(u64, Millis)>> {
    prop::collection::vec((prop_oneof![0u64..5, 0u64..40, 0u64..100_000], 0..20 * MINUTE), 0..1500)
}

fn not_below(high: f64, low: f64) -> bool {
    // Rounding may turn two equal rates into two that differ in the last digits.
    high >= low * (1.0 - 1e-9)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn dearer_smaller_later_and_oftener_is_not_worth_less(
        requests in requests(),
        price in OWN_WORK_PICO..1_000_000_000_000,
        bytes in 1u64..100_000_000,
        asked in 1u32..2000,
        more in 1u32..2000,
        pace in 0f32..40.0,
        age in 0..1000 * HOUR,
        older in 1..1000 * HOUR,
    ) {
        let mut learned = Learned::with_room_for(1000);
        taught(&mut learned, requests);
        let now = 2_000_000_000_000;
        let worth = |life: Life| learned.worth(&life, now);
        let it = worth(life(price, bytes, asked, pace, now - age));
        prop_assert!(worth(life(price + 1, bytes, asked, pace, now - age)) >= it);
        prop_assert!(worth(life(2 * price, bytes, asked, pace, now - age)) > it, "twice the price");
        prop_assert!(worth(life(price, bytes + 1, asked, pace, now - age)) <= it);
        prop_assert!(worth(life(price, 2 * bytes, asked, pace, now - age)) < it, "twice the size");
        prop_assert!(not_below(it, worth(life(price, bytes, asked, pace, now - age - older))), "used later");
        // One that was asked for once has no pace yet and cannot be compared.
        let oftener = |asked: u32| worth(life(price, bytes, asked + 1, pace, now - age));
        prop_assert!(not_below(oftener(asked + more), oftener(asked)), "asked for more often");
    }

    #[test]
    fn worth_is_a_number_at_all_extremes(
        requests in requests(),
        price in prop_oneof![Just(None), any::<i64>().prop_map(Some), Just(Some(i64::MAX)), Just(Some(i64::MIN))],
        bytes in prop_oneof![any::<u64>(), Just(0), Just(u64::MAX)],
        asked in prop_oneof![any::<u32>(), Just(0), Just(u32::MAX)],
        pace in prop_oneof![any::<f32>(), Just(f32::NAN), Just(f32::INFINITY), Just(f32::NEG_INFINITY)],
        used in prop_oneof![any::<i64>(), Just(i64::MIN), Just(i64::MAX)],
        now in prop_oneof![any::<i64>(), Just(i64::MIN), Just(i64::MAX)],
    ) {
        let mut learned = Learned::with_room_for(100);
        let check = |learned: &Learned, life: &Life| {
            let worth = learned.worth(life, now);
            prop_assert!(worth.is_finite() && worth > 0.0, "{worth} for {life:?}");
            Ok(())
        };
        let mut life = Life { price_pico: price, bytes, past: Past { asked, pace, used_ms: used } };
        check(&learned, &life)?;
        learned.recall(1, &life, now);
        learned.on_hit(1, &mut life, now);
        learned.on_hit(2, &mut life, used);
        taught(&mut learned, requests);
        learned.on_insert(3, price, bytes, now);
        learned.update(now);
        learned.update(used);
        check(&learned, &life)?;
        check(&learned, &Life { price_pico: price, bytes, past: Past { asked, pace, used_ms: used } })?;
    }

    #[test]
    fn the_memory_of_names_is_bounded(requests in requests(), names in 0usize..50) {
        let mut learned = Learned::with_room_for(names);
        let mut now = 0;
        for (key, after) in requests {
            now += after;
            learned.on_insert(key, None, 1, now);
            prop_assert!(learned.names.len() <= names.max(1));
        }
    }

    #[test]
    fn what_is_stored_and_read_says_the_same(requests in requests(), age in 0..100 * HOUR) {
        let mut learned = Learned::default();
        let kept = taught(&mut learned, requests);
        // What was seen has faded a little since rates were made of it; make them anew.
        learned.learn();
        let text = serde_json::to_string(&learned).unwrap();
        let read: Learned = serde_json::from_str(&text).unwrap();
        for life in kept.values() {
            let now = life.past.used_ms + age;
            let [before, after] = [learned.worth(life, now), read.worth(life, now)];
            prop_assert!((before - after).abs() <= 1e-3 * before, "{before} {after}");
        }
    }
}

/// Ten favourites, each asked for every ten minutes, between pictures that nobody asks for again.
fn favourites_and_one_offs() -> impl Iterator<Item = (u64, Millis)> {
    (0..6000u64).map(|n| (if n % 2 == 0 { n / 2 % 10 } else { 1000 + n }, MINUTE / 2))
}

#[test]
fn what_nobody_repeats_is_worth_little() {
    let mut learned = Learned::default();
    let kept = taught(&mut learned, favourites_and_one_offs());
    let now = kept.values().map(|life| life.past.used_ms).max().unwrap();
    let fresh = learned.on_insert(77_777, Some(40_000_000_000), 1_000_000, now);
    let favourite = learned.worth(&kept[&3], now);
    assert!(favourite > 100.0 * learned.worth(&fresh, now), "a favourite and one that has only come");
    // 4 cents, 1 MB, every ten minutes, and a little doubt.
    let expected = 40_000_000_000.0 / 1e6 / (10 * MINUTE) as f64;
    assert!((0.5..1.2).contains(&(favourite / expected)), "{favourite} where {expected} is the truth");
}

#[test]
fn a_crowd_that_left_is_worth_less_than_a_steady_picture() {
    // Crowds of thirty requests within five minutes, then never again; and 200 pictures asked for every few hours.
    let crowd = |n: u64| if n.is_multiple_of(2) { 10_000 + n / 60 } else { n / 2 * 7 % 200 };
    let mut learned = Learned::default();
    let kept = taught(&mut learned, (0..24_000).map(|n| (crowd(n), MINUTE / 6)));
    let now = kept.values().map(|life| life.past.used_ms).max().unwrap();
    let (crowd, steady) = (life(1 << 36, 1 << 20, 30, 14.0, 0), life(1 << 36, 1 << 20, 30, 21.0, 0));
    let at = |life: &Life, age| learned.worth(&Life { past: Past { used_ms: now - age, ..life.past }, ..*life }, now);
    assert!(at(&crowd, MINUTE / 6) > at(&steady, MINUTE / 6), "while it is there");
    assert!(at(&crowd, HOUR / 2) < at(&steady, HOUR / 2), "half an hour later");
}

#[test]
fn what_is_made_again_finds_its_past() {
    let mut learned = Learned::default();
    let mut first = learned.on_insert(5, Some(1), 10, 0);
    learned.on_hit(5, &mut first, HOUR);
    // Dropped, which takes no call, and made again.
    let again = learned.on_insert(5, Some(1), 10, 2 * HOUR);
    assert_eq!(again.past.asked, 3);
    assert!((again.past.pace - (HOUR as f32).log2()).abs() < 1e-3);
}

#[test]
fn a_lost_write_is_made_good_by_what_is_remembered() {
    let mut learned = Learned::default();
    let mut life = learned.on_insert(5, Some(1), 10, 0);
    let stale = life;
    learned.on_hit(5, &mut life, HOUR);
    life = stale;
    learned.on_hit(5, &mut life, 2 * HOUR);
    assert_eq!(life.past.asked, 3);
}

#[test]
fn after_a_restart_what_is_kept_goes_on_counting() {
    let mut learned = Learned::default();
    let kept = taught(&mut learned, favourites_and_one_offs());
    let now = kept.values().map(|life| life.past.used_ms).max().unwrap();
    let mut read: Learned = serde_json::from_str(&serde_json::to_string(&learned).unwrap()).unwrap();
    kept.iter().for_each(|(key, life)| read.recall(*key, life, now + HOUR));
    let time = |learned: &Learned| learned.seen.iter().flatten().map(|seen| seen.time).sum::<f64>();
    let before = time(&read);
    read.update(now + 2 * HOUR);
    // An hour for each, and none for the hour in which there was no process.
    let passed = time(&read) / KEEP - before;
    assert!((passed / (kept.len() as f64 * HOUR as f64) - 1.0).abs() < 1e-3, "{passed}");
}

#[test]
fn unknown_counts_as_the_median_and_free_as_own_work() {
    let mut learned = Learned::default();
    let worth = |learned: &Learned, price_pico| {
        learned.worth(&Life { price_pico, bytes: 1, past: Past::first(0) }, 0) / learned.rates[0][0]
    };
    assert_eq!(worth(&learned, None), USUAL_PICO);
    for (key, price) in [5_000_000_000, 20_000_000_000, 250_000_000_000].into_iter().enumerate() {
        learned.on_insert(key as u64, Some(price), 1, 0);
        learned.on_insert(100 + key as u64, Some(0), 1, 0);
        learned.on_insert(200 + key as u64, None, 1, 0);
    }
    let unknown = worth(&learned, None);
    assert!((0.5..2.0).contains(&(unknown / 20e9)), "{unknown}");
    for free in [0, -5, i64::MIN, OWN_WORK_PICO] {
        assert_eq!(worth(&learned, Some(free)), OWN_WORK_PICO as f64);
    }
}

#[test]
fn a_stored_table_of_another_kind_is_not_taken_over() {
    let strange = r#"{"classes":[1,2,3],"seen":[[0,1.0,1.0],[9999999,1.0,1.0]],"prices":[1]}"#;
    let read: Learned = serde_json::from_str(strange).unwrap();
    assert_eq!(read.rates, Learned::default().rates);
    let odd =
        format!(r#"{{"classes":{CLASSES:?},"seen":[[9999999,1.0,1.0],[0,-1.0,5.0]],"prices":{:?}}}"#, vec![0; 64]);
    let read: Learned = serde_json::from_str(&odd).unwrap();
    assert_eq!(read.rates, Learned::default().rates);
}
