//! The heartbeats that are not acknowledged yet, between collecting and sending: in memory
//! first, and on disk as soon as the queen is seen not to take them.
//!
//! Invariant: a heartbeat leaves only when the queen has acknowledged or refused it, or as the
//! oldest one when a bound is reached, and then it is counted and told. Putting one in never
//! waits, not even for the disk.

use std::collections::{BTreeSet, VecDeque};
use std::future::pending;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use hive_contract::Timestamp;
use tokio::sync::Notify;
use tracing::{info, warn};

#[cfg(fuzzing)]
pub mod fuzzing;
mod record;
mod segments;

use segments::{Portion, Segments, age};

/// What one entry takes in memory beside its JSON.
const ENTRY_BYTES: u64 = 64;
/// What waits in memory, in bytes: all of it where there is no disk, three quarters of an hour of
/// a hive of ten workers.
pub const MAX_MEMORY: u64 = 16 << 20;
/// What nobody has answered for so long goes to disk, also while the queen seems to be there.
const PATIENCE: Duration = Duration::from_secs(2);
/// After an error the disk is tried again so often.
const DISK_RETRY: Duration = Duration::from_secs(10);

/// The bounds of a spool: whichever is reached first, the oldest heartbeats go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Size of all heartbeats together, as they are stored: on disk they are compressed. Without
    /// a disk [`MAX_MEMORY`] is the bound if it is smaller.
    pub bytes: u64,
    /// Age of the oldest one.
    pub age: Duration,
}

impl Default for Limits {
    /// 256 MiB, which is nearly a day of a hive of a hundred workers, and 24 h.
    fn default() -> Self {
        Self { bytes: 256 << 20, age: Duration::from_secs(24 * 60 * 60) }
    }
}

/// One heartbeat that waits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) timestamp: Timestamp,
    pub(crate) json: Bytes,
}

/// The newest heartbeat, which nobody has answered yet.
#[derive(Debug, Clone)]
pub(crate) struct Newest {
    pub(crate) entry: Entry,
    number: u64,
    /// The losses of which it tells.
    tells: Losses,
}

/// Some of the oldest heartbeats, which stay in until they are done with.
pub(crate) struct Batch(Source);

enum Source {
    Memory { entries: Vec<Entry>, numbers: RangeInclusive<u64> },
    Disk(Portion),
}

impl Batch {
    /// The heartbeats: all of one hive, oldest first.
    pub(crate) fn entries(&self) -> &[Entry] {
        match &self.0 {
            Source::Memory { entries, .. } => entries,
            Source::Disk(portion) => &portion.entries,
        }
    }
}

/// What a heartbeat says about the spool.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Standing {
    /// How many heartbeats wait.
    pub(crate) waiting: u64,
    /// What is wrong, and what was lost and no acknowledged heartbeat has told yet.
    pub(crate) complaints: Vec<String>,
}

/// What did not reach the queen and never will, since the start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Losses {
    /// Heartbeats that went because a bound was reached.
    pub(crate) dropped: u64,
    /// Heartbeats that the queen refused.
    pub(crate) refused: u64,
    /// Bytes on disk that are no heartbeat.
    pub(crate) unreadable_bytes: u64,
}

impl Losses {
    fn since(self, told: Self) -> Self {
        Self {
            dropped: self.dropped - told.dropped,
            refused: self.refused - told.refused,
            unreadable_bytes: self.unreadable_bytes - told.unreadable_bytes,
        }
    }
}

/// The spool itself: the collecting thread puts in, the sending task takes out, and
/// [`Spool::keep`] writes down what cannot be sent.
pub(crate) struct Spool {
    limits: Limits,
    directory: Option<PathBuf>,
    // A std mutex: it is held for moments, and never across an await.
    queue: Mutex<Queue>,
    /// What is on disk. Locked only where blocking is allowed, and before `queue`.
    disk: Mutex<Option<Segments>>,
    filled: Notify,
    to_write: Notify,
}

