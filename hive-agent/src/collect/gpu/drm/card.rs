//! One graphics card, from `/sys/class/drm/cardN`.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use hive_contract::heartbeat::Gpu;
use hive_contract::text::Text;
use hive_contract::units::{Celsius, Count, Mebibytes, Percent, Watts};

use super::number_in;
use crate::collect::growth::Growth;

/// The kernel's drivers of AMD's and Intel's GPUs.
const DRIVERS: [&str; 3] = ["amdgpu", "i915", "xe"];

/// A card from reading to reading.
pub(super) struct Card {
    /// Its number among the cards of the kernel.
    number: u32,
    /// Where it is on its bus.
    pub(super) address: String,
    /// Its names.
    pub(super) plate: Gpu,
    device: PathBuf,
    hwmon: Option<PathBuf>,
    energy_uj: Growth,
}

/// The cards of this machine that are read here, in the kernel's order.
pub(super) fn find(sys: &Path) -> Vec<Card> {
    let Ok(entries) = fs::read_dir(sys.join("class/drm")) else { return Vec::new() };
    let mut cards: Vec<Card> = entries.flatten().filter_map(|entry| open(&entry.path())).collect();
    cards.sort_unstable_by_key(|card| card.number);
    for (card, index) in cards.iter_mut().zip(0..) {
        card.plate.index = Count::from_integer(index).ok();
    }
    cards
}

fn open(dir: &Path) -> Option<Card> {
    // Beside the cards there are their connectors (card0-DP-1) and render nodes.
    let number = dir.file_name()?.to_str()?.strip_prefix("card")?.parse().ok()?;
    let device = dir.join("device");
    let uevent = fs::read_to_string(device.join("uevent")).ok()?;
    let value = |key| uevent.lines().find_map(|line| line.strip_prefix(key));
    let driver = value("DRIVER=").filter(|driver| DRIVERS.contains(driver))?;
    let address = value("PCI_SLOT_NAME=")?.to_owned();
    let text = |name| {
        let text = fs::read_to_string(device.join(name)).ok()?;
        Some(text.trim().to_owned()).filter(|text| !text.is_empty())
    };
    // As ROCm's own programs form it, so that both name the same GPU.
    let unique = text("unique_id").filter(|id| id.chars().any(|c| c != '0'));
    let uuid = unique.map_or_else(|| format!("PCI-{address}"), |id| format!("GPU-{id}"));
    let vendor = if driver == "amdgpu" { "AMD" } else { "Intel" };
    let name = text("product_name").unwrap_or_else(|| {
        format!("{vendor} GPU {}", text("device").unwrap_or_else(|| address.clone()))
    });
    let plate =
        Gpu { uuid: Some(Text::cut(&uuid)), name: Some(Text::cut(&name)), ..Gpu::default() };
    let hwmon = fs::read_dir(device.join("hwmon")).ok();
    let hwmon = hwmon.and_then(|entries| entries.flatten().next()).map(|entry| entry.path());
    Some(Card { number, address, plate, device, hwmon, energy_uj: Growth::default() })
}

impl Card {
    /// Whether the kernel has suspended it. Reading its figures could wake it.
    pub(super) fn is_asleep(&self) -> bool {
        fs::read_to_string(self.device.join("power/runtime_status"))
            .is_ok_and(|status| status.trim() == "suspended")
    }

    /// Its figures.
    pub(super) fn read(&mut self, at: Duration) -> Gpu {
        let number = |name| number_in(&self.device.join(name));
        let mebibytes = |bytes: u64| Mebibytes::whole_from_bytes(bytes);
        let total =
            number("mem_info_vram_total").or_else(|| number("tile0/physical_vram_size_bytes"));
        let busy = number("gpu_busy_percent");
        let used = number("mem_info_vram_used");
        let sensor = |name| number_in(&self.hwmon.as_ref()?.join(name));
        let millidegrees = sensor("temp1_input");
        let microwatts = sensor("power1_average").or_else(|| sensor("power1_input"));
        let microwatts = microwatts.map(|power| power as f64).or_else(|| {
            let energy_uj = sensor("energy1_input")?;
            self.energy_uj.per_s(energy_uj, at)
        });
        Gpu {
            util_pct: busy.and_then(|busy| Percent::from_integer(busy).ok()),
            memory_used_mb: used.map(mebibytes),
            memory_total_mb: total.filter(|&total| total > 0).map(mebibytes),
            temperature_c: millidegrees.and_then(|t| Celsius::measured(t as f64 / 1000.0)),
            power_w: microwatts.and_then(|power| Watts::measured(power / 1e6)),
            state: Some(Text::cut("ok")),
            ..self.plate.clone()
        }
    }
}
