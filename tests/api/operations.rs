//! What an operator asks: is she there, can she store, which one is she.

use std::net::TcpListener;
use std::process::Child;

use serde_json::json;

use crate::support::client::Client;
use crate::support::wait::eventually;
use crate::support::{Home, Queen};

#[test]
fn a_queen_that_serves_is_healthy_and_ready() {
    let queen = Queen::start();
    assert_eq!(queen.get("/healthz").ok(), json!({"status": "ok"}));
    assert_eq!(queen.get("/readyz").ok(), json!({"status": "ready", "reasons": []}));
    let version = json!({"name": "queen", "version": env!("CARGO_PKG_VERSION")});
    assert_eq!(queen.get("/version").ok(), version);
}

#[test]
fn head_is_answered_where_get_is() {
    let queen = Queen::start();
    for path in ["/healthz", "/readyz", "/version", "/v1/hives", "/v1/workers", "/v1/models"] {
        let reply = queen.client().send("HEAD", path, &[], &[]);
        assert_eq!((reply.status, reply.body.len()), (200, 0), "{path}");
    }
}

#[test]
fn she_says_first_where_she_listens() {
    let queen = Queen::start();
    let url = queen.url().to_owned();
    assert!(url.starts_with("http://127.0.0.1:") && !url.ends_with(":0"), "{url}");
    let lines: Vec<String> = (0..4).map_while(|_| queen.next_line()).collect();
    let has = |text: &str| lines.iter().any(|line| line.contains(text));
    assert!(has(&format!("{url}/v1/workers")), "{lines:?}");
    assert!(has(&format!("{url}/v1/heartbeats/stream")), "{lines:?}");
    assert!(has("queen.db"), "{lines:?}");
}

#[test]
fn she_serves_also_when_nobody_reads_what_she_prints() {
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let home = Home::new();
    let mut command = home.command(&["--bind", &free]);
    let mut queen = Killed(command.stdout(writer).spawn().unwrap());
    let client = Client::new(&format!("http://{free}"));
    eventually("she serves", || {
        assert!(queen.0.try_wait().unwrap().is_none(), "she has ended");
        client.try_send("GET", "/healthz", &[], &[]).filter(|reply| reply.status == 200)
    });
}

struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn programs_name_their_version() {
    let queen = crate::support::queen::clean(env!("CARGO_BIN_EXE_queen")).arg("--version").output();
    let expected = format!("queen {}\n", env!("CARGO_PKG_VERSION"));
    assert_eq!(String::from_utf8(queen.unwrap().stdout).unwrap(), expected);
}
