//! Takes heartbeats from the spool to the queen.
//!
//! The newest goes first: the queen's picture of the present is worth more than the past. What
//! gathered while she was away follows in order, in compressed bulk, with a rest after each
//! request that is about twice as long as the queen took for it: a queen who has much to do is
//! asked less. While she does not answer, a try is made after waits that grow from 0.25 s to
//! 30 s; while she answers that she can store nothing, the present is offered at the pace that she
//! asks for, since she shows it all the same; while she only refuses the past, the present goes on. While the present is ahead of her
//! clock nothing is sent: which of the two clocks is wrong shows when she takes it again.
//!
//! Invariant: a heartbeat leaves the spool only after an answer about it: acknowledged, or
//! refused in a way that sending it again would not change.

use std::io::{self, Write};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use hive_contract::heartbeat::MAX_BULK_LINES;
use hive_contract::{Code, Problem};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use crate::client::{self, Client, Reply};
use crate::spool::{Entry, Newest, Spool};

mod backoff;

use backoff::Backoff;

const HEARTBEAT_PATH: &str = "/v1/hive-heartbeat";
const BULK_PATH: &str = "/v1/hive-heartbeats";
/// The largest bulk body before compression, in bytes: small enough that the present never waits
/// long behind it, and that catching up takes little memory.
const MAX_BULK_BYTES: usize = 2 << 20;
const BULK_ENCODING: &str = "zstd";
/// As fast as copying, nearly, and a twentieth of the size.
const BULK_LEVEL: i32 = 1;
/// The rest after a bulk, in times that it took; by chance up to a half more or less.
const REST: f64 = 2.0;
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
    /// It is ahead of the queen's clock. If it is hers that is wrong, it is taken once that is
    /// mended.
    Ahead {
        reason: String,
    },
}

/// The way from one spool to one queen.
pub(crate) struct Delivery {
    client: Client,
    spool: Arc<Spool>,
    backoff: Backoff,
    /// Nothing is sent before, and no bulk before the second one.
    next: Instant,
    next_bulk: Instant,
    bulk_backoff: Backoff,
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

impl Delivery {
    pub(crate) fn new(client: Client, spool: Arc<Spool>) -> Self {
        Self {
            client,
            spool,
            backoff: Backoff::default(),
            next: Instant::now(),
            next_bulk: Instant::now(),
            bulk_backoff: Backoff::default(),
            bulk_lines: MAX_BULK_LINES,
            link: Link::Untried,
            refused: Refused::default(),
        }
    }

    /// Sends what is in the spool and what comes, until it is `closing` and nothing is left that
    /// could be sent.
    /// Can be dropped at any await: what was not answered is still in the spool.
    pub(crate) async fn run(&mut self, closing: &CancellationToken) {
        let mut is_closing = false;
        loop {
            if !is_closing && closing.is_cancelled() {
                is_closing = true;
                // One more try at once: there is little time left.
                (self.backoff, self.bulk_backoff) = Default::default();
                (self.next, self.next_bulk) = (Instant::now(), Instant::now());
            }
            let newest = self.spool.newest();
            let due = match &newest {
                Some(_) => self.next,
                None => self.next.max(self.next_bulk),
            };
            // The past goes to a queen only who has taken the present.
            let has_nothing = newest.is_none() && !matches!(self.link, Link::Up);
            if has_nothing || self.spool.is_empty() {
                if is_closing {
                    return;
                }
                tokio::select! {
                    () = self.spool.filled() => {}
                    () = closing.cancelled() => {}
                }
            } else if Instant::now() < due {
                tokio::select! {
                    () = tokio::time::sleep_until(due) => {}
                    () = self.spool.filled() => {}
                    () = closing.cancelled(), if !is_closing => {}
                }
            } else if let Some(newest) = newest {
                self.send_newest(&newest).await;
            } else {
                self.send_bulk().await;
            }
        }
    }

    async fn send_newest(&mut self, newest: &Newest) {
        let json = newest.entry.json.clone();
        let reply = self.client.post(HEARTBEAT_PATH, "application/json", None, json).await;
        match judge(reply) {
            Outcome::Acknowledged => {
                self.spool.acknowledge_newest(newest);
                self.went_up();
            }
            Outcome::Refused { reason } => {
                self.spool.refuse_newest(newest, &reason);
                self.went_up();
                self.log_refusal(&reason);
            }
            Outcome::Later { reason, retry_after } => self.try_later(&reason, retry_after),
            Outcome::Ahead { reason } => self.try_later(&reason, None),
        }
    }

    fn try_later(&mut self, reason: &str, retry_after: Option<Duration>) {
        self.went_down(reason);
        let wait = match retry_after {
            Some(wait) => Backoff::asked(wait),
            None => self.backoff.next(None),
        };
        self.next = Instant::now() + wait;
    }

