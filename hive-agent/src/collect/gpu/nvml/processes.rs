//! Who sits on a GPU: the driver's lists, merged by process.
//!
//! A process can stand in several lists with the same memory, so the largest counts and not
//! the sum. PIDs are those of the machine: in a container without the machine's PIDs
//! (`--pid=host`) they are not those that the agent sees.

use nvml_wrapper::enums::device::UsedGpuMemory;
use nvml_wrapper::error::NvmlError;
use nvml_wrapper::struct_wrappers::device::ProcessInfo;
use nvml_wrapper::{Device, Nvml};

use super::answers::{Answers, Loss};

/// The most processes of one GPU that are looked at.
const MAX_LISTED: usize = 4096;

/// A process on a GPU.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Listed {
    pub(super) pid: u32,
    /// Its memory; the driver keeps it to itself under MIG for those without the right.
    pub(super) vram_bytes: Option<u64>,
}

/// Whether this driver's process lists cannot be asked for: those of early 535 drivers are
/// longer than their version says, and would be written past the end of their buffer.
pub(super) fn are_unsafe(nvml: &Nvml) -> bool {
    nvml.lib().nvmlDeviceGetConfComputeMemSizeInfo.is_ok()
        && nvml.lib().nvmlDeviceGetRunningProcessDetailList.is_err()
}

/// Asks again where the list grew between the question for its length and the one for itself.
pub(super) fn twice<T>(ask: impl Fn() -> Result<T, NvmlError>) -> Result<T, NvmlError> {
    match ask() {
        Err(NvmlError::InsufficientSize(_)) => ask(),
        answer => answer,
    }
}

/// The processes that draw.
pub(super) fn graphics(device: &Device<'_>) -> Result<Vec<Listed>, NvmlError> {
    let list = match twice(|| device.running_graphics_processes()) {
        Err(NvmlError::FailedToLoadSymbol(_)) => twice(|| device.running_graphics_processes_v2()),
        answer => answer,
    };
    list.map(|list| list.iter().map(listed).collect())
}

/// The processes that compute, the clients of an MPS server, and those that draw, each once,
/// in ascending order; `None` if the driver does not say who computes. A process that holds
/// more than all there is holds an unknown amount.
pub(super) fn list(
    device: &Device<'_>,
    graphics: &[Listed],
    max_bytes: Option<u64>,
    answers: &mut Answers<'_>,
) -> Result<Option<Vec<Listed>>, Loss> {
    let compute = match twice(|| device.running_compute_processes()) {
        Err(NvmlError::FailedToLoadSymbol(_)) => twice(|| device.running_compute_processes_v2()),
        answer => answer,
    };
    let Some(compute) = answers.take("its processes", compute)? else { return Ok(None) };
    let mps = twice(|| device.mps_running_compute_processes());
    let mps = answers.take("its MPS clients", mps)?.unwrap_or_default();
    let all = compute.iter().chain(&mps).map(listed).chain(graphics.iter().copied());
    Ok(Some(merge(all.collect(), max_bytes)))
}

fn listed(process: &ProcessInfo) -> Listed {
    let vram_bytes = match process.used_gpu_memory {
        UsedGpuMemory::Used(bytes) => Some(bytes),
        UsedGpuMemory::Unavailable => None,
    };
    Listed { pid: process.pid, vram_bytes }
}

fn merge(mut all: Vec<Listed>, max_bytes: Option<u64>) -> Vec<Listed> {
    let is_possible = |bytes: &u64| max_bytes.is_none_or(|max| *bytes <= max);
    for listed in &mut all {
        listed.vram_bytes = listed.vram_bytes.filter(is_possible);
    }
    // PIDs start at 1 and are positive in C.
    all.retain(|listed| (1..=i32::MAX as u32).contains(&listed.pid));
    // The largest comes first, an unknown amount last.
    all.sort_unstable_by_key(|listed| (listed.pid, std::cmp::Reverse(listed.vram_bytes)));
    all.dedup_by_key(|listed| listed.pid);
    all.truncate(MAX_LISTED);
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listed(pid: u32, vram_bytes: Option<u64>) -> Listed {
        Listed { pid, vram_bytes }
    }

    #[test]
    fn a_process_in_several_lists_counts_once_with_the_most() {
        let all = vec![
            listed(9, Some(5)),
            listed(7, Some(10)),
            listed(7, None),
            listed(7, Some(30)),
            listed(8, None),
        ];
        let merged = [listed(7, Some(30)), listed(8, None), listed(9, Some(5))];
        assert_eq!(merge(all, Some(100)), merged);
    }

    #[test]
    fn impossible_entries_are_left_out() {
        let all = vec![listed(0, Some(1)), listed(u32::MAX, Some(1)), listed(7, Some(101))];
        assert_eq!(merge(all, Some(100)), [listed(7, None)]);
    }

    #[test]
    fn only_a_list_that_grew_is_asked_for_again() {
        let asked = std::cell::Cell::new(0);
        let answer = |error: fn() -> NvmlError| {
            asked.set(0);
            twice(|| {
                asked.set(asked.get() + 1);
                Err::<(), _>(error())
            })
        };
        assert!(answer(|| NvmlError::InsufficientSize(None)).is_err());
        assert_eq!(asked.get(), 2);
        assert!(answer(|| NvmlError::Unknown).is_err());
        assert_eq!(asked.get(), 1);
    }
}
