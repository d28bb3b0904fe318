//! Every field of a request and everything that can be wrong with one, over HTTP.

use reqwest::multipart::{Form, Part};
use serde_json::{Value, json};

use crate::world::{Reply, World, reply};

pub const GENERATIONS: &str = "/v1/images/generations";
const EDITS: &str = "/v1/images/edits";

/// A small, cheap request with `more` in it.
pub fn kite(more: &Value) -> Value {
    let mut body = json!({ "model": "sandbox/standard", "prompt": "a red kite", "size": "64x64" });
    for (name, value) in more.as_object().expect("fields") {
        body[name] = value.clone();
    }
    body
}

/// POSTs bytes as they are.
async fn send(world: &World, path: &str, content_type: Option<&str>, body: impl Into<reqwest::Body>) -> Reply {
    let mut request = world.client.post(format!("{}{path}", world.gateway.url)).body(body);
    if let Some(content_type) = content_type {
        request = request.header("content-type", content_type);
    }
    reply(request).await
}

/// POSTs a form of text fields and files.
async fn form(world: &World, texts: &[(&str, &str)], files: &[(&str, &[u8])]) -> Reply {
    let mut form = Form::new();
    for (name, text) in texts {
        form = form.text((*name).to_owned(), (*text).to_owned());
    }
    for (name, bytes) in files {
        form = form.part((*name).to_owned(), Part::bytes(bytes.to_vec()).file_name("kite.png"));
    }
    reply(world.client.post(format!("{}{EDITS}", world.gateway.url)).multipart(form)).await
}

/// A PNG of that size.
async fn picture(world: &World, size: &str) -> Vec<u8> {
    let body = json!({ "model": "sandbox/draft", "prompt": format!("an input of {size}"), "size": size });
    world.generate(body).await.expect(200).pictures().remove(0)
}

/// The error object has all four members, and the answer a name.
#[track_caller]
fn assert_shape(reply: &Reply) {
    let error = reply.body["error"].as_object().unwrap_or_else(|| panic!("no error object: {}", reply.body));
    let members: Vec<&str> = error.keys().map(String::as_str).collect();
    assert_eq!(members, ["code", "message", "param", "type"], "{}", reply.body);
    assert!(error["message"].as_str().is_some_and(|message| !message.is_empty()));
    assert!(reply.header("x-request-id").starts_with("req_"), "{:?}", reply.headers);
    assert_eq!(reply.header("content-type"), "application/json");
}

