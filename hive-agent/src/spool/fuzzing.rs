//! What must hold of a spool directory, whatever is in it. Only the fuzz targets of `fuzz/` are
//! built with this.

use std::collections::BTreeSet;
use std::path::Path;

use hive_contract::Timestamp;

use super::Limits;
use super::record::{self, Records};
use super::segments::Segments;

/// A record's time and heartbeat, and where it ends.
type Found = (Timestamp, Option<Vec<u8>>, usize);

fn found(bytes: &[u8]) -> Vec<Found> {
    let mut records = Records::from(bytes, 0);
    let mut at = 0;
    let mut passed_over = 0;
    let mut found = Vec::new();
    for record in records.by_ref() {
        assert!(record.end > at && record.end <= bytes.len(), "records follow each other");
        passed_over += bytes[at..record.end].len();
        at = record.end;
        found.push((record.timestamp, record.json().ok(), record.end));
    }
    assert!(records.unreadable as usize <= bytes.len() && passed_over <= bytes.len());
    found
}

/// A segment of any bytes: each record survives being written again, and a torn end takes
/// nothing from those before it.
pub fn segment(bytes: &[u8], cut: usize) {
    let all = found(bytes);
    for (timestamp, json, _) in &all {
        let Some(json) = json else { continue };
        let mut again = Vec::new();
        record::write(*timestamp, json, &mut again).expect("what was read can be written");
        assert_eq!(found(&again), [(*timestamp, Some(json.clone()), again.len())]);
    }
    let cut = cut.min(bytes.len());
    let whole = all.iter().take_while(|(.., end)| *end <= cut).count();
    assert_eq!(found(&bytes[..cut])[..whole], all[..whole]);
}

/// Heartbeats with garbage before each: all of them are found, in order.
pub fn between_garbage(pieces: &[(&[u8], &[u8])]) {
    let (mut bytes, mut expected) = (Vec::new(), Vec::new());
    for (second, (garbage, json)) in pieces.iter().enumerate() {
        let timestamp = Timestamp::from_millis(second as i64 * 1000).expect("a time");
        bytes.extend_from_slice(garbage);
        record::write(timestamp, json, &mut bytes).expect("it can be written");
        expected.push((timestamp, Some(json.to_vec()), bytes.len()));
    }
    let found = found(&bytes);
    let mut rest = found.iter();
    assert!(expected.iter().all(|record| rest.any(|found| found == record)));
    segment(&bytes, bytes.len() / 2);
}

/// A directory with these segments: it is opened, and all that can be sent is given once, oldest
/// file first, and then nothing is left.
pub fn directory(directory: &Path, segments: &[&[u8]]) {
    for (sequence, bytes) in segments.iter().enumerate() {
        let path = directory.join(format!("{:016}.segment", sequence + 1));
        std::fs::write(path, bytes).expect("the directory can be written");
    }
    let mut expected = segments.iter().flat_map(|bytes| found(bytes));
    let mut spool = Segments::open(directory, Limits::default()).expect("it can be opened");
    while let Some(portion) = spool.oldest(3, 1 << 10, &BTreeSet::new()) {
        assert!((1..=3).contains(&portion.entries.len()));
        for entry in &portion.entries {
            let mut of_entry = |(timestamp, json, _): Found| {
                timestamp == entry.timestamp && json.is_some_and(|json| json == entry.json)
            };
            assert!(expected.any(&mut of_entry), "each is given once, in order");
        }
        spool.remove(&portion);
    }
    assert!(expected.all(|(_, json, _)| json.is_none()), "all are given");
    assert_eq!(spool.len(), 0);
}
