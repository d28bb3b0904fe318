//! Pots of credits: never overrun by any number of processes, and drawn on without a cent of money.

use futures_util::future::join_all;
use mimeo::domain::{AttemptId, Price, Usd};
use mimeo::store::{Allowance, AttemptState, BudgetLimit, BudgetUse, NewAttempt, Reserved, Scope, Settlement, Store};

use super::{Database, NOW, balances, begin, call, cents, drawn, end, finish, on_both, totals};

on_both!(
    no_crowd_overruns_a_pot,
    what_credits_pay_for_moves_no_money,
    what_is_paid_on_the_account_is_drawn_too,
    a_store_is_known
);

fn pot(name: &str, allowance: Allowance) -> BudgetLimit {
    BudgetLimit { scope: Scope::Credit, name: name.into(), allowance, since_ms: NOW, hard: true }
}

/// A call for 5 cents out of `pot`, unlike any other.
fn free(pot: &BudgetLimit) -> NewAttempt {
    let mut attempt = call(&AttemptId::random().to_string());
    attempt.subject.credit = Some(pot.name.clone());
    attempt.budgets = vec![pot.clone()];
    attempt
}

async fn used(store: &Store, limit: &BudgetLimit) -> BudgetUse {
    store.budget_use(vec![limit.clone()]).await.unwrap()[0]
}

fn uses(amount: i128, pictures: u64) -> BudgetUse {
    BudgetUse { usd: cents(amount), pictures }
}

async fn no_crowd_overruns_a_pot(database: Database) {
    let stores = [database.open(), database.open(), database.open()];
    for (name, allowance) in
        [("studio/day/free/pictures", Allowance::Pictures(4)), ("atelier/month/prepaid/usd", Allowance::Usd(cents(20)))]
    {
        let pot = pot(name, allowance);
        let attempts: Vec<NewAttempt> = (0..24)
            .map(|_| {
                let mut attempt = free(&pot);
                attempt.subject.provider = name.split('/').next().unwrap().into();
                attempt
            })
            .collect();
        let asked = attempts.iter().zip(stores.iter().cycle());
        let told = join_all(asked.map(|(attempt, store)| store.begin_attempt(attempt.clone(), NOW))).await;
        let granted = told.iter().filter(|told| matches!(told, Ok(Reserved::Yes { .. }))).count();
        let over = told.iter().filter(|told| matches!(told, Ok(Reserved::Over { budget: 0, .. }))).count();
        assert_eq!((granted, over), (4, 20), "{name}: {told:?}");
        assert_eq!(used(&stores[0], &pot).await, uses(20, 4), "{name}");
    }
    assert_eq!(balances(&stores[0]).await, [0, 0, 0]);
}

async fn what_credits_pay_for_moves_no_money(database: Database) {
    let store = database.open();
    let (gift, bought) = (
        pot("studio/day/free/usd", Allowance::Usd(cents(100))),
        pot("studio/month/prepaid/usd", Allowance::Usd(cents(100))),
    );
    for limit in [&gift, &bought] {
        // Made, certainly not made, and unknown until it is said to be not billed.
        let made = free(limit);
        let term = begin(&store, &made).await;
        assert_eq!(used(&store, limit).await.usd, cents(5), "what is under way counts");
        let ending = drawn(&store, &made, term, &limit.name).await;
        finish(&store, &ending).await;
        let failed = free(limit);
        let term = begin(&store, &failed).await;
        finish(&store, &end(&failed, term, AttemptState::Failed, Settlement::Release)).await;
        assert_eq!(used(&store, limit).await, uses(3, 1));
        let lost = free(limit);
        let term = begin(&store, &lost).await;
        finish(&store, &end(&lost, term, AttemptState::Unknown, Settlement::Suspend)).await;
        assert_eq!(used(&store, limit).await, uses(8, 2));
        assert_eq!(balances(&store).await, [0, 0, 0]);
        assert!(store.resolve(lost.id, Usd::ZERO, NOW).await.unwrap());
        assert_eq!(used(&store, limit).await, uses(8, 2), "it may have been made and covered");
        assert_eq!(totals(&store).await.saved_usd, cents(3), "only what is free of charge is saved");
    }
    assert_eq!(database.rows(begun_once(&store, &gift).await), ["reserve", "settle", "save"]);
    assert_eq!((balances(&store).await, totals(&store).await.paid_pictures), ([0, 0, 0], 0));
    assert_eq!(store.misspent().await.unwrap(), 0);
    // A bill that came all the same is money.
    let billed = free(&gift);
    let term = begin(&store, &billed).await;
    finish(&store, &end(&billed, term, AttemptState::Unknown, Settlement::Suspend)).await;
    assert!(store.resolve(billed.id, cents(4), NOW).await.unwrap());
    assert_eq!(balances(&store).await, [0, 4, 0]);
    assert_eq!(store.misspent().await.unwrap(), 0);
}

/// One more that is made, for its rows.
async fn begun_once(store: &Store, limit: &BudgetLimit) -> AttemptId {
    let attempt = free(limit);
    let term = begin(store, &attempt).await;
    finish(store, &end(&attempt, term, AttemptState::Done, Settlement::Settle(Price::Known(cents(1))))).await;
    attempt.id
}

async fn what_is_paid_on_the_account_is_drawn_too(database: Database) {
    let store = database.open();
    let limit = pot("studio/day/free/pictures", Allowance::Pictures(2));
    let account = BudgetLimit { scope: Scope::Provider, name: "studio".into(), ..limit.clone() };
    let paid = call("a kite");
    let term = begin(&store, &paid).await;
    assert_eq!(used(&store, &limit).await, uses(5, 1));
    finish(&store, &end(&paid, term, AttemptState::Done, Settlement::Settle(Price::Known(cents(5))))).await;
    assert_eq!(used(&store, &limit).await, uses(5, 1));
    begin(&store, &free(&limit)).await;
    let told = store.begin_attempt(free(&limit), NOW).await.unwrap();
    assert_eq!(told, Reserved::Over { budget: 0, used: uses(10, 2) });
    // The other way round, what is free is in no budget.
    assert_eq!(used(&store, &account).await, uses(5, 1));
    // Another account's pot is full.
    assert_eq!(used(&store, &pot("atelier/day/free/pictures", Allowance::Pictures(2))).await, uses(0, 0));
}

async fn a_store_is_known(database: Database) {
    let store = database.open();
    let facts = store.database().await.unwrap();
    assert_eq!(facts.engine == "PostgreSQL", store.is_shared());
    assert!(facts.version.starts_with(|c: char| c.is_ascii_digit()), "{facts:?}");
    assert_eq!(store.typical_size("posters").await.unwrap(), None);
    let attempt = call("a kite");
    let term = begin(&store, &attempt).await;
    let ending = drawn(&store, &attempt, term, "a kite").await;
    finish(&store, &ending).await;
    assert_eq!(store.typical_size("posters").await.unwrap(), Some((640, 480)));
    assert_eq!(store.typical_size("cards").await.unwrap(), None);
}
