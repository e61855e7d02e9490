//! `POST /v1/hive-heartbeats`: a hive that catches up. All of it is taken, or nothing.

use serde_json::json;

use crate::support::Queen;
use crate::support::client::{GZIP, JSON, NDJSON};
use crate::support::heartbeat::{heartbeat, marked, now_ms, wire};

const CPU_BY_TIME: &str = "SELECT cpu_pct FROM history ORDER BY ts_ms";
const LINES_MAX: i64 = 1000;

#[test]
fn what_is_new_is_accepted_and_what_was_there_is_counted() {
    let queen = Queen::start();
    let now = now_ms();
    let lines: Vec<_> = (0..5).map(|i| marked("h", now - 5000 + i * 1000, i as f64)).collect();
    assert_eq!(queen.takes_lines(&lines[..3]), (3, 0));
    assert_eq!(queen.takes_lines(&lines), (2, 3));
    assert_eq!(queen.takes_lines(&[&lines[4], &lines[4]]), (0, 2));
    assert_eq!(queen.figures(CPU_BY_TIME), [0.0, 1.0, 2.0, 3.0, 4.0]);
    assert_eq!(queen.workers("")[0]["cpu_pct"], 4.0);
}

#[test]
fn the_same_reading_twice_in_one_request_is_one() {
    let queen = Queen::start();
    let now = now_ms();
    assert_eq!(queen.takes_lines(&[marked("h", now, 1.0), marked("h", now, 2.0)]), (1, 1));
    assert_eq!(queen.rows("SELECT * FROM history").len(), 1);
    assert_eq!(queen.value("SELECT cpu_pct FROM history"), 1.0);
    assert_eq!(queen.workers("")[0]["cpu_pct"], 1.0);
}

#[test]
fn the_order_of_the_lines_does_not_matter() {
    let queen = Queen::start();
    let now = now_ms();
    let lines = [marked("h", now, 3.0), marked("h", now - 2000, 1.0), marked("h", now - 1000, 2.0)];
    assert_eq!(queen.takes_lines(&lines), (3, 0));
    assert_eq!(queen.workers("")[0]["cpu_pct"], 3.0);
    assert_eq!(queen.figures(CPU_BY_TIME), [1.0, 2.0, 3.0]);
}

#[test]
fn blank_lines_and_crlf_do_no_harm() {
    let queen = Queen::start();
    let now = now_ms();
    let body = format!("\n{}\r\n\r\n  \n{}\n\n", marked("h", now, 1.0), marked("h", now + 1, 2.0));
    let said = queen.client().send("POST", "/v1/hive-heartbeats", &[NDJSON], body.as_bytes());
    assert_eq!(said.ok(), json!({"accepted": 2, "duplicates": 0}));
    assert_eq!(queen.post_lines(&[""]).ok(), json!({"accepted": 0, "duplicates": 0}));
}

#[test]
fn one_bad_line_refuses_them_all_and_is_named() {
    let queen = Queen::start();
    let now = now_ms();
    let good = marked("h", now, 1.0).to_string();
    let mut wrong = marked("h", now + 1, 2.0);
    wrong["workers"][0]["gpu_util_pct"] = json!(120.5);
    let lines = [good.clone(), wrong.to_string()];
    let detail = queen.post_lines(&lines).field_problem(
        422,
        "invalid_field",
        "line 2: workers[0].gpu_util_pct",
    );
    assert!(detail.ends_with("120.5 is not in 0..=100"), "{detail}");

    let detail =
        queen.post_lines(&[&good, "", &good[..good.len() - 2]]).problem(400, "malformed_json");
    assert!(detail.starts_with("line 3: "), "{detail}");

    let future = marked("h", now + 3_600_000, 1.0).to_string();
    queen.post_lines(&[&good, &future]).problem(422, "clock_skew");

    assert_eq!(queen.get("/v1/hives").ok()["hives"], json!([]));
    assert!(queen.rows("SELECT * FROM history").is_empty());
    assert_eq!(queen.takes_lines(&[good]), (1, 0));
}

#[test]
fn one_request_is_of_one_hive() {
    let queen = Queen::start();
    let now = now_ms();
    let lines = [marked("a", now, 1.0), marked("b", now, 1.0)];
    queen.post_lines(&lines).field_problem(422, "invalid_field", "line 2: hive.id");
    assert_eq!(queen.get("/v1/hives").ok()["hives"], json!([]));
}

#[test]
fn a_thousand_lines_are_the_most() {
    let queen = Queen::start();
    let now = now_ms();
    let lines = |n: i64| (0..n).map(|i| heartbeat("h", now - n + i)).collect::<Vec<_>>();
    let detail = queen.post_lines(&lines(LINES_MAX + 1)).problem(413, "too_large");
    assert!(detail.contains("1000"), "{detail}");
    assert_eq!(queen.get("/v1/hives").ok()["hives"], json!([]));
    assert_eq!(queen.takes_lines(&lines(LINES_MAX)), (1000, 0));
}

#[test]
fn more_than_32_mib_are_refused_compressed_or_not() {
    let queen = Queen::start();
    let line = format!("{}{}\n", heartbeat("h", now_ms()), " ".repeat(1 << 20));
    let fitting = line.repeat(31);
    let said = queen.client().send("POST", "/v1/hive-heartbeats", &[NDJSON], fitting.as_bytes());
    assert_eq!(said.ok(), json!({"accepted": 1, "duplicates": 30}));
    let body = super::bodies::gzip(line.repeat(32).as_bytes());
    let said = queen.client().send("POST", "/v1/hive-heartbeats", &[NDJSON, GZIP], &body);
    let detail = said.problem(413, "too_large");
    assert!(detail.contains("32 MiB"), "{detail}");
}

#[test]
fn one_line_may_be_as_large_as_one_heartbeat() {
    let queen = Queen::start();
    let short = heartbeat("h", now_ms()).to_string();
    let long = format!("{}{}", heartbeat("h", now_ms() + 1), " ".repeat(8 << 20));
    let detail = queen.post_lines(&[short, long]).problem(413, "too_large");
    assert!(detail.contains("line 2") && detail.contains("8 MiB"), "{detail}");
}

#[test]
fn it_is_taken_as_json_too_and_without_a_timestamp() {
    let queen = Queen::start();
    let body = r#"{"hive":{"id":"h"}}"#;
    let said = queen.client().send("POST", "/v1/hive-heartbeats", &[JSON], body.as_bytes());
    assert_eq!(said.ok(), json!({"accepted": 1, "duplicates": 0}));
    assert!(queen.hive("h")["timestamp"].as_str().unwrap() <= wire(now_ms()).as_str());
}
