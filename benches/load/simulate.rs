//! The load: `hive-agent simulate`, and its report.

use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use serde::Deserialize;

use crate::Result;

#[derive(Debug, Deserialize)]
pub(crate) struct Report {
    pub(crate) duration_s: f64,
    pub(crate) heartbeats_acknowledged: f64,
    pub(crate) heartbeats_per_s: f64,
    pub(crate) worker_samples_per_s: f64,
    pub(crate) ticks_skipped: u64,
    pub(crate) latency_ms: Latency,
    pub(crate) refusals: Vec<serde_json::Value>,
    pub(crate) last_trouble: Option<String>,
}

#[derive(Debug, Deserialize)]
pub(crate) struct Latency {
    pub(crate) p50: f64,
    pub(crate) p99: f64,
    pub(crate) max: f64,
}

impl std::fmt::Display for Latency {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "p50 {:.2}  p99 {:.2}  max {:.1}", self.p50, self.p99, self.max)
    }
}

/// Runs a simulation to its end.
pub(crate) fn run(queen: &str, arguments: &[String]) -> Result<Report> {
    let out = Command::new(program()?)
        .args(["simulate", "--json", "--quiet", "--queen", queen])
        .args(arguments)
        .stderr(Stdio::inherit())
        .output()?;
    if !out.status.success() {
        return Err(format!("the simulation ended with {}", out.status).into());
    }
    let report: Report = serde_json::from_slice(&out.stdout)?;
    if let Some(trouble) = &report.last_trouble {
        println!("  trouble: {trouble} {:?}", report.refusals);
    }
    Ok(report)
}

/// Where the agent's program is. It belongs to another package, so it is built here, once.
fn program() -> Result<&'static PathBuf> {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    if let Some(program) = PROGRAM.get() {
        return Ok(program);
    }
    let out = Command::new(env!("CARGO"))
        .args(["build", "--release", "--bin", "hive-agent", "--message-format=json"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .stderr(Stdio::inherit())
        .output()?;
    let messages = String::from_utf8(out.stdout)?;
    let executable = messages.lines().find_map(|line| {
        let message: serde_json::Value = serde_json::from_str(line).ok()?;
        Some(PathBuf::from(message["executable"].as_str()?))
    });
    Ok(PROGRAM.get_or_init(|| executable.unwrap_or_else(|| "hive-agent".into())))
}
