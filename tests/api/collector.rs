//! The whole way: a real process, measured by the agent, seen through every door of the queen.

use serde_json::{Value, json};

use crate::support::agent::{self, HELD_MB, INSTANCE, MODEL, StandIn, cpu_seconds, resident_mb};
use crate::support::stream::Stream;
use crate::support::wait::eventually;
use crate::support::{Home, Queen};

const HIVE: &str = "this-machine";
/// Readings over which the processor time is compared.
const READINGS: usize = 12;

/// The next reading of a worker: its figures and their time.
fn reading(stream: &mut Stream, group: &str) -> (Value, String) {
    loop {
        let data = stream.telemetry().data;
        let workers = data["workers"].as_array().unwrap();
        let worker = workers.iter().find(|worker| worker["group"] == group);
        if let Some(worker) = worker.filter(|worker| worker["cpu_pct"].is_number()) {
            return (worker.clone(), data["timestamp"].as_str().unwrap().into());
        }
    }
}

#[track_caller]
fn assert_near(what: &str, seen: f64, expected: f64, tolerance: f64) {
    let off = (seen - expected).abs();
    assert!(off <= tolerance, "{what} is {seen} and should be {expected} ± {tolerance}");
}

#[test]
fn a_process_is_seen_as_it_is() {
    let queen = Queen::start();
    let Some(worker) = StandIn::start() else { return };
    let _agent = agent::run(&queen, HIVE, "200ms");
    let mut stream = queen.stream("");
    let (first, _) = reading(&mut stream, &worker.group);
    let pid = worker.pid();
    for (member, expected) in [
        ("pid", json!(pid)),
        ("instance", json!(INSTANCE)),
        ("model", json!(MODEL)),
        ("gpu_util_pct", Value::Null),
        ("vram_mb", Value::Null),
    ] {
        assert_eq!(first[member], expected, "{member}");
    }

    // On the feed: processor time as the kernel counted it between the same two readings.
    let before = cpu_seconds(pid);
    let begun = std::time::Instant::now();
    let readings: Vec<_> = (0..READINGS).map(|_| reading(&mut stream, &worker.group)).collect();
    let used = (cpu_seconds(pid) - before) / begun.elapsed().as_secs_f64() * 100.0;
    let figures = readings.iter().map(|(worker, _)| worker["cpu_pct"].as_f64().unwrap());
    let mean = figures.sum::<f64>() / READINGS as f64;
    assert_near("cpu_pct", mean, used, 5.0 + used * 0.1);
    let (last, last_time) = readings.last().unwrap();
    let rss_mb = last["rss_mb"].as_f64().unwrap();
    assert_near("rss_mb", rss_mb, resident_mb(pid), 4.0);
    assert!(rss_mb > HELD_MB as f64, "{rss_mb}");

    // Over HTTP: the same worker, reachable.
    let key = format!("{HIVE}/{}/{INSTANCE}", worker.group);
    let served = queen.get(&format!("/v1/workers/{key}")).ok();
    assert_eq!((&served["pid"], &served["model"]), (&json!(pid), &json!(MODEL)));
    assert_eq!(served["url"], "http://127.0.0.1:8080");
    assert_eq!(served["state"], "live");
    assert_near("rss_mb", served["rss_mb"].as_f64().unwrap(), resident_mb(pid), 4.0);

    // In the database: each reading as it was on the feed.
    let sql = format!(
        "SELECT pid, model, cpu_pct, rss_mb FROM history
          WHERE hive = '{HIVE}' AND \"group\" = '{}' AND instance = '{INSTANCE}'
            AND ts = '{}'",
        worker.group,
        last_time.replace('T', " ").trim_end_matches('Z')
    );
    let rows = queen.rows(&sql);
    assert_eq!(rows.len(), 1, "{last_time}");
    for member in ["pid", "model", "cpu_pct", "rss_mb"] {
        let seen = crate::support::sqlite::floats(last[member].clone());
        assert_eq!(rows[0][member], seen, "{member}");
    }

    // It leaves when it ends.
    let ended = worker.end();
    assert_eq!(ended.status.code(), Some(128 + 15), "{}", ended.output);
    eventually("the worker is gone", || {
        (queen.get(&format!("/v1/workers/{key}")).status == 404).then_some(())
    });
}

#[test]
fn spawn_ends_as_its_command_does() {
    if StandIn::start().is_none() {
        return;
    }
    let group = format!("test-exit-{}", std::process::id());
    let ended =
        agent::output(&["spawn", "--group", &group, "--instance", "1", "--", "sh", "-c", "exit 7"]);
    assert_eq!(ended.status.code(), Some(7), "{}", ended.output);
}

#[test]
fn one_heartbeat_printed_is_one_that_the_queen_takes() {
    let queen = Queen::start();
    let printed = agent::output(&["once", "--hive-id", HIVE]);
    assert!(printed.status.success(), "{}", printed.output);
    let heartbeat: Value = serde_json::from_str(&printed.output).unwrap();
    queen.takes(&heartbeat);
    let node = &queen.hive(HIVE)["node"];
    assert!(node["memory_total_mb"].as_f64().unwrap() > 0.0, "{node}");
    assert!(node["cpu_count"].as_u64().unwrap() > 0, "{node}");
}

#[test]
fn everything_a_simulated_fleet_got_acknowledged_is_in_the_history() {
    let queen = Queen::start();
    let ended = agent::output(&[
        "simulate",
        "--queen",
        queen.url(),
        "--hives",
        "3",
        "--workers",
        "2",
        "--flat-out",
        "--duration",
        "1s",
        "--json",
        "--quiet",
    ]);
    assert!(ended.status.success(), "{}", ended.output);
    let report: Value = serde_json::from_str(&ended.output).unwrap();
    let acknowledged = report["heartbeats_acknowledged"].as_f64().unwrap();
    assert!(acknowledged > 10.0, "{report}");
    assert_eq!((&report["duplicates"], &report["refusals"]), (&json!(0), &json!([])));
    assert_eq!(queen.value("SELECT count(*) FROM history"), acknowledged * 2.0);
    assert_eq!(queen.worker_keys("").len(), 6);
}

#[test]
fn an_outage_of_the_queen_leaves_no_hole() {
    let home = Home::new();
    let queen = home.start(&[]);
    let address = queen.address().to_owned();
    let _agent = agent::run(&queen, HIVE, "100ms");
    let last_before = eventually("the agent reports", || newest(&home));
    queen.kill();

    let away = std::time::Instant::now();
    eventually("the queen was away for a while", || {
        (away.elapsed().as_millis() > 1500).then_some(())
    });
    let _queen = home.start(&["--bind", &address]);
    eventually("the agent is past the outage", || {
        newest(&home).filter(|newest| *newest > last_before + 2500.0)
    });
    // What waited follows in bulk after the first new one.
    eventually("the hole is filled", || {
        let longest = home.value(
            "SELECT max(step) FROM (SELECT ts_ms - lag(ts_ms) OVER (ORDER BY ts_ms) AS step
                                      FROM hive_heartbeats)",
        );
        longest.as_f64().filter(|longest| *longest < 1000.0)
    });
}

fn newest(home: &Home) -> Option<f64> {
    home.value("SELECT max(ts_ms) FROM hive_heartbeats").as_f64()
}
