//! From where a reading is to what it said.
//!
//! Live rows are taken as they are. A sealed reading is put together from its block: the
//! heartbeat's own row, the samples of its hive's runs and GPUs at its time.

use std::collections::{BTreeMap, HashMap};

use futures_util::TryStreamExt;
use hive_contract::heartbeat::{Agent, Heartbeat, Hive, Node};
use hive_contract::text::Text;
use hive_contract::units::{
    Celsius, Count, CpuPercent, Load, Mebibytes, MebibytesPerSecond, Milliseconds, Percent,
    Seconds, Watts,
};
use hive_contract::{HiveId, Timestamp};
use serde_json::json;
use sqlx::SqliteConnection;

use super::names::{Description, Names};
use super::{Entry, Reading};
use crate::history::codec::{
    Decoded, Figures, GpuRow, Names as _, NodeRow, Rows, SampleRow, WorkerGpuRow,
};

/// A reading's hive and time: no two have both the same.
type Moment = (i64, i64);

/// Reads what stands at the entries, in their order. A reading that cannot be read is left out
/// and logged.
pub(in crate::history) async fn read(
    entries: &[Entry],
    names: &mut Names,
    connection: &mut SqliteConnection,
) -> sqlx::Result<Vec<Reading>> {
    let mut rows: HashMap<Moment, Rows> = HashMap::with_capacity(entries.len());
    read_live(entries, &mut rows, connection).await?;
    let sealed: Vec<&Entry> = entries.iter().filter(|entry| entry.block.is_some()).collect();
    if !sealed.is_empty() {
        read_heads(&sealed, &mut rows, connection).await?;
        let ranges = ranges(&sealed);
        read_samples(&ranges, &mut rows, connection).await?;
        read_gpu_samples(&ranges, &mut rows, connection).await?;
    }
    names.learn(rows.values(), connection).await?;
    let mut readings = Vec::with_capacity(entries.len());
    for entry in entries {
        let reading = rows.remove(&(entry.hive, entry.ts)).and_then(|mut rows| {
            if entry.block.is_some() {
                sort(&mut rows, names);
            }
            reading(entry, rows, names)
        });
        match reading {
            Some(reading) => readings.push(reading),
            None => tracing::warn!(
                heartbeat.id = entry.id,
                "a stored heartbeat cannot be read; left out"
            ),
        }
    }
    Ok(readings)
}

/// The order of arrival is not kept in a block: workers are given by group and instance, GPUs
/// by index and uuid.
fn sort(rows: &mut Rows, names: &Names) {
    rows.samples
        .sort_by_cached_key(|row| names.run(row.run).map(|worker| (worker.group, worker.instance)));
    rows.gpus.sort_by_cached_key(|row| names.gpu(row.gpu).map(|gpu| (gpu.index, gpu.uuid)));
}

fn reading(entry: &Entry, rows: Rows, names: &Names) -> Option<Reading> {
    let id = HiveId::new(entry.hive_id.as_str()).ok()?;
    let timestamp = Timestamp::from_millis(entry.ts)?;
    let Decoded { ids, workers, gpus, node, agent } = rows.name(names);
    let Description {
        hostname,
        port,
        operational_status,
        health_status,
        version,
        interval_ms,
        cpu_count,
        memory_total_mb,
        agent_version,
    } = names.description(ids.description);
    let node = Node { cpu_count, memory_total_mb, ..node };
    let agent = Agent { version: agent_version, ..agent };
    let heartbeat = Heartbeat {
        hive: Hive { id, hostname, port, operational_status, health_status, version },
        timestamp,
        interval_ms,
        workers,
        gpus,
        node: Some(node).filter(|node| *node != Node::default()),
        agent: Some(agent).filter(|agent| *agent != Agent::default()),
    };
    Some(Reading { id: entry.id, heartbeat, ids })
}

async fn read_live(
    entries: &[Entry],
    rows: &mut HashMap<Moment, Rows>,
    connection: &mut SqliteConnection,
) -> sqlx::Result<()> {
    let ids: Vec<i64> =
        entries.iter().filter(|entry| entry.block.is_none()).map(|entry| entry.id).collect();
    if ids.is_empty() {
        return Ok(());
    }
    let ids = serde_json::Value::from(ids).to_string();
    for row in sqlx::query_file!("queries/live_rows.sql", ids).fetch_all(connection).await? {
        // What is not there afterwards is reported by the caller.
        if let Ok(parsed) = Rows::parse(&row.samples, &row.gpus, &row.node) {
            rows.insert((row.hive, row.ts), parsed);
        }
    }
    Ok(())
}

/// The stretches of blocks that hold the entries, each [block, hive, first, last], as JSON.
///
/// In the order of time a hive's entries follow each other without a gap and are one stretch.
fn ranges(sealed: &[&Entry]) -> String {
    let mut stretches: BTreeMap<(Option<i64>, i64), Vec<i64>> = BTreeMap::new();
    for entry in sealed {
        stretches.entry((entry.block, entry.hive)).or_default().push(entry.ts);
    }
    let by_time = sealed.is_sorted_by_key(|entry| entry.ts);
    let mut ranges = Vec::new();
    for ((block, hive), times) in stretches {
        match (times.first(), times.last()) {
            (Some(first), Some(last)) if by_time => ranges.push(json!([block, hive, first, last])),
            _ => ranges.extend(times.iter().map(|ts| json!([block, hive, ts, ts]))),
        }
    }
    serde_json::Value::from(ranges).to_string()
}

