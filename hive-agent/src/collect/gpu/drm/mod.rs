//! AMD's and Intel's GPUs, through what the kernel itself says of them.
//!
//! In reading order:
//!
//! - `card`: a GPU, from `/sys/class/drm`;
//! - `fdinfo`: what a process takes of it, from `/proc/PID/fdinfo`;
//! - `kfd`: the same where AMD's GPUs compute by ROCm.
//!
//! Only the workers' own processes are looked at: searching everybody's descriptors costs more
//! than all the rest of the agent. A card without memory of its own has none here, and neither
//! have its users. Intel's cards have no utilisation as a whole, their users have.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use hive_contract::heartbeat::Gpu;
use hive_contract::text::Text;
use hive_contract::units::Percent;

use super::board::Board;
use super::reading::{Device, Reading, Use};
use super::{GpuBackend, Sources};
use crate::collect::file::is_gone;
use crate::collect::text::number;

mod card;
mod fdinfo;
#[cfg(fuzzing)]
pub mod fuzzing;
mod kfd;

use card::Card;
use fdinfo::Clients;
use kfd::{KfdGpu, KfdUse};

/// How often the machine is searched for cards, and a process for descriptors of them.
const SEARCH: Duration = Duration::from_secs(10);
/// The most descriptors of one process that are searched.
const MAX_FDS: usize = 4096;

/// AMD's and Intel's GPUs.
pub(super) struct DrmBackend {
    sources: Sources,
    searched: Option<Duration>,
    cards: Vec<Card>,
    kfd: Vec<KfdGpu>,
    processes: HashMap<u32, Descriptors>,
    clients: Clients,
}

/// The descriptors of one process that lead to a card.
struct Descriptors {
    searched: Duration,
    fds: Vec<PathBuf>,
}

impl DrmBackend {
    pub(super) fn new(sources: Sources) -> Self {
        Self {
            sources,
            searched: None,
            cards: Vec::new(),
            kfd: Vec::new(),
            processes: HashMap::new(),
            clients: Clients::default(),
        }
    }

    /// Reads all cards, and what the processes take of them.
    fn read(&mut self, pids: &[u32], at: Duration) -> Reading {
        if self.searched.is_none_or(|searched| at.saturating_sub(searched) >= SEARCH) {
            self.searched = Some(at);
            self.search();
        }
        let mut reading = Reading::default();
        if self.cards.is_empty() {
            return reading;
        }
        let mut shares = self.shares(pids, at, &mut reading);
        for card in &mut self.cards {
            let uses = shares.remove(&card.address).unwrap_or_default();
            if card.is_asleep() {
                // Nothing runs on it, but memory can be held.
                let idle = Percent::from_integer(0).ok();
                let uses = uses.into_iter().map(|used| Use { util_pct: idle, ..used }).collect();
                let state = Some(Text::cut("asleep"));
                reading.devices.push(Device { gpu: Gpu { state, ..card.plate.clone() }, uses });
                continue;
            }
            let gpu = card.read(at);
            let id = self.kfd.iter().find(|(address, _)| *address == card.address);
            let computing = id.map(|(_, id)| kfd::uses(&self.sources.sys, *id));
            let uses = merge(uses, &computing.unwrap_or_default(), gpu.util_pct, pids);
            reading.devices.push(Device { gpu, uses });
        }
        reading
    }

    /// Looks for the cards. Those that are still there go on as they are.
    fn search(&mut self) {
        let mut before = std::mem::take(&mut self.cards);
        for found in card::find(&self.sources.sys) {
            let known = before
                .iter()
                .position(|card| card.address == found.address && card.plate == found.plate);
            self.cards.push(known.map_or(found, |known| before.swap_remove(known)));
        }
        self.kfd = if self.cards.is_empty() { Vec::new() } else { kfd::gpus(&self.sources.sys) };
    }

