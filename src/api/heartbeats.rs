//! `POST /v1/hive-heartbeat` and the bulk form.

use axum::extract::State;
use axum::response::Response;
use hive_contract::heartbeat::{MAX_BODY, MAX_BULK_BODY, MAX_BULK_LINES};
use hive_contract::parse::Rejection;
use hive_contract::{Code, Heartbeat, Problem};
use serde::Serialize;

use super::body::JsonBody;
use super::problem::ApiError;
use super::response::json;
use crate::clock::Clock;
use crate::counters::Counters;
use crate::ingest::Ingest;

#[derive(Serialize)]
struct Accepted {
    status: &'static str,
    message: &'static str,
    id: i64,
    duplicate: bool,
}

/// Takes one heartbeat.
pub(super) async fn one(
    State(ingest): State<Ingest>,
    State(clock): State<Clock>,
    State(counters): State<Counters>,
    body: Result<JsonBody<MAX_BODY>, ApiError>,
) -> Result<Response, ApiError> {
    let result = match body {
        Ok(JsonBody(body)) => take_one(&ingest, clock, &body).await,
        Err(error) => Err(error),
    };
    result.inspect_err(|error| counters.rejected(error.code()))
}

async fn take_one(ingest: &Ingest, clock: Clock, body: &[u8]) -> Result<Response, ApiError> {
    let heartbeat = Heartbeat::parse(body, clock.now()).map_err(Problem::from)?;
    let acks = ingest.accept(vec![heartbeat], body.len()).await?;
    let ack = acks.first().ok_or_else(|| Problem::new(Code::Internal, "no acknowledgement"))?;
    let message = if ack.duplicate { "was stored before" } else { "stored" };
    Ok(json(&Accepted { status: "ok", message, id: ack.id, duplicate: ack.duplicate }))
}

#[derive(Serialize)]
struct BulkAccepted {
    accepted: usize,
    duplicates: usize,
}

/// Takes the heartbeats of one hive, one a line, all or none.
pub(super) async fn bulk(
    State(ingest): State<Ingest>,
    State(clock): State<Clock>,
    State(counters): State<Counters>,
    body: Result<JsonBody<MAX_BULK_BODY>, ApiError>,
) -> Result<Response, ApiError> {
    let result = match body {
        Ok(JsonBody(body)) => take_bulk(&ingest, clock, &body).await,
        Err(error) => Err(error),
    };
    result.inspect_err(|error| counters.rejected(error.code()))
}

async fn take_bulk(ingest: &Ingest, clock: Clock, body: &[u8]) -> Result<Response, ApiError> {
    let mut heartbeats: Vec<Heartbeat> = Vec::new();
    for (number, line) in body.split(|&b| b == b'\n').enumerate() {
        if line.trim_ascii().is_empty() {
            continue;
        }
        let number = number + 1;
        if heartbeats.len() == MAX_BULK_LINES {
            let detail = format!("more than {MAX_BULK_LINES} heartbeats in one request");
            return Err(Problem::new(Code::TooLarge, detail).into());
        }
        if line.len() > MAX_BODY {
            let detail = format!("line {number} is larger than {} MiB", MAX_BODY >> 20);
            return Err(Problem::new(Code::TooLarge, detail).into());
        }
        let heartbeat = Heartbeat::parse(line, clock.now()).map_err(|why| at_line(number, why))?;
        if heartbeats.first().is_some_and(|first| first.hive.id != heartbeat.hive.id) {
            let detail = "is not that of the first line; one request holds one hive's heartbeats";
            let field = format!("line {number}: hive.id");
            return Err(Problem::field(Code::InvalidField, &field, detail).into());
        }
        heartbeats.push(heartbeat);
    }
    let acks = ingest.accept(heartbeats, body.len()).await?;
    let duplicates = acks.iter().filter(|ack| ack.duplicate).count();
    Ok(json(&BulkAccepted { accepted: acks.len() - duplicates, duplicates }))
}

fn at_line(number: usize, why: Rejection) -> Problem {
    match why {
        Rejection::Malformed(why) => {
            Problem::new(Code::MalformedJson, format!("line {number}: not JSON: {why}"))
        }
        Rejection::Invalid { field, detail } => {
            Problem::field(Code::InvalidField, &format!("line {number}: {field}"), &detail)
        }
    }
}
