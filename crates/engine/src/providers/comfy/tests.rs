use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use axum::body::{Body, to_bytes};
use axum::http::{Request as Incoming, Response};
use bytes::Bytes;
use futures_util::SinkExt;
use futures_util::future::{BoxFuture, pending, ready};
use hyper_util::rt::TokioIo;
use ring::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
use tokio::sync::watch as signal;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message as Frame;
use tokio_tungstenite::tungstenite::protocol::Role;

use super::*;
use crate::domain::{ImageRequest, Operation, Size};
use crate::providers::testing::{self, KEY, recorded};
use crate::providers::watch::NotNoted;
use crate::providers::{Catalogue, Record};

const PICTURE: &[u8] = b"\x89PNG\r\n\x1a\n and so on";
const PREVIEW: &[u8] = b"\xff\xd8 a preview";

const RECORD: &str = r#"
name = "x"
title = "X"
shape = "comfy-graph"
timeout_s = 20
auth = { scheme = "bearer", env = "X_KEY" }
wire = { generate = "/prompt", edit = "/prompt" }
billing = { failed = false, cancelled = false }
job = { delay_ms = 1, every_ms = 1, most_ms = 5 }

[fields]
prompt = "6/inputs/text"
width = "5/inputs/width"
height = "5/inputs/height"
seed = "3/inputs/seed"
image = { at = "10/inputs/image", more = "1{i}/inputs/image" }
mask = "13/inputs/image"

[[models]]
id = "m"
operations = ["generate", "edit"]
sizes = { rule = { max_edge = 2048 } }
seed = true
mask = true
max_inputs = 2
partial_images = 3
graph = '''{
  "3": {"class_type": "KSampler", "inputs": {"seed": 1, "steps": 20, "positive": ["6", 0], "latent_image": ["5", 0]}},
  "5": {"class_type": "EmptyLatentImage", "inputs": {"width": 512, "height": 512, "batch_size": 1}},
  "6": {"class_type": "CLIPTextEncode", "inputs": {"text": "", "clip": ["4", 1]}},
  "9": {"class_type": "SaveImage", "inputs": {"images": ["8", 0]}},
  "10": {"class_type": "LoadImage", "inputs": {"image": ""}},
  "12": {"class_type": "LoadImage", "inputs": {"image": ""}},
  "13": {"class_type": "LoadImageMask", "inputs": {"image": "", "channel": "alpha"}}
}'''
"#;

/// How the server behaves.
#[derive(Clone, Default)]
struct Plan {
    /// It has sockets.
    sockets: bool,
    /// A socket is closed in the middle of an execution.
    breaks: bool,
    /// Questions about the history until a graph runs, and until it has ended; news of its end come before.
    runs_at: usize,
    ends_at: Option<usize>,
    /// What the history says then, in place of a success.
    status: Option<Value>,
    /// Outputs, in place of one saved picture.
    outputs: Option<Value>,
    /// The answer to the graph, in place of taking it.
    refusal: Option<Value>,
    /// The answer to the graph is lost on the way; the graph is not.
    mute: bool,
    /// It forgets the graph.
    loses: bool,
    /// It gives graphs names of its own.
    names: bool,
}

/// What happened.
#[derive(Default)]
struct State {
    seen: Vec<(String, String, Option<String>)>,
    graphs: Vec<Value>,
    uploads: Vec<Bytes>,
    name: String,
    asked: usize,
    ended: bool,
    deleted: bool,
    interrupted: Option<Value>,
}

