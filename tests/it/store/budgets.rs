//! No budget is overrun, by any number of processes; what is used of it is what the ledger says.

use std::cell::Cell;

use futures_util::future::join_all;
use mimeo::clock::Millis;
use mimeo::domain::{AttemptId, Price, RequestId, Usd};
use mimeo::store::{
    Allowance, AttemptState, BudgetLimit, BudgetUse, Finish, LedgerQuery, NewAttempt, Reserved, Scope, Settlement,
    Store,
};

use super::{Database, NOW, begin, call, cents, end, finish, on_both, totals};

const HOUR: Millis = 3_600_000;

on_both!(
    every_scope_is_kept_in_money_and_in_pictures,
    no_crowd_overruns_a_budget,
    what_is_settled_meanwhile_is_never_missed,
    a_period_turns_over,
    what_is_out_counts_in_every_period,
    a_price_that_nobody_knows_fits_no_limit_in_money,
    the_first_hard_budget_that_is_overrun_is_told,
);

fn limit(scope: Scope, name: &str, allowance: Allowance) -> BudgetLimit {
    BudgetLimit { scope, name: name.into(), allowance, since_ms: NOW, hard: true }
}

/// A call for 5 cents and one picture, unlike any other, about names of its own.
fn fresh(names: &str, budgets: Vec<BudgetLimit>) -> NewAttempt {
    let mut attempt = call(&AttemptId::random().to_string());
    let subject = &mut attempt.subject;
    subject.api_key = format!("key of {names}");
    subject.tenant = format!("tenant of {names}");
    subject.route = format!("route of {names}");
    subject.provider = format!("provider of {names}");
    attempt.budgets = budgets;
    attempt
}

/// Billed as expected.
fn billed(attempt: &NewAttempt, reserved: &Reserved, amount: i128) -> Finish {
    let Reserved::Yes { term, .. } = reserved else { panic!("{reserved:?}") };
    end(attempt, *term, AttemptState::Done, Settlement::Settle(Price::Known(cents(amount))))
}

async fn asked(store: &Store, attempt: &NewAttempt) -> Reserved {
    store.begin_attempt(attempt.clone(), NOW).await.unwrap_or_else(|error| panic!("{error}"))
}

async fn used(store: &Store, budget: &BudgetLimit) -> BudgetUse {
    store.budget_use(vec![budget.clone()]).await.unwrap()[0]
}

async fn every_scope_is_kept_in_money_and_in_pictures(database: Database) {
    let (store, other) = (database.open(), database.open());
    for scope in [Scope::Key, Scope::Tenant, Scope::Route, Scope::Provider] {
        for allowance in [Allowance::Usd(cents(10)), Allowance::Pictures(2)] {
            for hard in [true, false] {
                let names = format!("{} {allowance:?} {hard}", scope.name());
                let budget = BudgetLimit { hard, ..limit(scope, &format!("{} of {names}", scope.name()), allowance) };
                let attempt = || fresh(&names, vec![budget.clone()]);
                let (one, two, three) = (attempt(), attempt(), attempt());
                // One is spent, one is in suspense: both count, and nothing is left.
                let begun = asked(&store, &one).await;
                finish(&store, &billed(&one, &begun, 5)).await;
                let begun = asked(&other, &two).await;
                let Reserved::Yes { term, warnings } = begun else { panic!("{names}: {begun:?}") };
                assert_eq!(warnings, [], "{names}: it fits");
                finish(&other, &end(&two, term, AttemptState::Unknown, Settlement::Suspend)).await;
                let full = BudgetUse { usd: cents(10), pictures: 2 };
                assert_eq!(used(&store, &budget).await, full, "{names}");
                match asked(&store, &three).await {
                    Reserved::Over { budget: 0, used } if hard => assert_eq!(used, full, "{names}"),
                    Reserved::Yes { warnings, .. } if !hard => assert_eq!(warnings, [(0, full)], "{names}"),
                    other => panic!("{names}: {other:?}"),
                }
                // What was not billed after all is free again.
                assert!(store.resolve(two.id, Usd::ZERO, NOW).await.unwrap());
                let left = if hard { full } else { BudgetUse { usd: cents(15), pictures: 3 } };
                let freed = BudgetUse { usd: left.usd - cents(5), pictures: left.pictures - 1 };
                assert_eq!(used(&other, &budget).await, freed, "{names}");
                if hard {
                    assert!(matches!(asked(&store, &attempt()).await, Reserved::Yes { .. }), "{names}");
                    // Somebody else's is not touched by it.
                    let elsewhere = fresh("others", vec![BudgetLimit { name: "others".into(), ..budget.clone() }]);
                    assert!(matches!(asked(&store, &elsewhere).await, Reserved::Yes { .. }), "{names}");
                }
            }
        }
    }
    assert_eq!(store.misspent().await.unwrap(), 0);
}

