//! A batch on its way: records as they gather, packed once, the same bytes at every try with the same stamp; cut in pieces if a server will not have it whole.

use std::sync::LazyLock;
use std::time::Duration;

use tidegate_types::limits::BATCH_HEADER_BYTES;
use tidegate_types::record::Header as BorrowedHeader;
use tidegate_types::{BatchBuilder, Codec, Limits, ProducerStamp, RecordBatch, RecordSet, RecordSetBuilder, StoredBatches, Timestamp};

use super::delivery::Claim;
use super::error::ProducerError;
use crate::batch::encoding;
use crate::record::NewRecord;

static LIMITS: LazyLock<Limits> = LazyLock::new(Limits::default);
/// What a record has before its key, at most: as [`RecordSet::bytes`] counts it.
const RECORD_OVERHEAD: usize = 21;
/// What a batch counts in the buffer beside its records: everything that is kept for it, and the room that it begins with.
pub(super) const BATCH_OVERHEAD: usize = 1 << 10;

/// Where a batch stands among all batches and their pieces: its id, and the place of its first record in what it was first part of.
pub(super) type Place = (u64, u32);

/// At least as many bytes as `record` takes in a batch; exactly what [`RecordSet::bytes`] will count for it.
pub(super) fn record_bytes(record: &NewRecord) -> usize {
    let headers = record.headers.iter().map(|h| prefixed(h.name.len()) + h.value.as_ref().map_or(1, |value| prefixed(value.len())));
    let key = record.key.as_ref().map_or(1, |key| prefixed(key.len()));
    let value = record.value.as_bytes().map_or(1, |value| prefixed(value.len()));
    RECORD_OVERHEAD + key + value + varint(record.headers.len()) + headers.sum::<usize>()
}

/// The bytes of a batch of so many bytes of records.
pub(super) const fn batch_bytes(records: usize) -> usize {
    BATCH_HEADER_BYTES + records
}

const fn prefixed(length: usize) -> usize {
    varint(length) + length
}

/// Bytes of a zig-zag variable-length integer.
const fn varint(number: usize) -> usize {
    let bits = usize::BITS - ((number << 1) | 1).leading_zeros();
    bits.div_ceil(7) as usize
}

/// A batch that still takes records.
#[derive(Debug)]
pub(super) struct OpenBatch {
    set: RecordSetBuilder<'static>,
    pub(super) claim: Claim,
    pub(super) bytes: usize,
    pub(super) created: Duration,
}

impl OpenBatch {
    pub(super) fn new(partition: u32, now: Duration) -> Self {
        // No more than what the overhead counts: there may be very many batches of very few records.
        let set = RecordSetBuilder::with_capacity(&LIMITS, 8, 256);
        Self { set, claim: Claim::new(partition), bytes: 0, created: now }
    }

    /// Takes the record, which counts `bytes`; gives its place.
    pub(super) fn push(&mut self, record: &NewRecord, timestamp: i64, bytes: usize) -> Result<u32, ProducerError> {
        let headers = record.headers.iter().map(|h| BorrowedHeader { name: &h.name, value: h.value.as_deref() });
        self.set
            .push(Timestamp::from_millis(timestamp), encoding(&record.value), record.key.as_deref(), record.value.as_bytes(), headers)
            .map_err(|error| ProducerError::Input(error.to_string()))?;
        self.bytes += bytes;
        Ok(self.claim.add())
    }

    /// Takes no more.
    pub(super) fn seal(self, id: u64) -> Batch {
        self.claim.seal();
        Batch {
            id,
            body: Body::Records(self.set.finish()),
            bytes: self.bytes,
            created: self.created,
            overhead: BATCH_OVERHEAD,
            turn: None,
            stamp: None,
            is_oldest: false,
            awaits_turn: false,
            rejections: 0,
            claim: self.claim,
            last: None,
        }
    }
}

/// A batch that is complete: its records and their order stay the same until it is settled.
#[derive(Debug)]
pub(super) struct Batch {
    /// Grows with each batch; pieces of a batch keep it.
    pub(super) id: u64,
    pub(super) body: Body,
    /// What its records count in the buffer.
    pub(super) bytes: usize,
    /// When its first record came.
    pub(super) created: Duration,
    /// What it counts beside its records.
    pub(super) overhead: usize,
    /// Its number among those of its partition in the order of their first sending; pieces of a batch keep it.
    pub(super) turn: Option<u64>,
    /// What the partition recognises it by, from its first sending on.
    pub(super) stamp: Option<ProducerStamp>,
    /// Whether all before it in its partition was settled when it was sent last.
    pub(super) is_oldest: bool,
    /// Whether the partition has said that one before it is missing: it goes out again when all before it is settled.
    pub(super) awaits_turn: bool,
    /// Records that a server has refused of the batch that it is a piece of.
    pub(super) rejections: u8,
    pub(super) claim: Claim,
    /// What the last request came to.
    pub(super) last: Option<std::sync::Arc<crate::error::Error>>,
}

