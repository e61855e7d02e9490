//! What a field may hold. A heartbeat with one bad field is refused as a whole, and the
//! field is named.

use serde_json::{Value, json};

use crate::support::Queen;
use crate::support::heartbeat::{heartbeat, now_ms, worker};

/// Sets a value in a heartbeat that is otherwise good.
fn with(pointer: &str, value: Value) -> Value {
    let mut heartbeat = heartbeat("h", now_ms());
    heartbeat["workers"] = json!([worker("llm", "8080")]);
    heartbeat["workers"][0]["gpus"] = json!([{}]);
    heartbeat["gpus"] = json!([{}]);
    heartbeat["node"] = json!({});
    heartbeat["agent"] = json!({});
    let (parent, name) = pointer.rsplit_once('/').unwrap();
    match heartbeat.pointer_mut(pointer) {
        Some(place) => *place = value,
        None => heartbeat.pointer_mut(parent).unwrap()[name] = value,
    }
    heartbeat
}

/// `/workers/0/pid` as it stands in a problem: `workers[0].pid`.
fn path(pointer: &str) -> String {
    pointer.split('/').skip(1).fold(String::new(), |path, part| {
        if part.bytes().all(|b| b.is_ascii_digit()) {
            format!("{path}[{part}]")
        } else if path.is_empty() {
            part.into()
        } else {
            format!("{path}.{part}")
        }
    })
}

#[track_caller]
fn assert_refused(queen: &Queen, pointer: &str, value: Value) -> String {
    let shown: String = value.to_string().chars().take(60).collect();
    let reply = queen.post(&with(pointer, value));
    assert_eq!(reply.status, 422, "{pointer} = {shown}");
    reply.field_problem(422, "invalid_field", &path(pointer))
}

#[track_caller]
fn assert_taken(queen: &Queen, pointer: &str, value: Value) {
    let shown: String = value.to_string().chars().take(60).collect();
    let reply = queen.post(&with(pointer, value));
    assert_eq!(reply.status, 200, "{pointer} = {shown}: {}", reply.text());
}

#[test]
fn names_have_128_characters_at_most_and_no_odd_ones() {
    let queen = Queen::start();
    for pointer in ["/hive/id", "/workers/0/group", "/workers/0/instance"] {
        for good in ["a", "A-z_0.9:x@y", &"x".repeat(128)] {
            assert_taken(&queen, pointer, json!(good));
        }
        for bad in ["", "a b", "a/b", "ä", "a\n", "a\0", "'; DROP", &"x".repeat(129)] {
            assert_refused(&queen, pointer, json!(bad));
        }
        for bad in [json!(1), json!([]), json!({}), json!(true), Value::Null] {
            assert_refused(&queen, pointer, bad);
        }
    }
}

#[test]
fn what_is_required_is_missed() {
    let queen = Queen::start();
    for pointer in
        ["/hive", "/hive/id", "/workers/0/pid", "/workers/0/group", "/workers/0/instance"]
    {
        let mut heartbeat = with("/hive/id", json!("h"));
        let (parent, name) = pointer.rsplit_once('/').unwrap();
        heartbeat.pointer_mut(parent).unwrap().as_object_mut().unwrap().remove(name);
        let reply = queen.post(&heartbeat);
        let detail = reply.field_problem(422, "invalid_field", &path(pointer));
        assert!(detail.ends_with("is required"), "{detail}");
    }
}

#[test]
fn a_model_is_printable_text_of_512_characters_at_most() {
    let queen = Queen::start();
    let pointer = "/workers/0/model";
    for good in ["org/Model-7B (Q4_K_M) 模型 'x' \"y\"", &"é".repeat(512)] {
        assert_taken(&queen, pointer, json!(good));
        assert_eq!(queen.workers("?state=any")[0]["model"], good);
    }
    for bad in [json!("é".repeat(513)), json!("a\nb"), json!("\u{7f}"), json!(7)] {
        assert_refused(&queen, pointer, bad);
    }
}

#[test]
fn free_text_has_1024_characters_at_most() {
    let queen = Queen::start();
    for pointer in [
        "/hive/hostname",
        "/hive/version",
        "/hive/operational_status",
        "/hive/health_status",
        "/workers/0/gpus/0/uuid",
        "/gpus/0/uuid",
        "/gpus/0/name",
        "/gpus/0/state",
        "/agent/version",
    ] {
        assert_taken(&queen, pointer, json!("é".repeat(1024)));
        let detail = assert_refused(&queen, pointer, json!("é".repeat(1025)));
        assert!(detail.contains("1024"), "{detail}");
    }
    assert_taken(&queen, "/agent/errors", json!(["é".repeat(1024)]));
    let reply = queen.post(&with("/agent/errors", json!(["", "x".repeat(1025)])));
    reply.field_problem(422, "invalid_field", "agent.errors[1]");
}

