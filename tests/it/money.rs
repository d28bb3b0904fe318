//! Never pay twice, and account for everything.

use std::collections::BTreeMap;

use mimeo::clock::Clock;
use mimeo::config::{BlobPlace, Durability, Storage};
use mimeo::domain::Usd;
use mimeo::store::Store;

use serde_json::{Value, json};

use crate::world::World;

fn kite(model: &str) -> Value {
    json!({ "model": model, "prompt": "a red kite", "size": "64x64" })
}

/// I1: N identical concurrent requests, one bill, N equal answers.
#[tokio::test(flavor = "multi_thread")]
async fn i1_a_thousand_identical_requests_are_one_bill() {
    let world = World::new().await;
    let body = json!({ "model": "sandbox/standard", "prompt": "a red kite [[latency=300]]", "size": "64x64" });
    let calls = (0..1000).map(|_| world.generate(body.clone()));
    let replies = futures_util::future::join_all(calls).await;
    let first = replies[0].pictures();
    for reply in &replies {
        assert_eq!(reply.status, 200, "{}", reply.body);
        assert_eq!(reply.pictures(), first);
    }
    assert_eq!(world.book().await.len(), 1);
    assert_eq!(replies.iter().filter(|reply| reply.cache() == "miss").count(), 1);
    let ledger = world.ledger().await;
    assert_eq!(ledger["spent_usd"], "0.01");
}

/// I1: N identical requests share a failure as well: a provider that is in trouble is not asked N times.
#[tokio::test(flavor = "multi_thread")]
async fn i1_identical_requests_share_one_failure() {
    let world = World::new().await;
    let body = json!({ "model": "sandbox/standard", "prompt": "a kite [[fail=503]][[latency=800]]", "size": "64x64" });
    let replies = futures_util::future::join_all((0..20).map(|_| world.generate(body.clone()))).await;
    for reply in &replies {
        assert_eq!((reply.status, reply.message()), (502, replies[0].message()), "{}", reply.body);
    }
    // It is asked again a few times, for all of them. Whoever comes when the last call has failed already may ask
    // again; on a busy machine these may be some.
    let seen = world.stats().await["requests_seen"].as_u64().expect("a number");
    assert!((1..=8).contains(&seen), "20 requests were {seen} calls");
    assert!(world.book().await.is_empty());
}

/// I5: a call that may have been billed is never sent again by itself, and its money is in suspense.
#[tokio::test(flavor = "multi_thread")]
async fn i5_billed_but_lost_is_not_sent_again() {
    let world = World::with("[routes.two]\ncandidates = ['sandbox/standard', 'openai/gpt-image-2']\n").await;
    for (directive, status, code) in [
        ("bill-then-reset", 504, "outcome_unknown"),
        ("truncate", 504, "outcome_unknown"),
        ("bill-then-fail=504", 504, "outcome_unknown"),
        ("html", 504, "outcome_unknown"),
        // Here the provider states its price: billed for certain, nothing is unknown.
        ("truncate-picture", 502, "unusable_answer"),
        ("html-picture", 502, "unusable_answer"),
    ] {
        let before = world.book().await.len();
        let prompt = format!("a red kite [[{directive}]]");
        let reply = world.generate(json!({ "model": "two", "prompt": prompt, "size": "1024x1024" })).await;
        assert_eq!((reply.status, reply.code()), (status, code), "{directive}: {}", reply.body);
        assert_eq!(reply.header("x-should-retry"), "false", "{directive}");
        assert_eq!(world.book().await.len(), before + 1, "{directive}: it was sent once");
        if code == "outcome_unknown" {
            // Nor because its caller asks for the same again without saying that it may be paid again.
            let again = world.generate(json!({ "model": "two", "prompt": prompt, "size": "1024x1024" })).await;
            assert_eq!((again.status, again.code()), (status, code), "{directive}: {}", again.body);
            assert_eq!(world.book().await.len(), before + 1, "{directive}: it was not sent again");
        }
    }
    let ledger = world.ledger().await;
    for directive in ["bill-then-fail=500", "truncate", "bill-then-reset", "garbage-json", "html"] {
        let body =
            json!({ "model": "openai/gpt-image-2", "prompt": format!("a kite [[{directive}]]"), "quality": "low" });
        let reply = world.generate(body).await.expect(504);
        assert_eq!(reply.code(), "outcome_unknown", "{directive}");
    }
    assert_eq!((&ledger["suspense_usd"], &ledger["spent_usd"]), (&json!("0.04"), &json!("0.02")), "{ledger}");
}