    async fn send_bulk(&mut self) {
        let Some(batch) = self.spool.oldest(self.bulk_lines, MAX_BULK_BYTES).await else {
            // All on disk was sent already, or cannot be read at the moment.
            self.next_bulk = Instant::now() + self.bulk_backoff.next(None);
            return;
        };
        let lines = batch.entries().len();
        let body = match compressed_lines(batch.entries()) {
            Ok(body) => body,
            Err(error) => {
                warn!("heartbeats cannot be compressed: {error}");
                self.next_bulk = Instant::now() + self.bulk_backoff.next(None);
                return;
            }
        };
        let started = Instant::now();
        let encoding = Some(BULK_ENCODING);
        let reply = self.client.post(BULK_PATH, "application/x-ndjson", encoding, body).await;
        let rest = started.elapsed().mul_f64(REST * (0.5 + fastrand::f64()));
        self.next_bulk = Instant::now() + rest;
        match judge(reply) {
            Outcome::Acknowledged => {
                self.spool.remove(batch).await;
                self.bulk_lines = (self.bulk_lines * 2).min(MAX_BULK_LINES);
                self.bulk_backoff = Backoff::default();
            }
            // One bad heartbeat refuses all of them: halves find it.
            Outcome::Refused { .. } | Outcome::Ahead { .. } if lines > 1 => {
                self.bulk_lines = lines / 2;
            }
            // She has taken the present: it is this one's clock that was wrong.
            Outcome::Refused { reason } | Outcome::Ahead { reason } => {
                self.spool.refuse(batch, &reason).await;
                self.bulk_lines = (self.bulk_lines * 2).min(MAX_BULK_LINES);
                self.log_refusal(&reason);
            }
            Outcome::Later { reason, retry_after } => {
                debug!("the queen does not take {lines} heartbeats of the past: {reason}");
                // The line may be too slow for so much in the time that a request has.
                self.bulk_lines = (lines / 2).max(1);
                self.next_bulk = Instant::now() + self.bulk_backoff.next(retry_after);
            }
        }
    }

    fn went_up(&mut self) {
        self.backoff = Backoff::default();
        self.spool.set_queen_away(false);
        match std::mem::replace(&mut self.link, Link::Up) {
            Link::Up => {}
            Link::Untried => info!("the queen takes the heartbeats"),
            Link::Down { since, dropped_before } => {
                let away_s = since.elapsed().as_secs();
                let waiting = self.spool.len();
                let dropped = self.spool.losses().dropped - dropped_before;
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
        self.spool.set_queen_away(true);
        if !matches!(self.link, Link::Down { .. }) {
            warn!("the queen does not take heartbeats, which are kept until she does: {reason}");
            let dropped_before = self.spool.losses().dropped;
            self.link = Link::Down { since: Instant::now(), dropped_before };
        }
    }

    fn log_refusal(&mut self, reason: &str) {
        let Refused { unlogged, last_logged } = &mut self.refused;
        *unlogged += 1;
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

fn compressed_lines(entries: &[Entry]) -> io::Result<Bytes> {
    let mut encoder = zstd::Encoder::new(Vec::new(), BULK_LEVEL)?;
    for entry in entries {
        encoder.write_all(&entry.json)?;
        encoder.write_all(b"\n")?;
    }
    Ok(encoder.finish()?.into())
}

fn judge(reply: Result<Reply, client::Error>) -> Outcome {
    match reply {
        Ok(Reply { status: 200..=299, .. }) => Outcome::Acknowledged,
        // These are about what was sent. The others are about where it was sent (a proxy that
        // knows no queen at the moment, a wrong path) and may change.
        Ok(reply @ Reply { status: 400 | 413 | 422, .. }) => {
            let reason = explain(&reply);
            match problem(&reply).map(|problem| problem.code) {
                Some(Code::ClockSkew) => Outcome::Ahead { reason },
                _ => Outcome::Refused { reason },
            }
        }
        Ok(reply) => later(&reply),
        Err(error) => Outcome::Later { reason: chain(&error), retry_after: None },
    }
}

fn later(reply: &Reply) -> Outcome {
    Outcome::Later { reason: explain(reply), retry_after: reply.retry_after }
}

fn problem(reply: &Reply) -> Option<Problem> {
    serde_json::from_slice(&reply.body).ok()
}

/// The problem's own words where the answer is a problem.
fn explain(reply: &Reply) -> String {
    let detail = match problem(reply) {
        Some(problem) => problem.detail,
        None => String::from_utf8_lossy(&reply.body).into_owned(),
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
