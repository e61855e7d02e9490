//! One GPU of a session, from reading to reading.

use std::path::{Path, PathBuf};
use std::time::Duration;

use hive_contract::heartbeat::Gpu;
use hive_contract::text::Text;
use hive_contract::units::{Count, Mebibytes, Percent, Watts};
use nvml_wrapper::bitmasks::event::EventTypes;
use nvml_wrapper::enums::event::XidError;
use nvml_wrapper::error::NvmlError;
use nvml_wrapper::{Device as Handle, EventSet, Nvml};

use super::answers::{Answers, Loss, loss};
use super::health::Health;
use super::memory::{self, Memory};
use super::pci;
use super::processes::{self, Listed};
use super::samples::{Sample, Samples};
use super::session::Known;
use crate::collect::gpu::reading::{Device, Reading, Use};

/// The most errors taken from the driver in one reading; the rest waits for the next one.
const MAX_EVENTS: usize = 16;

/// What every reading of a GPU needs.
pub(super) struct Tick<'a> {
    pub(super) now: Duration,
    /// By the wall clock, in µs since the epoch.
    pub(super) now_us: u64,
    /// The workers' processes, in ascending order.
    pub(super) pids: &'a [u32],
    /// The driver's process lists must not be asked for.
    pub(super) skips_lists: bool,
    pub(super) sys: &'a Path,
    pub(super) proc: &'a Path,
    pub(super) reading: &'a mut Reading,
}

/// One GPU by its index, which stays the same within a session.
pub(super) struct Slot<'n> {
    index: u32,
    /// Its names, those of an earlier session until they are read.
    plate: Gpu,
    is_identified: bool,
    /// Where the kernel has it.
    dir: Option<PathBuf>,
    is_mig: bool,
    events: Option<EventSet<'n>>,
    samples: Samples,
    health: Health,
    health_complaints: Vec<String>,
    graphics: Vec<Listed>,
    /// What was read the last time.
    last: Vec<Device>,
}

/// How a reading ended that went well.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    Read,
    Asleep,
}

impl<'n> Slot<'n> {
    pub(super) fn new(index: u32, known: Option<&Known>) -> Self {
        let plate = Gpu { index: Count::from_integer(index.into()).ok(), ..Gpu::default() };
        Self {
            index,
            plate: known.map_or(plate, |known| known.plate.clone()),
            is_identified: false,
            dir: known.and_then(|known| known.dir.clone()),
            is_mig: false,
            events: None,
            samples: Samples::default(),
            health: Health::default(),
            health_complaints: Vec::new(),
            graphics: Vec::new(),
            last: Vec::new(),
        }
    }

    /// Its names, as far as they are known.
    pub(super) fn plate(&self) -> &Gpu {
        &self.plate
    }

    /// Where the kernel has it, once that is known.
    pub(super) fn dir(&self) -> Option<&PathBuf> {
        self.dir.as_ref()
    }

    /// What is left to say of it, and of its MIG instances, when it cannot be read.
    pub(super) fn without_figures(&self, state: &str) -> Vec<Device> {
        if self.last.is_empty() {
            let unread = Device { gpu: self.plate.clone(), uses: Vec::new() };
            return vec![unread.without_figures(state)];
        }
        self.last.iter().map(|device| device.without_figures(state)).collect()
    }

    /// Adds the GPU, or its MIG instances after it, to the reading.
    pub(super) fn read(&mut self, nvml: &'n Nvml, tick: &mut Tick<'_>) -> Result<Outcome, Loss> {
        if self.dir.as_deref().is_some_and(pci::is_asleep) {
            tick.reading.devices.extend(self.without_figures("asleep"));
            return Ok(Outcome::Asleep);
        }
        let mut complaints = std::mem::take(&mut tick.reading.complaints);
        let mut answers =
            Answers { subject: format!("GPU {}", self.index), complaints: &mut complaints };
        let result = self.read_awake(nvml, tick, &mut answers);
        tick.reading.complaints = complaints;
        let devices = result?;
        self.last.clone_from(&devices);
        tick.reading.devices.extend(devices);
        Ok(Outcome::Read)
    }

