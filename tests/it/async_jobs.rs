//! Providers that answer with jobs look like all others, whatever becomes of the processes that ask for them (I8).
//!
//! The provider is a house that does what the test tells it, and counts what it is sent: a job that it accepted is
//! never sent again.

mod house;

use std::time::Duration;

use futures_util::future::join_all;
use serde_json::{Value, json};
use tokio::task::JoinHandle;

use crate::cluster::Cluster;
use crate::world::{Folder, Reply, World, reply};
use house::{Gateway, House, Terms};

/// Nothing here takes longer.
const PATIENCE: Duration = Duration::from_secs(30);

fn kite() -> Value {
    json!({ "model": "house/press", "prompt": "a kite" })
}

impl Gateway {
    /// Asks for a picture, in the background.
    fn ask(&self, path: &str, body: &Value) -> JoinHandle<Option<Reply>> {
        let request = self.client.post(format!("{}{path}", self.url)).header("content-type", "application/json");
        let request = request.body(body.to_string());
        tokio::spawn(async move { crate::world::try_reply(request).await.ok() })
    }

    fn generate(&self, body: &Value) -> JoinHandle<Option<Reply>> {
        self.ask("/v1/images/generations", body)
    }

    /// Begins a job, and its path.
    async fn job(&self, body: &Value) -> String {
        let told = answer(self.ask("/v1/images/jobs", body)).await.expect(202);
        assert_eq!((&told.body["object"], &told.body["status"]), (&json!("image.job"), &json!("running")));
        told.header("location").to_owned()
    }

    async fn get(&self, path: &str) -> Reply {
        reply(self.client.get(format!("{}{path}", self.url))).await
    }

    async fn delete(&self, path: &str) -> Reply {
        reply(self.client.delete(format!("{}{path}", self.url))).await
    }

    /// Calls a job off that has not ended. It may be quick.
    async fn call_off(&self, path: &str) {
        let told = self.delete(path).await;
        let expected = match told.status {
            202 => "cancelling",
            _ => "cancelled",
        };
        assert!(matches!(told.status, 200 | 202) && told.body["status"] == expected, "{}", told.body);
    }

    /// Waits until the job has come to `status`.
    async fn until_job(&self, path: &str, status: &str) -> Value {
        eventually(async || {
            let job = self.get(path).await.expect(200).body;
            (job["status"] == status).then_some(job)
        })
        .await
    }

    /// Reserved, spent and in suspense.
    async fn balances(&self) -> [String; 3] {
        let sums = self.get("/v1/ledger?group_by=model").await.expect(200).body;
        ["reserved_usd", "spent_usd", "suspense_usd"].map(|name| sums[name].as_str().unwrap_or("?").to_owned())
    }

    async fn until_balances(&self, expected: [&str; 3]) {
        eventually(async || (self.balances().await == expected).then_some(())).await;
    }
}

/// Asks every 20 ms. Bounded.
async fn eventually<T>(mut ask: impl AsyncFnMut() -> Option<T>) -> T {
    let mut ticks = tokio::time::interval(Duration::from_millis(20));
    let asking = async {
        loop {
            ticks.tick().await;
            if let Some(answer) = ask().await {
                return answer;
            }
        }
    };
    tokio::time::timeout(PATIENCE, asking).await.expect("it comes to be in time")
}

async fn answer(asked: JoinHandle<Option<Reply>>) -> Reply {
    let asked = tokio::time::timeout(PATIENCE, asked).await.expect("it is answered in time");
    asked.expect("no panic").expect("the gateway is there")
}

/// Who asked a gateway that was killed has no picture. A process would be silent; of a runtime one thread may still tell
/// that the work of another is gone, before it goes itself.
async fn without_picture(lost: JoinHandle<Option<Reply>>) {
    if let Some(told) = lost.await.expect("no panic") {
        assert!(told.status >= 500, "{} {}", told.status, told.body);
    }
}

