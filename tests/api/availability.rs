//! How much of what a hive should have sent came.

use serde_json::{Value, json};

use crate::support::Queen;
use crate::support::heartbeat::{heartbeat, now_ms, wire};

/// A queen that has heartbeats of hive `h` at these seconds after a moment.
fn queen(then: i64, seconds: impl IntoIterator<Item = i64>, options: &[&str]) -> Queen {
    let queen = Queen::with(options);
    let lines: Vec<Value> = seconds
        .into_iter()
        .map(|s| {
            let mut heartbeat = heartbeat("h", then + s * 1000);
            heartbeat["interval_ms"] = json!(1000);
            heartbeat
        })
        .collect();
    for lines in lines.chunks(500) {
        queen.takes_lines(lines);
    }
    queen
}

fn ask(queen: &Queen, start: i64, end: i64) -> Value {
    let path = format!("/v1/history/hives/h/availability?start={start}&end={end}");
    queen.get(&path).ok()
}

#[test]
fn gaps_are_found_live_and_sealed_alike() {
    let then = (now_ms() - 300_000) / 1000 * 1000;
    let came = (0..200).filter(|s| !(60..120).contains(s) && *s != 30);
    let queen = queen(then, came, &["--seal-after", "1h"]);
    let expected = json!({
        "hive": "h", "start": then, "end": then + 200_000, "interval_ms": 1000, "expected": 200,
        "received": 139, "availability": 0.695,
        "gaps": [{"from": then + 60_000, "to": then + 120_000, "missing": 60}],
        "truncated": false,
    });
    assert_eq!(ask(&queen, then, then + 200_000), expected);
    let cut = ask(&queen, then + 100_000, then + 130_000);
    assert_eq!(cut["gaps"], json!([{"from": then + 100_000, "to": then + 120_000, "missing": 20}]));
    assert_eq!((&cut["expected"], &cut["received"]), (&json!(30), &json!(10)));
    let queen = queen.stop().start(&["--seal-after", "1s"]);
    queen.until_sealed();
    assert_eq!(ask(&queen, then, then + 200_000), expected);
    let inside = ask(&queen, then + 70_000, then + 80_000);
    assert_eq!(inside["availability"], 0.0);
    assert_eq!(
        inside["gaps"],
        json!([{"from": then + 70_000, "to": then + 80_000, "missing": 10}])
    );
}

#[test]
fn what_is_to_come_is_not_missing() {
    let now = now_ms();
    let queen = queen(now - 59_000, 0..60, &[]);
    let answer = queen.get("/v1/history/hives/h/availability?start=-30s&end=now%2B1h").ok();
    assert_eq!(answer["gaps"], json!([]));
    assert!(answer["end"].as_i64().unwrap() < now + 60_000, "{answer}");
    assert!(answer["availability"].as_f64().unwrap() > 0.8, "{answer}");
}

#[test]
fn what_is_not_known_or_not_allowed_is_said() {
    let queen = queen(now_ms() - 10_000, 0..5, &[]);
    queen.get("/v1/history/hives/nobody/availability").problem(404, "not_found");
    for (query, field) in [
        ("start=x", "start"),
        ("end=x", "end"),
        ("start=-1h&end=-2h", "end"),
        ("start=now%2B1h&end=now%2B2h", "start"),
    ] {
        let path = format!("/v1/history/hives/h/availability?{query}");
        queen.get(&path).field_problem(400, "invalid_parameter", field);
    }
}

#[test]
fn deleted_readings_are_not_taken_for_missing_ones() {
    let now = now_ms();
    let queen = queen(now - 90_000, 0..20, &["--seal-after", "1s"]);
    queen.until_sealed();
    let queen = queen.stop().start(&["--seal-after", "1s", "--retention-raw", "1m"]);
    crate::support::wait::eventually("the old readings are gone", || {
        (queen.value("SELECT count(*) FROM heartbeats") == 0.0).then_some(())
    });
    let path = format!(
        "/v1/history/hives/h/availability?start={}&end={}",
        wire(now - 95_000),
        wire(now - 80_000)
    );
    queen.get(&path).problem(422, "too_old");
    let later = queen.get("/v1/history/hives/h/availability?start=-2m").ok();
    assert_eq!(later["start"], now - 90_000 + 19_000 + 1, "{later}");
}
