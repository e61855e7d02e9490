//! `GET /v1/hives` and `GET /v1/hives/{id}`.

use axum::extract::State;
use axum::response::Response;
use hive_contract::heartbeat::{Agent, Gpu, Heartbeat, Node};
use hive_contract::{HiveId, Timestamp};
use serde::Serialize;

use super::params::PathParts;
use super::problem::{ApiError, unknown};
use super::response::json;
use crate::registry::{self, HiveRegistry, HiveState};

/// One hive; `W` is the number of its workers or their list.
#[derive(Serialize)]
struct Hive<'a, W> {
    id: &'a HiveId,
    hostname: &'a str,
    port: Option<u16>,
    version: Option<&'a str>,
    operational_status: Option<&'a str>,
    health_status: Option<&'a str>,
    state: registry::State,
    last_seen: Timestamp,
    timestamp: Timestamp,
    age_ms: i64,
    clock_skew_ms: i64,
    silences: u32,
    workers: W,
    gpus: &'a [Gpu],
    node: Option<&'a Node>,
    agent: Option<&'a Agent>,
}

fn view<'a, W>(registry: &HiveRegistry, state: &'a HiveState, workers: W) -> Hive<'a, W> {
    let Heartbeat { hive, timestamp, gpus, node, agent, .. } = &*state.heartbeat;
    Hive {
        id: &hive.id,
        hostname: state.hostname(),
        port: hive.port,
        version: hive.version.as_ref().map(|text| text.as_str()),
        operational_status: hive.operational_status.as_ref().map(|text| text.as_str()),
        health_status: hive.health_status.as_ref().map(|text| text.as_str()),
        state: registry.state(state),
        last_seen: state.received,
        timestamp: *timestamp,
        age_ms: registry.age_ms(state),
        clock_skew_ms: state.clock_skew_ms(),
        silences: registry.silences(state),
        workers,
        gpus,
        node: node.as_ref(),
        agent: agent.as_ref(),
    }
}

#[derive(Serialize)]
struct Hives<'a> {
    hives: Vec<Hive<'a, usize>>,
}

/// Every hive that is known, by name.
pub(super) async fn list(State(registry): State<HiveRegistry>) -> Response {
    let hives = registry.hives();
    let hives = hives.iter().map(|hive| view(&registry, hive, hive.heartbeat.workers.len()));
    json(&Hives { hives: hives.collect() })
}

/// One hive, with its workers.
pub(super) async fn one(
    State(registry): State<HiveRegistry>,
    PathParts(id): PathParts<String>,
) -> Result<Response, ApiError> {
    let hive = registry.get(&id).ok_or_else(|| unknown("hive", &id))?;
    Ok(json(&view(&registry, &hive, &hive.heartbeat.workers)))
}