#[derive(Default)]
struct Queue {
    /// Those in memory only: oldest first, numbers ascending.
    entries: VecDeque<Waiting>,
    bytes: u64,
    next_number: u64,
    /// Until it is answered; it can be on disk already.
    newest: Option<Newest>,
    /// How many are on disk, and which of them need not be sent any more.
    on_disk: u64,
    sent_on_disk: BTreeSet<Timestamp>,
    /// The moment of the last one that was put in.
    now: Option<Timestamp>,
    is_queen_away: bool,
    losses: Losses,
    refusal: String,
    /// The losses that were last told, and those that an acknowledged heartbeat has told.
    tells: Losses,
    told: Losses,
    /// Why nothing can be written down at the moment.
    disk_error: Option<String>,
}

struct Waiting {
    number: u64,
    since: Instant,
    entry: Entry,
}

impl Spool {
    /// Without a directory everything stays in memory.
    pub(crate) fn new(limits: Limits, directory: Option<PathBuf>) -> Self {
        Self {
            limits,
            directory,
            queue: Mutex::default(),
            disk: Mutex::default(),
            filled: Notify::new(),
            to_write: Notify::new(),
        }
    }

    /// Puts a heartbeat in; drops the oldest ones in memory if a bound is reached.
    pub(crate) fn push(&self, timestamp: Timestamp, json: Bytes) {
        let mut guard = self.queue();
        let queue = &mut *guard;
        let number = queue.next_number;
        let entry = Entry { timestamp, json };
        queue.next_number += 1;
        queue.now = Some(timestamp);
        queue.bytes += size(&entry);
        queue.newest = Some(Newest { entry: entry.clone(), number, tells: queue.tells });
        queue.entries.push_back(Waiting { number, since: Instant::now(), entry });
        while let Some(oldest) = queue.entries.front() {
            let is_too_old = age(timestamp, oldest.entry.timestamp) > self.limits.age;
            if queue.bytes <= self.limits.bytes.min(MAX_MEMORY) && !is_too_old {
                break;
            }
            queue.bytes -= size(&oldest.entry);
            queue.losses.dropped += 1;
            let dropped = oldest.number;
            queue.entries.pop_front();
            queue.newest.take_if(|newest| newest.number == dropped);
        }
        let is_waiting_long = |oldest: &Waiting| oldest.since.elapsed() >= PATIENCE;
        if queue.is_queen_away || queue.entries.front().is_some_and(is_waiting_long) {
            self.to_write.notify_one();
        }
        drop(guard);
        self.filled.notify_one();
    }

    /// Waits until something came in since the last wait.
    pub(crate) async fn filled(&self) {
        self.filled.notified().await;
    }

    /// The newest heartbeat, unless it was answered; it stays in.
    pub(crate) fn newest(&self) -> Option<Newest> {
        self.queue().newest.clone()
    }

    /// The newest heartbeat was acknowledged, and with it what it tells.
    pub(crate) fn acknowledge_newest(&self, newest: &Newest) {
        let mut queue = self.queue();
        queue.told = newest.tells;
        queue.take_newest(newest);
    }

    /// The newest heartbeat was refused.
    pub(crate) fn refuse_newest(&self, newest: &Newest, reason: &str) {
        let mut queue = self.queue();
        queue.losses.refused += 1;
        reason.clone_into(&mut queue.refusal);
        queue.take_newest(newest);
    }

    /// The oldest heartbeats, at most so many and so large together, but at least one if there
    /// is any.
    pub(crate) async fn oldest(
        self: &Arc<Self>,
        max_lines: usize,
        max_bytes: usize,
    ) -> Option<Batch> {
        if self.queue().on_disk > 0 {
            let from_disk = self.at_disk(move |spool, segments| {
                let sent = spool.queue().sent_on_disk.clone();
                segments.oldest(max_lines, max_bytes, &sent)
            });
            if let Some(portion) = from_disk.await {
                return Some(Batch(Source::Disk(portion)));
            }
        }
        let queue = self.queue();
        let mut bytes = 0;
        let fits = |(index, waiting): &(usize, &Waiting)| {
            bytes += waiting.entry.json.len() + 1;
            *index == 0 || (*index < max_lines && bytes <= max_bytes)
        };
        let taken: Vec<&Waiting> =
            queue.entries.iter().enumerate().take_while(fits).map(|(_, waiting)| waiting).collect();
        let numbers = taken.first()?.number..=taken.last()?.number;
        let entries = taken.into_iter().map(|waiting| waiting.entry.clone()).collect();
        Some(Batch(Source::Memory { entries, numbers }))
    }

