//! `GET /v1/heartbeats/stream`: the live feed.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::heartbeat::{heartbeat, marked, now_ms, wire, worker};
use crate::support::stream::Stream;
use crate::support::wait::{LIMIT, eventually};
use crate::support::{Home, Queen};

#[test]
fn it_says_what_it_is() {
    let queen = Queen::start();
    let stream = queen.stream("");
    for (name, value) in [
        ("content-type", "text/event-stream"),
        ("cache-control", "no-cache, no-transform"),
        ("x-accel-buffering", "no"),
    ] {
        assert_eq!(stream.head.header(name), Some(value));
    }
    assert_eq!(queen.ndjson("").head.header("content-type"), Some("application/x-ndjson"));
}

#[test]
fn a_summary_of_the_fleet_comes_at_once_and_again() {
    let queen = Queen::start();
    let mut a = heartbeat("a", now_ms());
    a["workers"] = json!([worker("llm", "2"), worker("llm", "1")]);
    a["workers"][0]["gpu_util_pct"] = json!(0);
    a["workers"][1]["gpu_util_pct"] = json!(70);
    queen.takes(&a);
    queen.takes(&heartbeat("b", now_ms()));

    let mut stream = queen.stream("?snapshot=false");
    let first = stream.frame().unwrap();
    assert_eq!((first.id, first.event.as_str()), (None, "heartbeat"));
    let expected = json!({
        "type": "queen", "workers_online": 2, "workers_available": 1, "hives_online": 2,
        "hives_available": 2, "worker_ids": ["a/llm/1", "a/llm/2"], "hive_ids": ["a", "b"],
        "timestamp": first.data["timestamp"],
    });
    assert_eq!(first.data, expected);
    assert!(first.data["timestamp"].as_str().unwrap() <= wire(now_ms()).as_str());

    // All streams get the next ones at the same time.
    stream.summary();
    let begun = Instant::now();
    stream.summary();
    let period = begun.elapsed();
    assert!((Duration::from_millis(2000)..Duration::from_secs(8)).contains(&period), "{period:?}");
}

#[test]
fn it_begins_with_the_newest_heartbeat_of_every_live_hive() {
    let queen = Queen::start();
    let now = now_ms();
    let a = queen.takes(&marked("a", now, 1.0));
    queen.takes(&marked("b", now, 2.0));
    let b = queen.takes(&marked("b", now + 1, 3.0));
    let mut stream = queen.stream("");
    let next = queen.takes(&marked("a", now + 2, 4.0));
    let ids = [stream.telemetry().id, stream.telemetry().id, stream.telemetry().id];
    assert_eq!(ids, [Some(a.id), Some(b.id), Some(next.id)]);
}

#[test]
fn what_is_acknowledged_is_in_the_snapshot() {
    let queen = Queen::start();
    let now = now_ms();
    for i in 0..300 {
        let ack = queen.takes(&marked("h", now + i, 1.0));
        assert_eq!(queen.stream("").telemetry().id, Some(ack.id), "the {i}th");
    }
}

#[test]
fn the_state_of_the_fleet_does_not_wait_for_what_was_missed() {
    let queen = Queen::start();
    let ack = queen.takes(&marked("h", now_ms(), 1.0));
    let mut stream = queen.stream("?since=-1m");
    assert_eq!(stream.frame().unwrap().data["type"], "queen");
    assert_eq!(stream.telemetry().id, Some(ack.id));
}

#[test]
fn an_interval_does_not_hold_back_the_state_of_the_fleet() {
    let queen = Queen::start();
    let mut stream = queen.stream("?interval=1h");
    stream.summary();
    stream.summary();
}

#[test]
fn the_snapshot_can_be_left_out() {
    let queen = Queen::start();
    let now = now_ms();
    queen.takes(&marked("a", now, 1.0));
    let mut stream = queen.stream("?snapshot=false");
    let next = queen.takes(&marked("a", now + 1, 2.0));
    assert_eq!(stream.telemetry().id, Some(next.id));
}

#[test]
fn hives_that_are_not_live_are_not_in_the_snapshot() {
    let queen = Queen::start();
    queen.takes(&marked("a", now_ms(), 1.0));
    let queen = queen.stop().start(&[]);
    let mut stream = queen.stream("");
    assert_eq!(stream.frame().unwrap().data["type"], "queen");
    let next = queen.takes(&marked("a", now_ms() + 1, 2.0));
    assert_eq!(stream.telemetry().id, Some(next.id));
}

