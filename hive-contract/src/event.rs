//! What the live feed sends, as the data of SSE events or as ndjson lines.

use serde::Serialize;

use crate::bounded::Bounded;
use crate::heartbeat::{Gpu, Heartbeat, MAX_GPUS, Node, Worker};
use crate::ids::HiveId;
use crate::lifecycle::EventKind;
use crate::time::Timestamp;

/// One heartbeat of one hive.
#[derive(Debug, Serialize)]
#[serde(tag = "type", rename = "hive_telemetry")]
pub struct HiveTelemetry<'a> {
    /// The id in the history, in ndjson; SSE carries it in its own line.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<i64>,
    /// The hive.
    pub hive_id: &'a HiveId,
    /// When the figures were read.
    pub timestamp: Timestamp,
    /// Its workers, or those that match the stream's filters.
    pub workers: Vec<&'a Worker>,
    /// Its GPUs.
    pub gpus: &'a Bounded<Gpu, MAX_GPUS>,
    /// The machine.
    pub node: Option<&'a Node>,
    /// Present on late data: not the newest of its hive when it arrived.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub backfill: bool,
}

impl<'a> HiveTelemetry<'a> {
    /// All of a heartbeat.
    #[must_use]
    pub fn of(heartbeat: &'a Heartbeat, backfill: bool) -> Self {
        Self {
            id: None,
            hive_id: &heartbeat.hive.id,
            timestamp: heartbeat.timestamp,
            workers: heartbeat.workers.iter().collect(),
            gpus: &heartbeat.gpus,
            node: heartbeat.node.as_ref(),
            backfill,
        }
    }
}

/// Something that happened to a hive, a worker, or the history.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "type", rename = "lifecycle")]
pub struct Lifecycle {
    /// The id in the history, in ndjson; SSE carries it in its own line.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<i64>,
    /// What.
    pub kind: EventKind,
    /// When; of a worker or a GPU, when the reading was taken that shows it first.
    pub timestamp: Timestamp,
    /// To which hive.
    pub hive_id: Option<HiveId>,
    /// To which worker: `group/instance`.
    pub worker: Option<String>,
    /// A JSON object that depends on the kind.
    pub detail: serde_json::Value,
}

/// The state of the whole fleet, every 2.5 s.
#[derive(Debug, Serialize)]
#[serde(tag = "type", rename = "queen")]
pub struct QueenSummary {
    /// Workers of all hives that are live or stale.
    pub workers_online: usize,
    /// Idle workers of live hives.
    pub workers_available: usize,
    /// Hives that are live or stale.
    pub hives_online: usize,
    /// Hives that are live.
    pub hives_available: usize,
    /// Keys of the online workers, sorted.
    pub worker_ids: Vec<String>,
    /// Ids of the online hives, sorted.
    pub hive_ids: Vec<HiveId>,
    /// When this was.
    pub timestamp: Timestamp,
}

/// Something could not be given. Both ends inclusive.
#[derive(Debug, Clone, Copy, Serialize)]
#[serde(tag = "type", rename = "gap")]
pub struct Gap {
    /// First missing id.
    pub from: i64,
    /// Last missing id.
    pub to: i64,
    /// Why.
    pub reason: GapReason,
}

/// Why something could not be given.
#[derive(Debug, Clone, Copy, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum GapReason {
    /// The reader was too slow.
    Lagged,
    /// It is older than the history keeps.
    Retention,
}
