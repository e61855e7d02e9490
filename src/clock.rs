//! Time as an argument: the one place that asks the system for it.

use std::time::Instant;

use hive_contract::Timestamp;

/// The wall clock, and a clock that never steps.
#[derive(Debug, Clone, Copy)]
pub struct Clock {
    started: Instant,
}

impl Clock {
    /// The system's clocks.
    #[must_use]
    pub fn system() -> Self {
        Self { started: Instant::now() }
    }

    /// Microseconds since the epoch, by the wall clock.
    #[must_use]
    #[expect(clippy::disallowed_methods, reason = "this is the clock that the others ask")]
    pub fn micros(&self) -> i64 {
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
        i64::try_from(self.started.elapsed().as_millis()).unwrap_or(i64::MAX)
    }
}

/// The moment that a heartbeat id stands for: that of its receipt.
#[must_use]
pub fn moment(id_micros: i64) -> Timestamp {
    Timestamp::from_millis(id_micros / 1000)
        .or(Timestamp::from_millis(0))
        .expect("the epoch is a timestamp")
}
