//! The bytes of a record batch, version 2 (Kafka's; the only file that knows them).
//!
//! ```text
//!  0        8       12      16 17    21 23     27        35        43        51   53    57     61
//!  ├baseOff─┼length─┼─epoch─┼m┼─crc──┼at┼lastΔ─┼─baseTs──┼──maxTs──┼prodId───┼pEp─┼bSeq─┼count─┼ records …
//!                               └────────────── CRC-32C covers from 21 to the end ──────────────────────┘
//! ```
//!
//! Offset and epoch lie outside the CRC, so that the log stamps them in place: [`RecordBatch`] (walked, whole) becomes [`SequencedBatch`]
//! (has its offsets) without touching a record. Source: `DefaultRecordBatch.java`, `DefaultRecord.java` of Apache Kafka.

use bytes::Bytes;

use crate::compression::{Codec, CompressionError};
use crate::error_code::ErrorCode;
use crate::limits::{self, BATCH_HEADER_BYTES, Limits};
use crate::offset::{LeaderEpoch, Offset};
use crate::producer::{NAMED_IDS, ProducerStamp};
use crate::record::{Encoding, Headers, Record, take_bytes};
use crate::record_set::RecordSet;
use crate::time::Timestamp;
use crate::varint;

mod retain;

pub use retain::Retained;

/// The bytes before `length` counts: base offset and the length itself.
pub const LENGTH_OVERHEAD: usize = 12;
/// Where the CRC begins to cover.
const CRC_START: usize = 21;
const CRC_AT: usize = 17;
/// What the log stamps is all in here: offset, length, epoch.
const STAMPED: usize = 16;

const TIMESTAMP_TYPE_BIT: i16 = 1 << 3;
const TRANSACTIONAL_BIT: i16 = 1 << 4;
const CONTROL_BIT: i16 = 1 << 5;
const DELETE_HORIZON_BIT: i16 = 1 << 6;
const KNOWN_BITS: i16 = 0x7f;

/// What is wrong with a batch's bytes.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BatchError {
    /// It ends before its own length.
    #[error("the batch is cut short: {have} of {needed} bytes")]
    Truncated {
        /// Bytes it needs.
        needed: usize,
        /// Bytes there are.
        have: usize,
    },
    /// Not version 2.
    #[error("the batch has magic {0}, not 2")]
    Magic(u8),
    /// A length that no batch has.
    #[error("the batch states an impossible length of {0}")]
    Length(i32),
    /// The checksum does not match.
    #[error("the batch's CRC is {stored:#010x}, its bytes give {computed:#010x}")]
    Crc {
        /// In the header.
        stored: u32,
        /// Over the bytes.
        computed: u32,
    },
    /// A field of the header says what cannot be.
    #[error("the batch's header is wrong: {0}")]
    Header(&'static str),
    /// A record is malformed or contradicts the header.
    #[error("record {index}: {reason}")]
    Record {
        /// Its place in the batch.
        index: usize,
        /// What is wrong.
        reason: &'static str,
    },
    /// The records do not unpack.
    #[error(transparent)]
    Compression(#[from] CompressionError),
    /// Well-formed, but against a rule of the topic or of clients.
    #[error("{}{reason}", .index.map(|i| format!("record {i}: ")).unwrap_or_default())]
    Rule {
        /// The record, if it is one record's.
        index: Option<usize>,
        /// The rule.
        reason: &'static str,
    },
    /// Larger than the topic's `max.message.bytes`.
    #[error("the batch has {actual} bytes, more than max.message.bytes = {limit}")]
    TooLarge {
        /// Its bytes.
        actual: usize,
        /// The topic's bound.
        limit: usize,
    },
}

impl BatchError {
    /// The code that a client sees.
    pub fn code(&self) -> ErrorCode {
        match self {
            Self::Truncated { .. }
            | Self::Magic(_)
            | Self::Length(_)
            | Self::Crc { .. }
            | Self::Header(_)
            | Self::Record { .. }
            | Self::Compression(_) => ErrorCode::CorruptBatch,
            Self::Rule { .. } => ErrorCode::RecordRejected,
            Self::TooLarge { .. } => ErrorCode::RecordTooLarge,
        }
    }
}

/// The 61 bytes before the records, read but believed only as far as [`BatchHeader::parse`] checks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BatchHeader {
    /// Offset of the first record (also when compaction removed it).
    pub base_offset: i64,
    /// Bytes after this field.
    pub length: i32,
    /// Epoch of the leader that wrote it.
    pub leader_epoch: i32,
    /// CRC-32C of everything from byte 21 on.
    pub crc: u32,
    /// Codec, timestamp type, transactional, control, delete horizon.
    pub attributes: i16,
    /// Last offset − base offset.
    pub last_offset_delta: i32,
    /// Timestamp that the records' deltas are relative to, in ms.
    pub base_timestamp: i64,
    /// The largest timestamp, in ms; with `LogAppendTime` every record's.
    pub max_timestamp: i64,
    /// −1 is none.
    pub producer_id: i64,
    /// −1 is none.
    pub producer_epoch: i16,
    /// −1 is none.
    pub base_sequence: i32,
    /// Records in it.
    pub record_count: i32,
}

