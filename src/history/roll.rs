//! Rolling up: the minutes of an hour become one row of the hour for each metric.
//!
//! The minutes are read beside the writer; only the result is inserted by it. Hours are rolled
//! up in order, and an hour is visible in `rollup_1h` once `progress.rolled_ts` is past it. What
//! comes late for such an hour is added by its own block.

use std::collections::{BTreeMap, VecDeque};

use sqlx::SqliteConnection;

use super::beside::{Beside, Task};
use super::raw::{Handle, Statement};
use super::reader::{ReadError, Reader};
use super::rollup::{Columns, HOUR_MS, RollupRow, Summary};
use super::transaction;

/// How long an hour waits for late readings before it is rolled up: 5 minutes.
const GRACE_MS: i64 = 300_000;
/// Series in one row.
const SERIES_PER_ROW: usize = 4096;
/// Rows inserted in one slice.
const ROWS_PER_SLICE: usize = 16;

/// Rolls up hours, a slice at a time.
#[derive(Debug)]
pub(super) struct Roller {
    beside: Beside,
    statement: Statement,
    work: Option<Hour>,
}

/// An hour that is being rolled up.
#[derive(Debug)]
struct Hour {
    start: i64,
    metrics: Option<VecDeque<i64>>,
    reading: Option<Task<Vec<RollupRow>>>,
    rows: VecDeque<RollupRow>,
}

impl Roller {
    pub(super) async fn open(
        beside: Beside,
        connection: &mut SqliteConnection,
    ) -> sqlx::Result<Self> {
        let mut handle = Handle::new(connection.lock_handle().await?);
        let statement =
            Statement::prepare(include_str!("../../queries/insert_rollup_1h.sql"), &mut handle)?;
        Ok(Self { beside, statement, work: None })
    }

    pub(super) fn is_busy(&self) -> bool {
        self.work.is_some()
    }

    /// Begins the next hour if it is over for long enough. `rolled_ts` is where the last one
    /// ended, `now_ms` is since the epoch.
    pub(super) fn begin(&mut self, rolled_ts: i64, now_ms: i64) {
        if self.work.is_none() && rolled_ts > 0 && rolled_ts + HOUR_MS + GRACE_MS <= now_ms {
            self.work = Some(Hour {
                start: rolled_ts,
                metrics: None,
                reading: None,
                rows: VecDeque::new(),
            });
        }
    }

    /// Does one slice. Gives the new `rolled_ts` when the hour is done; on an error the hour is
    /// given up and begun anew later.
    pub(super) async fn step(
        &mut self,
        connection: &mut SqliteConnection,
    ) -> Result<Option<i64>, ReadError> {
        let Some(mut hour) = self.work.take() else { return Ok(None) };
        if !hour.rows.is_empty() {
            self.insert(&mut hour, connection).await.map_err(ReadError::Database)?;
        } else if let Some(reading) = hour.reading.take() {
            hour.rows.extend(reading.result().await?);
        } else {
            let start = hour.start;
            let metrics = match &mut hour.metrics {
                Some(metrics) => metrics,
                None => {
                    let found =
                        sqlx::query_file_scalar!("queries/rollup_metrics.sql", start, HOUR_MS)
                            .fetch_all(&mut *connection)
                            .await
                            .map_err(ReadError::Database)?;
                    hour.metrics.insert(found.into())
                }
            };
            match metrics.pop_front() {
                Some(metric) => {
                    hour.reading = Some(self.beside.read(|reader| sum_up(reader, start, metric)));
                }
                None => {
                    let rolled_ts = start + HOUR_MS;
                    sqlx::query_file!("queries/set_rolled.sql", rolled_ts)
                        .execute(connection)
                        .await
                        .map_err(ReadError::Database)?;
                    return Ok(Some(rolled_ts));
                }
            }
        }
        self.work = Some(hour);
        Ok(None)
    }

    /// Whether the next step has something to do, or only waits for the reading beside.
    pub(super) fn is_waiting(&self) -> bool {
        let reading = self.work.as_ref().and_then(|hour| hour.reading.as_ref());
        reading.is_some_and(|reading| !reading.is_finished())
    }

    async fn insert(
        &mut self,
        hour: &mut Hour,
        connection: &mut SqliteConnection,
    ) -> sqlx::Result<()> {
        let mut handle = Handle::new(connection.lock_handle().await?);
        transaction::begin_on(&mut handle)?;
        let count = hour.rows.len().min(ROWS_PER_SLICE);
        for row in hour.rows.drain(..count) {
            row.insert(&mut self.statement, &mut handle)?;
        }
        Ok(transaction::commit_on(&mut handle)?)
    }
}

/// Reads the minutes of one metric and adds them up.
async fn sum_up(reader: Reader, start: i64, metric: i64) -> Result<Vec<RollupRow>, ReadError> {
    let mut read = reader.begin().await?;
    let minutes = sqlx::query_file!("queries/minutes_of_hour.sql", start, HOUR_MS, metric)
        .fetch_all(&mut *read)
        .await
        .map_err(|error| read.error(error))?;
    read.end().await;
    let mut series: BTreeMap<i64, Summary> = BTreeMap::new();
    for m in minutes {
        let count = usize::try_from(m.count).unwrap_or(0);
        let columns = Columns {
            count,
            series: m.series,
            n: m.n,
            sum: m.sum,
            min: m.min,
            max: m.max,
            last: m.last,
            first: m.first,
            last_t: m.last_t,
            first_t: m.first_t,
        };
        for (number, summary) in columns.decode(m.bucket) {
            series.entry(number).and_modify(|sum| sum.merge(&summary)).or_insert(summary);
        }
    }
    let entries: Vec<_> = series.into_iter().collect();
    let rows = entries.chunks(SERIES_PER_ROW).enumerate().map(|(slice, entries)| RollupRow {
        block: 0,
        metric: u8::try_from(metric).unwrap_or(u8::MAX),
        bucket: start,
        slice: slice as i64,
        columns: Columns::encode(start, entries),
    });
    Ok(rows.collect())
}
