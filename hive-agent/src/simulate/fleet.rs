//! Simulated machines: what a fleet's heartbeats would say.
//!
//! Invariant: a hive is decided by its seed, its number and the times at which it is read; the
//! same three give the same bytes.
//!
//! Invariant: the figures of one heartbeat agree with each other: a GPU is as busy and as full
//! as the workers on it, and a worker without requests uses no GPU.

use bytes::Bytes;
use compact_str::{CompactString, format_compact};
use fastrand::Rng;
use hive_contract::heartbeat::{Agent, Gpu, Hive as HiveFigures, Node, Worker};
use hive_contract::ids::InvalidName;
use hive_contract::text::Text;
use hive_contract::units::{
    Celsius, Count, CpuPercent, Load, Mebibytes, Milliseconds, Percent, Seconds, Watts,
};
use hive_contract::{HiveId, Timestamp};

use super::json::Json;
use super::models::{GPU_KINDS, GpuKind};
use super::worker::{Behaviour, Pids, Place};

/// GPU memory that the driver takes for itself.
const DRIVER_MB: u64 = 450;
/// GPU memory that is left free on a full GPU.
const SPARE_MB: u64 = 900;
/// The most GPUs that one model is spread over.
const MAX_SPAN: usize = 8;
/// A day, over which the demand rises and falls.
const DAY_MS: i64 = 86_400_000;

/// What all hives of a fleet have in common.
#[derive(Debug, Clone)]
pub(super) struct Shape {
    pub(super) seed: u64,
    pub(super) prefix: HiveId,
    pub(super) workers: usize,
    pub(super) gpus: usize,
    pub(super) interval_ms: u32,
}

/// A heartbeat that can be changed in place: the contract's own, whose lists are sealed, without
/// the cost of building and checking them anew every time.
#[derive(Debug)]
pub(super) struct Reading {
    pub(super) hive: HiveFigures,
    pub(super) timestamp: Timestamp,
    pub(super) interval_ms: Milliseconds,
    pub(super) workers: Vec<Worker>,
    pub(super) gpus: Vec<Gpu>,
    pub(super) node: Node,
    pub(super) agent: Agent,
}

/// One GPU beyond what its figures say.
#[derive(Debug)]
struct Device {
    kind: &'static GpuKind,
    /// What its workers ask for, which may be more than there is.
    wanted_pct: u64,
    used_mb: u64,
    temperature_millic: u64,
}

/// One simulated machine.
#[derive(Debug)]
pub(super) struct Hive {
    rng: Rng,
    pids: Pids,
    reading: Reading,
    behaviours: Vec<Behaviour>,
    devices: Vec<Device>,
    interval_ms: u32,
    booted_ms: i64,
    base_memory_mb: u64,
    load_milli: u64,
    /// Length of the last JSON: the next is about as long.
    json_len: usize,
}

