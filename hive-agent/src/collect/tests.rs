//! Collections of a machine made of files, and of this one.

use std::fs;
use std::path::PathBuf;

use hive_contract::heartbeat::MAX_WORKERS;

use super::*;
use crate::clock::tests::ManualClock;

mod discovery;
mod real;
mod torn;

const MIB: u64 = 1 << 20;

/// A machine made of files, two clock readings after its start.
struct Machine {
    dir: tempfile::TempDir,
    clock: Arc<ManualClock>,
}

impl Machine {
    fn new() -> Self {
        let machine =
            Self { dir: tempfile::tempdir().unwrap(), clock: Arc::new(ManualClock::at_s(1000)) };
        fs::create_dir_all(machine.dir.path().join("cgroup/rbee.slice")).unwrap();
        machine.write("proc/stat", "cpu  100 0 0 900 0 0 0 0 0 0\ncpu0 1\ncpu1 1\n");
        machine.write("proc/meminfo", "MemTotal: 4096 kB\nMemAvailable: 1024 kB\n");
        machine.write("proc/loadavg", "0.50 0.40 0.30 1/100 7\n");
        machine
    }

    fn write(&self, path: &str, content: impl AsRef<[u8]>) {
        let path = self.dir.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }

    fn remove(&self, path: &str) {
        let path = self.dir.path().join(path);
        if path.is_dir() {
            fs::remove_dir_all(path).unwrap();
        } else {
            fs::remove_file(path).unwrap();
        }
    }

    /// A process of one second of age that has used so many clock ticks.
    fn process(&self, pid: u32, parent: u32, ticks: u64, cmdline: &str) {
        self.process_since(pid, parent, ticks, 99_900, cmdline);
    }

    fn process_since(&self, pid: u32, parent: u32, ticks: u64, started: u64, cmdline: &str) {
        let stat = format!(
            "{pid} (a) b) S {parent} 1 1 0 -1 0 0 0 0 0 {ticks} 0 0 0 20 0 1 0 {started} 0\n"
        );
        self.write(&format!("proc/{pid}/stat"), stat);
        self.write(&format!("proc/{pid}/cmdline"), cmdline.replace(' ', "\0"));
    }

    fn worker(&self, place: &str, file: &str, content: impl AsRef<[u8]>) {
        self.write(&format!("cgroup/rbee.slice/{place}/{file}"), content);
    }

    fn collector(&self) -> Collector {
        let root = |name| -> PathBuf { self.dir.path().join(name) };
        let settings = Settings {
            hive_id: HiveId::new("hive").unwrap(),
            hostname: Text::cut("127.0.0.1"),
            interval: Some(Duration::from_secs(1)),
            roots: Roots {
                cgroup: Some(root("cgroup")),
                proc: root("proc"),
                sys: root("sys"),
                nvml: root("nvml.so"),
            },
            own_cost: OwnCost::Process,
            discovery: discover::Settings::default(),
            // The processes are made up, and whoever listens on their ports is another one.
            asks_servers: false,
        };
        Collector::new(settings, Arc::<ManualClock>::clone(&self.clock))
    }

    fn collect_after(&self, collector: &mut Collector, seconds: u64) -> Heartbeat {
        self.clock.advance(Duration::from_secs(seconds));
        collector.collect(0)
    }
}

fn errors(heartbeat: &Heartbeat) -> Vec<&str> {
    heartbeat.agent.as_ref().unwrap().errors.iter().map(Text::as_str).collect()
}

/// The errors, without those of the GPUs' threads, which cannot keep up with a clock that is set.
fn sentences(heartbeat: &Heartbeat) -> Vec<&str> {
    let is_of_gpus = |error: &&str| error.contains("GPU") || error.contains("NVIDIA");
    errors(heartbeat).into_iter().filter(|error| !is_of_gpus(error)).collect()
}

fn names(heartbeat: &Heartbeat) -> Vec<String> {
    heartbeat.workers.iter().map(|worker| format!("{}/{}", worker.group, worker.instance)).collect()
}

