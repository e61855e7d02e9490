//! One heartbeat on disk.
//!
//! A segment file is a sequence of records, with nothing before, between or after them. Numbers
//! are little-endian:
//!
//! | bytes | what |
//! | --- | --- |
//! | 4 | the mark `F5 48 42 01`: its first byte occurs in no text, its last is the version |
//! | 4 | CRC-32 of all that follows in this record |
//! | 4 | length of the heartbeat as it is stored |
//! | 8 | timestamp of the heartbeat, in milliseconds since the epoch |
//! | … | the heartbeat: its JSON as one zstd frame |
//!
//! Invariant: whatever the bytes, reading them does not panic, and every record that is whole is
//! found, whatever is damaged before or after it.

use std::io;

use hive_contract::Timestamp;
use hive_contract::heartbeat::MAX_BODY;

const MARK: [u8; 4] = [0xF5, b'H', b'B', 1];
const HEAD_BYTES: usize = 20;
/// The fastest, and hardly larger than the next ones: a heartbeat of one worker shrinks to a
/// half, of ten to a quarter, of a hundred to a tenth.
const LEVEL: i32 = 1;

/// Appends the record of one heartbeat.
pub(super) fn write(timestamp: Timestamp, json: &[u8], out: &mut Vec<u8>) -> io::Result<()> {
    let frame = zstd::bulk::compress(json, LEVEL)?;
    let length = u32::try_from(frame.len()).map_err(io::Error::other)?;
    let mut hasher = crc32fast::Hasher::new();
    let timestamp = timestamp.millis().to_le_bytes();
    for part in [&length.to_le_bytes()[..], &timestamp[..], &frame[..]] {
        hasher.update(part);
    }
    out.extend_from_slice(&MARK);
    out.extend_from_slice(&hasher.finalize().to_le_bytes());
    out.extend_from_slice(&length.to_le_bytes());
    out.extend_from_slice(&timestamp);
    out.extend_from_slice(&frame);
    Ok(())
}

/// A whole record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Record<'a> {
    pub(super) timestamp: Timestamp,
    frame: &'a [u8],
    /// Where it ends in the segment.
    pub(super) end: usize,
}

impl Record<'_> {
    /// The heartbeat's JSON, if it is no larger than a heartbeat may be.
    pub(super) fn json(&self) -> io::Result<Vec<u8>> {
        zstd::bulk::decompress(self.frame, MAX_BODY)
    }
}

/// The whole records of a segment, in order; what is no record is passed over.
#[derive(Debug, Clone)]
pub(super) struct Records<'a> {
    bytes: &'a [u8],
    at: usize,
    /// How many bytes were passed over so far.
    pub(super) unreadable: u64,
}

impl<'a> Records<'a> {
    /// Those that begin at this place or after it.
    pub(super) fn from(bytes: &'a [u8], at: usize) -> Self {
        Self { bytes, at, unreadable: 0 }
    }
}

impl<'a> Iterator for Records<'a> {
    type Item = Record<'a>;

    fn next(&mut self) -> Option<Record<'a>> {
        loop {
            let rest = self.bytes.get(self.at..).filter(|rest| !rest.is_empty())?;
            if let Some(record) = first(rest, self.at) {
                self.at = record.end;
                return Some(record);
            }
            let mark = rest[1..].windows(MARK.len()).position(|bytes| bytes == MARK);
            let skipped = mark.map_or(rest.len(), |mark| mark + 1);
            self.unreadable += skipped as u64;
            self.at += skipped;
        }
    }
}

