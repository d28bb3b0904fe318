//! Phases ④ to ⑧: candidate after candidate until the pictures are made, or until it would be wrong to
//! try on.

use futures_util::future::join_all;
use tokio::time::Instant;

use super::admit::{admit, batches};
use super::again::Askable;
use super::inspect::{Seen, rejected};
use super::papers::Papers;
use super::purse::Purse;
use super::rank::known_as;
use super::resume::still_made;
use super::{Landed, Landing, Laps, Making, Order, Pipeline, total};
use crate::alerts::{Alert, AlertKind};
use crate::attempt::{Attempt, Ended, Errand, Made, Surroundings};
use crate::cache::Pool;
use crate::clock::Millis;
use crate::config::OnFail;
use crate::domain::{AttemptId, Delivered, Fault, FaultKind, Generated, ImageId, Picture, Price, Progress};
use crate::error::{Error, Kind, Result};
use crate::failpoint::failpoint;
use crate::flight::Lead;
use crate::prices::SettledCall;
use crate::providers::{Job, Model, Provider};
use crate::route::{Candidate, Maker};
use crate::store::{AttemptState, BlobName, EntryWrite, Finish, NewPicture, Refusal, Settlement, StoredPicture};

/// Whom to ask for what.
#[derive(Clone, Copy)]
pub(super) struct Account<'a> {
    pub(super) candidate: &'a Candidate,
    pub(super) provider: &'a Provider,
    pub(super) model: &'a Model,
    /// The candidates after it.
    pub(super) after: &'a [Askable<'a>],
    /// Since when these pictures are being made.
    pub(super) begun: Instant,
    /// The pot of credits that pays; `None` is money.
    pub(super) pot: Option<&'a str>,
}

/// How one paid call ended.
pub(super) enum Called {
    /// With pictures.
    Pictures(Seen),
    /// With a fault, and what the caller is told of it.
    Fault(Fault, Error),
    /// It was not made, because another process is making, or has made, the same picture.
    Needless(Making),
    /// It was not made, because the provider's account is spent, or not for this caller.
    AccountSpent(Error),
}

/// What came of asking one candidate.
#[derive(Default)]
struct Asked {
    pictures: Vec<Delivered>,
    /// Those that failed a check, and are not wanted.
    failed: Vec<Delivered>,
    /// What was found in all of them.
    findings: Vec<String>,
    /// The fault that matters most, if any call failed: whether others may be tried, and what is said.
    fault: Option<(bool, Error)>,
    needless: Option<Making>,
}

/// What a generation has come to so far.
struct Progressing<'a> {
    lead: &'a Lead<Landing>,
    purse: Purse,
    laps: Laps,
    warnings: Vec<String>,
    /// Pictures that were paid for and failed a check, and what was found.
    failed: Vec<Delivered>,
    findings: Vec<String>,
    /// The last entry of the key that was seen when it was looked up.
    seen: i64,
}

impl Pipeline {
    /// Makes `count` pictures, beside those of `pool`.
    pub(super) async fn make(&self, order: &Order, count: u32, lead: &Lead<Landing>, pool: Pool) -> Result<Making> {
        let mut made = Vec::new();
        let begun = Instant::now();
        let ranked = self.rank(order, count)?;
        let askable = self.askable(order, ranked);
        let turns = self.turns(order, &askable, count).await?;
        let purse = Purse::new(order.call.max_spend);
        let mut so_far = Progressing {
            lead,
            purse,
            laps: Laps::new(),
            warnings: Vec::new(),
            failed: Vec::new(),
            findings: Vec::new(),
            seen: pool.last,
        };
        let (mut last, mut failed) = (None, Vec::new());
        // ④
        for turn in &turns {
            let Some((candidate, _)) = askable.get(turn.place).filter(|_| !failed.contains(&turn.place)) else {
                continue;
            };
            let missing = count - made.len() as u32;
            let asked = match &candidate.maker {
                Maker::Template => {
                    let pictures = self.render(order, candidate).await?;
                    order.notes.rendered(&candidate.name, begun, &pictures);
                    Asked { pictures, ..Asked::default() }
                }
                Maker::Provider(provider, model) => {
                    let after = askable.get(turn.place + 1..).unwrap_or_default();
                    let model = self.prices.priced(provider, model);
                    let pot = turn.pot.as_deref();
                    let source = Account { candidate, provider, model: &model, after, begun, pot };
                    if let Some(why) = self.rests(source, missing) {
                        order.notes.rests(&candidate.name, "throttled", why);
                        continue;
                    }
                    match self.ask(order, source, missing, &mut so_far).await {
                        // What there is, with its faults, is better than nothing.
                        Err(_) if !so_far.failed.is_empty() => break,
                        asked => asked?,
                    }
                }
            };
            made.extend(asked.pictures);
            so_far.findings.extend(asked.findings);
            let is_to_be_made_again = !asked.failed.is_empty() && order.plan.settings.quality.on_fail == OnFail::Next;
            so_far.failed.extend(asked.failed);
            match asked.needless {
                Some(needless) if so_far.failed.is_empty() => return Ok(needless),
                Some(_) => break,
                None => {}
            }
            let Some((may_go_on, error)) = asked.fault else {
                if is_to_be_made_again {
                    continue;
                }
                return so_far.land(order, count, pool, made);
            };
            // Whom credits could not buy a picture from, because it is down, money cannot either.
            if turn.pot.is_some() && error.kind != Kind::OverBudget {
                failed.push(turn.place);
            }
            last = Some(error);
            if !may_go_on {
                break;
            }
        }
        if !so_far.failed.is_empty() {
            return so_far.land(order, count, pool, made);
        }
        Err(last.unwrap_or_else(|| Error::internal("route", "a plan without candidates")))
    }

