//! What a repetition means: cache modes, pools of pictures, and crowds.

use serde_json::{Value, json};

use crate::cache::blobs;
use crate::front_door::{GENERATIONS, assert_fault, kite};
use crate::world::{Folder, World, reply};

#[tokio::test(flavor = "multi_thread")]
async fn the_cache_does_as_the_caller_says() {
    let world = World::new().await;
    let absent = world.generate(kite(&json!({ "cache": { "mode": "only-if-cached" } }))).await;
    assert_fault(&absent, 504, "", "not_cached");
    assert_eq!(absent.header("x-should-retry"), "false");
    assert!(world.book().await.is_empty());

    let first = world.generate(kite(&json!({}))).await.expect(200);
    let kept = world.generate(kite(&json!({ "cache": { "mode": "only-if-cached" } }))).await.expect(200);
    assert_eq!((kept.cache(), kept.pictures()), ("hit", first.pictures()));

    let passing = world.generate(kite(&json!({ "cache": { "mode": "no-store" } }))).await.expect(200);
    assert_ne!(passing.pictures(), first.pictures());
    assert_eq!(passing.body["mimeo"]["images"][0]["id"], Value::Null, "what is not stored has no address");
    assert_eq!(world.generate(kite(&json!({}))).await.expect(200).pictures(), first.pictures());

    let renewed = world.generate(kite(&json!({ "cache": { "mode": "no-cache" } }))).await.expect(200);
    assert_ne!(renewed.pictures(), first.pictures());
    let after = world.generate(kite(&json!({ "cache": { "mode": "default" } }))).await.expect(200);
    assert_eq!((after.cache(), after.pictures()), ("hit", renewed.pictures()), "it replaced what was stored");
    assert_eq!(world.book().await.len(), 3);

    // The header says the same things, and the body goes before it.
    let with = |header: &'static str, body: Value| {
        let request = world.client.post(format!("{}{GENERATIONS}", world.gateway.url));
        let request = request.header("content-type", "application/json").header("cache-control", header);
        reply(request.body(body.to_string()))
    };
    assert_eq!(with("only-if-cached", kite(&json!({ "prompt": "another" }))).await.code(), "not_cached");
    assert_eq!(with("no-store", kite(&json!({}))).await.cache(), "bypass");
    assert_eq!(with("no-cache", kite(&json!({}))).await.cache(), "bypass");
    assert_eq!(with("max-age=3600", kite(&json!({}))).await.cache(), "hit");
    assert_eq!(with("max-age=0", kite(&json!({}))).await.cache(), "miss");
    assert_eq!(with("no-store", kite(&json!({ "cache": { "mode": "default" } }))).await.cache(), "hit");
    assert_eq!(with("public, s-maxage=1", kite(&json!({}))).await.cache(), "hit");
    assert_eq!(world.book().await.len(), 6);
}

/// A pool is filled picture by picture and then costs nothing; more pictures than there are cost the difference.
#[tokio::test(flavor = "multi_thread")]
async fn only_what_a_pool_lacks_is_made() {
    let world = World::with("[routes.pool]\ncandidates = ['sandbox/draft']\n[routes.pool.cache]\nvariants = 2\n").await;
    let three = |more: Value| {
        let mut body = kite(&json!({ "cache": { "variants": 3 } }));
        body.as_object_mut().expect("fields").extend(more.as_object().expect("fields").clone());
        body
    };
    let mut seen = Vec::new();
    for turn in 0..6 {
        let reply = world.generate(three(json!({}))).await.expect(200);
        assert_eq!(reply.cache(), if turn < 3 { "miss" } else { "hit" });
        seen.push(reply.pictures().remove(0));
    }
    assert_eq!(seen[..3], seen[3..], "handed out in rotation");
    assert!(seen[0] != seen[1] && seen[1] != seen[2] && seen[0] != seen[2]);
    assert_eq!(world.book().await.len(), 3);

    // Five of a pool of three: two more, and those three are saved.
    let five = world.generate(three(json!({ "n": 5 }))).await.expect(200);
    assert_eq!((five.header("x-mimeo-cost-usd"), five.header("x-mimeo-saved-usd")), ("0.02", "0.03"));
    let pictures = five.pictures();
    assert_eq!(pictures.len(), 5);
    assert!((1..5).all(|i| !pictures[..i].contains(&pictures[i])), "all are different");
    assert_eq!(world.book().await.len(), 5);
    let all = world.generate(three(json!({ "n": 5 }))).await.expect(200);
    assert_eq!((all.cache(), all.header("x-mimeo-cost-usd"), all.header("x-mimeo-saved-usd")), ("hit", "0", "0.05"));

    // Where a provider makes several in one call, the difference is one call.
    let flat =
        |n: u32| json!({ "model": "openai/gpt-image-2", "prompt": "kites", "size": "64x64", "quality": "low", "n": n });
    world.generate(flat(1)).await.expect(200);
    world.generate(flat(4)).await.expect(200);
    world.generate(flat(3)).await.expect(200);
    let counts: Vec<Value> = world.book().await[5..].iter().map(|line| line["n"].clone()).collect();
    assert_eq!(counts, [1, 3]);

    // A route has a pool of its own size.
    for source in ["miss", "miss", "hit", "hit"] {
        let reply =
            world.generate(json!({ "model": "pool", "prompt": "a blue kite", "size": "64x64" })).await.expect(200);
        assert_eq!(reply.cache(), source);
    }
}

