//! Reading beside the writer: on connections of its own, and the writer is woken when it is done.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Notify, oneshot};
use tokio::time::timeout;

use super::reader::{ReadError, Reader};

/// How long the end waits for what is read: without it the log stays beside the file, and nothing is
/// lost.
const CLOSING: Duration = Duration::from_secs(1);

/// The way to read beside. Cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct Beside {
    reader: Reader,
    done: Arc<Notify>,
}

/// What is read beside.
#[derive(Debug)]
pub(super) struct Task<T> {
    result: oneshot::Receiver<Result<T, ReadError>>,
}

impl Beside {
    pub(super) fn new(reader: Reader) -> Self {
        Self { reader, done: Arc::default() }
    }

    /// Begins to read.
    pub(super) fn read<T, F>(&self, work: impl FnOnce(Reader) -> F) -> Task<T>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, ReadError>> + Send + 'static,
    {
        let work = tokio::spawn(work(self.reader.clone()));
        let done = Arc::clone(&self.done);
        let (sender, result) = oneshot::channel();
        tokio::spawn(async move {
            // One that panicked is as one that could not be done.
            let _ = sender.send(work.await.unwrap_or(Err(ReadError::Busy)));
            done.notify_one();
        });
        Task { result }
    }

    /// Closes the connections, unless something is still read after [`CLOSING`].
    pub(super) async fn close(&self) {
        let _ = timeout(CLOSING, self.reader.close()).await;
    }

    /// Waits until something that was begun is done.
    pub(super) async fn done(&self) {
        self.done.notified().await;
    }
}

impl<T> Task<T> {
    pub(super) fn is_finished(&self) -> bool {
        !self.result.is_empty()
    }

    /// What was read, once it is finished.
    pub(super) async fn result(self) -> Result<T, ReadError> {
        self.result.await.unwrap_or(Err(ReadError::Busy))
    }
}
