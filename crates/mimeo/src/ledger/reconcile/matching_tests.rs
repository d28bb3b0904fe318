use proptest::prelude::*;

use super::*;

const MINUTE: Millis = 60_000;
const RULES: Rules = Rules { window_ms: 5 * MINUTE, one_provider: true, absent_means_unbilled: true };

fn usd(cents: i128) -> Usd {
    Usd::from_pico(cents * 10_000_000_000)
}

fn attempt(name: u128, minute: Millis, standing: Standing) -> Known {
    let (id, model, expected) = (AttemptId(name), "m".to_owned(), Price::Known(usd(100)));
    Known { id, model, at_ms: minute * MINUTE, expected, standing }
}

fn row(name: Option<u128>, minute: Millis, cents: i128) -> Row {
    let (attempt, model) = (name.map(AttemptId), Some("m".to_owned()));
    Row { number: 0, attempt, at_ms: Some(minute * MINUTE), model, usd: Some(usd(cents)) }
}

/// An hour before and after everything, so that the export covers what is between.
fn covering(rows: impl IntoIterator<Item = Row>) -> Vec<Row> {
    [row(Some(900), -60, 1), row(Some(901), 600, 1)].into_iter().chain(rows).collect()
}

/// What is decided of the one attempt in suspense.
fn decided(rows: &[Row], attempts: &[Known], rules: Rules) -> (Option<Usd>, String) {
    let (decisions, _) = decide(rows, attempts, rules);
    assert_eq!(decisions.len(), 1);
    (decisions[0].billed, decisions[0].why.clone())
}

#[test]
fn a_name_settles_whatever_else_fits() {
    let open = [attempt(1, 10, Standing::Suspense), attempt(2, 10, Standing::Billed(usd(4)))];
    for (rows, billed) in [
        (vec![row(Some(1), 10, 3), row(None, 10, 4), row(None, 10, 5)], Some(usd(3))),
        // A day late, and more than it was said to cost at most: it is the bill.
        (vec![row(Some(1), 1450, 300)], Some(usd(300))),
        (vec![row(Some(1), 10, 0)], Some(Usd::ZERO)),
        (vec![row(Some(1), 10, -3)], None),
        (vec![row(Some(1), 10, 3), row(Some(1), 10, 3)], None),
        (vec![Row { usd: None, ..row(Some(1), 10, 3) }], None),
    ] {
        let only_names = Rules { one_provider: false, ..RULES };
        assert_eq!(decided(&rows, &open, only_names).0, billed, "{rows:?}");
    }
}

#[test]
fn model_and_time_settle_only_what_cannot_be_otherwise() {
    let open = attempt(1, 10, Standing::Suspense);
    let alone = std::slice::from_ref(&open);
    let of = |model: Option<&str>| Row { model: model.map(str::to_owned), ..row(None, 10, 4) };
    assert_eq!(decided(&[row(None, 15, 4)], alone, RULES).0, Some(usd(4)), "the window's last moment");
    for (rows, says) in [
        (vec![row(None, 16, 4)], "does not cover"),
        (vec![row(None, 10, 4), row(None, 11, 4)], "2 rows may be it"),
        (vec![of(None)], "does not name its model"),
        (vec![of(Some("m-2026-01-01"))], "does not name its model"),
        (vec![of(Some("other"))], "does not cover"),
        (vec![Row { at_ms: None, ..row(None, 10, 4) }], "has no time"),
        (vec![row(None, 10, 101)], "more than it can cost"),
        (vec![row(None, 10, -1)], "credit note"),
        (vec![Row { usd: None, ..row(None, 10, 4) }], "does not say what was billed"),
        (vec![row(Some(77), 10, 4)], "does not cover"),
        (vec![], "does not cover"),
    ] {
        let (billed, why) = decided(&rows, alone, RULES);
        assert!(billed.is_none() && why.contains(says), "{rows:?}: {why}");
    }
    let only_names = Rules { one_provider: false, ..RULES };
    assert!(decided(&[row(None, 10, 4)], alone, only_names).1.contains("--provider"));
    // Another attempt that may be billed yet makes the row ambiguous; one that was not billed does not.
    for (standing, billed) in [(Standing::UnderWay, None), (Standing::Unbilled, Some(usd(4)))] {
        assert_eq!(decided(&[row(None, 10, 4)], &[open.clone(), attempt(2, 12, standing)], RULES).0, billed);
    }
    let (decisions, _) = decide(&[row(None, 10, 4)], &[open, attempt(2, 12, Standing::Suspense)], RULES);
    assert!(decisions.iter().all(|decision| decision.billed.is_none()));
    assert_eq!(decisions[0].rivals, [AttemptId(2)]);
}

