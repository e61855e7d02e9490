//! Workers outside the slice: inference servers in services, containers and plain processes,
//! known by their command lines, and whatever else computes on a GPU.
//!
//! A worker is a server's process and everything that descends from it, whatever titles its
//! children give themselves. Where a service or container holds one worker and nothing else,
//! the worker is measured at that cgroup, as in the slice; elsewhere it is the sum of its
//! processes.
//!
//! Invariant: a process belongs to at most one worker. A server below another one is a part of
//! it, unless a supervisor stands between, whose servers are workers of their own; two workers
//! never share a cgroup; and what lives in the slice is left to it.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use hive_contract::{Group, Instance};

use super::Scan;
use super::cgroup::{self, SLICE, Tree};
use super::place::{Extent, Member, Place};
use super::process::parse_stat;
use super::server::{self, MAX_CMDLINE, Role, Server};

mod census;
mod home;
mod rules;

use census::{Census, Known};
pub(super) use home::Home;
pub use rules::{KnownServer, Rule, Settings};

/// How often new processes are looked for.
const SCAN_INTERVAL: Duration = Duration::from_secs(2);

/// Why something is a worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reason {
    CommandLine,
    Gpu,
}

/// A worker outside the slice, by its first process.
struct Found {
    started_ticks: u64,
    group: Group,
    instance: Instance,
    server: Server,
    reason: Reason,
    /// It owns its processes, and is no worker.
    is_ignored: bool,
    home: Home,
    measured: Measured,
    members: Arc<[Member]>,
}

/// Where a worker is measured. Once decided, only a second worker in the same cgroup changes
/// it: what else comes and goes in a container must not tear its counters apart.
enum Measured {
    Undecided,
    AtCgroup { dir: PathBuf, inode: u64 },
    ByProcess,
}

/// A process that may be the first of a worker.
struct Sighting {
    pid: u32,
    started_ticks: u64,
    server: Server,
    rule: Option<usize>,
    reason: Reason,
}

/// Looks for workers, from scan to scan.
pub(super) struct Discovery {
    settings: Settings,
    mount: Option<PathBuf>,
    census: Census,
    found: BTreeMap<u32, Found>,
    next_scan: Duration,
}

impl Discovery {
    pub(super) fn new(settings: Settings) -> Self {
        Self {
            settings,
            mount: None,
            census: Census::default(),
            found: BTreeMap::new(),
            next_scan: Duration::ZERO,
        }
    }

    /// The workers outside the slice below `cgroup_root`, as of the last scan; scans again
    /// when it is time. `gpu_pids` are the processes that compute on a GPU.
    pub(super) fn places(
        &mut self,
        cgroup_root: Option<&Path>,
        gpu_pids: &[u32],
        scan: &mut Scan<'_>,
    ) -> Vec<Place> {
        let now = scan.clock.monotonic();
        if self.settings.is_on && now >= self.next_scan {
            self.next_scan = now + SCAN_INTERVAL;
            if let Err(error) = self.scan(cgroup_root, gpu_pids, scan) {
                let reason = format_args!("cannot read {}: {error}", scan.proc_root.display());
                scan.complaints.add("workers outside the slice cannot be found", reason);
            }
        }
        let workers = self.found.iter().filter(|(_, found)| !found.is_ignored);
        workers.map(|(&pid, found)| found.place(pid)).collect()
    }

    fn scan(
        &mut self,
        cgroup_root: Option<&Path>,
        gpu_pids: &[u32],
        scan: &mut Scan<'_>,
    ) -> io::Result<()> {
        if self.mount.is_none() {
            // Without one, every worker is the sum of its processes.
            self.mount = cgroup::find_root(scan.proc_root).ok();
        }
        let mut sightings = Vec::new();
        let rules = &self.settings.rules;
        self.census.take(scan, |known, cmdline, dir| {
            sightings.extend(sight(rules, known, cmdline, dir));
        })?;
        self.found.retain(|&pid, found| {
            self.census.get(pid).is_some_and(|known| known.started_ticks == found.started_ticks)
        });
        for &pid in gpu_pids {
            sightings.extend(self.sight_on_gpu(pid, scan));
        }
        for sighting in sightings {
            self.consider(sighting, scan);
        }
        if !self.found.is_empty() {
            let slice = cgroup_root.map(|root| root.join(SLICE));
            self.leave_slice_alone(slice.as_deref(), scan);
            self.drop_parts();
            self.assign_members();
            self.decide_where_to_measure(scan);
        }
        Ok(())
    }

