//! The command line: exit codes, what goes to stdout, what a broken configuration is told.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};

use crate::world::{BINARY, Folder, Server, World, binary, outcome};

/// The binary in a folder of its own, with nothing configured and no provider's key.
fn bare(folder: &Folder, arguments: &[&str]) -> (i32, String, String) {
    let mut command = Command::new(BINARY);
    command.current_dir(&folder.0).env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default());
    command.args(arguments);
    outcome(command)
}

fn json_of(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("stdout is not JSON alone ({error}):\n{text}"))
}

#[test]
fn exit_codes_say_what_happened() {
    let folder = Folder::new();
    std::fs::write(folder.0.join("bad.toml"), "[server]\nlisten = 'nowhere'\n").expect("written");
    for (arguments, expected) in [
        (&["--version"][..], 0),
        (&["--help"], 0),
        (&["check"], 0),
        (&["completions", "zsh"], 0),
        (&["providers"], 0),
        (&["prices"], 0),
        (&["prices", "list", "--json"], 0),
        (&["prices", "list", "--provider", "nobody"], 1),
        (&["prices", "show", "nothing"], 1),
        (&["prices", "show"], 2),
        (&["prices", "diff", "absent.json"], 1),
        (&["prices", "diff", "absent.json", "--format", "xml"], 2),
        (&["prices", "import", "absent.json", "--certainty", "quite"], 2),
        (&["ledger"], 1),
        (&["ledger", "suspense"], 1),
        (&["cache", "list"], 1),
        (&["generate", "a kite", "--model", "nobody/nothing"], 1),
        (&["render", "artikel", "-o", "x.png"], 1),
        (&["render", "article", "-o", "/no/such/folder/x.png", "--sample"], 1),
        (&["providers", "--all"], 0),
        (&["providers", "show", "nobody"], 1),
        (&["providers", "show", "openai"], 0),
        (&["providers", "schema"], 0),
        (&["providers", "check"], 2),
        (&["providers", "check", "absent.toml"], 64),
        (&[], 2),
        (&["nonsense"], 2),
        (&["check", "--nope"], 2),
        (&["generate"], 2),
        (&["generate", "x", "-n", "11"], 2),
        (&["generate", "x", "--size", "big"], 2),
        (&["render", "article"], 2),
        (&["render", "article", "-o", "x.gif"], 2),
        (&["render", "article", "-o", "x.png", "--set", "title"], 2),
        (&["ledger", "--group-by", "moon"], 2),
        (&["ledger", "resolve", "att_1", "--release"], 2),
        (&["cache", "purge"], 2),
        (&["cache", "purge", "--key", "x"], 2),
        (&["keys", "new", "b@d"], 2),
        (&["completions", "fizz"], 2),
        (&["serve", "--listen", "nowhere"], 2),
        (&["check", "--config", "bad.toml"], 64),
        (&["check", "--config", "absent.toml"], 64),
        (&["serve", "--config", "bad.toml"], 64),
        (&["generate", "x", "--config", "bad.toml"], 64),
        (&["serve", "--listen", "0.0.0.0:0"], 64),
    ] {
        let (code, out, err) = bare(&folder, arguments);
        assert_eq!(code, expected, "mimeo {arguments:?}\n{out}\n{err}");
        assert!(!err.contains("panicked"), "mimeo {arguments:?}: {err}");
        if expected > 0 {
            assert_eq!(out, "", "mimeo {arguments:?}: what is wrong goes to stderr");
            assert!(err.starts_with("error: ") || arguments.is_empty(), "mimeo {arguments:?}: {err}");
        }
    }
    // Looking leaves nothing behind.
    let left: Vec<String> = std::fs::read_dir(&folder.0)
        .expect("a folder")
        .map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned())
        .filter(|name| name != "bad.toml" && name != "mimeo-data")
        .collect();
    assert!(left.is_empty(), "{left:?}");
}

