//! `/grafana`, asked as simpod-json-datasource 0.6.5 asks, and the dashboards in `grafana/`.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::client::JSON;
use crate::support::heartbeat::{heartbeat, now_ms, wire, worker};
use crate::support::{Queen, Reply};

/// The time of the first reading, before now.
const SINCE_MS: i64 = 60_000;

/// A queen with a minute of two hives, three workers, two models and a GPU each; one worker of
/// hive b restarts in the middle.
fn queen() -> (Queen, i64) {
    let queen = Queen::start();
    let start = (now_ms() - SINCE_MS) / 1000 * 1000;
    for (hive, model, cpu) in [("a", "llama-3.2-1b", 10), ("b.example", "gemma (q4)", 30)] {
        let lines: Vec<Value> = (0..60)
            .map(|second| {
                let mut body = heartbeat(hive, start + second * 1000);
                let mut first = full("8080", model, cpu);
                if hive != "a" && second >= 30 {
                    first["pid"] = json!(77);
                }
                body["workers"] = if hive == "a" {
                    json!([first, full("8081", model, cpu + 10)])
                } else {
                    json!([first])
                };
                body["gpus"] = json!([{"uuid": format!("GPU-{hive}"), "index": 0, "name": "NVIDIA H100",
                    "util_pct": cpu, "memory_used_mb": 1000, "memory_total_mb": 2000,
                    "temperature_c": 50, "power_w": 300, "state": "ok"}]);
                body["node"] = json!({"cpu_pct": 100, "memory_used_mb": 10, "memory_total_mb": 20, "load_1m": 1});
                body
            })
            .collect();
        assert_eq!(queen.takes_lines(&lines), (60, 0));
    }
    (queen, start)
}

fn full(instance: &str, model: &str, cpu: i64) -> Value {
    let mut worker = worker("llm", instance);
    worker["model"] = model.into();
    for name in [
        "cpu_pct",
        "rss_mb",
        "gpu_util_pct",
        "vram_mb",
        "total_vram_mb",
        "uptime_s",
        "requests_running",
        "requests_waiting",
        "kv_cache_pct",
    ] {
        worker[name] = cpu.into();
    }
    worker
}

#[track_caller]
fn post(queen: &Queen, path: &str, body: &Value) -> Reply {
    queen.client().send("POST", path, &[JSON], body.to_string().as_bytes())
}

/// A panel's request, member for member as the plugin sends it.
fn panel(start: i64, targets: Value) -> Value {
    let (from, to) = (wire(start), wire(start + 60_000));
    json!({
        "app": "dashboard", "requestId": "SQR1", "timezone": "browser", "panelId": 2,
        "range": {"from": from, "to": to, "raw": {"from": "now-1m", "to": "now"}},
        "rangeRaw": {"from": "now-1m", "to": "now"},
        "interval": "1s", "intervalMs": 1000, "maxDataPoints": 550, "startTime": start,
        "filters": [],
        "scopedVars": {
            "__interval": {"text": "1s", "value": "1s"},
            "__interval_ms": {"text": "1000", "value": 1000},
            "hive": {"selected": false, "text": ["a"], "value": ["a"]},
        },
        "targets": targets,
    })
}

fn target(metric: &str, payload: Value) -> Value {
    let datasource = json!({"type": "simpod-json-datasource", "uid": "queen"});
    json!([{"refId": "A", "datasource": datasource, "target": metric, "payload": payload, "editorMode": "code"}])
}

#[track_caller]
fn frames(queen: &Queen, body: &Value) -> Vec<Value> {
    let answer = post(queen, "/grafana/query", body).ok();
    answer.as_array().expect("a list at the top").clone()
}

/// The values of one label among the series of a query.
#[track_caller]
fn found(queen: &Queen, start: i64, payload: Value, label: &str) -> Vec<String> {
    let frames = frames(queen, &panel(start, target("cpu_pct", payload)));
    let value = |frame: &Value| frame["tags"][label].as_str().unwrap().to_owned();
    frames.iter().map(value).collect()
}

