//! Workers outside the slice, on a machine made of files.

use std::os::unix::fs::symlink;

use super::super::discover::{Discovery, Rule};
use super::super::place::{Extent, Place};
use super::*;

const ID: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

impl Machine {
    /// A machine whose cgroup tree is known to be mounted.
    fn mounted() -> Self {
        let machine = Self::new();
        let root = machine.dir.path().join("cgroup");
        machine.write("proc/mounts", format!("none {} cgroup2 rw 0 0\n", root.display()));
        machine.network("self", "net:[1]");
        machine
    }

    fn network(&self, pid: &str, network: &str) {
        let dir = self.dir.path().join(format!("proc/{pid}/ns"));
        fs::create_dir_all(&dir).unwrap();
        symlink(network, dir.join("net")).unwrap();
    }

    /// A process of this machine's network, in a cgroup.
    fn server(&self, pid: u32, parent: u32, cgroup: &str, cmdline: &str) {
        self.process(pid, parent, 0, cmdline);
        self.write(&format!("proc/{pid}/cgroup"), format!("0::{cgroup}\n"));
        if !self.dir.path().join(format!("proc/{pid}/ns")).exists() {
            self.network(&pid.to_string(), "net:[1]");
        }
    }

    fn memory(&self, pid: u32, mib: u64) {
        let pages = mib * MIB / rustix::param::page_size() as u64;
        self.write(&format!("proc/{pid}/statm"), format!("9 {pages} 0 0 0 0 0\n"));
        self.write(&format!("proc/{pid}/io"), "read_bytes: 0\nwrite_bytes: 0\n");
    }

    fn with_rules(&self, rules: &str) -> Collector {
        #[derive(serde::Deserialize)]
        struct File {
            rules: Vec<Rule>,
        }
        let File { rules } = toml::from_str(rules).unwrap();
        let mut collector = self.collector();
        collector.discovery = Discovery::new(discover::Settings { is_on: true, rules });
        collector
    }

    /// What one scan finds, with these users of a GPU.
    fn places(&self, discovery: &mut Discovery, gpu_pids: &[u32]) -> Vec<Place> {
        self.clock.advance(Duration::from_secs(2));
        let (mut buffer, mut complaints) = (Buffer::default(), Complaints::default());
        let clock: Arc<dyn Clock> = Arc::<ManualClock>::clone(&self.clock);
        let mut scan = Scan {
            clock: &*self.clock,
            proc_root: &self.dir.path().join("proc"),
            sys_root: &self.dir.path().join("sys"),
            gpus: &crate::collect::gpu::View::default(),
            buffer: &mut buffer,
            inquiry: &mut Inquiry::new(clock, "/nonexistent".as_ref()),
            complaints: &mut complaints,
            ticks_per_s: 100,
            page_size: 4096,
        };
        let places = discovery.places(None, gpu_pids, &mut scan);
        assert!(complaints.take().is_empty());
        places
    }
}

fn place_names(places: &[Place]) -> Vec<String> {
    places.iter().map(Place::to_string).collect()
}

fn pids(heartbeat: &Heartbeat) -> Vec<u64> {
    heartbeat.workers.iter().map(|worker| worker.pid.whole()).collect()
}

fn models(heartbeat: &Heartbeat) -> Vec<&str> {
    let name = |worker: &'_ hive_contract::heartbeat::Worker| worker.model.is_some();
    assert!(heartbeat.workers.iter().all(name), "{heartbeat:#?}");
    heartbeat.workers.iter().map(|worker| worker.model.as_ref().unwrap().as_str()).collect()
}

