//! What the writer does beside storing heartbeats, a slice at a time: sealing, rolling up,
//! retention. One at a time, in this order of urgency.
//!
//! Invariant: an hour is only rolled up while no block is under way: what a block holds of an
//! hour is either among the minutes that are read, or added as late.

use hive_contract::event::Lifecycle;
use sqlx::SqliteConnection;

use super::beside::Beside;
use super::cleaning;
use super::ids::Ids;
use super::live::LiveIndex;
use super::reader::{ReadError, Reader};
use super::retention::{Limits, Retention};
use super::roll::Roller;
use super::rollup::HOUR_MS;
use super::seal::Sealer;
use super::wal;

/// Everything that is done beside.
#[derive(Debug)]
pub(super) struct Upkeep {
    beside: Beside,
    sealer: Sealer,
    roller: Roller,
    retention: Retention,
    log: wal::Watch,
    /// Hours before this (ms since the epoch) are rolled up; 0: none yet.
    rolled_ts: i64,
}

impl Upkeep {
    /// Removes what a crash left behind, and learns where to go on.
    pub(super) async fn open(
        seal_after_ms: i64,
        limits: Limits,
        path: &std::path::Path,
        reader: Reader,
        connection: &mut SqliteConnection,
    ) -> sqlx::Result<Self> {
        cleaning::clean(connection).await?;
        let progress =
            sqlx::query_file!("queries/progress.sql").fetch_one(&mut *connection).await?;
        let beside = Beside::new(reader);
        Ok(Self {
            sealer: Sealer::open(seal_after_ms, beside.clone(), connection).await?,
            roller: Roller::open(beside.clone(), connection).await?,
            beside,
            retention: Retention::new(limits, path),
            log: wal::Watch::new(path),
            rolled_ts: progress.rolled_ts,
        })
    }

    /// Whether there is a next slice that can be done now.
    pub(super) fn is_busy(&self) -> bool {
        (self.sealer.is_busy() && !self.sealer.is_waiting())
            || (self.roller.is_busy() && !self.roller.is_waiting())
            || (self.retention.is_busy() && !self.sealer.is_busy() && !self.roller.is_busy())
    }

    /// The last block that was sealed; 0: none yet.
    pub(super) fn last_block(&self) -> i64 {
        self.sealer.last_block()
    }

    /// Waits until something that is read beside may be there.
    pub(super) async fn woken(&self) {
        self.beside.done().await;
    }

    /// Begins what is due. `now_ms` is since the epoch.
    pub(super) fn begin(&mut self, live: &LiveIndex, now_ms: i64, last_id: i64) {
        self.log.look(now_ms);
        if self.roller.is_busy() {
            return;
        }
        self.sealer.begin(live, self.rolled_ts, now_ms, last_id);
        if !self.sealer.is_busy() {
            self.roller.begin(self.rolled_ts, now_ms);
            self.retention.begin(now_ms);
        }
    }

    /// Does one slice, and gives what is to be told of it. On an error what was under way is
    /// given up and begun anew later.
    pub(super) async fn step(
        &mut self,
        live: &mut LiveIndex,
        now_ms: i64,
        ids: &Ids,
        connection: &mut SqliteConnection,
    ) -> Result<Option<Lifecycle>, ReadError> {
        if self.sealer.is_busy() {
            self.sealer.step(live, connection).await?;
            if !self.sealer.is_busy() && self.rolled_ts == 0 {
                self.begin_rolling(connection).await.map_err(ReadError::Database)?;
            }
        } else if self.roller.is_busy() {
            if let Some(rolled_ts) = self.roller.step(connection).await? {
                self.rolled_ts = rolled_ts;
                self.roller.begin(rolled_ts, now_ms);
            }
        } else {
            let done = self.retention.step(live, now_ms, ids, connection).await;
            return done.map_err(ReadError::Database);
        }
        Ok(None)
    }

    /// Ends what is read beside.
    pub(super) async fn close(self) {
        self.beside.close().await;
    }

    /// The first hour to roll up is that of the oldest reading.
    async fn begin_rolling(&mut self, connection: &mut SqliteConnection) -> sqlx::Result<()> {
        let first = sqlx::query_file_scalar!("queries/first_block_time.sql")
            .fetch_one(&mut *connection)
            .await?;
        if let Some(first) = first {
            let rolled_ts = first - first.rem_euclid(HOUR_MS);
            sqlx::query_file!("queries/set_rolled.sql", rolled_ts).execute(connection).await?;
            self.rolled_ts = rolled_ts;
        }
        Ok(())
    }
}