/// A model that the ledger knows is never taken for another one whose name holds it.
#[test]
fn models_that_are_known_are_told_apart() {
    let open =
        [attempt(1, 10, Standing::Suspense), Known { model: "m-mini".into(), ..attempt(2, 10, Standing::Suspense) }];
    let mini = Row { model: Some("m-mini".into()), ..row(None, 10, 1) };
    let (decisions, _) = decide(&[mini, row(None, 10, 4)], &open, RULES);
    assert_eq!(decisions.iter().map(|decision| decision.billed).collect::<Vec<_>>(), [Some(usd(4)), Some(usd(1))]);
}

#[test]
fn what_is_settled_takes_its_rows_first() {
    let (open, paid) = (attempt(1, 10, Standing::Suspense), attempt(2, 7, Standing::Billed(usd(4))));
    let attempts = [open.clone(), paid.clone()];
    assert_eq!(decided(&covering([row(None, 4, 4), row(None, 13, 9)]), &attempts, RULES).0, Some(usd(9)));
    assert_eq!(decided(&covering([row(None, 4, 4), row(None, 12, 9)]), &attempts, RULES).0, None, "12 may be either's");
    assert_eq!(decided(&covering([row(None, 8, 4)]), &attempts, RULES).0, Some(Usd::ZERO));
    assert_eq!(decided(&covering([row(Some(2), 8, 4), row(None, 9, 5)]), &attempts, RULES).0, Some(usd(5)));
    // Where the export may have cut off the row of the paid one, the one that is left is nobody's.
    assert_eq!(decided(&[row(None, 8, 4)], &attempts, RULES).0, None);
}

#[test]
fn absence_counts_only_where_the_export_was_looking() {
    let at = |minute: Millis| [attempt(1, minute, Standing::Suspense)];
    let rows = covering([]);
    for (minute, billed) in [(-56, None), (-55, Some(Usd::ZERO)), (595, Some(Usd::ZERO)), (596, None)] {
        assert_eq!(decided(&rows, &at(minute), RULES).0, billed, "{minute}");
    }
    for rules in [Rules { absent_means_unbilled: false, ..RULES }, Rules { one_provider: false, ..RULES }] {
        assert_eq!(decided(&rows, &at(10), rules).0, None);
    }
    let timeless = Row { at_ms: None, ..row(None, 0, 4) };
    assert_eq!(decided(&covering([timeless]), &at(10), RULES).0, None, "it may be this one");
}

#[test]
fn settled_attempts_are_compared_with_the_rows_that_name_them() {
    let attempts = [
        attempt(1, 10, Standing::Billed(usd(4))),
        attempt(2, 10, Standing::Billed(usd(5))),
        attempt(3, 10, Standing::Unbilled),
        attempt(4, 10, Standing::Billed(usd(7))),
    ];
    let rows = [row(Some(1), 10, 4), row(Some(2), 10, 2), row(Some(2), 10, 4), row(Some(3), 10, 1), row(None, 10, 7)];
    let (_, comparison) = decide(&rows, &attempts, RULES);
    assert_eq!((comparison.attempts, comparison.export_usd, comparison.ledger_usd), (3, usd(11), usd(9)));
    let differing: Vec<_> = comparison.differing.iter().map(|d| (d.attempt.0, d.export_usd, d.ledger_usd)).collect();
    assert_eq!(differing, [(2, usd(6), usd(5)), (3, usd(1), Usd::ZERO)]);
}

/// A world in which it is known what was billed, and what the export and the ledger show of it.
#[derive(Clone, Debug)]
struct Truth {
    attempts: Vec<Known>,
    /// What each attempt was billed.
    bills: Vec<Option<Usd>>,
    rows: Vec<Row>,
}

