//! A stream that was interrupted goes on where it ended.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::support::heartbeat::{heartbeat, marked, now_ms, wire};
use crate::support::stream::{Frame, Stream};
use crate::support::{Home, Queen};

/// Everything with an id up to one of them.
fn through(stream: &mut Stream, last: i64) -> Vec<Frame> {
    let mut frames = Vec::new();
    loop {
        let frame = stream.until("what has an id", |frame| {
            assert_ne!(frame.event, "gap", "{:?}", frame.data);
            frame.id.is_some()
        });
        let id = frame.id.unwrap();
        assert!(id <= last, "{id} comes before {last}");
        frames.push(frame);
        if id == last {
            return frames;
        }
    }
}

fn ids(frames: &[Frame]) -> Vec<i64> {
    frames.iter().map(|frame| frame.id.unwrap()).collect()
}

/// All ids in the history after one.
fn recorded(home: &Home, after: i64) -> Vec<i64> {
    let sql = format!(
        "SELECT id FROM (SELECT id FROM hive_heartbeats UNION ALL SELECT event FROM events)
          WHERE id > {after} ORDER BY id"
    );
    home.figures(&sql).into_iter().map(|id| id as i64).collect()
}

fn resumed(queen: &Queen, id: i64, query: &str) -> Stream {
    Stream::open(&queen.client(), query, &[("last-event-id", &id.to_string())])
}

#[test]
fn what_was_missed_comes_live_and_sealed_and_after_a_restart() {
    let queen = Queen::with(&["--seal-after", "1s"]);
    let start = now_ms() - 300_000;
    let acks: Vec<_> =
        (0..50).map(|i| queen.takes(&marked("h", start + i * 1000, i as f64)).id).collect();
    queen.until_sealed();
    let queen = queen.kill().start(&["--seal-after", "1h"]);
    let more: Vec<_> =
        (50..80).map(|i| queen.takes(&marked("h", start + i * 1000, i as f64)).id).collect();
    let mut stream = resumed(&queen, acks[19], "");
    let frames = through(&mut stream, more[29]);
    assert_eq!(ids(&frames), recorded(&queen, acks[19]));
    let figures: Vec<_> = frames
        .iter()
        .filter(|frame| frame.event == "heartbeat")
        .map(|frame| frame.data["workers"][0]["cpu_pct"].as_f64().unwrap())
        .collect();
    assert_eq!(figures, (20..80).map(f64::from).collect::<Vec<_>>());
    let next = queen.takes(&marked("h", start + 80_000, 80.0)).id;
    assert_eq!(ids(&through(&mut stream, next)), [next], "and then it follows");
}

#[test]
fn a_stream_may_begin_in_the_past_by_time_or_by_id() {
    let queen = Queen::start();
    let now = now_ms();
    let first = queen.takes(&marked("h", now, 1.0)).id;
    let second = queen.takes(&marked("h", now + 1, 2.0)).id;
    let rfc = wire(second / 1000);
    for since in ["-30s", "2020-01-01T00:00:00Z", "0"] {
        let mut stream = queen.stream(&format!("?since={since}&event=heartbeat"));
        assert_eq!(ids(&through(&mut stream, second)), [first, second], "{since}");
    }
    let mut stream = queen.stream(&format!("?since={first}&event=heartbeat"));
    assert_eq!(ids(&through(&mut stream, second)), [second]);
    // To the millisecond: what was received then or later.
    let mut stream = queen.stream(&format!("?since={rfc}&event=heartbeat"));
    assert_eq!(through(&mut stream, second).last().unwrap().id, Some(second));
    let mut both = resumed(&queen, first, "?since=-1h&event=heartbeat");
    assert_eq!(ids(&through(&mut both, second)), [second], "the header wins");
    let mut lines = queen.ndjson(&format!("?since={first}&event=heartbeat"));
    let line: Value = serde_json::from_str(&lines.line().unwrap()).unwrap();
    assert_eq!(line["id"], second);
}

#[test]
fn late_data_stays_late_in_a_replay() {
    let queen = Queen::with(&["--seal-after", "1s"]);
    let now = now_ms() - 100_000;
    let before = queen.takes(&marked("h", now, 1.0)).id;
    queen.until_sealed();
    let late = queen.takes(&marked("h", now - 5000, 2.0)).id;
    let next = queen.takes(&marked("h", now + 1000, 3.0)).id;
    let also_late = queen.takes(&marked("h", now + 500, 4.0)).id;
    let last = queen.takes(&marked("h", now + 2000, 5.0)).id;
    let mut stream = resumed(&queen, before, "?event=heartbeat");
    assert_eq!(ids(&through(&mut stream, last)), [next, last]);
    let mut stream = resumed(&queen, before, "?event=heartbeat&backfill=true");
    let frames = through(&mut stream, last);
    assert_eq!(ids(&frames), [late, next, also_late, last]);
    let flags: Vec<_> = frames.iter().map(|frame| frame.data["backfill"] == true).collect();
    assert_eq!(flags, [true, false, true, false]);
}

#[test]
fn late_data_stays_late_when_what_is_newer_is_gone() {
    let queen = Queen::with(&["--seal-after", "1s"]);
    let now = now_ms() - 100_000;
    let newer = queen.takes(&marked("h", now, 1.0)).id;
    queen.until_sealed();
    let sealed = queen.takes(&marked("h", now - 5000, 2.0)).id;
    queen.until_sealed();
    let home = queen.stop();
    // As retention leaves it.
    home.rows("UPDATE blocks SET raw = 0 WHERE block = 1; DELETE FROM heartbeats WHERE block = 1");
    let queen = home.start(&["--seal-after", "1h"]);
    let live = queen.takes(&marked("h", now - 4000, 3.0)).id;
    let mut stream = resumed(&queen, newer, "?event=heartbeat&backfill=true");
    let frames = through(&mut stream, live);
    assert_eq!(ids(&frames), [sealed, live]);
    assert!(frames.iter().all(|frame| frame.data["backfill"] == true), "{frames:?}");
}

