//! Ids of what is recorded: heartbeats, and events between them.
//!
//! Invariant: ids only grow, also across restarts: microseconds since the epoch, and at least
//! one more than the last.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use crate::clock::Clock;

/// Gives ids to the writer. Others only see the last one.
#[derive(Debug, Clone)]
pub(super) struct Ids {
    clock: Clock,
    last: Arc<AtomicI64>,
}

impl Ids {
    /// Goes on after `last`.
    pub(super) fn after(last: i64, clock: Clock) -> Self {
        Self { clock, last: Arc::new(AtomicI64::new(last)) }
    }

    /// The next one.
    pub(super) fn next(&self) -> i64 {
        let id = self.clock.micros().max(self.last() + 1);
        self.last.store(id, Ordering::Relaxed);
        id
    }

    /// The last one that was given.
    pub(super) fn last(&self) -> i64 {
        self.last.load(Ordering::Relaxed)
    }
}
