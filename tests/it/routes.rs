//! Routes: the cheapest that is good enough, fast enough and not busy; and the models that are there without any.

use std::time::{Duration, Instant};

use mimeo::domain::Call;
use serde_json::{Value, json};

use crate::cache::Inside;
use crate::world::{Reply, Server, World};

const THREE: &str = "candidates = ['sandbox/premium', 'sandbox/draft', 'sandbox/standard']\n";

fn ask(model: &str, prompt: &str) -> Value {
    json!({ "model": model, "prompt": prompt, "size": "64x64", "explain": true })
}

fn explain(reply: &Reply) -> String {
    reply.body["mimeo"].to_string()
}

/// A gateway with no providers but these.
async fn bare(config: &str) -> World {
    World::with_files(&format!("[providers.openai]\nenabled = false\n{config}"), |_| Vec::new()).await
}

fn with(mut body: Value, name: &str, value: Value) -> Value {
    body[name] = value;
    body
}

async fn model(world: &World, body: Value) -> String {
    world.generate(body).await.expect(200).header("x-mimeo-model").to_owned()
}

/// A picture that is good enough for a low floor answers nobody who asks for a higher one, although the same candidates
/// serve both; who asks for as much as it is gets it.
#[tokio::test(flavor = "multi_thread")]
async fn a_floor_holds_for_what_is_stored() {
    let world = World::with(&format!(
        "[routes.thumbnail]\n{THREE}objective = 'cost'\nquality_floor = 30\n\
         [routes.hero]\n{THREE}objective = 'cost'\nquality_floor = 80\n\
         [routes.landing]\n{THREE}objective = 'cost'\nquality_floor = 80\n"
    ))
    .await;
    for (route, wanted, cache) in [
        ("thumbnail", "draft", "miss"),
        ("hero", "premium", "miss"),
        ("landing", "premium", "hit"),
        ("thumbnail", "draft", "hit"),
    ] {
        let reply = world.generate(ask(route, "a kite that two routes want")).await.expect(200);
        assert_eq!((reply.header("x-mimeo-model"), reply.header("x-mimeo-cache")), (wanted, cache), "{route}");
    }
}

/// The same words in a category with a higher floor are another request: what was good enough without it is not.
#[tokio::test(flavor = "multi_thread")]
async fn a_floor_of_a_category_holds_for_what_is_stored() {
    let world = World::with(&format!(
        "[routes.shop]\n{THREE}objective = 'cost'\nfloors = {{ glass = 80 }}\n\
         [routes.picky]\ncandidates = [{{ model = 'sandbox/standard', except = ['food'] }}]\n"
    ))
    .await;
    let plain = ask("shop", "one of our kites");
    let glass = with(plain.clone(), "category", json!("glass"));
    for (body, wanted, cache) in
        [(&plain, "draft", "miss"), (&glass, "premium", "miss"), (&plain, "draft", "hit"), (&glass, "premium", "hit")]
    {
        let reply = world.generate(body.clone()).await.expect(200);
        assert_eq!((reply.header("x-mimeo-model"), reply.cache()), (wanted, cache), "{body}");
    }
    // Where nobody says so, the words do.
    assert_eq!(model(&world, ask("shop", "a crystal vase on a plain white background")).await, "premium");
    // What is read for something else saves no steps unless the route wants that: it is the model's own picture.
    let mug = "White ceramic mug on a white background";
    assert_eq!(model(&world, ask("picky", mug)).await, "standard");
    assert_eq!(world.generate(ask("sandbox/standard", mug)).await.expect(200).cache(), "hit");
}

