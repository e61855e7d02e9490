//! `GET /metrics`: the fleet and the queen herself, as Prometheus scrapes them.
//!
//! Invariant: what is silent is not there. Prometheus then marks its series as ended, where a
//! figure that stands still would look alive. For the same reason samples carry no time.
//!
//! Invariant: labels are names that the registry bounds; a model, which may change, stands in
//! `worker_info` alone.

mod exposition;
mod fleet;
mod own;

use axum::extract::State;
use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse, Response};

use self::exposition::Exposition;
use self::own::Own;
use crate::counters::Counters;
use crate::feed::Feed;
use crate::history::{Files, Writer};
use crate::registry::HiveRegistry;

/// The text format that every Prometheus reads.
const CONTENT_TYPE: HeaderValue =
    HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");

/// Everything, as of now.
pub(super) async fn metrics(
    State(registry): State<HiveRegistry>,
    State(counters): State<Counters>,
    State(writer): State<Writer>,
    State(feed): State<Feed>,
    State(files): State<Files>,
) -> Response {
    // The figures of many workers take milliseconds, and the file system may take longer.
    let text = tokio::task::block_in_place(|| {
        let mut out = Exposition::default();
        fleet::write(&registry, &mut out);
        let own = Own { counters: &counters, writer: &writer, feed: &feed, files: &files };
        own.write(&registry, &mut out);
        out.finish()
    });
    ([(header::CONTENT_TYPE, CONTENT_TYPE)], text).into_response()
}
