//! Each kind of server as it really runs, with its processes on GPUs and its requests: what of it
//! is in the heartbeats that reach a queen. The GPUs are made up; the answers in `answers/` are
//! written after what is published of the version in their names; llama-server's were recorded.

use fake_nvml::{Gpu, Machine, Process, Sample};

use super::*;

const MULTIPROCESSING: &str = "/usr/bin/python3 -c from multiprocessing.spawn import spawn_main; \
                               spawn_main(tracker_fd=5,pipe_handle=7) --multiprocessing-fork";
/// What every GPU has, in MiB.
const TOTAL_MB: u64 = 81_559;

/// What runs, and what is to be known of it.
struct Case<'a> {
    /// `PORT` stands for the port.
    command: &'a str,
    children: &'a [&'a str],
    grandchildren: &'a [&'a str],
    /// Files with the answers to requests, by their paths.
    answers: &'a [(&'a str, &'a str)],
    /// Of all processes in the order in which they are started, those on a GPU of their own.
    on_gpus: &'a [usize],
    group: &'a str,
    model: &'a str,
    /// Requests running and waiting, and the share of the cache.
    queue: (Option<u64>, Option<u64>, Option<f64>),
}

/// A worker in short: its name, PID, model, queue, and the UUID, MiB and percent of each GPU.
fn shown(worker: &Worker) -> String {
    let whole = |count: Option<hive_contract::units::Count>| count.map(|count| count.whole());
    let gpus: Vec<String> = worker
        .gpus
        .iter()
        .map(|gpu| {
            let uuid = gpu.uuid.as_ref().unwrap();
            format!("{uuid} {} MiB {} %", gpu.vram_mb.unwrap(), gpu.util_pct.unwrap())
        })
        .collect();
    format!(
        "{} {} {:?} {:?} {gpus:?}",
        name(worker),
        worker.pid.whole(),
        worker.model.as_ref().map(|model| model.as_str()),
        (
            whole(worker.requests_running),
            whole(worker.requests_waiting),
            worker.kv_cache_pct.map(|share| share.get())
        ),
    )
}

/// GPUs with one process each.
fn gpus(pids: &[u32]) -> Vec<Gpu> {
    (1..)
        .zip(pids)
        .map(|(number, &pid)| Gpu {
            uuid: format!("GPU-{number}"),
            name: "NVIDIA H100".to_owned(),
            util_pct: Some(90),
            used_mb: 1000 * number,
            total_mb: Some(TOTAL_MB),
            compute: vec![Process { pid, mb: Some(1000 * number) }],
            samples: Some(vec![Sample { pid, sm_pct: 10 * number as u32, at_us: None }]),
            ..Gpu::default()
        })
        .collect()
}

/// An agent beside GPUs that are made up, and what it posts.
struct Watch {
    dir: tempfile::TempDir,
    heartbeats: mpsc::Receiver<Heartbeat>,
    _running: Running,
}

impl Watch {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let built = std::env::current_exe().unwrap().with_file_name("libfake_nvml.so");
        fs::copy(built, dir.path().join("nvml.so")).unwrap();
        Machine::default().write(dir.path()).unwrap();
        let (url, heartbeats) = queen();
        let mut command = agent();
        command.args(["run", "--interval", "100ms", "--queen", &url, "--nvml-library"]);
        command.arg(dir.path().join("nvml.so")).env("HIVE_AGENT_LOG", "error");
        let running = Running(command.spawn().unwrap());
        Self { dir, heartbeats, _running: running }
    }

    fn gpus(&self, pids: &[u32]) {
        let driver_version = "580.82.07".to_owned();
        let machine = Machine { gpus: gpus(pids), driver_version, ..Machine::default() };
        machine.write(self.dir.path()).unwrap();
    }

    /// Waits until the workers among these processes are the expected ones.
    fn until(&self, pids: &[u32], expected: &[String]) -> Heartbeat {
        let ours = |heartbeat: &Heartbeat| -> Vec<String> {
            let is_ours =
                |worker: &&Worker| pids.iter().any(|&pid| worker.pid.whole() == u64::from(pid));
            let known = |worker: &&Worker| worker.gpus.iter().all(|gpu| gpu.util_pct.is_some());
            heartbeat.workers.iter().filter(is_ours).filter(known).map(shown).collect()
        };
        let mut last = Vec::new();
        let deadline = Instant::now() + LIMIT;
        loop {
            let heartbeat = self.heartbeats.recv_timeout(LIMIT).unwrap();
            last = match ours(&heartbeat) {
                found if found == expected => return heartbeat,
                found if found.is_empty() => last,
                found => found,
            };
            assert!(Instant::now() < deadline, "{last:#?}\ninstead of\n{expected:#?}");
        }
    }
}

/// A directory with answers, in which requests are noted.
fn answers(files: &[(&str, &str)]) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for (path, text) in files {
        fs::write(dir.path().join(path), text).unwrap();
    }
    dir
}

fn asked(answers: &tempfile::TempDir) -> Vec<String> {
    let asked = fs::read_to_string(answers.path().join("asked")).unwrap_or_default();
    asked.lines().map(str::to_owned).collect()
}

