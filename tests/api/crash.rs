//! `kill -9` under load: what was acknowledged is there, exactly once.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::channel;
use std::thread;

use serde_json::Value;

use crate::support::client::{Client, JSON, NDJSON};
use crate::support::heartbeat::{marked, now_ms};
use crate::support::wait::eventually;
use crate::support::{Home, Queen};

const HIVES: usize = 6;
/// Readings are sealed all the while.
const SEALING: &[&str] = &["--seal-after", "1s"];
/// Acknowledgements of one life of the queen, after which she is killed.
const ENOUGH: usize = 150;

/// The readings of one hive, each one millisecond after the other; the odd hives send them
/// in threes.
fn send_until_she_is_gone(
    client: &Client,
    hive: &str,
    next_ms: &mut i64,
    bulk: bool,
    mut acknowledged: impl FnMut(i64),
) {
    loop {
        let first = *next_ms;
        let lines = if bulk { 3 } else { 1 };
        let body: Vec<String> =
            (first..first + lines).map(|ms| marked(hive, ms, 1.0).to_string()).collect();
        let (path, kind) =
            if bulk { ("/v1/hive-heartbeats", NDJSON) } else { ("/v1/hive-heartbeat", JSON) };
        let answer = client.try_send("POST", path, &[kind], body.join("\n").as_bytes());
        let Some(answer) = answer else { return };
        assert_eq!(answer.status, 200, "{}", answer.text());
        (first..first + lines).for_each(&mut acknowledged);
        *next_ms += lines;
    }
}

#[test]
fn nothing_acknowledged_is_lost_and_nothing_is_doubled() {
    let home = Home::new();
    let start = now_ms() - 600_000;
    let mut next_ms = [start; HIVES];
    let mut acknowledged: BTreeSet<(usize, i64)> = BTreeSet::new();
    for _life in 0..3 {
        let queen = home.start(SEALING);
        let count = AtomicUsize::new(0);
        let (report, reports) = channel();
        thread::scope(|scope| {
            for (hive, next_ms) in next_ms.iter_mut().enumerate() {
                let (client, count, report) = (queen.client(), &count, report.clone());
                scope.spawn(move || {
                    send_until_she_is_gone(
                        &client,
                        &format!("h{hive}"),
                        next_ms,
                        hive % 2 == 1,
                        |ms| {
                            report.send((hive, ms)).unwrap();
                            count.fetch_add(1, Ordering::Relaxed);
                        },
                    );
                });
            }
            eventually("enough is acknowledged", || {
                (count.load(Ordering::Relaxed) >= ENOUGH).then_some(())
            });
            queen.kill();
        });
        drop(report);
        acknowledged.extend(reports);
        // The readings whose answer was lost are sent again by the next life: `next_ms`
        // stands at the first one without an acknowledgement.
    }
    let queen = home.start(&[]);
    assert_each_is_there_once(&queen, &acknowledged);
    for (hive, next_ms) in next_ms.into_iter().enumerate() {
        queen.takes(&marked(&format!("h{hive}"), next_ms, 1.0));
        acknowledged.insert((hive, next_ms));
    }
    assert_each_is_there_once(&queen, &acknowledged);
    assert_eq!(queen.value("PRAGMA integrity_check"), "ok");
}

#[track_caller]
fn assert_each_is_there_once(queen: &Queen, acknowledged: &BTreeSet<(usize, i64)>) {
    let rows = queen.rows("SELECT hive, ts_ms FROM history");
    let stored: Vec<(usize, i64)> = rows.iter().map(reading).collect();
    let distinct: BTreeSet<(usize, i64)> = stored.iter().copied().collect();
    assert_eq!(distinct.len(), stored.len(), "nothing is doubled");
    let lost: Vec<_> = acknowledged.difference(&distinct).collect();
    assert!(lost.is_empty(), "lost: {lost:?}");
    assert!(acknowledged.len() >= 3 * ENOUGH);
}

fn reading(row: &Value) -> (usize, i64) {
    let hive = row["hive"].as_str().unwrap().strip_prefix('h').unwrap();
    (hive.parse().unwrap(), row["ts_ms"].as_f64().unwrap() as i64)
}
