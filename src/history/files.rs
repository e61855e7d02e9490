//! How much room the history takes, and how much there is.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::wal;

/// Where the history is. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Files {
    database: Arc<Path>,
}

/// Sizes in bytes; what cannot be read is not known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sizes {
    /// The database file.
    pub database: Option<u64>,
    /// The write-ahead log beside it; 0 where there is none.
    pub log: u64,
    /// What is free of its disk, for programs without special rights.
    pub free: Option<u64>,
}

impl Files {
    /// Those of a database.
    #[must_use]
    pub fn of(database: &Path) -> Self {
        Self { database: database.into() }
    }

    /// Their sizes now. Asks the file system, which may take its time.
    #[must_use]
    pub fn sizes(&self) -> Sizes {
        // A name without a directory is in the one we are in.
        let directory = self.database.parent().filter(|parent| !parent.as_os_str().is_empty());
        let directory = directory.map_or_else(|| PathBuf::from("."), Path::to_owned);
        let disk = rustix::fs::statvfs(&directory).ok();
        Sizes {
            database: std::fs::metadata(&self.database).ok().map(|file| file.len()),
            log: wal::bytes(&self.database),
            free: disk.map(|disk| disk.f_bavail.saturating_mul(disk.f_frsize)),
        }
    }
}
