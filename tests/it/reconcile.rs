//! What is in suspense is settled from the provider's own bill: here the sandbox's invoice book.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::world::World;

fn kite(model: &str, prompt: &str) -> Value {
    json!({ "model": model, "prompt": prompt, "size": "64x64" })
}

/// Sends what will never be answered, and waits until the provider has it. Whoever asked hangs up.
async fn lose(world: &World, body: Value) {
    let before = world.stats().await["requests_seen"].as_u64().expect("a number");
    let call = world.generate(body);
    tokio::select! {
        reply = call => panic!("it was answered: {}", reply.body),
        () = world.until(|stats| stats["requests_seen"].as_u64() > Some(before)) => {}
    }
}

/// Runs `mimeo ledger reconcile` with JSON, and gives the attempts' decisions and all of what it says.
fn reconcile(world: &World, arguments: &[&str]) -> (Vec<(String, String)>, Value) {
    let (code, out, err) = world.run(&[&["ledger", "reconcile", "--json"][..], arguments].concat());
    assert_eq!(code, 0, "{err}");
    let said: Value = serde_json::from_str(&out).expect("JSON alone");
    let text = |value: &Value| value.as_str().unwrap_or("-").to_owned();
    let rows = said["attempts"].as_array().expect("a list").iter();
    (rows.map(|row| (text(&row["decision"]), text(&row["billed_usd"]))).collect(), said)
}

fn decisions(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    pairs.iter().map(|(decision, billed)| ((*decision).to_owned(), (*billed).to_owned())).collect()
}

/// The book names the attempts: what was billed is settled exactly, and what is not in it can be released.
#[tokio::test(flavor = "multi_thread")]
async fn the_invoice_book_settles_what_is_in_suspense() {
    let mut world = World::new().await;
    world.generate(kite("sandbox/standard", "first")).await.expect(200);
    world.generate(kite("sandbox/standard", "one [[bill-then-reset]]")).await.expect(504);
    lose(&world, kite("sandbox/premium", "two [[bill-then-hang]]")).await;
    lose(&world, kite("sandbox/draft", "three [[hang]]")).await;
    world.generate(kite("openai/gpt-image-2", "four [[bill-then-fail=504]]")).await.expect(504);
    world.generate(kite("sandbox/standard", "last")).await.expect(200);
    world.restart();
    let book = world.book().await;
    let four = book.iter().find(|line| line["prompt"].as_str().is_some_and(|p| p.starts_with("four"))).expect("billed");
    let four = four["usd"].as_str().expect("an amount");

    let suspense = world.ledger().await["suspense_usd"].clone();
    let expected = decisions(&[("bill", "0.01"), ("bill", "0.04"), ("open", "-"), ("bill", four)]);
    let (dry, said) = reconcile(&world, &["book.jsonl"]);
    assert_eq!((dry, &said["applied"]), (expected.clone(), &json!(false)), "{said}");
    assert_eq!(world.ledger().await["suspense_usd"], suspense, "a dry run changes nothing");
    let settled = &said["settled"];
    assert_eq!(
        (&settled["attempts"], &settled["export_usd"], &settled["ledger_usd"]),
        (&json!(2), &json!("0.02"), &json!("0.02"))
    );

    // Only those of one provider, and then all.
    let (one, _) = reconcile(&world, &["book.jsonl", "--provider", "openai", "--apply"]);
    assert_eq!(one, decisions(&[("bill", four)]));
    let (three, said) = reconcile(&world, &["book.jsonl", "--apply"]);
    assert_eq!((three.as_slice(), &said["applied"]), (&expected[..3], &json!(true)));
    assert_eq!(world.ledger().await["suspense_usd"], "0.002");
    // The last one is in no row, and the book was kept before and after it.
    let absent = ["book.jsonl", "--provider", "sandbox", "--window", "0", "--absent-means-unbilled"];
    assert_eq!(reconcile(&world, &absent[..5]).0, decisions(&[("open", "-")]));
    assert_eq!(reconcile(&world, &absent).0, decisions(&[("release", "0")]));
    reconcile(&world, &[&absent[..], &["--apply"]].concat());
    assert_eq!(world.ledger().await["suspense_usd"], "0");
    let spent = book.iter().map(|line| line["usd"].as_str().expect("usd").parse().expect("an amount"));
    let spent: mimeo::domain::Usd = spent.sum();
    assert_eq!(world.ledger().await["spent_usd"], spent.to_string(), "the ledger is the book");

    // Another run finds nothing left, and what it settled is compared like the rest.
    let (again, said) = reconcile(&world, &["book.jsonl", "--apply"]);
    assert_eq!((again.len(), &said["settled"]["attempts"], &said["settled"]["differing"]), (0, &json!(5), &json!([])));
    let (code, out, err) = world.run(&["ledger", "reconcile", "book.jsonl"]);
    assert_eq!(code, 0);
    assert!(err.contains("Nothing is in suspense"), "{err}");
    assert!(out.contains("named by rows: 5") && out.contains("difference $0\n"), "{out}");
}

