//! How many of a hive's heartbeats came, and when they did not.
//!
//! Invariant: whether there is a gap does not depend on where the range begins or ends: what
//! lies just outside is looked at too, and only then is the gap cut to the range.

use futures_util::TryStreamExt;
use hive_contract::units::Milliseconds;
use serde::Serialize;

use super::reader::{Read, ReadError, Reader};

/// Intervals without a heartbeat that are no gap yet.
const TOLERATED: f64 = 3.0;
/// What an interval is taken to be where the hive does not say.
const DEFAULT_INTERVAL_MS: f64 = 1000.0;
/// How far outside the range it is looked at most.
const MAX_OUTSIDE_MS: f64 = 4.0 * 86_400_000.0;
/// Gaps in one answer.
const MAX_GAPS: usize = 10_000;

/// The answer. Times are ms since the epoch.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Availability {
    /// The hive.
    pub hive: String,
    /// As asked for, or where the readings begin that are still kept.
    pub start: i64,
    /// As asked for, or now.
    pub end: i64,
    /// How often the hive means to send, as it said last.
    pub interval_ms: Option<Milliseconds>,
    /// Heartbeats that the range has room for.
    pub expected: u64,
    /// Heartbeats in it.
    pub received: u64,
    /// The share of the expected ones that came, at most 1; null where none was expected.
    pub availability: Option<f64>,
    /// More than three intervals without a heartbeat.
    pub gaps: Vec<Gap>,
    /// There are more gaps than are listed.
    pub truncated: bool,
}

/// A time without heartbeats: from the first that is missing to the one that came again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Gap {
    /// ms since the epoch.
    pub from: i64,
    /// ms since the epoch, exclusive.
    pub to: i64,
    /// Heartbeats that are missing.
    pub missing: u64,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum AvailabilityError {
    /// There is no such hive.
    #[error("no such hive is known")]
    UnknownHive,
    /// The single heartbeats of the range were deleted.
    #[error("single heartbeats from before {kept_from} (ms since the epoch) are no longer kept")]
    TooOld {
        /// The first moment that is kept: ms since the epoch.
        kept_from: i64,
    },
    /// The history cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
}

/// What of a hive's heartbeats came between `start` and `end` (ms since the epoch).
///
/// # Errors
/// The hive is not known, the range is no longer kept, or the history cannot be read.
pub async fn availability(
    reader: &Reader,
    hive: &str,
    start: i64,
    end: i64,
    now: i64,
) -> Result<Availability, AvailabilityError> {
    let mut read = reader.begin().await?;
    let result = answer(&mut read, hive, start, end, now).await;
    let result = result.map_err(|error| match error {
        Failed::Sqlite(error) => read.error(error).into(),
        Failed::Known(error) => error,
    });
    read.end().await;
    result
}

enum Failed {
    Sqlite(sqlx::Error),
    Known(AvailabilityError),
}

impl From<sqlx::Error> for Failed {
    fn from(error: sqlx::Error) -> Self {
        Self::Sqlite(error)
    }
}

async fn answer(
    read: &mut Read,
    hive: &str,
    start: i64,
    end: i64,
    now: i64,
) -> Result<Availability, Failed> {
    let known = sqlx::query_file!("queries/availability_hive.sql", hive)
        .fetch_optional(&mut **read)
        .await?
        .ok_or(Failed::Known(AvailabilityError::UnknownHive))?;
    let gone = sqlx::query_file_scalar!("queries/oldest_kept.sql").fetch_one(&mut **read).await?;
    // What is to come is not missing yet.
    let (start, end) = (start.max(gone + 1), end.min(now));
    if start >= end {
        return Err(Failed::Known(AvailabilityError::TooOld { kept_from: gone + 1 }));
    }
    let interval = known.newest_ms.unwrap_or(DEFAULT_INTERVAL_MS).max(1.0);
    let longest = known.longest_ms.unwrap_or(interval).max(interval);
    let outside = (longest * TOLERATED).min(MAX_OUTSIDE_MS).ceil() as i64 + 1;
    let mut tally = Tally::new(start, end, interval);
    let (from, until) = (start - outside, end.saturating_add(outside));
    let mut heartbeats =
        sqlx::query_file!("queries/availability_heartbeats.sql", known.hive, from, until)
            .fetch(&mut **read);
    while let Some(heartbeat) = heartbeats.try_next().await? {
        tally.add(heartbeat.ts, heartbeat.interval_ms);
    }
    drop(heartbeats);
    Ok(tally.finish(hive, until.min(now)))
}

