//! One collection: everything that a heartbeat says, read from cgroups and `/proc`.
//!
//! In reading order:
//!
//! - [`cgroup`]: the workers in the slice, and the processes of a cgroup;
//! - [`discover`]: the workers outside the slice;
//! - `workers`: all of them, each once;
//! - `worker`: the figures of one worker, put together from
//!   - `process`: one process of it,
//!   - `storage`: its traffic from `io.stat`,
//!   - `server`: the inference server on a command line,
//!   - `model`: how a model is called;
//! - `inquiry`: what the servers themselves say, asked beside the collection;
//! - [`gpu`]: the machine's GPUs, and each worker's part of them;
//! - `node`: the machine as a whole;
//! - [`own`]: what collecting costs;
//! - `complaints`: what could not be read;
//! - `file`, `text`, `growth`: kept files, their bytes, and rates from counters.
//!
//! Invariant: collecting never fails as a whole. What cannot be read is null, its reason is
//! in `agent.errors`, and nothing else in the heartbeat is touched by it.

use std::collections::HashSet;
use std::fmt::Display;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use hive_contract::heartbeat::{Agent, Heartbeat, Hive};
use hive_contract::text::Text;
use hive_contract::units::{Count, Milliseconds};
use hive_contract::{Group, HiveId, Instance};

use crate::clock::Clock;

pub mod cgroup;
mod complaints;
pub mod discover;
mod file;
#[cfg(fuzzing)]
pub mod fuzzing;
pub mod gpu;
mod growth;
mod inquiry;
mod model;
mod node;
pub mod own;
mod place;
mod process;
mod server;
mod storage;
mod text;
mod worker;
mod workers;

use complaints::Complaints;
use discover::Discovery;
use file::Buffer;
use gpu::Gpus;
use inquiry::Inquiry;
use node::NodeMeter;
use own::{OwnCost, OwnMeter};
use place::Place;
use workers::Meters;

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
    /// Whether and how workers outside the slice are found.
    pub discovery: discover::Settings,
    /// Whether servers are asked how busy they are.
    pub asks_servers: bool,
}

/// Reads the machine, from one reading to the next. Belongs to one thread.
pub struct Collector {
    settings: Settings,
    clock: Arc<dyn Clock>,
    cgroup_root: Option<PathBuf>,
    discovery: Discovery,
    workers: Meters,
    inquiry: Inquiry,
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
    inquiry: &'a mut Inquiry,
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
        let mut inquiry = Inquiry::new(Arc::clone(&clock), proc);
        inquiry.asks_servers = settings.asks_servers;
        let discovery = Discovery::new(settings.discovery.clone());
        Self {
            settings,
            clock,
            cgroup_root,
            discovery,
            workers: Meters::default(),
            inquiry,
            gpus,
            node: NodeMeter::default(),
            own,
            buffer: Buffer::default(),
            complaints: Complaints::default(),
        }
    }

    /// Why this is a worker, and how it is measured.
    #[must_use]
    pub fn explain(&self, group: &Group, instance: &Instance) -> Option<String> {
        self.workers.explain(group, instance)
    }

    /// Adds an error to the next heartbeat: about whom or what, and what is wrong.
    pub(crate) fn complain(&mut self, subject: impl Display, error: impl Display) {
        self.complaints.add(subject, error);
    }

    /// Reads everything once. `spooled` heartbeats wait to be sent.
    pub fn collect(&mut self, spooled: u64) -> Heartbeat {
        let timestamp = self.clock.wall();
        let started = self.clock.monotonic();
        let Self { settings, clock, buffer, inquiry, complaints, .. } = self;
        let (gpus, gpu_age) = self.gpus.view(started, settings.interval, complaints);
        let mut scan = Scan {
            clock: &**clock,
            proc_root: &settings.roots.proc,
            sys_root: &settings.roots.sys,
            gpus: &gpus,
            buffer,
            inquiry,
            complaints,
            ticks_per_s: rustix::param::clock_ticks_per_second(),
            page_size: rustix::param::page_size() as u64,
        };
        let mut places = places(&mut self.cgroup_root, &mut scan);
        let root = self.cgroup_root.as_deref();
        // Those of a worker are known already.
        let known: HashSet<u32> = self.workers.process_ids().collect();
        let mut computing = gpus.computing();
        computing.retain(|pid| !known.contains(pid));
        places.extend(self.discovery.places(root, &computing, &mut scan));
        let workers = self.workers.read(places, &mut scan);
        let pids = self.workers.process_ids().collect();
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

#[cfg(test)]
mod tests;
