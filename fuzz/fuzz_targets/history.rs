//! Questions to a small history: whatever is asked, the answer is well formed and within its
//! bounds.
#![no_main]

use std::cell::OnceCell;

use axum::body::Body;
use axum::http::Request;
use libfuzzer_sys::fuzz_target;
use queen_fuzz::{Door, NOW_MS, query};
use serde_json::{Value, json};

/// Points of a series, and series.
const MAX_POINTS: usize = 11_000;
const MAX_SERIES: usize = 1000;

thread_local! { static DOOR: OnceCell<Door> = const { OnceCell::new() } }

/// Three hives of two workers, for ten minutes, with holes.
fn heartbeats() -> Vec<String> {
    let mut heartbeats = Vec::new();
    for at in (0..600_000).step_by(7_000) {
        for hive in 0..3_i64 {
            if (at / 7_000) % 11 == hive {
                continue;
            }
            let worker = |instance: i64| {
                json!({"pid": hive * 100 + instance, "group": "llm", "instance": instance.to_string(),
                       "model": (at > 300_000).then(|| format!("m{instance}")), "cpu_pct": at % 97,
                       "gpu_util_pct": at % 101, "vram_mb": 100 * hive, "total_vram_mb": 24_576,
                       "gpus": [{"uuid": format!("GPU-{hive}"), "vram_mb": 7}]})
            };
            let heartbeat = json!({
                "hive": {"id": format!("h{hive}")}, "interval_ms": 7000, "timestamp": moment(at),
                "workers": [worker(1), worker(2)], "node": {"cpu_pct": at % 89},
                "gpus": [{"uuid": format!("GPU-{hive}"), "index": 0, "util_pct": at % 100}],
            });
            heartbeats.push(heartbeat.to_string());
        }
    }
    heartbeats
}

/// So many ms after ten minutes ago.
fn moment(at: i64) -> String {
    let ms = NOW_MS - 600_000 + at;
    hive_contract::Timestamp::from_millis(ms).expect("a time").to_string()
}

fuzz_target!(|data: &[u8]| {
    let parameters = query(data);
    let uri = format!("/v1/history/query?{parameters}");
    let Ok(request) = Request::get(uri).body(Body::empty()) else { return };
    let answer =
        DOOR.with(|door| door.get_or_init(|| Door::with_history(&heartbeats())).ask(request));
    if answer.status != 200 {
        return;
    }
    let Ok(answer) = serde_json::from_slice::<Value>(&answer.body) else { return };
    // `rows` is a list.
    let Some(times) = answer.get("times").and_then(Value::as_array) else { return };
    let step = answer["step_ms"].as_i64().expect("a step");
    let (start, end) = (answer["start"].as_i64(), answer["end"].as_i64());
    let times: Vec<i64> = times.iter().map(|time| time.as_i64().expect("a time")).collect();
    assert!(step > 0 && times.len() <= MAX_POINTS, "{} points", times.len());
    assert!(times.iter().all(|time| time % step == 0));
    assert!(times.windows(2).all(|pair| pair[0] < pair[1]));
    assert!(times.iter().all(|&time| Some(time + step) > start && Some(time) < end));
    let series = answer["series"].as_array().expect("a list");
    assert!(series.len() <= MAX_SERIES);
    for series in series {
        let values = series["values"].as_array().expect("a list");
        assert_eq!(values.len(), times.len());
        assert!(values.iter().all(|value| value.is_null() || value.as_f64().is_some()));
    }
});
