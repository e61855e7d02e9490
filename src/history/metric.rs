//! The metrics of the history: number, name, unit, and what they are of.
//!
//! Invariant: a number, once used, is never given to another metric: it stands in the file.

/// What a metric is measured on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Subject {
    /// A worker run: hive, group, instance, pid, model.
    Worker,
    /// A GPU of a hive.
    Gpu,
    /// A hive as a whole.
    Hive,
}

/// One metric.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Metric {
    /// Its number in the file.
    pub number: u8,
    /// Its contract name.
    pub name: &'static str,
    /// Its unit, as a word.
    pub unit: &'static str,
    /// What it says.
    pub help: &'static str,
    /// What it is measured on.
    pub subject: Subject,
    /// Where its values are.
    pub source: Source,
}

/// Where the values of a metric are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// In a column of its subject's table.
    Column(&'static str),
    /// With the subject's name, which is stored once: `total_vram_mb` of a run.
    Identity,
    /// In there being a reading of the kind at all: 1 for each.
    Presence,
}

const fn metric(
    number: u8,
    name: &'static str,
    unit: &'static str,
    help: &'static str,
    subject: Subject,
    source: Source,
) -> Metric {
    Metric { number, name, unit, help, subject, source }
}

use Source::{Column, Identity, Presence};
use Subject::{Gpu, Hive, Worker};

/// Presence of a worker, GPU or hive: a reading for each second.
pub(super) const WORKER_PRESENT: u8 = 0;
pub(super) const GPU_PRESENT: u8 = 29;
pub(super) const HIVE_PRESENT: u8 = 39;
pub(super) const GPU_UTIL: u8 = 5;
pub(super) const VRAM: u8 = 6;
/// A reading whose GPU utilisation is above 0.
pub(super) const BUSY: u8 = 12;

/// Every metric, in the order in which they are listed.
pub const METRICS: [Metric; 23] = [
    metric(
        1,
        "cpu_pct",
        "percent",
        "Processor time of the worker; 100 is one core",
        Worker,
        Column("cpu_pct"),
    ),
    metric(2, "rss_mb", "mebibytes", "Resident memory of the worker", Worker, Column("rss_mb")),
    metric(
        3,
        "io_r_mb_s",
        "mebibytes/second",
        "Read from storage by the worker",
        Worker,
        Column("io_r_mb_s"),
    ),
    metric(
        4,
        "io_w_mb_s",
        "mebibytes/second",
        "Written to storage by the worker",
        Worker,
        Column("io_w_mb_s"),
    ),
    metric(
        GPU_UTIL,
        "gpu_util_pct",
        "percent",
        "Busiest GPU of the worker: time with one of its kernels running",
        Worker,
        Column("gpu_util_pct"),
    ),
    metric(
        VRAM,
        "vram_mb",
        "mebibytes",
        "GPU memory of the worker, over all its GPUs",
        Worker,
        Column("vram_mb"),
    ),
    metric(
        7,
        "total_vram_mb",
        "mebibytes",
        "Memory of the GPUs that the worker sits on",
        Worker,
        Identity,
    ),
    metric(
        8,
        "uptime_s",
        "seconds",
        "Age of the worker's main process",
        Worker,
        Column("uptime_s"),
    ),
    metric(
        9,
        "requests_running",
        "requests",
        "Requests being processed by the worker",
        Worker,
        Column("requests_running"),
    ),
    metric(
        10,
        "requests_waiting",
        "requests",
        "Requests in the worker's queue",
        Worker,
        Column("requests_waiting"),
    ),
    metric(
        11,
        "kv_cache_pct",
        "percent",
        "Use of the worker's KV cache",
        Worker,
        Column("kv_cache_pct"),
    ),
    metric(
        20,
        "gpu_device_util_pct",
        "percent",
        "Time with a kernel running on the GPU",
        Gpu,
        Column("util_pct"),
    ),
    metric(
        21,
        "gpu_memory_used_mb",
        "mebibytes",
        "Memory of the GPU in use",
        Gpu,
        Column("memory_used_mb"),
    ),
    metric(22, "gpu_memory_total_mb", "mebibytes", "Memory of the GPU", Gpu, Identity),
    metric(
        23,
        "gpu_temperature_c",
        "degrees celsius",
        "Temperature of the GPU",
        Gpu,
        Column("temperature_c"),
    ),
    metric(24, "gpu_power_w", "watts", "Power drawn by the GPU", Gpu, Column("power_w")),
    metric(
        30,
        "node_cpu_pct",
        "percent",
        "Processor time of the machine; 100 is one core",
        Hive,
        Column("cpu_pct"),
    ),
    metric(
        31,
        "node_memory_used_mb",
        "mebibytes",
        "Memory of the machine in use",
        Hive,
        Column("memory_used_mb"),
    ),
    metric(
        32,
        "node_memory_total_mb",
        "mebibytes",
        "Memory of the machine",
        Hive,
        Column("memory_total_mb"),
    ),
    metric(
        33,
        "node_load_1m",
        "tasks",
        "Load average of the machine over a minute",
        Hive,
        Column("load_1m"),
    ),
    metric(WORKER_PRESENT, "workers_online", "workers", "Workers with a reading", Worker, Presence),
    metric(BUSY, "workers_busy", "workers", "Workers with a GPU above 0 %", Worker, Presence),
    metric(HIVE_PRESENT, "hives_online", "hives", "Hives with a heartbeat", Hive, Presence),
];

impl Metric {
    /// The metric of a contract name.
    #[must_use]
    pub fn named(name: &str) -> Option<&'static Self> {
        METRICS.iter().find(|metric| metric.name == name)
    }

    /// The labels that its series have.
    #[must_use]
    pub fn labels(&self) -> &'static [&'static str] {
        match self.subject {
            Worker => &["hive", "group", "instance", "model", "pid"],
            Gpu => &["hive", "gpu", "index", "name"],
            Hive => &["hive"],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_numbers_are_unique() {
        for (i, a) in METRICS.iter().enumerate() {
            for b in &METRICS[i + 1..] {
                assert_ne!(a.name, b.name);
                assert_ne!(a.number, b.number);
            }
        }
        assert_eq!(Metric::named("cpu_pct").unwrap().number, 1);
    }
}
