//! Who looks on while a call is under way: news go out, and what the provider has accepted is written down before
//! anything else happens.

use futures_util::future::{BoxFuture, pending, ready};
use serde::{Deserialize, Serialize};

use crate::clock::Millis;
use crate::domain::Progress;
use crate::secret::Secret;

/// A job that a provider has accepted: from here on it is asked for, and never sent again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ticket {
    /// The provider's name for it.
    pub id: String,
    /// Where to ask how it is, if that is another address than the record makes of the id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub poll: Option<String>,
    /// Where its pictures are told, if the answer to the submission says so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub result: Option<String>,
    /// Where to cancel it, if the answer to the submission says so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cancel: Option<String>,
    /// When it was accepted.
    pub accepted_ms: Millis,
    /// What the submission itself said that it costs, in pico-dollars.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub billed_pico: Option<i128>,
}

/// Where a provider may call back when a job has ended.
#[derive(Clone, Debug)]
pub struct Callback {
    /// A public address that names the job and nothing else.
    pub address: String,
    /// What the provider signs with, where a secret is told to it with the job.
    pub secret: Secret,
}

/// The job could not be written down: whoever asked for it was given up meanwhile, or cannot reach the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotNoted;

/// Looks on while a call is under way.
pub trait Watch: Send + Sync {
    /// Takes news. Must not block.
    fn progress(&self, news: Progress);

    /// Writes down that the provider has accepted the job, before it is asked for.
    ///
    /// A job that was not noted is asked for all the same: it may be billed.
    fn accepted<'a>(&'a self, ticket: &'a Ticket) -> BoxFuture<'a, Result<(), NotNoted>> {
        let _ = ticket;
        Box::pin(ready(Ok(())))
    }

    /// Resolves when the job is to be cancelled.
    fn stopped(&self) -> BoxFuture<'_, ()> {
        Box::pin(pending())
    }

    /// Resolves when the provider has called back since the last time this was asked.
    fn woken(&self) -> BoxFuture<'_, ()> {
        Box::pin(pending())
    }

    /// Where the provider may call back, if it can reach this gateway at all.
    fn callback(&self) -> Option<Callback> {
        None
    }
}

/// Who only wants the news.
impl<F: Fn(Progress) + Send + Sync> Watch for F {
    fn progress(&self, news: Progress) {
        self(news);
    }
}
