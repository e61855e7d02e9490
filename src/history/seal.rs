//! Sealing: live readings become a sorted block with its rollups.
//!
//! It is done by the writer, in slices of at most [`SLICE_SAMPLES`] worker-samples, one between
//! two batches of heartbeats, so that no heartbeat waits long for it.
//!
//! Invariant: a block becomes visible whole. Its rows are written under a number that `blocks`
//! does not list yet; the last short transaction lists it and hides the live rows. After a
//! crash an unlisted block is removed and its readings, still live, are sealed anew.

use std::collections::VecDeque;

use hive_contract::units::{Celsius, Count, Mebibytes, Percent, Seconds};
use sqlx::{Connection, SqliteConnection};

use super::codec::{self, Figures, GpuRow, SampleRow, WorkerGpuRow};
use super::insert::{Values, bind_any, insert};
use super::live::{LiveIndex, Reading};
use super::metric;
use super::rollup::{Accumulator, Columns, HOUR_MS, MINUTE_MS, Summary};

/// Worker-samples in one slice: about 10 ms of work.
const SLICE_SAMPLES: usize = 8192;
/// Worker-samples in the live part above which it is sealed whatever its age.
pub(super) const MAX_LIVE_SAMPLES: usize = 1_000_000;
/// How long a block waits for the last readings of its minute to arrive: 2 s. Readings that
/// come later join the next block.
const GRACE_MS: i64 = 2000;
/// Live rows deleted in one slice.
const DELETED_PER_SLICE: i64 = 1000;

/// Seals what is due, a slice at a time.
#[derive(Debug)]
pub(super) struct Sealer {
    seal_after_ms: i64,
    /// The number of the next block.
    next_block: i64,
    /// Hours before this (ms since the epoch) stand in `rollup_1h`.
    rolled_ts: i64,
    work: Work,
}

#[derive(Debug, Default)]
enum Work {
    #[default]
    Idle,
    Writing(Box<Block>),
    Deleting(Cut),
    /// Something failed: what was written of the block must go before the next begins.
    Cleaning,
}

/// Which live readings are sealed: those from before a time, up to an id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Cut {
    before_ts: i64,
    through_id: i64,
}

/// A block on its way.
#[derive(Debug)]
struct Block {
    block: i64,
    cut: Cut,
    min_ts: i64,
    max_ts: i64,
    min_id: i64,
    max_id: i64,
    heartbeats: i64,
    samples: i64,
    slices: VecDeque<Vec<i64>>,
    slice: i64,
    /// Rows of hours that were rolled up already: written with the last transaction.
    late_hours: Vec<RollupRow>,
}

impl Sealer {
    /// Removes what a crash left behind, and learns where to go on.
    pub(super) async fn open(
        seal_after_ms: i64,
        connection: &mut SqliteConnection,
    ) -> sqlx::Result<Self> {
        let last = clean(connection).await?;
        let progress = sqlx::query_file!("queries/progress.sql").fetch_one(connection).await?;
        Ok(Self {
            seal_after_ms,
            next_block: last + 1,
            rolled_ts: progress.rolled_ts,
            work: Work::Idle,
        })
    }

    /// Whether a block is under way.
    pub(super) fn is_busy(&self) -> bool {
        !matches!(self.work, Work::Idle)
    }

