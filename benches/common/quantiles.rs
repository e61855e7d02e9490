//! How latencies are shown.

use std::time::Duration;

/// Of latencies in growing order, in ms.
pub(crate) fn quantiles(sorted: &[Duration]) -> String {
    let at = |q: f64| {
        let index = ((sorted.len() as f64 * q) as usize).min(sorted.len().saturating_sub(1));
        sorted.get(index).map_or(f64::NAN, |latency| latency.as_secs_f64() * 1e3)
    };
    format!("p50 {:.2}  p99 {:.2}  max {:.1}", at(0.5), at(0.99), at(1.0))
}
