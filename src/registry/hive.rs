//! What is known of one hive, and of each worker on it.
//!
//! Invariant: reading clones no strings: a [`WorkerRef`] is a counted reference into the
//! heartbeat itself.

use std::ops::Deref;
use std::sync::Arc;
use std::time::Duration;

use hive_contract::heartbeat::Worker;
use hive_contract::{Heartbeat, Instance, Timestamp, WorkerKey};

use super::liveness::{State, Steadiness, Windows};

/// The newest reading of one hive, and when the hive was last heard.
#[derive(Debug, Clone)]
pub struct HiveState {
    /// The reading.
    pub heartbeat: Arc<Heartbeat>,
    /// When the queen last heard of the hive, by her wall clock.
    pub received: Timestamp,
    /// The same by the clock that never steps, in ms.
    pub(super) heard_ms: i64,
    /// It was read from the history at the start, and not heard since.
    pub(super) warm: bool,
    /// What the reading takes, in bytes.
    pub(super) memory: usize,
    pub(super) steadiness: Steadiness,
    pub(super) windows: Windows,
    /// The hive's clock minus ours when the reading came in, transfer included.
    pub(super) clock_skew_ms: i64,
}

impl HiveState {
    /// The hive's clock minus ours at the receipt of the reading, transfer included.
    #[must_use]
    pub fn clock_skew_ms(&self) -> i64 {
        self.clock_skew_ms
    }

    /// The name or address under which its workers are reached.
    #[must_use]
    pub fn hostname(&self) -> &str {
        let hive = &self.heartbeat.hive;
        hive.hostname.as_ref().map_or(hive.id.as_str(), |hostname| hostname.as_str())
    }

    /// How often it sends, if it says so.
    pub(super) fn interval(heartbeat: &Heartbeat) -> Option<Duration> {
        let interval = heartbeat.interval_ms?;
        Some(Duration::from_millis(interval.thousandths() / 1000))
    }

    /// The same hive, heard again.
    pub(super) fn heard_again(&self, received: Timestamp, now_ms: i64) -> Self {
        Self {
            received,
            heard_ms: now_ms.max(self.heard_ms),
            warm: false,
            steadiness: self.steadiness_at(now_ms),
            ..self.clone()
        }
    }

    /// How steadily it is heard once it is heard again. What was before the start does not
    /// count: it may have been the queen who was away.
    pub(super) fn steadiness_at(&self, now_ms: i64) -> Steadiness {
        if self.warm {
            return Steadiness::default();
        }
        self.steadiness.heard(now_ms, self.age_ms(now_ms), self.windows.live_ms)
    }

    /// Milliseconds since it was heard, by the clock that never steps.
    #[must_use]
    pub fn age_ms(&self, now_ms: i64) -> i64 {
        (now_ms - self.heard_ms).max(0)
    }

    /// From when until when it counts as live, in ms; before the first heartbeat never.
    pub(super) fn live_ms(&self) -> (i64, i64) {
        if self.warm {
            (i64::MAX, i64::MIN)
        } else {
            (self.steadiness.trusted_ms, self.heard_ms.saturating_add(self.windows.live_ms))
        }
    }

    pub(super) fn state(&self, now_ms: i64) -> State {
        let (from_ms, until_ms) = self.live_ms();
        if (from_ms..=until_ms).contains(&now_ms) {
            State::Live
        } else if self.age_ms(now_ms) <= self.windows.stale_ms {
            State::Stale
        } else {
            State::Offline
        }
    }
}

/// One worker of one reading.
#[derive(Debug, Clone)]
pub struct WorkerRef {
    hive: Arc<HiveState>,
    at: usize,
}

impl WorkerRef {
    pub(super) fn new(hive: Arc<HiveState>, at: usize) -> Self {
        Self { hive, at }
    }

    /// Every worker of a hive.
    pub(super) fn all(hive: &Arc<HiveState>) -> impl Iterator<Item = Self> {
        (0..hive.heartbeat.workers.len()).map(|at| Self::new(Arc::clone(hive), at))
    }

    /// Its place in the heartbeat.
    pub(super) fn at(&self) -> usize {
        self.at
    }

    /// What workers are ordered by.
    pub(super) fn place(&self) -> (&str, usize) {
        (self.hive.heartbeat.hive.id.as_str(), self.at)
    }

    /// The hive that it runs on.
    #[must_use]
    pub fn hive(&self) -> &HiveState {
        &self.hive
    }

    /// Its key.
    #[must_use]
    pub fn key(&self) -> WorkerKey {
        WorkerKey {
            hive: self.hive.heartbeat.hive.id.clone(),
            group: self.group.clone(),
            instance: self.instance.clone(),
        }
    }

    /// Where it is reached, if its instance is a port number.
    #[must_use]
    pub fn url(&self) -> Option<String> {
        let port = port(&self.instance)?;
        let hostname = self.hive.hostname();
        let ipv6 = hostname.parse::<std::net::Ipv6Addr>().is_ok();
        Some(if ipv6 {
            format!("http://[{hostname}]:{port}")
        } else {
            format!("http://{hostname}:{port}")
        })
    }
}

impl Deref for WorkerRef {
    type Target = Worker;
    fn deref(&self) -> &Worker {
        &self.hive.heartbeat.workers[self.at]
    }
}

/// The port that an instance is, if it is one.
pub(super) fn port(instance: &Instance) -> Option<u16> {
    let port = instance.as_str();
    let digits = port.bytes().all(|b| b.is_ascii_digit()) && !port.starts_with('0');
    digits.then(|| port.parse().ok()).flatten()
}
