//! The simulations: every file's examples, and each mechanism once.

use std::collections::BTreeMap;
use std::time::Duration;

use mimeo_sandbox::{Example, Options, Sandbox, simulations, start};
use serde_json::{Value, json};

use crate::client::{Answer, get, request, size_of_png};
use crate::sandbox;

/// A small picture, as a client would send it.
async fn picture(sandbox: &Sandbox) -> Vec<u8> {
    let body = json!({ "model": "draft", "prompt": "an input", "width": 64, "height": 64 });
    crate::post(sandbox, "/native/v1/draw", &body).await.body
}

fn head(method: &str, path: &str, headers: &BTreeMap<String, String>) -> String {
    let headers: String = headers.iter().map(|(name, value)| format!("\r\n{name}: {value}")).collect();
    format!("{method} {path} HTTP/1.1{headers}")
}

/// Sends a JSON body to a simulation.
async fn send(sandbox: &Sandbox, path: &str, headers: &[(&str, &str)], body: &Value) -> Answer {
    let headers = headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    let mut headers: BTreeMap<_, _> = headers.collect();
    headers.insert("content-type".to_owned(), "application/json".to_owned());
    request(sandbox, &head("POST", path, &headers), body.to_string().as_bytes()).await
}

/// A form; `@picture` is a file.
fn form(fields: &[(String, String)], picture: &[u8]) -> Vec<u8> {
    let mut form = Vec::new();
    for (name, value) in fields {
        form.extend_from_slice(format!("--cut\r\nContent-Disposition: form-data; name=\"{name}\"").as_bytes());
        match value.as_str() {
            "@picture" => {
                form.extend_from_slice(b"; filename=\"a.png\"\r\nContent-Type: image/png\r\n\r\n");
                form.extend_from_slice(picture);
            }
            text => form.extend_from_slice(format!("\r\n\r\n{text}").as_bytes()),
        }
        form.extend_from_slice(b"\r\n");
    }
    form.extend_from_slice(b"--cut--\r\n");
    form
}

/// The values that a pointer finds; `*` stands for every element.
fn find(value: &Value, pointer: &str) -> Vec<Value> {
    let mut found = vec![value.clone()];
    for name in pointer.split('/') {
        let step = |value: Value| match (value, name) {
            (Value::Array(items), "*") => items,
            (Value::Array(items), index) => items.into_iter().nth(index.parse().unwrap()).into_iter().collect(),
            (Value::Object(map), "*") => map.into_iter().map(|(_, value)| value).collect(),
            (Value::Object(mut map), name) => map.remove(name).into_iter().collect(),
            _ => Vec::new(),
        };
        found = found.into_iter().flat_map(step).collect();
    }
    found.retain(|value| !value.is_null());
    found
}

/// The path of an address of this sandbox.
fn path_of<'a>(sandbox: &Sandbox, url: &'a str) -> &'a str {
    url.strip_prefix(sandbox.url().as_str()).unwrap_or(url)
}

fn is_picture(bytes: &[u8]) -> bool {
    bytes.starts_with(b"\x89PNG") || bytes.starts_with(b"\xFF\xD8\xFF") || bytes.starts_with(b"RIFF")
}

