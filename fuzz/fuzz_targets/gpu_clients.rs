//! The fdinfo of a process that uses a GPU, from reading to reading.
#![no_main]

use hive_agent::collect::fuzzing::gpu_clients;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| gpu_clients(data));
