//! The write path, top to bottom: a valid heartbeat becomes the newest reading of its hive,
//! a row in the history, and an event on the feed.
//!
//! Invariant: the live path never waits for the disk. When the history cannot be written the
//! registry and the feed go on; the agent is told to keep the heartbeat.

use std::sync::Arc;
use std::time::{Duration, Instant};

use hive_contract::{Code, Heartbeat, Problem, Timestamp};

use crate::clock::Clock;
use crate::counters::Counters;
use crate::feed::{Event, Feed};
use crate::history::{Ack, WriteError, Writer};
use crate::registry::{Full, HiveRegistry, Update};

/// How far a hive's clock may be ahead.
pub const MAX_AHEAD: Duration = Duration::from_mins(5);

/// Why heartbeats were not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IngestError {
    /// The hive's clock is ahead.
    #[error(
        "timestamp: {timestamp} is {ahead_ms} ms ahead of the queen's clock, \
         more than {} s; set the hive's clock", MAX_AHEAD.as_secs()
    )]
    ClockSkew {
        /// The reading's time.
        timestamp: Timestamp,
        /// By how much.
        ahead_ms: i64,
    },
    /// It is older than the history keeps.
    #[error("timestamp: {timestamp} is older than the history keeps ({})", humantime::format_duration(*kept))]
    TooOld {
        /// The reading's time.
        timestamp: Timestamp,
        /// How long raw readings are kept.
        kept: Duration,
    },
    /// There are too many hives, or their readings are too large.
    #[error("hive.id: {0}")]
    Full(#[from] Full),
    /// It could not be stored.
    #[error(transparent)]
    Write(#[from] WriteError),
}

impl From<IngestError> for Problem {
    fn from(error: IngestError) -> Self {
        let code = match &error {
            IngestError::ClockSkew { .. } => Code::ClockSkew,
            IngestError::TooOld { .. } => Code::TooOld,
            IngestError::Full(_) => Code::InvalidField,
            IngestError::Write(WriteError::TooMuchNew) => Code::TooManyRequests,
            IngestError::Write(WriteError::QueueFull) => Code::QueueFull,
            IngestError::Write(WriteError::Slow | WriteError::Unavailable) => {
                Code::StorageUnavailable
            }
        };
        let text = error.to_string();
        match text.split_once(": ") {
            Some((field, detail)) if field == "timestamp" || field == "hive.id" => {
                Self::field(code, field, detail)
            }
            _ => Self::new(code, text),
        }
    }
}

/// The write path. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Ingest {
    registry: HiveRegistry,
    writer: Writer,
    feed: Feed,
    counters: Counters,
    clock: Clock,
    retention_raw: Duration,
}

impl Ingest {
    /// Joins the parts. Readings older than `retention_raw` are refused.
    #[must_use]
    pub fn new(
        registry: HiveRegistry,
        writer: Writer,
        feed: Feed,
        counters: Counters,
        clock: Clock,
        retention_raw: Duration,
    ) -> Self {
        Self { registry, writer, feed, counters, clock, retention_raw }
    }

    /// Takes heartbeats, all or none, and returns when they are on disk. `bytes` is their size
    /// as they came in.
    ///
    /// # Errors
    /// One of them cannot be taken, or the history cannot be written now.
    pub async fn accept(
        &self,
        heartbeats: Vec<Heartbeat>,
        bytes: usize,
    ) -> Result<Vec<Ack>, IngestError> {
        let begun = Instant::now();
        let received = self.clock.now();
        for heartbeat in &heartbeats {
            self.check_time(heartbeat.timestamp, received)?;
        }
        let mut incoming = Vec::with_capacity(heartbeats.len());
        let mut newest = None;
        for heartbeat in heartbeats {
            let heartbeat = Arc::new(heartbeat);
            let update = self.registry.update_workers(&heartbeat, received)?;
            if update == Update::Newest {
                newest = Some(Arc::clone(&heartbeat));
            }
            incoming.push(heartbeat);
        }
        match self.writer.write(incoming, bytes).await {
            Ok(acks) => {
                let duplicates = acks.iter().filter(|ack| ack.duplicate).count();
                self.counters.acknowledged(acks.len() - duplicates, duplicates, begun.elapsed());
                Ok(acks)
            }
            Err(error) => {
                self.feed.publish(newest.map(Event::volatile));
                Err(error.into())
            }
        }
    }

    fn check_time(&self, timestamp: Timestamp, received: Timestamp) -> Result<(), IngestError> {
        let ahead_ms = timestamp.millis_since(received);
        if ahead_ms > MAX_AHEAD.as_millis() as i64 {
            return Err(IngestError::ClockSkew { timestamp, ahead_ms });
        }
        if ahead_ms < -(self.retention_raw.as_millis() as i64) {
            return Err(IngestError::TooOld { timestamp, kept: self.retention_raw });
        }
        Ok(())
    }
}