/// Sends an example and follows it to its pictures.
async fn play(sandbox: &Sandbox, name: &str, example: &Example) -> usize {
    let input = picture(sandbox).await;
    let mut headers = example.headers.clone();
    let body = match &example.body {
        Some(body) => {
            headers.insert("content-type".to_owned(), "application/json".to_owned());
            let encoded = base64_simd::STANDARD.encode_to_string(&input);
            body.replace("@picture", &encoded).into_bytes()
        }
        None => {
            headers.insert("content-type".to_owned(), "multipart/form-data; boundary=cut".to_owned());
            form(&example.form, &input)
        }
    };
    let path = format!("/as/{name}{}", example.path);
    let first = request(sandbox, &head("POST", &path, &headers), &body).await;
    let told = |answer: &Answer| format!("{name} {path}: {} {}", answer.status, String::from_utf8_lossy(&answer.body));
    assert!((200..300).contains(&first.status), "{}", told(&first));
    headers.remove("content-type");
    let Some(pictures) = &example.pictures else {
        assert!(is_picture(&first.body), "{}", told(&first));
        return 1;
    };
    let submitted = first.json();
    let mut last = submitted.clone();
    let text = |value: &Value, pointer: &str| find(value, pointer).first().and_then(Value::as_str).map(str::to_owned);
    if example.poll.is_some() || example.poll_path.is_some() {
        let pointer = example.poll.as_deref().unwrap_or("id");
        let found = text(&submitted, pointer).unwrap_or_else(|| panic!("no {pointer} in {submitted}"));
        let poll = match &example.poll_path {
            Some(path) => format!("/as/{name}{}", path.replace("{id}", &found)),
            None => path_of(sandbox, &found).to_owned(),
        };
        for polls in 0.. {
            assert!(polls < 20, "{name} is never done: {last}");
            let answer = request(sandbox, &head("GET", &poll, &headers), b"").await;
            assert!((200..300).contains(&answer.status), "{}", told(&answer));
            last = answer.json();
            if let Some(pointer) = &example.result {
                let result = text(&last, pointer).or_else(|| text(&submitted, pointer));
                let result = result.unwrap_or_else(|| panic!("no {pointer} in {last}"));
                let answer = request(sandbox, &head("GET", path_of(sandbox, &result), &headers), b"").await;
                if answer.status == 200 {
                    last = answer.json();
                }
            }
            if !find(&last, pictures).is_empty() {
                break;
            }
        }
    }
    let found = find(&last, pictures);
    assert!(!found.is_empty(), "{name}: no {pictures} in {last}");
    for picture in &found {
        let text = picture.as_str().unwrap_or_else(|| panic!("{name}: {picture} is no picture"));
        let bytes = if text.starts_with("http") {
            let answer = request(sandbox, &head("GET", path_of(sandbox, text), &BTreeMap::new()), b"").await;
            assert_eq!(answer.status, 200, "{}", told(&answer));
            answer.body
        } else {
            let encoded = text.rsplit_once("base64,").map_or(text, |(_, encoded)| encoded);
            base64_simd::STANDARD.decode_to_vec(encoded).unwrap()
        };
        assert!(is_picture(&bytes), "{name}: no picture came");
    }
    found.len()
}

#[tokio::test]
async fn every_simulation_answers_its_examples_and_bills_them() {
    let sandbox = sandbox().await;
    let mut billed = 0;
    for simulation in simulations(&[]).unwrap() {
        let in_code = simulation.name == "comfyui";
        assert!(in_code || !simulation.examples.is_empty(), "{} has no example", simulation.name);
        assert!(simulation.docs.starts_with("https://"), "{}", simulation.name);
        for example in &simulation.examples {
            // One more line is that of the input picture.
            billed += 2;
            play(&sandbox, &simulation.name, example).await;
            let lines = sandbox.book().lines().unwrap();
            let line = lines.last().unwrap();
            assert_eq!((line.seq, &line.invoice.provider), (billed, &simulation.name), "{}", example.path);
        }
    }
    sandbox.stop().await;
}

const BFL: &str = "/as/bfl/v1/flux-2-pro";
const KEY: [(&str, &str); 1] = [("x-key", "secret")];

/// Submits a job and gives the path to poll it.
async fn submit(sandbox: &Sandbox, prompt: &str) -> String {
    let answer = send(sandbox, BFL, &KEY, &json!({ "prompt": prompt, "width": 64, "height": 64 })).await;
    assert_eq!(answer.status, 200, "{}", String::from_utf8_lossy(&answer.body));
    path_of(sandbox, answer.json()["polling_url"].as_str().unwrap()).to_owned()
}

async fn poll(sandbox: &Sandbox, path: &str) -> Answer {
    request(sandbox, &format!("GET {path} HTTP/1.1\r\nx-key: secret"), b"").await
}

/// The statuses that so many polls of a job are told.
async fn statuses(sandbox: &Sandbox, path: &str, polls: usize) -> Vec<String> {
    let mut statuses = Vec::new();
    for _ in 0..polls {
        let answer = poll(sandbox, path).await;
        let status = match answer.status {
            200 => answer.json()["status"].as_str().unwrap().to_owned(),
            status => status.to_string(),
        };
        statuses.push(status);
    }
    statuses
}

