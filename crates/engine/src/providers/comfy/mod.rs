//! The shape of servers that execute a graph of nodes. The graph stands in the record, its fields are places in it.
//! It is queued under a name that we choose, listened to over a WebSocket, and asked for where that is silent: what the
//! server has in its history counts, news are only news.

mod graph;
mod news;

use std::time::Duration;

use reqwest::header::HeaderMap;
use reqwest::{Method, Request, Url};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep_until, timeout_at};

pub(super) use self::graph::fault;
use self::news::{News, Previews};
use super::answer::Answer;
use super::call::{self, Payload};
use super::exchange::{self, Came};
use super::pace::Pace;
use super::provider::{Job, Provider};
use super::watch::{Ticket, Watch};
use super::wiring::Pick;
use super::{fault as faults, pointer};
use crate::domain::{AttemptId, Fault, FaultKind, Generated, Progress};
use crate::net::socket::{Message, Socket};

/// How long one question may take.
const QUESTION: Duration = Duration::from_secs(30);

/// Pause between questions about a graph whose execution is being listened to: only in case its end is not heard.
const LISTENING: Duration = Duration::from_secs(15);

/// Most bytes of an answer that are read. The queue holds all graphs that wait, with whatever is in them.
const LONGEST: usize = 16 << 20;

/// Where pictures are in the history, if the record does not say it.
const PICTURES: &str = "outputs/*/images/*";

pub(super) async fn submit(provider: &Provider, job: &Job<'_>, watch: &dyn Watch) -> Result<Generated, Fault> {
    let name = name(job.attempt);
    let graph = graph::filled(provider, job).await?;
    // Before the graph is queued, or its first news would be missed.
    let socket = listen(provider, &name).await;
    let body = json!({ "prompt": graph, "client_id": name, "prompt_id": name });
    let id = match queue(provider, job, body.to_string()).await {
        Ok(id) => id,
        // The answer is lost, but the name is ours: perhaps it is there.
        Err(fault) if fault.kind == FaultKind::Unknown => match stage(provider, &name).await {
            None | Some(Stage::Nowhere) => return Err(fault),
            Some(_) => name,
        },
        Err(fault) => return Err(fault),
    };
    let accepted_ms = provider.clock.now();
    let ticket = Ticket { id, poll: None, result: None, cancel: None, accepted_ms, billed_pico: None };
    if watch.accepted(&ticket).await.is_err() {
        tracing::warn!(provider = provider.name, attempt = %job.attempt, "an accepted job could not be written down");
    }
    Execution::of(provider, job, watch, &ticket, socket).until_it_ends().await
}

pub(super) async fn resume(
    provider: &Provider,
    job: &Job<'_>,
    ticket: &Ticket,
    watch: &dyn Watch,
) -> Result<Generated, Fault> {
    let socket = listen(provider, &ticket.id).await;
    Execution::of(provider, job, watch, ticket, socket).until_it_ends().await
}

/// The name of an attempt as these servers write names.
fn name(attempt: AttemptId) -> String {
    let digits = format!("{:032x}", attempt.0);
    let part = |from: usize, to: usize| digits.get(from..to).unwrap_or_default();
    [part(0, 8), part(8, 12), part(12, 16), part(16, 20), part(20, 32)].join("-")
}

/// Queues a graph. Its name, as the server calls it: older ones choose it themselves.
async fn queue(provider: &Provider, job: &Job<'_>, body: String) -> Result<String, Fault> {
    let path = job.model.wiring.wire.generate.as_deref().unwrap_or("/prompt");
    let mut reply = call::submit(provider, job, path, &[], Payload::Json(body)).await?;
    let unnamed = || Fault::new(FaultKind::Unknown, "it took the graph and did not name it");
    match exchange::receive(provider, job, &mut reply, &Answer::default()).await? {
        Came::Picture(_) => Err(unnamed()),
        Came::Json(lifted) => pointer::text(&lifted.value, "prompt_id").ok_or_else(unnamed),
    }
}