/// An export that names no attempts settles by model and time what it can, and lists the rest with what fits.
#[tokio::test(flavor = "multi_thread")]
async fn an_export_without_names_settles_only_what_is_plain() {
    let world = World::new().await;
    world.generate(kite("sandbox/standard", "made")).await.expect(200);
    world.generate(kite("sandbox/premium", "lost [[bill-then-reset]]")).await.expect(504);
    for prompt in ["one [[bill-then-reset]]", "two [[bill-then-reset]]"] {
        world.generate(kite("sandbox/draft", prompt)).await.expect(504);
    }
    let mut csv = "when,what,cost\n".to_owned();
    for line in world.book().await {
        let text = |name: &str| line[name].as_str().expect("text").to_owned();
        csv += &format!("{},{},${}\n", line["at"], text("model"), text("usd"));
    }
    std::fs::write(world.folder.0.join("usage.csv"), &csv).expect("written");
    let export = ["usage.csv", "--map", "at=when,model=what,usd=cost"];
    let (found, said) = reconcile(&world, &export);
    assert_eq!(found, decisions(&[("open", "-"); 3]), "nobody said whose export it is");
    assert!(said["attempts"][0]["why"].as_str().expect("why").contains("--provider"), "{said}");

    let export = [&export[..], &["--provider", "sandbox"]].concat();
    let (found, said) = reconcile(&world, &export);
    assert_eq!(found, decisions(&[("bill", "0.04"), ("open", "-"), ("open", "-")]), "{said}");
    let open = &said["attempts"][1];
    assert_eq!(
        (open["candidates"].as_array().map(Vec::len), &open["rivals"][0]),
        (Some(2), &said["attempts"][2]["attempt"])
    );
    let (_, out, err) = world.run(&[&["ledger", "reconcile"][..], &export].concat());
    assert!(
        out.contains("2 rows may be it: row 3 at ") && out.contains("only one row has its model and time: row 2"),
        "{out}"
    );
    assert!(err.contains("--apply"), "{err}");
    for _ in 0..2 {
        reconcile(&world, &[&export[..], &["--apply"]].concat());
        let ledger = world.ledger().await;
        assert_eq!((&ledger["spent_usd"], &ledger["suspense_usd"]), (&json!("0.05"), &json!("0.004")), "{ledger}");
    }
    // With the names, nothing is left.
    let (found, _) = reconcile(&world, &["book.jsonl", "--apply"]);
    assert_eq!(found, decisions(&[("bill", "0.002"); 2]));
    assert_eq!(world.ledger().await["suspense_usd"], "0");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_read_is_said_and_changes_nothing() {
    let world = World::new().await;
    world.generate(kite("sandbox/draft", "one [[bill-then-reset]]")).await.expect(504);
    let files = BTreeMap::from([
        ("cents.csv", "at,cents\n2026-11-21T08:00:00Z,4\n"),
        ("date.csv", "at,usd,model\n2026-11-21,0.04,draft\n"),
        ("broken.json", "[{\"usd\": 1},"),
        ("fine.csv", "at,usd,model\n2026-11-21T08:00:00Z,0.04,draft\n"),
    ]);
    for (name, text) in &files {
        std::fs::write(world.folder.0.join(name), text).expect("written");
    }
    for (arguments, code, says) in [
        (&["absent.csv"][..], 1, "absent.csv"),
        (&["cents.csv"], 1, "--map usd=COLUMN; the columns are: at, cents"),
        (&["date.csv"], 1, "row 1, column `at`: `2026-11-21` is neither"),
        (&["broken.json"], 1, "broken.json: this is not an array of JSON objects"),
        (&["fine.csv", "--map", "usd=cost"], 1, "there is no column `cost`"),
        (&["fine.csv", "--provider", "sandbx"], 1, "no attempt at `sandbx`"),
        (&["fine.csv", "--map", "price=usd"], 2, "`price=usd`"),
        (&["fine.csv", "--absent-means-unbilled"], 2, "--provider"),
        (&[], 2, "FILE"),
    ] {
        let (ended, out, err) = world.run(&[&["ledger", "reconcile", "--apply"][..], arguments].concat());
        assert_eq!((ended, out.as_str()), (code, ""), "{arguments:?}: {err}");
        assert!(err.starts_with("error: ") && err.contains(says), "{arguments:?}: {err}");
    }
    assert_eq!(world.ledger().await["suspense_usd"], "0.002");
}
