//! `GET /v1/heartbeats/stream`: the live feed as SSE, or as lines of JSON.
//!
//! A stream first catches up, if it is to go on where another one ended, and then follows the
//! feed. One that falls too far behind catches up from the history again.
//!
//! Invariant: ids grow along a stream. What has an id is sent once, or a `gap` names it.
//!
//! Invariant: a stream holds two chunks of the history, or one event, and what waits for the end
//! of its interval: at most the newest heartbeat of each hive.

mod resume;
mod thin;
mod wanted;

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures_util::Stream;
use hive_contract::event::{Gap, GapReason};
use hive_contract::{Code, Problem};
use serde::Serialize;
use tokio::sync::broadcast::error::RecvError;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use self::resume::Resume;
use self::thin::Thin;
use self::wanted::Wanted;
use super::params::Params;
use super::problem::ApiError;
use crate::clock::Clock;
use crate::feed::fleet::Fleet;
use crate::feed::{Batch, Content, Event, Feed, Form, Published, Subscription};
use crate::history::Reader;
use crate::history::reader::ReadError;
use crate::history::replay::{Ahead, Gone, Recorded, Replay};

/// Of a replay so many bytes are sent at once.
const PIECE_BYTES: usize = 64 << 10;
/// How long a stream that catches up waits when too many read at once.
const BUSY_PAUSE: Duration = Duration::from_millis(200);
/// How long after the end of an interval its last events are on their way.
const ON_ITS_WAY: Duration = Duration::from_millis(50);
/// Silence after which a comment shows that the stream lives.
const SILENCE: Duration = Duration::from_secs(15);

fn form(headers: &HeaderMap) -> Form {
    let accept = headers.get(header::ACCEPT).and_then(|value| value.to_str().ok());
    if accept.unwrap_or_default().contains("application/x-ndjson") {
        Form::Ndjson
    } else {
        Form::Sse
    }
}

fn content_type(form: Form) -> HeaderValue {
    HeaderValue::from_static(match form {
        Form::Sse => "text/event-stream",
        Form::Ndjson => "application/x-ndjson",
    })
}

/// Opens a stream.
pub(super) async fn stream(
    State(feed): State<Feed>,
    State(fleet): State<Fleet>,
    State(reader): State<Reader>,
    State(clock): State<Clock>,
    State(shutdown): State<CancellationToken>,
    params: Params,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let form = form(&headers);
    let wanted = Wanted::parse(&params, form)?;
    let snapshot: Option<bool> = params.get("snapshot", "true or false")?;
    let resume = Resume::parse(&headers, &params, clock)?;
    let thin = thin::interval(&params)?.map(Thin::new);
    let (subscription, newest) = feed.subscribe().ok_or_else(|| {
        Problem::new(Code::TooManyStreams, "every place on the live feed is taken")
    })?;
    let newest = if resume.is_none() && snapshot.unwrap_or(true) { newest } else { Vec::new() };
    let stream = Live { feed, subscription, fleet, reader, clock, shutdown, form, wanted, thin };
    let headers = [
        (header::CONTENT_TYPE, content_type(form)),
        (header::CACHE_CONTROL, HeaderValue::from_static("no-cache, no-transform")),
        (header::HeaderName::from_static("x-accel-buffering"), HeaderValue::from_static("no")),
    ];
    Ok((headers, Body::from_stream(stream.frames(newest, resume))).into_response())
}

struct Live {
    feed: Feed,
    subscription: Subscription,
    fleet: Fleet,
    reader: Reader,
    clock: Clock,
    shutdown: CancellationToken,
    form: Form,
    wanted: Wanted,
    thin: Option<Thin<Arc<Event>>>,
}

