//! Late data is kept and never replaces what is newer.

use serde_json::{Value, json};

use crate::support::Queen;
use crate::support::heartbeat::{marked, now_ms, wire};

#[test]
fn an_older_reading_never_replaces_a_newer_one() {
    let queen = Queen::start();
    let now = now_ms();
    queen.takes(&marked("h", now, 2.0));
    assert!(!queen.takes(&marked("h", now - 60_000, 1.0)).duplicate);
    assert_eq!(queen.workers("")[0]["cpu_pct"], 2.0);
    assert_eq!(queen.hive("h")["timestamp"], wire(now));
    assert_eq!(queen.figures("SELECT cpu_pct FROM history ORDER BY ts_ms"), [1.0, 2.0]);
    assert_eq!(queen.stream("").telemetry().data["workers"][0]["cpu_pct"], 2.0, "the snapshot");
}

#[test]
fn it_stays_so_after_a_restart() {
    let queen = Queen::start();
    let now = now_ms();
    queen.takes(&marked("h", now, 2.0));
    queen.takes(&marked("h", now - 60_000, 1.0));
    let queen = queen.kill().start(&[]);
    assert_eq!(queen.workers("?state=any")[0]["cpu_pct"], 2.0);
    queen.takes(&marked("h", now - 1, 1.5));
    assert_eq!(queen.workers("?state=any")[0]["cpu_pct"], 2.0);
}

#[test]
fn the_feed_tells_late_data_from_new_data() {
    let queen = Queen::start();
    let now = now_ms();
    let mut stream = queen.stream("?backfill=true");
    queen.takes(&marked("h", now, 2.0));
    let late = queen.takes(&marked("h", now - 60_000, 1.0));
    queen.takes(&marked("h", now + 1, 3.0));
    assert_eq!(stream.telemetry().data.get("backfill"), None);
    let frame = stream.telemetry();
    assert_eq!((frame.id, &frame.data["backfill"]), (Some(late.id), &json!(true)));
    assert_eq!(frame.data["timestamp"], wire(now - 60_000));
    assert_eq!(stream.telemetry().data.get("backfill"), None);
}

#[test]
fn late_data_is_sent_only_to_who_wants_it() {
    let queen = Queen::start();
    let now = now_ms();
    let mut stream = queen.stream("");
    queen.takes(&marked("h", now, 2.0));
    queen.takes(&marked("h", now - 60_000, 1.0));
    let next = queen.takes(&marked("h", now + 1, 3.0));
    assert_eq!(stream.telemetry().data["timestamp"], wire(now));
    assert_eq!(stream.telemetry().id, Some(next.id));
}

#[test]
fn a_bulk_of_old_readings_is_late_data() {
    let queen = Queen::start();
    let now = now_ms();
    queen.takes(&marked("h", now, 9.0));
    let mut stream = queen.stream("?backfill=true&snapshot=false");
    let lines: Vec<Value> = (1..=3).map(|i| marked("h", now - 10_000 + i, i as f64)).collect();
    assert_eq!(queen.takes_lines(&lines), (3, 0));
    for i in 1..=3 {
        let data = stream.telemetry().data;
        assert_eq!(
            (&data["workers"][0]["cpu_pct"], &data["backfill"]),
            (&json!(f64::from(i)), &json!(true))
        );
    }
    assert_eq!(queen.workers("")[0]["cpu_pct"], 9.0);
}
