//! How long a search takes among many workers while heartbeats come in, in this process.

use std::hint::black_box;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use hive_contract::{Heartbeat, Timestamp};
use queen::clock::Clock;
use queen::registry::{HiveRegistry, Liveness};
use queen::scheduler::Wanted;

use crate::{Result, fleet};

#[derive(clap::Args)]
pub(crate) struct Options {
    /// latency: hives, each with a heartbeat a second
    #[arg(long, default_value_t = 10_000)]
    hives: usize,
    /// latency: workers on each hive
    #[arg(long, default_value_t = 10)]
    workers: usize,
    /// latency: models; every worker serves one of them. Measured for each of these numbers
    #[arg(long, value_delimiter = ',', default_values_t = [100, 13, 1])]
    models: Vec<usize>,
    /// latency: seconds for each
    #[arg(long, default_value_t = 10)]
    seconds: u64,
}

/// A way of searching for a model's best worker, and its name.
type Search<'a> = (&'static str, &'a dyn Fn(&str));

/// What a search may take at the 99th percentile.
const GOAL: Duration = Duration::from_micros(100);

pub(crate) fn run(options: &Options) -> Result<()> {
    println!(
        "{} workers on {} hives; in µs, while heartbeats come in",
        options.hives * options.workers,
        options.hives
    );
    println!(
        "{:>7}  {:<28} {:>8} {:>8} {:>8} {:>9} {:>13}",
        "models", "", "p50", "p99", "max", "calls", "heartbeats/s"
    );
    let mut slowest = Duration::ZERO;
    for &models in &options.models {
        slowest = slowest.max(measure(options, models)?);
    }
    if slowest > GOAL { Err("a search takes longer than it may".into()) } else { Ok(()) }
}

/// Measures with so many models; what a search takes at the 99th percentile.
fn measure(options: &Options, models: usize) -> Result<Duration> {
    let clock = Clock::system();
    let registry = HiveRegistry::new(options.hives, Liveness::default(), clock);
    let hives: Result<Vec<Heartbeat>> =
        (0..options.hives).map(|hive| fleet::hive(hive, options.workers, models)).collect();
    let hives = hives?;
    let heartbeats = AtomicUsize::new(0);
    let stop = AtomicBool::new(false);
    for (number, hive) in hives.iter().enumerate() {
        hear(&registry, number, hive, clock.now())?;
    }
    thread::scope(|scope| {
        let poster = scope.spawn(|| {
            let sent = post(&registry, &hives, &heartbeats, &stop, clock);
            sent.map_err(|error| error.to_string())
        });
        let names: Vec<String> = (0..models).map(|model| format!("model-{model}")).collect();
        let mut p99 = Duration::ZERO;
        let searches: [Search<'_>; 2] = [
            ("find_best_worker_for_model", &|model| {
                black_box(registry.find_best_worker_for_model(model));
            }),
            ("route", &|model| {
                let wanted = Wanted { idle_only: false, ..Wanted::idle(model) };
                let _ = black_box(registry.route(&wanted, Duration::from_millis(50)));
            }),
        ];
        for (name, search) in searches {
            let before = heartbeats.load(Ordering::Relaxed);
            let begun = Instant::now();
            let mut took = Vec::new();
            while begun.elapsed() < Duration::from_secs(options.seconds) {
                let model = &names[fastrand::usize(..names.len())];
                let begun = Instant::now();
                search(model);
                took.push(begun.elapsed());
                // As fast as a busy front-end asks, and not faster.
                thread::sleep(Duration::from_micros(200));
            }
            let received = heartbeats.load(Ordering::Relaxed) - before;
            let rate = received as f64 / begun.elapsed().as_secs_f64();
            p99 = p99.max(show(models, name, took, rate));
        }
        stop.store(true, Ordering::Relaxed);
        let updates = poster.join().map_err(|_| "the poster panicked")??;
        let rate = options.hives as f64;
        show(models, "update_workers", updates, rate);
        Ok(p99)
    })
}

/// Prints a row; what the slowest but one in a hundred took.
fn show(models: usize, name: &str, mut took: Vec<Duration>, heartbeats: f64) -> Duration {
    took.sort_unstable();
    let at = |q: f64| took[((took.len() as f64 * q) as usize).min(took.len() - 1)];
    let micros = |q: f64| at(q).as_secs_f64() * 1e6;
    println!(
        "{models:>7}  {name:<28} {:>8.1} {:>8.1} {:>8.0} {:>9} {heartbeats:>13.0}",
        micros(0.5),
        micros(0.99),
        micros(1.0),
        took.len(),
    );
    at(0.99)
}

/// A heartbeat of each hive once a second, spread over the second; how long each took.
fn post(
    registry: &HiveRegistry,
    hives: &[Heartbeat],
    heartbeats: &AtomicUsize,
    stop: &AtomicBool,
    clock: Clock,
) -> Result<Vec<Duration>> {
    let begun = Instant::now();
    let mut took = Vec::new();
    for sent in 1.. {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        took.push(hear(registry, sent, &hives[sent % hives.len()], clock.now())?);
        heartbeats.fetch_add(1, Ordering::Relaxed);
        let due = Duration::from_secs_f64(sent as f64 / hives.len() as f64);
        // In small bursts: a sleep is not that exact.
        if let Some(early) = due.checked_sub(begun.elapsed())
            && early > Duration::from_millis(1)
        {
            thread::sleep(early);
        }
    }
    Ok(took)
}

/// Every third worker is busy, each time another. How long the registry took.
fn hear(
    registry: &HiveRegistry,
    round: usize,
    hive: &Heartbeat,
    now: Timestamp,
) -> Result<Duration> {
    let requests = |at: usize| u64::from((round + at).is_multiple_of(3));
    let reading: Arc<Heartbeat> = fleet::reading(hive, now, requests, true)?;
    let begun = Instant::now();
    registry.update_workers(&reading, now)?;
    Ok(begun.elapsed())
}
