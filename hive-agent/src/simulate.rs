//! `hive-agent simulate`: a fleet that does not exist, for demonstrations and load tests.
//!
//! In reading order:
//!
//! - `models`: the GPUs and models that the fleet is made of;
//! - `worker`: the life of one worker;
//! - `fleet`: one machine, whose figures agree with each other;
//! - `json`: its heartbeat, written fast;
//! - `drive`: one connection, which carries the heartbeats of its share of the machines;
//! - `keeping`: a machine that keeps what is not taken, with the agent's own spool and delivery;
//! - `report`: what came of it.
//!
//! Invariant: the load does not depend on the queen's speed except where that is asked for:
//! with a pace, a slow answer makes a hive skip ticks, it never makes it send them in a bunch.

mod drive;
mod fleet;
mod json;
mod keeping;
mod models;
mod report;
mod worker;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use clap::builder::TypedValueParser;
use hive_contract::heartbeat::{MAX_GPUS, MAX_WORKERS};
use hive_contract::ids::InvalidName;
use hive_contract::{HiveId, Timestamp};
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use self::drive::{Drive, Pace, Rider, Times, tally};
use self::fleet::{Hive, Shape};
use self::keeping::Keeping;
use self::report::Tally;
use crate::client::{Client, QueenUrl, Timeouts};
use crate::clock::{Clock, SystemClock};

/// The most simulated hives: each takes about 10 KiB here.
const MAX_HIVES: u64 = 1_000_000;
/// Connections where no number is asked for.
const USUAL_CONNECTIONS: usize = 64;
/// How often progress is told.
const PROGRESS_EVERY: Duration = Duration::from_secs(5);

/// Posts the heartbeats of a made-up fleet to a queen.
#[derive(Debug, Clone, clap::Args)]
pub struct Args {
    /// The queen's URL
    #[arg(
        long,
        env = "HIVE_AGENT_QUEEN",
        default_value = "http://127.0.0.1:7833",
        value_name = "URL"
    )]
    pub queen: QueenUrl,
    /// Number of hives
    #[arg(long, default_value_t = 3, value_parser = count(1, MAX_HIVES))]
    pub hives: usize,
    /// Workers on each hive
    #[arg(long, default_value_t = 4, value_parser = count(0, MAX_WORKERS as u64))]
    pub workers: usize,
    /// GPUs of each hive [default: one per worker, at most 8]
    #[arg(long, value_parser = count(0, MAX_GPUS as u64))]
    pub gpus: Option<usize>,
    /// Time between two heartbeats of one hive
    #[arg(long, default_value = "1s", value_parser = interval)]
    pub interval: Duration,
    /// Send as fast as the answers come instead of once per interval
    #[arg(long)]
    pub flat_out: bool,
    /// End after this time [default: on Ctrl-C]
    #[arg(long, value_parser = humantime::parse_duration, value_name = "TIME")]
    pub duration: Option<Duration>,
    /// Connections, each with one request under way [default: one per hive, at most 64]
    #[arg(long, value_parser = count(1, 65_536))]
    pub connections: Option<usize>,
    /// Make up the past: the first heartbeat is of this time (`-1h` or RFC 3339), each next one
    /// an interval later; a hive that reaches the present is done
    #[arg(long, allow_hyphen_values = true, value_name = "TIME")]
    pub start: Option<Start>,
    /// Each hive keeps what the queen does not take and catches up with it, as the agent does, in a
    /// directory of its own below this one; it has a connection of its own, and what became of
    /// its heartbeats is told at the end
    #[arg(long, value_name = "DIR", conflicts_with_all = ["flat_out", "connections", "start"])]
    pub spool_dir: Option<PathBuf>,
    /// Decides all figures: the same seed gives the same fleet
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// Hives are named with this, a dash and a number
    #[arg(long, default_value = "sim", value_name = "NAME")]
    pub hive_prefix: HiveId,
    /// Report as JSON
    #[arg(long)]
    pub json: bool,
    /// No progress on stderr
    #[arg(long, short)]
    pub quiet: bool,
}