/// Every fault of a configuration is told with its file, its line and what to do.
#[test]
fn check_names_each_fault_with_its_line() {
    let folder = Folder::new();
    let zeros = "0".repeat(64);
    let twice = format!("[keys.a]\nhash = 'blake3:{zeros}'\n\n[keys.b]\nhash = 'blake3:{zeros}'\n");
    let budget = |budget: &str| format!("[keys.a]\nhash = 'blake3:{zeros}'\nbudget = {{ {budget} }}\n");
    let week = format!("[keys.a]\nhash = 'blake3:{zeros}'\nbudget = {{ usd = '5', per = 'week' }}\n");
    for (text, line, says) in [
        ("[server]\nlisten = 'nowhere'\n", 2, "socket address"),
        ("[server]\n\nlissten = '127.0.0.1:1'\n", 3, "`lissten`"),
        ("[servers]\n", 1, "`servers`"),
        ("[storage\n", 1, "]"),
        ("[storage]\npath = 7\n", 2, "path"),
        ("[storage]\ndurability = 'never'\n", 2, "`power`"),
        ("# nothing\n[server]\nmax_body_mb = 0\n", 2, "max_body_mb = 0"),
        ("[server]\nmax_requests = 0\n", 1, "nobody is served"),
        ("[server]\nmax_body_mb = 64\nmax_body_memory_mb = 63\n", 1, "max_body_memory_mb = 63"),
        ("[server]\ntimeouts = { body_s = 0 }\n", 1, "cut every caller off"),
        ("[server]\npublic_url = 'pictures.example.com'\n", 1, "https://"),
        ("\n[server]\nlisten = '0.0.0.0:8080'\n", 2, "mimeo keys new"),
        ("\n[shared]\nurl = 'localhost:6379'\n", 2, "redis://HOST"),
        ("\n[shared]\nurl = 'redis://:sk-secret@localhost'\n", 2, "url = { env = "),
        ("\n[shared]\nurl = { env = 'NOT_SET' }\n", 2, "NOT_SET is not set"),
        ("\n[shared]\nurl = { env = 'redis://:sk-secret@localhost' }\n", 3, "variable"),
        ("\n[shared]\nurl = 'rediss://localhost#insecure'\n", 2, "certificate"),
        ("\n[shared]\nnamespace = 'a:b'\n", 2, "namespace"),
        ("\n[shared]\npatience_ms = 0\n", 2, "patience_ms = 0"),
        ("\n[blobs]\nurl = 'ftp://pictures'\n", 2, "s3://"),
        ("\n[storage]\nurl = 'mysql://me:sk-secret@db/mimeo'\n[blobs]\nurl = 's3://p'\n", 2, "postgres://USER"),
        ("\n[storage]\nurl = 'postgres://me:sk-secret@db/mimeo'\n[blobs]\nurl = 's3://p'\n", 2, "url = { env = "),
        ("\n[storage]\nurl = { env = 'NOT_SET' }\n[blobs]\nurl = 's3://p'\n", 2, "NOT_SET is not set"),
        ("\n[providers.openai]\napi_key = 'sk-secret'\n", 3, "env"),
        ("\n[providers.openai]\napi_key = { env = 'sk-secret' }\n", 3, "variable"),
        ("\n[providers.openai]\napi_key = { env = 'NOT_SET' }\n", 2, "NOT_SET is not set"),
        ("[providers.openai]\napi_key = { file = '/no/such' }\n", 1, "/no/such"),
        ("[providers.gpu]\nrecord = 'opnai'\n", 1, "did you mean openai"),
        ("\n[providers.gpu]\n", 2, "record = "),
        ("[providers.gpu]\nrecord = 'openai-compatible'\n", 1, "base_url = "),
        ("[providers.gpu]\nrecord = 'openai-compatible'\nbase_url = 'ftp://x'\n", 1, "https://"),
        ("[providers.sandbox]\ntimeout_s = 0\n", 1, "timeout_s = 0"),
        ("[providers.sandbox]\nlimits = { concurrent = 0 }\n", 1, "enabled = false"),
        ("[providers.sandbox]\nprices = { usd_per_image = 'cheap' }\n", 2, "`cheap`"),
        ("[providers.sandbox]\nprices = { usd_per_image = '-1' }\n", 1, "negative"),
        ("[providers.sandbox]\n[routes.hero]\ncandidates = []\n", 2, "candidates is empty"),
        ("[providers.sandbox]\n\n[routes.hero]\ncandidates = ['sandbox/standart']\n", 3, "did you mean standard"),
        ("[providers.sandbox]\n[routes.'a/b']\ncandidates = ['sandbox/draft']\n", 2, "contain /"),
        (
            "[providers.sandbox]\n[routes.a]\ncandidates = ['sandbox/draft']\ncache = { variants = 0 }\n",
            2,
            "between 1 and 100",
        ),
        ("[keys.web]\nhash = 'hunter2'\n", 1, "mimeo keys new web"),
        (&twice, 4, "same hash"),
        (&week, 3, "`month`"),
        (&budget("per = 'day'"), 1, "keys.a: a budget says how much"),
        (&budget("usd = '-0.01', per = 'day'"), 1, "keys.a: a budget cannot be negative"),
        (&budget("usd = '1'"), 3, "`per`"),
        (&budget("usd = 'much', per = 'day'"), 3, "`much`"),
        (&budget("pictures = -1, per = 'day'"), 3, "-1"),
        ("\n[providers.sandbox.budget]\nusd = '-1'\nper = 'day'\n", 2, "cannot be negative"),
        ("\n\n[[routes.r.budget]]\nper = 'day'\n[routes.r]\ncandidates = ['sandbox/draft']\n", 5, "says how much"),
        ("\n[tenants.shop]\nbudget = { usd = '1', per = 'day' }\n", 2, "no key belongs to this tenant"),
        ("\n\n[[tenants.shop.budget]]\nusd = '1'\nper = 'day'\n", 3, "no key belongs to this tenant"),
        ("\n[render]\ntemplates = '/no/such'\n", 2, "/no/such"),
    ] {
        std::fs::write(folder.0.join("bad.toml"), text).expect("written");
        let (code, out, err) = bare(&folder, &["check", "--config", "bad.toml"]);
        assert_eq!((code, out.as_str()), (64, ""), "{text}\n{err}");
        assert!(err.starts_with(&format!("error: bad.toml:{line}: ")), "{text}\n{err}");
        assert!(err.contains(says), "{text}\n{err}");
        assert!(!err.contains("sk-secret"), "a misplaced secret is repeated: {err}");
        assert_eq!(err.lines().count(), 1, "one fault, one line: {err}");
    }
    // All faults at once, not one after another.
    let many = "[server]\nmax_body_mb = 0\n[providers.sandbox]\ntimeout_s = 0\n[routes.hero]\ncandidates = []\n";
    std::fs::write(folder.0.join("bad.toml"), many).expect("written");
    let (_, _, err) = bare(&folder, &["check", "--config", "bad.toml"]);
    assert_eq!(err.lines().count(), 3, "{err}");
}

