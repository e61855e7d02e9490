//! Measures every LLM inference worker of a machine once a second and posts it to the queen.

pub mod client;
pub mod clock;
pub mod simulate;
