//! The history: every heartbeat, in one SQLite file. The only place that speaks SQL.
//!
//! - [`open`]: opens, checks and migrates the file, and holds the lock that keeps others out;
//! - [`writer`]: the one task that writes: group commit, acknowledgement, publication;
//! - `dictionary`: names to row numbers, so that a heartbeat is stored as numbers;
//! - `insert`: many rows in one statement;
//! - `codec`: a heartbeat to its row and back;
//! - `seal`: live readings become sorted blocks with rollups;
//! - `rollup`: mergeable sums, and the columns that hold them;
//! - [`metric`]: what is measured;
//! - [`reader`]: read-only access, bounded in time;
//! - [`mod@query`]: questions about series in time;
//! - `live`: which readings are in the live part, to tell duplicates;
//! - [`warm`]: the newest reading of each hive, to start with.
//!
//! Invariant: an acknowledged heartbeat is on disk. The answer is given after the commit.
//!
//! Invariant: a heartbeat is identified by its hive and its timestamp. Sending it again
//! changes nothing and is acknowledged again.

mod codec;
mod dictionary;
mod insert;
mod live;
pub mod metric;
pub mod open;
pub mod query;
pub mod reader;
mod rollup;
mod seal;
pub mod warm;
pub mod writer;

pub use open::{Durability, OpenError, open};
pub use reader::Reader;
pub use writer::{Ack, Storage, WriteError, Writer};
