//! The forms of an answer, and what can be listed.

use serde_json::{Value, json};

use super::fleet::{heartbeats, now};
use super::queen::{Home, Queen};

const MINUTE: i64 = 60_000;

/// A queen with ten minutes of readings, and when they begin.
fn queen(home: &Home) -> (Queen, i64) {
    let start = (now() / MINUTE - 40) * MINUTE;
    let queen = home.start(&["--seal-after", "1h"]);
    let json: Vec<Value> =
        heartbeats(start, 30 * MINUTE).into_iter().map(|heartbeat| heartbeat.json).collect();
    queen.takes(&json);
    (queen, start)
}

fn ask(start: i64, format: &str) -> Vec<(&'static str, String)> {
    vec![
        ("metric", "cpu_pct".into()),
        ("metric", "node_load_1m".into()),
        ("start", start.to_string()),
        ("end", (start + 5 * MINUTE).to_string()),
        ("step", "1m".into()),
        ("group_by", "hive,model".into()),
        ("format", format.into()),
    ]
}

/// The fields of a line as RFC 4180 has them.
fn fields(line: &str) -> Vec<String> {
    let (mut fields, mut quoted) = (vec![String::new()], false);
    let mut characters = line.chars().peekable();
    while let Some(c) = characters.next() {
        let field = fields.last_mut().unwrap();
        match c {
            '"' if quoted && characters.peek() == Some(&'"') => {
                field.push('"');
                characters.next();
            }
            '"' => quoted = !quoted,
            ',' if !quoted => fields.push(String::new()),
            c => field.push(c),
        }
    }
    fields
}

#[test]
fn every_form_says_the_same() {
    let home = Home::new();
    let (queen, start) = queen(&home);
    let answer = queen.query(&ask(start, "json")).ok();
    let mut expected: Vec<Value> = Vec::new();
    for (at, time) in answer["times"].as_array().unwrap().iter().enumerate() {
        for series in answer["series"].as_array().unwrap() {
            let mut row = json!({"time": time, "metric": series["metric"]});
            for (label, value) in series["labels"].as_object().unwrap() {
                row[label] = value.clone();
            }
            row["value"] = series["values"][at].clone();
            if !row["value"].is_null() {
                expected.push(row);
            }
        }
    }
    assert!(expected.len() > 20);
    let rows = queen.query(&ask(start, "rows"));
    assert_eq!(rows.content_type, "application/json");
    assert_eq!(rows.ok(), Value::from(expected.clone()));
    let lines = queen.query(&ask(start, "ndjson"));
    assert_eq!(lines.content_type, "application/x-ndjson");
    let parsed: Vec<Value> =
        lines.body.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(parsed, expected);
    let csv = queen.query(&ask(start, "csv"));
    assert!(csv.content_type.starts_with("text/csv"));
    let mut lines = csv.body.split_terminator("\r\n");
    assert_eq!(lines.next(), Some("time,metric,hive,model,value"));
    for (line, row) in lines.zip(&expected) {
        let text = |name: &str| row[name].as_str().unwrap_or_default().to_owned();
        let fields = fields(line);
        assert_eq!(fields[0], row["time"].to_string());
        assert_eq!(fields[1..4], [text("metric"), text("hive"), text("model")]);
        // The reader of JSON may be off by the last digit.
        let (value, expected) = (fields[4].parse::<f64>().unwrap(), row["value"].as_f64().unwrap());
        assert!((value - expected).abs() <= 1e-12 * expected, "{value} {expected}");
    }
    assert_eq!(csv.body.matches("\r\n").count(), expected.len() + 1);
}

#[test]
fn the_form_is_negotiated() {
    let home = Home::new();
    let (queen, start) = queen(&home);
    let path = format!("/v1/history/query?metric=cpu_pct&start={start}");
    for (accept, expected) in [
        ("text/csv", "text/csv"),
        ("application/x-ndjson", "application/x-ndjson"),
        ("application/json", "application/json"),
        ("text/html,*/*;q=0.8", "application/json"),
        ("image/png", "application/json"),
    ] {
        let reply = queen.get_accepting(&path, accept);
        assert!(reply.content_type.starts_with(expected), "{accept}: {}", reply.content_type);
    }
    let reply = queen.get_accepting(&format!("{path}&format=json"), "text/csv");
    assert_eq!(reply.content_type, "application/json");
}

