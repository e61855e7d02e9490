//! How soon, how fast and at what price does the live feed reach its subscribers?
//!
//!     cargo bench --bench feed -- [latency] [replay] [idle] [--hives 100] [--workers 16] …
//!
//! - `latency`: from the POST of a heartbeat to every subscriber's socket;
//! - `replay`: how soon a subscriber that was away gets the first of what it missed, and how fast
//!   the rest;
//! - `idle`: what memory subscribers take while nothing comes.
//!
//! Without a name, all of them. Each has a queen of its own.

mod fleet;
mod idle;
mod latency;
#[path = "../queen/mod.rs"]
mod queen_process;
mod replay;
mod socket;

use clap::Parser;

use self::queen_process::Result;

#[derive(Parser)]
struct Args {
    /// What to measure
    #[arg(value_parser = ["latency", "replay", "idle"])]
    parts: Vec<String>,
    #[command(flatten)]
    fleet: fleet::Fleet,
    /// Subscribers of the whole feed in `latency`
    #[arg(long, default_value_t = 100)]
    subscribers: usize,
    /// Seconds that `latency` lasts
    #[arg(long, default_value_t = 15)]
    seconds: u64,
    /// Minutes that are read again in `replay`
    #[arg(long, default_value_t = 10)]
    minutes: u64,
    /// Subscribers in `idle`
    #[arg(long, default_value_t = 1000)]
    idle: usize,
    /// Given by `cargo bench`, and not by `cargo test`, which runs benchmarks too
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() -> Result<()> {
    let args = Args::parse();
    if !args.bench {
        println!("run with: cargo bench --bench feed");
        return Ok(());
    }
    let wanted = |part: &str| args.parts.is_empty() || args.parts.iter().any(|name| name == part);
    if wanted("latency") {
        latency::run(&args.fleet, args.seconds, args.subscribers)?;
    }
    if wanted("replay") {
        replay::run(&args.fleet, args.minutes)?;
    }
    if wanted("idle") {
        idle::run(&args.fleet, args.idle)?;
    }
    Ok(())
}