#[tokio::test]
async fn a_job_goes_through_its_states_and_is_billed_once() {
    let sandbox = sandbox().await;
    let path = submit(&sandbox, "a red kite").await;
    assert_eq!(sandbox.book().totals().count, 1, "billed when it is accepted");
    assert_eq!(statuses(&sandbox, &path, 5).await, ["Pending", "Reasoning", "Generating", "Ready", "Ready"]);
    let done = poll(&sandbox, &path).await.json();
    let file = get_plain(&sandbox, done["result"]["sample"].as_str().unwrap()).await;
    assert_eq!((file.status, file.headers["content-type"].as_str()), (200, "image/jpeg"));
    let lines = sandbox.book().lines().unwrap();
    assert_eq!(lines.len(), 1);
    let invoice = &lines[0].invoice;
    assert_eq!(
        (invoice.provider.as_str(), invoice.model.as_str(), invoice.account.as_str()),
        ("bfl", "flux-2-pro", "secret")
    );
    assert_eq!((invoice.usd.to_string().as_str(), invoice.size.as_str()), ("0.03", "64x64"));
    let jobs = get(&sandbox, "/control/jobs").await.json();
    assert_eq!((&jobs["jobs"][0]["phase"], &jobs["jobs"][0]["polls"]), (&json!("ended"), &json!(6)));
    assert_eq!((sandbox.stats().jobs, sandbox.stats().polls), (1, 6));
    sandbox.stop().await;
}

/// Fetches an address without showing any key.
async fn get_plain(sandbox: &Sandbox, url: &str) -> Answer {
    request(sandbox, &format!("GET {} HTTP/1.1", path_of(sandbox, url)), b"").await
}

#[tokio::test]
async fn what_goes_wrong_with_a_job_is_told_when_it_is_polled() {
    let sandbox = sandbox().await;
    for (prompt, polls, last, billed) in [
        ("[[refuse]]", 4, "Request Moderated", 0),
        ("[[refuse=2]]", 4, "Content Moderated", 0),
        ("[[refuse=9]]", 4, "Content Moderated", 0),
        ("[[fail-job]]", 4, "Error", 0),
        ("[[bill-then-fail-job]]", 4, "Error", 1),
        ("[[odd-status]]", 2, "Composing", 1),
        ("[[odd-status]]", 4, "Ready", 1),
        ("[[poll-fail=503]]", 1, "503", 1),
        ("[[poll-fail=503]]", 4, "Ready", 1),
        ("[[forget-job]]", 1, "404", 1),
    ] {
        let before = sandbox.book().totals().count;
        let path = submit(&sandbox, prompt).await;
        let statuses = statuses(&sandbox, &path, polls).await;
        assert_eq!(statuses.last().map(String::as_str), Some(last), "{prompt}: {statuses:?}");
        assert_eq!(sandbox.book().totals().count - before, billed, "{prompt}");
    }
    sandbox.stop().await;
}

#[tokio::test]
async fn a_lost_answer_leaves_a_billed_job_behind() {
    let sandbox = sandbox().await;
    for (prompt, status) in [("[[bill-then-reset]]", 0), ("[[bill-then-fail=502]]", 502), ("[[html]]", 200)] {
        let answer = send(&sandbox, BFL, &KEY, &json!({ "prompt": prompt })).await;
        assert_eq!(answer.status, status, "{prompt}");
    }
    let cut = send(&sandbox, BFL, &KEY, &json!({ "prompt": "[[truncate]]" })).await;
    assert!(!cut.whole());
    assert_eq!((sandbox.book().totals().count, sandbox.jobs().len()), (4, 4));
    for (prompt, status) in [("[[fail=500]]", 500), ("[[reset]]", 0), ("[[quota]]", 402), ("[[redirect]]", 302)] {
        let answer = send(&sandbox, BFL, &KEY, &json!({ "prompt": prompt })).await;
        assert_eq!(answer.status, status, "{prompt}");
    }
    assert_eq!((sandbox.book().totals().count, sandbox.jobs().len()), (4, 4));
    sandbox.stop().await;
}

