//! What a hive says about itself once a second.
//!
//! The field names, their order and their nesting are the wire contract. Every figure may be
//! absent; unknown fields are ignored.

use std::collections::HashSet;

use compact_str::CompactString;
use serde::de::value::MapAccessDeserializer;
use serde::de::{Error, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::bounded::Bounded;
use crate::ids::{Group, HiveId, Instance};
use crate::text::{ModelName, Text};
use crate::time::Timestamp;
use crate::units::{
    Celsius, Count, CpuPercent, Load, Mebibytes, MebibytesPerSecond, Milliseconds, Percent,
    Seconds, Watts,
};

/// The most workers in one heartbeat.
pub const MAX_WORKERS: usize = 1024;
/// The most GPUs of one hive.
pub const MAX_GPUS: usize = 256;
/// The most GPUs that one worker sits on.
pub const MAX_WORKER_GPUS: usize = 64;
/// The most errors that one heartbeat reports.
pub const MAX_ERRORS: usize = 64;
/// The largest body of one heartbeat, in bytes, decompressed.
pub const MAX_BODY: usize = 8 << 20;
/// The most heartbeats in one bulk request.
pub const MAX_BULK_LINES: usize = 1000;
/// The largest bulk body, in bytes, decompressed.
pub const MAX_BULK_BODY: usize = 32 << 20;

/// One reading of one hive, identified by the hive and the timestamp. Valid by construction.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Heartbeat {
    /// The hive itself.
    pub hive: Hive,
    /// When the figures were read, by the hive's clock.
    pub timestamp: Timestamp,
    /// How often the hive sends.
    pub interval_ms: Option<Milliseconds>,
    /// Every inference worker on the hive.
    pub workers: Workers,
    /// Every GPU of the hive.
    pub gpus: Bounded<Gpu, MAX_GPUS>,
    /// The machine as a whole.
    pub node: Option<Node>,
    /// What the collector says about itself.
    pub agent: Option<Agent>,
}

impl Heartbeat {
    /// About how much memory it takes, in bytes.
    #[must_use]
    pub fn memory(&self) -> usize {
        let text = |text: &Option<Text>| text.as_ref().map_or(0, |text| text.as_str().len());
        let worker = |worker: &Worker| {
            let names = worker.group.as_str().len() + worker.instance.as_str().len();
            let model = worker.model.as_ref().map_or(0, |model| model.as_str().len());
            let part = |part: &WorkerGpu| size_of::<WorkerGpu>() + text(&part.uuid);
            let parts: usize = worker.gpus.iter().map(part).sum();
            size_of::<Worker>() + names + model + parts
        };
        let gpu =
            |gpu: &Gpu| size_of::<Gpu>() + text(&gpu.uuid) + text(&gpu.name) + text(&gpu.state);
        let error = |error: &Text| size_of::<Text>() + error.as_str().len();
        let errors = self.agent.iter().flat_map(|agent| &agent.errors).map(error);
        let workers = self.workers.iter().map(worker);
        size_of::<Self>() + workers.chain(self.gpus.iter().map(gpu)).chain(errors).sum::<usize>()
    }
}

/// The hive itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(remote = "Self")]
pub struct Hive {
    /// Its name, unique in the fleet.
    pub id: HiveId,
    /// The name or address under which its workers are reached.
    pub hostname: Option<Text>,
    /// The port of the hive's own service, where it has one.
    pub port: Option<u16>,
    /// As the hive sees itself: `ready`, …
    pub operational_status: Option<Text>,
    /// As the hive sees itself: `healthy`, …
    pub health_status: Option<Text>,
    /// Version of the hive's software.
    pub version: Option<Text>,
}

