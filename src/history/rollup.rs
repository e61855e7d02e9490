//! Mergeable sums over a bucket of time, and the columns that hold many of them.
//!
//! Invariant: merging is associative, and commutative for readings of different moments, so
//! late data is added whenever it comes. Sums are exact: whole numbers of thousandths.

use std::collections::BTreeMap;

use super::raw::{Handle, RawError, Statement};

/// Milliseconds of the two tiers' buckets.
pub(super) const MINUTE_MS: i64 = 60_000;
pub(super) const HOUR_MS: i64 = 3_600_000;

/// What is known of one figure of one series in one bucket. Figures are in thousandths.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Summary {
    /// Readings that have the figure; at least one.
    pub(super) n: u64,
    pub(super) sum: u128,
    pub(super) min: u64,
    pub(super) max: u64,
    pub(super) first: u64,
    pub(super) last: u64,
    /// ms since the epoch, of `first` and `last`.
    pub(super) first_t: i64,
    pub(super) last_t: i64,
}

impl Summary {
    /// Of one reading.
    pub(super) fn of(value: u64, ts: i64) -> Self {
        Self {
            n: 1,
            sum: value.into(),
            min: value,
            max: value,
            first: value,
            last: value,
            first_t: ts,
            last_t: ts,
        }
    }

    /// Adds what another knows of the same figure and series.
    pub(super) fn merge(&mut self, other: &Self) {
        self.n += other.n;
        self.sum += other.sum;
        self.min = self.min.min(other.min);
        self.max = self.max.max(other.max);
        if other.first_t < self.first_t {
            (self.first, self.first_t) = (other.first, other.first_t);
        }
        if other.last_t >= self.last_t {
            (self.last, self.last_t) = (other.last, other.last_t);
        }
    }
}

/// One row of a rollup table: one metric and bucket of many series, encoded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Columns {
    pub(super) count: usize,
    pub(super) series: Vec<u8>,
    pub(super) n: Vec<u8>,
    pub(super) sum: Vec<u8>,
    pub(super) min: Vec<u8>,
    pub(super) max: Vec<u8>,
    pub(super) last: Vec<u8>,
    pub(super) first: Vec<u8>,
    pub(super) last_t: Vec<u8>,
    pub(super) first_t: Vec<u8>,
}

impl Columns {
    /// Encodes summaries of one bucket that starts at `bucket` (ms), in order of their series.
    pub(super) fn encode(bucket: i64, entries: &[(i64, Summary)]) -> Self {
        let column = |get: &dyn Fn(&(i64, Summary)) -> u64| encode(entries.iter().map(get));
        Self {
            count: entries.len(),
            series: column(&|e| e.0.unsigned_abs()),
            n: column(&|e| e.1.n),
            // A bucket that sums up more than this is a lie already; it saturates.
            sum: column(&|e| u64::try_from(e.1.sum).unwrap_or(u64::MAX)),
            min: column(&|e| e.1.min),
            max: column(&|e| e.1.max),
            last: column(&|e| e.1.last),
            first: column(&|e| e.1.first),
            last_t: column(&|e| (e.1.last_t - bucket).unsigned_abs()),
            first_t: column(&|e| (e.1.first_t - bucket).unsigned_abs()),
        }
    }

    /// The summaries again.
    pub(super) fn decode(&self, bucket: i64) -> Vec<(i64, Summary)> {
        let column = |bytes| Column::new(bytes, self.count);
        let (series, n, sum) = (column(&self.series), column(&self.n), column(&self.sum));
        let (min, max) = (column(&self.min), column(&self.max));
        let (last, first) = (column(&self.last), column(&self.first));
        let (last_t, first_t) = (column(&self.last_t), column(&self.first_t));
        let entry = |i| {
            let summary = Summary {
                n: n.get(i),
                sum: sum.get(i).into(),
                min: min.get(i),
                max: max.get(i),
                first: first.get(i),
                last: last.get(i),
                first_t: bucket + first_t.get(i).cast_signed(),
                last_t: bucket + last_t.get(i).cast_signed(),
            };
            (series.get(i).cast_signed(), summary)
        };
        (0..self.count).map(entry).collect()
    }
}

