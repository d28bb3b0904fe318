//! Prices that change while the gateway runs: by feeds, and by what is billed.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use ring::hmac;
use serde_json::{Value, json};
use tokio::sync::mpsc;

use crate::world::{Folder, World, binary, outcome};

/// What signs the letters of these tests.
const SECRET: &str = "a-secret-of-the-tests";

/// A server with a price list that can be changed, and a letter box.
struct Desk {
    url: String,
    list: Arc<Mutex<String>>,
    unchanged: mpsc::UnboundedReceiver<()>,
    letters: mpsc::UnboundedReceiver<Value>,
    folder: Folder,
}

#[derive(Clone)]
struct Shelf {
    list: Arc<Mutex<String>>,
    unchanged: mpsc::UnboundedSender<()>,
    letters: mpsc::UnboundedSender<Value>,
}

impl Desk {
    async fn open(list: &str) -> Desk {
        let list = Arc::new(Mutex::new(list.to_owned()));
        let ((told, unchanged), (sent, letters)) = (mpsc::unbounded_channel(), mpsc::unbounded_channel());
        let shelf = Shelf { list: Arc::clone(&list), unchanged: told, letters: sent };
        let router = Router::new().route("/prices.csv", get(prices)).route("/letters", post(letter)).with_state(shelf);
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port is free");
        let url = format!("http://{}", listener.local_addr().expect("it is bound"));
        tokio::spawn(async move { axum::serve(listener, router).await });
        let folder = Folder::new();
        std::fs::write(folder.0.join("secret"), SECRET).expect("written");
        Desk { url, list, unchanged, letters, folder }
    }

    /// Configuration that looks at the list every second, and sends letters here.
    fn configured(&self) -> String {
        format!(
            "[[prices.feeds]]\nurl = '{url}/prices.csv?token=secret'\nformat = 'csv'\nevery_s = 1\n\
             map = {{ provider = 'who', model = 'what', price = 'usd' }}\n\
             [alerts]\nwebhook = '{url}/letters'\nsecret = {{ file = '{secret}' }}\n",
            url = self.url,
            secret = self.folder.0.join("secret").display()
        )
    }

    fn say(&self, list: &str) {
        list.clone_into(&mut self.list.lock().expect("nobody panicked"));
    }

    /// The next letter of a kind. Bounded by 30 s.
    async fn letter(&mut self, kind: &str) -> Value {
        let next = async {
            loop {
                let letter = self.letters.recv().await.expect("the desk is open");
                if letter["kind"] == kind {
                    return letter;
                }
            }
        };
        tokio::time::timeout(Duration::from_secs(30), next).await.unwrap_or_else(|_| panic!("no letter of kind {kind}"))
    }
}

async fn prices(State(shelf): State<Shelf>, headers: HeaderMap) -> Response {
    let list = shelf.list.lock().expect("nobody panicked").clone();
    let tag = format!("\"{}\"", blake3::hash(list.as_bytes()).to_hex());
    if headers.get(header::IF_NONE_MATCH).is_some_and(|known| known.as_bytes() == tag.as_bytes()) {
        let _ = shelf.unchanged.send(());
        return StatusCode::NOT_MODIFIED.into_response();
    }
    ([(header::ETAG, tag)], list).into_response()
}

/// Takes letters whose signature is right, and no others.
async fn letter(State(shelf): State<Shelf>, headers: HeaderMap, body: bytes::Bytes) -> StatusCode {
    let signature = headers.get("x-mimeo-signature").and_then(|value| value.to_str().ok()).unwrap_or_default();
    let digits = signature.strip_prefix("sha256=").unwrap_or_default();
    let tag: Vec<u8> =
        (0..digits.len()).step_by(2).map(|at| u8::from_str_radix(&digits[at..at + 2], 16).expect("digits")).collect();
    let key = hmac::Key::new(hmac::HMAC_SHA256, SECRET.as_bytes());
    if hmac::verify(&key, &body, &tag).is_err() {
        return StatusCode::UNAUTHORIZED;
    }
    let _ = shelf.letters.send(serde_json::from_slice(&body).expect("a letter is JSON"));
    StatusCode::NO_CONTENT
}

/// A list with one price of `sandbox/standard`.
fn list(usd: &str) -> String {
    format!("who,what,usd\nsandbox,standard,{usd}\nnobody,nothing,1\n")
}

