//! A disk that answers with errors, and one that loses what it could not sync.

use std::collections::BTreeSet;

use super::bad_disk::BadDisk;
use crate::support::client::NDJSON;
use crate::support::heartbeat::{marked, now_ms};
use crate::support::wait::eventually;
use crate::support::{Home, Queen};

fn refuses(queen: &Queen, ms: i64) {
    let reply = queen.post(&marked("h", ms, 2.0));
    assert!(reply.header("retry-after").is_some());
    reply.problem(503, "storage_unavailable");
}

/// A disk that does this takes nothing, and all is well again after it.
fn refuses_and_recovers(orders: &str, reason: &str) {
    let disk = BadDisk::new();
    let queen = disk.start(&[]);
    let mut stream = queen.stream("");
    let now = now_ms();
    queen.takes(&marked("h", now, 1.0));
    assert!(stream.telemetry().id.is_some());
    disk.does(orders);
    refuses(&queen, now + 1);
    assert_eq!(stream.telemetry().id, None, "it is shown, and not durable");
    for _ in 0..3 {
        refuses(&queen, now + 1);
    }
    assert_eq!(queen.workers("")[0]["cpu_pct"], 2.0);
    let readiness = queen.get("/readyz");
    assert_eq!(readiness.status, 503);
    assert!(readiness.text().contains(reason), "{}", readiness.text());
    disk.does("");
    assert!(!queen.takes(&marked("h", now + 1, 2.0)).duplicate);
    assert_eq!(queen.get("/readyz").status, 200);
    let kinds = "SELECT group_concat(kind) FROM events WHERE kind LIKE 'storage%'";
    assert_eq!(queen.value(kinds), "storage_degraded,storage_recovered");
    // What was acknowledged is on the disk and not in her memory.
    let home = queen.kill();
    assert_eq!(home.figures("SELECT cpu_pct FROM history ORDER BY ts_ms"), [1.0, 2.0]);
    assert_eq!(home.value("PRAGMA integrity_check"), "ok");
}

#[test]
fn disk_errors_refuse_and_recover_by_themselves() {
    refuses_and_recovers("write-fails", "disk I/O error");
}

#[test]
fn disk_that_cannot_sync_refuses_and_recovers_by_itself() {
    refuses_and_recovers("sync-fails", "disk I/O error");
}

#[test]
fn disk_read_only_refuses_and_recovers_by_itself() {
    refuses_and_recovers("read-only", "disk I/O error");
}

#[test]
fn disk_that_loses_what_it_could_not_sync_loses_nothing_acknowledged() {
    let disk = BadDisk::new();
    // Readings are sealed all the while, and the log is copied back.
    let mut queen = disk.start(&["--seal-after", "1s"]);
    let (mut acknowledged, mut next_ms) = (BTreeSet::new(), now_ms() - 600_000);
    let mut refused = 0;
    for orders in ["sync-fails", "write-fails", "sync-fails", "sync-fails"] {
        for orders in ["", orders, ""] {
            disk.does(orders);
            for _ in 0..4 {
                // About 0.6 MB in the file.
                let times = next_ms..next_ms + 1000;
                let lines: Vec<String> = times.clone().map(|ms| reading(ms).to_string()).collect();
                let body = lines.join("\n");
                let client = queen.client();
                let path = "/v1/hive-heartbeats";
                match client.send("POST", path, &[NDJSON], body.as_bytes()).status {
                    200 => {
                        acknowledged.extend(times);
                        next_ms += 1000;
                    }
                    503 => refused += 1,
                    status => panic!("{status}"),
                }
            }
        }
        let home = queen.kill();
        assert_each_is_there_once(&home, &acknowledged);
        queen = disk.start(&["--seal-after", "1s"]);
    }
    assert!(refused >= 12 && acknowledged.len() >= 24_000, "{refused} {}", acknowledged.len());
    eventually("all is sealed", || {
        (queen.value("SELECT count(*) FROM heartbeats_live") == 0.0).then_some(())
    });
    assert_each_is_there_once(&queen, &acknowledged);
    assert_eq!(queen.value("PRAGMA integrity_check"), "ok");
}

fn reading(ms: i64) -> serde_json::Value {
    let mut reading = marked("h", ms, (ms % 1000) as f64);
    let worker = reading["workers"][0].clone();
    reading["workers"] = (0..8)
        .map(|at| {
            let mut worker = worker.clone();
            worker["instance"] = (8080 + at).to_string().into();
            worker
        })
        .collect();
    reading
}

#[track_caller]
fn assert_each_is_there_once(home: &Home, acknowledged: &BTreeSet<i64>) {
    let stored = home.figures("SELECT ts_ms FROM hive_heartbeats");
    let distinct: BTreeSet<i64> = stored.iter().map(|&ms| ms as i64).collect();
    assert_eq!(distinct.len(), stored.len(), "nothing is doubled");
    let lost: Vec<_> = acknowledged.difference(&distinct).collect();
    assert!(lost.is_empty(), "lost: {} from {:?}", lost.len(), lost.first());
    // Whole or not at all.
    let torn =
        "SELECT count(*) FROM (SELECT count(*) AS n FROM history GROUP BY ts_ms) WHERE n <> 8";
    assert_eq!(home.value(torn), 0.0);
}
