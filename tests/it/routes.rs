//! Routes: the cheapest that is good enough, fast enough and not busy; and the models that are there without any.

mod shadows;
mod times;

use mimeo::domain::Call;
use serde_json::{Value, json};

use crate::cache::Inside;
use crate::world::{Reply, World};

const THREE: &str = "candidates = ['sandbox/premium', 'sandbox/draft', 'sandbox/standard']\n";

fn ask(model: &str, prompt: &str) -> Value {
    json!({ "model": model, "prompt": prompt, "size": "64x64", "explain": true })
}

fn explain(reply: &Reply) -> String {
    reply.body["mimeo"].to_string()
}

/// A gateway with no providers but these.
async fn bare(config: &str) -> World {
    World::with_files(&format!("[providers.openai]\nenabled = false\n{config}"), |_| Vec::new()).await
}

fn with(mut body: Value, name: &str, value: Value) -> Value {
    body[name] = value;
    body
}

async fn model(world: &World, body: Value) -> String {
    world.generate(body).await.expect(200).header("x-mimeo-model").to_owned()
}

/// A picture that is good enough for a low floor answers nobody who asks for a higher one, although the same candidates
/// serve both; who asks for as much as it is gets it.
#[tokio::test(flavor = "multi_thread")]
async fn a_floor_holds_for_what_is_stored() {
    let world = World::with(&format!(
        "[routes.thumbnail]\n{THREE}objective = 'cost'\nquality_floor = 30\n\
         [routes.hero]\n{THREE}objective = 'cost'\nquality_floor = 80\n\
         [routes.landing]\n{THREE}objective = 'cost'\nquality_floor = 80\n"
    ))
    .await;
    for (route, wanted, cache) in [
        ("thumbnail", "draft", "miss"),
        ("hero", "premium", "miss"),
        ("landing", "premium", "hit"),
        ("thumbnail", "draft", "hit"),
    ] {
        let reply = world.generate(ask(route, "a kite that two routes want")).await.expect(200);
        assert_eq!((reply.header("x-mimeo-model"), reply.header("x-mimeo-cache")), (wanted, cache), "{route}");
    }
}

/// The same words in a category with a higher floor are another request: what was good enough without it is not.
#[tokio::test(flavor = "multi_thread")]
async fn a_floor_of_a_category_holds_for_what_is_stored() {
    let world = World::with(&format!(
        "[routes.shop]\n{THREE}objective = 'cost'\nfloors = {{ glass = 80 }}\n\
         [routes.picky]\ncandidates = [{{ model = 'sandbox/standard', except = ['food'] }}]\n"
    ))
    .await;
    let plain = ask("shop", "one of our kites");
    let glass = with(plain.clone(), "category", json!("glass"));
    for (body, wanted, cache) in
        [(&plain, "draft", "miss"), (&glass, "premium", "miss"), (&plain, "draft", "hit"), (&glass, "premium", "hit")]
    {
        let reply = world.generate(body.clone()).await.expect(200);
        assert_eq!((reply.header("x-mimeo-model"), reply.cache()), (wanted, cache), "{body}");
    }
    // Where nobody says so, the words do.
    assert_eq!(model(&world, ask("shop", "a crystal vase on a plain white background")).await, "premium");
    // What is read for something else saves no steps unless the route wants that: it is the model's own picture.
    let mug = "White ceramic mug on a white background";
    assert_eq!(model(&world, ask("picky", mug)).await, "standard");
    assert_eq!(world.generate(ask("sandbox/standard", mug)).await.expect(200).cache(), "hit");
}

