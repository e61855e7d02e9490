//! The wire types that `hive-agent` and `queen` share. No I/O, no clock.
//!
//! In reading order:
//!
//! - [`units`]: figures with their unit in the type, exact to 1/1000;
//! - [`ids`]: the names of hives, groups, instances and workers;
//! - [`text`]: bounded free text and model names;
//! - [`bounded`]: lists that cannot grow past their limit;
//! - [`time`]: a moment in milliseconds, RFC 3339 on the wire;
//! - [`heartbeat`]: what a hive says about itself once a second;
//! - [`parse`]: bytes to a [`Heartbeat`], or the reason why not;
//! - [`event`]: what the live feed sends;
//! - [`lifecycle`]: what happens to hives and workers;
//! - [`problem`]: what every error looks like.
//!
//! Invariant: parse, don't validate. Every type here can only be built from a value
//! within its bounds, so a [`Heartbeat`] that exists is valid and nothing inside checks again.
//!
//! Invariant: absent is not zero. What could not be read is `None` here and `null` on the wire.

pub mod bounded;
pub mod event;
pub mod heartbeat;
pub mod ids;
pub mod lifecycle;
pub mod parse;
pub mod problem;
pub mod text;
pub mod time;
pub mod units;

pub use heartbeat::Heartbeat;
pub use ids::{Group, HiveId, Instance, WorkerKey};
pub use lifecycle::EventKind;
pub use problem::{Code, Problem};
pub use time::Timestamp;
