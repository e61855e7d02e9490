//! Flags beat the environment, the environment beats the file, the file beats the default.

use std::fs;
use std::process::Command;

use crate::support::Home;
use crate::support::heartbeat::{heartbeat, now_ms};
use crate::support::process::{Ended, Process};
use crate::support::queen::clean;

/// `queen check-config`, which prints what the options come to.
struct Check {
    home: Home,
    command: Command,
}

impl Check {
    fn new() -> Self {
        let home = Home::new();
        let mut command = clean(env!("CARGO_BIN_EXE_queen"));
        command.arg("check-config").current_dir(home.path("."));
        Self { home, command }
    }

    fn flags(mut self, flags: &[&str]) -> Self {
        self.command.args(flags);
        self
    }

    fn env(mut self, name: &str, value: &str) -> Self {
        self.command.env(name, value);
        self
    }

    fn file(mut self, toml: &str) -> Self {
        let path = self.home.path("queen.toml");
        fs::write(&path, toml).unwrap();
        self.command.arg("--config").arg(path);
        self
    }

    fn run(mut self) -> Ended {
        Process::start("check-config", &mut self.command).wait()
    }

    #[track_caller]
    fn shows(self, expected: &str) {
        let Ended { status, output } = self.run();
        assert!(status.success(), "{output}");
        assert!(output.contains(expected), "{expected} is not in {output}");
    }

    #[track_caller]
    fn refuses(self, expected: &str) {
        let Ended { status, output } = self.run();
        assert!(!status.success(), "{output}");
        assert!(output.contains(expected), "{expected} is not in {output}");
    }
}

#[test]
fn each_source_beats_the_next() {
    let file = "bind = '127.0.0.1:3'\n";
    Check::new().shows("127.0.0.1:7833");
    Check::new().file(file).shows("127.0.0.1:3");
    Check::new().file(file).env("QUEEN_BIND", "127.0.0.1:2").shows("127.0.0.1:2");
    let all = Check::new().file(file).env("QUEEN_BIND", "127.0.0.1:2");
    all.flags(&["--bind", "127.0.0.1:1"]).shows("127.0.0.1:1");
}

#[test]
fn every_option_has_three_names() {
    for (option, value, shown) in [
        ("bind", "127.0.0.1:4", "127.0.0.1:4"),
        ("db", "elsewhere.db", "elsewhere.db"),
        ("durability", "normal", "Normal"),
        ("retention-raw", "3d", "259200s"),
        ("retention-1m", "91d", "7862400s"),
        ("retention-1h", "731d", "63158400s"),
        ("disk-budget", "3GiB", "3221225472"),
        ("min-free-disk", "2GiB", "2147483648"),
        ("seal-after", "7s", "7s"),
        ("query-timeout", "8s", "8s"),
        ("max-hives", "77", "77"),
        ("max-streams", "78", "78"),
        ("live-intervals", "7", "7"),
        ("stale-intervals", "79", "79"),
        ("local-hive", "false", "local_hive: false"),
    ] {
        let key = option.replace('-', "_");
        let env = format!("QUEEN_{}", key.to_uppercase());
        let toml = match value.parse::<i64>().is_ok() || value.parse::<bool>().is_ok() {
            true => format!("{key} = {value}\n"),
            false => format!("{key} = '{value}'\n"),
        };
        Check::new().flags(&[&format!("--{option}={value}")]).shows(shown);
        Check::new().env(&env, value).shows(shown);
        Check::new().file(&toml).shows(shown);
    }
}

#[test]
fn the_file_can_be_named_in_the_environment() {
    let check = Check::new();
    let path = check.home.path("elsewhere.toml");
    fs::write(&path, "max_streams = 9\n").unwrap();
    let path = path.to_str().unwrap().to_owned();
    check.env("QUEEN_CONFIG", &path).shows("max_streams: 9");
}

#[test]
fn what_is_wrong_is_named() {
    Check::new().file("bnd = 1\n").refuses("bnd");
    Check::new().file("bind = 'somewhere'\n").refuses("bind");
    Check::new().file("retention_raw = 'long'\n").refuses("long");
    Check::new().file("max_hives = -1\n").refuses("max_hives");
    Check::new().file("= =\n").refuses("queen.toml");
    Check::new().flags(&["--config", "nowhere.toml"]).refuses("nowhere.toml");
    Check::new().flags(&["--bind", "localhost"]).refuses("--bind");
    Check::new().flags(&["--live-intervals", "9", "--stale-intervals", "9"]).refuses("9");
    Check::new().flags(&["--max-hives", "0"]).refuses("max_hives");
    Check::new().env("QUEEN_DURABILITY", "none").refuses("none");
    Check::new().flags(&["--of-the-future"]).refuses("--of-the-future");
}

#[test]
fn who_reads_only_the_beginning_breaks_nothing() {
    let mut check = Check::new();
    // Its reader is gone before it says anything.
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let command = check.command.stdout(writer).stderr(std::process::Stdio::piped());
    let out = command.spawn().unwrap().wait_with_output().unwrap();
    assert!(out.status.success());
    assert_eq!(String::from_utf8_lossy(&out.stderr), "");
}

#[test]
fn the_queen_runs_with_them() {
    let home = Home::new();
    fs::write(home.path("queen.toml"), "db = 'from-file.db'\nmax_hives = 1\n").unwrap();
    let queen = home.start(&["--config", "queen.toml"]);
    queen.takes(&heartbeat("a", now_ms()));
    queen.post(&heartbeat("b", now_ms())).problem(422, "invalid_field");
    assert!(home.path("from-file.db").exists());
    assert!(!home.database().exists());
}

#[test]
fn serve_is_what_is_done_without_a_command() {
    for command in [&[][..], &["serve"]] {
        let home = Home::new();
        let mut queen = clean(env!("CARGO_BIN_EXE_queen"));
        queen.args(command).args(["--bind", "127.0.0.1:0", "--local-hive=false"]);
        let queen = Process::start("the queen", queen.current_dir(home.path(".")));
        assert!(queen.next_line().unwrap().contains(" listens on "));
        assert!(home.database().exists(), "the database is in the working directory");
        queen.signal("TERM");
        assert_eq!(queen.wait().status.code(), Some(0));
    }
}
