//! Questions to real sockets.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use super::*;
use crate::clock::SystemClock;
use crate::clock::tests::ManualClock;
use crate::collect::server::recognise;

/// How long anything may take, on a machine that is busy with other things.
const TEST_LIMIT: Duration = Duration::from_secs(30);

/// A server that answers each request as it is told, as long as the test runs.
struct Server {
    port: u16,
    requests: Arc<AtomicUsize>,
    connections: Arc<AtomicUsize>,
}

impl Server {
    fn start(answer: impl Fn(&str, &mut TcpStream) + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let server = Self { port, requests: Arc::default(), connections: Arc::default() };
        let (requests, connections) = (server.requests.clone(), server.connections.clone());
        let answer = Arc::new(answer);
        thread::spawn(move || {
            for stream in listener.incoming() {
                connections.fetch_add(1, Ordering::SeqCst);
                let (requests, answer) = (requests.clone(), Arc::clone(&answer));
                thread::spawn(move || {
                    let mut stream = stream.unwrap();
                    while let Some(request) = read_request(&mut stream) {
                        requests.fetch_add(1, Ordering::SeqCst);
                        answer(&request, &mut stream);
                    }
                });
            }
        });
        server
    }

    fn saying(answer: &'static str) -> Self {
        Self::start(move |_, stream| {
            let _ = stream.write_all(answer.as_bytes());
        })
    }

    /// What is known of a server with this command line, after the answers to the questions so
    /// far fit.
    fn asked(&self, command: &str, fits: impl Fn(&Result<Figures, String>) -> bool) {
        let mut inquiry = Inquiry::new(Arc::new(SystemClock), "/proc".as_ref());
        self.ask_until(&mut inquiry, command, fits);
    }

    fn ask_until(
        &self,
        inquiry: &mut Inquiry,
        command: &str,
        fits: impl Fn(&Result<Figures, String>) -> bool,
    ) {
        let deadline = Instant::now() + TEST_LIMIT;
        loop {
            let answer = inquiry.figures(myself(), self.port, queue(command));
            if fits(&answer) {
                return;
            }
            assert!(Instant::now() < deadline, "{answer:?}");
            thread::yield_now();
        }
    }

    /// Waits until so many requests have come.
    fn requests(&self, count: usize) {
        let deadline = Instant::now() + TEST_LIMIT;
        while self.requests.load(Ordering::SeqCst) < count {
            assert!(Instant::now() < deadline, "fewer than {count} requests came");
            thread::yield_now();
        }
    }
}

fn read_request(stream: &mut TcpStream) -> Option<String> {
    let mut request = Vec::new();
    let mut byte = [0];
    while !request.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut byte).ok()?;
        request.push(byte[0]);
    }
    Some(String::from_utf8(request).unwrap())
}

/// This process stands for the server's: only its network is looked at.
fn myself() -> Member {
    Member { pid: std::process::id(), started_ticks: 0 }
}

fn queue(command: &str) -> Queue {
    let cmdline = command.replace(' ', "\0");
    recognise(cmdline.as_bytes(), "/nonexistent".as_ref()).unwrap().queue.unwrap()
}

fn running(answer: &Result<Figures, String>, count: f64) -> bool {
    answer.as_ref().is_ok_and(|figures| figures.running == Some(count))
}

fn fails(answer: &Result<Figures, String>, reason: &str) -> bool {
    answer.as_ref().is_err_and(|error| error.contains(reason))
}