/// What certainly was not billed goes to the next candidate, and costs nothing.
#[tokio::test(flavor = "multi_thread")]
async fn unbilled_faults_fail_over() {
    let world = World::with("[routes.two]\ncandidates = ['openai/gpt-image-2@low', 'sandbox/standard']\n").await;
    // The account that throttles rests after that.
    for directive in ["fail=503*1", "quota*1", "fail=401*1", "throttle*1"] {
        let prompt = format!("a red kite, {directive} [[{directive}]]");
        let reply = world.generate(json!({ "model": "two", "prompt": prompt, "size": "1024x1024" })).await.expect(200);
        assert_eq!(reply.header("x-mimeo-provider"), "sandbox", "{directive}");
        assert_eq!(reply.header("x-mimeo-cost-usd"), "0.01", "{directive}");
    }
    assert_eq!(world.book().await.len(), 4);
    assert_eq!(world.ledger().await["suspense_usd"], "0");
}

/// A refusal is an answer: no failover, remembered, not billed.
#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_is_an_answer() {
    let world = World::with("[routes.two]\ncandidates = ['openai/gpt-image-2', 'sandbox/standard']\n").await;
    let body = json!({ "model": "two", "prompt": "something bad [[refuse]]", "size": "1024x1024" });
    let first = world.generate(body.clone()).await.expect(400);
    assert_eq!(first.code(), "moderation_blocked");
    let seen = world.stats().await["requests_seen"].clone();
    world.generate(body).await.expect(400);
    assert_eq!(world.stats().await["requests_seen"], seen, "it was not asked again");
    assert!(world.book().await.is_empty());
}

/// Token prices are settled from the tokens that the provider reports, to the last digit.
#[tokio::test(flavor = "multi_thread")]
async fn token_prices_are_exact() {
    let world = World::new().await;
    let body =
        json!({ "model": "openai/gpt-image-2", "prompt": "a red kite", "size": "1024x1024", "quality": "medium" });
    let miss = world.generate(body.clone()).await.expect(200);
    let book = world.book().await;
    assert_eq!(miss.header("x-mimeo-cost-usd"), book[0]["usd"].as_str().unwrap());
    assert_eq!(miss.body["usage"]["output_tokens"], 1756);
    let hit = world.generate(body).await.expect(200);
    assert_eq!((hit.cache(), hit.header("x-mimeo-cost-usd")), ("hit", "0"));
    assert_eq!(hit.header("x-mimeo-saved-usd"), book[0]["usd"].as_str().unwrap());
    assert_eq!(hit.body["usage"], miss.body["usage"], "usage comes back on hits too");
    assert_eq!(hit.pictures(), miss.pictures());
}

/// I15: a caller who hangs up neither cancels nor repeats paid work.
#[tokio::test(flavor = "multi_thread")]
async fn i15_hanging_up_orphans_nothing() {
    let world = World::new().await;
    let body = json!({ "model": "sandbox/standard", "prompt": "a red kite [[latency=700]]", "size": "64x64" });
    // It hangs up while the picture is made.
    tokio::select! {
        reply = world.generate(body.clone()) => panic!("it was answered: {}", reply.body),
        () = world.until(|stats| stats["in_flight"] == 1) => {}
    }
    let reply = world.generate(body.clone()).await.expect(200);
    assert!(matches!(reply.cache(), "join" | "hit"), "{}", reply.cache());
    assert_eq!(world.generate(body).await.cache(), "hit");
    assert_eq!(world.book().await.len(), 1);
}