/// A gateway that is killed while a job is made, and another afterwards: the same request gets its picture, and so does
/// the one who only left a job behind.
#[tokio::test(flavor = "multi_thread")]
async fn i8_a_job_outlives_its_process() {
    let (folder, house) = (Folder::new(), House::open().await);
    let first = Gateway::open(&folder.0, &house, Terms::default(), "").await;
    let lost = first.generate(&kite());
    house.until(|prints| prints.len() == 1).await;
    let path = first.job(&json!({ "model": "house/press", "prompt": "a boat" })).await;
    house.until(|prints| prints.len() == 2).await;
    house.asked_again(0, 2).await;
    house.asked_again(1, 2).await;
    first.kill().await;
    without_picture(lost).await;

    let second = Gateway::open(&folder.0, &house, Terms::default(), "").await;
    house.asked_again(0, 2).await;
    assert_eq!(second.balances().await, ["0.1", "0", "0"], "nothing is in suspense");
    assert_eq!(second.get(&path).await.expect(200).body["status"], "running");
    let again = second.generate(&kite());
    house.asked_again(0, 2).await;
    house.finish(0);
    let again = answer(again).await.expect(200);
    assert_eq!((again.cache(), again.pictures().len()), ("join", 1));
    // Nobody asks for this one but who was told where.
    house.finish(1);
    let job = second.until_job(&path, "succeeded").await;
    let picture = job["result"]["data"][0]["url"].as_str().expect("an address").to_owned();
    assert_eq!(second.client.get(picture).send().await.expect("it is there").status(), 200);
    assert_eq!(job["result"]["mimeo"]["cost_usd"], "0.05");
    second.until_balances(["0", "0.1", "0"]).await;
    for prompt in ["a kite", "a boat"] {
        let hit = answer(second.generate(&json!({ "model": "house/press", "prompt": prompt }))).await.expect(200);
        assert_eq!(hit.cache(), "hit", "{prompt}");
    }
    assert_eq!(house.prints().len(), 2, "nothing was sent twice");
}

/// Three gateways on one store; who leads is killed, and who adopts, too.
#[tokio::test(flavor = "multi_thread")]
async fn i8_whoever_is_there_asks_for_it() {
    let (folder, house) = (Folder::new(), House::open().await);
    let mut gateways = Vec::new();
    for _ in 0..3 {
        gateways.push(Gateway::open(&folder.0, &house, Terms::default(), "").await);
    }
    let last = gateways.pop().expect("three");
    let lost = gateways[0].generate(&kite());
    house.asked_again(0, 1).await;
    let waiting: Vec<_> = (0..5).map(|_| last.generate(&kite())).collect();
    for gateway in gateways {
        house.asked_again(0, 2).await;
        gateway.kill().await;
    }
    without_picture(lost).await;
    house.asked_again(0, 2).await;
    house.finish(0);
    for got in join_all(waiting.into_iter().map(answer)).await {
        assert_eq!(got.expect(200).cache(), "join");
    }
    assert_eq!(house.prints().len(), 1);
    last.until_balances(["0", "0.05", "0"]).await;
}

/// The binary itself, killed the moment the provider has accepted a job, and then again and again while it is made.
#[tokio::test(flavor = "multi_thread")]
async fn i8_killed_again_and_again() {
    let (folder, house) = (Folder::new(), House::open().await);
    let mut world = World::with(&Terms::default().configured(&folder.0, &house)).await;
    // The invoices are the house's.
    world.leave_unaudited();
    world.restart_failing("attempt::after_accepted=kill");
    let url = format!("{}/v1/images/generations", world.gateway.url);
    let request = world.client.post(url).header("content-type", "application/json").body(kite().to_string());
    assert!(request.send().await.is_err(), "there is nobody left to answer");
    assert_eq!(world.gateway.child.wait().expect("it ended").code(), None, "by a signal");
    for _ in 0..5 {
        world.restart();
        house.asked_again(0, 2).await;
        let ledger = world.ledger().await;
        assert_eq!((&ledger["reserved_usd"], &ledger["suspense_usd"]), (&json!("0.05"), &json!("0")));
    }
    house.finish(0);
    let picture = world.generate(kite()).await.expect(200);
    assert!(matches!(picture.cache(), "join" | "hit"), "{}", picture.cache());
    let ledger = world.ledger().await;
    assert_eq!((&ledger["reserved_usd"], &ledger["spent_usd"]), (&json!("0"), &json!("0.05")));
    assert_eq!(house.prints().len(), 1);
}

