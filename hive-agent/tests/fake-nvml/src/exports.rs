//! The functions, by NVML's names.
//!
//! A device is `index + 1` in its lower half and, for a MIG instance, `instance + 1` in its
//! upper one, made a pointer that is never followed.

use std::ffi::{c_char, c_int, c_uint, c_ulonglong};
use std::ptr;
use std::time::{SystemTime, UNIX_EPOCH};

use nvml_wrapper_sys::bindings::{
    nvmlDevice_t, nvmlEventData_t, nvmlEventSet_t, nvmlEventTypeXidCriticalError, nvmlFieldValue_t,
    nvmlMemory_t, nvmlMemory_v2_t, nvmlPciInfo_t, nvmlProcessInfo_t,
    nvmlProcessUtilizationSample_t, nvmlUtilization_t,
};

use crate::errors::{
    INSUFFICIENT_SIZE, INVALID_ARGUMENT, NOT_FOUND, NOT_SUPPORTED, SUCCESS, TIMEOUT, UNINITIALIZED,
};
use crate::machine::{Gpu, Machine, Process};
use crate::state::{machine, state};

type Answer = c_uint;

const MIB: u64 = 1 << 20;
const INSTANCE_SHIFT: u32 = 16;

fn indexes(device: nvmlDevice_t) -> (usize, Option<usize>) {
    let number = device as usize;
    let gpu = (number & ((1 << INSTANCE_SHIFT) - 1)).wrapping_sub(1);
    (gpu, (number >> INSTANCE_SHIFT).checked_sub(1))
}

fn device(gpu: usize, instance: Option<usize>) -> nvmlDevice_t {
    let number = (gpu + 1) | instance.map_or(0, |instance| (instance + 1) << INSTANCE_SHIFT);
    ptr::without_provenance_mut(number)
}

/// Answers for the whole machine.
fn with_machine(call: &str, answer: impl FnOnce(&Machine) -> Answer) -> Answer {
    let machine = machine(call, None);
    match (state().users, machine.fault) {
        (0, _) => UNINITIALIZED,
        (_, SUCCESS) => answer(&machine),
        (_, fault) => fault,
    }
}

/// Answers for one device.
fn with(call: &str, handle: nvmlDevice_t, answer: impl FnOnce(&Gpu) -> Answer) -> Answer {
    let (gpu, instance) = indexes(handle);
    let machine = machine(call, Some(gpu));
    if state().users == 0 {
        return UNINITIALIZED;
    }
    if machine.fault != SUCCESS {
        return machine.fault;
    }
    let device = machine.gpus.get(gpu);
    if let Some(fault) = device.map(|gpu| gpu.fault).filter(|&fault| fault != SUCCESS) {
        return fault;
    }
    let device = match instance {
        None => device,
        Some(instance) => device.and_then(|gpu| gpu.mig.as_ref()?.get(instance)),
    };
    match device {
        None => INVALID_ARGUMENT,
        Some(device) => match device.faults.get(call) {
            Some(&fault) if fault != SUCCESS => fault,
            _ => answer(device),
        },
    }
}

/// Writes a value where the caller wants it.
fn put<T>(to: *mut T, value: T) -> Answer {
    if to.is_null() {
        return INVALID_ARGUMENT;
    }
    // SAFETY: by NVML's contract a pointer that is not null points to a place for the value.
    unsafe { to.write(value) };
    SUCCESS
}

fn put_known<T>(to: *mut T, value: Option<T>) -> Answer {
    value.map_or(NOT_SUPPORTED, |value| put(to, value))
}

fn put_text(to: *mut c_char, length: c_uint, text: &str) -> Answer {
    if to.is_null() || text.len() >= length as usize {
        return INSUFFICIENT_SIZE;
    }
    // SAFETY: by NVML's contract the caller's buffer has that length, and the text with its
    // end fits.
    unsafe {
        ptr::copy_nonoverlapping(text.as_ptr().cast(), to, text.len());
        to.add(text.len()).write(0);
    }
    SUCCESS
}

