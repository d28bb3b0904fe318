//! One generation for all who ask for the same picture at the same time (I1).
//!
//! The first who asks leads; whoever comes while the generation is under way joins it and gets the
//! same outcome. The work belongs to the leader's tracked task, not to any caller's connection: callers
//! come and go, the flight ends when its picture is stored.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{broadcast, watch};
use tokio_util::sync::CancellationToken;

use crate::domain::{Digest, Progress};

/// Partial pictures that a slow reader may fall behind before it misses some.
const PROGRESS_BACKLOG: usize = 8;

/// The flights under way, by key. Cheap to clone.
#[derive(Debug)]
pub struct Flights<T>(Arc<Inner<T>>);

#[derive(Debug)]
struct Inner<T> {
    under_way: Mutex<HashMap<Digest, Join<T>>>,
    landed: AtomicU64,
}

impl<T> Clone for Flights<T> {
    fn clone(&self) -> Self {
        Flights(Arc::clone(&self.0))
    }
}

impl<T> Default for Flights<T> {
    fn default() -> Self {
        Flights(Arc::new(Inner { under_way: Mutex::default(), landed: AtomicU64::new(0) }))
    }
}

/// A seat in a flight.
#[derive(Debug)]
pub struct Join<T> {
    outcome: watch::Receiver<Option<T>>,
    cabin: Arc<Cabin>,
}

impl<T> Clone for Join<T> {
    fn clone(&self) -> Self {
        Join { outcome: self.outcome.clone(), cabin: Arc::clone(&self.cabin) }
    }
}

/// What all on board of a flight share.
#[derive(Debug)]
pub struct Cabin {
    progress: broadcast::Sender<Progress>,
    /// How it stands, for who comes later; unfinished pictures are not kept.
    latest: Mutex<Option<Progress>>,
    /// All who ever boarded, without those who have called it off. Who merely hangs up still counts.
    wanted_by: AtomicU64,
    stop: CancellationToken,
}

impl Cabin {
    fn new() -> Arc<Cabin> {
        let (progress, _) = broadcast::channel(PROGRESS_BACKLOG);
        Arc::new(Cabin {
            progress,
            latest: Mutex::default(),
            wanted_by: AtomicU64::new(1),
            stop: CancellationToken::new(),
        })
    }

    /// How it stands, and what is told from now on.
    pub fn progress(&self) -> (Option<Progress>, broadcast::Receiver<Progress>) {
        let latest = self.latest.lock().unwrap_or_else(PoisonError::into_inner);
        (latest.clone(), self.progress.subscribe())
    }

    /// One of those on board does not want it any more. True if nobody else does: then the flight is asked to stop.
    pub fn call_off(&self) -> bool {
        let was_last = self.wanted_by.fetch_sub(1, Ordering::SeqCst) == 1;
        if was_last {
            self.stop.cancel();
        }
        was_last
    }

    fn tell(&self, news: Progress) {
        let mut latest = self.latest.lock().unwrap_or_else(PoisonError::into_inner);
        if !matches!(news, Progress::Partial { .. }) {
            *latest = Some(news.clone());
        }
        // Nobody listening is no fault.
        let _ = self.progress.send(news);
    }
}

/// The leader's duty to publish. Dropped without that (a panic, an abort), the flight ends with no
/// outcome, and nobody waits for ever.
#[derive(Debug)]
pub struct Lead<T> {
    flights: Flights<T>,
    key: Option<Digest>,
    outcome: watch::Sender<Option<T>>,
    cabin: Arc<Cabin>,
}

/// What a caller becomes.
#[derive(Debug)]
pub enum Seat<T> {
    /// Nobody makes this picture yet: lead, and wait like all others.
    Lead(Lead<T>, Join<T>),
    /// It is being made.
    Join(Join<T>),
}

impl<T: Clone> Flights<T> {
    /// Takes a seat in the flight for `key`.
    pub fn board(&self, key: Digest) -> Seat<T> {
        let mut flights = self.0.under_way.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(join) = flights.get(&key) {
            join.cabin.wanted_by.fetch_add(1, Ordering::SeqCst);
            return Seat::Join(join.clone());
        }
        let (lead, join) = self.open(Some(key));
        flights.insert(key, join.clone());
        Seat::Lead(lead, join)
    }

    /// A flight of its own that nobody can join.
    pub fn charter(&self) -> (Lead<T>, Join<T>) {
        self.open(None)
    }

    fn open(&self, key: Option<Digest>) -> (Lead<T>, Join<T>) {
        let (outcome, receiver) = watch::channel(None);
        let cabin = Cabin::new();
        let join = Join { outcome: receiver, cabin: Arc::clone(&cabin) };
        (Lead { flights: self.clone(), key, outcome, cabin }, join)
    }

    /// Tells everybody on board of the flight for `key`, if there is one, of what is made for it elsewhere.
    pub fn tell(&self, key: Digest, news: Progress) {
        let cabin = {
            let flights = self.0.under_way.lock().unwrap_or_else(PoisonError::into_inner);
            flights.get(&key).map(|join| Arc::clone(&join.cabin))
        };
        if let Some(cabin) = cabin {
            cabin.tell(news);
        }
    }

