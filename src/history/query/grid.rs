//! Buckets of time: they start at multiples of the step since the epoch.

use super::request::MAX_POINTS;
use crate::history::rollup::{HOUR_MS, MINUTE_MS};

const SECOND_MS: i64 = 1000;
const DAY_MS: i64 = 24 * HOUR_MS;

/// The steps that an automatic one snaps to, in ms.
const STEPS: [i64; 18] = [
    SECOND_MS,
    2 * SECOND_MS,
    5 * SECOND_MS,
    10 * SECOND_MS,
    15 * SECOND_MS,
    30 * SECOND_MS,
    MINUTE_MS,
    2 * MINUTE_MS,
    5 * MINUTE_MS,
    10 * MINUTE_MS,
    15 * MINUTE_MS,
    30 * MINUTE_MS,
    HOUR_MS,
    2 * HOUR_MS,
    3 * HOUR_MS,
    6 * HOUR_MS,
    12 * HOUR_MS,
    DAY_MS,
];

/// The width of a bucket, as it is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// So many ms; at least 1.
    Fixed(i64),
    /// The finest of the round steps that gives at most so many points; at least 1.
    AtMost(i64),
}

/// A range of time cut into buckets. Times are ms since the epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Grid {
    pub(super) start: i64,
    pub(super) end: i64,
    pub(super) step: i64,
}

impl Grid {
    /// One bucket that holds the whole range, whatever sums are read for it.
    pub(super) fn whole(start: i64, end: i64) -> Self {
        // Larger than any moment, and a multiple of every tier's buckets.
        Self { start, end, step: (i64::MAX / 4) / DAY_MS * DAY_MS }
    }

    /// The number of the bucket, counted from the epoch, that a moment is in.
    fn number(&self, ts: i64) -> i64 {
        ts.div_euclid(self.step)
    }

    /// How many buckets there are.
    pub(super) fn len(&self) -> i64 {
        if self.end <= self.start {
            return 0;
        }
        self.number(self.end - 1) - self.number(self.start) + 1
    }

    /// The place among the buckets of a moment in the range.
    pub(super) fn place(&self, ts: i64) -> usize {
        (self.number(ts) - self.number(self.start)) as usize
    }

    /// When each bucket starts.
    pub(super) fn times(&self) -> Vec<i64> {
        let first = self.number(self.start);
        (first..first + self.len()).map(|number| number * self.step).collect()
    }

    /// Some of its buckets, `from..to`, as a range of their own.
    pub(super) fn part(&self, from: i64, to: i64) -> Self {
        let first = self.number(self.start);
        let start_of = |place: i64| (first + place).saturating_mul(self.step);
        Self {
            start: self.start.max(start_of(from)),
            end: self.end.min(start_of(to)),
            step: self.step,
        }
    }
}

/// The finest round step, not below `least`, that gives at most `points` buckets.
pub(super) fn snap(start: i64, end: i64, points: i64, least: i64) -> i64 {
    // Beyond a day by whole days, doubling: a range ends up in one bucket before this runs out.
    let days = (1..40).map(|power| DAY_MS << power);
    STEPS
        .into_iter()
        .chain(days)
        .filter(|&step| step >= least)
        .find(|&step| Grid { start, end, step }.len() <= points)
        .unwrap_or(DAY_MS << 39)
}

/// A step that gives few enough points, and is larger than one that was too much.
pub(super) fn suggested(start: i64, end: i64, tried: i64) -> i64 {
    snap(start, end, MAX_POINTS, tried.saturating_add(1))
}

/// A step as it is written in a request.
#[must_use]
pub fn written(step: i64) -> String {
    let units = [(DAY_MS, "d"), (HOUR_MS, "h"), (MINUTE_MS, "m"), (SECOND_MS, "s")];
    match units.into_iter().find(|(ms, _)| step % ms == 0) {
        Some((ms, unit)) => format!("{}{unit}", step / ms),
        None => format!("{step}ms"),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn an_hour_snaps_to_what_fits() {
        let hour = |points| snap(0, HOUR_MS, points, 1);
        assert_eq!(hour(11_000), 1000);
        assert_eq!(hour(3600), 1000);
        assert_eq!(hour(3599), 2000);
        assert_eq!(hour(1000), 5000);
        assert_eq!(hour(60), MINUTE_MS);
        assert_eq!(hour(1), HOUR_MS);
        assert_eq!(snap(0, HOUR_MS, 1000, MINUTE_MS), MINUTE_MS);
        // Half an hour off, the border buckets count too.
        assert_eq!(snap(HOUR_MS / 2, HOUR_MS * 3 / 2, 1, 1), 2 * HOUR_MS);
    }

    #[test]
    fn steps_are_written_as_they_are_asked_for() {
        assert_eq!(written(15_000), "15s");
        assert_eq!(written(60_000), "1m");
        assert_eq!(written(90_000), "90s");
        assert_eq!(written(2 * DAY_MS), "2d");
        assert_eq!(written(1500), "1500ms");
    }

    #[test]
    fn the_whole_range_is_one_bucket() {
        let grid = Grid::whole(1, 253_402_300_799_999);
        assert_eq!(grid.len(), 1);
        assert_eq!(grid.step % DAY_MS, 0);
        assert_eq!(grid.part(0, 1), grid);
    }

    proptest! {
        #[test]
        fn every_moment_is_in_the_bucket_that_starts_before_it(
            start in 0..2_000_000_000_000_i64, span in 1..10_000_000_i64, step in 1000..10_000_000_i64,
            at in 0.0..1.0,
        ) {
            let grid = Grid { start, end: start + span, step };
            let ts = start + (span as f64 * at) as i64;
            let times = grid.times();
            prop_assert_eq!(times.len() as i64, grid.len());
            prop_assert!(times.iter().all(|time| time % step == 0));
            let bucket = times[grid.place(ts)];
            prop_assert!(bucket <= ts && ts < bucket + step);
            prop_assert!(times[0] <= start && start < times[0] + step);
            let last = times[times.len() - 1];
            prop_assert!(last < grid.end && grid.end <= last + step);
        }

        #[test]
        fn parts_make_up_the_whole(
            start in 0..2_000_000_000_000_i64, span in 1..10_000_000_i64, step in 1000..10_000_000_i64,
            cut in 0..20_i64,
        ) {
            let grid = Grid { start, end: start + span, step };
            let cut = cut.min(grid.len());
            let (a, b) = (grid.part(0, cut), grid.part(cut, grid.len()));
            prop_assert_eq!(a.len() + b.len(), grid.len());
            if cut > 0 && cut < grid.len() {
                prop_assert_eq!(a.end, b.start);
                prop_assert_eq!(a.end % step, 0);
            }
        }

        #[test]
        fn a_snapped_step_gives_no_more_points_than_asked(
            start in 0..2_000_000_000_000_i64, span in 1..100_000_000_000_i64, points in 1..11_000_i64,
        ) {
            let step = snap(start, start + span, points, 1);
            let grid = Grid { start, end: start + span, step };
            prop_assert!(grid.len() <= points);
        }
    }
}