/// Writes as much of a list as the caller has room for. The count is room and answer.
fn put_list<T>(count: *mut c_uint, to: *mut T, list: &[T], said: usize) -> Answer {
    if count.is_null() {
        return INVALID_ARGUMENT;
    }
    // SAFETY: by NVML's contract the count can be read and written.
    let room = unsafe { count.replace(said as c_uint) } as usize;
    if list.is_empty() {
        return SUCCESS;
    }
    if to.is_null() || room < list.len() {
        return INSUFFICIENT_SIZE;
    }
    // SAFETY: by NVML's contract there is room for as many elements as the caller said.
    unsafe { ptr::copy_nonoverlapping(list.as_ptr(), to, list.len()) };
    SUCCESS
}

fn put_processes(
    count: *mut c_uint,
    to: *mut nvmlProcessInfo_t,
    processes: &[Process],
    miscounts: bool,
) -> Answer {
    let list: Vec<_> = processes
        .iter()
        .map(|process| nvmlProcessInfo_t {
            pid: process.pid,
            usedGpuMemory: process.mb.map_or(c_ulonglong::MAX, |mb| mb * MIB),
            gpuInstanceId: c_uint::MAX,
            computeInstanceId: c_uint::MAX,
        })
        .collect();
    let mut said = list.len();
    if to.is_null() && miscounts {
        let mut state = state();
        state.counts += 1;
        said -= usize::from(said > 1 && state.counts % 2 == 1);
    }
    put_list(count, to, &list, said)
}

#[expect(clippy::disallowed_methods, reason = "the driver stamps its samples by the wall clock")]
fn now_us() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_micros() as u64
}

#[unsafe(no_mangle)]
extern "C" fn nvmlInit_v2() -> Answer {
    let machine = machine("nvmlInit_v2", None);
    if machine.init == SUCCESS {
        state().users += 1;
    }
    machine.init
}

#[unsafe(no_mangle)]
extern "C" fn nvmlShutdown() -> Answer {
    machine("nvmlShutdown", None);
    let mut state = state();
    match state.users.checked_sub(1) {
        None => UNINITIALIZED,
        Some(users) => {
            state.users = users;
            SUCCESS
        }
    }
}

#[unsafe(no_mangle)]
extern "C" fn nvmlSystemGetDriverVersion(to: *mut c_char, length: c_uint) -> Answer {
    with_machine("nvmlSystemGetDriverVersion", |machine| {
        put_text(to, length, &machine.driver_version)
    })
}

#[unsafe(no_mangle)]
extern "C" fn nvmlSystemGetNVMLVersion(to: *mut c_char, length: c_uint) -> Answer {
    with_machine("nvmlSystemGetNVMLVersion", |machine| {
        put_text(to, length, &format!("13.{}", machine.driver_version))
    })
}

#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetCount_v2(to: *mut c_uint) -> Answer {
    with_machine("nvmlDeviceGetCount_v2", |machine| put(to, machine.gpus.len() as c_uint))
}

#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetHandleByIndex_v2(index: c_uint, to: *mut nvmlDevice_t) -> Answer {
    let device = device(index as usize, None);
    with("nvmlDeviceGetHandleByIndex_v2", device, |_| put(to, device))
}

#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetUUID(handle: nvmlDevice_t, to: *mut c_char, length: c_uint) -> Answer {
    with("nvmlDeviceGetUUID", handle, |gpu| put_text(to, length, &gpu.uuid))
}

#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetName(handle: nvmlDevice_t, to: *mut c_char, length: c_uint) -> Answer {
    with("nvmlDeviceGetName", handle, |gpu| put_text(to, length, &gpu.name))
}

#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetPciInfo_v3(handle: nvmlDevice_t, to: *mut nvmlPciInfo_t) -> Answer {
    with("nvmlDeviceGetPciInfo_v3", handle, |gpu| {
        let mut info = nvmlPciInfo_t {
            busIdLegacy: [0; 16],
            domain: 0,
            bus: 0,
            device: 0,
            pciDeviceId: 0,
            pciSubSystemId: 0,
            busId: [0; 32],
        };
        for (place, byte) in info.busId[..31].iter_mut().zip(gpu.bus_id.bytes()) {
            *place = byte as c_char;
        }
        put(to, info)
    })
}

#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetMemoryInfo_v2(handle: nvmlDevice_t, to: *mut nvmlMemory_v2_t) -> Answer {
    with("nvmlDeviceGetMemoryInfo_v2", handle, |gpu| {
        let Some(total_mb) = gpu.total_mb else { return NOT_SUPPORTED };
        let memory = nvmlMemory_v2_t {
            version: size_of::<nvmlMemory_v2_t>() as c_uint | 2 << 24,
            total: total_mb * MIB,
            reserved: 0,
            free: total_mb.saturating_sub(gpu.used_mb) * MIB,
            used: gpu.used_mb * MIB,
        };
        put(to, memory)
    })
}

