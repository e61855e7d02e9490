//! From where a reading is to what it said.
//!
//! Live rows are taken as they are. A sealed reading is put together from its block: the
//! heartbeat's own row, the samples of its hive's runs and GPUs at its time.

use std::collections::HashMap;

use hive_contract::heartbeat::{Agent, Heartbeat, Hive, Node};
use hive_contract::{HiveId, Timestamp};
use sqlx::SqliteConnection;

use super::names::{Description, Names};
use super::{Entry, Reading};
use crate::history::codec::{Decoded, Names as _, Rows};

/// A reading's hive and time: no two have both the same.
pub(super) type Moment = (i64, i64);

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
        super::sealed::read(&sealed, &mut rows, connection).await?;
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
