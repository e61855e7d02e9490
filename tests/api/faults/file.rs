//! The database file: who may use it, and what is done about one that cannot be used.

use std::fs;
use std::os::unix::fs::FileExt;

use crate::support::heartbeat::{heartbeat, marked, now_ms};
use crate::support::{Home, Queen};

#[test]
fn second_queen_on_the_same_file_refuses_and_names_the_first() {
    let queen = Home::new().start(&[]);
    queen.takes(&heartbeat("h", now_ms()));
    let said = queen.refusal(&[]);
    assert!(said.contains("queen.db") && said.contains("in use by another queen"), "{said}");
    assert!(said.contains(&format!("process {}", queen.pid())), "{said}");
    queen.takes(&heartbeat("h", now_ms() + 1));
}

#[test]
fn second_queen_starts_however_the_first_one_ended() {
    let home = Home::new();
    home.start(&[]).kill();
    home.start(&[]).stop();
    home.start(&[]);
}

#[test]
fn database_that_is_none_is_refused_and_left_as_it_is() {
    let home = Home::new();
    let noise = b"not a database, but something that somebody may want to keep\n".repeat(200);
    fs::write(home.database(), &noise).unwrap();
    let said = home.refusal(&[]);
    assert!(said.contains("queen.db") && said.contains("queen backup FILE"), "{said}");
    assert_eq!(said.matches("file is not a database").count(), 1, "{said}");
    assert_eq!(fs::read(home.database()).unwrap(), noise);
}

#[test]
fn database_corrupt_in_its_header_is_refused_and_left_as_it_is() {
    let queen = Home::new().start(&[]);
    queen.takes(&marked("h", now_ms(), 1.0));
    let home = queen.stop();
    let mut bytes = fs::read(home.database()).unwrap();
    bytes[..16].fill(0xff);
    fs::write(home.database(), &bytes).unwrap();
    let said = home.refusal(&[]);
    assert!(said.contains("queen.db") && said.contains("queen backup FILE"), "{said}");
    assert_eq!(fs::read(home.database()).unwrap(), bytes);
}

#[test]
fn database_corrupt_in_its_schema_is_refused() {
    let queen = Home::new().start(&[]);
    queen.takes(&marked("h", now_ms(), 1.0));
    let home = queen.stop();
    let mut bytes = fs::read(home.database()).unwrap();
    bytes[100..4096].fill(0xff);
    fs::write(home.database(), &bytes).unwrap();
    let said = home.refusal(&[]);
    assert!(said.contains("queen.db") && said.contains("queen backup FILE"), "{said}");
}

#[test]
fn database_corrupt_at_its_tail_is_refused() {
    let queen = Home::new().start(&[]);
    queen.takes(&marked("h", now_ms(), 1.0));
    let home = queen.stop();
    let bytes = fs::read(home.database()).unwrap();
    fs::write(home.database(), &bytes[..bytes.len() / 2]).unwrap();
    let said = home.refusal(&[]);
    assert!(said.contains("queen.db") && said.contains("queen backup FILE"), "{said}");
}

/// Many readings, in sealed blocks.
fn filled() -> Queen {
    let queen = Queen::with(&["--seal-after", "1s"]);
    let start = now_ms() - 60_000;
    let lines: Vec<_> = (0..1000).map(|n| marked("h", start + n, n as f64 / 7.0)).collect();
    assert_eq!(queen.takes_lines(&lines), (1000, 0));
    queen.until_sealed();
    queen
}

/// Overwrites the last page on which readings stand.
fn damage(home: &Home) {
    let page = "SELECT max(pageno) FROM dbstat WHERE name = 'samples' AND pagetype = 'leaf'";
    let page = home.value(page).as_f64().unwrap() as u64;
    let file = fs::File::options().write(true).open(home.database()).unwrap();
    file.write_all_at(&[0xff; 4096], (page - 1) * 4096).unwrap();
}

