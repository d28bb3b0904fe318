use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use axum::body::Body;
use axum::http::Response;
use futures_util::future::{BoxFuture, pending, ready};
use serde_json::json;

use super::*;
use crate::domain::{ImageRequest, Price};
use crate::providers::testing::{self, KEY, Seen, Server, recorded, typed};
use crate::providers::watch::NotNoted;

const PICTURE: &[u8] = b"\x89PNG\r\n\x1a\n and so on";

const RECORD: &str = r#"
name = "x"
title = "X"
shape = "submit-poll"
timeout_s = 20
auth = { scheme = "header", header = "x-key", env = "X_KEY" }
wire = { generate = "/v1/{model}" }
fields = { prompt = "prompt", width = "width", height = "height" }
result = { pictures = ["result/sample"] }
cost = { at = "cost", usd = "0.01" }
errors = { when = [{ at = "detail/*/type", is = ["content_policy_violation"], means = "refused" }] }

[job]
id = "id"
poll = "polling_url"
poll_path = "/v1/get/{id}"
status = "status"
waiting = ["Pending"]
running = ["Generating"]
done = ["Ready"]
refused = ["Moderated"]
failed = ["Error"]
cancelled = ["Stopped"]
progress = { at = "progress", full = 1 }
detail = ["details"]
cancel_path = "/v1/cancel/{id}"
cancel_method = "PUT"
delay_ms = 1
every_ms = 1
most_ms = 5

[[models]]
id = "pro"
sizes = { rule = { max_edge = 2048 } }
prices = { certainty = "verified", source = "test", rates = { image = [{ usd = "0.05" }] } }
"#;

fn with(changes: &str) -> String {
    // Tables of a record may be written as dotted keys before the first header.
    RECORD.replacen("timeout_s = 20\n", &format!("timeout_s = 20\n{changes}\n"), 1)
}

/// What was told while a job was under way.
#[derive(Default)]
struct Told {
    news: Mutex<Vec<String>>,
    tickets: Mutex<Vec<Ticket>>,
    stops: bool,
    wakes: bool,
}

impl Watch for Told {
    fn progress(&self, news: Progress) {
        self.news.lock().unwrap().push(format!("{news:?}"));
    }
    fn accepted<'a>(&'a self, ticket: &'a Ticket) -> BoxFuture<'a, Result<(), NotNoted>> {
        self.tickets.lock().unwrap().push(ticket.clone());
        Box::pin(ready(Ok(())))
    }
    fn stopped(&self) -> BoxFuture<'_, ()> {
        if self.stops { Box::pin(ready(())) } else { Box::pin(pending()) }
    }
    fn woken(&self) -> BoxFuture<'_, ()> {
        if self.wakes { Box::pin(ready(())) } else { Box::pin(pending()) }
    }
}

fn json(status: u16, value: &Value) -> Response<Body> {
    testing::json(status, value)
}

/// A provider that accepts a job and then answers one question after the other; the last answer stays.
async fn provider_that(answers: Vec<(u16, Value)>) -> (Server, Arc<AtomicUsize>) {
    let asked = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&asked);
    let server = Server::start(move |seen: &Seen| match (seen.method.as_str(), seen.path.as_str()) {
        ("POST", "/v1/pro") => json(200, &json!({"id": "job 1", "cost": 3.5})),
        ("GET", "/v1/get/job%201") => {
            let (status, answer) = answers[count.fetch_add(1, Ordering::SeqCst).min(answers.len() - 1)].clone();
            json(status, &answer)
        }
        ("GET", "/files/1.png") => typed(200, "image/png", PICTURE),
        ("PUT", "/v1/cancel/job%201") => json(202, &json!({})),
        _ => json(404, &json!({"detail": "Not Found"})),
    });
    (server.await, asked)
}

async fn submit(record: &str, server: &Server, watch: &Told) -> Result<Generated, Fault> {
    let provider = recorded(record, &server.url);
    let model = provider.model("pro").unwrap();
    let request = model.fit(&ImageRequest::generate("a kite"), &BTreeMap::new(), None).unwrap().request;
    let job = testing::job(&model, &request, 1, None);
    provider.submit(&job, watch).await
}

fn posts(server: &Server) -> usize {
    server.seen().iter().filter(|seen| seen.method == "POST").count()
}

