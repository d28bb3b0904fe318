//! The same answer for who asks again under the same key, and a place to ask for who does not wait (I10).
//!
//! Most requests here want a new picture every time (`no-cache`), so that only the key can save the second bill.

mod claims;
mod jobs;

use std::time::Duration;

use mimeo::http::auth::new_key;
use reqwest::header::HeaderMap;
use reqwest::multipart::{Form, Part};
use reqwest::{Body, RequestBuilder};
use serde_json::{Value, json};

use crate::world::{Server, World};

/// An answer of any kind.
#[derive(Clone, Debug)]
struct Raw {
    status: u16,
    headers: HeaderMap,
    bytes: Vec<u8>,
}

impl Raw {
    fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap_or("?"))
    }

    fn json(&self) -> Value {
        serde_json::from_slice(&self.bytes).unwrap_or(Value::Null)
    }

    fn code(&self) -> String {
        self.json()["error"]["code"].as_str().unwrap_or("").to_owned()
    }

    fn is_replay(&self) -> bool {
        match self.header("idempotency-replayed") {
            "true" => true,
            "" => false,
            other => panic!("idempotency-replayed: {other}"),
        }
    }

    fn id(&self) -> &str {
        self.header("x-request-id")
    }

    #[track_caller]
    fn expect(self, status: u16) -> Raw {
        assert_eq!(self.status, status, "{}", String::from_utf8_lossy(&self.bytes));
        self
    }

    /// Asserts that this is what `first` was, told again.
    #[track_caller]
    fn expect_replay_of(self, first: &Raw) -> Raw {
        let text = String::from_utf8_lossy(&self.bytes);
        assert!(self.is_replay(), "{} {text}", self.status);
        assert_eq!((self.status, self.id()), (first.status, first.id()), "{text}");
        assert_eq!(self.header("content-type"), first.header("content-type"));
        for header in ["x-mimeo-cache", "x-mimeo-cost-usd", "x-mimeo-provider", "x-should-retry"] {
            assert_eq!(self.header(header), first.header(header), "{header}");
        }
        assert!(self.bytes == first.bytes, "{text} is not {}", String::from_utf8_lossy(&first.bytes));
        self
    }
}

async fn send(request: RequestBuilder) -> Raw {
    let response = request.send().await.expect("it answers");
    let (status, headers) = (response.status().as_u16(), response.headers().clone());
    Raw { status, headers, bytes: response.bytes().await.expect("the answer is whole").to_vec() }
}

/// A request to generate, at the gateway at `url`.
fn request(world: &World, url: &str, headers: &[(&str, &str)], body: &Value) -> RequestBuilder {
    let request = world.client.post(format!("{url}/v1/images/generations")).header("content-type", "application/json");
    headers.iter().fold(request, |request, (name, value)| request.header(*name, *value)).body(body.to_string())
}

async fn ask(world: &World, key: &str, body: &Value) -> Raw {
    ask_with(world, &[("idempotency-key", key)], body).await
}

async fn ask_with(world: &World, headers: &[(&str, &str)], body: &Value) -> Raw {
    send(request(world, &world.gateway.url, headers, body)).await
}

async fn get(world: &World, path: &str) -> Raw {
    send(world.client.get(format!("{}{path}", world.gateway.url))).await
}

/// A request for a new picture, whatever is stored.
fn fresh(prompt: &str) -> Value {
    json!({ "model": "sandbox/standard", "prompt": prompt, "size": "64x64", "cache": { "mode": "no-cache" } })
}

fn with(mut body: Value, name: &str, value: Value) -> Value {
    body[name] = value;
    body
}

