//! The shape of the simulated provider's own API: fields as JSON in, one picture as the body out, its cost in a
//! header.

use bytes::Bytes;

use super::answer::{Answer, stated_cost};
use super::call::{self, Reply};
use super::provider::{Job, Provider};
use super::{body, fault};
use crate::domain::{Fault, FaultKind, Generated};

/// Largest picture, and most bytes of anything else that are read.
const LARGEST: usize = 128 << 20;
const LONGEST_TEXT: usize = 64 << 10;

pub(super) async fn submit(provider: &Provider, job: &Job<'_>) -> Result<Generated, Fault> {
    let Some(path) = &provider.record.wire.generate else {
        return Err(Fault::new(FaultKind::Rejected, "it cannot generate"));
    };
    let json = serde_json::Value::Object(body::fields(provider, job, None)).to_string();
    let typed = |request: reqwest::RequestBuilder| request.header("content-type", "application/json").body(json);
    let mut reply = call::post(provider, job, path, typed).await?;
    if !reply.is_success() {
        let body = reply.head_of_body(provider, LONGEST_TEXT).await;
        return Err(fault::of_status(provider, reply.status(), reply.headers(), &body));
    }
    let mut answer = Answer { billed: stated_cost(provider, reply.headers()), ..Answer::default() };
    match reply.media_type().as_str() {
        "application/json" => {
            // No picture came. Why not is in the answer, or nobody knows.
            let text = reply.head_of_body(provider, LONGEST_TEXT).await;
            let Ok(value) = serde_json::from_slice::<serde_json::Value>(&text) else {
                return Err(Fault::new(FaultKind::Unknown, "the answer is not JSON"));
            };
            if value.get("error").is_some_and(|error| !error.is_null()) {
                return Err(fault::of_object(provider, &value, FaultKind::BadAnswer));
            }
        }
        kind if kind.starts_with("image/") => answer.pictures.push(picture(provider, &mut reply).await?),
        _ => return Err(answer.unusable(job, "it answered with a page instead of a picture".to_owned())),
    }
    answer.generated(provider, job)
}

/// The body, which is the picture.
async fn picture(provider: &Provider, reply: &mut Reply) -> Result<Bytes, Fault> {
    let too_large = || Fault::new(FaultKind::BadAnswer, "the picture is too large");
    let length = reply.length();
    if length.is_some_and(|length| length > LARGEST) {
        return Err(too_large());
    }
    let mut picture = Vec::with_capacity(length.unwrap_or(256 << 10));
    while let Some(piece) = reply.next(provider).await? {
        if picture.len() + piece.len() > LARGEST {
            return Err(too_large());
        }
        picture.extend_from_slice(&piece);
    }
    Ok(Bytes::from(picture))
}

#[cfg(test)]
#[path = "sandbox_tests.rs"]
mod tests;