fn start(command: &str, children: &[String], grandchildren: &[String], answers: &Path) -> Server {
    let mut command = Server::command(command);
    command.env("STAND_IN_CHILDREN", children.join("\n"));
    command.env("STAND_IN_GRANDCHILDREN", grandchildren.join("\n"));
    Server::start(command.env("STAND_IN_ANSWERS", answers))
}

/// Starts it, puts its processes on GPUs, and waits for the heartbeat that says all of it.
fn check(case: &Case<'_>) {
    let watch = Watch::new();
    let port = free_port();
    let answers = answers(case.answers);
    let fill = |line: &&str| {
        line.replace("PORT", &port.to_string()).replace("MULTIPROCESSING", MULTIPROCESSING)
    };
    let lines = |lines: &[&str]| lines.iter().map(fill).collect::<Vec<_>>();
    let (children, grandchildren) = (lines(case.children), lines(case.grandchildren));
    let server = start(&fill(&case.command), &children, &grandchildren, answers.path());
    let titles: Vec<&str> = children
        .iter()
        .chain(&grandchildren)
        .filter_map(|line| Some(line.split_once(" => ")?.1))
        .collect();
    let is_titled = |pid: &&u32| {
        let cmdline = fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap();
        titles.contains(&cmdline.trim_end_matches('\0'))
    };
    assert_eq!(server.pids.iter().filter(is_titled).count(), titles.len(), "all renamed");
    let on_gpus: Vec<u32> = case.on_gpus.iter().map(|&index| server.pids[index]).collect();
    watch.gpus(&on_gpus);
    let each = (1..=on_gpus.len()).map(|n| format!("GPU-{n} {n}000 MiB {n}0 %"));
    let expected = format!(
        "{}/{port} {} {:?} {:?} {:?}",
        case.group,
        server.pid(),
        Some(case.model),
        case.queue,
        each.collect::<Vec<_>>()
    );
    let heartbeat = watch.until(&server.pids, &[expected]);
    let worker = worker(&heartbeat, server.pid()).unwrap();
    let count = on_gpus.len() as u64;
    assert_eq!(worker.vram_mb.unwrap().get(), (1000 * count * (count + 1) / 2) as f64);
    assert_eq!(worker.total_vram_mb.unwrap().get(), (TOTAL_MB * count) as f64);
    assert_eq!(worker.gpu_util_pct.unwrap().get(), 10.0 * count as f64, "the busiest GPU");
}

#[test]
fn vllm_with_tensor_parallel_workers_that_rename_themselves() {
    check(&Case {
        command: "/usr/bin/python3 /usr/local/bin/vllm serve org/big -tp 2 -dp 2 --port PORT",
        children: &[
            "MULTIPROCESSING => VLLM::EngineCore_DP0",
            "/usr/bin/python3 -c from multiprocessing.resource_tracker import main;main(8)",
            "MULTIPROCESSING => VLLM::DPCoordinator",
        ],
        grandchildren: &[
            "MULTIPROCESSING => VLLM::Worker_DP0_TP0",
            "MULTIPROCESSING => VLLM::Worker_DP0_TP1",
        ],
        answers: &[("metrics", include_str!("answers/vllm-0.11.txt"))],
        on_gpus: &[2, 3],
        group: "vllm",
        model: "org/big",
        queue: (Some(11), Some(3), Some(62.5)),
    });
}

#[test]
fn vllm_of_before_its_second_engine() {
    check(&Case {
        command: "python3 -m vllm.entrypoints.openai.api_server --model org/m \
                  --served-model-name chat --port PORT",
        children: &["MULTIPROCESSING"],
        grandchildren: &[],
        answers: &[("metrics", include_str!("answers/vllm-0.6.txt"))],
        on_gpus: &[1],
        group: "vllm",
        model: "chat",
        queue: (Some(5), Some(2), Some(37.5)),
    });
}

#[test]
fn sglang_with_a_scheduler_for_each_gpu() {
    check(&Case {
        command: "python3 -m sglang.launch_server --model-path org/s --tp 2 --enable-metrics \
                  --port PORT",
        children: &[
            "MULTIPROCESSING => sglang::scheduler_TP0",
            "MULTIPROCESSING => sglang::scheduler_TP1",
            "MULTIPROCESSING => sglang::detokenizer",
        ],
        grandchildren: &[],
        answers: &[("metrics", include_str!("answers/sglang-0.4.txt"))],
        on_gpus: &[1, 2],
        group: "sglang",
        model: "org/s",
        queue: (Some(162), Some(2826), Some(28.0)),
    });
}

#[test]
fn sglang_with_data_parallel_attention_and_priorities() {
    check(&Case {
        command: "python3 -m sglang.launch_server --model-path /models/org-s \
                  --served-model-name org/s --tp 2 --dp 2 --enable-dp-attention \
                  --enable-priority-scheduling --enable-metrics --port PORT",
        children: &["MULTIPROCESSING => sglang::data_parallel_controller"],
        grandchildren: &[
            "MULTIPROCESSING => sglang::scheduler_DP0_TP0",
            "MULTIPROCESSING => sglang::scheduler_DP1_TP1",
        ],
        answers: &[("metrics", include_str!("answers/sglang-0.5.txt"))],
        on_gpus: &[2, 3],
        group: "sglang",
        model: "org/s",
        queue: (Some(11), Some(3), Some(75.0)),
    });
}