impl Live {
    fn frames(
        mut self,
        newest: Vec<Published>,
        resume: Option<Resume>,
    ) -> impl Stream<Item = Result<Bytes, Infallible>> {
        async_stream::stream! {
            if self.form == Form::Sse {
                yield Ok(Bytes::from_static(b"retry: 3000\n\n"));
            }
            for published in newest {
                if self.fleet.is_live(&published.heartbeat.hive.id)
                    && let Some(frame) = self.wanted.frame(&Event::snapshot(published))
                {
                    yield Ok(frame);
                }
            }
            if let Some(frame) = self.wanted.frame(&self.fleet.recent()) {
                yield Ok(frame);
            }
            // What is up to this id was sent, or is not wanted.
            let mut position = self.subscription.last_id;
            if let Some(resume) = resume {
                let (from, gap) = self.begin(resume);
                position = from;
                if let Some(gap) = gap {
                    yield Ok(self.other("gap", &gap));
                }
            }
            let mut over_at = Instant::now() + self.rest();
            let mut silent_since = Instant::now();
            'stream: loop {
                if position < self.subscription.last_id {
                    let through = self.subscription.last_id;
                    let hives = self.wanted.hive_filter();
                    let replay = Replay::new(self.reader.clone(), position, through, hives);
                    let mut replay = Ahead::new(replay);
                    loop {
                        if self.shutdown.is_cancelled() {
                            break 'stream;
                        }
                        let recorded = match replay.next().await {
                            Ok(recorded) => recorded,
                            // Others read: what was sent so far is not read again.
                            Err(ReadError::Busy) => {
                                tokio::time::sleep(BUSY_PAUSE).await;
                                continue 'stream;
                            }
                            Err(error) => {
                                tracing::warn!(error = %error, "a stream could not catch up");
                                let reason = GapReason::Lagged;
                                let gap = Gap { from: position + 1, to: through, reason };
                                yield Ok(self.other("gap", &gap));
                                break;
                            }
                        };
                        if recorded.is_empty() {
                            break;
                        }
                        let mut piece = String::new();
                        for recorded in recorded {
                            match event(recorded) {
                                Ok(event) => {
                                    position = event.id.unwrap_or(position);
                                    for event in self.ready(Arc::new(event)) {
                                        self.wanted.push(&mut piece, &event);
                                    }
                                }
                                Err(Gone { from, to }) => {
                                    position = to;
                                    let reason = GapReason::Retention;
                                    let gap = Gap { from, to, reason };
                                    self.form.push(&mut piece, None, "gap", &gap);
                                }
                            }
                            if piece.len() >= PIECE_BYTES {
                                yield Ok(std::mem::take(&mut piece).into());
                            }
                        }
                        if !piece.is_empty() {
                            yield Ok(piece.into());
                        }
                    }
                    position = through;
                    silent_since = Instant::now();
                    // What is left of it was long enough in coming.
                    for frame in self.flush() {
                        yield Ok(frame);
                    }
                }
                let frames = tokio::select! {
                    biased;
                    () = self.shutdown.cancelled() => break,
                    () = sleep_until(over_at), if self.thin.is_some() => {
                        over_at = Instant::now() + self.rest();
                        self.over()
                    }
                    event = self.subscription.events.recv() => match event {
                        Ok(batch) => {
                            let last = batch.events.iter().rev().find_map(|event| event.id);
                            position = last.unwrap_or(position);
                            self.ready_of(&batch)
                        }
                        Err(RecvError::Lagged(_)) => {
                            self.feed.rejoin(&mut self.subscription);
                            continue;
                        }
                        Err(RecvError::Closed) => break,
                    },
                    () = sleep_until(silent_since + SILENCE), if self.form == Form::Sse => {
                        vec![Bytes::from_static(b": still here\n\n")]
                    }
                };
                for frame in frames {
                    silent_since = Instant::now();
                    yield Ok(frame);
                }
            }
            for frame in self.flush() {
                yield Ok(frame);
            }
            yield Ok(self.other("bye", &Bye { kind: "bye" }));
        }
    }

    /// The id after which a resumed stream goes on, and what it is told before that.
    fn begin(&self, resume: Resume) -> (i64, Option<Gap>) {
        let (after, last_id) = (resume.after(), self.subscription.last_id);
        if after <= last_id {
            return (after, None);
        }
        // An id that was never given out here: nobody knows what its owner has seen.
        let gap = Gap { from: 0, to: last_id, reason: GapReason::Retention };
        (last_id, matches!(resume, Resume::After(_)).then_some(gap))
    }

    /// What can be sent now that an event came.
    fn ready(&mut self, event: Arc<Event>) -> Vec<Arc<Event>> {
        match &mut self.thin {
            // The state of the fleet does not wait.
            Some(thin) if !matches!(event.content, Content::Summary(_)) => {
                // What is not wanted does not take the place of what is.
                if self.wanted.takes(&event) { thin.push(event) } else { Vec::new() }
            }
            _ => vec![event],
        }
    }

    fn ready_of(&mut self, batch: &Batch) -> Vec<Bytes> {
        if self.thin.is_none() && self.wanted.is_everything() {
            let bytes = batch.bytes(self.form);
            return if bytes.is_empty() { Vec::new() } else { vec![bytes] };
        }
        let ready = batch.events.iter().flat_map(|event| self.ready(Arc::clone(event)));
        let ready: Vec<_> = ready.collect();
        ready.iter().filter_map(|event| self.wanted.frame(event)).collect()
    }

    /// How long it is until it should be looked whether an interval is over.
    fn rest(&self) -> Duration {
        self.thin.as_ref().map_or(SILENCE, |thin| thin.rest(self.clock.micros()) + ON_ITS_WAY)
    }

    /// The frames of what waited for the end of an interval, if that is over.
    fn over(&mut self) -> Vec<Bytes> {
        let now = self.clock.micros();
        let ready = self.thin.as_mut().map(|thin| thin.over(now)).unwrap_or_default();
        ready.iter().filter_map(|event| self.wanted.frame(event)).collect()
    }

    /// The frames of all that waits.
    fn flush(&mut self) -> Vec<Bytes> {
        let ready = self.thin.as_mut().map(Thin::flush).unwrap_or_default();
        ready.iter().filter_map(|event| self.wanted.frame(event)).collect()
    }

    fn other(&self, name: &str, data: &impl Serialize) -> Bytes {
        self.form.encode(None, name, data)
    }
}

fn event(recorded: Recorded) -> Result<Event, Gone> {
    match recorded {
        Recorded::Heartbeat { id, heartbeat, late } => Ok(Event::durable(id, heartbeat, late)),
        Recorded::Lifecycle(event) => Ok(Event::lifecycle(event)),
        Recorded::Gone(gone) => Err(gone),
    }
}

#[derive(Serialize)]
struct Bye {
    #[serde(rename = "type")]
    kind: &'static str,
}
