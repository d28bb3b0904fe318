//! The ledger against a model of it: whatever happens in whatever order, the balances are the model's, and what was
//! written stays.

use std::collections::BTreeMap;

use mimeo::domain::{Price, RequestId, Usd};
use mimeo::store::{
    Allowance, AttemptState, BudgetLimit, BudgetUse, Finished, GroupBy, LedgerQuery, NewAttempt, Saving, Scope,
    Settlement, Store, Term, Totals,
};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

use super::{Database, NOW, begin, call, cents, end, eventually, finish, on_both};

on_both!(rows_are_never_changed, sums_are_exact_beyond_64_bits, savings_are_sums_of_their_own);

/// One thing that happens. Numbers choose among what is there, modulo how much there is.
#[derive(Clone, Debug)]
enum Step {
    /// A call of a subject for so many cents (`None`: nobody knows), by one of the processes.
    Begin { process: usize, subject: usize, expected: Option<i128>, pictures: u32, is_sent: bool },
    /// The end of an open call: billed so many cents (`None`: not billed), told by one of the processes.
    Finish { process: usize, call: usize, billed: Option<i128> },
    /// Nobody knows what came of it.
    Suspend { call: usize },
    /// Somebody found out: it was billed so many cents.
    Resolve { call: usize, billed: i128 },
    /// It is not known whether it was begun; nothing was sent.
    Abandon { call: usize },
    /// A process ends, and another one cleans up behind it.
    Recover { process: usize },
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let begin = (0..3_usize, 0..4_usize, proptest::option::weighted(0.9, 0..20_i128), 1..4_u32, any::<bool>());
    let step = prop_oneof![
        6 => begin.prop_map(|(process, subject, expected, pictures, is_sent)| {
            Step::Begin { process, subject, expected, pictures, is_sent }
        }),
        4 => (0..3_usize, any::<usize>(), proptest::option::weighted(0.7, 0..20_i128))
            .prop_map(|(process, call, billed)| Step::Finish { process, call, billed }),
        2 => any::<usize>().prop_map(|call| Step::Suspend { call }),
        2 => (any::<usize>(), 0..20_i128).prop_map(|(call, billed)| Step::Resolve { call, billed }),
        1 => any::<usize>().prop_map(|call| Step::Abandon { call }),
        1 => (0..3_usize).prop_map(|process| Step::Recover { process }),
    ];
    proptest::collection::vec(step, 1..50)
}

/// A call as the model knows it.
struct Known {
    attempt: NewAttempt,
    term: Term,
    process: usize,
    subject: usize,
    state: AttemptState,
}

/// What each subject's balances should be.
#[derive(Default)]
struct Model {
    calls: Vec<Known>,
    sums: BTreeMap<usize, Totals>,
    rows: u64,
}

impl Model {
    fn begun(&mut self, known: Known) {
        self.move_money(known.subject, |sums| sums.reserved_usd += held(&known));
        self.calls.push(known);
    }

    /// Ends the call in `state`, billed `spent` (`None`: not billed).
    fn ended(&mut self, call: usize, state: AttemptState, spent: Option<Usd>) {
        let held = held(&self.calls[call]);
        let known = &mut self.calls[call];
        let (subject, pictures) = (known.subject, u64::from(known.attempt.subject.pictures));
        let (was, is_unpriced) = (known.state, known.attempt.expected == Price::Unknown);
        known.state = state;
        self.move_money(subject, |sums| {
            if was == AttemptState::Unknown {
                sums.suspense_usd = sums.suspense_usd - held;
            } else {
                sums.reserved_usd = sums.reserved_usd - held;
            }
            if state == AttemptState::Unknown {
                sums.suspense_usd += held;
                sums.unpriced += u64::from(is_unpriced);
            }
            if let Some(spent) = spent {
                sums.spent_usd += spent;
                sums.paid_pictures += if spent.is_zero() { 0 } else { pictures };
            }
        });
    }

    fn move_money(&mut self, subject: usize, change: impl FnOnce(&mut Totals)) {
        change(self.sums.entry(subject).or_default());
        self.rows += 1;
    }

    /// The calls in one of `states`.
    fn among(&self, states: &[AttemptState], choice: usize) -> Option<usize> {
        let fitting: Vec<usize> =
            (0..self.calls.len()).filter(|call| states.contains(&self.calls[*call].state)).collect();
        (!fitting.is_empty()).then(|| fitting[choice % fitting.len()])
    }
}

