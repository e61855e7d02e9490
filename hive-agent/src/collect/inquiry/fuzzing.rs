//! What must hold of the answers of inference servers, whatever they say. Only the fuzz targets
//! of `fuzz/` are built with this.

use super::prometheus::Exposition;
use super::{Figures, json};
use crate::collect::server::Series;

static RUNNING: Series = Series { names: &["vllm:num_requests_running"], label: None };
static WAITING: Series = Series { names: &["requests"], label: Some("waiting") };
static KV_CACHE: Series =
    Series { names: &["vllm:kv_cache_usage_perc", "vllm:gpu_cache_usage_perc"], label: None };

fn exposition<'a>(pieces: impl Iterator<Item = &'a [u8]>) -> Figures {
    let mut exposition = Exposition::new(&RUNNING, &WAITING, &KV_CACHE);
    pieces.for_each(|piece| exposition.feed(piece));
    exposition.end()
}

/// An answer, in pieces of `piece` bytes: a figure is a number that is not negative, and pieces
/// make no difference.
pub fn answer(kind: u8, piece: u8, body: &[u8]) {
    let figures = match kind % 4 {
        0 => {
            let whole = exposition(std::iter::once(body));
            let in_pieces = exposition(body.chunks(usize::from(piece).max(1)));
            assert_eq!(whole, in_pieces);
            Some(whole)
        }
        1 => json::slots(body),
        2 => json::kobold_perf(body),
        _ => json::comfy_prompt(body),
    };
    let Some(Figures { running, waiting, kv_cache_pct }) = figures else { return };
    for figure in [running, waiting, kv_cache_pct].into_iter().flatten() {
        assert!(figure >= 0.0, "{figure}");
    }
}
