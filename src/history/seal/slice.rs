//! One slice of a block: live rows in, sorted rows and sums out.

use hive_contract::units::{Mebibytes, Percent};

use super::statements::Statements;
use crate::history::codec::{self, DecodeError, Figures, GpuRow, NodeRow, SampleRow, WorkerGpuRow};
use crate::history::metric;
use crate::history::raw::{Handle, RawError, Row, Statement, Values};
use crate::history::rollup::{Accumulator, Columns, HOUR_MS, MINUTE_MS};

/// Between two samples in one entry of the index: five minutes.
const MAX_GAP_MS: i64 = 300_000;

/// Live readings, taken apart and summed up.
#[derive(Debug)]
pub(super) struct Slice {
    /// By series and time (ms since the epoch).
    order: Vec<Place>,
    samples: Vec<SampleRow>,
    gpus: Vec<(i64, i64, GpuRow)>,
    heartbeats: Vec<HeartbeatRow>,
    /// Their sums by minute.
    pub(super) minutes: Vec<(u8, i64, Columns)>,
    /// By hour, where that hour was rolled up already.
    pub(super) late_hours: Vec<(u8, i64, Columns)>,
}

/// Where a sample is in its slice. Samples are large: these are sorted instead.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Place {
    run: i64,
    /// ms since the epoch.
    ts: i64,
    index: usize,
}

#[derive(Debug)]
struct HeartbeatRow {
    id: i64,
    hive: i64,
    ts: i64,
    workers: i64,
    late: i64,
    memory_total_mb: Option<f64>,
    row: NodeRow,
}

impl Slice {
    /// Reads the live rows of these ids, which have so many samples, and sums them up. Hours before
    /// `rolled_ts` (ms since the epoch) stand in their table already.
    pub(super) fn read(
        ids: &[i64],
        samples: usize,
        rolled_ts: i64,
        handle: &mut Handle<'_>,
    ) -> sqlx::Result<Self> {
        let mut slice = Self {
            order: Vec::with_capacity(samples),
            samples: Vec::with_capacity(samples),
            gpus: Vec::new(),
            heartbeats: Vec::with_capacity(ids.len()),
            minutes: Vec::new(),
            late_hours: Vec::new(),
        };
        let mut live_row =
            Statement::prepare(include_str!("../../../queries/live_row.sql"), handle)?;
        for &id in ids {
            let mut parsed = Ok(());
            live_row.each(
                handle,
                |values| {
                    values.integer(id);
                },
                |row| parsed = slice.take(id, row),
            )?;
            parsed.map_err(|error| sqlx::Error::Decode(error.into()))?;
        }
        slice.order.sort_unstable();
        slice.gpus.sort_unstable_by_key(|(gpu, ts, _)| (*gpu, *ts));
        slice.heartbeats.sort_unstable_by_key(|heartbeat| (heartbeat.hive, heartbeat.ts));
        // The same GPU twice in one heartbeat would be the same row twice; one stands.
        slice.gpus.dedup_by_key(|(gpu, ts, _)| (*gpu, *ts));
        slice.sum_up(rolled_ts);
        Ok(slice)
    }

    /// Takes a row of `live_row.sql`.
    fn take(&mut self, id: i64, live: &Row<'_>) -> Result<(), DecodeError> {
        let (hive, ts) = (live.integer(0), live.integer(1));
        let before = self.samples.len();
        codec::parse_samples(live.text(2), &mut self.samples)?;
        let new = self.samples.iter().enumerate().skip(before);
        self.order.extend(new.map(|(index, sample)| Place { run: sample.run, ts, index }));
        let workers = (self.samples.len() - before) as i64;
        let gpus = codec::parse_gpus(live.text(3))?;
        self.gpus.extend(gpus.into_iter().map(|gpu| (gpu.gpu, ts, gpu)));
        let row = codec::parse_node(live.text(4))?;
        let (memory_total_mb, late) = (live.real(5), live.integer(6));
        self.heartbeats.push(HeartbeatRow { id, hive, ts, workers, late, memory_total_mb, row });
        Ok(())
    }

