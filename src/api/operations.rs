//! `GET /healthz`, `/readyz`, `/version`, `/openapi.json`.

use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;

use super::response::json;
use crate::history::{Storage, Writer};

#[derive(Serialize)]
struct Health {
    status: &'static str,
}

/// While the process serves.
pub(super) async fn healthz() -> Response {
    json(&Health { status: "ok" })
}

#[derive(Serialize)]
struct Readiness {
    status: &'static str,
    reasons: Vec<String>,
}

/// Whether heartbeats can be stored, and if not, why.
pub(super) async fn readyz(State(writer): State<Writer>) -> Response {
    match writer.storage() {
        Storage::Ready => json(&Readiness { status: "ready", reasons: Vec::new() }),
        Storage::Degraded { reason, .. } => {
            let reasons = vec![format!("the history cannot be written: {reason}")];
            let body = json(&Readiness { status: "degraded", reasons });
            (StatusCode::SERVICE_UNAVAILABLE, body).into_response()
        }
    }
}

#[derive(Serialize)]
struct Version {
    name: &'static str,
    version: &'static str,
}

/// What this is.
pub(super) async fn version() -> Response {
    json(&Version { name: "queen", version: env!("CARGO_PKG_VERSION") })
}

/// What every route takes and gives, for programs that make clients of it.
pub(super) async fn openapi() -> impl IntoResponse {
    ([(header::CONTENT_TYPE, "application/json")], include_str!("openapi.json"))
}
