//! Questions to the history: a [`Request`] becomes an [`Answer`]. REST and Grafana ask here.
//!
//! In the order of a question's way:
//!
//! - [`request`], [`matcher`], [`grid`]: what is asked;
//! - `measure`: what a metric comes down to;
//! - `select`: which series it is about, and their groups;
//! - `plan`: which part of the range is read from which sums;
//! - `raw`, `rollups`, `live`: reading single readings, sums, and what is not sealed yet;
//! - `cells`, `across`, `fill`: readings to series, series to groups, gaps.
//!
//! Invariant: an answer does not depend on where its readings stand, live or sealed, single or
//! summed up. Readings are added up exactly, in whole thousandths, and divided once.
//!
//! Invariant: all of a question is read in one transaction: sealing moves readings, and none is
//! counted twice or missed for it.
//!
//! Invariant: memory is bounded. The range is worked through in chunks of buckets.

mod across;
mod cells;
mod compute;
mod fill;
pub mod grid;
mod labels;
mod live;
pub mod matcher;
mod measure;
mod plan;
mod raw;
pub mod request;
mod rollups;
mod rows;
mod select;

use sqlx::SqliteConnection;

pub use grid::Step;
pub use labels::{LabelValues, label_values};
pub use matcher::Matcher;
pub use request::{Across, Agg, Answer, Fill, Label, Request, Resolution, Series};

use self::compute::{Failure, Work};
use self::grid::Grid;
use self::measure::Measure;
use self::plan::{Extent, Segment};
use self::raw::Block;
use self::request::MAX_POINTS;
use super::reader::{ReadError, Reader};

/// Why a question has no answer.
#[derive(Debug, thiserror::Error)]
pub enum QueryError {
    /// The step is too small for the range.
    #[error(
        "{points} points a series are more than {MAX_POINTS}; \
         a step of {suggested_step} is large enough"
    )]
    TooManyPoints {
        /// That many there would be.
        points: i64,
        /// A step that is large enough, as it is written in a request.
        suggested_step: String,
    },
    /// A percentile of readings that are gone.
    #[error(
        "percentiles need single readings, and those of a part of this range are no longer kept; \
         ask for a later range, or for avg, min, max, sum, count, first or last"
    )]
    PercentilesNeedReadings,
    /// A percentile of more readings than fit.
    #[error(
        "a percentile of more than {} readings in one bucket, over all series, is not computed; \
         ask for a smaller step or fewer series",
        cells::MAX_READINGS
    )]
    TooManyReadings,
    /// It took longer than allowed.
    #[error("{source}")]
    TooSlow {
        /// The limit that was reached.
        source: ReadError,
        /// A step with which it is faster.
        suggested_step: String,
    },
    /// The history cannot be read.
    #[error(transparent)]
    Read(ReadError),
}

/// Answers a question.
///
/// # Errors
/// It asks for too much, or the history cannot be read.
pub async fn query(reader: &Reader, request: &Request) -> Result<Answer, QueryError> {
    let mut read = reader.begin().await.map_err(QueryError::Read)?;
    let result = answer(request, &mut read).await;
    let result = result.map_err(|failure| match failure {
        Failure::Query(error) => error,
        Failure::Sqlite(error) => match read.error(error) {
            source @ ReadError::TimeLimit { .. } => {
                QueryError::TooSlow { source, suggested_step: coarser(request) }
            }
            error => QueryError::Read(error),
        },
    });
    read.end().await;
    result
}

/// A step with which a question is answered faster.
fn coarser(request: &Request) -> String {
    let Request { start, end, step, .. } = *request;
    let step = match step {
        Step::Fixed(step) => step,
        Step::AtMost(points) => grid::snap(start, end, points, 1),
    };
    grid::written(grid::suggested(start, end, step))
}

