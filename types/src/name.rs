//! Names that people choose, validated once, where they enter.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::limits;

/// Why a name was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// The empty name.
    #[error("the name is empty")]
    Empty,
    /// Longer than [`limits::TOPIC_NAME_BYTES_MAX`].
    #[error("the name has {0} characters, more than {max}", max = limits::TOPIC_NAME_BYTES_MAX)]
    TooLong(usize),
    /// `.` and `..` would be other directories.
    #[error("'.' and '..' are not names")]
    Dots,
    /// A character that is not allowed.
    #[error("the character {0:?} is not allowed: only ASCII letters, digits, '.', '_' and '-'")]
    Character(char),
}

/// A topic's name: 1–249 of `a-z A-Z 0-9 . _ -`, case-sensitive, neither `.` nor `..` (Kafka's rule, so that the directory `name-partition` fits 255 bytes).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct TopicName(Arc<str>);

impl TopicName {
    /// Validates `name`.
    ///
    /// # Errors
    /// [`NameError`] says which rule it breaks.
    pub fn new(name: &str) -> Result<Self, NameError> {
        if name.is_empty() {
            return Err(NameError::Empty);
        }
        if let Some(c) = name.chars().find(|c| !(c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-'))) {
            return Err(NameError::Character(c));
        }
        if name.len() > limits::TOPIC_NAME_BYTES_MAX {
            return Err(NameError::TooLong(name.len()));
        }
        if name == "." || name == ".." {
            return Err(NameError::Dots);
        }
        Ok(Self(name.into()))
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether the product itself owns the topic (`__…`, as in Kafka).
    pub fn is_internal(&self) -> bool {
        self.0.starts_with("__")
    }
}

impl fmt::Display for TopicName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::borrow::Borrow<str> for TopicName {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for TopicName {
    type Error = NameError;

    fn try_from(name: String) -> Result<Self, NameError> {
        Self::new(&name)
    }
}

impl From<TopicName> for String {
    fn from(name: TopicName) -> Self {
        name.0.as_ref().to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A promise: a name that is accepted is a plain file name, on every system, and nothing else is accepted.
    #[test]
    fn only_plain_file_names_are_topic_names() {
        let longest = "x".repeat(249);
        for good in ["a", "A.b_c-9", "...", "__internal", longest.as_str()] {
            assert_eq!(TopicName::new(good).map(String::from).as_deref(), Ok(good));
        }
        let too_long = "x".repeat(250);
        for (bad, why) in [
            ("", NameError::Empty),
            (".", NameError::Dots),
            ("..", NameError::Dots),
            ("a/b", NameError::Character('/')),
            ("a b", NameError::Character(' ')),
            ("a\0", NameError::Character('\0')),
            ("订单", NameError::Character('订')),
            (too_long.as_str(), NameError::TooLong(250)),
        ] {
            assert_eq!(TopicName::new(bad), Err(why), "{bad:?}");
        }
    }
}
