//! Bodies of heartbeats, one and many, compressed and not. The first byte says how.
#![no_main]

use std::cell::OnceCell;
use std::io::Write;

use axum::body::Body;
use axum::http::Request;
use libfuzzer_sys::fuzz_target;
use queen_fuzz::{Answer, Door, split};

const ROUTES: [&str; 2] = ["/v1/hive-heartbeat", "/v1/hive-heartbeats"];
const ENCODINGS: [&str; 3] = ["identity", "gzip", "zstd"];

thread_local! { static DOOR: OnceCell<Door> = const { OnceCell::new() } }

fuzz_target!(|data: &[u8]| {
    let (how, body) = split(data);
    let (route, how) = (ROUTES[usize::from(how) % 2], usize::from(how) / 2 % 4);
    // As it is, whatever it says that it is.
    let answer = post(route, ENCODINGS.get(how).unwrap_or(&ENCODINGS[0]), body.to_vec());
    // Compressed in order, it gets the answer that it gets as it is.
    if how == ENCODINGS.len() {
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gzip.write_all(body).expect("it is in memory");
        let gzip = gzip.finish().expect("it is in memory");
        let zstd = zstd::bulk::compress(body, 1).expect("it is in memory");
        for (encoding, body) in [("gzip", gzip), ("zstd", zstd)] {
            let compressed = post(route, encoding, body);
            assert_eq!((compressed.status, compressed.code()), (answer.status, answer.code()));
        }
    }
});

fn post(route: &str, encoding: &str, body: Vec<u8>) -> Answer {
    let request = Request::post(route).header("content-encoding", encoding);
    let request = request.body(Body::from(body)).expect("a request");
    DOOR.with(|door| door.get_or_init(Door::without_history).ask(request))
}
