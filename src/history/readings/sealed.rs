//! Sealed readings out of their blocks.
//!
//! The rows come packed as JSON, many in one: handing each over by itself from the connection's
//! thread would cost more than reading it.

use std::collections::{BTreeMap, HashMap};

use hive_contract::heartbeat::{Agent, Node};
use hive_contract::text::Text;
use hive_contract::units::{
    Celsius, Count, CpuPercent, Load, Mebibytes, MebibytesPerSecond, Milliseconds, Percent,
    Seconds, Watts,
};
use serde::Deserialize;
use serde_json::json;
use sqlx::SqliteConnection;

use super::Entry;
use super::content::Moment;
use crate::history::codec::{Figures, GpuRow, NodeRow, Rows, SampleRow, WorkerGpuRow};

/// Readings of one hive that are no further apart (ms) are read together.
const NEAR_MS: i64 = 5000;

/// Reads what stands at sealed entries. What cannot be read is missing afterwards.
pub(super) async fn read(
    sealed: &[&Entry],
    rows: &mut HashMap<Moment, Rows>,
    connection: &mut SqliteConnection,
) -> sqlx::Result<()> {
    let keys: serde_json::Value =
        sealed.iter().map(|entry| json!([entry.block, entry.hive, entry.ts])).collect();
    let keys = keys.to_string();
    let heads = sqlx::query_file_scalar!("queries/sealed_heads.sql", keys);
    for head in parse::<Head>(&heads.fetch_one(&mut *connection).await?).unwrap_or_default() {
        rows.insert((head.0, head.1), head.into());
    }
    let stretches = stretches(sealed);
    let samples = sqlx::query_file!("queries/sealed_samples.sql", stretches);
    for stretch in samples.fetch_all(&mut *connection).await? {
        let Some(samples) = parse::<Sample>(&stretch.rows) else {
            leave_out(stretch.hive, rows);
            continue;
        };
        for sample in samples {
            // A stretch may hold readings that were not asked for.
            if let Some(rows) = rows.get_mut(&(stretch.hive, sample.0)) {
                rows.samples.push(sample.into());
            }
        }
    }
    let samples = sqlx::query_file!("queries/sealed_gpu_samples.sql", stretches);
    for stretch in samples.fetch_all(&mut *connection).await? {
        let Some(samples) = parse::<GpuSample>(&stretch.rows) else {
            leave_out(stretch.hive, rows);
            continue;
        };
        for sample in samples {
            if let Some(rows) = rows.get_mut(&(stretch.hive, sample.0)) {
                rows.gpus.push(sample.into());
            }
        }
    }
    Ok(())
}

/// A reading without a part of it would pass for a whole one.
fn leave_out(hive: i64, rows: &mut HashMap<Moment, Rows>) {
    rows.retain(|(of, _), _| *of != hive);
}

/// The stretches of blocks that hold the entries, each [block, hive, first, last], as JSON.
///
/// In the order of time a hive's entries follow each other without a gap and are one stretch. In
/// another order those near each other are, though one between them may not be asked for: to read
/// it costs less than to look for each by itself.
fn stretches(sealed: &[&Entry]) -> String {
    let mut stretches: BTreeMap<(Option<i64>, i64), Vec<i64>> = BTreeMap::new();
    for entry in sealed {
        stretches.entry((entry.block, entry.hive)).or_default().push(entry.ts);
    }
    let by_time = sealed.is_sorted_by_key(|entry| entry.ts);
    let mut list = Vec::new();
    for ((block, hive), mut times) in stretches {
        times.sort_unstable();
        for near in times.chunk_by(|ts, next| by_time || next - ts <= NEAR_MS) {
            list.push(json!([block, hive, near.first(), near.last()]));
        }
    }
    serde_json::Value::from(list).to_string()
}

/// The rows in a packed one; none where they cannot be read, which only damage can bring about.
fn parse<T: for<'de> Deserialize<'de>>(rows: &str) -> Option<Vec<T>> {
    serde_json::from_str(rows)
        .inspect_err(|error| tracing::warn!(error = %error, "sealed rows are damaged"))
        .ok()
}

/// A figure in thousandths; absent where it is out of range.
fn figure<T>(thousandths: Option<u64>, from: fn(u64) -> Option<T>) -> Option<T> {
    thousandths.and_then(from)
}

