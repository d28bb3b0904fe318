//! What people say of pictures, what is believed after it, and what becomes of pictures that look wrong.

use std::io::Write as _;
use std::process::Stdio;

use axum::routing::post;
use axum::{Json, Router};
use mimeo::http::auth::new_key;
use serde_json::{Value, json};

use crate::world::{Reply, World, reply};

const KEYS: [(&str, &str); 3] = [("web", "shop"), ("app", "shop"), ("other", "bank")];

/// A world with the keys [`KEYS`], of two tenants, and their secrets.
async fn shops(more: &str) -> (World, Vec<String>) {
    let mut config = more.to_owned();
    let mut secrets = Vec::new();
    for (name, tenant) in KEYS {
        let (key, hash) = new_key().expect("randomness");
        config += &format!("[keys.{name}]\nhash = '{hash}'\ntenant = '{tenant}'\n");
        secrets.push(key);
    }
    (World::with(&config).await, secrets)
}

async fn send(world: &World, key: &str, path: &str, body: &Value) -> Reply {
    let request = world.client.post(format!("{}{path}", world.gateway.url));
    let request = request.header("content-type", "application/json").header("authorization", format!("Bearer {key}"));
    reply(request.body(body.to_string())).await
}

fn bottle(prompt: &str) -> Value {
    json!({ "model": "sandbox/standard", "prompt": prompt, "size": "64x64", "category": "glass" })
}

/// Makes a picture and returns its id and its request's.
async fn made(world: &World, key: &str, prompt: &str) -> (String, String) {
    let answer = send(world, key, "/v1/images/generations", &bottle(prompt)).await.expect(200);
    let text = |value: &Value| value.as_str().expect("an id").to_owned();
    (text(&answer.body["mimeo"]["images"][0]["id"]), text(&answer.body["mimeo"]["request_id"]))
}

async fn say(world: &World, key: &str, body: Value) -> Reply {
    send(world, key, "/v1/feedback", &body).await
}

fn opinion(reply: &Reply) -> (f64, f64) {
    let quality = &reply.body["quality"][0];
    (quality["mean"].as_f64().expect("a mean"), quality["evidence"].as_f64().expect("evidence"))
}

/// What `mimeo quality` says, the candidate's whole first and its categories after it.
fn believed(world: &World) -> Vec<Value> {
    let (code, out, err) = world.run(&["quality", "--json"]);
    assert_eq!(code, 0, "{err}");
    serde_json::from_str(&out).expect("JSON")
}

#[tokio::test(flavor = "multi_thread")]
async fn feedback_changes_what_is_believed_and_nobody_votes_twice() {
    let (mut world, keys) = shops("").await;
    let [web, app, other] = &keys[..] else { panic!("three keys") };
    let (first, request) = made(&world, web, "a green bottle").await;

    let bad = say(&world, web, json!({ "image_id": first, "rating": 1, "note": "the neck is bent" })).await.expect(200);
    assert_eq!((&bad.body["object"], &bad.body["images"]), (&json!("feedback"), &json!([first])));
    assert_eq!(bad.body["quality"][0]["candidate"], "sandbox/standard");
    assert_eq!(bad.body["quality"][0]["category"], "glass");
    let (low, evidence) = opinion(&bad);
    assert!(low < 50.0 && evidence == 1.0, "{}", bad.body);
    let again = say(&world, web, json!({ "image_id": first, "rating": 1 })).await.expect(200);
    assert_eq!(opinion(&again), (low, 1.0), "nobody votes twice");
    let better = say(&world, web, json!({ "image_id": first, "rating": 5 })).await.expect(200);
    assert!(opinion(&better).0 > 50.0 && opinion(&better).1 == 1.0, "the last word counts: {}", better.body);
    let by_another = say(&world, app, json!({ "request_id": request, "rating": 2 })).await.expect(200);
    assert_eq!(opinion(&by_another).1, 2.0, "another key is another voice");
    let other_kind = say(&world, web, json!({ "image_id": first, "accepted": true })).await.expect(200);
    assert_eq!(opinion(&other_kind).1, 3.0);

    // Whose picture it is not learns nothing, not even that it is there.
    let foreign = say(&world, other, json!({ "image_id": first, "rating": 1 })).await.expect(404);
    let absent = format!("img_{:032x}", 7);
    let nowhere = say(&world, other, json!({ "image_id": absent, "rating": 1 })).await.expect(404);
    assert_eq!(foreign.message().replace(&first, &absent), nowhere.message());
    say(&world, other, json!({ "request_id": request, "rating": 1 })).await.expect(404);
    let half = json!([{ "image_id": first, "rating": 1 }, { "image_id": absent, "rating": 1 }]);
    assert!(say(&world, web, half).await.expect(404).message().contains("item 1"));
    say(&world, web, json!({ "image_id": first, "rating": 6 })).await.expect(400);
    let bare = world.post("/v1/feedback", json!({ "image_id": first, "rating": 1 })).await.expect(401);
    assert_eq!(bare.code(), "invalid_api_key");

    let before = believed(&world);
    assert_eq!(before.len(), 2, "all, and glass: {before:?}");
    assert_eq!(before[1]["sources"], json!({ "rating": 2, "accepted": 1, "clicks": 0, "judge": 0 }));
    world.restart();
    let after = say(&world, web, json!({ "image_id": first, "accepted": true })).await.expect(200);
    assert!((opinion(&after).1 - 3.0).abs() < 0.11, "a restart forgets nothing: {}", after.body);
    let (code, table, _) = world.run(&["quality"]);
    assert!(code == 0 && table.contains("sandbox/standard") && table.contains("glass"), "{table}");
}

