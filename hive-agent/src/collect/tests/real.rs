//! Real processes in real cgroups. These tests need a cgroup v2 tree in which they may make
//! directories, and fail with its reason where there is none.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::Instant;

use super::*;
use crate::clock::SystemClock;

/// How long anything may take, on a machine that is busy with other things.
const LIMIT: Duration = Duration::from_secs(30);

/// A root of its own below the real tree, removed at the end with all that lives in it.
struct RealTree {
    root: PathBuf,
}

impl RealTree {
    fn new(test: &str) -> Self {
        let mount = cgroup::find_root(Path::new("/proc")).unwrap();
        let root = mount.join(format!("hive-agent-test-{}-{test}", std::process::id()));
        fs::create_dir_all(root.join(cgroup::SLICE))
            .unwrap_or_else(|error| panic!("cannot make the cgroup {}: {error}", root.display()));
        Self { root }
    }

    fn dir(&self, place: &str) -> PathBuf {
        let dir = self.root.join(cgroup::SLICE).join(place);
        fs::create_dir_all(&dir).unwrap();
        dir
    }

    /// Starts a shell that waits for a line, puts it into a cgroup, and lets it go on. It ends
    /// with the tree, or, if it never gets there, with this process.
    fn start(&self, place: &str, script: &str, arguments: &[&str]) -> Child {
        let mut child = Command::new("sh")
            .args(["-c", &format!("read line || exit; {script}"), "worker"])
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        fs::write(self.dir(place).join("cgroup.procs"), child.id().to_string()).unwrap();
        child.stdin.as_mut().unwrap().write_all(b"go\n").unwrap();
        child
    }

    fn collector(&self) -> Collector {
        let settings = Settings {
            hive_id: HiveId::new("hive").unwrap(),
            hostname: Text::cut("127.0.0.1"),
            interval: None,
            roots: Roots { cgroup: Some(self.root.clone()), ..Roots::default() },
            own_cost: OwnCost::Thread,
            asks_servers: false,
            discovery: discover::Settings { is_on: false, ..discover::Settings::default() },
        };
        Collector::new(settings, Arc::new(SystemClock))
    }
}

impl Drop for RealTree {
    fn drop(&mut self) {
        let _ = fs::write(self.root.join("cgroup.kill"), "1");
        let deadline = Instant::now() + LIMIT;
        while remove_all(&self.root).is_err() && Instant::now() < deadline {
            std::thread::yield_now();
        }
    }
}

fn remove_all(dir: &Path) -> std::io::Result<()> {
    for entry in fs::read_dir(dir)?.flatten() {
        if entry.file_type()?.is_dir() {
            remove_all(&entry.path())?;
        }
    }
    fs::remove_dir(dir)
}

fn wait_for_line(child: &mut Child) {
    let mut stdout = BufReader::new(child.stdout.take().unwrap());
    let (sender, receiver) = mpsc::channel();
    // A thread of its own: reading from a pipe has no bound.
    std::thread::spawn(move || {
        let mut line = String::new();
        let _ = sender.send(stdout.read_line(&mut line).map(|_| line));
    });
    assert_eq!(receiver.recv_timeout(LIMIT).unwrap().unwrap(), "ready\n");
}

/// Collects until it fits, within the limit.
fn collect_until(collector: &mut Collector, fits: impl Fn(&Heartbeat) -> bool) -> Heartbeat {
    let deadline = Instant::now() + LIMIT;
    loop {
        let heartbeat = collector.collect(0);
        if fits(&heartbeat) {
            return heartbeat;
        }
        assert!(Instant::now() < deadline, "{heartbeat:#?}");
        std::thread::yield_now();
    }
}

