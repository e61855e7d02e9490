//! The real program on a machine whose GPUs are made up: a copy of the fake library, a cgroup
//! tree of plain files, and real processes.

#![expect(clippy::unwrap_used, reason = "a helper that fails is a test that fails")]

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread;
use std::time::{Duration, Instant};

use fake_nvml::errors::{
    DRIVER_NOT_LOADED, GPU_IS_LOST, LIB_RM_VERSION_MISMATCH, NO_PERMISSION, NOT_SUPPORTED,
};
use fake_nvml::{CALLS, Gpu, Machine, Process, Sample};
use hive_agent::collect::gpu::probe;
use hive_contract::heartbeat::Worker;
use hive_contract::text::Text;
use hive_contract::units::{Mebibytes, Percent};
use hive_contract::{Heartbeat, Timestamp};

/// How long anything may take, on a machine that is busy with other things.
const LIMIT: Duration = Duration::from_secs(60);

/// A machine with GPUs that are made up and processes that are not.
struct Bench {
    dir: tempfile::TempDir,
    machine: Machine,
    children: Vec<Child>,
}

impl Bench {
    fn new(gpus: Vec<Gpu>) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let built = std::env::current_exe().unwrap().with_file_name("libfake_nvml.so");
        fs::copy(built, dir.path().join("nvml.so")).unwrap();
        let machine = Machine { gpus, driver_version: "580.82.07".into(), ..Machine::default() };
        Self { dir, machine, children: Vec::new() }
    }

    fn library(&self) -> PathBuf {
        self.dir.path().join("nvml.so")
    }

    /// Makes the copy a library without a function, as if its driver were of another age.
    fn without(self, function: &str) -> Self {
        let mut library = fs::read(self.library()).unwrap();
        // Its name, where the loader looks it up, gets another last letter.
        let name = [b"\0", function.as_bytes(), b"\0"].concat();
        let places: Vec<usize> = (0..library.len() - name.len())
            .filter(|&at| library[at..].starts_with(&name))
            .collect();
        assert!(!places.is_empty(), "{function} is not exported");
        for at in places {
            library[at + function.len()] = b'?';
        }
        fs::write(self.library(), library).unwrap();
        self
    }

    /// A worker of so many processes that only wait; gives their PIDs.
    fn worker(&mut self, instance: &str, processes: usize) -> Vec<u32> {
        let start = || Command::new("sleep").arg("600").stdin(Stdio::null()).spawn().unwrap();
        let children: Vec<Child> = (0..processes).map(|_| start()).collect();
        let pids: Vec<u32> = children.iter().map(Child::id).collect();
        self.children.extend(children);
        let cgroup = self.dir.path().join("cgroup/rbee.slice/llm").join(instance);
        fs::create_dir_all(&cgroup).unwrap();
        let lines: String = pids.iter().map(|pid| format!("{pid}\n")).collect();
        fs::write(cgroup.join("cgroup.procs"), lines).unwrap();
        pids
    }

    fn write(&self) {
        self.machine.write(self.dir.path()).unwrap();
    }

    fn agent(&self, command: &str) -> Command {
        self.write();
        let cgroup = self.dir.path().join("cgroup");
        fs::create_dir_all(cgroup.join("rbee.slice")).unwrap();
        let mut agent = Command::new(env!("CARGO_BIN_EXE_hive-agent"));
        agent.args([command, "--hive-id", "gpu-7", "--nvml-library"]).arg(self.library());
        agent.arg("--cgroup-root").arg(cgroup).stdin(Stdio::null()).env("HIVE_AGENT_LOG", "error");
        agent
    }

    fn once(&self) -> Heartbeat {
        let output = self.agent("once").output().unwrap();
        assert!(output.status.success(), "{output:?}");
        parse(&output.stdout)
    }

    /// Starts the agent at ten heartbeats a second.
    fn run(&self) -> Running {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let (sender, heartbeats) = mpsc::channel();
        thread::spawn(move || {
            for stream in listener.incoming() {
                let sender = sender.clone();
                // A connection that breaks is the agent's end.
                thread::spawn(move || acknowledge(stream.ok()?, &sender));
            }
        });
        let agent = self.agent("run").args(["--interval", "100ms", "--queen", &url]).spawn();
        Running { agent: agent.unwrap(), heartbeats }
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        for child in &mut self.children {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// A queen's part of the conversation: every heartbeat is taken.
fn acknowledge(stream: TcpStream, heartbeats: &Sender<Heartbeat>) -> Option<()> {
    let mut reader = BufReader::new(stream.try_clone().ok()?);
    let mut stream = stream;
    loop {
        let mut length = 0;
        loop {
            let mut line = String::new();
            if reader.read_line(&mut line).ok()? == 0 {
                return None;
            }
            let line = line.trim().to_ascii_lowercase();
            if let Some(value) = line.strip_prefix("content-length:") {
                length = value.trim().parse().ok()?;
            }
            if line.is_empty() {
                break;
            }
        }
        let mut body = vec![0; length];
        reader.read_exact(&mut body).ok()?;
        for line in body.split(|&byte| byte == b'\n').filter(|line| !line.is_empty()) {
            heartbeats.send(parse(line)).ok()?;
        }
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}").ok()?;
    }
}

/// A running agent, killed at the end.
struct Running {
    agent: Child,
    heartbeats: Receiver<Heartbeat>,
}

impl Running {
    /// The next heartbeat that fits, within the limit.
    fn until(&self, fits: impl Fn(&Heartbeat) -> bool) -> Heartbeat {
        let deadline = Instant::now() + LIMIT;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let heartbeat = self.heartbeats.recv_timeout(left).expect("a heartbeat that fits");
            if fits(&heartbeat) {
                return heartbeat;
            }
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.agent.kill();
        let _ = self.agent.wait();
    }
}

fn parse(json: &[u8]) -> Heartbeat {
    Heartbeat::parse(json, Timestamp::from_millis(0).unwrap()).unwrap()
}

fn gpu(uuid: &str) -> Gpu {
    Gpu {
        uuid: uuid.to_owned(),
        name: "NVIDIA H100".to_owned(),
        util_pct: Some(50),
        used_mb: 8300,
        total_mb: Some(81559),
        temperature_c: Some(54),
        power_mw: Some(310_500),
        samples: Some(Vec::new()),
        ..Gpu::default()
    }
}

fn holds(pid: u32, mb: u64) -> Process {
    Process { pid, mb: Some(mb) }
}

fn works(pid: u32, sm_pct: u32) -> Sample {
    Sample { pid, sm_pct, at_us: None }
}

fn worker<'a>(heartbeat: &'a Heartbeat, instance: &str) -> &'a Worker {
    let mut workers = heartbeat.workers.iter();
    workers.find(|worker| worker.instance.as_str() == instance).unwrap()
}