    fn read_awake(
        &mut self,
        nvml: &'n Nvml,
        tick: &Tick<'_>,
        answers: &mut Answers<'_>,
    ) -> Result<Vec<Device>, Loss> {
        // A handle from before a driver's trouble can crash the library, so it is never kept.
        let handle = match nvml.device_by_index(self.index) {
            Ok(handle) => handle,
            Err(error) => {
                answers.complain("it", loss(error)?);
                return Err(Loss::Gpu("not readable"));
            }
        };
        if !self.is_identified {
            self.identify(nvml, &handle, tick.sys, answers)?;
        }
        self.take_events(tick.now)?;
        if self.health.is_due(tick.now) {
            self.health_complaints.clear();
            let mut complaints = Answers {
                subject: answers.subject.clone(),
                complaints: &mut self.health_complaints,
            };
            self.health.ask(&handle, tick.now, &mut complaints)?;
        }
        answers.complaints.extend_from_slice(&self.health_complaints);

        let rates = answers.take("its utilisation", handle.utilization_rates())?;
        let util_pct = rates.and_then(|rates| Percent::from_integer(rates.gpu.into()).ok());
        let milliwatts = answers.take("its power", handle.power_usage())?;
        let mut gpu = Gpu {
            util_pct,
            temperature_c: self.health.temperature_c,
            power_w: milliwatts.and_then(|mw| Watts::measured(f64::from(mw) / 1000.0)),
            state: Some(self.health.state(tick.now)),
            ..self.plate.clone()
        };
        if self.is_mig {
            let mut devices = self.instances(&handle, &gpu, tick, answers)?;
            // With instances, all the memory is theirs, and would count twice here.
            if devices.is_empty() {
                set_memory(&mut gpu, memory::of_gpu(&handle, answers)?.own());
            }
            devices.insert(0, Device { gpu, uses: Vec::new() });
            return Ok(devices);
        }
        let memory = match memory::of_gpu(&handle, answers)? {
            Memory::Shared => memory::of_machine(&tick.proc.join("meminfo")),
            memory => memory.own(),
        };
        set_memory(&mut gpu, memory);
        let max_bytes = memory.map(|(_, total)| total);
        let uses = self.uses(&handle, util_pct, max_bytes, tick, answers)?;
        Ok(vec![Device { gpu, uses }])
    }

    /// Reads what does not change within a session. MIG mode does not either: changing it
    /// needs the GPU without any user, and this session is one.
    fn identify(
        &mut self,
        nvml: &'n Nvml,
        handle: &Handle<'n>,
        sys: &Path,
        answers: &mut Answers<'_>,
    ) -> Result<(), Loss> {
        let bus = answers.take("its place on the bus", handle.pci_info())?;
        self.dir = bus.and_then(|bus| pci::directory(sys, &bus.bus_id));
        let mig = answers.take("its MIG mode", handle.mig_mode())?;
        self.is_mig = mig.is_some_and(|mode| mode.current == 1);
        self.events = events(nvml, handle);
        self.plate = plate(handle, self.index, answers)?;
        self.is_identified = true;
        Ok(())
    }

    /// Takes the errors that the driver has reported since the last reading.
    fn take_events(&mut self, now: Duration) -> Result<(), Loss> {
        let Some(events) = &self.events else { return Ok(()) };
        for _ in 0..MAX_EVENTS {
            match events.wait(0) {
                Ok(event) => {
                    if let Some(XidError::Value(xid)) = event.event_data {
                        self.health.report(xid, now);
                    }
                }
                Err(NvmlError::Timeout) => return Ok(()),
                // Events are a by-product: what is wrong is found by the other questions.
                Err(error) => return loss(error).map(drop),
            }
        }
        Ok(())
    }

