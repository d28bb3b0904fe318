//! How pictures leave: as base64, as addresses, as bytes, as streams.

use mimeo::domain::Usd;
use reqwest::Method;
use reqwest::header::HeaderMap;
use serde_json::{Value, json};

use crate::world::World;

/// An answer of any kind.
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

    /// The (event, data) pairs of a stream.
    fn events(&self) -> Vec<(String, Value)> {
        let text = std::str::from_utf8(&self.bytes).expect("events are text");
        let blocks = text.split("\n\n").filter(|block| !block.is_empty() && !block.starts_with(':'));
        let read = |block: &str| {
            let (event, data) = block.split_once('\n').expect("two lines");
            let data = data.strip_prefix("data: ").expect("data");
            let event = event.strip_prefix("event: ").expect("a name").to_owned();
            let data: Value = serde_json::from_str(data).expect("data are JSON");
            assert_eq!(data["type"], event.as_str());
            (event, data)
        };
        blocks.map(read).collect()
    }

    fn names(&self) -> Vec<String> {
        self.events().into_iter().map(|(name, _)| name).collect()
    }
}

async fn ask(world: &World, method: Method, url: &str, headers: &[(&str, &str)], body: Option<&Value>) -> Raw {
    let url = if url.starts_with("http") { url.to_owned() } else { format!("{}{url}", world.gateway.url) };
    let mut request = world.client.request(method, url);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    if let Some(body) = body {
        request = request.header("content-type", "application/json").body(body.to_string());
    }
    let response = request.send().await.expect("it answers");
    let (status, headers) = (response.status().as_u16(), response.headers().clone());
    Raw { status, headers, bytes: response.bytes().await.expect("the answer is whole").to_vec() }
}

async fn generate(world: &World, headers: &[(&str, &str)], body: &Value) -> Raw {
    ask(world, Method::POST, "/v1/images/generations", headers, Some(body)).await
}

async fn get(world: &World, url: &str, headers: &[(&str, &str)]) -> Raw {
    ask(world, Method::GET, url, headers, None).await
}

fn decode(text: &Value) -> Vec<u8> {
    base64_simd::STANDARD.decode_to_vec(text.as_str().expect("text")).expect("base64")
}

fn streamed(prompt: &str) -> Value {
    json!({
        "model": "openai/gpt-image-2", "prompt": prompt, "size": "64x64", "quality": "low", "stream": true,
        "partial_images": 2,
    })
}

/// Every model answers with addresses if asked, whatever its provider does.
#[tokio::test(flavor = "multi_thread")]
async fn addresses_of_everything() {
    let world = World::new().await;
    for body in [
        json!({ "model": "sandbox/standard", "prompt": "a kite", "size": "64x64" }),
        json!({ "model": "openai/gpt-image-2", "prompt": "a kite", "size": "64x64", "output_format": "jpeg", "n": 2 }),
        json!({ "model": "compatible/any", "prompt": "a kite", "size": "64x64", "output_format": "webp" }),
        json!({ "template": "quote", "data": { "quote": "Draw once, print many." } }),
    ] {
        let plain = world.generate(body.clone()).await.expect(200);
        let mut by_address = body.clone();
        by_address["response_format"] = json!("url");
        let reply = world.generate(by_address).await.expect(200);
        assert_eq!(reply.cache(), "hit", "the form of delivery is not part of the picture");
        for (item, picture) in reply.body["data"].as_array().expect("data").iter().zip(plain.pictures()) {
            assert!(item.get("b64_json").is_none());
            let url = item["url"].as_str().expect("an address");
            assert!(url.starts_with(&format!("{}/media/img_", world.gateway.url)), "{url}");
            let fetched = get(&world, url, &[]).await;
            assert_eq!((fetched.status, fetched.bytes), (200, picture));
            assert_eq!(
                fetched.headers["content-type"],
                format!("image/{}", plain.body["output_format"].as_str().expect("a format"))
            );
        }
    }
}