#[test]
fn a_busy_loop_uses_processor_time_and_ends_without_a_word() {
    let tree = RealTree::new("busy");
    let mut child = tree.start("llm/8080", "while :; do :; done", &["--model", "test"]);
    let mut collector = tree.collector();
    let busy = |heartbeat: &Heartbeat| {
        heartbeat.workers.first().is_some_and(|w| w.cpu_pct.is_some_and(|cpu| cpu.get() > 5.0))
    };
    let heartbeat = collect_until(&mut collector, busy);
    let worker = &heartbeat.workers[0];
    assert_eq!(worker.pid.whole(), u64::from(child.id()));
    assert_eq!(worker.model.as_ref().unwrap().as_str(), "test");
    assert!(worker.rss_mb.is_some() && worker.io_r_mb_s.is_some());
    assert!(errors(&heartbeat).is_empty(), "{:?}", errors(&heartbeat));

    child.kill().unwrap();
    child.wait().unwrap();
    let heartbeat = collect_until(&mut collector, |heartbeat| heartbeat.workers.is_empty());
    assert!(errors(&heartbeat).is_empty(), "{:?}", errors(&heartbeat));
}

#[test]
fn children_in_nested_cgroups_belong_to_the_worker() {
    let tree = RealTree::new("nested");
    let nested = tree.dir("llm/9/inner/most");
    let script =
        "sleep 60 & echo $! >\"$1/cgroup.procs\"; echo $$ >\"$1/cgroup.procs\"; echo ready; wait";
    let mut child = tree.start("llm/9", script, &[nested.to_str().unwrap()]);
    wait_for_line(&mut child);
    let mut collector = tree.collector();
    let heartbeat = collector.collect(0);
    assert_eq!(names(&heartbeat), ["llm/9"]);
    assert_eq!(heartbeat.workers[0].pid.whole(), u64::from(child.id()));
    assert_eq!(heartbeat.workers[0].uptime_s.unwrap().get(), 0.0);
    fs::write(tree.root.join("cgroup.kill"), "1").unwrap();
    child.wait().unwrap();
}

#[test]
fn a_threaded_cgroup_is_reported_alone() {
    let tree = RealTree::new("threaded");
    let mut good = tree.start("llm/good", "echo ready; read line", &[]);
    wait_for_line(&mut good);
    let threaded = tree.dir("threads/1");
    fs::write(threaded.join("cgroup.type"), "threaded").unwrap();
    let mut collector = tree.collector();
    // Without a process in it there is nothing to miss.
    let heartbeat = collector.collect(0);
    assert_eq!(names(&heartbeat), ["llm/good"]);

    let mut child = Command::new("sleep").arg("60").spawn().unwrap();
    let group = tree.dir("threads");
    fs::write(group.join("cgroup.procs"), child.id().to_string()).unwrap();
    fs::write(threaded.join("cgroup.threads"), child.id().to_string()).unwrap();
    let heartbeat = collector.collect(0);
    assert_eq!(names(&heartbeat), ["llm/good"]);
    let expected = "threads/1: is a threaded cgroup, whose processes the kernel does not list";
    assert_eq!(errors(&heartbeat), [expected]);
    child.kill().unwrap();
    child.wait().unwrap();
    good.kill().unwrap();
    good.wait().unwrap();
}

#[test]
fn a_cgroup_made_anew_starts_from_nothing() {
    let tree = RealTree::new("anew");
    let mut collector = tree.collector();
    for _ in 0..2 {
        let mut child = tree.start("llm/8080", "echo ready; read line", &[]);
        wait_for_line(&mut child);
        let heartbeat = collector.collect(0);
        assert_eq!(heartbeat.workers[0].cpu_pct, None);
        assert_eq!(heartbeat.workers[0].pid.whole(), u64::from(child.id()));
        child.kill().unwrap();
        child.wait().unwrap();
        // The kernel lets go of a dead process's cgroup in its own time.
        let dir = tree.dir("llm/8080");
        let deadline = Instant::now() + LIMIT;
        while fs::remove_dir(&dir).is_err() {
            assert!(Instant::now() < deadline, "{} cannot be removed", dir.display());
            std::thread::yield_now();
        }
    }
}
