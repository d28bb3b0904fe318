//! A printing house: a provider of jobs that does exactly what a test tells it, and counts. And gateways that print
//! there, each in a runtime of its own, which can be dropped like a process that is killed.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Path as At, State};
use axum::http::{HeaderMap, StatusCode};
use axum::routing::{get, post};
use axum::{Json, Router};
use mimeo::app::{App, Blueprint, Ended, Stop};
use mimeo::clock::Clock;
use mimeo::config::{BlobPlace, Config, Environment};
use mimeo::http::KeyRing;
use mimeo::providers::{Catalogue, Registry};
use mimeo::render::{RenderOptions, Renderer};
use mimeo::route::Routes;
use serde_json::{Value, json};
use tokio::sync::watch;

/// How the house is spoken to. `{job}` is for what a test adds to `[job]`.
const RECORD: &str = r#"
name = "house"
title = "The printing house"
shape = "submit-poll"
docs = "https://house.example"
as_of = "2026-11-21"
certainty = "verified"
timeout_s = {timeout}
[auth]
scheme = "bearer"
optional = true
[wire]
generate = "/jobs"
[fields]
prompt = "prompt"
callback = "call"
callback_secret = "secret"
[result]
pictures = ["picture"]
[job]
id = "id"
poll_path = "/jobs/{id}"
status = "status"
waiting = ["waiting"]
running = ["drawing"]
done = ["done"]
failed = ["failed"]
cancelled = ["cancelled"]
progress = { at = "share", full = 1 }
position = "before"
cancel_path = "/jobs/{id}/cancel"
delay_ms = 10
most_ms = 600000
every_ms = {every}
keep_s = {keep}
[billing]
failed = false
refused = false
cancelled = false
[webhook]
verifier = "hmac-sha256"
signature = "x-signature"
[[models]]
id = "press"
[models.prices]
as_of = "2026-11-21"
certainty = "verified"
source = "agreed"
rates = { image = [{ usd = "0.05" }] }
"#;

/// One white pixel.
const PICTURE: &str = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAQAAAC1HAwCAAAAC0lEQVR42mNkYAAAAAYAAjCB0C8AAAAASUVORK5CYII=";

/// A job, as the house has it.
#[derive(Clone, Debug)]
pub struct Print {
    /// What it tells who asks: `status` and more.
    pub told: Value,
    /// How often it was asked for.
    pub polls: usize,
    /// How often it was told to stop.
    pub cancels: usize,
    /// Where to call back, and what to sign with.
    pub call: Option<(String, String)>,
}

impl Print {
    pub fn status(&self) -> &str {
        self.told["status"].as_str().unwrap_or("")
    }
}

/// The house. Cheap to clone.
#[derive(Clone)]
pub struct House {
    prints: Arc<watch::Sender<Vec<Print>>>,
    pub url: String,
    client: reqwest::Client,
    /// True if a job that is told to stop does.
    obeys: Arc<std::sync::atomic::AtomicBool>,
}

impl House {
    pub async fn open() -> House {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port is free");
        let house = House {
            prints: Arc::new(watch::channel(Vec::new()).0),
            url: format!("http://{}", listener.local_addr().expect("it is bound")),
            client: crate::world::reqwest_client(),
            obeys: Arc::new(true.into()),
        };
        let router = Router::new()
            .route("/jobs", post(submit))
            .route("/jobs/{id}", get(ask))
            .route("/jobs/{id}/cancel", post(cancel))
            .with_state(house.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        house
    }

    /// All jobs that it ever accepted.
    pub fn prints(&self) -> Vec<Print> {
        self.prints.borrow().clone()
    }

    /// Its jobs go on although they are told to stop.
    pub fn is_stubborn(&self) {
        self.obeys.store(false, std::sync::atomic::Ordering::SeqCst);
    }

    /// From now on who asks for the job `index` is told this.
    pub fn tell(&self, index: usize, told: Value) {
        self.prints.send_modify(|prints| prints[index].told = told);
    }

    /// The job `index` is done, and billed.
    pub fn finish(&self, index: usize) {
        self.tell(index, json!({ "status": "done", "picture": PICTURE }));
    }

    /// Waits until that can be said of its jobs. Bounded by 30 s.
    pub async fn until(&self, condition: impl Fn(&[Print]) -> bool) {
        let mut prints = self.prints.subscribe();
        let waited = tokio::time::timeout(Duration::from_secs(30), prints.wait_for(|prints| condition(prints))).await;
        assert!(waited.is_ok(), "it never came to be: {:?}", self.prints());
    }

    /// Waits until the job `index` was asked for so many times more.
    pub async fn asked_again(&self, index: usize, times: usize) {
        let before = self.prints().get(index).map_or(0, |print| print.polls);
        self.until(|prints| prints.get(index).is_some_and(|print| print.polls >= before + times)).await;
    }

    /// Calls back about the job `index`: the status of the answer. Without a secret it does not sign.
    pub async fn call_back(&self, address: &str, secret: Option<&str>) -> u16 {
        let body = json!({ "status": "failed", "picture": "nothing to be believed" }).to_string();
        let mut request = self.client.post(address).body(body.clone());
        if let Some(secret) = secret {
            let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, secret.as_bytes());
            let tag = ring::hmac::sign(&key, body.as_bytes());
            let hex: String = tag.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
            request = request.header("x-signature", format!("sha256={hex}"));
        }
        request.send().await.expect("the gateway is there").status().as_u16()
    }
}

