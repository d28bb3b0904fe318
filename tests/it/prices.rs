//! `mimeo prices`: the catalogue, what others say of it, and prices of an operator's own.

use std::path::{Path, PathBuf};

use mimeo::domain::Call;
use serde_json::{Value, json};

use crate::cache::Inside;
use crate::world::{Folder, World, binary, outcome};

fn run(folder: &Folder, arguments: &[&str]) -> (i32, String, String) {
    let mut command = binary(&folder.0);
    command.args(arguments);
    outcome(command)
}

/// What a command that must succeed writes, as JSON.
fn told(folder: &Folder, arguments: &[&str]) -> Value {
    let (code, out, err) = run(folder, arguments);
    assert_eq!(code, 0, "{arguments:?}: {err}");
    serde_json::from_str(&out).unwrap_or_else(|error| panic!("{arguments:?}: {error}\n{out}"))
}

fn sheet(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/sheets").join(name)
}

fn write(folder: &Folder, name: &str, text: &str) {
    std::fs::write(folder.0.join(name), text).expect("written");
}

fn model<'v>(list: &'v Value, provider: &str, model: &str) -> &'v Value {
    let is_meant = |one: &&Value| one["provider"] == provider && one["model"] == model;
    let models = list.as_array().expect("a list").iter();
    models.into_iter().find(is_meant).unwrap_or_else(|| panic!("no {provider}/{model}"))
}

#[test]
fn the_list_says_what_is_known_and_what_is_not() {
    let folder = Folder::new();
    let list = told(&folder, &["prices", "list", "--json"]);
    // A key is in the environment, so this one can be called; the other is known all the same.
    let picture = model(&list, "openai", "gpt-image-2");
    assert_eq!((&picture["enabled"], &picture["unit"]), (&json!(true), &json!("tokens")));
    assert_eq!(picture["batch_permille"], 500);
    assert_eq!(picture["certainty"], "verified");
    assert!(picture["usd_per_image"]["high"].is_string(), "{picture}");
    let flux = model(&list, "bfl", "flux-kontext-pro");
    assert_eq!((&flux["enabled"], &flux["usd_per_image"]), (&json!(false), &json!("0.04")));
    assert_eq!(flux["rates"], json!([{ "of": "picture", "usd": "0.04" }]));
    // Nobody has published it: unknown, and never free.
    let unknown = model(&list, "cloudflare", "@cf/black-forest-labs/flux-2-klein-4b");
    assert_eq!([&unknown["unit"], &unknown["usd_per_image"], &unknown["rates"]], [&Value::Null; 3]);
    assert_eq!(unknown["plan"]["included"][0], json!({ "pictures": null, "usd": "0.11", "per": "day", "paid": false }));
    // A model that is gone costs nothing any more.
    assert!(!list.as_array().expect("a list").iter().any(|one| one["model"] == "dall-e-3"));

    let (code, out, err) = run(&folder, &["prices", "--provider", "cloudflare"]);
    assert_eq!(code, 0, "{err}");
    assert!(out.lines().any(|line| line.contains("flux-2-klein-4b") && line.contains("unknown")), "{out}");
    assert!(out.ends_with("cloudflare: $0.11 worth of pictures per day free\n"), "{out}");
    let (_, out, _) = run(&folder, &["prices", "list", "--enabled"]);
    assert!(out.contains("openai") && !out.contains("bfl"), "{out}");
    let (_, _, err) = run(&folder, &["prices", "list", "--provider", "opnai"]);
    assert!(err.contains("did you mean openai?"), "{err}");
}

#[test]
fn one_model_is_shown_with_examples() {
    let folder = Folder::new();
    let (code, out, err) = run(&folder, &["prices", "show", "openai/gpt-image-2"]);
    assert_eq!(code, 0, "{err}");
    for line in ["$0.00003 per token of a picture made", "verified, read 2026-10-08", "batch    50 % of the price"] {
        assert!(out.contains(line), "{line}: {out}");
    }
    let shown = told(&folder, &["prices", "show", "openai/gpt-image-2", "--json"]);
    let examples = shown[0]["examples"].as_array().expect("a list");
    let high = examples.iter().find(|one| one["size"] == "1024x1024" && one["quality"] == "high").expect("there");
    // 7024 tokens of a picture, and the framing of an empty prompt.
    assert_eq!(high["usd"], "0.21104");
    assert!(out.contains("$0.21104"), "{out}");
    assert_eq!(shown[0]["prices"]["rates"]["tokens"]["image_output"], "0.00003");
    // Without the provider: whoever has it.
    let both = told(&folder, &["prices", "show", "gpt-image-2", "--json"]);
    let providers: Vec<_> = both.as_array().expect("a list").iter().map(|one| one["provider"].clone()).collect();
    assert_eq!(providers, ["azure-openai", "openai"]);
    let (_, _, err) = run(&folder, &["prices", "show", "gpt-imgae-2"]);
    assert!(err.contains("did you mean gpt-image-2"), "{err}");
}

