//! The newest reading of every hive, for scheduling and for the live view.
//!
//! - [`hive`]: what is known of one hive, and of each worker on it;
//! - [`liveness`]: when a hive counts as live, stale or offline;
//! - `index`: the workers by model;
//! - [`lease`]: what was promised of a worker since its last reading.
//!
//! Invariant: an older reading never replaces a newer one, whatever the order of arrival; but
//! whatever comes in shows that its hive lives.
//!
//! Invariant: nothing here waits for the disk.
//!
//! The questions of a scheduler, over one hive with three workers:
//!
//! ```
//! # use std::sync::Arc;
//! # use std::time::Duration;
//! # use hive_contract::{Heartbeat, units::Mebibytes};
//! # use queen::clock::Clock;
//! # use queen::registry::{HiveRegistry, Liveness, Update};
//! # use queen::scheduler::Wanted;
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let clock = Clock::system();
//! let hive_registry = HiveRegistry::new(1000, Liveness::default(), clock);
//! let heartbeat = Heartbeat::parse(br#"{"hive": {"id": "localhost"}, "workers": [
//!     {"pid": 12345, "group": "llm", "instance": "8080", "model": "llama-3.2-1b",
//!      "gpu_util_pct": 85.0, "vram_mb": 8192, "total_vram_mb": 24576},
//!     {"pid": 12346, "group": "llm", "instance": "8081", "model": "llama-3.2-1b",
//!      "gpu_util_pct": 0.0, "vram_mb": 22528, "total_vram_mb": 24576},
//!     {"pid": 12347, "group": "llm", "instance": "8082", "model": "qwen3-8b"}
//! ]}"#, clock.now())?;
//! let update = hive_registry.update_workers(&Arc::new(heartbeat), clock.now())?;
//! assert_eq!(update, Update::Newest);
//! # let instances = |workers: Vec<queen::registry::WorkerRef>| -> Vec<String> {
//! #     workers.iter().map(|worker| worker.instance.as_str().to_owned()).collect()
//! # };
//!
//! // Exactly 0 % is idle. The third worker's utilisation is not known: it is not idle.
//! let idle_workers = hive_registry.find_idle_workers();
//! assert_eq!(instances(idle_workers), ["8081"]);
//!
//! let model_workers = hive_registry.find_workers_with_model("llama-3.2-1b");
//! assert_eq!(instances(model_workers), ["8080", "8081"]);
//!
//! // 8192 + 4096 < 24576, but 22528 + 4096 is not; nothing is known of the third.
//! let capacity_workers = hive_registry.find_workers_with_capacity(Mebibytes::from_integer(4096)?);
//! assert_eq!(instances(capacity_workers), ["8080"]);
//!
//! assert_eq!(instances(hive_registry.get_all_workers()), ["8080", "8081", "8082"]);
//! assert_eq!(instances(hive_registry.get_workers("localhost")), ["8080", "8081", "8082"]);
//!
//! let best = hive_registry.find_best_worker_for_model("llama-3.2-1b").ok_or("none is idle")?;
//! assert_eq!(best.url().as_deref(), Some("http://localhost:8081"));
//!
//! // To send it a request, take a lease: nobody else is then sent there in the same second.
//! let wanted = Wanted::idle("llama-3.2-1b");
//! let route = hive_registry.route(&wanted, Duration::from_secs(2))?;
//! assert_eq!(route.url, "http://localhost:8081");
//! let refusal = hive_registry.route(&wanted, Duration::from_secs(2)).unwrap_err();
//! assert_eq!((refusal.considered.busy, refusal.considered.leased), (1, 1));
//! hive_registry.release(route.lease);
//! assert!(hive_registry.route(&wanted, Duration::from_secs(2)).is_ok());
//! # Ok(())
//! # }
//! ```

pub mod hive;
mod index;
pub mod lease;
pub mod liveness;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hive_contract::heartbeat::Worker;
use hive_contract::units::Mebibytes;
use hive_contract::{Heartbeat, HiveId, Timestamp};
use moka::ops::compute::Op;
use moka::sync::Cache;