#[test]
fn figures_come_over_one_connection_whole_or_in_chunks() {
    let server = Server::start(|request, stream| {
        assert!(request.starts_with("GET /metrics HTTP/1.1\r\nhost: 127.0.0.1:"), "{request}");
        let body = "vllm:num_requests_running{engine=\"0\"} 3\nvllm:num_requests_waiting 2\n\
                    vllm:kv_cache_usage_perc 0.315\n";
        let (half, rest) = body.split_at(40);
        let answer = format!(
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n{:x}\r\n{half}\r\n{:x}\r\n{rest}\r\n0\r\n\r\n",
            half.len(),
            rest.len()
        );
        let _ = stream.write_all(answer.as_bytes());
    });
    let mut inquiry = Inquiry::new(Arc::new(SystemClock), "/proc".as_ref());
    server.ask_until(&mut inquiry, "vllm serve m", |answer| {
        let expected = Figures { running: Some(3.0), waiting: Some(2.0), kv_cache_pct: Some(31.5) };
        answer.as_ref().is_ok_and(|figures| *figures == expected)
    });
    server.requests(3);
    assert_eq!(server.connections.load(Ordering::SeqCst), 1);
}

#[test]
fn a_server_that_closes_each_connection_is_asked_over_new_ones() {
    let server = Server::start(|_, stream| {
        let body = r#"[{"is_processing": true}]"#;
        let _ = write!(stream, "HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len());
        let _ = stream.shutdown(std::net::Shutdown::Both);
    });
    let mut inquiry = Inquiry::new(Arc::new(SystemClock), "/proc".as_ref());
    let command = "llama-server -m a";
    server.ask_until(&mut inquiry, command, |answer| running(answer, 1.0));
    server.requests(3);
    server.ask_until(&mut inquiry, command, |answer| running(answer, 1.0));
}

/// What llama.cpp's server of ggml 0.25.3 said with two slots and three requests.
#[test]
fn a_real_llama_server_is_understood() {
    let say = |command: &str, body: &'static str, expected: Figures| {
        let server = Server::start(move |_, stream| {
            let length = body.len();
            let _ = write!(stream, "HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n\r\n{body}");
        });
        server.asked(command, |answer| answer.as_ref().is_ok_and(|figures| *figures == expected));
    };
    let running = Figures { running: Some(2.0), ..Figures::default() };
    let slots = include_str!("fixtures/llama-server-slots.json");
    say("llama-server -m a", slots, running);
    let with_waiting = Figures { waiting: Some(1.0), ..running };
    let metrics = include_str!("fixtures/llama-server-metrics.txt");
    say("llama-server -m a --metrics", metrics, with_waiting);
}

#[test]
fn each_way_to_misbehave_has_its_sentence() {
    let silent = Server::start(|_, _| {});
    silent.asked("vllm serve m", |answer| fails(answer, "did not answer within 200ms"));
    let trickling = Server::start(|_, stream| {
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\n\r\nvllm:num_requests_running 1\n");
    });
    trickling.asked("vllm serve m", |answer| fails(answer, "did not answer within 200ms"));
    let redirecting = Server::saying(
        "HTTP/1.1 302 Found\r\nlocation: http://127.0.0.1:1/\r\ncontent-length: 0\r\n\r\n",
    );
    redirecting.asked("vllm serve m", |answer| fails(answer, "a redirect (302 Found)"));
    let failing = Server::saying("HTTP/1.1 500 Oops\r\ncontent-length: 0\r\n\r\n");
    failing.asked("vllm serve m", |answer| fails(answer, "answered 500"));
    let babbling = Server::saying("SSH-2.0-OpenSSH_9.2\r\n");
    babbling.asked("vllm serve m", |answer| fails(answer, "the connection broke"));
    let html = Server::saying("HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\n<html>");
    html.asked("llama-server -m a", |answer| fails(answer, "not understood"));
}

#[test]
fn an_endless_answer_is_cut() {
    let closed: Arc<AtomicUsize> = Arc::default();
    let count = Arc::clone(&closed);
    let endless = Server::start(move |_, stream| {
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n");
        while stream.write_all(&[b'x'; 1 << 16]).is_ok() {}
        count.fetch_add(1, Ordering::SeqCst);
    });
    endless.asked("llama-server -m a", |answer| fails(answer, "more than 262144 bytes"));
    let is_cut = |answer: &_| fails(answer, "more than 4194304 bytes") || fails(answer, "within");
    endless.asked("vllm serve m", is_cut);
    // Nobody goes on reading what would never end.
    let deadline = Instant::now() + TEST_LIMIT;
    while closed.load(Ordering::SeqCst) < endless.connections.load(Ordering::SeqCst) {
        assert!(Instant::now() < deadline, "a connection is still open");
        thread::yield_now();
    }
}