#[test]
fn ids_only_grow_and_every_heartbeat_comes_once() {
    let queen = Queen::start();
    let mut stream = queen.stream("");
    let now = now_ms();
    let posted: Vec<Option<i64>> = (0..100)
        .map(|i| Some(queen.takes(&marked(&format!("h{}", i % 7), now + i, 1.0)).id))
        .collect();
    let received: Vec<Option<i64>> = (0..100).map(|_| stream.telemetry().id).collect();
    assert_eq!(received, posted);
    assert!(received.is_sorted_by(|a, b| a < b));
}

#[test]
fn a_heartbeat_is_there_soon_after_it_was_posted() {
    let queen = Queen::start();
    let mut streams: Vec<_> = (0..10).map(|_| queen.stream("?snapshot=false")).collect();
    for i in 0..10 {
        let begun = Instant::now();
        let posted = queen.takes(&marked("h", now_ms() + i, 1.0));
        for stream in &mut streams {
            assert_eq!(stream.telemetry().id, Some(posted.id));
        }
        // The bound of the contract is measured by the benchmark; this one only tells a
        // stream that pushes from one that polls.
        assert!(begun.elapsed() < Duration::from_secs(1), "{:?}", begun.elapsed());
    }
}

#[test]
fn lines_of_json_carry_the_same_and_the_id() {
    let queen = Queen::start();
    let now = now_ms();
    let ack = queen.takes(&marked("a", now, 1.0));
    let mut sse = queen.stream("").telemetry().data;
    let mut lines = queen.ndjson("?event=heartbeat&event=queen");
    let line: Value = serde_json::from_str(&lines.line().unwrap()).unwrap();
    sse["id"] = json!(ack.id);
    assert_eq!(line, sse);
    let summary: Value = serde_json::from_str(&lines.line().unwrap()).unwrap();
    assert_eq!((&summary["type"], summary.get("id")), (&json!("queen"), None));
}

#[test]
fn beyond_the_last_place_there_is_a_503_until_one_is_free() {
    let queen = Queen::with(&["--max-streams", "2"]);
    let first = queen.stream("");
    let _second = queen.ndjson("");
    queen.get("/v1/heartbeats/stream").problem(503, "too_many_streams");
    queen.get("/v1/hives").ok();
    drop(first);
    eventually("a place is free again", || {
        let (head, _body) = queen.client().open("/v1/heartbeats/stream", &[]);
        (head.status == 200).then_some(())
    });
}

/// Lets a stream that nobody reads fall behind: what fills the buffers between the queen and her
/// reader, and then more batches than the feed keeps. Gives the time of the last heartbeat.
fn leave_behind(queen: &Queen, start: i64) -> i64 {
    let large: Vec<Value> = (0..1000).map(|i| padded("h", start + i, 16)).collect();
    assert_eq!(queen.takes_lines(&large), (1000, 0));
    // 32 at once are a batch, and 128 of these are kept.
    for part in 1..6 {
        let small: Vec<Value> =
            (0..1000).map(|i| heartbeat("h", start + part * 1000 + i)).collect();
        assert_eq!(queen.takes_lines(&small), (1000, 0));
    }
    start + 5999
}

fn lagged(queen: &Queen) -> bool {
    let metrics = queen.get("/metrics");
    metrics.text().lines().any(|line| line == "queen_streams_lagged_total 1")
}

#[test]
fn a_reader_that_is_too_slow_gets_all_of_it_from_the_history() {
    let queen = Queen::start();
    let mut slow = queen.stream("?snapshot=false&event=heartbeat");
    let last = leave_behind(&queen, now_ms() - 9_000);
    let mut received = vec![];
    let mut next = |slow: &mut Stream| {
        let frame = slow.frame().unwrap();
        assert_eq!(frame.event, "heartbeat");
        received.push(frame.id.unwrap());
        received.last().copied()
    };
    next(&mut slow);
    // What it reads from the history, and what comes meanwhile.
    let end = queen.takes(&marked("h", last + 1, 1.0));
    while next(&mut slow) != Some(end.id) {}
    let next_one = queen.takes(&marked("h", last + 2, 1.0));
    assert_eq!(next(&mut slow), Some(next_one.id), "and then it follows");
    let ids = queen.figures("SELECT id FROM hive_heartbeats ORDER BY id");
    let ids: Vec<i64> = ids.into_iter().map(|id| id as i64).collect();
    assert_eq!(received, ids);
    assert!(lagged(&queen), "it had lost its place");
}