    /// How many flights have ended. Whoever looked something up, found nothing, and then leads, must
    /// look again if this number has moved meanwhile: the flight that made it may have ended between.
    pub fn landed(&self) -> u64 {
        self.0.landed.load(Ordering::SeqCst)
    }

    /// Flights under way.
    pub fn len(&self) -> usize {
        self.0.under_way.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// True if none is under way.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl<T> Lead<T> {
    /// Tells everybody on board how it stands.
    pub fn tell(&self, progress: Progress) {
        self.cabin.tell(progress);
    }

    /// Cancelled when nobody on board wants the flight any more.
    pub fn stop(&self) -> &CancellationToken {
        &self.cabin.stop
    }

    /// Ends the flight with its outcome. What it made must be stored by now: whoever asks from here on
    /// looks it up instead.
    pub fn publish(mut self, outcome: T) {
        self.leave();
        let _ = self.outcome.send(Some(outcome));
    }

    fn leave(&mut self) {
        if let Some(key) = self.key.take() {
            let mut flights = self.flights.0.under_way.lock().unwrap_or_else(PoisonError::into_inner);
            flights.remove(&key);
            // Under the lock, so that nobody can board after the removal and read the old number.
            self.flights.0.landed.fetch_add(1, Ordering::SeqCst);
        }
    }
}

impl<T> Drop for Lead<T> {
    fn drop(&mut self) {
        self.leave();
    }
}

impl<T: Clone> Join<T> {
    /// Waits for the outcome; `None` if the leader was lost without one.
    pub async fn outcome(&mut self) -> Option<T> {
        match self.outcome.wait_for(Option::is_some).await {
            Ok(outcome) => outcome.clone(),
            Err(_) => None,
        }
    }

    /// What all on board share.
    pub fn cabin(&self) -> Arc<Cabin> {
        Arc::clone(&self.cabin)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: Digest = Digest([7; 32]);

    #[tokio::test]
    async fn one_leads_all_join() {
        let flights = Flights::<u32>::default();
        let Seat::Lead(lead, mut own) = flights.board(KEY) else { panic!("the first leads") };
        let mut others: Vec<_> = (0..100)
            .map(|_| match flights.board(KEY) {
                Seat::Join(join) => join,
                Seat::Lead(..) => panic!("only one leads"),
            })
            .collect();
        lead.publish(42);
        assert_eq!(own.outcome().await, Some(42));
        for join in &mut others {
            assert_eq!(join.outcome().await, Some(42));
        }
        assert!(flights.is_empty());
        assert!(matches!(flights.board(KEY), Seat::Lead(..)), "the next one leads again");
    }

    #[tokio::test]
    async fn a_lost_leader_strands_nobody() {
        let flights = Flights::<u32>::default();
        let Seat::Lead(lead, _) = flights.board(KEY) else { panic!("the first leads") };
        let Seat::Join(mut join) = flights.board(KEY) else { panic!("the second joins") };
        drop(lead);
        assert_eq!(join.outcome().await, None);
        assert!(flights.is_empty());
    }

    #[tokio::test]
    async fn a_flight_stops_when_all_have_called_it_off() {
        let flights = Flights::<u32>::default();
        let Seat::Lead(lead, own) = flights.board(KEY) else { panic!("the first leads") };
        let Seat::Join(other) = flights.board(KEY) else { panic!("the second joins") };
        drop(flights.board(KEY)); // hangs up, and would still find the picture next time
        assert!(!own.cabin().call_off());
        assert!(!other.cabin().call_off());
        assert!(!lead.stop().is_cancelled(), "it is made for who has hung up");
        let (lead, join) = flights.charter();
        assert!(join.cabin().call_off());
        assert!(lead.stop().is_cancelled());
    }

    #[tokio::test]
    async fn who_comes_later_learns_how_it_stands() {
        let flights = Flights::<u32>::default();
        let Seat::Lead(lead, own) = flights.board(KEY) else { panic!("the first leads") };
        assert!(own.cabin().progress().0.is_none());
        lead.tell(Progress::Running { percent: Some(30) });
        lead.tell(Progress::Partial { bytes: bytes::Bytes::from_static(b"half"), index: 0 });
        let (latest, mut news) = own.cabin().progress();
        assert!(matches!(latest, Some(Progress::Running { percent: Some(30) })), "{latest:?}");
        flights.tell(KEY, Progress::Running { percent: Some(60) });
        assert!(matches!(news.recv().await, Ok(Progress::Running { percent: Some(60) })));
    }

    #[tokio::test]
    async fn keys_do_not_mix_and_charters_are_alone() {
        let flights = Flights::<u32>::default();
        let Seat::Lead(_first, _) = flights.board(KEY) else { panic!() };
        assert!(matches!(flights.board(Digest([8; 32])), Seat::Lead(..)));
        let (lead, mut join) = flights.charter();
        assert_eq!(flights.len(), 1);
        lead.publish(1);
        assert_eq!(join.outcome().await, Some(1));
    }
}
