//! The sandbox over HTTP, through a client so plain that it sees broken answers as they are.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking, in its helpers too")]

use std::path::PathBuf;
use std::time::Duration;

mod client;
mod graphs;
mod simulations;

use client::{Answer, get, post, request, size_of_png};
use mimeo_sandbox::{Book, Options, Sandbox, Usd, start};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};

/// Generates one small picture with the simulated OpenAI.
async fn generate(sandbox: &Sandbox, prompt: &str) -> Answer {
    let body = json!({ "model": "gpt-image-2.5-flare", "prompt": prompt, "size": "64x64", "quality": "low" });
    post(sandbox, "/openai/v1/images/generations", &body).await
}

pub(crate) async fn sandbox() -> Sandbox {
    start(Options::default()).await.unwrap()
}

#[tokio::test]
async fn a_generation_is_drawn_and_billed_by_tokens() {
    let sandbox = sandbox().await;
    let body = json!({
        "model": "gpt-image-2.5-flare", "prompt": "a red kite in the wind", "n": 2, "size": "1024x1024",
        "quality": "high", "background": "opaque", "output_format": "png",
    });
    let answer = post(&sandbox, "/openai/v1/images/generations", &body).await;
    assert_eq!(answer.status, 200);
    assert_eq!(answer.headers["x-simulated"], "sandbox");
    assert!(answer.headers["x-request-id"].starts_with("req_simulated_"));
    assert!(answer.whole());
    let document = answer.json();
    assert_eq!(document["usage"]["output_tokens"], 3512);
    assert_eq!(document["usage"]["input_tokens"], 6);
    assert_eq!((&document["size"], &document["quality"]), (&json!("1024x1024"), &json!("high")));
    assert_eq!(size_of_png(&answer.picture(0)), (1024, 1024));
    assert_ne!(answer.picture(0), answer.picture(1));

    let lines = sandbox.book().lines().unwrap();
    let invoice = &lines[0].invoice;
    assert_eq!((invoice.provider.as_str(), invoice.account.as_str(), invoice.n), ("openai", "sk-test", 2));
    assert_eq!(invoice.attempt.as_deref(), Some("try-1"));
    assert_eq!(invoice.usd.to_string(), "0.10539");
    let shown = get(&sandbox, "/control/book").await.json();
    assert_eq!((&shown["count"], &shown["billed_usd"]), (&json!(1), &json!("0.10539")));
    assert_eq!(shown["lines"][0]["prompt"], "a red kite in the wind");
    sandbox.stop().await;
}

#[tokio::test]
async fn invalid_requests_are_refused_as_the_vendor_does_and_not_billed() {
    let sandbox = sandbox().await;
    let route = "/openai/v1/images/generations";
    let model = "gpt-image-2.5-flare";
    for (body, status, code) in [
        (json!({ "model": model, "prompt": "x", "seed": 1 }), 400, "unknown_parameter"),
        (json!({ "model": model, "prompt": "x", "response_format": "url" }), 400, "unknown_parameter"),
        (json!({ "model": model, "prompt": "x", "n": 11 }), 400, "invalid_value"),
        (json!({ "model": model, "prompt": "x", "n": "2" }), 400, "invalid_type"),
        (json!({ "model": model, "prompt": "x", "size": "1000x1000" }), 400, "invalid_value"),
        (json!({ "model": model, "prompt": "x", "size": "1024x320" }), 400, "invalid_value"),
        (json!({ "model": model, "prompt": "x", "size": "3840x2176" }), 400, "invalid_value"),
        (json!({ "model": "gpt-image-2", "prompt": "x", "quality": "max" }), 400, "invalid_value"),
        (json!({ "model": "gpt-image-1.5", "prompt": "x", "size": "512x512" }), 400, "invalid_value"),
        (json!({ "model": model, "prompt": " " }), 400, "missing_required_parameter"),
        (json!({ "model": model, "prompt": "x".repeat(32_001) }), 400, "string_above_max_length"),
        (json!({ "model": model, "prompt": "[[bill-then-dye]]" }), 400, "unknown_directive"),
        (json!({ "model": "gpt-image-1", "prompt": "x" }), 404, "model_not_found"),
        (json!({ "model": "dall-e-3", "prompt": "x", "response_format": "url" }), 404, "model_not_found"),
    ] {
        let answer = post(&sandbox, route, &body).await;
        assert_eq!((answer.status, answer.code().as_str()), (status, code), "{body}");
    }
    let answer = request(&sandbox, &format!("POST {route} HTTP/1.1"), b"{}").await;
    assert_eq!((answer.status, answer.code().as_str()), (401, "invalid_api_key"));
    assert_eq!(get(&sandbox, "/nowhere").await.status, 404);
    assert_eq!(sandbox.book().totals().count, 0);
    assert_eq!(sandbox.stats().requests_seen, 15);
    sandbox.stop().await;
}