#[test]
fn tgi_with_its_shards_and_the_router_that_listens() {
    let shard = "/opt/conda/bin/python3.11 /opt/conda/bin/text-generation-server serve org/t \
                 --num-shard 2 --uds-path /tmp/text-generation-server";
    check(&Case {
        command: "text-generation-launcher --model-id org/t --num-shard 2 --port PORT",
        children: &[
            shard,
            shard,
            "text-generation-router --port PORT --master-shard-uds-path /tmp/x-0",
        ],
        grandchildren: &[],
        answers: &[("metrics", include_str!("answers/tgi-3.txt"))],
        on_gpus: &[1, 2],
        group: "tgi",
        model: "org/t",
        queue: (Some(8), Some(5), None),
    });
}

#[test]
fn llama_server_with_a_model_in_parts() {
    check(&Case {
        command: "/opt/llama/llama-server -m /models/llama-3-00001-of-00002.gguf -ngl 99 \
                  --metrics --port PORT",
        children: &[],
        grandchildren: &[],
        answers: &[(
            "metrics",
            include_str!("../../src/collect/inquiry/fixtures/llama-server-metrics.txt"),
        )],
        on_gpus: &[0],
        group: "llama-server",
        model: "llama-3",
        queue: (Some(2), Some(1), None),
    });
}

#[test]
fn llama_cpp_python_says_nothing_of_its_queue() {
    check(&Case {
        command: "python3 -m llama_cpp.server --model /models/llama-3.gguf --port PORT",
        children: &[],
        grandchildren: &[],
        answers: &[],
        on_gpus: &[0],
        group: "llama-cpp-python",
        model: "llama-3",
        queue: (None, None, None),
    });
}

#[test]
fn ollama_is_never_asked_and_what_it_starts_goes_by_the_names_of_models() {
    let store = tempfile::tempdir().unwrap();
    let blob =
        |digit: &str| format!("{}/blobs/sha256-{}", store.path().display(), digit.repeat(64));
    for (digit, tag) in [("1", "llama3.2/1b"), ("2", "qwen3/4b")] {
        let path = store.path().join("manifests/registry.ollama.ai/library").join(tag);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        let hash = digit.repeat(64);
        let layer = format!(
            r#"{{"mediaType":"application/vnd.ollama.image.model","digest":"sha256:{hash}"}}"#
        );
        fs::write(path, format!(r#"{{"layers":[{layer}]}}"#)).unwrap();
    }
    let slots = include_str!("../../src/collect/inquiry/fixtures/llama-server-slots.json");
    let answers = answers(&[("slots", slots), ("metrics", ""), ("api", "")]);
    let watch = Watch::new();
    let [own, runner, server] = [free_port(), free_port(), free_port()];
    let mut command = Server::command("/usr/bin/ollama serve");
    let children = format!(
        "/usr/bin/ollama runner --ollama-engine --model {} --port {runner}\n\
         /usr/lib/ollama/llama-server --model {} --port {server} --no-webui",
        blob("1"),
        blob("2")
    );
    command.env("STAND_IN_CHILDREN", children).env("STAND_IN_PORT", own.to_string());
    let ollama = Server::start(command.env("STAND_IN_ANSWERS", answers.path()));
    watch.gpus(&ollama.pids[1..]);
    let nothing: (Option<u64>, Option<u64>, Option<f64>) = (None, None, None);
    let said = |port: u16, index: usize, model: &str, queue, gpu: &str| {
        format!("ollama/runner-{port} {} {:?} {queue:?} [{gpu:?}]", ollama.pids[index], Some(model))
    };
    let mut expected = [
        said(runner, 1, "llama3.2:1b", nothing, "GPU-1 1000 MiB 10 %"),
        said(server, 2, "qwen3:4b", (Some(2), None, None), "GPU-2 2000 MiB 20 %"),
    ];
    expected.sort();
    watch.until(&ollama.pids, &expected);
    // The runner and Ollama itself listen too: whatever was asked is the server's slots.
    assert!(asked(&answers).iter().all(|path| path == "/slots"), "{:?}", asked(&answers));
}

#[test]
fn a_server_killed_and_started_again_on_its_port_keeps_its_name() {
    let watch = Watch::new();
    let port = free_port();
    let answers = answers(&[("metrics", include_str!("answers/vllm-0.6.txt"))]);
    let command = format!("vllm serve org/m --port {port}");
    for _ in 0..3 {
        let mut server = start(&command, &[], &[], answers.path());
        watch.gpus(&server.pids);
        let expected = format!(
            "vllm/{port} {} Some(\"org/m\") (Some(5), Some(2), Some(37.5)) [\"GPU-1 1000 MiB 10 %\"]",
            server.pid()
        );
        watch.until(&server.pids, &[expected]);
        server.child.kill().unwrap();
        server.child.wait().unwrap();
    }
}
