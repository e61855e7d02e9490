//! Copying the write-ahead log back into the file, beside the writer.
//!
//! SQLite by itself does it within a commit, and every heartbeat of that commit waits. Here a
//! connection of its own copies nearly all of it while heartbeats are stored; what was written
//! meanwhile is little, and copying that is left to the next commit, since only the writer can
//! begin the log anew.
//!
//! Invariant: the log is copied each time that it has grown by [`LOG_PAGES`]. It grows further
//! only while somebody reads from it in one long transaction.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use sqlx::{ConnectOptions, Connection};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

/// Pages of 4 KiB after which the log is copied: 16 MiB.
const LOG_PAGES: u32 = 4096;

/// How long a reader who is in the way is waited for before it is tried again.
const PAUSE: Duration = Duration::from_secs(1);

/// What the writer's commits and the copying tell each other.
#[derive(Debug, Default)]
pub(super) struct Log {
    /// Pages in the log when it was last asked to be copied.
    asked_at: AtomicU32,
    asked: Notify,
    /// Nearly all is copied: the next commit copies the rest.
    nearly_done: AtomicBool,
}

impl Log {
    /// Notes a commit that left so many pages in the log. Whether this commit copies the rest.
    pub(super) fn committed(&self, pages: u32) -> bool {
        let asked_at = self.asked_at.load(Ordering::Relaxed);
        if pages < asked_at {
            // It began anew.
            self.asked_at.store(0, Ordering::Relaxed);
        } else if pages - asked_at >= LOG_PAGES {
            self.asked_at.store(pages, Ordering::Relaxed);
            self.asked.notify_one();
        }
        self.nearly_done.swap(false, Ordering::Relaxed)
    }
}

/// Copies the log each time that it is asked to, until `stop` is cancelled.
pub(super) async fn run(path: PathBuf, log: Arc<Log>, stop: CancellationToken) {
    let mut connection = None;
    while stop.run_until_cancelled(log.asked.notified()).await.is_some() {
        let copied = copy(&path, &mut connection, &log);
        if let Some(Err(error)) = stop.run_until_cancelled(copied).await {
            tracing::warn!(
                error = %error,
                "the write-ahead log could not be copied into the file; it is tried again"
            );
        }
    }
    // Before the writer: whoever closes the file last copies the rest and removes the log.
    if let Some(connection) = connection
        && let Err(error) = connection.close().await
    {
        tracing::warn!(error = %error, "the copying connection was not closed cleanly");
    }
}

async fn connect(path: &Path) -> sqlx::Result<SqliteConnection> {
    SqliteConnectOptions::new().filename(path).disable_statement_logging().connect().await
}

/// Copies what nobody needs in the log any more, and tells the writer when little is left.
async fn copy(
    path: &Path,
    connection: &mut Option<SqliteConnection>,
    log: &Log,
) -> sqlx::Result<()> {
    let connection = match connection {
        Some(connection) => connection,
        None => connection.insert(connect(path).await?),
    };
    loop {
        let mut left = 0;
        // The second time copies what was written during the first.
        for _ in 0..2 {
            let (_, pages, copied): (i64, i64, i64) =
                sqlx::query_as("PRAGMA wal_checkpoint(PASSIVE)")
                    .fetch_one(&mut *connection)
                    .await?;
            left = pages - copied;
        }
        if left < i64::from(LOG_PAGES) {
            log.nearly_done.store(true, Ordering::Relaxed);
            return Ok(());
        }
        // Somebody reads what was there before.
        tokio::time::sleep(PAUSE).await;
    }
}
