//! What is kept, what goes, and that nothing goes that something leads to, whoever is killed meanwhile.

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use serde_json::{Value, json};

use crate::world::World;

/// A picture of about a hundred kilobytes.
fn large(model: &str, prompt: &str) -> Value {
    json!({ "model": model, "prompt": format!("{prompt} [[bytes=100000]]"), "size": "64x64" })
}

/// What `mimeo cache COMMAND --json` says, and that it ends well.
fn findings(world: &World, arguments: &[&str]) -> Value {
    let (code, out, err) = world.run(&[&["cache"], arguments, &["--json"]].concat());
    assert_eq!(code, 0, "{err}{out}");
    serde_json::from_str(&out).expect("JSON")
}

fn listed(world: &World) -> Vec<Value> {
    let entries = findings(world, &["list", "--limit", "1000"]);
    entries.as_array().expect("a list").clone()
}

fn blobs(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).expect("it is there") {
        let path = entry.expect("readable").path();
        match path.is_dir() {
            true if path.ends_with("tmp") => {}
            true => found.extend(blobs(&path)),
            false if path.ends_with("mimeo-store-id") => {}
            false => found.push(path),
        }
    }
    found
}

/// C7: what costs a fraction goes before what is dear, at the same size.
#[tokio::test(flavor = "multi_thread")]
async fn a_bounded_cache_drops_the_cheapest_to_make_again() {
    let config = "[cache]\nmax_mb = 2\n[providers.dear]\nrecord = 'openai-compatible'\n\
                  base_url = '{sandbox}/compatible/v1'\nprices = { usd_per_image = '0.01' }\n\
                  [providers.cheap]\nrecord = 'sandbox'\nbase_url = '{sandbox}/native/v1'\n";
    let world = World::with(config).await;
    for index in 0..10 {
        world.generate(large("dear/sandbox-image", &format!("dear {index}"))).await.expect(200);
    }
    for index in 0..30 {
        world.generate(large("cheap/draft", &format!("cheap {index}"))).await.expect(200);
    }
    // Those of the last seconds are let be; so it takes a while.
    let end = tokio::time::Instant::now() + Duration::from_secs(60);
    let kept = loop {
        let kept = listed(&world);
        let bytes: u64 = kept.iter().map(|entry| entry["bytes"].as_u64().expect("bytes")).sum();
        if bytes <= 2 << 20 {
            break kept;
        }
        assert!(tokio::time::Instant::now() < end, "{bytes} bytes are kept");
        tokio::time::sleep(Duration::from_millis(100)).await;
    };
    let dear = kept.iter().filter(|entry| entry["route"] == "dear/sandbox-image").count();
    assert_eq!(dear, 10, "the dear ones stay");
    assert!(kept.len() >= 15, "no more go than must: {}", kept.len());
    let checked = findings(&world, &["verify"]);
    assert_eq!((&checked["missing"], &checked["corrupt"]), (&json!(0), &json!(0)));
    let bills = world.book().await.len();
    assert_eq!(world.generate(large("dear/sandbox-image", "dear 3")).await.expect(200).cache(), "hit");
    assert_eq!(world.book().await.len(), bills);
}

/// Killed between the rows, the bytes and the trash: nothing that is left leads nowhere, and nothing is forgotten.
#[tokio::test(flavor = "multi_thread")]
async fn a_purge_that_is_killed_is_finished_by_the_next() {
    let world = World::new().await;
    for (round, place) in ["store::after_drop", "store::after_delete"].into_iter().enumerate() {
        for index in 0..5 {
            let body = json!({ "model": "sandbox/draft", "prompt": format!("{round} {index}"), "size": "64x64" });
            world.generate(body).await.expect(200);
        }
        let mut purge = world.command(&["cache", "purge", "--all"]);
        let ended = purge.env("MIMEO_FAILPOINTS", format!("{place}=kill")).output().expect("it runs");
        assert_eq!(ended.status.code(), None, "{place}: killed");
        assert!(listed(&world).is_empty(), "{place}: its rows are gone");
        let body = json!({ "model": "sandbox/draft", "prompt": format!("after {place}"), "size": "64x64" });
        world.generate(body.clone()).await.expect(200);
        findings(&world, &["collect"]);
        assert_eq!(blobs(&world.data().join("blobs")).len(), 1, "{place}: the trash is empty, and what is used stays");
        assert_eq!(world.generate(body).await.expect(200).cache(), "hit");
        let (code, _, err) = world.run(&["cache", "purge", "--all"]);
        assert_eq!(code, 0, "{err}");
    }
}

