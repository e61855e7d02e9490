//! The way to the writer: bounded in bytes and in time, and what it says of each request.
//!
//! Invariant: a request is answered within [`PATIENCE`], however long the disk takes. It keeps its
//! room in the queue until the disk is done with it, so a disk that hangs costs bounded memory.

use std::sync::Arc;
use std::time::Duration;

use hive_contract::Heartbeat;
use hive_contract::event::Lifecycle;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot, watch};
use tokio::time::timeout;

use crate::clock::Clock;
use crate::history::ids::Ids;

/// Bytes of heartbeats, as they came in, that may wait for the disk: 32 MiB. At the highest
/// rate measured this is about a quarter of a second. Beyond it new ones are refused.
const QUEUE_BYTES: usize = 32 << 20;

/// A heartbeat waits for the disk in steps of this. Steps are counted, not the time: a pause of the
/// whole process is one step, and is not taken for a slow disk.
const STEP: Duration = Duration::from_millis(500);
/// After so many steps, 3 s, the disk counts as slow, and the heartbeat as not stored: the agent can
/// send its next one before the hive counts as silent, after 5 s. While it is slow, one step is
/// waited.
const PATIENCE: u32 = 6;

/// What became of a heartbeat that is on disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ack {
    /// Its id in the history.
    pub id: i64,
    /// It was there before.
    pub duplicate: bool,
}

/// Why a heartbeat was not stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum WriteError {
    /// Too much waits already. Nothing of the request was stored.
    #[error("too many heartbeats wait for the disk; try again shortly")]
    QueueFull,
    /// The disk takes long. The request is stored yet, unless the disk refuses it in the end.
    #[error("the disk is slow at the moment; keep the heartbeat and try again")]
    Slow,
    /// The hive has brought too much that is new. Nothing of the request was stored.
    #[error(
        "the hive has brought more new workers, GPUs and changes than are kept of one; \
         what is new is taken again when that is made up for"
    )]
    TooMuchNew,
    /// The disk refuses. Nothing of the request was stored.
    #[error("the history cannot be written at the moment; keep the heartbeat and try again")]
    Unavailable,
}

/// Whether the history can be written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Storage {
    /// The last commit succeeded, soon.
    Ready,
    /// The last commit failed or took long, and all since `since_ms` did.
    Degraded {
        /// ms since the epoch.
        since_ms: i64,
        /// What SQLite said first, or that the disk is slow.
        reason: String,
    },
}

impl Storage {
    /// Notes that heartbeats are not stored, unless that is known already.
    pub(super) fn degrade(storage: &watch::Sender<Self>, clock: Clock, reason: &str) {
        storage.send_if_modified(|storage| {
            let first = *storage == Self::Ready;
            if first {
                tracing::error!(
                    reason,
                    "the history cannot be written; agents keep their \
                     heartbeats, the live view goes on"
                );
                let since_ms = clock.now().millis();
                *storage = Self::Degraded { since_ms, reason: reason.into() };
            }
            first
        });
    }
}

/// A request in the queue.
pub(super) struct Write {
    pub(super) heartbeats: Vec<Arc<Heartbeat>>,
    pub(super) happenings: Vec<Lifecycle>,
    pub(super) reply: oneshot::Sender<Result<Vec<Ack>, WriteError>>,
    /// Room in the queue, given back when the request is answered.
    _room: OwnedSemaphorePermit,
}

/// The way to the writer. Cheap to clone; the writer ends when the last one is gone.
#[derive(Debug, Clone)]
pub struct Writer {
    queue: mpsc::UnboundedSender<Write>,
    room: Arc<Semaphore>,
    storage: watch::Sender<Storage>,
    clock: Clock,
    ids: Ids,
}

impl std::fmt::Debug for Write {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Write").field("heartbeats", &self.heartbeats.len()).finish_non_exhaustive()
    }
}

impl Writer {
    /// A way to whoever receives, with what it is then told.
    pub(super) fn new(
        storage: watch::Sender<Storage>,
        clock: Clock,
        ids: Ids,
    ) -> (Self, mpsc::UnboundedReceiver<Write>) {
        let (queue, waiting) = mpsc::unbounded_channel();
        let room = Arc::new(Semaphore::new(QUEUE_BYTES));
        (Self { queue, room, storage, clock, ids }, waiting)
    }

    /// Stores heartbeats, all or none, and returns when they are on disk. `bytes` is their size
    /// as they came in.
    ///
    /// # Errors
    /// The queue is full or the disk refuses; nothing was stored. Or the disk is slow.
    pub async fn write(
        &self,
        heartbeats: Vec<Arc<Heartbeat>>,
        bytes: usize,
    ) -> Result<Vec<Ack>, WriteError> {
        let mut answer = self.send(heartbeats, Vec::new(), bytes)?;
        let mut steps = 0;
        loop {
            if let Ok(answered) = timeout(STEP, &mut answer).await {
                return answered.unwrap_or(Err(WriteError::Unavailable));
            }
            steps += 1;
            if steps == PATIENCE {
                let took = STEP * steps;
                let reason = format!("the disk is slow: nothing was stored for {took:?}");
                Storage::degrade(&self.storage, self.clock, &reason);
            }
            if steps >= PATIENCE || *self.storage.borrow() != Storage::Ready {
                return Err(WriteError::Slow);
            }
        }
    }

    /// Records what happened to hives that are known, all or none, and returns when it is on disk. It
    /// takes no room from heartbeats: whoever records waits for the answer.
    ///
    /// # Errors
    /// The disk refuses; nothing was recorded.
    pub async fn record(&self, happenings: Vec<Lifecycle>) -> Result<(), WriteError> {
        let answer = self.send(Vec::new(), happenings, 0)?;
        answer.await.unwrap_or(Err(WriteError::Unavailable)).map(|_| ())
    }

    fn send(
        &self,
        heartbeats: Vec<Arc<Heartbeat>>,
        happenings: Vec<Lifecycle>,
        bytes: usize,
    ) -> Result<oneshot::Receiver<Result<Vec<Ack>, WriteError>>, WriteError> {
        let permits = u32::try_from(bytes.min(QUEUE_BYTES)).unwrap_or(u32::MAX);
        let room = Arc::clone(&self.room)
            .try_acquire_many_owned(permits)
            .map_err(|_| WriteError::QueueFull)?;
        let (reply, answer) = oneshot::channel();
        self.queue
            .send(Write { heartbeats, happenings, reply, _room: room })
            .map_err(|_| WriteError::Unavailable)?;
        Ok(answer)
    }

    /// Whether the history can be written.
    #[must_use]
    pub fn storage(&self) -> Storage {
        self.storage.borrow().clone()
    }

    /// Bytes of heartbeats, as they came in, that wait for the disk.
    #[must_use]
    pub fn waiting_bytes(&self) -> usize {
        QUEUE_BYTES - self.room.available_permits()
    }

    /// The last id given out.
    #[must_use]
    pub fn last_id(&self) -> i64 {
        self.ids.last()
    }
}
