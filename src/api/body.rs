//! Request bodies: content type, encoding and size, bounded before and after decompression.
//!
//! Invariant: whatever clients send, and however slowly, bodies that arrive take at most
//! [`ARRIVING_BYTES`] together and [`FREE_BYTES`] each, and each is there within [`ARRIVAL`] or
//! given up.

use std::io::Read;
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, HttpBody};
use axum::extract::{FromRef, FromRequest, Request};
use axum::http::{HeaderMap, header};
use bytes::{Bytes, BytesMut};
use hive_contract::{Code, Problem};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use tokio::sync::Semaphore;
use tokio::time::timeout;

use super::ApiState;
use super::problem::ApiError;

/// A JSON or ndjson body of at most `MAX` bytes, decompressed.
#[derive(Debug)]
pub(super) struct JsonBody<const MAX: usize>(pub(super) Bytes);

/// The largest window of a zstd body, as a power of two: the 8 MiB that every decoder grants.
const ZSTD_WINDOW_LOG_MAX: u32 = 23;

/// How long a body may take to arrive.
const ARRIVAL: Duration = Duration::from_mins(1);
/// What all bodies that arrive may take, in bytes as they come in: two of the largest.
const ARRIVING_BYTES: usize = 64 << 20;
/// So much of each has room in any case, whatever the others take: an ordinary heartbeat.
const FREE_BYTES: usize = 16 << 10;

/// Room for bodies that arrive. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Bodies(Arc<Semaphore>);

impl Default for Bodies {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(ARRIVING_BYTES)))
    }
}

impl Bodies {
    /// Waits for the whole of a body.
    async fn receive(&self, body: Body, max: usize) -> Result<Bytes, ApiError> {
        let mut has_room = true;
        let gathered = timeout(ARRIVAL, self.gather(body, max, &mut has_room)).await;
        if !has_room {
            let detail = "too many large bodies arrive at once; try again shortly";
            return Err(Problem::new(Code::QueueFull, detail).into());
        }
        gathered.unwrap_or_else(|_| {
            let detail = format!("the body did not arrive within {} s", ARRIVAL.as_secs());
            Err(Problem::new(Code::MalformedJson, detail).into())
        })
    }

    /// A body that has no room is read all the same, and forgotten: a client that still sends
    /// would not see the answer.
    async fn gather(&self, body: Body, max: usize, has_room: &mut bool) -> Result<Bytes, ApiError> {
        let mut body = Limited::new(body, max);
        // What is announced is found to be so only when it comes: no more than what each may have.
        let announced = usize::try_from(body.size_hint().lower()).unwrap_or(usize::MAX);
        let mut whole = BytesMut::with_capacity(announced.min(FREE_BYTES));
        let mut room = None;
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|error| {
                if error.is::<LengthLimitError>() {
                    too_large(max)
                } else {
                    Problem::new(Code::MalformedJson, "the body broke off")
                }
            })?;
            let Some(piece) = frame.into_data().ok().filter(|_| *has_room) else { continue };
            let before = whole.len().max(FREE_BYTES);
            // Copied: a small piece would keep the whole of what it was read into.
            whole.extend_from_slice(&piece);
            let more = u32::try_from(whole.len().saturating_sub(before)).unwrap_or(u32::MAX);
            if more > 0 {
                match (self.0.try_acquire_many(more), &mut room) {
                    (Ok(more), None) => room = Some(more),
                    (Ok(more), Some(room)) => room.merge(more),
                    (Err(_), _) => {
                        (whole, room) = (BytesMut::new(), None);
                        *has_room = false;
                    }
                }
            }
        }
        Ok(whole.freeze())
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Encoding {
    Identity,
    Gzip,
    Zstd,
}

impl<const MAX: usize> FromRequest<ApiState> for JsonBody<MAX> {
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &ApiState) -> Result<Self, ApiError> {
        check_content_type(request.headers())?;
        let encoding = encoding(request.headers())?;
        let body = Bodies::from_ref(state).receive(request.into_body(), MAX).await?;
        Ok(Self(decompress(body, encoding, MAX)?))
    }
}

fn too_large(max: usize) -> Problem {
    Problem::new(Code::TooLarge, format!("the body is larger than {} MiB", max >> 20))
}

