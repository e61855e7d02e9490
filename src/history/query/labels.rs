//! Which values a label has in a range of time.

use sqlx::SqliteConnection;

use super::compute::{Failure, Work};
use super::grid::Grid;
use super::matcher::Matcher;
use super::measure::Measure;
use super::request::Label;
use super::{Plan, QueryError, extent, select};
use crate::history::metric::Subject;
use crate::history::reader::Reader;

/// The most values in one answer.
const MAX_LABEL_VALUES: usize = 20_000;

/// The values of a label, sorted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LabelValues {
    /// The first of them.
    pub values: Vec<String>,
    /// There are more than one answer has room for.
    pub truncated: bool,
}

/// The values of a label among the readings of a range (ms since the epoch, `end` exclusive)
/// that satisfy all conditions.
///
/// # Errors
/// The history cannot be read.
pub async fn label_values(
    reader: &Reader,
    label: Label,
    start: i64,
    end: i64,
    matchers: &[Matcher],
) -> Result<LabelValues, QueryError> {
    let mut read = reader.begin().await.map_err(QueryError::Read)?;
    let result = values(label, start, end, matchers, &mut read).await;
    let result = result.map_err(|failure| match failure {
        Failure::Query(error) => error,
        Failure::Sqlite(error) => QueryError::Read(read.error(error)),
    });
    read.end().await;
    result
}

async fn values(
    label: Label,
    start: i64,
    end: i64,
    matchers: &[Matcher],
    connection: &mut SqliteConnection,
) -> Result<LabelValues, Failure> {
    let measure = Measure::presence(subject(label, matchers));
    let grid = Grid::whole(start, end);
    let extent = extent(start, end, connection).await?;
    let plan = Plan::new(&grid, &measure, extent, connection).await?;
    let selection = select::select(&measure, &[label], matchers, connection).await?;
    let work = Work { measure: &measure, selection: &selection, plan: &plan };
    let counts = work.run(connection).await?;
    let used = selection.groups.into_iter().zip(counts).filter(|(_, counts)| counts[0].is_some());
    let mut used = used.flat_map(|(group, _)| group);
    let values = used.by_ref().take(MAX_LABEL_VALUES).collect();
    Ok(LabelValues { values, truncated: used.next().is_some() })
}

/// What has the label, and the labels of the conditions if that can be.
fn subject(label: Label, matchers: &[Matcher]) -> Subject {
    let has_all = |subject: &Subject| {
        label.is_of(*subject) && matchers.iter().all(|matcher| matcher.label.is_of(*subject))
    };
    let subjects = [Subject::Hive, Subject::Worker, Subject::Gpu];
    let found = subjects.into_iter().find(has_all);
    found.or(subjects.into_iter().find(|subject| label.is_of(*subject))).unwrap_or(Subject::Hive)
}