/// What `serve` takes, `check` takes: a sandbox without an address is one in the process.
#[test]
fn check_agrees_with_serve() {
    let folder = Folder::new();
    let text = "[providers.sandbox]\n[routes.hero]\ncandidates = ['sandbox/premium', 'openai/gpt-image-1.5']\n";
    std::fs::write(folder.0.join("mimeo.toml"), text).expect("written");
    let mut check = binary(&folder.0);
    check.arg("check");
    let (code, out, err) = outcome(check);
    assert_eq!(code, 0, "{err}");
    assert!(out.contains("sandbox") && out.contains("1 route"), "{out}");
    assert!(out.contains("warning: routes.hero: openai/gpt-image-1.5 retires on 2026-12-01"), "{out}");
    assert!(!folder.0.join("data").exists(), "it opens nothing");
    let mut serve = binary(&folder.0);
    serve.args(["serve", "--listen", "127.0.0.1:0"]);
    let mut server = Server::start(serve);
    assert_eq!(server.terminate(), Some(0));
}

fn is_png(path: &Path) -> bool {
    std::fs::read(path).is_ok_and(|bytes| bytes.starts_with(b"\x89PNG"))
}

/// `mimeo generate`: the same pipeline, the same cache, the same ledger as over HTTP.
#[tokio::test(flavor = "multi_thread")]
async fn generate_writes_pictures() {
    let world = World::new().await;
    let standard = ["--model", "sandbox/standard", "--size", "64x64"];
    let run = |more: &[&str]| world.run(&[&["generate", "a red kite"][..], &standard, more].concat());
    let (code, out, err) = run(&["-o", "kite.png"]);
    assert_eq!((code, out.as_str()), (0, "kite.png\n"), "{err}");
    assert!(is_png(&world.folder.0.join("kite.png")));
    assert!(err.contains("miss by sandbox/standard, cost $0.01, saved $0 (simulated)"), "{err}");
    // Over HTTP it is the same picture.
    let body = json!({ "model": "sandbox/standard", "prompt": "a red kite", "size": "64x64" });
    let served = world.generate(body).await.expect(200);
    assert_eq!(served.cache(), "hit");
    assert_eq!(served.pictures()[0], std::fs::read(world.folder.0.join("kite.png")).expect("a file"));

    let (code, out, err) = run(&["-n", "3", "-o", "some/kites.png"]);
    assert_eq!((code, out.as_str()), (1, ""), "{err}");
    assert!(err.contains("some/kites-1.png"), "it says where it could not write: {err}");
    let (code, out, err) = run(&["-n", "3", "-o", "kites.png", "--explain"]);
    assert_eq!((code, out.as_str()), (0, "kites-1.png\nkites-2.png\nkites-3.png\n"), "{err}");
    assert!(err.contains("cost $0,"), "they were paid already: {err}");
    assert!(err.contains("1. sandbox/standard"), "{err}");
    assert_eq!(world.book().await.len(), 3);

    let (code, out, err) = run(&[]);
    assert_eq!(code, 0, "{err}");
    assert!(is_png(&world.folder.0.join(out.trim())), "a name of its own: {out}");
    let mut piped = world.command(&[&["generate", "a red kite"][..], &standard, &["-o", "-"]].concat());
    let piped = piped.output().expect("it runs").stdout;
    assert_eq!(piped, served.pictures()[0], "stdout is the picture and nothing else");

    let (code, _, err) = run(&["--no-cache", "-o", "new.png"]);
    assert_eq!(code, 0, "{err}");
    assert!(err.contains("bypass by sandbox/standard, cost $0.01"), "{err}");
    let (code, out, err) =
        world.run(&["generate", "lost [[bill-then-reset]]", "--model", "sandbox/draft", "-o", "lost.png"]);
    assert_eq!((code, out.as_str()), (1, ""));
    assert!(err.contains("mimeo ledger suspense") && !world.folder.0.join("lost.png").exists(), "{err}");
}

