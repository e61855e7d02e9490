//! The agent as a whole: one thread collects once an interval, one task sends.
//!
//! Invariant: sending never delays collecting. The two meet in the spool only, which is
//! bounded and never makes the collecting thread wait.

use std::io;
use std::sync::Arc;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use crate::client::{Client, Timeouts};
use crate::clock::{Clock, SystemClock};
use crate::collect::{Collector, Settings};
use crate::config::Config;
use crate::delivery::Delivery;
use crate::spool::Spool;

mod ticks;

use ticks::Ticks;

/// How long a stopping agent tries to send what is left.
const FLUSH_LIMIT: Duration = Duration::from_secs(2);
/// How long a stopping agent waits for a collection under way, whose reads can hang in the
/// kernel.
const STOP_LIMIT: Duration = Duration::from_secs(1);

/// Why the agent ended by itself.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The machine gives no more threads.
    #[error("cannot start the collecting thread")]
    Thread(#[source] io::Error),
    /// The collecting thread ended, which is a defect.
    #[error("the collecting thread ended unexpectedly")]
    CollectorEnded,
}

/// Collects and sends until `shutdown`; then sends what is left for at most two seconds, and
/// writes the rest to the spool directory, if there is one.
///
/// # Errors
/// The collecting thread could not be started or ended by itself.
pub async fn run(config: Config, shutdown: CancellationToken) -> Result<(), Error> {
    let spool = Arc::new(Spool::new(config.spool, config.spool_dir.clone()));
    let interval = config.interval.get();
    let collecting = Collecting::start(config.settings(), interval, Arc::clone(&spool))?;
    info!(
        hive.id = %config.hive_id,
        "collecting every {}, for the queen at {}",
        humantime::format_duration(interval),
        config.queen
    );

    let closing = CancellationToken::new();
    let client = Client::new(&config.queen, Timeouts::default());
    let mut delivery = Delivery::new(client, Arc::clone(&spool));
    let mut result = Ok(());
    let until_closed = async {
        result = tokio::select! {
            () = shutdown.cancelled() => Ok(()),
            () = collecting.ended.cancelled() => Err(Error::CollectorEnded),
        };
        collecting.stop().await;
        closing.cancel();
        tokio::time::sleep(FLUSH_LIMIT).await;
    };
    tokio::select! {
        () = delivery.run(&closing) => {}
        () = spool.keep() => {}
        () = until_closed => close(&spool).await,
    }
    result
}

/// Leaves what could not be sent to the next start.
async fn close(spool: &Arc<Spool>) {
    let is_kept = tokio::time::timeout(FLUSH_LIMIT, spool.close()).await.unwrap_or(false);
    let waiting = spool.len();
    if is_kept {
        info!("{waiting} heartbeats could not be sent before the end and are kept on disk");
    } else {
        warn!("{waiting} heartbeats could not be sent before the end; those in memory are lost");
    }
}

/// The collecting thread. It ends when this is dropped.
struct Collecting {
    stop: mpsc::Sender<()>,
    ended: CancellationToken,
}

impl Collecting {
    fn start(settings: Settings, interval: Duration, spool: Arc<Spool>) -> Result<Self, Error> {
        let (stop, stopped) = mpsc::channel();
        let ended = CancellationToken::new();
        // Dropped when the thread ends, also by a panic.
        let guard = ended.clone().drop_guard();
        thread::Builder::new()
            .name("hive-collector".into())
            .spawn(move || {
                let _guard = guard;
                collect(settings, interval, &spool, &stopped);
            })
            .map_err(Error::Thread)?;
        Ok(Self { stop, ended })
    }

    /// Lets a collection under way finish, if it does so soon.
    async fn stop(self) {
        let Self { stop, ended } = self;
        drop(stop);
        if tokio::time::timeout(STOP_LIMIT, ended.cancelled()).await.is_err() {
            warn!("a collection still hangs in the kernel and is left behind");
        }
    }
}

/// Collects at every tick until the other end of `stopped` is dropped.
fn collect(settings: Settings, interval: Duration, spool: &Spool, stopped: &mpsc::Receiver<()>) {
    let clock = Arc::new(SystemClock);
    let mut ticks = Ticks::new(clock.monotonic(), interval);
    let mut collector = Collector::new(settings, Arc::<SystemClock>::clone(&clock));
    loop {
        let standing = spool.standing();
        for complaint in standing.complaints {
            collector.complain("spool", complaint);
        }
        let heartbeat = collector.collect(standing.waiting);
        match serde_json::to_vec(&heartbeat) {
            Ok(json) => spool.push(heartbeat.timestamp, json.into()),
            Err(error) => error!("a heartbeat cannot be written as JSON: {error}"),
        }
        match stopped.recv_timeout(ticks.wait(clock.monotonic())) {
            Err(RecvTimeoutError::Timeout) => {}
            Ok(()) | Err(RecvTimeoutError::Disconnected) => return,
        }
    }
}

#[cfg(test)]
mod tests;
