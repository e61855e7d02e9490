//! The questions in `queries/adhoc`, asked with `sqlite3` as people do, on the file of a queen
//! who runs and has sealed one half of it.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};

use crate::support::Queen;
use crate::support::heartbeat::{heartbeat, now_ms, readable};
use crate::support::sqlite::floats;

const HOUR_MS: i64 = 3_600_000;

fn directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("queries/adhoc")
}

/// Asks a question with parameters such as `:day '2026-11-23'`.
#[track_caller]
fn ask(queen: &Queen, question: &str, parameters: &[&str]) -> Value {
    let mut sqlite3 = Command::new("sqlite3");
    sqlite3.args(["-batch", "-bail", "-json", "-cmd", ".timeout 10000"]);
    for parameter in parameters {
        let (name, value) = parameter.split_once(' ').unwrap();
        sqlite3.arg("-cmd").arg(format!(".param set {name} \"{value}\""));
    }
    let file = directory().join(question);
    let out = sqlite3.arg(queen.database()).arg(format!(".read {}", file.display())).output();
    let out = out.expect("the sqlite3 program is installed");
    let said = String::from_utf8_lossy(&out.stderr);
    assert!(out.status.success() && said.is_empty(), "{question}: {said}");
    floats(serde_json::from_slice(&out.stdout).unwrap_or(json!([])))
}

/// Hive `a` with two workers and two GPUs for six seconds, of which one worker restarts and one
/// idles while requests wait for it; hive `b` with a worker, silent for a minute.
struct Fleet {
    queen: Queen,
    /// The first second, at the beginning of an hour: ms since the epoch.
    start: i64,
}

impl Fleet {
    fn new() -> Self {
        let start = (now_ms() - 2 * HOUR_MS) / HOUR_MS * HOUR_MS;
        let queen = Queen::with(&["--seal-after", "1s"]);
        for second in 0..3 {
            queen.takes(&Self::a(start, second));
        }
        queen.takes(&Self::b(start, 0));
        queen.takes(&Self::b(start, 1));
        queen.until_sealed();
        let queen = queen.stop().start(&["--seal-after", "1h"]);
        for second in 3..6 {
            queen.takes(&Self::a(start, second));
        }
        queen.takes(&Self::b(start, 62));
        queen.takes(&Self::b(start, 63));
        assert_eq!(queen.value("SELECT count(*) FROM live_rows"), 5.0, "the other half is live");
        Self { queen, start }
    }

    fn a(start: i64, second: i64) -> Value {
        let at = usize::try_from(second).unwrap();
        let util = [100, 100, 50, 50, 0, 0][at];
        let mut reading = heartbeat("a", start + second * 1000);
        reading["workers"] = json!([
            {"pid": if second < 4 { 10 } else { 11 }, "group": "llm", "instance": "8080",
             "model": "llama", "cpu_pct": 10 * second, "rss_mb": ([1000, 1100, 1200, 1300, 500, 600][at]),
             "gpu_util_pct": util, "vram_mb": ([8000, 8100, 8200, 8100, 4000, 4000][at]),
             "total_vram_mb": 24576, "requests_running": 1,
             "requests_waiting": ([4, 2, 0, 0, 0, 0][at]), "kv_cache_pct": ([95, 96, 50, 85, 0, 0][at])},
            {"pid": 20, "group": "llm", "instance": "8081", "model": "qwen", "rss_mb": 700,
             "gpu_util_pct": 0, "vram_mb": 2000, "total_vram_mb": 24576, "requests_running": 0,
             "requests_waiting": 1, "kv_cache_pct": 10}]);
        reading["gpus"] = json!([
            {"uuid": "GPU-0", "index": 0, "name": "H100", "util_pct": util, "temperature_c": 60 + second,
             "power_w": 300},
            {"uuid": "GPU-1", "index": 1, "name": "H100", "util_pct": 0, "temperature_c": 40,
             "power_w": 60}]);
        reading["node"] = json!({"cpu_count": 8, "memory_used_mb": 1000 + 500 * second,
            "memory_total_mb": 4000, "load_1m": 4 * second});
        reading
    }

    fn b(start: i64, second: i64) -> Value {
        let mut reading = heartbeat("b", start + second * 1000);
        reading["workers"] = json!([{"pid": 1, "group": "llm", "instance": "9090", "model": "llama",
            "gpu_util_pct": 20, "vram_mb": 6000, "total_vram_mb": 8192}]);
        reading["node"] = json!({"cpu_count": 2, "memory_used_mb": 100, "memory_total_mb": 1000,
            "load_1m": 1});
        if second == 63 {
            reading["agent"] = json!({"spooled": 5, "errors": ["gpu 0: lost"]});
        }
        reading
    }