#[tokio::test]
async fn a_simulation_complains_in_the_providers_words() {
    let sandbox = sandbox().await;
    let answer = send(&sandbox, BFL, &[], &json!({ "prompt": "x" })).await;
    assert_eq!((answer.status, answer.json()["detail"].as_str()), (403, Some("Not authenticated")));
    for (body, field) in [
        (json!({ "prompt": "x", "n": 2 }), "n"),
        (json!({ "width": 64 }), "prompt"),
        (json!({ "prompt": "x", "width": 65, "height": 64 }), "width"),
        (json!({ "prompt": "x", "width": "64" }), "width"),
        (json!({ "prompt": "x", "input_image": "bm8gcGljdHVyZQ==" }), "input_image"),
        (json!({ "prompt": "x", "width": 4096, "height": 4096 }), "width"),
    ] {
        let answer = send(&sandbox, BFL, &KEY, &body).await;
        assert_eq!(answer.status, 422, "{body}");
        assert_eq!(answer.json()["detail"][0]["loc"], json!(["body", field]), "{body}");
    }
    let answer = send(&sandbox, BFL, &KEY, &json!({ "prompt": "[[throttle=1.5]]" })).await;
    assert_eq!((answer.status, answer.headers["retry-after"].as_str()), (429, "2"));
    let answer = send(&sandbox, "/as/bfl/v1/flux-9", &KEY, &json!({ "prompt": "x" })).await;
    assert_eq!(answer.status, 404);
    assert_eq!(get(&sandbox, "/as/nobody/v1").await.status, 404);
    assert_eq!(sandbox.book().totals().count, 0);
    assert_eq!(sandbox.stats().requests_seen, 9);
    // Google tells in the body how long to wait, inside of a list.
    let path = "/as/gemini/v1beta/models/gemini-3-pro-image:generateContent?key=k";
    let body = json!({ "contents": [{ "parts": [{ "text": "[[throttle=33]]" }] }] });
    let answer = send(&sandbox, path, &[], &body).await;
    assert_eq!(answer.json()[0]["error"]["details"][1]["retryDelay"], "33s");
    sandbox.stop().await;
}

#[tokio::test]
async fn bytes_or_json_as_the_caller_accepts_them() {
    let sandbox = sandbox().await;
    let ask = async |prompt: &str, accept: &str| {
        let fields = [("prompt", prompt), ("aspect_ratio", "16:9"), ("seed", "7")];
        let fields = fields.map(|(name, text)| (name.to_owned(), text.to_owned()));
        let head = format!(
            "POST /as/stability/v2beta/stable-image/generate/core HTTP/1.1\r\nAuthorization: Bearer k\r\n\
             Accept: {accept}\r\nContent-Type: multipart/form-data; boundary=cut"
        );
        request(&sandbox, &head, &form(&fields, b"")).await
    };
    let bytes = ask("a red kite", "image/*").await;
    assert_eq!((bytes.status, bytes.headers["finish-reason"].as_str()), (200, "SUCCESS"));
    assert_eq!(bytes.headers["seed"], "7");
    assert_eq!(size_of_png(&bytes.body), (1360, 768));
    let json = ask("a red kite", "application/json").await;
    assert_eq!(json.json()["finish_reason"], "SUCCESS");
    assert_eq!(ask("a red kite", "text/html").await.status, 400);
    // One refusal is free and says so; the other is a picture, and billed.
    assert_eq!(ask("[[refuse]]", "image/*").await.status, 403);
    let count = sandbox.book().totals().count;
    let blurred = ask("[[refuse=2]]", "image/*").await;
    assert_eq!((blurred.status, blurred.headers["finish-reason"].as_str()), (200, "CONTENT_FILTERED"));
    assert_eq!(sandbox.book().totals().count, count + 1);
    assert_eq!(ask("[[refuse-200]]", "image/*").await.headers["finish-reason"], "CONTENT_FILTERED");
    let route = "/as/stability/v2beta/stable-image/generate/core";
    let no_form = send(&sandbox, route, &[("authorization", "Bearer k")], &json!({ "prompt": "x" })).await;
    assert_eq!(no_form.status, 415);
    sandbox.stop().await;
}

