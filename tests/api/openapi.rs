//! The description of the routes says what they do: it has every route, and what they answer is
//! as it says, without a member that it does not name.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::support::Queen;
use crate::support::client::{JSON, Reply};
use crate::support::heartbeat::{example, now_ms, wire};

/// What routes are asked with.
const METHODS: [&str; 3] = ["get", "post", "delete"];

fn document(queen: &Queen) -> Value {
    let reply = queen.get("/openapi.json");
    reply.ok()
}

/// Every operation of the document, as `GET /path`.
fn described(document: &Value) -> BTreeSet<String> {
    let paths = document["paths"].as_object().unwrap();
    let operations = paths.iter().flat_map(|(path, item)| {
        item.as_object()
            .unwrap()
            .keys()
            .map(move |method| format!("{} {path}", method.to_uppercase()))
    });
    operations.collect()
}

/// Every operation of the router: its calls are what the page of all routes consists of.
fn routed() -> BTreeSet<String> {
    let page = include_str!("../../src/api.rs");
    let mut routes = BTreeSet::new();
    for route in page.split(".route(\"").skip(1) {
        let (path, handlers) = route.split_once('"').unwrap();
        let handlers = handlers.lines().next().unwrap();
        for method in METHODS.iter().filter(|method| handlers.contains(&format!("{method}("))) {
            routes.insert(format!("{} {path}", method.to_uppercase()));
        }
    }
    routes
}

#[test]
fn it_has_every_route() {
    let queen = Queen::start();
    let document = document(&queen);
    assert!(document["openapi"].as_str().unwrap().starts_with("3.1."));
    assert_eq!(document["info"]["version"], env!("CARGO_PKG_VERSION"));
    let routed = routed();
    assert!(routed.len() > 20, "{routed:?}");
    assert_eq!(described(&document), routed);
}

#[test]
fn it_is_valid_and_leads_nowhere() {
    let queen = Queen::start();
    let document = document(&queen);
    let mut names = BTreeSet::new();
    each_object(&document, &mut |object| {
        if let Some(target) = object.get("$ref").and_then(Value::as_str) {
            let pointer = target.strip_prefix('#').unwrap();
            assert!(document.pointer(pointer).is_some(), "{target} is not there");
        }
        if let Some(name) = object.get("operationId").and_then(Value::as_str) {
            assert!(names.insert(name.to_owned()), "{name} is there twice");
        }
    });
    assert_eq!(names.len(), described(&document).len());
    for (name, schema) in document["components"]["schemas"].as_object().unwrap() {
        jsonschema::draft202012::meta::validate(schema).unwrap_or_else(|e| panic!("{name}: {e}"));
    }
}