/// The objective decides who is first, the floor who is not asked at all, and the answer says so.
#[tokio::test(flavor = "multi_thread")]
async fn the_cheapest_that_is_good_enough() {
    let world = World::with(&format!(
        "[routes.listed]\n{THREE}[routes.cheap]\n{THREE}objective = 'cost'\n\
         [routes.good]\n{THREE}objective = 'quality'\n\
         [routes.sound]\n{THREE}objective = 'cost'\nquality_floor = 50\nfloors = {{ glass = 80 }}\n\
         [routes.worth]\n{THREE}objective = {{ weights = {{ usd_per_point = '0.01' }} }}\n\
         [routes.perfect]\n{THREE}objective = 'cost'\nquality_floor = 99\n\
         [routes.turbo]\nobjective = 'cost'\ncandidates = ['sandbox/standard', {{ model = 'sandbox/draft', except = ['glass'] }}]\n\
         [routes.chosen]\nobjective = 'cost'\ncandidates = ['sandbox/standard', {{ model = 'sandbox/draft', only = ['food'] }}]\n"
    ))
    .await;
    for (route, wanted) in
        [("listed", "premium"), ("cheap", "draft"), ("good", "premium"), ("sound", "standard"), ("worth", "premium")]
    {
        let reply = world.generate(ask(route, &format!("a kite for {route}"))).await.expect(200);
        assert_eq!(reply.header("x-mimeo-model"), wanted, "{route}: {}", explain(&reply));
    }
    let mut glass = ask("sound", "a bottle");
    glass["category"] = json!("glass");
    let reply = world.generate(glass).await.expect(200);
    assert_eq!(reply.header("x-mimeo-model"), "premium");
    assert!(explain(&reply).contains("category glass asks for 80"), "{}", explain(&reply));

    let mut glass = ask("turbo", "a bottle of glass");
    assert_eq!(model(&world, glass.clone()).await, "draft");
    glass["category"] = json!("glass");
    let reply = world.generate(glass).await.expect(200);
    assert_eq!(reply.header("x-mimeo-model"), "standard");
    assert!(explain(&reply).contains("does not ask it for the category glass"), "{}", explain(&reply));

    let food = with(ask("chosen", "a soup"), "category", json!("food"));
    assert_eq!(model(&world, food.clone()).await, "draft");
    assert_eq!(model(&world, with(food, "category", json!("glass"))).await, "standard");

    let before = world.book().await.len();
    let reply = world.generate(ask("perfect", "a kite")).await.expect(503);
    assert_eq!(reply.code(), "below_floor", "{}", reply.body);
    assert_eq!(reply.header("x-should-retry"), "false", "a second later the floor is the same");
    assert!(
        reply.message().contains("rated 85 of 100") && reply.message().contains("asks for 99"),
        "{}",
        reply.message()
    );
    assert_eq!(world.book().await.len(), before, "nobody was asked");
}

/// Who is little known is taken for better than it is thought to be now and then, by what is asked for; but a floor is
/// about what is known, and no draw lifts anybody over it or pushes anybody below.
#[tokio::test(flavor = "multi_thread")]
async fn the_best_is_drawn_within_the_floor() {
    let world = World::with(&format!("[routes.good]\n{THREE}objective = 'quality'\nquality_floor = 50\n")).await;
    let mut first = Vec::new();
    for index in 0..40 {
        let reply = world.generate(ask("good", &format!("kite {index}"))).await.expect(200);
        let candidates = reply.body["mimeo"]["story"]["candidates"].as_array().expect("a list").clone();
        let of = |model: &str| {
            let name = format!("sandbox/{model}");
            candidates.iter().find(|one| one["name"] == name.as_str()).expect("it is told").clone()
        };
        assert_eq!(of("draft")["reason"]["code"], "below_floor", "{candidates:?}");
        assert!(of("standard")["rank"].is_u64() && of("premium")["rank"].is_u64(), "{candidates:?}");
        first.push((
            reply.header("x-mimeo-model").to_owned(),
            [of("standard")["score"].clone(), of("premium")["score"].clone()],
        ));
    }
    let tried = first.iter().filter(|(model, _)| model == "standard").count();
    assert!((1..20).contains(&tried), "{tried} of 40 go to the one that is thought to be worse");
    // The same request draws the same.
    let mut again = ask("good", "kite 7");
    again["cache"] = json!({ "mode": "no-cache" });
    let reply = world.generate(again).await.expect(200);
    let candidates = reply.body["mimeo"]["story"]["candidates"].as_array().expect("a list");
    let scores = ["standard", "premium"].map(|model| {
        let name = format!("sandbox/{model}");
        candidates.iter().find(|one| one["name"] == name.as_str()).expect("it is told")["score"].clone()
    });
    assert_eq!((reply.header("x-mimeo-model"), &scores), (first[7].0.as_str(), &first[7].1));
    assert_ne!(first[6].1, first[7].1);
}