/// The objective decides who is first, the floor who is not asked at all, and the answer says so.
#[tokio::test(flavor = "multi_thread")]
async fn the_cheapest_that_is_good_enough() {
    let world = World::with(&format!(
        "[routes.listed]\n{THREE}[routes.cheap]\n{THREE}objective = 'cost'\n\
         [routes.good]\n{THREE}objective = 'quality'\n\
         [routes.sound]\n{THREE}objective = 'cost'\nquality_floor = 50\nfloors = {{ glass = 80 }}\n\
         [routes.worth]\n{THREE}objective = {{ weights = {{ usd_per_point = '0.01' }} }}\n\
         [routes.perfect]\n{THREE}objective = 'cost'\nquality_floor = 99\n\
         [routes.turbo]\nobjective = 'cost'\ncandidates = ['sandbox/standard', {{ model = 'sandbox/draft', except = ['glass'] }}]\n\
         [routes.chosen]\nobjective = 'cost'\ncandidates = ['sandbox/standard', {{ model = 'sandbox/draft', only = ['food'] }}]\n"
    ))
    .await;
    for (route, wanted) in
        [("listed", "premium"), ("cheap", "draft"), ("good", "premium"), ("sound", "standard"), ("worth", "premium")]
    {
        let reply = world.generate(ask(route, &format!("a kite for {route}"))).await.expect(200);
        assert_eq!(reply.header("x-mimeo-model"), wanted, "{route}: {}", explain(&reply));
    }
    let mut glass = ask("sound", "a bottle");
    glass["category"] = json!("glass");
    let reply = world.generate(glass).await.expect(200);
    assert_eq!(reply.header("x-mimeo-model"), "premium");
    assert!(explain(&reply).contains("category glass asks for 80"), "{}", explain(&reply));

    let mut glass = ask("turbo", "a bottle of glass");
    assert_eq!(model(&world, glass.clone()).await, "draft");
    glass["category"] = json!("glass");
    let reply = world.generate(glass).await.expect(200);
    assert_eq!(reply.header("x-mimeo-model"), "standard");
    assert!(explain(&reply).contains("does not ask it for the category glass"), "{}", explain(&reply));

    let food = with(ask("chosen", "a soup"), "category", json!("food"));
    assert_eq!(model(&world, food.clone()).await, "draft");
    assert_eq!(model(&world, with(food, "category", json!("glass"))).await, "standard");

    let before = world.book().await.len();
    let reply = world.generate(ask("perfect", "a kite")).await.expect(503);
    assert_eq!(reply.code(), "below_floor", "{}", reply.body);
    assert_eq!(reply.header("x-should-retry"), "false", "a second later the floor is the same");
    assert!(
        reply.message().contains("rated 85 of 100") && reply.message().contains("asks for 99"),
        "{}",
        reply.message()
    );
    assert_eq!(world.book().await.len(), before, "nobody was asked");
}

/// Who is little known is taken for better than it is thought to be now and then, by what is asked for; but a floor is
/// about what is known, and no draw lifts anybody over it or pushes anybody below.
#[tokio::test(flavor = "multi_thread")]
async fn the_best_is_drawn_within_the_floor() {
    let world = World::with(&format!("[routes.good]\n{THREE}objective = 'quality'\nquality_floor = 50\n")).await;
    let mut first = Vec::new();
    for index in 0..40 {
        let reply = world.generate(ask("good", &format!("kite {index}"))).await.expect(200);
        let candidates = reply.body["mimeo"]["story"]["candidates"].as_array().expect("a list").clone();
        let of = |model: &str| {
            let name = format!("sandbox/{model}");
            candidates.iter().find(|one| one["name"] == name.as_str()).expect("it is told").clone()
        };
        assert_eq!(of("draft")["reason"]["code"], "below_floor", "{candidates:?}");
        assert!(of("standard")["rank"].is_u64() && of("premium")["rank"].is_u64(), "{candidates:?}");
        first.push((
            reply.header("x-mimeo-model").to_owned(),
            [of("standard")["score"].clone(), of("premium")["score"].clone()],
        ));
    }
    let tried = first.iter().filter(|(model, _)| model == "standard").count();
    assert!((1..20).contains(&tried), "{tried} of 40 go to the one that is thought to be worse");
    // The same request draws the same.
    let mut again = ask("good", "kite 7");
    again["cache"] = json!({ "mode": "no-cache" });
    let reply = world.generate(again).await.expect(200);
    let candidates = reply.body["mimeo"]["story"]["candidates"].as_array().expect("a list");
    let scores = ["standard", "premium"].map(|model| {
        let name = format!("sandbox/{model}");
        candidates.iter().find(|one| one["name"] == name.as_str()).expect("it is told")["score"].clone()
    });
    assert_eq!((reply.header("x-mimeo-model"), &scores), (first[7].0.as_str(), &first[7].1));
    assert_ne!(first[6].1, first[7].1);
}