    /// Begins a block if one is due: when the oldest live reading is old enough, or there are
    /// too many. `now_ms` is since the epoch.
    pub(super) fn begin(&mut self, live: &LiveIndex, now_ms: i64, last_id: i64) {
        if self.is_busy() {
            return;
        }
        let Some((oldest_id, oldest_ts)) = live.oldest() else { return };
        // Blocks end with a minute, so that nearly every minute is rolled up in one piece.
        let align = self.seal_after_ms.clamp(1, MINUTE_MS);
        let end = (now_ms - GRACE_MS).div_euclid(align) * align;
        let before_ts = if live.samples() >= MAX_LIVE_SAMPLES {
            i64::MAX
        } else if oldest_id / 1000 <= now_ms - self.seal_after_ms && oldest_ts < end {
            end
        } else {
            return;
        };
        let cut = Cut { before_ts, through_id: last_id };
        let mut block = Block {
            block: self.next_block,
            cut,
            min_ts: i64::MAX,
            max_ts: i64::MIN,
            min_id: i64::MAX,
            max_id: i64::MIN,
            heartbeats: 0,
            samples: 0,
            slices: VecDeque::new(),
            slice: 0,
            late_hours: Vec::new(),
        };
        // A heartbeat without workers still has its own row.
        let weight = |reading: &Reading| usize::from(reading.samples).max(4);
        let mut room = 0;
        for (_, readings) in live.before(before_ts) {
            // A hive stays in one slice if it can: its rows are then appended in order.
            if room < readings.iter().map(weight).sum() {
                room = 0;
            }
            for reading in readings {
                block.min_ts = block.min_ts.min(reading.ts);
                block.max_ts = block.max_ts.max(reading.ts);
                block.min_id = block.min_id.min(reading.id);
                block.max_id = block.max_id.max(reading.id);
                block.heartbeats += 1;
                block.samples += i64::from(reading.samples);
                if room < weight(reading) {
                    room = SLICE_SAMPLES.max(weight(reading));
                    block.slices.push_back(Vec::new());
                }
                room -= weight(reading);
                if let Some(slice) = block.slices.back_mut() {
                    slice.push(reading.id);
                }
            }
        }
        self.work = Work::Writing(Box::new(block));
    }

    /// Does one slice of what is under way. On an error the block is given up; its readings
    /// stay live and are sealed in a later try.
    pub(super) async fn step(
        &mut self,
        live: &mut LiveIndex,
        connection: &mut SqliteConnection,
    ) -> sqlx::Result<()> {
        let result = self.try_step(live, connection).await;
        if result.is_err() {
            self.work = Work::Cleaning;
        }
        result
    }

    async fn try_step(
        &mut self,
        live: &mut LiveIndex,
        connection: &mut SqliteConnection,
    ) -> sqlx::Result<()> {
        match std::mem::take(&mut self.work) {
            Work::Idle => {}
            Work::Writing(mut block) => match block.slices.pop_front() {
                Some(ids) => {
                    block.write(&ids, self.rolled_ts, connection).await?;
                    self.work = Work::Writing(block);
                }
                None => {
                    block.list(connection).await?;
                    self.next_block = block.block + 1;
                    live.remove(block.cut.before_ts, block.cut.through_id);
                    tracing::debug!(
                        block.number = block.block,
                        block.heartbeats,
                        block.samples,
                        "a block was sealed"
                    );
                    self.work = Work::Deleting(block.cut);
                }
            },
            Work::Deleting(cut) => {
                // If this fails the rows stay hidden; the cleaning deletes them.
                let Cut { before_ts, through_id } = cut;
                let deleted = sqlx::query_file!(
                    "queries/delete_sealed.sql",
                    through_id,
                    before_ts,
                    DELETED_PER_SLICE
                )
                .execute(connection)
                .await?
                .rows_affected();
                if deleted > 0 {
                    self.work = Work::Deleting(cut);
                }
            }
            Work::Cleaning => {
                clean(connection).await?;
            }
        }
        Ok(())
    }
}

/// Removes the rows of unlisted blocks and the live rows that stand in listed ones. Gives the
/// newest listed block.
async fn clean(connection: &mut SqliteConnection) -> sqlx::Result<i64> {
    let mut transaction = connection.begin_with("BEGIN IMMEDIATE").await?;
    let c = &mut *transaction;
    let last = sqlx::query_file_scalar!("queries/last_block.sql").fetch_one(&mut *c).await?;
    sqlx::query_file!("queries/delete_unlisted_samples.sql", last).execute(&mut *c).await?;
    sqlx::query_file!("queries/delete_unlisted_gpu_samples.sql", last).execute(&mut *c).await?;
    sqlx::query_file!("queries/delete_unlisted_heartbeats.sql", last).execute(&mut *c).await?;
    sqlx::query_file!("queries/delete_unlisted_rollups.sql", last).execute(&mut *c).await?;
    let progress = sqlx::query_file!("queries/progress.sql").fetch_one(&mut *c).await?;
    sqlx::query_file!("queries/delete_all_sealed.sql", progress.sealed_id, progress.sealed_ts)
        .execute(&mut *c)
        .await?;
    transaction.commit().await?;
    Ok(last)
}

