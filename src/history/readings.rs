//! The one way to get whole heartbeats back out of the file, live and sealed alike, as they
//! came in: for the export, for the start, and for the replay of the feed.
//!
//! [`ByTime`] and [`ById`] give the readings of a range in chunks, each from one consistent
//! read. Where a chunk goes on is a reading's own place in the order, (time, hive) or id, never
//! a row or a block: what is sealed between two chunks is neither missed nor given twice.
//!
//! Invariant: what is given is what came in, except that of a sealed reading the workers are
//! sorted by group and instance and the GPUs by index; the live ones are in the order of arrival.
//!
//! Invariant: a chunk holds at most [`CHUNK_READINGS`] readings and [`CHUNK_WORKERS`] workers, by id
//! [`MAX_READINGS`] and eight workers each, or one reading, whatever the range.

mod content;
mod names;
mod sealed;

use std::collections::VecDeque;

use hive_contract::Heartbeat;
use sqlx::SqliteConnection;

pub(super) use self::content::read;
pub(super) use self::names::Names;
use super::codec::RowIds;
use super::raw::{Handle, Row, Statement};
use super::reader::{Read, ReadError, Reader};

/// The most readings in one chunk.
pub const CHUNK_READINGS: i64 = 1024;
/// Readings in the first chunk by id, which somebody waits for, and in the least one.
const FIRST_READINGS: usize = 64;
/// The most readings in a chunk by id.
pub const MAX_READINGS: usize = 2048;
/// Of each reading in a chunk by id so many workers, on average, at most.
const WORKERS_PER_READING: usize = 8;
/// So many chunks by id are found together.
const CHUNKS_FOUND: usize = 4;
/// The most workers in one chunk: a few MiB.
pub const CHUNK_WORKERS: i64 = 8192;
/// The first stretch of time (ms) that is looked at; it then follows what is found.
const FIRST_WINDOW_MS: i64 = 10_000;
/// The first stretch of ids (µs) that is looked at.
const FIRST_WINDOW_US: i64 = 60_000_000;

/// A whole heartbeat with its id.
#[derive(Debug, Clone, PartialEq)]
pub struct Reading {
    /// Its id: the moment of its receipt in µs.
    pub id: i64,
    /// Its hive had a newer one already when it came. Told by [`ById`] only.
    pub late: bool,
    /// What came in.
    pub heartbeat: Heartbeat,
    /// The row numbers of its names.
    pub(super) ids: RowIds,
}

/// Where a reading is.
#[derive(Debug)]
pub(super) struct Entry {
    /// `None` while it is live.
    pub(super) block: Option<i64>,
    pub(super) hive: i64,
    pub(super) hive_id: String,
    /// ms since the epoch.
    pub(super) ts: i64,
    pub(super) id: i64,
    /// Number of them.
    pub(super) workers: i64,
    /// As [`Reading::late`].
    pub(super) late: bool,
}

/// A place in the order of time and hive: what is up to it was given.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// ms since the epoch.
    pub ts: i64,
    /// The hive's id; an empty one stands before all hives.
    pub hive: String,
}

impl Place {
    /// Before every reading of a moment (ms since the epoch).
    #[must_use]
    pub fn before(ts: i64) -> Self {
        Self { ts, hive: String::new() }
    }
}

/// The most recent id: what is received later has a larger one.
///
/// # Errors
/// The history cannot be read.
pub async fn last_id(read: &mut Read) -> Result<i64, ReadError> {
    let last = sqlx::query_file_scalar!("queries/last_id.sql").fetch_one(&mut **read).await;
    last.map_err(|error| read.error(error))
}

/// Which hives: a JSON array of their numbers, `None` for all.
async fn hives(
    admits: &(dyn Fn(&str) -> bool + Send + Sync),
    connection: &mut SqliteConnection,
) -> sqlx::Result<String> {
    let hives = sqlx::query_file!("queries/hives.sql").fetch_all(connection).await?;
    let admitted = hives.into_iter().filter(|row| admits(&row.id)).map(|row| row.hive);
    Ok(serde_json::Value::from_iter(admitted).to_string())
}

/// Takes as many entries as one chunk may hold.
fn cut(mut entries: Vec<Entry>) -> Vec<Entry> {
    let mut workers = 0;
    let fits = entries.iter().take_while(|entry| {
        workers += entry.workers;
        workers <= CHUNK_WORKERS
    });
    let fits = fits.count().max(1);
    entries.truncate(fits);
    entries
}

/// A filter of hives by their id.
pub type HiveFilter = Box<dyn Fn(&str) -> bool + Send + Sync>;