/// The first version of the question, which old drivers have alone.
#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetMemoryInfo(handle: nvmlDevice_t, to: *mut nvmlMemory_t) -> Answer {
    with("nvmlDeviceGetMemoryInfo", handle, |gpu| {
        let Some(total_mb) = gpu.total_mb else { return NOT_SUPPORTED };
        let free = total_mb.saturating_sub(gpu.used_mb) * MIB;
        put(to, nvmlMemory_t { total: total_mb * MIB, free, used: gpu.used_mb * MIB })
    })
}

#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetUtilizationRates(
    handle: nvmlDevice_t,
    to: *mut nvmlUtilization_t,
) -> Answer {
    with("nvmlDeviceGetUtilizationRates", handle, |gpu| {
        put_known(to, gpu.util_pct.map(|gpu| nvmlUtilization_t { gpu, memory: 0 }))
    })
}

#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetTemperature(
    handle: nvmlDevice_t,
    _sensor: c_uint,
    to: *mut c_uint,
) -> Answer {
    with("nvmlDeviceGetTemperature", handle, |gpu| put_known(to, gpu.temperature_c))
}

#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetPowerUsage(handle: nvmlDevice_t, to: *mut c_uint) -> Answer {
    with("nvmlDeviceGetPowerUsage", handle, |gpu| put_known(to, gpu.power_mw))
}

#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetCurrentClocksThrottleReasons(
    handle: nvmlDevice_t,
    to: *mut c_ulonglong,
) -> Answer {
    with("nvmlDeviceGetCurrentClocksThrottleReasons", handle, |gpu| put(to, gpu.throttle))
}

#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetTotalEccErrors(
    handle: nvmlDevice_t,
    _kind: c_uint,
    _counter: c_uint,
    to: *mut c_ulonglong,
) -> Answer {
    with("nvmlDeviceGetTotalEccErrors", handle, |gpu| put_known(to, gpu.ecc_errors))
}

#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetFieldValues(
    handle: nvmlDevice_t,
    count: c_int,
    values: *mut nvmlFieldValue_t,
) -> Answer {
    const RECOVERY_ACTION: c_uint = 230;
    const UNSIGNED_INT: c_uint = 1;
    with("nvmlDeviceGetFieldValues", handle, |gpu| {
        for index in 0..usize::try_from(count).unwrap_or(0) {
            // SAFETY: by NVML's contract there are as many values as the caller said.
            let value = unsafe { &mut *values.add(index) };
            value.valueType = UNSIGNED_INT;
            match gpu.recovery.filter(|_| value.fieldId == RECOVERY_ACTION) {
                Some(recovery) => {
                    value.value.uiVal = recovery;
                    value.nvmlReturn = SUCCESS;
                }
                None => value.nvmlReturn = NOT_SUPPORTED,
            }
        }
        SUCCESS
    })
}

/// One of the lists of processes.
macro_rules! process_list {
    ($name:ident, $list:ident) => {
        #[unsafe(no_mangle)]
        extern "C" fn $name(
            handle: nvmlDevice_t,
            count: *mut c_uint,
            to: *mut nvmlProcessInfo_t,
        ) -> Answer {
            with(stringify!($name), handle, |gpu| {
                put_processes(count, to, &gpu.$list, gpu.miscounts)
            })
        }
    };
}

process_list!(nvmlDeviceGetComputeRunningProcesses_v3, compute);
process_list!(nvmlDeviceGetGraphicsRunningProcesses_v3, graphics);
process_list!(nvmlDeviceGetMPSComputeRunningProcesses_v3, mps);
// The version before has the same layout.
process_list!(nvmlDeviceGetComputeRunningProcesses_v2, compute);
process_list!(nvmlDeviceGetGraphicsRunningProcesses_v2, graphics);

