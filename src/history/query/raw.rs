//! Single readings out of the blocks that still have them.

use std::collections::HashMap;

use sqlx::sqlite::SqliteRow;
use sqlx::{AssertSqlSafe, Row, SqliteConnection};

use super::measure::{Figure, Measure};
use super::rows::{fields, for_each, integer, thousandths};
use super::select::Selection;
use crate::history::metric::Subject;

/// Readings of all subjects of some blocks; see its header.
const ALL: &str = include_str!("../../../queries/readings.sql");
/// Readings of some subjects of some blocks.
const FEW: &str = include_str!("../../../queries/readings_of_few.sql");
/// Readings of all workers of some blocks.
const ALL_WORKERS: &str = include_str!("../../../queries/worker_readings.sql");
/// Readings of some workers of some blocks.
const FEW_WORKERS: &str = include_str!("../../../queries/worker_readings_of_few.sql");
/// Blocks times subjects that are sought in one statement.
const SEEKS: usize = 200_000;

/// A block that is listed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Block {
    pub(super) block: i64,
    /// ms since the epoch, of its oldest reading.
    pub(super) min_ts: i64,
    /// ms since the epoch, of its newest reading.
    pub(super) max_ts: i64,
    /// Single readings are there.
    pub(super) raw: bool,
}

/// The blocks that may hold readings of `from..to`, oldest first.
pub(super) async fn blocks(
    from: i64,
    to: i64,
    connection: &mut SqliteConnection,
) -> sqlx::Result<Vec<Block>> {
    let row =
        sqlx::query_file!("queries/blocks_in_range.sql", from, to).fetch_one(connection).await?;
    let mut columns = [&row.blocks, &row.min_ts, &row.max_ts, &row.raw]
        .map(|text| fields(text.as_deref().unwrap_or_default().as_bytes()).filter_map(integer));
    let mut blocks = Vec::new();
    while let [Some(block), Some(min_ts), Some(max_ts), Some(raw)] =
        columns.each_mut().map(Iterator::next)
    {
        blocks.push(Block { block, min_ts, max_ts, raw: raw == 1 });
    }
    blocks.sort_unstable_by_key(|block| block.block);
    Ok(blocks)
}

/// How figures stand in their column.
#[derive(Debug, Clone, Copy)]
enum Scale {
    /// In thousandths of the unit.
    Thousandths,
    /// In the unit.
    Unit,
    /// In the unit where it is whole, else in thousandths below zero.
    WholeOrNegative,
    /// As the number of a description.
    Description,
    /// Not at all.
    Known,
}

/// The expression and the scale of a figure.
fn place(measure: &Measure) -> (&'static str, Scale) {
    match measure.figure {
        Figure::Column(
            column @ ("cpu_pct" | "io_r_mb_s" | "io_w_mb_s" | "kv_cache_pct" | "power_w"
            | "load_1m"),
        ) => (column, Scale::Thousandths),
        Figure::Column(column) if measure.subject == Subject::Worker => {
            (column, Scale::WholeOrNegative)
        }
        Figure::Column(column) => (column, Scale::Unit),
        Figure::Description => ("description", Scale::Description),
        Figure::Identity | Figure::Presence => ("NULL", Scale::Known),
    }
}

/// The statements for all and for few subjects.
fn statements(subject: Subject, figure: &str) -> [String; 2] {
    let (templates, table, name) = match subject {
        Subject::Worker => ([ALL_WORKERS, FEW_WORKERS], "", ""),
        Subject::Gpu => ([ALL, FEW], "gpu_samples", "gpu"),
        Subject::Hive => ([ALL, FEW], "heartbeats", "hive"),
    };
    templates.map(|template| {
        template.replace("{table}", table).replace("{subject}", name).replace("{figure}", figure)
    })
}

/// Reads readings and hands them on.
pub(super) struct Readings<'a> {
    pub(super) measure: &'a Measure,
    pub(super) selection: &'a Selection,
    /// By number of a description: the memory of the machine, in thousandths.
    pub(super) descriptions: &'a HashMap<i64, u64>,
}