#[test]
fn what_is_gone_before_a_slow_reader_comes_to_it_is_named() {
    let queen = Queen::with(&["--seal-after", "1s"]);
    let mut slow = queen.stream("?snapshot=false&event=heartbeat");
    let last = leave_behind(&queen, now_ms() - 9_000);
    queen.until_sealed();
    let ids = queen.figures("SELECT id FROM hive_heartbeats ORDER BY id");
    let ids: Vec<i64> = ids.into_iter().map(|id| id as i64).collect();
    // As retention leaves it.
    queen.rows("UPDATE blocks SET raw = 0; DELETE FROM samples; DELETE FROM heartbeats; DELETE FROM gpu_samples");
    let end = queen.takes(&marked("h", last + 1, 1.0)).id;
    let mut received = vec![];
    let gap = slow.until("a gap", |frame| {
        received.extend(frame.id);
        frame.event == "gap"
    });
    let from = received.last().unwrap() + 1;
    let expected =
        json!({"type": "gap", "from": from, "to": ids.last().unwrap(), "reason": "retention"});
    assert_eq!(gap.data, expected);
    assert_eq!(received, ids[..received.len()]);
    assert_eq!(slow.frame().unwrap().id, Some(end));
    assert!(lagged(&queen), "it had lost its place");
}

#[test]
fn a_reader_of_a_byte_a_second_is_given_up() {
    /// How long the queen waits for it, and as long as anything may take.
    const PATIENCE: Duration = Duration::from_secs(30);
    let queen = Queen::with(&["--max-streams", "1"]);
    let address = queen.url().strip_prefix("http://").unwrap();
    let mut slow = TcpStream::connect(address).unwrap();
    let request = "GET /v1/heartbeats/stream?snapshot=false HTTP/1.1\r\nhost: queen\r\n\r\n";
    slow.write_all(request.as_bytes()).unwrap();
    let mut byte = [0];
    slow.read_exact(&mut byte).unwrap();
    // More than the buffers between the two hold.
    let start = now_ms() - 9_000;
    let large: Vec<Value> = (0..400).map(|i| padded("h", start + i, 16)).collect();
    assert_eq!(queen.takes_lines(&large), (400, 0));
    let begun = Instant::now();
    // Whether the kernel on this side tells the other of room depends on more than one byte: none
    // of what is read makes the queen believe that it goes on.
    let is_gone = || queen.client().open("/v1/heartbeats/stream", &[]).0.status == 200;
    while !is_gone() {
        assert!(begun.elapsed() < PATIENCE + LIMIT, "it is still there");
        thread::sleep(Duration::from_secs(1));
        let _ = slow.read(&mut byte);
    }
    assert!(begun.elapsed() > PATIENCE / 2, "it was given up at once");
}

/// A heartbeat of some size, in KiB: the buffers between the queen and her reader hold few of them.
fn padded(hive: &str, ms: i64, size: usize) -> Value {
    let mut heartbeat = heartbeat(hive, ms);
    let gpu = |index| json!({"index": index, "state": "y".repeat(1024)});
    heartbeat["gpus"] = (0..size).map(gpu).collect();
    heartbeat
}

#[test]
fn a_slow_reader_holds_up_nobody() {
    let queen = Queen::start();
    let _slow = queen.stream("?snapshot=false");
    let mut quick = queen.stream("?snapshot=false");
    let now = now_ms();
    for batch in 0..4 {
        let lines: Vec<Value> =
            (0..1000).map(|i| padded("h", now - 5_000 + batch * 1000 + i, 2)).collect();
        assert_eq!(queen.takes_lines(&lines), (1000, 0));
        for i in 0..1000 {
            assert_eq!(quick.telemetry().data["timestamp"], wire(now - 5_000 + batch * 1000 + i));
        }
    }
}

#[test]
fn a_restart_goes_on_with_larger_ids() {
    let home = Home::new();
    let queen = home.start(&[]);
    let before = queen.takes(&marked("h", now_ms(), 1.0));
    let queen = queen.kill().start(&[]);
    let mut stream = queen.stream("");
    let after = queen.takes(&marked("h", now_ms() + 1, 2.0));
    assert!(after.id > before.id);
    assert_eq!(stream.telemetry().id, Some(after.id));
}
