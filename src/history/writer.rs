//! The one task that writes.
//!
//! It takes all heartbeats that wait, stores them in one transaction, commits, acknowledges
//! them, and publishes them to the live feed in the order of their ids. While a commit is under
//! way the next batch gathers by itself, so there is no artificial delay.
//!
//! Invariant: ids only grow, also across restarts: microseconds since the epoch, and at least
//! one more than the last.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use hive_contract::Heartbeat;
use sqlx::{Connection, QueryBuilder, Sqlite, SqliteConnection};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot, watch};

use super::codec;
use super::dictionary::Dictionary;
use super::live::LiveIndex;
use super::open::Database;
use super::warm::{Reading, WarmError};
use crate::clock::Clock;
use crate::feed::{Event, Feed};

/// Bytes of heartbeats, as they came in, that may wait for the disk: 32 MiB. At the highest
/// rate measured this is about a quarter of a second. Beyond it new ones are refused.
const QUEUE_BYTES: usize = 32 << 20;
/// Requests in one transaction: enough to spread the cost of a sync, few enough for a prompt ack.
const BATCH_REQUESTS: usize = 512;
/// Rows in one INSERT.
const ROWS_PER_STATEMENT: usize = 100;

/// What became of a heartbeat that is on disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ack {
    /// Its id in the history.
    pub id: i64,
    /// It was there before.
    pub duplicate: bool,
}

/// Why a heartbeat was not stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum WriteError {
    /// Too much waits already. Nothing of the request was stored.
    #[error("too many heartbeats wait for the disk; try again shortly")]
    QueueFull,
    /// The disk refuses. Nothing of the request was stored.
    #[error("the history cannot be written at the moment; keep the heartbeat and try again")]
    Unavailable,
}

/// Whether the history can be written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Storage {
    /// The last commit succeeded.
    Ready,
    /// The last commit failed.
    Degraded {
        /// What SQLite said.
        reason: String,
    },
}

/// A heartbeat on its way to the disk.
#[derive(Debug, Clone)]
pub struct Incoming {
    /// The reading.
    pub heartbeat: Arc<Heartbeat>,
    /// It was not the newest of its hive when it arrived.
    pub late: bool,
}

struct Write {
    heartbeats: Vec<Incoming>,
    reply: oneshot::Sender<Result<Vec<Ack>, WriteError>>,
    /// Room in the queue, given back when the request is answered.
    _room: OwnedSemaphorePermit,
}

/// The way to the writer. Cheap to clone; the writer ends when the last one is gone.
#[derive(Debug, Clone)]
pub struct Writer {
    queue: mpsc::UnboundedSender<Write>,
    room: Arc<Semaphore>,
    storage: watch::Receiver<Storage>,
    last_id: Arc<AtomicI64>,
}

impl std::fmt::Debug for Write {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Write").field("heartbeats", &self.heartbeats.len()).finish_non_exhaustive()
    }
}

impl Writer {
    /// Stores heartbeats, all or none, and returns when they are on disk. `bytes` is their size
    /// as they came in.
    ///
    /// # Errors
    /// The queue is full or the disk refuses; nothing was stored.
    pub async fn write(
        &self,
        heartbeats: Vec<Incoming>,
        bytes: usize,
    ) -> Result<Vec<Ack>, WriteError> {
        let permits = u32::try_from(bytes.clamp(1, QUEUE_BYTES)).unwrap_or(u32::MAX);
        let room = Arc::clone(&self.room)
            .try_acquire_many_owned(permits)
            .map_err(|_| WriteError::QueueFull)?;
        let (reply, answer) = oneshot::channel();
        self.queue
            .send(Write { heartbeats, reply, _room: room })
            .map_err(|_| WriteError::Unavailable)?;
        answer.await.unwrap_or(Err(WriteError::Unavailable))
    }

    /// Whether the history can be written.
    #[must_use]
    pub fn storage(&self) -> Storage {
        self.storage.borrow().clone()
    }