#[test]
fn the_base_url_answers_and_what_is_below_it_does_not() {
    let queen = Queen::start();
    assert_eq!(queen.get("/grafana").ok(), json!({"status": "ok"}));
    assert_eq!(queen.get("/grafana/").ok(), json!({"status": "ok"}));
    let with_type = queen.client().send("GET", "/grafana", &[JSON], &[]);
    assert_eq!(with_type.status, 200);
    queen.get("/grafana/annotations").problem(404, "not_found");
    post(&queen, "/grafana/search", &json!({})).problem(404, "not_found");
    queen.get("/grafana/query").problem(405, "method_not_allowed");
}

#[test]
fn a_series_has_its_labels_its_unit_and_ascending_points_inside_the_range() {
    let (queen, start) = queen();
    // The range begins within a second.
    let frames = frames(&queen, &panel(start + 500, target("cpu_pct", json!({"hive": "a"}))));
    assert_eq!(frames.len(), 2);
    let first = &frames[0];
    assert_eq!(first["refId"], "A");
    assert_eq!(first["unit"], "percent");
    let tags = json!({"hive": "a", "group": "llm", "instance": "8080", "model": "llama-3.2-1b"});
    assert_eq!(first["tags"], tags);
    let name = r#"cpu_pct{hive="a", group="llm", instance="8080", model="llama-3.2-1b"}"#;
    assert_eq!(first["target"], name);
    let points = first["datapoints"].as_array().unwrap();
    assert!(points.len() >= 60 && points.len() <= 62, "{}", points.len());
    let times: Vec<i64> = points.iter().map(|point| point[1].as_i64().unwrap()).collect();
    assert!(times.is_sorted_by(|a, b| a < b), "{times:?}");
    assert!(times[0] >= start + 500 && times[times.len() - 1] < start + 60_500, "{times:?}");
    assert_eq!(points[1][0], 10.0);
}

#[test]
fn series_are_chosen_however_the_editor_writes_it() {
    let (queen, start) = queen();
    for payload in [
        json!({"hive": "b.example"}),
        json!({"hive": "b\\.example"}),
        json!({"hive": ["b.example"]}),
        json!({"hive": ["b.example", "gone"]}),
        json!({"hive": "(b\\.example|gone)"}),
        json!({"hive": "b.*"}),
        json!({"model": "gemma \\(q4\\)"}),
        json!({"model": "gemma (q4)"}),
        json!({"model": ["gemma (q4)"], "unknown": {"deep": []}}),
        json!("{\"hive\": \"b.example\"}"),
    ] {
        assert_eq!(found(&queen, start, payload.clone(), "hive"), ["b.example"], "{payload}");
    }
    for payload in [json!({"hive": "$hive"}), json!({"hive": "${hive:regex}"})] {
        assert_eq!(found(&queen, start, payload, "hive"), ["a", "a"]);
    }
    for payload in
        [json!({}), json!(null), json!(""), json!({"hive": "$__all"}), json!({"hive": ""})]
    {
        assert_eq!(found(&queen, start, payload, "hive"), ["a", "a", "b.example"]);
    }
    assert_eq!(found(&queen, start, json!({"instance": 8081}), "instance"), ["8081"]);
    for payload in [json!({"hive": "gone"}), json!({"hive": []}), json!({"hive": "(gone|b)"})] {
        assert_eq!(found(&queen, start, payload, "hive"), [""; 0]);
    }
    // As many values as a variable may have.
    let many: Vec<String> =
        (0..2000).map(|n| format!("hive-{n}.example")).chain(["a".into()]).collect();
    let escaped = format!("({})", many.join("|").replace('.', "\\."));
    for payload in [json!({"hive": many}), json!({"hive": escaped})] {
        assert_eq!(found(&queen, start, payload, "hive"), ["a", "a"]);
    }
}

#[test]
fn series_are_grouped_and_combined_as_asked() {
    let (queen, start) = queen();
    for group_by in [json!("model"), json!(["model"]), json!("(model)")] {
        let payload = json!({"agg": "max", "group_by": group_by, "across": "sum"});
        let frames = frames(&queen, &panel(start, target("cpu_pct", payload)));
        let values: Vec<_> =
            frames.iter().map(|f| (f["tags"].clone(), f["datapoints"][5][0].clone())).collect();
        let expected = [
            (json!({"model": "gemma (q4)"}), json!(30.0)),
            (json!({"model": "llama-3.2-1b"}), json!(30.0)),
        ];
        assert_eq!(values, expected);
    }
    for all in [json!([]), json!("all")] {
        let payload = json!({"group_by": all, "across": "sum"});
        let frames = frames(&queen, &panel(start, target("cpu_pct", payload)));
        assert_eq!((frames.len(), &frames[0]["tags"]), (1, &json!({})));
        assert_eq!(frames[0]["target"], "cpu_pct");
        assert_eq!(frames[0]["datapoints"][5][0], 60.0);
    }
}