/// What a request may cost rules out who is dearer, instead of failing at them.
#[tokio::test(flavor = "multi_thread")]
async fn money_rules_out_the_dear() {
    let world = World::with(&format!(
        "[providers.box]\nrecord = 'openai-compatible'\nbase_url = '{{sandbox}}/compatible/v1'\n\
         [routes.good]\n{THREE}objective = 'quality'\n\
         [routes.vague]\ncandidates = ['box/sandbox-image', 'sandbox/draft']\n"
    ))
    .await;
    // What nobody knows the price of is no bargain.
    let vague = world.generate(with(ask("vague", "a kite"), "max_spend_usd", json!("0.02"))).await.expect(200);
    assert_eq!(vague.header("x-mimeo-model"), "draft", "{}", explain(&vague));
    assert!(explain(&vague).contains("nobody knows what it costs"), "{}", explain(&vague));
    let vague = with(ask("box/sandbox-image", "a kite"), "max_spend_usd", json!("0.02"));
    assert_eq!(world.generate(vague).await.expect(429).code(), "price_unknown");
    let mut body = ask("good", "a kite");
    body["max_spend_usd"] = json!("0.02");
    assert_eq!(model(&world, body.clone()).await, "standard");
    body["max_spend_usd"] = json!("0.001");
    body["prompt"] = json!("another kite");
    assert_eq!(world.generate(body).await.expect(429).code(), "max_spend_exceeded");
}

/// Hours and regions.
#[tokio::test(flavor = "multi_thread")]
async fn hours_and_regions() {
    let hour = jiff::Timestamp::now().to_zoned(jiff::tz::TimeZone::UTC).hour();
    let (from, until) = ((hour + 2) % 24, (hour + 3) % 24);
    let world = World::with(&format!(
        "[routes.night]\nobjective = 'cost'\ncandidates = [{{ model = 'sandbox/draft', hours = '{from:02}:00-{until:02}:00' }}, \
         'sandbox/standard']\n\
         [routes.near]\nobjective = 'cost'\nregions = ['eu', 'us']\ncandidates = ['sandbox/draft', \
         {{ model = 'sandbox/standard', region = 'us' }}, {{ model = 'sandbox/premium', region = 'eu' }}]\n\
         [routes.only]\nobjective = 'cost'\nregions = ['us']\nregions_only = true\ncandidates = ['sandbox/draft', \
         {{ model = 'sandbox/standard', region = 'us' }}]\n\
         [providers.abroad]\nrecord = 'sandbox'\nbase_url = '{{sandbox}}/native/v1'\nregion = 'us'\n\
         [routes.there]\nobjective = 'cost'\nregions = ['us']\nregions_only = true\n\
         candidates = ['sandbox/draft', 'abroad/standard', {{ model = 'abroad/draft', region = 'eu' }}]\n"
    ))
    .await;
    let night = world.generate(ask("night", "a kite")).await.expect(200);
    assert_eq!(night.header("x-mimeo-model"), "standard");
    assert!(explain(&night).contains("UTC only"), "{}", explain(&night));
    assert_eq!(model(&world, ask("near", "a kite")).await, "premium");
    assert_eq!(model(&world, ask("only", "a kite")).await, "standard");
    let there = world.generate(ask("there", "a kite that is drawn there")).await.expect(200);
    assert_eq!((there.header("x-mimeo-provider"), there.header("x-mimeo-model")), ("abroad", "standard"));
    assert!(
        explain(&there).contains("it is in no region") && explain(&there).contains("it is in eu"),
        "{}",
        explain(&there)
    );
}

