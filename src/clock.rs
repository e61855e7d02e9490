//! Time as an argument: the one place that asks the system for it.

use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Instant;

use hive_contract::Timestamp;

/// Between two looks at the clock that are further apart than this the process did not run: it
/// was stopped, or the machine slept or was overwhelmed. A running queen looks every second.
const PAUSE_MS: i64 = 3000;

/// The wall clock, and a clock that never steps and stands still while the process does.
#[derive(Debug, Clone, Copy)]
pub struct Clock(Source);

#[derive(Debug, Clone, Copy)]
enum Source {
    System { started: Instant, pauses: &'static Pauses },
    Manual { micros: &'static AtomicI64 },
}

/// When the process did not run.
#[derive(Debug, Default)]
struct Pauses {
    /// The last look at the clock, in milliseconds since the start.
    last_ms: AtomicI64,
    /// All pauses together.
    total_ms: AtomicI64,
}

impl Pauses {
    /// Milliseconds since the start without the pauses.
    fn awake_ms(&self, now_ms: i64) -> i64 {
        // Of those who look at the same time one sees how long nobody looked.
        let last_ms = self.last_ms.fetch_max(now_ms, Ordering::AcqRel);
        if now_ms - last_ms > PAUSE_MS {
            self.total_ms.fetch_add(now_ms - last_ms, Ordering::AcqRel);
        }
        now_ms - self.total_ms.load(Ordering::Acquire)
    }
}

impl Clock {
    /// The system's clocks. One serves the whole process: what it keeps is never given back.
    #[must_use]
    pub fn system() -> Self {
        Self(Source::System { started: Instant::now(), pauses: Box::leak(Box::default()) })
    }

    /// Both clocks as somebody sets them, in microseconds since the epoch: for what must not
    /// take as long as it lasts, tests and simulations.
    #[must_use]
    pub fn manual(micros: &'static AtomicI64) -> Self {
        Self(Source::Manual { micros })
    }

    /// Microseconds since the epoch, by the wall clock.
    #[must_use]
    #[expect(clippy::disallowed_methods, reason = "this is the clock that the others ask")]
    pub fn micros(&self) -> i64 {
        if let Source::Manual { micros } = self.0 {
            return micros.load(Ordering::Relaxed);
        }
        let since_epoch = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        // A clock before 1970 reads as 1970: everything is then refused as skewed, nothing breaks.
        since_epoch.map_or(0, |d| i64::try_from(d.as_micros()).unwrap_or(i64::MAX))
    }

    /// Now, by the wall clock.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        moment(self.micros())
    }

    /// Milliseconds since some moment in the past, never stepping back or forth. It stands still
    /// while the process does, so that nobody who reports all the time seems silent after it.
    #[must_use]
    pub fn monotonic_ms(&self) -> i64 {
        match self.0 {
            Source::System { started, pauses } => {
                let now_ms = i64::try_from(started.elapsed().as_millis()).unwrap_or(i64::MAX);
                pauses.awake_ms(now_ms)
            }
            Source::Manual { micros } => micros.load(Ordering::Relaxed) / 1000,
        }
    }
}

/// The moment that a heartbeat id stands for: that of its receipt.
#[must_use]
pub fn moment(id_micros: i64) -> Timestamp {
    Timestamp::from_millis(id_micros / 1000)
        .or(Timestamp::from_millis(0))
        .expect("the epoch is a timestamp")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pause_takes_no_time() {
        let pauses = Pauses::default();
        assert_eq!([0, 1000, 4000].map(|now| pauses.awake_ms(now)), [0, 1000, 4000]);
        assert_eq!([64_001, 65_000].map(|now| pauses.awake_ms(now)), [4000, 4999]);
        assert_eq!(pauses.awake_ms(64_500), 4499, "a look that was overtaken");
    }
}
