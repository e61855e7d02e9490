//! The heartbeats on disk: a directory of segment files, written at the end and read from the
//! beginning. What is in a segment is described in `record`.
//!
//! The files are called `0000000000000001.segment` and so on, in the order in which they were
//! begun. A started agent begins a new one, so all of a segment is of one hive, and a torn end
//! stays where it is. A segment whose heartbeats have all been sent is deleted; where an agent is
//! killed before, those at its beginning are sent once more, which changes nothing.
//!
//! Against a killed agent, writing is enough. Against a power cut the file is synced when it is
//! finished, when the agent ends, and every 5 s between: more often would wear out a disk that
//! other programs need, to save heartbeats of a machine that has just lost more than those.
//!
//! Invariant: one agent a directory, held by a lock on `lock` for as long as this exists.
//!
//! Invariant: the files hold at most the bound, also before something is deleted to make room.

use std::collections::{BTreeSet, VecDeque};
use std::fs::{self, DirBuilder, File, TryLockError};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use hive_contract::Timestamp;
use hive_contract::heartbeat::MAX_BODY;
use tracing::warn;

use super::record::{self, Records};
use super::{Entry, Limits};

/// A segment is finished when it is so large, in bytes, …
const SEGMENT_BYTES: u64 = 1 << 20;
/// … and a file that is larger than the largest heartbeat makes one is not read to its end.
const MAX_FILE_BYTES: u64 = SEGMENT_BYTES + 2 * MAX_BODY as u64;
/// What is written is synced at least so often while more is written.
const SYNC_INTERVAL: Duration = Duration::from_secs(5);

/// Why the directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub(super) enum OpenError {
    #[error("another agent uses the spool directory {0}")]
    Held(PathBuf),
    #[error("cannot use the spool directory {path}: {source}")]
    Io { path: PathBuf, source: io::Error },
}

pub(super) struct Segments {
    directory: PathBuf,
    /// Held open: the lock goes with it.
    _lock: File,
    limits: Limits,
    /// Oldest first.
    segments: VecDeque<Segment>,
    /// The file of the last segment, while it is written to.
    writer: Option<Writer>,
    next_sequence: u64,
    pub(super) lost: Lost,
}

/// What is no longer there, since this was last taken.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) struct Lost {
    /// Heartbeats that went because a bound was reached.
    pub(super) dropped: u64,
    /// Bytes that are no heartbeat.
    pub(super) unreadable_bytes: u64,
}

struct Segment {
    sequence: u64,
    bytes: u64,
    /// Up to here it has been sent.
    sent: usize,
    /// How many heartbeats there are after that.
    left: u64,
    oldest: Timestamp,
    newest: Timestamp,
}

struct Writer {
    file: File,
    unsynced_since: Option<Instant>,
}

/// The oldest heartbeats on disk, and where they are.
pub(super) struct Portion {
    pub(super) entries: Vec<Entry>,
    sequence: u64,
    end: usize,
    /// How many heartbeats there are up to the end, those included …
    passed: u64,
    /// … that need not be sent.
    pub(super) skipped: Vec<Timestamp>,
}

impl Segments {
    /// Takes the directory, which is made if it does not exist, and looks through what is there.
    pub(super) fn open(directory: &Path, limits: Limits) -> Result<Self, OpenError> {
        let failed = |source| OpenError::Io { path: directory.to_owned(), source };
        DirBuilder::new().recursive(true).mode(0o700).create(directory).map_err(failed)?;
        let mut options = File::options();
        options.write(true).create(true).truncate(false).mode(0o600);
        let lock = options.open(directory.join("lock")).map_err(failed)?;
        lock.try_lock().map_err(|error| match error {
            TryLockError::WouldBlock => OpenError::Held(directory.to_owned()),
            TryLockError::Error(source) => failed(source),
        })?;
        let mut sequences: Vec<u64> = fs::read_dir(directory)
            .map_err(failed)?
            .filter_map(|file| sequence_of(file.ok()?.file_name().to_str()?))
            .collect();
        sequences.sort_unstable();
        let mut segments = Self {
            directory: directory.to_owned(),
            _lock: lock,
            limits,
            segments: VecDeque::new(),
            writer: None,
            next_sequence: sequences.last().map_or(1, |last| last + 1),
            lost: Lost::default(),
        };
        for sequence in sequences {
            segments.look_through(sequence);
        }
        Ok(segments)
    }

