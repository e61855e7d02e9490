//! Rates from counters that only grow.

use std::time::Duration;

/// The growth of one counter from reading to reading.
///
/// Invariant: a rate is given only between two readings of the same counter. The first
/// reading has none, and neither has one that is smaller than the one before it: the counter
/// began anew, and the next reading is compared with this one.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Growth {
    last: Option<(u64, Duration)>,
}

impl Growth {
    /// Takes a reading; the growth per second since the reading before.
    pub(super) fn per_s(&mut self, value: u64, at: Duration) -> Option<f64> {
        let (last, last_at) = self.last.replace((value, at))?;
        let grown = value.checked_sub(last)?;
        let elapsed = at.checked_sub(last_at)?;
        (!elapsed.is_zero()).then(|| grown as f64 / elapsed.as_secs_f64())
    }

    /// Takes the last reading for one of this moment; `None` if there is none.
    pub(super) fn stands_still(&mut self, at: Duration) -> Option<f64> {
        let (value, _) = self.last?;
        self.per_s(value, at)
    }

    /// Forgets the last reading.
    pub(super) fn reset(&mut self) {
        self.last = None;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const S: fn(u64) -> Duration = Duration::from_secs;

    #[test]
    fn only_two_readings_make_a_rate() {
        let mut growth = Growth::default();
        assert_eq!(growth.per_s(100, S(1)), None);
        assert_eq!(growth.per_s(300, S(3)), Some(100.0));
        assert_eq!(growth.per_s(50, S(4)), None, "the counter began anew");
        assert_eq!(growth.per_s(60, S(5)), Some(10.0));
        assert_eq!(growth.per_s(70, S(5)), None, "no time has passed");
        assert_eq!(growth.stands_still(S(9)), Some(0.0));
        assert_eq!(growth.per_s(80, S(10)), Some(10.0), "of the last second");
        growth.reset();
        assert_eq!(growth.stands_still(S(11)), None);
        assert_eq!(growth.per_s(80, S(12)), None);
    }

    proptest! {
        #[test]
        fn a_rate_is_never_negative_or_infinite(readings: Vec<(u64, u32)>) {
            let mut growth = Growth::default();
            for (value, at) in readings {
                if let Some(rate) = growth.per_s(value, Duration::from_nanos(at.into())) {
                    prop_assert!(rate.is_finite() && rate >= 0.0);
                }
            }
        }
    }
}