/// The record with which these bytes begin; they are at this place in the segment.
fn first(bytes: &[u8], at: usize) -> Option<Record<'_>> {
    let (mark, rest) = bytes.split_first_chunk::<4>()?;
    let (crc, checked) = rest.split_first_chunk::<4>()?;
    let (length, rest) = checked.split_first_chunk::<4>()?;
    let (timestamp, rest) = rest.split_first_chunk::<8>()?;
    let frame = rest.get(..usize::try_from(u32::from_le_bytes(*length)).ok()?)?;
    let checked = &checked[..HEAD_BYTES - 8 + frame.len()];
    if *mark != MARK || crc32fast::hash(checked) != u32::from_le_bytes(*crc) {
        return None;
    }
    let timestamp = Timestamp::from_millis(i64::from_le_bytes(*timestamp))?;
    Some(Record { timestamp, frame, end: at + HEAD_BYTES + frame.len() })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn segment(heartbeats: &[Vec<u8>]) -> (Vec<u8>, Vec<usize>) {
        let (mut bytes, mut ends) = (Vec::new(), Vec::new());
        for (second, json) in heartbeats.iter().enumerate() {
            let timestamp = Timestamp::from_millis(second as i64 * 1000).unwrap();
            write(timestamp, json, &mut bytes).unwrap();
            ends.push(bytes.len());
        }
        (bytes, ends)
    }

    /// The seconds and heartbeats that are found.
    fn found(bytes: &[u8]) -> Vec<(usize, Vec<u8>)> {
        let of = |record: Record<'_>| {
            (record.timestamp.millis() as usize / 1000, record.json().unwrap())
        };
        Records::from(bytes, 0).map(of).collect()
    }

    fn numbered(heartbeats: Vec<Vec<u8>>) -> Vec<(usize, Vec<u8>)> {
        heartbeats.into_iter().enumerate().collect()
    }

    fn heartbeats() -> impl Strategy<Value = Vec<Vec<u8>>> {
        prop::collection::vec(prop::collection::vec(any::<u8>(), 0..200), 1..8)
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(heartbeats in heartbeats()) {
            let (bytes, _) = segment(&heartbeats);
            prop_assert_eq!(found(&bytes), numbered(heartbeats));
            prop_assert_eq!(Records::from(&bytes, 0).map(|r| r.end).max(), Some(bytes.len()));
        }

        #[test]
        fn a_torn_end_costs_the_torn_heartbeat_only(
            heartbeats in heartbeats(), cut in any::<prop::sample::Index>(),
        ) {
            let (bytes, ends) = segment(&heartbeats);
            let cut = cut.index(bytes.len() + 1);
            let whole = ends.iter().filter(|&&end| end <= cut).count();
            let mut expected = numbered(heartbeats);
            expected.truncate(whole);
            prop_assert_eq!(found(&bytes[..cut]), expected);
        }

        #[test]
        fn a_damaged_byte_costs_its_heartbeat_only(
            heartbeats in heartbeats(), at in any::<prop::sample::Index>(), flip in 1_u8..,
        ) {
            let (mut bytes, ends) = segment(&heartbeats);
            let at = at.index(bytes.len());
            bytes[at] ^= flip;
            let damaged = ends.iter().filter(|&&end| end <= at).count();
            let mut expected = numbered(heartbeats);
            expected.remove(damaged);
            prop_assert_eq!(found(&bytes), expected);
            let mut records = Records::from(&bytes, 0);
            records.by_ref().for_each(drop);
            let start = if damaged == 0 { 0 } else { ends[damaged - 1] };
            prop_assert_eq!(records.unreadable, (ends[damaged] - start) as u64);
        }

        #[test]
        fn anything_between_records_is_passed_over(
            heartbeats in heartbeats(), garbage in prop::collection::vec(any::<u8>(), 0..300),
            after in any::<prop::sample::Index>(),
        ) {
            let (mut bytes, mut ends) = segment(&heartbeats);
            ends.insert(0, 0);
            let at = ends[after.index(ends.len())];
            bytes.splice(at..at, garbage);
            prop_assert_eq!(found(&bytes), numbered(heartbeats));
        }

        #[test]
        fn any_bytes_are_read_without_a_panic(
            mut bytes in prop::collection::vec(any::<u8>(), 0..300), marks in 0_usize..4,
        ) {
            for n in 0..marks {
                let at = n * bytes.len() / 4;
                bytes.splice(at..at, MARK);
            }
            let mut records = Records::from(&bytes, 0);
            prop_assert_eq!(records.by_ref().count(), 0);
            prop_assert_eq!(records.unreadable, bytes.len() as u64);
        }
    }
}
