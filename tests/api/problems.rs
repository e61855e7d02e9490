//! Every error is a problem document, whoever refuses.

use serde_json::json;

use crate::support::Queen;
use crate::support::client::JSON;
use crate::support::heartbeat::{heartbeat, now_ms};

#[test]
fn it_has_these_members_and_no_others() {
    let queen = Queen::start();
    let reply = queen.get("/nowhere");
    reply.problem(404, "not_found");
    let detail = "there is nothing at /nowhere";
    let expected = json!({
        "type": "about:blank", "title": "Not Found", "status": 404, "detail": detail,
        "message": detail, "code": "not_found",
        "error": {"code": "not_found", "message": detail},
    });
    assert_eq!(reply.json(), expected);
}

#[test]
fn a_field_error_has_the_field() {
    let queen = Queen::start();
    let mut heartbeat = heartbeat("h", now_ms());
    heartbeat["workers"] =
        json!([{"pid": 1, "group": "g", "instance": "1", "gpu_util_pct": 120.5}]);
    let reply = queen.post(&heartbeat);
    let detail = "workers[0].gpu_util_pct: 120.5 is not in 0..=100";
    let expected = json!({
        "type": "about:blank", "title": "Unprocessable Content", "status": 422,
        "detail": detail, "message": detail, "code": "invalid_field",
        "error": {"code": "invalid_field", "message": detail},
        "errors": [{"field": "workers[0].gpu_util_pct", "detail": "120.5 is not in 0..=100"}],
    });
    assert_eq!(reply.json(), expected);
}

#[test]
fn what_is_not_there_is_not_found() {
    let queen = Queen::start();
    for path in [
        "/",
        "/v1",
        "/v1/",
        "/v1/hives/",
        "/v1/hives/nobody",
        "/v1/hives/nobody/workers",
        "/v1/hives/%ff",
        "/v1/hives/a%2Fb",
        "/v1/workers/a/b",
        "/v1/workers/a/b/c",
        "/v1/workers/%F0/b/c",
        "/v1/hive-heartbeat/",
        "/V1/hives",
        "/v1/../v1/hives",
    ] {
        queen.get(path).problem(404, "not_found");
    }
    let reply = queen.client().send("POST", "/v1/heartbeat", &[JSON], b"{}");
    reply.problem(404, "not_found");
}

#[test]
fn a_method_that_a_path_does_not_have_is_answered_with_those_it_has() {
    let queen = Queen::start();
    for (method, path, allow) in [
        ("GET", "/v1/hive-heartbeat", "POST"),
        ("PUT", "/v1/hive-heartbeat", "POST"),
        ("DELETE", "/v1/hive-heartbeats", "POST"),
        ("POST", "/v1/hives", "GET,HEAD"),
        ("DELETE", "/v1/hives/h", "GET,HEAD"),
        ("POST", "/v1/workers", "GET,HEAD"),
        ("PATCH", "/v1/workers/a/b/c", "GET,HEAD"),
        ("POST", "/v1/models", "GET,HEAD"),
        ("POST", "/v1/heartbeats/stream", "GET,HEAD"),
        ("POST", "/healthz", "GET,HEAD"),
        ("DELETE", "/readyz", "GET,HEAD"),
        ("PUT", "/version", "GET,HEAD"),
    ] {
        let reply = queen.client().send(method, path, &[], b"");
        let detail = reply.problem(405, "method_not_allowed");
        assert!(detail.contains(method) && detail.contains(path), "{detail}");
        assert_eq!(reply.header("allow"), Some(allow), "{method} {path}");
    }
}

#[test]
fn a_parameter_that_is_not_understood_is_named() {
    let queen = Queen::start();
    for (path, parameter) in [
        ("/v1/workers?idle=maybe", "idle"),
        ("/v1/workers?idle=", "idle"),
        ("/v1/workers?state=dead", "state"),
        ("/v1/workers?min_free_vram_mb=much", "min_free_vram_mb"),
        ("/v1/workers?min_free_vram_mb=-1", "min_free_vram_mb"),
        ("/v1/workers?min_free_vram_mb=NaN", "min_free_vram_mb"),
        ("/v1/workers?min_free_vram_mb=inf", "min_free_vram_mb"),
        ("/v1/heartbeats/stream?snapshot=perhaps", "snapshot"),
    ] {
        queen.get(path).field_problem(400, "invalid_parameter", parameter);
    }
}

#[test]
fn a_body_that_is_no_json_is_malformed() {
    let queen = Queen::start();
    for body in ["", " ", "{", "nonsense", "{\"hive\":{\"id\":\"h\"}} x", "{'hive':1}", "\u{0}"] {
        let detail = queen.post_bytes(body.as_bytes(), &[JSON]).problem(400, "malformed_json");
        assert!(detail.starts_with("not JSON: "), "{detail}");
    }
    let not_utf8 = b"{\"hive\":{\"id\":\"\xff\"}}";
    queen.post_bytes(not_utf8, &[JSON]).problem(400, "malformed_json");
    let deep = "[".repeat(100_000);
    queen.post_bytes(deep.as_bytes(), &[JSON]).problem(400, "malformed_json");
}

#[test]
fn the_detail_repeats_no_more_than_it_must() {
    let queen = Queen::start();
    let mut heartbeat = heartbeat("h", now_ms());
    heartbeat["timestamp"] = "x".repeat(1 << 20).into();
    let reply = queen.post(&heartbeat);
    reply.field_problem(422, "invalid_field", "timestamp");
    assert!(reply.body.len() < 16 << 10, "{} bytes", reply.body.len());
    let long = format!("/{}", "x".repeat(4 << 10));
    let reply = queen.get(&long);
    reply.problem(404, "not_found");
    assert!(reply.body.len() < 32 << 10, "{} bytes", reply.body.len());
}

#[test]
fn more_hives_than_may_be_known_are_refused_and_those_known_go_on() {
    let queen = Queen::with(&["--max-hives", "2"]);
    queen.takes(&heartbeat("a", now_ms()));
    queen.takes(&heartbeat("b", now_ms()));
    let reply = queen.post(&heartbeat("c", now_ms()));
    let detail = reply.field_problem(422, "invalid_field", "hive.id");
    assert!(detail.contains('2'), "{detail}");
    queen.takes(&heartbeat("a", now_ms() + 1));
    assert!(queen.value("SELECT count(*) FROM hives") == 2.0);
}
