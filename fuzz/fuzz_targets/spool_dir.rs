//! A spool directory: a few segment files of anything, as an agent finds them at its start.
#![no_main]

use std::path::Path;

use hive_agent::spool::fuzzing::directory;
use libfuzzer_sys::fuzz_target;
use queen_fuzz::split;
use tempfile::TempDir;

fuzz_target!(|data: &[u8]| {
    let (first, rest) = split(data);
    let files = usize::from(first % 4) + 1;
    let segments: Vec<&[u8]> = rest.chunks(rest.len().div_ceil(files).max(1)).collect();
    let memory = Path::new("/dev/shm");
    let place = if memory.is_dir() { TempDir::new_in(memory) } else { TempDir::new() };
    directory(place.expect("a directory").path(), &segments);
});
