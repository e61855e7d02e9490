//! What came of a simulation: counted while it runs, told at its end.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

use crate::client::{self, Reply};

/// The longest acknowledgement that is told apart: 10 minutes, far above any timeout.
const MAX_LATENCY_US: u64 = 600_000_000;

/// Counts of a simulation under way.
#[derive(Debug)]
pub(super) struct Tally {
    sent: u64,
    acknowledged: u64,
    duplicates: u64,
    skipped: u64,
    kept: Option<Kept>,
    body_bytes: u64,
    refusals: BTreeMap<(u16, String), u64>,
    failures: BTreeMap<&'static str, u64>,
    last_trouble: Option<String>,
    latency_us: Histogram<u64>,
}

/// What became of the heartbeats of machines that keep what is not taken.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub(super) struct Kept {
    pub(super) made: u64,
    /// In the spool at the end.
    pub(super) waiting: u64,
    /// The oldest, for want of room.
    pub(super) dropped: u64,
    /// By the queen.
    pub(super) refused: u64,
}

/// What is left to do about one heartbeat.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It is with the queen, or she will never take it.
    Settled,
    /// Send the same again after this time.
    Again(Duration),
}

/// What an acknowledgement says that matters here.
#[derive(Deserialize)]
struct Acknowledgement {
    #[serde(default)]
    duplicate: bool,
}

/// What a refusal says that matters here.
#[derive(Deserialize, Default)]
struct Refusal {
    #[serde(default)]
    code: String,
    #[serde(default)]
    detail: String,
}

/// Kinds of refusals that are told apart.
const MAX_REFUSALS: usize = 256;
/// Wait before the next try where the queen names none, and the most that is waited.
const USUAL_WAIT: Duration = Duration::from_secs(1);
const MAX_WAIT: Duration = Duration::from_secs(30);

impl Tally {
    pub(super) fn new() -> Self {
        Self {
            sent: 0,
            acknowledged: 0,
            duplicates: 0,
            skipped: 0,
            kept: None,
            body_bytes: 0,
            refusals: BTreeMap::new(),
            failures: BTreeMap::new(),
            last_trouble: None,
            latency_us: Histogram::new_with_bounds(1, MAX_LATENCY_US, 3)
                .expect("the bounds and the precision are valid"),
        }
    }

    pub(super) fn sent(&self) -> u64 {
        self.sent
    }

    pub(super) fn acknowledged(&self) -> u64 {
        self.acknowledged
    }

    /// What went wrong last, for a person.
    pub(super) fn last_trouble(&self) -> Option<&str> {
        self.last_trouble.as_deref()
    }

    /// Refusals and failures so far.
    pub(super) fn troubles(&self) -> u64 {
        self.refusals.values().sum::<u64>() + self.failures.values().sum::<u64>()
    }

    /// Ticks that passed before the hive's connection was free.
    pub(super) fn skip(&mut self, ticks: u64) {
        self.skipped += ticks;
    }

    /// Counts all heartbeats of one machine that keeps them. Each counts as sent once.
    pub(super) fn keep(&mut self, one: &Kept) {
        let all = self.kept.get_or_insert_default();
        all.made += one.made;
        all.waiting += one.waiting;
        all.dropped += one.dropped;
        all.refused += one.refused;
        self.sent = all.made;
        self.acknowledged = all.made.saturating_sub(all.waiting + all.dropped + all.refused);
    }

    /// Counts one request and what came of it, and says how to go on.
    pub(super) fn settle(
        &mut self,
        body_bytes: usize,
        took: Duration,
        result: &Result<Reply, client::Error>,
    ) -> Verdict {
        self.sent += 1;
        self.body_bytes += body_bytes as u64;
        match result {
            Ok(reply) if reply.status == 200 => {
                self.acknowledge(reply, took);
                Verdict::Settled
            }
            Ok(reply) => self.refuse(reply),
            Err(error) => self.fail(error),
        }
    }

    fn acknowledge(&mut self, reply: &Reply, took: Duration) {
        self.acknowledged += 1;
        self.latency_us.saturating_record(took.as_micros() as u64);
        if serde_json::from_slice(&reply.body).is_ok_and(|ack: Acknowledgement| ack.duplicate) {
            self.duplicates += 1;
        }
    }

    fn refuse(&mut self, reply: &Reply) -> Verdict {
        let refusal: Refusal = serde_json::from_slice(&reply.body).unwrap_or_default();
        let status = reply.status;
        // The queen has about twenty codes; whatever else answers must not fill the memory.
        let mut kind = (status, refusal.code.chars().take(64).collect());
        if self.refusals.len() >= MAX_REFUSALS && !self.refusals.contains_key(&kind) {
            kind.1 = "other".to_owned();
        }
        *self.refusals.entry(kind).or_default() += 1;
        self.last_trouble = Some(match (refusal.code.as_str(), refusal.detail.as_str()) {
            ("", _) => status.to_string(),
            (code, detail) => format!("{status} {code}: {detail}"),
        });
        match status {
            429 | 503 => Verdict::Again(reply.retry_after.unwrap_or(USUAL_WAIT).min(MAX_WAIT)),
            _ => Verdict::Settled,
        }
    }

