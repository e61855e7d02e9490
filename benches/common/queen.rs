//! A queen on a fresh file, and what the kernel says about her.

use std::error::Error;
use std::fs;
use std::io::{BufRead, BufReader};
use std::process::{Child, ChildStdout, Command, Stdio};

use tempfile::TempDir;

type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// A queen that ends with this.
pub(crate) struct Queen {
    child: Child,
    pub(crate) url: String,
    _stdout: BufReader<ChildStdout>,
    _home: TempDir,
}

impl Queen {
    pub(crate) fn start() -> Result<Self> {
        let home = tempfile::tempdir()?;
        let mut child = Command::new(env!("CARGO_BIN_EXE_queen"))
            .args(["--bind", "127.0.0.1:0", "--local-hive=false"])
            .current_dir(home.path())
            .stdout(Stdio::piped())
            .spawn()?;
        let mut stdout = BufReader::new(child.stdout.take().ok_or("no output")?);
        let mut first = String::new();
        stdout.read_line(&mut first)?;
        let (_, url) = first.split_once(" listens on ").ok_or("she names no address")?;
        Ok(Self { child, url: url.trim_end().into(), _stdout: stdout, _home: home })
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
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).ok_or("no VmHWM")?;
        Ok(line.trim().trim_end_matches(" kB").parse::<f64>()? / 1024.0)
    }
}

impl Drop for Queen {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