#[test]
fn children_that_renamed_themselves_belong_to_their_server() {
    let machine = Machine::mounted();
    machine.server(10, 1, "/user.slice/session-1.scope", "bash");
    machine.server(20, 10, "/user.slice/session-1.scope", "python3 /bin/vllm serve org/m");
    machine.server(21, 20, "/user.slice/session-1.scope", "VLLM::EngineCore");
    machine.server(22, 21, "/user.slice/session-1.scope", "VLLM::Worker_TP0");
    machine.server(23, 21, "/user.slice/session-1.scope", "VLLM::Worker_TP1");
    machine.server(
        30,
        10,
        "/user.slice/session-1.scope",
        "python -m sglang.launch_server --model-path org/s",
    );
    machine.server(31, 30, "/user.slice/session-1.scope", "sglang::scheduler_TP0");
    machine.server(
        40,
        10,
        "/user.slice/session-1.scope",
        "text-generation-launcher --model-id org/t -p 81",
    );
    machine.server(41, 40, "/user.slice/session-1.scope", "text-generation-router --port 81");
    machine.server(
        42,
        40,
        "/user.slice/session-1.scope",
        "python /bin/text-generation-server serve org/t",
    );
    for pid in [20, 21, 22, 23, 30, 31, 40, 41, 42] {
        machine.memory(pid, 2);
    }
    let mut collector = machine.collector();
    machine.collect_after(&mut collector, 1);
    for (pid, ticks) in [(21, 50), (22, 100), (23, 100)] {
        machine.process(pid, 20, ticks, "");
    }
    let heartbeat = machine.collect_after(&mut collector, 1);
    assert!(errors(&heartbeat).is_empty(), "{:?}", errors(&heartbeat));
    assert_eq!(names(&heartbeat), ["sglang/30000", "tgi/81", "vllm/8000"]);
    assert_eq!(pids(&heartbeat), [30, 40, 20]);
    assert_eq!(models(&heartbeat), ["org/s", "org/t", "org/m"]);
    let vllm = &heartbeat.workers[2];
    assert_eq!(vllm.rss_mb.unwrap().get(), 8.0);
    assert_eq!(vllm.cpu_pct.unwrap().get(), 250.0);
    assert_eq!(vllm.io_w_mb_s.unwrap().get(), 0.0);
}

#[test]
fn the_servers_of_a_supervisor_are_workers_of_their_own() {
    let machine = Machine::mounted();
    let unit = "/system.slice/ollama.service";
    let blob = format!("/m/blobs/sha256-{ID}");
    machine.server(10, 1, unit, "/usr/bin/ollama serve");
    machine.server(11, 10, unit, &format!("/usr/bin/ollama runner --model {blob} --port 4001"));
    machine.server(20, 1, "/a.service", "llama-server --models-dir /m --port 8080");
    machine.server(21, 20, "/a.service", "llama-server --alias one --port 5001 -m /m/1.gguf");
    machine.server(22, 20, "/a.service", "llama-server --alias two --port 5002 -m /m/2.gguf");
    for unit in ["system.slice/ollama.service", "a.service"] {
        machine.write(&format!("cgroup/{unit}/cgroup.procs"), "10\n11\n");
    }
    let heartbeat = machine.collector().collect(0);
    assert_eq!(names(&heartbeat), ["llama-server/5001", "llama-server/5002", "ollama/runner-4001"]);
    assert_eq!(pids(&heartbeat), [21, 22, 11]);
}

#[test]
fn a_service_with_one_worker_is_measured_at_its_cgroup() {
    let machine = Machine::mounted();
    let unit = "/system.slice/my llama (8).service";
    machine.server(9, 1, unit, "bash /entry.sh");
    machine.server(10, 9, unit, "llama-server -m /m/a.gguf --port 8081");
    let file = |name: &str| format!("cgroup{unit}/{name}");
    machine.write(&file("cgroup.procs"), "9\n");
    machine.write(&file("nested/cgroup.procs"), "10\n");
    machine.write(&file("cpu.stat"), "usage_usec 0\n");
    machine.write(&file("memory.stat"), format!("anon {}\nfile_mapped 0\n", 7 * MIB));
    let mut collector = machine.collector();
    machine.collect_after(&mut collector, 1);
    machine.write(&file("cpu.stat"), "usage_usec 500000\n");
    let heartbeat = machine.collect_after(&mut collector, 1);
    let worker = &heartbeat.workers[0];
    assert_eq!((names(&heartbeat), worker.pid.whole()), (vec!["llama-server/8081".into()], 10));
    assert_eq!(worker.cpu_pct.unwrap().get(), 50.0);
    assert_eq!(worker.rss_mb.unwrap().get(), 7.0);

    // What a health check starts for a moment does not tear the counters apart.
    machine.server(50, 9, unit, "curl localhost");
    machine.write(&file("cgroup.procs"), "9\n50\n");
    machine.write(&file("cpu.stat"), "usage_usec 1500000\n");
    let heartbeat = machine.collect_after(&mut collector, 2);
    assert_eq!(heartbeat.workers[0].cpu_pct.unwrap().get(), 50.0);

    // With a second server in it the cgroup says nothing about either.
    machine.server(11, 9, unit, "llama-server -m /m/b.gguf --port 8082");
    machine.write(&file("nested/cgroup.procs"), "10\n11\n");
    machine.memory(10, 3);
    machine.memory(11, 4);
    let heartbeat = machine.collect_after(&mut collector, 2);
    assert_eq!(names(&heartbeat), ["llama-server/8081", "llama-server/8082"]);
    let memory = |index: usize| heartbeat.workers[index].rss_mb.unwrap().get();
    assert_eq!((memory(0), memory(1)), (3.0, 4.0));
}

