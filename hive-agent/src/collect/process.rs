//! One process of a worker, and the parsers of its files in `/proc`.
//!
//! Invariant: a process is its PID together with its start time. Its `stat` is opened first
//! and read first in every tick, through the same descriptor for as long as it lives: when
//! the PID goes to another process, that reading fails, and everything kept of this one is
//! dropped with it.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use super::Scan;
use super::file::{Buffer, KeptFile, is_gone};
use super::growth::Growth;
use super::place::Member;
use super::server::{self, Role, Server};
use super::text::{keyed, lines, number, words};

/// So long after its start a process may still turn into another program (a shell script that
/// ends in `exec`), so its command line is read again until then.
pub(super) const SETTLING: Duration = Duration::from_secs(10);
/// So long the storage traffic of a child that ended is expected to show up in its parent's.
const INHERITANCE_WINDOW: Duration = Duration::from_secs(10);

/// What `/proc/PID/stat` says, as far as it is needed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stat {
    /// The parent's PID.
    pub(super) parent: u32,
    /// Processor time in user and kernel mode, in clock ticks.
    pub(super) cpu_ticks: u64,
    /// When it started, in clock ticks since the machine did.
    pub(super) started_ticks: u64,
    /// Its short name, which changes when it turns into another program.
    pub(super) comm: [u8; 16],
    /// It has ended and only waits for its parent to notice.
    pub(super) is_zombie: bool,
}

/// Reads `PID (comm) state ppid …`. The name may hold blanks, brackets and newlines, so the
/// fields are counted from the last closing bracket.
pub(super) fn parse_stat(text: &[u8]) -> Option<Stat> {
    let open = text.iter().position(|&byte| byte == b'(')?;
    let close = text.iter().rposition(|&byte| byte == b')')?;
    let name = text.get(open + 1..close)?;
    let mut comm = [0; 16];
    let length = name.len().min(comm.len());
    comm[..length].copy_from_slice(&name[..length]);

    let mut fields = words(&text[close + 1..]);
    let state = fields.next()?;
    let parent = u32::try_from(number(fields.next()?)?).ok()?;
    let user = number(fields.nth(9)?)?;
    let kernel = number(fields.next()?)?;
    let threads = number(fields.nth(4)?)?;
    let started_ticks = number(fields.nth(1)?)?;
    // With nothing behind it, it may be torn, and half a number is another number.
    fields.next()?;
    // Of a process whose first thread has ended while others run, the kernel says `Z` too.
    let is_zombie = matches!(state, b"Z" | b"X" | b"x") && threads <= 1;
    Some(Stat { parent, cpu_ticks: user.checked_add(kernel)?, started_ticks, comm, is_zombie })
}

/// Resident pages, from `/proc/PID/statm`.
pub(super) fn parse_resident_pages(text: &[u8]) -> Option<u64> {
    number(words(lines(text).next()?).nth(1)?)
}

/// Bytes read from and written to storage, from `/proc/PID/io`.
pub(super) fn parse_io(text: &[u8]) -> Option<(u64, u64)> {
    Some((keyed(text, "read_bytes")?, keyed(text, "write_bytes")?))
}

/// One living process, its files kept open.
pub(super) struct Process {
    pub(super) pid: u32,
    pub(super) stat: Stat,
    dir: PathBuf,
    /// The last reading of its state failed, and [`Process::stat`] is older.
    pub(super) is_torn: bool,
    stat_file: KeptFile,
    statm_file: KeptFile,
    io_file: KeptFile,
    cpu: Growth,
    read: Traffic,
    written: Traffic,
    server: Option<Server>,
    cmdline_is_final: bool,
}

impl Process {
    /// Opens a process; `None` if it has ended or is a zombie.
    pub(super) fn open(pid: u32, scan: &mut Scan<'_>) -> io::Result<Option<Self>> {
        let dir = scan.proc_root.join(pid.to_string());
        let stat_file = match KeptFile::open(&dir.join("stat")) {
            Ok(file) => file,
            Err(error) if is_gone(&error) => return Ok(None),
            Err(error) => return Err(error),
        };
        let mut process = Self {
            pid,
            stat: Stat {
                parent: 0,
                cpu_ticks: 0,
                started_ticks: 0,
                comm: [0; 16],
                is_zombie: true,
            },
            dir,
            is_torn: false,
            stat_file,
            statm_file: KeptFile::default(),
            io_file: KeptFile::default(),
            cpu: Growth::default(),
            read: Traffic::default(),
            written: Traffic::default(),
            server: None,
            cmdline_is_final: false,
        };
        Ok(process.refresh(scan.buffer)?.then_some(process))
    }