    /// Who sits on the GPU, and how much of it each takes. If the lists cannot be read, those
    /// who sat there before are unknown now, rather than gone.
    fn uses(
        &mut self,
        handle: &Handle<'n>,
        util_pct: Option<Percent>,
        max_bytes: Option<u64>,
        tick: &Tick<'_>,
        answers: &mut Answers<'_>,
    ) -> Result<Vec<Use>, Loss> {
        let is_ours = |listed: &Listed| tick.pids.binary_search(&listed.pid).is_ok();
        // This list takes milliseconds on some GPUs, and workers are rarely in it.
        if !tick.skips_lists
            && (self.health.was_asked_at(tick.now) || self.graphics.iter().any(is_ours))
        {
            let graphics = answers.take("who draws on it", processes::graphics(handle))?;
            self.graphics = graphics.unwrap_or_default();
        }
        let listed = if tick.skips_lists {
            None
        } else {
            processes::list(handle, &self.graphics, max_bytes, answers)?
        };
        let Some(listed) = listed else {
            let before = self.without_figures("").into_iter().flat_map(|device| device.uses);
            return Ok(before.collect());
        };
        let since = self.samples.since(tick.now_us);
        let stats = processes::twice(|| handle.process_utilization_stats(since));
        // Nobody had a kernel running.
        let stats = if matches!(stats, Err(NvmlError::NotFound)) { Ok(Vec::new()) } else { stats };
        let stats = answers.take("the utilisation by process", stats)?;
        if let Some(stats) = &stats {
            let samples: Vec<Sample> = stats
                .iter()
                .map(|s| Sample { pid: s.pid, at_us: s.timestamp, util_pct: s.sm_util })
                .collect();
            let is_listed =
                |pid| listed.binary_search_by_key(&pid, |listed: &Listed| listed.pid).is_ok();
            let is_idle = util_pct.is_none_or(Percent::is_zero);
            self.samples.take(&samples, is_listed, is_idle, tick.now_us);
        }
        let used = |&Listed { pid, computes, vram_bytes }| {
            let util_pct = stats.as_ref().and_then(|_| self.samples.of(pid));
            Use { pid, computes, vram_bytes, util_pct }
        };
        Ok(listed.iter().map(used).collect())
    }

    /// The GPU's MIG instances. The driver has no utilisation of them, nor of their processes.
    fn instances(
        &self,
        handle: &Handle<'n>,
        gpu: &Gpu,
        tick: &Tick<'_>,
        answers: &mut Answers<'_>,
    ) -> Result<Vec<Device>, Loss> {
        let mut instances = Vec::new();
        let count = answers.take("its MIG instances", handle.mig_device_count())?.unwrap_or(0);
        for number in 0..count {
            let instance = handle.mig_device_by_index(number);
            let Some(instance) = answers.take("a MIG instance", instance)? else { continue };
            let memory = memory::of_gpu(&instance, answers)?.own();
            let max_bytes = memory.map(|(_, total)| total);
            let listed = if tick.skips_lists {
                None
            } else {
                processes::list(&instance, &[], max_bytes, answers)?
            };
            let mut plate = plate(&instance, self.index, answers)?;
            plate.state.clone_from(&gpu.state);
            set_memory(&mut plate, memory);
            let used = |listed: Listed| Use {
                pid: listed.pid,
                computes: listed.computes,
                vram_bytes: listed.vram_bytes,
                util_pct: None,
            };
            let uses = listed.unwrap_or_default().into_iter().map(used).collect();
            instances.push(Device { gpu: plate, uses });
        }
        Ok(instances)
    }
}

/// A device's names.
fn plate(handle: &Handle<'_>, index: u32, answers: &mut Answers<'_>) -> Result<Gpu, Loss> {
    let uuid = answers.take("its UUID", handle.uuid())?;
    let name = answers.take("its name", handle.name())?;
    Ok(Gpu {
        uuid: uuid.map(|uuid| Text::cut(&uuid)),
        index: Count::from_integer(index.into()).ok(),
        name: name.map(|name| Text::cut(&name)),
        ..Gpu::default()
    })
}

fn set_memory(gpu: &mut Gpu, memory: Option<(u64, u64)>) {
    gpu.memory_used_mb = memory.map(|(used, _)| Mebibytes::whole_from_bytes(used));
    gpu.memory_total_mb = memory.map(|(_, total)| Mebibytes::whole_from_bytes(total));
}

/// The driver's errors about this GPU. A set of its own for every GPU, because one that cannot
/// be registered takes the whole set with it.
fn events<'n>(nvml: &'n Nvml, handle: &Handle<'n>) -> Option<EventSet<'n>> {
    let wanted = EventTypes::CRITICAL_XID_ERROR | EventTypes::DOUBLE_BIT_ECC_ERROR;
    let types = handle.supported_event_types().ok()? & wanted;
    if types.is_empty() {
        return None;
    }
    handle.register_events(types, nvml.create_event_set().ok()?).ok()
}
