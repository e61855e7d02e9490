//! A heartbeat as JSON, written straight: a replay encodes a million workers a second.
//!
//! Invariant: it is what serde writes of a [`HiveTelemetry`], whose definition is the contract.

use hive_contract::event::HiveTelemetry;
use hive_contract::heartbeat::{Gpu, Node, Worker, WorkerGpu};

/// About how many bytes a worker takes.
const WORKER_BYTES: usize = 320;

/// Writes members of an object, each with a comma before it; null where there is nothing.
macro_rules! members {
    ($out:ident, $object:ident: $($write:ident $name:ident),*) => {{$(
        $out.push_str(concat!(",\"", stringify!($name), "\":"));
        match &$object.$name {
            Some(value) => members!(@$write $out, value),
            None => $out.push_str("null"),
        }
    )*}};
    (@figure $out:ident, $value:ident) => { $value.push_json($out) };
    (@text $out:ident, $value:ident) => { push_text($out, $value.as_str()) };
}

/// Appends a heartbeat.
pub(super) fn push(out: &mut String, telemetry: &HiveTelemetry<'_>) {
    out.reserve(512 + WORKER_BYTES * telemetry.workers.len());
    out.push_str("{\"type\":\"hive_telemetry\"");
    if let Some(id) = telemetry.id {
        out.push_str(",\"id\":");
        out.push_str(itoa::Buffer::new().format(id));
    }
    // A name needs no escapes.
    out.push_str(",\"hive_id\":\"");
    out.push_str(telemetry.hive_id.as_str());
    out.push_str("\",\"timestamp\":\"");
    out.push_str(&telemetry.timestamp.to_string());
    out.push_str("\",\"workers\":");
    push_list(out, &telemetry.workers, |out, worker| push_worker(out, worker));
    out.push_str(",\"gpus\":");
    push_list(out, telemetry.gpus, push_gpu);
    out.push_str(",\"node\":");
    match telemetry.node {
        Some(node) => push_node(out, node),
        None => out.push_str("null"),
    }
    if telemetry.backfill {
        out.push_str(",\"backfill\":true");
    }
    out.push('}');
}

fn push_worker(out: &mut String, worker: &Worker) {
    out.push_str("{\"pid\":");
    worker.pid.push_json(out);
    out.push_str(",\"group\":\"");
    out.push_str(worker.group.as_str());
    out.push_str("\",\"instance\":\"");
    out.push_str(worker.instance.as_str());
    out.push('"');
    members!(out, worker: figure cpu_pct, figure rss_mb, figure gpu_util_pct, figure vram_mb,
        figure total_vram_mb, text model, figure uptime_s, figure io_r_mb_s, figure io_w_mb_s);
    out.push_str(",\"gpus\":");
    push_list(out, &worker.gpus, push_part);
    members!(out, worker: figure requests_running, figure requests_waiting, figure kv_cache_pct);
    out.push('}');
}

fn push_part(out: &mut String, part: &WorkerGpu) {
    push_object(out, |out| members!(out, part: text uuid, figure util_pct, figure vram_mb));
}

fn push_gpu(out: &mut String, gpu: &Gpu) {
    push_object(out, |out| {
        members!(out, gpu: text uuid, figure index, text name, figure util_pct,
            figure memory_used_mb, figure memory_total_mb, figure temperature_c, figure power_w,
            text state);
    });
}

fn push_node(out: &mut String, node: &Node) {
    push_object(out, |out| {
        members!(out, node: figure cpu_pct, figure cpu_count, figure memory_used_mb,
            figure memory_total_mb, figure load_1m, figure uptime_s);
    });
}

/// An object all of whose members are written with a comma before them.
fn push_object(out: &mut String, members: impl FnOnce(&mut String)) {
    let begin = out.len();
    members(out);
    // The first comma's place.
    out.replace_range(begin..=begin, "{");
    out.push('}');
}

fn push_list<T>(out: &mut String, list: &[T], push: impl Fn(&mut String, &T)) {
    out.push('[');
    for (place, element) in list.iter().enumerate() {
        if place > 0 {
            out.push(',');
        }
        push(out, element);
    }
    out.push(']');
}

