//! `hive-agent doctor`, the real program, on this machine.

#![expect(clippy::unwrap_used, reason = "a helper that fails is a test that fails")]

use std::process::Output;
use std::time::Duration;

use tokio::process::Command;

async fn doctor(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_hive-agent"));
    command.arg("doctor").args(arguments).kill_on_drop(true);
    tokio::time::timeout(Duration::from_secs(60), command.output()).await.unwrap().unwrap()
}

#[tokio::test]
async fn a_queen_that_is_away_is_a_problem_with_advice_and_a_status() {
    let output = doctor(&["--queen", "http://127.0.0.1:1"]).await;
    assert_eq!(output.status.code(), Some(1));
    let text = String::from_utf8(output.stdout).unwrap();
    let problem = "PROBLEM  queen: cannot connect to the queen at 127.0.0.1:1: Connection refused";
    assert!(text.contains(problem), "{text}");
    assert!(text.contains("-> start her (queen --bind"), "{text}");
    assert!(text.contains("ok       cgroup: version 2 at "), "{text}");
}

#[tokio::test]
async fn a_configuration_that_is_wrong_is_named() {
    let output = doctor(&["--config", "/nonexistent.toml"]).await;
    assert_eq!(output.status.code(), Some(1));
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(text.contains("cannot read the configuration file /nonexistent.toml"), "{text}");
}
