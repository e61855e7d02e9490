//! Command lines: which server it is, its model and its port, and no secret.
#![no_main]

use hive_agent::collect::fuzzing::command_line;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| command_line(data));
