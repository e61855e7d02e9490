//! Waiting, always with an end.

use std::thread;
use std::time::{Duration, Instant};

/// The longest that anything here is waited for. Nothing takes that long on a healthy
/// machine; it is generous so that a busy one does not fail tests.
pub(crate) const LIMIT: Duration = Duration::from_secs(30);

/// Between two looks.
pub(crate) const PAUSE: Duration = Duration::from_millis(20);

/// Asks until there is an answer.
#[track_caller]
pub(crate) fn eventually<T>(what: &str, mut probe: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + LIMIT;
    loop {
        if let Some(answer) = probe() {
            return answer;
        }
        assert!(Instant::now() < deadline, "not within {} s: {what}", LIMIT.as_secs());
        thread::sleep(PAUSE);
    }
}

/// How often a test repeats what it does to a process: `QUEEN_TEST_ROUNDS`, usually a few times.
pub(crate) fn rounds(usual: usize) -> usize {
    let asked = std::env::var("QUEEN_TEST_ROUNDS");
    asked.map_or(usual, |rounds| rounds.parse().expect("a number of rounds"))
}
