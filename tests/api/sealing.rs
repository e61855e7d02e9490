//! Sealing moves readings into blocks, and nobody can tell from the answers.

use serde_json::{Value, json};

use crate::support::Queen;
use crate::support::client::JSON;
use crate::support::heartbeat::{example, heartbeat, marked, now_ms, wire, worker};
use crate::support::queen::ack;
use crate::support::session::Session;
use crate::support::wait::eventually;

const SOON: &[&str] = &["--seal-after", "1s"];

/// Long enough ago to be sealed as soon as it is old enough since its receipt.
fn some_time_ago() -> i64 {
    now_ms() - 10_000
}

/// All that people can read, each view in some fixed order.
fn views(queen: &Queen) -> Vec<Vec<Value>> {
    let sorted = |view| {
        let mut rows = queen.rows(&format!("SELECT * FROM {view}"));
        rows.sort_by_key(Value::to_string);
        rows
    };
    ["history", "history_last_hour", "history_last_day", "latest", "gpu_history", "hive_heartbeats"]
        .map(sorted)
        .into()
}

/// Heartbeats with whatever is unusual and allowed.
fn odd_heartbeats(now: i64) -> Vec<Value> {
    let mut fractions = heartbeat("fractions", now);
    fractions["workers"] = json!([worker("llm", "8080")]);
    for name in ["cpu_pct", "rss_mb", "gpu_util_pct", "vram_mb", "total_vram_mb", "uptime_s"]
        .into_iter()
        .chain(["io_r_mb_s", "io_w_mb_s", "kv_cache_pct"])
    {
        fractions["workers"][0][name] = json!(12.345);
    }
    fractions["gpus"] = json!([{"index": 7, "util_pct": 0.125, "memory_used_mb": 0.5,
        "memory_total_mb": 1.25, "temperature_c": 33.3, "power_w": 0.001}]);
    fractions["node"] = json!({"cpu_pct": 0.001, "memory_used_mb": 0.25, "memory_total_mb": 3.75,
        "load_1m": 0.05, "uptime_s": 0.5});
    fractions["agent"] = json!({"cpu_pct": 0.004, "rss_mb": 1.5, "collect_ms": 0.123,
        "gpu_age_ms": 0.9, "errors": ["it's \"odd\" \\ \u{1} 模型"]});

    let largest = (1_u64 << 53) - 1;
    let mut large = heartbeat("large", now);
    large["workers"] = json!([worker("llm", "8080")]);
    for name in ["pid", "cpu_pct", "rss_mb", "vram_mb", "total_vram_mb", "uptime_s"]
        .into_iter()
        .chain(["io_r_mb_s", "io_w_mb_s", "requests_running", "requests_waiting"])
    {
        large["workers"][0][name] = json!(largest);
    }
    large["gpus"] = json!([{"uuid": "GPU-1", "memory_used_mb": largest, "power_w": largest}]);
    large["node"] = json!({"cpu_pct": largest, "memory_used_mb": largest, "load_1m": largest});

    let mut unknown = heartbeat("unknown", now);
    unknown["workers"] = json!([worker("a", "1"), worker("a", "2"), worker("b", "1")]);
    unknown["gpus"] = json!([{}, {"uuid": "GPU-2"}]);
    let mut zero = unknown.clone();
    zero["hive"]["id"] = json!("zero");
    for name in ["cpu_pct", "rss_mb", "gpu_util_pct", "vram_mb", "io_r_mb_s", "requests_running"] {
        zero["workers"][1][name] = json!(0);
    }
    vec![fractions, large, unknown, zero, heartbeat("empty", now)]
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
fn odd_figures_are_the_same_before_and_after() {
    let queen = Queen::with(&["--seal-after", "1h"]);
    for heartbeat in odd_heartbeats(some_time_ago()) {
        queen.takes(&heartbeat);
    }
    let before = views(&queen);
    let queen = queen.stop().start(SOON);
    queen.until_sealed();
    assert_eq!(views(&queen), before);
}

#[test]
fn hives_with_odd_figures_are_known_from_their_sealed_readings() {
    let queen = Queen::with(SOON);
    for heartbeat in odd_heartbeats(now_ms()) {
        queen.takes(&heartbeat);
    }
    queen.until_sealed();
    let hives = ["fractions", "large", "unknown", "zero", "empty"];
    let known = |queen: &Queen| {
        hives.map(|hive| {
            let mut hive = queen.hive(hive);
            ["workers", "gpus", "node", "agent"].map(|member| hive[member].take())
        })
    };
    let before = known(&queen);
    let queen = queen.kill().start(&[]);
    assert_eq!(known(&queen), before);
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
        "INSERT INTO sample_index SELECT 2, 1, end_row, 0, 0 FROM blocks",
        "INSERT INTO samples (row) SELECT end_row FROM blocks",
        "INSERT INTO heartbeats (block, hive, ts, id, description, workers) VALUES (2, 1, 0, 1, 1, 1)",
        "INSERT INTO gpu_samples (block, gpu, ts) VALUES (2, 1, 0)",
    ] {
        home.rows(row);
    }
    assert_eq!(home.figures("SELECT cpu_pct FROM history"), [1.0]);
    let queen = home.start(SOON);
    assert_eq!(queen.value("SELECT count(*) FROM samples"), 1.0);
    for table in ["sample_index", "heartbeats", "gpu_samples"] {
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
    eventually("the old reading is gone", || {
        (queen.value("SELECT count(*) FROM samples") == 0.0).then_some(())
    });
    eventually("what said where it was too", || {
        (queen.value("SELECT count(*) FROM sample_index") == 0.0).then_some(())
    });
    assert!(queen.rows("SELECT * FROM history").is_empty());
    assert!(queen.value("SELECT count(*) FROM rollup_1m").as_f64() > Some(0.0));
}

#[test]
fn readings_that_are_being_deleted_count_by_their_sums() {
    let queen = Queen::with(SOON);
    let minute = (now_ms() - 600_000) / 60_000 * 60_000;
    queen.takes(&marked("h", minute, 1.0));
    queen.takes(&marked("h", minute + 1000, 2.0));
    queen.until_sealed();
    // Retention has marked the block and gets no further.
    let _held = Session::after(&queen, "UPDATE blocks SET raw = 2; BEGIN IMMEDIATE");
    let path = format!(
        "/v1/history/query?metric=cpu_pct&start={minute}&end={}&step=1m&agg=sum",
        minute + 60_000
    );
    assert_eq!(queen.get(&path).ok()["series"][0]["values"], json!([3.0]));
}

#[test]
fn where_minutes_are_gone_hours_answer() {
    let queen = Queen::with(SOON);
    let hour = (now_ms() - 4 * 3_600_000) / 3_600_000 * 3_600_000;
    for (ms, cpu_pct) in [(0, 1.0), (1000, 2.0), (7_200_000, 4.0)] {
        queen.takes(&marked("h", hour + ms, cpu_pct));
        queen.until_sealed();
    }
    eventually("the hours are rolled up", || {
        let rolled = queen.value("SELECT rolled_ts FROM progress").as_f64();
        (rolled >= Some((hour + 3 * 3_600_000) as f64)).then_some(())
    });
    let gone = ["--retention-raw", "2h", "--retention-1m", "2h", "--seal-after", "1s"];
    let queen = queen.stop().start(&gone);
    eventually("what is older than two hours is gone", || {
        (queen.value("SELECT count(*) FROM rollup_1m WHERE block < 3") == 0.0).then_some(())
    });
    let path = format!(
        "/v1/history/query?metric=cpu_pct&start={hour}&end={}&step=1m&agg=sum&fill=none",
        hour + 3 * 3_600_000
    );
    let answer = queen.get(&path).ok();
    assert_eq!(answer["series"][0]["values"], json!([3.0, 4.0]), "{answer}");
}
