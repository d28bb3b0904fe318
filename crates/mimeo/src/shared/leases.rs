//! The limits of accounts over all replicas: slots with leases and one pace per account, in Redis.
//!
//! What Redis says is taken by the scripts beside this file, one atomic step each, by Redis's own clock. A slot
//! is renewed while its call is under way and ends by itself when nobody renews it, so a killed or frozen
//! process keeps none. Who has to wait holds a ticket: turns are taken in the order of tickets, so that no
//! replica starves beside a busy one.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use redis::Script;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, MissedTickBehavior, interval};

use super::link::Link;
use super::news;
use super::pace::Rule;
use crate::config::Limits;

/// How long a ticket holds that nobody asks with. Who waits asks at least eight times as often.
const TERM: Duration = Duration::from_secs(2);
/// The shortest and the longest time between two questions of one who waits.
const PAUSES: (Duration, Duration) = (Duration::from_millis(20), Duration::from_millis(250));

/// Slots that this process holds in Redis, or should hold there. Cheap to clone.
#[derive(Clone)]
pub(super) struct Leases(Arc<Inner>);

struct Inner {
    link: Link,
    namespace: String,
    channel: String,
    lease: Duration,
    acquire: Script,
    renew: Script,
    release: Script,
    amend: Script,
    held: Mutex<BTreeMap<Arc<str>, Held>>,
    errands: mpsc::UnboundedSender<Errand>,
}

/// The slots of one account.
struct Held {
    limits: Limits,
    tokens: BTreeSet<String>,
}

/// What the keeper does when asked.
pub(super) enum Errand {
    /// Give back a slot.
    Leave(Leaving),
    /// Say that a call goes out only now.
    Amend(Late),
    /// Say when everything before is done.
    Tell(oneshot::Sender<()>),
}

/// A slot to give back.
pub(super) struct Leaving {
    account: Arc<str>,
    token: String,
    /// When its lease is over by itself.
    until: Instant,
}

/// A call that was held up after it was let through.
pub(super) struct Late {
    account: Arc<str>,
    limits: Limits,
    pictures: u32,
    /// When Redis let it through, by its clock.
    stamp: u64,
}

/// What Redis said.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Said {
    /// Go.
    Pass,
    /// Ask again after this long, or when a slot is given back.
    Wait(Duration),
}

/// One slot, from the first question until its call has ended.
pub(super) struct Slot {
    leases: Leases,
    account: Arc<str>,
    limits: Limits,
    pictures: u32,
    token: String,
    ticket: String,
    pause: Duration,
    /// Redis may know the token.
    asked: bool,
    /// When Redis let it through, by its clock; 0 before.
    stamp: u64,
}

impl Leases {
    /// No slots yet, and the errands of the keeper that [`Leases::keep`] runs.
    pub(super) fn new(link: Link, namespace: &str, lease: Duration) -> (Leases, mpsc::UnboundedReceiver<Errand>) {
        let (errands, received) = mpsc::unbounded_channel();
        let leases = Leases(Arc::new(Inner {
            link,
            namespace: namespace.to_owned(),
            channel: news::channel(namespace),
            lease,
            acquire: Script::new(include_str!("acquire.lua")),
            renew: Script::new(include_str!("renew.lua")),
            release: Script::new(include_str!("release.lua")),
            amend: Script::new(include_str!("amend.lua")),
            held: Mutex::default(),
            errands,
        }));
        (leases, received)
    }

    /// A slot of `account` that is not taken yet, for a call for so many pictures.
    pub(super) fn slot(&self, account: Arc<str>, limits: Limits, pictures: u32) -> Slot {
        // The number of pictures goes before the name, where the scripts find it. A call that is larger than the
        // whole limit counts as the whole limit, or it could never be made.
        let pictures = pictures.min(limits.concurrent_pictures.unwrap_or(u32::MAX)).max(1);
        let token = format!("{pictures}:{:032x}", crate::domain::id::random());
        let (leases, ticket) = (self.clone(), String::new());
        Slot { leases, account, limits, pictures, token, ticket, pause: PAUSES.0, asked: false, stamp: 0 }
    }