/// Attempts of two models at one provider within two hours, billed or not, settled or not; an export in which some
/// rows carry names, of which both ends are cut off.
fn truth() -> impl Strategy<Value = Truth> {
    let one = (0..120i64, any::<bool>(), 0..4u8, -5..=5i64, 0..4u8, 1..100i128);
    (proptest::collection::vec(one, 0..14), 0..40i64, 80..120i64).prop_map(|(calls, begin, end)| {
        let mut truth = Truth { attempts: Vec::new(), bills: Vec::new(), rows: Vec::new() };
        for (index, (minute, is_other, kind, late, named, cents)) in calls.into_iter().enumerate() {
            let name = index as u128 + 1;
            let (standing, bill) = match kind {
                0 => (Standing::Suspense, None),
                1 => (Standing::Suspense, Some(usd(cents))),
                2 => (Standing::Billed(usd(cents)), Some(usd(cents))),
                _ => (Standing::Unbilled, None),
            };
            let model = if is_other { "m-mini" } else { "m" };
            truth.attempts.push(Known { model: model.to_owned(), ..attempt(name, minute, standing) });
            truth.bills.push(bill);
            if let Some(bill) = bill
                && (begin..=end).contains(&(minute + late))
            {
                let row = row((named == 0).then_some(name), minute + late, 0);
                truth.rows.push(Row { model: Some(model.to_owned()), usd: Some(bill), ..row });
            }
        }
        truth
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    /// Whatever is decided is what happened.
    #[test]
    fn what_is_decided_is_true(truth in truth()) {
        let (decisions, _) = decide(&truth.rows, &truth.attempts, RULES);
        for decision in decisions {
            let index = truth.attempts.iter().position(|known| known.id == decision.id).unwrap();
            if let Some(billed) = decision.billed {
                prop_assert_eq!(billed, truth.bills[index].unwrap_or(Usd::ZERO), "{:?}", decision);
            }
        }
    }

    /// Every attempt in suspense is decided once, and no row settles two of them.
    #[test]
    fn nothing_is_used_twice(truth in truth(), strangers in proptest::collection::vec((0..120i64, 1..100i128), 0..4)) {
        let strangers = strangers.into_iter().map(|(minute, cents)| row(None, minute, cents));
        let rows: Vec<Row> = truth.rows.into_iter().chain(strangers).collect();
        let (decisions, _) = decide(&rows, &truth.attempts, RULES);
        let names: BTreeSet<AttemptId> = decisions.iter().map(|decision| decision.id).collect();
        let open = truth.attempts.iter().filter(|known| known.standing == Standing::Suspense).count();
        prop_assert_eq!((names.len(), decisions.len()), (open, open));
        let settling = decisions.iter().filter(|decision| decision.billed.is_some()).flat_map(|d| &d.rows);
        let mut used = BTreeSet::new();
        for place in settling {
            prop_assert!(used.insert(place), "row {} is used twice", place);
        }
    }

    /// The order of rows and attempts changes nothing.
    #[test]
    fn order_does_not_matter(
        (truth, rows, attempts) in truth().prop_flat_map(|truth| {
            let (rows, attempts) = (truth.rows.clone(), truth.attempts.clone());
            (Just(truth), Just(rows).prop_shuffle(), Just(attempts).prop_shuffle())
        }),
    ) {
        let outcome = |rows: &[Row], attempts: &[Known]| {
            let (decisions, comparison) = decide(rows, attempts, RULES);
            let decided: BTreeMap<_, _> = decisions
                .into_iter()
                .map(|decision| {
                    let mut fitting: Vec<_> = decision.rows.iter().map(|place| (rows[*place].at_ms, rows[*place].usd)).collect();
                    fitting.sort_unstable();
                    let rivals: BTreeSet<_> = decision.rivals.into_iter().collect();
                    (decision.id, (decision.billed, decision.why, fitting, rivals))
                })
                .collect();
            (decided, comparison.attempts, comparison.export_usd, comparison.ledger_usd)
        };
        prop_assert_eq!(outcome(&rows, &attempts), outcome(&truth.rows, &truth.attempts));
    }

    /// Settling what is decided and deciding again leaves what was open, open: a second run finds nothing new
    /// that the first could not have known, and undoes nothing.
    #[test]
    fn a_second_run_is_sound_too(truth in truth()) {
        let mut attempts = truth.attempts.clone();
        let (decisions, _) = decide(&truth.rows, &attempts, RULES);
        for decision in decisions {
            let Some(billed) = decision.billed else { continue };
            let known = attempts.iter_mut().find(|known| known.id == decision.id).unwrap();
            known.standing = if billed.is_zero() { Standing::Unbilled } else { Standing::Billed(billed) };
        }
        for decision in decide(&truth.rows, &attempts, RULES).0 {
            let index = attempts.iter().position(|known| known.id == decision.id).unwrap();
            if let Some(billed) = decision.billed {
                prop_assert_eq!(billed, truth.bills[index].unwrap_or(Usd::ZERO));
            }
        }
    }
}
