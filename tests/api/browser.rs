//! The live feed in a browser: Chromium's own `EventSource`, which resumes by itself.

use std::collections::BTreeSet;
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::channel;
use std::thread;

use serde_json::Value;

use crate::crash::send_until_she_is_gone;
use crate::support::heartbeat::{marked, now_ms, wire};
use crate::support::process::Process;
use crate::support::relay::Relay;
use crate::support::wait::eventually;
use crate::support::{Home, Queen};

const HIVES: usize = 3;
/// Acknowledged under load before the queen is killed.
const ENOUGH: usize = 100;

/// Reports what its `EventSource` brings, in the order in which it comes.
const PAGE: &str = r#"<!doctype html><title>The live feed</title><script>
  let waiting = [], sending = false;
  async function send() {
    if (sending) return;
    sending = true;
    while (waiting.length > 0) {
      await fetch("/seen", {method: "POST", body: JSON.stringify(waiting.splice(0))});
    }
    sending = false;
  }
  function report(what) { waiting.push(what); send(); }
  const source = new EventSource("/v1/heartbeats/stream");
  source.onopen = () => report("open");
  source.addEventListener("heartbeat", (event) => {
    const data = JSON.parse(event.data);
    if (data.type === "hive_telemetry") report([data.hive_id, data.timestamp]);
  });
  source.addEventListener("gap", (event) => report(event.data));
</script>"#;

fn browser(home: &Home, url: &str) -> Process {
    let mut command = Command::new("chromium");
    command
        .args(["--headless", "--disable-gpu", "--no-first-run", "--disable-background-networking"])
        // As root it has no sandbox; the page is our own.
        .args(["--no-sandbox", "--disable-dev-shm-usage", "--no-proxy-server"])
        .arg(format!("--user-data-dir={}", home.path("browser").display()))
        .arg(url);
    Process::start("chromium", &mut command)
}

/// What the page has seen of readings.
fn seen(relay: &Relay) -> Vec<(String, String)> {
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let readings = relay.reports().into_iter().filter(|report| *report != "open");
    readings.map(|report| (text(&report[0]), text(&report[1]))).collect()
}

fn until_opened(relay: &Relay, times: usize) {
    eventually("the page is connected", || {
        let opened = relay.reports().iter().filter(|report| **report == "open").count();
        (opened >= times).then_some(())
    });
}

#[track_caller]
fn until_all_is_seen(relay: &Relay, acknowledged: &BTreeSet<(String, String)>) {
    eventually("all that was acknowledged is seen", || {
        let seen: BTreeSet<_> = seen(relay).into_iter().collect();
        acknowledged.is_subset(&seen).then_some(())
    });
}

#[test]
fn a_page_misses_nothing_and_sees_nothing_twice_while_queens_come_and_go() {
    let home = Home::new();
    let queen = home.start(&[]);
    let relay = Relay::start(PAGE);
    relay.hand_to(&queen);
    let browser = browser(&home, &relay.url());
    until_opened(&relay, 1);

    let mut next_ms = now_ms() - 60_000;
    let mut acknowledged = BTreeSet::new();
    let mut take = |queen: &Queen, acknowledged: &mut BTreeSet<_>| {
        for _ in 0..50 {
            for hive in (0..HIVES).map(|hive| format!("h{hive}")) {
                queen.takes(&marked(&hive, next_ms, 1.0));
                acknowledged.insert((hive, wire(next_ms)));
            }
            next_ms += 1;
        }
        next_ms
    };
    take(&queen, &mut acknowledged);
    until_all_is_seen(&relay, &acknowledged);

    // She ends in order, and takes more before the page is there again.
    let queen = queen.stop().start(&[]);
    take(&queen, &mut acknowledged);
    relay.hand_to(&queen);
    until_opened(&relay, 2);
    let next_ms = take(&queen, &mut acknowledged);
    until_all_is_seen(&relay, &acknowledged);

    // She is killed while readings come.
    let (count, (report, reports)) = (AtomicUsize::new(0), channel());
    let queen = thread::scope(|scope| {
        for hive in (0..HIVES).map(|hive| format!("h{hive}")) {
            let (client, count, report) = (queen.client(), &count, report.clone());
            scope.spawn(move || {
                send_until_she_is_gone(&client, &hive, &mut next_ms.clone(), false, |ms| {
                    report.send((hive.clone(), wire(ms))).unwrap();
                    count.fetch_add(1, Ordering::Relaxed);
                });
            });
        }
        eventually("enough is acknowledged", || {
            (count.load(Ordering::Relaxed) >= ENOUGH).then_some(())
        });
        queen.kill()
    })
    .start(&[]);
    drop(report);
    acknowledged.extend(reports);
    relay.hand_to(&queen);
    for hive in (0..HIVES).map(|hive| format!("h{hive}")) {
        let last = now_ms();
        queen.takes(&marked(&hive, last, 1.0));
        acknowledged.insert((hive, wire(last)));
    }
    until_all_is_seen(&relay, &acknowledged);

    browser.signal("TERM");
    browser.wait();
    let seen = seen(&relay);
    let distinct: BTreeSet<_> = seen.iter().cloned().collect();
    assert_eq!(distinct.len(), seen.len(), "nothing is seen twice");
    let rows = queen.rows("SELECT hive, ts_ms FROM hive_heartbeats");
    let stored: BTreeSet<_> = rows
        .iter()
        .map(|row| {
            (row["hive"].as_str().unwrap().to_owned(), wire(row["ts_ms"].as_f64().unwrap() as i64))
        })
        .collect();
    assert_eq!(distinct, stored);
    let missed: Vec<_> = acknowledged.difference(&distinct).collect();
    assert!(missed.is_empty(), "missed: {missed:?}");
}
