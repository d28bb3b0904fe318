//! `stream: true`: the answer as server-sent events, in the OpenAI API's vocabulary.
//!
//! The work belongs to a tracked task and not to this response. A caller who hangs up neither stops nor
//! repeats it, and one who reads slowly misses partial pictures and delays nobody.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::body::Body;
use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http_body::Frame;
use tokio::sync::mpsc;
use tokio::time::{Instant, Interval, MissedTickBehavior, interval, timeout_at};

use super::answer;
use super::failure::{self, ErrorObject, Failure};
use super::pieces::Pieces;
use super::{Edge, Sniff, kept};
use crate::clock::{Clock, Millis};
use crate::domain::{Answer, Call, Delivered, Format, Operation, Progress, RequestId, Size};
use crate::error::{Error, Result};
use crate::pipeline::{State, Wish};

/// How long the status line waits for the first news, so that what fails at once fails with a status
/// of its own, and what is cached has all its headers.
const HOLD: Duration = Duration::from_secs(5);
/// Silence after which a comment is sent, since proxies close connections that say nothing.
const KEEP_ALIVE: Duration = Duration::from_secs(15);
/// News that may wait for a slow reader. Beyond, partial pictures are dropped.
const WAITING: usize = 16;

/// News of one request.
#[derive(Debug)]
enum News {
    Partial { bytes: Bytes, index: u32, at: Millis },
    Stage { stage: Stage, at: Millis },
    Done(Box<Answer>),
    Failed(Error),
}

/// How a generation stands that has no unfinished pictures to show.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Queued { position: Option<u32> },
    Running { percent: Option<u8> },
}

/// Which request came first under the same key, if this one is told what that one was.
type First = Option<RequestId>;

/// Runs `call` and answers with a stream of what happens; with a `wish`, its end is kept, and who asks again
/// gets that alone.
///
/// # Errors
/// The request failed before anything had to be said.
pub async fn respond(edge: &Arc<Edge>, call: Call, wish: Option<Wish>) -> Result<Response> {
    let script = Script::of(&call, edge.sniff);
    let id = call.id;
    let (news, mut heard) = mpsc::channel(WAITING);
    let runner = Arc::clone(edge);
    edge.tracker.spawn(async move { Box::pin(run(&runner, call, wish, &news)).await });

    let mut replayed = None;
    let hold = Instant::now() + HOLD;
    // Where it stands says nothing of how it ends: only the last word of it is told when the status line is out.
    let mut stage = None;
    let first = loop {
        match timeout_at(hold, heard.recv()).await {
            Ok(Some((News::Failed(error), replayed))) => {
                let mut response = Failure(error).into_response();
                kept::mark(replayed, response.headers_mut());
                return Ok(response);
            }
            Ok(Some((news @ News::Stage { .. }, _))) => stage = Some(news),
            Ok(Some((news, first))) => {
                replayed = first;
                break Some(news);
            }
            Ok(None) => return Err(ended_without_result()),
            Err(_) => break None,
        }
    };
    let mut headers = axum::http::HeaderMap::new();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream; charset=utf-8"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    // Proxies of the nginx family would collect the events otherwise.
    headers.insert("x-accel-buffering", HeaderValue::from_static("no"));
    if let Some(News::Done(answer)) = &first {
        answer::headers(answer, &mut headers);
    }
    kept::mark(replayed, &mut headers);
    let mut response =
        Response::new(Body::new(Events::new(script, id, stage.into_iter().chain(first).collect(), heard)));
    *response.headers_mut() = headers;
    Ok(response)
}

/// Runs the call to its end, whether anybody still listens or not.
async fn run(edge: &Edge, call: Call, wish: Option<Wish>, news: &mpsc::Sender<(News, First)>) {
    let (progress, mut heard) = mpsc::channel(WAITING);
    let mut work = std::pin::pin!(work(edge, call, wish, progress));
    let mut told = None;
    let end = loop {
        tokio::select! {
            biased;
            Some(progress) = heard.recv() => tell(news, progress, &mut told, &edge.clock),
            end = &mut work => break end,
        }
    };
    while let Ok(progress) = heard.try_recv() {
        tell(news, progress, &mut told, &edge.clock);
    }
    // Nobody listening is no fault: the picture is stored for the next who asks.
    let _ = news.send(end).await;
}

