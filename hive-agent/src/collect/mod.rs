//! One collection: everything that a heartbeat says, read from cgroups and `/proc`.
//!
//! In reading order:
//!
//! - [`cgroup`]: where the workers are, and their processes;
//! - `worker`: the figures of one worker, put together from
//!   - `process`: one process of it,
//!   - `storage`: its traffic from `io.stat`,
//!   - `model`: the model on its command line;
//! - [`gpu`]: the machine's GPUs, and each worker's part of them;
//! - `node`: the machine as a whole;
//! - [`own`]: what collecting costs;
//! - `complaints`: what could not be read;
//! - `file`, `text`, `growth`: kept files, their bytes, and rates from counters.
//!
//! Invariant: collecting never fails as a whole. What cannot be read is null, its reason is
//! in `agent.errors`, and nothing else in the heartbeat is touched by it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use hive_contract::heartbeat::{Agent, Heartbeat, Hive, MAX_WORKERS, Worker, Workers};
use hive_contract::text::Text;
use hive_contract::units::{Count, Milliseconds};
use hive_contract::{Group, HiveId, Instance};

use crate::clock::Clock;

pub mod cgroup;
mod complaints;
mod file;
pub mod gpu;
mod growth;
mod model;
mod node;
pub mod own;
mod process;
mod storage;
mod text;
mod worker;

use cgroup::Place;
use complaints::Complaints;
use file::Buffer;
use gpu::Gpus;
use node::NodeMeter;
use own::{OwnCost, OwnMeter};
use worker::Meter;

/// Where the kernel's files and the drivers' libraries are. Tests put fixtures there.
#[derive(Debug, Clone)]
pub struct Roots {
    /// The directory that contains `rbee.slice`; by default the mount point of cgroup v2.
    pub cgroup: Option<PathBuf>,
    /// `/proc`.
    pub proc: PathBuf,
    /// `/sys`.
    pub sys: PathBuf,
    /// The library of NVIDIA's driver: a path, or a name for the loader to find.
    pub nvml: PathBuf,
}

impl Default for Roots {
    fn default() -> Self {
        Self {
            cgroup: None,
            proc: "/proc".into(),
            sys: "/sys".into(),
            nvml: gpu::NVML_LIBRARY.into(),
        }
    }
}

/// What a collector says about its hive, and how it collects.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The hive's name, unique in the fleet.
    pub hive_id: HiveId,
    /// The name or address under which its workers are reached.
    pub hostname: Text,
    /// How often heartbeats are sent; absent for a single one.
    pub interval: Option<Duration>,
    /// Where the kernel's files are.
    pub roots: Roots,
    /// What is measured as the collector's own cost.
    pub own_cost: OwnCost,
}

/// Reads the machine, from one reading to the next. Belongs to one thread.
pub struct Collector {
    settings: Settings,
    clock: Arc<dyn Clock>,
    cgroup_root: Option<PathBuf>,
    workers: BTreeMap<(Group, Instance), Meter>,
    gpus: Gpus,
    node: NodeMeter,
    own: OwnMeter,
    buffer: Buffer,
    complaints: Complaints,
}

/// What every part of one collection needs.
struct Scan<'a> {
    clock: &'a dyn Clock,
    proc_root: &'a Path,
    sys_root: &'a Path,
    gpus: &'a gpu::View,
    buffer: &'a mut Buffer,
    complaints: &'a mut Complaints,
    ticks_per_s: u64,
    page_size: u64,
}

impl Scan<'_> {
    /// The age of a process that started so many clock ticks after the machine.
    fn age(&self, started_ticks: u64) -> Duration {
        let started_ms = u128::from(started_ticks) * 1000 / u128::from(self.ticks_per_s.max(1));
        let started = Duration::from_millis(u64::try_from(started_ms).unwrap_or(u64::MAX));
        self.clock.since_boot().saturating_sub(started)
    }
}

impl Collector {
    /// A collector that has not read anything yet: its first heartbeat has no rates. Its GPUs
    /// are read by threads of their own, from the first collection on.
    #[must_use]
    pub fn new(settings: Settings, clock: Arc<dyn Clock>) -> Self {
        let own = OwnMeter::new(settings.own_cost);
        let Roots { cgroup, proc, sys, nvml } = &settings.roots;
        let cgroup_root = cgroup.clone();
        let gpus = Gpus::start(nvml, sys, proc, &clock);
        Self {
            settings,
            clock,
            cgroup_root,
            workers: BTreeMap::new(),
            gpus,
            node: NodeMeter::default(),
            own,
            buffer: Buffer::default(),
            complaints: Complaints::default(),
        }
    }

