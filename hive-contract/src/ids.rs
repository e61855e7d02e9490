//! Names: of a hive, a worker's group, a worker's instance, and the key made of the three.
//!
//! A name has 1 to 128 characters out of letters, digits and `._:@-`. It can stand in a URL
//! path, a cgroup directory and a label without being escaped.

use compact_str::CompactString;
use serde::{Deserialize, Serialize};

/// The longest name, in characters.
pub const MAX_NAME_LEN: usize = 128;

/// A text that cannot be a name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidName {
    /// It is empty or too long.
    #[error("a name has 1 to {MAX_NAME_LEN} characters, not {0}")]
    Length(usize),
    /// It holds a character that is not allowed.
    #[error("{0:?} is not allowed in a name; letters, digits and ._:@- are")]
    Character(char),
}

fn check(name: &str) -> Result<(), InvalidName> {
    if name.is_empty() || name.len() > MAX_NAME_LEN {
        return Err(InvalidName::Length(name.chars().count()));
    }
    let allowed = |c: char| c.is_ascii_alphanumeric() || "._:@-".contains(c);
    match name.chars().find(|&c| !allowed(c)) {
        Some(c) => Err(InvalidName::Character(c)),
        None => Ok(()),
    }
}

macro_rules! name {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "CompactString")]
        pub struct $name(CompactString);

        impl $name {
            /// Takes a valid name.
            ///
            /// # Errors
            /// The name's length or one of its characters is not allowed.
            pub fn new(name: impl Into<CompactString>) -> Result<Self, InvalidName> {
                let name = name.into();
                check(&name)?;
                Ok(Self(name))
            }

            /// The name as text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl TryFrom<CompactString> for $name {
            type Error = InvalidName;
            fn try_from(name: CompactString) -> Result<Self, InvalidName> {
                Self::new(name)
            }
        }

        impl std::str::FromStr for $name {
            type Err = InvalidName;
            fn from_str(name: &str) -> Result<Self, InvalidName> {
                Self::new(name)
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

name!(
    /// One machine that runs a `hive-agent`.
    HiveId
);
name!(
    /// What kind of service a worker belongs to, such as `llm`.
    Group
);
name!(
    /// Which one of its group a worker is: usually the port it serves on, such as `8080`.
    Instance
);

/// A worker's place: `hive/group/instance`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WorkerKey {
    /// The machine it runs on.
    pub hive: HiveId,
    /// Its group.
    pub group: Group,
    /// Its instance.
    pub instance: Instance,
}

impl std::fmt::Display for WorkerKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}/{}", self.hive, self.group, self.instance)
    }
}

/// A text that is not `hive/group/instance`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidWorkerKey {
    /// It does not have three parts.
    #[error("a worker key has the form hive/group/instance")]
    Form,
    /// One part is no valid name.
    #[error(transparent)]
    Name(#[from] InvalidName),
}

impl std::str::FromStr for WorkerKey {
    type Err = InvalidWorkerKey;

    fn from_str(key: &str) -> Result<Self, InvalidWorkerKey> {
        let mut parts = key.split('/');
        match (parts.next(), parts.next(), parts.next(), parts.next()) {
            (Some(hive), Some(group), Some(instance), None) => {
                Ok(Self { hive: hive.parse()?, group: group.parse()?, instance: instance.parse()? })
            }
            _ => Err(InvalidWorkerKey::Form),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn names_are_checked() {
        assert_eq!(HiveId::new(""), Err(InvalidName::Length(0)));
        assert_eq!(HiveId::new("a b"), Err(InvalidName::Character(' ')));
        assert_eq!(HiveId::new("a/b"), Err(InvalidName::Character('/')));
        assert_eq!(HiveId::new("é"), Err(InvalidName::Character('é')));
        assert_eq!(HiveId::new("x".repeat(129)), Err(InvalidName::Length(129)));
        assert!(HiveId::new("x".repeat(128)).is_ok());
        assert!(Instance::new("user@host-1.example:8080_x").is_ok());
    }

    #[test]
    fn a_json_name_is_checked_too() {
        assert!(serde_json::from_str::<Group>(r#""llm""#).is_ok());
        let error = serde_json::from_str::<Group>(r#""a b""#).unwrap_err().to_string();
        assert!(error.contains("' ' is not allowed"), "{error}");
    }

    proptest! {
        #[test]
        fn a_key_survives_its_text(key in "[a-zA-Z0-9._:@-]{1,20}/[a-z]{1,9}/[0-9]{1,5}") {
            prop_assert_eq!(key.parse::<WorkerKey>().unwrap().to_string(), key);
        }

        #[test]
        fn any_text_is_a_key_or_an_error(text in ".*") {
            if let Ok(key) = text.parse::<WorkerKey>() {
                prop_assert_eq!(key.to_string(), text);
            }
        }
    }
}
