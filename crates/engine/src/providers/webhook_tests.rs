use std::collections::BTreeMap;
use std::sync::Mutex;

use proptest::prelude::*;
use reqwest::header::HeaderValue;
use ring::signature::{Ed25519KeyPair, KeyPair};
use serde_json::json;

use super::*;
use crate::providers::testing::{self, Server};
use crate::providers::{Catalogue, Registry};

const NOW: Millis = 1_700_000_000_000;
const BODY: &[u8] = br#"{"request_id":"r-1","status":"OK"}"#;

fn verifier(text: &str) -> Result<Verifier, String> {
    Verifier::of(&toml::from_str(text).map_err(|error| error.to_string())?)
}

fn headers(pairs: &[(&str, &str)]) -> HeaderMap {
    let pair =
        |(name, value): &(&str, &str)| (name.parse::<HeaderName>().unwrap(), value.parse::<HeaderValue>().unwrap());
    pairs.iter().map(pair).collect()
}

async fn verify(verifier: &Verifier, headers: &HeaderMap, body: &[u8], secret: Option<&str>) -> Result<(), Unverified> {
    let delivery = Delivery { headers, body, word: None };
    verifier.verify(delivery, secret.map(Secret::new).as_ref(), NOW, &Clients::default()).await
}

fn block_on<F: Future>(future: F) -> F::Output {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}

fn mac(key: &[u8], message: &[u8]) -> Vec<u8> {
    hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), message).as_ref().to_vec()
}

/// `bytes` with bit `at` (modulo their number) turned over.
fn flipped(bytes: &[u8], at: usize) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    let at = at % (8 * bytes.len());
    bytes[at / 8] ^= 1 << (at % 8);
    bytes
}

/// A pair from a fixed seed.
fn pair(seed: u8) -> Ed25519KeyPair {
    Ed25519KeyPair::from_seed_unchecked(&[seed; 32]).unwrap()
}

fn jwk(pair: &Ed25519KeyPair) -> serde_json::Value {
    let x = base64_simd::URL_SAFE_NO_PAD.encode_to_string(pair.public_key().as_ref());
    json!({ "kty": "OKP", "crv": "Ed25519", "x": x })
}

/// A server of the public keys that it is told to have; none is an outage.
async fn key_server(keys: &Arc<Mutex<Option<Vec<serde_json::Value>>>>) -> Server {
    let keys = Arc::clone(keys);
    Server::start(move |_| match &*keys.lock().unwrap() {
        Some(keys) => testing::json(200, &json!({ "keys": keys })),
        None => testing::json(503, &json!({})),
    })
    .await
}

fn published(keys: &[serde_json::Value]) -> Arc<Mutex<Option<Vec<serde_json::Value>>>> {
    Arc::new(Mutex::new(Some(keys.to_vec())))
}

fn ed25519(server: &Server) -> Verifier {
    let text = format!(
        "verifier = 'ed25519-jwks'\nsignature = 'x-signature'\njwks = '{}/jwks.json'\ntimestamp = 'x-time'\n\
         message = ['header:x-id', 'header:x-time', 'sha256-hex:body']",
        server.url
    );
    verifier(&text).unwrap()
}

/// The headers of a callback that `pair` signs.
fn by(pair: &Ed25519KeyPair, id: &str, seconds: &str, body: &[u8]) -> HeaderMap {
    let message = format!("{id}\n{seconds}\n{}", hex::encode(digest(&SHA256, body).as_ref()));
    let signature = hex::encode(pair.sign(message.as_bytes()).as_ref());
    headers(&[("x-id", id), ("x-time", seconds), ("x-signature", &signature)])
}