/// What a request may cost rules out who is dearer, instead of failing at them.
#[tokio::test(flavor = "multi_thread")]
async fn money_rules_out_the_dear() {
    let world = World::with(&format!(
        "[providers.box]\nrecord = 'openai-compatible'\nbase_url = '{{sandbox}}/compatible/v1'\n\
         [routes.good]\n{THREE}objective = 'quality'\n\
         [routes.vague]\ncandidates = ['box/sandbox-image', 'sandbox/draft']\n"
    ))
    .await;
    // What nobody knows the price of is no bargain.
    let vague = world.generate(with(ask("vague", "a kite"), "max_spend_usd", json!("0.02"))).await.expect(200);
    assert_eq!(vague.header("x-mimeo-model"), "draft", "{}", explain(&vague));
    assert!(explain(&vague).contains("nobody knows what it costs"), "{}", explain(&vague));
    let vague = with(ask("box/sandbox-image", "a kite"), "max_spend_usd", json!("0.02"));
    assert_eq!(world.generate(vague).await.expect(429).code(), "price_unknown");
    let mut body = ask("good", "a kite");
    body["max_spend_usd"] = json!("0.02");
    assert_eq!(model(&world, body.clone()).await, "standard");
    body["max_spend_usd"] = json!("0.001");
    body["prompt"] = json!("another kite");
    assert_eq!(world.generate(body).await.expect(429).code(), "max_spend_exceeded");
}

/// Hours and regions.
#[tokio::test(flavor = "multi_thread")]
async fn hours_and_regions() {
    let hour = jiff::Timestamp::now().to_zoned(jiff::tz::TimeZone::UTC).hour();
    let (from, until) = ((hour + 2) % 24, (hour + 3) % 24);
    let world = World::with(&format!(
        "[routes.night]\nobjective = 'cost'\ncandidates = [{{ model = 'sandbox/draft', hours = '{from:02}:00-{until:02}:00' }}, \
         'sandbox/standard']\n\
         [routes.near]\nobjective = 'cost'\nregions = ['eu', 'us']\ncandidates = ['sandbox/draft', \
         {{ model = 'sandbox/standard', region = 'us' }}, {{ model = 'sandbox/premium', region = 'eu' }}]\n\
         [routes.only]\nobjective = 'cost'\nregions = ['us']\nregions_only = true\ncandidates = ['sandbox/draft', \
         {{ model = 'sandbox/standard', region = 'us' }}]\n\
         [providers.abroad]\nrecord = 'sandbox'\nbase_url = '{{sandbox}}/native/v1'\nregion = 'us'\n\
         [routes.there]\nobjective = 'cost'\nregions = ['us']\nregions_only = true\n\
         candidates = ['sandbox/draft', 'abroad/standard', {{ model = 'abroad/draft', region = 'eu' }}]\n"
    ))
    .await;
    let night = world.generate(ask("night", "a kite")).await.expect(200);
    assert_eq!(night.header("x-mimeo-model"), "standard");
    assert!(explain(&night).contains("UTC only"), "{}", explain(&night));
    assert_eq!(model(&world, ask("near", "a kite")).await, "premium");
    assert_eq!(model(&world, ask("only", "a kite")).await, "standard");
    let there = world.generate(ask("there", "a kite that is drawn there")).await.expect(200);
    assert_eq!((there.header("x-mimeo-provider"), there.header("x-mimeo-model")), ("abroad", "standard"));
    assert!(
        explain(&there).contains("it is in no region") && explain(&there).contains("it is in eu"),
        "{}",
        explain(&there)
    );
}