#[tokio::test(flavor = "multi_thread")]
async fn many_words_at_once_and_out_and_in_again() {
    let (world, keys) = shops("").await;
    let web = &keys[0];
    let mut items = Vec::new();
    for number in 0..4 {
        let (id, _) = made(&world, web, &format!("bottle number {number}")).await;
        items.push(json!({ "image_id": id, "impressions": 1000, "clicks": 10 + number, "category": "Glass " }));
    }
    let told = say(&world, web, json!(items)).await.expect(200);
    assert_eq!((told.body["object"].as_str(), told.body["data"].as_array().map(Vec::len)), (Some("list"), Some(4)));
    let (code, listed, _) = world.run(&["feedback", "list", "--json", "--limit", "3"]);
    assert!(code == 0 && serde_json::from_str::<Vec<Value>>(&listed).expect("JSON").len() == 3, "{listed}");
    let (code, exported, _) = world.run(&["feedback", "export"]);
    assert_eq!((code, exported.lines().count()), (0, 4), "{exported}");

    // Into another gateway's store, twice.
    let (elsewhere, _) = shops("").await;
    for new in [4, 0] {
        let mut child = elsewhere
            .command(&["feedback", "import", "-", "--json"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("it starts");
        child.stdin.take().expect("piped").write_all(exported.as_bytes()).expect("it reads");
        let output = child.wait_with_output().expect("it ends");
        let said: Value = serde_json::from_slice(&output.stdout).expect("JSON");
        assert_eq!(said, json!({ "read": 4, "new": new }));
    }
    assert_eq!(elsewhere.run(&["feedback", "export"]).1, exported);
    let sources = |world: &World| believed(world).iter().map(|line| line["sources"].clone()).collect::<Vec<_>>();
    assert_eq!(sources(&elsewhere), sources(&world));

    std::fs::write(elsewhere.folder.0.join("bad.jsonl"), exported.replace("\"value\":10", "\"value\":1001"))
        .expect("written");
    let (code, _, error) = elsewhere.run(&["feedback", "import", "bad.jsonl"]);
    assert!(code == 1 && error.contains("row 1"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_blank_picture_is_told_of_and_answers_nobody_else() {
    let world = World::new().await;
    let request = json!({ "model": "sandbox/standard", "prompt": "a kite [[blank-picture*1]]", "size": "64x64", "explain": true });
    let blank = world.generate(request.clone()).await.expect(200);
    assert!(blank.header("x-mimeo-warning").contains("all of one colour"), "{:?}", blank.headers);
    assert!(blank.body["mimeo"]["explain"].to_string().contains("(blank)"), "{}", blank.body);
    assert_eq!(blank.pictures().len(), 1, "it is paid, so it is delivered");
    let second = world.generate(request.clone()).await.expect(200);
    assert_eq!((second.cache(), second.header("x-mimeo-warning")), ("miss", ""), "it is made again");
    assert_eq!(world.generate(request).await.cache(), "hit");
    assert_eq!(world.book().await.len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_route_may_try_the_next_or_give_nothing_out() {
    let routes = "[routes.careful]\ncandidates = ['sandbox/standard', 'compatible/sandbox-image']\nquality = { on_fail = 'next' }\n\
                  [routes.strict]\ncandidates = ['sandbox/standard']\nquality = { on_fail = 'discard' }\n\
                  [routes.blind]\ncandidates = ['sandbox/standard']\nquality = { checks = ['watermark'] }\n";
    let world = World::with(routes).await;
    let ask = |route: &str, prompt: &str, more: Value| {
        let mut body = json!({ "model": route, "prompt": prompt, "size": "64x64" });
        body.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
        body
    };
    let next = world.generate(ask("careful", "a kite [[blank-picture*1]]", json!({}))).await.expect(200);
    assert_eq!(next.header("x-mimeo-provider"), "compatible");
    assert_eq!(world.book().await.len(), 2, "both were paid");
    let spent: f64 = next.body["mimeo"]["cost_usd"].as_str().expect("a price").parse().expect("a number");
    let of_picture: f64 =
        next.body["mimeo"]["images"][0]["cost_usd"].as_str().expect("a price").parse().expect("a number");
    assert!(spent > of_picture, "what is not given out is in the cost: {}", next.body);

    // Where the request's own limit leaves no room for another, there is the one with its fault.
    let poor = ask(
        "careful",
        "a boat [[blank-picture*1]]",
        json!({ "max_spend_usd": format!("{:.6}", of_picture.max(spent - of_picture)) }),
    );
    let poor = world.generate(poor).await.expect(200);
    assert!(
        poor.header("x-mimeo-warning").contains("(blank)") && poor.header("x-mimeo-provider") == "sandbox",
        "{:?}",
        poor.headers
    );
    assert_eq!(world.book().await.len(), 3);

    let refused = world.generate(ask("strict", "a hill [[blank-picture*1]]", json!({}))).await.expect(502);
    assert_eq!(
        (refused.code(), refused.header("x-should-retry")),
        ("picture_rejected", "false"),
        "{}",
        refused.message()
    );
    assert_eq!(
        world.generate(ask("strict", "a hill [[blank-picture*1]]", json!({}))).await.expect(200).cache(),
        "miss"
    );
    let blind = world.generate(ask("blind", "a lake [[blank-picture*1]]", json!({}))).await.expect(200);
    assert_eq!(blind.header("x-mimeo-warning"), "", "nobody looked for it");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_fine_raises_no_alarm() {
    let world = World::new().await;
    for number in 0..24 {
        let body = json!({ "model": "sandbox/standard", "prompt": format!("scene {number}"), "size": "256x256" });
        let answer = world.generate(body).await.expect(200);
        assert_eq!(answer.header("x-mimeo-warning"), "", "scene {number}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_judge_is_heard_in_the_background() {
    let answer = |Json(asked): Json<Value>| async move {
        let picture = asked.pointer("/messages/0/content/1/image_url/url").and_then(Value::as_str).unwrap_or_default();
        let score = if picture.starts_with("data:image/jpeg;base64,/9j/") { 90 } else { 0 };
        Json(json!({ "choices": [{ "message": { "content": format!("{{\"score\": {score}}}") } }] }))
    };
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url = format!("http://{}", listener.local_addr().expect("an address"));
    let server =
        tokio::spawn(
            async move { axum::serve(listener, Router::new().route("/chat/completions", post(answer))).await },
        );
    let world = World::with(&format!("[quality.judge]\nurl = '{url}'\nmodel = 'eye'\nsample = 1.0\n")).await;
    world.generate(json!({ "model": "sandbox/standard", "prompt": "a kite", "size": "64x64" })).await.expect(200);
    // Bounded: nothing tells when somebody in the background is done.
    let mut lines = Vec::new();
    for _ in 0..300 {
        lines = believed(&world);
        if !lines.is_empty() {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    server.abort();
    assert_eq!(lines[0]["sources"]["judge"], 1, "{lines:?}");
    assert!(lines[0]["mean"].as_f64().expect("a mean") > 50.0, "{lines:?}");
}
