//! The compact JSON arrays of `heartbeats_live`: a heartbeat to its row and back.
//!
//! Invariant: [`Rows`] read from what [`encode`] wrote name the same heartbeat. The order of the figures in
//! each array is the one that `migrations/0001_live.sql` documents.

mod parse;

use hive_contract::bounded::Bounded;
use hive_contract::heartbeat::{Agent, Gpu, Heartbeat, MAX_GPUS, Node, Worker, WorkerGpu, Workers};
use hive_contract::text::Text;
use hive_contract::units::{
    Celsius, Count, CpuPercent, Load, Mebibytes, MebibytesPerSecond, Milliseconds, Percent,
    Seconds, Watts,
};

pub(super) use self::parse::{
    DecodeError, parse_gpus, parse_node, parse_samples, parse_worker_gpus,
};

/// The row numbers to which the names in one heartbeat were resolved.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct RowIds {
    pub(super) description: i64,
    /// One for each worker.
    pub(super) runs: Vec<i64>,
    /// One for each GPU.
    pub(super) gpus: Vec<i64>,
    /// One for each GPU of each worker, in order.
    pub(super) worker_gpus: Vec<i64>,
}

/// The three arrays of a row.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Arrays {
    pub(super) samples: String,
    pub(super) gpus: String,
    pub(super) node: String,
}

/// Writes one JSON array; absent elements at its end are left out.
struct ArrayWriter<'a> {
    out: &'a mut String,
    first: bool,
    absent: usize,
}

impl<'a> ArrayWriter<'a> {
    fn open(out: &'a mut String) -> Self {
        out.push('[');
        Self { out, first: true, absent: 0 }
    }

    fn separate(&mut self) {
        for _ in 0..std::mem::take(&mut self.absent) {
            self.out.push_str(if self.first { "null" } else { ",null" });
            self.first = false;
        }
        if !std::mem::replace(&mut self.first, false) {
            self.out.push(',');
        }
    }

    fn figure<T: Copy>(&mut self, figure: Option<T>, push: impl Fn(T, &mut String)) -> &mut Self {
        match figure {
            Some(figure) => {
                self.separate();
                push(figure, self.out);
            }
            None => self.absent += 1,
        }
        self
    }

    fn integer(&mut self, value: i64) -> &mut Self {
        self.separate();
        self.out.push_str(itoa::Buffer::new().format(value));
        self
    }

    fn text(&mut self, text: Option<&Text>) -> &mut Self {
        match text {
            Some(text) => {
                self.separate();
                self.out.push_str(&serde_json::Value::from(text.as_str()).to_string());
            }
            None => self.absent += 1,
        }
        self
    }

    /// A nested array; an empty one is absent.
    fn nested(&mut self, empty: bool, write: impl FnOnce(&mut String)) -> &mut Self {
        if empty {
            self.absent += 1;
        } else {
            self.separate();
            write(self.out);
        }
        self
    }

    fn close(&mut self) {
        self.out.push(']');
    }
}

/// The arrays of a heartbeat whose names were resolved to `ids`.
pub(super) fn encode(heartbeat: &Heartbeat, ids: &RowIds) -> Arrays {
    let mut arrays = Arrays {
        samples: String::with_capacity(2 + 48 * heartbeat.workers.len()),
        ..Arrays::default()
    };
    let mut worker_gpus = ids.worker_gpus.iter();
    let mut list = ArrayWriter::open(&mut arrays.samples);
    for (worker, &run) in heartbeat.workers.iter().zip(&ids.runs) {
        list.nested(false, |out| encode_worker(out, worker, run, &mut worker_gpus));
    }
    list.close();
    let mut list = ArrayWriter::open(&mut arrays.gpus);
    for (gpu, &id) in heartbeat.gpus.iter().zip(&ids.gpus) {
        list.nested(false, |out| {
            ArrayWriter::open(out)
                .integer(id)
                .figure(gpu.util_pct, Percent::push_decimal)
                .figure(gpu.memory_used_mb, Mebibytes::push_decimal)
                .figure(gpu.temperature_c, Celsius::push_decimal)
                .figure(gpu.power_w, Watts::push_decimal)
                .text(gpu.state.as_ref())
                .close();
        });
    }
    list.close();
    encode_node(&mut arrays.node, heartbeat, ids.description);
    arrays
}

