//! The library while it is open: one reading after another, until something is amiss.
//!
//! Invariant: a GPU that was read once is listed for as long as the agent runs. One that
//! cannot be read, or that the library lists no more, says so by its state; the others are
//! read as ever.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use hive_contract::heartbeat::Gpu;
use nvml_wrapper::Nvml;
use nvml_wrapper::error::NvmlError;
use tracing::info;

use super::answers::Loss;
use super::processes;
use super::slot::{Outcome, Slot, Tick};
use crate::clock::Clock;
use crate::collect::gpu::Sources;
use crate::collect::gpu::board::{Board, Order};
use crate::collect::gpu::reading::{Device, Reading};

/// With a GPU lost for so long, the library is opened anew to look for it.
const LOOK_AGAIN: Duration = Duration::from_secs(60);

const OLD_DRIVER: &str = "GPU memory and utilisation by process are not known: this driver \
                          lists processes in a form that cannot be read safely; update it";

/// Why the library is to be closed.
pub(super) enum Ending {
    /// Nobody wants readings any more.
    NotWanted,
    /// The library has lost its driver.
    NoDriver(NvmlError),
    /// No GPU can be read. What was said last.
    AllLost(Arc<Reading>),
    /// Some GPUs cannot be read for a while now.
    SomeLost,
    /// An open library could wake GPUs that sleep.
    Asleep,
}

/// A GPU that was read once.
pub(super) struct Known {
    /// Its names.
    pub(super) plate: Gpu,
    /// Where the kernel has it.
    pub(super) dir: Option<PathBuf>,
}

/// The open library.
pub(super) struct Session<'n> {
    nvml: &'n Nvml,
    sources: &'n Sources,
    clock: &'n dyn Clock,
    slots: Vec<Slot<'n>>,
    skips_lists: bool,
    lost_since: Option<Duration>,
}

/// How one reading went.
enum Pass {
    AllRead,
    SomeLost,
    AllLost,
    AllAsleep,
}

impl<'n> Session<'n> {
    pub(super) fn new(nvml: &'n Nvml, sources: &'n Sources, clock: &'n dyn Clock) -> Self {
        let skips_lists = processes::are_unsafe(nvml);
        Self { nvml, sources, clock, slots: Vec::new(), skips_lists, lost_since: None }
    }

    /// Publishes a reading for every order, the first of which is given, until something is
    /// amiss; then says what, and when the reading was begun that found it.
    pub(super) fn run(
        &mut self,
        first: Order,
        board: &Board,
        known: &mut Vec<Known>,
    ) -> (Ending, Duration) {
        let driver = self.nvml.sys_driver_version().unwrap_or_else(|_| "of unknown version".into());
        info!("NVML is open, driver {driver}");
        let mut order = first;
        loop {
            let now = board.now();
            let mut reading = Reading::default();
            let pass = match self.read(now, &order.pids, known, &mut reading) {
                Ok(pass) => pass,
                Err(error) => return (Ending::NoDriver(error), now),
            };
            let reading = Arc::new(reading);
            board.publish(Arc::clone(&reading), now);
            match pass {
                Pass::AllRead => self.lost_since = None,
                Pass::AllAsleep => return (Ending::Asleep, now),
                Pass::AllLost => return (Ending::AllLost(reading), now),
                Pass::SomeLost => {
                    let since = *self.lost_since.get_or_insert(now);
                    if now.saturating_sub(since) >= LOOK_AGAIN {
                        return (Ending::SomeLost, now);
                    }
                }
            }
            match board.next() {
                Some(next) => order = next,
                None => return (Ending::NotWanted, now),
            }
        }
    }

    /// Makes one pass over all GPUs.
    fn read(
        &mut self,
        now: Duration,
        pids: &[u32],
        known: &mut Vec<Known>,
        reading: &mut Reading,
    ) -> Result<Pass, NvmlError> {
        let count = self.nvml.device_count()?;
        while self.slots.len() < count as usize {
            let index = self.slots.len() as u32;
            self.slots.push(Slot::new(index, known.iter().find(|known| known.is_at(index))));
        }
        self.slots.truncate(count as usize);
        if self.skips_lists {
            reading.complaints.push(OLD_DRIVER.to_owned());
        }
        let mut tick = Tick {
            now,
            now_us: u64::try_from(self.clock.wall().millis()).unwrap_or(0) * 1000,
            pids,
            skips_lists: self.skips_lists,
            sys: &self.sources.sys,
            proc: &self.sources.proc,
            reading,
        };
        let (mut asleep, mut lost) = (0, 0);
        for slot in &mut self.slots {
            match slot.read(self.nvml, &mut tick) {
                Ok(Outcome::Read) => remember(slot, known),
                Ok(Outcome::Asleep) => asleep += 1,
                Err(Loss::Session(error)) => return Err(error),
                Err(Loss::Gpu(state)) => {
                    lost += 1;
                    tick.reading.devices.extend(slot.without_figures(state));
                }
            }
        }
        let is_listed =
            |known: &&Known| self.slots.iter().any(|slot| slot.plate().uuid == known.plate.uuid);
        let vanished = known.iter().filter(|known| !is_listed(known));
        let vanished = vanished.map(|known| Device { gpu: known.plate.clone(), uses: Vec::new() });
        let vanished = vanished.map(|device| device.without_figures("lost"));
        let listed = tick.reading.devices.len();
        tick.reading.devices.extend(vanished);
        let has_vanished = tick.reading.devices.len() > listed;
        Ok(if lost == self.slots.len() {
            Pass::AllLost
        } else if lost > 0 || has_vanished {
            Pass::SomeLost
        } else if asleep == self.slots.len() {
            Pass::AllAsleep
        } else {
            Pass::AllRead
        })
    }
}

impl Known {
    fn is_at(&self, index: u32) -> bool {
        self.plate.index.is_some_and(|known| known.whole() == u64::from(index))
    }
}

/// Keeps the names of a GPU for when it cannot be read. Only a UUID tells one from another.
fn remember(slot: &Slot<'_>, known: &mut Vec<Known>) {
    let plate = slot.plate();
    if plate.uuid.is_none() {
        return;
    }
    let new = Known { plate: plate.clone(), dir: slot.dir().cloned() };
    match known.iter_mut().find(|known| known.plate.uuid == plate.uuid) {
        Some(known) if known.plate.index == plate.index => {}
        Some(known) => *known = new,
        None => known.push(new),
    }
}
