//! The shape of the OpenAI Images API, as its inventor and many others serve it.

use super::answer::Answer;
use super::call::Reply;
use super::exchange::{self, unreadable};
use super::fault;
use super::lift::{Lift, Limits};
use super::provider::{Job, Provider};
use super::sse::{Sse, Token};
use super::watch::Watch;
use super::wiring::Field;
use crate::domain::{Fault, FaultKind, Generated, Progress};

/// Where pictures are, in answers and in events.
const PICTURES: &[&str] = &["b64_json"];

pub(super) async fn submit(provider: &Provider, job: &Job<'_>, watch: &dyn Watch) -> Result<Generated, Fault> {
    // Who streams from a model that shows unfinished pictures expects nothing else.
    if job.model.partial_images == 0 {
        watch.progress(Progress::Running { percent: None });
    }
    let mut reply = exchange::send(provider, job, partials(job), None).await?;
    if !reply.is_success() {
        return Err(exchange::failure(provider, job, &mut reply).await);
    }
    let mut answer = match reply.media_type().as_str() {
        "text/event-stream" => stream(provider, job, &mut reply, watch).await?,
        "text/html" => return Err(Fault::new(FaultKind::BadAnswer, "it answered with a page instead of a picture")),
        _ => whole(provider, job, &mut reply).await?,
    };
    answer.note_costs(job, &serde_json::Value::Null, Some(reply.headers()));
    drop(reply);
    exchange::conclude(provider, job, answer).await
}

/// How many unfinished pictures to stream, if any can be.
fn partials(job: &Job<'_>) -> Option<u8> {
    let wiring = &job.model.wiring;
    let named = |field| wiring.place(field).is_some();
    let can = wiring.wire.streaming && named(Field::Stream) && named(Field::PartialImages);
    job.partials.map(|partials| partials.min(job.model.partial_images)).filter(|partials| can && *partials > 0)
}

/// An answer in one piece.
async fn whole(provider: &Provider, job: &Job<'_>, reply: &mut Reply) -> Result<Answer, Fault> {
    let begin = |limits, length, pictures| Lift::new(PICTURES, limits, length, pictures);
    let lifted = exchange::lifted(provider, job, reply, begin).await?;
    let mut answer = Answer::default();
    answer.read(provider, job, &lifted)?;
    Ok(answer)
}

/// An answer in events: unfinished pictures, then the finished ones.
async fn stream(provider: &Provider, job: &Job<'_>, reply: &mut Reply, watch: &dyn Watch) -> Result<Answer, Fault> {
    let mut sse = Sse::default();
    let mut events = Events { provider, job, watch, lift: None, answer: Answer::default() };
    let broke = loop {
        match reply.next(provider).await {
            Ok(Some(piece)) => sse.feed(&piece, &mut |token| events.take(token))?,
            Ok(None) => break None,
            Err(fault) => break Some(fault),
        }
    };
    match broke {
        None => sse.finish(&mut |token| events.take(token))?,
        // Pictures that came are paid for: they are worth more than the knowledge that more should have come.
        Some(fault) if events.answer.pictures.is_empty() => return Err(fault),
        Some(_) => {}
    }
    let mut answer = events.answer;
    if answer.pictures.is_empty() {
        return Err(Fault::new(FaultKind::Unknown, "the stream ended without a picture"));
    }
    if answer.pictures.len() < job.n as usize {
        // The tokens of what is missing are not in the usage either: let the reservation stand.
        answer.usage = None;
    }
    Ok(answer)
}

/// Takes the events of a stream one by one.
struct Events<'a> {
    provider: &'a Provider,
    job: &'a Job<'a>,
    watch: &'a dyn Watch,
    lift: Option<Lift>,
    answer: Answer,
}

impl Events<'_> {
    fn take(&mut self, token: Token<'_>) -> Result<(), Fault> {
        match token {
            Token::Data(bytes) => {
                let typical = &self.provider.typical;
                let lift =
                    self.lift.get_or_insert_with(|| Lift::new(PICTURES, Limits::default(), typical.length(1), 1));
                lift.feed(bytes).map_err(unreadable)
            }
            Token::End(name) => match self.lift.take() {
                Some(lift) if lift.skeleton().trim_ascii() != b"[DONE]" => self.event(name, lift),
                _ => Ok(()),
            },
        }
    }

    fn event(&mut self, name: &str, lift: Lift) -> Result<(), Fault> {
        let lifted = lift.finish().map_err(unreadable)?;
        let kind = lifted.value.get("type").and_then(serde_json::Value::as_str).unwrap_or(name);
        if kind == "error" || lifted.value.get("error").is_some_and(|error| !error.is_null()) {
            // The call had been accepted, and unfinished pictures may be billed: without a code that settles it,
            // nobody knows.
            return Err(fault::of_object(self.provider, &self.job.model.wiring, &lifted.value, FaultKind::Unknown));
        }
        let picture = lifted.value.get("b64_json").and_then(|value| lifted.picture(value)).transpose();
        if kind.ends_with(".partial_image") {
            // One that cannot be read is no loss.
            if let Ok(Some(bytes)) = picture {
                self.provider.typical.note(bytes.len());
                let index = lifted.value.get("partial_image_index").and_then(serde_json::Value::as_u64);
                let index = index.and_then(|index| u32::try_from(index).ok()).unwrap_or(0);
                self.watch.progress(Progress::Partial { bytes, index });
            }
        } else if kind.ends_with(".completed") {
            self.answer.add_usage(self.job, &lifted.value);
            match picture {
                Ok(Some(bytes)) => self.answer.pictures.push(bytes),
                Ok(None) => {}
                Err(error) => return Err(self.answer.unusable(self.job, error.to_string())),
            }
        }
        Ok(())
    }
}

#[cfg(test)]
#[path = "openai_tests.rs"]
mod tests;
