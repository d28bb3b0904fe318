//! The one way every paid request goes: faults, bill, time, pictures, answer.
//!
//! A request is billed the moment it is accepted, before its latency runs. A client that hangs up while it waits has
//! spent the money all the same, and a test that looks into the book after a timeout finds the line there.

use std::time::Duration;

use axum::body::Body;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;

use crate::body::Pieces;
use crate::book::Invoice;
use crate::fault::Fault;
use crate::money::Usd;
use crate::picture::{self, Format, Look, Picture};
use crate::price::Usage;
use crate::problem::Problem;
use crate::script::Plan;
use crate::shop::Shop;
use crate::stats::Visit;

/// A valid, priced request.
#[derive(Debug)]
pub(crate) struct Order {
    pub provider: &'static str,
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
    fn invoice(&self) -> Invoice {
        Invoice {
            provider: self.provider.to_owned(),
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

/// What a provider answers when nothing goes wrong.
pub(crate) enum Reply {
    /// One body with its media type and further headers.
    Whole(&'static str, Vec<Bytes>, Vec<(&'static str, String)>),
    /// Server-sent events, each in pieces.
    Events(Vec<Vec<Bytes>>),
}

/// Set on an answer whose connection is to be closed instead of sending it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct HangUp;

/// Sells an order. `render` writes the provider's answer from the invoice's number and the pictures.
pub(crate) async fn sell<F>(shop: &Shop, visit: Visit, order: Order, render: F) -> Result<Response, Problem>
where
    F: FnOnce(&Order, u64, &[Picture]) -> Reply,
{
    let plan = shop
        .script
        .plan(&order.prompt)
        .map_err(|unknown| Problem::invalid("unknown_directive", "prompt", unknown.to_string()))?;
    let billed = plan.outcome.as_ref().is_none_or(Fault::is_billed);
    let (invoice, time) = if billed {
        (shop.book.bill(order.invoice()).await.map_err(Problem::broken)?, shop.latency() + plan.latency)
    } else {
        (0, plan.latency)
    };
    // A stream spreads its time over its events; everything else waits first.
    let steps = u32::try_from(order.events.max(1)).unwrap_or(1);
    let pause = time / steps;
    if let Some(fault) = &plan.outcome
        && replaces(fault, &order)
    {
        wait(pause).await;
        return instead(fault).await;
    }
    let (pictures, ()) = tokio::join!(draw(shop, &order, &plan, invoice), wait(pause));
    let mut reply = render(&order, invoice, &pictures?);
    if let Reply::Events(events) = &mut reply
        && let Some(problem) = plan.outcome.as_ref().and_then(last_event)
    {
        events.pop();
        let object = serde_json::json!({ "type": "error", "error": problem.object() });
        events.push(vec![format!("event: error\ndata: {object}\n\n").into()]);
    }
    Ok(deliver(reply, &plan, pause, visit))
}

async fn draw(shop: &Shop, order: &Order, plan: &Plan, invoice: u64) -> Result<Vec<Picture>, Problem> {
    let look = Look {
        width: order.width,
        height: order.height,
        motif: Look::motif(&order.model, &order.prompt, order.seed),
        edit: order.edit,
        transparent: order.transparent,
        format: order.format,
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
fn replaces(fault: &Fault, order: &Order) -> bool {
    match fault {
        Fault::Truncate | Fault::TruncatePicture | Fault::HtmlPicture => false,
        Fault::StreamError | Fault::BillThenStreamError | Fault::StreamRefuse => order.events == 0,
        _ => true,
    }
}

/// What stands in the place of the answer.
async fn instead(fault: &Fault) -> Result<Response, Problem> {
    match fault {
        Fault::Fail(status) | Fault::BillThenFail(status) => Err(Problem::from_status(*status)),
        Fault::Throttle(time) => {
            let seconds = time.as_millis().div_ceil(1000);
            Err(Problem::throttled()
                .with_header("retry-after", &seconds.to_string())
                .with_header("retry-after-ms", &time.as_millis().to_string()))
        }
        Fault::ThrottleDate(time) => Err(Problem::throttled().with_header("retry-after", &date_in(*time))),
        Fault::Quota => Err(Problem::out_of_money()),
        Fault::Refuse | Fault::StreamRefuse => Err(Problem::refusal()),
        Fault::StreamError | Fault::BillThenStreamError => Err(Problem::from_status(StatusCode::INTERNAL_SERVER_ERROR)),
        Fault::RefuseOk => Ok(axum::Json(serde_json::json!({ "created": unix_seconds(), "data": [] })).into_response()),
        Fault::Reset | Fault::BillThenReset => {
            let mut response = StatusCode::OK.into_response();
            response.extensions_mut().insert(HangUp);
            Ok(response)
        }
        Fault::Redirect(place) => {
            let place = place.as_deref().unwrap_or("/elsewhere");
            Ok((StatusCode::FOUND, [(header::LOCATION, place)]).into_response())
        }
        Fault::Html => Ok(([(header::CONTENT_TYPE, "text/html; charset=utf-8")], PAGE).into_response()),
        Fault::GarbageJson => {
            Ok(([(header::CONTENT_TYPE, "application/json")], "{\"created\": 17, \"data\": [{\"b64_j").into_response())
        }
        Fault::Hang | Fault::BillThenHang => std::future::pending().await,
        Fault::Latency(_) | Fault::Trickle(_) | Fault::Bytes(_) => Err(Problem::broken("a modifier is no outcome")),
        Fault::Truncate | Fault::TruncatePicture | Fault::HtmlPicture => {
            Err(Problem::broken("the fault changes the answer and does not replace it"))
        }
    }
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

fn deliver(reply: Reply, plan: &Plan, pause: Duration, visit: Visit) -> Response {
    let (mime, mut body, headers) = match reply {
        Reply::Whole(mime, pieces, headers) => {
            let body = Pieces::new(pieces);
            match plan.trickle {
                Some(pause) => (mime, body.cut_into(TRICKLES).paced(pause, visit), headers),
                None => (mime, body, headers),
            }
        }
        Reply::Events(events) => {
            let events = events.into_iter().map(|event| Bytes::from(event.concat())).collect();
            let pause = plan.trickle.unwrap_or(pause);
            ("text/event-stream", Pieces::new(events).paced(pause, visit), Vec::new())
        }
    };
    let whole = body.len();
    let streams = mime == "text/event-stream";
    if plan.outcome == Some(Fault::Truncate) {
        body = body.broken();
    }
    let mut response = Response::new(Body::from(body));
    let fields = response.headers_mut();
    fields.insert(header::CONTENT_TYPE, HeaderValue::from_static(mime));
    for (name, value) in headers {
        if let Ok(value) = HeaderValue::from_str(&value) {
            fields.insert(name, value);
        }
    }
    if streams {
        fields.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    } else {
        // Stated here because a body that will break off does not know its promised length.
        fields.insert(header::CONTENT_LENGTH, HeaderValue::from(whole));
    }
    response
}

/// Seconds since 1970-01-01 UTC, as in the field `created`.
pub(crate) fn unix_seconds() -> u64 {
    now().duration_since(std::time::UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// An HTTP date so far ahead. Dates have whole seconds, so it is rounded up: it never asks for less.
fn date_in(time: Duration) -> String {
    httpdate::fmt_http_date(now() + time + Duration::from_millis(999))
}

#[expect(clippy::disallowed_methods, reason = "the provider's own clock: its dates are read by another program")]
fn now() -> std::time::SystemTime {
    std::time::SystemTime::now()
}

/// Takes `time`. No time is none: the timer's shortest sleep is a millisecond.
async fn wait(time: Duration) {
    if !time.is_zero() {
        tokio::time::sleep(time).await;
    }
}
