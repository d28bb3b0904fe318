//! What the tests of the shapes share: providers at local addresses, jobs, and a server that answers as it is told.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::body::Body;
use axum::http::{Request, Response};
use bytes::Bytes;

use super::catalogue::Catalogue;
use super::registry::Registry;
use super::{Job, Model, Provider};
use crate::domain::{AttemptId, Digest, Fault, Format, Generated, ImageRequest, InputPicture, Picture, Progress};
use crate::secret::Environment;
use crate::settings;

/// The key that every provider here has, if it has one.
pub(super) const KEY: &str = "sk-very-secret-key-0123456789";

/// The provider `x` by a record at an address, with further settings in TOML.
pub(super) fn provider(record: &str, base_url: &str, settings: &str) -> Arc<Provider> {
    let text = format!("record = \"{record}\"\nbase_url = \"{base_url}\"\n{settings}\n");
    let configured: BTreeMap<String, settings::Provider> = [("x".to_owned(), toml::from_str(&text).unwrap())].into();
    let variables = [("OPENAI_API_KEY".to_owned(), KEY.to_owned())];
    let environment: Environment = variables.into_iter().collect();
    let registry = Registry::build(&configured, &environment, &Catalogue::embedded()).unwrap();
    Arc::clone(registry.provider("x").unwrap())
}

/// The provider `x` by a record of its own, at an address.
pub(super) fn recorded(record: &str, base_url: &str) -> Arc<Provider> {
    let mut catalogue = Catalogue::default();
    catalogue.add(record, "x.toml").unwrap();
    let settings = settings::Provider { base_url: Some(base_url.to_owned()), ..settings::Provider::default() };
    let environment: Environment = [("X_KEY".to_owned(), KEY.to_owned())].into_iter().collect();
    let registry = Registry::build(&[("x".to_owned(), settings)].into(), &environment, &catalogue).unwrap();
    Arc::clone(registry.provider("x").unwrap())
}

pub(super) const ATTEMPT: AttemptId = AttemptId(7);

/// Fits `request` to a model of `provider` and submits it. Partial pictures are collected.
pub(super) async fn submit(
    provider: &Provider,
    model: &str,
    request: &ImageRequest,
    n: u32,
    partials: Option<u8>,
) -> (Result<Generated, Fault>, Vec<Bytes>) {
    let model = provider.model(model).unwrap();
    let request = model.fit(request, &BTreeMap::new(), None).unwrap().request;
    let job = job(&model, &request, n, partials);
    let seen = Mutex::new(Vec::new());
    let progress = |news: Progress| {
        if let Progress::Partial { bytes, .. } = news {
            seen.lock().unwrap().push(bytes);
        }
    };
    let outcome = provider.submit(&job, &progress).await;
    (outcome, seen.into_inner().unwrap())
}

pub(super) fn job<'a>(model: &'a Model, request: &'a ImageRequest, n: u32, partials: Option<u8>) -> Job<'a> {
    Job { model, request, n, attempt: ATTEMPT, user: Some("user-1"), partials }
}

/// An input picture of that size; its bytes are not looked at here.
pub(super) fn input(bytes: &'static [u8], width: u32, height: u32) -> InputPicture {
    let bytes = Bytes::from_static(bytes);
    let digest = Digest::of(&bytes);
    InputPicture { picture: Picture { bytes, digest, format: Format::Png, width, height }, file_name: None }
}

/// A request as the server saw it.
#[derive(Clone, Debug)]
pub(super) struct Seen {
    pub method: String,
    pub path: String,
    pub query: Option<String>,
    pub headers: axum::http::HeaderMap,
    pub body: Bytes,
}

impl Seen {
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }

    pub(super) fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap()
    }
}

/// A server that answers as it is told and remembers what it was asked.
pub(super) struct Server {
    pub url: String,
    seen: Arc<Mutex<Vec<Seen>>>,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Server {
    pub(super) async fn start(answer: impl Fn(&Seen) -> Response<Body> + Clone + Send + Sync + 'static) -> Server {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let seen = Arc::new(Mutex::new(Vec::new()));
        let log = Arc::clone(&seen);
        let app = axum::Router::new().fallback(move |request: Request<Body>| {
            let (log, answer) = (Arc::clone(&log), answer.clone());
            async move {
                let (parts, body) = request.into_parts();
                let body = axum::body::to_bytes(body, usize::MAX).await.unwrap();
                let method = parts.method.to_string();
                let query = parts.uri.query().map(str::to_owned);
                let seen = Seen { method, query, path: parts.uri.path().to_owned(), headers: parts.headers, body };
                let response = answer(&seen);
                log.lock().unwrap().push(seen);
                response
            }
        });
        #[expect(clippy::disallowed_methods, reason = "a test's server is no paid work")]
        let task = tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
        Server { url, seen, task }
    }

    /// Ends it; its port answers nobody any more.
    pub(super) async fn stop(mut self) {
        self.task.abort();
        // The end of the task is what closes the port.
        let _ = (&mut self.task).await;
    }

    pub(super) fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }
}

/// An answer of that status with JSON.
pub(super) fn json(status: u16, value: &serde_json::Value) -> Response<Body> {
    typed(status, "application/json", value.to_string())
}

/// An answer of that status and media type.
pub(super) fn typed(status: u16, media_type: &str, body: impl Into<Body>) -> Response<Body> {
    Response::builder().status(status).header("content-type", media_type).body(body.into()).unwrap()
}

/// A sandbox without latency.
pub(super) async fn sandbox() -> mimeo_sandbox::Sandbox {
    mimeo_sandbox::start(mimeo_sandbox::Options { latency: Duration::ZERO, ..Default::default() }).await.unwrap()
}