#[test]
fn render_draws_every_template() {
    let folder = Folder::new();
    let size = |file: &str| {
        let bytes = std::fs::read(folder.0.join(file)).expect("a file");
        mimeo::media::examine(bytes.into())
            .map(|picture| (picture.format.name(), picture.width, picture.height))
            .expect("a picture")
    };
    std::fs::write(
        folder.0.join("data.json"),
        json!({ "name": "Halo lamp", "price": { "amount": "129.00", "currency": "EUR" } }).to_string(),
    )
    .expect("written");
    for (arguments, file, expected) in [
        (&["article", "--set", "title=Draw once, print many", "--set", "theme=dark"][..], "a.png", ("png", 1200, 630)),
        (&["product", "--data", "data.json", "--set", "rating=4.5"], "p.webp", ("webp", 1200, 630)),
        (&["quote", "--set", "quote=17", "--size", "600x600", "--quality", "70"], "q.jpg", ("jpeg", 600, 600)),
        (&["quote", "--sample"], "s.png", ("png", 1200, 630)),
    ] {
        let (code, out, err) = bare(&folder, &[&["render"][..], arguments, &["-o", file]].concat());
        assert_eq!((code, out), (0, format!("{file}\n")), "{err}");
        assert_eq!(size(file), expected);
    }
    for (arguments, says) in [
        (&["article"][..], "title"),
        (&["article", "--set", "title=x", "--set", "titel=x"], "titel"),
        (&["article", "--set", "title=x", "--set", "theme=pink"], "theme"),
        (&["article", "--set", "title=x", "--set", "accent=reddish-ish"], "accent"),
        (&["product", "--data", "data.json", "--set", "rating=9"], "rating"),
        (&["product", "--data", "absent.json"], "absent.json"),
        (&["article", "--set", "title=x", "--size", "9000x9000"], "size"),
        (&["artikel", "--set", "title=x"], "article, product, quote"),
    ] {
        let (code, out, err) = bare(&folder, &[&["render"][..], arguments, &["-o", "no.png"]].concat());
        assert_eq!((code, out.as_str()), (1, ""), "{arguments:?}: {err}");
        assert!(err.contains(says), "{arguments:?}: {err}");
        assert!(!folder.0.join("no.png").exists());
    }
    let (code, out, err) = bare(&folder, &["render", "--json"]);
    assert_eq!(code, 0, "{err}");
    let ids: Vec<Value> =
        json_of(&out).as_array().expect("a list").iter().map(|template| template["id"].clone()).collect();
    assert_eq!(ids, ["article", "product", "quote"]);
}

