//! Sample heartbeats, and moments to stamp them with.

use chrono::{DateTime, FixedOffset, SecondsFormat};
use queen::clock::Clock;
use serde_json::{Value, json};

/// The parts of the contract's example, member for member as they stand there.
pub(crate) const EXAMPLE_HIVE: &str = r#"{"id":"localhost","hostname":"127.0.0.1","port":7835,"operational_status":"ready","health_status":"healthy","version":"0.1.0"}"#;
pub(crate) const EXAMPLE_WORKERS: &str = r#"[{"pid":12345,"group":"llm","instance":"8080","cpu_pct":45.2,"rss_mb":4096,"gpu_util_pct":85.0,"vram_mb":8192,"total_vram_mb":24576,"model":"llama-3.2-1b","uptime_s":3600,"io_r_mb_s":0.0,"io_w_mb_s":0.0,"gpus":[{"uuid":"GPU-5d2c","util_pct":85.0,"vram_mb":8192}],"requests_running":2,"requests_waiting":0,"kv_cache_pct":31.5}]"#;
pub(crate) const EXAMPLE_GPUS: &str = r#"[{"uuid":"GPU-5d2c","index":0,"name":"NVIDIA H100","util_pct":85.0,"memory_used_mb":8300,"memory_total_mb":81559,"temperature_c":54,"power_w":310.5,"state":"ok"}]"#;
pub(crate) const EXAMPLE_NODE: &str = r#"{"cpu_pct":180.0,"cpu_count":16,"memory_used_mb":20480,"memory_total_mb":131072,"load_1m":1.9,"uptime_s":86400}"#;
pub(crate) const EXAMPLE_AGENT: &str = r#"{"version":"0.1.0","cpu_pct":0.4,"rss_mb":11,"collect_ms":2.1,"spooled":0,"gpu_age_ms":400,"errors":[]}"#;

/// The contract's example, of this moment.
pub(crate) fn example(timestamp: &str) -> String {
    format!(
        r#"{{"hive":{EXAMPLE_HIVE},"timestamp":"{timestamp}","interval_ms":1000,"workers":{EXAMPLE_WORKERS},"gpus":{EXAMPLE_GPUS},"node":{EXAMPLE_NODE},"agent":{EXAMPLE_AGENT}}}"#
    )
}

/// Now, in milliseconds since the epoch.
pub(crate) fn now_ms() -> i64 {
    Clock::system().now().millis()
}

/// A moment as it stands on the wire.
pub(crate) fn wire(ms: i64) -> String {
    moment(ms).to_rfc3339_opts(SecondsFormat::Millis, true)
}

/// A moment by a clock that is 5:45 hours ahead.
pub(crate) fn in_kathmandu(ms: i64) -> String {
    let offset = FixedOffset::east_opt((5 * 60 + 45) * 60).unwrap();
    moment(ms).with_timezone(&offset).to_rfc3339_opts(SecondsFormat::Millis, true)
}

/// A moment as people read it in the database.
pub(crate) fn readable(ms: i64) -> String {
    moment(ms).format("%Y-%m-%d %H:%M:%S%.3f").to_string()
}

fn moment(ms: i64) -> DateTime<chrono::Utc> {
    DateTime::from_timestamp_millis(ms).unwrap()
}

/// A heartbeat of a hive without workers.
pub(crate) fn heartbeat(hive: &str, ms: i64) -> Value {
    json!({"hive": {"id": hive}, "timestamp": wire(ms), "workers": []})
}

/// A worker of which no figure is known.
pub(crate) fn worker(group: &str, instance: &str) -> Value {
    json!({"pid": 1, "group": group, "instance": instance})
}

/// A heartbeat with one worker whose `cpu_pct` tells it from others.
pub(crate) fn marked(hive: &str, ms: i64, cpu_pct: f64) -> Value {
    let mut heartbeat = heartbeat(hive, ms);
    let mut worker = worker("llm", "8080");
    worker["cpu_pct"] = cpu_pct.into();
    heartbeat["workers"] = json!([worker]);
    heartbeat
}
