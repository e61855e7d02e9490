//! The live feed: what is committed goes to every subscriber.
//!
//! Invariant: an event that carries an id is durable, and ids only grow along the feed.
//!
//! Invariant: a heartbeat is encoded once, by the first subscriber that needs it, and all that
//! want the whole of it send the same bytes. A slow subscriber never slows the others: it loses
//! its place in a ring of [`RING_BATCHES`] batches and reads what it missed from the history.
//!
//! What is published within [`PULSE`] reaches the subscribers together: waking a thousand of them
//! costs more than what they send. What comes after a silence goes at once.

pub mod fleet;
mod json;

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use hive_contract::event::{HiveTelemetry, Lifecycle, QueenSummary};
use hive_contract::heartbeat::Worker;
use hive_contract::{Heartbeat, HiveId};
use serde::Serialize;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, broadcast};
use tokio::time::Instant;

/// Batches that a subscriber may be behind before it must read them from the history: at least
/// 0.6 s.
pub const RING_BATCHES: usize = 128;
/// The least time between two batches.
pub const PULSE: Duration = Duration::from_millis(5);
/// Events in one batch, beyond which it does not wait for its time.
const BATCH_EVENTS: usize = 32;

/// Something on the feed.
#[derive(Debug)]
pub struct Event {
    /// Its id in the history; none if it could not be stored.
    pub id: Option<i64>,
    /// What it says.
    pub content: Content,
    sse: OnceLock<Bytes>,
    ndjson: OnceLock<Bytes>,
}

/// What an event says.
#[derive(Debug)]
pub enum Content {
    /// A hive's reading.
    Heartbeat {
        /// The reading.
        heartbeat: Arc<Heartbeat>,
        /// It was not the newest of its hive when it arrived.
        late: bool,
    },
    /// Something that happened.
    Lifecycle(Lifecycle),
    /// The state of the fleet.
    Summary(QueenSummary),
}

impl Event {
    fn new(id: Option<i64>, content: Content) -> Self {
        Self { id, content, sse: OnceLock::new(), ndjson: OnceLock::new() }
    }

    /// A heartbeat that is on disk.
    #[must_use]
    pub fn durable(id: i64, heartbeat: Arc<Heartbeat>, late: bool) -> Self {
        Self::new(Some(id), Content::Heartbeat { heartbeat, late })
    }

    /// A heartbeat from a snapshot.
    #[must_use]
    pub fn snapshot(published: Published) -> Self {
        let Published { id, heartbeat } = published;
        Self::new(id, Content::Heartbeat { heartbeat, late: false })
    }

    /// A heartbeat that could not be stored and is only shown.
    #[must_use]
    pub fn volatile(heartbeat: Arc<Heartbeat>) -> Self {
        Self::new(None, Content::Heartbeat { heartbeat, late: false })
    }

    /// Something that happened and is on disk.
    #[must_use]
    pub fn lifecycle(event: Lifecycle) -> Self {
        Self::new(event.id, Content::Lifecycle(event))
    }

    /// The state of the fleet.
    #[must_use]
    pub fn summary(summary: QueenSummary) -> Self {
        Self::new(None, Content::Summary(summary))
    }

    /// The whole event in the form asked for: an SSE frame with its blank line, or a line of JSON
    /// with the id inside.
    pub fn frame(&self, form: Form) -> Bytes {
        let encoded = match form {
            Form::Sse => &self.sse,
            Form::Ndjson => &self.ndjson,
        };
        encoded.get_or_init(|| self.encode(form, None)).clone()
    }

    /// The event in the form asked for, of a heartbeat only these workers.
    pub fn encode(&self, form: Form, workers: Option<Vec<&Worker>>) -> Bytes {
        let mut out = String::new();
        self.push(&mut out, form, workers);
        out.into()
    }