/// Makes a picture, and says what was set aside for it and what it is settled at.
async fn draw(world: &World, prompt: &str) -> (String, String) {
    let body = json!({ "model": "sandbox/standard", "prompt": prompt, "size": "64x64" });
    let reply = world.generate(body).await.expect(200);
    let request = reply.header("x-request-id").to_owned();
    let events = listing(world, &["ledger", "events", "--json"]);
    let is_it = |event: &&Value| event["kind"] == "reserve" && event["request"] == request.as_str();
    let reserved = events.as_array().expect("a list").iter().find(is_it);
    let reserved = reserved.unwrap_or_else(|| panic!("nothing was set aside for {request}: {events}"));
    (reserved["reserved_usd"].as_str().expect("text").to_owned(), reply.header("x-mimeo-cost-usd").to_owned())
}

fn pair(reserved: &str, settled: &str) -> (String, String) {
    (reserved.to_owned(), settled.to_owned())
}

fn listing(world: &World, arguments: &[&str]) -> Value {
    let (code, out, err) = world.run(arguments);
    assert_eq!(code, 0, "{err}");
    serde_json::from_str(&out).unwrap_or_else(|error| panic!("{error}: {out}"))
}

/// What the sandbox bills for a picture of `sandbox/standard` from now on.
async fn bill(world: &World, usd: &str) {
    let request = world.client.post(format!("{}/control/prices", world.sandbox.url));
    let body = json!({ "model": "standard", "usd": usd }).to_string();
    assert_eq!(request.body(body).send().await.expect("an answer").status(), 204);
}