#[test]
fn points_are_as_many_as_the_panel_is_wide() {
    let (queen, start) = queen();
    let points = |max: Value, interval: Value| {
        let mut body = panel(start, target("cpu_pct", json!({"hive": "b.example"})));
        body["maxDataPoints"] = max;
        body["intervalMs"] = interval;
        frames(&queen, &body)[0]["datapoints"].as_array().unwrap().len()
    };
    assert!((6..=10).contains(&points(json!(10), json!(6000))));
    assert!((6..=10).contains(&points(json!("10"), json!("6000"))));
    // The panel's least interval.
    assert!((2..=3).contains(&points(json!(550), json!(30_000))));
    assert_eq!(points(json!(1), json!(null)), 1);
    assert!(points(json!(1e300), json!(1)) >= 60);
}

#[test]
fn filters_apply_to_every_target() {
    let (queen, start) = queen();
    let hives = |filter: Value| {
        let mut body = panel(start, target("cpu_pct", json!({"group_by": "hive"})));
        body["filters"] = json!([filter, {"key": "", "operator": "=", "value": ""}]);
        let frames = frames(&queen, &body);
        frames.iter().map(|f| f["tags"]["hive"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    let filter =
        |operator: &str, value: &str| json!({"key": "hive", "operator": operator, "value": value});
    assert_eq!(hives(filter("=", "a")), ["a"]);
    assert_eq!(hives(filter("!=", "a")), ["b.example"]);
    assert_eq!(hives(filter("=~", "a|x")), ["a"]);
    assert_eq!(hives(filter("=~", "example")), [""; 0]);
    assert_eq!(hives(filter("!~", "b.*")), ["a"]);
    let several = |operator: &str| json!({"key": "hive", "operator": operator, "value": "a", "values": ["a", "b.example"]});
    assert_eq!(hives(several("=|")), ["a", "b.example"]);
    assert_eq!(hives(several("!=|")), [""; 0]);
}

#[test]
fn several_targets_are_answered_in_their_order() {
    let (queen, start) = queen();
    let targets = json!([
        {"refId": "B", "target": "hives_online"},
        {"refId": "A", "target": "(gpu_power_w|gpu_temperature_c)", "payload": {"hive": "a"}},
        {"refId": "C", "target": ""},
    ]);
    let frames = frames(&queen, &panel(start, targets));
    let said: Vec<_> = frames
        .iter()
        .map(|f| (f["refId"].as_str().unwrap(), f["unit"].as_str().unwrap()))
        .collect();
    assert_eq!(said, [("B", "short"), ("A", "watt"), ("A", "celsius")]);
    assert_eq!(frames[0]["datapoints"][5][0], 2.0);
}

#[test]
fn a_table_holds_the_latest_values() {
    let (queen, start) = queen();
    let target = target("(cpu_pct|rss_mb)", json!({"format": "table", "hive": "a"}));
    let tables = frames(&queen, &panel(start, target));
    assert_eq!(tables.len(), 1);
    assert_eq!((&tables[0]["type"], &tables[0]["refId"]), (&json!("table"), &json!("A")));
    let columns: Vec<_> = tables[0]["columns"]
        .as_array()
        .unwrap()
        .iter()
        .map(|c| c["text"].as_str().unwrap())
        .collect();
    assert_eq!(columns, ["hive", "group", "instance", "model", "cpu_pct", "rss_mb"]);
    let rows = json!([
        ["a", "llm", "8080", "llama-3.2-1b", 10.0, 10.0],
        ["a", "llm", "8081", "llama-3.2-1b", 20.0, 20.0],
    ]);
    assert_eq!(tables[0]["rows"], rows);
}

#[test]
fn annotations_are_events_under_conditions() {
    let (queen, start) = queen();
    let rows = |payload: Value| {
        let target = json!([{"refId": "Anno", "target": "events", "payload": payload}]);
        let mut body = panel(start, target);
        body["scopedVars"]["__annotation"] = json!({"text": "", "value": {"name": "Restarts"}});
        let tables = frames(&queen, &body);
        assert_eq!(tables.len(), 1);
        assert_eq!(tables[0]["type"], "table");
        assert_eq!(tables[0]["columns"][0], json!({"text": "time", "type": "time"}));
        tables[0]["rows"].as_array().unwrap().clone()
    };
    let restarts = rows(json!({"kind": ["worker_started", "worker_exited"]}));
    assert_eq!(restarts.len(), 2, "{restarts:?}");
    let started = restarts.iter().find(|row| row[1] == "worker started").unwrap();
    assert_eq!(started[0], start + 30_000);
    assert_eq!(
        started[2],
        "b.example, llm/8080, model gemma (q4), pid 77".replace("example, ", "example/")
    );
    assert_eq!(started[3], "worker_started,b.example");
    assert_eq!(rows(json!({"kind": "worker_started", "model": "gemma \\(q4\\)"})).len(), 1);
    assert_eq!(rows(json!({"kind": "worker_started", "model": "other"})).len(), 0);
    assert_eq!(rows(json!({"kind": "worker_started", "hive": ["a"]})).len(), 0);
}

#[test]
fn the_editor_learns_metrics_their_fields_and_values() {
    let (queen, _) = queen();
    for body in [json!({}), json!({"metric": "cpu_pct", "payload": {"hive": "a"}})] {
        let metrics = post(&queen, "/grafana/metrics", &body).ok();
        let metrics = metrics.as_array().unwrap();
        let cpu = metrics.iter().find(|metric| metric["value"] == "cpu_pct").unwrap();
        let fields = cpu["payloads"].as_array().unwrap();
        let names: Vec<_> = fields.iter().map(|field| field["name"].as_str().unwrap()).collect();
        let expected =
            ["agg", "group_by", "across", "format", "hive", "group", "instance", "model", "pid"];
        assert_eq!(names, expected);
        assert_eq!(fields[0]["options"][0], json!({"value": "avg", "label": "avg"}));
        assert!(fields[4].get("options").is_none(), "{}", fields[4]);
        assert!(metrics.iter().any(|metric| metric["value"] == "events"));
    }
    let options = |payload: Value| {
        let body = json!({"metric": "cpu_pct", "payload": payload, "name": "instance"});
        post(&queen, "/grafana/metric-payload-options", &body).ok()
    };
    let both = json!([{"value": "8080", "label": "8080"}, {"value": "8081", "label": "8081"}]);
    assert_eq!(options(json!({"hive": "a", "instance": "8080"})), both);
    assert_eq!(options(json!({"hive": "b\\.example"})), json!([both[0]]));
}

#[test]
fn variables_and_filters_offer_what_is_there() {
    let (queen, start) = queen();
    let range = json!({"from": wire(start), "to": wire(start + 60_000)});
    let values = |payload: Value| {
        let answer =
            post(&queen, "/grafana/variable", &json!({"payload": payload, "range": range})).ok();
        let text = |choice: &Value| {
            assert_eq!(choice["__text"], choice["__value"]);
            choice["__text"].as_str().unwrap().to_owned()
        };
        answer.as_array().unwrap().iter().map(text).collect::<Vec<_>>()
    };
    assert_eq!(values(json!({"target": "hive"})), ["a", "b.example"]);
    assert_eq!(values(json!("model")), ["gemma (q4)", "llama-3.2-1b"]);
    assert_eq!(
        values(json!({"target": "instance", "hive": ["a"], "model": "llama-3.2-1b"})),
        ["8080", "8081"]
    );
    assert_eq!(values(json!({"target": "hive", "match": "instance=8081"})), ["a"]);
    assert_eq!(
        values(json!({"target": "hive", "match": ["model=~gemma.*", "group=llm"]})),
        ["b.example"]
    );
    assert!(values(json!({"target": "metrics"})).contains(&"cpu_pct".into()));
    assert!(values(json!({"target": "kinds"})).contains(&"worker_started".into()));

    // Some versions send no body, and still its type.
    let keys = queen.client().send("POST", "/grafana/tag-keys", &[JSON], b"").ok();
    assert_eq!(keys[0], json!({"type": "string", "text": "hive"}));
    let body = json!({"key": "hive", "timeRange": range, "scopes": [],
        "filters": [{"key": "hive", "operator": "=", "value": "a"}, {"key": "model", "operator": "=~", "value": "gemma.*"}]});
    assert_eq!(post(&queen, "/grafana/tag-values", &body).ok(), json!([{"text": "b.example"}]));
}

#[test]
fn what_cannot_be_answered_says_why() {
    let (queen, start) = queen();
    let said = |body: &Value, status: u16, code: &str| {
        post(&queen, "/grafana/query", body).problem(status, code)
    };
    let wrong = said(&panel(start, target("cpu", json!({}))), 400, "unknown_metric");
    assert!(wrong.contains("\"cpu\"") && wrong.contains("cpu_pct"), "{wrong}");
    for (payload, part) in [
        (json!({"hive": "("}), "hive: is not a regular expression"),
        (json!({"hive": {"a": 1}}), "hive: "),
        (json!({"hive": [["a"]]}), "hive: "),
        (json!({"hive": "$nobody"}), "nobody"),
        (json!({"agg": "median"}), "avg, min"),
        (json!({"agg": ["avg", "min"]}), "agg: "),
        (json!({"group_by": "gpu"}), "hive, group"),
        (json!({"across": 5}), "across: "),
        (json!({"format": "csv"}), "timeseries, table"),
        (json!([]), "payload: "),
        (json!("hive"), "payload: "),
        (json!(5), "payload: "),
    ] {
        let message = said(&panel(start, target("cpu_pct", payload.clone())), 422, "invalid_field");
        assert!(message.contains(part), "{payload}: {message}");
    }
    said(&panel(start, target("events", json!({"kind": "x"}))), 422, "invalid_field");
    for (member, value) in [
        ("targets", json!({})),
        ("targets", json!([5])),
        ("targets", json!([{"target": 5}])),
        ("targets", json!(vec![json!({"target": "cpu_pct"}); 101])),
        ("range", json!({"from": "yesterday"})),
        ("range", json!({"from": wire(start), "to": wire(start)})),
        ("range", json!([])),
        ("maxDataPoints", json!(-1)),
        ("maxDataPoints", json!("many")),
        ("intervalMs", json!({})),
        ("filters", json!("x")),
        ("filters", json!(["x"])),
        ("filters", json!([{"key": "color", "operator": "=", "value": "red"}])),
        ("filters", json!([{"key": "hive", "operator": "<", "value": "a"}])),
        ("filters", json!([{"key": "hive", "operator": "=~", "value": "("}])),
    ] {
        let mut body = panel(start, target("cpu_pct", json!({})));
        body[member] = value;
        said(&body, 422, "invalid_field");
    }
    let raw = |body: &[u8]| queen.client().send("POST", "/grafana/query", &[JSON], body);
    assert_eq!(raw(b"").ok(), json!([]));
    assert_eq!(raw(b"{}").ok(), json!([]));
    raw(b"[]").problem(422, "invalid_field");
    raw(b"{").problem(400, "malformed_json");
    raw(&b"[".repeat(100_000)).problem(400, "malformed_json");
    raw(&vec![b' '; (4 << 20) + 1]).problem(413, "too_large");
    for path in ["variable", "tag-values", "metric-payload-options"] {
        let path = format!("/grafana/{path}");
        post(&queen, &path, &json!({"payload": {"target": "x"}, "key": "x", "name": "x"}))
            .problem(422, "invalid_field");
        post(&queen, &path, &json!({})).problem(422, "invalid_field");
    }
}

#[test]
fn a_panel_that_would_not_fit_is_refused() {
    let (queen, start) = queen();
    let target = json!({"target": "cpu_pct", "payload": {}});
    let mut body = panel(start, json!(vec![target; 100]));
    // Ten thousand points for each of three workers, a hundred times.
    body["range"] = json!({"from": wire(start - 10_000_000), "to": wire(start + 60_000)});
    body["maxDataPoints"] = json!(11_000);
    let message =
        post(&queen, "/grafana/query", &body).field_problem(422, "invalid_field", "targets");
    assert!(message.contains("group them"), "{message}");
}

#[test]
fn no_pattern_holds_her_up() {
    let (queen, start) = queen();
    let begun = Instant::now();
    for pattern in [
        "(a+)+$",
        "(a|aa)+b",
        "(.*)*x",
        "((((a{0,99}){0,99}){0,99}){0,99}){0,99}",
        &"(a?)".repeat(200),
    ] {
        let reply = post(
            &queen,
            "/grafana/query",
            &panel(start, target("cpu_pct", json!({"hive": pattern}))),
        );
        assert!(reply.status == 200 || reply.status == 422, "{pattern}: {}", reply.text());
    }
    assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
}

/// Puts the values of a variable where the plugin does: a list where it stands bare, the first
/// one inside of quotes.
fn interpolated(text: &str, variables: &[(String, Vec<Value>)]) -> String {
    variables.iter().fold(text.to_owned(), |text, (name, values)| {
        let first = serde_json::to_string(values.first().expect("a value")).unwrap();
        text.replace(&format!("\"${name}\""), &first)
            .replace(&format!("${name}"), &json!(values).to_string())
    })
}

/// A query of a dashboard as the plugin sends it. What does not parse it would leave out unseen.
fn as_sent(target: &Value, variables: &[(String, Vec<Value>)]) -> Value {
    let payload = interpolated(target["payload"].as_str().expect("a payload"), variables);
    let mut sent = target.clone();
    sent["payload"] = serde_json::from_str(&payload).expect("a payload is JSON");
    sent
}

#[track_caller]
fn check_dashboard(file: &str) {
    let (queen, start) = queen();
    let path = format!("{}/grafana/dashboards/{file}", env!("CARGO_MANIFEST_DIR"));
    let dashboard: Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    let range = json!({"from": wire(start), "to": wire(start + 60_000)});
    let mut variables: Vec<(String, Vec<Value>)> = Vec::new();
    // The hive and the model with the restart.
    let chosen = ["b.example", "gemma (q4)"];
    for variable in dashboard["templating"]["list"].as_array().unwrap() {
        let query = interpolated(variable["query"]["query"].as_str().unwrap(), &variables);
        let payload: Value = serde_json::from_str(&query).expect("a variable's query is JSON");
        let answer =
            post(&queen, "/grafana/variable", &json!({"payload": payload, "range": range})).ok();
        let mut values: Vec<Value> =
            answer.as_array().unwrap().iter().map(|choice| choice["__value"].clone()).collect();
        assert!(!values.is_empty(), "{file}: {variable}");
        if variable["multi"] == false {
            values.retain(|value| chosen.iter().any(|chosen| value == chosen));
        }
        variables.push((variable["name"].as_str().unwrap().into(), values));
    }
    let ask = |target: &Value| frames(&queen, &panel(start, json!([as_sent(target, &variables)])));
    let panels = dashboard["panels"].as_array().unwrap();
    assert!(panels.len() >= 12, "{file} has {} panels", panels.len());
    for panel in panels {
        let title = &panel["title"];
        for target in panel["targets"].as_array().unwrap() {
            let frames = ask(target);
            assert!(!frames.is_empty(), "{file}: {title} is empty");
            for frame in frames {
                let number = |point: &Value| point[0].is_number();
                let points = frame["datapoints"].as_array();
                let has_points = points.is_some_and(|points| points.iter().any(number));
                let has_rows = frame["rows"].as_array().is_some_and(|rows| !rows.is_empty());
                assert!(has_points || has_rows, "{file}: {title} has an empty frame: {frame}");
            }
        }
    }
    for annotation in dashboard["annotations"]["list"].as_array().unwrap() {
        let frames = ask(&annotation["target"]);
        let rows = frames[0]["rows"].as_array().unwrap();
        // Hives come online about a second after their first heartbeat: not waited for here.
        assert!(!rows.is_empty() || file == "fleet.json", "{file}: {annotation} is empty");
    }
}

#[test]
fn every_query_of_the_fleets_dashboard_has_an_answer() {
    check_dashboard("fleet.json");
}

#[test]
fn every_query_of_a_hives_dashboard_has_an_answer() {
    check_dashboard("hive.json");
}

#[test]
fn every_query_of_a_models_dashboard_has_an_answer() {
    check_dashboard("model.json");
}
