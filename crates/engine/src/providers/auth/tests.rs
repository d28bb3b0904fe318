use std::sync::Mutex;
use std::time::Duration;

use reqwest::Method;
use ring::signature::{KeyPair, RSA_PKCS1_2048_8192_SHA256, RsaKeyPair, UnparsedPublicKey};
use rustls::pki_types::PrivatePkcs8KeyDer;
use rustls::pki_types::pem::PemObject;
use serde_json::{Value, json};
use tokio::task::JoinSet;

use super::*;
use crate::domain::ImageRequest;
use crate::providers::testing::{self, KEY, Seen, Server};
use crate::providers::{Catalogue, Registry};
use crate::settings;

/// A key that was made for these tests and opens nothing.
const PEM: &str = include_str!("test_key.pem");

fn text(auth: &str, base: &str) -> String {
    format!(
        "name = 'x'\ntitle = 'X'\nshape = 'openai-images'\nbase_url = '{base}'\nwire = {{ generate = '/v1/{{account}}' }}\n\
         [fields]\nprompt = 'prompt'\n[vars]\naccount = {{ default = 'a/b' }}\nclient_id = {{ default = 'me' }}\n\
         region = {{ default = 'eu-west-1' }}\naccess_key_id = {{ default = 'AKID' }}\n[auth]\n{auth}\n\
         [[models]]\nid = 'm'\noperations = ['generate']\nsizes = 'none'\n"
    )
}

fn record(auth: &str) -> Result<Record, String> {
    Record::parse(&text(auth, "https://x.example"), "x.toml").map_err(|fault| fault.message)
}

fn credentials(auth: &str, key: Option<&str>) -> Result<Credentials, String> {
    let record = record(auth).unwrap();
    let vars = record.vars.iter().map(|(name, var)| (name.clone(), var.default.clone().unwrap_or_default())).collect();
    Credentials::of(&record, key.map(Secret::new), &vars)
}

async fn signed(credentials: &Credentials, clock: &Clock) -> Result<Request, Fault> {
    let mut request = Request::new(Method::POST, "https://x.example/v1?a=1".parse().unwrap());
    credentials.sign(&mut request, &Clients::default(), clock).await.map(|()| request)
}

fn authorization(request: &Request) -> &str {
    assert!(request.headers()[AUTHORIZATION].is_sensitive());
    request.headers()[AUTHORIZATION].to_str().unwrap()
}

/// `name=value` pairs of a form.
fn form(seen: &Seen) -> BTreeMap<String, String> {
    let text = std::str::from_utf8(&seen.body).unwrap();
    let url = Url::parse(&format!("http://x/?{text}")).unwrap();
    url.query_pairs().into_owned().collect()
}

/// Hands out `t-1`, `t-2` … that live for `life` seconds.
async fn token_server(life: Value) -> Server {
    let count = Arc::new(Mutex::new(0));
    Server::start(move |_| {
        let mut count = count.lock().unwrap();
        *count += 1;
        testing::json(200, &json!({ "access_token": format!("t-{count}"), "expires_in": life, "token_type": "bearer" }))
    })
    .await
}

fn oauth(server: &Server) -> Credentials {
    let auth = format!("scheme = 'oauth'\ntoken_url = '{}/{{account}}/token'\nscope = 'a,b'", server.url);
    credentials(&auth, Some(KEY)).unwrap()
}

#[tokio::test]
async fn keys_that_are_sent_as_they_are() {
    let clock = Clock::manual(0);
    let sent = async |auth: &str, key| signed(&credentials(auth, key).unwrap(), &clock).await.unwrap();
    assert!(sent("scheme = 'none'", None).await.headers().is_empty());
    assert!(sent("scheme = 'bearer'\noptional = true", None).await.headers().is_empty());
    assert_eq!(authorization(&sent("scheme = 'bearer'", Some("k")).await), "Bearer k");
    assert_eq!(authorization(&sent("scheme = 'bearer'\nprefix = 'Key '", Some("k")).await), "Key k");
    let request = sent("scheme = 'header'\nheader = 'x-key'", Some("k")).await;
    assert!(request.headers()["x-key"] == "k" && request.headers()["x-key"].is_sensitive());
    let request = sent("scheme = 'query'\nquery = 'api key'", Some("k&l=1")).await;
    assert_eq!(request.url().query(), Some("a=1&api+key=k%26l%3D1"));
    // The example of RFC 7617.
    let request = sent("scheme = 'basic'", Some("Aladdin:open sesame")).await;
    assert_eq!(authorization(&request), "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==");
    let request = sent("scheme = 'aws'\nservice = 'draw'", Some("k")).await;
    assert!(authorization(&request).contains("Credential=AKID/19700101/eu-west-1/draw/aws4_request"));
}

