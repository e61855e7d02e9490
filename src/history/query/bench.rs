//! How long questions take on a file in its steady state: one block a minute.
//!
//!     cargo test --release -p queen --lib -- --ignored --nocapture questions_are_fast
//!
//! Builds a file with the readings of 2,000 workers over an hour, and one with the sums of
//! 1,000 workers over a day, and prints how long three questions take.

use std::time::{Duration, Instant};

use sqlx::{Connection, QueryBuilder, Sqlite, SqliteConnection};

use super::{Across, Agg, Fill, Label, Matcher, Request, Step, query};
use crate::history::insert::insert;
use crate::history::metric::{self, Metric};
use crate::history::rollup::{Accumulator, MINUTE_MS, Summary};
use crate::history::seal::{RollupRow, insert_rollups};
use crate::history::{Durability, Reader};

const START: i64 = 1_764_000_000_000 / MINUTE_MS * MINUTE_MS;
const WORKERS_PER_HIVE: i64 = 16;
const MODELS: i64 = 8;
/// As many as the hives in one slice of sealing.
const WORKERS_PER_SLICE: i64 = 128;
const RUNS: usize = 20;

async fn build(connection: &mut SqliteConnection, workers: i64, minutes: i64, raw: bool) {
    let mut transaction = connection.begin().await.unwrap();
    let c = &mut *transaction;
    let hives: Vec<i64> = (1..=workers / WORKERS_PER_HIVE + 1).collect();
    let bind = |values: &mut crate::history::insert::Values<'_>, hive: &i64| {
        values.push_bind(*hive).push_bind(format!("hive-{hive}"));
    };
    insert("INSERT INTO hives (hive, id) ", &hives, bind, "", c).await.unwrap();
    let runs: Vec<i64> = (1..=workers).collect();
    let bind = |values: &mut crate::history::insert::Values<'_>, run: &i64| {
        values.push_bind(*run).push_bind(1 + (run - 1) / WORKERS_PER_HIVE);
        values.push_bind("llm").push_bind((8080 + run % WORKERS_PER_HIVE).to_string());
        values.push_bind(1000 + run).push_bind(format!("model-{}", run % MODELS));
        values.push_bind(24_576_i64);
    };
    let statement =
        "INSERT INTO worker_runs (run, hive, \"group\", instance, pid, model, total_vram_mb) ";
    insert(statement, &runs, bind, "", c).await.unwrap();
    for minute in 0..minutes {
        let (block, bucket) = (minute + 1, START + minute * MINUTE_MS);
        let figure = |run: i64, second: i64| {
            let mixed = (run * 7919 + (minute * 60 + second) * 104_729) % 100_003;
            (mixed as u64, (mixed % 101) as u64 * 1000)
        };
        for (slice, of) in runs.chunks(WORKERS_PER_SLICE as usize).enumerate() {
            let mut sums = Accumulator::default();
            for &run in of {
                for second in 0..60 {
                    let ts = bucket + second * 1000;
                    let (cpu, util) = figure(run, second);
                    sums.add(metric::WORKER_PRESENT, bucket, run, &Summary::of(1000, ts));
                    sums.add(1, bucket, run, &Summary::of(cpu, ts));
                    sums.add(metric::GPU_UTIL, bucket, run, &Summary::of(util, ts));
                }
            }
            let row = |(metric, bucket, columns)| RollupRow {
                block,
                metric,
                bucket,
                slice: slice as i64,
                columns,
            };
            let rows: Vec<RollupRow> = sums.rows().map(row).collect();
            insert_rollups("rollup_1m", &rows, c).await.unwrap();
        }
        if raw {
            let samples: Vec<(i64, i64)> =
                runs.iter().flat_map(|&run| (0..60).map(move |second| (run, second))).collect();
            let bind = |values: &mut crate::history::insert::Values<'_>,
                        &(run, second): &(i64, i64)| {
                let (cpu, util) = figure(run, second);
                values.push_bind(block).push_bind(run).push_bind(second * 1000);
                values.push_bind(cpu.cast_signed()).push_bind(4096_i64 + second);
                values.push_bind(0_i64).push_bind(0_i64).push_bind(minute * 60 + second);
                values.push_bind((util / 1000).cast_signed()).push_bind(8192_i64);
            };
            let statement = "INSERT INTO samples (block, run, ts, cpu_pct, rss_mb, io_r_mb_s, \
                             io_w_mb_s, uptime_s, gpu_util_pct, vram_mb) ";
            insert(statement, &samples, bind, "", c).await.unwrap();
        }
        let mut listed = QueryBuilder::<Sqlite>::new("INSERT INTO blocks VALUES (");
        let mut values = listed.separated(", ");
        for value in [block, bucket, bucket + 59_000, bucket * 1000, (bucket + 59_000) * 1000] {
            values.push_bind(value);
        }
        values.push_bind(60 * workers / WORKERS_PER_HIVE).push_bind(60 * workers);
        values.push_bind(i64::from(raw));
        values.push_unseparated(")");
        listed.build().execute(&mut *c).await.unwrap();
    }
    transaction.commit().await.unwrap();
}

