//! Phases ⑦ and ⑧ of a paid call that has ended: its pictures are looked at and written down with its bill, or that it
//! failed is.

use std::time::Duration;

use super::admit::admit;
use super::make::{Account, Called};
use super::{Laps, Order, Pipeline};
use crate::attempt::{Attempt, Ended};
use crate::clock::{Millis, millis};
use crate::domain::{Delivered, Fault, FaultKind, Generated, ImageId, Picture, Price};
use crate::error::{Error, Result};
use crate::failpoint::failpoint;
use crate::prices::SettledCall;
use crate::route::Candidate;
use crate::store::{AttemptState, BlobName, EntryWrite, Finish, NewPicture, Refusal, Settlement, StoredPicture};

impl Pipeline {
    /// ⑦ ⑧ of a call that was made.
    pub(super) async fn conclude(
        &self,
        order: &Order,
        account: Account<'_>,
        n: u32,
        mut attempt: Attempt,
        laps: &mut Laps,
    ) -> Result<Called> {
        let Account { candidate, provider, model, .. } = account;
        let outcome = std::mem::replace(&mut attempt.result, Err(Fault::new(FaultKind::Unknown, "taken")));
        let fault = match outcome {
            Ok(generated) => {
                let request = &candidate.request;
                let billed = self.prices.billed(provider, model, request, (n, order.partials()), &generated);
                let admitted = admit(&generated).await; //                                     ⑦
                laps.lap("admit");
                failpoint!("attempt::after_admit");
                match admitted {
                    Ok(pictures) => {
                        let (bound, generated) = (attempt.expected, &generated);
                        let on_credit = attempt.subject.credit.is_some();
                        let settled = SettledCall { provider, model, request, n, bound, billed, on_credit, generated };
                        self.prices.settled(settled);
                        // Side by side: a look takes no longer than a disk, and what is paid is safe whatever is seen.
                        let looking = self.findings(order, account, pictures.clone());
                        let keeping = self.keep(order, account, &attempt, pictures, generated, billed); // ⑧
                        let (findings, kept) = tokio::join!(looking, keeping);
                        let seen = self.sort(order, account, kept, findings).await;
                        self.have_judged(order, account, &seen.good);
                        laps.lap("store");
                        return Ok(Called::Pictures(seen));
                    }
                    Err(mut fault) => {
                        // Tokens or a cost in the answer are a bill, whatever the pictures are.
                        if generated.usage.is_some() || generated.billed.is_some() {
                            fault.billed = Some(billed);
                        }
                        fault
                    }
                }
            }
            Err(fault) => fault,
        };
        let error = Error::from_fault(&fault, &provider.name, attempt.id);
        self.close(order, &attempt, &fault).await;
        tracing::warn!(request = %order.call.id, attempt = %attempt.id, provider = provider.name,
                       model = model.id, %fault, "an attempt failed");
        Ok(Called::Fault(fault, error))
    }

    /// ⑧ The pictures, their entry and the settlement. What cannot be stored is delivered all the same:
    /// it is paid.
    async fn keep(
        &self,
        order: &Order,
        account: Account<'_>,
        attempt: &Attempt,
        pictures: Vec<Picture>,
        generated: &Generated,
        billed: Price,
    ) -> Vec<Delivered> {
        let now = self.clock.now();
        let parts = pictures.len();
        // What credits pay for costs nothing, and its next copy saves nothing.
        let cost = if attempt.subject.credit.is_some() { Price::FREE } else { billed };
        let mut made: Vec<Delivered> = pictures
            .into_iter()
            .enumerate()
            .map(|(index, picture)| Delivered {
                id: order.stores().then(ImageId::random),
                picture,
                cost: match cost {
                    Price::Known(usd) => Price::Known(usd.share(index, parts)),
                    Price::Unknown => Price::Unknown,
                },
                usage: generated.usage.map(|usage| usage.share(index, parts)),
                revised_prompt: generated.revised_prompt.clone(),
                provider: account.provider.name.clone(),
                model: account.model.id.clone(),
                simulated: account.provider.record.simulated,
                created_ms: now,
            })
            .collect();
        let named: Vec<(BlobName, &Delivered)> = made
            .iter()
            .filter(|delivered| delivered.id.is_some())
            .map(|delivered| (BlobName::fresh(delivered.picture.digest), delivered))
            .collect();
        let mut finish = attempt.end(AttemptState::Done, Settlement::Settle(billed), &self.clock);
        finish.pictures =
            named.iter().filter_map(|(name, d)| row(order, account.candidate, d, *name, Some(attempt))).collect();
        finish.entry = order.entry(account.candidate, now, self.lifetimes.pictures);
        let blobs = named.into_iter().map(|(name, delivered)| (name, delivered.picture.bytes.clone())).collect();
        failpoint!("store::before_blob");
        let is_stored = match self.attempts.finish(finish, blobs).await {
            Ok(Ended::Stored) => true,
            Ok(Ended::Settled) => false,
            Ok(Ended::GivenUp) => {
                let bill = billed.known().map_or_else(|| "an unknown amount".to_owned(), |usd| format!("${usd}"));
                tracing::error!(attempt = %attempt.id, bill, "this process was given up while the provider made a \
                                picture; it is delivered, and its bill is in suspense");
                let note = format!("it was made, and billed {bill}, after its process was given up");
                self.attempts.note_late(attempt.id, note).await;
                false
            }
            Err(error) => {
                tracing::error!(%error, attempt = %attempt.id, "a paid picture is not written down yet; it is delivered");
                false
            }
        };
        if !is_stored {
            made.iter_mut().for_each(|delivered| delivered.id = None);
        }
        self.cache.remember(order.key, &made);
        made
    }