/// By the clock, in UTC, over midnight.
#[tokio::test(flavor = "multi_thread")]
async fn a_candidate_keeps_its_hours() {
    let inside = Inside::with(
        "[routes.night]\nobjective = 'cost'\ncandidates = [{ model = 'sandbox/draft', hours = '22:00-06:00' }, \
         'sandbox/standard']\n",
    )
    .await;
    // It begins at noon.
    for (later, wanted) in
        [(0, "standard"), (10 * 3600 - 60, "standard"), (60, "draft"), (8 * 3600 - 60, "draft"), (60, "standard")]
    {
        inside.later(later);
        let prompt = format!("a kite, {later} s after the one before, for {wanted}");
        let answer = inside.run(Call { model: Some("night".into()), ..inside.call(&prompt) }).await;
        assert_eq!(answer.pictures[0].model, wanted, "{prompt}");
    }
    inside.end().await;
}

/// Shares divide requests; the same request always goes the same way, and who stands in takes over.
#[tokio::test(flavor = "multi_thread")]
async fn requests_are_dealt_by_what_they_ask_for() {
    let world = World::with(
        "[routes.test]\ncandidates = [{ model = 'sandbox/draft', share = 25 }, { model = 'sandbox/standard', share = 75 }, \
         'sandbox/premium']\n",
    )
    .await;
    let mut drafts = 0;
    for index in 0..60 {
        let body = ask("test", &format!("kite {index}"));
        let first = model(&world, body.clone()).await;
        assert!(first != "premium");
        drafts += usize::from(first == "draft");
        let again = world.generate(body).await.expect(200);
        assert_eq!((again.cache(), again.header("x-mimeo-model")), ("hit", first.as_str()));
    }
    assert!((5..=27).contains(&drafts), "{drafts} of 60 for a quarter");
    // The arm that a request is dealt to fails: not the other arm, but the one without a share.
    let reply = world.generate(ask("test", "a kite that fails [[fail=503*1]]")).await.expect(200);
    assert_eq!(reply.header("x-mimeo-model"), "premium", "{}", explain(&reply));
}

/// A share is of all requests, wherever it is listed and whatever the objective: who has none gets the rest.
#[tokio::test(flavor = "multi_thread")]
async fn who_has_no_share_gets_the_rest() {
    let world = World::with(
        "[routes.trial]\ncandidates = ['sandbox/standard', { model = 'sandbox/premium', share = 25 }]\n\
         [routes.cheap]\nobjective = 'cost'\n\
         candidates = ['sandbox/standard', { model = 'sandbox/premium', share = 25 }]\n",
    )
    .await;
    for route in ["trial", "cheap"] {
        let mut dealt = 0;
        for index in 0..60 {
            dealt += usize::from(model(&world, ask(route, &format!("kite {index}"))).await == "premium");
        }
        assert!((5..=27).contains(&dealt), "{route}: {dealt} of 60 for a quarter");
    }
}

/// Who is there for certain categories only is not asked for anything else, nor where nobody knows what it is.
#[tokio::test(flavor = "multi_thread")]
async fn who_is_for_one_category_makes_no_other() {
    let world = World::with(
        "[routes.shop]\nobjective = 'cost'\ncandidates = [{ model = 'sandbox/draft', only = ['glass'] }, 'sandbox/standard']\n\
         [routes.glass]\ncandidates = [{ model = 'sandbox/draft', only = ['glass'] }]\n",
    )
    .await;
    let reply = world.generate(ask("shop", "xyzzy")).await.expect(200);
    assert_eq!(reply.header("x-mimeo-model"), "standard", "{}", explain(&reply));
    assert!(explain(&reply).contains("the route asks it for glass only"), "{}", explain(&reply));
    let refused = world.generate(ask("glass", "xyzzy")).await.expect(400);
    assert!(refused.message().contains("`category`"), "{}", refused.message());
    for route in ["shop", "glass"] {
        let mut glass = ask(route, "xyzzy");
        glass["category"] = json!("glass");
        assert_eq!(model(&world, glass).await, "draft", "{route}");
    }
}

