//! Sealing: live readings become a sorted block with its rollups.
//!
//! It is done in slices of at most [`SLICE_SAMPLES`] worker-samples. A slice is read, sorted and
//! summed beside the writer, which only inserts it between two batches of heartbeats, so that no
//! heartbeat waits long for it. Meanwhile the next one is made ready.
//!
//! Invariant: a block becomes visible whole. Its rows are written under a number that `blocks`
//! does not list yet; the last short transaction lists it and hides the live rows. After a
//! crash an unlisted block is removed and its readings, still live, are sealed anew.

mod slice;
mod statements;

use std::collections::VecDeque;

use sqlx::SqliteConnection;

use self::slice::Slice;
use self::statements::Statements;
use super::beside::{Beside, Task};
use super::cleaning;
use super::live::{LiveIndex, Reading};
use super::raw::Handle;
use super::reader::{ReadError, Reader};
use super::rollup::{Columns, MINUTE_MS, RollupRow};
use super::transaction;

/// Worker-samples in one slice: about 10 ms of work.
const SLICE_SAMPLES: usize = 8192;
/// Worker-samples in the live part above which it is sealed whatever its age.
pub(super) const MAX_LIVE_SAMPLES: usize = 1_000_000;
/// How long a block waits for the last readings of its minute to arrive: 2 s. Readings that
/// come later join the next block.
const GRACE_MS: i64 = 2000;
/// Live rows deleted in one slice.
const DELETED_PER_SLICE: i64 = 1000;

/// Seals what is due, a slice at a time.
#[derive(Debug)]
pub(super) struct Sealer {
    seal_after_ms: i64,
    /// The number of the next block.
    next_block: i64,
    /// The row of its first sample.
    next_row: i64,
    statements: Statements,
    beside: Beside,
    work: Work,
}

#[derive(Debug, Default)]
enum Work {
    #[default]
    Idle,
    Writing(Box<Block>),
    Listing(Box<Block>),
    Deleting(Cut),
    /// Something failed: what was written of the block must go before the next begins.
    Cleaning,
}

/// Which live readings are sealed: those from before a time, up to an id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Cut {
    before_ts: i64,
    through_id: i64,
}

/// Which live readings a slice is made of.
#[derive(Debug, Default)]
struct Cutting {
    ids: Vec<i64>,
    samples: usize,
}

/// A block on its way.
#[derive(Debug)]
struct Block {
    block: i64,
    cut: Cut,
    min_ts: i64,
    max_ts: i64,
    min_id: i64,
    max_id: i64,
    heartbeats: i64,
    samples: i64,
    first_row: i64,
    /// The row after the samples that were written.
    end_row: i64,
    /// Hours before this (ms since the epoch) stand in `rollup_1h` already.
    rolled_ts: i64,
    /// The slices that are still to be read.
    slices: VecDeque<Cutting>,
    /// The slice that comes next.
    reading: Option<Task<Slice>>,
    slice: i64,
    /// Rows of hours that were rolled up already: written with the last transaction.
    late_hours: Vec<RollupRow>,
}

impl Sealer {
    pub(super) async fn open(
        seal_after_ms: i64,
        beside: Beside,
        connection: &mut SqliteConnection,
    ) -> sqlx::Result<Self> {
        let last =
            sqlx::query_file!("queries/last_block.sql").fetch_optional(&mut *connection).await?;
        let (next_block, next_row) = last.map_or((1, 1), |last| (last.block + 1, last.end_row));
        let statements = Statements::prepare(&mut Handle::new(connection.lock_handle().await?))?;
        Ok(Self { seal_after_ms, next_block, next_row, statements, beside, work: Work::Idle })
    }

    /// Whether the next step has something to do, or only waits for the slice that is read beside.
    pub(super) fn is_waiting(&self) -> bool {
        match &self.work {
            Work::Writing(block) => block.reading.as_ref().is_some_and(|r| !r.is_finished()),
            _ => false,
        }
    }

    /// The last block that was sealed; 0: none yet.
    pub(super) fn last_block(&self) -> i64 {
        self.next_block - 1
    }

