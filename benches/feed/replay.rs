//! A subscriber that was away: the first of what it missed, and then the rest.

use std::ops::Range;
use std::time::Duration;

use hive_agent::client::{Client, QueenUrl, Timeouts};
use queen::clock::{self, Clock};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::fleet::{Fleet, heartbeat};
use super::queen_process::{Queen, Result};
use super::socket::{find, subscribe};

/// Connections that fill the history: their readings stand in it as those of a fleet would, one
/// hive's between the others'.
const CONNECTIONS: usize = 64;
/// The last of it is still live.
const LIVE_SECONDS: u64 = 60;
/// How often the same is read again. The first time it is not in the memory of her connections.
const ROUNDS: usize = 3;
/// Longer than anything here takes.
const LIMIT: Duration = Duration::from_secs(60);

pub(super) fn run(fleet: &Fleet, minutes: u64) -> Result<()> {
    let Fleet { hives, workers } = fleet;
    println!("replay: {minutes} minutes of {hives} hives × {workers} workers at 1 Hz");
    let home = tempfile::tempdir()?;
    let queen = Queen::start(&home.path().join("queen.db"), &["--seal-after", "20s"])?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let heartbeats = *hives as u64 * minutes * 60;
    runtime.block_on(async {
        let seconds = minutes * 60;
        let sealed = seconds.saturating_sub(LIVE_SECONDS);
        fill(queen.url(), fleet, 0..sealed, seconds).await?;
        tokio::task::block_in_place(|| until_sealed(queen.url()))?;
        fill(queen.url(), fleet, sealed..seconds, seconds).await?;
        for _ in 0..ROUNDS {
            let before = queen.cpu_seconds()?;
            let (first, all, bytes) = replay(queen.url(), heartbeats).await?;
            let seconds = all.as_secs_f64();
            println!(
                "first event     {:.1} ms, then {:.0} events/s, {:.0} MB/s; queen cpu {:.2} cores",
                first.as_secs_f64() * 1e3,
                heartbeats as f64 / seconds,
                bytes as f64 / seconds / 1e6,
                (queen.cpu_seconds()? - before) / seconds,
            );
        }
        println!("queen memory    {:.0} MiB at most", queen.peak_memory_mb()?);
        Ok(())
    })
}

/// Posts the heartbeats of some of the seconds up to now.
async fn fill(url: &str, fleet: &Fleet, some: Range<u64>, seconds: u64) -> Result<()> {
    let mut posters = JoinSet::new();
    let start_ms = Clock::system().now().millis() - seconds.cast_signed() * 1000;
    let workers = fleet.workers;
    for first in 0..CONNECTIONS.min(fleet.hives) {
        let mut client = Client::new(&url.parse::<QueenUrl>()?, Timeouts::default());
        let hives: Vec<usize> = (first..fleet.hives).step_by(CONNECTIONS).collect();
        let some = some.clone();
        posters.spawn(async move {
            for second in some {
                // Agents do not tick at the same moment.
                for hive in &hives {
                    let ms = start_ms + second.cast_signed() * 1000 + *hive as i64 * 7;
                    let timestamp = clock::moment(ms * 1000).to_string();
                    let body = heartbeat(*hive, workers, second, &timestamp);
                    let path = "/v1/hive-heartbeat";
                    let reply = client.post(path, "application/json", None, body.into()).await?;
                    if reply.status != 200 {
                        return Err(format!("a heartbeat was answered {}", reply.status).into());
                    }
                }
            }
            Ok::<_, Box<dyn std::error::Error + Send + Sync>>(())
        });
    }
    while let Some(part) = posters.join_next().await {
        part?.map_err(|error| -> Box<dyn std::error::Error> { error })?;
    }
    Ok(())
}

/// Waits until nothing is live.
fn until_sealed(url: &str) -> Result<()> {
    let begun = Instant::now();
    while begun.elapsed() < LIMIT {
        let metrics = ureq::get(format!("{url}/metrics")).call()?.body_mut().read_to_string()?;
        if metrics.lines().any(|line| line == "queen_live_samples 0") {
            return Ok(());
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    Err("the history is not sealed".into())
}

/// Reads so many events: the time to the first, the time to the last, and their bytes.
async fn replay(url: &str, events: u64) -> Result<(Duration, Duration, u64)> {
    let begun = Instant::now();
    let socket = subscribe(url, "since=-1h&event=heartbeat").await?;
    tokio::time::timeout(LIMIT, read(&socket, events, begun)).await?
}

async fn read(
    socket: &TcpStream,
    events: u64,
    begun: Instant,
) -> Result<(Duration, Duration, u64)> {
    let mut buffer = vec![0; 256 << 10];
    let (mut first, mut bytes, mut frames) = (None, 0, 0);
    // A frame's last bytes may come in two pieces.
    let mut newline_before = false;
    // The first frame sets the time of a new try.
    while frames < events + 1 {
        socket.readable().await?;
        let read = match socket.try_read(&mut buffer) {
            Ok(0) => return Err(format!("the stream ended after {frames} frames").into()),
            Ok(read) => read,
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => continue,
            Err(error) => return Err(error.into()),
        };
        let mut rest = &buffer[..read];
        if newline_before && rest[0] == b'\n' {
            frames += 1;
            rest = &rest[1..];
        }
        newline_before = rest.last() == Some(&b'\n') && !rest.ends_with(b"\n\n");
        while let Some(at) = find(rest, b"\n\n") {
            frames += 1;
            rest = &rest[at + 2..];
        }
        bytes += read as u64;
        if frames > 1 && first.is_none() {
            first = Some(begun.elapsed());
        }
    }
    Ok((first.ok_or("no event came")?, begun.elapsed(), bytes))
}
