use super::*;

fn usd(text: &str) -> Usd {
    text.parse().unwrap()
}

fn seen<'a>(choice: &'a Choice, price: &str, p50: f64, points: f64) -> Seen<'a> {
    Seen {
        choice,
        region: choice.region.as_deref(),
        price: Price::Known(usd(price)),
        time: Some(Seconds { p50, p95: 2.0 * p50, evidence: 50.0 }),
        errors: 0.0,
        quality: Some(Quality { mean: points, sd: 3.0, evidence: 50.0 }),
        rating: points,
        sample: points,
        is_busy: false,
        idle: Some(Duration::ZERO),
    }
}

const TERMS: Terms<'static> = Terms {
    objective: Objective::Cost,
    floor: None,
    is_floor_soft: false,
    deadline: None,
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
    all[0].quality = Some(Quality { mean: 58.0, sd: 5.0, evidence: 50.0 });
    assert_eq!(order(&all, &terms), [0, 1]);
    // Nobody has an opinion yet: what was thought beforehand decides.
    all[0].quality = Some(Quality { mean: 58.0, sd: 20.0, evidence: 0.0 });
    assert_eq!(order(&all, &terms), [1]);
    // What is heard of other categories alone does not rule out who was thought to be good enough.
    all[0].rating = 65.0;
    assert_eq!(order(&all, &terms), [0, 1]);
    all[0].rating = 58.0;
    // All are below: nobody, or the best.
    all[1].quality = all[0].quality;
    all[1].quality.as_mut().unwrap().mean = 30.0;
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
    all[0].time = None;
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
    all[2].is_busy = true;
    assert_eq!(order(&all, &TERMS), [1, 2, 0]);
}

#[test]
fn one_that_was_not_asked_for_long_is_asked_now_and_then() {
    let plain = Choice::default();
    let mut all = [seen(&plain, "0.01", 1.0, 50.0), seen(&plain, "0.015", 1.0, 50.0), seen(&plain, "0.05", 1.0, 50.0)];
    all[1].idle = None;
    all[2].idle = None;
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
    let unasked = |choice| Seen { idle: None, ..seen(choice, "0.011", 1.0, 50.0) };
    let first = |choice| seen(choice, "0.01", 1.0, 50.0);
    let order = |all: [Seen<'_>; 2]| order(&all, &probing);
    assert_eq!(order([first(&plain), unasked(&plain)]), [1, 0]);
    assert_eq!(order([first(&eu), unasked(&eu)]), [1, 0]);
    assert_eq!(order([first(&eu), unasked(&us)]), [0, 1], "in another region");
    assert_eq!(order([first(&plain), unasked(&backup)]), [0, 1], "in another role");
    assert_eq!(order([first(&backup), unasked(&backup)]), [0, 1], "backups are for need");
    assert_eq!(order([first(&plain), Seen { is_busy: true, ..unasked(&plain) }]), [0, 1], "it is busy");
    let at = |idle| Seen { idle: Some(idle), ..unasked(&plain) };
    assert_eq!(order([first(&plain), at(LONG - Duration::from_secs(1))]), [0, 1], "it was asked a while ago");
    assert_eq!(order([first(&plain), at(LONG)]), [1, 0]);
}

#[test]
fn an_unknown_price_is_no_low_one() {
    let plain = Choice::default();
    let mut all = [seen(&plain, "0", 1.0, 50.0), seen(&plain, "0.9", 1.0, 50.0)];
    all[0].price = Price::Unknown;
    assert_eq!(order(&all, &TERMS), [1, 0]);
    let poor = Terms { max_spend: Some(usd("1")), ..TERMS };
    assert_eq!((order(&all, &poor), code(&all, &poor, 0)), (vec![1], "too_dear".into()));
}

#[test]
fn the_distribution_is_the_normal_one() {
    for (z, share) in [(0.0, 0.5), (1.0, 0.841_344_75), (-1.0, 0.158_655_25), (1.281_551_6, 0.9), (-3.0, 0.001_349_9)] {
        assert!((normal_cdf(z) - share).abs() < 1e-6, "{z}: {}", normal_cdf(z));
    }
}