fn be<const N: usize>(buf: &[u8; BATCH_HEADER_BYTES], at: usize) -> [u8; N] {
    let mut out = [0; N];
    out.copy_from_slice(&buf[at..at + N]);
    out
}

impl BatchHeader {
    /// Reads the header at the front of `buf`, which may end before the batch does.
    ///
    /// Checked: magic, a possible length, deltas and counts that are not negative, offsets below 2⁵³, a known codec. Not checked: the CRC.
    ///
    /// # Errors
    /// [`BatchError::Truncated`] if `buf` has no 61 bytes; else what is wrong.
    pub fn parse(buf: &[u8]) -> Result<Self, BatchError> {
        let Some(head) = buf.first_chunk::<BATCH_HEADER_BYTES>() else {
            return Err(BatchError::Truncated { needed: BATCH_HEADER_BYTES, have: buf.len() });
        };
        let header = Self {
            base_offset: i64::from_be_bytes(be(head, 0)),
            length: i32::from_be_bytes(be(head, 8)),
            leader_epoch: i32::from_be_bytes(be(head, 12)),
            crc: u32::from_be_bytes(be(head, CRC_AT)),
            attributes: i16::from_be_bytes(be(head, 21)),
            last_offset_delta: i32::from_be_bytes(be(head, 23)),
            base_timestamp: i64::from_be_bytes(be(head, 27)),
            max_timestamp: i64::from_be_bytes(be(head, 35)),
            producer_id: i64::from_be_bytes(be(head, 43)),
            producer_epoch: i16::from_be_bytes(be(head, 51)),
            base_sequence: i32::from_be_bytes(be(head, 53)),
            record_count: i32::from_be_bytes(be(head, 57)),
        };
        if head[16] != 2 {
            return Err(BatchError::Magic(head[16]));
        }
        let total = usize::try_from(header.length).ok().and_then(|n| n.checked_add(LENGTH_OVERHEAD));
        if !total.is_some_and(|n| (BATCH_HEADER_BYTES..=limits::BATCH_BYTES_MAX).contains(&n)) {
            return Err(BatchError::Length(header.length));
        }
        if header.last_offset_delta < 0 || header.record_count < 0 {
            return Err(BatchError::Header("a negative count"));
        }
        let last = header.base_offset.checked_add(i64::from(header.last_offset_delta));
        if header.base_offset < 0 || last.and_then(Offset::from_i64).is_none() {
            return Err(BatchError::Header("offsets outside 0 … 2^53-1"));
        }
        if Codec::from_attributes(header.attributes).is_none() {
            return Err(BatchError::Header("an unknown codec"));
        }
        Ok(header)
    }

    /// Bytes of the whole batch.
    pub fn total_bytes(&self) -> usize {
        // Not negative: `parse` has seen to it.
        usize::try_from(self.length).unwrap_or(0) + LENGTH_OVERHEAD
    }

    /// The first offset.
    pub fn first_offset(&self) -> Offset {
        Offset::from_i64(self.base_offset).unwrap_or(Offset::ZERO)
    }

    /// The last offset.
    pub fn last_offset(&self) -> Offset {
        Offset::from_i64(self.base_offset + i64::from(self.last_offset_delta)).unwrap_or(Offset::MAX)
    }

    /// How the records are packed.
    pub fn codec(&self) -> Codec {
        Codec::from_attributes(self.attributes).unwrap_or_default()
    }