/// VRAM, total and utilisation, as numbers.
fn figures(worker: &Worker) -> [Option<f64>; 3] {
    [
        worker.vram_mb.map(Mebibytes::get),
        worker.total_vram_mb.map(Mebibytes::get),
        worker.gpu_util_pct.map(Percent::get),
    ]
}

fn errors(heartbeat: &Heartbeat) -> Vec<&str> {
    heartbeat.agent.as_ref().unwrap().errors.iter().map(Text::as_str).collect()
}

fn states(heartbeat: &Heartbeat) -> Vec<String> {
    let state = |gpu: &hive_contract::heartbeat::Gpu| {
        format!("{} {}", gpu.uuid.as_ref().unwrap(), gpu.state.as_ref().unwrap())
    };
    heartbeat.gpus.iter().map(state).collect()
}

fn gpu_age_ms(heartbeat: &Heartbeat) -> Option<f64> {
    heartbeat.agent.as_ref().unwrap().gpu_age_ms.map(|age| age.get())
}

#[test]
fn gpus_and_the_workers_on_them_are_measured() {
    let mut bench = Bench::new(vec![gpu("GPU-a"), gpu("GPU-b"), gpu("GPU-c")]);
    let split = bench.worker("8080", 3);
    let idle = bench.worker("8081", 1);
    bench.worker("8082", 1);
    let [a, b, c] = bench.machine.gpus.as_mut_slice() else { panic!() };
    a.compute = vec![holds(split[0], 1000), holds(idle[0], 500), holds(1, 7)];
    a.samples = Some(vec![works(split[0], 30), works(split[0], 40)]);
    b.compute = vec![holds(split[1], 2000), holds(split[2], 300)];
    b.samples = Some(vec![works(split[1], 50), works(split[2], 35)]);
    c.compute = vec![holds(1, 9)];
    let heartbeat = bench.once();

    let worker = |instance| worker(&heartbeat, instance);
    let two_gpus = Some(2.0 * 81559.0);
    assert_eq!(figures(worker("8080")), [Some(3300.0), two_gpus, Some(85.0)]);
    let parts = &worker("8080").gpus;
    let parts: Vec<_> = parts
        .iter()
        .map(|p| (p.uuid.as_ref().unwrap().as_str(), p.util_pct.unwrap().get()))
        .collect();
    assert_eq!(parts, [("GPU-a", 40.0), ("GPU-b", 85.0)]);
    assert_eq!(figures(worker("8081")), [Some(500.0), Some(81559.0), Some(0.0)]);
    assert_eq!(figures(worker("8082")), [None, None, None], "it sits on no GPU");

    let json = serde_json::to_value(&heartbeat.gpus[1]).unwrap();
    let expected = serde_json::json!({
        "uuid": "GPU-b", "index": 1, "name": "NVIDIA H100", "util_pct": 50.0,
        "memory_used_mb": 8300, "memory_total_mb": 81559, "temperature_c": 54,
        "power_w": 310.5, "state": "ok"
    });
    assert_eq!(json, expected);
    assert!(gpu_age_ms(&heartbeat).is_some());
    assert!(errors(&heartbeat).is_empty(), "{:?}", errors(&heartbeat));
}

