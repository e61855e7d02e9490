//! The queen's own clock is set forward and back while she runs.

use super::bad_disk::BadDisk;
use crate::support::heartbeat::{marked, now_ms};
use crate::support::wait::eventually;

const HOUR: i64 = 3_600_000;

#[test]
fn clock_of_the_queen_steps_and_ids_grow_and_no_hive_goes() {
    let disk = BadDisk::new();
    let queen = disk.start(&["--live-intervals", "20"]);
    let mut stream = queen.stream("");
    let mut acks = Vec::new();
    // By how much her clock is off, and the hive's with it, as one time server sets both.
    for (n, off_ms) in [0, 24 * HOUR, 24 * HOUR, -HOUR, -48 * HOUR, 0].into_iter().enumerate() {
        disk.does(&format!("clock-ms={off_ms}"));
        let ack = queen.takes(&marked("h", now_ms() + off_ms + n as i64, n as f64));
        assert!(!ack.duplicate);
        acks.push(ack.id);
        assert_eq!(queen.hive("h")["state"], "live");
    }
    assert!(acks.is_sorted_by(|a, b| a < b), "{acks:?}");
    assert_eq!(queen.figures("SELECT cpu_pct FROM history ORDER BY ts_ms").len(), 6);
    // The feed too: ids of events stand between those of heartbeats.
    let mut ids = Vec::new();
    while ids.last() < acks.last() {
        ids.extend(stream.frame().expect("it goes on").id);
    }
    assert!(ids.is_sorted_by(|a, b| a < b), "{ids:?}");
    // And after a start with the clock a day behind the last id.
    disk.does(&format!("clock-ms={}", -24 * HOUR));
    queen.kill();
    let queen = disk.start(&[]);
    let ack = queen.takes(&marked("h", now_ms() - 24 * HOUR, 9.0));
    assert!(Some(&ack.id) > ids.last());
    eventually("it is live", || (queen.hive("h")["state"] == "live").then_some(()));
    assert_eq!(queen.value("SELECT count(*) FROM events WHERE kind = 'hive_offline'"), 0.0);
}

#[test]
fn clock_of_the_queen_two_hours_ahead_of_a_hive_is_shown_and_changes_no_order() {
    let disk = BadDisk::new();
    let queen = disk.start(&[]);
    let now = now_ms();
    queen.takes(&marked("h", now, 1.0));
    disk.does(&format!("clock-ms={}", 2 * HOUR));
    queen.takes(&marked("h", now - 1000, 2.0));
    assert_eq!(queen.workers("")[0]["cpu_pct"], 1.0);
    queen.takes(&marked("h", now + 1000, 3.0));
    assert_eq!(queen.workers("")[0]["cpu_pct"], 3.0);
    let skew_ms = queen.hive("h")["clock_skew_ms"].as_i64().unwrap();
    assert!((-3 * HOUR..=3000 - 2 * HOUR).contains(&skew_ms), "{skew_ms}");
}