    /// Whether it holds a marker (of a transaction, say) and no records for readers.
    pub fn is_control(&self) -> bool {
        self.attributes & CONTROL_BIT != 0
    }

    /// Whether it belongs to a transaction.
    pub fn is_transactional(&self) -> bool {
        self.attributes & TRANSACTIONAL_BIT != 0
    }

    /// Whether every record's timestamp is the time of writing, `max_timestamp`.
    pub fn is_append_time(&self) -> bool {
        self.attributes & TIMESTAMP_TYPE_BIT != 0
    }
}

/// CRC-32C over what the batch's CRC covers.
fn computed_crc(batch: &[u8]) -> u32 {
    crc32c::crc32c(&batch[CRC_START..])
}

/// A whole batch as it stands in a log or in a body.
#[derive(Debug, Clone)]
pub struct StoredBatch {
    /// Its header.
    pub header: BatchHeader,
    bytes: Bytes,
}

impl StoredBatch {
    /// Takes the batch at the front of `bytes`.
    ///
    /// # Errors
    /// As [`BatchHeader::parse`], and [`BatchError::Truncated`] if it does not end within `bytes`. The CRC is not checked.
    pub fn parse(bytes: &Bytes) -> Result<Self, BatchError> {
        let header = BatchHeader::parse(bytes)?;
        let total = header.total_bytes();
        if bytes.len() < total {
            return Err(BatchError::Truncated { needed: total, have: bytes.len() });
        }
        Ok(Self { header, bytes: bytes.slice(..total) })
    }

    /// All its bytes.
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// Checks the CRC.
    ///
    /// # Errors
    /// [`BatchError::Crc`] if the bytes are not what was written.
    pub fn verify(&self) -> Result<(), BatchError> {
        let computed = computed_crc(&self.bytes);
        if computed == self.header.crc { Ok(()) } else { Err(BatchError::Crc { stored: self.header.crc, computed }) }
    }

    /// Its records, unpacked if need be.
    ///
    /// # Errors
    /// [`BatchError::Compression`] if they don't unpack within [`limits::BATCH_DECOMPRESSED_BYTES_MAX`].
    pub fn records(&self) -> Result<Records, BatchError> {
        let packed = self.bytes.slice(BATCH_HEADER_BYTES..);
        let data = match self.header.codec() {
            Codec::None => packed,
            codec => codec.decompress(&packed, limits::BATCH_DECOMPRESSED_BYTES_MAX)?.into(),
        };
        Ok(Records { header: self.header, data })
    }
}

/// Batches back to back: stops at the end, at a zero tail (preallocated space), or for good at the first error.
#[derive(Debug, Clone)]
pub struct StoredBatches {
    rest: Bytes,
}

impl StoredBatches {
    /// The batches in `bytes`.
    pub fn new(bytes: Bytes) -> Self {
        Self { rest: bytes }
    }
}

impl Iterator for StoredBatches {
    type Item = Result<StoredBatch, BatchError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() || self.rest.iter().take(BATCH_HEADER_BYTES).all(|b| *b == 0) {
            return None;
        }
        let batch = StoredBatch::parse(&self.rest);
        self.rest = match &batch {
            Ok(batch) => self.rest.slice(batch.bytes.len()..),
            Err(_) => Bytes::new(),
        };
        Some(batch)
    }
}

/// The unpacked records of one batch.
#[derive(Debug, Clone)]
pub struct Records {
    header: BatchHeader,
    data: Bytes,
}

impl Records {
    /// Bytes that they take unpacked.
    pub fn unpacked_bytes(&self) -> usize {
        self.data.len()
    }

    /// The records in order; after an error nothing follows.
    pub fn iter(&self) -> RecordIter<'_> {
        RecordIter { header: &self.header, rest: &self.data, index: 0 }
    }
}

impl<'a> IntoIterator for &'a Records {
    type Item = Result<Record<'a>, BatchError>;
    type IntoIter = RecordIter<'a>;

    fn into_iter(self) -> RecordIter<'a> {
        self.iter()
    }
}

/// Walks the records of a batch.
#[derive(Debug)]
pub struct RecordIter<'a> {
    header: &'a BatchHeader,
    rest: &'a [u8],
    index: usize,
}

