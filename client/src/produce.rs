//! Records in: the JSON envelope, lines of it, and stored batches. Each call is one request; what failed is the caller's to send again.

use std::time::Duration;

use bytes::Bytes;
use reqwest::Method;
use serde::{Deserialize, Serialize};
use tidegate_types::{Offset, StoredBatches};

use crate::batch::MEDIA_TYPE;
use crate::call::{Answer, Call};
use crate::client::Client;
use crate::error::Error;
use crate::record::NewRecord;

/// When a produce is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Acks {
    /// On admission: no offsets, and nothing is known of its fate.
    None,
    /// After the leader's write, before any sync.
    Leader,
    /// When the promised durability holds.
    #[default]
    All,
}

impl Acks {
    const fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Leader => "leader",
            Self::All => "all",
        }
    }
}

/// How to produce.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ProduceOptions {
    /// When it is answered.
    pub acks: Acks,
    /// How long the server may take over it; `None` is the server's default.
    pub timeout: Option<Duration>,
}

impl ProduceOptions {
    pub(crate) fn on(self, call: Call) -> Call {
        // What is the default anyway is not said, so that a plain call is a plain request.
        let acks = Some(self.acks).filter(|acks| *acks != Acks::All).map(Acks::as_str);
        call.query_if("acks", acks).query_if("timeout_ms", self.timeout.map(|t| t.as_millis()))
    }
}

/// Where a record stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecordPosition {
    /// The partition …
    pub partition: u32,
    /// … and the offset in it.
    pub offset: u64,
    /// What it was stamped with, in milliseconds since 1970.
    pub timestamp: i64,
}

impl RecordPosition {
    /// Stands for the offset of a record whose acknowledgement was not waited for ([`Acks::None`]), or that was there already when it was sent again, so long
    /// ago that the partition does not know where (each remembers the last five batches of a producer). No record has it.
    pub const NO_OFFSET: u64 = u64::MAX;
}

/// What became of a request's records.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Produced {
    /// One a record, in order; empty with [`Acks::None`].
    #[serde(default)]
    pub results: Vec<RecordPosition>,
    /// What is promised of them: `none`, `leader`, `replicated` or `fsync`.
    pub durability: String,
}

/// What became of a request's batches.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AppendedBatches {
    /// Offset of the first record; absent with [`Acks::None`], or if the partition knows only that it has the batch.
    pub base_offset: Option<u64>,
    /// Offset of the last record; absent with [`Acks::None`], or if the partition knows only that it has the batch.
    pub last_offset: Option<u64>,
    /// What is promised of them.
    pub durability: String,
    /// Whether the partition had the batch already, by the producer and the sequence in its header, and wrote nothing.
    #[serde(skip)]
    pub is_duplicate: bool,
}

/// The header of an answer that says so.
const DUPLICATE: &str = "producer-duplicate";

impl AppendedBatches {
    /// Reads an answer to `records` records (if their number is known), and believes it only as far as it can be true: an answer that makes no sense
    /// is no acknowledgement.
    pub(crate) fn read(answer: &Answer, acks: Acks, records: Option<u64>) -> Result<Self, Error> {
        let is_duplicate = answer.headers.get(DUPLICATE).is_some_and(|value| value.as_bytes() == b"true");
        let appended = Self { is_duplicate, ..answer.json()? };
        match appended.contradiction(acks, records) {
            None => Ok(appended),
            Some(reason) => Err(answer.unexpected(&reason)),
        }
    }

    fn contradiction(&self, acks: Acks, records: Option<u64>) -> Option<String> {
        let is_beyond = |offset: Option<u64>| offset.is_some_and(|offset| Offset::new(offset).is_none());
        if is_beyond(self.base_offset) || is_beyond(self.last_offset) {
            return Some("an offset beyond 2^53 - 1".to_owned());
        }
        match (self.base_offset, self.last_offset) {
            (Some(base), Some(last)) => {
                let written = last.checked_sub(base).map(|distance| distance + 1);
                let is_right = written.is_some() && (records.is_none() || written == records);
                let sent = records.map_or_else(|| "some".to_owned(), |records| records.to_string());
                (!is_right).then(|| format!("offsets {base} to {last} for {sent} records"))
            }
            (None, None) if acks == Acks::None || self.is_duplicate => None,
            _ => Some("it says not where the records are".to_owned()),
        }
    }
}