impl Hive {
    /// The machine with this number, about to be read for the first time at `start`.
    pub(super) fn new(shape: &Shape, number: usize, start: Timestamp) -> Result<Self, InvalidName> {
        // Multiplied apart, so that neighbouring numbers do not give similar machines.
        let mut rng = Rng::with_seed(
            shape.seed.wrapping_add((number as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15)),
        );
        let id = HiveId::new(format_compact!("{}-{number:04}", shape.prefix))?;
        let kind = &GPU_KINDS[rng.usize(..GPU_KINDS.len())];
        let gpus: Vec<Gpu> = (0..shape.gpus).map(|index| gpu(kind, index, &mut rng)).collect();
        let devices = gpus.iter().map(|_| Device::new(kind, &mut rng)).collect();
        let mut pids = Pids::new(&mut rng);
        let mut behaviours = Vec::with_capacity(shape.workers);
        let mut workers = Vec::with_capacity(shape.workers);
        for index in 0..shape.workers {
            let place = place(index, shape, &gpus, kind);
            let (behaviour, worker) =
                Behaviour::new(index, place, start, shape.interval_ms, &mut pids, &mut rng);
            behaviours.push(behaviour);
            workers.push(worker);
        }
        let base_memory_mb = rng.u64(4_000..9_000);
        let memory_mb = base_memory_mb + behaviours.iter().map(Behaviour::most_rss_mb).sum::<u64>();
        let cpu_count = (shape.workers as u64 * 2).next_power_of_two().clamp(16, 256);
        let version = Text::cut(env!("CARGO_PKG_VERSION"));
        let reading = Reading {
            hive: HiveFigures {
                id,
                hostname: Some(Text::cut(&address(number))),
                port: Some(7835),
                operational_status: Some(Text::cut("ready")),
                health_status: Some(Text::cut("healthy")),
                version: Some(version.clone()),
            },
            timestamp: start,
            interval_ms: Milliseconds::from_integer(shape.interval_ms.into())
                .expect("a 32-bit number is in range"),
            workers,
            gpus,
            node: Node {
                cpu_pct: None,
                cpu_count: Count::from_integer(cpu_count).ok(),
                memory_used_mb: None,
                memory_total_mb: Mebibytes::from_integer(memory_mb.next_power_of_two()).ok(),
                load_1m: None,
                uptime_s: None,
            },
            agent: Agent {
                version: Some(version),
                cpu_pct: None,
                rss_mb: Mebibytes::from_integer(11).ok(),
                collect_ms: None,
                spooled: Count::from_integer(0).ok(),
                gpu_age_ms: None,
                errors: Default::default(),
            },
        };
        Ok(Self {
            booted_ms: start.millis() - rng.i64(60_000..60 * DAY_MS),
            rng,
            pids,
            reading,
            behaviours,
            devices,
            interval_ms: shape.interval_ms,
            base_memory_mb,
            load_milli: 1_000,
            json_len: 0,
        })
    }

    /// Its name.
    pub(super) fn id(&self) -> &HiveId {
        &self.reading.hive.id
    }

    /// Lets one interval pass and reads the machine at this time.
    pub(super) fn read(&mut self, at: Timestamp) -> Bytes {
        self.advance(at);
        let mut json = String::with_capacity(self.json_len + 256);
        self.reading.write_to(&mut json);
        self.json_len = json.len();
        json.into()
    }

    fn advance(&mut self, at: Timestamp) {
        self.reading.timestamp = at;
        let demand = demand_pct(at);
        for device in &mut self.devices {
            device.wanted_pct = 0;
            device.used_mb = DRIVER_MB;
        }
        let workers = &mut self.reading.workers;
        for (behaviour, worker) in self.behaviours.iter_mut().zip(workers.iter_mut()) {
            behaviour.step(worker, at, demand, &mut self.pids, &mut self.rng);
            for device in &mut self.devices[behaviour.gpus()] {
                device.wanted_pct += behaviour.wanted_pct();
                device.used_mb += behaviour.vram_share_mb();
            }
        }
        for (behaviour, worker) in self.behaviours.iter_mut().zip(workers.iter_mut()) {
            let wanted = self.devices[behaviour.gpus()].iter().map(|device| device.wanted_pct);
            behaviour.take_share(worker, wanted.max().unwrap_or(0), &self.reading.gpus);
        }
        self.read_gpus();
        self.read_node(at);
        self.read_agent();
    }

    fn read_gpus(&mut self) {
        for (device, gpu) in self.devices.iter_mut().zip(&mut self.reading.gpus) {
            let util_pct = device.wanted_pct.min(100);
            let aim_millic = 31_000 + util_pct * 430;
            let now_millic = device.temperature_millic;
            device.temperature_millic = (now_millic * 15 + aim_millic) / 16;
            let kind = device.kind;
            let range_w = kind.limit_w - kind.idle_w;
            let power_mw = kind.idle_w * 1_000 + range_w * util_pct * 9 + self.rng.u64(..40) * 100;
            gpu.util_pct = Percent::from_integer(util_pct).ok();
            gpu.memory_used_mb = Mebibytes::from_integer(device.used_mb.min(kind.memory_mb)).ok();
            gpu.temperature_c = Celsius::from_integer(device.temperature_millic / 1_000).ok();
            gpu.power_w = Watts::from_thousandths(power_mw);
        }
    }

