//! A fleet that comes back at once, with the agents' own spool and delivery.

use std::time::Duration;

use serde_json::Value;

use crate::support::Queen;
use crate::support::agent::program;
use crate::support::heartbeat::now_ms;
use crate::support::process::Process;
use crate::support::queen::clean;
use crate::support::wait::eventually;

const AGENTS: f64 = 100.0;

/// `benches/herd.sh` does the same with a thousand, and with an hour's backlog.
#[test]
fn queen_down_and_all_agents_back_at_once_leaves_no_hole_and_delays_nothing() {
    let queen = Queen::start();
    let (url, bind) = (queen.url().to_owned(), format!("--bind={}", queen.address()));
    let spools = tempfile::tempdir().unwrap();
    let mut fleet = clean(program());
    fleet.args(["simulate", "--hives", "100", "--workers", "2", "--interval", "500ms"]);
    fleet.args(["--duration", "25s", "--quiet", "--json", "--queen", &url, "--spool-dir"]);
    let fleet = Process::start("the fleet", fleet.arg(spools.path()));
    let heard = "SELECT count(DISTINCT hive) FROM hive_heartbeats";
    eventually("all are heard", || (queen.value(heard) == AGENTS).then_some(()));
    let home = queen.kill();
    // That is the outage.
    std::thread::sleep(Duration::from_secs(6));
    let back_ms = now_ms();
    let queen = home.start(&[&bind]);

    let report = fleet.next_line().expect("a report");
    let kept = serde_json::from_str::<Value>(&report).unwrap()["kept"].take();
    let count = |name: &str| kept[name].as_f64().unwrap();
    assert!(count("made") > 20.0 * AGENTS, "{report}");
    assert_eq!((count("waiting"), count("dropped"), count("refused")), (0.0, 0.0, 0.0), "{report}");
    assert_eq!(queen.value("SELECT count(*) FROM hive_heartbeats"), count("made"));
    assert_eq!(
        queen.value("SELECT count(*) FROM (SELECT DISTINCT hive, ts_ms FROM hive_heartbeats)"),
        count("made")
    );
    // An id is the moment of receipt.
    let back = format!(
        "WITH back AS (SELECT hive, min(id) / 1000 AS ms FROM hive_heartbeats
                        WHERE id / 1000 > {back_ms} GROUP BY hive)"
    );
    let last = queen.value(&format!("{back} SELECT max(ms) - {back_ms} FROM back"));
    assert!(last.as_f64().unwrap() < 10_000.0, "the last one was back after {last} ms");
    let delay = queen.value(&format!(
        "{back} SELECT max(id / 1000 - ts_ms) FROM hive_heartbeats JOIN back USING (hive)
          WHERE ts_ms >= ms"
    ));
    // 2 s are promised; the rest is for the machine that runs the other tests beside it.
    assert!(delay.as_f64().unwrap() < 5_000.0, "a new one came after {delay} ms");
}
