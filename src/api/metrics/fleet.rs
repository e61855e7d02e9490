//! The newest reading of every hive, worker and GPU, in base units.

use std::collections::HashSet;
use std::sync::Arc;

use hive_contract::heartbeat::{Agent, Gpu, Node, Worker};
use hive_contract::units::{Mebibytes, MebibytesPerSecond};

use super::exposition::{Exposition, Kind, labels};
use crate::registry::{HiveRegistry, HiveState, State, WorkerRef};

/// A figure of something: its name, what it says, and where it is.
struct Figure<T> {
    name: &'static str,
    help: &'static str,
    value: fn(&T) -> Option<f64>,
}

const fn figure<T>(
    name: &'static str,
    help: &'static str,
    value: fn(&T) -> Option<f64>,
) -> Figure<T> {
    Figure { name, help, value }
}

fn bytes(figure: Mebibytes) -> f64 {
    figure.get() * 1_048_576.0
}

fn bytes_per_second(figure: MebibytesPerSecond) -> f64 {
    figure.get() * 1_048_576.0
}

const WORKER: [Figure<Worker>; 11] = [
    figure("worker_cpu_usage_cores", "Processor time of the worker; 1 is one core.", |w| {
        w.cpu_pct.map(|pct| pct.get() / 100.0)
    }),
    figure("worker_memory_resident_bytes", "Resident memory of the worker.", |w| {
        w.rss_mb.map(bytes)
    }),
    figure("worker_storage_read_bytes_per_second", "Read from storage by the worker.", |w| {
        w.io_r_mb_s.map(bytes_per_second)
    }),
    figure("worker_storage_written_bytes_per_second", "Written to storage by the worker.", |w| {
        w.io_w_mb_s.map(bytes_per_second)
    }),
    figure(
        "worker_gpu_utilization_ratio",
        "Busiest GPU of the worker: share of time with one of its kernels running.",
        |w| w.gpu_util_pct.map(|pct| pct.get() / 100.0),
    ),
    figure("worker_gpu_memory_used_bytes", "GPU memory of the worker, over all its GPUs.", |w| {
        w.vram_mb.map(bytes)
    }),
    figure("worker_gpu_memory_size_bytes", "Memory of the GPUs that the worker sits on.", |w| {
        w.total_vram_mb.map(bytes)
    }),
    figure("worker_uptime_seconds", "Age of the worker's main process.", |w| {
        w.uptime_s.map(|s| s.get())
    }),
    figure("worker_requests_running", "Requests being processed by the worker.", |w| {
        w.requests_running.map(|n| n.get())
    }),
    figure("worker_requests_waiting", "Requests in the worker's queue.", |w| {
        w.requests_waiting.map(|n| n.get())
    }),
    figure("worker_kv_cache_utilization_ratio", "Use of the worker's KV cache.", |w| {
        w.kv_cache_pct.map(|pct| pct.get() / 100.0)
    }),
];

const GPU: [Figure<Gpu>; 5] = [
    figure("gpu_utilization_ratio", "Share of time with a kernel running on the GPU.", |g| {
        g.util_pct.map(|pct| pct.get() / 100.0)
    }),
    figure("gpu_memory_used_bytes", "Memory of the GPU in use.", |g| g.memory_used_mb.map(bytes)),
    figure("gpu_memory_size_bytes", "Memory of the GPU.", |g| g.memory_total_mb.map(bytes)),
    figure("gpu_temperature_celsius", "Temperature of the GPU.", |g| {
        g.temperature_c.map(|c| c.get())
    }),
    figure("gpu_power_watts", "Power drawn by the GPU.", |g| g.power_w.map(|w| w.get())),
];

const NODE: [Figure<Node>; 6] = [
    figure("hive_cpu_usage_cores", "Processor time of the machine; 1 is one core.", |n| {
        n.cpu_pct.map(|pct| pct.get() / 100.0)
    }),
    figure("hive_cpus", "Processors of the machine.", |n| n.cpu_count.map(|n| n.get())),
    figure("hive_memory_used_bytes", "Memory of the machine in use.", |n| {
        n.memory_used_mb.map(bytes)
    }),
    figure("hive_memory_size_bytes", "Memory of the machine.", |n| n.memory_total_mb.map(bytes)),
    figure("hive_load1", "Load average of the machine over a minute.", |n| {
        n.load_1m.map(|load| load.get())
    }),
    figure("hive_uptime_seconds", "Time since the machine started.", |n| {
        n.uptime_s.map(|s| s.get())
    }),
];