#[test]
fn a_posted_question_is_the_same() {
    let home = Home::new();
    let (queen, start) = queen(&home);
    let body = json!({
        "metric": ["cpu_pct", "node_load_1m"], "start": start, "end": (start + 5 * MINUTE).to_string(),
        "step": "1m", "group_by": ["hive", "model"], "match": "hive!=hive-2", "limit": 50, "other": true,
    });
    let mut parameters = ask(start, "json");
    parameters.push(("match", "hive!=hive-2".into()));
    assert_eq!(
        queen.post("/v1/history/query", &body.to_string()).ok(),
        queen.query(&parameters).ok()
    );
    let all = |body: &str| queen.post("/v1/history/query", body).ok();
    let one = all(&format!(r#"{{"metric": "cpu_pct", "start": {start}, "group_by": []}}"#));
    assert_eq!(one["series"].as_array().unwrap().len(), 1);
    assert_eq!(one["series"][0]["labels"], json!({}));
    assert!(
        all(&format!(r#"{{"metric": "cpu_pct", "start": {start}, "group_by": null}}"#))["series"]
            .as_array()
            .unwrap()
            .len()
            > 1
    );
}

#[test]
fn a_limit_cuts_and_says_so() {
    let home = Home::new();
    let (queen, start) = queen(&home);
    let ask = |limit: &str| {
        let parameters = [
            ("metric", "cpu_pct".to_owned()),
            ("start", start.to_string()),
            ("limit", limit.to_owned()),
            ("step", "1m".to_owned()),
        ];
        queen.query(&parameters).ok()
    };
    let (all, some) = (ask("1000"), ask("3"));
    let len = all["series"].as_array().unwrap().len();
    assert!(len > 3);
    assert_eq!((&all["truncated"], &some["truncated"]), (&false.into(), &true.into()));
    assert_eq!(some["series"].as_array().unwrap()[..], all["series"].as_array().unwrap()[..3]);
    assert_eq!(ask(&len.to_string())["truncated"], false);
}

#[test]
fn metrics_and_label_values_are_listed() {
    let home = Home::new();
    let (queen, start) = queen(&home);
    let metrics = queen.get("/v1/history/metrics").ok();
    let metrics = metrics["metrics"].as_array().unwrap();
    assert_eq!(metrics.len(), 23);
    assert_eq!(metrics[0]["name"], "cpu_pct");
    assert_eq!(metrics[0]["unit"], "percent");
    let values = |path: &str| {
        let reply = queen.get(&format!("/v1/history/labels/{path}")).ok();
        let values: Vec<String> = serde_json::from_value(reply["values"].clone()).unwrap();
        values
    };
    let hives = ["hive-0", "hive-1", "hive-2"];
    assert_eq!(values("hive/values"), hives);
    assert_eq!(values("instance/values"), ["8080", "8081", "8082"]);
    assert_eq!(values("model/values"), ["", "llama-3.2-1b", "mistral.7b", "qwen \"q\", 7b"]);
    assert_eq!(values("model/values?match=hive%3Dhive-0&match=group=embed"), ["llama-3.2-1b"]);
    assert_eq!(values("hive/values?match=model=mistral.7b"), ["hive-2"]);
    assert_eq!(values("name/values"), ["", "NVIDIA H100"]);
    assert_eq!(values("hive/values?match=index=0"), hives);
    assert_eq!(values("gpu/values?match=model=x"), [""; 0]);
    // The third worker comes after twenty minutes.
    let range = format!("start={start}&end={}", start + 15 * MINUTE);
    assert_eq!(values(&format!("instance/values?{range}")), ["8080", "8081"]);
    assert_eq!(values(&format!("hive/values?start=0&end={start}")), [""; 0]);
    assert_eq!(queen.get("/v1/history/labels/color/values").status, 404);
}
