//! The moments at which to collect.

use std::time::Duration;

/// Ticks at whole multiples of the interval after the start, so that they never drift. Ticks
/// that were missed are left out: nothing is collected twice to catch up.
pub(super) struct Ticks {
    start: Duration,
    interval: Duration,
    /// The tick that is being served, counted from 0.
    current: u128,
}

impl Ticks {
    pub(super) fn new(start: Duration, interval: Duration) -> Self {
        Self { start, interval, current: 0 }
    }

    /// How long to wait for the next tick.
    pub(super) fn wait(&mut self, now: Duration) -> Duration {
        let elapsed = now.saturating_sub(self.start).as_nanos();
        let interval = self.interval.as_nanos().max(1);
        self.current = (self.current + 1).max(elapsed / interval + 1);
        let until_next = (self.current * interval).saturating_sub(elapsed);
        Duration::from_nanos(u64::try_from(until_next).unwrap_or(u64::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_do_not_drift_and_do_not_bunch() {
        let ms = Duration::from_millis;
        let mut ticks = Ticks::new(ms(5000), ms(1000));
        assert_eq!(ticks.wait(ms(5003)), ms(997));
        assert_eq!(ticks.wait(ms(6007)), ms(993));
        assert_eq!(ticks.wait(ms(9400)), ms(600), "two were missed");
        assert_eq!(ticks.wait(ms(10_000)), ms(1000));
        // Woken a moment too early: the same tick is not served twice.
        assert_eq!(ticks.wait(ms(10_999)), ms(1001));
    }
}
