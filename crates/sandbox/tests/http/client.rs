//! A client so plain that it sees broken answers as they are.

use std::collections::HashMap;

use mimeo_sandbox::Sandbox;
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// What came over the connection until it ended.
#[derive(Debug)]
pub(crate) struct Answer {
    /// 0 if nothing came.
    pub status: u16,
    pub headers: HashMap<String, String>,
    pub body: Vec<u8>,
}

impl Answer {
    pub(crate) fn parse(raw: &[u8]) -> Self {
        let Some(end) = raw.windows(4).position(|four| four == b"\r\n\r\n") else {
            return Self { status: 0, headers: HashMap::new(), body: Vec::new() };
        };
        let head = String::from_utf8(raw[..end].to_vec()).unwrap();
        let mut lines = head.split("\r\n");
        let status = lines.next().unwrap()[9..12].parse().unwrap();
        let headers = lines.map(|line| line.split_once(": ").unwrap());
        let headers = headers.map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
        Self { status, headers, body: raw[end + 4..].to_vec() }
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }

    pub(crate) fn code(&self) -> String {
        self.json()["error"]["code"].as_str().unwrap_or_default().to_owned()
    }

    /// Picture `index` of an answer with base64, decoded.
    pub(crate) fn picture(&self, index: usize) -> Vec<u8> {
        let document = self.json();
        let text = document["data"][index]["b64_json"].as_str().unwrap();
        base64_simd::STANDARD.decode_to_vec(text).unwrap()
    }

    pub(crate) fn whole(&self) -> bool {
        self.headers["content-length"] == self.body.len().to_string()
    }
}

pub(crate) async fn request(sandbox: &Sandbox, head: &str, body: &[u8]) -> Answer {
    let mut stream = TcpStream::connect(sandbox.addr()).await.unwrap();
    let length = body.len();
    let head = format!("{head}\r\nHost: {}\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n", sandbox.addr());
    stream.write_all(head.as_bytes()).await.unwrap();
    stream.write_all(body).await.unwrap();
    let mut raw = Vec::new();
    // A connection that is reset ends the answer just as one that is closed.
    let _ = stream.read_to_end(&mut raw).await;
    Answer::parse(&raw)
}

pub(crate) async fn post(sandbox: &Sandbox, path: &str, body: &Value) -> Answer {
    let head = format!(
        "POST {path} HTTP/1.1\r\nAuthorization: Bearer sk-test\r\nContent-Type: application/json\r\nx-client-request-id: try-1"
    );
    request(sandbox, &head, body.to_string().as_bytes()).await
}

pub(crate) async fn get(sandbox: &Sandbox, path: &str) -> Answer {
    request(sandbox, &format!("GET {path} HTTP/1.1\r\nAuthorization: Bearer sk-test"), b"").await
}

pub(crate) fn size_of_png(file: &[u8]) -> (u32, u32) {
    let reader = png::Decoder::new(std::io::Cursor::new(file)).read_info().unwrap();
    (reader.info().width, reader.info().height)
}
