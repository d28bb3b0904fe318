//! Phases ④ to ⑧: candidate after candidate until the pictures are made, or until it would be wrong to
//! try on.

use futures_util::future::join_all;

use super::{Landed, Landing, Laps, Order, Pipeline, Purse};
use crate::attempt::Attempt;
use crate::clock::Millis;
use crate::domain::{AttemptId, Delivered, Fault, FaultKind, Generated, ImageId, Picture, Price, Progress};
use crate::error::{Error, Result};
use crate::failpoint::failpoint;
use crate::flight::Lead;
use crate::media;
use crate::providers::{Job, Model, Provider};
use crate::route::{Candidate, Maker};
use crate::store::{AttemptState, EntryWrite, Finish, NewPicture, Refusal, Settlement, StoredPicture};

/// Whom to ask for what.
#[derive(Clone, Copy)]
struct Account<'a> {
    candidate: &'a Candidate,
    provider: &'a Provider,
    model: &'a Model,
}

impl Pipeline {
    /// Makes `count` pictures, beside those of `pool`. Returns them with what was tried.
    pub(super) async fn make(
        &self,
        order: &Order,
        count: u32,
        lead: &Lead<Landing>,
        pool: Vec<Delivered>,
    ) -> Result<Landed> {
        let mut made = Vec::new();
        let mut laps = Laps::new();
        let mut trail = Vec::new();
        let mut purse = Purse::new(order.call.max_spend);
        let mut last = None;
        // ④
        for candidate in &order.plan.candidates {
            let missing = count - made.len() as u32;
            let (pictures, fault) = match &candidate.maker {
                Maker::Template => (self.render(order, candidate).await?, None),
                Maker::Provider(provider, model) => {
                    let source = Account { candidate, provider, model };
                    self.ask(order, source, missing, &mut purse, lead, &mut laps).await?
                }
            };
            made.extend(pictures);
            let Some((fault, error)) = fault else {
                trail.push(format!("{}: made {missing}", candidate.name));
                return Ok(Landed { pool, made, trail, laps: laps.done() });
            };
            trail.push(format!("{}: {fault}", candidate.name));
            let may_go_on =
                fault.kind.may_fail_over() || (fault.kind == FaultKind::Refused && order.plan.failover_on_refusal);
            last = Some(error);
            if !may_go_on {
                break;
            }
        }
        Err(last.unwrap_or_else(|| Error::internal("route", "a plan without candidates")))
    }

    /// Asks one candidate for `missing` pictures, in as few calls as it allows, all at once. Returns
    /// what came and the fault that matters most, if any call failed.
    async fn ask(
        &self,
        order: &Order,
        account: Account<'_>,
        missing: u32,
        purse: &mut Purse,
        lead: &Lead<Landing>,
        laps: &mut Laps,
    ) -> Result<(Vec<Delivered>, Option<(Fault, Error)>)> {
        let batches = batches(missing, account.model.max_n);
        let mut calls = Vec::with_capacity(batches.len());
        for n in batches {
            let price = account.model.expected(&account.candidate.request, n, order.partials());
            purse.take(price)?; // the request's own limit, before any budget
            calls.push((n, price));
        }
        let results = match calls.as_slice() {
            // By far the most common case needs no tasks.
            [(n, price)] => vec![(*price, self.call(order, account, *n, *price, lead).await)],
            _ => {
                let calls = calls
                    .iter()
                    .map(|(n, price)| async { (*price, self.call(order, account, *n, *price, lead).await) });
                join_all(calls).await
            }
        };
        let mut made = Vec::new();
        let mut worst: Option<(Fault, Error)> = None;
        for (price, (result, took)) in results {
            if took.total() > laps.total() {
                *laps = took;
            }
            match result? {
                Ok(pictures) => made.extend(pictures),
                Err((fault, error)) => {
                    if !fault.kind.may_have_billed() {
                        purse.put_back(price);
                    }
                    // The one that forbids going on matters most.
                    if worst.as_ref().is_none_or(|(known, _)| known.kind.may_fail_over() && !fault.kind.may_fail_over())
                    {
                        worst = Some((fault, error));
                    }
                }
            }
        }
        // Whoever asks again gets them in the order in which they were written down.
        if calls.len() > 1
            && order.stores()
            && let Ok(stored) = self.store.lookup(order.key, self.clock.now(), None).await
        {
            let stored = stored.pictures;
            made.sort_by_key(|delivered| {
                stored.iter().position(|row| Some(row.id) == delivered.id).unwrap_or(usize::MAX)
            });
        }
        Ok((made, worst))
    }