#[test]
fn faults_of_a_record_are_named() {
    for (auth, says) in [
        ("scheme = 'header'", "auth.header"),
        ("scheme = 'bearer'\nheader = 'x'", "auth.header"),
        ("scheme = 'query'", "auth.query"),
        ("scheme = 'aws'", "auth.service"),
        ("env = 'X'", "auth.env"),
        ("scheme = 'basic'\nprefix = 'x'", "auth.prefix"),
        ("scheme = 'oauth'", "auth.token_url"),
        ("scheme = 'bearer'\nscope = 'x'", "auth.scope"),
        ("scheme = 'google'", "auth.scope"),
        ("scheme = 'oauth'\ntoken_url = 'https://{tenant}.example'", "{tenant}"),
        ("scheme = 'secret'", "secret"),
    ] {
        let message = record(auth).unwrap_err();
        assert!(message.contains(says), "{auth}: {message}");
    }
    let lacking = text("scheme = 'aws'\nservice = 's'", "https://x.example").replace("access_key_id", "access");
    let fault = Record::parse(&lacking, "x.toml").unwrap_err();
    assert!(fault.message.contains("access_key_id") && fault.line.is_some(), "{fault}");
    let unknown = text("scheme = 'none'", "https://{acount}.example");
    let fault = Record::parse(&unknown, "x.toml").unwrap_err();
    assert!(fault.message.contains("{acount}"), "{fault}");
}

#[test]
fn keys_that_cannot_be_right_are_not_repeated() {
    let google = "scheme = 'google'\nscope = 's'";
    let account =
        json!({ "type": "service_account", "client_email": "a", "private_key": "1x7", "token_uri": "https://t" });
    let open = json!({
        "type": "service_account", "client_email": "a", "private_key": PEM, "token_uri": "http://1x7.example/token",
    });
    let user = json!({ "type": "authorized_user", "client_id": "1x7", "client_secret": "1x7", "refresh_token": "1x7" });
    for (auth, key, says) in [
        ("scheme = 'bearer'", "1x7 1x7", "spaces"),
        ("scheme = 'bearer'", "\"1x7\"", "quotes"),
        ("scheme = 'basic'", "1x7", "user:password"),
        ("scheme = 'basic'", "1x7:\n1x7", "line ends"),
        ("scheme = 'header'\nheader = 'no header'", "1x7", "no header"),
        ("scheme = 'oauth'\ntoken_url = 'http://id.example/'", "1x7", "https://"),
        (google, "1x7", "api_key = { file"),
        (google, "{\"type\":\"1x7\"}", "api_key = { file"),
        (google, &account.to_string(), "private_key"),
        (google, &open.to_string(), "https://"),
        (google, &user.to_string(), "token_url"),
    ] {
        let message = credentials(auth, Some(key)).unwrap_err();
        assert!(message.contains(says) && !message.contains("1x7"), "{auth}: {message}");
    }
    assert!(credentials("scheme = 'bearer'", None).unwrap_err().contains("api_key"));
}

#[tokio::test]
async fn fifty_calls_fetch_one_token() {
    let server = token_server(json!(3600)).await;
    let (credentials, clock) = (oauth(&server), Clock::manual(0));
    let mut calls = JoinSet::new();
    for _ in 0..50 {
        let (credentials, clock) = (credentials.clone(), clock.clone());
        calls.spawn(async move { authorization(&signed(&credentials, &clock).await.unwrap()).to_owned() });
    }
    assert!(calls.join_all().await.iter().all(|value| value == "Bearer t-1"));
    let [seen] = &server.seen()[..] else { panic!("{} tokens", server.seen().len()) };
    assert_eq!(seen.path, "/a%2Fb/token");
    let expected =
        [("client_id", "me"), ("client_secret", KEY), ("grant_type", "client_credentials"), ("scope", "a,b")];
    assert_eq!(form(seen), expected.map(|(name, value)| (name.to_owned(), value.to_owned())).into());
}

