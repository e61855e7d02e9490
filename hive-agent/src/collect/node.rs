//! The machine as a whole, from `/proc`.

use std::path::Path;

use hive_contract::heartbeat::Node;
use hive_contract::units::{Count, CpuPercent, Load, Mebibytes, Seconds};

use super::Scan;
use super::file::KeptFile;
use super::growth::Growth;
use super::text::{keyed, lines, number, words};

/// The machine's files, kept open from reading to reading.
#[derive(Default)]
pub(super) struct NodeMeter {
    stat: KeptFile,
    meminfo: KeptFile,
    loadavg: KeptFile,
    cpu: Growth,
}

impl NodeMeter {
    /// Reads what can be read; the processor time is unknown in the first reading.
    pub(super) fn read(&mut self, scan: &mut Scan<'_>) -> Node {
        let cpu = read(&mut self.stat, "stat", scan, parse_cpu);
        let at = scan.clock.monotonic();
        let memory = read(&mut self.meminfo, "meminfo", scan, parse_memory);
        let busy_ticks_per_s = cpu.and_then(|cpu| self.cpu.per_s(cpu.busy_ticks, at));
        Node {
            cpu_pct: busy_ticks_per_s
                .and_then(|ticks| CpuPercent::measured(ticks / scan.ticks_per_s as f64 * 100.0)),
            cpu_count: cpu.and_then(|cpu| Count::from_integer(cpu.count).ok()),
            memory_used_mb: memory.map(|memory| Mebibytes::whole_from_bytes(memory.used_bytes)),
            memory_total_mb: memory.map(|memory| Mebibytes::whole_from_bytes(memory.total_bytes)),
            load_1m: read(&mut self.loadavg, "loadavg", scan, parse_load),
            uptime_s: Seconds::from_integer(scan.clock.since_boot().as_secs()).ok(),
        }
    }
}

fn read<T>(
    file: &mut KeptFile,
    name: &str,
    scan: &mut Scan<'_>,
    parse: fn(&[u8]) -> Option<T>,
) -> Option<T> {
    let proc_root: &Path = scan.proc_root;
    let path = proc_root.join(name);
    match file.read_record(proc_root, name, scan.buffer) {
        Ok(text) => {
            let parsed = parse(text);
            if parsed.is_none() {
                scan.complaints.add(path.display(), "has an unknown form");
            }
            parsed
        }
        Err(error) => {
            scan.complaints.add(path.display(), error);
            None
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Cpu {
    busy_ticks: u64,
    pub(super) count: u64,
}

/// Busy is user, nice, system, interrupts and what a hypervisor took; waiting for I/O is not,
/// and guests are part of user already.
pub(super) fn parse_cpu(text: &[u8]) -> Option<Cpu> {
    let total = lines(text).find_map(|line| line.strip_prefix(b"cpu "))?;
    let mut fields = [0_u64; 8];
    let mut words = words(total);
    for field in &mut fields {
        *field = number(words.next()?)?;
    }
    let [user, nice, system, _idle, _iowait, irq, softirq, steal] = fields;
    let busy_ticks =
        [user, nice, system, irq, softirq, steal].into_iter().try_fold(0, u64::checked_add)?;
    let is_one = |line: &&[u8]| {
        line.strip_prefix(b"cpu").and_then(<[u8]>::first).is_some_and(u8::is_ascii_digit)
    };
    Some(Cpu { busy_ticks, count: lines(text).filter(is_one).count() as u64 })
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Memory {
    pub(super) used_bytes: u64,
    pub(super) total_bytes: u64,
}

/// Used is what is not available to new programs: caches that can be dropped do not count.
pub(super) fn parse_memory(text: &[u8]) -> Option<Memory> {
    let bytes = |key| keyed(text, key)?.checked_mul(1024);
    let total_bytes = bytes("MemTotal")?;
    Some(Memory { used_bytes: total_bytes.saturating_sub(bytes("MemAvailable")?), total_bytes })
}

pub(super) fn parse_load(text: &[u8]) -> Option<Load> {
    let first = std::str::from_utf8(words(lines(text).next()?).next()?).ok()?;
    Load::new(first.parse().ok()?).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_machine_is_read() {
        let stat = b"cpu  10 20 30 1000 500 4 5 6 7 8\ncpu0 1 1\ncpu1 1 1\nintr 5\nctxt 1\n";
        assert_eq!(parse_cpu(stat), Some(Cpu { busy_ticks: 75, count: 2 }));
        let meminfo = b"MemTotal:  1000 kB\nMemFree: 1 kB\nMemAvailable:  400 kB\n";
        let memory = Memory { used_bytes: 600 * 1024, total_bytes: 1000 * 1024 };
        assert_eq!(parse_memory(meminfo), Some(memory));
        assert_eq!(parse_load(b"1.90 2.00 3.00 1/100 7\n").unwrap().to_string(), "1.9");
        assert_eq!(parse_load(b"NaN 0 0\n"), None);
        assert_eq!(parse_cpu(b"cpu 1 2 3\n"), None);
    }

    #[test]
    fn what_is_torn_is_no_other_number() {
        assert_eq!(parse_cpu(b"cpu 1 2 3 4 5 6 7 8"), None);
        assert_eq!(parse_memory(b"MemTotal: 1000 kB\nMemAvailable: 40"), None);
        assert_eq!(parse_load(b"1.9"), None);
    }

    proptest! {
        #[test]
        fn any_bytes_are_read(bytes: Vec<u8>) {
            let _ = parse_cpu(&bytes);
            let _ = parse_memory(&bytes);
            let _ = parse_load(&bytes);
        }

        #[test]
        fn any_numbers_are_read(line in "cpu ( [0-9]{1,22}){0,12}\n(cpu[0-9] 1\n){0,3}") {
            let _ = parse_cpu(line.as_bytes());
        }
    }
}
