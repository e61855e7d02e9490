//! The queen's program on a file of the benchmark's, and what the kernel says about her.

use std::error::Error;
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::Duration;

/// A failure ends the benchmark with its reason.
pub(crate) type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// A queen that serves.
pub(crate) struct Queen {
    child: Child,
    url: String,
    _stdout: BufReader<ChildStdout>,
}

impl Queen {
    pub(crate) fn start(database: &Path, options: &[&str]) -> Result<Self> {
        let mut child = Command::new(env!("CARGO_BIN_EXE_queen"))
            .args(["--bind", "127.0.0.1:0", "--local-hive=false", "--db"])
            .arg(database)
            .args(options)
            .stdout(Stdio::piped())
            .spawn()?;
        let mut stdout = BufReader::new(child.stdout.take().ok_or("no output")?);
        let mut first = String::new();
        stdout.read_line(&mut first)?;
        let (_, url) = first.split_once(" listens on ").ok_or("she names no address")?;
        Ok(Self { child, url: url.trim_end().into(), _stdout: stdout })
    }

    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    pub(crate) fn cpu_seconds(&self) -> Result<f64> {
        /// As every Linux shows them to programs.
        const TICKS_PER_SECOND: f64 = 100.0;
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.child.id()))?;
        let (_, after_name) = stat.rsplit_once(") ").ok_or("stat has no name")?;
        let fields: Vec<&str> = after_name.split(' ').collect();
        Ok((fields[11].parse::<f64>()? + fields[12].parse::<f64>()?) / TICKS_PER_SECOND)
    }

    pub(crate) fn peak_memory_mb(&self) -> Result<f64> {
        self.status_mb("VmHWM:")
    }

    /// A figure of memory as the kernel names it.
    pub(crate) fn status_mb(&self, name: &str) -> Result<f64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        let line = status.lines().find_map(|line| line.strip_prefix(name)).ok_or(name)?;
        Ok(line.trim().trim_end_matches(" kB").parse::<f64>()? / 1024.0)
    }
}

impl Drop for Queen {
    /// What she has acknowledged is on disk.
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Some of the times, which are sorted, in ms.
pub(crate) fn quantiles(sorted: &[Duration]) -> String {
    let at = |q: f64| {
        let index = ((sorted.len() as f64 * q) as usize).min(sorted.len().saturating_sub(1));
        sorted.get(index).map_or(f64::NAN, |latency| latency.as_secs_f64() * 1e3)
    };
    format!("p50 {:.2}  p99 {:.2}  max {:.1}", at(0.5), at(0.99), at(1.0))
}
