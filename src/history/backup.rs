//! A copy of the history, of one moment, while a queen writes or while none runs.
//!
//! It is read like any query, in one transaction: nothing waits for it, only the write-ahead log
//! cannot be cut back until it is done.
//!
//! Invariant: a file under the name of a backup is whole and on disk. It is written under another
//! name, synced, and only then gets its own; no file is overwritten.

use std::fs::{File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, RenameFlags};
use sqlx::Connection;

use super::identity;
use super::open::OpenError;

/// Why there is no backup.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// There is nothing to copy.
    #[error("there is no database {}; name it with --db", path.display())]
    Missing {
        /// The database file.
        path: PathBuf,
    },
    /// It cannot be used.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// A backup overwrites nothing.
    #[error("{} is there already; give the backup another name", path.display())]
    Exists {
        /// The backup file.
        path: PathBuf,
    },
    /// Another backup with the same name is being made.
    #[error("another backup is being written to {}", path.display())]
    UnderWay {
        /// The unfinished file.
        path: PathBuf,
    },
    /// Its disk is too full.
    #[error(
        "{} has {} MiB free, and the backup needs {} MiB{}",
        directory.display(), free >> 20, needed.div_ceil(1 << 20),
        if *shared { " with what --min-free-disk leaves to the queen" } else { "" }
    )]
    Room {
        /// Where the backup is to be.
        directory: PathBuf,
        /// Bytes that are free.
        free: u64,
        /// Bytes that are needed.
        needed: u64,
        /// The database is on the same disk.
        shared: bool,
    },
    /// The backup cannot be written.
    #[error("cannot write {}", path.display())]
    Write {
        /// The backup file, or the unfinished one.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// SQLite could not copy.
    #[error("{} cannot be copied", path.display())]
    Copy {
        /// The database file.
        path: PathBuf,
        /// What SQLite says.
        source: sqlx::Error,
    },
}

/// Copies the database to a new file and gives its size in bytes. On the disk of the database so
/// many bytes stay free: for want of them a queen would drop readings.
///
/// # Errors
/// The file is there already, or there is no room, or one of the files cannot be used.
pub async fn backup(database: &Path, to: &Path, min_free_disk: u64) -> Result<u64, BackupError> {
    if !database.exists() {
        return Err(BackupError::Missing { path: database.into() });
    }
    let mut connection = identity::open_to_read(database).await?;
    if to.symlink_metadata().is_ok() {
        return Err(BackupError::Exists { path: to.into() });
    }
    let copy_error = |source| BackupError::Copy { path: database.into(), source };
    let pages = sqlx::query_file!("queries/pages.sql").fetch_one(&mut connection).await;
    let pages = pages.map_err(copy_error)?;
    let used = (pages.total - pages.free).unsigned_abs() * pages.size.unsigned_abs();
    check_room(database, to, used, min_free_disk)?;

    let unfinished = Unfinished::begin(to)?;
    let name = unfinished.path.to_string_lossy().into_owned();
    sqlx::query("VACUUM INTO ?1").bind(name).execute(&mut connection).await.map_err(copy_error)?;
    // It only read: nothing can be lost.
    let _ = connection.close().await;
    unfinished.finish(to)
}

fn directory_of(path: &Path) -> &Path {
    // A name without a directory is in the one we are in.
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

fn check_room(
    database: &Path,
    to: &Path,
    used: u64,
    min_free_disk: u64,
) -> Result<(), BackupError> {
    let directory = directory_of(to);
    let write_error =
        |error: rustix::io::Errno| BackupError::Write { path: to.into(), source: error.into() };
    let disk = rustix::fs::statvfs(directory).map_err(write_error)?;
    let device = |path: &Path| rustix::fs::stat(path).map(|stat| stat.st_dev);
    let shared =
        device(directory).map_err(write_error)? == device(database).map_err(write_error)?;
    let needed = used.saturating_add(if shared { min_free_disk } else { 0 });
    let free = disk.f_bavail * disk.f_frsize;
    if free < needed {
        return Err(BackupError::Room { directory: directory.into(), free, needed, shared });
    }
    Ok(())
}

/// A backup that has not got its name yet. It is removed unless it is finished; what a crash left
/// behind is written anew.
struct Unfinished {
    path: PathBuf,
    /// Holds a lock that goes with the process.
    file: File,
}

impl Unfinished {
    fn begin(to: &Path) -> Result<Self, BackupError> {
        let mut path = to.as_os_str().to_owned();
        path.push(".unfinished");
        let path = PathBuf::from(path);
        let write_error = |source| BackupError::Write { path: path.clone(), source };
        let mut options = File::options();
        let file =
            options.write(true).create(true).truncate(false).open(&path).map_err(write_error)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(BackupError::UnderWay { path }),
            Err(TryLockError::Error(source)) => return Err(write_error(source)),
        }
        file.set_len(0).map_err(write_error)?;
        Ok(Self { path, file })
    }

    fn finish(self, to: &Path) -> Result<u64, BackupError> {
        let write_error = |source| BackupError::Write { path: to.into(), source };
        self.file.sync_all().map_err(write_error)?;
        let bytes = self.file.metadata().map_err(write_error)?.len();
        match rustix::fs::renameat_with(CWD, &self.path, CWD, to, RenameFlags::NOREPLACE) {
            Ok(()) => {}
            Err(rustix::io::Errno::EXIST) => return Err(BackupError::Exists { path: to.into() }),
            Err(error) => return Err(write_error(error.into())),
        }
        let directory = File::open(directory_of(to)).and_then(|directory| directory.sync_all());
        directory.map_err(write_error)?;
        Ok(bytes)
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        // After it has got its name there is nothing under this one.
        let _ = std::fs::remove_file(&self.path);
    }
}
