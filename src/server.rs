//! Accepts connections and bounds what each may take.
//!
//! Invariant: a connection ends with the queen. When she stops, idle connections are closed
//! at once, requests under way get their answer, and what is still open after
//! [`GRACE`] is dropped.

mod patience;

use std::io;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use rustix::net::sockopt::set_tcp_user_timeout;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
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
/// Connections at once: enough for the agents of a large fleet, and for every stream.
const MAX_CONNECTIONS: usize = 16_384;
/// Descriptors that are left for files, where the system grants fewer than that.
const OTHER_FILES: u64 = 64;
/// Pause after the system refused a connection, for want of file descriptors for example.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Serves until `shutdown`, then lets requests under way finish.
pub async fn serve(listener: TcpListener, router: Router, shutdown: CancellationToken) {
    let connections = TaskTracker::new();
    let hard = CancellationToken::new();
    let places = Arc::new(Semaphore::new(most_connections()));
    let mut is_full = false;
    loop {
        let accepted = tokio::select! {
            () = shutdown.cancelled() => break,
            accepted = accept(&listener, &places, &mut is_full) => accepted,
        };
        match accepted {
            Ok((stream, place)) => {
                let served = connection(stream, router.clone(), shutdown.clone(), hard.clone());
                connections.spawn(async move {
                    served.await;
                    drop(place);
                });
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

/// Connections that there may be at once.
fn most_connections() -> usize {
    let files = rlimit::getrlimit(rlimit::Resource::NOFILE).map_or(u64::MAX, |(soft, _)| soft);
    let files = files.saturating_sub(OTHER_FILES).max(1);
    usize::try_from(files).map_or(MAX_CONNECTIONS, |files| files.min(MAX_CONNECTIONS))
}

/// The next connection, as soon as there is a place for it; until then it waits in the system.
async fn accept(
    listener: &TcpListener,
    places: &Arc<Semaphore>,
    is_full: &mut bool,
) -> io::Result<(TcpStream, OwnedSemaphorePermit)> {
    let place = match Arc::clone(places).try_acquire_owned() {
        Ok(place) => {
            *is_full = false;
            place
        }
        Err(_) => {
            if !std::mem::replace(is_full, true) {
                let most = most_connections();
                tracing::warn!(connections = most, "no more may be open; the next one waits");
            }
            Arc::clone(places).acquire_owned().await.map_err(io::Error::other)?
        }
    };
    let (stream, _) = listener.accept().await?;
    Ok((stream, place))
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