    /// A batch was acknowledged.
    pub(crate) async fn remove(self: &Arc<Self>, batch: Batch) {
        match batch.0 {
            Source::Memory { numbers, .. } => self.queue().remove(&numbers),
            Source::Disk(portion) => {
                self.at_disk(move |spool, segments| {
                    segments.remove(&portion);
                    let mut queue = spool.queue();
                    for timestamp in &portion.skipped {
                        queue.sent_on_disk.remove(timestamp);
                    }
                    Some(())
                })
                .await;
            }
        }
    }

    /// A batch was refused.
    pub(crate) async fn refuse(self: &Arc<Self>, batch: Batch, reason: &str) {
        {
            let mut queue = self.queue();
            queue.losses.refused += batch.entries().len() as u64;
            reason.clone_into(&mut queue.refusal);
        }
        self.remove(batch).await;
    }

    /// Whether the queen takes heartbeats. While she does not, each is written down at once.
    pub(crate) fn set_queen_away(&self, is_away: bool) {
        self.queue().is_queen_away = is_away;
        if is_away {
            self.to_write.notify_one();
        }
    }

    /// Writes to the disk what has to be, for as long as it is polled.
    pub(crate) async fn keep(self: &Arc<Self>) {
        if self.directory.is_none() {
            return pending().await;
        }
        loop {
            if self.write_down().await {
                self.to_write.notified().await;
            } else {
                tokio::time::sleep(DISK_RETRY).await;
            }
        }
    }

    /// Writes everything to the disk, for the next start. Gives whether all of it is there.
    pub(crate) async fn close(self: &Arc<Self>) -> bool {
        self.set_queen_away(true);
        let is_written = self.directory.is_some() && self.write_down().await;
        let is_synced = self.at_disk(|_, segments| segments.sync(Duration::ZERO).ok()).await;
        is_written && is_synced.is_some()
    }

    /// What the next heartbeat says about this.
    pub(crate) fn standing(&self) -> Standing {
        let mut queue = self.queue();
        queue.tells = queue.losses;
        let mut complaints = Vec::new();
        if let Some(error) = &queue.disk_error {
            let waiting = queue.entries.len();
            complaints.push(format!("{error}; {waiting} heartbeats are kept in memory only"));
        }
        let Losses { dropped, refused, unreadable_bytes } = queue.losses.since(queue.told);
        if dropped > 0 {
            complaints.push(format!("{dropped} heartbeats were dropped, more than it may hold"));
        }
        if refused > 0 {
            let reason = &queue.refusal;
            complaints.push(format!("the queen refused {refused} heartbeats: {reason}"));
        }
        if unreadable_bytes > 0 {
            complaints.push(format!("{unreadable_bytes} bytes on disk were no whole heartbeat"));
        }
        Standing { waiting: queue.waiting(), complaints }
    }

    /// How many heartbeats wait.
    pub(crate) fn len(&self) -> u64 {
        self.queue().waiting()
    }

    /// Whether none waits.
    pub(crate) fn is_empty(&self) -> bool {
        let queue = self.queue();
        queue.entries.is_empty() && queue.on_disk == 0
    }

    /// What was lost since the start.
    pub(crate) fn losses(&self) -> Losses {
        self.queue().losses
    }

    /// Opens the disk if need be, and writes what has to be. Gives whether that went well.
    async fn write_down(self: &Arc<Self>) -> bool {
        let written = self.blocking(|spool| {
            let mut disk = lock(&spool.disk);
            let result = match &mut *disk {
                Some(segments) => spool.write_to(segments),
                none => spool.open().and_then(|opened| spool.write_to(none.insert(opened))),
            };
            let mut queue = spool.queue();
            match (&result, &queue.disk_error) {
                (Err(error), None) => warn!("{error}; heartbeats are kept in memory only"),
                (Ok(()), Some(_)) => info!("the spool is written to disk again"),
                _ => {}
            }
            queue.disk_error = result.err();
            Some(queue.disk_error.is_none())
        });
        written.await.unwrap_or(false)
    }

    fn open(&self) -> Result<Segments, String> {
        let directory = self.directory.as_deref().ok_or("there is no spool directory")?;
        let mut segments =
            Segments::open(directory, self.limits).map_err(|error| error.to_string())?;
        self.account(&mut segments);
        if segments.len() > 0 {
            info!("{} heartbeats wait in {}", segments.len(), directory.display());
            self.filled.notify_one();
        }
        Ok(segments)
    }

