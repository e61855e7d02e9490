//! Transactions of the writing connection.
//!
//! SQLite ends a transaction by itself when a statement fails for want of disk, so whether one is
//! open is asked of SQLite each time and never counted.
//!
//! Invariant: a transaction that was not committed is rolled back at the latest when the next
//! one begins.

use sqlx::SqliteConnection;

use super::raw::{Handle, RawError};

/// Begins a transaction that writes.
pub(super) async fn begin(connection: &mut SqliteConnection) -> sqlx::Result<()> {
    Ok(begin_on(&mut Handle::new(connection.lock_handle().await?))?)
}

/// Begins a transaction that writes, on a locked handle.
pub(super) fn begin_on(handle: &mut Handle<'_>) -> Result<(), RawError> {
    abandon_on(handle)?;
    handle.execute(c"BEGIN IMMEDIATE")
}

/// Commits it. On an error it may still be open: see [`abandon`].
pub(super) async fn commit(connection: &mut SqliteConnection) -> sqlx::Result<()> {
    Ok(commit_on(&mut Handle::new(connection.lock_handle().await?))?)
}

/// Commits it, on a locked handle.
pub(super) fn commit_on(handle: &mut Handle<'_>) -> Result<(), RawError> {
    handle.execute(c"COMMIT")
}

/// Rolls back what is open, if anything is.
pub(super) async fn abandon(connection: &mut SqliteConnection) -> sqlx::Result<()> {
    Ok(abandon_on(&mut Handle::new(connection.lock_handle().await?))?)
}

fn abandon_on(handle: &mut Handle<'_>) -> Result<(), RawError> {
    if handle.is_in_transaction() {
        handle.execute(c"ROLLBACK")?;
    }
    Ok(())
}
