//! One simulated worker: it loads a model, waits for requests, is busy, and one day restarts.

use std::ops::Range;

use compact_str::format_compact;
use fastrand::Rng;
use hive_contract::bounded::Bounded;
use hive_contract::heartbeat::{Gpu, Worker, WorkerGpu};
use hive_contract::text::ModelName;
use hive_contract::units::{Count, CpuPercent, Mebibytes, MebibytesPerSecond, Percent};
use hive_contract::{Group, Instance, Timestamp};

use super::fleet::whole_seconds;
use super::models::{Exports, MODELS, Model};

/// The mean life of a worker's process.
const LIFE_S: u32 = 6 * 3_600;
/// The largest process id of a 64-bit Linux.
const PID_MAX: u64 = 4_194_304;
/// Memory that a server may leak before it is restarted.
const MAX_LEAK_MB: u64 = 600;

/// Gives out process ids as a kernel does: upwards, with gaps.
#[derive(Debug)]
pub(super) struct Pids(u64);

impl Pids {
    pub(super) fn new(rng: &mut Rng) -> Self {
        Self(rng.u64(1_000..PID_MAX / 2))
    }

    fn next(&mut self, rng: &mut Rng) -> Option<Count> {
        self.0 += rng.u64(1..400);
        if self.0 >= PID_MAX {
            self.0 = 300;
        }
        Count::from_integer(self.0).ok()
    }
}

/// Where a worker sits.
#[derive(Debug)]
pub(super) struct Place {
    /// Its GPUs, by their index.
    pub(super) gpus: Range<usize>,
    /// GPU memory that it may use.
    pub(super) room_mb: u64,
    /// Memory of its GPUs.
    pub(super) total_mb: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// Reads the model; no requests yet.
    Loading { steps: u32 },
    /// No requests: the GPU does exactly nothing.
    Idle,
    /// Works at about this GPU utilisation.
    Busy { level_pct: u64 },
}

/// The life of one worker beyond what its figures say.
#[derive(Debug)]
pub(super) struct Behaviour {
    place: Place,
    model: &'static Model,
    interval_ms: u32,
    phase: Phase,
    /// Steps left in this phase.
    left: u32,
    /// Steps left to live.
    life: u32,
    started_ms: i64,
    wanted_pct: u64,
    cpu_tenths: u64,
    busy_cpu_tenths: u64,
    rss_mb: u64,
    vram_mb: u64,
    idle_vram_mb: u64,
    running: u64,
}

impl Behaviour {
    pub(super) fn new(
        index: usize,
        place: Place,
        start: Timestamp,
        interval_ms: u32,
        pids: &mut Pids,
        rng: &mut Rng,
    ) -> (Self, Worker) {
        let model = first_model(&place, rng);
        let total_mb = (!place.gpus.is_empty()).then_some(place.total_mb);
        let worker = Worker {
            pid: pids.next(rng).expect("a process id is in range"),
            group: Group::new(model.group).expect("the groups of the models are names"),
            instance: Instance::new(format_compact!("{}", model.first_port + index))
                .expect("digits are a name"),
            cpu_pct: None,
            rss_mb: None,
            gpu_util_pct: None,
            vram_mb: None,
            total_vram_mb: total_mb.and_then(|mb| Mebibytes::from_integer(mb).ok()),
            model: name(model),
            uptime_s: None,
            io_r_mb_s: None,
            io_w_mb_s: None,
            gpus: Bounded::default(),
            requests_running: None,
            requests_waiting: None,
            kv_cache_pct: None,
        };
        let mut behaviour = Self {
            place,
            model,
            interval_ms,
            phase: Phase::Idle,
            left: 0,
            life: 0,
            started_ms: start.millis() - rng.i64(60_000..i64::from(LIFE_S) * 1_000),
            wanted_pct: 0,
            cpu_tenths: 0,
            busy_cpu_tenths: rng.u64(500..1_600),
            rss_mb: model.rss_mb + rng.u64(..MAX_LEAK_MB / 2),
            vram_mb: 0,
            idle_vram_mb: 0,
            running: 0,
        };
        behaviour.settle(rng);
        behaviour.vram_mb = behaviour.idle_vram_mb;
        behaviour.left = behaviour.steps(rng.u32(1..60));
        behaviour.life = behaviour.steps(rng.u32(60..LIFE_S * 2));
        (behaviour, worker)
    }

    pub(super) fn gpus(&self) -> Range<usize> {
        self.place.gpus.clone()
    }

