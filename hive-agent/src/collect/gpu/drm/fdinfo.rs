//! What a process says of its use of a GPU, in `/proc/PID/fdinfo/FD` of an open `/dev/dri` file.
//!
//! The keys are those of the kernel's *DRM client usage stats*: `drm-pdev`, `drm-client-id`,
//! `drm-engine-NAME` (ns of work since the file was opened) or, with xe, `drm-cycles-NAME` of
//! `drm-total-cycles-NAME`, `drm-engine-capacity-NAME` (engines of that name), and
//! `drm-resident-REGION`, or in older kernels `drm-memory-REGION`.
//!
//! Invariant: a client counts once, by its device and its number, however many descriptors
//! and forked processes share it.

use std::collections::HashMap;
use std::time::Duration;

use crate::collect::growth::Growth;
use crate::collect::text::{lines, number, words};

/// The most engines of one client.
const MAX_ENGINES: usize = 32;

/// One reading of one client.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Fdinfo {
    /// Where the device is on its bus.
    pub(super) address: String,
    /// The client's number on that device.
    pub(super) client: u64,
    /// Memory of the GPU's own that it holds; `None` if the driver does not say.
    pub(super) vram_bytes: Option<u64>,
    engines: Vec<Engine>,
}

#[derive(Debug, Default, PartialEq, Eq)]
struct Engine {
    name: String,
    busy_ns: Option<u64>,
    cycles: Option<u64>,
    total_cycles: Option<u64>,
    capacity: Option<u64>,
}

impl Fdinfo {
    /// Whether the GPU has ever worked for it or holds anything of it. Programs open every GPU
    /// there is just to choose one.
    pub(super) fn is_in_use(&self) -> bool {
        let has_worked = |engine: &Engine| {
            engine.busy_ns.is_some_and(|ns| ns > 0)
                || engine.cycles.is_some_and(|cycles| cycles > 0)
        };
        self.vram_bytes.is_some_and(|bytes| bytes > 0) || self.engines.iter().any(has_worked)
    }
}

/// Reads a client; `None` if the text is none, or of a driver that does not tell.
pub(super) fn parse(text: &[u8]) -> Option<Fdinfo> {
    let (mut address, mut client) = (None, None);
    let (mut resident, mut memory) = (None, None);
    let mut engines: Vec<Engine> = Vec::new();
    for line in lines(text) {
        let Some((key, value)) = split(line) else { continue };
        let mut values = words(value);
        let (Some(first), unit) = (values.next(), values.next()) else { continue };
        let is_own = |region: &[u8]| region.starts_with(b"vram") || region.starts_with(b"local");
        let mut set = |name: &[u8], set: fn(&mut Engine, u64)| {
            let name = String::from_utf8_lossy(name);
            let known = engines.iter().position(|engine| engine.name == name);
            let index = match known {
                Some(index) => index,
                None if engines.len() == MAX_ENGINES => return,
                None => {
                    engines.push(Engine { name: name.into_owned(), ..Engine::default() });
                    engines.len() - 1
                }
            };
            if let Some(value) = number(first) {
                set(&mut engines[index], value);
            }
        };
        if key == b"pdev" {
            address = Some(String::from_utf8_lossy(first).into_owned());
        } else if key == b"client-id" {
            client = number(first);
        } else if let Some(name) = key.strip_prefix(b"engine-capacity-") {
            set(name, |engine, value| engine.capacity = Some(value));
        } else if let Some(name) = key.strip_prefix(b"engine-") {
            set(name, |engine, value| engine.busy_ns = Some(value));
        } else if let Some(name) = key.strip_prefix(b"total-cycles-") {
            set(name, |engine, value| engine.total_cycles = Some(value));
        } else if let Some(name) = key.strip_prefix(b"cycles-") {
            set(name, |engine, value| engine.cycles = Some(value));
        } else if key.strip_prefix(b"resident-").is_some_and(is_own) {
            resident = add(resident, bytes(first, unit));
        } else if key.strip_prefix(b"memory-").is_some_and(is_own) {
            memory = add(memory, bytes(first, unit));
        }
    }
    let vram_bytes = resident.or(memory);
    Some(Fdinfo { address: address?, client: client?, vram_bytes, engines })
}