/// A server that executes graphs, as far as we can see.
struct Server {
    url: String,
    state: Arc<Mutex<State>>,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Server {
    async fn start(plan: Plan) -> Server {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let state: Arc<Mutex<State>> = Arc::default();
        let shared = Arc::clone(&state);
        let (begin, begun) = signal::channel(false);
        let app = axum::Router::new().fallback(move |mut request: Incoming<Body>| {
            let (plan, state, begin, begun) = (plan.clone(), Arc::clone(&shared), begin.clone(), begun.clone());
            async move {
                let path = request.uri().path().to_owned();
                let query = request.uri().query().unwrap_or_default().to_owned();
                let key = request.headers().get("authorization").map(|value| value.to_str().unwrap().to_owned());
                let method = request.method().to_string();
                if path == "/ws" {
                    state.lock().unwrap().seen.push((method, format!("/ws?{query}"), key));
                    return if plan.sockets { socket(&mut request, plan.breaks, state, begun) } else { status(404) };
                }
                let body = to_bytes(request.into_body(), usize::MAX).await.unwrap();
                let mut state = state.lock().unwrap();
                state.seen.push((method.clone(), path.clone(), key));
                let answer = answer(&plan, &mut state, &format!("{method} {path}"), &query, &body);
                if path == "/prompt" {
                    begin.send_replace(true);
                }
                answer
            }
        });
        #[expect(clippy::disallowed_methods, reason = "a test's server is no paid work")]
        let task = tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
        Server { url, state, task }
    }

    fn posts(&self, path: &str) -> usize {
        self.state.lock().unwrap().seen.iter().filter(|(method, seen, _)| method == "POST" && seen == path).count()
    }
}

fn status(status: u16) -> Response<Body> {
    Response::builder().status(status).body(Body::empty()).unwrap()
}

fn answer(plan: &Plan, state: &mut State, asked: &str, query: &str, body: &Bytes) -> Response<Body> {
    let ok = |value: Value| testing::json(200, &value);
    match asked {
        "POST /prompt" => {
            if let Some(refusal) = &plan.refusal {
                return testing::json(400, refusal);
            }
            let value: Value = serde_json::from_slice(body).unwrap();
            assert_eq!(value["client_id"], value["prompt_id"]);
            state.name = if plan.names { "own-7".to_owned() } else { value["prompt_id"].as_str().unwrap().to_owned() };
            state.graphs.push(value["prompt"].clone());
            if plan.mute {
                let broken = futures_util::stream::iter([Err::<Bytes, _>(std::io::Error::other("broken"))]);
                return testing::typed(200, "application/json", Body::from_stream(broken));
            }
            ok(json!({ "prompt_id": state.name, "number": 3, "node_errors": {} }))
        }
        "POST /upload/image" => {
            state.uploads.push(body.clone());
            let text = String::from_utf8_lossy(body);
            let name = text.split("filename=\"").nth(1).unwrap().split('"').next().unwrap();
            ok(json!({ "name": name, "subfolder": "mimeo", "type": "input" }))
        }
        "POST /queue" => {
            assert_eq!(serde_json::from_slice::<Value>(body).unwrap(), json!({ "delete": [state.name] }));
            state.deleted = state.asked < plan.runs_at;
            status(200)
        }
        "POST /interrupt" => {
            state.interrupted = Some(serde_json::from_slice(body).unwrap());
            status(200)
        }
        "GET /queue" => {
            let runs = state.asked >= plan.runs_at;
            let item = |number: u32, name: &str| json!([number, name, {}, {}, []]);
            let gone = plan.loses || state.deleted;
            let own = if gone { json!([]) } else { json!([item(3, &state.name)]) };
            match runs {
                true => ok(json!({ "queue_running": own, "queue_pending": [] })),
                false => {
                    let mut pending = vec![item(4, "later"), item(2, "before")];
                    pending.extend(own.as_array().unwrap().clone());
                    ok(json!({ "queue_running": [item(1, "other")], "queue_pending": pending }))
                }
            }
        }
        "GET /view" => match query {
            "filename=a+b_00001_.png&subfolder=&type=output" => testing::typed(200, "image/png", PICTURE),
            _ => status(404),
        },
        _ => {
            assert_eq!(asked, format!("GET /history/{}", state.name));
            state.asked += 1;
            let over = state.ended || plan.ends_at.is_some_and(|at| state.asked >= at) || state.interrupted.is_some();
            if !over || plan.loses {
                return ok(json!({}));
            }
            let interrupted = json!(["execution_interrupted", { "prompt_id": state.name, "node_id": "3" }]);
            let interrupted = json!({ "status_str": "error", "completed": false, "messages": [interrupted] });
            let good = json!({ "status_str": "success", "completed": true, "messages": [] });
            let status = if state.interrupted.is_some() { interrupted } else { plan.status.clone().unwrap_or(good) };
            let saved = json!({ "9": { "images": [file("a b_00001_.png", "output")] } });
            let outputs = plan.outputs.clone().unwrap_or(saved);
            ok(json!({ state.name.as_str(): { "prompt": [], "outputs": outputs, "status": status } }))
        }
    }
}

fn file(name: &str, kind: &str) -> Value {
    json!({ "filename": name, "subfolder": "", "type": kind })
}

/// Accepts a socket, and tells over it how a graph is executed once one was queued.
fn socket(
    request: &mut Incoming<Body>,
    breaks: bool,
    state: Arc<Mutex<State>>,
    mut begun: signal::Receiver<bool>,
) -> Response<Body> {
    let key = request.headers()["sec-websocket-key"].to_str().unwrap();
    let text = format!("{key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11");
    let accept = base64_simd::STANDARD.encode_to_string(digest(&SHA1_FOR_LEGACY_USE_ONLY, text.as_bytes()));
    let upgrade = hyper::upgrade::on(request);
    let tell = async move {
        let io = TokioIo::new(upgrade.await.unwrap());
        let mut socket = WebSocketStream::from_raw_socket(io, Role::Server, None).await;
        begun.wait_for(|begun| *begun).await.unwrap();
        let name = state.lock().unwrap().name.clone();
        let told = |kind: &str, data: Value| Frame::text(json!({ "type": kind, "data": data }).to_string());
        let mut frames = vec![
            told("status", json!({ "status": { "exec_info": { "queue_remaining": 1 } } })),
            told("execution_success", json!({ "prompt_id": "another" })),
            Frame::Ping(Bytes::new()),
            told("execution_start", json!({ "prompt_id": name })),
        ];
        for step in 1..=4 {
            frames.push(told("progress", json!({ "value": step, "max": 4, "prompt_id": name, "node": "3" })));
            frames.push(Frame::binary([b"\0\0\0\x01\0\0\0\x01", PREVIEW].concat()));
        }
        if breaks {
            frames.truncate(6);
        }
        for frame in frames {
            socket.send(frame).await.unwrap();
        }
        if !breaks {
            // The end is told a little before the history knows it, and again after that.
            socket.send(told("execution_success", json!({ "prompt_id": name }))).await.unwrap();
            state.lock().unwrap().ended = true;
            socket.send(told("executing", json!({ "node": null, "prompt_id": name }))).await.unwrap();
            // Kept open until the other side is gone, as a server does.
            while let Some(Ok(_)) = futures_util::StreamExt::next(&mut socket).await {}
        }
    };
    #[expect(clippy::disallowed_methods, reason = "a test's server is no paid work")]
    tokio::spawn(tell);
    Response::builder()
        .status(101)
        .header("connection", "upgrade")
        .header("upgrade", "websocket")
        .header("sec-websocket-accept", accept)
        .body(Body::empty())
        .unwrap()
}

/// What was told while a graph was under way.
#[derive(Default)]
struct Told {
    news: Mutex<Vec<String>>,
    previews: Mutex<Vec<Bytes>>,
    tickets: Mutex<Vec<Ticket>>,
    stops: bool,
}

impl Watch for Told {
    fn progress(&self, news: Progress) {
        match news {
            Progress::Partial { bytes, .. } => self.previews.lock().unwrap().push(bytes),
            news => self.news.lock().unwrap().push(format!("{news:?}")),
        }
    }
    fn accepted<'a>(&'a self, ticket: &'a Ticket) -> BoxFuture<'a, Result<(), NotNoted>> {
        self.tickets.lock().unwrap().push(ticket.clone());
        Box::pin(ready(Ok(())))
    }
    fn stopped(&self) -> BoxFuture<'_, ()> {
        if self.stops { Box::pin(ready(())) } else { Box::pin(pending()) }
    }
}

