//! What the tests stand on: a queen of their own, a client, the agent, and sample heartbeats.

pub(crate) mod agent;
pub(crate) mod client;
pub(crate) mod heartbeat;
pub(crate) mod process;
pub(crate) mod queen;
pub(crate) mod relay;
pub(crate) mod session;
pub(crate) mod sqlite;
pub(crate) mod stream;
pub(crate) mod wait;

pub(crate) use client::Reply;
pub(crate) use queen::{Home, Queen};
pub(crate) use wait::rounds;
