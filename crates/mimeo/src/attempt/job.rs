//! Looks on while a provider is at a call that may become a job: its ticket is written down before anything else
//! happens, and who calls back or calls off is heard.

use std::collections::HashSet;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use futures_util::future::BoxFuture;
use tokio::sync::broadcast;
use tokio_util::sync::CancellationToken;

use super::{Attempt, Attempts, REWRITE};
use crate::domain::{AttemptId, Fault, FaultKind, Progress};
use crate::failpoint::failpoint;
use crate::providers::{Callback, NotNoted, Ticket, Watch};
use crate::shared::{Hint, heard};
use crate::store::{AcceptedJob, StoreError, Term};

/// What surrounds a call: who hears of it, who may call it off, and what it takes to end it elsewhere.
#[derive(Clone, Copy)]
pub struct Surroundings<'a> {
    /// Takes news. Must not block.
    pub tell: &'a (dyn Fn(Progress) + Send + Sync),
    /// What is written down with the ticket of an accepted job: enough to end it in another process.
    pub papers: &'a (dyn Fn() -> String + Send + Sync),
    /// Cancelled when nobody wants it any more.
    pub stop: &'a CancellationToken,
}

impl fmt::Debug for Surroundings<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Surroundings").field("stop", &self.stop.is_cancelled()).finish_non_exhaustive()
    }
}

/// The accepted jobs that this process asks for. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub(super) struct InHand(Arc<Mutex<HashSet<AttemptId>>>);

/// A job that this process asks for, until it is dropped. From then on it may be adopted.
#[derive(Debug)]
pub struct Held {
    /// What to ask for it by.
    pub ticket: Ticket,
    id: AttemptId,
    in_hand: InHand,
}

impl InHand {
    fn contains(&self, id: AttemptId) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).contains(&id)
    }

    /// `None` if it is in hand already.
    fn take(&self, id: AttemptId, ticket: Ticket) -> Option<Held> {
        let is_new = self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(id);
        is_new.then(|| Held { ticket, id, in_hand: self.clone() })
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.in_hand.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.id);
    }
}

impl Attempts {
    /// Takes over the accepted jobs that nobody asks for, and those of this process that nobody waits for any more.
    /// One whose ticket cannot be read comes without.
    ///
    /// # Errors
    /// The store fails.
    pub async fn adopt(&self) -> Result<Vec<(AcceptedJob, Option<Held>)>, StoreError> {
        let in_hand = self.in_hand.clone();
        let jobs = self.store.adopt(|id| in_hand.contains(id)).await?;
        let take = |job: AcceptedJob| match serde_json::from_str(&job.ticket) {
            Ok(ticket) => self.in_hand.take(job.attempt.id, ticket).map(|held| (job, Some(held))),
            Err(_) => Some((job, None)),
        };
        Ok(jobs.into_iter().filter_map(take).collect())
    }

    /// Looks on while the provider is at the attempt `id`.
    pub(crate) async fn watch<'a>(&'a self, id: AttemptId, term: Term, around: Surroundings<'a>) -> JobWatch<'a> {
        let hints = tokio::sync::Mutex::new(self.shared.hints());
        let callback = self.callbacks.of(id).await;
        JobWatch { attempts: self, id, term, around, held: Mutex::default(), hints, callback }
    }

    /// Writes that the provider has accepted a job; if the store cannot be reached, as soon as it can.
    async fn note_accepted(&self, id: AttemptId, term: Term, ticket: String, papers: String) -> Result<(), NotNoted> {
        match self.store.mark_accepted(id, term, ticket.clone(), papers.clone(), self.clock.now()).await {
            Ok(true) => Ok(()),
            Ok(false) => {
                tracing::error!(attempt = %id, ticket, "a job was accepted after its process was given up; it is asked for \
                                                        all the same");
                Err(NotNoted)
            }
            Err(error) => {
                tracing::warn!(attempt = %id, %error, "an accepted job cannot be written down now; it will be");
                let this = self.clone();
                self.tracker.spawn(async move {
                    while let Err(StoreError::Unavailable(_)) =
                        this.store.mark_accepted(id, term, ticket.clone(), papers.clone(), this.clock.now()).await
                    {
                        tokio::time::sleep(REWRITE).await;
                    }
                });
                Err(NotNoted)
            }
        }
    }
}