async fn run(record: &str, server: &Server, request: &ImageRequest, told: &Told) -> Result<Generated, Fault> {
    let provider = recorded(record, &server.url);
    let model = provider.model("m").unwrap();
    let request = model.fit(request, &BTreeMap::new(), None).unwrap().request;
    let job = testing::job(&model, &request, 1, Some(2));
    sent(provider.submit(&job, told)).await
}

/// What a gateway needs of a call: that it may go from thread to thread, with a socket in it.
fn sent<F: Future + Send>(call: F) -> F {
    call
}

fn kite() -> ImageRequest {
    ImageRequest { seed: Some(7), size: Size::Exact(1024, 768), ..ImageRequest::generate("a red kite") }
}

#[tokio::test]
async fn a_graph_is_filled_executed_and_listened_to() {
    let server = Server::start(Plan { sockets: true, ..Plan::default() }).await;
    let told = Told::default();
    // So slow to ask that only the socket can tell that it has ended.
    let record = RECORD.replacen("delay_ms = 1,", "delay_ms = 60000,", 1);
    let generated = run(&record, &server, &kite(), &told).await.unwrap();
    assert_eq!(generated.pictures, [PICTURE]);
    let running = |percent| format!("Running {{ percent: {percent} }}");
    let expected = ["None", "Some(25)", "Some(50)", "Some(75)", "Some(100)"].map(running);
    assert_eq!(told.news.lock().unwrap()[..5], expected);
    assert_eq!(*told.previews.lock().unwrap(), [PREVIEW, PREVIEW]);
    let state = server.state.lock().unwrap();
    let graph = &state.graphs[0];
    assert_eq!(graph["6"]["inputs"], json!({ "text": "a red kite", "clip": ["4", 1] }));
    assert_eq!(graph["5"]["inputs"], json!({ "width": 1024, "height": 768, "batch_size": 1 }));
    assert_eq!((&graph["3"]["inputs"]["seed"], &graph["3"]["inputs"]["positive"]), (&json!(7), &json!(["6", 0])));
    // The attempt's number, as a UUID.
    let name = "00000000-0000-0000-0000-000000000007";
    assert_eq!((state.name.as_str(), told.tickets.lock().unwrap()[0].id.as_str()), (name, name));
    assert_eq!(state.seen[0].1, format!("/ws?clientId={name}"));
    let key = format!("Bearer {KEY}");
    // A picture is fetched without the key, unless the server asks for it.
    let keyed = |path: &str, seen: Option<&str>| (seen == Some(&key)) != path.starts_with("/view");
    assert!(state.seen.iter().all(|(_, path, seen)| keyed(path, seen.as_deref())), "{:?}", state.seen);
}

