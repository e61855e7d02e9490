//! The cgroup of one worker: made, limited, entered, removed.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use hive_contract::{Group, Instance};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::limits::CpuLimit;
use crate::collect::cgroup::SLICE;
use crate::config::ByteSize;

/// How long processes may take to end after the command has.
const ENDING_LIMIT: Duration = Duration::from_millis(500);

/// Why a cgroup cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum PlaceError {
    /// It cannot be made.
    #[error(
        "cannot create the cgroup {dir}: {reason}; run as root, or inside a systemd service with \
         Delegate=yes and User= your user, and name its cgroup with --cgroup-root"
    )]
    Create {
        /// Its directory.
        dir: PathBuf,
        /// The reason.
        reason: io::Error,
    },
    /// The root is not a cgroup v2 tree.
    #[error(
        "{root} is not in a cgroup v2 tree: it has no cgroup.procs; name the directory that \
         contains {SLICE} with --cgroup-root"
    )]
    NotCgroup {
        /// The directory that was named.
        root: PathBuf,
    },
    /// Another worker runs there.
    #[error(
        "the worker {group}/{instance} runs already, in {dir}; end it first, or choose another \
         --instance"
    )]
    Taken {
        /// The worker's group.
        group: Group,
        /// The worker's instance.
        instance: Instance,
        /// Its directory.
        dir: PathBuf,
    },
    /// No process can be put into it.
    #[error(
        "cannot put a process into the cgroup {dir}: {reason}; this needs write access to \
         cgroup.procs there and in the closest common ancestor: run as root, or inside a systemd \
         service with Delegate=yes and User= your user, and name its cgroup with --cgroup-root"
    )]
    Enter {
        /// Its directory.
        dir: PathBuf,
        /// The reason.
        reason: io::Error,
    },
}

/// The cgroup of one worker, held by this process while it exists.
#[derive(Debug)]
pub(super) struct Place {
    root: PathBuf,
    group_dir: PathBuf,
    dir: PathBuf,
    /// Locked, so that no other `spawn` uses the same cgroup between making and entering it.
    _lock: File,
}

impl Place {
    /// Makes an empty cgroup, with the controllers that can be had.
    pub(super) fn prepare(
        root: &Path,
        group: &Group,
        instance: &Instance,
    ) -> Result<Self, PlaceError> {
        if !root.join("cgroup.procs").exists() {
            return Err(PlaceError::NotCgroup { root: root.to_owned() });
        }
        let slice = root.join(SLICE);
        let group_dir = slice.join(group.as_str());
        let dir = group_dir.join(instance.as_str());
        let taken = || PlaceError::Taken {
            group: group.clone(),
            instance: instance.clone(),
            dir: dir.clone(),
        };
        if is_populated(&dir) {
            return Err(taken());
        }
        let lock = loop {
            for ancestor in [&slice, &group_dir] {
                create(ancestor)?;
            }
            for ancestor in [root, &slice, &group_dir] {
                enable_controllers(ancestor);
            }
            // Left behind by an earlier worker: made anew, it has no limits and counts from 0.
            // One that is locked belongs to another `spawn`, which has yet to enter it.
            if let Ok(left) = File::open(&dir) {
                if matches!(left.try_lock(), Err(TryLockError::WouldBlock)) {
                    return Err(taken());
                }
                remove_empty(&dir);
            }
            create(&dir)?;
            let failed = |reason| PlaceError::Create { dir: dir.clone(), reason };
            let lock = match File::open(&dir) {
                Ok(file) => file,
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => return Err(failed(error)),
            };
            match lock.try_lock() {
                Ok(()) if is_still(&lock, &dir) => break lock,
                // Another one removed it in between.
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => return Err(taken()),
                Err(TryLockError::Error(error)) => return Err(failed(error)),
            }
        };
        if is_populated(&dir) {
            return Err(taken());
        }
        Ok(Self { root: root.to_owned(), group_dir, dir, _lock: lock })
    }

    /// Sets the limits; says which ones could not be set, and why.
    pub(super) fn limit(&self, cpu: Option<CpuLimit>, memory: Option<ByteSize>) -> Vec<String> {
        let cpu = cpu.map(|limit| (limit.to_string(), limit.cpu_max()));
        let memory = memory.map(|limit| (limit.to_string(), limit.bytes().to_string()));
        let limits = [("cpu", "cpu.max", cpu), ("memory", "memory.max", memory)];
        let apply = |(controller, file, limit): (_, _, Option<(String, String)>)| {
            let (shown, content) = limit?;
            let reason = self.apply(controller, file, &content).err()?;
            Some(format!("{controller} limit of {shown} not applied: {reason}"))
        };
        limits.into_iter().filter_map(apply).collect()
    }

    fn apply(&self, controller: &str, file: &str, content: &str) -> Result<(), String> {
        let path = self.dir.join(file);
        match fs::OpenOptions::new().write(true).open(&path) {
            Ok(mut file) => io::Write::write_all(&mut file, content.as_bytes())
                .map_err(|error| format!("cannot write {}: {error}", path.display())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let available = self.root.join("cgroup.controllers");
                let available = fs::read_to_string(available).unwrap_or_default();
                Err(if available.split_whitespace().any(|name| name == controller) {
                    format!(
                        "the {controller} controller is not enabled for {}; enable it in \
                         cgroup.subtree_control of every directory above",
                        self.group_dir.display()
                    )
                } else {
                    format!(
                        "the cgroup v2 tree at {} has no {controller} controller; on a machine \
                         that also mounts cgroup v1, v1 has taken it",
                        self.root.display()
                    )
                })
            }
            Err(error) => Err(format!("cannot open {}: {error}", path.display())),
        }
    }

