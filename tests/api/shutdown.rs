//! SIGTERM: the queen ends in order and soon, whoever is still connected.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use crate::support::Queen;
use crate::support::client::JSON;
use crate::support::heartbeat::{heartbeat, marked, now_ms};
use crate::support::wait::LIMIT;

const SOON: Duration = Duration::from_secs(5);

#[test]
fn open_streams_and_idle_connections_do_not_hold_her_up() {
    let queen = Queen::start();
    // This connection stays open after its answer.
    queen.takes(&heartbeat("h", now_ms()));
    let mut sse = queen.stream("");
    let mut lines = queen.ndjson("");
    let mut idle = TcpStream::connect(queen.address()).unwrap();
    idle.set_read_timeout(Some(LIMIT)).unwrap();

    let begun = Instant::now();
    queen.ask_to_stop();
    let bye = sse.until("a farewell", |frame| frame.event == "bye");
    assert_eq!(bye.id, None);
    assert!(sse.frame().is_none(), "nothing comes after the farewell");
    let mut last = None;
    while let Some(line) = lines.line() {
        last = Some(line);
    }
    assert_eq!(last.as_deref(), Some(r#"{"type":"bye"}"#));
    assert_eq!(idle.read(&mut [0; 16]).unwrap(), 0, "the idle connection is closed");

    let (status, home) = queen.wait();
    assert!(begun.elapsed() < SOON, "{:?}", begun.elapsed());
    assert_eq!(status.code(), Some(0));
    assert_eq!(home.value("SELECT count(*) FROM hives"), 1.0);
}

#[test]
fn the_log_is_written_back_into_the_file() {
    let queen = Queen::start();
    queen.takes(&marked("h", now_ms(), 1.0));
    // Also when somebody has read it.
    queen.get("/v1/history/query?metric=cpu_pct").ok();
    let home = queen.stop();
    assert!(!home.path("queen.db-wal").exists());
    assert_eq!(home.value("SELECT cpu_pct FROM history"), 1.0);
}

#[test]
fn a_request_under_way_gets_its_answer() {
    let queen = Queen::start();
    let body = heartbeat("h", now_ms()).to_string();
    let mut socket = TcpStream::connect(queen.address()).unwrap();
    socket.set_read_timeout(Some(LIMIT)).unwrap();
    let head = format!(
        "POST /v1/hive-heartbeat HTTP/1.1\r\nhost: q\r\ncontent-length: {}\r\nexpect: 100-continue\r\n\r\n",
        body.len()
    );
    socket.write_all(head.as_bytes()).unwrap();
    let mut go_on = [0; 25];
    socket.read_exact(&mut go_on).unwrap();
    assert_eq!(&go_on, b"HTTP/1.1 100 Continue\r\n\r\n", "her handler waits for the body");

    queen.ask_to_stop();
    socket.write_all(body.as_bytes()).unwrap();
    let mut answer = String::new();
    socket.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    let (status, home) = queen.wait();
    assert_eq!(status.code(), Some(0));
    assert_eq!(home.value("SELECT count(*) FROM hives"), 1.0);
}

#[test]
fn a_request_that_never_ends_is_cut() {
    let queen = Queen::start();
    let mut socket = TcpStream::connect(queen.address()).unwrap();
    let head = "POST /v1/hive-heartbeat HTTP/1.1\r\nhost: q\r\ncontent-length: 999\r\nexpect: 100-continue\r\n\r\n";
    socket.write_all(head.as_bytes()).unwrap();
    socket.read_exact(&mut [0; 25]).unwrap();
    let begun = Instant::now();
    queen.ask_to_stop();
    let (status, _) = queen.wait();
    assert_eq!(status.code(), Some(0));
    assert!(begun.elapsed() < SOON, "{:?}", begun.elapsed());
}

#[test]
fn a_reader_that_does_not_read_is_cut() {
    let queen = Queen::start();
    let _slow = queen.stream("");
    let mut large = heartbeat("h", now_ms());
    large["gpus"] = vec![serde_json::json!({"name": "x".repeat(1024)}); 256].into();
    for i in 0..40 {
        large["timestamp"] = crate::support::heartbeat::wire(now_ms() + i).into();
        queen.post_bytes(large.to_string().as_bytes(), &[JSON]).ok();
    }
    let begun = Instant::now();
    queen.ask_to_stop();
    let (status, _) = queen.wait();
    assert_eq!(status.code(), Some(0));
    assert!(begun.elapsed() < SOON, "{:?}", begun.elapsed());
}
