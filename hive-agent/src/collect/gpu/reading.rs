//! What was read of the GPUs of one kind, and what of it belongs to a worker.
//!
//! Invariant: a sum or a maximum is known only if all its parts are. A worker of which one
//! process or one GPU cannot be read has null, not the rest.

use hive_contract::bounded::Bounded;
use hive_contract::heartbeat::{Gpu, MAX_GPUS, MAX_WORKER_GPUS, Worker, WorkerGpu};
use hive_contract::text::Text;
use hive_contract::units::{Mebibytes, Percent};

/// Everything that was read of the GPUs of one kind at one moment.
#[derive(Debug, Default)]
pub(super) struct Reading {
    pub(super) devices: Vec<Device>,
    /// What could not be read: about whom, and why.
    pub(super) complaints: Vec<String>,
}

/// One GPU, or one MIG instance of one.
#[derive(Debug, Default, Clone)]
pub(super) struct Device {
    pub(super) gpu: Gpu,
    /// The processes that sit on it, each once.
    pub(super) uses: Vec<Use>,
}

impl Device {
    /// What is left to say of it when it cannot be read: its names and who sits on it.
    pub(super) fn without_figures(&self, state: &str) -> Self {
        let unknown = |used: &Use| Use { pid: used.pid, vram_bytes: None, util_pct: None };
        Self {
            gpu: Gpu {
                uuid: self.gpu.uuid.clone(),
                index: self.gpu.index,
                name: self.gpu.name.clone(),
                state: Some(Text::cut(state)),
                ..Gpu::default()
            },
            uses: self.uses.iter().map(unknown).collect(),
        }
    }
}

/// What one process takes of one GPU.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Use {
    pub(super) pid: u32,
    pub(super) vram_bytes: Option<u64>,
    pub(super) util_pct: Option<Percent>,
}

/// All GPUs of the machine, as one heartbeat sees them.
#[derive(Debug, Default)]
pub(in crate::collect) struct View {
    devices: Vec<Gpu>,
    /// By process, in ascending order; a process has one for every GPU that it sits on.
    uses: Vec<(Use, usize)>,
}

impl View {
    /// Adds what was read of the GPUs of one kind. What is too old keeps its names only.
    pub(super) fn add(&mut self, reading: &Reading, is_stale: bool) {
        for device in &reading.devices {
            let index = self.devices.len();
            let stale = is_stale.then(|| device.without_figures("not answering"));
            let Device { gpu, uses } = stale.as_ref().unwrap_or(device);
            self.devices.push(gpu.clone());
            self.uses.extend(uses.iter().map(|&used| (used, index)));
        }
        self.uses.sort_unstable_by_key(|(used, device)| (used.pid, *device));
    }

    /// How many GPUs there are.
    pub(super) fn len(&self) -> usize {
        self.devices.len()
    }

    /// The processes that sit on a GPU, in ascending order.
    pub(in crate::collect) fn process_ids(&self) -> Vec<u32> {
        let mut pids: Vec<_> = self.uses.iter().map(|(used, _)| used.pid).collect();
        pids.dedup();
        pids
    }

    /// The GPUs as a heartbeat lists them.
    pub(in crate::collect) fn into_devices(self) -> Bounded<Gpu, MAX_GPUS> {
        Bounded::cut(self.devices)
    }

