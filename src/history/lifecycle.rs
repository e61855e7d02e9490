//! What changes from one reading of a hive to the next: workers that start, exit or serve
//! another model, an agent that begins anew, a GPU that is lost.
//!
//! Readings come late after an outage: the newest first, the backlog after it. What was found
//! between the two readings on either side of the gap is then found again, at its own time.
//!
//! Invariant: whatever the order of arrival, each change stands once, at the time of the first
//! reading that shows it. A gap is forgotten when the queen restarts or when there are more than
//! [`MAX_GAPS`]: what comes late for it then tells nothing new.

use std::collections::HashMap;
use std::sync::Arc;

use hive_contract::heartbeat::{Gpu, Worker};
use hive_contract::{EventKind, Heartbeat};
use serde_json::{Value, json};

/// Gaps of one hive that can still be filled.
const MAX_GAPS: usize = 8;
/// Readings that are further apart than this many intervals have a gap between them.
const GAP_INTERVALS: i64 = 2;
/// The interval of a hive that names none, in milliseconds.
const DEFAULT_INTERVAL_MS: i64 = 1000;

/// Something that changed.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Change {
    pub(super) kind: EventKind,
    /// `group/instance`.
    pub(super) worker: Option<String>,
    pub(super) detail: Value,
}

/// What is to be recorded of one reading.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Observed {
    /// What was recorded and is not so, by its time (ms since the epoch).
    pub(super) gone: Vec<(i64, Change)>,
    /// What is new, by its time (ms since the epoch).
    pub(super) changes: Vec<(i64, Change)>,
}

/// The readings that new ones are compared with, by hive.
#[derive(Debug, Default)]
pub(super) struct Histories {
    hives: HashMap<i64, Track>,
}

/// The newest reading of a hive, and where others may still come before it.
#[derive(Debug, Clone)]
pub(super) struct Track {
    newest: Arc<Heartbeat>,
    gaps: Vec<Gap>,
}

/// Two readings between which others may still come.
#[derive(Debug, Clone)]
struct Gap {
    before: Arc<Heartbeat>,
    after: Arc<Heartbeat>,
}

/// Readings of a transaction that is not committed yet.
#[derive(Debug)]
pub(super) struct Staged<'a> {
    committed: &'a Histories,
    hives: HashMap<i64, Track>,
}

impl Histories {
    /// Takes over the newest reading of a hive as it was read from the file.
    pub(super) fn prime(&mut self, hive: i64, newest: Arc<Heartbeat>) {
        self.hives.insert(hive, Track { newest, gaps: Vec::new() });
    }

    pub(super) fn stage(&self) -> Staged<'_> {
        Staged { committed: self, hives: HashMap::new() }
    }

    /// Takes over what a committed transaction stored.
    pub(super) fn commit(&mut self, staged: HashMap<i64, Track>) {
        self.hives.extend(staged);
    }
}

impl Staged<'_> {
    /// Compares a reading, which was not there before, with those around it.
    pub(super) fn observe(&mut self, hive: i64, heartbeat: &Arc<Heartbeat>) -> Observed {
        if let Some(track) = self.hives.get_mut(&hive) {
            return track.observe(heartbeat);
        }
        let (track, observed) = match self.committed.hives.get(&hive) {
            Some(track) => {
                let mut track = track.clone();
                let observed = track.observe(heartbeat);
                (track, observed)
            }
            // With nothing to compare with, nothing is known to have changed.
            None => {
                let newest = Arc::clone(heartbeat);
                (Track { newest, gaps: Vec::new() }, Observed::default())
            }
        };
        self.hives.insert(hive, track);
        observed
    }

    /// What [`Histories::commit`] takes over.
    pub(super) fn finish(self) -> HashMap<i64, Track> {
        self.hives
    }
}

impl Track {
    fn observe(&mut self, heartbeat: &Arc<Heartbeat>) -> Observed {
        let ts = heartbeat.timestamp.millis();
        if ts > self.newest.timestamp.millis() {
            let before = std::mem::replace(&mut self.newest, Arc::clone(heartbeat));
            let changes = changes(&before, heartbeat);
            self.note_gap(before, Arc::clone(heartbeat));
            return Observed { gone: Vec::new(), changes: at(ts, changes) };
        }
        let within =
            |gap: &Gap| gap.before.timestamp.millis() < ts && ts < gap.after.timestamp.millis();
        let Some(place) = self.gaps.iter().position(within) else { return Observed::default() };
        let Gap { before, after } = self.gaps.remove(place);
        let after_ts = after.timestamp.millis();
        let (mut gone, mut remaining) = (changes(&before, &after), changes(heartbeat, &after));
        gone.retain(|change| match remaining.iter().position(|other| other == change) {
            Some(same) => {
                remaining.remove(same);
                false
            }
            None => true,
        });
        let mut found = at(ts, changes(&before, heartbeat));
        found.extend(at(after_ts, remaining));
        let observed = Observed { gone: at(after_ts, gone), changes: found };
        self.note_gap(before, Arc::clone(heartbeat));
        self.note_gap(Arc::clone(heartbeat), after);
        observed
    }