#[tokio::test]
async fn the_published_example_of_standard_webhooks() {
    let verifier = verifier("verifier = 'standard-webhooks'").unwrap();
    let secret = Secret::new("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw");
    let body = br#"{"test": 2432232314}"#;
    let with = |signature: &str| {
        headers(&[
            ("webhook-id", "msg_p5jXN8AQM9LWM0D4loKWxJek"),
            ("webhook-timestamp", "1614265330"),
            ("webhook-signature", signature),
        ])
    };
    let ask = async |signature: &str, now| {
        let headers = with(signature);
        let delivery = Delivery { headers: &headers, body, word: None };
        verifier.verify(delivery, Some(&secret), now, &Clients::default()).await
    };
    let good = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=";
    let at = 1_614_265_330_000;
    assert_eq!(ask(good, at).await, Ok(()));
    let beside = format!("v1a,xxx v1,{} {good}", base64_simd::STANDARD.encode_to_string([7; 32]));
    assert_eq!(ask(&beside, at).await, Ok(()));
    assert_eq!(ask(&good.replace("v1,", "v2,"), at).await, Err(Unverified::Forged));
    assert_eq!((ask(good, at + 300_000).await, ask(good, at - 300_000).await), (Ok(()), Ok(())));
    assert_eq!(ask(good, at + 300_001).await, Err(Unverified::Stale));
    assert_eq!(ask(good, at - 300_001).await, Err(Unverified::Stale));
}

#[tokio::test]
async fn hmac_in_digits() {
    let verifier = verifier("verifier = 'hmac-sha256'\nsignature = 'x-signature'").unwrap();
    let digits = hex::encode(&mac(b"key", BODY));
    for text in [digits.clone(), format!("sha256={digits}"), digits.to_uppercase()] {
        assert_eq!(verify(&verifier, &headers(&[("x-signature", &text)]), BODY, Some("key")).await, Ok(()), "{text}");
    }
    let good = headers(&[("x-signature", &digits)]);
    assert_eq!(verify(&verifier, &good, BODY, Some("kez")).await, Err(Unverified::Forged));
    assert_eq!(verify(&verifier, &good, BODY, None).await, Err(Unverified::NoSecret));
    assert_eq!(verify(&verifier, &good, BODY, Some("")).await, Err(Unverified::NoSecret));
    assert_eq!(verify(&verifier, &HeaderMap::new(), BODY, Some("key")).await, Err(Unverified::Incomplete));
    let twice = headers(&[("x-signature", &digits), ("x-signature", &digits)]);
    assert_eq!(verify(&verifier, &twice, BODY, Some("key")).await, Err(Unverified::Incomplete));
    let short = headers(&[("x-signature", &digits[..32])]);
    assert_eq!(verify(&verifier, &short, BODY, Some("key")).await, Err(Unverified::Forged));
}

#[tokio::test]
async fn a_secret_in_the_address() {
    let verifier = verifier("verifier = 'none'").unwrap();
    let (none, secret) = (HeaderMap::new(), Secret::new("w-0123"));
    let ask = async |word, secret| {
        verifier.verify(Delivery { headers: &none, body: BODY, word }, secret, NOW, &Clients::default()).await
    };
    assert_eq!(ask(Some("w-0123"), Some(&secret)).await, Ok(()));
    for wrong in ["w-0124", "", "w-01234", "w-012"] {
        assert_eq!(ask(Some(wrong), Some(&secret)).await, Err(Unverified::Forged), "{wrong}");
    }
    assert_eq!(ask(None, Some(&secret)).await, Err(Unverified::Incomplete));
    assert_eq!(ask(Some("w-0123"), None).await, Err(Unverified::NoSecret));
}

#[tokio::test]
async fn published_keys_are_kept_and_asked_for_once_when_one_is_unknown() {
    let keys = published(&[json!({ "kty": "RSA", "n": "AQAB" }), jwk(&pair(1))]);
    let server = key_server(&keys).await;
    let verifier = ed25519(&server);
    let ask = async |pair: &Ed25519KeyPair, now: Millis| {
        let headers = by(pair, "r-1", &(now / 1000).to_string(), BODY);
        let delivery = Delivery { headers: &headers, body: BODY, word: None };
        (verifier.verify(delivery, None, now, &Clients::default()).await, server.seen().len())
    };
    assert_eq!(ask(&pair(1), NOW).await, (Ok(()), 1));
    assert_eq!(ask(&pair(1), NOW).await, (Ok(()), 1));
    // Strangers cannot make us ask more than once a minute.
    assert_eq!(ask(&pair(2), NOW).await, (Err(Unverified::Forged), 1));
    assert_eq!(ask(&pair(2), NOW + REST_MS).await, (Err(Unverified::Forged), 2));
    assert_eq!(ask(&pair(2), NOW + REST_MS).await, (Err(Unverified::Forged), 2));
    *keys.lock().unwrap() = Some(vec![jwk(&pair(2))]);
    assert_eq!(ask(&pair(2), NOW + 2 * REST_MS).await, (Ok(()), 3));
    assert_eq!(ask(&pair(1), NOW + 2 * REST_MS).await, (Err(Unverified::Forged), 3));
    // An outage does no harm while the keys are believed.
    *keys.lock().unwrap() = None;
    let day = NOW + 2 * REST_MS + KEPT_MS;
    assert_eq!(ask(&pair(2), day - 1000).await, (Ok(()), 3));
    assert_eq!(ask(&pair(2), day).await, (Err(Unverified::NoKeys), 4));
    assert_eq!(ask(&pair(2), day).await, (Err(Unverified::NoKeys), 4));
    *keys.lock().unwrap() = Some(vec![jwk(&pair(2))]);
    assert_eq!(ask(&pair(2), day + REST_MS).await, (Ok(()), 5));
}