    /// Appends the event in the form asked for, of a heartbeat only these workers.
    pub fn push(&self, out: &mut String, form: Form, workers: Option<Vec<&Worker>>) {
        let inner = if form == Form::Ndjson { self.id } else { None };
        match &self.content {
            Content::Heartbeat { heartbeat, late } => {
                let mut telemetry =
                    HiveTelemetry { id: inner, ..HiveTelemetry::of(heartbeat, *late) };
                if let Some(workers) = workers {
                    telemetry.workers = workers;
                }
                form.begin(out, self.id, "heartbeat");
                json::push(out, &telemetry);
                form.end(out);
            }
            Content::Lifecycle(event) => {
                let event = Lifecycle { id: inner, ..event.clone() };
                form.push(out, self.id, "lifecycle", &event);
            }
            Content::Summary(summary) => form.push(out, None, "heartbeat", summary),
        }
    }
}

/// The two forms of the stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// Server-sent events.
    Sse,
    /// JSON, one object a line.
    Ndjson,
}

impl Form {
    /// Data in this form; the id and the event's name stand beside it in SSE only.
    pub fn encode(self, id: Option<i64>, event: &str, data: &impl Serialize) -> Bytes {
        let mut out = String::new();
        self.push(&mut out, id, event, data);
        out.into()
    }

    /// Appends data in this form.
    pub fn push(self, out: &mut String, id: Option<i64>, event: &str, data: &impl Serialize) {
        self.begin(out, id, event);
        out.push_str(&serde_json::to_string(data).expect("an event is JSON"));
        self.end(out);
    }

    /// What stands before the data: in SSE lines with the id and the event's name.
    fn begin(self, out: &mut String, id: Option<i64>, event: &str) {
        if self == Self::Ndjson {
            return;
        }
        if let Some(id) = id {
            out.push_str("id: ");
            out.push_str(itoa::Buffer::new().format(id));
            out.push('\n');
        }
        out.push_str("event: ");
        out.push_str(event);
        out.push_str("\ndata: ");
    }

    /// What stands after the data: the end of its line, and in SSE a blank one.
    fn end(self, out: &mut String) {
        out.push_str(if self == Self::Sse { "\n\n" } else { "\n" });
    }
}

/// Events that reach the subscribers together, in their order.
#[derive(Debug)]
pub struct Batch {
    /// All of them.
    pub events: Vec<Arc<Event>>,
    sse: OnceLock<Bytes>,
    ndjson: OnceLock<Bytes>,
}

impl Batch {
    /// All that is not late, in the form asked for.
    pub fn bytes(&self, form: Form) -> Bytes {
        let encoded = match form {
            Form::Sse => &self.sse,
            Form::Ndjson => &self.ndjson,
        };
        encoded.get_or_init(|| self.encode(form)).clone()
    }

    fn encode(&self, form: Form) -> Bytes {
        let wanted =
            |event: &&Arc<Event>| !matches!(event.content, Content::Heartbeat { late: true, .. });
        let mut frames: Vec<Bytes> =
            self.events.iter().filter(wanted).map(|event| event.frame(form)).collect();
        if frames.len() == 1 { frames.remove(0) } else { frames.concat().into() }
    }
}

/// Where the writer publishes and the streams subscribe. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Feed {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    events: broadcast::Sender<Arc<Batch>>,
    /// Its lock is held while an event is published and while a subscriber joins, so that a
    /// snapshot and the stream after it have no hole and no double. Publishing takes well under
    /// a microsecond an event; a std mutex does.
    published: Mutex<State>,
    places: Arc<Semaphore>,
    /// How often a subscriber lost its place.
    lagged: AtomicU64,
}

/// What was published so far.
#[derive(Debug, Default)]
struct State {
    /// The newest heartbeat of each hive.
    newest: HashMap<HiveId, Published>,
    /// The last id; what has a greater one is still to come.
    last_id: i64,
    /// What waits for the next batch.
    pending: Vec<Arc<Event>>,
    /// When the last batch went.
    pulsed: Option<Instant>,
    /// The next one is on its way.
    waiting: bool,
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
    pub events: broadcast::Receiver<Arc<Batch>>,
    /// What has an id up to this is not among them.
    pub last_id: i64,
    _place: OwnedSemaphorePermit,
}