#[test]
fn what_a_server_does_not_offer_is_not_known_and_no_error() {
    for status in ["401 Unauthorized", "404 Not Found", "501 Not Implemented", "503 Loading"] {
        let answer = format!("HTTP/1.1 {status}\r\ncontent-length: 0\r\n\r\n");
        let server = Server::start(move |_, stream| {
            let _ = stream.write_all(answer.as_bytes());
        });
        assert_eq!(first_answer(server.port), Ok(Figures::default()), "{status}");
    }
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    assert_eq!(first_answer(free), Ok(Figures::default()));
}

/// What came of the first question.
fn first_answer(port: u16) -> Result<Figures, String> {
    let mut inquiry = Inquiry::new(Arc::new(SystemClock), "/proc".as_ref());
    let deadline = Instant::now() + TEST_LIMIT;
    loop {
        let answer = inquiry.figures(myself(), port, queue("vllm serve m"));
        if inquiry.shared.state().busy.values().any(|asked| asked.answer.is_some()) {
            return answer.and_then(|_| inquiry.figures(myself(), port, queue("vllm serve m")));
        }
        assert!(Instant::now() < deadline);
        thread::yield_now();
    }
}

#[test]
fn an_answer_grows_stale() {
    let server = Server::saying(
        "HTTP/1.1 200 OK\r\ncontent-length: 28\r\n\r\nvllm:num_requests_running 7\n",
    );
    let clock = Arc::new(ManualClock::at_s(1000));
    let mut inquiry = Inquiry::new(Arc::<ManualClock>::clone(&clock), "/proc".as_ref());
    server.ask_until(&mut inquiry, "vllm serve m", |answer| running(answer, 7.0));
    clock.advance(FRESH);
    let mut known = || inquiry.figures(myself(), server.port, queue("vllm serve m"));
    assert!(running(&known(), 7.0));
    clock.advance(Duration::from_millis(1));
    assert_eq!(known(), Ok(Figures::default()));
}

#[test]
fn a_hundred_that_hang_hold_up_neither_the_questions_nor_the_end() {
    let silent = Server::start(|_, _| {});
    let mut inquiry = Inquiry::new(Arc::new(SystemClock), "/proc".as_ref());
    let started = Instant::now();
    for started_ticks in 0..100 {
        let member = Member { started_ticks, ..myself() };
        let answer = inquiry.figures(member, silent.port, queue("vllm serve m"));
        assert_eq!(answer, Ok(Figures::default()));
    }
    silent.requests(1);
    drop(inquiry);
    assert!(started.elapsed() < Duration::from_secs(10), "{:?}", started.elapsed());
}

#[test]
fn a_name_is_looked_up_where_the_process_sees_its_files() {
    let proc = tempfile::tempdir().unwrap();
    let hash = "5".repeat(64);
    let models = proc.path().join("7/root/models");
    let manifest = models.join("manifests/registry.ollama.ai/library/qwen3/4b");
    std::fs::create_dir_all(manifest.parent().unwrap()).unwrap();
    let layer = format!(
        r#"{{"mediaType": "application/vnd.ollama.image.model", "digest": "sha256:{hash}"}}"#
    );
    std::fs::write(manifest, format!(r#"{{"layers": [{layer}]}}"#)).unwrap();
    let mut inquiry = Inquiry::new(Arc::new(SystemClock), proc.path());
    let blob = Model::OllamaBlob(format!("/models/blobs/sha256-{hash}").into());
    let member = Member { pid: 7, started_ticks: 0 };
    let deadline = Instant::now() + TEST_LIMIT;
    let name = loop {
        match inquiry.name(member, &blob) {
            Some(name) => break name,
            None => assert!(Instant::now() < deadline),
        }
        thread::yield_now();
    };
    assert_eq!(name.as_str(), "qwen3:4b");
}