fn push_text(out: &mut String, text: &str) {
    let is_plain = |byte: u8| byte >= b' ' && byte != b'"' && byte != b'\\';
    if text.bytes().all(is_plain) {
        out.push('"');
        out.push_str(text);
        out.push('"');
    } else {
        out.push_str(&serde_json::Value::from(text).to_string());
    }
}

#[cfg(test)]
mod tests {
    use hive_contract::{Heartbeat, Timestamp};
    use proptest::prelude::*;
    use serde_json::{Map, Value, json};

    use super::*;

    const WORKER: [&str; 12] = [
        "cpu_pct",
        "rss_mb",
        "gpu_util_pct",
        "vram_mb",
        "total_vram_mb",
        "model",
        "uptime_s",
        "io_r_mb_s",
        "io_w_mb_s",
        "requests_running",
        "requests_waiting",
        "kv_cache_pct",
    ];
    const PART: [&str; 3] = ["uuid", "util_pct", "vram_mb"];
    const GPU: [&str; 9] = [
        "uuid",
        "index",
        "name",
        "util_pct",
        "memory_used_mb",
        "memory_total_mb",
        "temperature_c",
        "power_w",
        "state",
    ];
    const NODE: [&str; 6] =
        ["cpu_pct", "cpu_count", "memory_used_mb", "memory_total_mb", "load_1m", "uptime_s"];

    fn value(name: &str) -> BoxedStrategy<Value> {
        match name {
            "model" => "[ -~é\"\\\\]{1,12}".prop_map(Value::from).boxed(),
            "uuid" | "name" | "state" => "[\\x01-~é]{0,12}".prop_map(Value::from).boxed(),
            "index" | "cpu_count" | "requests_running" | "requests_waiting" => {
                (0..1_u64 << 53).prop_map(Value::from).boxed()
            }
            name if name.ends_with("util_pct") || name == "kv_cache_pct" => {
                (0..=100_000_u32).prop_map(|n| json!(f64::from(n) / 1000.0)).boxed()
            }
            _ => prop_oneof![
                (0..1_u64 << 53).prop_map(Value::from),
                (0.0..1e13).prop_map(Value::from),
                (0..10_000_000_u32).prop_map(|n| json!(f64::from(n) / 1000.0)),
            ]
            .boxed(),
        }
    }

    /// An object with some of these members.
    fn object(names: &'static [&'static str]) -> impl Strategy<Value = Map<String, Value>> {
        let member = |name: &&'static str| {
            let name = *name;
            prop::option::weighted(0.8, value(name)).prop_map(move |v| Some((name.to_owned(), v?)))
        };
        let members: Vec<_> = names.iter().map(member).collect();
        members.prop_map(|members| members.into_iter().flatten().collect())
    }

    fn worker() -> impl Strategy<Value = Map<String, Value>> {
        (object(&WORKER), prop::collection::vec(object(&PART), 0..3)).prop_map(|(mut of, parts)| {
            of.insert("gpus".into(), json!(parts));
            of
        })
    }

    proptest! {
        #[test]
        fn it_is_what_serde_writes(
            workers in prop::collection::vec(worker(), 0..4),
            gpus in prop::collection::vec(object(&GPU), 0..3),
            node in prop::option::of(object(&NODE)),
            ms in 0..253_402_300_799_999_i64,
            id in prop::option::of(0..i64::MAX),
            backfill: bool,
        ) {
            let workers = workers.into_iter().enumerate().map(|(place, mut worker)| {
                worker.insert("pid".into(), json!(place));
                worker.insert("group".into(), json!("llm"));
                worker.insert("instance".into(), json!(format!("80_{place}")));
                worker
            });
            let workers: Vec<_> = workers.collect();
            let body = json!({"hive": {"id": "h:1"}, "workers": workers, "gpus": gpus, "node": node});
            let timestamp = Timestamp::from_millis(ms).unwrap();
            let heartbeat = Heartbeat::parse(body.to_string().as_bytes(), timestamp);
            let heartbeat = heartbeat.map_err(|error| TestCaseError::fail(format!("{error:?}")))?;
            let telemetry = HiveTelemetry { id, ..HiveTelemetry::of(&heartbeat, backfill) };
            let mut pushed = String::new();
            push(&mut pushed, &telemetry);
            prop_assert_eq!(pushed, serde_json::to_string(&telemetry).unwrap());
        }
    }
}
