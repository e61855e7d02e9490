//! How soon does the history answer, on files in their steady state: one sealed block a minute?
//!
//!     cargo bench --bench history -- [--rounds 50] [--day]
//!
//! A queen takes and seals one minute of a fleet over HTTP. The minutes that follow are copies of
//! that block, moved on in time: sums do not say where they stand. Hours are not rolled up: no
//! question here needs them. Then she is asked over HTTP. `sqlite3` must be there.

mod queen;

use std::fmt::Write;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use ::queen::clock::Clock;
use clap::Parser;
use serde_json::{Value, json};
use tempfile::TempDir;

use self::queen::{Queen, Result, quantiles};

#[derive(Parser)]
struct Args {
    /// How often each question is asked
    #[arg(long, default_value_t = 50)]
    rounds: usize,
    /// Only the questions to the day of 1,000 workers, the dashboard's among them
    #[arg(long)]
    day: bool,
    /// Given by `cargo bench`, and not by `cargo test`, which runs benchmarks too
    #[arg(long, hide = true)]
    bench: bool,
}

const MINUTE_MS: i64 = 60_000;
const HOUR_MS: i64 = 3_600_000;
const WORKERS_PER_HIVE: usize = 16;
const MODELS: usize = 8;
/// The longest that anything is waited for.
const PATIENCE: Duration = Duration::from_secs(300);

fn main() -> Result<()> {
    let args = Args::parse();
    if !args.bench {
        println!("run with: cargo bench --bench history");
        return Ok(());
    }
    if !args.day {
        ask_hour(args.rounds)?;
    }
    let day =
        Fleet { hives: 1000_usize.div_ceil(WORKERS_PER_HIVE), minutes: 24 * 60, readings: false }
            .build()?;
    let models = json!({"metric": "gpu_util_pct", "step": "1m", "group_by": "model"});
    let values = 24 * 60 * MODELS;
    day.ask("1,000 workers by model per minute, 24 h", 200, values, models, args.rounds)?;
    day.show(args.rounds)?;
    day.scrape(args.rounds)
}

/// The questions to an hour of 2,000 workers.
fn ask_hour(rounds: usize) -> Result<()> {
    let hour = Fleet { hives: 125, minutes: 60, readings: true }.build()?;
    let one = json!({"metric": "cpu_pct", "step": "1s",
        "match": ["hive=bench-42", "group=llm", "instance=8005"]});
    hour.ask("one worker's raw hour, of 2,000 workers", 5, 3600, one, rounds)?;
    let mean = json!({"metric": "gpu_util_pct", "step": "1m", "group_by": []});
    hour.ask("mean of 2,000 workers per minute, one hour", 30, 60, mean, rounds)
}

/// What is made up.
struct Fleet {
    hives: usize,
    minutes: i64,
    /// Whether there are single readings beside the sums: for a day they are gigabytes that the
    /// questions do not touch.
    readings: bool,
}

/// A file full of it.
struct Filled {
    queen: Queen,
    agent: ureq::Agent,
    /// ms since the epoch.
    start: i64,
    end: i64,
    _home: TempDir,
}

impl Fleet {
    fn build(&self) -> Result<Filled> {
        let began = Instant::now();
        let home = tempfile::tempdir()?;
        let file = home.path().join("queen.db");
        let now = Clock::system().now().millis();
        let span = self.minutes * MINUTE_MS;
        let start = (now - HOUR_MS / 4 - span).div_euclid(HOUR_MS) * HOUR_MS;
        let agent: ureq::Agent =
            ureq::Agent::config_builder().timeout_global(Some(PATIENCE)).build().into();
        let queen = Queen::start(&file, &["--seal-after", "1h"])?;
        for hive in 0..self.hives {
            let lines = (0..60).map(|second| heartbeat(hive, start + second * 1000, second));
            let lines = lines.collect::<Vec<_>>().join("\n");
            let url = format!("{}/v1/hive-heartbeats", queen.url());
            agent.post(url).content_type("application/x-ndjson").send(lines)?;
        }
        drop(queen);
        let queen = Queen::start(&file, &["--seal-after", "1s"])?;
        wait(&file, "SELECT count(*) = 0 FROM heartbeats_live")?;
        if sqlite3(&file, "SELECT count(*) FROM blocks")?.trim() != "1" {
            return Err("the minute was not sealed in one block".into());
        }
        drop(queen);
        self.copy(&file)?;
        let queen = Queen::start(&file, &["--min-free-disk", "0B"])?;
        println!(
            "{} workers, {} minutes, {}: {} MiB, made in {:.0} s",
            self.hives * WORKERS_PER_HIVE,
            self.minutes,
            if self.readings { "readings and sums" } else { "sums" },
            std::fs::metadata(&file)?.len() >> 20,
            began.elapsed().as_secs_f64(),
        );
        Ok(Filled { queen, agent, start, end: start + span, _home: home })
    }

