//! Requests that carry a signature over themselves (AWS Signature Version 4).
//!
//! By hand, with `ring`: the crate for it brings fourteen others, and what `object_store` has takes the time from the
//! machine instead of from the clock.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use reqwest::Request;
use reqwest::header::{AUTHORIZATION, HeaderMap, HeaderName, HeaderValue};
use ring::digest::{SHA256, digest};
use ring::hmac;

use crate::clock::Millis;
use crate::providers::hex;
use crate::secret::Secret;

const ALGORITHM: &str = "AWS4-HMAC-SHA256";
const DATE: HeaderName = HeaderName::from_static("x-amz-date");
const SESSION: HeaderName = HeaderName::from_static("x-amz-security-token");

/// Headers that something on the way may change or add.
const UNSIGNED: &[&str] =
    &["authorization", "connection", "content-length", "expect", "transfer-encoding", "user-agent", "x-amzn-trace-id"];

/// What every part of an address is encoded with, and with `/` for paths.
const STRICT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');
const STRICT_PATH: &AsciiSet = &STRICT.remove(b'/');

/// Signs the calls of one account.
pub(super) struct Signer {
    pub access_key_id: String,
    pub secret_key: Secret,
    pub session_token: Option<Secret>,
    pub region: String,
    pub service: String,
}

impl Signer {
    /// Signs `request`: method, address, headers as they are now, and body.
    ///
    /// # Errors
    /// Part of a sentence: why not.
    pub(super) fn sign(&self, request: &mut Request, now: Millis) -> Result<(), &'static str> {
        let time = jiff::Timestamp::from_millisecond(now).map_err(|_| "the machine's clock is wrong")?;
        let stamp = time.strftime("%Y%m%dT%H%M%SZ").to_string();
        let date = stamp.get(..8).unwrap_or_default();
        let unsendable = |_| "a header of it cannot be sent";
        request.headers_mut().insert(DATE, HeaderValue::from_str(&stamp).map_err(unsendable)?);
        if let Some(token) = &self.session_token {
            let mut token = HeaderValue::from_str(token.reveal()).map_err(unsendable)?;
            token.set_sensitive(true);
            request.headers_mut().insert(SESSION, token);
        }
        let (canonical, names) = canonical(request)?;
        let scope = format!("{date}/{}/{}/aws4_request", self.region, self.service);
        let statement =
            format!("{ALGORITHM}\n{stamp}\n{scope}\n{}", hex::encode(digest(&SHA256, canonical.as_bytes()).as_ref()));
        let signature = hex::encode(mac(self.key(date).as_ref(), &statement).as_ref());
        let id = &self.access_key_id;
        let value = format!("{ALGORITHM} Credential={id}/{scope}, SignedHeaders={names}, Signature={signature}");
        let mut value = HeaderValue::from_str(&value).map_err(unsendable)?;
        value.set_sensitive(true);
        request.headers_mut().insert(AUTHORIZATION, value);
        Ok(())
    }

    /// The key that signs on that day, in that region, for that service.
    fn key(&self, date: &str) -> hmac::Tag {
        let first = mac(format!("AWS4{}", self.secret_key.reveal()).as_bytes(), date);
        [self.region.as_str(), self.service.as_str(), "aws4_request"]
            .into_iter()
            .fold(first, |key, part| mac(key.as_ref(), part))
    }
}

fn mac(key: &[u8], text: &str) -> hmac::Tag {
    hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), text.as_bytes())
}

/// The text that stands for the request, and the names of the headers in it.
fn canonical(request: &Request) -> Result<(String, String), &'static str> {
    let body = match request.body() {
        None => &[][..],
        Some(body) => body.as_bytes().ok_or("its body is a stream")?,
    };
    let url = request.url();
    let host = url.host_str().ok_or("its address has no host")?;
    let host = url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"));
    let headers = signed(request.headers(), host)?;
    let names = headers.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>().join(";");
    let mut text = String::with_capacity(512);
    // The path is encoded once more, although it is already: all services but one expect it so.
    text.extend([request.method().as_str(), "\n"]);
    text.extend(utf8_percent_encode(url.path(), STRICT_PATH));
    text.extend(["\n", &query(url.query().unwrap_or_default()), "\n"]);
    for (name, value) in &headers {
        text.extend([name, ":", value, "\n"]);
    }
    text.extend(["\n", &names, "\n", &hex::encode(digest(&SHA256, body).as_ref())]);
    Ok((text, names))
}

/// The headers to be signed, in their order: several values of one are joined, runs of spaces are one space.
fn signed(headers: &HeaderMap, host: String) -> Result<Vec<(String, String)>, &'static str> {
    let mut signed = vec![("host".to_owned(), host)];
    for name in headers.keys().filter(|name| !UNSIGNED.contains(&name.as_str()) && *name != "host") {
        let mut values = Vec::new();
        for value in headers.get_all(name) {
            let value = value.to_str().map_err(|_| "a header of it is not plain text")?;
            values.push(value.split_ascii_whitespace().collect::<Vec<_>>().join(" "));
        }
        signed.push((name.as_str().to_owned(), values.join(",")));
    }
    signed.sort();
    Ok(signed)
}

fn query(query: &str) -> String {
    let encode = |text: &str| {
        let raw: Vec<u8> = percent_decode_str(text).collect();
        percent_encoding::percent_encode(&raw, STRICT).to_string()
    };
    let mut pairs: Vec<(String, String)> = query
        .split('&')
        .filter(|pair| !pair.is_empty())
        .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
        .map(|(name, value)| (encode(name), encode(value)))
        .collect();
    pairs.sort();
    pairs.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join("&")
}

#[cfg(test)]
#[path = "aws_tests.rs"]
mod tests;
