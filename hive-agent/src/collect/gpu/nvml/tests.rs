//! The real thread against the fake library, with a clock that moves only when told to.

use std::fs;
use std::path::PathBuf;
use std::thread::{self, JoinHandle};

use fake_nvml::errors::{
    DRIVER_NOT_LOADED, GPU_IS_LOST, INVALID_ARGUMENT, LIB_RM_VERSION_MISMATCH, NO_PERMISSION,
    RESET_REQUIRED, TIMEOUT, UNINITIALIZED, UNKNOWN,
};
use fake_nvml::{CALLS, Machine, Process};

use super::*;
use crate::clock::tests::ManualClock;

const S: fn(u64) -> Duration = Duration::from_secs;

/// A machine whose GPUs, kernel and time are made up.
struct Bench {
    dir: tempfile::TempDir,
    machine: Machine,
    clock: Arc<ManualClock>,
    board: Arc<Board>,
    thread: Option<JoinHandle<()>>,
}

impl Bench {
    fn new(gpus: &[&str]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let built = std::env::current_exe().unwrap().with_file_name("libfake_nvml.so");
        fs::copy(built, dir.path().join("nvml.so")).unwrap();
        let gpus = gpus.iter().zip(1..).map(|(uuid, bus)| fake_nvml::Gpu {
            uuid: (*uuid).to_owned(),
            bus_id: format!("00000000:0{bus}:00.0"),
            util_pct: Some(50),
            total_mb: Some(1000),
            compute: vec![Process { pid: bus, mb: Some(100) }],
            ..Default::default()
        });
        let machine = Machine { gpus: gpus.collect(), logs_calls: true, ..Machine::default() };
        let clock = Arc::new(ManualClock::at_s(1000));
        let board = Arc::new(Board::new(Arc::<ManualClock>::clone(&clock)));
        Self { dir, machine, clock, board, thread: None }
    }

    fn sources(&self) -> Sources {
        let path = |name| -> PathBuf { self.dir.path().join(name) };
        Sources { nvml: path("nvml.so"), sys: path("sys"), proc: path("proc") }
    }

    fn write(&self) {
        self.machine.write(self.dir.path()).unwrap();
    }

    /// Lets the kernel say whether a GPU sleeps.
    fn sleep(&self, bus: u32, status: &str) {
        let dir = self.dir.path().join(format!("sys/bus/pci/devices/0000:0{bus}:00.0"));
        fs::create_dir_all(dir.join("power")).unwrap();
        fs::write(dir.join("vendor"), "0x10de\n").unwrap();
        fs::write(dir.join("class"), "0x030200\n").unwrap();
        fs::write(dir.join("power/runtime_status"), status).unwrap();
    }

    /// One reading, so long after the last one.
    fn read_after(&mut self, time: Duration) -> Arc<Reading> {
        self.write();
        if self.thread.is_none() {
            let mut backend =
                NvmlBackend::new(self.sources(), Arc::<ManualClock>::clone(&self.clock));
            let board = Arc::clone(&self.board);
            self.thread = Some(thread::spawn(move || backend.run(&board)));
        }
        self.clock.advance(time);
        let now = self.clock.monotonic();
        self.board.order([].into(), now, None);
        self.board.wait_for(now)
    }

    /// The calls of the library since the last time.
    fn calls(&self) -> Vec<String> {
        let path = self.dir.path().join(CALLS);
        let calls = fs::read_to_string(&path).unwrap_or_default();
        let _ = fs::remove_file(path);
        calls.lines().map(str::to_owned).collect()
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        self.board.close();
        if let Some(thread) = self.thread.take() {
            let ended = thread.join();
            assert!(ended.is_ok() || thread::panicking(), "the reading thread panicked");
        }
    }
}

fn states(reading: &Reading) -> Vec<String> {
    let state = |device: &Device| {
        let uuid = device.gpu.uuid.as_ref().map_or("?", Text::as_str);
        format!("{uuid} {}", device.gpu.state.as_ref().unwrap())
    };
    reading.devices.iter().map(state).collect()
}

fn count(calls: &[String], name: &str) -> usize {
    calls.iter().filter(|call| call.split(' ').next() == Some(name)).count()
}

