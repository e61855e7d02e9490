//! Leases: a worker that a request was just sent to is not as idle as its last reading says.
//!
//! Invariant: a lease ends when it is released, when its time is up, when two newer readings of
//! its worker have come in (the first may have been taken before the request arrived), or with
//! its worker, whichever comes first.

use std::collections::{BTreeSet, HashMap};

use hive_contract::WorkerKey;
use hive_contract::heartbeat::Worker;

use super::hive::WorkerRef;
use crate::scheduler::Leased;

/// The most leases at once, over all workers.
pub const MAX_LEASES: usize = 65_536;
/// Readings after which a lease is overtaken.
const READINGS: u8 = 2;

/// Names a lease. It is drawn at random, so that one from before a restart names no other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LeaseId(u64);

impl LeaseId {
    pub(super) fn random() -> Self {
        Self(fastrand::u64(..))
    }
}

impl std::fmt::Display for LeaseId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl std::str::FromStr for LeaseId {
    type Err = std::num::ParseIntError;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        u64::from_str_radix(text, 16).map(Self)
    }
}

/// A lease, where its worker is.
#[derive(Debug)]
pub(super) struct Lease {
    pub(super) id: LeaseId,
    /// GPU memory that the request needs, in thousandths of a MiB.
    pub(super) vram: u64,
    /// Newer readings that have come in.
    readings: u8,
}

/// The leases of one worker.
#[derive(Debug, Default)]
pub(super) struct WorkerLeases(Vec<Lease>);

impl WorkerLeases {
    /// What they come to.
    pub(super) fn sum(&self) -> Leased {
        Leased {
            requests: u32::try_from(self.0.len()).unwrap_or(u32::MAX),
            vram: self.0.iter().map(|lease| lease.vram).fold(0, u64::saturating_add),
        }
    }

    pub(super) fn add(&mut self, id: LeaseId, vram: u64) {
        self.0.push(Lease { id, vram, readings: 0 });
    }

    pub(super) fn remove(&mut self, id: LeaseId) {
        self.0.retain(|lease| lease.id != id);
    }

    /// Takes note of a newer reading; those that it overtakes are taken out of the book.
    pub(super) fn newer_reading(&mut self, book: &mut Book) {
        self.0.retain_mut(|lease| {
            lease.readings += 1;
            lease.readings < READINGS || {
                book.remove(lease.id);
                false
            }
        });
    }

    /// Ends all of them.
    pub(super) fn end(self, book: &mut Book) {
        for lease in self.0 {
            book.remove(lease.id);
        }
    }
}

/// Every lease: whose it is, and when its time is up.
#[derive(Debug, Default)]
pub(super) struct Book {
    entries: HashMap<LeaseId, Entry>,
    /// By the moment (ms) at which they end.
    ends: BTreeSet<(i64, LeaseId)>,
}

#[derive(Debug)]
struct Entry {
    worker: WorkerKey,
    until_ms: i64,
}

impl Book {
    pub(super) fn is_full(&self) -> bool {
        self.entries.len() >= MAX_LEASES
    }

    pub(super) fn add(&mut self, worker: &WorkerRef, until_ms: i64) -> LeaseId {
        let mut id = LeaseId::random();
        while self.entries.contains_key(&id) {
            id = LeaseId::random();
        }
        self.entries.insert(id, Entry { worker: worker.key(), until_ms });
        self.ends.insert((until_ms, id));
        id
    }

    /// Takes a lease out; whose it was.
    pub(super) fn remove(&mut self, id: LeaseId) -> Option<WorkerKey> {
        let Entry { worker, until_ms } = self.entries.remove(&id)?;
        self.ends.remove(&(until_ms, id));
        Some(worker)
    }

    /// A lease whose time is up.
    pub(super) fn ended(&self, now_ms: i64) -> Option<LeaseId> {
        self.ends.first().filter(|(until_ms, _)| *until_ms <= now_ms).map(|&(_, id)| id)
    }

    /// How many each worker has that has any.
    pub(super) fn counts(&self) -> Counts {
        let mut counts = HashMap::new();
        for Entry { worker, .. } in self.entries.values() {
            *counts.entry(worker.clone()).or_default() += 1;
        }
        Counts(counts)
    }
}

/// How many leases each worker has, at one moment.
#[derive(Debug)]
pub struct Counts(HashMap<WorkerKey, usize>);

impl Counts {
    /// Those of one worker.
    #[must_use]
    pub fn of(&self, worker: &WorkerRef) -> usize {
        // Most of the time nobody has any.
        if self.0.is_empty() { 0 } else { self.0.get(&worker.key()).copied().unwrap_or(0) }
    }
}

/// Whether two readings are of the same process with the same model: what leases hold on to.
pub(super) fn same(a: &Worker, b: &Worker) -> bool {
    a.instance == b.instance && a.group == b.group && a.pid == b.pid && a.model == b.model
}
