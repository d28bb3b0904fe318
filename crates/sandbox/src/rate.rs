//! A limit on the rate of requests, as providers have it: so many in each window, and a 429 for what is above.
//!
//! Set under `/control/rate`, for all providers of the sandbox together. What is taken and what is refused is noted
//! with its time, so that a benchmark can draw what a gateway did.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::Json;
use axum::extract::{Request, State};
use axum::http::{HeaderName, HeaderValue, Method, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use crate::control::read;
use crate::problem::Problem;
use crate::shop::Shop;

/// Requests whose times are kept.
const MOST: usize = 1 << 20;

/// The limit, if there is one.
#[derive(Debug, Default)]
pub(crate) struct Rate(Mutex<Option<Counted>>);

/// How requests are limited.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Limit {
    /// So many requests.
    count: u32,
    /// In so many milliseconds.
    window_ms: u64,
    /// What a window is.
    #[serde(default)]
    kind: Kind,
    /// What a refusal says of when to come back.
    #[serde(default)]
    says: Says,
    /// Whether every answer says what is left (`x-ratelimit-remaining-requests`).
    #[serde(default)]
    headers: bool,
}

/// What a window is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Kind {
    /// One begins where the last one ends.
    #[default]
    Fixed,
    /// It ends now.
    Sliding,
}

/// What a refusal says of when to come back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Says {
    /// `Retry-After`, and `retry-after-ms`.
    #[default]
    Ms,
    /// `Retry-After` alone, in whole seconds.
    S,
    /// Nothing.
    Nothing,
}

#[derive(Debug)]
struct Counted {
    limit: Limit,
    since: Instant,
    /// When requests were taken and when they were refused, in milliseconds since then.
    taken: Vec<f64>,
    refused: Vec<f64>,
}

/// What was counted, as `GET /control/rate` shows it.
#[derive(Serialize)]
pub(crate) struct Shown {
    limit: Limit,
    taken_ms: Vec<f64>,
    refused_ms: Vec<f64>,
}

impl Counted {
    /// What is left after this request and how long until there is more; or how long until one is taken again.
    fn count(&mut self, now: Instant) -> Result<(u32, Duration), Duration> {
        let at = now.saturating_duration_since(self.since).as_secs_f64() * 1e3;
        let window = self.limit.window_ms.max(1) as f64;
        let from = match self.limit.kind {
            Kind::Fixed => (at / window).floor() * window,
            Kind::Sliding => at - window,
        };
        let within = self.taken.partition_point(|taken| *taken < from);
        let within = self.taken.get(within..).unwrap_or_default();
        let count = self.limit.count as usize;
        let oldest = within.len().checked_sub(count).and_then(|index| within.get(index)).or(within.first());
        let reset = match self.limit.kind {
            Kind::Fixed => from + window - at,
            Kind::Sliding => oldest.map_or(0.0, |oldest| oldest + window - at),
        };
        let reset = Duration::from_secs_f64(reset.max(0.0) / 1e3);
        let left = count.saturating_sub(within.len());
        let log = if left > 0 { &mut self.taken } else { &mut self.refused };
        if log.len() < MOST {
            log.push(at);
        }
        if left == 0 {
            return Err(reset);
        }
        // A count that large is no limit.
        Ok((u32::try_from(left - 1).unwrap_or(u32::MAX), reset))
    }
}

impl Rate {
    fn counted(&self) -> MutexGuard<'_, Option<Counted>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Stands before all routes: counts what could cost something, and refuses what is too much.
pub(crate) async fn limit(State(shop): State<Arc<Shop>>, request: Request, next: Next) -> Response {
    if request.method() != Method::POST || request.uri().path().starts_with("/control/") {
        return next.run(request).await;
    }
    let counted = shop.rate.counted().as_mut().map(|counted| (counted.limit, counted.count(Instant::now())));
    match counted {
        None => next.run(request).await,
        Some((limit, Ok((left, reset)))) => {
            let mut response = next.run(request).await;
            if limit.headers {
                let reset = HeaderValue::from_str(&format!("{}ms", reset.as_millis()));
                let headers = response.headers_mut();
                headers.insert(HeaderName::from_static("x-ratelimit-remaining-requests"), HeaderValue::from(left));
                if let Ok(reset) = reset {
                    headers.insert(HeaderName::from_static("x-ratelimit-reset-requests"), reset);
                }
            }
            response
        }
        Some((limit, Err(wait))) => {
            let problem = Problem::throttled();
            // Rounded up: never less than it takes.
            let seconds = wait.as_millis().div_ceil(1000).max(1).to_string();
            let problem = match limit.says {
                Says::Nothing => problem,
                Says::S => problem.with_header("retry-after", &seconds),
                Says::Ms => problem
                    .with_header("retry-after", &seconds)
                    .with_header("retry-after-ms", &wait.as_micros().div_ceil(1000).to_string()),
            };
            problem.into_response()
        }
    }
}

/// `GET /control/rate`.
pub(crate) async fn show(State(shop): State<Arc<Shop>>) -> Json<Option<Shown>> {
    Json(shop.rate.counted().as_ref().map(|counted| Shown {
        limit: counted.limit,
        taken_ms: counted.taken.clone(),
        refused_ms: counted.refused.clone(),
    }))
}

/// `POST /control/rate`: from now on so many, and nothing has been counted yet.
pub(crate) async fn set(State(shop): State<Arc<Shop>>, body: Bytes) -> Result<StatusCode, Problem> {
    let limit: Limit = read(&body)?;
    let counted = Counted { limit, since: Instant::now(), taken: Vec::new(), refused: Vec::new() };
    *shop.rate.counted() = Some(counted);
    Ok(StatusCode::NO_CONTENT)
}

/// `DELETE /control/rate`: no limit any more.
pub(crate) async fn clear(State(shop): State<Arc<Shop>>) -> StatusCode {
    *shop.rate.counted() = None;
    StatusCode::NO_CONTENT
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counted(kind: Kind) -> (Instant, Counted) {
        let since = Instant::now();
        let limit = Limit { count: 3, window_ms: 1000, kind, says: Says::Ms, headers: false };
        (since, Counted { limit, since, taken: Vec::new(), refused: Vec::new() })
    }

    /// What becomes of requests at these milliseconds: what is left, or in which millisecond one is taken again.
    fn run(kind: Kind, at: &[u64]) -> Vec<Result<u32, u64>> {
        let (since, mut counted) = counted(kind);
        let one = |ms: &u64| {
            let counted = counted.count(since + Duration::from_millis(*ms));
            counted.map(|(left, _)| left).map_err(|wait| ms + wait.as_micros().div_ceil(1000) as u64)
        };
        at.iter().map(one).collect()
    }

    #[test]
    fn windows_are_counted() {
        let at = [600, 700, 800, 900, 1100, 1200, 1300, 1400];
        assert_eq!(run(Kind::Fixed, &at), [Ok(2), Ok(1), Ok(0), Err(1000), Ok(2), Ok(1), Ok(0), Err(2000)]);
        let at = [600, 700, 800, 900, 1100, 1601, 1602, 1701];
        assert_eq!(run(Kind::Sliding, &at), [Ok(2), Ok(1), Ok(0), Err(1600), Err(1600), Ok(0), Err(1700), Ok(0)]);
    }
}