fn encode_worker(
    out: &mut String,
    worker: &Worker,
    run: i64,
    gpu_ids: &mut std::slice::Iter<'_, i64>,
) {
    ArrayWriter::open(out)
        .integer(run)
        .figure(worker.cpu_pct, CpuPercent::push_decimal)
        .figure(worker.rss_mb, Mebibytes::push_decimal)
        .figure(worker.io_r_mb_s, MebibytesPerSecond::push_decimal)
        .figure(worker.io_w_mb_s, MebibytesPerSecond::push_decimal)
        .figure(worker.uptime_s, Seconds::push_decimal)
        .figure(worker.gpu_util_pct, Percent::push_decimal)
        .figure(worker.vram_mb, Mebibytes::push_decimal)
        .figure(worker.requests_running, Count::push_decimal)
        .figure(worker.requests_waiting, Count::push_decimal)
        .figure(worker.kv_cache_pct, Percent::push_decimal)
        .nested(worker.gpus.is_empty(), |out| {
            let gpus = worker.gpus.iter().zip(gpu_ids);
            encode_worker_gpus(out, gpus.map(|(gpu, &id)| (id, gpu.util_pct, gpu.vram_mb)));
        })
        .close();
}

/// A worker's part of each GPU: the GPU's number, util_pct, vram_mb.
pub(super) fn encode_worker_gpus(
    out: &mut String,
    gpus: impl Iterator<Item = (i64, Option<Percent>, Option<Mebibytes>)>,
) {
    let mut list = ArrayWriter::open(out);
    for (gpu, util_pct, vram_mb) in gpus {
        list.nested(false, |out| {
            ArrayWriter::open(out)
                .integer(gpu)
                .figure(util_pct, Percent::push_decimal)
                .figure(vram_mb, Mebibytes::push_decimal)
                .close();
        });
    }
    list.close();
}

fn encode_node(out: &mut String, heartbeat: &Heartbeat, description: i64) {
    let node = heartbeat.node.as_ref();
    let agent = heartbeat.agent.as_ref();
    let errors = agent.map(|agent| &agent.errors[..]).unwrap_or_default();
    ArrayWriter::open(out)
        .integer(description)
        .figure(node.and_then(|n| n.cpu_pct), CpuPercent::push_decimal)
        .figure(node.and_then(|n| n.memory_used_mb), Mebibytes::push_decimal)
        .figure(node.and_then(|n| n.load_1m), Load::push_decimal)
        .figure(node.and_then(|n| n.uptime_s), Seconds::push_decimal)
        .figure(agent.and_then(|a| a.cpu_pct), CpuPercent::push_decimal)
        .figure(agent.and_then(|a| a.rss_mb), Mebibytes::push_decimal)
        .figure(agent.and_then(|a| a.collect_ms), Milliseconds::push_decimal)
        .figure(agent.and_then(|a| a.spooled), Count::push_decimal)
        .figure(agent.and_then(|a| a.gpu_age_ms), Milliseconds::push_decimal)
        .nested(errors.is_empty(), |out| {
            let mut list = ArrayWriter::open(out);
            for error in errors {
                list.text(Some(error));
            }
            list.close();
        })
        .close();
}

/// What the row numbers stand for.
pub(super) trait Names {
    /// The worker of a run: pid, group, instance, model and total_vram_mb filled in.
    fn run(&self, run: i64) -> Option<Worker>;
    /// The GPU: uuid, index, name and memory_total_mb filled in.
    fn gpu(&self, gpu: i64) -> Option<Gpu>;
}

/// A row, with the numbers that its names were resolved to.
#[derive(Debug)]
pub(super) struct Decoded {
    pub(super) ids: RowIds,
    pub(super) workers: Workers,
    pub(super) gpus: Bounded<Gpu, MAX_GPUS>,
    /// Without what the description holds.
    pub(super) node: Node,
    /// Without what the description holds.
    pub(super) agent: Agent,
}

/// A heartbeat as it is stored, live or sealed: figures, and numbers instead of names.
#[derive(Debug)]
pub(super) struct Rows {
    pub(super) samples: Vec<SampleRow>,
    pub(super) gpus: Vec<GpuRow>,
    pub(super) node: NodeRow,
}

