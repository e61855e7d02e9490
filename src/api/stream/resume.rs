//! Where a stream goes on that was interrupted.

use axum::http::HeaderMap;

use crate::api::history::time;
use crate::api::params::{Params, invalid};
use crate::api::problem::ApiError;
use crate::clock::Clock;

/// The header in which an `EventSource` sends the last id that it saw.
const LAST_EVENT_ID: &str = "last-event-id";

/// Where to go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Resume {
    /// After this id.
    After(i64),
    /// With what was received from this moment on (ms since the epoch).
    Since(i64),
}

impl Resume {
    /// What the header says, or else the parameter.
    pub(super) fn parse(
        headers: &HeaderMap,
        params: &Params,
        clock: Clock,
    ) -> Result<Option<Self>, ApiError> {
        if let Some(id) = headers.get(LAST_EVENT_ID) {
            let text = id.to_str().unwrap_or_default();
            return match id_of(text) {
                Some(id) => Ok(Some(Self::After(id))),
                None => {
                    Err(invalid("Last-Event-ID", &format!("{text:?} is not an id of an event")))
                }
            };
        }
        let Some(text) = params.all("since").next() else { return Ok(None) };
        if let Some(id) = id_of(text) {
            return Ok(Some(Self::After(id)));
        }
        match time::moment(text, clock.now().millis()) {
            Ok(ms) if !text.starts_with(|c: char| c.is_ascii_digit()) || text.contains('T') => {
                Ok(Some(Self::Since(ms)))
            }
            _ => {
                let shown: String = text.chars().take(64).collect();
                let detail =
                    format!("{shown:?} is not an id of an event, a time in RFC 3339, or -30s");
                Err(invalid("since", &detail))
            }
        }
    }

    /// The id after which it goes on.
    pub(super) fn after(self) -> i64 {
        match self {
            Self::After(id) => id,
            Self::Since(ms) => (ms * 1000 - 1).max(0),
        }
    }
}

fn id_of(text: &str) -> Option<i64> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok()).flatten()
}