/// Asks until the answer satisfies. Bounded by 30 s.
async fn until(world: &World, arguments: &[&str], holds: impl Fn(&Value) -> bool) -> Value {
    let mut ticks = tokio::time::interval(Duration::from_millis(100));
    for _ in 0..300 {
        ticks.tick().await;
        let answer = listing(world, arguments);
        if holds(&answer) {
            return answer;
        }
    }
    panic!("it never came to be: {}", listing(world, arguments));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_price_that_a_feed_changes_is_told_and_set_aside_in_the_same_poll() {
    let mut desk = Desk::open(&list("0.01")).await;
    let mut world = World::with(&desk.configured()).await;
    assert_eq!(draw(&world, "before").await, pair("0.01", "0.01"));
    // What has not changed is not sent again.
    let unchanged = tokio::time::timeout(Duration::from_secs(30), desk.unchanged.recv());
    unchanged.await.expect("it is asked with the tag").expect("the desk is open");

    bill(&world, "0.013").await;
    desk.say(&list("0.013"));
    let told = desk.letter("price_changed").await;
    assert_eq!(told["subject"], "sandbox/standard", "{told}");
    let message = told["message"].as_str().expect("text");
    assert!(message.contains("$0.013 per picture instead of $0.01 per picture"), "{message}");
    assert_eq!(draw(&world, "then").await, pair("0.013", "0.013"));

    let history = listing(&world, &["prices", "history", "--json"]);
    let row = &history[0];
    assert_eq!(
        (history.as_array().map(Vec::len), &row["model"], &row["provider"]),
        (Some(1), &json!("standard"), &json!("sandbox"))
    );
    assert_eq!(row["source"], format!("{}/prices.csv", desk.url), "what may be secret in an address is not shown");
    assert_eq!(row["old"]["prices"]["rates"]["image"][0]["usd"], "0.01", "{row}");
    assert_eq!(row["new"]["prices"]["rates"]["image"][0]["usd"], "0.013", "{row}");
    let (_, shown, _) = world.run(&["prices", "history"]);
    assert!(shown.contains("$0.01 per picture") && shown.contains("$0.013 per picture"), "{shown}");
    let is_sent = |alerts: &Value| {
        let all = alerts.as_array().expect("a list");
        all.iter().any(|alert| alert["kind"] == "price_changed" && !alert["sent_at"].is_null())
    };
    until(&world, &["alerts", "--json"], is_sent).await;

    // A second change is news as much as the first.
    desk.say(&list("0.012"));
    let told = desk.letter("price_changed").await;
    assert!(
        told["message"].as_str().is_some_and(|text| text.contains("$0.012 per picture instead of $0.013")),
        "{told}"
    );
    desk.say(&list("0.013"));
    let told = desk.letter("price_changed").await;
    assert!(
        told["message"].as_str().is_some_and(|text| text.contains("$0.013 per picture instead of $0.012")),
        "{told}"
    );

    // Who starts again knows it, also while the feed is silent.
    desk.say("who,what,usd\n");
    world.restart();
    assert_eq!(draw(&world, "after").await, pair("0.013", "0.013"));
    let failed = desk.letter("feed_failed").await;
    assert_eq!(failed["subject"], format!("{}/prices.csv", desk.url));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_believed_is_told_and_changes_nothing() {
    let mut desk = Desk::open(&list("0.5")).await;
    let world = World::with(&desk.configured()).await;
    let doubted = desk.letter("feed_failed").await;
    assert_eq!(doubted["subject"], format!("{}/prices.csv sandbox/standard", desk.url));
    assert!(doubted["message"].as_str().is_some_and(|text| text.contains("suspect_factor")), "{doubted}");
    assert_eq!(draw(&world, "a kite").await, pair("0.01", "0.01"));
    // The same over the command line, which looks by itself.
    let (code, out, _) = world.run(&["prices", "refresh", "--json"]);
    let polled: Value = serde_json::from_str(&out).expect("JSON");
    assert_eq!((code, &polled[0]["rows"], &polled[0]["matched"]), (0, &json!(2), &json!(1)));
    assert_eq!(polled[0]["doubted"].as_array().map(Vec::len), Some(1), "{polled}");
    for broken in ["who,what,usd\n", "not a list", ""] {
        desk.say(broken);
        let (code, out, err) = world.run(&["prices", "refresh"]);
        assert_eq!(code, 1, "{out}");
        assert!(err.contains("no price of it was changed"), "{err}");
    }
    assert_eq!(listing(&world, &["prices", "history", "--json"]), json!([]));
    assert_eq!(draw(&world, "a boat").await, pair("0.01", "0.01"));
}

/// Bills correct the prices that they were compared with. When those change, it is the new ones that hold; and a feed that
/// is not asked any more has said nothing.
#[tokio::test(flavor = "multi_thread")]
async fn what_bills_have_taught_is_void_when_a_feed_says_something_else() {
    let mut desk = Desk::open(&list("0.01")).await;
    let mut world = World::with(&desk.configured()).await;
    bill(&world, "0.015").await;
    for prompt in ["1", "2", "3"] {
        assert_eq!(draw(&world, prompt).await, pair("0.01", "0.015"));
    }
    assert_eq!(draw(&world, "4").await, pair("0.015", "0.015"));
    desk.say(&list("0.02"));
    desk.letter("price_changed").await;
    assert_eq!(draw(&world, "5").await, pair("0.02", "0.015"), "and not half as much again");

    let file = world.folder.0.join("mimeo.toml");
    let text = std::fs::read_to_string(&file).expect("there");
    let without = text.split("[[prices.feeds]]").next().expect("what stands before it");
    std::fs::write(&file, without).expect("written");
    world.restart();
    assert_eq!(draw(&world, "6").await, pair("0.015", "0.015"));
}

/// What the operator has said of an account is not for a list to change.
#[tokio::test(flavor = "multi_thread")]
async fn a_price_of_ones_own_is_not_changed_by_a_feed() {
    let contract = "[[models]]\nprovider = 'sandbox'\nmodel = 'standard'\n[models.prices]\ncertainty = 'configured'\n\
                    source = 'our contract'\nrates = { image = [{ usd = '0.012' }] }\n";
    let mut desk = Desk::open(&list("0.013")).await;
    let config = format!(
        "[providers.sandbox]\nbase_url = '{{sandbox}}/native/v1'\n[prices]\nfiles = ['prices.toml']\n{}",
        desk.configured()
    );
    let world = World::with_files(&config, |_| vec![("prices.toml", contract.to_owned())]).await;
    // Read once, it has not changed since.
    tokio::time::timeout(Duration::from_secs(30), desk.unchanged.recv()).await.expect("it is read").expect("twice");
    assert_eq!(draw(&world, "a kite").await, pair("0.012", "0.01"));
    assert_eq!(listing(&world, &["prices", "history", "--json"]), json!([]));
}

#[test]
fn a_feed_that_cannot_be_believed_is_refused_and_its_secrets_are_not_told() {
    let folder = Folder::new();
    let told = |url: &str| {
        let feed = format!("[[prices.feeds]]\nurl = '{url}'\nformat = 'litellm'\n[providers.sandbox]\n");
        std::fs::write(folder.0.join("mimeo.toml"), feed).expect("written");
        let mut check = binary(&folder.0);
        check.arg("check");
        let (code, out, err) = outcome(check);
        assert!(!format!("{out}{err}").contains("s3kr1t"), "{out}{err}");
        (code, err)
    };
    let (code, err) = told("http://prices.example.com/list.json?token=s3kr1t");
    assert!(code == 64 && err.contains("prices.example.com/list.json must begin with https://"), "{err}");
    assert_eq!(told("https://prices.example.com/list.json?token=s3kr1t").0, 0);
    let (code, err) = told("https://me:s3kr1t@prices.example.com/list.json");
    assert!(code == 64 && err.contains("prices.example.com/list.json"), "{err}");
}

#[tokio::test(flavor = "multi_thread")]
async fn three_bills_in_a_row_are_a_new_price_until_they_are_as_listed_again() {
    let mut world = World::new().await;
    assert_eq!(draw(&world, "0").await, pair("0.01", "0.01"));
    bill(&world, "0.015").await;
    for prompt in ["1", "2", "3"] {
        assert_eq!(draw(&world, prompt).await, pair("0.01", "0.015"));
    }
    assert_eq!(draw(&world, "4").await, pair("0.015", "0.015"));
    let drift = |alerts: &Value| alerts.as_array().is_some_and(|all| all.iter().any(|a| a["kind"] == "price_drift"));
    let alerts = until(&world, &["alerts", "--json"], drift).await;
    let alert = alerts.as_array().expect("a list").iter().find(|alert| alert["kind"] == "price_drift").expect("one");
    assert_eq!(alert["subject"], "sandbox/standard");
    assert!(alert["message"].as_str().is_some_and(|text| text.contains("bills $0.015")), "{alert}");

    // It outlives the process.
    world.restart();
    assert_eq!(draw(&world, "5").await, pair("0.015", "0.015"));
    bill(&world, "0.01").await;
    for prompt in ["6", "7", "8"] {
        assert_eq!(draw(&world, prompt).await, pair("0.015", "0.01"));
    }
    assert_eq!(draw(&world, "9").await, pair("0.01", "0.01"));
    let two = |history: &Value| history.as_array().is_some_and(|rows| rows.len() == 2);
    let history = until(&world, &["prices", "history", "--json"], two).await;
    assert_eq!((&history[0]["source"], &history[1]["new"]), (&json!("bills"), &json!("listed")));
    // And it is told that all is well again.
    let is_well =
        |alert: &Value| alert["message"].as_str().is_some_and(|text| text.contains("bills again what is listed"));
    let well = |alerts: &Value| alerts.as_array().is_some_and(|all| all.iter().any(is_well));
    until(&world, &["alerts", "--json"], well).await;

    // All ten calls are told beside what was expected of them.
    let ten = |models: &Value| models[0]["settled"] == 10;
    let accuracy = until(&world, &["prices", "accuracy", "--json"], ten).await;
    assert_eq!((&accuracy[0]["set_aside_usd"], &accuracy[0]["spent_usd"]), (&json!("0.125"), &json!("0.125")));
    assert!(accuracy[0]["error"].as_f64().is_some_and(|error| error > 0.1 && error < 0.5), "{accuracy}");
}

/// An amount that is beyond any row of the ledger: the picture is delivered, and what was set aside is in suspense. It
/// does not stay under way, where everybody who asks for the same would wait for it.
#[tokio::test(flavor = "multi_thread")]
async fn a_bill_that_cannot_be_written_is_in_suspense() {
    let mut world = World::new().await;
    bill(&world, "20000000").await;
    let body = json!({ "model": "sandbox/standard", "prompt": "a kite", "size": "64x64", "deadline_ms": 20_000 });
    let reply = world.generate(body.clone()).await.expect(200);
    assert_eq!(reply.pictures().len(), 1);
    let ledger = world.ledger().await;
    assert_eq!((&ledger["reserved_usd"], &ledger["suspense_usd"]), (&json!("0"), &json!("0.01")), "{ledger}");
    let open = listing(&world, &["ledger", "suspense", "--json"]);
    assert!(open[0]["why"].as_str().is_some_and(|why| why.contains("$20000000")), "{open}");
    assert_eq!(world.generate(body).await.code(), "outcome_unknown");
    // The book says what the ledger cannot.
    world.leave_unaudited();
}

/// A list that never comes, while the gateway is asked to stop.
#[tokio::test(flavor = "multi_thread")]
async fn who_stops_waits_for_no_list() {
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port is free");
    let address = silent.local_addr().expect("it is bound");
    let mut world = World::with(&format!(
        "[[prices.feeds]]\nurl = 'http://{address}/prices.csv'\nformat = 'csv'\nevery_s = 1\n\
         map = {{ provider = 'who', model = 'what', price = 'usd' }}\n"
    ))
    .await;
    let asked = tokio::time::timeout(Duration::from_secs(30), silent.accept()).await;
    let _never_answered = asked.expect("it is asked").expect("it connects");
    let begun = std::time::Instant::now();
    assert_eq!(world.gateway.terminate(), Some(0));
    assert!(begun.elapsed() < Duration::from_secs(20), "it took {:?}", begun.elapsed());
}

/// What an operator states of an account goes before what a feed has said of it, also before it was stated.
#[tokio::test(flavor = "multi_thread")]
async fn what_an_operator_states_stands_against_what_a_feed_has_said_before() {
    let mut desk = Desk::open(&list("0.013")).await;
    let mut world = World::with(&desk.configured()).await;
    desk.letter("price_changed").await;
    assert_eq!(draw(&world, "as the feed says").await.0, "0.013");
    let file = world.folder.0.join("mimeo.toml");
    let text = std::fs::read_to_string(&file).expect("it is there");
    let stated = text.replace("[providers.sandbox]\n", "[providers.sandbox]\nprices = { usd_per_image = '0.02' }\n");
    std::fs::write(&file, stated).expect("written");
    world.restart();
    assert_eq!(draw(&world, "as the contract says").await.0, "0.02");
}

/// Whoever asks what something costs is told what the gateway reckons with, not what the catalogue said once.
#[tokio::test(flavor = "multi_thread")]
async fn listings_say_what_holds_now() {
    let mut desk = Desk::open(&list("0.013")).await;
    let config = "[routes.cheap]\nobjective = 'cost'\ncandidates = ['sandbox/standard', 'sandbox/draft']\n";
    let world = World::with(&(config.to_owned() + &desk.configured())).await;
    desk.letter("price_changed").await;
    let shown = &listing(&world, &["prices", "show", "sandbox/standard", "--json"])[0];
    assert_eq!((&shown["usd_per_image"], &shown["certainty"]), (&json!("0.013"), &json!("reported")), "{shown}");
    let listed = listing(&world, &["prices", "list", "--provider", "sandbox", "--json"]);
    let prices: Vec<_> = listed.as_array().expect("a list").iter().map(|one| one["usd_per_image"].clone()).collect();
    assert_eq!(prices, ["0.002", "0.013", "0.04"]);
    let routed = listing(&world, &["routes", "show", "cheap", "--json"]);
    let bounds: Vec<_> = routed["candidates"].as_array().expect("a list").iter().map(|one| &one["bound_usd"]).collect();
    assert_eq!(bounds, ["0.002", "0.013"], "{routed}");

    bill(&world, "0.02").await;
    for prompt in ["1", "2", "3"] {
        assert_eq!(draw(&world, prompt).await, pair("0.013", "0.02"));
    }
    let told = |shown: &Value| !shown[0]["bills"].as_array().is_none_or(Vec::is_empty);
    let shown = until(&world, &["prices", "show", "sandbox/standard", "--json"], told).await;
    assert_eq!(shown[0]["bills"], json!([{ "quality": null, "billed_usd": "0.02", "listed_usd": "0.013" }]));
    let (_, text, _) = world.run(&["prices", "show", "sandbox/standard"]);
    assert!(text.contains("$0.02 for what is listed at $0.013"), "{text}");
    let (_, _, err) = world.run(&["prices", "list", "--provider", "sandbox"]);
    assert!(err.contains("1 of them is billed at another price than listed"), "{err}");
    let routed = listing(&world, &["routes", "show", "cheap", "--json"]);
    assert_eq!(routed["candidates"][1]["bound_usd"], "0.02", "{routed}");
}

/// A feed that answers something else, or of which nothing can be used, is told: in few words, and not in silence.
#[tokio::test(flavor = "multi_thread")]
async fn a_feed_that_does_not_help_says_why() {
    let desk = Desk::open(&list("0.01")).await;
    let world = World::with(&desk.configured()).await;
    for (said, told) in [
        (format!("<html>{}</html>\n", "welcome ".repeat(20_000)), "there is no column what"),
        (String::new(), "it is empty"),
        ("who,what,usd\nnobody,nothing,1\n".to_owned(), "none of its prices is of a model that is here"),
        ("who,what,usd\nsandbox,standard,nothing\nsandbox,draft,0.002\n".to_owned(), "1 left out"),
    ] {
        desk.say(&said);
        let (_, out, err) = world.run(&["prices", "refresh"]);
        assert!(out.contains(told), "{told}: {}", out.chars().take(2000).collect::<String>());
        assert!(out.len() + err.len() < 4000, "{} bytes about {told}", out.len() + err.len());
    }
}
