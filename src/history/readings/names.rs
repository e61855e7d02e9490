//! What the row numbers in stored readings stand for, read when it is first needed.

use std::collections::{HashMap, HashSet};

use hive_contract::heartbeat::{Gpu, Worker};
use hive_contract::text::{ModelName, Text};
use hive_contract::units::{Count, Mebibytes, Milliseconds};
use hive_contract::{Group, Instance};
use sqlx::SqliteConnection;

use crate::history::codec::{self, Rows};

/// Names kept before all are forgotten: a few MiB, and more than one chunk can need.
const MAX_NAMES: usize = 16_384;

/// What a hive says of itself and changes rarely.
#[derive(Debug, Clone, Default)]
pub(super) struct Description {
    pub(super) hostname: Option<Text>,
    pub(super) port: Option<u16>,
    pub(super) operational_status: Option<Text>,
    pub(super) health_status: Option<Text>,
    pub(super) version: Option<Text>,
    pub(super) interval_ms: Option<Milliseconds>,
    pub(super) cpu_count: Option<Count>,
    pub(super) memory_total_mb: Option<Mebibytes>,
    pub(super) agent_version: Option<Text>,
}

/// The names that were needed so far.
#[derive(Debug, Default)]
pub(in crate::history) struct Names {
    runs: HashMap<i64, Worker>,
    gpus: HashMap<i64, Gpu>,
    descriptions: HashMap<i64, Description>,
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

fn json(numbers: &HashSet<i64>) -> String {
    serde_json::Value::from_iter(numbers.iter().copied()).to_string()
}

impl Names {
    /// A description; empty where it is not known.
    pub(super) fn description(&self, description: i64) -> Description {
        self.descriptions.get(&description).cloned().unwrap_or_default()
    }

    /// Reads what is not known yet of the names in these rows.
    pub(super) async fn learn(
        &mut self,
        rows: impl Iterator<Item = &Rows>,
        connection: &mut SqliteConnection,
    ) -> sqlx::Result<()> {
        if self.runs.len() + self.gpus.len() + self.descriptions.len() > MAX_NAMES {
            *self = Self::default();
        }
        let (mut runs, mut gpus, mut descriptions) =
            (HashSet::new(), HashSet::new(), HashSet::new());
        let new_gpu = |gpu: &i64| !self.gpus.contains_key(gpu);
        for rows in rows {
            let description = rows.node.description;
            if !self.descriptions.contains_key(&description) {
                descriptions.insert(description);
            }
            gpus.extend(rows.gpus.iter().map(|gpu| gpu.gpu).filter(new_gpu));
            for sample in &rows.samples {
                if !self.runs.contains_key(&sample.run) {
                    runs.insert(sample.run);
                }
                gpus.extend(sample.gpus.iter().map(|gpu| gpu.gpu).filter(new_gpu));
            }
        }
        if !runs.is_empty() {
            self.learn_runs(&json(&runs), connection).await?;
        }
        if !gpus.is_empty() {
            self.learn_gpus(&json(&gpus), connection).await?;
        }
        if !descriptions.is_empty() {
            self.learn_descriptions(&json(&descriptions), connection).await?;
        }
        Ok(())
    }

    async fn learn_runs(
        &mut self,
        numbers: &str,
        connection: &mut SqliteConnection,
    ) -> sqlx::Result<()> {
        let rows = sqlx::query_file!("queries/runs_by_number.sql", numbers);
        for row in rows.fetch_all(connection).await? {
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
            self.runs.insert(row.run, worker);
        }
        Ok(())
    }

    async fn learn_gpus(
        &mut self,
        numbers: &str,
        connection: &mut SqliteConnection,
    ) -> sqlx::Result<()> {
        let rows = sqlx::query_file!("queries/gpus_by_number.sql", numbers);
        for row in rows.fetch_all(connection).await? {
            let gpu = Gpu {
                uuid: text(row.uuid),
                index: count(row.index),
                name: text(row.name),
                memory_total_mb: mebibytes(row.memory_total_mb),
                ..Gpu::default()
            };
            self.gpus.insert(row.gpu, gpu);
        }
        Ok(())
    }

    async fn learn_descriptions(
        &mut self,
        numbers: &str,
        connection: &mut SqliteConnection,
    ) -> sqlx::Result<()> {
        let rows = sqlx::query_file!("queries/descriptions_by_number.sql", numbers);
        for row in rows.fetch_all(connection).await? {
            let description = Description {
                hostname: text(row.hostname),
                port: row.port.and_then(|port| u16::try_from(port).ok()),
                operational_status: text(row.operational_status),
                health_status: text(row.health_status),
                version: text(row.version),
                interval_ms: row.interval_ms.and_then(|ms| Milliseconds::new(ms).ok()),
                cpu_count: count(row.cpu_count),
                memory_total_mb: mebibytes(row.memory_total_mb),
                agent_version: text(row.agent_version),
            };
            self.descriptions.insert(row.description, description);
        }
        Ok(())
    }
}