/// By the clock, in UTC, over midnight.
#[tokio::test(flavor = "multi_thread")]
async fn a_candidate_keeps_its_hours() {
    let inside = Inside::with(
        "[routes.night]\nobjective = 'cost'\ncandidates = [{ model = 'sandbox/draft', hours = '22:00-06:00' }, \
         'sandbox/standard']\n",
    )
    .await;
    // It begins at noon.
    for (later, wanted) in
        [(0, "standard"), (10 * 3600 - 60, "standard"), (60, "draft"), (8 * 3600 - 60, "draft"), (60, "standard")]
    {
        inside.later(later);
        let prompt = format!("a kite, {later} s after the one before, for {wanted}");
        let answer = inside.run(Call { model: Some("night".into()), ..inside.call(&prompt) }).await;
        assert_eq!(answer.pictures[0].model, wanted, "{prompt}");
    }
    inside.end().await;
}

/// Shares divide requests; the same request always goes the same way, and who stands in takes over.
#[tokio::test(flavor = "multi_thread")]
async fn requests_are_dealt_by_what_they_ask_for() {
    let world = World::with(
        "[routes.test]\ncandidates = [{ model = 'sandbox/draft', share = 25 }, { model = 'sandbox/standard', share = 75 }, \
         'sandbox/premium']\n",
    )
    .await;
    let mut drafts = 0;
    for index in 0..60 {
        let body = ask("test", &format!("kite {index}"));
        let first = model(&world, body.clone()).await;
        assert!(first != "premium");
        drafts += usize::from(first == "draft");
        let again = world.generate(body).await.expect(200);
        assert_eq!((again.cache(), again.header("x-mimeo-model")), ("hit", first.as_str()));
    }
    assert!((5..=27).contains(&drafts), "{drafts} of 60 for a quarter");
    // The arm that a request is dealt to fails: not the other arm, but the one without a share.
    let reply = world.generate(ask("test", "a kite that fails [[fail=503*1]]")).await.expect(200);
    assert_eq!(reply.header("x-mimeo-model"), "premium", "{}", explain(&reply));
}

/// A share is of all requests, wherever it is listed and whatever the objective: who has none gets the rest.
#[tokio::test(flavor = "multi_thread")]
async fn who_has_no_share_gets_the_rest() {
    let world = World::with(
        "[routes.trial]\ncandidates = ['sandbox/standard', { model = 'sandbox/premium', share = 25 }]\n\
         [routes.cheap]\nobjective = 'cost'\n\
         candidates = ['sandbox/standard', { model = 'sandbox/premium', share = 25 }]\n",
    )
    .await;
    for route in ["trial", "cheap"] {
        let mut dealt = 0;
        for index in 0..60 {
            dealt += usize::from(model(&world, ask(route, &format!("kite {index}"))).await == "premium");
        }
        assert!((5..=27).contains(&dealt), "{route}: {dealt} of 60 for a quarter");
    }
}

/// Who is there for certain categories only is not asked for anything else, nor where nobody knows what it is.
#[tokio::test(flavor = "multi_thread")]
async fn who_is_for_one_category_makes_no_other() {
    let world = World::with(
        "[routes.shop]\nobjective = 'cost'\ncandidates = [{ model = 'sandbox/draft', only = ['glass'] }, 'sandbox/standard']\n\
         [routes.glass]\ncandidates = [{ model = 'sandbox/draft', only = ['glass'] }]\n",
    )
    .await;
    let reply = world.generate(ask("shop", "xyzzy")).await.expect(200);
    assert_eq!(reply.header("x-mimeo-model"), "standard", "{}", explain(&reply));
    assert!(explain(&reply).contains("the route asks it for glass only"), "{}", explain(&reply));
    let refused = world.generate(ask("glass", "xyzzy")).await.expect(400);
    assert!(refused.message().contains("`category`"), "{}", refused.message());
    for route in ["shop", "glass"] {
        let mut glass = ask(route, "xyzzy");
        glass["category"] = json!("glass");
        assert_eq!(model(&world, glass).await, "draft", "{route}");
    }
}

