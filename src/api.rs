//! Every route on one page, described in `openapi.json`. Handlers translate: extract, call, wrap.
//!
//! Invariant: every error is a problem document, also for unknown paths and for whatever an
//! extractor refuses.

mod answers;
mod body;
mod grafana;
mod heartbeats;
mod history;
mod hives;
mod metrics;
mod models;
mod operations;
mod params;
mod problem;
mod response;
mod route;
mod stream;
mod workers;

pub use self::answers::Answers;
pub use self::body::Bodies;
pub use self::history::export::Exports;

use axum::Router;
use axum::extract::FromRef;
use axum::middleware::map_response_with_state;
use axum::routing::{delete, get, post};
use tokio_util::sync::CancellationToken;

use crate::clock::Clock;
use crate::counters::Counters;
use crate::estimates::Estimates;
use crate::feed::Feed;
use crate::feed::fleet::Fleet;
use crate::history::{Files, Reader, Writer};
use crate::ingest::Ingest;
use crate::registry::HiveRegistry;

/// What the handlers work on; each takes the part that it needs.
#[derive(Debug, Clone)]
pub struct ApiState {
    /// Takes heartbeats.
    pub ingest: Ingest,
    /// The newest reading of every hive.
    pub registry: HiveRegistry,
    /// How much memory each model needs.
    pub estimates: Estimates,
    /// The live feed.
    pub feed: Feed,
    /// The state of the fleet, for the live feed.
    pub fleet: Fleet,
    /// For its state.
    pub writer: Writer,
    /// Reads the history.
    pub reader: Reader,
    /// Room for exports.
    pub exports: Exports,
    /// Room for bodies that arrive.
    pub bodies: Bodies,
    /// Room for answers that wait for their clients.
    pub answers: Answers,
    /// What was done so far.
    pub counters: Counters,
    /// How much room the history takes.
    pub files: Files,
    /// Time.
    pub clock: Clock,
    /// Ends the streams when the queen stops.
    pub shutdown: CancellationToken,
}

macro_rules! parts {
    ($($part:ident: $type:ty),* $(,)?) => {$(
        impl FromRef<ApiState> for $type {
            fn from_ref(state: &ApiState) -> Self {
                state.$part.clone()
            }
        }
    )*};
}

parts! {
    ingest: Ingest,
    registry: HiveRegistry,
    estimates: Estimates,
    feed: Feed,
    fleet: Fleet,
    writer: Writer,
    reader: Reader,
    exports: Exports,
    bodies: Bodies,
    answers: Answers,
    counters: Counters,
    files: Files,
    clock: Clock,
    shutdown: CancellationToken,
}

/// All routes.
pub fn router(state: ApiState) -> Router {
    Router::new()
        .route("/v1/hive-heartbeat", post(heartbeats::one))
        .route("/v1/hive-heartbeats", post(heartbeats::bulk))
        .route("/v1/heartbeats/stream", get(stream::stream))
        .route("/v1/hives", get(hives::list))
        .route("/v1/hives/{id}", get(hives::one))
        .route("/v1/workers", get(workers::list))
        .route("/v1/workers/{hive}/{group}/{instance}", get(workers::one))
        .route("/v1/models", get(models::list))
        .route("/v1/route", post(route::route))
        .route("/v1/route/leases/{id}", delete(route::release))
        .route("/v1/history/query", get(history::query).post(history::query_posted))
        .route("/v1/history/metrics", get(history::metrics))
        .route("/v1/history/labels/{name}/values", get(history::label_values))
        .route("/v1/history/events", get(history::events::events))
        .route("/v1/history/export", get(history::export::export))
        .route("/v1/history/hives/{id}/availability", get(history::availability::availability))
        .route("/healthz", get(operations::healthz))
        .route("/readyz", get(operations::readyz))
        .route("/version", get(operations::version))
        .route("/metrics", get(metrics::metrics))
        .route("/openapi.json", get(operations::openapi))
        .route("/grafana", get(grafana::health))
        .route("/grafana/", get(grafana::health))
        .route("/grafana/metrics", post(grafana::forms::metrics))
        .route("/grafana/metric-payload-options", post(grafana::forms::options))
        .route("/grafana/query", post(grafana::query::query))
        .route("/grafana/variable", post(grafana::variables::variable))
        .route("/grafana/tag-keys", post(grafana::variables::tag_keys))
        .route("/grafana/tag-values", post(grafana::variables::tag_values))
        .fallback(problem::not_found)
        .method_not_allowed_fallback(problem::method_not_allowed)
        .layer(map_response_with_state(state.answers.clone(), answers::bound))
        .with_state(state)
}