#[test]
fn a_lost_gpu_leaves_the_others_alone_and_is_looked_for_by_opening_anew() {
    let mut bench = Bench::new(&["A", "B"]);
    assert_eq!(states(&bench.read_after(S(1))), ["A ok", "B ok"]);
    bench.machine.gpus[1].fault = GPU_IS_LOST;
    let reading = bench.read_after(S(1));
    assert_eq!(states(&reading), ["A ok", "B lost"]);
    assert!(reading.complaints.is_empty(), "{:?}", reading.complaints);
    // Who sat there is unknown now, and not gone.
    let on_lost = &reading.devices[1].uses;
    assert_eq!((on_lost[0].pid, on_lost[0].vram_bytes, on_lost[0].util_pct), (2, None, None));
    assert!(reading.devices[1].gpu.memory_total_mb.is_none());
    assert!(reading.devices[0].gpu.memory_total_mb.is_some());

    bench.read_after(S(59));
    bench.calls();
    assert_eq!(states(&bench.read_after(S(1))), ["A ok", "B lost"]);
    // The driver itself lists it no more, but it was there.
    let lost = bench.machine.gpus.pop().unwrap();
    assert_eq!(states(&bench.read_after(S(1))), ["A ok", "B lost"]);
    let calls = bench.calls();
    assert_eq!((count(&calls, "nvmlShutdown"), count(&calls, "nvmlInit_v2")), (1, 1));
    bench.machine.gpus.push(fake_nvml::Gpu { fault: 0, ..lost });
    assert_eq!(states(&bench.read_after(S(61))), ["A ok", "B ok"]);
}

#[test]
fn with_all_gpus_lost_the_library_is_opened_at_growing_intervals() {
    let mut bench = Bench::new(&["A"]);
    bench.read_after(S(1));
    bench.machine.gpus[0].fault = RESET_REQUIRED;
    assert_eq!(states(&bench.read_after(S(1))), ["A needs a reset"]);
    bench.calls();
    let mut opened = Vec::new();
    for second in 1..=130 {
        let reading = bench.read_after(S(1));
        assert_eq!(states(&reading), ["A needs a reset"], "it is said all the time");
        if count(&bench.calls(), "nvmlInit_v2") > 0 {
            opened.push(second);
        }
    }
    assert_eq!(opened, [1, 3, 7, 15, 31, 63, 123]);
    bench.machine.gpus[0].fault = 0;
    assert_eq!(states(&bench.read_after(S(61))), ["A ok"]);
}

#[test]
fn a_reloaded_driver_is_found_again() {
    let mut bench = Bench::new(&["A"]);
    bench.read_after(S(1));
    bench.machine.fault = DRIVER_NOT_LOADED;
    bench.machine.init = DRIVER_NOT_LOADED;
    let reading = bench.read_after(S(1));
    assert_eq!(states(&reading), ["A no driver"]);
    assert_eq!(reading.complaints, ["NVIDIA's driver: NVIDIA driver is not loaded"]);
    assert_eq!((reading.devices[0].uses[0].pid, reading.devices[0].uses[0].vram_bytes), (1, None));
    assert_eq!(states(&bench.read_after(S(2))), ["A no driver"]);
    bench.machine.fault = 0;
    bench.machine.init = 0;
    bench.machine.gpus[0].util_pct = Some(70);
    let reading = bench.read_after(S(4));
    assert_eq!(states(&reading), ["A ok"]);
    assert_eq!(reading.devices[0].gpu.util_pct.unwrap().get(), 70.0);
}

#[test]
fn a_driver_of_another_version_than_its_library_is_opened_again() {
    for fault in [LIB_RM_VERSION_MISMATCH, UNINITIALIZED] {
        let mut bench = Bench::new(&["A"]);
        bench.read_after(S(1));
        // It was updated under the running agent, whose library is the old one now.
        bench.machine.fault = fault;
        let reading = bench.read_after(S(1));
        assert_eq!(states(&reading), ["A no driver"]);
        assert_eq!(reading.complaints.len(), 1, "{:?}", reading.complaints);
        bench.calls();
        bench.machine.fault = 0;
        assert_eq!(states(&bench.read_after(S(4))), ["A ok"]);
        assert_eq!(count(&bench.calls(), "nvmlInit_v2"), 1);
    }
}

