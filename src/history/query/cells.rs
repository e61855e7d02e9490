//! The figures of many series in some buckets, becoming one value each.
//!
//! Invariant: what is added is exact, whole numbers of thousandths, and may come in any order;
//! the one division is the last step.

use super::request::Agg;
use super::rollups::Sums;
use super::select::Selection;

/// Readings that a percentile may hold at once: 128 MiB.
pub(super) const MAX_READINGS: usize = 8 << 20;

/// One value of one series in one bucket.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Value {
    /// So many of the unit's parts: [`scale`].
    Whole(u128),
    /// In the unit itself.
    Part(f64),
}

/// The parts of the unit in a whole value of an aggregation.
pub(super) fn scale(agg: Agg) -> f64 {
    if agg == Agg::Count { 1.0 } else { 1000.0 }
}

/// A cell for each bucket and series: the series of the first bucket, then of the next.
#[derive(Debug)]
pub(super) enum Cells {
    /// n, sum.
    Avg(Vec<(u64, u128)>),
    Sum(Vec<(u64, u128)>),
    Count(Vec<u64>),
    /// `u64::MAX`: none; no figure is as large.
    Min(Vec<u64>),
    /// One more than the figure; 0: none.
    Max(Vec<u64>),
    /// When, what; `i64::MAX`: none.
    First(Vec<(i64, u64)>),
    /// `i64::MIN`: none.
    Last(Vec<(i64, u64)>),
    /// Each reading with its cell.
    Each(Vec<(u32, u64)>, f64),
}

impl Cells {
    /// For an aggregation; empty.
    pub(super) fn new(agg: Agg) -> Self {
        match agg {
            Agg::Avg => Self::Avg(Vec::new()),
            Agg::Sum => Self::Sum(Vec::new()),
            Agg::Count => Self::Count(Vec::new()),
            Agg::Min => Self::Min(Vec::new()),
            Agg::Max => Self::Max(Vec::new()),
            Agg::First => Self::First(Vec::new()),
            Agg::Last => Self::Last(Vec::new()),
            Agg::P50 | Agg::P95 | Agg::P99 => {
                Self::Each(Vec::new(), agg.quantile().unwrap_or_default())
            }
        }
    }

    /// Forgets everything and makes room for so many cells.
    pub(super) fn clear(&mut self, len: usize) {
        fn fill<T: Clone>(cells: &mut Vec<T>, len: usize, empty: T) {
            cells.clear();
            cells.resize(len, empty);
        }
        match self {
            Self::Avg(cells) | Self::Sum(cells) => fill(cells, len, (0, 0)),
            Self::Count(cells) | Self::Max(cells) => fill(cells, len, 0),
            Self::Min(cells) => fill(cells, len, u64::MAX),
            Self::First(cells) => fill(cells, len, (i64::MAX, 0)),
            Self::Last(cells) => fill(cells, len, (i64::MIN, 0)),
            Self::Each(readings, _) => readings.clear(),
        }
    }

    /// Adds one reading.
    #[inline]
    pub(super) fn add(&mut self, cell: usize, ts: i64, figure: u64) {
        match self {
            Self::Avg(cells) | Self::Sum(cells) => {
                let cell = &mut cells[cell];
                *cell = (cell.0 + 1, cell.1 + u128::from(figure));
            }
            Self::Count(cells) => cells[cell] += 1,
            Self::Min(cells) => cells[cell] = cells[cell].min(figure),
            Self::Max(cells) => cells[cell] = cells[cell].max(figure.saturating_add(1)),
            Self::First(cells) => earlier(&mut cells[cell], ts, figure),
            Self::Last(cells) => later(&mut cells[cell], ts, figure),
            // One more than there may be tells that there were too many.
            Self::Each(readings, _) if readings.len() <= MAX_READINGS => {
                readings.push((cell as u32, figure));
            }
            Self::Each(..) => {}
        }
    }

    /// Adds the sums of one bucket of a tier. `base` is the bucket's first cell.
    pub(super) fn add_sums(&mut self, base: usize, sums: &Sums, selection: &Selection) {
        let bucket = sums.bucket;
        match self {
            Self::Avg(cells) | Self::Sum(cells) => each(sums, selection, |series, n, sum| {
                let cell = &mut cells[base + series];
                *cell = (cell.0.saturating_add(n), cell.1 + u128::from(sum));
            }),
            Self::Count(cells) => each(sums, selection, |series, n, _| {
                let cell = &mut cells[base + series];
                *cell = cell.saturating_add(n);
            }),
            Self::Min(cells) => each(sums, selection, |series, min, _| {
                let cell = &mut cells[base + series];
                *cell = (*cell).min(min);
            }),
            Self::Max(cells) => each(sums, selection, |series, max, _| {
                let cell = &mut cells[base + series];
                *cell = (*cell).max(max.saturating_add(1));
            }),
            Self::First(cells) => each(sums, selection, |series, first, t| {
                earlier(&mut cells[base + series], bucket.wrapping_add_unsigned(t), first);
            }),
            Self::Last(cells) => each(sums, selection, |series, last, t| {
                later(&mut cells[base + series], bucket.wrapping_add_unsigned(t), last);
            }),
            // Percentiles are planned without sums.
            Self::Each(..) => {}
        }
    }