#[test]
fn the_lists_of_those_who_compute_and_draw_and_share_are_one() {
    let mut bench = Bench::new(vec![gpu("GPU-a")]);
    let pids = bench.worker("8080", 3);
    let device = &mut bench.machine.gpus[0];
    device.compute = vec![holds(pids[0], 100), holds(pids[1], 40)];
    device.graphics = vec![holds(pids[0], 120), holds(1, 1)];
    device.mps = vec![holds(pids[1], 30), holds(pids[2], 1000)];
    device.samples = Some(vec![works(pids[2], 20)]);
    // A process that starts between the question for their number and for themselves.
    device.miscounts = true;
    let heartbeat = bench.once();
    let figures = figures(worker(&heartbeat, "8080"));
    assert_eq!(figures, [Some(1160.0), Some(81559.0), Some(20.0)]);
    assert!(errors(&heartbeat).is_empty(), "{:?}", errors(&heartbeat));
}

#[test]
fn what_is_not_available_is_null_and_never_zero() {
    let mut bench = Bench::new(vec![gpu("GPU-a"), gpu("GPU-b")]);
    let hidden = bench.worker("hidden", 2);
    let unsampled = bench.worker("unsampled", 1);
    let [a, b] = bench.machine.gpus.as_mut_slice() else { panic!() };
    a.compute = vec![holds(hidden[0], 5), Process { pid: hidden[1], mb: None }];
    a.util_pct = Some(0);
    b.compute = vec![holds(unsampled[0], 5)];
    b.samples = None;
    b.util_pct = None;
    b.temperature_c = None;
    b.power_mw = None;
    b.faults = [("nvmlDeviceGetMemoryInfo_v2".to_owned(), NO_PERMISSION)].into();
    let heartbeat = bench.once();
    assert_eq!(figures(worker(&heartbeat, "hidden")), [None, Some(81559.0), Some(0.0)]);
    assert_eq!(worker(&heartbeat, "unsampled").gpu_util_pct, None);
    assert_eq!(worker(&heartbeat, "unsampled").vram_mb.unwrap().get(), 5.0);
    let gpu = &heartbeat.gpus[1];
    assert_eq!((gpu.util_pct, gpu.temperature_c, gpu.power_w), (None, None, None));
    let denied = "GPU 1: cannot read its memory: the current user does not have permission to \
                  perform this operation";
    assert_eq!(errors(&heartbeat), [denied]);
}

