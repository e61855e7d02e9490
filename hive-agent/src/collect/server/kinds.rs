//! What is known of each kind of inference server: how it is started, how it names its model
//! and port, and where it says how busy it is.

/// One kind of server.
#[derive(Debug)]
pub(in crate::collect) struct Kind {
    /// Its name, and the group of its workers that have no other.
    pub(in crate::collect) name: &'static str,
    /// How it is started.
    pub(super) starts: &'static [Start],
    /// How something is started that only starts servers of this kind and passes requests on.
    pub(super) supervisors: &'static [Start],
    /// How its parts begin the titles with which they overwrite their command lines.
    pub(super) titles: &'static [&'static str],
    /// Only its supervisor sends it requests.
    pub(in crate::collect) is_internal: bool,
    /// Without a model it is a supervisor.
    pub(super) needs_model: bool,
    /// Where it names its model; the first that is there counts.
    pub(super) model: &'static [Source],
    /// The options that set its port.
    pub(super) port: &'static [&'static str],
    pub(super) port_env: Option<&'static str>,
    pub(super) default_port: Option<u16>,
    /// Options with which a request for its figures would wake up a sleeping model.
    pub(super) sleeps: &'static [&'static str],
    pub(super) sleeps_env: Option<&'static str>,
    /// Where it says how busy it is; the first that it offers is asked.
    pub(super) endpoints: &'static [Endpoint],
}