    /// Renews all slots every third of a lease and whenever Redis is back, and gives back those that are free.
    pub(super) async fn keep(self, mut errands: mpsc::UnboundedReceiver<Errand>) {
        let mut link = self.0.link.clone();
        let mut renewals = interval(self.0.lease / 3);
        renewals.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut connection = 0;
        // What Redis could not be told. It goes first when Redis is back: a call whose answer came too late
        // may have taken a slot all the same.
        let mut owed: Vec<Leaving> = Vec::new();
        loop {
            let mut told = None;
            tokio::select! {
                Some(errand) = errands.recv() => match errand {
                    Errand::Leave(leaving) => owed.push(leaving),
                    Errand::Amend(late) => self.amend(late).await,
                    Errand::Tell(done) => told = Some(done),
                },
                () = link.joined(&mut connection) => {
                    self.settle(&mut owed).await;
                    self.renew().await;
                }
                _ = renewals.tick() => self.renew().await,
            }
            self.settle(&mut owed).await;
            if let Some(done) = told {
                // Who asked may have gone.
                let _ = done.send(());
            }
        }
    }

    /// Returns when everything that was given back so far is given back in Redis, as far as it is there.
    pub(super) async fn settled(&self) {
        let (done, heard) = oneshot::channel();
        if self.0.errands.send(Errand::Tell(done)).is_ok() {
            let _ = heard.await;
        }
    }

    async fn settle(&self, owed: &mut Vec<Leaving>) {
        let now = Instant::now();
        owed.retain(|leaving| leaving.until > now);
        while let Some(Leaving { account, token, .. }) = owed.last() {
            let mut call = self.0.release.prepare_invoke();
            call.key(self.key(account, "slots")).key(self.key(account, "queue"));
            call.arg(token).arg(&self.0.channel).arg(news::freed(account));
            let settled = self.0.link.call(|mut redis| async move { call.invoke_async::<u32>(&mut redis).await }).await;
            if settled.is_none() {
                return;
            }
            owed.pop();
        }
    }

    /// If Redis does not hear of it, the call counts from when it was let through.
    async fn amend(&self, late: Late) {
        let Late { account, limits, pictures, stamp } = late;
        let mut call = self.0.amend.prepare_invoke();
        call.arg(stamp);
        for rule in Rule::all(&limits) {
            call.key(self.key(&account, &format!("{}:begun", rule.name)));
            call.arg(rule.units(pictures)).arg(micros(rule.span()));
        }
        let _ = self.0.link.call(|mut redis| async move { call.invoke_async::<u32>(&mut redis).await }).await;
    }

    async fn renew(&self) {
        let held: Vec<(Arc<str>, Limits, Vec<String>)> = self
            .held()
            .iter()
            .map(|(account, held)| (Arc::clone(account), held.limits, held.tokens.iter().cloned().collect()))
            .collect();
        for (account, limits, tokens) in held {
            let mut call = self.0.renew.prepare_invoke();
            call.key(self.key(&account, "slots"));
            call.arg(limits.concurrent.unwrap_or(0)).arg(limits.concurrent_pictures.unwrap_or(0));
            call.arg(micros(self.0.lease)).arg(tokens);
            let without = self.0.link.call(|mut redis| async move { call.invoke_async::<u32>(&mut redis).await }).await;
            match without {
                None => return,
                Some(0) => {}
                Some(without) => tracing::debug!(account = &*account, without, "calls under way exceed the limit"),
            }
        }
    }

    /// The keys of one account have one hash tag: a script uses several of them.
    fn key(&self, account: &str, what: &str) -> String {
        format!("{}:limits:{{{account}}}:{what}", self.0.namespace)
    }