/// While the first are busy the overflow takes over, and the backup is for when nothing else is left.
#[tokio::test(flavor = "multi_thread")]
async fn overflow_takes_over_while_the_first_are_busy() {
    let world = World::with(
        "[providers.narrow]\nrecord = 'sandbox'\nbase_url = '{sandbox}/native/v1'\nlimits = { concurrent = 1, queue = 9 }\n\
         [routes.wide]\ncandidates = [{ model = 'sandbox/premium', role = 'backup' }, \
         { model = 'sandbox/standard', role = 'overflow' }, 'narrow/draft']\n",
    )
    .await;
    let slow = world.client.post(format!("{}/v1/images/generations", world.gateway.url));
    let slow = tokio::spawn(
        slow.body(ask("wide", "a slow kite [[latency=1500]]").to_string())
            .header("content-type", "application/json")
            .send(),
    );
    world.until(|stats| stats["in_flight"].as_u64() == Some(1)).await;
    assert_eq!(model(&world, ask("wide", "a quick kite")).await, "standard");
    let slow = slow.await.expect("it ends").expect("an answer");
    assert_eq!(slow.headers()["x-mimeo-model"], "draft");
    assert_eq!(model(&world, ask("wide", "a later kite")).await, "draft");
}

/// The models that are there without being configured, listed like any other.
#[tokio::test(flavor = "multi_thread")]
async fn virtual_models_are_there() {
    let mut world = bare("[providers.sandbox]\nbase_url = '{sandbox}/native/v1'\n").await;
    let models = world.get("/v1/models").await.expect(200).body.to_string();
    for (name, wanted) in [
        ("draft", "draft"),
        ("thumbnail", "draft"),
        ("standard", "standard"),
        ("premium", "premium"),
        ("hero", "premium"),
    ] {
        assert!(models.contains(&format!("\"id\":\"{name}\"")), "{name}: {models}");
        assert_eq!(model(&world, ask(name, &format!("a kite for {name}"))).await, wanted, "{name}");
    }
    // What is small is read as a thumbnail.
    assert_eq!(model(&world, ask("auto", "a kite for auto")).await, "draft");
    let mut body = ask("auto", "a large kite");
    body["size"] = json!("1024x1024");
    assert_eq!(model(&world, body.clone()).await, "standard");
    body["purpose"] = json!("hero");
    assert_eq!(model(&world, body.clone()).await, "premium");
    body["purpose"] = json!("thumbnail");
    assert_eq!(model(&world, body).await, "draft");
    // Nobody names a model: it is `auto`.
    let reply = world.generate(json!({ "prompt": "a kite without a model", "size": "1024x1024" })).await.expect(200);
    assert_eq!(reply.header("x-mimeo-model"), "standard");

    // Who else could make it is nothing that a picture depends on: one more provider makes none unfindable.
    let file = world.folder.0.join("mimeo.toml");
    let text = std::fs::read_to_string(&file).expect("there");
    let more = text.replace("enabled = false", &format!("base_url = '{}/openai/v1'", world.sandbox.url));
    std::fs::write(&file, more).expect("written");
    world.restart();
    for name in ["draft", "standard", "hero"] {
        let again = world.generate(ask(name, &format!("a kite for {name}"))).await.expect(200);
        assert_eq!(again.cache(), "hit", "{name}: {}", explain(&again));
    }
}