/// Asks for a job until it is not running any more. Bounded by 30 s.
async fn ended(world: &World, path: &str) -> Value {
    for _ in 0..1500 {
        let job = get(world, path).await.expect(200).json();
        if job["status"] != "running" {
            return job;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("{path} never ended");
}

/// A second process on the same data.
fn replica(world: &World) -> Server {
    Server::start(world.command(&["serve", "--listen", "127.0.0.1:0"]))
}

/// Makes as if the process had died after the picture was stored and before the answer was written down.
fn unanswer(world: &mut World) {
    world.gateway.kill();
    let database = rusqlite::Connection::open(world.data().join("mimeo.sqlite")).expect("the database");
    let changed = database.execute("UPDATE replies SET answer = NULL", []).expect("written");
    assert_eq!(changed, 1, "one request was answered");
    drop(database);
    world.restart();
}

/// Status, body, pictures and name are those of the first, in every form, also after a restart.
#[tokio::test(flavor = "multi_thread")]
async fn i10_the_same_answer_in_every_form() {
    let mut world = World::new().await;
    let asked = [
        ("b64", fresh("one"), "*/*"),
        ("two", with(fresh("two"), "n", json!(2)), "*/*"),
        ("url", with(fresh("three"), "response_format", json!("url")), "*/*"),
        ("raw", fresh("four"), "image/*"),
        ("explained", with(fresh("five"), "explain", json!(true)), "*/*"),
    ];
    let mut given = Vec::new();
    for (key, body, accept) in &asked {
        let first = ask_with(&world, &[("idempotency-key", key), ("accept", accept)], body).await.expect(200);
        assert!(!first.is_replay() && first.id().starts_with("req_"));
        given.push(first);
    }
    let billed = world.book().await.len();
    assert_eq!(billed, 6);
    for round in 0..2 {
        // Neither white space nor the order of the fields matters.
        for ((key, body, accept), first) in asked.iter().zip(&given) {
            let headers = [("idempotency-key", *key), ("accept", *accept)];
            let fields = body.as_object().expect("an object").iter().rev();
            let fields: Vec<String> = fields.map(|(name, value)| format!("  \"{name}\" :\n{value}")).collect();
            let request = request(&world, &world.gateway.url, &headers, &json!(null));
            // The address of a picture is that of the gateway that is asked.
            let again = send(request.body(format!("{{ {} }}\n", fields.join(" , ")))).await;
            if *key == "url" && round > 0 {
                assert_eq!((again.is_replay(), again.id()), (true, first.id()));
                let url = again.json()["data"][0]["url"].as_str().expect("an address").to_owned();
                let old = first.json()["data"][0]["url"].as_str().expect("an address").to_owned();
                assert_eq!(url.rsplit('/').next(), old.rsplit('/').next());
                send(world.client.get(url)).await.expect(200);
            } else {
                again.expect_replay_of(first);
            }
        }
        world.restart();
    }
    assert_eq!(world.book().await.len(), billed);
}

#[tokio::test(flavor = "multi_thread")]
async fn i10_a_stream_is_replayed_by_its_end() {
    let world = World::new().await;
    let body = json!({ "model": "openai/gpt-image-2", "prompt": "a kite", "size": "1024x1024", "quality": "low",
                       "stream": true, "partial_images": 2, "cache": { "mode": "no-cache" } });
    let first = ask(&world, "k", &body).await.expect(200);
    let again = ask(&world, "k", &body).await.expect(200);
    assert!(!first.is_replay() && again.is_replay());
    assert!(again.header("content-type").starts_with("text/event-stream"));
    let blocks = |raw: &Raw| {
        let text = String::from_utf8(raw.bytes.clone()).expect("text");
        text.split_inclusive("\n\n").filter(|block| !block.starts_with(':')).map(str::to_owned).collect::<Vec<_>>()
    };
    let (streamed, replayed) = (blocks(&first), blocks(&again));
    assert_eq!(streamed.len(), 3, "two unfinished pictures and the picture");
    assert_eq!(replayed, streamed[2..], "the last event alone");
    assert_eq!(ask(&world, "k", &with(body.clone(), "stream", json!(false))).await.status, 400, "partial_images");
    assert_eq!(
        ask(&world, "k", &with(body, "partial_images", json!(0))).await.expect(422).code(),
        "idempotency_key_reused"
    );

    let refused = with(fresh("something bad [[refuse]]"), "stream", json!(true));
    let first = ask(&world, "bad", &refused).await.expect(400);
    ask(&world, "bad", &refused).await.expect_replay_of(&first);
    assert_eq!(world.book().await.len(), 1);
}

/// A form is what it says, whatever separates its parts.
#[tokio::test(flavor = "multi_thread")]
async fn i10_boundaries_do_not_matter() {
    let world = World::new().await;
    let picture = |prompt: &str| {
        let body = json!({ "model": "sandbox/draft", "prompt": prompt, "size": "64x64" });
        let reply = world.generate(body);
        async move { reply.await.expect(200).pictures().remove(0) }
    };
    let (input, other) = (picture("an input").await, picture("another input").await);
    let edit = |key: &'static str, input: &[u8], file: &str, turned: bool| {
        let file = Part::bytes(input.to_vec()).file_name(file.to_owned());
        let form = Form::new().text("model", "openai/gpt-image-2").text("quality", "low");
        let form = if turned {
            form.part("image", file).text("prompt", "at night")
        } else {
            form.text("prompt", "at night").part("image", file)
        };
        let url = format!("{}/v1/images/edits", world.gateway.url);
        let request = world.client.post(url).header("idempotency-key", key).header("cache-control", "no-cache");
        assert!(!form.boundary().is_empty());
        send(request.multipart(form))
    };
    let first = edit("k", &input, "a.png", false).await.expect(200);
    edit("k", &input, "b.png", true).await.expect_replay_of(&first);
    assert_eq!(edit("k", &other, "a.png", false).await.expect(422).code(), "idempotency_key_reused");
    assert_eq!(world.book().await.len(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn i10_a_key_is_for_one_request() {
    let world = World::new().await;
    let body = fresh("a kite");
    let first = ask(&world, "k", &body).await.expect(200);
    for other in [
        with(body.clone(), "prompt", json!("a boat")),
        with(body.clone(), "n", json!(2)),
        with(body.clone(), "response_format", json!("url")),
        with(body.clone(), "user", json!("somebody")),
        with(body.clone(), "cache", json!({})),
    ] {
        let refused = ask(&world, "k", &other).await.expect(422);
        assert_eq!((refused.code().as_str(), refused.is_replay()), ("idempotency_key_reused", false));
        let message = refused.json()["error"]["message"].as_str().expect("a message").to_owned();
        assert!(message.contains(first.id()) && message.contains("20"), "{message}");
        assert_ne!(refused.id(), first.id());
        assert_eq!(refused.header("x-should-retry"), "false");
    }
    // What the API takes for granted may be spelled out.
    ask(&world, "k", &with(body.clone(), "n", json!(1))).await.expect_replay_of(&first);
    for bad in ["", "with space", &"k".repeat(256)] {
        let refused = ask(&world, bad, &body).await.expect(400);
        assert_eq!(refused.json()["error"]["param"], "Idempotency-Key");
    }
    ask(&world, &"k".repeat(255), &body).await.expect(200);
    assert_eq!(world.book().await.len(), 2);
}

/// Twenty at once, through two processes: one bill, twenty equal answers.
#[tokio::test(flavor = "multi_thread")]
async fn i10_twenty_at_once_are_one_request() {
    let world = World::new().await;
    let other = replica(&world);
    let body = fresh("a kite [[latency=600]]");
    let calls = (0..20).map(|index| {
        let url = if index % 2 == 0 { &world.gateway.url } else { &other.url };
        send(request(&world, url, &[("idempotency-key", "k")], &body))
    });
    let answers = futures_util::future::join_all(calls).await;
    let first = answers.iter().find(|answer| !answer.is_replay()).expect("one was the first").clone();
    assert_eq!(answers.iter().filter(|answer| answer.is_replay()).count(), 19);
    for answer in answers {
        let answer = answer.expect(200);
        assert_eq!(answer.id(), first.id());
        assert!(answer.bytes == first.bytes);
    }
    assert_eq!(world.book().await.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn i10_keys_are_a_tenants_own() {
    let (web, web_hash) = new_key().expect("randomness");
    let (app, app_hash) = new_key().expect("randomness");
    let (bank, bank_hash) = new_key().expect("randomness");
    let world = World::with(&format!(
        "[keys.web]\nhash = '{web_hash}'\ntenant = 'shop'\n[keys.app]\nhash = '{app_hash}'\ntenant = 'shop'\n\
         [keys.bank]\nhash = '{bank_hash}'\ntenant = 'bank'\n"
    ))
    .await;
    let url = world.gateway.url.clone();
    let ask = |key: &str, body: Value, prefer: &'static str| {
        let headers = [("idempotency-key", "k"), ("prefer", prefer)];
        send(request(&world, &url, &headers, &body).bearer_auth(key))
    };
    let first = ask(&web, fresh("a kite"), "").await.expect(200);
    ask(&app, fresh("a kite"), "").await.expect_replay_of(&first);
    let stranger = ask(&bank, fresh("a boat"), "").await.expect(200);
    assert!(!stranger.is_replay());
    ask(&app, fresh("a boat"), "").await.expect(422);
    assert_eq!(world.book().await.len(), 2);
    // A job is its tenant's own as well.
    let path = format!("/v1/images/jobs/{}", first.id());
    let job = |key: &str| send(world.client.get(format!("{url}{path}")).bearer_auth(key));
    assert_eq!(job(&app).await.expect(200).json()["status"], "succeeded");
    assert_eq!(job(&bank).await.expect(404).code(), "job_not_found");
    send(world.client.get(format!("{url}{path}"))).await.expect(401);
}

/// What is the last word is told again, and what is not leaves the key free.
#[tokio::test(flavor = "multi_thread")]
async fn i10_errors_are_kept_where_they_are_final() {
    let world = World::with("[cache]\nrefusal_ttl_s = 0\nunknown_hold_s = 1\n").await;
    for (directive, status, code) in [
        ("refuse", 400, "moderation_blocked"),
        ("bill-then-reset", 504, "outcome_unknown"),
        ("truncate-picture", 502, "unusable_answer"),
    ] {
        let body = fresh(&format!("a kite [[{directive}]]"));
        let first = ask(&world, directive, &body).await.expect(status);
        assert_eq!((first.code().as_str(), first.is_replay()), (code, false), "{directive}");
        let seen = world.stats().await["requests_seen"].clone();
        ask(&world, directive, &body).await.expect_replay_of(&first);
        assert_eq!(world.stats().await["requests_seen"], seen, "{directive}: it was not sent again");
        ask(&world, directive, &fresh("another")).await.expect(422);
    }
    let impossible = with(fresh("a kite"), "size", json!("5000x64"));
    let first = ask(&world, "impossible", &impossible).await.expect(400);
    ask(&world, "impossible", &impossible).await.expect_replay_of(&first);

    let billed = world.book().await.len();
    // What cost nothing is asked again by itself, three times.
    for (directive, status) in [("fail=503*4", 502), ("throttle=0.01*4", 429), ("quota*1", 502), ("fail=401*1", 502)] {
        let body = fresh(&format!("a kite, {directive} [[{directive}]]"));
        let first = ask(&world, directive, &body).await.expect(status);
        let again = ask(&world, directive, &body).await.expect(200);
        assert!(!again.is_replay(), "{directive}");
        assert_ne!(again.id(), first.id(), "{directive}");
        ask(&world, directive, &body).await.expect_replay_of(&again);
    }
    assert_eq!(world.book().await.len(), billed + 4);
    let poor = with(fresh("a poor kite"), "max_spend_usd", json!("0.001"));
    ask(&world, "poor", &poor).await.expect(429);
    assert!(!ask(&world, "poor", &poor).await.expect(429).is_replay());
    ask(&world, "poor", &fresh("a rich kite")).await.expect(200);
    ask(&world, "none", &with(fresh("a kite"), "model", json!("nobody/nothing"))).await.expect(404);
    ask(&world, "none", &fresh("a kite of somebody")).await.expect(200);
}

/// A deadline ends the wait only, also for who wants a new picture: who asks again gets the one that is being made.
#[tokio::test(flavor = "multi_thread")]
async fn i10_a_deadline_ends_the_wait_only() {
    let world = World::new().await;
    let body = with(fresh("a kite [[latency=900]]"), "deadline_ms", json!(300));
    assert_eq!(ask(&world, "k", &body).await.expect(504).code(), "deadline_passed");
    let mut answer = ask(&world, "k", &body).await;
    for _ in 0..20 {
        if answer.status == 200 {
            break;
        }
        assert_eq!(answer.code(), "deadline_passed");
        answer = ask(&world, "k", &body).await;
    }
    assert_eq!(answer.status, 200);
    ask(&world, "k", &body).await.expect_replay_of(&answer);
    assert_eq!(world.book().await.len(), 1);
}

/// Killed while the provider works: nobody knows what came of it, and that is told from then on.
#[tokio::test(flavor = "multi_thread")]
async fn i10_killed_under_way_nothing_is_paid_twice() {
    let mut world = World::new().await;
    for (round, mode) in ["default", "no-cache", "no-store"].into_iter().enumerate() {
        let prompt = format!("never {mode} [[bill-then-hang]]");
        let body = with(fresh(&prompt), "cache", json!({ "mode": mode }));
        // It may pay again after others' doubts, but not after its own.
        let body = with(body, "retry_unknown", json!(true));
        let call = tokio::spawn(request(&world, &world.gateway.url, &[("idempotency-key", mode)], &body).send());
        world.until(|stats| stats["billed"] == round + 1).await;
        world.restart();
        assert!(call.await.expect("it ran").is_err(), "its connection broke");
        let first = ask(&world, mode, &body).await.expect(504);
        assert_eq!((first.code().as_str(), first.is_replay()), ("outcome_unknown", true), "{mode}");
        ask(&world, mode, &body).await.expect_replay_of(&first);
        world.restart();
        ask(&world, mode, &body).await.expect_replay_of(&first);
        assert_eq!(world.book().await.len(), round + 1, "{mode}: it was sent once");
    }
    assert_eq!(world.ledger().await["suspense_usd"], "0.03");
}

/// Killed between the picture and the answer: who asks again gets that picture under the first name.
#[tokio::test(flavor = "multi_thread")]
async fn i10_killed_before_the_answer_is_written() {
    for cache in [
        json!({}),
        json!({ "mode": "no-cache" }),
        json!({ "variants": 3 }),
        json!({ "mode": "no-cache", "variants": 3 }),
    ] {
        let mut world = World::new().await;
        let body = with(fresh("a kite"), "cache", cache.clone());
        let first = ask(&world, "k", &body).await.expect(200);
        unanswer(&mut world);
        let again = ask(&world, "k", &body).await.expect(200);
        assert_eq!((again.is_replay(), again.id()), (true, first.id()), "{cache}");
        assert_eq!(again.json()["data"], first.json()["data"], "{cache}");
        ask(&world, "k", &body).await.expect_replay_of(&again);
        assert_eq!(world.book().await.len(), 1, "{cache}");
    }
    // What was not stored is lost, and not paid for again.
    let mut world = World::new().await;
    let body = with(fresh("a kite"), "cache", json!({ "mode": "no-store" }));
    let first = ask(&world, "k", &body).await.expect(200);
    unanswer(&mut world);
    for _ in 0..2 {
        let lost = ask(&world, "k", &body).await.expect(409);
        assert_eq!((lost.code().as_str(), lost.id()), ("idempotent_answer_not_stored", first.id()));
    }
    assert_eq!(world.book().await.len(), 1);
}

/// The process dies while another one's caller waits for it: that one takes over.
#[tokio::test(flavor = "multi_thread")]
async fn i10_who_waits_takes_over() {
    let mut world = World::new().await;
    let other = replica(&world);
    let body = fresh("a kite [[bill-then-hang*1]]");
    let call = tokio::spawn(request(&world, &world.gateway.url, &[("idempotency-key", "k")], &body).send());
    world.until(|stats| stats["billed"] == 1).await;
    let waiting = tokio::spawn(send(request(&world, &other.url, &[("idempotency-key", "k")], &body)));
    let path = other.url.clone();
    // It waits: another request is answered in the meantime, and it is not.
    send(request(&world, &path, &[], &fresh("a boat"))).await.expect(200);
    assert!(!waiting.is_finished());
    world.gateway.kill();
    assert!(call.await.expect("it ran").is_err());
    assert_eq!(waiting.await.expect("it ran").expect(504).code(), "outcome_unknown");
    world.restart();
    assert_eq!(ask(&world, "k", &body).await.expect(504).code(), "outcome_unknown");
    assert_eq!(world.book().await.len(), 2);
}

/// Who hangs up and asks again gets what the first time came to.
#[tokio::test(flavor = "multi_thread")]
async fn i10_hanging_up_is_no_new_request() {
    let world = World::new().await;
    let body = fresh("a kite [[latency=700]]");
    let call = tokio::spawn(request(&world, &world.gateway.url, &[("idempotency-key", "k")], &body).send());
    world.until(|stats| stats["requests_seen"] == 1).await;
    call.abort();
    assert!(call.await.is_err_and(|error| error.is_cancelled()), "it hangs up");
    let again = ask(&world, "k", &body).await.expect(200);
    assert!(again.is_replay());
    ask(&world, "k", &body).await.expect_replay_of(&again);
    assert_eq!(world.book().await.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn i10_what_is_not_there_is_not_paid_again() {
    let world = World::with("[routes.bare]\ncandidates = ['sandbox/standard']\ncache = { off = true }\n").await;
    for body in
        [with(fresh("a kite"), "cache", json!({ "mode": "no-store" })), with(fresh("a kite"), "model", json!("bare"))]
    {
        let key = body["model"].as_str().expect("a model").replace('/', "-");
        ask(&world, &key, &body).await.expect(200);
        let again = ask(&world, &key, &body).await.expect(409);
        assert_eq!((again.code().as_str(), again.header("x-should-retry")), ("idempotent_answer_not_stored", "false"));
    }
    let body = fresh("a boat");
    let first = ask(&world, "purged", &body).await.expect(200);
    ask(&world, "purged", &body).await.expect_replay_of(&first);
    let (code, _, err) = world.run(&["cache", "purge", "--all"]);
    assert_eq!(code, 0, "{err}");
    for _ in 0..2 {
        let gone = ask(&world, "purged", &body).await.expect(410);
        assert_eq!(gone.code(), "idempotent_answer_gone");
    }
    let job = get(&world, &format!("/v1/images/jobs/{}", first.id())).await.expect(200).json();
    assert_eq!((&job["status"], &job["error"]["code"]), (&json!("failed"), &json!("idempotent_answer_gone")));
    assert_eq!(world.book().await.len(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn i10_a_key_is_forgotten_in_time() {
    let world = World::with("[server]\nidempotency_s = 1\n").await;
    let first = ask(&world, "k", &fresh("a kite")).await.expect(200);
    let end = tokio::time::Instant::now() + Duration::from_secs(30);
    let later = loop {
        let answer = ask(&world, "k", &fresh("a kite")).await.expect(200);
        if !answer.is_replay() {
            break answer;
        }
        assert!(tokio::time::Instant::now() < end, "it is never forgotten");
        tokio::time::sleep(Duration::from_millis(50)).await;
    };
    assert_ne!(later.id(), first.id());
    get(&world, &format!("/v1/images/jobs/{}", first.id())).await.expect(404);
    assert_eq!(world.book().await.len(), 2);
}

/// Who waits under a key when the gateway stops is answered like all others.
#[tokio::test(flavor = "multi_thread")]
async fn i10_a_stopping_gateway_answers_who_waits() {
    let mut world = World::new().await;
    let body = fresh("a kite [[latency=2000]]");
    let send = || tokio::spawn(send(request(&world, &world.gateway.url, &[("idempotency-key", "k")], &body)));
    let first = send();
    world.until(|stats| stats["in_flight"] == 1).await;
    let second = send();
    let third = request(&world, &world.gateway.url, &[("idempotency-key", "k"), ("prefer", "wait=0")], &body).send();
    assert_eq!(third.await.expect("it answers").status(), 202, "those before it have come in");
    assert_eq!(world.gateway.terminate(), Some(0));
    let (first, second) = (first.await.expect("it ran").expect(200), second.await.expect("it ran").expect(200));
    assert!(first.bytes == second.bytes);
    world.restart();
    ask(&world, "k", &body).await.expect(200).expect_replay_of(&first);
    assert_eq!(world.book().await.len(), 1);
}

/// Without one of the two headers nothing is kept, and nobody can ask later.
#[tokio::test(flavor = "multi_thread")]
async fn i10_nothing_is_kept_unasked() {
    let world = World::new().await;
    let answer = ask_with(&world, &[("prefer", "handling=lenient")], &fresh("a kite")).await.expect(200);
    get(&world, &format!("/v1/images/jobs/{}", answer.id())).await.expect(404);
    let database = rusqlite::Connection::open(world.data().join("mimeo.sqlite")).expect("the database");
    let rows: i64 = database.query_row("SELECT count(*) FROM replies", [], |row| row.get(0)).expect("a count");
    assert_eq!(rows, 0);
}

/// A body that is no JSON takes no key.
#[tokio::test(flavor = "multi_thread")]
async fn i10_what_cannot_be_read_takes_no_key() {
    let world = World::new().await;
    let broken = request(&world, &world.gateway.url, &[("idempotency-key", "k")], &json!(null)).body(Body::from("{"));
    assert_eq!(send(broken).await.expect(400).code(), "invalid_json");
    ask(&world, "k", &fresh("a kite")).await.expect(200);
}
