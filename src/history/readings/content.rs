//! From where a reading is to what it said.
//!
//! Live rows are taken as they are. A sealed reading is put together from its block: the
//! heartbeat's own row, the samples of its hive's runs and GPUs at its time.

use hive_contract::heartbeat::{Agent, Heartbeat, Hive, Node};
use hive_contract::{HiveId, Timestamp};
use sqlx::SqliteConnection;

use super::names::{Description, Names};
use super::{Entry, Reading, sealed};
use crate::history::codec::{Decoded, Rows};
use crate::history::raw::{Handle, RawError, Row, Statement};

/// Reads what stands at the entries, in their order. A reading that cannot be read is left out
/// and logged.
pub(in crate::history) async fn read(
    entries: &[Entry],
    names: &mut Names,
    connection: &mut SqliteConnection,
) -> sqlx::Result<Vec<Reading>> {
    let mut handle = Handle::new(connection.lock_handle().await?);
    // SQLite works on this thread: the others take over its tasks meanwhile.
    let rows = tokio::task::block_in_place(|| rows(entries, &mut handle))?;
    drop(handle);
    names.learn(rows.iter().flatten(), connection).await?;
    let mut readings = Vec::with_capacity(entries.len());
    for (entry, rows) in entries.iter().zip(rows) {
        match rows.and_then(|rows| reading(entry, rows, names)) {
            Some(reading) => readings.push(reading),
            None => tracing::warn!(
                heartbeat.id = entry.id,
                "a stored heartbeat cannot be read; left out"
            ),
        }
    }
    Ok(readings)
}

/// The rows of each entry; none where they cannot be read.
fn rows(entries: &[Entry], handle: &mut Handle<'_>) -> Result<Vec<Option<Rows>>, RawError> {
    let mut rows: Vec<Option<Rows>> = entries.iter().map(|_| None).collect();
    let sql = include_str!("../../../queries/live_row.sql");
    let mut live_row = Statement::prepare(sql, handle)?;
    for (entry, rows) in entries.iter().zip(&mut rows).filter(|(entry, _)| entry.block.is_none()) {
        live_row.each(
            handle,
            |values| {
                values.integer(entry.id);
            },
            |row| *rows = live(row),
        )?;
    }
    sealed::read(entries, &mut rows, handle)?;
    Ok(rows)
}

/// What a row of `live_row.sql` holds.
fn live(row: &Row<'_>) -> Option<Rows> {
    Rows::parse(row.text(2), row.text(3), row.text(4)).ok()
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
    Some(Reading { id: entry.id, late: entry.late, heartbeat, ids })
}
