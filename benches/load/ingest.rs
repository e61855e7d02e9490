//! Heartbeats as fast as they are acknowledged, then at half that rate.

use std::time::Duration;

use crate::queen::Queen;
use crate::simulate::{self, Report};
use crate::{Result, tell, thousands};

#[derive(clap::Parser)]
pub(crate) struct Args {
    /// Hives
    #[arg(long, default_value_t = 100)]
    hives: u32,
    /// Workers on each hive
    #[arg(long, default_value_t = 16)]
    workers: u32,
    /// Connections, each with one request under way
    #[arg(long, default_value_t = 64)]
    connections: u32,
    /// Seconds of each of the two parts
    #[arg(long, default_value_t = 15)]
    seconds: u64,
    /// What an acknowledgement survives: full or normal
    #[arg(long, default_value = "full")]
    durability: String,
}

impl Args {
    fn simulation(&self, more: &[String]) -> Vec<String> {
        let figures = [
            ("--hives", self.hives.to_string()),
            ("--workers", self.workers.to_string()),
            ("--connections", self.connections.to_string()),
            ("--duration", format!("{}s", self.seconds)),
        ];
        let figures = figures.into_iter().flat_map(|(name, value)| [name.to_owned(), value]);
        figures.chain(more.iter().cloned()).collect()
    }
}

pub(crate) fn run(args: &Args) -> Result<()> {
    let Args { hives, workers, connections, durability, .. } = args;
    println!(
        "ingest: {hives} hives × {workers} workers, {connections} connections, \
         durability {durability}, generator on the same machine"
    );
    let flat_out = part("flat out", args, &["--flat-out".into()])?;
    // The generator keeps a pace of whole milliseconds.
    let half = f64::from(*hives) / (flat_out.heartbeats_per_s / 2.0);
    let interval = Duration::from_secs_f64(half).as_millis().max(1);
    part("at half that rate", args, &["--interval".into(), format!("{interval}ms")])?;
    Ok(())
}

fn part(title: &str, args: &Args, load: &[String]) -> Result<Report> {
    let queen = Queen::fresh(&["--durability", &args.durability])?;
    let before = queen.cpu_seconds()?;
    let report = simulate::run(&queen.url, &args.simulation(load))?;
    let cpu = queen.cpu_seconds()? - before;
    let samples = report.heartbeats_acknowledged * f64::from(args.workers);
    println!(" {title}");
    tell("heartbeats/s", thousands(report.heartbeats_per_s));
    tell("worker-samples/s", thousands(report.worker_samples_per_s));
    tell("acknowledged within (ms)", &report.latency_ms);
    tell("ticks left out by the generator", report.ticks_skipped);
    tell("queen: cores used", format!("{:.2}", cpu / report.duration_s));
    tell("queen: CPU s per million samples", format!("{:.2}", cpu / samples * 1e6));
    tell("queen: peak memory (MiB)", format!("{:.0}", queen.peak_memory_mb()?));
    Ok(report)
}
