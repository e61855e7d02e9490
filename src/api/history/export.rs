//! `GET /v1/history/export`: what came in, as lines of JSON or as a table.

mod csv;
mod cursor;

use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderValue, Uri, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures_util::Stream;
use hive_contract::{Code, Problem};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use self::cursor::{Cursor, InvalidCursor};
use super::given::Given;
use super::parse;
use crate::api::params::Params;
use crate::api::problem::ApiError;
use crate::clock::Clock;
use crate::history::Reader;
use crate::history::export::{Page, Range, Selection};
use crate::history::query::Label;
use crate::history::reader::ReadError;
use crate::history::readings::{Place, Reading};

/// Exports at once. Each holds a chunk of a few MiB for as long as its client takes to read it.
const MAX_EXPORTS: usize = 32;
/// How much of a page is read before its head is sent: most pages are then read once.
const HEAD_BYTES: usize = 4 << 20;
/// How large a piece grows before it is sent.
const PIECE_BYTES: usize = 64 << 10;

/// What the heartbeats and workers of an export can be chosen by.
const LABELS: [Label; 5] = [Label::Hive, Label::Group, Label::Instance, Label::Model, Label::Pid];

/// Room for exports.
#[derive(Debug, Clone)]
pub struct Exports(Arc<Semaphore>);

impl Default for Exports {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(MAX_EXPORTS)))
    }
}

/// The two forms of an export.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Format {
    Ndjson,
    Csv,
}

impl Format {
    fn name(self) -> &'static str {
        match self {
            Self::Ndjson => "ndjson",
            Self::Csv => "csv",
        }
    }

    fn content_type(self) -> &'static str {
        match self {
            Self::Ndjson => "application/x-ndjson",
            Self::Csv => "text/csv; charset=utf-8; header=present",
        }
    }

    fn push(self, reading: &Reading, out: &mut Vec<u8>) {
        match self {
            Self::Ndjson => push_line(reading, out),
            Self::Csv => csv::push_rows(&reading.heartbeat, out),
        }
    }
}

/// The heartbeat as it was posted, and its id.
fn push_line(reading: &Reading, out: &mut Vec<u8>) {
    let before = out.len();
    if let Err(error) = serde_json::to_writer(&mut *out, &reading.heartbeat) {
        // Only a value that is no JSON could fail, and a heartbeat holds none.
        tracing::error!(error = %error, heartbeat.id = reading.id, "a heartbeat was left out");
        out.truncate(before);
        return;
    }
    // Its closing brace makes room for one more member.
    out.pop();
    out.extend_from_slice(format!(",\"id\":{}}}\n", reading.id).as_bytes());
}

/// What is asked for.
struct Request {
    selection: Selection,
    range: Range,
    format: Format,
    limit: Option<u64>,
}

impl Request {
    fn parse(given: &Given, now: i64) -> Result<Self, ApiError> {
        let (start, end) = parse::range(given, now)?;
        let matchers = parse::matchers(given)?;
        if matchers.iter().any(|matcher| !LABELS.contains(&matcher.label)) {
            let known = parse::names(LABELS.iter().map(|label| label.name()));
            return Err(given.invalid("match", &format!("the labels of an export are {known}")));
        }
        let forms = [Format::Ndjson, Format::Csv];
        let form = |text: &str| forms.into_iter().find(|form| form.name() == text);
        let format = parse::named(
            given,
            "format",
            form,
            forms.iter().map(|form| form.name()),
            Format::Ndjson,
        )?;
        let limit = parse::whole(given, "limit", i64::MAX)?.map(i64::unsigned_abs);
        let range = match given.first("cursor") {
            Some(text) => {
                let cursor = text
                    .parse()
                    .map_err(|error: InvalidCursor| given.invalid("cursor", &error.to_string()))?;
                let Cursor(range) = cursor;
                range
            }
            None => Range { after: Place::before(start), end, through_id: None },
        };
        Ok(Self { selection: Selection::new(matchers), range, format, limit })
    }
}

/// Gives what came in.
pub(in crate::api) async fn export(
    State(reader): State<Reader>,
    State(exports): State<Exports>,
    State(clock): State<Clock>,
    uri: Uri,
    params: Params,
) -> Result<Response, ApiError> {
    let Request { selection, range, format, limit } =
        Request::parse(&Given::in_url(params), clock.now().millis())?;
    let Ok(place) = exports.0.try_acquire_owned() else {
        let detail = format!("{MAX_EXPORTS} exports are under way, as many as there may be");
        return Err(Problem::new(Code::TooManyRequests, detail).into());
    };
    let mut page = Page::open(reader, selection, range, limit).await?;
    let mut head = Vec::new();
    if format == Format::Csv {
        csv::push_header(&mut head);
    }
    // Where the page ends must be known before its first byte: the next one is in the head.
    let rest = match limit {
        Some(_) => {
            while head.len() < HEAD_BYTES && !page.is_done() {
                for reading in page.next().await? {
                    format.push(&reading, &mut head);
                }
            }
            page.rest().await?
        }
        None => {
            // What fails at once is still told as a problem.
            for reading in page.next().await? {
                format.push(&reading, &mut head);
            }
            None
        }
    };
    let body = Body::from_stream(pieces(head, page, format, place));
    let content_type = HeaderValue::from_static(format.content_type());
    let mut response = ([(header::CONTENT_TYPE, content_type)], body).into_response();
    if let Some(range) = rest
        && let Ok(link) = HeaderValue::try_from(link(&uri, &Cursor(range)))
    {
        response.headers_mut().insert(header::LINK, link);
    }
    Ok(response)
}

/// The same request with another cursor.
fn link(uri: &Uri, cursor: &Cursor) -> String {
    let mut query = form_urlencoded::Serializer::new(String::new());
    let given = form_urlencoded::parse(uri.query().unwrap_or_default().as_bytes());
    query.extend_pairs(given.filter(|(name, _)| name != "cursor"));
    query.append_pair("cursor", &cursor.to_string());
    format!("<{}?{}>; rel=\"next\"", uri.path(), query.finish())
}

/// Reads on as the client does: when it goes away, so does this, and the reading ends.
fn pieces(
    head: Vec<u8>,
    mut page: Page,
    format: Format,
    place: OwnedSemaphorePermit,
) -> impl Stream<Item = Result<Bytes, ReadError>> {
    async_stream::try_stream! {
        let _place = place;
        if !head.is_empty() {
            yield Bytes::from(head);
        }
        loop {
            let readings = page.next().await.inspect_err(|error| {
                // The connection breaks, so that nobody takes the part for the whole.
                tracing::warn!(error = %error, "an export broke off");
            })?;
            if readings.is_empty() {
                break;
            }
            let mut piece = Vec::with_capacity(PIECE_BYTES + PIECE_BYTES / 4);
            for reading in readings {
                format.push(&reading, &mut piece);
                if piece.len() >= PIECE_BYTES {
                    yield Bytes::from(std::mem::take(&mut piece));
                }
            }
            if !piece.is_empty() {
                yield Bytes::from(piece);
            }
        }
    }
}