/// The addresses begin where the operator says.
#[tokio::test(flavor = "multi_thread")]
async fn addresses_begin_with_the_public_one() {
    let world = World::with("[server]\npublic_url = 'https://pictures.example.com/'\n").await;
    let body = json!({ "model": "sandbox/draft", "prompt": "a kite", "size": "64x64", "response_format": "url" });
    let url = world.generate(body).await.expect(200).body["data"][0]["url"].as_str().expect("an address").to_owned();
    let path = url.strip_prefix("https://pictures.example.com/media/").expect("the public address");
    assert_eq!(get(&world, &format!("/media/{path}"), &[]).await.status, 200);
}

/// `Accept: image/*` is answered with the picture itself.
#[tokio::test(flavor = "multi_thread")]
async fn the_picture_itself() {
    let world = World::new().await;
    let body = json!({ "model": "sandbox/standard", "prompt": "a kite", "size": "64x64" });
    for source in ["miss", "hit"] {
        let raw = generate(&world, &[("accept", "image/png")], &body).await;
        assert_eq!((raw.status, raw.header("content-type"), raw.header("x-mimeo-cache")), (200, "image/png", source));
        assert!(raw.bytes.starts_with(b"\x89PNG"));
        assert_eq!(raw.header("x-content-type-options"), "nosniff");
        assert_eq!(raw.header("content-length"), raw.bytes.len().to_string());
        assert_eq!(raw.header("x-mimeo-cost-usd"), if source == "miss" { "0.01" } else { "0" });
        let json = generate(&world, &[("accept", "application/json, image/png")], &body).await;
        assert_eq!(decode(&json.json()["data"][0]["b64_json"]), raw.bytes);
    }
    let two = json!({ "model": "sandbox/standard", "prompt": "a kite", "size": "64x64", "n": 2 });
    let refused = generate(&world, &[("accept", "image/*")], &two).await;
    assert_eq!((refused.status, refused.json()["error"]["param"].as_str()), (400, Some("n")));
    let wrong = generate(&world, &[("accept", "image/*")], &json!({ "model": "sandbox/standard", "prompt": "" })).await;
    assert_eq!((wrong.status, wrong.header("content-type")), (400, "application/json"), "errors stay JSON");
}

/// A picture by its address, from memory and, after a restart, from the disk.
#[tokio::test(flavor = "multi_thread")]
async fn media_is_http_as_it_should_be() {
    let mut world = World::new().await;
    let body = json!({ "model": "sandbox/standard", "prompt": "a kite", "size": "64x64" });
    let made = world.generate(body).await.expect(200);
    let bytes = made.pictures().remove(0);
    let url = format!("/media/{}", made.body["mimeo"]["images"][0]["id"].as_str().expect("an id"));
    for place in ["memory", "disk"] {
        if place == "disk" {
            world.restart();
        }
        let whole = get(&world, &url, &[]).await;
        assert_eq!((whole.status, &whole.bytes), (200, &bytes), "{place}");
        assert_eq!(whole.header("content-type"), "image/png");
        assert_eq!(whole.header("cache-control"), "public, max-age=31536000, immutable");
        assert_eq!(whole.header("accept-ranges"), "bytes");
        assert_eq!(whole.header("x-content-type-options"), "nosniff");
        assert_eq!(whole.header("content-security-policy"), "default-src 'none'; sandbox");
        assert_eq!(whole.header("x-mimeo-simulated"), "true");
        let etag = whole.header("etag").to_owned();
        assert!(etag.starts_with('"') && etag.len() == 34, "{etag}");

        for asked in [etag.clone(), format!("W/{etag}"), "*".to_owned(), format!("\"other\", {etag}")] {
            let same = get(&world, &url, &[("if-none-match", &asked)]).await;
            assert_eq!((same.status, same.bytes.len(), same.header("etag")), (304, 0, etag.as_str()), "{asked}");
        }
        assert_eq!(get(&world, &url, &[("if-none-match", "\"other\"")]).await.status, 200);

        let part = get(&world, &url, &[("range", "bytes=1-3")]).await;
        assert_eq!((part.status, part.bytes.as_slice()), (206, &b"PNG"[..]));
        assert_eq!(part.header("content-range"), format!("bytes 1-3/{}", bytes.len()));
        let end = get(&world, &url, &[("range", "bytes=-12")]).await;
        assert_eq!((end.status, end.bytes.as_slice()), (206, &bytes[bytes.len() - 12..]));
        let beyond = get(&world, &url, &[("range", "bytes=99999999-")]).await;
        assert_eq!((beyond.status, beyond.header("content-range")), (416, format!("bytes */{}", bytes.len()).as_str()));
        let stale = get(&world, &url, &[("range", "bytes=1-3"), ("if-range", "\"other\"")]).await;
        assert_eq!((stale.status, stale.bytes.len()), (200, bytes.len()));

        let head = ask(&world, Method::HEAD, &url, &[], None).await;
        assert_eq!((head.status, head.bytes.len()), (200, 0), "{place}");
        assert_eq!(
            (head.header("content-length"), head.header("etag")),
            (bytes.len().to_string().as_str(), etag.as_str())
        );
    }
    for unknown in
        ["/media/img_00000000000000000000000000000000", "/media/img_1", "/media/kite.png", "/media/..%2f..%2fetc"]
    {
        let none = get(&world, unknown, &[]).await;
        assert_eq!((none.status, none.json()["error"]["code"].as_str()), (404, Some("picture_not_found")), "{unknown}");
        assert_eq!(none.header("cache-control"), "", "what is not there now may be there later");
    }
    assert_eq!(ask(&world, Method::DELETE, &url, &[], None).await.status, 405);
}

