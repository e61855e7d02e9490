//! `/v1/history/query`, `/v1/history/metrics` and `/v1/history/labels/{name}/values`; the
//! [`export`] and the [`availability`] have their own files.

pub(super) mod availability;
pub(super) mod events;
pub(super) mod export;
mod format;
mod given;
mod parse;
pub(super) mod time;

use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::Response;
use hive_contract::{Code, Problem};
use serde::Serialize;

use self::format::Format;
use self::given::Given;
use super::body::JsonBody;
use super::params::{Params, PathParts};
use super::problem::ApiError;
use super::response::json;
use crate::clock::Clock;
use crate::history::Reader;
use crate::history::metric::METRICS;
use crate::history::query::{self, Label, LabelValues};

/// The largest posted query, in bytes.
const MAX_QUERY: usize = 1 << 20;

/// Answers a question.
pub(super) async fn query(
    State(reader): State<Reader>,
    State(clock): State<Clock>,
    params: Params,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    answer(&reader, clock, &Given::in_url(params), &headers).await
}

/// Answers a question in the body.
pub(super) async fn query_posted(
    State(reader): State<Reader>,
    State(clock): State<Clock>,
    headers: HeaderMap,
    JsonBody(body): JsonBody<MAX_QUERY>,
) -> Result<Response, ApiError> {
    answer(&reader, clock, &Given::in_body(&body)?, &headers).await
}

async fn answer(
    reader: &Reader,
    clock: Clock,
    given: &Given,
    headers: &HeaderMap,
) -> Result<Response, ApiError> {
    let format = Format::of(given, headers)?;
    let request = parse::request(given, clock.now().millis())?;
    Ok(format.response(query::query(reader, &request).await?))
}

#[derive(Serialize)]
struct Metrics {
    metrics: Vec<Metric>,
}

#[derive(Serialize)]
struct Metric {
    name: &'static str,
    unit: &'static str,
    help: &'static str,
    labels: &'static [&'static str],
}

/// Every metric.
pub(super) async fn metrics() -> Response {
    let metrics = METRICS.iter().map(|metric| Metric {
        name: metric.name,
        unit: metric.unit,
        help: metric.help,
        labels: metric.labels(),
    });
    json(&Metrics { metrics: metrics.collect() })
}

#[derive(Serialize)]
struct Values {
    values: Vec<String>,
    /// Only where there are more than one answer has room for.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    truncated: bool,
}

/// The values of a label in a range of time.
pub(super) async fn label_values(
    State(reader): State<Reader>,
    State(clock): State<Clock>,
    PathParts(name): PathParts<String>,
    params: Params,
) -> Result<Response, ApiError> {
    let label = Label::named(&name).ok_or_else(|| {
        let labels = parse::names(Label::ALL.iter().map(|label| label.name()));
        Problem::new(Code::NotFound, format!("no label {name} is known; the labels are {labels}"))
    })?;
    let given = Given::in_url(params);
    let (start, end) = parse::range(&given, clock.now().millis())?;
    let matchers = parse::matchers(&given)?;
    let LabelValues { values, truncated } =
        query::label_values(&reader, label, start, end, &matchers).await?;
    Ok(json(&Values { values, truncated }))
}
