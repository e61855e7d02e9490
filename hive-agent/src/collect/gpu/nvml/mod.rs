//! NVIDIA's GPUs, through NVML, the library of its driver.
//!
//! In reading order:
//!
//! - `session`: the library while it is open;
//! - `slot`: one GPU of it, put together from
//!   - `processes`: who sits on it,
//!   - `samples`: how much of its time each takes,
//!   - `memory`, `health`;
//! - `answers`: what NVML's errors mean;
//! - `pci`: the GPUs as the kernel sees them, which wakes none.
//!
//! What is known about NVML and decides how it is read:
//!
//! - Its calls take locks that the workload needs too. So one thread makes one pass a reading,
//!   and what is slow or changes rarely is asked every few seconds: temperature, clocks, errors,
//!   and the list of those who draw, which takes milliseconds on some GPUs.
//! - Utilisation is the share of time in which a kernel ran. A server that decodes for a single
//!   client shows about 100 %, so it says whether a worker works and not how much more it could
//!   do.
//! - MIG instances have no utilisation, and neither have their processes: null. Where there are
//!   instances they are listed as GPUs, by their own UUIDs, and their GPU without memory.
//! - A GPU that is off the bus stays lost until the library is opened anew, and a library whose
//!   driver was replaced answers nothing any more. Both are tried again by themselves.
//! - An open library keeps a GPU from being reset and from changing its MIG mode: stop the
//!   agent for that. It does not keep one asleep that is asleep: it is not asked at all, and
//!   with all asleep the library is closed.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use hive_contract::heartbeat::Gpu;
use hive_contract::text::Text;
use hive_contract::units::Count;
use nvml_wrapper::Nvml;
use nvml_wrapper::error::NvmlError;
use tracing::{info, warn};

use super::board::{Board, Order};
use super::probe::NvmlProbe;
use super::reading::{Device, Reading};
use super::{GpuBackend, Sources};
use crate::clock::Clock;

mod answers;
mod health;
mod memory;
mod pci;
mod processes;
mod samples;
mod session;
mod slot;

use session::{Ending, Known, Session};

/// The first wait before the library is opened again; each further one is twice as long.
const FIRST_RETRY: Duration = Duration::from_secs(1);
/// The longest wait before the library is opened again.
const LAST_RETRY: Duration = Duration::from_secs(60);
/// How often GPUs that sleep are looked at.
const SLEEP_CHECK: Duration = Duration::from_secs(5);

/// NVIDIA's GPUs.
pub(super) struct NvmlBackend {
    sources: Sources,
    clock: Arc<dyn Clock>,
    /// Every GPU that was ever read.
    known: Vec<Known>,
    /// The next opening of the library is not before this.
    retry_at: Duration,
    retry: Duration,
    /// What is said until then.
    meanwhile: Arc<Reading>,
    /// What was logged last.
    logged: String,
}

impl NvmlBackend {
    pub(super) fn new(sources: Sources, clock: Arc<dyn Clock>) -> Self {
        Self {
            sources,
            clock,
            known: Vec::new(),
            retry_at: Duration::ZERO,
            retry: FIRST_RETRY,
            meanwhile: Arc::default(),
            logged: String::new(),
        }
    }

    /// Keeps the library closed for a while.
    fn pause(&mut self, at: Duration, reading: Arc<Reading>) {
        self.retry_at = at + self.retry;
        self.retry = (self.retry * 2).min(LAST_RETRY);
        self.meanwhile = reading;
    }

    /// What there is to say of GPUs that all sleep, if that is so.
    fn sleeping(&self, board: &Board) -> Option<Reading> {
        let gpus = pci::gpus(&self.sources.sys);
        if gpus.is_empty() || !gpus.iter().all(|gpu| gpu.is_asleep) {
            return None;
        }
        let mut devices = without_figures(board, "asleep");
        if devices.is_empty() {
            let unread = (0..gpus.len() as u64).map(|index| Gpu {
                index: Count::from_integer(index).ok(),
                state: Some(Text::cut("asleep")),
                ..Gpu::default()
            });
            devices.extend(unread.map(|gpu| Device { gpu, uses: Vec::new() }));
        }
        Some(Reading { devices, complaints: Vec::new() })
    }

