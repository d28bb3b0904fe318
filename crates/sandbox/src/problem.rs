//! Errors in the shape that OpenAI gave them and everybody copied.

use axum::Json;
use axum::http::{HeaderName, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

/// An error answer.
#[derive(Debug)]
pub(crate) struct Problem {
    status: StatusCode,
    kind: &'static str,
    code: Option<&'static str>,
    message: String,
    param: Option<String>,
    headers: Vec<(HeaderName, HeaderValue)>,
}

impl Problem {
    /// A problem with that status, `type` and `code`.
    pub(crate) fn new(
        status: StatusCode,
        kind: &'static str,
        code: Option<&'static str>,
        message: impl Into<String>,
    ) -> Self {
        Self { status, kind, code, message: message.into(), param: None, headers: Vec::new() }
    }

    /// A 400 for a parameter.
    pub(crate) fn invalid(code: &'static str, param: &str, message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "invalid_request_error", Some(code), message).about(param)
    }

    /// What a bare status means; the message says that it was asked for.
    pub(crate) fn from_status(status: StatusCode) -> Self {
        let (kind, code) = match status.as_u16() {
            401 => ("invalid_request_error", Some("invalid_api_key")),
            403 => ("invalid_request_error", None),
            404 => ("invalid_request_error", Some("model_not_found")),
            408 => ("server_error", Some("timeout")),
            429 => ("requests", Some("rate_limit_exceeded")),
            503 => ("server_error", Some("overloaded")),
            500.. => ("server_error", Some("server_error")),
            _ => ("invalid_request_error", None),
        };
        Self::new(status, kind, code, format!("Simulated failure: {status}."))
    }

    /// The refusal of a prompt.
    pub(crate) fn refusal() -> Self {
        let message = "Your request was rejected by the safety system (simulated).";
        Self::new(StatusCode::BAD_REQUEST, "image_generation_user_error", Some("moderation_blocked"), message)
    }

    /// A 429 for too many requests.
    pub(crate) fn throttled() -> Self {
        let message = "Rate limit reached for images per minute (simulated).";
        Self::new(StatusCode::TOO_MANY_REQUESTS, "requests", Some("rate_limit_exceeded"), message)
    }

    /// A 429 for an empty account.
    pub(crate) fn out_of_money() -> Self {
        let message = "You exceeded your current quota, please check your plan and billing details (simulated).";
        Self::new(StatusCode::TOO_MANY_REQUESTS, "insufficient_quota", Some("insufficient_quota"), message)
    }

    /// A model that does not exist, or no longer.
    pub(crate) fn no_model(model: &str) -> Self {
        let model: String = model.chars().take(100).collect();
        let message = format!("The model '{model}' does not exist or you do not have access to it.");
        let code = Some("model_not_found");
        Self::new(StatusCode::NOT_FOUND, "invalid_request_error", code, message).about("model")
    }

    /// A failure of the sandbox itself, never simulated.
    pub(crate) fn broken(cause: impl std::fmt::Display) -> Self {
        let message = format!("The sandbox itself failed: {cause}");
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "server_error", Some("sandbox_failure"), message)
    }

    /// Names the parameter at fault.
    pub(crate) fn about(mut self, param: &str) -> Self {
        self.param = Some(param.to_owned());
        self
    }

    /// Adds a header; one whose value cannot be sent is left out.
    pub(crate) fn with_header(mut self, name: &'static str, value: &str) -> Self {
        if let Ok(value) = HeaderValue::from_str(value) {
            self.headers.push((HeaderName::from_static(name), value));
        }
        self
    }

    /// The `error` object.
    pub(crate) fn object(&self) -> Value {
        json!({ "message": self.message, "type": self.kind, "param": self.param, "code": self.code })
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let mut response = (self.status, Json(json!({ "error": self.object() }))).into_response();
        response.headers_mut().extend(self.headers);
        response
    }
}