/// A socket for the news of the graph of that name, if one can be had. Without one there are no previews, and its
/// end is noticed a little later.
async fn listen(provider: &Provider, name: &str) -> Option<Socket> {
    let mut url = call::address(provider, "/ws").ok()?;
    url.query_pairs_mut().append_pair("clientId", name);
    let client = provider.clients.for_base(&url).ok()?;
    let mut request = Request::new(Method::GET, url);
    provider.credentials.sign(&mut request, &provider.clients, &provider.clock).await.ok()?;
    let socket = Socket::open(client, request).await;
    socket.inspect_err(|why| tracing::debug!(provider = provider.name, why, "a graph cannot be listened to")).ok()
}

/// How a graph is.
enum Stage {
    /// It waits, behind so many.
    Waiting(u32),
    Running,
    /// It has ended, and this is what the history says of it.
    Ended(Value),
    /// The server does not know it.
    Nowhere,
}

/// Asks how the graph of that name is; `None` if there is no answer, which says nothing about the graph.
async fn stage(provider: &Provider, name: &str) -> Option<Stage> {
    if let Some(entry) = history(provider, name).await? {
        return Some(Stage::Ended(entry));
    }
    let queue = get(provider, "/queue").await?;
    let named = |item: &&Value| item.get(1).and_then(Value::as_str) == Some(name);
    let list = |key: &str| queue.get(key).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    let (running, pending) = (list("queue_running"), list("queue_pending"));
    if running.iter().any(|item| named(&item)) {
        return Some(Stage::Running);
    }
    if let Some(own) = pending.iter().find(named) {
        let number = |item: &Value| item.get(0).and_then(Value::as_f64).unwrap_or(f64::MAX);
        let before = pending.iter().filter(|item| number(item) < number(own)).count() + running.len();
        return Some(Stage::Waiting(u32::try_from(before).unwrap_or(u32::MAX)));
    }
    // It may have ended between the two questions.
    Some(history(provider, name).await?.map_or(Stage::Nowhere, Stage::Ended))
}

/// What the history says of a graph, if it says anything.
async fn history(provider: &Provider, name: &str) -> Option<Option<Value>> {
    let mut history = get(provider, &format!("/history/{}", call::encoded(name, true))).await?;
    Some(history.get_mut(name).map(Value::take).filter(|entry| !entry.is_null()))
}

async fn get(provider: &Provider, path: &str) -> Option<Value> {
    let url = call::address(provider, path).ok()?;
    ask(provider, Method::GET, url, Payload::Nothing).await
}

/// One question. What fails on the way says nothing about the graph.
async fn ask(provider: &Provider, method: Method, url: Url, payload: Payload) -> Option<Value> {
    let until = Instant::now() + QUESTION;
    let mut reply = match call::send(provider, method, url, HeaderMap::new(), payload, until).await {
        Ok(reply) if reply.is_success() => reply,
        Ok(reply) => {
            tracing::debug!(provider = provider.name, status = reply.status(), "a question about a graph failed");
            return None;
        }
        Err(fault) => {
            tracing::debug!(provider = provider.name, %fault, "a question about a graph failed");
            return None;
        }
    };
    // Answers to commands are empty.
    let body = reply.head_of_body(provider, LONGEST).await;
    if body.is_empty() { Some(Value::Null) } else { serde_json::from_slice(&body).ok() }
}

/// A queued graph that is listened to and asked for.
struct Execution<'a> {
    provider: &'a Provider,
    job: &'a Job<'a>,
    watch: &'a dyn Watch,
    ticket: &'a Ticket,
    socket: Option<Socket>,
    previews: Previews,
    /// True once its execution has begun.
    started: bool,
    /// True once the socket has told anything of it: an open one may be silent, and then it is asked for.
    heard: bool,
    /// True once it is said to have ended. The history may lag a little behind.
    ending: bool,
    /// True once it was told to stop.
    cancelling: bool,
}

