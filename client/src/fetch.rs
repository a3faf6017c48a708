//! Records out: as JSON, as stored batches, one value alone; and a partition's offsets.

use std::time::Duration;

use bytes::Bytes;
use reqwest::Method;
use serde::{Deserialize, Serialize};
use tidegate_types::StoredBatches;

use crate::client::{Answer, Call, Client};
use crate::error::Error;
use crate::record::Record;

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

impl FetchedBatches {
    pub(crate) fn read(answer: Answer) -> Result<Self, Error> {
        Ok(Self {
            next_offset: answer.header("next-offset")?,
            high_watermark: answer.header("high-watermark")?,
            log_start_offset: answer.header("log-start-offset")?,
            bytes: answer.body,
        })
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

fn in_partition<'a>(topic: &'a str, partition: &'a str, what: &'a str) -> [&'a str; 5] {
    ["topics", topic, "partitions", partition, what]
}

pub(crate) fn batches_call(topic: &str, partition: u32, fetch: &Fetch) -> Call {
    fetch.on(Call::new(Method::GET, in_partition(topic, &partition.to_string(), "batches")))
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
    /// A problem `topic-not-found`, `partition-not-found` or `offset-out-of-range`; else as any call.
    pub async fn fetch(&self, topic: &str, partition: u32, fetch: &Fetch) -> Result<FetchedRecords, Error> {
        let call = Call::new(Method::GET, in_partition(topic, &partition.to_string(), "records"));
        self.send(&fetch.on(call).query_if("max_records", fetch.max_records)).await?.json()
    }

    /// Fetches stored batches of one partition (`max_records` means nothing here); waits for them if asked to.
    ///
    /// # Errors
    /// As [`Client::fetch`].
    pub async fn fetch_batches(&self, topic: &str, partition: u32, fetch: &Fetch) -> Result<FetchedBatches, Error> {
        FetchedBatches::read(self.send(&batches_call(topic, partition, fetch)).await?)
    }

    /// One record's value.
    ///
    /// # Errors
    /// A problem `record-not-found` or `offset-out-of-range`; else as [`Client::fetch`].
    pub async fn fetch_value(&self, topic: &str, partition: u32, offset: u64) -> Result<StoredValue, Error> {
        let (partition, offset) = (partition.to_string(), offset.to_string());
        let call = Call::new(Method::GET, in_partition(topic, &partition, "records").into_iter().chain([offset.as_str()]));
        let answer = self.send(&call).await?;
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
        self.send(&offsets_call(topic, partition, question)).await?.json()
    }
}