    fn fail(&mut self, error: &client::Error) -> Verdict {
        let (kind, verdict) = match error {
            client::Error::Connect { .. } => ("connect", Verdict::Again(USUAL_WAIT)),
            client::Error::Timeout { .. } => ("timeout", Verdict::Again(USUAL_WAIT)),
            client::Error::Broken { .. } => ("broken", Verdict::Again(USUAL_WAIT)),
            client::Error::ReplyTooLarge { .. } => ("reply_too_large", Verdict::Settled),
            client::Error::Request { .. } => ("request", Verdict::Settled),
        };
        *self.failures.entry(kind).or_default() += 1;
        let source = std::error::Error::source(error);
        self.last_trouble = Some(match source {
            Some(source) => format!("{error}: {source}"),
            None => error.to_string(),
        });
        verdict
    }

    /// The report, with all that passed in `elapsed` on hives of so many workers.
    pub(super) fn report(&self, elapsed: Duration, workers: usize) -> Report {
        let seconds = elapsed.as_secs_f64().max(1e-9);
        let per_second = |count: u64| round(count as f64 / seconds);
        let quantile = |q| self.latency_us.value_at_quantile(q) as f64 / 1_000.0;
        Report {
            duration_s: round(seconds),
            heartbeats_sent: self.sent,
            heartbeats_acknowledged: self.acknowledged,
            duplicates: self.duplicates,
            ticks_skipped: self.skipped,
            kept: self.kept,
            heartbeats_per_s: per_second(self.acknowledged),
            worker_samples_per_s: per_second(self.acknowledged * workers as u64),
            body_bytes: self.body_bytes,
            latency_ms: self.kept.is_none().then(|| Latency {
                p50: quantile(0.5),
                p90: quantile(0.9),
                p99: quantile(0.99),
                max: self.latency_us.max() as f64 / 1_000.0,
            }),
            refusals: self
                .refusals
                .iter()
                .map(|((status, code), &count)| Refused {
                    status: *status,
                    code: code.clone(),
                    count,
                })
                .collect(),
            failures: self.failures.clone(),
            last_trouble: self.last_trouble.clone(),
        }
    }
}

fn round(value: f64) -> f64 {
    (value * 1_000.0).round() / 1_000.0
}

/// What came of a simulation.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    duration_s: f64,
    /// Requests, repetitions included.
    heartbeats_sent: u64,
    heartbeats_acknowledged: u64,
    duplicates: u64,
    /// Ticks left out because the hive's connection was still busy.
    ticks_skipped: u64,
    /// Of machines that keep what is not taken.
    #[serde(skip_serializing_if = "Option::is_none")]
    kept: Option<Kept>,
    /// Acknowledged ones.
    heartbeats_per_s: f64,
    worker_samples_per_s: f64,
    /// JSON sent, without HTTP headers.
    body_bytes: u64,
    /// From the first byte sent to the whole acknowledgement, where each request is counted.
    #[serde(skip_serializing_if = "Option::is_none")]
    latency_ms: Option<Latency>,
    refusals: Vec<Refused>,
    /// Requests without an answer, by kind.
    failures: BTreeMap<&'static str, u64>,
    last_trouble: Option<String>,
}

#[derive(Debug, Serialize)]
struct Latency {
    p50: f64,
    p90: f64,
    p99: f64,
    max: f64,
}

#[derive(Debug, Serialize)]
struct Refused {
    status: u16,
    code: String,
    count: u64,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "duration        {:.1} s", self.duration_s)?;
        writeln!(
            f,
            "heartbeats      {} sent, {} acknowledged, {} duplicates, {} ticks skipped",
            self.heartbeats_sent, self.heartbeats_acknowledged, self.duplicates, self.ticks_skipped
        )?;
        if let Some(Kept { made, waiting, dropped, refused }) = self.kept {
            writeln!(
                f,
                "kept            {made} made, {waiting} still wait, {dropped} dropped, {refused} refused"
            )?;
        }
        writeln!(f, "rate            {:.0} heartbeats/s", self.heartbeats_per_s)?;
        writeln!(f, "                {:.0} worker-samples/s", self.worker_samples_per_s)?;
        if let Some(Latency { p50, p90, p99, max }) = self.latency_ms {
            writeln!(
                f,
                "ack latency ms  p50 {p50:.2}  p90 {p90:.2}  p99 {p99:.2}  max {max:.2}\n\
                 body bytes      {}",
                self.body_bytes
            )?;
        }
        if self.refusals.is_empty() && self.failures.is_empty() {
            return write!(f, "refusals        none");
        }
        for Refused { status, code, count } in &self.refusals {
            writeln!(f, "refused         {count} × {status} {code}")?;
        }
        for (kind, count) in &self.failures {
            writeln!(f, "failed          {count} × {kind}")?;
        }
        write!(f, "last trouble    {}", self.last_trouble.as_deref().unwrap_or("none"))
    }
}

#[cfg(test)]
mod tests;