/// Goes over the heartbeats in order of time.
#[derive(Debug)]
struct Tally {
    start: i64,
    end: i64,
    /// Of the newest heartbeat so far; before the first, as the hive said last.
    interval: f64,
    last: Option<i64>,
    expected: f64,
    received: u64,
    gaps: Vec<Gap>,
    truncated: bool,
}

impl Tally {
    fn new(start: i64, end: i64, interval: f64) -> Self {
        let (expected, received, gaps) = (0.0, 0, Vec::new());
        Self { start, end, interval, last: None, expected, received, gaps, truncated: false }
    }

    fn add(&mut self, ts: i64, interval: Option<f64>) {
        let interval = interval.unwrap_or(self.interval).max(1.0);
        if self.last.is_none() {
            // The first that is known tells how often those before it were due.
            self.interval = interval;
        }
        self.silence(Some(ts), ts);
        self.received += u64::from((self.start..self.end).contains(&ts));
        self.last = Some(ts);
        self.interval = interval;
    }

    /// The time from the last heartbeat to the next, or to where nothing more is known.
    fn silence(&mut self, next: Option<i64>, until: i64) {
        let (start, end, interval) = (self.start as f64, self.end as f64, self.interval);
        let last = self.last.map(|last| last as f64);
        let (from, to) = (last.unwrap_or(start).max(start), (until as f64).min(end));
        if from < to {
            self.expected += (to - from) / interval;
        }
        if last.is_some_and(|last| until as f64 - last <= TOLERATED * interval) {
            return;
        }
        // From the first heartbeat that is missing.
        let from = last.map_or(start, |last| (last + interval).max(start));
        if from >= to {
            return;
        }
        let begins = last.filter(|last| last + interval >= start);
        let ends = next.map(|next| next as f64).filter(|next| *next <= end);
        // Due are moments a whole number of intervals after the last, or before the next.
        let missing = match (begins, ends) {
            (Some(last), Some(next)) => ((next - last) / interval).round() - 1.0,
            (Some(last), None) => ((to - last) / interval).ceil() - 1.0,
            (None, Some(next)) => ((next - start) / interval).floor(),
            (None, None) => ((to - start) / interval).round(),
        };
        if missing < 1.0 {
            return;
        }
        if self.gaps.len() == MAX_GAPS {
            self.truncated = true;
            return;
        }
        let (from, to) = (from.round() as i64, to.round() as i64);
        self.gaps.push(Gap { from, to, missing: missing as u64 });
    }

