use std::time::Duration;

use axum::body::Body;
use base64_simd::STANDARD;
use serde_json::{Value, json};

use super::*;
use crate::domain::Operation;
use crate::domain::{Format, ImageRequest, Price, Size, Usage, Usd};
use crate::providers::testing::{self, KEY, Server, input, provider, sandbox, typed};

const MODEL: &str = "gpt-image-2.5-flare";

fn b64(bytes: &[u8]) -> String {
    STANDARD.encode_to_string(bytes)
}

fn usage() -> Value {
    json!({ "input_tokens": 12, "input_tokens_details": { "text_tokens": 12, "image_tokens": 0 },
            "output_tokens": 196, "total_tokens": 208 })
}

async fn ask(server: &Server, n: u32, partials: Option<u8>) -> (Result<Generated, Fault>, Vec<bytes::Bytes>) {
    let provider = provider("openai", &format!("{}/v1", server.url), "timeout_s = 5");
    testing::submit(&provider, MODEL, &ImageRequest::generate("a red kite"), n, partials).await
}

#[tokio::test]
async fn a_generation_on_the_wire() {
    let server = Server::start(|_| {
        let data = json!([{ "b64_json": b64(b"one"), "revised_prompt": "a kite" }, { "b64_json": b64(&[2; 5000]) }]);
        testing::json(200, &json!({ "created": 1, "data": data, "usage": usage() }))
    })
    .await;
    let provider = provider("openai", &format!("{}/v1/", server.url), "");
    let request = ImageRequest {
        size: Size::Exact(1536, 1024),
        quality: Some("low".to_owned()),
        output_format: Some(Format::Webp),
        output_compression: Some(80),
        background: Some("transparent".to_owned()),
        moderation: Some("low".to_owned()),
        ..ImageRequest::generate("a red kite")
    };
    let made = testing::submit(&provider, MODEL, &request, 2, None).await.0.unwrap();
    assert_eq!(made.pictures, [b"one".to_vec(), vec![2; 5000]]);
    assert_eq!(made.revised_prompt.as_deref(), Some("a kite"));
    // Output without details is all picture.
    assert_eq!(made.usage, Some(Usage { input_text: 12, input_image: 0, output_text: 0, output_image: 196 }));
    let seen = server.seen();
    assert_eq!(seen.len(), 1);
    assert_eq!(seen[0].path, "/v1/images/generations");
    assert_eq!(seen[0].header("authorization"), Some(format!("Bearer {KEY}").as_str()));
    assert_eq!(seen[0].header("x-client-request-id"), Some(testing::ATTEMPT.to_string().as_str()));
    assert_eq!(seen[0].header("content-length").unwrap().parse::<usize>().unwrap(), seen[0].body.len());
    assert_eq!(
        seen[0].json(),
        json!({ "model": MODEL, "prompt": "a red kite", "n": 2, "size": "1536x1024", "quality": "low", "user": "user-1",
                "output_format": "webp", "output_compression": 80, "background": "transparent", "moderation": "low" })
    );
}

#[tokio::test]
async fn an_edit_is_a_form_with_every_picture() {
    let server = Server::start(|_| {
        let usage = json!({ "input_tokens": 700, "output_tokens": 196 });
        testing::json(200, &json!({ "data": [{ "b64_json": b64(b"edited") }], "usage": usage }))
    })
    .await;
    let provider = provider("openai", &format!("{}/v1", server.url), "");
    let mut first = input(b"FIRST-PICTURE", 8, 8);
    first.file_name = Some("../x\"y.png".to_owned());
    let request = ImageRequest {
        operation: Operation::Edit,
        inputs: vec![first, input(b"SECOND-PICTURE", 9, 9)],
        mask: Some(input(b"THE-MASK", 8, 8)),
        input_fidelity: Some("high".to_owned()),
        ..ImageRequest::generate("a red kite")
    };
    let made = testing::submit(&provider, MODEL, &request, 1, None).await.0.unwrap();
    // Input that is not told apart counts as the dearer kind.
    assert_eq!(made.usage, Some(Usage { input_text: 0, input_image: 700, output_text: 0, output_image: 196 }));
    let seen = &server.seen()[0];
    assert_eq!(seen.path, "/v1/images/edits");
    assert_eq!(seen.header("content-length").unwrap().parse::<usize>().unwrap(), seen.body.len());
    let text = String::from_utf8_lossy(&seen.body);
    assert_eq!(text.matches("name=\"image[]\"").count(), 2, "{text}");
    for part in ["FIRST-PICTURE", "SECOND-PICTURE", "THE-MASK", "name=\"mask\"", "name=\"input_fidelity\"", "image/png"]
    {
        assert!(text.contains(part), "{part}: {text}");
    }
    assert!(!text.contains("../x"), "{text}");
}

