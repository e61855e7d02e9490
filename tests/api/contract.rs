//! The contract's example comes out of every door as it went in.

use serde_json::{Value, json};

use crate::support::client::JSON;
use crate::support::heartbeat::{
    EXAMPLE_AGENT, EXAMPLE_GPUS, EXAMPLE_NODE, EXAMPLE_WORKERS, example, now_ms, readable, wire,
};
use crate::support::queen::ack;
use crate::support::sqlite::floats;
use crate::support::{Home, Queen};

/// A queen that has taken the example of this moment.
fn queen_with_example() -> (Queen, i64) {
    let queen = Queen::start();
    let now = now_ms();
    ack(&queen.post_bytes(example(&wire(now)).as_bytes(), &[JSON]));
    (queen, now)
}

fn parsed(json: &str) -> Value {
    serde_json::from_str(json).unwrap()
}

#[test]
fn it_is_acknowledged_with_an_id_of_its_receipt() {
    let queen = Queen::start();
    let before = now_ms();
    let ack = ack(&queen.post_bytes(example(&wire(before)).as_bytes(), &[JSON]));
    assert!(!ack.duplicate);
    assert!((before * 1000..=(now_ms() + 1) * 1000).contains(&ack.id), "{}", ack.id);
}

#[test]
fn the_live_feed_sends_it_unchanged() {
    let queen = Queen::start();
    let mut stream = queen.stream("");
    let now = now_ms();
    let ack = ack(&queen.post_bytes(example(&wire(now)).as_bytes(), &[JSON]));
    let expected = format!(
        r#"{{"type":"hive_telemetry","hive_id":"localhost","timestamp":"{}","workers":{EXAMPLE_WORKERS},"gpus":{EXAMPLE_GPUS},"node":{EXAMPLE_NODE}}}"#,
        wire(now)
    );
    let frame = stream.telemetry();
    let id = format!("id: {}", ack.id);
    assert_eq!(frame.lines, [&id, "event: heartbeat", &format!("data: {expected}")]);

    let frame = queen.stream("").telemetry();
    assert_eq!((frame.id, frame.text), (Some(ack.id), expected), "the snapshot");
}

#[test]
fn the_hive_has_it_unchanged() {
    let (queen, now) = queen_with_example();
    let hive = queen.hive("localhost");
    for (member, expected) in [
        ("id", json!("localhost")),
        ("hostname", json!("127.0.0.1")),
        ("port", json!(7835)),
        ("version", json!("0.1.0")),
        ("operational_status", json!("ready")),
        ("health_status", json!("healthy")),
        ("state", json!("live")),
        ("workers", parsed(EXAMPLE_WORKERS)),
        ("gpus", parsed(EXAMPLE_GPUS)),
        ("node", parsed(EXAMPLE_NODE)),
        ("agent", parsed(EXAMPLE_AGENT)),
    ] {
        assert_eq!(hive[member], expected, "{member}");
    }
    let last_seen = hive["last_seen"].as_str().unwrap();
    assert!((wire(now).as_str()..=wire(now_ms()).as_str()).contains(&last_seen), "{last_seen}");
    let age_ms = hive["age_ms"].as_i64().unwrap();
    assert!((0..=now_ms() - now).contains(&age_ms), "{age_ms}");
    let skew_ms = hive["clock_skew_ms"].as_i64().unwrap();
    assert!((now - now_ms()..=0).contains(&skew_ms), "{skew_ms}");

    let hives = queen.get("/v1/hives").ok();
    assert_eq!(hives["hives"].as_array().unwrap().len(), 1);
    let mut listed = hives["hives"][0].clone();
    assert_eq!(listed["workers"], 1);
    listed["workers"] = hive["workers"].clone();
    listed["age_ms"] = hive["age_ms"].clone();
    assert_eq!(listed, hive);
}

#[test]
fn the_worker_has_it_unchanged() {
    let (queen, _) = queen_with_example();
    let listed = queen.workers("");
    assert_eq!(listed.len(), 1);
    let worker = queen.get("/v1/workers/localhost/llm/8080").ok();
    assert_eq!(listed[0], worker);
    let sent = parsed(EXAMPLE_WORKERS);
    for (member, expected) in sent[0].as_object().unwrap() {
        assert_eq!(&worker[member], expected, "{member}");
    }
    for (member, expected) in [
        ("hive_id", json!("localhost")),
        ("hostname", json!("127.0.0.1")),
        ("url", json!("http://127.0.0.1:8080")),
        ("state", json!("live")),
        ("last_seen", queen.hive("localhost")["last_seen"].clone()),
        ("idle", json!(false)),
        ("free_vram_mb", json!(16384)),
        ("leases", json!(0)),
    ] {
        assert_eq!(worker[member], expected, "{member}");
    }
}

