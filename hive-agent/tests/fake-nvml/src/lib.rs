//! NVML's interface, played from a file.
//!
//! A test copies the built library into a directory of its own, writes a [`Machine`] beside it
//! ([`Machine::write`]), and gives the copy to the agent as the NVIDIA driver's library. The
//! file may change at any time: GPUs come and go, hang, get lost, or answer garbage. Every copy
//! has its own file, so tests do not disturb each other.
//!
//! Exported is what the agent calls; the types are those of NVML's own header. What is not
//! exported here is missing, as in an old driver.

mod exports;
mod machine;
mod state;

pub use machine::{CALLS, FILE, Gpu, Machine, Process, Sample};

/// NVML's numbers for its errors.
pub mod errors {
    pub use nvml_wrapper_sys::bindings::{
        nvmlReturn_enum_NVML_ERROR_DRIVER_NOT_LOADED as DRIVER_NOT_LOADED,
        nvmlReturn_enum_NVML_ERROR_GPU_IS_LOST as GPU_IS_LOST,
        nvmlReturn_enum_NVML_ERROR_INSUFFICIENT_SIZE as INSUFFICIENT_SIZE,
        nvmlReturn_enum_NVML_ERROR_INVALID_ARGUMENT as INVALID_ARGUMENT,
        nvmlReturn_enum_NVML_ERROR_LIB_RM_VERSION_MISMATCH as LIB_RM_VERSION_MISMATCH,
        nvmlReturn_enum_NVML_ERROR_NO_PERMISSION as NO_PERMISSION,
        nvmlReturn_enum_NVML_ERROR_NOT_FOUND as NOT_FOUND,
        nvmlReturn_enum_NVML_ERROR_NOT_SUPPORTED as NOT_SUPPORTED,
        nvmlReturn_enum_NVML_ERROR_RESET_REQUIRED as RESET_REQUIRED,
        nvmlReturn_enum_NVML_ERROR_TIMEOUT as TIMEOUT,
        nvmlReturn_enum_NVML_ERROR_UNINITIALIZED as UNINITIALIZED,
        nvmlReturn_enum_NVML_ERROR_UNKNOWN as UNKNOWN, nvmlReturn_enum_NVML_SUCCESS as SUCCESS,
    };
}
