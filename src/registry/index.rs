//! The workers by model, small enough to look at thousands of them in microseconds, with their
//! leases.
//!
//! Invariant: `hives` says where each worker of the newest readings stands, and nothing else
//! stands anywhere. What stands there is as of the same reading.

use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;

use hive_contract::heartbeat::Worker;
use hive_contract::text::ModelName;
use hive_contract::units::Mebibytes;
use hive_contract::{Group, HiveId, WorkerKey};

use super::hive::{HiveState, WorkerRef, port};
use super::lease::{Book, Counts, LeaseId, WorkerLeases, same};
use crate::scheduler::{Candidate, Candidates, Considered, Filter, Wanted, rank};

/// Workers by model.
#[derive(Debug, Default)]
pub(super) struct Index {
    hives: HashMap<HiveId, Placed>,
    shelves: HashMap<ModelName, Shelf>,
    groups: HashMap<Group, GroupCount>,
    /// Workers in all, those without a model too.
    workers: usize,
    /// For the next group that is new.
    next_group: u32,
    book: Book,
    hasher: RandomState,
}

/// The newest reading of a hive, and where its workers stand, in their order.
#[derive(Debug)]
struct Placed {
    hive: Arc<HiveState>,
    places: Vec<Place>,
}

/// A place on the shelf of the worker's model; `None` if it has no model.
type Place = Option<u32>;

/// The workers of one model. The two lists go together.
#[derive(Debug, Default)]
struct Shelf {
    /// What is looked at in each search.
    candidates: Candidates,
    others: Vec<Shelved>,
}

/// What is needed only of the worker that is chosen.
#[derive(Debug)]
struct Shelved {
    worker: WorkerRef,
    leases: WorkerLeases,
}

#[derive(Debug)]
struct GroupCount {
    number: u32,
    workers: usize,
}

/// A worker that was found for a request.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) worker: WorkerRef,
    place: usize,
}

impl Index {
    /// Puts a hive in the place of what was known of it. `newer`: the reading is another one
    /// than before, and not just heard again. What it replaces is given back, so that it can
    /// be dropped when nobody waits.
    pub(super) fn put(&mut self, hive: &Arc<HiveState>, newer: bool) -> Option<Arc<HiveState>> {
        let id = &hive.heartbeat.hive.id;
        let Some(placed) = self.hives.get_mut(id) else {
            let places = self.places(hive, &[]);
            self.refresh(hive, &places, newer);
            self.hives.insert(id.clone(), Placed { hive: Arc::clone(hive), places });
            return None;
        };
        let (workers, old_workers) = (&hive.heartbeat.workers, &placed.hive.heartbeat.workers);
        let unchanged = workers.len() == old_workers.len()
            && workers.iter().zip(old_workers).all(|(worker, old)| same(worker, old));
        let places = if unchanged {
            std::mem::take(&mut placed.places)
        } else {
            let old = Arc::clone(&placed.hive);
            let before = self.before(hive, &old);
            self.places(hive, &before)
        };
        self.refresh(hive, &places, newer);
        let placed = self.hives.get_mut(id)?;
        placed.places = places;
        Some(std::mem::replace(&mut placed.hive, Arc::clone(hive)))
    }

    /// Where each of a hive's workers stands; those without a place before get one.
    fn places(&mut self, hive: &Arc<HiveState>, before: &[Option<Place>]) -> Vec<Place> {
        let workers = hive.heartbeat.workers.iter().enumerate();
        let place = |(at, worker)| match before.get(at) {
            Some(&Some(place)) => place,
            _ => self.add(worker, WorkerRef::new(Arc::clone(hive), at)),
        };
        workers.map(place).collect()
    }

    /// Where each worker of a hive stood before. Those of its last reading that are gone are
    /// removed.
    fn before(&mut self, hive: &HiveState, old: &HiveState) -> Vec<Option<Place>> {
        let old_workers = &old.heartbeat.workers;
        let mut gone: HashMap<_, usize> = old_workers
            .iter()
            .enumerate()
            .map(|(at, worker)| ((&worker.group, &worker.instance), at))
            .collect();
        let mut stood = Vec::with_capacity(hive.heartbeat.workers.len());
        for worker in &hive.heartbeat.workers {
            let key = (&worker.group, &worker.instance);
            let at = gone.get(&key).copied().filter(|&at| same(worker, &old_workers[at]));
            if at.is_some() {
                gone.remove(&key);
            }
            stood.push(at);
        }
        for at in gone.into_values() {
            self.remove(old, at);
        }
        // Only now, since removing one moves another.
        let placed = self.hives.get(&hive.heartbeat.hive.id);
        stood.into_iter().map(|at| placed?.places.get(at?).copied()).collect()
    }

