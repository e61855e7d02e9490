//! Clients that do not speak HTTP as they should. The queen answers or hangs up, and goes on.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};

use crate::support::Queen;
use crate::support::heartbeat::{heartbeat, now_ms};
use crate::support::wait::LIMIT;

/// Sends bytes and reads what comes until the queen hangs up.
fn exchange(queen: &Queen, bytes: &[u8]) -> String {
    let mut socket = connect(queen);
    // She may hang up before all is written.
    let _ = socket.write_all(bytes);
    let _ = socket.shutdown(Shutdown::Write);
    let mut answer = Vec::new();
    let _ = socket.read_to_end(&mut answer);
    String::from_utf8_lossy(&answer).into_owned()
}

fn connect(queen: &Queen) -> TcpStream {
    let socket = TcpStream::connect(queen.address()).unwrap();
    socket.set_read_timeout(Some(LIMIT)).unwrap();
    socket.set_write_timeout(Some(LIMIT)).unwrap();
    socket
}

fn assert_lives(queen: &Queen) {
    queen.takes(&heartbeat("h", now_ms()));
}

#[test]
fn what_is_no_http_is_refused() {
    let queen = Queen::start();
    for noise in [
        "\r\n\r\n",
        "hello\r\n\r\n",
        "GET\r\n\r\n",
        "\u{16}\u{3}\u{1}\u{2}\u{0}",
        "GET / HTTP/9.9\r\n\r\n",
    ] {
        let answer = exchange(&queen, noise.as_bytes());
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 400"), "{noise:?}: {answer}");
    }
    assert_lives(&queen);
}

#[test]
fn a_head_that_is_too_large_is_refused() {
    let queen = Queen::start();
    let header = format!("x-long: {}\r\n", "x".repeat(1 << 20));
    let answer = exchange(&queen, format!("GET /healthz HTTP/1.1\r\n{header}\r\n").as_bytes());
    assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 4"), "{answer}");
    let headers: String = (0..200).map(|i| format!("x-{i}: 1\r\n")).collect();
    let answer = exchange(&queen, format!("GET /healthz HTTP/1.1\r\n{headers}\r\n").as_bytes());
    assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 4"), "{answer}");
    assert_lives(&queen);
}

#[test]
fn a_body_that_breaks_off_is_not_taken() {
    let queen = Queen::start();
    let body = heartbeat("broken", now_ms()).to_string();
    for head in ["content-length: 4096\r\n\r\n", "transfer-encoding: chunked\r\n\r\nfff\r\n"] {
        let request = format!("POST /v1/hive-heartbeat HTTP/1.1\r\nhost: q\r\n{head}{body}");
        let answer = exchange(&queen, request.as_bytes());
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 400"), "{answer}");
    }
    queen.get("/v1/hives/broken").problem(404, "not_found");
    assert_lives(&queen);
}

#[test]
fn an_endless_body_is_cut_off_with_an_answer() {
    let queen = Queen::start();
    let mut socket = connect(&queen);
    let head = "POST /v1/hive-heartbeat HTTP/1.1\r\nhost: q\r\ntransfer-encoding: chunked\r\n\r\n";
    socket.write_all(head.as_bytes()).unwrap();
    let chunk = format!("100000\r\n{}\r\n", " ".repeat(1 << 20));
    let mut sent = 0;
    while sent < 64 && socket.write_all(chunk.as_bytes()).is_ok() {
        sent += 1;
    }
    assert!(sent < 64, "the queen reads on");
    assert_lives(&queen);
}

#[test]
fn clients_that_say_nothing_and_clients_that_go_away_hold_up_nobody() {
    let queen = Queen::start();
    let silent: Vec<TcpStream> = (0..100).map(|_| connect(&queen)).collect();
    for socket in &silent[..50] {
        let mut socket = socket.try_clone().unwrap();
        socket
            .write_all(b"POST /v1/hive-heartbeat HTTP/1.1\r\ncontent-length: 9\r\n\r\n{")
            .unwrap();
    }
    assert_lives(&queen);
    drop(silent);
    assert_lives(&queen);
}
