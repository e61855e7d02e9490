//! Retention: what is too old, or too much for the disk, goes, oldest first.
//!
//! It is done by the writer, in slices, one between two batches of heartbeats. Whole blocks go:
//! first one is marked, so that no reader looks into it, then its rows are deleted. Freed pages
//! are used again; when many are free they are given back to the disk.
//!
//! Invariant: acknowledged readings go only by age or for want of disk; the latter is an event.

use std::path::{Path, PathBuf};
use std::time::Duration;

use hive_contract::EventKind;
use hive_contract::event::Lifecycle;
use sqlx::SqliteConnection;

use super::dictionary::Day;
use super::events;
use super::ids::Ids;
use super::live::LiveIndex;
use super::wal;
use crate::clock;

/// Rows deleted in one slice: a few milliseconds.
const ROWS_PER_SLICE: i64 = 4000;
/// Names deleted in one slice: their rows and indexes are scattered.
const NAMES_PER_SLICE: i64 = 1000;
/// How much longer than all else names are kept: a block is as old as its newest reading, and a name
/// may have been seen a little before that.
const NAMES_GRACE_MS: i64 = 86_400_000;
/// Free pages that are kept for what comes next: 64 MiB. Of a small budget less.
const SPARE_PAGES: i64 = 16_384;
/// How often it is looked whether something must go.
const LOOK_EVERY_MS: i64 = 10_000;

/// How long and how much is kept.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Single readings.
    pub raw: Duration,
    /// Sums by minute.
    pub minutes: Duration,
    /// Sums by hour, and events.
    pub hours: Duration,
    /// Bytes that the database may take.
    pub disk_budget: u64,
    /// Bytes of the disk that stay free.
    pub min_free_disk: u64,
}

/// Deletes what must go, a slice at a time.
#[derive(Debug)]
pub(super) struct Retention {
    limits: Limits,
    database: PathBuf,
    directory: PathBuf,
    looked_ms: i64,
    work: Work,
    /// What is to be told.
    told: Option<Lifecycle>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Work {
    Idle,
    /// Something may have to go: it is looked what.
    Looking,
    /// The readings of a block go.
    Raw {
        block: i64,
        table: RawTable,
    },
    /// The minutes of a block go, and the block with them.
    Minutes {
        block: i64,
    },
    /// Pages go back to the disk.
    GivingBack,
}

/// The tables of single readings, in the order in which they are emptied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum RawTable {
    Samples,
    SampleIndex,
    Gpus,
    Heartbeats,
}

/// Why readings went before they were old.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Want {
    Budget,
    FreeDisk,
}

impl Want {
    fn reason(self) -> &'static str {
        match self {
            Self::Budget => "disk_budget",
            Self::FreeDisk => "min_free_disk",
        }
    }
}