fn ready_answer() -> Value {
    json!({"id": "job 1", "status": "Ready", "result": {"sample": "/files/1.png"}})
}

#[tokio::test]
async fn a_job_is_asked_for_until_it_is_done() {
    let (server, _) = provider_that(vec![
        (200, json!({"status": "Pending"})),
        (200, json!({"status": "Generating", "progress": 0.4})),
        (200, ready_answer()),
    ])
    .await;
    let told = Told::default();
    let generated = submit(RECORD, &server, &told).await.unwrap();
    assert_eq!(generated.pictures, [PICTURE]);
    assert_eq!(generated.billed, Some("0.035".parse().unwrap()));
    assert_eq!(posts(&server), 1);
    let tickets = told.tickets.lock().unwrap();
    assert_eq!(tickets.len(), 1);
    assert_eq!((tickets[0].id.as_str(), tickets[0].billed_pico), ("job 1", Some(35_000_000_000)));
    assert_eq!(
        *told.news.lock().unwrap(),
        ["Queued { position: None }", "Queued { position: None }", "Running { percent: Some(40) }"]
    );
    let keyed = |seen: &Seen| seen.header("x-key") == Some(KEY);
    assert!(server.seen().iter().all(|seen| keyed(seen) != seen.path.starts_with("/files/")), "a picture needs none");
}

/// What nobody knows is no failure, and what fails on the way says nothing about the job.
#[tokio::test]
async fn asking_goes_on_through_what_fails_on_the_way() {
    let (server, asked) = provider_that(vec![
        (404, json!({"status": "Task not found"})),
        (500, json!({"detail": "oops"})),
        (429, json!({"detail": "slow down"})),
        (401, json!({"detail": "expired"})),
        (200, json!({"status": "Pondering"})),
        (200, json!("what?")),
        (200, ready_answer()),
    ])
    .await;
    let generated = submit(RECORD, &server, &Told::default()).await.unwrap();
    assert_eq!(generated.pictures, [PICTURE]);
    assert_eq!((posts(&server), asked.load(Ordering::SeqCst)), (1, 7));
}

#[tokio::test]
async fn what_is_billed_of_a_job_that_ended_badly() {
    let error = json!({"status": "Error", "details": {"why": "cuda"}});
    let moderated = json!({"status": "Moderated", "details": "no kites"});
    let stopped = json!({"status": "Stopped"});
    let cases = [
        ("", &error, FaultKind::Unknown, None),
        ("billing.failed = false", &error, FaultKind::Failed, None),
        ("billing.failed = true", &error, FaultKind::BadAnswer, Some("0.035")),
        ("", &moderated, FaultKind::Refused, None),
        ("billing.refused = true", &moderated, FaultKind::Refused, Some("0.035")),
        ("", &stopped, FaultKind::Unknown, None),
        ("billing.cancelled = false", &stopped, FaultKind::Cancelled, None),
        ("billing.cancelled = true", &stopped, FaultKind::BadAnswer, Some("0.035")),
    ];
    for (changes, answer, kind, billed) in cases {
        let (server, _) = provider_that(vec![(200, answer.clone())]).await;
        let fault = submit(&with(changes), &server, &Told::default()).await.unwrap_err();
        let billed = billed.map(|usd| Price::Known(usd.parse().unwrap()));
        assert_eq!((fault.kind, fault.billed), (kind, billed), "{changes}: {answer}");
        assert_eq!(fault.should_retry, (kind == FaultKind::Failed).then_some(false), "{changes}: {answer}");
    }
    let (server, _) = provider_that(vec![(200, moderated)]).await;
    assert_eq!(submit(RECORD, &server, &Told::default()).await.unwrap_err().message, "no kites");
}

/// That a job is done does not mean that it went well.
#[tokio::test]
async fn the_result_may_be_a_refusal() {
    let server = Server::start(|seen: &Seen| match seen.path.as_str() {
        "/v1/pro" => json(200, &json!({"id": "1", "at": "/result/1"})),
        "/v1/get/1" => json(200, &json!({"status": "Ready"})),
        _ => json(422, &json!({"detail": [{"msg": "flagged", "type": "content_policy_violation", "input": KEY}]})),
    })
    .await;
    let fault =
        submit(&RECORD.replacen("id = \"id\"\n", "id = \"id\"\nresult = \"at\"\n", 1), &server, &Told::default())
            .await
            .unwrap_err();
    assert_eq!((fault.kind, fault.message.as_str()), (FaultKind::Refused, "flagged"));
}

