//! Which readings of which hive are in the live part of the history, and under which id.
//!
//! It answers whether a heartbeat is a duplicate without asking the file: a look-up in the
//! write path would make every late heartbeat wait for the disk.

use std::collections::HashMap;

/// Readings by hive, each hive's in order of their time.
#[derive(Debug, Default)]
pub(super) struct LiveIndex {
    hives: HashMap<i64, Vec<Reading>>,
}

#[derive(Debug, Clone, Copy)]
struct Reading {
    ts: i64,
    id: i64,
}

impl LiveIndex {
    /// The id of a hive's reading of that moment (ms since the epoch).
    pub(super) fn find(&self, hive: i64, ts: i64) -> Option<i64> {
        let readings = self.hives.get(&hive)?;
        if readings.last().is_none_or(|last| last.ts < ts) {
            return None;
        }
        readings.binary_search_by_key(&ts, |r| r.ts).ok().map(|at| readings[at].id)
    }

    /// Adds a reading. The first one of a moment stands.
    pub(super) fn insert(&mut self, hive: i64, ts: i64, id: i64) {
        let readings = self.hives.entry(hive).or_default();
        match readings.last() {
            Some(last) if last.ts >= ts => {
                if let Err(at) = readings.binary_search_by_key(&ts, |r| r.ts) {
                    readings.insert(at, Reading { ts, id });
                }
            }
            _ => readings.push(Reading { ts, id }),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn it_behaves_like_an_ordered_map(readings: Vec<(u8, i8)>) {
            let (mut index, mut model) = (LiveIndex::default(), BTreeMap::new());
            for (id, &(hive, ts)) in readings.iter().enumerate() {
                index.insert(hive.into(), ts.into(), id as i64);
                model.entry((hive, ts)).or_insert(id as i64);
            }
            for hive in 0..=255_u8 {
                for ts in i8::MIN..=i8::MAX {
                    prop_assert_eq!(index.find(hive.into(), ts.into()), model.get(&(hive, ts)).copied());
                }
            }
        }
    }
}