    fn look_through(&mut self, sequence: u64) {
        let bytes = match self.read(sequence) {
            Ok(bytes) => bytes,
            Err(error) => return self.warn_unread(sequence, &error),
        };
        let mut records = Records::from(&bytes, 0);
        let mut segment: Option<Segment> = None;
        for record in &mut records {
            let of = record.timestamp;
            let found = segment.get_or_insert(Segment {
                sequence,
                bytes: bytes.len() as u64,
                sent: 0,
                left: 0,
                oldest: of,
                newest: of,
            });
            found.left += 1;
            found.oldest = found.oldest.min(of);
            found.newest = found.newest.max(of);
        }
        self.lost.unreadable_bytes += records.unreadable;
        match segment {
            Some(segment) => self.segments.push_back(segment),
            None => self.delete(sequence),
        }
    }

    /// How many heartbeats are on disk.
    pub(super) fn len(&self) -> u64 {
        self.segments.iter().map(|segment| segment.left).sum()
    }

    /// Writes heartbeats at the end, and drops the oldest ones to make room. Gives how many of
    /// them are done with: all, unless there was an error.
    pub(super) fn append(&mut self, entries: &[Entry]) -> (usize, io::Result<()>) {
        let mut record = Vec::new();
        for (index, entry) in entries.iter().enumerate() {
            record.clear();
            let written = record::write(entry.timestamp, &entry.json, &mut record)
                .and_then(|()| self.append_record(entry.timestamp, &record));
            if let Err(error) = written {
                return (index, Err(error));
            }
        }
        (entries.len(), self.sync(SYNC_INTERVAL))
    }

    fn append_record(&mut self, timestamp: Timestamp, record: &[u8]) -> io::Result<()> {
        let length = record.len() as u64;
        if length > self.limits.bytes {
            self.lost.dropped += 1;
            return Ok(());
        }
        self.make_room(length, timestamp);
        if self.is_finished(timestamp) {
            self.sync(Duration::ZERO)?;
            self.writer = None;
        }
        let mut writer = match self.writer.take() {
            Some(writer) => writer,
            None => self.begin(timestamp)?,
        };
        let Some(segment) = self.segments.back_mut() else { return Ok(()) };
        if let Err(error) = writer.file.write_all(record) {
            // Half a record would be passed over, but where the disk is full it also takes room.
            // Where even this is refused, the next one goes into a new segment.
            if writer.file.set_len(segment.bytes).is_ok() {
                self.writer = Some(writer);
            }
            self.forget_empty();
            return Err(error);
        }
        segment.bytes += length;
        segment.left += 1;
        segment.oldest = segment.oldest.min(timestamp);
        segment.newest = segment.newest.max(timestamp);
        writer.unsynced_since.get_or_insert_with(Instant::now);
        self.writer = Some(writer);
        Ok(())
    }

    fn begin(&mut self, timestamp: Timestamp) -> io::Result<Writer> {
        let sequence = self.next_sequence;
        let mut options = File::options();
        let file =
            options.append(true).create_new(true).mode(0o600).open(self.path_of(sequence))?;
        self.next_sequence += 1;
        // The name of the new file, too, must outlast a power cut.
        if let Err(error) = File::open(&self.directory).and_then(|names| names.sync_all()) {
            self.delete(sequence);
            return Err(error);
        }
        let (oldest, newest) = (timestamp, timestamp);
        self.segments.push_back(Segment { sequence, bytes: 0, sent: 0, left: 0, oldest, newest });
        Ok(Writer { file, unsynced_since: None })
    }

    /// Whether the last segment is large enough, or holds so long a time that dropping it for its
    /// age would come late.
    fn is_finished(&self, now: Timestamp) -> bool {
        self.segments.back().is_some_and(|last| {
            last.bytes >= SEGMENT_BYTES.min(self.limits.bytes / 16)
                || age(now, last.oldest) >= self.limits.age / 24
        })
    }

    /// Drops the oldest segments until so much more can be written.
    fn make_room(&mut self, bytes: u64, now: Timestamp) {
        while let Some(oldest) = self.segments.front() {
            let held: u64 = self.segments.iter().map(|segment| segment.bytes).sum();
            if held + bytes <= self.limits.bytes && age(now, oldest.newest) <= self.limits.age {
                break;
            }
            self.lost.dropped += oldest.left;
            self.delete_first();
        }
    }

    /// Drops what has become too old.
    pub(super) fn expire(&mut self, now: Timestamp) {
        self.make_room(0, now);
    }