    /// What the processes take of the cards by their addresses, each process once a card.
    fn shares(
        &mut self,
        pids: &[u32],
        at: Duration,
        reading: &mut Reading,
    ) -> HashMap<String, Vec<Use>> {
        let mut shares: HashMap<String, Vec<Use>> = HashMap::new();
        self.processes.retain(|pid, _| pids.binary_search(pid).is_ok());
        self.clients.begin();
        let mut denied = 0;
        for &pid in pids {
            let dir = self.sources.proc.join(pid.to_string());
            let known = self.processes.get(&pid);
            if known.is_none_or(|known| at.saturating_sub(known.searched) >= SEARCH) {
                let fds = match descriptors(&dir) {
                    Ok(fds) => fds,
                    Err(error) if is_gone(&error) => continue,
                    Err(_) => {
                        denied += 1;
                        continue;
                    }
                };
                self.processes.insert(pid, Descriptors { searched: at, fds });
            }
            let Some(process) = self.processes.get(&pid) else { continue };
            for fd in &process.fds {
                // A descriptor that was closed, or leads elsewhere now, is none of a card.
                let Some(info) = fs::read(fd).ok().and_then(|text| fdinfo::parse(&text)) else {
                    continue;
                };
                let Some(share) = self.clients.take(&info, at) else { continue };
                if !info.is_in_use() {
                    continue;
                }
                let share = share.and_then(|share| Percent::measured(share * 100.0));
                let (computes, vram_bytes) = (false, info.vram_bytes);
                let used = Use { pid, computes, vram_bytes, util_pct: share };
                let uses = shares.entry(info.address).or_default();
                match uses.iter_mut().find(|known| known.pid == pid) {
                    Some(known) => *known = add(known, &used),
                    None => uses.push(used),
                }
            }
        }
        self.clients.end();
        if denied > 0 {
            reading.complaints.push(format!(
                "AMD and Intel GPUs: who uses them is not known of {denied} processes, whose \
                 descriptors only root may read"
            ));
        }
        shares
    }
}

impl GpuBackend for DrmBackend {
    fn run(&mut self, board: &Board) {
        while let Some(order) = board.next() {
            let now = board.now();
            let reading = self.read(&order.pids, now);
            board.publish(Arc::new(reading), now);
        }
    }
}

/// The names and UUIDs of the cards, for people.
pub(super) fn cards(sys: &Path) -> Vec<String> {
    let text = |text: Option<Text>| text.map(|text| text.to_string()).unwrap_or_default();
    let plates = card::find(sys).into_iter().map(|card| card.plate);
    plates.map(|plate| format!("{} ({})", text(plate.name), text(plate.uuid))).collect()
}

/// The fdinfo files of a process's descriptors that lead to a card.
fn descriptors(process: &Path) -> io::Result<Vec<PathBuf>> {
    let mut fds = Vec::new();
    for entry in fs::read_dir(process.join("fd"))?.take(MAX_FDS) {
        let entry = entry?;
        if fs::read_link(entry.path()).is_ok_and(|target| target.starts_with("/dev/dri")) {
            fds.push(process.join("fdinfo").join(entry.file_name()));
        }
    }
    Ok(fds)
}

/// Two clients of one process on one card.
fn add(one: &Use, other: &Use) -> Use {
    let vram_bytes =
        one.vram_bytes.zip(other.vram_bytes).map(|(one, other)| one.saturating_add(other));
    let util_pct = one.util_pct.zip(other.util_pct);
    let util_pct = util_pct.and_then(|(one, other)| Percent::measured(one.get() + other.get()));
    Use { vram_bytes, util_pct, ..*one }
}

/// Adds those who compute by ROCm. Their memory shows in both places, so the larger counts;
/// their work shows in neither.
fn merge(
    mut uses: Vec<Use>,
    computing: &[KfdUse],
    gpu_util_pct: Option<Percent>,
    pids: &[u32],
) -> Vec<Use> {
    for process in computing.iter().filter(|used| pids.binary_search(&used.pid).is_ok()) {
        let is_alone = computing.len() == 1 && uses.iter().all(|used| used.pid == process.pid);
        let util_pct = gpu_util_pct.filter(|util| is_alone || util.is_zero());
        let known = uses.iter().position(|used| used.pid == process.pid);
        let drawn = known.map(|index| uses.swap_remove(index));
        let vram_bytes = drawn.and_then(|drawn| drawn.vram_bytes).max(Some(process.vram_bytes));
        uses.push(Use { pid: process.pid, computes: true, vram_bytes, util_pct });
    }
    uses
}

/// The number that is all of a file.
fn number_in(path: &Path) -> Option<u64> {
    number(fs::read(path).ok()?.trim_ascii())
}

#[cfg(test)]
mod tests;
