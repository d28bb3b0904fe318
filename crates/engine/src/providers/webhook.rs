//! Who says that a job has ended: a provider that calls back is believed only if it proves that it is the provider.
//!
//! A callback does no more than wake whoever asks for the job, so one that is repeated within its five minutes does
//! no harm.

use std::sync::Arc;

use reqwest::header::{HeaderMap, HeaderName};
use reqwest::{Method, Request, Url};
use ring::digest::{SHA256, digest};
use ring::hmac;
use ring::signature::{ED25519, UnparsedPublicKey};
use schemars::JsonSchema;
use serde::Deserialize;

use super::hex;
use crate::clock::Millis;
use crate::net::Clients;
use crate::net::document::{document, is_private};
use crate::secret::{Environment, Secret};

/// How far the time in a callback may be from ours, either way.
const SKEW_MS: Millis = 300_000;

/// How long public keys are believed.
const KEPT_MS: Millis = 24 * 3_600_000;

/// How long they are not asked for again, whatever comes in: a stranger must not make us a nuisance.
const REST_MS: Millis = 60_000;

/// How a provider calls back.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Webhook {
    /// How it proves that it is the provider.
    pub verifier: Proof,
    /// The header with the signature; not for `standard-webhooks`, which has its own.
    pub signature: Option<String>,
    /// Where its public keys are; only for `ed25519-jwks`.
    pub jwks: Option<String>,
    /// What is signed, joined by line ends: `body`, `sha256-hex:body` or `header:NAME`. By default the body.
    #[serde(default)]
    pub message: Vec<String>,
    /// The header with the time of the callback, in seconds since 1970.
    pub timestamp: Option<String>,
    /// The environment variable with the secret, where it is the account's. Without it, the secret is made for each job and
    /// told to the provider.
    pub secret_env: Option<String>,
}

impl Webhook {
    /// The account's secret, if it has one.
    pub(super) fn secret(&self, environment: &Environment) -> Option<Secret> {
        self.secret_env.as_deref().and_then(|name| environment.get(name)).map(str::trim).map(Secret::new)
    }
}

/// How a callback is proven to be the provider's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Proof {
    /// An HMAC over id, time and body, in the headers of the Standard Webhooks specification.
    StandardWebhooks,
    /// A signature with one of the keys that the provider publishes.
    Ed25519Jwks,
    /// An HMAC in hexadecimal digits, with `sha256=` before it or not.
    #[serde(rename = "hmac-sha256")]
    HmacSha256,
    /// Only that it knows an address with a secret in it.
    None,
}

/// What came in from somebody who says to be the provider.
#[derive(Clone, Copy, Debug)]
pub struct Delivery<'a> {
    /// Its headers.
    pub headers: &'a HeaderMap,
    /// Its body, byte for byte.
    pub body: &'a [u8],
    /// The secret part of the address that was called.
    pub word: Option<&'a str>,
}

/// Why a callback is not believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unverified {
    /// Its record knows of no callbacks.
    #[error("it is not known to call back")]
    Unexpected,
    /// The secret is missing here, or cannot be right.
    #[error("the secret for its callbacks is not configured, or is no such secret")]
    NoSecret,
    /// A header is missing, twice there or unreadable, or the secret word is.
    #[error("it lacks what would prove it")]
    Incomplete,
    /// The time in it is more than five minutes off.
    #[error("its time is more than five minutes off")]
    Stale,
    /// The signature is not the provider's.
    #[error("its signature is wrong")]
    Forged,
    /// The provider's public keys cannot be fetched. It may come again later.
    #[error("the provider's public keys cannot be fetched now")]
    NoKeys,
}

/// Verifies the callbacks of one provider, and remembers its public keys.
#[derive(Debug)]
pub struct Verifier {
    proof: Proof,
    signature: Option<HeaderName>,
    timestamp: Option<HeaderName>,
    message: Vec<Part>,
    jwks: Option<Url>,
    keys: tokio::sync::Mutex<Keys>,
}

#[derive(Debug)]
enum Part {
    Body,
    BodyDigest,
    Header(HeaderName),
}

/// Public keys, and when they came.
#[derive(Debug)]
struct Keys {
    keys: Arc<Vec<Vec<u8>>>,
    fetched: Millis,
    tried: Millis,
}

