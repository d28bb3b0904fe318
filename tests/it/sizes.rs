//! What a model cannot make is brought from the nearest that it can: exact sizes, other encodings, one bill.

use mimeo::domain::{Format, Picture};
use reqwest::Method;
use reqwest::header::HeaderMap;
use serde_json::{Value, json};

use crate::world::World;

/// Makes squares and two oblong sizes, and nothing else.
const LISTED: &str = "openai/gpt-image-1.5";

fn ask(size: &str) -> Value {
    json!({ "model": LISTED, "prompt": "a red kite", "quality": "low", "size": size })
}

fn with(mut body: Value, name: &str, value: Value) -> Value {
    body[name] = value;
    body
}

/// The bytes are a whole picture.
#[track_caller]
fn picture(bytes: Vec<u8>) -> Picture {
    mimeo::media::examine(bytes.into()).expect("a picture")
}

fn decode(text: &Value) -> Picture {
    picture(base64_simd::STANDARD.decode_to_vec(text.as_str().expect("text")).expect("base64"))
}

fn form(picture: &Picture) -> (u32, u32, Format) {
    (picture.width, picture.height, picture.format)
}

async fn fetch(world: &World, method: Method, url: &str, headers: &[(&str, &str)]) -> (u16, HeaderMap, Vec<u8>) {
    let url = if url.starts_with("http") { url.to_owned() } else { format!("{}{url}", world.gateway.url) };
    let request =
        headers.iter().fold(world.client.request(method, url), |request, (name, value)| request.header(*name, *value));
    let response = request.send().await.expect("it answers");
    let (status, headers) = (response.status().as_u16(), response.headers().clone());
    (status, headers, response.bytes().await.expect("whole").to_vec())
}

async fn get(world: &World, url: &str) -> (u16, HeaderMap, Vec<u8>) {
    fetch(world, Method::GET, url, &[]).await
}

/// Every size comes out as it was asked for, and those that are brought from one picture have one bill.
#[tokio::test(flavor = "multi_thread")]
async fn exact_sizes_and_one_bill() {
    let world = World::new().await;
    for (number, (size, width, height)) in
        [("1200x630", 1200, 630), ("1200x640", 1200, 640), ("1536x1024", 1536, 1024), ("1501x1001", 1501, 1001)]
            .into_iter()
            .enumerate()
    {
        let reply = world.generate(ask(size)).await.expect(200);
        assert_eq!(form(&picture(reply.pictures().remove(0))), (width, height, Format::Png));
        assert_eq!((reply.body["size"].as_str(), reply.body["output_format"].as_str()), (Some(size), Some("png")));
        assert_eq!(reply.body["mimeo"]["images"][0]["width"], width);
        assert_eq!(reply.cache(), if number == 0 { "miss" } else { "hit" }, "{size}");
        assert!(!reply.headers.contains_key("x-mimeo-warning"));
        let again = world.generate(ask(size)).await.expect(200);
        assert_eq!((again.cache(), again.pictures()), ("hit", reply.pictures()), "{size}");
    }
    let book = world.book().await;
    assert_eq!((book.len(), book[0]["size"].as_str()), (1, Some("1536x1024")));

    // Also by a ratio, and where the size is told as what is brought to it.
    let wide = with(ask("auto"), "aspect_ratio", json!("16:9"));
    let reply = world.generate(with(wide, "explain", json!(true))).await.expect(200);
    assert_eq!(form(&picture(reply.pictures().remove(0))), (1536, 864, Format::Png));
    assert_eq!(reply.cache(), "hit");
    let lines = reply.body["mimeo"]["explain"].to_string();
    assert!(lines.contains("pictures are brought to 1536x864, of 1536x1024"), "{lines}");

    // What nothing near can be made of is refused before it costs anything.
    let refused = world.generate(ask("4000x4000")).await.expect(400);
    assert_eq!(refused.body["error"]["param"], "size");
    assert!(refused.message().contains("1024x1024, 1536x1024, 1024x1536"), "{}", refused.message());
    assert_eq!(world.book().await.len(), 1);
}

