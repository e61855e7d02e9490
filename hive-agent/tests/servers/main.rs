//! `hive-agent once` and `hive-agent run` beside real processes that look like inference
//! servers, wherever those run. The tests need root, a cgroup v2 tree and `unshare`.

#![expect(clippy::unwrap_used, reason = "a helper that fails is a test that fails")]

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{LazyLock, mpsc};
use std::time::{Duration, Instant};

use hive_agent::collect::cgroup::find_root;
use hive_contract::heartbeat::Worker;
use hive_contract::{Heartbeat, Timestamp};

mod whole;

/// How long anything may take, on a machine that is busy with other things.
const LIMIT: Duration = Duration::from_secs(60);

/// The program that looks like any server. It is built here, since only the tests need it.
fn stand_in() -> &'static Path {
    static PROGRAM: LazyLock<PathBuf> = LazyLock::new(|| {
        let directory = Path::new(env!("CARGO_TARGET_TMPDIR"));
        let program = directory.join("stand_in");
        let fresh = directory.join(format!("stand_in-{}", std::process::id()));
        let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/servers/stand_in.rs");
        let mut command = Command::new("rustc");
        command.args(["--edition", "2024", "-o"]).arg(&fresh).arg(source);
        assert!(command.status().unwrap().success());
        fs::rename(fresh, &program).unwrap();
        program
    });
    &PROGRAM
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// A process that looks like a server, and ends with the test.
struct Server {
    child: Child,
    /// Its own PID, and those of all below it in the order in which they were started.
    pids: Vec<u32>,
}

impl Server {
    fn command(command_line: &str) -> Command {
        let mut words = command_line.split(' ');
        let mut command = Command::new(stand_in());
        command.arg0(words.next().unwrap()).args(words);
        command
    }

    fn start(command: &mut Command) -> Self {
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        let (sender, receiver) = mpsc::channel();
        // A thread of its own: reading from a pipe has no bound.
        std::thread::spawn(move || {
            let mut line = String::new();
            let _ = sender.send(stdout.read_line(&mut line).map(|_| line));
        });
        let line = receiver.recv_timeout(LIMIT).unwrap().unwrap();
        let pids = line.strip_prefix("ready ").unwrap_or_else(|| panic!("{line:?}"));
        let pids = pids.split_whitespace().map(|pid| pid.parse().unwrap()).collect();
        Self { child, pids }
    }

    fn pid(&self) -> u64 {
        self.child.id().into()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        let _ = self.child.wait();
    }
}

/// A cgroup below the real tree, removed at the end with all that lives in it.
struct Cgroup(PathBuf);

impl Cgroup {
    fn new(name: &str) -> Self {
        let mount = find_root(Path::new("/proc")).unwrap();
        let root = mount.join(format!("hive-agent-servers-{}-{name}", std::process::id()));
        fs::create_dir(&root).unwrap();
        Self(root)
    }

    /// Lets a command start inside a cgroup below this one.
    fn enter(&self, name: &str, command: &mut Command) -> PathBuf {
        let dir = self.0.join(name);
        fs::create_dir_all(&dir).unwrap();
        let mut procs = fs::File::options().write(true).open(dir.join("cgroup.procs")).unwrap();
        // SAFETY: between fork and exec only `write` is called, on a file that is open already.
        unsafe { command.pre_exec(move || procs.write_all(b"0")) };
        dir
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        let _ = fs::write(self.0.join("cgroup.kill"), "1");
        let deadline = Instant::now() + LIMIT;
        while remove_all(&self.0).is_err() && Instant::now() < deadline {
            std::thread::yield_now();
        }
    }
}

fn remove_all(dir: &Path) -> std::io::Result<()> {
    for entry in fs::read_dir(dir)?.flatten() {
        if entry.file_type()?.is_dir() {
            remove_all(&entry.path())?;
        }
    }
    fs::remove_dir(dir)
}

fn agent() -> Command {
    Command::new(env!("CARGO_BIN_EXE_hive-agent"))
}

fn once(options: &[&str]) -> Heartbeat {
    let output = agent().arg("once").args(options).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Heartbeat::parse(&output.stdout, Timestamp::from_millis(0).unwrap()).unwrap()
}

