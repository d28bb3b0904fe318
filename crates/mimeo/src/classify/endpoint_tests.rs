use std::sync::atomic::{AtomicUsize, Ordering};

use axum::Router;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::routing::post;
use bytes::Bytes;
use tokio::net::TcpListener;
use tokio_util::task::TaskTracker;

use super::super::tests::{call, edit, square};
use super::super::{Classifier, Purpose, Source};
use super::*;

/// A model that says the same to everybody, and notes what it was asked.
struct Model {
    says: Option<String>,
    asked: AtomicUsize,
    last: Mutex<Option<(HeaderMap, Value)>>,
}

async fn answer(State(model): State<Arc<Model>>, headers: HeaderMap, body: Bytes) -> String {
    model.asked.fetch_add(1, Ordering::SeqCst);
    *model.last.lock().unwrap() = Some((headers, serde_json::from_slice(&body).unwrap()));
    match &model.says {
        Some(says) => says.clone(),
        None => std::future::pending().await,
    }
}

/// A classifier with an endpoint that answers with `says`, or never.
async fn with_endpoint(says: Option<String>, deadline_ms: u32) -> (Classifier, Arc<Model>) {
    let model = Arc::new(Model { says, asked: AtomicUsize::new(0), last: Mutex::default() });
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let router = Router::new().route("/v1/chat/completions", post(answer)).with_state(Arc::clone(&model));
    TaskTracker::new().spawn(async move { axum::serve(listener, router).await });
    let settings = toml::from_str(&format!(
        "endpoint = {{ url = 'http://{address}/v1/', model = 'eye', api_key = {{ env = 'K' }}, deadline_ms = {deadline_ms} }}\n\
         [[rules]]\nname = 'mine'\nwhen = {{ prompt_matches = ['kite'] }}\npurpose = 'hero'"
    ));
    let environment = [("K".to_owned(), "sk-1".to_owned())].into_iter().collect();
    (Classifier::new(&settings.unwrap(), &environment).unwrap(), model)
}

/// An answer of the API around `text`.
fn completion(text: &str) -> Option<String> {
    Some(json!({ "choices": [{ "message": { "role": "assistant", "content": text } }] }).to_string())
}

const GOOD: &str =
    "{\"purpose\": \"premium\", \"category\": \"glass\", \"background\": \"simple\", \"complexity\": 0.9}";

#[tokio::test]
async fn it_is_asked_once_per_request_with_a_small_picture() {
    let (classifier, model) = with_endpoint(completion(&format!("Sure!\n```json\n{GOOD}\n```")), 5_000).await;
    let edit = edit("make it \"blue\"", square());
    for _ in 0..3 {
        let reading = classifier.read_with_endpoint(&edit).await;
        assert_eq!((&reading.purpose, reading.category.as_str()), (&Purpose::Premium, "glass"));
        assert_eq!((reading.background, reading.complexity), (Background::Simple, 0.9));
        assert_eq!(reading.source, Source::Endpoint);
    }
    assert_eq!(model.asked.load(Ordering::SeqCst), 1, "remembered");
    let (headers, body) = model.last.lock().unwrap().take().unwrap();
    assert_eq!(headers[AUTHORIZATION], "Bearer sk-1");
    assert_eq!(body["model"], "eye");
    let content = &body["messages"][1]["content"];
    let question: Value = serde_json::from_str(content[0]["text"].as_str().unwrap()).unwrap();
    assert_eq!(question["prompt"], "make it \"blue\"");
    let url = content[1]["image_url"]["url"].as_str().unwrap();
    let jpeg = base64_simd::STANDARD.decode_to_vec(url.strip_prefix("data:image/jpeg;base64,").unwrap()).unwrap();
    assert_eq!(crate::media::examine(jpeg.into()).unwrap().width, 128);
    // Another request is another question; who calls is none of its business.
    let mut other = call("make it \"blue\"");
    other.caller.tenant = "acme".into();
    other.caller.key = "web".into();
    classifier.read_with_endpoint(&other).await;
    let asked = format!("{:?}", model.last.lock().unwrap().take().unwrap());
    assert!(!asked.contains("acme") && !asked.contains("web"), "{asked}");
    assert_eq!(model.asked.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn rules_and_callers_go_before_it() {
    let (classifier, model) = with_endpoint(completion(GOOD), 5_000).await;
    let ruled = classifier.read_with_endpoint(&call("a kite")).await;
    assert_eq!((ruled.source, ruled.purpose), (Source::Rule("mine".into()), Purpose::Hero));
    assert_eq!(model.asked.load(Ordering::SeqCst), 0);
    let mut said = call("a mug");
    said.category = Some("toys".into());
    let reading = classifier.read_with_endpoint(&said).await;
    assert_eq!((reading.category.as_str(), reading.purpose), ("toys", Purpose::Premium));
}

#[tokio::test]
async fn many_at_once_ask_once() {
    let (classifier, model) = with_endpoint(completion(GOOD), 5_000).await;
    let call = call("a mug");
    let readings = futures_util::future::join_all((0..20).map(|_| classifier.read_with_endpoint(&call))).await;
    assert!(readings.iter().all(|reading| reading.source == Source::Endpoint));
    assert_eq!(model.asked.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn whatever_it_says_wrong_the_lists_say_right_and_it_is_left_alone_for_a_while() {
    let bad = [
        completion("I cannot help with that."),
        completion("{\"purpose\": \"premium\"}"),
        completion(&GOOD.replace("glass", "glassware")),
        completion(&GOOD.replace("0.9", "9")),
        completion(&GOOD.replace("premium", "Premium!")),
        completion("}{"),
        Some("{}".to_owned()),
        Some("<html>".to_owned()),
        Some("x".repeat(300 << 10)),
    ];
    for says in bad {
        let (classifier, model) = with_endpoint(says.clone(), 5_000).await;
        for (number, prompt) in
            ["a mug on white", "a jar on white", "a cup on white", "a pan on white"].iter().enumerate()
        {
            for _ in 0..2 {
                let reading = classifier.read_with_endpoint(&call(prompt)).await;
                assert_eq!(reading.source, Source::Classifier, "{says:?}");
                assert_eq!(reading.background, Background::Plain);
            }
            // The fourth one is not sent at all.
            assert_eq!(model.asked.load(Ordering::SeqCst), (number + 1).min(3), "{says:?}");
        }
    }
}

#[tokio::test]
async fn who_is_slow_is_not_waited_for_and_the_reading_stays_what_it_was() {
    let (classifier, model) = with_endpoint(None, 50).await;
    let first = classifier.read_with_endpoint(&call("a mug on white")).await;
    let second = classifier.read_with_endpoint(&call("a mug on white")).await;
    assert_eq!((first.source.clone(), &first), (Source::Classifier, &second));
    assert!(model.asked.load(Ordering::SeqCst) <= 1, "it is asked once or, on a busy machine, not in time");
}