/// A stream of what is made shows it grow; one of what is stored shows it whole.
#[tokio::test(flavor = "multi_thread")]
async fn streams_of_misses_and_hits() {
    let world = World::new().await;
    let body = streamed("it grows [[latency=200]]");
    let miss = generate(&world, &[], &body).await;
    assert_eq!((miss.status, miss.header("content-type")), (200, "text/event-stream; charset=utf-8"));
    assert_eq!(miss.header("cache-control"), "no-cache");
    assert!(miss.header("x-request-id").starts_with("req_"));
    let kinds = ["image_generation.partial_image", "image_generation.partial_image", "image_generation.completed"];
    assert_eq!(miss.names(), kinds);
    let events = miss.events();
    for (index, (_, data)) in events[..2].iter().enumerate() {
        assert_eq!(data["partial_image_index"], index);
        assert_eq!(
            (&data["size"], &data["quality"], &data["output_format"]),
            (&json!("64x64"), &json!("low"), &json!("png"))
        );
        assert!(decode(&data["b64_json"]).starts_with(b"\x89PNG"));
    }
    let done = &events[2].1;
    let line = &world.book().await[0];
    assert_eq!(done["mimeo"]["cost_usd"], line["usd"], "partial pictures are paid for, and accounted for");
    assert_eq!(done["usage"]["output_tokens"], line["usage"]["output_tokens"]);

    let hit = generate(&world, &[], &body).await;
    assert_eq!((hit.names(), hit.header("x-mimeo-cache")), (vec![kinds[2].to_owned()], "hit"));
    assert_eq!(hit.events()[0].1["b64_json"], done["b64_json"]);
    assert_eq!(hit.events()[0].1["usage"], done["usage"]);
    let mut whole = body.clone();
    whole["stream"] = json!(false);
    whole["partial_images"] = json!(null);
    assert_eq!(world.generate(whole).await.expect(200).cache(), "hit", "streamed or not is not part of the picture");
    assert_eq!(world.book().await.len(), 1);

    // A model that shows nothing meanwhile, several pictures, and a template.
    let two = json!({ "model": "sandbox/standard", "prompt": "two", "size": "64x64", "n": 2, "stream": true, "partial_images": 3 });
    let two = generate(&world, &[], &two).await;
    let (progress, shown): (Vec<String>, Vec<String>) =
        two.names().into_iter().partition(|name| name == "image_generation.progress");
    assert!(!progress.is_empty(), "it says that it is at it");
    assert_eq!(shown, [kinds[2], kinds[2]]);
    assert_eq!(two.header("x-mimeo-cost-usd"), "0.02");
    let cost = |event: &(String, Value)| {
        event.1["mimeo"]["images"][0]["cost_usd"].as_str().expect("text").parse::<Usd>().expect("usd")
    };
    let completed: Vec<_> = two.events().into_iter().filter(|(name, _)| name == kinds[2]).collect();
    assert_eq!(completed.iter().map(cost).fold(Usd::ZERO, |sum, usd| sum + usd).to_string(), "0.02");
    let card = json!({ "template": "quote", "data": { "quote": "x" }, "stream": true });
    let card = generate(&world, &[], &card).await;
    assert_eq!((card.names(), card.header("x-mimeo-provider")), (vec![kinds[2].to_owned()], "template"));
}