#[test]
fn a_unit_with_other_programs_is_not_the_worker() {
    let machine = Machine::mounted();
    let unit = "/system.slice/all.service";
    machine.server(8, 1, unit, "supervisord");
    machine.server(9, 8, unit, "nginx");
    machine.server(10, 8, unit, "llama-server -m /m/a.gguf");
    machine.write("cgroup/system.slice/all.service/cgroup.procs", "8\n9\n10\n");
    machine.write("cgroup/system.slice/all.service/memory.stat", "anon 9\nfile_mapped 0\n");
    machine.memory(10, 3);
    assert_eq!(machine.collector().collect(0).workers[0].rss_mb.unwrap().get(), 3.0);
}

#[test]
fn a_port_of_another_network_is_no_port_of_this_machine() {
    let machine = Machine::mounted();
    let docker = format!("/system.slice/docker-{ID}.scope");
    machine.network("10", "net:[2]");
    machine.network("11", "net:[3]");
    machine.server(10, 1, &docker, "vllm serve org/m");
    machine.server(11, 1, "/user.slice", "vllm serve org/m");
    machine.server(12, 1, &docker.replace("0123", "4567"), "vllm serve org/m");
    machine.server(13, 1, "/user.slice", "vllm serve org/m");
    machine.server(14, 1, "/user.slice", "tabbyapi-unknown");
    assert_eq!(
        names(&machine.collector().collect(0)),
        ["vllm/8000", "vllm/8000@0123456789ab", "vllm/8000@pid-11", "vllm/8000@pid-13"]
    );
}

#[test]
fn what_is_in_the_slice_is_counted_there_only() {
    let machine = Machine::mounted();
    machine.server(10, 1, "/rbee.slice/llm/8080", "llama-server -m a.gguf --port 8080");
    machine.worker("llm/8080", "cgroup.procs", "10\n");
    machine.server(11, 1, "/user.slice", "llama-server -m b.gguf --port 8081");
    let mut collector = machine.collector();
    let heartbeat = machine.collect_after(&mut collector, 1);
    assert_eq!(names(&heartbeat), ["llm/8080", "llama-server/8081"]);
    // Put into the slice between two scans.
    machine.worker("llm/moved", "cgroup.procs", "11\n");
    machine.write("proc/11/cgroup", "0::/rbee.slice/llm/moved\n");
    for _ in 0..4 {
        let heartbeat = machine.collect_after(&mut collector, 1);
        assert_eq!(names(&heartbeat), ["llm/8080", "llm/moved"]);
    }
}

#[test]
fn a_name_in_the_slice_comes_before_the_same_name_elsewhere() {
    let machine = Machine::mounted();
    machine.process(10, 1, 0, "something");
    machine.worker("vllm/8000", "cgroup.procs", "10\n");
    machine.server(11, 1, "/user.slice", "vllm serve org/m");
    let heartbeat = machine.collector().collect(0);
    assert_eq!((names(&heartbeat), pids(&heartbeat)), (vec!["vllm/8000".into()], vec![10]));
    let reason = "vllm/8000: another worker has this name, and one is left out";
    assert_eq!(errors(&heartbeat), [reason]);
}

#[test]
fn a_pid_that_is_used_again_is_another_process() {
    let machine = Machine::mounted();
    let start = |started: u64, command: &str| {
        machine.server(10, 1, "/user.slice", command);
        machine.process_since(10, 1, 100 * started, started, command);
        machine.memory(10, 1);
    };
    start(90_000, "vllm serve org/one");
    let mut collector = machine.collector();
    machine.collect_after(&mut collector, 1);
    machine.remove("proc/10");
    assert!(machine.collect_after(&mut collector, 2).workers.is_empty());
    start(100_100, "vllm serve org/two");
    let heartbeat = machine.collect_after(&mut collector, 2);
    assert_eq!(models(&heartbeat), ["org/two"]);
    assert_eq!(heartbeat.workers[0].cpu_pct, None, "its counters began anew");

    // Within one scan it takes until its turn.
    let mut collector = machine.collector();
    machine.collect_after(&mut collector, 1000);
    machine.remove("proc/10");
    start(200_000, "sleep 60");
    let last = (0..32).map(|_| machine.collect_after(&mut collector, 2)).last().unwrap();
    assert!(last.workers.is_empty(), "{last:#?}");
}

