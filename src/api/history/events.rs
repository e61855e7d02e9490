//! `GET /v1/history/events`.

use axum::extract::State;
use axum::response::Response;
use hive_contract::EventKind;
use serde::Serialize;

use super::given::Given;
use super::parse;
use crate::api::params::{Params, invalid};
use crate::api::problem::ApiError;
use crate::api::response::json;
use crate::clock::Clock;
use crate::history::Reader;
use crate::history::events::{self, EventsWanted, Happened};

/// Events in one answer, unless `limit` says otherwise.
const DEFAULT_LIMIT: u32 = 1000;
/// The most that `limit` may be.
const MAX_LIMIT: u32 = 10_000;

#[derive(Serialize)]
struct Events {
    events: Vec<Happened>,
}

/// What happened in a range of time.
pub(in crate::api) async fn events(
    State(reader): State<Reader>,
    State(clock): State<Clock>,
    params: Params,
) -> Result<Response, ApiError> {
    let kinds = params.all("kind").map(kind).collect::<Result<_, _>>()?;
    let hives = params.all("hive").map(ToOwned::to_owned).collect();
    let expected = format!("a number from 1 to {MAX_LIMIT}");
    let limit = params.get("limit", &expected)?.unwrap_or(DEFAULT_LIMIT);
    if !(1..=MAX_LIMIT).contains(&limit) {
        return Err(invalid("limit", &format!("{limit} is not {expected}")));
    }
    let (start, end) = parse::range(&Given::in_url(params), clock.now().millis())?;
    let wanted = EventsWanted { start, end, kinds, hives, limit };
    Ok(json(&Events { events: events::events(&reader, &wanted).await? }))
}

fn kind(name: &str) -> Result<EventKind, ApiError> {
    name.parse().map_err(|_| {
        let kinds = parse::names(EventKind::ALL.iter().map(|kind| kind.as_str()));
        invalid("kind", &format!("{name:?} is none of {kinds}"))
    })
}
