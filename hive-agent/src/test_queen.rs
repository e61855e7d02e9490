//! A queen for tests: real HTTP, answers by a script, every request kept.

use std::convert::Infallible;
use std::sync::{Arc, Mutex};
use std::time::{Duration, UNIX_EPOCH};

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::header::{CONTENT_ENCODING, DATE};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;
use tokio::sync::Notify;
use tokio::task::JoinSet;

use crate::client::QueenUrl;
use crate::clock::{Clock, SystemClock};

/// What came in: the path and the lines of the body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Received {
    pub(crate) path: String,
    pub(crate) lines: Vec<String>,
}

/// A status, and a body.
pub(crate) type Answer = (u16, String);

struct Shared {
    /// How far her clock is ahead of this machine's, in seconds.
    ahead_s: i64,
    script: Box<dyn Fn(&Received) -> Answer + Send + Sync>,
    received: Mutex<Vec<Received>>,
    changed: Notify,
}

/// Serves until it is dropped.
pub(crate) struct TestQueen {
    pub(crate) url: QueenUrl,
    shared: Arc<Shared>,
    _server: JoinSet<()>,
}

impl TestQueen {
    /// Answers each request by the script.
    pub(crate) async fn start(
        script: impl Fn(&Received) -> Answer + Send + Sync + 'static,
    ) -> Self {
        Self::start_ahead(0, script).await
    }

    /// The same by a clock that is so many seconds ahead.
    pub(crate) async fn start_ahead(
        ahead_s: i64,
        script: impl Fn(&Received) -> Answer + Send + Sync + 'static,
    ) -> Self {
        let shared = Arc::new(Shared {
            ahead_s,
            script: Box::new(script),
            received: Mutex::default(),
            changed: Notify::new(),
        });
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap()).parse().unwrap();
        let mut server = JoinSet::new();
        server.spawn(serve(listener, Arc::clone(&shared)));
        Self { url, shared, _server: server }
    }

    /// Waits, for at most ten seconds, until what came in fits.
    pub(crate) async fn received_until(&self, fits: impl Fn(&[Received]) -> bool) -> Vec<Received> {
        let waiting = async {
            loop {
                let changed = self.shared.changed.notified();
                let received = self.shared.received.lock().unwrap().clone();
                if fits(&received) {
                    return received;
                }
                changed.await;
            }
        };
        match tokio::time::timeout(Duration::from_secs(10), waiting).await {
            Ok(received) => received,
            Err(_) => panic!("only this came in: {:#?}", self.shared.received.lock().unwrap()),
        }
    }
}

async fn serve(listener: TcpListener, shared: Arc<Shared>) {
    let mut connections = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        let shared = Arc::clone(&shared);
        let service = service_fn(move |request| answer(request, Arc::clone(&shared)));
        connections.spawn(async move {
            let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
        });
    }
}

async fn answer(
    request: Request<Incoming>,
    shared: Arc<Shared>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let path = request.uri().path().to_owned();
    let is_compressed = request.headers().contains_key(CONTENT_ENCODING);
    let mut body = request.into_body().collect().await.unwrap().to_bytes().to_vec();
    if is_compressed {
        body = zstd::decode_all(&body[..]).unwrap();
    }
    let lines = String::from_utf8(body).unwrap().lines().map(str::to_owned).collect();
    let received = Received { path, lines };
    let (status, body) = (shared.script)(&received);
    shared.received.lock().unwrap().push(received);
    shared.changed.notify_waiters();
    let ahead = Duration::from_secs(shared.ahead_s.unsigned_abs());
    let now = UNIX_EPOCH + Duration::from_millis(SystemClock.wall().millis().unsigned_abs());
    let now = if shared.ahead_s < 0 { now - ahead } else { now + ahead };
    let response = Response::builder().status(status).header(DATE, httpdate::fmt_http_date(now));
    Ok(response.body(Full::new(body.into())).unwrap())
}
