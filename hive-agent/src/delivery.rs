//! Takes heartbeats from the spool to the queen.
//!
//! The newest goes first: the queen's picture of the present is worth more than the past. What
//! gathered while she was away follows in order, in bulk. While she does not answer, a try is
//! made after waits that grow from 0.25 s to 30 s.
//!
//! Invariant: a heartbeat leaves the spool only after an answer about it: acknowledged, or
//! refused in a way that sending it again would not change.

use std::time::Duration;

use bytes::Bytes;
use hive_contract::Problem;
use hive_contract::heartbeat::MAX_BULK_LINES;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::client::{self, Client, Reply};
use crate::spool::{Entry, Spool};

mod backoff;

use backoff::Backoff;

const HEARTBEAT_PATH: &str = "/v1/hive-heartbeat";
const BULK_PATH: &str = "/v1/hive-heartbeats";
/// The largest bulk body, in bytes: small enough that the present never waits long behind it.
const MAX_BULK_BYTES: usize = 4 << 20;
/// Refusals are logged at most so often; those between are counted.
const REFUSAL_LOG_PAUSE: Duration = Duration::from_secs(60);

/// What an answer, or its absence, means for what was sent.
enum Outcome {
    Acknowledged,
    /// It stays in the spool and is sent again.
    Later {
        reason: String,
        retry_after: Option<Duration>,
    },
    /// It would be refused every time.
    Refused {
        reason: String,
    },
}

/// The way from one spool to one queen.
pub(crate) struct Delivery<'a> {
    client: Client,
    spool: &'a Spool,
    backoff: Backoff,
    /// Up to this number everything was once the newest and had its turn; it goes in bulk.
    past: Option<u64>,
    /// How many heartbeats the next bulk may have; smaller after one that failed.
    bulk_lines: usize,
    link: Link,
    refused: Refused,
}

/// What was last known of the queen, so that only changes are logged.
enum Link {
    Untried,
    Up,
    Down { since: Instant, dropped_before: u64 },
}

#[derive(Default)]
struct Refused {
    unlogged: u64,
    last_logged: Option<Instant>,
}

impl<'a> Delivery<'a> {
    pub(crate) fn new(client: Client, spool: &'a Spool) -> Self {
        Self {
            client,
            spool,
            backoff: Backoff::default(),
            past: None,
            bulk_lines: MAX_BULK_LINES,
            link: Link::Untried,
            refused: Refused::default(),
        }
    }

    /// Sends what is in the spool and what comes, until it is `closing` and the spool is empty.
    /// Can be dropped at any await: what was not answered is still in the spool.
    pub(crate) async fn run(&mut self, closing: &CancellationToken) {
        loop {
            let Some(newest) = self.spool.newest() else {
                tokio::select! {
                    () = self.spool.filled() => continue,
                    () = closing.cancelled() => {}
                }
                // The last one may have come at the moment of closing.
                if self.spool.len() == 0 {
                    return;
                }
                continue;
            };
            let outcome = if self.past < Some(newest.number) {
                self.send_newest(&newest).await
            } else {
                self.send_bulk().await
            };
            if let Outcome::Later { reason, retry_after } = outcome {
                self.went_down(&reason);
                let wait = self.backoff.next(retry_after);
                if closing.is_cancelled() {
                    tokio::time::sleep(wait).await;
                } else {
                    tokio::select! {
                        () = tokio::time::sleep(wait) => {}
                        // One more try at once: there is little time left.
                        () = closing.cancelled() => self.backoff = Backoff::default(),
                    }
                }
            }
        }
    }

    async fn send_newest(&mut self, newest: &Entry) -> Outcome {
        let reply =
            self.client.post(HEARTBEAT_PATH, "application/json", None, newest.json.clone()).await;
        let outcome = judge(reply);
        match &outcome {
            Outcome::Acknowledged => {
                self.spool.remove(newest.number..=newest.number);
                self.went_up();
                self.past = Some(newest.number);
            }
            Outcome::Refused { reason } => {
                self.spool.remove(newest.number..=newest.number);
                self.went_up();
                self.past = Some(newest.number);
                self.log_refusal(reason, 1);
            }
            Outcome::Later { .. } => {}
        }
        outcome
    }