    /// The last id given out.
    #[must_use]
    pub fn last_id(&self) -> i64 {
        self.last_id.load(Ordering::Relaxed)
    }
}

/// The writing side, before it runs.
pub struct WriterTask {
    queue: mpsc::UnboundedReceiver<Write>,
    storage: watch::Sender<Storage>,
    database: Database,
    dictionary: Dictionary,
    live: LiveIndex,
    ids: Arc<AtomicI64>,
    feed: Feed,
    clock: Clock,
}

/// Reads what the writer must know, and gives the newest reading of each hive.
///
/// # Errors
/// The database cannot be read.
pub async fn prepare(
    mut database: Database,
    feed: Feed,
    clock: Clock,
) -> Result<(Writer, WriterTask, Vec<Reading>), WarmError> {
    let connection = &mut database.writer;
    let mut dictionary = Dictionary::load(connection).await?;
    let mut live = LiveIndex::default();
    let mut last_id = 0;
    for row in sqlx::query_file!("queries/live_readings.sql").fetch_all(&mut *connection).await? {
        live.insert(row.hive, row.ts, row.id);
        last_id = last_id.max(row.id);
    }
    let readings = super::warm::newest(connection, &mut dictionary).await?;
    let ids = Arc::new(AtomicI64::new(last_id));
    let (queue, waiting) = mpsc::unbounded_channel();
    let (storage, storage_now) = watch::channel(Storage::Ready);
    let writer = Writer {
        queue,
        room: Arc::new(Semaphore::new(QUEUE_BYTES)),
        storage: storage_now,
        last_id: Arc::clone(&ids),
    };
    let task = WriterTask { queue: waiting, storage, database, dictionary, live, ids, feed, clock };
    Ok((writer, task, readings))
}

impl WriterTask {
    /// Writes until every [`Writer`] is gone and the queue is empty, then closes the file.
    pub async fn run(mut self) {
        let mut batch = Vec::with_capacity(BATCH_REQUESTS);
        while self.queue.recv_many(&mut batch, BATCH_REQUESTS).await > 0 {
            let stored = self.store(&batch).await;
            match stored {
                Ok(stored) => {
                    self.remember(&stored);
                    self.report(Storage::Ready);
                    // Acknowledged before published: an agent waits for it, a reader does not.
                    for (write, acks) in batch.drain(..).zip(stored.acks) {
                        // The agent may be gone; it will ask again and get a duplicate's answer.
                        let _ = write.reply.send(Ok(acks));
                    }
                    self.feed.publish(stored.events);
                }
                Err(error) => {
                    // The numbers found in this transaction were rolled back with it.
                    self.forget().await;
                    self.report(Storage::Degraded { reason: error.to_string() });
                    for write in batch.drain(..) {
                        let _ = write.reply.send(Err(WriteError::Unavailable));
                    }
                }
            }
        }
        self.database.close().await;
    }

    fn report(&self, storage: Storage) {
        self.storage.send_if_modified(|now| {
            let changed = *now != storage;
            if changed {
                match &storage {
                    Storage::Ready => tracing::info!("the history is written again"),
                    Storage::Degraded { reason } => {
                        tracing::error!(reason = %reason, "the history cannot be written; \
                             agents keep their heartbeats, the live view goes on");
                    }
                }
                *now = storage;
            }
            changed
        });
    }

    fn remember(&mut self, stored: &Stored) {
        for &(hive, ts, id) in &stored.readings {
            self.live.insert(hive, ts, id);
        }
    }

    async fn forget(&mut self) {
        self.dictionary = Dictionary::load(&mut self.database.writer).await.unwrap_or_default();
    }

