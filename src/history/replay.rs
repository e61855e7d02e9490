//! What was recorded after an id, in the order in which it was: heartbeats and events.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use hive_contract::event::Lifecycle;
use hive_contract::{Heartbeat, HiveId};
use sqlx::SqliteConnection;
use tokio::task::JoinSet;

use super::reader::{ReadError, Reader};
use super::readings::{ById, HiveFilter, Reading};
use crate::clock;

/// Events read at once.
const CHUNK_EVENTS: i64 = 1024;
/// A reader that takes a chunk sooner than this gets more with the next one, another less: what is
/// ready for one that is slow, or for a thousand at once, is little.
const PROMPT: Duration = Duration::from_millis(100);

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
    /// When the last chunk was given.
    given: Instant,
}

impl Ahead {
    /// Begins to read.
    #[must_use]
    pub fn new(replay: Replay) -> Self {
        let mut ahead = Self { reading: JoinSet::new(), given: Instant::now() };
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
        let is_prompt = self.given.elapsed() < PROMPT;
        let (mut replay, recorded) = match self.reading.join_next().await {
            None => return Ok(Vec::new()),
            Some(Ok(read)) => read,
            Some(Err(error)) => std::panic::resume_unwind(error.into_panic()),
        };
        if recorded.as_ref().is_ok_and(|recorded| !recorded.is_empty()) {
            replay.readings.resize(is_prompt);
            self.read(replay);
        }
        self.given = Instant::now();
        recorded
    }
}

/// Reads forward, a chunk at a time.
pub struct Replay {
    reader: Reader,
    readings: ById,
    /// Inclusive.
    through: i64,
    /// Events up to this id were given.
    told: i64,
}

impl Replay {
    /// What has an id above `after` up to `through`; heartbeats of the hives that the filter
    /// admits.
    #[must_use]
    pub fn new(reader: Reader, after: i64, through: i64, filter: Option<HiveFilter>) -> Self {
        let readings = ById::new(reader.clone(), after, through, filter);
        Self { reader, readings, through, told: after }
    }

    /// What comes next; nothing at the end.
    ///
    /// # Errors
    /// The history cannot be read.
    pub async fn next(&mut self) -> Result<Vec<Recorded>, ReadError> {
        let place = self.told;
        let mut readings = self.readings.next().await?;
        let through = readings.last().map_or(self.through, |last| last.id);
        let mut read = self.reader.begin().await?;
        let mut events =
            self.events(through, &mut read).await.map_err(|error| read.error(error))?;
        // What goes after the readings were read was still among them.
        let missing = self.missing(place, &mut read).await.map_err(|error| read.error(error))?;
        read.end().await;
        let mut recorded = Vec::with_capacity(readings.len() + events.len());
        if let Some(to) = missing {
            recorded.push(Recorded::Gone(Gone { from: place + 1, to }));
            readings.retain(|reading| reading.id > to);
            events.retain(|event| event.id > Some(to));
            self.told = to.max(through);
            self.readings.pass(to);
        }
        for Reading { id, late, heartbeat, .. } in readings {
            while let Some(event) = events.pop_front_if(|event| event.id < Some(id)) {
                recorded.push(Recorded::Lifecycle(event));
            }
            recorded.push(Recorded::Heartbeat { id, heartbeat: Arc::new(heartbeat), late });
        }
        recorded.extend(events.into_iter().map(Recorded::Lifecycle));
        Ok(recorded)
    }

    /// The events up to an id that were not given yet.
    async fn events(
        &mut self,
        through: i64,
        connection: &mut SqliteConnection,
    ) -> sqlx::Result<VecDeque<Lifecycle>> {
        let mut events = VecDeque::new();
        while self.told < through {
            let rows =
                sqlx::query_file!("queries/events_by_id.sql", self.told, through, CHUNK_EVENTS)
                    .fetch_all(&mut *connection)
                    .await?;
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
        Ok(events)
    }

    /// Up to which id something is gone that was recorded after an id, if anything is.
    async fn missing(
        &self,
        after: i64,
        connection: &mut SqliteConnection,
    ) -> sqlx::Result<Option<i64>> {
        let gone = sqlx::query_file_scalar!("queries/missing_through.sql", after);
        let to = gone.fetch_one(connection).await?.min(self.through);
        Ok((to > after).then_some(to))
    }
}
