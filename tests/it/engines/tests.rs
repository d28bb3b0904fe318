//! The engines start, answer, survive what the tests do to them, and leave nothing behind.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use super::{Postgres, Redis, S3, status, until};

/// True if a process runs (one that has ended and that nobody asked for does not).
fn runs(pid: u32) -> bool {
    status(pid).is_some_and(|(state, _)| state != 'Z')
}

#[track_caller]
fn gone((folder, pid): (PathBuf, u32)) {
    assert!(!runs(pid) && !folder.exists(), "process {pid}, folder {}", folder.display());
}

#[test]
fn each_test_has_a_database_of_its_own() {
    let (one, other) = (Postgres::start(), Postgres::start());
    one.sql("CREATE TABLE kites (colour text); INSERT INTO kites VALUES ('red')");
    assert!(one.is_ready());
    assert_eq!(one.sql("SELECT colour, 1 FROM kites"), "red|1");
    assert_eq!(other.sql("SELECT to_regclass('kites') IS NULL"), "t");
    assert!(one.url().starts_with("postgres://mimeo@127.0.0.1:") && one.url() != other.url());
    let listed =
        format!("SELECT count(*) FROM pg_database WHERE datname = '{}'", one.url().rsplit_once('/').unwrap().1);
    assert_eq!(other.sql(&listed), "1");
    drop(one);
    assert_eq!(other.sql(&listed), "0");
}

#[test]
fn a_postgres_of_ones_own_survives_what_is_done_to_it() {
    let mut postgres = Postgres::own();
    let address = postgres.address();
    postgres.sql("CREATE TABLE kites (colour text); INSERT INTO kites VALUES ('red')");
    postgres.kill();
    assert!(!postgres.is_ready() && TcpStream::connect(address).is_err(), "killed");
    postgres.restart();
    assert_eq!(postgres.sql("INSERT INTO kites VALUES ('blue'); SELECT count(*) FROM kites"), "2");
    postgres.stop_fast();
    assert!(!postgres.is_ready(), "stopped");
    postgres.restart();
    assert_eq!((postgres.address(), postgres.sql("SELECT count(*) FROM kites").as_str()), (address, "2"));
    // The kernel takes connections for a server that stands still, which nobody answers.
    postgres.pause();
    assert!(!postgres.is_ready() && TcpStream::connect(address).is_ok(), "paused");
    postgres.resume();
    assert!(postgres.is_ready(), "resumed");
    // Also one that stands still goes when its test does.
    postgres.pause();
    let traces = postgres.traces();
    assert!(runs(traces.1));
    drop(postgres);
    gone(traces);
}

#[test]
fn a_redis_survives_what_is_done_to_it() {
    let mut redis = Redis::start();
    let (address, get) = (redis.address(), ["GET", "kite"]);
    assert_eq!(redis.ask(&["PING"]).unwrap().as_deref(), Some("PONG"));
    assert_eq!(redis.ask(&["SET", "kite", "red"]).unwrap().as_deref(), Some("OK"));
    redis.save_dump();
    assert_eq!(redis.ask(&["APPEND", "kite", "dish"]).unwrap().as_deref(), Some("7"));
    assert_eq!(redis.ask(&get).unwrap().as_deref(), Some("reddish"));
    redis.restore_dump();
    assert_eq!(redis.ask(&get).unwrap().as_deref(), Some("red"));
    redis.flush();
    assert_eq!(redis.ask(&get).unwrap(), None);
    redis.ask(&["SET", "kite", "red"]).unwrap();
    redis.kill();
    assert!(redis.ask(&get).is_err());
    redis.restart();
    assert_eq!((redis.address(), redis.ask(&get).unwrap()), (address, None));
    assert!(redis.ask(&["KITE"]).unwrap_err().to_string().contains("unknown command"));

    for listen in ["PING\r\n", "SUBSCRIBE kites\r\n"] {
        let mut client = TcpStream::connect(address).unwrap();
        client.write_all(listen.as_bytes()).unwrap();
        let mut bytes = [0; 512];
        assert!(client.read(&mut bytes).unwrap() > 0);
        redis.cut_clients();
        assert_eq!(client.read(&mut bytes).unwrap(), 0, "{listen}");
    }

    let mut client = TcpStream::connect(address).unwrap();
    client.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
    redis.pause();
    client.write_all(b"PING\r\n").unwrap();
    assert!(client.read(&mut [0; 7]).is_err(), "paused");
    redis.resume();
    client.set_read_timeout(None).unwrap();
    client.read_exact(&mut [0; 7]).unwrap();

    assert_eq!(redis.url(), format!("redis://{address}"));
    let traces = redis.traces();
    drop(redis);
    gone(traces);
}

#[test]
fn each_test_has_a_bucket_of_its_own() {
    let (one, other) = (S3::start(), S3::start());
    assert_eq!(one.ask("PUT", "blobs/ab/kite", b"red").0, 200);
    assert_eq!(one.ask("GET", "blobs/ab/kite", b""), (200, b"red".to_vec()));
    assert_eq!(one.keys(), ["blobs/ab/kite"]);
    assert_eq!(other.ask("GET", "blobs/ab/kite", b"").0, 404);
    assert_eq!(one.ask("DELETE", "blobs/ab/kite", b"").0, 204);
    assert!(one.keys().is_empty());
    assert!(one.url().starts_with("s3://") && one.url() != other.url());
    assert_eq!(one.environment()[0], ("AWS_ENDPOINT".to_owned(), format!("http://{}", one.address())));
}

/// Starts this very test in a process of its own, which starts all engines and is killed then.
#[test]
fn a_killed_test_leaves_nothing_behind() {
    const ROLE: &str = "MIMEO_TEST_TO_BE_KILLED";
    if std::env::var_os(ROLE).is_some() {
        let (mut postgres, mut redis, _s3) = (Postgres::own(), Redis::start(), S3::start());
        for (folder, pid) in [postgres.traces(), redis.traces(), S3::traces()] {
            println!("\ntrace {pid} {}", folder.display());
        }
        // One stands still: that must not save it.
        redis.pause();
        println!("\nto be killed");
        let _ = std::io::stdin().read(&mut [0]);
        return;
    }
    let mut victim = Command::new(std::env::current_exe().expect("a test has a path"))
        .args(["--exact", "engines::tests::a_killed_test_leaves_nothing_behind", "--nocapture"])
        .env(ROLE, "1")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the tests run");
    let said = BufReader::new(victim.stdout.take().expect("stdout is piped")).lines().map_while(Result::ok);
    let said: Vec<String> = said.take_while(|line| line != "to be killed").collect();
    let traces: Vec<(u32, &Path)> = said
        .iter()
        .filter_map(|line| line.strip_prefix("trace ")?.split_once(' '))
        .map(|(pid, folder)| (pid.parse().expect("a number"), Path::new(folder)))
        .collect();
    let stood = traces.len() == 3 && traces.iter().all(|(pid, folder)| runs(*pid) && folder.exists());
    victim.kill().expect("it was not waited for yet");
    let killed = victim.wait_with_output().expect("it can be waited for");
    assert!(stood, "{said:?}\n{}", String::from_utf8_lossy(&killed.stderr));
    until(|| traces.iter().all(|(pid, folder)| !runs(*pid) && !folder.exists()));
}
