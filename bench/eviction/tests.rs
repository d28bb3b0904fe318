//! The simulator: nobody keeps more than fits, nobody finds what never came, nobody beats the bounds.

use proptest::prelude::*;

use mimeo::cache::worth::Learned;

use crate::run::{RIVALS, Tally, compare, run};
use crate::sampled::Sampled;
use crate::traces::{Coupling, Item, Kind, Trace, recipes, trace};
use crate::{bound, traces};

fn small_traces() -> impl Strategy<Value = Trace> {
    let items = prop::collection::vec((1i64..1000, 1u64..1000), 1..40);
    (items, prop::collection::vec((any::<prop::sample::Index>(), 0i64..100_000), 1..400)).prop_map(|(items, asked)| {
        let items: Vec<_> = items.into_iter().map(|(price, bytes)| Item { price, bytes }).collect();
        let mut now = 0;
        let requests = asked.into_iter().map(|(which, after)| {
            now += after;
            (which.index(items.len()) as u32, now)
        });
        let requests = requests.collect();
        Trace { name: "random".to_owned(), items, requests }
    })
}

proptest! {
    #[test]
    fn no_policy_keeps_more_than_fits_or_beats_the_bounds(trace in small_traces(), capacity in 0u64..20_000) {
        let endless = bound::endless(&trace);
        let bound = bound::offline(&trace, capacity);
        prop_assert!(bound <= endless);
        let keys = trace.items.len();
        let ours = Sampled::new(Learned::default(), capacity, keys);
        let all = RIVALS.iter().map(|(name, make)| (*name, make(capacity, keys)));
        for (name, mut policy) in all.chain([("Mimeo", Box::new(ours) as _)]) {
            let tally = run(&trace, capacity, &mut *policy).map_err(TestCaseError::fail)?;
            prop_assert!(tally.saved <= bound, "{name} saved {} of {bound}", tally.saved);
        }
    }

    #[test]
    fn with_room_for_everything_everything_is_found(trace in small_traces()) {
        let repeated = trace.requests.len() - trace.requests.iter().map(|(key, _)| key).collect::<std::collections::HashSet<_>>().len();
        // Large enough for a tenth and a hundredth of it, too: some have queues of that size.
        let capacity = 1000 * trace.footprint();
        let keys = trace.items.len();
        let ours = Sampled::new(Learned::default(), capacity, keys);
        let all = RIVALS.iter().map(|(name, make)| (*name, make(capacity, keys)));
        for (name, mut policy) in all.chain([("Mimeo", Box::new(ours) as _)]) {
            let Tally { saved, hits, .. } = run(&trace, capacity, &mut *policy).map_err(TestCaseError::fail)?;
            prop_assert_eq!(hits as usize, repeated, "{}", name);
            prop_assert_eq!(saved, bound::endless(&trace), "{}", name);
        }
    }
}

#[test]
fn a_recipe_and_a_seed_are_one_trace() {
    for (kind, coupling) in recipes() {
        let make = |seed| trace(kind, coupling, 2000, seed);
        let (one, same, other) = (make(5), make(5), make(6));
        assert_eq!(one.requests, same.requests, "{}", one.name);
        assert_ne!(one.requests, other.requests, "{}", one.name);
        assert_eq!(one.requests.len(), 2000, "{}", one.name);
        assert!(one.requests.is_sorted_by_key(|(_, at)| *at));
        assert!(one.items.iter().all(|item| item.price >= 1_900_000_000 && item.bytes >= 20_000 - 1));
    }
}

#[test]
fn two_that_do_not_fit_together_are_bounded_by_one() {
    let item = |price| Item { price, bytes: 100 };
    let requests = (0..100).map(|n| (n % 2, i64::from(n))).collect();
    let trace = Trace { name: "in turns".to_owned(), items: vec![item(10), item(1)], requests };
    // Room for one of them, always: 49 hits of the dear one, and one in excess for the last that counts whole.
    assert!((490..=500).contains(&bound::offline(&trace, 100)));
    assert_eq!(bound::endless(&trace), 49 * 11);
}

/// A tenth of the bench's length, where the lead is large.
#[test]
fn scans_do_not_push_out_what_is_asked_for() {
    let trace = traces::trace(Kind::Scans, Coupling::Alike, 40_000, 1);
    let outcome = compare(&trace, 5, 100_000).unwrap();
    let lru = outcome.tallies[0].saved;
    assert!(outcome.ours().saved as f64 > 1.1 * lru as f64, "{outcome:?}");
}
