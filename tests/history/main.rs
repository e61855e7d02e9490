//! The history's answers against an independent reference, over a real queen and a real file.
//!
//! - [`fleet`]: readings with everything that makes them hard: nulls, gaps, restarts, changes of
//!   model, late and duplicate heartbeats;
//! - [`reference`]: the same questions answered in plain code over the same readings;
//! - [`answers`]: every combination of the parameters, live, sealed, across the seam, rolled up;
//! - [`requests`]: how questions are written, and what is refused;
//! - [`forms`]: the forms of an answer;
//! - [`queen`]: the queen's program.

#![expect(clippy::unwrap_used, reason = "in a test, a panic is the report")]

mod answers;
mod fleet;
mod forms;
mod queen;
mod reference;
mod requests;