/// What is listed as JSON is JSON alone, and the same as over HTTP.
#[tokio::test(flavor = "multi_thread")]
async fn listings_are_data() {
    let world = World::with("[routes.hero]\ncandidates = ['sandbox/premium']\n").await;
    for (model, prompt) in
        [("hero", "one"), ("hero", "one"), ("sandbox/draft", "two"), ("sandbox/draft", "lost [[bill-then-reset]]")]
    {
        world.generate(json!({ "model": model, "prompt": prompt, "size": "64x64", "purpose": "og" })).await;
    }
    for group in ["provider", "model", "tenant", "key", "purpose", "day"] {
        let served = world.get(&format!("/v1/ledger?group_by={group}")).await.expect(200).body;
        let (code, out, err) = world.run(&["ledger", "--group-by", group, "--json"]);
        assert_eq!(code, 0, "{err}");
        assert_eq!(json_of(&out), served, "{group}");
    }
    let (code, out, _) = world.run(&["ledger"]);
    assert_eq!(code, 0);
    assert!(out.contains("sandbox/premium") && out.contains("$0.042") && out.contains("saved by hit: $0.04"), "{out}");
    let (code, out, _) = world.run(&["ledger", "events", "--json"]);
    assert_eq!(code, 0);
    let kinds: Vec<Value> =
        json_of(&out).as_array().expect("a list").iter().map(|event| event["kind"].clone()).collect();
    for kind in ["reserve", "settle", "suspend"] {
        assert!(kinds.contains(&json!(kind)), "{kinds:?}");
    }
    let (code, out, _) = world.run(&["cache", "list", "--json"]);
    assert_eq!(code, 0);
    assert_eq!(json_of(&out).as_array().map(Vec::len), Some(2));
    let (code, out, _) = world.run(&["cache", "--json", "--limit", "1"]);
    assert_eq!((code, json_of(&out).as_array().map(Vec::len)), (0, Some(1)));

    let (code, out, _) = world.run(&["providers", "--json"]);
    assert_eq!(code, 0);
    let served = world.get("/v1/models").await.expect(200).body;
    let served: BTreeMap<String, Value> = served["data"]
        .as_array()
        .expect("models")
        .iter()
        .map(|model| (model["id"].as_str().expect("an id").to_owned(), model["mimeo"].clone()))
        .collect();
    for row in json_of(&out).as_array().expect("a list").iter().filter(|row| row["model"] != "*") {
        let id = format!("{}/{}", row["provider"].as_str().expect("a name"), row["model"].as_str().expect("a name"));
        assert_eq!(row["details"], served[&id], "{id}");
    }
    let (code, out, _) = world.run(&["providers", "show", "openai", "--json"]);
    assert_eq!(code, 0);
    assert!(json_of(&out)["models"]["gpt-image-2"].is_object());
    assert_eq!(json_of(&out)["enabled"], true);
    let (code, out, _) = world.run(&["keys", "--json"]);
    assert_eq!((code, json_of(&out)), (0, json!([])));
}

/// What `keys new` prints to stdout is configuration that works with the key on stderr.
#[tokio::test(flavor = "multi_thread")]
async fn new_keys_work() {
    let world = World::new().await;
    let (code, out, err) = world.run(&["keys", "new", "web", "--tenant", "shop", "--pool", "stock", "--admin"]);
    assert_eq!(code, 0, "{err}");
    let key = err.split_whitespace().find(|word| word.starts_with("mimeo_")).expect("the key is shown");
    assert!(!out.contains(key), "the key is not in what is kept");
    let file = world.folder.0.join("keyed.toml");
    std::fs::write(&file, &out).expect("written");
    let (code, _, err) = world.run(&["check", "--config", "keyed.toml"]);
    assert_eq!(code, 0, "{err}");
    let (code, listed, _) = world.run(&["keys", "--json", "--config", "keyed.toml"]);
    assert_eq!((code, json_of(&listed)[0]["tenant"].as_str()), (0, Some("shop")));
    let server = Server::start(world.command(&[
        "serve",
        "--config",
        "keyed.toml",
        "--listen",
        "127.0.0.1:0",
        "--data",
        "keyed",
    ]));
    let models = |key: &str| {
        let request =
            world.client.get(format!("{}/v1/models", server.url)).header("authorization", format!("Bearer {key}"));
        async { request.send().await.expect("it answers").status().as_u16() }
    };
    assert_eq!(models(key).await, 200);
    assert_eq!(models("mimeo_wrong").await, 401);
}