/// The samples of one slice, with where they came from.
#[derive(Default)]
struct Slice {
    samples: Vec<(i64, i64, SampleRow)>,
    gpus: Vec<(i64, GpuRow)>,
    heartbeats: Vec<HeartbeatRow>,
}

struct HeartbeatRow {
    id: i64,
    hive: i64,
    ts: i64,
    workers: i64,
    memory_total_mb: Option<f64>,
    row: codec::NodeRow,
}

impl Block {
    async fn write(
        &mut self,
        ids: &[i64],
        rolled_ts: i64,
        connection: &mut SqliteConnection,
    ) -> sqlx::Result<()> {
        let slice = read(ids, connection).await?;
        let (mut minutes, mut hours) = (Accumulator::default(), Accumulator::default());
        let mut add = |metric: u8, series: i64, ts: i64, value: Option<u64>| {
            if let Some(value) = value {
                let reading = Summary::of(value, ts);
                minutes.add(metric, ts - ts.rem_euclid(MINUTE_MS), series, &reading);
                if ts < rolled_ts {
                    hours.add(metric, ts - ts.rem_euclid(HOUR_MS), series, &reading);
                }
            }
        };
        for (run, ts, sample) in &slice.samples {
            for (metric, value) in worker_metrics(&sample.figures) {
                add(metric, *run, *ts, value);
            }
        }
        for (ts, gpu) in &slice.gpus {
            for (metric, value) in gpu_metrics(gpu) {
                add(metric, gpu.gpu, *ts, value);
            }
        }
        for heartbeat in &slice.heartbeats {
            for (metric, value) in hive_metrics(heartbeat) {
                add(metric, heartbeat.hive, heartbeat.ts, value);
            }
        }
        let mut transaction = connection.begin_with("BEGIN IMMEDIATE").await?;
        self.insert_samples(&slice.samples, &mut transaction).await?;
        self.insert_gpu_samples(&slice.gpus, &mut transaction).await?;
        self.insert_heartbeats(&slice.heartbeats, &mut transaction).await?;
        insert_rollups("rollup_1m", &self.rows(&minutes), &mut transaction).await?;
        transaction.commit().await?;
        self.late_hours.extend(self.rows(&hours));
        self.slice += 1;
        Ok(())
    }

    fn rows(&self, rollups: &Accumulator) -> Vec<RollupRow> {
        let row = |(metric, bucket, columns)| RollupRow {
            block: self.block,
            metric,
            bucket,
            slice: self.slice,
            columns,
        };
        rollups.rows().map(row).collect()
    }

    /// Makes the block visible and hides its live rows.
    async fn list(&mut self, connection: &mut SqliteConnection) -> sqlx::Result<()> {
        let mut transaction = connection.begin_with("BEGIN IMMEDIATE").await?;
        insert_rollups("rollup_1h", &self.late_hours, &mut transaction).await?;
        let Cut { before_ts, through_id } = self.cut;
        sqlx::query_file!(
            "queries/insert_block.sql",
            self.block,
            self.min_ts,
            self.max_ts,
            self.min_id,
            self.max_id,
            self.heartbeats,
            self.samples
        )
        .execute(&mut *transaction)
        .await?;
        sqlx::query_file!("queries/set_sealed.sql", through_id, before_ts)
            .execute(&mut *transaction)
            .await?;
        sqlx::query_file!("queries/set_newest_block.sql", self.block, through_id, before_ts)
            .execute(&mut *transaction)
            .await?;
        transaction.commit().await
    }