#[test]
fn garbage_from_the_driver_is_left_out() {
    let mut bench = Bench::new(vec![gpu("GPU-a")]);
    let pids = bench.worker("8080", 1);
    let garbage = |sm_pct, at_us| Sample { pid: pids[0], sm_pct, at_us };
    let device = &mut bench.machine.gpus[0];
    device.util_pct = Some(4_000_000_000);
    device.compute = vec![holds(pids[0], u64::MAX >> 20), holds(0, 1), holds(u32::MAX, 1)];
    device.samples = Some(vec![
        garbage(4_000_000_000, None),
        garbage(99, Some(u64::MAX)),
        garbage(99, Some(1)),
        garbage(60, None),
        works(pids[0] + 1, 99),
    ]);
    let heartbeat = bench.once();
    assert_eq!(figures(worker(&heartbeat, "8080")), [None, Some(81559.0), Some(60.0)]);
    assert_eq!(heartbeat.gpus[0].util_pct, None);
}

#[test]
fn mig_instances_are_gpus_without_utilisation() {
    let instance = |uuid: &str| Gpu {
        uuid: uuid.to_owned(),
        name: "NVIDIA H100 MIG 1g.10gb".to_owned(),
        used_mb: 100,
        total_mb: Some(9984),
        ..Gpu::default()
    };
    let mut bench = Bench::new(vec![gpu("GPU-a"), gpu("GPU-b")]);
    let pids = bench.worker("8080", 2);
    let device = &mut bench.machine.gpus[0];
    device.util_pct = None;
    device.samples = None;
    // The GPU itself lists them too, without their memory.
    device.compute = vec![Process { pid: pids[0], mb: None }];
    device.mig = Some(vec![instance("MIG-1"), instance("MIG-2")]);
    device.mig.as_mut().unwrap()[1].compute = vec![holds(pids[0], 700), holds(pids[1], 20)];
    let heartbeat = bench.once();
    let worker = worker(&heartbeat, "8080");
    assert_eq!(figures(worker), [Some(720.0), Some(9984.0), None]);
    assert_eq!(worker.gpus[0].uuid.as_ref().unwrap().as_str(), "MIG-2");
    assert_eq!(states(&heartbeat), ["GPU-a ok", "MIG-1 ok", "MIG-2 ok", "GPU-b ok"]);
    let memory: Vec<_> =
        heartbeat.gpus.iter().map(|gpu| gpu.memory_total_mb.map(Mebibytes::get)).collect();
    assert_eq!(memory, [None, Some(9984.0), Some(9984.0), Some(81559.0)]);
    let indexes: Vec<_> = heartbeat.gpus.iter().map(|gpu| gpu.index.unwrap().whole()).collect();
    assert_eq!(indexes, [0, 0, 0, 1]);
    assert_eq!(heartbeat.gpus[0].power_w.unwrap().get(), 310.5);
    assert!(errors(&heartbeat).is_empty(), "{:?}", errors(&heartbeat));
}

