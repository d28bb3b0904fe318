//! What a call teaches: about the account's limits, and about whether its provider is up.

use std::time::Duration;

use tokio::time::Instant;

use super::Attempts;
use super::health::{Sign, Standing};
use crate::domain::{Fault, FaultKind, Generated};
use crate::providers::Provider;

impl Attempts {
    /// Whether `provider` is to be asked now, or left alone.
    pub fn standing(&self, provider: &Provider) -> Standing {
        self.health.standing(&provider.name, Instant::now())
    }

    /// Whether a call for so many pictures would be made at once, as far as this process can tell.
    pub fn could_serve(&self, provider: &Provider, pictures: u32) -> bool {
        self.health.may_be_asked(&provider.name, Instant::now())
            && self.shared.looks_open(&provider.name, provider.limits, pictures)
    }

    /// Takes one retry at `provider` out of the budget for them, if there is one left.
    pub fn may_repeat(&self, provider: &Provider) -> bool {
        self.again.take(&provider.name)
    }

    /// How long `provider` takes no calls any more, as it says itself.
    pub fn rests(&self, provider: &Provider) -> Duration {
        self.outlook(provider).0
    }

    /// How long nobody is let through at `provider`, and the time between two calls from then on.
    pub(super) fn outlook(&self, provider: &Provider) -> (Duration, Duration) {
        self.shared.outlook(&provider.name, provider.limits)
    }

    /// Learns from a call that went out at `sent`, with a pass of `begun`. Was it `accepted` as a job, the account has taken it, whatever comes
    /// of the questions after it.
    pub(super) fn learn(
        &self,
        provider: &Provider,
        (begun, sent): (Instant, Instant),
        accepted: bool,
        result: &Result<Generated, Fault>,
    ) {
        let (name, limits) = (&provider.name, provider.limits);
        if let Some(sign) = Sign::of(result, sent.elapsed()) {
            self.health.note(name, sign, Instant::now());
        }
        match result.as_ref().map_err(|fault| (fault.kind, fault.retry_after)) {
            Err((FaultKind::Throttled, retry_after)) if !accepted => {
                self.shared.refused(name, limits, begun, retry_after);
            }
            Err((FaultKind::NotSent | FaultKind::Cancelled, _)) if !accepted => {}
            _ => self.shared.accepted(name, limits, begun),
        }
        if let Some((sent, news)) = provider.rate_news() {
            self.shared.heard(name, limits, sent, news);
        }
    }
}