impl Retention {
    pub(super) fn new(limits: Limits, path: &Path) -> Self {
        // A name without a directory is in the one we are in.
        let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty());
        let directory = directory.unwrap_or(Path::new(".")).to_owned();
        Self {
            limits,
            database: path.into(),
            directory,
            looked_ms: i64::MIN / 2,
            work: Work::Idle,
            told: None,
        }
    }

    pub(super) fn is_busy(&self) -> bool {
        self.work != Work::Idle
    }

    /// Has a look now and then. `now_ms` is since the epoch.
    pub(super) fn begin(&mut self, now_ms: i64) {
        if self.work == Work::Idle && (now_ms - self.looked_ms).abs() >= LOOK_EVERY_MS {
            self.looked_ms = now_ms;
            self.work = Work::Looking;
        }
    }

    /// Does one slice of what is under way, and gives what is to be told of it. On an error it is
    /// begun anew later.
    pub(super) async fn step(
        &mut self,
        live: &LiveIndex,
        now_ms: i64,
        ids: &Ids,
        connection: &mut SqliteConnection,
    ) -> sqlx::Result<Option<Lifecycle>> {
        let work = std::mem::replace(&mut self.work, Work::Idle);
        self.work = match work {
            Work::Idle => Work::Idle,
            Work::Looking => self.look(live, now_ms, ids, connection).await?,
            Work::Raw { block, table } => delete_raw(block, table, connection).await?,
            Work::Minutes { block } => delete_minutes(block, connection).await?,
            Work::GivingBack => self.give_back(connection).await?,
        };
        Ok(self.told.take())
    }

    async fn look(
        &mut self,
        live: &LiveIndex,
        now_ms: i64,
        ids: &Ids,
        connection: &mut SqliteConnection,
    ) -> sqlx::Result<Work> {
        let before =
            |age: Duration| now_ms - i64::try_from(age.as_millis()).unwrap_or(i64::MAX / 2);
        // What an earlier pass marked and did not finish.
        if let Some(block) = sqlx::query_file_scalar!("queries/half_deleted_block.sql")
            .fetch_optional(&mut *connection)
            .await?
        {
            return Ok(Work::Raw { block, table: RawTable::Samples });
        }
        if let Some(oldest) = sqlx::query_file!("queries/oldest_raw_block.sql")
            .fetch_optional(&mut *connection)
            .await?
        {
            let want = self.want(connection).await?;
            if oldest.max_ts < before(self.limits.raw) || want.is_some() {
                sqlx::query_file!("queries/mark_raw_block.sql", oldest.block)
                    .execute(&mut *connection)
                    .await?;
                if let Some(want) = want {
                    let event = dropped(want, ids.next(), oldest.min_ts, oldest.max_ts);
                    events::insert(&event, None, connection).await?;
                    self.told = Some(event);
                }
                return Ok(Work::Raw { block: oldest.block, table: RawTable::Samples });
            }
        }
        let minutes = before(self.limits.minutes);
        if let Some(oldest) = sqlx::query_file!("queries/oldest_minutes_block.sql", minutes)
            .fetch_optional(&mut *connection)
            .await?
        {
            // From now on readers take its hours.
            sqlx::query_file!("queries/set_minutes.sql", oldest.max_ts)
                .execute(&mut *connection)
                .await?;
            return Ok(Work::Minutes { block: oldest.block });
        }
        let hours = before(self.limits.hours);
        let deleted = sqlx::query_file!("queries/delete_old_hours.sql", hours, ROWS_PER_SLICE)
            .execute(&mut *connection)
            .await?
            .rows_affected();
        let events = sqlx::query_file!("queries/delete_old_events.sql", hours, ROWS_PER_SLICE)
            .execute(&mut *connection)
            .await?
            .rows_affected();
        if deleted + events > 0 {
            return Ok(Work::Looking);
        }
        let Limits { raw, minutes, hours, .. } = self.limits;
        let oldest = before(raw.max(minutes).max(hours));
        // What is not sealed yet is kept, whatever the clock says.
        let oldest = live.oldest().map_or(oldest, |(id, _)| oldest.min(id / 1000));
        if delete_names(Day::of(oldest - NAMES_GRACE_MS), connection).await? {
            return Ok(Work::Looking);
        }
        let pages = sqlx::query_file!("queries/pages.sql").fetch_one(connection).await?;
        let much = self.spare(pages.size) + pages.total / 10;
        Ok(if pages.free > much { Work::GivingBack } else { Work::Idle })
    }

    /// How many free pages of this size (bytes) stay in the file.
    fn spare(&self, size: i64) -> i64 {
        let budget = i64::try_from(self.limits.disk_budget).unwrap_or(i64::MAX);
        SPARE_PAGES.min(budget / size.max(1) / 8)
    }

    async fn give_back(&self, connection: &mut SqliteConnection) -> sqlx::Result<Work> {
        // 4 MiB a slice. The pragma works while it is stepped, a page at a time.
        sqlx::query("PRAGMA incremental_vacuum(1024)").fetch_all(&mut *connection).await?;
        let pages = sqlx::query_file!("queries/pages.sql").fetch_one(connection).await?;
        Ok(if pages.free > self.spare(pages.size) { Work::GivingBack } else { Work::Idle })
    }

    /// Whether the disk wants single readings to go that are not old yet.
    async fn want(&self, connection: &mut SqliteConnection) -> sqlx::Result<Option<Want>> {
        let pages = sqlx::query_file!("queries/pages.sql").fetch_one(connection).await?;
        let used = (pages.total - pages.free).unsigned_abs() * pages.size.unsigned_abs();
        let spare = pages.free.unsigned_abs() * pages.size.unsigned_abs();
        if used > self.limits.disk_budget {
            return Ok(Some(Want::Budget));
        }
        let Ok(disk) = rustix::fs::statvfs(&self.directory) else { return Ok(None) };
        // Pages that are free inside the file are as good as free disk. The log comes back by
        // itself, and deleting would only make it longer.
        let free = disk.f_bavail * disk.f_frsize + spare + wal::bytes(&self.database);
        Ok((free < self.limits.min_free_disk).then_some(Want::FreeDisk))
    }
}

