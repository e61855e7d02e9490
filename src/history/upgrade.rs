//! A file of an older version says the same after it was brought up to date.

use std::path::Path;

use sqlx::migrate::Migrator;
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, Row};

use super::{Durability, open};

/// Brings a new file up to this version of the schema only, and executes the script.
async fn older(path: &Path, version: i64, script: &'static str) -> SqliteConnection {
    let options = SqliteConnectOptions::new().filename(path).create_if_missing(true);
    let mut connection = options.connect().await.unwrap();
    let all = sqlx::migrate!();
    let migrations = all.iter().filter(|migration| migration.version <= version).cloned();
    Migrator::with_migrations(migrations.collect()).run(&mut connection).await.unwrap();
    sqlx::raw_sql(script).execute(&mut connection).await.unwrap();
    connection
}

async fn rows(question: &str, connection: &mut SqliteConnection) -> Vec<String> {
    let rows = sqlx::query(AssertSqlSafe(question)).fetch_all(connection).await.unwrap();
    rows.iter().map(|row| row.get(0)).collect()
}

/// Two blocks with samples, between them one without, and what a crash left of a fourth.
const KEYED_SAMPLES: &str = r#"
    INSERT INTO hives VALUES (1, 'a'), (2, 'b');
    INSERT INTO worker_runs VALUES (1, 1, 'llm', '8080', 10, 'm', 1000), (2, 2, 'llm', '8080', 11, NULL, NULL);
    INSERT INTO blocks VALUES (1, 1000, 61000, 1, 2, 2, 4, 1), (2, 70000, 70000, 3, 3, 1, 0, 1),
                              (3, 1000, 130000, 4, 5, 2, 3, 1), (4, 130000, 130000, 6, 6, 1, 0, 1);
    INSERT INTO samples VALUES
        (1, 1, 0, 1500, 10.5, 0, 1, 7, 33, 12.25, 1, 2, 500, 3),
        (1, 1, 1000, 2500, 11, 0, 1, 7.125, 33.5, 12, 1, 2, NULL, '[[3,1,2]]'),
        (1, 2, 0, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL),
        (1, 2, 60000, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, NULL),
        (3, 1, 0, 1, 0.001, 1, 1, 0.001, 0.001, 9007199254740.5, 1, 1, 1, NULL),
        (3, 2, 5, 1, 1, 1, 1, 1, 100, 1, 1, 1, 1, NULL),
        (3, 2, 129000, 77, 1, 1, 1, 1, 99.999, 1, 1, 1, 1, NULL),
        (5, 2, 0, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, NULL);
    INSERT INTO hive_newest VALUES (1, 2, 2000, 1), (2, 5, 130000, 3);
"#;

#[tokio::test]
async fn samples_with_a_key_become_numbered_ones() {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("queen.db");
    let mut connection = older(&path, 7, KEYED_SAMPLES).await;
    let history =
        "SELECT json_array(ts, hive, instance, cpu_pct, rss_mb, io_r_mb_s, io_w_mb_s, gpu_util_pct,
                          vram_mb, uptime_s, requests_running, requests_waiting, kv_cache_pct)
                     FROM history ORDER BY ts_ms, hive";
    let latest = history.replace("FROM history", "FROM latest");
    let before = [rows(history, &mut connection).await, rows(&latest, &mut connection).await];
    assert_eq!(before.each_ref().map(Vec::len), [7, 2]);
    connection.close().await.unwrap();

    let mut database = open(&path, Durability::Normal).await.unwrap();
    let writer = &mut database.writer;
    assert_eq!([rows(history, writer).await, rows(&latest, writer).await], before);
    let gpus = "SELECT json_quote(gpus) FROM samples WHERE gpus IS NOT NULL ORDER BY row";
    assert_eq!(rows(gpus, writer).await, ["3", r#""[[3,1,2]]""#]);
    // Blocks are of rows that follow each other, and what is not listed comes after them.
    let blocks = "SELECT json_array(block, first_row, end_row) FROM blocks ORDER BY block";
    assert_eq!(
        rows(blocks, writer).await,
        ["[1,1,61003]", "[2,61003,61003]", "[3,61003,190000]", "[4,190000,190000]"]
    );
    let unlisted = "SELECT json_array(block, row) FROM sample_index WHERE block > 4";
    assert_eq!(rows(unlisted, writer).await, ["[5,190000]"]);
}