/// How a server is started.
#[derive(Debug)]
pub(super) enum Start {
    /// A file or a module of Python, and the words that must follow.
    Program(&'static str, &'static [&'static str]),
    /// A file whose name begins so.
    Prefix(&'static str),
    /// A file whose name ends so; what stands before names the model.
    Suffix(&'static str),
    /// A script with a name of everybody's, in a directory whose name begins so.
    Script(&'static str, &'static str),
}

/// Where a server names its model.
#[derive(Debug)]
pub(super) enum Source {
    /// In one of these options, or in a variable.
    Option(&'static [&'static str], Option<&'static str>, Form),
    /// In the first argument that is no option.
    Positional,
}

/// What stands there.
#[derive(Debug, Clone, Copy)]
pub(super) enum Form {
    /// A name, or several with commas between them, of which the first is taken.
    Name,
    /// A file, a directory, a repository or a URL.
    Reference,
}

/// Where a server says how busy it is.
#[derive(Debug)]
pub(in crate::collect) struct Endpoint {
    /// The path of the request, which never loads or wakes up a model.
    pub(in crate::collect) path: &'static str,
    pub(super) offered: Offered,
    /// The option that sets the port, and its default, if it is another than the server's.
    pub(super) port: Option<(&'static str, u16)>,
    pub(in crate::collect) figures: Figures,
}

/// When a server has an endpoint.
#[derive(Debug)]
pub(super) enum Offered {
    Always,
    With(&'static str, Option<&'static str>),
    Without(&'static str),
}

/// What the answer looks like.
#[derive(Debug)]
pub(in crate::collect) enum Figures {
    /// The text format of Prometheus.
    Prometheus { running: Series, waiting: Series, kv_cache: Series },
    /// JSON: a list of slots, each of which says whether it `is_processing`.
    Slots,
    /// JSON: `queue`, and whether it is `idle`.
    KoboldPerf,
    /// JSON: `exec_info.queue_remaining`, of which one at a time is worked on.
    ComfyPrompt,
}

/// The names of one figure, of which a server has one, and the value of a label that it needs.
#[derive(Debug)]
pub(in crate::collect) struct Series {
    pub(in crate::collect) names: &'static [&'static str],
    pub(in crate::collect) label: Option<&'static str>,
}

/// A server of which nothing is known.
const UNKNOWN: Kind = Kind {
    name: "",
    starts: &[],
    supervisors: &[],
    titles: &[],
    is_internal: false,
    needs_model: false,
    model: &[],
    port: &["--port"],
    port_env: None,
    default_port: None,
    sleeps: &[],
    sleeps_env: None,
    endpoints: &[],
};

const fn series(names: &'static [&'static str]) -> Series {
    Series { names, label: None }
}

const fn labelled(names: &'static [&'static str], label: &'static str) -> Series {
    Series { names, label: Some(label) }
}

const fn reference(options: &'static [&'static str]) -> Source {
    Source::Option(options, None, Form::Reference)
}

const fn name(options: &'static [&'static str]) -> Source {
    Source::Option(options, None, Form::Name)
}

const fn prometheus(path: &'static str, [running, waiting, kv_cache]: [Series; 3]) -> Endpoint {
    let figures = Figures::Prometheus { running, waiting, kv_cache };
    Endpoint { path, offered: Offered::Always, port: None, figures }
}

/// Every kind that is known. Where two could match, the first does.
pub(super) static KINDS: &[Kind] = &[
    Kind {
        name: "llama-server",
        starts: &[
            Start::Program("llama-server", &[]),
            Start::Program("llama", &["serve"]),
            Start::Program("llamafile", &[]),
            Start::Suffix(".llamafile"),
        ],
        // Without a model it routes between servers that it starts itself.
        needs_model: true,
        model: &[
            Source::Option(&["-a", "--alias"], Some("LLAMA_ARG_ALIAS"), Form::Name),
            Source::Option(
                &["-hf", "-hfr", "--hf-repo"],
                Some("LLAMA_ARG_HF_REPO"),
                Form::Reference,
            ),
            Source::Option(
                &["-dr", "--docker-repo"],
                Some("LLAMA_ARG_DOCKER_REPO"),
                Form::Reference,
            ),
            Source::Option(&["-mu", "--model-url"], Some("LLAMA_ARG_MODEL_URL"), Form::Reference),
            Source::Option(&["-m", "--model"], Some("LLAMA_ARG_MODEL"), Form::Reference),
        ],
        port_env: Some("LLAMA_ARG_PORT"),
        default_port: Some(8080),
        sleeps: &["--sleep-idle-seconds"],
        sleeps_env: Some("LLAMA_ARG_SLEEP_IDLE_SECONDS"),
        endpoints: &[
            Endpoint {
                offered: Offered::With("--metrics", Some("LLAMA_ARG_ENDPOINT_METRICS")),
                ..prometheus(
                    "/metrics",
                    [
                        series(&["llamacpp:requests_processing"]),
                        series(&["llamacpp:requests_deferred"]),
                        series(&["llamacpp:kv_cache_usage_ratio"]),
                    ],
                )
            },
            Endpoint {
                path: "/slots",
                offered: Offered::Without("--no-slots"),
                port: None,
                figures: Figures::Slots,
            },
        ],
        ..UNKNOWN
    },
    Kind {
        name: "llama-cpp-python",
        starts: &[Start::Program("llama_cpp.server", &[])],
        model: &[
            Source::Option(&["--model-alias"], Some("MODEL_ALIAS"), Form::Name),
            Source::Option(&["--model"], Some("MODEL"), Form::Reference),
        ],
        port_env: Some("PORT"),
        default_port: Some(8000),
        ..UNKNOWN
    },
    Kind {
        name: "vllm",
        starts: &[
            Start::Program("vllm", &["serve"]),
            Start::Program("vllm.entrypoints.openai.api_server", &[]),
            Start::Program("vllm.entrypoints.api_server", &[]),
            Start::Program("vllm.entrypoints.cli.main", &["serve"]),
        ],
        titles: &["VLLM::"],
        model: &[name(&["--served-model-name"]), Source::Positional, reference(&["--model"])],
        default_port: Some(8000),
        endpoints: &[prometheus(
            "/metrics",
            [
                series(&["vllm:num_requests_running"]),
                series(&["vllm:num_requests_waiting"]),
                series(&["vllm:kv_cache_usage_perc", "vllm:gpu_cache_usage_perc"]),
            ],
        )],
        ..UNKNOWN
    },
    Kind {
        name: "sglang",
        starts: &[
            Start::Program("sglang.launch_server", &[]),
            Start::Program("sglang", &["serve"]),
        ],
        titles: &["sglang::"],
        model: &[
            name(&["--served-model-name"]),
            reference(&["--model-path", "--model"]),
            Source::Positional,
        ],
        default_port: Some(30000),
        endpoints: &[Endpoint {
            offered: Offered::With("--enable-metrics", None),
            ..prometheus(
                "/metrics",
                [
                    series(&["sglang:num_running_reqs"]),
                    series(&["sglang:num_queue_reqs"]),
                    series(&["sglang:token_usage"]),
                ],
            )
        }],
        ..UNKNOWN
    },
    Kind {
        name: "tgi",
        starts: &[
            Start::Program("text-generation-launcher", &[]),
            Start::Program("text-generation-router", &[]),
            Start::Program("text-generation-server", &["serve"]),
        ],
        model: &[
            Source::Option(&["--model-id"], Some("MODEL_ID"), Form::Reference),
            Source::Positional,
        ],
        port: &["-p", "--port"],
        port_env: Some("PORT"),
        default_port: Some(3000),
        endpoints: &[prometheus(
            "/metrics",
            [series(&["tgi_batch_current_size"]), series(&["tgi_queue_size"]), series(&[])],
        )],
        ..UNKNOWN
    },
    Kind {
        name: "ollama",
        starts: &[
            Start::Program("ollama", &["runner"]),
            Start::Program("ollama_llama_server", &[]),
        ],
        supervisors: &[Start::Program("ollama", &["serve"])],
        is_internal: true,
        model: &[reference(&["--model"])],
        ..UNKNOWN
    },
    Kind {
        name: "trtllm",
        starts: &[Start::Program("trtllm-serve", &["serve"]), Start::Program("trtllm-serve", &[])],
        model: &[name(&["--served-model-name"]), Source::Positional],
        default_port: Some(8000),
        endpoints: &[prometheus(
            "/prometheus/metrics",
            [
                series(&["trtllm_num_requests_running"]),
                series(&["trtllm_num_requests_waiting"]),
                series(&["trtllm_kv_cache_utilization"]),
            ],
        )],
        ..UNKNOWN
    },
    Kind {
        name: "triton",
        starts: &[Start::Program("tritonserver", &[])],
        model: &[name(&["--load-model"])],
        port: &["--http-port"],
        default_port: Some(8000),
        endpoints: &[Endpoint {
            port: Some(("--metrics-port", 8002)),
            ..prometheus(
                "/metrics",
                [
                    labelled(&["nv_trt_llm_request_metrics"], "scheduled"),
                    labelled(&["nv_trt_llm_request_metrics"], "waiting"),
                    labelled(&["nv_trt_llm_kv_cache_block_metrics"], "fraction"),
                ],
            )
        }],
        ..UNKNOWN
    },
    Kind {
        name: "lmdeploy",
        starts: &[Start::Program("lmdeploy", &["serve", "api_server"])],
        model: &[name(&["--model-name"]), Source::Positional],
        port: &["--server-port"],
        default_port: Some(23333),
        endpoints: &[prometheus(
            "/metrics",
            [
                series(&["lmdeploy:num_requests_running"]),
                series(&["lmdeploy:num_requests_waiting"]),
                series(&["lmdeploy:gpu_cache_usage_perc"]),
            ],
        )],
        ..UNKNOWN
    },
    Kind {
        name: "aphrodite",
        starts: &[Start::Program("aphrodite", &["run"])],
        model: &[name(&["--served-model-name"]), Source::Positional, reference(&["--model"])],
        default_port: Some(2242),
        endpoints: &[prometheus(
            "/metrics",
            [
                series(&["aphrodite:num_requests_running"]),
                series(&["aphrodite:num_requests_waiting"]),
                series(&["aphrodite:kv_cache_usage_perc", "aphrodite:gpu_cache_usage_perc"]),
            ],
        )],
        ..UNKNOWN
    },
    Kind {
        name: "mistralrs",
        starts: &[Start::Program("mistralrs", &["serve"]), Start::Program("mistralrs-server", &[])],
        model: &[reference(&["-m", "--model-id"])],
        port: &["-p", "--port"],
        default_port: Some(1234),
        ..UNKNOWN
    },
    Kind {
        name: "koboldcpp",
        starts: &[Start::Program("koboldcpp", &[]), Start::Prefix("koboldcpp-linux")],
        model: &[reference(&["--model"]), Source::Positional],
        default_port: Some(5001),
        endpoints: &[Endpoint {
            path: "/api/extra/perf",
            offered: Offered::Always,
            port: None,
            figures: Figures::KoboldPerf,
        }],
        ..UNKNOWN
    },
    Kind {
        name: "tabbyapi",
        starts: &[Start::Script("main", "tabbyapi"), Start::Script("start", "tabbyapi")],
        model: &[name(&["--model-name"])],
        default_port: Some(5000),
        ..UNKNOWN
    },
    Kind {
        name: "comfyui",
        starts: &[Start::Script("main", "comfyui")],
        default_port: Some(8188),
        endpoints: &[Endpoint {
            path: "/prompt",
            offered: Offered::Always,
            port: None,
            figures: Figures::ComfyPrompt,
        }],
        ..UNKNOWN
    },
    Kind {
        name: "whisper",
        starts: &[Start::Program("whisper-server", &[])],
        model: &[reference(&["-m", "--model"])],
        default_port: Some(8080),
        ..UNKNOWN
    },
    Kind {
        name: "mlc",
        starts: &[Start::Program("mlc_llm", &["serve"])],
        model: &[Source::Positional],
        default_port: Some(8000),
        ..UNKNOWN
    },
];

/// The kind of this name.
pub(in crate::collect) fn kind_named(name: &str) -> Option<&'static Kind> {
    KINDS.iter().find(|kind| kind.name == name)
}

/// The names of all kinds.
pub(in crate::collect) fn kind_names() -> impl Iterator<Item = &'static str> {
    KINDS.iter().map(|kind| kind.name)
}
