//! What happens to hives and workers is recorded, and can be asked for.

use std::time::Duration;

use serde_json::{Value, json};

use crate::support::Queen;
use crate::support::heartbeat::{heartbeat, marked, now_ms};
use crate::support::wait::eventually;

/// A reading of hive `h` whose one worker is this process with this model.
fn reading(ms: i64, pid: u32, model: &str) -> Value {
    let mut reading = heartbeat("h", ms);
    reading["workers"] = json!([{"pid": pid, "group": "llm", "instance": "8080", "model": model}]);
    reading
}

/// The events of an answer to these parameters.
#[track_caller]
fn events(queen: &Queen, parameters: &str) -> Vec<Value> {
    let events = queen.get(&format!("/v1/history/events{parameters}")).ok()["events"].take();
    events.as_array().unwrap().clone()
}

const WORKERS: &str = "?kind=worker_started&kind=worker_exited&kind=model_changed";

#[test]
fn what_happens_to_a_worker_is_told_with_the_time_of_its_reading() {
    let queen = Queen::start();
    let now = now_ms() - 10_000;
    queen.takes(&reading(now, 1, "a"));
    queen.takes(&reading(now + 1000, 1, "b"));
    queen.takes(&reading(now + 2000, 2, "b"));
    queen.takes(&heartbeat("h", now + 3000));
    let event = |time, kind, detail| json!({"time": time, "kind": kind, "hive": "h", "worker": "llm/8080", "detail": detail});
    let expected = [
        event(now + 1000, "model_changed", json!({"pid": 1, "from": "a", "to": "b"})),
        event(now + 2000, "worker_exited", json!({"pid": 1, "model": "b"})),
        event(now + 2000, "worker_started", json!({"pid": 2, "model": "b"})),
        event(now + 3000, "worker_exited", json!({"pid": 2, "model": "b"})),
    ];
    assert_eq!(events(&queen, WORKERS), expected);
    assert_eq!(events(&queen, "?kind=worker_exited&limit=1"), expected[3..], "the newest");
    let range = format!("{WORKERS}&start={}&end={}", now + 2000, now + 3000);
    assert_eq!(events(&queen, &range), expected[1..3], "the end is exclusive");
    assert_eq!(events(&queen, "?hive=other"), [] as [Value; 0]);
}

#[test]
fn a_backlog_tells_when_it_really_was() {
    let queen = Queen::start();
    let now = now_ms() - 60_000;
    queen.takes(&reading(now, 1, "a"));
    // After the queen was away the newest comes first; she was restarted in between.
    let queen = queen.stop().start(&[]);
    queen.takes(&reading(now + 5000, 3, "a"));
    let kinds = |events: Vec<Value>| -> Vec<(i64, String, u64)> {
        let kind = |e: Value| {
            let kind = e["kind"].as_str().unwrap().to_owned();
            (e["time"].as_i64().unwrap() - now, kind, e["detail"]["pid"].as_u64().unwrap())
        };
        events.into_iter().map(kind).collect()
    };
    let swap = |time, old, new| {
        [(time, "worker_exited".to_owned(), old), (time, "worker_started".to_owned(), new)]
    };
    assert_eq!(kinds(events(&queen, WORKERS)), swap(5000, 1, 3));
    let backlog = [(1000, 1), (2000, 2), (3000, 2), (4000, 3)];
    queen.takes_lines(&backlog.map(|(ms, pid)| reading(now + ms, pid, "a")));
    let expected = [swap(2000, 1, 2), swap(4000, 2, 3)].concat();
    assert_eq!(kinds(events(&queen, WORKERS)), expected);
}

#[test]
fn a_repetition_and_a_restart_tell_nothing_new() {
    let queen = Queen::start();
    let now = now_ms() - 10_000;
    for (ms, pid) in [(0, 1), (1000, 2), (1000, 2), (0, 1)] {
        queen.takes(&reading(now + ms, pid, "a"));
    }
    let queen = queen.kill().start(&[]);
    queen.takes(&reading(now + 2000, 2, "a"));
    assert_eq!(events(&queen, WORKERS).len(), 2);
}

/// A hive is offline after four seconds.
const QUICK: &[&str] = &["--live-intervals", "1", "--stale-intervals", "4"];

#[test]
fn a_hive_comes_and_goes_once_and_a_restart_changes_nothing() {
    let queen = Queen::with(QUICK);
    let now = now_ms();
    queen.takes(&marked("h", now, 1.0));
    let told = |queen: &Queen| events(queen, "?kind=hive_online&kind=hive_offline&hive=h");
    let online = eventually("it is online", || told(&queen).pop());
    assert_eq!((&online["kind"], &online["time"]), (&json!("hive_online"), &json!(now)));
    let queen = queen.stop().start(QUICK);
    let offline = eventually("it is offline", || {
        told(&queen).pop().filter(|event| event["kind"] == "hive_offline")
    });
    assert!(offline["detail"]["silent_ms"].as_i64().unwrap() >= 4000);
    let last_seen = offline["detail"]["last_seen"].as_i64().unwrap();
    assert!((now..now + 10_000).contains(&last_seen), "{last_seen} is not after {now}");
    queen.takes(&marked("h", now_ms(), 1.0));
    eventually("it is online again", || (told(&queen).len() == 3).then_some(()));
    let kinds: Vec<_> = told(&queen).into_iter().map(|event| event["kind"].clone()).collect();
    assert_eq!(kinds, ["hive_online", "hive_offline", "hive_online"]);
}

#[test]
fn a_pause_of_the_queen_makes_no_hive_silent() {
    let queen = Queen::with(QUICK);
    queen.takes(&marked("h", now_ms(), 1.0));
    let told = || events(&queen, "?kind=hive_offline");
    eventually("it is online", || (!events(&queen, "?kind=hive_online").is_empty()).then_some(()));
    queen.signal("STOP");
    std::thread::sleep(Duration::from_secs(8));
    queen.signal("CONT");
    assert_ne!(queen.hive("h")["state"], "offline");
    let event = eventually("it is offline", || told().pop());
    let silent = event["detail"]["silent_ms"].as_i64().unwrap();
    assert!((4000..8000).contains(&silent), "{silent} ms, the pause does not count");
}

#[test]
fn a_parameter_that_is_none_is_named() {
    let queen = Queen::start();
    for (parameters, detail) in [
        ("?kind=worker_born", "kind: \"worker_born\" is none of hive_online, hive_offline,"),
        ("?limit=0", "limit: 0 is not a number from 1 to 10000"),
        ("?limit=many", "limit: \"many\" is not a number from 1 to 10000"),
        ("?start=yesterday", "start: "),
    ] {
        let reply = queen.get(&format!("/v1/history/events{parameters}"));
        let said = reply.problem(400, "invalid_parameter");
        assert!(said.starts_with(detail), "{said}");
    }
}