    async fn insert_samples(
        &self,
        samples: &[(i64, i64, SampleRow)],
        connection: &mut SqliteConnection,
    ) -> sqlx::Result<()> {
        let statement = "INSERT INTO samples (block, run, ts, cpu_pct, rss_mb, io_r_mb_s, io_w_mb_s, \
             uptime_s, gpu_util_pct, vram_mb, requests_running, requests_waiting, kv_cache_pct, gpus) ";
        let bind = |values: &mut Values<'_>, (run, ts, sample): &(i64, i64, SampleRow)| {
            let f = &sample.figures;
            values.push_bind(self.block).push_bind(*run).push_bind(ts - self.min_ts);
            values.push_bind(f.cpu_pct.map(|v| v.thousandths().cast_signed()));
            bind_any(values, f.rss_mb.map(Mebibytes::thousandths));
            values.push_bind(f.io_r_mb_s.map(|v| v.thousandths().cast_signed()));
            values.push_bind(f.io_w_mb_s.map(|v| v.thousandths().cast_signed()));
            bind_any(values, f.uptime_s.map(Seconds::thousandths));
            bind_any(values, f.gpu_util_pct.map(Percent::thousandths));
            bind_any(values, f.vram_mb.map(Mebibytes::thousandths));
            bind_any(values, f.requests_running.map(Count::thousandths));
            bind_any(values, f.requests_waiting.map(Count::thousandths));
            values.push_bind(f.kv_cache_pct.map(|v| v.thousandths().cast_signed()));
            bind_gpus(values, sample);
        };
        insert(statement, samples, bind, "", connection).await
    }

    async fn insert_gpu_samples(
        &self,
        gpus: &[(i64, GpuRow)],
        connection: &mut SqliteConnection,
    ) -> sqlx::Result<()> {
        let statement = "INSERT INTO gpu_samples (block, gpu, ts, util_pct, memory_used_mb, \
             temperature_c, power_w, state) ";
        let bind = |values: &mut Values<'_>, (ts, gpu): &(i64, GpuRow)| {
            values.push_bind(self.block).push_bind(gpu.gpu).push_bind(ts - self.min_ts);
            bind_any(values, gpu.util_pct.map(Percent::thousandths));
            bind_any(values, gpu.memory_used_mb.map(Mebibytes::thousandths));
            bind_any(values, gpu.temperature_c.map(Celsius::thousandths));
            values.push_bind(gpu.power_w.map(|v| v.thousandths().cast_signed()));
            values.push_bind(gpu.state.as_ref().map(|state| state.as_str()));
        };
        insert(statement, gpus, bind, "", connection).await
    }

    async fn insert_heartbeats(
        &self,
        heartbeats: &[HeartbeatRow],
        connection: &mut SqliteConnection,
    ) -> sqlx::Result<()> {
        let statement = "INSERT INTO heartbeats (block, hive, ts, id, description, workers, cpu_pct, \
             memory_used_mb, load_1m, uptime_s, agent_cpu_pct, agent_rss_mb, collect_ms, spooled, \
             gpu_age_ms, errors) ";
        let bind = |values: &mut Values<'_>, heartbeat: &HeartbeatRow| {
            let (node, agent) = (&heartbeat.row.node, &heartbeat.row.agent);
            values.push_bind(self.block).push_bind(heartbeat.hive);
            values.push_bind(heartbeat.ts - self.min_ts).push_bind(heartbeat.id);
            values.push_bind(heartbeat.row.description).push_bind(heartbeat.workers);
            values.push_bind(node.cpu_pct.map(|v| v.thousandths().cast_signed()));
            bind_any(values, node.memory_used_mb.map(Mebibytes::thousandths));
            values.push_bind(node.load_1m.map(|v| v.thousandths().cast_signed()));
            bind_any(values, node.uptime_s.map(Seconds::thousandths));
            values.push_bind(agent.cpu_pct.map(|v| v.thousandths().cast_signed()));
            bind_any(values, agent.rss_mb.map(Mebibytes::thousandths));
            values.push_bind(agent.collect_ms.map(|v| v.thousandths().cast_signed()));
            bind_any(values, agent.spooled.map(Count::thousandths));
            bind_any(values, agent.gpu_age_ms.map(|v| v.thousandths()));
            let errors = (!agent.errors.is_empty())
                .then(|| serde_json::to_string(&agent.errors).unwrap_or_default());
            values.push_bind(errors);
        };
        insert(statement, heartbeats, bind, "", connection).await
    }
}