    /// Reads everything once. `spooled` heartbeats wait to be sent.
    pub fn collect(&mut self, spooled: u64) -> Heartbeat {
        let timestamp = self.clock.wall();
        let started = self.clock.monotonic();
        let Self { settings, clock, buffer, complaints, .. } = self;
        let (gpus, gpu_age) = self.gpus.view(started, settings.interval, complaints);
        let mut scan = Scan {
            clock: &**clock,
            proc_root: &settings.roots.proc,
            sys_root: &settings.roots.sys,
            gpus: &gpus,
            buffer,
            complaints,
            ticks_per_s: rustix::param::clock_ticks_per_second(),
            page_size: rustix::param::page_size() as u64,
        };
        let places = places(&mut self.cgroup_root, &mut scan);
        let workers = read_workers(&mut self.workers, places, &mut scan);
        let pids = self.workers.values().flat_map(Meter::process_ids).collect();
        self.gpus.order(pids, started, settings.interval.map(|interval| started + interval));
        let node = self.node.read(&mut scan);
        let cpu_pct = self.own.cpu(&scan, self.gpus.cpu_time());
        let rss_mb = self.own.memory(&mut scan);
        let elapsed = scan.clock.monotonic().saturating_sub(started);
        let version = Some(Text::cut(env!("CARGO_PKG_VERSION")));
        Heartbeat {
            hive: Hive {
                id: settings.hive_id.clone(),
                hostname: Some(settings.hostname.clone()),
                port: None,
                operational_status: Some(Text::cut("ready")),
                health_status: Some(Text::cut("healthy")),
                version: version.clone(),
            },
            timestamp,
            interval_ms: settings.interval.and_then(milliseconds),
            workers,
            gpus: gpus.into_devices(),
            node: Some(node),
            agent: Some(Agent {
                version,
                cpu_pct,
                rss_mb,
                collect_ms: milliseconds(elapsed),
                spooled: Count::from_integer(spooled).ok(),
                gpu_age_ms: gpu_age.and_then(milliseconds),
                errors: self.complaints.take(),
            }),
        }
    }

    /// Waits until the GPUs were read once since the first collection, but not longer than the
    /// limit. A single heartbeat would be without them otherwise.
    pub fn wait_for_gpus(&self, limit: Duration) {
        self.gpus.wait_for_first(limit);
    }
}

fn milliseconds(duration: Duration) -> Option<Milliseconds> {
    Milliseconds::measured(duration.as_secs_f64() * 1000.0)
}

/// Every instance directory. The mount point is looked for until it is found.
fn places(cgroup_root: &mut Option<PathBuf>, scan: &mut Scan<'_>) -> Vec<Place> {
    if cgroup_root.is_none() {
        match cgroup::find_root(scan.proc_root) {
            Ok(root) => *cgroup_root = Some(root),
            Err(error) => scan.complaints.add("workers cannot be found", error),
        }
    }
    let Some(root) = cgroup_root.as_deref() else { return Vec::new() };
    let places = cgroup::list(root, scan);
    // Without a slice there are no workers yet, but without its parent there never will be any.
    if places.is_empty() && !root.is_dir() {
        let reason = format_args!("{} is not a directory", root.display());
        scan.complaints.add("workers cannot be found", reason);
    }
    places
}

fn read_workers(
    meters: &mut BTreeMap<(Group, Instance), Meter>,
    mut places: Vec<Place>,
    scan: &mut Scan<'_>,
) -> Workers {
    places.sort_unstable_by(|a, b| (&a.group, &a.instance).cmp(&(&b.group, &b.instance)));
    let is_listed = |key: &(Group, Instance), meter: &mut Meter| {
        places
            .binary_search_by(|place| (&place.group, &place.instance).cmp(&(&key.0, &key.1)))
            .is_ok_and(|index| meter.is_of(&places[index]))
    };
    meters.retain(is_listed);
    for place in places {
        let key = (place.group.clone(), place.instance.clone());
        meters.entry(key).or_insert_with(|| Meter::new(place));
    }
    let mut workers: Vec<Worker> = Vec::new();
    let mut left_out = 0;
    for meter in meters.values_mut() {
        match meter.read(scan) {
            Some(_) if workers.len() == MAX_WORKERS => left_out += 1,
            worker => workers.extend(worker),
        }
    }
    if left_out > 0 {
        let reason = format_args!("only {MAX_WORKERS} fit into a heartbeat");
        scan.complaints.add(format_args!("{left_out} workers are left out"), reason);
    }
    // The keys of a map are different, and the limit was just kept.
    Workers::new(workers).unwrap_or_default()
}

#[cfg(test)]
mod tests;
