//! Read-only access to the history: few connections, each reading one consistent state for at
//! most a bounded time.
//!
//! Invariant: a read never blocks the writer, and none lasts longer than its time limit: a
//! transaction that stays open would keep the write-ahead log from being cut back.

use std::ops::{Deref, DerefMut};
use std::path::Path;
use std::time::{Duration, Instant};

use sqlx::pool::PoolConnection;
use sqlx::sqlite::{SqliteConnectOptions, SqlitePool, SqlitePoolOptions};
use sqlx::{ConnectOptions, Sqlite, SqliteConnection};

use super::raw::RawError;

/// Reads at once. More would only share the same processors.
pub(super) const CONNECTIONS: u32 = 4;
/// How long a read waits for a connection before it is refused.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(5);
/// Steps of SQLite's machine between two looks at the clock: well under a millisecond.
const STEPS_BETWEEN_CHECKS: i32 = 20_000;
/// How much of the file each connection may map: reads then need no copy.
const MAPPED_BYTES: &str = "1073741824";

/// Why the history could not be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// Too many read at once.
    #[error("too many queries at once; try again shortly")]
    Busy,
    /// It took longer than allowed.
    #[error("the query took longer than {} s and was stopped; ask for a shorter range, \
             a larger step, or fewer series", limit.as_secs())]
    TimeLimit {
        /// The limit.
        limit: Duration,
    },
    /// SQLite says no.
    #[error("the history cannot be read")]
    Database(#[source] sqlx::Error),
}

/// Read-only access. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Reader {
    pool: SqlitePool,
    limit: Duration,
}

impl Reader {
    /// Opens read-only connections when they are needed. Each read may last for `limit`.
    #[must_use]
    pub fn new(path: &Path, limit: Duration) -> Self {
        let options = SqliteConnectOptions::new()
            .filename(path)
            .read_only(true)
            .pragma("query_only", "ON")
            .pragma("mmap_size", MAPPED_BYTES)
            .disable_statement_logging();
        let pool = SqlitePoolOptions::new()
            .max_connections(CONNECTIONS)
            .min_connections(0)
            .acquire_timeout(ACQUIRE_TIMEOUT)
            .test_before_acquire(false)
            .connect_lazy_with(options);
        Self { pool, limit }
    }

    /// Begins to read: everything that is read through it is of one moment.
    ///
    /// # Errors
    /// Too many read at once, or the file cannot be read.
    pub async fn begin(&self) -> Result<Read, ReadError> {
        let mut connection = self.pool.acquire().await.map_err(|error| match error {
            sqlx::Error::PoolTimedOut => ReadError::Busy,
            error => ReadError::Database(error),
        })?;
        let deadline = Instant::now() + self.limit;
        let mut handle = connection.lock_handle().await.map_err(ReadError::Database)?;
        handle.set_progress_handler(STEPS_BETWEEN_CHECKS, move || Instant::now() < deadline);
        drop(handle);
        let mut read = Read { connection: Some(connection), limit: self.limit };
        sqlx::query("BEGIN").execute(&mut *read).await.map_err(|error| read.error(error))?;
        Ok(read)
    }

    /// Closes the connections.
    pub async fn close(&self) {
        self.pool.close().await;
    }
}

/// One consistent state of the history, for a bounded time.
#[derive(Debug)]
pub struct Read {
    connection: Option<PoolConnection<Sqlite>>,
    limit: Duration,
}

impl Read {
    /// What an error of SQLite means here.
    #[must_use]
    pub fn error(&self, error: sqlx::Error) -> ReadError {
        /// `SQLITE_INTERRUPT`: the progress handler stopped the statement.
        const INTERRUPT: &str = "9";
        match &error {
            sqlx::Error::Database(e) if e.code().as_deref() == Some(INTERRUPT) => {
                ReadError::TimeLimit { limit: self.limit }
            }
            sqlx::Error::Io(e) if e.get_ref().is_some_and(is_interrupt) => {
                ReadError::TimeLimit { limit: self.limit }
            }
            _ => ReadError::Database(error),
        }
    }

    /// Ends the transaction and gives the connection back, also when this is not waited for.
    pub async fn end(mut self) {
        if let Some(connection) = self.connection.take() {
            let _ = tokio::spawn(give_back(connection)).await;
        }
    }
}

/// Whether the progress handler stopped a statement that was not executed through sqlx.
fn is_interrupt(error: &(dyn std::error::Error + Send + Sync + 'static)) -> bool {
    error.downcast_ref().is_some_and(RawError::is_interrupt)
}

/// Broken off half-way, it would give back a connection with an open transaction: it is a task of
/// its own.
async fn give_back(mut connection: PoolConnection<Sqlite>) {
    if let Ok(mut handle) = connection.lock_handle().await {
        handle.remove_progress_handler();
    }
    // A connection that cannot end its transaction is of no more use.
    if sqlx::query("ROLLBACK").execute(&mut *connection).await.is_err() {
        connection.close_on_drop();
    }
}

impl Drop for Read {
    /// A read that was given up, by a client that went away for example, ends all the same.
    fn drop(&mut self) {
        if let Some(connection) = self.connection.take() {
            tokio::spawn(give_back(connection));
        }
    }
}

impl Deref for Read {
    type Target = SqliteConnection;
    fn deref(&self) -> &SqliteConnection {
        self.connection.as_ref().expect("the connection is there until the read ends")
    }
}

impl DerefMut for Read {
    fn deref_mut(&mut self) -> &mut SqliteConnection {
        self.connection.as_mut().expect("the connection is there until the read ends")
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;
    use sqlx::sqlite::SqliteConnection;

    use super::*;

    #[tokio::test]
    async fn a_read_whose_end_is_given_up_leaves_no_transaction_open() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.db");
        let options = SqliteConnectOptions::new().filename(&path).create_if_missing(true);
        let _writer: SqliteConnection = options.connect().await.unwrap();
        let reader = Reader::new(&path, Duration::from_secs(30));
        for _ in 0..100 {
            let read = reader.begin().await.expect("nobody left a transaction open");
            // As when a client goes away.
            let _ = read.end().now_or_never();
            tokio::task::yield_now().await;
        }
    }
}
