//! Where a thread that reads GPUs and the thread that collects meet.
//!
//! Invariant: neither ever waits for the other to do something. The lock is held to copy a few
//! words only, never during a call into a driver.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

use super::reading::Reading;
use crate::clock::{Clock, duration};

/// The newest reading, and when the next one is wanted.
pub(super) struct Board {
    clock: Arc<dyn Clock>,
    inner: Mutex<Inner>,
    changed: Condvar,
}

#[derive(Default)]
struct Inner {
    latest: Option<Latest>,
    order: Option<Order>,
    /// When the first order was due that is not answered yet.
    unanswered: Option<Duration>,
    /// How long the last reading took.
    took: Duration,
    /// The processor time that all readings took.
    cpu_time: Duration,
    is_closed: bool,
}

/// A reading and the moment at which it was begun.
#[derive(Clone)]
pub(super) struct Latest {
    pub(super) reading: Arc<Reading>,
    pub(super) at: Duration,
}

/// What a reading is to be made for.
#[derive(Clone)]
pub(super) struct Order {
    due: Duration,
    /// The workers' processes, in ascending order.
    pub(super) pids: Arc<[u32]>,
}

impl Board {
    pub(super) fn new(clock: Arc<dyn Clock>) -> Self {
        Self { clock, inner: Mutex::default(), changed: Condvar::new() }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // What is written under the lock is written at once, so it is whole after a panic too.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The time by the clock that readings are stamped with.
    pub(super) fn now(&self) -> Duration {
        self.clock.monotonic()
    }

    /// Waits until a reading is due; `None` when there is nobody left to read for.
    pub(super) fn next(&self) -> Option<Order> {
        let mut inner = self.lock();
        loop {
            if inner.is_closed {
                return None;
            }
            let now = self.now();
            inner = match inner.order.take_if(|order| order.due <= now) {
                Some(order) => return Some(order),
                None => match &inner.order {
                    None => self.changed.wait(inner).unwrap_or_else(PoisonError::into_inner),
                    Some(order) => {
                        let wait = order.due.saturating_sub(now);
                        let woken = self.changed.wait_timeout(inner, wait);
                        woken.unwrap_or_else(PoisonError::into_inner).0
                    }
                },
            };
        }
    }

    /// Publishes a reading that was begun at a moment. Call it on the thread that reads.
    pub(super) fn publish(&self, reading: Arc<Reading>, at: Duration) {
        let took = self.now().saturating_sub(at);
        let cpu_time = duration(clock_gettime(ClockId::ThreadCPUTime));
        let mut inner = self.lock();
        inner.cpu_time = cpu_time;
        inner.latest = Some(Latest { reading, at });
        inner.took = took;
        inner.unanswered = None;
        drop(inner);
        self.changed.notify_all();
    }

    /// The newest reading.
    pub(super) fn latest(&self) -> Option<Latest> {
        self.lock().latest.clone()
    }

    /// When the first order was due that is not answered yet.
    pub(super) fn unanswered(&self) -> Option<Duration> {
        self.lock().unanswered
    }

    /// The processor time of the thread that reads.
    pub(super) fn cpu_time(&self) -> Duration {
        self.lock().cpu_time
    }

    /// Orders a reading that is ready, as far as that can be foreseen, shortly before `needed`;
    /// at once without that.
    pub(super) fn order(&self, pids: Arc<[u32]>, now: Duration, needed: Option<Duration>) {
        let mut inner = self.lock();
        let due = needed.map_or(now, |needed| {
            let lead = (inner.took * 2 + LEAD).min(needed.saturating_sub(now) / 2);
            needed.saturating_sub(lead)
        });
        inner.unanswered.get_or_insert(due);
        inner.order = Some(Order { due, pids });
        drop(inner);
        self.changed.notify_all();
    }

    /// Waits for the first reading, but not longer than the limit.
    pub(super) fn wait_for_first(&self, limit: Duration) {
        let is_missing = |inner: &mut Inner| inner.latest.is_none();
        drop(self.changed.wait_timeout_while(self.lock(), limit, is_missing));
    }

    /// The reading that was begun at a moment, once it is there.
    #[cfg(test)]
    pub(super) fn wait_for(&self, at: Duration) -> Arc<Reading> {
        let is_missing = |inner: &mut Inner| inner.latest.as_ref().is_none_or(|l| l.at != at);
        let waited =
            self.changed.wait_timeout_while(self.lock(), Duration::from_secs(30), is_missing);
        let (inner, timeout) = waited.unwrap();
        assert!(!timeout.timed_out(), "there is no reading");
        Arc::clone(&inner.latest.as_ref().unwrap().reading)
    }

    /// Lets the reading thread end, as soon as it comes back from the driver.
    pub(super) fn close(&self) {
        self.lock().is_closed = true;
        self.changed.notify_all();
    }
}

/// So long before it is needed, a reading is begun at the latest.
const LEAD: Duration = Duration::from_millis(20);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::tests::ManualClock;

    const S: fn(u64) -> Duration = Duration::from_secs;

    #[test]
    fn a_reading_is_due_shortly_before_it_is_needed() {
        let clock = Arc::new(ManualClock::at_s(100));
        let board = Board::new(Arc::<ManualClock>::clone(&clock));
        let due = |board: &Board| board.lock().order.as_ref().unwrap().due;
        board.order([].into(), S(100), None);
        assert_eq!(due(&board), S(100));
        assert!(board.next().is_some());
        board.order([].into(), S(100), Some(S(101)));
        assert_eq!(due(&board), S(101) - LEAD);
        // One that took 0.1 s is begun that much earlier, one that took long half-way.
        clock.advance(Duration::from_millis(100));
        board.publish(Arc::default(), S(100));
        board.order([].into(), S(100), Some(S(101)));
        assert_eq!(due(&board), S(101) - LEAD - Duration::from_millis(200));
        clock.advance(S(9));
        board.publish(Arc::default(), S(100));
        board.order([].into(), S(110), Some(S(112)));
        assert_eq!(due(&board), S(111));
        // A driver that hangs is not excused by further orders, but by its answer.
        board.order([].into(), S(112), Some(S(113)));
        assert_eq!(board.unanswered(), Some(S(111)));
        board.publish(Arc::default(), S(109));
        assert_eq!(board.unanswered(), None);
    }

    #[test]
    fn a_closed_board_wants_nothing_more() {
        let board = Board::new(Arc::new(ManualClock::at_s(100)));
        board.order([].into(), S(100), None);
        board.close();
        assert!(board.next().is_none());
    }
}