fn held(known: &Known) -> Usd {
    known.attempt.expected.known().unwrap_or(Usd::ZERO)
}

const OPEN: &[AttemptState] = &[AttemptState::Reserved, AttemptState::Sending];

/// Lets one thing happen to the stores and to the model.
async fn happen(step: Step, prefix: &str, stores: &[Store; 3], model: &mut Model) {
    match step {
        Step::Begin { process, subject, expected, pictures, is_sent } => {
            let mut attempt = call(&RequestId::random().to_string());
            attempt.expected = expected.map_or(Price::Unknown, |amount| Price::Known(cents(amount)));
            attempt.state = if is_sent { AttemptState::Sending } else { AttemptState::Reserved };
            let about = &mut attempt.subject;
            (about.tenant, about.pictures) = (format!("{prefix} tenant {subject}"), pictures);
            (about.api_key, about.route) =
                (format!("{prefix} key {subject}"), format!("{prefix} route {}", subject % 2));
            about.provider = format!("{prefix} provider {}", subject / 2);
            let term = begin(&stores[process], &attempt).await;
            let state = attempt.state;
            model.begun(Known { attempt, term, process, subject, state });
        }
        Step::Finish { process, call, billed } => {
            let Some(call) = model.among(OPEN, call) else { return };
            let known = &model.calls[call];
            let (state, settlement) = match billed {
                Some(amount) => (AttemptState::Done, Settlement::Settle(Price::Known(cents(amount)))),
                None => (AttemptState::Failed, Settlement::Release),
            };
            // Any process may write it, if it names the right term.
            let told = end(&known.attempt, known.term, state, settlement);
            assert_eq!(finish(&stores[process], &told).await, Finished::Yes);
            model.ended(call, state, billed.map(cents));
            assert_eq!(finish(&stores[process], &told).await, Finished::Yes);
        }
        Step::Suspend { call } => {
            let Some(call) = model.among(OPEN, call) else { return };
            let known = &model.calls[call];
            let told = end(&known.attempt, known.term, AttemptState::Unknown, Settlement::Suspend);
            assert_eq!(finish(&stores[known.process], &told).await, Finished::Yes);
            model.ended(call, AttemptState::Unknown, None);
        }
        Step::Resolve { call, billed } => {
            let Some(call) = model.among(&[AttemptState::Unknown], call) else { return };
            let id = model.calls[call].attempt.id;
            assert!(stores[0].resolve(id, cents(billed), NOW).await.unwrap());
            assert!(!stores[1].resolve(id, cents(billed), NOW).await.unwrap());
            let state = if billed == 0 { AttemptState::Failed } else { AttemptState::Done };
            model.ended(call, state, Some(cents(billed)));
        }
        Step::Abandon { call } => {
            let Some(call) = model.among(OPEN, call) else { return };
            let NewAttempt { id, subject, expected, .. } = model.calls[call].attempt.clone();
            stores[model.calls[call].process].abandon(id, subject, expected, NOW).await.unwrap();
            model.ended(call, AttemptState::Failed, None);
        }
        Step::Recover { process } => {
            stores[process].leave().await.unwrap();
            let counted = stores[(process + 1) % 3].recover(NOW).await.unwrap();
            let mut expected = (0, 0);
            for call in 0..model.calls.len() {
                match (model.calls[call].process == process, model.calls[call].state) {
                    (true, AttemptState::Reserved) => {
                        model.ended(call, AttemptState::Failed, None);
                        expected.0 += 1;
                    }
                    (true, AttemptState::Sending) => {
                        model.ended(call, AttemptState::Unknown, None);
                        expected.1 += 1;
                    }
                    _ => {}
                }
            }
            assert_eq!(counted, expected);
        }
    }
}

