//! A full disk, and a log that grows: nothing is lost that was acknowledged, the live view goes on,
//! and it ends by itself.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};

use super::outage;
use crate::support::heartbeat::{marked, now_ms};
use crate::support::session::Session;
use crate::support::wait::eventually;
use crate::support::{Home, Queen};

/// A small file system of its own, for a database.
struct SmallDisk(PathBuf);

impl SmallDisk {
    fn below(home: &Home, mib: u32) -> Self {
        let path = home.database().parent().unwrap().to_owned();
        let size = format!("size={mib}m");
        run(Command::new("mount").args(["-t", "tmpfs", "-o", &size, "tmpfs"]).arg(&path));
        Self(path)
    }

    /// Bytes that are free.
    fn free(&self) -> u64 {
        let disk = rustix::fs::statvfs(&self.0).unwrap();
        disk.f_bavail * disk.f_frsize
    }

    /// Leaves no room.
    fn fill(&self) -> PathBuf {
        let path = self.0.join("filler");
        let mut file = File::create(&path).unwrap();
        // Until even a single byte does not fit.
        for size in [1 << 16, 1 << 12, 1] {
            while file.write_all(&vec![1; size]).is_ok() {}
        }
        path
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        run(Command::new("umount").arg("-l").arg(&self.0));
    }
}

fn run(command: &mut Command) {
    let status = command.status().expect("mount(8) is there");
    assert!(status.success(), "{command:?} needs root");
}

fn free_room(filler: &Path) {
    std::fs::remove_file(filler).unwrap();
}

#[test]
fn disk_full_refuses_and_recovers_by_itself() {
    let home = Home::new();
    let disk = SmallDisk::below(&home, 4);
    let queen = home.start(&["--min-free-disk", "0B"]);
    let now = now_ms();
    queen.takes(&marked("h", now, 1.0));
    let mut stream = queen.stream("");
    assert!(stream.telemetry().id.is_some());

    let filler = disk.fill();
    let mut refused = 1;
    // What is left of the last page of the log may still take one.
    while queen.post(&marked("h", now + refused, 2.0)).status == 200 {
        assert!(stream.telemetry().id.is_some());
        refused += 1;
        assert!(refused < 1000, "the disk is full");
    }
    assert_eq!(stream.telemetry().id, None, "it is shown, and not durable");
    for _ in 0..3 {
        let problem = queen.post(&marked("h", now + refused, 2.0));
        assert!(problem.header("retry-after").is_some());
        problem.problem(503, "storage_unavailable");
    }
    assert_eq!(queen.get("/readyz").status, 503);
    assert_eq!(queen.get("/healthz").status, 200);
    assert_eq!(queen.workers("")[0]["cpu_pct"], 2.0);

    free_room(&filler);
    let taken = queen.takes(&marked("h", now + refused, 2.0));
    assert!(!taken.duplicate);
    let mut ids = Vec::new();
    stream.until("the recovery", |frame| {
        ids.extend(frame.id);
        frame.data["kind"] == "storage_recovered"
    });
    assert!(ids.contains(&taken.id) && ids.is_sorted_by(|a, b| a < b), "{ids:?}");
    assert_eq!(queen.get("/readyz").status, 200);
    assert_eq!(queen.value("SELECT count(*) FROM history"), json!((refused + 1) as f64));
    assert_eq!(queen.value("PRAGMA integrity_check"), "ok");
    // That the hive is online may be told before or after.
    let kinds = queen.rows("SELECT kind FROM events WHERE kind <> 'hive_online' ORDER BY event");
    assert_eq!(kinds, [json!({"kind": "storage_degraded"}), json!({"kind": "storage_recovered"})]);
    let home = Queen::stop(queen);
    drop(disk);
    drop(home);
}

#[test]
fn disk_full_costs_an_agent_nothing() {
    let home = Home::new();
    let disk = SmallDisk::below(&home, 8);
    let spool = tempfile::tempdir().unwrap();
    let queen = home.start(&["--min-free-disk", "0B"]);
    let agent = outage::agent(queen.url(), spool.path());
    let spooled = || queen.get("/v1/hives/h").json()["agent"]["spooled"].as_f64();
    eventually("heartbeats come", || (spooled()? == 0.0).then_some(()));
    let filler = disk.fill();
    // The live view goes on, and shows how many wait: longer than a hive may be silent.
    eventually("they wait at the agent", || {
        assert_eq!(queen.hive("h")["state"], "live");
        (spooled()? > 150.0).then_some(())
    });
    free_room(&filler);
    outage::until_caught_up(&queen, 150.0);
    outage::assert_no_hole(&queen);
    assert_eq!(queen.get("/readyz").status, 200);
    drop(agent);
    queen.stop();
    drop(disk);
}