/// A record and the fields of it that a validation looks at.
struct RawRecord<'a> {
    attributes: u8,
    timestamp_delta: i64,
    offset_delta: i32,
    key: Option<&'a [u8]>,
    value: Option<&'a [u8]>,
    headers: Headers<'a>,
}

impl<'a> RawRecord<'a> {
    fn take(buf: &mut &'a [u8]) -> Result<Self, &'static str> {
        let length = varint::take_i32(buf).ok_or("its length is cut short")?;
        let length = usize::try_from(length).map_err(|_| "its length is negative")?;
        let (mut body, rest) = buf.split_at_checked(length).ok_or("it is cut short")?;
        *buf = rest;
        let (attributes, after) = body.split_first().ok_or("it has no attributes")?;
        body = after;
        let timestamp_delta = varint::take_i64(&mut body).ok_or("its timestamp is cut short")?;
        let offset_delta = varint::take_i32(&mut body).ok_or("its offset is cut short")?;
        let key = take_bytes(&mut body).ok_or("its key is cut short")?;
        let value = take_bytes(&mut body).ok_or("its value is cut short")?;
        let count = varint::take_i32(&mut body).ok_or("its headers are cut short")?;
        let count = usize::try_from(count).map_err(|_| "a negative number of headers")?;
        let headers = Headers::take(&mut body, count)?;
        if !body.is_empty() {
            return Err("bytes are left after its headers");
        }
        Ok(Self { attributes: *attributes, timestamp_delta, offset_delta, key, value, headers })
    }

    /// Its place and time, by the batch's header.
    fn located(self, header: &BatchHeader) -> Result<Record<'a>, &'static str> {
        if !(0..=header.last_offset_delta).contains(&self.offset_delta) {
            return Err("its offset is outside the batch");
        }
        let offset = Offset::from_i64(header.base_offset + i64::from(self.offset_delta)).ok_or("its offset is out of range")?;
        let timestamp = if header.is_append_time() {
            header.max_timestamp
        } else {
            header.base_timestamp.checked_add(self.timestamp_delta).ok_or("its timestamp is out of range")?
        };
        Ok(Record {
            offset,
            timestamp: Timestamp::from_millis(timestamp),
            encoding: Encoding::from_attributes(self.attributes),
            key: self.key,
            value: self.value,
            headers: self.headers,
        })
    }
}

impl<'a> Iterator for RecordIter<'a> {
    type Item = Result<Record<'a>, BatchError>;

    fn next(&mut self) -> Option<Self::Item> {
        let index = self.index;
        let count = usize::try_from(self.header.record_count).unwrap_or(0);
        if index >= count {
            return None;
        }
        self.index += 1;
        let record = RawRecord::take(&mut self.rest).and_then(|raw| raw.located(self.header));
        Some(record.map_err(|reason| {
            self.index = count;
            BatchError::Record { index, reason }
        }))
    }
}

/// What a topic and the node demand of a client's batch.
#[derive(Debug, Clone, Copy)]
pub struct BatchRules<'r> {
    /// Bounds on keys and headers.
    pub limits: &'r Limits,
    /// The topic's `max.message.bytes`.
    pub max_batch_bytes: usize,
    /// Compacted topics keep the latest of each key, so every record needs one.
    pub key_required: bool,
    /// The earliest and the latest timestamp accepted, in ms.
    pub timestamps: (i64, i64),
    /// Whether it loses who has written it: it is a copy from a log, and was written there.
    pub drops_producer: bool,
}

/// A batch that has been walked to its last byte (or was built here): only its place in the log is missing.
#[derive(Debug, Clone)]
pub struct RecordBatch {
    header: BatchHeader,
    bytes: Bytes,
}