fn event(kind: &str, rest: &Value) -> String {
    let mut data = rest.clone();
    data["type"] = json!(kind);
    format!("event: {kind}\ndata: {data}\n\n")
}

fn sse(events: &[String]) -> axum::http::Response<Body> {
    typed(200, "text/event-stream; charset=utf-8", events.concat())
}

#[tokio::test]
async fn a_stream_shows_partial_pictures_and_adds_up() {
    let server = Server::start(|_| {
        sse(&[
            ": hello\n\n".to_owned(),
            event("image_generation.partial_image", &json!({ "b64_json": b64(&[1; 3000]), "partial_image_index": 0 })),
            event("image_generation.partial_image", &json!({ "b64_json": "not base64!", "partial_image_index": 1 })),
            event("image_generation.completed", &json!({ "b64_json": b64(&[2; 9000]), "usage": usage() })),
            event("image_generation.completed", &json!({ "b64_json": b64(b"three"), "usage": usage() })),
            "data: [DONE]\n\n".to_owned(),
        ])
    })
    .await;
    let (made, partials) = ask(&server, 2, Some(9)).await;
    let made = made.unwrap();
    assert_eq!(partials, [vec![1; 3000]]);
    assert_eq!(made.pictures, [vec![2; 9000], b"three".to_vec()]);
    assert_eq!(made.usage.unwrap().output_image, 392);
    let body = server.seen()[0].json();
    assert_eq!((&body["stream"], &body["partial_images"]), (&json!(true), &json!(3)));
}

#[tokio::test]
async fn a_stream_that_fails_is_no_picture() {
    let partial = event("image_generation.partial_image", &json!({ "b64_json": b64(b"p"), "partial_image_index": 0 }));
    let error = |code: &str| event("error", &json!({ "error": { "message": "Sorry.", "code": code } }));
    for (events, kind) in [
        (vec![partial.clone(), error("moderation_blocked")], FaultKind::Refused),
        (vec![partial.clone(), error("server_error")], FaultKind::Unknown),
        (vec![error("rate_limit_exceeded")], FaultKind::Throttled),
        (vec![partial.clone()], FaultKind::Unknown),
        (vec![], FaultKind::Unknown),
        (vec!["data: {\"b64_js".to_owned()], FaultKind::Unknown),
    ] {
        let server = Server::start({
            let events = events.clone();
            move |_| sse(&events)
        })
        .await;
        assert_eq!(ask(&server, 1, Some(2)).await.0.unwrap_err().kind, kind, "{events:?}");
    }
}

#[tokio::test]
async fn a_stream_that_breaks_off_keeps_what_came() {
    let completed = event("image_generation.completed", &json!({ "b64_json": b64(b"one"), "usage": usage() }));
    let server = Server::start(move |_| sse(std::slice::from_ref(&completed))).await;
    let made = ask(&server, 2, Some(1)).await.0.unwrap();
    assert_eq!((made.pictures.len(), made.usage), (1, None));
}

#[tokio::test]
async fn without_partial_pictures_there_is_no_stream() {
    let server = Server::start(|_| testing::json(200, &json!({ "data": [{ "b64_json": b64(b"x") }] }))).await;
    for partials in [None, Some(0)] {
        ask(&server, 1, partials).await.0.unwrap();
    }
    assert!(server.seen().iter().all(|seen| seen.json().get("stream").is_none()));
    // A server that ignores the wish answers in one piece.
    assert_eq!(ask(&server, 1, Some(2)).await.0.unwrap().pictures.len(), 1);
}

