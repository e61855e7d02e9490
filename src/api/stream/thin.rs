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

    /// The interval of a moment in µs since the epoch, as ids are.
    fn window_of(&self, micros: i64) -> i64 {
        micros.div_euclid(self.interval.as_micros().max(1) as i64)
    }

    /// How long it is until the interval of this moment (µs since the epoch) is over.
    pub(super) fn rest(&self, micros: i64) -> Duration {
        let interval = self.interval.as_micros().max(1) as i64;
        Duration::from_micros((interval - micros.rem_euclid(interval)).unsigned_abs())
    }

    /// Takes an event, and gives what waited if it belongs to a later interval.
    pub(super) fn push(&mut self, event: E) -> Vec<E> {
        let mut ready = Vec::new();
        if let Some(id) = event.as_ref().id {
            let window = self.window_of(id);
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

    /// Gives what waits of an interval that is over at this moment (µs since the epoch): nothing may
    /// come after it that shows that.
    pub(super) fn over(&mut self, micros: i64) -> Vec<E> {
        if self.window_of(micros) == self.window { Vec::new() } else { self.flush() }
    }

    /// Gives what waits, by id.
    pub(super) fn flush(&mut self) -> Vec<E> {
        let mut ready = std::mem::take(&mut self.others);
        ready.extend(self.newest.drain().map(|(_, event)| event));
        ready.sort_by_key(|event| event.as_ref().id);
        ready
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use hive_contract::Heartbeat;
    use proptest::{prop_assert, prop_assert_eq, proptest};

    use super::*;

    struct Owned(Event);

    impl AsRef<Event> for Owned {
        fn as_ref(&self) -> &Event {
            &self.0
        }
    }

    fn heartbeat(hive: u8, micros: i64) -> Owned {
        let json = format!(r#"{{"hive": {{"id": "h{hive}"}}}}"#);
        let heartbeat = Heartbeat::parse(json.as_bytes(), crate::clock::moment(micros));
        Owned(Event::durable(micros, heartbeat.unwrap().into(), false))
    }

    proptest! {
        /// Whenever it is looked whether an interval is over.
        #[test]
        fn of_each_hive_one_an_interval_and_in_the_end_the_newest(
            steps in proptest::collection::vec((0_i64..400_000, proptest::option::of(0_u8..3)), 1..100),
        ) {
            let mut thin = Thin::new(Duration::from_secs(1));
            let (mut now, mut newest, mut told) = (1_000_000, HashMap::new(), Vec::new());
            for (later, hive) in steps {
                now += later + 1;
                told.extend(match hive {
                    Some(hive) => {
                        newest.insert(hive, now);
                        thin.push(heartbeat(hive, now))
                    }
                    None => thin.over(now),
                });
            }
            let rest = thin.rest(now);
            prop_assert!(rest > Duration::ZERO && rest <= Duration::from_secs(1));
            told.extend(thin.over(now + rest.as_micros() as i64));
            let mut seen = HashSet::new();
            let mut last = HashMap::new();
            for Owned(event) in &told {
                let Content::Heartbeat { heartbeat, .. } = &event.content else { continue };
                let (hive, id) = (heartbeat.hive.id.to_string(), event.id.unwrap());
                prop_assert!(seen.insert((hive.clone(), id / 1_000_000)), "{hive} twice");
                last.insert(hive, id);
            }
            let newest: HashMap<_, _> = newest.iter().map(|(h, id)| (format!("h{h}"), *id)).collect();
            prop_assert_eq!(last, newest);
        }
    }
}
