//! Never pay twice, and account for everything.

use std::time::Duration;

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
    }
    let ledger = world.ledger().await;
    assert_eq!((&ledger["suspense_usd"], &ledger["spent_usd"]), (&json!("0.04"), &json!("0.02")), "{ledger}");
}

/// What certainly was not billed goes to the next candidate, and costs nothing.
#[tokio::test(flavor = "multi_thread")]
async fn unbilled_faults_fail_over() {
    let world = World::with("[routes.two]\ncandidates = ['openai/gpt-image-2@low', 'sandbox/standard']\n").await;
    for directive in ["fail=503*1", "throttle*1", "quota*1", "fail=401*1"] {
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
    let body = json!({ "model": "openai/gpt-image-2", "prompt": "a red kite", "size": "1024x1024", "quality": "medium" });
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
    let call = world.generate(body.clone());
    assert!(tokio::time::timeout(Duration::from_millis(200), call).await.is_err(), "it hangs up");
    let reply = world.generate(body.clone()).await.expect(200);
    assert!(matches!(reply.cache(), "join" | "hit"), "{}", reply.cache());
    assert_eq!(world.generate(body).await.cache(), "hit");
    assert_eq!(world.book().await.len(), 1);
}

/// The caller's deadline ends the wait, not the work.
#[tokio::test(flavor = "multi_thread")]
async fn a_deadline_ends_the_wait_only() {
    let world = World::new().await;
    let mut body = json!({ "model": "sandbox/standard", "prompt": "a kite [[latency=600]]", "size": "64x64", "deadline_ms": 100 });
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
    let call = world.generate(hanging);
    let _ = tokio::time::timeout(Duration::from_millis(500), call).await;
    world.until(|stats| stats["billed"] == 2).await;
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
