//! NVIDIA's GPUs as the kernel lists them on the PCI bus, which wakes none of them.

use std::fs;
use std::path::{Path, PathBuf};

/// One GPU on the bus.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct PciGpu {
    pub(super) is_asleep: bool,
    /// Its address, which orders them as NVML does.
    address: String,
}

/// The GPUs on the bus, in the order of their addresses.
pub(super) fn gpus(sys: &Path) -> Vec<PciGpu> {
    let Ok(entries) = fs::read_dir(sys.join("bus/pci/devices")) else { return Vec::new() };
    let mut gpus: Vec<PciGpu> = entries
        .flatten()
        .filter(|entry| is_gpu(&entry.path()))
        .map(|entry| PciGpu {
            is_asleep: is_asleep(&entry.path()),
            address: entry.file_name().to_string_lossy().into_owned(),
        })
        .collect();
    gpus.sort_unstable_by(|a, b| a.address.cmp(&b.address));
    gpus
}

/// NVIDIA's vendor number and a display controller: VGA or 3D.
fn is_gpu(dir: &Path) -> bool {
    let starts = |name, prefix| {
        fs::read_to_string(dir.join(name)).is_ok_and(|text| text.starts_with(prefix))
    };
    starts("vendor", "0x10de") && starts("class", "0x03")
}

/// Whether the kernel has suspended the device at its directory.
pub(super) fn is_asleep(dir: &Path) -> bool {
    fs::read_to_string(dir.join("power/runtime_status"))
        .is_ok_and(|status| status.trim() == "suspended")
}

/// The directory of the device that NVML calls `00000000:3B:00.0`.
pub(super) fn directory(sys: &Path, bus_id: &str) -> Option<PathBuf> {
    let (domain, rest) = bus_id.split_once(':')?;
    let domain = u32::from_str_radix(domain, 16).ok()?;
    let address = format!("{domain:04x}:{}", rest.to_ascii_lowercase());
    Some(sys.join("bus/pci/devices").join(address))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nvmls_addresses_are_the_kernels() {
        let path = |bus_id| directory(Path::new("/sys"), bus_id);
        let expected = PathBuf::from("/sys/bus/pci/devices/0000:3b:00.0");
        assert_eq!(path("00000000:3B:00.0"), Some(expected));
        let large = PathBuf::from("/sys/bus/pci/devices/10000:01:00.0");
        assert_eq!(path("00010000:01:00.0"), Some(large));
        assert_eq!(path(""), None);
        assert_eq!(path("x:01:00.0"), None);
    }

    #[test]
    fn only_nvidias_display_controllers_count() {
        let sys = tempfile::tempdir().unwrap();
        let device = |address: &str, vendor: &str, class: &str, status: &str| {
            let dir = sys.path().join("bus/pci/devices").join(address);
            fs::create_dir_all(dir.join("power")).unwrap();
            fs::write(dir.join("vendor"), vendor).unwrap();
            fs::write(dir.join("class"), class).unwrap();
            fs::write(dir.join("power/runtime_status"), status).unwrap();
        };
        assert!(gpus(sys.path()).is_empty());
        device("0000:02:00.0", "0x10de\n", "0x030200\n", "suspended\n");
        device("0000:01:00.0", "0x10de\n", "0x030000\n", "active\n");
        device("0000:01:00.1", "0x10de\n", "0x040300\n", "active\n");
        device("0000:00:02.0", "0x8086\n", "0x030000\n", "active\n");
        let found: Vec<_> =
            gpus(sys.path()).into_iter().map(|g| (g.address, g.is_asleep)).collect();
        assert_eq!(found, [("0000:01:00.0".into(), false), ("0000:02:00.0".into(), true)]);
    }
}
