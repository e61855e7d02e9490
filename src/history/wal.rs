//! The write-ahead log beside the file.
//!
//! A reader that holds a transaction open, in a forgotten `sqlite3` window for example, keeps it
//! from being used again: nothing is lost and nobody waits, but it grows with all that is stored
//! until that reader is gone. So it is said how large it is.

use std::path::{Path, PathBuf};

/// From this size on it is said: 256 MiB, four times what is left of it when nobody is in the way.
const WARN_BYTES: u64 = 256 << 20;
/// How often it is looked.
const LOOK_EVERY_MS: i64 = 10_000;

/// Its size in bytes; 0 where there is none.
pub(super) fn bytes(database: &Path) -> u64 {
    let mut path = database.as_os_str().to_owned();
    path.push("-wal");
    std::fs::metadata(PathBuf::from(path)).map_or(0, |log| log.len())
}

/// Looks at its size now and then.
#[derive(Debug)]
pub(super) struct Watch {
    database: PathBuf,
    looked_ms: i64,
    /// At this size it is said, and then each time it has doubled.
    warn_bytes: u64,
}

impl Watch {
    pub(super) fn new(database: &Path) -> Self {
        Self { database: database.into(), looked_ms: i64::MIN / 2, warn_bytes: WARN_BYTES }
    }

    /// `now_ms` is since the epoch.
    pub(super) fn look(&mut self, now_ms: i64) {
        if (now_ms - self.looked_ms).abs() < LOOK_EVERY_MS {
            return;
        }
        self.looked_ms = now_ms;
        let bytes = bytes(&self.database);
        if bytes >= self.warn_bytes {
            tracing::warn!(
                wal.bytes = bytes,
                "the write-ahead log has grown to {} MiB: somebody holds a transaction open on the \
                 database (a forgotten sqlite3 window?); it shrinks when that one ends",
                bytes >> 20
            );
            self.warn_bytes = bytes.saturating_mul(2);
        } else if bytes < WARN_BYTES && self.warn_bytes > WARN_BYTES {
            tracing::info!(wal.bytes = bytes, "the write-ahead log is {} MiB again", bytes >> 20);
            self.warn_bytes = WARN_BYTES;
        }
    }
}
