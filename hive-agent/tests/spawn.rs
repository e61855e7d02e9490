//! `hive-agent spawn`, the real program, in a real cgroup v2 tree.

#![expect(clippy::unwrap_used, reason = "a helper that fails is a test that fails")]

use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::time::{Duration, Instant};

use hive_agent::collect::cgroup::{SLICE, find_root};
use rustix::process::{Pid, Signal, kill_process};

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
        let mut command = Command::new(env!("CARGO_BIN_EXE_hive-agent"));
        command.args(["spawn", "--group", "llm", "--instance", "8080", "--cgroup-root"]);
        command.arg(&self.root).args(arguments);
        command
    }

    fn output(&self, arguments: &[&str]) -> Output {
        self.spawn(arguments).output().unwrap()
    }

    /// Starts a shell script that says `ready`, and waits until it has.
    fn started(&self, script: &str) -> Child {
        let mut command = self.spawn(&["--", "sh", "-c", script]);
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
        assert_eq!(line, "ready\n");
        child
    }
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

/// How the command ends, within twenty seconds.
fn end(mut child: Child) -> ExitStatus {
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        match child.try_wait().unwrap() {
            Some(status) => return status,
            None if Instant::now() > deadline => {
                let _ = child.kill();
                panic!("the command did not end");
            }
            None => std::thread::yield_now(),
        }
    }
}

fn signal(child: &Child, signal: Signal) {
    let pid = Pid::from_raw(i32::try_from(child.id()).unwrap()).unwrap();
    kill_process(pid, signal).unwrap();
}

#[test]
fn the_command_is_in_its_cgroup_from_the_first_instruction() {
    let tree = Tree::new("first");
    let output = tree.output(&["--", "cat", "/proc/self/cgroup"]);
    let cgroups = String::from_utf8(output.stdout.clone()).unwrap();
    let v2 = cgroups.lines().find(|line| line.starts_with("0::")).unwrap();
    assert!(v2.ends_with("/rbee.slice/llm/8080"), "{v2}");
    assert!(output.status.success(), "{}", stderr(&output));
    assert!(!tree.dir().exists(), "the empty cgroup is removed");
    assert!(!tree.dir().parent().unwrap().exists(), "and so is the empty group");
}

#[test]
fn the_exit_status_is_that_of_the_command() {
    let tree = Tree::new("status");
    let code = |arguments: &[&str]| tree.output(arguments).status.code();
    assert_eq!(code(&["--", "sh", "-c", "exit 42"]), Some(42));
    assert_eq!(code(&["--", "sh", "-c", "kill -9 $$"]), Some(137));

    let output = tree.output(&["--", "no-such-command-anywhere"]);
    assert_eq!(output.status.code(), Some(127));
    assert!(stderr(&output).contains("\"no-such-command-anywhere\" was not found"));
    let output = tree.output(&["--", "/etc/passwd"]);
    assert_eq!(output.status.code(), Some(126));
    assert!(stderr(&output).contains("cannot execute \"/etc/passwd\""), "{}", stderr(&output));
}

#[test]
fn a_signal_is_passed_on() {
    let tree = Tree::new("signal");
    for (sent, code) in [(Signal::TERM, 7), (Signal::USR1, 8)] {
        let script = "trap 'kill $!; exit 7' TERM; trap 'kill $!; exit 8' USR1; \
                      sleep 60 & echo ready; wait";
        let child = tree.started(script);
        signal(&child, sent);
        assert_eq!(end(child).code(), Some(code));
    }
    let child = tree.started("echo ready; exec sleep 60");
    signal(&child, Signal::TERM);
    let status = end(child);
    assert_eq!((status.code(), status.signal()), (Some(143), None));
}

#[test]
fn a_place_that_is_taken_is_named() {
    let tree = Tree::new("taken");
    let first = tree.started("echo ready; exec sleep 60");
    let second = tree.output(&["--", "true"]);
    assert_eq!(second.status.code(), Some(125));
    let text = stderr(&second);
    assert!(text.contains("the worker llm/8080 runs already"), "{text}");
    signal(&first, Signal::TERM);
    end(first);
    let third = tree.output(&["--", "true"]);
    assert!(third.status.success(), "{}", stderr(&third));
}

#[test]
fn processes_that_are_left_stay_and_are_named() {
    let tree = Tree::new("left");
    let output = tree.output(&["--", "sh", "-c", "sleep 60 >/dev/null 2>&1 & exit 3"]);
    assert_eq!(output.status.code(), Some(3));
    assert!(stderr(&output).contains("processes of the worker are left"), "{}", stderr(&output));
    let procs = fs::read_to_string(tree.dir().join("cgroup.procs")).unwrap();
    assert_eq!(procs.lines().count(), 1);
}

#[test]
fn a_limit_is_set_or_said_not_to_be() {
    let tree = Tree::new("limit");
    let show = format!("cat {}/memory.max", tree.dir().display());
    let output = tree.output(&["--memory-limit", "64M", "--", "sh", "-c", &show]);
    if stderr(&output).contains("memory limit of 64 MiB not applied: ") {
        assert!(!output.status.success(), "the limit's file is there after all");
    } else {
        assert_eq!(String::from_utf8_lossy(&output.stdout), "67108864\n", "{}", stderr(&output));
    }
}

#[test]
fn what_is_no_cgroup_tree_is_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_hive-agent"));
    command.args(["spawn", "--group", "llm", "--instance", "1", "--cgroup-root"]);
    let output = command.arg(dir.path()).args(["--", "true"]).output().unwrap();
    assert_eq!(output.status.code(), Some(125));
    assert!(stderr(&output).contains("is not in a cgroup v2 tree"), "{}", stderr(&output));
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
}
