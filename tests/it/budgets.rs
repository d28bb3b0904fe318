//! Budgets of one gateway, over HTTP: which one refuses, what it says, what counts, and what does not.

use mimeo::http::auth::new_key;
use serde_json::{Value, json};

use crate::world::{Reply, World, reply};

/// A world with more configuration, in which `{NAME}` stands for the hash of a key, and those keys.
async fn banked<const N: usize>(names: [&str; N], config: &str) -> (World, [String; N]) {
    let mut config = config.to_owned();
    let keys = names.map(|name| {
        let (key, hash) = new_key().expect("randomness");
        config = config.replace(&format!("{{{name}}}"), &hash);
        key
    });
    (World::with(&config).await, keys)
}

async fn ask(world: &World, key: &str, body: Value) -> Reply {
    let request = world.client.post(format!("{}/v1/images/generations", world.gateway.url)).bearer_auth(key);
    reply(request.header("content-type", "application/json").body(body.to_string())).await
}

async fn budgets(world: &World, key: &str) -> Reply {
    reply(world.client.get(format!("{}/v1/budgets", world.gateway.url)).bearer_auth(key)).await
}

/// A request for one small picture, which costs $0.01 by `sandbox/standard`, $0.002 by `sandbox/draft`.
fn kite(model: &str, prompt: &str) -> Value {
    json!({ "model": model, "prompt": prompt, "size": "64x64" })
}

fn explain(reply: &Reply) -> String {
    reply.body["mimeo"]["explain"].to_string()
}

/// Which budget it is, its limit, what is used of it and when it resets.
#[track_caller]
fn refused(reply: Reply, says: &[&str]) -> Reply {
    let reply = reply.expect(429);
    assert_eq!((reply.code(), reply.header("x-should-retry")), ("budget_exceeded", "false"));
    for part in says {
        assert!(reply.message().contains(part), "`{part}` is not in: {}", reply.message());
    }
    reply
}

