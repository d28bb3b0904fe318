//! The waiting room before an account's limits. Whoever would wait too long is not let in, before any money
//! is set aside for them: a queue that only grows serves everybody late, and in the end nobody.
//!
//! Who is let in is served in the order of coming. Serving the newest first would keep some fast under
//! overload, at the price of others who were let in and wait in vain. Here the wait is bounded at the door
//! instead: by the number of those who wait, and by how long that number takes at the recent pace.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::config::Limits;
use crate::domain::{Fault, FaultKind, id};

/// Callers who may wait where nothing is configured: so many per call that may be under way …
const PER_CALL: u32 = 4;
/// … and at least so many.
const AT_LEAST: u32 = 16;

/// The waiting rooms by provider. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub(super) struct WaitingRooms(Arc<Mutex<HashMap<String, Arc<WaitingRoom>>>>);

/// One account's waiting room.
#[derive(Debug)]
pub(super) struct WaitingRoom {
    limits: Limits,
    seats: u32,
    now: Mutex<State>,
}

#[derive(Debug)]
struct State {
    waiting: u32,
    calling: u32,
    /// When the calls under way began: the sum, counted from `opened`.
    begun: Duration,
    opened: Instant,
    /// How long calls took lately: each new one counts an eighth.
    typical: Duration,
}

/// A place in the queue. Given back when dropped.
#[derive(Debug)]
pub(super) struct Seat(Arc<WaitingRoom>);

/// A call under way. It ends when dropped.
#[derive(Debug)]
pub(super) struct Calling {
    room: Arc<WaitingRoom>,
    since: Instant,
}

impl WaitingRooms {
    /// The room before `provider`, whose account has these limits.
    pub(super) fn of(&self, provider: &str, limits: Limits) -> Arc<WaitingRoom> {
        let mut rooms = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(room) = rooms.get(provider) {
            return Arc::clone(room);
        }
        let room = Arc::new(WaitingRoom::new(limits));
        rooms.insert(provider.to_owned(), Arc::clone(&room));
        room
    }

    /// Calls under way, at all providers together.
    pub(super) fn calling(&self) -> usize {
        let rooms = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        rooms.values().map(|room| room.state().calling as usize).sum()
    }
}

impl WaitingRoom {
    fn new(limits: Limits) -> Self {
        let seats =
            limits.queue.unwrap_or_else(|| (limits.concurrent.unwrap_or(0).saturating_mul(PER_CALL)).max(AT_LEAST));
        let now =
            State { waiting: 0, calling: 0, begun: Duration::ZERO, opened: Instant::now(), typical: Duration::ZERO };
        WaitingRoom { limits, seats, now: Mutex::new(now) }
    }

    /// Takes a seat, for a caller whom the limits do not let pass at once and who waits at most `deadline`. `outlook`
    /// is how long nobody is let through, and the time between two calls from then on.
    ///
    /// # Errors
    /// No seat is free, or the wait would be too long. Says when to come back.
    pub(super) fn sit_down(
        self: &Arc<Self>,
        deadline: Option<Duration>,
        outlook: (Duration, Duration),
    ) -> Result<Seat, Fault> {
        let mut now = self.state();
        let wait = now.expected_wait(self.limits, outlook);
        if now.waiting >= self.seats {
            let message = format!(
                "{} calls are under way and {} wait for their turn, as many as may (limits.queue).",
                now.calling, now.waiting
            );
            return Err(self.full(message, wait));
        }
        if wait > self.patience() {
            let message = format!(
                "this call would wait about {} s for its turn, and may {} s (limits.max_wait_s).",
                wait.as_secs(),
                self.limits.max_wait_s
            );
            return Err(self.full(message, wait));
        }
        if let Some(deadline) = deadline.filter(|deadline| wait > *deadline) {
            let message = format!(
                "this call would wait about {} ms for its turn, longer than the {} ms that are left of deadline_ms.",
                wait.as_millis(),
                deadline.as_millis()
            );
            let mut fault = self.full(message, wait);
            fault.param = Some("deadline_ms".to_owned());
            return Err(fault);
        }
        now.waiting += 1;
        Ok(Seat(Arc::clone(self)))
    }

    /// Notes that a call begins.
    pub(super) fn call(self: &Arc<Self>) -> Calling {
        let since = Instant::now();
        let mut now = self.state();
        now.calling += 1;
        let opened = now.opened;
        now.begun += since - opened;
        Calling { room: Arc::clone(self), since }
    }

    /// The longest that anybody may wait, whatever was expected when they came.
    pub(super) fn patience(&self) -> Duration {
        Duration::from_secs(u64::from(self.limits.max_wait_s))
    }

    /// What is told to who has waited that long.
    pub(super) fn gave_up(&self, outlook: (Duration, Duration)) -> Fault {
        let wait = self.state().expected_wait(self.limits, outlook);
        self.full(format!("this call has waited {} s for its turn (limits.max_wait_s).", self.limits.max_wait_s), wait)
    }

