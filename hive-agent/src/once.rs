//! A single heartbeat, for people and scripts.

use std::sync::Arc;
use std::thread;
use std::time::Duration;

use hive_contract::Heartbeat;

use crate::clock::SystemClock;
use crate::collect::{Collector, Settings};
use crate::config::Config;

/// The time between the two readings, so that the heartbeat has rates.
pub const PAUSE: Duration = Duration::from_millis(250);

/// So long a driver may take to be there: without its persistence mode NVIDIA's is loaded anew
/// for every program that asks.
pub const GPU_LIMIT: Duration = Duration::from_secs(5);

/// Reads the machine twice, and gives the second reading.
#[must_use]
pub fn collect(config: &Config) -> Heartbeat {
    let settings = Settings { interval: None, ..config.settings() };
    let mut collector = Collector::new(settings, Arc::new(SystemClock));
    collector.collect(0);
    collector.wait_for_gpus(GPU_LIMIT);
    thread::sleep(PAUSE);
    collector.collect(0)
}
