//! The newest reading of each hive, live or sealed, to start with.

use std::sync::Arc;

use hive_contract::Heartbeat;
use sqlx::SqliteConnection;

use super::dictionary::Dictionary;
use super::readings::{self, Entry, Names};

/// Hives read at once.
const CHUNK_HIVES: i64 = 512;

/// The newest reading of a hive, from before the start.
#[derive(Debug, Clone)]
pub struct Reading {
    /// Its id in the history: the moment of its receipt in µs.
    pub id: i64,
    /// The reading.
    pub heartbeat: Arc<Heartbeat>,
}

/// Why the newest readings could not be read.
#[derive(Debug, thiserror::Error)]
#[error("the database cannot be read; it may be damaged: put a backup in its place")]
pub struct WarmError(#[from] sqlx::Error);

/// Reads the newest reading of each hive and lets the dictionary know what they name.
pub(super) async fn newest(
    connection: &mut SqliteConnection,
    dictionary: &mut Dictionary,
) -> sqlx::Result<Vec<Reading>> {
    let (mut newest, mut names, mut after) = (Vec::new(), Names::default(), i64::MIN);
    loop {
        let entries =
            sqlx::query_file_as!(Entry, "queries/readings_newest.sql", after, CHUNK_HIVES)
                .fetch_all(&mut *connection)
                .await?;
        let Some(last) = entries.last() else { return Ok(newest) };
        after = last.hive;
        for reading in readings::read(&entries, &mut names, connection).await? {
            let heartbeat = Arc::new(reading.heartbeat);
            dictionary.prime(&heartbeat, reading.ids);
            newest.push(Reading { id: reading.id, heartbeat });
        }
    }
}
