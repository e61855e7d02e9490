//! All workers of one machine, from reading to reading.
//!
//! Invariant: a worker is in a heartbeat once, and so is each of its processes: what is in the
//! slice is measured there and nowhere else.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use hive_contract::heartbeat::{MAX_WORKERS, Worker, Workers};
use hive_contract::{Group, Instance};

use super::Scan;
use super::place::Place;
use super::worker::Meter;

/// What is kept of every worker.
#[derive(Default)]
pub(super) struct Meters(BTreeMap<(Group, Instance), Meter>);

impl Meters {
    /// Reads the workers at these places.
    pub(super) fn read(&mut self, mut places: Vec<Place>, scan: &mut Scan<'_>) -> Workers {
        // Of two with the same name the one in the slice stays, for its name was given to it.
        places.sort_by(|a, b| (key(a), a.first.is_some()).cmp(&(key(b), b.first.is_some())));
        places.dedup_by(|later, earlier| {
            let is_same = key(later) == key(earlier);
            if is_same {
                scan.complaints.add(&*later, "another worker has this name, and one is left out");
            }
            is_same
        });
        self.follow(places);
        let mut workers: Vec<Worker> = Vec::new();
        let mut left_out = 0;
        let mut add = |worker: Option<Worker>| match worker {
            Some(_) if workers.len() == MAX_WORKERS => left_out += 1,
            worker => workers.extend(worker),
        };
        for meter in self.0.values_mut().filter(|meter| meter.is_in_slice()) {
            add(meter.read(scan));
        }
        self.forget_moved();
        for meter in self.0.values_mut().filter(|meter| !meter.is_in_slice()) {
            add(meter.read(scan));
        }
        if left_out > 0 {
            let reason = format_args!("only {MAX_WORKERS} fit into a heartbeat");
            scan.complaints.add(format_args!("{left_out} workers are left out"), reason);
        }
        // The keys of a map are different, and the limit was just kept.
        Workers::new(workers).unwrap_or_default()
    }

    /// The processes of all workers, of the last reading.
    pub(super) fn process_ids(&self) -> impl Iterator<Item = u32> {
        self.0.values().flat_map(Meter::process_ids)
    }

    /// Why this is a worker, and how it is measured.
    pub(super) fn explain(&self, group: &Group, instance: &Instance) -> Option<String> {
        Some(self.0.get(&(group.clone(), instance.clone()))?.explain())
    }

    /// Keeps what is still the same worker. `places` are in ascending order.
    fn follow(&mut self, places: Vec<Place>) {
        self.0.retain(|(group, instance), meter| {
            let place = places.binary_search_by(|place| key(place).cmp(&(group, instance)));
            place.is_ok_and(|index| meter.is_of(&places[index]))
        });
        for place in places {
            match self.0.entry((place.group.clone(), place.instance.clone())) {
                Entry::Occupied(mut meter) => meter.get_mut().follow(place),
                Entry::Vacant(free) => {
                    free.insert(Meter::new(place));
                }
            }
        }
    }

    /// Forgets what was put into the slice since it was last looked for elsewhere.
    fn forget_moved(&mut self) {
        let is_in_slice = |pid| self.0.values().any(|meter| meter.is_in_slice() && meter.has(pid));
        let moved: Vec<_> = self
            .0
            .iter()
            .filter(|(_, meter)| meter.first_pid().is_some_and(is_in_slice))
            .map(|(key, _)| key.clone())
            .collect();
        for key in moved {
            self.0.remove(&key);
        }
    }
}

fn key(place: &Place) -> (&Group, &Instance) {
    (&place.group, &place.instance)
}
