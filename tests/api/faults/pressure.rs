//! The disk is slower than the heartbeats come. The live view goes on, the queue has an end,
//! and what was not taken is said to be.

use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::bad_disk::BadDisk;
use super::outage;
use crate::support::Queen;
use crate::support::client::{JSON, Reply};
use crate::support::heartbeat::{heartbeat, marked, now_ms};
use crate::support::session::Session;
use crate::support::wait::eventually;

/// Posts beside the test.
fn post(queen: &Queen, body: Vec<u8>) -> JoinHandle<Reply> {
    let client = queen.client();
    thread::spawn(move || client.send("POST", "/v1/hive-heartbeat", &[JSON], &body))
}

fn kinds(queen: &Queen) -> Vec<Value> {
    let rows = queen.rows("SELECT kind FROM events ORDER BY event");
    rows.into_iter().map(|mut row| row["kind"].take()).collect()
}

#[test]
fn disk_slow_by_a_little_only_delays_the_acknowledgement() {
    let disk = BadDisk::new();
    let queen = disk.start(&[]);
    queen.takes(&marked("h", now_ms(), 1.0));
    disk.does("hold");
    let posted = post(&queen, marked("h", now_ms() + 1, 2.0).to_string().into());
    eventually("the new reading is there", || {
        (queen.workers("")[0]["cpu_pct"] == 2.0).then_some(())
    });
    assert!(!posted.is_finished(), "acknowledged before it was stored");
    disk.does("sync-ms=300");
    // It has waited for as long as this machine took to come here.
    let reply = posted.join().unwrap();
    assert!(reply.status == 200 || reply.status == 503, "{}", reply.text());
    for n in 2..6 {
        let begun = Instant::now();
        queen.takes(&marked("h", now_ms() + n, 3.0));
        assert!(begun.elapsed() >= Duration::from_millis(300));
    }
    assert_eq!(queen.figures("SELECT cpu_pct FROM history ORDER BY ts_ms")[..2], [1.0, 2.0]);
}

#[test]
fn disk_slow_refuses_and_the_live_view_goes_on_and_recovers_by_itself() {
    let disk = BadDisk::new();
    let queen = disk.start(&[]);
    let mut stream = queen.stream("");
    let now = now_ms();
    queen.takes(&marked("h", now, 1.0));
    assert!(stream.telemetry().id.is_some());
    eventually("it is online", || (!kinds(&queen).is_empty()).then_some(()));
    disk.does("hold");
    // The first waits until the disk counts as slow, the next ones only a little.
    for n in 1..4 {
        let begun = Instant::now();
        let reply = queen.post(&marked("h", now + n, 1.0 + n as f64));
        assert!(reply.header("retry-after").is_some());
        let detail = reply.problem(503, "storage_unavailable");
        assert!(detail.contains("the disk is slow"), "{detail}");
        assert!(begun.elapsed() < Duration::from_secs(20), "an agent waits 5 s");
        let shown = stream.telemetry();
        assert_eq!(
            (shown.id, &shown.data["workers"][0]["cpu_pct"]),
            (None, &(1.0 + n as f64).into())
        );
        assert_eq!(queen.workers("")[0]["cpu_pct"], 1.0 + n as f64);
    }
    let reply = queen.get("/readyz");
    assert_eq!(reply.status, 503);
    assert!(reply.text().contains("nothing was stored for 3s"), "{}", reply.text());
    assert_eq!(queen.get("/healthz").status, 200);
    assert_eq!(queen.hive("h")["state"], "live");

    disk.does("");
    // They were in the queue all the time.
    for n in 1..4 {
        assert!(queen.takes(&marked("h", now + n, 1.0 + n as f64)).duplicate);
    }
    let mut ids = Vec::new();
    stream.until("the recovery", |frame| {
        ids.extend(frame.id);
        frame.data["kind"] == "storage_recovered"
    });
    assert!(ids.len() == 5 && ids.is_sorted_by(|a, b| a < b), "{ids:?}");
    assert_eq!(queen.get("/readyz").status, 200);
    assert_eq!(queen.figures("SELECT cpu_pct FROM history ORDER BY ts_ms"), [1.0, 2.0, 3.0, 4.0]);
    assert_eq!(kinds(&queen), ["hive_online", "storage_degraded", "storage_recovered"]);
    // Who comes now sees the newest, not the last that was stored.
    assert_eq!(queen.stream("").telemetry().data["workers"][0]["cpu_pct"], 4.0);
}

