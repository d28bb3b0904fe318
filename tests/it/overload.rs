//! More than can be served: who is sent away, how, and that nobody else notices.

use std::time::Duration;

use reqwest::RequestBuilder;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout};

use crate::front_door::{GENERATIONS, assert_fault, kite};
use crate::world::{Reply, World, reply};

/// Longer than anything here takes, on any machine.
const LONG: Duration = Duration::from_secs(60);

fn order(world: &World, body: &Value) -> RequestBuilder {
    let request = world.client.post(format!("{}{GENERATIONS}", world.gateway.url));
    request.header("content-type", "application/json").body(body.to_string())
}

/// Sends a request without waiting for its answer.
fn send(world: &World, body: &Value) -> JoinHandle<Reply> {
    tokio::spawn(reply(order(world, body)))
}

/// A request for a picture of its own whose provider never answers.
fn hanging(model: &str, index: usize) -> Value {
    json!({ "model": model, "prompt": format!("kite {index} [[hang]]"), "size": "64x64" })
}

/// Waits until so much is set aside.
async fn until_reserved(world: &World, usd: &str) {
    let start = Instant::now();
    while world.ledger().await["reserved_usd"] != usd {
        assert!(start.elapsed() < LONG, "never {usd} set aside: {}", world.ledger().await);
    }
}

/// Waits until `/readyz` has that status.
async fn until_ready(world: &World, status: u16) -> Reply {
    let start = Instant::now();
    loop {
        let reply = world.get("/readyz").await;
        if reply.status == status {
            return reply;
        }
        assert!(start.elapsed() < LONG, "never {status}: {}", reply.body);
    }
}

#[track_caller]
fn assert_comes_back_later(reply: &Reply, seconds: std::ops::RangeInclusive<u64>) {
    let after: u64 = reply.header("retry-after").parse().expect("Retry-After in seconds");
    assert!(seconds.contains(&after), "{after} s");
}

async fn connect(world: &World) -> TcpStream {
    TcpStream::connect(world.gateway.url.trim_start_matches("http://")).await.expect("it listens")
}

/// Everything that comes until the other end closes, which it must do.
async fn until_closed(stream: &mut TcpStream) -> String {
    let mut all = Vec::new();
    // A reset is as good as an end here.
    let _ = timeout(LONG, stream.read_to_end(&mut all)).await.expect("the connection is closed");
    String::from_utf8_lossy(&all).into_owned()
}

/// I23: what an account cannot take soon is refused at once and costs nothing; what it takes is served as fast as ever.
#[tokio::test(flavor = "multi_thread")]
async fn i23_overload_is_shed_and_admitted_requests_stay_fast() {
    let small = |name: &str| {
        format!(
            "[providers.{name}]\nrecord = 'sandbox'\nbase_url = '{{sandbox}}/native/v1'\n\
             limits = {{ concurrent = 2, queue = 2 }}\n"
        )
    };
    let route = "[routes.two]\ncandidates = ['stuck/standard', 'sandbox/standard']\n";
    let world = World::with(&(small("stuck") + &small("brisk") + route)).await;
    world.generate(kite(&json!({ "model": "stuck/standard" }))).await.expect(200);

    let mut callers: Vec<JoinHandle<Reply>> = (0..2).map(|i| send(&world, &hanging("stuck/standard", i))).collect();
    world.until(|stats| stats["in_flight"] == 2).await;
    callers.extend((2..4).map(|i| send(&world, &hanging("stuck/standard", i))));
    until_reserved(&world, "0.04").await;
    let (seen, (_, events, _)) = (world.stats().await, world.run(&["ledger", "events", "--json"]));

    let fifth = world.generate(hanging("stuck/standard", 4)).await;
    assert_fault(&fifth, 429, "", "queue_full");
    assert_comes_back_later(&fifth, 1..=3600);
    assert!(fifth.message().contains("limits.queue"), "{}", fifth.message());
    assert_eq!(world.run(&["ledger", "events", "--json"]).1, events, "nothing was set aside for it");
    assert_eq!(world.stats().await, seen, "nothing was sent");
    // Nobody else notices: what is stored is given out, and a route goes on to where there is room.
    assert_eq!(world.generate(kite(&json!({ "model": "stuck/standard" }))).await.expect(200).cache(), "hit");
    let routed = json!({ "model": "two", "prompt": "a hill", "size": "64x64", "explain": true });
    let routed = world.generate(routed).await.expect(200);
    assert_eq!(routed.header("x-mimeo-provider"), "sandbox", "{}", routed.body["mimeo"]);
    callers.iter().for_each(JoinHandle::abort);

    // Thirty at once where two are served in 400 ms: in one queue the last would wait six seconds.
    let crowd = (0..30).map(|index| {
        let body =
            json!({ "model": "brisk/draft", "prompt": format!("hill {index} [[latency=400]]"), "size": "64x64" });
        let request = order(&world, &body);
        async move {
            let start = Instant::now();
            (reply(request).await, start.elapsed())
        }
    });
    let mut served = 0;
    for (reply, took) in futures_util::future::join_all(crowd).await {
        if reply.status == 200 {
            served += 1;
            assert!(took < Duration::from_secs(5), "let in, and then {took:?}");
        } else {
            assert_fault(&reply, 429, "", "queue_full");
            assert_comes_back_later(&reply, 1..=3600);
        }
    }
    assert!((4..30).contains(&served), "two calls and two who wait, and whoever came when some were done: {served}");
}