#[test]
fn a_gpu_that_shares_the_machines_memory_has_that_memory() {
    let mut bench = Bench::new(vec![Gpu { total_mb: None, ..gpu("GPU-a") }]);
    let pids = bench.worker("8080", 1);
    bench.machine.gpus[0].compute = vec![holds(pids[0], 5)];
    let heartbeat = bench.once();
    let total = heartbeat.node.as_ref().unwrap().memory_total_mb;
    assert_eq!(heartbeat.gpus[0].memory_total_mb, total);
    assert_eq!(worker(&heartbeat, "8080").total_vram_mb, total);
    assert_eq!(worker(&heartbeat, "8080").vram_mb.unwrap().get(), 5.0);
}

#[test]
fn a_gpu_that_says_it_has_no_memory_has_the_machines_too() {
    let bench = Bench::new(vec![Gpu { total_mb: Some(0), used_mb: 0, ..gpu("GPU-a") }]);
    let heartbeat = bench.once();
    let total = heartbeat.node.as_ref().unwrap().memory_total_mb;
    assert!(total.is_some());
    assert_eq!(heartbeat.gpus[0].memory_total_mb, total);
}

#[test]
fn mig_without_the_right_to_look_keeps_its_users_memory_unknown() {
    let mut bench = Bench::new(vec![gpu("GPU-a")]);
    let pids = bench.worker("8080", 1);
    let device = &mut bench.machine.gpus[0];
    device.mig = Some(vec![Gpu {
        uuid: "MIG-1".to_owned(),
        total_mb: Some(9984),
        compute: vec![Process { pid: pids[0], mb: None }],
        faults: [("nvmlDeviceGetMemoryInfo_v2".to_owned(), NO_PERMISSION)].into(),
        ..Gpu::default()
    }]);
    let heartbeat = bench.once();
    assert_eq!(figures(worker(&heartbeat, "8080")), [None, None, None]);
    let uuid = worker(&heartbeat, "8080").gpus[0].uuid.as_ref().unwrap().as_str();
    assert_eq!(uuid, "MIG-1");
    assert_eq!(errors(&heartbeat).len(), 1, "{:?}", errors(&heartbeat));
}

#[test]
fn processes_that_are_not_there_are_nobodys() {
    let mut bench = Bench::new(vec![gpu("GPU-a")]);
    let pids = bench.worker("8080", 1);
    let mut gone = Command::new("true").spawn().unwrap();
    gone.wait().unwrap();
    let device = &mut bench.machine.gpus[0];
    device.compute = vec![holds(pids[0], 5), holds(gone.id(), 70_000), holds(4_194_305, 70_000)];
    device.samples = Some(vec![works(pids[0], 10), works(gone.id(), 90)]);
    let heartbeat = bench.once();
    assert_eq!(figures(worker(&heartbeat, "8080")), [Some(5.0), Some(81559.0), Some(10.0)]);
    let is_there = |worker: &Worker| worker.pid.whole() != u64::from(gone.id());
    assert!(heartbeat.workers.iter().all(is_there));
    assert!(errors(&heartbeat).is_empty(), "{:?}", errors(&heartbeat));
}

#[test]
fn lists_that_overflow_their_buffer_are_not_asked_for() {
    let bench = Bench::new(vec![gpu("GPU-a")]);
    let mut bench = bench.without("nvmlDeviceGetRunningProcessDetailList");
    let pids = bench.worker("8080", 1);
    bench.machine.gpus[0].compute = vec![holds(pids[0], 5)];
    bench.machine.logs_calls = true;
    let heartbeat = bench.once();
    assert_eq!(figures(worker(&heartbeat, "8080")), [None, None, None]);
    assert_eq!(heartbeat.gpus[0].util_pct.unwrap().get(), 50.0);
    assert!(errors(&heartbeat)[0].contains("this driver lists processes in a form"));
    let calls = fs::read_to_string(bench.dir.path().join(CALLS)).unwrap();
    assert!(calls.contains("nvmlDeviceGetUtilizationRates 0"));
    assert!(!calls.contains("RunningProcesses"), "{calls}");
}

