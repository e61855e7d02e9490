//! Sums by minute and by hour, read only as far as a question needs them.

use sqlx::sqlite::SqliteRow;
use sqlx::{AssertSqlSafe, Row, SqliteConnection};

use super::cells::Cells;
use super::grid::Grid;
use super::measure::Measure;
use super::request::Agg;
use super::rows::for_each;
use super::select::Selection;
use crate::history::rollup::Column;

/// The statements; `{a}` and `{b}` stand for the columns that are needed.
const MINUTES: &str = include_str!("../../../queries/rollup_minutes.sql");
const HOURS: &str = include_str!("../../../queries/rollup_hours.sql");

/// One row of a tier: two columns of one bucket of many subjects.
#[derive(Debug, Default)]
pub(super) struct Sums {
    /// When it starts: ms since the epoch.
    pub(super) bucket: i64,
    pub(super) subjects: Vec<u64>,
    pub(super) a: Vec<u64>,
    pub(super) b: Vec<u64>,
}

/// The two columns that an aggregation needs, in the order that `Cells::add_sums` takes them.
fn columns(agg: Agg, identity: bool) -> [&'static str; 2] {
    let columns = match agg {
        Agg::Avg | Agg::Sum => ["n", "sum"],
        Agg::Count => ["n", "NULL"],
        Agg::Min => ["min", "NULL"],
        Agg::Max => ["max", "NULL"],
        Agg::First => ["first", "first_t"],
        Agg::Last => ["last", "last_t"],
        Agg::P50 | Agg::P95 | Agg::P99 => ["NULL", "NULL"],
    };
    match columns {
        // The figure itself is known: only how many, and when, is read.
        ["n", _] if identity => ["n", "NULL"],
        [_, time] if identity => ["NULL", time],
        columns => columns,
    }
}

/// Reads sums and adds them up.
pub(super) struct Reading<'a> {
    pub(super) measure: &'a Measure,
    pub(super) selection: &'a Selection,
    /// The buckets of the cells.
    pub(super) grid: &'a Grid,
    pub(super) cells: &'a mut Cells,
}

impl Reading<'_> {
    /// Those by minute of some blocks that begin in `from..to`.
    pub(super) async fn minutes(
        &mut self,
        blocks: &[i64],
        from: i64,
        to: i64,
        connection: &mut SqliteConnection,
    ) -> sqlx::Result<()> {
        if blocks.is_empty() {
            return Ok(());
        }
        let query = sqlx::query(AssertSqlSafe(self.statement(MINUTES)))
            .bind(i64::from(self.measure.stored))
            .bind(from)
            .bind(to)
            .bind(serde_json::Value::from(blocks).to_string());
        let mut sums = Sums::default();
        for_each(query.fetch(connection), |row| self.add(row, &mut sums)).await
    }

    /// Those by hour that begin in `from..to`.
    pub(super) async fn hours(
        &mut self,
        from: i64,
        to: i64,
        connection: &mut SqliteConnection,
    ) -> sqlx::Result<()> {
        let query = sqlx::query(AssertSqlSafe(self.statement(HOURS)))
            .bind(i64::from(self.measure.stored))
            .bind(from)
            .bind(to);
        let mut sums = Sums::default();
        for_each(query.fetch(connection), |row| self.add(row, &mut sums)).await
    }

    fn statement(&self, template: &str) -> String {
        let [a, b] = columns(self.measure.agg, self.measure.is_identity());
        template.replace("{a}", a).replace("{b}", b)
    }

    fn add(&mut self, row: &SqliteRow, sums: &mut Sums) -> sqlx::Result<()> {
        let count: i64 = row.try_get_unchecked(1)?;
        let count = usize::try_from(count).unwrap_or_default();
        let column = |at: usize, into: &mut Vec<u64>| -> sqlx::Result<()> {
            let bytes: Option<&[u8]> = row.try_get_unchecked(at)?;
            Column::new(bytes.unwrap_or_default(), count).read_into(count, into);
            Ok(())
        };
        sums.bucket = row.try_get_unchecked(0)?;
        column(2, &mut sums.subjects)?;
        column(3, &mut sums.a)?;
        column(4, &mut sums.b)?;
        if self.measure.is_identity() {
            self.put_figures(sums);
        }
        let base = self.grid.place(sums.bucket) * self.selection.group_of.len();
        self.cells.add_sums(base, sums, self.selection);
        Ok(())
    }

    /// The columns as they would be if the figure stood with each reading.
    fn put_figures(&self, sums: &mut Sums) {
        let known = |subject: u64| self.selection.value_of.get(subject as usize).copied();
        let Sums { subjects, a, b, .. } = sums;
        for ((&subject, a), b) in subjects.iter().zip(a).zip(b) {
            let figure = known(subject).unwrap_or_default();
            match self.measure.agg {
                Agg::Avg | Agg::Sum => *b = a.saturating_mul(figure),
                Agg::Count => {}
                _ => *a = figure,
            }
        }
    }
}
