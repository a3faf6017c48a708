//! Records out: as JSON, as stored batches, one value alone; and a partition's offsets.

use std::time::Duration;

use bytes::Bytes;
use reqwest::Method;
use serde::{Deserialize, Serialize};
use tidegate_types::limits::BATCH_DECOMPRESSED_BYTES_MAX;
use tidegate_types::{Offset, StoredBatch, StoredBatches};

use crate::call::{Answer, Bound, Call};
use crate::client::Client;
use crate::error::Error;
use crate::record::Record;

/// Bytes that a fetch brings at most if it says nothing of it: as many as it may ask for.
const FETCH_BYTES_MAX: u64 = 64 << 20;
/// One record as JSON, at most: each byte of its value may be escaped to six, and its key and headers come beside it.
const JSON_RECORD_BYTES: usize = 6 * BATCH_DECOMPRESSED_BYTES_MAX + (2 << 20);
/// What is around the records of a page.
const JSON_AROUND_BYTES: usize = 4 << 10;

/// Where a fetch begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum From {
    /// At the earliest record.
    #[default]
    Earliest,
    /// At the high watermark: only what comes.
    Latest,
    /// At this offset.
    Offset(u64),
    /// At the first record with a timestamp of at least this, in milliseconds since 1970.
    Timestamp(i64),
    /// So many records before the end.
    Tail(u64),
}

/// What to do when the offset is gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OffsetReset {
    /// Say so.
    #[default]
    Error,
    /// Begin at the earliest.
    Earliest,
    /// Begin at the high watermark.
    Latest,
}

/// What to fetch of a partition. What is `None` is the server's default.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Fetch {
    /// Where to begin.
    pub from: From,
    /// What if that is gone.
    pub reset: OffsetReset,
    /// Records at most.
    pub max_records: Option<u32>,
    /// Bytes at most; one record (or batch) is returned even if it is larger.
    pub max_bytes: Option<u64>,
    /// Bytes to wait for.
    pub min_bytes: Option<u64>,
    /// How long to wait for them.
    pub max_wait: Option<Duration>,
}

impl Fetch {
    /// Begins at `offset`, with the server's defaults.
    pub fn from_offset(offset: u64) -> Self {
        Self { from: From::Offset(offset), ..Self::default() }
    }

    /// The offset at which an answer begins for certain.
    fn start(&self) -> Option<u64> {
        match (self.from, self.reset) {
            (From::Offset(offset), OffsetReset::Error) => Some(offset),
            _ => None,
        }
    }

    /// Bytes that were asked for.
    fn bytes(&self) -> usize {
        usize::try_from(self.max_bytes.unwrap_or(FETCH_BYTES_MAX)).unwrap_or(usize::MAX)
    }

    fn on(&self, call: Call) -> Call {
        let call = match self.from {
            From::Earliest => call.query("at", "earliest"),
            From::Latest => call.query("at", "latest"),
            From::Offset(offset) => call.query("offset", &offset),
            From::Timestamp(millis) => call.query("timestamp", &millis),
            From::Tail(records) => call.query("tail", &records),
        };
        let reset = match self.reset {
            OffsetReset::Error => None,
            OffsetReset::Earliest => Some("earliest"),
            OffsetReset::Latest => Some("latest"),
        };
        call.query_if("offset_reset", reset)
            .query_if("max_bytes", self.max_bytes)
            .query_if("min_bytes", self.min_bytes)
            .query_if("max_wait_ms", self.max_wait.map(|wait| wait.as_millis()))
    }
}

/// Records and where they stand.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct FetchedRecords {
    /// In order of their offsets; may be empty.
    pub records: Vec<Record>,
    /// Where the next fetch begins.
    pub next_offset: u64,
    /// Everything below is readable.
    pub high_watermark: u64,
    /// The earliest offset.
    pub log_start_offset: u64,
    /// Whether `next_offset` is the high watermark.
    pub caught_up: bool,
    /// How long to wait before the next fetch.
    #[serde(default)]
    pub poll_after_ms: u64,
}

/// Stored batches and where they stand.
#[derive(Debug, Clone)]
pub struct FetchedBatches {
    /// Whole batches, back to back; the first may begin before the offset asked for.
    pub bytes: Bytes,
    /// Where the next fetch begins.
    pub next_offset: u64,
    /// Everything below is readable.
    pub high_watermark: u64,
    /// The earliest offset.
    pub log_start_offset: u64,
}

impl FetchedRecords {
    /// Reads a page, and believes it only if its records rise from `start` on and lie before the next page.
    fn read(answer: &Answer, start: Option<u64>) -> Result<Self, Error> {
        let page: Self = answer.json()?;
        let mut next = start.unwrap_or(0);
        for record in &page.records {
            if record.offset < next || record.offset >= page.next_offset {
                return Err(answer.unexpected(&format!("offset {} is out of place", record.offset)));
            }
            next = record.offset + 1;
        }
        if page.next_offset < next || Offset::new(page.next_offset).is_none() {
            return Err(answer.unexpected(&format!("it goes on at {}, before where it is", page.next_offset)));
        }
        Ok(page)
    }
}