pub use self::hive::{HiveState, WorkerRef};
pub use self::lease::LeaseId;
pub use self::liveness::{Liveness, State};

use self::index::Index;
use self::lease::{Counts, MAX_LEASES};
use self::liveness::{Steadiness, Windows};
use crate::clock::Clock;
use crate::scheduler::{Considered, NoWorker, Wanted};

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

/// The newest readings of all hives take at most so much memory, in bytes: ten times what 100,000
/// workers take.
const MAX_MEMORY: usize = 1 << 30;

/// The registry holds as much as it may.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Full {
    /// There are as many hives as there may be.
    #[error("no more than {max} hives are kept; this one is new")]
    Hives {
        /// The limit.
        max: usize,
    },
    /// The newest readings are as large as they may be.
    #[error("the newest readings of all hives may take {} MiB; this one is too large", max >> 20)]
    Memory {
        /// The limit, in bytes.
        max: usize,
    },
}

/// Where a request goes.
#[derive(Debug, Clone)]
pub struct Route {
    /// The worker, as of the reading by which it was chosen.
    pub worker: WorkerRef,
    /// Where it is reached.
    pub url: String,
    /// Keeps others away for a moment.
    pub lease: LeaseId,
    /// How many leases the worker has with it.
    pub leases: usize,
    /// When the lease ends by itself.
    pub expires: Timestamp,
    /// What became of the other workers.
    pub considered: Considered,
}