/// Why a simulation could not run, or came to nothing.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The names of the hives would not be valid.
    #[error("--hive-prefix does not make valid names of hives")]
    HivePrefix(#[from] InvalidName),
    /// The start lies before 1970 or ahead.
    #[error("--start is not between 1970 and now")]
    Start,
    /// The report could not be written.
    #[error("cannot write the report")]
    Report(#[from] std::io::Error),
    /// Not one heartbeat arrived.
    #[error("no heartbeat was acknowledged; last trouble: {last_trouble}")]
    NothingAcknowledged {
        /// What went wrong last.
        last_trouble: String,
    },
}

/// The first moment of a made-up history.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    /// So long before now.
    Ago(Duration),
    /// A moment.
    At(Timestamp),
}

/// A text that is no start of a history.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is neither a time ago such as -1h nor an RFC 3339 time")]
pub struct InvalidStart(String);

impl std::str::FromStr for Start {
    type Err = InvalidStart;

    fn from_str(text: &str) -> Result<Self, InvalidStart> {
        let invalid = || InvalidStart(text.to_owned());
        match text.strip_prefix('-') {
            Some(ago) => humantime::parse_duration(ago).map(Self::Ago).map_err(|_| invalid()),
            None => text.parse().map(Self::At).map_err(|_| invalid()),
        }
    }
}

impl Start {
    fn resolve(self, now: Timestamp) -> Result<Timestamp, Error> {
        let start = match self {
            Self::At(start) => Some(start),
            Self::Ago(ago) => i64::try_from(ago.as_millis())
                .ok()
                .and_then(|ago_ms| now.millis().checked_sub(ago_ms))
                .and_then(Timestamp::from_millis),
        };
        start.filter(|&start| start <= now).ok_or(Error::Start)
    }
}

fn count(min: u64, max: u64) -> impl TypedValueParser<Value = usize> {
    clap::value_parser!(u64).range(min..=max).map(|count| count as usize)
}

fn interval(text: &str) -> Result<Duration, String> {
    let interval = humantime::parse_duration(text).map_err(|error| error.to_string())?;
    let range = Duration::from_millis(1)..=Duration::from_secs(86_400);
    if range.contains(&interval) {
        // The wire has whole milliseconds, and so have the timestamps.
        Ok(Duration::from_millis(interval.as_millis() as u64))
    } else {
        Err("not between 1ms and 1day; to send without a pause, use --flat-out".to_owned())
    }
}

/// Runs the fleet until it is done, its time is over or Ctrl-C comes, and prints the report.
///
/// # Errors
/// The arguments do not fit together, nothing was acknowledged, or stdout is closed.
pub async fn run(args: Args) -> Result<(), Error> {
    let shared = Arc::new(Mutex::new(Tally::new()));
    let stop = CancellationToken::new();
    let mut tasks = JoinSet::new();
    let drives = drives(&args, &shared, &stop)?;
    let begun = Instant::now();
    match &args.spool_dir {
        None => drives.into_iter().for_each(|drive| drop(tasks.spawn(drive.run()))),
        Some(directory) => {
            for keeping in drives.into_iter().flat_map(|drive| keeping(drive, &args, directory)) {
                tasks.spawn(keeping.run());
            }
        }
    }
    let progress = (!args.quiet && args.spool_dir.is_none()).then_some(PROGRESS_EVERY);
    supervise(&mut tasks, &args, begun, &shared, &stop, progress).await;
    finish(&args, &tally(&shared), begun.elapsed(), std::io::stdout().lock())
}

/// Deals the hives out to the connections.
fn drives(
    args: &Args,
    shared: &Arc<Mutex<Tally>>,
    stop: &CancellationToken,
) -> Result<Vec<Drive>, Error> {
    let now = SystemClock.wall();
    let start = args.start.map(|start| start.resolve(now)).transpose()?;
    let interval_ms = args.interval.as_millis() as u32;
    let shape = Shape {
        seed: args.seed,
        prefix: args.hive_prefix.clone(),
        workers: args.workers,
        gpus: args.gpus.unwrap_or(args.workers.min(8)),
        interval_ms,
    };
    let connections = args.connections.unwrap_or(USUAL_CONNECTIONS).min(args.hives);
    let mut shares: Vec<Vec<Rider>> = (0..connections).map(|_| Vec::new()).collect();
    for number in 0..args.hives {
        let offset_ns = args.interval.as_nanos() * number as u128 / args.hives as u128;
        let offset = Duration::from_nanos(offset_ns as u64);
        let times = match start {
            None => Times::Now { last_ms: 0 },
            Some(start) => Times::Backdated {
                next_ms: start.millis() + offset.as_millis() as i64,
                step_ms: i64::from(interval_ms),
            },
        };
        let hive = Hive::new(&shape, number, start.unwrap_or(now))?;
        // Neighbours in time go to different connections, so that none waits for the other.
        shares[number % connections].push(Rider { hive, offset, times });
    }
    // The pace begins when the fleet stands: otherwise it would begin with a backlog.
    let pace = if args.flat_out {
        Pace::FlatOut
    } else {
        Pace::Every { interval: args.interval, from: Instant::now() }
    };
    let drive = |riders| Drive {
        client: Client::new(&args.queen, Timeouts::default()),
        riders,
        pace,
        tally: Arc::clone(shared),
        stop: stop.clone(),
    };
    Ok(shares.into_iter().map(drive).collect())
}

