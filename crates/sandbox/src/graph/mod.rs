//! A simulated server that executes graphs of nodes, for simulations whose file says `plays = "graph"`. It costs nothing;
//! the book has a line of 0 dollars for every graph that brought pictures all the same.
//!
//! Its protocol is too lively to be told in a file: a queue that everybody sees, and news and previews over a WebSocket.
//! All such simulations of a sandbox share one queue. `check` looks a graph through, `run` executes it, `socket` tells.

mod check;
mod run;
mod socket;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::extract::{DefaultBodyLimit, Extension, Multipart, Path, Query, Request, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use bytes::Bytes;
use hyper::upgrade::OnUpgrade;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::{Semaphore, broadcast};
use tokio_tungstenite::tungstenite::Message;
use tokio_util::sync::CancellationToken;
use tower_service::Service as _;

use crate::fault::Fault;
use crate::files;
use crate::problem::Problem;
use crate::sale::{self, Complaint, Reply, Voice};
use crate::shop::{Shop, attempt};

/// Messages that a listener may lag behind before it misses some.
const BACKLOG: usize = 4096;

/// The state of the server.
#[derive(Debug)]
pub(crate) struct Graphs {
    state: Mutex<Queue>,
    /// One graph at a time is executed.
    turn: Semaphore,
    news: broadcast::Sender<News>,
}

impl Default for Graphs {
    fn default() -> Self {
        Self { state: Mutex::default(), turn: Semaphore::new(1), news: broadcast::Sender::new(BACKLOG) }
    }
}

#[derive(Debug, Default)]
struct Queue {
    number: u64,
    /// By name; those that wait and the one that runs.
    open: BTreeMap<String, Open>,
    /// What is known of those that ended.
    history: BTreeMap<String, Value>,
    /// Names of pictures that were uploaded, with their folders.
    uploads: BTreeSet<String>,
}

/// A graph that has not ended.
#[derive(Clone, Debug)]
struct Open {
    number: u64,
    runs: bool,
    stop: CancellationToken,
}

/// A message for a listener of that name, or for all.
#[derive(Clone, Debug)]
struct News {
    listener: Option<String>,
    message: Message,
}

impl Graphs {
    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells something. That nobody listens is no failure.
    fn tell(&self, listener: Option<&str>, message: Message) {
        let _ = self.news.send(News { listener: listener.map(str::to_owned), message });
    }

    /// Tells everybody how many wait.
    fn tell_queue(&self) {
        let left = self.queue().open.len();
        let data = json!({ "type": "status", "data": { "status": { "exec_info": { "queue_remaining": left } } } });
        self.tell(None, Message::text(data.to_string()));
    }
}

/// The name of the simulation that is played, for the invoice book.
#[derive(Clone, Debug)]
struct PlayedAs(String);

/// Answers a request to the simulation of that name; `path` is what follows its own address.
pub(crate) async fn serve(shop: Arc<Shop>, name: &str, path: &str, mut request: Request) -> Response {
    let query = request.uri().query().map(|query| format!("?{query}")).unwrap_or_default();
    let Ok(uri) = format!("{path}{query}").parse() else {
        return StatusCode::NOT_FOUND.into_response();
    };
    *request.uri_mut() = uri;
    // What the outer router captured would count as captured by the inner one. The connection itself is needed.
    let upgrade = request.extensions_mut().remove::<OnUpgrade>();
    request.extensions_mut().clear();
    request.extensions_mut().insert(PlayedAs(name.to_owned()));
    if let Some(upgrade) = upgrade {
        request.extensions_mut().insert(upgrade);
    }
    match routes().with_state(shop).call(request).await {
        Ok(response) => response,
        Err(never) => match never {},
    }
}

fn routes() -> Router<Arc<Shop>> {
    Router::new()
        .route("/prompt", post(prompt))
        .route("/history", get(histories))
        .route("/history/{id}", get(history))
        .route("/queue", get(queue).post(change_queue))
        .route("/interrupt", post(interrupt))
        .route("/view", get(view))
        .route("/upload/image", post(upload))
        .route("/system_stats", get(system_stats))
        .route("/object_info", get(object_info))
        .route("/ws", get(socket::listen))
        .layer(DefaultBodyLimit::max(64 << 20))
}

/// What this server says of a failure: a status, and plain words.
struct Plain;

impl Voice for Plain {
    fn complain(&self, complaint: Complaint) -> Response {
        let status = match complaint {
            Complaint::Failed(status) => status,
            Complaint::Throttled { .. } => StatusCode::SERVICE_UNAVAILABLE,
            Complaint::OutOfMoney | Complaint::Refused | Complaint::RefusedOk => StatusCode::BAD_REQUEST,
        };
        (status, format!("{status}\n\nServer got itself in trouble (simulated)")).into_response()
    }
}

/// How an execution will end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Done,
    Failed,
    /// As if the server had been started anew.
    Forgotten,
}