/// Who joins a stream under way pays nothing and gets the same picture.
#[tokio::test(flavor = "multi_thread")]
async fn streams_are_joined() {
    let world = World::new().await;
    let body = streamed("together [[latency=400]]");
    let crowd = futures_util::future::join_all((0..10).map(|_| generate(&world, &[], &body))).await;
    let last = |raw: &Raw| raw.events().pop().expect("an event");
    let first = last(&crowd[0]).1["b64_json"].clone();
    for raw in &crowd {
        let (name, data) = last(raw);
        assert_eq!((name.as_str(), &data["b64_json"]), ("image_generation.completed", &first));
    }
    assert_eq!(world.book().await.len(), 1);
}

/// Before anything is sent an error has a status; afterwards it is the last event.
#[tokio::test(flavor = "multi_thread")]
async fn streams_that_fail() {
    let world = World::new().await;
    for (prompt, status, code) in [
        ("refused [[refuse]]", 400, "moderation_blocked"),
        ("throttled [[throttle=0.01]]", 429, "rate_limit_exceeded"),
        ("lost [[bill-then-reset]]", 504, "outcome_unknown"),
    ] {
        let failed = generate(&world, &[], &streamed(prompt)).await;
        assert_eq!((failed.status, failed.header("content-type")), (status, "application/json"), "{prompt}");
        assert_eq!(failed.json()["error"]["code"], code);
    }
    let mut wrong = streamed("x");
    wrong["size"] = json!("9000x9000");
    assert_eq!(generate(&world, &[], &wrong).await.json()["error"]["param"], "size");
    let mut absent = streamed("x");
    absent["cache"] = json!({ "mode": "only-if-cached" });
    assert_eq!(generate(&world, &[], &absent).await.status, 504);
    assert_eq!(world.book().await.len(), 1);

    let paid = ["bill-then-stream-error", "truncate"];
    for fault in ["stream-error", "stream-refuse", "bill-then-stream-error", "truncate"] {
        let before = world.book().await.len();
        let failed = generate(&world, &[], &streamed(&format!("broken [[{fault}]][[latency=150]]"))).await;
        assert_eq!(failed.status, 200, "{fault}: the first partial picture was there");
        let (last, before_it) = {
            let mut names = failed.names();
            (names.pop().expect("an event"), names)
        };
        assert_eq!(last, "error", "{fault}");
        assert!(before_it.iter().all(|name| name == "image_generation.partial_image"), "{fault}: {before_it:?}");
        let error = failed.events().pop().expect("an event").1["error"].clone();
        let code = error["code"].as_str().expect("a code");
        assert!(!error["message"].as_str().expect("a message").is_empty());
        match fault {
            "stream-refuse" => assert_eq!(code, "moderation_blocked"),
            _ if paid.contains(&fault) => assert_eq!(code, "outcome_unknown", "{fault}"),
            _ => {}
        }
        let billed = world.book().await.len() - before;
        assert_eq!(billed, usize::from(paid.contains(&fault)), "{fault}: it is not sent again");
    }
}

/// Who leaves a stream neither ends nor repeats the work.
#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_nobody_reads_ends_well() {
    let world = World::new().await;
    let body = streamed("left alone [[latency=600]]");
    let url = format!("{}/v1/images/generations", world.gateway.url);
    let request = world.client.post(url).header("content-type", "application/json").body(body.to_string());
    let response = request.send().await.expect("the first event came");
    assert_eq!(response.status(), 200);
    drop(response);
    let again = generate(&world, &[], &body).await;
    assert_eq!(again.names().last().map(String::as_str), Some("image_generation.completed"));
    assert_eq!(world.book().await.len(), 1);
}
