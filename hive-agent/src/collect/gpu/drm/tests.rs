//! Machines made of files.

use std::os::unix::fs::symlink;

use hive_contract::units::Mebibytes;

use super::*;

const MIB: u64 = 1 << 20;
const S: fn(u64) -> Duration = Duration::from_secs;

struct Machine {
    dir: tempfile::TempDir,
    backend: DrmBackend,
}

impl Machine {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = |name| dir.path().join(name);
        let sources = Sources { nvml: path("nvml.so"), sys: path("sys"), proc: path("proc") };
        let backend = DrmBackend::new(sources);
        Self { dir, backend }
    }

    fn write(&self, path: &str, content: &str) {
        let path = self.dir.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }

    fn card(&self, number: u32, driver: &str, address: &str) -> String {
        let device = format!("sys/class/drm/card{number}/device");
        let uevent = format!("DRIVER={driver}\nPCI_CLASS=30000\nPCI_SLOT_NAME={address}\n");
        self.write(&format!("{device}/uevent"), &uevent);
        device
    }

    fn amd(&self, number: u32, address: &str) -> String {
        let device = self.card(number, "amdgpu", address);
        self.write(&format!("{device}/gpu_busy_percent"), "40\n");
        self.write(&format!("{device}/mem_info_vram_used"), &format!("{}\n", 900 * MIB));
        self.write(&format!("{device}/mem_info_vram_total"), &format!("{}\n", 16_000 * MIB));
        device
    }

    /// A descriptor of a process, with what it says.
    fn fd(&self, pid: u32, fd: u32, target: &str, info: &str) {
        let dir = self.dir.path().join(format!("proc/{pid}/fd"));
        fs::create_dir_all(&dir).unwrap();
        let _ = fs::remove_file(dir.join(fd.to_string()));
        symlink(target, dir.join(fd.to_string())).unwrap();
        self.write(&format!("proc/{pid}/fdinfo/{fd}"), info);
    }

    fn client(&self, pid: u32, fd: u32, address: &str, client: u64, mb: u64, busy_ms: u64) {
        let info = format!(
            "pos:\t0\ndrm-driver:\tamdgpu\ndrm-client-id:\t{client}\ndrm-pdev:\t{address}\n\
             drm-memory-vram:\t{} KiB\ndrm-engine-compute:\t{} ns\n",
            mb * 1024,
            busy_ms * 1_000_000
        );
        self.fd(pid, fd, "/dev/dri/renderD128", &info);
    }

    fn kfd_gpu(&self, node: u32, id: u32, location: u32) {
        let node = format!("sys/class/kfd/kfd/topology/nodes/{node}");
        self.write(&format!("{node}/gpu_id"), &format!("{id}\n"));
        let properties = format!("cpu_cores_count 0\nlocation_id {location}\ndomain 0\n");
        self.write(&format!("{node}/properties"), &properties);
    }

    fn kfd_process(&self, pid: u32, id: u32, mb: u64) {
        let path = format!("sys/class/kfd/kfd/proc/{pid}/vram_{id}");
        self.write(&path, &format!("{}\n", mb * MIB));
    }
}

/// Who uses a device: PID, MiB and percent.
fn uses(device: &Device) -> Vec<(u32, Option<u64>, Option<f64>)> {
    let mut uses: Vec<_> = device
        .uses
        .iter()
        .map(|used| (used.pid, used.vram_bytes.map(|b| b / MIB), used.util_pct.map(Percent::get)))
        .collect();
    uses.sort_by_key(|used| used.0);
    uses
}

#[test]
fn an_amd_card_and_its_users_are_read() {
    let mut machine = Machine::new();
    let device = machine.amd(1, "0000:03:00.0");
    machine.write(&format!("{device}/unique_id"), "1a2b3c4d5e6f7081\n");
    machine.write(&format!("{device}/product_name"), "Instinct MI300X\n");
    machine.write(&format!("{device}/hwmon/hwmon4/temp1_input"), "54000\n");
    machine.write(&format!("{device}/hwmon/hwmon4/power1_average"), "310500000\n");
    machine.write("sys/class/drm/card1-DP-1/status", "connected\n");
    machine.card(0, "nvidia", "0000:01:00.0");
    machine.client(10, 5, "0000:03:00.0", 1, 100, 0);
    machine.client(10, 6, "0000:03:00.0", 2, 50, 0);
    // The same client through another descriptor, and in a forked child.
    machine.client(10, 7, "0000:03:00.0", 2, 50, 0);
    machine.client(11, 5, "0000:03:00.0", 1, 100, 0);
    machine.fd(12, 3, "/dev/null", "pos:\t0\n");
    // It looked at all GPUs, and works elsewhere.
    machine.client(13, 5, "0000:03:00.0", 9, 0, 0);
    let first = machine.backend.read(&[10, 11, 12, 13, 99], S(1));
    assert_eq!(uses(&first.devices[0]), [(10, Some(150), None)]);

    for (fd, client, busy_ms) in [(5, 1, 200), (6, 2, 300), (7, 2, 300)] {
        machine.client(10, fd, "0000:03:00.0", client, 75, busy_ms);
    }
    let second = machine.backend.read(&[10, 11, 12, 13, 99], S(2));
    let device = &second.devices[0];
    assert_eq!(uses(device), [(10, Some(150), Some(50.0))]);
    let json = serde_json::to_value(&device.gpu).unwrap();
    let expected = serde_json::json!({
        "uuid": "GPU-1a2b3c4d5e6f7081", "index": 0, "name": "Instinct MI300X", "util_pct": 40.0,
        "memory_used_mb": 900, "memory_total_mb": 16000, "temperature_c": 54, "power_w": 310.5,
        "state": "ok"
    });
    assert_eq!(json, expected);
    assert!(second.complaints.is_empty(), "{:?}", second.complaints);
}