    /// Whether a block is under way.
    pub(super) fn is_busy(&self) -> bool {
        !matches!(self.work, Work::Idle)
    }

    /// Begins a block if one is due: when the oldest live reading is old enough, or there are
    /// too many. `now_ms` is since the epoch. Hours before `rolled_ts` (the same) stand in
    /// `rollup_1h` already, and no other one may get there while the block is under way.
    pub(super) fn begin(&mut self, live: &LiveIndex, rolled_ts: i64, now_ms: i64, last_id: i64) {
        if self.is_busy() {
            return;
        }
        let Some((oldest_id, oldest_ts)) = live.oldest() else { return };
        // Blocks end with a minute, so that nearly every minute is rolled up in one piece.
        let align = self.seal_after_ms.clamp(1, MINUTE_MS);
        let end = (now_ms - GRACE_MS).div_euclid(align) * align;
        let before_ts = if live.samples() >= MAX_LIVE_SAMPLES {
            i64::MAX
        } else if oldest_id / 1000 <= now_ms - self.seal_after_ms && oldest_ts < end {
            end
        } else {
            return;
        };
        let cut = Cut { before_ts, through_id: last_id };
        let mut block = Block {
            block: self.next_block,
            cut,
            min_ts: i64::MAX,
            max_ts: i64::MIN,
            min_id: i64::MAX,
            max_id: i64::MIN,
            heartbeats: 0,
            samples: 0,
            first_row: self.next_row,
            end_row: self.next_row,
            rolled_ts,
            slices: VecDeque::new(),
            reading: None,
            slice: 0,
            late_hours: Vec::new(),
        };
        // A heartbeat without workers still has its own row.
        let weight = |reading: &Reading| usize::from(reading.samples).max(4);
        let mut room = 0;
        for (_, readings) in live.before(before_ts) {
            // A hive stays in one slice if it can: its rows are then appended in order.
            if room < readings.iter().map(weight).sum() {
                room = 0;
            }
            for reading in readings {
                block.min_ts = block.min_ts.min(reading.ts);
                block.max_ts = block.max_ts.max(reading.ts);
                block.min_id = block.min_id.min(reading.id);
                block.max_id = block.max_id.max(reading.id);
                block.heartbeats += 1;
                block.samples += i64::from(reading.samples);
                if room < weight(reading) {
                    room = SLICE_SAMPLES.max(weight(reading));
                    block.slices.push_back(Cutting::default());
                }
                room -= weight(reading);
                if let Some(slice) = block.slices.back_mut() {
                    slice.ids.push(reading.id);
                    slice.samples += usize::from(reading.samples);
                }
            }
        }
        self.work = Work::Writing(Box::new(block));
    }

    /// Does one slice of what is under way. On an error the block is given up; its readings
    /// stay live and are sealed in a later try.
    pub(super) async fn step(
        &mut self,
        live: &mut LiveIndex,
        connection: &mut SqliteConnection,
    ) -> Result<(), ReadError> {
        let result = self.try_step(live, connection).await;
        if result.is_err() {
            self.work = Work::Cleaning;
        }
        result
    }

