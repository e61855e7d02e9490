//! Readings that were sealed into blocks are the same readings.

use serde_json::{Value, json};

use crate::support::heartbeat::{heartbeat, marked, now_ms, worker};
use crate::support::{Home, Queen};

const SEAL_SOON: [&str; 2] = ["--seal-after", "1s"];
const VIEWS: [&str; 6] = [
    "history",
    "history_last_hour",
    "history_last_day",
    "latest",
    "hive_heartbeats",
    "gpu_history",
];

/// All that people can read of a database, in a fixed order.
fn everything(home: &Home) -> Vec<Vec<Value>> {
    let sorted = |view: &str| {
        let mut rows = home.rows(&format!("SELECT * FROM {view}"));
        rows.sort_by_key(Value::to_string);
        rows
    };
    VIEWS.into_iter().map(sorted).collect()
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
fn every_view_shows_the_same_before_and_after() {
    let queen = Queen::start();
    let now = now_ms();
    for heartbeat in odd_heartbeats(now) {
        queen.takes(&heartbeat);
    }
    for i in 1..50 {
        queen.takes(&marked(&format!("h{}", i % 3), now - i * 700, i as f64));
    }
    let before = everything(&queen);
    let queen = queen.stop().start(&SEAL_SOON);
    queen.until_sealed();
    for ((view, before), after) in VIEWS.iter().zip(before).zip(everything(&queen)) {
        assert_eq!(after, before, "{view}");
    }
}

#[test]
fn a_repetition_is_known_and_late_data_is_added() {
    let queen = Queen::with(&SEAL_SOON);
    let now = now_ms();
    let first = queen.takes(&marked("h", now, 2.0));
    queen.until_sealed();
    let mut queen = queen;
    for _ in 0..2 {
        let again = queen.takes(&marked("h", now, 9.0));
        assert_eq!((again.id, again.duplicate), (first.id, true));
        queen = queen.kill().start(&SEAL_SOON);
    }
    assert!(!queen.takes(&marked("h", now - 60_000, 1.0)).duplicate);
    queen.until_sealed();
    assert_eq!(queen.takes_lines(&[marked("h", now - 60_000, 9.0), marked("h", now, 9.0)]), (0, 2));
    assert_eq!(queen.figures("SELECT cpu_pct FROM history ORDER BY ts_ms"), [1.0, 2.0]);
    assert_eq!(queen.figures("SELECT cpu_pct FROM latest"), [2.0]);
}

#[test]
fn a_hive_is_known_from_its_sealed_reading() {
    let queen = Queen::with(&SEAL_SOON);
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
