//! The state of the whole fleet, as the feed tells it: made once for all who watch.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use hive_contract::HiveId;
use hive_contract::event::QueenSummary;
use tokio::time::{Instant, MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use super::{Event, Feed};
use crate::clock::Clock;
use crate::registry::{HiveRegistry, State};

/// Time between two summaries.
const INTERVAL: Duration = Duration::from_millis(2500);
/// Streams that begin within this time begin with the same one: a thousand come back at once after
/// a restart.
const RECENT: Duration = Duration::from_millis(50);

/// The fleet, for the feed. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Fleet {
    registry: HiveRegistry,
    feed: Feed,
    clock: Clock,
    /// The summary that a stream began with last.
    last: Arc<Mutex<Option<Recent>>>,
}

#[derive(Debug)]
struct Recent {
    made: Instant,
    summary: Arc<Event>,
}

impl Fleet {
    /// Tells the feed of what is in the registry.
    #[must_use]
    pub fn new(registry: HiveRegistry, feed: Feed, clock: Clock) -> Self {
        Self { registry, feed, clock, last: Arc::default() }
    }

    /// Publishes a summary every 2.5 s, while anybody watches, until it is stopped.
    pub async fn publish(self, stop: CancellationToken) {
        let mut tick = interval(INTERVAL);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while stop.run_until_cancelled(tick.tick()).await.is_some() {
            if self.feed.streams() > 0 {
                self.feed.publish([Event::summary(self.summary())]);
            }
        }
    }

    /// Whether a hive is live.
    #[must_use]
    pub fn is_live(&self, hive: &HiveId) -> bool {
        let hive = self.registry.get(hive.as_str());
        hive.is_some_and(|hive| self.registry.state(&hive) == State::Live)
    }

    /// The summary that a stream begins with.
    #[must_use]
    pub fn recent(&self) -> Arc<Event> {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        match &*last {
            Some(Recent { made, summary }) if made.elapsed() < RECENT => Arc::clone(summary),
            _ => {
                let summary = Arc::new(Event::summary(self.summary()));
                *last = Some(Recent { made: Instant::now(), summary: Arc::clone(&summary) });
                summary
            }
        }
    }

    fn summary(&self) -> QueenSummary {
        let mut summary = QueenSummary {
            workers_online: 0,
            workers_available: 0,
            hives_online: 0,
            hives_available: 0,
            worker_ids: Vec::new(),
            hive_ids: Vec::new(),
            timestamp: self.clock.now(),
        };
        for hive in self.registry.hives() {
            let state = self.registry.state(&hive);
            if state == State::Offline {
                continue;
            }
            let id: &HiveId = &hive.heartbeat.hive.id;
            let workers = &hive.heartbeat.workers;
            summary.hives_online += 1;
            summary.hive_ids.push(id.clone());
            summary.workers_online += workers.len();
            summary.worker_ids.extend(
                workers.iter().map(|worker| format!("{id}/{}/{}", worker.group, worker.instance)),
            );
            if state == State::Live {
                summary.hives_available += 1;
                summary.workers_available +=
                    workers.iter().filter(|worker| worker.idle() == Some(true)).count();
            }
        }
        summary.worker_ids.sort_unstable();
        summary
    }
}