    /// Fills in the GPU figures of a worker that consists of these processes. A worker that
    /// sits on no GPU has none.
    pub(in crate::collect) fn assign(
        &self,
        pids: impl IntoIterator<Item = u32>,
        worker: &mut Worker,
    ) {
        let mut parts: Vec<Part> = Vec::new();
        for pid in pids {
            let first = self.uses.partition_point(|(used, _)| used.pid < pid);
            for (used, device) in self.uses[first..].iter().take_while(|(used, _)| used.pid == pid)
            {
                match parts.iter_mut().find(|part| part.device == *device) {
                    Some(part) => part.add(used),
                    None => parts.push(Part::new(*device, used)),
                }
            }
        }
        if parts.is_empty() {
            return;
        }
        parts.sort_unstable_by_key(|part| part.device);
        let totals = || parts.iter().map(|part| self.devices[part.device].memory_total_mb);
        worker.vram_mb = sum(parts.iter().map(|part| part.vram_bytes)).map(mebibytes);
        worker.total_vram_mb = sum(totals().map(|total| total.map(Mebibytes::thousandths)))
            .and_then(Mebibytes::from_thousandths);
        worker.gpu_util_pct = parts
            .iter()
            .map(|part| part.util_pct)
            .reduce(|one, other| Some(one?.max(other?)))
            .flatten()
            .and_then(percent);
        let gpus = parts.iter().map(|part| WorkerGpu {
            uuid: self.devices[part.device].uuid.clone(),
            util_pct: part.util_pct.and_then(percent),
            vram_mb: part.vram_bytes.map(mebibytes),
        });
        worker.gpus = Bounded::cut(gpus.take(MAX_WORKER_GPUS).collect());
    }
}

/// A worker's part of one device.
struct Part {
    device: usize,
    vram_bytes: Option<u64>,
    /// In thousandths of a percent.
    util_pct: Option<u64>,
}

impl Part {
    fn new(device: usize, used: &Use) -> Self {
        let util_pct = used.util_pct.map(Percent::thousandths);
        Self { device, vram_bytes: used.vram_bytes, util_pct }
    }

    /// Adds a further process. Processes of one worker take turns on a device, so their shares
    /// of its time add up; rounding may bring them above all of it.
    fn add(&mut self, used: &Use) {
        self.vram_bytes = sum([self.vram_bytes, used.vram_bytes].into_iter());
        let util = sum([self.util_pct, used.util_pct.map(Percent::thousandths)].into_iter());
        self.util_pct = util.map(|util| util.min(100_000));
    }
}

/// The sum; unknown if a part is.
fn sum(mut parts: impl Iterator<Item = Option<u64>>) -> Option<u64> {
    parts.try_fold(0_u64, |sum, part| Some(sum.saturating_add(part?)))
}

fn mebibytes(bytes: u64) -> Mebibytes {
    Mebibytes::whole_from_bytes(bytes)
}

fn percent(thousandths: u64) -> Option<Percent> {
    Percent::from_thousandths(thousandths)
}

#[cfg(test)]
mod tests {
    use hive_contract::units::Count;
    use hive_contract::{Group, Instance};
    use proptest::prelude::*;

    use super::*;

    const MIB: u64 = 1 << 20;

    fn used(pid: u32, mb: Option<u64>, util: Option<u64>) -> Use {
        let util_pct = util.map(|util| Percent::from_integer(util).unwrap());
        Use { pid, vram_bytes: mb.map(|mb| mb * MIB), util_pct }
    }

    fn device(uuid: &str, total_mb: Option<u64>, uses: Vec<Use>) -> Device {
        let gpu = Gpu {
            uuid: Some(Text::cut(uuid)),
            util_pct: Percent::from_integer(50).ok(),
            memory_total_mb: total_mb.map(|mb| Mebibytes::from_integer(mb).unwrap()),
            state: Some(Text::cut("ok")),
            ..Gpu::default()
        };
        Device { gpu, uses }
    }

    fn view(devices: Vec<Device>) -> View {
        let mut view = View::default();
        view.add(&Reading { devices, complaints: Vec::new() }, false);
        view
    }

    fn worker(view: &View, pids: &[u32]) -> Worker {
        let (group, instance) = (Group::new("llm").unwrap(), Instance::new("1").unwrap());
        let mut worker = Worker::new(Count::from_integer(1).unwrap(), group, instance);
        view.assign(pids.iter().copied(), &mut worker);
        worker
    }

    /// VRAM, total and utilisation, as numbers.
    fn figures(worker: &Worker) -> [Option<f64>; 3] {
        [
            worker.vram_mb.map(Mebibytes::get),
            worker.total_vram_mb.map(Mebibytes::get),
            worker.gpu_util_pct.map(Percent::get),
        ]
    }