/// While the first are busy the overflow takes over, and the backup is for when nothing else is left.
#[tokio::test(flavor = "multi_thread")]
async fn overflow_takes_over_while_the_first_are_busy() {
    let world = World::with(
        "[providers.narrow]\nrecord = 'sandbox'\nbase_url = '{sandbox}/native/v1'\nlimits = { concurrent = 1, queue = 9 }\n\
         [routes.wide]\ncandidates = [{ model = 'sandbox/premium', role = 'backup' }, \
         { model = 'sandbox/standard', role = 'overflow' }, 'narrow/draft']\n",
    )
    .await;
    let slow = world.client.post(format!("{}/v1/images/generations", world.gateway.url));
    let slow = tokio::spawn(
        slow.body(ask("wide", "a slow kite [[latency=1500]]").to_string())
            .header("content-type", "application/json")
            .send(),
    );
    world.until(|stats| stats["in_flight"].as_u64() == Some(1)).await;
    assert_eq!(model(&world, ask("wide", "a quick kite")).await, "standard");
    let slow = slow.await.expect("it ends").expect("an answer");
    assert_eq!(slow.headers()["x-mimeo-model"], "draft");
    assert_eq!(model(&world, ask("wide", "a later kite")).await, "draft");
}

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

/// The models that are there without being configured, listed like any other.
#[tokio::test(flavor = "multi_thread")]
async fn virtual_models_are_there() {
    let mut world = bare("[providers.sandbox]\nbase_url = '{sandbox}/native/v1'\n").await;
    let models = world.get("/v1/models").await.expect(200).body.to_string();
    for (name, wanted) in [
        ("draft", "draft"),
        ("thumbnail", "draft"),
        ("standard", "standard"),
        ("premium", "premium"),
        ("hero", "premium"),
    ] {
        assert!(models.contains(&format!("\"id\":\"{name}\"")), "{name}: {models}");
        assert_eq!(model(&world, ask(name, &format!("a kite for {name}"))).await, wanted, "{name}");
    }
    // What is small is read as a thumbnail.
    assert_eq!(model(&world, ask("auto", "a kite for auto")).await, "draft");
    let mut body = ask("auto", "a large kite");
    body["size"] = json!("1024x1024");
    assert_eq!(model(&world, body.clone()).await, "standard");
    body["purpose"] = json!("hero");
    assert_eq!(model(&world, body.clone()).await, "premium");
    body["purpose"] = json!("thumbnail");
    assert_eq!(model(&world, body).await, "draft");
    // Nobody names a model: it is `auto`.
    let reply = world.generate(json!({ "prompt": "a kite without a model", "size": "1024x1024" })).await.expect(200);
    assert_eq!(reply.header("x-mimeo-model"), "standard");

    // Who else could make it is nothing that a picture depends on: one more provider makes none unfindable.
    let file = world.folder.0.join("mimeo.toml");
    let text = std::fs::read_to_string(&file).expect("there");
    let more = text.replace("enabled = false", &format!("base_url = '{}/openai/v1'", world.sandbox.url));
    std::fs::write(&file, more).expect("written");
    world.restart();
    for name in ["draft", "standard", "hero"] {
        let again = world.generate(ask(name, &format!("a kite for {name}"))).await.expect(200);
        assert_eq!(again.cache(), "hit", "{name}: {}", explain(&again));
    }
}

