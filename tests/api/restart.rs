//! A queen that comes back knows what she knew, and trusts none of it until she hears again.

use serde_json::{Value, json};

use crate::support::Queen;
use crate::support::client::JSON;
use crate::support::heartbeat::{example, heartbeat, marked, now_ms, wire};
use crate::support::queen::ack;

/// What of a hive may differ after a restart.
fn without_age(mut hive: Value) -> Value {
    for member in ["state", "age_ms", "last_seen", "clock_skew_ms"] {
        hive[member].take();
    }
    hive
}

#[test]
fn everything_about_a_hive_is_there_again() {
    for end in [Queen::stop, Queen::kill] {
        let queen = Queen::start();
        ack(&queen.post_bytes(example(&wire(now_ms())).as_bytes(), &[JSON]));
        let before = queen.hive("localhost");
        let queen = end(queen).start(&[]);
        let after = queen.hive("localhost");
        assert_eq!(without_age(after), without_age(before));
    }
}

#[test]
fn hives_are_stale_until_a_heartbeat_comes() {
    let queen = Queen::start();
    queen.takes(&marked("h", now_ms(), 1.0));
    let queen = queen.stop().start(&[]);
    assert_eq!(queen.hive("h")["state"], "stale");
    assert!(queen.worker_keys("").is_empty());
    assert_eq!(queen.worker_keys("?state=stale"), ["h/llm/8080"]);
    let summary = queen.stream("").summary();
    assert_eq!((&summary["hives_online"], &summary["hives_available"]), (&json!(1), &json!(0)));

    queen.takes(&marked("h", now_ms() + 1, 2.0));
    assert_eq!(queen.hive("h")["state"], "live");
    assert_eq!(queen.worker_keys(""), ["h/llm/8080"]);
}

#[test]
fn the_history_goes_on_where_it_was() {
    let mut queen = Queen::start();
    let now = now_ms();
    let mut last_id = 0;
    for i in 0..5 {
        let ack = queen.takes(&marked("h", now + i, i as f64));
        assert!(ack.id > last_id, "ids grow");
        last_id = ack.id;
        queen = if i % 2 == 0 { queen.stop() } else { queen.kill() }.start(&[]);
    }
    let sql = "SELECT cpu_pct FROM history ORDER BY ts_ms";
    assert_eq!(queen.figures(sql), [0.0, 1.0, 2.0, 3.0, 4.0]);
    assert_eq!(queen.workers("?state=any")[0]["cpu_pct"], 4.0);
    let lines: Vec<String> = (0..4).map_while(|_| queen.next_line()).collect();
    assert!(lines.iter().any(|line| line.contains("1 hives known")), "{lines:?}");
}

#[test]
fn a_hive_that_changed_is_known_as_it_was_last() {
    let queen = Queen::start();
    let now = now_ms();
    for (ms, hostname, model) in [(now, "old", "first"), (now + 1, "new", "second")] {
        let mut heartbeat = marked("h", ms, 1.0);
        heartbeat["hive"]["hostname"] = json!(hostname);
        heartbeat["workers"][0]["model"] = json!(model);
        queen.takes(&heartbeat);
    }
    let queen = queen.kill().start(&[]);
    assert_eq!(queen.hive("h")["hostname"], "new");
    assert_eq!(queen.workers("?state=any")[0]["model"], "second");
    let rows = queen.rows("SELECT model FROM history ORDER BY ts_ms");
    assert_eq!(rows, [json!({"model": "first"}), json!({"model": "second"})]);
}

#[test]
fn a_hive_without_workers_is_known_too() {
    let queen = Queen::start();
    queen.takes(&heartbeat("empty", now_ms()));
    let queen = queen.kill().start(&[]);
    assert_eq!(queen.hive("empty")["workers"], json!([]));
}

#[test]
fn fewer_hives_than_are_known_may_be_allowed() {
    let queen = Queen::start();
    for hive in ["a", "b", "c"] {
        queen.takes(&heartbeat(hive, now_ms()));
    }
    let queen = queen.stop().start(&["--max-hives", "1"]);
    assert_eq!(queen.get("/v1/hives").ok()["hives"].as_array().unwrap().len(), 1);
}