    #[test]
    fn memory_adds_up_over_gpus_and_the_busiest_counts() {
        let view = view(vec![
            device(
                "A",
                Some(1000),
                vec![used(7, Some(100), Some(30)), used(8, Some(50), Some(20))],
            ),
            device("B", Some(2000), vec![used(9, Some(300), Some(80))]),
            device("C", Some(4000), vec![used(1, Some(999), Some(99))]),
        ]);
        let worker = worker(&view, &[7, 8, 9, 10]);
        assert_eq!(figures(&worker), [Some(450.0), Some(3000.0), Some(80.0)]);
        let gpus: Vec<String> = worker
            .gpus
            .iter()
            .map(|gpu| {
                format!(
                    "{} {} {}",
                    gpu.uuid.as_ref().unwrap(),
                    gpu.vram_mb.unwrap(),
                    gpu.util_pct.unwrap()
                )
            })
            .collect();
        assert_eq!(gpus, ["A 150 50", "B 300 80"]);
    }

    #[test]
    fn processes_on_one_gpu_cannot_take_more_than_all_of_it() {
        let uses = vec![used(7, Some(1), Some(70)), used(8, Some(1), Some(60))];
        let view = view(vec![device("A", Some(10), uses)]);
        assert_eq!(figures(&worker(&view, &[7, 8])), [Some(2.0), Some(10.0), Some(100.0)]);
    }

    #[test]
    fn what_is_unknown_in_part_is_unknown() {
        let view = view(vec![
            device("A", Some(10), vec![used(7, Some(1), Some(0)), used(8, None, Some(5))]),
            device("B", None, vec![used(7, Some(1), None)]),
        ]);
        assert_eq!(figures(&worker(&view, &[7, 8])), [None, None, None]);
        assert_eq!(worker(&view, &[8]).gpu_util_pct.unwrap().get(), 5.0);
        assert_eq!(figures(&worker(&view, &[7])), [Some(2.0), None, None]);
        assert_eq!(worker(&view, &[7]).gpus.len(), 2);
    }

    #[test]
    fn a_worker_on_no_gpu_has_no_figures() {
        let view = view(vec![device("A", Some(10), vec![used(7, Some(1), Some(1))])]);
        let worker = worker(&view, &[1, 2]);
        assert_eq!(figures(&worker), [None, None, None]);
        assert!(worker.gpus.is_empty());
    }

    #[test]
    fn what_is_too_old_keeps_its_names() {
        let mut view = View::default();
        let devices = vec![device("A", Some(10), vec![used(7, Some(1), Some(1))])];
        view.add(&Reading { devices, complaints: Vec::new() }, true);
        let worker = worker(&view, &[7]);
        assert_eq!(figures(&worker), [None, None, None]);
        assert_eq!(worker.gpus[0].uuid.as_ref().unwrap().as_str(), "A");
        let devices = view.into_devices();
        let gpu = &devices[0];
        assert_eq!((gpu.util_pct, gpu.memory_total_mb), (None, None));
        assert_eq!(gpu.state.as_ref().unwrap().as_str(), "not answering");
    }

    proptest! {
        #[test]
        fn any_shares_give_figures_in_range(
            uses in proptest::collection::vec(
                (0_u32..4, proptest::option::of(any::<u64>()), proptest::option::of(0_u64..=100)),
                0..40,
            ),
        ) {
            let devices = uses
                .chunks(5)
                .map(|uses| Device {
                    gpu: Gpu::default(),
                    uses: uses
                        .iter()
                        .map(|&(pid, vram_bytes, util)| Use {
                            vram_bytes,
                            ..used(pid, None, util)
                        })
                        .collect(),
                })
                .collect();
            let worker = worker(&view(devices), &[0, 1, 2, 3]);
            prop_assert!(worker.gpu_util_pct.is_none_or(|util| util.get() <= 100.0));
            let all_known = uses.iter().all(|(_, bytes, _)| bytes.is_some()) && !uses.is_empty();
            prop_assert_eq!(worker.vram_mb.is_some(), all_known);
        }
    }
}
