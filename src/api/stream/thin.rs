//! Thinning a stream for slow screens: of each hive the newest heartbeat an interval.

use std::collections::HashMap;
use std::time::Duration;

use hive_contract::HiveId;

use crate::api::history::time;
use crate::api::params::{Params, invalid};
use crate::api::problem::ApiError;
use crate::feed::{Content, Event};

/// The least interval, in ms.
const MIN_MS: i64 = 100;
/// The greatest interval, in ms: an hour.
const MAX_MS: i64 = 3_600_000;
/// Events that are sent whatever the interval, beyond which they do not wait for its end.
const MAX_OTHERS: usize = 1024;

/// What waits for the end of the interval. `E` is an event or a counted reference to one.
#[derive(Debug)]
pub(super) struct Thin<E> {
    interval: Duration,
    /// Which interval of receipt times the waiting events belong to.
    window: i64,
    newest: HashMap<HiveId, E>,
    others: Vec<E>,
}

/// The parameter `interval`.
pub(super) fn interval(params: &Params) -> Result<Option<Duration>, ApiError> {
    let Some(text) = params.all("interval").next() else { return Ok(None) };
    match time::span(text) {
        Some(ms) if (MIN_MS..=MAX_MS).contains(&ms) => {
            Ok(Some(Duration::from_millis(ms.unsigned_abs())))
        }
        _ => {
            let shown: String = text.chars().take(64).collect();
            Err(invalid("interval", &format!("{shown:?} is not a time from 100ms to 1h")))
        }
    }
}

impl<E: AsRef<Event>> Thin<E> {
    pub(super) fn new(interval: Duration) -> Self {
        Self { interval, window: 0, newest: HashMap::new(), others: Vec::new() }
    }

    pub(super) fn interval(&self) -> Duration {
        self.interval
    }

    /// Takes an event, and gives what waited if it belongs to a later interval.
    pub(super) fn push(&mut self, event: E) -> Vec<E> {
        let mut ready = Vec::new();
        if let Some(id) = event.as_ref().id {
            let window = id / self.interval.as_micros().max(1) as i64;
            if window != self.window {
                ready = self.flush();
                self.window = window;
            }
        }
        match &event.as_ref().content {
            // Late data is told whole: it is wanted for what it fills.
            Content::Heartbeat { heartbeat, late: false } => {
                self.newest.insert(heartbeat.hive.id.clone(), event);
            }
            _ => self.others.push(event),
        }
        if self.others.len() >= MAX_OTHERS {
            ready.append(&mut self.flush());
        }
        ready
    }

    /// Gives what waits, by id.
    pub(super) fn flush(&mut self) -> Vec<E> {
        let mut ready = std::mem::take(&mut self.others);
        ready.extend(self.newest.drain().map(|(_, event)| event));
        ready.sort_by_key(|event| event.as_ref().id);
        ready
    }
}