    /// Asks one candidate for `missing` pictures, in the calls that cost least, all at once.
    async fn ask(
        &self,
        order: &Order,
        account: Account<'_>,
        missing: u32,
        so_far: &mut Progressing<'_>,
    ) -> Result<Asked> {
        let Account { candidate, provider, model, .. } = account;
        let price = |n| self.prices.expected(provider, model, &candidate.request, n, order.partials());
        let batches = batches(missing, account.model.max_n, price);
        let mut calls = Vec::with_capacity(batches.len());
        for n in batches {
            let price = price(n);
            // The request's own limit, before any budget. What credits pay for takes nothing from it.
            so_far.purse.take(account.in_money(price))?;
            calls.push((n, price));
        }
        let (lead, seen) = (so_far.lead, so_far.seen);
        let results = match calls.as_slice() {
            // By far the most common case needs no tasks.
            [(n, price)] => vec![(*price, self.insist(order, account, *n, *price, lead, seen).await)],
            _ => {
                let calls = calls
                    .iter()
                    .map(|(n, price)| async { (*price, self.insist(order, account, *n, *price, lead, seen).await) });
                join_all(calls).await
            }
        };
        let mut asked = Asked::default();
        for (price, (result, took, warnings)) in results {
            let price = account.in_money(price);
            if took.total() > so_far.laps.total() {
                so_far.laps = took;
            }
            for warning in warnings {
                if !so_far.warnings.contains(&warning) {
                    so_far.warnings.push(warning);
                }
            }
            let fault = match result? {
                Called::Pictures(seen) => {
                    so_far.purse.settle(price, total(seen.good.iter().chain(&seen.failed)));
                    asked.pictures.extend(seen.good);
                    asked.failed.extend(seen.failed);
                    asked.findings.extend(seen.findings);
                    continue;
                }
                Called::Needless(making) => {
                    so_far.purse.put_back(price);
                    asked.needless = Some(making);
                    continue;
                }
                Called::AccountSpent(error) => {
                    so_far.purse.put_back(price);
                    (true, error)
                }
                Called::Fault(fault, error) => {
                    match fault.billed {
                        Some(billed) => so_far.purse.settle(price, account.in_money(billed)),
                        None if fault.kind.may_have_billed() => {}
                        None => so_far.purse.put_back(price),
                    }
                    let may_go_on = fault.kind.may_fail_over()
                        || (fault.kind == FaultKind::Refused && order.plan.settings.failover_on_refusal);
                    (may_go_on, error)
                }
            };
            // The one that forbids going on matters most.
            if asked.fault.as_ref().is_none_or(|(known_may_go_on, _)| *known_may_go_on && !fault.0) {
                asked.fault = Some(fault);
            }
        }
        // Whoever asks again gets them in the order in which they were written down.
        if calls.len() > 1
            && order.stores()
            && let Ok(stored) = self.store.lookup(order.key, self.clock.now(), None).await
        {
            let stored = stored.pictures;
            asked.pictures.sort_by_key(|delivered| {
                stored.iter().position(|row| Some(row.id) == delivered.id).unwrap_or(usize::MAX)
            });
        }
        Ok(asked)
    }