/// Bytes that were written and never written down are collected when they are old, and not before.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_killed_process_leaves_behind_is_collected() {
    let mut world = World::new().await;
    world.generate(json!({ "model": "sandbox/draft", "prompt": "kept", "size": "64x64" })).await.expect(200);
    world.restart_failing("store::after_blob=kill");
    let url = format!("{}/v1/images/generations", world.gateway.url);
    let body = json!({ "model": "sandbox/draft", "prompt": "lost", "size": "64x64" }).to_string();
    let lost = world.client.post(url).header("content-type", "application/json").body(body).send().await;
    assert!(lost.is_err(), "there is nobody left to answer");
    let _ = world.gateway.child.wait();
    let folder = world.data().join("blobs");
    assert_eq!(blobs(&folder).len(), 2);
    assert_eq!(findings(&world, &["collect"])["orphans"], 0, "it is young");
    for path in blobs(&folder) {
        let file = std::fs::File::options().write(true).open(path).expect("it is there");
        file.set_modified(SystemTime::now() - Duration::from_secs(2 * 3600)).expect("its time is set");
    }
    assert_eq!(findings(&world, &["collect", "--older-than", "1", "--dry-run"])["orphans"], 1);
    assert_eq!(blobs(&folder).len(), 2, "a dry run deletes nothing");
    assert_eq!(findings(&world, &["collect", "--older-than", "1"])["orphans"], 1);
    assert_eq!(blobs(&folder).len(), 1);
    assert_eq!(findings(&world, &["verify"])["missing"], 0);
    world.restart();
    let kept = json!({ "model": "sandbox/draft", "prompt": "kept", "size": "64x64" });
    assert_eq!(world.generate(kept).await.expect(200).cache(), "hit");
}

/// A share that is not mounted, or a wrong `blobs.url`: nothing is paid again because of it, and nothing is deleted.
#[tokio::test(flavor = "multi_thread")]
async fn a_database_with_the_wrong_blobs_is_refused() {
    let mut world = World::new().await;
    let kite = json!({ "model": "sandbox/draft", "prompt": "kite", "size": "64x64" });
    world.generate(kite.clone()).await.expect(200);
    let mine = world.data().join("blobs");
    for path in blobs(&mine) {
        let file = std::fs::File::options().write(true).open(path).expect("it is there");
        file.set_modified(SystemTime::now() - Duration::from_secs(48 * 3600)).expect("its time is set");
    }
    let configure = |name: &str, folder: &Path| {
        let text = format!("[blobs]\nurl = 'file://{}'\n", folder.display());
        std::fs::write(world.folder.0.join(name), text).expect("written");
    };
    configure("unmounted.toml", &world.folder.0.join("share"));
    configure("foreign.toml", &mine);

    // This database, and an empty folder.
    for command in [&["cache", "verify"][..], &["cache", "collect"], &["serve", "--listen", "127.0.0.1:0"]] {
        let (code, _, err) = world.run(&[command, &["--config", "unmounted.toml"]].concat());
        assert_eq!(code, 1, "{command:?}: {err}");
        assert!(err.contains("mounted") && err.contains("share"), "{command:?}: {err}");
    }
    // Another database, and this one's folder.
    let other = world.folder.0.join("other");
    std::fs::create_dir(&other).expect("made");
    let data = ["--data", other.to_str().expect("a path of letters")];
    for command in ["verify", "collect"] {
        let (code, _, err) = world.run(&[&["cache", command, "--config", "foreign.toml"], &data[..]].concat());
        assert_eq!(code, 1, "{command}: {err}");
        assert!(err.contains("another database"), "{command}: {err}");
    }
    assert_eq!(blobs(&mine).len(), 1, "nothing was deleted");
    world.restart();
    assert_eq!(world.generate(kite).await.expect(200).cache(), "hit");

    // Who wants to start with an empty folder can.
    let (code, _, err) = world.run(&["cache", "purge", "--all"]);
    assert_eq!(code, 0, "{err}");
    let (code, _, err) = world.run(&["cache", "verify", "--config", "unmounted.toml"]);
    assert_eq!(code, 0, "{err}");
}

/// Killed over and over while pictures come, are replaced and go: whatever something leads to is there.
#[tokio::test(flavor = "multi_thread")]
async fn nothing_that_is_led_to_is_ever_deleted() {
    let mut world = World::with("[cache]\nmax_mb = 1\n").await;
    for round in 0..8 {
        let seen = world.stats().await["billed"].as_u64().unwrap_or(0);
        let asks = (0..16).map(|index| {
            let mut body = large("sandbox/draft", &format!("heron {round} {index}"));
            if index % 4 == 0 {
                // The same again, in place of what was there.
                body = large("sandbox/draft", &format!("crane {index}"));
                body["cache"] = json!({ "mode": "no-cache" });
                body["retry_unknown"] = json!(true);
            }
            let url = format!("{}/v1/images/generations", world.gateway.url);
            let request = world.client.post(url).header("content-type", "application/json").body(body.to_string());
            async move { request.send().await.is_ok() }
        });
        let asks = tokio::spawn(futures_util::future::join_all(asks));
        world.until(|stats| stats["billed"].as_u64().unwrap_or(0) > seen + round % 4).await;
        let mut purge = world.command(&["cache", "purge", "--route", "sandbox/draft"]);
        let mut purge = purge.spawn().expect("it runs");
        if round % 2 == 0 {
            let _ = purge.kill();
        }
        let _ = purge.wait();
        world.restart();
        let _ = asks.await;
        let found = findings(&world, &["verify"]);
        assert_eq!((&found["missing"], &found["corrupt"]), (&json!(0), &json!(0)), "round {round}: {found}");
    }
}