#[tokio::test]
async fn odd_successes() {
    use FaultKind::*;
    let ok = |value: Value| value.to_string();
    for (media_type, body, kind) in [
        ("application/json", ok(json!({ "data": [] })), Refused),
        ("application/json", ok(json!({ "data": [{ "b64_json": "" }] })), Refused),
        ("application/json", ok(json!({ "data": [{ "b64_json": "!!!!" }] })), BadAnswer),
        ("application/json", ok(json!({ "data": [{ "url": "https://example.com/x.png" }] })), BadAnswer),
        ("application/json", ok(json!({ "error": { "message": "x", "code": "moderation_blocked" } })), Refused),
        ("application/json", ok(json!({ "error": { "message": "x", "code": "odd" } })), BadAnswer),
        ("application/json", "{\"data\": [{\"b64_j".to_owned(), Unknown),
        ("application/json", "no json at all".to_owned(), Unknown),
        ("text/html", "<html>Bad gateway</html>".to_owned(), BadAnswer),
    ] {
        let server = Server::start({
            let body = body.clone();
            move |_| typed(200, media_type, body.clone())
        })
        .await;
        assert_eq!(ask(&server, 1, None).await.0.unwrap_err().kind, kind, "{body}");
    }
}

#[tokio::test]
async fn a_refusal_that_reports_tokens_is_billed() {
    let server = Server::start(|_| testing::json(200, &json!({ "data": [], "usage": usage() }))).await;
    let fault = ask(&server, 1, None).await.0.unwrap_err();
    assert_eq!(fault.kind, FaultKind::Refused);
    assert_eq!(fault.billed, Some(Price::Known("0.00594".parse().unwrap())));
}

#[tokio::test]
async fn what_nobody_hears_was_not_sent() {
    // A port that was free a moment ago.
    let closed = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let provider = provider("openai", &format!("http://{closed}/v1"), "timeout_s = 2");
    let fault = testing::submit(&provider, MODEL, &ImageRequest::generate("x"), 1, None).await.0.unwrap_err();
    assert_eq!(fault.kind, FaultKind::NotSent);
    assert!(!fault.message.contains("127.0.0.1"), "{}", fault.message);
}

/// A request whose picture is quickly made.
fn small(prompt: &str) -> ImageRequest {
    ImageRequest { size: Size::Exact(128, 128), ..ImageRequest::generate(prompt) }
}

/// What the simulated vendor does on demand, what it bills, and what is made of it.
#[tokio::test]
async fn every_fault_of_the_sandbox() {
    use FaultKind::*;
    let sandbox = sandbox().await;
    let provider = provider("openai", &format!("{}/openai/v1", sandbox.url()), "timeout_s = 1");
    for (directive, kind) in [
        ("fail=500", Unknown),
        ("fail=503", Failed),
        ("fail=502", Unknown),
        ("fail=404", Denied),
        ("hang", Unknown),
        ("bill-then-hang", Unknown),
        ("reset", Unknown),
        ("bill-then-reset", Unknown),
        ("throttle=0.25", Throttled),
        ("throttle-date=5", Throttled),
        ("quota", Denied),
        ("refuse", Refused),
        ("refuse-200", Refused),
        ("redirect", Unknown),
        ("truncate", Unknown),
        ("html", BadAnswer),
        ("garbage-json", Unknown),
    ] {
        let request = small(&format!("a kite [[{directive}]]"));
        let before = sandbox.book().totals().count;
        let fault = testing::submit(&provider, MODEL, &request, 1, None).await.0.unwrap_err();
        assert_eq!(fault.kind, kind, "{directive}: {}", fault.message);
        let billed = sandbox.book().totals().count > before;
        assert!(!billed || fault.kind.may_have_billed(), "{directive} was billed");
        match directive {
            "throttle=0.25" => assert_eq!(fault.retry_after, Some(Duration::from_millis(250))),
            "throttle-date=5" => {
                let wait = fault.retry_after.unwrap();
                assert!((Duration::from_secs(4)..=Duration::from_secs(6)).contains(&wait), "{wait:?}");
            }
            _ => assert_eq!(fault.retry_after, None, "{directive}"),
        }
    }
    for (directive, kind) in
        [("stream-error", Unknown), ("bill-then-stream-error", Unknown), ("stream-refuse", Refused)]
    {
        let request = small(&format!("a kite [[{directive}]]"));
        let (outcome, partials) = testing::submit(&provider, MODEL, &request, 1, Some(2)).await;
        assert_eq!(outcome.unwrap_err().kind, kind, "{directive}");
        assert_eq!(partials.len(), 2, "{directive}");
    }
    assert_eq!(sandbox.stats().redirects_followed, 0);
}

