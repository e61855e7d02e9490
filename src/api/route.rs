//! `POST /v1/route` and `DELETE /v1/route/leases/{id}`.

use std::time::Duration;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use hive_contract::bounded::Bounded;
use hive_contract::parse::object;
use hive_contract::text::ModelName;
use hive_contract::units::Mebibytes;
use hive_contract::{Code, Group, Problem, Timestamp, WorkerKey};
use serde::{Deserialize, Deserializer, Serialize};

use super::body::JsonBody;
use super::params::PathParts;
use super::problem::ApiError;
use super::response::json;
use super::workers::{WorkerView, view};
use crate::estimates::Estimates;
use crate::history::vram::Estimate;
use crate::registry::HiveRegistry;
use crate::scheduler::{Considered, NoWorker, Wanted};

/// The largest request, in bytes.
const MAX_ROUTE: usize = 1 << 20;
/// The most workers that one request excludes.
const MAX_EXCLUDED: usize = 1024;
/// The shortest, usual and longest lease, in ms.
const LEASE_MS: std::ops::RangeInclusive<u64> = 1..=60_000;
const USUAL_LEASE_MS: u64 = 2000;

/// A request to be routed.
#[derive(Deserialize)]
struct RouteRequest {
    model: ModelName,
    required_vram_mb: Option<Mebibytes>,
    lease_ms: Option<u64>,
    group: Option<Group>,
    #[serde(default)]
    exclude: Bounded<Key, MAX_EXCLUDED>,
    idle_only: Option<bool>,
}

/// A worker's key as it is written: `hive/group/instance`.
struct Key(WorkerKey);

impl<'de> Deserialize<'de> for Key {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map(Self).map_err(serde::de::Error::custom)
    }
}

#[derive(Serialize)]
struct Routed<'a> {
    worker_url: &'a str,
    worker: WorkerView<'a>,
    lease_id: String,
    expires: Timestamp,
    considered: &'a Considered,
}

/// Finds the best worker for a request and leases it.
pub(super) async fn route(
    State(registry): State<HiveRegistry>,
    State(estimates): State<Estimates>,
    JsonBody(body): JsonBody<MAX_ROUTE>,
) -> Result<Response, ApiError> {
    let request: RouteRequest = object(&body).map_err(Problem::from)?;
    let lease = lease(request.lease_ms)?;
    let exclude: Vec<WorkerKey> = request.exclude.iter().map(|Key(key)| key.clone()).collect();
    let learned = match request.required_vram_mb {
        Some(_) => None,
        None => estimates.get(request.model.as_str()),
    };
    let required = request.required_vram_mb.or(learned.map(|estimate| estimate.vram));
    let wanted = Wanted {
        model: request.model.as_str(),
        required_vram: required.or(Mebibytes::from_thousandths(0)),
        group: request.group.as_ref().map(Group::as_str),
        exclude: &exclude,
        idle_only: request.idle_only.unwrap_or(true),
    };
    let route = registry.route(&wanted, lease).map_err(|refusal| explained(refusal, learned))?;
    Ok(json(&Routed {
        worker_url: &route.url,
        worker: view(&registry, route.leases, &route.worker),
        lease_id: route.lease.to_string(),
        expires: route.expires,
        considered: &route.considered,
    }))
}

/// A refusal that says where the memory comes from that nobody asked for.
fn explained(mut refusal: NoWorker, learned: Option<Estimate>) -> NoWorker {
    if let Some(Estimate { samples, .. }) = learned
        && refusal.considered.no_capacity > 0
    {
        refusal.detail += &format!(
            "; that is what workers of the model used (99th percentile of {samples} readings), \
             and required_vram_mb in the request overrides it"
        );
    }
    refusal
}

fn lease(given_ms: Option<u64>) -> Result<Duration, ApiError> {
    let ms = given_ms.unwrap_or(USUAL_LEASE_MS);
    if LEASE_MS.contains(&ms) {
        return Ok(Duration::from_millis(ms));
    }
    let detail = format!("{ms} is not in {}..={}", LEASE_MS.start(), LEASE_MS.end());
    Err(Problem::field(Code::InvalidField, "lease_ms", &detail).into())
}

/// Ends a lease. One that has ended already, or never was, is gone as well.
pub(super) async fn release(
    State(registry): State<HiveRegistry>,
    PathParts(id): PathParts<String>,
) -> StatusCode {
    if let Ok(lease) = id.parse() {
        registry.release(lease);
    }
    StatusCode::NO_CONTENT
}