    fn sum_up(&mut self, rolled_ts: i64) {
        let (mut minutes, mut hours) = (Accumulator::new(MINUTE_MS), Accumulator::new(HOUR_MS));
        let mut add = |metric: u8, series: i64, ts: i64, value: Option<u64>| {
            if let Some(value) = value {
                minutes.add(metric, series, ts, value);
                if ts < rolled_ts {
                    hours.add(metric, series, ts, value);
                }
            }
        };
        for place in &self.order {
            for (metric, value) in worker_metrics(&self.samples[place.index].figures) {
                add(metric, place.run, place.ts, value);
            }
        }
        for (gpu, ts, row) in &self.gpus {
            for (metric, value) in gpu_metrics(row) {
                add(metric, *gpu, *ts, value);
            }
        }
        for heartbeat in &self.heartbeats {
            for (metric, value) in heartbeat.metrics() {
                add(metric, heartbeat.hive, heartbeat.ts, value);
            }
        }
        (self.minutes, self.late_hours) = (minutes.rows(), hours.rows());
    }

    /// Appends the rows to a block whose times are relative to `min_ts`. Its samples go to rows
    /// from `first_row` on; gives the row that comes after them.
    pub(super) fn insert(
        &self,
        block: i64,
        min_ts: i64,
        first_row: i64,
        statements: &mut Statements,
        handle: &mut Handle<'_>,
    ) -> Result<i64, RawError> {
        let times = self.order.iter().map(|place| (place.run, place.ts));
        let (entries, numbers, end_row) = place(times, first_row);
        let samples = self.order.iter().map(|place| &self.samples[place.index]);
        let rows: Vec<_> = numbers
            .into_iter()
            .zip(samples)
            .map(|(row, sample)| (row, sample, WorkerGpus::of(sample)))
            .collect();
        statements.sample.execute(&rows, handle, |values, (row, sample, gpus)| {
            values.integer(*row);
            bind_sample(values, &sample.figures);
            match gpus {
                WorkerGpus::None => values.null(),
                WorkerGpus::Alone(gpu) => values.integer(*gpu),
                WorkerGpus::List(list) => values.text(list),
            };
        })?;
        statements.sample_index.execute(&entries, handle, |values, entry| {
            values.integer(block).integer(entry.run).integer(entry.row);
            values.integer(entry.first_ts - min_ts).integer(entry.span);
        })?;
        statements.gpu_sample.execute(&self.gpus, handle, |values, (gpu, ts, row)| {
            values.integer(block).integer(*gpu).integer(ts - min_ts);
            values.number(row.util_pct.map(|v| v.thousandths()));
            values.number(row.memory_used_mb.map(|v| v.thousandths()));
            values.number(row.temperature_c.map(|v| v.thousandths()));
            values.thousandths(row.power_w.map(|v| v.thousandths()));
            match &row.state {
                Some(state) => values.text(state.as_str()),
                None => values.null(),
            };
        })?;
        for heartbeat in &self.heartbeats {
            heartbeat.insert(block, min_ts, &mut statements.heartbeat, handle)?;
        }
        Ok(end_row)
    }
}

/// Where some samples of a run are: from `row` on, one row number a ms.
#[derive(Debug, PartialEq, Eq)]
struct IndexEntry {
    run: i64,
    row: i64,
    /// ms since the epoch, of the first.
    first_ts: i64,
    /// ms from the first to the last.
    span: i64,
}