#[tokio::test]
async fn an_edit_takes_pictures_from_a_form() {
    let sandbox = sandbox().await;
    let png = generate(&sandbox, "to be edited").await.picture(0);
    let mut form = Vec::new();
    for (name, text) in [("model", "gpt-image-2.6-flare"), ("prompt", "bluer"), ("n", "2"), ("size", "64x64")] {
        let part = format!("--cut\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{text}\r\n");
        form.extend_from_slice(part.as_bytes());
    }
    for name in ["image[]", "image[]", "mask"] {
        let part = format!("--cut\r\nContent-Disposition: form-data; name=\"{name}\"; filename=\"a.png\"\r\n\r\n");
        form.extend_from_slice(part.as_bytes());
        form.extend_from_slice(&png);
        form.extend_from_slice(b"\r\n");
    }
    form.extend_from_slice(b"--cut--\r\n");
    let head = |path: &str| {
        format!(
            "POST {path} HTTP/1.1\r\nAuthorization: Bearer sk-test\r\nContent-Type: multipart/form-data; boundary=cut"
        )
    };
    let answer = request(&sandbox, &head("/openai/v1/images/edits"), &form).await;
    assert_eq!(answer.status, 200, "{:?}", answer.body);
    assert_eq!(answer.json()["data"].as_array().unwrap().len(), 2);
    assert_eq!(answer.json()["usage"]["input_tokens_details"]["image_tokens"], 2048);
    let answer = request(&sandbox, &head("/compatible/v1/images/edits"), &form).await;
    assert_eq!(answer.status, 200);
    let lines = sandbox.book().lines().unwrap();
    let edits: Vec<_> = lines.iter().map(|line| line.invoice.operation.as_str()).collect();
    assert_eq!(edits, ["generate", "edit", "edit"]);

    let end = form.len() - 200;
    let answer = request(&sandbox, &head("/openai/v1/images/edits"), &form[..end]).await;
    assert_eq!(answer.status, 400);
    let no_image = json!({ "model": "gpt-image-2", "prompt": "x" });
    let answer = post(&sandbox, "/openai/v1/images/edits", &no_image).await;
    assert_eq!(answer.code(), "missing_required_parameter");
    assert_eq!(sandbox.book().totals().count, 3);
    sandbox.stop().await;
}

#[tokio::test]
async fn a_stream_ends_with_the_picture_and_its_usage() {
    let sandbox = sandbox().await;
    let body = |prompt: &str| {
        json!({
            "model": "gpt-image-2.5-flare", "prompt": prompt, "size": "1024x1024", "quality": "low", "stream": true,
            "partial_images": 2,
        })
    };
    let route = "/openai/v1/images/generations";
    let answer = post(&sandbox, route, &body("a stream [[trickle=10]]")).await;
    assert_eq!(answer.headers["content-type"], "text/event-stream");
    let text = String::from_utf8(answer.body).unwrap();
    let names: Vec<&str> = text.lines().filter_map(|line| line.strip_prefix("event: ")).collect();
    let (partial, completed) = ("image_generation.partial_image", "image_generation.completed");
    assert_eq!(names, [partial, partial, completed]);
    // The chunked encoding leaves the events themselves in one piece each.
    let last = text.lines().filter_map(|line| line.strip_prefix("data: ")).next_back().unwrap();
    let last: Value = serde_json::from_str(last).unwrap();
    assert_eq!(last["usage"]["output_tokens"], 196 + 2 * 100);

    let refused = post(&sandbox, route, &body("[[stream-refuse]]")).await;
    let text = String::from_utf8(refused.body).unwrap();
    assert_eq!(refused.status, 200);
    assert!(text.contains("event: error") && text.contains("moderation_blocked") && !text.contains(completed));
    assert_eq!(sandbox.book().totals().count, 1);
    assert_eq!(sandbox.stats().in_flight, 0);
    sandbox.stop().await;
}

