//! No statement passes over a whole table that grows with the history: at the end of its life a
//! file has billions of readings, and a delete must cost as much as on its first day.

use std::path::Path;

use regex::Regex;
use sqlx::sqlite::SqliteConnection;
use sqlx::{AssertSqlSafe, Row};

use super::{Durability, open};

/// Tables that grow with time. The live part is a minute long; the others grow with the fleet.
const GROWING: [&str; 7] =
    ["samples", "sample_index", "gpu_samples", "heartbeats", "rollup_1m", "rollup_1h", "events"];
/// Tables that grow with all that ever came new: a person's question may read the whole of one, a
/// delete may not.
const NAMES: [&str; 3] = ["worker_runs", "gpus", "hive_descriptions"];
/// What stands for the parts that are put in: of the widest kind.
const PARTS: [(&str, &str); 6] = [
    ("{array}", "samples"),
    ("{table}", "heartbeats"),
    ("{subject}", "hive"),
    ("{figure}", "cpu_pct"),
    ("{a}", "n"),
    ("{b}", "sum"),
];

async fn plan(sql: String, connection: &mut SqliteConnection) -> Vec<String> {
    let explain = sqlx::query(AssertSqlSafe(format!("EXPLAIN QUERY PLAN {sql}")));
    let rows = explain.fetch_all(connection).await.unwrap_or_else(|error| panic!("{error}: {sql}"));
    rows.iter().map(|row| row.get("detail")).collect()
}

/// The steps of a plan that read a whole growing table.
fn passes(sql: &str, plan: &[String]) -> Vec<String> {
    let names: &[&str] = if sql.contains("DELETE FROM") { &NAMES } else { &[] };
    let scanned = Regex::new(r"^(?:SCAN (\w+)|SEARCH (\w+) USING AUTOMATIC)").unwrap();
    let is_growing = |step: &&String| {
        let Some(found) = scanned.captures(step) else { return false };
        let name = found.get(1).or(found.get(2)).unwrap().as_str();
        let alias = Regex::new(&format!(r"(?i)\b(\w+)\s+AS\s+{name}\b")).unwrap();
        let table = alias.captures(sql).map_or(name, |found| found.get(1).unwrap().as_str());
        GROWING.contains(&table) || names.contains(&table)
    };
    plan.iter().filter(is_growing).cloned().collect()
}

#[tokio::test]
async fn no_statement_passes_over_what_grows() {
    let home = tempfile::tempdir().unwrap();
    let mut database = open(&home.path().join("queen.db"), Durability::Normal).await.unwrap();
    let queries = Path::new(env!("CARGO_MANIFEST_DIR")).join("queries");
    let mut deletes = 0;
    for file in std::fs::read_dir(queries).unwrap() {
        let path = file.unwrap().path();
        if path.is_dir() {
            continue;
        }
        let text = std::fs::read_to_string(&path).unwrap();
        let sql = PARTS.iter().fold(text, |sql, (part, name)| sql.replace(part, name));
        deletes += usize::from(sql.contains("\nDELETE FROM"));
        let plan = plan(sql.clone(), &mut database.writer).await;
        assert_eq!(passes(&sql, &plan), [""; 0], "{}: {plan:#?}", path.display());
    }
    assert!(deletes > 10, "retention and cleaning are among them: {deletes}");
}

#[tokio::test]
async fn a_statement_that_does_is_found() {
    let home = tempfile::tempdir().unwrap();
    let mut database = open(&home.path().join("queen.db"), Durability::Normal).await.unwrap();
    for sql in [
        "DELETE FROM gpu_samples WHERE ts < ?1",
        "DELETE FROM events WHERE kind = ?1",
        "DELETE FROM worker_runs WHERE pid = ?1",
        "SELECT count(*) FROM blocks AS b CROSS JOIN rollup_1m AS r WHERE r.bucket = ?1",
        "SELECT 1 FROM blocks AS b CROSS JOIN heartbeats AS h ON h.workers = b.samples",
    ] {
        let plan = plan(sql.into(), &mut database.writer).await;
        assert_eq!(passes(sql, &plan).len(), 1, "{sql}: {plan:#?}");
    }
}
