//! Limits of accounts: known ones are kept, unknown ones learned, and who is down is left alone.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::Instant;

use crate::cluster::Cluster;
use crate::world::{Reply, World, reply};

/// A provider by itself, with these limits.
fn limited(name: &str, limits: &str) -> String {
    format!("[providers.{name}]\nrecord = 'sandbox'\nbase_url = '{{sandbox}}/native/v1'\nlimits = {{ {limits} }}\n")
}

fn kite(model: &str, prompt: &str) -> Value {
    json!({ "model": model, "prompt": prompt, "size": "64x64", "explain": true })
}

/// The simulated providers take so many requests per window, all together.
async fn set_rate(world: &World, rate: Value) {
    let request = world.client.post(format!("{}/control/rate", world.sandbox.url)).body(rate.to_string());
    assert_eq!(reply(request).await.status, 204);
}

/// When requests were taken and refused, in milliseconds.
async fn rate(world: &World) -> (Vec<f64>, Vec<f64>) {
    let shown = reply(world.client.get(format!("{}/control/rate", world.sandbox.url))).await.expect(200).body;
    let times = |field: &str| -> Vec<f64> {
        shown[field].as_array().expect("times").iter().map(|time| time.as_f64().expect("a number")).collect()
    };
    (times("taken_ms"), times("refused_ms"))
}

/// What was tried, in one text.
fn trail(reply: &Reply) -> String {
    reply.body["mimeo"].to_string()
}

/// Calls in the ledger.
fn calls(world: &World) -> usize {
    let (code, out, err) = world.run(crate::books::EVENTS);
    assert_eq!(code, 0, "{err}");
    let events: Vec<Value> = serde_json::from_str(&out).expect("JSON");
    events.iter().filter(|event| event["kind"] == "reserve").count()
}

/// A limit that is known is never exceeded, and everybody is served.
#[tokio::test(flavor = "multi_thread")]
async fn a_known_limit_is_kept() {
    // Half of what the provider takes: a busy machine may hold up some calls and send them with those after them.
    let world = World::with(&limited("paced", "requests_per_second = 10, queue = 100")).await;
    set_rate(&world, json!({ "count": 20, "window_ms": 1000, "kind": "sliding" })).await;
    let start = Instant::now();
    let asks = (0..40).map(|index| world.generate(kite("paced/standard", &format!("kite {index}"))));
    for reply in futures_util::future::join_all(asks).await {
        reply.expect(200);
    }
    assert!(start.elapsed() > Duration::from_millis(3000), "forty at ten per second: {:?}", start.elapsed());
    let (taken, refused) = rate(&world).await;
    assert_eq!((taken.len(), refused.len()), (40, 0));
}

/// Pictures count where the provider counts pictures.
#[tokio::test(flavor = "multi_thread")]
async fn pictures_under_way_are_bounded() {
    let config = "[providers.few]\nrecord = 'openai-compatible'\nbase_url = '{sandbox}/compatible/v1'\n\
                  prices = { usd_per_image = '0.01' }\nlimits = { concurrent_pictures = 3, queue = 100 }\n";
    let world = World::with(config).await;
    let asks = (0..8).map(|index| {
        let mut body = kite("few/sandbox-image", &format!("kite {index} [[latency=100]]"));
        body["n"] = json!(index % 3 + 1);
        world.generate(body)
    });
    for reply in futures_util::future::join_all(asks).await {
        reply.expect(200);
    }
    let peak = world.stats().await["peak_in_flight"].as_u64().expect("a number");
    assert!(peak <= 3, "three pictures are three calls at most: {peak}");
}

/// A limit that nobody configured is found out: what is refused costs nothing and is asked again within its budget,
/// and after a moment next to nothing is refused.
#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_limit_is_learned() {
    let world = World::with(&limited("open", "queue = 200")).await;
    set_rate(&world, json!({ "count": 10, "window_ms": 1000 })).await;
    let asks = (0..60).map(|index| world.generate(kite("open/standard", &format!("kite {index}"))));
    let replies = futures_util::future::join_all(asks).await;
    let served = replies.iter().filter(|reply| reply.status == 200).count();
    for reply in replies.iter().filter(|reply| reply.status != 200) {
        assert_eq!((reply.status, reply.code()), (429, "rate_limit_exceeded"), "{}", reply.body);
        assert!(!reply.header("retry-after").is_empty());
    }
    // Ten at once, and ten retries and more.
    assert!(served >= 20, "{served} of sixty");
    let (taken, refused) = rate(&world).await;
    assert_eq!(taken.len(), served);
    assert_eq!(calls(&world), taken.len() + refused.len(), "each call is an attempt of its own in the ledger");
    assert!(refused.len() <= 60 + 12, "{} refused", refused.len());

    // By now it is known.
    let asks = (60..90).map(|index| world.generate(kite("open/standard", &format!("kite {index}"))));
    let replies = futures_util::future::join_all(asks).await;
    assert!(
        replies.iter().all(|reply| reply.status == 200),
        "{:?}",
        replies.iter().map(|r| r.status).collect::<Vec<_>>()
    );
    let again = rate(&world).await.1.len() - refused.len();
    assert!(again <= 3, "{again} of thirty were refused");
}

/// What an answer says of what is left is believed: nothing is sent that would be refused.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_left_is_believed() {
    let world = World::with(&limited("told", "concurrent = 1, queue = 100")).await;
    set_rate(&world, json!({ "count": 5, "window_ms": 2000, "headers": true })).await;
    let asks = (0..12).map(|index| world.generate(kite("told/standard", &format!("kite {index}"))));
    for reply in futures_util::future::join_all(asks).await {
        reply.expect(200);
    }
    let (taken, refused) = rate(&world).await;
    assert_eq!((taken.len(), refused.len()), (12, 0), "{taken:?} {refused:?}");
}