#[test]
fn a_worker_is_measured_at_its_cgroup() {
    let machine = Machine::new();
    machine.process(10, 1, 0, "server -m /models/llama.gguf");
    machine.process(11, 10, 0, "helper");
    machine.worker("llm/8080", "cgroup.procs", "11\n10\n");
    machine.worker("llm/8080", "cpu.stat", "usage_usec 1000000\nuser_usec 1\n");
    let memory = format!("anon {}\nfile 9\nfile_mapped {}\n", 3 * MIB, 2 * MIB);
    machine.worker("llm/8080", "memory.stat", memory);
    machine.worker("llm/8080", "io.stat", "8:0 rbytes=0 wbytes=0 cost.usage=5\n");
    let mut collector = machine.collector();

    let first = machine.collect_after(&mut collector, 1);
    let worker = &first.workers[0];
    assert_eq!(worker.cpu_pct, None, "a rate needs two readings");
    assert_eq!((worker.io_r_mb_s, worker.io_w_mb_s), (None, None));
    assert_eq!(worker.rss_mb.unwrap().get(), 5.0);
    assert_eq!(worker.pid.whole(), 10);
    assert_eq!(worker.model.as_ref().unwrap().as_str(), "llama");
    assert_eq!(worker.uptime_s.unwrap().get(), 2.0);

    machine.worker("llm/8080", "cpu.stat", "usage_usec 4000000\nuser_usec 1\n");
    let io = format!("8:0 rbytes={} wbytes={} rios=1\n", 4 * MIB, MIB);
    machine.worker("llm/8080", "io.stat", io);
    machine.write("proc/stat", "cpu  300 0 0 900 0 0 0 0 0 0\ncpu0 1\ncpu1 1\n");
    let second = machine.collect_after(&mut collector, 2);
    let worker = &second.workers[0];
    assert_eq!(worker.cpu_pct.unwrap().get(), 150.0);
    assert_eq!(worker.io_r_mb_s.unwrap().get(), 2.0);
    assert_eq!(worker.io_w_mb_s.unwrap().get(), 0.5);
    assert!(errors(&second).is_empty(), "{:?}", errors(&second));

    let node = second.node.as_ref().unwrap();
    assert_eq!(node.cpu_pct.unwrap().get(), 100.0);
    assert_eq!(node.cpu_count.unwrap().whole(), 2);
    assert_eq!(
        (node.memory_used_mb.unwrap().get(), node.memory_total_mb.unwrap().get()),
        (3.0, 4.0)
    );
    assert_eq!(node.uptime_s.unwrap().get(), 1003.0);
}

#[test]
fn without_controllers_the_processes_are_summed_up() {
    let machine = Machine::new();
    let pages = 2 * MIB / rustix::param::page_size() as u64;
    for pid in [10, 11] {
        machine.process(pid, 1, 100, "server --model org/name");
        machine.write(&format!("proc/{pid}/statm"), format!("9 {pages} 0 0 0 0 0\n"));
        machine.write(&format!("proc/{pid}/io"), "read_bytes: 0\nwrite_bytes: 100\n");
    }
    machine.worker("llm/8080", "cgroup.procs", "10\n11\n");
    let mut collector = machine.collector();
    assert_eq!(machine.collect_after(&mut collector, 1).workers[0].cpu_pct, None);

    let ticks_per_s = rustix::param::clock_ticks_per_second();
    machine.process(10, 1, 100 + ticks_per_s, "server");
    machine.write("proc/10/io", format!("read_bytes: {}\nwrite_bytes: 50\n", 3 * MIB));
    let worker = &machine.collect_after(&mut collector, 1).workers[0];
    assert_eq!(worker.cpu_pct.unwrap().get(), 100.0);
    assert_eq!(worker.rss_mb.unwrap().get(), 4.0);
    // What went backwards in process 10 is unknown, so only process 11 counts.
    assert_eq!(worker.model.as_ref().unwrap().as_str(), "org/name");
}

