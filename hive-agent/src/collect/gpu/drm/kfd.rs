//! Who computes on AMD's GPUs by ROCm, from `/sys/class/kfd`.
//!
//! ROCm goes through `/dev/kfd`, and its work does not show in any process's fdinfo: not even
//! as zero. The kernel says how much memory each process holds on each GPU, but not how much of
//! the GPU's time it takes. So a process has a utilisation only where there is no doubt: that of
//! the GPU if nobody else holds memory there, and 0 if the whole GPU does nothing.

use std::fs;
use std::path::Path;

use super::number_in;
use crate::collect::text::keyed;

/// One process on one GPU.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct KfdUse {
    pub(super) pid: u32,
    pub(super) vram_bytes: u64,
}

/// A GPU by its address, and the number that the kernel gives it for this.
pub(super) type KfdGpu = (String, u64);

/// The GPUs that ROCm can use.
pub(super) fn gpus(sys: &Path) -> Vec<KfdGpu> {
    let Ok(nodes) = fs::read_dir(sys.join("class/kfd/kfd/topology/nodes")) else {
        return Vec::new();
    };
    let gpu = |dir: &Path| {
        // Processors are nodes too, with 0.
        let id = number_in(&dir.join("gpu_id")).filter(|&id| id > 0)?;
        let properties = fs::read(dir.join("properties")).ok()?;
        let location = keyed(&properties, "location_id")?;
        let domain = keyed(&properties, "domain").unwrap_or(0);
        let (bus, device, function) = (location >> 8 & 0xff, location >> 3 & 0x1f, location & 7);
        Some((format!("{domain:04x}:{bus:02x}:{device:02x}.{function}"), id))
    };
    nodes.flatten().filter_map(|node| gpu(&node.path())).collect()
}

/// Everybody who holds memory on a GPU, worker or not.
pub(super) fn uses(sys: &Path, gpu_id: u64) -> Vec<KfdUse> {
    let Ok(processes) = fs::read_dir(sys.join("class/kfd/kfd/proc")) else { return Vec::new() };
    let used = |entry: fs::DirEntry| {
        let pid = entry.file_name().to_str()?.parse().ok()?;
        let vram_bytes = number_in(&entry.path().join(format!("vram_{gpu_id}")))?;
        (vram_bytes > 0).then_some(KfdUse { pid, vram_bytes })
    };
    processes.flatten().filter_map(used).collect()
}
