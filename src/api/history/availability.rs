//! `GET /v1/history/hives/{id}/availability`.

use axum::extract::State;
use axum::response::Response;
use hive_contract::{Code, Problem};

use super::given::Given;
use super::parse;
use crate::api::params::{Params, PathParts};
use crate::api::problem::{ApiError, unknown};
use crate::api::response::json;
use crate::clock::Clock;
use crate::history::Reader;
use crate::history::availability::{self, AvailabilityError};

/// How much of what a hive should have sent came, and when nothing did.
pub(in crate::api) async fn availability(
    State(reader): State<Reader>,
    State(clock): State<Clock>,
    PathParts(hive): PathParts<String>,
    params: Params,
) -> Result<Response, ApiError> {
    let now = clock.now().millis();
    let given = Given::in_url(params);
    let (start, end) = parse::range(&given, now)?;
    if start >= now {
        return Err(given.invalid("start", "must be before now"));
    }
    let answer = availability::availability(&reader, &hive, start, end, now).await;
    match answer {
        Ok(answer) => Ok(json(&answer)),
        Err(AvailabilityError::UnknownHive) => Err(unknown("hive", hive)),
        Err(error @ AvailabilityError::TooOld { .. }) => {
            Err(Problem::new(Code::TooOld, error.to_string()).into())
        }
        Err(AvailabilityError::Read(error)) => Err(error.into()),
    }
}
