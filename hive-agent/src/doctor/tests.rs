use std::path::PathBuf;

use super::*;
use crate::client::QueenUrl;
use crate::collect::discover;
use crate::test_queen::TestQueen;

/// A machine without anything, and a queen.
fn config(queen: QueenUrl, root: &std::path::Path) -> Config {
    let mut config = Config::in_process(queen);
    config.roots.cgroup = Some(root.to_owned());
    config.discovery = discover::Settings { is_on: false, rules: Vec::new() };
    config
}

fn cgroup_root(controllers: &str) -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().to_owned();
    std::fs::write(root.join("cgroup.procs"), "").unwrap();
    std::fs::write(root.join("cgroup.controllers"), controllers).unwrap();
    (dir, root)
}

async fn queen(ready: u16) -> TestQueen {
    queen_ahead(0, ready).await
}

async fn queen_ahead(ahead_s: i64, ready: u16) -> TestQueen {
    TestQueen::start_ahead(ahead_s, move |received| match received.path.as_str() {
        "/version" => (200, r#"{"name":"queen","version":"9.8.7"}"#.to_owned()),
        "/readyz" => (ready, r#"{"status":"x","reasons":["the disk is full"]}"#.to_owned()),
        path => panic!("the doctor has no business at {path}"),
    })
    .await
}

fn problems(report: &Report) -> Vec<&str> {
    let problems = report.findings().iter().filter(|finding| finding.verdict == Verdict::Problem);
    problems.map(|finding| finding.seen.as_str()).collect()
}

#[tokio::test]
async fn a_machine_on_which_all_is_well_has_no_problem() {
    let (_dir, root) = cgroup_root("cpu io memory pids\n");
    let queen = queen(200).await;
    let report = examine(&config(queen.url.clone(), &root)).await;
    let text = report.to_string();
    assert!(!report.has_problems(), "{text}");
    for line in [
        "ok       cgroup: the controllers cpu, memory and io count",
        "note     worker: none is found in rbee.slice; others are not looked for",
        "ok       queen: version 9.8.7 answers at ",
        "ok       clock: this machine and the queen agree within 2 s",
        "The agent can work here (",
    ] {
        assert!(text.contains(line), "{line:?} is missing in\n{text}");
    }
}

#[tokio::test]
async fn what_is_missing_is_named_with_what_to_do() {
    let (_dir, root) = cgroup_root("pids\n");
    let report = examine(&config("http://127.0.0.1:1".parse().unwrap(), &root)).await;
    assert!(report.has_problems());
    let problems = problems(&report);
    assert_eq!(problems.len(), 1, "{report}");
    assert!(problems[0].starts_with("cannot connect to the queen at 127.0.0.1:1: "), "{report}");
    for name in ["cpu", "memory", "io"] {
        assert!(report.to_string().contains(&format!("note     cgroup: no {name} controller: ")));
    }
    let advices: Vec<_> = report.findings().iter().filter_map(|f| f.advice.as_deref()).collect();
    assert_eq!(advices.iter().filter(|advice| **advice == advices[0]).count(), 3, "{report}");
    assert_eq!(report.to_string().matches(advices[0]).count(), 1, "said once: {report}");

    let report = examine(&config("http://127.0.0.1:1".parse().unwrap(), "/proc/1".as_ref())).await;
    let text = report.to_string();
    assert!(text.contains("PROBLEM  cgroup: /proc/1 is not in a cgroup v2 tree"), "{text}");
    assert!(text.contains("2 problems prevent the agent from working"), "{text}");
}

#[tokio::test]
async fn a_queen_that_cannot_store_and_one_that_is_none_are_told_apart() {
    let (_dir, root) = cgroup_root("");
    let full = queen(503).await;
    let report = examine(&config(full.url.clone(), &root)).await;
    let expected = "she cannot store heartbeats (status 503): the disk is full";
    assert_eq!(problems(&report), [expected]);

    let other = TestQueen::start(|_| (200, "<html>".to_owned())).await;
    let report = examine(&config(other.url.clone(), &root)).await;
    assert!(problems(&report)[0].contains("is no queen (status 200)"), "{report}");
}

#[tokio::test]
async fn a_queen_of_another_time_is_told_from_one_that_refuses() {
    let (_dir, root) = cgroup_root("cpu io memory\n");
    for (ahead_s, verdict, seen) in [
        (-3600, Verdict::Problem, "ahead of the queen: she refuses heartbeats (clock_skew)"),
        (-90, Verdict::Note, "ahead of the queen: history is shifted by it"),
        (0, Verdict::Fine, "this machine and the queen agree within 2 s"),
        (90, Verdict::Note, "behind the queen: history is shifted by it"),
        (86_400, Verdict::Note, "behind the queen: history is shifted by it"),
    ] {
        let queen = queen_ahead(ahead_s, 200).await;
        let report = examine(&config(queen.url.clone(), &root)).await;
        let clock = report.findings().iter().find(|finding| finding.subject == "clock").unwrap();
        assert_eq!(clock.verdict, verdict, "{ahead_s}: {}", clock.seen);
        assert!(clock.seen.ends_with(seen), "{ahead_s}: {}", clock.seen);
        assert_eq!(report.has_problems(), verdict == Verdict::Problem, "{report}");
    }
}

#[tokio::test]
async fn whatever_cannot_be_read_is_listed() {
    let (_dir, root) = cgroup_root("cpu io memory\n");
    std::fs::create_dir_all(root.join("rbee.slice/llm/a b")).unwrap();
    let queen = queen(200).await;
    let report = examine(&config(queen.url.clone(), &root)).await;
    assert!(report.to_string().contains("note     reading: rbee.slice/llm/a b is skipped"));
}