/// One inference worker: a process tree, measured as a whole.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(remote = "Self")]
pub struct Worker {
    /// Its main process.
    pub pid: Count,
    /// Its group, such as `llm`.
    pub group: Group,
    /// Its instance, usually the port it serves on.
    pub instance: Instance,
    /// Processor time of the tree; 100 is one full core. Unknown in the first reading.
    pub cpu_pct: Option<CpuPercent>,
    /// Resident memory of the tree.
    pub rss_mb: Option<Mebibytes>,
    /// The busiest of its GPUs: share of time with one of its kernels running.
    pub gpu_util_pct: Option<Percent>,
    /// GPU memory in use, over all its GPUs.
    pub vram_mb: Option<Mebibytes>,
    /// Memory of the GPUs that it sits on.
    pub total_vram_mb: Option<Mebibytes>,
    /// The model it serves.
    #[serde(default, deserialize_with = "model")]
    pub model: Option<ModelName>,
    /// Age of its main process.
    pub uptime_s: Option<Seconds>,
    /// Read from storage.
    pub io_r_mb_s: Option<MebibytesPerSecond>,
    /// Written to storage.
    pub io_w_mb_s: Option<MebibytesPerSecond>,
    /// Its part of each GPU that it sits on.
    #[serde(default)]
    pub gpus: Bounded<WorkerGpu, MAX_WORKER_GPUS>,
    /// Requests being processed, where the server exports it.
    pub requests_running: Option<Count>,
    /// Requests in its queue, where the server exports it.
    pub requests_waiting: Option<Count>,
    /// Use of its KV cache, where the server exports it.
    pub kv_cache_pct: Option<Percent>,
}

impl Worker {
    /// A worker of which no figure is known yet.
    #[must_use]
    pub fn new(pid: Count, group: Group, instance: Instance) -> Self {
        Self {
            pid,
            group,
            instance,
            cpu_pct: None,
            rss_mb: None,
            gpu_util_pct: None,
            vram_mb: None,
            total_vram_mb: None,
            model: None,
            uptime_s: None,
            io_r_mb_s: None,
            io_w_mb_s: None,
            gpus: Bounded::default(),
            requests_running: None,
            requests_waiting: None,
            kv_cache_pct: None,
        }
    }

    /// Whether its GPUs do nothing; unknown where its utilisation is.
    #[must_use]
    pub fn idle(&self) -> Option<bool> {
        self.gpu_util_pct.map(Percent::is_zero)
    }

    /// Memory of its GPUs that it does not use; unknown where either figure is.
    #[must_use]
    pub fn free_vram_mb(&self) -> Option<Mebibytes> {
        let (total, used) = (self.total_vram_mb?, self.vram_mb?);
        Mebibytes::from_thousandths(total.thousandths().saturating_sub(used.thousandths()))
    }
}

/// A worker's part of one GPU.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(remote = "Self")]
pub struct WorkerGpu {
    /// The GPU's identity.
    pub uuid: Option<Text>,
    /// Share of time with one of the worker's kernels running.
    pub util_pct: Option<Percent>,
    /// GPU memory that the worker holds.
    pub vram_mb: Option<Mebibytes>,
}

/// One GPU of the hive.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(remote = "Self")]
pub struct Gpu {
    /// Its identity.
    pub uuid: Option<Text>,
    /// Its number on the hive.
    pub index: Option<Count>,
    /// Its product name.
    pub name: Option<Text>,
    /// Share of time with a kernel running.
    pub util_pct: Option<Percent>,
    /// Memory in use.
    pub memory_used_mb: Option<Mebibytes>,
    /// Memory in all.
    pub memory_total_mb: Option<Mebibytes>,
    /// Temperature of the chip.
    pub temperature_c: Option<Celsius>,
    /// Power drawn.
    pub power_w: Option<Watts>,
    /// `ok`, or what is wrong with it.
    pub state: Option<Text>,
}

/// The machine as a whole.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(remote = "Self")]
pub struct Node {
    /// Processor time; 100 is one full core.
    pub cpu_pct: Option<CpuPercent>,
    /// Number of processors.
    pub cpu_count: Option<Count>,
    /// Memory that is not available to new programs.
    pub memory_used_mb: Option<Mebibytes>,
    /// Memory in all.
    pub memory_total_mb: Option<Mebibytes>,
    /// Load average of the last minute.
    pub load_1m: Option<Load>,
    /// Time since the machine started.
    pub uptime_s: Option<Seconds>,
}

