//! The newest reading of each hive, to start with.

use std::collections::HashMap;
use std::sync::Arc;

use hive_contract::heartbeat::{Agent, Gpu, Heartbeat, Hive, Node, Worker};
use hive_contract::text::{ModelName, Text};
use hive_contract::units::{Count, Mebibytes, Milliseconds};
use hive_contract::{Group, HiveId, Instance, Timestamp};
use sqlx::SqliteConnection;

use super::codec;
use super::dictionary::Dictionary;

/// The newest reading of a hive, from before the start.
#[derive(Debug, Clone)]
pub struct Reading {
    /// Its id in the history: the moment of its receipt in µs.
    pub id: i64,
    /// The reading.
    pub heartbeat: Arc<Heartbeat>,
}

/// Why the newest readings could not be read.
#[derive(Debug, thiserror::Error)]
#[error("the database cannot be read; it may be damaged: put a backup in its place")]
pub struct WarmError(#[from] sqlx::Error);

#[derive(Default)]
struct Names {
    runs: HashMap<i64, Worker>,
    gpus: HashMap<i64, Gpu>,
}

impl codec::Names for Names {
    fn run(&self, run: i64) -> Option<Worker> {
        self.runs.get(&run).cloned()
    }

    fn gpu(&self, gpu: i64) -> Option<Gpu> {
        self.gpus.get(&gpu).cloned()
    }
}

fn text(text: Option<String>) -> Option<Text> {
    text.map(|text| Text::cut(&text))
}

fn mebibytes(figure: Option<f64>) -> Option<Mebibytes> {
    figure.and_then(|figure| Mebibytes::new(figure).ok())
}

fn count(figure: Option<i64>) -> Option<Count> {
    figure.and_then(|figure| Count::from_integer(u64::try_from(figure).ok()?).ok())
}

async fn names(connection: &mut SqliteConnection) -> sqlx::Result<Names> {
    let mut names = Names::default();
    for row in sqlx::query_file!("queries/newest_runs.sql").fetch_all(&mut *connection).await? {
        let (Ok(group), Ok(instance), Some(pid)) =
            (Group::new(row.group), Instance::new(row.instance), count(Some(row.pid)))
        else {
            continue;
        };
        let worker = Worker {
            model: row.model.and_then(|model| ModelName::new(model).ok()),
            total_vram_mb: mebibytes(row.total_vram_mb),
            ..Worker::new(pid, group, instance)
        };
        names.runs.insert(row.run, worker);
    }
    for row in sqlx::query_file!("queries/newest_gpus.sql").fetch_all(&mut *connection).await? {
        let gpu = Gpu {
            uuid: text(row.uuid),
            index: count(row.index),
            name: text(row.name),
            memory_total_mb: mebibytes(row.memory_total_mb),
            ..Gpu::default()
        };
        names.gpus.insert(row.gpu, gpu);
    }
    Ok(names)
}

/// Reads the newest reading of each hive and lets the dictionary know what they name.
pub(super) async fn newest(
    connection: &mut SqliteConnection,
    dictionary: &mut Dictionary,
) -> sqlx::Result<Vec<Reading>> {
    let names = names(connection).await?;
    let rows = sqlx::query_file!("queries/newest_heartbeats.sql").fetch_all(connection).await?;
    let mut readings = Vec::with_capacity(rows.len());
    for row in rows {
        let decoded = codec::decode(&row.samples, &row.gpus, &row.node, &names);
        let (Ok(stored), Ok(id), Some(timestamp)) =
            (decoded, HiveId::new(row.hive_id), Timestamp::from_millis(row.ts))
        else {
            tracing::warn!(heartbeat.id = row.id, "a stored heartbeat cannot be read; left out");
            continue;
        };
        let node = Node {
            cpu_count: count(row.cpu_count),
            memory_total_mb: mebibytes(row.memory_total_mb),
            ..stored.node
        };
        let agent = Agent { version: text(row.agent_version), ..stored.agent };
        let heartbeat = Arc::new(Heartbeat {
            hive: Hive {
                id,
                hostname: text(row.hostname),
                port: row.port.and_then(|port| u16::try_from(port).ok()),
                operational_status: text(row.operational_status),
                health_status: text(row.health_status),
                version: text(row.version),
            },
            timestamp,
            interval_ms: row.interval_ms.and_then(|ms| Milliseconds::new(ms).ok()),
            workers: stored.workers,
            gpus: stored.gpus,
            node: Some(node).filter(|node| *node != Node::default()),
            agent: Some(agent).filter(|agent| *agent != Agent::default()),
        });
        dictionary.prime(&heartbeat, stored.ids);
        readings.push(Reading { id: row.id, heartbeat });
    }
    Ok(readings)
}
