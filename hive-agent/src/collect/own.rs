//! What the collector itself costs.

use std::path::Path;
use std::time::Duration;

use hive_contract::units::{CpuPercent, Mebibytes};
use rustix::time::{ClockId, clock_gettime};

use super::Scan;
use super::file::KeptFile;
use super::growth::Growth;
use super::process::parse_resident_pages;
use crate::clock::duration;

/// What is measured as the collector.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OwnCost {
    /// The whole process: it does nothing else.
    Process,
    /// Only the collecting threads, for a collector inside another program. The memory of
    /// threads cannot be told from that of their process, so it is not reported.
    Thread,
}

/// The collector's cost from reading to reading.
pub(super) struct OwnMeter {
    scope: OwnCost,
    cpu: Growth,
    statm: KeptFile,
}

impl OwnMeter {
    pub(super) fn new(scope: OwnCost) -> Self {
        Self { scope, cpu: Growth::default(), statm: KeptFile::default() }
    }

    /// Processor time; unknown in the first reading. Call it on the collecting thread, with
    /// the processor time of the threads that read GPUs.
    pub(super) fn cpu(&mut self, scan: &Scan<'_>, gpu_time: Duration) -> Option<CpuPercent> {
        let used = match self.scope {
            OwnCost::Process => duration(clock_gettime(ClockId::ProcessCPUTime)),
            OwnCost::Thread => duration(clock_gettime(ClockId::ThreadCPUTime)) + gpu_time,
        };
        let used = u64::try_from(used.as_nanos()).ok()?;
        CpuPercent::measured(self.cpu.per_s(used, scan.clock.monotonic())? / 1e9 * 100.0)
    }

    pub(super) fn memory(&mut self, scan: &mut Scan<'_>) -> Option<Mebibytes> {
        if self.scope == OwnCost::Thread {
            return None;
        }
        // The real /proc, also when workers are read from another root.
        let text = self.statm.read_record(Path::new("/proc/self"), "statm", scan.buffer);
        let pages = text.ok().and_then(parse_resident_pages);
        if pages.is_none() {
            scan.complaints.add("agent", "cannot read its own memory from /proc/self/statm");
        }
        Some(Mebibytes::whole_from_bytes(pages?.saturating_mul(scan.page_size)))
    }
}