    /// One paid call from its reservation to its settlement.
    async fn call(
        &self,
        order: &Order,
        account: Account<'_>,
        n: u32,
        expected: Price,
        lead: &Lead<Landing>,
    ) -> (Result<Result<Vec<Delivered>, (Fault, Error)>>, Laps) {
        let mut laps = Laps::new();
        let outcome = self.one_call(order, account, n, expected, lead, &mut laps).await;
        (outcome, laps)
    }

    async fn one_call(
        &self,
        order: &Order,
        account: Account<'_>,
        n: u32,
        expected: Price,
        lead: &Lead<Landing>,
        laps: &mut Laps,
    ) -> Result<Result<Vec<Delivered>, (Fault, Error)>> {
        let tell = |progress: Progress| lead.tell(progress);
        let Account { candidate, provider, model } = account;
        let job = Job {
            model,
            request: &candidate.request,
            n,
            attempt: AttemptId::at(self.clock.now()),
            user: order.call.user.as_deref(),
            partials: order.call.stream,
        };
        let attempt = self.attempts.make(&order.call, provider, &job, expected, &tell).await?; //     ⑤ ⑥
        let mut attempt = match attempt {
            Ok(attempt) => attempt,
            // Turned away before anything was written: the next candidate may have room.
            Err(full) => {
                let error = Error::from_fault(&full, &provider.name, job.attempt);
                return Ok(Err((full, error)));
            }
        };
        laps.put("reserve", attempt.reserving);
        laps.put("provider", attempt.calling);
        let outcome = std::mem::replace(&mut attempt.result, Err(Fault::new(FaultKind::Unknown, "taken")));
        let fault = match outcome {
            Ok(generated) => {
                let billed = model.billed(&candidate.request, n, order.partials(), &generated);
                let admitted = admit(&generated).await; //                                     ⑦
                laps.lap("admit");
                failpoint!("attempt::after_admit");
                match admitted {
                    Ok(pictures) => {
                        let made = self.keep(order, account, &attempt, pictures, &generated, billed).await; // ⑧
                        laps.lap("store");
                        return Ok(Ok(made));
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
        self.close(order, &attempt, &fault).await?;
        tracing::warn!(request = %order.call.id, attempt = %attempt.id, provider = provider.name,
                       model = model.id, %fault, "an attempt failed");
        Ok(Err((fault, error)))
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
        let mut made: Vec<Delivered> = pictures
            .into_iter()
            .enumerate()
            .map(|(index, picture)| Delivered {
                id: order.stores().then(ImageId::random),
                picture,
                cost: match billed {
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
        self.put_blobs(&mut made).await;
        failpoint!("store::after_blob");
        let mut finish = attempt.end(AttemptState::Done, Settlement::Settle(billed), &self.clock);
        finish.pictures = made.iter().filter_map(|d| row(order, d, Some(attempt))).collect();
        finish.entry = order.entry(account.candidate, now, self.lifetimes.pictures);
        failpoint!("store::before_settle");
        if let Err(error) = self.attempts.finish(finish).await {
            tracing::error!(%error, attempt = %attempt.id, "a paid picture could not be written down; it is delivered, \
                            and its attempt stays open");
            made.iter_mut().for_each(|delivered| delivered.id = None);
        }
        failpoint!("store::after_settle");
        made.iter().for_each(|delivered| self.cache.remember(delivered));
        made
    }

    /// Writes the bytes of the pictures that are to be stored; those that could not be are delivered only.
    pub(super) async fn put_blobs(&self, made: &mut [Delivered]) {
        for delivered in made.iter_mut().filter(|delivered| delivered.id.is_some()) {
            let picture = &delivered.picture;
            if let Err(error) = self.store.blobs.put(picture.digest, picture.bytes.clone()).await {
                tracing::error!(%error, "a picture could not be stored; it is delivered all the same. Is the disk full?");
                delivered.id = None;
            }
        }
    }

    /// The end of an attempt that failed.
    async fn close(&self, order: &Order, attempt: &Attempt, fault: &Fault) -> Result<()> {
        let (state, settlement) = match (fault.kind, fault.billed) {
            (FaultKind::Refused, None) => (AttemptState::Refused, Settlement::Release),
            (FaultKind::Refused, Some(billed)) => (AttemptState::Refused, Settlement::Settle(billed)),
            (_, Some(billed)) => (AttemptState::Done, Settlement::Settle(billed)),
            (kind, None) if kind.may_have_billed() => (AttemptState::Unknown, Settlement::Suspend),
            _ => (AttemptState::Failed, Settlement::Release),
        };
        let mut finish = Finish { fault: Some(fault.to_string()), ..attempt.end(state, settlement, &self.clock) };
        let keep = self.lifetimes.refusals;
        if fault.kind == FaultKind::Refused && !keep.is_zero() && order.stores() && !order.plan.failover_on_refusal {
            let expires_ms = self.clock.now().saturating_add(Millis::try_from(keep.as_millis()).unwrap_or(Millis::MAX));
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
        self.attempts.finish(finish).await
    }
}

impl Order {
    /// Unfinished pictures that are streamed per picture.
    fn partials(&self) -> u8 {
        self.call.stream.unwrap_or(0)
    }

    /// How what is made is to answer the key.
    pub(super) fn entry(
        &self,
        candidate: &Candidate,
        now: Millis,
        lifetime: Option<std::time::Duration>,
    ) -> Option<EntryWrite> {
        let lifetime = match (self.call.cache.ttl, self.plan.cache.ttl_s) {
            (Some(ttl), _) => Some(ttl),
            (None, Some(0)) => None,
            (None, Some(seconds)) => Some(std::time::Duration::from_secs(seconds)),
            (None, None) => lifetime,
        };
        self.stores().then(|| EntryWrite {
            key: self.key,
            label: format!("{} {}", candidate.request.operation.name(), candidate.name),
            replace: (!self.reads_cache()).then_some(self.call.id),
            expires_ms: lifetime.map(|l| now.saturating_add(Millis::try_from(l.as_millis()).unwrap_or(Millis::MAX))),
        })
    }
}

/// The row of a picture that is to be stored.
pub(super) fn row(order: &Order, delivered: &Delivered, attempt: Option<&Attempt>) -> Option<NewPicture> {
    let Delivered { id, picture, cost, usage, revised_prompt, provider, model, simulated, created_ms } = delivered;
    Some(NewPicture {
        row: StoredPicture {
            id: (*id)?,
            blob: picture.digest,
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
    })
}

/// Bytes from which on pictures are examined on a thread that may block: about two milliseconds of work.
const LARGE: usize = 8 << 20;

/// ⑦ Are these bytes pictures? All of them must be.
async fn admit(generated: &Generated) -> Result<Vec<Picture>, Fault> {
    let pictures = generated.pictures.clone();
    if pictures.is_empty() {
        return Err(Fault::new(FaultKind::BadAnswer, "it holds no picture"));
    }
    let is_large = pictures.iter().map(bytes::Bytes::len).sum::<usize>() >= LARGE;
    let examine = move || pictures.into_iter().map(media::examine).collect::<Result<Vec<_>, _>>();
    let examined = if is_large {
        let unexamined = |lost: tokio::task::JoinError| Fault::new(FaultKind::BadAnswer, lost.to_string());
        tokio::task::spawn_blocking(examine).await.map_err(unexamined)?
    } else {
        examine()
    };
    examined.map_err(|bad| Fault::new(FaultKind::BadAnswer, bad.to_string()))
}

/// `count` split into calls of at most `max`.
fn batches(count: u32, max: u32) -> Vec<u32> {
    let max = max.max(1);
    let mut sizes = vec![max; (count / max) as usize];
    if !count.is_multiple_of(max) {
        sizes.push(count % max);
    }
    sizes
}