    /// GPU utilisation that it would have alone.
    pub(super) fn wanted_pct(&self) -> u64 {
        self.wanted_pct
    }

    /// GPU memory on each of its GPUs.
    pub(super) fn vram_share_mb(&self) -> u64 {
        self.vram_mb / self.place.gpus.len().max(1) as u64
    }

    pub(super) fn cpu_tenths(&self) -> u64 {
        self.cpu_tenths
    }

    pub(super) fn rss_mb(&self) -> u64 {
        self.rss_mb
    }

    /// The most memory that it will ever use.
    pub(super) fn most_rss_mb(&self) -> u64 {
        let models = models_of(self.model.group);
        models.map(|model| model.rss_mb).max().unwrap_or(0) + MAX_LEAK_MB
    }

    /// Lets one interval pass.
    pub(super) fn step(
        &mut self,
        worker: &mut Worker,
        at: Timestamp,
        demand_pct: u64,
        pids: &mut Pids,
        rng: &mut Rng,
    ) {
        self.life = self.life.saturating_sub(1);
        self.left = self.left.saturating_sub(1);
        let restarts = self.life == 0;
        if restarts {
            self.restart(worker, at, pids, rng);
        } else if self.left == 0 {
            self.enter_next_phase(demand_pct, rng);
        }
        self.work(worker, rng);
        worker.uptime_s = whole_seconds(self.started_ms, at);
        worker.rss_mb = Mebibytes::from_integer(self.rss_mb).ok();
        // Processor time is a difference of two readings: the first one has none.
        worker.cpu_pct = CpuPercent::from_thousandths(self.cpu_tenths * 100).filter(|_| !restarts);
    }

    fn restart(&mut self, worker: &mut Worker, at: Timestamp, pids: &mut Pids, rng: &mut Rng) {
        if rng.u8(..4) == 0 {
            self.model = another_model(self.model, &self.place, rng);
            worker.model = name(self.model);
        }
        if let Some(pid) = pids.next(rng) {
            worker.pid = pid;
        }
        self.started_ms = at.millis();
        self.life = self.steps(rng.u32(LIFE_S / 4..LIFE_S * 7 / 4));
        self.settle(rng);
        self.vram_mb = 0;
        self.rss_mb = 180;
        self.left = self.steps(rng.u32(10..40));
        self.phase = Phase::Loading { steps: self.left };
    }

    /// How much GPU memory the model takes this time: it depends on its context length.
    fn settle(&mut self, rng: &mut Rng) {
        let wanted_mb = self.model.vram_mb * rng.u64(100..108) / 100;
        self.idle_vram_mb = if self.place.gpus.is_empty() {
            0
        } else {
            // A little room stays for what requests take on top.
            wanted_mb.min(self.place.room_mb * 15 / 16)
        };
    }

    fn enter_next_phase(&mut self, demand_pct: u64, rng: &mut Rng) {
        match self.phase {
            Phase::Loading { .. } | Phase::Busy { .. } => {
                self.phase = Phase::Idle;
                let seconds = u64::from(rng.u32(4..80)) * 100 / demand_pct.max(1);
                self.left = self.steps(seconds as u32);
                if self.vram_mb < self.idle_vram_mb || rng.u8(..6) == 0 {
                    self.vram_mb = self.idle_vram_mb;
                }
            }
            Phase::Idle => {
                self.phase = Phase::Busy { level_pct: rng.u64(35..101) };
                let long = rng.u8(..8) == 0;
                self.left = self.steps(if long { rng.u32(120..600) } else { rng.u32(5..60) });
                if !self.place.gpus.is_empty() && rng.u8(..3) == 0 {
                    let grown_mb = self.vram_mb + rng.u64(1..9) * 64;
                    self.vram_mb = grown_mb.min(self.place.room_mb);
                }
            }
        }
    }

