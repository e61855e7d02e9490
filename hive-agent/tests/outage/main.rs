//! `hive-agent run`, the real program, while the queen is away and the agent itself is killed.
//!
//! Every heartbeat says how many waited when it was collected. While the queen is away that is
//! one more each time, which shows that none is missing. The tests that need a small or read-only
//! disk mount one, as root.

#![expect(clippy::unwrap_used, reason = "a helper that fails is a test that fails")]

use std::collections::BTreeSet;
use std::fs;
use std::io::Read;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use hive_contract::Heartbeat;

mod queen;

use queen::Queen;

/// How long anything may take, on a machine that is busy with other things.
const LIMIT: Duration = Duration::from_secs(60);

struct Agent(Child);

impl Agent {
    fn start(queen: &Queen, spool: &Path) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_hive-agent"));
        command.args(["run", "--interval", "100ms", "--discover=false", "--hive-id", "gpu-7"]);
        command.args(["--queen", queen.url(), "--spool-dir"]).arg(spool);
        command.stderr(Stdio::piped()).stdin(Stdio::null());
        Self(command.spawn().unwrap())
    }

    fn kill(mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }

    /// Ends it as a service manager does; gives its status and what it logged.
    fn terminate(mut self) -> (ExitStatus, String) {
        let pid = rustix::process::Pid::from_child(&self.0);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
        let started = Instant::now();
        let status = loop {
            if let Some(status) = self.0.try_wait().unwrap() {
                break status;
            }
            assert!(started.elapsed() < LIMIT, "it does not end");
            std::thread::sleep(Duration::from_millis(20));
        };
        let mut log = String::new();
        self.0.stderr.take().unwrap().read_to_string(&mut log).unwrap();
        (status, log)
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The bytes of all segments.
fn size(spool: &Path) -> u64 {
    let Ok(files) = fs::read_dir(spool) else { return 0 };
    let size = |file: std::io::Result<fs::DirEntry>| file.ok()?.metadata().ok().map(|m| m.len());
    files.filter_map(size).sum()
}

fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    let started = Instant::now();
    while !is_so() {
        assert!(started.elapsed() < LIMIT, "{what}: not within {LIMIT:?}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn wait_for_growth(spool: &Path, bytes: u64) {
    let before = size(spool);
    wait_until("heartbeats on disk", || size(spool) >= before + bytes);
}

fn spooled(heartbeat: &Heartbeat) -> u64 {
    heartbeat.agent.as_ref().unwrap().spooled.unwrap().to_string().parse().unwrap()
}

fn errors(heartbeat: &Heartbeat) -> Vec<String> {
    let errors = &heartbeat.agent.as_ref().unwrap().errors;
    errors.iter().map(|error| error.as_str().to_owned()).collect()
}

/// All that came in, in the order of collection, once nothing waits any more.
fn caught_up(queen: &Queen) -> Vec<Heartbeat> {
    wait_until("nothing waits", || {
        queen.received().iter().flat_map(|request| &request.heartbeats).any(|heartbeat| {
            heartbeat.timestamp > queen.back_at().unwrap() && spooled(heartbeat) == 0
        })
    });
    let requests = queen.received();
    let mut all: Vec<Heartbeat> = requests.into_iter().flat_map(|r| r.heartbeats).collect();
    let distinct: BTreeSet<_> = all.iter().map(|heartbeat| heartbeat.timestamp).collect();
    assert_eq!(all.len(), distinct.len(), "each comes once");
    all.sort_by_key(|heartbeat| heartbeat.timestamp);
    all
}

/// The heartbeats of the outage: each found one more waiting than the one before, but for the
/// first of a start, which may have come before the spool was looked through.
fn assert_without_hole(all: &[Heartbeat], queen: &Queen, starts: usize) {
    let back = queen.back_at().unwrap();
    let outage: Vec<u64> =
        all.iter().take_while(|heartbeat| heartbeat.timestamp < back).map(spooled).collect();
    let off: Vec<_> =
        outage.iter().enumerate().filter(|(index, waiting)| *index as u64 != **waiting).collect();
    assert!(outage.len() > 5 && off.len() < starts, "{off:?} of {outage:?}");
}

#[test]
fn nothing_is_lost_or_doubled_when_agents_are_killed_while_the_queen_is_away() {
    let directory = tempfile::tempdir().unwrap();
    let spool = directory.path().join("spool");
    let queen = Queen::away();
    let agent = Agent::start(&queen, &spool);
    wait_for_growth(&spool, 4000);
    agent.kill();
    let agent = Agent::start(&queen, &spool);
    wait_for_growth(&spool, 4000);
    let (status, log) = agent.terminate();
    assert!(status.success(), "{log}");
    assert!(log.contains("before the end and are kept on disk"), "{log}");
    let _agent = Agent::start(&queen, &spool);
    wait_for_growth(&spool, 4000);
    queen.come_back();
    let all = caught_up(&queen);
    assert_without_hole(&all, &queen, 3);
    let first = &queen.received()[0];
    assert_eq!(first.path, "/v1/hive-heartbeat", "the present comes first");
    assert!(all.iter().all(|heartbeat| errors(heartbeat).is_empty()));
    wait_until("the files are deleted", || size(&spool) == 0);
}

#[test]
fn a_second_agent_with_the_same_directory_works_in_memory_and_says_so() {
    let directory = tempfile::tempdir().unwrap();
    let queen = Queen::away();
    let _first = Agent::start(&queen, directory.path());
    wait_for_growth(directory.path(), 1);
    let second_queen = Queen::away();
    second_queen.come_back();
    let second = Agent::start(&second_queen, directory.path());
    let expected =
        format!("spool: another agent uses the spool directory {}; ", directory.path().display());
    wait_until("it is told", || {
        let received = second_queen.received();
        let mut told = received.iter().flat_map(|r| &r.heartbeats).flat_map(errors);
        told.any(|error| error.starts_with(&expected))
    });
    let (status, log) = second.terminate();
    assert!(status.success() && log.contains("WARN another agent uses"), "{log}");
}

/// A file system of its own, gone at the end.
struct Mount(tempfile::TempDir);

impl Mount {
    fn new(options: &str) -> Self {
        let mount = Self(tempfile::tempdir().unwrap());
        let mut command = Command::new("mount");
        command.args(["-t", "tmpfs", "-o", options, "tmpfs"]).arg(mount.path());
        assert!(command.status().unwrap().success(), "root may mount");
        mount
    }

    fn path(&self) -> &Path {
        self.0.path()
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        // Lazily: an agent of a failed test may still be there.
        let _ = Command::new("umount").arg("-l").arg(self.path()).status();
    }
}

/// Runs through an outage in which the disk takes nothing.
fn lives_without_the_disk(spool: &Path, complaint: &str) {
    let queen = Queen::away();
    let agent = Agent::start(&queen, spool);
    wait_until("it tries", || queen.tries() >= 4);
    queen.come_back();
    let all = caught_up(&queen);
    let told: Vec<String> = all.iter().flat_map(errors).collect();
    assert!(told.iter().any(|error| error.contains(complaint)), "{told:?}");
    let back = queen.back_at().unwrap();
    let outage = all.iter().take_while(|heartbeat| heartbeat.timestamp < back);
    for (index, heartbeat) in outage.enumerate() {
        assert_eq!(spooled(heartbeat), index as u64);
    }
    let (status, log) = agent.terminate();
    assert!(status.success() && log.contains(complaint), "{log}");
}

#[test]
fn a_full_disk_costs_nothing_but_the_safety() {
    let mount = Mount::new("size=64k");
    // Until not a byte more fits.
    let _ = fs::write(mount.path().join("full"), vec![0; 100_000]);
    lives_without_the_disk(mount.path(), "No space left on device");
}

#[test]
fn a_read_only_disk_costs_nothing_but_the_safety() {
    let mount = Mount::new("ro,size=64k");
    lives_without_the_disk(mount.path(), "Read-only file system");
}

#[test]
fn a_disk_that_becomes_full_keeps_what_it_has() {
    let mount = Mount::new("size=64k");
    let queen = Queen::away();
    let agent = Agent::start(&queen, mount.path());
    wait_for_growth(mount.path(), 3000);
    let _ = fs::write(mount.path().join("full"), vec![0; 100_000]);
    let tries = queen.tries();
    wait_until("it tries", || queen.tries() >= tries + 2);
    queen.come_back();
    let all = caught_up(&queen);
    assert_without_hole(&all, &queen, 1);
    agent.kill();
}
