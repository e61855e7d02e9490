//! The one task that writes.
//!
//! It takes all heartbeats that wait, stores them in one transaction, commits, publishes them to the
//! live feed in the order of their ids, and acknowledges them. While a commit is under
//! way the next batch gathers by itself, so there is no artificial delay.

mod queue;
mod statements;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use hive_contract::EventKind;
use hive_contract::event::Lifecycle;
use sqlx::SqliteConnection;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, MissedTickBehavior};

use self::queue::Write;
pub use self::queue::{Ack, Storage, WriteError, Writer};
use self::statements::{LiveRow, Statements};
use super::Reader;
use super::allowance::Allowances;
use super::codec;
use super::dictionary::Dictionary;
use super::events;
use super::ids::Ids;
use super::lifecycle::{Change, Histories};
use super::live::{Known, LiveIndex, Reading as LiveReading};
use super::open::Database;
use super::raw::Handle;
use super::retention::Limits;
use super::seal::MAX_LIVE_SAMPLES;
use super::transaction;
use super::upkeep::Upkeep;
use super::warm::{Reading, WarmError};
use crate::clock::{self, Clock};
use crate::counters::Counters;
use crate::feed::{Event, Feed};

/// Requests in one transaction: enough to spread the cost of a sync, few enough for a prompt ack.
const BATCH_REQUESTS: usize = 512;
/// How long upkeep may read the minutes of an hour.
const UPKEEP_READ_LIMIT: Duration = Duration::from_mins(1);
/// How often it is looked whether something is due to be sealed.
const TICK: Duration = Duration::from_secs(1);
/// A disk that was slow counts as well again with a commit that took less than this.
const PROMPT: Duration = Duration::from_secs(1);
/// Pause after a failed slice, so that a full disk is not asked thousands of times a second.
const PAUSE_AFTER_FAILURE: Duration = Duration::from_millis(20);

/// The writing side, before it runs.
pub struct WriterTask {
    queue: mpsc::UnboundedReceiver<Write>,
    storage: watch::Sender<Storage>,
    // In this order: statements go before their connection.
    upkeep: Upkeep,
    statements: Statements,
    database: Database,
    dictionary: Dictionary,
    allowances: Allowances,
    live: LiveIndex,
    histories: Histories,
    ids: Ids,
    feed: Feed,
    counters: Counters,
    clock: Clock,
    /// Until when heartbeats have the writer, while something is done beside.
    turn_ends: Instant,
}

/// Reads what the writer must know, and gives the newest reading of each hive.
///
/// # Errors
/// The database cannot be read.
pub async fn prepare(
    mut database: Database,
    seal_after: Duration,
    limits: Limits,
    feed: Feed,
    counters: Counters,
    clock: Clock,
) -> Result<(Writer, WriterTask, Vec<Reading>), WarmError> {
    let path = database.path().to_owned();
    let connection = &mut database.writer;
    let seal_after_ms = i64::try_from(seal_after.as_millis()).unwrap_or(i64::MAX);
    let reader = Reader::new(&path, UPKEEP_READ_LIMIT);
    let upkeep = Upkeep::open(seal_after_ms, limits, &path, reader.clone(), connection).await?;
    counters.sealed_through(upkeep.last_block());
    let mut dictionary = Dictionary::load(connection).await?;
    let mut live = LiveIndex::default();
    let mut last_id =
        sqlx::query_file_scalar!("queries/last_id.sql").fetch_one(&mut *connection).await?;
    let newest = sqlx::query_file!("queries/newest_times.sql").fetch_all(&mut *connection).await?;
    for row in &newest {
        live.note_newest(row.hive, row.ts);
    }
    for (hive, reading) in super::warm::live(&reader).await? {
        last_id = last_id.max(reading.id);
        live.insert(hive, reading);
    }
    let hives: Vec<i64> = newest.iter().map(|row| row.hive).collect();
    let readings = super::warm::newest(&reader, &hives).await?;
    let mut histories = Histories::default();
    for Reading { heartbeat, ids, .. } in &readings {
        dictionary.prime(heartbeat, ids.clone());
        if let Some(hive) = dictionary.hive(&heartbeat.hive.id) {
            histories.prime(hive, Arc::clone(heartbeat));
        }
    }
    let statements = Statements::prepare(&mut Handle::new(connection.lock_handle().await?))
        .map_err(sqlx::Error::from)?;
    let ids = Ids::after(last_id, clock);
    feed.start_after(last_id);
    let storage = watch::Sender::new(Storage::Ready);
    let (writer, waiting) = Writer::new(storage.clone(), clock, ids.clone());
    let task = WriterTask {
        queue: waiting,
        storage,
        database,
        dictionary,
        allowances: Allowances::default(),
        live,
        histories,
        upkeep,
        statements,
        ids,
        feed,
        counters,
        clock,
        turn_ends: Instant::now(),
    };
    Ok((writer, task, readings))
}