/// The last word on the call.
async fn work(edge: &Edge, call: Call, wish: Option<Wish>, progress: mpsc::Sender<Progress>) -> (News, First) {
    let (first, result) = match wish {
        None => (None, edge.pipeline.run(call, Some(progress)).await.map(Box::new)),
        Some(wish) => match edge.pipeline.run_kept(call, wish, Some(progress)).await {
            Err(error) => (None, Err(error)),
            Ok(kept) => (
                kept.is_replay.then_some(kept.id),
                match kept.state {
                    State::Succeeded(answer) => Ok(answer),
                    State::Failed(error) => Err(error),
                    // Only who does not want to wait is told so.
                    State::Running | State::Cancelling => Err(ended_without_result()),
                },
            ),
        },
    };
    match result {
        Ok(mut answer) => {
            edge.pipeline.bring(&mut answer, false).await;
            (News::Done(answer), first)
        }
        Err(error) => (News::Failed(error), first),
    }
}

/// Never waits: what a slow reader has no room for is left out. Where it stands is `told` when that changes.
fn tell(news: &mpsc::Sender<(News, First)>, progress: Progress, told: &mut Option<Stage>, clock: &Clock) {
    let at = clock.now();
    let stage = match progress {
        Progress::Partial { bytes, index } => return drop(news.try_send((News::Partial { bytes, index, at }, None))),
        Progress::Queued { position } => Stage::Queued { position },
        Progress::Running { percent } => Stage::Running { percent },
    };
    if *told != Some(stage) && news.try_send((News::Stage { stage, at }, None)).is_ok() {
        *told = Some(stage);
    }
}

fn ended_without_result() -> Error {
    Error::internal("stream", "the task ended without a result")
}

/// How news are written down for one request.
#[derive(Clone, Debug)]
struct Script {
    /// `image_generation` or `image_edit`.
    subject: &'static str,
    size: Size,
    quality: Option<String>,
    background: Option<String>,
    output_format: Option<Format>,
    sniff: Sniff,
}

impl Script {
    fn of(call: &Call, sniff: Sniff) -> Self {
        let request = &call.request;
        Script {
            subject: match request.operation {
                Operation::Edit => "image_edit",
                Operation::Generate | Operation::Render => "image_generation",
            },
            size: request.size,
            quality: request.quality.clone(),
            background: request.background.clone(),
            output_format: request.output_format,
            sniff,
        }
    }

    fn write(&self, news: News) -> Pieces {
        let mut out = Pieces::default();
        match news {
            News::Partial { bytes, index, at } => self.partial(&mut out, bytes, index, at),
            News::Stage { stage, at } => self.stage(&mut out, stage, at),
            News::Done(answer) => {
                for (index, picture) in answer.pictures.iter().enumerate() {
                    self.completed(&mut out, &answer, picture, index);
                }
            }
            News::Failed(error) => {
                out.text("event: error\ndata: {\"type\":\"error\"")
                    .field("error", &ErrorObject::of(&error))
                    .text("}\n\n");
            }
        }
        out.finish()
    }

    fn partial(&self, out: &mut Pieces, bytes: Bytes, index: u32, at: Millis) {
        // As it comes from the model, which may not make what was asked for.
        let format = (self.sniff)(bytes.clone()).ok().map(|picture| picture.format).or(self.output_format);
        self.open(out, "partial_image", bytes);
        out.field("partial_image_index", &index)
            .field("size", &self.size.to_string())
            .field("quality", self.quality.as_deref().unwrap_or("auto"))
            .field("background", self.background.as_deref().unwrap_or("auto"))
            .field("output_format", format.unwrap_or(Format::Png).name())
            .field("created_at", &(at / 1000))
            .text("}\n\n");
    }

    fn stage(&self, out: &mut Pieces, stage: Stage, at: Millis) {
        let name = format!("{}.progress", self.subject);
        out.text("event: ").text(&name).text("\ndata: {\"type\":").json(&name);
        match stage {
            Stage::Queued { position } => {
                out.field("status", "queued");
                position.map(|position| out.field("queue_position", &position));
            }
            Stage::Running { percent } => {
                out.field("status", "running");
                percent.map(|percent| out.field("percent", &percent));
            }
        }
        out.field("created_at", &(at / 1000)).text("}\n\n");
    }

    fn completed(&self, out: &mut Pieces, answer: &Answer, picture: &Delivered, index: usize) {
        let understood = &answer.understood;
        self.open(out, "completed", picture.picture.bytes.clone());
        out.field("size", &answer::size_of(answer, picture))
            .field("quality", understood.quality.as_deref().unwrap_or("auto"))
            .field("background", understood.background.as_deref().unwrap_or("auto"))
            .field("output_format", picture.picture.format.name())
            .field("created_at", &(answer.created_ms / 1000));
        // Shares add up to the whole where the provider told the whole only.
        let share = || answer.usage.map(|usage| usage.share(index, answer.pictures.len()));
        if let Some(usage) = picture.usage.or_else(share) {
            out.field("usage", &answer::usage_json(usage));
        }
        out.field("mimeo", &answer::account(answer, std::slice::from_ref(picture), "")).text("}\n\n");
    }