#[test]
fn a_question_that_fails_costs_its_own_figure_whatever_the_error() {
    let mut bench = Bench::new(&["A", "B"]);
    bench.machine.gpus[0].temperature_c = Some(50);
    bench.machine.gpus[0].power_mw = Some(100_000);
    bench.machine.gpus[0].samples = Some(Vec::new());
    // The machine's own memory is none of the GPU's.
    fs::create_dir_all(bench.sources().proc).unwrap();
    let meminfo = "MemTotal: 4096 kB\nMemAvailable: 1024 kB\n";
    fs::write(bench.sources().proc.join("meminfo"), meminfo).unwrap();
    let whole = bench.read_after(S(5));
    let shown = |device: &Device| {
        let Gpu { util_pct, memory_total_mb, temperature_c, power_w, .. } = &device.gpu;
        let used = device.uses.first().and_then(|used| used.vram_bytes);
        [
            format!("{util_pct:?}"),
            format!("{memory_total_mb:?}"),
            format!("{temperature_c:?}"),
            format!("{power_w:?}"),
            format!("{used:?}"),
        ]
    };
    // A function, which of the figures is its, and what it is called.
    for (function, figure, what) in [
        ("nvmlDeviceGetUtilizationRates", Some(0), "its utilisation"),
        ("nvmlDeviceGetMemoryInfo_v2", Some(1), "its memory"),
        ("nvmlDeviceGetTemperature", Some(2), "its temperature"),
        ("nvmlDeviceGetPowerUsage", Some(3), "its power"),
        ("nvmlDeviceGetComputeRunningProcesses_v3", Some(4), "its processes"),
        ("nvmlDeviceGetGraphicsRunningProcesses_v3", None, "who draws on it"),
        ("nvmlDeviceGetMPSComputeRunningProcesses_v3", None, "its MPS clients"),
        ("nvmlDeviceGetProcessUtilization", None, "the utilisation by process"),
        ("nvmlDeviceGetTotalEccErrors", None, "its memory errors"),
        ("nvmlDeviceGetFieldValues", None, "what the driver wants for it"),
    ] {
        // The last one is an error that no driver has yet.
        for error in [UNKNOWN, TIMEOUT, NO_PERMISSION, INVALID_ARGUMENT, 998] {
            bench.machine.gpus[0].faults = [(function.to_owned(), error)].into();
            let reading = bench.read_after(S(5));
            let complaint = format!("GPU 0: cannot read {what}: ");
            let is_meant = |said: &String| said.starts_with(&complaint);
            assert_eq!(reading.complaints.len(), 1, "{function} {error}: {:?}", reading.complaints);
            assert!(reading.complaints.iter().all(is_meant), "{error}: {:?}", reading.complaints);
            let (before, after) = (shown(&whole.devices[0]), shown(&reading.devices[0]));
            for (index, (before, after)) in before.iter().zip(&after).enumerate() {
                let expected = if figure == Some(index) { "None" } else { before };
                assert_eq!(after, expected, "{function} {error}");
            }
            assert_eq!(shown(&whole.devices[1]), shown(&reading.devices[1]), "{function} {error}");
            assert_eq!(states(&reading), ["A ok", "B ok"]);
        }
    }
    bench.machine.gpus[0].faults.clear();
    assert!(bench.read_after(S(5)).complaints.is_empty());
}

#[test]
fn mig_instances_are_lost_with_their_gpu() {
    let mut bench = Bench::new(&["A", "B"]);
    let instance =
        fake_nvml::Gpu { uuid: "M".to_owned(), total_mb: Some(10), ..Default::default() };
    let holder = Process { pid: 7, mb: Some(1) };
    bench.machine.gpus[0].mig = Some(vec![fake_nvml::Gpu { compute: vec![holder], ..instance }]);
    assert_eq!(states(&bench.read_after(S(1))), ["A ok", "M ok", "B ok"]);
    bench.machine.gpus[0].fault = GPU_IS_LOST;
    let reading = bench.read_after(S(1));
    assert_eq!(states(&reading), ["A lost", "M lost", "B ok"]);
    let used = reading.devices[1].uses[0];
    assert_eq!((used.pid, used.vram_bytes), (7, None));
    // One that is taken away is not there any more.
    bench.machine.gpus[0].fault = 0;
    bench.machine.gpus[0].mig = Some(Vec::new());
    let reading = bench.read_after(S(1));
    assert_eq!(states(&reading), ["A ok", "B ok"]);
    assert_eq!(reading.devices[0].gpu.memory_total_mb.unwrap().get(), 1000.0);
}

