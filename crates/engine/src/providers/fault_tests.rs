use serde_json::json;

use super::*;
use crate::providers::testing::{KEY, provider};

fn of(status: u16, body: &Value) -> Fault {
    with(status, &[], &body.to_string())
}

fn with(status: u16, pairs: &[(&str, &str)], body: &str) -> Fault {
    let mut headers = HeaderMap::new();
    for (name, value) in pairs {
        let name: reqwest::header::HeaderName = name.parse().unwrap();
        headers.insert(name, value.parse().unwrap());
    }
    let provider = provider("openai", "http://images.internal:8123/v1", "");
    let wiring = &provider.models()[0].wiring;
    of_status(&provider, wiring, status, &headers, body.as_bytes())
}

fn error(code: &str) -> Value {
    json!({ "error": { "message": "No.", "type": "some_error", "param": "size", "code": code } })
}

#[test]
fn kinds() {
    use FaultKind::*;
    for (status, body, kind) in [
        (400, error("moderation_blocked"), Refused),
        (400, error("content_policy_violation"), Refused),
        (400, json!({ "error": { "message": "x", "type": "image_generation_user_error", "code": null } }), Refused),
        (400, json!({ "error": { "code": "x", "inner_error": { "code": "content_filter" } } }), Refused),
        (400, json!({ "error": { "type": "image_generation_user_error", "code": "invalid_image" } }), Rejected),
        (400, error("invalid_value"), Rejected),
        (400, error("billing_hard_limit_reached"), Denied),
        (401, error("invalid_api_key"), Denied),
        (402, json!({}), Denied),
        (403, error(""), Denied),
        (404, error("model_not_found"), Denied),
        (404, json!({ "detail": "Not Found" }), Denied),
        (408, error("timeout"), Unknown),
        (413, error(""), Rejected),
        (422, json!({ "detail": [{ "loc": ["body", "size"], "msg": "bad size" }] }), Rejected),
        (429, error("rate_limit_exceeded"), Throttled),
        (429, error("insufficient_quota"), Denied),
        (500, error("server_error"), Unknown),
        (503, error("overloaded"), Failed),
        (502, error("server_error"), Unknown),
        (504, error("server_error"), Unknown),
        (302, json!({}), Unknown),
    ] {
        assert_eq!(of(status, &body).kind, kind, "{status} {body}");
    }
    // From something in front of the provider, which knows nothing of the bill.
    assert_eq!(with(500, &[], "<html>Internal Server Error</html>").kind, Unknown);
    assert_eq!(with(503, &[], "upstream connect error").kind, Unknown);
    assert_eq!(with(429, &[], "slow down").kind, Throttled);
}

#[test]
fn labels_are_passed_on() {
    let fault = of(400, &error("invalid_value"));
    assert_eq!(
        (fault.code.as_deref(), fault.param.as_deref(), fault.status),
        (Some("invalid_value"), Some("size"), Some(400))
    );
    let fault = of(422, &json!({ "detail": [{ "loc": ["body", "size"], "msg": "bad size" }] }));
    assert_eq!((fault.message.as_str(), fault.param.as_deref()), ("bad size", Some("size")));
    assert_eq!(of(400, &json!({ "error": "plain" })).message, "plain");
    assert_eq!(of(400, &json!({ "error": { "code": 400, "message": "m" } })).code.as_deref(), Some("400"));
}

#[test]
fn messages_tell_no_secret_no_address_and_no_page() {
    let said = |message: &str| of(400, &json!({ "error": { "message": message, "code": message } }));
    for message in [
        format!("bad key {KEY} given"),
        format!("bad key {}... given", &KEY[..10]),
        "POST http://images.internal:8123/v1/images/generations failed".to_owned(),
        "dial tcp images.internal: no route".to_owned(),
    ] {
        let fault = said(&message);
        for text in [fault.message, fault.code.unwrap_or_default()] {
            assert!(!text.contains("sk-very"), "{text}");
            assert!(!text.contains("internal"), "{text}");
        }
    }
    assert_eq!(said("<!DOCTYPE html><title>x</title>").message, "it answered with status 400");
    assert_eq!(said("first\nsecond").message, "first");
    assert!(said(&"long ".repeat(1000)).message.chars().count() <= 300);
    assert!(!of(401, &error(&format!("wrong: {KEY}"))).message.contains("sk-"));
    assert!(!with(502, &[], "<html>secret page</html>").message.contains("page"));
}

#[test]
fn when_to_come_back() {
    let wait = |pairs: &[(&str, &str)]| with(429, pairs, "{}").retry_after;
    let ms = |ms| Some(Duration::from_millis(ms));
    assert_eq!(wait(&[]), None);
    assert_eq!(wait(&[("retry-after", "2")]), ms(2000));
    assert_eq!(wait(&[("retry-after", "1.5")]), ms(1500));
    assert_eq!(wait(&[("retry-after", "2"), ("retry-after-ms", "120.5")]), Some(Duration::from_micros(120_500)));
    assert_eq!(wait(&[("retry-after", "soon")]), None);
    assert_eq!(wait(&[("retry-after", "-3")]), None);
    assert_eq!(wait(&[("retry-after", "NaN")]), None);
    assert_eq!(wait(&[("retry-after", "1e300")]), None);
    assert_eq!(wait(&[("retry-after", "99999999")]), Some(LONGEST_WAIT));
    let date = [("date", "Sat, 21 Nov 2026 09:00:00 GMT"), ("retry-after", "Sat, 21 Nov 2026 09:00:30 GMT")];
    assert_eq!(wait(&date), ms(30_000));
    let past = [("date", "Sat, 21 Nov 2026 09:00:00 GMT"), ("retry-after", "Sat, 21 Nov 2026 08:00:00 GMT")];
    assert_eq!(wait(&past), ms(0));
}
