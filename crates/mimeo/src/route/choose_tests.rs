use super::*;

fn usd(text: &str) -> Usd {
    text.parse().unwrap()
}

fn seen<'a>(choice: &'a Choice, price: &str, p50: f64, points: f64) -> Seen<'a> {
    Seen {
        choice,
        region: choice.region.as_deref(),
        sight: Sight {
            bound: Price::Known(usd(price)),
            price: Price::Known(usd(price)),
            time: Some(Seconds { p50, p95: 2.0 * p50, evidence: 50.0 }),
            errors: 0.0,
            quality: Quality { mean: points, sd: 3.0, evidence: 50.0 },
            rating: points,
            sample: points,
            is_busy: false,
            idle: Some(Duration::ZERO),
        },
    }
}

const TERMS: Terms<'static> = Terms {
    objective: Objective::Cost,
    floor: None,
    is_floor_soft: false,
    deadline: None,
    slow: None,
    regions: &[],
    regions_only: false,
    max_spend: None,
    minute: 12 * 60,
    dice: 0.5,
};

/// The positions in the order in which they are tried.
fn order(seen: &[Seen<'_>], terms: &Terms<'_>) -> Vec<usize> {
    let chosen = choose(seen, terms);
    let mut ranked: Vec<(usize, usize)> =
        chosen.iter().enumerate().filter_map(|(index, one)| Some((one.rank?, index))).collect();
    ranked.sort_unstable();
    assert!(ranked.iter().enumerate().all(|(place, (rank, _))| place == *rank), "ranks have no gaps");
    ranked.into_iter().map(|(_, index)| index).collect()
}

fn code(seen: &[Seen<'_>], terms: &Terms<'_>, index: usize) -> String {
    choose(seen, terms)[index].reason.clone().map(|reason| reason.code).unwrap_or_default()
}

#[test]
fn each_objective_has_its_own_first() {
    let plain = Choice::default();
    // Dear and good, cheap and poor, fast and middling.
    let all = [seen(&plain, "0.04", 10.0, 90.0), seen(&plain, "0.002", 6.0, 40.0), seen(&plain, "0.01", 1.0, 60.0)];
    let by = |objective| order(&all, &Terms { objective, ..TERMS });
    assert_eq!(by(Objective::Order), [0, 1, 2]);
    assert_eq!(by(Objective::Cost), [1, 2, 0]);
    assert_eq!(by(Objective::Latency), [2, 1, 0]);
    assert_eq!(by(Objective::Quality), [0, 2, 1]);
    let weights = |second: &str, point: &str| {
        Objective::Weights(Weights { usd_per_second: usd(second), usd_per_point: usd(point) })
    };
    assert_eq!(by(weights("0", "0.01")), [0, 2, 1], "fifty points for four cents");
    assert_eq!(by(weights("0.01", "0"))[0], 2, "five seconds for less than a cent");
    assert_eq!(by(weights("0.0001", "0.00001"))[0], 1);
}

#[test]
fn the_floor_drops_what_is_known_to_be_worse() {
    let plain = Choice::default();
    let mut all = vec![seen(&plain, "0.002", 1.0, 40.0), seen(&plain, "0.04", 1.0, 90.0)];
    let terms = Terms { floor: Some((60.0, Some("glass"))), ..TERMS };
    assert_eq!(order(&all, &terms), [1]);
    let text = choose(&all, &terms)[0].reason.clone().unwrap().text;
    assert!(text.contains("glass") && text.contains("40") && text.contains("60"), "{text}");
    // Not nearly sure: it stays.
    all[0].sight.quality = Quality { mean: 58.0, sd: 5.0, evidence: 50.0 };
    assert_eq!(order(&all, &terms), [0, 1]);
    // Nobody has an opinion yet: what was thought beforehand decides.
    all[0].sight.quality = Quality { mean: 58.0, sd: 20.0, evidence: 0.0 };
    assert_eq!(order(&all, &terms), [1]);
    // What is heard of other categories alone does not rule out who was thought to be good enough.
    all[0].sight.rating = 65.0;
    assert_eq!(order(&all, &terms), [0, 1]);
    all[0].sight.rating = 58.0;
    // All are below: nobody, or the best.
    all[1].sight.quality = all[0].sight.quality;
    all[1].sight.quality.mean = 30.0;
    assert!(order(&all, &terms).is_empty());
    assert_eq!(order(&all, &Terms { is_floor_soft: true, ..terms }), [0]);
}

#[test]
fn a_deadline_rules_out_the_slow_unless_all_are() {
    let plain = Choice::default();
    let all = [seen(&plain, "0.002", 4.0, 40.0), seen(&plain, "0.01", 1.0, 40.0), seen(&plain, "0.02", 2.5, 40.0)];
    let terms = Terms { deadline: Some(Duration::from_secs(3)), ..TERMS };
    assert_eq!(order(&all, &terms), [1]);
    assert_eq!(code(&all, &terms, 0), "too_slow");
    assert_eq!(order(&all, &Terms { deadline: Some(Duration::from_secs(1)), ..TERMS }), [1], "the fastest");
    // Of one nothing is known: it may be fast.
    let mut all = all;
    all[0].sight.time = None;
    assert_eq!(order(&all, &terms), [0, 1]);
}

#[test]
fn money_hours_and_regions_rule_out() {
    let night = Choice { hours: Some("22:00-06:00".parse().unwrap()), ..Choice::default() };
    let eu = Choice { region: Some("eu".into()), ..Choice::default() };
    let us = Choice { region: Some("us".into()), ..Choice::default() };
    let all = [seen(&night, "0.001", 1.0, 50.0), seen(&us, "0.01", 1.0, 50.0), seen(&eu, "0.02", 1.0, 50.0)];
    assert_eq!((order(&all, &TERMS), code(&all, &TERMS, 0)), (vec![1, 2], "outside_hours".into()));
    assert_eq!(order(&all, &Terms { minute: 5, ..TERMS }), [0, 1, 2]);
    let regions = ["eu".to_owned()];
    let first = Terms { regions: &regions, minute: 5, ..TERMS };
    assert_eq!(order(&all, &first), [2, 0, 1], "the region goes before the price");
    let only = Terms { regions_only: true, ..first };
    assert_eq!((order(&all, &only), code(&all, &only, 1)), (vec![2], "wrong_region".into()));
    let poor = Terms { max_spend: Some(usd("0.015")), ..TERMS };
    assert_eq!((order(&all, &poor), code(&all, &poor, 2)), (vec![1], "too_dear".into()));
    assert_eq!(
        order(&all, &Terms { max_spend: Some(usd("0.0001")), ..TERMS }),
        [1, 2],
        "the purse says how much it lacks"
    );
}

#[test]
fn overflow_takes_over_while_the_first_are_busy_and_backup_comes_last() {
    let (first, overflow, backup) = (
        Choice::default(),
        Choice { role: Role::Overflow, ..Choice::default() },
        Choice { role: Role::Backup, ..Choice::default() },
    );
    let mut all =
        [seen(&backup, "0.001", 1.0, 50.0), seen(&overflow, "0.002", 1.0, 50.0), seen(&first, "0.04", 1.0, 50.0)];
    assert_eq!(order(&all, &TERMS), [2, 1, 0]);
    all[2].sight.is_busy = true;
    assert_eq!(order(&all, &TERMS), [1, 2, 0]);
}

#[test]
fn one_that_was_not_asked_for_long_is_asked_now_and_then() {
    let plain = Choice::default();
    let mut all = [seen(&plain, "0.01", 1.0, 50.0), seen(&plain, "0.015", 1.0, 50.0), seen(&plain, "0.05", 1.0, 50.0)];
    all[1].sight.idle = None;
    all[2].sight.idle = None;
    let probing = Terms { dice: 0.01, ..TERMS };
    assert_eq!(order(&all, &probing), [1, 0, 2], "the third costs more than twice as much");
    assert_eq!(choose(&all, &probing)[1].verdict, Verdict::Probe);
    assert_eq!(order(&all, &TERMS), [0, 1, 2]);
    let hurried = Terms { deadline: Some(Duration::from_secs(9)), ..probing.clone() };
    assert_eq!(order(&all, &hurried), [0, 1, 2], "who is in a hurry finds out nothing for others");
    assert_eq!(order(&all, &Terms { objective: Objective::Order, ..probing }), [0, 1, 2]);
}

/// What a probe may not find out: how one is in another place or role, busy, or asked a moment ago.
#[test]
fn only_an_equal_is_probed() {
    let (plain, backup) = (Choice::default(), Choice { role: Role::Backup, ..Choice::default() });
    let [eu, us] = ["eu", "us"].map(|region| Choice { region: Some(region.into()), ..Choice::default() });
    let regions = ["eu".to_owned()];
    let probing = Terms { dice: 0.0, regions: &regions, ..TERMS };
    let unasked = |choice| {
        let mut one = seen(choice, "0.011", 1.0, 50.0);
        one.sight.idle = None;
        one
    };
    let first = |choice| seen(choice, "0.01", 1.0, 50.0);
    let order = |all: [Seen<'_>; 2]| order(&all, &probing);
    assert_eq!(order([first(&plain), unasked(&plain)]), [1, 0]);
    assert_eq!(order([first(&eu), unasked(&eu)]), [1, 0]);
    assert_eq!(order([first(&eu), unasked(&us)]), [0, 1], "in another region");
    assert_eq!(order([first(&plain), unasked(&backup)]), [0, 1], "in another role");
    assert_eq!(order([first(&backup), unasked(&backup)]), [0, 1], "backups are for need");
    let mut busy = unasked(&plain);
    busy.sight.is_busy = true;
    assert_eq!(order([first(&plain), busy]), [0, 1], "it is busy");
    let at = |idle| {
        let mut one = unasked(&plain);
        one.sight.idle = Some(idle);
        one
    };
    assert_eq!(order([first(&plain), at(LONG - Duration::from_secs(1))]), [0, 1], "it was asked a while ago");
    assert_eq!(order([first(&plain), at(LONG)]), [1, 0]);
}

/// Who is known to be slow comes after those who are not, and after the overflow, but before the backup.
#[test]
fn who_is_slow_is_asked_later() {
    let (plain, backup) = (Choice::default(), Choice { role: Role::Backup, ..Choice::default() });
    let overflow = Choice { role: Role::Overflow, ..Choice::default() };
    let slow = Terms { slow: Some(Duration::from_secs(8)), ..TERMS };
    let mut all = [seen(&plain, "0.01", 5.0, 50.0), seen(&backup, "0.01", 1.0, 50.0), seen(&plain, "0.02", 3.0, 50.0)];
    assert_eq!(order(&all, &TERMS), [0, 2, 1], "nobody calls anybody slow");
    assert_eq!(order(&all, &slow), [2, 0, 1], "its slowest twentieth takes ten seconds");
    assert_eq!((code(&all, &slow, 0).as_str(), code(&all, &slow, 2).as_str()), ("slow", ""));
    assert_eq!(order(&all, &Terms { objective: Objective::Order, ..slow.clone() }), [2, 0, 1]);
    all[2].choice = &overflow;
    assert_eq!(order(&all, &slow), [2, 0, 1], "the overflow is for that");
    all[2].choice = &plain;
    all[2].sight.time = all[0].sight.time;
    assert_eq!(order(&all, &slow), [0, 2, 1], "if all are slow, the cheapest of them");
    all[2].sight.time = Some(Seconds { p50: 3.0, p95: 6.0, evidence: 50.0 });
    all[0].sight.time = all[0].sight.time.map(|time| Seconds { evidence: 9.0, ..time });
    assert_eq!(order(&all, &slow), [0, 2, 1], "too little is known of it");
}

/// Whoever was slow once is not asked for ever because the others are only thought to be slower.
#[test]
fn who_is_little_known_is_tried_where_nobody_is_fast_enough() {
    let plain = Choice::default();
    let mut all = [1.0, 5.0, 7.0, 4.0].map(|p50| seen(&plain, "0.01", p50, 50.0));
    for unknown in [1, 2] {
        all[unknown].sight.time = all[unknown].sight.time.map(|time| Seconds { evidence: 9.0, ..time });
    }
    let hurried = Terms { deadline: Some(Duration::from_secs(1)), ..TERMS };
    assert_eq!(order(&all, &hurried), [0], "mostly the fastest, which takes two seconds");
    let finding_out = Terms { dice: 0.2, ..hurried.clone() };
    assert_eq!(order(&all, &finding_out), [1, 2]);
    all[0].sight.time = all[0].sight.time.map(|time| Seconds { p95: 0.9, ..time });
    assert_eq!(order(&all, &finding_out), [0], "somebody is fast enough");
}

#[test]
fn an_unknown_price_is_no_low_one() {
    let plain = Choice::default();
    let mut all = [seen(&plain, "0", 1.0, 50.0), seen(&plain, "0.9", 1.0, 50.0)];
    all[0].sight.price = Price::Unknown;
    assert_eq!(order(&all, &TERMS), [1, 0]);
    let poor = Terms { max_spend: Some(usd("1")), ..TERMS };
    assert_eq!((order(&all, &poor), code(&all, &poor, 0)), (vec![1], "too_dear".into()));
}

#[test]
fn the_highest_floor_drops_nobody_for_not_being_perfect() {
    let plain = Choice::default();
    let mut all = [seen(&plain, "0", 1.0, 100.0), seen(&plain, "0.04", 1.0, 100.0)];
    // What is drawn here, and what is rated as high as can be: eight votes of doubt.
    all[0].sight.quality = Quality { mean: 100.0, sd: 0.0, evidence: 0.0 };
    all[1].sight.quality = Quality { mean: 99.5, sd: 2.35, evidence: 0.0 };
    for floor in [1.0, 50.0, 90.0, 100.0] {
        assert_eq!(order(&all, &Terms { floor: Some((floor, None)), ..TERMS }), [0, 1], "{floor}");
    }
}
