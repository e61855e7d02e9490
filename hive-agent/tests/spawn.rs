//! `hive-agent spawn`, the real program, in a real cgroup v2 tree.

#![expect(clippy::unwrap_used, reason = "a helper that fails is a test that fails")]

use std::fs;
use std::io;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Output, Stdio};
use std::time::{Duration, Instant};

use hive_agent::collect::cgroup::{SLICE, find_root};
use rustix::process::{Pid, Signal, kill_process};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};

/// How long anything may take, on a machine that is busy with other things.
const LIMIT: Duration = Duration::from_secs(30);

async fn in_time<T>(waiting: impl Future<Output = io::Result<T>>) -> T {
    tokio::time::timeout(LIMIT, waiting).await.expect("in time").unwrap()
}

/// A root of its own below the real tree, removed at the end with all that lives in it.
struct Tree {
    root: PathBuf,
}

impl Tree {
    fn new(test: &str) -> Self {
        let mount = find_root(Path::new("/proc")).unwrap();
        let root = mount.join(format!("hive-agent-spawn-{}-{test}", std::process::id()));
        fs::create_dir(&root)
            .unwrap_or_else(|error| panic!("cannot make the cgroup {}: {error}", root.display()));
        Self { root }
    }

    fn dir(&self) -> PathBuf {
        self.root.join(SLICE).join("llm/8080")
    }

    fn spawn(&self, arguments: &[&str]) -> Command {
        let mut command = spawn_in(&self.root);
        command.args(arguments);
        command
    }

    async fn output(&self, arguments: &[&str]) -> Output {
        in_time(self.spawn(arguments).output()).await
    }

    /// Starts a shell script that says `ready`, and waits until it has.
    async fn started(&self, script: &str) -> Child {
        let mut command = self.spawn(&["--", "sh", "-c", script]);
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        in_time(BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut line)).await;
        assert_eq!(line, "ready\n");
        child
    }
}

/// It is killed when its test fails; what it has started lives in the tree, and ends with it.
fn spawn_in(root: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_hive-agent"));
    command.args(["spawn", "--group", "llm", "--instance", "8080", "--cgroup-root"]);
    command.arg(root).kill_on_drop(true);
    command
}

