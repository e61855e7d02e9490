//! The machine as the file says it now.

use std::collections::HashMap;
use std::ffi::CStr;
use std::fs::{self, File};
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use crate::machine::{CALLS, FILE, Machine};

static DIR: LazyLock<PathBuf> = LazyLock::new(own_directory);
static STATE: LazyLock<Mutex<State>> = LazyLock::new(Mutex::default);

/// What is kept from call to call.
#[derive(Default)]
pub(crate) struct State {
    stamp: Option<(u64, i64, u64)>,
    machine: Arc<Machine>,
    /// `nvmlInit_v2` calls less `nvmlShutdown` calls.
    pub(crate) users: u32,
    /// How many XIDs of each GPU were handed out.
    pub(crate) xids_taken: HashMap<usize, usize>,
    /// Questions for a number of processes so far.
    pub(crate) counts: u64,
}

pub(crate) fn state() -> MutexGuard<'static, State> {
    STATE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The machine, once it does not hang. The call is noted first.
pub(crate) fn machine(call: &str, gpu: Option<usize>) -> Arc<Machine> {
    let mut is_noted = false;
    loop {
        let machine = state().read();
        if machine.logs_calls && !is_noted {
            note(call, gpu);
            is_noted = true;
        }
        if !machine.hangs {
            return machine;
        }
        thread::sleep(Duration::from_millis(5));
    }
}

impl State {
    fn read(&mut self) -> Arc<Machine> {
        let path = DIR.join(FILE);
        if let Ok(meta) = fs::metadata(&path) {
            let stamp = (meta.ino(), meta.mtime_nsec(), meta.len());
            if self.stamp != Some(stamp) {
                let text = fs::read(&path).unwrap_or_default();
                match serde_json::from_slice(&text) {
                    Ok(machine) => {
                        self.machine = Arc::new(machine);
                        self.stamp = Some(stamp);
                    }
                    Err(error) => eprintln!("fake-nvml: {}: {error}", path.display()),
                }
            }
        }
        Arc::clone(&self.machine)
    }
}

fn note(call: &str, gpu: Option<usize>) {
    let line = match gpu {
        Some(gpu) => format!("{call} {gpu}\n"),
        None => format!("{call}\n"),
    };
    let file = File::options().create(true).append(true).open(DIR.join(CALLS));
    if let Err(error) = file.and_then(|mut file| file.write_all(line.as_bytes())) {
        eprintln!("fake-nvml: {CALLS}: {error}");
    }
}

/// The directory in which this library lies.
fn own_directory() -> PathBuf {
    let mut info = libc::Dl_info {
        dli_fname: std::ptr::null(),
        dli_fbase: std::ptr::null_mut(),
        dli_sname: std::ptr::null(),
        dli_saddr: std::ptr::null_mut(),
    };
    let inside = own_directory as fn() -> PathBuf as *const libc::c_void;
    // SAFETY: the address is one of this library's, and the struct outlives the call.
    let found = unsafe { libc::dladdr(inside, &raw mut info) } != 0 && !info.dli_fname.is_null();
    if !found {
        return PathBuf::new();
    }
    // SAFETY: the loader's own string, which lives as long as this library is loaded.
    let name = unsafe { CStr::from_ptr(info.dli_fname) };
    let path = Path::new(std::ffi::OsStr::from_bytes(name.to_bytes()));
    path.parent().unwrap_or(path).to_owned()
}
