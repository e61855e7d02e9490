//! The heartbeats that are not acknowledged yet, between collecting and sending.
//!
//! Invariant: a heartbeat leaves only when the queen has acknowledged or refused it, or as the
//! oldest one when a bound is reached, and then it is counted. Putting one in never waits.

use std::collections::VecDeque;
use std::ops::RangeInclusive;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use hive_contract::Timestamp;
use tokio::sync::Notify;

/// What one entry takes beside its JSON.
const ENTRY_BYTES: u64 = 64;

/// The bounds of a spool: whichever is reached first, the oldest heartbeats go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Size of all heartbeats together.
    pub bytes: u64,
    /// Age of the oldest one.
    pub age: Duration,
}

impl Default for Limits {
    /// 16 MiB, which is some hours of a hive of ten workers, and 24 h.
    fn default() -> Self {
        Self { bytes: 16 << 20, age: Duration::from_secs(24 * 60 * 60) }
    }
}

/// One heartbeat that waits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Entry {
    /// Its place in the order of collection.
    pub(crate) number: u64,
    pub(crate) timestamp: Timestamp,
    pub(crate) json: Bytes,
}

/// The queue itself: the collecting thread puts in, the sending task takes out.
pub(crate) struct Spool {
    limits: Limits,
    // A std mutex: it is held for moments, and never across an await.
    queue: Mutex<Queue>,
    filled: Notify,
}

#[derive(Default)]
struct Queue {
    /// Oldest first, numbers ascending.
    entries: VecDeque<Entry>,
    bytes: u64,
    next_number: u64,
    dropped: u64,
}

impl Spool {
    pub(crate) fn new(limits: Limits) -> Self {
        Self { limits, queue: Mutex::default(), filled: Notify::new() }
    }

    /// Puts a heartbeat in; drops the oldest ones if a bound is reached.
    pub(crate) fn push(&self, timestamp: Timestamp, json: Bytes) {
        let mut queue = self.queue();
        let number = queue.next_number;
        queue.next_number += 1;
        queue.bytes += size(&json);
        queue.entries.push_back(Entry { number, timestamp, json });
        let is_too_old = |entry: &Entry| {
            let age_ms = u64::try_from(timestamp.millis_since(entry.timestamp)).unwrap_or(0);
            Duration::from_millis(age_ms) > self.limits.age
        };
        while let Some(oldest) = queue.entries.front() {
            if queue.bytes <= self.limits.bytes && !is_too_old(oldest) {
                break;
            }
            queue.bytes -= size(&oldest.json);
            queue.dropped += 1;
            queue.entries.pop_front();
        }
        drop(queue);
        self.filled.notify_one();
    }

    /// Waits until something was put in since the last wait.
    pub(crate) async fn filled(&self) {
        self.filled.notified().await;
    }

    /// The newest heartbeat; it stays in.
    pub(crate) fn newest(&self) -> Option<Entry> {
        self.queue().entries.back().cloned()
    }

    /// The oldest heartbeats, in order, at most so many and so large together, but at least
    /// one if there is any; they stay in.
    pub(crate) fn oldest(&self, max_lines: usize, max_bytes: usize) -> Vec<Entry> {
        let queue = self.queue();
        let mut bytes = 0;
        let fits = |(index, entry): &(usize, &Entry)| {
            bytes += entry.json.len() + 1;
            *index == 0 || (*index < max_lines && bytes <= max_bytes)
        };
        queue.entries.iter().enumerate().take_while(fits).map(|(_, entry)| entry.clone()).collect()
    }

    /// Takes out what was acknowledged or refused. What was dropped meanwhile is not there.
    pub(crate) fn remove(&self, numbers: RangeInclusive<u64>) {
        let mut queue = self.queue();
        let start = queue.entries.partition_point(|entry| entry.number < *numbers.start());
        let end = queue.entries.partition_point(|entry| entry.number <= *numbers.end());
        let removed: u64 = queue.entries.drain(start..end).map(|entry| size(&entry.json)).sum();
        queue.bytes -= removed;
        // An outage may have made it large; in quiet times it takes no room.
        if queue.entries.capacity() > 64 && queue.entries.len() * 4 < queue.entries.capacity() {
            queue.entries.shrink_to_fit();
        }
    }

    /// How many heartbeats wait.
    pub(crate) fn len(&self) -> usize {
        self.queue().entries.len()
    }

    /// How many heartbeats were dropped because a bound was reached.
    pub(crate) fn dropped(&self) -> u64 {
        self.queue().dropped
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        // No code that could panic runs while it is held half-changed.
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn size(json: &Bytes) -> u64 {
    json.len() as u64 + ENTRY_BYTES
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_millis(1_761_849_000_000 + second * 1000).unwrap()
    }

    fn numbers(entries: &[Entry]) -> Vec<u64> {
        entries.iter().map(|entry| entry.number).collect()
    }

    fn spool(bytes: u64, age_s: u64) -> Spool {
        Spool::new(Limits { bytes, age: Duration::from_secs(age_s) })
    }

    #[test]
    fn the_oldest_go_when_it_is_full() {
        let spool = spool(3 * (10 + ENTRY_BYTES), 1000);
        for second in 0..5 {
            spool.push(at(second), Bytes::from_static(b"0123456789"));
        }
        assert_eq!(numbers(&spool.oldest(10, 1000)), [2, 3, 4]);
        assert_eq!((spool.len(), spool.dropped()), (3, 2));
        spool.push(at(6), Bytes::from(vec![b'x'; 1000]));
        assert_eq!((spool.len(), spool.dropped()), (0, 6), "it alone is larger than the bound");
    }

    #[test]
    fn what_is_too_old_goes_and_a_clock_set_back_drops_nothing() {
        let spool = spool(1 << 20, 10);
        for second in [0, 5, 12, 3] {
            spool.push(at(second), Bytes::from_static(b"{}"));
        }
        assert_eq!(numbers(&spool.oldest(10, 1000)), [1, 2, 3]);
    }

    #[test]
    fn a_batch_is_bounded_and_never_empty() {
        let spool = spool(1 << 20, 1000);
        for second in 0..10 {
            spool.push(at(second), Bytes::from_static(b"0123456789"));
        }
        assert_eq!(numbers(&spool.oldest(3, 1000)), [0, 1, 2]);
        assert_eq!(numbers(&spool.oldest(100, 25)), [0, 1]);
        assert_eq!(numbers(&spool.oldest(100, 0)), [0]);
        assert_eq!(spool.newest().unwrap().number, 9);
        spool.remove(9..=9);
        spool.remove(0..=3);
        assert_eq!(numbers(&spool.oldest(100, 1000)), [4, 5, 6, 7, 8]);
    }

    proptest! {
        #[test]
        fn the_bounds_hold_and_nothing_is_lost_uncounted(
            steps in prop::collection::vec((0_usize..200, 0_u64..60, 0_u64..5), 0..80),
        ) {
            let spool = spool(1000, 1000);
            let (mut pushed, mut removed) = (0, 0);
            for (length, first, span) in steps {
                spool.push(at(0), Bytes::from(vec![b'x'; length]));
                pushed += 1;
                let before = spool.len();
                spool.remove(first..=first + span);
                removed += before - spool.len();
                prop_assert!(spool.queue().bytes <= 1000);
                let held: u64 = spool.queue().entries.iter().map(|entry| size(&entry.json)).sum();
                prop_assert_eq!(spool.queue().bytes, held);
                prop_assert_eq!(spool.len() + removed + spool.dropped() as usize, pushed);
            }
        }
    }
}