#[test]
fn what_is_slow_is_asked_seldom() {
    let mut bench = Bench::new(&["A"]);
    for _ in 0..10 {
        bench.read_after(S(1));
    }
    let calls = bench.calls();
    for slow in [
        "nvmlDeviceGetTemperature",
        "nvmlDeviceGetTotalEccErrors",
        "nvmlDeviceGetCurrentClocksThrottleReasons",
        "nvmlDeviceGetFieldValues",
        "nvmlDeviceGetGraphicsRunningProcesses_v3",
    ] {
        assert_eq!(count(&calls, slow), 2, "{slow}");
    }
    assert_eq!(count(&calls, "nvmlDeviceGetMigMode"), 1);
    assert_eq!(count(&calls, "nvmlDeviceGetUtilizationRates"), 10);
    // A handle of before could be a stale one.
    assert_eq!(count(&calls, "nvmlDeviceGetHandleByIndex_v2"), 10);
}

#[test]
fn an_error_of_a_slow_question_is_said_until_the_next_one() {
    let mut bench = Bench::new(&["A"]);
    let fault = ("nvmlDeviceGetTemperature".to_owned(), fake_nvml::errors::UNKNOWN);
    bench.machine.gpus[0].faults = [fault].into();
    for _ in 0..7 {
        let reading = bench.read_after(S(1));
        let expected = "GPU 0: cannot read its temperature: an internal driver error occurred";
        assert_eq!(reading.complaints, [expected]);
        assert!(reading.devices[0].gpu.temperature_c.is_none());
        assert!(reading.devices[0].gpu.util_pct.is_some());
    }
}

#[test]
fn a_sleeping_gpu_is_left_asleep() {
    let mut bench = Bench::new(&["A", "B"]);
    bench.sleep(1, "active\n");
    bench.sleep(2, "active\n");
    bench.read_after(S(1));
    bench.calls();
    bench.sleep(2, "suspended\n");
    assert_eq!(states(&bench.read_after(S(1))), ["A ok", "B asleep"]);
    let calls = bench.calls();
    assert!(calls.iter().any(|call| call.ends_with(" 0")));
    assert!(!calls.iter().any(|call| call.ends_with(" 1")), "{calls:?}");

    // With all of them asleep the library is closed, and not opened to look.
    bench.sleep(1, "suspended\n");
    assert_eq!(states(&bench.read_after(S(1))), ["A asleep", "B asleep"]);
    for _ in 0..10 {
        assert_eq!(states(&bench.read_after(S(1))), ["A asleep", "B asleep"]);
    }
    assert_eq!(bench.calls(), ["nvmlDeviceGetCount_v2", "nvmlShutdown"]);

    // One wakes up: the other still is not touched, not even by the library opened anew.
    bench.sleep(1, "active\n");
    assert_eq!(states(&bench.read_after(S(6))), ["A ok", "B asleep"]);
    assert!(!bench.calls().iter().any(|call| call.ends_with(" 1")));
    bench.sleep(2, "active\n");
    assert_eq!(states(&bench.read_after(S(1))), ["A ok", "B ok"]);
}

#[test]
fn gpus_asleep_from_the_start_are_listed_without_opening_the_library() {
    let mut bench = Bench::new(&["A"]);
    bench.sleep(1, "suspended\n");
    assert_eq!(states(&bench.read_after(S(1))), ["? asleep"]);
    assert!(bench.calls().is_empty());
}

#[test]
fn what_the_driver_reports_is_shown_for_a_while() {
    let mut bench = Bench::new(&["A"]);
    bench.machine.gpus[0].ecc_errors = Some(0);
    bench.read_after(S(1));
    bench.machine.gpus[0].xids = vec![13, 79];
    assert_eq!(states(&bench.read_after(S(1))), ["A xid 79"]);
    bench.machine.gpus[0].ecc_errors = Some(2);
    bench.machine.gpus[0].throttle = 0x40;
    bench.machine.gpus[0].recovery = Some(1);
    let all = "A needs a reset, xid 79, 2 uncorrected memory errors, slowed down by heat";
    assert_eq!(states(&bench.read_after(S(5))), [all]);
    bench.machine.gpus[0].throttle = 0;
    bench.machine.gpus[0].recovery = Some(0);
    assert_eq!(states(&bench.read_after(S(60))), ["A 2 uncorrected memory errors"]);
}

#[test]
fn a_machine_without_a_driver_has_nothing_to_say() {
    let mut bench = Bench::new(&[]);
    bench.machine.init = DRIVER_NOT_LOADED;
    let reading = bench.read_after(S(1));
    assert!(reading.devices.is_empty() && reading.complaints.is_empty(), "{reading:?}");
    // But one with a GPU on its bus does.
    bench.sleep(1, "active\n");
    let reading = bench.read_after(S(61));
    assert_eq!(reading.complaints, ["NVIDIA's driver: NVIDIA driver is not loaded"]);
}