/// The caller's deadline ends the wait, not the work.
#[tokio::test(flavor = "multi_thread")]
async fn a_deadline_ends_the_wait_only() {
    let world = World::new().await;
    let mut body =
        json!({ "model": "sandbox/standard", "prompt": "a kite [[latency=600]]", "size": "64x64", "deadline_ms": 100 });
    let late = world.generate(body.clone()).await.expect(504);
    assert_eq!(late.code(), "deadline_passed");
    body["deadline_ms"] = json!(20_000);
    world.generate(body).await.expect(200);
    assert_eq!(world.book().await.len(), 1);
}

/// After kill -9, what was sent is in suspense and what was stored is served.
#[tokio::test(flavor = "multi_thread")]
async fn kill_9_loses_no_money_and_no_picture() {
    let mut world = World::new().await;
    let stored = world.generate(kite("sandbox/standard")).await.expect(200);
    let hanging = json!({ "model": "sandbox/premium", "prompt": "never [[bill-then-hang]]", "size": "64x64" });
    tokio::select! {
        reply = world.generate(hanging) => panic!("it was answered: {}", reply.body),
        () = world.until(|stats| stats["billed"] == 2) => {}
    }
    world.restart();
    let again = world.generate(kite("sandbox/standard")).await.expect(200);
    assert_eq!(again.cache(), "hit");
    assert_eq!(again.pictures(), stored.pictures());
    let ledger = world.ledger().await;
    assert_eq!((&ledger["spent_usd"], &ledger["suspense_usd"]), (&json!("0.01"), &json!("0.04")), "{ledger}");
    // The operator looks it up and settles it.
    let (_, out, _) = world.run(&["ledger", "suspense", "--json"]);
    let open: Vec<Value> = serde_json::from_str(&out).unwrap();
    let attempt = open[0]["attempt"].as_str().unwrap().to_owned();
    let (code, _, err) = world.run(&["ledger", "resolve", &attempt, "--billed", "0.04"]);
    assert_eq!(code, 0, "{err}");
    let ledger = world.ledger().await;
    assert_eq!((&ledger["spent_usd"], &ledger["suspense_usd"]), (&json!("0.05"), &json!("0")), "{ledger}");
    let (code, _, _) = world.run(&["ledger", "resolve", &attempt, "--release"]);
    assert_eq!(code, 1, "it is resolved only once");
}

/// `max_spend_usd` bounds everything that a request may cost.
#[tokio::test(flavor = "multi_thread")]
async fn max_spend_is_kept() {
    let world = World::new().await;
    let mut body = json!({ "model": "sandbox/premium", "prompt": "a kite", "size": "64x64", "max_spend_usd": "0.03" });
    let refused = world.generate(body.clone()).await.expect(429);
    assert_eq!(refused.code(), "max_spend_exceeded");
    assert!(world.book().await.is_empty());
    body["max_spend_usd"] = json!("0.04");
    world.generate(body).await.expect(200);
}

/// I14: a stopping gateway takes nothing new, finishes what is paid, and writes it down.
#[tokio::test(flavor = "multi_thread")]
async fn i14_a_stopping_gateway_finishes_what_is_paid() {
    let mut world = World::new().await;
    let body = json!({ "model": "sandbox/standard", "prompt": "a red kite [[latency=2000]]", "size": "64x64" });
    let url = format!("{}/v1/images/generations", world.gateway.url);
    let request = world.client.post(url).header("content-type", "application/json").body(body.to_string());
    let answered = tokio::spawn(crate::world::reply(request));
    // This one's caller hangs up, so that only the tracked task is left of it. It takes longer than the other, for
    // which the server waits in any case.
    let orphan = json!({ "model": "sandbox/premium", "prompt": "a hill [[latency=3000]]", "size": "64x64" });
    tokio::select! {
        reply = world.generate(orphan.clone()) => panic!("it was answered: {}", reply.body),
        () = world.until(|stats| stats["in_flight"] == 2) => {}
    }
    assert_eq!(world.gateway.terminate(), Some(0));
    let reply = answered.await.unwrap().expect(200);
    assert_eq!(reply.pictures().len(), 1);
    world.restart();
    assert_eq!(world.generate(orphan).await.expect(200).cache(), "hit");
    assert_eq!(world.book().await.len(), 2);
    assert_eq!(world.ledger().await["suspense_usd"], "0");
}