/// Gives every sample, by run and time (ms), its row: from `first_row` on, growing. A long gap
/// begins a new entry, so that row numbers are not used up by readings that are far apart.
/// Gives the entries, the rows, and the row after them all.
fn place(
    samples: impl Iterator<Item = (i64, i64)>,
    first_row: i64,
) -> (Vec<IndexEntry>, Vec<i64>, i64) {
    let (mut entries, mut rows): (Vec<IndexEntry>, Vec<i64>) = Default::default();
    let mut end = first_row;
    for (run, ts) in samples {
        match entries.last_mut() {
            Some(last) if last.run == run && ts - (last.first_ts + last.span) <= MAX_GAP_MS => {
                last.span = ts - last.first_ts;
                end = last.row + last.span + 1;
            }
            _ => {
                entries.push(IndexEntry { run, row: end, first_ts: ts, span: 0 });
                end += 1;
            }
        }
        rows.push(end - 1);
    }
    (entries, rows, end)
}

fn bind_sample(values: &mut Values<'_, '_>, f: &Figures) {
    values
        .thousandths(f.cpu_pct.map(|v| v.thousandths()))
        .whole_or_negative(f.rss_mb.map(|v| v.thousandths()))
        .thousandths(f.io_r_mb_s.map(|v| v.thousandths()))
        .thousandths(f.io_w_mb_s.map(|v| v.thousandths()))
        .whole_or_negative(f.uptime_s.map(|v| v.thousandths()))
        .whole_or_negative(f.gpu_util_pct.map(|v| v.thousandths()))
        .whole_or_negative(f.vram_mb.map(|v| v.thousandths()))
        .number(f.requests_running.map(|v| v.thousandths()))
        .number(f.requests_waiting.map(|v| v.thousandths()))
        .thousandths(f.kv_cache_pct.map(|v| v.thousandths()));
}

/// How a worker's part of each GPU is stored.
enum WorkerGpus {
    None,
    /// One GPU, with the worker's own figures.
    Alone(i64),
    List(String),
}

impl WorkerGpus {
    fn of(sample: &SampleRow) -> Self {
        let f = &sample.figures;
        match &sample.gpus[..] {
            [] => Self::None,
            [only] if only.util_pct == f.gpu_util_pct && only.vram_mb == f.vram_mb => {
                Self::Alone(only.gpu)
            }
            gpus => {
                let mut list = String::new();
                let gpus = gpus
                    .iter()
                    .map(|&WorkerGpuRow { gpu, util_pct, vram_mb }| (gpu, util_pct, vram_mb));
                codec::encode_worker_gpus(&mut list, gpus);
                Self::List(list)
            }
        }
    }
}

impl HeartbeatRow {
    fn insert(
        &self,
        block: i64,
        min_ts: i64,
        statement: &mut Statement,
        handle: &mut Handle<'_>,
    ) -> Result<(), RawError> {
        let NodeRow { description, node, agent } = &self.row;
        let errors = (!agent.errors.is_empty())
            .then(|| serde_json::to_string(&agent.errors).unwrap_or_default());
        statement.execute(handle, |values| {
            values.integer(block).integer(self.hive).integer(self.ts - min_ts).integer(self.id);
            values.integer(*description).integer(self.workers);
            values.thousandths(node.cpu_pct.map(|v| v.thousandths()));
            values.number(node.memory_used_mb.map(|v| v.thousandths()));
            values.thousandths(node.load_1m.map(|v| v.thousandths()));
            values.number(node.uptime_s.map(|v| v.thousandths()));
            values.thousandths(agent.cpu_pct.map(|v| v.thousandths()));
            values.number(agent.rss_mb.map(|v| v.thousandths()));
            values.thousandths(agent.collect_ms.map(|v| v.thousandths()));
            values.number(agent.spooled.map(|v| v.thousandths()));
            values.number(agent.gpu_age_ms.map(|v| v.thousandths()));
            match &errors {
                Some(errors) => values.text(errors),
                None => values.null(),
            };
            values.integer(self.late);
        })
    }