#[test]
fn functions_that_a_driver_does_not_have_are_no_errors() {
    let mut bench = Bench::new(vec![gpu("GPU-a")]);
    for missing in [
        "nvmlShutdown",
        "nvmlDeviceGetMPSComputeRunningProcesses_v3",
        "nvmlDeviceGetProcessUtilization",
        "nvmlDeviceGetTotalEccErrors",
        "nvmlSystemGetDriverVersion",
        "nvmlEventSetCreate",
    ] {
        bench = bench.without(missing);
    }
    let pids = bench.worker("8080", 1);
    bench.machine.gpus[0].compute = vec![holds(pids[0], 5)];
    let heartbeat = bench.once();
    assert_eq!(figures(worker(&heartbeat, "8080")), [Some(5.0), Some(81559.0), None]);
    assert_eq!(states(&heartbeat), ["GPU-a ok"]);
    assert!(errors(&heartbeat).is_empty(), "{:?}", errors(&heartbeat));
    // One that cannot be closed is left open, and does no harm to whoever opened it.
    assert!(probe(&bench.library(), bench.dir.path()).nvml.is_ok());
}

#[test]
fn drivers_before_510_are_asked_in_their_own_way() {
    let mut bench = Bench::new(vec![gpu("GPU-a")]);
    for missing in [
        "nvmlDeviceGetComputeRunningProcesses_v3",
        "nvmlDeviceGetGraphicsRunningProcesses_v3",
        "nvmlDeviceGetMPSComputeRunningProcesses_v3",
        "nvmlDeviceGetMemoryInfo_v2",
    ] {
        bench = bench.without(missing);
    }
    let pids = bench.worker("8080", 2);
    bench.machine.gpus[0].compute = vec![holds(pids[0], 5)];
    bench.machine.gpus[0].graphics = vec![holds(pids[1], 7)];
    let heartbeat = bench.once();
    assert_eq!(figures(worker(&heartbeat, "8080"))[..2], [Some(12.0), Some(81559.0)]);
    assert_eq!(heartbeat.gpus[0].memory_used_mb.unwrap().get(), 8300.0);
    assert!(errors(&heartbeat).is_empty(), "{:?}", errors(&heartbeat));
}

#[test]
fn a_busy_gpu_without_any_sample_says_nothing_of_its_processes() {
    let mut bench = Bench::new(vec![gpu("GPU-a")]);
    let pids = bench.worker("8080", 1);
    bench.machine.gpus[0].compute = vec![holds(pids[0], 5)];
    assert_eq!(worker(&bench.once(), "8080").gpu_util_pct, None);
    bench.machine.gpus[0].util_pct = Some(0);
    assert_eq!(figures(worker(&bench.once(), "8080"))[2], Some(0.0));
}

#[test]
fn what_there_is_to_read_from_can_be_asked() {
    let mut bench = Bench::new(vec![gpu("GPU-a"), gpu("GPU-b")]);
    bench.machine.gpus[1].fault = GPU_IS_LOST;
    bench.write();
    let found = probe(&bench.library(), bench.dir.path());
    assert_eq!((found.nvidia_on_bus, found.others.len()), (0, 0));
    let nvml = found.nvml.unwrap();
    assert_eq!(nvml.driver_version.as_deref(), Some("580.82.07"));
    assert_eq!(nvml.library_version.as_deref(), Some("13.580.82.07"));
    let lost = "device fell off the bus or has otherwise become inacessible".to_owned();
    assert_eq!(nvml.devices, [Ok("NVIDIA H100 (GPU-a)".to_owned()), Err(lost)]);
    let missing = probe(&bench.dir.path().join("missing.so"), bench.dir.path());
    assert!(missing.nvml.unwrap_err().starts_with("its library cannot be loaded:"));
}

