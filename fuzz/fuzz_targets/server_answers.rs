//! What an inference server says of its queue. The first byte says in which form, the second in
//! how large pieces it comes.
#![no_main]

use hive_agent::collect::fuzzing::server_answer;
use libfuzzer_sys::fuzz_target;
use queen_fuzz::split;

fuzz_target!(|data: &[u8]| {
    let (kind, rest) = split(data);
    let (piece, body) = split(rest);
    server_answer(kind, piece, body);
});