    async fn send_bulk(&mut self) -> Outcome {
        let entries = self.spool.oldest(self.bulk_lines, MAX_BULK_BYTES);
        let (Some(first), Some(last)) = (entries.first(), entries.last()) else {
            return Outcome::Acknowledged;
        };
        let numbers = first.number..=last.number;
        let lines = entries.len();
        let body = lines_of(&entries);
        drop(entries);
        let reply = self.client.post(BULK_PATH, "application/x-ndjson", None, body).await;
        let outcome = judge(reply);
        match &outcome {
            Outcome::Acknowledged => {
                self.spool.remove(numbers);
                self.bulk_lines = (self.bulk_lines * 2).min(MAX_BULK_LINES);
                self.went_up();
            }
            // One bad heartbeat refuses all of them: halves find it.
            Outcome::Refused { .. } if lines > 1 => self.bulk_lines = lines / 2,
            Outcome::Refused { reason } => {
                self.spool.remove(numbers);
                self.bulk_lines = (self.bulk_lines * 2).min(MAX_BULK_LINES);
                self.log_refusal(reason, 1);
            }
            // The line may be too slow for so much in the time that a request has.
            Outcome::Later { .. } => self.bulk_lines = (lines / 2).max(1),
        }
        outcome
    }

    fn went_up(&mut self) {
        self.backoff = Backoff::default();
        match std::mem::replace(&mut self.link, Link::Up) {
            Link::Up => {}
            Link::Untried => info!("the queen takes the heartbeats"),
            Link::Down { since, dropped_before } => {
                let away_s = since.elapsed().as_secs();
                let waiting = self.spool.len();
                let dropped = self.spool.dropped() - dropped_before;
                info!(
                    spool.waiting = waiting,
                    spool.dropped = dropped,
                    "the queen is back after {away_s} s; {waiting} heartbeats follow in bulk, \
                     {dropped} were dropped"
                );
            }
        }
    }

    fn went_down(&mut self, reason: &str) {
        if !matches!(self.link, Link::Down { .. }) {
            warn!("the queen does not take heartbeats, which are kept until she does: {reason}");
            let dropped_before = self.spool.dropped();
            self.link = Link::Down { since: Instant::now(), dropped_before };
        }
    }

    fn log_refusal(&mut self, reason: &str, heartbeats: u64) {
        let Refused { unlogged, last_logged } = &mut self.refused;
        *unlogged += heartbeats;
        if last_logged.is_none_or(|logged| logged.elapsed() >= REFUSAL_LOG_PAUSE) {
            warn!(
                heartbeats.refused = *unlogged,
                "the queen refused {unlogged} heartbeats, which are dropped: {reason}"
            );
            *unlogged = 0;
            *last_logged = Some(Instant::now());
        }
    }
}

fn lines_of(entries: &[Entry]) -> Bytes {
    let length = entries.iter().map(|entry| entry.json.len() + 1).sum();
    let mut body = Vec::with_capacity(length);
    for entry in entries {
        body.extend_from_slice(&entry.json);
        body.push(b'\n');
    }
    body.into()
}

fn judge(reply: Result<Reply, client::Error>) -> Outcome {
    match reply {
        Ok(Reply { status: 200..=299, .. }) => Outcome::Acknowledged,
        Ok(reply @ Reply { status: 408 | 429, .. }) => later(&reply),
        Ok(reply @ Reply { status: 400..=499, .. }) => Outcome::Refused { reason: explain(&reply) },
        Ok(reply) => later(&reply),
        Err(error) => Outcome::Later { reason: chain(&error), retry_after: None },
    }
}

fn later(reply: &Reply) -> Outcome {
    Outcome::Later { reason: explain(reply), retry_after: reply.retry_after }
}

/// The problem's own words where the answer is a problem.
fn explain(reply: &Reply) -> String {
    let detail = match serde_json::from_slice::<Problem>(&reply.body) {
        Ok(problem) => problem.detail,
        Err(_) => String::from_utf8_lossy(&reply.body).into_owned(),
    };
    let detail: String = detail.chars().filter(|c| !c.is_control()).take(500).collect();
    format!("{} {detail}", reply.status)
}

/// An error with everything that led to it.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}

#[cfg(test)]
mod tests;
