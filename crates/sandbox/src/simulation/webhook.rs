//! Calling back: the end of a job is told to the address that came with it, signed as the provider signs.

use std::time::Duration;

use axum::body::Body;
use axum::http::{HeaderName, HeaderValue, Request, Uri, header};
use hyper_util::rt::TokioIo;
use minijinja::value::Value;
use ring::signature::{Ed25519KeyPair, KeyPair as _};
use ring::{digest, hmac};
use tokio::net::TcpStream;

use super::sheet::{Sheet, Signing, Webhook};
use super::wording::{Facts, text};
use crate::problem::Problem;
use crate::sale::unix_seconds;
use crate::shop::Shop;

/// How often a delivery is tried.
const TRIES: u32 = 3;

/// The time between two tries.
const BETWEEN: Duration = Duration::from_secs(1);

/// How long a receiver may take.
const PATIENCE: Duration = Duration::from_secs(15);

/// The seed of the key that signs with Ed25519. Its signatures protect nothing.
const SEED: [u8; 32] = *b"a simulated provider's signature";

/// Where the end of a job is told.
#[derive(Clone, Debug)]
pub(super) struct Callback {
    pub url: String,
    /// The caller's secret, or the account's.
    pub secret: Option<String>,
}

/// Tells the end of a job. Says whether the receiver answered with success.
pub(super) async fn deliver(shop: &Shop, sheet: &Sheet, callback: &Callback, mut facts: Facts) -> bool {
    let Some(webhook) = &sheet.webhook else {
        return false;
    };
    facts.insert("id", Value::from(format!("msg_{}", shop.next_name())));
    for attempt in 0..TRIES {
        if attempt > 0 {
            tokio::select! {
                () = tokio::time::sleep(BETWEEN) => {}
                () = shop.stop.cancelled() => return false,
            }
        }
        facts.insert("now", Value::from(unix_seconds()));
        let sent = tokio::time::timeout(PATIENCE, send(webhook, callback, &facts)).await;
        let delivered = sent.is_ok_and(|sent| sent.unwrap_or(false));
        shop.counters.call(delivered);
        if delivered {
            return true;
        }
    }
    false
}

async fn send(webhook: &Webhook, callback: &Callback, facts: &Facts) -> Result<bool, Problem> {
    let body = text(&webhook.body, facts)?;
    let headers = headers(webhook, callback.secret.as_deref(), facts, &body)?;
    let uri: Uri = callback.url.parse().map_err(Problem::broken)?;
    let host = uri.host().ok_or_else(|| Problem::broken("a webhook address without a host"))?;
    // Receivers of tests listen on the loopback address, without TLS.
    let stream = TcpStream::connect((host, uri.port_u16().unwrap_or(80))).await.map_err(Problem::broken)?;
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake::<_, Body>(TokioIo::new(stream)).await.map_err(Problem::broken)?;
    let mut request = Request::post(uri.path_and_query().map_or("/", |path| path.as_str()))
        .header(header::HOST, uri.authority().map_or(host, |authority| authority.as_str()))
        .header(header::CONTENT_TYPE, "application/json")
        .body(Body::from(body))
        .map_err(Problem::broken)?;
    for (name, value) in headers {
        let name = HeaderName::try_from(name).map_err(Problem::broken)?;
        request.headers_mut().insert(name, HeaderValue::try_from(value).map_err(Problem::broken)?);
    }
    tokio::pin!(connection);
    let answer = sender.send_request(request);
    tokio::pin!(answer);
    let answer = tokio::select! {
        answer = &mut answer => answer,
        // A connection that ends before the answer gives the answer its error.
        _ = &mut connection => answer.await,
    };
    Ok(answer.map_err(Problem::broken)?.status().is_success())
}

/// The headers of a delivery, the signature among them.
fn headers(
    webhook: &Webhook,
    secret: Option<&str>,
    facts: &Facts,
    body: &str,
) -> Result<Vec<(String, String)>, Problem> {
    let mut headers = Vec::new();
    for (name, template) in &webhook.headers {
        headers.push((name.to_ascii_lowercase(), text(template, facts)?));
    }
    let signature = webhook.signature.clone().unwrap_or_else(|| "x-signature".to_owned());
    match (webhook.sign, secret) {
        (Some(Signing::StandardWebhooks), Some(secret)) => {
            let id = facts.get("id").map(Value::to_string).unwrap_or_default();
            let now = unix_seconds();
            let key = secret.strip_prefix("whsec_").unwrap_or(secret);
            let key = base64_simd::STANDARD.decode_to_vec(key).map_err(Problem::broken)?;
            let mac = mac(&key, format!("{id}.{now}.{body}").as_bytes());
            let signed = base64_simd::STANDARD.encode_to_string(mac.as_ref());
            headers.push(("webhook-id".to_owned(), id));
            headers.push(("webhook-timestamp".to_owned(), now.to_string()));
            headers.push(("webhook-signature".to_owned(), format!("v1,{signed}")));
        }
        (Some(Signing::HmacSha256), Some(secret)) => {
            let mac = mac(secret.as_bytes(), body.as_bytes());
            headers.push((signature, format!("{}{}", webhook.prefix, hex(mac.as_ref()))));
        }
        (Some(Signing::Ed25519), _) => {
            let parts = webhook.message.iter().map(|part| match part.split_once(':') {
                Some(("header", name)) => {
                    let found = headers.iter().find(|(known, _)| known.eq_ignore_ascii_case(name));
                    found.map(|(_, value)| value.clone()).unwrap_or_default()
                }
                Some(("sha256-hex", _)) => hex(digest::digest(&digest::SHA256, body.as_bytes()).as_ref()),
                _ => body.to_owned(),
            });
            let message = parts.collect::<Vec<_>>().join("\n");
            let signed = pair()?.sign(message.as_bytes());
            headers.push((signature, format!("{}{}", webhook.prefix, hex(signed.as_ref()))));
        }
        // Who gave no secret gets no signature.
        _ => {}
    }
    Ok(headers)
}

/// The public key as a set of JSON web keys.
pub(super) fn keys() -> Result<serde_json::Value, Problem> {
    let public = base64_simd::URL_SAFE_NO_PAD.encode_to_string(pair()?.public_key().as_ref());
    Ok(
        serde_json::json!({ "keys": [{ "kty": "OKP", "crv": "Ed25519", "kid": "simulated", "use": "sig", "x": public }] }),
    )
}

fn pair() -> Result<Ed25519KeyPair, Problem> {
    Ed25519KeyPair::from_seed_unchecked(&SEED).map_err(Problem::broken)
}

fn mac(key: &[u8], message: &[u8]) -> hmac::Tag {
    hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), message)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