#[tokio::test]
async fn a_compatible_server_answers_links_and_charges_flat() {
    let sandbox = sandbox().await;
    let route = "/compatible/v1/images/generations";
    let body = json!({ "model": "flat-0.04", "prompt": "x", "n": 3, "size": "40x30", "seed": 7, "steps": 4 });
    let answer = post(&sandbox, route, &body).await.json();
    assert_eq!(answer.get("usage"), None);
    let url = answer["data"][2]["url"].as_str().unwrap();
    let file = get(&sandbox, url.strip_prefix(&sandbox.url()).unwrap()).await;
    assert_eq!((file.status, file.headers["content-type"].as_str()), (200, "image/png"));
    assert_eq!(size_of_png(&file.body), (40, 30));
    assert_eq!(get(&sandbox, "/files/9-9.png").await.status, 404);

    let body = json!({ "model": "any", "prompt": "x", "size": "40x30", "response_format": "b64_json" });
    assert_eq!(size_of_png(&post(&sandbox, route, &body).await.picture(0)), (40, 30));
    let body = json!({ "model": "any", "prompt": "[[refuse-200]]" });
    assert_eq!(post(&sandbox, route, &body).await.json()["data"], json!([]));
    assert_eq!(sandbox.book().totals().billed_usd, "0.13".parse::<Usd>().unwrap());
    sandbox.stop().await;
}

#[tokio::test]
async fn a_native_answer_is_the_picture_with_its_price() {
    let sandbox = sandbox().await;
    let body = json!({ "model": "premium", "prompt": "x", "width": 48, "height": 32, "inputs": ["ignored"] });
    let answer = post(&sandbox, "/native/v1/draw", &body).await;
    assert_eq!(size_of_png(&answer.body), (48, 32));
    assert_eq!(answer.headers["x-sandbox-cost-usd"], "0.04");
    assert_eq!(answer.headers["x-sandbox-invoice"], "1");
    let body = json!({ "model": "free", "prompt": "x" });
    assert_eq!(post(&sandbox, "/native/v1/draw", &body).await.status, 404);
    sandbox.stop().await;
}

#[tokio::test]
async fn unbilled_faults_leave_the_book_empty() {
    let sandbox = sandbox().await;
    for (directive, status, code) in [
        ("fail=502", 502, "server_error"),
        ("throttle=1.5", 429, "rate_limit_exceeded"),
        ("throttle-date", 429, "rate_limit_exceeded"),
        ("quota", 429, "insufficient_quota"),
        ("refuse", 400, "moderation_blocked"),
        ("stream-error", 500, "server_error"),
    ] {
        let answer = generate(&sandbox, &format!("x [[{directive}]]")).await;
        assert_eq!((answer.status, answer.code().as_str()), (status, code), "{directive}");
        match directive {
            "throttle=1.5" => {
                assert_eq!(answer.headers["retry-after"], "2");
                assert_eq!(answer.headers["retry-after-ms"], "1500");
            }
            "throttle-date" => assert!(answer.headers["retry-after"].ends_with(" GMT")),
            _ => {}
        }
    }
    assert_eq!(generate(&sandbox, "[[reset]]").await.status, 0);
    let answer = generate(&sandbox, "[[redirect]]").await;
    assert_eq!((answer.status, answer.headers["location"].as_str()), (302, "/elsewhere"));
    assert_eq!(sandbox.stats().redirects_followed, 0);
    get(&sandbox, "/elsewhere").await;
    assert_eq!(sandbox.stats().redirects_followed, 1);
    assert!(timeout(Duration::from_millis(100), generate(&sandbox, "[[hang]]")).await.is_err());
    assert_eq!(sandbox.book().totals().count, 0);
    sandbox.stop().await;
}