impl Drop for Tree {
    fn drop(&mut self) {
        let _ = fs::write(self.root.join("cgroup.kill"), "1");
        let deadline = Instant::now() + Duration::from_secs(10);
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

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

async fn end(mut child: Child) -> ExitStatus {
    in_time(child.wait()).await
}

fn signal(child: &Child, signal: Signal) {
    let pid = child.id().and_then(|pid| Pid::from_raw(i32::try_from(pid).ok()?)).unwrap();
    kill_process(pid, signal).unwrap();
}

#[tokio::test]
async fn the_command_is_in_its_cgroup_from_the_first_instruction() {
    let tree = Tree::new("first");
    let output = tree.output(&["--", "cat", "/proc/self/cgroup"]).await;
    let cgroups = String::from_utf8(output.stdout.clone()).unwrap();
    let v2 = cgroups.lines().find(|line| line.starts_with("0::")).unwrap();
    assert!(v2.ends_with("/rbee.slice/llm/8080"), "{v2}");
    assert!(output.status.success(), "{}", stderr(&output));
    assert!(!tree.dir().exists(), "the empty cgroup is removed");
    assert!(!tree.dir().parent().unwrap().exists(), "and so is the empty group");
}

#[tokio::test]
async fn the_exit_status_is_that_of_the_command() {
    let tree = Tree::new("status");
    for (script, code) in [("exit 42", 42), ("kill -9 $$", 137)] {
        let output = tree.output(&["--", "sh", "-c", script]).await;
        assert_eq!(output.status.code(), Some(code), "{}", stderr(&output));
    }

    let output = tree.output(&["--", "no-such-command-anywhere"]).await;
    assert_eq!(output.status.code(), Some(127));
    assert!(stderr(&output).contains("\"no-such-command-anywhere\" was not found"));
    let output = tree.output(&["--", "/etc/passwd"]).await;
    assert_eq!(output.status.code(), Some(126));
    assert!(stderr(&output).contains("cannot execute \"/etc/passwd\""), "{}", stderr(&output));
}

#[tokio::test]
async fn a_signal_is_passed_on() {
    // It is ready when its child is: one that was only just forked would still catch the signal
    // that ends it, as the shell does, and live on.
    let script = "trap 'kill $!; exit 7' TERM; trap 'kill $!; exit 8' USR1; \
                  sh -c 'echo ready; exec sleep 60' & wait";
    for (sent, code) in [(Signal::TERM, 7), (Signal::USR1, 8)] {
        let tree = Tree::new(&format!("signal-{code}"));
        let child = tree.started(script).await;
        signal(&child, sent);
        assert_eq!(end(child).await.code(), Some(code));
    }
    let tree = Tree::new("signal");
    let child = tree.started("echo ready; exec sleep 60").await;
    signal(&child, Signal::TERM);
    let status = end(child).await;
    assert_eq!((status.code(), status.signal()), (Some(143), None));
}

#[tokio::test]
async fn no_signal_is_kept_from_the_command() {
    let tree = Tree::new("mask");
    let output = tree.output(&["--", "grep", "^SigBlk", "/proc/self/status"]).await;
    let blocked = String::from_utf8_lossy(&output.stdout);
    assert_eq!(blocked, "SigBlk:\t0000000000000000\n");
}

#[tokio::test]
async fn the_exit_status_is_known_also_where_the_parent_ignores_the_end_of_children() {
    let tree = Tree::new("ignored");
    let script = "trap '' CHLD; exec \"$@\"";
    let spawn = tree.spawn(&["--", "sh", "-c", "exit 42"]);
    let mut command = Command::new("sh");
    command.args(["-c", script, "sh"]).arg(spawn.as_std().get_program());
    command.args(spawn.as_std().get_args()).kill_on_drop(true);
    let output = in_time(command.output()).await;
    assert_eq!(output.status.code(), Some(42), "{}", stderr(&output));
}

#[tokio::test]
async fn a_place_that_is_taken_is_named() {
    let tree = Tree::new("taken");
    let first = tree.started("echo ready; exec sleep 60").await;
    let second = tree.output(&["--", "true"]).await;
    assert_eq!(second.status.code(), Some(125));
    let text = stderr(&second);
    assert!(text.contains("the worker llm/8080 runs already"), "{text}");
    signal(&first, Signal::TERM);
    end(first).await;
    let third = tree.output(&["--", "true"]).await;
    assert!(third.status.success(), "{}", stderr(&third));
}

#[tokio::test]
async fn processes_that_are_left_stay_and_are_named() {
    let tree = Tree::new("left");
    let output = tree.output(&["--", "sh", "-c", "sleep 60 >/dev/null 2>&1 & exit 3"]).await;
    assert_eq!(output.status.code(), Some(3));
    assert!(stderr(&output).contains("processes of the worker are left"), "{}", stderr(&output));
    let procs = fs::read_to_string(tree.dir().join("cgroup.procs")).unwrap();
    assert_eq!(procs.lines().count(), 1);
}

#[tokio::test]
async fn a_limit_is_set_or_said_not_to_be() {
    let tree = Tree::new("limit");
    let show = format!("cat {}/memory.max", tree.dir().display());
    let output = tree.output(&["--memory-limit", "64M", "--", "sh", "-c", &show]).await;
    if stderr(&output).contains("memory limit of 64 MiB not applied: ") {
        assert!(!output.status.success(), "the limit's file is there after all");
    } else {
        assert_eq!(String::from_utf8_lossy(&output.stdout), "67108864\n", "{}", stderr(&output));
    }
}

#[tokio::test]
async fn what_is_no_cgroup_tree_is_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let output = in_time(spawn_in(dir.path()).args(["--", "true"]).output()).await;
    assert_eq!(output.status.code(), Some(125));
    assert!(stderr(&output).contains("is not in a cgroup v2 tree"), "{}", stderr(&output));
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
}
