//! The disk is slower than the heartbeats come. The live view goes on, the queue has an end,
//! and what was not taken is said to be.

use std::thread;

use crate::support::Queen;
use crate::support::client::{JSON, Reply};
use crate::support::heartbeat::{heartbeat, marked, now_ms};
use crate::support::session::Session;
use crate::support::wait::eventually;

/// Posts a heartbeat in a body of so many MiB.
fn post_padded(queen: &Queen, hive: &str, mib: usize) -> thread::JoinHandle<Reply> {
    let mut body = heartbeat(hive, now_ms()).to_string().into_bytes();
    body.resize(mib << 20, b' ');
    let client = queen.client();
    thread::spawn(move || client.send("POST", "/v1/hive-heartbeat", &[JSON], &body))
}

#[test]
fn the_live_view_does_not_wait_for_the_disk_and_the_acknowledgement_does() {
    let queen = Queen::start();
    queen.takes(&marked("h", now_ms(), 1.0));
    let holder = Session::that_writes(&queen);
    let posted = {
        let (client, body) = (queen.client(), marked("h", now_ms() + 1, 2.0).to_string());
        thread::spawn(move || client.send("POST", "/v1/hive-heartbeat", &[JSON], body.as_bytes()))
    };
    eventually("the new reading is there", || {
        (queen.workers("")[0]["cpu_pct"] == 2.0).then_some(())
    });
    assert!(!posted.is_finished(), "acknowledged before it was stored");
    assert_eq!(queen.figures("SELECT cpu_pct FROM history"), [1.0]);
    drop(holder);
    posted.join().unwrap().ok();
    assert_eq!(queen.figures("SELECT cpu_pct FROM history ORDER BY ts_ms"), [1.0, 2.0]);
}

#[test]
fn a_full_queue_refuses_at_once_and_what_waits_in_it_is_stored() {
    let queen = Queen::start();
    let holder = Session::that_writes(&queen);
    let waiting: Vec<_> = (0..4).map(|i| post_padded(&queen, &format!("waiting-{i}"), 8)).collect();
    eventually("all four are in the queue", || {
        let hives = queen.get("/v1/hives").ok()["hives"].take();
        (hives.as_array().unwrap().len() == 4).then_some(())
    });
    let refused = queen.post(&marked("refused", now_ms(), 1.0));
    refused.problem(503, "queue_full");
    assert_eq!(refused.header("retry-after"), Some("1"));
    // It is seen all the same: the live view takes it without the disk.
    assert_eq!(queen.worker_keys(""), ["refused/llm/8080"]);
    drop(holder);
    for posted in waiting {
        posted.join().unwrap().ok();
    }
    assert_eq!(queen.value("SELECT count(*) FROM hive_heartbeats"), 4.0);
    // The same heartbeat again is new: it was not stored.
    let mut again = marked("refused", now_ms(), 1.0);
    again["timestamp"] = queen.hive("refused")["timestamp"].clone();
    assert!(!queen.takes(&again).duplicate);
}
