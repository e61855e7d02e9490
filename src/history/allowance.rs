//! How much that is new each hive may bring: names of workers and GPUs, descriptions, and events.
//! All of that is kept for years, and whoever reads the history looks through the names.
//!
//! Invariant: what hives bring grows by [`PER_S`] for each of them in the long run. One that
//! brought too much waits with what is new until that is made up for; what names only what its
//! last heartbeat named is taken.

use std::collections::HashMap;

/// So much may come at once: every worker of a full hive, restarted a dozen times.
const AT_ONCE: i64 = 65_536;
/// So much may come in each second: more than a worker brings that crashes before every reading.
const PER_S: i64 = 10;

/// What each hive has brought beyond what it may every second.
#[derive(Debug, Default)]
pub(super) struct Allowances(HashMap<i64, Spent>);

/// So much beyond, as of a moment in ms.
#[derive(Debug, Clone, Copy)]
struct Spent {
    beyond: i64,
    at_ms: i64,
}

impl Spent {
    fn at(self, now_ms: i64) -> i64 {
        let passed = (now_ms - self.at_ms).max(0);
        (self.beyond - passed.saturating_mul(PER_S) / 1000).max(0)
    }
}

impl Allowances {
    /// A hive brought so much.
    pub(super) fn spend(&mut self, hive: i64, amount: usize, now_ms: i64) {
        if amount == 0 {
            return;
        }
        let amount = i64::try_from(amount).unwrap_or(i64::MAX);
        let spent = self.0.entry(hive).or_insert(Spent { beyond: 0, at_ms: now_ms });
        let beyond = spent.at(now_ms).saturating_add(amount);
        *spent = Spent { beyond, at_ms: now_ms };
    }

    /// Whether a hive has brought more than it may.
    pub(super) fn is_overdrawn(&self, hive: i64, now_ms: i64) -> bool {
        self.0.get(&hive).is_some_and(|spent| spent.at(now_ms) > AT_ONCE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_too_much_is_made_up_for_by_waiting() {
        let mut allowances = Allowances::default();
        allowances.spend(1, AT_ONCE as usize, 0);
        assert!(!allowances.is_overdrawn(1, 0));
        allowances.spend(1, 100, 0);
        assert!(allowances.is_overdrawn(1, 0) && !allowances.is_overdrawn(2, 0));
        assert!(allowances.is_overdrawn(1, 9_900) && !allowances.is_overdrawn(1, 10_000));
        // A clock that is set back takes nothing away.
        allowances.spend(1, 1, -1_000_000);
        assert!(allowances.is_overdrawn(1, -1_000_000));
    }

    #[test]
    fn a_worker_that_crashes_before_every_reading_is_no_reason_to_wait() {
        let mut allowances = Allowances::default();
        for second in 0..24 * 3600 {
            // A run, its exit and its start.
            allowances.spend(1, 3, second * 1000);
            assert!(!allowances.is_overdrawn(1, second * 1000));
        }
    }

    #[test]
    fn what_hives_bring_grows_slowly_in_the_long_run() {
        let mut allowances = Allowances::default();
        let mut taken = 0;
        for second in 0..24 * 3600 {
            if !allowances.is_overdrawn(1, second * 1000) {
                allowances.spend(1, 3 * 1024, second * 1000);
                taken += 3 * 1024;
            }
        }
        assert!(taken < AT_ONCE + PER_S * 24 * 3600 + 3 * 1024, "{taken}");
    }
}
