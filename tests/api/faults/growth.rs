//! What hives bring that is new all the time, as workers that restart do, goes with the last reading
//! that names it.

use serde_json::{Value, json};

use super::bad_disk::BadDisk;
use crate::support::heartbeat::{heartbeat, now_ms};
use crate::support::wait::eventually;

const DAY: i64 = 86_400_000;

/// A reading of 50 workers with these pids, on a GPU of that name.
fn reading(hive: &str, ms: i64, pids: std::ops::Range<i64>, gpu: &str) -> Value {
    let mut reading = heartbeat(hive, ms);
    reading["hive"]["version"] = gpu.into();
    reading["gpus"] = json!([{"uuid": gpu, "index": 0, "name": gpu}]);
    reading["workers"] = pids
        .map(|pid| {
            json!({"pid": pid, "group": "llm", "instance": (pid % 50).to_string(), "cpu_pct": pid,
                   "gpus": [{"uuid": gpu, "util_pct": 1.0, "vram_mb": 1}]})
        })
        .collect();
    reading
}

#[test]
fn names_go_with_the_last_reading_that_has_them() {
    let disk = BadDisk::new();
    let options =
        ["--retention-raw=1h", "--retention-1m=1h", "--retention-1h=1h", "--seal-after=1s"];
    let queen = disk.start(&options);
    let begun = now_ms();
    for n in 0..20 {
        queen.takes(&reading("churns", begun + n, n * 50..n * 50 + 50, &format!("GPU-{n}")));
    }
    queen.takes(&reading("away", begun, 5000..5050, "GPU-away"));
    queen.takes(&reading("here", begun, 6000..6050, "GPU-here"));
    let names = |table: &str| queen.figures(&format!("SELECT count(*) FROM {table}"))[0];
    assert_eq!(
        [names("worker_runs"), names("gpus"), names("hive_descriptions")],
        [1100.0, 22.0, 22.0]
    );

    // Four days later; readings are kept for an hour.
    disk.does(&format!("clock-ms={}", 4 * DAY));
    queen.takes(&reading("here", now_ms() + 4 * DAY, 6000..6050, "GPU-here"));
    queen.takes(&reading("churns", now_ms() + 4 * DAY, 7000..7050, "GPU-21"));
    eventually("what nothing refers to is gone", || {
        let tables = ["worker_runs", "gpus", "hive_descriptions"];
        (tables.map(names) == [100.0, 2.0, 2.0]).then_some(())
    });
    // Who comes back with names that are gone has them anew, and the others have theirs still.
    queen.takes(&reading("away", now_ms() + 4 * DAY, 5000..5050, "GPU-away"));
    let shown = |hive: &str| {
        queen.figures(&format!("SELECT cpu_pct FROM latest WHERE hive = '{hive}' ORDER BY cpu_pct"))
    };
    let pids = |range: std::ops::Range<i32>| range.map(f64::from).collect::<Vec<_>>();
    assert_eq!(shown("away"), pids(5000..5050));
    assert_eq!(shown("here"), pids(6000..6050));
    assert_eq!(shown("churns"), pids(7000..7050));
    let gpus = "SELECT json_group_array(gpu) FROM (SELECT gpu FROM gpu_history ORDER BY gpu)";
    assert_eq!(queen.value(gpus), r#"["GPU-21","GPU-away","GPU-here"]"#);
    let export = queen.get("/v1/history/export?start=-1h&format=ndjson");
    let versions = export.text();
    for version in ["GPU-21", "GPU-away", "GPU-here"] {
        assert!(versions.contains(&format!(r#""version":"{version}""#)), "{versions}");
    }
}

#[test]
fn names_stay_as_long_as_their_sums() {
    let disk = BadDisk::new();
    let queen = disk.start(&["--retention-raw=1h", "--seal-after=1s"]);
    let begun = now_ms();
    queen.takes(&reading("away", begun, 5000..5050, "GPU-away"));
    disk.does(&format!("clock-ms={}", 3 * DAY));
    queen.takes(&reading("here", now_ms() + 3 * DAY, 6000..6050, "GPU-here"));
    eventually("the single readings are gone", || {
        queen
            .figures("SELECT count(*) FROM blocks WHERE raw = 0")
            .first()
            .filter(|n| **n > 0.0)
            .copied()
    });
    // The retention looks for names after it looked for readings.
    queen.rows("INSERT INTO events (ts, kind, detail) VALUES (0, 'ancient', '{}')");
    eventually("it has had a look again", || {
        let ancient = "SELECT count(*) FROM events WHERE kind = 'ancient'";
        (queen.value(ancient) == 0.0).then_some(())
    });
    assert_eq!(queen.figures("SELECT count(*) FROM worker_runs WHERE pid < 6000"), [50.0]);
}