    /// Itself, and no later process with its PID.
    pub(super) fn member(&self) -> Member {
        Member { pid: self.pid, started_ticks: self.stat.started_ticks }
    }

    /// Reads the state again; `false` if the process has ended or is a zombie.
    pub(super) fn refresh(&mut self, buffer: &mut Buffer) -> io::Result<bool> {
        self.is_torn = true;
        let text = match self.stat_file.read_record(&self.dir, "stat", buffer) {
            Ok(text) => text,
            Err(error) if is_gone(&error) => return Ok(false),
            Err(error) => return Err(error),
        };
        let stat = parse_stat(text).ok_or_else(|| unreadable("stat"))?;
        if stat.comm != self.stat.comm {
            self.cmdline_is_final = false;
        }
        self.stat = stat;
        self.is_torn = false;
        Ok(!stat.is_zombie)
    }

    /// Processor time since the last call, in ticks per second.
    pub(super) fn cpu_ticks_per_s(&mut self, at: Duration) -> Option<f64> {
        self.cpu.per_s(self.stat.cpu_ticks, at)
    }

    /// Resident memory in pages; 0 if the process ended just now.
    pub(super) fn resident_pages(&mut self, buffer: &mut Buffer) -> io::Result<u64> {
        match self.statm_file.read_record(&self.dir, "statm", buffer) {
            Ok(text) => parse_resident_pages(text).ok_or_else(|| unreadable("statm")),
            Err(error) if is_gone(&error) => Ok(0),
            Err(error) => Err(error),
        }
    }

    /// Storage traffic since the last call, in bytes read and written per second; `None` in
    /// the first reading.
    pub(super) fn io_per_s(
        &mut self,
        at: Duration,
        buffer: &mut Buffer,
    ) -> io::Result<Option<(f64, f64)>> {
        let (read, written) = match self.io_file.read_record(&self.dir, "io", buffer) {
            Ok(text) => parse_io(text).ok_or_else(|| unreadable("io"))?,
            Err(error) if is_gone(&error) => return Ok(None),
            Err(error) => return Err(error),
        };
        let rates = (self.read.per_s(read, at), self.written.per_s(written, at));
        Ok(rates.0.zip(rates.1))
    }

    /// The same without reading anything, for a process that has not run since its last reading;
    /// `None` if there is none.
    pub(super) fn io_of_idle_per_s(&mut self, at: Duration) -> Option<(f64, f64)> {
        self.read.of_idle_per_s(at).zip(self.written.of_idle_per_s(at))
    }

    /// Takes note that a child has ended: the kernel adds the child's storage traffic, which
    /// was already counted, to this process when it takes leave of the child.
    pub(super) fn inherit_io(&mut self, child: &Self, at: Duration) {
        self.read.expect(child.read.total, at);
        self.written.expect(child.written.total, at);
    }

    /// Reads the server on its command line until the process has settled, and again whenever
    /// it turns into another program. What was once seen stays while the process lives: servers
    /// overwrite their command line with a title.
    pub(super) fn read_server(&mut self, age: Duration, buffer: &mut Buffer) {
        if self.cmdline_is_final {
            return;
        }
        let path = self.dir.join("cmdline");
        // The command line is of interest only: without it the model is not known.
        if let Ok(cmdline) = buffer.read_once(&path, server::MAX_CMDLINE) {
            let found = server::recognise_anywhere(cmdline, &self.dir);
            if found.as_ref().is_some_and(|found| found.role != Role::Part) {
                self.server = found;
            }
        }
        self.cmdline_is_final = age >= SETTLING;
    }

    /// The server on its command line, as far as that was read.
    pub(super) fn known_server(&self) -> Option<&Server> {
        self.server.as_ref()
    }

    /// Whether it serves a model, as a server of a known kind.
    pub(super) fn runs_known_server(&self) -> bool {
        let serves = |server: &Server| server.kind.is_some() && server.role == Role::Worker;
        self.server.as_ref().is_some_and(serves)
    }
}

/// One direction of a process's storage traffic, less what it inherited from its children.
#[derive(Default)]
struct Traffic {
    growth: Growth,
    total: u64,
    inherited: u64,
    expected: Option<(u64, Duration)>,
}

impl Traffic {
    fn expect(&mut self, bytes: u64, at: Duration) {
        let pending = self.expected.map_or(0, |(pending, _)| pending);
        self.expected = Some((pending.saturating_add(bytes), at));
    }