    fn full(&self, message: String, wait: Duration) -> Fault {
        let mut fault = Fault::new(FaultKind::Throttled, message + " Nothing was sent. Come back later.");
        fault.code = Some("queue_full".to_owned());
        // It would be the same queue.
        fault.should_retry = Some(false);
        // Up to a fifth more, so that those who are sent away together do not come back together.
        fault.retry_after = Some(wait + wait * (id::random() % 21) as u32 / 100);
        fault
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.now.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// How long whoever comes now will wait: until anybody is let through, until all who wait already have left, and
    /// one more turn.
    fn expected_wait(&self, limits: Limits, (pause, pace): (Duration, Duration)) -> Duration {
        // Calls under way for longer than is typical say that the provider has become slower, before any of them ends.
        let age = match self.calling {
            0 => Duration::ZERO,
            calling => (self.opened.elapsed() * calling).saturating_sub(self.begun) / calling,
        };
        let of_calls = limits.concurrent.map_or(Duration::ZERO, |concurrent| self.typical.max(age) / concurrent.max(1));
        pause + of_calls.max(pace) * (self.waiting + 1)
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.0.state().waiting -= 1;
    }
}

impl Drop for Calling {
    fn drop(&mut self) {
        let took = self.since.elapsed();
        let mut now = self.room.state();
        now.calling -= 1;
        let opened = now.opened;
        now.begun = now.begun.saturating_sub(self.since - opened);
        now.typical = if now.typical.is_zero() { took } else { (now.typical * 7 + took) / 8 };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Nothing is known that keeps anybody waiting.
    const NOW: (Duration, Duration) = (Duration::ZERO, Duration::ZERO);

    fn room(limits: Limits) -> Arc<WaitingRoom> {
        WaitingRooms::default().of("p", limits)
    }

    fn concurrent(concurrent: u32) -> Limits {
        Limits { concurrent: Some(concurrent), ..Limits::default() }
    }

    async fn calls_that_take(room: &Arc<WaitingRoom>, seconds: u64) {
        let call = room.call();
        tokio::time::advance(Duration::from_secs(seconds)).await;
        drop(call);
    }

    #[tokio::test(start_paused = true)]
    async fn seats_are_bounded_and_given_back() {
        for (limits, seats) in [
            (Limits { queue: Some(2), ..concurrent(2) }, 2),
            (Limits { queue: Some(0), ..concurrent(2) }, 0),
            (concurrent(2), 16),
            (concurrent(20), 80),
            (Limits::default(), 16),
        ] {
            let room = room(limits);
            let mut taken: Vec<Seat> = (0..seats).map(|_| room.sit_down(None, NOW).unwrap()).collect();
            let fault = room.sit_down(None, NOW).unwrap_err();
            assert_eq!((fault.kind, fault.code.as_deref()), (FaultKind::Throttled, Some("queue_full")));
            assert!(fault.retry_after.is_some() && fault.param.is_none());
            if taken.pop().is_some() {
                taken.push(room.sit_down(None, NOW).unwrap());
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_waits_longer_than_they_may() {
        let room = room(Limits { max_wait_s: 10, ..concurrent(2) });
        calls_that_take(&room, 4).await;
        // A turn every two seconds: the fifth waits ten.
        let _seats: Vec<Seat> = (0..5).map(|_| room.sit_down(None, NOW).unwrap()).collect();
        let fault = room.sit_down(None, NOW).unwrap_err();
        let after = fault.retry_after.unwrap();
        assert!((12.0..=14.4).contains(&after.as_secs_f64()), "{after:?}");
        assert!(fault.message.contains("limits.max_wait_s"), "{}", fault.message);
    }

    #[tokio::test(start_paused = true)]
    async fn who_is_in_a_hurry_is_told_at_once() {
        let room = room(concurrent(1));
        calls_that_take(&room, 4).await;
        let fault = room.sit_down(Some(Duration::from_millis(3900)), NOW).unwrap_err();
        assert_eq!(fault.param.as_deref(), Some("deadline_ms"));
        let seat = room.sit_down(Some(Duration::from_secs(4)), NOW).unwrap();
        assert!(room.sit_down(Some(Duration::from_secs(4)), NOW).is_err(), "one is before it now");
        drop(seat);
    }

    #[tokio::test(start_paused = true)]
    async fn calls_that_hang_are_noticed_before_they_end() {
        let room = room(Limits { max_wait_s: 10, ..concurrent(2) });
        calls_that_take(&room, 1).await;
        let hanging = [room.call(), room.call()];
        drop(room.sit_down(None, NOW).unwrap());
        tokio::time::advance(Duration::from_secs(30)).await;
        assert!(room.sit_down(None, NOW).is_err(), "half of thirty seconds until one of the two is done");
        drop(hanging);
        for _ in 0..20 {
            calls_that_take(&room, 1).await;
        }
        room.sit_down(None, NOW).unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn a_pace_is_a_wait_too() {
        let room = room(Limits { max_wait_s: 3, ..Limits::default() });
        let paced = (Duration::ZERO, Duration::from_secs(1));
        let _seats: Vec<Seat> = (0..3).map(|_| room.sit_down(None, paced).unwrap()).collect();
        assert!(room.sit_down(None, paced).is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn who_would_wait_for_an_account_that_rests_is_told_until_when() {
        let room = room(Limits { max_wait_s: 10, ..Limits::default() });
        let _seat = room.sit_down(None, (Duration::from_secs(9), Duration::ZERO)).unwrap();
        let fault = room.sit_down(None, (Duration::from_secs(40), Duration::ZERO)).unwrap_err();
        assert!((40.0..=48.0).contains(&fault.retry_after.unwrap().as_secs_f64()), "{fault:?}");
    }
}
