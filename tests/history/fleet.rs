//! Three machines over some hours, made up: the heartbeats, and the readings in them.

use std::collections::BTreeMap;

use serde_json::{Value, json};

/// One reading: what it is of, and its figures in thousandths.
#[derive(Debug, Clone)]
pub(crate) struct Reading {
    pub(crate) kind: Kind,
    pub(crate) ts: i64,
    pub(crate) labels: BTreeMap<&'static str, String>,
    pub(crate) figures: BTreeMap<&'static str, u64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Worker,
    Gpu,
    Hive,
}

/// A heartbeat and what it says.
#[derive(Debug, Clone)]
pub(crate) struct Heartbeat {
    pub(crate) ts: i64,
    pub(crate) json: Value,
    pub(crate) readings: Vec<Reading>,
}

/// Numbers that are the same in every run.
pub(crate) struct Numbers(u64);

impl Numbers {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub(crate) fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % limit
    }

    /// A figure, or none in one case of so many.
    fn figure(&mut self, max: u64, unit: u64, null_in: u64) -> Option<u64> {
        (self.below(null_in) > 0).then(|| self.below(max) * unit)
    }
}

/// The three machines' heartbeats from `start` (ms) on, every 20 s with some missing.
pub(crate) fn heartbeats(start: i64, span_ms: i64) -> Vec<Heartbeat> {
    let mut numbers = Numbers::new(7);
    let mut all = Vec::new();
    for hive in 0..3 {
        let mut ts = start + hive * 137;
        while ts < start + span_ms {
            // A gap of some minutes on one machine.
            let gap = hive == 1 && (ts - start) / 600_000 == 3;
            if !gap && numbers.below(20) > 0 {
                all.push(heartbeat(hive, ts, start, &mut numbers));
            }
            ts += 20_000;
        }
    }
    all
}

fn heartbeat(hive: i64, ts: i64, start: i64, numbers: &mut Numbers) -> Heartbeat {
    let id = format!("hive-{hive}");
    let minute = (ts - start) / 60_000;
    let mut readings = Vec::new();
    let mut workers = Vec::new();
    for worker in 0..3_i64 {
        // One comes late and goes early.
        if worker == 2 && !(20..70).contains(&minute) {
            continue;
        }
        let pid = 1000 + worker * 100 + minute / 37;
        let models = ["llama-3.2-1b", "qwen \"q\", 7b", "mistral.7b"];
        let model = match (worker, minute / 25) {
            (0, change) => Some(models[change as usize % 3]),
            (1, _) => Some(models[hive as usize]),
            _ => None,
        };
        let total = (worker != 2).then_some(24_576_000 + (worker as u64) * 500);
        let group = if worker == 1 { "embed" } else { "llm" };
        let figures: Vec<(&'static str, Option<u64>)> = vec![
            ("cpu_pct", numbers.figure(1_600_000, 1, 10)),
            ("rss_mb", numbers.figure(65_536, 500, 10)),
            ("gpu_util_pct", numbers.figure(4, 25_000, 6)),
            ("vram_mb", numbers.figure(24_576, 1000, 10)),
            ("total_vram_mb", total),
            ("uptime_s", Some((minute as u64) * 60_000)),
            ("io_r_mb_s", numbers.figure(3, 1234, 2)),
            ("io_w_mb_s", None),
            ("requests_running", numbers.figure(9, 1000, 3)),
            ("requests_waiting", numbers.figure(100, 1000, 30)),
            ("kv_cache_pct", if hive == 0 { numbers.figure(100_001, 1, 4) } else { None }),
        ];
        let mut json = json!({"pid": pid, "group": group, "instance": (8080 + worker).to_string(),
                              "model": model});
        put(&mut json, &figures, |name| name);
        workers.push(json);
        let labels = [
            ("hive", id.clone()),
            ("group", group.into()),
            ("instance", (8080 + worker).to_string()),
            ("model", model.unwrap_or_default().into()),
            ("pid", pid.to_string()),
        ];
        readings.push(reading(Kind::Worker, ts, labels.into(), figures));
    }
    let mut gpus = Vec::new();
    for gpu in 0..2_u64 {
        let figures = vec![
            ("gpu_device_util_pct", numbers.figure(101, 1000, 8)),
            ("gpu_memory_used_mb", numbers.figure(81_559, 250, 8)),
            ("gpu_memory_total_mb", (gpu == 0).then_some(81_559_000)),
            ("gpu_temperature_c", numbers.figure(90, 1000, 8)),
            ("gpu_power_w", numbers.figure(700_000, 1, 8)),
        ];
        let name = if gpu == 0 { "NVIDIA H100" } else { "" };
        let uuid = format!("GPU-{hive}-{gpu}");
        let mut json = json!({"uuid": uuid, "index": gpu});
        if !name.is_empty() {
            json["name"] = name.into();
        }
        put(&mut json, &figures, |name| match name {
            "gpu_device_util_pct" => "util_pct",
            name => &name[4..],
        });
        gpus.push(json);
        let labels = [
            ("hive", id.clone()),
            ("gpu", uuid),
            ("index", gpu.to_string()),
            ("name", name.to_owned()),
        ];
        readings.push(reading(Kind::Gpu, ts, labels.into(), figures));
    }
    let total = if minute < 60 { 131_072_000 } else { 262_144_500 };
    let figures = vec![
        ("node_cpu_pct", numbers.figure(1_600_000, 1, 8)),
        ("node_memory_used_mb", numbers.figure(131_072, 1000, 8)),
        ("node_memory_total_mb", (hive != 2).then_some(total)),
        ("node_load_1m", numbers.figure(64_000, 1, 8)),
    ];
    let mut node = json!({"cpu_count": 16});
    put(&mut node, &figures, |name| &name[5..]);
    readings.push(reading(Kind::Hive, ts, [("hive", id.clone())].into(), figures));
    let json = json!({"hive": {"id": id}, "timestamp": rfc3339(ts), "interval_ms": 20_000,
                      "workers": workers, "gpus": gpus, "node": node});
    Heartbeat { ts, json, readings }
}

fn put(
    json: &mut Value,
    figures: &[(&'static str, Option<u64>)],
    wire: impl Fn(&'static str) -> &'static str,
) {
    for &(name, figure) in figures {
        if let Some(figure) = figure {
            json[wire(name)] = (figure as f64 / 1000.0).into();
        }
    }
    // Counts are whole on the wire.
    for name in ["requests_running", "requests_waiting"] {
        if let Some(count) = json[name].as_f64() {
            json[name] = (count as u64).into();
        }
    }
}

fn reading(
    kind: Kind,
    ts: i64,
    labels: BTreeMap<&'static str, String>,
    figures: Vec<(&'static str, Option<u64>)>,
) -> Reading {
    let figures = figures.into_iter().filter_map(|(name, figure)| Some((name, figure?)));
    Reading { kind, ts, labels, figures: figures.collect() }
}

pub(crate) fn rfc3339(ts: i64) -> String {
    hive_contract::Timestamp::from_millis(ts).unwrap().to_string()
}

/// The present, in ms since the epoch.
#[expect(clippy::disallowed_methods, reason = "readings must be recent to be taken")]
pub(crate) fn now() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    since.as_millis() as i64
}
