//! Routing: which worker takes a request. Pure: no clock, no lock, no randomness of its own.
//!
//! - [`rank()`]: how good a worker is, from its figures and its leases;
//! - [`candidates`]: the best of many that may take a request;
//! - [`considered`]: what became of each, in numbers and in a sentence.
//!
//! Invariant: absent is not zero. A worker with an unknown GPU utilisation is not idle, and one
//! with unknown memory has no known capacity.

pub mod candidates;
pub mod considered;

use std::cmp::Reverse;
use std::collections::HashSet;

use hive_contract::WorkerKey;
use hive_contract::heartbeat::Worker;
use hive_contract::units::{Count, Mebibytes};

pub use self::candidates::Candidates;
pub use self::considered::{Considered, NoWorker};

/// What a request needs of a worker.
#[derive(Debug, Clone, Copy)]
pub struct Wanted<'a> {
    /// The model that it serves.
    pub model: &'a str,
    /// GPU memory that must be free; with `None` it is not looked at.
    pub required_vram: Option<Mebibytes>,
    /// The group that it belongs to; with `None` any.
    pub group: Option<&'a str>,
    /// Workers that will not do.
    pub exclude: &'a [WorkerKey],
    /// Only workers whose GPUs do nothing and that no other request was just sent to.
    pub idle_only: bool,
}

impl<'a> Wanted<'a> {
    /// An idle worker of a model, whatever its memory and its group.
    #[must_use]
    pub fn idle(model: &'a str) -> Self {
        Self { model, required_vram: None, group: None, exclude: &[], idle_only: true }
    }
}

/// What was promised of a worker since its figures were read.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Leased {
    /// Requests that were sent to it.
    pub requests: u32,
    /// GPU memory that they need, in thousandths of a MiB.
    pub vram: u64,
}

/// How good a worker is for one more request; the least is the best.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Rank {
    /// Requests waiting, running and leased.
    pub requests: u32,
    /// GPU utilisation in thousandths of a percent; unknown is the worst.
    pub gpu_util: u32,
    /// Free GPU memory less what is leased, in thousandths of a MiB; unknown is the worst.
    pub free_vram: Reverse<u64>,
}

/// How good a worker is for one more request: fewest requests waiting, running and leased
/// first, then the lowest GPU utilisation, then the most free GPU memory.
///
/// A worker that does not tell its requests counts as having none if its GPUs do nothing, and
/// as having one otherwise. From best to worst:
///
/// | waiting | running | leased | GPU % | free MiB | because |
/// | --- | --- | --- | --- | --- | --- |
/// | 0 | 0 | 0 | 0 | 16,384 | nothing to do |
/// | – | – | 0 | 0 | 8,192 | the same, with less room |
/// | 0 | 0 | 0 | 3 | 16,384 | no request, but its GPUs do something |
/// | – | – | 1 | 0 | 8,192 | nothing to do when it was read, but a request was sent to it since |
/// | – | – | 0 | 3 | 16,384 | at least one request, which it does not tell |
/// | 0 | 1 | 0 | 90 | 16,384 | the same, with more to do |
/// | 1 | 1 | 0 | 90 | 16,384 | two requests |
/// | 0 | 1 | 1 | 90 | 8,192 | two requests as well, and less room |
/// | 0 | 2 | 0 | – | 16,384 | two requests, and who knows |
/// | 9 | 4 | 0 | 20 | 65,536 | a queue, whatever its GPUs do |
///
/// ```
/// # use hive_contract::heartbeat::Worker;
/// # use queen::scheduler::{Leased, rank};
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let figures = |waiting: &str, running: &str, util: &str, free: u64| -> Result<Worker, serde_json::Error> {
/// #     serde_json::from_str(&format!(
/// #         r#"{{"pid":1,"group":"llm","instance":"8080","requests_waiting":{waiting},
/// #             "requests_running":{running},"gpu_util_pct":{util},
/// #             "vram_mb":0,"total_vram_mb":{free}}}"#
/// #     ))
/// # };
/// let table = [
///     (figures("0", "0", "0", 16_384)?, 0),
///     (figures("null", "null", "0", 8_192)?, 0),
///     (figures("0", "0", "3", 16_384)?, 0),
///     (figures("null", "null", "0", 8_192)?, 1),
///     (figures("null", "null", "3", 16_384)?, 0),
///     (figures("0", "1", "90", 16_384)?, 0),
///     (figures("1", "1", "90", 16_384)?, 0),
///     (figures("0", "1", "90", 8_192)?, 1),
///     (figures("0", "2", "null", 16_384)?, 0),
///     (figures("9", "4", "20", 65_536)?, 0),
/// ];
/// let ranks = table.map(|(worker, requests)| rank(&worker, Leased { requests, vram: 0 }));
/// assert!(ranks.is_sorted_by(|better, worse| better < worse));
/// # Ok(())
/// # }
/// ```
#[must_use]
pub fn rank(worker: &Worker, leased: Leased) -> Rank {
    let Worker { requests_waiting, requests_running, gpu_util_pct, .. } = worker;
    let told = match (requests_waiting, requests_running) {
        (None, None) => u64::from(worker.idle() != Some(true)),
        (waiting, running) => {
            let whole = |count: &Option<Count>| count.map_or(0, Count::whole);
            whole(waiting) + whole(running)
        }
    };
    let free = worker.free_vram_mb().map_or(0, Mebibytes::thousandths);
    Rank {
        requests: u32::try_from(told).unwrap_or(u32::MAX).saturating_add(leased.requests),
        gpu_util: gpu_util_pct
            .and_then(|util| u32::try_from(util.thousandths()).ok())
            .unwrap_or(u32::MAX),
        free_vram: Reverse(free.saturating_sub(leased.vram)),
    }
}

/// The most requests that one worker is leased to at once.
pub const MAX_LEASES_PER_WORKER: u32 = 1024;

/// All that counts about a worker, small, so that thousands are looked at in microseconds.
#[derive(Debug, Clone, Copy)]
pub struct Candidate {
    /// How good it is, leases included.
    pub rank: Rank,
    /// From when its hive counts as live (ms).
    pub live_from_ms: i64,
    /// Until when its hive counts as live (ms); `i64::MIN` before its first heartbeat.
    pub live_until_ms: i64,
    /// Stands for the worker's key.
    pub key: u64,
    /// Stands for its group.
    pub group: u32,
    /// Leases that it has.
    pub leases: u32,
    /// Whether its GPUs do nothing; `None`: unknown.
    pub idle: Option<bool>,
    /// Its instance is a port, so that it has a URL.
    pub routable: bool,
}

/// What a candidate must satisfy, in the form in which candidates have it.
#[derive(Debug)]
pub struct Filter<'a> {
    /// Now, in ms.
    pub now_ms: i64,
    /// The group's number.
    pub group: Option<u32>,
    /// Keys of workers that will not do.
    pub exclude: &'a HashSet<u64>,
    /// In thousandths of a MiB; with `None` it is not looked at.
    pub required_vram: Option<u64>,
    /// Only idle workers without leases.
    pub idle_only: bool,
}

#[cfg(test)]
mod tests;
