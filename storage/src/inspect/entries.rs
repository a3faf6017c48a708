//! The entries of an index file, held one by one against what the log has.

use std::path::Path;

use crate::Error;
use crate::error::is_short_of_handles;
use crate::io::{Io, read_small};

/// The entries of an index file, passed one by one.
pub(super) struct Entries<E> {
    entries: std::vec::IntoIter<E>,
    next: Option<E>,
    size: u64,
    passed: u64,
    wrong: Option<Wrong>,
}

/// What is wrong with an index.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Wrong {
    Missing,
    Is { position: u64, reason: String },
}

impl Wrong {
    pub(super) fn position(&self) -> u64 {
        match self {
            Self::Missing => 0,
            Self::Is { position, .. } => *position,
        }
    }

    pub(super) fn reason(&self) -> String {
        match self {
            Self::Missing => "the index is lost".to_owned(),
            Self::Is { reason, .. } => reason.clone(),
        }
    }
}

impl<E> Default for Entries<E> {
    fn default() -> Self {
        Self { entries: Vec::new().into_iter(), next: None, size: 1, passed: 0, wrong: None }
    }
}

impl<E: Copy> Entries<E> {
    /// Of a file with entries of `size` bytes; `None` if there is no file.
    pub(super) fn new(bytes: Option<&[u8]>, size: usize, parse: impl Fn(&[u8]) -> Option<Vec<E>>) -> Self {
        let mut entries = Self { size: size as u64, ..Self::default() };
        let Some(bytes) = bytes else {
            entries.wrong = Some(Wrong::Missing);
            return entries;
        };
        let whole = bytes.len() - bytes.len() % size;
        if whole < bytes.len() {
            let reason = format!("its {} bytes are no whole number of entries of {size} bytes", bytes.len());
            entries.wrong = Some(Wrong::Is { position: whole as u64, reason });
            return entries;
        }
        match parse(bytes) {
            Some(all) => {
                entries.entries = all.into_iter();
                entries.next = entries.entries.next();
            }
            None => entries.wrong = Some(Wrong::Is { position: 0, reason: "its entries do not rise".to_owned() }),
        }
        entries
    }

    /// Whether there is a file, good or bad.
    pub(super) fn is_there(&self) -> bool {
        self.wrong != Some(Wrong::Missing)
    }

    /// The entry that nothing has been said of yet; none once something is wrong.
    pub(super) fn next(&self) -> Option<E> {
        self.next
    }

    pub(super) fn pass(&mut self) {
        self.passed += 1;
        self.next = self.entries.next();
    }

    pub(super) fn deny(&mut self, reason: String) {
        self.wrong = Some(Wrong::Is { position: self.passed * self.size, reason });
        self.next = None;
    }

    pub(super) fn state(&self) -> Option<Wrong> {
        self.wrong.clone()
    }
}

/// An index beside a segment; one byte, which is no index, if it cannot be read or is far too large for one.
pub(super) fn read_index(io: &dyn Io, log: &Path, suffix: &str) -> Result<Option<Vec<u8>>, Error> {
    let path = log.with_extension(suffix);
    match read_small(io, &path) {
        Err(error) if is_short_of_handles(&error) => Err(Error::io("read", &path)(error)),
        Err(_) => Ok(Some(vec![0])),
        Ok(bytes) => Ok(bytes),
    }
}