/// Holds the ledger, however it is grouped, and the budgets against the model.
async fn compare(prefix: &str, store: &Store, model: &Model) {
    for (subject, sums) in &model.sums {
        let tenant = Some(format!("{prefix} tenant {subject}"));
        let report = store.ledger(LedgerQuery { tenant, group_by: Some(GroupBy::Key), ..LedgerQuery::default() });
        let report = report.await.unwrap();
        assert_eq!(report.totals, *sums);
        assert_eq!(report.rows.iter().map(|row| &row.totals).collect::<Vec<_>>(), [sums]);
    }
    let of = |part: &dyn Fn(usize) -> bool| {
        let calls = model.calls.iter().filter(|known| part(known.subject));
        let out = calls.filter(|known| OPEN.contains(&known.state) || known.state == AttemptState::Unknown);
        let (out, pictures) = out.fold((Usd::ZERO, 0), |(usd, pictures), known| {
            (usd + held(known), pictures + u64::from(known.attempt.subject.pictures))
        });
        let sums = model.sums.iter().filter(|(subject, _)| part(**subject)).map(|(_, sums)| sums);
        sums.fold(BudgetUse { usd: out, pictures }, |used, sums| BudgetUse {
            usd: used.usd + sums.spent_usd,
            pictures: used.pictures + sums.paid_pictures,
        })
    };
    for number in 0..4 {
        let budget = |scope: Scope, number: usize| BudgetLimit {
            scope,
            name: format!("{prefix} {} {number}", scope.name()),
            allowance: Allowance::Pictures(0),
            since_ms: NOW,
            hard: true,
        };
        let scopes = [Scope::Key, Scope::Tenant, Scope::Route, Scope::Provider];
        let used = store.budget_use(scopes.map(|scope| budget(scope, number)).to_vec()).await.unwrap();
        let ours = of(&|subject| subject == number);
        let (route, provider) = (of(&|subject| subject % 2 == number), of(&|subject| subject / 2 == number));
        assert_eq!(used, [ours, ours, route, provider], "of {number}");
    }
    assert_eq!(store.misspent().await.unwrap(), 0);
}

/// Each case takes names of its own, on one database.
fn whatever_happens(database: &Database, cases: u32) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let stores = [database.open(), database.open(), database.open()];
    let mut runner = TestRunner::new(Config { cases, failure_persistence: None, ..Config::default() });
    let ran = runner.run(&steps(), |steps| {
        runtime.block_on(async {
            let prefix = RequestId::random().to_string();
            let before = database.count("ledger");
            let mut model = Model::default();
            for step in steps {
                happen(step, &prefix, &stores, &mut model).await;
            }
            compare(&prefix, &stores[0], &model).await;
            assert_eq!(database.count("ledger") - before, model.rows, "a row for each move, and no other");
            // Nothing of one case is left for the next.
            for store in &stores {
                store.leave().await.unwrap();
            }
            stores[0].recover(NOW).await.unwrap();
        });
        Ok(())
    });
    // Stores are dropped outside of the runtime.
    ran.unwrap_or_else(|error| panic!("{error}"));
}

#[test]
fn whatever_happens_sqlite() {
    whatever_happens(&Database::sqlite(), 40);
}

#[test]
fn whatever_happens_postgres() {
    whatever_happens(&Database::postgres(), 40);
}

async fn rows_are_never_changed(database: Database) {
    let store = database.open();
    let attempt = call("paid");
    let term = begin(&store, &attempt).await;
    finish(&store, &end(&attempt, term, AttemptState::Done, Settlement::Settle(Price::Known(cents(3))))).await;
    let rows = database.sql("SELECT * FROM ledger ORDER BY seq");
    let mut refused = vec!["UPDATE ledger SET spent = 0", "DELETE FROM ledger", "DELETE FROM ledger WHERE spent > 0"];
    if database.postgres.is_some() {
        refused.push("TRUNCATE ledger");
    }
    for statement in refused {
        let said = database.ask(statement).expect_err(statement);
        assert!(said.contains("the ledger is append-only"), "{statement}: {said}");
    }
    assert_eq!(database.sql("SELECT * FROM ledger ORDER BY seq"), rows);
    // Nor is a second end of an attempt written, by whom ever.
    let id = database.bytes(&attempt.id.to_bytes());
    let columns = "at_ms, tenant, api_key, provider, model, request, attempt, pictures";
    for kind in ["reserve", "settle", "release", "suspend", "gift"] {
        let forged = format!(
            "INSERT INTO ledger (kind, {columns}) SELECT '{kind}', {columns} FROM ledger WHERE attempt = {id} LIMIT 1"
        );
        assert!(database.ask(&forged).is_err(), "{kind}");
    }
    assert_eq!(database.count("ledger"), 2);
}

