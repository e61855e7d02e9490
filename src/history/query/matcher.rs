//! Conditions on labels: `label OP value`.

use std::collections::HashSet;

use regex::{Regex, RegexBuilder};

use super::request::Label;

/// The most conditions of one request.
pub const MAX_MATCHERS: usize = 64;
/// The longest value or pattern, in bytes.
const MAX_VALUE: usize = 1024;
/// Memory that one compiled pattern may take.
const MAX_PATTERN_BYTES: usize = 256 << 10;

/// A condition on a label. A label that a series does not have, or that is not known, is empty.
#[derive(Debug, Clone)]
pub struct Matcher {
    /// The label.
    pub label: Label,
    test: Test,
    /// What the test says for the series that are wanted.
    wanted: bool,
}

#[derive(Debug, Clone)]
enum Test {
    Equal(String),
    OneOf(HashSet<String>),
    Matches(Regex),
}

/// A text that is no condition.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidMatcher {
    /// There is no operator.
    #[error("{0:?} is not of the form label OP value, with OP one of = != =~ !~")]
    Form(String),
    /// There is no such label.
    #[error(
        "{0:?} is not a label; the labels are hive, group, instance, model, pid, gpu, index, name"
    )]
    Label(String),
    /// The value is too long.
    #[error("a value has at most {MAX_VALUE} bytes")]
    TooLong,
    /// The pattern is not a regular expression, or too large a one.
    #[error("{pattern:?} cannot be used as a regular expression: {why}")]
    Pattern {
        /// As given.
        pattern: String,
        /// What is wrong with it.
        why: String,
    },
}

impl Matcher {
    /// A condition that a label has a value.
    #[must_use]
    pub fn equal(label: Label, value: impl Into<String>) -> Self {
        Self { label, test: Test::Equal(value.into()), wanted: true }
    }

    /// A condition that a label has one of some values.
    #[must_use]
    pub fn one_of(label: Label, values: Vec<String>) -> Self {
        match <[String; 1]>::try_from(values) {
            Ok([value]) => Self::equal(label, value),
            Err(values) => {
                Self { label, test: Test::OneOf(values.into_iter().collect()), wanted: true }
            }
        }
    }

    /// A condition that the whole of a label matches a pattern.
    ///
    /// # Errors
    /// The pattern is not a regular expression, or too large a one.
    pub fn matches(label: Label, pattern: &str) -> Result<Self, InvalidMatcher> {
        Ok(Self { label, test: Test::Matches(anchored(pattern)?), wanted: true })
    }

    /// The same condition the other way round.
    #[must_use]
    pub fn negated(self) -> Self {
        Self { wanted: !self.wanted, ..self }
    }

    /// Whether a value of the label is wanted.
    #[must_use]
    pub fn admits(&self, value: &str) -> bool {
        let holds = match &self.test {
            Test::Equal(wanted) => value == wanted,
            Test::OneOf(wanted) => wanted.contains(value),
            Test::Matches(pattern) => pattern.is_match(value),
        };
        holds == self.wanted
    }

    /// The only value that is wanted, if it is one.
    pub(super) fn only(&self) -> Option<&str> {
        match &self.test {
            Test::Equal(value) if self.wanted => Some(value),
            _ => None,
        }
    }
}

/// A pattern that must match the whole of a text.
fn anchored(pattern: &str) -> Result<Regex, InvalidMatcher> {
    if pattern.len() > MAX_VALUE {
        return Err(InvalidMatcher::TooLong);
    }
    let build = |text: &str| {
        RegexBuilder::new(text)
            .size_limit(MAX_PATTERN_BYTES)
            .dfa_size_limit(MAX_PATTERN_BYTES)
            .build()
            .map_err(|error| InvalidMatcher::Pattern {
                pattern: pattern.into(),
                why: reason(&error),
            })
    };
    // First by itself: `a)|(b` would slip out of the group.
    build(pattern)?;
    build(&format!("^(?:{pattern})$"))
}

/// The last line of an error of the regex crate says what is wrong; the others draw it.
fn reason(error: &regex::Error) -> String {
    let text = error.to_string();
    let last = text.lines().last().unwrap_or_default();
    last.strip_prefix("error: ").unwrap_or(last).to_owned()
}

