//! The shape of most providers: one request, and in its answer the picture, as bytes, as base64 or as an address.

use bytes::Bytes;

use super::answer::Answer;
use super::call::{self, Reply};
use super::lift::{LARGEST_PICTURE, Lift, LiftError, Lifted, Limits};
use super::provider::{Job, Provider};
use super::watch::{Callback, Watch};
use super::{body, download, fault};
use crate::domain::{Fault, FaultKind, Generated, Operation, Progress};

/// Most bytes of an error that are read.
const LONGEST_ERROR: usize = 64 << 10;

/// What came back.
pub(super) enum Came {
    /// The body is the picture.
    Picture(Bytes),
    /// JSON, with the pictures lifted out of it.
    Json(Lifted),
}

pub(super) async fn submit(provider: &Provider, job: &Job<'_>, watch: &dyn Watch) -> Result<Generated, Fault> {
    watch.progress(Progress::Running { percent: None });
    let mut reply = send(provider, job, None, None).await?;
    let mut answer = Answer::default();
    answer.note_costs(job, &serde_json::Value::Null, Some(reply.headers()));
    match receive(provider, job, &mut reply, &answer).await? {
        Came::Picture(picture) => answer.pictures.push(picture),
        Came::Json(lifted) => {
            answer.read_by_rules(job, &lifted)?;
            if answer.is_empty() {
                check_error(provider, job, &lifted, &answer)?;
            }
        }
    }
    drop(reply);
    conclude(provider, job, answer).await
}

/// Sends the request of a job. `partials` is set if unfinished pictures are to be streamed, and `callback` if the
/// provider may call back.
pub(super) async fn send(
    provider: &Provider,
    job: &Job<'_>,
    partials: Option<u8>,
    callback: Option<&Callback>,
) -> Result<Reply, Fault> {
    let wire = &job.model.wiring.wire;
    let path = if job.request.operation == Operation::Edit { &wire.edit } else { &wire.generate };
    let Some(path) = path else {
        return Err(Fault::new(FaultKind::Rejected, format!("it cannot {}", job.request.operation.name())));
    };
    let mut fields = body::fields(job, partials, callback);
    let query = std::mem::take(&mut fields.query);
    call::submit(provider, job, path, &query, fields.payload(job).await?).await
}

/// Reads an answer that may hold pictures.
///
/// # Errors
/// It is an error, or says in other ways that there is no picture.
pub(super) async fn receive(
    provider: &Provider,
    job: &Job<'_>,
    reply: &mut Reply,
    answer: &Answer,
) -> Result<Came, Fault> {
    if !reply.is_success() {
        return Err(failure(provider, job, reply).await);
    }
    let kind = reply.media_type();
    if kind.starts_with("image/") {
        if let Some(fault) = refused_by_sign(provider, job, reply, &serde_json::Value::Null) {
            return Err(fault);
        }
        return picture(provider, reply).await.map(Came::Picture);
    }
    if kind == "text/html" {
        return Err(answer.unusable(job, "it answered with a page instead of a picture".to_owned()));
    }
    let lifted = lifted(provider, job, reply, Lift::pictures).await?;
    match refused_by_sign(provider, job, reply, &lifted.value) {
        Some(fault) => Err(fault),
        None => Ok(Came::Json(lifted)),
    }
}

/// What an answer means whose status is that of an error.
pub(super) async fn failure(provider: &Provider, job: &Job<'_>, reply: &mut Reply) -> Fault {
    let body = reply.head_of_body(provider, LONGEST_ERROR).await;
    fault::of_status(provider, &job.model.wiring, reply.status(), reply.headers(), &body)
}

/// Reads an answer in one piece. `begin` makes its reader: of the limits, the length of the answer if that is known, and
/// the number of pictures.
pub(super) async fn lifted(
    provider: &Provider,
    job: &Job<'_>,
    reply: &mut Reply,
    begin: impl FnOnce(Limits, Option<usize>, usize) -> Lift,
) -> Result<Lifted, Fault> {
    let pictures = job.n as usize;
    let length = reply.length().or_else(|| provider.typical.length(pictures));
    let mut lift = begin(Limits::default(), length, pictures);
    while let Some(piece) = reply.next(provider).await? {
        lift.feed(&piece).map_err(unreadable)?;
    }
    lift.finish().map_err(unreadable)
}

fn refused_by_sign(provider: &Provider, job: &Job<'_>, reply: &Reply, value: &serde_json::Value) -> Option<Fault> {
    let wiring = &job.model.wiring;
    let (mut fault, is_billed) = fault::of_sign(provider, wiring, reply.status(), reply.headers(), value)?;
    let mut answer = Answer::default();
    answer.note_costs(job, value, Some(reply.headers()));
    if is_billed || answer.billed.is_some_and(|usd| !usd.is_zero()) {
        fault.billed = Some(answer.bill(job));
    }
    Some(fault)
}

/// An answer without a picture may hold an error, although its status is that of a success.
pub(super) fn check_error(provider: &Provider, job: &Job<'_>, lifted: &Lifted, answer: &Answer) -> Result<(), Fault> {
    let value = &lifted.value;
    let is_error = ["error", "errors", "detail"].iter().any(|key| value.get(key).is_some_and(super::pointer::is_true));
    if !is_error {
        return Ok(());
    }
    let mut fault = fault::of_object(provider, &job.model.wiring, value, FaultKind::BadAnswer);
    fault.billed = fault.billed.or(answer.unusable(job, String::new()).billed);
    Err(fault)
}

/// Fetches what came as addresses, and puts everything together.
///
/// # Errors
/// There is no picture, or one cannot be fetched.
pub(super) async fn conclude(provider: &Provider, job: &Job<'_>, mut answer: Answer) -> Result<Generated, Fault> {
    let links = std::mem::take(&mut answer.links);
    for link in &links {
        match download::fetch(provider, link).await {
            Ok(picture) => answer.pictures.push(picture),
            Err(message) => return Err(answer.unusable(job, message)),
        }
    }
    if let Some(largest) = answer.pictures.iter().map(Bytes::len).max() {
        provider.typical.note(largest);
    }
    answer.generated(job)
}

/// The body, which is the picture.
pub(super) async fn picture(provider: &Provider, reply: &mut Reply) -> Result<Bytes, Fault> {
    let too_large = || Fault::new(FaultKind::BadAnswer, "the picture is too large");
    let length = reply.length();
    if length.is_some_and(|length| length > LARGEST_PICTURE) {
        return Err(too_large());
    }
    let mut picture = Vec::with_capacity(length.unwrap_or(256 << 10));
    while let Some(piece) = reply.next(provider).await? {
        if picture.len() + piece.len() > LARGEST_PICTURE {
            return Err(too_large());
        }
        picture.extend_from_slice(&piece);
    }
    Ok(Bytes::from(picture))
}

/// The body of a success cannot be read. Whatever it was, it may have been billed.
pub(super) fn unreadable(error: LiftError) -> Fault {
    let kind = match error {
        LiftError::Truncated | LiftError::NotJson => FaultKind::Unknown,
        LiftError::NotBase64
        | LiftError::PictureTooLarge
        | LiftError::TooManyPictures
        | LiftError::SkeletonTooLarge => FaultKind::BadAnswer,
    };
    Fault::new(kind, error.to_string())
}

#[cfg(test)]
#[path = "exchange_tests.rs"]
mod tests;