impl FetchedBatches {
    /// Reads an answer, and believes it only if it is whole batches to its last byte, whose offsets rise from `start` on and end where the next fetch
    /// begins: nothing is passed over in silence, and nobody asks for ever for what never comes.
    pub(crate) fn read(answer: &Answer, start: Option<u64>) -> Result<Self, Error> {
        let fetched = Self {
            next_offset: answer.header("next-offset")?,
            high_watermark: answer.header("high-watermark")?,
            log_start_offset: answer.header("log-start-offset")?,
            bytes: answer.body.clone(),
        };
        match fetched.contradiction(start) {
            None => Ok(fetched),
            Some(reason) => Err(answer.unexpected(&reason)),
        }
    }

    fn contradiction(&self, start: Option<u64>) -> Option<String> {
        let (mut rest, mut end) = (self.bytes.clone(), None);
        while !rest.is_empty() {
            let batch = match StoredBatch::parse(&rest) {
                Ok(batch) => batch,
                Err(error) => return Some(format!("its last {} bytes are no batch: {error}", rest.len())),
            };
            let (first, last) = (batch.header.first_offset().get(), batch.header.last_offset().get());
            // The first batch may begin before what was asked for, but not end there.
            if end.is_some_and(|end| first < end) || end.is_none() && start.is_some_and(|start| last < start) {
                return Some(format!("the batch of offsets {first} to {last} is out of place"));
            }
            end = Some(last + 1);
            rest = rest.slice(batch.bytes().len()..);
        }
        match end.or(start) {
            Some(end) if end != self.next_offset => {
                Some(format!("it ends before offset {end} and says that it goes on at {}", self.next_offset))
            }
            _ => None,
        }
    }

    /// The batches one by one. Their CRC is not yet checked: see [`tidegate_types::StoredBatch::verify`].
    pub fn batches(&self) -> StoredBatches {
        StoredBatches::new(self.bytes.clone())
    }
}

/// One record's value, as it was given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredValue {
    /// Its bytes; `None` is a tombstone.
    pub bytes: Option<Bytes>,
    /// Its media type, if it has bytes.
    pub content_type: Option<String>,
}

/// A question about a partition's offsets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum At {
    /// The earliest offset.
    Earliest,
    /// The high watermark.
    Latest,
    /// The record with the largest timestamp.
    MaxTimestamp,
    /// The first record with a timestamp of at least this, in milliseconds since 1970.
    Timestamp(i64),
}

/// A partition's offsets, and the answer to a question.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Offsets {
    /// The partition.
    pub partition: u32,
    /// The first offset kept.
    pub earliest_offset: u64,
    /// The high watermark: the next offset to be readable.
    pub latest_offset: u64,
    /// Below it no transaction is open.
    pub last_stable_offset: u64,
    /// Version of the leadership.
    pub leader_epoch: i32,
    /// The answer, if there was a question and a record fits it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub offset: Option<u64>,
    /// The timestamp of the record at `offset`, if one stands there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timestamp: Option<i64>,
}

impl Offsets {
    pub(crate) fn read(answer: &Answer) -> Result<Self, Error> {
        let offsets: Self = answer.json()?;
        let all = [Some(offsets.earliest_offset), Some(offsets.latest_offset), Some(offsets.last_stable_offset), offsets.offset];
        if all.into_iter().flatten().any(|offset| Offset::new(offset).is_none()) {
            return Err(answer.unexpected("an offset beyond 2^53 - 1"));
        }
        Ok(offsets)
    }
}

fn in_partition<'a>(topic: &'a str, partition: &'a str, what: &'a str) -> [&'a str; 5] {
    ["topics", topic, "partitions", partition, what]
}

pub(crate) fn batches_call(topic: &str, partition: u32, fetch: &Fetch) -> Call {
    let call = Call::new(Method::GET, in_partition(topic, &partition.to_string(), "batches"));
    fetch.on(call).bounded(Bound::Batches(fetch.bytes()))
}

pub(crate) fn offsets_call(topic: &str, partition: u32, question: Option<At>) -> Call {
    let call = Call::new(Method::GET, in_partition(topic, &partition.to_string(), "offsets"));
    match question {
        None => call,
        Some(At::Earliest) => call.query("at", "earliest"),
        Some(At::Latest) => call.query("at", "latest"),
        Some(At::MaxTimestamp) => call.query("at", "max_timestamp"),
        Some(At::Timestamp(millis)) => call.query("timestamp", &millis),
    }
}