/// Without any provider there is a card, and it says what it is; what no card can do is refused with what to do.
#[tokio::test(flavor = "multi_thread")]
async fn without_providers_there_is_a_card() {
    let world = bare("").await;
    let reply =
        world.generate(json!({ "model": "auto", "prompt": "Spring sale", "size": "1200x630" })).await.expect(200);
    assert_eq!((reply.header("x-mimeo-provider"), reply.header("x-mimeo-cost-usd")), ("template", "0"));
    assert!(reply.header("x-mimeo-warning").contains("no provider is there"), "{}", explain(&reply));
    let reply = world.generate(json!({ "model": "hero", "prompt": "Spring sale", "n": 2 })).await.expect(404);
    assert_eq!(reply.code(), "no_provider", "{}", reply.body);
    assert!(reply.message().contains("mimeo providers --all"), "{}", reply.message());
}

/// What a route says wrongly is told with its line.
#[tokio::test(flavor = "multi_thread")]
async fn faults_are_told() {
    let world = World::new().await;
    for (text, told) in [
        ("[routes.a]\ncandidates = [{ model = 'sandbox/draft', hours = 'night' }]\n", "22:00-06:00"),
        ("[routes.a]\ncandidates = ['sandbox/draft']\nobjective = 'cheapest'\n", "cost"),
        (
            "[routes.a]\ncandidates = ['sandbox/draft']\nshadow = { model = 'sandbox/drafft', percent = 5 }\n",
            "did you mean draft",
        ),
        ("[routes.a]\ncandidates = ['sandbox/draft']\nshadow = { model = 'a', percent = 5 }\n", "for ever"),
        // Who decides by itself may decide on this very route.
        ("[routes.hero]\ncandidates = ['sandbox/draft']\nshadow = { model = 'auto', percent = 5 }\n", "for ever"),
        ("[routes.a]\ncandidates = ['sandbox/draft']\nquality_floor = 120\n", "0 to 100"),
        ("[routes.a]\ncandidates = ['sandbox/draft']\nquality_floor = 999\n", "a whole number from 0 to 255"),
        ("[routes.a]\ncandidates = ['sandbox/draft']\ndeadline_ms = 0\n", "deadline_ms = 0"),
        ("[routes.a]\ncandidates = ['sandbox/draft']\nslow_s = 0\n", "slow_s = 0"),
        ("[routes.a]\ncandidates = ['b']\n[routes.b]\ncandidates = ['sandbox/draft']\n", "b is a route"),
        ("[routes.a]\ncandidates = ['hero']\n", "hero is a route"),
        ("[routes.a]\ncandidates = [{ model = 'sandbox/draft', share = 25 }]\n", "add up to 25"),
        (
            "[routes.a]\ncandidates = [{ model = 'sandbox/draft', only = ['glass'], except = ['glass'] }]\n",
            "both `only` and `except`",
        ),
        ("[prices]\nfeeds = [{ file = 'p.csv', format = 'csv' }]\n", "model=…, price=…"),
        ("[prices]\nfeeds = [{ file = 'p.json', format = 'litellm', map = { model = 'm' } }]\n", "map"),
        (
            "[prices]\nfeeds = [{ url = 'https://a.example/p?1', format = 'litellm' }, \
             { url = 'https://a.example/p?2', format = 'litellm' }]\n",
            "two are called https://a.example/p",
        ),
    ] {
        let file = world.data().with_file_name("wrong.toml");
        std::fs::write(&file, format!("[providers.sandbox]\n{text}")).expect("written");
        let (code, out, err) = world.run(&["check", "--config", &file.to_string_lossy()]);
        assert_eq!(code, 64, "{text}: {out}");
        assert!(err.contains(told), "{text}: {err}");
    }
}

/// What the classifier came to is told with the candidate that it was for.
#[tokio::test(flavor = "multi_thread")]
async fn steps_are_told() {
    let world = World::with("[routes.easy]\ncandidates = ['sandbox/standard']\ndynamic_steps = true\n").await;
    let reply = world.generate(ask("easy", "White ceramic mug on a white background")).await.expect(200);
    assert!(explain(&reply).contains("1. sandbox/standard (25 steps)"), "{}", explain(&reply));
}