    fn read_node(&mut self, at: Timestamp) {
        let workers_tenths: u64 = self.behaviours.iter().map(Behaviour::cpu_tenths).sum();
        let cpu_tenths = workers_tenths + self.rng.u64(15..70);
        let memory_mb =
            self.base_memory_mb + self.behaviours.iter().map(Behaviour::rss_mb).sum::<u64>();
        // A load average forgets over a minute; a tenth of a percent of a core is a thousandth.
        let weight = u64::from(self.interval_ms).clamp(1, 60_000);
        self.load_milli = (self.load_milli * (60_000 - weight) + cpu_tenths * weight) / 60_000;
        let node = &mut self.reading.node;
        node.cpu_pct = CpuPercent::from_thousandths(cpu_tenths * 100);
        node.memory_used_mb = Mebibytes::from_integer(memory_mb).ok();
        node.load_1m = Load::from_thousandths(self.load_milli / 10 * 10);
        node.uptime_s = whole_seconds(self.booted_ms, at);
    }

    fn read_agent(&mut self) {
        let agent = &mut self.reading.agent;
        agent.cpu_pct = CpuPercent::from_thousandths(self.rng.u64(2..7) * 100);
        agent.collect_ms = Milliseconds::from_thousandths(self.rng.u64(12..30) * 100);
        agent.gpu_age_ms = Milliseconds::from_integer(self.rng.u64(50..950)).ok();
    }
}

impl Device {
    fn new(kind: &'static GpuKind, rng: &mut Rng) -> Self {
        Self {
            kind,
            wanted_pct: 0,
            used_mb: DRIVER_MB,
            temperature_millic: rng.u64(31_000..60_000),
        }
    }
}

/// Whole seconds from one moment to a later one.
pub(super) fn whole_seconds(since_ms: i64, at: Timestamp) -> Option<Seconds> {
    let seconds = u64::try_from((at.millis() - since_ms) / 1_000).unwrap_or(0);
    Seconds::from_integer(seconds).ok()
}

fn gpu(kind: &GpuKind, index: usize, rng: &mut Rng) -> Gpu {
    let (a, b, c) = (rng.u32(..), rng.u16(..), rng.u16(..));
    let (d, e) = (rng.u16(..), rng.u64(..1 << 48));
    let uuid = format_compact!("GPU-{a:08x}-{b:04x}-{c:04x}-{d:04x}-{e:012x}");
    Gpu {
        uuid: Some(Text::cut(&uuid)),
        index: Count::from_integer(index as u64).ok(),
        name: Some(Text::cut(kind.name)),
        util_pct: None,
        memory_used_mb: None,
        memory_total_mb: Mebibytes::from_integer(kind.memory_mb).ok(),
        temperature_c: None,
        power_w: None,
        state: Some(Text::cut("ok")),
    }
}

/// Spreads the workers over the GPUs: several on one GPU, or one on several.
fn place(index: usize, shape: &Shape, gpus: &[Gpu], kind: &GpuKind) -> Place {
    let (count, workers) = (gpus.len(), shape.workers);
    let usable_mb = kind.memory_mb - DRIVER_MB - SPARE_MB;
    let (first, span, sharers) = if count == 0 {
        (0, 0, 1)
    } else if workers >= count {
        let first = index % count;
        (first, 1, workers / count + usize::from(first < workers % count))
    } else {
        // A power of two, as tensor parallelism wants it.
        let span = 1 << (count / workers).min(MAX_SPAN).ilog2();
        (index * span, span, 1)
    };
    Place {
        gpus: first..first + span,
        room_mb: usable_mb / sharers as u64 * span as u64,
        total_mb: kind.memory_mb * span as u64,
    }
}

/// An address in 10.0.0.0/8: hives have different ones, as far as there are enough.
fn address(number: usize) -> CompactString {
    let host = number as u32 + 1;
    format_compact!("10.{}.{}.{}", host >> 16 & 255, host >> 8 & 255, host & 255)
}

/// The demand at this time of day (UTC): 35 % at night, 135 % in the afternoon.
fn demand_pct(at: Timestamp) -> u64 {
    // A triangle does as well as a sine here, and is the same on every machine.
    let of_day = at.millis().rem_euclid(DAY_MS);
    let from_peak = (of_day - DAY_MS * 15 / 24).abs();
    let from_peak = from_peak.min(DAY_MS - from_peak);
    (135 - from_peak * 200 / DAY_MS).unsigned_abs()
}

#[cfg(test)]
mod tests;
