//! `hive-agent once`, the real program, on this machine.

#![expect(clippy::unwrap_used, reason = "a helper that fails is a test that fails")]

use std::fs::File;
use std::process::{Output, Stdio};
use std::time::Duration;

use hive_contract::{Heartbeat, Timestamp};
use tokio::process::Command;

async fn once(stdout: impl Into<Stdio>) -> Output {
    let root = tempfile::tempdir().unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_hive-agent"));
    command.args(["once", "--hive-id", "gpu-7", "--cgroup-root"]).arg(root.path());
    command.stdout(stdout).stderr(Stdio::piped()).kill_on_drop(true);
    let output = command.spawn().unwrap().wait_with_output();
    tokio::time::timeout(Duration::from_secs(30), output).await.expect("in time").unwrap()
}

#[tokio::test]
async fn what_is_printed_is_a_heartbeat_by_the_contract() {
    let output = once(Stdio::piped()).await;
    assert!(output.status.success());
    let now = Timestamp::from_millis(0).unwrap();
    let heartbeat = Heartbeat::parse(&output.stdout, now).unwrap();
    assert_eq!(heartbeat.hive.id.as_str(), "gpu-7");
    assert!(heartbeat.node.unwrap().cpu_pct.is_some(), "two readings give rates");
    assert_eq!(heartbeat.agent.unwrap().errors.len(), 0);
}

#[tokio::test]
async fn an_output_that_takes_nothing_is_an_error() {
    let output = once(File::options().write(true).open("/dev/full").unwrap()).await;
    assert_eq!(output.status.code(), Some(1));
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(text.starts_with("hive-agent: cannot write to stdout: No space left"), "{text}");
}
