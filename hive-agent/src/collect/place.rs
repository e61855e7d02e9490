//! Where a worker is: its name, and what is measured as it.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use hive_contract::{Group, Instance};

/// One worker, before anything is measured.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) group: Group,
    pub(super) instance: Instance,
    /// The server's process; absent in the slice, where it is found among the others.
    pub(super) first: Option<Member>,
    pub(super) extent: Extent,
}

/// What is measured as one worker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Extent {
    /// Everything at and below a cgroup. The inode tells a directory from a later one of the
    /// same name.
    Cgroup { dir: PathBuf, inode: u64 },
    /// These processes, which share their cgroup with others.
    Processes(Arc<[Member]>),
}

/// One process: a PID that was used again is another one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Member {
    pub(super) pid: u32,
    pub(super) started_ticks: u64,
}

impl Place {
    /// The directory with the cgroup's counters.
    pub(super) fn dir(&self) -> Option<&Path> {
        match &self.extent {
            Extent::Cgroup { dir, .. } => Some(dir),
            Extent::Processes(_) => None,
        }
    }

    /// Whether it is still the same worker, which may have got or lost processes.
    pub(super) fn is_same(&self, other: &Self) -> bool {
        let is_same_extent = match (&self.extent, &other.extent) {
            (Extent::Processes(_), Extent::Processes(_)) => true,
            (one, other) => one == other,
        };
        is_same_extent
            && self.first == other.first
            && (&self.group, &self.instance) == (&other.group, &other.instance)
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.group, self.instance)
    }
}