/// Without any provider there is a card, and it says what it is; what no card can do is refused with what to do.
#[tokio::test(flavor = "multi_thread")]
async fn without_providers_there_is_a_card() {
    let world = bare("").await;
    let reply =
        world.generate(json!({ "model": "auto", "prompt": "Spring sale", "size": "1200x630" })).await.expect(200);
    assert_eq!((reply.header("x-mimeo-provider"), reply.header("x-mimeo-cost-usd")), ("template", "0"));
    assert!(reply.header("x-mimeo-warning").contains("no provider is there"), "{}", explain(&reply));
    let reply = world.generate(json!({ "model": "hero", "prompt": "Spring sale", "n": 2 })).await.expect(404);
    assert_eq!(reply.code(), "no_provider", "{}", reply.body);
    assert!(reply.message().contains("mimeo providers --all"), "{}", reply.message());
}

/// What a route says wrongly is told with its line.
#[tokio::test(flavor = "multi_thread")]
async fn faults_are_told() {
    let world = World::new().await;
    for (text, told) in [
        ("[routes.a]\ncandidates = [{ model = 'sandbox/draft', hours = 'night' }]\n", "22:00-06:00"),
        ("[routes.a]\ncandidates = ['sandbox/draft']\nobjective = 'cheapest'\n", "cost"),
        (
            "[routes.a]\ncandidates = ['sandbox/draft']\nshadow = { model = 'sandbox/drafft', percent = 5 }\n",
            "did you mean draft",
        ),
        ("[routes.a]\ncandidates = ['sandbox/draft']\nshadow = { model = 'a', percent = 5 }\n", "for ever"),
        // Who decides by itself may decide on this very route.
        ("[routes.hero]\ncandidates = ['sandbox/draft']\nshadow = { model = 'auto', percent = 5 }\n", "for ever"),
        ("[routes.a]\ncandidates = ['sandbox/draft']\nquality_floor = 120\n", "0 to 100"),
        ("[routes.a]\ncandidates = ['sandbox/draft']\nquality_floor = 999\n", "a whole number from 0 to 255"),
        ("[routes.a]\ncandidates = ['sandbox/draft']\ndeadline_ms = 0\n", "deadline_ms = 0"),
        ("[routes.a]\ncandidates = ['sandbox/draft']\nslow_s = 0\n", "slow_s = 0"),
        ("[routes.a]\ncandidates = ['b']\n[routes.b]\ncandidates = ['sandbox/draft']\n", "b is a route"),
        ("[routes.a]\ncandidates = ['hero']\n", "hero is a route"),
        ("[routes.a]\ncandidates = [{ model = 'sandbox/draft', share = 25 }]\n", "add up to 25"),
        (
            "[routes.a]\ncandidates = [{ model = 'sandbox/draft', only = ['glass'], except = ['glass'] }]\n",
            "both `only` and `except`",
        ),
        ("[prices]\nfeeds = [{ file = 'p.csv', format = 'csv' }]\n", "model=…, price=…"),
        ("[prices]\nfeeds = [{ file = 'p.json', format = 'litellm', map = { model = 'm' } }]\n", "map"),
        (
            "[prices]\nfeeds = [{ url = 'https://a.example/p?1', format = 'litellm' }, \
             { url = 'https://a.example/p?2', format = 'litellm' }]\n",
            "two are called https://a.example/p",
        ),
    ] {
        let file = world.data().with_file_name("wrong.toml");
        std::fs::write(&file, format!("[providers.sandbox]\n{text}")).expect("written");
        let (code, out, err) = world.run(&["check", "--config", &file.to_string_lossy()]);
        assert_eq!(code, 64, "{text}: {out}");
        assert!(err.contains(told), "{text}: {err}");
    }
}

/// What the classifier came to is told with the candidate that it was for.
#[tokio::test(flavor = "multi_thread")]
async fn steps_are_told() {
    let world = World::with("[routes.easy]\ncandidates = ['sandbox/standard']\ndynamic_steps = true\n").await;
    let reply = world.generate(ask("easy", "White ceramic mug on a white background")).await.expect(200);
    assert!(explain(&reply).contains("1. sandbox/standard (25 steps)"), "{}", explain(&reply));
}

