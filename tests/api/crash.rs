//! `kill -9` under load: what was acknowledged is there, exactly once.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::channel;
use std::thread;

use serde_json::Value;

use crate::support::client::{Client, JSON, NDJSON};
use crate::support::heartbeat::{heartbeat, marked, now_ms, worker};
use crate::support::stream::Stream;
use crate::support::wait::eventually;
use crate::support::{Home, Queen, rounds};

const HIVES: usize = 6;
/// Readings are sealed all the while.
const SEALING: &[&str] = &["--seal-after", "1s"];
/// The least number of acknowledgements in one life of the queen.
const ENOUGH: usize = 150;

/// The readings of one hive, each one millisecond after the other; the odd hives send them
/// in threes.
pub(crate) fn send_until_she_is_gone(
    client: &Client,
    hive: &str,
    next_ms: &mut i64,
    bulk: bool,
    mut acknowledged: impl FnMut(i64),
) {
    loop {
        let first = *next_ms;
        let lines = if bulk { 3 } else { 1 };
        let body: Vec<String> =
            (first..first + lines).map(|ms| marked(hive, ms, 1.0).to_string()).collect();
        let (path, kind) =
            if bulk { ("/v1/hive-heartbeats", NDJSON) } else { ("/v1/hive-heartbeat", JSON) };
        let answer = client.try_send("POST", path, &[kind], body.join("\n").as_bytes());
        let Some(answer) = answer else { return };
        assert_eq!(answer.status, 200, "{}", answer.text());
        (first..first + lines).for_each(&mut acknowledged);
        *next_ms += lines;
    }
}

#[test]
fn queen_killed_loses_nothing_acknowledged_and_doubles_nothing() {
    let home = Home::new();
    let start = now_ms() - 600_000;
    let mut next_ms = [start; HIVES];
    let mut acknowledged: BTreeSet<(usize, i64)> = BTreeSet::new();
    for life in 0..rounds(3) {
        let queen = home.start(SEALING);
        let count = AtomicUsize::new(0);
        let (report, reports) = channel();
        thread::scope(|scope| {
            for (hive, next_ms) in next_ms.iter_mut().enumerate() {
                let (client, count, report) = (queen.client(), &count, report.clone());
                scope.spawn(move || {
                    send_until_she_is_gone(
                        &client,
                        &format!("h{hive}"),
                        next_ms,
                        hive % 2 == 1,
                        |ms| {
                            report.send((hive, ms)).unwrap();
                            count.fetch_add(1, Ordering::Relaxed);
                        },
                    );
                });
            }
            // A block more than in her last life: she is killed while she seals and deletes.
            eventually("enough is acknowledged, and some of it sealed", || {
                let blocks = queen.value("SELECT count(*) FROM blocks").as_f64();
                let enough = count.load(Ordering::Relaxed) >= ENOUGH;
                (enough && blocks > Some(life as f64)).then_some(())
            });
            queen.kill();
        });
        drop(report);
        acknowledged.extend(reports);
        // The readings whose answer was lost are sent again by the next life: `next_ms`
        // stands at the first one without an acknowledgement.
    }
    let queen = home.start(&[]);
    assert_each_is_there_once(&queen, &acknowledged);
    for (hive, next_ms) in next_ms.into_iter().enumerate() {
        queen.takes(&marked(&format!("h{hive}"), next_ms, 1.0));
        acknowledged.insert((hive, next_ms));
    }
    assert_each_is_there_once(&queen, &acknowledged);
    assert_eq!(queen.value("PRAGMA integrity_check"), "ok");
}

/// Reads a stream until it ends or breaks, or until something with this id came.
fn read(mut stream: Stream, until: i64, last: &mut i64, seen: &mut Vec<(usize, i64)>) {
    while let Ok(Some(frame)) = stream.try_frame() {
        assert_ne!(frame.event, "gap", "{}", frame.text);
        let Some(id) = frame.id else { continue };
        assert!(id > *last, "{id} comes after {last}");
        *last = id;
        let of = |name: &str| frame.data[name].as_str().unwrap();
        let hive = of("hive_id").strip_prefix('h').unwrap().parse().unwrap();
        let timestamp: chrono::DateTime<chrono::Utc> = of("timestamp").parse().unwrap();
        seen.push((hive, timestamp.timestamp_millis()));
        if id >= until {
            return;
        }
    }
}

#[test]
fn a_client_that_goes_on_after_the_last_id_sees_each_once() {
    let home = Home::new();
    let mut next_ms = [now_ms() - 600_000; HIVES];
    let mut acknowledged: BTreeSet<(usize, i64)> = BTreeSet::new();
    let (mut seen, mut last) = (Vec::new(), 0);
    let resume = |queen: &Queen, last: i64| {
        let header = [("last-event-id", last.to_string())];
        let header = header.each_ref().map(|(name, value)| (*name, value.as_str()));
        Stream::open(&queen.client(), "?event=heartbeat", &header)
    };
    for _ in 0..2 {
        let queen = home.start(SEALING);
        let (count, stream) = (AtomicUsize::new(0), resume(&queen, last));
        let (report, reports) = channel();
        thread::scope(|scope| {
            scope.spawn(|| read(stream, i64::MAX, &mut last, &mut seen));
            for (hive, next_ms) in next_ms.iter_mut().enumerate() {
                let (client, count, report) = (queen.client(), &count, report.clone());
                scope.spawn(move || {
                    let (name, bulk) = (format!("h{hive}"), hive % 2 == 1);
                    send_until_she_is_gone(&client, &name, next_ms, bulk, |ms| {
                        report.send((hive, ms)).unwrap();
                        count.fetch_add(1, Ordering::Relaxed);
                    });
                });
            }
            eventually("enough is acknowledged", || {
                (count.load(Ordering::Relaxed) >= ENOUGH).then_some(())
            });
            queen.kill();
        });
        drop(report);
        acknowledged.extend(reports);
    }
    let queen = home.start(SEALING);
    let stream = resume(&queen, last);
    let mut end = 0;
    for (hive, next_ms) in next_ms.into_iter().enumerate() {
        // Beyond what may be stored without an acknowledgement.
        let ms = next_ms + 3;
        end = queen.takes(&marked(&format!("h{hive}"), ms, 1.0)).id;
        acknowledged.insert((hive, ms));
    }
    read(stream, end, &mut last, &mut seen);
    let distinct: BTreeSet<_> = seen.iter().copied().collect();
    assert_eq!(distinct.len(), seen.len(), "nothing is seen twice");
    let stored: BTreeSet<_> =
        queen.rows("SELECT hive, ts_ms FROM hive_heartbeats").iter().map(reading).collect();
    assert_eq!(distinct, stored);
    let missed: Vec<_> = acknowledged.difference(&distinct).collect();
    assert!(missed.is_empty(), "missed: {missed:?}");
    assert!(acknowledged.len() >= 2 * ENOUGH);
}