#[test]
fn a_worker_in_which_nobody_runs_is_as_it_was() {
    let machine = Machine::new();
    machine.process(10, 1, 0, "server");
    machine.worker("llm/8080", "cgroup.procs", "10\n");
    let mut collector = machine.collector();
    let mut read = |usage_us: u64, read_mb: u64| {
        machine.worker("llm/8080", "cpu.stat", format!("usage_usec {usage_us}\n"));
        machine.write("proc/10/io", format!("read_bytes: {}\nwrite_bytes: 0\n", read_mb * MIB));
        let pages = read_mb * MIB / rustix::param::page_size() as u64;
        machine.write("proc/10/statm", format!("9 {pages} 0 0 0 0 0\n"));
        let heartbeat = machine.collect_after(&mut collector, 1);
        assert!(sentences(&heartbeat).is_empty(), "{:?}", sentences(&heartbeat));
        let worker = &heartbeat.workers[0];
        (worker.io_r_mb_s.map(|rate| rate.get()), worker.rss_mb.unwrap().get())
    };
    assert_eq!(read(100, 1), (None, 1.0));
    assert_eq!(read(200, 3), (Some(2.0), 3.0));
    assert_eq!(read(200, 3), (Some(0.0), 3.0));
    assert_eq!(read(200, 3), (Some(0.0), 3.0));
    assert_eq!(read(300, 8), (Some(5.0), 8.0), "in the last second, and not since it last ran");
    // Only others change the memory of a process that does not run; that takes until its turn.
    let last = (0..8).map(|_| read(300, 6)).last().unwrap();
    assert_eq!(last, (Some(0.0), 6.0));
}

#[test]
fn what_comes_into_an_idle_worker_is_read() {
    let machine = Machine::new();
    let process = |pid: u32| {
        machine.process(pid, 1, 0, "server");
        let pages = MIB / rustix::param::page_size() as u64;
        machine.write(&format!("proc/{pid}/statm"), format!("9 {pages} 0 0 0 0 0\n"));
        machine.write(&format!("proc/{pid}/io"), "read_bytes: 0\nwrite_bytes: 0\n");
    };
    process(10);
    process(11);
    machine.worker("llm/8080", "cpu.stat", "usage_usec 100\n");
    machine.worker("llm/8080", "cgroup.procs", "10\n");
    let mut collector = machine.collector();
    machine.collect_after(&mut collector, 1);
    machine.collect_after(&mut collector, 1);
    machine.worker("llm/8080", "cgroup.procs", "10\n11\n");
    let rss = |heartbeat: &Heartbeat| heartbeat.workers[0].rss_mb.unwrap().get();
    assert_eq!(rss(&machine.collect_after(&mut collector, 1)), 2.0);
    machine.worker("llm/8080", "cgroup.procs", "11\n");
    assert_eq!(rss(&machine.collect_after(&mut collector, 1)), 1.0);
    // Below it, where only a look at the directory shows it.
    machine.worker("llm/8080/nested", "cgroup.procs", "10\n");
    let last = (0..9).map(|_| machine.collect_after(&mut collector, 1)).last().unwrap();
    assert_eq!(rss(&last), 2.0);
}

#[test]
fn a_counter_that_begins_anew_is_null_once() {
    let machine = Machine::new();
    machine.process(10, 1, 0, "server");
    machine.worker("llm/8080", "cgroup.procs", "10\n");
    let mut collector = machine.collector();
    let mut cpu = |usage_us: u64| {
        machine.worker("llm/8080", "cpu.stat", format!("usage_usec {usage_us}\n"));
        let heartbeat = machine.collect_after(&mut collector, 1);
        heartbeat.workers[0].cpu_pct.map(|cpu| cpu.get())
    };
    assert_eq!(cpu(5_000_000), None);
    assert_eq!(cpu(5_500_000), Some(50.0));
    assert_eq!(cpu(100_000), None);
    assert_eq!(cpu(200_000), Some(10.0));
}

#[test]
fn a_directory_made_anew_is_another_worker() {
    let machine = Machine::new();
    machine.process(10, 1, 0, "server");
    let start = |usage: &str| {
        machine.worker("llm/8080", "cgroup.procs", "10\n");
        machine.worker("llm/8080", "cpu.stat", usage);
    };
    start("usage_usec 1000\n");
    let mut collector = machine.collector();
    machine.collect_after(&mut collector, 1);
    let cgroup = machine.dir.path().join("cgroup/rbee.slice/llm/8080");
    // Moved away rather than removed, so that its inode is not given out again.
    fs::rename(cgroup, machine.dir.path().join("moved")).unwrap();
    start("usage_usec 900000\n");
    assert_eq!(machine.collect_after(&mut collector, 1).workers[0].cpu_pct, None);
}

