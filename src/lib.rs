//! The queen: receives the heartbeats of every hive, keeps all of them, and serves the newest.
//!
//! In reading order:
//!
//! - [`config`]: flags, environment and file become one [`config::Config`];
//! - [`app`]: all wiring: builds the parts, starts the tasks, orders the shutdown;
//! - [`server`]: accepts connections and bounds what each may take;
//! - [`api`]: every route on one page, one file a resource;
//! - [`ingest`]: the write path, top to bottom;
//! - [`registry`]: the newest reading of every hive;
//! - [`scheduler`]: which worker takes a request;
//! - [`estimates`]: how much memory a model needs, learned from the history;
//! - [`liveness`]: when hives come and go;
//! - [`feed`]: the live stream;
//! - [`history`]: the only place that speaks SQL;
//! - [`counters`]: what she counts of her own work;
//! - [`clock`]: time as an argument.

pub mod api;
pub mod app;
pub mod clock;
pub mod config;
pub mod counters;
pub mod estimates;
pub mod feed;
pub mod history;
pub mod ingest;
pub mod liveness;
pub mod registry;
pub mod scheduler;
pub mod server;