#[test]
fn rocm_has_a_utilisation_only_where_there_is_no_doubt() {
    let mut machine = Machine::new();
    let busy = machine.amd(0, "0000:03:00.0");
    machine.amd(1, "0000:43:00.0");
    machine.kfd_gpu(0, 0, 0);
    machine.kfd_gpu(1, 111, 0x0300);
    machine.kfd_gpu(2, 222, 0x4300);
    machine.kfd_process(10, 111, 700);
    machine.kfd_process(10, 222, 0);
    // Its render node shows memory too, and no work.
    machine.client(10, 5, "0000:03:00.0", 1, 650, 0);
    let mut read = |at| {
        let reading = machine.backend.read(&[10, 11], S(at));
        reading.devices.iter().map(uses).collect::<Vec<_>>()
    };
    let alone = [vec![(10, Some(700), Some(40.0))], Vec::new()];
    assert_eq!(read(1), alone);
    assert_eq!(read(2), alone);
    // A second one, which is no worker, and neither has a share that is known.
    let path = "sys/class/kfd/kfd/proc/77/vram_111";
    fs::create_dir_all(machine.dir.path().join(path).parent().unwrap()).unwrap();
    fs::write(machine.dir.path().join(path), "4096\n").unwrap();
    assert_eq!(read(3)[0], [(10, Some(700), None)]);
    fs::write(machine.dir.path().join(busy).join("gpu_busy_percent"), "0\n").unwrap();
    assert_eq!(read(4)[0], [(10, Some(700), Some(0.0))]);
}

#[test]
fn an_intel_card_has_what_its_kernel_tells() {
    let mut machine = Machine::new();
    let device = machine.card(0, "xe", "0000:00:02.0");
    machine.write(&format!("{device}/device"), "0xe20b\n");
    machine.write(&format!("{device}/hwmon/hwmon1/energy1_input"), "5000000\n");
    machine.backend.read(&[], S(1));
    machine.write(&format!("{device}/hwmon/hwmon1/energy1_input"), "95000000\n");
    let reading = machine.backend.read(&[], S(2));
    let gpu = &reading.devices[0].gpu;
    assert_eq!(gpu.name.as_ref().unwrap().as_str(), "Intel GPU 0xe20b");
    assert_eq!(gpu.uuid.as_ref().unwrap().as_str(), "PCI-0000:00:02.0");
    assert_eq!(gpu.power_w.unwrap().get(), 90.0);
    let listed = cards(&machine.dir.path().join("sys"));
    assert_eq!(listed, ["Intel GPU 0xe20b (PCI-0000:00:02.0)"]);
    assert_eq!((gpu.util_pct, gpu.memory_total_mb), (None, None));
}

#[test]
fn a_sleeping_card_is_left_asleep() {
    let mut machine = Machine::new();
    let device = machine.amd(0, "0000:03:00.0");
    machine.write(&format!("{device}/power/runtime_status"), "suspended\n");
    machine.client(10, 5, "0000:03:00.0", 1, 100, 0);
    let reading = machine.backend.read(&[10], S(1));
    let device = &reading.devices[0];
    assert_eq!(device.gpu.state.as_ref().map(Text::as_str), Some("asleep"));
    assert_eq!(device.gpu.util_pct, None);
    assert_eq!(uses(device), [(10, Some(100), Some(0.0))]);
}

#[test]
fn cards_and_users_that_come_later_are_found() {
    let mut machine = Machine::new();
    machine.client(10, 5, "0000:03:00.0", 1, 100, 0);
    assert!(machine.backend.read(&[10], S(1)).devices.is_empty());
    machine.amd(0, "0000:03:00.0");
    let reading = machine.backend.read(&[10], S(11));
    assert_eq!(uses(&reading.devices[0]), [(10, Some(100), None)]);
    // A further descriptor is found with the next search, a closed one is gone at once.
    machine.client(10, 6, "0000:03:00.0", 2, 30, 0);
    fs::remove_file(machine.dir.path().join("proc/10/fdinfo/5")).unwrap();
    assert!(uses(&machine.backend.read(&[10], S(12)).devices[0]).is_empty());
    assert_eq!(uses(&machine.backend.read(&[10], S(21)).devices[0]), [(10, Some(30), None)]);
}

#[test]
fn broken_figures_are_null() {
    let mut machine = Machine::new();
    let device = machine.amd(0, "0000:03:00.0");
    machine.write(&format!("{device}/gpu_busy_percent"), "150\n");
    machine.write(&format!("{device}/mem_info_vram_total"), "0\n");
    machine.write(&format!("{device}/mem_info_vram_used"), "garbage\n");
    machine.fd(10, 5, "/dev/dri/card0", "drm-pdev:\t\ndrm-client-id:\tx\n");
    let reading = machine.backend.read(&[10], S(1));
    let gpu = &reading.devices[0].gpu;
    assert_eq!(gpu.memory_used_mb.map(Mebibytes::get), None);
    assert_eq!((gpu.util_pct, gpu.memory_total_mb), (None, None));
    assert!(uses(&reading.devices[0]).is_empty());
}