#[tokio::test]
async fn without_a_socket_it_is_asked_for() {
    let server = Server::start(Plan { runs_at: 2, ends_at: Some(4), names: true, ..Plan::default() }).await;
    let told = Told::default();
    assert_eq!(run(RECORD, &server, &kite(), &told).await.unwrap().pictures, [PICTURE]);
    let news = told.news.lock().unwrap();
    assert_eq!(*news, ["Queued { position: Some(2) }", "Running { percent: None }"]);
    assert_eq!(told.tickets.lock().unwrap()[0].id, "own-7");
    assert_eq!(server.posts("/prompt"), 1);
}

#[tokio::test]
async fn when_the_socket_breaks_asking_goes_on() {
    let plan = Plan { sockets: true, breaks: true, ends_at: Some(5), ..Plan::default() };
    let server = Server::start(plan).await;
    let told = Told::default();
    assert_eq!(run(RECORD, &server, &kite(), &told).await.unwrap().pictures, [PICTURE]);
    assert!(told.news.lock().unwrap().contains(&"Running { percent: None }".to_owned()));
    assert_eq!(server.posts("/prompt"), 1);
}

#[tokio::test]
async fn who_names_no_seed_gets_another_picture_each_time() {
    let server = Server::start(Plan { ends_at: Some(1), ..Plan::default() }).await;
    for _ in 0..2 {
        run(RECORD, &server, &ImageRequest::generate("a red kite"), &Told::default()).await.unwrap();
    }
    let state = server.state.lock().unwrap();
    let seeds: Vec<u64> = state.graphs.iter().map(|graph| graph["3"]["inputs"]["seed"].as_u64().unwrap()).collect();
    assert!(seeds[0] != seeds[1] && seeds.iter().all(|seed| *seed < 1 << 53), "{seeds:?}");
    // What the request leaves open is as the graph has it.
    assert_eq!(state.graphs[0]["5"]["inputs"]["width"], 512);
}