/// A row of a rollup table.
#[derive(Debug)]
pub(super) struct RollupRow {
    /// Its block; 0 for an hour that was made from the minutes.
    pub(super) block: i64,
    pub(super) metric: u8,
    /// Start of the bucket: ms since the epoch.
    pub(super) bucket: i64,
    /// Tells rows of one block, metric and bucket apart.
    pub(super) slice: i64,
    pub(super) columns: Columns,
}

impl RollupRow {
    /// Adds the row to the table that the statement is for.
    pub(super) fn insert(
        &self,
        statement: &mut Statement,
        handle: &mut Handle<'_>,
    ) -> Result<(), RawError> {
        let c = &self.columns;
        statement.execute(handle, |values| {
            values.integer(self.block).integer(self.metric.into()).integer(self.bucket);
            values.integer(self.slice).integer(c.count as i64);
            values.blob(&c.series).blob(&c.n).blob(&c.sum).blob(&c.min).blob(&c.max);
            values.blob(&c.last).blob(&c.first).blob(&c.last_t).blob(&c.first_t);
        })
    }
}

/// Encodes numbers as a width, a base, and what each is more than the base.
fn encode(numbers: impl Iterator<Item = u64> + Clone) -> Vec<u8> {
    let base = numbers.clone().min().unwrap_or(0);
    let spread = numbers.clone().max().unwrap_or(0) - base;
    let width: usize = match spread {
        0 => 0,
        1..=0xff => 1,
        0x100..=0xffff => 2,
        0x1_0000..=0xffff_ffff => 4,
        _ => 8,
    };
    let mut out = Vec::with_capacity(4 + width * numbers.size_hint().0);
    out.push(width as u8);
    let mut rest = base;
    while rest >= 0x80 {
        out.push((rest as u8) | 0x80);
        rest >>= 7;
    }
    out.push(rest as u8);
    if width > 0 {
        for number in numbers {
            out.extend_from_slice(&(number - base).to_le_bytes()[..width]);
        }
    }
    out
}

/// A column as it stands in the file; reading past what is there gives the base.
#[derive(Debug, Clone, Copy)]
pub(super) struct Column<'a> {
    width: usize,
    base: u64,
    numbers: &'a [u8],
}

impl<'a> Column<'a> {
    pub(super) fn new(bytes: &'a [u8], count: usize) -> Self {
        let (mut base, mut at) = (0, 1);
        while let Some(&byte) = bytes.get(at)
            && at <= 10
        {
            base |= u64::from(byte & 0x7f).wrapping_shl(7 * (at as u32 - 1));
            at += 1;
            if byte < 0x80 {
                break;
            }
        }
        let width = match bytes.first() {
            Some(&width @ (1 | 2 | 4 | 8)) => width.into(),
            _ => 0,
        };
        let numbers = bytes.get(at..).unwrap_or_default();
        // A damaged column is taken as constant rather than read past its end.
        let width = if numbers.len() == width * count { width } else { 0 };
        Self { width, base, numbers }
    }

    #[inline]
    pub(super) fn get(&self, i: usize) -> u64 {
        let at = i * self.width;
        let bytes = self.numbers;
        let relative = match self.width {
            1 => bytes[at].into(),
            2 => u16::from_le_bytes([bytes[at], bytes[at + 1]]).into(),
            4 => {
                u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]).into()
            }
            8 => {
                let mut eight = [0; 8];
                eight.copy_from_slice(&bytes[at..at + 8]);
                u64::from_le_bytes(eight)
            }
            _ => 0,
        };
        self.base.wrapping_add(relative)
    }

    /// The first `count` numbers, in the place of what stood in `into`.
    pub(super) fn read_into(&self, count: usize, into: &mut Vec<u64>) {
        let base = self.base;
        into.clear();
        match self.width {
            1 => into.extend(self.numbers.iter().map(|&n| base.wrapping_add(n.into()))),
            2 => into.extend(
                self.numbers
                    .chunks_exact(2)
                    .map(|n| base.wrapping_add(u16::from_le_bytes([n[0], n[1]]).into())),
            ),
            4 => {
                into.extend(self.numbers.chunks_exact(4).map(|n| {
                    base.wrapping_add(u32::from_le_bytes([n[0], n[1], n[2], n[3]]).into())
                }));
            }
            _ => into.extend((0..count).map(|i| self.get(i))),
        }
    }
}