    /// Whether there were more readings than may be held one by one.
    pub(super) fn overflowed(&self) -> bool {
        matches!(self, Self::Each(readings, _) if readings.len() > MAX_READINGS)
    }

    /// Gives each cell's value, in order of the cells; empty ones are left out.
    pub(super) fn values(&mut self, mut give: impl FnMut(usize, Value)) {
        match self {
            Self::Avg(cells) => {
                for (at, &(n, sum)) in cells.iter().enumerate() {
                    if n > 0 {
                        give(at, Value::Part(sum as f64 / (n as f64 * 1000.0)));
                    }
                }
            }
            Self::Sum(cells) => {
                for (at, &(n, sum)) in cells.iter().enumerate() {
                    if n > 0 {
                        give(at, Value::Whole(sum));
                    }
                }
            }
            Self::Count(cells) => whole(cells, |&n| (n > 0).then_some(n), give),
            Self::Min(cells) => whole(cells, |&min| (min < u64::MAX).then_some(min), give),
            Self::Max(cells) => whole(cells, |&max| max.checked_sub(1), give),
            Self::First(cells) => {
                whole(cells, |&(t, first)| (t < i64::MAX).then_some(first), give);
            }
            Self::Last(cells) => whole(cells, |&(t, last)| (t > i64::MIN).then_some(last), give),
            Self::Each(readings, quantile) => {
                readings.sort_unstable();
                for run in readings.chunk_by(|a, b| a.0 == b.0) {
                    give(run[0].0 as usize, Value::Part(percentile(run, *quantile)));
                }
            }
        }
    }
}

fn earlier(cell: &mut (i64, u64), ts: i64, figure: u64) {
    if ts < cell.0 {
        *cell = (ts, figure);
    }
}

fn later(cell: &mut (i64, u64), ts: i64, figure: u64) {
    if ts >= cell.0 {
        *cell = (ts, figure);
    }
}

fn whole<T>(cells: &[T], figure: impl Fn(&T) -> Option<u64>, mut give: impl FnMut(usize, Value)) {
    for (at, cell) in cells.iter().enumerate() {
        if let Some(figure) = figure(cell) {
            give(at, Value::Whole(figure.into()));
        }
    }
}

/// Calls with the series and the two columns of each subject that is asked for.
#[inline]
fn each(sums: &Sums, selection: &Selection, mut call: impl FnMut(usize, u64, u64)) {
    for ((&subject, &a), &b) in sums.subjects.iter().zip(&sums.a).zip(&sums.b) {
        let series = selection.series_of.get(subject as usize).copied().unwrap_or(0);
        if series > 0 {
            call(series as usize - 1, a, b);
        }
    }
}

/// Between the two readings, in order of their figures, that it falls between.
fn percentile(sorted: &[(u32, u64)], quantile: f64) -> f64 {
    let rank = quantile * (sorted.len() - 1) as f64;
    let (below, share) = (rank.floor() as usize, rank.fract());
    let low = sorted[below].1 as f64;
    let high = sorted.get(below + 1).map_or(low, |&(_, figure)| figure as f64);
    ((high - low) * share + low) / 1000.0
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn values(agg: Agg, readings: &[(usize, i64, u64)]) -> Vec<(usize, Value)> {
        let mut cells = Cells::new(agg);
        cells.clear(8);
        for &(cell, ts, figure) in readings {
            cells.add(cell, ts, figure);
        }
        let mut values = Vec::new();
        cells.values(|cell, value| values.push((cell, value)));
        values
    }

    #[test]
    fn percentiles_are_interpolated() {
        let p = |agg, figures: &[u64]| {
            let readings: Vec<_> = figures.iter().map(|&figure| (0, 0, figure * 1000)).collect();
            match values(agg, &readings)[..] {
                [(0, Value::Part(value))] => value,
                ref other => panic!("{other:?}"),
            }
        };
        assert_eq!(p(Agg::P50, &[3, 1, 2]), 2.0);
        assert_eq!(p(Agg::P50, &[4, 1, 2, 3]), 2.5);
        assert_eq!(p(Agg::P95, &[7]), 7.0);
        assert_eq!(p(Agg::P95, &(1..=101).collect::<Vec<_>>()), 96.0);
        assert_eq!(p(Agg::P99, &[0, 100]), 99.0);
    }

    #[test]
    fn cells_without_a_reading_have_no_value() {
        for &agg in Agg::ALL {
            assert_eq!(values(agg, &[]), []);
            let zero = values(agg, &[(3, 0, 0)]);
            assert_eq!(zero.len(), 1);
            assert_eq!(zero[0].0, 3);
        }
    }

    proptest! {
        #[test]
        fn the_order_of_readings_does_not_matter(
            readings in proptest::collection::btree_map((0..8_usize, 0..1000_i64), 0..1_u64 << 50, 1..40),
        ) {
            let forth: Vec<_> = readings.iter().map(|(&(cell, ts), &figure)| (cell, ts, figure)).collect();
            let back: Vec<_> = forth.iter().rev().copied().collect();
            for &agg in Agg::ALL {
                prop_assert_eq!(values(agg, &forth), values(agg, &back));
            }
        }
    }
}
