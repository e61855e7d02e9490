//! Opens, checks and migrates the database file.
//!
//! Invariant: at most one queen holds a file. The lock is an advisory lock on `FILE.lock`,
//! released by the kernel however the process ends; the file's content says who holds it.

use std::fs::{File, TryLockError};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use sqlx::migrate::{Migrate, MigrateError};
use sqlx::sqlite::{
    SqliteAutoVacuum, SqliteConnectOptions, SqliteConnection, SqliteJournalMode, SqliteSynchronous,
};
use sqlx::{ConnectOptions, Connection};
use tokio::task::JoinHandle;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::checkpoint::{self, Log};
use super::raw::Handle;

use super::identity;

/// What an acknowledgement survives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Durability {
    /// A power cut: every commit is synced to the disk.
    #[default]
    Full,
    /// A crash of the queen, but not of the machine.
    Normal,
}

/// Why the file could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another queen has it.
    #[error("{} is in use by another queen ({holder}); stop that one or use another --db", path.display())]
    Locked {
        /// The database file.
        path: PathBuf,
        /// What the other one wrote into the lock file.
        holder: String,
    },
    /// The lock file cannot be used.
    #[error("cannot use the lock file {}", path.display())]
    LockFile {
        /// The lock file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The system does not let the queen write it.
    #[error(
        "{} cannot be written; the queen needs the right to write the file and its directory",
        path.display()
    )]
    NotWritable {
        /// The database file.
        path: PathBuf,
        /// What SQLite says.
        source: sqlx::Error,
    },
    /// It is no SQLite database, or damaged.
    #[error(
        "{} is not a usable database; move it away to start with a new one, \
         or put a backup (`queen backup FILE`) in its place", path.display()
    )]
    Unusable {
        /// The database file.
        path: PathBuf,
        /// What SQLite says.
        source: sqlx::Error,
    },
    /// It is ours, and damaged.
    #[error(
        "{} is damaged ({damage}); put a backup (`queen backup FILE`) in its place, \
         or move it away to start with a new one", path.display()
    )]
    Damaged {
        /// The database file.
        path: PathBuf,
        /// What SQLite finds first.
        damage: String,
    },
    /// It belongs to another program.
    #[error(
        "{} is the database of another program (it holds: {tables}); use another --db",
        path.display()
    )]
    Foreign {
        /// The database file.
        path: PathBuf,
        /// Some of the tables in it.
        tables: String,
    },
    /// It was written by a newer queen.
    #[error(
        "{} was written by a newer queen (schema {version}); use that version, \
         or another --db", path.display()
    )]
    Newer {
        /// The database file.
        path: PathBuf,
        /// The newest schema version in it.
        version: i64,
    },
    /// Its schema cannot be brought up to date.
    #[error("the schema of {} cannot be brought up to date", path.display())]
    Migrate {
        /// The database file.
        path: PathBuf,
        /// Why.
        source: MigrateError,
    },
}

/// An open database: the writing connection and the lock.
#[derive(Debug)]
pub struct Database {
    pub(super) writer: SqliteConnection,
    /// After the connection that tells it of commits.
    log: Arc<Log>,
    /// Copies the log until `stop` is dropped.
    copying: JoinHandle<()>,
    stop: DropGuard,
    pub(super) lock: File,
    path: PathBuf,
}

impl OpenError {
    /// Why a file cannot be used, by what SQLite says of it.
    pub(super) fn of(path: &Path, source: sqlx::Error) -> Self {
        /// `SQLITE_PERM`, `SQLITE_READONLY`, `SQLITE_CANTOPEN`, without what their extensions add.
        const NOT_ALLOWED: [i32; 3] = [3, 8, 14];
        let code = source.as_database_error().and_then(|error| error.code()?.parse::<i32>().ok());
        let path = path.into();
        if code.is_some_and(|code| NOT_ALLOWED.contains(&(code & 0xff))) {
            Self::NotWritable { path, source }
        } else {
            Self::Unusable { path, source }
        }
    }
}

impl Database {
    /// The file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }
}

/// The log is cut back to this many bytes after it was copied.
const LOG_LIMIT_BYTES: &str = "67108864";

/// Up to this size the pages of the file are checked at the start: 256 MiB, well under a second.
const MAX_CHECKED_BYTES: u64 = 256 << 20;

