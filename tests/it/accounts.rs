//! Accounts: which keys may spend on which, and what their free and prepaid credits pay for.

use futures_util::future::join_all;
use mimeo::domain::{Answer, Call, Price};
use mimeo::http::auth::new_key;
use serde_json::{Value, json};

use crate::cache::Inside;
use crate::world::{Reply, World, reply};

/// A request for one small picture, which is worth $0.01 by a model `standard`, $0.002 by `draft`.
fn kite(model: &str, prompt: &str) -> Value {
    json!({ "model": model, "prompt": prompt, "size": "64x64", "explain": true })
}

async fn ask(world: &World, key: &str, body: Value) -> Reply {
    let request = world.client.post(format!("{}/v1/images/generations", world.gateway.url)).bearer_auth(key);
    reply(request.header("content-type", "application/json").body(body.to_string())).await
}

/// Who made it, and what it cost.
fn made(reply: &Reply) -> (&str, &str) {
    (reply.header("x-mimeo-provider"), reply.header("x-mimeo-cost-usd"))
}

fn explain(reply: &Reply) -> String {
    reply.body["mimeo"]["explain"].to_string()
}

/// An account of the sandbox called `small`, with a plan.
fn small(plan: &str) -> String {
    format!(
        "[providers.small]\nrecord = 'sandbox'\nbase_url = '{{sandbox}}/native/v1'\n[[providers.small.plan.included]]\n{plan}\n"
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn staging_never_pays() {
    let [(web, web_hash), (ci, ci_hash)] = [0, 1].map(|_| new_key().expect("randomness"));
    let world = World::with(&format!(
        "[providers.toy]\nrecord = 'sandbox'\nbase_url = '{{sandbox}}/native/v1'\nenvironments = ['staging', 'dev']\n\
         [routes.hero]\ncandidates = ['sandbox/standard', 'toy/draft']\n\
         [routes.dear]\ncandidates = ['sandbox/standard', 'openai/gpt-image-2.6-flare']\n\
         [keys.web]\nhash = '{web_hash}'\ntenant = 'shop'\n\
         [keys.ci]\nhash = '{ci_hash}'\ntenant = 'shop'\nenvironment = 'staging'\n"
    ))
    .await;
    // By its own name, by a route of nothing else, and with a new picture wanted.
    for model in ["sandbox/standard", "dear", "openai/gpt-image-2.6-flare"] {
        let refused = ask(&world, &ci, kite(model, "one")).await.expect(403);
        assert_eq!(refused.code(), "environment_forbidden");
        assert!(refused.message().contains("key `ci` is of the environment `staging`"), "{}", refused.message());
        let mut anew = kite(model, "one");
        anew["cache"] = json!({ "mode": "no-cache" });
        ask(&world, &ci, anew).await.expect(403);
    }
    assert!(world.book().await.is_empty());
    // What it may not use is passed over, and said.
    let toy = ask(&world, &ci, kite("hero", "two")).await.expect(200);
    assert_eq!(made(&toy), ("toy", "0.002"));
    assert!(explain(&toy).contains("dropped sandbox/standard: the key `ci`"), "{}", explain(&toy));
    // Nor when what it may use fails.
    let again = ask(&world, &ci, kite("hero", "three [[fail=503*1]]")).await.expect(200);
    assert_eq!(made(&again).0, "toy");
    let failed = ask(&world, &ci, kite("hero", "four [[fail=503]]")).await;
    assert!(failed.status >= 500, "{}", failed.body);
    let book = world.book().await;
    assert_eq!(book.len(), 2, "{book:?}");
    assert!(book.iter().all(|line| line["usd"] == "0.002"), "nothing that the paid account makes: {book:?}");
    // The other way round, too: what is for staging is not for production.
    assert_eq!(made(&ask(&world, &web, kite("hero", "five")).await.expect(200)).0, "sandbox");
    ask(&world, &web, kite("toy/draft", "five")).await.expect(403);
    // What is stored costs nothing, whoever paid for it.
    let hit = ask(&world, &ci, kite("hero", "five")).await.expect(200);
    assert_eq!((hit.cache(), made(&hit)), ("hit", ("sandbox", "0")));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_environment_that_no_account_names_is_told() {
    let (_, hash) = new_key().expect("randomness");
    let world = World::with(&format!("[keys.ci]\nhash = '{hash}'\nenvironment = 'stagign'\n")).await;
    let (code, out, _) = world.run(&["check"]);
    assert_eq!(code, 0);
    assert!(out.contains("warning: keys.ci: no account names the environment `stagign`"), "{out}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_free_goes_first() {
    let world = World::with(&format!(
        "{}[routes.hero]\ncandidates = ['sandbox/draft', 'small/standard']\n\
         [routes.loyal]\ncandidates = ['small/standard', 'sandbox/draft']\n\
         [routes.paid]\ncandidates = ['small/standard']\ncredits = 'ignore'\n",
        small("pictures = 3\nper = 'month'")
    ))
    .await;
    // A route may leave it alone; what it pays for on the account is drawn all the same.
    let ignored = world.generate(kite("paid", "five")).await.expect(200);
    assert_eq!(made(&ignored), ("small", "0.01"));
    assert!(!explain(&ignored).contains("goes first"), "{}", explain(&ignored));
    // Whom credits buy nothing from, because it fails, money buys nothing from either.
    let failed = world.generate(kite("loyal", "six [[fail=503*1]]")).await.expect(200);
    assert_eq!(made(&failed), ("sandbox", "0.002"), "{}", explain(&failed));
    let first = world.generate(kite("hero", "one")).await.expect(200);
    assert_eq!(made(&first), ("small", "0"));
    assert!(explain(&first).contains("small/standard: goes first, with 2 pictures free left per month"));
    // Money has no say in it.
    let mut broke = kite("small/standard", "two");
    broke["max_spend_usd"] = json!("0");
    assert_eq!(made(&world.generate(broke).await.expect(200)), ("small", "0"));
    // Then the route's own order holds again, and the account costs what it costs.
    assert_eq!(made(&world.generate(kite("hero", "three")).await.expect(200)), ("sandbox", "0.002"));
    assert_eq!(made(&world.generate(kite("small/standard", "four")).await.expect(200)), ("small", "0.01"));
    // A copy of what cost nothing saves nothing.
    let hit = world.generate(kite("hero", "one")).await.expect(200);
    assert_eq!((hit.cache(), hit.header("x-mimeo-saved-usd")), ("hit", "0"));
    let ledger = world.ledger().await;
    assert_eq!((&ledger["spent_usd"], &ledger["paid_pictures"]), (&json!("0.024"), &json!(4)), "{ledger}");
    let free = json!({ "layer": "free", "saved_usd": "0.02", "pictures": 2 });
    assert!(ledger["saved_by_layer"].as_array().expect("a list").contains(&free), "{ledger}");
    let (code, out, err) = world.run(&["credits", "--json"]);
    assert_eq!(code, 0, "{err}");
    let pots: Value = serde_json::from_str(&out).expect("JSON");
    assert_eq!((&pots[0]["pot"], &pots[0]["pictures"]), (&json!("small/month/free/pictures"), &json!(0)));
    assert!(pots[0]["resets_at"].as_str().is_some_and(|at| at.contains("-01T00:00:00")), "{pots}");
    let (_, out, _) = world.run(&["credits"]);
    assert!(out.contains("small") && out.contains("3 pictures") && out.contains("0 pictures"), "{out}");
}

/// What is not used is lost, what is used up comes back, and neither a minute too soon.
#[tokio::test(flavor = "multi_thread")]
async fn a_pot_is_full_again_when_its_period_begins() {
    let inside = Inside::with(
        "plan = { included = [{ pictures = 1, per = 'day' }] }\n\
         [routes.free]\ncandidates = ['sandbox/standard']\ncredits = 'only'\n",
    )
    .await;
    let ask = |prompt: &str| {
        let call = Call { model: Some("free".into()), ..inside.call(prompt) };
        Box::pin(inside.app.pipeline.run(call, None))
    };
    let spent = |answer: mimeo::error::Result<Answer>| answer.expect_err("nothing is left").code.unwrap_or_default();
    assert_eq!(ask("one").await.expect("there is one").cost, Price::FREE);
    assert_eq!(spent(ask("two").await), "credits_spent");
    inside.later(12 * 3600 - 1);
    assert_eq!(spent(ask("two").await), "credits_spent", "it is still the same day");
    inside.later(1);
    assert_eq!(ask("two").await.expect("it is midnight").cost, Price::FREE);
    assert_eq!(spent(ask("three").await), "credits_spent");
    // What the sandbox billed was covered: the ledger says that nothing was spent.
    inside.close().await;
}

/// However many ask at once, no pot is overrun.
#[tokio::test(flavor = "multi_thread")]
async fn sixty_four_clients_get_what_is_there_and_no_more() {
    let world = World::with(
        "[providers.small]\nrecord = 'sandbox'\nbase_url = '{sandbox}/native/v1'\n\
         plan = { fee_usd = '5', included = [{ usd = '0.05', per = 'day', paid = true }] }\n\
         [routes.free]\ncandidates = ['small/standard']\ncredits = 'only'\n",
    )
    .await;
    let prompts: Vec<String> = (0..64).map(|number| format!("kite {number} [[latency=50]]")).collect();
    let replies = join_all(prompts.iter().map(|prompt| world.generate(kite("free", prompt)))).await;
    let (good, bad): (Vec<Reply>, Vec<Reply>) = replies.into_iter().partition(|reply| reply.status == 200);
    assert_eq!((good.len(), world.book().await.len()), (5, 5));
    assert!(good.iter().all(|reply| made(reply) == ("small", "0")));
    for reply in bad {
        assert_eq!(reply.expect(429).code(), "credits_spent");
    }
    let ledger = world.ledger().await;
    assert_eq!((&ledger["spent_usd"], &ledger["saved_usd"]), (&json!("0"), &json!("0")), "a fee is nobody's: {ledger}");
    assert_eq!(ledger["reserved_usd"], "0");
}

/// A plan may include several things: who comes too late for one of them gets what is in another, before any money.
#[tokio::test(flavor = "multi_thread")]
async fn every_pot_is_drawn_before_money() {
    let world = World::with(
        "[providers.small]\nrecord = 'sandbox'\nbase_url = '{sandbox}/native/v1'\n\
         plan = { fee_usd = '5', included = [{ pictures = 2, per = 'month' }, { usd = '0.05', per = 'day', paid = true }] }\n\
         [routes.free]\ncandidates = ['small/standard']\ncredits = 'only'\n\
         [routes.hero]\ncandidates = ['small/standard', 'sandbox/draft']\n",
    )
    .await;
    // Two of them are free, and one is prepaid, in one request.
    let mut three = kite("hero", "three");
    three["n"] = json!(3);
    assert_eq!(made(&world.generate(three).await.expect(200)), ("small", "0"));
    let prompts: Vec<String> = (0..16).map(|number| format!("kite {number} [[latency=50]]")).collect();
    let replies = join_all(prompts.iter().map(|prompt| world.generate(kite("free", prompt)))).await;
    assert_eq!(replies.iter().filter(|reply| reply.status == 200).count(), 4, "what is left of the prepaid pot");
    assert_eq!((world.book().await.len(), world.ledger().await["spent_usd"].clone()), (7, json!("0")));
    let (_, alerts, _) = world.run(&["alerts", "--json"]);
    assert!(!alerts.contains("account_spent"), "credits that are used up are no fault of the account: {alerts}");
}

/// A picture that fails its checks is made again by the next candidate, not by the same one for money.
#[tokio::test(flavor = "multi_thread")]
async fn what_credits_drew_badly_is_drawn_by_the_next_one() {
    let world = World::with(&format!(
        "{}[routes.hero]\ncandidates = ['small/standard', 'sandbox/draft']\nquality = {{ on_fail = 'next' }}\n",
        small("pictures = 2\nper = 'month'")
    ))
    .await;
    let reply = world.generate(kite("hero", "one [[blank-picture*1]]")).await.expect(200);
    assert_eq!(made(&reply), ("sandbox", "0.002"), "{}", explain(&reply));
}

/// What nobody knows the end of stays drawn, also when it is taken out of suspense.
#[tokio::test(flavor = "multi_thread")]
async fn what_may_have_been_made_is_drawn() {
    let mut world = World::with(&format!(
        "{}[routes.free]\ncandidates = ['small/standard']\ncredits = 'only'\n",
        small("pictures = 2\nper = 'total'")
    ))
    .await;
    world.generate(kite("free", "one [[reset]]")).await.expect(504);
    world.restart();
    let left = |world: &World| {
        let (_, out, _) = world.run(&["credits", "--json"]);
        serde_json::from_str::<Value>(&out).expect("JSON")[0]["pictures"].clone()
    };
    assert_eq!(left(&world), json!(1));
    let (_, out, _) = world.run(&["ledger", "suspense", "--json"]);
    let open: Value = serde_json::from_str(&out).expect("JSON");
    let attempt = open[0]["attempt"].as_str().expect("its name");
    assert_eq!(world.run(&["ledger", "resolve", attempt, "--release"]).0, 0);
    assert_eq!(left(&world), json!(1));
    world.generate(kite("free", "two")).await.expect(200);
    assert_eq!(world.generate(kite("free", "three")).await.expect(429).code(), "credits_spent");
    assert_eq!(world.ledger().await["suspense_usd"], "0");
    // The sandbox made the first and billed it; its account is covered, so the ledger says nothing was spent.
    world.leave_unaudited();
}

#[tokio::test(flavor = "multi_thread")]
async fn filler_words_are_not_paid_for() {
    let world = World::with("[routes.terse]\ncandidates = ['openai/gpt-image-2.6-flare']\ntrim_prompt = true\n").await;
    let body = |model: &str, prompt: &str| json!({ "model": model, "prompt": prompt, "size": "1024x1024", "quality": "low", "explain": true });
    let wordy = "Please draw me a  kite that says \"please  fly\", thanks!";
    let first = world.generate(body("terse", wordy)).await.expect(200);
    assert_eq!(first.body["mimeo"]["prompt_sent"], "a kite that says \"please  fly\"");
    assert!(explain(&first).contains("filler words were taken out, about "), "{}", explain(&first));
    // The key follows what is sent.
    let same = world.generate(body("terse", "a kite that says \"please  fly\"")).await.expect(200);
    assert_eq!((same.cache(), &same.body["mimeo"]["prompt_sent"]), ("hit", &Value::Null));
    let mut asked = body("openai/gpt-image-2.6-flare", wordy);
    asked["trim_prompt"] = json!(true);
    assert_eq!(world.generate(asked.clone()).await.expect(200).cache(), "hit");
    // Nobody's words are changed who did not ask for it, nor where words cost nothing.
    asked["model"] = json!("terse");
    asked["trim_prompt"] = json!(false);
    let kept = world.generate(asked).await.expect(200);
    assert_eq!((kept.cache(), &kept.body["mimeo"]["prompt_sent"]), ("miss", &Value::Null));
    // Nor in instructions for an edit: in "make me taller" no word is filler.
    let image = base64_simd::STANDARD.encode_to_string(&first.pictures()[0]);
    let mut edit = body("terse", "Please make me taller, thanks");
    edit["image"] = json!(format!("data:image/png;base64,{image}"));
    let edited = world.post("/v1/images/edits", edit).await.expect(200);
    assert_eq!(edited.body["mimeo"]["prompt_sent"], Value::Null);
    let mut free = kite("sandbox/draft", wordy);
    free["trim_prompt"] = json!(true);
    assert_eq!(world.generate(free).await.expect(200).body["mimeo"]["prompt_sent"], Value::Null);
    let book = world.book().await;
    assert_eq!((book.len(), &book[2]["prompt"]), (4, &json!("Please make me taller, thanks")));
}

/// A discount by volume begins after so many pictures that were paid for.
#[tokio::test(flavor = "multi_thread")]
async fn what_credits_pay_for_is_no_volume() {
    let prices = "[[models]]\nprovider = 'sandbox'\nmodel = 'standard'\n[models.prices]\ncertainty = 'configured'\n\
                  source = 'contract'\ntiers = [{ after_pictures = 2, permille = 500 }]\nrates = { image = [{ usd = '0.01' }] }\n";
    let config = format!("[prices]\nfiles = ['prices.toml']\n{}", small("pictures = 2\nper = 'month'"));
    let world = World::with_files(&config, |_| vec![("prices.toml", prices.to_owned())]).await;
    for (prompt, reserved) in [("one", "0"), ("two", "0"), ("three", "0.01"), ("four", "0.01"), ("five", "0.005")] {
        let reply = world.generate(kite("small/standard", prompt)).await.expect(200);
        let (_, out, _) = world.run(&["ledger", "events", "--json"]);
        let events: Value = serde_json::from_str(&out).expect("JSON");
        let is_it = |event: &&Value| event["kind"] == "reserve" && event["request"] == reply.header("x-request-id");
        let event = events.as_array().expect("a list").iter().find(is_it).expect("it was reserved");
        assert_eq!(event["reserved_usd"], reserved, "{prompt}");
    }
}