    /// What a heartbeat says of each stored metric of its hive, in thousandths.
    fn metrics(&self) -> [(u8, Option<u64>); 5] {
        let node = &self.row.node;
        let total = self.memory_total_mb.and_then(|total| Mebibytes::new(total).ok());
        [
            (metric::HIVE_PRESENT, Some(1000)),
            (30, node.cpu_pct.map(|v| v.thousandths())),
            (31, node.memory_used_mb.map(|v| v.thousandths())),
            (32, total.map(Mebibytes::thousandths)),
            (33, node.load_1m.map(|v| v.thousandths())),
        ]
    }
}

/// What a worker's sample says of each stored metric, in thousandths.
fn worker_metrics(f: &Figures) -> [(u8, Option<u64>); 12] {
    let util = f.gpu_util_pct.map(Percent::thousandths);
    [
        (metric::WORKER_PRESENT, Some(1000)),
        (1, f.cpu_pct.map(|v| v.thousandths())),
        (2, f.rss_mb.map(|v| v.thousandths())),
        (3, f.io_r_mb_s.map(|v| v.thousandths())),
        (4, f.io_w_mb_s.map(|v| v.thousandths())),
        (metric::GPU_UTIL, util),
        (6, f.vram_mb.map(|v| v.thousandths())),
        (8, f.uptime_s.map(|v| v.thousandths())),
        (9, f.requests_running.map(|v| v.thousandths())),
        (10, f.requests_waiting.map(|v| v.thousandths())),
        (11, f.kv_cache_pct.map(|v| v.thousandths())),
        (metric::BUSY, util.filter(|util| *util > 0).map(|_| 1000)),
    ]
}

/// What a GPU's reading says of each stored metric, in thousandths.
fn gpu_metrics(gpu: &GpuRow) -> [(u8, Option<u64>); 5] {
    [
        (metric::GPU_PRESENT, Some(1000)),
        (20, gpu.util_pct.map(|v| v.thousandths())),
        (21, gpu.memory_used_mb.map(|v| v.thousandths())),
        (23, gpu.temperature_c.map(|v| v.thousandths())),
        (24, gpu.power_w.map(|v| v.thousandths())),
    ]
}

#[cfg(test)]
mod tests {
    use proptest::collection::btree_set;
    use proptest::{prop_assert, prop_assert_eq, proptest};

    use super::*;

    #[test]
    fn a_long_gap_and_another_run_begin_an_entry() {
        let times =
            [(7, 1000), (7, 2000), (7, 2000 + MAX_GAP_MS), (7, 2001 + 2 * MAX_GAP_MS), (9, 5)];
        let (entries, rows, end) = place(times.into_iter(), 10);
        let entry = |run, row, first_ts, span| IndexEntry { run, row, first_ts, span };
        let long = 1000 + MAX_GAP_MS;
        assert_eq!(
            entries,
            [
                entry(7, 10, 1000, long),
                entry(7, 11 + long, 2001 + 2 * MAX_GAP_MS, 0),
                entry(9, 12 + long, 5, 0)
            ]
        );
        assert_eq!(rows, [10, 1010, 10 + long, 11 + long, 12 + long]);
        assert_eq!(end, 13 + long);
    }

    proptest! {
        #[test]
        fn every_sample_is_found_where_the_index_says(
            times in btree_set((1_i64..5, 0_i64..4_000_000), 0..60),
            first_row in 1_i64..1_000_000,
        ) {
            let (entries, rows, end) = place(times.iter().copied(), first_row);
            prop_assert_eq!(rows.len(), times.len());
            let found = times.iter().zip(&rows).all(|(&(run, ts), &row)| {
                entries.iter().any(|e| e.run == run && row == e.row + ts - e.first_ts
                    && (e.row..=e.row + e.span).contains(&row))
            });
            prop_assert!(found);
            // Entries follow each other, so no row belongs to two.
            prop_assert!(entries.windows(2).all(|pair| pair[1].row == pair[0].row + pair[0].span + 1));
            prop_assert_eq!(entries.last().map_or(first_row, |e| e.row + e.span + 1), end);
        }
    }
}
