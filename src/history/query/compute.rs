//! Works through a plan: chunk by chunk, readings and sums to cells, cells to groups.

use std::collections::HashMap;

use sqlx::SqliteConnection;

use super::across::Group;
use super::cells::{self, Cells};
use super::grid::Grid;
use super::live::{self, LiveReading};
use super::measure::Measure;
use super::plan::Segment;
use super::raw::{self, Readings};
use super::rollups::Reading;
use super::select::Selection;
use super::{Plan, QueryError, Resolution};

/// Cells in one chunk where sums are read: they stay in the processor's cache.
const CELLS: usize = 64 << 10;
/// Cells in one chunk where single readings are read: a block is then seldom read twice.
const RAW_CELLS: usize = 2 << 20;
/// Seconds of single readings in one chunk, over all series.
const RAW_SECONDS: usize = 4 << 20;
/// Why it could not be done.
#[derive(Debug)]
pub(super) enum Failure {
    Query(QueryError),
    Sqlite(sqlx::Error),
}

impl From<QueryError> for Failure {
    fn from(error: QueryError) -> Self {
        Self::Query(error)
    }
}

impl From<sqlx::Error> for Failure {
    fn from(error: sqlx::Error) -> Self {
        Self::Sqlite(error)
    }
}

/// One measure over one selection.
pub(super) struct Work<'a> {
    pub(super) measure: &'a Measure,
    pub(super) selection: &'a Selection,
    pub(super) plan: &'a Plan,
}

impl Work<'_> {
    /// The values of each group, one for each bucket.
    pub(super) async fn run(
        &self,
        connection: &mut SqliteConnection,
    ) -> Result<Vec<Vec<Option<f64>>>, Failure> {
        let Plan { grid, .. } = self.plan;
        let len = grid.len() as usize;
        let mut values: Vec<Vec<Option<f64>>> =
            self.selection.groups.iter().map(|_| Vec::with_capacity(len)).collect();
        let series = self.selection.group_of.len();
        if series == 0 {
            return Ok(values);
        }
        let descriptions = raw::descriptions(self.measure, connection).await?;
        let range = grid.start..grid.end;
        let live =
            live::live(self.measure, self.selection, &descriptions, range, connection).await?;
        let buckets = self.buckets_at_once(series);
        let mut cells = Cells::new(self.measure.agg);
        let mut at = 0;
        while at < len {
            let to = (at + buckets).min(len);
            let chunk = grid.part(at as i64, to as i64);
            cells.clear((to - at) * series);
            self.read(&chunk, &mut cells, &descriptions, connection).await?;
            add_live(&chunk, &live, series, &mut cells);
            if cells.overflowed() {
                return Err(QueryError::TooManyReadings.into());
            }
            self.combine(to - at, &mut cells, &mut values);
            at = to;
            tokio::task::yield_now().await;
        }
        Ok(values)
    }

    /// How many buckets a chunk has: at least one.
    fn buckets_at_once(&self, series: usize) -> usize {
        let raw = self.plan.segments.iter().filter(|segment| segment.tier == Resolution::Raw);
        let raw_ms: i64 = raw.map(|segment| segment.to - segment.from).sum();
        let grid = &self.plan.grid;
        let cells = if raw_ms * 2 < grid.end - grid.start {
            CELLS / series
        } else {
            let seconds = (grid.step / 1000).max(1) as usize;
            (RAW_CELLS / series).min(RAW_SECONDS / series / seconds)
        };
        cells.max(1)
    }

    async fn read(
        &self,
        chunk: &Grid,
        cells: &mut Cells,
        descriptions: &HashMap<i64, u64>,
        connection: &mut SqliteConnection,
    ) -> Result<(), Failure> {
        let Self { measure, selection, plan } = *self;
        for &Segment { from, to, tier } in &plan.segments {
            let (from, to) = (from.max(chunk.start), to.min(chunk.end));
            if from >= to {
                continue;
            }
            let blocks: Vec<_> = plan.within(from, to).copied().collect();
            match tier {
                Resolution::Hour => {
                    let mut reading = Reading { measure, selection, grid: chunk, cells };
                    reading.hours(from, to, connection).await?;
                }
                Resolution::Minute => {
                    let blocks: Vec<i64> = blocks.iter().map(|block| block.block).collect();
                    let mut reading = Reading { measure, selection, grid: chunk, cells };
                    reading.minutes(&blocks, from, to, connection).await?;
                }
                Resolution::Raw => {
                    let summed: Vec<i64> = plan.summed(from, to).map(|block| block.block).collect();
                    let mut reading = Reading { measure, selection, grid: chunk, cells };
                    reading.minutes(&summed, from, to, connection).await?;
                    let series = selection.group_of.len();
                    let blocks: Vec<_> = blocks.iter().filter(|b| b.raw).copied().collect();
                    let readings = Readings { measure, selection, descriptions };
                    let add = |of: u32, ts, figure| {
                        cells.add(chunk.place(ts) * series + of as usize, ts, figure);
                    };
                    readings.each(&blocks, from, to, connection, add).await?;
                }
            }
        }
        Ok(())
    }

    /// Takes the values of a chunk's cells over into those of the groups.
    fn combine(&self, buckets: usize, cells: &mut Cells, values: &mut [Vec<Option<f64>>]) {
        let Self { measure, selection, .. } = self;
        let series = selection.group_of.len();
        let scale = cells::scale(measure.agg);
        let mut groups = vec![Group::EMPTY; values.len()];
        let mut bucket = 0;
        let mut finish = |groups: &mut Vec<Group>| {
            for (group, values) in groups.iter_mut().zip(&mut *values) {
                values.push(group.value(measure.combine, scale));
                *group = Group::EMPTY;
            }
        };
        cells.values(|cell, value| {
            while cell >= (bucket + 1) * series {
                finish(&mut groups);
                bucket += 1;
            }
            let of = selection.group_of[cell - bucket * series];
            groups[of as usize].add(value, scale);
        });
        for _ in bucket..buckets {
            finish(&mut groups);
        }
    }
}

/// Adds the live readings of a chunk; they are in order of time.
fn add_live(chunk: &Grid, live: &[LiveReading], series: usize, cells: &mut Cells) {
    let from = live.partition_point(|reading| reading.ts < chunk.start);
    let to = live.partition_point(|reading| reading.ts < chunk.end);
    for reading in &live[from..to] {
        let cell = chunk.place(reading.ts) * series + reading.series as usize;
        cells.add(cell, reading.ts, reading.figure);
    }
}
