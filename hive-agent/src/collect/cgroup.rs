//! Where workers are found: the directories `rbee.slice/{group}/{instance}` of the cgroup v2
//! tree, and the processes below one of them.
//!
//! A worker's counters are read at its instance directory, where the kernel sums up the whole
//! tree. Its processes may sit deeper: `cgroup.procs` lists those of one directory only.

use std::fs::{self, DirEntry};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use hive_contract::{Group, Instance};
use rustix::io::Errno;

use super::Scan;
use super::file::{Buffer, KeptFile, is_gone};
use super::place::{Extent, Place};
use super::text::{keyed, lines, number, words};

/// The directory below the root of the tree in which the groups are.
pub const SLICE: &str = "rbee.slice";
/// The most cgroups below one instance that are searched for processes.
const MAX_DESCENDANTS: usize = 256;
/// The most processes of one worker that are looked at one by one.
const MAX_PIDS: usize = 4096;
/// While an instance lists the same processes, cgroups below it are looked for in every so many
/// readings only. What can be late by that is a cgroup that was made there and filled from
/// outside.
const FLAT_TURNS: u32 = 8;
/// The longest `cgroup.procs` of a nested cgroup, in bytes: more than [`MAX_PIDS`] lines.
const MAX_PROCS_LEN: usize = 64 << 10;

/// Why no worker can be found.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The mount table cannot be read.
    #[error("cannot read {path}: {reason}")]
    Mounts {
        /// The file.
        path: PathBuf,
        /// The reason.
        reason: io::Error,
    },
    /// The machine has no cgroup v2 tree.
    #[error(
        "no cgroup v2 file system is mounted; mount one (mount -t cgroup2 none /sys/fs/cgroup) or \
         name the directory that contains {SLICE} with --cgroup-root"
    )]
    NoMount,
}

/// The directory that contains `rbee.slice`: the mount point of cgroup v2, which on a machine
/// with both versions lies beside the v1 hierarchies.
///
/// # Errors
/// The mount table cannot be read, or has no such mount.
pub fn find_root(proc_root: &Path) -> Result<PathBuf, Error> {
    let path = proc_root.join("mounts");
    let mounts = fs::read(&path).map_err(|reason| Error::Mounts { path, reason })?;
    parse_mounts(&mounts).ok_or(Error::NoMount)
}

/// The first cgroup v2 mount of a mount table.
pub(super) fn parse_mounts(mounts: &[u8]) -> Option<PathBuf> {
    use std::os::unix::ffi::OsStringExt;
    lines(mounts).find_map(|line| {
        let mut fields = words(line).skip(1);
        let (point, kind) = (fields.next()?, fields.next()?);
        let path = std::ffi::OsString::from_vec(unescape(point));
        (kind == b"cgroup2").then(|| PathBuf::from(path))
    })
}

/// Blanks and backslashes stand in a mount table as three octal digits.
fn unescape(field: &[u8]) -> Vec<u8> {
    let mut plain = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((&first, after)) = rest.split_first() {
        let octal = |&digit: &u8| (b'0'..=b'7').contains(&digit).then(|| u32::from(digit - b'0'));
        let code = match (first, after) {
            (b'\\', [a, b, c, ..]) => octal(a).zip(octal(b)).zip(octal(c)),
            _ => None,
        };
        match code.and_then(|((a, b), c)| u8::try_from(a * 64 + b * 8 + c).ok()) {
            Some(byte) => {
                plain.push(byte);
                rest = &after[3..];
            }
            None => {
                plain.push(first);
                rest = after;
            }
        }
    }
    plain
}

/// Every instance directory below `rbee.slice`. What is no valid name is reported and left out.
pub(super) fn list(root: &Path, scan: &mut Scan<'_>) -> Vec<Place> {
    let mut places = Vec::new();
    let slice = root.join(SLICE);
    for group in directories(&slice, scan) {
        let Some(name) = valid_name::<Group>(&group, SLICE, scan) else { continue };
        let group_dir = group.path();
        for instance in directories(&group_dir, scan) {
            let parent = format!("{SLICE}/{name}");
            let Some(instance_name) = valid_name::<Instance>(&instance, &parent, scan) else {
                continue;
            };
            use std::os::unix::fs::DirEntryExt;
            places.push(Place {
                group: name.clone(),
                instance: instance_name,
                first: None,
                extent: Extent::Cgroup { dir: instance.path(), inode: instance.ino() },
            });
        }
    }
    places
}