#[test]
fn names_that_are_not_valid_are_skipped_and_reported() {
    let machine = Machine::new();
    machine.process(10, 1, 0, "server");
    for place in ["llm/8080", "llm/a b", "not ok/1"] {
        machine.worker(place, "cgroup.procs", "10\n");
    }
    machine.write("cgroup/rbee.slice/cgroup.procs", "");
    let heartbeat = machine.collector().collect(0);
    assert_eq!(names(&heartbeat), ["llm/8080"]);
    let errors = errors(&heartbeat);
    assert_eq!(errors.len(), 2, "{errors:?}");
    assert!(errors.iter().any(|error| error.contains("rbee.slice/llm/a b is skipped: ' ' is not")));
}

#[test]
fn what_has_no_living_process_is_no_worker_and_no_error() {
    let machine = Machine::new();
    machine.process(10, 1, 0, "server");
    machine.worker("llm/empty", "cgroup.procs", "");
    machine.worker("llm/unpopulated", "cgroup.procs", "");
    machine.worker("llm/unpopulated/nested", "cgroup.procs", "10\n");
    machine.worker("llm/unpopulated", "cgroup.events", "populated 0\n");
    machine.worker("llm/just-ended", "cgroup.procs", "99\n");
    machine.worker("llm/zombie", "cgroup.procs", "12\n");
    machine.write("proc/12/stat", "12 (x) Z 1 1 1 0 -1 0 0 0 0 0 5 0 0 0 20 0 1 0 7 0\n");
    let heartbeat = machine.collector().collect(0);
    assert!(heartbeat.workers.is_empty(), "{:?}", names(&heartbeat));
    assert!(errors(&heartbeat).is_empty(), "{:?}", errors(&heartbeat));
}

#[test]
fn one_broken_worker_does_not_disturb_the_others() {
    let machine = Machine::new();
    for (pid, place) in [(10, "llm/good"), (11, "llm/bad"), (12, "llm/worse")] {
        machine.process(pid, 1, 0, "server");
        machine.worker(place, "cgroup.procs", format!("{pid}\n"));
        machine.worker(place, "cpu.stat", "usage_usec 1000\n");
        machine.worker(place, "memory.stat", format!("anon {MIB}\nfile_mapped 0\n"));
        machine.worker(place, "io.stat", "");
    }
    machine.worker("llm/bad", "cpu.stat", b"\xff\x00 garbage");
    machine.worker("llm/bad", "memory.stat", "anon x\n");
    machine.write("proc/12/stat", "12 (no end");
    let mut collector = machine.collector();
    let heartbeat = collector.collect(0);
    assert_eq!(names(&heartbeat), ["llm/bad", "llm/good"]);
    assert_eq!(heartbeat.workers[0].rss_mb, None);
    assert_eq!(heartbeat.workers[1].rss_mb.unwrap().get(), 1.0);
    assert_eq!(
        errors(&heartbeat),
        [
            "llm/bad: cpu.stat has an unknown form",
            "llm/bad: memory.stat has an unknown form",
            "llm/worse: cannot read process 12: stat has an unknown form",
        ]
    );
    // Whatever ends between two collections is gone without a word.
    machine.remove("cgroup/rbee.slice/llm/bad");
    machine.remove("cgroup/rbee.slice/llm/worse");
    let heartbeat = machine.collect_after(&mut collector, 1);
    assert_eq!(names(&heartbeat), ["llm/good"]);
    assert!(errors(&heartbeat).is_empty(), "{:?}", errors(&heartbeat));
}

#[test]
fn a_machine_that_cannot_be_read_gives_nulls_and_reasons() {
    let machine = Machine::new();
    machine.remove("proc/meminfo");
    machine.write("proc/stat", "nothing\n");
    let mut collector = machine.collector();
    collector.cgroup_root = None;
    let heartbeat = collector.collect(3);
    let node = heartbeat.node.as_ref().unwrap();
    assert_eq!((node.cpu_count, node.memory_total_mb), (None, None));
    assert_eq!(node.load_1m.unwrap().get(), 0.5);
    let errors = errors(&heartbeat);
    assert_eq!(errors.len(), 3, "{errors:?}");
    assert!(errors[0].starts_with("workers cannot be found: cannot read"), "{errors:?}");
    assert_eq!(heartbeat.agent.as_ref().unwrap().spooled.unwrap().whole(), 3);
}

