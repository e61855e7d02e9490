//! The figures of one worker: its cgroup's counters, and those of its processes where it has no
//! cgroup of its own or the cgroup no counters.
//!
//! Invariant: what cannot be read is null and has its sentence in `agent.errors`; a worker, or
//! a part of one, that simply ended between two readings is no error.

use std::io;
use std::time::Duration;

use hive_contract::bounded::Bounded;
use hive_contract::heartbeat::Worker;
use hive_contract::text::ModelName;
use hive_contract::units::{Count, CpuPercent, Mebibytes, MebibytesPerSecond, Percent, Seconds};
use rustix::io::Errno;

use super::Scan;
use super::cgroup::{Found, Tree};
use super::file::{KeptFile, is_gone};
use super::growth::Growth;
use super::inquiry::Figures;
use super::place::{Extent, Member, Place};
use super::process::Process;
use super::storage::Storage;
use super::text::keyed;

/// One worker, from reading to reading.
pub(super) struct Meter {
    place: Place,
    tree: Tree,
    cpu_stat: KeptFile,
    memory_stat: KeptFile,
    io_stat: KeptFile,
    cpu: Growth,
    /// The processor time of the last reading, in µs.
    usage_us: Option<u64>,
    /// Nobody in it has run since the last reading.
    is_idle: bool,
    /// The resident memory of its processes in the last reading, in pages.
    resident_pages: Option<u64>,
    storage: Storage,
    /// In ascending order of their PIDs.
    processes: Vec<Process>,
    /// The main process of the last reading.
    main_pid: Option<u32>,
    /// The processor time is summed up over the processes.
    counts_ticks: bool,
    /// Counts the readings, and starts again at 0 after the last number.
    turn: u32,
}

/// The state of a process is read in every so many readings only, where the kernel lists the
/// living and counts their processor time itself. What can be late by that is noticing that a
/// PID is used again within one interval, or that an old process turned into another program.
/// The memory of idle processes is read as rarely: only others can take some of it.
const TURNS: u32 = 8;

/// What a counter file of the cgroup gave.
#[derive(Clone, Copy)]
enum Counter<T> {
    Value(T),
    /// The file is not there: the controller is off.
    Absent,
    /// The cgroup is gone, or the error is already reported.
    Unknown,
}

impl Meter {
    pub(super) fn new(place: Place) -> Self {
        Self {
            place,
            tree: Tree::default(),
            cpu_stat: KeptFile::default(),
            memory_stat: KeptFile::default(),
            io_stat: KeptFile::default(),
            cpu: Growth::default(),
            usage_us: None,
            is_idle: false,
            resident_pages: None,
            storage: Storage::default(),
            processes: Vec::new(),
            main_pid: None,
            counts_ticks: false,
            turn: 0,
        }
    }

    /// Whether this is the worker that is measured here, and not a later one of its name.
    pub(super) fn is_of(&self, place: &Place) -> bool {
        self.place.is_same(place)
    }

    /// Takes note of which processes the worker has now.
    pub(super) fn follow(&mut self, place: Place) {
        self.place = place;
    }

    /// Why this is a worker, and how it is measured.
    pub(super) fn explain(&self) -> String {
        let kind = self.processes.iter().find_map(|process| process.known_server()?.kind);
        let server = kind.map_or("no known server", |kind| kind.name);
        let why = match kind {
            _ if self.is_in_slice() => format!("found in the slice, {server} by its command line"),
            Some(_) => format!("found as {server} by its command line"),
            None => "found by a rule or by its GPU".to_owned(),
        };
        match &self.place.extent {
            Extent::Cgroup { dir, .. } => format!("{why}, measured at {}", dir.display()),
            Extent::Processes(members) => {
                format!("{why}, measured by its processes ({})", members.len())
            }
        }
    }

    /// Whether it is a worker of the slice.
    pub(super) fn is_in_slice(&self) -> bool {
        self.place.first.is_none()
    }

    /// Its server's process, outside the slice.
    pub(super) fn first_pid(&self) -> Option<u32> {
        self.place.first.map(|first| first.pid)
    }

    /// Whether this process was measured as a part of it.
    pub(super) fn has(&self, pid: u32) -> bool {
        self.position(pid).is_ok()
    }