#[tokio::test]
async fn pictures_are_uploaded_and_stand_in_the_graph_by_name() {
    let server = Server::start(Plan { ends_at: Some(1), ..Plan::default() }).await;
    let (first, second, mask) =
        (testing::input(b"first", 64, 64), testing::input(b"second", 64, 64), testing::input(b"mask", 64, 64));
    let name = |input: &crate::domain::InputPicture| format!("mimeo/{}.png", input.picture.digest);
    let names = [&first, &second, &mask].map(name);
    let request = ImageRequest {
        operation: Operation::Edit,
        inputs: vec![first, second],
        mask: Some(mask),
        ..ImageRequest::generate("bluer")
    };
    run(RECORD, &server, &request, &Told::default()).await.unwrap();
    let state = server.state.lock().unwrap();
    let held = ["10", "12", "13"].map(|node| state.graphs[0][node]["inputs"]["image"].as_str().unwrap().to_owned());
    assert_eq!(held, names);
    assert_eq!(state.graphs[0]["13"]["inputs"]["channel"], "alpha");
    assert_eq!(state.uploads.len(), 3);
    let upload = String::from_utf8_lossy(&state.uploads[1]);
    assert!(upload.contains("\r\n\r\nsecond\r\n") && upload.contains("name=\"subfolder\"\r\n\r\nmimeo"), "{upload}");
}

#[tokio::test]
async fn a_graph_that_is_not_taken() {
    let refusal = json!({
        "error": { "type": "prompt_outputs_failed_validation", "message": "Prompt outputs failed validation" },
        "node_errors": { "4": { "class_type": "CheckpointLoaderSimple", "errors": [
            { "type": "value_not_in_list", "message": "Value not in list", "details": "ckpt_name: 'x' not in []" },
        ] } },
    });
    let server = Server::start(Plan { refusal: Some(refusal), ..Plan::default() }).await;
    let fault = run(RECORD, &server, &kite(), &Told::default()).await.unwrap_err();
    assert_eq!((fault.kind, fault.status), (FaultKind::Rejected, Some(400)));
    // A record can tell what the caller cannot mend, and where the reason is.
    let errors = "errors = { message = ['node_errors/*/errors/*/details'], when = [{ at = 'node_errors/*/errors/*/type', \
                  is = ['value_not_in_list'], means = 'denied' }] }\n";
    let record = RECORD.replacen("job = ", &format!("{errors}job = "), 1);
    let fault = run(&record, &server, &kite(), &Told::default()).await.unwrap_err();
    assert_eq!((fault.kind, fault.message.as_str()), (FaultKind::Denied, "ckpt_name: 'x' not in []"));
}