    fn per_s(&mut self, total: u64, at: Duration) -> Option<f64> {
        if let Some((expected, since)) = self.expected.take() {
            let inherited = total.saturating_sub(self.total).min(expected);
            self.inherited += inherited;
            let is_due = at.saturating_sub(since) < INHERITANCE_WINDOW;
            self.expected =
                (inherited < expected && is_due).then_some((expected - inherited, since));
        }
        self.total = total;
        self.growth.per_s(total.saturating_sub(self.inherited), at)
    }

    fn of_idle_per_s(&mut self, at: Duration) -> Option<f64> {
        self.growth.stands_still(at)
    }
}

fn unreadable(name: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("{name} has an unknown form"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const FIELDS: &str = "S 1 7 7 0 -1 4194304 100 0 0 0 20 30 40 50 20 0 3 0 4200 1000000 250 \
                          18446744073709551615 1 1 0 0 0 0 0 0 0 0 0 0 17 1 0 0 0 0 0";

    #[test]
    fn a_name_may_hold_anything() {
        for name in ["sh", "a b", "x) S 9 (", ":-) 1 2 3\n4", "", ")", "(((", "VLLM::Worker_TP0"] {
            let stat = parse_stat(format!("7 ({name}) {FIELDS}\n").as_bytes()).unwrap();
            assert_eq!((stat.parent, stat.cpu_ticks, stat.started_ticks), (1, 50, 4200), "{name}");
            assert!(!stat.is_zombie);
        }
    }

    #[test]
    fn a_zombie_has_no_thread_left() {
        let state = |state: &str, threads: &str| {
            let fields = FIELDS.replacen('S', state, 1).replacen(" 3 0 4200", threads, 1);
            parse_stat(format!("7 (sh) {fields}\n").as_bytes()).unwrap().is_zombie
        };
        assert!(state("Z", " 1 0 4200"));
        assert!(!state("Z", " 3 0 4200"));
        assert!(!state("R", " 1 0 4200"));
    }

    #[test]
    fn statm_and_io_are_read() {
        assert_eq!(parse_resident_pages(b"1000 250 80 4 0 90 0\n"), Some(250));
        let io = b"rchar: 9\nwchar: 8\nsyscr: 1\nsyscw: 1\nread_bytes: 4096\nwrite_bytes: 0\ncancelled_write_bytes: 0\n";
        assert_eq!(parse_io(io), Some((4096, 0)));
        assert_eq!(parse_io(b"read_bytes: 4096\n"), None);
    }

    #[test]
    fn what_is_torn_is_no_other_number() {
        let whole = format!("7 (sh) {FIELDS}\n");
        let expected = parse_stat(whole.as_bytes());
        let statm = b"1000 250 80 4 0 90 0\n";
        let io = b"read_bytes: 4096\nwrite_bytes: 8192\n";
        for end in 0..whole.len() {
            let stat = parse_stat(&whole.as_bytes()[..end]);
            assert!(stat.is_none() || stat == expected, "{stat:?} of {end} bytes");
            assert_eq!(parse_resident_pages(&statm[..end.min(statm.len() - 1)]), None);
            assert_eq!(parse_io(&io[..end.min(io.len() - 1)]), None);
        }
    }

    #[test]
    fn what_a_parent_inherits_is_not_counted_twice() {
        let s = Duration::from_secs;
        let mut traffic = Traffic::default();
        assert_eq!(traffic.per_s(10, s(1)), None);
        traffic.expect(1000, s(2));
        assert_eq!(traffic.per_s(20, s(2)), Some(0.0), "its own, or the child's: not known yet");
        assert_eq!(traffic.per_s(1030, s(3)), Some(20.0), "1000 were the child's");
        traffic.expect(500, s(3));
        assert_eq!(traffic.per_s(1030, s(20)), Some(0.0));
        assert_eq!(traffic.per_s(2030, s(21)), Some(1000.0), "the child's never came");
    }

    proptest! {
        #[test]
        fn any_bytes_are_read(bytes: Vec<u8>) {
            let _ = parse_stat(&bytes);
            let _ = parse_resident_pages(&bytes);
            let _ = parse_io(&bytes);
        }

        #[test]
        fn any_name_is_read(name in "\\PC{0,20}|[() \n]{0,15}", cut in 0_usize..200) {
            let text = format!("7 ({name}) {FIELDS}\n");
            prop_assert_eq!(parse_stat(text.as_bytes()).unwrap().started_ticks, 4200);
            let _ = parse_stat(&text.as_bytes()[..cut.min(text.len())]);
        }
    }
}
