//! What the queen counts of her own work. Handed to the parts where the things happen; read by
//! `GET /metrics`.
//!
//! Invariant: counting never waits. A reader may see one counter a moment ahead of another.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use hive_contract::Code;

/// Why heartbeats are refused, and what that is called.
const REASONS: [(Code, &str); 10] = [
    (Code::MalformedJson, "malformed_json"),
    (Code::TooLarge, "too_large"),
    (Code::UnsupportedMediaType, "unsupported_media_type"),
    (Code::InvalidField, "invalid_field"),
    (Code::ClockSkew, "clock_skew"),
    (Code::TooOld, "too_old"),
    (Code::TooManyRequests, "too_many_requests"),
    (Code::QueueFull, "queue_full"),
    (Code::StorageUnavailable, "storage_unavailable"),
    (Code::Internal, "internal"),
];

/// Upper bounds of the buckets of the time to an acknowledgement.
const BUCKETS: [Duration; 12] = [
    Duration::from_millis(1),
    Duration::from_micros(2500),
    Duration::from_millis(5),
    Duration::from_millis(10),
    Duration::from_millis(25),
    Duration::from_millis(50),
    Duration::from_millis(100),
    Duration::from_millis(250),
    Duration::from_millis(500),
    Duration::from_secs(1),
    Duration::from_millis(2500),
    Duration::from_secs(5),
];

/// The counters. Cheap to clone: every clone counts into the same ones.
#[derive(Debug, Clone, Default)]
pub struct Counters(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    stored: AtomicU64,
    duplicates: AtomicU64,
    rejected: [AtomicU64; REASONS.len()],
    acknowledgements: Histogram,
    commits: AtomicU64,
    failed_commits: AtomicU64,
    sealed_blocks: AtomicU64,
    live_samples: AtomicU64,
}

/// How often something took how long.
#[derive(Debug, Default)]
struct Histogram {
    /// One for each of [`BUCKETS`], and one for what took longer.
    counts: [AtomicU64; BUCKETS.len() + 1],
    sum_us: AtomicU64,
}

/// A histogram as it was at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Distribution {
    /// How many took at most so long.
    pub buckets: Vec<(Duration, u64)>,
    /// How many there were.
    pub count: u64,
    /// How long they took together.
    pub sum: Duration,
}

fn add(counter: &AtomicU64, number: usize) {
    counter.fetch_add(number as u64, Ordering::Relaxed);
}

fn read(counter: &AtomicU64) -> u64 {
    counter.load(Ordering::Relaxed)
}

impl Counters {
    /// A request's heartbeats were acknowledged, so long after they were read.
    pub fn acknowledged(&self, stored: usize, duplicates: usize, after: Duration) {
        add(&self.0.stored, stored);
        add(&self.0.duplicates, duplicates);
        let place = BUCKETS.partition_point(|&bound| bound < after);
        add(&self.0.acknowledgements.counts[place], 1);
        let micros = u64::try_from(after.as_micros()).unwrap_or(u64::MAX);
        self.0.acknowledgements.sum_us.fetch_add(micros, Ordering::Relaxed);
    }

    /// A request with heartbeats was refused.
    pub fn rejected(&self, code: Code) {
        let place = REASONS.iter().position(|(reason, _)| *reason == code);
        // What has no name of its own is counted as the last.
        add(&self.0.rejected[place.unwrap_or(REASONS.len() - 1)], 1);
    }

    /// A transaction with heartbeats ended.
    pub fn committed(&self, succeeded: bool) {
        add(if succeeded { &self.0.commits } else { &self.0.failed_commits }, 1);
    }

    /// Blocks are numbered from 1 on: the last that was sealed.
    pub fn sealed_through(&self, block: i64) {
        self.0.sealed_blocks.store(block.max(0).unsigned_abs(), Ordering::Relaxed);
    }

    /// So many samples wait to be sealed.
    pub fn live_samples(&self, samples: usize) {
        self.0.live_samples.store(samples as u64, Ordering::Relaxed);
    }

    /// Heartbeats that were stored and acknowledged.
    #[must_use]
    pub fn stored(&self) -> u64 {
        read(&self.0.stored)
    }

    /// Heartbeats that were acknowledged again.
    #[must_use]
    pub fn duplicates(&self) -> u64 {
        read(&self.0.duplicates)
    }

    /// Refused requests by reason.
    pub fn rejections(&self) -> impl Iterator<Item = (&'static str, u64)> {
        REASONS.iter().zip(&self.0.rejected).map(|((_, name), count)| (*name, read(count)))
    }

    /// Transactions that stored heartbeats.
    #[must_use]
    pub fn commits(&self) -> u64 {
        read(&self.0.commits)
    }

    /// Transactions that the disk refused.
    #[must_use]
    pub fn failed_commits(&self) -> u64 {
        read(&self.0.failed_commits)
    }

    /// Blocks that were ever sealed in this database.
    #[must_use]
    pub fn sealed_blocks(&self) -> u64 {
        read(&self.0.sealed_blocks)
    }

    /// Samples that wait to be sealed.
    #[must_use]
    pub fn waiting_samples(&self) -> u64 {
        read(&self.0.live_samples)
    }

    /// How long requests took from being read to their acknowledgement.
    #[must_use]
    pub fn acknowledgements(&self) -> Distribution {
        let Histogram { counts, sum_us } = &self.0.acknowledgements;
        let mut count = 0;
        let mut buckets = Vec::with_capacity(BUCKETS.len());
        for (bound, bucket) in BUCKETS.into_iter().zip(counts) {
            count += read(bucket);
            buckets.push((bound, count));
        }
        count += read(&counts[BUCKETS.len()]);
        Distribution { buckets, count, sum: Duration::from_micros(read(sum_us)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_counts_in_its_bucket_and_all_above() {
        let counters = Counters::default();
        for ms in [1, 2, 10, 7000] {
            counters.acknowledged(1, 0, Duration::from_millis(ms));
        }
        let Distribution { buckets, count, sum } = counters.acknowledgements();
        let counts: Vec<u64> = buckets.iter().map(|(_, count)| *count).collect();
        assert_eq!(counts, [1, 2, 2, 3, 3, 3, 3, 3, 3, 3, 3, 3]);
        assert_eq!((count, sum), (4, Duration::from_millis(7013)));
    }

    #[test]
    fn refusals_count_under_their_reason() {
        let counters = Counters::default();
        for code in [Code::TooOld, Code::TooOld, Code::Forbidden] {
            counters.rejected(code);
        }
        let counted: Vec<_> = counters.rejections().filter(|(_, count)| *count > 0).collect();
        assert_eq!(counted, [("too_old", 2), ("internal", 1)]);
    }
}