    /// A process that computes on a GPU and belongs to no worker yet.
    fn sight_on_gpu(&self, pid: u32, scan: &mut Scan<'_>) -> Option<Sighting> {
        let known = self.census.get(pid)?;
        if self.owner(pid).is_some() {
            return None;
        }
        let dir = scan.proc_root.join(pid.to_string());
        let cmdline = scan.buffer.read_once(&dir.join("cmdline"), MAX_CMDLINE).ok()?;
        let rules = &self.settings.rules;
        sight(rules, known, cmdline, &dir).or_else(|| {
            let server = server::recognise_anywhere(cmdline, &dir).unwrap_or_default();
            let rule = rules.iter().position(|rule| rule.fits(&server, cmdline));
            let started_ticks = known.started_ticks;
            Some(Sighting { pid, started_ticks, server, rule, reason: Reason::Gpu })
        })
    }

    fn consider(&mut self, sighting: Sighting, scan: &mut Scan<'_>) {
        let Sighting { pid, started_ticks, server, rule, reason } = sighting;
        if let Some(known) = self.census.get_mut(pid) {
            known.is_supervisor = server.role == Role::Supervisor;
        }
        if server.role == Role::Supervisor {
            self.found.remove(&pid);
            return;
        }
        let is_known = |found: &Found| {
            // A title says nothing new about the process that gave it to itself.
            server.role == Role::Part || (found.reason == reason && found.server.is_same(&server))
        };
        if self.found.get(&pid).is_some_and(is_known) {
            return;
        }
        let home = match Home::of(scan.proc_root, pid, scan.buffer) {
            Ok(home) => home,
            // It has just ended.
            Err(error) if super::file::is_gone(&error) => return,
            Err(_) => Home::default(),
        };
        let rule = rule.and_then(|index| self.settings.rules.get(index));
        let is_ignored = rule.is_some_and(|rule| rule.ignore);
        let (group, instance) = rules::name(&server, rule, &home, pid);
        let is_taken = |(&other, found): (&u32, &Found)| {
            other != pid
                && !found.is_ignored
                && (&found.group, &found.instance) == (&group, &instance)
        };
        let holder = self.found.iter().find(|&entry| is_taken(entry));
        let holder = holder.map(|(&other, found)| (other, found.started_ticks));
        let instance = match holder {
            None => instance,
            // It was killed and started again: the old process is settled, so its end would be
            // noticed late.
            Some((other, started_ticks)) if has_ended(other, started_ticks, scan) => {
                self.found.remove(&other);
                instance
            }
            Some(_) => rules::with_pid(&instance, pid),
        };
        let (measured, members) = (Measured::Undecided, Arc::default());
        self.found.insert(
            pid,
            Found {
                started_ticks,
                group,
                instance,
                server,
                reason,
                is_ignored,
                home,
                measured,
                members,
            },
        );
    }

    /// A process can be put into the slice at any time.
    fn leave_slice_alone(&mut self, slice: Option<&Path>, scan: &mut Scan<'_>) {
        let Some((slice, mount)) = slice.zip(self.mount.as_deref()) else { return };
        self.found.retain(|&pid, _| {
            let home = Home::of(scan.proc_root, pid, scan.buffer);
            let cgroup = home.ok().and_then(|home| home.cgroup);
            cgroup.is_none_or(|path| !mount.join(path).starts_with(slice))
        });
    }

    /// A server that was started by another one is a part of it.
    fn drop_parts(&mut self) {
        let is_first = |pid| self.found.contains_key(&pid);
        let is_part = |pid: &u32| self.census.owner_above(*pid, is_first).is_some();
        let parts: Vec<u32> = self.found.keys().copied().filter(is_part).collect();
        for pid in parts {
            self.found.remove(&pid);
        }
    }

    fn owner(&self, pid: u32) -> Option<u32> {
        self.census.owner(pid, |pid| self.found.contains_key(&pid))
    }

