//! `mimeo doctor`: what it finds in a world that is well, and in worlds in which something is wrong.

mod servers;

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::{Value, json};

use crate::world::{Folder, World, binary, outcome};

/// A provider's server that answers every question with one status and one date.
struct Vendor {
    url: String,
    asked: Arc<AtomicUsize>,
}

impl Vendor {
    /// `ahead` is how many seconds its clock is before this machine's.
    fn start(status: &'static str, ahead: i64) -> Vendor {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let url = format!("http://{}", listener.local_addr().expect("an address"));
        let asked = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&asked);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let Ok(mut stream) = stream else { return };
                count.fetch_add(1, Ordering::SeqCst);
                let lines = BufReader::new(stream.try_clone().expect("a handle")).lines();
                // To the empty line that ends a head.
                if lines.map_while(Result::ok).any(|line| line.is_empty()) {
                    let now = jiff::Timestamp::now() + jiff::SignedDuration::from_secs(ahead);
                    let date = jiff::fmt::rfc2822::DateTimePrinter::new().timestamp_to_rfc9110_string(&now);
                    let date = date.expect("a date of this century");
                    let _ = write!(
                        stream,
                        "HTTP/1.1 {status}\r\ndate: {date}\r\ncontent-length: 2\r\nconnection: close\r\n\r\n{{}}"
                    );
                }
            }
        });
        Vendor { url, asked }
    }
}

/// A folder with a configuration.
fn home(config: &str) -> Folder {
    let folder = Folder::new();
    std::fs::write(folder.0.join("mimeo.toml"), config).expect("written");
    folder
}

fn doctor(folder: &Folder, more: &[&str]) -> (i32, String, String) {
    let mut command = binary(&folder.0);
    command.arg("doctor").args(more);
    outcome(command)
}

/// The findings about `check` of `of`, and the exit code with them.
fn findings(folder: &Folder, more: &[&str]) -> (i32, Vec<Value>) {
    let (code, out, err) = doctor(folder, &[&["--json"], more].concat());
    let told: Value = serde_json::from_str(&out).unwrap_or_else(|_| panic!("no JSON: {out}\n{err}"));
    let findings = told["findings"].as_array().expect("a list").clone();
    let count = |level: &str| findings.iter().filter(|finding| finding["level"] == level).count();
    assert_eq!(
        (told["broken"].as_u64(), told["warnings"].as_u64()),
        (Some(count("broken") as u64), Some(count("warning") as u64))
    );
    assert_eq!(code, i32::from(count("broken") > 0), "{out}");
    (code, findings)
}

#[track_caller]
fn find<'a>(findings: &'a [Value], check: &str, of: &str) -> &'a Value {
    let found = findings.iter().find(|finding| finding["check"] == check && finding["of"] == of);
    found.unwrap_or_else(|| panic!("nothing about {check} of {of} in {findings:#?}"))
}