    /// One paid call from its reservation to its settlement.
    pub(super) async fn call(
        &self,
        order: &Order,
        account: Account<'_>,
        n: u32,
        expected: Price,
        lead: &Lead<Landing>,
        seen: i64,
    ) -> (Result<Called>, Laps, Vec<String>) {
        let (mut laps, mut warnings) = (Laps::new(), Vec::new());
        let begun = Instant::now();
        let tell = |progress: Progress| lead.tell(progress);
        let Account { candidate, provider, model, .. } = account;
        let job = Job {
            model,
            request: &candidate.request,
            n,
            attempt: AttemptId::at(self.clock.now()),
            user: order.call.user.as_deref(),
            partials: order.call.stream,
        };
        let errand = Errand {
            call: &order.call,
            route: &order.plan.route,
            pot: account.pot,
            key: order.key,
            joinable: order.is_joinable(),
            seen: order.is_joinable().then_some(seen),
            retry_unknown: order.plan.retry_unknown,
            time_left: account.time_left(order),
        };
        let papers = || Papers::of(order, candidate).to_json();
        let around = Surroundings { tell: &tell, papers: &papers, stop: lead.stop() };
        let made = self.attempts.make(errand, provider, &job, expected, around).await; //         ⑤ ⑥
        let sent = if let Ok(Made::Attempt(attempt)) = &made { Some(attempt.id) } else { None };
        let outcome = match made {
            // Dropped here, it is asked for in the background.
            Ok(Made::Attempt(attempt)) if attempt.is_still_made() => Err(still_made(order, provider, &attempt)),
            Ok(Made::Attempt(attempt)) => {
                laps.put("reserve", attempt.reserving);
                laps.put("provider", attempt.calling);
                warnings.clone_from(&attempt.warnings);
                self.conclude(order, account, n, *attempt, &mut laps).await
            }
            Ok(Made::UnderWay) => Ok(Called::Needless(Making::UnderWay)),
            Ok(Made::Landed) => Ok(Called::Needless(Making::Landed)),
            Ok(Made::Barred(error)) => Ok(Called::AccountSpent(error)),
            Ok(Made::AccountSpent(error)) => {
                let (subject, message) = (provider.name.clone(), error.message.clone());
                self.alerts.raise(Alert { kind: AlertKind::AccountSpent, subject, message, at: self.clock.now() });
                Ok(Called::AccountSpent(error))
            }
            // Before anything was written: the next candidate may have room.
            Ok(Made::TurnedAway(full)) => {
                let error = Error::from_fault(&full, &provider.name, job.attempt);
                Ok(Called::Fault(full, error))
            }
            Err(error) => Err(error),
        };
        order.notes.called(&candidate.name, begun, sent, expected, &outcome);
        (outcome, laps, warnings)
    }

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
        self.learn(order, account, attempt.calling, &outcome);
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
                        self.prices.settled(SettledCall { provider, model, request, n, bound, billed, generated });
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

impl Account<'_> {
    /// What of a price is to be paid in money: nothing, if credits pay.
    fn in_money(&self, price: Price) -> Price {
        if self.pot.is_some() { Price::FREE } else { price }
    }
}

impl Progressing<'_> {
    /// What a generation came to, for `count` pictures that were lacking.
    fn land(mut self, order: &Order, count: u32, pool: Pool, mut made: Vec<Delivered>) -> Result<Making> {
        if order.plan.settings.quality.on_fail == OnFail::Next {
            let lacking = (count as usize).saturating_sub(made.len()).min(self.failed.len());
            made.extend(self.failed.drain(..lacking));
        }
        if made.is_empty() && !self.failed.is_empty() {
            return Err(rejected(&self.failed, &self.findings));
        }
        let Progressing { laps, warnings, failed, findings, .. } = self;
        let (pool, laps) = (pool.pictures, laps.done());
        Ok(Making::Made(Landed { pool, made, failed, is_joined: false, warnings, findings, laps }))
    }
}

impl Order {
    /// Unfinished pictures that are streamed per picture.
    pub(super) fn partials(&self) -> u8 {
        self.call.stream.unwrap_or(0)
    }

    /// How what is made is to answer the key.
    pub(super) fn entry(
        &self,
        candidate: &Candidate,
        now: Millis,
        lifetime: Option<std::time::Duration>,
    ) -> Option<EntryWrite> {
        let lifetime = match (self.call.cache.ttl, self.plan.settings.cache.ttl_s) {
            (Some(ttl), _) => Some(ttl),
            (None, Some(0)) => None,
            (None, Some(seconds)) => Some(std::time::Duration::from_secs(seconds)),
            (None, None) => lifetime,
        };
        self.stores().then(|| EntryWrite {
            key: self.key,
            label: format!("{} {}", candidate.request.operation.name(), candidate.name),
            replace: (!self.reads_cache()).then_some(self.call.id),
            route: self.plan.route.clone(),
            tags: self.call.cache.tags.clone(),
            expires_ms: lifetime.map(|l| now.saturating_add(Millis::try_from(l.as_millis()).unwrap_or(Millis::MAX))),
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
        candidate: Some(known_as(candidate)),
        category: order.plan.sense.category.clone(),
    })
}
