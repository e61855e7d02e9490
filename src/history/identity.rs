//! Whose file it is. A path given by mistake may lead to the database of another program.
//!
//! Invariant: nothing is written into a file before it is known to be ours, or empty.

use std::path::Path;

use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use sqlx::{ConnectOptions, Connection};

use super::open::OpenError;

/// `PRAGMA application_id` of our files, as a migration sets it: "Quen" in ASCII.
const APPLICATION_ID: i64 = 0x5175_656e;

/// Opens a file to read it, changing nothing, if it is ours.
///
/// # Errors
/// It is not there, not usable, or the database of another program.
pub(super) async fn open_to_read(path: &Path) -> Result<SqliteConnection, OpenError> {
    let unusable = |source| OpenError::of(path, source);
    let options = SqliteConnectOptions::new().filename(path).read_only(true);
    let mut connection = options.disable_statement_logging().connect().await.map_err(unusable)?;
    let row = sqlx::query_file!("queries/whose.sql").fetch_one(&mut connection).await;
    let row = row.map_err(unusable)?;
    // A crash at the first start may leave a file of which nobody says anything yet.
    match row.application_id {
        APPLICATION_ID => Ok(connection),
        0 if row.is_ours || row.tables.is_none() => Ok(connection),
        _ => Err(OpenError::Foreign { path: path.into(), tables: row.tables.unwrap_or_default() }),
    }
}

/// Refuses the database of another program. A file that is not there is nobody's.
///
/// # Errors
/// See [`open_to_read`].
pub(super) async fn check(path: &Path) -> Result<(), OpenError> {
    if !path.exists() {
        return Ok(());
    }
    let connection = open_to_read(path).await?;
    // It only read: nothing can be lost.
    let _ = connection.close().await;
    Ok(())
}