/// The readings of a range of time, by time and then by hive.
pub struct ByTime {
    reader: Reader,
    after: Place,
    /// ms since the epoch, exclusive.
    end: i64,
    /// Only readings that had been received by then.
    through_id: i64,
    filter: Option<HiveFilter>,
    window_ms: i64,
    names: Names,
}

impl ByTime {
    /// Readings after a place and before a time (ms since the epoch), of those that have an id
    /// up to `through_id`.
    #[must_use]
    pub fn new(
        reader: Reader,
        after: Place,
        end: i64,
        through_id: i64,
        filter: Option<HiveFilter>,
    ) -> Self {
        let (window_ms, names) = (FIRST_WINDOW_MS, Names::default());
        Self { reader, after, end, through_id, filter, window_ms, names }
    }

    /// The place up to which readings were given.
    #[must_use]
    pub fn place(&self) -> &Place {
        &self.after
    }

    /// The next readings; none at the end.
    ///
    /// # Errors
    /// The history cannot be read.
    pub async fn next(&mut self) -> Result<Vec<Reading>, ReadError> {
        loop {
            let mut read = self.reader.begin().await?;
            let entries = self.entries(CHUNK_READINGS, &mut read).await;
            let entries = entries.map(cut).map_err(|error| read.error(error))?;
            let Some(last) = entries.last() else { return Ok(Vec::new()) };
            let after = Place { ts: last.ts, hive: last.hive_id.clone() };
            let readings = content::read(&entries, &mut self.names, &mut read).await;
            let readings = readings.map_err(|error| read.error(error))?;
            self.after = after;
            read.end().await;
            // Only damaged ones: go on.
            if !readings.is_empty() {
                return Ok(readings);
            }
        }
    }

    /// Passes over the next readings, at most `limit`, without reading what they say; gives
    /// their number, which is less than asked for at the end only.
    ///
    /// # Errors
    /// The history cannot be read.
    pub async fn skip(&mut self, limit: u64) -> Result<u64, ReadError> {
        let mut skipped = 0;
        while skipped < limit {
            let most = i64::try_from(limit - skipped).unwrap_or(i64::MAX).min(CHUNK_READINGS);
            let mut read = self.reader.begin().await?;
            let entries = self.entries(most, &mut read).await;
            let entries = entries.map_err(|error| read.error(error))?;
            read.end().await;
            let Some(last) = entries.last() else { break };
            self.after = Place { ts: last.ts, hive: last.hive_id.clone() };
            skipped += entries.len() as u64;
        }
        Ok(skipped)
    }

    /// Where the next readings are, at most `limit`; none at the end. The window is as long as
    /// it takes to find about that many, so that neither a large fleet nor a long silence costs
    /// more than it must.
    async fn entries(
        &mut self,
        limit: i64,
        connection: &mut SqliteConnection,
    ) -> sqlx::Result<Vec<Entry>> {
        let hives = match &self.filter {
            Some(filter) => Some(hives(filter, connection).await?),
            None => None,
        };
        while self.after.ts < self.end {
            let from = self.after.ts;
            let until = from.saturating_add(self.window_ms).min(self.end);
            let entries = sqlx::query_file_as!(
                Entry,
                "queries/readings_by_time.sql",
                from,
                self.after.hive,
                until,
                hives,
                self.through_id,
                limit
            )
            .fetch_all(&mut *connection)
            .await?;
            let found = entries.len() as i64;
            if found == limit {
                let covered = entries.last().map_or(0, |last| last.ts - from);
                self.window_ms = covered.saturating_mul(2).max(1);
                return Ok(entries);
            }
            if found * 2 < limit {
                self.window_ms = self.window_ms.saturating_mul(2);
            }
            if found > 0 {
                return Ok(entries);
            }
            self.after = Place::before(until);
        }
        Ok(Vec::new())
    }
}

/// The readings of a range of ids, in the order in which they were received.
pub struct ById {
    reader: Reader,
    after: i64,
    /// Inclusive.
    through: i64,
    filter: Option<HiveFilter>,
    window_us: i64,
    /// Readings in the next chunk.
    chunk: usize,
    /// Where the next readings are, as long as `block` is the last one and none is gone.
    found: VecDeque<Entry>,
    block: Option<i64>,
    names: Names,
}

