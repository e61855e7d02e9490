//! Every combination of the parameters, wherever the readings stand.

use serde_json::Value;

use super::fleet::{Heartbeat, Numbers, Reading, heartbeats, now};
use super::queen::{Home, Queen};
use super::reference::{Condition, Question, Series};

const HOUR: i64 = 3_600_000;
const MINUTE: i64 = 60_000;
const SPAN: i64 = 2 * HOUR + 25 * MINUTE;

const AGGS: [&str; 10] =
    ["avg", "min", "max", "sum", "count", "first", "last", "p50", "p95", "p99"];
const ACROSS: [&str; 5] = ["avg", "sum", "min", "max", "count"];
const FILLS: [&str; 4] = ["null", "none", "previous", "zero"];
const STEPS: [i64; 6] = [15_000, MINUTE, 90_000, 7 * MINUTE, HOUR, 2 * HOUR];

const WORKER_METRICS: [&str; 13] = [
    "cpu_pct",
    "rss_mb",
    "io_r_mb_s",
    "io_w_mb_s",
    "gpu_util_pct",
    "vram_mb",
    "total_vram_mb",
    "uptime_s",
    "requests_running",
    "requests_waiting",
    "kv_cache_pct",
    "workers_online",
    "workers_busy",
];
const GPU_METRICS: [&str; 5] = [
    "gpu_device_util_pct",
    "gpu_memory_used_mb",
    "gpu_memory_total_mb",
    "gpu_temperature_c",
    "gpu_power_w",
];
const HIVE_METRICS: [&str; 5] =
    ["node_cpu_pct", "node_memory_used_mb", "node_memory_total_mb", "node_load_1m", "hives_online"];

fn conditions() -> Vec<Option<Condition>> {
    let condition = |text, label, holds| Some(Condition { text, label, holds });
    vec![
        None,
        condition("hive=hive-1", "hive", |v| v == "hive-1"),
        condition("hive!=hive-1", "hive", |v| v != "hive-1"),
        condition("model=~llama.*|mistral.7b", "model", |v| {
            v.starts_with("llama") || v == "mistral.7b"
        }),
        condition("model!~llama.*", "model", |v| !v.starts_with("llama")),
        condition("model=", "model", str::is_empty),
        condition("model=qwen \"q\", 7b", "model", |v| v == "qwen \"q\", 7b"),
        condition("instance=8081", "instance", |v| v == "8081"),
        condition("pid=~10.*", "pid", |v| v.starts_with("10")),
        condition("hive=nowhere", "hive", |v| v == "nowhere"),
    ]
}

fn groups(metric: &str) -> Vec<Option<Vec<&'static str>>> {
    let mut groups = vec![None, Some(vec![]), Some(vec!["hive"])];
    if WORKER_METRICS.contains(&metric) {
        groups.extend([
            Some(vec!["model"]),
            Some(vec!["model", "hive"]),
            Some(vec!["instance", "pid"]),
            Some(vec!["group"]),
        ]);
    } else if GPU_METRICS.contains(&metric) {
        groups.extend([Some(vec!["name"]), Some(vec!["index", "gpu"])]);
    }
    groups
}

/// All questions that differ in how they combine, with the rest at random.
fn questions(start: i64, end: i64, share: u64) -> Vec<Question> {
    let mut numbers = Numbers::new(start as u64);
    let mut questions = Vec::new();
    for agg in AGGS {
        for step in STEPS {
            for across in ACROSS {
                for group in 0..7 {
                    if numbers.below(share) > 0 {
                        continue;
                    }
                    let mut pick = |n: usize| numbers.below(n as u64) as usize;
                    let metric = match pick(4) {
                        0 => GPU_METRICS[pick(5)],
                        1 => HIVE_METRICS[pick(5)],
                        _ => WORKER_METRICS[pick(13)],
                    };
                    let groups = groups(metric);
                    let conditions = conditions();
                    // Half of them begin and end at any moment, half at round ones.
                    let mut moment =
                        |unit| start + (pick((end - start) as usize) as i64) / unit * unit;
                    let unit = if agg.len() % 2 == 0 { 1 } else { MINUTE };
                    let (a, b) = (moment(unit), moment(unit));
                    let whole = a == b || pick(3) == 0;
                    questions.push(Question {
                        metric,
                        start: if whole { start } else { a.min(b) },
                        end: if whole { end } else { a.max(b) },
                        step,
                        agg,
                        group_by: groups[group % groups.len()].clone(),
                        across,
                        fill: FILLS[pick(4)],
                        condition: conditions
                            [if pick(2) == 0 { 0 } else { pick(conditions.len()) }],
                    });
                }
            }
        }
    }
    questions
}

