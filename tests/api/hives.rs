//! `GET /v1/hives`: which hives there are, and how recent what they said is.

use chrono::{DateTime, Utc};
use serde_json::{Value, json};

use crate::support::Queen;
use crate::support::heartbeat::{heartbeat, now_ms, wire};
use crate::support::wait::eventually;

fn states(queen: &Queen) -> Vec<(String, String)> {
    let hives = queen.get("/v1/hives").ok();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let hives = hives["hives"].as_array().unwrap().iter();
    hives.map(|hive| (text(&hive["id"]), text(&hive["state"]))).collect()
}

#[test]
fn they_are_listed_by_name() {
    let queen = Queen::start();
    assert_eq!(queen.get("/v1/hives").ok(), json!({"hives": []}));
    for hive in ["b", "a", "c", "B"] {
        queen.takes(&heartbeat(hive, now_ms()));
    }
    let names: Vec<String> = states(&queen).into_iter().map(|(id, _)| id).collect();
    assert_eq!(names, ["B", "a", "b", "c"]);
}

#[test]
fn a_silent_hive_turns_stale_then_offline_and_comes_back() {
    let queen = Queen::with(&["--live-intervals", "1", "--stale-intervals", "2"]);
    queen.takes(&heartbeat("h", now_ms()));
    assert_eq!(queen.hive("h")["state"], "live");
    let mut seen = vec!["live".to_owned()];
    eventually("the hive goes offline", || {
        let state = queen.hive("h")["state"].as_str().unwrap().to_owned();
        if seen.last() != Some(&state) {
            seen.push(state.clone());
        }
        (state == "offline").then_some(())
    });
    assert_eq!(seen, ["live", "stale", "offline"]);
    let age_ms = queen.hive("h")["age_ms"].as_i64().unwrap();
    assert!(age_ms > 2000, "{age_ms}");
    let summary = queen.stream("").summary();
    assert_eq!((&summary["hives_online"], &summary["hive_ids"]), (&json!(0), &json!([])));

    queen.takes(&heartbeat("h", now_ms()));
    assert_eq!(states(&queen), [("h".into(), "live".into())]);
}

#[test]
fn a_slow_pace_is_no_death() {
    let queen = Queen::with(&["--live-intervals", "1", "--stale-intervals", "2"]);
    let mut slow = heartbeat("slow", now_ms());
    slow["interval_ms"] = json!(10_000);
    queen.takes(&slow);
    queen.takes(&heartbeat("fast", now_ms()));
    eventually("the fast one goes offline", || {
        (queen.hive("fast")["state"] == "offline").then_some(())
    });
    assert_eq!(queen.hive("slow")["state"], "live");
}

#[test]
fn a_clock_that_is_behind_is_shown_and_does_no_harm() {
    let queen = Queen::start();
    queen.takes(&heartbeat("h", now_ms() - 120_000));
    let hive = queen.hive("h");
    assert_eq!(hive["state"], "live", "judged by the time of receipt");
    let skew_ms = hive["clock_skew_ms"].as_i64().unwrap();
    assert!((-140_000..=-120_000).contains(&skew_ms), "{skew_ms}");
}

#[test]
fn a_hive_whose_clock_steps_back_is_heard_all_the_same() {
    let queen = Queen::with(&["--live-intervals", "1", "--stale-intervals", "2"]);
    let newest = now_ms();
    queen.takes(&heartbeat("stepped", newest));
    queen.takes(&heartbeat("silent", newest));
    let mut ms = newest - 3_600_000;
    eventually("the silent one goes offline", || {
        ms += 1;
        queen.takes(&heartbeat("stepped", ms));
        // Sent again, it is a sign of life too.
        queen.takes(&heartbeat("stepped", ms));
        (queen.hive("silent")["state"] == "offline").then_some(())
    });
    let hive = queen.hive("stepped");
    assert_eq!(hive["state"], "live", "{hive}");
    assert!(hive["age_ms"].as_i64().unwrap() < 1000, "{hive}");
    let last_seen: DateTime<Utc> = hive["last_seen"].as_str().unwrap().parse().unwrap();
    assert!(last_seen.timestamp_millis() >= newest + 2000, "{hive}");
    assert_eq!(hive["timestamp"], wire(newest), "the newest reading is still the one shown");
}

#[test]
fn a_hive_that_comes_and_goes_must_be_heard_steadily_first() {
    let queen = Queen::with(&["--live-intervals", "1", "--stale-intervals", "60"]);
    let hear = || {
        queen.takes(&heartbeat("h", now_ms()));
        queen.hive("h")
    };
    hear();
    for silences in 1..=2 {
        eventually("it falls silent", || (queen.hive("h")["state"] == "stale").then_some(()));
        let hive = hear();
        assert_eq!(hive["silences"], silences);
        let expected = if silences == 1 { "live" } else { "stale" };
        assert_eq!(hive["state"], expected, "{hive}");
    }
    eventually("it is trusted again", || (hear()["state"] == "live").then_some(()));
}