/// A budget is reserved before each call, under any number of callers, and never overrun.
#[tokio::test(flavor = "multi_thread")]
async fn a_budget_is_never_overrun() {
    let (key, hash) = mimeo::http::auth::new_key().unwrap();
    let world = World::with(&format!("[keys.web]\nhash = '{hash}'\nbudget = {{ usd = '0.10', per = 'day' }}\n")).await;
    let ask = |index: usize| {
        let body =
            json!({ "model": "sandbox/standard", "prompt": format!("kite {index} [[latency=50]]"), "size": "64x64" });
        let url = format!("{}/v1/images/generations", world.gateway.url);
        let request = world.client.post(url).bearer_auth(&key).header("content-type", "application/json");
        crate::world::reply(request.body(body.to_string()))
    };
    let replies = futures_util::future::join_all((0..40).map(ask)).await;
    let (made, refused): (Vec<_>, Vec<_>) = replies.into_iter().enumerate().partition(|(_, reply)| reply.status == 200);
    assert_eq!((made.len(), refused.len()), (10, 30));
    assert_eq!(world.book().await.len(), 10);
    for (_, reply) in refused {
        let reply = reply.expect(429);
        assert_eq!(reply.code(), "budget_exceeded");
        assert_eq!(reply.header("x-should-retry"), "false");
        assert!(
            reply.message().contains("$0.1 per day") && reply.message().contains("resets at"),
            "{}",
            reply.message()
        );
    }
    let hit = ask(made[0].0).await.expect(200);
    assert_eq!(hit.cache(), "hit", "what is stored costs nothing");
}

/// A price that nobody knows is unknown everywhere, never zero, and closed to keys with a budget.
#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_price_is_never_zero() {
    let (key, hash) = mimeo::http::auth::new_key().unwrap();
    let (free, free_hash) = mimeo::http::auth::new_key().unwrap();
    let world = World::with(&format!(
        "[providers.box]\nrecord = 'openai-compatible'\nbase_url = '{{sandbox}}/compatible/v1'\n\
         [keys.web]\nhash = '{hash}'\nbudget = {{ usd = '10', per = 'total' }}\n\
         [keys.open]\nhash = '{free_hash}'\nadmin = true\n"
    ))
    .await;
    let ask = |key: &str| {
        let body = json!({ "model": "box/some-model", "prompt": "a kite", "size": "64x64" });
        let url = format!("{}/v1/images/generations", world.gateway.url);
        let request = world.client.post(url).bearer_auth(key).header("content-type", "application/json");
        crate::world::reply(request.body(body.to_string()))
    };
    assert_eq!(ask(&key).await.expect(429).code(), "price_unknown");
    assert!(world.book().await.is_empty());
    let reply = ask(&free).await.expect(200);
    assert_eq!((reply.header("x-mimeo-cost"), reply.header("x-mimeo-cost-usd")), ("unknown", ""));
    let (_, out, _) = world.run(&["ledger", "--json"]);
    let ledger: Value = serde_json::from_str(&out).unwrap();
    assert_eq!((&ledger["unpriced"], &ledger["spent_usd"]), (&json!(1), &json!("0")));
    // The book knows what the ledger cannot: this is the one case in which they differ.
    let mut world = world;
    world.leave_unaudited();
}

