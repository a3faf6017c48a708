//! The sparse offset index of a segment: where to begin reading for an offset. Kept in memory, written beside a sealed segment in Kafka's
//! format (8 bytes an entry: last offset of the batch relative to the segment's base, position), and never trusted after a crash.

use tidegate_types::{BatchHeader, Offset};

/// One entry: the batch at `position` ends with offset `base + relative`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IndexEntry {
    /// Last offset of the batch, relative to the segment's base.
    pub relative: u32,
    /// Where the batch begins in the file.
    pub position: u32,
}

/// Bytes between two entries of an index that is made again, Kafka's default: who looks there wants a place to begin at, and any interval gives one.
pub(crate) const INDEX_INTERVAL_BYTES: u64 = 4096;

impl IndexEntry {
    /// Bytes of an entry in a file.
    pub const BYTES: usize = 8;
}

/// The index of one segment. Written by one, read by many, without a lock.
#[derive(Debug, Default)]
pub struct OffsetIndex {
    entries: boxcar::Vec<IndexEntry>,
}

impl OffsetIndex {
    /// Adds an entry behind all others.
    pub(crate) fn push(&self, entry: IndexEntry) {
        self.entries.push(entry);
    }

    /// The last entry.
    pub(crate) fn last(&self) -> Option<IndexEntry> {
        self.len().checked_sub(1).and_then(|last| self.entries.get(last)).copied()
    }

    /// What [`OffsetIndex::to_bytes`] gave; `None` if it is not that: offsets and positions rise.
    pub(crate) fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (entries, rest) = bytes.as_chunks::<{ IndexEntry::BYTES }>();
        let index = Self::default();
        let mut last: Option<IndexEntry> = None;
        for [a, b, c, d, e, f, g, h] in entries {
            let entry = IndexEntry { relative: u32::from_be_bytes([*a, *b, *c, *d]), position: u32::from_be_bytes([*e, *f, *g, *h]) };
            if last.is_some_and(|last| last.relative >= entry.relative || last.position >= entry.position) {
                return None;
            }
            last = Some(entry);
            index.push(entry);
        }
        rest.is_empty().then_some(index)
    }

    /// All entries, in order.
    pub(crate) fn into_entries(self) -> Vec<IndexEntry> {
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

    /// The position from which a scan finds `relative`: that of the last entry at or before it, or 0.
    pub fn lookup(&self, relative: u64) -> u64 {
        self.floor(relative).map_or(0, |entry| u64::from(entry.position))
    }

    /// The last entry at or before `relative`.
    pub(crate) fn floor(&self, relative: u64) -> Option<IndexEntry> {
        self.last_while(|entry| u64::from(entry.relative) <= relative)
    }

    /// The last entry at or before a position.
    pub(crate) fn floor_position(&self, position: u64) -> Option<IndexEntry> {
        self.last_while(|entry| u64::from(entry.position) <= position)
    }

    /// The last of the entries at the front for which `is_before` holds.
    fn last_while(&self, is_before: impl Fn(&IndexEntry) -> bool) -> Option<IndexEntry> {
        let (mut low, mut high) = (0, self.entries.count());
        while low < high {
            let middle = low.midpoint(high);
            // An entry that is still being written reads as "later": the scan just begins earlier.
            match self.entries.get(middle) {
                Some(entry) if is_before(entry) => low = middle + 1,
                _ => high = middle,
            }
        }
        low.checked_sub(1).and_then(|last| self.entries.get(last)).copied()
    }

    /// The file's bytes, as Kafka writes them.
    pub fn to_bytes(&self) -> Vec<u8> {
        let entries = self.entries.iter().map(|(_, entry)| entry);
        entries.flat_map(|entry| [entry.relative.to_be_bytes(), entry.position.to_be_bytes()]).flatten().collect()
    }
}

/// Decides, batch by batch, which get an entry: the one with which more than the interval has gone by since the last.
#[derive(Debug, Clone, Copy)]
pub(crate) struct IndexRule {
    interval_bytes: u64,
    since_last_bytes: u64,
}

impl IndexRule {
    pub(crate) fn new(interval_bytes: u64) -> Self {
        Self { interval_bytes, since_last_bytes: 0 }
    }

    pub(crate) fn set_interval(&mut self, interval_bytes: u64) {
        self.interval_bytes = interval_bytes;
    }

    /// So many bytes of batches have come since the last entry.
    pub(crate) fn resume(&mut self, since_last_bytes: u64) {
        self.since_last_bytes = since_last_bytes;
    }

    /// Sees the next batch; gives the entry that belongs to it, if any. The first batch of a segment never has one.
    pub(crate) fn batch(&mut self, base: Offset, header: &BatchHeader, position: u64) -> Option<IndexEntry> {
        let due = self.since_last_bytes > self.interval_bytes;
        if due {
            self.since_last_bytes = 0;
        }
        self.since_last_bytes += header.total_bytes() as u64;
        let relative = u32::try_from(header.last_offset().since(base)).ok()?;
        let position = u32::try_from(position).ok()?;
        due.then_some(IndexEntry { relative, position })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// A promise: a lookup gives what a sorted map gives.
        #[test]
        fn lookup_is_the_floor(gaps in proptest::collection::vec((1_u32..50, 61_u32..5000), 0..200), wanted in 0_u64..10_000) {
            let index = OffsetIndex::default();
            let mut model = BTreeMap::new();
            let (mut relative, mut position) = (0, 0);
            for (offsets, bytes) in gaps {
                relative += offsets;
                position += bytes;
                index.push(IndexEntry { relative, position });
                model.insert(u64::from(relative), u64::from(position));
            }
            let floor = model.range(..=wanted).next_back().map_or(0, |(_, position)| *position);
            prop_assert_eq!(index.lookup(wanted), floor);
        }
    }

    /// A promise: the bytes on disk are Kafka's (base 100, last offset 103, position 4200).
    #[test]
    fn an_entry_has_the_golden_bytes() {
        let index = OffsetIndex::default();
        index.push(IndexEntry { relative: 3, position: 4200 });
        assert_eq!(index.to_bytes(), [0, 0, 0, 3, 0, 0, 0x10, 0x68]);
    }
}
