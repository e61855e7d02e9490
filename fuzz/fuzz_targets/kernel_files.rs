//! Files of `/proc` and of cgroups. The first byte says which.
#![no_main]

use hive_agent::collect::fuzzing::kernel_file;
use libfuzzer_sys::fuzz_target;
use queen_fuzz::split;

fuzz_target!(|data: &[u8]| {
    let (kind, text) = split(data);
    kernel_file(kind, text);
});