impl WriterTask {
    /// Writes until every [`Writer`] is gone and the queue is empty, then closes the file.
    pub async fn run(mut self) {
        let mut batch = Vec::with_capacity(BATCH_REQUESTS);
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let received = if self.upkeep.is_busy() {
                let receive = self.queue.recv_many(&mut batch, BATCH_REQUESTS);
                tokio::time::timeout_at(self.turn_ends, receive).await.ok()
            } else {
                tokio::select! {
                    biased;
                    received = self.queue.recv_many(&mut batch, BATCH_REQUESTS) => Some(received),
                    () = self.upkeep.woken() => None,
                    _ = tick.tick() => None,
                }
            };
            match received {
                Some(0) => break,
                Some(_) => self.write(&mut batch).await,
                None => {
                    let now_ms = self.clock.now().millis();
                    self.upkeep.begin(&self.live, now_ms, self.ids.last());
                }
            }
            if self.live.samples() >= MAX_LIVE_SAMPLES {
                let now_ms = self.clock.now().millis();
                self.upkeep.begin(&self.live, now_ms, self.ids.last());
            }
            self.counters.live_samples(self.live.samples());
            self.keep_up().await;
        }
        // Whoever closes the file last writes the log back into it, and a reader cannot. Statements go
        // before their connection.
        self.upkeep.close().await;
        drop(self.statements);
        self.database.close().await;
    }

    async fn write(&mut self, batch: &mut Vec<Write>) {
        let begun = Instant::now();
        match self.store(batch).await {
            Ok(stored) => {
                self.counters.committed(true);
                for &(hive, reading) in &stored.readings {
                    self.live.insert(hive, reading);
                }
                // Their ids are later than those of the heartbeats.
                let is_prompt = begun.elapsed() < PROMPT;
                let recovered = if is_prompt { self.recovered().await } else { Vec::new() };
                // Published before acknowledged: who asks after that sees it.
                self.feed.publish(stored.events.into_iter().chain(recovered));
                for (write, acks) in batch.drain(..).zip(stored.acks) {
                    // The agent may be gone; it will ask again and get a duplicate's answer.
                    let _ = write.reply.send(acks);
                }
            }
            Err(error) => {
                self.counters.committed(false);
                self.give_up().await;
                // The numbers found in this transaction were rolled back with it.
                self.dictionary =
                    Dictionary::load(&mut self.database.writer).await.unwrap_or_default();
                Storage::degrade(&self.storage, self.clock, &error.to_string());
                for write in batch.drain(..) {
                    let _ = write.reply.send(Err(WriteError::Unavailable));
                }
            }
        }
    }

    /// Rolls back what failed, so that nobody waits for its lock.
    async fn give_up(&mut self) {
        if let Err(error) = transaction::abandon(&mut self.database.writer).await {
            tracing::warn!(error = %error, "a transaction could not be rolled back; it is tried again");
        }
    }

    /// Does a slice of what is beside, if it has the turn. Heartbeats then have the writer for
    /// as long as the slice took, unless the live part grows faster than it is sealed.
    async fn keep_up(&mut self) {
        let begun = Instant::now();
        if self.upkeep.is_busy() && begun >= self.turn_ends {
            let now_ms = self.clock.now().millis();
            let result = self
                .upkeep
                .step(&mut self.live, now_ms, &self.ids, &mut self.database.writer)
                .await;
            match result {
                Ok(happened) => self.feed.publish(happened.map(Event::lifecycle)),
                Err(error) => {
                    let cause = std::error::Error::source(&error).map(ToString::to_string);
                    tracing::warn!(
                        error = %error,
                        cause,
                        "sealing, rolling up or retention failed; it is tried again"
                    );
                    self.give_up().await;
                    tokio::time::sleep(PAUSE_AFTER_FAILURE).await;
                }
            }
            self.counters.sealed_through(self.upkeep.last_block());
            self.turn_ends = Instant::now();
            if self.live.samples() < 2 * MAX_LIVE_SAMPLES {
                self.turn_ends += begun.elapsed();
            }
        }
    }

    /// Notes that a commit succeeded, and soon; after a failure both are recorded, and given as events.
    async fn recovered(&mut self) -> Vec<Event> {
        let mut recorded = Vec::new();
        let Storage::Degraded { since_ms, reason } = self.storage.send_replace(Storage::Ready)
        else {
            return recorded;
        };
        tracing::info!("the history is written again");
        let now = self.clock.now();
        for (timestamp, kind) in [
            (clock::moment(since_ms * 1000), EventKind::StorageDegraded),
            (now, EventKind::StorageRecovered),
        ] {
            let event = Lifecycle {
                id: Some(self.ids.next()),
                kind,
                timestamp,
                hive_id: None,
                worker: None,
                detail: serde_json::json!({ "reason": reason }),
            };
            match events::insert(&event, None, &mut self.database.writer).await {
                Ok(()) => recorded.push(Event::lifecycle(event)),
                Err(error) => {
                    let kind = kind.as_str();
                    tracing::warn!(error = %error, kind, "an event could not be recorded");
                }
            }
        }
        recorded
    }

    async fn store(&mut self, batch: &[Write]) -> sqlx::Result<Stored> {
        let now_ms = self.clock.monotonic_ms();
        let refused: Vec<bool> = batch.iter().map(|write| self.refuses(write, now_ms)).collect();
        // By the ids, which only grow: a clock that is set back makes no name look old.
        let names_ms = self.ids.last().max(self.clock.micros()) / 1000;
        let connection = &mut self.database.writer;
        transaction::begin(connection).await?;
        let taken = batch.iter().zip(&refused).filter(|(_, refused)| !**refused);
        let heartbeats = taken.flat_map(|(write, _)| &write.heartbeats);
        let mut found = self.dictionary.find(heartbeats, names_ms, connection).await?;
        let mut stored = Stored::default();
        let mut rows = Vec::new();
        let mut fresh = HashMap::new();
        // Of each hive in this transaction, ms since the epoch.
        let mut newest: HashMap<i64, i64> = HashMap::new();
        let mut histories = self.histories.stage();
        let mut changes: HashMap<i64, usize> = HashMap::new();
        for (write, refused) in batch.iter().zip(refused) {
            if refused {
                stored.acks.push(Err(WriteError::TooMuchNew));
                continue;
            }
            for happening in &write.happenings {
                let event = Lifecycle { id: Some(self.ids.next()), ..happening.clone() };
                let hive = event.hive_id.as_ref().and_then(|hive| self.dictionary.hive(hive));
                events::insert(&event, hive, connection).await?;
                stored.events.push(Event::lifecycle(event));
            }
            let sealed = sealed(write, &self.dictionary, &self.live, connection).await?;
            let mut acks = Vec::with_capacity(write.heartbeats.len());
            for heartbeat in &write.heartbeats {
                let ts = heartbeat.timestamp.millis();
                let hive =
                    self.dictionary.hive(&heartbeat.hive.id).ok_or(sqlx::Error::RowNotFound)?;
                let known = match self.live.find(hive, ts) {
                    Known::Live(id) => Some(id),
                    Known::New => None,
                    Known::MaybeSealed => sealed.get(&ts).copied(),
                };
                if let Some(id) = known.or_else(|| fresh.get(&(hive, ts)).copied()) {
                    acks.push(Ack { id, duplicate: true });
                    continue;
                }
                let id = self.ids.next();
                let (hive, ids) =
                    self.dictionary.resolve(heartbeat, &mut found, connection).await?;
                let observed = histories.observe(hive, heartbeat);
                *changes.entry(hive).or_default() += observed.changes.len();
                let before = newest.get(&hive).copied().or_else(|| self.live.newest_ts(hive));
                let late = before.is_some_and(|before| ts < before);
                newest.insert(hive, before.map_or(ts, |before| before.max(ts)));
                rows.push(LiveRow { id, hive, ts, late, arrays: codec::encode(heartbeat, ids) });
                fresh.insert((hive, ts), id);
                let samples = u16::try_from(heartbeat.workers.len()).unwrap_or(u16::MAX);
                stored.readings.push((hive, LiveReading { ts, id, samples }));
                stored.events.push(Event::durable(id, Arc::clone(heartbeat), late));
                for (ts, Change { kind, worker, detail }) in observed.gone {
                    let (kind, detail) = (kind.as_str(), detail.to_string());
                    sqlx::query_file!("queries/delete_change.sql", hive, ts, kind, worker, detail)
                        .execute(&mut *connection)
                        .await?;
                }
                for (ts, Change { kind, worker, detail }) in observed.changes {
                    let event = Lifecycle {
                        id: Some(self.ids.next()),
                        kind,
                        timestamp: clock::moment(ts * 1000),
                        hive_id: Some(heartbeat.hive.id.clone()),
                        worker,
                        detail,
                    };
                    events::insert(&event, Some(hive), connection).await?;
                    stored.events.push(Event::lifecycle(event));
                }
                acks.push(Ack { id, duplicate: false });
            }
            stored.acks.push(Ok(acks));
        }
        let mut handle = Handle::new(connection.lock_handle().await?);
        self.statements.insert(&rows, &mut handle)?;
        transaction::commit_on(&mut handle)?;
        drop(handle);
        self.histories.commit(histories.finish());
        for (hive, amount) in self.dictionary.finish(found).into_iter().chain(changes) {
            self.allowances.spend(hive, amount, now_ms);
        }
        Ok(stored)
    }

    /// Whether a request brings something new of a hive that has brought too much.
    fn refuses(&self, write: &Write, now_ms: i64) -> bool {
        write.heartbeats.iter().any(|heartbeat| {
            let hive = self.dictionary.hive(&heartbeat.hive.id);
            hive.is_some_and(|hive| self.allowances.is_overdrawn(hive, now_ms))
                && !self.dictionary.knows(heartbeat)
        })
    }
}

