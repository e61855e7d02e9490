//! How long to wait before the next try.

use std::time::Duration;

const FIRST: Duration = Duration::from_millis(250);
const LONGEST: Duration = Duration::from_secs(30);
/// A queen may ask for a longer wait than ours, but not for more than this.
const LONGEST_ASKED_FOR: Duration = Duration::from_secs(300);

/// Waits that double from 0.25 s to 30 s. Each is shortened by chance by up to a half, so that
/// the agents of a fleet do not come back all at once.
#[derive(Debug, Default)]
pub(super) struct Backoff {
    failures: u32,
}

impl Backoff {
    /// The wait of the present after the queen has said when to try again: she is there, shows what
    /// she cannot store, and sets the pace. A fleet of refused agents asks no more than one of
    /// accepted ones.
    pub(super) fn asked(wait: Duration) -> Duration {
        let wait = wait.clamp(FIRST, LONGEST_ASKED_FOR);
        wait.mul_f64(1.0 + fastrand::f64() / 4.0)
    }

    /// The wait after one more failure, at least what the queen asked for.
    pub(super) fn next(&mut self, asked_for: Option<Duration>) -> Duration {
        let wait = FIRST.saturating_mul(1 << self.failures.min(16)).min(LONGEST);
        self.failures = self.failures.saturating_add(1);
        let wait = wait.mul_f64(0.5 + fastrand::f64() / 2.0);
        let asked_for = asked_for.unwrap_or_default().min(LONGEST_ASKED_FOR);
        wait.max(asked_for.mul_f64(1.0 + fastrand::f64() / 4.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_to_the_longest() {
        let mut backoff = Backoff::default();
        for n in 0..100 {
            let full = FIRST.saturating_mul(1 << n.min(10)).min(LONGEST);
            let wait = backoff.next(None);
            assert!(wait >= full / 2 && wait <= full, "{n}: {wait:?}");
        }
    }

    #[test]
    fn the_queen_sets_the_pace_of_the_present() {
        let s = Duration::from_secs;
        for _ in 0..100 {
            assert!((s(1)..=s(1) * 5 / 4).contains(&Backoff::asked(s(1))));
            assert!((FIRST..FIRST * 2).contains(&Backoff::asked(Duration::ZERO)));
            assert!(Backoff::asked(s(1_000_000)) <= LONGEST_ASKED_FOR * 5 / 4);
        }
    }

    #[test]
    fn the_queen_can_ask_for_more() {
        let s = Duration::from_secs;
        let wait = Backoff::default().next(Some(s(5)));
        assert!(wait >= s(5) && wait <= s(7), "{wait:?}");
        let wait = Backoff::default().next(Some(s(1_000_000)));
        assert!(wait <= LONGEST_ASKED_FOR * 5 / 4, "{wait:?}");
    }
}
