//! Absent is not zero, all the way from the heartbeat to the chart.

use serde_json::{Value, json};

use crate::support::Queen;
use crate::support::heartbeat::{heartbeat, now_ms, worker};

const FIGURES: [&str; 11] = [
    "cpu_pct",
    "rss_mb",
    "io_r_mb_s",
    "io_w_mb_s",
    "gpu_util_pct",
    "vram_mb",
    "total_vram_mb",
    "uptime_s",
    "requests_running",
    "requests_waiting",
    "kv_cache_pct",
];

/// A hive with a worker of which nothing is known, and one of which everything is zero.
fn queen_with_unknown_and_zero() -> Queen {
    let queen = Queen::start();
    let mut zero = worker("llm", "zero");
    for name in FIGURES {
        zero[name] = json!(0);
    }
    let mut heartbeat = heartbeat("h", now_ms());
    heartbeat["workers"] = json!([worker("llm", "unknown"), zero]);
    queen.takes(&heartbeat);
    queen
}

#[track_caller]
fn assert_unknown_and_zero(unknown: &Value, zero: &Value) {
    for name in FIGURES {
        assert!(unknown.get(name).is_some_and(Value::is_null), "{name}: {unknown}");
        assert_eq!(zero[name].as_f64(), Some(0.0), "{name}: {zero}");
    }
    assert!(unknown["model"].is_null());
}

#[test]
fn the_smallest_heartbeat_is_taken_and_its_hive_is_live() {
    let queen = Queen::start();
    let before = now_ms();
    queen.takes(&json!({"hive": {"id": "h"}}));
    let hive = queen.hive("h");
    for member in ["port", "version", "node", "agent", "operational_status", "health_status"] {
        assert!(hive.get(member).is_some_and(Value::is_null), "{member}: {hive}");
    }
    assert_eq!((&hive["workers"], &hive["gpus"]), (&json!([]), &json!([])));
    assert_eq!(hive["state"], "live");
    assert_eq!(hive["hostname"], "h", "the id stands in for the hostname");
    // Without a timestamp it is of the moment of its receipt.
    let skew_ms = hive["clock_skew_ms"].as_i64().unwrap();
    assert!(skew_ms.abs() <= now_ms() - before, "{skew_ms}");
    let frame = queen.stream("").telemetry();
    assert_eq!(frame.data["node"], Value::Null);
    assert_eq!(frame.data["workers"], json!([]));
}

#[test]
fn it_is_null_in_rest_and_on_the_feed() {
    let queen = queen_with_unknown_and_zero();
    let [unknown, zero] = &queen.workers("")[..] else { panic!("two workers") };
    assert_unknown_and_zero(unknown, zero);
    assert!(unknown["free_vram_mb"].is_null());
    let workers = &queen.hive("h")["workers"];
    assert_unknown_and_zero(&workers[0], &workers[1]);
    let workers = &queen.stream("").telemetry().data["workers"];
    assert_unknown_and_zero(&workers[0], &workers[1]);
}

#[test]
fn it_is_null_in_the_database() {
    let queen = queen_with_unknown_and_zero();
    let rows = queen.rows("SELECT * FROM history ORDER BY instance");
    assert_unknown_and_zero(&rows[0], &rows[1]);
    let sql = "SELECT avg(cpu_pct) FROM history WHERE instance = 'unknown'";
    assert_eq!(queen.value(sql), Value::Null);
}

#[test]
fn an_explicit_null_is_the_same_as_nothing() {
    let queen = Queen::start();
    let mut nulls = worker("llm", "8080");
    for name in FIGURES.into_iter().chain(["model", "gpus"]) {
        nulls[name] = Value::Null;
    }
    queen.takes(&json!({
        "hive": {"id": "h", "hostname": null, "port": null, "version": null}, "timestamp": null,
        "interval_ms": null, "workers": [nulls], "gpus": null, "node": null, "agent": null,
    }));
    queen.takes(&json!({"hive": {"id": "other"}, "workers": [worker("llm", "8080")]}));
    let with_null = queen.hive("h")["workers"].clone();
    let without = queen.hive("other")["workers"].clone();
    assert_eq!(with_null, without);
    with_null[0]["gpus"].as_array().expect("gpus is a list all the same");
}

#[test]
fn unknown_utilisation_is_not_idle_and_not_busy() {
    let queen = queen_with_unknown_and_zero();
    assert_eq!(queen.get("/v1/workers/h/llm/unknown").ok()["idle"], Value::Null);
    assert_eq!(queen.get("/v1/workers/h/llm/zero").ok()["idle"], true);
    assert_eq!(queen.worker_keys("?idle=true"), ["h/llm/zero"]);
    assert!(queen.worker_keys("?idle=false").is_empty());
    let summary = queen.stream("").summary();
    assert_eq!((&summary["workers_online"], &summary["workers_available"]), (&json!(2), &json!(1)));
}

#[test]
fn unknown_capacity_satisfies_no_demand() {
    let queen = queen_with_unknown_and_zero();
    assert_eq!(queen.worker_keys("?min_free_vram_mb=0"), ["h/llm/zero"]);
    assert!(queen.worker_keys("?min_free_vram_mb=1").is_empty());
}

#[test]
fn an_empty_model_name_means_that_it_is_not_known() {
    let queen = Queen::start();
    let mut nameless = worker("llm", "8080");
    nameless["model"] = json!("");
    let mut heartbeat = heartbeat("h", now_ms());
    heartbeat["workers"] = json!([nameless]);
    queen.takes(&heartbeat);
    assert_eq!(queen.workers("")[0]["model"], Value::Null);
    assert_eq!(queen.value("SELECT model FROM history"), Value::Null);
    assert_eq!(queen.get("/v1/models").ok()["models"], json!([]));
}