impl Readings<'_> {
    /// Calls with the series, time and figure of each reading of the blocks in `from..to`.
    pub(super) async fn each(
        &self,
        blocks: &[Block],
        from: i64,
        to: i64,
        connection: &mut SqliteConnection,
        mut call: impl FnMut(u32, i64, u64),
    ) -> sqlx::Result<()> {
        let (figure, scale) = place(self.measure);
        let [all, few_statement] = statements(self.measure.subject, figure);
        let began: HashMap<i64, i64> = blocks.iter().map(|b| (b.block, b.min_ts)).collect();
        let mut take = |row: &SqliteRow| self.take(row, &began, scale, from..to, &mut call);
        let list = |blocks: &[Block]| {
            serde_json::Value::from_iter(blocks.iter().map(|block| block.block)).to_string()
        };
        match self.selection.few.as_deref() {
            Some([]) => {}
            Some(few) => {
                let few_list = serde_json::Value::from(few).to_string();
                for blocks in blocks.chunks((SEEKS / few.len()).max(1)) {
                    let query = sqlx::query(AssertSqlSafe(few_statement.clone()))
                        .bind(list(blocks))
                        .bind(&few_list);
                    for_each(query.fetch(&mut *connection), &mut take).await?;
                }
            }
            None if blocks.is_empty() => {}
            None => {
                let query = sqlx::query(AssertSqlSafe(all)).bind(list(blocks));
                for_each(query.fetch(connection), &mut take).await?;
            }
        }
        Ok(())
    }

    /// One row: the readings of one subject in one block.
    fn take(
        &self,
        row: &SqliteRow,
        began: &HashMap<i64, i64>,
        scale: Scale,
        range: std::ops::Range<i64>,
        call: &mut impl FnMut(u32, i64, u64),
    ) -> sqlx::Result<()> {
        let subject: i64 = row.try_get_unchecked(1)?;
        let Some(series) = self.selection.series(subject) else { return Ok(()) };
        let block: i64 = row.try_get_unchecked(0)?;
        let Some(min_ts) = began.get(&block) else { return Ok(()) };
        let times: &[u8] = row.try_get_unchecked(2)?;
        let figures: Option<&[u8]> = row.try_get_unchecked(3)?;
        let known = known(self.measure, self.selection, subject);
        let mut figures = fields(figures.unwrap_or_default());
        for time in fields(times) {
            let field = figures.next().unwrap_or_default();
            let Some(ts) = integer(time).map(|ts| ts + min_ts) else { continue };
            if !range.contains(&ts) {
                continue;
            }
            let figure = match scale {
                Scale::Thousandths => integer(field).and_then(|figure| u64::try_from(figure).ok()),
                Scale::Unit => thousandths(field),
                Scale::WholeOrNegative => integer(field).and_then(whole_or_negative),
                Scale::Description => {
                    integer(field).and_then(|number| self.descriptions.get(&number).copied())
                }
                Scale::Known => Some(known),
            };
            if let Some(figure) = figure {
                call(series, ts, figure);
            }
        }
        Ok(())
    }
}

/// In thousandths, what is in its unit, or in thousandths below zero.
fn whole_or_negative(figure: i64) -> Option<u64> {
    match u64::try_from(figure) {
        Ok(whole) => whole.checked_mul(1000),
        Err(_) => Some(figure.unsigned_abs()),
    }
}

/// The figure of every reading of a subject, where it does not stand with the readings.
pub(super) fn known(measure: &Measure, selection: &Selection, subject: i64) -> u64 {
    match measure.figure {
        Figure::Identity => usize::try_from(subject)
            .ok()
            .and_then(|at| selection.value_of.get(at).copied())
            .unwrap_or_default(),
        _ => 1000,
    }
}

/// What hives say of their memory, in thousandths of MiB, by number of the description.
pub(super) async fn descriptions(
    measure: &Measure,
    connection: &mut SqliteConnection,
) -> sqlx::Result<HashMap<i64, u64>> {
    if measure.figure != Figure::Description {
        return Ok(HashMap::new());
    }
    let row = sqlx::query_file!("queries/memory_descriptions.sql").fetch_one(connection).await?;
    let numbers = fields(row.descriptions.as_deref().unwrap_or_default().as_bytes());
    let figures = fields(row.figures.as_deref().unwrap_or_default().as_bytes());
    let pair = |(number, figure)| Some((integer(number)?, thousandths(figure)?));
    Ok(numbers.zip(figures).filter_map(pair).collect())
}