impl std::str::FromStr for Matcher {
    type Err = InvalidMatcher;

    /// Blanks around the parts are left out; a value in double quotes is taken without them,
    /// `\"` and `\\` in it standing for `"` and `\`.
    fn from_str(text: &str) -> Result<Self, InvalidMatcher> {
        let form = || InvalidMatcher::Form(text.chars().take(100).collect());
        let at = text.find(['=', '!']).ok_or_else(form)?;
        let (label, rest) = text.split_at(at);
        let (operator, value) = rest
            .split_at_checked(2)
            .filter(|(op, _)| ["!=", "=~", "!~"].contains(op))
            .map_or_else(
                || rest.strip_prefix('=').map(|value| ("=", value)).ok_or_else(form),
                Ok,
            )?;
        let label = label.trim();
        let label = Label::named(label)
            .ok_or_else(|| InvalidMatcher::Label(label.chars().take(100).collect()))?;
        let value = unquoted(value.trim());
        if value.len() > MAX_VALUE {
            return Err(InvalidMatcher::TooLong);
        }
        let matcher = match operator {
            "=" | "!=" => Self::equal(label, value),
            _ => Self::matches(label, &value)?,
        };
        Ok(if operator.starts_with('!') { matcher.negated() } else { matcher })
    }
}

fn unquoted(value: &str) -> String {
    let inner = value.strip_prefix('"').and_then(|rest| rest.strip_suffix('"'));
    match inner {
        Some(inner) => inner.replace("\\\"", "\"").replace("\\\\", "\\"),
        None => value.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn admits(matcher: &str, value: &str) -> bool {
        matcher.parse::<Matcher>().unwrap().admits(value)
    }

    #[test]
    fn each_operator_means_what_it_says() {
        assert!(admits("model=a", "a") && !admits("model=a", "ab"));
        assert!(admits("model!=a", "ab") && admits("model != a", "") && !admits("model!=a", "a"));
        assert!(admits("model=~a.*|b", "abc") && admits("model=~a.*|b", "b"));
        assert!(!admits("model=~a|b", "xa") && !admits("model=~a|b", "ax"));
        assert!(admits("model!~a|b", "") && !admits("model!~a|b", "b"));
        assert!(admits("model=", "") && !admits("model=", "a") && admits("model=~.+", "a"));
        assert!(admits("model=\"a b\"", "a b") && admits("model = a=b ", "a=b"));
        assert!(admits(r#"model="\"a\"""#, "\"a\""));
    }

    #[test]
    fn what_is_no_condition_says_why() {
        let error = |text: &str| text.parse::<Matcher>().unwrap_err();
        assert!(matches!(error("model"), InvalidMatcher::Form(_)));
        assert!(matches!(error("model!a"), InvalidMatcher::Form(_)));
        assert!(matches!(error("color=red"), InvalidMatcher::Label(_)));
        assert!(matches!(error("=x"), InvalidMatcher::Label(_)));
        assert!(matches!(error("model=~("), InvalidMatcher::Pattern { .. }));
        assert!(matches!(error("model=~a)|(b"), InvalidMatcher::Pattern { .. }));
        assert!(matches!(error("model=~(\\w{500}){500}"), InvalidMatcher::Pattern { .. }));
        assert_eq!(error(&format!("model={}", "x".repeat(1025))), InvalidMatcher::TooLong);
    }

    proptest! {
        #[test]
        fn any_text_is_a_condition_or_an_error(text in ".{0,60}", value in ".{0,20}") {
            if let Ok(matcher) = text.parse::<Matcher>() {
                let _ = matcher.admits(&value);
            }
        }

        #[test]
        fn a_negated_condition_admits_the_rest(value in "[a-c]{0,3}", other in "[a-c]{0,3}") {
            for (op, not) in [("=", "!="), ("=~", "!~")] {
                let yes = admits(&format!("model{op}{value}"), &other);
                prop_assert_eq!(yes, !admits(&format!("model{not}{value}"), &other));
            }
        }
    }
}