impl Feed {
    /// A feed for at most `max_streams` subscribers.
    #[must_use]
    pub fn new(max_streams: usize) -> Self {
        let (events, _) = broadcast::channel(RING_BATCHES);
        let places = Arc::new(Semaphore::new(max_streams.min(Semaphore::MAX_PERMITS)));
        Self {
            inner: Arc::new(Inner {
                events,
                published: Mutex::default(),
                places,
                lagged: AtomicU64::new(0),
            }),
        }
    }

    fn published(&self) -> MutexGuard<'_, State> {
        self.inner.published.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Shows events to all subscribers, in their order.
    pub fn publish(&self, events: impl IntoIterator<Item = Event>) {
        let mut state = self.published();
        for event in events {
            state.last_id = event.id.unwrap_or(state.last_id);
            if let Content::Heartbeat { heartbeat, late: false } = &event.content {
                let published = Published { id: event.id, heartbeat: Arc::clone(heartbeat) };
                match state.newest.get_mut(&heartbeat.hive.id) {
                    // One that the disk took long for comes after those that were shown meanwhile.
                    Some(entry) if heartbeat.timestamp < entry.heartbeat.timestamp => {}
                    Some(entry) => *entry = published,
                    None => {
                        state.newest.insert(heartbeat.hive.id.clone(), published);
                    }
                }
            }
            // Without subscribers nothing is kept.
            if self.inner.events.receiver_count() > 0 {
                state.pending.push(Arc::new(event));
            }
            if state.pending.len() >= BATCH_EVENTS {
                self.send(&mut state);
            }
        }
        let Some(pulsed) = state.pulsed.filter(|pulsed| pulsed.elapsed() < PULSE) else {
            return self.send(&mut state);
        };
        if !state.pending.is_empty() && !std::mem::replace(&mut state.waiting, true) {
            let feed = self.clone();
            tokio::spawn(async move {
                tokio::time::sleep_until(pulsed + PULSE).await;
                let mut state = feed.published();
                state.waiting = false;
                feed.send(&mut state);
            });
        }
    }

    /// Sends what waits.
    fn send(&self, state: &mut State) {
        if state.pending.is_empty() {
            return;
        }
        state.pulsed = Some(Instant::now());
        let events = std::mem::take(&mut state.pending);
        let batch = Batch { events, sse: OnceLock::new(), ndjson: OnceLock::new() };
        let _ = self.inner.events.send(Arc::new(batch));
    }

    /// How many subscribers there are.
    #[must_use]
    pub fn streams(&self) -> usize {
        self.inner.events.receiver_count()
    }

    /// Goes on after the last id from before the start.
    pub fn start_after(&self, id: i64) {
        self.published().last_id = id;
    }

    /// Takes over what was published before the start.
    pub fn prime(&self, id: i64, heartbeat: Arc<Heartbeat>) {
        let hive = heartbeat.hive.id.clone();
        self.published().newest.insert(hive, Published { id: Some(id), heartbeat });
    }

    /// Joins the feed, with the newest heartbeat of each hive as of now, by id; `None` when
    /// every place is taken.
    #[must_use]
    pub fn subscribe(&self) -> Option<(Subscription, Vec<Published>)> {
        let place = Arc::clone(&self.inner.places).try_acquire_owned().ok()?;
        let mut state = self.published();
        // What was published before is not for the one that comes now.
        self.send(&mut state);
        let events = self.inner.events.subscribe();
        let mut newest: Vec<Published> = state.newest.values().cloned().collect();
        let subscription = Subscription { events, last_id: state.last_id, _place: place };
        drop(state);
        newest.sort_unstable_by_key(|published| published.id);
        Some((subscription, newest))
    }

    /// How often a subscriber lost its place.
    #[must_use]
    pub fn lagged(&self) -> u64 {
        self.inner.lagged.load(Ordering::Relaxed)
    }

    /// Joins anew at the end, having lost its place: what has an id up to the subscription's new
    /// last one is passed over.
    pub fn rejoin(&self, subscription: &mut Subscription) {
        self.inner.lagged.fetch_add(1, Ordering::Relaxed);
        let mut state = self.published();
        self.send(&mut state);
        subscription.events = self.inner.events.subscribe();
        subscription.last_id = state.last_id;
    }
}
