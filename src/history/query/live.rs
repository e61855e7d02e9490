//! Readings that are not sealed yet.
//!
//! Of each stored array only the one figure is read that is asked for; the rest is skipped
//! byte by byte, a tenth of the cost of taking the whole array apart.

use std::collections::HashMap;
use std::ops::Range;

use sqlx::{AssertSqlSafe, Row, SqliteConnection};

use super::measure::{Figure, Measure};
use super::raw::known;
use super::rows::{fields, for_each, integer, thousandths};
use super::select::Selection;
use crate::history::metric::Subject;

/// A page of live rows; `{array}` stands for one of the three arrays.
const PAGE: &str = include_str!("../../../queries/live_page.sql");
/// Heartbeats read in one statement: bounds the memory of one row.
const PAGE_ROWS: i64 = 1024;

/// A reading that is not sealed yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct LiveReading {
    /// ms since the epoch.
    pub(super) ts: i64,
    pub(super) series: u32,
    /// In thousandths.
    pub(super) figure: u64,
}

/// The array of a subject, and the place of the figure in it; none: it need not be read.
fn place(measure: &Measure) -> (&'static str, Option<usize>) {
    let array = match measure.subject {
        Subject::Worker => "samples",
        Subject::Gpu => "gpus",
        Subject::Hive => "node",
    };
    let at = match (measure.subject, measure.figure) {
        (Subject::Worker, Figure::Column(column)) => [
            "cpu_pct",
            "rss_mb",
            "io_r_mb_s",
            "io_w_mb_s",
            "uptime_s",
            "gpu_util_pct",
            "vram_mb",
            "requests_running",
            "requests_waiting",
            "kv_cache_pct",
        ]
        .iter()
        .position(|name| *name == column),
        (Subject::Gpu, Figure::Column(column)) => {
            ["util_pct", "memory_used_mb", "temperature_c", "power_w"]
                .iter()
                .position(|name| *name == column)
        }
        (Subject::Hive, Figure::Column(column)) => {
            ["cpu_pct", "memory_used_mb", "load_1m"].iter().position(|name| *name == column)
        }
        _ => None,
    };
    // The first element is the number of the subject.
    (array, at.map(|at| at + 1))
}

/// The live readings in a range of time, in order of time.
pub(super) async fn live(
    measure: &Measure,
    selection: &Selection,
    descriptions: &HashMap<i64, u64>,
    range: Range<i64>,
    connection: &mut SqliteConnection,
) -> sqlx::Result<Vec<LiveReading>> {
    let (array, at) = place(measure);
    let statement = PAGE.replace("{array}", array);
    let hives = selection.hives.as_deref().map(|hives| serde_json::Value::from(hives).to_string());
    let mut readings = Vec::new();
    let mut take = |subject: i64, ts: i64, figure: Option<u64>| {
        let Some(series) = selection.series(subject) else { return };
        let figure = match measure.figure {
            Figure::Column(_) | Figure::Description => figure,
            Figure::Identity | Figure::Presence => Some(known(measure, selection, subject)),
        };
        if let Some(figure) = figure {
            readings.push(LiveReading { ts, series, figure });
        }
    };
    let mut last = Some(0_i64);
    while let Some(after) = last {
        last = None;
        let query = sqlx::query(AssertSqlSafe(statement.clone()))
            .bind(after)
            .bind(range.start)
            .bind(range.end)
            .bind(hives.clone())
            .bind(PAGE_ROWS);
        for_each(query.fetch(&mut *connection), |row| {
            last = row.try_get_unchecked(0)?;
            let Some(times) = row.try_get_unchecked::<Option<&[u8]>, _>(1)? else { return Ok(()) };
            let hives: &[u8] = row.try_get_unchecked(2)?;
            let arrays: &[u8] = row.try_get_unchecked(3)?;
            let arrays = arrays.split(|&byte| byte == b'\n');
            for ((ts, hive), array) in fields(times).zip(fields(hives)).zip(arrays) {
                let (Some(ts), Some(hive)) = (integer(ts), integer(hive)) else { continue };
                let mut array = Array { rest: array };
                let whole = if measure.subject == Subject::Hive {
                    array.node(at).map(|(description, figure)| {
                        let memory = || descriptions.get(&description).copied();
                        take(hive, ts, if at.is_some() { figure } else { memory() });
                    })
                } else {
                    // The same GPU twice in one heartbeat counts once, as when it is sealed.
                    let mut seen = Vec::new();
                    array.samples(at, |subject, figure| {
                        if measure.subject == Subject::Worker || !seen.contains(&subject) {
                            seen.push(subject);
                            take(subject, ts, figure);
                        }
                    })
                };
                whole.ok_or_else(|| sqlx::Error::Decode("a live row is damaged".into()))?;
            }
            Ok(())
        })
        .await?;
    }
    readings.sort_by_key(|reading| reading.ts);
    Ok(readings)
}