/// The part of a key after `drm-`, and its value.
fn split(line: &[u8]) -> Option<(&[u8], &[u8])> {
    let line = line.strip_prefix(b"drm-")?;
    let colon = line.iter().position(|&byte| byte == b':')?;
    Some((&line[..colon], &line[colon + 1..]))
}

fn bytes(value: &[u8], unit: Option<&[u8]>) -> Option<u64> {
    let shift = match unit {
        None => 0,
        Some(b"KiB") => 10,
        Some(b"MiB") => 20,
        Some(_) => return None,
    };
    number(value)?.checked_mul(1 << shift)
}

fn add(sum: Option<u64>, value: Option<u64>) -> Option<u64> {
    Some(sum.unwrap_or(0).saturating_add(value?))
}

/// The clients' work from reading to reading.
#[derive(Default)]
pub(super) struct Clients {
    known: HashMap<(String, u64), Client>,
    turn: u64,
}

#[derive(Default)]
struct Client {
    turn: u64,
    engines: HashMap<String, Work>,
}

#[derive(Default)]
struct Work {
    busy: Growth,
    cycles: Option<(u64, u64)>,
}

impl Clients {
    /// Begins a reading.
    pub(super) fn begin(&mut self) {
        self.turn += 1;
    }

    /// Takes one client: the share of time, 0 to 1, in which its busiest kind of engine worked
    /// for it, unknown in its first reading. `None` if it was taken in this reading already.
    pub(super) fn take(&mut self, info: &Fdinfo, at: Duration) -> Option<Option<f64>> {
        let client = self.known.entry((info.address.clone(), info.client)).or_default();
        if client.turn == self.turn {
            return None;
        }
        client.turn = self.turn;
        let mut busiest: Option<f64> = None;
        for engine in &info.engines {
            // `entry` would need a name of its own each time.
            if !client.engines.contains_key(&engine.name) {
                client.engines.insert(engine.name.clone(), Work::default());
            }
            let Some(work) = client.engines.get_mut(&engine.name) else { continue };
            if let Some(share) = work.share(engine, at) {
                busiest = Some(busiest.map_or(share, |busiest| busiest.max(share)));
            }
        }
        Some(busiest)
    }

    /// Ends a reading: clients that were not seen in it are gone.
    pub(super) fn end(&mut self) {
        self.known.retain(|_, client| client.turn == self.turn);
    }
}