#[test]
fn disk_floor_drops_the_oldest_single_readings_and_tells() {
    let home = Home::new();
    let disk = SmallDisk::below(&home, 192);
    let queen = home.start(&["--min-free-disk", "0B", "--seal-after", "1s"]);
    let start = now_ms() - 3_600_000;
    for thousand in 0..8 {
        let first = start + 1000 * thousand;
        let lines: Vec<_> = (first..first + 1000).map(large).collect();
        assert_eq!(queen.takes_lines(&lines), (1000, 0));
        // Blocks of their own.
        if thousand % 4 == 3 {
            queen.until_sealed();
        }
    }
    let home = queen.stop();
    // One MiB more than there is, free pages of the file included: less than a block.
    let spare = home.value("PRAGMA freelist_count").as_f64().unwrap() as u64 * 4096;
    let floor = disk.free() + spare + (1 << 20);
    let queen = home.start(&[&format!("--min-free-disk={floor}B")]);
    let told = "SELECT count(*) FROM events WHERE kind = 'history_dropped'";
    eventually("it is told", || (queen.value(told) != 0.0).then_some(()));
    let kept = eventually("the oldest are gone", || {
        let kept = queen.figures("SELECT ts_ms FROM hive_heartbeats ORDER BY ts_ms");
        (kept.first()? > &(start as f64)).then_some(kept)
    });
    assert_eq!(kept.last(), Some(&((start + 7999) as f64)));
    assert!(kept.windows(2).all(|pair| pair[1] - pair[0] == 1.0), "and nothing else");
    // Their sums are there yet.
    let sums = queen.get(&format!("/v1/history/query?metric=cpu_pct&start={start}&step=1h")).ok();
    assert!(sums["series"][0]["values"][0].is_number(), "{sums}");
    queen.stop();
    drop(disk);
}

#[test]
fn a_file_above_its_budget_gives_back_what_it_does_not_need() {
    const BUDGET: f64 = 4194304.0;
    let home = Home::new();
    let queen = home.start(&["--seal-after", "1s"]);
    let start = now_ms() - 3_600_000;
    for thousand in 0..16 {
        let first = start + 1000 * thousand;
        let lines: Vec<_> = (first..first + 1000).map(large).collect();
        assert_eq!(queen.takes_lines(&lines), (1000, 0));
        // Blocks of their own.
        if thousand % 4 == 3 {
            queen.until_sealed();
        }
    }
    let home = queen.stop();
    let before = home.figures("PRAGMA page_count")[0] * 4096.0;
    assert!(before > 2.0 * BUDGET, "{before}");
    let queen = home.start(&["--disk-budget", "4MiB"]);
    // An eighth of the budget and a tenth of the file may be free.
    eventually("it is as small as it may be", || {
        (queen.figures("PRAGMA page_count")[0] * 4096.0 < 1.25 * BUDGET).then_some(())
    });
    assert_ne!(queen.value("SELECT count(*) FROM events WHERE kind = 'history_dropped'"), 0.0);
}

fn large(ms: i64) -> Value {
    let mut reading = marked("h", ms, (ms % 997) as f64);
    let worker = reading["workers"][0].clone();
    let worker = |at: i64| {
        let mut worker = worker.clone();
        worker["instance"] = (8080 + at).to_string().into();
        worker
    };
    reading["workers"] = (0..24).map(worker).collect();
    reading
}

/// Makes the log so long, after somebody has begun to read.
fn lengthen_log(queen: &Queen, mib: u32) -> Session {
    let reader = Session::after(queen, "BEGIN; SELECT count(*) FROM blocks");
    queen.rows(&format!(
        "CREATE TABLE ballast AS SELECT zeroblob(1048576) FROM generate_series(1, {mib})"
    ));
    reader
}

fn log_mib(queen: &Queen) -> u64 {
    fs::metadata(queen.path("queen.db-wal")).unwrap().len() >> 20
}

#[test]
fn a_forgotten_reader_is_told_of_and_the_log_shrinks_when_it_is_gone() {
    let queen = Queen::start();
    queen.takes(&marked("h", now_ms(), 1.0));
    let reader = lengthen_log(&queen, 300);
    queen.takes(&marked("h", now_ms(), 2.0));
    assert!(log_mib(&queen) >= 300);
    queen.says("the write-ahead log has grown to 3");
    drop(reader);
    // The log begins anew with the first that is written after it was copied.
    let mut next = 1;
    eventually("the log is short again", || {
        queen.takes(&marked("h", now_ms() + next, 3.0));
        next += 1;
        (log_mib(&queen) <= 64).then_some(())
    });
    queen.says("MiB again");
}

#[test]
fn disk_floor_drops_no_reading_for_the_room_that_the_log_takes() {
    let home = Home::new();
    let disk = SmallDisk::below(&home, 96);
    let queen = home.start(&["--min-free-disk", "48MiB", "--seal-after", "1s"]);
    queen.takes(&marked("h", now_ms() - 10_000, 1.0));
    queen.until_sealed();
    let reader = lengthen_log(&queen, 60);
    queen.rows("INSERT INTO events (ts, kind, detail) VALUES (0, 'ancient', '{}')");
    eventually("retention has had a look", || {
        let ancient = "SELECT count(*) FROM events WHERE kind = 'ancient'";
        (queen.value(ancient) == 0.0).then_some(())
    });
    assert_eq!(queen.figures("SELECT cpu_pct FROM history"), [1.0]);
    assert!(queen.rows("SELECT * FROM events WHERE kind = 'history_dropped'").is_empty());
    drop(reader);
    queen.stop();
    drop(disk);
}