    /// Reads everything; `None` while no process lives there.
    pub(super) fn read(&mut self, scan: &mut Scan<'_>) -> Option<Worker> {
        let usage = self.usage(scan);
        self.find_processes(scan);
        let server = self.find_server(scan);
        let main = self.main_process(server);
        self.main_pid = main.map(|main| self.processes[main].pid);
        let Some(main) = main else {
            self.cpu.reset();
            self.storage.reset();
            return None;
        };
        let (pid, age) =
            (self.processes[main].pid, scan.age(self.processes[main].stat.started_ticks));
        let (io_r_mb_s, io_w_mb_s) = self.storage(scan);
        let model = server.and_then(|index| self.model(index, scan));
        let figures = server.map_or_else(Figures::default, |index| self.figures(index, scan));
        let count = |value: f64| Count::from_integer(value as u64).ok();
        let mut worker = Worker {
            pid: Count::from_integer(pid.into()).ok()?,
            group: self.place.group.clone(),
            instance: self.place.instance.clone(),
            cpu_pct: self.cpu(usage, scan),
            rss_mb: self.memory(scan),
            gpu_util_pct: None,
            vram_mb: None,
            total_vram_mb: None,
            model,
            uptime_s: Seconds::from_integer(age.as_secs()).ok(),
            io_r_mb_s,
            io_w_mb_s,
            gpus: Bounded::default(),
            requests_running: figures.running.and_then(count),
            requests_waiting: figures.waiting.and_then(count),
            kv_cache_pct: figures.kv_cache_pct.and_then(Percent::measured),
        };
        scan.gpus.assign(self.process_ids(), &mut worker);
        Some(worker)
    }

    /// Its processes of the last reading, in ascending order.
    pub(super) fn process_ids(&self) -> impl Iterator<Item = u32> {
        self.processes.iter().map(|process| process.pid)
    }

    fn find_processes(&mut self, scan: &mut Scan<'_>) {
        let pids = self.pids(scan);
        let at = scan.clock.monotonic();
        self.turn = self.turn.wrapping_add(1);
        let has_ended = |process: &mut Process| {
            if pids.binary_search(&process.pid).is_err() {
                return true;
            }
            let is_its_turn = process.pid.wrapping_add(self.turn).is_multiple_of(TURNS);
            if !is_its_turn && !self.counts_ticks {
                return false;
            }
            let lives = process.refresh(scan.buffer);
            // What cannot be read this time is not gone.
            !complain(lives, &self.place, process.pid, scan).unwrap_or(true)
        };
        let ended: Vec<Process> = self.processes.extract_if(.., has_ended).collect();
        self.is_idle &= ended.is_empty();
        for child in &ended {
            if let Ok(parent) = self.position(child.stat.parent) {
                self.processes[parent].inherit_io(child, at);
            }
        }
        for &pid in &pids {
            if self.position(pid).is_err() {
                let process = Process::open(pid, scan);
                if let Some(Some(process)) = complain(process, &self.place, pid, scan)
                    && self.is_meant(&process)
                {
                    let index = self.processes.partition_point(|known| known.pid < pid);
                    self.processes.insert(index, process);
                    self.is_idle = false;
                }
            }
        }
    }

    fn pids(&mut self, scan: &mut Scan<'_>) -> Vec<u32> {
        let dir = match &self.place.extent {
            Extent::Cgroup { dir, .. } => dir,
            Extent::Processes(members) => return members.iter().map(|member| member.pid).collect(),
        };
        match self.tree.pids(dir, scan.buffer) {
            Ok(Found { pids, is_cut }) => {
                if is_cut {
                    let reason = "has too many processes or nested cgroups; not all are looked at";
                    scan.complaints.add(&self.place, reason);
                }
                pids
            }
            Err(error) => {
                scan.complaints.add(&self.place, error);
                // Whoever was there has not ended for that.
                self.process_ids().collect()
            }
        }
    }

    /// Whether it is the process that was listed, and not a later one with its PID.
    fn is_meant(&self, process: &Process) -> bool {
        let Extent::Processes(members) = &self.place.extent else { return true };
        let Process { pid, stat, .. } = process;
        members.contains(&Member { pid: *pid, started_ticks: stat.started_ticks })
    }

    fn position(&self, pid: u32) -> Result<usize, usize> {
        self.processes.binary_search_by_key(&pid, |process| process.pid)
    }