/// Who is told to come back later comes back then, and not before.
#[tokio::test(flavor = "multi_thread")]
async fn a_throttled_call_is_made_again_when_it_may_be() {
    let world = World::new().await;
    for directive in ["throttle=0.6*1", "throttle-date=1*1"] {
        let start = Instant::now();
        let body = kite("sandbox/standard", &format!("a kite [[{directive}]]"));
        let reply = world.generate(body).await.expect(200);
        assert!(start.elapsed() >= Duration::from_millis(600), "{directive}: {:?}", start.elapsed());
        assert_eq!(reply.header("x-mimeo-cost-usd"), "0.01");
    }
    assert_eq!((calls(&world), world.book().await.len()), (4, 2));
    let ledger = world.ledger().await;
    assert_eq!((&ledger["reserved_usd"], &ledger["suspense_usd"]), (&json!("0"), &json!("0")), "{ledger}");
}

/// Nobody waits for a retry that comes after their deadline: they are told when.
#[tokio::test(flavor = "multi_thread")]
async fn a_deadline_bounds_retries() {
    let world = World::new().await;
    let mut body = kite("sandbox/standard", "a kite [[throttle=20*1]]");
    body["deadline_ms"] = json!(10_000);
    let start = Instant::now();
    let reply = world.generate(body).await.expect(429);
    assert!(start.elapsed() < Duration::from_secs(9), "{:?}", start.elapsed());
    let after: u64 = reply.header("retry-after").parse().expect("seconds");
    assert!((15..=20).contains(&after), "{after} s");
    assert_eq!(calls(&world), 1);
    // The account rests: nobody else is sent there before, and whoever cannot wait is told so.
    let mut body = kite("sandbox/standard", "another kite");
    body["deadline_ms"] = json!(2000);
    let reply = world.generate(body).await.expect(429);
    assert_eq!(reply.code(), "queue_full");
    assert_eq!((calls(&world), world.stats().await["requests_seen"].clone()), (1, json!(1)));
}

/// While an account rests its route goes on to the next candidate at once, and says why.
#[tokio::test(flavor = "multi_thread")]
async fn a_route_goes_round_an_account_that_rests() {
    let route = "[routes.two]\ncandidates = ['first/standard', 'sandbox/standard']\n";
    let world = World::with(&(limited("first", "max_wait_s = 30") + route)).await;
    let reply = world.generate(kite("two", "a kite [[throttle=20*1]]")).await.expect(200);
    assert_eq!(reply.header("x-mimeo-provider"), "sandbox", "{}", trail(&reply));
    let reply = world.generate(kite("two", "another kite")).await.expect(200);
    assert_eq!(reply.header("x-mimeo-provider"), "sandbox");
    assert!(trail(&reply).contains("takes no calls for"), "{}", trail(&reply));
    assert_eq!(calls(&world), 3, "the second was not sent there at all");
}

/// Who is down is left alone, with a reason, unless there is nobody else.
#[tokio::test(flavor = "multi_thread")]
async fn who_is_down_is_left_alone() {
    let free = std::net::TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("an address");
    let config = format!(
        "[providers.gone]\nrecord = 'sandbox'\nbase_url = 'http://{free}'\n\
         [routes.two]\ncandidates = ['gone/standard', 'sandbox/standard']\n"
    );
    let world = World::with(&config).await;
    let start = Instant::now();
    let mut index = 0;
    loop {
        let reply = world.generate(kite("two", &format!("kite {index}"))).await.expect(200);
        assert_eq!(reply.header("x-mimeo-provider"), "sandbox");
        if trail(&reply).contains("left alone for") {
            assert!(index >= 5 && trail(&reply).contains("calls failed (not_sent)"), "{index}: {}", trail(&reply));
            break;
        }
        assert!(trail(&reply).contains("not_sent"), "{}", trail(&reply));
        assert!(start.elapsed() < Duration::from_secs(30), "never, after {index} calls");
        index += 1;
    }
    // Nobody else can: it is asked all the same.
    let before = calls(&world);
    let reply = world.generate(kite("gone/standard", "a kite")).await.expect(502);
    assert_eq!(reply.code(), "provider_error");
    assert!(calls(&world) > before);
}

/// Without Redis each of two replicas keeps to its half, as soon as it has heard of the other.
#[tokio::test(flavor = "multi_thread")]
async fn without_redis_replicas_share_by_number() {
    let cluster = Cluster::of(2).lease(3).config(&limited("small", "concurrent = 2, queue = 0")).start();
    let ask = |replica: usize, prompt: String| cluster.generate(replica, kite("small/standard", &prompt));
    for replica in 0..2 {
        ask(replica, format!("a kite at {replica}")).await.expect(200);
    }
    let start = Instant::now();
    for round in 0.. {
        let slow = |name: &str| format!("{name} {round} [[latency=700]]");
        let both = tokio::join!(ask(0, slow("kite")), ask(0, slow("boat")));
        let mut statuses = [both.0.status, both.1.status];
        statuses.sort_unstable();
        if statuses == [200, 429] {
            break;
        }
        assert_eq!(statuses, [200, 200]);
        assert!(start.elapsed() < Duration::from_secs(30), "it never heard of the other");
    }
    let one_each = tokio::join!(ask(0, "a hill".into()), ask(1, "a mill".into()));
    one_each.0.expect(200);
    one_each.1.expect(200);
}
