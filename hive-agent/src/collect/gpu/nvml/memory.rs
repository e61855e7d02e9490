//! Memory of a GPU: bytes in use, and in all.

use std::fs;
use std::path::Path;

use nvml_wrapper::Device;
use nvml_wrapper::error::NvmlError;

use super::answers::{Answers, Loss};
use crate::collect::node;

/// What is known of a GPU's memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Memory {
    /// Bytes in use and in all.
    Own(u64, u64),
    /// It has none, and works in the machine's.
    Shared,
    /// It could not be read.
    Unknown,
}

impl Memory {
    /// Bytes in use and in all, of its own.
    pub(super) fn own(self) -> Option<(u64, u64)> {
        match self {
            Self::Own(used, total) => Some((used, total)),
            Self::Shared | Self::Unknown => None,
        }
    }
}

/// What the GPU says.
pub(super) fn of_gpu(device: &Device<'_>, answers: &mut Answers<'_>) -> Result<Memory, Loss> {
    let answer = match device.memory_info() {
        Ok(memory) => Ok((memory.used, memory.total)),
        Err(NvmlError::FailedToLoadSymbol(_)) => of_old_driver(device),
        Err(error) => Err(error),
    };
    match answer {
        Ok((_, 0)) | Err(NvmlError::NotSupported) => Ok(Memory::Shared),
        answer => {
            let known = answers.take("its memory", answer)?;
            Ok(known.map_or(Memory::Unknown, |(used, total)| Memory::Own(used, total)))
        }
    }
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
