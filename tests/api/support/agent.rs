//! The `hive-agent` program, and the stand-in workers that it starts.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

use serde_json::Value;

use super::process::{Ended, Process, signal};
use super::queen::{Queen, clean};
use super::wait::{PAUSE, eventually};

/// Where the agent's program is. It belongs to another package, so it is built here, once.
pub(crate) fn program() -> &'static Path {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    PROGRAM.get_or_init(|| {
        let mut build = Command::new(env!("CARGO"));
        // For the whole workspace, so that its libraries are those that are built already.
        build.args(["build", "--bin", "hive-agent", "--message-format=json-render-diagnostics"]);
        if !cfg!(debug_assertions) {
            build.arg("--release");
        }
        let out = build.current_dir(env!("CARGO_MANIFEST_DIR")).output().unwrap();
        assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
        let messages = String::from_utf8(out.stdout).unwrap();
        let executable = messages.lines().find_map(|line| {
            let message: Value = serde_json::from_str(line).ok()?;
            Some(PathBuf::from(message["executable"].as_str()?))
        });
        executable.expect("cargo names the program that it built")
    })
}

/// An agent that collects this machine for a queen.
pub(crate) fn run(queen: &Queen, hive: &str, interval: &str) -> Process {
    let mut agent = clean(program());
    agent.args(["run", "--queen", queen.url(), "--hive-id", hive, "--interval", interval]);
    Process::start("the agent", &mut agent)
}

/// Runs the agent to its end.
pub(crate) fn output(arguments: &[&str]) -> Ended {
    Process::start("the agent", clean(program()).args(arguments)).wait()
}

/// A worker that serves nothing but uses a known share of a core and a known amount of memory.
pub(crate) struct StandIn {
    /// `hive-agent spawn`; none once it was waited for.
    spawn: Option<Process>,
    pub(crate) group: String,
}

/// Its instance.
pub(crate) const INSTANCE: &str = "8080";
/// The model on its command line.
pub(crate) const MODEL: &str = "stand-in-7b";
/// The memory that it holds beside its interpreter's.
pub(crate) const HELD_MB: u64 = 64;

/// Alternates 30 ms of processor time with 20 ms of sleep, without any module, so that the
/// Perl of the smallest installation runs it. It ends by itself should the tests be killed.
const SCRIPT: &str = "
    alarm 300;
    my $held = 'x' x ($ARGV[0] << 20);
    while (1) {
        my $until = (times)[0] + 0.03;
        1 while (times)[0] < $until;
        select undef, undef, undef, 0.02;
    }
";

impl StandIn {
    /// Starts one in a group of its own; none on a machine whose cgroups are not ours to use.
    pub(crate) fn start() -> Option<Self> {
        if !cgroups_can_be_used() {
            return None;
        }
        let group = unique_group();
        let held = HELD_MB.to_string();
        let model = format!("/models/{MODEL}.gguf");
        let mut spawn = clean(program());
        spawn.args(["spawn", "--group", &group, "--instance", INSTANCE, "--"]);
        spawn.args(["perl", "-e", SCRIPT, &held, "--model", &model]);
        Some(Self { spawn: Some(Process::start("the worker", &mut spawn)), group })
    }

    /// The process that is measured: the one child of `hive-agent spawn`.
    pub(crate) fn pid(&self) -> u32 {
        let spawn = self.spawn.as_ref().expect("it runs").id();
        eventually("the worker starts", || child_of(spawn))
    }

    /// Ends the worker; what `hive-agent spawn` made of it.
    pub(crate) fn end(mut self) -> Ended {
        let spawn = self.spawn.take().expect("it runs");
        spawn.signal("TERM");
        spawn.wait()
    }
}

impl Drop for StandIn {
    /// The worker must not outlive the test, nor its cgroup, which `spawn` removes.
    fn drop(&mut self) {
        let Some(mut spawn) = self.spawn.take() else { return };
        while !spawn.has_ended() {
            if let Some(worker) = child_of(spawn.id()) {
                signal(worker, "KILL");
            }
            std::thread::sleep(PAUSE);
        }
    }
}

fn child_of(pid: u32) -> Option<u32> {
    let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).ok()?;
    children.trim().parse().ok()
}

fn unique_group() -> String {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    format!("test-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed))
}

/// Whether workers can be spawned here. A developer without the right to do so may run the
/// other tests; continuous integration may not do without.
fn cgroups_can_be_used() -> bool {
    static ANSWER: OnceLock<bool> = OnceLock::new();
    *ANSWER.get_or_init(|| {
        let group = unique_group();
        let Ended { status, output } =
            self::output(&["spawn", "--group", &group, "--instance", "probe", "--", "true"]);
        let can = status.success();
        assert!(can || std::env::var_os("CI").is_none(), "no worker can be spawned: {output}");
        if !can {
            eprintln!("skipped, since no worker can be spawned: {output}");
        }
        can
    })
}

/// Processor time of a process so far, in seconds.
pub(crate) fn cpu_seconds(pid: u32) -> f64 {
    /// What the kernel promises to programs on every architecture that we build for.
    const TICKS_PER_SECOND: f64 = 100.0;
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let (_, after_name) = stat.rsplit_once(") ").unwrap();
    let field = |at: usize| after_name.split(' ').nth(at).unwrap().parse::<f64>().unwrap();
    (field(11) + field(12)) / TICKS_PER_SECOND
}

/// Resident memory of a process, in MiB.
pub(crate) fn resident_mb(pid: u32) -> f64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<f64>().unwrap() / 1024.0
}
