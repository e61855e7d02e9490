//! What the file says: a machine and its GPUs.

use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Serialize};

/// The file's name; it lies beside the library.
pub const FILE: &str = "nvml.json";
/// The name of the file into which calls are written, if the machine wants that: one a line,
/// `nvmlDeviceGetName 0`.
pub const CALLS: &str = "nvml.calls";

/// A machine as NVML sees it. Errors are NVML's numbers, 0 is none.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Machine {
    /// What `nvmlInit_v2` answers.
    pub init: u32,
    /// What every call after it answers.
    pub fault: u32,
    /// Every call waits until the file says otherwise.
    pub hangs: bool,
    /// Every call is written to [`CALLS`].
    pub logs_calls: bool,
    /// The driver's version.
    pub driver_version: String,
    /// In the order of their indexes.
    pub gpus: Vec<Gpu>,
}

/// A GPU or a MIG instance. What is absent is not supported.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Gpu {
    /// Its identity.
    pub uuid: String,
    /// Its product name.
    pub name: String,
    /// Its place on the PCI bus.
    pub bus_id: String,
    /// What every call about it answers.
    pub fault: u32,
    /// What single functions answer about it, by their names.
    pub faults: BTreeMap<String, u32>,
    /// Its utilisation.
    pub util_pct: Option<u32>,
    /// Memory in use.
    pub used_mb: u64,
    /// Memory in all.
    pub total_mb: Option<u64>,
    /// Its temperature.
    pub temperature_c: Option<u32>,
    /// Its power in milliwatts.
    pub power_mw: Option<u32>,
    /// NVML's bits for why its clocks are low.
    pub throttle: u64,
    /// Uncorrected memory errors.
    pub ecc_errors: Option<u64>,
    /// What the driver wants done to it.
    pub recovery: Option<u32>,
    /// The errors that the driver reports; each is handed out once.
    pub xids: Vec<u64>,
    /// Processes that compute.
    pub compute: Vec<Process>,
    /// Processes that draw.
    pub graphics: Vec<Process>,
    /// Clients of an MPS server.
    pub mps: Vec<Process>,
    /// Utilisation by process.
    pub samples: Option<Vec<Sample>>,
    /// Every second question for a number of processes is answered by one too few, as if one
    /// started right after it.
    pub miscounts: bool,
    /// Its MIG instances, where MIG is on.
    pub mig: Option<Vec<Gpu>>,
}

/// A process in one of the lists.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Process {
    /// Its PID.
    pub pid: u32,
    /// Its memory; absent as the driver says it where it must not tell.
    pub mb: Option<u64>,
}

/// One sample of a process's utilisation.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sample {
    /// The PID.
    pub pid: u32,
    /// The utilisation.
    pub sm_pct: u32,
    /// When it was taken, in µs since the epoch; if absent, at the moment of the question.
    pub at_us: Option<u64>,
}

impl Machine {
    /// Writes the file, so that the library beside it plays this from its next call on.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn write(&self, dir: &Path) -> std::io::Result<()> {
        // Renamed into place, so that it is never read half.
        let new = dir.join("nvml.json.new");
        std::fs::write(&new, serde_json::to_vec(self)?)?;
        std::fs::rename(new, dir.join(FILE))
    }
}