impl Verifier {
    /// What verifies callbacks as a record describes them.
    ///
    /// # Errors
    /// What is wrong with the description: names the field and says what to do.
    pub fn of(webhook: &Webhook) -> Result<Verifier, String> {
        let header =
            |name: &str| name.parse::<HeaderName>().map_err(|_| format!("webhook: \"{name}\" is no name of a header"));
        let optional = |name: &Option<String>| name.as_deref().map(header).transpose();
        let proof = webhook.verifier;
        let own_header = matches!(proof, Proof::Ed25519Jwks | Proof::HmacSha256);
        if webhook.signature.is_some() != own_header {
            return Err("webhook.signature names a header if, and only if, webhook.verifier is \"ed25519-jwks\" or \
                        \"hmac-sha256\""
                .to_owned());
        }
        if webhook.secret_env.is_some() && proof == Proof::Ed25519Jwks {
            return Err("webhook.secret_env is given, but public keys need no secret".to_owned());
        }
        if webhook.jwks.is_some() != (proof == Proof::Ed25519Jwks) {
            return Err("webhook.jwks goes with webhook.verifier = \"ed25519-jwks\", and with no other".to_owned());
        }
        if !own_header && (webhook.timestamp.is_some() || !webhook.message.is_empty()) {
            return Err("webhook.timestamp and webhook.message are not for this webhook.verifier".to_owned());
        }
        let part = |text: &String| match text.as_str() {
            "body" => Ok(Part::Body),
            "sha256-hex:body" => Ok(Part::BodyDigest),
            other => match other.strip_prefix("header:") {
                Some(name) => header(name).map(Part::Header),
                None => Err(format!("webhook.message: \"{other}\" is none of body, sha256-hex:body and header:NAME")),
            },
        };
        let mut message = webhook.message.iter().map(part).collect::<Result<Vec<_>, _>>()?;
        if message.is_empty() {
            message.push(Part::Body);
        }
        if !message.iter().any(|part| matches!(part, Part::Body | Part::BodyDigest)) {
            return Err("webhook.message does not cover the body; add \"sha256-hex:body\"".to_owned());
        }
        let jwks = webhook.jwks.as_deref().map(Url::parse).transpose();
        let jwks = jwks.map_err(|error| format!("webhook.jwks: {error}"))?;
        if jwks.as_ref().is_some_and(|url| !is_private(url)) {
            return Err("webhook.jwks must begin with https://, or anybody on the way could change the keys".to_owned());
        }
        Ok(Verifier {
            proof,
            signature: optional(&webhook.signature)?,
            timestamp: optional(&webhook.timestamp)?,
            message,
            jwks,
            keys: tokio::sync::Mutex::new(Keys { keys: Arc::default(), fetched: Millis::MIN, tried: Millis::MIN }),
        })
    }

    /// Is `delivery` the provider's? `secret` is the account's or the job's, whichever the record has.
    ///
    /// # Errors
    /// Why it is not believed.
    pub async fn verify(
        &self,
        delivery: Delivery<'_>,
        secret: Option<&Secret>,
        now: Millis,
        clients: &Clients,
    ) -> Result<(), Unverified> {
        match self.proof {
            Proof::None => {
                let secret = secret.ok_or(Unverified::NoSecret)?;
                let word = delivery.word.ok_or(Unverified::Incomplete)?;
                // Hashes of this kind are compared in constant time.
                let same = blake3::hash(word.as_bytes()) == blake3::hash(secret.reveal().as_bytes());
                if same { Ok(()) } else { Err(Unverified::Forged) }
            }
            Proof::StandardWebhooks => standard(&delivery, secret.ok_or(Unverified::NoSecret)?, now),
            Proof::HmacSha256 => {
                let key = secret.filter(|secret| !secret.reveal().is_empty()).ok_or(Unverified::NoSecret)?;
                let key = hmac::Key::new(hmac::HMAC_SHA256, key.reveal().as_bytes());
                let (message, signature) = self.signed(&delivery, now)?;
                let digits = signature.strip_prefix("sha256=").unwrap_or(signature);
                let signature = hex::decode(digits).ok_or(Unverified::Incomplete)?;
                hmac::verify(&key, &message, &signature).map_err(|_| Unverified::Forged)
            }
            Proof::Ed25519Jwks => {
                let (message, signature) = self.signed(&delivery, now)?;
                let base64 = || base64_simd::STANDARD.decode_to_vec(signature).ok();
                let signature = hex::decode(signature).or_else(base64).ok_or(Unverified::Incomplete)?;
                let fits = |keys: &[Vec<u8>]| {
                    keys.iter().any(|key| UnparsedPublicKey::new(&ED25519, key).verify(&message, &signature).is_ok())
                };
                let (keys, fetched) = self.keys(clients, now, None).await?;
                if fits(&keys) {
                    return Ok(());
                }
                // It may be a new key, since ours came.
                let (keys, _) = self.keys(clients, now, Some(fetched)).await?;
                if fits(&keys) { Ok(()) } else { Err(Unverified::Forged) }
            }
        }
    }