    fn work(&mut self, worker: &mut Worker, rng: &mut Rng) {
        let (mut waiting, mut kv_tenths, mut read_tenths) = (0, 0, 0);
        match self.phase {
            Phase::Loading { steps } => {
                let done = u64::from(steps - self.left.min(steps));
                let share = |of: u64| of * done / u64::from(steps.max(1));
                self.vram_mb = share(self.idle_vram_mb) / 256 * 256;
                self.rss_mb = 180 + share(self.model.rss_mb.saturating_sub(180));
                (self.wanted_pct, self.running) = (0, 0);
                self.cpu_tenths = rng.u64(850..1_150);
                read_tenths = rng.u64(8_000..28_000);
            }
            Phase::Idle => {
                (self.wanted_pct, self.running) = (0, 0);
                self.cpu_tenths = rng.u64(..24);
            }
            Phase::Busy { level_pct } => {
                let swing = (self.wanted_pct + level_pct) / 2 + rng.u64(..11);
                self.wanted_pct = swing.saturating_sub(5).clamp(1, 100);
                let slots = self.model.slots;
                let usual = level_pct * slots / 100 + rng.u64(..3);
                self.running = usual.saturating_sub(1).clamp(1, slots);
                if self.running == slots {
                    waiting = rng.u64(..=slots);
                }
                kv_tenths = self.running * 800 / slots + rng.u64(..120);
                self.cpu_tenths =
                    self.busy_cpu_tenths * (50 + self.wanted_pct) / 150 + rng.u64(..60);
                // One MiB in about 20 s: a leak that a chart of an hour shows.
                if rng.u8(..20) == 0 && self.rss_mb < self.model.rss_mb + MAX_LEAK_MB {
                    self.rss_mb += 1;
                }
            }
        }
        let written_tenths = if rng.u8(..50) == 0 { rng.u64(1..9) } else { 0 };
        worker.io_r_mb_s = MebibytesPerSecond::from_thousandths(read_tenths * 100);
        worker.io_w_mb_s = MebibytesPerSecond::from_thousandths(written_tenths * 100);
        let exports = self.model.exports;
        let requests = exports != Exports::Nothing;
        worker.requests_running = Count::from_integer(self.running).ok().filter(|_| requests);
        worker.requests_waiting = Count::from_integer(waiting).ok().filter(|_| requests);
        worker.kv_cache_pct =
            Percent::from_thousandths(kv_tenths * 100).filter(|_| exports == Exports::All);
    }

    /// Takes its share of a GPU on which `wanted_pct` is asked for in all.
    pub(super) fn take_share(&mut self, worker: &mut Worker, wanted_pct: u64, gpus: &[Gpu]) {
        if self.place.gpus.is_empty() {
            return;
        }
        let own = self.wanted_pct;
        let util_pct =
            if wanted_pct > 100 { (own * 100 / wanted_pct).max(own.min(1)) } else { own };
        let share_mb = self.vram_share_mb();
        let span = self.place.gpus.len() as u64;
        let util = Percent::from_integer(util_pct).ok();
        let vram = Mebibytes::from_integer(share_mb * span).ok();
        // The sealed list is built only when something in it changes.
        if worker.gpu_util_pct == util && worker.vram_mb == vram {
            return;
        }
        worker.gpu_util_pct = util;
        worker.vram_mb = vram;
        let vram_mb = Mebibytes::from_integer(share_mb).ok();
        let of_gpu = |gpu: &Gpu| WorkerGpu { uuid: gpu.uuid.clone(), util_pct: util, vram_mb };
        worker.gpus = Bounded::cut(gpus[self.place.gpus.clone()].iter().map(of_gpu).collect());
    }

    /// Steps in so many seconds, at least one.
    fn steps(&self, seconds: u32) -> u32 {
        let steps = u64::from(seconds) * 1_000 / u64::from(self.interval_ms.max(1));
        u32::try_from(steps).unwrap_or(u32::MAX).max(1)
    }
}

fn name(model: &Model) -> Option<ModelName> {
    ModelName::new(model.name).ok()
}

fn models_of(group: &str) -> impl Iterator<Item = &'static Model> {
    MODELS.iter().filter(move |model| model.group == group)
}

fn fitting(group: &str, place: &Place) -> Vec<&'static Model> {
    // A machine without GPUs serves from its memory, and only small models.
    let room_mb = if place.gpus.is_empty() { 20_000 } else { place.room_mb * 7 / 8 };
    models_of(group).filter(|model| model.vram_mb <= room_mb).collect()
}

/// Mostly language models, and mostly the large ones among those that fit.
fn first_model(place: &Place, rng: &mut Rng) -> &'static Model {
    let group = match rng.u8(..10) {
        0..7 => "llm",
        7..9 => "embed",
        _ => "asr",
    };
    let fitting = fitting(group, place);
    let largest = &fitting[fitting.len().saturating_sub(3)..];
    rng.choice(largest).copied().unwrap_or(&MODELS[0])
}

fn another_model(model: &'static Model, place: &Place, rng: &mut Rng) -> &'static Model {
    let others = fitting(model.group, place).into_iter().filter(|other| other.name != model.name);
    rng.choice(others.collect::<Vec<_>>()).unwrap_or(model)
}
