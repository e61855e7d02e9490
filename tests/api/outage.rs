//! The real agent while the real queen is away: it is killed as well, and nothing is missing
//! afterwards, or there twice.

use std::path::Path;

use crate::support::Queen;
use crate::support::agent::program;
use crate::support::process::Process;
use crate::support::queen::clean;
use crate::support::wait::eventually;

/// Every heartbeat says how many waited when it was collected.
const WAITING: &str = "SELECT spooled FROM hive_heartbeats ORDER BY ts_ms";

fn agent(url: &str, spool: &Path) -> Process {
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

#[test]
fn an_outage_leaves_no_hole_even_if_the_agent_is_killed() {
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
    // She has the last ones of the outage, then: those that found nobody waiting came after it.
    let waiting = eventually("the agent has caught up", || {
        let waiting = queen.figures(WAITING);
        let outage = waiting.iter().filter(|&&waiting| waiting > 2.0).count();
        (outage > 10 && waiting.ends_with(&[0.0, 0.0])).then_some(waiting)
    });
    // One more waited each time, until somebody was there; the first of the second start may
    // have come before the spool was looked through.
    let peak = waiting.iter().copied().fold(0.0, f64::max);
    let found: Vec<f64> =
        (0..=peak as u64).map(|n| n as f64).filter(|n| waiting.contains(n)).collect();
    assert!(found.len() as f64 >= peak, "{waiting:?}");
    let total = queen.value("SELECT count(*) FROM hive_heartbeats");
    assert_eq!(total, queen.value("SELECT count(DISTINCT ts_ms) FROM hive_heartbeats"));
    drop(second);
}