async fn answer(request: &Request, connection: &mut SqliteConnection) -> Result<Answer, Failure> {
    let extent = extent(request.start, request.end, connection).await?;
    let grid = grid_of(request, &extent)?;
    let mut answer = Answer {
        start: request.start,
        end: request.end,
        step_ms: grid.step,
        resolution: Resolution::Raw,
        times: grid.times(),
        series: Vec::new(),
        truncated: false,
    };
    for &metric in &request.metrics {
        let measure = Measure::of(metric, request.agg, request.across);
        let group_by = request.group_by.as_deref().unwrap_or(measure.usual_groups());
        let plan = Plan::new(&grid, &measure, extent, connection).await?;
        answer.resolution = answer.resolution.max(plan.resolution());
        let mut selection =
            select::select(&measure, group_by, &request.matchers, connection).await?;
        let room = request.limit - answer.series.len();
        if selection.groups.len() > room {
            // Most of them may have nothing in this range: first it is looked which do.
            let whole = Grid::whole(grid.start, grid.end);
            let counted = measure.counted();
            let plan = Plan::new(&whole, &counted, extent, connection).await?;
            let work = Work { measure: &counted, selection: &selection, plan: &plan };
            let counts = work.run(connection).await?;
            let mut used: Vec<usize> =
                (0..counts.len()).filter(|&group| counts[group][0].is_some()).collect();
            answer.truncated |= used.len() > room;
            used.truncate(room);
            selection.keep(&used);
        }
        let work = Work { measure: &measure, selection: &selection, plan: &plan };
        let values = work.run(connection).await?;
        for (group, values) in selection.groups.into_iter().zip(values) {
            if values.iter().any(Option::is_some) {
                let labels = group_by.iter().copied().zip(group).collect();
                answer.series.push(Series { metric, labels, values });
            }
        }
    }
    fill::fill(request.fill, &mut answer.times, &mut answer.series);
    Ok(answer)
}

/// What the history still has of a range.
async fn extent(start: i64, end: i64, connection: &mut SqliteConnection) -> sqlx::Result<Extent> {
    let row = sqlx::query_file!("queries/extent.sql", start, end).fetch_one(connection).await?;
    Ok(Extent {
        rolled_ts: row.rolled_ts,
        minutes_from: row.minutes_ts,
        raw_missing: row.raw_missing,
    })
}

/// The buckets of a request.
fn grid_of(request: &Request, extent: &Extent) -> Result<Grid, QueryError> {
    let Request { start, end, step, .. } = *request;
    let step = match step {
        Step::Fixed(step) => step.max(1),
        // No finer than what is left, or most buckets would be empty.
        Step::AtMost(points) => grid::snap(start, end, points, extent.least_step(start)),
    };
    let grid = Grid { start, end, step };
    let points = grid.len();
    if points > MAX_POINTS {
        let suggested_step = grid::written(grid::suggested(start, end, step));
        return Err(QueryError::TooManyPoints { points, suggested_step });
    }
    Ok(grid)
}

/// What is read for a measure.
#[derive(Debug)]
struct Plan {
    grid: Grid,
    segments: Vec<Segment>,
    /// Those that the minutes and single readings are in.
    blocks: Vec<Block>,
}

impl Plan {
    async fn new(
        grid: &Grid,
        measure: &Measure,
        extent: Extent,
        connection: &mut SqliteConnection,
    ) -> Result<Self, Failure> {
        let percentile = measure.agg.quantile().is_some();
        if percentile && !extent.has_all_raw(grid.start) {
            return Err(QueryError::PercentilesNeedReadings.into());
        }
        let segments = plan::segments(grid, !percentile, &extent);
        let mut blocks = Vec::new();
        for segments in segments.split(|segment| segment.tier == Resolution::Hour) {
            if let ([first, ..], [.., last]) = (segments, segments) {
                let from = first.from - first.from.rem_euclid(super::rollup::MINUTE_MS);
                blocks.extend(raw::blocks(from, last.to, connection).await?);
            }
        }
        blocks.sort_unstable_by_key(|block| block.block);
        blocks.dedup();
        Ok(Self { grid: *grid, segments, blocks })
    }

    /// The coarsest sums that are read.
    fn resolution(&self) -> Resolution {
        let tier = |segment: &Segment| match segment.tier {
            Resolution::Raw if self.summed(segment.from, segment.to).next().is_some() => {
                Resolution::Minute
            }
            tier => tier,
        };
        self.segments.iter().map(tier).max().unwrap_or(Resolution::Raw)
    }

    /// The blocks that may hold readings of `from..to`.
    fn within(&self, from: i64, to: i64) -> impl Iterator<Item = &Block> {
        self.blocks.iter().filter(move |block| block.max_ts >= from && block.min_ts < to)
    }

    /// The blocks without single readings that may hold minutes which begin in `from..to`.
    fn summed(&self, from: i64, to: i64) -> impl Iterator<Item = &Block> {
        self.within(from, to.saturating_add(super::rollup::MINUTE_MS)).filter(|block| !block.raw)
    }
}
