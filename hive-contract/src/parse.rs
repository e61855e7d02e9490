//! Bytes to a [`Heartbeat`], or the reason why not.
//!
//! Invariant: a heartbeat is taken whole or not at all.

use serde::Deserialize;
use serde::de::{DeserializeOwned, IgnoredAny};

use crate::bounded::Bounded;
use crate::heartbeat::{Agent, Gpu, Heartbeat, Hive, MAX_GPUS, Node, Workers};
use crate::time::Timestamp;
use crate::units::Milliseconds;

/// So much is shown of the beginning and of the end of a long reason, in characters.
const SHOWN: usize = 150;

/// Why a JSON body was not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Rejection {
    /// It is not JSON.
    #[error("not JSON: {0}")]
    Malformed(String),
    /// It is JSON of the wrong type or range.
    #[error("{field}: {detail}")]
    Invalid {
        /// The path of the field, such as `workers[3].gpu_util_pct`.
        field: String,
        /// What is wrong, with the bound.
        detail: String,
    },
}

/// A heartbeat as it stands on the wire, its timestamp still optional.
#[derive(Deserialize)]
struct Wire {
    hive: Hive,
    timestamp: Option<Timestamp>,
    interval_ms: Option<Milliseconds>,
    #[serde(default)]
    workers: Workers,
    #[serde(default)]
    gpus: Bounded<Gpu, MAX_GPUS>,
    node: Option<Node>,
    agent: Option<Agent>,
}

impl Heartbeat {
    /// Reads one heartbeat from JSON. Without a timestamp it is one of the moment `received`.
    ///
    /// # Errors
    /// The bytes are no JSON, or a field has the wrong type or is out of its bounds.
    pub fn parse(json: &[u8], received: Timestamp) -> Result<Self, Rejection> {
        let wire: Wire = object(json)?;
        Ok(Self {
            hive: wire.hive,
            timestamp: wire.timestamp.unwrap_or(received),
            interval_ms: wire.interval_ms,
            workers: wire.workers,
            gpus: wire.gpus,
            node: wire.node,
            agent: wire.agent,
        })
    }
}

/// Reads a JSON object; on failure says which field is at fault.
///
/// # Errors
/// The bytes are no JSON, or a field has the wrong type or is out of its bounds.
pub fn object<T: DeserializeOwned>(json: &[u8]) -> Result<T, Rejection> {
    // Checked once as a whole: several times faster than string by string.
    let text = std::str::from_utf8(json)
        .map_err(|error| Rejection::Malformed(format!("no UTF-8 text: {error}")))?;
    // The path is worth its cost only when there is something to explain: a second reading.
    match serde_json::from_str(text) {
        // Serde would read a struct from an array too, field by field.
        Ok(value) if json.trim_ascii_start().starts_with(b"{") => Ok(value),
        Ok(_) => Err(Rejection::Invalid {
            field: "body".into(),
            detail: "expected a JSON object".into(),
        }),
        Err(error) => Err(explain::<T>(json, &error)),
    }
}

fn explain<T: DeserializeOwned>(json: &[u8], error: &serde_json::Error) -> Rejection {
    let message = error.to_string();
    let overflow = message.starts_with("number out of range");
    if !error.is_data() && !overflow {
        return Rejection::Malformed(message);
    }
    // A wrong type is reported where it is met; what follows may not be JSON at all.
    if let Err(error) = serde_json::from_slice::<IgnoredAny>(json) {
        return Rejection::Malformed(error.to_string());
    }
    let mut reader = serde_json::Deserializer::from_slice(json);
    let Err(error) = serde_path_to_error::deserialize::<_, T>(&mut reader) else {
        return Rejection::Malformed(message);
    };
    let path = match error.path().to_string() {
        path if path == "." => String::new(),
        path => path,
    };
    let message = error.inner().to_string();
    let detail = message.rsplit_once(" at line ").map_or(message.as_str(), |(detail, _)| detail);
    let missing = detail.strip_prefix("missing field `").and_then(|rest| rest.strip_suffix('`'));
    match missing {
        Some(name) if path.is_empty() => {
            Rejection::Invalid { field: name.into(), detail: "is required".into() }
        }
        Some(name) => {
            Rejection::Invalid { field: format!("{path}.{name}"), detail: "is required".into() }
        }
        None => Rejection::Invalid {
            field: if path.is_empty() { "body".into() } else { path },
            detail: brief(detail),
        },
    }
}