#[tokio::test]
async fn a_token_is_renewed_before_it_expires() {
    // Some write the seconds as text.
    let server = token_server(json!("3600")).await;
    let (credentials, clock) = (oauth(&server), Clock::manual(0));
    let mut sent = Vec::new();
    for seconds in [0, 3299, 1, 3299, 1] {
        clock.advance(Duration::from_secs(seconds));
        sent.push(authorization(&signed(&credentials, &clock).await.unwrap()).to_owned());
    }
    assert_eq!(sent, ["Bearer t-1", "Bearer t-1", "Bearer t-2", "Bearer t-2", "Bearer t-3"]);
}

#[tokio::test]
async fn a_failed_renewal_harms_nobody_while_the_old_token_lives() {
    let up = Arc::new(Mutex::new(true));
    let switch = Arc::clone(&up);
    let server = Server::start(move |_| match *switch.lock().unwrap() {
        true => testing::json(200, &json!({ "access_token": "t", "expires_in": 3600 })),
        false => testing::json(503, &json!({})),
    })
    .await;
    let (credentials, clock) = (oauth(&server), Clock::manual(0));
    signed(&credentials, &clock).await.unwrap();
    *up.lock().unwrap() = false;
    clock.advance(Duration::from_secs(3400));
    for _ in 0..3 {
        assert_eq!(authorization(&signed(&credentials, &clock).await.unwrap()), "Bearer t");
    }
    // It was tried once: a failure stands for some seconds.
    assert_eq!(server.seen().len(), 2);
    clock.advance(Duration::from_secs(200));
    let fault = signed(&credentials, &clock).await.unwrap_err();
    assert_eq!(fault.kind, FaultKind::NotSent);
    assert!(fault.message.contains("503"), "{fault}");
    *up.lock().unwrap() = true;
    clock.advance(Duration::from_secs(5));
    assert!(signed(&credentials, &clock).await.is_ok());
}

#[tokio::test]
async fn what_is_refused_is_told_without_the_secret_and_asked_once() {
    let answer = json!({ "error": "invalid_client", "error_description": format!("no such secret: {KEY}") });
    let server = Server::start(move |_| testing::json(401, &answer)).await;
    let (credentials, clock) = (oauth(&server), Clock::manual(0));
    let mut calls = JoinSet::new();
    for _ in 0..50 {
        let (credentials, clock) = (credentials.clone(), clock.clone());
        calls.spawn(async move { signed(&credentials, &clock).await.unwrap_err() });
    }
    for fault in calls.join_all().await {
        assert_eq!((fault.kind, fault.code.as_deref()), (FaultKind::Denied, Some("invalid_client")));
        assert!(fault.message.contains("invalid_client") && !fault.message.contains("very-secret"), "{fault}");
    }
    assert_eq!(server.seen().len(), 1);
    clock.advance(Duration::from_secs(5));
    signed(&credentials, &clock).await.unwrap_err();
    assert_eq!(server.seen().len(), 2);
}

#[tokio::test]
async fn answers_without_a_token_and_silence_are_not_sent() {
    for answer in ["", "<html>", "{}", "{\"access_token\":\"a\\nb\"}"] {
        let server = Server::start(move |_| testing::typed(200, "application/json", answer)).await;
        let fault = signed(&oauth(&server), &Clock::manual(0)).await.unwrap_err();
        assert_eq!(fault.kind, FaultKind::NotSent, "{answer}");
    }
    let large = Server::start(|_| testing::typed(200, "application/json", vec![b' '; 1 << 20])).await;
    let fault = signed(&oauth(&large), &Clock::manual(0)).await.unwrap_err();
    assert!(fault.message.contains("too large"), "{fault}");
    let gone = token_server(json!(1)).await;
    let credentials = oauth(&gone);
    let address = gone.url.clone();
    gone.stop().await;
    let fault = signed(&credentials, &Clock::manual(0)).await.unwrap_err();
    assert!(fault.kind == FaultKind::NotSent && !fault.message.contains(&address[7..]), "{fault}");
}