#[test]
fn a_library_that_does_not_open_is_said_with_the_reason() {
    let mut bench = Bench::new(vec![gpu("GPU-a")]);
    bench.machine.init = LIB_RM_VERSION_MISMATCH;
    let heartbeat = bench.once();
    assert!(heartbeat.gpus.is_empty());
    assert!(errors(&heartbeat)[0].starts_with("NVIDIA's driver: the library and the loaded"));
    assert_eq!(gpu_age_ms(&heartbeat), None);

    fs::write(bench.library(), "not a library").unwrap();
    let heartbeat = bench.once();
    let error = errors(&heartbeat)[0];
    assert!(error.starts_with("NVIDIA's driver: its library cannot be loaded:"), "{error}");
    assert!(error.contains(bench.library().to_str().unwrap()), "{error}");

    let bench = bench_without_init();
    let heartbeat = bench.once();
    assert!(errors(&heartbeat)[0].contains("is no NVML library"), "{:?}", errors(&heartbeat));
}

fn bench_without_init() -> Bench {
    Bench::new(vec![gpu("GPU-a")]).without("nvmlInit_v2")
}

#[test]
fn a_machine_without_gpus_is_quiet() {
    let bench = Bench::new(Vec::new());
    let heartbeat = bench.once();
    assert!(heartbeat.gpus.is_empty());
    assert_eq!((errors(&heartbeat).len(), gpu_age_ms(&heartbeat)), (0, None));

    let mut command = bench.agent("once");
    command.env("HIVE_AGENT_NVML_LIBRARY", "ignored").args(["--config", "/dev/null"]);
    let mut command_line = command.get_args().map(ToOwned::to_owned).collect::<Vec<_>>();
    let library = command_line.iter_mut().find(|a| **a == *bench.library().as_os_str()).unwrap();
    *library = "libnvidia-ml-that-is-not-there.so.1".into();
    let output =
        Command::new(env!("CARGO_BIN_EXE_hive-agent")).args(command_line).output().unwrap();
    let heartbeat = parse(&output.stdout);
    assert_eq!((errors(&heartbeat).len(), gpu_age_ms(&heartbeat)), (0, None));
}

#[test]
fn a_hanging_driver_never_delays_a_heartbeat() {
    let mut bench = Bench::new(vec![gpu("GPU-a")]);
    let pids = bench.worker("8080", 1);
    bench.machine.gpus[0].compute = vec![holds(pids[0], 5)];
    let mut running = bench.run();
    let measured = |heartbeat: &Heartbeat| worker(heartbeat, "8080").vram_mb.is_some();
    let before = running.until(measured);
    assert!(gpu_age_ms(&before).unwrap() < 5000.0);
    bench.machine.hangs = true;
    bench.write();

    // The last figures hold, and say their age, until they are too old.
    let aged = running.until(|heartbeat| gpu_age_ms(heartbeat).unwrap() > 1000.0);
    assert!(measured(&aged));
    let stale = running.until(|heartbeat| !measured(heartbeat));
    assert!(gpu_age_ms(&stale).unwrap() > 5000.0);
    assert_eq!(figures(worker(&stale, "8080")), [None, None, None]);
    assert_eq!(worker(&stale, "8080").gpus[0].uuid.as_ref().unwrap().as_str(), "GPU-a");
    assert_eq!(states(&stale), ["GPU-a not answering"]);
    assert_eq!(stale.gpus[0].memory_total_mb, None);
    let stale = running.until(|heartbeat| !errors(heartbeat).is_empty());
    assert_eq!(errors(&stale), ["NVIDIA's driver: no answer for 5 s"]);
    assert!(stale.agent.as_ref().unwrap().collect_ms.unwrap().get() < 5000.0);

    bench.machine.hangs = false;
    bench.write();
    let after = running.until(measured);
    assert_eq!(states(&after), ["GPU-a ok"]);

    // And it does not hold up the end.
    bench.machine.hangs = true;
    bench.write();
    running.until(|heartbeat| gpu_age_ms(heartbeat).unwrap() > 1000.0);
    let pid = running.agent.id().to_string();
    assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
    let deadline = Instant::now() + LIMIT;
    let status = loop {
        if let Some(status) = running.agent.try_wait().unwrap() {
            break status;
        }
        assert!(Instant::now() < deadline, "the agent does not end");
        thread::yield_now();
    };
    assert!(status.success(), "{status}");
}

