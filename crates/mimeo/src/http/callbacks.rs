//! `POST /v1/callbacks/{attempt}/{token}`: a provider tells that a job has ended. It is not believed: whoever asks for
//! the job asks now instead of later. So nobody gains anything by a forged, repeated or late one.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Path, Request, State};
use axum::http::StatusCode;
use tokio::time::timeout;

use super::failure::Failure;
use super::{Edge, upload};
use crate::domain::AttemptId;
use crate::error::{Error, Kind};

/// The longest body that is read, in bytes: a provider tells where a picture is, or a small one.
const LONGEST: usize = 1 << 20;
/// How long it may take to come.
const PATIENCE: Duration = Duration::from_secs(10);

/// True for the paths of callbacks, whose last part is the right to call back.
pub fn is_callback_path(path: &str) -> bool {
    let parts = path.strip_prefix("/v1/callbacks/").and_then(|rest| rest.split_once('/'));
    parts.is_some_and(|(id, token)| !id.is_empty() && !token.is_empty() && !token.contains('/'))
}

/// Wakes whoever asks for the job.
pub async fn called(
    State(edge): State<Arc<Edge>>,
    Path((id, token)): Path<(String, String)>,
    request: Request,
) -> Result<StatusCode, Failure> {
    let (parts, body) = request.into_parts();
    let attempt: Option<AttemptId> = id.parse().ok();
    let opened = match attempt {
        // Before anything is read.
        Some(attempt) => edge.pipeline.open_callback(attempt, &token).await?.map(|secret| (attempt, secret)),
        None => None,
    };
    let Some((attempt, secret)) = opened else {
        upload::drain(&parts.headers, body).await;
        return Err(Failure(unverified()));
    };
    let body = match timeout(PATIENCE, axum::body::to_bytes(body, LONGEST)).await {
        Ok(Ok(body)) => body,
        Ok(Err(_)) => return Err(Failure(Error::new(Kind::TooLarge, "A callback of more than 1 MiB is not read."))),
        Err(_) => return Err(Failure(Error::new(Kind::Stalled, "The body of the callback did not come in time."))),
    };
    match edge.pipeline.called_back(attempt, &secret, &parts.headers, &body).await? {
        true => Ok(StatusCode::NO_CONTENT),
        false => Err(Failure(unverified())),
    }
}

fn unverified() -> Error {
    Error::new(Kind::Unauthenticated, "This callback cannot be verified, and nothing was done about it.")
        .code("unverified_callback")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_paths_of_callbacks() {
        assert!(is_callback_path("/v1/callbacks/att_1/abc"));
        for other in [
            "/v1/callbacks",
            "/v1/callbacks/",
            "/v1/callbacks/att_1",
            "/v1/callbacks/att_1/",
            "/v1/callbacks//abc",
            "/v1/callbacks/att_1/abc/d",
            "/v1/callbacks/att_1/abc/",
            "/x/v1/callbacks/att_1/abc",
        ] {
            assert!(!is_callback_path(other), "{other}");
        }
    }
}