const AGENT: [Figure<Agent>; 6] = [
    figure("hive_agent_cpu_usage_cores", "Processor time of the agent; 1 is one core.", |a| {
        a.cpu_pct.map(|pct| pct.get() / 100.0)
    }),
    figure("hive_agent_memory_resident_bytes", "Resident memory of the agent.", |a| {
        a.rss_mb.map(bytes)
    }),
    figure("hive_agent_collect_seconds", "Time that the agent's last collection took.", |a| {
        a.collect_ms.map(|ms| ms.get() / 1000.0)
    }),
    figure("hive_agent_gpu_age_seconds", "Age of the GPU figures.", |a| {
        a.gpu_age_ms.map(|ms| ms.get() / 1000.0)
    }),
    figure("hive_agent_spooled_heartbeats", "Heartbeats that wait at the agent.", |a| {
        a.spooled.map(|n| n.get())
    }),
    figure("hive_agent_errors", "What the agent could not read in its last collection.", |a| {
        Some(a.errors.len() as f64)
    }),
];

/// Things with their labels.
type Labelled<'a, T> = Vec<(String, &'a T)>;

/// Writes a family for each figure.
fn write_figures<T>(figures: &[Figure<T>], things: &Labelled<'_, T>, out: &mut Exposition) {
    for Figure { name, help, value } in figures {
        out.family(name, Kind::Gauge, help);
        for (labels, thing) in things {
            if let Some(value) = value(thing) {
                out.sample(name, labels, value);
            }
        }
    }
}

/// Writes what live hives said last.
pub(super) fn write(registry: &HiveRegistry, out: &mut Exposition) {
    let hives = registry.hives();
    write_hives(registry, &hives, out);
    let live: Vec<_> = hives.into_iter().filter(|h| registry.state(h) == State::Live).collect();
    write_machines(&live, out);
    write_workers(&live, out);
    write_leases(registry, out);
    write_gpus(&live, out);
}

fn seconds(hive: &HiveState) -> f64 {
    hive.received.millis() as f64 / 1000.0
}

/// Whether hives are up, and since when they are not.
fn write_hives(registry: &HiveRegistry, hives: &[Arc<HiveState>], out: &mut Exposition) {
    let heard: Vec<_> = hives
        .iter()
        .map(|hive| (registry.state(hive), hive))
        .filter(|(state, _)| *state != State::Offline)
        .map(|(state, hive)| (labels(&[("hive", hive.heartbeat.hive.id.as_str())]), state, hive))
        .collect();
    let up = "hive_up";
    out.family(up, Kind::Gauge, "Whether the hive is live: 0 while a few heartbeats are missing.");
    for (labels, state, _) in &heard {
        out.sample(up, labels, u8::from(*state == State::Live));
    }
    let seen = "hive_last_seen_timestamp_seconds";
    out.family(seen, Kind::Gauge, "When the hive's newest heartbeat was received.");
    for (labels, _, hive) in &heard {
        out.sample(seen, labels, seconds(hive));
    }
}

fn write_machines(live: &[Arc<HiveState>], out: &mut Exposition) {
    let of = |hive: &HiveState| labels(&[("hive", hive.heartbeat.hive.id.as_str())]);
    let info = "hive_info";
    out.family(info, Kind::Gauge, "What the hive is; always 1.");
    for hive in live {
        let said = &hive.heartbeat;
        let agent = said.agent.as_ref().and_then(|agent| agent.version.as_ref());
        let labels = labels(&[
            ("hive", said.hive.id.as_str()),
            ("hostname", hive.hostname()),
            ("version", said.hive.version.as_ref().map_or("", |text| text.as_str())),
            ("agent_version", agent.map_or("", |text| text.as_str())),
        ]);
        out.sample(info, &labels, 1);
    }
    let skew = "hive_clock_skew_seconds";
    out.family(skew, Kind::Gauge, "The hive's clock minus the queen's, transfer included.");
    for hive in live {
        out.sample(skew, &of(hive), hive.clock_skew_ms() as f64 / 1000.0);
    }
    let workers = "hive_workers";
    out.family(workers, Kind::Gauge, "Workers on the hive.");
    for hive in live {
        out.sample(workers, &of(hive), hive.heartbeat.workers.len());
    }
    let nodes = live.iter().filter_map(|hive| Some((of(hive), hive.heartbeat.node.as_ref()?)));
    write_figures(&NODE, &nodes.collect(), out);
    let agents = live.iter().filter_map(|hive| Some((of(hive), hive.heartbeat.agent.as_ref()?)));
    write_figures(&AGENT, &agents.collect(), out);
}

