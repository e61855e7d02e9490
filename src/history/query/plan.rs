//! Which part of a range is read from which sums.
//!
//! Invariant: the segments of a plan cover the range once. Each reading is counted in exactly
//! one of them, and a bucket that is only partly in the range gets its border from single
//! readings.
//!
//! Where the single readings are gone, a minute's sums count where the minute begins; where
//! the minutes are gone too, an hour's count where the hour begins.

use super::grid::Grid;
use super::request::Resolution;
use crate::history::rollup::{HOUR_MS, MINUTE_MS};

/// What the history still has. Times are ms since the epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Extent {
    /// Hours before this stand in the sums by hour.
    pub(super) rolled_ts: i64,
    /// From here on the sums by minute are whole.
    pub(super) minutes_from: i64,
    /// Some single readings of the range are gone.
    pub(super) raw_missing: bool,
}

impl Extent {
    /// Before this only sums by hour are left.
    fn hours_until(&self) -> i64 {
        let from = self.minutes_from.min(self.rolled_ts);
        up(from, HOUR_MS).min(self.rolled_ts)
    }

    /// The narrowest bucket that everything from `start` on can be cut into.
    pub(super) fn least_step(&self, start: i64) -> i64 {
        if start < self.hours_until() {
            HOUR_MS
        } else if self.raw_missing {
            MINUTE_MS
        } else {
            1
        }
    }

    /// Whether every reading from `start` on is there.
    pub(super) fn has_all_raw(&self, start: i64) -> bool {
        self.least_step(start) == 1
    }
}

/// A part of the range, `from..to`, and what is read for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Segment {
    pub(super) from: i64,
    pub(super) to: i64,
    pub(super) tier: Resolution,
}

fn up(ts: i64, unit: i64) -> i64 {
    down(ts.saturating_add(unit - 1), unit)
}

fn down(ts: i64, unit: i64) -> i64 {
    ts.div_euclid(unit) * unit
}

/// Cuts a range into segments, in order of time. `sums`: sums may stand for the readings.
pub(super) fn segments(grid: &Grid, sums: bool, extent: &Extent) -> Vec<Segment> {
    let mut plan = Vec::new();
    let mut push = |from: i64, to: i64, tier| {
        if from < to {
            plan.push(Segment { from, to, tier });
        }
    };
    let cut = extent.hours_until().clamp(grid.start, grid.end);
    push(grid.start, cut, Resolution::Hour);
    let by = |unit: i64| sums && grid.step % unit == 0;
    let mut minutes = |from: i64, to: i64| {
        let (whole_from, whole_to) = (up(from, MINUTE_MS), down(to, MINUTE_MS));
        if by(MINUTE_MS) && whole_from < whole_to {
            push(from, whole_from, Resolution::Raw);
            push(whole_from, whole_to, Resolution::Minute);
            push(whole_to, to, Resolution::Raw);
        } else {
            push(from, to, Resolution::Raw);
        }
    };
    let (hour_from, hour_to) = (up(cut, HOUR_MS), down(grid.end, HOUR_MS).min(extent.rolled_ts));
    if by(HOUR_MS) && hour_from < hour_to {
        minutes(cut, hour_from);
        minutes(hour_to, grid.end);
        push(hour_from, hour_to, Resolution::Hour);
    } else {
        minutes(cut, grid.end);
    }
    plan.sort_unstable_by_key(|segment| segment.from);
    plan
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use Resolution::{Hour, Minute, Raw};

    const ALL: Extent = Extent { rolled_ts: 0, minutes_from: 0, raw_missing: false };

    fn plan(start: i64, end: i64, step: i64, extent: Extent) -> Vec<(i64, i64, Resolution)> {
        let grid = Grid { start, end, step };
        segments(&grid, true, &extent).into_iter().map(|s| (s.from, s.to, s.tier)).collect()
    }

    #[test]
    fn borders_come_from_single_readings() {
        let extent = Extent { rolled_ts: 3 * HOUR_MS, ..ALL };
        assert_eq!(
            plan(HOUR_MS - 90_500, 2 * HOUR_MS + 61_000, HOUR_MS, extent),
            [
                (HOUR_MS - 90_500, HOUR_MS - 60_000, Raw),
                (HOUR_MS - 60_000, HOUR_MS, Minute),
                (HOUR_MS, 2 * HOUR_MS, Hour),
                (2 * HOUR_MS, 2 * HOUR_MS + 60_000, Minute),
                (2 * HOUR_MS + 60_000, 2 * HOUR_MS + 61_000, Raw),
            ]
        );
        assert_eq!(plan(0, HOUR_MS, HOUR_MS, ALL), [(0, HOUR_MS, Minute)]);
        assert_eq!(plan(0, HOUR_MS, 90_000, extent), [(0, HOUR_MS, Raw)]);
        assert_eq!(plan(10, 20, MINUTE_MS, extent), [(10, 20, Raw)]);
    }

    #[test]
    fn hours_stand_in_where_minutes_are_gone() {
        let extent =
            Extent { rolled_ts: 5 * HOUR_MS, minutes_from: 2 * HOUR_MS + 1, raw_missing: false };
        assert_eq!(
            plan(0, 6 * HOUR_MS, 1000, extent),
            [(0, 3 * HOUR_MS, Hour), (3 * HOUR_MS, 6 * HOUR_MS, Raw)]
        );
        assert_eq!(extent.least_step(0), HOUR_MS);
        assert_eq!(extent.least_step(3 * HOUR_MS), 1);
        let none_left = Extent { minutes_from: i64::MAX, ..extent };
        assert_eq!(
            plan(0, 6 * HOUR_MS, 1000, none_left),
            [(0, 5 * HOUR_MS, Hour), (5 * HOUR_MS, 6 * HOUR_MS, Raw)]
        );
    }

    proptest! {
        #[test]
        fn segments_cover_the_range_once(
            start in 0..20_000_000_i64, span in 1..40_000_000_i64,
            step in prop_oneof![Just(1000), Just(60_000), Just(120_000), Just(HOUR_MS), Just(2 * HOUR_MS), 1..9_000_000_i64],
            rolled in 0..10_i64, gone in 0..40_000_000_i64, sums: bool,
        ) {
            let grid = Grid { start, end: start + span, step };
            let extent = Extent { rolled_ts: rolled * HOUR_MS, minutes_from: gone, raw_missing: false };
            let mut at = start;
            for segment in segments(&grid, sums, &extent) {
                prop_assert_eq!(segment.from, at);
                prop_assert!(segment.to > at);
                at = segment.to;
            }
            prop_assert_eq!(at, start + span);
        }
    }
}