#[tokio::test]
async fn a_graph_that_fails() {
    let error = |name: &str| {
        let data = json!({ "node_type": "KSampler", "exception_message": "out of memory\n", "traceback": ["…"] });
        json!({ "status_str": "error", "completed": false, "messages": [["execution_start", {}], [name, data]] })
    };
    let none = json!({ "9": { "images": [] } });
    let plan =
        |status: Option<Value>, outputs: Option<Value>| Plan { ends_at: Some(1), status, outputs, ..Plan::default() };
    for (plan, says) in [
        (plan(Some(error("execution_error")), None), "KSampler: out of memory"),
        (plan(Some(error("execution_interrupted")), None), "interrupted"),
        (plan(None, Some(none)), "without a picture"),
        (Plan { loses: true, ..Plan::default() }, "lost"),
    ] {
        let server = Server::start(plan).await;
        let fault = run(RECORD, &server, &kite(), &Told::default()).await.unwrap_err();
        assert!(fault.kind == FaultKind::Failed && fault.message.contains(says), "{fault}");
        // What the record does not say is free may have cost something.
        let silent = RECORD.replacen("billing = { failed = false, cancelled = false }", "", 1);
        assert_eq!(run(&silent, &server, &kite(), &Told::default()).await.unwrap_err().kind, FaultKind::Unknown);
        assert_eq!(server.posts("/prompt"), 2);
    }
}

#[tokio::test]
async fn what_is_stopped_leaves_the_queue_or_is_interrupted() {
    let stops = Told { stops: true, ..Told::default() };
    let waits = Server::start(Plan { runs_at: 9, ..Plan::default() }).await;
    let fault = run(RECORD, &waits, &kite(), &stops).await.unwrap_err();
    assert_eq!(fault.kind, FaultKind::Cancelled);
    assert!(waits.state.lock().unwrap().deleted && waits.posts("/interrupt") == 0);

    let runs = Server::start(Plan::default()).await;
    assert_eq!(run(RECORD, &runs, &kite(), &stops).await.unwrap_err().kind, FaultKind::Cancelled);
    let (interrupted, name) = {
        let state = runs.state.lock().unwrap();
        (state.interrupted.clone(), state.name.clone())
    };
    assert_eq!(interrupted, Some(json!({ "prompt_id": name })));

    let done = Server::start(Plan { ends_at: Some(1), ..Plan::default() }).await;
    assert_eq!(run(RECORD, &done, &kite(), &stops).await.unwrap().pictures, [PICTURE], "it was too late");
    assert_eq!(done.posts("/interrupt"), 0);
}

#[tokio::test]
async fn a_lost_answer_is_no_lost_graph() {
    let server = Server::start(Plan { mute: true, ends_at: Some(2), ..Plan::default() }).await;
    let told = Told::default();
    assert_eq!(run(RECORD, &server, &kite(), &told).await.unwrap().pictures, [PICTURE]);
    assert_eq!((server.posts("/prompt"), told.tickets.lock().unwrap().len()), (1, 1));
    // Unless the server does not know its name.
    let server = Server::start(Plan { mute: true, loses: true, ..Plan::default() }).await;
    let fault = run(RECORD, &server, &kite(), &Told::default()).await.unwrap_err();
    assert_eq!((fault.kind, server.posts("/prompt")), (FaultKind::Unknown, 1));
}

#[tokio::test]
async fn another_process_goes_on_by_the_ticket() {
    let server = Server::start(Plan { sockets: true, ends_at: Some(3), ..Plan::default() }).await;
    let ticket =
        Ticket { id: "own-7".to_owned(), poll: None, result: None, cancel: None, accepted_ms: 0, billed_pico: None };
    server.state.lock().unwrap().name = ticket.id.clone();
    let provider = recorded(RECORD, &server.url);
    let model = provider.model("m").unwrap();
    let request = kite();
    let resumed = provider.resume(&testing::job(&model, &request, 1, None), &ticket, &Told::default()).await.unwrap();
    assert_eq!(resumed.pictures, [PICTURE]);
    assert!(server.state.lock().unwrap().seen.iter().all(|(method, _, _)| method == "GET"));
}