fn check_content_type(headers: &HeaderMap) -> Result<(), ApiError> {
    let Some(value) = headers.get(header::CONTENT_TYPE) else { return Ok(()) };
    let value = value.to_str().unwrap_or_default();
    let essence = value.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    match essence.as_str() {
        "application/json"
        | "application/x-ndjson"
        | "application/ndjson"
        | "application/jsonl" => Ok(()),
        _ => Err(Problem::new(
            Code::UnsupportedMediaType,
            format!("Content-Type {essence:?} is not taken; application/json is"),
        )
        .into()),
    }
}

fn encoding(headers: &HeaderMap) -> Result<Encoding, ApiError> {
    let Some(value) = headers.get(header::CONTENT_ENCODING) else { return Ok(Encoding::Identity) };
    match value.to_str().unwrap_or_default().trim().to_ascii_lowercase().as_str() {
        "" | "identity" => Ok(Encoding::Identity),
        "gzip" | "x-gzip" => Ok(Encoding::Gzip),
        "zstd" => Ok(Encoding::Zstd),
        other => Err(Problem::new(
            Code::UnsupportedMediaType,
            format!("Content-Encoding {other:?} is not taken; gzip and zstd are"),
        )
        .into()),
    }
}

fn decompress(body: Bytes, encoding: Encoding, max: usize) -> Result<Bytes, ApiError> {
    let mut out = Vec::new();
    let limit = max as u64 + 1;
    let read = match encoding {
        Encoding::Identity => return Ok(body),
        Encoding::Gzip => {
            flate2::read::MultiGzDecoder::new(&body[..]).take(limit).read_to_end(&mut out)
        }
        Encoding::Zstd => zstd::Decoder::new(&body[..]).and_then(|mut decoder| {
            decoder.window_log_max(ZSTD_WINDOW_LOG_MAX)?;
            decoder.take(limit).read_to_end(&mut out)
        }),
    };
    match read {
        Ok(_) if out.len() > max => Err(too_large(max).into()),
        Ok(_) => Ok(out.into()),
        Err(error) => Err(Problem::new(
            Code::MalformedJson,
            format!("the compressed body cannot be read: {error}"),
        )
        .into()),
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use futures_util::{FutureExt, StreamExt, stream};
    use tokio::time::{Instant, sleep};

    use super::*;

    /// A byte every ten seconds, for ever.
    fn trickle() -> Body {
        Body::from_stream(stream::repeat(()).then(|()| async {
            sleep(Duration::from_secs(10)).await;
            Ok::<_, Infallible>(Bytes::from_static(b" "))
        }))
    }

    /// So many bytes at once, and then nothing.
    fn stalled(bytes: usize) -> Body {
        let piece = Ok::<_, Infallible>(Bytes::from(vec![b' '; bytes]));
        Body::from_stream(stream::once(async { piece }).chain(stream::pending()))
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_trickles_is_given_up() {
        let begun = Instant::now();
        let error = Bodies::default().receive(trickle(), 1 << 20).await.unwrap_err();
        assert_eq!((error.code(), begun.elapsed()), (Code::MalformedJson, ARRIVAL));
    }

    #[tokio::test(start_paused = true)]
    async fn all_bodies_together_have_a_bound_and_an_ordinary_heartbeat_has_room() {
        const LARGE: usize = 8 << 20;
        let bodies = Bodies::default();
        // Each takes its free part from nobody.
        let mut arriving: Vec<_> =
            (0..8).map(|_| Box::pin(bodies.receive(stalled(LARGE), LARGE))).collect();
        for body in &mut arriving {
            assert!(body.now_or_never().is_none());
        }
        let error = bodies.receive(stalled(LARGE), LARGE).await.unwrap_err();
        assert_eq!(error.code(), Code::QueueFull);
        let ordinary = Body::from(vec![b' '; FREE_BYTES]);
        assert_eq!(bodies.receive(ordinary, LARGE).await.unwrap().len(), FREE_BYTES);
        drop(arriving);
        let large = bodies.receive(Body::from(vec![b' '; LARGE]), LARGE).await.unwrap();
        assert_eq!(large.len(), LARGE);
        assert_eq!(bodies.0.available_permits(), ARRIVING_BYTES, "all room is given back");
    }
}
