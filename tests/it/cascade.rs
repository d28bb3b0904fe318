//! A draft first, the final on approval or by itself: what is made, what is paid, and what is told of it.

use futures_util::future::join_all;
use mimeo::domain::{Caller, RequestId, Usd};
use mimeo::error::Kind;
use mimeo::http::auth::new_key;
use mimeo::pipeline::Approval;
use serde_json::{Value, json};

use crate::cache::Inside;
use crate::world::{Folder, Reply, World, binary, outcome, reply};

/// A route whose draft costs $0.002 and whose final $0.04.
fn hero(finalize: &str) -> String {
    format!(
        "[routes.hero]\ncandidates = ['sandbox/premium']\n\
         [routes.hero.cascade]\ndraft = ['sandbox/draft']\nfinalize = '{finalize}'\n"
    )
}

fn kite(prompt: &str) -> Value {
    json!({ "model": "hero", "prompt": prompt, "size": "64x64" })
}

fn with(mut body: Value, name: &str, value: Value) -> Value {
    body[name] = value;
    body
}

/// Stage, maker, cost and saving.
fn came_to(reply: &Reply) -> [&str; 4] {
    ["x-mimeo-stage", "x-mimeo-model", "x-mimeo-cost-usd", "x-mimeo-saved-usd"].map(|name| reply.header(name))
}

fn warnings(reply: &Reply) -> String {
    let all = reply.headers.get_all("x-mimeo-warning").iter();
    all.map(|value| value.to_str().expect("text")).collect::<Vec<_>>().join("; ")
}

async fn finalize(world: &World, draft: &Reply, body: Value) -> Reply {
    let path = draft.body["mimeo"]["cascade"]["finalize_url"].as_str().expect("a place to go");
    world.post(path, body).await
}

