//! Documents of services beside the providers, such as access tokens, public keys and lists of prices: bounded in size
//! and time.

use std::time::Duration;

use reqwest::header::HeaderMap;
use reqwest::{Client, Request, Url};
use tokio::time::timeout;

/// How much of a document is read, and how long it may take, connection included.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Largest document, in bytes.
    pub bytes: usize,
    /// The longest that it may take to be there as a whole.
    pub time: Duration,
}

impl Bounds {
    /// For what a paid call waits for.
    pub const SMALL: Bounds = Bounds { bytes: 256 << 10, time: Duration::from_secs(15) };
    /// For what nobody waits for: the public lists of prices have a few megabytes.
    pub const LARGE: Bounds = Bounds { bytes: 32 << 20, time: Duration::from_secs(120) };
}

/// What a service answered.
#[derive(Clone, Debug)]
pub struct Document {
    /// The HTTP status.
    pub status: u16,
    /// The headers.
    pub headers: HeaderMap,
    /// The whole body.
    pub body: Vec<u8>,
}

/// Sends `request` once and reads the answer, whatever its status, within [`Bounds::SMALL`].
///
/// # Errors
/// A part of a sentence that says why there is no answer. It holds neither the address nor a secret.
pub async fn document(client: &Client, request: Request) -> Result<Document, &'static str> {
    document_within(Bounds::SMALL, client, request).await
}

/// The same, within other bounds.
///
/// # Errors
/// As [`document`].
pub async fn document_within(bounds: Bounds, client: &Client, request: Request) -> Result<Document, &'static str> {
    let exchange = async {
        let mut response = client.execute(request).await.map_err(|error| {
            tracing::debug!(error = ?error.without_url(), "a document could not be fetched");
            "it cannot be reached"
        })?;
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        let mut body = Vec::new();
        while let Some(piece) = response.chunk().await.map_err(|_| "the connection broke")? {
            if body.len() + piece.len() > bounds.bytes {
                return Err("its answer is too large");
            }
            body.extend_from_slice(&piece);
        }
        Ok(Document { status, headers, body })
    };
    timeout(bounds.time, exchange).await.unwrap_or(Err("it does not answer in time"))
}

/// May a secret be sent to `url`, or a key be believed that comes from there? Only over TLS, or if it does not
/// leave this machine.
pub fn is_private(url: &Url) -> bool {
    let local = || {
        let host = url.host_str().unwrap_or_default();
        let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        host == "localhost" || bare.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
    };
    url.scheme() == "https" || (url.scheme() == "http" && local())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_private() {
        for (url, expected) in [
            ("https://id.example.com/token", true),
            ("http://127.0.0.1:9/token", true),
            ("http://[::1]:9/token", true),
            ("http://localhost/token", true),
            ("http://id.example.com/token", false),
            ("http://localhost.example.com/token", false),
            ("http://10.0.0.1/token", false),
            ("file:///token", false),
        ] {
            assert_eq!(is_private(&url.parse().unwrap()), expected, "{url}");
        }
    }
}