    /// What is signed, and the signature as it is written.
    fn signed<'a>(&self, delivery: &Delivery<'a>, now: Millis) -> Result<(Vec<u8>, &'a str), Unverified> {
        if let Some(name) = &self.timestamp {
            fresh(one(delivery.headers, name)?, now)?;
        }
        let mut message = Vec::with_capacity(delivery.body.len());
        for (index, part) in self.message.iter().enumerate() {
            if index > 0 {
                message.push(b'\n');
            }
            match part {
                Part::Body => message.extend_from_slice(delivery.body),
                Part::BodyDigest => {
                    message.extend_from_slice(hex::encode(digest(&SHA256, delivery.body).as_ref()).as_bytes());
                }
                Part::Header(name) => message.extend_from_slice(one(delivery.headers, name)?.as_bytes()),
            }
        }
        let name = self.signature.as_ref().ok_or(Unverified::Incomplete)?;
        Ok((message, one(delivery.headers, name)?))
    }

    /// The public keys, and when they came; fetched if they are too old, or not newer than `after`. One call at a
    /// time asks for them.
    async fn keys(
        &self,
        clients: &Clients,
        now: Millis,
        after: Option<Millis>,
    ) -> Result<(Arc<Vec<Vec<u8>>>, Millis), Unverified> {
        let mut held = self.keys.lock().await;
        let old = |held: &Keys| now.saturating_sub(held.fetched) >= KEPT_MS;
        let wanted = old(&held) || after.is_some_and(|after| held.fetched <= after);
        if wanted && now.saturating_sub(held.tried) >= REST_MS {
            held.tried = now;
            if let Some(keys) = self.fetch(clients).await {
                held.keys = Arc::new(keys);
                held.fetched = now;
            }
        }
        if old(&held) { Err(Unverified::NoKeys) } else { Ok((Arc::clone(&held.keys), held.fetched)) }
    }

    async fn fetch(&self, clients: &Clients) -> Option<Vec<Vec<u8>>> {
        #[derive(Deserialize)]
        struct Set {
            keys: Vec<Key>,
        }
        #[derive(Deserialize)]
        struct Key {
            #[serde(default)]
            crv: String,
            #[serde(default)]
            x: String,
        }
        let url = self.jwks.as_ref()?;
        let client = clients.for_base(url).ok()?;
        let answer = document(client, Request::new(Method::GET, url.clone())).await;
        let answer =
            answer.inspect_err(|why| tracing::warn!(%why, "public keys for callbacks cannot be fetched")).ok()?;
        let set: Set = serde_json::from_slice(&answer.body).ok().filter(|_| answer.status == 200)?;
        let ours = set.keys.iter().filter(|key| key.crv == "Ed25519");
        Some(
            ours.filter_map(|key| base64_simd::URL_SAFE_NO_PAD.decode_to_vec(key.x.trim_end_matches('=')).ok())
                .collect(),
        )
    }
}

/// The one value of a header.
fn one(headers: &HeaderMap, name: impl reqwest::header::AsHeaderName) -> Result<&str, Unverified> {
    let mut values = headers.get_all(name).iter();
    match (values.next(), values.next()) {
        (Some(value), None) => value.to_str().map_err(|_| Unverified::Incomplete),
        _ => Err(Unverified::Incomplete),
    }
}

fn fresh(seconds: &str, now: Millis) -> Result<(), Unverified> {
    let at: i64 = seconds.parse().map_err(|_| Unverified::Incomplete)?;
    let off = now.saturating_sub(at.saturating_mul(1000)).saturating_abs();
    if off <= SKEW_MS { Ok(()) } else { Err(Unverified::Stale) }
}

/// The Standard Webhooks specification: several signatures may stand beside each other while keys change.
fn standard(delivery: &Delivery<'_>, secret: &Secret, now: Millis) -> Result<(), Unverified> {
    let key = secret.reveal();
    let key = base64_simd::STANDARD.decode_to_vec(key.strip_prefix("whsec_").unwrap_or(key));
    let key = key.ok().filter(|key| !key.is_empty()).ok_or(Unverified::NoSecret)?;
    let key = hmac::Key::new(hmac::HMAC_SHA256, &key);
    let id = one(delivery.headers, "webhook-id")?;
    let time = one(delivery.headers, "webhook-timestamp")?;
    fresh(time, now)?;
    let message = [id.as_bytes(), b".", time.as_bytes(), b".", delivery.body].concat();
    let signatures = one(delivery.headers, "webhook-signature")?;
    let fits = |signature: &str| {
        let decoded = signature.strip_prefix("v1,").map(|text| base64_simd::STANDARD.decode_to_vec(text));
        decoded.and_then(Result::ok).is_some_and(|tag| hmac::verify(&key, &message, &tag).is_ok())
    };
    if signatures.split(' ').any(fits) { Ok(()) } else { Err(Unverified::Forged) }
}

#[cfg(test)]
#[path = "webhook_tests.rs"]
mod tests;
