//! Tells the history when hives come and go.

use std::collections::HashSet;
use std::time::Duration;

use hive_contract::event::Lifecycle;
use hive_contract::{EventKind, HiveId};
use serde_json::json;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use crate::clock::Clock;
use crate::history::Writer;
use crate::registry::{HiveRegistry, HiveState, State};

/// How often it is looked.
const INTERVAL: Duration = Duration::from_secs(1);

/// Watches until `stop` is cancelled. `online` are the hives that were last seen to come.
///
/// What could not be recorded is recorded in a later second.
pub async fn watch(
    registry: HiveRegistry,
    writer: Writer,
    clock: Clock,
    mut online: HashSet<HiveId>,
    stop: CancellationToken,
) {
    let mut tick = tokio::time::interval(INTERVAL);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while stop.run_until_cancelled(tick.tick()).await.is_some() {
        let happenings: Vec<_> = registry
            .hives()
            .into_iter()
            .filter_map(|hive| happening(&hive, registry.state(&hive), &online, clock))
            .collect();
        if happenings.is_empty() || writer.record(happenings.clone()).await.is_err() {
            continue;
        }
        for Lifecycle { kind, hive_id, .. } in happenings {
            match hive_id {
                Some(hive) if kind == EventKind::HiveOnline => online.insert(hive),
                Some(hive) => online.remove(&hive),
                None => continue,
            };
        }
    }
}

fn happening(
    hive: &HiveState,
    state: State,
    online: &HashSet<HiveId>,
    clock: Clock,
) -> Option<Lifecycle> {
    let id = &hive.heartbeat.hive.id;
    let (timestamp, kind, detail) = match (state, online.contains(id)) {
        (State::Live, false) => (hive.heartbeat.timestamp, EventKind::HiveOnline, json!({})),
        (State::Offline, true) => {
            let detail = json!({
                "last_seen": hive.received.millis(),
                "silent_ms": hive.age_ms(clock.monotonic_ms()),
            });
            (clock.now(), EventKind::HiveOffline, detail)
        }
        _ => return None,
    };
    Some(Lifecycle { id: None, kind, timestamp, hive_id: Some(id.clone()), worker: None, detail })
}
