//! What must hold of rows of the history, whatever is in them. Only the fuzz targets of `fuzz/`
//! are built with this.

use hive_contract::heartbeat::{Agent, Gpu, Node, Worker};
use hive_contract::text::Text;
use hive_contract::units::Count;
use hive_contract::{Group, Heartbeat, Instance, Timestamp};

use super::codec::{self, Arrays, Decoded, Names, RowIds, Rows};

/// Every number stands for something.
struct Everything;

impl Names for Everything {
    fn run(&self, run: i64) -> Option<Worker> {
        let name = format!("{run}");
        let pid = Count::from_integer(run.unsigned_abs() >> 12).ok()?;
        Some(Worker::new(pid, Group::new("g").ok()?, Instance::new(name).ok()?))
    }

    fn gpu(&self, gpu: i64) -> Option<Gpu> {
        Some(Gpu { uuid: Some(Text::cut(&gpu.to_string())), ..Gpu::default() })
    }
}

/// What a heartbeat's numbers stand for, counted from 0.
struct Of<'a>(&'a Heartbeat);

impl Names for Of<'_> {
    fn run(&self, run: i64) -> Option<Worker> {
        self.0.workers.get(usize::try_from(run).ok()?).cloned()
    }

    fn gpu(&self, gpu: i64) -> Option<Gpu> {
        let gpu = usize::try_from(gpu).ok()?;
        let of_workers = self.0.workers.iter().flat_map(|worker| &worker.gpus);
        let listed = self.0.gpus.len();
        match self.0.gpus.get(gpu) {
            Some(gpu) => Some(gpu.clone()),
            None => of_workers
                .map(|part| Gpu { uuid: part.uuid.clone(), ..Gpu::default() })
                .nth(gpu - listed),
        }
    }
}

/// A heartbeat comes back out of its row as it was.
pub fn heartbeat(json: &[u8]) {
    let now = Timestamp::from_millis(1_764_000_000_000).expect("a time");
    let Ok(heartbeat) = Heartbeat::parse(json, now) else { return };
    let numbers = |from: usize, n: usize| (from..from + n).map(|number| number as i64).collect();
    let (workers, gpus) = (heartbeat.workers.len(), heartbeat.gpus.len());
    let worker_gpus = heartbeat.workers.iter().map(|worker| worker.gpus.len()).sum();
    let ids = RowIds {
        description: 7,
        runs: numbers(0, workers),
        gpus: numbers(0, gpus),
        worker_gpus: numbers(gpus, worker_gpus),
    };
    let Arrays { samples, gpus, node } = codec::encode(&heartbeat, &ids);
    let rows = Rows::parse(samples.as_bytes(), gpus.as_bytes(), node.as_bytes())
        .expect("what was written can be read");
    let decoded = rows.name(&Of(&heartbeat));
    assert_eq!(decoded.ids, ids);
    assert_eq!(decoded.workers, heartbeat.workers);
    assert_eq!(decoded.gpus, heartbeat.gpus);
    let Node { cpu_pct, memory_used_mb, load_1m, uptime_s, .. } =
        heartbeat.node.clone().unwrap_or_default();
    let node = Node { cpu_pct, memory_used_mb, load_1m, uptime_s, ..Node::default() };
    assert_eq!(decoded.node, node);
    let agent = Agent { version: None, ..heartbeat.agent.clone().unwrap_or_default() };
    assert_eq!(decoded.agent, agent);
}

/// A row of any texts: what is read of it is within the bounds of a heartbeat, and stays the same
/// when it is written again.
pub fn row(samples: &str, gpus: &str, node: &str) {
    let Ok(rows) = Rows::parse(samples.as_bytes(), gpus.as_bytes(), node.as_bytes()) else {
        return;
    };
    let Decoded { ids, workers, gpus, node, agent } = rows.name(&Everything);
    let parts: usize = workers.iter().map(|worker| worker.gpus.len()).sum();
    // Of too many of anything some are left out, and then the numbers are of no use.
    if (ids.runs.len(), ids.gpus.len(), ids.worker_gpus.len()) != (workers.len(), gpus.len(), parts)
    {
        return;
    }
    let json = br#"{"hive": {"id": "h"}}"#;
    let now = Timestamp::from_millis(0).expect("a time");
    let empty = Heartbeat::parse(json, now).expect("a heartbeat");
    let heartbeat = Heartbeat { workers, gpus, node: Some(node), agent: Some(agent), ..empty };
    let Arrays { samples, gpus, node } = codec::encode(&heartbeat, &ids);
    let again = Rows::parse(samples.as_bytes(), gpus.as_bytes(), node.as_bytes())
        .expect("what was written can be read");
    let again = again.name(&Everything);
    assert_eq!((again.ids, again.workers), (ids, heartbeat.workers));
    assert_eq!((again.gpus, Some(again.node)), (heartbeat.gpus, heartbeat.node));
    assert_eq!(Some(again.agent), heartbeat.agent);
}