#[test]
fn versions_volumes_and_plans_are_shown() {
    let folder = Folder::new();
    write(
        &folder,
        "prices.toml",
        "[[models]]\nprovider = 'bfl'\nmodel = 'flux-dev'\n[models.prices]\ncertainty = 'configured'\nsource = 'contract'\n\
         from = '2026-01-01'\ntiers = [{ after_pictures = 1000, permille = 875 }]\n\
         rates = { image = [{ usd = '0.02' }] }\n[[models.price_changes]]\nfrom = '2999-01-01'\ncertainty = 'reported'\n\
         source = 'a letter'\nrates = { image = [{ usd = '0.03' }] }\n",
    );
    write(
        &folder,
        "mimeo.toml",
        "[prices]\nfiles = ['prices.toml']\n[providers.bfl]\napi_key = { env = 'OPENAI_API_KEY' }\n\
         [providers.bfl.plan]\ntitle = 'Team'\nfee_usd = '99'\n\
         included = [{ usd = '120', per = 'month', paid = true }, { pictures = 5, per = 'day' }]\n",
    );
    let (code, out, err) = run(&folder, &["prices", "show", "flux-dev"]);
    assert_eq!(code, 0, "{err}");
    for line in [
        "$0.02 per picture",
        "configured, holds from 2026-01-01",
        "after 1000 pictures of a month 87.5 % of the price",
        "from 2999-01-01:",
        "$0.03 per picture",
        "Team: 5 pictures per day free, $99 per month for $120 worth of pictures per month",
    ] {
        assert!(out.contains(line), "{line}: {out}");
    }
    let (_, _, err) = run(&folder, &["prices", "list", "--provider", "bfl"]);
    assert!(err.contains("1 of them change"), "{err}");

    write(&folder, "mimeo.toml", "[providers.bfl]\nplan = { included = [{ per = 'day' }] }\n");
    let (code, _, err) = run(&folder, &["check"]);
    assert_eq!(code, 64, "{err}");
    assert!(err.contains("mimeo.toml:1: providers.bfl: plan.included says how much"), "{err}");
}

#[test]
fn a_sheet_is_compared_with_the_catalogue() {
    let folder = Folder::new();
    let file = sheet("litellm.json");
    let file = file.to_str().expect("a path");
    let diff = told(&folder, &["prices", "diff", file, "--json"]);
    let same = |name: &str| model(&diff["both"], "bfl", name)["same"].clone();
    assert_eq!((same("flux-kontext-pro"), same("flux-kontext-max")), (json!(true), json!(false)));
    let terms = model(&diff["both"], "bfl", "flux-kontext-max")["terms"].clone();
    assert_eq!(terms, json!([{ "of": "picture", "here_usd": "0.08", "there_usd": "0.06", "percent": "-25.00 %" }]));
    assert_eq!(diff["no_pictures"], 2);
    let left = diff["only_there"].as_array().expect("a list");
    assert!(left.iter().any(|one| one["name"] == "nscale/black-forest-labs/FLUX.1-schnell"), "{left:?}");
    assert!(diff["only_here"].as_array().expect("a list").contains(&json!("bfl/flux-3-image")), "{diff}");

    let (code, out, err) = run(&folder, &["prices", "diff", file]);
    assert_eq!(code, 0, "{err}");
    assert!(
        out.lines().any(|line| line.trim_start().starts_with("bfl/flux-kontext-max") && line.ends_with("-25.00 %")),
        "{out}"
    );
    let both = diff["both"].as_array().expect("a list").len();
    assert!(out.contains(&format!("{both} models are in both")), "{out}");
    // No terminal, no colour.
    assert!(!out.contains('\u{1b}'), "{out}");
    let (code, out, _) = run(&folder, &["prices", "diff", file, "--provider", "bfl"]);
    assert!(code == 0 && !out.contains("openai/gpt-image-2"), "{out}");
    let other = sheet("openrouter.json");
    let diff = told(&folder, &["prices", "diff", other.to_str().expect("a path"), "--json"]);
    assert!(model(&diff["both"], "openai", "gpt-image-2")["same"].as_bool().expect("told"), "{diff}");
}

