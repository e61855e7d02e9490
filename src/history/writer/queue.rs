//! The way to the writer: bounded in bytes, and what it says of each request.

use std::sync::Arc;

use hive_contract::Heartbeat;
use hive_contract::event::Lifecycle;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot, watch};

use crate::history::ids::Ids;

/// Bytes of heartbeats, as they came in, that may wait for the disk: 32 MiB. At the highest
/// rate measured this is about a quarter of a second. Beyond it new ones are refused.
const QUEUE_BYTES: usize = 32 << 20;

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
    /// The last commit succeeded.
    Ready,
    /// The last commit failed, and all since `since_ms` did.
    Degraded {
        /// ms since the epoch.
        since_ms: i64,
        /// What SQLite said first.
        reason: String,
    },
}

/// A heartbeat on its way to the disk.
#[derive(Debug, Clone)]
pub struct Incoming {
    /// The reading.
    pub heartbeat: Arc<Heartbeat>,
    /// It was not the newest of its hive when it arrived.
    pub late: bool,
}

/// A request in the queue.
pub(super) struct Write {
    pub(super) heartbeats: Vec<Incoming>,
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
    storage: watch::Receiver<Storage>,
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
        storage: watch::Receiver<Storage>,
        ids: Ids,
    ) -> (Self, mpsc::UnboundedReceiver<Write>) {
        let (queue, waiting) = mpsc::unbounded_channel();
        (Self { queue, room: Arc::new(Semaphore::new(QUEUE_BYTES)), storage, ids }, waiting)
    }

    /// Stores heartbeats, all or none, and returns when they are on disk. `bytes` is their size
    /// as they came in.
    ///
    /// # Errors
    /// The queue is full or the disk refuses; nothing was stored.
    pub async fn write(
        &self,
        heartbeats: Vec<Incoming>,
        bytes: usize,
    ) -> Result<Vec<Ack>, WriteError> {
        self.send(heartbeats, Vec::new(), bytes).await
    }

    /// Records what happened to hives that are known, all or none, and returns when it is on disk.
    ///
    /// # Errors
    /// The queue is full or the disk refuses; nothing was recorded.
    pub async fn record(&self, happenings: Vec<Lifecycle>) -> Result<(), WriteError> {
        self.send(Vec::new(), happenings, 0).await.map(|_| ())
    }

    async fn send(
        &self,
        heartbeats: Vec<Incoming>,
        happenings: Vec<Lifecycle>,
        bytes: usize,
    ) -> Result<Vec<Ack>, WriteError> {
        let permits = u32::try_from(bytes.clamp(1, QUEUE_BYTES)).unwrap_or(u32::MAX);
        let room = Arc::clone(&self.room)
            .try_acquire_many_owned(permits)
            .map_err(|_| WriteError::QueueFull)?;
        let (reply, answer) = oneshot::channel();
        self.queue
            .send(Write { heartbeats, happenings, reply, _room: room })
            .map_err(|_| WriteError::Unavailable)?;
        answer.await.unwrap_or(Err(WriteError::Unavailable))
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
