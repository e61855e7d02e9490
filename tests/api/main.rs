//! The queen from outside: the real program, a real file, real HTTP.
//!
//! Every test has a queen of its own on a port that the system chose, and reads her database
//! with the `sqlite3` program, as people do. Nothing here sleeps in the hope that something
//! will have happened: tests wait for an answer, an event or an end, and every wait is bounded.
//!
//! - what comes in comes out: [`contract`], [`absent`], [`late`], [`duplicates`], [`bulk`];
//! - what is refused, and how: [`bodies`], [`fields`], [`moments`], [`problems`], [`hostile`];
//! - what is served: [`hives`], [`workers`], [`models`], [`route`], [`events`], [`operations`], [`openapi`], [`metrics`], [`grafana`];
//! - the live feed: [`stream`], [`filters`], [`resume`], [`replays`], [`browser`];
//! - what came in, out again: [`export`], [`pages`], [`availability`], [`backup`], [`adhoc`];
//! - what happens when things end or fail: [`faults`], with a table of all of them, [`crash`],
//!   [`restart`], [`sealing`], [`shutdown`];
//! - how it is set up: [`options`];
//! - the whole way from a process to the history: [`collector`], [`local_hive`].

#![expect(clippy::unwrap_used, reason = "in a test, a panic is the report")]
#![expect(clippy::needless_pass_by_value, reason = "JSON literals read better by value")]

mod support;

mod absent;
mod adhoc;
mod availability;
mod backup;
mod bodies;
mod browser;
mod bulk;
mod collector;
mod contract;
mod crash;
mod duplicates;
mod events;
mod export;
mod faults;
mod fields;
mod filters;
mod grafana;
mod hives;
mod hostile;
mod late;
mod local_hive;
mod metrics;
mod models;
mod moments;
mod openapi;
mod operations;
mod options;
mod pages;
mod problems;
mod replays;
mod restart;
mod resume;
mod route;
mod sealing;
mod shutdown;
mod stream;
mod workers;
