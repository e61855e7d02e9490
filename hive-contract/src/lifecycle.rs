//! What happens to hives and workers, as it is kept in the history and told on the live feed.

use std::str::FromStr;

use serde::{Serialize, Serializer};

/// A kind of event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum EventKind {
    /// A hive reports, for the first time or again.
    HiveOnline,
    /// A hive has been silent for long.
    HiveOffline,
    /// A worker is there that was not there before.
    WorkerStarted,
    /// A worker is there no more.
    WorkerExited,
    /// A worker serves another model.
    ModelChanged,
    /// The agent of a hive began anew.
    AgentRestarted,
    /// A GPU does not answer any more.
    GpuLost,
    /// The history could not be written.
    StorageDegraded,
    /// The history is written again.
    StorageRecovered,
    /// The oldest readings were dropped for want of disk.
    HistoryDropped,
}

impl EventKind {
    /// Every kind.
    pub const ALL: [Self; 10] = [
        Self::HiveOnline,
        Self::HiveOffline,
        Self::WorkerStarted,
        Self::WorkerExited,
        Self::ModelChanged,
        Self::AgentRestarted,
        Self::GpuLost,
        Self::StorageDegraded,
        Self::StorageRecovered,
        Self::HistoryDropped,
    ];

    /// Its name.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::HiveOnline => "hive_online",
            Self::HiveOffline => "hive_offline",
            Self::WorkerStarted => "worker_started",
            Self::WorkerExited => "worker_exited",
            Self::ModelChanged => "model_changed",
            Self::AgentRestarted => "agent_restarted",
            Self::GpuLost => "gpu_lost",
            Self::StorageDegraded => "storage_degraded",
            Self::StorageRecovered => "storage_recovered",
            Self::HistoryDropped => "history_dropped",
        }
    }
}

/// There is no such kind of event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("no such kind of event")]
pub struct UnknownEventKind;

impl FromStr for EventKind {
    type Err = UnknownEventKind;

    fn from_str(name: &str) -> Result<Self, UnknownEventKind> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == name).ok_or(UnknownEventKind)
    }
}

impl Serialize for EventKind {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}