#[test]
fn disk_slow_makes_no_hive_silent_and_leaves_no_hole() {
    let disk = BadDisk::new();
    let queen = disk.start(&[]);
    let spool = tempfile::tempdir().unwrap();
    let agent = outage::agent(queen.url(), spool.path());
    let spooled = || queen.get("/v1/hives/h").json()["agent"]["spooled"].as_f64();
    eventually("heartbeats come", || (spooled()? == 0.0).then_some(()));
    disk.does("hold");
    eventually("they wait at the agent", || {
        let hive = queen.hive("h");
        assert_eq!((&hive["state"], &hive["silences"]), (&"live".into(), &0.into()));
        (spooled()? > 120.0).then_some(())
    });
    disk.does("");
    outage::until_caught_up(&queen, 120.0);
    outage::assert_no_hole(&queen);
    drop(agent);
}

#[test]
fn a_pause_of_the_queen_is_no_slow_disk() {
    let disk = BadDisk::new();
    let queen = disk.start(&[]);
    queen.takes(&marked("h", now_ms(), 1.0));
    disk.does("hold");
    let posted = post(&queen, marked("h", now_ms() + 1, 2.0).to_string().into());
    eventually("the new reading is there", || {
        (queen.workers("")[0]["cpu_pct"] == 2.0).then_some(())
    });
    queen.signal("STOP");
    thread::sleep(Duration::from_secs(8));
    disk.does("");
    queen.signal("CONT");
    posted.join().unwrap().ok();
    assert_eq!(queen.get("/readyz").status, 200);
    assert!(!kinds(&queen).contains(&"storage_degraded".into()));
}

/// Posts a heartbeat in a body of so many MiB.
fn post_padded(queen: &Queen, hive: &str, mib: usize) -> JoinHandle<Reply> {
    let mut body = heartbeat(hive, now_ms()).to_string().into_bytes();
    body.resize(mib << 20, b' ');
    post(queen, body)
}

#[test]
fn a_full_queue_refuses_at_once_and_what_waits_in_it_is_stored() {
    let disk = BadDisk::new();
    let queen = disk.start(&[]);
    disk.does("hold");
    let waiting: Vec<_> = (0..4).map(|i| post_padded(&queen, &format!("waiting-{i}"), 8)).collect();
    // They are seen before they are in it.
    eventually("all four are in the queue", || {
        let full = format!("queen_write_queue_bytes {}", 4 * (8 << 20));
        queen.get("/metrics").text().lines().any(|line| line == full).then_some(())
    });
    let refused = queen.post(&marked("refused", now_ms(), 1.0));
    refused.problem(503, "queue_full");
    assert_eq!(refused.header("retry-after"), Some("1"));
    // It is seen all the same: the live view takes it without the disk.
    assert_eq!(queen.worker_keys(""), ["refused/llm/8080"]);
    disk.does("");
    for posted in waiting {
        // Those who waited too long were told so; they stayed in the queue all the same.
        let reply = posted.join().unwrap();
        if reply.status != 200 {
            reply.problem(503, "storage_unavailable");
        }
    }
    eventually("the four are stored", || {
        (queen.value("SELECT count(*) FROM hive_heartbeats") == 4.0).then_some(())
    });
    // The same heartbeat again is new: it was not stored.
    let mut again = marked("refused", now_ms(), 1.0);
    again["timestamp"] = queen.hive("refused")["timestamp"].clone();
    assert!(!queen.takes(&again).duplicate);
}

#[test]
fn somebody_who_holds_the_write_lock_with_sqlite3_is_waited_for() {
    let queen = Queen::start();
    let now = now_ms();
    queen.takes(&marked("h", now, 1.0));
    let holder = Session::that_writes(&queen);
    queen.post(&marked("h", now + 1, 2.0)).problem(503, "storage_unavailable");
    assert_eq!(queen.workers("")[0]["cpu_pct"], 2.0);
    drop(holder);
    eventually("she writes again", || {
        queen.takes(&marked("h", now + 1, 2.0));
        (queen.get("/readyz").status == 200).then_some(())
    });
    assert_eq!(queen.figures("SELECT cpu_pct FROM history ORDER BY ts_ms"), [1.0, 2.0]);
}