/// Two machines on one PostgreSQL: what one began and did not live to finish, the other does; and a callback or a
/// cancellation reaches whoever asks for the job, wherever it comes in.
#[tokio::test(flavor = "multi_thread")]
async fn i8_replicas_take_over_and_pass_on() {
    let (folder, house) = (Folder::new(), House::open().await);
    // It would not ask again by itself while this test lasts.
    let terms = Terms { every_ms: 600_000, timeout_s: 3600, ..Terms::default() };
    let config = terms.configured(&folder.0, &house) + "[server]\npublic_url = 'http://gateway.example'\n";
    let mut cluster = Cluster::of(2).redis().lease(2).config(&config).start();
    cluster.leave_unaudited();
    let call = async |cluster: &Cluster, index: usize| {
        let (address, secret) = house.prints()[index].call.clone().expect("it may call back");
        let path = address.strip_prefix("http://gateway.example").expect("as configured");
        assert_eq!(house.call_back(&format!("{}{path}", cluster.replicas[1].gateway.url), Some(&secret)).await, 204);
    };
    let asked = async |index: usize, times: usize| {
        house.until(|prints| prints.get(index).is_some_and(|print| print.polls >= times)).await;
    };
    // The first asks, the second is called.
    let first = {
        let request = cluster.client.post(format!("{}/v1/images/generations", cluster.replicas[0].gateway.url));
        let request = request.header("content-type", "application/json").body(kite().to_string());
        tokio::spawn(async move { crate::world::try_reply(request).await.ok() })
    };
    asked(0, 1).await;
    house.finish(0);
    call(&cluster, 0).await;
    assert_eq!(answer(first).await.expect(200).cache(), "miss");

    // The first begins a job and is killed; the second adopts it when the lease is over.
    let boat = json!({ "model": "house/press", "prompt": "a boat" });
    let told = cluster.post(0, "/v1/images/jobs", boat.clone()).await.expect(202);
    asked(1, 1).await;
    cluster.kill(0);
    asked(1, 2).await;
    house.finish(1);
    call(&cluster, 1).await;
    let path = told.header("location").to_owned();
    eventually(async || (cluster.get(1, &path).await.expect(200).body["status"] == "succeeded").then_some(())).await;
    assert_eq!(cluster.generate(1, boat).await.expect(200).cache(), "hit");

    // What is called off at one is stopped by the other.
    cluster.restart(0);
    let told =
        cluster.post(0, "/v1/images/jobs", json!({ "model": "house/press", "prompt": "a tree" })).await.expect(202);
    asked(2, 1).await;
    let path = format!("{}{}", cluster.replicas[1].gateway.url, told.header("location"));
    assert!(matches!(reply(cluster.client.delete(path)).await.status, 200 | 202));
    house.until(|prints| prints[2].cancels == 1).await;
    eventually(async || (cluster.ledger()["reserved_usd"] == "0").then_some(())).await;
    let ledger = cluster.ledger();
    assert_eq!((&ledger["spent_usd"], &ledger["suspense_usd"]), (&json!("0.1"), &json!("0")));
    assert_eq!(house.prints().len(), 3);
}