    fn assign_members(&mut self) {
        let owners: Vec<(u32, u32, u64)> = self
            .census
            .programs()
            .filter_map(|known| Some((self.owner(known.pid)?, known.pid, known.started_ticks)))
            .collect();
        let mut members: BTreeMap<u32, Vec<Member>> = BTreeMap::new();
        for (owner, pid, started_ticks) in owners {
            members.entry(owner).or_default().push(Member { pid, started_ticks });
            if let Some(known) = self.census.get_mut(pid) {
                known.owner = owner;
            }
        }
        for (owner, members) in members {
            if let Some(found) = self.found.get_mut(&owner)
                && *found.members != *members
            {
                found.members = members.into();
            }
        }
    }

    fn decide_where_to_measure(&mut self, scan: &mut Scan<'_>) {
        let mut in_unit: BTreeMap<PathBuf, u32> = BTreeMap::new();
        for unit in self.found.values().filter_map(|found| found.home.unit()) {
            *in_unit.entry(unit.to_owned()).or_default() += 1;
        }
        let pids: Vec<u32> = self.found.keys().copied().collect();
        for pid in pids {
            let Some(found) = self.found.get(&pid) else { continue };
            let unit = found.home.unit().filter(|&unit| in_unit.get(unit) == Some(&1));
            let measured = match (&found.measured, unit) {
                (Measured::AtCgroup { .. } | Measured::ByProcess, Some(_)) => continue,
                (Measured::Undecided, Some(unit)) => self.measured_at(unit, pid, scan),
                (_, None) => None,
            };
            if let Some(found) = self.found.get_mut(&pid) {
                found.measured = measured.unwrap_or(Measured::ByProcess);
            }
        }
    }

    /// The cgroup, if nothing else lives in it than the worker and the programs that started
    /// it, such as a container's entry script.
    fn measured_at(&self, unit: &Path, first: u32, scan: &mut Scan<'_>) -> Option<Measured> {
        let starters: Vec<&Known> = self.census.ancestors(first).collect();
        if starters.iter().any(|known| known.is_supervisor) {
            return None;
        }
        let dir = self.mount.as_ref()?.join(unit);
        let inode = fs::metadata(&dir).ok()?.ino();
        let processes = Tree::default().pids(&dir, scan.buffer).ok()?;
        let belongs = |&pid: &u32| {
            self.owner(pid) == Some(first)
                || starters.iter().any(|known| known.pid == pid)
                // It came after the census; a second server will be noticed in the next one.
                || self.census.get(pid).is_none()
        };
        let is_alone = processes.pids.contains(&first)
            && processes.pids.iter().all(belongs)
            && !processes.is_cut;
        is_alone.then_some(Measured::AtCgroup { dir, inode })
    }
}

/// Whether a process is gone, a zombie, or another one with the same PID.
fn has_ended(pid: u32, started_ticks: u64, scan: &mut Scan<'_>) -> bool {
    let path = scan.proc_root.join(pid.to_string()).join("stat");
    match scan.buffer.read_once(&path, MAX_CMDLINE) {
        Ok(text) => parse_stat(text)
            .is_some_and(|stat| stat.is_zombie || stat.started_ticks != started_ticks),
        Err(error) => super::file::is_gone(&error),
    }
}

/// A process whose command line says that it is a server.
fn sight(rules: &[Rule], known: &Known, cmdline: &[u8], dir: &Path) -> Option<Sighting> {
    let server = server::recognise(cmdline, dir).or_else(|| {
        let mut programs = rules.iter().filter_map(|rule| rule.program.as_deref());
        programs.find_map(|program| server::recognise_named(cmdline, program))
    })?;
    let rule = rules.iter().position(|rule| rule.fits(&server, cmdline));
    let &Known { pid, started_ticks, .. } = known;
    Some(Sighting { pid, started_ticks, server, rule, reason: Reason::CommandLine })
}

impl Found {
    fn place(&self, pid: u32) -> Place {
        let extent = match &self.measured {
            Measured::AtCgroup { dir, inode } => Extent::Cgroup { dir: dir.clone(), inode: *inode },
            Measured::Undecided | Measured::ByProcess => {
                Extent::Processes(Arc::clone(&self.members))
            }
        };
        Place {
            group: self.group.clone(),
            instance: self.instance.clone(),
            first: Some(Member { pid, started_ticks: self.started_ticks }),
            extent,
        }
    }
}