async fn no_crowd_overruns_a_budget(database: Database) {
    let stores: Vec<Store> = (0..3).map(|_| database.open()).collect();
    for (round, allowance) in [Allowance::Usd(cents(50)), Allowance::Pictures(10)].into_iter().enumerate() {
        let names = format!("round {round}");
        let budgets = vec![
            limit(Scope::Tenant, &format!("tenant of {names}"), allowance),
            // In the other order of locks, and wide enough.
            limit(Scope::Provider, &format!("provider of {names}"), Allowance::Pictures(1000)),
        ];
        let one = async |number: usize| {
            let mut budgets = budgets.clone();
            if number.is_multiple_of(2) {
                budgets.reverse();
            }
            let store = &stores[number % stores.len()];
            let attempt = fresh(&names, budgets);
            let reserved = asked(store, &attempt).await;
            let is_begun = matches!(reserved, Reserved::Yes { .. });
            // Half of them are settled while the others still come.
            if is_begun && number % 4 < 2 {
                finish(store, &billed(&attempt, &reserved, 5)).await;
            }
            is_begun
        };
        let begun = join_all((0..64).map(one)).await.into_iter().filter(|is_begun| *is_begun).count();
        assert_eq!(begun, 10);
        assert_eq!(used(&stores[0], &budgets[0]).await, BudgetUse { usd: cents(50), pictures: 10 });
    }
    assert_eq!(database.count("attempts"), 20);
    assert_eq!(stores[0].misspent().await.unwrap(), 0);
}

/// Between being out and being spent an attempt is in one of the two, for whoever looks at any moment.
async fn what_is_settled_meanwhile_is_never_missed(database: Database) {
    let [payer, reader, asker] = [database.open(), database.open(), database.open()];
    let names = "the same";
    let budget = limit(Scope::Key, "key of the same", Allowance::Usd(cents(5)));
    let pay = async || {
        let attempt = fresh(names, Vec::new());
        let begun = asked(&payer, &attempt).await;
        finish(&payer, &billed(&attempt, &begun, 5)).await;
    };
    pay().await;
    // Nothing is ever given back, so what is used only grows, and no moment lets another one pass.
    let (reads, refusals, paid) = (Cell::new(0), Cell::new(0), Cell::new(1_u64));
    let is_enough = || reads.get() >= 300 && refusals.get() >= 10 && paid.get() >= 100;
    let paying = async {
        while !is_enough() {
            pay().await;
            paid.set(paid.get() + 1);
        }
    };
    let reading = async {
        let mut before = BudgetUse::default();
        while !is_enough() {
            let now = used(&reader, &budget).await;
            assert!(now.usd >= before.usd && now.pictures >= before.pictures, "{before:?}, then {now:?}");
            before = now;
            reads.set(reads.get() + 1);
        }
    };
    let asking = async {
        while !is_enough() {
            let reserved = asked(&asker, &fresh(names, vec![budget.clone()])).await;
            assert!(matches!(reserved, Reserved::Over { .. }), "{reserved:?}");
            refusals.set(refusals.get() + 1);
        }
    };
    tokio::join!(paying, reading, asking);
    let paid = paid.get();
    assert_eq!(used(&reader, &budget).await, BudgetUse { usd: cents(5 * i128::from(paid)), pictures: paid });
}

async fn a_period_turns_over(database: Database) {
    let store = database.open();
    let of = |since_ms| BudgetLimit { since_ms, ..limit(Scope::Key, "key of it", Allowance::Usd(cents(5))) };
    let paid_at = async |at_ms| {
        let attempt = fresh("it", Vec::new());
        let begun = asked(&store, &attempt).await;
        finish(&store, &Finish { at_ms, ..billed(&attempt, &begun, 5) }).await;
    };
    paid_at(NOW - 1).await;
    assert_eq!(used(&store, &of(NOW)).await, BudgetUse::default(), "the hour before");
    assert_eq!(used(&store, &of(NOW - HOUR)).await, BudgetUse { usd: cents(5), pictures: 1 });
    paid_at(NOW).await;
    paid_at(NOW + HOUR - 1).await;
    let this_hour = BudgetUse { usd: cents(10), pictures: 2 };
    assert_eq!(used(&store, &of(NOW)).await, this_hour);
    assert_eq!(used(&store, &of(NOW - HOUR)).await, BudgetUse { usd: cents(15), pictures: 3 });
    assert_eq!(asked(&store, &fresh("it", vec![of(NOW)])).await, Reserved::Over { budget: 0, used: this_hour });
    let next = fresh("it", vec![of(NOW + HOUR)]);
    assert!(matches!(asked(&store, &next).await, Reserved::Yes { .. }), "a new period");
    assert_eq!(store.misspent().await.unwrap(), 0);
}

