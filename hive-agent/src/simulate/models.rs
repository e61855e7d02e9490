//! What the simulated machines are made of: GPUs that one can buy, models that one can load.

/// A kind of GPU.
#[derive(Debug)]
pub(super) struct GpuKind {
    pub(super) name: &'static str,
    pub(super) memory_mb: u64,
    pub(super) idle_w: u64,
    pub(super) limit_w: u64,
}

pub(super) static GPU_KINDS: [GpuKind; 5] = [
    GpuKind { name: "NVIDIA H100 80GB HBM3", memory_mb: 81_559, idle_w: 70, limit_w: 700 },
    GpuKind { name: "NVIDIA A100-SXM4-80GB", memory_mb: 81_920, idle_w: 60, limit_w: 400 },
    GpuKind { name: "NVIDIA L40S", memory_mb: 46_068, idle_w: 35, limit_w: 350 },
    GpuKind { name: "NVIDIA GeForce RTX 4090", memory_mb: 24_564, idle_w: 22, limit_w: 450 },
    GpuKind { name: "NVIDIA GeForce RTX 3090", memory_mb: 24_576, idle_w: 25, limit_w: 350 },
];

/// What the server of a model tells about its requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Exports {
    /// Requests and the use of the KV cache, as vLLM and SGLang do.
    All,
    /// Requests only.
    Requests,
    /// Nothing.
    Nothing,
}

/// A model and how its server behaves.
#[derive(Debug)]
pub(super) struct Model {
    pub(super) name: &'static str,
    pub(super) group: &'static str,
    /// The first port of the group; the worker's number is added to it.
    pub(super) first_port: usize,
    /// GPU memory with the weights loaded and nothing to do.
    pub(super) vram_mb: u64,
    /// Resident memory of the server after its start.
    pub(super) rss_mb: u64,
    /// Requests that it processes at once.
    pub(super) slots: u64,
    pub(super) exports: Exports,
}

const fn llm(name: &'static str, vram_mb: u64, rss_mb: u64, slots: u64) -> Model {
    Model { name, group: "llm", first_port: 8080, vram_mb, rss_mb, slots, exports: Exports::All }
}

const fn embed(name: &'static str, vram_mb: u64, slots: u64) -> Model {
    let exports = Exports::Requests;
    Model { name, group: "embed", first_port: 18080, vram_mb, rss_mb: 900, slots, exports }
}

/// Smallest first within its group.
pub(super) static MODELS: [Model; 13] = [
    embed("all-minilm-l6-v2", 420, 32),
    embed("bge-m3", 2_310, 24),
    embed("qwen3-embedding-8b", 16_140, 16),
    llm("qwen2.5-0.5b-instruct", 1_240, 1_100, 16),
    llm("llama-3.2-1b", 3_072, 1_480, 16),
    llm("llama-3.2-3b", 7_380, 1_960, 12),
    llm("qwen3-8b", 17_650, 2_800, 12),
    llm("gpt-oss-20b", 19_340, 3_100, 12),
    llm("qwen3-32b-awq", 23_120, 3_900, 8),
    llm("qwen3-coder-30b-a3b", 38_400, 4_600, 8),
    llm("llama-3.3-70b-instruct", 74_500, 7_400, 8),
    llm("mistral-large-2411", 132_000, 9_200, 6),
    Model {
        name: "whisper-large-v3",
        group: "asr",
        first_port: 28080,
        vram_mb: 4_120,
        rss_mb: 2_050,
        slots: 4,
        exports: Exports::Nothing,
    },
];