async fn measure(name: &str, reader: &Reader, request: &Request) {
    let mut times: Vec<Duration> = Vec::new();
    let (mut series, mut values) = (0, 0);
    for _ in 0..=RUNS {
        let began = Instant::now();
        let answer = query(reader, request).await.unwrap();
        times.push(began.elapsed());
        series = answer.series.len();
        values = answer.series.iter().flat_map(|s| &s.values).flatten().count();
    }
    let first = times.remove(0);
    times.sort_unstable();
    println!(
        "{name}: p50 {:?}, p99 {:?}, first {first:?}; {series} series, {values} values",
        times[RUNS / 2],
        times[RUNS - 1]
    );
}

fn ask(metric: &str, minutes: i64, step: i64) -> Request {
    Request {
        metrics: vec![Metric::named(metric).unwrap()],
        start: START,
        end: START + minutes * MINUTE_MS,
        step: Step::Fixed(step),
        agg: Agg::Avg,
        group_by: None,
        across: Across::Avg,
        matchers: Vec::new(),
        fill: Fill::Null,
        limit: 100,
    }
}

async fn file(path: &std::path::Path, workers: i64, minutes: i64, raw: bool) -> Reader {
    let began = Instant::now();
    let mut database = crate::history::open(path, Durability::Normal).await.unwrap();
    build(&mut database.writer, workers, minutes, raw).await;
    database.close().await;
    let bytes = std::fs::metadata(path).unwrap().len();
    println!(
        "{workers} workers, {minutes} minutes: {} MiB, built in {:?}",
        bytes >> 20,
        began.elapsed()
    );
    Reader::new(path, Duration::from_secs(60))
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes half a minute and a gigabyte"]
async fn questions_are_fast() {
    let home = tempfile::tempdir().unwrap();
    let reader = file(&home.path().join("hour.db"), 2000, 60, true).await;
    let one = vec![
        Matcher::equal(Label::Hive, "hive-42"),
        Matcher::equal(Label::Group, "llm"),
        Matcher::equal(Label::Instance, "8081"),
    ];
    let raw = Request { matchers: one.clone(), ..ask("cpu_pct", 60, 1000) };
    measure("one worker's raw hour", &reader, &raw).await;
    let p95 = Request { agg: Agg::P95, matchers: one, ..ask("cpu_pct", 60, 60_000) };
    measure("one worker's p95 per minute", &reader, &p95).await;
    let fleet = Request { group_by: Some(Vec::new()), ..ask("gpu_util_pct", 60, 60_000) };
    measure("the fleet's mean per minute", &reader, &fleet).await;
    let off = Request { start: START + 12_345, ..fleet.clone() };
    measure("the same, not from a whole minute on", &reader, &off).await;
    let online = Request { group_by: None, ..ask("workers_online", 60, 60_000) };
    measure("workers online per minute", &reader, &online).await;
    let each = Request { limit: 1000, ..ask("gpu_util_pct", 60, 60_000) };
    measure("1,000 of 2,000 workers per minute", &reader, &each).await;
    let fine = Request { group_by: Some(vec![Label::Model]), ..ask("gpu_util_pct", 60, 15_000) };
    measure("by model per 15 s, from 7.2 M readings", &reader, &fine).await;

    let reader = file(&home.path().join("day.db"), 1000, 24 * 60, false).await;
    let models =
        Request { group_by: Some(vec![Label::Model]), ..ask("gpu_util_pct", 24 * 60, 60_000) };
    measure("24 h of 1,000 workers by model per minute", &reader, &models).await;
    let max = Request { agg: Agg::Max, across: Across::Max, ..models.clone() };
    measure("the same, largest", &reader, &max).await;
    let hours = Request { step: Step::Fixed(3_600_000), ..models };
    measure("the same per hour", &reader, &hours).await;
}