/// A stored array, read from its beginning on. `None` where it is not what was written.
struct Array<'a> {
    rest: &'a [u8],
}

impl<'a> Array<'a> {
    /// `[[subject, figure, …], …]`: calls with each subject and its figure at a place.
    fn samples(&mut self, at: Option<usize>, mut call: impl FnMut(i64, Option<u64>)) -> Option<()> {
        self.expect(b'[')?;
        if self.take(b']') {
            return Some(());
        }
        loop {
            self.expect(b'[')?;
            let (subject, figure) = self.inner(at)?;
            call(subject, figure);
            if !self.take(b',') {
                return self.expect(b']');
            }
        }
    }

    /// `[description, figure, …]`.
    fn node(&mut self, at: Option<usize>) -> Option<(i64, Option<u64>)> {
        self.expect(b'[')?;
        self.inner(at)
    }

    /// After its bracket: the number at the beginning, and the figure at a place.
    fn inner(&mut self, at: Option<usize>) -> Option<(i64, Option<u64>)> {
        let number = integer(self.scalar())?;
        let mut figure = None;
        if let Some(at) = at {
            for place in 1..=at {
                if !self.take(b',') {
                    break;
                }
                if self.rest.first() == Some(&b'[') {
                    // A nested array stands behind all figures.
                    break;
                }
                let scalar = self.scalar();
                if place == at && scalar != b"null" {
                    figure = Some(thousandths(scalar)?);
                }
            }
        }
        self.close()?;
        Some((number, figure))
    }

    fn take(&mut self, byte: u8) -> bool {
        match self.rest {
            [first, rest @ ..] if *first == byte => {
                self.rest = rest;
                true
            }
            _ => false,
        }
    }

    fn expect(&mut self, byte: u8) -> Option<()> {
        self.take(byte).then_some(())
    }

    /// A number or null.
    #[inline]
    fn scalar(&mut self) -> &'a [u8] {
        let end = self.rest.iter().position(|byte| matches!(byte, b',' | b']'));
        let (scalar, rest) = self.rest.split_at(end.unwrap_or(self.rest.len()));
        self.rest = rest;
        scalar
    }

    /// Skips everything to the end of this array, its bracket included.
    fn close(&mut self) -> Option<()> {
        let (mut depth, mut at) = (1, 0);
        loop {
            match *self.rest.get(at)? {
                b'[' => depth += 1,
                b']' => depth -= 1,
                b'"' => {
                    at += 1;
                    while *self.rest.get(at)? != b'"' {
                        at += if self.rest[at] == b'\\' { 2 } else { 1 };
                    }
                }
                _ => {}
            }
            at += 1;
            if depth == 0 {
                self.rest = &self.rest[at..];
                return Some(());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn samples(array: &str, at: Option<usize>) -> Option<Vec<(i64, Option<u64>)>> {
        let mut found = Vec::new();
        let whole = Array { rest: array.as_bytes() }
            .samples(at, |subject, figure| found.push((subject, figure)));
        whole.map(|()| found)
    }

    #[test]
    fn one_figure_of_each_sample() {
        let array = "[[1,45.2,null,0],[2],[3,null,null,7,[[4,50,[]]]],[5,1,2,[[9]]]]";
        assert_eq!(
            samples(array, Some(1)).unwrap(),
            [(1, Some(45_200)), (2, None), (3, None), (5, Some(1000))]
        );
        assert_eq!(
            samples(array, Some(3)).unwrap(),
            [(1, Some(0)), (2, None), (3, Some(7000)), (5, None)]
        );
        assert_eq!(samples(array, None).unwrap().len(), 4);
        assert_eq!(samples("[]", Some(1)).unwrap(), []);
        let text = r#"[[1,2,3,4,5,"],\"["],[6,7]]"#;
        assert_eq!(samples(text, Some(1)).unwrap(), [(1, Some(2000)), (6, Some(7000))]);
        let mut node = Array { rest: br#"[7,1.5,null,2,3,4,5,6,7,8,["a],["]]"# };
        assert_eq!(node.node(Some(3)), Some((7, Some(2000))));
    }

    #[test]
    fn what_is_damaged_is_told() {
        for array in ["", "[", "[[1,2", "[[1,2]", "[[x]]", "{}", "[[1,\"]]"] {
            assert_eq!(samples(array, Some(1)), None, "{array}");
        }
    }
}
