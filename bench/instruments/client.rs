//! The client: as little as possible between a request and its last byte. One HTTP/1 connection per request in
//! flight, requests built before the clock starts, answers counted and thrown away.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http1::{self, SendRequest};
use hyper::header::{CONTENT_LENGTH, CONTENT_TYPE, HOST, HeaderName, HeaderValue};
use hyper::http::response::Parts;
use hyper::{HeaderMap, Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::Result;

/// An address to send requests to, with everything that is the same in all of them.
#[derive(Clone, Debug)]
pub struct Target {
    /// Where it listens.
    pub address: SocketAddr,
    /// The path of the URL.
    pub path: String,
    /// The model's name there.
    pub model: String,
    /// Further headers.
    pub headers: Vec<(HeaderName, HeaderValue)>,
}

impl Target {
    /// A target at `http://ADDR`, as servers print it.
    pub fn at(url: &str, path: &str, model: &str) -> Result<Self> {
        let address = url.strip_prefix("http://").unwrap_or(url).trim_end_matches('/').parse()?;
        let authorization = (hyper::header::AUTHORIZATION, HeaderValue::from_static("Bearer sk-simulated"));
        Ok(Self { address, path: path.into(), model: model.into(), headers: vec![authorization] })
    }

    /// A request for one picture of `size` pixels, as base64 in JSON (or as a URL).
    pub fn order(&self, prompt: &str, size: &str, format: &str) -> Result<Request<Full<Bytes>>> {
        let order = serde_json::json!({
            "model": self.model, "prompt": prompt, "n": 1, "size": size, "response_format": format,
        });
        let body = Bytes::from(order.to_string());
        let mut request = Request::builder()
            .method(Method::POST)
            .uri(&self.path)
            .header(HOST, self.address.to_string())
            .header(CONTENT_TYPE, "application/json");
        for (name, value) in &self.headers {
            request = request.header(name, value);
        }
        Ok(request.body(Full::new(body))?)
    }

    /// A GET of another path at the same address.
    pub fn get(&self, path: &str) -> Result<Request<Full<Bytes>>> {
        Ok(Request::get(path).header(HOST, self.address.to_string()).body(Full::default())?)
    }
}

/// A connection that carries one request at a time.
#[derive(Debug)]
pub struct Connection {
    address: SocketAddr,
    sender: SendRequest<Full<Bytes>>,
    // Owns the task that moves the bytes.
    /// Milliseconds that the last call spent on being made durable, as the gateway says in `server-timing`.
    pub commits: f64,
    _driver: JoinSet<()>,
}

impl Connection {
    /// Connects.
    pub async fn open(address: SocketAddr) -> Result<Self> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        let (sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        let mut driver = JoinSet::new();
        driver.spawn(async move {
            // Its end shows in the next request.
            let _ = connection.await;
        });
        Ok(Self { address, sender, commits: 0.0, _driver: driver })
    }

    /// Sends `request` and reads the answer to its end; returns how long that took. The answer must be a 200 with
    /// at least `least` bytes, and as long as it says it is.
    pub async fn time(&mut self, request: Request<Full<Bytes>>, least: usize) -> Result<Duration> {
        self.be_open().await?;
        let start = Instant::now();
        let response = self.sender.send_request(request).await?;
        let (head, mut body) = response.into_parts();
        let mut length = 0;
        if head.status == StatusCode::OK {
            while let Some(frame) = body.frame().await {
                length += frame?.data_ref().map_or(0, Bytes::len);
            }
        }
        let time = start.elapsed();
        if head.status != StatusCode::OK {
            let text = body.collect().await?.to_bytes();
            let text: String = String::from_utf8_lossy(&text).chars().take(400).collect();
            return Err(format!("http://{} answered {}: {text}", self.address, head.status).into());
        }
        let said = head.headers.get(CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse::<usize>().ok());
        if length < least || said.is_some_and(|said| said != length) {
            let message = format!("an answer of {length} bytes: at least {least} expected, {said:?} announced");
            return Err(message.into());
        }
        self.commits = commits(&head.headers);
        Ok(time)
    }

    /// Sends `request` and returns the body of the answer, whatever its status.
    pub async fn fetch(&mut self, request: Request<Full<Bytes>>) -> Result<(StatusCode, Bytes)> {
        let (head, body) = self.exchange(request).await?;
        Ok((head.status, body))
    }

    /// Sends `request` and returns the head and the body of the answer, whatever its status.
    pub async fn exchange(&mut self, request: Request<Full<Bytes>>) -> Result<(Parts, Bytes)> {
        self.be_open().await?;
        let (head, body) = self.sender.send_request(request).await?.into_parts();
        Ok((head, body.collect().await?.to_bytes()))
    }

    /// Servers close connections that idle while others are measured.
    async fn be_open(&mut self) -> Result<()> {
        if self.sender.ready().await.is_err() {
            *self = Self::open(self.address).await?;
        }
        Ok(())
    }
}

/// What several connections did at once.
#[derive(Debug, Default)]
pub struct Burst {
    /// Each request's time, in milliseconds.
    pub times: Vec<f64>,
    /// From the first request to the last byte, in seconds.
    pub seconds: f64,
}

impl Burst {
    /// Requests per second, from the first request to the last byte.
    pub fn rate(&self) -> f64 {
        self.times.len() as f64 / self.seconds
    }

    /// Requests per second of a loop that never ends, with `in_flight` connections that are always busy: by Little's
    /// law their number over the mean time of a request. Without the end, where fewer and fewer are busy and one slow
    /// request decides.
    pub fn steady_rate(&self, in_flight: usize) -> f64 {
        in_flight as f64 * 1e3 * self.times.len() as f64 / self.times.iter().sum::<f64>()
    }
}

/// One connection per row of requests, all rows at once.
pub async fn burst(address: SocketAddr, rows: Vec<Vec<Request<Full<Bytes>>>>, least: usize) -> Result<Burst> {
    let mut connections = Vec::with_capacity(rows.len());
    for _ in &rows {
        connections.push(Connection::open(address).await?);
    }
    let mut slots = JoinSet::new();
    let start = Instant::now();
    for (mut connection, row) in connections.into_iter().zip(rows) {
        slots.spawn(async move {
            let mut times = Vec::with_capacity(row.len());
            for request in row {
                times.push(connection.time(request, least).await?.as_secs_f64() * 1e3);
            }
            Ok::<_, Box<dyn std::error::Error + Send + Sync>>(times)
        });
    }
    let mut burst = Burst::default();
    while let Some(times) = slots.join_next().await {
        burst.times.extend(times??);
    }
    burst.seconds = start.elapsed().as_secs_f64();
    Ok(burst)
}

/// The phases `reserve` and `store` of a `server-timing` header: what a gateway waits for until the intent, the
/// picture and the settlement are as durable as they are to be. Zero where nobody says it.
fn commits(headers: &HeaderMap) -> f64 {
    let timing = headers.get("server-timing").and_then(|value| value.to_str().ok()).unwrap_or_default();
    let phase = |entry: &str| {
        let (name, time) = entry.trim().split_once(";dur=")?;
        matches!(name, "reserve" | "store").then(|| time.parse::<f64>().ok())?
    };
    timing.split(',').filter_map(phase).sum()
}