/// The seconds of `Retry-After`, which must be those until the time that the message names.
#[track_caller]
fn waits(reply: &Reply) -> i64 {
    let (_, at) = reply.message().split_once("resets at ").expect("it says when");
    let at: jiff::Timestamp = at.trim_end_matches('.').parse().expect("a time");
    let wait: i64 = reply.header("retry-after").parse().expect("seconds");
    let off = at.as_second() - jiff::Timestamp::now().as_second() - wait;
    assert!((-30..=1).contains(&off), "{wait} s are not until {at}");
    wait
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_and_tenants_are_bounded_each_by_its_own() {
    let (world, [web, app, other]) = banked(
        ["web", "app", "other"],
        "[keys.web]\nhash = '{web}'\ntenant = 'shop'\nbudget = { usd = '0.02', per = 'day' }\n\
         [keys.app]\nhash = '{app}'\ntenant = 'shop'\n\
         [keys.other]\nhash = '{other}'\n\
         [tenants.shop]\nbudget = { usd = '0.035', per = 'month' }\n",
    )
    .await;
    let kite = |prompt: &str| kite("sandbox/standard", prompt);
    ask(&world, &web, kite("one")).await.expect(200);
    ask(&world, &web, kite("two")).await.expect(200);
    let reply = ask(&world, &web, kite("three")).await;
    let reply = refused(reply, &["up to $0.01", "key `web` has used $0.02 of its budget of $0.02 per day"]);
    assert!(waits(&reply) <= 86_400);
    // The tenant's two keys together.
    ask(&world, &app, kite("three")).await.expect(200);
    let reply = ask(&world, &app, kite("four")).await;
    let reply = refused(reply, &["tenant `shop` has used $0.03 of its budget of $0.035 per month"]);
    assert!(waits(&reply) <= 31 * 86_400);
    ask(&world, &other, kite("four")).await.expect(200);
    assert_eq!(world.book().await.len(), 4);
    // What is stored costs nothing.
    for key in [&web, &app] {
        assert_eq!(ask(&world, key, kite("one")).await.expect(200).cache(), "hit");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_route_goes_on_when_an_account_is_spent() {
    let world = World::with(
        "[providers.small]\nrecord = 'sandbox'\nbase_url = '{sandbox}/native/v1'\n\
         budget = { pictures = 1, per = 'total' }\n\
         [routes.hero]\ncandidates = ['small/draft', 'sandbox/standard']\n\
         [routes.poor]\ncandidates = ['sandbox/draft']\nbudget = { usd = '0.003', per = 'day' }\n",
    )
    .await;
    let hero = |prompt: &str| {
        let mut body = kite("hero", prompt);
        body["explain"] = json!(true);
        body
    };
    let first = world.generate(hero("one")).await.expect(200);
    assert_eq!(first.header("x-mimeo-provider"), "small");
    let second = world.generate(hero("two")).await.expect(200);
    assert_eq!((second.header("x-mimeo-provider"), second.header("x-mimeo-cost-usd")), ("sandbox", "0.01"));
    assert!(
        explain(&second).contains("provider `small` has used 1 of its 1 pictures per total"),
        "{}",
        explain(&second)
    );
    // Alone, it is the answer.
    let alone = refused(
        world.generate(kite("small/draft", "three")).await,
        &["makes up to 1 pictures", "provider `small` has used 1 of its 1 pictures per total", "does not reset"],
    );
    assert_eq!(alone.header("retry-after"), "");
    // A route is bounded whoever makes its pictures.
    world.generate(kite("poor", "one")).await.expect(200);
    let reply = refused(
        world.generate(kite("poor", "two")).await,
        &["route `poor` has used $0.002 of its budget of $0.003 per day"],
    );
    assert!(waits(&reply) <= 86_400);
    world.generate(kite("sandbox/draft", "two")).await.expect(200);
}

#[tokio::test(flavor = "multi_thread")]
async fn soft_budgets_warn_and_several_hold_together() {
    let (world, [web]) = banked(
        ["web"],
        "[keys.web]\nhash = '{web}'\n[[keys.web.budget]]\nusd = '0.01'\npictures = 1\nper = 'month'\nsoft = true\n\
         [[keys.web.budget]]\npictures = 2\nper = 'total'\n",
    )
    .await;
    let kite = |prompt: &str| kite("sandbox/standard", prompt);
    assert_eq!(ask(&world, &web, kite("one")).await.expect(200).header("x-mimeo-warning"), "");
    let warned = ask(&world, &web, kite("two")).await.expect(200);
    let warnings: Vec<_> =
        warned.headers.get_all("x-mimeo-warning").iter().map(|w| w.to_str().expect("text")).collect();
    assert_eq!(
        warnings,
        [
            "Over a soft budget: the key `web` has used $0.01 of its budget of $0.01 per month, before this request.",
            "Over a soft budget: the key `web` has used 1 of its 1 pictures per month, before this request.",
        ]
    );
    let hit = ask(&world, &web, kite("two")).await.expect(200);
    assert_eq!((hit.cache(), hit.header("x-mimeo-warning")), ("hit", ""), "what costs nothing overruns nothing");
    refused(ask(&world, &web, kite("three")).await, &["key `web` has used 2 of its 2 pictures per total"]);
}

/// What is more than a whole budget is not to be waited for.
#[tokio::test(flavor = "multi_thread")]
async fn what_never_fits_names_no_time() {
    let (world, [web, app]) = banked(
        ["web", "app"],
        "[keys.web]\nhash = '{web}'\nbudget = { usd = '0.005', per = 'hour' }\n\
         [keys.app]\nhash = '{app}'\nbudget = { pictures = 3, per = 'hour' }\n",
    )
    .await;
    let mut four = kite("sandbox/draft", "kites");
    four["model"] = json!("compatible/sandbox-image");
    four["size"] = json!("256x256");
    four["n"] = json!(4);
    for (key, body, says) in [
        (&web, kite("sandbox/standard", "a kite"), "budget of $0.005 per hour"),
        (&app, four, "has used 0 of its 3 pictures per hour"),
    ] {
        let reply = refused(ask(&world, key, body).await, &[says, "more than the whole budget"]);
        assert_eq!(reply.header("retry-after"), "");
    }
    assert!(world.book().await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_price_that_nobody_knows_fits_no_budget_in_money() {
    let (mut world, [usd, count, soft]) = banked(
        ["usd", "count", "soft"],
        "[providers.box]\nrecord = 'openai-compatible'\nbase_url = '{sandbox}/compatible/v1'\n\
         [keys.usd]\nhash = '{usd}'\nbudget = { usd = '10', pictures = 10, per = 'day' }\n\
         [keys.count]\nhash = '{count}'\nbudget = { pictures = 1, per = 'total' }\n\
         [keys.soft]\nhash = '{soft}'\nbudget = { usd = '10', per = 'day', soft = true }\n",
    )
    .await;
    let body = |prompt: &str| kite("box/some-model", prompt);
    let reply = ask(&world, &usd, body("a kite")).await.expect(429);
    assert_eq!((reply.code(), reply.header("retry-after")), ("price_unknown", ""));
    assert!(reply.message().contains("key `usd`") && reply.message().contains("providers.box.prices"));
    ask(&world, &count, body("a kite")).await.expect(200);
    refused(ask(&world, &count, body("a mill")).await, &["key `count` has used 1 of its 1 pictures per total"]);
    let warned = ask(&world, &soft, body("a kite")).await.expect(200);
    assert!(warned.header("x-mimeo-warning").starts_with("A soft budget cannot be kept. Nobody knows what box/"));
    // The book knows the price, and the ledger does not.
    world.leave_unaudited();
}

/// What is used outlives the process; hits use nothing; what nobody knows of is used until it is resolved.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_used_lasts_until_it_is_known_better() {
    let (mut world, [web]) = banked(
        ["web"],
        "[keys.web]\nhash = '{web}'\nadmin = true\nbudget = { usd = '0.02', pictures = 2, per = 'total' }\n",
    )
    .await;
    let kite = |prompt: &str| kite("sandbox/standard", prompt);
    ask(&world, &web, kite("one")).await.expect(200);
    for _ in 0..3 {
        assert_eq!(ask(&world, &web, kite("one")).await.expect(200).cache(), "hit");
    }
    let used = |listed: &Reply| {
        let rows = listed.body.as_array().expect("a list").iter();
        rows.map(|row| format!("{} {}", row["used_usd"], row["used_pictures"])).collect::<Vec<_>>()
    };
    assert_eq!(used(&budgets(&world, &web).await.expect(200)), ["\"0.01\" 1"; 2]);
    ask(&world, &web, kite("two [[reset]]")).await.expect(504);
    world.restart();
    assert_eq!(used(&budgets(&world, &web).await.expect(200)), ["\"0.02\" 2"; 2]);
    refused(ask(&world, &web, kite("three")).await, &["has used $0.02 of its budget of $0.02 per total"]);
    let (_, out, _) = world.run(&["ledger", "suspense", "--json"]);
    let open: Value = serde_json::from_str(&out).expect("JSON");
    let attempt = open[0]["attempt"].as_str().expect("its name");
    let (code, _, err) = world.run(&["ledger", "resolve", attempt, "--release"]);
    assert_eq!(code, 0, "{err}");
    assert_eq!(used(&budgets(&world, &web).await.expect(200)), ["\"0.01\" 1"; 2]);
    ask(&world, &web, kite("three")).await.expect(200);
    refused(ask(&world, &web, kite("four")).await, &[]);
    // The command says what the gateway says.
    let (_, out, _) = world.run(&["budgets", "--json"]);
    let listed = budgets(&world, &web).await.expect(200).body;
    assert_eq!(serde_json::from_str::<Value>(&out).expect("JSON"), listed);
    let (_, out, _) = world.run(&["budgets"]);
    let lines: Vec<String> = out.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
    assert_eq!(
        lines,
        [
            "OF NAME LIMIT USED PER RESETS",
            "key web $0.02 $0.02 total hard never",
            "key web 2 pictures 2 pictures total hard never",
        ]
    );
}

/// A key sees its own budgets and its tenant's; an admin's key sees all of them.
#[tokio::test(flavor = "multi_thread")]
async fn budgets_are_shown_to_whom_they_concern() {
    let (world, [web, app, bank, boss]) = banked(
        ["web", "app", "bank", "boss"],
        "[keys.web]\nhash = '{web}'\ntenant = 'shop'\nbudget = { usd = '1', per = 'day' }\n\
         [keys.app]\nhash = '{app}'\ntenant = 'shop'\n\
         [keys.bank]\nhash = '{bank}'\nbudget = { usd = '3', per = 'hour' }\n\
         [keys.boss]\nhash = '{boss}'\nadmin = true\n\
         [tenants.shop]\nbudget = { pictures = 7, per = 'month', soft = true }\n\
         [providers.small]\nrecord = 'sandbox'\nbase_url = '{sandbox}/native/v1'\nbudget = { usd = '5', per = 'total' }\n",
    )
    .await;
    world.get("/v1/budgets").await.expect(401);
    let names = |reply: Reply| {
        let listed = reply.expect(200).body;
        let rows = listed.as_array().expect("a list").iter();
        rows.map(|row| format!("{} {}", row["scope"].as_str().expect("text"), row["name"].as_str().expect("text")))
            .collect::<Vec<_>>()
    };
    assert_eq!(names(budgets(&world, &web).await), ["key web", "tenant shop"]);
    assert_eq!(names(budgets(&world, &app).await), ["tenant shop"]);
    assert_eq!(names(budgets(&world, &bank).await), ["key bank"]);
    assert_eq!(names(budgets(&world, &boss).await), ["key bank", "key web", "tenant shop", "provider small"]);
    let shop = &budgets(&world, &app).await.body[0];
    assert_eq!((&shop["limit_pictures"], &shop["limit_usd"], &shop["soft"]), (&json!(7), &Value::Null, &json!(true)));
    assert!(shop["resets_at"].as_str().is_some_and(|at| at.contains("-01T00:00:00")), "{shop}");
}

/// `max_spend_usd` bounds all calls of a request together: what was billed counts, not what was expected.
#[tokio::test(flavor = "multi_thread")]
async fn max_spend_bounds_batches_and_failover() {
    // It is said to cost a tenth of what it bills.
    let world = World::with(
        "[providers.sly]\nrecord = 'sandbox'\nbase_url = '{sandbox}/native/v1'\nprices = { usd_per_image = '0.001' }\n\
         [routes.two]\ncandidates = ['sly/standard', 'sandbox/draft']\n\
         [routes.dear]\ncandidates = ['sandbox/draft', 'sandbox/premium']\n",
    )
    .await;
    let ask = |model: &str, prompt: &str, n: u32, most: &str| {
        let mut body = kite(model, prompt);
        (body["n"], body["max_spend_usd"]) = (json!(n), json!(most));
        world.generate(body)
    };
    // Several calls at once: all or none.
    let refused = ask("sandbox/draft", "kites", 4, "0.007").await.expect(429);
    assert_eq!(refused.code(), "max_spend_exceeded");
    assert!(refused.message().contains("on top of $0.006"), "{}", refused.message());
    assert!(world.book().await.is_empty());
    ask("sandbox/draft", "kites", 4, "0.008").await.expect(200);
    assert_eq!(world.book().await.len(), 4);
    // One of two is made, the other goes to the next candidate, or to the same again if that one is too dear.
    let made = ask("dear", "mills [[fail=503*1]]", 2, "0.04").await.expect(200);
    assert_eq!((made.pictures().len(), made.header("x-mimeo-cost-usd")), (2, "0.004"));
    assert_eq!(world.book().await.len(), 6);
    let made = ask("dear", "barns [[fail=503*1]]", 2, "0.09").await.expect(200);
    assert_eq!((made.pictures().len(), made.header("x-mimeo-cost-usd")), (2, "0.042"));
    assert_eq!(world.book().await.len(), 8);
    // $0.001 was expected and $0.01 billed: there is nothing left for the second.
    let refused = ask("two", "boats [[fail=503*1]]", 2, "0.011").await.expect(429);
    assert_eq!(refused.code(), "max_spend_exceeded");
    assert!(refused.message().contains("on top of $0.01,"), "{}", refused.message());
    assert_eq!(world.book().await.len(), 9);
    ask("two", "trees [[fail=503*1]]", 2, "0.012").await.expect(200);
    assert_eq!(world.book().await.len(), 11);
}
