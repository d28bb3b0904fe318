//! How long candidates take decides whom a route asks.

use std::time::Duration;

use serde_json::{Value, json};

use super::{THREE, ask, explain, model, with};
use crate::world::{Server, World};

/// A cheap model that turns out to be slow, as `world` finds out by asking it.
async fn find_out_who_is_slow(world: &World) {
    let slow = (0..12).map(|index| {
        let prompt = format!("slow kite {index} [[latency=2500]]");
        model(world, ask("sandbox/draft", &prompt))
    });
    assert!(futures_util::future::join_all(slow).await.iter().all(|model| model == "draft"));
    for index in 0..12 {
        assert_eq!(model(world, ask("sandbox/standard", &format!("quick kite {index}"))).await, "standard");
    }
}

/// A request of the cheapest model that takes at most two seconds.
fn hurried(prompt: &str) -> Value {
    let mut body = ask("cheap", prompt);
    body["deadline_ms"] = json!(2000);
    body
}

/// How long calls took decides who meets a deadline, also after a restart, and for who asks what would be decided.
#[tokio::test(flavor = "multi_thread")]
async fn a_deadline_rules_out_who_was_slow() {
    let mut world = World::with(&format!(
        "[routes.cheap]\n{THREE}objective = 'cost'\n[routes.hasty]\n{THREE}objective = 'cost'\ndeadline_ms = 2000\n\
         [routes.asleep]\nobjective = 'cost'\ncandidates = [{{ model = 'abroad/draft', cold_start_s = 60 }}, 'abroad/standard']\n\
         [providers.abroad]\nrecord = 'sandbox'\nbase_url = '{{sandbox}}/native/v1'\n"
    ))
    .await;
    assert_eq!(model(&world, hurried("a kite before anything is known")).await, "draft");
    find_out_who_is_slow(&world).await;
    let reply = world.generate(hurried("a kite in a hurry")).await.expect(200);
    assert_eq!(reply.header("x-mimeo-model"), "standard");
    assert!(explain(&reply).contains("of its calls takes more than"), "{}", explain(&reply));
    // The route may say it for its callers.
    assert_eq!(model(&world, ask("hasty", "a kite for who waits for nobody")).await, "standard");
    // Who must be woken first is late, although nobody has seen it so.
    let patient = with(ask("asleep", "a kite for tomorrow"), "deadline_ms", json!(100_000));
    let hasty = with(ask("asleep", "a kite for now"), "deadline_ms", json!(20_000));
    let hasty = world.generate(hasty).await.expect(200);
    assert_eq!(hasty.header("x-mimeo-model"), "standard", "{}", explain(&hasty));
    assert_eq!(model(&world, patient).await, "draft");
    world.restart();
    let reply = world.generate(hurried("a kite after the restart")).await.expect(200);
    assert_eq!(reply.header("x-mimeo-model"), "standard", "{}", explain(&reply));

    let (code, out, err) = world.run(&["routes", "show", "cheap", "--deadline-ms", "2000", "--json"]);
    assert_eq!(code, 0, "{err}");
    let shown: Value = serde_json::from_str(&out).expect("JSON");
    let candidates = shown["candidates"].as_array().expect("a list");
    assert_eq!(candidates[0]["name"], "sandbox/standard", "{shown}");
    let draft = candidates.iter().find(|one| one["name"] == "sandbox/draft");
    assert!(draft.expect("it is a candidate")["seconds"]["p95"].as_f64().expect("seconds") > 2.0, "{shown}");
}

/// What one process has learned the others on the same store know soon.
#[tokio::test(flavor = "multi_thread")]
async fn who_was_slow_to_one_is_slow_to_all() {
    let world = World::with(&format!("[routes.cheap]\n{THREE}objective = 'cost'\n")).await;
    let other = Server::start(world.command(&["serve", "--listen", "127.0.0.1:0"]));
    let elsewhere = async |prompt: &str| {
        let request = world.client.post(format!("{}/v1/images/generations", other.url));
        let request = request.header("content-type", "application/json").body(hurried(prompt).to_string());
        crate::world::reply(request).await.expect(200).header("x-mimeo-model").to_owned()
    };
    assert_eq!(elsewhere("a kite before anything is known").await, "draft");
    find_out_who_is_slow(&world).await;
    // It looks every ten seconds.
    let mut ticks = tokio::time::interval(Duration::from_millis(500));
    let end = tokio::time::Instant::now() + Duration::from_secs(60);
    for round in 0.. {
        if elsewhere(&format!("a kite elsewhere, {round}")).await == "standard" {
            break;
        }
        assert!(tokio::time::Instant::now() < end, "it never heard of it");
        ticks.tick().await;
    }
}

/// Who is too slow for a route is asked after the others, and named to the operator with what to do.
#[tokio::test(flavor = "multi_thread")]
async fn a_slow_candidate_is_told_by_its_name() {
    let world = World::with("[routes.brisk]\ncandidates = ['sandbox/draft', 'sandbox/standard']\nslow_s = 1\n").await;
    let slow = (0..16).map(|index| world.generate(ask("brisk", &format!("kite {index} [[latency=1300]]"))));
    for reply in futures_util::future::join_all(slow).await {
        assert_eq!(reply.expect(200).header("x-mimeo-model"), "draft");
    }
    let moved = world.generate(ask("brisk", "a kite for somebody else")).await.expect(200);
    assert_eq!(moved.header("x-mimeo-model"), "standard");
    assert!(explain(&moved).contains("so others are asked first"), "{}", explain(&moved));
    let mut ticks = tokio::time::interval(std::time::Duration::from_millis(100));
    let mut alerts = Value::Null;
    for _ in 0..300 {
        ticks.tick().await;
        let (_, out, _) = world.run(&["alerts", "--json"]);
        alerts = serde_json::from_str(&out).unwrap_or_default();
        let is_slow = |alert: &&Value| alert["kind"] == "slow_candidate";
        if let Some(alert) = alerts.as_array().and_then(|all| all.iter().find(is_slow)) {
            assert_eq!(alert["subject"], "sandbox/draft");
            let message = alert["message"].as_str().unwrap_or_default();
            assert!(
                message.starts_with("sandbox/draft: one in twenty") && message.contains("deadline_ms"),
                "{message}"
            );
            return;
        }
    }
    panic!("nobody is called slow: {alerts}");
}