/// The beginning and the end of a text that may repeat what was given, however long.
fn brief(text: &str) -> String {
    let chars = text.chars().count();
    if chars <= 2 * SHOWN {
        return text.into();
    }
    let shown = |from| text.chars().skip(from).take(SHOWN);
    shown(0).chain(['…']).chain(shown(chars - SHOWN)).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::heartbeat::MAX_WORKERS;

    fn now() -> Timestamp {
        Timestamp::from_millis(1_761_849_000_000).unwrap()
    }

    fn parse(json: &str) -> Result<Heartbeat, Rejection> {
        Heartbeat::parse(json.as_bytes(), now())
    }

    fn invalid(json: &str) -> String {
        match parse(json) {
            Err(rejection @ Rejection::Invalid { .. }) => rejection.to_string(),
            other => panic!("{json} gave {other:?}"),
        }
    }

    fn worker(fields: &str) -> String {
        format!(
            r#"{{"hive":{{"id":"h"}},"workers":[{{"pid":1,"group":"a","instance":"b",{fields}}}]}}"#
        )
    }

    #[test]
    fn the_smallest_heartbeat() {
        let heartbeat = parse(r#"{"hive":{"id":"h"}}"#).unwrap();
        assert_eq!(heartbeat.timestamp, now());
        assert!(heartbeat.workers.is_empty());
        assert!(heartbeat.node.is_none());
    }

    #[test]
    fn null_is_absent_and_unknown_fields_are_ignored() {
        let heartbeat = parse(
            r#"{"hive":{"id":"h","x":[1]},"workers":null,"gpus":null,"node":null,"timestamp":null,
                "agent":{"errors":null},"future":{"a":1}}"#,
        )
        .unwrap();
        assert_eq!(heartbeat.timestamp, now());
        let heartbeat = parse(&worker(r#""cpu_pct":null,"gpus":null,"model":"""#)).unwrap();
        assert_eq!(heartbeat.workers[0].cpu_pct, None);
        assert_eq!(heartbeat.workers[0].model, None);
    }

    #[test]
    fn what_is_wrong_is_named() {
        assert_eq!(
            invalid(&worker(r#""gpu_util_pct":120.5"#)),
            "workers[0].gpu_util_pct: 120.5 is not in 0..=100"
        );
        assert_eq!(invalid(&worker(r#""rss_mb":-1"#)), "workers[0].rss_mb: -1 is not in 0..2^53");
        assert_eq!(invalid(r#"{"hive":{}}"#), "hive.id: is required");
        assert_eq!(invalid("{}"), "hive: is required");
        assert_eq!(
            invalid(r#"{"hive":{"id":"h"},"workers":[{"pid":1,"group":"a"}]}"#),
            "workers[0].instance: is required"
        );
        assert_eq!(
            invalid(&worker(r#""rss_mb":"4""#)),
            "workers[0].rss_mb: invalid type: string \"4\", expected a number in 0..2^53"
        );
        assert_eq!(
            invalid(&worker(r#""uptime_s":9007199254740992"#)),
            "workers[0].uptime_s: 9007199254740992 is not in 0..2^53"
        );
        assert!(
            invalid(&worker(r#""cpu_pct":1e999"#)).starts_with("workers[0].cpu_pct: number out")
        );
        assert_eq!(
            invalid(
                r#"{"hive":{"id":"h"},"workers":[{"pid":1,"group":"a","instance":"b"},
                    {"pid":2,"group":"a","instance":"b"}]}"#
            ),
            "workers: worker a/b is there twice"
        );
        assert!(invalid(r#"{"hive":{"id":"h"},"timestamp":"noon"}"#).starts_with("timestamp: "));
        assert_eq!(
            invalid(r#"{"hive":{"id":"a b"}}"#),
            "hive.id: ' ' is not allowed in a name; letters, digits and ._:@- are"
        );
    }

    #[test]
    fn a_reason_repeats_no_more_than_it_must() {
        let long = "\u{1f41d}".repeat(100_000);
        let reason = invalid(&worker(&format!(r#""rss_mb":"{long}""#)));
        assert!(reason.starts_with("workers[0].rss_mb: invalid type: string \"\u{1f41d}"));
        assert!(reason.ends_with("\", expected a number in 0..2^53"), "{reason}");
        assert!(reason.len() < 2048, "{} bytes", reason.len());
        let reason = parse(&long).unwrap_err().to_string();
        assert!(reason.len() < 2048, "{} bytes", reason.len());
    }

    #[test]
    fn figures_of_any_size_survive() {
        for figure in [
            "8796093022208.001",
            "5034571825498.537",
            "1e13",
            "4503599627370.4967",
            "9007199254740991",
        ] {
            let heartbeat = parse(&worker(&format!(r#""rss_mb":{figure},"cpu_pct":{figure}"#)));
            let heartbeat = heartbeat.unwrap();
            let json = serde_json::to_string(&heartbeat).unwrap();
            assert_eq!(parse(&json).unwrap(), heartbeat, "{figure}");
        }
    }

    #[test]
    fn arrays_do_not_stand_for_objects() {
        invalid(r#"[{"id":"h"}]"#);
        invalid(&format!("{}1{}", "[".repeat(10_000), "]".repeat(10_000)));
        invalid(r#"{"hive":["h"]}"#);
        invalid(r#"{"hive":{"id":"h"},"workers":[[1,"a","b"]]}"#);
        invalid(r#"{"hive":{"id":"h"},"node":[1.0]}"#);
    }

    #[test]
    fn too_many_workers_are_refused() {
        let list = |n: usize| {
            let workers: Vec<_> =
                (0..n).map(|i| format!(r#"{{"pid":{i},"group":"a","instance":"{i}"}}"#)).collect();
            format!(r#"{{"hive":{{"id":"h"}},"workers":[{}]}}"#, workers.join(","))
        };
        assert_eq!(parse(&list(MAX_WORKERS)).unwrap().workers.len(), MAX_WORKERS);
        assert_eq!(invalid(&list(MAX_WORKERS + 1)), "workers: more than 1024 elements");
    }

    #[test]
    fn what_is_no_json_is_malformed() {
        for json in
            ["", "{", "nonsense", r#"{"hive":{"id":"h"}} x"#, "\u{0}", "[1", r#"{"hive":[}"#]
        {
            assert!(matches!(parse(json), Err(Rejection::Malformed(_))), "{json:.20}");
        }
        assert!(Heartbeat::parse(b"{\"hive\":{\"id\":\"\xff\"}}", now()).is_err());
    }

    #[test]
    fn the_contract_example_survives() {
        let json = r#"{"hive":{"id":"localhost","hostname":"127.0.0.1","port":7835,"operational_status":"ready","health_status":"healthy","version":"0.1.0"},"timestamp":"2025-10-30T18:30:00.000Z","interval_ms":1000,"workers":[{"pid":12345,"group":"llm","instance":"8080","cpu_pct":45.2,"rss_mb":4096,"gpu_util_pct":85.0,"vram_mb":8192,"total_vram_mb":24576,"model":"llama-3.2-1b","uptime_s":3600,"io_r_mb_s":0.0,"io_w_mb_s":0.0,"gpus":[{"uuid":"GPU-1","util_pct":85.0,"vram_mb":8192}],"requests_running":2,"requests_waiting":0,"kv_cache_pct":31.5}],"gpus":[{"uuid":"GPU-1","index":0,"name":"NVIDIA H100","util_pct":85.0,"memory_used_mb":8300,"memory_total_mb":81559,"temperature_c":54,"power_w":310.5,"state":"ok"}],"node":{"cpu_pct":180.0,"cpu_count":16,"memory_used_mb":20480,"memory_total_mb":131072,"load_1m":1.9,"uptime_s":86400},"agent":{"version":"0.1.0","cpu_pct":0.4,"rss_mb":11,"collect_ms":2.1,"spooled":0,"gpu_age_ms":400,"errors":[]}}"#;
        assert_eq!(serde_json::to_string(&parse(json).unwrap()).unwrap(), json);
    }

    proptest! {
        #[test]
        fn any_bytes_are_taken_or_refused(bytes: Vec<u8>) {
            let _ = Heartbeat::parse(&bytes, now());
        }

        #[test]
        fn any_figures_are_taken_whole_or_refused(cpu: f64, rss: i64, gpu: f64, pid: i64) {
            let json = worker(&format!(r#""cpu_pct":{cpu:e},"rss_mb":{rss},"gpu_util_pct":{gpu:e}"#))
                .replace("\"pid\":1", &format!("\"pid\":{pid}"));
            let in_range = |v: f64, max: f64| v >= 0.0 && v <= max && v < 9_007_199_254_740_992.0;
            let valid = in_range(cpu, f64::MAX)
                && in_range(rss as f64, f64::MAX)
                && in_range(gpu, 100.0)
                && in_range(pid as f64, f64::MAX);
            match parse(&json) {
                Ok(heartbeat) => {
                    prop_assert!(valid, "{json}");
                    let again = serde_json::to_vec(&heartbeat).unwrap();
                    prop_assert_eq!(Heartbeat::parse(&again, now()).unwrap(), heartbeat);
                }
                Err(_) => prop_assert!(!valid || !cpu.is_finite() || !gpu.is_finite(), "{json}"),
            }
        }
    }
}