    /// A place for a worker that is new.
    fn add(&mut self, worker: &Worker, reference: WorkerRef) -> Place {
        let next = self.next_group;
        let group = self.groups.entry(worker.group.clone()).or_insert_with(|| {
            self.next_group = next.wrapping_add(1);
            GroupCount { number: next, workers: 0 }
        });
        group.workers += 1;
        self.workers += 1;
        let shelf = self.shelves.entry(worker.model.clone()?).or_default();
        let place = shelf.candidates.push(Candidate {
            rank: rank(worker, WorkerLeases::default().sum()),
            live_from_ms: i64::MAX,
            live_until_ms: i64::MIN,
            key: key(&self.hasher, &reference.key()),
            group: group.number,
            leases: 0,
            idle: None,
            routable: port(&worker.instance).is_some(),
        });
        shelf.others.push(Shelved { worker: reference, leases: WorkerLeases::default() });
        u32::try_from(place).ok()
    }

    /// Removes a worker of a hive's last reading, and its leases with it.
    fn remove(&mut self, hive: &HiveState, at: usize) {
        let worker = &hive.heartbeat.workers[at];
        self.workers -= 1;
        if let Some(group) = self.groups.get_mut(&worker.group) {
            group.workers -= 1;
            if group.workers == 0 {
                self.groups.remove(&worker.group);
            }
        }
        let Some((model, place)) = worker.model.as_ref().zip(self.place(hive, at)) else { return };
        let Some(shelf) = self.shelves.get_mut(model) else { return };
        shelf.candidates.swap_remove(place);
        shelf.others.swap_remove(place).leases.end(&mut self.book);
        // The last one stands in its place now.
        if let Some(Shelved { worker: moved, .. }) = shelf.others.get(place) {
            let placed = self.hives.get_mut(&moved.hive().heartbeat.hive.id);
            let its = placed.and_then(|placed| placed.places.get_mut(moved.at()));
            if let Some(its) = its {
                *its = u32::try_from(place).ok();
            }
        }
        if shelf.candidates.is_empty() {
            self.shelves.remove(model);
        }
    }

    fn place(&self, hive: &HiveState, at: usize) -> Option<usize> {
        let place = (*self.hives.get(&hive.heartbeat.hive.id)?.places.get(at)?)?;
        usize::try_from(place).ok()
    }

    /// Takes a reading's figures over.
    fn refresh(&mut self, hive: &Arc<HiveState>, places: &[Place], newer: bool) {
        let (live_from_ms, live_until_ms) = hive.live_ms();
        for ((at, worker), place) in hive.heartbeat.workers.iter().enumerate().zip(places) {
            let Some((model, place)) = worker.model.as_ref().zip(*place) else { continue };
            let Some(shelf) = self.shelves.get_mut(model) else { continue };
            let place = place as usize;
            let Shelved { worker: reference, leases } = &mut shelf.others[place];
            *reference = WorkerRef::new(Arc::clone(hive), at);
            if newer {
                leases.newer_reading(&mut self.book);
            }
            let leased = leases.sum();
            let candidate = Candidate {
                rank: rank(worker, leased),
                live_from_ms,
                live_until_ms,
                leases: leased.requests,
                idle: worker.idle(),
                ..*shelf.candidates.get(place)
            };
            shelf.candidates.set_later(place, candidate);
        }
        for model in hive.heartbeat.workers.iter().filter_map(|worker| worker.model.as_ref()) {
            if let Some(shelf) = self.shelves.get_mut(model) {
                shelf.candidates.settle();
            }
        }
    }

    /// The workers of a model.
    pub(super) fn with_model(&self, model: &str) -> Vec<WorkerRef> {
        let shelf = self.shelves.get(model);
        let others = shelf.into_iter().flat_map(|shelf| &shelf.others);
        others.map(|other| other.worker.clone()).collect()
    }