/// Reads live rows and takes them apart, sorted by series and time.
async fn read(ids: &[i64], connection: &mut SqliteConnection) -> sqlx::Result<Slice> {
    let ids = serde_json::Value::from(ids).to_string();
    let rows = sqlx::query_file!("queries/live_rows.sql", ids).fetch_all(connection).await?;
    let mut slice = Slice::default();
    for row in rows {
        let damaged = |error: serde_json::Error| sqlx::Error::Decode(error.into());
        let samples: Vec<SampleRow> = serde_json::from_str(&row.samples).map_err(damaged)?;
        let gpus: Vec<GpuRow> = serde_json::from_str(&row.gpus).map_err(damaged)?;
        slice.heartbeats.push(HeartbeatRow {
            id: row.id,
            hive: row.hive,
            ts: row.ts,
            workers: samples.len() as i64,
            memory_total_mb: row.memory_total_mb,
            row: serde_json::from_str(&row.node).map_err(damaged)?,
        });
        slice.samples.extend(samples.into_iter().map(|sample| (sample.run, row.ts, sample)));
        slice.gpus.extend(gpus.into_iter().map(|gpu| (row.ts, gpu)));
    }
    slice.samples.sort_unstable_by_key(|(run, ts, _)| (*run, *ts));
    slice.gpus.sort_unstable_by_key(|(ts, gpu)| (gpu.gpu, *ts));
    slice.heartbeats.sort_unstable_by_key(|heartbeat| (heartbeat.hive, heartbeat.ts));
    // The same name twice in one heartbeat would be the same row twice; the first stands.
    slice.gpus.dedup_by_key(|(ts, gpu)| (gpu.gpu, *ts));
    Ok(slice)
}

/// What a worker's sample says of each stored metric, in thousandths.
pub(super) fn worker_metrics(f: &Figures) -> [(u8, Option<u64>); 12] {
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
pub(super) fn gpu_metrics(gpu: &GpuRow) -> [(u8, Option<u64>); 5] {
    [
        (metric::GPU_PRESENT, Some(1000)),
        (20, gpu.util_pct.map(|v| v.thousandths())),
        (21, gpu.memory_used_mb.map(|v| v.thousandths())),
        (23, gpu.temperature_c.map(|v| v.thousandths())),
        (24, gpu.power_w.map(|v| v.thousandths())),
    ]
}

/// What a heartbeat says of each stored metric of its hive, in thousandths.
fn hive_metrics(heartbeat: &HeartbeatRow) -> [(u8, Option<u64>); 5] {
    let node = &heartbeat.row.node;
    let total = heartbeat.memory_total_mb.and_then(|total| Mebibytes::new(total).ok());
    [
        (metric::HIVE_PRESENT, Some(1000)),
        (30, node.cpu_pct.map(|v| v.thousandths())),
        (31, node.memory_used_mb.map(|v| v.thousandths())),
        (32, total.map(Mebibytes::thousandths)),
        (33, node.load_1m.map(|v| v.thousandths())),
    ]
}

fn bind_gpus(values: &mut Values<'_>, sample: &SampleRow) {
    let f = &sample.figures;
    match &sample.gpus[..] {
        [] => values.push_bind(None::<i64>),
        [only] if only.util_pct == f.gpu_util_pct && only.vram_mb == f.vram_mb => {
            values.push_bind(only.gpu)
        }
        gpus => {
            let mut text = String::new();
            codec::encode_worker_gpus(
                &mut text,
                gpus.iter()
                    .map(|&WorkerGpuRow { gpu, util_pct, vram_mb }| (gpu, util_pct, vram_mb)),
            );
            values.push_bind(text)
        }
    };
}

/// A row of a rollup table.
#[derive(Debug)]
pub(super) struct RollupRow {
    /// Its block; 0 for an hour that was made from the minutes.
    pub(super) block: i64,
    pub(super) metric: u8,
    /// Start of the bucket: ms since the epoch.
    pub(super) bucket: i64,
    pub(super) slice: i64,
    pub(super) columns: Columns,
}

/// Adds rows to `rollup_1m` or `rollup_1h`.
pub(super) async fn insert_rollups(
    table: &str,
    rows: &[RollupRow],
    connection: &mut SqliteConnection,
) -> sqlx::Result<()> {
    let statement = format!(
        "INSERT INTO {table} (block, metric, bucket, slice, count, series, n, sum, min, max, \
         last, first, last_t, first_t) "
    );
    let bind = |values: &mut Values<'_>, row: &RollupRow| {
        let c = &row.columns;
        values.push_bind(row.block).push_bind(i64::from(row.metric)).push_bind(row.bucket);
        values.push_bind(row.slice).push_bind(c.count as i64);
        for column in
            [&c.series, &c.n, &c.sum, &c.min, &c.max, &c.last, &c.first, &c.last_t, &c.first_t]
        {
            values.push_bind(&column[..]);
        }
    };
    insert(&statement, rows, bind, "", connection).await
}
