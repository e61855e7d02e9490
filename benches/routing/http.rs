//! How long `POST /v1/route` takes while a queen of its own takes heartbeats.

use std::time::Duration;

use hive_agent::client::{Client, QueenUrl, Timeouts};
use queen::clock::Clock;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

use crate::queen_process::{Queen, quantiles};
use crate::{Result, fleet};

#[derive(clap::Args)]
pub(crate) struct Options {
    /// http: hives, each with a heartbeat a second
    #[arg(long, default_value_t = 1000)]
    http_hives: usize,
    /// http: workers on each hive
    #[arg(long, default_value_t = 10)]
    http_workers: usize,
    /// http: models; every worker serves one of them
    #[arg(long, default_value_t = 13)]
    http_models: usize,
    /// http: routes a second
    #[arg(long, default_value_t = 500)]
    http_routes: usize,
    /// http: seconds
    #[arg(long, default_value_t = 15)]
    http_seconds: u64,
}

/// What a route may take at the 99th percentile.
const GOAL: Duration = Duration::from_millis(2);
/// Connections for heartbeats, and for routes.
const POSTERS: usize = 16;
const ROUTERS: usize = 4;

type Failure = Box<dyn std::error::Error + Send + Sync>;

pub(crate) fn run(options: &Options) -> Result<()> {
    let Options { http_hives: hives, http_workers: workers, http_routes: routes, .. } = options;
    println!("{hives} hives × {workers} workers at 1 Hz, {routes} routes/s over HTTP");
    let home = tempfile::tempdir()?;
    let queen = Queen::start(&home.path().join("queen.db"), &[])?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let before = queen.cpu_seconds()?;
    let mut took = runtime.block_on(measure(options, queen.url()))?;
    let cores = (queen.cpu_seconds()? - before) / options.http_seconds as f64;
    let routed = took.iter().filter(|(status, _)| *status == 200).count();
    let answered = took.len();
    took.sort_unstable_by_key(|(_, took)| *took);
    let latencies: Vec<Duration> = took.into_iter().map(|(_, took)| took).collect();
    println!("POST /v1/route  {} ms", quantiles(&latencies));
    println!("routed          {routed} of {answered}; the others had no idle worker");
    println!("queen cpu       {cores:.2} cores");
    println!("queen memory    {:.0} MiB at most", queen.peak_memory_mb()?);
    let p99 = latencies.get(latencies.len() * 99 / 100).ok_or("nothing was routed")?;
    if *p99 > GOAL { Err("a route takes longer than it may".into()) } else { Ok(()) }
}

async fn measure(options: &Options, url: &str) -> Result<Vec<(u16, Duration)>> {
    let begun = Instant::now();
    // Every hive is heard once before anything is measured.
    let measured_from = begun + Duration::from_secs(2);
    let end = measured_from + Duration::from_secs(options.http_seconds);
    let mut posters = JoinSet::new();
    for first in 0..POSTERS.min(options.http_hives) {
        let queen: QueenUrl = url.parse()?;
        let mut bodies = Vec::new();
        for hive in (first..options.http_hives).step_by(POSTERS) {
            let due = Duration::from_secs_f64(hive as f64 / options.http_hives as f64);
            bodies.push((due, fleet::hive(hive, options.http_workers, options.http_models)?));
        }
        posters.spawn(post(queen, bodies, begun, end));
    }
    let mut routers = JoinSet::new();
    for router in 0..ROUTERS {
        let queen: QueenUrl = url.parse()?;
        let pace = Duration::from_secs_f64(ROUTERS as f64 / options.http_routes as f64);
        let first = measured_from + pace * router as u32 / ROUTERS as u32;
        routers.spawn(route(queen, options.http_models, first, pace, end));
    }
    let mut took = Vec::new();
    while let Some(part) = routers.join_next().await {
        took.extend(part?.map_err(|error| error.to_string())?);
    }
    while let Some(part) = posters.join_next().await {
        part?.map_err(|error| error.to_string())?;
    }
    Ok(took)
}

/// Posts a heartbeat of each of some hives once a second, each at its moment.
async fn post(
    queen: QueenUrl,
    hives: Vec<(Duration, hive_contract::Heartbeat)>,
    begun: Instant,
    end: Instant,
) -> std::result::Result<(), Failure> {
    let mut client = Client::new(&queen, Timeouts::default());
    let clock = Clock::system();
    for second in 0.. {
        for (due, hive) in &hives {
            let due = begun + Duration::from_secs(second) + *due;
            if due >= end {
                return Ok(());
            }
            sleep_until(due).await;
            let requests = |at: usize| u64::from((second as usize + at).is_multiple_of(3));
            let reading = fleet::reading(hive, clock.now(), requests, true)
                .map_err(|error| error.to_string())?;
            let body = serde_json::to_vec(&*reading)?;
            client.post("/v1/hive-heartbeat", "application/json", None, body.into()).await?;
        }
    }
    Ok(())
}

/// Routes requests at a steady pace; status and time of each.
async fn route(
    queen: QueenUrl,
    models: usize,
    first: Instant,
    pace: Duration,
    end: Instant,
) -> std::result::Result<Vec<(u16, Duration)>, Failure> {
    let mut client = Client::new(&queen, Timeouts::default());
    let mut took = Vec::new();
    for turn in 0.. {
        let due = first + pace * turn;
        if due >= end {
            break;
        }
        sleep_until(due).await;
        let body = format!(r#"{{"model":"model-{}"}}"#, fastrand::usize(..models));
        let begun = Instant::now();
        let reply = client.post("/v1/route", "application/json", None, body.into()).await?;
        took.push((reply.status, begun.elapsed()));
    }
    Ok(took)
}