/// Whoever was let in because the wait looked short does not wait for ever when it was not.
#[tokio::test(flavor = "multi_thread")]
async fn nobody_waits_longer_than_may_be() {
    let world = World::with(
        "[providers.stuck]\nrecord = 'sandbox'\nbase_url = '{sandbox}/native/v1'\n\
         limits = { concurrent = 1, max_wait_s = 3 }\n",
    )
    .await;
    let first = send(&world, &hanging("stuck/standard", 0));
    world.until(|stats| stats["in_flight"] == 1).await;
    let second = world.generate(hanging("stuck/standard", 1)).await;
    assert_fault(&second, 429, "", "queue_full");
    assert!(second.message().contains("has waited 3 s"), "{}", second.message());
    let events = world.run(&["ledger", "events", "--json"]).1;
    assert!(events.contains("\"release\""), "what was set aside for it is free again: {events}");
    until_reserved(&world, "0.01").await;
    first.abort();
}

/// Beyond `server.max_requests` image requests are sent away, and nothing else is.
#[tokio::test(flavor = "multi_thread")]
async fn requests_beyond_the_cap_are_sent_away() {
    let world = World::with("[server]\nmax_requests = 2\n").await;
    let stored = world.generate(kite(&json!({ "response_format": "url" }))).await.expect(200);
    let picture = stored.body["data"][0]["url"].as_str().expect("a URL").to_owned();
    let callers: Vec<JoinHandle<Reply>> = (0..2).map(|i| send(&world, &hanging("sandbox/standard", i))).collect();
    world.until(|stats| stats["in_flight"] == 2).await;
    let (_, events, _) = world.run(&["ledger", "events", "--json"]);

    let third = world.generate(kite(&json!({}))).await;
    assert_fault(&third, 503, "", "overloaded");
    assert_comes_back_later(&third, 1..=3);
    assert_eq!(third.header("x-should-retry"), "true");
    assert_fault(&world.get("/readyz").await, 503, "", "overloaded");
    world.get("/healthz").await.expect(200);
    world.get("/v1/models").await.expect(200);
    assert_eq!(world.client.get(picture).send().await.expect("an answer").status(), 200);
    assert_eq!(world.run(&["ledger", "events", "--json"]).1, events, "the third has left no trace");

    callers.iter().for_each(JoinHandle::abort);
    until_ready(&world, 200).await;
    assert_eq!(world.generate(kite(&json!({}))).await.expect(200).cache(), "hit");
}