    /// The first lines of an event, up to and with its picture.
    fn open(&self, out: &mut Pieces, what: &str, bytes: Bytes) {
        let name = format!("{}.{what}", self.subject);
        out.text("event: ").text(&name).text("\ndata: {\"type\":").json(&name);
        out.text(",\"b64_json\":\"").base64(bytes).text("\"");
    }
}

/// The body: one event after the other, each encoded while it is sent.
struct Events {
    script: Script,
    id: RequestId,
    /// What is told before anything else is heard.
    first: VecDeque<News>,
    heard: mpsc::Receiver<(News, First)>,
    current: Pieces,
    keep_alive: Interval,
    /// The last word is said.
    over: bool,
}

impl Events {
    fn new(script: Script, id: RequestId, first: VecDeque<News>, heard: mpsc::Receiver<(News, First)>) -> Self {
        let mut keep_alive = interval(KEEP_ALIVE);
        keep_alive.set_missed_tick_behavior(MissedTickBehavior::Delay);
        keep_alive.reset();
        Events { script, id, first, heard, current: Pieces::default(), keep_alive, over: false }
    }

    fn poll_news(&mut self, cx: &mut Context<'_>) -> Poll<News> {
        match self.first.pop_front() {
            Some(first) => Poll::Ready(first),
            None => self
                .heard
                .poll_recv(cx)
                .map(|heard| heard.map_or_else(|| News::Failed(ended_without_result()), |(news, _)| news)),
        }
    }
}

