//! The database as people read it: with the `sqlite3` program, while the queen runs.

use std::path::Path;
use std::process::Command;

use serde_json::Value;

/// The rows of a query, as objects. Every number is a float, however SQLite stores it.
#[track_caller]
pub(crate) fn rows(database: &Path, sql: &str) -> Vec<Value> {
    let out = Command::new("sqlite3")
        .arg("-batch")
        .args(["-cmd", ".timeout 10000", "-cmd", ".mode json"])
        .arg(database)
        .arg(sql)
        .output()
        .expect("the sqlite3 program is installed");
    assert!(out.status.success(), "{sql}: {}", String::from_utf8_lossy(&out.stderr));
    if out.stdout.is_empty() {
        return Vec::new();
    }
    let rows: Vec<Value> = serde_json::from_slice(&out.stdout).unwrap();
    rows.into_iter().map(floats).collect()
}

/// The one value of a query that gives one.
#[track_caller]
pub(crate) fn value(database: &Path, sql: &str) -> Value {
    let rows = rows(database, sql);
    let row = rows.first().and_then(Value::as_object).expect("one row");
    row.values().next().expect("one column").clone()
}

/// A value with every number as a float: 85 and 85.0 are the same figure.
pub(crate) fn floats(value: Value) -> Value {
    match value {
        Value::Number(number) => number.as_f64().unwrap().into(),
        Value::Array(list) => list.into_iter().map(floats).collect(),
        Value::Object(object) => {
            object.into_iter().map(|(name, value)| (name, floats(value))).collect()
        }
        other => other,
    }
}