    fn note_gap(&mut self, before: Arc<Heartbeat>, after: Arc<Heartbeat>) {
        let interval = after
            .interval_ms
            .map_or(DEFAULT_INTERVAL_MS, |interval| (interval.thousandths() / 1000).cast_signed());
        let apart = after.timestamp.millis() - before.timestamp.millis();
        if apart >= GAP_INTERVALS * interval {
            if self.gaps.len() == MAX_GAPS {
                self.gaps.remove(0);
            }
            self.gaps.push(Gap { before, after });
        }
    }
}

/// Changes with their time (ms since the epoch).
fn at(ts: i64, changes: Vec<Change>) -> Vec<(i64, Change)> {
    changes.into_iter().map(|change| (ts, change)).collect()
}

/// What changed from one reading of a hive to a later one.
fn changes(before: &Heartbeat, after: &Heartbeat) -> Vec<Change> {
    let mut changes = Vec::new();
    let (old, new) = (&before.workers, &after.workers);
    let unchanged = old.len() == new.len()
        && old
            .iter()
            .zip(new.iter())
            .all(|(old, new)| old.pid == new.pid && same_place(old, new) && old.model == new.model);
    if !unchanged {
        worker_changes(old, new, &mut changes);
    }
    if agent_restarted(before, after) {
        let version = |h: &Heartbeat| {
            h.agent.as_ref().and_then(|agent| agent.version.as_ref().map(ToString::to_string))
        };
        let detail = json!({"version": version(after), "version_before": version(before)});
        changes.push(Change { kind: EventKind::AgentRestarted, worker: None, detail });
    }
    for gpu in before.gpus.iter().filter(|gpu| !is_lost(gpu)) {
        let now = after.gpus.iter().find(|now| now.uuid == gpu.uuid && now.index == gpu.index);
        // That no GPU at all is listed says only that none could be asked.
        if now.map_or(!after.gpus.is_empty(), is_lost) {
            let detail = json!({"uuid": gpu.uuid, "index": gpu.index, "name": gpu.name});
            changes.push(Change { kind: EventKind::GpuLost, worker: None, detail });
        }
    }
    changes
}

fn worker_changes(old: &[Worker], new: &[Worker], changes: &mut Vec<Change>) {
    let change = |kind, worker: &Worker, detail| Change {
        kind,
        worker: Some(format!("{}/{}", worker.group, worker.instance)),
        detail,
    };
    let identity = |worker: &Worker| json!({"pid": worker.pid, "model": worker.model});
    for worker in old {
        let now = new.iter().find(|now| same_place(worker, now));
        if now.is_none_or(|now| now.pid != worker.pid) {
            changes.push(change(EventKind::WorkerExited, worker, identity(worker)));
        }
    }
    for worker in new {
        match old.iter().find(|old| same_place(old, worker)) {
            Some(before) if before.pid == worker.pid => {
                // That a model becomes known, or cannot be read, is no change of it.
                if let (Some(from), Some(to)) = (&before.model, &worker.model)
                    && from != to
                {
                    let detail = json!({"pid": worker.pid, "from": from, "to": to});
                    changes.push(change(EventKind::ModelChanged, worker, detail));
                }
            }
            _ => changes.push(change(EventKind::WorkerStarted, worker, identity(worker))),
        }
    }
}

fn same_place(a: &Worker, b: &Worker) -> bool {
    a.instance == b.instance && a.group == b.group
}

/// Whether another run of the agent wrote the later reading: only the first one of a run has no
/// figure of its own processor time.
fn agent_restarted(before: &Heartbeat, after: &Heartbeat) -> bool {
    match (&before.agent, &after.agent) {
        (Some(before), Some(after)) => {
            (before.cpu_pct.is_some() && after.cpu_pct.is_none())
                || (before.version.is_some()
                    && after.version.is_some()
                    && before.version != after.version)
        }
        _ => false,
    }
}

fn is_lost(gpu: &Gpu) -> bool {
    gpu.state.as_ref().is_some_and(|state| state.as_str() == "lost")
}

#[cfg(test)]
mod tests;