#[tokio::test]
async fn a_callback_that_is_late_is_refused_without_asking_for_keys() {
    let server = key_server(&published(&[jwk(&pair(1))])).await;
    let verifier = ed25519(&server);
    let late = by(&pair(1), "r-1", &(NOW / 1000 - 301).to_string(), BODY);
    assert_eq!(verify(&verifier, &late, BODY, None).await, Err(Unverified::Stale));
    assert_eq!(verify(&verifier, &headers(&[("x-time", "soon")]), BODY, None).await, Err(Unverified::Incomplete));
    assert!(server.seen().is_empty());
}

#[test]
fn faults_of_a_record_are_named() {
    let ed = "verifier = 'ed25519-jwks'\nsignature = 'x'\n";
    for (text, says) in [
        ("verifier = 'hmac-sha256'".to_owned(), "webhook.signature"),
        ("verifier = 'none'\nsignature = 'x'".to_owned(), "webhook.signature"),
        ("verifier = 'hmac-sha256'\nsignature = 'not a header'".to_owned(), "not a header"),
        ("verifier = 'none'\ntimestamp = 'x'".to_owned(), "webhook.timestamp"),
        (ed.to_owned(), "webhook.jwks"),
        (format!("{ed}jwks = 'http://keys.example/jwks'"), "https://"),
        (format!("{ed}jwks = 'keys'"), "webhook.jwks"),
        (format!("{ed}jwks = 'https://k.example'\nmessage = ['header:x-id']"), "cover the body"),
        (format!("{ed}jwks = 'https://k.example'\nmessage = ['path']"), "header:NAME"),
        ("verifier = 'trust'".to_owned(), "trust"),
    ] {
        let message = verifier(&text).unwrap_err();
        assert!(message.contains(says), "{text}: {message}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(96) })]

    /// Whatever the body: as it was signed it is believed, and with any one bit turned over it is not.
    #[test]
    fn any_flipped_bit_is_refused(body in proptest::collection::vec(any::<u8>(), 1..200), bit in any::<usize>(), key in "[ -~]{1,40}") {
        block_on(async {
            let seconds = (NOW / 1000).to_string();

            let hmac_proof = verifier("verifier = 'hmac-sha256'\nsignature = 's'").unwrap();
            let tag = mac(key.as_bytes(), &body);
            let with = |tag: &[u8]| headers(&[("s", &hex::encode(tag))]);
            prop_assert_eq!(verify(&hmac_proof, &with(&tag), &body, Some(&key)).await, Ok(()));
            prop_assert!(verify(&hmac_proof, &with(&flipped(&tag, bit)), &body, Some(&key)).await.is_err());
            prop_assert!(verify(&hmac_proof, &with(&tag), &flipped(&body, bit), Some(&key)).await.is_err());

            let standard = verifier("verifier = 'standard-webhooks'").unwrap();
            let secret = format!("whsec_{}", base64_simd::STANDARD.encode_to_string(&key));
            let tag = mac(key.as_bytes(), &[b"msg-1.", seconds.as_bytes(), b".", &body].concat());
            let with = |id: &[u8], seconds: &str, tag: &[u8]| {
                let tag = format!("v1,{}", base64_simd::STANDARD.encode_to_string(tag));
                let mut headers = headers(&[("webhook-timestamp", seconds), ("webhook-signature", &tag)]);
                // What can be no header cannot come in either.
                HeaderValue::from_bytes(id).map(|id| headers.insert("webhook-id", id)).ok();
                headers
            };
            let good = with(b"msg-1", &seconds, &tag);
            prop_assert_eq!(verify(&standard, &good, &body, Some(&secret)).await, Ok(()));
            prop_assert!(verify(&standard, &good, &flipped(&body, bit), Some(&secret)).await.is_err());
            let bad = with(b"msg-1", &seconds, &flipped(&tag, bit));
            prop_assert!(verify(&standard, &bad, &body, Some(&secret)).await.is_err());
            let bad = with(&flipped(b"msg-1", bit), &seconds, &tag);
            prop_assert!(verify(&standard, &bad, &body, Some(&secret)).await.is_err());
            let bad = with(b"msg-1", &(NOW / 1000 + 1).to_string(), &tag);
            prop_assert!(verify(&standard, &bad, &body, Some(&secret)).await.is_err());
            Ok(())
        })?;
    }
}

/// The same for public keys, which are fetched once for all of it.
#[test]
fn any_flipped_bit_of_a_signature_is_refused() {
    block_on(async {
        let server = key_server(&published(&[jwk(&pair(1))])).await;
        let (verifier, seconds) = (ed25519(&server), (NOW / 1000).to_string());
        let good = by(&pair(1), "r-1", &seconds, BODY);
        assert_eq!(verify(&verifier, &good, BODY, None).await, Ok(()));
        for bit in 0..8 * BODY.len() {
            assert_eq!(verify(&verifier, &good, &flipped(BODY, bit), None).await, Err(Unverified::Forged), "{bit}");
        }
        let signature = hex::decode(good["x-signature"].to_str().unwrap()).unwrap();
        for bit in 0..8 * signature.len() {
            let mut bad = good.clone();
            bad.insert("x-signature", hex::encode(&flipped(&signature, bit)).parse().unwrap());
            assert_eq!(verify(&verifier, &bad, BODY, None).await, Err(Unverified::Forged), "{bit}");
        }
        for bit in 0..8 * 3 {
            let mut bad = good.clone();
            let Ok(id) = HeaderValue::from_bytes(&flipped(b"r-1", bit)) else { continue };
            bad.insert("x-id", id);
            assert!(verify(&verifier, &bad, BODY, None).await.is_err(), "{bit}");
        }
        let mut bad = good.clone();
        bad.insert("x-time", (NOW / 1000 + 1).to_string().parse().unwrap());
        assert_eq!(verify(&verifier, &bad, BODY, None).await, Err(Unverified::Forged));
        assert_eq!(server.seen().len(), 1);
    });
}

/// The whole way: the account's own secret goes before one that was told with a job.
#[tokio::test]
async fn a_provider_knows_its_own() {
    let text = |webhook: &str| {
        format!(
            "name = 'x'\ntitle = 'X'\nshape = 'openai-images'\nbase_url = 'https://x.example'\n\
             wire = {{ generate = '/v1' }}\n[fields]\nprompt = 'prompt'\n{webhook}\n\
             [[models]]\nid = 'm'\noperations = ['generate']\nsizes = 'none'\n"
        )
    };
    let environment = [("X_SECRET".to_owned(), "account".to_owned())].into_iter().collect();
    let signed = headers(&[("s", &hex::encode(&mac(b"account", BODY)))]);
    let ask = async |webhook: &str, told: &str| {
        let mut catalogue = Catalogue::default();
        catalogue.add(&text(webhook), "x.toml").unwrap();
        let registry = Registry::build(&BTreeMap::new(), &environment, &catalogue).unwrap();
        let delivery = Delivery { headers: &signed, body: BODY, word: None };
        registry.provider("x").unwrap().verify(delivery, Some(&Secret::new(told))).await
    };
    let proof = "[webhook]\nverifier = 'hmac-sha256'\nsignature = 's'";
    assert_eq!(ask(proof, "account").await, Ok(()));
    assert_eq!(ask(proof, "job").await, Err(Unverified::Forged));
    assert_eq!(ask(&format!("{proof}\nsecret_env = 'X_SECRET'"), "job").await, Ok(()));
    assert_eq!(ask("", "account").await, Err(Unverified::Unexpected));
    let fault = Catalogue::default().add(&text("[webhook]\nverifier = 'hmac-sha256'"), "x.toml").unwrap_err();
    assert!(fault.line.is_some() && fault.message.contains("webhook.signature"), "{fault}");
}
