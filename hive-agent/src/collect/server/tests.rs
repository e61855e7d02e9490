use std::os::unix::fs::symlink;

use proptest::prelude::*;

use super::*;

/// A process of files: its environment and working directory.
struct ProcDir(tempfile::TempDir);

impl ProcDir {
    fn new(environ: &str, cwd: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("environ"), environ.replace(' ', "\0")).unwrap();
        symlink(cwd, dir.path().join("cwd")).unwrap();
        Self(dir)
    }

    fn recognise(&self, command: &str) -> Option<Server> {
        recognise(command.replace(' ', "\0").as_bytes(), self.0.path())
    }
}

fn kind(server: &Server) -> &'static str {
    server.kind.map_or("", |kind| kind.name)
}

fn model(server: &Server) -> String {
    match &server.model {
        Some(Model::Name(name)) => name.to_string(),
        Some(Model::OllamaBlob(path)) => path.display().to_string(),
        None => String::new(),
    }
}

#[test]
fn every_kind_of_server_is_recognised() {
    let blob = format!("/m/blobs/sha256-{}", "0a".repeat(32));
    let runner = format!("/usr/bin/ollama runner --ollama-engine --model {blob} --port 43211");
    let blob_server = format!("/usr/lib/ollama/llama-server --model {blob} --port 43212");
    for (command, name, served, port, path) in [
        ("/opt/llama-server -m /m/llama-3.gguf", "llama-server", "llama-3", 8080, "/slots"),
        ("llama-server -m a.gguf -a b,c --metrics", "llama-server", "b", 8080, "/metrics"),
        ("llama-server -hf org/n:Q4 -m a.gguf --no-slots", "llama-server", "org/n:Q4", 8080, ""),
        ("llama-server -m a --sleep-idle-seconds 60 --metrics", "llama-server", "a", 8080, ""),
        ("llama serve -m a.gguf --port=9", "llama-server", "a", 9, "/slots"),
        ("./phi-4.llamafile --server", "llama-server", "phi-4", 8080, "/slots"),
        ("python3 -m llama_cpp.server --model /m/a.gguf", "llama-cpp-python", "a", 8000, ""),
        (
            "python -m llama_cpp.server --model a --model_alias b --port 9",
            "llama-cpp-python",
            "b",
            9,
            "",
        ),
        ("/usr/bin/python3 /usr/bin/vllm serve org/m", "vllm", "org/m", 8000, "/metrics"),
        ("vllm serve org/m --served-model-name a b --port 9", "vllm", "a", 9, "/metrics"),
        ("python -m vllm.entrypoints.openai.api_server --model m", "vllm", "m", 8000, "/metrics"),
        ("python3 -m sglang.launch_server --model-path o/m", "sglang", "o/m", 30000, ""),
        ("sglang serve --model_path o/m --enable-metrics", "sglang", "o/m", 30000, "/metrics"),
        ("text-generation-launcher --model-id o/m -p 81", "tgi", "o/m", 81, "/metrics"),
        ("/opt/python /bin/text-generation-server serve o/m --x", "tgi", "o/m", 3000, "/metrics"),
        (&runner, "ollama", &blob, 43211, ""),
        (&blob_server, "ollama", &blob, 43212, "/slots"),
        ("trtllm-serve o/m", "trtllm", "o/m", 8000, "/prometheus/metrics"),
        (
            "trtllm-serve serve o/m --served_model_name n",
            "trtllm",
            "n",
            8000,
            "/prometheus/metrics",
        ),
        ("tritonserver --model-repository=/m --load-model=x", "triton", "x", 8000, "/metrics"),
        ("lmdeploy serve api_server o/m --server-port 9", "lmdeploy", "o/m", 9, "/metrics"),
        ("aphrodite run o/m", "aphrodite", "o/m", 2242, "/metrics"),
        ("mistralrs-server --port 9 -m o/m", "mistralrs", "o/m", 9, ""),
        ("python koboldcpp.py /m/a.gguf", "koboldcpp", "a", 5001, "/api/extra/perf"),
        ("./koboldcpp-linux-x64 --model b.gguf", "koboldcpp", "b", 5001, "/api/extra/perf"),
        ("python /srv/tabbyAPI/main.py --model-name n", "tabbyapi", "n", 5000, ""),
        ("python /srv/ComfyUI/main.py --port 9", "comfyui", "", 9, "/prompt"),
        ("whisper-server -m /m/ggml-base.bin", "whisper", "ggml-base.bin", 8080, ""),
        ("python -m mlc_llm serve HF://org/m", "mlc", "m", 8000, ""),
    ] {
        let server = ProcDir::new("", "/").recognise(command);
        let server = server.unwrap_or_else(|| panic!("{command} is not recognised"));
        assert_eq!(server.role, Role::Worker, "{command}");
        assert_eq!(kind(&server), name, "{command}");
        assert_eq!(model(&server), served, "{command}");
        assert_eq!(server.port_or_default().unwrap(), port, "{command}");
        assert_eq!(server.queue.map_or("", |queue| queue.endpoint.path), path, "{command}");
    }
}

