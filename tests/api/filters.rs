//! A stream brings what its filters admit, and no more.

use serde_json::{Value, json};

use crate::support::Queen;
use crate::support::heartbeat::{heartbeat, marked, now_ms};

/// A reading with workers given as (group, instance, model).
fn reading(hive: &str, ms: i64, workers: &[(&str, &str, &str)]) -> Value {
    let mut reading = heartbeat(hive, ms);
    let worker = |&(group, instance, model): &(&str, &str, &str)| json!({"pid": 1, "group": group, "instance": instance, "model": model});
    reading["workers"] = workers.iter().map(worker).collect();
    reading
}

#[test]
fn hives_groups_and_models_are_admitted_and_workers_trimmed() {
    let queen = Queen::start();
    let now = now_ms();
    let both = [("llm", "1", "a"), ("tts", "2", "b")];
    queen.takes(&reading("h1", now, &both));
    queen.takes(&reading("h2", now, &both[..1]));
    queen.takes(&heartbeat("h3", now));
    let seen = |query: &str| -> Vec<String> {
        // The snapshot comes first, then the first summary.
        let mut stream = queen.stream(query);
        let mut seen = Vec::new();
        loop {
            let data = stream.until("an event", |frame| !frame.data.is_null()).data;
            if data["type"] == "queen" {
                return seen;
            }
            let workers = data["workers"].as_array().unwrap();
            let names: Vec<_> = workers.iter().map(|w| w["model"].as_str().unwrap()).collect();
            seen.push(format!("{}:{}", data["hive_id"].as_str().unwrap(), names.join("+")));
        }
    };
    assert_eq!(seen(""), ["h1:a+b", "h2:a", "h3:"]);
    assert_eq!(seen("?hive=h1&hive=h3"), ["h1:a+b", "h3:"]);
    assert_eq!(seen("?group=llm"), ["h1:a", "h2:a"]);
    assert_eq!(seen("?model=b"), ["h1:b"]);
    assert_eq!(seen("?model=a&model=b"), ["h1:a+b", "h2:a"]);
    assert_eq!(seen("?group=llm&model=b"), [] as [&str; 0], "different kinds are both asked for");
    assert_eq!(seen("?hive=h2&model=a"), ["h2:a"]);
    assert_eq!(seen("?hive=unknown"), [] as [&str; 0], "no error: it may come");
}

#[test]
fn only_the_kinds_of_events_that_are_asked_for_come() {
    let queen = Queen::start();
    let now = now_ms();
    let mut changes = queen.stream("?event=lifecycle&model=x");
    let mut heartbeats = queen.stream("?event=heartbeat");
    queen.takes(&heartbeat("h", now));
    queen.takes(&reading("h", now + 1, &[("llm", "1", "y")]));
    let last = queen.takes(&reading("h", now + 2, &[("llm", "1", "y"), ("llm", "2", "x")])).id;
    let mut count = 0;
    while heartbeats
        .until("a frame", |frame| {
            assert_eq!(frame.event, "heartbeat");
            assert_eq!(frame.data["type"], "hive_telemetry");
            true
        })
        .id
        != Some(last)
    {
        count += 1;
    }
    assert_eq!(count, 2);
    // Of workers with another model nothing is told.
    let told = changes.until("a worker's event", |frame| !frame.data["worker"].is_null()).data;
    assert_eq!((&told["kind"], &told["worker"]), (&json!("worker_started"), &json!("llm/2")));
}

#[test]
fn a_thin_stream_brings_the_newest_of_each_interval() {
    let queen = Queen::start();
    let now = now_ms();
    let mut thin = queen.stream("?interval=1s&snapshot=false&event=heartbeat");
    let mut last = 0;
    for i in 0..200 {
        last = queen.takes(&marked("a", now + i, 1.0)).id;
        queen.takes(&marked("b", now + i, 1.0));
    }
    let mut ids = Vec::new();
    while ids.last().is_none_or(|id| *id < last) {
        let frame = thin.telemetry();
        ids.push(frame.id.unwrap());
    }
    assert!(ids.is_sorted_by(|a, b| a < b));
    assert!(ids.len() < 50, "{} of 400 came", ids.len());
    // What is read again is thinned in the same way.
    let mut again = queen.stream("?since=0&interval=1h&event=heartbeat");
    let mut hives: Vec<_> =
        (0..2).map(|_| again.telemetry()).map(|f| (f.id, f.data["hive_id"].clone())).collect();
    hives.sort_by_key(|(id, _)| *id);
    assert_eq!(hives[0], (Some(last), json!("a")), "an hour has not passed, only the replay");
}

#[test]
fn what_is_not_wanted_takes_no_place_in_a_thin_stream() {
    let queen = Queen::start();
    let now = now_ms();
    let wanted = queen.takes(&reading("h", now, &[("llm", "1", "a")])).id;
    queen.takes(&reading("h", now + 1, &[("llm", "2", "b")]));
    let mut thin = queen.stream("?since=0&interval=1h&event=heartbeat&model=a");
    assert_eq!(thin.telemetry().id, Some(wanted));
}
