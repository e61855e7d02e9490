//! When a hive counts as live, stale or offline.
//!
//! Invariant: it is judged by when the queen last heard of it, whatever its clock says, and by
//! its age at the moment of asking.

use std::time::Duration;

use serde::Serialize;

/// How recently a hive was heard.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// Recently enough to be scheduled.
    Live,
    /// A few heartbeats are missing, or it comes and goes and must first be heard steadily.
    Stale,
    /// Silent for long; still readable.
    Offline,
}

/// When a hive counts as live, stale or offline, in multiples of its heartbeat interval.
#[derive(Debug, Clone, Copy)]
pub struct Liveness {
    /// Up to this many intervals it is live.
    pub live_intervals: u32,
    /// Up to this many intervals it is stale.
    pub stale_intervals: u32,
}

impl Default for Liveness {
    fn default() -> Self {
        Self { live_intervals: 5, stale_intervals: 30 }
    }
}

/// Intervals are taken as at least this: no hive goes offline within a second.
const MIN_INTERVAL: Duration = Duration::from_secs(1);
/// Intervals are taken as at most this: a hive that claims more is still seen to go.
const MAX_INTERVAL: Duration = Duration::from_secs(60);
/// A silence is forgotten after this time.
const MEMORY_MS: i64 = 600_000;
/// A hive that comes and goes is never held back for longer than this.
const MAX_HOLD_MS: i64 = 60_000;

/// For how long one hive is live and stale after it was heard, in ms.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Windows {
    pub(super) live_ms: i64,
    pub(super) stale_ms: i64,
}

impl Windows {
    /// Those of a hive that sends every so often; every second if it does not say.
    pub(super) fn of(liveness: Liveness, interval: Option<Duration>) -> Self {
        let interval = interval.unwrap_or(MIN_INTERVAL).clamp(MIN_INTERVAL, MAX_INTERVAL);
        let ms = |intervals: u32| i64::try_from((interval * intervals).as_millis());
        Self {
            live_ms: ms(liveness.live_intervals).unwrap_or(i64::MAX),
            stale_ms: ms(liveness.stale_intervals).unwrap_or(i64::MAX),
        }
    }
}

/// How steadily one hive is heard. One that comes and goes would take requests with it each
/// time that it goes: after its second silence within ten minutes it is trusted again only once
/// it was heard for as long as a live window, and twice as long after each further one, a
/// minute at most.
///
/// Times are ms by a clock that never steps.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Steadiness {
    /// Silences that are remembered.
    silences: u32,
    /// When the last of them ended.
    returned_ms: i64,
    /// From when on it is trusted.
    pub(super) trusted_ms: i64,
}

impl Steadiness {
    /// After it was heard again, `gap_ms` after the last time.
    pub(super) fn heard(self, now_ms: i64, gap_ms: i64, live_ms: i64) -> Self {
        if gap_ms <= live_ms {
            return self;
        }
        let silences = self.silences(now_ms - gap_ms) + 1;
        let hold_ms = match silences {
            1 => 0,
            n => live_ms.saturating_mul(1 << (n - 2).min(16)).min(MAX_HOLD_MS),
        };
        Self { silences, returned_ms: now_ms, trusted_ms: now_ms + hold_ms }
    }

    /// How many silences are remembered now.
    pub(super) fn silences(self, now_ms: i64) -> u32 {
        if now_ms - self.returned_ms > MEMORY_MS { 0 } else { self.silences }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIVE_MS: i64 = 5000;

    /// When a hive that is silent before each of these moments is trusted, after each.
    fn holds(returns: &[i64]) -> Vec<i64> {
        let mut steadiness = Steadiness::default();
        let hold = |&at| {
            steadiness = steadiness.heard(at, LIVE_MS + 1, LIVE_MS);
            steadiness.trusted_ms - at
        };
        returns.iter().map(hold).collect()
    }

    #[test]
    fn one_silence_is_forgiven_and_more_are_not() {
        let every_20_s: Vec<i64> = (1..=7).map(|n| n * 20_000).collect();
        assert_eq!(holds(&every_20_s), [0, 5000, 10_000, 20_000, 40_000, 60_000, 60_000]);
    }

    #[test]
    fn a_silence_is_forgotten() {
        assert_eq!(holds(&[0, 605_001, 700_000, 1_305_000]), [0, 5000, 10_000, 20_000]);
        assert_eq!(holds(&[0, 605_002]), [0, 0]);
    }

    #[test]
    fn a_heartbeat_in_time_changes_nothing() {
        let steadiness = Steadiness::default().heard(9000, LIVE_MS + 1, LIVE_MS);
        assert_eq!(steadiness.heard(14_000, LIVE_MS, LIVE_MS), steadiness);
    }

    #[test]
    fn intervals_are_kept_within_reason() {
        let windows = |ms| Windows::of(Liveness::default(), Some(Duration::from_millis(ms)));
        let of = |live_ms, stale_ms| Windows { live_ms, stale_ms };
        assert_eq!(windows(0), of(5000, 30_000));
        assert_eq!(windows(2500), of(12_500, 75_000));
        assert_eq!(windows(u64::MAX / 2), of(300_000, 1_800_000));
        assert_eq!(Windows::of(Liveness::default(), None), of(5000, 30_000));
    }
}
