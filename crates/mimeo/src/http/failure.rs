//! An error as the OpenAI API shapes it: `{"error":{"message","type","param","code"}}`, with the
//! headers that its SDKs decide by.

use axum::body::Body;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;

use super::pieces::Pieces;
use crate::domain::RequestId;
use crate::error::{Error, Kind};

/// An error on its way to the caller. The error stays with the response, for the log.
#[derive(Debug)]
pub struct Failure(pub Error);

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Failure(error)
    }
}

/// The `error` object, in the order in which the OpenAI API writes it.
#[derive(Debug, Serialize)]
pub struct ErrorObject<'a> {
    message: &'a str,
    r#type: &'static str,
    param: Option<&'a str>,
    code: &'a str,
}

impl<'a> ErrorObject<'a> {
    /// What the caller is told of `error`.
    pub fn of(error: &'a Error) -> Self {
        ErrorObject {
            message: &error.message,
            r#type: error.kind.type_name(),
            param: error.param.as_deref(),
            code: code(error),
        }
    }
}

fn code(error: &Error) -> &str {
    error.code.as_deref().unwrap_or(error.kind.code())
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        let Failure(error) = self;
        let mut body = Pieces::default();
        body.text("{\"error\":").json(&ErrorObject::of(&error)).text("}");
        let mut response = Response::new(Body::new(body.finish()));
        *response.status_mut() = StatusCode::from_u16(error.kind.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        headers(&error, response.headers_mut());
        response.extensions_mut().insert(error);
        response
    }
}

fn headers(error: &Error, headers: &mut HeaderMap) {
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    if let Some(retry) = error.should_retry() {
        headers.insert("x-should-retry", HeaderValue::from_static(if retry { "true" } else { "false" }));
    }
    if let Some(after) = error.retry_after {
        // Rounded up: a caller who comes back too early is refused again.
        let seconds = after.as_secs() + u64::from(after.subsec_nanos() > 0);
        headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds.max(1)));
    }
    if error.kind == Kind::Unauthenticated {
        headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"mimeo\""));
    }
}

/// Logs a failed request: what the gateway or a provider did wrong as a warning, what the caller did
/// wrong only for those who debug, and so who is sent away: under overload that is most, and `load` tells how
/// many. Never the request itself.
pub fn log(error: &Error, id: RequestId, path: &str) {
    let (status, code) = (error.kind.status(), code(error));
    // Not to find a picture in the cache is what `only-if-cached` asked to be told, and who is ruled out by a route's
    // demands is what these are for.
    if status >= 500 && !matches!(error.kind, Kind::NotCached | Kind::Unavailable | Kind::RuledOut) {
        tracing::warn!(%id, path, status, code, %error, "request failed");
    } else {
        tracing::debug!(%id, path, status, code, "request refused");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn headers_that_sdks_decide_by() {
        let mut error = Error::new(Kind::Throttled, "slow down");
        error.retry_after = Some(Duration::from_millis(1200));
        let response = Failure(error).into_response();
        assert_eq!(response.status(), 429);
        assert_eq!(response.headers()["retry-after"], "2");
        assert!(!response.headers().contains_key("x-should-retry"));

        let response = Failure(Error::new(Kind::OutcomeUnknown, "?")).into_response();
        assert_eq!(response.status(), 504);
        assert_eq!(response.headers()["x-should-retry"], "false");
    }

    #[test]
    fn every_field_is_there() {
        let json = |error: &Error| serde_json::to_string(&ErrorObject::of(error)).unwrap();
        assert_eq!(
            json(&Error::bad("n", "no")),
            r#"{"message":"no","type":"invalid_request_error","param":"n","code":"invalid_value"}"#
        );
        assert!(json(&Error::new(Kind::NotFound, "no")).contains(r#""param":null"#));
    }
}