    async fn store(&mut self, batch: &[Write]) -> sqlx::Result<Stored> {
        let incoming = batch.iter().flat_map(|write| &write.heartbeats);
        let mut transaction = self.database.writer.begin_with("BEGIN IMMEDIATE").await?;
        let heartbeats = incoming.map(|incoming| &incoming.heartbeat);
        let mut found = self.dictionary.find(heartbeats, &mut transaction).await?;
        let mut stored = Stored::default();
        let mut rows = Vec::new();
        let mut fresh = HashMap::new();
        for write in batch {
            let mut acks = Vec::with_capacity(write.heartbeats.len());
            for Incoming { heartbeat, late } in &write.heartbeats {
                let ts = heartbeat.timestamp.millis();
                let known = self.dictionary.hive(&heartbeat.hive.id).and_then(|hive| {
                    self.live.find(hive, ts).or_else(|| fresh.get(&(hive, ts)).copied())
                });
                if let Some(id) = known {
                    acks.push(Ack { id, duplicate: true });
                    continue;
                }
                let id = self.clock.micros().max(self.ids.load(Ordering::Relaxed) + 1);
                self.ids.store(id, Ordering::Relaxed);
                let (hive, ids) =
                    self.dictionary.resolve(heartbeat, &mut found, &mut transaction).await?;
                rows.push(LiveRow { id, hive, ts, arrays: codec::encode(heartbeat, ids) });
                fresh.insert((hive, ts), id);
                stored.readings.push((hive, ts, id));
                stored.events.push(Event::durable(id, Arc::clone(heartbeat), *late));
                acks.push(Ack { id, duplicate: false });
            }
            stored.acks.push(acks);
        }
        insert_rows(rows, &mut transaction).await?;
        upsert_newest(&stored.readings, &mut transaction).await?;
        transaction.commit().await?;
        Ok(stored)
    }
}

/// What a transaction stored.
#[derive(Default)]
struct Stored {
    /// One list for each request.
    acks: Vec<Vec<Ack>>,
    /// Hive, time and id of each new heartbeat.
    readings: Vec<(i64, i64, i64)>,
    events: Vec<Event>,
}

struct LiveRow {
    id: i64,
    hive: i64,
    ts: i64,
    arrays: codec::Arrays,
}

async fn insert_rows(rows: Vec<LiveRow>, connection: &mut SqliteConnection) -> sqlx::Result<()> {
    let mut rows = rows.into_iter().peekable();
    while rows.peek().is_some() {
        let chunk = rows.by_ref().take(ROWS_PER_STATEMENT);
        let mut statement = QueryBuilder::<Sqlite>::new(
            "INSERT INTO heartbeats_live (id, hive, ts, samples, gpus, node) ",
        );
        statement.push_values(chunk, |mut values, row| {
            values.push_bind(row.id).push_bind(row.hive).push_bind(row.ts);
            values.push_bind(row.arrays.samples);
            values.push_bind(row.arrays.gpus);
            values.push_bind(row.arrays.node);
        });
        statement.build().execute(&mut *connection).await?;
    }
    Ok(())
}

/// Moves each hive's newest reading forward, never back.
async fn upsert_newest(
    readings: &[(i64, i64, i64)],
    connection: &mut SqliteConnection,
) -> sqlx::Result<()> {
    let mut newest: HashMap<i64, (i64, i64)> = HashMap::with_capacity(readings.len());
    for &(hive, ts, id) in readings {
        let entry = newest.entry(hive).or_insert((ts, id));
        if ts > entry.0 {
            *entry = (ts, id);
        }
    }
    let newest: Vec<_> = newest.into_iter().collect();
    for chunk in newest.chunks(ROWS_PER_STATEMENT) {
        let mut statement = QueryBuilder::<Sqlite>::new("INSERT INTO hive_newest (hive, ts, id) ");
        statement.push_values(chunk, |mut values, &(hive, (ts, id))| {
            values.push_bind(hive).push_bind(ts).push_bind(id);
        });
        statement.push(
            " ON CONFLICT (hive) DO UPDATE SET ts = excluded.ts, id = excluded.id \
             WHERE excluded.ts > hive_newest.ts",
        );
        statement.build().execute(&mut *connection).await?;
    }
    Ok(())
}
