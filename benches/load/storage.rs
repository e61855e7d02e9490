//! What a worker-second takes on disk: a made-up past at one reading a second, sealed.

use std::fs;
use std::time::Instant;

use crate::queen::Queen;
use crate::{Result, simulate, tell, thousands};

#[derive(clap::Parser)]
pub(crate) struct Args {
    /// Hives
    #[arg(long, default_value_t = 100)]
    hives: u32,
    /// Workers on each hive
    #[arg(long, default_value_t = 16)]
    workers: u32,
    /// Minutes of the past
    #[arg(long, default_value_t = 30)]
    minutes: u32,
}

pub(crate) fn run(args: &Args) -> Result<()> {
    let Args { hives, workers, minutes } = args;
    println!("storage: {hives} hives × {workers} workers × {minutes} min at one reading a second");
    let queen = Queen::fresh(&[])?;
    let load = [
        ("--hives", hives.to_string()),
        ("--workers", workers.to_string()),
        ("--start", format!("-{minutes}m")),
    ];
    let load = load.into_iter().flat_map(|(name, value)| [name.to_owned(), value]);
    let load: Vec<String> = load.chain(["--flat-out".to_owned()]).collect();
    let report = simulate::run(&queen.url, &load)?;
    let samples = report.heartbeats_acknowledged * f64::from(*workers);

    let begun = Instant::now();
    let queen = queen.restarted(&["--seal-after", "1s"])?;
    let started = begun.elapsed();
    queen.wait_until_sealed()?;
    tell("worker-seconds", thousands(samples));
    tell("worker-samples/s while it came", thousands(report.worker_samples_per_s));
    tell("restart (ms)", started.as_millis());
    // Stopped and started, the log is written back into the file.
    let queen = queen.restarted(&[])?;
    let used = queen.bytes_used()?;
    tell("bytes per worker-second, in all", format!("{:.1}", used / samples));
    for (table, what) in [
        ("samples", "single readings of workers"),
        ("gpu_samples", "single readings of GPUs"),
        ("heartbeats", "heartbeats"),
        ("rollup_1m", "sums by minute"),
        ("rollup_1h", "sums by hour"),
    ] {
        let sql = format!("SELECT ifnull(sum(pgsize), 0) FROM dbstat WHERE name = '{table}'");
        let bytes = queen.figure(&sql)?;
        tell(&format!("  {what}"), format!("{:.1}", bytes / samples));
    }
    tell("file (MiB)", fs::metadata(queen.database())?.len() >> 20);
    Ok(())
}