/// Takes heartbeats until one fits, within the limit.
fn once_until(options: &[&str], fits: impl Fn(&Heartbeat) -> bool) -> Heartbeat {
    let deadline = Instant::now() + LIMIT;
    loop {
        let heartbeat = once(options);
        if fits(&heartbeat) {
            return heartbeat;
        }
        assert!(Instant::now() < deadline, "{heartbeat:#?}");
    }
}

fn worker(heartbeat: &Heartbeat, pid: u64) -> Option<&Worker> {
    heartbeat.workers.iter().find(|worker| worker.pid.whole() == pid)
}

fn name(worker: &Worker) -> String {
    format!("{}/{}", worker.group, worker.instance)
}

fn model(worker: &Worker) -> &str {
    worker.model.as_ref().unwrap().as_str()
}

#[test]
fn every_server_is_found_as_a_plain_process_with_its_queue() {
    let metrics = Some((2, Some(3), Some(25.0)));
    let without_cache = Some((2, Some(3), None));
    for (command, group, expected, queue) in [
        (
            "/opt/llama-server -m /m/llama-3.gguf --port PORT",
            "llama-server",
            "llama-3",
            Some((1, None, None)),
        ),
        (
            "llama-server -m /m/a.gguf --alias b --metrics --port PORT",
            "llama-server",
            "b",
            without_cache,
        ),
        ("/usr/bin/python3 /usr/bin/vllm serve org/m --port PORT", "vllm", "org/m", metrics),
        (
            "python -m sglang.launch_server --model-path org/s --enable-metrics --port PORT",
            "sglang",
            "org/s",
            metrics,
        ),
        ("text-generation-launcher --model-id org/t --port PORT", "tgi", "org/t", without_cache),
    ] {
        let port = free_port();
        let server =
            Server::start(&mut Server::command(&command.replace("PORT", &port.to_string())));
        let known = |worker: &Worker| worker.requests_running.is_some();
        let heartbeat =
            once_until(&[], |heartbeat| worker(heartbeat, server.pid()).is_some_and(known));
        let worker = worker(&heartbeat, server.pid()).unwrap();
        assert_eq!(name(worker), format!("{group}/{port}"), "{command}");
        assert_eq!(model(worker), expected, "{command}");
        let found = worker.requests_running.map(|running| {
            let waiting = worker.requests_waiting.map(|waiting| waiting.whole());
            (running.whole(), waiting, worker.kv_cache_pct.map(|share| share.get()))
        });
        assert_eq!(found, queue, "{command}");
        assert!(worker.rss_mb.is_some() && worker.cpu_pct.is_some(), "{command}");
    }
}

#[test]
fn renamed_children_in_a_service_of_nested_cgroups_are_one_worker() {
    let tree = Cgroup::new("vllm");
    let port = free_port();
    let mut command =
        Server::command(&format!("python3 /bin/vllm serve org/m -tp 2 --port {port}"));
    command.env("STAND_IN_CHILDREN", "VLLM::EngineCore");
    command.env("STAND_IN_GRANDCHILDREN", "VLLM::Worker_TP0\nVLLM::Worker_TP1");
    let service = tree.0.join("my [vllm] (1).service");
    tree.enter("my [vllm] (1).service/inner", &mut command);
    let server = Server::start(&mut command);
    let procs = fs::read_to_string(service.join("inner/cgroup.procs")).unwrap();
    let pids: Vec<u64> = procs.lines().map(|pid| pid.parse().unwrap()).collect();
    assert_eq!(pids.len(), 4, "{pids:?}");

    let heartbeat = once_until(&[], |heartbeat| worker(heartbeat, server.pid()).is_some());
    let ours: Vec<&Worker> =
        heartbeat.workers.iter().filter(|worker| pids.contains(&worker.pid.whole())).collect();
    assert_eq!(ours.len(), 1, "{ours:?}");
    assert_eq!((name(ours[0]), model(ours[0])), (format!("vllm/{port}"), "org/m"));
}

