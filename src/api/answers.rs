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
