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
    for head in parsed::<Head>(&heads.fetch_one(&mut *connection).await?) {
        rows.insert((head.0, head.1), head.into());
    }
    let stretches = stretches(sealed);
    let samples = sqlx::query_file!("queries/sealed_samples.sql", stretches);
    for stretch in samples.fetch_all(&mut *connection).await? {
        for sample in parsed::<Sample>(&stretch.rows) {
            // A stretch may hold readings that were not asked for.
            if let Some(rows) = rows.get_mut(&(stretch.hive, sample.0)) {
                rows.samples.push(sample.into());
            }
        }
    }
    let samples = sqlx::query_file!("queries/sealed_gpu_samples.sql", stretches);
    for stretch in samples.fetch_all(&mut *connection).await? {
        for sample in parsed::<GpuSample>(&stretch.rows) {
            if let Some(rows) = rows.get_mut(&(stretch.hive, sample.0)) {
                rows.gpus.push(sample.into());
            }
        }
    }
    Ok(())
}

/// The stretches of blocks that hold the entries, each [block, hive, first, last], as JSON.
///
/// In the order of time a hive's entries follow each other without a gap and are one stretch.
fn stretches(sealed: &[&Entry]) -> String {
    let mut stretches: BTreeMap<(Option<i64>, i64), Vec<i64>> = BTreeMap::new();
    for entry in sealed {
        stretches.entry((entry.block, entry.hive)).or_default().push(entry.ts);
    }
    let by_time = sealed.is_sorted_by_key(|entry| entry.ts);
    let mut list = Vec::new();
    for ((block, hive), times) in stretches {
        match (times.first(), times.last()) {
            (Some(first), Some(last)) if by_time => list.push(json!([block, hive, first, last])),
            _ => list.extend(times.iter().map(|ts| json!([block, hive, ts, ts]))),
        }
    }
    serde_json::Value::from(list).to_string()
}

/// The rows in a packed one; none where it cannot be read, which only damage can bring about.
fn parsed<T: for<'de> Deserialize<'de>>(rows: &str) -> Vec<T> {
    serde_json::from_str(rows).unwrap_or_else(|error| {
        tracing::warn!(error = %error, "sealed rows cannot be read; left out");
        Vec::new()
    })
}

fn thousandths<T>(figure: Option<u64>, from: fn(u64) -> Option<T>) -> Option<T> {
    figure.and_then(from)
}

/// As `sealed_heads.sql` packs it.
#[derive(Deserialize)]
struct Head(
    i64,
    i64,
    i64,
    Option<u64>,
    Option<Mebibytes>,
    Option<u64>,
    Option<Seconds>,
    Option<u64>,
    Option<Mebibytes>,
    Option<u64>,
    Option<Count>,
    Option<Milliseconds>,
    Option<String>,
);

impl From<Head> for Rows {
    fn from(head: Head) -> Self {
        let Head(_, _, description, cpu, memory_used_mb, load, uptime_s, ..) = head;
        let Head(.., agent_cpu, rss_mb, collect_ms, spooled, gpu_age_ms, errors) = head;
        let errors = errors.and_then(|errors| serde_json::from_str(&errors).ok());
        let node = Node {
            cpu_pct: thousandths(cpu, CpuPercent::from_thousandths),
            memory_used_mb,
            load_1m: thousandths(load, Load::from_thousandths),
            uptime_s,
            cpu_count: None,
            memory_total_mb: None,
        };
        let agent = Agent {
            version: None,
            cpu_pct: thousandths(agent_cpu, CpuPercent::from_thousandths),
            rss_mb,
            collect_ms: thousandths(collect_ms, Milliseconds::from_thousandths),
            spooled,
            gpu_age_ms,
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
    Option<u64>,
    Option<Mebibytes>,
    Option<u64>,
    Option<u64>,
    Option<Seconds>,
    Option<Percent>,
    Option<Mebibytes>,
    Option<Count>,
    Option<Count>,
    Option<u64>,
    Option<Vec<WorkerGpuRow>>,
);

impl From<Sample> for SampleRow {
    fn from(sample: Sample) -> Self {
        let Sample(_, run, cpu, rss_mb, io_r, io_w, uptime_s, gpu_util_pct, vram_mb, ..) = sample;
        let Sample(.., requests_running, requests_waiting, kv_cache, gpus) = sample;
        let figures = Figures {
            cpu_pct: thousandths(cpu, CpuPercent::from_thousandths),
            rss_mb,
            io_r_mb_s: thousandths(io_r, MebibytesPerSecond::from_thousandths),
            io_w_mb_s: thousandths(io_w, MebibytesPerSecond::from_thousandths),
            uptime_s,
            gpu_util_pct,
            vram_mb,
            requests_running,
            requests_waiting,
            kv_cache_pct: thousandths(kv_cache, Percent::from_thousandths),
        };
        Self { run, figures, gpus: gpus.unwrap_or_default() }
    }
}

/// As `sealed_gpu_samples.sql` packs it.
#[derive(Deserialize)]
struct GpuSample(
    i64,
    i64,
    Option<Percent>,
    Option<Mebibytes>,
    Option<Celsius>,
    Option<u64>,
    Option<Text>,
);

impl From<GpuSample> for GpuRow {
    fn from(sample: GpuSample) -> Self {
        let GpuSample(_, gpu, util_pct, memory_used_mb, temperature_c, power, state) = sample;
        let power_w = thousandths(power, Watts::from_thousandths);
        Self { gpu, util_pct, memory_used_mb, temperature_c, power_w, state }
    }
}
