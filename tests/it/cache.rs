//! What is stored: how long it lasts, what it survives, and that nothing damaged is ever given out (I13).
//!
//! Tests of time run the gateway in this process, with a clock that they move by hand.

use std::path::{Path, PathBuf};
use std::time::Duration;

use mimeo::app::{App, Blueprint};
use mimeo::clock::Clock;
use mimeo::config::{Config, Environment};
use mimeo::domain::{Answer, CacheMode, CachePolicy, Call, Caller, ImageRequest, Source, Usd};
use mimeo::error::Kind;
use mimeo::pipeline::LedgerQuery;
use serde_json::json;

use crate::world::{Folder, World};

/// A gateway in this process, before a sandbox in this process.
pub struct Inside {
    pub app: App,
    pub clock: Clock,
    sandbox: mimeo_sandbox::Sandbox,
    folder: Folder,
}

/// 2026-11-21, noon.
const NOON: i64 = 1_795_262_400_000;

impl Inside {
    pub async fn with(config: &str) -> Inside {
        let folder = Folder::new();
        let sandbox = mimeo_sandbox::start(mimeo_sandbox::Options::default()).await.expect("the sandbox starts");
        let clock = Clock::manual(NOON);
        let app = Inside::open(&folder.0, &sandbox.url(), config, clock.clone());
        Inside { app, clock, sandbox, folder }
    }

    fn open(folder: &Path, sandbox: &str, config: &str, clock: Clock) -> App {
        let storage = format!("[storage]\npath = '{}/data'\ndurability = 'process'\n", folder.display());
        let provider = format!("[providers.sandbox]\nbase_url = '{sandbox}/native/v1'\n");
        // What a test says of the storage goes into its table.
        let config = match config.strip_prefix("[storage]\n") {
            Some(rest) => format!("{storage}{rest}{provider}"),
            None => format!("{storage}{provider}{config}"),
        };
        let config = Config::parse(&config, Path::new("test.toml")).expect("the configuration is good");
        let blueprint =
            Blueprint::draw(config, &Environment::default(), Path::new("test.toml")).expect("it can be drawn");
        App::open(blueprint, clock).expect("the store opens")
    }

    pub fn call(&self, prompt: &str) -> Call {
        let mut request = ImageRequest::generate(prompt);
        request.size = "64x64".parse().expect("a size");
        let id = self.app.pipeline.new_request_id();
        Call { model: Some("sandbox/standard".into()), ..Call::new(id, Caller::local(), request) }
    }

    pub async fn run(&self, call: Call) -> Answer {
        Box::pin(self.app.pipeline.run(call, None)).await.expect("there is a picture")
    }

    async fn source(&self, call: Call) -> Source {
        self.run(call).await.source
    }

    pub fn later(&self, seconds: u64) {
        self.clock.advance(Duration::from_secs(seconds));
    }

    /// Bills in the sandbox's book.
    fn bills(&self) -> u64 {
        self.sandbox.book().totals().count
    }

    /// I6, and the end.
    pub async fn end(self) {
        let spent = self.app.pipeline.ledger(&LedgerQuery::default()).await.expect("a report").totals.spent_usd;
        let billed: Usd = self.sandbox.book().totals().billed_usd.to_string().parse().expect("an amount");
        assert_eq!(spent, billed, "the ledger equals the book");
        self.close().await;
    }