    async fn try_step(
        &mut self,
        live: &mut LiveIndex,
        connection: &mut SqliteConnection,
    ) -> Result<(), ReadError> {
        match std::mem::take(&mut self.work) {
            Work::Idle => {}
            Work::Writing(mut block) => {
                let slice = match block.reading.take() {
                    Some(reading) => Some(reading.result().await?),
                    None => None,
                };
                // The next one is read while this one is inserted.
                let next = block.slices.pop_front();
                let rolled_ts = block.rolled_ts;
                block.reading =
                    next.map(|cutting| self.beside.read(move |r| read(r, cutting, rolled_ts)));
                let is_last = block.reading.is_none();
                if let Some(slice) = slice {
                    block
                        .write(slice, &mut self.statements, connection)
                        .await
                        .map_err(ReadError::Database)?;
                }
                if is_last {
                    self.work = Work::Listing(block);
                } else {
                    self.work = Work::Writing(block);
                }
            }
            Work::Listing(mut block) => {
                block.list(&mut self.statements, connection).await.map_err(ReadError::Database)?;
                self.next_block = block.block + 1;
                self.next_row = block.end_row;
                live.remove(block.cut.before_ts, block.cut.through_id);
                tracing::debug!(
                    block.number = block.block,
                    block.heartbeats,
                    block.samples,
                    "a block was sealed"
                );
                self.work = Work::Deleting(block.cut);
            }
            Work::Deleting(cut) => {
                // If this fails the rows stay hidden; the cleaning deletes them.
                let Cut { before_ts, through_id } = cut;
                let deleted = sqlx::query_file!(
                    "queries/delete_sealed.sql",
                    through_id,
                    before_ts,
                    DELETED_PER_SLICE
                )
                .execute(connection)
                .await
                .map_err(ReadError::Database)?
                .rows_affected();
                if deleted > 0 {
                    self.work = Work::Deleting(cut);
                }
            }
            Work::Cleaning => {
                cleaning::clean(connection).await.map_err(ReadError::Database)?;
            }
        }
        Ok(())
    }
}

/// Reads a slice and sums it up.
async fn read(reader: Reader, cutting: Cutting, rolled_ts: i64) -> Result<Slice, ReadError> {
    let mut read = reader.begin().await?;
    let mut handle = Handle::new(read.lock_handle().await.map_err(ReadError::Database)?);
    // SQLite works on this thread: the others take over its tasks meanwhile.
    let Cutting { ids, samples } = cutting;
    let slice = tokio::task::block_in_place(|| Slice::read(&ids, samples, rolled_ts, &mut handle));
    drop(handle);
    let slice = slice.map_err(|error| read.error(error))?;
    read.end().await;
    Ok(slice)
}

impl Block {
    async fn write(
        &mut self,
        slice: Slice,
        statements: &mut Statements,
        connection: &mut SqliteConnection,
    ) -> sqlx::Result<()> {
        let mut handle = Handle::new(connection.lock_handle().await?);
        transaction::begin_on(&mut handle)?;
        let end_row =
            slice.insert(self.block, self.min_ts, self.end_row, statements, &mut handle)?;
        for row in self.rows(slice.minutes) {
            row.insert(&mut statements.rollup_1m, &mut handle)?;
        }
        transaction::commit_on(&mut handle)?;
        self.end_row = end_row;
        let late_hours = self.rows(slice.late_hours);
        self.late_hours.extend(late_hours);
        self.slice += 1;
        Ok(())
    }

    /// The sums of a slice, as rows.
    fn rows(&self, sums: Vec<(u8, i64, Columns)>) -> impl Iterator<Item = RollupRow> + use<> {
        let (block, slice) = (self.block, self.slice);
        sums.into_iter().map(move |(metric, bucket, columns)| RollupRow {
            block,
            metric,
            bucket,
            slice,
            columns,
        })
    }

    /// Makes the block visible and hides its live rows.
    async fn list(
        &mut self,
        statements: &mut Statements,
        connection: &mut SqliteConnection,
    ) -> sqlx::Result<()> {
        transaction::begin(connection).await?;
        if !self.late_hours.is_empty() {
            let mut handle = Handle::new(connection.lock_handle().await?);
            for row in &self.late_hours {
                row.insert(&mut statements.rollup_1h, &mut handle)?;
            }
        }
        let Cut { before_ts, through_id } = self.cut;
        sqlx::query_file!(
            "queries/insert_block.sql",
            self.block,
            self.min_ts,
            self.max_ts,
            self.min_id,
            self.max_id,
            self.heartbeats,
            self.samples,
            self.first_row,
            self.end_row
        )
        .execute(&mut *connection)
        .await?;
        sqlx::query_file!("queries/set_sealed.sql", through_id, before_ts)
            .execute(&mut *connection)
            .await?;
        sqlx::query_file!("queries/set_newest_block.sql", self.block, through_id, before_ts)
            .execute(&mut *connection)
            .await?;
        transaction::commit(connection).await
    }
}
