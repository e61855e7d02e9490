//! Measures every LLM inference worker of a machine once a second and posts it to the queen.
//!
//! In reading order:
//!
//! - [`config`]: what the agent is told;
//! - [`agent`]: the whole of it: one thread that collects, one task that sends;
//! - [`collect`]: one heartbeat, read from cgroups and `/proc`;
//! - `spool`: the heartbeats that are not acknowledged yet, in memory and on disk;
//! - `delivery`: from the spool to the queen, through
//! - [`client`]: one connection that heals itself;
//! - [`once`]: a single heartbeat, for people;
//! - [`doctor`]: what is seen here, and what is missing, in plain words;
//! - [`spawn`]: starts a worker where it is found;
//! - [`simulate`]: a made-up fleet, for demonstrations and load tests;
//! - [`clock`]: what time it is.

pub mod agent;
pub mod client;
pub mod clock;
pub mod collect;
pub mod config;
mod delivery;
pub mod doctor;
pub mod once;
pub mod simulate;
pub mod spawn;
pub mod spool;

#[cfg(test)]
mod test_queen;