#[test]
fn gpus_that_get_lost_and_drivers_that_reload_come_back() {
    let mut bench = Bench::new(vec![gpu("GPU-a"), gpu("GPU-b")]);
    let pids = bench.worker("8080", 2);
    let other = bench.worker("8081", 1);
    bench.machine.gpus[0].compute = vec![holds(pids[0], 5), holds(other[0], 6)];
    bench.machine.gpus[1].compute = vec![holds(pids[1], 7)];
    bench.machine.gpus[0].util_pct = Some(0);
    let running = bench.run();
    let state =
        |expected: [&'static str; 2]| move |heartbeat: &Heartbeat| states(heartbeat) == expected;
    let heartbeat = running.until(state(["GPU-a ok", "GPU-b ok"]));
    assert_eq!(figures(worker(&heartbeat, "8080"))[0], Some(12.0));

    bench.machine.gpus[1].fault = GPU_IS_LOST;
    bench.write();
    let heartbeat = running.until(state(["GPU-a ok", "GPU-b lost"]));
    assert_eq!(figures(worker(&heartbeat, "8080")), [None, None, None], "a part is unknown");
    assert_eq!(figures(worker(&heartbeat, "8081")), [Some(6.0), Some(81559.0), Some(0.0)]);
    bench.machine.gpus[1].fault = 0;
    bench.write();
    running.until(state(["GPU-a ok", "GPU-b ok"]));

    bench.machine.fault = DRIVER_NOT_LOADED;
    bench.machine.init = DRIVER_NOT_LOADED;
    bench.write();
    let heartbeat = running.until(state(["GPU-a no driver", "GPU-b no driver"]));
    assert_eq!(errors(&heartbeat), ["NVIDIA's driver: NVIDIA driver is not loaded"]);
    assert_eq!(figures(worker(&heartbeat, "8080")), [None, None, None]);
    bench.machine.fault = 0;
    bench.machine.init = 0;
    bench.write();
    let heartbeat = running.until(state(["GPU-a ok", "GPU-b ok"]));
    assert_eq!(figures(worker(&heartbeat, "8080"))[0], Some(12.0));
}

#[test]
fn a_library_that_refuses_everything_is_only_empty() {
    let mut refusing = gpu("GPU-a");
    let functions = ["MemoryInfo_v2", "UtilizationRates", "ComputeRunningProcesses_v3", "UUID"];
    let functions = functions.map(|function| format!("nvmlDeviceGet{function}"));
    refusing.faults = functions.map(|function| (function, NOT_SUPPORTED)).into();
    refusing.faults.insert("nvmlDeviceRegisterEvents".to_owned(), NOT_SUPPORTED);
    let bench = Bench::new(vec![refusing]);
    let heartbeat = bench.once();
    let gpu = &heartbeat.gpus[0];
    assert_eq!((&gpu.uuid, gpu.util_pct, gpu.index.unwrap().whole()), (&None, None, 0));
    assert!(errors(&heartbeat).is_empty(), "{:?}", errors(&heartbeat));
}

#[test]
fn the_doctor_tells_what_the_driver_says() {
    let mut bench = Bench::new(vec![gpu("GPU-a"), gpu("GPU-b")]);
    bench.worker("8080", 1);
    bench.write();
    let output = Command::new(env!("CARGO_BIN_EXE_hive-agent"))
        .args(["doctor", "--queen", "http://127.0.0.1:9", "--nvml-library"])
        .arg(bench.library())
        .output()
        .unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    let line = "ok       gpu: NVIDIA's driver 580.82.07 answers through NVML ";
    assert!(
        said.lines().any(|said| said.starts_with(line) && said.ends_with("with 2 GPUs")),
        "{said}"
    );
    assert_eq!(output.status.code(), Some(1), "nobody is the queen");
}