impl Client {
    /// Fetches records of one partition; waits for them if asked to.
    ///
    /// # Errors
    /// A problem `topic-not-found`, `partition-not-found` or `offset-out-of-range`; [`Error::Answer`] if the answer contradicts itself or what was asked for;
    /// else as any call.
    pub async fn fetch(&self, topic: &str, partition: u32, fetch: &Fetch) -> Result<FetchedRecords, Error> {
        let call = Call::new(Method::GET, in_partition(topic, &partition.to_string(), "records"));
        let bound = Bound::Bytes(fetch.bytes().max(JSON_RECORD_BYTES) + JSON_AROUND_BYTES);
        let answer = self.send(&fetch.on(call).query_if("max_records", fetch.max_records).bounded(bound)).await?;
        FetchedRecords::read(&answer, fetch.start())
    }

    /// Fetches stored batches of one partition (`max_records` means nothing here); waits for them if asked to.
    ///
    /// # Errors
    /// As [`Client::fetch`].
    pub async fn fetch_batches(&self, topic: &str, partition: u32, fetch: &Fetch) -> Result<FetchedBatches, Error> {
        FetchedBatches::read(&self.send(&batches_call(topic, partition, fetch)).await?, fetch.start())
    }

    /// One record's value.
    ///
    /// # Errors
    /// A problem `record-not-found` or `offset-out-of-range`; else as [`Client::fetch`].
    pub async fn fetch_value(&self, topic: &str, partition: u32, offset: u64) -> Result<StoredValue, Error> {
        let (partition, offset) = (partition.to_string(), offset.to_string());
        let call = Call::new(Method::GET, in_partition(topic, &partition, "records").into_iter().chain([offset.as_str()]));
        let answer = self.send(&call.bounded(Bound::Bytes(BATCH_DECOMPRESSED_BYTES_MAX))).await?;
        if answer.status == 204 {
            return Ok(StoredValue { bytes: None, content_type: None });
        }
        let content_type = answer.header("content-type").ok();
        Ok(StoredValue { bytes: Some(answer.body), content_type })
    }

    /// A partition's offsets, with the answer to a question.
    ///
    /// # Errors
    /// As [`Client::fetch`].
    pub async fn offsets(&self, topic: &str, partition: u32, question: Option<At>) -> Result<Offsets, Error> {
        Offsets::read(&self.send(&offsets_call(topic, partition, question)).await?)
    }
}

#[cfg(test)]
mod tests {
    use tidegate_types::Codec;

    use super::*;
    use crate::record::NewRecord;

    /// A batch of so many records from `base` on.
    fn batch(base: u64, records: usize) -> Vec<u8> {
        let records: Vec<_> = (0..records).map(|_| NewRecord::text("x").timestamp(1)).collect();
        let mut bytes = crate::batch::encode(&records, Codec::None).unwrap().to_vec();
        bytes[..8].copy_from_slice(&base.to_be_bytes());
        bytes
    }

    /// A promise: an answer of stored batches is believed only if it is whole batches in order that begin no later and end nowhere else than it says:
    /// zeros, left-over bytes, a cut batch and a place that does not move are damage.
    #[test]
    fn contradictions_are_seen() {
        let two = || [batch(5, 3), batch(8, 2)].concat();
        let is_believed = |bytes: Vec<u8>, next_offset: u64, start: Option<u64>| {
            let fetched = FetchedBatches { bytes: bytes.into(), next_offset, high_watermark: 100, log_start_offset: 0 };
            fetched.contradiction(start).is_none()
        };
        for (what, bytes, next_offset, start, wanted) in [
            ("whole", two(), 10, Some(5), true),
            ("begins before what was asked for", two(), 10, Some(7), true),
            ("a hole before it", two(), 10, Some(2), true),
            ("asked for by time", two(), 10, None, true),
            ("a hole within", [batch(5, 1), batch(9, 1)].concat(), 10, Some(5), true),
            ("nothing there yet", Vec::new(), 5, Some(5), true),
            ("nothing, from a place that was not known", Vec::new(), 77, None, true),
            ("a zero tail", [two(), vec![0; 100]].concat(), 10, Some(5), false),
            ("a short zero tail", [two(), vec![0]].concat(), 10, Some(5), false),
            ("zeros only", vec![0; 1_000], 10, Some(5), false),
            ("left-over bytes", [two(), vec![7; 70]].concat(), 10, Some(5), false),
            ("a cut batch", two()[..two().len() - 1].to_vec(), 10, Some(5), false),
            ("records are missing at the end", two(), 12, Some(5), false),
            ("records beyond the next offset", two(), 9, Some(5), false),
            ("the place does not move", two(), 5, Some(5), false),
            ("all of it lies before what was asked for", two(), 10, Some(10), false),
            ("nothing, and yet further on", Vec::new(), 6, Some(5), false),
            ("nothing, and back", Vec::new(), 4, Some(5), false),
            ("twice the same", [batch(5, 3), batch(5, 3)].concat(), 8, Some(5), false),
            ("backwards", [batch(8, 2), batch(5, 3)].concat(), 8, Some(5), false),
        ] {
            assert_eq!(is_believed(bytes, next_offset, start), wanted, "{what}");
        }
    }
}
