//! The live feed: what is committed goes to every subscriber.
//!
//! Invariant: an event that carries an id is durable, and ids only grow along the feed.
//!
//! Invariant: a heartbeat is encoded once, by the first subscriber that needs it, and all
//! send the same bytes. A slow subscriber never slows the others: it loses its place in a ring
//! of [`RING_EVENTS`] events and is told so with a `gap`.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use bytes::Bytes;
use hive_contract::event::HiveTelemetry;
use hive_contract::{Heartbeat, HiveId};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, broadcast};

/// Events that a subscriber may be behind before it is told of a gap.
pub const RING_EVENTS: usize = 4096;

/// A heartbeat on the feed.
#[derive(Debug)]
pub struct Event {
    /// Its id in the history; none if it could not be stored.
    pub id: Option<i64>,
    /// The reading.
    pub heartbeat: Arc<Heartbeat>,
    /// It was not the newest of its hive when it arrived.
    pub late: bool,
    sse: OnceLock<Bytes>,
    ndjson: OnceLock<Bytes>,
}

impl Event {
    /// One that is on disk.
    #[must_use]
    pub fn durable(id: i64, heartbeat: Arc<Heartbeat>, late: bool) -> Self {
        Self { id: Some(id), heartbeat, late, sse: OnceLock::new(), ndjson: OnceLock::new() }
    }

    /// One from a snapshot.
    #[must_use]
    pub fn snapshot(published: Published) -> Self {
        let Published { id, heartbeat } = published;
        Self { id, heartbeat, late: false, sse: OnceLock::new(), ndjson: OnceLock::new() }
    }

    /// One that could not be stored and is only shown.
    #[must_use]
    pub fn volatile(heartbeat: Arc<Heartbeat>) -> Self {
        Self { id: None, heartbeat, late: false, sse: OnceLock::new(), ndjson: OnceLock::new() }
    }

    /// The event as an SSE frame, blank line included.
    pub fn sse(&self) -> Bytes {
        self.sse.get_or_init(|| frame(self.id, "heartbeat", &self.telemetry(None))).clone()
    }

    /// The event as a line of JSON, its id inside.
    pub fn ndjson(&self) -> Bytes {
        self.ndjson.get_or_init(|| line(&self.telemetry(self.id))).clone()
    }

    fn telemetry(&self, id: Option<i64>) -> HiveTelemetry<'_> {
        HiveTelemetry { id, ..HiveTelemetry::of(&self.heartbeat, self.late) }
    }
}

/// An SSE frame: id and event lines, the data on one line, and the blank line.
pub fn frame(id: Option<i64>, event: &str, data: &impl serde::Serialize) -> Bytes {
    let mut out = Vec::with_capacity(1024);
    if let Some(id) = id {
        out.extend_from_slice(b"id: ");
        out.extend_from_slice(itoa::Buffer::new().format(id).as_bytes());
        out.push(b'\n');
    }
    out.extend_from_slice(b"event: ");
    out.extend_from_slice(event.as_bytes());
    out.extend_from_slice(b"\ndata: ");
    push_json(&mut out, data);
    out.extend_from_slice(b"\n\n");
    out.into()
}

/// A line of JSON.
pub fn line(data: &impl serde::Serialize) -> Bytes {
    let mut out = Vec::with_capacity(1024);
    push_json(&mut out, data);
    out.push(b'\n');
    out.into()
}

fn push_json(out: &mut Vec<u8>, data: &impl serde::Serialize) {
    serde_json::to_writer(out, data).expect("an event is JSON, and memory takes it");
}

/// Where the writer publishes and the streams subscribe. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Feed {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    events: broadcast::Sender<Arc<Event>>,
    /// The newest published heartbeat of each hive. Its lock is held while an event is published
    /// and while a subscriber joins, so that a snapshot and the stream after it have no hole
    /// and no double. Publishing takes well under a microsecond an event; a std mutex does.
    newest: Mutex<HashMap<HiveId, Published>>,
    places: Arc<Semaphore>,
}

/// A heartbeat as it was published.
#[derive(Debug, Clone)]
pub struct Published {
    /// Its id, if it is on disk.
    pub id: Option<i64>,
    /// The reading.
    pub heartbeat: Arc<Heartbeat>,
}

/// A place on the feed.
#[derive(Debug)]
pub struct Subscription {
    /// What comes from now on.
    pub events: broadcast::Receiver<Arc<Event>>,
    /// The newest heartbeat of each hive as of now, by id.
    pub newest: Vec<Published>,
    _place: OwnedSemaphorePermit,
}

impl Feed {
    /// A feed for at most `max_streams` subscribers.
    #[must_use]
    pub fn new(max_streams: usize) -> Self {
        let (events, _) = broadcast::channel(RING_EVENTS);
        let places = Arc::new(Semaphore::new(max_streams.min(Semaphore::MAX_PERMITS)));
        Self { inner: Arc::new(Inner { events, newest: Mutex::default(), places }) }
    }

    /// Shows events to all subscribers, in their order.
    pub fn publish(&self, events: impl IntoIterator<Item = Event>) {
        let mut newest = self.inner.newest.lock().unwrap_or_else(PoisonError::into_inner);
        for event in events {
            if !event.late {
                let published = Published { id: event.id, heartbeat: Arc::clone(&event.heartbeat) };
                match newest.get_mut(&event.heartbeat.hive.id) {
                    Some(entry) => *entry = published,
                    None => {
                        newest.insert(event.heartbeat.hive.id.clone(), published);
                    }
                }
            }
            // Without subscribers nothing is kept.
            let _ = self.inner.events.send(Arc::new(event));
        }
    }

    /// Takes over what was published before the start.
    pub fn prime(&self, id: i64, heartbeat: Arc<Heartbeat>) {
        let mut newest = self.inner.newest.lock().unwrap_or_else(PoisonError::into_inner);
        newest.insert(heartbeat.hive.id.clone(), Published { id: Some(id), heartbeat });
    }

    /// Joins the feed; `None` when every place is taken.
    #[must_use]
    pub fn subscribe(&self) -> Option<Subscription> {
        let place = Arc::clone(&self.inner.places).try_acquire_owned().ok()?;
        let newest = self.inner.newest.lock().unwrap_or_else(PoisonError::into_inner);
        let events = self.inner.events.subscribe();
        let mut newest: Vec<Published> = newest.values().cloned().collect();
        newest.sort_unstable_by_key(|published| published.id);
        Some(Subscription { events, newest, _place: place })
    }
}
