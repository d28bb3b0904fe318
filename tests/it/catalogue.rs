//! Records: those that the binary carries, those of an operator, and what is said of them.

use serde_json::{Value, json};

use crate::world::{Folder, World, binary, outcome};

/// A record like the sandbox's, as an operator may write one.
fn record(name: &str, title: &str) -> String {
    format!(
        "name = '{name}'\ntitle = '{title}'\nshape = 'exchange'\nsimulated = true\n[auth]\nscheme = 'bearer'\n\
         optional = true\n[wire]\ngenerate = '/draw'\nattempt_header = 'x-client-request-id'\n[cost]\nheader = 'x-sandbox-cost-usd'\nusd = '1'\n[fields]\n\
         model = 'model'\nprompt = 'prompt'\nwidth = 'width'\nheight = 'height'\n[[models]]\nid = 'standard'\n\
         sizes = {{ rule = {{ max_edge = 1024 }} }}\n[models.prices]\ncertainty = 'verified'\nsource = 'simulated'\n\
         rates = {{ image = [{{ usd = '0.01' }}] }}\n"
    )
}

fn run(folder: &Folder, arguments: &[&str]) -> (i32, String, String) {
    let mut command = binary(&folder.0);
    command.args(arguments);
    outcome(command)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_folder_of_records_adds_and_replaces() {
    let mut world = World::new().await;
    let folder = world.folder.0.join("records");
    std::fs::create_dir_all(&folder).expect("made");
    std::fs::write(folder.join("mine.toml"), record("mine", "My own")).expect("written");
    std::fs::write(folder.join("sandbox.toml"), record("sandbox", "The sandbox, as I see it")).expect("written");
    let config = world.folder.0.join("mimeo.toml");
    let text = std::fs::read_to_string(&config).expect("there");
    let address = format!("{}/native/v1", world.sandbox.url);
    let text = format!("{text}\n[catalogue]\npath = 'records'\n[providers.mine]\nbase_url = '{address}'\n");
    std::fs::write(&config, &text).expect("written");
    world.restart();
    for model in ["mine/standard", "sandbox/standard"] {
        world.generate(json!({"model": model, "prompt": model, "size": "64x64"})).await.expect(200);
    }
    // The built-in record has more models than the one that took its place.
    world.generate(json!({"model": "sandbox/draft", "prompt": "x"})).await.expect(404);

    let (code, out, err) = world.run(&["providers"]);
    assert_eq!(code, 0, "{err}");
    assert!(out.contains("mine"), "{out}");
    assert!(err.contains("mine: from records/mine.toml\n"), "{err}");
    assert!(err.contains("sandbox: from records/sandbox.toml, in place of the built-in one"), "{err}");
    world.gateway.terminate();
    let log = world.gateway.last_words();
    assert!(!log.contains("panicked"), "{log}");
    world.restart();

    // Every fault of every file, and nothing is served with half of them.
    let bad = record("mine", "My own").replace("optional", "optionel").replace("max_edge", "max_egde");
    std::fs::write(folder.join("mine.toml"), bad).expect("written");
    for arguments in [&["check"][..], &["serve", "--listen", "127.0.0.1:0"], &["generate", "kite"], &["providers"]] {
        let (code, out, err) = world.run(arguments);
        assert_eq!((code, out.as_str()), (64, ""), "{arguments:?}: {err}");
        assert!(err.contains("records/mine.toml:7: unknown field `optionel`; did you mean `optional`?"), "{err}");
        assert!(err.contains("records/mine.toml:21: unknown field `max_egde`; did you mean `max_edge`?"), "{err}");
    }
    std::fs::write(&config, text.replace("'records'", "'no-such-folder'")).expect("written");
    let (code, _, err) = world.run(&["check"]);
    assert!(code == 64 && err.contains("no-such-folder: cannot be read"), "{err}");
    std::fs::write(
        &config,
        text.replace("[catalogue]\npath = 'records'\n[providers.mine]", "[providers.mine]\nenabled = false"),
    )
    .expect("written");
}

#[test]
fn records_are_checked_one_by_one() {
    let folder = Folder::new();
    std::fs::write(folder.0.join("good.toml"), record("good", "Good")).expect("written");
    let bad = record("bad", "Bad").replace("'/draw'", "'draw'").replace("height = 'height'\n", "");
    std::fs::write(folder.0.join("bad.toml"), bad).expect("written");
    let (code, out, err) = run(&folder, &["providers", "check", "good.toml", "bad.toml"]);
    assert_eq!((code, out.as_str()), (64, "good.toml: good is right, with 1 model\n"), "{err}");
    assert!(err.contains(" --> bad.toml:9:12\n  |\n9 | generate = 'draw'\n  |            ^^^^^^\n"), "{err}");
    assert!(err.contains("it has sizes") && !err.contains('\u{1b}'), "{err}");
    let (code, out, err) = run(&folder, &["providers", "check", "good.toml", "bad.toml", "--json"]);
    let told: Value = serde_json::from_str(&out).expect("JSON");
    assert_eq!((code, err.as_str()), (64, ""));
    assert_eq!(told["right"], json!([{"file": "good.toml", "name": "good", "models": 1}]));
    let places: Vec<_> =
        told["faults"].as_array().expect("a list").iter().map(|f| (&f["line"], &f["column"])).collect();
    assert_eq!(places, [(&json!(9), &json!(12)), (&json!(20), &json!(1))], "{told}");
}

/// The whole catalogue, and what each of it needs.
#[test]
fn what_is_not_enabled_says_what_it_needs() {
    let folder = Folder::new();
    let mut command = binary(&folder.0);
    command.env_remove("OPENAI_API_KEY").args(["providers", "--all", "--json"]);
    let (code, out, err) = outcome(command);
    assert_eq!(code, 0, "{err}");
    let listed: Value = serde_json::from_str(&out).expect("JSON");
    let of =
        |name: &str| listed.as_array().expect("a list").iter().find(|row| row["provider"] == name).expect("listed");
    assert_eq!(of("openai")["needs"], json!(["set OPENAI_API_KEY"]));
    assert_eq!(of("openai-compatible")["needs"], json!(["say base_url"]));
    // The cheapest first, and nothing that a terminal would break.
    let (_, out, _) = run(&folder, &["providers", "show", "openai"]);
    assert!(out.contains("\n  costs      low $") && out.lines().all(|line| line.chars().count() <= 120), "{out}");
    // What is shown to be copied is right as it stands.
    for row in listed.as_array().expect("a list") {
        let name = row["provider"].as_str().expect("a name");
        let (code, out, err) = run(&folder, &["providers", "show", name]);
        assert_eq!(code, 0, "{err}");
        let (_, snippet) = out.split_once("Configuration:\n\n").expect("a configuration");
        let snippet = snippet.replace("HOST:PORT", "127.0.0.1:9").replace('…', "x");
        let parsed = mimeo::config::Config::parse(&snippet, std::path::Path::new("x.toml"));
        assert!(parsed.is_ok(), "{name}: {parsed:?}\n{snippet}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn models_are_listed_field_by_field() {
    let world = World::new().await;
    let reply = world.client.get(format!("{}/v1/models/openai/gpt-image-1.5", world.gateway.url)).send().await;
    let text = reply.expect("an answer").text().await.expect("text");
    assert!(text.starts_with(
        r#"{"id":"openai/gpt-image-1.5","object":"model","created":0,"owned_by":"openai","shutdown_date":""#
    ));
    let model: Value = serde_json::from_str(&text).expect("JSON");
    assert_eq!(model["shutdown_date"], "2026-12-01");
    assert_eq!(model["mimeo"]["successor"], "gpt-image-2.5-flare");
    let can = &model["mimeo"]["capabilities"];
    assert_eq!(can["quality"], json!({"type": "enum", "values": ["low", "medium", "high"]}));
    assert_eq!(can["n"], json!({"type": "integer", "min": 1, "max_per_call": 10}));
    assert_eq!(can["output_compression"], json!({"type": "integer", "min": 0, "max": 100, "default": 100}));
    // What is not there cannot be asked for, and what cannot be asked for is refused.
    assert!(can["seed"].is_null() && can["steps"].is_null());
    world.generate(json!({"model": "openai/gpt-image-1.5", "prompt": "x", "seed": 1})).await.expect(400);
    let draft = world.get("/v1/models/sandbox/draft").await.expect(200).body;
    assert_eq!(draft["shutdown_date"], Value::Null);
    assert_eq!(draft["mimeo"]["capabilities"]["steps"], json!({"type": "integer", "min": 1, "max": 1000}));
    assert_eq!(draft["mimeo"]["prices"]["unit"], "image");
}

/// R10: as few calls as the provider allows.
#[tokio::test(flavor = "multi_thread")]
async fn pictures_are_made_in_as_few_calls_as_possible() {
    let world = World::new().await;
    let four =
        json!({"model": "openai/gpt-image-2", "prompt": "four kites", "size": "1024x1024", "quality": "low", "n": 4});
    assert_eq!(world.generate(four).await.expect(200).pictures().len(), 4);
    assert_eq!(world.book().await.len(), 1, "one call for four pictures");
    let three = json!({"model": "sandbox/draft", "prompt": "three kites", "size": "64x64", "n": 3});
    assert_eq!(world.generate(three).await.expect(200).pictures().len(), 3);
    assert_eq!(world.book().await.len(), 4, "a model that makes one at a time is called three times");
}