/// A process that stops does not wait for ever, and says goodbye to its jobs: the next one has them at once.
#[tokio::test(flavor = "multi_thread")]
async fn i8_who_stops_hands_its_jobs_over() {
    let (folder, house) = (Folder::new(), House::open().await);
    let config = "[server]\ndrain_s = 1\n";
    let first = Gateway::open(&folder.0, &house, Terms::default(), config).await;
    let second = Gateway::open(&folder.0, &house, Terms::default(), "").await;
    let path = first.job(&kite()).await;
    house.asked_again(0, 2).await;
    first.drain().await;
    let again = second.generate(&kite());
    house.asked_again(0, 3).await;
    house.finish(0);
    assert_eq!(answer(again).await.expect(200).cache(), "join");
    second.until_job(&path, "succeeded").await;
    assert_eq!(house.prints().len(), 1);
    assert_eq!(second.balances().await, ["0", "0.05", "0"]);
}

/// What takes longer than a call may is told so, goes on in the background, and is joined by who asks again.
#[tokio::test(flavor = "multi_thread")]
async fn a_slow_job_is_joined_by_who_asks_again() {
    let (folder, house) = (Folder::new(), House::open().await);
    let terms = Terms { timeout_s: 1, ..Terms::default() };
    let gateway = Gateway::open(&folder.0, &house, terms, "").await;
    let path = gateway.job(&json!({ "model": "house/press", "prompt": "a boat" })).await;
    let told = answer(gateway.generate(&kite())).await.expect(504);
    assert_eq!((told.code(), told.header("x-should-retry")), ("still_being_made", "true"), "{}", told.message());
    assert_eq!(gateway.balances().await, ["0.1", "0", "0"]);
    // Who may not join would pay again, and is not told to repeat it.
    let own = json!({ "model": "house/press", "prompt": "a tree", "cache": { "mode": "no-store" } });
    let told = answer(gateway.generate(&own)).await.expect(504);
    assert_eq!((told.code(), told.header("x-should-retry")), ("still_being_made", "false"), "{}", told.message());
    let again = gateway.generate(&kite());
    house.asked_again(1, 3).await;
    assert_eq!(gateway.get(&path).await.expect(200).body["status"], "running", "it is a job all the same");
    (0..3).for_each(|index| house.finish(index));
    assert_eq!(answer(again).await.expect(200).cache(), "join");
    gateway.until_job(&path, "succeeded").await;
    gateway.until_balances(["0", "0.15", "0"]).await;
    assert_eq!(house.prints().len(), 3);
}

/// What the provider never finishes is in suspense in the end, with an error that says so.
#[tokio::test(flavor = "multi_thread")]
async fn a_job_without_end_ends_in_suspense() {
    let (folder, house) = (Folder::new(), House::open().await);
    let terms = Terms { timeout_s: 1, keep_s: 1, ..Terms::default() };
    let gateway = Gateway::open(&folder.0, &house, terms, "").await;
    let path = gateway.job(&kite()).await;
    house.asked_again(0, 2).await;
    let job = gateway.until_job(&path, "failed").await;
    assert_eq!(job["error"]["code"], "outcome_unknown", "{job}");
    let message = job["error"]["message"].as_str().expect("a sentence");
    assert!(message.contains("its job 0 had not ended 2 s after"), "{message}");
    assert_eq!(gateway.balances().await, ["0", "0", "0.05"]);
    assert_eq!(answer(gateway.generate(&kite())).await.expect(504).code(), "outcome_unknown");
    let polls = house.prints()[0].polls;
    assert_eq!(house.prints().len(), 1);
    gateway.drain().await;
    assert_eq!(house.prints()[0].polls, polls, "nobody asks any more");
}

/// A word that the record does not know is no end.
#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_status_is_not_the_end() {
    let (folder, house) = (Folder::new(), House::open().await);
    let gateway = Gateway::open(&folder.0, &house, Terms::default(), "").await;
    let asked = gateway.generate(&kite());
    house.until(|prints| prints.len() == 1).await;
    house.tell(0, json!({ "status": "contemplating" }));
    house.asked_again(0, 3).await;
    house.finish(0);
    assert_eq!(answer(asked).await.expect(200).cache(), "miss");
    // A failure that costs nothing is one.
    let asked = gateway.generate(&json!({ "model": "house/press", "prompt": "a boat" }));
    house.until(|prints| prints.len() == 2).await;
    house.tell(1, json!({ "status": "failed" }));
    assert_eq!(answer(asked).await.expect(502).code(), "provider_error");
    assert_eq!(gateway.balances().await, ["0", "0.05", "0"]);
}