#[track_caller]
fn assert_each_is_there_once(queen: &Queen, acknowledged: &BTreeSet<(usize, i64)>) {
    let rows = queen.rows("SELECT hive, ts_ms FROM history");
    let stored: Vec<(usize, i64)> = rows.iter().map(reading).collect();
    let distinct: BTreeSet<(usize, i64)> = stored.iter().copied().collect();
    assert_eq!(distinct.len(), stored.len(), "nothing is doubled");
    let lost: Vec<_> = acknowledged.difference(&distinct).collect();
    assert!(lost.is_empty(), "lost: {lost:?}");
    assert!(acknowledged.len() >= rounds(3) * ENOUGH);
}

fn reading(row: &Value) -> (usize, i64) {
    let hive = row["hive"].as_str().unwrap().strip_prefix('h').unwrap();
    (hive.parse().unwrap(), row["ts_ms"].as_f64().unwrap() as i64)
}

/// Readings to seal: so many that it takes many slices, and each is told from the others.
fn fill(queen: &Queen) {
    let start = now_ms() - 60_000;
    for (hive, part) in (0..16).flat_map(|hive| (0..3).map(move |part| (hive, part))) {
        let reading = |ms: i64| {
            let mut reading = heartbeat(&format!("h{hive}"), start + ms);
            let figure = |at: i64| ms as f64 + at as f64 / 10.0 + f64::from(hive) / 1000.0;
            reading["workers"] = (0..4)
                .map(|at| {
                    let mut worker = worker("llm", &format!("{}", 8080 + at));
                    worker["cpu_pct"] = figure(at).into();
                    worker
                })
                .collect();
            reading
        };
        let lines: Vec<Value> = (1000 * part..1000 * (part + 1)).map(reading).collect();
        assert_eq!(queen.takes_lines(&lines), (1000, 0));
    }
}

/// A summary of all readings in which a lost, a doubled and a changed one would show.
fn contents(home: &Home) -> Vec<Value> {
    // In whole thousandths: a sum of floats depends on their order.
    let samples = "SELECT count(*), count(DISTINCT hive || instance || ts_ms), sum(figure),
                          sum(ts_ms % 1000 * figure), max(ts_ms), min(ts_ms)
                     FROM (SELECT *, CAST(round(cpu_pct * 1000) AS INTEGER) AS figure FROM history)";
    let heartbeats = "SELECT count(*), count(DISTINCT id), count(DISTINCT hive || ts_ms),
                             sum(workers), max(id), min(id) FROM hive_heartbeats";
    [home.rows(samples), home.rows(heartbeats), home.rows("SELECT * FROM latest")].concat()
}

/// Kills a queen who seals when a query finds what it looks for, and gives what she left
/// behind, of which the same can be said. Each try has its own copy: she may be too quick.
fn killed_while(filled: &Home, query: &str) -> Home {
    for _ in 0..50 {
        let copy = Home::new();
        std::fs::copy(filled.database(), copy.database()).unwrap();
        let queen = copy.start(SEALING);
        eventually("she begins to seal", || {
            let found = queen.value(query) == 1.0;
            let done = queen.value("SELECT count(*) FROM heartbeats_live") == 0.0;
            (found || done).then_some(())
        });
        let home = queen.kill();
        if home.value(query) == 1.0 {
            return home;
        }
    }
    panic!("she was never killed while this was so: {query}")
}

#[test]
fn sealing_that_breaks_off_loses_nothing_and_doubles_nothing() {
    let queen = Queen::with(&["--seal-after", "1h"]);
    fill(&queen);
    let before = contents(&queen);
    let filled = queen.stop();
    for query in [
        // Rows of a block that is not listed yet.
        "SELECT EXISTS (SELECT 1 FROM sample_index WHERE block NOT IN (SELECT block FROM blocks))",
        // A listed block, whose live rows are not all deleted.
        "SELECT EXISTS (SELECT 1 FROM blocks) AND EXISTS (SELECT 1 FROM heartbeats_live)",
    ] {
        let home = killed_while(&filled, query);
        assert_eq!(contents(&home), before, "after the end, {query}");
        let queen = home.start(&["--seal-after", "1h"]);
        assert_eq!(contents(&queen), before, "after the next start, {query}");
        let queen = queen.kill().start(SEALING);
        queen.until_sealed();
        assert_eq!(contents(&queen), before, "after sealing, {query}");
        assert_eq!(queen.value("PRAGMA integrity_check"), "ok");
    }
}