/// The sealed readings among which a request's late heartbeats may be: id by time (ms).
async fn sealed(
    write: &Write,
    dictionary: &Dictionary,
    live: &LiveIndex,
    connection: &mut SqliteConnection,
) -> sqlx::Result<HashMap<i64, i64>> {
    // One request holds one hive's heartbeats.
    let Some(first) = write.heartbeats.first() else { return Ok(HashMap::new()) };
    let Some(hive) = dictionary.hive(&first.hive.id) else { return Ok(HashMap::new()) };
    let times = write.heartbeats.iter().map(|heartbeat| heartbeat.timestamp.millis());
    let late = || times.clone().filter(|&ts| live.find(hive, ts) == Known::MaybeSealed);
    let (Some(from), Some(to)) = (late().min(), late().max()) else { return Ok(HashMap::new()) };
    let rows = sqlx::query_file!("queries/sealed_readings.sql", hive, from, to);
    Ok(rows.fetch_all(connection).await?.into_iter().map(|row| (row.ts, row.id)).collect())
}

/// What a transaction stored.
#[derive(Default)]
struct Stored {
    /// One list for each request.
    acks: Vec<Result<Vec<Ack>, WriteError>>,
    /// Each new heartbeat, with its hive.
    readings: Vec<(i64, LiveReading)>,
    events: Vec<Event>,
}