    /// Makes what was written so long ago outlast a power cut.
    pub(super) fn sync(&mut self, older_than: Duration) -> io::Result<()> {
        let Some(writer) = &mut self.writer else { return Ok(()) };
        if writer.unsynced_since.is_some_and(|since| since.elapsed() >= older_than) {
            // After an error nobody knows what of the file is on disk: go on in another one.
            let synced = writer.file.sync_data();
            writer.unsynced_since = None;
            if synced.is_err() {
                self.writer = None;
            }
            return synced;
        }
        Ok(())
    }

    /// The oldest heartbeats in order, but for those that need not be sent: at most so many and
    /// so large together, at least one if there is any. They are all from one segment.
    pub(super) fn oldest(
        &mut self,
        max_lines: usize,
        max_bytes: usize,
        sent: &BTreeSet<Timestamp>,
    ) -> Option<Portion> {
        while let Some(&Segment { sequence, sent: start, left, .. }) = self.segments.front() {
            let bytes = match self.read(sequence) {
                Ok(bytes) => bytes,
                Err(error) => {
                    // Not deleted: the next start may be luckier.
                    self.warn_unread(sequence, &error);
                    self.leave_first();
                    continue;
                }
            };
            let (entries, skipped) = (Vec::new(), Vec::new());
            let mut portion = Portion { entries, sequence, end: start, passed: 0, skipped };
            let mut size = 0;
            for record in Records::from(&bytes, start) {
                if sent.contains(&record.timestamp) {
                    portion.skipped.push(record.timestamp);
                } else {
                    let Ok(json) = record.json() else { continue };
                    size += json.len() + 1;
                    let is_full = portion.entries.len() >= max_lines || size > max_bytes;
                    if is_full && !portion.entries.is_empty() {
                        return Some(portion);
                    }
                    portion.entries.push(Entry { timestamp: record.timestamp, json: json.into() });
                }
                portion.passed += 1;
                portion.end = record.end;
            }
            if !portion.entries.is_empty() {
                return Some(portion);
            }
            // What is missing was damaged after the start.
            self.lost.dropped += left.saturating_sub(portion.passed);
            self.remove(&Portion { passed: left, ..portion });
        }
        None
    }

    /// Takes out what has been sent. What was dropped meanwhile is not there.
    pub(super) fn remove(&mut self, portion: &Portion) {
        if let Some(first) = self.segments.front_mut()
            && first.sequence == portion.sequence
        {
            first.sent = portion.end;
            first.left = first.left.saturating_sub(portion.passed);
            if first.left == 0 {
                self.delete_first();
            }
        }
    }

    fn delete_first(&mut self) {
        if let Some(sequence) = self.leave_first() {
            self.delete(sequence);
        }
    }

    fn leave_first(&mut self) -> Option<u64> {
        let first = self.segments.pop_front()?;
        if self.segments.is_empty() {
            self.writer = None;
        }
        Some(first.sequence)
    }

    /// A segment into which nothing could be written takes no place.
    fn forget_empty(&mut self) {
        if let Some(last) = self.segments.back()
            && last.left == 0
        {
            let sequence = last.sequence;
            self.segments.pop_back();
            self.writer = None;
            self.delete(sequence);
        }
    }

    fn delete(&self, sequence: u64) {
        let path = self.path_of(sequence);
        if let Err(error) = fs::remove_file(&path)
            && error.kind() != io::ErrorKind::NotFound
        {
            warn!("cannot delete {}: {error}; it will be sent again", path.display());
        }
    }

    fn read(&self, sequence: u64) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        File::open(self.path_of(sequence))?.take(MAX_FILE_BYTES).read_to_end(&mut bytes)?;
        Ok(bytes)
    }

    fn warn_unread(&mut self, sequence: u64, error: &io::Error) {
        let path = self.path_of(sequence);
        self.lost.unreadable_bytes += fs::metadata(&path).map_or(0, |file| file.len());
        warn!("cannot read {}: {error}; it is left out", path.display());
    }

    fn path_of(&self, sequence: u64) -> PathBuf {
        self.directory.join(format!("{sequence:016}.segment"))
    }
}

fn sequence_of(name: &str) -> Option<u64> {
    let digits = name.strip_suffix(".segment")?;
    (digits.len() == 16).then(|| digits.parse().ok()).flatten()
}

/// How old it is; nothing, if a clock was set back.
pub(super) fn age(now: Timestamp, then: Timestamp) -> Duration {
    Duration::from_millis(u64::try_from(now.millis_since(then)).unwrap_or(0))
}

#[cfg(test)]
mod tests;