    fn ts(&self, second: i64) -> String {
        readable(self.start + second * 1000)
    }

    fn day(&self) -> String {
        self.ts(0)[..10].to_owned()
    }
}

/// Asks every question and says what the answer must be.
fn expected(fleet: &Fleet) -> Vec<(&'static str, Vec<String>, Value)> {
    let ts = |second| fleet.ts(second);
    let no = Vec::new;
    let set = |parameter: &str| vec![parameter.to_owned()];
    vec![
        (
            "busiest_models.sql",
            vec![format!(":day '{}'", fleet.day()), ":interval_s 3600".into()],
            json!([
                {"model": "llama", "worker_hours": 10, "gpu_busy_hours": 3.8,
                 "mean_gpu_util_pct": 38, "most_workers": 10},
                {"model": "qwen", "worker_hours": 6, "gpu_busy_hours": 0,
                 "mean_gpu_util_pct": 0, "most_workers": 6},
            ]),
        ),
        (
            "gpu_hours_per_day.sql",
            set(":interval_s 3600"),
            json!([
                {"day": fleet.day(), "model": "llama", "loaded_hours": 10, "busy_hours": 3.8},
                {"day": fleet.day(), "model": "qwen", "loaded_hours": 6, "busy_hours": 0},
            ]),
        ),
        (
            "idle_gpus_by_hour.sql",
            no(),
            json!([{"hour": &ts(0)[..16], "gpus": 2, "idle": 1, "idle_gpus": "a/1"}]),
        ),
        (
            "vram_high_water.sql",
            no(),
            json!([
                {"model": "llama", "vram_mb": 8200, "at": ts(2), "worker": "a/llm/8080",
                 "headroom_mb": 16376},
                {"model": "qwen", "vram_mb": 2000, "at": ts(0), "worker": "a/llm/8081",
                 "headroom_mb": 22576},
            ]),
        ),
        (
            "restarted_workers.sql",
            no(),
            json!([{"hive": "a", "group": "llm", "instance": "8080", "restarts": 1,
                    "last_seen_new": ts(4), "model": "llama"}]),
        ),
        (
            "minute_of_incident.sql",
            vec![format!(":at '{}'", &ts(0)[..16])],
            json!([
                {"worker": "a/llm/8080", "model": "llama", "readings": 6, "pids": 2,
                 "max_cpu_pct": 50, "max_rss_mb": 1300, "min_gpu_util_pct": 0,
                 "max_gpu_util_pct": 100, "max_vram_mb": 8200, "max_waiting": 4},
                {"worker": "a/llm/8081", "model": "qwen", "readings": 6, "pids": 1,
                 "max_cpu_pct": null, "max_rss_mb": 700, "min_gpu_util_pct": 0,
                 "max_gpu_util_pct": 0, "max_vram_mb": 2000, "max_waiting": 1},
                {"worker": "b/llm/9090", "model": "llama", "readings": 2, "pids": 1,
                 "max_cpu_pct": null, "max_rss_mb": null, "min_gpu_util_pct": 20,
                 "max_gpu_util_pct": 20, "max_vram_mb": 6000, "max_waiting": null},
            ]),
        ),
        (
            "gaps_per_hive.sql",
            no(),
            json!([{"hive": "b", "silent_from": ts(1), "silent_to": ts(62), "seconds": 61}]),
        ),
        (
            "queueing_versus_utilisation.sql",
            no(),
            json!([
                {"model": "llama", "gpu_util": "0", "readings": 2, "waiting_pct": 0,
                 "mean_waiting": 0, "max_waiting": 0},
                {"model": "llama", "gpu_util": "50 to 90", "readings": 2, "waiting_pct": 0,
                 "mean_waiting": 0, "max_waiting": 0},
                {"model": "llama", "gpu_util": "90 and more", "readings": 2, "waiting_pct": 100,
                 "mean_waiting": 3, "max_waiting": 4},
                {"model": "qwen", "gpu_util": "0", "readings": 6, "waiting_pct": 100,
                 "mean_waiting": 1, "max_waiting": 1},
            ]),
        ),
        (
            "growing_memory.sql",
            set(":least_mb 200"),
            json!([{"worker": "a/llm/8080", "pid": 10, "first_mb": 1000, "last_mb": 1300,
                    "mb_per_hour": 360_000}]),
        ),
        (
            "full_kv_caches.sql",
            no(),
            json!([{"worker": "a/llm/8080", "model": "llama", "readings": 2, "of_all_pct": 33.3,
                    "mean_waiting": 3}]),
        ),
        (
            "hottest_gpus.sql",
            set(":interval_s 600"),
            json!([
                {"hive": "a", "index": 0, "name": "H100", "max_temperature_c": 65, "at": ts(5),
                 "mean_power_w": 300, "energy_wh": 300},
                {"hive": "a", "index": 1, "name": "H100", "max_temperature_c": 40, "at": ts(0),
                 "mean_power_w": 60, "energy_wh": 60},
            ]),
        ),
        (
            "short_machines.sql",
            set(":memory_pct 50"),
            json!([{"hive": "a", "max_memory_pct": 87.5, "at": ts(5), "max_load_per_cpu": 2.5}]),
        ),
        (
            "agents_in_trouble.sql",
            no(),
            json!([
                {"hive": "b", "error": "gpu 0: lost", "heartbeats": 1, "last": ts(63)},
                {"hive": "b", "error": "spooled 5", "heartbeats": 1, "last": ts(63)},
            ]),
        ),
    ]
}

