//! `GET /v1/models`.

use std::collections::{BTreeMap, HashSet};

use axum::extract::State;
use axum::response::Response;
use hive_contract::heartbeat::Worker;
use hive_contract::units::Mebibytes;
use serde::Serialize;

use super::response::json;
use crate::estimates::Estimates;
use crate::registry::{self, HiveRegistry, WorkerRef};

/// One model, over the workers of live hives.
#[derive(Default, Serialize)]
struct Model<'a> {
    model: &'a str,
    workers: usize,
    idle: usize,
    /// Over the distinct devices that its workers sit on; null where none is known.
    free_vram_mb: Option<Mebibytes>,
    requests_running: Option<u64>,
    requests_waiting: Option<u64>,
    /// What a worker of the model needs, learned from the history; null until there is some.
    estimated_vram_mb: Option<Mebibytes>,
    /// Readings that the estimate rests on.
    estimated_vram_samples: Option<u64>,
    #[serde(skip)]
    devices: HashSet<(&'a str, &'a str)>,
}

impl<'a> Model<'a> {
    fn new(model: &'a str, estimates: &Estimates) -> Self {
        let estimate = estimates.get(model);
        Self {
            model,
            estimated_vram_mb: estimate.map(|estimate| estimate.vram),
            estimated_vram_samples: estimate.map(|estimate| estimate.samples),
            ..Self::default()
        }
    }

    fn add(&mut self, worker: &'a WorkerRef) {
        let Worker { requests_running, requests_waiting, .. } = &**worker;
        self.workers += 1;
        self.idle += usize::from(worker.idle() == Some(true));
        for (sum, count) in [
            (&mut self.requests_running, requests_running),
            (&mut self.requests_waiting, requests_waiting),
        ] {
            if let Some(count) = count {
                *sum = Some(sum.unwrap_or(0) + count.whole());
            }
        }
        // Two workers on one device have its free memory together, not twice.
        let hive = worker.hive().heartbeat.hive.id.as_str();
        let uuids = worker.gpus.iter().filter_map(|gpu| gpu.uuid.as_ref());
        let devices: Vec<_> = uuids.map(|uuid| (hive, uuid.as_str())).collect();
        if let Some(free) = worker.free_vram_mb()
            && devices.iter().all(|device| !self.devices.contains(device))
        {
            let sum = self.free_vram_mb.map_or(0, Mebibytes::thousandths) + free.thousandths();
            self.free_vram_mb = Mebibytes::from_thousandths(sum);
        }
        self.devices.extend(devices);
    }
}

#[derive(Serialize)]
struct Models<'a> {
    models: Vec<Model<'a>>,
}

/// Every model that a worker of a live hive serves, by name.
pub(super) async fn list(
    State(registry): State<HiveRegistry>,
    State(estimates): State<Estimates>,
) -> Response {
    let workers = registry.get_all_workers();
    let mut models: BTreeMap<&str, Model<'_>> = BTreeMap::new();
    for worker in &workers {
        if let Some(model) = &worker.model
            && registry.state(worker.hive()) == registry::State::Live
        {
            let model = model.as_str();
            models.entry(model).or_insert_with(|| Model::new(model, &estimates)).add(worker);
        }
    }
    json(&Models { models: models.into_values().collect() })
}