#[tokio::test]
async fn tokens_are_told_and_billed_alike() {
    let sandbox = sandbox().await;
    let path = "/as/gemini/v1beta/models/gemini-3-pro-image:generateContent";
    let body = json!({
        "contents": [{ "parts": [{ "text": "a red kite" }] }],
        "generationConfig": { "imageConfig": { "imageSize": "2K" } },
    });
    let answer = send(&sandbox, path, &[("x-goog-api-key", "k")], &body).await.json();
    assert_eq!(answer["usageMetadata"]["candidatesTokenCount"], 1120);
    assert_eq!(answer["usageMetadata"]["promptTokenCount"], 3);
    // 1120 × $0.00012 + 3 × $0.000002
    assert_eq!(sandbox.book().totals().billed_usd.to_string(), "0.134406");
    for (way, there) in [(1, "promptFeedback"), (2, "candidates"), (3, "candidates")] {
        let body = json!({ "contents": [{ "parts": [{ "text": format!("[[refuse={way}]]") }] }] });
        let answer = send(&sandbox, path, &[("x-goog-api-key", "k")], &body).await;
        assert_eq!(answer.status, 200);
        assert!(answer.json().get(there).is_some(), "{way}");
    }
    assert_eq!(sandbox.book().totals().count, 1);
    sandbox.stop().await;
}

#[tokio::test]
async fn addresses_expire_lag_and_notice_keys() {
    let sandbox = sandbox().await;
    let url = async |prompt: &str| {
        let path = submit(&sandbox, prompt).await;
        statuses(&sandbox, &path, 3).await;
        poll(&sandbox, &path).await.json()["result"]["sample"].as_str().unwrap().to_owned()
    };
    let expired = url("[[expired-url]]").await;
    assert_eq!(get_plain(&sandbox, &expired).await.status, 403);
    let late = url("[[lag=2]]").await;
    for status in [404, 404, 200] {
        assert_eq!(get_plain(&sandbox, &late).await.status, status);
    }
    assert_eq!(sandbox.stats().key_leaks, 0);
    let leaked = poll(&sandbox, path_of(&sandbox, &late)).await;
    assert_eq!((leaked.status, sandbox.stats().key_leaks), (200, 1));
    let page = url("[[html-picture]]").await;
    assert!(get_plain(&sandbox, &page).await.body.starts_with(b"<!DOCTYPE html>"));
    sandbox.stop().await;
}