#[test]
fn answers_are_as_described() {
    let queen = Queen::start();
    let document = document(&queen);
    let check = |operation: &str, reply: Reply| {
        check(&document, operation, &reply);
    };
    let now = now_ms();
    let one = example(&wire(now - 2000));
    check("POST /v1/hive-heartbeat", queen.post_bytes(one.as_bytes(), &[JSON]));
    check("POST /v1/hive-heartbeat", queen.post(&json!({"hive": {"id": "/"}})));
    check("POST /v1/hive-heartbeats", queen.post_lines(&[example(&wire(now - 1000))]));

    for (operation, path) in [
        ("GET /v1/hives", "/v1/hives"),
        ("GET /v1/hives/{id}", "/v1/hives/localhost"),
        ("GET /v1/hives/{id}", "/v1/hives/nobody"),
        ("GET /v1/workers", "/v1/workers?state=any"),
        ("GET /v1/workers", "/v1/workers?state=none"),
        ("GET /v1/workers/{hive}/{group}/{instance}", "/v1/workers/localhost/llm/8080"),
        ("GET /v1/models", "/v1/models"),
        ("GET /v1/history/query", "/v1/history/query?metric=vram_mb&start=-5s&step=1s"),
        ("GET /v1/history/query", "/v1/history/query?metric=vram_mb&start=-5s&step=1s&format=rows"),
        ("GET /v1/history/query", "/v1/history/query?metric=vram_mb&start=-5s&step=1s&format=csv"),
        ("GET /v1/history/query", "/v1/history/query?metric=vram_mb&start=-300d&step=1s"),
        ("GET /v1/history/query", "/v1/history/query"),
        ("GET /v1/history/metrics", "/v1/history/metrics"),
        ("GET /v1/history/labels/{name}/values", "/v1/history/labels/model/values"),
        ("GET /v1/history/events", "/v1/history/events"),
        ("GET /v1/history/export", "/v1/history/export?start=-5s&limit=1"),
        ("GET /v1/history/export", "/v1/history/export?start=-5s&format=csv"),
        (
            "GET /v1/history/hives/{id}/availability",
            "/v1/history/hives/localhost/availability?start=-5s",
        ),
        ("GET /healthz", "/healthz"),
        ("GET /readyz", "/readyz"),
        ("GET /version", "/version"),
        ("GET /metrics", "/metrics"),
        ("GET /grafana", "/grafana"),
    ] {
        check(operation, queen.get(path));
    }
    for (operation, path, body) in [
        ("POST /v1/route", "/v1/route", json!({"model": "llama-3.2-1b", "idle_only": false})),
        ("POST /v1/route", "/v1/route", json!({"model": "another"})),
        (
            "POST /v1/history/query",
            "/v1/history/query",
            json!({"metric": ["cpu_pct"], "step": "1s"}),
        ),
        ("POST /grafana/metrics", "/grafana/metrics", json!({})),
        ("POST /grafana/tag-keys", "/grafana/tag-keys", json!({})),
    ] {
        check(operation, queen.client().send("POST", path, &[JSON], body.to_string().as_bytes()));
    }
    let event = described_by(&document, json!({"$ref": "#/components/schemas/StreamEvent"}));
    let mut stream = queen.stream("?since=-1m&backfill=true");
    let mut kinds = BTreeSet::new();
    while kinds.len() < 3 {
        let frame = stream.until("an event", |frame| !frame.data.is_null());
        assert_valid("the stream", &event, &frame.data);
        kinds.insert(frame.data["type"].as_str().unwrap().to_owned());
    }
    assert_eq!(Vec::from_iter(kinds), ["hive_telemetry", "lifecycle", "queen"]);
}

/// What the document says of such an answer, applied to it.
fn check(document: &Value, operation: &str, reply: &Reply) {
    let status = reply.status;
    let content_type = reply.header("content-type").unwrap().split(';').next().unwrap();
    let json = ["application/json", "application/problem+json"].contains(&content_type);
    let body = if json { reply.json() } else { reply.text().into() };
    let (method, path) = operation.split_once(' ').unwrap();
    let responses = &document["paths"][path][method.to_lowercase()]["responses"];
    let response = responses.get(status.to_string()).unwrap_or(&responses["default"]);
    let response = match response.get("$ref").and_then(Value::as_str) {
        Some(target) => document.pointer(&target[1..]).unwrap(),
        None => response,
    };
    let schema = &response["content"][content_type]["schema"];
    assert!(schema.is_object(), "{operation}: {status} with {content_type} is not described");
    // Of ndjson, each line by itself.
    let values = if content_type == "application/x-ndjson" {
        reply.text().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    } else {
        vec![body]
    };
    let schema = described_by(document, schema.clone());
    values.iter().for_each(|value| assert_valid(operation, &schema, value));
}

/// A schema that can be used by itself, and that allows no member that it does not name.
fn described_by(document: &Value, mut schema: Value) -> Value {
    schema["components"] = document["components"].clone();
    close(&mut schema);
    schema
}

fn close(value: &mut Value) {
    match value {
        Value::Object(object) => {
            // What has members that it names is an object; a list of properties is not.
            if object.get("properties").is_some_and(|p| p.is_object())
                && object.get("type").is_some_and(|kind| kind == "object")
            {
                object.entry("additionalProperties").or_insert(false.into());
            }
            object.values_mut().for_each(close);
        }
        Value::Array(values) => values.iter_mut().for_each(close),
        _ => {}
    }
}

fn assert_valid(what: &str, schema: &Value, value: &Value) {
    let validator = jsonschema::draft202012::new(schema).unwrap();
    let errors: Vec<String> = validator
        .iter_errors(value)
        .map(|error| format!("{}: {error}", error.instance_path()))
        .collect();
    assert!(errors.is_empty(), "{what}: {errors:#?}\n{value:#}");
}

fn each_object(value: &Value, look: &mut impl FnMut(&serde_json::Map<String, Value>)) {
    match value {
        Value::Object(object) => {
            look(object);
            object.values().for_each(|value| each_object(value, look));
        }
        Value::Array(values) => values.iter().for_each(|value| each_object(value, look)),
        _ => {}
    }
}