#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetProcessUtilization(
    handle: nvmlDevice_t,
    to: *mut nvmlProcessUtilizationSample_t,
    count: *mut c_uint,
    since_us: c_ulonglong,
) -> Answer {
    with("nvmlDeviceGetProcessUtilization", handle, |gpu| {
        let Some(samples) = &gpu.samples else { return NOT_SUPPORTED };
        let now_us = now_us();
        let list: Vec<_> = samples
            .iter()
            .map(|sample| nvmlProcessUtilizationSample_t {
                pid: sample.pid,
                timeStamp: sample.at_us.unwrap_or(now_us),
                smUtil: sample.sm_pct,
                memUtil: 0,
                encUtil: 0,
                decUtil: 0,
            })
            .filter(|sample| sample.timeStamp > since_us)
            .collect();
        if list.is_empty() {
            return NOT_FOUND;
        }
        let said = list.len();
        put_list(count, to, &list, said)
    })
}

#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetMigMode(
    handle: nvmlDevice_t,
    current: *mut c_uint,
    pending: *mut c_uint,
) -> Answer {
    with("nvmlDeviceGetMigMode", handle, |gpu| {
        let mode = c_uint::from(gpu.mig.is_some());
        put(pending, mode);
        put(current, mode)
    })
}

#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetMaxMigDeviceCount(handle: nvmlDevice_t, to: *mut c_uint) -> Answer {
    with("nvmlDeviceGetMaxMigDeviceCount", handle, |_| put(to, 7))
}

#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetMigDeviceHandleByIndex(
    handle: nvmlDevice_t,
    index: c_uint,
    to: *mut nvmlDevice_t,
) -> Answer {
    with("nvmlDeviceGetMigDeviceHandleByIndex", handle, |gpu| {
        match gpu.mig.as_ref().and_then(|instances| instances.get(index as usize)) {
            Some(_) => put(to, device(indexes(handle).0, Some(index as usize))),
            None => NOT_FOUND,
        }
    })
}

/// With the function after it, tells drivers apart by the layout of their process lists.
#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetConfComputeMemSizeInfo(
    _handle: nvmlDevice_t,
    _to: *mut c_ulonglong,
) -> Answer {
    NOT_SUPPORTED
}

#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetRunningProcessDetailList(
    _handle: nvmlDevice_t,
    _to: *mut c_ulonglong,
) -> Answer {
    NOT_SUPPORTED
}

/// An event set belongs to the GPU that is registered in it, and holds its index plus 1.
#[unsafe(no_mangle)]
extern "C" fn nvmlEventSetCreate(to: *mut nvmlEventSet_t) -> Answer {
    with_machine("nvmlEventSetCreate", |_| put(to, Box::into_raw(Box::new(0_usize)).cast()))
}

#[unsafe(no_mangle)]
extern "C" fn nvmlEventSetFree(set: nvmlEventSet_t) -> Answer {
    // SAFETY: it was made by `nvmlEventSetCreate`, and the caller gives it up.
    drop(unsafe { Box::from_raw(set.cast::<usize>()) });
    SUCCESS
}

#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetSupportedEventTypes(
    handle: nvmlDevice_t,
    to: *mut c_ulonglong,
) -> Answer {
    with("nvmlDeviceGetSupportedEventTypes", handle, |_| {
        put(to, c_ulonglong::from(nvmlEventTypeXidCriticalError))
    })
}

#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceRegisterEvents(
    handle: nvmlDevice_t,
    _types: c_ulonglong,
    set: nvmlEventSet_t,
) -> Answer {
    with("nvmlDeviceRegisterEvents", handle, |_| put(set.cast::<usize>(), handle as usize))
}

#[unsafe(no_mangle)]
extern "C" fn nvmlEventSetWait_v2(
    set: nvmlEventSet_t,
    to: *mut nvmlEventData_t,
    _timeout_ms: c_uint,
) -> Answer {
    // SAFETY: it was made by `nvmlEventSetCreate` and is not freed yet.
    let number = unsafe { set.cast::<usize>().read() };
    let handle = ptr::without_provenance_mut(number);
    with("nvmlEventSetWait_v2", handle, |gpu| {
        let mut state = state();
        let taken = state.xids_taken.entry(number).or_default();
        let Some(&xid) = gpu.xids.get(*taken) else { return TIMEOUT };
        *taken += 1;
        let event = nvmlEventData_t {
            device: handle,
            eventType: c_ulonglong::from(nvmlEventTypeXidCriticalError),
            eventData: xid,
            gpuInstanceId: c_uint::MAX,
            computeInstanceId: c_uint::MAX,
        };
        put(to, event)
    })
}
