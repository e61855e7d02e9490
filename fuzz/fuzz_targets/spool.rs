//! A segment of the agent's spool: any bytes, or heartbeats with anything between them.
#![no_main]

use hive_agent::spool::fuzzing::{between_garbage, segment};
use libfuzzer_sys::fuzz_target;
use queen_fuzz::split;

fuzz_target!(|data: &[u8]| {
    let (first, rest) = split(data);
    if first % 2 == 0 {
        return segment(rest, usize::from(first) * rest.len() / 256);
    }
    let mut pieces = rest.split(|&byte| byte == b'\n').take(6).peekable();
    let mut pairs = Vec::new();
    while let Some(garbage) = pieces.next() {
        pairs.push((garbage, pieces.next().unwrap_or_default()));
    }
    between_garbage(&pairs);
});
