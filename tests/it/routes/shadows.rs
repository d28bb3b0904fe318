//! Pictures that are made a second time, for the operator to compare.

use std::time::{Duration, Instant};

use super::{ask, model};
use crate::world::World;

/// A second picture for the operator to compare: the answer is the first one, and both are paid.
#[tokio::test(flavor = "multi_thread")]
async fn a_shadow_is_made_and_nobody_gets_it() {
    let world = World::with(
        "[routes.real]\ncandidates = ['sandbox/standard']\nshadow = { model = 'sandbox/draft', percent = 100 }\n",
    )
    .await;
    let reply = world.generate(ask("real", "a kite")).await.expect(200);
    assert_eq!((reply.header("x-mimeo-model"), reply.header("x-mimeo-cost-usd")), ("standard", "0.01"));
    world.until(|stats| stats["requests_seen"].as_u64() == Some(2) && stats["in_flight"].as_u64() == Some(0)).await;
    // Its provider is done a moment before its bill is written down.
    let start = Instant::now();
    while world.ledger().await["reserved_usd"] != "0" {
        assert!(start.elapsed() < Duration::from_secs(30), "never settled: {}", world.ledger().await);
    }
    // Neither a hit nor the shadow itself makes another.
    assert_eq!(world.generate(ask("real", "a kite")).await.expect(200).cache(), "hit");
    let ledger = world.ledger().await;
    assert_eq!(ledger["spent_usd"], "0.012", "{ledger}");

    let (code, _, err) = world.run(&["check"]);
    assert_eq!(code, 0, "{err}");
}

/// A shadow is told of beside the request that it shadows, begins nothing by itself, and saves nothing.
#[tokio::test(flavor = "multi_thread")]
async fn a_shadow_says_whose_it_is() {
    let mut world = World::with(
        "[routes.real]\ncandidates = ['sandbox/standard']\nshadow = { model = 'hero', percent = 100 }\n\
         [routes.hero]\ncandidates = ['sandbox/premium']\n[routes.hero.cascade]\ndraft = ['sandbox/draft']\n\
         [routes.both]\ncandidates = ['sandbox/standard']\nshadow = { model = 'sandbox/premium', percent = 100 }\n\
         [routes.both.cascade]\ndraft = ['sandbox/draft']\nfinalize = 'on_pass'\n",
    )
    .await;
    let one = world.generate(ask("real", "a kite")).await.expect(200);
    // A shadow that is there already.
    world.generate(ask("sandbox/premium", "a boat")).await.expect(200);
    world.generate(ask("real", "a boat")).await.expect(200);
    let made = world.generate(ask("both", "a mill")).await.expect(200);
    assert_eq!(made.header("x-mimeo-stage"), "final");
    // A gateway that stops waits for them.
    assert_eq!(world.gateway.terminate(), Some(0));
    world.restart();
    assert_eq!(world.book().await.len(), 7, "four pictures, a draft, and two shadows");

    let story = async |id: &str| world.get(&format!("/v1/requests/{id}")).await.expect(200).body;
    let told = story(one.header("x-request-id")).await;
    let shadow = &told["children"][0];
    assert_eq!((shadow["stage"].as_str(), shadow["cost_usd"].as_str()), (Some("shadow"), Some("0.04")), "{told}");
    assert_eq!((told["cost_usd"].as_str(), told["total_cost_usd"].as_str()), (Some("0.01"), Some("0.05")));
    let told = story(shadow["request_id"].as_str().expect("a name")).await;
    assert_eq!(told["parent"]["request_id"], one.header("x-request-id"));
    let (code, shown, err) = world.run(&["requests", "show", one.header("x-request-id")]);
    assert_eq!(code, 0, "{err}");
    assert!(shown.contains("which was made once more, for comparison, by"), "{shown}");

    // The shadow of a final is no second final.
    let told = story(made.header("x-request-id")).await;
    let finals = told["children"].as_array().expect("a list");
    assert_eq!((finals.len(), finals[0]["stage"].as_str()), (1, Some("final")), "{told}");
    let told = story(finals[0]["request_id"].as_str().expect("a name")).await;
    let shadow = &told["children"][0];
    assert_eq!((shadow["stage"].as_str(), shadow["saved_usd"].as_str()), (Some("shadow"), Some("0")), "{told}");
    let ledger = world.ledger().await;
    assert_eq!(ledger["saved_usd"], "0", "{ledger}");
}

/// As many as the route says, and by what they ask for.
#[tokio::test(flavor = "multi_thread")]
async fn some_requests_have_a_shadow() {
    let mut world = World::with(
        "[routes.real]\ncandidates = ['sandbox/standard']\nshadow = { model = 'sandbox/draft', percent = 25 }\n",
    )
    .await;
    for index in 0..40 {
        assert_eq!(model(&world, ask("real", &format!("kite {index}"))).await, "standard");
    }
    // Who stops has finished what it pays for.
    assert_eq!(world.gateway.terminate(), Some(0));
    let book = world.book().await;
    let shadows = book.iter().filter(|line| line["model"] == "draft").count();
    assert_eq!(book.len(), 40 + shadows);
    assert!((3..=20).contains(&shadows), "{shadows} of 40 for a quarter");
    world.restart();
}
