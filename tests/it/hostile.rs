//! Answers of a provider that are broken, huge or slow: the process lives, its memory stays bounded, and the money is
//! where the answer says.

use mimeo::domain::Usd;
use serde_json::json;

use crate::world::World;

const MEBIBYTE: u64 = 1 << 20;

/// How much memory the gateway holds now and has held at most, in bytes.
fn memory(world: &World) -> (u64, u64) {
    let path = format!("/proc/{}/status", world.gateway.child.id());
    let status = std::fs::read_to_string(path).expect("the gateway lives");
    let bytes = |name: &str| -> u64 {
        let line = status.lines().find_map(|line| line.strip_prefix(name)).expect("the kernel tells");
        line.trim().trim_end_matches(" kB").parse::<u64>().expect("a number") * 1024
    };
    (bytes("VmRSS:"), bytes("VmHWM:"))
}

/// What the ledger says of `column`.
async fn balance(world: &World, column: &str) -> Usd {
    world.ledger().await[column].as_str().expect("amounts are text").parse().expect("a decimal")
}

/// I20: whatever bytes come, no panic, memory has a bound, and what was billed is spent or in suspense.
#[tokio::test(flavor = "multi_thread")]
async fn i20_hostile_bytes_break_nothing() {
    let world = World::new().await;
    let ask = |model: &str, directive: &str| {
        let body = json!({ "model": model, "prompt": format!("a kite {directive}"), "size": "1024x1024",
                           "response_format": "url" });
        world.generate(body)
    };
    ask("sandbox/standard", "first").await.expect(200);
    let (before, _) = memory(&world);

    // The sandbox states its price, so a broken picture is spent; tokens are a price, too. What cannot be read says
    // nothing of a bill, and is in suspense.
    let cases = [
        ("sandbox/standard", "[[html-picture]]", 502, "unusable_answer", "spent_usd"),
        ("sandbox/standard", "[[truncate-picture]]", 502, "unusable_answer", "spent_usd"),
        ("sandbox/standard", "[[garbage-json]]", 504, "outcome_unknown", "suspense_usd"),
        ("sandbox/standard", "[[truncate]][[bytes=3000000]]", 504, "outcome_unknown", "suspense_usd"),
        ("openai/gpt-image-2", "[[html-picture]]", 502, "unusable_answer", "spent_usd"),
        ("openai/gpt-image-2", "[[truncate-picture]]", 502, "unusable_answer", "spent_usd"),
        ("openai/gpt-image-2", "[[garbage-json]]", 504, "outcome_unknown", "suspense_usd"),
        ("openai/gpt-image-2", "[[truncate]][[bytes=3000000]]", 504, "outcome_unknown", "suspense_usd"),
        ("sandbox/standard", "[[trickle=10]]", 200, "", "spent_usd"),
        ("openai/gpt-image-2", "[[trickle=10]]", 200, "", "spent_usd"),
        ("sandbox/standard", "one [[bytes=62914560]]", 200, "", "spent_usd"),
        ("sandbox/standard", "two [[bytes=62914560]]", 200, "", "spent_usd"),
        ("openai/gpt-image-2", "one [[bytes=62914560]]", 200, "", "spent_usd"),
        ("openai/gpt-image-2", "two [[bytes=62914560]]", 200, "", "spent_usd"),
        // More than a picture may have: it is not read to its end.
        ("sandbox/standard", "[[bytes=146800640]]", 504, "outcome_unknown", "suspense_usd"),
        ("openai/gpt-image-2", "[[bytes=146800640]]", 504, "outcome_unknown", "suspense_usd"),
    ];
    for (model, directive, status, code, column) in cases {
        let (old, bills) = (balance(&world, column).await, world.book().await.len());
        let reply = ask(model, directive).await;
        assert_eq!((reply.status, reply.code()), (status, code), "{model} {directive}: {}", reply.body);
        assert_eq!(world.book().await.len(), bills + 1, "{model} {directive}: it was sent once");
        assert!(balance(&world, column).await > old, "{model} {directive}: it is not in {column}");
        assert_eq!(world.ledger().await["reserved_usd"], "0", "{model} {directive}");
    }

    let (after, most) = memory(&world);
    // What is kept in memory (48 MiB), one picture of 60 MiB and its buffers, and what the allocator holds back.
    assert!(after < before + 192 * MEBIBYTE, "{after} bytes after {before}");
    assert!(most < before + 384 * MEBIBYTE, "{most} bytes at most after {before}");
    let hit = ask("sandbox/standard", "first").await.expect(200);
    assert_eq!(hit.cache(), "hit");
    let miss = ask("sandbox/standard", "last").await.expect(200);
    let url = miss.body["data"][0]["url"].as_str().expect("a URL");
    assert_eq!(world.client.get(url).send().await.expect("it answers").status(), 200);
}
