//! The one way every paid request goes: faults, bill, time, pictures, answer.
//!
//! A request is billed the moment it is accepted, before its latency runs. A client that hangs up while it waits has
//! spent the money all the same, and a test that looks into the book after a timeout finds the line there.

use std::time::Duration;

use axum::body::Body;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;

use crate::body::Pieces;
use crate::book::Invoice;
use crate::fault::{Fault, UnknownFault};
use crate::money::Usd;
use crate::picture::{self, Format, Look, Picture};
use crate::price::Usage;
use crate::problem::Problem;
use crate::script::Plan;
use crate::shop::Shop;
use crate::stats::Visit;

/// A valid, priced request.
#[derive(Clone, Debug)]
pub(crate) struct Order {
    pub provider: String,
    pub account: String,
    pub attempt: Option<String>,
    pub model: String,
    pub edit: bool,
    /// Number of pictures, 1 to 10.
    pub n: usize,
    pub width: u32,
    pub height: u32,
    pub quality: Option<String>,
    pub prompt: String,
    pub seed: Option<i64>,
    pub format: Format,
    pub transparent: bool,
    /// Price of all pictures together.
    pub usd: Usd,
    pub usage: Option<Usage>,
    /// Number of events if the answer is a stream of them, else 0.
    pub events: usize,
}

impl Order {
    pub(crate) fn invoice(&self) -> Invoice {
        Invoice {
            provider: self.provider.clone(),
            account: self.account.clone(),
            model: self.model.clone(),
            operation: if self.edit { "edit" } else { "generate" }.to_owned(),
            // At most 10, so the cast keeps it whole.
            n: self.n as u32,
            size: format!("{}x{}", self.width, self.height),
            quality: self.quality.clone(),
            usd: self.usd,
            usage: self.usage,
            attempt: self.attempt.clone(),
            prompt: self.prompt.clone(),
        }
    }
}

/// What a provider has to say when it does not sell.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Complaint {
    /// A bare status, which the fault asked for.
    Failed(StatusCode),
    /// Too many requests: come back after that time, told as a date or in seconds.
    Throttled { wait: Duration, as_date: bool },
    /// The account is empty.
    OutOfMoney,
    /// The prompt is refused.
    Refused,
    /// The prompt is refused with HTTP 200.
    RefusedOk,
}

/// How a provider words its complaints, and what it charges in spite of them.
pub(crate) trait Voice {
    /// The answer that says so.
    fn complain(&self, complaint: Complaint) -> Response;

    /// Whether a request that meets this fault is billed.
    fn bills(&self, fault: &Fault) -> bool {
        fault.is_billed()
    }

    /// Whether a refusal is an answer like any other, written with the pictures at hand.
    fn renders_refusals(&self) -> bool {
        false
    }
}

/// The voice that everybody copied.
pub(crate) struct Customary;

impl Voice for Customary {
    fn complain(&self, complaint: Complaint) -> Response {
        match complaint {
            Complaint::Failed(status) => Problem::from_status(status).into_response(),
            Complaint::Throttled { wait, as_date: true } => {
                Problem::throttled().with_header("retry-after", &date_in(wait)).into_response()
            }
            Complaint::Throttled { wait, as_date: false } => Problem::throttled()
                .with_header("retry-after", &wait.as_millis().div_ceil(1000).to_string())
                .with_header("retry-after-ms", &wait.as_millis().to_string())
                .into_response(),
            Complaint::OutOfMoney => Problem::out_of_money().into_response(),
            Complaint::Refused => Problem::refusal().into_response(),
            Complaint::RefusedOk => {
                axum::Json(serde_json::json!({ "created": unix_seconds(), "data": [] })).into_response()
            }
        }
    }
}

/// What a provider answers when nothing goes wrong.
pub(crate) enum Reply {
    /// One body with its status and headers; the length is added.
    Whole(StatusCode, HeaderMap, Vec<Bytes>),
    /// Server-sent events, each in pieces.
    Events(Vec<Vec<Bytes>>),
}

impl Reply {
    /// A good answer of that media type.
    pub(crate) fn ok(mime: &'static str, body: Vec<Bytes>) -> Self {
        let headers = HeaderMap::from_iter([(header::CONTENT_TYPE, HeaderValue::from_static(mime))]);
        Self::Whole(StatusCode::OK, headers, body)
    }
}

/// What was sold: the order, the number of its invoice (0 if it is not billed), the pictures, and what went wrong.
pub(crate) struct Sold<'a> {
    pub order: &'a Order,
    pub invoice: u64,
    pub pictures: &'a [Picture],
    pub plan: &'a Plan,
}