impl RecordBatch {
    /// Walks a client's batch: CRC, lengths, deltas 0…n−1, true base and max timestamps, keys, bounds; packed records are unpacked for it.
    /// `check` sees each record and may refuse it.
    ///
    /// # Errors
    /// The first thing that is wrong; nothing is kept.
    pub fn validate(
        batch: &StoredBatch,
        rules: &BatchRules<'_>,
        mut check: impl FnMut(&Record<'_>) -> Result<(), &'static str>,
    ) -> Result<Self, BatchError> {
        let header = batch.header;
        batch.verify()?;
        if batch.bytes.len() > rules.max_batch_bytes {
            return Err(BatchError::TooLarge { actual: batch.bytes.len(), limit: rules.max_batch_bytes });
        }
        check_client_header(&header)?;
        if !rules.drops_producer {
            check_producer(&header)?;
        }
        let records = batch.records()?;
        let mut rest = records.data.as_ref();
        let (mut index, mut max_timestamp) = (0, i64::MIN);
        while !rest.is_empty() {
            let malformed = |reason| BatchError::Record { index, reason };
            let refused = |reason| BatchError::Rule { index: Some(index), reason };
            let raw = RawRecord::take(&mut rest).map_err(malformed)?;
            if usize::try_from(raw.offset_delta).ok() != Some(index) {
                return Err(malformed("its offset delta is not its place in the batch"));
            }
            if index == 0 && raw.timestamp_delta != 0 && !header.is_append_time() {
                return Err(malformed("the batch's base timestamp is not the first record's"));
            }
            if raw.attributes & !Encoding::MASK != 0 {
                return Err(refused("unknown bits in its attributes"));
            }
            let record = raw.located(&header).map_err(malformed)?;
            check_record(&record, rules).map_err(refused)?;
            check(&record).map_err(refused)?;
            max_timestamp = max_timestamp.max(record.timestamp.millis());
            index += 1;
        }
        if usize::try_from(header.record_count).ok() != Some(index) {
            return Err(BatchError::Header("the record count is not the number of records"));
        }
        if max_timestamp != header.max_timestamp {
            return Err(BatchError::Header("the max timestamp is not the largest of the records'"));
        }
        let walked = Self { header, bytes: batch.bytes.clone() };
        let is_dropped = rules.drops_producer && (header.producer_id, header.producer_epoch, header.base_sequence) != (-1, -1, -1);
        Ok(if is_dropped { walked.with_producer(ProducerStamp { id: -1, epoch: -1, sequence: -1 }) } else { walked })
    }

    /// Records in it.
    pub fn record_count(&self) -> u64 {
        u64::from(self.header.record_count.unsigned_abs())
    }

    /// Bytes of it.
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Never: a batch has at least its header.
    pub fn is_empty(&self) -> bool {
        false
    }

    /// How its records are packed.
    pub fn codec(&self) -> Codec {
        self.header.codec()
    }

    /// What it says of its producer.
    pub fn producer(&self) -> Option<ProducerStamp> {
        ProducerStamp::of(&self.header)
    }

    /// The same records, written by that producer.
    #[must_use]
    pub fn with_producer(self, stamp: ProducerStamp) -> Self {
        Self::seal(stamped(self.header, stamp), self.bytes.into())
    }

    /// The same records, packed with `codec`. They stay as they are if they would then take more than `bytes_max` bytes.
    ///
    /// # Errors
    /// What the codec's library says.
    pub fn recompress(self, codec: Codec, bytes_max: usize) -> std::io::Result<Self> {
        if self.header.codec() == codec {
            return Ok(self);
        }
        let stored = StoredBatch { header: self.header, bytes: self.bytes.clone() };
        let records = stored.records().map_err(std::io::Error::other)?;
        let packed = codec.compress(&records.data)?;
        if BATCH_HEADER_BYTES + packed.len() > bytes_max.min(limits::BATCH_BYTES_MAX) {
            return Ok(self);
        }
        let mut bytes = Vec::with_capacity(BATCH_HEADER_BYTES + packed.len());
        bytes.extend_from_slice(&self.bytes[..BATCH_HEADER_BYTES]);
        bytes.extend_from_slice(&packed);
        let attributes = (self.header.attributes & !0b111) | i16::from(codec as u8);
        let header = BatchHeader { attributes, ..self.header };
        Ok(Self::seal(header, bytes))
    }

    /// The same records, all stamped with the time of writing (`message.timestamp.type=LogAppendTime`).
    #[must_use]
    pub fn with_append_time(self, now: Timestamp) -> Self {
        let attributes = self.header.attributes | TIMESTAMP_TYPE_BIT;
        let header = BatchHeader { attributes, max_timestamp: now.millis(), ..self.header };
        Self::seal(header, self.bytes.into())
    }

    /// Writes `header` over the first 61 bytes of `bytes`, with the length and the CRC that belong to them.
    fn seal(mut header: BatchHeader, mut bytes: Vec<u8>) -> Self {
        assert!(bytes.len() <= limits::BATCH_BYTES_MAX, "a batch is bounded by the bodies that make it");
        header.length = i32::try_from(bytes.len() - LENGTH_OVERHEAD).unwrap_or(i32::MAX);
        bytes[0..8].copy_from_slice(&header.base_offset.to_be_bytes());
        bytes[8..12].copy_from_slice(&header.length.to_be_bytes());
        bytes[12..16].copy_from_slice(&header.leader_epoch.to_be_bytes());
        bytes[16] = 2;
        bytes[21..23].copy_from_slice(&header.attributes.to_be_bytes());
        bytes[23..27].copy_from_slice(&header.last_offset_delta.to_be_bytes());
        bytes[27..35].copy_from_slice(&header.base_timestamp.to_be_bytes());
        bytes[35..43].copy_from_slice(&header.max_timestamp.to_be_bytes());
        bytes[43..51].copy_from_slice(&header.producer_id.to_be_bytes());
        bytes[51..53].copy_from_slice(&header.producer_epoch.to_be_bytes());
        bytes[53..57].copy_from_slice(&header.base_sequence.to_be_bytes());
        bytes[57..61].copy_from_slice(&header.record_count.to_be_bytes());
        header.crc = computed_crc(&bytes);
        bytes[CRC_AT..CRC_START].copy_from_slice(&header.crc.to_be_bytes());
        Self { header, bytes: bytes.into() }
    }

    /// Its bytes as a client sends them: where the log will stamp it, zeros (or what the client's batch had there).
    pub fn into_bytes(self) -> Bytes {
        self.bytes
    }

    /// Gives it its place in the log: `None` if its last offset would be beyond [`Offset::MAX`].
    pub fn sequence(self, base: Offset, epoch: LeaderEpoch) -> Option<SequencedBatch> {
        base.checked_add(u64::from(self.header.last_offset_delta.unsigned_abs()))?;
        let header = BatchHeader { base_offset: base.to_i64(), leader_epoch: epoch.get(), ..self.header };
        let mut head = [0; STAMPED];
        head[0..8].copy_from_slice(&header.base_offset.to_be_bytes());
        head[8..12].copy_from_slice(&header.length.to_be_bytes());
        head[12..16].copy_from_slice(&header.leader_epoch.to_be_bytes());
        Some(SequencedBatch { header, head, body: self.bytes.slice(STAMPED..) })
    }
}

fn stamped(header: BatchHeader, ProducerStamp { id, epoch, sequence }: ProducerStamp) -> BatchHeader {
    BatchHeader { producer_id: id, producer_epoch: epoch, base_sequence: sequence, ..header }
}

/// What no client's batch may say.
fn check_client_header(header: &BatchHeader) -> Result<(), BatchError> {
    let refused = |reason| Err(BatchError::Rule { index: None, reason });
    if header.attributes & !KNOWN_BITS != 0 {
        return Err(BatchError::Header("unknown bits in its attributes"));
    }
    if header.is_control() {
        return refused("control batches are written by the node alone");
    }
    if header.is_transactional() {
        return refused("the batch is transactional, but no transaction is open");
    }
    if header.attributes & DELETE_HORIZON_BIT != 0 {
        return refused("a delete horizon is set by compaction alone");
    }
    if header.record_count == 0 {
        return refused("the batch has no records");
    }
    if header.record_count.checked_sub(1) != Some(header.last_offset_delta) {
        return Err(BatchError::Header("the record count is not the last offset delta + 1"));
    }
    Ok(())
}

/// Who may have written a client's batch.
fn check_producer(header: &BatchHeader) -> Result<(), BatchError> {
    match (header.producer_id, header.producer_epoch, header.base_sequence) {
        (-1, -1, -1) => Ok(()),
        (NAMED_IDS.., _, _) => Err(BatchError::Rule { index: None, reason: "producer ids from 2^61 on are given by the node alone" }),
        (0.., 0.., 0..) => Ok(()),
        _ => Err(BatchError::Header("producer id, epoch and sequence are all there or none of them")),
    }
}

fn check_record(record: &Record<'_>, rules: &BatchRules<'_>) -> Result<(), &'static str> {
    let limits = rules.limits;
    let timestamp = record.timestamp.millis();
    if rules.key_required && record.key.is_none() {
        return Err("the topic is compacted, so every record needs a key");
    }
    if record.key.is_some_and(|key| key.len() > limits.key_bytes) {
        return Err("its key is too long");
    }
    if record.headers.len() > limits.headers_per_record || record.headers.encoded_len() > limits.header_bytes_per_record {
        return Err("its headers are too many or too long");
    }
    if timestamp < rules.timestamps.0 || timestamp > rules.timestamps.1 {
        return Err("its timestamp is outside what the topic accepts");
    }
    Ok(())
}

