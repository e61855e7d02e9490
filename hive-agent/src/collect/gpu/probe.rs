//! What there is to read GPUs from, for people who look for a fault.

use std::path::Path;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use super::{drm, nvml};

/// How long the drivers may take to answer.
const LIMIT: Duration = Duration::from_secs(10);

/// What was found on this machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Probe {
    /// NVIDIA's GPUs that the kernel lists on the PCI bus.
    pub nvidia_on_bus: usize,
    /// What NVIDIA's driver answers, or why it does not.
    pub nvml: Result<NvmlProbe, String>,
    /// AMD's and Intel's GPUs that the kernel lists: name and UUID.
    pub others: Vec<String>,
}

/// What NVIDIA's driver answers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NvmlProbe {
    /// The version of the driver.
    pub driver_version: Option<String>,
    /// The version of its library.
    pub library_version: Option<String>,
    /// Its GPUs in the order of their indexes: name and UUID, or why that one cannot be read.
    pub devices: Vec<Result<String, String>>,
}

/// Asks NVIDIA's driver through the library at `library`, for ten seconds at most, and looks
/// through `sys` (`/sys`). GPUs that sleep may be woken by it.
#[must_use]
pub fn probe(library: &Path, sys: &Path) -> Probe {
    let (sender, receiver) = mpsc::channel();
    let path = library.to_owned();
    // A thread of its own, which is left behind if the driver hangs.
    let asked = thread::Builder::new().name("hive-probe".into()).spawn(move || {
        // Nobody listens any more if it took too long.
        let _ = sender.send(nvml::probe(&path));
    });
    let nvml = match asked {
        Err(error) => Err(error.to_string()),
        Ok(_) => receiver.recv_timeout(LIMIT).unwrap_or_else(|_| {
            Err(format!("the driver does not answer within {} s", LIMIT.as_secs()))
        }),
    };
    Probe { nvidia_on_bus: nvml::on_bus(sys), nvml, others: drm::cards(sys) }
}