#[test]
fn a_server_that_is_started_again_keeps_its_name() {
    let machine = Machine::mounted();
    machine.server(10, 1, "/user.slice", "llama-server -m a.gguf --port 81");
    let mut collector = machine.collector();
    machine.collect_after(&mut collector, 1);
    // Settled, so that it is read seldom; then killed, and nobody has asked how it ended.
    machine.collect_after(&mut collector, 60);
    machine.write("proc/10/stat", "10 (x) Z 1 1 1 0 -1 0 0 0 0 0 5 0 0 0 20 0 1 0 99900 0\n");
    machine.server(11, 1, "/user.slice", "llama-server -m a.gguf --port 81");
    let heartbeat = machine.collect_after(&mut collector, 2);
    assert_eq!(names(&heartbeat), ["llama-server/81"]);
    assert_eq!(pids(&heartbeat), [11]);

    // One that runs keeps it.
    machine.server(12, 1, "/user.slice", "llama-server -m a.gguf --port 81");
    let heartbeat = machine.collect_after(&mut collector, 2);
    assert_eq!(names(&heartbeat), ["llama-server/81", "llama-server/81@pid-12"]);
}

#[test]
fn a_script_that_turns_into_a_server_is_noticed() {
    let machine = Machine::mounted();
    machine.server(10, 1, "/user.slice", "bash entry.sh");
    let mut collector = machine.collector();
    assert!(machine.collect_after(&mut collector, 1).workers.is_empty());
    machine.write("proc/10/cmdline", "vllm\0serve\0org/m\0");
    assert_eq!(models(&machine.collect_after(&mut collector, 2)), ["org/m"]);
    // A title of its own does not end it.
    machine.write("proc/10/cmdline", "VLLM::APIServer");
    assert_eq!(models(&machine.collect_after(&mut collector, 2)), ["org/m"]);

    // After a download of a quarter of an hour it takes until its turn.
    machine.server(12, 1, "/user.slice", "bash download.sh");
    machine.collect_after(&mut collector, 900);
    machine.write("proc/12/cmdline", "vllm\0serve\0org/late\0--port=9\0");
    let heartbeat = machine.collect_after(&mut collector, 2);
    assert_eq!(models(&heartbeat), ["org/m"], "a settled process is not read each time");
    let last = (0..32).map(|_| machine.collect_after(&mut collector, 2)).last().unwrap();
    assert_eq!(models(&last), ["org/m", "org/late"]);
}

#[test]
fn who_loses_a_parent_stays_and_who_has_ended_goes() {
    let machine = Machine::mounted();
    machine.server(10, 1, "/user.slice", "vllm serve org/m");
    machine.server(11, 10, "/user.slice", "sh wrapper");
    machine.server(12, 11, "/user.slice", "VLLM::EngineCore");
    for pid in [10, 11, 12] {
        machine.memory(pid, 1);
    }
    let mut collector = machine.collector();
    let memory = |heartbeat: &Heartbeat| heartbeat.workers[0].rss_mb.unwrap().get();
    assert_eq!(memory(&machine.collect_after(&mut collector, 1)), 3.0);
    machine.remove("proc/11");
    machine.server(12, 1, "/user.slice", "VLLM::EngineCore");
    for _ in 0..3 {
        assert_eq!(memory(&machine.collect_after(&mut collector, 2)), 2.0);
    }
    // The rest of a server that was killed still holds its memory.
    machine.write("proc/10/stat", "10 (x) Z 1 1 1 0 -1 0 0 0 0 0 5 0 0 0 20 0 1 0 99900 0\n");
    assert!(machine.collect_after(&mut collector, 1).workers.is_empty());
    let heartbeat = (0..33).map(|_| machine.collect_after(&mut collector, 2)).last().unwrap();
    assert_eq!((names(&heartbeat), pids(&heartbeat)), (vec!["vllm/8000".into()], vec![12]));
    // The GPUs' threads cannot keep up with a minute that passes at once, and are said to be late.
    let errors = errors(&heartbeat);
    assert!(
        errors.iter().all(|error| error.contains("GPU") || error.contains("NVIDIA")),
        "{errors:?}"
    );
}

