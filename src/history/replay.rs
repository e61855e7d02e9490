//! What was recorded after an id, in the order in which it was: heartbeats and events.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use hive_contract::event::Lifecycle;
use hive_contract::{Heartbeat, HiveId};
use serde_json::json;
use tokio::task::JoinSet;

use super::reader::{ReadError, Reader};
use super::readings::{ById, HiveFilter, Reading};
use crate::clock;

/// Events read at once.
const CHUNK_EVENTS: i64 = 1024;

/// Something that was recorded.
#[derive(Debug)]
pub enum Recorded {
    /// A heartbeat.
    Heartbeat {
        /// Its id.
        id: i64,
        /// The reading.
        heartbeat: Arc<Heartbeat>,
        /// It was not the newest of its hive when it arrived.
        late: bool,
    },
    /// An event; it has an id.
    Lifecycle(Lifecycle),
    /// What the history has no more.
    Gone(Gone),
}

/// Ids of which the history has not everything any more. Both inclusive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Gone {
    /// The first.
    pub from: i64,
    /// The last.
    pub to: i64,
}

/// A replay that reads the next chunk while the last one is sent. What it reads ends with it.
pub struct Ahead {
    reading: JoinSet<(Replay, Result<Vec<Recorded>, ReadError>)>,
}

impl Ahead {
    /// Begins to read.
    #[must_use]
    pub fn new(replay: Replay) -> Self {
        let mut ahead = Self { reading: JoinSet::new() };
        ahead.read(replay);
        ahead
    }

    fn read(&mut self, mut replay: Replay) {
        self.reading.spawn(async move {
            let recorded = replay.next().await;
            (replay, recorded)
        });
    }

    /// What comes next; nothing at the end, or after an error.
    ///
    /// # Errors
    /// The history cannot be read.
    pub async fn next(&mut self) -> Result<Vec<Recorded>, ReadError> {
        let (replay, recorded) = match self.reading.join_next().await {
            None => return Ok(Vec::new()),
            Some(Ok(read)) => read,
            Some(Err(error)) => std::panic::resume_unwind(error.into_panic()),
        };
        if recorded.as_ref().is_ok_and(|recorded| !recorded.is_empty()) {
            self.read(replay);
        }
        recorded
    }
}

/// Reads forward, a chunk at a time.
pub struct Replay {
    reader: Reader,
    readings: ById,
    /// What is up to this id was there before.
    after: i64,
    /// Inclusive.
    through: i64,
    /// Events up to this id were given.
    told: i64,
    /// The newest time (ms since the epoch) that each hive had; absent: not looked up yet.
    newest: HashMap<HiveId, i64>,
}

impl Replay {
    /// What has an id above `after` up to `through`; heartbeats of the hives that the filter
    /// admits.
    #[must_use]
    pub fn new(reader: Reader, after: i64, through: i64, filter: Option<HiveFilter>) -> Self {
        let readings = ById::new(reader.clone(), after, through, filter);
        Self { reader, readings, after, through, told: after, newest: HashMap::new() }
    }

    /// What comes next; nothing at the end.
    ///
    /// # Errors
    /// The history cannot be read.
    pub async fn next(&mut self) -> Result<Vec<Recorded>, ReadError> {
        let place = self.told;
        let mut readings = self.readings.next().await?;
        let through = readings.last().map_or(self.through, |last| last.id);
        let mut events = self.events(through).await?;
        self.look_up(&readings).await?;
        let mut recorded = Vec::with_capacity(readings.len() + events.len());
        // What goes after the readings were read was still among them.
        if let Some(to) = self.missing(place).await? {
            recorded.push(Recorded::Gone(Gone { from: place + 1, to }));
            readings.retain(|reading| reading.id > to);
            events.retain(|event| event.id > Some(to));
            self.told = to.max(through);
            self.readings.pass(to);
        }
        for Reading { id, heartbeat, .. } in readings {
            while let Some(event) = events.pop_front_if(|event| event.id < Some(id)) {
                recorded.push(Recorded::Lifecycle(event));
            }
            let ts = heartbeat.timestamp.millis();
            let newest = self.newest.entry(heartbeat.hive.id.clone()).or_insert(ts);
            let late = ts < *newest;
            *newest = ts.max(*newest);
            recorded.push(Recorded::Heartbeat { id, heartbeat: Arc::new(heartbeat), late });
        }
        recorded.extend(events.into_iter().map(Recorded::Lifecycle));
        Ok(recorded)
    }

    /// The events up to an id that were not given yet.
    async fn events(&mut self, through: i64) -> Result<VecDeque<Lifecycle>, ReadError> {
        let mut events = VecDeque::new();
        let mut read = self.reader.begin().await?;
        while self.told < through {
            let rows =
                sqlx::query_file!("queries/events_by_id.sql", self.told, through, CHUNK_EVENTS)
                    .fetch_all(&mut *read)
                    .await
                    .map_err(|error| read.error(error))?;
            self.told = match rows.last() {
                Some(last) if rows.len() as i64 == CHUNK_EVENTS => last.event,
                _ => through,
            };
            events.extend(rows.into_iter().filter_map(|row| {
                Some(Lifecycle {
                    id: Some(row.event),
                    // A kind that is not known was written by a newer queen.
                    kind: row.kind.parse().ok()?,
                    timestamp: clock::moment(row.ts * 1000),
                    hive_id: row.hive.and_then(|id| HiveId::new(id).ok()),
                    worker: row.worker,
                    detail: serde_json::from_str(&row.detail).ok()?,
                })
            }));
        }
        read.end().await;
        Ok(events)
    }

    /// Notes of hives that come for the first time whether they had a newer reading before.
    async fn look_up(&mut self, readings: &[Reading]) -> Result<(), ReadError> {
        let mut first: HashMap<&HiveId, i64> = HashMap::new();
        for Reading { heartbeat, .. } in readings {
            if !self.newest.contains_key(&heartbeat.hive.id) {
                first.entry(&heartbeat.hive.id).or_insert(heartbeat.timestamp.millis());
            }
        }
        if first.is_empty() {
            return Ok(());
        }
        let first: Vec<(HiveId, i64)> =
            first.into_iter().map(|(id, ts)| (id.clone(), ts)).collect();
        let asked = json!(first).to_string();
        let mut read = self.reader.begin().await?;
        let newer = sqlx::query_file!("queries/newer_before.sql", asked, self.after)
            .fetch_all(&mut *read)
            .await
            .map_err(|error| read.error(error))?;
        read.end().await;
        for row in newer {
            let hive = usize::try_from(row.place).ok().and_then(|place| first.get(place));
            if let (Some((hive, _)), Some(ts)) = (hive, row.ts) {
                self.newest.insert(hive.clone(), ts);
            }
        }
        Ok(())
    }

    /// Up to which id something is gone that was recorded after an id, if anything is.
    async fn missing(&self, after: i64) -> Result<Option<i64>, ReadError> {
        let mut read = self.reader.begin().await?;
        let gone = sqlx::query_file_scalar!("queries/missing_through.sql", after)
            .fetch_one(&mut *read)
            .await
            .map_err(|error| read.error(error))?;
        read.end().await;
        let to = gone.min(self.through);
        Ok((to > after).then_some(to))
    }
}
