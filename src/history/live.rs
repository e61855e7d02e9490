//! Which readings of which hive are in the live part of the history, and under which id.
//!
//! It answers whether a heartbeat is a duplicate without asking the file: a look-up in the
//! write path would make every heartbeat wait for the disk. Only one that is older than all
//! the live ones of its hive must be looked up among the sealed.

use std::collections::HashMap;

/// Readings by hive, each hive's in order of their time.
#[derive(Debug, Default)]
pub(super) struct LiveIndex {
    hives: HashMap<i64, Hive>,
    samples: usize,
}

#[derive(Debug, Default)]
struct Hive {
    /// The newest reading ever, sealed or not: ms since the epoch.
    newest_ts: Option<i64>,
    readings: Vec<Reading>,
}

/// A reading in the live part.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Reading {
    /// ms since the epoch.
    pub(super) ts: i64,
    pub(super) id: i64,
    /// Worker-samples in it.
    pub(super) samples: u16,
}

/// What is known of a hive's reading of a moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Known {
    /// There is none.
    New,
    /// It is here, under this id.
    Live(i64),
    /// It is not here, but may be among the sealed ones.
    MaybeSealed,
}

impl LiveIndex {
    /// What is known of a hive's reading of a moment (ms since the epoch).
    pub(super) fn find(&self, hive: i64, ts: i64) -> Known {
        let Some(Hive { newest_ts: Some(newest), readings }) = self.hives.get(&hive) else {
            return Known::New;
        };
        if ts > *newest {
            return Known::New;
        }
        match readings.binary_search_by_key(&ts, |r| r.ts) {
            Ok(at) => Known::Live(readings[at].id),
            Err(_) => Known::MaybeSealed,
        }
    }

    /// Adds a reading. The first one of a moment stands.
    pub(super) fn insert(&mut self, hive: i64, reading: Reading) {
        let hive = self.hives.entry(hive).or_default();
        if hive.readings.last().is_none_or(|last| last.ts < reading.ts) {
            hive.readings.push(reading);
        } else {
            match hive.readings.binary_search_by_key(&reading.ts, |r| r.ts) {
                Ok(_) => return,
                Err(at) => hive.readings.insert(at, reading),
            }
        }
        self.samples += usize::from(reading.samples);
        hive.newest_ts = hive.newest_ts.max(Some(reading.ts));
    }

    /// Notes the newest reading of a hive, which may be sealed.
    pub(super) fn note_newest(&mut self, hive: i64, ts: i64) {
        let hive = self.hives.entry(hive).or_default();
        hive.newest_ts = hive.newest_ts.max(Some(ts));
    }

    /// The newest reading of a hive, sealed or not: ms since the epoch.
    pub(super) fn newest_ts(&self, hive: i64) -> Option<i64> {
        self.hives.get(&hive)?.newest_ts
    }

    /// Worker-samples in the live part.
    pub(super) fn samples(&self) -> usize {
        self.samples
    }

    /// The oldest id, and the oldest time (ms since the epoch).
    pub(super) fn oldest(&self) -> Option<(i64, i64)> {
        let readings = || self.hives.values().flat_map(|hive| &hive.readings);
        Some((readings().map(|r| r.id).min()?, readings().map(|r| r.ts).min()?))
    }

    /// The readings from before a moment, by hive in growing order.
    pub(super) fn before(&self, ts: i64) -> Vec<(i64, &[Reading])> {
        let mut hives: Vec<_> = self
            .hives
            .iter()
            .map(|(&hive, Hive { readings, .. })| {
                (hive, &readings[..readings.partition_point(|r| r.ts < ts)])
            })
            .filter(|(_, readings)| !readings.is_empty())
            .collect();
        hives.sort_unstable_by_key(|(hive, _)| *hive);
        hives
    }

    /// Takes out the readings from before a moment up to an id.
    pub(super) fn remove(&mut self, before_ts: i64, through_id: i64) {
        for Hive { readings, .. } in self.hives.values_mut() {
            readings.retain(|r| {
                let stays = r.ts >= before_ts || r.id > through_id;
                if !stays {
                    self.samples -= usize::from(r.samples);
                }
                stays
            });
            readings.shrink_to(2 * readings.len());
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
        fn it_behaves_like_an_ordered_map(readings: Vec<(u8, i8)>, cut: i8) {
            let (mut index, mut model) = (LiveIndex::default(), BTreeMap::new());
            for (id, &(hive, ts)) in readings.iter().enumerate() {
                index.insert(hive.into(), Reading { ts: ts.into(), id: id as i64, samples: 1 });
                model.entry((hive, ts)).or_insert(id as i64);
            }
            let through = readings.len() as i64 / 2;
            let removed = |ts: i8, id: i64| ts < cut && id <= through;
            prop_assert_eq!(index.samples(), model.len());
            index.remove(cut.into(), through);
            prop_assert_eq!(index.samples(), model.iter().filter(|((_, ts), id)| !removed(*ts, **id)).count());
            for hive in 0..=255_u8 {
                let newest = model.keys().filter(|(h, _)| *h == hive).map(|(_, ts)| *ts).max();
                for ts in i8::MIN..=i8::MAX {
                    let expected = match model.get(&(hive, ts)) {
                        Some(&id) if !removed(ts, id) => Known::Live(id),
                        _ if newest.is_none_or(|newest| ts > newest) => Known::New,
                        _ => Known::MaybeSealed,
                    };
                    prop_assert_eq!(index.find(hive.into(), ts.into()), expected);
                }
            }
        }
    }
}