fn series(answer: &Value) -> (Vec<i64>, Vec<Series>) {
    let times = serde_json::from_value(answer["times"].clone()).unwrap();
    let series = answer["series"].as_array().unwrap().iter().map(|series| {
        let labels = series["labels"].as_object().unwrap();
        let labels = labels.iter().map(|(k, v)| (k.clone(), v.as_str().unwrap().to_owned()));
        let mut labels: Vec<_> = labels.collect();
        labels.sort();
        (labels, serde_json::from_value(series["values"].clone()).unwrap())
    });
    (times, series.collect())
}

fn same(a: Option<f64>, b: Option<f64>) -> bool {
    match (a, b) {
        (Some(a), Some(b)) => (a - b).abs() <= 1e-9 * a.abs().max(b.abs()).max(1e-3),
        (a, b) => a == b,
    }
}

#[track_caller]
fn check(queen: &Queen, readings: &[Reading], question: &Question, state: &str) -> Value {
    let reply = queen.query(&question.parameters());
    let answer = reply.ok();
    let (times, found) = series(&answer);
    let (expected_times, mut expected) = question.answer(readings);
    expected.iter_mut().for_each(|(labels, _)| labels.sort());
    assert_eq!(times, expected_times, "{state}: {question:?}");
    let labels = |series: &[Series]| series.iter().map(|s| s.0.clone()).collect::<Vec<_>>();
    assert_eq!(labels(&found), labels(&expected), "{state}: {question:?}");
    for ((labels, found), (_, expected)) in found.iter().zip(&expected) {
        for (at, (&found, &expected)) in found.iter().zip(expected).enumerate() {
            assert!(
                same(found, expected),
                "{state}: {question:?}\n{labels:?} at {}: {found:?} instead of {expected:?}",
                times[at]
            );
        }
    }
    answer
}

fn check_all(queen: &Queen, readings: &[Reading], questions: &[Question], state: &str) {
    for question in questions {
        check(queen, readings, question, state);
    }
}

fn jsons<'a>(heartbeats: impl IntoIterator<Item = &'a Heartbeat>) -> Vec<Value> {
    heartbeats.into_iter().map(|heartbeat| heartbeat.json.clone()).collect()
}

fn readings<'a>(heartbeats: impl IntoIterator<Item = &'a Heartbeat>) -> Vec<Reading> {
    heartbeats.into_iter().flat_map(|heartbeat| heartbeat.readings.clone()).collect()
}

/// The same heartbeats again, with other figures: the first stand.
fn duplicates(heartbeats: &[Heartbeat]) -> Vec<Value> {
    let mut again = jsons(heartbeats.iter().step_by(7));
    for heartbeat in &mut again {
        heartbeat["workers"] = serde_json::json!([]);
        heartbeat["gpus"] = serde_json::json!([]);
    }
    again
}

#[test]
fn answers_are_the_same_wherever_the_readings_stand() {
    let start = now() - SPAN - 10 * MINUTE;
    let end = start + SPAN;
    let all = heartbeats(start, SPAN);
    // A third comes late, after the rest was sealed; the end of it stays live.
    let seam = end - 20 * MINUTE;
    let of = |late: bool| {
        let chosen = |h: &&Heartbeat| h.ts < seam && ((h.ts / 1000 % 3 == 0) == late);
        all.iter().filter(chosen).cloned().collect::<Vec<_>>()
    };
    let (first, late) = (of(false), of(true));
    let last: Vec<_> = all.iter().filter(|h| h.ts >= seam).cloned().collect();
    let home = Home::new();

    let queen = home.start(&["--seal-after", "1h"]);
    queen.takes(&jsons(&first));
    queen.takes(&duplicates(&first));
    let (known, asked) = (readings(&first), questions(start, end, 8));
    check_all(&queen, &known, &asked, "live");
    queen.stop();

    let queen = home.start(&["--seal-after", "1s"]);
    home.wait_until_sealed();
    check_all(&queen, &known, &asked, "sealed");
    queen.takes(&jsons(&late));
    queen.takes(&duplicates(&first));
    home.wait_until_sealed();
    queen.stop();

    let queen = home.start(&["--seal-after", "1h"]);
    queen.takes(&jsons(&last));
    queen.takes(&duplicates(&late));
    assert_ne!(home.sql("SELECT count(*) FROM live_rows"), "0");
    let known = readings(&all);
    check_all(&queen, &known, &questions(start, end, 1), "across the seam, with late readings");
    queen.stop();

    // A killed queen's file.
    let queen = home.start(&["--seal-after", "1s"]);
    drop(queen);
    let queen = home.start(&["--seal-after", "1s"]);
    check_all(&queen, &known, &asked, "after a restart");
    home.wait_until_sealed();
    queen.stop();

    rolled_up(&home, &known, start, end);
}

