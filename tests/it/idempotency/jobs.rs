//! Who does not wait asks later.

use super::*;

/// `Prefer: wait` gives a place to ask instead of a wait.
#[tokio::test(flavor = "multi_thread")]
async fn i10_who_does_not_wait_asks_later() {
    let world = World::new().await;
    let prefer = |value| [("prefer", value)];
    for (value, applied) in [("wait=0", "wait=0"), ("respond-async", "wait=0"), ("return=minimal, wait=1", "wait=1")] {
        let body = fresh(&format!("a kite, {value} [[latency=2000]]"));
        let told = ask_with(&world, &prefer(value), &body).await.expect(202);
        let path = told.header("location").to_owned();
        assert_eq!(told.header("preference-applied"), applied);
        assert_eq!(told.header("retry-after"), "1");
        let job = told.json();
        assert_eq!(job["id"], told.id());
        assert_eq!((&job["object"], &job["status"]), (&json!("image.job"), &json!("running")));
        assert_eq!(job["url"], format!("{}{path}", world.gateway.url));
        assert!(job["created"].as_i64().is_some_and(|created| created > 1_700_000_000));
        assert_eq!(get(&world, &path).await.expect(200).json()["status"], "running");
        let job = ended(&world, &path).await;
        assert_eq!((&job["status"], &job["id"]), (&json!("succeeded"), &json!(told.id())), "{job}");
        let result = &job["result"];
        assert_eq!((&result["mimeo"]["cache"], &result["mimeo"]["request_id"]), (&json!("bypass"), &json!(told.id())));
        let picture = send(world.client.get(result["data"][0]["url"].as_str().expect("an address"))).await.expect(200);
        let job = get(&world, &format!("{path}?response_format=b64_json")).await.expect(200).json();
        let text = job["result"]["data"][0]["b64_json"].as_str().expect("base64");
        assert!(base64_simd::STANDARD.decode_to_vec(text).expect("base64") == picture.bytes);
    }
    // Done in time, it is an answer as always.
    let done = ask_with(&world, &prefer("wait=600"), &fresh("a boat")).await.expect(200);
    assert!(done.json()["data"][0]["b64_json"].is_string() && done.header("location").is_empty());
    assert_eq!(get(&world, &format!("/v1/images/jobs/{}", done.id())).await.expect(200).json()["status"], "succeeded");
    // What fails is told there, also what leaves a key free.
    let failing = fresh("a kite [[latency=300]] [[throttle=0.01]]");
    let told = ask_with(&world, &[("prefer", "wait=0"), ("idempotency-key", "k")], &failing).await.expect(202);
    let job = ended(&world, told.header("location")).await;
    assert_eq!((&job["status"], &job["error"]["code"]), (&json!("failed"), &json!("rate_limit_exceeded")));
    assert!(job["error"]["message"].is_string() && job.get("result").is_none());
    ask(&world, "k", &fresh("something else")).await.expect(200);
    // What is not stored could not be fetched later, and what is streamed is waited for.
    let bare = with(fresh("a kite"), "cache", json!({ "mode": "no-store" }));
    ask_with(&world, &prefer("wait=0"), &bare).await.expect(200);
    ask_with(&world, &prefer("wait=0"), &with(fresh("a tree"), "stream", json!(true))).await.expect(200);
    for unknown in ["req_0", &format!("req_{:032x}", 7), &format!("req_{:032x}?x=1", 7)] {
        let status = if unknown.contains('?') { 400 } else { 404 };
        get(&world, &format!("/v1/images/jobs/{unknown}")).await.expect(status);
    }
    assert_eq!(world.book().await.len(), 7);
}

/// A job whose process died says so, and what to do.
#[tokio::test(flavor = "multi_thread")]
async fn i10_a_job_does_not_outlive_its_process_unnoticed() {
    let config =
        "[providers.small]\nrecord = 'sandbox'\nbase_url = '{sandbox}/native/v1'\nlimits = { concurrent = 1 }\n";
    let mut world = World::with(config).await;
    let body = |prompt: &str| with(fresh(prompt), "model", json!("small/standard"));
    let headers = |key| [("prefer", "wait=0"), ("idempotency-key", key)];
    let sent = ask_with(&world, &headers("sent"), &body("a kite [[bill-then-hang]]")).await.expect(202);
    world.until(|stats| stats["billed"] == 1).await;
    // This one waits for its turn at the account.
    let queued = ask_with(&world, &headers("queued"), &body("a boat")).await.expect(202);
    world.restart();
    let job = ended(&world, sent.header("location")).await;
    assert_eq!((&job["status"], &job["error"]["code"]), (&json!("failed"), &json!("outcome_unknown")), "{job}");
    let job = ended(&world, queued.header("location")).await;
    assert_eq!((&job["status"], &job["error"]["code"]), (&json!("failed"), &json!("interrupted")), "{job}");
    assert!(job["error"]["message"].as_str().is_some_and(|message| message.contains("again")), "{job}");
    // Sent again, it is made, and the job with it.
    let made = ask(&world, "queued", &body("a boat")).await.expect(200);
    assert_eq!(made.id(), queued.id());
    assert_eq!(ended(&world, queued.header("location")).await["status"], "succeeded");
    assert_eq!(ask(&world, "sent", &body("a kite [[bill-then-hang]]")).await.expect(504).code(), "outcome_unknown");
    assert_eq!(world.book().await.len(), 2);
}

/// What a route does not store could not be fetched later: it is no job, and is waited for.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_route_does_not_store_is_no_job() {
    let world = World::with("[routes.bare]\ncandidates = ['sandbox/standard']\ncache = { off = true }\n").await;
    let body = json!({ "model": "bare", "prompt": "a kite [[latency=300]]", "size": "64x64" });
    let post = |path: &str, prefer: &'static str| {
        let request = world.client.post(format!("{}{path}", world.gateway.url)).header("prefer", prefer);
        send(request.header("content-type", "application/json").body(body.to_string()))
    };
    let refused = post("/v1/images/jobs", "").await.expect(400).json();
    assert_eq!(refused["error"]["param"], "model", "{refused}");
    assert!(world.book().await.is_empty());
    let waited = post("/v1/images/generations", "wait=0").await.expect(200);
    assert!(waited.json()["data"][0]["b64_json"].is_string());
    assert_eq!(world.book().await.len(), 1);
}