impl Produced {
    fn read(answer: &Answer, acks: Acks, records: usize) -> Result<Self, Error> {
        let produced: Self = answer.json()?;
        if produced.results.iter().any(|position| Offset::new(position.offset).is_none()) {
            return Err(answer.unexpected("an offset beyond 2^53 - 1"));
        }
        let (told, is_told_nothing) = (produced.results.len(), acks == Acks::None && produced.results.is_empty());
        if told != records && !is_told_nothing {
            return Err(answer.unexpected(&format!("it tells of {told} records, not {records}")));
        }
        Ok(produced)
    }
}

/// How many records the batches say they hold; `None` if they are no batches, which is the server's to find.
fn record_count(batches: &Bytes) -> Option<u64> {
    let mut count = 0_u64;
    for batch in StoredBatches::new(batches.clone()) {
        count = count.checked_add(u64::try_from(batch.ok()?.header.record_count).ok()?)?;
    }
    Some(count)
}

/// Up to where a stream of lines was written, in one partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct LastOffset {
    /// The partition.
    pub partition: u32,
    /// Offset of the last record written to it.
    pub offset: u64,
}

/// What became of a stream of lines.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProducedLines {
    /// Records written.
    pub committed_records: u64,
    /// Up to where, in each partition.
    #[serde(default)]
    pub last: Vec<LastOffset>,
    /// The line at which it stopped early, from 1.
    #[serde(default)]
    pub stopped_at_line: Option<u64>,
}

/// Records as lines, to be sent as one stream.
#[derive(Debug, Clone, Default)]
pub struct Lines {
    bytes: Vec<u8>,
}

impl Lines {
    /// No lines yet.
    pub const fn new() -> Self {
        Self { bytes: Vec::new() }
    }

    /// Appends a record.
    ///
    /// # Errors
    /// [`Error::Input`] if it cannot be written as JSON, or its JSON value is spread over lines; the lines are then as they were.
    pub fn push(&mut self, record: &NewRecord) -> Result<(), Error> {
        let start = self.bytes.len();
        let written = serde_json::to_writer(&mut self.bytes, record).map_err(|error| Error::Input(error.to_string()));
        // Within a text, line breaks are escaped; between the words of a JSON value they are not, and its bytes are not ours to change.
        let is_one_line = !self.bytes[start..].iter().any(|byte| matches!(byte, b'\n' | b'\r'));
        let outcome = match written {
            Ok(()) if !is_one_line => Err(Error::Input("a JSON value spread over lines cannot be sent as a line".to_owned())),
            other => other,
        };
        if outcome.is_err() {
            self.bytes.truncate(start);
            return outcome;
        }
        self.bytes.push(b'\n');
        Ok(())
    }

    /// Bytes so far.
    pub const fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Whether there are no lines yet.
    pub const fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }
}

#[derive(Serialize)]
struct Envelope<'a> {
    records: &'a [NewRecord],
}

impl Client {
    /// Produces records to a topic, each to the partition it names or its key belongs to. All are accepted, or none.
    ///
    /// # Errors
    /// A problem `record-rejected`, `record-too-large`, `topic-not-found` (nothing was written), `partial-write` or `write-timeout` (something may be);
    /// else as any call. After an error whose [`Error::side_effects`] are possible, sending again may write twice.
    pub async fn produce(&self, topic: &str, records: &[NewRecord], options: &ProduceOptions) -> Result<Produced, Error> {
        let call = Call::new(Method::POST, ["topics", topic, "records"]).json(&Envelope { records })?;
        Produced::read(&self.send(&options.on(call)).await?, options.acks, records.len())
    }

    /// As [`Client::produce`], to one partition.
    ///
    /// # Errors
    /// As [`Client::produce`], and a problem `partition-not-found`.
    pub async fn produce_to(
        &self,
        topic: &str,
        partition: u32,
        records: &[NewRecord],
        options: &ProduceOptions,
    ) -> Result<Produced, Error> {
        let path = ["topics", topic, "partitions", &partition.to_string(), "records"];
        let call = Call::new(Method::POST, path).json(&Envelope { records })?;
        Produced::read(&self.send(&options.on(call)).await?, options.acks, records.len())
    }