#[test]
fn the_runners_of_one_ollama_are_workers_by_the_names_of_their_models() {
    let store = tempfile::tempdir().unwrap();
    let hash = |digit: &str| digit.repeat(64);
    for (digit, tag) in [("1", "1b"), ("2", "3b")] {
        let manifests = store.path().join("manifests/registry.ollama.ai/library/llama3.2");
        fs::create_dir_all(&manifests).unwrap();
        let manifest = format!(
            r#"{{"layers":[{{"mediaType":"application/vnd.ollama.image.model","digest":"sha256:{}"}}]}}"#,
            hash(digit)
        );
        fs::write(manifests.join(tag), manifest).unwrap();
    }
    let tree = Cgroup::new("ollama");
    let runner = |digit: &str, port: u16| {
        let blob = store.path().join(format!("blobs/sha256-{}", hash(digit)));
        format!("/usr/bin/ollama runner --ollama-engine --model {} --port {port}", blob.display())
    };
    let ports = [free_port(), free_port()];
    let mut command = Server::command("/usr/bin/ollama serve");
    command
        .env("STAND_IN_CHILDREN", format!("{}\n{}", runner("1", ports[0]), runner("2", ports[1])));
    let dir = tree.enter("ollama.service", &mut command);
    let server = Server::start(&mut command);
    let procs = fs::read_to_string(dir.join("cgroup.procs")).unwrap();
    let is_ours = |worker: &&Worker| procs.lines().any(|pid| pid == worker.pid.whole().to_string());
    let ours = |heartbeat: &Heartbeat| -> Vec<(String, String)> {
        let named =
            heartbeat.workers.iter().filter(is_ours).filter(|worker| worker.model.is_some());
        named.map(|worker| (name(worker), model(worker).to_owned())).collect()
    };
    let heartbeat = once_until(&[], |heartbeat| ours(heartbeat).len() == 2);
    assert!(worker(&heartbeat, server.pid()).is_none(), "the supervisor serves no model");
    let mut expected = [
        (format!("ollama/runner-{}", ports[0]), "llama3.2:1b".to_owned()),
        (format!("ollama/runner-{}", ports[1]), "llama3.2:3b".to_owned()),
    ];
    expected.sort();
    assert_eq!(ours(&heartbeat), expected);
}

#[test]
fn a_server_in_the_slice_is_found_there_only_and_asked_at_its_instance() {
    let tree = Cgroup::new("slice");
    let port = free_port();
    let mut command = Server::command(&format!("vllm serve org/m --port {port}"));
    tree.enter(&format!("rbee.slice/llm/{port}"), &mut command);
    let server = Server::start(&mut command);
    let root = tree.0.to_str().unwrap();
    let known = |worker: &Worker| worker.requests_waiting.is_some();
    let heartbeat = once_until(&["--cgroup-root", root], |heartbeat| {
        worker(heartbeat, server.pid()).is_some_and(known)
    });
    let ours = heartbeat.workers.iter().filter(|worker| worker.pid.whole() == server.pid());
    assert_eq!(ours.map(name).collect::<Vec<_>>(), [format!("llm/{port}")]);
}

#[test]
fn a_server_in_a_network_of_its_own_is_asked_there() {
    // On this machine's own port of the same number sits somebody else, who must not be asked.
    let other = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = other.local_addr().unwrap().port();
    let script = format!(
        "ip link set lo up && exec -a vllm {} serve org/m --port {port}",
        stand_in().display()
    );
    let server = Server::start(Command::new("unshare").args(["-n", "bash", "-c", &script]));
    let known = |worker: &Worker| worker.requests_running.is_some();
    let heartbeat = once_until(&[], |heartbeat| worker(heartbeat, server.pid()).is_some_and(known));
    let worker = worker(&heartbeat, server.pid()).unwrap();
    assert_eq!(name(worker), format!("vllm/{port}@pid-{}", server.pid()));
    assert_eq!(worker.requests_running.unwrap().whole(), 2);
    other.set_nonblocking(true).unwrap();
    assert!(other.accept().is_err(), "somebody else was asked");
}

#[test]
fn a_server_that_never_answers_has_its_figures_and_one_error() {
    let port = free_port();
    let mut command = Server::command(&format!("vllm serve org/m --port {port}"));
    let server = Server::start(command.env("STAND_IN_SILENT", "1"));
    let sentence = format!("vllm/{port}: requests are not known: it did not answer within 200ms");
    let has_it = |heartbeat: &Heartbeat| {
        let errors = &heartbeat.agent.as_ref().unwrap().errors;
        errors.iter().any(|error| error.as_str() == sentence)
    };
    let heartbeat = once_until(&[], has_it);
    let worker = worker(&heartbeat, server.pid()).unwrap();
    assert_eq!((worker.requests_running, model(worker)), (None, "org/m"));
    assert!(worker.rss_mb.is_some());
    // Who does not want anybody asked, or found, can say so.
    assert!(!has_it(&once(&["--ask-servers=false"])));
    assert!(once(&["--discover=false"]).workers.iter().all(|w| w.pid.whole() != server.pid()));
}