    /// Opens the library and reads until something is amiss; `false` if it is because nobody
    /// wants readings any more.
    fn open_and_read(&mut self, order: Order, board: &Board) -> bool {
        let opened_at = board.now();
        let (ending, at) = match open(&self.sources.nvml) {
            Err(error) => (Ending::NoDriver(error), opened_at),
            Ok(nvml) => {
                let mut session = Session::new(&nvml, &self.sources, &*self.clock);
                let ended = session.run(order, board, &mut self.known);
                drop(session);
                close(nvml);
                ended
            }
        };
        if at.saturating_sub(opened_at) > LAST_RETRY {
            self.retry = FIRST_RETRY;
        }
        match ending {
            Ending::NotWanted => return false,
            Ending::Asleep => {}
            Ending::SomeLost => info!("opening NVML anew, to look for lost GPUs"),
            Ending::AllLost(reading) => self.pause(at, reading),
            Ending::NoDriver(error) => {
                let reading = self.failure(&error, board);
                self.pause(at, Arc::new(reading));
                board.publish(Arc::clone(&self.meanwhile), at);
            }
        }
        true
    }

    /// What there is to say without the library. A machine without such GPUs has nothing to
    /// say, unless the library that cannot be loaded was given by its path.
    fn failure(&mut self, error: &NvmlError, board: &Board) -> Reading {
        let is_path = self.sources.nvml.components().count() > 1;
        let is_expected = match error {
            NvmlError::LibloadingError(_) => !is_path,
            NvmlError::DriverNotLoaded => true,
            _ => false,
        };
        let devices = without_figures(board, "no driver");
        if is_expected && devices.is_empty() && pci::gpus(&self.sources.sys).is_empty() {
            return Reading::default();
        }
        let complaint = format!("NVIDIA's driver: {}", explain(error, &self.sources.nvml));
        if self.logged != complaint {
            warn!("{complaint}");
            self.logged.clone_from(&complaint);
        }
        Reading { devices, complaints: vec![complaint] }
    }
}

/// The GPUs of the last reading, with what is left to say of them.
fn without_figures(board: &Board, state: &str) -> Vec<Device> {
    let Some(latest) = board.latest() else { return Vec::new() };
    latest.reading.devices.iter().map(|device| device.without_figures(state)).collect()
}

impl GpuBackend for NvmlBackend {
    fn run(&mut self, board: &Board) {
        while let Some(order) = board.next() {
            let now = board.now();
            if now >= self.retry_at {
                if let Some(reading) = self.sleeping(board) {
                    self.retry = SLEEP_CHECK;
                    self.pause(now, Arc::new(reading));
                    self.retry = FIRST_RETRY;
                } else if self.open_and_read(order, board) {
                    continue;
                } else {
                    return;
                }
            }
            board.publish(Arc::clone(&self.meanwhile), now);
        }
    }
}

/// Opens the library.
pub(super) fn open(library: &Path) -> Result<Nvml, NvmlError> {
    Nvml::builder().lib_path(library.as_os_str()).init()
}

/// Closes the library. One that cannot be closed is left open, where the wrapper would panic.
pub(super) fn close(nvml: Nvml) {
    if nvml.lib().nvmlShutdown.is_err() {
        std::mem::forget(nvml);
    }
}

/// An error of opening the library, with what to do about it.
pub(super) fn explain(error: &NvmlError, library: &Path) -> String {
    match error {
        // The loader's own sentence has the library's name.
        NvmlError::LibloadingError(error) => format!("its library cannot be loaded: {error}"),
        NvmlError::FailedToLoadSymbol(reason) => {
            format!("{} is no NVML library: {reason}", library.display())
        }
        NvmlError::LibRmVersionMismatch => {
            "the library and the loaded kernel module are of different versions; reload the \
             module or restart the machine"
                .to_owned()
        }
        error => error.to_string(),
    }
}

/// Asks everything once, for people.
pub(super) fn probe(library: &Path) -> Result<NvmlProbe, String> {
    let nvml = open(library).map_err(|error| explain(&error, library))?;
    let device = |index| {
        let handle = nvml.device_by_index(index)?;
        Ok(format!("{} ({})", handle.name()?, handle.uuid()?))
    };
    let count = nvml.device_count().map_err(|error| error.to_string());
    let devices = count.map(|count| {
        let devices = (0..count).map(device);
        devices.map(|device| device.map_err(|error: NvmlError| error.to_string())).collect()
    });
    let found = devices.map(|devices| NvmlProbe {
        driver_version: nvml.sys_driver_version().ok(),
        library_version: nvml.sys_nvml_version().ok(),
        devices,
    });
    close(nvml);
    found
}

/// The number of GPUs that the kernel lists on the bus.
pub(super) fn on_bus(sys: &Path) -> usize {
    pci::gpus(sys).len()
}

#[cfg(test)]
mod tests;