async fn delete_raw(
    block: i64,
    table: RawTable,
    connection: &mut SqliteConnection,
) -> sqlx::Result<Work> {
    let (deleted, next) = match table {
        RawTable::Samples => (
            sqlx::query_file!("queries/delete_samples.sql", block, ROWS_PER_SLICE)
                .execute(&mut *connection)
                .await?,
            Some(RawTable::SampleIndex),
        ),
        RawTable::SampleIndex => (
            sqlx::query_file!("queries/delete_sample_index.sql", block, ROWS_PER_SLICE)
                .execute(&mut *connection)
                .await?,
            Some(RawTable::Gpus),
        ),
        RawTable::Gpus => (
            sqlx::query_file!("queries/delete_gpu_samples.sql", block, ROWS_PER_SLICE)
                .execute(&mut *connection)
                .await?,
            Some(RawTable::Heartbeats),
        ),
        RawTable::Heartbeats => (
            sqlx::query_file!("queries/delete_heartbeats.sql", block, ROWS_PER_SLICE)
                .execute(&mut *connection)
                .await?,
            None,
        ),
    };
    if deleted.rows_affected() > 0 {
        return Ok(Work::Raw { block, table });
    }
    match next {
        Some(table) => Ok(Work::Raw { block, table }),
        None => {
            sqlx::query_file!("queries/unmark_raw_block.sql", block)
                .execute(&mut *connection)
                .await?;
            sqlx::query_file!("queries/forget_newest.sql", block).execute(connection).await?;
            Ok(Work::Looking)
        }
    }
}

/// Deletes some names that nobody has used since before a day: nothing refers to them when all else that is
/// so old is deleted. Says whether there were any.
async fn delete_names(before: Day, connection: &mut SqliteConnection) -> sqlx::Result<bool> {
    let before = before.number();
    let runs = sqlx::query_file!("queries/delete_old_runs.sql", before, NAMES_PER_SLICE);
    if runs.execute(&mut *connection).await?.rows_affected() > 0 {
        return Ok(true);
    }
    let gpus = sqlx::query_file!("queries/delete_old_gpus.sql", before, NAMES_PER_SLICE);
    if gpus.execute(&mut *connection).await?.rows_affected() > 0 {
        return Ok(true);
    }
    let said = sqlx::query_file!("queries/delete_old_descriptions.sql", before, NAMES_PER_SLICE);
    Ok(said.execute(connection).await?.rows_affected() > 0)
}

async fn delete_minutes(block: i64, connection: &mut SqliteConnection) -> sqlx::Result<Work> {
    let deleted = sqlx::query_file!("queries/delete_minutes.sql", block, ROWS_PER_SLICE)
        .execute(&mut *connection)
        .await?;
    if deleted.rows_affected() > 0 {
        return Ok(Work::Minutes { block });
    }
    sqlx::query_file!("queries/delete_block.sql", block).execute(connection).await?;
    Ok(Work::Looking)
}

/// That the readings of a range of time (ms since the epoch) were dropped.
fn dropped(want: Want, id: i64, from_ms: i64, to_ms: i64) -> Lifecycle {
    let reason = want.reason();
    tracing::warn!(
        reason,
        from_ms,
        to_ms,
        "the oldest single readings were dropped for want of disk; minutes and hours stay"
    );
    Lifecycle {
        id: Some(id),
        kind: EventKind::HistoryDropped,
        timestamp: clock::moment(id),
        hive_id: None,
        worker: None,
        detail: serde_json::json!({ "reason": reason, "from": from_ms, "to": to_ms }),
    }
}
