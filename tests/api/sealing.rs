//! Sealing moves readings into blocks, and nobody can tell from the answers.

use serde_json::Value;

use crate::support::Queen;
use crate::support::client::JSON;
use crate::support::heartbeat::{example, marked, now_ms, wire};
use crate::support::queen::ack;

const SOON: &[&str] = &["--seal-after", "1s"];

/// Long enough ago to be sealed as soon as it is old enough since its receipt.
fn some_time_ago() -> i64 {
    now_ms() - 10_000
}

fn views(queen: &Queen) -> Vec<Vec<Value>> {
    let views = ["history", "history_last_hour", "history_last_day", "latest", "gpu_history"];
    let mut rows: Vec<_> = views
        .iter()
        .map(|view| queen.rows(&format!("SELECT * FROM {view} ORDER BY ts_ms")))
        .collect();
    rows.push(queen.rows("SELECT * FROM hive_heartbeats ORDER BY id"));
    rows
}

#[test]
fn every_view_says_the_same_before_and_after_and_after_a_restart() {
    let queen = Queen::with(&["--seal-after", "1h"]);
    let then = some_time_ago();
    ack(&queen.post_bytes(example(&wire(then)).as_bytes(), &[JSON]));
    for i in 1..5 {
        queen.takes(&marked("h", then + 1000 * i, i as f64 + 0.5));
    }
    let before = views(&queen);
    assert!(before.iter().all(|rows| !rows.is_empty()), "{before:?}");
    let queen = queen.stop().start(SOON);
    queen.until_sealed();
    assert_eq!(views(&queen), before);
    assert_eq!(queen.value("SELECT count(*) FROM samples"), 5.0);
    let queen = queen.kill().start(SOON);
    assert_eq!(views(&queen), before);
}

#[test]
fn a_hive_whose_newest_reading_is_sealed_is_known_after_a_restart() {
    let queen = Queen::with(SOON);
    ack(&queen.post_bytes(example(&wire(some_time_ago())).as_bytes(), &[JSON]));
    let before = queen.hive("localhost");
    queen.until_sealed();
    let queen = queen.stop().start(SOON);
    let after = queen.hive("localhost");
    assert_eq!(after["state"], "stale");
    for member in ["workers", "gpus", "node", "agent", "hostname", "port", "version", "timestamp"] {
        assert_eq!(after[member], before[member], "{member}");
    }
}

#[test]
fn a_sealed_reading_is_still_a_duplicate_and_late_data_joins_the_next_block() {
    let queen = Queen::with(SOON);
    let then = some_time_ago();
    let first = queen.takes(&marked("h", then, 1.0));
    let second = queen.takes(&marked("h", then + 2000, 3.0));
    queen.until_sealed();
    let mut queen = queen;
    for _ in 0..2 {
        let again = queen.takes(&marked("h", then, 9.0));
        assert_eq!((again.id, again.duplicate), (first.id, true));
        assert_eq!(
            queen.takes_lines(&[marked("h", then, 9.0), marked("h", then + 2000, 9.0)]),
            (0, 2)
        );
        queen = queen.kill().start(SOON);
    }
    let late = queen.takes(&marked("h", then + 1000, 2.0));
    assert!(!late.duplicate && late.id > second.id);
    queen.until_sealed();
    assert_eq!(queen.figures("SELECT cpu_pct FROM history ORDER BY ts_ms"), [1.0, 2.0, 3.0]);
    assert_eq!(queen.value("SELECT count(*) FROM blocks"), 2.0);
    assert_eq!(queen.value("SELECT cpu_pct FROM latest"), 3.0);
}

#[test]
fn what_a_crash_left_of_a_block_is_removed() {
    let queen = Queen::with(SOON);
    queen.takes(&marked("h", some_time_ago(), 1.0));
    queen.until_sealed();
    let home = queen.kill();
    // As if the program had ended between a block's rows and its listing.
    for row in [
        "INSERT INTO samples (block, run, ts) VALUES (2, 1, 0)",
        "INSERT INTO heartbeats (block, hive, ts, id, description, workers) VALUES (2, 1, 0, 1, 1, 1)",
        "INSERT INTO gpu_samples (block, gpu, ts) VALUES (2, 1, 0)",
    ] {
        home.rows(row);
    }
    assert_eq!(home.figures("SELECT cpu_pct FROM history"), [1.0]);
    let queen = home.start(SOON);
    for table in ["samples", "heartbeats", "gpu_samples"] {
        let left = format!("SELECT count(*) FROM {table} WHERE block = 2");
        assert_eq!(queen.value(&left), 0.0, "{table}");
    }
    queen.takes(&marked("h", some_time_ago() + 1, 2.0));
    queen.until_sealed();
    assert_eq!(queen.figures("SELECT cpu_pct FROM history ORDER BY ts_ms"), [1.0, 2.0]);
}

#[test]
fn old_readings_go_and_their_minutes_stay() {
    let queen = Queen::with(SOON);
    queen.takes(&marked("h", now_ms() - 90_000, 1.0));
    queen.until_sealed();
    let queen = queen.stop().start(&["--seal-after", "1s", "--retention-raw", "1m"]);
    crate::support::wait::eventually("the old reading is gone", || {
        (queen.value("SELECT count(*) FROM samples") == 0.0).then_some(())
    });
    assert!(queen.rows("SELECT * FROM history").is_empty());
    assert!(queen.value("SELECT count(*) FROM rollup_1m").as_f64() > Some(0.0));
}