    fn write_to(&self, segments: &mut Segments) -> Result<(), String> {
        let (entries, numbers): (Vec<Entry>, Vec<u64>) = {
            let queue = self.queue();
            let is_due =
                |waiting: &&Waiting| queue.is_queen_away || waiting.since.elapsed() >= PATIENCE;
            let due = queue.entries.iter().filter(is_due);
            due.map(|waiting| (waiting.entry.clone(), waiting.number)).unzip()
        };
        let (written, result) = segments.append(&entries);
        {
            let mut queue = self.queue();
            for (entry, number) in entries[..written].iter().zip(numbers) {
                // What was answered while it was written need not be sent again.
                if !queue.take_from_memory(number) {
                    queue.sent_on_disk.insert(entry.timestamp);
                }
            }
        }
        self.account(segments);
        let directory = self.directory.as_deref().unwrap_or_else(|| "".as_ref()).display();
        result.map_err(|error| format!("cannot write to the spool directory {directory}: {error}"))
    }

    /// Drops what is too old on disk, and takes over the counts.
    fn account(&self, segments: &mut Segments) {
        let now = self.queue().now;
        if let Some(now) = now {
            segments.expire(now);
        }
        let mut queue = self.queue();
        let lost = std::mem::take(&mut segments.lost);
        queue.losses.dropped += lost.dropped;
        queue.losses.unreadable_bytes += lost.unreadable_bytes;
        if lost.unreadable_bytes > 0 {
            let bytes = lost.unreadable_bytes;
            warn!("{bytes} bytes in the spool directory were no whole heartbeat and are left out");
        }
        queue.on_disk = segments.len();
        if queue.on_disk == 0 {
            queue.sent_on_disk.clear();
        }
    }

    /// Does something with what is on disk, if that is open.
    async fn at_disk<T: Send + 'static>(
        self: &Arc<Self>,
        action: impl FnOnce(&Self, &mut Segments) -> Option<T> + Send + 'static,
    ) -> Option<T> {
        self.blocking(|spool| {
            let mut disk = lock(&spool.disk);
            let segments = disk.as_mut()?;
            let result = action(spool, segments);
            spool.account(segments);
            result
        })
        .await
    }

    /// Does what may wait for the disk, beside the runtime.
    async fn blocking<T: Send + 'static>(
        self: &Arc<Self>,
        action: impl FnOnce(&Self) -> Option<T> + Send + 'static,
    ) -> Option<T> {
        let spool = Arc::clone(self);
        tokio::task::spawn_blocking(move || action(&spool)).await.ok().flatten()
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        lock(&self.queue)
    }
}

impl Queue {
    fn waiting(&self) -> u64 {
        let on_disk = self.on_disk.saturating_sub(self.sent_on_disk.len() as u64);
        self.entries.len() as u64 + on_disk
    }

    fn take_newest(&mut self, newest: &Newest) {
        self.newest.take_if(|current| current.number == newest.number);
        if !self.take_from_memory(newest.number) && self.on_disk > 0 {
            self.sent_on_disk.insert(newest.entry.timestamp);
        }
    }

    /// Gives whether it was there.
    fn take_from_memory(&mut self, number: u64) -> bool {
        let before = self.entries.len();
        self.remove_entries(&(number..=number));
        self.entries.len() < before
    }

    fn remove(&mut self, numbers: &RangeInclusive<u64>) {
        self.newest.take_if(|newest| numbers.contains(&newest.number));
        self.remove_entries(numbers);
    }

    fn remove_entries(&mut self, numbers: &RangeInclusive<u64>) {
        let start = self.entries.partition_point(|waiting| waiting.number < *numbers.start());
        let end = self.entries.partition_point(|waiting| waiting.number <= *numbers.end());
        let removed: u64 = self.entries.drain(start..end).map(|w| size(&w.entry)).sum();
        self.bytes -= removed;
        // An outage may have made it large; in quiet times it takes no room.
        if self.entries.capacity() > 64 && self.entries.len() * 4 < self.entries.capacity() {
            self.entries.shrink_to_fit();
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // No code that could panic runs while it is held half-changed.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn size(entry: &Entry) -> u64 {
    entry.json.len() as u64 + ENTRY_BYTES
}

#[cfg(test)]
mod tests;