#[tokio::test]
async fn a_graph_that_does_not_end_is_left_to_be_asked_for_later() {
    let server = Server::start(Plan::default()).await;
    let record = RECORD.replacen("timeout_s = 20", "timeout_s = 1", 1);
    let fault = run(&record, &server, &kite(), &Told::default()).await.unwrap_err();
    assert_eq!(fault.kind, FaultKind::Unfinished);
}

#[tokio::test]
async fn what_was_saved_counts_before_what_was_only_shown() {
    let saved = file("a b_00001_.png", "output");
    let outputs = json!({ "3": { "images": [file("t.png", "temp")] }, "9": { "images": [saved] } });
    let plan = Plan { ends_at: Some(1), outputs: Some(outputs.clone()), ..Plan::default() };
    let server = Server::start(plan).await;
    assert_eq!(run(RECORD, &server, &kite(), &Told::default()).await.unwrap().pictures, [PICTURE]);
    // A record can say which node counts.
    let record =
        RECORD.replacen("job = ", "result = { pictures = ['outputs/8/images/*', 'outputs/9/images/0'] }\njob = ", 1);
    let two =
        json!({ "3": { "images": [file("b.png", "output")] }, "9": { "images": [file("a b_00001_.png", "output")] } });
    let server = Server::start(Plan { ends_at: Some(1), outputs: Some(two), ..Plan::default() }).await;
    assert_eq!(run(&record, &server, &kite(), &Told::default()).await.unwrap().pictures, [PICTURE]);
}

#[test]
fn faults_of_a_graph_are_named() {
    let fault = |from: &str, to: &str| {
        assert!(RECORD.contains(from), "{from}");
        let faults = Record::examine(&RECORD.replacen(from, to, 1), "x.toml").unwrap_err();
        faults.into_iter().map(|fault| fault.message).collect::<Vec<_>>().join("\n")
    };
    for (from, to, says) in [
        ("\"6/inputs/text\"", "\"7/inputs/text\"", "fields.prompt = \"7/inputs/text\""),
        ("\"6/inputs/text\"", "\"prompt\"", "fields.prompt"),
        ("1{i}/inputs", "2{i}/inputs", "22/inputs/image"),
        ("{\"class_type\": \"LoadImage\", \"inputs\"", "{\"type\": \"LoadImage\", \"inputs\"", "API format"),
        ("graph = '''{", "graph = '''", "no JSON object"),
        ("graph = '''{", "title = '''{", "it has no graph"),
        ("shape = \"comfy-graph\"", "shape = \"exchange\"", "comfy-graph"),
    ] {
        let message = fault(from, to);
        assert!(message.contains(says), "{to}: {message}");
    }
}

/// The graphs of the catalogue, as far as they can be tried without a server that draws.
#[tokio::test]
async fn the_record_of_the_catalogue_is_executed() {
    let server = Server::start(Plan { ends_at: Some(1), ..Plan::default() }).await;
    let catalogue = Catalogue::embedded();
    let graphs = catalogue.records().filter(|record| record.shape == crate::providers::Shape::ComfyGraph);
    for record in graphs {
        let provider = testing::provider(&record.name, &server.url, "");
        for model in provider.models() {
            let edits = model.operations.contains(&Operation::Edit);
            let inputs = if edits { vec![testing::input(b"first", 64, 64)] } else { Vec::new() };
            let operation = if edits { Operation::Edit } else { Operation::Generate };
            let request = ImageRequest { operation, inputs, ..ImageRequest::generate("a red kite") };
            let request = model.fit(&request, &BTreeMap::new(), None).unwrap().request;
            let made = provider.submit(&testing::job(model, &request, 1, None), &Told::default()).await.unwrap();
            assert_eq!(made.pictures, [PICTURE], "{}", model.id);
        }
    }
    let texts: Vec<String> = server.state.lock().unwrap().graphs.iter().map(Value::to_string).collect();
    assert!(texts.len() == 2 && texts.iter().all(|text| text.contains("a red kite")), "{texts:?}");
}
