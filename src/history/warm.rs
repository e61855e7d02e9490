//! What a start must know of the file: which readings are live, and the newest one of each hive.
//!
//! It is read in parts beside each other: after a power cut nothing of the file is in memory, and a
//! disk gives many pages in the time of one.

use std::sync::Arc;

use futures_util::{StreamExt, TryStreamExt, stream};
use hive_contract::Heartbeat;

use super::codec::RowIds;
use super::live::Reading as LiveReading;
use super::reader::{CONNECTIONS, ReadError, Reader};
use super::readings::{self, Entry, Names};

/// Hives in one part.
const PART_HIVES: usize = 64;
/// Parts of the live readings.
const LIVE_PARTS: i64 = 32;

/// The newest reading of a hive, from before the start.
#[derive(Debug, Clone)]
pub struct Reading {
    /// Its id in the history: the moment of its receipt in µs.
    pub id: i64,
    /// The reading.
    pub heartbeat: Arc<Heartbeat>,
    /// The row numbers of its names.
    pub(super) ids: RowIds,
}

/// Why the start could not read what it must know.
#[derive(Debug, thiserror::Error)]
#[error("the database cannot be read; it may be damaged: put a backup in its place")]
pub enum WarmError {
    /// By the writer.
    Database(#[from] sqlx::Error),
    /// Beside it.
    Read(#[from] ReadError),
}

/// The live readings, each with its hive.
pub(super) async fn live(reader: &Reader) -> Result<Vec<(i64, LiveReading)>, ReadError> {
    let mut read = reader.begin().await?;
    let extent = sqlx::query_file!("queries/live_extent.sql").fetch_one(&mut *read).await;
    let extent = extent.map_err(|error| read.error(error))?;
    read.end().await;
    let (Some(first), Some(last)) = (extent.first, extent.last) else { return Ok(Vec::new()) };
    let step = (last - first) / LIVE_PARTS + 1;
    let parts = (0..LIVE_PARTS).map(|part| {
        let from = first + part * step;
        live_part(reader.clone(), from, from + step)
    });
    side_by_side(parts).await
}

async fn live_part(
    reader: Reader,
    from: i64,
    until: i64,
) -> Result<Vec<(i64, LiveReading)>, ReadError> {
    let mut read = reader.begin().await?;
    let rows = sqlx::query_file!("queries/live_readings.sql", from, until)
        .fetch_all(&mut *read)
        .await
        .map_err(|error| read.error(error))?;
    read.end().await;
    let readings = rows.into_iter().map(|row| {
        let samples = u16::try_from(row.samples).unwrap_or(u16::MAX);
        (row.hive, LiveReading { ts: row.ts, id: row.id, samples })
    });
    Ok(readings.collect())
}

/// The newest reading of each of these hives, whose numbers grow.
pub(super) async fn newest(reader: &Reader, hives: &[i64]) -> Result<Vec<Reading>, ReadError> {
    let parts = hives.chunks(PART_HIVES).map(|hives| {
        let after = hives.first().map_or(i64::MAX, |first| first - 1);
        newest_part(reader.clone(), after, hives.len() as i64)
    });
    side_by_side(parts).await
}

async fn newest_part(reader: Reader, after: i64, hives: i64) -> Result<Vec<Reading>, ReadError> {
    let mut read = reader.begin().await?;
    let entries = sqlx::query_file_as!(Entry, "queries/readings_newest.sql", after, hives)
        .fetch_all(&mut *read)
        .await
        .map_err(|error| read.error(error))?;
    let readings = readings::read(&entries, &mut Names::default(), &mut read).await;
    let readings = readings.map_err(|error| read.error(error))?;
    read.end().await;
    let reading = |reading: readings::Reading| Reading {
        id: reading.id,
        heartbeat: Arc::new(reading.heartbeat),
        ids: reading.ids,
    };
    Ok(readings.into_iter().map(reading).collect())
}

/// Reads parts, as many at once as may be, and puts them together in their order.
async fn side_by_side<T, F>(parts: impl Iterator<Item = F>) -> Result<Vec<T>, ReadError>
where
    T: Send + 'static,
    F: Future<Output = Result<Vec<T>, ReadError>> + Send + 'static,
{
    let parts: Vec<Vec<T>> = stream::iter(parts)
        .map(|part| async { tokio::spawn(part).await.unwrap_or(Err(ReadError::Busy)) })
        .buffered(CONNECTIONS as usize)
        .try_collect()
        .await?;
    Ok(parts.into_iter().flatten().collect())
}