/// The answer of a repetition is the first answer, picture by picture, also where each picture is a call of its own.
#[tokio::test(flavor = "multi_thread")]
async fn several_pictures_come_back_in_their_order() {
    let world = World::new().await;
    for turn in 0..8 {
        let prompt = format!("four kites, {turn}");
        let ask = |more: Value| {
            let mut body = kite(&json!({ "prompt": prompt, "n": 4 }));
            body.as_object_mut().expect("fields").extend(more.as_object().expect("fields").clone());
            world.generate(body)
        };
        let first = ask(json!({})).await.expect(200).pictures();
        let again = ask(json!({})).await.expect(200);
        assert_eq!(again.cache(), "hit");
        assert!(again.pictures() == first, "turn {turn}: the same pictures in another order");
        assert!(ask(json!({ "n": 1 })).await.expect(200).pictures()[0] == first[0]);
        let fresh = ask(json!({ "cache": { "mode": "no-cache" } })).await.expect(200).pictures();
        let kept = ask(json!({})).await.expect(200);
        assert_eq!(kept.cache(), "hit", "turn {turn}: all four replaced what was stored");
        assert!(kept.pictures() == fresh, "turn {turn}");
    }
    assert_eq!(world.book().await.len(), 64);
}

/// Many at once with different wishes pay for the largest wish, and no more.
#[tokio::test(flavor = "multi_thread")]
async fn a_crowd_fills_a_pool_once() {
    let world = World::new().await;
    let ask = |prompt: &str, n: u32, variants: u32| {
        let cache = json!({ "variants": variants });
        world.generate(kite(&json!({ "prompt": format!("{prompt} [[latency=40]]"), "n": n, "cache": cache })))
    };
    let rotation = futures_util::future::join_all((0..24).map(|_| ask("rotation", 1, 3))).await;
    let mut counts = std::collections::BTreeMap::<Vec<u8>, u32>::new();
    for reply in rotation {
        assert_eq!(reply.status, 200, "{}", reply.body);
        *counts.entry(reply.pictures().remove(0)).or_default() += 1;
    }
    // Whoever finds its place empty gets what is made for it, wherever that will stand: about a third each.
    let counts: Vec<u32> = counts.into_values().collect();
    assert!(counts.len() == 3 && counts.iter().all(|count| (6..=10).contains(count)), "{counts:?}");
    assert_eq!(world.book().await.len(), 3);

    let sizes = [1, 4, 2, 5, 1, 3, 5, 2];
    let replies = futures_util::future::join_all(sizes.map(|n| ask("sizes", n, 1))).await;
    for (n, reply) in sizes.iter().zip(&replies) {
        let pictures = reply.pictures();
        assert_eq!(pictures.len(), *n as usize);
        assert_eq!(pictures[0], replies[0].pictures()[0]);
        assert!((1..pictures.len()).all(|i| !pictures[..i].contains(&pictures[i])), "all are different");
    }
    assert_eq!(world.book().await.len(), 3 + 5);
}

