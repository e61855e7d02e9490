//! What happened to hives and workers.

use std::collections::HashSet;

use hive_contract::event::Lifecycle;
use hive_contract::{EventKind, HiveId};
use serde::Serialize;
use serde_json::value::RawValue;
use sqlx::SqliteConnection;

use super::reader::{ReadError, Reader};

/// Which events are asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EventsWanted {
    /// From this time on (ms since the epoch).
    pub start: i64,
    /// Before this time (ms since the epoch).
    pub end: i64,
    /// Of these kinds; empty: all.
    pub kinds: Vec<EventKind>,
    /// Of these hives; empty: all.
    pub hives: Vec<String>,
    /// So many at most, the newest of them.
    pub limit: u32,
}

/// Something that happened.
#[derive(Debug, Serialize)]
pub struct Happened {
    /// When: ms since the epoch.
    pub time: i64,
    /// What: the name of an [`EventKind`].
    pub kind: String,
    /// To which hive.
    pub hive: Option<String>,
    /// To which worker: `group/instance`.
    pub worker: Option<String>,
    /// A JSON object that depends on the kind.
    pub detail: Box<RawValue>,
}

/// Reads events, oldest first.
///
/// # Errors
/// The history cannot be read, or not in time.
pub async fn events(reader: &Reader, wanted: &EventsWanted) -> Result<Vec<Happened>, ReadError> {
    let EventsWanted { start, end, kinds, hives, limit } = wanted;
    let kinds: Vec<_> = kinds.iter().map(|kind| kind.as_str()).collect();
    let (kinds, hives) = (list(&kinds), list(hives));
    let mut read = reader.begin().await?;
    let rows = sqlx::query_file!("queries/events.sql", start, end, kinds, hives, limit)
        .fetch_all(&mut *read)
        .await
        .map_err(|error| read.error(error))?;
    read.end().await;
    let happened = |row: (i64, String, Option<String>, Option<String>, String)| {
        let (time, kind, hive, worker, detail) = row;
        let detail = RawValue::from_string(detail)
            .map_err(|error| ReadError::Database(sqlx::Error::Decode(error.into())))?;
        Ok(Happened { time, kind, hive, worker, detail })
    };
    rows.into_iter()
        .rev()
        .map(|row| happened((row.ts, row.kind, row.hive, row.worker, row.detail)))
        .collect()
}

/// Records an event under its id. `hive` is the row of the hive that it names.
pub(super) async fn insert(
    event: &Lifecycle,
    hive: Option<i64>,
    connection: &mut SqliteConnection,
) -> sqlx::Result<()> {
    let (ts, kind) = (event.timestamp.millis(), event.kind.as_str());
    let detail = event.detail.to_string();
    sqlx::query_file!("queries/insert_event.sql", event.id, ts, kind, hive, event.worker, detail)
        .execute(connection)
        .await?;
    Ok(())
}

/// A JSON array, or nothing where nothing is listed.
fn list<T: Serialize>(values: &[T]) -> Option<String> {
    (!values.is_empty()).then(|| serde_json::json!(values).to_string())
}

/// The hives that were last seen to come, and not to go.
///
/// # Errors
/// The history cannot be read.
pub async fn hives_online(reader: &Reader) -> Result<HashSet<HiveId>, ReadError> {
    let mut read = reader.begin().await?;
    let hives = sqlx::query_file_scalar!("queries/hives_online.sql")
        .fetch_all(&mut *read)
        .await
        .map_err(|error| read.error(error))?;
    read.end().await;
    Ok(hives.into_iter().filter_map(|id| HiveId::new(id).ok()).collect())
}