    /// The end, where the ledger cannot know what the book knows.
    pub async fn close(self) {
        self.app.close().await;
        self.sandbox.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn pictures_expire() {
    let inside =
        Inside::with("[cache]\nttl_s = 100\n[routes.brief]\ncandidates = ['sandbox/draft']\ncache = { ttl_s = 10 }\n")
            .await;
    assert_eq!(inside.source(inside.call("a kite")).await, Source::Miss);
    inside.later(99);
    assert_eq!(inside.source(inside.call("a kite")).await, Source::Hit);
    inside.later(1);
    assert_eq!(inside.source(inside.call("a kite")).await, Source::Miss, "100 s are over");
    assert_eq!(inside.source(inside.call("a kite")).await, Source::Hit);
    assert_eq!(inside.bills(), 2);

    let brief = || Call { model: Some("brief".into()), ..inside.call("a kite") };
    assert_eq!(inside.source(brief()).await, Source::Miss);
    inside.later(9);
    assert_eq!(inside.source(brief()).await, Source::Hit, "the route's own time");
    inside.later(1);
    assert_eq!(inside.source(brief()).await, Source::Miss);

    // A request's own time goes before both, in either direction.
    let short = CachePolicy { ttl: Some(Duration::from_secs(5)), ..CachePolicy::default() };
    assert_eq!(inside.source(Call { cache: short, ..inside.call("short") }).await, Source::Miss);
    inside.later(4);
    assert_eq!(inside.source(inside.call("short")).await, Source::Hit);
    inside.later(1);
    assert_eq!(inside.source(inside.call("short")).await, Source::Miss);
    let long = CachePolicy { ttl: Some(Duration::from_secs(100_000)), ..CachePolicy::default() };
    assert_eq!(inside.source(Call { cache: long, ..inside.call("long") }).await, Source::Miss);
    inside.later(99_999);
    assert_eq!(inside.source(inside.call("long")).await, Source::Hit);
    inside.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn pictures_last_for_ever_if_told() {
    let inside = Inside::with("[cache]\nttl_s = 0\n").await;
    assert_eq!(inside.source(inside.call("a kite")).await, Source::Miss);
    inside.later(50 * 365 * 24 * 3600);
    assert_eq!(inside.source(inside.call("a kite")).await, Source::Hit);
    inside.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn callers_choose_how_old() {
    let inside = Inside::with("").await;
    let at_most = |seconds| CachePolicy { max_age: Some(Duration::from_secs(seconds)), ..CachePolicy::default() };
    inside.run(inside.call("a kite")).await;
    inside.later(60);
    assert_eq!(inside.source(Call { cache: at_most(60), ..inside.call("a kite") }).await, Source::Hit);
    assert_eq!(inside.source(Call { cache: at_most(59), ..inside.call("a kite") }).await, Source::Miss);
    assert_eq!(inside.source(Call { cache: at_most(59), ..inside.call("a kite") }).await, Source::Hit, "it is new now");
    // Nobody else is worse off for it: a pool of one stays one picture.
    let first = inside.run(inside.call("a kite")).await;
    let again = inside.run(inside.call("a kite")).await;
    assert_eq!(first.pictures[0].picture.digest, again.pictures[0].picture.digest);
    assert_eq!(inside.bills(), 2);
    inside.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn refusals_are_remembered_for_a_while() {
    let inside = Inside::with("[cache]\nrefusal_ttl_s = 300\n").await;
    let refused = |prompt: &'static str| {
        let call = inside.call(prompt);
        async { Box::pin(inside.app.pipeline.run(call, None)).await.expect_err("it is refused") }
    };
    let seen = || inside.sandbox.stats().requests_seen;
    let first = refused("bad [[refuse]]").await;
    assert_eq!((first.kind, seen()), (Kind::Refused, 1));
    inside.later(299);
    let again = refused("bad [[refuse]]").await;
    assert_eq!((again.kind, again.code, seen()), (Kind::Refused, first.code, 1));
    inside.later(1);
    refused("bad [[refuse]]").await;
    assert_eq!(seen(), 2, "it is asked again");
    // Who asks for a new picture, or wants none remembered, is not answered from memory.
    let fresh = CachePolicy { mode: CacheMode::NoCache, ..CachePolicy::default() };
    let call = Call { cache: fresh, ..inside.call("bad [[refuse]]") };
    assert!(Box::pin(inside.app.pipeline.run(call, None)).await.is_err());
    assert_eq!(seen(), 3);
    let silent = CachePolicy { mode: CacheMode::NoStore, ..CachePolicy::default() };
    let call = Call { cache: silent, ..inside.call("worse [[refuse*1]]") };
    assert!(Box::pin(inside.app.pipeline.run(call, None)).await.is_err());
    assert_eq!(inside.source(inside.call("worse [[refuse*1]]")).await, Source::Miss);
    inside.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn refusals_are_asked_again_if_told() {
    let inside = Inside::with("[cache]\nrefusal_ttl_s = 0\n").await;
    for seen in 1..4 {
        assert!(Box::pin(inside.app.pipeline.run(inside.call("bad [[refuse]]"), None)).await.is_err());
        assert_eq!(inside.sandbox.stats().requests_seen, seen);
    }
    inside.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn variants_are_handed_out_in_rotation_and_expire_one_by_one() {
    let inside = Inside::with("[cache]\nttl_s = 100\n").await;
    let pool = CachePolicy { variants: Some(3), ..CachePolicy::default() };
    let mut seen = Vec::new();
    for turn in 0..6 {
        let answer = inside.run(Call { cache: pool.clone(), ..inside.call("kites") }).await;
        assert_eq!(answer.source, if turn < 3 { Source::Miss } else { Source::Hit });
        seen.push(answer.pictures[0].picture.digest);
        inside.later(10);
    }
    assert_eq!(seen[..3], seen[3..]);
    assert_eq!(inside.bills(), 3);
    // At 60 s. At 105 s the first is gone, and only it is made again.
    inside.later(45);
    for _ in 0..3 {
        inside.run(Call { cache: pool.clone(), ..inside.call("kites") }).await;
    }
    assert_eq!(inside.bills(), 4);
    inside.end().await;
}

/// What memory has no room for is read from the disk; nothing is lost or paid again.
#[tokio::test(flavor = "multi_thread")]
async fn eviction_from_memory_loses_nothing() {
    for megabytes in [0, 1] {
        let inside = Inside::with(&format!("[storage]\nmemory_mb = {megabytes}\n")).await;
        let mut digests = Vec::new();
        // Each is padded to 200 kB, so that five fill the memory.
        let call = |i: usize| inside.call(&format!("kite {i} [[bytes=200000]]"));
        for i in 0..20 {
            digests.push(inside.run(call(i)).await.pictures[0].picture.digest);
            assert!(inside.app.pipeline.cache.memory_bytes() <= megabytes << 20);
        }
        for (i, digest) in digests.iter().enumerate() {
            let answer = inside.run(call(i)).await;
            assert_eq!((answer.source, &answer.pictures[0].picture.digest), (Source::Hit, digest));
            let id = answer.pictures[0].id.expect("it is stored");
            let stored = inside.app.pipeline.picture(id).await.expect("the store reads").expect("it is there");
            assert_eq!(&stored.picture.digest, digest);
        }
        assert_eq!(inside.bills(), 20);
        inside.end().await;
    }
}

/// The same folder under a new process, with the same clock: nothing is paid twice.
#[tokio::test(flavor = "multi_thread")]
async fn a_new_process_finds_everything() {
    let mut inside = Inside::with("").await;
    let pool = CachePolicy { variants: Some(2), ..CachePolicy::default() };
    let one = inside.run(inside.call("a kite")).await;
    inside.run(Call { cache: pool.clone(), ..inside.call("kites") }).await;
    inside.run(Call { cache: pool.clone(), ..inside.call("kites") }).await;
    let app = Inside::open(&inside.folder.0, &inside.sandbox.url(), "", inside.clock.clone());
    std::mem::replace(&mut inside.app, app).close().await;
    inside.app.recover().await.expect("the store works");
    let again = inside.run(inside.call("a kite")).await;
    assert_eq!((again.source, again.pictures[0].picture.digest), (Source::Hit, one.pictures[0].picture.digest));
    assert_eq!(again.usage, one.usage);
    for _ in 0..4 {
        assert_eq!(inside.source(Call { cache: pool.clone(), ..inside.call("kites") }).await, Source::Hit);
    }
    assert_eq!(inside.bills(), 3);
    inside.end().await;
}

/// The files of the stored pictures.
pub fn blobs(data: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for folder in std::fs::read_dir(data.join("blobs")).expect("a folder") {
        let folder = folder.expect("an entry").path();
        if folder.is_dir() && !folder.ends_with("tmp") {
            found.extend(std::fs::read_dir(folder).expect("a folder").map(|file| file.expect("an entry").path()));
        }
    }
    found.sort();
    found
}

/// I13: a corrupt, truncated, swapped or missing blob is never served; the picture is made again.
#[tokio::test(flavor = "multi_thread")]
async fn i13_nothing_damaged_is_given_out() {
    let mut world = World::new().await;
    let kite = |name: &str| json!({ "model": "sandbox/standard", "prompt": name, "size": "64x64" });
    type Damage = fn(&Path, &[PathBuf]);
    let damages: [(&str, Damage); 6] = [
        ("one bit", |file, _| {
            let mut bytes = std::fs::read(file).expect("a file");
            let middle = bytes.len() / 2;
            bytes[middle] ^= 1;
            std::fs::write(file, bytes).expect("written");
        }),
        ("cut", |file, _| {
            let bytes = std::fs::read(file).expect("a file");
            std::fs::write(file, &bytes[..bytes.len() - 1]).expect("written");
        }),
        ("empty", |file, _| std::fs::write(file, b"").expect("written")),
        ("swapped", |file, others| {
            std::fs::copy(&others[0], file).expect("copied");
        }),
        ("missing", |file, _| std::fs::remove_file(file).expect("removed")),
        ("html", |file, _| std::fs::write(file, b"<html><script>alert(1)</script></html>").expect("written")),
    ];
    world.generate(kite("a bystander")).await.expect(200);
    let bystander = blobs(&world.data());
    for (name, damage) in damages {
        let before = blobs(&world.data());
        let first = world.generate(kite(name)).await.expect(200);
        let url =
            format!("{}/media/{}", world.gateway.url, first.body["mimeo"]["images"][0]["id"].as_str().expect("an id"));
        let path = url.strip_prefix(&world.gateway.url).expect("an address").to_owned();
        let after = blobs(&world.data());
        let file = after.iter().find(|file| !before.contains(file)).expect("a new blob");
        // Memory still has it; a new process reads the disk.
        world.gateway.kill();
        damage(file, &bystander);
        world.restart();
        let url = format!("{}{path}", world.gateway.url);
        let fetched = world.client.get(&url).send().await.expect("it answers");
        assert_eq!(fetched.status(), 404, "{name}");
        let again = world.generate(kite(name)).await.expect(200);
        assert_eq!(again.cache(), "miss", "{name}");
        assert_ne!(again.pictures(), first.pictures());
        let hit = world.generate(kite(name)).await.expect(200);
        assert_eq!((hit.cache(), hit.pictures()), ("hit", again.pictures()), "{name}");
    }
    assert_eq!(world.book().await.len(), 13);
    assert_eq!(world.generate(kite("a bystander")).await.expect(200).cache(), "hit");
}

/// The same content under two keys is one file; damaged, it is noticed under both.
#[tokio::test(flavor = "multi_thread")]
async fn one_file_for_the_same_content() {
    let mut world = World::new().await;
    let card = |more: &str| json!({ "template": "quote", "data": { "quote": "Draw once, print many." }, "user": more, "cache": { "ttl_s": 50 + more.len() } });
    let first = world.generate(card("a")).await.expect(200);
    let fresh =
        json!({ "template": "quote", "data": { "quote": "Draw once, print many." }, "cache": { "mode": "no-cache" } });
    let second = world.generate(fresh).await.expect(200);
    assert_eq!(first.pictures(), second.pictures(), "a template always gives the same picture");
    // The second copy is in the trash, which every purge empties.
    let (code, _, err) = world.run(&["cache", "purge", "--expired"]);
    assert_eq!(code, 0, "{err}");
    let files = blobs(&world.data());
    assert_eq!(files.len(), 1);
    world.gateway.kill();
    std::fs::write(&files[0], b"damaged").expect("written");
    world.restart();
    let again = world.generate(card("b")).await.expect(200);
    assert_eq!((again.cache(), again.pictures()), ("miss", first.pictures()));
}

/// A purge by another process is noticed at once where it matters, and within a second everywhere.
#[tokio::test(flavor = "multi_thread")]
async fn a_purge_is_noticed() {
    let world = World::new().await;
    let kite = |prompt: &str| json!({ "model": "sandbox/standard", "prompt": prompt, "size": "64x64" });
    let first = world.generate(kite("a kite")).await.expect(200);
    let other = world.generate(kite("another")).await.expect(200);
    let media = |reply: &crate::world::Reply| {
        format!("/media/{}", reply.body["mimeo"]["images"][0]["id"].as_str().expect("an id"))
    };
    let status = async |path: &str| {
        world.client.get(format!("{}{path}", world.gateway.url)).send().await.expect("it answers").status().as_u16()
    };
    assert_eq!(status(&media(&first)).await, 200);

    let (code, out, err) = world.run(&["cache", "list", "--json"]);
    assert_eq!(code, 0, "{err}");
    let entries: Vec<serde_json::Value> = serde_json::from_str(&out).expect("JSON");
    assert_eq!(entries.len(), 2);
    // The newest first.
    let key = entries[1]["key"].as_str().expect("a key");
    let (code, out, err) = world.run(&["cache", "purge", "--key", key]);
    assert_eq!((code, out.as_str(), err.trim()), (0, "", "1 picture removed"));
    assert_eq!(world.generate(kite("a kite")).await.expect(200).cache(), "miss", "at once");
    assert_eq!(world.generate(kite("another")).await.expect(200).cache(), "hit");
    let started = tokio::time::Instant::now();
    while status(&media(&first)).await != 404 {
        assert!(started.elapsed() < Duration::from_secs(5), "a purged picture is still given out");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(status(&media(&other)).await, 200);

    let (_, _, err) = world.run(&["cache", "purge", "--tenant", "nobody"]);
    assert_eq!(err.trim(), "0 pictures removed");
    let (_, _, err) = world.run(&["cache", "purge", "--expired"]);
    assert_eq!(err.trim(), "0 pictures removed");
    let (_, _, err) = world.run(&["cache", "purge", "--all"]);
    assert_eq!(err.trim(), "2 pictures removed");
    for prompt in ["a kite", "another"] {
        assert_eq!(world.generate(kite(prompt)).await.expect(200).cache(), "miss");
    }
    assert_eq!(world.book().await.len(), 5);
    let bytes: u64 = blobs(&world.data()).iter().map(|file| file.metadata().expect("a file").len()).sum();
    assert!(bytes > 0);
    assert_eq!(blobs(&world.data()).len(), 2, "what is purged leaves the disk");
}

/// I12: what means the same is one picture, however it is spelled, and what does not is another.
#[tokio::test(flavor = "multi_thread")]
async fn i12_equal_meaning_is_one_picture_and_no_other() {
    const SAME: &str = "hit";
    const OTHER: &str = "miss";
    let pairs = [
        (SAME, r#"{"model": "sandbox/draft", "prompt": "P"}"#, r#"{"prompt": "P", "model": "sandbox/draft"}"#),
        (SAME, r#"{"model": "sandbox/draft", "prompt": "P"}"#, r#"{"model":"sandbox/draft","prompt":"P","n":1}"#),
        (SAME, r#"{"model": "sandbox/draft", "prompt": "P"}"#, r#"{"model":"sandbox/draft","prompt":" P\n"}"#),
        (
            SAME,
            r#"{"model": "sandbox/draft", "prompt": "P kite"}"#,
            r#"{"model":"sandbox/draft","prompt":"P k\u0069te"}"#,
        ),
        (SAME, r#"{"model": "sandbox/draft", "prompt": "P é"}"#, r#"{"model":"sandbox/draft","prompt":"P e\u0301"}"#),
        (
            SAME,
            r#"{"model": "sandbox/draft", "prompt": "P", "steps": 20, "seed": 7}"#,
            r#"{"model": "sandbox/draft", "prompt": "P", "steps": 2e1, "seed": 7.0}"#,
        ),
        // The model's defaults, spelled out.
        (
            SAME,
            r#"{"model": "sandbox/draft", "prompt": "P"}"#,
            r#"{"model": "sandbox/draft", "prompt": "P", "size": "1024x1024", "output_format": "png"}"#,
        ),
        (
            SAME,
            r#"{"model": "openai/gpt-image-2", "prompt": "P", "quality": "low", "size": "1024x1024"}"#,
            r#"{"model": "openai/gpt-image-2", "prompt": "P", "quality": "low", "size": "1024x1024",
                "output_format": "png", "output_compression": null}"#,
        ),
        // What is about the answer and not about the picture.
        (
            SAME,
            r#"{"model": "sandbox/draft", "prompt": "P", "response_format": "url", "user": "ann"}"#,
            r#"{"model": "sandbox/draft", "prompt": "P", "response_format": "b64_json", "user": "ben", "explain": true}"#,
        ),
        (OTHER, r#"{"model": "sandbox/draft", "prompt": "P a"}"#, r#"{"model": "sandbox/draft", "prompt": "P A"}"#),
        (OTHER, r#"{"model": "sandbox/draft", "prompt": "P"}"#, r#"{"model": "sandbox/standard", "prompt": "P"}"#),
        (
            OTHER,
            r#"{"model": "sandbox/draft", "prompt": "P", "size": "64x32"}"#,
            r#"{"model": "sandbox/draft", "prompt": "P", "size": "32x64"}"#,
        ),
        (
            OTHER,
            r#"{"model": "sandbox/draft", "prompt": "P", "seed": 9007199254740992}"#,
            r#"{"model": "sandbox/draft", "prompt": "P", "seed": 9007199254740993}"#,
        ),
        (
            OTHER,
            r#"{"model": "sandbox/draft", "prompt": "P"}"#,
            r#"{"model": "sandbox/draft", "prompt": "P", "seed": 0}"#,
        ),
        (
            OTHER,
            r#"{"model": "sandbox/draft", "prompt": "P", "seed": 20}"#,
            r#"{"model": "sandbox/draft", "prompt": "P", "steps": 20}"#,
        ),
        (
            OTHER,
            r#"{"model": "sandbox/draft", "prompt": "P"}"#,
            r#"{"model": "sandbox/draft", "prompt": "P", "output_format": "webp"}"#,
        ),
        (
            OTHER,
            r#"{"model": "openai/gpt-image-2", "prompt": "P", "quality": "low", "size": "1024x1024"}"#,
            r#"{"model": "openai/gpt-image-2", "prompt": "P", "quality": "medium", "size": "1024x1024"}"#,
        ),
    ];
    let world = World::new().await;
    let ask = |text: &str, index: usize| {
        // Each pair has a prompt of its own, so that none meets another's picture.
        let body = text.replacen("P", &format!("pair {index}"), 1);
        let request = world.client.post(format!("{}/v1/images/generations", world.gateway.url));
        crate::world::reply(request.header("content-type", "application/json").body(body))
    };
    let mut bills = 0;
    for (index, (meant, one, two)) in pairs.into_iter().enumerate() {
        assert_eq!(ask(one, index).await.expect(200).cache(), "miss", "{one}");
        assert_eq!(ask(two, index).await.expect(200).cache(), meant, "{one} and {two}");
        bills += if meant == SAME { 1 } else { 2 };
    }
    assert_eq!(world.book().await.len(), bills);
}