/// Looks on while a provider is at one attempt.
pub(crate) struct JobWatch<'a> {
    attempts: &'a Attempts,
    id: AttemptId,
    term: Term,
    around: Surroundings<'a>,
    held: Mutex<Option<Held>>,
    hints: tokio::sync::Mutex<broadcast::Receiver<Hint>>,
    callback: Option<Callback>,
}

impl JobWatch<'_> {
    /// The job, if the call has become one.
    pub(super) fn into_held(self) -> Option<Held> {
        self.held.into_inner().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Watch for JobWatch<'_> {
    fn progress(&self, news: Progress) {
        (self.around.tell)(news);
    }

    fn accepted<'a>(&'a self, ticket: &'a Ticket) -> BoxFuture<'a, Result<(), NotNoted>> {
        Box::pin(async move {
            // In hand before it is written: nobody in this process may adopt it in between.
            if let Some(held) = self.attempts.in_hand.take(self.id, ticket.clone()) {
                *self.held.lock().unwrap_or_else(PoisonError::into_inner) = Some(held);
            }
            let text = serde_json::to_string(ticket).map_err(|_| NotNoted)?;
            let noted = self.attempts.note_accepted(self.id, self.term, text, (self.around.papers)()).await;
            failpoint!("attempt::after_accepted");
            noted
        })
    }

    fn stopped(&self) -> BoxFuture<'_, ()> {
        Box::pin(self.around.stop.cancelled())
    }

    fn woken(&self) -> BoxFuture<'_, ()> {
        Box::pin(async { heard(&mut *self.hints.lock().await, Hint::Called(self.id)).await })
    }

    fn callback(&self) -> Option<Callback> {
        self.callback.clone()
    }
}

impl Attempt {
    /// True if the provider has accepted it and may still be at it: it is to be asked for again, and its money stays
    /// set aside.
    pub fn is_still_made(&self) -> bool {
        self.job.is_some() && self.result.as_ref().is_err_and(|fault| !is_last_word(fault))
    }
}

/// True if `fault` tells how an accepted job has ended. Everything else only says that it could not be asked for.
pub fn is_last_word(fault: &Fault) -> bool {
    match fault.kind {
        FaultKind::Refused | FaultKind::Failed | FaultKind::BadAnswer | FaultKind::Cancelled => true,
        // Of a key that is not accepted, the operator can still find another.
        FaultKind::Unknown => !matches!(fault.status, Some(401..=403)),
        FaultKind::Unfinished | FaultKind::NotSent | FaultKind::Throttled | FaultKind::Rejected | FaultKind::Denied => {
            false
        }
    }
}

/// A call that was called off before it was sent.
pub(super) fn called_off() -> Fault {
    Fault::new(FaultKind::Cancelled, "it was cancelled before it was sent")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_provider_ends_a_job() {
        let fault = |kind, status| Fault { status, ..Fault::new(kind, "") };
        for kind in [FaultKind::Refused, FaultKind::Failed, FaultKind::BadAnswer, FaultKind::Cancelled] {
            assert!(is_last_word(&fault(kind, None)), "{kind:?}");
        }
        // A key that was withdrawn, a limit, a page of a proxy: the job is there all the same.
        for (kind, status) in [
            (FaultKind::NotSent, None),
            (FaultKind::Throttled, Some(429)),
            (FaultKind::Denied, Some(401)),
            (FaultKind::Rejected, Some(400)),
            (FaultKind::Unknown, Some(401)),
            (FaultKind::Unfinished, None),
        ] {
            assert!(!is_last_word(&fault(kind, status)), "{kind:?} {status:?}");
        }
        // It is cancelled and perhaps billed, or the provider does not know it any more.
        assert!(is_last_word(&fault(FaultKind::Unknown, None)));
    }

    #[test]
    fn a_job_is_in_one_hand_at_a_time() {
        let ticket =
            || Ticket { id: "j".into(), poll: None, result: None, cancel: None, accepted_ms: 0, billed_pico: None };
        let hands = InHand::default();
        let held = hands.take(AttemptId(1), ticket());
        assert!(held.is_some() && hands.contains(AttemptId(1)) && !hands.contains(AttemptId(2)));
        assert!(hands.take(AttemptId(1), ticket()).is_none());
        drop(held);
        assert!(hands.take(AttemptId(1), ticket()).is_some());
    }
}