    fn held(&self) -> MutexGuard<'_, BTreeMap<Arc<str>, Held>> {
        self.0.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Slot {
    /// Asks for the slot and a place in the pace. With `waits` false it is now or never; with true, a turn is
    /// kept for whoever asks again in time. `None` if Redis does not say.
    pub(super) async fn ask(&mut self, waits: bool) -> Option<Said> {
        let Inner { link, acquire, lease, .. } = &*self.leases.0;
        let mut call = acquire.prepare_invoke();
        for key in ["slots", "queue"] {
            call.key(self.leases.key(&self.account, key));
        }
        call.arg(&self.token).arg(&self.ticket).arg(u8::from(waits)).arg(micros(*lease)).arg(micros(TERM));
        call.arg(self.limits.concurrent.unwrap_or(0)).arg(self.limits.concurrent_pictures.unwrap_or(0));
        for rule in Rule::all(&self.limits) {
            call.key(self.leases.key(&self.account, &format!("{}:due", rule.name)));
            call.key(self.leases.key(&self.account, &format!("{}:begun", rule.name)));
            call.arg(rule.count).arg(micros(rule.span())).arg(micros(rule.interval())).arg(micros(rule.burst()));
            call.arg(rule.units(self.pictures)).arg(u8::from(rule.of_pictures));
        }
        // From here on, whatever becomes of this future.
        self.asked = true;
        let said: (u8, u64, String) = link.call(|mut redis| async move { call.invoke_async(&mut redis).await }).await?;
        let (passed, wait, ticket) = said;
        if passed == 1 {
            self.stamp = wait;
            return Some(Said::Pass);
        }
        // Nothing was taken.
        self.asked = false;
        self.ticket = ticket;
        if wait > 0 {
            // Tickets last longer than the longest pause.
            return Some(Said::Wait(Duration::from_micros(wait).min(PAUSES.1)));
        }
        let pause = self.pause;
        self.pause = (pause * 2).min(PAUSES.1);
        Some(Said::Wait(pause))
    }

    /// Its call goes out now, with the blessing of Redis or without. From now on the slot is renewed, and
    /// taken in Redis if it is not there.
    pub(super) fn hold(self) -> Slot {
        if self.is_leased() {
            let mut held = self.leases.held();
            let nothing = || Held { limits: self.limits, tokens: BTreeSet::new() };
            held.entry(Arc::clone(&self.account)).or_insert_with(nothing).tokens.insert(self.token.clone());
        }
        self
    }

    /// Tells Redis that its call goes out only now. Nobody waits for that.
    pub(super) fn sends(&self) {
        if self.stamp == 0 || Rule::all(&self.limits).is_empty() {
            return;
        }
        let Slot { limits, pictures, stamp, .. } = *self;
        let late = Late { account: Arc::clone(&self.account), limits, pictures, stamp };
        // Without a keeper there is no Redis to tell.
        let _ = self.leases.0.errands.send(Errand::Amend(late));
    }

    /// True if what is under way is limited, and not only what begins.
    fn is_leased(&self) -> bool {
        self.limits.concurrent.is_some() || self.limits.concurrent_pictures.is_some()
    }
}

impl std::fmt::Debug for Slot {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Slot").field("account", &self.account).finish_non_exhaustive()
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let mut held = self.leases.held();
        let mut was_held = false;
        if let Some(of_account) = held.get_mut(&self.account) {
            was_held = of_account.tokens.remove(&self.token);
            if of_account.tokens.is_empty() {
                held.remove(&self.account);
            }
        }
        drop(held);
        if self.is_leased() && (self.asked || was_held) {
            let account = Arc::clone(&self.account);
            let token = std::mem::take(&mut self.token);
            let leaving = Leaving { account, token, until: Instant::now() + self.leases.0.lease };
            // Without a keeper the lease ends by itself.
            let _ = self.leases.0.errands.send(Errand::Leave(leaving));
        }
    }
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}