#[tokio::test]
async fn the_bill_is_the_sandboxs_to_the_last_digit() {
    let sandbox = sandbox().await;
    let provider = provider("openai", &format!("{}/openai/v1", sandbox.url()), "");
    let sizes = [Size::Auto, Size::Exact(64, 64), Size::Exact(192, 128), Size::Exact(512, 320)];
    let names: Vec<String> = provider.models().iter().filter(|m| provider.serves(m)).map(|m| m.id.clone()).collect();
    let mut billed = Usd::ZERO;
    for (index, name) in names.iter().filter(|name| mimeo_sandbox::price::Model::find(name).is_some()).enumerate() {
        let model = provider.model(name).unwrap();
        for (quality, partials) in [(None, None), (Some("low"), None), (Some("high"), Some(2))] {
            let size = if name.contains("1.5") { Size::Auto } else { sizes[index % sizes.len()] };
            let quality = quality.map(str::to_owned);
            let n = 1 + index as u32 % 2;
            let request = ImageRequest { size, quality, ..ImageRequest::generate("a red kite, 日本") };
            let (made, seen) = testing::submit(&provider, name, &request, n, partials).await;
            let made = made.unwrap();
            assert_eq!(made.pictures.len(), n as usize);
            assert_eq!(seen.len(), n as usize * usize::from(partials.unwrap_or(0)));
            let Price::Known(bill) = model.billed(&request, n, partials.unwrap_or(0), &made) else { panic!("known") };
            let Price::Known(most) = model.expected(&request, n, partials.unwrap_or(0)) else { panic!("known") };
            assert!(bill <= most, "{name}: {bill} > {most}");
            billed += bill;
        }
    }
    assert_eq!(billed.to_string(), sandbox.book().totals().billed_usd.to_string());
    assert!(!billed.is_zero());
}

#[tokio::test]
async fn edits_are_billed_with_their_input() {
    let sandbox = sandbox().await;
    let provider = provider("openai", &format!("{}/openai/v1", sandbox.url()), "");
    let png = sandbox_picture(&provider).await;
    let picture = crate::domain::Picture {
        digest: crate::domain::Digest::of(&png),
        bytes: png,
        format: Format::Png,
        width: 128,
        height: 128,
    };
    let one = crate::domain::InputPicture { picture, file_name: None };
    let request = ImageRequest {
        operation: Operation::Edit,
        inputs: vec![one.clone(), one.clone()],
        mask: Some(one),
        quality: Some("low".to_owned()),
        ..small("bluer")
    };
    let before = sandbox.book().totals().billed_usd;
    let made = testing::submit(&provider, MODEL, &request, 1, None).await.0.unwrap();
    let model = provider.model(MODEL).unwrap();
    let Price::Known(bill) = model.billed(&request, 1, 0, &made) else { panic!("known") };
    let after: Usd = sandbox.book().totals().billed_usd.to_string().parse().unwrap();
    assert_eq!(after - before.to_string().parse().unwrap(), bill);
    assert!(bill <= model.expected(&request, 1, 0).known().unwrap());
}

async fn sandbox_picture(provider: &Provider) -> bytes::Bytes {
    let request = small("an input");
    testing::submit(provider, MODEL, &request, 1, None).await.0.unwrap().pictures.remove(0)
}