/// Why the wait for news is over.
enum Woken {
    Time,
    Stop,
    Heard(Option<Message>),
}

impl<'a> Execution<'a> {
    fn of(
        provider: &'a Provider,
        job: &'a Job<'a>,
        watch: &'a dyn Watch,
        ticket: &'a Ticket,
        socket: Option<Socket>,
    ) -> Execution<'a> {
        let wanted = job.partials.unwrap_or(0).min(job.model.partial_images);
        let previews = Previews::wanted(wanted);
        let (started, heard, ending, cancelling) = (false, false, false, false);
        Execution { provider, job, watch, ticket, socket, previews, started, heard, ending, cancelling }
    }

    async fn until_it_ends(&mut self) -> Result<Generated, Fault> {
        let deadline = Instant::now() + self.provider.timeout;
        let (first, mut pace) = Pace::of(&self.job.model.wiring.job);
        let mut next = Instant::now() + first;
        loop {
            let woken = tokio::select! {
                () = sleep_until(next.min(deadline)) => Woken::Time,
                () = self.watch.stopped(), if !self.cancelling => Woken::Stop,
                message = heard(&mut self.socket) => Woken::Heard(message),
            };
            match woken {
                Woken::Time if Instant::now() >= deadline => return Err(self.not_ended()),
                Woken::Time => {}
                Woken::Stop => self.cancel().await,
                Woken::Heard(Some(message)) => {
                    self.take(message);
                    if !self.ending {
                        continue;
                    }
                }
                // From here on it is asked for.
                Woken::Heard(None) => self.socket = None,
            }
            let asked = timeout_at(deadline, stage(self.provider, &self.ticket.id)).await;
            if let Ok(Some(stage)) = asked
                && let Some(entry) = self.judge(stage)?
            {
                return self.conclude(&entry).await;
            }
            let listens = self.heard && self.socket.is_some() && !self.cancelling && !self.ending;
            let pause = pace.next();
            next = Instant::now() + if listens { LISTENING } else { pause };
        }
    }

    /// Takes a message.
    fn take(&mut self, message: Message) {
        let news = News::of(message, &self.ticket.id);
        self.heard |= news.is_some();
        match news {
            Some(News::Ended) => self.ending = true,
            Some(News::Started) => self.running(),
            Some(News::Progress(percent)) => {
                self.started = true;
                self.previews.progress(percent);
                self.watch.progress(Progress::Running { percent: Some(percent) });
            }
            Some(News::Preview(bytes)) => {
                if let Some(index) = self.previews.next() {
                    self.watch.progress(Progress::Partial { bytes, index });
                }
            }
            None => {}
        }
    }

    fn running(&mut self) {
        if !self.started {
            self.started = true;
            self.watch.progress(Progress::Running { percent: None });
        }
    }

    /// What the history says, once the graph has ended.
    fn judge(&mut self, stage: Stage) -> Result<Option<Value>, Fault> {
        match stage {
            Stage::Waiting(before) => self.watch.progress(Progress::Queued { position: Some(before) }),
            Stage::Running => self.running(),
            Stage::Ended(entry) => return Ok(Some(entry)),
            Stage::Nowhere if self.cancelling => return Err(self.cancelled()),
            // Its queue is in its memory.
            Stage::Nowhere => return Err(self.failed("it has lost the graph that it accepted; was it restarted?")),
        }
        Ok(None)
    }

    /// The pictures of a graph that has ended.
    async fn conclude(&mut self, entry: &Value) -> Result<Generated, Fault> {
        let messages = pointer::all(entry, "status/messages/*");
        let last =
            |name: &str| messages.iter().rev().find(|message| message.get(0).and_then(Value::as_str) == Some(name));
        if pointer::text(entry, "status/status_str").as_deref() == Some("error") {
            if last("execution_interrupted").is_some() {
                return Err(match self.cancelling {
                    true => self.cancelled(),
                    false => self.failed("somebody has interrupted it on the server"),
                });
            }
            let said = last("execution_error").map(|message| {
                let at = |place: &str| pointer::text(message, place).unwrap_or_default();
                faults::clean(self.provider, &format!("{}: {}", at("1/node_type"), at("1/exception_message").trim()))
            });
            return Err(self.failed(said.as_deref().unwrap_or("the graph could not be executed")));
        }
        let links = self.links(entry);
        if links.is_empty() {
            return Err(self.failed("the graph has ended without a picture; does one of its nodes save it?"));
        }
        exchange::conclude(self.provider, self.job, Answer { links, ..Answer::default() }).await
    }

    /// Where the pictures are. Where some were saved, those that were only shown on the way do not count.
    fn links(&self, entry: &Value) -> Vec<String> {
        let places = self.job.model.wiring.result.pictures.iter().filter_map(|pick| match pick {
            Pick::Place(place) => Some(place.as_str()),
            Pick::Within { .. } => None,
        });
        let found = places.map(|place| pointer::all(entry, place)).find(|found| !found.is_empty());
        let found = found.unwrap_or_else(|| pointer::all(entry, PICTURES));
        let is_saved = |file: &&&Value| file.get("type").and_then(Value::as_str) == Some("output");
        let any_saved = found.iter().any(|file| is_saved(&file));
        found.iter().filter(|file| !any_saved || is_saved(file)).filter_map(|file| link(file)).collect()
    }

    /// Takes it out of the queue, or interrupts it if it runs. Whether that worked is what the next answer says.
    async fn cancel(&mut self) {
        self.cancelling = true;
        let id = &self.ticket.id;
        let command = async |path: &str, body: Value| {
            if let Ok(url) = call::address(self.provider, path) {
                ask(self.provider, Method::POST, url, Payload::Json(body.to_string())).await;
            }
        };
        command("/queue", json!({ "delete": [id] })).await;
        // Older servers interrupt whatever runs, so it must be this one.
        if matches!(stage(self.provider, id).await, Some(Stage::Running)) {
            command("/interrupt", json!({ "prompt_id": id })).await;
        }
        tracing::info!(provider = self.provider.name, attempt = %self.job.attempt, "told a graph to stop");
    }

    fn not_ended(&self) -> Fault {
        let seconds = self.provider.timeout.as_secs();
        Fault::new(FaultKind::Unfinished, format!("it accepted the graph and did not end it within {seconds} s"))
    }

    fn failed(&self, message: &str) -> Fault {
        self.without_picture(self.job.model.wiring.billing.failed, FaultKind::Failed, message)
    }

    fn cancelled(&self) -> Fault {
        let billed = self.job.model.wiring.billing.cancelled;
        self.without_picture(billed, FaultKind::Cancelled, "the graph was cancelled")
    }

    /// A fault of a graph that brought no picture: `kind` if that is not billed.
    fn without_picture(&self, is_billed: Option<bool>, kind: FaultKind, message: &str) -> Fault {
        match is_billed {
            Some(false) => Fault::new(kind, message),
            Some(true) => {
                let billed = Some(Answer::default().bill(self.job));
                Fault { billed, ..Fault::new(FaultKind::BadAnswer, message) }
            }
            None => Fault::new(FaultKind::Unknown, message),
        }
    }
}

/// The next message; nothing, for ever, without a socket.
async fn heard(socket: &mut Option<Socket>) -> Option<Message> {
    match socket {
        Some(socket) => socket.next().await,
        None => std::future::pending().await,
    }
}

/// The address of a file of the history, relative to the server's.
fn link(file: &Value) -> Option<String> {
    let text = |key: &str| file.get(key).and_then(Value::as_str).unwrap_or_default();
    let name = Some(text("filename")).filter(|name| !name.is_empty())?;
    let mut url = Url::parse("http://server/view").ok()?;
    url.query_pairs_mut().extend_pairs([("filename", name), ("subfolder", text("subfolder")), ("type", text("type"))]);
    Some(format!("view?{}", url.query().unwrap_or_default()))
}

#[cfg(test)]
mod tests;
