//! Time as an argument: the one place that asks the system for it.

use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Instant;

use hive_contract::Timestamp;

/// The wall clock, and a clock that never steps.
#[derive(Debug, Clone, Copy)]
pub struct Clock(Source);

#[derive(Debug, Clone, Copy)]
enum Source {
    System { started: Instant },
    Manual { micros: &'static AtomicI64 },
}

impl Clock {
    /// The system's clocks.
    #[must_use]
    pub fn system() -> Self {
        Self(Source::System { started: Instant::now() })
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

    /// Milliseconds since some moment in the past, never stepping back or forth.
    #[must_use]
    pub fn monotonic_ms(&self) -> i64 {
        match self.0 {
            Source::System { started } => {
                i64::try_from(started.elapsed().as_millis()).unwrap_or(i64::MAX)
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