#[tokio::test]
async fn addresses_are_fetched_at_once() {
    let server = Server::start(|seen| match seen.path.as_str() {
        "/files/a.png" if seen.header("authorization").is_none() => testing::json(401, &json!({})),
        "/files/a.png" | "/v1/b.png" => typed(200, "image/png", "PICTURE"),
        _ => testing::json(200, &json!({ "data": [{ "url": "/files/a.png" }, { "url": "b.png" }] })),
    })
    .await;
    let settings = "api_key = { env = \"OPENAI_API_KEY\" }\nprices = { usd_per_image = \"0.01\" }";
    let provider = provider("openai-compatible", &format!("{}/v1", server.url), settings);
    let request = ImageRequest { seed: Some(3), ..ImageRequest::generate("x") };
    let made = testing::submit(&provider, "any-name", &request, 2, None).await.0.unwrap();
    assert_eq!(made.pictures, ["PICTURE", "PICTURE"]);
    let seen = server.seen();
    assert_eq!((&seen[0].json()["response_format"], &seen[0].json()["seed"]), (&json!("b64_json"), &json!(3)));
    // The provider's own server gets the key where it asks for it, and only there.
    let keyed: Vec<_> = seen.iter().map(|seen| (seen.path.as_str(), seen.header("authorization").is_some())).collect();
    let [call, refused, again, open] = keyed[..] else { panic!("{keyed:?}") };
    assert_eq!(
        (call.1, refused, again, open),
        (true, ("/files/a.png", false), ("/files/a.png", true), ("/v1/b.png", false))
    );
}

#[tokio::test]
async fn addresses_elsewhere_are_guarded() {
    let other = Server::start(|_| typed(200, "image/png", "PICTURE")).await;
    let elsewhere = other.url.clone();
    let links = [
        elsewhere.clone(),
        elsewhere.replace("http:", "https:"),
        "https://169.254.169.254/latest/meta-data".to_owned(),
        "file:///etc/passwd".to_owned(),
        "https://localhost/x.png".to_owned(),
    ];
    for link in links {
        let server = Server::start({
            let link = link.clone();
            move |_| testing::json(200, &json!({ "data": [{ "url": link }] }))
        })
        .await;
        let provider = provider("openai-compatible", &format!("{}/v1", server.url), "");
        let outcome = testing::submit(&provider, "m", &ImageRequest::generate("x"), 1, None).await.0;
        let fault = outcome.unwrap_err();
        assert_eq!(fault.kind, FaultKind::BadAnswer, "{link}");
        assert!(!fault.message.contains("169.254") && !fault.message.contains("passwd"), "{}", fault.message);
    }
    assert!(other.seen().is_empty());
}

#[tokio::test]
async fn a_lagging_delivery_is_asked_again_and_a_redirection_is_not_followed() {
    let tries = std::sync::Arc::new(std::sync::atomic::AtomicU32::new(0));
    let count = std::sync::Arc::clone(&tries);
    let server = Server::start(move |seen| match seen.path.as_str() {
        "/late.png" if count.fetch_add(1, std::sync::atomic::Ordering::SeqCst) < 2 => typed(404, "text/plain", ""),
        "/late.png" => typed(200, "image/png", "PICTURE"),
        "/away.png" => {
            axum::http::Response::builder().status(302).header("location", "/late.png").body(Body::empty()).unwrap()
        }
        _ => {
            let link = if seen.json()["prompt"] == "late" { "/late.png" } else { "/away.png" };
            testing::json(200, &json!({ "data": [{ "url": link }] }))
        }
    })
    .await;
    let provider = provider("openai-compatible", &format!("{}/v1", server.url), "");
    let late = testing::submit(&provider, "m", &ImageRequest::generate("late"), 1, None).await.0;
    assert_eq!(late.unwrap().pictures, ["PICTURE"]);
    let away = testing::submit(&provider, "m", &ImageRequest::generate("away"), 1, None).await.0;
    assert_eq!(away.unwrap_err().kind, FaultKind::BadAnswer);
    // The paid calls were made once each.
    assert_eq!(server.seen().iter().filter(|seen| seen.path.ends_with("generations")).count(), 2);
}

#[tokio::test]
async fn the_sandboxs_compatible_server() {
    let sandbox = sandbox().await;
    let settings = "prices = { usd_per_image = \"0.04\" }";
    let provider = provider("openai-compatible", &format!("{}/compatible/v1", sandbox.url()), settings);
    let request = ImageRequest { size: Size::Exact(640, 384), steps: Some(4), ..ImageRequest::generate("a kite") };
    let made = testing::submit(&provider, "flat-0.04", &request, 3, None).await.0.unwrap();
    assert_eq!(made.pictures.len(), 3);
    let bill = provider.model("flat-0.04").unwrap().billed(&request, 3, 0, &made);
    assert_eq!(bill.known().unwrap().to_string(), sandbox.book().totals().billed_usd.to_string());
}