    /// The file through which a process enters.
    pub(super) fn entry(&self) -> Result<File, PlaceError> {
        let path = self.dir.join("cgroup.procs");
        OpenOptions::new().write(true).open(path).map_err(|error| self.cannot_enter(error))
    }

    pub(super) fn cannot_enter(&self, reason: io::Error) -> PlaceError {
        PlaceError::Enter { dir: self.dir.clone(), reason }
    }

    /// Removes the cgroup, and the group's directory if it was the last one; says so if
    /// processes are left in it. Those that are just ending get a moment, so that the worker
    /// can be started again right away.
    pub(super) fn remove(self) -> Option<String> {
        if !becomes_empty(&self.dir) {
            return Some(format!(
                "processes of the worker are left in {}; end them with: echo 1 > {}",
                self.dir.display(),
                self.dir.join("cgroup.kill").display()
            ));
        }
        remove_empty(&self.dir);
        // Refused while another worker of the group has its directory there.
        let _ = fs::remove_dir(&self.group_dir);
        None
    }
}

fn create(dir: &Path) -> Result<(), PlaceError> {
    match fs::create_dir(dir) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
            Err(PlaceError::Create { dir: dir.to_owned(), reason: error })
        }
        _ => Ok(()),
    }
}

fn is_populated(dir: &Path) -> bool {
    let events = fs::read_to_string(dir.join("cgroup.events")).unwrap_or_default();
    events.lines().any(|line| line == "populated 1")
}

/// Waits, for at most [`ENDING_LIMIT`], until no process is in it.
fn becomes_empty(dir: &Path) -> bool {
    // The kernel wakes whoever polls this file when its content changes after it was read.
    let Ok(events) = File::open(dir.join("cgroup.events")) else { return true };
    let deadline = Instant::now() + ENDING_LIMIT;
    let mut text = [0; 256];
    loop {
        let length = events.read_at(&mut text, 0).unwrap_or(0);
        if !text[..length].starts_with(b"populated 1") {
            return true;
        }
        let left = deadline.saturating_duration_since(Instant::now());
        let Ok(timeout) = Timespec::try_from(left) else { return false };
        let changed = poll(&mut [PollFd::new(&events, PollFlags::PRI)], Some(&timeout));
        if left.is_zero() || changed.is_err() {
            return false;
        }
    }
}

fn is_still(open: &File, dir: &Path) -> bool {
    let inode = |metadata: fs::Metadata| metadata.ino();
    open.metadata().map(inode).ok() == fs::metadata(dir).map(inode).ok()
}

/// Lets the children of a directory have the controllers, one by one: any may be missing or
/// taken, and whether a limit can be set shows when it is set.
fn enable_controllers(dir: &Path) {
    for controller in ["+cpu", "+memory", "+io"] {
        let _ = OpenOptions::new()
            .write(true)
            .open(dir.join("cgroup.subtree_control"))
            .and_then(|mut file| io::Write::write_all(&mut file, controller.as_bytes()));
    }
}

/// Removes a cgroup and those nested in it, as far as they are empty.
fn remove_empty(dir: &Path) {
    let Ok(entries) = fs::read_dir(dir) else { return };
    for entry in entries.flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove_empty(&entry.path());
        }
    }
    // The kernel refuses while a process is in it.
    let _ = fs::remove_dir(dir);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(root: &Path) -> Place {
        let group_dir = root.join(SLICE).join("llm");
        let dir = group_dir.join("8080");
        fs::create_dir_all(&dir).unwrap();
        let lock = File::open(&dir).unwrap();
        Place { root: root.to_owned(), group_dir, dir, _lock: lock }
    }

    #[test]
    fn limits_are_written_where_the_files_are() {
        let root = tempfile::tempdir().unwrap();
        let place = place(root.path());
        fs::write(place.dir.join("cpu.max"), "").unwrap();
        fs::write(place.dir.join("memory.max"), "").unwrap();
        let warnings = place.limit("150%".parse().ok(), "4G".parse().ok());
        assert!(warnings.is_empty(), "{warnings:?}");
        let read = |file| fs::read_to_string(place.dir.join(file)).unwrap();
        assert_eq!(read("cpu.max"), "150000 100000");
        assert_eq!(read("memory.max"), "4294967296");
    }

    #[test]
    fn a_limit_that_cannot_be_set_is_named_with_its_reason() {
        let root = tempfile::tempdir().unwrap();
        let place = place(root.path());
        fs::write(root.path().join("cgroup.controllers"), "cpu io\n").unwrap();
        let warnings = place.limit("150%".parse().ok(), "4G".parse().ok());
        assert_eq!(warnings.len(), 2, "{warnings:?}");
        let cpu = "cpu limit of 150% not applied: the cpu controller is not enabled for ";
        assert!(warnings[0].starts_with(cpu), "{warnings:?}");
        assert!(warnings[1].starts_with("memory limit of 4 GiB not applied: "), "{warnings:?}");
        assert!(warnings[1].contains("has no memory controller"), "{warnings:?}");
        assert!(place.limit(None, None).is_empty());
    }
}
