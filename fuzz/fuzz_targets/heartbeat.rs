//! A heartbeat: what is taken is within every bound and survives being written, and what is
//! refused is refused briefly.
#![no_main]

use hive_contract::heartbeat::{Gpu, MAX_ERRORS, MAX_GPUS, MAX_WORKER_GPUS, MAX_WORKERS, Worker};
use hive_contract::ids::MAX_NAME_LEN;
use hive_contract::text::{MAX_MODEL_LEN, MAX_TEXT_LEN, Text};
use hive_contract::{Heartbeat, Timestamp};
use libfuzzer_sys::fuzz_target;

/// The longest reason for a refusal, in bytes.
const MAX_REASON: usize = 4 << 10;
/// 2^53.
const LIMIT: f64 = 9_007_199_254_740_992.0;

fuzz_target!(|data: &[u8]| {
    let now = Timestamp::from_millis(1_764_000_000_000).expect("a time");
    let heartbeat = match Heartbeat::parse(data, now) {
        Ok(heartbeat) => heartbeat,
        Err(reason) => {
            let reason = reason.to_string();
            assert!(reason.len() <= MAX_REASON, "{} bytes: {reason:.200}", reason.len());
            return;
        }
    };
    within_bounds(&heartbeat);
    let json = serde_json::to_vec(&heartbeat).expect("it has a form");
    let again = Heartbeat::parse(&json, now).expect("what was taken is taken again");
    assert_eq!(again, heartbeat);
    assert_eq!(serde_json::to_vec(&again).expect("it has a form"), json);
});

fn within_bounds(heartbeat: &Heartbeat) {
    let Heartbeat { hive, timestamp, interval_ms, workers, gpus, node, agent } = heartbeat;
    name(hive.id.as_str());
    text([&hive.hostname, &hive.operational_status, &hive.health_status, &hive.version]);
    assert!(timestamp.to_string().len() == "2025-11-24T16:00:00.000Z".len());
    assert!(workers.len() <= MAX_WORKERS && gpus.len() <= MAX_GPUS);
    figure([interval_ms.map(|figure| figure.get())]);
    let mut keys: Vec<_> =
        workers.iter().map(|w| (w.group.as_str(), w.instance.as_str())).collect();
    keys.sort_unstable();
    assert!(keys.windows(2).all(|pair| pair[0] != pair[1]), "a worker stands there once");
    workers.iter().for_each(worker);
    gpus.iter().for_each(gpu);
    if let Some(node) = node {
        figure([node.cpu_pct.map(|f| f.get()), node.cpu_count.map(|f| f.get())]);
        figure([node.memory_used_mb.map(|f| f.get()), node.memory_total_mb.map(|f| f.get())]);
        figure([node.load_1m.map(|f| f.get()), node.uptime_s.map(|f| f.get())]);
    }
    if let Some(agent) = agent {
        text([&agent.version]);
        assert!(agent.errors.len() <= MAX_ERRORS);
        agent.errors.iter().for_each(one_text);
        figure([agent.cpu_pct.map(|f| f.get()), agent.rss_mb.map(|f| f.get())]);
        figure([agent.collect_ms.map(|f| f.get()), agent.gpu_age_ms.map(|f| f.get())]);
        figure([agent.spooled.map(|f| f.get())]);
    }
}

fn worker(worker: &Worker) {
    name(worker.group.as_str());
    name(worker.instance.as_str());
    if let Some(model) = &worker.model {
        let length = model.as_str().chars().count();
        assert!((1..=MAX_MODEL_LEN).contains(&length));
        assert!(!model.as_str().chars().any(char::is_control));
    }
    figure([Some(worker.pid.get()), worker.cpu_pct.map(|f| f.get())]);
    figure([worker.rss_mb.map(|f| f.get()), worker.vram_mb.map(|f| f.get())]);
    figure([worker.total_vram_mb.map(|f| f.get()), worker.uptime_s.map(|f| f.get())]);
    figure([worker.io_r_mb_s.map(|f| f.get()), worker.io_w_mb_s.map(|f| f.get())]);
    figure([worker.requests_running.map(|f| f.get()), worker.requests_waiting.map(|f| f.get())]);
    percent([worker.gpu_util_pct.map(|f| f.get()), worker.kv_cache_pct.map(|f| f.get())]);
    assert!(worker.gpus.len() <= MAX_WORKER_GPUS);
    for part in &worker.gpus {
        text([&part.uuid]);
        percent([part.util_pct.map(|f| f.get())]);
        figure([part.vram_mb.map(|f| f.get())]);
    }
    let (free, total) = (worker.free_vram_mb(), worker.total_vram_mb);
    assert!(free.is_none_or(|free| Some(free) <= total));
}

fn gpu(gpu: &Gpu) {
    text([&gpu.uuid, &gpu.name, &gpu.state]);
    percent([gpu.util_pct.map(|f| f.get())]);
    figure([gpu.index.map(|f| f.get()), gpu.memory_used_mb.map(|f| f.get())]);
    figure([gpu.memory_total_mb.map(|f| f.get()), gpu.temperature_c.map(|f| f.get())]);
    figure([gpu.power_w.map(|f| f.get())]);
}

fn name(name: &str) {
    assert!((1..=MAX_NAME_LEN).contains(&name.len()));
    assert!(name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._:@-".contains(&byte)));
}

fn text<const N: usize>(texts: [&Option<Text>; N]) {
    texts.into_iter().flatten().for_each(one_text);
}

fn one_text(text: &Text) {
    assert!(text.as_str().chars().count() <= MAX_TEXT_LEN && !text.as_str().contains('\0'));
}

fn figure<const N: usize>(figures: [Option<f64>; N]) {
    assert!(figures.into_iter().flatten().all(|figure| (0.0..LIMIT).contains(&figure)));
}

fn percent<const N: usize>(figures: [Option<f64>; N]) {
    assert!(figures.into_iter().flatten().all(|figure| (0.0..=100.0).contains(&figure)));
}
