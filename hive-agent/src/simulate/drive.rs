//! One connection and the hives whose heartbeats it carries, one after another.
//!
//! Invariant: a hive's timestamps only grow, and it never sends two heartbeats for one tick: a
//! tick that passes while the connection is busy is skipped, not made up for.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use hive_contract::Timestamp;
use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::sync::CancellationToken;

use super::fleet::Hive;
use super::report::{Tally, Verdict};
use crate::client::Client;
use crate::clock::{Clock, SystemClock};

const PATH: &str = "/v1/hive-heartbeat";

/// When a hive sends.
#[derive(Debug, Clone, Copy)]
pub(super) enum Pace {
    /// As soon as the connection is free.
    FlatOut,
    /// Once in this time, counted from this moment.
    Every { interval: Duration, from: Instant },
}

/// One hive on a connection.
#[derive(Debug)]
pub(super) struct Rider {
    pub(super) hive: Hive,
    /// Its place within the interval: the hives are spread over it.
    pub(super) offset: Duration,
    pub(super) times: Times,
}

/// Which timestamp a hive's next heartbeat carries.
#[derive(Debug, Clone, Copy)]
pub(super) enum Times {
    /// The time at which it is made, unique also where two are made in one millisecond.
    Now { last_ms: i64 },
    /// A history made up afterwards: one interval after the other, until it has caught up.
    Backdated { next_ms: i64, step_ms: i64 },
}

impl Times {
    /// The next timestamp; `None` once a made-up history has reached the present.
    pub(super) fn next(&mut self, now: Timestamp) -> Option<Timestamp> {
        match self {
            Self::Now { last_ms } => {
                *last_ms = now.millis().max(*last_ms + 1);
                Timestamp::from_millis(*last_ms)
            }
            Self::Backdated { next_ms, step_ms } => {
                let at = *next_ms;
                *next_ms += *step_ms;
                Timestamp::from_millis(at).filter(|&at| at <= now)
            }
        }
    }
}

/// A connection and its share of the fleet.
pub(super) struct Drive {
    pub(super) client: Client,
    /// By their offset within the interval.
    pub(super) riders: Vec<Rider>,
    pub(super) pace: Pace,
    pub(super) tally: Arc<Mutex<Tally>>,
    pub(super) stop: CancellationToken,
}

impl Drive {
    /// Goes round until it is stopped or every hive has caught up with the present.
    ///
    /// A request that is under way is waited for: its answer belongs into the report.
    pub(super) async fn run(mut self) {
        match self.pace {
            Pace::FlatOut => self.flat_out().await,
            Pace::Every { interval, from } => self.paced(interval, from).await,
        }
    }

    async fn flat_out(&mut self) {
        while !self.riders.is_empty() {
            let mut index = 0;
            while let Some(rider) = self.riders.get_mut(index) {
                if self.stop.is_cancelled() {
                    return;
                }
                match rider.times.next(SystemClock.wall()) {
                    Some(at) => {
                        let body = rider.hive.read(at);
                        self.deliver(body).await;
                        index += 1;
                    }
                    None => drop(self.riders.remove(index)),
                }
            }
        }
    }

    async fn paced(&mut self, interval: Duration, from: Instant) {
        let mut tick = from;
        loop {
            for index in 0..self.riders.len() {
                let due = tick + self.riders[index].offset;
                if self.until(sleep_until(due)).await.is_none() {
                    return;
                }
                if superseded(due, interval, Instant::now()) {
                    tally(&self.tally).skip(1);
                    continue;
                }
                let rider = &mut self.riders[index];
                if let Some(at) = rider.times.next(SystemClock.wall()) {
                    let body = rider.hive.read(at);
                    self.deliver(body).await;
                }
            }
            tick += interval;
        }
    }

    /// Sends a heartbeat until it is settled, or the end has come.
    async fn deliver(&mut self, body: Bytes) {
        loop {
            let begun = Instant::now();
            let result = self.client.post(PATH, "application/json", None, body.clone()).await;
            let verdict = tally(&self.tally).settle(body.len(), begun.elapsed(), &result);
            match verdict {
                Verdict::Settled => return,
                Verdict::Again(wait) => {
                    if self.until(sleep(wait)).await.is_none() {
                        return;
                    }
                }
            }
        }
    }

    /// Waits for something, but not beyond the end.
    async fn until<F: Future>(&self, wait: F) -> Option<F::Output> {
        tokio::select! {
            biased;
            () = self.stop.cancelled() => None,
            done = wait => Some(done),
        }
    }
}

/// Whether the next tick is due as well, and stands for this one too.
fn superseded(due: Instant, interval: Duration, now: Instant) -> bool {
    now >= due + interval
}

/// The shared counts. A thread that panicked while it counted leaves nothing that is worse than
/// a count that is off by one.
pub(super) fn tally(shared: &Mutex<Tally>) -> std::sync::MutexGuard<'_, Tally> {
    shared.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