#[test]
fn every_question_has_its_answer() {
    let fleet = Fleet::new();
    let mut asked = BTreeSet::new();
    for (question, parameters, answer) in expected(&fleet) {
        let parameters: Vec<&str> = parameters.iter().map(String::as_str).collect();
        assert_eq!(ask(&fleet.queen, question, &parameters), floats(answer), "{question}");
        asked.insert(question.to_owned());
    }
    let mut rooms = ask(&fleet.queen, "room_for_a_model.sql", &[":needed_mb 4000"]);
    for room in rooms.as_array_mut().unwrap() {
        let age_s = room.as_object_mut().unwrap().remove("age_s").unwrap().as_f64().unwrap();
        assert!((3500.0..4.0 * 3600.0).contains(&age_s), "{age_s}");
    }
    let expected = json!([
        {"worker": "a/llm/8081", "model": "qwen", "gpu_util_pct": 0, "running": 0, "waiting": 1,
         "free_vram_mb": 22576},
        {"worker": "a/llm/8080", "model": "llama", "gpu_util_pct": 0, "running": 1, "waiting": 0,
         "free_vram_mb": 20576},
    ]);
    assert_eq!(rooms, floats(expected));
    asked.insert("room_for_a_model.sql".into());

    let files = fs::read_dir(directory()).unwrap();
    let files: BTreeSet<String> =
        files.map(|file| file.unwrap().file_name().into_string().unwrap()).collect();
    assert_eq!(asked, files, "every file is asked");
}

#[test]
fn every_question_says_what_it_is_and_answers_without_parameters() {
    let queen = Queen::start();
    for file in fs::read_dir(directory()).unwrap() {
        let file = file.unwrap();
        let text = fs::read_to_string(file.path()).unwrap();
        let first = text.lines().next().unwrap();
        assert!(first.starts_with("-- ") && first.contains('?'), "{first}");
        for name in text.split([' ', '(', ')', ',']).filter(|word| word.starts_with(':')) {
            let setting = format!("-- .param set {} ", name.trim_end_matches(';'));
            assert!(text.contains(&setting), "{first}: {name}");
        }
        let name = file.file_name().into_string().unwrap();
        assert_eq!(ask(&queen, &name, &[]), json!([]), "{name} of an empty history");
    }
}

#[test]
fn rest_and_sqlite3_say_the_same_number() {
    let fleet = Fleet::new();
    let question = format!(
        "/v1/history/query?metric=gpu_util_pct&start={}&end={}&step=1h&agg=sum&group_by=model&across=sum",
        fleet.start,
        fleet.start + HOUR_MS
    );
    let answer = fleet.queen.get(&question).ok();
    let of = |model: &str| {
        let series = answer["series"].as_array().unwrap().iter();
        let mut of_model = series.filter(|series| series["labels"]["model"] == model);
        of_model.next().unwrap()["values"][0].as_f64().unwrap()
    };
    let rows = ask(&fleet.queen, "gpu_hours_per_day.sql", &[":interval_s 3600"]);
    for row in rows.as_array().unwrap() {
        let model = row["model"].as_str().unwrap();
        assert_eq!(row["busy_hours"].as_f64().unwrap() * 100.0, of(model), "{model}");
    }
    assert_eq!(of("llama"), 380.0);
}