async fn sums_are_exact_beyond_64_bits(database: Database) {
    let store = database.open();
    let most = Usd::from_pico(i128::from(i64::MAX));
    for number in 0..5 {
        let mut attempt = call(&format!("dear {number}"));
        attempt.expected = Price::Known(most);
        // In an hour of its own each: what is kept per hour has 64 bits.
        let term = begin(&store, &attempt).await;
        let mut told = end(&attempt, term, AttemptState::Done, Settlement::Settle(Price::Known(most)));
        told.at_ms = NOW + number * 3_600_000;
        finish(&store, &told).await;
    }
    let all = most * 5;
    let sums = store.ledger(LedgerQuery::default()).await.unwrap().totals;
    assert_eq!((sums.spent_usd, sums.reserved_usd), (all, Usd::ZERO));
    let budget = BudgetLimit {
        scope: Scope::Tenant,
        name: "acme".into(),
        allowance: Allowance::Usd(all),
        since_ms: NOW,
        hard: true,
    };
    assert_eq!(store.budget_use(vec![budget]).await.unwrap()[0].usd, all);
    assert_eq!(store.misspent().await.unwrap(), 0);
    // One amount more than a row holds is refused, and nothing is written of it.
    let mut beyond = call("beyond");
    beyond.expected = Price::Known(most + Usd::from_pico(1));
    assert!(store.begin_attempt(beyond.clone(), NOW).await.is_err());
    assert_eq!(database.rows(beyond.id), [""; 0]);
    assert!(!store.is_under_way(beyond.key).await.unwrap());
}

async fn savings_are_sums_of_their_own(database: Database) {
    let store = database.open();
    let mut subject = call("saved").subject;
    subject.pictures = 2;
    let saving = |layer, saved| Saving { layer, subject: subject.clone(), saved, at_ms: NOW };
    let savings = vec![
        saving("hit", Price::Known(cents(4))),
        saving("join", Price::Known(cents(6))),
        saving("hit", Price::Known(cents(1))),
        saving("hit", Price::Unknown),
    ];
    store.record_savings(savings).unwrap();
    // They are queued, not waited for.
    let report = eventually(async || {
        let report = store.ledger(LedgerQuery::default()).await.unwrap();
        (report.totals.saved_pictures > 0).then_some(report)
    })
    .await;
    assert_eq!((report.totals.saved_usd, report.totals.saved_pictures), (cents(11), 8));
    assert_eq!((report.totals.spent_usd, report.totals.reserved_usd), (Usd::ZERO, Usd::ZERO));
    let layers: Vec<_> =
        report.saved_by_layer.iter().map(|layer| (layer.layer.as_str(), layer.saved_usd, layer.pictures)).collect();
    assert_eq!(layers, [("hit", cents(5), 6), ("join", cents(6), 2)]);
    // What is still queued when the store closes is written.
    store.record_savings(vec![saving("hit", Price::Known(cents(1)))]).unwrap();
    drop(store);
    assert_eq!(database.count("ledger"), 5);
    let store = database.open();
    assert_eq!(store.misspent().await.unwrap(), 0);

    // The same rows by every grouping, and by time.
    for (group_by, name) in [
        (GroupBy::Provider, "studio"),
        (GroupBy::Model, "studio/brush-1"),
        (GroupBy::Tenant, "acme"),
        (GroupBy::Key, "web"),
        (GroupBy::Route, "posters"),
        (GroupBy::Purpose, ""),
        (GroupBy::Day, "2027-01-15"),
    ] {
        let of = LedgerQuery { group_by: Some(group_by), since_ms: Some(NOW), until_ms: Some(NOW + 1), tenant: None };
        let rows = store.ledger(of).await.unwrap().rows;
        assert_eq!(
            rows.iter().map(|row| (row.name.as_str(), row.totals.saved_usd)).collect::<Vec<_>>(),
            [(name, cents(12))]
        );
    }
    for (since_ms, until_ms) in [(Some(NOW + 1), None), (None, Some(NOW))] {
        let none = store.ledger(LedgerQuery { since_ms, until_ms, ..LedgerQuery::default() }).await.unwrap();
        assert_eq!(none.totals, Totals::default());
    }
    let last = store.ledger_events(LedgerQuery::default(), 2).await.unwrap();
    assert_eq!(last.iter().map(|event| event.saved_usd).collect::<Vec<_>>(), [Usd::ZERO, cents(1)]);
}