impl Work {
    fn share(&mut self, engine: &Engine, at: Duration) -> Option<f64> {
        let capacity = engine.capacity.unwrap_or(1).max(1) as f64;
        let share = match (engine.busy_ns, engine.cycles.zip(engine.total_cycles)) {
            (Some(busy_ns), _) => self.busy.per_s(busy_ns, at)? / 1e9,
            (None, Some((cycles, total))) => {
                let (last_cycles, last_total) = self.cycles.replace((cycles, total))?;
                let worked = cycles.checked_sub(last_cycles)?;
                let passed = total.checked_sub(last_total).filter(|&passed| passed > 0)?;
                worked as f64 / passed as f64
            }
            (None, None) => return None,
        };
        Some((share / capacity).min(1.0))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const AMDGPU: &[u8] =
        b"pos:\t0\nflags:\t02100002\nmnt_id:\t24\nino:\t1207\ndrm-driver:\tamdgpu\n\
        drm-client-id:\t42\ndrm-pdev:\t0000:03:00.0\npasid:\t32771\ndrm-memory-vram:\t2048 KiB\n\
        drm-memory-gtt: \t4096 KiB\ndrm-memory-cpu: \t0 KiB\n\
        drm-engine-gfx:\t1000000000 ns\ndrm-engine-compute:\t5000000000 ns\n\
        drm-engine-capacity-compute:\t4\n";

    const S: fn(u64) -> Duration = Duration::from_secs;

    fn share(clients: &mut Clients, text: &[u8], at: Duration) -> Option<Option<f64>> {
        clients.begin();
        let share = clients.take(&parse(text).unwrap(), at);
        clients.end();
        share
    }

    #[test]
    fn amdgpu_is_read() {
        let info = parse(AMDGPU).unwrap();
        assert_eq!((info.address.as_str(), info.client), ("0000:03:00.0", 42));
        assert_eq!(info.vram_bytes, Some(2048 << 10));
        let mut clients = Clients::default();
        assert_eq!(share(&mut clients, AMDGPU, S(1)), Some(None), "a rate needs two readings");
        let text = String::from_utf8_lossy(AMDGPU);
        // 0.5 s on the one graphics engine, and 1.2 s on four for computing.
        let text = text.replace("gfx:\t10", "gfx:\t15").replace("compute:\t50", "compute:\t62");
        assert_eq!(share(&mut clients, text.as_bytes(), S(2)), Some(Some(0.5)));
    }

    #[test]
    fn xe_counts_cycles_and_resident_memory() {
        let text = |cycles: u64, total: u64| {
            format!(
                "drm-driver: xe\ndrm-client-id: 7\ndrm-pdev: 0000:00:02.0\n\
                 drm-total-vram0: 9 MiB\ndrm-resident-vram0: 3 MiB\ndrm-resident-vram1: 1 MiB\n\
                 drm-resident-system: 5 MiB\ndrm-cycles-ccs: {cycles}\n\
                 drm-total-cycles-ccs: {total}\ndrm-engine-capacity-ccs: 2\n"
            )
        };
        assert_eq!(parse(text(0, 0).as_bytes()).unwrap().vram_bytes, Some(4 << 20));
        let mut clients = Clients::default();
        assert_eq!(share(&mut clients, text(100, 1000).as_bytes(), S(1)), Some(None));
        assert_eq!(share(&mut clients, text(600, 2000).as_bytes(), S(2)), Some(Some(0.25)));
        assert_eq!(share(&mut clients, text(600, 2000).as_bytes(), S(3)), Some(None));
    }

    #[test]
    fn i915_without_memory_of_its_own_has_none() {
        let text = b"drm-driver: i915\ndrm-pdev: 0000:00:02.0\ndrm-client-id: 7\n\
            drm-resident-system0: 5 MiB\ndrm-engine-render: 9288864723 ns\n";
        assert_eq!(parse(text).unwrap().vram_bytes, None);
    }

    #[test]
    fn a_client_counts_once_and_is_forgotten_when_it_is_gone() {
        let mut clients = Clients::default();
        let info = parse(AMDGPU).unwrap();
        clients.begin();
        assert!(clients.take(&info, S(1)).is_some());
        assert!(clients.take(&info, S(1)).is_none());
        clients.end();
        clients.begin();
        clients.end();
        assert!(clients.known.is_empty());
    }

    #[test]
    fn a_gpu_that_is_only_open_is_not_in_use() {
        let is_in_use = |rest: &str| {
            let text = format!("drm-pdev: a\ndrm-client-id: 1\n{rest}");
            parse(text.as_bytes()).unwrap().is_in_use()
        };
        assert!(!is_in_use("drm-memory-vram: 0 KiB\ndrm-engine-gfx: 0 ns\ndrm-cycles-ccs: 0\n"));
        assert!(is_in_use("drm-memory-vram: 1 KiB\n"));
        assert!(is_in_use("drm-engine-gfx: 1 ns\n"));
        assert!(is_in_use("drm-cycles-ccs: 1\n"));
    }

    #[test]
    fn what_is_no_client_is_none() {
        assert_eq!(parse(b"pos: 0\nflags: 0\n"), None);
        assert_eq!(parse(b"drm-driver: vgem\ndrm-client-id: 1\n"), None);
        assert_eq!(parse(b"drm-pdev: 0000:03:00.0\ndrm-client-id: x\n"), None);
    }

    proptest! {
        #[test]
        fn any_bytes_are_read(bytes: Vec<u8>) {
            let _ = parse(&bytes);
        }

        #[test]
        fn any_keys_give_a_share_in_range(
            lines in "(drm-(engine|cycles|total-cycles|engine-capacity|resident|memory)-[a-c]?: [0-9]{0,20} ?(ns|KiB|MiB)?\n){0,50}",
            later in "(drm-(engine|cycles|total-cycles|engine-capacity)-[a-c]?: [0-9]{0,20}\n){0,50}",
        ) {
            let mut clients = Clients::default();
            for (text, at) in [(lines, 1), (later, 2)] {
                let text = format!("drm-pdev: a\ndrm-client-id: 1\n{text}");
                let share = share(&mut clients, text.as_bytes(), S(at)).unwrap();
                prop_assert!(share.is_none_or(|share| (0.0..=1.0).contains(&share)));
            }
        }
    }
}