    /// Moves copies of the one block on, minute after minute.
    fn copy(&self, file: &Path) -> Result<()> {
        let (last, raw) = (self.minutes - 1, i64::from(self.readings));
        let readings = if self.readings {
            "INSERT INTO samples SELECT row + minute * (SELECT end_row FROM blocks), cpu_pct, rss_mb,
                    io_r_mb_s, io_w_mb_s, uptime_s, gpu_util_pct, vram_mb, requests_running,
                    requests_waiting, kv_cache_pct, gpus
               FROM later CROSS JOIN samples;
             INSERT INTO sample_index SELECT block + minute, run,
                    row + minute * (SELECT end_row FROM blocks), ts, span
               FROM later CROSS JOIN sample_index WHERE block = 1;"
        } else {
            ""
        };
        let script = format!(
            "PRAGMA synchronous = OFF;
             BEGIN;
             CREATE TEMP TABLE later AS WITH RECURSIVE m (minute) AS
                 (SELECT 1 UNION ALL SELECT minute + 1 FROM m WHERE minute < {last}) SELECT * FROM m;
             {readings}
             INSERT INTO rollup_1m SELECT block + minute, metric, bucket + minute * {MINUTE_MS}, slice,
                    count, series, n, sum, min, max, last, first, last_t, first_t
               FROM later CROSS JOIN rollup_1m WHERE block = 1;
             INSERT INTO blocks SELECT block + minute, min_ts + minute * {MINUTE_MS},
                    max_ts + minute * {MINUTE_MS}, min_id + minute * 60000000,
                    max_id + minute * 60000000, heartbeats, samples, {raw},
                    first_row + minute * end_row, end_row * (1 + minute)
               FROM later CROSS JOIN blocks WHERE block = 1;
             UPDATE progress SET rolled_ts = (SELECT max(max_ts) + 1 FROM blocks);
             COMMIT;"
        );
        sqlite3(file, &script).map(drop)
    }
}

impl Filled {
    /// Asks again and again, and compares with what it should take (ms).
    fn ask(
        &self,
        what: &str,
        limit_ms: u64,
        values: usize,
        mut question: Value,
        rounds: usize,
    ) -> Result<()> {
        question["start"] = self.start.into();
        question["end"] = self.end.into();
        let url = format!("{}/v1/history/query", self.queen.url());
        let mut times = Vec::with_capacity(rounds);
        let before = self.queen.cpu_seconds()?;
        for _ in 0..=rounds {
            let began = Instant::now();
            let mut answer = self
                .agent
                .post(&url)
                .content_type("application/json")
                .send(question.to_string())?;
            let text = answer.body_mut().read_to_string()?;
            times.push(began.elapsed());
            let answer: Value = serde_json::from_str(&text)?;
            let series = answer["series"].as_array().ok_or("no series")?;
            let known = |series: &Value| {
                series["values"]
                    .as_array()
                    .map_or(0, |values| values.iter().filter(|v| v.is_number()).count())
            };
            let found: usize = series.iter().map(known).sum();
            if found != values {
                return Err(format!("{found} values instead of {values}").into());
            }
        }
        let cpu_ms = (self.queen.cpu_seconds()? - before) * 1e3 / times.len() as f64;
        let first = times.remove(0);
        times.sort_unstable();
        println!("{what}, to be under {limit_ms} ms");
        println!(
            "  {}  first {:.1} ms; queen {cpu_ms:.1} ms of cpu each, {:.0} MiB at most with the pages of the file",
            quantiles(&times),
            first.as_secs_f64() * 1e3,
            self.queen.peak_memory_mb()?
        );
        Ok(())
    }
}

