//! Records on their way in: checked and encoded, but for the two deltas that only the batch they end up in can know.

use crate::limits::Limits;
use crate::record::{Encoding, Header, put_bytes};
use crate::time::Timestamp;
use crate::varint;

/// Why a record was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RecordError {
    /// Key over [`Limits::key_bytes`].
    #[error("the key has {actual} bytes, more than {limit}")]
    KeyTooLong {
        /// Bytes given.
        actual: usize,
        /// Bytes allowed.
        limit: usize,
    },
    /// More headers than [`Limits::headers_per_record`].
    #[error("the record has {actual} headers, more than {limit}")]
    TooManyHeaders {
        /// Headers given.
        actual: usize,
        /// Headers allowed.
        limit: usize,
    },
    /// Headers over [`Limits::header_bytes_per_record`].
    #[error("the headers have {actual} bytes, more than {limit}")]
    HeadersTooLong {
        /// Bytes given.
        actual: usize,
        /// Bytes allowed.
        limit: usize,
    },
}

/// One record's place in [`RecordSet::tails`].
#[derive(Debug, Clone, Copy)]
struct Entry {
    timestamp: Timestamp,
    attributes: u8,
    /// Where its tail (key, value, headers) ends; it begins where the one before ends.
    end: usize,
    has_key: bool,
}

/// Records of one request for one partition: never split over batches.
#[derive(Debug, Clone, Default)]
pub struct RecordSet {
    entries: Vec<Entry>,
    tails: Vec<u8>,
    largest: usize,
}

/// A record of a [`RecordSet`] as the batch builder needs it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Tail<'a> {
    pub(crate) timestamp: Timestamp,
    pub(crate) attributes: u8,
    pub(crate) bytes: &'a [u8],
}

impl RecordSet {
    /// How many records.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// At least as many bytes as the records take in a batch: what admission counts.
    pub fn bytes(&self) -> usize {
        self.tails.len() + self.entries.len() * RECORD_OVERHEAD_MAX
    }

    /// At least as many bytes as a batch takes that holds nothing but the largest record.
    pub fn largest_batch_bytes(&self) -> usize {
        crate::limits::BATCH_HEADER_BYTES + self.largest + RECORD_OVERHEAD_MAX
    }

    /// The records' own timestamps, in order.
    pub fn timestamps(&self) -> impl ExactSizeIterator<Item = Timestamp> + '_ {
        self.entries.iter().map(|e| e.timestamp)
    }

    /// The first record that has no key, by its place in the set.
    pub fn first_without_key(&self) -> Option<usize> {
        self.entries.iter().position(|e| !e.has_key)
    }

    pub(crate) fn tails(&self) -> impl Iterator<Item = Tail<'_>> {
        let mut start = 0;
        self.entries.iter().map(move |entry| {
            let bytes = &self.tails[start..entry.end];
            start = entry.end;
            Tail { timestamp: entry.timestamp, attributes: entry.attributes, bytes }
        })
    }
}

/// Length (5), attributes (1), timestamp delta (10), offset delta (5): what a record has before its key, at most.
const RECORD_OVERHEAD_MAX: usize = 21;

/// Fills a [`RecordSet`].
#[derive(Debug)]
pub struct RecordSetBuilder<'l> {
    set: RecordSet,
    limits: &'l Limits,
}

impl<'l> RecordSetBuilder<'l> {
    /// An empty set, with room for `records` records of `bytes` bytes in all.
    pub fn with_capacity(limits: &'l Limits, records: usize, bytes: usize) -> Self {
        let set = RecordSet { entries: Vec::with_capacity(records), tails: Vec::with_capacity(bytes), largest: 0 };
        Self { set, limits }
    }

    /// Appends a record. A `value` of `None` is a tombstone.
    ///
    /// # Errors
    /// [`RecordError`] if it is over a limit; the set is then as it was.
    pub fn push<'h>(
        &mut self,
        timestamp: Timestamp,
        encoding: Encoding,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        headers: impl ExactSizeIterator<Item = Header<'h>>,
    ) -> Result<(), RecordError> {
        let limits = self.limits;
        if let Some(key) = key.filter(|key| key.len() > limits.key_bytes) {
            return Err(RecordError::KeyTooLong { actual: key.len(), limit: limits.key_bytes });
        }
        if headers.len() > limits.headers_per_record {
            return Err(RecordError::TooManyHeaders { actual: headers.len(), limit: limits.headers_per_record });
        }
        let tails = &mut self.set.tails;
        let start = tails.len();
        put_bytes(tails, key);
        put_bytes(tails, value);
        varint::put(tails, headers.len().cast_signed() as i64);
        let headers_start = tails.len();
        for header in headers {
            put_bytes(tails, Some(header.name.as_bytes()));
            put_bytes(tails, header.value);
        }
        let header_bytes = tails.len() - headers_start;
        if header_bytes > limits.header_bytes_per_record {
            tails.truncate(start);
            return Err(RecordError::HeadersTooLong { actual: header_bytes, limit: limits.header_bytes_per_record });
        }
        let end = tails.len();
        self.set.entries.push(Entry { timestamp, attributes: encoding.attributes(), end, has_key: key.is_some() });
        self.set.largest = self.set.largest.max(end - start);
        Ok(())
    }

    /// How many records it has so far.
    pub fn len(&self) -> usize {
        self.set.len()
    }

    /// Whether it has none yet.
    pub fn is_empty(&self) -> bool {
        self.set.is_empty()
    }

    /// The set.
    pub fn finish(self) -> RecordSet {
        self.set
    }
}
