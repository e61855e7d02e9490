//! How well, and how fast, are requests routed?
//!
//!     cargo bench --bench routing -- [simulate] [latency] [http]
//!
//! - `simulate`: an hour of requests over a fleet, in simulated time: how long they wait, and how
//!   often a worker gets a request while it has one, by each way of choosing;
//! - `latency`: how long a search takes among 100,000 workers while 10,000 heartbeats a second
//!   come in, all in this process;
//! - `http`: how long `POST /v1/route` takes while a queen of its own takes heartbeats.
//!
//! Without a name, all of them.

mod fleet;
mod http;
mod latency;
#[path = "../queen/mod.rs"]
mod queen_process;
mod simulate;

use clap::Parser;

use self::queen_process::Result;

#[derive(Parser)]
struct Args {
    /// What to measure
    #[arg(value_parser = ["simulate", "latency", "http"])]
    parts: Vec<String>,
    #[command(flatten)]
    simulate: simulate::Options,
    #[command(flatten)]
    latency: latency::Options,
    #[command(flatten)]
    http: http::Options,
    /// Given by `cargo bench`, and not by `cargo test`, which runs benchmarks too
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() -> Result<()> {
    let args = Args::parse();
    if !args.bench {
        println!("run with: cargo bench --bench routing");
        return Ok(());
    }
    let wanted = |part: &str| args.parts.is_empty() || args.parts.iter().any(|name| name == part);
    if wanted("simulate") {
        simulate::run(&args.simulate)?;
    }
    if wanted("latency") {
        latency::run(&args.latency)?;
    }
    if wanted("http") {
        http::run(&args.http)?;
    }
    Ok(())
}