#[test]
fn rules_name_workers_make_some_and_leave_others_alone() {
    let machine = Machine::mounted();
    machine.server(10, 1, "/user.slice", "vllm serve org/a");
    machine.server(11, 1, "/user.slice", "vllm serve org/b --port 8001");
    machine.server(12, 1, "/user.slice", "llama-server -m c.gguf --port 8002");
    machine.server(13, 12, "/user.slice", "llama-server -m part.gguf --port 8003");
    machine.server(14, 1, "/user.slice", "python /opt/my-server.py --model org/d --port 8004");
    let mut collector = machine.with_rules(
        r#"
        [[rules]]
        server = "vllm"
        port = 8001
        group = "chat"
        instance = "main"
        [[rules]]
        server = "llama-server"
        ignore = true
        [[rules]]
        program = "my-server"
        [[rules]]
        group = "llm"
        "#,
    );
    let heartbeat = collector.collect(0);
    assert_eq!(names(&heartbeat), ["chat/main", "llm/8000", "my-server/8004"]);
    assert_eq!(models(&heartbeat), ["org/b", "org/a", "org/d"]);

    let mut off = machine.collector();
    off.discovery = Discovery::new(discover::Settings { is_on: false, rules: Vec::new() });
    assert!(off.collect(0).workers.is_empty());
}

#[test]
fn what_computes_on_a_gpu_is_a_worker_too() {
    let machine = Machine::mounted();
    machine.server(10, 1, "/user.slice", "vllm serve org/m");
    machine.server(11, 10, "/user.slice", "VLLM::EngineCore");
    machine.server(20, 1, "/user.slice", "python my.py --model org/own --port 9");
    machine.server(21, 20, "/user.slice", "python my.py child");
    machine.server(22, 1, "/user.slice", "python train.py");
    machine.server(30, 1, "/user.slice", "idle --port 10");
    let mut discovery = Discovery::new(discover::Settings::default());
    assert_eq!(place_names(&machine.places(&mut discovery, &[])), ["vllm/8000"]);
    // Each of them was known before it came to a GPU.
    let places = machine.places(&mut discovery, &[11, 20, 21, 22, 99]);
    assert_eq!(place_names(&places), ["vllm/8000", "gpu/9", "gpu/pid-22"]);
    let Extent::Processes(members) = &places[1].extent else { panic!("{places:?}") };
    assert_eq!(members.iter().map(|member| member.pid).collect::<Vec<_>>(), [20, 21]);
    // It stays one after it has left the GPU, while it lives.
    let names = place_names(&machine.places(&mut discovery, &[]));
    assert_eq!(names, ["vllm/8000", "gpu/9", "gpu/pid-22"]);
}

#[test]
fn what_is_torn_or_vanishes_is_a_sentence_at_most() {
    let machine = Machine::mounted();
    machine.server(10, 1, "/user.slice", "vllm serve org/m");
    machine.write("proc/11/stat", "11 (x");
    machine.write("proc/12/stat", "");
    machine.write("proc/13/status", "no stat at all");
    machine.process(14, 1, 0, "llama-server -m a.gguf --port 1");
    machine.remove("proc/14/cmdline");
    machine.process(15, 1, 0, "");
    machine.write("proc/15/cmdline", [b"llama-server\0-m\0".as_slice(), &[0xff; 100]].concat());
    machine.write("proc/15/cgroup", [0xfe; 100]);
    machine.process(16, 1, 0, "");
    let mut long = b"vllm\0serve\0org/long\0--port=9\0".to_vec();
    long.resize(2 << 20, b'x');
    machine.write("proc/16/cmdline", &long);
    machine.write("proc/16/cgroup", "0::/user.slice\n");
    machine.process(17, 2, 0, "vllm serve kernel");
    machine.write("proc/0/stat", "never");
    machine.write("proc/99999999999/stat", "never");
    let mut collector = machine.collector();
    let heartbeat = collector.collect(0);
    assert_eq!(names(&heartbeat), ["llama-server/8080", "vllm/8000", "vllm/9"]);
    assert!(errors(&heartbeat).is_empty(), "{:?}", errors(&heartbeat));

    // Of a worker that is known it is said, and the others are not touched.
    machine.write("proc/10/stat", "10 (x");
    let heartbeat = machine.collect_after(&mut collector, 2);
    let sentence = "vllm/8000: cannot read process 10: stat has an unknown form";
    assert_eq!(names(&heartbeat), ["llama-server/8080", "vllm/8000", "vllm/9"]);
    let cpu: Vec<bool> = heartbeat.workers.iter().map(|w| w.cpu_pct.is_some()).collect();
    assert_eq!(cpu, [true, false, true], "only that figure is not known");
    assert_eq!(errors(&heartbeat), [sentence]);
}
