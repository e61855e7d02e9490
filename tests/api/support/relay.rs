//! One address for queens that come and go, as a browser needs it: what is asked of `/v1/` is
//! handed on to the queen of the moment, byte by byte. Beside it a page, and what the page reports.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;

use serde_json::Value;

use super::Queen;
use super::wait::LIMIT;

pub(crate) struct Relay {
    address: String,
    shared: Arc<Shared>,
}

struct Shared {
    page: &'static str,
    /// `127.0.0.1:PORT`
    queen: Mutex<String>,
    reports: Mutex<Vec<Value>>,
    over: AtomicBool,
}

impl Relay {
    pub(crate) fn start(page: &'static str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let (queen, reports, over) = Default::default();
        let shared = Arc::new(Shared { page, queen, reports, over });
        let accepting = Arc::clone(&shared);
        thread::spawn(move || {
            for client in listener.incoming() {
                if accepting.over.load(Ordering::Relaxed) {
                    return;
                }
                let shared = Arc::clone(&accepting);
                // A connection that breaks is what this is about.
                thread::spawn(move || shared.serve(client?));
            }
        });
        Self { address, shared }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}/", self.address)
    }

    /// From now on this queen is asked.
    pub(crate) fn hand_to(&self, queen: &Queen) {
        lock(&self.shared.queen).replace_range(.., queen.address());
    }

    /// What the page has reported so far.
    pub(crate) fn reports(&self) -> Vec<Value> {
        lock(&self.shared.reports).clone()
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.shared.over.store(true, Ordering::Relaxed);
        let _ = TcpStream::connect(&self.address);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shared {
    fn serve(&self, mut client: TcpStream) -> std::io::Result<()> {
        client.set_read_timeout(Some(LIMIT))?;
        let mut request = Vec::new();
        let head = loop {
            if let Some(at) = request.windows(4).position(|end| end == b"\r\n\r\n") {
                break at + 4;
            }
            read_more(&mut client, &mut request)?;
        };
        let text = String::from_utf8_lossy(&request[..head]).to_ascii_lowercase();
        if text.starts_with("get /v1/") {
            let queen = lock(&self.queen).clone();
            let mut queen = TcpStream::connect(queen)?;
            queen.write_all(&request)?;
            std::io::copy(&mut queen, &mut client)?;
        } else if text.starts_with("post /seen ") {
            let length = text.lines().find_map(|line| line.strip_prefix("content-length: "));
            let length: usize = length.and_then(|length| length.parse().ok()).unwrap_or_default();
            while request.len() < head + length {
                read_more(&mut client, &mut request)?;
            }
            let report: Vec<Value> = serde_json::from_slice(&request[head..head + length])?;
            lock(&self.reports).extend(report);
            client.write_all(b"HTTP/1.1 204 No Content\r\nconnection: close\r\n\r\n")?;
        } else {
            let (page, length) = (self.page, self.page.len());
            write!(
                client,
                "HTTP/1.1 200 OK\r\ncontent-type: text/html\r\ncontent-length: {length}\r\n\
                 connection: close\r\n\r\n{page}"
            )?;
        }
        Ok(())
    }
}

fn read_more(from: &mut TcpStream, into: &mut Vec<u8>) -> std::io::Result<()> {
    let mut piece = [0; 16 << 10];
    match from.read(&mut piece)? {
        0 => Err(std::io::ErrorKind::UnexpectedEof.into()),
        read => {
            into.extend_from_slice(&piece[..read]);
            Ok(())
        }
    }
}
