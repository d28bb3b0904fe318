//! Who may call, what they share, and what nobody may see (I11, I19).

use std::process::Stdio;

use mimeo::http::auth::new_key;
use serde_json::{Value, json};

use crate::world::{Reply, Server, World, reply};

/// The key that the gateway has for its providers: see [`crate::world::binary`].
const CANARY: &str = "sk-canary-0123456789";

/// A world with keys, and the keys by name.
async fn locked(keys: &[(&str, &str)]) -> (World, Vec<String>) {
    let mut config = String::new();
    let mut secrets = Vec::new();
    for (name, more) in keys {
        let (key, hash) = new_key().expect("randomness");
        config += &format!("[keys.{name}]\nhash = '{hash}'\n{more}\n");
        secrets.push(key);
    }
    (World::with(&config).await, secrets)
}

async fn post(world: &World, key: &str, body: &Value) -> Reply {
    let request = world.client.post(format!("{}/v1/images/generations", world.gateway.url));
    let request = request.header("content-type", "application/json").header("authorization", format!("Bearer {key}"));
    reply(request.body(body.to_string())).await
}

async fn get(world: &World, key: &str, path: &str) -> Reply {
    reply(world.client.get(format!("{}{path}", world.gateway.url)).header("authorization", format!("Bearer {key}")))
        .await
}

