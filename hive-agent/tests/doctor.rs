//! `hive-agent doctor`, the real program, on this machine.

#![expect(clippy::unwrap_used, reason = "a helper that fails is a test that fails")]

use std::os::unix::fs::PermissionsExt;
use std::process::{Output, Stdio};
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

#[tokio::test]
async fn what_another_user_may_not_read_is_said_once_of_all_workers() {
    // This user cannot enter the directory of the test's programs.
    let dir = tempfile::tempdir().unwrap();
    std::fs::set_permissions(dir.path(), PermissionsExt::from_mode(0o755)).unwrap();
    let program = dir.path().join("hive-agent");
    std::fs::copy(env!("CARGO_BIN_EXE_hive-agent"), &program).unwrap();
    let server = |port: &str| {
        let mut server = Command::new("sh");
        server.arg0("llama-server").args(["-c", "read line", "-m", "/m/a.gguf", "--port", port]);
        server.stdin(Stdio::piped()).kill_on_drop(true).spawn().unwrap()
    };
    // Nobody listens on these ports, since they are for root's servers only.
    let _servers = ["1021", "1022", "1023"].map(server);
    let doctor = || async {
        let mut command = Command::new(&program);
        command.args(["doctor", "--queen", "http://127.0.0.1:1"]).kill_on_drop(true);
        let output = command.uid(65534).gid(65534).output();
        let output = tokio::time::timeout(Duration::from_secs(60), output).await.unwrap().unwrap();
        String::from_utf8(output.stdout).unwrap()
    };
    let all = |text: &str| ["1021", "1022", "1023"].iter().all(|port| text.contains(port));
    let deadline = std::time::Instant::now() + Duration::from_secs(60);
    let text = loop {
        // A process that was just started may not be the server yet.
        match doctor().await {
            text if all(&text) => break text,
            text => assert!(std::time::Instant::now() < deadline, "{text}"),
        }
    };
    let said = text.lines().filter(|line| line.contains("storage traffic of"));
    let said: Vec<&str> = said.filter(|line| line.starts_with("note     reading: ")).collect();
    assert_eq!(said.len(), 1, "{text}");
    let end =
        "workers is not known: only root or CAP_SYS_PTRACE may read /proc/PID/io of other users";
    assert!(said[0].ends_with(end), "{text}");
    assert!(!text.contains("cannot read process"), "{text}");
}
