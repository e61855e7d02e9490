//! Every process of the machine: who started it and which worker it belongs to.
//!
//! Invariant: a process is its PID together with its start time. Of a process that is known
//! already nothing is read, except while it is young (a script that ends in `exec`) and then
//! once in [`TURNS`] scans, which is when an `exec` long after the start and a PID that was
//! used again within one scan are noticed.

use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use crate::collect::Scan;
use crate::collect::file::is_gone;
use crate::collect::process::{SETTLING, Stat, parse_stat};
use crate::collect::server::MAX_CMDLINE;
use crate::collect::text::number;

/// The most processes of the machine that are looked at.
const MAX_PROCESSES: usize = 1 << 16;
/// A settled process is read again in every so many scans.
const TURNS: u32 = 32;
/// The deepest line of ancestors that is followed.
const MAX_ANCESTORS: usize = 64;
/// The process that starts the kernel's own.
const KERNEL_THREADS: u32 = 2;

/// One process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Known {
    pub(super) pid: u32,
    pub(super) started_ticks: u64,
    /// Who started it: not the process that took it over when that one ended.
    parent: u32,
    /// The first process of the worker that it belongs to, or 0.
    pub(super) owner: u32,
    pub(super) is_supervisor: bool,
    is_settled: bool,
    is_kernel: bool,
}

/// All processes, in ascending order of their PIDs.
#[derive(Default)]
pub(super) struct Census {
    known: Vec<Known>,
    turn: u32,
}

impl Census {
    /// Lists the processes, and hands the command line of each that is new or due to `see`.
    pub(super) fn take(
        &mut self,
        scan: &mut Scan<'_>,
        mut see: impl FnMut(&Known, &[u8], &Path),
    ) -> io::Result<()> {
        let pids = list(scan)?;
        self.turn = self.turn.wrapping_add(1);
        let before = std::mem::take(&mut self.known);
        let mut before = before.into_iter().peekable();
        self.known.reserve(pids.len());
        for pid in pids {
            while before.next_if(|known| known.pid < pid).is_some() {}
            let known = before.next_if(|known| known.pid == pid);
            let is_due = |known: &Known| {
                !known.is_settled || pid.wrapping_add(self.turn).is_multiple_of(TURNS)
            };
            match known {
                Some(known) if !is_due(&known) => self.known.push(known),
                known => match look(pid, known, scan, &mut see) {
                    Ok(known) => self.known.extend(known),
                    Err(error) if is_gone(&error) => {}
                    // It is tried again; if it is a part of a worker, the worker says so.
                    Err(_) => self.known.extend(known),
                },
            }
        }
        Ok(())
    }

    pub(super) fn get(&self, pid: u32) -> Option<&Known> {
        let index = self.known.binary_search_by_key(&pid, |known| known.pid).ok()?;
        self.known.get(index)
    }

    pub(super) fn get_mut(&mut self, pid: u32) -> Option<&mut Known> {
        let index = self.known.binary_search_by_key(&pid, |known| known.pid).ok()?;
        self.known.get_mut(index)
    }

    /// The processes that started it, the nearest first, as far back as they still live.
    pub(super) fn ancestors(&self, pid: u32) -> impl Iterator<Item = &Known> {
        let parent = |child: &&Known| {
            // The PID of a parent that has ended may have gone to a younger process.
            self.get(child.parent).filter(|parent| parent.started_ticks <= child.started_ticks)
        };
        let first = self.get(pid).as_ref().and_then(parent);
        std::iter::successors(first, move |known| parent(known)).take(MAX_ANCESTORS)
    }

    /// The first process of the worker that this one belongs to.
    pub(super) fn owner(&self, pid: u32, is_first: impl Fn(u32) -> bool) -> Option<u32> {
        if is_first(pid) {
            return Some(pid);
        }
        self.get(pid).filter(|known| !known.is_supervisor)?;
        self.owner_above(pid, is_first)
    }

    /// The first process of the worker that this one was started by. With a part of its
    /// ancestors gone it stays where it was.
    pub(super) fn owner_above(&self, pid: u32, is_first: impl Fn(u32) -> bool) -> Option<u32> {
        let known = self.get(pid)?;
        let mut last = known;
        for at in self.ancestors(pid) {
            if is_first(at.pid) {
                return Some(at.pid);
            }
            if at.is_supervisor {
                return None;
            }
            last = at;
        }
        // The PID of an owner that has ended may have gone to a younger process.
        let owner = self.get(last.owner)?;
        let is_older = owner.pid != pid && owner.started_ticks <= known.started_ticks;
        (is_older && is_first(owner.pid)).then_some(owner.pid)
    }

    /// Every process that is not the kernel's.
    pub(super) fn programs(&self) -> impl Iterator<Item = &Known> {
        self.known.iter().filter(|known| !known.is_kernel)
    }
}

/// The PIDs in `/proc`, ascending.
fn list(scan: &mut Scan<'_>) -> io::Result<Vec<u32>> {
    let mut pids = Vec::new();
    for entry in fs::read_dir(scan.proc_root)? {
        let name = entry?.file_name();
        let pid = number(name.as_bytes()).and_then(|pid| u32::try_from(pid).ok());
        let Some(pid) = pid.filter(|&pid| pid != 0) else { continue };
        if pids.len() == MAX_PROCESSES {
            let reason = format_args!("only {MAX_PROCESSES} of them are looked at");
            scan.complaints.add("the machine has too many processes", reason);
            break;
        }
        pids.push(pid);
    }
    pids.sort_unstable();
    Ok(pids)
}

/// Reads one process; `None` if it is a zombie.
fn look(
    pid: u32,
    known: Option<Known>,
    scan: &mut Scan<'_>,
    see: &mut impl FnMut(&Known, &[u8], &Path),
) -> io::Result<Option<Known>> {
    let dir = scan.proc_root.join(pid.to_string());
    let text = scan.buffer.read_once(&dir.join("stat"), MAX_CMDLINE)?;
    let unreadable = || io::Error::new(io::ErrorKind::InvalidData, "stat has an unknown form");
    let Stat { parent, started_ticks, is_zombie, .. } = parse_stat(text).ok_or_else(unreadable)?;
    if is_zombie {
        return Ok(None);
    }
    let known = known.filter(|known| known.started_ticks == started_ticks);
    let known = Known {
        pid,
        started_ticks,
        parent: known.map_or(parent, |known| known.parent),
        owner: known.map_or(0, |known| known.owner),
        is_supervisor: false,
        is_settled: scan.age(started_ticks) >= SETTLING,
        is_kernel: pid == KERNEL_THREADS || parent == KERNEL_THREADS,
    };
    if !known.is_kernel {
        // What is not shown to this user is not known; that is the doctor's to say.
        match scan.buffer.read_once(&dir.join("cmdline"), MAX_CMDLINE) {
            Ok(cmdline) => see(&known, cmdline, &dir),
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {}
            Err(error) => return Err(error),
        }
    }
    Ok(Some(known))
}