#[tokio::test]
async fn one_simulation_can_stand_at_the_root_and_files_can_be_added() {
    let folder = std::env::temp_dir().join(format!("mimeo-simulation-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let file = folder.join("easel.toml");
    std::fs::write(&file, EASEL).unwrap();
    let options =
        Options { as_provider: Some("easel".to_owned()), simulations: vec![file.clone()], ..Options::default() };
    let sandbox = start(options).await.unwrap();
    let answer = send(&sandbox, "/paint", &[], &json!({ "prompt": "x", "n": 2 })).await.json();
    assert_eq!(answer["urls"].as_array().unwrap().len(), 2);
    let url = answer["urls"][1].as_str().unwrap();
    assert!(url.starts_with(&format!("{}/files/", sandbox.url())), "{url}");
    assert_eq!(get_plain(&sandbox, url).await.status, 200);
    assert_eq!(sandbox.book().totals().billed_usd.to_string(), "0.5");
    sandbox.stop().await;

    std::fs::write(&file, EASEL.replace("pictures %}", "pictures %")).unwrap();
    let broken = start(Options { simulations: vec![file.clone()], ..Options::default() }).await.unwrap_err();
    assert!(broken.to_string().contains("template"), "{broken}");
    let unknown = start(Options { as_provider: Some("nobody".to_owned()), ..Options::default() }).await.unwrap_err();
    assert!(unknown.to_string().contains("--list"), "{unknown}");
    std::fs::remove_dir_all(&folder).unwrap();
}

/// A provider that exists nowhere: no key, a list of addresses, 25 cents a picture, cancelled jobs.
const EASEL: &str = r#"
name = "easel"
title = "The easel"
docs = "https://example.com"
as_of = "2026-11-21"
[prices]
"*" = "0.25"
[billing]
at = "done"
[errors.server]
body = '{"what":{{ message|json }}}'
[[routes]]
does = "generate"
path = "/paint"
model = "=oil"
n = "n"
fields = { prompt = "string!", n = "int" }
[[routes.answers]]
body = '{"urls":[{% for one in pictures %}{{ one.url|json }}{% if not loop.last %},{% endif %}{% endfor %}]}'
[[routes]]
does = "submit"
path = "/jobs"
model = "=oil"
fields = { prompt = "string!", tell = "string" }
[[routes.answers]]
status = 202
body = '{"id":{{ job.id|json }}}'
[[routes]]
does = "poll"
path = "/jobs/{job}"
[[routes]]
does = "cancel"
path = "/jobs/{job}/cancel"
[[answers.poll]]
body = '{"state":{{ job.status|json }}}'
[[answers.cancel]]
when = "cancelled"
body = '{"state":"over"}'
[[answers.cancel]]
status = 409
body = '{"state":{{ job.state|json }}}'
[[routes]]
does = "keys"
path = "/keys"
auth = false
"#;

/// A sandbox with the easel, and the file's text changed by pairs of old and new.
async fn easel(name: &str, changes: &[(&str, &str)], latency: Duration) -> Sandbox {
    let file = std::env::temp_dir().join(format!("mimeo-easel-{name}-{}.toml", std::process::id()));
    let text = changes.iter().fold(EASEL.to_owned(), |text, (old, new)| text.replace(old, new));
    std::fs::write(&file, text).unwrap();
    let sandbox = start(Options { simulations: vec![file.clone()], latency, ..Options::default() }).await.unwrap();
    std::fs::remove_file(file).unwrap();
    sandbox
}

#[tokio::test]
async fn a_cancelled_job_is_not_billed_unless_it_ran() {
    let sandbox = easel("cancel", &[], Duration::from_secs(3600)).await;
    let id = send(&sandbox, "/as/easel/jobs", &[], &json!({ "prompt": "x" })).await.json()["id"]
        .as_str()
        .unwrap()
        .to_owned();
    assert_eq!(get(&sandbox, &format!("/as/easel/jobs/{id}")).await.json()["state"], "queued");
    let cancel = format!("/as/easel/jobs/{id}/cancel");
    assert_eq!(send(&sandbox, &cancel, &[], &json!({})).await.json()["state"], "over");
    assert_eq!(send(&sandbox, &cancel, &[], &json!({})).await.status, 409);
    assert_eq!(get(&sandbox, &format!("/as/easel/jobs/{id}")).await.json()["state"], "cancelled");
    assert_eq!(sandbox.book().totals().count, 0);
    sandbox.stop().await;

    let sandbox = easel("late", &[], Duration::ZERO).await;
    let id = send(&sandbox, "/as/easel/jobs", &[], &json!({ "prompt": "x" })).await.json()["id"]
        .as_str()
        .unwrap()
        .to_owned();
    assert_eq!(send(&sandbox, &format!("/as/easel/jobs/{id}/cancel"), &[], &json!({})).await.status, 409);
    assert_eq!((sandbox.book().totals().count, sandbox.jobs()[0].invoice), (1, Some(1)));
    sandbox.stop().await;
}

/// Takes one call of a webhook: its headers, lower case, and its body.
async fn take(listener: &tokio::net::TcpListener, status: u16) -> (BTreeMap<String, String>, String) {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let calling = async {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut call = String::new();
        loop {
            let mut piece = [0; 4096];
            let read = stream.read(&mut piece).await.unwrap();
            call.push_str(std::str::from_utf8(&piece[..read]).unwrap());
            let Some((head, body)) = call.split_once("\r\n\r\n") else { continue };
            let lines = head.lines().skip(1).filter_map(|line| line.split_once(": "));
            let headers: BTreeMap<_, _> = lines.map(|(name, value)| (name.to_lowercase(), value.to_owned())).collect();
            if body.len() == headers["content-length"].parse::<usize>().unwrap() {
                let answer = format!("HTTP/1.1 {status} Taken\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
                stream.write_all(answer.as_bytes()).await.unwrap();
                return (headers, body.to_owned());
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(10), calling).await.unwrap()
}

fn bytes_of(hex: &str) -> Vec<u8> {
    let pairs = (0..hex.len()).step_by(2);
    pairs.map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect()
}

#[tokio::test]
async fn the_end_of_a_job_is_told_and_signed() {
    let sandbox = sandbox().await;
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("http://{}/done?job=1", listener.local_addr().unwrap());

    // HMAC in hex with the caller's secret; the second try comes after a failure.
    let body = json!({ "prompt": "x", "width": 64, "height": 64, "webhook_url": address, "webhook_secret": "s3cret" });
    send(&sandbox, BFL, &KEY, &body).await;
    take(&listener, 500).await;
    let (headers, body) = take(&listener, 200).await;
    let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, b"s3cret");
    let signature = bytes_of(headers["x-bfl-signature"].strip_prefix("sha256=").unwrap());
    ring::hmac::verify(&key, body.as_bytes(), &signature).unwrap();
    let told: Value = serde_json::from_str(&body).unwrap();
    assert_eq!(told["status"], "Ready");
    assert_eq!(get_plain(&sandbox, told["result"]["sample"].as_str().unwrap()).await.status, 200);

    // Standard Webhooks.
    let body = json!({ "input": { "prompt": "[[refuse]]" }, "webhook": address });
    let path = "/as/replicate/v1/models/black-forest-labs/flux-schnell/predictions";
    let answer = send(&sandbox, path, &[("authorization", "Bearer k")], &body).await;
    assert_eq!((answer.status, answer.json()["status"].as_str()), (201, Some("starting")));
    let (headers, body) = take(&listener, 200).await;
    let key = base64_simd::STANDARD.decode_to_vec("c2ltdWxhdGVkIHNlY3JldCBvZiBhIHdlYmhvb2s=").unwrap();
    let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, &key);
    let message = format!("{}.{}.{body}", headers["webhook-id"], headers["webhook-timestamp"]);
    let signature = headers["webhook-signature"].strip_prefix("v1,").unwrap();
    let signature = base64_simd::STANDARD.decode_to_vec(signature).unwrap();
    ring::hmac::verify(&key, message.as_bytes(), &signature).unwrap();
    assert_eq!(serde_json::from_str::<Value>(&body).unwrap()["status"], "failed");

    // Ed25519 with a key that anybody can look up; the address came in the query.
    let path = format!("/as/fal/fal-ai/flux/dev?fal_webhook={}", address.replace('?', "%3F"));
    send(&sandbox, &path, &[("authorization", "Key a:b")], &json!({ "prompt": "x" })).await;
    let (headers, body) = take(&listener, 200).await;
    let keys = get_plain(&sandbox, "/as/fal/.well-known/jwks.json").await.json();
    let public = base64_simd::URL_SAFE_NO_PAD.decode_to_vec(keys["keys"][0]["x"].as_str().unwrap()).unwrap();
    let hash = ring::digest::digest(&ring::digest::SHA256, body.as_bytes());
    let hash: String = hash.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    let parts = ["request-id", "user-id", "timestamp"].map(|part| headers[&format!("x-fal-webhook-{part}")].clone());
    let message = format!("{}\n{hash}", parts.join("\n"));
    let signature = bytes_of(&headers["x-fal-webhook-signature"]);
    let public = ring::signature::UnparsedPublicKey::new(&ring::signature::ED25519, public);
    public.verify(message.as_bytes(), &signature).unwrap();
    assert_eq!(serde_json::from_str::<Value>(&body).unwrap()["status"], "OK");
    sandbox.stop().await;
}

#[tokio::test]
async fn a_queue_tells_the_failure_only_with_the_result() {
    let sandbox = sandbox().await;
    let key = [("authorization", "Key a:b")];
    for (prompt, status, billed) in [("[[refuse]]", 422, 0), ("[[fail-job]]", 500, 0), ("[[refuse=2]]", 200, 1)] {
        let before = sandbox.book().totals().count;
        let body = json!({ "prompt": prompt, "image_size": "square" });
        let job = send(&sandbox, "/as/fal/fal-ai/flux/dev", &key, &body).await.json();
        let ask = async |name: &str| {
            let path = path_of(&sandbox, job[name].as_str().unwrap()).to_owned();
            request(&sandbox, &format!("GET {path} HTTP/1.1\r\nauthorization: Key a:b"), b"").await
        };
        assert_eq!(ask("response_url").await.status, 400, "not yet");
        for expected in [202, 202, 200] {
            assert_eq!(ask("status_url").await.status, expected, "{prompt}");
        }
        let result = ask("response_url").await;
        assert_eq!(result.status, status, "{prompt}");
        if status == 200 {
            assert_eq!(result.json()["has_nsfw_concepts"], json!([true]));
        }
        assert_eq!(sandbox.book().totals().count - before, billed, "{prompt}");
    }
    sandbox.stop().await;
}