impl Rows {
    /// Reads the three arrays of a live row.
    pub(super) fn parse(samples: &[u8], gpus: &[u8], node: &[u8]) -> Result<Self, DecodeError> {
        let mut rows =
            Self { samples: Vec::new(), gpus: parse_gpus(gpus)?, node: parse_node(node)? };
        parse_samples(samples, &mut rows.samples)?;
        Ok(rows)
    }

    /// Puts in what the numbers stand for. Where that is unknown, the worker or GPU is left out.
    pub(super) fn name(self, names: &impl Names) -> Decoded {
        let NodeRow { description, node, agent } = self.node;
        let mut ids = RowIds { description, ..RowIds::default() };
        let mut workers = Vec::with_capacity(self.samples.len());
        for row in self.samples {
            let Some(worker) = names.run(row.run) else { continue };
            ids.runs.push(row.run);
            let gpus = row.gpus.into_iter().map(|gpu| {
                ids.worker_gpus.push(gpu.gpu);
                let uuid = names.gpu(gpu.gpu).and_then(|g| g.uuid);
                WorkerGpu { uuid, util_pct: gpu.util_pct, vram_mb: gpu.vram_mb }
            });
            let gpus = Bounded::cut(gpus.collect());
            workers.push(Worker { gpus, ..row.figures.onto(worker) });
        }
        let mut devices = Vec::with_capacity(self.gpus.len());
        for row in self.gpus {
            let Some(gpu) = names.gpu(row.gpu) else { continue };
            ids.gpus.push(row.gpu);
            devices.push(Gpu {
                util_pct: row.util_pct,
                memory_used_mb: row.memory_used_mb,
                temperature_c: row.temperature_c,
                power_w: row.power_w,
                state: row.state,
                ..gpu
            });
        }
        let workers = Workers::new(workers).unwrap_or_default();
        Decoded { ids, workers, gpus: Bounded::cut(devices), node, agent }
    }
}

/// The figures of one sample.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Figures {
    pub(super) cpu_pct: Option<CpuPercent>,
    pub(super) rss_mb: Option<Mebibytes>,
    pub(super) io_r_mb_s: Option<MebibytesPerSecond>,
    pub(super) io_w_mb_s: Option<MebibytesPerSecond>,
    pub(super) uptime_s: Option<Seconds>,
    pub(super) gpu_util_pct: Option<Percent>,
    pub(super) vram_mb: Option<Mebibytes>,
    pub(super) requests_running: Option<Count>,
    pub(super) requests_waiting: Option<Count>,
    pub(super) kv_cache_pct: Option<Percent>,
}

impl Figures {
    fn onto(self, worker: Worker) -> Worker {
        Worker {
            cpu_pct: self.cpu_pct,
            rss_mb: self.rss_mb,
            io_r_mb_s: self.io_r_mb_s,
            io_w_mb_s: self.io_w_mb_s,
            uptime_s: self.uptime_s,
            gpu_util_pct: self.gpu_util_pct,
            vram_mb: self.vram_mb,
            requests_running: self.requests_running,
            requests_waiting: self.requests_waiting,
            kv_cache_pct: self.kv_cache_pct,
            ..worker
        }
    }
}

/// One element of `samples`.
#[derive(Debug)]
pub(super) struct SampleRow {
    pub(super) run: i64,
    pub(super) figures: Figures,
    pub(super) gpus: Vec<WorkerGpuRow>,
}

/// One GPU of one sample.
#[derive(Debug)]
pub(super) struct WorkerGpuRow {
    pub(super) gpu: i64,
    pub(super) util_pct: Option<Percent>,
    pub(super) vram_mb: Option<Mebibytes>,
}

/// One element of `gpus`.
#[derive(Debug)]
pub(super) struct GpuRow {
    pub(super) gpu: i64,
    pub(super) util_pct: Option<Percent>,
    pub(super) memory_used_mb: Option<Mebibytes>,
    pub(super) temperature_c: Option<Celsius>,
    pub(super) power_w: Option<Watts>,
    pub(super) state: Option<Text>,
}

/// The array `node`.
#[derive(Debug)]
pub(super) struct NodeRow {
    pub(super) description: i64,
    pub(super) node: Node,
    pub(super) agent: Agent,
}