#[test]
fn a_sheet_of_ones_own_needs_a_mapping() {
    let folder = Folder::new();
    let file = sheet("prices.csv");
    let file = file.to_str().expect("a path");
    let (code, _, err) = run(&folder, &["prices", "diff", file]);
    assert!(code == 1 && err.contains("--map model=PLACE"), "{err}");
    let (code, _, err) = run(&folder, &["prices", "diff", file, "--map", "colour=x"]);
    assert!(code == 2 && err.contains("there are rows"), "{err}");
    let map = ["--map", "provider=Vendor", "--map", "model=Model", "--map", "unit=Unit", "--map", "price=Price (USD)"];
    let diff = told(&folder, &[&["prices", "diff", file, "--json"], &map[..]].concat());
    assert_eq!(model(&diff["both"], "bfl", "flux-kontext-pro")["terms"][0]["percent"], "+25.00 %");
    assert!(model(&diff["both"], "bfl", "flux-dev")["same"].as_bool().expect("told"), "{diff}");
}

#[tokio::test(flavor = "multi_thread")]
async fn imported_prices_hold() {
    let mut world = World::new().await;
    let folder = world.folder.0.clone();
    let listed = "provider,model,usd\nsandbox,standard,0.07\nnobody,standard,1\n";
    std::fs::write(folder.join("list.csv"), listed).expect("written");
    let import = |more: &[&'static str]| -> Vec<&'static str> {
        let map = ["--map", "provider=provider", "--map", "model=model", "--map", "price=usd"];
        [&["prices", "import", "list.csv", "--as-of", "2026-11-21"], &map[..], more].concat()
    };
    let (code, out, err) = world.run(&import(&["--from", "contract", "--certainty", "configured"]));
    assert_eq!(code, 0, "{err}");
    assert!(out.contains("Prices out of contract, as of 2026-11-21"), "{out}");
    assert!(err.contains("1 rows were left out"), "{err}");
    let (code, out, err) = world.run(&import(&["-o", "prices.toml"]));
    assert_eq!((code, out.as_str()), (0, ""), "{err}");
    assert!(err.contains("1 prices are in prices.toml"), "{err}");

    let config = folder.join("mimeo.toml");
    let text = std::fs::read_to_string(&config).expect("there");
    let dear = "[routes.dear]\ncandidates = ['sandbox/standard']\nbudget = { usd = '0.05', per = 'total' }\n";
    std::fs::write(&config, format!("{text}\n[prices]\nfiles = ['prices.toml']\n{dear}")).expect("written");
    let (_, out, _) = world.run(&["prices", "show", "sandbox/standard"]);
    assert!(out.contains("$0.07 per picture") && out.contains("reported, read 2026-11-21"), "{out}");
    // The same again does not take its own prices for those of the catalogue.
    let (_, _, err) = world.run(&import(&["-o", "prices.toml"]));
    assert!(err.contains("1 prices are in prices.toml"), "{err}");

    // The price is what is set aside, so a budget that is enough for the catalogue's price is not for this one.
    let body = json!({"model": "dear", "prompt": "a kite", "size": "64x64"});
    world.restart();
    world.generate(body.clone()).await.expect(429);
    std::fs::write(&config, format!("{text}\n{dear}")).expect("written");
    world.restart();
    world.generate(body).await.expect(200);
    std::fs::write(&config, format!("{text}\n[prices]\nfiles = ['prices.toml']\n")).expect("written");
    world.restart();
    let models = world.get("/v1/models").await.expect(200);
    let list = models.body["data"].as_array().expect("a list").clone();
    let one = list.iter().find(|one| one["id"] == "sandbox/standard").expect("listed");
    assert!(one.to_string().contains("\"0.07\""), "{one}");

    // A model that there is not is told with those that are near, and nothing is served.
    let bad = std::fs::read_to_string(folder.join("prices.toml")).expect("there").replace("standard", "standrad");
    std::fs::write(folder.join("prices.toml"), bad).expect("written");
    let (code, _, err) = world.run(&["check"]);
    assert_eq!(code, 64, "{err}");
    assert!(
        err.contains("prices.toml: sandbox/standrad: sandbox has no model standrad; did you mean standard?"),
        "{err}"
    );
    std::fs::write(folder.join("prices.toml"), "[[models]]\nprovidr = 'x'\n").expect("written");
    let (code, _, err) = world.run(&["check"]);
    assert!(code == 64 && err.contains("prices.toml:2: unknown field `providr`"), "{err}");
}

/// A contract that begins one day leaves what holds until then.
#[test]
fn a_file_of_prices_that_begins_later_changes_nothing_before() {
    let folder = Folder::new();
    write(
        &folder,
        "prices.toml",
        "[[models]]\nprovider = 'bfl'\nmodel = 'flux-dev'\n[models.prices]\ncertainty = 'configured'\n\
         source = 'contract'\nfrom = '2999-01-01'\nrates = { image = [{ usd = '0.02' }] }\n",
    );
    let before = told(&folder, &["prices", "show", "bfl/flux-dev", "--json"])[0].clone();
    write(&folder, "mimeo.toml", "[prices]\nfiles = ['prices.toml']\n");
    let shown = told(&folder, &["prices", "show", "bfl/flux-dev", "--json"])[0].clone();
    assert!(before["usd_per_image"].is_string(), "{before}");
    assert_eq!(shown["prices"], before["prices"], "{shown}");
    assert_eq!(
        (&shown["changes"][0]["from"], &shown["changes"][0]["source"]),
        (&json!("2999-01-01"), &json!("contract"))
    );
}

/// Half the price after two pictures of a month.
const BY_VOLUME: &str = "[[models]]\nprovider = 'sandbox'\nmodel = 'standard'\n[models.prices]\ncertainty = 'configured'\n\
    source = 'our contract'\ntiers = [{ after_pictures = 2, permille = 500 }]\nrates = { image = [{ usd = '0.01' }] }\n";

/// What was paid for is counted, also by who has just begun, and a new month begins at the full price.
#[tokio::test(flavor = "multi_thread")]
async fn a_volume_is_counted_by_the_month() {
    let folder = Folder::new();
    write(&folder, "prices.toml", BY_VOLUME);
    // The sandbox goes on billing the full price, which is within this tolerance.
    let config = format!("[prices]\nfiles = ['{}/prices.toml']\ntolerance_permille = 1000\n", folder.0.display());
    let inside = Inside::with(&config).await;
    // Half the price is all that may be spent.
    let half = async |prompt: &str| {
        let call = Call { max_spend: Some("0.005".parse().expect("an amount")), ..inside.call(prompt) };
        Box::pin(inside.app.pipeline.run(call, None)).await.map_err(|error| error.code.unwrap_or_default())
    };
    inside.run(inside.call("1")).await;
    assert_eq!(half("2").await.expect_err("the price is the full one"), "max_spend_exceeded");
    inside.run(inside.call("2")).await;
    half("3").await.expect("two were paid for");
    // The last day of November, and the first of December.
    inside.later(9 * 86_400);
    half("4").await.expect("it is the same month");
    inside.later(86_400);
    assert_eq!(half("5").await.expect_err("nothing was paid for this month"), "max_spend_exceeded");
    inside.end().await;
}

/// The last picture at the full price was billed as it should be: it is no sign that the price below is wrong.
#[tokio::test(flavor = "multi_thread")]
async fn a_bill_is_compared_with_the_price_that_held_for_it() {
    let folder = Folder::new();
    write(&folder, "prices.toml", BY_VOLUME);
    let inside = Inside::with(&format!("[prices]\nfiles = ['{}/prices.toml']\n", folder.0.display())).await;
    for prompt in ["1", "2", "3", "4"] {
        inside.run(inside.call(prompt)).await;
    }
    // Two bills were twice what is listed now, and three would be a new price.
    let half = Call { max_spend: Some("0.005".parse().expect("an amount")), ..inside.call("5") };
    inside.run(half).await;
    inside.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_volume_is_known_after_a_restart() {
    let config = "[providers.sandbox]\nbase_url = '{sandbox}/native/v1'\n[prices]\nfiles = ['prices.toml']\n";
    let mut world = World::with_files(config, |_| vec![("prices.toml", BY_VOLUME.to_owned())]).await;
    let kite = |prompt: &str| json!({"model": "sandbox/standard", "prompt": prompt, "size": "64x64"});
    for prompt in ["1", "2"] {
        world.generate(kite(prompt)).await.expect(200);
    }
    world.restart();
    let mut half = kite("3");
    half["max_spend_usd"] = json!("0.005");
    world.generate(half).await.expect(200);
}
