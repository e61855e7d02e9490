//! What could not be read, in sentences that go into the heartbeat.

use std::fmt::Display;

use hive_contract::bounded::Bounded;
use hive_contract::heartbeat::MAX_ERRORS;
use hive_contract::text::Text;

/// The errors of one collection. At most [`MAX_ERRORS`]; the last one counts what is left out.
#[derive(Default)]
pub(super) struct Complaints {
    sentences: Vec<Text>,
    left_out: usize,
    /// Workers whose storage traffic this user may not read.
    denied: usize,
}

impl Complaints {
    /// Adds one error: about whom or what, and what is wrong.
    pub(super) fn add(&mut self, subject: impl Display, error: impl Display) {
        self.add_sentence(&format!("{subject}: {error}"));
    }

    /// Adds one error that is a sentence already.
    pub(super) fn add_sentence(&mut self, sentence: &str) {
        if self.sentences.len() < MAX_ERRORS - 1 {
            self.sentences.push(Text::cut(sentence));
        } else {
            self.left_out += 1;
        }
    }

    /// Adds a worker whose storage traffic is shown to its own user and to root only. What is
    /// the same for all of them is one sentence.
    pub(super) fn deny_storage(&mut self) {
        self.denied += 1;
    }

    /// The errors so far, which leaves none.
    pub(super) fn take(&mut self) -> Bounded<Text, MAX_ERRORS> {
        match std::mem::take(&mut self.denied) {
            0 => {}
            denied => self.add(
                format_args!("storage traffic of {denied} workers is not known"),
                "only root or CAP_SYS_PTRACE may read /proc/PID/io of other users",
            ),
        }
        let mut sentences = std::mem::take(&mut self.sentences);
        let left_out = std::mem::take(&mut self.left_out);
        if left_out > 0 {
            sentences.push(Text::cut(&format!("and {left_out} more errors")));
        }
        Bounded::cut(sentences)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_is_bounded_and_counts_the_rest() {
        let mut complaints = Complaints::default();
        for number in 0..100 {
            complaints.add(format_args!("llm/{number}"), "broken");
        }
        let errors = complaints.take();
        assert_eq!(errors.len(), MAX_ERRORS);
        assert_eq!(errors[0].as_str(), "llm/0: broken");
        assert_eq!(errors[MAX_ERRORS - 1].as_str(), "and 37 more errors");
        assert!(complaints.take().is_empty());
    }

    #[test]
    fn what_is_denied_of_many_is_said_once() {
        let mut complaints = Complaints::default();
        for _ in 0..100 {
            complaints.deny_storage();
        }
        let errors = complaints.take();
        assert_eq!(errors.len(), 1);
        let sentence = "storage traffic of 100 workers is not known: only root or CAP_SYS_PTRACE \
                        may read /proc/PID/io of other users";
        assert_eq!(errors[0].as_str(), sentence);
        assert!(complaints.take().is_empty());
    }
}
