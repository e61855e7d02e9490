//! The queen's routes as the fuzz targets knock at them: the real router, without sockets.

use std::path::Path;
use std::sync::atomic::AtomicI64;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::{HeaderMap, Request, StatusCode, header};
use futures_util::FutureExt;
use http_body_util::BodyExt;
use queen::api::{self, Answers, ApiState, Bodies, Exports};
use queen::clock::Clock;
use queen::counters::Counters;
use queen::estimates::Estimates;
use queen::feed::Feed;
use queen::feed::fleet::Fleet;
use queen::history::writer::{self, WriterTask};
use queen::history::{self, Durability, Files, Reader, retention};
use queen::ingest::Ingest;
use queen::registry::{HiveRegistry, Liveness};
use serde_json::Value;
use tempfile::TempDir;
use tokio::runtime::Runtime;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

/// 2025-11-24T16:00:00Z, for ever.
pub const NOW_MS: i64 = 1_764_000_000_000;
static NOW: AtomicI64 = AtomicI64::new(NOW_MS * 1000);

/// The longest problem document, in bytes, beside what it repeats of the request.
const MAX_PROBLEM: usize = 16 << 10;
/// Frames of a stream that are looked at.
const MAX_FRAMES: usize = 16;

/// The queen, from outside.
pub struct Door {
    runtime: Runtime,
    router: Router,
    _directory: TempDir,
}

/// What she answered.
pub struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Vec<u8>,
}

fn wired(directory: &Path, runtime: &Runtime) -> (Router, WriterTask, Reader) {
    let path = directory.join("queen.db");
    let clock = Clock::manual(&NOW);
    let days = |days: u64| Duration::from_hours(24 * days);
    let limits = retention::Limits {
        raw: days(7),
        minutes: days(90),
        hours: days(730),
        disk_budget: 1 << 30,
        min_free_disk: 0,
    };
    let feed = Feed::new(64);
    let counters = Counters::default();
    let registry = HiveRegistry::new(64, Liveness::default(), clock);
    let prepared = runtime.block_on(async {
        let database = history::open(&path, Durability::Normal).await.expect("a new database");
        let (seal_after, feed) = (Duration::from_secs(60), feed.clone());
        writer::prepare(database, seal_after, limits, feed, counters.clone(), clock).await
    });
    let (writer, task, _) = prepared.expect("a new database");
    let reader = runtime.block_on(async { Reader::new(&path, Duration::from_secs(5)) });
    let state = ApiState {
        ingest: Ingest::new(
            registry.clone(),
            writer.clone(),
            feed.clone(),
            counters.clone(),
            clock,
            limits.raw,
        ),
        fleet: Fleet::new(registry.clone(), feed.clone(), clock),
        registry,
        estimates: Estimates::default(),
        feed,
        writer,
        reader: reader.clone(),
        exports: Exports::default(),
        bodies: Bodies::default(),
        answers: Answers::default(),
        counters,
        files: Files::of(&path),
        clock,
        shutdown: CancellationToken::new(),
    };
    (api::router(state), task, reader)
}

/// Like that of the real queen: some of what she does is possible only there.
fn runtime() -> Runtime {
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    runtime.worker_threads(1).enable_all().build().expect("a runtime")
}

fn directory() -> TempDir {
    // In memory where that can be: it is not the disk that is tried here.
    let memory = Path::new("/dev/shm");
    let directory = if memory.is_dir() { TempDir::new_in(memory) } else { TempDir::new() };
    directory.expect("a directory")
}

impl Door {
    /// A queen whose history can neither be read nor written: whatever is asked in order gets the
    /// answer `storage_unavailable`, and in no time.
    #[must_use]
    pub fn without_history() -> Self {
        let (runtime, directory) = (runtime(), directory());
        let (router, writer, reader) = wired(directory.path(), &runtime);
        drop(writer);
        runtime.block_on(reader.close());
        Self { runtime, router, _directory: directory }
    }

    /// A queen with the heartbeats of a few hives.
    #[must_use]
    pub fn with_history(heartbeats: &[String]) -> Self {
        let (runtime, directory) = (runtime(), directory());
        let (router, writer, _) = wired(directory.path(), &runtime);
        std::thread::spawn(move || self::runtime().block_on(writer.run()));
        let door = Self { runtime, router, _directory: directory };
        for heartbeat in heartbeats {
            let answer = door.ask(
                Request::post("/v1/hive-heartbeat").body(heartbeat.clone().into()).expect("valid"),
            );
            assert_eq!(answer.status, 200, "{}", String::from_utf8_lossy(&answer.body));
        }
        door
    }

    /// Asks, and looks whether the answer is one of those that there are.
    pub fn ask(&self, request: Request<Body>) -> Answer {
        let repeated = request.uri().to_string().len();
        let answer = self.runtime.block_on(async {
            let response = self.router.clone().oneshot(request).await;
            let (head, mut body) = response.expect("the router answers").into_parts();
            let kind = head.headers.get(header::CONTENT_TYPE);
            let streams = ["text/event-stream", "application/x-ndjson"];
            let is_stream = kind.is_some_and(|kind| streams.iter().any(|stream| kind == stream));
            let mut bytes = Vec::new();
            if is_stream {
                // It has no end: what comes at once.
                for _ in 0..MAX_FRAMES {
                    let Some(Some(Ok(frame))) = body.frame().now_or_never() else { break };
                    bytes.extend(frame.into_data().unwrap_or_default());
                }
            } else if let Ok(whole) = body.collect().await {
                bytes = whole.to_bytes().into();
            }
            Answer { status: head.status, headers: head.headers, body: bytes }
        });
        answer.check(repeated);
        answer
    }
}

impl Answer {
    fn check(&self, repeated: usize) {
        let Self { status, headers, body } = self;
        let status = status.as_u16();
        let text = String::from_utf8_lossy(body);
        assert!(
            [200, 204, 400, 404, 405, 413, 415, 422, 429, 503].contains(&status),
            "{status} {text}"
        );
        let json = || serde_json::from_slice::<Value>(body).expect("it is JSON");
        let kind = headers.get(header::CONTENT_TYPE).map_or("", |kind| kind.to_str().unwrap_or(""));
        if status >= 400 {
            assert_eq!(kind, "application/problem+json");
            let problem = json();
            assert_eq!(problem["status"], status);
            assert!(problem["code"].is_string() && problem["detail"] == problem["message"]);
            assert_eq!(headers.contains_key(header::RETRY_AFTER), status == 429 || status == 503);
            // A control character takes six bytes as JSON, and the text stands there four times.
            assert!(body.len() <= MAX_PROBLEM + 24 * repeated, "{} bytes: {text:.400}", body.len());
        } else if kind == "application/json" {
            json();
        }
    }

    /// Its stable name, if it is a problem.
    #[must_use]
    pub fn code(&self) -> Option<String> {
        let problem: Value = serde_json::from_slice(&self.body).ok()?;
        Some(problem.get("code")?.as_str()?.to_owned())
    }
}

/// Any bytes as a query that has them: what may not stand there is escaped.
#[must_use]
pub fn query(bytes: &[u8]) -> String {
    let mut query = String::with_capacity(bytes.len());
    for &byte in bytes {
        if byte.is_ascii_alphanumeric() || b"&=%+-._~:@!*'(),;/?".contains(&byte) {
            query.push(byte.into());
        } else {
            query.push_str(&format!("%{byte:02X}"));
        }
    }
    query
}

/// The first byte, and the rest.
#[must_use]
pub fn split(data: &[u8]) -> (u8, &[u8]) {
    data.split_first().map_or((0, data), |(&first, rest)| (first, rest))
}