    /// Produces a stream of records, which the server writes in parts as they come.
    ///
    /// # Errors
    /// A problem with `committed_records` and `line` among its extras: so many were written, and that line stopped it; else as any call.
    pub async fn produce_lines(&self, topic: &str, lines: Lines, options: &ProduceOptions) -> Result<ProducedLines, Error> {
        let call = Call::new(Method::POST, ["topics", topic, "records", "stream"]).body("application/x-ndjson", lines.bytes.into());
        self.send(&options.on(call)).await?.json()
    }

    /// Appends stored batches, back to back as [`crate::batch::encode`] makes them, to one partition: all or none.
    ///
    /// # Errors
    /// A problem `corrupt-batch`, `record-rejected` or `record-too-large` (nothing was written); [`Error::Answer`] if the offsets in the answer cannot be those
    /// of the records sent; else as [`Client::produce_to`].
    pub async fn produce_batches(
        &self,
        topic: &str,
        partition: u32,
        batches: Bytes,
        options: &ProduceOptions,
    ) -> Result<AppendedBatches, Error> {
        let records = record_count(&batches);
        let call = Call::new(Method::POST, ["topics", topic, "partitions", &partition.to_string(), "batches"]).body(MEDIA_TYPE, batches);
        AppendedBatches::read(&self.send(&options.on(call)).await?, options.acks, records)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::Value;
    use serde_json::value::RawValue;

    /// A promise: an acknowledgement that cannot be true of what was sent is none, whatever the server's status says.
    #[test]
    fn acknowledgements_make_sense() {
        let told = |base_offset, last_offset, is_duplicate, acks, records| {
            AppendedBatches { base_offset, last_offset, durability: "fsync".to_owned(), is_duplicate }
                .contradiction(acks, records)
                .is_none()
        };
        let is_believed = |base, last, acks, records| told(base, last, false, acks, records);
        for (base, last, wanted) in
            [(None, None, true), (Some(7), Some(8), true), (Some(7), Some(9), false), (Some(7), None, false), (None, Some(8), false)]
        {
            assert_eq!(told(base, last, true, Acks::All, Some(2)), wanted, "{base:?} to {last:?}, said to be there already");
        }
        let largest = Offset::MAX.get();
        for (base, last, acks, records, wanted) in [
            (Some(7), Some(7), Acks::All, Some(1), true),
            (Some(7), Some(9), Acks::Leader, Some(3), true),
            (Some(7), Some(9), Acks::All, None, true),
            (Some(largest), Some(largest), Acks::All, Some(1), true),
            (None, None, Acks::None, Some(3), true),
            (None, None, Acks::All, Some(3), false),
            (None, None, Acks::Leader, None, false),
            (Some(7), None, Acks::All, Some(1), false),
            (None, Some(7), Acks::None, Some(1), false),
            (Some(7), Some(9), Acks::All, Some(2), false),
            (Some(9), Some(7), Acks::All, None, false),
            (Some(largest), Some(largest + 1), Acks::All, Some(2), false),
            (Some(u64::MAX), Some(u64::MAX), Acks::None, Some(1), false),
        ] {
            assert_eq!(is_believed(base, last, acks, records), wanted, "{base:?} to {last:?} for {records:?} with {acks:?}");
        }
    }

    /// A promise: one record is one line with its value's exact bytes; a value that cannot be on one line is refused and leaves nothing behind.
    #[test]
    fn a_record_is_a_line() {
        let mut lines = Lines::new();
        let json = |text: &str| NewRecord::new(Value::Json(RawValue::from_string(text.to_owned()).unwrap()));
        lines.push(&json(r#"{ "a":"x\ny"}"#)).unwrap();
        assert!(matches!(lines.push(&json("{\n}")), Err(Error::Input(_))));
        lines.push(&NewRecord::text("a\nb")).unwrap();
        let text = String::from_utf8(lines.bytes).unwrap();
        assert_eq!(text, "{\"value\":{ \"a\":\"x\\ny\"}}\n{\"text\":\"a\\nb\"}\n");
    }
}
