//! A backup is one moment of a running queen, and a queen starts on it.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use serde_json::Value;

use crate::export::lines;
use crate::support::client::JSON;
use crate::support::heartbeat::{heartbeat, marked, now_ms, worker};
use crate::support::process::{Ended, Process};
use crate::support::queen::{ack, clean};
use crate::support::{Home, Queen};

fn backup(home: &Home, to: &Path, options: &[&str]) -> Ended {
    let mut command = clean(env!("CARGO_BIN_EXE_queen"));
    command.arg("backup").arg(to).current_dir(home.path(".")).args(options);
    Process::start("the backup", &mut command).wait()
}

#[track_caller]
fn backs_up(home: &Home, to: &Path) {
    let Ended { status, output } = backup(home, to, &["--min-free-disk", "0B"]);
    assert!(status.success(), "{output}");
    assert!(output.contains(&to.display().to_string()) && output.contains("MiB"), "{output}");
    assert!(!home.path("copy.db.unfinished").exists());
}

/// No backup, and why.
#[track_caller]
fn refuses(home: &Home, to: &Path, options: &[&str]) -> String {
    let Ended { status, output } = backup(home, to, options);
    assert_eq!(status.code(), Some(1), "{output}");
    output
}

fn ids(queen: &Queen) -> BTreeSet<i64> {
    let lines = lines(&queen.get("/v1/history/export?start=-1h"));
    lines.iter().map(|line| line["id"].as_i64().unwrap()).collect()
}

#[test]
fn a_backup_of_a_queen_that_takes_heartbeats_is_one_moment_and_answers_the_same() {
    let queen = Queen::with(&["--seal-after", "1s"]);
    let then = now_ms() - 600_000;
    let filled: Vec<Value> = (0..300)
        .map(|second| {
            let mut heartbeat = heartbeat("h", then + second * 1000);
            heartbeat["workers"] = (0..20)
                .map(|at| {
                    let mut worker = worker("llm", &format!("{}", 8080 + at));
                    worker["cpu_pct"] = ((second * 7 + at) % 100).into();
                    worker
                })
                .collect();
            heartbeat
        })
        .collect();
    queen.takes_lines(&filled);
    let before = queen.takes(&marked("before", now_ms(), 1.0));

    let other = Home::new();
    let done = AtomicBool::new(false);
    let acknowledged = thread::scope(|scope| {
        let (client, done) = (queen.client(), &done);
        let posting = scope.spawn(move || {
            let mut ids = Vec::new();
            while !done.load(Ordering::Relaxed) {
                let now = now_ms() + ids.len() as i64;
                let body = marked("during", now, ids.len() as f64).to_string();
                let reply = client.send("POST", "/v1/hive-heartbeat", &[JSON], body.as_bytes());
                ids.push(ack(&reply).id);
            }
            ids
        });
        backs_up(&queen, &other.database());
        done.store(true, Ordering::Relaxed);
        posting.join().unwrap()
    });
    assert!(!acknowledged.is_empty());

    let copy = other.start(&[]);
    let (all, copied) = (ids(&queen), ids(&copy));
    assert!(copied.contains(&before.id), "what was acknowledged before it began is in it");
    let last = *copied.last().unwrap();
    let expected: BTreeSet<i64> = all.into_iter().filter(|id| *id <= last).collect();
    assert_eq!(copied, expected, "of one moment");
    let question = format!(
        "/v1/history/query?metric=cpu_pct&start={then}&end={}&step=1m&group_by=instance",
        then + 300_000
    );
    let answer = queen.get(&question).ok();
    assert_eq!(answer["series"].as_array().unwrap().len(), 20);
    assert_eq!(copy.get(&question).ok(), answer);
    assert_eq!(copy.value("PRAGMA integrity_check"), "ok");
    // It is a database like any other.
    assert!(!copy.takes(&marked("after", now_ms(), 1.0)).duplicate);
    assert!(copy.takes(&filled[0]).duplicate);
}

#[test]
fn a_backup_can_be_made_while_no_queen_runs() {
    let queen = Queen::start();
    queen.takes(&marked("h", now_ms(), 1.5));
    // Killed, so that what she has taken is still in the log.
    let home = queen.kill();
    backs_up(&home, &home.path("copy.db"));
    let other = Home::new();
    fs::rename(home.path("copy.db"), other.database()).unwrap();
    assert_eq!(other.start(&[]).figures("SELECT cpu_pct FROM history"), [1.5]);
    assert_eq!(home.start(&[]).figures("SELECT cpu_pct FROM history"), [1.5]);
}

#[test]
fn nothing_is_overwritten_and_nothing_is_left_behind() {
    let queen = Queen::start();
    let copy = queen.path("copy.db");
    fs::write(&copy, "precious").unwrap();
    let said = refuses(&queen, &copy, &[]);
    assert!(said.contains("copy.db") && said.contains("already"), "{said}");
    assert_eq!(fs::read(&copy).unwrap(), b"precious");
    assert!(!queen.path("copy.db.unfinished").exists());
    fs::remove_file(&copy).unwrap();
    // Of an earlier one that was killed.
    fs::write(queen.path("copy.db.unfinished"), vec![7; 9999]).unwrap();
    backs_up(&queen, &copy);
    assert_eq!(refuses(&queen, &queen.database(), &[]).matches("already").count(), 1);
}

#[test]
fn what_is_in_the_way_is_named() {
    let home = Home::new();
    let copy = home.path("copy.db");
    let said = refuses(&home, &copy, &[]);
    assert!(said.contains("queen.db") && said.contains("--db"), "{said}");
    assert!(!home.database().exists());
    home.start(&[]).stop();
    let said = refuses(&home, &copy, &["--min-free-disk", "1000PB"]);
    assert!(said.contains("MiB free") && said.contains("--min-free-disk"), "{said}");
    let said = refuses(&home, &home.path("nowhere/copy.db"), &[]);
    assert!(said.contains("nowhere/copy.db"), "{said}");
    fs::write(home.database(), "noise".repeat(1000)).unwrap();
    let said = refuses(&home, &copy, &[]);
    assert!(said.contains("queen.db"), "{said}");
    assert!(!copy.exists() && !home.path("copy.db.unfinished").exists());
}