    /// `known_until`: up to where all heartbeats were seen.
    fn finish(mut self, hive: &str, known_until: i64) -> Availability {
        let until = known_until.max(self.end);
        self.silence(None, until);
        let expected = self.expected.round() as u64;
        let share = self.received as f64 / expected as f64;
        Availability {
            hive: hive.into(),
            start: self.start,
            end: self.end,
            interval_ms: Milliseconds::measured(self.interval),
            expected,
            received: self.received,
            availability: (expected > 0).then(|| (share.min(1.0) * 1e6).round() / 1e6),
            gaps: self.gaps,
            truncated: self.truncated,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn tally(start: i64, end: i64, times: &[i64], now: i64) -> Availability {
        let mut tally = Tally::new(start, end, 1000.0);
        for &ts in times {
            tally.add(ts, Some(1000.0));
        }
        tally.finish("h", now.min(end + 3001))
    }

    fn every_second(from: i64, to: i64) -> Vec<i64> {
        (from..to).map(|s| s * 1000).collect()
    }

    fn gap(from: i64, to: i64, missing: u64) -> Gap {
        Gap { from, to, missing }
    }

    #[test]
    fn a_heartbeat_a_second_is_all_there_is() {
        let all = tally(60_000, 120_000, &every_second(0, 200), 200_000);
        assert_eq!((all.expected, all.received, all.availability), (60, 60, Some(1.0)));
        assert_eq!(all.gaps, []);
    }

    #[test]
    fn one_of_sixty_is_missing_and_no_gap() {
        let mut times = every_second(0, 60);
        times.remove(30);
        let all = tally(0, 60_000, &times, 60_000);
        assert_eq!((all.expected, all.received, all.availability), (60, 59, Some(0.983_333)));
        assert_eq!(all.gaps, []);
    }

    #[test]
    fn more_than_three_intervals_are_a_gap() {
        let without = |from: i64, to: i64| {
            let times: Vec<_> =
                every_second(0, 100).into_iter().filter(|t| !(from..to).contains(t)).collect();
            tally(0, 100_000, &times, 100_000).gaps
        };
        // Three intervals between two heartbeats: two are missing.
        assert_eq!(without(10_000, 12_000), []);
        assert_eq!(without(10_000, 13_000), [gap(10_000, 13_000, 3)]);
        assert_eq!(without(10_000, 70_000), [gap(10_000, 70_000, 60)]);
    }

    #[test]
    fn a_gap_is_cut_to_the_range_and_judged_as_a_whole() {
        let times: Vec<_> = [every_second(0, 10), every_second(30, 60)].concat();
        let cut = |start, end| tally(start, end, &times, 60_000).gaps;
        assert_eq!(cut(20_000, 40_000), [gap(20_000, 30_000, 10)]);
        assert_eq!(cut(0, 20_000), [gap(10_000, 20_000, 10)]);
        assert_eq!(cut(15_000, 25_000), [gap(15_000, 25_000, 10)]);
        assert_eq!(cut(28_000, 40_000), [gap(28_000, 30_000, 2)]);
        assert_eq!(cut(0, 11_000), [gap(10_000, 11_000, 1)]);
        assert_eq!(cut(0, 10_000), []);
        assert_eq!(cut(30_000, 60_000), []);
    }

    #[test]
    fn what_may_still_come_is_not_missing() {
        let times = every_second(0, 58);
        assert_eq!(tally(0, 60_000, &times, 60_000).gaps, []);
        assert_eq!(tally(0, 61_000, &times, 61_000).gaps, [gap(58_000, 61_000, 3)]);
        // Half a second into the range nothing can be told, three seconds before its end it can.
        assert_eq!(tally(0, 58_500, &times, 59_000).gaps, []);
        assert_eq!(tally(0, 58_500, &times, 70_000).gaps, [gap(58_000, 58_500, 1)]);
    }

    #[test]
    fn silence_is_one_gap() {
        let none = tally(0, 60_000, &[], 100_000);
        assert_eq!((none.expected, none.received, none.availability), (60, 0, Some(0.0)));
        assert_eq!(none.gaps, [gap(0, 60_000, 60)]);
    }

    #[test]
    fn an_interval_that_changes_is_followed() {
        let mut tally = Tally::new(0, 120_000, 1000.0);
        for ts in (0..60_000).step_by(10_000) {
            tally.add(ts, Some(10_000.0));
        }
        for ts in (60_000..120_000).step_by(1000) {
            tally.add(ts, Some(1000.0));
        }
        let all = tally.finish("h", 120_000);
        assert_eq!((all.expected, all.received, all.gaps.len()), (66, 66, 0));
        assert_eq!(all.interval_ms.map(Milliseconds::get), Some(1000.0));
    }

    proptest! {
        #[test]
        fn on_a_grid_what_came_and_what_is_missing_add_up(
            present in proptest::collection::vec(any::<bool>(), 1..200),
            start in 0_i64..200, len in 1_i64..200,
        ) {
            let times: Vec<i64> = present.iter().enumerate()
                .filter(|(_, present)| **present).map(|(s, _)| s as i64 * 1000).collect();
            let (start, end) = (start * 1000, (start + len) * 1000);
            let all = tally(start, end, &times, 1_000_000);
            prop_assert_eq!(all.expected, len as u64);
            let mut last_end = start;
            for gap in &all.gaps {
                prop_assert!(gap.from >= last_end && gap.from < gap.to && gap.to <= end);
                prop_assert_eq!(gap.missing as i64 * 1000, gap.to - gap.from);
                prop_assert!(!times.iter().any(|t| (gap.from..gap.to).contains(t)));
                last_end = gap.to;
            }
            let missing: u64 = all.gaps.iter().map(|gap| gap.missing).sum();
            prop_assert!(all.received + missing <= all.expected);
        }
    }
}
