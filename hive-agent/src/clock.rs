//! The three times a collector needs, behind one trait, so that tests can move them.
//!
//! Invariant: rates are computed from the monotonic time only; the wall clock names the
//! moment of a reading and nothing else.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use hive_contract::Timestamp;
use rustix::time::{ClockId, Timespec, clock_gettime};

/// What time it is, in three senses.
pub trait Clock: Send + Sync {
    /// The moment by the wall clock, which people set and which may jump.
    fn wall(&self) -> Timestamp;
    /// Time that only grows and never jumps; it stands still while the machine is suspended.
    fn monotonic(&self) -> Duration;
    /// Time since the machine started, as the start times in `/proc` count it.
    fn since_boot(&self) -> Duration;
}

/// The clocks of this machine.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "the one place that reads the wall clock")]
    fn wall(&self) -> Timestamp {
        // A machine whose clock stands before 1970 or after 9999 reports the epoch.
        let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        i64::try_from(since_epoch.as_millis())
            .ok()
            .and_then(Timestamp::from_millis)
            .or_else(|| Timestamp::from_millis(0))
            .expect("the epoch is a moment")
    }

    fn monotonic(&self) -> Duration {
        duration(clock_gettime(ClockId::Monotonic))
    }

    fn since_boot(&self) -> Duration {
        duration(clock_gettime(ClockId::Boottime))
    }
}

/// The kernel's form of a duration, as Rust's.
pub(crate) fn duration(time: Timespec) -> Duration {
    let whole = Duration::from_secs(u64::try_from(time.tv_sec).unwrap_or(0));
    whole + Duration::from_nanos(u64::try_from(time.tv_nsec).unwrap_or(0))
}

#[cfg(test)]
pub(crate) mod tests {
    use std::sync::Mutex;

    use super::*;

    /// A clock that moves only when it is told to.
    pub(crate) struct ManualClock(Mutex<Duration>);

    impl ManualClock {
        pub(crate) fn at_s(seconds: u64) -> Self {
            Self(Mutex::new(Duration::from_secs(seconds)))
        }

        pub(crate) fn advance(&self, by: Duration) {
            *self.0.lock().unwrap() += by;
        }
    }

    impl Clock for ManualClock {
        fn wall(&self) -> Timestamp {
            let millis = self.0.lock().unwrap().as_millis();
            Timestamp::from_millis(1_761_849_000_000 + i64::try_from(millis).unwrap()).unwrap()
        }
        fn monotonic(&self) -> Duration {
            *self.0.lock().unwrap()
        }
        fn since_boot(&self) -> Duration {
            *self.0.lock().unwrap()
        }
    }

    #[test]
    fn the_system_clocks_run() {
        let clock = SystemClock;
        assert!(clock.wall().millis() > 1_700_000_000_000);
        let monotonic = clock.monotonic();
        assert!(clock.since_boot() >= monotonic, "the time in suspension comes on top");
        let before = clock.monotonic();
        assert!(clock.monotonic() >= before);
    }
}