/// Limits of an account: never more calls under way than it allows, and all are answered.
#[tokio::test(flavor = "multi_thread")]
async fn concurrent_calls_are_bounded() {
    let world = World::with(
        "[providers.small]\nrecord = 'sandbox'\nbase_url = '{sandbox}/native/v1'\nlimits = { concurrent = 3 }\n",
    )
    .await;
    let calls = (0..12).map(|index| {
        let prompt = format!("kite {index} [[latency=60]]");
        world.generate(json!({ "model": "small/draft", "prompt": prompt, "size": "64x64" }))
    });
    for reply in futures_util::future::join_all(calls).await {
        reply.expect(200);
    }
    assert_eq!(world.stats().await["peak_in_flight"], 3);
    assert_eq!(world.book().await.len(), 12);
}

/// More pictures than a model makes in one call are several calls, each with its own invoice.
#[tokio::test(flavor = "multi_thread")]
async fn many_pictures_fan_out() {
    let world = World::new().await;
    let reply = world.generate(json!({ "model": "sandbox/draft", "prompt": "kites", "size": "64x64", "n": 4 })).await;
    let pictures = reply.expect(200).pictures();
    assert_eq!(pictures.iter().collect::<std::collections::BTreeSet<_>>().len(), 4, "four different ones");
    assert_eq!(world.book().await.len(), 4);
}

/// Who joins a flight does not inherit the limits of who leads it.
#[tokio::test(flavor = "multi_thread")]
async fn a_poor_leader_does_not_cost_the_others_their_picture() {
    let world = World::new().await;
    for round in 0..20 {
        let calls = (0..16).map(|index| {
            let mut body = json!({ "model": "sandbox/standard", "prompt": format!("kite {round}"), "size": "64x64" });
            if index % 2 == 0 {
                body["max_spend_usd"] = json!("0.001");
            }
            world.generate(body)
        });
        for (index, reply) in futures_util::future::join_all(calls).await.into_iter().enumerate() {
            match index % 2 {
                0 => assert!(reply.status == 200 || reply.code() == "max_spend_exceeded", "{}", reply.body),
                _ => drop(reply.expect(200)),
            }
        }
    }
    assert_eq!(world.book().await.len(), 20);
}

/// I17: a storm of failures multiplies no load. In one in which 30 % of the calls fail unbilled, each goes on to where
/// it can be served; where there is nobody else it is sent again, but all retries at a provider are no more than a tenth
/// of its calls and ten, and nobody is asked for the same more than four times.
#[tokio::test(flavor = "multi_thread")]
async fn i17_a_storm_is_not_multiplied() {
    let world = World::with("[routes.two]\ncandidates = ['compatible/sandbox-image', 'sandbox/standard']\n").await;
    // Of a hundred, twenty fail at the candidate that is asked first, and ten at both.
    let prompt = |index: usize| match index % 10 {
        0 | 1 => format!("kite {index} [[fail=503*1]]"),
        2 => format!("kite {index} [[fail=503]]"),
        _ => format!("kite {index}"),
    };
    let asks = (0..100).map(|index| {
        world.generate(json!({ "model": "two", "prompt": prompt(index), "size": "256x256", "explain": true }))
    });
    let replies = futures_util::future::join_all(asks).await;
    for (index, reply) in replies.iter().enumerate() {
        match index % 10 {
            2 => {
                assert_eq!(reply.status, 502, "{index}: {}", reply.body);
                assert!(reply.message().contains("503"), "it is told why: {}", reply.message());
            }
            _ => assert_eq!(reply.status, 200, "{index}: {}", reply.body),
        }
    }
    // The ledger knows every call by request and provider, and the provider has seen as many.
    let (code, out, err) = world.run(crate::books::EVENTS);
    assert_eq!(code, 0, "{err}");
    let events: Vec<Value> = serde_json::from_str(&out).expect("JSON");
    let mut calls: BTreeMap<&str, BTreeMap<&str, u64>> = BTreeMap::new();
    for event in events.iter().filter(|event| event["kind"] == "reserve") {
        let name = |field: &str| event[field].as_str().expect("a name");
        *calls.entry(name("provider")).or_default().entry(name("request")).or_default() += 1;
    }
    let mut sent = 0;
    for (provider, requests) in &calls {
        let all: u64 = requests.values().sum();
        let retries = all - requests.len() as u64;
        assert!(retries <= 10 + all / 10, "{provider}: {retries} of {all} calls are retries");
        assert!(requests.values().all(|count| *count <= 4), "{provider}: {requests:?}");
        sent += all;
    }
    assert!(sent <= 130 + 20 + 15, "{sent} calls for a hundred requests");
    assert_eq!(world.stats().await["requests_seen"], sent, "nothing was sent that is not in the ledger");
    assert_eq!(world.book().await.len(), 90);
    let ledger = world.ledger().await;
    assert_eq!((&ledger["reserved_usd"], &ledger["suspense_usd"]), (&json!("0"), &json!("0")), "{ledger}");
}

