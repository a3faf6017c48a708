//! Stored batches that stay in their files until somebody sends them.

use std::sync::Arc;

use tidegate_storage::FileRange;

/// A part of [`StoredRanges`] that lies in one file.
pub type StoredPiece = FileRange;

/// Whole batches, back to back, over one file or several, which it holds open. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct StoredRanges {
    ranges: Arc<[FileRange]>,
    bytes: u64,
}

impl StoredRanges {
    pub(crate) fn new(ranges: Vec<FileRange>) -> Self {
        let bytes = ranges.iter().map(FileRange::bytes).sum();
        Self { ranges: ranges.into(), bytes }
    }

    /// How long they are in all.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Whether the system can send all of them by itself.
    pub fn can_be_sent(&self) -> bool {
        self.ranges.iter().all(|range| range.handle().is_some())
    }

    /// Them in order, in pieces of at most `bytes_max`.
    pub fn pieces(&self, bytes_max: u64) -> Pieces {
        Pieces { ranges: Arc::clone(&self.ranges), next: 0, rest: None, bytes_max }
    }
}

/// What [`StoredRanges::pieces`] gives.
#[derive(Debug)]
pub struct Pieces {
    ranges: Arc<[FileRange]>,
    next: usize,
    rest: Option<FileRange>,
    bytes_max: u64,
}

impl Iterator for Pieces {
    type Item = StoredPiece;

    fn next(&mut self) -> Option<StoredPiece> {
        loop {
            if let Some(rest) = self.rest.as_mut().filter(|rest| rest.bytes() > 0) {
                return Some(rest.split_front(self.bytes_max));
            }
            self.rest = Some(self.ranges.get(self.next)?.clone());
            self.next += 1;
        }
    }
}
