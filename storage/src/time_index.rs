//! The sparse time index of a segment: where to begin looking for a timestamp. Kept in memory, written beside a sealed segment in Kafka's format (12
//! bytes an entry: the largest timestamp so far, the last offset of the batch that holds it relative to the segment's base).
//!
//! Timestamps of batches may go back and forth; the largest so far only rises, so that the index can be searched.

/// One entry: no batch up to here has a later timestamp, and the batch that ends with offset `base + relative` is the first to have this one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TimeEntry {
    /// In ms since 1970.
    pub timestamp: i64,
    /// Last offset of the batch, relative to the segment's base.
    pub relative: u32,
}

impl TimeEntry {
    /// Bytes of an entry in a file.
    pub const BYTES: usize = 12;
}

/// The time index of one segment. Written by one, read by many, without a lock.
#[derive(Debug, Default)]
pub struct TimeIndex {
    entries: boxcar::Vec<TimeEntry>,
}

impl TimeIndex {
    /// Adds an entry behind all others, unless it says nothing new.
    pub(crate) fn push(&self, entry: TimeEntry) {
        if self.last().is_none_or(|last| last.timestamp < entry.timestamp) {
            self.entries.push(entry);
        }
    }

    /// The last entry.
    pub(crate) fn last(&self) -> Option<TimeEntry> {
        self.len().checked_sub(1).and_then(|last| self.entries.get(last)).copied()
    }

    /// What [`TimeIndex::to_bytes`] gave; `None` if it is not that: timestamps rise, and offsets do.
    pub(crate) fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (entries, rest) = bytes.as_chunks::<{ TimeEntry::BYTES }>();
        let index = Self::default();
        let mut last: Option<TimeEntry> = None;
        for [t0, t1, t2, t3, t4, t5, t6, t7, a, b, c, d] in entries {
            let timestamp = i64::from_be_bytes([*t0, *t1, *t2, *t3, *t4, *t5, *t6, *t7]);
            let entry = TimeEntry { timestamp, relative: u32::from_be_bytes([*a, *b, *c, *d]) };
            if last.is_some_and(|last| last.timestamp >= entry.timestamp || last.relative >= entry.relative) {
                return None;
            }
            last = Some(entry);
            index.entries.push(entry);
        }
        rest.is_empty().then_some(index)
    }

    /// All entries, in order.
    pub(crate) fn into_entries(self) -> Vec<TimeEntry> {
        self.entries.into_iter().collect()
    }

    /// How many entries.
    pub fn len(&self) -> usize {
        self.entries.count()
    }

    /// Whether it has none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The last entry whose timestamp is at most `timestamp`: before its batch there is no record at or after `timestamp`.
    pub fn lookup(&self, timestamp: i64) -> Option<TimeEntry> {
        self.last_where(|entry| entry.timestamp <= timestamp)
    }

    /// The last entry that speaks of batches before the relative offset `end` only.
    pub fn last_before(&self, end: u64) -> Option<TimeEntry> {
        self.last_where(|entry| u64::from(entry.relative) < end)
    }

    /// Timestamps and offsets both rise, so that what holds for an entry holds for those before it.
    fn last_where(&self, holds: impl Fn(&TimeEntry) -> bool) -> Option<TimeEntry> {
        let (mut low, mut high) = (0, self.entries.count());
        while low < high {
            let middle = low.midpoint(high);
            // An entry that is still being written reads as "later": the search just begins earlier.
            match self.entries.get(middle) {
                Some(entry) if holds(entry) => low = middle + 1,
                _ => high = middle,
            }
        }
        low.checked_sub(1).and_then(|last| self.entries.get(last)).copied()
    }

    /// The file's bytes, with `closing` behind them if it says anything new.
    pub(crate) fn to_bytes_closed_by(&self, closing: Option<TimeEntry>) -> Vec<u8> {
        let mut bytes = self.to_bytes();
        if let Some(entry) = closing.filter(|entry| self.last().is_none_or(|last| last.timestamp < entry.timestamp)) {
            bytes.extend_from_slice(&entry.timestamp.to_be_bytes());
            bytes.extend_from_slice(&entry.relative.to_be_bytes());
        }
        bytes
    }

    /// The file's bytes, as Kafka writes them.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(self.len() * TimeEntry::BYTES);
        for (_, entry) in &self.entries {
            bytes.extend_from_slice(&entry.timestamp.to_be_bytes());
            bytes.extend_from_slice(&entry.relative.to_be_bytes());
        }
        bytes
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// A promise: whatever the order of timestamps, nothing at or after the wanted one lies before the batch that a lookup gives, and the
        /// lookup is as late as the entries allow.
        #[test]
        fn a_lookup_passes_over_nothing(timestamps in proptest::collection::vec(0_i64..60, 0..80), every in 1_usize..7, wanted in 0_i64..70) {
            let index = TimeIndex::default();
            let mut largest: Option<TimeEntry> = None;
            let mut entries = Vec::new();
            for (relative, timestamp) in (0_u32..).zip(&timestamps) {
                if largest.is_none_or(|largest| largest.timestamp < *timestamp) {
                    largest = Some(TimeEntry { timestamp: *timestamp, relative });
                }
                if (relative as usize).is_multiple_of(every) {
                    index.push(largest.unwrap());
                    entries.push(largest.unwrap());
                }
            }
            let found = index.lookup(wanted);
            prop_assert_eq!(found, entries.iter().rev().find(|entry| entry.timestamp <= wanted).copied());
            if let Some(found) = found {
                prop_assert!(timestamps[..found.relative as usize].iter().all(|timestamp| *timestamp < wanted));
            }
        }
    }

    /// A promise: the bytes on disk are Kafka's, and an entry that says nothing new is left out.
    #[test]
    fn an_entry_has_the_golden_bytes() {
        let index = TimeIndex::default();
        index.push(TimeEntry { timestamp: 1_700_000_000_000, relative: 3 });
        index.push(TimeEntry { timestamp: 1_700_000_000_000, relative: 9 });
        assert_eq!(index.to_bytes(), [0, 0, 1, 0x8b, 0xcf, 0xe5, 0x68, 0, 0, 0, 0, 3]);
    }
}