/// An encoding that the model does not have; the original stays as it came.
#[tokio::test(flavor = "multi_thread")]
async fn other_encodings_of_one_picture() {
    let world = World::new().await;
    let body = |format: &str| json!({ "model": "sandbox/premium", "prompt": "a kite", "size": "96x64", "output_format": format });
    for (format, expected) in [("jpeg", Format::Jpeg), ("webp", Format::Webp), ("png", Format::Png)] {
        let reply = world.generate(body(format)).await.expect(200);
        assert_eq!(form(&picture(reply.pictures().remove(0))), (96, 64, expected));
        assert_eq!(reply.body["output_format"], format);
        let raw = world.client.post(format!("{}/v1/images/generations", world.gateway.url));
        let raw = raw.header("accept", "image/*").header("content-type", "application/json");
        let raw = raw.body(body(format).to_string()).send().await.expect("it answers");
        assert_eq!(raw.headers()["content-type"], format!("image/{format}"));
        assert_eq!(raw.bytes().await.expect("whole"), reply.pictures().remove(0));
    }
    assert_eq!(world.book().await.len(), 1);
    let packed = world.generate(with(body("jpeg"), "output_compression", json!(50))).await.expect(400);
    assert_eq!(packed.body["error"]["param"], "output_compression");
}

/// Copies have addresses, of which everything holds that holds of pictures; after a restart they are made again.
#[tokio::test(flavor = "multi_thread")]
async fn copies_by_address() {
    let mut world = World::new().await;
    let inside = world.generate(ask("1200x630")).await.expect(200).pictures().remove(0);
    let reply = world.generate(with(ask("1200x630"), "response_format", json!("url"))).await.expect(200);
    let url = reply.body["data"][0]["url"].as_str().expect("an address");
    let path = url.strip_prefix(&world.gateway.url).expect("its own").to_owned();
    assert!(path.ends_with("/1200x630.png"), "{path}");
    for place in ["memory", "disk"] {
        if place == "disk" {
            world.restart();
        }
        let (status, headers, bytes) = get(&world, &path).await;
        assert!((status, &bytes) == (200, &inside), "{place}: {status}");
        assert_eq!(headers["content-type"], "image/png");
        assert_eq!(headers["cache-control"], "public, max-age=31536000, immutable");
        let etag = headers["etag"].to_str().expect("text").to_owned();
        let (status, _, none) = fetch(&world, Method::GET, &path, &[("if-none-match", &etag)]).await;
        assert_eq!((status, none.len()), (304, 0));
        let (status, _, part) = fetch(&world, Method::GET, &path, &[("range", "bytes=1-3")]).await;
        assert_eq!((status, part.as_slice()), (206, &b"PNG"[..]));
        let (status, headers, none) = fetch(&world, Method::HEAD, &path, &[]).await;
        assert_eq!((status, none.len()), (200, 0));
        assert_eq!(headers["content-length"], bytes.len().to_string());
        let hit = world.generate(ask("1200x630")).await.expect(200);
        assert!((hit.cache(), hit.pictures().remove(0)) == ("hit", inside.clone()), "{place}");
    }
    // The name of the picture alone leads to the original, and any other copy is made when it is asked for.
    let original = path.strip_suffix("/1200x630.png").expect("the original's");
    assert_eq!(form(&picture(get(&world, original).await.2)), (1536, 1024, Format::Png));
    for (copy, expected) in [
        ("600x315.jpeg", (600, 315, Format::Jpeg)),
        ("32x32.webp", (32, 32, Format::Webp)),
        ("1536x1024.png", (1536, 1024, Format::Png)),
        ("2048x2048.jpeg", (2048, 2048, Format::Jpeg)),
    ] {
        let (status, _, bytes) = get(&world, &format!("{original}/{copy}")).await;
        assert_eq!((status, form(&picture(bytes))), (200, expected), "{copy}");
    }
    for (hostile, status) in [
        ("4097x64.png", 400),
        ("3073x64.png", 400),
        ("65535x65535.png", 400),
        ("99999x99999.png", 404),
        ("0x0.png", 404),
        ("-1x-1.png", 404),
        ("600x315.gif", 404),
        ("600x315.svg", 404),
        ("600x315", 404),
        ("600x315.png/600x315.png", 404),
        ("%36%30%30x315.png", 404),
        ("18446744073709551617x1.png", 404),
    ] {
        let (got, _, body) = get(&world, &format!("{original}/{hostile}")).await;
        assert_eq!(got, status, "{hostile}: {}", String::from_utf8_lossy(&body));
    }
    let nobody = format!("/media/img_{:032x}/600x315.png", 7);
    assert_eq!(get(&world, &nobody).await.0, 404);
    assert_eq!(world.book().await.len(), 1);
}

