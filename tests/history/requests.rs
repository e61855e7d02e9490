//! How questions are written, and what is refused.

use serde_json::{Value, json};

use super::fleet::now;
use super::queen::{Home, Queen, Reply};

fn refused(reply: &Reply, status: u16, code: &str, field: &str) -> Value {
    let problem = reply.json();
    assert_eq!((reply.status, &problem["code"]), (status, &code.into()), "{problem}");
    assert_eq!(reply.content_type, "application/problem+json");
    if !field.is_empty() {
        assert_eq!(problem["errors"][0]["field"], field, "{problem}");
    }
    problem
}

fn get(queen: &Queen, query: &str) -> Reply {
    queen.get(&format!("/v1/history/query?{query}"))
}

#[test]
fn what_is_not_allowed_is_named() {
    let home = Home::new();
    let queen = home.start(&[]);
    for (query, field) in [
        ("", "metric"),
        ("metric=cpu_pct&start=yesterday", "start"),
        ("metric=cpu_pct&end=1e99", "end"),
        ("metric=cpu_pct&start=now&end=-1h", "end"),
        ("metric=cpu_pct&step=0s", "step"),
        ("metric=cpu_pct&step=1month", "step"),
        ("metric=cpu_pct&step=1m&max_points=5", "step"),
        ("metric=cpu_pct&max_points=0", "max_points"),
        ("metric=cpu_pct&max_points=11001", "max_points"),
        ("metric=cpu_pct&agg=mean", "agg"),
        ("metric=cpu_pct&across=median", "across"),
        ("metric=cpu_pct&group_by=color", "group_by"),
        ("metric=node_cpu_pct&group_by=model", "group_by"),
        ("metric=cpu_pct&match=model", "match"),
        ("metric=cpu_pct&match=color=red", "match"),
        ("metric=cpu_pct&match=model=~(", "match"),
        ("metric=cpu_pct&fill=linear", "fill"),
        ("metric=cpu_pct&limit=0", "limit"),
        ("metric=cpu_pct&limit=1001", "limit"),
        ("metric=cpu_pct&limit=x", "limit"),
        ("metric=cpu_pct&format=xml", "format"),
    ] {
        let problem = refused(&get(&queen, query), 400, "invalid_parameter", field);
        assert!(problem["detail"].as_str().unwrap().starts_with(field), "{problem}");
    }
    let problem = refused(&get(&queen, "metric=cpu"), 400, "unknown_metric", "metric");
    assert!(problem["detail"].as_str().unwrap().contains("cpu_pct"));
    let values = "/v1/history/labels/hive/values?start=x";
    refused(&queen.get(values), 400, "invalid_parameter", "start");
}

#[test]
fn too_many_points_come_with_a_step_that_works() {
    let home = Home::new();
    let queen = home.start(&[]);
    let query = "metric=cpu_pct&start=-7d&step=";
    let problem = refused(&get(&queen, &format!("{query}1s")), 422, "too_many_points", "");
    assert_eq!(problem["suggested_step"], "1m");
    get(&queen, &format!("{query}1m")).ok();
    let problem = refused(
        &get(&queen, "metric=cpu_pct&start=0&end=now&step=1ms"),
        422,
        "too_many_points",
        "",
    );
    let step = problem["suggested_step"].as_str().unwrap();
    get(&queen, &format!("metric=cpu_pct&start=0&end=now&step={step}")).ok();
    // Exactly as many as there may be.
    get(&queen, "metric=cpu_pct&start=1764000000&end=1764011000&step=1s").ok();
    let one_more = get(&queen, "metric=cpu_pct&start=1764000000&end=1764011001&step=1s");
    assert_eq!(refused(&one_more, 422, "too_many_points", "")["suggested_step"], "2s");
}

#[test]
fn posted_questions_are_checked() {
    let home = Home::new();
    let queen = home.start(&[]);
    let post = |body: &str| queen.post("/v1/history/query", body);
    refused(&post("{"), 400, "malformed_json", "");
    refused(&post(""), 400, "malformed_json", "");
    refused(&post("[]"), 422, "invalid_field", "");
    for (body, field) in [
        (json!({}), "metric"),
        (json!({"metric": {"name": "cpu_pct"}}), "metric"),
        (json!({"metric": ["cpu_pct", 1.5, {}]}), "metric[2]"),
        (json!({"metric": "cpu_pct", "start": ["now"]}), "start"),
        (json!({"metric": "cpu_pct", "start": true}), "start"),
        (json!({"metric": "cpu_pct", "limit": 0}), "limit"),
        (json!({"metric": "cpu_pct", "limit": 1.5}), "limit"),
        (json!({"metric": "cpu_pct", "agg": 5}), "agg"),
        (json!({"metric": "cpu_pct", "match": ["model"]}), "match"),
    ] {
        refused(&post(&body.to_string()), 422, "invalid_field", field);
    }
    refused(&post(r#"{"metric": "cpu"}"#), 400, "unknown_metric", "metric");
    let body = json!({"metric": "cpu_pct", "start": "-7d", "step": "1s"}).to_string();
    refused(&post(&body), 422, "too_many_points", "");
}

#[test]
fn times_are_understood_and_steps_snap() {
    let home = Home::new();
    let queen = home.start(&[]);
    let ask = |query: &str| get(&queen, &format!("metric=cpu_pct&{query}")).ok();
    let answer = ask("start=2025-10-30T18:30:00Z&end=2025-10-30T19:30:00.500%2B00:00&step=15s");
    assert_eq!(answer["start"], 1_761_849_000_000_i64);
    assert_eq!(answer["end"], 1_761_852_600_500_i64);
    assert_eq!(answer["times"].as_array().unwrap().len(), 241);
    assert_eq!(answer["resolution"], "raw");
    assert_eq!(answer["series"], json!([]));
    assert_eq!(answer["truncated"], false);
    assert_eq!(
        ask("start=1761849000&end=1761849000500"),
        ask("start=1761849000000&end=1761849000.5")
    );
    let before = now();
    let answer = ask("");
    let end = answer["end"].as_i64().unwrap();
    assert!((before..=now()).contains(&end));
    assert_eq!(answer["start"], end - 3_600_000);
    assert_eq!(answer["step_ms"], 5000);
    assert_eq!(ask("start=-6h&max_points=360")["step_ms"], 120_000);
    assert_eq!(ask("start=1761849000&end=1761870600&max_points=360")["step_ms"], 60_000);
    let times = ask("start=1761849001&end=1761849059&step=1m");
    assert_eq!(times["times"], json!([1_761_849_000_000_i64]));
}
