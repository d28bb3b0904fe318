//! Whom to ask, and whether to ask the same one again.
//!
//! A provider that is down is left alone while there is another. A call that certainly cost nothing may be made once
//! more: at the next candidate if that one can serve now, else at the same one, as far as the retry budget, the
//! provider's own word and the caller's deadline allow. Each is an attempt of its own in the ledger.

use std::time::Duration;

use tokio::time::Instant;

use super::make::{Account, Called};
use super::{Landing, Laps, Order, Pipeline};
use crate::attempt::{Probe, Standing, backoff};
use crate::domain::{Fault, FaultKind, Price};
use crate::error::Result;
use crate::flight::Lead;
use crate::route::{Candidate, Maker};

/// How often one candidate is asked for the same pictures at most.
const TRIES: u32 = 4;

/// A candidate that is to be asked, and the right to find out whether it is back, if it was down.
pub(super) type Askable<'a> = (&'a Candidate, Option<Probe>);

impl Pipeline {
    /// Those of `ranked` that are to be asked: of those that the caller may spend on, all but those that are down, or all if
    /// every one is. Of the others it is noted why.
    pub(super) fn askable<'a>(&self, order: &Order, ranked: Vec<&'a Candidate>) -> Vec<Askable<'a>> {
        let (mut askable, mut down) = (Vec::new(), Vec::new());
        let barred = |candidate: &Candidate| match &candidate.maker {
            Maker::Provider(provider, _) => self.attempts.barred(&order.call.caller, provider),
            Maker::Template => None,
        };
        let mut open = Vec::with_capacity(ranked.len());
        for &candidate in &ranked {
            match barred(candidate) {
                Some(why) => order.notes.bars(&candidate.name, why),
                None => open.push(candidate),
            }
        }
        // Where none is left, each of them says so itself when it is asked.
        let open = if open.is_empty() { ranked } else { open };
        for &candidate in &open {
            let standing = match &candidate.maker {
                Maker::Provider(provider, _) => self.attempts.standing(provider),
                Maker::Template => Standing::Well,
            };
            match standing {
                Standing::Well => askable.push((candidate, None)),
                Standing::Probe(probe) => askable.push((candidate, Some(probe))),
                Standing::Down(left, why) => {
                    down.push((candidate, format!("left alone for {} s more: {why}", left.as_secs() + 1)));
                }
            }
        }
        if askable.is_empty() {
            return open.into_iter().map(|candidate| (candidate, None)).collect();
        }
        for (candidate, why) in down {
            order.notes.rests(&candidate.name, "down", why);
        }
        for (candidate, _) in askable.iter().filter(|(_, probe)| probe.is_some()) {
            order.notes.probes(&candidate.name);
        }
        askable
    }

    /// One paid call, and where it came to nothing and cost nothing, perhaps another one.
    pub(super) async fn insist(
        &self,
        order: &Order,
        account: Account<'_>,
        n: u32,
        expected: Price,
        lead: &Lead<Landing>,
        seen: i64,
    ) -> (Result<Called>, Laps, Vec<String>) {
        let mut retries = 0;
        loop {
            let (result, laps, warnings) = self.call(order, account, n, expected, lead, seen).await;
            let wait = match &result {
                Ok(Called::Fault(fault, _)) => self.may_repeat(order, account, n, fault, retries),
                _ => None,
            };
            let Some(wait) = wait else { return (result, laps, warnings) };
            tracing::info!(request = %order.call.id, provider = account.provider.name, wait_ms = wait.as_millis() as u64,
                           "it cost nothing and is asked again");
            tokio::select! {
                () = tokio::time::sleep(wait) => retries += 1,
                () = lead.stop().cancelled() => return (result, laps, warnings),
            }
        }
    }

    /// Why the next candidate is to be asked at once, if it is: this one's provider takes no calls now, and the other
    /// could serve.
    pub(super) fn rests(&self, account: Account<'_>, n: u32) -> Option<String> {
        let rest = self.attempts.rests(account.provider);
        let is_better_off = !rest.is_zero() && self.another_could_serve(account, n);
        is_better_off.then(|| format!("it takes no calls for {} s more, as it says", rest.as_secs() + 1))
    }

    fn another_could_serve(&self, account: Account<'_>, n: u32) -> bool {
        account.after.iter().any(|(candidate, _)| match &candidate.maker {
            Maker::Provider(other, model) => self.attempts.could_serve(other, n.min(model.max_n.max(1))),
            Maker::Template => true,
        })
    }

    /// After which wait the same candidate is asked again, if it is.
    fn may_repeat(&self, order: &Order, account: Account<'_>, n: u32, fault: &Fault, retries: u32) -> Option<Duration> {
        let provider = account.provider;
        let is_free = matches!(fault.kind, FaultKind::NotSent | FaultKind::Throttled | FaultKind::Failed)
            && fault.billed.is_none();
        if !is_free || fault.should_retry == Some(false) || retries + 1 >= TRIES {
            return None;
        }
        if self.another_could_serve(account, n) {
            return None;
        }
        let wait = backoff(retries).max(fault.retry_after.unwrap_or_default());
        let patience = Duration::from_secs(provider.limits.max_wait_s.into());
        let time_left = account.time_left(order).map_or(patience, |left| left.min(patience));
        (wait <= time_left && self.attempts.may_repeat(provider)).then_some(wait)
    }
}

impl Account<'_> {
    /// What is left of the caller's deadline.
    pub(super) fn time_left(&self, order: &Order) -> Option<Duration> {
        let deadline = order.call.deadline?;
        Some(deadline.saturating_sub(Instant::now().saturating_duration_since(self.begun)))
    }
}