#[tokio::test]
async fn a_service_account_signs_for_its_token() {
    let server = token_server(json!(3600)).await;
    let file = json!({
        "type": "service_account", "project_id": "p", "client_email": "me@p.example", "private_key_id": "k1",
        "private_key": PEM, "token_uri": format!("{}/token", server.url),
    });
    let file = serde_json::to_string_pretty(&file).unwrap();
    let credentials = credentials("scheme = 'google'\nscope = 'https://x/auth/draw'", Some(&file)).unwrap();
    let clock = Clock::manual(1_700_000_000_123);
    assert_eq!(authorization(&signed(&credentials, &clock).await.unwrap()), "Bearer t-1");
    let sent = form(&server.seen()[0]);
    assert_eq!(sent["grant_type"], "urn:ietf:params:oauth:grant-type:jwt-bearer");
    let (statement, signature) = sent["assertion"].rsplit_once('.').unwrap();
    let decode = |text: &str| base64_simd::URL_SAFE_NO_PAD.decode_to_vec(text).unwrap();
    let der = PrivatePkcs8KeyDer::from_pem_slice(PEM.as_bytes()).unwrap();
    let pair = RsaKeyPair::from_pkcs8(der.secret_pkcs8_der()).unwrap();
    let public = UnparsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, pair.public_key());
    public.verify(statement.as_bytes(), &decode(signature)).unwrap();
    assert!(public.verify(&statement.as_bytes()[1..], &decode(signature)).is_err());
    let parts: Vec<Value> = statement.split('.').map(|part| serde_json::from_slice(&decode(part)).unwrap()).collect();
    assert_eq!(parts[0], json!({ "alg": "RS256", "typ": "JWT", "kid": "k1" }));
    let claims = json!({
        "iss": "me@p.example", "scope": "https://x/auth/draw", "aud": format!("{}/token", server.url),
        "iat": 1_700_000_000, "exp": 1_700_003_600,
    });
    assert_eq!(parts[1], claims);
}

#[tokio::test]
async fn a_user_who_has_signed_in_has_a_refresh_token() {
    let server = token_server(json!(3600)).await;
    let auth = format!("scheme = 'google'\nscope = 's'\ntoken_url = '{}/token'", server.url);
    let file = json!({ "type": "authorized_user", "client_id": "c", "client_secret": "s", "refresh_token": "r" });
    let credentials = credentials(&auth, Some(&file.to_string())).unwrap();
    assert_eq!(authorization(&signed(&credentials, &Clock::manual(0)).await.unwrap()), "Bearer t-1");
    let sent = form(&server.seen()[0]);
    assert_eq!((sent["grant_type"].as_str(), sent["refresh_token"].as_str()), ("refresh_token", "r"));
}

/// The whole way: a provider whose token is revoked while it would still live.
#[tokio::test]
async fn a_refused_token_is_replaced_once() {
    let tokens = token_server(json!(36_000)).await;
    let provider = Server::start(|seen: &Seen| match seen.header("authorization") {
        Some("Bearer t-2") => testing::json(200, &json!({ "data": [{ "b64_json": "aGVsbG8=" }] })),
        _ => testing::json(401, &json!({ "error": { "message": "token expired" } })),
    })
    .await;
    let mut catalogue = Catalogue::default();
    let auth = format!("scheme = 'oauth'\nenv = 'X_KEY'\ntoken_url = '{}'", tokens.url);
    catalogue.add(&text(&auth, &provider.url), "x.toml").unwrap();
    let environment = [("X_KEY".to_owned(), KEY.to_owned())].into_iter().collect();
    let settings: BTreeMap<String, settings::Provider> = BTreeMap::new();
    let clock = Clock::manual(0);
    let registry = Registry::build_with(&settings, &environment, &catalogue, &clock, &Clients::default()).unwrap();
    let x = registry.provider("x").unwrap();
    let request = ImageRequest::generate("a red kite");
    let outcome = async || testing::submit(x, "m", &request, 1, None).await.0;
    // It is quite new: another would not help.
    assert_eq!(outcome().await.unwrap_err().kind, FaultKind::Denied);
    assert_eq!(outcome().await.unwrap_err().kind, FaultKind::Denied);
    assert_eq!(tokens.seen().len(), 1);
    clock.advance(Duration::from_secs(60));
    // The call itself is not repeated, but the next one has another token.
    assert_eq!(outcome().await.unwrap_err().kind, FaultKind::Denied);
    assert_eq!(outcome().await.unwrap().pictures.len(), 1);
    assert_eq!(tokens.seen().len(), 2);
    assert_eq!(provider.seen()[0].path, "/v1/a%2Fb");
    assert!(!format!("{x:?}").contains("very-secret"));
}
