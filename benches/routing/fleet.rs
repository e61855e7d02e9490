//! Heartbeats of a made-up fleet.

use std::sync::Arc;

use hive_contract::heartbeat::{Hive, Worker, Workers};
use hive_contract::text::{ModelName, Text};
use hive_contract::units::{Count, Mebibytes, Milliseconds, Percent};
use hive_contract::{Group, Heartbeat, HiveId, Instance, Timestamp};

use crate::Result;

/// GPU memory of each worker's devices, and what a model takes of it.
const TOTAL_VRAM_MB: u64 = 24_576;
const VRAM_MB: u64 = 8_192;

/// One hive of a fleet, with workers of several models.
pub(crate) fn hive(number: usize, workers: usize, models: usize) -> Result<Heartbeat> {
    let id = HiveId::new(format!("hive-{number}"))?;
    let hostname = Some(Text::new(format!("10.0.{}.{}", number / 250, number % 250))?);
    let workers: Result<Vec<Worker>> =
        (0..workers).map(|at| worker(at, (number * workers + at) % models)).collect();
    Ok(Heartbeat {
        hive: Hive {
            id,
            hostname,
            port: None,
            operational_status: None,
            health_status: None,
            version: None,
        },
        timestamp: Timestamp::from_millis(0).ok_or("the epoch is a time")?,
        interval_ms: Some(Milliseconds::from_integer(1000)?),
        workers: Workers::new(workers?)?,
        gpus: Default::default(),
        node: None,
        agent: None,
    })
}

fn worker(at: usize, model: usize) -> Result<Worker> {
    let instance = Instance::new((8000 + at).to_string())?;
    Ok(Worker {
        model: Some(ModelName::new(format!("model-{model}"))?),
        gpu_util_pct: Some(Percent::from_integer(0)?),
        vram_mb: Some(Mebibytes::from_integer(VRAM_MB)?),
        total_vram_mb: Some(Mebibytes::from_integer(TOTAL_VRAM_MB)?),
        ..Worker::new(Count::from_integer(at as u64 + 1)?, Group::new("llm")?, instance)
    })
}

/// The same hive at another time: for each worker, the requests that it has.
pub(crate) fn reading(
    hive: &Heartbeat,
    timestamp: Timestamp,
    requests: impl Fn(usize) -> u64,
    told: bool,
) -> Result<Arc<Heartbeat>> {
    let mut workers = hive.workers.to_vec();
    for (at, worker) in workers.iter_mut().enumerate() {
        let requests = requests(at);
        worker.gpu_util_pct = Some(Percent::from_integer(if requests > 0 { 97 } else { 0 })?);
        if told {
            worker.requests_running = Some(Count::from_integer(requests.min(1))?);
            worker.requests_waiting = Some(Count::from_integer(requests.saturating_sub(1))?);
        }
    }
    Ok(Arc::new(Heartbeat { timestamp, workers: Workers::new(workers)?, ..hive.clone() }))
}