#[tokio::test]
async fn billed_faults_stand_in_the_book() {
    let sandbox = sandbox().await;
    assert_eq!(generate(&sandbox, "[[bill-then-fail=503]]").await.status, 503);
    assert_eq!(generate(&sandbox, "[[bill-then-reset]]").await.status, 0);
    let cut = generate(&sandbox, "[[truncate]]").await;
    assert_eq!(cut.status, 200);
    assert_eq!(cut.headers["content-length"].parse::<usize>().unwrap() / 2, cut.body.len());
    let cut = generate(&sandbox, "[[truncate-picture]]").await;
    assert!(
        cut.whole() && cut.picture(0).starts_with(b"\x89PNG") && !cut.picture(0).ends_with(b"IEND\xAE\x42\x60\x82")
    );
    let page = generate(&sandbox, "[[html]]").await;
    assert!(page.status == 200 && page.headers["content-type"].starts_with("text/html"));
    assert!(generate(&sandbox, "[[html-picture]]").await.picture(0).starts_with(b"<!DOCTYPE html>"));
    let garbage = generate(&sandbox, "[[garbage-json]]").await;
    assert_eq!(garbage.headers["content-type"], "application/json");
    assert!(garbage.whole() && serde_json::from_slice::<Value>(&garbage.body).is_err());
    assert_eq!(sandbox.book().totals().count, 7);

    // The client gives up: billed all the same, and no longer in flight.
    for prompt in ["[[bill-then-hang]]", "[[latency=60000]]"] {
        assert!(timeout(Duration::from_millis(100), generate(&sandbox, prompt)).await.is_err());
    }
    assert_eq!(sandbox.book().totals().count, 9);
    let patience = Instant::now() + Duration::from_secs(5);
    while sandbox.stats().in_flight > 0 && Instant::now() < patience {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(sandbox.stats().in_flight, 0);
    sandbox.stop().await;
}

#[tokio::test]
async fn modifiers_change_the_answer() {
    let sandbox = sandbox().await;
    let since = Instant::now();
    assert_eq!(generate(&sandbox, "[[latency=40]] [[fail=500]]").await.status, 500);
    assert!(generate(&sandbox, "[[trickle=4]]").await.whole());
    assert!(since.elapsed() >= Duration::from_millis(40 + 15 * 4));
    let padded = generate(&sandbox, "[[bytes=4194304]]").await.picture(0);
    assert!((4_194_304..4_194_400).contains(&padded.len()), "{}", padded.len());
    assert_eq!(size_of_png(&padded), (64, 64));
    sandbox.stop().await;
}

#[tokio::test]
async fn a_price_is_changed_while_it_runs() {
    let sandbox = sandbox().await;
    let draw = json!({ "model": "standard", "prompt": "a kite", "width": 64, "height": 64 });
    let cost = async || post(&sandbox, "/native/v1/draw", &draw).await.headers["x-sandbox-cost-usd"].clone();
    assert_eq!(cost().await, "0.01");
    let new = |model: &str, usd: &str| json!({ "model": model, "usd": usd });
    assert_eq!(post(&sandbox, "/control/prices", &new("standard", "0.015")).await.status, 204);
    assert_eq!(cost().await, "0.015");
    let models = get(&sandbox, "/native/v1/models").await.json();
    assert_eq!(models["models"][1], json!({ "id": "standard", "usd_per_picture": "0.015" }));
    assert_eq!(post(&sandbox, "/control/prices", &new("grand", "1")).await.status, 404);
    let book = get(&sandbox, "/control/book").await.json();
    assert_eq!((&book["lines"][0]["usd"], &book["lines"][1]["usd"]), (&json!("0.01"), &json!("0.015")));
    sandbox.stop().await;
}

#[tokio::test]
async fn the_script_and_the_latency_are_set_over_http() {
    let sandbox = sandbox().await;
    let script = json!({ "faults": [
        { "fault": "bill-then-fail=500", "match": "kite", "times": 2 },
        { "fault": ["latency=5", "quota"] },
    ] });
    assert_eq!(post(&sandbox, "/control/faults", &script).await.status, 200);
    assert_eq!(generate(&sandbox, "a kite").await.status, 500);
    assert_eq!(generate(&sandbox, "a boat").await.code(), "insufficient_quota");
    assert_eq!(generate(&sandbox, "a boat").await.status, 200);
    let waiting = get(&sandbox, "/control/faults").await.json();
    assert_eq!(waiting, json!({ "faults": [{ "fault": "bill-then-fail=500", "match": "kite", "times": 1 }] }));
    let delete = "DELETE /control/faults HTTP/1.1";
    assert_eq!(request(&sandbox, delete, b"").await.status, 204);
    assert_eq!(generate(&sandbox, "a kite").await.status, 200);
    let bad = json!({ "faults": [{ "fault": "explode" }] });
    assert_eq!(post(&sandbox, "/control/faults", &bad).await.status, 400);

    assert_eq!(post(&sandbox, "/control/latency", &json!({ "ms": 60 })).await.status, 204);
    let since = Instant::now();
    assert_eq!(generate(&sandbox, "later").await.status, 200);
    assert!(since.elapsed() >= Duration::from_millis(60));
    let stats = get(&sandbox, "/control/stats").await.json();
    assert_eq!((&stats["requests_seen"], &stats["billed"], &stats["in_flight"]), (&json!(5), &json!(4), &json!(0)));
    assert_eq!(get(&sandbox, "/healthz").await.status, 200);
    sandbox.stop().await;
}

#[tokio::test]
async fn the_book_agrees_after_a_crowd_and_a_restart() {
    let path: PathBuf = std::env::temp_dir().join(format!("sandbox-crowd-{}.jsonl", std::process::id()));
    let _ = std::fs::remove_file(&path);
    let options = Options { book: Some(path.clone()), ..Options::default() };
    let sandbox = start(options.clone()).await.unwrap();
    sandbox.set_latency(Duration::from_millis(50));
    let crowd: Vec<_> = (0..40).map(|n| format!("crowd {n}")).collect();
    let mut pictures = std::collections::HashSet::new();
    for group in crowd.chunks(20) {
        let answers = group.iter().map(|prompt| async { generate(&sandbox, prompt).await.picture(0) });
        pictures.extend(join_all(answers.collect()).await);
    }
    assert_eq!(pictures.len(), 40, "no two billed pictures are the same file");
    assert!((2..=20).contains(&sandbox.stats().peak_in_flight));
    assert!(start(options.clone()).await.is_err(), "one book, one writer");
    let hanging = TcpStream::connect(sandbox.addr()).await.unwrap();
    timeout(Duration::from_secs(5), sandbox.stop()).await.unwrap();
    drop(hanging);

    let sandbox = start(options).await.unwrap();
    generate(&sandbox, "after the restart").await;
    let lines = Book::read(&path).unwrap();
    assert_eq!(lines.iter().map(|line| line.seq).collect::<Vec<_>>(), (1..=41).collect::<Vec<_>>());
    let sum: Usd = lines.iter().map(|line| line.invoice.usd).sum();
    assert_eq!(sum, sandbox.book().totals().billed_usd);
    sandbox.stop().await;
    std::fs::remove_file(path).unwrap();
}

/// Runs futures at once on this task.
async fn join_all<F: Future>(futures: Vec<F>) -> Vec<F::Output> {
    let mut running: Vec<_> = futures.into_iter().map(|future| (Box::pin(future), None)).collect();
    std::future::poll_fn(|context| {
        for (future, output) in running.iter_mut().filter(|(_, output)| output.is_none()) {
            if let std::task::Poll::Ready(ready) = future.as_mut().poll(context) {
                *output = Some(ready);
            }
        }
        match running.iter().all(|(_, output)| output.is_some()) {
            true => std::task::Poll::Ready(()),
            false => std::task::Poll::Pending,
        }
    })
    .await;
    running.into_iter().filter_map(|(_, output)| output).collect()
}