    /// The process that stands for the worker: its server, or else the earliest of those that
    /// were started from outside the cgroup, or else the earliest of all.
    fn main_process(&self, server: Option<usize>) -> Option<usize> {
        if let Some(first) = self.place.first {
            return self.position(first.pid).ok();
        }
        let is_known = |index: &usize| self.processes[*index].runs_known_server();
        if let Some(server) = server.filter(is_known) {
            return Some(server);
        }
        let rank = |index: &usize| {
            let Process { pid, stat, .. } = &self.processes[*index];
            (self.position(stat.parent).is_ok(), stat.started_ticks, *pid)
        };
        (0..self.processes.len()).min_by_key(rank)
    }

    /// The processor time of the cgroup, in µs. It is read before everything else: while it
    /// stands still nobody has run, and what only a running process changes is as it was.
    fn usage(&mut self, scan: &mut Scan<'_>) -> Counter<(u64, Duration)> {
        let Self { cpu_stat, place, .. } = self;
        let usage = counter(cpu_stat, "cpu.stat", place, scan, |text| keyed(text, "usage_usec"));
        let usage_us = match usage {
            Counter::Value((usage_us, _)) => Some(usage_us),
            Counter::Absent | Counter::Unknown => None,
        };
        self.is_idle = usage_us.is_some() && usage_us == self.usage_us;
        self.usage_us = usage_us;
        usage
    }

    fn cpu(&mut self, usage: Counter<(u64, Duration)>, scan: &mut Scan<'_>) -> Option<CpuPercent> {
        let cores = match usage {
            Counter::Value((usage_us, at)) => self.cpu.per_s(usage_us, at)? / 1e6,
            Counter::Unknown => {
                self.cpu.reset();
                return None;
            }
            Counter::Absent => {
                self.counts_ticks = true;
                if self.processes.iter().any(|process| process.is_torn) {
                    return None;
                }
                let at = scan.clock.monotonic();
                let rates = self.processes.iter_mut().map(|process| process.cpu_ticks_per_s(at));
                sum_of_known(rates)? / scan.ticks_per_s as f64
            }
        };
        CpuPercent::measured(cores * 100.0)
    }

    /// Anonymous memory and mapped files, each page once; without the memory controller the
    /// sum over the processes, in which shared pages count for each.
    fn memory(&mut self, scan: &mut Scan<'_>) -> Option<Mebibytes> {
        let Self { memory_stat, place, .. } = self;
        let resident = counter(memory_stat, "memory.stat", place, scan, |text| {
            keyed(text, "anon")?.checked_add(keyed(text, "file_mapped")?)
        });
        let bytes = match resident {
            Counter::Value((bytes, _)) => bytes,
            Counter::Unknown => return None,
            Counter::Absent => self.resident_pages(scan)?.saturating_mul(scan.page_size),
        };
        Some(Mebibytes::whole_from_bytes(bytes))
    }

    fn resident_pages(&mut self, scan: &mut Scan<'_>) -> Option<u64> {
        let is_its_turn = |pid: u32| pid.wrapping_add(self.turn).is_multiple_of(TURNS);
        if self.is_idle && self.resident_pages.is_some() && !self.main_pid.is_some_and(is_its_turn)
        {
            return self.resident_pages;
        }
        self.resident_pages = None;
        let mut pages = 0_u64;
        for process in &mut self.processes {
            let resident = process.resident_pages(scan.buffer);
            let resident = complain(resident, &self.place, process.pid, scan)?;
            pages = pages.saturating_add(resident);
        }
        self.resident_pages = Some(pages);
        self.resident_pages
    }

    fn storage(
        &mut self,
        scan: &mut Scan<'_>,
    ) -> (Option<MebibytesPerSecond>, Option<MebibytesPerSecond>) {
        let text = match self.place.dir() {
            Some(dir) => self.io_stat.read_record(dir, "io.stat", scan.buffer),
            None => Err(Errno::NOENT.into()),
        };
        let (read, written) = match text {
            Ok(text) => self.storage.per_s(text, scan.clock.monotonic(), scan.sys_root),
            Err(error) if is_absent(&error) => self.storage_of_processes(scan),
            Err(error) => {
                self.storage.reset();
                report(&error, &self.place, "io.stat", scan);
                (None, None)
            }
        };
        let rate = |bytes: f64| MebibytesPerSecond::measured(bytes / f64::from(1 << 20));
        (read.and_then(rate), written.and_then(rate))
    }