/// Opens the file, creating it if it is not there, takes the lock and brings the schema up to
/// date.
///
/// # Errors
/// Another queen holds the file, or it is not usable, or another program's.
pub async fn open(path: &Path, durability: Durability) -> Result<Database, OpenError> {
    identity::check(path).await?;
    let lock = lock(path)?;
    check_pages(path).await?;
    let unusable = |source| OpenError::of(path, source);
    let mut writer = SqliteConnectOptions::new()
        .filename(path)
        .create_if_missing(true)
        .auto_vacuum(SqliteAutoVacuum::Incremental)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(match durability {
            Durability::Full => SqliteSynchronous::Full,
            Durability::Normal => SqliteSynchronous::Normal,
        })
        .pragma("journal_size_limit", LOG_LIMIT_BYTES)
        // A person with sqlite3 may hold the write lock for a moment.
        .busy_timeout(Duration::from_secs(5))
        // One statement for each number of rows up to a full chunk, of three tables.
        .statement_cache_capacity(512)
        .disable_statement_logging()
        .connect()
        .await
        .map_err(unusable)?;
    migrate(&mut writer, path).await?;
    let log = Arc::<Log>::default();
    Handle::new(writer.lock_handle().await.map_err(unusable)?).on_commit(&log);
    let stop = CancellationToken::new();
    let copying = tokio::spawn(checkpoint::run(path.into(), Arc::clone(&log), stop.clone()));
    Ok(Database { writer, log, copying, stop: stop.drop_guard(), lock, path: path.into() })
}

/// Looks for damaged pages where that is quick; elsewhere they are found when they are read.
async fn check_pages(path: &Path) -> Result<(), OpenError> {
    if std::fs::metadata(path).map_or(true, |file| file.len() > MAX_CHECKED_BYTES) {
        return Ok(());
    }
    let unusable = |source| OpenError::of(path, source);
    let mut connection = identity::open_to_read(path).await?;
    let found: String = sqlx::query_scalar("PRAGMA quick_check(1)")
        .fetch_one(&mut connection)
        .await
        .map_err(unusable)?;
    // It only read: nothing can be lost.
    let _ = connection.close().await;
    match found.as_str() {
        "ok" => Ok(()),
        // On one line.
        _ => Err(OpenError::Damaged { path: path.into(), damage: found.replace('\n', " ") }),
    }
}

fn lock(database: &Path) -> Result<File, OpenError> {
    let mut path = database.as_os_str().to_owned();
    path.push(".lock");
    let path = PathBuf::from(path);
    let failed = |source| OpenError::LockFile { path: path.clone(), source };
    let mut file = File::options()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(&path)
        .map_err(failed)?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let mut holder = String::new();
            let _ = file.take(200).read_to_string(&mut holder);
            return Err(OpenError::Locked { path: database.into(), holder: holder.trim().into() });
        }
        Err(TryLockError::Error(source)) => return Err(failed(source)),
    }
    file.set_len(0).map_err(failed)?;
    writeln!(file, "process {}", std::process::id()).map_err(failed)?;
    Ok(file)
}

async fn migrate(writer: &mut SqliteConnection, path: &Path) -> Result<(), OpenError> {
    let migrator = sqlx::migrate!();
    // A new file has not even the table of them.
    let applied = writer.list_applied_migrations(&migrator.table_name).await.unwrap_or_default();
    if (1..migrator.iter().count()).contains(&applied.len()) {
        tracing::info!(
            path = %path.display(),
            "bringing the file of an older version up to date; a large one takes minutes"
        );
    }
    match migrator.run(&mut *writer).await {
        Ok(()) => Ok(()),
        Err(MigrateError::VersionMissing(version)) => {
            Err(OpenError::Newer { path: path.into(), version })
        }
        Err(MigrateError::Execute(source)) => Err(OpenError::of(path, source)),
        Err(source) => Err(OpenError::Migrate { path: path.into(), source }),
    }
}

impl Database {
    /// Writes the log back into the file and closes it.
    pub(super) async fn close(self) {
        drop(self.stop);
        let _ = self.copying.await;
        if let Err(error) = self.writer.close().await {
            tracing::warn!(error = %error, "the database was not closed cleanly; nothing is lost");
        }
        drop((self.log, self.lock));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_file_that_may_not_be_written_is_not_called_damaged() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("queen.db");
        let whole = SqliteConnectOptions::new().filename(&path).create_if_missing(true);
        let mut connection = whole.connect().await.unwrap();
        sqlx::raw_sql("CREATE TABLE t (x)").execute(&mut connection).await.unwrap();
        connection.close().await.unwrap();
        let error = |sql: &'static str| {
            let read = SqliteConnectOptions::new().filename(&path).read_only(true);
            async move { sqlx::raw_sql(sql).execute(&mut read.connect().await?).await }
        };
        let refused = OpenError::of(&path, error("CREATE TABLE u (x)").await.unwrap_err());
        assert!(matches!(refused, OpenError::NotWritable { .. }), "{refused}");
        std::fs::write(&path, "no database at all ".repeat(500)).unwrap();
        let damaged = OpenError::of(&path, error("SELECT * FROM t").await.unwrap_err());
        assert!(matches!(damaged, OpenError::Unusable { .. }), "{damaged}");
    }
}