#[test]
fn completions_are_scripts() {
    let folder = Folder::new();
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let (code, out, err) = bare(&folder, &["completions", shell]);
        assert_eq!((code, err.as_str()), (0, ""), "{shell}");
        for command in ["demo", "serve", "ledger"] {
            assert!(out.contains(command), "{shell}: {command}");
        }
    }
    let (_, script, _) = bare(&folder, &["completions", "bash"]);
    std::fs::write(folder.0.join("mimeo.bash"), script).expect("written");
    let mut bash = Command::new("bash");
    bash.args(["-n", "mimeo.bash"]).current_dir(&folder.0);
    let (code, _, err) = outcome(bash);
    assert_eq!(code, 0, "{err}");
}

/// `mimeo demo` needs nothing, leaves pictures, and its bill equals the provider's book.
#[test]
fn the_demo_adds_up() {
    let folder = Folder::new();
    let (code, out, err) = bare(&folder, &["demo", "-o", "shown"]);
    assert_eq!(code, 0, "{out}\n{err}");
    let pictures: Vec<PathBuf> = std::fs::read_dir(folder.0.join("shown"))
        .expect("a folder")
        .map(|entry| entry.expect("an entry").path())
        .collect();
    assert!(pictures.len() >= 3, "{pictures:?}");
    assert!(pictures.iter().all(|path| is_png(path)), "{pictures:?}");
    assert!(out.contains("1 made and paid, 49 joined it; all pictures equal: true"), "{out}");
    let amount = |word: &str| {
        let line =
            out.lines().find(|line| line.trim_start().starts_with(word)).unwrap_or_else(|| panic!("no {word}:\n{out}"));
        let text = line.split('$').nth(1).expect("an amount").split(|c: char| c != '.' && !c.is_ascii_digit()).next();
        text.expect("digits").parse::<mimeo::domain::Usd>().expect("a decimal")
    };
    assert_eq!(amount("spent"), amount("provider's own book"));
    assert_eq!(amount("without Mimeo"), amount("spent") + amount("already stored") + amount("joined one under way"));
    assert!(!out.contains('\x1b') && !err.contains('\x1b'), "no colours where nobody sees them");
    let left: Vec<_> =
        std::fs::read_dir(&folder.0).expect("a folder").map(|entry| entry.expect("an entry").file_name()).collect();
    assert_eq!(left, ["shown"], "it leaves nothing else behind");
}

/// https://no-color.org: colour only where it is seen and not refused. `script` plays the terminal.
#[test]
fn no_color_is_respected() {
    let folder = Folder::new();
    std::fs::write(folder.0.join("mimeo.toml"), "[providers.sandbox]\n").expect("written");
    let on_a_terminal = |no_color: &str| {
        let mut command = Command::new("script");
        let line = format!("{BINARY} generate kite --model sandbox/draft --size 16x16 -o k.png --no-cache");
        command.current_dir(&folder.0).env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default());
        command.env("TERM", "xterm").env("NO_COLOR", no_color).args(["-qec", &line, "/dev/null"]);
        let (code, out, err) = outcome(command);
        assert_eq!(code, 0, "{out}\n{err}");
        out
    };
    assert!(!on_a_terminal("1").contains("\x1b["), "{:?}", on_a_terminal("1"));
    assert!(on_a_terminal("").contains("\x1b["), "an empty NO_COLOR refuses nothing");
}

/// The pages are made from the code and the catalogue; whoever changes a setting or a record makes them again.
#[test]
fn the_pages_that_are_made_from_the_code_are_up_to_date() {
    for page in ["config", "providers"] {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("../../docs/{page}.md"));
        let (code, out, err) = bare(&Folder::new(), &["reference", page]);
        assert_eq!(code, 0, "{err}");
        let kept = std::fs::read_to_string(path).unwrap_or_default();
        assert!(kept == out, "docs/{page}.md is old. Make it again: cargo run -- reference {page} > docs/{page}.md");
    }
}