#[test]
fn as_much_junk_as_a_command_line_takes_does_no_harm() {
    use std::os::unix::ffi::OsStringExt;
    let port = free_port();
    let mut command = Server::command(&format!("vllm serve org/m --port {port}"));
    for byte in 0x80..0x8f {
        command.arg(std::ffi::OsString::from_vec(vec![byte; 120_000]));
    }
    let server = Server::start(command.env_clear().env("HF_TOKEN", "hf_secret"));
    let heartbeat = once_until(&[], |heartbeat| worker(heartbeat, server.pid()).is_some());
    let worker = worker(&heartbeat, server.pid()).unwrap();
    assert_eq!((name(worker), model(worker)), (format!("vllm/{port}"), "org/m"));
    let json = serde_json::to_string(&heartbeat).unwrap();
    assert!(!json.contains("hf_secret"));
}

/// The heartbeats that an agent posts, from a queen that takes them all.
fn queen() -> (String, mpsc::Receiver<Heartbeat>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let (sender, receiver) = mpsc::channel();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut reader = BufReader::new(stream.unwrap());
            loop {
                let (mut line, mut length) = (String::new(), 0);
                while reader.read_line(&mut line).unwrap_or(0) > 2 {
                    let value = line.to_lowercase();
                    let value = value.strip_prefix("content-length:").map(str::trim);
                    length = value.map_or(length, |value| value.parse().unwrap());
                    line.clear();
                }
                let mut body = vec![0; length];
                if length == 0 || reader.read_exact(&mut body).is_err() {
                    break;
                }
                let answer = r#"{"status":"ok","message":"","id":1,"duplicate":false}"#;
                let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", answer.len());
                reader.get_mut().write_all(format!("{head}{answer}").as_bytes()).unwrap();
                let now = Timestamp::from_millis(0).unwrap();
                let Ok(heartbeat) = Heartbeat::parse(&body, now) else { continue };
                if sender.send(heartbeat).is_err() {
                    return;
                }
            }
        }
    });
    (url, receiver)
}

/// The next of them that fits, within the limit.
fn next(heartbeats: &mpsc::Receiver<Heartbeat>, fits: impl Fn(&Heartbeat) -> bool) -> Heartbeat {
    let deadline = Instant::now() + LIMIT;
    loop {
        let heartbeat = heartbeats.recv_timeout(LIMIT).unwrap();
        if fits(&heartbeat) {
            return heartbeat;
        }
        assert!(Instant::now() < deadline, "{heartbeat:#?}");
    }
}

/// An agent that runs, and ends with the test.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_running_agent_sees_servers_come_turn_into_others_and_go() {
    let (url, heartbeats) = queen();
    let mut command = agent();
    command.args(["run", "--interval", "100ms", "--queen", &url]);
    let _running = Running(command.stderr(Stdio::null()).spawn().unwrap());
    let next_with = |fits: &dyn Fn(&Heartbeat) -> bool| next(&heartbeats, fits);
    let port = free_port();
    // As an entry script does: first something else, then the server under the same PID.
    let script =
        format!("read line; exec -a vllm {} serve org/m --port {port}", stand_in().display());
    let mut server = Command::new("bash")
        .args(["-c", &script])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let pid = u64::from(server.id());
    assert!(worker(&next_with(&|_| true), pid).is_none());
    server.stdin.as_mut().unwrap().write_all(b"go\n").unwrap();
    let known = |worker: &Worker| worker.requests_running.is_some() && worker.cpu_pct.is_some();
    let heartbeat = next_with(&|heartbeat| worker(heartbeat, pid).is_some_and(known));
    assert_eq!(name(worker(&heartbeat, pid).unwrap()), format!("vllm/{port}"));
    // Nobody takes leave of it yet: what is left of it is no worker.
    drop(server.stdin.take());
    next_with(&|heartbeat| worker(heartbeat, pid).is_none());
    assert!(Path::new(&format!("/proc/{pid}")).exists());
    server.wait().unwrap();
}