/// Gives each hive of a share a connection and a spool of its own.
fn keeping<'a>(
    drive: Drive,
    args: &'a Args,
    directory: &'a Path,
) -> impl Iterator<Item = Keeping> + 'a {
    let Drive { riders, tally, stop, .. } = drive;
    let from = Instant::now();
    riders.into_iter().map(move |rider| Keeping {
        client: Client::new(&args.queen, Timeouts::default()),
        directory: directory.join(rider.hive.id().as_str()),
        rider,
        interval: args.interval,
        from,
        tally: Arc::clone(&tally),
        stop: stop.clone(),
    })
}

/// Waits for the end, tells the progress, and passes Ctrl-C and the end of the time on.
async fn supervise(
    tasks: &mut JoinSet<()>,
    args: &Args,
    begun: Instant,
    shared: &Mutex<Tally>,
    stop: &CancellationToken,
    progress: Option<Duration>,
) {
    let mut ticker = tokio::time::interval_at(begun + PROGRESS_EVERY, PROGRESS_EVERY);
    let mut before = (begun, 0);
    let deadline = args.duration.map(|duration| begun + duration);
    let over = async {
        match deadline {
            Some(deadline) => tokio::time::sleep_until(deadline).await,
            None => std::future::pending().await,
        }
    };
    let interrupted = interrupted();
    tokio::pin!(over, interrupted);
    loop {
        tokio::select! {
            joined = tasks.join_next() => if joined.is_none() { return },
            () = &mut over, if !stop.is_cancelled() => stop.cancel(),
            () = &mut interrupted, if !stop.is_cancelled() => stop.cancel(),
            _ = ticker.tick(), if progress.is_some() => {
                before = tell_progress(begun, before, &tally(shared));
            }
        }
    }
}

/// Ctrl-C, or the request of a service manager to end.
async fn interrupted() {
    let terminated = async {
        match signal(SignalKind::terminate()) {
            Ok(mut terminate) => terminate.recv().await,
            Err(_) => None,
        }
    };
    tokio::select! {
        Ok(()) = tokio::signal::ctrl_c() => {}
        Some(()) = terminated => {}
        // Where signals cannot be had, the end of the time still comes.
        else => std::future::pending().await,
    }
}

fn tell_progress(begun: Instant, before: (Instant, u64), tally: &Tally) -> (Instant, u64) {
    let now = Instant::now();
    let acknowledged = tally.acknowledged();
    let rate = (acknowledged - before.1) as f64 / (now - before.0).as_secs_f64();
    let seconds = (now - begun).as_secs();
    let mut line = format!("{seconds} s: {acknowledged} acknowledged, {rate:.0} heartbeats/s");
    if let Some(trouble) = tally.last_trouble() {
        line.push_str(&format!(", {} refused or failed, last: {trouble}", tally.troubles()));
    }
    // Progress is a courtesy: a closed stderr does not end the simulation.
    let _ = writeln!(std::io::stderr(), "{line}");
    (now, acknowledged)
}

fn finish(args: &Args, tally: &Tally, elapsed: Duration, mut out: impl Write) -> Result<(), Error> {
    let report = tally.report(elapsed, args.workers);
    if args.json {
        serde_json::to_writer(&mut out, &report).map_err(std::io::Error::from)?;
        writeln!(out)?;
    } else {
        writeln!(out, "{report}")?;
    }
    if tally.acknowledged() == 0 && tally.sent() > 0 {
        let last_trouble = tally.last_trouble().unwrap_or("none").to_owned();
        return Err(Error::NothingAcknowledged { last_trouble });
    }
    Ok(())
}

#[cfg(test)]
mod tests;