/// Connections beyond `server.max_connections` are closed, and a place that is free again is taken again.
#[tokio::test(flavor = "multi_thread")]
async fn connections_beyond_the_cap_are_closed() {
    let world = World::with("[server]\nmax_connections = 1\n").await;
    let ask = b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n";
    let mut first = connect(&world).await;
    first.write_all(ask).await.expect("it reads");
    first.read_exact(&mut [0; 12]).await.expect("it answers");
    let mut second = connect(&world).await;
    let _ = second.write_all(ask).await;
    assert_eq!(until_closed(&mut second).await, "");
    drop(first);
    let start = Instant::now();
    loop {
        let mut third = connect(&world).await;
        let _ = third.write_all(b"GET /healthz HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await;
        if until_closed(&mut third).await.starts_with("HTTP/1.1 200") {
            break;
        }
        assert!(start.elapsed() < LONG, "the place is never free");
    }
}

/// All bodies together have one bound, whether their length is announced or not.
#[tokio::test(flavor = "multi_thread")]
async fn bodies_are_bounded_together() {
    let world = World::with("[server]\nmax_body_mb = 1\nmax_body_memory_mb = 1\n").await;
    let mut first = connect(&world).await;
    let head = format!(
        "POST {GENERATIONS} HTTP/1.1\r\nhost: x\r\ncontent-length: 900000\r\ncontent-type: application/json\r\n\
         connection: close\r\nexpect: 100-continue\r\n\r\n"
    );
    first.write_all(head.as_bytes()).await.expect("it reads");
    let mut go_on = [0; 25];
    first.read_exact(&mut go_on).await.expect("it answers");
    assert_eq!(&go_on, b"HTTP/1.1 100 Continue\r\n\r\n", "from here on the memory is taken");

    let padded = |length: usize| {
        let body = kite(&json!({})).to_string();
        let spaces = " ".repeat(length - body.len());
        body + &spaces
    };
    let chunked = reqwest::Body::wrap_stream(futures_util::stream::iter([Ok::<_, std::io::Error>(padded(300_000))]));
    for body in [reqwest::Body::from(padded(300_000)), chunked] {
        let refused = reply(order(&world, &json!({})).body(body)).await;
        assert_fault(&refused, 503, "", "overloaded");
        assert_comes_back_later(&refused, 1..=3);
        assert!(refused.message().contains("max_body_memory_mb"), "{}", refused.message());
    }
    world.generate(kite(&json!({}))).await.expect(200);

    first.write_all(padded(900_000).as_bytes()).await.expect("it reads");
    assert!(until_closed(&mut first).await.starts_with("HTTP/1.1 200"), "the first was not disturbed");
    assert_eq!(reply(order(&world, &json!({})).body(padded(300_000))).await.expect(200).cache(), "hit");
}

/// Who sends a head or a body too slowly is cut off.
#[tokio::test(flavor = "multi_thread")]
async fn slow_senders_are_cut_off() {
    let world = World::with("[server]\ntimeouts = { head_s = 1, body_s = 1 }\n").await;
    let mut head = connect(&world).await;
    head.write_all(b"POST /v1/images/gen").await.expect("it reads");
    assert_eq!(until_closed(&mut head).await, "");

    let mut body = connect(&world).await;
    let text = format!("POST {GENERATIONS} HTTP/1.1\r\nhost: x\r\ncontent-length: 100\r\n\r\n{{\"prompt\"");
    body.write_all(text.as_bytes()).await.expect("it reads");
    let answer = until_closed(&mut body).await;
    assert!(answer.starts_with("HTTP/1.1 408") && answer.contains("\"body_stalled\""), "{answer}");
    world.generate(kite(&json!({}))).await.expect(200);
}

/// Who does not take the answer is cut off; the picture is paid, stored and there for the next.
#[tokio::test(flavor = "multi_thread")]
async fn a_caller_who_does_not_read_is_cut_off() {
    let world = World::with("[server]\nmax_requests = 1\ntimeouts = { write_s = 1 }\n").await;
    // More than the kernel takes into its own buffers: 4 MiB here, and what the caller's socket is told to take.
    let large = kite(&json!({ "prompt": "a wide hill [[bytes=12000000]]" }));
    let socket = TcpSocket::new_v4().expect("a socket");
    socket.set_recv_buffer_size(256 << 10).expect("a small window");
    let address = world.gateway.url.trim_start_matches("http://").parse().expect("an address");
    let mut deaf = socket.connect(address).await.expect("it listens");
    let text = large.to_string();
    let head = format!(
        "POST {GENERATIONS} HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
        text.len()
    );
    deaf.write_all((head + &text).as_bytes()).await.expect("it reads");
    world.until(|stats| stats["billed"] == 1).await;
    // Its turn ends with its connection.
    until_ready(&world, 200).await;
    assert!(until_closed(&mut deaf).await.len() < 12_000_000, "it did not get everything");
    let again = world.generate(large).await.expect(200);
    assert_eq!(again.cache(), "hit");
    assert!(again.pictures()[0].len() >= 12_000_000);
    assert_eq!(world.book().await.len(), 1);
}

/// A stopping gateway says so, still gives out pictures, and is done at once when told a second time.
#[tokio::test(flavor = "multi_thread")]
async fn a_second_signal_ends_the_wait() {
    let mut world = World::new().await;
    let stored = world.generate(kite(&json!({ "response_format": "url" }))).await.expect(200);
    let picture = stored.body["data"][0]["url"].as_str().expect("a URL").to_owned();
    let caller = order(&world, &hanging("sandbox/standard", 0)).send();
    let caller = tokio::spawn(caller);
    world.until(|stats| stats["in_flight"] == 1).await;
    world.get("/readyz").await.expect(200);

    world.gateway.signal("-TERM");
    assert_fault(&until_ready(&world, 503).await, 503, "", "unavailable");
    world.get("/healthz").await.expect(200);
    assert_eq!(world.client.get(picture).send().await.expect("an answer").status(), 200);
    let refused = world.generate(kite(&json!({}))).await;
    assert_fault(&refused, 503, "", "unavailable");
    assert_comes_back_later(&refused, 1..=3);

    assert_eq!(world.gateway.terminate(), Some(1));
    let said = world.gateway.last_words();
    assert!(said.contains("second signal, with 1 paid calls under way"), "{said}");
    assert!(caller.await.expect("not cancelled").is_err(), "its connection ended");
    world.restart();
    let ledger = world.ledger().await;
    assert_eq!((&ledger["reserved_usd"], &ledger["suspense_usd"]), (&json!("0"), &json!("0.01")), "{ledger}");
}