/// Set on an answer whose connection is to be closed instead of sending it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct HangUp;

/// Decides what happens to an order, by its prompt and the script.
pub(crate) fn plan(shop: &Shop, order: &Order) -> Result<Plan, Problem> {
    let unknown = |unknown: UnknownFault| Problem::invalid("unknown_directive", "prompt", unknown.to_string());
    shop.script.plan(&order.prompt).map_err(unknown)
}

/// Writes an order into the book, and tells the invoice's number.
pub(crate) async fn bill(shop: &Shop, order: &Order) -> Result<u64, Problem> {
    shop.book.bill(order.invoice()).await.map_err(Problem::broken)
}

/// Sells an order. `render` writes the provider's answer.
pub(crate) async fn sell<F>(
    shop: &Shop,
    visit: Visit,
    order: Order,
    voice: &impl Voice,
    render: F,
) -> Result<Response, Problem>
where
    F: FnOnce(Sold<'_>) -> Result<Reply, Problem>,
{
    let plan = plan(shop, &order)?;
    let billed = plan.outcome.as_ref().is_none_or(|fault| voice.bills(fault));
    let (invoice, time) =
        if billed { (bill(shop, &order).await?, shop.latency() + plan.latency) } else { (0, plan.latency) };
    // A stream spreads its time over its events; everything else waits first.
    let steps = u32::try_from(order.events.max(1)).unwrap_or(1);
    let pause = time / steps;
    if let Some(fault) = &plan.outcome
        && replaces(fault, &order, voice)
    {
        wait(pause).await;
        return instead(fault, voice).await;
    }
    let (pictures, ()) = tokio::join!(draw(shop, &order, &plan, invoice), wait(pause));
    let mut reply = render(Sold { order: &order, invoice, pictures: &pictures?, plan: &plan })?;
    if let Reply::Events(events) = &mut reply
        && let Some(problem) = plan.outcome.as_ref().and_then(last_event)
    {
        events.pop();
        let object = serde_json::json!({ "type": "error", "error": problem.object() });
        events.push(vec![format!("event: error\ndata: {object}\n\n").into()]);
    }
    Ok(deliver(reply, &plan, pause, visit))
}

/// Draws the pictures of an order, or what a fault puts in their place.
pub(crate) async fn draw(shop: &Shop, order: &Order, plan: &Plan, invoice: u64) -> Result<Vec<Picture>, Problem> {
    let look = Look {
        width: order.width,
        height: order.height,
        motif: Look::motif(&order.model, &order.prompt, order.seed),
        edit: order.edit,
        transparent: order.transparent,
        format: order.format,
        is_blank: plan.outcome == Some(Fault::BlankPicture),
        least_bytes: plan.bytes.unwrap_or(shop.picture_bytes),
    };
    if plan.outcome == Some(Fault::HtmlPicture) {
        return Ok(vec![Picture::Raw(Bytes::from_static(PAGE.as_bytes()), order.format); order.n]);
    }
    let painted = picture::paint(look).await.map_err(Problem::broken)?;
    let pictures = (0..order.n).map(|index| {
        let picture = Picture::stamped(painted.clone(), invoice, index);
        if plan.outcome == Some(Fault::TruncatePicture) { picture.cut() } else { picture }
    });
    Ok(pictures.collect())
}

/// A page such as proxies put in front of broken back ends.
const PAGE: &str = "<!DOCTYPE html>\n<html><head><title>Bad gateway (simulated)</title></head>\
    <body><h1>502 Bad gateway</h1><p>The origin did not answer. This page is simulated.</p></body></html>\n";

/// Whether a fault puts something else in the place of the provider's answer.
fn replaces(fault: &Fault, order: &Order, voice: &impl Voice) -> bool {
    match fault {
        Fault::Truncate | Fault::TruncatePicture | Fault::HtmlPicture | Fault::BlankPicture => false,
        Fault::StreamError | Fault::BillThenStreamError => order.events == 0,
        Fault::StreamRefuse => order.events == 0 && !voice.renders_refusals(),
        Fault::Refuse(_) | Fault::RefuseOk => !voice.renders_refusals(),
        _ => true,
    }
}

/// What stands in the place of the answer.
pub(crate) async fn instead(fault: &Fault, voice: &impl Voice) -> Result<Response, Problem> {
    let complaint = match fault {
        Fault::Fail(status) | Fault::BillThenFail(status) => Complaint::Failed(*status),
        Fault::Throttle(wait) => Complaint::Throttled { wait: *wait, as_date: false },
        Fault::ThrottleDate(wait) => Complaint::Throttled { wait: *wait, as_date: true },
        Fault::Quota => Complaint::OutOfMoney,
        Fault::Refuse(_) | Fault::StreamRefuse => Complaint::Refused,
        Fault::RefuseOk => Complaint::RefusedOk,
        Fault::StreamError | Fault::BillThenStreamError => Complaint::Failed(StatusCode::INTERNAL_SERVER_ERROR),
        Fault::FailJob | Fault::BillThenFailJob | Fault::ForgetJob => {
            Complaint::Failed(StatusCode::INTERNAL_SERVER_ERROR)
        }
        Fault::Reset | Fault::BillThenReset => {
            let mut response = StatusCode::OK.into_response();
            response.extensions_mut().insert(HangUp);
            return Ok(response);
        }
        Fault::Redirect(place) => {
            let place = place.as_deref().unwrap_or("/elsewhere");
            return Ok((StatusCode::FOUND, [(header::LOCATION, place)]).into_response());
        }
        Fault::Html => return Ok(([(header::CONTENT_TYPE, "text/html; charset=utf-8")], PAGE).into_response()),
        Fault::GarbageJson => {
            let torn = "{\"created\": 17, \"data\": [{\"b64_j";
            return Ok(([(header::CONTENT_TYPE, "application/json")], torn).into_response());
        }
        Fault::Hang | Fault::BillThenHang => return std::future::pending().await,
        Fault::Latency(_) | Fault::Trickle(_) | Fault::Bytes(_) => {
            return Err(Problem::broken("a modifier is no outcome"));
        }
        Fault::ExpiredUrl | Fault::Lag(_) | Fault::OddStatus | Fault::PollFail(_) => {
            return Err(Problem::broken("a modifier is no outcome"));
        }
        Fault::Truncate | Fault::TruncatePicture | Fault::HtmlPicture | Fault::BlankPicture => {
            return Err(Problem::broken("the fault changes the answer and does not replace it"));
        }
    };
    Ok(voice.complain(complaint))
}

/// The event that a fault puts in the place of a stream's last one.
fn last_event(fault: &Fault) -> Option<Problem> {
    match fault {
        Fault::StreamError | Fault::BillThenStreamError => {
            Some(Problem::from_status(StatusCode::INTERNAL_SERVER_ERROR))
        }
        Fault::StreamRefuse => Some(Problem::refusal()),
        _ => None,
    }
}

/// In how many pieces a slow body comes.
const TRICKLES: usize = 16;

/// Sends a reply as the plan says: whole, slow or broken off.
pub(crate) fn deliver(reply: Reply, plan: &Plan, pause: Duration, visit: Visit) -> Response {
    let (status, mut headers, mut body) = match reply {
        Reply::Whole(status, mut headers, pieces) => {
            let body = Pieces::new(pieces);
            // Stated here because a body that will break off does not know its promised length.
            headers.insert(header::CONTENT_LENGTH, HeaderValue::from(body.len()));
            match plan.trickle {
                Some(pause) => (status, headers, body.cut_into(TRICKLES).paced(pause, visit)),
                None => (status, headers, body),
            }
        }
        Reply::Events(events) => {
            let events = events.into_iter().map(|event| Bytes::from(event.concat())).collect();
            let pause = plan.trickle.unwrap_or(pause);
            let mut headers = HeaderMap::new();
            headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
            headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
            (StatusCode::OK, headers, Pieces::new(events).paced(pause, visit))
        }
    };
    if plan.outcome == Some(Fault::Truncate) {
        body = body.broken();
    }
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = status;
    std::mem::swap(response.headers_mut(), &mut headers);
    response
}

/// Seconds since 1970-01-01 UTC, as in the field `created`.
pub(crate) fn unix_seconds() -> u64 {
    now().duration_since(std::time::UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// The same in nanoseconds, to tell one run of a sandbox from the next.
pub(crate) fn nanoseconds() -> u128 {
    now().duration_since(std::time::UNIX_EPOCH).map_or(0, |since| since.as_nanos())
}

/// An HTTP date so far ahead. Dates have whole seconds, so it is rounded up: it never asks for less.
pub(crate) fn date_in(time: Duration) -> String {
    httpdate::fmt_http_date(now() + time + Duration::from_millis(999))
}

#[expect(clippy::disallowed_methods, reason = "the provider's own clock: its dates are read by another program")]
fn now() -> std::time::SystemTime {
    std::time::SystemTime::now()
}

/// Takes `time`. No time is none: the timer's shortest sleep is a millisecond.
pub(crate) async fn wait(time: Duration) {
    if !time.is_zero() {
        tokio::time::sleep(time).await;
    }
}