fn directories(dir: &Path, scan: &mut Scan<'_>) -> Vec<DirEntry> {
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        // Before the first worker there is no slice, and a group may end at any time.
        Err(error) if is_gone(&error) => return Vec::new(),
        Err(error) => {
            scan.complaints.add(dir.display(), error);
            return Vec::new();
        }
    };
    entries.flatten().filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())).collect()
}

fn valid_name<N: std::str::FromStr<Err: std::fmt::Display>>(
    entry: &DirEntry,
    parent: &str,
    scan: &mut Scan<'_>,
) -> Option<N> {
    let name = entry.file_name();
    let name = name.to_string_lossy();
    let valid = name.parse();
    valid
        .map_err(|error| scan.complaints.add(format_args!("{parent}/{name} is skipped"), error))
        .ok()
}

/// The processes at and below one instance directory.
#[derive(Default)]
pub(super) struct Tree {
    procs: KeptFile,
    events: KeptFile,
    /// Its processes when there was last seen to be no cgroup below it.
    flat: Vec<u32>,
    /// Counts the readings, and starts again at 0 after the last number.
    turn: u32,
}

/// What was found at and below an instance directory.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Found {
    /// The processes, in ascending order, each once.
    pub(super) pids: Vec<u32>,
    /// There were more processes or cgroups than are looked at.
    pub(super) is_cut: bool,
}

impl Tree {
    /// Every process of the tree; none if it is empty or gone.
    pub(super) fn pids(&mut self, dir: &Path, buffer: &mut Buffer) -> io::Result<Found> {
        let mut found = Found::default();
        match self.procs.read_list(dir, "cgroup.procs", buffer) {
            Ok(procs) if procs.last().is_some_and(|&last| last != b'\n') => {
                return Err(io::Error::new(io::ErrorKind::InvalidData, "cgroup.procs is torn"));
            }
            Ok(procs) => found.add(procs),
            Err(error) if is_gone(&error) => return Ok(found),
            Err(error) if Errno::from_io_error(&error) == Some(Errno::OPNOTSUPP) => {
                if self.is_empty(dir, buffer) {
                    return Ok(found);
                }
                let reason = "is a threaded cgroup, whose processes the kernel does not list";
                return Err(io::Error::new(io::ErrorKind::Unsupported, reason));
            }
            Err(error) => return Err(error),
        }
        if found.pids.is_empty() && self.is_empty(dir, buffer) {
            return Ok(found);
        }
        if !self.is_known_flat(&found.pids) {
            self.flat.clear();
            if has_no_children(dir) {
                self.flat.extend(&found.pids);
            } else {
                found.descend(dir, buffer);
            }
        }
        found.pids.sort_unstable();
        found.pids.dedup();
        Ok(found)
    }

    /// Whether there is no need to look for cgroups below the one with these processes.
    fn is_known_flat(&mut self, pids: &[u32]) -> bool {
        self.turn = self.turn.wrapping_add(1);
        let is_its_turn = |first: &u32| first.wrapping_add(self.turn).is_multiple_of(FLAT_TURNS);
        pids == self.flat && pids.first().is_some_and(|first| !is_its_turn(first))
    }

    /// Whether the kernel says that no process is in the tree at all.
    fn is_empty(&mut self, dir: &Path, buffer: &mut Buffer) -> bool {
        let events = self.events.read_record(dir, "cgroup.events", buffer);
        events.is_ok_and(|events| keyed(events, "populated") == Some(0))
    }
}

impl Found {
    fn add(&mut self, procs: &[u8]) {
        for pid in parse_pids(procs) {
            if self.pids.len() == MAX_PIDS {
                self.is_cut = true;
                return;
            }
            self.pids.push(pid);
        }
    }

