//! A heartbeat to its row and back, and rows of anything.
#![no_main]

use libfuzzer_sys::fuzz_target;
use queen::history::fuzzing::{heartbeat, row};

fuzz_target!(|data: &[u8]| {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let mut parts = text.splitn(3, '\n');
    match (parts.next(), parts.next(), parts.next()) {
        (Some(samples), Some(gpus), Some(node)) => row(samples, gpus, node),
        _ => heartbeat(data),
    }
});