/// I6: after everything that can come of a call, and after the operator has settled what nobody knew, the ledger is
/// the book to the last digit, and the sums that budgets read are the ledger.
#[tokio::test(flavor = "multi_thread")]
async fn i6_the_ledger_is_the_book_whatever_happened() {
    let mut world = World::with("[routes.two]\ncandidates = ['openai/gpt-image-2@low', 'sandbox/standard']\n").await;
    for (model, prompt, status) in [
        ("sandbox/standard", "made", 200),
        ("sandbox/premium", "made, dearer", 200),
        ("openai/gpt-image-2", "made, by tokens", 200),
        ("sandbox/standard", "made", 200), // stored by now
        ("two", "made at the second [[fail=503*1]]", 200),
        ("sandbox/standard", "refused [[refuse]]", 400),
        ("openai/gpt-image-2", "refused [[refuse]]", 400),
        ("sandbox/standard", "throttled [[throttle=0.01]]", 429),
        ("sandbox/standard", "failed, not billed [[fail=503]]", 502),
        ("sandbox/standard", "broken, and billed [[truncate-picture]]", 502),
        ("openai/gpt-image-2", "broken, and billed by tokens [[html-picture]]", 502),
        ("sandbox/premium", "billed and lost [[bill-then-reset]]", 504),
        ("openai/gpt-image-2", "billed by tokens and lost [[truncate]]", 504),
        ("sandbox/standard", "lost, not billed [[reset]]", 504),
    ] {
        let body = json!({ "model": model, "prompt": prompt, "size": "1024x1024" });
        let reply = world.generate(body).await;
        assert_eq!(reply.status, status, "{prompt}: {}", reply.body);
    }
    let usd = |value: &Value| value.as_str().expect("amounts are text").parse::<Usd>().expect("a decimal");
    let book = world.book().await;
    let (_, out, _) = world.run(&["ledger", "suspense", "--json"]);
    let open: Vec<Value> = serde_json::from_str(&out).expect("JSON");
    assert_eq!(open.len(), 3, "{out}");
    // The operator looks each of them up in the provider's book.
    let mut billed = 0;
    for attempt in open.iter().map(|open| open["attempt"].as_str().expect("its name")) {
        let invoice = book.iter().find(|line| line["attempt"] == attempt);
        let (code, _, err) = match invoice {
            Some(line) => world.run(&["ledger", "resolve", attempt, "--billed", line["usd"].as_str().expect("usd")]),
            None => world.run(&["ledger", "resolve", attempt, "--release"]),
        };
        assert_eq!(code, 0, "{err}");
        billed += usize::from(invoice.is_some());
    }
    assert_eq!(billed, 2);
    let ledger = world.ledger().await;
    assert_eq!(usd(&ledger["spent_usd"]), book.iter().map(|line| usd(&line["usd"])).sum(), "{ledger}");
    assert_eq!((&ledger["reserved_usd"], &ledger["suspense_usd"]), (&json!("0"), &json!("0")), "{ledger}");

    assert_eq!(world.gateway.terminate(), Some(0));
    let storage = Storage { path: world.data(), durability: Durability::Process, ..Storage::default() };
    let store = Store::open(&storage, None, &BlobPlace::Folder(world.data().join("blobs")), Clock::System).unwrap();
    assert_eq!(store.misspent().await.unwrap(), 0);
}