#[test]
fn database_corrupt_in_its_middle_is_refused_and_left_as_it_is() {
    let home = filled().stop();
    damage(&home);
    let bytes = fs::read(home.database()).unwrap();
    let said = home.refusal(&[]);
    assert!(said.contains("queen.db is damaged") && said.contains("queen backup FILE"), "{said}");
    assert_eq!(fs::read(home.database()).unwrap(), bytes);
}

#[test]
fn database_corrupt_while_she_runs_is_said_and_the_rest_goes_on() {
    let queen = filled();
    // So that the log has nothing of it any more.
    queen.rows("PRAGMA wal_checkpoint(TRUNCATE)");
    damage(&queen);
    let query = "/v1/history/query?metric=cpu_pct&start=-1h&step=1s&agg=p50";
    queen.get(query).problem(503, "storage_unavailable");
    queen.says("the history cannot be read");
    assert_eq!(queen.get("/healthz").status, 200);
    queen.takes(&marked("other", now_ms(), 1.0));
    assert_eq!(queen.worker_keys("?hive=other"), ["other/llm/8080"]);
    assert_eq!(queen.get("/v1/history/query?metric=hives_online&start=-1m").status, 200);
}

#[test]
fn a_directory_that_is_not_there_is_named() {
    let home = Home::new();
    let said = home.refusal(&["--db", "nowhere/queen.db"]);
    assert!(said.contains("nowhere/queen.db"), "{said}");
    assert!(!home.path("nowhere").exists());
}

#[test]
fn database_of_a_newer_queen_is_refused() {
    let home = Home::new();
    home.start(&[]).stop();
    home.rows(
        "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time)
         VALUES (9999, 'of the future', 1, x'00', 0)",
    );
    let said = home.refusal(&[]);
    assert!(said.contains("newer queen") && said.contains("9999"), "{said}");
}

#[test]
fn database_of_another_program_is_refused_and_left_as_it_is() {
    for sql in [
        "CREATE TABLE notes (text); INSERT INTO notes VALUES ('keep me')",
        "CREATE TABLE _sqlx_migrations (version); CREATE TABLE notes (text)",
        "PRAGMA journal_mode = WAL; CREATE TABLE notes (text)",
        "PRAGMA application_id = 252006675; CREATE TABLE notes (text); CREATE TABLE heartbeats_live (id)",
        "PRAGMA application_id = 252006675; VACUUM",
    ] {
        let home = Home::new();
        home.rows(sql);
        let bytes = fs::read(home.database()).unwrap();
        let said = home.refusal(&[]);
        assert!(said.contains("queen.db is the database of another program"), "{said}");
        assert!(said.contains("--db"), "{said}");
        assert!(said.contains("notes") || !sql.contains("notes"), "{said}");
        assert_eq!(fs::read(home.database()).unwrap(), bytes, "{sql}");
        assert!(!home.path("queen.db.lock").exists());
    }
}

#[test]
fn the_file_says_whose_it_is_also_one_from_before_it_did() {
    const OURS: f64 = 1_366_648_174.0;
    let home = Home::new();
    fs::write(home.database(), "").unwrap();
    home.start(&[]).stop();
    assert_eq!(home.value("PRAGMA application_id"), OURS);
    // As an earlier queen left it.
    home.rows("PRAGMA application_id = 0; DELETE FROM _sqlx_migrations WHERE description = 'application id'");
    home.start(&[]).stop();
    assert_eq!(home.value("PRAGMA application_id"), OURS);
}

#[test]
fn a_port_that_is_taken_is_named() {
    let queen = Home::new().start(&[]);
    let other = Home::new();
    let said = other.refusal(&["--bind", queen.address()]);
    assert!(said.contains(queen.address()) && said.contains("--bind"), "{said}");
}

#[test]
fn people_read_the_file_while_the_queen_writes() {
    let queen = Home::new().start(&[]);
    for i in 0..20 {
        queen.takes(&marked("h", now_ms() + i, i as f64));
        assert_eq!(queen.value("SELECT count(*) FROM history"), (i + 1) as f64);
    }
}
