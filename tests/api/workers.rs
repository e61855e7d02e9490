//! `GET /v1/workers`: every filter, alone and together.

use serde_json::{Value, json};

use crate::support::Queen;
use crate::support::heartbeat::{heartbeat, now_ms, worker};

/// Two hives:
///
/// | worker | model | GPU % | free VRAM |
/// | --- | --- | --- | --- |
/// | a/llm/8080 | small | 0 | 16,384 |
/// | a/llm/8081 | large | 50 | 4,096 |
/// | a/embed/9000 | – | – | – |
/// | b/llm/8080 | small | 100 | 0 |
fn queen_with_fleet() -> Queen {
    let queen = Queen::start();
    let figures = |instance: &str, model: &str, gpu_util_pct: f64, vram_mb: i64| {
        let mut worker = worker("llm", instance);
        worker["model"] = model.into();
        worker["gpu_util_pct"] = gpu_util_pct.into();
        worker["vram_mb"] = vram_mb.into();
        worker["total_vram_mb"] = 24_576.into();
        worker
    };
    let mut a = heartbeat("a", now_ms());
    a["workers"] = json!([
        figures("8080", "small", 0.0, 8_192),
        figures("8081", "large", 50.0, 20_480),
        worker("embed", "9000"),
    ]);
    queen.takes(&a);
    let mut b = heartbeat("b", now_ms());
    b["workers"] = json!([figures("8080", "small", 100.0, 24_576)]);
    queen.takes(&b);
    queen
}

#[test]
fn filters() {
    let queen = queen_with_fleet();
    let all = ["a/llm/8080", "a/llm/8081", "a/embed/9000", "b/llm/8080"];
    let cases: [(&str, &[usize]); 26] = [
        ("", &[0, 1, 2, 3]),
        ("?state=live", &[0, 1, 2, 3]),
        ("?state=any", &[0, 1, 2, 3]),
        ("?state=stale", &[]),
        ("?state=offline", &[]),
        ("?hive=a", &[0, 1, 2]),
        ("?hive=a&hive=b", &[0, 1, 2, 3]),
        ("?hive=c", &[]),
        ("?hive=", &[]),
        ("?group=llm", &[0, 1, 3]),
        ("?group=embed&group=llm", &[0, 1, 2, 3]),
        ("?instance=8080", &[0, 3]),
        ("?hive=b&instance=8080", &[3]),
        ("?model=small", &[0, 3]),
        ("?model=large", &[1]),
        ("?model=Small", &[]),
        ("?model=small&model=large", &[0, 1, 3]),
        ("?idle=true", &[0]),
        ("?idle=false", &[1, 3]),
        ("?min_free_vram_mb=0", &[0, 1, 3]),
        ("?min_free_vram_mb=4096", &[0, 1]),
        ("?min_free_vram_mb=4096.5", &[0]),
        ("?min_free_vram_mb=16385", &[]),
        ("?model=small&idle=true&min_free_vram_mb=1000&hive=a&group=llm", &[0]),
        ("?idle=true&model=large", &[]),
        ("?of_the_future=1", &[0, 1, 2, 3]),
    ];
    for (filter, expected) in cases {
        let expected: Vec<&str> = expected.iter().map(|&at| all[at]).collect();
        assert_eq!(queen.worker_keys(filter), expected, "{filter}");
    }
}

#[test]
fn values_are_decoded() {
    let queen = Queen::start();
    let mut heartbeat = heartbeat("h@x:1", now_ms());
    heartbeat["workers"] = json!([worker("llm", "8080")]);
    heartbeat["workers"][0]["model"] = json!("org/Model 7B+模型");
    queen.takes(&heartbeat);
    for model in ["org/Model%207B%2B%E6%A8%A1%E5%9E%8B", "org%2FModel+7B%2B%E6%A8%A1%E5%9E%8B"] {
        assert_eq!(queen.worker_keys(&format!("?model={model}")), ["h@x:1/llm/8080"], "{model}");
    }
    assert_eq!(queen.get("/v1/workers/h%40x:1/llm/8080").ok()["hive_id"], "h@x:1");
    assert_eq!(queen.hive("h@x%3A1")["id"], "h@x:1");
}

#[test]
fn one_worker_is_found_by_its_whole_key() {
    let queen = queen_with_fleet();
    assert_eq!(queen.get("/v1/workers/a/llm/8081").ok()["model"], "large");
    for path in ["a/llm/8082", "a/embed/8080", "c/llm/8080"] {
        let detail = queen.get(&format!("/v1/workers/{path}")).problem(404, "not_found");
        assert!(detail.contains(path), "{detail}");
    }
}

#[test]
fn a_worker_has_a_url_where_its_instance_is_a_port() {
    let queen = Queen::start();
    let post = |hive: &str, hostname: Value, instances: &[&str]| {
        let mut heartbeat = heartbeat(hive, now_ms());
        heartbeat["hive"]["hostname"] = hostname;
        heartbeat["workers"] = instances.iter().map(|instance| worker("g", instance)).collect();
        queen.takes(&heartbeat);
    };
    post("v4", json!("10.0.0.7"), &["1", "65535", "65536", "0", "080", "x", "8080a"]);
    post("v6", json!("fd00::7"), &["8080"]);
    post("unnamed", Value::Null, &["8080"]);
    let url = |path: &str| queen.get(&format!("/v1/workers/{path}")).ok()["url"].clone();
    assert_eq!(url("v4/g/1"), "http://10.0.0.7:1");
    assert_eq!(url("v4/g/65535"), "http://10.0.0.7:65535");
    for no_port in ["65536", "0", "080", "x", "8080a"] {
        assert_eq!(url(&format!("v4/g/{no_port}")), Value::Null, "{no_port}");
    }
    assert_eq!(url("v6/g/8080"), "http://[fd00::7]:8080");
    assert_eq!(url("unnamed/g/8080"), "http://unnamed:8080");
}

#[test]
fn a_worker_that_is_no_longer_reported_is_gone() {
    let queen = queen_with_fleet();
    let mut a = heartbeat("a", now_ms() + 1);
    a["workers"] = json!([worker("llm", "8081")]);
    queen.takes(&a);
    assert_eq!(queen.worker_keys("?state=any"), ["a/llm/8081", "b/llm/8080"]);
    queen.get("/v1/workers/a/llm/8080").problem(404, "not_found");
}
