//! Files that are kept open and read again every tick, into one buffer for all of them.
//!
//! Reading a kernel file through a kept descriptor costs a sixth of opening it each time.
//! A kept descriptor also stays with what it was opened for: after the process or cgroup is
//! gone it answers ESRCH or ENODEV, also when its number or name is taken by another.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use rustix::io::Errno;

/// The largest file that is read; what is longer is an error, never cut silently.
const MAX_LEN: usize = 4 << 20;
const FIRST_LEN: usize = 8 << 10;
/// A piece of a list that is shorter than this is the last one.
const SHORT_PIECE: usize = 2 << 10;
/// After a file was not there, so many readings take that for granted: which controllers a
/// cgroup has changes rarely, and looking for their files each time costs as much as reading
/// them.
const ABSENT_FOR: u8 = 10;

/// The one buffer that every file is read into. It grows to the largest file met, at most 4 MiB.
pub(super) struct Buffer {
    bytes: Vec<u8>,
    filled: usize,
}

impl Default for Buffer {
    fn default() -> Self {
        Self { bytes: vec![0; FIRST_LEN], filled: 0 }
    }
}

impl Buffer {
    /// What the last reading gave.
    pub(super) fn text(&self) -> &[u8] {
        &self.bytes[..self.filled]
    }

    fn grow(&mut self) -> io::Result<()> {
        if self.bytes.len() >= MAX_LEN {
            return Err(io::Error::new(io::ErrorKind::FileTooLarge, "longer than 4 MiB"));
        }
        self.bytes.resize(self.bytes.len() * 2, 0);
        Ok(())
    }

    /// Reads a file that the kernel writes as one record: a reading that leaves room in the
    /// buffer is the whole of it, and all of it is from the same moment.
    fn read_record(&mut self, file: &File) -> io::Result<()> {
        self.filled = 0;
        loop {
            let length = file.read_at(&mut self.bytes, 0)?;
            if length < self.bytes.len() {
                self.filled = length;
                return Ok(());
            }
            self.grow()?;
        }
    }

    /// Reads a file that the kernel hands out in pieces, to its end or to `limit` bytes.
    fn read_list(&mut self, file: &File, limit: usize) -> io::Result<()> {
        self.filled = 0;
        while self.filled < limit {
            if self.filled == self.bytes.len() {
                self.grow()?;
            }
            let end = self.bytes.len().min(limit);
            let offset = self.filled as u64;
            let length = file.read_at(&mut self.bytes[self.filled..end], offset)?;
            self.filled += length;
            // Before the end, every piece is about a page: a short one needs no second look.
            if length < SHORT_PIECE {
                break;
            }
        }
        Ok(())
    }

    /// Opens, reads and closes a list, for what is read too rarely to keep it open.
    pub(super) fn read_once(&mut self, path: &Path, limit: usize) -> io::Result<&[u8]> {
        self.filled = 0;
        self.read_list(&File::open(path)?, limit)?;
        Ok(self.text())
    }
}

/// A file that stays open from one tick to the next. After an error it is opened anew.
#[derive(Default)]
pub(super) enum KeptFile {
    #[default]
    Closed,
    Open(File),
    /// It was not there; for so many readings more this is not checked.
    Absent(u8),
}

impl KeptFile {
    /// Opens the file now, so that it belongs to what its path names at this moment.
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        File::open(path).map(Self::Open)
    }

    /// Reads a file of one record.
    pub(super) fn read_record<'b>(
        &mut self,
        dir: &Path,
        name: &str,
        buffer: &'b mut Buffer,
    ) -> io::Result<&'b [u8]> {
        self.read(dir, name, |file| buffer.read_record(file))?;
        Ok(buffer.text())
    }

    /// Reads a file that comes in pieces, whole.
    pub(super) fn read_list<'b>(
        &mut self,
        dir: &Path,
        name: &str,
        buffer: &'b mut Buffer,
    ) -> io::Result<&'b [u8]> {
        self.read(dir, name, |file| buffer.read_list(file, MAX_LEN))?;
        Ok(buffer.text())
    }

    fn read(
        &mut self,
        dir: &Path,
        name: &str,
        read: impl FnOnce(&File) -> io::Result<()>,
    ) -> io::Result<()> {
        if let Self::Absent(readings @ 1..) = self {
            *readings -= 1;
            return Err(Errno::NOENT.into());
        }
        let file = match std::mem::take(self) {
            Self::Open(file) => file,
            Self::Closed | Self::Absent(_) => match File::open(dir.join(name)) {
                Ok(file) => file,
                Err(error) => {
                    if error.kind() == io::ErrorKind::NotFound {
                        *self = Self::Absent(ABSENT_FOR);
                    }
                    return Err(error);
                }
            },
        };
        read(&file)?;
        *self = Self::Open(file);
        Ok(())
    }
}

/// Whether an error only says that the process or the cgroup has ended meanwhile.
pub(super) fn is_gone(error: &io::Error) -> bool {
    let gone = [Errno::NOENT, Errno::SRCH, Errno::NODEV];
    Errno::from_io_error(error).is_some_and(|errno| gone.contains(&errno))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_kept_file_is_read_from_its_start_each_time() {
        let dir = tempfile::tempdir().unwrap();
        let mut buffer = Buffer::default();
        let mut kept = KeptFile::default();
        for text in ["usage_usec 1\n".to_owned(), "x".repeat(3 * FIRST_LEN), String::new()] {
            fs::write(dir.path().join("f"), &text).unwrap();
            let read = kept.read_record(dir.path(), "f", &mut buffer).unwrap();
            assert_eq!(read, text.as_bytes());
            let read = kept.read_list(dir.path(), "f", &mut buffer).unwrap();
            assert_eq!(read, text.as_bytes());
        }
    }

    #[test]
    fn what_is_too_long_is_cut_where_asked_and_refused_otherwise() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f");
        let mut buffer = Buffer::default();
        fs::write(&path, "abc".repeat(1 << 20)).unwrap();
        assert_eq!(buffer.read_once(&path, 65536).unwrap().len(), 65536);
        fs::write(&path, vec![b'x'; MAX_LEN]).unwrap();
        let error = KeptFile::default().read_record(dir.path(), "f", &mut buffer).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::FileTooLarge);
    }

    #[test]
    fn a_file_that_vanished_is_gone_and_can_come_back() {
        let dir = tempfile::tempdir().unwrap();
        let mut buffer = Buffer::default();
        let mut kept = KeptFile::default();
        assert!(is_gone(&kept.read_record(dir.path(), "f", &mut buffer).unwrap_err()));
        fs::write(dir.path().join("f"), "1").unwrap();
        for _ in 0..ABSENT_FOR {
            assert!(is_gone(&kept.read_record(dir.path(), "f", &mut buffer).unwrap_err()));
        }
        assert_eq!(kept.read_record(dir.path(), "f", &mut buffer).unwrap(), b"1");
        assert!(!is_gone(&KeptFile::open(Path::new("/proc/1/fd/nope/..\0")).err().unwrap()));
    }
}