/// A job of a provider that is not configured any more cannot be asked for, and its money is in doubt.
#[tokio::test(flavor = "multi_thread")]
async fn a_job_whose_provider_is_gone_is_in_suspense() {
    let (folder, house) = (Folder::new(), House::open().await);
    let first = Gateway::open(&folder.0, &house, Terms::default(), "").await;
    let path = first.job(&kite()).await;
    house.asked_again(0, 1).await;
    first.kill().await;
    let config = "enabled = false\n[providers.other]\nrecord = 'house'\nbase_url = 'http://127.0.0.1:9'\n";
    let second = Gateway::open(&folder.0, &house, Terms::default(), config).await;
    let job = second.until_job(&path, "failed").await;
    let message = job["error"]["message"].as_str().expect("a sentence");
    assert!(message.contains("the provider house is not configured any more"), "{message}");
    assert_eq!(second.balances().await, ["0", "0", "0.05"]);
}

/// Called off before it is sent: nothing is sent. While it is made: the provider stops, and nothing is billed.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_called_off_in_time_costs_nothing() {
    let (folder, house) = (Folder::new(), House::open().await);
    let config = "limits = { concurrent = 1 }\n";
    let gateway = Gateway::open(&folder.0, &house, Terms::default(), config).await;
    let made = gateway.job(&kite()).await;
    house.asked_again(0, 1).await;
    let queued = gateway.job(&json!({ "model": "house/press", "prompt": "a boat" })).await;
    gateway.until_balances(["0.1", "0", "0"]).await;
    gateway.call_off(&queued).await;
    let job = gateway.until_job(&queued, "cancelled").await;
    assert_eq!(job["error"]["code"], "cancelled");
    assert_eq!(house.prints().len(), 1, "it was never sent");
    assert_eq!(gateway.balances().await, ["0.05", "0", "0"]);

    gateway.call_off(&made).await;
    gateway.until_job(&made, "cancelled").await;
    assert_eq!((house.prints()[0].cancels, house.prints()[0].status()), (1, "cancelled"));
    assert_eq!(gateway.balances().await, ["0", "0", "0"]);
    // That is the last word, and says so again.
    assert_eq!(gateway.delete(&made).await.expect(200).body["status"], "cancelled");
    // Who asks anew gets it.
    let asked = gateway.generate(&kite());
    house.until(|prints| prints.len() == 2).await;
    house.finish(1);
    assert_eq!(answer(asked).await.expect(200).cache(), "miss");
    for unknown in ["/v1/images/jobs/req_0", &format!("/v1/images/jobs/req_{:032x}", 7)] {
        assert_eq!(gateway.delete(unknown).await.expect(404).code(), "job_not_found");
    }
}

/// Paid is paid: what is made although it was called off is kept, and the job says so.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_made_all_the_same_is_kept() {
    let (folder, house) = (Folder::new(), House::open().await);
    house.is_stubborn();
    let gateway = Gateway::open(&folder.0, &house, Terms::default(), "").await;
    let path = gateway.job(&kite()).await;
    house.asked_again(0, 1).await;
    gateway.delete(&path).await.expect(202);
    house.until(|prints| prints[0].cancels == 1).await;
    house.asked_again(0, 2).await;
    assert_eq!(gateway.get(&path).await.expect(200).body["status"], "cancelling");
    house.finish(0);
    gateway.until_job(&path, "succeeded").await;
    assert_eq!(gateway.delete(&path).await.expect(200).body["status"], "succeeded");
    assert_eq!(gateway.balances().await, ["0", "0.05", "0"]);
    assert_eq!(answer(gateway.generate(&kite())).await.expect(200).cache(), "hit");
}

