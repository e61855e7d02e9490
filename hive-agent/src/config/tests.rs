use std::time::Duration;

use clap::{Command, FromArgMatches};

use super::*;

fn parse(arguments: &[&str]) -> RunOptions {
    let command = RunOptions::augment_args(Command::new("hive-agent"));
    let matches = command.try_get_matches_from(std::iter::once(&"hive-agent").chain(arguments));
    RunOptions::from_arg_matches(&matches.unwrap()).unwrap()
}

fn file(text: &str) -> Result<FileOptions, String> {
    toml::from_str(text).map_err(|error| error.to_string())
}

#[test]
fn defaults_follow_the_machine_and_the_queen() {
    let config = parse(&[]).over(FileOptions::default(), "gpu 7/ä");
    assert_eq!(config.hive_id.as_str(), "gpu-7--");
    assert_eq!(config.hostname.as_str(), "127.0.0.1");
    assert_eq!(config.queen.to_string(), DEFAULT_QUEEN);
    assert_eq!(config.interval.get(), Duration::from_secs(1));
    assert_eq!((config.spool, config.spool_dir), (spool::Limits::default(), None));

    let config = parse(&["--queen", "http://queen:7833"]).over(FileOptions::default(), "gpu-7");
    assert_eq!(config.hostname.as_str(), "gpu-7");
    let config = parse(&["--queen", "http://[::1]:7833"]).over(FileOptions::default(), "");
    assert_eq!((config.hive_id.as_str(), config.hostname.as_str()), ("localhost", "127.0.0.1"));
    assert_eq!(hive_id_from(&"x".repeat(300)).as_str().len(), MAX_NAME_LEN);
}

#[test]
fn a_flag_beats_the_file_and_the_file_beats_the_default() {
    let text = r#"
        queen = "http://from-file:1"
        hive_id = "from-file"
        cgroup_root = "/from/file"
        nvml_library = "/from/file.so"
        interval = "5s"
        spool_dir = "/from/file"
        spool_max_bytes = "1MiB"
        spool_max_age = "1h"
    "#;
    let options = parse(&["--hive-id", "from-flag", "--interval", "250ms"]);
    let config = options.over(file(text).unwrap(), "machine");
    assert_eq!(config.hive_id.as_str(), "from-flag");
    assert_eq!(config.interval.get(), Duration::from_millis(250));
    assert_eq!(config.queen.to_string(), "http://from-file:1");
    assert_eq!(config.roots.cgroup.as_deref(), Some(Path::new("/from/file")));
    assert_eq!(config.roots.nvml, Path::new("/from/file.so"));
    assert_eq!(config.spool, spool::Limits { bytes: 1 << 20, age: Duration::from_secs(3600) });
    assert_eq!(config.spool_dir.as_deref(), Some(Path::new("/from/file")));
    assert_eq!(config.hostname.as_str(), "machine");
}

#[test]
fn workers_elsewhere_are_found_by_rules_unless_that_is_off() {
    let text = r#"
        discover = false
        ask_servers = false
        [[worker_rules]]
        server = "vllm"
        port = 8000
        group = "chat"
        [[worker_rules]]
        program = "my-server"
        ignore = true
    "#;
    let config = parse(&[]).over(file(text).unwrap(), "machine");
    assert!(!config.discovery.is_on && !config.asks_servers);
    let [first, second] = &config.discovery.rules[..] else { panic!("{:?}", config.discovery) };
    assert_eq!((first.port, first.group.as_ref().unwrap().as_str()), (Some(8000), "chat"));
    assert!(first.server.is_some() && second.ignore);
    let config = parse(&["--discover", "--ask-servers=true"]).over(file(text).unwrap(), "machine");
    assert!(config.discovery.is_on && config.asks_servers);
    let config = parse(&[]).over(FileOptions::default(), "machine");
    assert!(config.discovery.is_on && config.asks_servers);

    for (rule, reason) in [
        ("server = \"vlm\"", "\"vlm\" is not a known server; known are llama-server, llama-cpp"),
        ("group = \"a b\"", "' ' is not allowed"),
        ("port = 65536", "65536"),
        ("modell = \"x\"", "unknown field `modell`"),
    ] {
        let error = file(&format!("[[worker_rules]]\n{rule}\n")).unwrap_err();
        assert!(error.contains(reason), "{error}");
    }
}

#[test]
fn a_wrong_key_or_value_is_named() {
    let error = file("intervall = \"1s\"\n").unwrap_err();
    assert!(error.contains("unknown field `intervall`"), "{error}");
    let error = file("interval = \"1ms\"\n").unwrap_err();
    assert!(error.contains("interval") && error.contains("100ms to 60s"), "{error}");
    let error = file("hive_id = \"a b\"\n").unwrap_err();
    assert!(error.contains("' ' is not allowed"), "{error}");
}

#[test]
fn a_file_that_is_not_there_is_named() {
    let error = parse(&["--config", "/nonexistent/agent.toml"]).resolve().unwrap_err();
    assert!(error.to_string().contains("/nonexistent/agent.toml"), "{error}");
}

#[test]
fn every_flag_has_a_variable() {
    let command = RunOptions::augment_args(Command::new("hive-agent"));
    for argument in command.get_arguments() {
        let name = argument.get_long().unwrap().to_uppercase().replace('-', "_");
        assert_eq!(argument.get_env().unwrap(), format!("HIVE_AGENT_{name}").as_str());
    }
}