    fn descend(&mut self, dir: &Path, buffer: &mut Buffer) {
        let mut waiting = vec![dir.to_owned()];
        let mut visited = 0;
        while let Some(dir) = waiting.pop() {
            // Cgroups come and go; what cannot be listed any more has no processes.
            let Ok(entries) = fs::read_dir(&dir) else { continue };
            for entry in entries.flatten() {
                if !entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                    continue;
                }
                if visited == MAX_DESCENDANTS {
                    self.is_cut = true;
                    return;
                }
                visited += 1;
                let child = entry.path();
                // A threaded cgroup refuses, and its processes are listed further up.
                if let Ok(procs) = buffer.read_once(&child.join("cgroup.procs"), MAX_PROCS_LEN) {
                    self.add(procs);
                }
                waiting.push(child);
            }
        }
    }
}

/// The kernel counts a directory's subdirectories in its links, which spares listing it. File
/// systems that do not count say 1.
fn has_no_children(dir: &Path) -> bool {
    fs::metadata(dir).is_ok_and(|metadata| metadata.nlink() == 2)
}

/// PIDs, one a line. Processes outside the collector's PID namespace stand there as 0.
pub(super) fn parse_pids(procs: &[u8]) -> impl Iterator<Item = u32> {
    lines(procs).filter_map(|line| u32::try_from(number(line)?).ok()).filter(|&pid| pid != 0)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_v2_mount_is_found_beside_v1() {
        let hybrid = b"tmpfs /sys/fs/cgroup tmpfs rw 0 0\n\
            cgroup /sys/fs/cgroup/cpu cgroup rw,cpu 0 0\n\
            cgroup2 /sys/fs/cgroup/unified cgroup2 rw,relatime 0 0\n";
        assert_eq!(parse_mounts(hybrid).unwrap(), Path::new("/sys/fs/cgroup/unified"));
        let odd = b"none /mnt/my\\040cgroups\\134x cgroup2 rw 0 0\n";
        assert_eq!(parse_mounts(odd).unwrap(), Path::new(r"/mnt/my cgroups\x"));
        assert_eq!(parse_mounts(b"cgroup /sys/fs/cgroup/cpu cgroup rw 0 0\n"), None);
    }

    #[test]
    fn processes_are_found_at_any_depth() {
        let dir = tempfile::tempdir().unwrap();
        let deep = dir.path().join("a/b/c");
        fs::create_dir_all(&deep).unwrap();
        fs::create_dir(dir.path().join("empty")).unwrap();
        fs::write(dir.path().join("cgroup.procs"), "").unwrap();
        fs::write(dir.path().join("a/cgroup.procs"), "12\n7\n0\n").unwrap();
        fs::write(deep.join("cgroup.procs"), "99\n7\n").unwrap();
        let mut buffer = Buffer::default();
        let found = Tree::default().pids(dir.path(), &mut buffer).unwrap();
        assert_eq!(found, Found { pids: vec![7, 12, 99], is_cut: false });

        fs::write(dir.path().join("cgroup.events"), "populated 0\nfrozen 0\n").unwrap();
        assert!(Tree::default().pids(dir.path(), &mut buffer).unwrap().pids.is_empty());
        let gone = dir.path().join("gone");
        assert!(Tree::default().pids(&gone, &mut buffer).unwrap().pids.is_empty());
    }

    #[test]
    fn the_search_is_bounded() {
        let dir = tempfile::tempdir().unwrap();
        let pids: String = (1..=5000).map(|pid| format!("{pid}\n")).collect();
        fs::write(dir.path().join("cgroup.procs"), pids).unwrap();
        let found = Tree::default().pids(dir.path(), &mut Buffer::default()).unwrap();
        assert_eq!((found.pids.len(), found.is_cut), (MAX_PIDS, true));
    }

    proptest! {
        #[test]
        fn any_bytes_are_read(bytes: Vec<u8>) {
            let _ = parse_mounts(&bytes);
            prop_assert!(parse_pids(&bytes).all(|pid| pid != 0));
            prop_assert!(unescape(&bytes).len() <= bytes.len());
        }
    }
}