fn write_workers(live: &[Arc<HiveState>], out: &mut Exposition) {
    let name = |hive: &HiveState, worker: &Worker| {
        labels(&[
            ("hive", hive.heartbeat.hive.id.as_str()),
            ("group", worker.group.as_str()),
            ("worker", worker.instance.as_str()),
        ])
    };
    let of_hive = |hive| move |worker| (hive, worker);
    let workers: Vec<(&Arc<HiveState>, &Worker)> =
        live.iter().flat_map(|hive| hive.heartbeat.workers.iter().map(of_hive(hive))).collect();
    let named: Labelled<'_, Worker> =
        workers.iter().map(|(hive, worker)| (name(hive, worker), *worker)).collect();
    let info = "worker_info";
    out.family(info, Kind::Gauge, "What the worker serves; always 1.");
    for (name, worker) in &named {
        let model = worker.model.as_ref().map_or("", |model| model.as_str());
        out.sample(info, &format!("{name},{}", labels(&[("model", model)])), 1);
    }
    let seen = "worker_last_seen_timestamp_seconds";
    out.family(seen, Kind::Gauge, "When the worker's newest figures were received.");
    for ((name, _), (hive, _)) in named.iter().zip(&workers) {
        out.sample(seen, name, seconds(hive));
    }
    let gpus = "worker_gpu_info";
    out.family(gpus, Kind::Gauge, "A GPU that the worker sits on; always 1.");
    for (name, worker) in &named {
        let mut written = HashSet::new();
        for uuid in worker.gpus.iter().filter_map(|gpu| gpu.uuid.as_ref()) {
            if written.insert(uuid.as_str()) {
                let gpu = labels(&[("gpu", uuid.as_str())]);
                out.sample(gpus, &format!("{name},{gpu}"), 1);
            }
        }
    }
    write_figures(&WORKER, &named, out);
}

fn write_leases(registry: &HiveRegistry, out: &mut Exposition) {
    let name = "worker_leases";
    out.family(name, Kind::Gauge, "Requests that were sent to the worker and count as its load.");
    let leases = registry.leases();
    let is_live = |worker: &WorkerRef| registry.state(worker.hive()) == State::Live;
    for worker in registry.get_all_workers().into_iter().filter(is_live) {
        let labels = labels(&[
            ("hive", worker.hive().heartbeat.hive.id.as_str()),
            ("group", worker.group.as_str()),
            ("worker", worker.instance.as_str()),
        ]);
        out.sample(name, &labels, leases.of(&worker));
    }
}

fn write_gpus(live: &[Arc<HiveState>], out: &mut Exposition) {
    let mut gpus: Labelled<'_, Gpu> = Vec::new();
    for hive in live {
        // Two of which nothing tells them apart would be one series with two values.
        let mut written = HashSet::new();
        for gpu in hive.heartbeat.gpus.iter() {
            let index = gpu.index.map(|index| index.to_string()).unwrap_or_default();
            let uuid = gpu.uuid.as_ref().map_or("", |uuid| uuid.as_str());
            let hive = hive.heartbeat.hive.id.as_str();
            let labels = labels(&[("hive", hive), ("gpu", uuid), ("index", &index)]);
            if written.insert(labels.clone()) {
                gpus.push((labels, gpu));
            }
        }
    }
    let info = "gpu_info";
    out.family(info, Kind::Gauge, "What the GPU is; always 1.");
    for (gpu_labels, gpu) in &gpus {
        let name = gpu.name.as_ref().map_or("", |name| name.as_str());
        out.sample(info, &format!("{gpu_labels},{}", labels(&[("name", name)])), 1);
    }
    write_figures(&GPU, &gpus, out);
}