type Figure = Option<u64>;

/// As `sealed_heads.sql` packs it.
#[derive(Deserialize)]
struct Head(
    i64,
    i64,
    i64,
    Figure,
    Figure,
    Figure,
    Figure,
    Figure,
    Figure,
    Figure,
    Figure,
    Figure,
    Option<String>,
);

impl From<Head> for Rows {
    fn from(head: Head) -> Self {
        let Head(_, _, description, cpu, memory_used, load, uptime, ..) = head;
        let Head(.., agent_cpu, rss, collect, spooled, gpu_age, errors) = head;
        let errors = errors.and_then(|errors| serde_json::from_str(&errors).ok());
        let node = Node {
            cpu_pct: figure(cpu, CpuPercent::from_thousandths),
            memory_used_mb: figure(memory_used, Mebibytes::from_thousandths),
            load_1m: figure(load, Load::from_thousandths),
            uptime_s: figure(uptime, Seconds::from_thousandths),
            cpu_count: None,
            memory_total_mb: None,
        };
        let agent = Agent {
            version: None,
            cpu_pct: figure(agent_cpu, CpuPercent::from_thousandths),
            rss_mb: figure(rss, Mebibytes::from_thousandths),
            collect_ms: figure(collect, Milliseconds::from_thousandths),
            spooled: figure(spooled, Count::from_thousandths),
            gpu_age_ms: figure(gpu_age, Milliseconds::from_thousandths),
            errors: errors.unwrap_or_default(),
        };
        let node = NodeRow { description, node, agent };
        Self { samples: Vec::new(), gpus: Vec::new(), node }
    }
}

/// As `sealed_samples.sql` packs it.
#[derive(Deserialize)]
struct Sample(
    i64,
    i64,
    Figure,
    Figure,
    Figure,
    Figure,
    Figure,
    Figure,
    Figure,
    Figure,
    Figure,
    Figure,
    Option<WorkerGpus>,
);

/// How a worker's part of each GPU is stored.
#[derive(Deserialize)]
#[serde(untagged)]
enum WorkerGpus {
    /// One GPU, with the worker's own figures.
    Alone(i64),
    List(Vec<WorkerGpuRow>),
}

impl From<Sample> for SampleRow {
    fn from(sample: Sample) -> Self {
        let Sample(_, run, cpu, rss, io_r, io_w, uptime, gpu_util, vram, ..) = sample;
        let Sample(.., running, waiting, kv_cache, gpus) = sample;
        let figures = Figures {
            cpu_pct: figure(cpu, CpuPercent::from_thousandths),
            rss_mb: figure(rss, Mebibytes::from_thousandths),
            io_r_mb_s: figure(io_r, MebibytesPerSecond::from_thousandths),
            io_w_mb_s: figure(io_w, MebibytesPerSecond::from_thousandths),
            uptime_s: figure(uptime, Seconds::from_thousandths),
            gpu_util_pct: figure(gpu_util, Percent::from_thousandths),
            vram_mb: figure(vram, Mebibytes::from_thousandths),
            requests_running: figure(running, Count::from_thousandths),
            requests_waiting: figure(waiting, Count::from_thousandths),
            kv_cache_pct: figure(kv_cache, Percent::from_thousandths),
        };
        let gpus = match gpus {
            None => Vec::new(),
            Some(WorkerGpus::List(gpus)) => gpus,
            Some(WorkerGpus::Alone(gpu)) => {
                let Figures { gpu_util_pct: util_pct, vram_mb, .. } = figures;
                vec![WorkerGpuRow { gpu, util_pct, vram_mb }]
            }
        };
        Self { run, figures, gpus }
    }
}

/// As `sealed_gpu_samples.sql` packs it.
#[derive(Deserialize)]
struct GpuSample(i64, i64, Figure, Figure, Figure, Figure, Option<Text>);

impl From<GpuSample> for GpuRow {
    fn from(sample: GpuSample) -> Self {
        let GpuSample(_, gpu, util, memory_used, temperature, power, state) = sample;
        Self {
            gpu,
            util_pct: figure(util, Percent::from_thousandths),
            memory_used_mb: figure(memory_used, Mebibytes::from_thousandths),
            temperature_c: figure(temperature, Celsius::from_thousandths),
            power_w: figure(power, Watts::from_thousandths),
            state,
        }
    }
}