fn kite(prompt: &str) -> Value {
    json!({ "model": "sandbox/standard", "prompt": prompt, "size": "64x64" })
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_key_nothing_is_told() {
    let (world, keys) = locked(&[("web", "tenant = 'shop'")]).await;
    for path in [
        "/v1/models",
        "/v1/models/sandbox/standard",
        "/v1/ledger",
        "/v1/nowhere",
        "/",
        "/metrics",
        "/v1/images/generations",
    ] {
        let refused = world.get(path).await.expect(401);
        assert_eq!(
            (refused.code(), refused.body["error"]["type"].as_str()),
            ("invalid_api_key", Some("authentication_error"))
        );
        assert!(refused.header("www-authenticate").starts_with("Bearer"), "{path}");
        assert!(refused.header("x-request-id").starts_with("req_"));
    }
    for wrong in ["", "x", "mimeo_", &keys[0][..20], &keys[0].to_uppercase(), CANARY] {
        post(&world, wrong, &kite("a kite")).await.expect(401);
    }
    let request = world.client.post(format!("{}/v1/images/generations", world.gateway.url));
    let basic = reply(request.header("authorization", "Basic eDp5").body("{}")).await.expect(401);
    assert_eq!(basic.code(), "invalid_api_key");
    assert!(world.book().await.is_empty());

    let made = post(&world, &keys[0], &kite("a kite")).await.expect(200);
    for open in ["/healthz", "/readyz"] {
        world.get(open).await.expect(200);
    }
    // The name of a picture is the right to fetch it.
    let id = made.body["mimeo"]["images"][0]["id"].as_str().expect("an id");
    let picture = world.client.get(format!("{}/media/{id}", world.gateway.url)).send().await.expect("it answers");
    assert_eq!(picture.status(), 200);
    let uploaded = world.client.post(format!("{}/media/{id}", world.gateway.url)).send().await.expect("it answers");
    assert_eq!(uploaded.status(), 401);
}

/// I11: nothing of one tenant is visible to another, by any route.
#[tokio::test(flavor = "multi_thread")]
async fn i11_tenants_share_nothing() {
    let (world, keys) = locked(&[
        ("web", "tenant = 'shop'"),
        ("app", "tenant = 'shop'"),
        ("other", "tenant = 'bank'"),
        ("root", "tenant = 'ops'\nadmin = true"),
    ])
    .await;
    let [web, app, other, root] = &keys[..] else { panic!("four keys") };
    let first = post(&world, web, &kite("a kite")).await.expect(200);
    assert_eq!(post(&world, app, &kite("a kite")).await.cache(), "hit", "keys of one tenant share");
    let stranger = post(&world, other, &kite("a kite")).await.expect(200);
    assert_eq!(stranger.cache(), "miss");
    assert_ne!(stranger.pictures(), first.pictures());
    let mut peek = kite("a kite at night");
    post(&world, web, &peek).await.expect(200);
    peek["cache"] = json!({ "mode": "only-if-cached" });
    assert_eq!(post(&world, other, &peek).await.code(), "not_cached");
    // Neither do they meet in a flight, nor in a remembered refusal.
    let slow = kite("at once [[latency=300]]");
    let both = futures_util::future::join_all([web, app, other].map(|key| post(&world, key, &slow))).await;
    assert_ne!(both[0].pictures(), both[2].pictures());
    assert_eq!(both[0].pictures(), both[1].pictures());
    assert_eq!(world.book().await.len(), 5);
    let bad = kite("something bad [[refuse]]");
    post(&world, web, &bad).await.expect(400);
    let seen = world.stats().await["requests_seen"].as_u64().expect("a count");
    post(&world, other, &bad).await.expect(400);
    assert_eq!(world.stats().await["requests_seen"].as_u64(), Some(seen + 1), "it was asked for itself");

    for (key, spent, names) in [(web, "0.03", json!(["shop"])), (other, "0.02", json!(["bank"]))] {
        for path in ["/v1/ledger?group_by=tenant", "/v1/ledger?group_by=tenant&tenant="] {
            let path = if path.ends_with('=') {
                format!("{path}{}", names[0].as_str().expect("a name"))
            } else {
                path.to_owned()
            };
            let ledger = get(&world, key, &path).await.expect(200).body;
            assert_eq!(ledger["spent_usd"], spent);
            let rows: Vec<Value> =
                ledger["rows"].as_array().expect("rows").iter().map(|row| row["name"].clone()).collect();
            assert_eq!(json!(rows), names);
        }
        let foreign = if key == web { "bank" } else { "shop" };
        let refused = get(&world, key, &format!("/v1/ledger?tenant={foreign}")).await.expect(403);
        assert_eq!(refused.body["error"]["param"], "tenant");
        let by_key = get(&world, key, "/v1/ledger?group_by=key").await.expect(200).body.to_string();
        assert_eq!(by_key.contains("\"other\""), key == other);
    }
    let all = get(&world, root, "/v1/ledger?group_by=tenant").await.expect(200).body;
    assert_eq!(all["spent_usd"], "0.05");
    assert_eq!(get(&world, root, "/v1/ledger?tenant=bank").await.expect(200).body["spent_usd"], "0.02");
}

/// A pool is shared by those who name it, and by nobody else; the money stays everybody's own.
#[tokio::test(flavor = "multi_thread")]
async fn a_pool_is_shared_by_both_who_name_it() {
    let (world, keys) = locked(&[
        ("one", "tenant = 'a'\npool = 'stock'"),
        ("two", "tenant = 'b'\npool = 'stock'"),
        ("three", "tenant = 'c'\npool = 'other'"),
        ("four", "tenant = 'stock'"),
    ])
    .await;
    let first = post(&world, &keys[0], &kite("a kite")).await.expect(200);
    let second = post(&world, &keys[1], &kite("a kite")).await.expect(200);
    assert_eq!((second.cache(), second.pictures()), ("hit", first.pictures()));
    for outside in &keys[2..] {
        assert_eq!(post(&world, outside, &kite("a kite")).await.cache(), "miss", "a tenant's name is no pool's");
    }
    let ledger = get(&world, &keys[1], "/v1/ledger?group_by=tenant").await.expect(200).body;
    assert_eq!((&ledger["spent_usd"], &ledger["saved_usd"]), (&json!("0"), &json!("0.01")));
    let ledger = get(&world, &keys[0], "/v1/ledger").await.expect(200).body;
    assert_eq!((&ledger["spent_usd"], &ledger["saved_usd"]), (&json!("0.01"), &json!("0")));
}

/// A key's budget holds, also against many at once, and the next period is told.
#[tokio::test(flavor = "multi_thread")]
async fn a_budget_holds() {
    let (world, keys) = locked(&[
        ("web", "budget = { usd = '0.05', per = 'day' }"),
        ("app", "budget = { usd = '0.005', per = 'total' }"),
    ])
    .await;
    let calls = (0..20).map(|i| {
        let body = kite(&format!("kite {i} [[latency=50]]"));
        let (world, key) = (&world, &keys[0]);
        async move { post(world, key, &body).await }
    });
    let replies = futures_util::future::join_all(calls).await;
    let count = |status: u16| replies.iter().filter(|reply| reply.status == status).count();
    assert_eq!((count(200), count(429)), (5, 15));
    assert_eq!(world.book().await.len(), 5);
    let refused = replies.iter().find(|reply| reply.status == 429).expect("one");
    assert_eq!((refused.code(), refused.header("x-should-retry")), ("budget_exceeded", "false"));
    assert!(refused.header("retry-after").parse::<u64>().is_ok_and(|seconds| seconds <= 86_400));
    assert!(refused.message().contains("0.05") && refused.message().contains("per day"), "{}", refused.message());
    // What is there costs nothing, and so it is still served.
    let made = replies.iter().position(|reply| reply.status == 200).expect("one");
    assert_eq!(post(&world, &keys[0], &kite(&format!("kite {made} [[latency=50]]"))).await.expect(200).cache(), "hit");
    assert_eq!(post(&world, &keys[1], &kite("another")).await.expect(429).code(), "budget_exceeded");
}

#[tokio::test(flavor = "multi_thread")]
async fn strangers_are_not_let_in_by_accident() {
    let world = World::new().await;
    for listen in ["0.0.0.0:0", "[::]:0"] {
        let (code, out, err) = world.run(&["serve", "--listen", listen, "--data", "elsewhere"]);
        assert_eq!((code, out.as_str()), (64, ""), "{err}");
        assert!(err.contains("mimeo keys new") && err.contains(listen), "{err}");
    }
    std::fs::write(world.folder.0.join("open.toml"), "[server]\nlisten = '0.0.0.0:0'\n").expect("written");
    let (code, _, err) = world.run(&["serve", "--config", "open.toml"]);
    assert_eq!(code, 64);
    assert!(err.contains("open.toml:1:"), "{err}");

    let (key, hash) = new_key().expect("randomness");
    std::fs::write(
        world.folder.0.join("shut.toml"),
        format!("[server]\nlisten = '0.0.0.0:0'\n[keys.web]\nhash = '{hash}'\n"),
    )
    .expect("written");
    let server = Server::start(world.command(&["serve", "--config", "shut.toml", "--data", "elsewhere"]));
    let url = server.url.replace("0.0.0.0", "127.0.0.1");
    let models = world.client.get(format!("{url}/v1/models"));
    assert_eq!(reply(models.try_clone().expect("a request")).await.status, 401);
    assert_eq!(reply(models.header("authorization", format!("Bearer {key}"))).await.status, 200);
}

/// Starts the world's gateway again, with everything logged to a file.
fn restart_logged(world: &mut World) -> std::path::PathBuf {
    world.gateway.kill();
    let path = world.folder.0.join("gateway.log");
    let mut command = world.command(&["serve", "--listen", "127.0.0.1:0"]);
    command.env("MIMEO_LOG", "trace").stdin(Stdio::null()).stderr(std::fs::File::create(&path).expect("a file"));
    let mut child = command.spawn().expect("it starts");
    let url = loop {
        assert!(
            child.try_wait().expect("a child").is_none(),
            "it ended: {}",
            std::fs::read_to_string(&path).unwrap_or_default()
        );
        let log = std::fs::read_to_string(&path).expect("a log");
        if let Some(url) =
            log.split_inclusive('\n').find_map(|line| line.strip_prefix("listening on ")?.strip_suffix('\n'))
        {
            break url.to_owned();
        }
        std::thread::yield_now();
    };
    world.gateway = Server { child, url, listener: None };
    path
}

/// I19: no secret in any output. The provider's key, the caller's key, and the prompt stay where they belong.
#[tokio::test(flavor = "multi_thread")]
async fn i19_no_secret_in_any_output() {
    let (mut world, keys) = locked(&[("web", "admin = true")]).await;
    let log = restart_logged(&mut world);
    let prompt_canary = "violet-walrus-on-a-unicycle";
    let mut said = String::new();
    let mut hear = |reply: Reply| said += &format!("{:?}\n{}\n", reply.headers, reply.body);
    for fault in [
        "latency=1",
        "fail=401",
        "fail=500",
        "fail=404",
        "quota",
        "throttle=0.01",
        "refuse",
        "reset",
        "bill-then-reset",
        "html",
        "garbage-json",
        "redirect",
        "truncate",
        "html-picture",
        "bill-then-fail=502",
    ] {
        for model in ["openai/gpt-image-2", "sandbox/standard", "compatible/any"] {
            let mut body = json!({ "model": model, "prompt": format!("{prompt_canary} [[{fault}]]"), "size": "64x64", "explain": true });
            hear(post(&world, &keys[0], &body).await);
            body["stream"] = json!(true);
            hear(post(&world, &keys[0], &body).await);
        }
    }
    hear(post(&world, CANARY, &kite("x")).await);
    hear(post(&world, &keys[0], &json!({ "model": CANARY.replace("0123", "4567"), "prompt": "x" })).await);
    for path in ["/v1/models", "/v1/ledger?group_by=key", "/healthz", "/readyz", "/nowhere"] {
        hear(get(&world, &keys[0], path).await);
    }
    for command in [
        &["check"][..],
        &["providers", "--all"],
        &["providers", "--json"],
        &["providers", "show", "openai"],
        &["ledger", "events", "--json", "--limit", "1000"],
        &["ledger", "suspense"],
        &["cache", "list", "--json"],
        &["keys", "--json"],
    ] {
        let (code, out, err) = world.run(command);
        assert_eq!(code, 0, "{command:?}: {err}");
        said += &out;
        said += &err;
    }
    assert!(!said.contains(CANARY), "the provider's key was told");
    assert!(!said.contains(&keys[0]), "the caller's key was told");

    let sent = world.book().await;
    assert!(sent.iter().any(|line| line["account"] == CANARY), "the key was really used");
    world.gateway.kill();
    let log = std::fs::read_to_string(log).expect("a log");
    assert!(log.contains("an attempt failed"), "it did log:\n{log}");
    let mut kept = Vec::new();
    files(&world.data(), &mut kept);
    assert!(!kept.is_empty());
    for (place, text) in
        kept.iter().map(|(path, bytes)| (path.as_str(), bytes.as_slice())).chain([("the log", log.as_bytes())])
    {
        for (what, secret) in [("the provider's key", CANARY), ("the caller's key", keys[0].as_str())] {
            assert!(!contains(text, secret.as_bytes()), "{what} is in {place}");
        }
    }
    assert!(!log.contains(prompt_canary), "prompts are not logged unless asked for");
    world.restart();
}

fn contains(haystack: &[u8], needle: &[u8]) -> bool {
    memchr::memmem::find(haystack, needle).is_some()
}

fn files(folder: &std::path::Path, into: &mut Vec<(String, Vec<u8>)>) {
    for entry in std::fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            files(&path, into);
        } else {
            into.push((path.display().to_string(), std::fs::read(&path).expect("a file")));
        }
    }
}
