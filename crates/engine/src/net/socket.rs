//! WebSockets through our own clients: the same certificates, proxies and credentials as every other request, and no
//! second way to encrypt.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt;
use reqwest::header::{CONNECTION, HeaderName, HeaderValue, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY};
use reqwest::header::{SEC_WEBSOCKET_VERSION, UPGRADE};
use reqwest::{Client, Request, StatusCode, Upgraded};
use ring::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
use tokio::time::timeout;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite;
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocketConfig};

use crate::domain::id;

/// How long one may take to come about.
const PATIENCE: Duration = Duration::from_secs(5);

/// Largest message, in bytes.
const LARGEST: usize = 32 << 20;

/// What the protocol appends to a key before it is hashed (RFC 6455).
const MAGIC: &str = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// A WebSocket that is listened to.
///
/// The lock is never taken: it only lets whoever holds the socket be shared between threads, which the connection
/// within cannot be.
pub struct Socket(Mutex<WebSocketStream<Upgraded>>);

/// What was heard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message {
    /// Text.
    Text(String),
    /// Bytes.
    Binary(Bytes),
}

impl Socket {
    /// Opens one with `request`, a GET with its credentials. It does not work through a connection that has become
    /// HTTP/2.
    ///
    /// # Errors
    /// A part of a sentence that says why not, without the address.
    pub async fn open(client: &Client, mut request: Request) -> Result<Socket, &'static str> {
        let key = base64_simd::STANDARD.encode_to_string(id::random().to_be_bytes());
        let accepts = base64_simd::STANDARD
            .encode_to_string(digest(&SHA1_FOR_LEGACY_USE_ONLY, format!("{key}{MAGIC}").as_bytes()));
        let own: [(HeaderName, &str); 4] =
            [(CONNECTION, "Upgrade"), (UPGRADE, "websocket"), (SEC_WEBSOCKET_VERSION, "13"), (SEC_WEBSOCKET_KEY, &key)];
        for (name, value) in own {
            request.headers_mut().insert(name, HeaderValue::from_str(value).map_err(|_| "a header cannot be sent")?);
        }
        let open = async {
            let response = client.execute(request).await.map_err(|_| "it cannot be reached")?;
            if response.status() != StatusCode::SWITCHING_PROTOCOLS {
                return Err("it does not switch protocols");
            }
            if response.headers().get(SEC_WEBSOCKET_ACCEPT).is_none_or(|value| value.as_bytes() != accepts.as_bytes()) {
                return Err("it does not speak the protocol");
            }
            response.upgrade().await.map_err(|_| "the connection broke")
        };
        let stream = timeout(PATIENCE, open).await.unwrap_or(Err("it does not answer in time"))?;
        let config = WebSocketConfig::default().max_message_size(Some(LARGEST)).max_frame_size(Some(LARGEST));
        Ok(Socket(Mutex::new(WebSocketStream::from_raw_socket(stream, Role::Client, Some(config)).await)))
    }

    /// The next message; `None` once the connection is over, for whatever reason. Nothing is lost when this is
    /// dropped before it is ready.
    pub async fn next(&mut self) -> Option<Message> {
        let stream = self.0.get_mut().unwrap_or_else(PoisonError::into_inner);
        loop {
            match stream.next().await? {
                Ok(tungstenite::Message::Text(text)) => return Some(Message::Text(text.as_str().to_owned())),
                Ok(tungstenite::Message::Binary(bytes)) => return Some(Message::Binary(bytes)),
                Ok(tungstenite::Message::Close(_)) | Err(_) => return None,
                // Pings are answered by the library.
                Ok(_) => {}
            }
        }
    }
}
