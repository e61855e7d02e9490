//! `/grafana`: what the JSON data source of Grafana (simpod-json-datasource) asks, on top of the
//! same planner as `/v1/history/query`.
//!
//! - `asked`: the members of a body;
//! - `conditions`: payload members and filters that choose series;
//! - [`query`], `frames`: targets to series and tables;
//! - `annotations`: events as a table;
//! - [`forms`]: what the query editor offers;
//! - [`variables`]: values of dashboard variables and of ad hoc filters.
//!
//! Invariant: whatever a dashboard sends, it gets frames, or an error with a `message`.

mod annotations;
mod asked;
mod conditions;
pub(super) mod forms;
mod frames;
pub(super) mod query;
pub(super) mod variables;

use axum::response::Response;
use serde::Serialize;

use super::response::json;

/// The largest body, in bytes. Every value of every variable of a dashboard is in it.
const MAX_ASKED: usize = 4 << 20;

#[derive(Serialize)]
struct Health {
    status: &'static str,
}

/// For the button that tests the data source.
pub(super) async fn health() -> Response {
    json(&Health { status: "ok" })
}
