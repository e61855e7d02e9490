//! A queen for tests who can be away: she answers everything, or breaks every connection.

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;

use hive_agent::clock::{Clock, SystemClock};
use hive_contract::{Heartbeat, Timestamp};

/// What came in with one request.
#[derive(Clone)]
pub(crate) struct Request {
    pub(crate) path: String,
    pub(crate) heartbeats: Vec<Heartbeat>,
}

#[derive(Default)]
struct State {
    back_at: Option<Timestamp>,
    tries: usize,
    received: Vec<Request>,
}

pub(crate) struct Queen {
    url: String,
    state: Arc<Mutex<State>>,
}

impl Queen {
    pub(crate) fn away() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let state = Arc::new(Mutex::new(State::default()));
        let shared = Arc::clone(&state);
        // It ends with the test's process.
        thread::spawn(move || {
            for stream in listener.incoming() {
                let shared = Arc::clone(&shared);
                thread::spawn(move || serve(&stream.unwrap(), &shared));
            }
        });
        Self { url, state }
    }

    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    pub(crate) fn come_back(&self) {
        self.state.lock().unwrap().back_at = Some(SystemClock.wall());
    }

    pub(crate) fn back_at(&self) -> Option<Timestamp> {
        self.state.lock().unwrap().back_at
    }

    /// How often she was asked in vain.
    pub(crate) fn tries(&self) -> usize {
        self.state.lock().unwrap().tries
    }

    pub(crate) fn received(&self) -> Vec<Request> {
        self.state.lock().unwrap().received.clone()
    }
}

/// Until the other end closes the connection, or something is wrong with it.
fn serve(stream: &TcpStream, state: &Mutex<State>) -> Option<()> {
    let mut reader = BufReader::new(stream);
    loop {
        let request = read(&mut reader)?;
        {
            let mut state = state.lock().unwrap();
            if state.back_at.is_none() {
                state.tries += 1;
                return None;
            }
            state.received.push(request);
        }
        let mut stream = stream;
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}").ok()?;
    }
}

fn read(reader: &mut impl BufRead) -> Option<Request> {
    let mut line = String::new();
    reader.read_line(&mut line).ok()?;
    let path = line.split(' ').nth(1)?.to_owned();
    let (mut length, mut is_compressed) = (0, false);
    loop {
        line.clear();
        reader.read_line(&mut line).ok()?;
        let header = line.trim().to_ascii_lowercase();
        if header.is_empty() {
            break;
        }
        if let Some(value) = header.strip_prefix("content-length: ") {
            length = value.parse().unwrap();
        }
        is_compressed |= header == "content-encoding: zstd";
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    assert_eq!(is_compressed, path == "/v1/hive-heartbeats", "the past is compressed");
    if is_compressed {
        body = zstd::decode_all(&body[..]).unwrap();
    }
    let now = Timestamp::from_millis(0).unwrap();
    let lines = body.split(|&byte| byte == b'\n').filter(|line| !line.is_empty());
    let heartbeats = lines.map(|line| Heartbeat::parse(line, now).unwrap()).collect();
    Some(Request { path, heartbeats })
}
