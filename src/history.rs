//! The history: every heartbeat, in one SQLite file. The only place that speaks SQL.
//!
//! - [`mod@open`]: opens, checks and migrates the file, and holds the lock that keeps others out;
//! - `identity`: whether the file is ours;
//! - [`mod@backup`]: a copy of it;
//! - [`writer`]: the one task that writes: group commit, acknowledgement, publication;
//! - `ids`: what is recorded has ids that only grow;
//! - `lifecycle`, [`events`]: what changed from one reading to the next, and what else happened;
//! - [`replay`]: what was recorded after an id;
//! - `checkpoint`, `beside`: copying the log and reading for upkeep, beside the writer;
//! - `allowance`: how much new each hive may bring;
//! - `dictionary`: names to row numbers, so that a heartbeat is stored as numbers;
//! - `transaction`: begin, commit, give up;
//! - `raw`: statements that are executed once a row;
//! - `insert`: many rows in one statement;
//! - `codec`: a heartbeat to its row and back;
//! - `seal`: live readings become sorted blocks with rollups;
//! - `roll`: minutes become hours;
//! - [`retention`]: what is too old or too much goes;
//! - `upkeep`: the three of them, a slice at a time between heartbeats;
//! - `files`: how much room it takes;
//! - `wal`: how large the write-ahead log is;
//! - `cleaning`: what was given up half-way goes;
//! - `rollup`: mergeable sums, and the columns that hold them;
//! - [`export`], [`availability`]: what came in, and what did not;
//! - [`metric`]: what is measured;
//! - [`reader`]: read-only access, bounded in time;
//! - [`readings`]: whole heartbeats back out of the file;
//! - [`mod@query`]: questions about series in time;
//! - `live`: which readings are in the live part, to tell duplicates;
//! - [`warm`]: the newest reading of each hive, to start with;
//! - [`vram`]: how much GPU memory models need.
//!
//! Invariant: an acknowledged heartbeat is on disk. The answer is given after the commit.
//!
//! Invariant: a heartbeat is identified by its hive and its timestamp. Sending it again
//! changes nothing and is acknowledged again.

mod allowance;
pub mod availability;
pub mod backup;
mod beside;
mod checkpoint;
mod cleaning;
mod codec;
mod dictionary;
pub mod events;
pub mod export;
mod files;
#[cfg(fuzzing)]
pub mod fuzzing;
mod identity;
mod ids;
mod insert;
mod lifecycle;
mod live;
pub mod metric;
pub mod open;
#[cfg(test)]
mod plans;
pub mod query;
mod raw;
pub mod reader;
pub mod readings;
pub mod replay;
pub mod retention;
mod roll;
mod rollup;
mod seal;
mod transaction;
#[cfg(test)]
mod upgrade;
mod upkeep;
pub mod vram;
mod wal;
pub mod warm;
pub mod writer;

pub use backup::{BackupError, backup};
pub use files::Files;
pub use open::{Durability, OpenError, open};
pub use reader::Reader;
pub use writer::{Ack, Storage, WriteError, Writer};
