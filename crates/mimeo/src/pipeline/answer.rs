//! ⑨ The end of a request: waiting for the flight to land, and the answer from what came of it.

use std::sync::Arc;

use tokio::sync::{broadcast, mpsc};
use tokio_util::sync::CancellationToken;

use super::notes::Notes;
use super::{Landed, Landing, Laps, Order, Pipeline, called_off};
use crate::domain::{Answer, Delivered, Price, Progress, Source, Stage, Understood, Usage, Usd};
use crate::flight::Join;
use crate::route::trim::tokens_saved;

impl Pipeline {
    /// ⑨ The answer, from the pool and what was made for it; what was not made is noted as saved.
    pub(super) fn answer(&self, order: &Order, source: Source, landed: &Landed, laps: Laps) -> Answer {
        let Landed { pool, made, failed, warnings, findings, .. } = landed;
        let call = &order.call;
        let pictures = order.hand.deal(pool, made);
        let is_new =
            |picture: &Delivered| made.iter().any(|m| m.picture.digest == picture.picture.digest && m.id == picture.id);
        let (new, old): (Vec<Delivered>, Vec<Delivered>) = pictures.iter().cloned().partition(is_new);
        // Nobody asked for what a shadow finds, so that it is there saves nothing.
        let is_shadow = call.leg.is_some_and(|leg| leg.stage == Stage::Shadow);
        let (saved, is_used) = match is_shadow {
            true => (Usd::ZERO, false),
            false => (old.iter().filter_map(|picture| picture.cost.known()).sum(), !old.is_empty()),
        };
        if is_used {
            let layer = if source == Source::Join { Source::Join } else { Source::Hit };
            self.ledger.saved(call, &order.plan.route, layer.name(), &old);
            self.cache.used(order.key, &old);
        }
        // Everything that was made for this request is its cost, also what its hand did not need or was not given out.
        let cost = total(made.iter().chain(failed));
        let usage = pictures.iter().filter_map(|picture| picture.usage).reduce(Usage::plus);
        // A leader whose pictures were there after all, because another flight had just landed.
        let source = if source == Source::Miss && new.is_empty() { Source::Hit } else { source };
        let first = pictures.first();
        let request = order.plan.candidates.first().map(|candidate| &candidate.request);
        let (provider, model) = first.map(|p| (p.provider.clone(), p.model.clone())).unwrap_or_default();
        let prompt_sent = order.plan.prompt_sent(&call.request.prompt, &provider, &model).map(str::to_owned);
        if let Some(sent) = &prompt_sent {
            let saved = tokens_saved(&call.request.prompt, sent);
            order.notes.read(format!("prompt: filler words were taken out, about {saved} tokens"));
        }
        Answer {
            id: call.id,
            created_ms: pictures.iter().map(|picture| picture.created_ms).max().unwrap_or_else(|| self.clock.now()),
            usage,
            source,
            provider,
            model,
            simulated: pictures.iter().any(|picture| picture.simulated),
            cost,
            saved,
            understood: request.map_or_else(Understood::default, |request| Understood {
                size: request.size,
                quality: request.quality.clone(),
                background: request.background.clone(),
                output_format: request.output_format,
            }),
            target: order.plan.target(),
            prompt_sent,
            warnings: order.plan.warnings.iter().chain(warnings).chain(findings).cloned().collect(),
            explain: Vec::new(),
            story: None,
            cascade: None,
            timings: laps.done(),
            pictures,
        }
    }
}

/// Waits for the flight to land, and passes on what can be seen meanwhile. Who calls it off by `stop` still waits if
/// nobody else wants it: its provider says what became of it.
pub(super) async fn wait(
    join: &mut Join<Landing>,
    progress: Option<&mpsc::Sender<Progress>>,
    stop: &CancellationToken,
    notes: &Arc<Notes>,
) -> Option<Landing> {
    let cabin = join.cabin();
    let (mut latest, mut news) = cabin.progress();
    let mut is_called_off = false;
    let outcome = join.outcome();
    tokio::pin!(outcome);
    loop {
        if let (Some(to), Some(latest)) = (progress, latest.take()) {
            // A caller who does not listen any more is no reason to stop.
            let _ = to.send(latest).await;
        }
        tokio::select! {
            biased;
            heard = news.recv(), if progress.is_some() => match heard {
                Ok(heard) => latest = Some(heard),
                Err(broadcast::error::RecvError::Lagged(_)) => {}
                Err(broadcast::error::RecvError::Closed) => return outcome.await,
            },
            landing = &mut outcome => return landing,
            () = stop.cancelled(), if !is_called_off => {
                is_called_off = true;
                if !cabin.call_off() {
                    return Some(Landing { notes: Arc::clone(notes), outcome: Err(Arc::new(called_off())) });
                }
            }
        }
    }
}

/// What pictures cost together.
pub(super) fn total<'a>(pictures: impl IntoIterator<Item = &'a Delivered>) -> Price {
    pictures.into_iter().map(|picture| picture.cost).fold(Price::FREE, Price::plus)
}
