//! Transactions of the writing connection.
//!
//! SQLite ends a transaction by itself when a statement fails for want of disk, so whether one is
//! open is asked of SQLite each time and never counted.
//!
//! Invariant: a transaction that was not committed is rolled back at the latest when the next
//! one begins.

use sqlx::SqliteConnection;

use super::raw::Handle;

/// Begins a transaction that writes.
pub(super) async fn begin(connection: &mut SqliteConnection) -> sqlx::Result<()> {
    abandon(connection).await?;
    sqlx::query("BEGIN IMMEDIATE").execute(connection).await?;
    Ok(())
}

/// Commits it. On an error it may still be open: see [`abandon`].
pub(super) async fn commit(connection: &mut SqliteConnection) -> sqlx::Result<()> {
    sqlx::query("COMMIT").execute(connection).await?;
    Ok(())
}

/// Rolls back what is open, if anything is.
pub(super) async fn abandon(connection: &mut SqliteConnection) -> sqlx::Result<()> {
    let is_open = Handle::new(connection.lock_handle().await?).is_in_transaction();
    if is_open {
        sqlx::query("ROLLBACK").execute(connection).await?;
    }
    Ok(())
}