#[test]
fn what_only_handles_servers_is_none() {
    for command in [
        "vim llama-server",
        "docker run image vllm serve org/m",
        "sh -c llama-server -m a.gguf",
        "hive-agent spawn --group llm -- llama-server -m a.gguf",
        "tail -f /var/log/llama-server",
        "vllm bench serve",
        "llama-cli -m a.gguf",
        "python -m http.server",
        "python main.py --port 80",
        "ollama run llama3",
        "text-generation-server download-weights o/m",
        "",
    ] {
        let server = ProcDir::new("", "/srv/app").recognise(command);
        assert!(server.is_none(), "{command}: {server:?}");
    }
}

#[test]
fn supervisors_and_parts_are_told_from_workers() {
    for (command, name, role) in [
        ("/usr/bin/ollama serve", "ollama", Role::Supervisor),
        ("llama-server --models-dir /m --port 8080", "llama-server", Role::Supervisor),
        ("llama-server --port 8080", "llama-server", Role::Supervisor),
        ("VLLM::Worker_TP1", "vllm", Role::Part),
        ("VLLM::EngineCore", "vllm", Role::Part),
        ("sglang::scheduler_TP0", "sglang", Role::Part),
    ] {
        let server = ProcDir::new("", "/").recognise(command).unwrap();
        assert_eq!((kind(&server), server.role), (name, role), "{command}");
        assert!(server.model.is_none() && server.queue.is_none(), "{command}");
    }
}

#[test]
fn the_environment_speaks_where_the_command_line_does_not() {
    let environ = "HF_TOKEN=hf_secret LLAMA_ARG_MODEL=/m/a.gguf LLAMA_ARG_PORT=9 PORT=7 \
                   LLAMA_ARG_ENDPOINT_METRICS=1 XMODEL_ID=no MODEL_ID=o/m";
    let machine = ProcDir::new(environ, "/srv/ComfyUI-2");
    let server = machine.recognise("llama-server").unwrap();
    assert_eq!((model(&server).as_str(), server.port), ("a", Some(9)));
    assert_eq!(server.queue.unwrap().endpoint.path, "/metrics");
    let server = machine.recognise("llama-server -m b.gguf --port 10").unwrap();
    assert_eq!((model(&server).as_str(), server.port), ("b", Some(10)));
    let server = machine.recognise("text-generation-launcher").unwrap();
    assert_eq!((model(&server).as_str(), server.port), ("o/m", Some(7)));
    assert_eq!(kind(&machine.recognise("python main.py").unwrap()), "comfyui");

    let asleep = ProcDir::new("LLAMA_ARG_SLEEP_IDLE_SECONDS=60", "/");
    assert!(asleep.recognise("llama-server -m a --metrics").unwrap().queue.is_none());
}

#[test]
fn only_what_was_asked_for_is_kept() {
    let machine = ProcDir::new("HF_TOKEN=secret1 OPENAI_API_KEY=secret2", "/secret3");
    let command = "vllm serve org/m --api-key secret4 --hf-token=secret5 --port 9";
    let kept = format!("{:?}", machine.recognise(command).unwrap());
    assert!(kept.contains("org/m") && !kept.contains("secret"), "{kept}");
}

#[test]
fn a_worker_may_stand_behind_anything() {
    let anywhere = |command: &str| {
        recognise_anywhere(command.replace(' ', "\0").as_bytes(), "/nonexistent".as_ref())
    };
    let server = anywhere("sh -c true llama-server --model /m/a.gguf --port 9").unwrap();
    assert_eq!(
        (kind(&server), model(&server).as_str(), server.port),
        ("llama-server", "a", Some(9))
    );
    let server = anywhere("numactl -N 0 uv run vllm serve o/m").unwrap();
    assert_eq!((kind(&server), model(&server).as_str()), ("vllm", "o/m"));
    let server = anywhere("my-server -m /m/a.gguf --port 9").unwrap();
    assert_eq!((kind(&server), model(&server).as_str(), server.port), ("", "a", Some(9)));
    assert!(anywhere("sleep 60").is_none());
}

#[test]
fn a_program_can_be_named() {
    let named = |command: &str| recognise_named(command.replace(' ', "\0").as_bytes(), "my-server");
    assert_eq!(model(&named("/opt/my-server --model o/m").unwrap()), "o/m");
    assert_eq!(named("python my-server.py --port 9").unwrap().port, Some(9));
    assert_eq!(named("my-server").unwrap().port, None);
    assert!(named("vim my-server").is_none());
}

#[test]
fn a_port_is_a_number_within_its_bounds() {
    let port = |port: &str| {
        ProcDir::new("", "/").recognise(&format!("vllm serve m --port {port}")).unwrap().port
    };
    assert_eq!(port("65535"), Some(65535));
    for wrong in ["0", "65536", "-1", "x", "8000x", "99999999999999999999"] {
        assert_eq!(port(wrong), None, "{wrong}");
    }
}

proptest! {
    #[test]
    fn any_command_line_is_read(start in 0_usize..6, rest: Vec<u8>) {
        let starts = ["llama-server", "vllm\0serve", "python\0-m\0", "ollama\0runner", "", "sh"];
        let cmdline = [starts[start].as_bytes(), b"\0", &rest].concat();
        let _ = recognise(&cmdline, "/nonexistent".as_ref());
        let _ = recognise_anywhere(&cmdline, "/nonexistent".as_ref());
        let _ = recognise_named(&cmdline, "sh");
    }
}