/// Collects readings, series by series, into rows of minutes or hours.
#[derive(Debug)]
pub(super) struct Accumulator {
    /// How long a bucket is, in ms.
    span_ms: i64,
    /// What is summed up at the moment, by metric number: looking for its row costs more than adding.
    open: Vec<Option<Open>>,
    /// By metric number and bucket; within one, series in growing order.
    rows: BTreeMap<(u8, i64), Vec<(i64, Summary)>>,
}

#[derive(Debug)]
struct Open {
    series: i64,
    bucket: i64,
    sum: Summary,
}

impl Accumulator {
    /// For buckets of so many ms.
    pub(super) fn new(span_ms: i64) -> Self {
        Self { span_ms, open: Vec::new(), rows: BTreeMap::new() }
    }

    /// Adds one reading (ms since the epoch) of a metric. The series of a metric must come in growing
    /// order, and the readings of each in order of time.
    pub(super) fn add(&mut self, metric: u8, series: i64, ts: i64, value: u64) {
        let place = usize::from(metric);
        if place >= self.open.len() {
            self.open.resize_with(place + 1, || None);
        }
        let reading = Summary::of(value, ts);
        match &mut self.open[place] {
            Some(open)
                if open.series == series && (0..self.span_ms).contains(&(ts - open.bucket)) =>
            {
                open.sum.merge(&reading);
            }
            open => {
                let next = Open { series, bucket: ts - ts.rem_euclid(self.span_ms), sum: reading };
                if let Some(last) = open.replace(next) {
                    self.keep(metric, last);
                }
            }
        }
    }

    fn keep(&mut self, metric: u8, Open { series, bucket, sum }: Open) {
        self.rows.entry((metric, bucket)).or_default().push((series, sum));
    }

    /// The rows: metric, bucket, columns.
    pub(super) fn rows(mut self) -> Vec<(u8, i64, Columns)> {
        for (metric, open) in (0..).zip(std::mem::take(&mut self.open)) {
            if let Some(open) = open {
                self.keep(metric, open);
            }
        }
        self.rows
            .iter()
            .map(|(&(metric, bucket), entries)| (metric, bucket, Columns::encode(bucket, entries)))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn of(readings: &[(i64, u64)]) -> Option<Summary> {
        let mut readings = readings.iter().map(|&(ts, value)| Summary::of(value, ts));
        let mut sum = readings.next()?;
        readings.for_each(|reading| sum.merge(&reading));
        Some(sum)
    }

    proptest! {
        #[test]
        fn the_order_of_merging_does_not_matter(
            readings in proptest::collection::btree_map(0..60_000_i64, 0..1_u64 << 50, 1..50),
            cut in 0..50_usize,
            seed: u64,
        ) {
            let mut readings: Vec<_> = readings.into_iter().collect();
            let whole = of(&readings).unwrap();
            prop_assert_eq!(whole.first, readings[0].1);
            prop_assert_eq!(whole.last, readings[readings.len() - 1].1);
            let mut state = seed;
            for i in (1..readings.len()).rev() {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                readings.swap(i, (state >> 33) as usize % (i + 1));
            }
            let (a, b) = readings.split_at(cut.min(readings.len()));
            match (of(a), of(b)) {
                (Some(mut a), Some(b)) => {
                    a.merge(&b);
                    prop_assert_eq!(a, whole);
                }
                (a, b) => prop_assert_eq!(a.or(b).unwrap(), whole),
            }
        }

        #[test]
        fn columns_survive_encoding(
            entries in proptest::collection::btree_map(1..i64::MAX, (0..u64::MAX, 0..u64::MAX, 0..60_000_i64), 0..40),
        ) {
            let bucket = 1_764_000_000_000;
            let entries: Vec<_> = entries
                .into_iter()
                .map(|(series, (a, b, t))| {
                    let summary = Summary {
                        n: a % 61 + 1, sum: b.into(), min: a, max: b, first: b, last: a,
                        first_t: bucket + t, last_t: bucket + 59_999 - t,
                    };
                    (series, summary)
                })
                .collect();
            prop_assert_eq!(Columns::encode(bucket, &entries).decode(bucket), entries);
        }

        #[test]
        fn any_bytes_can_be_read(bytes: Vec<u8>, count in 0..100_usize) {
            let column = Column::new(&bytes, count);
            let mut all = vec![7];
            column.read_into(count, &mut all);
            prop_assert_eq!(all, (0..count).map(|i| column.get(i)).collect::<Vec<_>>());
        }
    }
}
