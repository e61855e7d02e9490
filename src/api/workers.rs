//! `GET /v1/workers` and `GET /v1/workers/{hive}/{group}/{instance}`.

use axum::extract::State;
use axum::response::Response;
use hive_contract::heartbeat::Worker;
use hive_contract::units::Mebibytes;
use hive_contract::{HiveId, Timestamp};
use serde::Serialize;

use super::params::{Params, PathParts, invalid};
use super::problem::{ApiError, unknown};
use super::response::json;
use crate::registry::{self, HiveRegistry, WorkerRef};

/// One worker as clients see it.
#[derive(Serialize)]
pub(super) struct WorkerView<'a> {
    #[serde(flatten)]
    worker: &'a Worker,
    hive_id: &'a HiveId,
    hostname: &'a str,
    url: Option<String>,
    state: registry::State,
    last_seen: Timestamp,
    idle: Option<bool>,
    free_vram_mb: Option<Mebibytes>,
    leases: usize,
}

/// Shows a worker.
pub(super) fn view<'a>(
    registry: &HiveRegistry,
    leases: usize,
    worker: &'a WorkerRef,
) -> WorkerView<'a> {
    let hive = worker.hive();
    WorkerView {
        worker,
        hive_id: &hive.heartbeat.hive.id,
        hostname: hive.hostname(),
        url: worker.url(),
        state: registry.state(hive),
        last_seen: hive.received,
        idle: worker.idle(),
        free_vram_mb: worker.free_vram_mb(),
        leases,
    }
}

#[derive(Serialize)]
struct Workers<'a> {
    workers: Vec<WorkerView<'a>>,
}

/// The workers that satisfy every filter, by hive. Without `state` only those of live hives.
pub(super) async fn list(
    State(registry): State<HiveRegistry>,
    params: Params,
) -> Result<Response, ApiError> {
    let state = match params.all("state").next().unwrap_or("live") {
        "live" => Some(registry::State::Live),
        "stale" => Some(registry::State::Stale),
        "offline" => Some(registry::State::Offline),
        "any" => None,
        other => {
            let detail = format!("{other:?} is not one of live, stale, offline, any");
            return Err(invalid("state", &detail));
        }
    };
    let idle: Option<bool> = params.get("idle", "true or false")?;
    let min_free: Option<f64> = params.get("min_free_vram_mb", "a number")?;
    let min_free = min_free
        .map(|figure| {
            Mebibytes::new(figure).map_err(|e| invalid("min_free_vram_mb", &e.to_string()))
        })
        .transpose()?;
    let workers = registry.get_all_workers();
    let admitted = workers.iter().filter(|worker| {
        state.is_none_or(|state| registry.state(worker.hive()) == state)
            && params.admits("hive", Some(worker.hive().heartbeat.hive.id.as_str()))
            && params.admits("group", Some(worker.group.as_str()))
            && params.admits("instance", Some(worker.instance.as_str()))
            && params.admits("model", worker.model.as_ref().map(|model| model.as_str()))
            && idle.is_none_or(|idle| worker.idle() == Some(idle))
            && min_free.is_none_or(|min| worker.free_vram_mb().is_some_and(|free| free >= min))
    });
    let leases = registry.leases();
    let views = admitted.map(|worker| view(&registry, leases.of(worker), worker));
    Ok(json(&Workers { workers: views.collect() }))
}

/// One worker.
pub(super) async fn one(
    State(registry): State<HiveRegistry>,
    PathParts((hive, group, instance)): PathParts<(String, String, String)>,
) -> Result<Response, ApiError> {
    let worker = registry
        .get_worker(&hive, &group, &instance)
        .ok_or_else(|| unknown("worker", format!("{hive}/{group}/{instance}")))?;
    Ok(json(&view(&registry, registry.leases_of(&worker), &worker)))
}
