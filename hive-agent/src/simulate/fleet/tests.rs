use hive_contract::Heartbeat;
use proptest::prelude::*;

use super::*;

fn moment(millis: i64) -> Timestamp {
    Timestamp::from_millis(1_761_849_000_000 + millis).unwrap()
}

fn shape(seed: u64, workers: usize, gpus: usize) -> Shape {
    Shape { seed, prefix: HiveId::new("sim").unwrap(), workers, gpus, interval_ms: 1_000 }
}

/// The heartbeats of the first seconds of one hive.
fn heartbeats(shape: &Shape, number: usize, seconds: i64) -> Vec<Bytes> {
    let mut hive = Hive::new(shape, number, moment(0)).unwrap();
    (0..seconds).map(|second| hive.read(moment(second * 1_000))).collect()
}

fn parse(json: &[u8]) -> Heartbeat {
    Heartbeat::parse(json, moment(0)).unwrap()
}

#[test]
fn the_seed_decides_everything() {
    let first = heartbeats(&shape(7, 16, 8), 3, 300);
    assert_eq!(first, heartbeats(&shape(7, 16, 8), 3, 300));
    assert_ne!(first, heartbeats(&shape(8, 16, 8), 3, 300));
    assert_ne!(first, heartbeats(&shape(7, 16, 8), 4, 300));
}

#[test]
fn a_day_has_every_kind_of_moment() {
    let mut hive = Hive::new(&shape(1, 8, 4), 0, moment(0)).unwrap();
    let (mut idle, mut busy, mut first_readings, mut readings) = (0, 0, 0, 0);
    let mut pids = std::collections::BTreeSet::new();
    let mut models = std::collections::BTreeSet::new();
    for second in 0..86_400 {
        hive.advance(moment(second * 1_000));
        for worker in &hive.reading.workers {
            readings += 1;
            idle += usize::from(worker.gpu_util_pct.is_some_and(Percent::is_zero));
            busy += usize::from(worker.gpu_util_pct.is_some_and(|util| util.get() > 20.0));
            first_readings += usize::from(worker.cpu_pct.is_none());
            pids.insert(worker.pid.whole());
            models.insert(worker.model.clone());
        }
    }
    assert!(idle > readings / 10, "{idle} of {readings} idle");
    assert!(busy > readings / 10, "{busy} of {readings} busy");
    assert!((8..200).contains(&first_readings), "{first_readings} restarts");
    assert_eq!(pids.len(), 8 + first_readings);
    assert!(models.len() > 2, "{models:?}");
}

#[test]
fn there_may_be_no_workers_or_no_gpus() {
    for json in heartbeats(&shape(1, 0, 0), 0, 3) {
        assert!(parse(&json).workers.is_empty());
    }
    for json in heartbeats(&shape(1, 3, 0), 0, 60) {
        for worker in &parse(&json).workers {
            assert_eq!((worker.gpu_util_pct, worker.vram_mb), (None, None));
        }
    }
    assert_eq!(parse(&heartbeats(&shape(1, 1024, 256), 0, 1)[0]).workers.len(), 1024);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn every_heartbeat_is_one_by_the_contract(
        seed: u64,
        workers in 0_usize..40,
        gpus in 0_usize..17,
        number in 0_usize..100_000,
    ) {
        for json in heartbeats(&shape(seed, workers, gpus), number, 90) {
            let heartbeat = parse(&json);
            let again = serde_json::to_vec(&heartbeat).unwrap();
            prop_assert_eq!(std::str::from_utf8(&again).unwrap(), std::str::from_utf8(&json).unwrap());
        }
    }

    #[test]
    fn the_figures_agree(seed: u64, workers in 1_usize..24, gpus in 1_usize..9) {
        for json in heartbeats(&shape(seed, workers, gpus), 0, 90) {
            let heartbeat = parse(&json);
            for gpu in &heartbeat.gpus {
                let shares: Vec<_> = heartbeat
                    .workers
                    .iter()
                    .flat_map(|worker| &worker.gpus)
                    .filter(|share| share.uuid == gpu.uuid)
                    .collect();
                let vram_mb: f64 = shares.iter().filter_map(|s| s.vram_mb).map(Mebibytes::get).sum();
                let util: f64 = shares.iter().filter_map(|s| s.util_pct).map(Percent::get).sum();
                prop_assert!(vram_mb <= gpu.memory_used_mb.unwrap().get());
                prop_assert!(gpu.memory_used_mb <= gpu.memory_total_mb);
                prop_assert_eq!(util == 0.0, gpu.util_pct.unwrap().is_zero());
                prop_assert!(util <= gpu.util_pct.unwrap().get(), "{util} on {gpu:?}");
            }
            for worker in &heartbeat.workers {
                let idle = worker.gpu_util_pct.unwrap().is_zero();
                if let Some(running) = worker.requests_running {
                    prop_assert_eq!(idle, running.is_zero());
                }
                prop_assert!(worker.vram_mb <= worker.total_vram_mb);
            }
            let node = heartbeat.node.unwrap();
            prop_assert!(node.memory_used_mb <= node.memory_total_mb);
        }
    }
}