    /// The best worker for a request, and what became of the others.
    pub(super) fn find(&mut self, wanted: &Wanted<'_>, now_ms: i64) -> (Option<Found>, Considered) {
        self.end_leases(now_ms);
        let exclude: HashSet<u64> = wanted.exclude.iter().map(|k| key(&self.hasher, k)).collect();
        let group = wanted.group.map(|group| self.groups.get(group));
        let workers = group.map_or(self.workers, |group| group.map_or(0, |group| group.workers));
        let Some(shelf) = self.shelves.get(wanted.model).filter(|_| workers > 0) else {
            let considered = Considered { workers, without_model: workers, ..Default::default() };
            return (None, considered);
        };
        let filter = Filter {
            now_ms,
            group: group.flatten().map(|group| group.number),
            exclude: &exclude,
            required_vram: wanted.required_vram.map(Mebibytes::thousandths),
            idle_only: wanted.idle_only,
        };
        let (best, mut considered) = shelf.candidates.choose(&filter, |n| fastrand::usize(..n));
        considered.without_model = workers - considered.workers;
        considered.workers = workers;
        let found = best.map(|place| Found { worker: shelf.others[place].worker.clone(), place });
        (found, considered)
    }

    /// Leases a worker that was just found: the lease, and how many the worker has with it.
    /// `None` if there are too many leases.
    pub(super) fn lease(
        &mut self,
        found: &Found,
        vram: u64,
        until_ms: i64,
    ) -> Option<(LeaseId, usize)> {
        let shelf = self.shelves.get_mut(found.worker.model.as_ref()?)?;
        if self.book.is_full() {
            return None;
        }
        let id = self.book.add(&found.worker, until_ms);
        shelf.others[found.place].leases.add(id, vram);
        shelf.rank_again(found.place);
        Some((id, shelf.candidates.get(found.place).leases as usize))
    }

    /// Ends a lease; whether there was one.
    pub(super) fn release(&mut self, id: LeaseId) -> bool {
        let Some(key) = self.book.remove(id) else { return false };
        if let Some((model, place)) = self.stands(&key)
            && let Some(shelf) = self.shelves.get_mut(&model)
        {
            shelf.others[place].leases.remove(id);
            shelf.rank_again(place);
        }
        true
    }

    /// On which shelf a worker stands, and where.
    fn stands(&self, key: &WorkerKey) -> Option<(ModelName, usize)> {
        let Placed { hive, places } = self.hives.get(&key.hive)?;
        let workers = &hive.heartbeat.workers;
        let named = |w: &Worker| w.instance == key.instance && w.group == key.group;
        let at = workers.iter().position(named)?;
        Some((workers[at].model.clone()?, usize::try_from(places[at]?).ok()?))
    }

    /// How many leases a worker has.
    pub(super) fn leases(&mut self, key: &WorkerKey, now_ms: i64) -> usize {
        self.end_leases(now_ms);
        let place = self.stands(key);
        let candidate = place.and_then(|(model, place)| {
            self.shelves.get(&model).map(|shelf| shelf.candidates.get(place))
        });
        candidate.map_or(0, |candidate| candidate.leases as usize)
    }

    fn end_leases(&mut self, now_ms: i64) {
        while let Some(id) = self.book.ended(now_ms) {
            self.release(id);
        }
    }

    /// How many leases each worker has.
    pub(super) fn lease_counts(&mut self, now_ms: i64) -> Counts {
        self.end_leases(now_ms);
        self.book.counts()
    }
}

impl Shelf {
    /// After the leases of a worker have changed.
    fn rank_again(&mut self, place: usize) {
        let Shelved { worker, leases } = &self.others[place];
        let leased = leases.sum();
        let candidate = Candidate {
            rank: rank(worker, leased),
            leases: leased.requests,
            ..*self.candidates.get(place)
        };
        self.candidates.set(place, candidate);
    }
}

/// Stands for a worker's key. The hasher is seeded at random: nobody can make two keys meet.
fn key(hasher: &RandomState, key: &WorkerKey) -> u64 {
    hasher.hash_one(key)
}