    fn storage_of_processes(&mut self, scan: &mut Scan<'_>) -> (Option<f64>, Option<f64>) {
        let at = scan.clock.monotonic();
        let mut sum = None;
        for process in &mut self.processes {
            let idle = self.is_idle.then(|| process.io_of_idle_per_s(at)).flatten();
            let rates = match idle {
                Some(rates) => Ok(Some(rates)),
                None => process.io_per_s(at, scan.buffer),
            };
            if matches!(&rates, Err(error) if error.kind() == io::ErrorKind::PermissionDenied) {
                scan.complaints.deny_storage();
                return (None, None);
            }
            match complain(rates, &self.place, process.pid, scan) {
                // With a part unknown, the sum is unknown.
                None => return (None, None),
                Some(None) => {}
                Some(Some((read, written))) => {
                    let (sum_read, sum_written) = sum.unwrap_or((0.0, 0.0));
                    sum = Some((sum_read + read, sum_written + written));
                }
            }
        }
        sum.unzip()
    }

    /// The process whose server speaks for the worker: one of a known kind before any other,
    /// one started from outside the worker before its children, and then the earliest.
    fn find_server(&mut self, scan: &mut Scan<'_>) -> Option<usize> {
        for process in &mut self.processes {
            let age = scan.age(process.stat.started_ticks);
            process.read_server(age, scan.buffer);
        }
        let rank = |index: &usize| {
            let process = &self.processes[*index];
            let Process { pid, stat, .. } = process;
            let is_inside = self.position(stat.parent).is_ok();
            (!process.runs_known_server(), is_inside, stat.started_ticks, *pid)
        };
        let has_server = |index: &usize| self.processes[*index].known_server().is_some();
        (0..self.processes.len()).filter(has_server).min_by_key(rank)
    }

    fn model(&self, index: usize, scan: &mut Scan<'_>) -> Option<ModelName> {
        let process = &self.processes[index];
        scan.inquiry.name(process.member(), process.known_server()?.model.as_ref()?)
    }

    /// How busy the server says that it is.
    fn figures(&self, index: usize, scan: &mut Scan<'_>) -> Figures {
        let process = &self.processes[index];
        let from_name = || self.place.instance.as_str().parse().ok().filter(|&port| port != 0);
        let asked = process.known_server().and_then(|server| {
            let port = server.port.or_else(from_name).or(server.port_or_default())?;
            Some(scan.inquiry.figures(process.member(), port, server.queue?))
        });
        let report = |reason| {
            scan.complaints.add(&self.place, format_args!("requests are not known: it {reason}"));
            Figures::default()
        };
        asked.unwrap_or(Ok(Figures::default())).unwrap_or_else(report)
    }
}

/// Reads one counter file, with the moment of the reading.
fn counter(
    file: &mut KeptFile,
    name: &str,
    place: &Place,
    scan: &mut Scan<'_>,
    parse: impl FnOnce(&[u8]) -> Option<u64>,
) -> Counter<(u64, Duration)> {
    let Some(dir) = place.dir() else { return Counter::Absent };
    match file.read_record(dir, name, scan.buffer) {
        Ok(text) => {
            let at = scan.clock.monotonic();
            match parse(text) {
                Some(value) => Counter::Value((value, at)),
                None => {
                    scan.complaints.add(place, format_args!("{name} has an unknown form"));
                    Counter::Unknown
                }
            }
        }
        Err(error) if is_absent(&error) => Counter::Absent,
        Err(error) => {
            report(&error, place, name, scan);
            Counter::Unknown
        }
    }
}

fn is_absent(error: &io::Error) -> bool {
    Errno::from_io_error(error) == Some(Errno::NOENT)
}

/// Reports an error, unless it only says that the cgroup has ended.
fn report(error: &io::Error, place: &Place, name: &str, scan: &mut Scan<'_>) {
    if !is_gone(error) {
        scan.complaints.add(place, format_args!("cannot read {name}: {error}"));
    }
}

/// Takes the value, or reports which process could not be read.
fn complain<T>(result: io::Result<T>, place: &Place, pid: u32, scan: &mut Scan<'_>) -> Option<T> {
    let report = |error| {
        scan.complaints.add(place, format_args!("cannot read process {pid}: {error}"));
    };
    result.map_err(report).ok()
}

/// The sum of what is known; `None` if nothing is.
fn sum_of_known(values: impl Iterator<Item = Option<f64>>) -> Option<f64> {
    values.flatten().reduce(|sum, value| sum + value)
}