/// Two who want the same picture: who calls off leaves, and it is made for the other.
#[tokio::test(flavor = "multi_thread")]
async fn one_does_not_call_off_for_another() {
    let (folder, house) = (Folder::new(), House::open().await);
    let gateway = Gateway::open(&folder.0, &house, Terms::default(), "").await;
    let path = gateway.job(&kite()).await;
    house.asked_again(0, 1).await;
    let others = [gateway.job(&kite()).await, gateway.job(&kite()).await];
    let [joined, other] = &others;
    // Who joined, and who leads.
    for path in [joined, &path] {
        gateway.call_off(path).await;
        gateway.until_job(path, "cancelled").await;
    }
    house.asked_again(0, 2).await;
    assert_eq!(house.prints()[0].cancels, 0);
    house.finish(0);
    gateway.until_job(other, "succeeded").await;
    assert_eq!(house.prints().len(), 1);
    assert_eq!(gateway.balances().await, ["0", "0.05", "0"]);
}

/// A job is called off wherever its caller asks, also when its process is gone.
#[tokio::test(flavor = "multi_thread")]
async fn a_job_is_called_off_from_anywhere() {
    let (folder, house) = (Folder::new(), House::open().await);
    let first = Gateway::open(&folder.0, &house, Terms::default(), "").await;
    let second = Gateway::open(&folder.0, &house, Terms::default(), "").await;
    let path = first.job(&kite()).await;
    house.asked_again(0, 1).await;
    second.call_off(&path).await;
    second.until_job(&path, "cancelled").await;
    assert_eq!(second.balances().await, ["0", "0", "0"]);
    let path = first.job(&json!({ "model": "house/press", "prompt": "a boat" })).await;
    house.asked_again(1, 1).await;
    first.kill().await;
    // It is adopted by who looks for it.
    let third = Gateway::open(&folder.0, &house, Terms::default(), "").await;
    house.asked_again(1, 2).await;
    second.call_off(&path).await;
    third.until_job(&path, "cancelled").await;
    assert_eq!(house.prints()[1].cancels, 1);
    assert_eq!(third.balances().await, ["0", "0", "0"]);
}

/// A callback makes the gateway ask at once; a forged one does nothing; neither is believed.
#[tokio::test(flavor = "multi_thread")]
async fn a_callback_only_wakes() {
    let (folder, house) = (Folder::new(), House::open().await);
    // It would not ask again while this test lasts.
    let terms = Terms { every_ms: 600_000, timeout_s: 3600, ..Terms::default() };
    let gateway = Gateway::open(&folder.0, &house, terms, "[server]\npublic_url = '{url}'\n").await;
    let asked = gateway.generate(&kite());
    house.until(|prints| prints.first().is_some_and(|print| print.polls == 1)).await;
    let (address, secret) = house.prints()[0].call.clone().expect("it may call back");
    assert!(address.starts_with(&format!("{}/v1/callbacks/att_", gateway.url)), "{address}");

    let mut forged = address.clone();
    let digit = forged.pop();
    forged.push(if digit == Some('0') { '1' } else { '0' });
    assert_eq!(house.call_back(&forged, Some(&secret)).await, 401);
    assert_eq!(house.call_back(&address, None).await, 401);
    assert_eq!(house.call_back(&address, Some("guessed")).await, 401);
    let stranger = format!("{}/v1/callbacks/att_{:032x}/{}", gateway.url, 7, "0".repeat(64));
    assert_eq!(house.call_back(&stranger, Some(&secret)).await, 401);
    // What it says is not believed: it is asked, and still at it.
    assert_eq!(house.call_back(&address, Some(&secret)).await, 204);
    house.until(|prints| prints[0].polls == 2).await;
    assert!(!asked.is_finished());
    house.finish(0);
    assert_eq!(house.call_back(&address, Some(&secret)).await, 204);
    assert_eq!(answer(asked).await.expect(200).cache(), "miss");
    assert_eq!(house.prints()[0].polls, 3, "the forged ones woke nobody");
    assert_eq!(house.call_back(&address, Some(&secret)).await, 204, "once more does no harm");
    assert_eq!(gateway.balances().await, ["0", "0.05", "0"]);
}

