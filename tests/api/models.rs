//! `GET /v1/models`: what can be served, over the workers of live hives.

use serde_json::{Value, json};

use crate::support::Queen;
use crate::support::heartbeat::{heartbeat, now_ms, worker};

fn serving(instance: &str, model: &str, figures: Value) -> Value {
    let mut worker = worker("llm", instance);
    worker["model"] = model.into();
    for (name, figure) in figures.as_object().unwrap() {
        worker[name] = figure.clone();
    }
    worker
}

#[test]
fn they_are_summed_up_by_name() {
    let queen = Queen::start();
    assert_eq!(queen.get("/v1/models").ok(), json!({"models": []}));
    let mut a = heartbeat("a", now_ms());
    a["workers"] = json!([
        serving("1", "small", json!({"gpu_util_pct": 0, "requests_running": 2})),
        serving("2", "small", json!({"gpu_util_pct": 1, "requests_running": 3})),
        worker("llm", "nameless"),
    ]);
    queen.takes(&a);
    let mut b = heartbeat("b", now_ms());
    b["workers"] = json!([
        serving("1", "small", json!({"requests_waiting": 7})),
        serving("2", "large", json!({})),
    ]);
    queen.takes(&b);
    let expected = json!([
        {"model": "large", "workers": 1, "idle": 0, "free_vram_mb": null,
         "requests_running": null, "requests_waiting": null, "estimated_vram_mb": null,
         "estimated_vram_samples": null},
        {"model": "small", "workers": 3, "idle": 1, "free_vram_mb": null,
         "requests_running": 5, "requests_waiting": 7, "estimated_vram_mb": null,
         "estimated_vram_samples": null},
    ]);
    assert_eq!(queen.get("/v1/models").ok()["models"], expected);
}

#[test]
fn free_memory_of_a_shared_gpu_counts_once() {
    let queen = Queen::start();
    let on = |uuid: &str, vram_mb: i64| json!({"vram_mb": vram_mb, "total_vram_mb": 1000, "gpus": [{"uuid": uuid}]});
    let mut heartbeat = heartbeat("h", now_ms());
    heartbeat["workers"] = json!([
        serving("1", "m", on("GPU-1", 400)),
        serving("2", "m", on("GPU-1", 0)),
        serving("3", "m", on("GPU-2", 100)),
    ]);
    queen.takes(&heartbeat);
    assert_eq!(queen.get("/v1/models").ok()["models"][0]["free_vram_mb"], 600 + 900);
}

#[test]
fn a_model_of_a_hive_from_before_the_restart_is_not_served() {
    let queen = Queen::start();
    let mut heartbeat = heartbeat("h", now_ms());
    heartbeat["workers"] = json!([serving("1", "m", json!({}))]);
    queen.takes(&heartbeat);
    assert_eq!(queen.get("/v1/models").ok()["models"].as_array().unwrap().len(), 1);
    let queen = queen.stop().start(&[]);
    assert_eq!(queen.get("/v1/models").ok()["models"], json!([]));
}