/// What cannot be served by anybody is no fault, as people may think otherwise of a model, or a model come: a warning.
#[tokio::test(flavor = "multi_thread")]
async fn routes_that_nobody_can_serve_are_warned_of() {
    let world = World::with(
        "[routes.dream]\ncandidates = ['sandbox/standard']\nquality_floor = 99\n\
         [routes.glass]\ncandidates = ['sandbox/standard']\nfloors = { glass = 90 }\n\
         [routes.near]\ncandidates = ['sandbox/standard']\nregions = ['eu']\nregions_only = true\n\
         [routes.fine]\ncandidates = [{ model = 'sandbox/standard', region = 'eu', rating = 99, hours = '00:00-24:00' }]\n\
         quality_floor = 99\nregions = ['eu']\nregions_only = true\n",
    )
    .await;
    let (code, out, err) = world.run(&["check"]);
    assert_eq!(code, 0, "{err}");
    for told in ["routes.dream: no candidate", "routes.glass: no candidate", "routes.near: no candidate"] {
        assert!(out.contains(told), "{told}: {out}");
    }
    assert!(!out.contains("routes.fine"), "{out}");
}

/// Whom a route would ask, and why not the others, without asking anybody.
#[tokio::test(flavor = "multi_thread")]
async fn routes_are_listed_and_shown() {
    let world = World::with(&format!(
        "[providers.twin]\nrecord = 'sandbox'\nbase_url = '{{sandbox}}/native/v1'\n\
         [routes.even]\nobjective = 'cost'\ncandidates = ['sandbox/draft', 'twin/draft']\n\
         [routes.sound]\n{THREE}objective = 'cost'\nquality_floor = 50\n"
    ))
    .await;
    let (code, out, err) = world.run(&["routes", "--json"]);
    assert_eq!(code, 0, "{err}");
    let listed: Value = serde_json::from_str(&out).expect("JSON");
    let names: Vec<&str> = listed.as_array().expect("a list").iter().filter_map(|one| one["name"].as_str()).collect();
    assert_eq!(names, ["even", "sound", "draft", "hero", "premium", "standard", "thumbnail", "auto"]);
    // A probe is a matter of one request, and not what a route asks.
    assert_eq!(listed[0]["candidates"], json!(["sandbox/draft", "twin/draft"]));
    assert_eq!(listed[1]["candidates"], json!(["sandbox/standard", "sandbox/premium", "sandbox/draft"]));
    let (code, out, _) = world.run(&["routes", "show", "sound"]);
    assert!(code == 0 && out.contains("cheapest, of at least 50 points") && out.contains("rated 35 of 100"), "{out}");
    let (code, _, err) = world.run(&["routes", "show", "sounds"]);
    assert!(code == 1 && err.ends_with("did you mean sound?\n"), "{err}");
    assert!(world.book().await.is_empty());
}

/// A cheap model that does badly on glass is taken off glass, and off nothing else; the explanation says so.
#[tokio::test(flavor = "multi_thread")]
async fn people_take_a_model_off_a_category() {
    let world = World::with(&format!("[routes.shop]\n{THREE}objective = 'cost'\nquality_floor = 30\n")).await;
    let glass = |index: usize| {
        let mut body = ask("shop", &format!("bottle {index}"));
        body["category"] = json!("glass");
        body
    };
    for index in 0..16 {
        let made = world.generate(glass(index)).await.expect(200);
        let model = made.header("x-mimeo-model").to_owned();
        let image = made.body["mimeo"]["images"][0]["id"].as_str().expect("an id").to_owned();
        let word = json!({ "image_id": image, "accepted": model != "draft" });
        world.post("/v1/feedback", word).await.expect(200);
    }
    let made = world.generate(glass(99)).await.expect(200);
    assert_eq!(made.header("x-mimeo-model"), "standard", "{}", explain(&made));
    assert!(explain(&made).contains("opinions, and the route asks for 30"), "{}", explain(&made));
    let mut food = ask("shop", "a soup");
    food["category"] = json!("food");
    assert_eq!(model(&world, food).await, "draft");
}