/// Without an address of its own, a gateway does not ask to be called.
#[tokio::test(flavor = "multi_thread")]
async fn nobody_is_asked_to_call_where_nobody_can() {
    let (folder, house) = (Folder::new(), House::open().await);
    let gateway = Gateway::open(&folder.0, &house, Terms::default(), "").await;
    let asked = gateway.generate(&kite());
    house.until(|prints| prints.len() == 1).await;
    assert_eq!(house.prints()[0].call, None);
    house.finish(0);
    answer(asked).await.expect(200);
    let address = format!("{}/v1/callbacks/att_{:032x}/{}", gateway.url, 7, "0".repeat(64));
    assert_eq!(house.call_back(&address, None).await, 401);
}

/// A stream says how it stands where nothing can be shown, to who joins as well.
#[tokio::test(flavor = "multi_thread")]
async fn a_stream_says_how_it_stands() {
    let (folder, house) = (Folder::new(), House::open().await);
    let gateway = Gateway::open(&folder.0, &house, Terms::default(), "").await;
    let streamed = || {
        let body = json!({ "model": "house/press", "prompt": "a kite", "stream": true });
        let request = gateway.client.post(format!("{}/v1/images/generations", gateway.url));
        let request = request.header("content-type", "application/json").body(body.to_string());
        tokio::spawn(async move { request.send().await.expect("it streams").text().await.expect("to its end") })
    };
    let first = streamed();
    house.asked_again(0, 2).await;
    house.tell(0, json!({ "status": "waiting", "before": 1 }));
    house.asked_again(0, 2).await;
    house.tell(0, json!({ "status": "drawing", "share": 0.4 }));
    house.asked_again(0, 2).await;
    let second = streamed();
    // On board before it goes on: both are let in, and the second finds a flight.
    eventually(async || (gateway.get("/readyz").await.status == 200).then_some(())).await;
    house.tell(0, json!({ "status": "drawing", "share": 0.8 }));
    house.asked_again(0, 5).await;
    house.finish(0);
    let events = |text: String| -> Vec<Value> {
        text.lines()
            .filter_map(|line| line.strip_prefix("data: "))
            .map(|data| serde_json::from_str(data).expect("JSON"))
            .collect()
    };
    let first = events(first.await.expect("no panic"));
    let (last, stages) = first.split_last().expect("events");
    assert_eq!(last["type"], "image_generation.completed");
    // The first seconds are held back for the status line: what is told then is the last word of them.
    for stage in stages {
        assert_eq!(stage["type"], "image_generation.progress", "{stage}");
        assert!(stage["created_at"].as_i64().is_some_and(|at| at > 1_700_000_000));
    }
    let second = events(second.await.expect("no panic"));
    let (last, stages) = second.split_last().expect("events");
    assert_eq!(
        (&last["type"], stages.is_empty()),
        (&json!("image_generation.completed"), false),
        "who joins is told, too"
    );
    assert_eq!(house.prints().len(), 1);
}

/// The streamed and the unstored are no jobs.
#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_a_job_is_refused() {
    let (folder, house) = (Folder::new(), House::open().await);
    let gateway = Gateway::open(&folder.0, &house, Terms::default(), "").await;
    let streamed = json!({ "model": "house/press", "prompt": "a kite", "stream": true });
    let bare = json!({ "model": "house/press", "prompt": "a kite", "cache": { "mode": "no-store" } });
    for (body, param) in [(streamed, "stream"), (bare, "cache")] {
        let refused = answer(gateway.ask("/v1/images/jobs", &body)).await.expect(400);
        assert_eq!(refused.body["error"]["param"], param);
    }
    assert!(house.prints().is_empty());
}
