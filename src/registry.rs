//! The newest reading of every hive, for scheduling and for the live view.
//!
//! Invariant: an older reading never replaces a newer one, whatever the order of arrival.
//!
//! Invariant: nothing here waits for the disk, and reading clones no strings: a
//! [`WorkerRef`] is a counted reference into the heartbeat itself.

use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use hive_contract::heartbeat::Worker;
use hive_contract::units::Mebibytes;
use hive_contract::{Heartbeat, HiveId, Instance, Timestamp, WorkerKey};
use moka::ops::compute::{CompResult, Op};
use moka::sync::Cache;
use serde::Serialize;

use crate::clock::Clock;

/// How recent a hive's newest reading is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// Recent enough to be scheduled.
    Live,
    /// A few heartbeats are missing.
    Stale,
    /// Silent for long; still readable.
    Offline,
}

/// When a hive counts as live, stale or offline, in multiples of its heartbeat interval.
#[derive(Debug, Clone, Copy)]
pub struct Liveness {
    /// Up to this many intervals it is live.
    pub live_intervals: u32,
    /// Up to this many intervals it is stale.
    pub stale_intervals: u32,
}

impl Default for Liveness {
    fn default() -> Self {
        Self { live_intervals: 5, stale_intervals: 30 }
    }
}

/// Intervals are taken as at least this: no hive goes offline within a second.
const MIN_INTERVAL: Duration = Duration::from_secs(1);
/// Intervals are taken as at most this: a hive that claims more is still seen to go.
const MAX_INTERVAL: Duration = Duration::from_secs(60);

/// The newest reading of one hive.
#[derive(Debug, Clone)]
pub struct HiveState {
    /// The reading.
    pub heartbeat: Arc<Heartbeat>,
    /// When it was received, by the wall clock.
    pub received: Timestamp,
    /// When it was received, by the clock that never steps.
    received_monotonic_ms: i64,
    /// It was read from the history at the start.
    warm: bool,
}

impl HiveState {
    /// Milliseconds since the reading was received.
    #[must_use]
    pub fn age_ms(&self, monotonic_ms: i64) -> i64 {
        (monotonic_ms - self.received_monotonic_ms).max(0)
    }

    /// How recent the reading is. One from before the start is at best stale.
    #[must_use]
    pub fn state(&self, liveness: Liveness, monotonic_ms: i64) -> State {
        let interval = self.heartbeat.interval_ms.map_or(MIN_INTERVAL, |interval| {
            let interval = Duration::from_millis(interval.thousandths() / 1000);
            interval.clamp(MIN_INTERVAL, MAX_INTERVAL)
        });
        let within = |intervals: u32| {
            u128::from(self.age_ms(monotonic_ms).unsigned_abs())
                <= (interval * intervals).as_millis()
        };
        if within(liveness.live_intervals) && !self.warm {
            State::Live
        } else if within(liveness.stale_intervals) {
            State::Stale
        } else {
            State::Offline
        }
    }

    /// The hive's clock minus ours at the time of receipt, transfer included.
    #[must_use]
    pub fn clock_skew_ms(&self) -> i64 {
        self.heartbeat.timestamp.millis_since(self.received)
    }

    /// The name or address under which its workers are reached.
    #[must_use]
    pub fn hostname(&self) -> &str {
        let hive = &self.heartbeat.hive;
        hive.hostname.as_ref().map_or(hive.id.as_str(), |hostname| hostname.as_str())
    }
}

/// One worker of one reading.
#[derive(Debug, Clone)]
pub struct WorkerRef {
    hive: Arc<HiveState>,
    at: usize,
}

impl WorkerRef {
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
        worker_url(self.hive.hostname(), &self.instance)
    }
}

impl Deref for WorkerRef {
    type Target = Worker;
    fn deref(&self) -> &Worker {
        &self.hive.heartbeat.workers[self.at]
    }
}

/// What an update did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Update {
    /// The reading is now the newest of its hive.
    Newest,
    /// It was the newest already: sent again.
    Same,
    /// The hive has a newer reading.
    Older,
}

/// There are as many hives as there may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("no more than {max} hives are kept; this one is new")]
pub struct TooManyHives {
    /// The limit.
    pub max: usize,
}

/// The newest reading of every hive. Cheap to clone.
#[derive(Debug, Clone)]
pub struct HiveRegistry {
    hives: Cache<HiveId, Arc<HiveState>>,
    count: Arc<AtomicUsize>,
    max_hives: usize,
    liveness: Liveness,
    clock: Clock,
}

impl HiveRegistry {
    /// An empty registry for at most `max_hives` hives.
    #[must_use]
    pub fn new(max_hives: usize, liveness: Liveness, clock: Clock) -> Self {
        Self {
            // The limit is enforced before insertion, so that the cache never has to evict.
            hives: Cache::builder().build(),
            count: Arc::default(),
            max_hives,
            liveness,
            clock,
        }
    }

    /// Takes a reading over if it is newer than what is there.
    ///
    /// # Errors
    /// The hive is new and there are too many.
    pub fn update_workers(
        &self,
        heartbeat: &Arc<Heartbeat>,
        received: Timestamp,
    ) -> Result<Update, TooManyHives> {
        self.insert(HiveState {
            heartbeat: Arc::clone(heartbeat),
            received,
            received_monotonic_ms: self.clock.monotonic_ms(),
            warm: false,
        })
    }

