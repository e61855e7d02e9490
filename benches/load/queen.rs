//! A queen in a directory of her own, and what the kernel says about her.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use tempfile::TempDir;

use crate::Result;

/// Ticks of processor time in a second, as every Linux shows them to programs.
const TICKS_PER_SECOND: f64 = 100.0;

pub(crate) struct Queen {
    child: Child,
    pub(crate) url: String,
    home: TempDir,
}

impl Queen {
    /// Starts a queen on a fresh file.
    pub(crate) fn fresh(options: &[&str]) -> Result<Self> {
        Self::start(tempfile::tempdir()?, options)
    }

    fn start(home: TempDir, options: &[&str]) -> Result<Self> {
        let mut child = Command::new(env!("CARGO_BIN_EXE_queen"))
            .args(["--bind", "127.0.0.1:0", "--local-hive=false"])
            .args(options)
            .current_dir(home.path())
            .stdout(Stdio::piped())
            .spawn()?;
        let stdout = child.stdout.take().ok_or("no output")?;
        let mut lines = BufReader::new(stdout).lines();
        let first = lines.next().ok_or("the queen does not start")??;
        // What else she prints is read, so that she never waits for us.
        thread::spawn(move || lines.for_each(drop));
        let (_, url) = first.split_once(" listens on ").ok_or("she names no address")?;
        Ok(Self { child, url: url.into(), home })
    }

    /// Stops her in order and starts her anew on the same file.
    pub(crate) fn restarted(self, options: &[&str]) -> Result<Self> {
        let home = self.stopped()?;
        Self::start(home, options)
    }

    /// Stops her in order; the directory with her file.
    pub(crate) fn stopped(mut self) -> Result<TempDir> {
        let kill = format!("kill -s TERM {}", self.child.id());
        Command::new("sh").args(["-c", &kill]).status()?;
        let status = self.child.wait()?;
        if !status.success() {
            return Err(format!("the queen ended with {status}").into());
        }
        // Her `Drop` has nothing to do any more, and the directory lives on.
        Ok(std::mem::replace(&mut self.home, tempfile::tempdir()?))
    }

    pub(crate) fn database(&self) -> PathBuf {
        self.home.path().join("queen.db")
    }

    /// The one figure of a query, read with the `sqlite3` program.
    pub(crate) fn figure(&self, sql: &str) -> Result<f64> {
        let out = Command::new("sqlite3").arg(self.database()).arg(sql).output()?;
        let text = String::from_utf8(out.stdout)?;
        text.trim().parse().map_err(|_| {
            format!("{sql}: {text}{}", String::from_utf8_lossy(&out.stderr)).into()
        })
    }

    /// Bytes that the database uses, without pages that are free for what comes next.
    pub(crate) fn bytes_used(&self) -> Result<f64> {
        let pages = "SELECT (page_count - freelist_count) * page_size
                       FROM pragma_page_count, pragma_freelist_count, pragma_page_size";
        self.figure(pages)
    }

    /// Waits until all that she has taken stands in sealed blocks.
    pub(crate) fn wait_until_sealed(&self) -> Result<()> {
        for _ in 0..3000 {
            if self.figure("SELECT count(*) FROM heartbeats_live")? == 0.0 {
                return Ok(());
            }
            thread::sleep(Duration::from_millis(100));
        }
        Err("not all is sealed after 5 minutes".into())
    }

    /// Processor time so far, in seconds.
    pub(crate) fn cpu_seconds(&self) -> Result<f64> {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.child.id()))?;
        let (_, after_name) = stat.rsplit_once(") ").ok_or("stat has no name")?;
        let fields: Vec<&str> = after_name.split(' ').collect();
        Ok((fields[11].parse::<f64>()? + fields[12].parse::<f64>()?) / TICKS_PER_SECOND)
    }

    /// The most memory that was resident at once, in MiB.
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