/// A batch with its offsets: what the log writes.
#[derive(Debug, Clone)]
pub struct SequencedBatch {
    /// Its header, offsets and epoch included.
    pub header: BatchHeader,
    head: [u8; STAMPED],
    body: Bytes,
}

impl SequencedBatch {
    /// Its bytes in two parts, to be written one after the other; so stamping copies nothing.
    pub fn parts(&self) -> [&[u8]; 2] {
        [&self.head, &self.body]
    }

    /// Bytes of it.
    pub fn len(&self) -> usize {
        STAMPED + self.body.len()
    }

    /// Never: a batch has at least its header.
    pub fn is_empty(&self) -> bool {
        false
    }

    /// Takes a whole batch that already has its offsets, from a leader or from a test's hand.
    ///
    /// # Errors
    /// [`BatchError::Crc`] if its bytes are not what was written.
    pub fn from_stored(batch: &StoredBatch) -> Result<Self, BatchError> {
        batch.verify()?;
        let mut head = [0; STAMPED];
        head.copy_from_slice(&batch.bytes[..STAMPED]);
        Ok(Self { header: batch.header, head, body: batch.bytes.slice(STAMPED..) })
    }
}

/// Puts record sets together into one batch. Sets are never split.
#[derive(Debug)]
pub struct BatchBuilder {
    bytes: Vec<u8>,
    count: i32,
    base_timestamp: i64,
    max_timestamp: i64,
}

