//! From the POST of a heartbeat to every subscriber's socket.
//!
//! Poster and subscribers live in this process, so that one clock measures both ends. A
//! subscriber is a bare socket whose bytes are searched for the hive's name: reading the feed
//! costs as little as it can, and the queen and the kernel do the rest.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use hive_agent::client::{Client, QueenUrl, Timeouts};
use queen::clock::Clock;
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::fleet::{Fleet, heartbeat};
use super::queen_process::{Queen, Result, quantiles};
use super::socket::{find, subscribe};

/// Connections of the poster: enough that no heartbeat waits for another's acknowledgement.
const CONNECTIONS: usize = 64;

/// When each hive's last heartbeat was sent: nanoseconds since the beginning.
struct Sent {
    begun: Instant,
    at: Vec<AtomicU64>,
}

impl Sent {
    fn note(&self, hive: usize) {
        self.at[hive].store(self.begun.elapsed().as_nanos() as u64, Ordering::Relaxed);
    }

    fn since(&self, hive: usize, now: Instant) -> Duration {
        let sent = Duration::from_nanos(self.at[hive].load(Ordering::Relaxed));
        (now - self.begun).saturating_sub(sent)
    }
}

pub(super) fn run(fleet: &Fleet, seconds: u64, subscribers: usize) -> Result<()> {
    let Fleet { hives, workers } = fleet;
    println!("latency: {hives} hives × {workers} workers at 1 Hz, {subscribers} subscribers");
    let home = tempfile::tempdir()?;
    let queen = Queen::start(&home.path().join("queen.db"), &[])?;
    let before = queen.cpu_seconds()?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let measured = measure(fleet, seconds, subscribers, queen.url());
    let (mut latencies, mut acknowledged) = runtime.block_on(measured)?;
    let cores = (queen.cpu_seconds()? - before) / seconds as f64;
    latencies.sort_unstable();
    acknowledged.sort_unstable();
    let expected = acknowledged.len() * subscribers;
    println!("receipts        {} of {expected}", latencies.len());
    println!("POST to ack     {} ms", quantiles(&acknowledged));
    println!("POST to receipt {} ms", quantiles(&latencies));
    println!("queen cpu       {cores:.2} cores");
    println!("queen memory    {:.0} MiB at most", queen.peak_memory_mb()?);
    if latencies.len() == expected { Ok(()) } else { Err("receipts are missing".into()) }
}

async fn measure(
    fleet: &Fleet,
    seconds: u64,
    subscribers: usize,
    url: &str,
) -> Result<(Vec<Duration>, Vec<Duration>)> {
    let begun = Instant::now();
    let at = (0..fleet.hives).map(|_| AtomicU64::new(0)).collect();
    let sent = Arc::new(Sent { begun, at });
    let end = begun + Duration::from_secs(seconds);
    let mut receivers = JoinSet::new();
    for _ in 0..subscribers {
        let socket = subscribe(url, "snapshot=false").await?;
        // A last heartbeat may still be on its way when the poster ends.
        receivers.spawn(receive(socket, Arc::clone(&sent), end + Duration::from_secs(1)));
    }
    let mut posters = JoinSet::new();
    for first in 0..CONNECTIONS.min(fleet.hives) {
        let queen: QueenUrl = url.parse()?;
        let hives: Vec<usize> = (first..fleet.hives).step_by(CONNECTIONS).collect();
        let pace = Duration::from_secs_f64(1.0 / fleet.hives as f64);
        posters.spawn(post(queen, hives, pace, fleet.workers, Arc::clone(&sent), end));
    }
    let (mut received, mut acknowledged) = (Vec::new(), Vec::new());
    while let Some(part) = posters.join_next().await {
        acknowledged.extend(part??);
    }
    while let Some(part) = receivers.join_next().await {
        received.extend(part??);
    }
    Ok((received, acknowledged))
}

/// Posts a heartbeat of each of some hives once a second, spread over the second.
async fn post(
    queen: QueenUrl,
    hives: Vec<usize>,
    pace: Duration,
    workers: usize,
    sent: Arc<Sent>,
    end: Instant,
) -> std::result::Result<Vec<Duration>, hive_agent::client::Error> {
    let mut client = Client::new(&queen, Timeouts::default());
    let clock = Clock::system();
    let mut acknowledged = Vec::new();
    for second in 0.. {
        for &hive in &hives {
            let due = sent.begun + Duration::from_secs(second) + pace * hive as u32;
            if due >= end {
                return Ok(acknowledged);
            }
            tokio::time::sleep_until(due).await;
            let body = heartbeat(hive, workers, second, &clock.now().to_string());
            sent.note(hive);
            let begun = Instant::now();
            let path = "/v1/hive-heartbeat";
            let reply = client.post(path, "application/json", None, body.into()).await?;
            if reply.status == 200 {
                acknowledged.push(begun.elapsed());
            }
        }
    }
    Ok(acknowledged)
}

/// Reads to the end, and notes how long each heartbeat took.
async fn receive(
    socket: TcpStream,
    sent: Arc<Sent>,
    end: Instant,
) -> std::io::Result<Vec<Duration>> {
    const NAME: &[u8] = br#""hive_telemetry","hive_id":"b-"#;
    let mut latencies = Vec::new();
    let mut buffer = vec![0; 64 << 10];
    // What may be the beginning of a name, from the last piece.
    let mut kept = 0;
    loop {
        if tokio::time::timeout_at(end, socket.readable()).await.is_err() {
            return Ok(latencies);
        }
        let read = match socket.try_read(&mut buffer[kept..]) {
            Ok(0) => return Ok(latencies),
            Ok(read) => read,
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => continue,
            Err(error) => return Err(error),
        };
        let now = Instant::now();
        let bytes = &buffer[..kept + read];
        let mut done = 0;
        while let Some(at) = find(&bytes[done..], NAME) {
            let number = &bytes[done + at + NAME.len()..];
            let Some(digits) = number.iter().position(|byte| !byte.is_ascii_digit()) else { break };
            let hive =
                number[..digits].iter().fold(0, |n, digit| n * 10 + usize::from(digit - b'0'));
            latencies.push(sent.since(hive, now));
            done += at + NAME.len() + digits;
        }
        // A name and its number are far shorter than this.
        let rest = done.max(bytes.len().saturating_sub(NAME.len() + 16));
        kept = bytes.len() - rest;
        buffer.copy_within(rest..rest + kept, 0);
    }
}