/// The newest reading of every hive. Cheap to clone.
#[derive(Debug, Clone)]
pub struct HiveRegistry {
    hives: Cache<HiveId, Arc<HiveState>>,
    /// Taken for microseconds, by heartbeats and by routes: a search, the choice and its lease
    /// are one.
    index: Arc<Mutex<Index>>,
    count: Arc<AtomicUsize>,
    max_hives: usize,
    /// What the newest readings take, in bytes.
    memory: Arc<AtomicUsize>,
    max_memory: usize,
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
            index: Arc::default(),
            count: Arc::default(),
            max_hives,
            memory: Arc::default(),
            max_memory: MAX_MEMORY,
            liveness,
            clock,
        }
    }

    /// Takes a reading over if it is newer than what is there. Older or not, its hive was heard.
    ///
    /// # Errors
    /// The hive is new and there are too many, or the newest readings would take too much.
    pub fn update_workers(
        &self,
        heartbeat: &Arc<Heartbeat>,
        received: Timestamp,
    ) -> Result<Update, Full> {
        self.put(self.fresh(Arc::clone(heartbeat), received))
    }

    /// Takes over a reading from the history; it counts as stale until a heartbeat comes.
    ///
    /// # Errors
    /// There are too many hives, or their readings take too much.
    pub fn prime(&self, heartbeat: Arc<Heartbeat>, received: Timestamp) -> Result<Update, Full> {
        let age_ms = self.clock.now().millis_since(received).max(0);
        let fresh = self.fresh(heartbeat, received);
        self.put(HiveState { heard_ms: fresh.heard_ms - age_ms, warm: true, ..fresh })
    }

    /// A hive that is heard now and was not known.
    fn fresh(&self, heartbeat: Arc<Heartbeat>, received: Timestamp) -> HiveState {
        HiveState {
            received,
            heard_ms: self.clock.monotonic_ms(),
            warm: false,
            memory: heartbeat.memory(),
            steadiness: Steadiness::default(),
            windows: Windows::of(self.liveness, HiveState::interval(&heartbeat)),
            clock_skew_ms: heartbeat.timestamp.millis_since(received),
            heartbeat,
        }
    }

    fn put(&self, fresh: HiveState) -> Result<Update, Full> {
        let id = fresh.heartbeat.hive.id.clone();
        let memory = fresh.memory;
        let mut result = Ok(Update::Newest);
        let mut replaced = None;
        self.hives.entry_by_ref(&id).and_compute_with(|entry| {
            let state = match entry.as_ref().map(|entry| entry.value()) {
                Some(old) => {
                    let (update, state) = renewed(old, fresh);
                    if update == Update::Newest && !self.exchange(old.memory, memory) {
                        result = Err(Full::Memory { max: self.max_memory });
                        return Op::Nop;
                    }
                    result = Ok(update);
                    state
                }
                None if !self.reserve() => {
                    result = Err(Full::Hives { max: self.max_hives });
                    return Op::Nop;
                }
                None if !self.exchange(0, memory) => {
                    self.count.fetch_sub(1, Ordering::Relaxed);
                    result = Err(Full::Memory { max: self.max_memory });
                    return Op::Nop;
                }
                None => fresh,
            };
            let state = Arc::new(state);
            // While the hive's entry is held: both then see the same order of readings.
            replaced = self.index().put(&state, result == Ok(Update::Newest));
            Op::Put(state)
        });
        // Freed here, where it holds nobody up.
        drop(replaced);
        result
    }

    /// Reserves a place for a new hive before it is inserted: two cannot both take the last.
    fn reserve(&self) -> bool {
        let room = |count| (count < self.max_hives).then_some(count + 1);
        self.count.fetch_update(Ordering::Relaxed, Ordering::Relaxed, room).is_ok()
    }

    /// Gives back what a reading took, for what the next one takes. A smaller one has always room.
    fn exchange(&self, old: usize, new: usize) -> bool {
        let room = |taken: usize| {
            let taken = taken.saturating_sub(old) + new;
            (taken <= self.max_memory || new <= old).then_some(taken)
        };
        self.memory.fetch_update(Ordering::Relaxed, Ordering::Relaxed, room).is_ok()
    }

    fn index(&self) -> MutexGuard<'_, Index> {
        self.index.lock().unwrap_or_else(PoisonError::into_inner)
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

    /// How recently a hive was heard, now.
    #[must_use]
    pub fn state(&self, hive: &HiveState) -> State {
        hive.state(self.clock.monotonic_ms())
    }

    /// Milliseconds since a hive was heard.
    #[must_use]
    pub fn age_ms(&self, hive: &HiveState) -> i64 {
        hive.age_ms(self.clock.monotonic_ms())
    }

    /// How often a hive fell silent and came back in the last ten minutes.
    #[must_use]
    pub fn silences(&self, hive: &HiveState) -> u32 {
        hive.steadiness.silences(self.clock.monotonic_ms())
    }

    /// The workers of a hive, as of its newest reading; none if it is not known.
    #[must_use]
    pub fn get_workers(&self, hive: &str) -> Vec<WorkerRef> {
        self.get(hive).iter().flat_map(WorkerRef::all).collect()
    }

    /// One worker.
    #[must_use]
    pub fn get_worker(&self, hive: &str, group: &str, instance: &str) -> Option<WorkerRef> {
        let named = |worker: &WorkerRef| {
            worker.group.as_str() == group && worker.instance.as_str() == instance
        };
        WorkerRef::all(&self.get(hive)?).find(named)
    }

    /// Every worker of every hive, as of their newest readings, by hive.
    #[must_use]
    pub fn get_all_workers(&self) -> Vec<WorkerRef> {
        self.hives().iter().flat_map(WorkerRef::all).collect()
    }

    /// The workers of live hives that satisfy a condition.
    fn find(&self, condition: impl Fn(&Worker) -> bool) -> Vec<WorkerRef> {
        let mut hives = self.hives();
        hives.retain(|hive| self.state(hive) == State::Live);
        hives.iter().flat_map(WorkerRef::all).filter(|worker| condition(worker)).collect()
    }

    /// Workers of live hives whose GPUs are known to do nothing: exactly 0 %.
    #[must_use]
    pub fn find_idle_workers(&self) -> Vec<WorkerRef> {
        self.find(|worker| worker.idle() == Some(true))
    }

    /// Workers of live hives that serve a model. Only the workers of that model are looked at.
    #[must_use]
    pub fn find_workers_with_model(&self, model: &str) -> Vec<WorkerRef> {
        let mut workers = self.index().with_model(model);
        let now_ms = self.clock.monotonic_ms();
        workers.retain(|worker| worker.hive().state(now_ms) == State::Live);
        workers.sort_unstable_by(|a, b| a.place().cmp(&b.place()));
        workers
    }

    /// Workers of live hives whose own devices have room: `vram_mb + required < total_vram_mb`.
    /// Where either figure is unknown the capacity is unknown too.
    #[must_use]
    pub fn find_workers_with_capacity(&self, required: Mebibytes) -> Vec<WorkerRef> {
        self.find(|worker| worker.free_vram_mb().is_some_and(|free| free > required))
    }

    /// The best of the idle workers of live hives that serve a model, whatever its memory; see
    /// [`rank()`](crate::scheduler::rank()). Nothing keeps others from finding it too: to send it a
    /// request, take a [`route`](Self::route).
    #[must_use]
    pub fn find_best_worker_for_model(&self, model: &str) -> Option<WorkerRef> {
        let now_ms = self.clock.monotonic_ms();
        let (found, _) = self.index().find(&Wanted::idle(model), now_ms);
        found.map(|found| found.worker)
    }

    /// The best worker for a request, leased for a moment, in one step: until the lease ends the
    /// worker counts as having the request.
    ///
    /// # Errors
    /// No worker can take the request now.
    pub fn route(&self, wanted: &Wanted<'_>, lease: Duration) -> Result<Route, NoWorker> {
        let lease_ms = i64::try_from(lease.as_millis()).unwrap_or(i64::MAX);
        let now_ms = self.clock.monotonic_ms();
        let mut index = self.index();
        let (found, considered) = index.find(wanted, now_ms);
        let Some((url, found)) = found.and_then(|found| Some((found.worker.url()?, found))) else {
            drop(index);
            return Err(NoWorker::new(wanted, considered));
        };
        let vram = wanted.required_vram.map_or(0, Mebibytes::thousandths);
        let Some((lease, leases)) = index.lease(&found, vram, now_ms.saturating_add(lease_ms))
        else {
            return Err(NoWorker::too_many_leases(considered, MAX_LEASES));
        };
        drop(index);
        let now = self.clock.now();
        let expires = Timestamp::from_millis(now.millis().saturating_add(lease_ms)).unwrap_or(now);
        Ok(Route { worker: found.worker, url, lease, leases, expires, considered })
    }

    /// Ends a lease before its time; whether there was one.
    pub fn release(&self, lease: LeaseId) -> bool {
        self.index().release(lease)
    }

    /// How many leases a worker has, now.
    #[must_use]
    pub fn leases_of(&self, worker: &WorkerRef) -> usize {
        let (key, now_ms) = (worker.key(), self.clock.monotonic_ms());
        self.index().leases(&key, now_ms)
    }

    /// How many leases each worker has, now.
    #[must_use]
    pub fn leases(&self) -> Counts {
        let now_ms = self.clock.monotonic_ms();
        self.index().lease_counts(now_ms)
    }
}

/// A hive after a reading of it came in.
fn renewed(old: &HiveState, fresh: HiveState) -> (Update, HiveState) {
    match fresh.heartbeat.timestamp.cmp(&old.heartbeat.timestamp) {
        std::cmp::Ordering::Greater => {
            let steadiness = old.steadiness_at(fresh.heard_ms);
            let heard_ms = fresh.heard_ms.max(old.heard_ms);
            (Update::Newest, HiveState { steadiness, heard_ms, ..fresh })
        }
        std::cmp::Ordering::Equal => {
            (Update::Same, old.heard_again(fresh.received, fresh.heard_ms))
        }
        std::cmp::Ordering::Less => {
            (Update::Older, old.heard_again(fresh.received, fresh.heard_ms))
        }
    }
}

#[cfg(test)]
mod tests;
