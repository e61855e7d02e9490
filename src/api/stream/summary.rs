//! The state of the whole fleet, as the stream tells it.

use hive_contract::HiveId;
use hive_contract::event::QueenSummary;

use crate::clock::Clock;
use crate::registry::{HiveRegistry, State};

pub(super) fn summary(registry: &HiveRegistry, clock: Clock) -> QueenSummary {
    let mut summary = QueenSummary {
        workers_online: 0,
        workers_available: 0,
        hives_online: 0,
        hives_available: 0,
        worker_ids: Vec::new(),
        hive_ids: Vec::new(),
        timestamp: clock.now(),
    };
    for hive in registry.hives() {
        let state = registry.state(&hive);
        if state == State::Offline {
            continue;
        }
        let id: &HiveId = &hive.heartbeat.hive.id;
        let workers = &hive.heartbeat.workers;
        summary.hives_online += 1;
        summary.hive_ids.push(id.clone());
        summary.workers_online += workers.len();
        summary.worker_ids.extend(
            workers.iter().map(|worker| format!("{id}/{}/{}", worker.group, worker.instance)),
        );
        if state == State::Live {
            summary.hives_available += 1;
            summary.workers_available +=
                workers.iter().filter(|worker| worker.idle() == Some(true)).count();
        }
    }
    summary.worker_ids.sort_unstable();
    summary
}