/// What the collector says about itself.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(remote = "Self")]
pub struct Agent {
    /// Its version.
    pub version: Option<Text>,
    /// Its own processor time; 100 is one full core.
    pub cpu_pct: Option<CpuPercent>,
    /// Its own resident memory.
    pub rss_mb: Option<Mebibytes>,
    /// Time that this collection took.
    pub collect_ms: Option<Milliseconds>,
    /// Heartbeats that wait to be sent.
    pub spooled: Option<Count>,
    /// Age of the GPU figures.
    pub gpu_age_ms: Option<Milliseconds>,
    /// What could not be read, and why.
    #[serde(default)]
    pub errors: Bounded<Text, MAX_ERRORS>,
}

/// The workers of one heartbeat: at most [`MAX_WORKERS`], each once.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
#[serde(transparent)]
pub struct Workers(Bounded<Worker, MAX_WORKERS>);

/// A list of workers that breaks a rule.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidWorkers {
    /// There are too many.
    #[error("more than {MAX_WORKERS} elements")]
    TooMany,
    /// The same worker stands there twice.
    #[error("worker {0}/{1} is there twice")]
    Twice(Group, Instance),
}

impl Workers {
    /// Takes a list in which every worker stands once.
    ///
    /// # Errors
    /// There are too many, or one stands there twice.
    pub fn new(workers: Vec<Worker>) -> Result<Self, InvalidWorkers> {
        let workers = Bounded::new(workers).map_err(|_| InvalidWorkers::TooMany)?;
        Self::unique(workers)
    }

    fn unique(workers: Bounded<Worker, MAX_WORKERS>) -> Result<Self, InvalidWorkers> {
        // In this order they are usually, and then none is there twice.
        if workers.is_sorted_by(|a, b| (&a.group, &a.instance) < (&b.group, &b.instance)) {
            return Ok(Self(workers));
        }
        let mut seen = HashSet::with_capacity(workers.len());
        for worker in &workers {
            if !seen.insert((&worker.group, &worker.instance)) {
                let (group, instance) = (worker.group.clone(), worker.instance.clone());
                return Err(InvalidWorkers::Twice(group, instance));
            }
        }
        Ok(Self(workers))
    }
}

impl std::ops::Deref for Workers {
    type Target = [Worker];
    fn deref(&self) -> &[Worker] {
        &self.0
    }
}

impl<'a> IntoIterator for &'a Workers {
    type Item = &'a Worker;
    type IntoIter = std::slice::Iter<'a, Worker>;
    fn into_iter(self) -> Self::IntoIter {
        self.0.iter()
    }
}

impl<'de> Deserialize<'de> for Workers {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::unique(Bounded::deserialize(deserializer)?).map_err(D::Error::custom)
    }
}

/// Serde reads a struct from an array too, field by field; on this wire only objects count.
macro_rules! object {
    ($($name:ident),*) => {$(
        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                Self::serialize(self, serializer)
            }
        }
        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                struct ObjectVisitor;
                impl<'de> Visitor<'de> for ObjectVisitor {
                    type Value = $name;
                    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                        f.write_str("an object")
                    }
                    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<$name, A::Error> {
                        $name::deserialize(MapAccessDeserializer::new(map))
                    }
                }
                deserializer.deserialize_map(ObjectVisitor)
            }
        }
    )*};
}

object!(Hive, Worker, WorkerGpu, Gpu, Node, Agent);

/// An empty model name means that the model is not known.
fn model<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<ModelName>, D::Error> {
    match Option::<CompactString>::deserialize(deserializer)? {
        Some(name) if !name.is_empty() => ModelName::new(name).map(Some).map_err(D::Error::custom),
        _ => Ok(None),
    }
}
