//! Heartbeats of a made-up fleet.

use std::fmt::Write;

/// How large it is.
#[derive(clap::Args)]
pub(super) struct Fleet {
    /// Hives
    #[arg(long, default_value_t = 100)]
    pub(super) hives: usize,
    /// Workers on each hive
    #[arg(long, default_value_t = 16)]
    pub(super) workers: usize,
}

/// What a hive says at one moment.
pub(super) fn heartbeat(hive: usize, workers: usize, second: u64, timestamp: &str) -> String {
    let mut body = format!(
        r#"{{"hive":{{"id":"b-{hive}","hostname":"10.0.0.1"}},"timestamp":"{timestamp}","interval_ms":1000,"workers":["#
    );
    for worker in 0..workers {
        let comma = if worker == 0 { "" } else { "," };
        let figure = (second * 7 + worker as u64) % 100;
        let _ = write!(
            body,
            r#"{comma}{{"pid":{pid},"group":"llm","instance":"{port}","cpu_pct":{figure}.5,"rss_mb":4096,"gpu_util_pct":{figure},"vram_mb":8192,"total_vram_mb":24576,"model":"llama-3.2-1b","uptime_s":{second},"io_r_mb_s":0.0,"io_w_mb_s":0.0}}"#,
            pid = 1000 + worker,
            port = 8000 + worker,
        );
    }
    body.push_str("]}");
    body
}
