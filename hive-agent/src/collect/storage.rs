//! Storage traffic of a cgroup, from `io.stat`.
//!
//! A line per device: `8:16 rbytes=4096 wbytes=0 rios=1 …`, with further keys where the cost
//! model is on, and on some kernels torn: a device without values.

use std::fs;
use std::path::Path;
use std::time::Duration;

use super::growth::Growth;
use super::text::{lines, number, words};

/// The most devices of one worker; what goes to further ones is not counted.
const MAX_DEVICES: usize = 256;

/// The traffic of one cgroup from reading to reading, device by device.
///
/// Invariant: a device that is missing from a reading keeps its last value, so that its
/// return is no burst.
#[derive(Default)]
pub(super) struct Storage {
    devices: Vec<Device>,
    read: Growth,
    written: Growth,
}

struct Device {
    id: DeviceId,
    /// It only passes its traffic on to other devices, which are counted themselves.
    is_stacked: bool,
    read_bytes: u64,
    written_bytes: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct DeviceId {
    major: u64,
    minor: u64,
}

impl Storage {
    /// Takes a reading of `io.stat`; bytes read and written per second since the last one.
    pub(super) fn per_s(
        &mut self,
        text: &[u8],
        at: Duration,
        sys_root: &Path,
    ) -> (Option<f64>, Option<f64>) {
        for (id, read, written) in lines(text).filter_map(parse_line) {
            let Some(device) = self.device(id, sys_root) else { continue };
            let read = read.unwrap_or(device.read_bytes);
            let written = written.unwrap_or(device.written_bytes);
            let last_read = std::mem::replace(&mut device.read_bytes, read);
            let last_written = std::mem::replace(&mut device.written_bytes, written);
            // One device that begins anew would hide in the growth of the others.
            if read < last_read {
                self.read.reset();
            }
            if written < last_written {
                self.written.reset();
            }
        }
        let counted = || self.devices.iter().filter(|device| !device.is_stacked);
        let read = counted().fold(0_u64, |sum, device| sum.saturating_add(device.read_bytes));
        let written = counted().fold(0_u64, |sum, device| sum.saturating_add(device.written_bytes));
        (self.read.per_s(read, at), self.written.per_s(written, at))
    }

    /// Forgets everything: the next reading is a first one.
    pub(super) fn reset(&mut self) {
        self.devices.clear();
        self.read.reset();
        self.written.reset();
    }

    fn device(&mut self, id: DeviceId, sys_root: &Path) -> Option<&mut Device> {
        let index = match self.devices.iter().position(|device| device.id == id) {
            Some(index) => index,
            None if self.devices.len() < MAX_DEVICES => {
                let is_stacked = is_stacked(id, sys_root);
                self.devices.push(Device { id, is_stacked, read_bytes: 0, written_bytes: 0 });
                self.devices.len() - 1
            }
            None => return None,
        };
        self.devices.get_mut(index)
    }
}

type Line = (DeviceId, Option<u64>, Option<u64>);

/// One device with the bytes read and written, where the line says so.
fn parse_line(line: &[u8]) -> Option<Line> {
    let mut fields = words(line);
    let id = fields.next()?;
    let colon = id.iter().position(|&byte| byte == b':')?;
    let id = DeviceId { major: number(&id[..colon])?, minor: number(&id[colon + 1..])? };
    let (mut read, mut written) = (None, None);
    for field in fields {
        if let Some(value) = field.strip_prefix(b"rbytes=") {
            read = number(value);
        } else if let Some(value) = field.strip_prefix(b"wbytes=") {
            written = number(value);
        }
    }
    Some((id, read, written))
}

/// Whether a device is built upon others (device mapper, RAID): its traffic shows up there too.
fn is_stacked(id: DeviceId, sys_root: &Path) -> bool {
    let slaves = sys_root.join(format!("dev/block/{}:{}/slaves", id.major, id.minor));
    fs::read_dir(slaves).is_ok_and(|mut entries| entries.next().is_some())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const S: fn(u64) -> Duration = Duration::from_secs;

    #[test]
    fn keys_are_found_in_any_company() {
        let line = b"8:40000 rbytes=1 wbytes=2 rios=3 wios=4 dbytes=0 dios=0 cost.vrate=100.00 cost.usage=7";
        let id = DeviceId { major: 8, minor: 40000 };
        assert_eq!(parse_line(line), Some((id, Some(1), Some(2))));
        assert_eq!(parse_line(b"8:40000 "), Some((id, None, None)));
        assert_eq!(parse_line(b"8:40000 rbytes=x wbytes=5"), Some((id, None, Some(5))));
        for torn in ["", "8", "8:", ":1", "a:b rbytes=1", "rbytes=1"] {
            assert_eq!(parse_line(torn.as_bytes()), None, "{torn:?}");
        }
    }

    #[test]
    fn stacked_devices_are_not_counted_twice() {
        let sys = tempfile::tempdir().unwrap();
        fs::create_dir_all(sys.path().join("dev/block/253:0/slaves/sda")).unwrap();
        fs::create_dir_all(sys.path().join("dev/block/8:0/slaves")).unwrap();
        let mut storage = Storage::default();
        assert_eq!(storage.per_s(b"", S(1), sys.path()), (None, None));
        let text = b"253:0 rbytes=100 wbytes=10\n8:0 rbytes=100 wbytes=10\n";
        assert_eq!(storage.per_s(text, S(2), sys.path()), (Some(100.0), Some(10.0)));
    }

    #[test]
    fn a_torn_line_is_no_burst() {
        let mut storage = Storage::default();
        let sys = Path::new("/nonexistent");
        storage.per_s(b"8:0 rbytes=1000 wbytes=1000\n", S(1), sys);
        assert_eq!(storage.per_s(b"8:0 \n", S(2), sys), (Some(0.0), Some(0.0)));
        assert_eq!(storage.per_s(b"", S(3), sys), (Some(0.0), Some(0.0)));
        let whole = b"8:0 rbytes=1005 wbytes=1000\n";
        assert_eq!(storage.per_s(whole, S(4), sys), (Some(5.0), Some(0.0)));
        let anew = b"8:0 rbytes=5 wbytes=2000\n";
        assert_eq!(storage.per_s(anew, S(5), sys), (None, Some(1000.0)));
    }

    proptest! {
        #[test]
        fn any_bytes_are_read(texts: Vec<Vec<u8>>) {
            let mut storage = Storage::default();
            for (at, text) in (0..).zip(texts) {
                storage.per_s(&text, S(at), Path::new("/nonexistent"));
            }
        }

        #[test]
        fn any_line_is_read(id in "[0-9:]{0,12}", rest in "( [rw]bytes=[0-9x]{0,22}){0,3}") {
            let _ = parse_line(format!("{id}{rest}").as_bytes());
        }
    }
}
