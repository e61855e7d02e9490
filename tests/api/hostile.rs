//! Clients that do not speak HTTP as they should. The queen answers or hangs up, and goes on.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};

use serde_json::json;

use crate::support::Queen;
use crate::support::heartbeat::{heartbeat, now_ms};
use crate::support::queen::Home;
use crate::support::wait::{LIMIT, PAUSE, eventually};

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

#[test]
fn a_url_has_a_longest_and_a_most_parameters() {
    let queen = Queen::start();
    let answer = exchange(
        &queen,
        format!("GET /v1/workers?model={} HTTP/1.1\r\n\r\n", "x".repeat(1 << 20)).as_bytes(),
    );
    assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 4"), "{answer}");
    let filters = |n: usize| format!("/v1/workers?{}", vec!["model=m"; n].join("&"));
    queen.get(&filters(256)).ok();
    let detail = queen.get(&filters(257)).problem(400, "invalid_parameter");
    assert!(detail.contains("256"), "{detail}");
    assert_lives(&queen);
}

#[test]
fn requests_that_come_all_at_once_are_answered_one_after_the_other() {
    let queen = Queen::start();
    let request = "GET /healthz HTTP/1.1\r\nhost: q\r\n\r\n";
    let last = "GET /nowhere HTTP/1.1\r\nhost: q\r\nconnection: close\r\n\r\n";
    let mut socket = connect(&queen);
    let mut sender = socket.try_clone().unwrap();
    let all = request.repeat(1000) + last;
    let sending = std::thread::spawn(move || sender.write_all(all.as_bytes()));
    let mut answers = String::new();
    socket.read_to_string(&mut answers).unwrap();
    sending.join().unwrap().unwrap();
    assert_eq!(answers.matches("HTTP/1.1 200").count(), 1000);
    assert_eq!(answers.matches("HTTP/1.1 404").count(), 1);
}

#[test]
fn large_bodies_that_never_end_are_bounded_and_heartbeats_go_on() {
    const LARGE: usize = 8 << 20;
    let queen = Queen::start();
    let stalled: Vec<TcpStream> = (0..9)
        .map(|_| {
            let mut socket = connect(&queen);
            let head =
                "POST /v1/hive-heartbeat HTTP/1.1\r\nhost: q\r\ncontent-length: 8388608\r\n\r\n";
            socket.write_all(head.as_bytes()).unwrap();
            // The last of them is refused, and cut off.
            let _ = socket.write_all(&vec![b' '; LARGE - 1]);
            socket
        })
        .collect();
    let mut large = heartbeat("large", now_ms()).to_string().into_bytes();
    large.resize(LARGE / 4, b' ');
    let refused = eventually("there is no more room", || {
        let reply = queen.post_bytes(&large, &[]);
        (reply.status != 200).then_some(reply)
    });
    refused.problem(503, "queue_full");
    assert_eq!(refused.header("retry-after"), Some("1"));
    assert_lives(&queen);
    drop(stalled);
    eventually("there is room again", || {
        (queen.post_bytes(&large, &[]).status == 200).then_some(())
    });
}

#[test]
fn connections_have_a_bound_and_those_beyond_it_wait_for_a_place() {
    // 64 descriptors are left for files.
    let queen = Home::new().start_with_files(64 + 16);
    let taken: Vec<TcpStream> = (0..16).map(|_| connect(&queen)).collect();
    let answers = |mut socket: &TcpStream| {
        socket.write_all(b"GET /healthz HTTP/1.1\r\nhost: q\r\n\r\n").unwrap();
        let mut answer = [0; 4096];
        socket.read(&mut answer).map(|n| answer[..n].starts_with(b"HTTP/1.1 200"))
    };
    assert!(taken.iter().all(|socket| answers(socket).unwrap()));
    let waiting = connect(&queen);
    queen.says("no more may be open");
    waiting.set_read_timeout(Some(PAUSE)).unwrap();
    answers(&waiting).unwrap_err();
    assert!(answers(&taken[0]).unwrap(), "those that are there go on");
    drop(taken);
    waiting.set_read_timeout(Some(LIMIT)).unwrap();
    let mut answer = [0; 12];
    (&waiting).read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"HTTP/1.1 200");
    assert_lives(&queen);
}

/// A broken agent: every worker has another pid in every heartbeat.
#[test]
fn a_hive_that_brings_too_much_that_is_new_waits_and_nothing_is_lost() {
    let queen = Queen::start();
    let now = now_ms();
    let reading = |second: i64, pids: i64| {
        let mut reading = heartbeat("broken", now - 100_000 + second * 1000);
        let worker = |i: i64| json!({"pid": pids + i, "group": "g", "instance": i.to_string()});
        reading["workers"] = (0..1024).map(worker).collect();
        reading
    };
    // Each brings 1,024 runs, and but for the first as many exits and starts.
    let mut taken = 0;
    let refused = loop {
        let reply = queen.post(&reading(taken, taken * 1024));
        if reply.status != 200 {
            break reply;
        }
        taken += 1;
        assert!(taken < 40, "there is no bound");
    };
    assert!(taken > 20, "{taken}");
    refused.problem(429, "too_many_requests");
    assert!(refused.header("retry-after").is_some());
    // What it brought is bounded, what it named last goes on, and so do the others.
    let runs = queen.figures("SELECT count(*) FROM worker_runs")[0];
    assert_eq!(runs, taken as f64 * 1024.0);
    queen.takes(&reading(taken + 1, (taken - 1) * 1024));
    assert_lives(&queen);
}

#[test]
fn the_values_of_a_label_have_a_most() {
    const MOST: usize = 20_000;
    let queen = Queen::start();
    let values = || queen.get("/v1/history/labels/instance/values?start=-1h&end=now%2B1h").ok();
    let mut sent = 0;
    while sent <= MOST {
        let mut reading = heartbeat(&format!("h{sent}"), now_ms());
        let worker = |i: usize| json!({"pid": 1, "group": "g", "instance": format!("{i:05}")});
        reading["workers"] = (sent..sent + 1000).map(worker).collect();
        sent += 1000;
        queen.takes(&reading);
        if sent == MOST {
            let all = values();
            assert_eq!(all["values"].as_array().unwrap().len(), MOST);
            assert!(all.get("truncated").is_none());
        }
    }
    let some = values();
    assert_eq!(some["values"].as_array().unwrap().len(), MOST);
    assert_eq!((&some["truncated"], &some["values"][MOST - 1]), (&json!(true), &json!("19999")));
}