/// What cannot be served by anybody is no fault, as people may think otherwise of a model, or a model come: a warning.
#[tokio::test(flavor = "multi_thread")]
async fn routes_that_nobody_can_serve_are_warned_of() {
    let world = World::with(
        "[routes.dream]\ncandidates = ['sandbox/standard']\nquality_floor = 99\n\
         [routes.glass]\ncandidates = ['sandbox/standard']\nfloors = { glass = 90 }\n\
         [routes.near]\ncandidates = ['sandbox/standard']\nregions = ['eu']\nregions_only = true\n\
         [routes.fine]\ncandidates = [{ model = 'sandbox/standard', region = 'eu', rating = 99, hours = '00:00-24:00' }]\n\
         quality_floor = 99\nregions = ['eu']\nregions_only = true\n",
    )
    .await;
    let (code, out, err) = world.run(&["check"]);
    assert_eq!(code, 0, "{err}");
    for told in ["routes.dream: no candidate", "routes.glass: no candidate", "routes.near: no candidate"] {
        assert!(out.contains(told), "{told}: {out}");
    }
    assert!(!out.contains("routes.fine"), "{out}");
}

/// Whom a route would ask, and why not the others, without asking anybody.
#[tokio::test(flavor = "multi_thread")]
async fn routes_are_listed_and_shown() {
    let world = World::with(&format!(
        "[providers.twin]\nrecord = 'sandbox'\nbase_url = '{{sandbox}}/native/v1'\n\
         [routes.even]\nobjective = 'cost'\ncandidates = ['sandbox/draft', 'twin/draft']\n\
         [routes.sound]\n{THREE}objective = 'cost'\nquality_floor = 50\n"
    ))
    .await;
    let (code, out, err) = world.run(&["routes", "--json"]);
    assert_eq!(code, 0, "{err}");
    let listed: Value = serde_json::from_str(&out).expect("JSON");
    let names: Vec<&str> = listed.as_array().expect("a list").iter().filter_map(|one| one["name"].as_str()).collect();
    assert_eq!(names, ["even", "sound", "draft", "hero", "premium", "standard", "thumbnail", "auto"]);
    // A probe is a matter of one request, and not what a route asks.
    assert_eq!(listed[0]["candidates"], json!(["sandbox/draft", "twin/draft"]));
    assert_eq!(listed[1]["candidates"], json!(["sandbox/standard", "sandbox/premium", "sandbox/draft"]));
    let (code, out, _) = world.run(&["routes", "show", "sound"]);
    assert!(code == 0 && out.contains("cheapest, of at least 50 points") && out.contains("rated 35 of 100"), "{out}");
    let (code, _, err) = world.run(&["routes", "show", "sounds"]);
    assert!(code == 1 && err.ends_with("did you mean sound?\n"), "{err}");
    assert!(world.book().await.is_empty());
}

/// A cheap model that does badly on glass is taken off glass, and off nothing else; the explanation says so.
#[tokio::test(flavor = "multi_thread")]
async fn people_take_a_model_off_a_category() {
    let world = World::with(&format!("[routes.shop]\n{THREE}objective = 'cost'\nquality_floor = 30\n")).await;
    let glass = |index: usize| {
        let mut body = ask("shop", &format!("bottle {index}"));
        body["category"] = json!("glass");
        body
    };
    for index in 0..16 {
        let made = world.generate(glass(index)).await.expect(200);
        let model = made.header("x-mimeo-model").to_owned();
        let image = made.body["mimeo"]["images"][0]["id"].as_str().expect("an id").to_owned();
        let word = json!({ "image_id": image, "accepted": model != "draft" });
        world.post("/v1/feedback", word).await.expect(200);
    }
    let made = world.generate(glass(99)).await.expect(200);
    assert_eq!(made.header("x-mimeo-model"), "standard", "{}", explain(&made));
    assert!(explain(&made).contains("opinions, and the route asks for 30"), "{}", explain(&made));
    let mut food = ask("shop", "a soup");
    food["category"] = json!("food");
    assert_eq!(model(&world, food).await, "draft");
}