/// Of several pictures some were made and paid for. Where nothing is stored nobody could ask for those again.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_paid_for_and_not_stored_is_given_out() {
    let world = World::with("[routes.bare]\ncandidates = ['sandbox/standard']\ncache = { off = true }\n").await;
    let three = |name: &str, more: Value| {
        let mut body = kite(&json!({ "prompt": format!("three kites, {name} [[refuse*1]]"), "n": 3 }));
        body.as_object_mut().expect("fields").extend(more.as_object().expect("fields").clone());
        world.generate(body)
    };
    for (name, more) in [("passing", json!({ "cache": { "mode": "no-store" } })), ("bare", json!({ "model": "bare" }))]
    {
        let reply = three(name, more).await.expect(200);
        let warning = reply.header("x-mimeo-warning");
        assert!(warning.starts_with("1 of 3 pictures could not be made: "), "{warning}");
        assert_eq!((reply.pictures().len(), reply.header("x-mimeo-cost-usd")), (2, "0.02"));
    }
    // What is stored costs nothing when it is asked for again.
    assert_eq!(three("stored", json!({})).await.expect(400).code(), "moderation_blocked");
    let again = three("stored", json!({})).await.expect(200);
    assert_eq!((again.header("x-mimeo-cost-usd"), again.header("x-mimeo-saved-usd")), ("0.01", "0.02"));
    assert_eq!(world.book().await.len(), 7);
}

/// A server that makes two pictures where one is asked for, and is asked too often at first: what it made is enough, and
/// nobody else is asked for more.
#[tokio::test(flavor = "multi_thread")]
async fn more_than_was_asked_for_is_enough() {
    use axum::Json;
    use axum::http::StatusCode;
    use axum::routing::post;
    use std::sync::atomic::{AtomicUsize, Ordering};
    let world = World::new().await;
    let picture = world.generate(kite(&json!({}))).await.expect(200).body["data"][0]["b64_json"].clone();
    let calls = std::sync::Arc::new(AtomicUsize::new(0));
    let two = post(move || async move {
        let answer = json!({ "created": 1, "data": [{ "b64_json": picture }, { "b64_json": picture }] });
        let is_first = calls.fetch_add(1, Ordering::SeqCst) == 0;
        (if is_first { StatusCode::TOO_MANY_REQUESTS } else { StatusCode::OK }, Json(answer))
    });
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port is free");
    let address = listener.local_addr().expect("it is bound");
    let router = axum::Router::new().route("/v1/images/generations", two);
    tokio::spawn(async move { axum::serve(listener, router).await });
    // One call for each picture.
    let record = "name = 'generous'\ntitle = 'a generous one'\nshape = 'openai-images'\n[auth]\nscheme = 'none'\n\
                  [wire]\ngenerate = '/images/generations'\n[fields]\nmodel = 'model'\nprompt = 'prompt'\n\
                  [[models]]\nid = 'pairs'\n";
    let records = Folder::new();
    std::fs::write(records.0.join("generous.toml"), record).expect("written");
    let world = World::with(&format!(
        "[catalogue]\npath = '{}'\n[providers.generous]\nbase_url = 'http://{address}/v1'\n\
         prices = {{ usd_per_image = '0' }}\n[routes.two]\ncandidates = ['generous/pairs', 'sandbox/standard']\n",
        records.0.display()
    ))
    .await;
    let reply = world.generate(json!({ "model": "two", "prompt": "kites", "n": 3 })).await.expect(200);
    assert_eq!((reply.pictures().len(), reply.header("x-mimeo-cost-usd")), (3, "0"));
    assert!(world.book().await.is_empty());
}

/// A key may have come to many pictures. Who gets one of them waits for no other to be read.
#[tokio::test(flavor = "multi_thread")]
async fn a_hit_reads_what_it_gives_out() {
    let mut world = World::new().await;
    let first = world.generate(kite(&json!({}))).await.expect(200);
    let stored = blobs(&world.data());
    for _ in 0..2 {
        let request = world.client.post(format!("{}{GENERATIONS}", world.gateway.url));
        let request = request.header("content-type", "application/json").header("cache-control", "max-age=0");
        assert_eq!(reply(request.body(kite(&json!({})).to_string())).await.expect(200).cache(), "miss");
    }
    // Memory still has them; a new process reads the disk, and would drop what it finds damaged.
    world.gateway.kill();
    let later: Vec<_> = blobs(&world.data()).into_iter().filter(|blob| !stored.contains(blob)).collect();
    assert_eq!(later.len(), 2);
    later.iter().for_each(|blob| std::fs::write(blob, "damaged").expect("written"));
    world.restart();
    let hit = world.generate(kite(&json!({}))).await.expect(200);
    assert_eq!((hit.cache(), hit.pictures()), ("hit", first.pictures()));
    let (_, out, _) = world.run(&["cache", "verify", "--json"]);
    let found: Value = serde_json::from_str(&out).expect("JSON");
    assert_eq!((&found["blobs"], &found["corrupt"]), (&json!(3), &json!(2)), "{found}");
}