#[track_caller]
pub fn assert_fault(reply: &Reply, status: u16, param: &str, code: &str) {
    assert_eq!(reply.status, status, "{}", reply.body);
    assert_shape(reply);
    let given = reply.body["error"]["param"].as_str().unwrap_or("");
    assert_eq!((given, reply.code()), (param, code), "{}", reply.body);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_bad_field_is_named_and_costs_nothing() {
    let world = World::with("[routes.two]\ncandidates = ['sandbox/standard', 'openai/gpt-image-2']\n").await;
    let long = "x".repeat(32_001);
    for (more, param, code) in [
        (json!({ "sise": "64x64" }), "sise", "unknown_parameter"),
        (json!({ "complexity": "low" }), "complexity", "unknown_parameter"),
        (json!({ "model": "openai/gpt-image-2", "seed": 7, "size": "1024x1024" }), "seed", "unsupported_parameter"),
        (json!({ "quality": "high" }), "quality", "unsupported_parameter"),
        (json!({ "size": "5000x64" }), "size", "invalid_value"),
        (json!({ "model": "openai/gpt-image-2", "size": "9000x9000" }), "size", "invalid_value"),
        (json!({ "model": "openai/gpt-image-1.5", "size": "3500x64" }), "size", "invalid_value"),
        (json!({ "model": "two", "size": "9000x9000" }), "size", "invalid_value"),
        (json!({ "size": "big" }), "size", "invalid_value"),
        (json!({ "size": 64 }), "size", "invalid_type"),
        (json!({ "n": 0 }), "n", "invalid_value"),
        (json!({ "n": 11 }), "n", "invalid_value"),
        (json!({ "n": -1 }), "n", "invalid_value"),
        (json!({ "n": 1.5 }), "n", "invalid_type"),
        (json!({ "n": "2" }), "n", "invalid_type"),
        (json!({ "n": [1] }), "n", "invalid_type"),
        (json!({ "prompt": null }), "prompt", "missing_required_parameter"),
        (json!({ "prompt": "" }), "prompt", "invalid_value"),
        (json!({ "prompt": " \n\t" }), "prompt", "invalid_value"),
        (json!({ "prompt": ["a kite"] }), "prompt", "invalid_type"),
        (json!({ "prompt": long }), "prompt", "string_above_max_length"),
        (json!({ "model": null }), "", ""),
        (json!({ "model": "" }), "model", "invalid_value"),
        (json!({ "model": 7 }), "model", "invalid_type"),
        (json!({ "model": "template/article" }), "model", "invalid_value"),
        (json!({ "model": "openai/gpt-image-2", "size": "auto", "quality": "best" }), "quality", "invalid_value"),
        (json!({ "background": "blue" }), "background", "invalid_value"),
        (
            json!({ "model": "openai/gpt-image-2", "background": "transparent", "output_format": "jpeg" }),
            "background",
            "invalid_value",
        ),
        (json!({ "output_format": "svg" }), "output_format", "invalid_value"),
        (json!({ "output_format": "gif" }), "output_format", "invalid_value"),
        (json!({ "output_compression": 101 }), "output_compression", "invalid_value"),
        (json!({ "model": "openai/gpt-image-2", "output_compression": 50 }), "output_compression", "invalid_value"),
        (json!({ "moderation": "none" }), "moderation", "invalid_value"),
        (json!({ "style": "vivid" }), "style", "unsupported_parameter"),
        (json!({ "response_format": "bytes" }), "response_format", "invalid_value"),
        (json!({ "response_format": "url", "stream": true }), "response_format", "invalid_value"),
        (json!({ "response_format": "url", "cache": { "mode": "no-store" } }), "response_format", "invalid_value"),
        (json!({ "stream": "yes" }), "stream", "invalid_type"),
        (json!({ "stream": true, "partial_images": 4 }), "partial_images", "invalid_value"),
        (json!({ "partial_images": 1 }), "partial_images", "invalid_value"),
        (json!({ "user": 7 }), "user", "invalid_type"),
        (json!({ "seed": -1 }), "seed", "invalid_value"),
        (json!({ "steps": 0 }), "steps", "invalid_value"),
        (json!({ "steps": 2000 }), "steps", "invalid_value"),
        (json!({ "guidance": 7 }), "guidance", "unsupported_parameter"),
        (json!({ "negative_prompt": "fog" }), "negative_prompt", "unsupported_parameter"),
        (json!({ "quality_tier": "best" }), "quality_tier", "invalid_value"),
        (json!({ "deadline_ms": 0 }), "deadline_ms", "invalid_value"),
        (json!({ "max_spend_usd": "a lot" }), "max_spend_usd", "invalid_type"),
        (json!({ "max_spend_usd": -1 }), "max_spend_usd", "invalid_value"),
        (json!({ "cache": "off" }), "cache", "invalid_type"),
        (json!({ "cache": { "mode": "never" } }), "cache.mode", "invalid_value"),
        (json!({ "cache": { "ttl_s": 0 } }), "cache.ttl_s", "invalid_value"),
        (json!({ "cache": { "variants": 101 } }), "cache.variants", "invalid_value"),
        (json!({ "cache": { "ttl": 5 } }), "cache.ttl", "unknown_parameter"),
        (json!({ "route": { "objective": "price" } }), "route.objective", "unknown_parameter"),
        (json!({ "explain": "yes" }), "explain", "invalid_type"),
        (json!({ "metadata": { "order": 17 } }), "metadata", "invalid_type"),
        (json!({ "metadata": { "order": "x".repeat(513) } }), "metadata", "invalid_value"),
        (json!({ "image": "data:image/png;base64,AAAA" }), "image", "unknown_parameter"),
        (
            json!({ "input_fidelity": "high", "model": "openai/gpt-image-1.5", "size": "auto" }),
            "input_fidelity",
            "unsupported_parameter",
        ),
        (json!({ "template": "article" }), "prompt", "invalid_value"),
        (json!({ "data": { "title": "x" } }), "data", "invalid_value"),
        (
            json!({ "template": "artikel", "prompt": null, "model": null, "size": null }),
            "template",
            "template_not_found",
        ),
        (json!({ "template": "article", "prompt": null, "model": null, "size": null }), "data.title", "invalid_value"),
        (
            json!({ "template": "article", "data": { "title": "x", "titel": "x" }, "prompt": null, "model": null, "size": null }),
            "data.titel",
            "invalid_value",
        ),
    ] {
        let reply = world.generate(kite(&more)).await;
        if more == json!({ "model": null }) {
            // One route is configured, and so it is meant.
            assert_eq!(reply.status, 200, "{}", reply.body);
            continue;
        }
        let status = if code == "template_not_found" { 404 } else { 400 };
        assert_eq!(reply.status, status, "{more}: {}", reply.body);
        assert_fault(&reply, status, param, code);
        let field = param.rsplit('.').next().unwrap_or(param).replace('_', " ");
        let value = more[param].as_str().unwrap_or("?");
        let says = |word: &str| reply.message().to_lowercase().replace('_', " ").contains(word);
        assert!(
            says(&field) || says(value),
            "{more}: the message names neither {field} nor {value}: {}",
            reply.message()
        );
        assert!(reply.message().len() < 1000, "a message is no echo: {}", reply.message().len());
    }
    assert_eq!(world.book().await.len(), 1, "only the request without a model was made");
}

#[tokio::test(flavor = "multi_thread")]
async fn broken_bodies_are_told_apart() {
    let world = World::new().await;
    let json_type = Some("application/json");
    let broken = send(&world, GENERATIONS, json_type, "{\"prompt\": \"a kite\",\n \"model\": }").await;
    assert_fault(&broken, 400, "", "invalid_json");
    assert!(broken.message().contains("line 2 column 11"), "{}", broken.message());
    for body in
        ["", "  ", "[]", "\"x\"", "7", "null", "{", "{\"prompt\":\"x\"}}", "{'prompt': 'x'}", "{\"prompt\":\"\u{7}\"}"]
    {
        let reply = send(&world, GENERATIONS, json_type, body).await;
        assert_fault(&reply, 400, "", "invalid_json");
    }
    let latin = send(&world, GENERATIONS, json_type, &b"{\"prompt\": \"\xff\xfe\"}"[..]).await;
    assert_eq!(latin.status, 400, "{}", latin.body);
    let half = send(&world, GENERATIONS, json_type, r#"{"model":"sandbox/draft","prompt":"half of \ud83d"}"#).await;
    assert_fault(&half, 400, "prompt", "invalid_type");
    assert!(half.message().contains("not Unicode"), "{}", half.message());
    let twice = send(&world, GENERATIONS, json_type, r#"{"prompt":"a","prompt":"b"}"#).await;
    assert_fault(&twice, 400, "prompt", "duplicate_parameter");
    let deep = format!("{{\"prompt\":\"x\",\"data\":{}1{}}}", "[".repeat(5000), "]".repeat(5000));
    assert_eq!(send(&world, GENERATIONS, json_type, deep).await.status, 400);

    let fine = kite(&json!({})).to_string();
    for wrong in
        [None, Some("text/plain"), Some("application/x-www-form-urlencoded"), Some("multipart/form-data; boundary=B")]
    {
        let reply = send(&world, GENERATIONS, wrong, fine.clone()).await;
        assert_fault(&reply, 400, "", "unsupported_content_type");
        assert!(reply.message().contains("application/json"));
    }
    let request =
        world.client.post(format!("{}{GENERATIONS}", world.gateway.url)).header("content-type", "application/json");
    let packed = reply(request.header("content-encoding", "gzip").body(fine)).await;
    assert_fault(&packed, 400, "", "unsupported_content_encoding");
    assert!(world.book().await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn broken_forms_and_wrong_pictures_are_told_apart() {
    let world = World::new().await;
    let head = "--B\r\nContent-Disposition: form-data; name=\"prompt\"\r\n\r\na kite\r\n";
    for (content_type, body, says) in [
        ("multipart/form-data", head.to_owned(), "boundary"),
        ("multipart/form-data; boundary=C", format!("{head}--B--\r\n"), "boundary"),
        ("multipart/form-data; boundary=B", head.to_owned(), "cut off"),
        ("multipart/form-data; boundary=B", head.replace("; name=\"prompt\"", "") + "--B--\r\n", "name"),
        ("multipart/form-data; boundary=B", "--B\r\nno headers at all".to_owned(), "headers"),
    ] {
        let reply = send(&world, EDITS, Some(content_type), body).await;
        assert_eq!(reply.status, 400, "{}", reply.body);
        assert_shape(&reply);
        assert!(reply.message().contains(says), "{says}: {}", reply.message());
    }
    let no_form = send(&world, EDITS, Some("text/plain"), "x").await;
    assert_fault(&no_form, 400, "", "unsupported_content_type");

    let model = ("model", "openai/gpt-image-2");
    let png = picture(&world, "64x64").await;
    let small = picture(&world, "32x32").await;
    let cut = &png[..png.len() / 2];
    let prompt = ("prompt", "make it night");
    assert_fault(&form(&world, &[model, prompt], &[]).await, 400, "image", "missing_required_parameter");
    assert_fault(&form(&world, &[model], &[("image", &png)]).await, 400, "prompt", "missing_required_parameter");
    for bad in
        [&b"GIF89a"[..], b"<svg xmlns='http://www.w3.org/2000/svg'/>", b"", b"\x89PNG\r\n\x1a\n", cut, b"just text"]
    {
        assert_fault(&form(&world, &[model, prompt], &[("image", bad)]).await, 400, "image", "invalid_image");
        let both = form(&world, &[model, prompt], &[("image", &png), ("mask", bad)]).await;
        assert_fault(&both, 400, "mask", "invalid_image");
    }
    let sizes = form(&world, &[model, prompt], &[("image", &png), ("mask", &small)]).await;
    assert_fault(&sizes, 400, "mask", "invalid_value");
    assert!(sizes.message().contains("32x32") && sizes.message().contains("64x64"), "{}", sizes.message());
    let masks = form(&world, &[model, prompt], &[("image", &png), ("mask", &png), ("mask", &png)]).await;
    assert_fault(&masks, 400, "mask", "duplicate_parameter");
    let many: Vec<(&str, &[u8])> = vec![("image[]", &small); 17];
    let many = form(&world, &[model, prompt], &many).await;
    assert_eq!((many.status, many.body["error"]["param"].as_str()), (400, Some("image")), "{}", many.body);
    let number = form(&world, &[model, prompt, ("n", "two")], &[("image", &png)]).await;
    assert_fault(&number, 400, "n", "invalid_type");
    let unknown = form(&world, &[model, prompt, ("sise", "64x64")], &[("image", &png)]).await;
    assert_fault(&unknown, 400, "sise", "unknown_parameter");
    let cannot = form(&world, &[("model", "sandbox/standard"), prompt], &[("image", &png)]).await;
    assert_fault(&cannot, 400, "model", "unsupported_operation");
    assert_eq!(world.book().await.len(), 2, "only the inputs were made");

    // And a good one, in every spelling, is one edit.
    let more = [model, prompt, ("size", "64x64"), ("quality", "low"), ("metadata[order]", "17"), ("explain", "true")];
    let first = form(&world, &more, &[("image", &png), ("mask", &png)]).await.expect(200);
    assert_eq!(first.cache(), "miss");
    assert!(first.body["mimeo"]["explain"].is_array());
    let again = form(&world, &more, &[("image[]", &png), ("mask", &png)]).await.expect(200);
    assert_eq!(again.cache(), "hit");
    let url = |bytes: &[u8]| format!("data:image/png;base64,{}", base64_simd::STANDARD.encode_to_string(bytes));
    let body = json!({
        "model": "openai/gpt-image-2", "prompt": "make it night", "size": "64x64", "quality": "low",
        "images": [{ "image_url": url(&png) }], "mask": { "image_url": url(&png) },
    });
    assert_eq!(world.post(EDITS, body).await.expect(200).cache(), "hit");
    let address = json!({ "model": "openai/gpt-image-2", "prompt": "x", "image": "http://127.0.0.1/kite.png" });
    assert_eq!(world.post(EDITS, address).await.expect(400).body["error"]["param"], "image");
    assert_eq!(world.book().await.len(), 3);
}

/// A body beyond the limit is answered, not reset, however it is sent.
#[tokio::test(flavor = "multi_thread")]
async fn too_large_is_said() {
    let world = World::new().await;
    let text = format!("{{\"model\":\"sandbox/standard\",\"prompt\":\"{}\"}}", "x".repeat(40 << 20));
    let chunks = |text: &str| {
        let chunks: Vec<Result<Vec<u8>, std::io::Error>> =
            text.as_bytes().chunks(1 << 20).map(|chunk| Ok(chunk.to_vec())).collect();
        reqwest::Body::wrap_stream(futures_util::stream::iter(chunks))
    };
    for reply in [
        send(&world, GENERATIONS, Some("application/json"), text.clone()).await,
        send(&world, GENERATIONS, Some("application/json"), chunks(&text)).await,
        send(&world, EDITS, Some("application/json"), text.clone()).await,
        form(&world, &[("prompt", "x")], &[("image", text.as_bytes())]).await,
    ] {
        assert_fault(&reply, 413, "", "request_too_large");
        assert!(reply.message().contains("32.0 MiB") && reply.message().contains("max_body_mb"), "{}", reply.message());
    }
    // Nowhere is a body that nobody reads a reason to hang up.
    for path in ["/v1/images/variations", "/v1/nowhere", "/healthz"] {
        let reply = send(&world, path, Some("application/json"), text.clone()).await;
        assert_shape(&reply);
    }
    world.generate(kite(&json!({}))).await.expect(200);
}

#[tokio::test(flavor = "multi_thread")]
async fn unknown_models_are_answered_with_near_ones() {
    let world = World::new().await;
    for (model, near) in [
        ("sandbox/standart", "standard"),
        ("openai/gpt-image-22", "gpt-image-2"),
        ("gpt-imag-2", "gpt-image-2"),
        ("opnai/gpt-image-2", "openai"),
        ("nobody/nothing", "sandbox"),
    ] {
        let reply = world.generate(kite(&json!({ "model": model }))).await;
        assert_fault(&reply, 404, "model", "model_not_found");
        assert!(reply.message().contains(near), "{model}: {}", reply.message());
    }
    let odd = world.generate(kite(&json!({ "model": "openai/gpt-image-2@superb" }))).await;
    assert_fault(&odd, 404, "model", "model_not_found");
    assert!(odd.message().contains("low, medium, high"), "{}", odd.message());
    assert!(world.book().await.is_empty());
}

/// Names of models that are gone still work, and the answer says who served.
#[tokio::test(flavor = "multi_thread")]
async fn gone_models_are_served_by_their_successor() {
    let world = World::new().await;
    for (model, quality, made) in [
        ("dall-e-3", "hd", "high"),
        ("openai/dall-e-3", "standard", "medium"),
        ("dall-e-2", "standard", "low"),
        ("gpt-image-1", "low", "low"),
    ] {
        let body = json!({
            "model": model, "prompt": format!("a kite by {model}"), "size": "64x64", "quality": quality,
            "response_format": "b64_json", "explain": true,
        });
        let reply = world.generate(body).await.expect(200);
        assert_eq!(reply.header("x-mimeo-model"), "gpt-image-2.5-flare", "{model}");
        assert!(reply.body["mimeo"]["explain"].to_string().contains("in place of"), "{}", reply.body["mimeo"]);
        let book = world.book().await;
        let line = book.last().expect("it was billed");
        assert_eq!(
            (line["model"].as_str(), line["quality"].as_str()),
            (Some("gpt-image-2.5-flare"), Some(made)),
            "{model}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_there_is_answered_in_shape() {
    let world = World::new().await;
    for path in [
        "/",
        "/v1",
        "/v1/images",
        "/v1/chat/completions",
        "/v2/models",
        "/v1/images/generations/",
        "/media",
        "/media/x/y",
    ] {
        let reply = world.get(path).await;
        assert_fault(&reply, 404, "", "unknown_url");
        assert!(reply.message().contains(path), "{}", reply.message());
    }
    assert_fault(&world.get("/v1/models/no/such").await, 404, "model", "model_not_found");
    assert_fault(&world.post("/v1/images/variations", json!({})).await, 404, "model", "model_not_found");
    for (method, path) in
        [("GET", GENERATIONS), ("PUT", EDITS), ("DELETE", "/v1/models"), ("POST", "/healthz"), ("POST", "/v1/ledger")]
    {
        let method = reqwest::Method::from_bytes(method.as_bytes()).expect("a method");
        let reply = reply(world.client.request(method, format!("{}{path}", world.gateway.url))).await;
        assert_fault(&reply, 405, "", "method_not_allowed");
        assert!(!reply.header("allow").is_empty(), "405 names what is allowed on {path}");
    }
}

/// The account of a generation is in its headers, wherever the picture came from.
#[tokio::test(flavor = "multi_thread")]
async fn every_generation_tells_its_account() {
    let world = World::new().await;
    let card = json!({ "template": "quote", "data": { "quote": "Draw once, print many." } });
    for (body, sources, provider, model, cost) in [
        (kite(&json!({})), ["miss", "hit"], "sandbox", "standard", "0.01"),
        (kite(&json!({ "response_format": "url" })), ["hit", "hit"], "sandbox", "standard", "0"),
        (kite(&json!({ "cache": { "mode": "no-store" } })), ["bypass", "bypass"], "sandbox", "standard", "0.01"),
        (kite(&json!({ "stream": true })), ["hit", "hit"], "sandbox", "standard", "0"),
        (kite(&json!({ "model": "compatible/any" })), ["miss", "hit"], "compatible", "any", "0.01"),
        (card, ["miss", "hit"], "template", "quote", "0"),
    ] {
        for (turn, source) in sources.into_iter().enumerate() {
            let reply = world.generate(body.clone()).await.expect(200);
            assert_eq!(reply.cache(), source, "{body}");
            assert_eq!(reply.header("x-mimeo-provider"), provider);
            assert_eq!(reply.header("x-mimeo-model"), model);
            let expected = if source == "hit" { "0" } else { cost };
            assert_eq!(reply.header("x-mimeo-cost-usd"), expected, "{body}, turn {turn}");
            assert!(reply.header("x-request-id").starts_with("req_"));
            assert!(!reply.header("x-mimeo-saved-usd").is_empty());
            assert!(reply.header("server-timing").contains("lookup;dur="), "{}", reply.header("server-timing"));
            assert_eq!(reply.header("x-mimeo-simulated"), if provider == "sandbox" { "true" } else { "" });
            if reply.body.is_object() {
                assert_eq!(reply.body["mimeo"]["request_id"], reply.header("x-request-id"));
                assert_eq!(reply.body["mimeo"]["cache"], source);
            }
        }
    }
    // A template also answers to its name as a model.
    let named =
        json!({ "model": "template/quote", "template": "quote", "data": { "quote": "Draw once, print many." } });
    assert_eq!(world.generate(named).await.expect(200).cache(), "hit");
    assert_eq!(world.book().await.len(), 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn why_and_for_whom_is_told() {
    let world = World::with("[routes.two]\ncandidates = ['sandbox/standard', 'openai/gpt-image-2@low']\n").await;
    let metadata: serde_json::Map<String, Value> = (0..16).map(|i| (format!("key{i}"), json!("value"))).collect();
    let body = json!({
        "model": "two", "prompt": "why", "size": "64x64", "quality": "medium", "explain": true, "metadata": metadata,
        "purpose": "og", "category": "people", "user": "u", "quality_tier": "premium", "deadline_ms": 60000,
    });
    let reply = world.generate(body.clone()).await.expect(200);
    let why: Vec<&str> =
        reply.body["mimeo"]["explain"].as_array().expect("lines").iter().filter_map(Value::as_str).collect();
    let has = |text: &str| why.iter().any(|line| line.contains(text));
    assert!(has("1. openai/gpt-image-2@low"), "{why:?}");
    assert!(has("dropped sandbox/standard") && has("quality"), "{why:?}");
    assert!(has("cache: miss"), "{why:?}");
    assert_eq!(world.book().await[0]["quality"], "medium", "what the caller names goes before the candidate's");
    let quiet = world
        .generate(json!({ "model": "two", "prompt": "why", "size": "64x64", "quality": "medium" }))
        .await
        .expect(200);
    assert_eq!(quiet.cache(), "hit", "labels are not part of the picture");
    assert!(quiet.body["mimeo"].get("explain").is_none());

    let limit = |usd: &str| kite(&json!({ "prompt": "money", "n": 3, "max_spend_usd": usd }));
    let refused = world.generate(limit("0.029")).await;
    assert_fault(&refused, 429, "max_spend_usd", "max_spend_exceeded");
    assert_eq!(refused.header("x-should-retry"), "false");
    world.generate(limit("0.03")).await.expect(200);
    assert_eq!(world.generate(limit("0")).await.expect(200).cache(), "hit", "what is there costs nothing");
}

#[tokio::test(flavor = "multi_thread")]
async fn models_are_listed_as_they_can_be_named() {
    let world = World::with("[routes.hero]\ncandidates = ['sandbox/premium']\n").await;
    let list = world.get("/v1/models").await.expect(200).body;
    assert_eq!(list["object"], "list");
    let models = list["data"].as_array().expect("models");
    for model in models {
        assert_eq!(model["object"], "model");
        assert!(model["id"].is_string() && model["created"].is_i64() && model["owned_by"].is_string(), "{model}");
        let one = world.get(&format!("/v1/models/{}", model["id"].as_str().expect("an id"))).await.expect(200).body;
        assert_eq!(&one, model);
    }
    let find = |id: &str| models.iter().find(|model| model["id"] == id).unwrap_or_else(|| panic!("{id} is not listed"));
    assert_eq!(find("hero")["owned_by"], "route");
    assert_eq!(find("hero")["mimeo"]["candidates"], json!(["sandbox/premium"]));
    assert_eq!(find("sandbox/standard")["mimeo"]["usd_per_image"], "0.01");
    assert_eq!(find("sandbox/standard")["mimeo"]["simulated"], true);
    assert_eq!(find("openai/dall-e-3")["mimeo"]["status"], "gone");
    assert_eq!(find("openai/gpt-image-1.5")["mimeo"]["status"], "retiring");
    for template in ["article", "product", "quote"] {
        assert_eq!(find(&format!("template/{template}"))["owned_by"], "template");
    }
    let escaped = world.get("/v1/models/sandbox%2Fstandard").await.expect(200).body;
    assert_eq!(escaped["id"], "sandbox/standard");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_ledger_adds_up_however_it_is_grouped() {
    let world = World::new().await;
    for (prompt, model, purpose) in [
        ("one", "sandbox/standard", json!("og")),
        ("one", "sandbox/standard", json!("og")),
        ("two", "sandbox/premium", json!(null)),
        ("three", "compatible/any", json!("avatar")),
        ("lost [[bill-then-reset]]", "sandbox/draft", json!("og")),
    ] {
        world.generate(json!({ "model": model, "prompt": prompt, "size": "64x64", "purpose": purpose })).await;
    }
    let mut whole: Option<Value> = None;
    for (group, names) in [
        ("provider", json!(["compatible", "sandbox"])),
        ("model", json!(["compatible/any", "sandbox/draft", "sandbox/premium", "sandbox/standard"])),
        ("tenant", json!(["default"])),
        ("key", json!(["local"])),
        ("purpose", json!(["", "avatar", "og"])),
        ("day", json!(null)),
    ] {
        let report = world.get(&format!("/v1/ledger?group_by={group}")).await.expect(200).body;
        let totals = json!([report["spent_usd"], report["saved_usd"], report["suspense_usd"]]);
        assert_eq!(totals, json!(["0.06", "0.01", "0.002"]), "{group}");
        let rows = report["rows"].as_array().expect("rows");
        let mut given: Vec<&str> = rows.iter().map(|row| row["name"].as_str().expect("a name")).collect();
        given.sort_unstable();
        if names.is_array() {
            assert_eq!(json!(given), names, "{group}");
        } else {
            assert!(given.len() <= 2 && given[0].len() == "2026-11-21".len(), "{given:?}");
        }
        for field in ["spent_usd", "saved_usd", "suspense_usd"] {
            let usd = |value: &Value| value.as_str().expect("text").parse::<mimeo::domain::Usd>().expect("a decimal");
            let sum = rows.iter().map(|row| usd(&row[field])).fold(mimeo::domain::Usd::ZERO, |sum, next| sum + next);
            assert_eq!(sum, usd(&report[field]), "{group}, {field}");
        }
        let mut bare = report.clone();
        bare["rows"] = json!([]);
        assert_eq!(*whole.get_or_insert(bare.clone()), bare);
    }
    let all = world.get("/v1/ledger").await.expect(200).body;
    assert_eq!(all["spent_usd"], "0.06");
    assert_eq!(world.get("/v1/ledger?until=2020-01-01").await.expect(200).body["spent_usd"], "0");
    assert_eq!(world.get("/v1/ledger?since=2020-01-01T00:00:00%2B01:00").await.expect(200).body["spent_usd"], "0.06");
    for (query, param) in [("group_by=moon", "group_by"), ("since=yesterday", "since"), ("limit=5", "limit")] {
        let reply = world.get(&format!("/v1/ledger?{query}")).await.expect(400);
        assert_eq!(reply.body["error"]["param"], param);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn health_is_told() {
    let world = World::new().await;
    assert_eq!(world.get("/healthz").await.expect(200).body["status"], "ok");
    assert_eq!(world.get("/readyz").await.expect(200).body["status"], "ready");
    let head = world.client.head(format!("{}/healthz", world.gateway.url)).send().await.expect("it answers");
    assert_eq!(head.status(), 200);
}

/// Faults of a provider are answered in shape, without its pages and addresses.
#[tokio::test(flavor = "multi_thread")]
async fn faults_of_a_provider_are_translated() {
    let world = World::with(
        "[providers.down]\nrecord = 'sandbox'\nbase_url = 'http://127.0.0.1:1/native/v1'\n\
         [providers.shut]\nrecord = 'openai-compatible'\nbase_url = '{sandbox}/nowhere'\nprices = { usd_per_image = '0.01' }\n",
    )
    .await;
    for (model, prompt, status, code) in [
        ("down/standard", "a kite", 502, "provider_error"),
        ("sandbox/standard", "busy [[fail=503]]", 502, ""),
        ("sandbox/standard", "throttled [[throttle=0.01]]", 429, "rate_limit_exceeded"),
        ("sandbox/standard", "poor [[quota]]", 502, "insufficient_quota"),
        ("sandbox/standard", "refused [[refuse]]", 400, "moderation_blocked"),
        ("sandbox/standard", "refused [[refuse-200]]", 400, "moderation_blocked"),
        ("sandbox/standard", "moved [[redirect]]", 0, ""),
        ("sandbox/standard", "page [[html]]", 504, "outcome_unknown"),
        ("openai/gpt-image-2", "garbage [[garbage-json]]", 504, "outcome_unknown"),
        ("openai/gpt-image-2", "wrong key [[fail=401]]", 502, ""),
        ("openai/gpt-image-2", "rejected [[fail=400]]", 400, ""),
    ] {
        let reply = world.generate(json!({ "model": model, "prompt": prompt, "size": "64x64" })).await;
        assert_shape(&reply);
        if status > 0 {
            assert_eq!(reply.status, status, "{prompt}: {}", reply.body);
        }
        if !code.is_empty() {
            assert_eq!(reply.code(), code, "{prompt}: {}", reply.body);
        }
        let text = reply.body.to_string().to_lowercase();
        assert!(!text.contains("<html") && !text.contains("127.0.0.1"), "{prompt}: {text}");
        if status == 429 {
            assert!(!reply.header("retry-after").is_empty());
        }
    }
    assert_eq!(world.stats().await["redirects_followed"], 0);
}

/// A mistyped route is answered with the route that was meant.
#[tokio::test(flavor = "multi_thread")]
async fn mistyped_routes_are_answered_with_near_ones() {
    let world = World::with("[routes.hero]\ncandidates = ['sandbox/draft']\n").await;
    let reply = world.generate(kite(&json!({ "model": "heroo" }))).await;
    assert_fault(&reply, 404, "model", "model_not_found");
    assert!(reply.message().contains("did you mean hero?"), "{}", reply.message());
}
