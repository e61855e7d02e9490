//! GPUs. The place for what the NVML reader sees, once there is one.

use std::path::Path;

use super::Finding;

const DRIVER: &str = "/proc/driver/nvidia/version";

/// Says that GPUs are not read, and whether there is a driver that could be asked.
pub(super) fn examine() -> Vec<Finding> {
    let driver = match Path::new(DRIVER).exists() {
        true => "an NVIDIA driver is loaded",
        false => "no NVIDIA driver is loaded",
    };
    let seen = format!("{driver}; this version reads no GPU, so their figures are null");
    vec![Finding::note("gpu", seen, "nothing: processor, memory and queues are measured anyway")]
}