/// Hours from sums by hour, minutes without single readings, hours without minutes.
fn rolled_up(home: &Home, known: &[Reading], start: i64, end: i64) {
    let rolled = end / HOUR * HOUR;
    let queen = home.start(&["--seal-after", "1h"]);
    home.wait_until(&format!("SELECT rolled_ts >= {rolled} FROM progress"));
    queen.stop();
    let queen = home.start(&["--seal-after", "1h"]);
    let mut asked = questions(start, end, 8);
    check_all(&queen, known, &asked, "with hours");
    let simple = asked.iter().find(|q| !["first", "last"].contains(&q.agg)).unwrap();
    let mut whole = Question { step: HOUR, agg: "sum", ..simple.clone() };
    (whole.metric, whole.group_by, whole.condition) = ("cpu_pct", None, None);
    (whole.start, whole.end) = (start, end);
    assert_eq!(check(&queen, known, &whole, "with hours")["resolution"], "1h");
    queen.stop();

    home.sql("UPDATE blocks SET raw = 0; DELETE FROM samples; DELETE FROM gpu_samples; DELETE FROM heartbeats;");
    let queen = home.start(&["--seal-after", "1h"]);
    let percentile = Question { agg: "p95", ..whole.clone() };
    let reply = queen.query(&percentile.parameters());
    assert_eq!(reply.status, 422, "{}", reply.body);
    assert!(reply.body.contains("single readings"), "{}", reply.body);
    asked.retain(|q| !q.agg.starts_with('p') && q.step % MINUTE == 0);
    for question in &mut asked {
        question.start = question.start / MINUTE * MINUTE;
        question.end = (question.end / MINUTE + 1) * MINUTE;
    }
    check_all(&queen, known, &asked, "without single readings");
    // A finer step than what is left shows each minute where it begins.
    let fine = Question { step: 15_000, agg: "sum", fill: "zero", ..whole.clone() };
    let minutes = Question { step: MINUTE, ..fine.clone() };
    let (start, end) = (start / MINUTE * MINUTE, end / MINUTE * MINUTE);
    let total = |question: &Question| {
        let question = Question { start, end, ..question.clone() };
        let (_, series) = series(&queen.query(&question.parameters()).ok());
        series.iter().flat_map(|s| &s.1).flatten().sum::<f64>()
    };
    assert!(same(Some(total(&fine)), Some(total(&minutes))));
    let mut automatic = whole.parameters();
    automatic.retain(|(name, _)| *name != "step");
    let answer = queen.query(&automatic).ok();
    assert_eq!((&answer["step_ms"], &answer["resolution"]), (&MINUTE.into(), &"1m".into()));
    queen.stop();

    // Only hours are left of what the first blocks held, and some of the second stand there too.
    home.sql(
        "UPDATE progress SET minutes_ts = (SELECT max_ts + 1 FROM blocks WHERE block = 1);
         DELETE FROM rollup_1m WHERE block = 1; DELETE FROM blocks WHERE block = 1;",
    );
    let queen = home.start(&["--seal-after", "1h"]);
    let (from, to) = ((start / HOUR + 1) * HOUR, rolled);
    for metric in ["cpu_pct", "total_vram_mb", "gpu_power_w", "node_memory_total_mb"] {
        let question = Question { metric, start: from, end: to, step: HOUR, ..whole.clone() };
        let answer = check(&queen, known, &question, "without minutes");
        assert_eq!(answer["resolution"], "1h");
    }
    let finer = Question { start: from, end: to, step: 10 * MINUTE, ..whole };
    let answer = queen.query(&finer.parameters()).ok();
    assert_eq!(answer["resolution"], "1h");
    queen.stop();
}
