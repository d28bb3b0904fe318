//! What the tests of buckets speak to: an S3 server in a process of its own, and a server in front of it
//! that does with answers what networks and stores do.

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};

use axum::body::Body;
use axum::http::{HeaderMap, Method, Request, Response, Uri};
use bytes::Bytes;

use crate::config::{BlobPlace, Environment};
use crate::net::client::Clients;

/// A secret that must not be in any message.
pub(super) const SECRET: &str = "a-very-secret-key-0123456789";

/// An S3 server. Killed when dropped.
pub(super) struct S3Server {
    pub(super) url: String,
    child: Child,
}

/// The command of the S3 server. There is no doing without it: what is said of S3 must hold against one.
fn command() -> PathBuf {
    let target = std::env::var_os("CARGO_TARGET_DIR").map(PathBuf::from);
    let target = target.unwrap_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target"));
    let installed = target.join("engines/python/bin/moto_server");
    match std::env::var_os("MIMEO_TEST_MOTO") {
        Some(named) => PathBuf::from(named),
        None if installed.exists() => installed,
        None => PathBuf::from("moto_server"),
    }
}

impl S3Server {
    pub(super) fn start() -> S3Server {
        let command = command();
        let mut child = Command::new(&command)
            .args(["-H", "127.0.0.1", "-p", "0"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| {
                panic!(
                    "{} does not start ({error}). These tests need an S3 server: install the Python package \
                     moto[s3,server], or name its moto_server in MIMEO_TEST_MOTO",
                    command.display()
                )
            });
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines().map_while(Result::ok);
        let mut said = String::new();
        let url = loop {
            let Some(line) = lines.next() else { panic!("the S3 server ended before it listened:\n{said}") };
            if let Some((_, url)) = line.split_once("Running on ") {
                break url.trim().to_owned();
            }
            said.push_str(&line);
            said.push('\n');
        };
        // It writes a line per request; a full pipe would stop it.
        std::thread::spawn(move || lines.for_each(drop));
        S3Server { url, child }
    }

    pub(super) async fn create_bucket(&self, name: &str) {
        self.object(Method::PUT, name, Bytes::new()).await;
    }

    /// A request behind the back of everybody; the server wants a signature and does not check it.
    pub(super) async fn object(&self, method: Method, path: &str, body: Bytes) -> Bytes {
        let url = format!("{}/{path}", self.url);
        let clients = Clients::default();
        let signature =
            "AWS4-HMAC-SHA256 Credential=x/20260101/us-east-1/s3/aws4_request, SignedHeaders=host, Signature=0";
        let request = clients.plain().unwrap().request(method, url).header("authorization", signature);
        let answer = request.body(body).send().await.unwrap();
        assert!(answer.status().is_success(), "{path}: {}", answer.status());
        answer.bytes().await.unwrap()
    }

    pub(super) fn stop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for S3Server {
    fn drop(&mut self) {
        self.stop();
    }
}

/// A place in a bucket of the S3 server at `endpoint`.
pub(super) fn place(url: &str, endpoint: &str) -> BlobPlace {
    let settings = [
        ("AWS_ACCESS_KEY_ID", "mimeo"),
        ("AWS_SECRET_ACCESS_KEY", SECRET),
        ("AWS_ENDPOINT_URL", endpoint),
        ("AWS_ALLOW_HTTP", "true"),
    ];
    BlobPlace::parse(url, &environment(&settings)).unwrap()
}

pub(super) fn environment(settings: &[(&str, &str)]) -> Environment {
    settings.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

/// A request as the server in front saw it.
#[derive(Clone, Debug)]
pub(super) struct Seen {
    pub(super) method: Method,
    pub(super) uri: Uri,
    pub(super) headers: HeaderMap,
}

type Answer = Response<Body>;

/// What to do with the answer to a request.
type Meddle = Box<dyn FnMut(&Seen, Answer) -> Answer + Send>;

/// A server in front of another, or of none.
pub(super) struct Front {
    pub(super) url: String,
    shared: Arc<Shared>,
    task: tokio::task::JoinHandle<()>,
}

struct Shared {
    behind: Option<String>,
    clients: Clients,
    seen: Mutex<Vec<Seen>>,
    meddle: Mutex<Option<Meddle>>,
    /// S3 decides one conditional write after the other; the simulated one does not promise it.
    conditional: tokio::sync::Mutex<()>,
}

impl Front {
    /// Passes everything on to the server at `behind`; without one every answer is 404.
    pub(super) async fn start(behind: Option<&str>) -> Front {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let shared = Arc::new(Shared {
            behind: behind.map(str::to_owned),
            clients: Clients::default(),
            seen: Mutex::default(),
            meddle: Mutex::default(),
            conditional: tokio::sync::Mutex::default(),
        });
        let at_work = Arc::clone(&shared);
        let app = axum::Router::new().fallback(move |request: Request<Body>| {
            let shared = Arc::clone(&at_work);
            async move { shared.answer(request).await }
        });
        #[expect(clippy::disallowed_methods, reason = "a test's server is no paid work")]
        let task = tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
        Front { url, shared, task }
    }

    /// From now on answers are what `meddle` makes of them.
    pub(super) fn meddle(&self, meddle: impl FnMut(&Seen, Answer) -> Answer + Send + 'static) {
        *self.shared.meddle.lock().unwrap() = Some(Box::new(meddle));
    }

    /// What was asked since the last time.
    pub(super) fn seen(&self) -> Vec<Seen> {
        std::mem::take(&mut *self.shared.seen.lock().unwrap())
    }
}

impl Drop for Front {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Shared {
    async fn answer(&self, request: Request<Body>) -> Answer {
        let (parts, body) = request.into_parts();
        let body = axum::body::to_bytes(body, usize::MAX).await.unwrap();
        let _one_after_the_other = match parts.headers.contains_key("if-none-match") {
            true => Some(self.conditional.lock().await),
            false => None,
        };
        let seen = Seen { method: parts.method, uri: parts.uri, headers: parts.headers };
        let answer = match &self.behind {
            Some(behind) => self.pass_on(behind, &seen, body).await,
            None => answer(404, ""),
        };
        self.seen.lock().unwrap().push(seen.clone());
        match self.meddle.lock().unwrap().as_mut() {
            Some(meddle) => meddle(&seen, answer),
            None => answer,
        }
    }

    async fn pass_on(&self, behind: &str, seen: &Seen, body: Bytes) -> Answer {
        let url = format!("{behind}{}", seen.uri);
        let request = self.clients.plain().unwrap().request(seen.method.clone(), url);
        let answer = request.headers(seen.headers.clone()).body(body).send().await.unwrap();
        let mut passed = Response::builder().status(answer.status());
        *passed.headers_mut().unwrap() = answer.headers().clone();
        // How the bytes travel on from here is decided anew.
        passed.headers_mut().unwrap().remove("transfer-encoding");
        passed.body(Body::from(answer.bytes().await.unwrap())).unwrap()
    }
}

/// An answer with an error code, as these stores write it.
pub(super) fn answer(status: u16, code: &str) -> Answer {
    let body = format!("<?xml version=\"1.0\"?><Error><Code>{code}</Code><Message>{SECRET}</Message></Error>");
    Response::builder().status(status).body(Body::from(body)).unwrap()
}
