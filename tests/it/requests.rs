//! The story of each request, over HTTP and on the command line: what was considered, tried, paid and saved.

use mimeo::http::auth::new_key;
use serde_json::{Value, json};

use crate::world::{Reply, World, reply};

const TWO: &str = "[routes.two]\ncandidates = ['sandbox/draft', 'sandbox/standard']\n";

fn kite(model: &str, prompt: &str) -> Value {
    json!({ "model": model, "prompt": prompt, "size": "64x64" })
}

async fn story_of(world: &World, asked: &Reply) -> Value {
    world.get(&format!("/v1/requests/{}", asked.header("x-request-id"))).await.expect(200).body
}

/// The verdict on each candidate, by name.
fn verdicts(story: &Value) -> Vec<(&str, &str)> {
    let candidates = story["candidates"].as_array().expect("a list");
    candidates.iter().map(|c| (c["name"].as_str().expect("a name"), c["verdict"].as_str().expect("one"))).collect()
}

/// Who was tried, how it ended, and what it was billed.
fn tried(story: &Value) -> Vec<(&str, &str, Option<&str>)> {
    let attempts = story["attempts"].as_array().expect("a list");
    attempts
        .iter()
        .map(|t| {
            (t["candidate"].as_str().expect("a name"), t["outcome"].as_str().expect("a word"), t["billed_usd"].as_str())
        })
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_miss_a_hit_and_a_failover_are_told() {
    let mut world = World::with(TWO).await;
    let mut asked = kite("two", "a kite");
    for (name, value) in [("explain", json!(true)), ("purpose", json!("og")), ("category", json!("toys"))] {
        asked[name] = value;
    }
    let miss = world.generate(asked.clone()).await.expect(200);
    let told = story_of(&world, &miss).await;
    for (field, value) in miss.body["mimeo"]["story"].as_object().expect("a story with the answer") {
        assert_eq!(&told[field], value, "{field}");
    }
    assert_eq!((told["object"].as_str(), told["outcome"]["status"].as_str()), (Some("request"), Some("ok")));
    assert_eq!(
        (told["model"].as_str(), told["route"].as_str(), told["cache"].as_str()),
        (Some("two"), Some("two"), Some("miss"))
    );
    assert_eq!((told["purpose"].as_str(), told["category"].as_str()), (Some("og"), Some("toys")));
    assert_eq!((told["cost_usd"].as_str(), told["saved_usd"].as_str()), (Some("0.002"), Some("0")));
    assert_eq!(verdicts(&told), [("sandbox/draft", "kept"), ("sandbox/standard", "kept")]);
    assert_eq!(told["candidates"][1]["expected_usd"], "0.01");
    assert_eq!(told["candidates"][0]["rank"], 1);
    assert!(told["candidates"][0]["seconds"]["p50"].as_f64().is_some_and(|seconds| seconds >= 1.0), "{told}");
    assert_eq!(tried(&told), [("sandbox/draft", "made", Some("0.002"))]);
    assert_eq!(told["pictures"], json!([miss.body["mimeo"]["images"][0]["id"]]));
    assert!(!told.to_string().contains("a kite"), "no prompt is kept: {told}");

    let hit = world.generate(kite("two", "a kite")).await.expect(200);
    assert!(hit.body["mimeo"].get("story").is_none());
    let told = story_of(&world, &hit).await;
    assert_eq!(
        (told["cache"].as_str(), told["cost_usd"].as_str(), told["saved_usd"].as_str()),
        (Some("hit"), Some("0"), Some("0.002"))
    );
    assert_eq!(tried(&told), []);

    let over = world.generate(kite("two", "a boat [[fail=503*1]]")).await.expect(200);
    let told = story_of(&world, &over).await;
    assert_eq!(tried(&told), [("sandbox/draft", "failed", Some("0")), ("sandbox/standard", "made", Some("0.01"))]);
    let attempts = told["attempts"].as_array().expect("a list");
    assert_ne!(attempts[0]["attempt_id"], attempts[1]["attempt_id"]);
    assert!(attempts.iter().all(|tried| tried["attempt_id"].as_str().is_some_and(|id| id.starts_with("att_"))));
    let events = world.run(&["ledger", "events", "--json"]).1;
    assert!(events.contains(attempts[0]["attempt_id"].as_str().expect("text")), "as the ledger names it");

    // After the process has ended, and to who reads the data folder.
    assert_eq!(world.gateway.terminate(), Some(0));
    world.restart();
    assert_eq!(story_of(&world, &over).await, told);
    let (code, shown, err) = world.run(&["requests", "show", over.header("x-request-id")]);
    assert_eq!(code, 0, "{err}");
    for part in
        ["sandbox/standard", "failed: ", "made 1", "cost $0.01", attempts[1]["attempt_id"].as_str().expect("text")]
    {
        assert!(shown.contains(part), "`{part}` is not in:\n{shown}");
    }
    assert!(!shown.contains('\x1b'), "no colours where nobody sees them");
    let (_, json, _) = world.run(&["requests", "show", over.header("x-request-id"), "--json"]);
    assert_eq!(serde_json::from_str::<Value>(&json).expect("JSON"), told);
    let (_, listed, _) = world.run(&["requests"]);
    assert_eq!(listed.lines().count(), 4, "{listed}");
    let (_, listed, _) = world.run(&["requests", "list", "--json", "--limit", "1"]);
    assert_eq!(serde_json::from_str::<Value>(&listed).expect("JSON")[0]["request_id"], over.header("x-request-id"));
}

#[tokio::test(flavor = "multi_thread")]
async fn failures_are_told_with_what_was_tried() {
    let world = World::with(&format!("{TWO}[requests]\nprompts = true\n")).await;
    let refused = world.generate(kite("two", "a bomb [[refuse]]")).await.expect(400);
    let told = story_of(&world, &refused).await;
    assert_eq!(
        (told["outcome"]["status"].as_str(), told["outcome"]["kind"].as_str(), told["outcome"]["code"].as_str()),
        (Some("error"), Some("refused"), Some(refused.code()))
    );
    assert_eq!(told["outcome"]["message"], refused.message());
    assert_eq!(tried(&told), [("sandbox/draft", "refused", Some("0"))]);
    assert_eq!((told["cost_usd"].as_str(), told["cache"].as_str()), (Some("0"), None));
    assert_eq!(told["prompt"], "a bomb [[refuse]]", "the operator wants it");

    let unknown = world.generate(kite("two", "a well [[bill-then-fail=500]]")).await;
    assert!(unknown.status >= 500, "{}", unknown.body);
    let told = story_of(&world, &unknown).await;
    assert_eq!(tried(&told), [("sandbox/draft", "unknown", None)], "{told}");
    assert_eq!(told["cost_usd"], Value::Null, "nobody knows yet");

    let mut poor = kite("two", "a mill");
    poor["max_spend_usd"] = json!("0.001");
    let poor = world.generate(poor).await.expect(429);
    let told = story_of(&world, &poor).await;
    assert_eq!((told["outcome"]["code"].as_str(), tried(&told)), (Some("max_spend_exceeded"), vec![]));

    let nobody = world.generate(kite("nobody/knows", "a mill")).await.expect(404);
    let told = story_of(&world, &nobody).await;
    assert_eq!((told["route"].as_str(), told["model"].as_str()), (Some(""), Some("nobody/knows")));
}

#[tokio::test(flavor = "multi_thread")]
async fn who_has_gone_is_told_the_rest_and_who_joins_whom_it_joined() {
    let world = World::new().await;
    let asked = kite("sandbox/draft", "slow [[latency=3000]]");
    let mut hasty = asked.clone();
    hasty["deadline_ms"] = json!(1000);
    let late = world.generate(hasty).await.expect(504);
    let told = story_of(&world, &late).await;
    assert_eq!((told["outcome"]["code"].as_str(), tried(&told)), (Some("deadline_passed"), vec![]));
    let joined = world.generate(asked).await.expect(200);
    assert_eq!(joined.cache(), "join");
    let told = story_of(&world, &joined).await;
    assert_eq!(told["joined"], late.header("x-request-id"));
    assert_eq!((tried(&told), told["cost_usd"].as_str()), (vec![("sandbox/draft", "made", Some("0.002"))], Some("0")));
    let told = story_of(&world, &late).await;
    assert_eq!(told["outcome"]["code"], "deadline_passed", "that is what its caller was told");
    assert_eq!(
        (tried(&told), told["cost_usd"].as_str()),
        (vec![("sandbox/draft", "made", Some("0.002"))], Some("0.002"))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_story_is_its_tenants() {
    let mut config = String::new();
    let [web, other, boss] = [("web", ""), ("other", ""), ("boss", "admin = true\n")].map(|(name, more)| {
        let (key, hash) = new_key().expect("randomness");
        config += &format!("[keys.{name}]\nhash = '{hash}'\n{more}");
        key
    });
    let world = World::with(&config).await;
    let get = |key: &str, path: &str| reply(world.client.get(format!("{}{path}", world.gateway.url)).bearer_auth(key));
    let ask = world.client.post(format!("{}/v1/images/generations", world.gateway.url)).bearer_auth(&web);
    let asked = ask.header("content-type", "application/json").body(kite("sandbox/draft", "mine").to_string());
    let asked = reply(asked).await.expect(200);
    let path = format!("/v1/requests/{}", asked.header("x-request-id"));
    assert_eq!(get(&web, &path).await.expect(200).body["key"], "web");
    assert_eq!(get(&boss, &path).await.expect(200).body["tenant"], "web");
    let foreign = get(&other, &path).await.expect(404);
    let never = get(&other, &format!("/v1/requests/req_{:032x}", 7)).await.expect(404);
    assert_eq!((foreign.code(), foreign.message()), (never.code(), never.message()), "it is as unknown as any");
    assert_eq!(get(&web, "/v1/requests/kite").await.expect(404).code(), "request_not_found");
    world.get(&path).await.expect(401);
}

#[tokio::test(flavor = "multi_thread")]
async fn none_are_kept_where_none_are_wanted() {
    let world = World::with("[requests]\nkeep_days = 0\n").await;
    let mut asked = kite("sandbox/draft", "a kite");
    asked["explain"] = json!(true);
    let made = world.generate(asked).await.expect(200);
    assert_eq!(made.body["mimeo"]["story"]["candidates"][0]["name"], "sandbox/draft");
    world.get(&format!("/v1/requests/{}", made.header("x-request-id"))).await.expect(404);
}
