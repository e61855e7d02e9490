//! `GET /metrics`, as Prometheus scrapes it.

use std::collections::HashSet;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::Queen;
use crate::support::client::JSON;
use crate::support::heartbeat::{example, heartbeat, now_ms, wire, worker};
use crate::support::wait::eventually;

#[track_caller]
fn scrape(queen: &Queen) -> String {
    let reply = queen.get("/metrics");
    assert_eq!(reply.status, 200);
    assert_eq!(reply.header("content-type"), Some("text/plain; version=0.0.4; charset=utf-8"));
    reply.text().to_owned()
}

/// The value of a sample, given as it stands there.
#[track_caller]
fn value(text: &str, sample: &str) -> f64 {
    let line = text.lines().find_map(|line| line.strip_prefix(sample)?.strip_prefix(' '));
    line.unwrap_or_else(|| panic!("no {sample} in {text}")).parse().unwrap()
}

/// Insists that the text is what Prometheus takes, and that its linter has nothing to say.
#[track_caller]
fn check(text: &str) {
    let mut promtool = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("promtool is there (Debian's package prometheus)");
    let mut input = promtool.stdin.take().unwrap();
    std::io::Write::write_all(&mut input, text.as_bytes()).unwrap();
    drop(input);
    let out = promtool.wait_with_output().unwrap();
    let said = [out.stdout, out.stderr].concat();
    let said = String::from_utf8_lossy(&said);
    assert!(out.status.success() && said.trim().is_empty(), "{said}");
    // The linter lets it pass, and a scrape would not.
    let mut seen = HashSet::new();
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let (sample, _) = line.rsplit_once(' ').unwrap();
        assert!(seen.insert(sample), "{sample} stands there twice");
    }
}