async fn submit(State(house): State<House>, Json(body): Json<Value>) -> Json<Value> {
    let text = |name: &str| body[name].as_str().map(str::to_owned);
    let told = json!({ "status": "waiting", "before": 2 });
    let mut id = 0;
    house.prints.send_modify(|prints| {
        id = prints.len();
        prints.push(Print { told, polls: 0, cancels: 0, call: text("call").zip(text("secret")) });
    });
    Json(json!({ "id": id.to_string(), "status": "waiting", "before": 3 }))
}

async fn ask(State(house): State<House>, At(id): At<usize>) -> Result<Json<Value>, StatusCode> {
    let mut told = Err(StatusCode::NOT_FOUND);
    house.prints.send_modify(|prints| {
        if let Some(print) = prints.get_mut(id) {
            print.polls += 1;
            told = Ok(Json(print.told.clone()));
        }
    });
    told
}

async fn cancel(State(house): State<House>, At(id): At<usize>, _: HeaderMap) -> StatusCode {
    let obeys = house.obeys.load(std::sync::atomic::Ordering::SeqCst);
    house.prints.send_modify(|prints| {
        if let Some(print) = prints.get_mut(id) {
            print.cancels += 1;
            if obeys && matches!(print.status(), "waiting" | "drawing") {
                print.told = json!({ "status": "cancelled" });
            }
        }
    });
    StatusCode::ACCEPTED
}

/// What the house is like for its gateways.
#[derive(Clone, Copy)]
pub struct Terms {
    /// How long one call may take, in seconds.
    pub timeout_s: u32,
    /// How long a job can be asked for, in seconds.
    pub keep_s: u32,
    /// How long between asking, in milliseconds.
    pub every_ms: u32,
}

impl Default for Terms {
    fn default() -> Self {
        Terms { timeout_s: 60, keep_s: 600, every_ms: 20 }
    }
}

/// A gateway that prints at the house.
pub struct Gateway {
    runtime: Option<tokio::runtime::Runtime>,
    serving: Option<tokio::task::JoinHandle<Ended>>,
    stop: Stop,
    pub url: String,
    pub client: reqwest::Client,
}

impl Gateway {
    /// Opens one on the data in `folder`, beside others that may be there. `{url}` in `config` is its own address.
    pub async fn open(folder: &Path, house: &House, terms: Terms, config: &str) -> Gateway {
        let record = RECORD
            .replace("{timeout}", &terms.timeout_s.to_string())
            .replace("{keep}", &terms.keep_s.to_string())
            .replace("{every}", &terms.every_ms.to_string());
        let base = format!(
            "[storage]\npath = '{}'\ndurability = 'process'\n[providers.house]\nbase_url = '{}'\n",
            folder.display(),
            house.url
        );
        let config = base + config;
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime");
        let stop = Stop::default();
        let stopped = stop.clone();
        let (listening, listens) = tokio::sync::oneshot::channel();
        let serving = runtime.spawn(async move {
            let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port is free");
            let url = format!("http://{}", listener.local_addr().expect("it is bound"));
            let app = App::open(blueprint(&config.replace("{url}", &url), &record), Clock::System).expect("it opens");
            app.begin().await.expect("it begins");
            listening.send(url).expect("somebody waits");
            Box::pin(app.serve(listener, stopped)).await
        });
        let url = listens.await.expect("it listens");
        Gateway { runtime: Some(runtime), serving: Some(serving), stop, url, client: crate::world::reqwest_client() }
    }

    /// Ends it in the middle of whatever it does.
    pub async fn kill(mut self) {
        if let Some(runtime) = self.runtime.take() {
            // All its tasks are dropped where they stand.
            let dropped = tokio::task::spawn_blocking(move || runtime.shutdown_timeout(Duration::from_secs(10)));
            dropped.await.expect("it ends");
        }
    }

    /// Asks it to stop, as SIGTERM does, and waits until it has.
    pub async fn drain(mut self) {
        self.stop.asked.cancel();
        if let Some(serving) = self.serving.take() {
            assert_eq!(serving.await.expect("it ends"), Ended::InTime);
        }
        self.kill().await;
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

fn blueprint(config: &str, record: &str) -> Blueprint {
    let file = Path::new("test.toml");
    let config = Config::parse(config, file).unwrap_or_else(|faults| panic!("{faults:?}"));
    let mut catalogue = Catalogue::default();
    catalogue.add(record, "house.toml").unwrap_or_else(|fault| panic!("{fault}"));
    let registry = Registry::build(&config.providers, &Environment::default(), &catalogue).expect("it is configured");
    let renderer = Arc::new(Renderer::new(RenderOptions::default()).expect("the templates are good"));
    let routes = Routes::new(registry, &BTreeMap::new(), Arc::clone(&renderer)).expect("there are none");
    Blueprint {
        blobs: BlobPlace::Folder(config.storage.path.join("blobs")),
        routes: Arc::new(routes),
        renderer,
        redis: None,
        keys: KeyRing::default(),
        storage_url: None,
        catalogue,
        config,
        catalogue,
    }
}