impl ById {
    /// Readings with an id above `after` up to `through`.
    #[must_use]
    pub fn new(reader: Reader, after: i64, through: i64, filter: Option<HiveFilter>) -> Self {
        Self {
            reader,
            after,
            through,
            filter,
            window_us: FIRST_WINDOW_US,
            chunk: FIRST_READINGS,
            found: VecDeque::new(),
            block: None,
            names: Names::default(),
        }
    }

    /// The id up to which readings were given.
    #[must_use]
    pub fn after(&self) -> i64 {
        self.after
    }

    /// Passes over what has an id up to this.
    pub fn pass(&mut self, id: i64) {
        self.after = self.after.max(id);
        self.found.clear();
    }

    /// Makes the next chunk larger, or smaller.
    pub fn resize(&mut self, larger: bool) {
        let chunk = if larger { self.chunk * 2 } else { self.chunk / 2 };
        self.chunk = chunk.clamp(FIRST_READINGS, MAX_READINGS);
    }

    /// The next readings; none when there is none up to `through` yet.
    ///
    /// # Errors
    /// The history cannot be read.
    pub async fn next(&mut self) -> Result<Vec<Reading>, ReadError> {
        loop {
            let mut read = self.reader.begin().await?;
            self.find(&mut read).await.map_err(|error| read.error(error))?;
            let entries = self.take();
            let Some(after) = entries.last().map(|last| last.id) else { return Ok(Vec::new()) };
            let readings = content::read(&entries, &mut self.names, &mut read).await;
            let readings = readings.map_err(|error| read.error(error))?;
            self.after = after;
            read.end().await;
            if !readings.is_empty() {
                return Ok(readings);
            }
        }
    }

    /// Takes of what was found as much as one chunk may hold.
    fn take(&mut self) -> Vec<Entry> {
        let mut room = self.chunk * WORKERS_PER_READING;
        let fits = self.found.iter().take(self.chunk).take_while(|entry| {
            let workers = usize::try_from(entry.workers).unwrap_or(0);
            let fits = workers <= room;
            room = room.saturating_sub(workers);
            fits
        });
        let fits = fits.count().max(1).min(self.found.len());
        self.found.drain(..fits).collect()
    }

    /// Finds where the next readings are, those of several chunks: to do so takes a look at all of
    /// their blocks.
    async fn find(&mut self, connection: &mut SqliteConnection) -> sqlx::Result<()> {
        let last = sqlx::query_file!("queries/last_block.sql").fetch_optional(&mut *connection);
        let block = last.await?.map(|last| last.block);
        let gone = sqlx::query_file_scalar!("queries/missing_through.sql", self.after);
        let is_whole = gone.fetch_one(&mut *connection).await? <= self.after;
        if is_whole && self.block == block && !self.found.is_empty() {
            return Ok(());
        }
        self.block = block;
        self.found.clear();
        let hives = match &self.filter {
            Some(filter) => Some(hives(filter, connection).await?),
            None => None,
        };
        // What is received later than this read began is not seen by it.
        let last =
            sqlx::query_file_scalar!("queries/last_id.sql").fetch_one(&mut *connection).await?;
        let (through, most) = (self.through.min(last), CHUNKS_FOUND * self.chunk);
        let mut handle = Handle::new(connection.lock_handle().await?);
        // SQLite works on this thread: the others take over its tasks meanwhile.
        tokio::task::block_in_place(|| {
            let sql = include_str!("../../queries/readings_by_id.sql");
            let mut statement = Statement::prepare(sql, &mut handle)?;
            let mut from = self.after;
            while from < through && self.found.is_empty() {
                let until = from.saturating_add(self.window_us).min(through);
                statement.each(
                    &mut handle,
                    |values| {
                        values.integer(from).integer(until);
                        match &hives {
                            Some(hives) => values.text(hives),
                            None => values.null(),
                        };
                        values.integer(most as i64);
                    },
                    |row| self.found.extend(entry(row)),
                )?;
                match self.found.back() {
                    Some(last) if self.found.len() == most => {
                        self.window_us = (last.id - from).saturating_mul(2).max(1);
                    }
                    _ if self.found.len() * 2 < most => {
                        self.window_us = self.window_us.saturating_mul(2);
                    }
                    _ => {}
                }
                from = until;
            }
            Ok(())
        })
    }
}

/// A row of `readings_by_id.sql`.
fn entry(row: &Row<'_>) -> Option<Entry> {
    Some(Entry {
        block: row.optional(0),
        hive: row.integer(1),
        hive_id: std::str::from_utf8(row.text(2)).ok()?.to_owned(),
        ts: row.integer(3),
        id: row.integer(4),
        workers: row.integer(5),
        late: row.integer(6) != 0,
    })
}
