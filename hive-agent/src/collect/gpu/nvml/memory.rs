//! Memory of a GPU: bytes in use, and in all.

use std::fs;
use std::path::Path;

use nvml_wrapper::Device;
use nvml_wrapper::error::NvmlError;

use super::answers::{Answers, Loss};
use crate::collect::node;

/// What the GPU says; `None` where it has no memory of its own.
pub(super) fn of_gpu(
    device: &Device<'_>,
    answers: &mut Answers<'_>,
) -> Result<Option<(u64, u64)>, Loss> {
    let answer = match device.memory_info() {
        Ok(memory) => Ok((memory.used, memory.total)),
        Err(NvmlError::FailedToLoadSymbol(_)) => of_old_driver(device),
        Err(error) => Err(error),
    };
    Ok(answers.take("its memory", answer)?.filter(|(_, total)| *total > 0))
}

/// Drivers before 510 have only the first version of the question.
fn of_old_driver(device: &Device<'_>) -> Result<(u64, u64), NvmlError> {
    let Ok(ask) = &device.nvml().lib().nvmlDeviceGetMemoryInfo else {
        return Err(NvmlError::NotSupported);
    };
    // SAFETY: the answer is plain numbers, the handle belongs to the library that is still
    // open, and the function writes nothing but the answer.
    let (code, memory) = unsafe {
        let mut memory = std::mem::zeroed();
        (ask(device.handle(), &raw mut memory), memory)
    };
    nvml_wrapper::error::nvml_try(code)?;
    Ok((memory.used, memory.total))
}

/// What the machine says, which is the GPU's where both share it: on DGX Spark and on Jetson.
pub(super) fn of_machine(meminfo: &Path) -> Option<(u64, u64)> {
    let memory = node::parse_memory(&fs::read(meminfo).ok()?)?;
    Some((memory.used_bytes, memory.total_bytes))
}