#[track_caller]
fn says(finding: &Value, level: &str, words: &[&str]) {
    assert_eq!(finding["level"], level, "{finding}");
    for word in words {
        assert!(finding.to_string().contains(word), "`{word}` is not in {finding}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_world_that_is_well() {
    let world = World::with("[routes.hero]\ncandidates = ['sandbox/draft']\n").await;
    world.generate(json!({"model": "hero", "prompt": "a kite", "size": "64x64"})).await.expect(200);
    let (_, found) = findings(&world.folder, &[]);
    says(find(&found, "key", "openai"), "good", &["it is accepted (GET /models, "]);
    says(find(&found, "key", "sandbox"), "good", &["none is needed"]);
    for name in ["openai", "compatible", "sandbox"] {
        says(find(&found, "reach", name), "good", &[&world.sandbox.url, "answers"]);
    }
    says(find(&found, "clock", ""), "good", &["agrees"]);
    says(find(&found, "database", "SQLite"), "good", &["3.", "answers in"]);
    says(find(&found, "models", ""), "good", &["none that a route leans on"]);
    says(find(&found, "exposure", "127.0.0.1:8080"), "good", &["only this machine"]);
    assert!(found.iter().any(|finding| finding["check"] == "pictures" && finding["level"] == "good"), "{found:#?}");
    // One line each for people, without colours where nobody sees them, and nothing of a key.
    let (code, out, _) = doctor(&world.folder, &[]);
    assert_eq!((code, out.lines().count()), (0, found.len()), "{out}");
    assert!(out.lines().all(|line| line.starts_with("✓ ") || line.starts_with("! ")), "{out}");
    assert!(!out.contains('\u{1b}') && !out.contains("sk-canary"), "{out}");
    // It costs nothing to ask.
    assert_eq!(world.book().await.len(), 1);
}

#[test]
fn keys_addresses_and_clocks_that_are_wrong() {
    let (refusing, late) = (Vendor::start("401 Unauthorized", 0), Vendor::start("403 Forbidden", 3600));
    let closed = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("an address");
    let folder = home(&format!(
        "[providers.openai]\nbase_url = '{}'\n\
         [providers.other]\nrecord = 'openai'\nbase_url = '{}'\napi_key = {{ env = 'OPENAI_API_KEY' }}\n\
         [providers.away]\nrecord = 'sandbox'\nbase_url = 'http://{closed}'\n",
        refusing.url, late.url
    ));
    let (code, found) = findings(&folder, &[]);
    assert_eq!(code, 1);
    says(find(&found, "key", "openai"), "broken", &["refused (401 to GET /models)", "OPENAI_API_KEY"]);
    says(find(&found, "reach", "openai"), "good", &[&refusing.url]);
    says(find(&found, "key", "other"), "warning", &["answered with 403"]);
    says(find(&found, "reach", "away"), "broken", &[&closed.to_string(), "onnection refused", "base_url"]);
    // Two were heard; the one in the middle is the later.
    says(find(&found, "clock", ""), "warning", &["s behind those of the providers", "chrony"]);
    assert!(!serde_json::to_string(&found).expect("JSON").contains("sk-canary"));
    let (code, out, err) = doctor(&folder, &[]);
    assert_eq!((code, err.as_str()), (1, "error: 2 things are broken\n"));
    assert!(out.contains("\n✗ key ") && out.contains(" → Put a valid key into OPENAI_API_KEY"), "{out}");

    let asked = refusing.asked.load(Ordering::SeqCst);
    let (code, found) = findings(&folder, &["--offline"]);
    assert_eq!((code, refusing.asked.load(Ordering::SeqCst)), (0, asked), "offline asks nobody");
    says(find(&found, "key", "openai"), "good", &["not tried"]);
}

/// What is wrong in the file is told, and the rest is looked at all the same.
#[test]
fn a_configuration_with_faults_is_examined_as_far_as_it_goes() {
    let folder = home(
        "[providers.studio]\nrecord = 'openai'\napi_key = { env = 'NOT_SET' }\n[routes.hero]\ncandidates = ['studio/x']\n\
         [routes.lost]\ncandidates = ['sandbox/no-such-model']\n\
         [providers.sandbox]\n[keys.ci]\nhash = 'blake3:0000000000000000000000000000000000000000000000000000000000000000'\n\
         environment = 'staging'\n[routes.thrifty]\ncandidates = ['sandbox/draft']\ncredits = 'only'\n",
    );
    let (code, found) = findings(&folder, &["--offline"]);
    assert_eq!(code, 1);
    let told: Vec<&Value> = found.iter().filter(|finding| finding["check"] == "configuration").collect();
    assert_eq!(told.len(), 2, "hero is told by its provider: {told:#?}");
    says(told[0], "broken", &["providers.studio", "NOT_SET"]);
    says(told[1], "broken", &["routes.lost", "no-such-model"]);
    says(find(&found, "key", "sandbox"), "good", &[]);
    says(find(&found, "environment", "keys.ci"), "warning", &["`staging`"]);
    says(find(&found, "credits", "thrifty"), "broken", &["providers.NAME.plan"]);
    assert!(found.iter().any(|finding| finding["check"] == "disk"), "{found:#?}");

    std::fs::write(folder.0.join("mimeo.toml"), "[sever]\n").expect("written");
    let (code, found) = findings(&folder, &["--offline"]);
    assert_eq!((code, found.len()), (1, 1));
    says(&found[0], "broken", &["sever"]);
}

/// A record with a model that goes, its successor, and one that cannot do as much.
fn going(until: jiff::civil::Date) -> String {
    let model = |id: &str, more: &str, usd: &str| {
        format!(
            "[[models]]\nid = '{id}'\n{more}sizes = {{ rule = {{ max_edge = 2048 }} }}\n[models.prices]\n\
             certainty = 'verified'\nsource = 'simulated'\nrates = {{ image = [{{ usd = '{usd}' }}] }}\n"
        )
    };
    let retiring = format!("seed = true\nstatus = {{ retiring = {{ until = '{until}', successor = 'new' }} }}\n");
    format!(
        "name = 'studio'\ntitle = 'Studio'\nshape = 'exchange'\nsimulated = true\n[auth]\nscheme = 'bearer'\noptional = true\n\
         [wire]\ngenerate = '/draw'\n[fields]\nmodel = 'model'\nprompt = 'prompt'\nwidth = 'width'\nheight = 'height'\n\
         seed = 'seed'\n{}{}{}",
        model("old", &retiring, "0.03"),
        model("new", "seed = true\n", "0.02"),
        model("seedless", "", "0.001")
    )
}

#[test]
fn models_that_go_and_what_could_take_their_place() {
    let today = jiff::Timestamp::now().to_zoned(jiff::tz::TimeZone::UTC).date();
    let until = today.checked_add(jiff::Span::new().days(30)).expect("a day");
    let folder = home("");
    std::fs::create_dir_all(folder.0.join("records")).expect("made");
    std::fs::write(folder.0.join("records/studio.toml"), going(until)).expect("written");
    let config = "[catalogue]\npath = 'records'\n[providers.studio]\nbase_url = 'http://127.0.0.1:9'\n\
                  [providers.sandbox]\nbase_url = 'http://127.0.0.1:9'\n[routes.hero]\ncandidates = ['studio/old']\n";
    std::fs::write(folder.0.join("mimeo.toml"), config).expect("written");
    let (code, found) = findings(&folder, &["--offline"]);
    assert_eq!(code, 0);
    let told = find(&found, "models", "routes.hero");
    says(told, "warning", &[&format!("studio/old retires on {until}, in 30 days"), "routes.hero.candidates"]);
    let models: Vec<(&str, &str, bool)> = told["replacements"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|one| {
            assert_eq!((&one["instead_of_usd"], &one["is_enabled"]), (&json!("0.03"), &json!(true)), "{one}");
            let text = |name: &str| one[name].as_str().expect("text");
            (text("model"), text("usd_per_image"), one["is_successor"] == true)
        })
        .collect();
    assert_eq!(
        models,
        [
            ("sandbox/draft", "0.002", false),
            ("sandbox/standard", "0.01", false),
            ("studio/new", "0.02", true),
            ("sandbox/premium", "0.04", false),
        ]
    );
    let (_, out, _) = doctor(&folder, &["--offline"]);
    assert!(out.contains("    studio/new: $0.02 a picture, in place of $0.03 (its provider's successor)\n"), "{out}");

    // When it is gone, its successor serves, and doctor says so.
    std::fs::write(folder.0.join("records/studio.toml"), going(today)).expect("written");
    let (code, found) = findings(&folder, &["--offline"]);
    assert_eq!(code, 0);
    says(find(&found, "models", "routes.hero"), "warning", &["retired on", "studio/new serves in its place"]);
}

#[test]
fn prices_that_nobody_knows_are_worse_with_budgets() {
    let config = "[providers.box]\nrecord = 'openai-compatible'\nbase_url = 'http://127.0.0.1:9/v1'\n\
                  [routes.hero]\ncandidates = ['box/some-model']\n";
    let folder = home(config);
    let (code, found) = findings(&folder, &["--offline"]);
    assert_eq!(code, 0);
    says(find(&found, "prices", "routes.hero"), "warning", &["box/some-model", "providers.box.prices"]);
    std::fs::write(folder.0.join("mimeo.toml"), format!("{config}budget = {{ usd = '5', per = 'day' }}\n"))
        .expect("written");
    let (code, found) = findings(&folder, &["--offline"]);
    assert_eq!(code, 1);
    says(find(&found, "prices", "routes.hero"), "broken", &["those of routes.hero"]);
}