/// A copy goes with its picture.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_purged_has_no_copies() {
    let world = World::new().await;
    let reply = world.generate(with(ask("1200x630"), "response_format", json!("url"))).await.expect(200);
    let url = reply.body["data"][0]["url"].as_str().expect("an address");
    assert_eq!(get(&world, url).await.0, 200);
    let (code, _, said) = world.run(&["cache", "purge", "--all"]);
    assert_eq!(code, 0, "{said}");
    // Every gateway notices within a second; its readiness is asked for until then.
    let gone = async {
        while get(&world, url).await.0 != 404 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(30), gone).await.expect("the copy is gone as well");
}

/// Streams end with what was asked for; what they show before is as it comes.
#[tokio::test(flavor = "multi_thread")]
async fn streams_end_with_the_copy() {
    let world = World::new().await;
    let body = json!({
        "model": "openai/gpt-image-2", "prompt": "it grows", "quality": "low", "size": "100x50", "stream": true,
        "partial_images": 1,
    });
    let request = world.client.post(format!("{}/v1/images/generations", world.gateway.url));
    let response = request.header("content-type", "application/json").body(body.to_string()).send().await;
    let text = response.expect("it answers").text().await.expect("text");
    let data: Vec<Value> = text
        .lines()
        .filter_map(|line| line.strip_prefix("data: "))
        .map(|data| serde_json::from_str(data).expect("JSON"))
        .collect();
    assert_eq!(data.len(), 2, "{text}");
    assert_eq!(data[1]["type"], "image_generation.completed");
    assert_eq!((form(&decode(&data[1]["b64_json"])), &data[1]["size"]), ((100, 50, Format::Png), &json!("100x50")));
    let partial = decode(&data[0]["b64_json"]);
    assert!((partial.width, partial.height) != (100, 50), "as the model makes it");
    assert_eq!(world.book().await.len(), 1);
}

/// Who asks again under the same key, or later, gets the same copy.
#[tokio::test(flavor = "multi_thread")]
async fn kept_answers_keep_their_form() {
    let mut world = World::new().await;
    let body = with(with(ask("300x200"), "output_format", json!("jpeg")), "prompt", json!("a kept kite"));
    let mut seen = Vec::new();
    for round in 0..3 {
        if round == 2 {
            world.restart();
        }
        let request = world.client.post(format!("{}/v1/images/generations", world.gateway.url));
        let request = request.header("content-type", "application/json").header("idempotency-key", "k");
        let reply = crate::world::reply(request.body(body.to_string())).await.expect(200);
        assert_eq!(reply.headers.contains_key("idempotency-replayed"), round > 0);
        assert_eq!(
            (reply.body["size"].as_str(), reply.body["output_format"].as_str()),
            (Some("300x200"), Some("jpeg"))
        );
        seen.push(reply.pictures().remove(0));
    }
    assert_eq!(form(&picture(seen[0].clone())), (300, 200, Format::Jpeg));
    assert!(seen[1] == seen[0] && seen[2] == seen[0]);
    assert_eq!(world.book().await.len(), 1);
}

/// The command line brings pictures to their size as well.
#[tokio::test(flavor = "multi_thread")]
async fn the_command_line_writes_the_copy() {
    let world = World::new().await;
    let out = world.data().with_file_name("wide.png");
    let path = out.to_str().expect("text");
    let (code, _, said) =
        world.run(&["generate", "a red kite", "--model", LISTED, "--quality", "low", "--size", "1200x630", "-o", path]);
    assert_eq!(code, 0, "{said}");
    assert_eq!(form(&picture(std::fs::read(&out).expect("written"))), (1200, 630, Format::Png));
    assert_eq!(world.generate(ask("1200x640")).await.expect(200).cache(), "hit");
}