/// What a dashboard of twelve panels asks for.
const PANELS: [(&str, &str); 12] = [
    ("workers_online", "{}"),
    ("workers_busy", "{}"),
    ("gpu_util_pct", r#"{"group_by": []}"#),
    ("gpu_util_pct", r#"{"group_by": "model"}"#),
    ("gpu_util_pct", r#"{"group_by": "hive", "agg": "max", "across": "max"}"#),
    ("vram_mb", r#"{"group_by": "model", "across": "sum"}"#),
    ("vram_mb", r#"{"group_by": "hive", "agg": "max", "across": "sum"}"#),
    ("requests_running", r#"{"group_by": "model", "across": "sum"}"#),
    ("requests_waiting", r#"{"group_by": "model", "across": "sum"}"#),
    ("kv_cache_pct", r#"{"group_by": "model", "agg": "max", "across": "max"}"#),
    ("cpu_pct", r#"{"group_by": "hive", "across": "sum"}"#),
    ("rss_mb", r#"{"group_by": "hive", "across": "sum"}"#),
];

impl Filled {
    /// Opens a dashboard again and again: all of its panels ask at once.
    fn show(&self, rounds: usize) -> Result<()> {
        let url = format!("{}/grafana/query", self.queen.url());
        let range = json!({"from": moment(self.start), "to": moment(self.end)});
        let ask = |(metric, payload): (&str, &str)| -> std::result::Result<usize, String> {
            let body = json!({"range": range, "maxDataPoints": 550, "intervalMs": 120_000,
                "targets": [{"refId": "A", "target": metric, "payload": payload}]});
            let request = self.agent.post(&url).content_type("application/json");
            let mut answer = request.send(body.to_string()).map_err(|error| error.to_string())?;
            let text = answer.body_mut().read_to_string().map_err(|error| error.to_string())?;
            let frames: Vec<Value> =
                serde_json::from_str(&text).map_err(|error| error.to_string())?;
            let points = |frame: &Value| frame["datapoints"].as_array().map_or(0, Vec::len);
            Ok(frames.iter().map(points).sum())
        };
        let mut times = Vec::with_capacity(rounds);
        for _ in 0..=rounds {
            let began = Instant::now();
            std::thread::scope(|scope| {
                let panels = PANELS.map(|panel| scope.spawn(move || ask(panel)));
                for panel in panels {
                    let points = panel.join().map_err(|_| "a panel failed")??;
                    if points == 0 {
                        return Err("a panel is empty".into());
                    }
                }
                Result::Ok(())
            })?;
            times.push(began.elapsed());
        }
        let first = times.remove(0);
        times.sort_unstable();
        println!("12 panels at once, 24 h of 1,000 workers, to be under 1000 ms");
        println!("  {}  first {:.1} ms", quantiles(&times), first.as_secs_f64() * 1e3);
        Ok(())
    }

    /// Posts the newest readings of the fleet and asks for `/metrics`.
    fn scrape(&self, rounds: usize) -> Result<()> {
        let hives = 1000_usize.div_ceil(WORKERS_PER_HIVE);
        for hive in 0..hives {
            let url = format!("{}/v1/hive-heartbeat", self.queen.url());
            let body = heartbeat(hive, Clock::system().now().millis(), 0);
            self.agent.post(&url).content_type("application/json").send(body)?;
        }
        let url = format!("{}/metrics", self.queen.url());
        let (mut times, mut bytes) = (Vec::with_capacity(rounds), 0);
        let began_all = Instant::now();
        // Hives that are silent for long are left out.
        while times.len() < rounds && began_all.elapsed() < Duration::from_secs(4) {
            let began = Instant::now();
            let text = self.agent.get(&url).call()?.body_mut().read_to_string()?;
            times.push(began.elapsed());
            let workers = text.lines().filter(|line| line.starts_with("worker_info{")).count();
            if workers != hives * WORKERS_PER_HIVE {
                return Err(format!("{workers} workers instead of all").into());
            }
            bytes = text.len();
        }
        times.sort_unstable();
        println!("/metrics with {} workers, to be under 50 ms", hives * WORKERS_PER_HIVE);
        println!("  {}  {} KiB, asked {} times", quantiles(&times), bytes >> 10, times.len());
        Ok(())
    }
}

/// Runs SQL with the `sqlite3` program.
fn sqlite3(file: &Path, sql: &str) -> Result<String> {
    let out = Command::new("sqlite3")
        .args(["-bail", "-cmd", ".timeout 10000"])
        .arg(file)
        .arg(sql)
        .output()?;
    if !out.status.success() {
        return Err(String::from_utf8_lossy(&out.stderr).into());
    }
    Ok(String::from_utf8(out.stdout)?)
}

/// Waits until a query gives 1.
fn wait(file: &Path, sql: &str) -> Result<()> {
    let began = Instant::now();
    while sqlite3(file, sql)?.trim() != "1" {
        if began.elapsed() > PATIENCE {
            return Err(format!("not in time: {sql}").into());
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    Ok(())
}

/// A heartbeat with every figure but those of GPUs' devices.
fn heartbeat(hive: usize, ms: i64, second: i64) -> String {
    let mut body = format!(
        r#"{{"hive":{{"id":"bench-{hive}"}},"timestamp":"{}","interval_ms":1000,"workers":["#,
        moment(ms)
    );
    for worker in 0..WORKERS_PER_HIVE {
        let comma = if worker == 0 { "" } else { "," };
        let run = hive * WORKERS_PER_HIVE + worker;
        let mixed = (run as i64 * 7919 + second * 104_729) % 100_003;
        let _ = write!(
            body,
            r#"{comma}{{"pid":{pid},"group":"llm","instance":"{port}","cpu_pct":{cpu},"rss_mb":{rss},"gpu_util_pct":{util},"vram_mb":8192,"total_vram_mb":24576,"model":"model-{model}","uptime_s":{second},"io_r_mb_s":0.0,"io_w_mb_s":0.0,"requests_running":{util},"requests_waiting":0,"kv_cache_pct":{util}}}"#,
            pid = 1000 + worker,
            port = 8000 + worker,
            cpu = mixed as f64 / 1000.0,
            rss = 4096 + second,
            util = mixed % 101,
            model = run % MODELS,
        );
    }
    body.push_str("]}");
    body
}

/// A moment (ms since the epoch) as it stands on the wire.
fn moment(ms: i64) -> String {
    ::queen::clock::moment(ms * 1000).to_string()
}