#[test]
fn figures_are_finite_not_negative_and_below_2_to_the_53() {
    let queen = Queen::start();
    for pointer in [
        "/interval_ms",
        "/workers/0/pid",
        "/workers/0/cpu_pct",
        "/workers/0/rss_mb",
        "/workers/0/vram_mb",
        "/workers/0/total_vram_mb",
        "/workers/0/uptime_s",
        "/workers/0/io_r_mb_s",
        "/workers/0/io_w_mb_s",
        "/workers/0/gpus/0/vram_mb",
        "/workers/0/requests_running",
        "/workers/0/requests_waiting",
        "/gpus/0/index",
        "/gpus/0/memory_used_mb",
        "/gpus/0/memory_total_mb",
        "/gpus/0/temperature_c",
        "/gpus/0/power_w",
        "/node/cpu_pct",
        "/node/cpu_count",
        "/node/memory_used_mb",
        "/node/memory_total_mb",
        "/node/load_1m",
        "/node/uptime_s",
        "/agent/cpu_pct",
        "/agent/rss_mb",
        "/agent/collect_ms",
        "/agent/spooled",
        "/agent/gpu_age_ms",
    ] {
        assert_taken(&queen, pointer, json!(0));
        assert_taken(&queen, pointer, json!((1_u64 << 53) - 1));
        for bad in [json!(1_u64 << 53), json!(u64::MAX), json!(-1), json!(1e300), json!("1")] {
            assert_refused(&queen, pointer, bad);
        }
    }
}

#[test]
fn percentages_of_a_gpu_end_at_100() {
    let queen = Queen::start();
    for pointer in [
        "/workers/0/gpu_util_pct",
        "/workers/0/gpus/0/util_pct",
        "/workers/0/kv_cache_pct",
        "/gpus/0/util_pct",
    ] {
        assert_taken(&queen, pointer, json!(0));
        assert_taken(&queen, pointer, json!(100.0));
        for bad in [json!(100.001), json!(-0.1), json!(120)] {
            let detail = assert_refused(&queen, pointer, bad);
            assert!(detail.ends_with("is not in 0..=100"), "{detail}");
        }
    }
    assert_taken(&queen, "/workers/0/cpu_pct", json!(1600.0));
}

#[test]
fn a_number_that_overflows_is_invalid() {
    let queen = Queen::start();
    let body = with("/workers/0/cpu_pct", json!("here")).to_string().replace("\"here\"", "1e999");
    let reply = queen.post_bytes(body.as_bytes(), &[]);
    reply.field_problem(422, "invalid_field", "workers[0].cpu_pct");
    for no_json in ["NaN", "Infinity", "-Infinity", "+1", "01"] {
        let body = body.replace("1e999", no_json);
        queen.post_bytes(body.as_bytes(), &[]).problem(400, "malformed_json");
    }
}

#[test]
fn ports_are_ports() {
    let queen = Queen::start();
    assert_taken(&queen, "/hive/port", json!(65_535));
    assert_refused(&queen, "/hive/port", json!(65_536));
    assert_refused(&queen, "/hive/port", json!(-1));
}

#[test]
fn lists_end_at_their_limits() {
    let queen = Queen::start();
    let list = |element: Value, n: usize| Value::from(vec![element; n]);
    for (pointer, element, max) in [
        ("/gpus", json!({}), 256),
        ("/workers/0/gpus", json!({}), 64),
        ("/agent/errors", json!("x"), 64),
    ] {
        assert_taken(&queen, pointer, list(element.clone(), max));
        let reply = queen.post(&with(pointer, list(element, max + 1)));
        let detail = reply.problem(422, "invalid_field");
        assert!(detail.contains(&format!("more than {max} elements")), "{detail}");
    }
}

#[test]
fn at_most_1024_workers_and_each_once() {
    let queen = Queen::start();
    let workers = |n: usize| (0..n).map(|i| worker("llm", &i.to_string())).collect::<Value>();
    assert_taken(&queen, "/workers", workers(1024));
    assert_eq!(queen.workers("?state=any").len(), 1024);
    assert_eq!(queen.value("SELECT count(*) FROM history"), 1024.0);
    let detail = assert_refused(&queen, "/workers", workers(1025));
    assert!(detail.contains("1024"), "{detail}");
    let twice = json!([worker("llm", "1"), worker("llm", "2"), worker("llm", "1")]);
    let detail = assert_refused(&queen, "/workers", twice);
    assert!(detail.contains("llm/1"), "{detail}");
    let different = json!([worker("a", "1"), worker("b", "1"), worker("a", "2")]);
    assert_taken(&queen, "/workers", different);
}

#[test]
fn a_list_is_no_object_and_an_object_no_list() {
    let queen = Queen::start();
    for pointer in ["/hive", "/node", "/agent", "/workers/0", "/gpus/0"] {
        assert_refused(&queen, pointer, json!(["h"]));
    }
    for pointer in ["/workers", "/gpus", "/workers/0/gpus", "/agent/errors"] {
        assert_refused(&queen, pointer, json!({"0": {}}));
    }
    for body in ["[]", "7", "null", "\"x\"", r#"[{"id":"h"}]"#] {
        queen.post_bytes(body.as_bytes(), &[]).field_problem(422, "invalid_field", "body");
    }
}

#[test]
fn timestamps_are_rfc_3339() {
    let queen = Queen::start();
    for bad in ["", "noon", "2025-10-30", "2025-10-30 18:30", "2025-13-30T18:30:00Z", "1764000000"]
    {
        assert_refused(&queen, "/timestamp", json!(bad));
    }
    assert_refused(&queen, "/timestamp", json!(1_764_000_000));
    assert_refused(&queen, "/timestamp", json!("1969-12-31T23:59:59Z"));
}

#[test]
fn what_is_refused_leaves_no_trace() {
    let queen = Queen::start();
    assert_refused(&queen, "/workers/0/cpu_pct", json!(-1));
    assert_eq!(queen.get("/v1/hives").ok()["hives"], json!([]));
    assert!(queen.rows("SELECT * FROM history").is_empty());
}
