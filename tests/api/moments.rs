//! Which moments a heartbeat may be of.

use crate::support::Queen;
use crate::support::heartbeat::{heartbeat, marked, now_ms};

const MINUTE: i64 = 60_000;
const DAY: i64 = 24 * 60 * MINUTE;

#[test]
fn five_minutes_ahead_are_borne_and_more_is_clock_skew() {
    let queen = Queen::start();
    let reply = queen.post(&heartbeat("h", now_ms() + 5 * MINUTE + 5_000));
    let detail = reply.field_problem(422, "clock_skew", "timestamp");
    assert!(detail.contains("300 s"), "{detail}");
    assert_eq!(queen.get("/v1/hives").ok()["hives"].as_array().map(Vec::len), Some(0));

    queen.takes(&heartbeat("h", now_ms() + 5 * MINUTE - 5_000));
    let skew_ms = queen.hive("h")["clock_skew_ms"].as_i64().unwrap();
    assert!((5 * MINUTE - 20_000..=5 * MINUTE - 5_000).contains(&skew_ms), "{skew_ms}");
}

#[test]
fn what_is_older_than_the_history_keeps_is_too_old() {
    let queen = Queen::start();
    queen.takes(&marked("h", now_ms() - 7 * DAY + MINUTE, 1.0));
    let reply = queen.post(&marked("h", now_ms() - 7 * DAY - MINUTE, 2.0));
    let detail = reply.field_problem(422, "too_old", "timestamp");
    assert!(detail.contains("7days"), "{detail}");
    assert_eq!(queen.figures("SELECT cpu_pct FROM history"), [1.0]);
}

#[test]
fn the_retention_decides_what_is_too_old() {
    let queen = Queen::with(&["--retention-raw", "1h"]);
    queen.takes(&marked("h", now_ms() - 59 * MINUTE, 1.0));
    let reply = queen.post(&marked("h", now_ms() - 61 * MINUTE, 2.0));
    reply.problem(422, "too_old");
}
