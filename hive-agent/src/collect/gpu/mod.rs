//! The machine's GPUs, and what of them each worker takes.
//!
//! In reading order:
//!
//! - `reading`: what was read of GPUs, and a worker's part of it;
//! - `board`: where the thread that reads and the one that collects meet;
//! - `nvml`: NVIDIA's, through the library of its driver;
//! - `drm`: AMD's and Intel's, through the kernel's own files;
//! - `probe`: what there is to read from, for people who look for a fault.
//!
//! Drivers can block for seconds, or for good: a call into a driver that hangs cannot be
//! cancelled. So every kind of GPU is read by a thread of its own, which publishes what it
//! read, and a heartbeat takes the newest there is.
//!
//! Invariants:
//! - A heartbeat never waits for a driver. It says how old its GPU figures are
//!   (`agent.gpu_age_ms`), and what is older than [`STALE_AFTER`] is null.
//! - A thread that hangs is left alone; a second one is never started beside it.
//! - What cannot be known is null, never 0: an unknown utilisation is not idle.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use hive_contract::heartbeat::MAX_GPUS;

use super::complaints::Complaints;
use crate::clock::Clock;

mod board;
mod drm;
mod nvml;
mod probe;
mod reading;

use board::Board;
use drm::DrmBackend;
#[cfg(fuzzing)]
pub use drm::fuzzing;
use nvml::NvmlBackend;
pub use probe::{NvmlProbe, Probe, probe};
pub(super) use reading::View;

/// Figures older than this are no longer given; at long intervals, than three of them.
pub const STALE_AFTER: Duration = Duration::from_secs(5);

/// The library of NVIDIA's driver, as the loader finds it.
pub const NVML_LIBRARY: &str = "libnvidia-ml.so.1";

/// One kind of GPUs. It belongs to the thread that runs it.
trait GpuBackend: Send {
    /// Publishes a reading whenever the board wants one, until it wants no more.
    fn run(&mut self, board: &Board);
}

/// Where GPUs are read from.
#[derive(Debug, Clone)]
struct Sources {
    nvml: PathBuf,
    sys: PathBuf,
    proc: PathBuf,
}

/// The threads that read GPUs. They end with this, as soon as their drivers let them.
pub(super) struct Gpus {
    watches: Vec<Watch>,
}

/// One thread.
struct Watch {
    /// What it reads, in the words of a complaint.
    name: &'static str,
    board: Arc<Board>,
    /// Why there is no thread.
    failure: Option<String>,
}

impl Gpus {
    /// Starts one thread for every kind of GPU.
    pub(super) fn start(nvml: &Path, sys: &Path, proc: &Path, clock: &Arc<dyn Clock>) -> Self {
        let sources = Sources { nvml: nvml.into(), sys: sys.into(), proc: proc.into() };
        let nvidia = NvmlBackend::new(sources.clone(), Arc::clone(clock));
        let others = DrmBackend::new(sources);
        let watches = vec![
            Watch::start("NVIDIA's driver", "hive-nvml", nvidia, clock),
            Watch::start("AMD and Intel GPUs", "hive-drm", others, clock),
        ];
        Self { watches }
    }

    /// The newest readings, and the age of the oldest of them.
    pub(super) fn view(
        &self,
        now: Duration,
        interval: Option<Duration>,
        complaints: &mut Complaints,
    ) -> (View, Option<Duration>) {
        let stale_after = interval.map_or(STALE_AFTER, |interval| STALE_AFTER.max(interval * 3));
        let mut view = View::default();
        let mut oldest = None;
        for watch in &self.watches {
            if let Some(failure) = &watch.failure {
                complaints.add(watch.name, format_args!("cannot start a thread: {failure}"));
                continue;
            }
            // Without an order there is nothing to answer: the collecting thread itself was late.
            let waiting = watch.board.unanswered().map(|since| now.saturating_sub(since));
            if let Some(waiting) = waiting.filter(|&waiting| waiting > stale_after) {
                let reason = format_args!("no answer for {} s", waiting.as_secs());
                complaints.add(watch.name, reason);
            }
            let Some(latest) = watch.board.latest() else { continue };
            let age = now.saturating_sub(latest.at);
            let is_stale = age > stale_after;
            view.add(&latest.reading, is_stale);
            if !latest.reading.devices.is_empty() {
                oldest = oldest.max(Some(age));
            }
            for sentence in latest.reading.complaints.iter().filter(|_| !is_stale) {
                complaints.add_sentence(sentence);
            }
        }
        if view.len() > MAX_GPUS {
            let reason = format_args!("only {MAX_GPUS} fit into a heartbeat");
            let left_out = view.len() - MAX_GPUS;
            complaints.add(format_args!("{left_out} GPUs are left out"), reason);
        }
        (view, oldest)
    }

    /// Orders the next readings, for these processes, by the time they are needed.
    pub(super) fn order(&self, mut pids: Vec<u32>, now: Duration, needed: Option<Duration>) {
        pids.sort_unstable();
        let pids: Arc<[u32]> = pids.into();
        for watch in &self.watches {
            watch.board.order(Arc::clone(&pids), now, needed);
        }
    }

    /// The processor time of the threads that read.
    pub(super) fn cpu_time(&self) -> Duration {
        self.watches.iter().map(|watch| watch.board.cpu_time()).sum()
    }

    /// Waits until everything was read once, but not longer than the limit.
    pub(super) fn wait_for_first(&self, limit: Duration) {
        for watch in self.watches.iter().filter(|watch| watch.failure.is_none()) {
            watch.board.wait_for_first(limit);
        }
    }
}

impl Watch {
    fn start(
        name: &'static str,
        thread: &str,
        mut backend: impl GpuBackend + 'static,
        clock: &Arc<dyn Clock>,
    ) -> Self {
        let board = Arc::new(Board::new(Arc::clone(clock)));
        let own = Arc::clone(&board);
        // Never joined: it may hang in its driver, which must hold up nothing.
        let started =
            thread::Builder::new().name(thread.to_owned()).spawn(move || backend.run(&own));
        Self { name, board, failure: started.err().map(|error| error.to_string()) }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.board.close();
    }
}
