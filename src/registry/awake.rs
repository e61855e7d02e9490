//! Time during which the queen ran.
//!
//! Invariant: while she was stopped (a signal, a debugger, a machine without processors to
//! spare) no time passes here: heartbeats that waited for her are not late.

use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

/// How often [`Awake::tick`] is called while she runs.
pub(crate) const TICK: Duration = Duration::from_millis(100);
/// Ticks that are further apart than this show that she was stopped.
const MAX_GAP_MS: i64 = 500;

/// Turns ms of a clock that never steps into ms awake.
#[derive(Debug)]
pub(super) struct Awake {
    /// The last tick; as long as there was none, all time counts.
    ticked_ms: AtomicI64,
    /// What does not count.
    lost_ms: AtomicI64,
}

impl Default for Awake {
    fn default() -> Self {
        Self { ticked_ms: AtomicI64::new(i64::MAX), lost_ms: AtomicI64::new(0) }
    }
}

impl Awake {
    /// ms awake at a moment, also right after a stop and before the next tick.
    pub(super) fn at(&self, monotonic_ms: i64) -> i64 {
        let lost_ms = self.lost_ms.load(Ordering::Acquire);
        monotonic_ms - lost_ms - self.stopped_ms(monotonic_ms)
    }

    /// Shows that she runs.
    pub(super) fn tick(&self, monotonic_ms: i64) {
        // In this order a reader in between takes a stop off twice, and a hive for younger.
        self.lost_ms.fetch_add(self.stopped_ms(monotonic_ms), Ordering::AcqRel);
        self.ticked_ms.store(monotonic_ms, Ordering::Release);
    }

    fn stopped_ms(&self, monotonic_ms: i64) -> i64 {
        let since_tick = monotonic_ms.saturating_sub(self.ticked_ms.load(Ordering::Acquire));
        since_tick.saturating_sub(MAX_GAP_MS).max(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stop_does_not_count() {
        let awake = Awake::default();
        assert_eq!(awake.at(9000), 9000, "not ticking yet");
        awake.tick(9000);
        assert_eq!(awake.at(9500), 9500);
        awake.tick(9400);
        assert_eq!(awake.at(60_000), 9900, "stopped for long, and just running again");
        awake.tick(60_000);
        assert_eq!([60_000, 60_100, 60_500].map(|ms| awake.at(ms)), [9900, 10_000, 10_400]);
    }
}
