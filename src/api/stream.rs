//! `GET /v1/heartbeats/stream`: the live feed as SSE, or as lines of JSON.

use std::time::Duration;

use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures_util::Stream;
use hive_contract::event::{Gap, GapReason, QueenSummary};
use hive_contract::{Code, HiveId, Problem};
use serde::Serialize;
use tokio::sync::broadcast::error::RecvError;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until};
use tokio_util::sync::CancellationToken;

use super::params::Params;
use super::problem::ApiError;
use crate::clock::Clock;
use crate::feed::{self, Event, Feed, Subscription};
use crate::registry::{HiveRegistry, State as HiveLiveness};

/// Time between two summaries of the fleet.
const SUMMARY_INTERVAL: Duration = Duration::from_millis(2500);
/// Silence after which a comment shows that the stream lives.
const SILENCE: Duration = Duration::from_secs(15);

/// The two forms of the stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    Sse,
    Ndjson,
}

impl Form {
    fn of(headers: &HeaderMap) -> Self {
        let accept = headers.get(header::ACCEPT).and_then(|value| value.to_str().ok());
        if accept.unwrap_or_default().contains("application/x-ndjson") {
            Self::Ndjson
        } else {
            Self::Sse
        }
    }

    fn content_type(self) -> &'static str {
        match self {
            Self::Sse => "text/event-stream",
            Self::Ndjson => "application/x-ndjson",
        }
    }

    fn heartbeat(self, event: &Event) -> Bytes {
        match self {
            Self::Sse => event.sse(),
            Self::Ndjson => event.ndjson(),
        }
    }

    fn other(self, name: &str, data: &impl Serialize) -> Bytes {
        match self {
            Self::Sse => feed::frame(None, name, data),
            Self::Ndjson => feed::line(data),
        }
    }
}

/// Opens a stream.
pub(super) async fn stream(
    State(feed): State<Feed>,
    State(registry): State<HiveRegistry>,
    State(clock): State<Clock>,
    State(shutdown): State<CancellationToken>,
    params: Params,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let snapshot: Option<bool> = params.get("snapshot", "true or false")?;
    let backfill: Option<bool> = params.get("backfill", "true or false")?;
    let form = Form::of(&headers);
    let subscription = feed.subscribe().ok_or_else(|| {
        Problem::new(Code::TooManyStreams, "every place on the live feed is taken")
    })?;
    let stream = Live {
        subscription,
        registry,
        clock,
        shutdown,
        form,
        snapshot: snapshot.unwrap_or(true),
        backfill: backfill.unwrap_or(false),
    };
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static(form.content_type())),
        (header::CACHE_CONTROL, HeaderValue::from_static("no-cache, no-transform")),
        (header::HeaderName::from_static("x-accel-buffering"), HeaderValue::from_static("no")),
    ];
    Ok((headers, Body::from_stream(stream.frames())).into_response())
}

struct Live {
    subscription: Subscription,
    registry: HiveRegistry,
    clock: Clock,
    shutdown: CancellationToken,
    form: Form,
    snapshot: bool,
    /// Late data is wanted too.
    backfill: bool,
}

impl Live {
    fn frames(mut self) -> impl Stream<Item = Result<Bytes, std::convert::Infallible>> {
        async_stream::stream! {
            let form = self.form;
            if form == Form::Sse {
                yield Ok(Bytes::from_static(b"retry: 3000\n\n"));
            }
            let newest = std::mem::take(&mut self.subscription.newest);
            let mut last_id = newest.last().and_then(|published| published.id).unwrap_or(0);
            for published in newest {
                let live = self.registry.get(published.heartbeat.hive.id.as_str())
                    .is_some_and(|hive| self.registry.state(&hive) == HiveLiveness::Live);
                if self.snapshot && live {
                    let event = Event::snapshot(published);
                    yield Ok(form.heartbeat(&event));
                }
            }
            let mut summary = interval(SUMMARY_INTERVAL);
            summary.set_missed_tick_behavior(MissedTickBehavior::Delay);
            let mut silent_since = Instant::now();
            loop {
                let frame = tokio::select! {
                    biased;
                    () = self.shutdown.cancelled() => break,
                    _ = summary.tick() => form.other("heartbeat", &self.summary()),
                    event = self.subscription.events.recv() => match event {
                        Ok(event) => {
                            last_id = event.id.unwrap_or(last_id);
                            if event.late && !self.backfill {
                                continue;
                            }
                            form.heartbeat(&event)
                        }
                        Err(RecvError::Lagged(_)) => match self.skip(last_id) {
                            Some(gap) => {
                                last_id = gap.to;
                                form.other("gap", &gap)
                            }
                            None => continue,
                        },
                        Err(RecvError::Closed) => break,
                    },
                    () = sleep_until(silent_since + SILENCE), if form == Form::Sse => {
                        Bytes::from_static(b": still here\n\n")
                    }
                };
                silent_since = Instant::now();
                yield Ok(frame);
            }
            yield Ok(form.other("bye", &Bye { kind: "bye" }));
        }
    }

    /// After a lag: goes on at the newest event, and tells what lies between.
    fn skip(&mut self, last_id: i64) -> Option<Gap> {
        let mut to = None;
        loop {
            match self.subscription.events.try_recv() {
                Ok(event) => to = event.id.or(to),
                Err(tokio::sync::broadcast::error::TryRecvError::Lagged(_)) => {}
                Err(_) => break,
            }
        }
        to.map(|to| Gap { from: last_id + 1, to, reason: GapReason::Lagged })
    }

    fn summary(&self) -> QueenSummary {
        let mut summary = QueenSummary {
            workers_online: 0,
            workers_available: 0,
            hives_online: 0,
            hives_available: 0,
            worker_ids: Vec::new(),
            hive_ids: Vec::new(),
            timestamp: self.clock.now(),
        };
        for hive in self.registry.hives() {
            let state = self.registry.state(&hive);
            if state == HiveLiveness::Offline {
                continue;
            }
            let id: &HiveId = &hive.heartbeat.hive.id;
            let workers = &hive.heartbeat.workers;
            summary.hives_online += 1;
            summary.hive_ids.push(id.clone());
            summary.workers_online += workers.len();
            summary.worker_ids.extend(
                workers.iter().map(|worker| format!("{id}/{}/{}", worker.group, worker.instance)),
            );
            if state == HiveLiveness::Live {
                summary.hives_available += 1;
                summary.workers_available +=
                    workers.iter().filter(|worker| worker.idle() == Some(true)).count();
            }
        }
        summary.worker_ids.sort_unstable();
        summary
    }
}

#[derive(Serialize)]
struct Bye {
    #[serde(rename = "type")]
    kind: &'static str,
}