#[test]
fn what_the_history_has_no_more_is_named() {
    let queen = Queen::with(&["--seal-after", "1s"]);
    let start = now_ms() - 100_000;
    let gone: Vec<_> = (0..3).map(|i| queen.takes(&marked("h", start + i, 1.0)).id).collect();
    queen.until_sealed();
    let home = queen.stop();
    // As retention leaves it.
    home.rows("UPDATE blocks SET raw = 0; DELETE FROM samples; DELETE FROM heartbeats; DELETE FROM gpu_samples");
    let queen = home.start(&[]);
    let kept = queen.takes(&marked("h", start + 10, 2.0)).id;
    let mut stream = resumed(&queen, gone[0], "?event=heartbeat");
    let gap = stream.until("a gap", |frame| frame.event == "gap");
    let expected =
        json!({"type": "gap", "from": gone[0] + 1, "to": gone[2], "reason": "retention"});
    assert_eq!((gap.id, gap.data), (None, expected));
    assert_eq!(ids(&through(&mut stream, kept)), [kept]);
    // Who has seen all that is gone misses nothing.
    assert_eq!(ids(&through(&mut resumed(&queen, gone[2], "?event=heartbeat"), kept)), [kept]);
}

#[test]
fn an_id_that_was_never_given_goes_on_now_and_says_so() {
    let queen = Queen::start();
    let last = queen.takes(&marked("h", now_ms(), 1.0)).id;
    let mut stream = resumed(&queen, last + 1_000_000_000, "?event=heartbeat");
    let gap = stream.until("a gap", |frame| frame.event == "gap").data;
    assert_eq!((&gap["from"], &gap["reason"]), (&json!(0), &json!("retention")));
    assert!(gap["to"].as_i64().unwrap() >= last);
    let next = queen.takes(&marked("h", now_ms() + 1, 2.0)).id;
    assert_eq!(ids(&through(&mut stream, next)), [next]);
}

#[test]
fn what_happens_is_told_between_the_heartbeats_and_again_in_a_replay() {
    let queen = Queen::start();
    let now = now_ms();
    let mut stream = queen.stream("?event=lifecycle&hive=h");
    let before = queen.takes(&heartbeat("h", now)).id;
    let ack = queen.takes(&marked("h", now + 1, 1.0)).id;
    let started = stream.until("a start", |frame| frame.data["kind"] == "worker_started");
    assert_eq!(started.event, "lifecycle");
    assert!(started.id > Some(ack));
    let told = json!({
        "type": "lifecycle", "kind": "worker_started", "timestamp": wire(now + 1), "hive_id": "h",
        "worker": "llm/8080", "detail": {"pid": 1, "model": null},
    });
    assert_eq!(started.data, told);
    let mut again = resumed(&queen, before, "");
    let frames = through(&mut again, started.id.unwrap());
    let of = |frames: &[Frame], event: &str| {
        frames.iter().filter(|f| f.event == event).map(|f| f.data.clone()).collect::<Vec<_>>()
    };
    assert!(of(&frames, "lifecycle").contains(&told));
    assert_eq!(of(&frames, "heartbeat").len(), 1);
}

#[test]
fn an_interrupted_reader_misses_nothing_and_sees_nothing_twice() {
    let home = Home::new();
    let mut queen = home.start(&["--seal-after", "1s"]);
    let start = now_ms() - 400_000;
    let (mut last, mut seen, mut acknowledged) = (0, Vec::new(), BTreeSet::new());
    for life in 0..6 {
        let mut stream = if life == 0 {
            queen.stream("?since=0&event=heartbeat")
        } else {
            resumed(&queen, last, "?event=heartbeat")
        };
        for i in 0..40 {
            let ack = queen.takes(&marked("h", start + life * 40_000 + i * 1000, 1.0));
            acknowledged.insert(ack.id);
            // The reader is gone before the last ones.
            if i < 30 {
                let frame = stream.telemetry();
                last = frame.id.unwrap();
                seen.push(last);
            }
        }
        drop(stream);
        if life % 2 == 1 {
            queen = queen.kill().start(&["--seal-after", "1s"]);
        }
    }
    let end = *acknowledged.last().unwrap();
    seen.extend(ids(&through(&mut resumed(&queen, last, "?event=heartbeat"), end)));
    assert_eq!(seen, acknowledged.into_iter().collect::<Vec<_>>());
}

#[test]
fn a_place_that_is_none_is_named() {
    let queen = Queen::start();
    for (query, field) in [
        ("?since=yesterday", "since"),
        ("?since=12x", "since"),
        ("?interval=10ms", "interval"),
        ("?interval=soon", "interval"),
        ("?event=telemetry", "event"),
        ("?backfill=maybe", "backfill"),
    ] {
        let said = queen.get(&format!("/v1/heartbeats/stream{query}"));
        let said = said.problem(400, "invalid_parameter");
        assert!(said.starts_with(&format!("{field}: ")), "{said}");
    }
    let headers = [("last-event-id", "tomorrow")];
    let reply = queen.client().send("GET", "/v1/heartbeats/stream", &headers, &[]);
    let said = reply.problem(400, "invalid_parameter");
    assert!(said.starts_with("Last-Event-ID: \"tomorrow\" is not an id"), "{said}");
}
