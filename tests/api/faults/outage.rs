//! The real agent while the real queen is away, and while it is killed itself: nothing is missing
//! afterwards, or there twice.

use std::collections::BTreeSet;
use std::path::Path;

use crate::support::agent::program;
use crate::support::heartbeat::now_ms;
use crate::support::process::Process;
use crate::support::queen::clean;
use crate::support::wait::eventually;
use crate::support::{Home, Queen, rounds};

/// Every heartbeat says how many waited when it was collected.
const WAITING: &str = "SELECT spooled FROM hive_heartbeats ORDER BY ts_ms";

pub(super) fn agent(url: &str, spool: &Path) -> Process {
    let mut agent = clean(program());
    agent.args(["run", "--interval", "100ms", "--hive-id", "h", "--discover=false"]);
    agent.args(["--queen", url, "--spool-dir"]).arg(spool);
    Process::start("the agent", &mut agent)
}

/// Waits until so much more is on disk.
fn until_more(spool: &Path, bytes: u64) {
    let size = || {
        let sizes = std::fs::read_dir(spool).ok()?.map(|file| file.ok()?.metadata().ok());
        Some(sizes.flatten().map(|file| file.len()).sum::<u64>())
    };
    let before = size().unwrap_or(0);
    eventually("heartbeats on disk", || (size()? >= before + bytes).then_some(()));
}

/// Waits until nothing waits any more of an outage in which at least so many did.
#[track_caller]
pub(super) fn until_caught_up(home: &Home, least: f64) {
    // She has the last ones of the outage, then: those that found nobody waiting came after it.
    eventually("the agent has caught up", || {
        let waiting = home.figures(WAITING);
        let peak = waiting.iter().copied().fold(0.0, f64::max);
        (peak > least && waiting.ends_with(&[0.0, 0.0])).then_some(())
    });
}

/// One more waited each time, until somebody was there; and each is there once.
#[track_caller]
pub(super) fn assert_no_hole(home: &Home) {
    let waiting = home.figures(WAITING);
    let peak = waiting.iter().copied().fold(0.0, f64::max);
    let is_missing = |n: &f64| !waiting.contains(n);
    let missing: Vec<f64> = (0..=peak as u64).map(|n| n as f64).filter(is_missing).collect();
    // The first of an agent's start may have come before the spool was looked through.
    assert!(missing.len() <= 1, "{missing:?} of {waiting:?}");
    let total = home.value("SELECT count(*) FROM hive_heartbeats");
    assert_eq!(total, home.value("SELECT count(DISTINCT ts_ms) FROM hive_heartbeats"));
}

#[test]
fn queen_down_leaves_no_hole_even_if_the_agent_is_killed() {
    let queen = Queen::start();
    let (url, bind) = (queen.url().to_owned(), format!("--bind={}", queen.address()));
    let spool = queen.path("spool");
    let mut first = agent(&url, &spool);
    eventually("heartbeats", || (queen.figures(WAITING).len() >= 5).then_some(()));
    let home = queen.kill();
    until_more(&spool, 4000);
    first.kill();
    let second = agent(&url, &spool);
    until_more(&spool, 4000);
    let queen = home.start(&[&bind]);
    until_caught_up(&queen, 10.0);
    assert_no_hole(&queen);
    drop(second);
}

#[test]
fn agent_killed_again_and_again_keeps_what_it_had_written_down() {
    let queen = Queen::start();
    let (url, bind) = (queen.url().to_owned(), format!("--bind={}", queen.address()));
    let spool = queen.path("spool");
    let home = queen.kill();
    let mut lives = Vec::new();
    for _ in 0..rounds(3) {
        let begun = now_ms();
        let mut agent = agent(&url, &spool);
        // Some of them in the middle of a write.
        until_more(&spool, 1500 + fastrand::u64(..1500));
        agent.kill();
        lives.push((begun, now_ms()));
    }
    let last = agent(&url, &spool);
    let queen = home.start(&[&bind]);
    until_caught_up(&queen, 1.0);
    drop(last);

    let rows = queen.rows("SELECT ts_ms, spooled, id FROM hive_heartbeats ORDER BY ts_ms");
    let figure = |row: &serde_json::Value, name: &str| row[name].as_f64().unwrap() as i64;
    let stored: Vec<(i64, i64)> =
        rows.iter().map(|row| (figure(row, "ts_ms"), figure(row, "spooled"))).collect();
    let times: BTreeSet<i64> = stored.iter().map(|&(ts, _)| ts).collect();
    assert_eq!(times.len(), stored.len(), "nothing is doubled");
    // Each life found on disk all that came of those before it; of its own it misses none but the
    // last ones, which were not written down yet.
    let (mut before, mut torn) = (0, 0);
    for (begun, ended) in lives {
        let life: Vec<i64> =
            stored.iter().filter(|(ts, _)| (begun..=ended).contains(ts)).map(|s| s.1).collect();
        for (n, &waited) in life.iter().enumerate() {
            let n = n as i64;
            // The first may come before the spool was looked through.
            assert!(waited == before + n || n < 2 && waited == n, "{before}: {life:?}");
        }
        assert!(life.len() >= 2, "{life:?}");
        before += life.len() as i64;
        torn += 1;
    }
    eprintln!("{torn} lives, {before} heartbeats written down, 0 lost, 0 doubled");
}