#[test]
fn the_model_is_listed() {
    let (queen, _) = queen_with_example();
    let models = queen.get("/v1/models").ok();
    let expected = json!([{
        "model": "llama-3.2-1b", "workers": 1, "idle": 0, "free_vram_mb": 16384,
        "requests_running": 2, "requests_waiting": 0, "estimated_vram_mb": null,
        "estimated_vram_samples": null,
    }]);
    assert_eq!(models["models"], expected);
}

#[test]
fn the_database_has_it_unchanged() {
    let (queen, now) = queen_with_example();
    assert_in_database(&queen, now);
}

/// Every view that shows the example shows it as it was sent.
fn assert_in_database(home: &Home, now: i64) {
    let expected = json!({
        "ts": readable(now), "ts_ms": now, "hive": "localhost", "group": "llm",
        "instance": "8080", "pid": 12345, "model": "llama-3.2-1b", "cpu_pct": 45.2,
        "rss_mb": 4096, "io_r_mb_s": 0, "io_w_mb_s": 0, "gpu_util_pct": 85, "vram_mb": 8192,
        "total_vram_mb": 24576, "uptime_s": 3600, "requests_running": 2, "requests_waiting": 0,
        "kv_cache_pct": 31.5,
    });
    for view in ["history", "history_last_hour", "history_last_day", "latest"] {
        let rows = home.rows(&format!("SELECT * FROM {view}"));
        assert_eq!(rows, [floats(expected.clone())], "{view}");
    }
    let heartbeat = home.rows("SELECT * FROM hive_heartbeats").remove(0);
    for (column, expected) in [
        ("ts", json!(readable(now))),
        ("ts_ms", json!(now)),
        ("hive", json!("localhost")),
        ("workers", json!(1)),
        ("node_cpu_pct", json!(180)),
        ("node_cpu_count", json!(16)),
        ("node_memory_used_mb", json!(20480)),
        ("node_memory_total_mb", json!(131_072)),
        ("node_load_1m", json!(1.9)),
        ("node_uptime_s", json!(86400)),
        ("agent_version", json!("0.1.0")),
        ("agent_cpu_pct", json!(0.4)),
        ("agent_rss_mb", json!(11)),
        ("collect_ms", json!(2.1)),
        ("spooled", json!(0)),
        ("gpu_age_ms", json!(400)),
    ] {
        assert_eq!(heartbeat[column], floats(expected), "{column}");
    }
    let gpu = json!({
        "ts": readable(now), "ts_ms": now, "hive": "localhost", "gpu": "GPU-5d2c", "index": 0,
        "name": "NVIDIA H100", "gpu_device_util_pct": 85, "gpu_memory_used_mb": 8300,
        "gpu_memory_total_mb": 81559, "gpu_temperature_c": 54, "gpu_power_w": 310.5,
        "state": "ok",
    });
    assert_eq!(home.rows("SELECT * FROM gpu_history"), [floats(gpu)]);
}

#[test]
fn the_database_has_it_unchanged_when_it_is_sealed() {
    let (queen, now) = queen_with_example();
    let home = queen.stop();
    let queen = home.start(&["--seal-after", "1s"]);
    queen.until_sealed();
    assert_in_database(&queen, now);
    let queen = queen.kill().start(&[]);
    assert_in_database(&queen, now);
    assert_eq!(queen.hive("localhost")["workers"], parsed(EXAMPLE_WORKERS));
}

#[test]
fn fields_of_the_future_are_ignored_at_every_level() {
    let queen = Queen::start();
    let mut heartbeat = parsed(&example(&wire(now_ms())));
    for object in ["/hive", "/workers/0", "/workers/0/gpus/0", "/gpus/0", "/node", "/agent", ""] {
        heartbeat.pointer_mut(object).unwrap()["of_the_future"] = json!({"a": [1, "b", null]});
    }
    queen.takes(&heartbeat);
    let hive = queen.hive("localhost");
    assert_eq!(hive["workers"], parsed(EXAMPLE_WORKERS));
    assert_eq!(hive["gpus"], parsed(EXAMPLE_GPUS));
}

#[test]
fn figures_are_exact_to_a_thousandth() {
    let queen = Queen::start();
    let mut heartbeat = parsed(&example(&wire(now_ms())));
    let figures = json!({
        "cpu_pct": 12.345, "rss_mb": 9_007_199_254_740_991_i64, "gpu_util_pct": 99.999,
        "io_r_mb_s": 0.001, "io_w_mb_s": 1234.5, "kv_cache_pct": 100.0,
    });
    for (name, figure) in figures.as_object().unwrap() {
        heartbeat["workers"][0][name] = figure.clone();
    }
    queen.takes(&heartbeat);
    let worker = queen.get("/v1/workers/localhost/llm/8080").ok();
    let row = queen.rows("SELECT * FROM history").remove(0);
    for (name, figure) in figures.as_object().unwrap() {
        assert_eq!(floats(worker[name].clone()), floats(figure.clone()), "{name} over HTTP");
        assert_eq!(row[name], floats(figure.clone()), "{name} in the database");
    }
}
