//! One account's limits: the order in which calls get through, here and among all replicas.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

use super::gate::{Gate, Keeper, Permit, Says};
use super::leases::{Leases, Said, Slot};
use crate::config::Limits;

/// A call that is held up for longer than this is told to Redis: less is within the room that every window has.
const HELD_UP: Duration = Duration::from_millis(5);

/// The local limits of one account, and the order in which this process asks Redis.
pub(super) struct Turnstile {
    pub account: Arc<str>,
    limits: Limits,
    pub gate: Arc<Gate>,
    /// Only the first of those who wait here asks.
    turn: tokio::sync::Mutex<()>,
    waiting: AtomicUsize,
    /// A slot of the account was given back, by whichever replica.
    pub freed: Notify,
    /// Processes that do paid work, where limits are not kept together.
    processes: Arc<AtomicU32>,
}

/// The right to have one call under way, until it is dropped.
#[derive(Debug)]
#[must_use = "a pass that is dropped is somebody else's"]
pub struct Pass {
    // Fields are dropped in this order: the slot is on its way back before anybody here may ask for it.
    slot: Option<Slot>,
    permit: Permit,
}

impl Pass {
    /// When it was given.
    pub fn begun(&self) -> Instant {
        self.permit.begun
    }

    /// Notes that its call goes out only now: what had to be written down before took its time.
    pub fn sends(&self, now: Instant) {
        self.permit.sends(now);
        if now.saturating_duration_since(self.begun()) > HELD_UP
            && let Some(slot) = &self.slot
        {
            slot.sends();
        }
    }
}

impl Turnstile {
    pub(super) fn new(account: &str, limits: Limits, processes: Arc<AtomicU32>) -> Turnstile {
        Turnstile {
            account: account.into(),
            limits,
            gate: Arc::new(Gate::new(limits)),
            turn: tokio::sync::Mutex::default(),
            waiting: AtomicUsize::new(0),
            freed: Notify::new(),
            processes,
        }
    }

    /// The right to have one call for so many pictures under way, as soon as the limits allow.
    pub(super) async fn pass(&self, pictures: u32, leases: Option<&Leases>) -> Pass {
        let _waiting = Waiting::begin(&self.waiting);
        let _turn = self.turn.lock().await;
        let mut slot = self.slot(pictures, leases);
        loop {
            // What was learned and the whole limit hold here in any case.
            match self.gate.ask(pictures, Keeper::Elsewhere) {
                Says::Go => {}
                says => {
                    self.wait(says).await;
                    continue;
                }
            }
            let said = match &mut slot {
                Some(slot) => slot.ask(true).await,
                None => None,
            };
            match said {
                Some(Said::Pass) => {
                    // The pace of this process goes on from here if Redis goes away.
                    let permit = self.gate.take(pictures, Keeper::Elsewhere);
                    return Pass { slot: slot.map(Slot::hold), permit };
                }
                Some(Said::Wait(pause)) => tokio::select! {
                    () = self.freed.notified() => {}
                    () = tokio::time::sleep(pause) => {}
                },
                None => match self.gate.try_take(pictures, self.alone()) {
                    Ok(permit) => return Pass { slot: slot.map(Slot::hold), permit },
                    Err(says) => self.wait(says).await,
                },
            }
        }
    }

    /// The same, if the limits allow it now.
    pub(super) async fn try_pass(&self, pictures: u32, leases: Option<&Leases>) -> Option<Pass> {
        if !self.looks_open(pictures, leases.is_some()) {
            return None;
        }
        let mut slot = self.slot(pictures, leases);
        let said = match &mut slot {
            Some(slot) => slot.ask(false).await,
            None => None,
        };
        let permit = match said {
            Some(Said::Pass) => self.gate.take(pictures, Keeper::Elsewhere),
            Some(Said::Wait(_)) => return None,
            None => self.gate.try_take(pictures, self.alone()).ok()?,
        };
        Some(Pass { slot: slot.map(Slot::hold), permit })
    }

    /// Whether a call for so many pictures would get through now, as far as this process can tell.
    pub(super) fn looks_open(&self, pictures: u32, shares: bool) -> bool {
        // Those who wait go first.
        let keeper = if shares { Keeper::Elsewhere } else { self.alone() };
        self.waiting.load(Ordering::SeqCst) == 0 && self.gate.ask(pictures, keeper) == Says::Go
    }

    /// How this process keeps the limits by itself.
    pub(super) fn alone(&self) -> Keeper {
        Keeper::Alone(self.processes.load(Ordering::Relaxed))
    }

    /// A slot to ask for, if anything is limited that replicas keep together.
    fn slot(&self, pictures: u32, leases: Option<&Leases>) -> Option<Slot> {
        let is_limited = self.limits.counts().iter().any(|(_, limit)| limit.is_some());
        let leases = leases.filter(|_| is_limited)?;
        Some(leases.slot(Arc::clone(&self.account), self.limits, pictures))
    }

    async fn wait(&self, says: Says) {
        let wait = match says {
            Says::Go => Duration::ZERO,
            Says::Later(wait) => wait,
            Says::Full => return self.gate.changed.notified().await,
        };
        tokio::select! {
            () = self.gate.changed.notified() => {}
            () = tokio::time::sleep(wait) => {}
        }
    }
}

/// One of those who wait, until it is dropped.
struct Waiting<'a>(&'a AtomicUsize);

impl<'a> Waiting<'a> {
    fn begin(count: &'a AtomicUsize) -> Self {
        count.fetch_add(1, Ordering::SeqCst);
        Waiting(count)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}
