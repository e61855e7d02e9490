//! A heartbeat is identified by its hive and its timestamp: the first one stands.

use crate::support::Queen;
use crate::support::heartbeat::{in_kathmandu, marked, now_ms, wire};

#[test]
fn a_repetition_is_acknowledged_with_the_first_id_and_changes_nothing() {
    let queen = Queen::start();
    let now = now_ms();
    let first = queen.takes(&marked("h", now, 1.0));
    assert!(!first.duplicate);
    for cpu_pct in [1.0, 2.0] {
        let again = queen.takes(&marked("h", now, cpu_pct));
        assert_eq!((again.id, again.duplicate), (first.id, true), "{cpu_pct}");
    }
    assert_eq!(queen.workers("")[0]["cpu_pct"], 1.0);
    assert_eq!(queen.rows("SELECT cpu_pct FROM history").len(), 1);
    assert_eq!(queen.value("SELECT cpu_pct FROM history"), 1.0);
}

#[test]
fn it_is_not_sent_on_the_feed_again() {
    let queen = Queen::start();
    let now = now_ms();
    let mut stream = queen.stream("");
    let first = queen.takes(&marked("h", now, 1.0));
    queen.takes(&marked("h", now, 2.0));
    let next = queen.takes(&marked("h", now + 1, 3.0));
    assert_eq!(stream.telemetry().id, Some(first.id));
    assert_eq!(stream.telemetry().id, Some(next.id));
}

#[test]
fn other_hives_and_other_milliseconds_are_other_heartbeats() {
    let queen = Queen::start();
    let now = now_ms();
    let mut ids = vec![];
    for (hive, ms) in [("a", now), ("b", now), ("a", now + 1), ("a", now - 1)] {
        let ack = queen.takes(&marked(hive, ms, 1.0));
        assert!(!ack.duplicate, "{hive} {ms}");
        ids.push(ack.id);
    }
    assert!(ids.is_sorted_by(|a, b| a < b), "{ids:?}");
    assert_eq!(queen.value("SELECT count(*) FROM history"), 4.0);
}

#[test]
fn a_timestamp_is_the_same_in_every_time_zone_and_finer_digits_do_not_count() {
    let queen = Queen::start();
    let now = now_ms();
    let mut heartbeat = marked("h", now, 1.0);
    let first = queen.takes(&heartbeat);
    let finer = wire(now).replace('Z', "999Z");
    for same in [in_kathmandu(now), finer] {
        heartbeat["timestamp"] = same.into();
        let again = queen.takes(&heartbeat);
        assert_eq!((again.id, again.duplicate), (first.id, true), "{heartbeat}");
    }
    assert!(!queen.takes(&marked("h", now + 1, 2.0)).duplicate);
}

#[test]
fn a_repetition_is_known_after_a_restart_too() {
    for end in [Queen::stop, Queen::kill] {
        let queen = Queen::start();
        let now = now_ms();
        let first = queen.takes(&marked("h", now, 1.0));
        let queen = end(queen).start(&[]);
        let again = queen.takes(&marked("h", now, 2.0));
        assert_eq!((again.id, again.duplicate), (first.id, true));
        let next = queen.takes(&marked("h", now + 1, 3.0));
        assert!(!next.duplicate && next.id > first.id);
        assert_eq!(queen.figures("SELECT cpu_pct FROM history ORDER BY ts_ms"), [1.0, 3.0]);
    }
}
