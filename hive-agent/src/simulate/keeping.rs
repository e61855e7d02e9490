//! A machine that keeps what the queen does not take and catches up by itself, exactly as an
//! agent does: with the agent's own spool and delivery, on a connection of its own.
//!
//! Invariant: every heartbeat that was made is acknowledged, refused, dropped as the oldest at a
//! bound, or still in the spool directory, and counted as such.

use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::sync::CancellationToken;

use super::drive::{Rider, tally};
use super::report::{Kept, Tally};
use crate::client::Client;
use crate::clock::{Clock, SystemClock};
use crate::delivery::Delivery;
use crate::spool::{Limits, Spool};

/// How long a machine tries to send what is left when its time is over, as a stopping agent does.
const FLUSH_LIMIT: Duration = Duration::from_secs(2);

/// One machine with a spool.
pub(super) struct Keeping {
    pub(super) client: Client,
    pub(super) rider: Rider,
    pub(super) interval: Duration,
    pub(super) from: Instant,
    /// Of its own.
    pub(super) directory: PathBuf,
    pub(super) tally: Arc<Mutex<Tally>>,
    pub(super) stop: CancellationToken,
}

impl Keeping {
    /// Makes a heartbeat each interval until it is stopped; the rest then goes to the directory.
    pub(super) async fn run(self) {
        let Self { client, mut rider, interval, from, directory, tally: shared, stop } = self;
        let spool = Arc::new(Spool::new(Limits::default(), Some(directory)));
        let mut delivery = Delivery::new(client, Arc::clone(&spool));
        let closing = CancellationToken::new();
        let mut made = 0;
        let making = async {
            let mut due = from + rider.offset;
            while stop.run_until_cancelled(sleep_until(due)).await.is_some() {
                if let Some(at) = rider.times.next(SystemClock.wall()) {
                    spool.push(at, rider.hive.read(at));
                    made += 1;
                }
                // Ticks that passed meanwhile are left out, as everywhere.
                due += interval;
                while due + interval <= Instant::now() {
                    due += interval;
                    tally(&shared).skip(1);
                }
            }
            closing.cancel();
            sleep(FLUSH_LIMIT).await;
        };
        tokio::select! {
            () = delivery.run(&closing) => {}
            () = spool.keep() => {}
            () = making => { spool.close().await; }
        }
        let losses = spool.losses();
        tally(&shared).keep(&Kept {
            made,
            waiting: spool.len(),
            dropped: losses.dropped,
            refused: losses.refused,
        });
    }
}