/// What the cascade has saved.
async fn spared(world: &World) -> String {
    let report = world.ledger().await;
    let layers = report["saved_by_layer"].as_array().expect("a list");
    let cascade = layers.iter().find(|layer| layer["layer"] == "cascade");
    cascade.map_or_else(|| "nothing".to_owned(), |layer| layer["saved_usd"].as_str().expect("an amount").to_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_draft_is_made_final_once_also_after_a_restart() {
    let mut world = World::with(&hero("approval")).await;
    let draft = world.generate(kite("a kite")).await.expect(200);
    assert_eq!(came_to(&draft), ["draft", "draft", "0.002", "0.038"]);
    let told = &draft.body["mimeo"]["cascade"];
    assert_eq!((told["stage"].as_str(), told["final_expected_usd"].as_str()), (Some("draft"), Some("0.04")));
    assert_eq!(told["image_id"], draft.body["mimeo"]["images"][0]["id"]);
    assert_eq!(spared(&world).await, "0.038");
    let again = world.generate(kite("a kite")).await.expect(200);
    assert_eq!((again.cache(), again.header("x-mimeo-stage")), ("hit", "draft"), "what is drawn is the same seed");
    assert_eq!(spared(&world).await, "0.076", "twice the premium was not paid");

    assert_eq!(world.gateway.terminate(), Some(0));
    world.restart();
    let made = finalize(&world, &draft, json!({})).await.expect(200);
    assert_eq!(came_to(&made), ["final", "premium", "0.04", "-0.038"]);
    assert_eq!(made.body["mimeo"]["cascade"]["draft_request_id"], again.header("x-request-id"), "the latest");
    assert_eq!(spared(&world).await, "0.038", "one was made after all");
    let repeated = finalize(&world, &draft, json!({})).await.expect(200);
    assert_eq!((repeated.cache(), repeated.header("x-mimeo-cost-usd")), ("hit", "0"), "one bill");
    assert_eq!(repeated.pictures(), made.pictures());
    assert_eq!(spared(&world).await, "0.038");
    let book = world.book().await;
    assert_eq!(book.iter().map(|line| line["model"].as_str().expect("text")).collect::<Vec<_>>(), ["draft", "premium"]);
    assert_eq!(book[0]["prompt"], book[1]["prompt"]);

    // Both are one story.
    let story = world.get(&format!("/v1/requests/{}", again.header("x-request-id"))).await.expect(200).body;
    assert_eq!((story["stage"].as_str(), story["route"].as_str()), (Some("draft"), Some("hero")));
    let finals = story["children"].as_array().expect("a list");
    assert_eq!(finals.len(), 2);
    assert_eq!((finals[0]["stage"].as_str(), finals[0]["cost_usd"].as_str()), (Some("final"), Some("0.04")));
    assert_eq!(story["total_cost_usd"], "0.04", "the draft was there");
    let child = world.get(&format!("/v1/requests/{}", made.header("x-request-id"))).await.expect(200).body;
    assert_eq!(child["parent"]["request_id"], again.header("x-request-id"));
    let (code, shown, err) = world.run(&["requests", "show", again.header("x-request-id")]);
    assert_eq!(code, 0, "{err}");
    for part in ["draft of hero", "which was followed by", "final of hero", "together: cost $0.04"] {
        assert!(shown.contains(part), "`{part}` is not in:\n{shown}");
    }

    // Another size or quality is another picture.
    let wide = finalize(&world, &draft, json!({ "size": "128x64" })).await.expect(200);
    assert_eq!((wide.cache(), wide.body["size"].as_str()), ("miss", Some("128x64")));
    assert_eq!(finalize(&world, &draft, json!({ "prompt": "a boat" })).await.expect(400).code(), "unknown_parameter");
    assert_eq!(world.book().await.len(), 3);
}

/// However many approve it at once, and whatever was refused before.
#[tokio::test(flavor = "multi_thread")]
async fn a_crowd_makes_a_draft_final_once() {
    let world = World::with(&hero("approval")).await;
    let draft = world.generate(kite("a kite [[latency=300]]")).await.expect(200);
    let poor = finalize(&world, &draft, json!({ "max_spend_usd": "0.039" })).await.expect(429);
    assert_eq!((poor.code(), spared(&world).await.as_str()), ("max_spend_exceeded", "0.038"), "it was not made");
    let finals = join_all((0..12).map(|_| finalize(&world, &draft, json!({})))).await;
    let finals: Vec<Vec<Vec<u8>>> = finals.into_iter().map(|reply| reply.expect(200).pictures()).collect();
    assert!(finals.iter().all(|pictures| *pictures == finals[0]));
    assert_eq!(world.book().await.len(), 2, "one draft and one final");
    assert_eq!(spared(&world).await, "0", "what was noted as saved is taken back, and no more");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_seed_carries_over_and_each_draft_has_its_own_final() {
    let world = World::with(&hero("approval")).await;
    let drafts = world.generate(with(with(kite("a kite"), "seed", json!(41)), "n", json!(2))).await.expect(200);
    assert_eq!(came_to(&drafts), ["draft", "draft", "0.004", "0.076"]);
    let both = drafts.body["mimeo"]["cascade"]["drafts"].as_array().expect("two of them").clone();
    for (index, draft) in both.iter().enumerate() {
        let path = draft["finalize_url"].as_str().expect("a place to go");
        let made = world.post(path, json!({})).await.expect(200);
        assert_eq!((made.cache(), made.header("x-mimeo-cost-usd")), ("miss", "0.04"));
        let direct = json!({ "model": "sandbox/premium", "prompt": "a kite", "size": "64x64", "seed": 41 + index });
        let direct = world.generate(direct).await.expect(200);
        assert_eq!(direct.cache(), "hit", "the final has the draft's seed, the second one the next");
        assert_eq!(direct.pictures(), made.pictures());
    }
    assert_eq!(spared(&world).await, "0", "all was made");
    // Who wants a new draft gets one.
    let fresh = with(kite("a boat"), "cache", json!({ "mode": "no-cache" }));
    let one = world.generate(fresh.clone()).await.expect(200);
    let other = world.generate(fresh).await.expect(200);
    assert_ne!(one.pictures(), other.pictures(), "with a seed of its own");
    for draft in [one, other] {
        assert_eq!(finalize(&world, &draft, json!({})).await.expect(200).cache(), "miss", "and so has its final");
    }
    // Where several pictures answer the same, each is drawn as the model likes: one seed for all would be one picture.
    let mill = json!({ "model": "sandbox/draft", "prompt": "a mill", "size": "64x64" });
    let many = world.generate(with(kite("a mill"), "cache", json!({ "variants": 3 }))).await.expect(200);
    assert_eq!((many.header("x-mimeo-stage"), world.generate(mill).await.expect(200).cache()), ("draft", "hit"));
}

/// How good the picture is to be is said of the final; the draft is as cheap as its model can be.
#[tokio::test(flavor = "multi_thread")]
async fn the_quality_that_is_asked_for_is_the_finals() {
    let world = World::with(
        "[routes.hero]\ncandidates = ['openai/gpt-image-2']\n[routes.hero.cascade]\ndraft = ['openai/gpt-image-2']\n",
    )
    .await;
    let large = |prompt: &str| with(kite(prompt), "size", json!("1024x1024"));
    let asked = with(large("a kite"), "quality", json!("high"));
    let draft = world.generate(asked).await.expect(200);
    finalize(&world, &draft, json!({})).await.expect(200);
    // What is said when it is approved goes before both ways to say it earlier.
    let tiered = with(large("a boat"), "quality_tier", json!("premium"));
    let draft = world.generate(tiered).await.expect(200);
    finalize(&world, &draft, json!({ "quality": "medium" })).await.expect(200);
    let book = world.book().await;
    let qualities: Vec<&str> = book.iter().map(|line| line["quality"].as_str().expect("text")).collect();
    assert_eq!(qualities, ["low", "high", "low", "medium"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_edit_is_made_final_from_the_same_picture() {
    let mut world = World::with(
        "[routes.hero]\ncandidates = ['openai/gpt-image-2@high']\n\
         [routes.hero.cascade]\ndraft = ['openai/gpt-image-2@low']\n",
    )
    .await;
    let input = json!({ "model": "sandbox/draft", "prompt": "an input", "size": "64x64" });
    let input = world.generate(input).await.expect(200).pictures().remove(0);
    let url = format!("data:image/png;base64,{}", base64_simd::STANDARD.encode_to_string(&input));
    let body = json!({ "model": "hero", "prompt": "at night", "size": "1024x1024", "image": url });
    let draft = world.post("/v1/images/edits", body.clone()).await.expect(200);
    assert_eq!(draft.header("x-mimeo-stage"), "draft");
    world.restart();
    let made = finalize(&world, &draft, json!({})).await.expect(200);
    assert_eq!(made.header("x-mimeo-stage"), "final");
    let book = world.book().await;
    let line = |index: usize| ["operation", "quality", "prompt"].map(|name| book[index][name].as_str().expect("text"));
    assert_eq!([line(1), line(2)], [["edit", "low", "at night"], ["edit", "high", "at night"]]);
    let direct = with(with(body, "model", json!("openai/gpt-image-2")), "quality", json!("high"));
    assert_eq!(world.post("/v1/images/edits", direct).await.expect(200).cache(), "hit", "of the same picture");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_draft_is_made_final_at_once() {
    let world = World::with(&hero("on_fail")).await;
    let good = world.generate(kite("a kite")).await.expect(200);
    assert_eq!(came_to(&good), ["draft", "draft", "0.002", "0.038"]);
    assert_eq!(warnings(&good), "");
    let bad = world.generate(kite("a boat [[blank-picture*1]]")).await.expect(200);
    assert_eq!(came_to(&bad), ["final", "premium", "0.042", "0"], "both are paid, and nothing is saved");
    assert!(warnings(&bad).contains("the draft is all of one colour"), "{}", warnings(&bad));
    assert_eq!(spared(&world).await, "0.038");
    assert_eq!(world.book().await.len(), 3);
    let story = world.get(&format!("/v1/requests/{}", bad.header("x-request-id"))).await.expect(200).body;
    assert_eq!((story["stage"].as_str(), story["children"][0]["stage"].as_str()), (Some("draft"), Some("final")));
    assert_eq!((story["total_cost_usd"].as_str(), story["total_saved_usd"].as_str()), (Some("0.042"), Some("0")));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_good_draft_is_made_final_at_once_and_a_bad_one_is_not() {
    let world = World::with(&hero("on_pass")).await;
    let good = world.generate(kite("a kite")).await.expect(200);
    assert_eq!(came_to(&good), ["final", "premium", "0.042", "0"]);
    let bad = world.generate(kite("a boat [[blank-picture*1]]")).await.expect(200);
    assert_eq!(came_to(&bad), ["draft", "draft", "0.002", "0.038"]);
    assert!(warnings(&bad).contains("all of one colour; so no final was made"), "{}", warnings(&bad));
    assert_eq!(world.book().await.len(), 3, "no premium money on a bad prompt");
    let story = world.get(&format!("/v1/requests/{}", bad.header("x-request-id"))).await.expect(200).body;
    assert!(story["warnings"].to_string().contains("no final was made"), "{story}");
    assert_eq!(finalize(&world, &bad, json!({})).await.expect(200).header("x-mimeo-stage"), "final", "if one must");

    // One limit for both.
    let poor = world.generate(with(kite("a mill"), "max_spend_usd", json!("0.041"))).await.expect(200);
    assert_eq!(came_to(&poor), ["draft", "draft", "0.002", "0.038"]);
    assert!(warnings(&poor).contains("max_spend_usd is 0.039"), "{}", warnings(&poor));
    let enough = world.generate(with(kite("a hill"), "max_spend_usd", json!("0.042"))).await.expect(200);
    assert_eq!(enough.header("x-mimeo-stage"), "final");

    // What is said of a request is said of the picture that its caller got, and both are in the ledger under its name.
    let said = json!({ "request_id": good.header("x-request-id"), "rating": 5 });
    let told = world.post("/v1/feedback", said).await.expect(200).body;
    assert_eq!(told["images"], json!([good.body["mimeo"]["images"][0]["id"]]));
    assert_eq!(told["quality"][0]["candidate"], "sandbox/premium");
    let said = json!({ "request_id": bad.header("x-request-id"), "rating": 1 });
    let told = world.post("/v1/feedback", said).await.expect(200).body;
    assert_eq!(told["quality"][0]["candidate"], "sandbox/draft", "{told}");
}

/// One picture may be the draft of requests that differ in what is said of the final: each gets its own.
#[tokio::test(flavor = "multi_thread")]
async fn a_final_is_what_was_asked_for_with_its_draft() {
    let world = World::with(
        "[routes.hero]\ncandidates = ['openai/gpt-image-2']\n\
         [routes.hero.cascade]\ndraft = ['sandbox/draft']\n",
    )
    .await;
    let ask = |quality: &str| with(with(kite("a kite"), "size", json!("1024x1024")), "quality", json!(quality));
    let dear = world.generate(ask("high")).await.expect(200);
    let cheap = world.generate(ask("low")).await.expect(200);
    assert_eq!((cheap.cache(), &cheap.body["mimeo"]["images"]), ("hit", &dear.body["mimeo"]["images"]), "one draft");
    let story = |reply: &Reply| reply.body["mimeo"]["cascade"]["draft_request_id"].clone();
    let made = finalize(&world, &dear, json!({})).await.expect(200);
    assert_eq!((&made.body["quality"], story(&made)), (&json!("high"), json!(dear.header("x-request-id"))));
    let made = finalize(&world, &cheap, json!({})).await.expect(200);
    assert_eq!((&made.body["quality"], story(&made)), (&json!("low"), json!(cheap.header("x-request-id"))));
    // Who names the picture alone gets what was asked for last; a wish that nobody had is no draft.
    let path = format!("/v1/images/{}/finalize", dear.body["mimeo"]["cascade"]["image_id"].as_str().expect("a name"));
    let last = world.post(&path, json!({})).await.expect(200);
    assert_eq!((last.cache(), &last.body["quality"]), ("hit", &json!("low")));
    assert_eq!(
        world.post(&format!("{path}?wish=0123456789abcdef"), json!({})).await.expect(404).code(),
        "draft_not_found"
    );
    assert_eq!(world.post(&format!("{path}?wsh=1"), json!({})).await.expect(400).code(), "unknown_parameter");
}

/// Who hangs up has had it made all the same, so it is not counted as saved.
#[tokio::test(flavor = "multi_thread")]
async fn a_final_that_nobody_waits_for_is_taken_back_as_well() {
    for finalize_when in ["approval", "on_pass"] {
        let mut world = World::with(&hero(finalize_when)).await;
        let mut path = "/v1/images/generations".to_owned();
        let mut body = kite("a kite");
        if finalize_when == "approval" {
            let draft = world.generate(body).await.expect(200);
            path = draft.body["mimeo"]["cascade"]["finalize_url"].as_str().expect("a place to go").to_owned();
            body = json!({});
        } else {
            // The draft is made as fast as any.
            world.sandbox.fail_next(&world.client, "latency=1").await;
        }
        world.sandbox.fail_next(&world.client, "latency=1500").await;
        let has_begun =
            |stats: &Value| stats["requests_seen"].as_u64() == Some(2) && stats["in_flight"].as_u64() == Some(1);
        tokio::select! {
            reply = world.post(&path, body) => panic!("it takes longer: {}", reply.body),
            () = world.until(has_begun) => {}
        }
        assert_eq!(world.gateway.terminate(), Some(0));
        let (_, out, _) = world.run(&["ledger", "--json"]);
        let report: Value = serde_json::from_str(&out).expect("JSON");
        let sums = (&report["spent_usd"], &report["saved_usd"]);
        assert_eq!(sums, (&json!("0.042"), &json!("0")), "{finalize_when}: {report}");
    }
}

/// Of a pool of drafts each has one final, however often it is asked for.
#[tokio::test(flavor = "multi_thread")]
async fn each_draft_of_a_pool_has_one_final() {
    let world = World::with(
        "[routes.hero]\ncandidates = ['sandbox/premium']\ncache = { variants = 3 }\n\
         [routes.hero.cascade]\ndraft = ['sandbox/draft']\n",
    )
    .await;
    let [one, other] =
        [world.generate(kite("a kite")).await.expect(200), world.generate(kite("a kite")).await.expect(200)];
    assert_ne!(one.pictures(), other.pictures());
    let made = finalize(&world, &one, json!({})).await.expect(200);
    let again = finalize(&world, &one, json!({})).await.expect(200);
    assert_eq!((again.cache(), again.pictures()), ("hit", made.pictures()));
    assert_ne!(finalize(&world, &other, json!({})).await.expect(200).pictures(), made.pictures());
    assert_eq!(world.book().await.len(), 4);
}

/// What a route does with bad pictures does not keep a bad draft from being replaced.
#[tokio::test(flavor = "multi_thread")]
async fn a_bad_draft_is_for_the_cascade_to_judge() {
    let world = World::with(
        &hero("on_fail").replace("[routes.hero.cascade]", "quality = { on_fail = 'discard' }\n[routes.hero.cascade]"),
    )
    .await;
    let bad = world.generate(kite("a boat [[blank-picture*1]]")).await.expect(200);
    assert_eq!(came_to(&bad), ["final", "premium", "0.042", "0"]);
}

/// What is advised where nobody knows how a final ended can be done.
#[tokio::test(flavor = "multi_thread")]
async fn a_final_of_unknown_outcome_may_be_paid_again_knowingly() {
    let world = World::with(&hero("approval")).await;
    let draft = world.generate(kite("a kite")).await.expect(200);
    world.sandbox.fail_next(&world.client, "bill-then-reset").await;
    assert_eq!(finalize(&world, &draft, json!({})).await.expect(504).code(), "outcome_unknown");
    let again = finalize(&world, &draft, json!({})).await.expect(504);
    assert!(again.message().contains("`retry_unknown`"), "{}", again.message());
    let made = finalize(&world, &draft, json!({ "retry_unknown": true })).await.expect(200);
    assert_eq!(came_to(&made), ["final", "premium", "0.04", "-0.038"]);
}

/// Who asks for `auto`, or for nothing, gets what the route does that it comes to.
#[tokio::test(flavor = "multi_thread")]
async fn auto_begins_with_a_draft_where_its_route_does() {
    let world = World::with(&(hero("approval") + "[routes.other]\ncandidates = ['sandbox/standard']\n")).await;
    let ask = |prompt: &str, model: Value| with(with(kite(prompt), "model", model), "explain", json!(true));
    let said = with(ask("a kite", json!("auto")), "purpose", json!("hero"));
    let read = ask("a hero banner for our homepage", Value::Null);
    for body in [said.clone(), read] {
        let draft = world.generate(with(body, "quality_tier", json!("standard"))).await.expect(200);
        assert_eq!(came_to(&draft), ["draft", "draft", "0.002", "0.038"]);
        let story = &draft.body["mimeo"]["story"];
        assert_eq!(story["route"], "hero");
        assert!(story["reading"].to_string().contains("read as hero"), "why it is that one: {story}");
        assert_eq!(
            came_to(&finalize(&world, &draft, json!({})).await.expect(200)),
            ["final", "premium", "0.04", "-0.038"]
        );
    }
    let by_name = world.generate(kite("a kite")).await.expect(200);
    assert_eq!(came_to(&by_name), ["draft", "draft", "0", "0.04"], "the same draft");
    // What another route serves is made at once.
    let plain = world.generate(ask("a kite", json!("standard"))).await.expect(200);
    assert_eq!(plain.header("x-mimeo-stage"), "");
}

/// The draft goes out in time, and the final that was begun is paid once.
#[tokio::test(flavor = "multi_thread")]
async fn a_final_that_comes_too_late_is_kept() {
    let world = World::with(&hero("on_pass")).await;
    let body = with(kite("a slow kite [[latency=2500]]"), "deadline_ms", json!(4500));
    let late = world.generate(body).await.expect(200);
    assert_eq!(late.header("x-mimeo-stage"), "draft");
    assert!(warnings(&late).contains("because its final failed"), "{}", warnings(&late));
    let made = finalize(&world, &late, json!({})).await.expect(200);
    assert_eq!(made.header("x-mimeo-cost-usd"), "0", "it was under way, or there: {}", made.cache());
    assert_eq!(world.book().await.len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_makes_another_ones_draft_final() {
    let mut config = hero("approval");
    let [web, other] = ["web", "other"].map(|name| {
        let (key, hash) = new_key().expect("randomness");
        config += &format!("[keys.{name}]\nhash = '{hash}'\n");
        key
    });
    let world = World::with(&config).await;
    let post = |key: &str, path: &str, body: Value| {
        let request = world.client.post(format!("{}{path}", world.gateway.url)).bearer_auth(key);
        reply(request.header("content-type", "application/json").body(body.to_string()))
    };
    let draft = post(&web, "/v1/images/generations", kite("mine")).await.expect(200);
    let path = draft.body["mimeo"]["cascade"]["finalize_url"].as_str().expect("a place to go");
    let foreign = post(&other, path, json!({})).await.expect(404);
    assert_eq!(foreign.code(), "draft_not_found");
    assert_eq!(post(&web, "/v1/images/kite/finalize", json!({})).await.expect(404).code(), "draft_not_found");
    assert_eq!(post(&web, path, json!({})).await.expect(200).header("x-mimeo-stage"), "final");
    world.post(path, json!({})).await.expect(401);
}

/// Whoever draws, the money is the route's.
#[tokio::test(flavor = "multi_thread")]
async fn another_route_may_draw_the_drafts() {
    let world = World::with(
        "[routes.quick]\ncandidates = ['sandbox/standard', 'sandbox/draft']\nobjective = 'cost'\n\
         [routes.hero]\ncandidates = ['sandbox/premium']\ncascade = { draft = ['quick'] }\n\
         budget = { usd = '0.041', per = 'day' }\n",
    )
    .await;
    let draft = world.generate(kite("a kite")).await.expect(200);
    assert_eq!(came_to(&draft), ["draft", "draft", "0.002", "0.038"]);
    let refused = finalize(&world, &draft, json!({})).await.expect(429);
    assert_eq!(refused.code(), "budget_exceeded");
    assert!(refused.message().contains("route `hero` has used $0.002"), "{}", refused.message());
    assert_eq!(spared(&world).await, "0.038", "it was not made");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_draft_is_a_draft_for_its_time() {
    let inside = Inside::with(&(hero("approval") + "finalize_within_s = 60\n")).await;
    let mut call = inside.call("a kite");
    call.model = Some("hero".into());
    let draft = inside.run(call).await;
    let picture = draft.cascade.expect("a draft").drafts[0];
    let caller = Caller { tenant: "default".into(), key: "local".into(), pool: None };
    let approval = Approval {
        id: RequestId::random(),
        caller,
        size: None,
        quality: None,
        max_spend: Some(Usd::ZERO),
        retry_unknown: false,
        deadline: None,
        explain: false,
    };
    let pipeline = &inside.app.pipeline;
    let finalize = || Box::pin(pipeline.finalize(picture, None, approval.clone()));
    inside.later(59);
    assert_eq!(finalize().await.unwrap_err().kind, Kind::OverBudget);
    inside.later(1);
    assert_eq!(finalize().await.unwrap_err().kind, Kind::Gone);
    inside.app.store.forget_drafts(inside.clock.now()).await.expect("the store works");
    assert_eq!(finalize().await.unwrap_err().code.as_deref(), Some("draft_expired"), "nothing of it is left but that");
    inside.end().await;
}

#[test]
fn a_cascade_that_makes_no_sense_is_refused() {
    let folder = Folder::new();
    for (cascade, says) in [
        ("draft = []", "cascade.draft is empty"),
        ("draft = ['sandbox/drafft']", "did you mean draft"),
        ("draft = ['hero']", "makes a draft first itself"),
        ("draft = ['sandbox/draft']\nfinalize_within_s = 5", "between 60 and 2592000"),
        ("draft = ['sandbox/draft']\nfinalize = 'later'", "on_pass"),
    ] {
        let route = "[routes.hero]\ncandidates = ['sandbox/premium']\n[routes.hero.cascade]\n";
        std::fs::write(folder.0.join("bad.toml"), format!("[providers.sandbox]\n{route}{cascade}\n")).expect("written");
        let mut check = binary(&folder.0);
        check.args(["check", "--config", "bad.toml"]);
        let (code, _, err) = outcome(check);
        assert_eq!(code, 64, "{cascade}");
        assert!(err.contains(says), "{cascade}: {err}");
    }
    // Another route draws its drafts, in its own way.
    let other = "[routes.quick]\ncandidates = ['sandbox/draft', 'sandbox/standard']\nobjective = 'cost'\n\
                 [routes.hero]\ncandidates = ['sandbox/premium']\ncascade = { draft = ['quick'] }\n";
    std::fs::write(folder.0.join("good.toml"), format!("[providers.sandbox]\n{other}")).expect("written");
    let mut check = binary(&folder.0);
    check.args(["check", "--config", "good.toml"]);
    assert_eq!(outcome(check).0, 0);
}
