use super::*;
use crate::domain::{Digest, Picture, Usd};
use axum::http::{HeaderName, HeaderValue};
use proptest::prelude::*;
use serde_json::{Value, json};

fn origin() -> Origin {
    Origin { id: RequestId(1), caller: Caller { tenant: "t".into(), key: "k".into(), pool: None } }
}

fn headers(pairs: &[(HeaderName, &str)]) -> HeaderMap {
    pairs.iter().map(|(name, value)| (name.clone(), HeaderValue::from_str(value).unwrap())).collect()
}

fn any_picture(bytes: Bytes) -> Result<Picture, String> {
    Ok(Picture { digest: Digest::of(&bytes), bytes, format: Format::Png, width: 1, height: 1 })
}

fn generate_text(body: &str) -> Result<Posted> {
    let headers = headers(&[(header::CONTENT_TYPE, "application/json; charset=utf-8")]);
    generation(origin(), &headers, &Bytes::copy_from_slice(body.as_bytes()))
}

/// A generation whose body is `{"prompt":"x"}` and `more`.
fn generate(more: &Value) -> Result<Posted> {
    let mut body = json!({ "prompt": "x" });
    for (name, value) in more.as_object().unwrap() {
        body[name] = value.clone();
    }
    generate_text(&body.to_string())
}

