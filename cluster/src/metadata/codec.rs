//! How values are stored: a byte that says the version, then JSON. Fields that are not known are ignored, as a newer node may have written them.

use serde::Serialize;
use serde::de::DeserializeOwned;

const VERSION: u8 = 1;

/// A stored value that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CodecError {
    /// Not even a version.
    #[error("{0} is empty")]
    Empty(&'static str),
    /// Written by a version of this program that this one does not know.
    #[error("{what} is of version {version}; this program reads version {VERSION}")]
    Version {
        /// What was to be read.
        what: &'static str,
        /// Its version.
        version: u8,
    },
    /// Not what it should be.
    #[error("{what} cannot be read: {reason}")]
    Malformed {
        /// What was to be read.
        what: &'static str,
        /// What is wrong.
        reason: String,
    },
}

pub(super) fn encode<T: Serialize>(value: &T) -> Vec<u8> {
    let mut bytes = vec![VERSION];
    match serde_json::to_writer(&mut bytes, value) {
        Ok(()) => bytes,
        Err(error) => unreachable!("memory takes every byte, and keys are numbers or strings: {error}"),
    }
}

pub(super) fn decode<T: DeserializeOwned>(what: &'static str, bytes: &[u8]) -> Result<T, CodecError> {
    match bytes.split_first() {
        None => Err(CodecError::Empty(what)),
        Some((&VERSION, json)) => serde_json::from_slice(json).map_err(|error| CodecError::Malformed { what, reason: error.to_string() }),
        Some((&version, _)) => Err(CodecError::Version { what, version }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A promise: a value of another version, or none at all, is refused by name and not guessed at.
    #[test]
    fn what_cannot_be_read_is_refused() {
        assert_eq!(encode(&7), b"\x017");
        assert_eq!(decode::<u8>("a number", b"\x017"), Ok(7));
        assert_eq!(decode::<u8>("a number", b""), Err(CodecError::Empty("a number")));
        assert_eq!(decode::<u8>("a number", b"\x027"), Err(CodecError::Version { what: "a number", version: 2 }));
        assert!(matches!(decode::<u8>("a number", b"\x017x"), Err(CodecError::Malformed { what: "a number", .. })));
    }
}