#[test]
fn a_root_that_is_not_there_is_reported() {
    let machine = Machine::new();
    machine.remove("cgroup/rbee.slice");
    let mut collector = machine.collector();
    let heartbeat = collector.collect(0);
    assert!(errors(&heartbeat).is_empty(), "before the first worker there is no slice");
    machine.remove("cgroup");
    let heartbeat = collector.collect(0);
    let errors = errors(&heartbeat);
    assert!(errors[0].ends_with("cgroup is not a directory"), "{errors:?}");
}

#[test]
fn the_main_process_comes_from_outside_and_first() {
    let machine = Machine::new();
    machine.process_since(20, 1, 0, 500, "late");
    machine.process_since(30, 1, 0, 400, "main --model main");
    machine.process_since(10, 30, 0, 300, "inside --model inside");
    machine.worker("llm/8080/nested/deeper", "cgroup.procs", "10\n20\n30\n");
    machine.worker("llm/8080", "cgroup.procs", "");
    let heartbeat = machine.collector().collect(0);
    assert_eq!(heartbeat.workers[0].pid.whole(), 30);
    assert_eq!(heartbeat.workers[0].model.as_ref().unwrap().as_str(), "main");
}

#[test]
fn a_known_server_stands_for_the_worker_whoever_started_it() {
    let machine = Machine::new();
    machine.process_since(10, 1, 0, 100, "bash entry.sh");
    machine.process_since(11, 10, 0, 200, "python3 /bin/vllm serve org/m --port 8080");
    machine.process_since(12, 11, 0, 300, "VLLM::EngineCore");
    machine.worker("llm/8080", "cgroup.procs", "10\n11\n12\n");
    let heartbeat = machine.collector().collect(0);
    assert_eq!(names(&heartbeat), ["llm/8080"]);
    assert_eq!(heartbeat.workers[0].pid.whole(), 11);
    assert_eq!(heartbeat.workers[0].model.as_ref().unwrap().as_str(), "org/m");
}

#[test]
fn the_model_may_stand_on_a_child_and_outlives_a_new_title() {
    let machine = Machine::new();
    machine.process(10, 1, 0, "sh entry.sh");
    machine.process(11, 10, 0, "server -m child.gguf");
    machine.worker("llm/8080", "cgroup.procs", "10\n11\n");
    let mut collector = machine.collector();
    let model = |heartbeat: &Heartbeat| heartbeat.workers[0].model.clone().unwrap().to_string();
    assert_eq!(model(&machine.collect_after(&mut collector, 1)), "child");
    machine.write("proc/11/cmdline", "server: idle\0");
    assert_eq!(model(&machine.collect_after(&mut collector, 1)), "child");
    // The shell turns into a server of its own within its first seconds.
    machine.write("proc/10/cmdline", "server\0-m\0own.gguf\0");
    assert_eq!(model(&machine.collect_after(&mut collector, 1)), "own");
    // A settled process is not read again.
    machine.collect_after(&mut collector, 20);
    machine.write("proc/10/cmdline", "server\0-m\0later.gguf\0");
    assert_eq!(model(&machine.collect_after(&mut collector, 1)), "own");
}

#[test]
fn what_does_not_fit_into_a_heartbeat_is_counted() {
    let machine = Machine::new();
    machine.process(10, 1, 0, "server");
    for instance in 0..=MAX_WORKERS {
        machine.worker(&format!("llm/{instance}"), "cgroup.procs", "10\n");
    }
    let heartbeat = machine.collector().collect(0);
    assert_eq!(heartbeat.workers.len(), MAX_WORKERS);
    assert!(
        errors(&heartbeat).iter().any(|error| error.starts_with("1 workers are left out")),
        "{:?}",
        errors(&heartbeat)
    );
}