fn accepting(accept: &str, more: &str) -> Result<Posted> {
    let headers = headers(&[(header::CONTENT_TYPE, "application/json"), (header::ACCEPT, accept)]);
    generation(origin(), &headers, &Bytes::from(format!(r#"{{"prompt":"x"{more}}}"#)))
}

fn multipart_edit(parts: &[(&str, Option<&str>, &str)]) -> Result<Posted> {
    let mut body = String::new();
    for (name, file, content) in parts {
        let file = file.map(|file| format!("; filename=\"{file}\"")).unwrap_or_default();
        body += &format!("--B\r\nContent-Disposition: form-data; name=\"{name}\"{file}\r\n\r\n{content}\r\n");
    }
    body += "--B--\r\n";
    let headers = headers(&[(header::CONTENT_TYPE, "multipart/form-data; boundary=B")]);
    edit(origin(), &headers, &body.into(), any_picture)
}

#[test]
fn a_full_request() {
    let Posted { call, delivery } = generate_text(
        r#"{
        "prompt": "  cafe\u0301 \n", "model": "hero", "n": 3, "size": "1536x1024", "quality": "high",
        "background": "transparent", "output_format": "jpg", "output_compression": 80, "response_format": "url",
        "user": "u", "style": "vivid", "moderation": "low", "purpose": "og", "quality_tier": "draft", "category": "people",
        "deadline_ms": 1500, "max_spend_usd": 0.100000000001, "seed": 18446744073709551615, "steps": 28,
        "guidance": 3.50, "negative_prompt": " fog ", "cache": {"mode": "no-cache", "ttl_s": 60, "variants": 4},
        "route": {}, "explain": true, "metadata": {"order": "17"}, "loras": [{"a": 1.5}], "input_fidelity": "high",
        "stream": null
    }"#,
    )
    .unwrap();
    assert_eq!(delivery, Delivery::Url);
    assert_eq!(call.request.prompt, "caf\u{e9}");
    assert_eq!((call.model.as_deref(), call.n), (Some("hero"), 3));
    assert_eq!(call.request.size, Size::Exact(1536, 1024));
    assert_eq!(call.request.output_format, Some(Format::Jpeg));
    assert_eq!(call.request.output_compression, Some(80));
    assert_eq!(call.max_spend.unwrap().pico(), 100_000_000_001, "exact, not through a float");
    assert_eq!(call.request.seed, Some(u64::MAX));
    assert_eq!(call.request.guidance.unwrap().to_string(), "3.5");
    assert_eq!(call.request.negative_prompt.as_deref(), Some("fog"));
    assert_eq!(call.cache.mode, CacheMode::NoCache);
    assert_eq!(call.deadline, Some(Duration::from_millis(1500)));
    assert_eq!(call.metadata["order"], "17");
    assert!(call.explain);
    assert_eq!(call.stream, None);
    assert_eq!(json!(call.unknown), json!({"loras": [{"a": 1.5}]}));
}

#[test]
fn defaults() {
    let Posted { call, delivery } = generate_text(r#"{"prompt":"x"}"#).unwrap();
    assert_eq!(call.request, ImageRequest::generate("x"));
    assert_eq!((call.n, call.model, call.stream, delivery), (1, None, None, Delivery::Base64));
    let spelled = generate(&json!({"n": 1, "size": "auto", "quality": "auto", "background": "auto", "model": null}));
    assert_eq!(spelled.unwrap().call.request, ImageRequest::generate("x"));
}

#[test]
fn money_is_read_exactly() {
    let spend =
        |text: &str| generate_text(&format!(r#"{{"prompt":"x","max_spend_usd":{text}}}"#)).map(|p| p.call.max_spend);
    for (text, usd) in [("\"0.05\"", "0.05"), ("0.1", "0.1"), ("1e-05", "0.00001"), ("3", "3"), ("0", "0")] {
        assert_eq!(spend(text).unwrap(), Some(usd.parse::<Usd>().unwrap()), "{text}");
    }
    for bad in ["-1", "\"\"", "\"x\"", "true", "0.0000000000001", "1e99", "[]"] {
        assert_eq!(spend(bad).unwrap_err().param.as_deref(), Some("max_spend_usd"), "{bad}");
    }
}

#[test]
fn faults_name_their_field() {
    for (more, param) in [
        (json!({"prompt": null}), "prompt"),
        (json!({"prompt": 7}), "prompt"),
        (json!({"n": 0}), "n"),
        (json!({"n": 11}), "n"),
        (json!({"n": "1"}), "n"),
        (json!({"size": "big"}), "size"),
        (json!({"size": 1024}), "size"),
        (json!({"quality": ""}), "quality"),
        (json!({"background": "blue"}), "background"),
        (json!({"output_format": "svg"}), "output_format"),
        (json!({"output_compression": 101}), "output_compression"),
        (json!({"response_format": "bytes"}), "response_format"),
        (json!({"response_format": "url", "cache": {"mode": "no-store"}}), "response_format"),
        (json!({"response_format": "url", "stream": true}), "response_format"),
        (json!({"partial_images": 4, "stream": true}), "partial_images"),
        (json!({"partial_images": 1}), "partial_images"),
        (json!({"stream": "true"}), "stream"),
        (json!({"moderation": "none"}), "moderation"),
        (json!({"quality_tier": "best"}), "quality_tier"),
        (json!({"deadline_ms": 0}), "deadline_ms"),
        (json!({"seed": -1}), "seed"),
        (json!({"seed": 1.5}), "seed"),
        (json!({"steps": 0}), "steps"),
        (json!({"guidance": "7"}), "guidance"),
        (json!({"guidance": -1}), "guidance"),
        (json!({"cache": {"mode": "maybe"}}), "cache.mode"),
        (json!({"route": {"order": []}}), "route.order"),
        (json!({"route": "hero"}), "route"),
        (json!({"template": "card"}), "prompt"),
        (json!({"data": {}}), "data"),
        (json!({"explain": 1}), "explain"),
        (json!({"metadata": {"a": 1}}), "metadata"),
        (json!({"metadata": {"a": "x".repeat(513)}}), "metadata"),
        (
            json!({"metadata": (0..17).map(|i| (i.to_string(), json!("x"))).collect::<serde_json::Map<_, _>>()}),
            "metadata",
        ),
        (json!({"purpose": "two\nlines"}), "purpose"),
        (json!({"image": "data:…"}), "image"),
    ] {
        let error = generate(&more).unwrap_err();
        assert_eq!(error.param.as_deref(), Some(param), "{more}: {}", error.message);
        assert_eq!(error.kind, Kind::BadRequest);
    }
    assert_eq!(generate_text("{}").unwrap_err().code.as_deref(), Some("missing_required_parameter"));
    assert!(generate_text("{\"prompt\":").unwrap_err().message.contains("line 1 column 10"));
}

#[test]
fn content_types() {
    for wrong in ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=B"] {
        let headers = headers(&[(header::CONTENT_TYPE, wrong)]);
        let error = generation(origin(), &headers, &Bytes::from_static(b"{}")).unwrap_err();
        assert_eq!(error.code.as_deref(), Some("unsupported_content_type"), "{wrong}");
    }
    assert!(generation(origin(), &HeaderMap::new(), &Bytes::from_static(b"{}")).is_err());
    assert!(edit(origin(), &headers(&[(header::CONTENT_TYPE, "text/plain")]), &Bytes::new(), any_picture).is_err());
}

#[test]
fn templates() {
    let call = generate_text(r#"{"template":"card","data":{"title":"Hi","n":2}}"#).unwrap().call;
    assert_eq!(call.request.operation, Operation::Render);
    let template = call.request.template.unwrap();
    assert_eq!((template.id.as_str(), template.data), ("card", json!({"title": "Hi", "n": 2})));
    assert!(generate_text(r#"{"template":"card"}"#).is_ok());
    assert!(generate_text(r#"{"template":"card","prompt":""}"#).is_ok(), "SDKs cannot leave it out");
    assert_eq!(generate_text(r#"{"template":"card","data":[]}"#).unwrap_err().param.as_deref(), Some("data"));
}

#[test]
fn raw_pictures_are_asked_for() {
    for (accept, more, delivery) in [
        ("image/*", "", Delivery::Raw),
        ("image/png, image/webp;q=0.8", "", Delivery::Raw),
        ("*/*", "", Delivery::Base64),
        ("image/*, */*;q=0.1", "", Delivery::Base64),
        ("application/json, image/*", "", Delivery::Base64),
        ("image/*", r#","response_format":"b64_json""#, Delivery::Base64),
        ("image/*", r#","stream":true"#, Delivery::Events),
    ] {
        assert_eq!(accepting(accept, more).unwrap().delivery, delivery, "{accept} {more}");
    }
    assert_eq!(accepting("image/*", r#","n":2"#).unwrap_err().param.as_deref(), Some("n"));
}

#[test]
fn forms() {
    let Posted { call, delivery } = multipart_edit(&[
        ("prompt", None, " at night "),
        ("image[]", Some("a.png"), "one"),
        ("image[]", Some("b.png"), "two"),
        ("mask", Some("m.png"), "mask"),
        ("n", None, "2"),
        ("stream", None, "true"),
        ("partial_images", None, "2"),
        ("max_spend_usd", None, "0.10"),
        ("cache", None, r#"{"variants": 2}"#),
        ("metadata[order]", None, "17"),
        ("size", None, ""),
        ("strength", None, "0.5"),
    ])
    .unwrap();
    assert_eq!(delivery, Delivery::Events);
    assert_eq!((call.n, call.stream), (2, Some(2)));
    assert_eq!(call.request.operation, Operation::Edit);
    assert_eq!(call.request.prompt, "at night");
    let names: Vec<_> = call.request.inputs.iter().map(|input| input.file_name.as_deref().unwrap()).collect();
    assert_eq!(names, ["a.png", "b.png"]);
    assert_eq!(&call.request.mask.unwrap().picture.bytes[..], b"mask");
    assert_eq!(call.max_spend.unwrap().to_string(), "0.1");
    assert_eq!(call.cache.variants, Some(2));
    assert_eq!(call.metadata["order"], "17");
    assert_eq!(json!(call.unknown), json!({"strength": 0.5}));

    let picture = ("image", Some("a.png"), "one");
    for (parts, param) in [
        (vec![("prompt", None, "x")], "image"),
        (vec![picture], "prompt"),
        (vec![picture, ("prompt", None, "x"), ("prompt", None, "y")], "prompt"),
        (vec![picture, ("prompt", None, "x"), ("n", None, "two")], "n"),
        (vec![picture, ("prompt", None, "x"), ("template", None, "card")], "template"),
        (vec![picture, picture, ("prompt", None, "x"), ("mask", Some("m"), "1"), ("mask", Some("m"), "1")], "mask"),
    ] {
        assert_eq!(multipart_edit(&parts).unwrap_err().param.as_deref(), Some(param), "{parts:?}");
    }
}

#[test]
fn edits_as_json() {
    let headers = headers(&[(header::CONTENT_TYPE, "application/json")]);
    let body =
        br#"{"prompt":"x","images":[{"image_url":"data:image/png;base64,UElD"}],"mask":"data:image/png;base64,UElD"}"#;
    let call = edit(origin(), &headers, &Bytes::from_static(body), any_picture).unwrap().call;
    assert_eq!(call.request.inputs.len(), 1);
    assert!(call.request.mask.is_some() && call.unknown.is_empty());
    let error = edit(origin(), &headers, &Bytes::from_static(br#"{"prompt":"x"}"#), any_picture).unwrap_err();
    assert_eq!(error.param.as_deref(), Some("image"));
}

proptest! {
    #[test]
    fn no_body_panics(body in prop::collection::vec(
        prop_oneof![Just("{"), Just("}"), Just("\""), Just(":"), Just(","), Just("n"), Just("prompt"), Just("1e9"), Just("null"), Just("[")], 0..30)) {
        let _ = generate_text(&body.concat());
    }

    #[test]
    fn no_value_panics(name in "prompt|n|size|cache|metadata|seed|guidance|stream|route|data|max_spend_usd", number in any::<f64>(), text in ".{0,12}") {
        for value in [json!(number), json!(text), json!([text]), json!({ text.clone(): number }), json!(true)] {
            let _ = generate(&json!({ name.clone(): value }));
        }
    }
}