impl http_body::Body for Events {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let this = &mut *self;
        loop {
            if let Some(bytes) = this.current.next_frame() {
                return Poll::Ready(Some(Ok(Frame::data(bytes))));
            }
            if this.over {
                return Poll::Ready(None);
            }
            if let Poll::Ready(news) = this.poll_news(cx) {
                this.over = matches!(news, News::Done(_) | News::Failed(_));
                if let News::Failed(error) = &news {
                    // The status line is long gone, so nobody else logs this.
                    failure::log(error, this.id, "stream");
                }
                this.current = this.script.write(news);
                this.keep_alive.reset();
                continue;
            }
            ready!(this.keep_alive.poll_tick(cx));
            return Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(b": keep-alive\n\n")))));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{ImageRequest, Picture};
    use crate::error::Kind;
    use http_body::Body as _;
    use serde_json::Value;

    fn no_picture(_: Bytes) -> Result<Picture, String> {
        Err("no picture".into())
    }

    fn script(operation: Operation) -> Script {
        let request = ImageRequest { operation, ..ImageRequest::generate("a kite") };
        Script {
            subject: if operation == Operation::Edit { "image_edit" } else { "image_generation" },
            size: request.size,
            quality: None,
            background: None,
            output_format: Some(Format::Jpeg),
            sniff: no_picture,
        }
    }

    fn text_of(mut pieces: Pieces) -> String {
        let mut whole = Vec::new();
        while let Some(frame) = pieces.next_frame() {
            whole.extend_from_slice(&frame);
        }
        String::from_utf8(whole).unwrap()
    }

    /// The (event, data) pairs, by the rules of the format.
    fn events(text: &str) -> Vec<(String, Value)> {
        assert!(text.ends_with("\n\n"));
        text.trim_end_matches('\n')
            .split("\n\n")
            .map(|block| {
                let (event, data) = block.split_once('\n').unwrap();
                let data = data.strip_prefix("data: ").unwrap();
                assert!(!data.contains('\n'));
                (event.strip_prefix("event: ").unwrap().to_owned(), serde_json::from_str(data).unwrap())
            })
            .collect()
    }

    #[test]
    fn events_are_framed() {
        let news = News::Partial { bytes: Bytes::from(vec![3; 300_000]), index: 2, at: 1_790_000_000_999 };
        let all = events(&text_of(script(Operation::Edit).write(news)));
        assert_eq!(all.len(), 1);
        let (event, data) = &all[0];
        assert_eq!(event, "image_edit.partial_image");
        assert_eq!(data["type"], "image_edit.partial_image");
        assert_eq!(data["partial_image_index"], 2);
        assert_eq!(data["output_format"], "jpeg");
        assert_eq!(data["created_at"], 1_790_000_000);
        assert_eq!(data["b64_json"].as_str().unwrap().len(), 400_000);

        let answer = answer::tests::answer(vec![Bytes::from_static(b"one"), Bytes::from_static(b"two")]);
        let all = events(&text_of(script(Operation::Generate).write(News::Done(Box::new(answer)))));
        assert_eq!(all.len(), 2);
        let tokens: u64 = all.iter().map(|(_, data)| data["usage"]["total_tokens"].as_u64().unwrap()).sum();
        assert_eq!(tokens, 208);
        for (event, data) in &all {
            assert_eq!(event, "image_generation.completed");
            assert!(data.get("partial_image_index").is_none());
            assert_eq!(data["mimeo"]["images"].as_array().unwrap().len(), 1);
        }

        let all = events(&text_of(script(Operation::Edit).write(News::Failed(Error::new(Kind::Refused, "no\nway")))));
        assert_eq!(all[0].0, "error");
        assert_eq!(all[0].1["type"], "error");
        assert_eq!(all[0].1["error"]["code"], "moderation_blocked");
    }

    #[test]
    fn where_it_stands_is_told_when_it_changes() {
        let (news, mut heard) = mpsc::channel(WAITING);
        let (mut told, clock) = (None, Clock::manual(7000));
        for progress in [
            Progress::Queued { position: Some(2) },
            Progress::Queued { position: Some(2) },
            Progress::Queued { position: Some(1) },
            Progress::Running { percent: None },
            Progress::Running { percent: Some(40) },
            Progress::Running { percent: Some(40) },
        ] {
            tell(&news, progress, &mut told, &clock);
        }
        let mut text = String::new();
        while let Ok((news, _)) = heard.try_recv() {
            text += &text_of(script(Operation::Edit).write(news));
        }
        let data: Vec<_> = events(&text)
            .into_iter()
            .map(|(event, data)| {
                assert_eq!(event, "image_edit.progress");
                data
            })
            .collect();
        let of = |stage: Value| {
            let mut whole = serde_json::json!({ "type": "image_edit.progress", "created_at": 7 });
            whole.as_object_mut().unwrap().extend(stage.as_object().unwrap().clone());
            whole
        };
        assert_eq!(
            data,
            [
                of(serde_json::json!({ "status": "queued", "queue_position": 2 })),
                of(serde_json::json!({ "status": "queued", "queue_position": 1 })),
                of(serde_json::json!({ "status": "running" })),
                of(serde_json::json!({ "status": "running", "percent": 40 })),
            ]
        );
    }

    /// What a proxy sees that closes connections which say nothing for half a minute.
    #[tokio::test(start_paused = true)]
    async fn a_long_silence_is_broken_in_time() {
        let (news, heard) = mpsc::channel(WAITING);
        let mut events = Box::pin(Events::new(script(Operation::Generate), RequestId(1), VecDeque::new(), heard));
        for _ in 0..20 {
            let frame = timeout_at(
                Instant::now() + Duration::from_secs(30),
                std::future::poll_fn(|cx| events.as_mut().poll_frame(cx)),
            );
            let Ok(frame) = frame.await.expect("nothing was said for 30 s").expect("it goes on");
            assert_eq!(frame.into_data().unwrap(), Bytes::from_static(b": keep-alive\n\n"));
        }
        let stage = Stage::Running { percent: Some(1) };
        news.send((News::Stage { stage, at: 0 }, None)).await.unwrap();
        let Ok(frame) = std::future::poll_fn(|cx| events.as_mut().poll_frame(cx)).await.expect("it goes on");
        assert!(frame.into_data().unwrap().starts_with(b"event: image_generation.progress\n"));
    }

    fn next(events: &mut Pin<Box<Events>>) -> Poll<Option<String>> {
        let mut cx = Context::from_waker(std::task::Waker::noop());
        events
            .as_mut()
            .poll_frame(&mut cx)
            .map(|frame| frame.map(|Ok(frame)| String::from_utf8(frame.into_data().unwrap().to_vec()).unwrap()))
    }

    #[test]
    fn a_task_that_dies_ends_the_stream_with_an_error() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let _inside = runtime.enter();
        let (news, heard) = mpsc::channel(1);
        let mut events = Box::pin(Events::new(script(Operation::Generate), RequestId(1), VecDeque::new(), heard));
        assert!(next(&mut events).is_pending());
        drop(news);
        let Poll::Ready(Some(text)) = next(&mut events) else { panic!() };
        assert!(text.starts_with("event: error\n"), "{text}");
        assert_eq!(next(&mut events), Poll::Ready(None));
    }
}