/// A batch's bytes.
#[derive(Debug, Clone)]
pub(super) enum Body {
    /// Not yet packed.
    Records(RecordSet),
    /// As sent, and as it will be sent again.
    Packed(RecordBatch),
}

impl Body {
    /// Its bytes, if it is packed.
    pub(super) fn len(&self) -> usize {
        match self {
            Self::Records(_) => 0,
            Self::Packed(batch) => batch.len(),
        }
    }

    /// What is left when somebody has taken it.
    pub(super) fn nothing() -> Self {
        Self::Records(RecordSetBuilder::with_capacity(&LIMITS, 0, 0).finish())
    }

    /// Packs the records, if they are not yet, and stamps them, if they are not yet.
    pub(super) fn pack(self, codec: Codec, stamp: Option<ProducerStamp>) -> Result<RecordBatch, String> {
        match (self, stamp) {
            (Self::Packed(batch), Some(stamp)) if batch.producer() != Some(stamp) => Ok(batch.with_producer(stamp)),
            (Self::Packed(batch), _) => Ok(batch),
            (Self::Records(set), stamp) => {
                let mut builder = BatchBuilder::with_capacity(set.bytes());
                builder.push(&set);
                drop(set);
                let batch = match stamp {
                    Some(stamp) => builder.finish_for(stamp),
                    None => builder.finish(),
                };
                batch.recompress(codec, usize::MAX).map_err(|error| error.to_string())
            }
        }
    }

    /// The records before the first of `places`, those up to the next, and so on.
    fn cut(&self, places: &[u32]) -> Result<Vec<RecordSet>, String> {
        let bytes = self.clone().pack(Codec::None, None)?.into_bytes();
        let room = bytes.len() / (places.len() + 1);
        let mut parts: Vec<_> = (0..=places.len()).map(|_| RecordSetBuilder::with_capacity(&LIMITS, 0, room)).collect();
        let batch = StoredBatches::new(bytes).next().ok_or("an empty batch")?.map_err(|error| error.to_string())?;
        for (index, record) in (0_u32..).zip(&batch.records().map_err(|error| error.to_string())?) {
            let record = record.map_err(|error| error.to_string())?;
            let headers: Vec<_> = record.headers.iter().collect();
            parts[places.partition_point(|place| *place <= index)]
                .push(record.timestamp, record.encoding, record.key, record.value, headers.into_iter())
                .map_err(|error| error.to_string())?;
        }
        Ok(parts.into_iter().map(RecordSetBuilder::finish).collect())
    }
}

impl Batch {
    /// Cuts it before the records at `places`, which rise and lie within it; the pieces go on as batches of their own.
    ///
    /// # Errors
    /// The whole batch again, if its own bytes cannot be read.
    pub(super) fn cut(self, places: &[u32]) -> Result<Vec<Self>, (Box<Self>, String)> {
        let sets = match self.body.cut(places) {
            Ok(sets) => sets,
            Err(reason) => return Err((Box::new(self), reason)),
        };
        let (mut rest, mut overhead, mut stamp) = (self.claim, self.overhead, self.stamp);
        let mut pieces = Vec::with_capacity(sets.len());
        for set in sets {
            let others = rest.split_off(u32::try_from(set.len()).unwrap_or(u32::MAX));
            let claim = std::mem::replace(&mut rest, others);
            let (bytes, body) = (set.bytes(), Body::Records(set));
            // Each record keeps its sequence.
            let own = stamp;
            stamp = stamp.map(|stamp| stamp.advanced_by(claim.len()));
            pieces.push(Self {
                id: self.id,
                body,
                bytes,
                created: self.created,
                overhead: std::mem::take(&mut overhead),
                turn: self.turn,
                stamp: own,
                is_oldest: false,
                awaits_turn: self.awaits_turn,
                rejections: self.rejections,
                claim,
                last: self.last.clone(),
            });
        }
        Ok(pieces)
    }

    pub(super) fn place(&self) -> Place {
        (self.id, self.claim.start())
    }
}