#[tokio::test]
async fn a_job_that_does_not_end_is_left_to_be_asked_for_later() {
    let (server, _) = provider_that(vec![(200, json!({"status": "Generating"}))]).await;
    let record = RECORD.replacen("timeout_s = 20", "timeout_s = 1", 1);
    let told = Told::default();
    let fault = submit(&record, &server, &told).await.unwrap_err();
    assert_eq!(fault.kind, FaultKind::Unfinished);
    assert!(fault.kind.may_have_billed() && !fault.kind.may_fail_over());

    // By another process, that knows nothing but the ticket.
    let (server, _) = provider_that(vec![(200, ready_answer())]).await;
    let provider = recorded(RECORD, &server.url);
    let model = provider.model("pro").unwrap();
    let request = ImageRequest::generate("");
    let ticket = told.tickets.lock().unwrap()[0].clone();
    let resumed = provider.resume(&testing::job(&model, &request, 1, None), &ticket, &Told::default()).await.unwrap();
    assert_eq!((resumed.pictures.as_slice(), resumed.billed), (&[PICTURE.into()][..], Some("0.035".parse().unwrap())));
    assert_eq!(posts(&server), 0);
}

#[tokio::test]
async fn a_stopped_job_is_cancelled_once_and_what_it_came_to_counts() {
    let cancelled = |server: &Server| server.seen().iter().filter(|seen| seen.path.starts_with("/v1/cancel")).count();
    let stops = Told { stops: true, ..Told::default() };
    let going = json!({"status": "Generating"});
    let (server, _) =
        provider_that(vec![(200, going.clone()), (200, going), (200, json!({"status": "Stopped"}))]).await;
    let fault = submit(&with("billing.cancelled = false"), &server, &stops).await.unwrap_err();
    assert_eq!((fault.kind, cancelled(&server)), (FaultKind::Cancelled, 1));
    assert!(!fault.kind.may_have_billed());

    let (server, _) = provider_that(vec![(200, ready_answer())]).await;
    assert_eq!(submit(RECORD, &server, &stops).await.unwrap().pictures, [PICTURE], "it was too late");
    assert_eq!(cancelled(&server), 1);
}

#[tokio::test]
async fn who_is_woken_asks_at_once() {
    let (server, _) = provider_that(vec![(200, ready_answer())]).await;
    let record = RECORD.replacen("delay_ms = 1\n", "delay_ms = 15000\n", 1);
    let begun = Instant::now();
    let wakes = Told { wakes: true, ..Told::default() };
    assert_eq!(submit(&record, &server, &wakes).await.unwrap().pictures, [PICTURE]);
    assert!(begun.elapsed() < Duration::from_secs(10));
}

/// The key goes to the provider's own hosts and nowhere else.
#[tokio::test]
async fn a_strange_address_is_not_asked() {
    let stranger = Server::start(|_: &Seen| json(200, &ready_answer())).await;
    let address = format!("{}/v1/get/1", stranger.url);
    let server = Server::start(move |_: &Seen| json(200, &json!({"id": "1", "polling_url": address}))).await;
    let fault = submit(RECORD, &server, &Told::default()).await.unwrap_err();
    assert_eq!(fault.kind, FaultKind::Unknown);
    assert!(fault.message.contains("may not be called"), "{}", fault.message);
    assert!(stranger.seen().is_empty());
}

#[tokio::test]
async fn the_status_of_http_may_be_all_there_is() {
    let asked = AtomicUsize::new(0);
    let asked = Arc::new(asked);
    let server = Server::start(move |seen: &Seen| match seen.path.as_str() {
        "/v1/pro" => json(200, &json!({"id": "1"})),
        _ if asked.fetch_add(1, Ordering::SeqCst) == 0 => json(202, &json!({"id": "1", "status": "in-progress"})),
        _ => typed(200, "image/png", PICTURE),
    })
    .await;
    let record = RECORD.replacen("status = \"status\"\n", "http_status = true\n", 1);
    assert_eq!(submit(&record, &server, &Told::default()).await.unwrap().pictures, [PICTURE]);
}
