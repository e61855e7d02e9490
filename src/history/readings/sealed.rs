//! Sealed readings out of their blocks.

use std::collections::BTreeMap;

use hive_contract::heartbeat::{Agent, MAX_WORKERS, Node};
use hive_contract::text::Text;
use hive_contract::units::{
    Celsius, Count, CpuPercent, Load, Mebibytes, MebibytesPerSecond, Milliseconds, Percent,
    Seconds, Watts,
};

use super::Entry;
use crate::history::codec::{self, Figures, GpuRow, NodeRow, Rows, SampleRow, WorkerGpuRow};
use crate::history::raw::{Handle, RawError, Row, Statement, Values};

/// Readings of one hive that are no further apart (ms) are read together, though one between them
/// may not be asked for: to read it costs less than to look for each by itself.
const NEAR_MS: i64 = 5000;

/// Reads the rows of those entries that are sealed, to their places. What cannot be read stays
/// as it is.
pub(super) fn read(
    entries: &[Entry],
    rows: &mut [Option<Rows>],
    handle: &mut Handle<'_>,
) -> Result<(), RawError> {
    let mut prepare = |sql| Statement::prepare(sql, handle);
    let mut heads = prepare(include_str!("../../../queries/sealed_heads.sql"))?;
    let mut samples = prepare(include_str!("../../../queries/sealed_samples.sql"))?;
    let mut gpu_samples = prepare(include_str!("../../../queries/sealed_gpu_samples.sql"))?;
    for stretch in stretches(entries) {
        heads.each(
            handle,
            |values| stretch.bind(values),
            |row| {
                if let Some(place) = stretch.place(row) {
                    rows[place] = Some(head(row, entries[place].workers));
                }
            },
        )?;
        samples.each(
            handle,
            |values| stretch.bind(values),
            |row| {
                if let Some(rows) = stretch.place(row).and_then(|place| rows[place].as_mut()) {
                    rows.samples.push(sample(row));
                }
            },
        )?;
        gpu_samples.each(
            handle,
            |values| stretch.bind(values),
            |row| {
                if let Some(rows) = stretch.place(row).and_then(|place| rows[place].as_mut()) {
                    rows.gpus.push(gpu_sample(row));
                }
            },
        )?;
    }
    Ok(())
}

/// Some readings of one hive in one block that are near each other.
struct Stretch {
    block: i64,
    hive: i64,
    /// Time (ms since the epoch) and place among the entries, by time.
    readings: Vec<(i64, usize)>,
}

impl Stretch {
    fn bind(&self, values: &mut Values<'_, '_>) {
        values.integer(self.block).integer(self.hive);
        for (ts, _) in self.readings.first().into_iter().chain(self.readings.last()) {
            values.integer(*ts);
        }
    }

    /// The place of the reading to which a row belongs that begins with its time; none where it
    /// was not asked for.
    fn place(&self, row: &Row<'_>) -> Option<usize> {
        let at = self.readings.binary_search_by_key(&row.integer(0), |(ts, _)| *ts).ok()?;
        Some(self.readings[at].1)
    }
}

fn stretches(entries: &[Entry]) -> Vec<Stretch> {
    let mut readings: BTreeMap<(i64, i64), Vec<(i64, usize)>> = BTreeMap::new();
    for (place, entry) in entries.iter().enumerate() {
        if let Some(block) = entry.block {
            readings.entry((block, entry.hive)).or_default().push((entry.ts, place));
        }
    }
    let mut stretches = Vec::new();
    for ((block, hive), mut readings) in readings {
        readings.sort_unstable();
        for near in readings.chunk_by(|(ts, _), (next, _)| next - ts <= NEAR_MS) {
            stretches.push(Stretch { block, hive, readings: near.to_vec() });
        }
    }
    stretches
}

/// A row of `sealed_heads.sql`, with room for so many workers.
fn head(row: &Row<'_>, workers: i64) -> Rows {
    let errors = row.is_text(11).then(|| serde_json::from_slice(row.text(11)).ok()).flatten();
    let node = Node {
        cpu_pct: row.thousandths(2).and_then(CpuPercent::from_thousandths),
        memory_used_mb: row.number(3).and_then(Mebibytes::from_thousandths),
        load_1m: row.thousandths(4).and_then(Load::from_thousandths),
        uptime_s: row.number(5).and_then(Seconds::from_thousandths),
        cpu_count: None,
        memory_total_mb: None,
    };
    let agent = Agent {
        version: None,
        cpu_pct: row.thousandths(6).and_then(CpuPercent::from_thousandths),
        rss_mb: row.number(7).and_then(Mebibytes::from_thousandths),
        collect_ms: row.thousandths(8).and_then(Milliseconds::from_thousandths),
        spooled: row.number(9).and_then(Count::from_thousandths),
        gpu_age_ms: row.number(10).and_then(Milliseconds::from_thousandths),
        errors: errors.unwrap_or_default(),
    };
    let node = NodeRow { description: row.integer(1), node, agent };
    let workers = usize::try_from(workers).unwrap_or(0).min(MAX_WORKERS);
    Rows { samples: Vec::with_capacity(workers), gpus: Vec::new(), node }
}

/// A row of `sealed_samples.sql`.
fn sample(row: &Row<'_>) -> SampleRow {
    let figures = Figures {
        cpu_pct: row.thousandths(2).and_then(CpuPercent::from_thousandths),
        rss_mb: row.whole_or_negative(3).and_then(Mebibytes::from_thousandths),
        io_r_mb_s: row.thousandths(4).and_then(MebibytesPerSecond::from_thousandths),
        io_w_mb_s: row.thousandths(5).and_then(MebibytesPerSecond::from_thousandths),
        uptime_s: row.whole_or_negative(6).and_then(Seconds::from_thousandths),
        gpu_util_pct: row.whole_or_negative(7).and_then(Percent::from_thousandths),
        vram_mb: row.whole_or_negative(8).and_then(Mebibytes::from_thousandths),
        requests_running: row.number(9).and_then(Count::from_thousandths),
        requests_waiting: row.number(10).and_then(Count::from_thousandths),
        kv_cache_pct: row.thousandths(11).and_then(Percent::from_thousandths),
    };
    // A number is that GPU alone, with the worker's own figures.
    let gpus = if row.is_text(12) {
        codec::parse_worker_gpus(row.text(12)).unwrap_or_default()
    } else {
        let Figures { gpu_util_pct: util_pct, vram_mb, .. } = figures;
        let alone = row.optional(12).map(|gpu| WorkerGpuRow { gpu, util_pct, vram_mb });
        alone.into_iter().collect()
    };
    SampleRow { run: row.integer(1), figures, gpus }
}

/// A row of `sealed_gpu_samples.sql`.
fn gpu_sample(row: &Row<'_>) -> GpuRow {
    let state = row.is_text(6).then(|| Text::cut(&String::from_utf8_lossy(row.text(6))));
    GpuRow {
        gpu: row.integer(1),
        util_pct: row.number(2).and_then(Percent::from_thousandths),
        memory_used_mb: row.number(3).and_then(Mebibytes::from_thousandths),
        temperature_c: row.number(4).and_then(Celsius::from_thousandths),
        power_w: row.thousandths(5).and_then(Watts::from_thousandths),
        state,
    }
}