fn thousandths<T>(figure: Option<i64>, from: fn(u64) -> Option<T>) -> Option<T> {
    figure.and_then(|figure| from(u64::try_from(figure).ok()?))
}

fn number<T, E>(figure: Option<f64>, from: fn(f64) -> Result<T, E>) -> Option<T> {
    figure.and_then(|figure| from(figure).ok())
}

fn count(figure: Option<i64>) -> Option<Count> {
    figure.and_then(|figure| Count::from_integer(u64::try_from(figure).ok()?).ok())
}

async fn read_heads(
    sealed: &[&Entry],
    rows: &mut HashMap<Moment, Rows>,
    connection: &mut SqliteConnection,
) -> sqlx::Result<()> {
    let keys: serde_json::Value =
        sealed.iter().map(|entry| json!([entry.block, entry.hive, entry.ts])).collect();
    let keys = keys.to_string();
    for row in sqlx::query_file!("queries/sealed_heads.sql", keys).fetch_all(connection).await? {
        let Some(entry) = usize::try_from(row.at).ok().and_then(|at| sealed.get(at)) else {
            continue;
        };
        let errors = row.errors.and_then(|errors| serde_json::from_str(&errors).ok());
        let node = NodeRow {
            description: row.description,
            node: Node {
                cpu_pct: thousandths(row.cpu_pct, CpuPercent::from_thousandths),
                memory_used_mb: number(row.memory_used_mb, Mebibytes::new),
                load_1m: thousandths(row.load_1m, Load::from_thousandths),
                uptime_s: number(row.uptime_s, Seconds::new),
                cpu_count: None,
                memory_total_mb: None,
            },
            agent: Agent {
                version: None,
                cpu_pct: thousandths(row.agent_cpu_pct, CpuPercent::from_thousandths),
                rss_mb: number(row.agent_rss_mb, Mebibytes::new),
                collect_ms: thousandths(row.collect_ms, Milliseconds::from_thousandths),
                spooled: count(row.spooled),
                gpu_age_ms: number(row.gpu_age_ms, Milliseconds::new),
                errors: errors.unwrap_or_default(),
            },
        };
        let head = Rows { samples: Vec::new(), gpus: Vec::new(), node };
        rows.insert((entry.hive, entry.ts), head);
    }
    Ok(())
}

async fn read_samples(
    ranges: &str,
    rows: &mut HashMap<Moment, Rows>,
    connection: &mut SqliteConnection,
) -> sqlx::Result<()> {
    let mut samples = sqlx::query_file!("queries/sealed_samples.sql", ranges).fetch(connection);
    while let Some(row) = samples.try_next().await? {
        // A range may hold readings that were not asked for.
        let Some(rows) = rows.get_mut(&(row.hive, row.ts)) else { continue };
        let figures = Figures {
            cpu_pct: thousandths(row.cpu_pct, CpuPercent::from_thousandths),
            rss_mb: number(row.rss_mb, Mebibytes::new),
            io_r_mb_s: thousandths(row.io_r_mb_s, MebibytesPerSecond::from_thousandths),
            io_w_mb_s: thousandths(row.io_w_mb_s, MebibytesPerSecond::from_thousandths),
            uptime_s: number(row.uptime_s, Seconds::new),
            gpu_util_pct: number(row.gpu_util_pct, Percent::new),
            vram_mb: number(row.vram_mb, Mebibytes::new),
            requests_running: count(row.requests_running),
            requests_waiting: count(row.requests_waiting),
            kv_cache_pct: thousandths(row.kv_cache_pct, Percent::from_thousandths),
        };
        let gpus = row.gpus.map(|gpus| worker_gpus(&gpus, &figures)).unwrap_or_default();
        rows.samples.push(SampleRow { run: row.run, figures, gpus });
    }
    Ok(())
}

/// A number is the only GPU, with the worker's own figures; else there is a list.
fn worker_gpus(gpus: &str, figures: &Figures) -> Vec<WorkerGpuRow> {
    match gpus.parse() {
        Ok(gpu) => {
            vec![WorkerGpuRow { gpu, util_pct: figures.gpu_util_pct, vram_mb: figures.vram_mb }]
        }
        Err(_) => serde_json::from_str(gpus).unwrap_or_default(),
    }
}

async fn read_gpu_samples(
    ranges: &str,
    rows: &mut HashMap<Moment, Rows>,
    connection: &mut SqliteConnection,
) -> sqlx::Result<()> {
    let mut samples = sqlx::query_file!("queries/sealed_gpu_samples.sql", ranges).fetch(connection);
    while let Some(row) = samples.try_next().await? {
        let Some(rows) = rows.get_mut(&(row.hive, row.ts)) else { continue };
        rows.gpus.push(GpuRow {
            gpu: row.gpu,
            util_pct: number(row.util_pct, Percent::new),
            memory_used_mb: number(row.memory_used_mb, Mebibytes::new),
            temperature_c: number(row.temperature_c, Celsius::new),
            power_w: thousandths(row.power_w, Watts::from_thousandths),
            state: row.state.map(|state| Text::cut(&state)),
        });
    }
    Ok(())
}