async fn prompt(
    State(shop): State<Arc<Shop>>,
    Extension(PlayedAs(name)): Extension<PlayedAs>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, Problem> {
    let visit = shop.counters.enter();
    let bad = |complaint: Value| Ok((StatusCode::BAD_REQUEST, Json(complaint)).into_response());
    let Ok(sent) = serde_json::from_slice::<Value>(&body) else {
        return bad(check::complaint("invalid_prompt", "The body is not JSON", &json!({})));
    };
    let graph = match check::check(&sent, &shop.graphs.queue().uploads) {
        Ok(graph) => graph,
        Err(complaint) => return bad(complaint),
    };
    let text = |name: &str| sent.get(name).and_then(Value::as_str).map(str::to_owned);
    let mut order = graph.order(name);
    order.attempt = attempt(&headers);
    let plan = sale::plan(&shop, &order)?;
    let end = match &plan.outcome {
        Some(Fault::FailJob | Fault::BillThenFailJob | Fault::Refuse(_) | Fault::RefuseOk) => End::Failed,
        Some(Fault::ForgetJob) => End::Forgotten,
        Some(fault) if !fault.is_billed() => {
            sale::wait(plan.latency).await;
            return sale::instead(fault, &Plain).await;
        }
        _ => End::Done,
    };
    let id = text("prompt_id").unwrap_or_else(|| shop.next_name());
    let open = {
        let mut queue = shop.graphs.queue();
        queue.number += 1;
        let open = Open { number: queue.number, runs: false, stop: CancellationToken::new() };
        if end != End::Forgotten {
            queue.open.insert(id.clone(), open.clone());
        }
        open
    };
    shop.counters.accept();
    let answer = json!({ "prompt_id": id, "number": open.number, "node_errors": {} });
    let execution = run::Execution { id, listener: text("client_id"), graph, order, plan: plan.clone(), end, open };
    shop.graphs.tell_queue();
    shop.tasks.spawn(execution.run(Arc::clone(&shop)));
    match &plan.outcome {
        Some(fault) if replaces(fault) => sale::instead(fault, &Plain).await,
        _ => {
            let reply = Reply::ok("application/json", vec![answer.to_string().into()]);
            Ok(sale::deliver(reply, &plan, std::time::Duration::ZERO, visit))
        }
    }
}

/// Whether a fault loses the answer to a graph that was queued.
fn replaces(fault: &Fault) -> bool {
    let lost = matches!(fault, Fault::BillThenFail(_) | Fault::BillThenHang | Fault::BillThenReset);
    lost || matches!(fault, Fault::Html | Fault::GarbageJson | Fault::BillThenStreamError)
}

async fn histories(State(shop): State<Arc<Shop>>) -> Json<Value> {
    Json(json!(shop.graphs.queue().history))
}

async fn history(State(shop): State<Arc<Shop>>, Path(id): Path<String>) -> Json<Value> {
    shop.counters.poll();
    let found = shop.graphs.queue().history.get(&id).cloned();
    Json(found.map_or_else(|| json!({}), |entry| json!({ id: entry })))
}

async fn queue(State(shop): State<Arc<Shop>>) -> Json<Value> {
    let queue = shop.graphs.queue();
    let list = |runs: bool| -> Vec<Value> {
        let mut open: Vec<_> = queue.open.iter().filter(|(_, open)| open.runs == runs).collect();
        open.sort_by_key(|(_, open)| open.number);
        open.into_iter().map(|(id, open)| json!([open.number, id, {}, {}, []])).collect()
    };
    Json(json!({ "queue_running": list(true), "queue_pending": list(false) }))
}

#[derive(Deserialize)]
struct QueueChange {
    #[serde(default)]
    delete: Vec<String>,
    #[serde(default)]
    clear: bool,
}

/// Takes out graphs that wait. One that runs stays.
async fn change_queue(State(shop): State<Arc<Shop>>, body: Bytes) -> StatusCode {
    let Ok(change) = serde_json::from_slice::<QueueChange>(&body) else {
        return StatusCode::INTERNAL_SERVER_ERROR;
    };
    shop.graphs.queue().open.retain(|id, open| {
        let goes = !open.runs && (change.clear || change.delete.contains(id));
        if goes {
            open.stop.cancel();
        }
        !goes
    });
    shop.graphs.tell_queue();
    StatusCode::OK
}

/// Interrupts the graph of that name if it runs; without a name, whatever runs.
async fn interrupt(State(shop): State<Arc<Shop>>, body: Bytes) -> StatusCode {
    let named = serde_json::from_slice::<Value>(&body).ok();
    let named = named.as_ref().and_then(|body| body.get("prompt_id")).and_then(Value::as_str);
    for (id, open) in &shop.graphs.queue().open {
        if open.runs && named.is_none_or(|named| named == id) {
            open.stop.cancel();
        }
    }
    StatusCode::OK
}

#[derive(Deserialize)]
struct File {
    filename: String,
}

async fn view(State(shop): State<Arc<Shop>>, Query(file): Query<File>, headers: HeaderMap) -> Response {
    files::give(&shop, &file.filename, &headers)
}

/// Takes a picture for a node that loads one.
async fn upload(State(shop): State<Arc<Shop>>, mut form: Multipart) -> Response {
    let (mut name, mut folder) = (None, String::new());
    while let Ok(Some(field)) = form.next_field().await {
        match field.name() {
            Some("image") => {
                let file = field.file_name().map(str::to_owned);
                let Ok(bytes) = field.bytes().await else { break };
                name = file.filter(|_| imagesize::blob_size(&bytes).is_ok());
            }
            Some("subfolder") => folder = field.text().await.unwrap_or_default(),
            _ => {}
        }
    }
    let Some(name) = name else {
        return StatusCode::BAD_REQUEST.into_response();
    };
    let whole = if folder.is_empty() { name.clone() } else { format!("{folder}/{name}") };
    shop.graphs.queue().uploads.insert(whole);
    Json(json!({ "name": name, "subfolder": folder, "type": "input" })).into_response()
}

async fn system_stats() -> Json<Value> {
    let device =
        json!({ "name": "simulated", "type": "cpu", "index": 0, "vram_total": 1u64 << 34, "vram_free": 1u64 << 34 });
    Json(json!({ "system": { "os": "posix", "comfyui_version": "simulated" }, "devices": [device] }))
}

async fn object_info() -> Json<Value> {
    Json(check::described())
}