    /// Takes over a reading from the history; it counts as stale until a heartbeat comes.
    ///
    /// # Errors
    /// There are too many hives.
    pub fn prime(
        &self,
        heartbeat: Arc<Heartbeat>,
        received: Timestamp,
    ) -> Result<Update, TooManyHives> {
        let age_ms = self.clock.now().millis_since(received).max(0);
        self.insert(HiveState {
            heartbeat,
            received,
            received_monotonic_ms: self.clock.monotonic_ms() - age_ms,
            warm: true,
        })
    }

    fn insert(&self, state: HiveState) -> Result<Update, TooManyHives> {
        let state = Arc::new(state);
        let id = &state.heartbeat.hive.id;
        let timestamp = state.heartbeat.timestamp;
        let (mut full, mut same) = (false, false);
        let result = self.hives.entry_by_ref(id).and_compute_with(|entry| match entry {
            Some(entry) if entry.value().heartbeat.timestamp >= timestamp => {
                same = entry.value().heartbeat.timestamp == timestamp;
                Op::Nop
            }
            Some(_) => Op::Put(Arc::clone(&state)),
            None => {
                // Reserved before it is inserted: two new hives cannot both take the last place.
                let reserved =
                    self.count.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |count| {
                        (count < self.max_hives).then_some(count + 1)
                    });
                full = reserved.is_err();
                if full { Op::Nop } else { Op::Put(Arc::clone(&state)) }
            }
        });
        match result {
            _ if full => Err(TooManyHives { max: self.max_hives }),
            CompResult::Inserted(_) | CompResult::ReplacedWith(_) => Ok(Update::Newest),
            _ if same => Ok(Update::Same),
            _ => Ok(Update::Older),
        }
    }

    /// The newest reading of a hive.
    #[must_use]
    pub fn get(&self, id: &str) -> Option<Arc<HiveState>> {
        self.hives.get(id)
    }

    /// The newest reading of every hive, by name.
    #[must_use]
    pub fn hives(&self) -> Vec<Arc<HiveState>> {
        let mut hives: Vec<_> = self.hives.iter().map(|(_, state)| state).collect();
        hives.sort_unstable_by(|a, b| a.heartbeat.hive.id.cmp(&b.heartbeat.hive.id));
        hives
    }

    /// How recent a hive's reading is, now.
    #[must_use]
    pub fn state(&self, hive: &HiveState) -> State {
        hive.state(self.liveness, self.clock.monotonic_ms())
    }

    /// Milliseconds since a hive's reading was received.
    #[must_use]
    pub fn age_ms(&self, hive: &HiveState) -> i64 {
        hive.age_ms(self.clock.monotonic_ms())
    }

    /// The workers of a hive, as of its newest reading; none if it is not known.
    #[must_use]
    pub fn get_workers(&self, hive: &str) -> Vec<WorkerRef> {
        self.get(hive).map(workers).into_iter().flatten().collect()
    }

    /// One worker.
    #[must_use]
    pub fn get_worker(&self, hive: &str, group: &str, instance: &str) -> Option<WorkerRef> {
        let named = |worker: &WorkerRef| {
            worker.group.as_str() == group && worker.instance.as_str() == instance
        };
        self.get_workers(hive).into_iter().find(named)
    }

    /// Every worker of every hive, as of their newest readings, by hive.
    #[must_use]
    pub fn get_all_workers(&self) -> Vec<WorkerRef> {
        self.hives().into_iter().flat_map(workers).collect()
    }

    /// The workers of live hives that satisfy a condition.
    fn find(&self, condition: impl Fn(&Worker) -> bool) -> Vec<WorkerRef> {
        let live = self.hives().into_iter().filter(|hive| self.state(hive) == State::Live);
        live.flat_map(workers).filter(|worker| condition(worker)).collect()
    }

    /// Workers of live hives whose GPUs are known to do nothing: exactly 0 %.
    #[must_use]
    pub fn find_idle_workers(&self) -> Vec<WorkerRef> {
        self.find(|worker| worker.idle() == Some(true))
    }

    /// Workers of live hives that serve a model.
    #[must_use]
    pub fn find_workers_with_model(&self, model: &str) -> Vec<WorkerRef> {
        self.find(|worker| worker.model.as_ref().is_some_and(|name| name.as_str() == model))
    }

    /// Workers of live hives whose own devices have room: `vram_mb + required < total_vram_mb`.
    /// Where either figure is unknown the capacity is unknown too.
    #[must_use]
    pub fn find_workers_with_capacity(&self, required: Mebibytes) -> Vec<WorkerRef> {
        self.find(|worker| worker.free_vram_mb().is_some_and(|free| free > required))
    }
}

fn workers(hive: Arc<HiveState>) -> impl Iterator<Item = WorkerRef> {
    (0..hive.heartbeat.workers.len()).map(move |at| WorkerRef { hive: Arc::clone(&hive), at })
}

fn worker_url(hostname: &str, instance: &Instance) -> Option<String> {
    let port = instance.as_str();
    let digits = port.bytes().all(|b| b.is_ascii_digit()) && !port.starts_with('0');
    let port: u16 = digits.then(|| port.parse().ok()).flatten()?;
    let ipv6 = hostname.parse::<std::net::Ipv6Addr>().is_ok();
    Some(if ipv6 {
        format!("http://[{hostname}]:{port}")
    } else {
        format!("http://{hostname}:{port}")
    })
}
