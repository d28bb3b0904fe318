//! A Redis that is down, slow, back, or was never there: nobody fails, nobody waits for long, and it is said once.

use std::io::Write;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use tokio::time::Instant;

use super::server::Home;
use super::{BOUND, Server, Settings, eventually, in_time, patient};
use crate::config::Limits;
use crate::domain::Digest;
use crate::shared::{Hint, Pass, Shared};

const THREE: Limits = Limits { concurrent: Some(3), ..Limits::NONE };

/// As many passes as there are now, at most ten.
async fn all_there_are(shared: &Shared) -> Vec<Pass> {
    let mut passes = Vec::new();
    while passes.len() < 10 {
        let Some(pass) = shared.try_pass("a", THREE, 1).await else { break };
        passes.push(pass);
    }
    passes
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_server_leaves_everybody_alone_until_it_is_back() {
    let mut server = Server::start();
    let settings = Settings { lease: Duration::from_millis(900), ..patient() };
    let (one, other) = (server.join(&settings), server.join(&settings));
    let shared = [one.pass("a", THREE, 1).await, one.pass("a", THREE, 1).await];
    assert_eq!(server.slots("a"), 2);
    server.kill();
    // Each by itself, within its own limit: the two that are under way count.
    let more = in_time("nobody waits for the dead", all_there_are(&one)).await;
    assert_eq!(more.len(), 1);
    let others = in_time("nobody waits for the dead", all_there_are(&other)).await;
    assert_eq!(others.len(), 3);
    drop(others);
    server.restart();
    eventually("all that is under way is known again", || async { (server.slots("a") == 3).then_some(()) }).await;
    eventually("the other one asks again", || async { other.try_pass("a", THREE, 1).await.is_none().then_some(()) })
        .await;
    drop((shared, more));
    eventually("all is given back", || async { (server.slots("a") == 0).then_some(()) }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_waits_for_a_frozen_server() {
    let server = Server::start();
    // No lease ends by itself here.
    let lease = Duration::from_secs(3600);
    let settings = Settings { patience: Duration::from_millis(250), lease, ..Settings::default() };
    let shared = server.join(&settings);
    eventually("it is there", || async {
        drop(shared.pass("a", THREE, 1).await);
        (server.slots("a") > 0).then_some(())
    })
    .await;
    shared.close().await;
    server.freeze();
    let since = Instant::now();
    for _ in 0..50 {
        drop(in_time("it passes", shared.pass("a", THREE, 1)).await);
        assert_eq!(shared.picture(Digest::of(b"x")).await, None);
        shared.keep_picture(Digest::of(b"x"), "x".into());
        shared.tell(Hint::Purged);
    }
    // Two waits of a quarter of a second, not fifty.
    assert!(since.elapsed() < Duration::from_secs(5), "{:?}", since.elapsed());
    let held = all_there_are(&shared).await;
    assert_eq!(held.len(), 3, "its own limit holds");
    server.thaw();
    // Whatever it was asked while it did not answer, it ends up with what is under way.
    eventually("it knows what is under way", || async { (server.slots("a") == 3).then_some(()) }).await;
    drop(held);
    eventually("it knows that nothing is", || async { (server.slots("a") == 0).then_some(()) }).await;
}

/// The log of this process, in memory. It is that of all tests: a subscriber of one thread would miss what other
/// threads were the first to say.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, text: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().write(text)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Log {
    fn begin() -> Log {
        static LOG: OnceLock<Log> = OnceLock::new();
        let begin = || {
            let log = Log::default();
            let writer = log.clone();
            let subscriber = tracing_subscriber::fmt().with_max_level(tracing::Level::INFO).with_ansi(false);
            let subscriber = subscriber.with_writer(move || writer.clone()).finish();
            tracing::subscriber::set_global_default(subscriber).expect("no other test has a log");
            log
        };
        LOG.get_or_init(begin).clone()
    }

    /// The lines with `mark` in them.
    fn lines(&self, mark: &str) -> Vec<String> {
        let text = String::from_utf8(self.0.lock().unwrap().clone()).unwrap();
        text.lines().filter(|line| line.contains(mark)).map(str::to_owned).collect()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_outage_is_said_once_and_no_password_ever() {
    let log = Log::begin();
    let home = Home::new(Some("s3kr1t"));
    let address = home.address(Some("s3kr1t"));
    let said = |what: &str| log.lines(&address.to_string()).iter().filter(|line| line.contains(what)).count();
    let shared = Shared::connect(&address, &patient());
    for _ in 0..20 {
        let _pass = in_time("it passes without a server", shared.pass("a", THREE, 1)).await;
    }
    eventually("it is said", || async { (said("Redis is not there") == 1).then_some(()) }).await;
    // Several attempts more.
    let since = Instant::now();
    while since.elapsed() < Duration::from_millis(700) {
        drop(in_time("it passes", shared.pass("a", THREE, 1)).await);
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let mut server = home.open();
    eventually("it is back", || async { (said("Redis is back") == 1).then_some(()) }).await;
    let held = shared.pass("a", THREE, 1).await;
    assert_eq!(server.slots("a"), 1);
    server.kill();
    eventually("it is said again", || async {
        drop(shared.pass("b", THREE, 1).await);
        (said("Redis is not there") == 2).then_some(())
    })
    .await;
    server.restart();
    eventually("it is back again", || async { (said("Redis is back") == 2).then_some(()) }).await;
    drop(held);

    // With a wrong password it is not there, either.
    let stranger = Shared::connect(&server.address_with("wr0ng"), &patient());
    let _pass = in_time("it passes", stranger.pass("a", THREE, 1)).await;
    eventually("it is said", || async { (said("Redis is not there") == 3).then_some(()) }).await;
    assert_eq!(said("Redis is"), 5, "{}", log.lines("").join("\n"));
    let printed = format!("{} {shared:?} {stranger:?} {address} {address:?} {_pass:?}", log.lines("").join("\n"));
    assert!(!printed.contains("s3kr1t") && !printed.contains("wr0ng"), "{printed}");
    assert!(printed.contains(&server.folder().display().to_string()), "{printed}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_cannot_be_written_is_not_there() {
    let server = Server::start();
    let shared = server.join(&patient());
    drop(in_time("it passes", shared.pass("a", THREE, 1)).await);
    // Full, and told not to make room.
    let () = server.ask(&["CONFIG", "SET", "maxmemory-policy", "noeviction"]);
    let () = server.ask(&["CONFIG", "SET", "maxmemory", "1"]);
    eventually("each is alone", || async { (all_there_are(&shared).await.len() == 3).then_some(()) }).await;
    let () = server.ask(&["CONFIG", "SET", "maxmemory", "0"]);
    let since = Instant::now();
    let _held = loop {
        let held = shared.pass("a", THREE, 1).await;
        if server.slots("a") == 1 {
            break held;
        }
        assert!(since.elapsed() < BOUND, "it is used again when it can be written");
    };
}
