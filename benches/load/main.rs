//! How much the queen bears, measured from outside: the real program on a fresh file, loaded
//! over HTTP. `benches/README.md` says how to run it and how to read it.
//!
//! - [`ingest`]: heartbeats as fast as they are acknowledged, then at half that rate;
//! - [`storage`]: what a worker-second takes on disk when it is sealed;
//! - [`feed`]: from the POST of a heartbeat to its receipt by every subscriber;
//! - [`queen`], [`simulate`]: the programs under measurement and of the load.

mod feed;
mod ingest;
mod queen;
mod simulate;
mod storage;

use std::error::Error;

use clap::{Parser, Subcommand};

/// A failure ends the benchmark with its reason.
type Result<T> = std::result::Result<T, Box<dyn Error>>;

#[derive(Parser)]
struct Cli {
    #[command(subcommand)]
    what: Option<What>,
    /// Given by `cargo bench`, and not by `cargo test`, which runs benchmarks too
    #[arg(long, global = true, hide = true)]
    bench: bool,
}

#[derive(Subcommand)]
enum What {
    /// Heartbeats as fast as they are acknowledged, then at half that rate
    Ingest(ingest::Args),
    /// What a worker-second takes on disk
    Storage(storage::Args),
    /// From the POST of a heartbeat to its receipt by every subscriber
    Feed(feed::Args),
}

fn main() -> Result<()> {
    let cli = Cli::parse();
    if !cli.bench {
        println!("run with: cargo bench --bench load");
        return Ok(());
    }
    match cli.what {
        Some(What::Ingest(args)) => ingest::run(&args),
        Some(What::Storage(args)) => storage::run(&args),
        Some(What::Feed(args)) => feed::run(&args),
        None => {
            let defaults = || ["load"];
            ingest::run(&Parser::parse_from(defaults()))?;
            storage::run(&Parser::parse_from(defaults()))?;
            feed::run(&Parser::parse_from(defaults()))
        }
    }
}

/// Prints one figure.
fn tell(name: &str, figure: impl std::fmt::Display) {
    println!("  {name:<34} {figure}");
}

/// A large number with its thousands apart.
fn thousands(number: f64) -> String {
    let digits = format!("{number:.0}");
    let mut out = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}
