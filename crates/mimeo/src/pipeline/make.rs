//! Phases ④ to ⑥: candidate after candidate until the pictures are made, or until it would be wrong to try on. What
//! becomes of each call that was made is in `conclude`.

use futures_util::future::join_all;
use tokio::time::Instant;

use super::admit::batches;
use super::again::Askable;
use super::inspect::{Seen, rejected};
use super::papers::Papers;
use super::purse::Purse;
use super::resume::still_made;
use super::{Landed, Landing, Laps, Making, Order, Pipeline, total};
use crate::alerts::{Alert, AlertKind};
use crate::attempt::{Errand, Made, Surroundings};
use crate::cache::Pool;
use crate::config::OnFail;
use crate::domain::{AttemptId, Delivered, Fault, FaultKind, Price, Progress};
use crate::error::{Error, Kind, Result};
use crate::flight::Lead;
use crate::providers::{Job, Model, Provider};
use crate::route::{Candidate, Maker};

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
                        Err(error) => {
                            last = Some(error);
                            break;
                        }
                        Ok(asked) => asked,
                    }
                }
            };
            made.extend(asked.pictures);
            so_far.findings.extend(asked.findings);
            let is_to_be_made_again = !asked.failed.is_empty() && order.plan.settings.quality.on_fail == OnFail::Next;
            so_far.failed.extend(asked.failed);
            // Some make more than they are asked for.
            if made.len() >= count as usize {
                return so_far.land(order, count, pool, made);
            }
            match asked.needless {
                Some(needless) if so_far.failed.is_empty() => return Ok(needless),
                Some(_) => break,
                None => {}
            }
            let Some((may_go_on, error)) = asked.fault else {
                if is_to_be_made_again {
                    // By another one, whoever would pay.
                    failed.push(turn.place);
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
        // What there is, with its faults, is better than nothing.
        if !so_far.failed.is_empty() {
            return so_far.land(order, count, pool, made);
        }
        // Paid for, and nobody could ask for them again: what is stored is there for who asks once more.
        if let Some(error) = last.as_ref().filter(|_| made.iter().any(|one| one.id.is_none())) {
            let lacking = count as usize - made.len();
            let warning = format!("{lacking} of {} pictures could not be made: {}", order.call.n, error.message);
            so_far.warnings.push(warning);
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
        let mut forbidden = None;
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
            let called = match result {
                Ok(called) => called,
                Err(error) => {
                    forbidden.get_or_insert(error);
                    continue;
                }
            };
            let fault = match called {
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
        // What the other calls have made is not forgotten over it.
        match forbidden {
            Some(error) if asked.pictures.is_empty() && asked.failed.is_empty() => return Err(error),
            Some(error) => asked.fault = Some((false, error)),
            None => {}
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
            Ok(Made::Attempt(attempt)) if attempt.is_still_made() => {
                self.learn(order, account, &attempt);
                Err(still_made(order, provider, &attempt))
            }
            Ok(Made::Attempt(mut attempt)) => {
                attempt.timing = self.learn(order, account, &attempt);
                laps.put("reserve", attempt.reserving);
                laps.put("provider", attempt.calling);
                warnings.clone_from(&attempt.warnings);
                self.conclude(order, account, n, *attempt, &mut laps).await
            }
            Ok(Made::UnderWay) => Ok(Called::Needless(Making::UnderWay)),
            Ok(Made::Landed) => Ok(Called::Needless(Making::Landed)),
            Ok(Made::Barred(error)) => Ok(Called::AccountSpent(error)),
            // A pot that is used up is as it should be.
            Ok(Made::AccountSpent(error)) if account.pot.is_some() => Ok(Called::AccountSpent(error)),
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
}
