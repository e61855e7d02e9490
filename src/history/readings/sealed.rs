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
use crate::history::raw::{Damaged, Handle, RawError, Row, Statement, Values};

/// Readings of one hive that are no further apart (ms) are read together, though one between them
/// may not be asked for: to read it costs less than to look for each by itself.
const NEAR_MS: i64 = 5000;

/// Reads the rows of those entries that are sealed, to their places. A reading of which a part cannot
/// be read, which only damage can bring about, is missing: without it, it would pass for a whole one.
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
                    rows[place] = head(row, entries[place].workers).ok();
                }
            },
        )?;
        samples.each(
            handle,
            |values| stretch.bind(values),
            |row| {
                let Some(place) = stretch.place(row) else { return };
                match (&mut rows[place], sample(row)) {
                    (Some(rows), Ok(sample)) => rows.samples.push(sample),
                    (rows, _) => *rows = None,
                }
            },
        )?;
        gpu_samples.each(
            handle,
            |values| stretch.bind(values),
            |row| {
                let Some(place) = stretch.place(row) else { return };
                match (&mut rows[place], gpu_sample(row)) {
                    (Some(rows), Ok(sample)) => rows.gpus.push(sample),
                    (rows, _) => *rows = None,
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

/// A figure in thousandths; absent where it is out of range.
fn figure<T>(
    thousandths: Result<Option<u64>, Damaged>,
    from: fn(u64) -> Option<T>,
) -> Result<Option<T>, Damaged> {
    Ok(thousandths?.and_then(from))
}

/// A row of `sealed_heads.sql`, with room for so many workers.
fn head(row: &Row<'_>, workers: i64) -> Result<Rows, Damaged> {
    let errors = row.is_text(11).then(|| serde_json::from_slice(row.text(11)).ok()).flatten();
    let node = Node {
        cpu_pct: figure(row.thousandths(2), CpuPercent::from_thousandths)?,
        memory_used_mb: figure(row.number(3), Mebibytes::from_thousandths)?,
        load_1m: figure(row.thousandths(4), Load::from_thousandths)?,
        uptime_s: figure(row.number(5), Seconds::from_thousandths)?,
        cpu_count: None,
        memory_total_mb: None,
    };
    let agent = Agent {
        version: None,
        cpu_pct: figure(row.thousandths(6), CpuPercent::from_thousandths)?,
        rss_mb: figure(row.number(7), Mebibytes::from_thousandths)?,
        collect_ms: figure(row.thousandths(8), Milliseconds::from_thousandths)?,
        spooled: figure(row.number(9), Count::from_thousandths)?,
        gpu_age_ms: figure(row.number(10), Milliseconds::from_thousandths)?,
        errors: errors.unwrap_or_default(),
    };
    let node = NodeRow { description: row.integer(1), node, agent };
    let workers = usize::try_from(workers).unwrap_or(0).min(MAX_WORKERS);
    Ok(Rows { samples: Vec::with_capacity(workers), gpus: Vec::new(), node })
}

/// A row of `sealed_samples.sql`.
fn sample(row: &Row<'_>) -> Result<SampleRow, Damaged> {
    let figures = Figures {
        cpu_pct: figure(row.thousandths(2), CpuPercent::from_thousandths)?,
        rss_mb: figure(row.whole_or_negative(3), Mebibytes::from_thousandths)?,
        io_r_mb_s: figure(row.thousandths(4), MebibytesPerSecond::from_thousandths)?,
        io_w_mb_s: figure(row.thousandths(5), MebibytesPerSecond::from_thousandths)?,
        uptime_s: figure(row.whole_or_negative(6), Seconds::from_thousandths)?,
        gpu_util_pct: figure(row.whole_or_negative(7), Percent::from_thousandths)?,
        vram_mb: figure(row.whole_or_negative(8), Mebibytes::from_thousandths)?,
        requests_running: figure(row.number(9), Count::from_thousandths)?,
        requests_waiting: figure(row.number(10), Count::from_thousandths)?,
        kv_cache_pct: figure(row.thousandths(11), Percent::from_thousandths)?,
    };
    // A number is that GPU alone, with the worker's own figures.
    let gpus = if row.is_text(12) {
        codec::parse_worker_gpus(row.text(12)).map_err(|_| Damaged)?
    } else {
        let Figures { gpu_util_pct: util_pct, vram_mb, .. } = figures;
        let alone = row.optional(12).map(|gpu| WorkerGpuRow { gpu, util_pct, vram_mb });
        alone.into_iter().collect()
    };
    Ok(SampleRow { run: row.integer(1), figures, gpus })
}

/// A row of `sealed_gpu_samples.sql`.
fn gpu_sample(row: &Row<'_>) -> Result<GpuRow, Damaged> {
    let state = row.is_text(6).then(|| Text::cut(&String::from_utf8_lossy(row.text(6))));
    Ok(GpuRow {
        gpu: row.integer(1),
        util_pct: figure(row.number(2), Percent::from_thousandths)?,
        memory_used_mb: figure(row.number(3), Mebibytes::from_thousandths)?,
        temperature_c: figure(row.number(4), Celsius::from_thousandths)?,
        power_w: figure(row.thousandths(5), Watts::from_thousandths)?,
        state,
    })
}