    /// The end of an attempt that failed.
    async fn close(&self, order: &Order, attempt: &Attempt, fault: &Fault) {
        let (state, settlement) = match (fault.kind, fault.billed) {
            (FaultKind::Refused, None) => (AttemptState::Refused, Settlement::Release),
            (FaultKind::Refused, Some(billed)) => (AttemptState::Refused, Settlement::Settle(billed)),
            (_, Some(billed)) => (AttemptState::Done, Settlement::Settle(billed)),
            (kind, None) if kind.may_have_billed() => (AttemptState::Unknown, Settlement::Suspend),
            _ => (AttemptState::Failed, Settlement::Release),
        };
        let mut finish = Finish { fault: Some(fault.to_string()), ..attempt.end(state, settlement, &self.clock) };
        let keep = self.lifetimes.refusals;
        if fault.kind == FaultKind::Refused
            && !keep.is_zero()
            && order.stores()
            && !order.plan.settings.failover_on_refusal
        {
            let expires_ms = self.clock.now().saturating_add(millis(keep));
            finish.refusal = Some((
                order.key,
                Refusal {
                    provider: attempt.subject.provider.clone(),
                    code: fault.code.clone(),
                    message: fault.message.clone(),
                    expires_ms,
                },
            ));
        }
        match self.attempts.finish(finish, Vec::new()).await {
            Ok(Ended::Stored | Ended::Settled) => {}
            Ok(Ended::GivenUp) => {
                let note = format!("it ended with {fault}, after its process was given up");
                self.attempts.note_late(attempt.id, note).await;
            }
            Err(error) => {
                tracing::error!(%error, attempt = %attempt.id, "the end of an attempt is not written down yet");
            }
        }
    }
}

impl Order {
    /// How what is made is to answer the key.
    pub(super) fn entry(&self, candidate: &Candidate, now: Millis, lifetime: Option<Duration>) -> Option<EntryWrite> {
        let lifetime = match (self.call.cache.ttl, self.plan.settings.cache.ttl_s) {
            (Some(ttl), _) => Some(ttl),
            (None, Some(0)) => None,
            (None, Some(seconds)) => Some(Duration::from_secs(seconds)),
            (None, None) => lifetime,
        };
        self.stores().then(|| EntryWrite {
            key: self.key,
            label: format!("{} {}", candidate.request.operation.name(), candidate.name),
            replace: (!self.reads_cache()).then_some(self.call.id),
            route: self.plan.route.clone(),
            tags: self.call.cache.tags.clone(),
            expires_ms: lifetime.map(|lifetime| now.saturating_add(millis(lifetime))),
        })
    }
}

/// The row of a picture that is to be stored.
pub(super) fn row(
    order: &Order,
    candidate: &Candidate,
    delivered: &Delivered,
    name: BlobName,
    attempt: Option<&Attempt>,
) -> Option<NewPicture> {
    let Delivered { id, picture, cost, usage, revised_prompt, provider, model, simulated, created_ms } = delivered;
    Some(NewPicture {
        row: StoredPicture {
            id: (*id)?,
            blob: picture.digest,
            name,
            format: picture.format,
            width: picture.width,
            height: picture.height,
            provider: provider.clone(),
            model: model.clone(),
            simulated: *simulated,
            cost: *cost,
            usage: *usage,
            revised_prompt: revised_prompt.clone(),
            created_ms: *created_ms,
        },
        bytes: picture.bytes.len() as u64,
        tenant: order.call.caller.tenant.clone(),
        attempt: attempt.map(|attempt| attempt.id),
        candidate: Some(candidate.known_as()),
        category: order.plan.sense.category.clone(),
    })
}
