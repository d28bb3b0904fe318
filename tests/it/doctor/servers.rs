//! What `mimeo doctor` says of the servers that a gateway may lean on, real ones.

use serde_json::Value;

use super::{doctor, find, findings, says};
use crate::engines::{Postgres, Redis};
use crate::world::Folder;

/// A folder whose configuration names a secret address, `section` being the table that it belongs to.
fn leaning_on(section: &str, url: &str) -> Folder {
    let folder = Folder::new();
    let config = format!(
        "[{section}]\nurl = {{ file = 'address' }}\n[blobs]\nurl = 'file://{}/blobs'\n\
         [providers.openai]\nenabled = false\n[providers.sandbox]\n",
        folder.0.display()
    );
    std::fs::write(folder.0.join("mimeo.toml"), config).expect("written");
    std::fs::write(folder.0.join("address"), url).expect("written");
    folder
}

/// The findings about `check`; none of them tells the password.
fn about(folder: &Folder, check: &str) -> (i32, Vec<Value>) {
    let (code, found) = findings(folder, &[]);
    assert!(!serde_json::to_string(&found).expect("JSON").contains("s3kr1t"), "{found:#?}");
    (code, found.into_iter().filter(|finding| finding["check"] == check).collect())
}

/// It is there, and which version it is. On a machine that is busy it may be told as slow.
#[track_caller]
fn answers(finding: &Value, version: &str) {
    assert_ne!(finding["level"], "broken", "{finding}");
    assert!(
        finding["found"].as_str().is_some_and(|found| found.contains(&format!("{version} answers in "))),
        "{finding}"
    );
}

#[test]
fn a_database_is_there_or_it_is_said_why_not() {
    let mut postgres = Postgres::own();
    let version = postgres.sql("SHOW server_version");
    let url = postgres.guarded_url("guard", "s3kr1t");
    let folder = leaning_on("storage", &url);
    let (code, found) = findings(&folder, &[]);
    assert_eq!(code, 0, "{found:#?}");
    answers(find(&found, "database", "PostgreSQL"), &version);
    assert!(found.iter().any(|finding| finding["check"] == "pictures"), "{found:#?}");

    // The wrong password, and none.
    for wrong in [url.replace("s3kr1t", "s3kr1t-of-old"), url.replace(":s3kr1t@", "@")] {
        let (code, told) = about(&leaning_on("storage", &wrong), "database");
        assert_eq!((code, told.len()), (1, 1), "{told:#?}");
        says(&told[0], "broken", &[&postgres.address().to_string(), "password", "storage.url"]);
    }
    let (code, told) = about(&leaning_on("storage", &url.replace("/postgres", "/nowhere")), "database");
    assert_eq!(code, 1);
    says(&told[0], "broken", &["database \\\"nowhere\\\" does not exist", "storage.url"]);

    // Tables of a later Mimeo.
    postgres.sql("INSERT INTO mimeo_schema (version) VALUES (9999)");
    let (code, told) = about(&folder, "database");
    assert_eq!(code, 1);
    says(&told[0], "broken", &["9999", "newer"]);

    postgres.stop_fast();
    let (code, told) = about(&folder, "database");
    assert_eq!(code, 1);
    says(&told[0], "broken", &[&postgres.address().to_string(), "onnection refused", "storage.url"]);
    // The rest is looked at all the same, and who is offline asks nobody.
    let (code, found) = findings(&folder, &["--offline"]);
    assert_eq!((code, found.iter().any(|finding| finding["check"] == "database")), (0, false), "{found:#?}");
}

#[test]
fn a_redis_is_there_or_it_is_said_why_not() {
    let mut redis = Redis::start();
    let address = redis.address().to_string();
    let version = redis.ask(&["INFO", "server"]).expect("an answer").expect("a text");
    let version = version.lines().find_map(|line| line.strip_prefix("redis_version:")).expect("told").to_owned();
    let folder = leaning_on("shared", &redis.url());
    let (code, found) = findings(&folder, &[]);
    assert_eq!(code, 0, "{found:#?}");
    answers(find(&found, "redis", &address), &format!("Redis {version}"));

    redis.ask(&["CONFIG", "SET", "requirepass", "s3kr1t"]).expect("it is set");
    for (wrong, told_by_it) in [(redis.url(), "NOAUTH"), (format!("redis://:s3kr1t-of-old@{address}"), "WRONGPASS")] {
        let (code, told) = about(&leaning_on("shared", &wrong), "redis");
        assert_eq!((code, told.len()), (1, 1), "{told:#?}");
        says(&told[0], "broken", &[&address, told_by_it, "correct shared.url, its password included"]);
    }
    let (code, told) = about(&leaning_on("shared", &format!("redis://:s3kr1t@{address}")), "redis");
    assert_eq!(code, 0);
    answers(&told[0], &version);

    redis.kill();
    let (code, told) = about(&folder, "redis");
    assert_eq!(code, 1);
    says(&told[0], "broken", &["onnection refused", "replicas go on without it"]);
    let (code, out, err) = doctor(&folder, &["--offline"]);
    assert!(code == 0 && !out.contains("redis"), "{out}{err}");

    // One that is too old for what is asked of it.
    let old = Redis::without(&["HELLO"]);
    let (code, told) = about(&leaning_on("shared", &old.url()), "redis");
    assert_eq!(code, 1);
    says(&told[0], "broken", &["HELLO", "Redis 6"]);
}