async fn what_is_out_counts_in_every_period(database: Database) {
    let store = database.open();
    let attempt = fresh("it", Vec::new());
    let begun = asked(&store, &attempt).await;
    let later =
        BudgetLimit { since_ms: NOW + 1000 * HOUR, ..limit(Scope::Provider, "provider of it", Allowance::Pictures(1)) };
    let one = BudgetUse { usd: cents(5), pictures: 1 };
    assert_eq!(asked(&store, &fresh("it", vec![later.clone()])).await, Reserved::Over { budget: 0, used: one });
    finish(&store, &billed(&attempt, &begun, 5)).await;
    assert_eq!(used(&store, &later).await, BudgetUse::default(), "it was spent before that period");
}

async fn a_price_that_nobody_knows_fits_no_limit_in_money(database: Database) {
    let store = database.open();
    let unpriced = |names: &str, budgets| NewAttempt { expected: Price::Unknown, ..fresh(names, budgets) };
    let money = limit(Scope::Key, "key of it", Allowance::Usd(cents(1_000_000)));
    let pictures = limit(Scope::Key, "key of it", Allowance::Pictures(1));
    let none = BudgetUse::default();
    assert_eq!(asked(&store, &unpriced("it", vec![money.clone()])).await, Reserved::Over { budget: 0, used: none });
    let soft = BudgetLimit { hard: false, ..money };
    let attempt = unpriced("it", vec![soft, pictures.clone()]);
    let begun = asked(&store, &attempt).await;
    let Reserved::Yes { term, warnings } = begun else { panic!("{begun:?}") };
    assert_eq!(warnings, [(0, none)]);
    // Its picture counts, whatever it costs: while it is out, and when it was billed.
    let one = BudgetUse { usd: Usd::ZERO, pictures: 1 };
    assert_eq!(used(&store, &pictures).await, one);
    finish(&store, &end(&attempt, term, AttemptState::Done, Settlement::Settle(Price::Unknown))).await;
    assert_eq!(used(&store, &pictures).await, one);
    let next = asked(&store, &unpriced("it", vec![pictures])).await;
    assert_eq!(next, Reserved::Over { budget: 0, used: one });
    assert_eq!(store.misspent().await.unwrap(), 0);
}

async fn the_first_hard_budget_that_is_overrun_is_told(database: Database) {
    let store = database.open();
    let of = |scope: Scope, pictures, hard| BudgetLimit {
        hard,
        ..limit(scope, &format!("{} of it", scope.name()), Allowance::Pictures(pictures))
    };
    let budgets = vec![
        of(Scope::Route, 0, false),
        of(Scope::Key, 9, true),
        of(Scope::Provider, 0, true),
        of(Scope::Tenant, 0, true),
    ];
    let used = BudgetUse::default();
    assert_eq!(asked(&store, &fresh("it", budgets)).await, Reserved::Over { budget: 2, used });
    assert_eq!(totals(&store).await.reserved_usd, Usd::ZERO);
    // Several pictures must fit together.
    let mut three = fresh("it", vec![of(Scope::Key, 2, true)]);
    three.subject.pictures = 3;
    assert_eq!(asked(&store, &three).await, Reserved::Over { budget: 0, used });
    three.budgets = vec![of(Scope::Key, 3, true)];
    begin(&store, &three).await;
    // What is used is what the ledger and the open attempts say, by any key of the tenant.
    let mut elsewhere = fresh("it", Vec::new());
    elsewhere.subject.api_key = "another key".into();
    elsewhere.subject.request = RequestId::random();
    begin(&store, &elsewhere).await;
    let all = store.budget_use(vec![of(Scope::Tenant, 0, true), of(Scope::Key, 0, true)]).await.unwrap();
    assert_eq!(all.iter().map(|used| used.pictures).collect::<Vec<_>>(), [4, 3]);
    let sums = store.ledger(LedgerQuery { tenant: Some("tenant of it".into()), ..LedgerQuery::default() }).await;
    assert_eq!(sums.unwrap().totals.reserved_usd, all[0].usd);
}
