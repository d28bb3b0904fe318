//! What was answered survives `kill -9`, and what was not answered is accounted for.

use std::collections::BTreeMap;

use serde_json::json;

use crate::world::World;

/// Kills the gateway in the middle of its work, again and again. Whatever a caller was given must be there
/// afterwards, byte for byte and without a second invoice; whatever was billed must be in the ledger or in
/// suspense (the audit at the end of the world sees to that).
#[tokio::test(flavor = "multi_thread")]
async fn answers_survive_kill_9_at_any_moment() {
    let mut world = World::new().await;
    let mut given: BTreeMap<String, Vec<u8>> = BTreeMap::new();
    // Killed when so many of a batch are answered: before the first intents, while the provider works, while
    // storing.
    for (round, answered) in [0, 0, 1, 3, 6, 10, 15].into_iter().enumerate() {
        let done = std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(0));
        let calls = (0..16).map(|index| {
            let prompt = format!("kite {round} {index} [[latency={}]]", 20 + index);
            let body = json!({ "model": "sandbox/draft", "prompt": prompt, "size": "64x64" });
            let url = format!("{}/v1/images/generations", world.gateway.url);
            let request = world.client.post(url).header("content-type", "application/json").body(body.to_string());
            let done = std::sync::Arc::clone(&done);
            async move {
                // A connection that breaks is what a caller of a dying process gets.
                let response = request.send().await.ok()?;
                let ok = response.status().is_success();
                let bytes = response.bytes().await.ok()?;
                done.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
                ok.then_some((prompt, bytes))
            }
        });
        let seen = world.stats().await["requests_seen"].as_u64().unwrap_or(0);
        let calls = tokio::spawn(futures_util::future::join_all(calls));
        if round > 0 {
            world.until(|stats| stats["requests_seen"].as_u64().unwrap_or(0) > seen).await;
        }
        while done.load(std::sync::atomic::Ordering::SeqCst) < answered {
            tokio::task::yield_now().await;
        }
        world.restart();
        for (prompt, bytes) in calls.await.unwrap().into_iter().flatten() {
            let answer: serde_json::Value = serde_json::from_slice(&bytes).unwrap();
            let text = answer["data"][0]["b64_json"].as_str().unwrap();
            given.insert(prompt, base64_simd::STANDARD.decode_to_vec(text).unwrap());
        }
    }
    assert!(given.len() > 8, "some were answered before the process died: {}", given.len());
    let billed = world.book().await.len();
    for (prompt, picture) in &given {
        let again =
            world.generate(json!({ "model": "sandbox/draft", "prompt": prompt, "size": "64x64" })).await.expect(200);
        assert_eq!(again.cache(), "hit", "{prompt}");
        assert_eq!(&again.pictures()[0], picture, "{prompt}");
    }
    assert_eq!(world.book().await.len(), billed, "nothing was paid twice");
    assert_eq!(world.ledger().await["reserved_usd"], "0", "nothing is left open");
}

/// Killed exactly between two steps of a paid call: what may have been billed is in suspense, what was written
/// down is served, and what was only set aside is free again.
#[tokio::test(flavor = "multi_thread")]
async fn killed_between_any_two_steps_the_account_is_right() {
    let mut world = World::new().await;
    let mut suspense = mimeo::domain::Usd::ZERO;
    for (place, invoices, is_open, again) in [
        ("attempt::before_intent", 0, false, "miss"),
        ("attempt::after_intent", 0, true, "miss"),
        ("attempt::after_answer", 1, true, "miss"),
        ("attempt::after_admit", 1, true, "miss"),
        ("store::after_blob", 1, true, "miss"),
        ("store::before_blob", 1, true, "miss"),
        ("store::after_settle", 1, false, "hit"),
        ("flight::before_publish", 1, false, "hit"),
    ] {
        let before = world.book().await.len();
        world.restart_failing(&format!("{place}=kill"));
        let body = json!({ "model": "sandbox/draft", "prompt": format!("killed at {place}"), "size": "64x64" });
        let url = format!("{}/v1/images/generations", world.gateway.url);
        let request = world.client.post(url).header("content-type", "application/json").body(body.to_string());
        assert!(request.send().await.is_err(), "{place}: there is nobody left to answer");
        assert_eq!(world.gateway.child.wait().expect("it ended").code(), None, "{place}: by a signal");
        assert_eq!(world.book().await.len() - before, invoices, "{place}");
        if is_open {
            suspense += "0.002".parse().expect("an amount");
        }
        world.restart();
        let ledger = world.ledger().await;
        assert_eq!(ledger["suspense_usd"], suspense.to_string(), "{place}");
        assert_eq!(ledger["reserved_usd"], "0", "{place}");
        let mut body = body;
        if is_open {
            assert_eq!(world.generate(body.clone()).await.expect(504).code(), "outcome_unknown", "{place}");
            body["retry_unknown"] = json!(true);
        }
        assert_eq!(world.generate(body).await.expect(200).cache(), again, "{place}");
    }
}

/// A process that was frozen before it could send asks once more whether it may. Where nobody can tell, nothing is sent,
/// and what was set aside is given back.
#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_confirmed_is_called_off() {
    let mut world = World::with("").await;
    let config = world.folder.0.join("mimeo.toml");
    let text = std::fs::read_to_string(&config).expect("it is there");
    std::fs::write(&config, text.replacen("[storage]\n", "[storage]\nlease_s = 3\n", 1)).expect("written");
    world.restart_failing("attempt::after_intent=sleep:4000");
    let database = rusqlite::Connection::open(world.data().join("mimeo.sqlite")).expect("the database");
    let body = json!({ "model": "sandbox/draft", "prompt": "a kite", "size": "64x64" });
    let asking = async {
        let reply = world.generate(body).await;
        database.execute_batch("ROLLBACK").expect("it was held");
        reply
    };
    let holding = async {
        let sent = "SELECT count(*) FROM attempts WHERE state = 'sending'";
        while database.query_row(sent, [], |row| row.get::<_, u32>(0)).expect("a count") == 0 {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
        // Longer than anybody waits for it.
        database.execute_batch("BEGIN IMMEDIATE").expect("nobody else writes");
    };
    let (reply, ()) = tokio::join!(asking, holding);
    assert_eq!(reply.expect(503).code(), "store_unavailable");
    assert!(world.book().await.is_empty(), "nothing was sent");
    for _ in 0..300 {
        if world.ledger().await["reserved_usd"] == "0" {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
    panic!("it stays set aside: {}", world.ledger().await);
}