impl BatchBuilder {
    /// An empty batch with room for `bytes` bytes of records.
    pub fn with_capacity(bytes: usize) -> Self {
        let mut buf = Vec::with_capacity(BATCH_HEADER_BYTES + bytes);
        buf.resize(BATCH_HEADER_BYTES, 0);
        Self { bytes: buf, count: 0, base_timestamp: 0, max_timestamp: i64::MIN }
    }

    /// Records so far: the offset delta of the next.
    pub fn record_count(&self) -> u64 {
        u64::from(self.count.unsigned_abs())
    }

    /// Bytes so far.
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Whether it has no records yet.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Appends all records of `set`.
    pub fn push(&mut self, set: &RecordSet) {
        for tail in set.tails() {
            let timestamp = tail.timestamp.millis();
            if self.count == 0 {
                self.base_timestamp = timestamp;
            }
            self.max_timestamp = self.max_timestamp.max(timestamp);
            // Timestamps are not negative where records enter, so the difference fits.
            let timestamp_delta = timestamp - self.base_timestamp;
            let offset_delta = i64::from(self.count);
            let length = 1 + varint::len(timestamp_delta) + varint::len(offset_delta) + tail.bytes.len();
            varint::put(&mut self.bytes, length.cast_signed() as i64);
            self.bytes.push(tail.attributes);
            varint::put(&mut self.bytes, timestamp_delta);
            varint::put(&mut self.bytes, offset_delta);
            self.bytes.extend_from_slice(tail.bytes);
            self.count += 1;
        }
    }

    /// The batch, not packed, of that producer. It must have a record.
    pub fn finish_for(self, stamp: ProducerStamp) -> RecordBatch {
        let header = stamped(self.header(), stamp);
        RecordBatch::seal(header, self.bytes)
    }

    /// The batch, not packed. It must have a record.
    pub fn finish(self) -> RecordBatch {
        RecordBatch::seal(self.header(), self.bytes)
    }

    fn header(&self) -> BatchHeader {
        assert!(self.count > 0, "a batch has at least one record");
        BatchHeader {
            base_offset: 0,
            length: 0,
            leader_epoch: 0,
            crc: 0,
            attributes: 0,
            last_offset_delta: self.count - 1,
            base_timestamp: self.base_timestamp,
            max_timestamp: self.max_timestamp,
            producer_id: -1,
            producer_epoch: -1,
            base_sequence: -1,
            record_count: self.count,
        }
    }
}

#[cfg(test)]
mod tests;
