//! Accepts connections and bounds what each may take.
//!
//! Invariant: a connection ends with the queen. When she stops, idle connections are closed
//! at once, requests under way get their answer, and what is still open after
//! [`GRACE`] is dropped.

mod patience;

use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use rustix::net::sockopt::set_tcp_user_timeout;
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

pub use self::patience::PATIENCE;
use self::patience::Patient;

/// How long requests under way may take when the queen stops.
pub const GRACE: Duration = Duration::from_secs(3);
/// How long a client may take to send a request's head; also the idle time of a connection.
const HEADER_TIMEOUT: Duration = Duration::from_secs(60);
/// The most that is buffered of one connection beside bodies: more than any head we take.
const BUFFER_BYTES: usize = 16 << 10;
/// Header lines in one request.
const MAX_HEADERS: usize = 64;
/// Pause after the system refused a connection, for want of file descriptors for example.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Serves until `shutdown`, then lets requests under way finish.
pub async fn serve(listener: TcpListener, router: Router, shutdown: CancellationToken) {
    let connections = TaskTracker::new();
    let hard = CancellationToken::new();
    loop {
        let accepted = tokio::select! {
            () = shutdown.cancelled() => break,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, _)) => {
                connections.spawn(connection(
                    stream,
                    router.clone(),
                    shutdown.clone(),
                    hard.clone(),
                ));
            }
            Err(error) => {
                tracing::warn!(error = %error, "a connection could not be accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    drop(listener);
    connections.close();
    if timeout(GRACE, connections.wait()).await.is_err() {
        tracing::warn!(connections = connections.len(), "connections were cut at shutdown");
        hard.cancel();
        connections.wait().await;
    }
}

async fn connection(
    stream: TcpStream,
    router: Router,
    shutdown: CancellationToken,
    hard: CancellationToken,
) {
    // Small frames must not wait for more to come.
    let _ = stream.set_nodelay(true);
    // A client that is gone without a word is given up in the same time as one that takes nothing.
    let _ = set_tcp_user_timeout(&stream, PATIENCE.as_millis() as u32);
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .max_buf_size(BUFFER_BYTES)
        .max_headers(MAX_HEADERS)
        .serve_connection(TokioIo::new(Patient::new(stream)), TowerToHyperService::new(router));
    let mut connection = std::pin::pin!(connection);
    // How a connection ends is the client's affair: it went away, or sent no HTTP.
    tokio::select! {
        _ = connection.as_mut() => return,
        () = shutdown.cancelled() => connection.as_mut().graceful_shutdown(),
    }
    tokio::select! {
        _ = connection => {}
        () = hard.cancelled() => {}
    }
}