#[test]
fn every_figure_is_there_in_base_units() {
    let queen = Queen::start();
    let reply = queen.post_bytes(example(&wire(now_ms())).as_bytes(), &[JSON]);
    assert_eq!(reply.status, 200);
    let request = br#"{"model": "llama-3.2-1b", "idle_only": false, "lease_ms": 60000}"#;
    assert_eq!(queen.client().send("POST", "/v1/route", &[JSON], request).status, 200);
    let text = scrape(&queen);
    check(&text);
    let worker = r#"{hive="localhost",group="llm",worker="8080"}"#;
    let gpu = r#"{hive="localhost",gpu="GPU-5d2c",index="0"}"#;
    for (name, labels, expected) in [
        ("worker_cpu_usage_cores", worker, 0.452),
        ("worker_memory_resident_bytes", worker, 4096.0 * 1_048_576.0),
        ("worker_gpu_utilization_ratio", worker, 0.85),
        ("worker_gpu_memory_used_bytes", worker, 8192.0 * 1_048_576.0),
        ("worker_kv_cache_utilization_ratio", worker, 0.315),
        ("worker_requests_running", worker, 2.0),
        ("worker_requests_waiting", worker, 0.0),
        ("worker_leases", worker, 1.0),
        ("worker_uptime_seconds", worker, 3600.0),
        ("gpu_power_watts", gpu, 310.5),
        ("gpu_temperature_celsius", gpu, 54.0),
        ("gpu_memory_size_bytes", gpu, 81559.0 * 1_048_576.0),
        ("hive_cpu_usage_cores", r#"{hive="localhost"}"#, 1.8),
        ("hive_load1", r#"{hive="localhost"}"#, 1.9),
        ("hive_agent_collect_seconds", r#"{hive="localhost"}"#, 0.0021),
        ("hive_up", r#"{hive="localhost"}"#, 1.0),
        ("queen_heartbeats_stored_total", "", 1.0),
        ("queen_acknowledgement_duration_seconds_count", "", 1.0),
        ("queen_storage_ready", "", 1.0),
        ("queen_hives", r#"{state="live"}"#, 1.0),
    ] {
        let found = value(&text, &format!("{name}{labels}"));
        assert!((found - expected).abs() <= expected * 1e-12, "{name}: {found}");
    }
    let model = r#"worker_info{hive="localhost",group="llm",worker="8080",model="llama-3.2-1b"} 1"#;
    assert!(text.contains(model), "{text}");
    let on = r#"worker_gpu_info{hive="localhost",group="llm",worker="8080",gpu="GPU-5d2c"} 1"#;
    assert!(text.contains(on), "{text}");
    for name in ["queen_database_size_bytes", "queen_wal_size_bytes", "queen_disk_free_bytes"] {
        assert!(value(&text, name) > 0.0, "{name}");
    }
}

#[test]
fn what_is_not_known_is_not_there_and_odd_names_are_escaped() {
    let queen = Queen::start();
    let mut body = heartbeat("h", now_ms());
    let mut odd = worker("llm", "1");
    odd["model"] = json!("a \"quoted\" \\ model");
    body["workers"] = json!([odd, worker("llm", "2")]);
    // Nothing tells these apart.
    body["gpus"] = json!([{"power_w": 1}, {"power_w": 2}]);
    queen.takes(&body);
    let text = scrape(&queen);
    check(&text);
    assert!(text.contains(r#"model="a \"quoted\" \\ model"} 1"#), "{text}");
    assert!(!text.contains("worker_cpu_usage_cores{"), "{text}");
    assert_eq!(value(&text, r#"gpu_power_watts{hive="h",gpu="",index=""}"#), 1.0);
}

#[test]
fn who_is_silent_is_left_out() {
    let queen = Queen::start();
    let mut body = heartbeat("h", now_ms());
    body["workers"] = json!([worker("llm", "1")]);
    queen.takes(&body);
    assert!(scrape(&queen).contains("worker_info{hive=\"h\""));
    // After the start nobody was heard yet.
    let queen = queen.stop().start(&[]);
    let text = scrape(&queen);
    check(&text);
    assert!(!text.contains("worker_info{"), "{text}");
    assert_eq!(value(&text, "hive_up{hive=\"h\"}"), 0.0);
    assert_eq!(value(&text, "queen_hives{state=\"stale\"}"), 1.0);
}

#[test]
fn she_counts_what_she_does() {
    let queen = Queen::with(&["--seal-after", "1s"]);
    let old = heartbeat("h", now_ms() - 10_000);
    queen.takes(&old);
    assert!(queen.takes(&old).duplicate);
    queen.post_bytes(b"{", &[JSON]).problem(400, "malformed_json");
    queen.post(&heartbeat("h", now_ms() + 3_600_000)).problem(422, "clock_skew");
    queen
        .post_bytes(b"x", &[("content-type", "text/plain")])
        .problem(415, "unsupported_media_type");
    let _stream = queen.stream("");
    let text = scrape(&queen);
    check(&text);
    assert_eq!(value(&text, "queen_heartbeats_stored_total"), 1.0);
    assert_eq!(value(&text, "queen_heartbeats_duplicate_total"), 1.0);
    for reason in ["malformed_json", "clock_skew", "unsupported_media_type"] {
        let sample = format!("queen_heartbeat_requests_rejected_total{{reason=\"{reason}\"}}");
        assert_eq!(value(&text, &sample), 1.0, "{reason}");
    }
    assert_eq!(value(&text, "queen_acknowledgement_duration_seconds_bucket{le=\"+Inf\"}"), 2.0);
    assert!(value(&text, "queen_commits_total") >= 2.0);
    assert_eq!(value(&text, "queen_commits_failed_total"), 0.0);
    assert_eq!(value(&text, "queen_streams"), 1.0);
    assert_eq!(value(&text, "queen_write_queue_bytes"), 0.0);
    eventually("a block is sealed", || {
        (value(&scrape(&queen), "queen_blocks_sealed_total") >= 1.0).then_some(())
    });
}

#[test]
fn a_thousand_workers_are_answered_promptly() {
    let queen = Queen::start();
    for hive in 0..10 {
        let mut body = heartbeat(&format!("hive-{hive}"), now_ms());
        body["workers"] = (0..100).map(|n| full(&n.to_string())).collect();
        queen.takes(&body);
    }
    let text = scrape(&queen);
    check(&text);
    assert_eq!(text.lines().filter(|line| line.starts_with("worker_info{")).count(), 1000);
    let quickest = (0..10).map(|_| {
        let begun = Instant::now();
        scrape(&queen);
        begun.elapsed()
    });
    // This is a program without optimisations on a machine that does other things too: ten
    // times what a released one takes.
    assert!(quickest.min().unwrap() < Duration::from_millis(500));
}

/// A worker with every figure.
fn full(instance: &str) -> Value {
    let mut worker = worker("llm", instance);
    worker["model"] = json!("llama-3.2-1b");
    for name in [
        "cpu_pct",
        "rss_mb",
        "gpu_util_pct",
        "vram_mb",
        "total_vram_mb",
        "uptime_s",
        "io_r_mb_s",
        "io_w_mb_s",
        "requests_running",
        "requests_waiting",
        "kv_cache_pct",
    ] {
        worker[name] = json!(42);
    }
    worker["gpus"] = json!([{"uuid": "GPU-1", "util_pct": 1, "vram_mb": 1}]);
    worker
}
