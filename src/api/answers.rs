//! How much memory answers take while their clients read them.
//!
//! Invariant: answers that are made whole before they are sent take at most [`WAITING_BYTES`]
//! together, or are one alone, and [`FREE_BYTES`] each beside that. What is sent as it is read,
//! the streams and the exports, has bounds of its own.

use std::sync::Arc;

use axum::body::{Body, Bytes, HttpBody};
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use hive_contract::{Code, Problem};
use http_body_util::BodyExt;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::problem::ApiError;

/// What all answers may take that wait for their clients: a few of the whole of a large fleet.
const WAITING_BYTES: usize = 128 << 20;
/// So much of each has room in any case: most answers, and all acknowledgements.
const FREE_BYTES: usize = 16 << 10;

/// Room for answers. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Answers(Arc<Semaphore>);

impl Default for Answers {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(WAITING_BYTES)))
    }
}

/// An answer with its place, which it keeps until the last of it was given to the system.
struct Held {
    answer: Bytes,
    _place: OwnedSemaphorePermit,
}

impl AsRef<[u8]> for Held {
    fn as_ref(&self) -> &[u8] {
        &self.answer
    }
}

/// Gives a large answer its place, or refuses it.
pub(super) async fn bound(State(Answers(room)): State<Answers>, response: Response) -> Response {
    let Some(size) = response.body().size_hint().exact() else { return response };
    let size = usize::try_from(size).unwrap_or(usize::MAX).min(WAITING_BYTES);
    if size <= FREE_BYTES {
        return response;
    }
    let place = room.try_acquire_many_owned(u32::try_from(size).unwrap_or(u32::MAX));
    let Ok(place) = place else {
        let detail = "too many large answers wait for their clients; try again shortly";
        return ApiError::from(Problem::new(Code::TooManyRequests, detail)).into_response();
    };
    let (head, body) = response.into_parts();
    match body.collect().await {
        Ok(answer) => {
            let held = Held { answer: answer.to_bytes(), _place: place };
            Response::from_parts(head, Body::from(Bytes::from_owner(held)))
        }
        Err(error) => {
            tracing::error!(error = %error, "an answer broke off");
            ApiError::from(Problem::new(Code::Internal, "the answer broke off")).into_response()
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use axum::Router;
    use axum::middleware::map_response_with_state;
    use axum::routing::get;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::{TcpListener, TcpStream};
    use tokio::time::{sleep, timeout};
    use tokio_util::sync::CancellationToken;

    use super::*;

    /// More than the system takes of one that is not read.
    const LARGE: usize = WAITING_BYTES / 4;

    async fn asked(address: std::net::SocketAddr, path: &str) -> TcpStream {
        let mut socket = TcpStream::connect(address).await.unwrap();
        let head = format!("GET {path} HTTP/1.1\r\nhost: q\r\nconnection: close\r\n\r\n");
        socket.write_all(head.as_bytes()).await.unwrap();
        socket
    }

    /// Status and head of an answer of which no more is read.
    async fn head(address: std::net::SocketAddr, path: &str) -> String {
        let mut head = [0; 256];
        let read = asked(address, path).await.read(&mut head).await.unwrap();
        String::from_utf8_lossy(&head[..read]).into_owned()
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn those_that_nobody_takes_are_bounded_and_small_ones_have_room() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let router = Router::new()
            .route("/large", get(|| async { vec![b' '; LARGE] }))
            .route("/larger", get(|| async { vec![b' '; WAITING_BYTES + 1] }))
            .route("/small", get(|| async { vec![b' '; FREE_BYTES] }))
            .layer(map_response_with_state(Answers::default(), bound));
        let stop = CancellationToken::new();
        let server = tokio::spawn(crate::server::serve(listener, router, stop.clone()));
        let becomes = |path: &'static str, status: &'static str| async move {
            timeout(Duration::from_secs(20), async {
                loop {
                    let head = head(address, path).await;
                    if head.starts_with(&format!("HTTP/1.1 {status}")) {
                        return head;
                    }
                    sleep(Duration::from_millis(20)).await;
                }
            })
            .await
            .unwrap_or_else(|_| panic!("{path} does not become {status}"))
        };

        becomes("/larger", "200").await;
        becomes("/large", "200").await;
        let mut stalled = Vec::new();
        while stalled.len() < 4 {
            let mut socket = asked(address, "/large").await;
            let mut status = [0; 12];
            socket.read_exact(&mut status).await.unwrap();
            // What was asked for before may have its place yet.
            if &status == b"HTTP/1.1 200" {
                stalled.push(socket);
            }
        }
        let refused = becomes("/large", "429").await;
        assert!(refused.contains("retry-after: 1\r\n"), "{refused}");
        assert!(head(address, "/larger").await.starts_with("HTTP/1.1 429"));
        assert!(head(address, "/small").await.starts_with("HTTP/1.1 200"));
        drop(stalled);
        becomes("/large", "200").await;
        becomes("/larger", "200").await;
        stop.cancel();
        server.await.unwrap();
    }
}
