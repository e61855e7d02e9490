//! Bounded free text and model names.

use compact_str::CompactString;
use serde::{Deserialize, Serialize};

/// The longest free text, in characters.
pub const MAX_TEXT_LEN: usize = 1024;
/// The longest model name, in characters.
pub const MAX_MODEL_LEN: usize = 512;

/// A text that is too long or holds what it may not.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidText {
    /// It is too long.
    #[error("{given} characters are more than {max}")]
    TooLong {
        /// Its length in characters.
        given: usize,
        /// The longest allowed.
        max: usize,
    },
    /// It is empty where it may not be.
    #[error("is empty")]
    Empty,
    /// It holds a character that is not allowed.
    #[error("character {0:?} is not allowed")]
    Character(char),
}

fn check_len(text: &str, max: usize) -> Result<(), InvalidText> {
    // Most texts are short in bytes already; only the others are counted.
    if text.len() > max {
        let given = text.chars().count();
        if given > max {
            return Err(InvalidText::TooLong { given, max });
        }
    }
    Ok(())
}

/// Free text of up to 1,024 characters, without NUL: hostnames, versions, device names, errors.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "CompactString")]
pub struct Text(CompactString);

impl Text {
    /// Takes a text within the bounds.
    ///
    /// # Errors
    /// It is too long or holds a NUL, at which C programs would cut it.
    pub fn new(text: impl Into<CompactString>) -> Result<Self, InvalidText> {
        let text = text.into();
        check_len(&text, MAX_TEXT_LEN)?;
        if text.contains('\0') {
            return Err(InvalidText::Character('\0'));
        }
        Ok(Self(text))
    }

    /// Takes any text, cut at the bound, NULs left out.
    #[must_use]
    pub fn cut(text: &str) -> Self {
        Self(text.chars().filter(|&c| c != '\0').take(MAX_TEXT_LEN).collect())
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// A model's name: 1 to 512 characters of printable text.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "CompactString")]
pub struct ModelName(CompactString);

impl ModelName {
    /// Takes a name within the bounds.
    ///
    /// # Errors
    /// It is empty, too long, or holds a control character.
    pub fn new(name: impl Into<CompactString>) -> Result<Self, InvalidText> {
        let name = name.into();
        if name.is_empty() {
            return Err(InvalidText::Empty);
        }
        check_len(&name, MAX_MODEL_LEN)?;
        match name.chars().find(|c| c.is_control()) {
            Some(c) => Err(InvalidText::Character(c)),
            None => Ok(Self(name)),
        }
    }

    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

macro_rules! text {
    ($name:ident) => {
        impl TryFrom<CompactString> for $name {
            type Error = InvalidText;
            fn try_from(text: CompactString) -> Result<Self, InvalidText> {
                Self::new(text)
            }
        }
        impl std::borrow::Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }
        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.pad(&self.0)
            }
        }
    };
}

text!(Text);
text!(ModelName);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn length_is_counted_in_characters() {
        assert!(Text::new("é".repeat(1024)).is_ok());
        let error = Text::new("é".repeat(1025)).unwrap_err();
        assert_eq!(error.to_string(), "1025 characters are more than 1024");
    }

    #[test]
    fn a_model_is_printable() {
        assert!(ModelName::new("Qwen/Qwen3-Coder 30B (Q4_K_M) 模型").is_ok());
        assert_eq!(ModelName::new("a\nb"), Err(InvalidText::Character('\n')));
        assert_eq!(ModelName::new(""), Err(InvalidText::Empty));
        assert!(ModelName::new("x".repeat(513)).is_err());
    }

    #[test]
    fn any_text_can_be_cut_to_fit() {
        let long = "x\0".repeat(2000);
        assert_eq!(Text::cut(&long).as_str().len(), 1024);
    }
}
