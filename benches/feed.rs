//! How long is it from a heartbeat's POST to its receipt by every subscriber of the live feed?
//!
//!     cargo bench --bench feed -- [--hives 100] [--workers 16] [--subscribers 100] [--seconds 15]
//!
//! It starts a queen of its own. Poster and subscribers live in this process, so that one clock
//! measures both ends. A subscriber is a bare socket whose bytes are searched for the hive's
//! name: reading the feed costs as little as it can, and the queen and the kernel do the rest.

mod queen;

use std::fmt::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use ::queen::clock::Clock;
use clap::Parser;
use hive_agent::client::{Client, QueenUrl, Timeouts};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::Instant;

use self::queen::{Queen, Result, quantiles};

#[derive(Parser)]
struct Args {
    /// Hives, each with a heartbeat a second
    #[arg(long, default_value_t = 100)]
    hives: usize,
    /// Workers on each hive
    #[arg(long, default_value_t = 16)]
    workers: usize,
    /// Subscribers of the whole feed
    #[arg(long, default_value_t = 100)]
    subscribers: usize,
    /// Seconds
    #[arg(long, default_value_t = 15)]
    seconds: u64,
    /// Given by `cargo bench`, and not by `cargo test`, which runs benchmarks too
    #[arg(long, hide = true)]
    bench: bool,
}

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

fn main() -> Result<()> {
    let args = Args::parse();
    if !args.bench {
        println!("run with: cargo bench --bench feed");
        return Ok(());
    }
    let Args { hives, workers, subscribers, .. } = &args;
    println!("{hives} hives × {workers} workers at 1 Hz, {subscribers} subscribers");
    let home = tempfile::tempdir()?;
    let queen = Queen::start(&home.path().join("queen.db"), &[])?;
    let before = queen.cpu_seconds()?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let (mut latencies, mut acknowledged) = runtime.block_on(measure(&args, queen.url()))?;
    let cores = (queen.cpu_seconds()? - before) / args.seconds as f64;
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

async fn measure(args: &Args, url: &str) -> Result<(Vec<Duration>, Vec<Duration>)> {
    let begun = Instant::now();
    let at = (0..args.hives).map(|_| AtomicU64::new(0)).collect();
    let sent = Arc::new(Sent { begun, at });
    let end = begun + Duration::from_secs(args.seconds);
    let mut subscribers = JoinSet::new();
    for _ in 0..args.subscribers {
        let socket = subscribe(url).await?;
        // A last heartbeat may still be on its way when the poster ends.
        subscribers.spawn(receive(socket, Arc::clone(&sent), end + Duration::from_secs(1)));
    }
    let mut posters = JoinSet::new();
    for first in 0..CONNECTIONS.min(args.hives) {
        let queen: QueenUrl = url.parse()?;
        let hives: Vec<usize> = (first..args.hives).step_by(CONNECTIONS).collect();
        let pace = Duration::from_secs_f64(1.0 / args.hives as f64);
        posters.spawn(post(queen, hives, pace, args.workers, Arc::clone(&sent), end));
    }
    let (mut received, mut acknowledged) = (Vec::new(), Vec::new());
    while let Some(part) = posters.join_next().await {
        acknowledged.extend(part??);
    }
    while let Some(part) = subscribers.join_next().await {
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

fn heartbeat(hive: usize, workers: usize, second: u64, timestamp: &str) -> String {
    let mut body = format!(
        r#"{{"hive":{{"id":"b-{hive}","hostname":"10.0.0.1"}},"timestamp":"{timestamp}","interval_ms":1000,"workers":["#
    );
    for worker in 0..workers {
        let comma = if worker == 0 { "" } else { "," };
        let figure = (second * 7 + worker as u64) % 100;
        let _ = write!(
            body,
            r#"{comma}{{"pid":{pid},"group":"llm","instance":"{port}","cpu_pct":{figure}.5,"rss_mb":4096,"gpu_util_pct":{figure},"vram_mb":8192,"total_vram_mb":24576,"model":"llama-3.2-1b","uptime_s":{second},"io_r_mb_s":0.0,"io_w_mb_s":0.0}}"#,
            pid = 1000 + worker,
            port = 8000 + worker,
        );
    }
    body.push_str("]}");
    body
}

async fn subscribe(url: &str) -> Result<TcpStream> {
    let address = url.strip_prefix("http://").ok_or("no http")?;
    let socket = TcpStream::connect(address).await?;
    let request =
        format!("GET /v1/heartbeats/stream?snapshot=false HTTP/1.1\r\nhost: {address}\r\n\r\n");
    socket.writable().await?;
    if socket.try_write(request.as_bytes())? != request.len() {
        return Err("the request was not taken whole".into());
    }
    // The head of the answer shows that the place on the feed is taken.
    socket.readable().await?;
    Ok(socket)
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

fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    let first = needle.first()?;
    let mut from = 0;
    while let Some(at) = haystack[from..].iter().position(|byte| byte == first) {
        if haystack[from + at..].starts_with(needle) {
            return Some(from + at);
        }
        from += at + 1;
    }
    None
}
