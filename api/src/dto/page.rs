//! Records as a JSON fetch gives them, written by hand from stored batches.
//!
//! Its promises: **a value comes out as the bytes that went in**, in the shape that they were given in (D12), whatever anybody stored;
//! and **`next_offset` neither skips nor repeats a record**, over holes, control batches and pages cut short alike.

use bytes::Bytes;
use serde::Deserialize;
use tidegate_cluster::{Admission, Error, Fetched, Permit};
use tidegate_types::batch::{BatchError, Records};
use tidegate_types::record::{Headers, Record};
use tidegate_types::{Codec, Encoding, ErrorCode, Offset, PartitionIndex, StoredBatch, StoredBatches};
use utoipa::ToSchema;

use super::envelope::RecordHeader;
use crate::error::ApiError;
use crate::json::{check, put_base64, put_integer, put_string};

/// Records of one partition, and where the next ones are.
#[derive(Debug, ToSchema)]
#[schema(example = json!({
    "records": [{"partition": 3, "offset": 1042, "timestamp": 1_763_709_600_000_i64, "key": "u1", "value": {"total": 10}}],
    "next_offset": 1043, "high_watermark": 1060, "log_start_offset": 12, "caught_up": false, "poll_after_ms": 0
}))]
#[expect(dead_code, reason = "written by hand; the struct is its schema")]
pub(crate) struct FetchResponse {
    /// The records, by offset; none if nothing came in time.
    records: Vec<FetchedRecord>,
    /// Where to go on.
    #[schema(maximum = 9_007_199_254_740_991_i64)]
    next_offset: u64,
    /// Everything below is readable.
    #[schema(maximum = 9_007_199_254_740_991_i64)]
    high_watermark: u64,
    /// The earliest offset there is.
    #[schema(maximum = 9_007_199_254_740_991_i64)]
    log_start_offset: u64,
    /// Whether there is nothing more for now.
    caught_up: bool,
    /// How long to wait before asking again; 0 unless the node is stopping.
    poll_after_ms: u32,
}

/// A record as it was stored. Exactly one of `value`, `text`, `base64` and `tombstone` is there.
#[derive(Debug, ToSchema)]
#[schema(example = json!({"partition": 3, "offset": 1042, "timestamp": 1_763_709_600_000_i64, "key": "u1", "value": {"total": 10}}))]
#[expect(dead_code, reason = "written by hand; the struct is its schema")]
pub(crate) struct FetchedRecord {
    /// Its partition.
    partition: u32,
    /// Its offset there.
    #[schema(maximum = 9_007_199_254_740_991_i64)]
    offset: u64,
    /// Milliseconds since 1970-01-01 UTC.
    #[schema(minimum = 0, maximum = 9_007_199_254_740_991_i64)]
    timestamp: i64,
    /// Its key, as text.
    #[schema(nullable = false)]
    key: Option<String>,
    /// Its key, as base64, if it is no UTF-8.
    #[schema(nullable = false, format = Byte)]
    key_base64: Option<String>,
    /// Its value, if it is JSON: the exact bytes that were produced.
    #[schema(value_type = Value, required = false)]
    value: Option<serde_json::Value>,
    /// Its value, as text.
    #[schema(nullable = false)]
    text: Option<String>,
    /// Its value, as base64.
    #[schema(nullable = false, format = Byte)]
    base64: Option<String>,
    /// `true`: it has no value.
    #[schema(nullable = false)]
    tombstone: Option<bool>,
    /// Its headers, in order.
    #[schema(nullable = false)]
    headers: Option<Vec<RecordHeader>>,
}

/// In which shape values are wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum ValueShape {
    /// As they were given.
    #[default]
    Auto,
    /// As `value` wherever they are JSON, else as text or base64.
    Json,
    /// As `text` wherever they are UTF-8, else as base64.
    Text,
    /// As `base64`.
    Base64,
}

/// What a page may hold.
#[derive(Debug, Clone, Copy)]
pub(crate) struct PageRules {
    pub(crate) partition: PartitionIndex,
    /// Records at most.
    pub(crate) max_records: usize,
    /// Bytes of JSON at most; one record is given even if it is larger.
    pub(crate) max_bytes: usize,
    pub(crate) shape: ValueShape,
    /// Values that nest deeper are not put into the answer as JSON.
    pub(crate) json_depth: usize,
    pub(crate) poll_after_ms: u32,
}

/// A page as JSON.
#[derive(Debug)]
pub(crate) struct Page {
    /// The body, a [`FetchResponse`].
    pub(crate) body: Vec<u8>,
    /// Where to go on.
    pub(crate) next_offset: Offset,
    /// What the body counts for.
    pub(crate) permit: Permit,
}

/// Why a batch does not get into a page.
#[derive(Debug)]
enum Refusal {
    /// It cannot be read.
    Batch(BatchError),
    /// The node holds as much as it may.
    NoRoom(Error),
}

impl From<BatchError> for Refusal {
    fn from(error: BatchError) -> Self {
        Self::Batch(error)
    }
}

impl From<Error> for Refusal {
    fn from(error: Error) -> Self {
        Self::NoRoom(error)
    }
}

impl Refusal {
    fn into_problem(self, partition: PartitionIndex, offset: Offset) -> ApiError {
        match self {
            Self::Batch(error) => corrupt(partition, offset, &error),
            Self::NoRoom(error) => error.into(),
        }
    }
}

/// Checks a batch and unpacks its records. The permit covers what they were unpacked to; what was not packed is covered already.
fn open(batch: &StoredBatch, admission: &Admission) -> Result<(Records, Permit), Refusal> {
    batch.verify()?;
    let records = batch.records()?;
    let unpacked = if batch.header.codec() == Codec::None { 0 } else { records.unpacked_bytes() };
    Ok((records, admission.admit(unpacked)?))
}

/// 500 `corrupt-log` about the batch at `offset` (or the first one after it).
pub(crate) fn corrupt(partition: PartitionIndex, offset: Offset, error: &BatchError) -> ApiError {
    let detail = format!("partition {partition}: the batch at offset {offset} cannot be read: {error}");
    let problem = ApiError::new(ErrorCode::CorruptLog, &detail).with("partition", partition.get()).with("offset", offset.get());
    problem.logging(detail)
}

/// Writes the page that `fetched` gives. What it takes, and what batches are unpacked to meanwhile, counts in `admission`.
///
/// # Errors
/// 500 `corrupt-log` if the very first batch cannot be read, 503 `overloaded` if there is no room for the first record; later ones end the
/// page, and are the first of the next.
pub(crate) fn write(fetched: &Fetched, rules: &PageRules, admission: &Admission) -> Result<Page, ApiError> {
    let mut writer = Writer::new(fetched, rules, admission)?;
    let mut is_full = false;
    for batch in StoredBatches::new(fetched.batches.clone()) {
        match batch.map_err(Refusal::from).and_then(|batch| writer.put_batch(&batch, admission)) {
            Ok(Fill::Room) => {}
            Ok(Fill::Full) => {
                is_full = true;
                break;
            }
            Err(error) if writer.records == 0 => return Err(error.into_problem(rules.partition, writer.next_offset)),
            Err(_) => {
                is_full = true;
                break;
            }
        }
    }
    if !is_full {
        writer.next_offset = writer.next_offset.max(fetched.next_offset);
    }
    Ok(writer.finish(fetched))
}

/// What stands around the records of a page at most, and around the fields of one.
const AROUND_BYTES: usize = 256;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fill {
    Room,
    Full,
}

struct Writer<'r> {
    rules: &'r PageRules,
    out: Vec<u8>,
    /// Covers `out`, as far as it has grown.
    permit: Permit,
    /// What every record begins with, up to its offset.
    prefix: Vec<u8>,
    records: usize,
    next_offset: Offset,
}

impl<'r> Writer<'r> {
    fn new(fetched: &Fetched, rules: &'r PageRules, admission: &Admission) -> Result<Self, Error> {
        let mut prefix = b"{\"partition\":".to_vec();
        put_integer(&mut prefix, rules.partition.get());
        prefix.extend_from_slice(b",\"offset\":");
        // Stored batches and their JSON are of a size, give or take; more than the page may hold is never needed.
        let guess = fetched.batches.len().saturating_mul(5) / 4;
        let capacity = AROUND_BYTES + guess.min(rules.max_bytes);
        let permit = admission.admit(capacity)?;
        let mut out = Vec::with_capacity(capacity);
        out.extend_from_slice(b"{\"records\":[");
        Ok(Self { rules, out, permit, prefix, records: 0, next_offset: fetched.start })
    }

    fn put_batch(&mut self, batch: &StoredBatch, admission: &Admission) -> Result<Fill, Refusal> {
        let end = batch.header.last_offset().next();
        if end <= self.next_offset {
            return Ok(Fill::Room);
        }
        if batch.header.is_control() {
            batch.verify()?;
        } else {
            let (records, _unpacked) = open(batch, admission)?;
            if self.put_records(&records)? == Fill::Full {
                return Ok(Fill::Full);
            }
        }
        // Also over what compaction took from the end of the batch.
        self.next_offset = end;
        Ok(Fill::Room)
    }

    fn put_records(&mut self, records: &Records) -> Result<Fill, Refusal> {
        for record in records {
            let record = record?;
            if record.offset < self.next_offset {
                continue;
            }
            if self.records >= self.rules.max_records {
                return Ok(Fill::Full);
            }
            self.make_room(&record)?;
            let before = self.out.len();
            self.put_record(&record);
            let is_over = self.out.len() > self.rules.max_bytes && self.records > 0;
            // What has to be escaped is longer than it looked.
            let covered = self.permit.grow(self.out.capacity().saturating_sub(self.permit.amount()));
            if is_over || covered.is_err() {
                self.out.truncate(before);
                covered?;
                return Ok(Fill::Full);
            }
            self.records += 1;
            self.next_offset = record.offset.next();
        }
        Ok(Fill::Room)
    }

    /// Makes room for what the record takes at least, so that it is counted before it is there.
    fn make_room(&mut self, record: &Record<'_>) -> Result<(), Error> {
        let bytes = record.key.map_or(0, <[u8]>::len) + record.value.map_or(0, <[u8]>::len) + record.headers.encoded_len();
        let needed = self.out.len() + AROUND_BYTES + bytes;
        let capacity = self.out.capacity();
        if needed > capacity {
            let grown = needed.max(capacity.saturating_mul(2).min(self.rules.max_bytes));
            self.permit.grow(grown.saturating_sub(self.permit.amount()))?;
            self.out.reserve_exact(grown - self.out.len());
        }
        Ok(())
    }

    fn put_record(&mut self, record: &Record<'_>) {
        let out = &mut self.out;
        if self.records > 0 {
            out.push(b',');
        }
        out.extend_from_slice(&self.prefix);
        put_integer(out, record.offset.get());
        out.extend_from_slice(b",\"timestamp\":");
        put_integer(out, record.timestamp.millis());
        if let Some(key) = record.key {
            put_text_or_base64(out, b",\"key\":", b",\"key_base64\":", key);
        }
        put_value(out, record, self.rules);
        if !record.headers.is_empty() {
            put_headers(out, record.headers);
        }
        out.push(b'}');
    }

    fn finish(self, fetched: &Fetched) -> Page {
        let mut out = self.out;
        out.extend_from_slice(b"],\"next_offset\":");
        put_integer(&mut out, self.next_offset.get());
        out.extend_from_slice(b",\"high_watermark\":");
        put_integer(&mut out, fetched.high_watermark.get());
        out.extend_from_slice(b",\"log_start_offset\":");
        put_integer(&mut out, fetched.log_start.get());
        let caught_up: &[u8] = if self.next_offset >= fetched.high_watermark { b"true" } else { b"false" };
        out.extend_from_slice(b",\"caught_up\":");
        out.extend_from_slice(caught_up);
        out.extend_from_slice(b",\"poll_after_ms\":");
        put_integer(&mut out, self.rules.poll_after_ms);
        out.extend_from_slice(b"}\n");
        Page { body: out, next_offset: self.next_offset, permit: self.permit }
    }
}

fn put_value(out: &mut Vec<u8>, record: &Record<'_>, rules: &PageRules) {
    let Some(value) = record.value else {
        out.extend_from_slice(b",\"tombstone\":true");
        return;
    };
    let as_json = match (rules.shape, record.encoding) {
        (ValueShape::Auto, Encoding::Json) | (ValueShape::Json, _) => true,
        (ValueShape::Auto, Encoding::Unknown | Encoding::Text) | (ValueShape::Text, _) => false,
        (ValueShape::Auto, Encoding::Bytes) | (ValueShape::Base64, _) => {
            out.extend_from_slice(b",\"base64\":");
            put_base64(out, value);
            return;
        }
    };
    // Marked as JSON by whoever stored it: believed only when seen.
    if as_json && std::str::from_utf8(value).is_ok_and(|text| check(text, rules.json_depth).is_ok()) {
        out.extend_from_slice(b",\"value\":");
        out.extend_from_slice(value);
        return;
    }
    put_text_or_base64(out, b",\"text\":", b",\"base64\":", value);
}

fn put_text_or_base64(out: &mut Vec<u8>, text_name: &[u8], base64_name: &[u8], bytes: &[u8]) {
    if let Ok(text) = std::str::from_utf8(bytes) {
        out.extend_from_slice(text_name);
        put_string(out, text);
    } else {
        out.extend_from_slice(base64_name);
        put_base64(out, bytes);
    }
}

fn put_headers(out: &mut Vec<u8>, headers: Headers<'_>) {
    out.extend_from_slice(b",\"headers\":[");
    for (place, header) in headers.iter().enumerate() {
        if place > 0 {
            out.push(b',');
        }
        out.extend_from_slice(b"{\"name\":");
        put_string(out, header.name);
        if let Some(value) = header.value {
            put_text_or_base64(out, b",\"value\":", b",\"base64\":", value);
        }
        out.push(b'}');
    }
    out.push(b']');
}

/// The value of the record at an offset, and what belongs to it, in its own right.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Found {
    pub(crate) timestamp: i64,
    pub(crate) encoding: Encoding,
    pub(crate) key: Option<Vec<u8>>,
    /// `None` is a tombstone.
    pub(crate) value: Option<Bytes>,
    /// Value of the first header `content-type`.
    pub(crate) content_type: Option<Vec<u8>>,
}

/// Looks for the record at `offset`; `None` if none stands there. The permit covers what was found.
///
/// # Errors
/// 500 `corrupt-log` if a batch on the way cannot be read, 503 `overloaded` if there is no room for what it unpacks to.
pub(crate) fn find(
    batches: &Bytes,
    partition: PartitionIndex,
    offset: Offset,
    admission: &Admission,
) -> Result<Option<(Found, Permit)>, ApiError> {
    for batch in StoredBatches::new(batches.clone()) {
        let batch = batch.map_err(|error| corrupt(partition, offset, &error))?;
        if batch.header.first_offset() > offset {
            return Ok(None);
        }
        if batch.header.last_offset() >= offset {
            return find_in(&batch, offset, admission).map_err(|refusal| refusal.into_problem(partition, batch.header.first_offset()));
        }
    }
    Ok(None)
}

fn find_in(batch: &StoredBatch, offset: Offset, admission: &Admission) -> Result<Option<(Found, Permit)>, Refusal> {
    let (records, _unpacked) = open(batch, admission)?;
    if batch.header.is_control() {
        return Ok(None);
    }
    for record in &records {
        let record = record?;
        if record.offset == offset {
            let bytes = record.key.map_or(0, <[u8]>::len) + record.value.map_or(0, <[u8]>::len);
            let permit = admission.admit(bytes)?;
            return Ok(Some((found(&record), permit)));
        }
    }
    Ok(None)
}

fn found(record: &Record<'_>) -> Found {
    let content_type = record.headers.iter().find(|header| header.name.eq_ignore_ascii_case("content-type"));
    Found {
        timestamp: record.timestamp.millis(),
        encoding: record.encoding,
        key: record.key.map(<[u8]>::to_vec),
        value: record.value.map(Bytes::copy_from_slice),
        content_type: content_type.and_then(|header| header.value).map(<[u8]>::to_vec),
    }
}

#[cfg(test)]
mod tests {
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;
    use proptest::prelude::*;
    use serde_json::Value;
    use serde_json::value::RawValue;
    use tidegate_types::limits::BATCH_HEADER_BYTES;
    use tidegate_types::record::Header;
    use tidegate_types::{BatchBuilder, LeaderEpoch, Limits, RecordSetBuilder, Timestamp};

    use super::*;

    const RULES: PageRules = PageRules {
        partition: PartitionIndex::new(3),
        max_records: 500,
        max_bytes: 1 << 20,
        shape: ValueShape::Auto,
        json_depth: 128,
        poll_after_ms: 0,
    };

    type Given<'a> = (Encoding, Option<&'a [u8]>, Option<&'a [u8]>, &'a [Header<'a>]);

    fn batch(base: u64, records: &[Given<'_>]) -> Vec<u8> {
        let limits = Limits::default();
        let mut set = RecordSetBuilder::with_capacity(&limits, 0, 0);
        for (encoding, key, value, headers) in records {
            set.push(Timestamp::from_millis(7), *encoding, *key, *value, headers.iter().copied()).unwrap();
        }
        let mut builder = BatchBuilder::with_capacity(0);
        builder.push(&set.finish());
        let sequenced = builder.finish().sequence(Offset::new(base).unwrap(), LeaderEpoch::ZERO).unwrap();
        sequenced.parts().concat()
    }

    /// A batch at 0, packed with zstd.
    fn packed(records: &[Given<'_>]) -> Vec<u8> {
        let plain = batch(0, records);
        let mut packed = plain[..BATCH_HEADER_BYTES].to_vec();
        packed.extend_from_slice(&zstd::bulk::compress(&plain[BATCH_HEADER_BYTES..], 1).unwrap());
        packed[22] |= 4; // The codec, in the attributes.
        let length = i32::try_from(packed.len() - 12).unwrap();
        packed[8..12].copy_from_slice(&length.to_be_bytes());
        let crc = crc_of(&packed);
        packed[17..21].copy_from_slice(&crc);
        packed
    }

    fn numbers(base: u64, count: usize) -> Vec<u8> {
        batch(base, &vec![(Encoding::Json, None, Some(&b"1"[..]), &[][..]); count])
    }

    fn fetched(start: u64, next: u64, batches: Vec<u8>) -> Fetched {
        let offset = |n| Offset::new(n).unwrap();
        Fetched {
            start: offset(start),
            batches: batches.into(),
            next_offset: offset(next),
            high_watermark: offset(100),
            log_start: offset(0),
            leader_epoch: LeaderEpoch::ZERO,
            permit: std::sync::Arc::new(tidegate_cluster::Admission::new("test", 0).admit(0).unwrap()),
        }
    }

    fn roomy() -> Admission {
        Admission::new("test", usize::MAX)
    }

    fn write(fetched: &Fetched, rules: &PageRules) -> Result<Page, ApiError> {
        super::write(fetched, rules, &roomy())
    }

    fn find(batches: &Bytes, partition: PartitionIndex, offset: Offset) -> Result<Option<Found>, ApiError> {
        super::find(batches, partition, offset, &roomy()).map(|found| found.map(|(found, _)| found))
    }

    fn offsets(page: &Page) -> Vec<u64> {
        let body: Value = serde_json::from_slice(&page.body).unwrap();
        assert_eq!(body["next_offset"], page.next_offset.get());
        body["records"].as_array().unwrap().iter().map(|record| record["offset"].as_u64().unwrap()).collect()
    }

    /// A promise: each value comes in the shape it was given in, or in the one asked for, and never as JSON that it is not.
    #[test]
    fn values_keep_their_shape() {
        let deep = "[".repeat(129) + &"]".repeat(129);
        let cases: &[(Encoding, &[u8], [&str; 4])] = &[
            // auto, json, text, base64
            (Encoding::Json, b"{\"a\":1e400, \"a\":-0}", ["value", "value", "text", "base64"]),
            (Encoding::Json, b"not json", ["text", "text", "text", "base64"]),
            (Encoding::Json, b"\"\xff\"", ["base64", "base64", "base64", "base64"]),
            (Encoding::Json, b"", ["text", "text", "text", "base64"]),
            (Encoding::Json, deep.as_bytes(), ["text", "text", "text", "base64"]),
            (Encoding::Text, b"1", ["text", "value", "text", "base64"]),
            (Encoding::Text, b"\xff", ["base64", "base64", "base64", "base64"]),
            (Encoding::Bytes, b"1", ["base64", "value", "text", "base64"]),
            (Encoding::Bytes, b"", ["base64", "text", "text", "base64"]),
            (Encoding::Unknown, b"1", ["text", "value", "text", "base64"]),
            (Encoding::Unknown, b"\0\xfe", ["base64", "base64", "base64", "base64"]),
        ];
        for (encoding, value, expected) in cases {
            let shapes = [ValueShape::Auto, ValueShape::Json, ValueShape::Text, ValueShape::Base64];
            for (shape, name) in shapes.into_iter().zip(expected) {
                let fetched = fetched(0, 1, batch(0, &[(*encoding, None, Some(value), &[])]));
                let page = write(&fetched, &PageRules { shape, ..RULES }).unwrap();
                let body: std::collections::BTreeMap<String, &RawValue> = serde_json::from_slice(&page.body).unwrap();
                let records: Vec<std::collections::BTreeMap<String, &RawValue>> = serde_json::from_str(body["records"].get()).unwrap();
                let got = records[0].get(*name).unwrap_or_else(|| panic!("{encoding:?} {shape:?}: {:?}", records[0]));
                assert_eq!(records[0].len(), 4, "nothing but partition, offset, timestamp and the value");
                match *name {
                    "value" => assert_eq!(got.get().as_bytes(), *value),
                    "text" => assert_eq!(serde_json::from_str::<String>(got.get()).unwrap().as_bytes(), *value),
                    _ => assert_eq!(STANDARD.decode(serde_json::from_str::<String>(got.get()).unwrap()).unwrap(), *value),
                }
            }
        }
    }

    /// A promise: keys and headers come as they went in: absent, empty, null, twice, in order, or no UTF-8 at all.
    #[test]
    fn keys_and_headers_are_kept() {
        let headers = [
            Header { name: "b", value: Some(b"1") },
            Header { name: "a", value: Some(b"") },
            Header { name: "b", value: None },
            Header { name: "", value: Some(b"\xff") },
        ];
        let records = batch(
            0,
            &[
                (Encoding::Text, None, Some(b"x"), &[]),
                (Encoding::Text, Some(b""), None, &[]),
                (Encoding::Text, Some(b"\xff"), Some(b"x"), &headers),
            ],
        );
        let page = write(&fetched(0, 3, records), &RULES).unwrap();
        let body: Value = serde_json::from_slice(&page.body).unwrap();
        let expected = serde_json::json!([
            {"partition": 3, "offset": 0, "timestamp": 7, "text": "x"},
            {"partition": 3, "offset": 1, "timestamp": 7, "key": "", "tombstone": true},
            {"partition": 3, "offset": 2, "timestamp": 7, "key_base64": "/w==", "text": "x", "headers": [
                {"name": "b", "value": "1"}, {"name": "a", "value": ""}, {"name": "b"}, {"name": "", "base64": "/w=="}
            ]},
        ]);
        assert_eq!(body["records"], expected);
        assert_eq!((&body["high_watermark"], &body["caught_up"]), (&Value::from(100), &Value::from(false)));
    }

    /// A promise: pages that are read one after the other hold each record once, whatever bounds them.
    #[test]
    fn pages_join_without_a_gap() {
        let mut log = numbers(10, 5);
        log.extend(numbers(15, 1));
        log.extend(numbers(20, 4)); // A hole before it: compaction took a batch.
        for (max_records, max_bytes) in [(1, 1 << 20), (2, 1 << 20), (7, 1 << 20), (500, 1), (500, 150), (500, 1 << 20)] {
            let (mut next, mut seen) = (12, Vec::new());
            while next < 30 {
                let page = write(&fetched(next, 30, log.clone()), &PageRules { max_records, max_bytes, ..RULES }).unwrap();
                assert!(page.next_offset.get() > next, "{max_records} {max_bytes}");
                seen.extend(offsets(&page));
                next = page.next_offset.get();
            }
            assert_eq!(seen, [12, 13, 14, 15, 20, 21, 22, 23], "{max_records} {max_bytes}");
        }
    }

    /// A promise: control batches are passed over, and the position with them.
    #[test]
    fn control_batches_are_no_records() {
        let mut control = numbers(10, 1);
        control[22] |= 1 << 5;
        let crc = crc_of(&control);
        control[17..21].copy_from_slice(&crc);
        let mut log = control;
        log.extend(numbers(11, 1));
        let page = write(&fetched(10, 12, log.clone()), &RULES).unwrap();
        assert_eq!((offsets(&page), page.next_offset.get()), (vec![11], 12));
        assert_eq!(find(&log.into(), RULES.partition, Offset::new(10).unwrap()).unwrap(), None);
    }

    /// The CRC that a batch's bytes should have: what `verify` says it computed.
    fn crc_of(batch: &[u8]) -> [u8; 4] {
        let stored = StoredBatch::parse(&Bytes::copy_from_slice(batch)).unwrap();
        match stored.verify() {
            Err(BatchError::Crc { computed, .. }) => computed.to_be_bytes(),
            other => panic!("{other:?}"),
        }
    }

    /// A promise: a damaged batch is never given out; what is whole before it is, and then it is named.
    #[test]
    fn damage_is_named() {
        let mut damaged = numbers(11, 3);
        *damaged.last_mut().unwrap() ^= 1;
        let mut log = numbers(10, 1);
        log.extend(&damaged);
        let page = write(&fetched(10, 14, log.clone()), &RULES).unwrap();
        assert_eq!((offsets(&page), page.next_offset.get()), (vec![10], 11));
        let error = write(&fetched(11, 14, log.clone()), &RULES).unwrap_err();
        assert_eq!((error.code(), &error.extras()["offset"]), (ErrorCode::CorruptLog, &Value::from(11)));
        assert_eq!(find(&log.into(), RULES.partition, Offset::new(12).unwrap()).unwrap_err().code(), ErrorCode::CorruptLog);
    }

    /// A promise: where compaction took a record out of a batch nothing is found, and pages go on behind it.
    #[test]
    fn holes_within_a_batch_are_no_records() {
        let mut holed = numbers(5, 2);
        let second_delta = BATCH_HEADER_BYTES + (holed.len() - BATCH_HEADER_BYTES) / 2 + 3;
        assert_eq!(holed[second_delta], 2, "the second record's offset delta, as a varint");
        holed[second_delta] = 4;
        holed[26] = 2; // The last offset delta.
        let crc = crc_of(&holed);
        holed[17..21].copy_from_slice(&crc);
        let log = Bytes::from(holed);
        let find = |offset| find(&log, RULES.partition, Offset::new(offset).unwrap()).unwrap();
        assert!(find(5).is_some() && find(6).is_none() && find(7).is_some());
        let page = write(&fetched(6, 8, log.to_vec()), &RULES).unwrap();
        assert_eq!((offsets(&page), page.next_offset.get()), (vec![7], 8));
    }

    /// A promise: a page and what its batches unpack to are counted before they can overrun the node, and are given back after.
    #[test]
    fn pages_count_before_they_are_there() {
        let plain = vec![b'x'; 500_000];
        let log = packed(&[(Encoding::Text, None, Some(&plain[..]), &[][..])]);
        assert!(log.len() < 10_000, "a small batch that unpacks to a large one");
        let one = fetched(0, 1, log.clone());
        for (room, is_enough) in [(5_000, false), (400_000, false), (600_000, false), (2_000_000, true)] {
            let admission = Admission::new("test", room);
            let page = super::write(&one, &RULES, &admission);
            match &page {
                Ok(page) => assert!(is_enough && admission.used() == page.permit.amount() && page.permit.amount() >= page.body.capacity()),
                Err(error) => assert!(!is_enough && error.code() == ErrorCode::Overloaded, "{room}: {error:?}"),
            }
            drop(page);
            assert_eq!(admission.used(), 0);
            let found = super::find(&log.clone().into(), RULES.partition, Offset::new(0).unwrap(), &admission);
            match &found {
                Ok(found) => assert!(is_enough && admission.used() == 500_000 && found.is_some()),
                Err(error) => assert!(!is_enough && error.code() == ErrorCode::Overloaded, "{room}: {error:?}"),
            }
            drop(found);
            assert_eq!(admission.used(), 0);
        }
    }

    /// A promise: what grows as it is escaped is counted as it grew, and a page ends where there is no more room.
    #[test]
    fn pages_end_where_there_is_no_room() {
        let grows = [1; 50_000]; // Each byte becomes six.
        let record: Given<'_> = (Encoding::Text, None, Some(&grows[..]), &[][..]);
        let all = fetched(0, 5, batch(0, &[record; 5]));
        let admission = Admission::new("test", 1_000_000);
        let page = super::write(&all, &PageRules { max_bytes: 10 << 20, ..RULES }, &admission).unwrap();
        assert!(page.permit.amount() >= page.body.capacity().min(page.body.len()) && page.permit.amount() <= 1_000_000);
        let count = offsets(&page).len();
        assert!((1..5).contains(&count), "{count}");
        assert_eq!(page.next_offset.get(), count as u64);
    }

    /// A promise: a record is found by its offset, and only there.
    #[test]
    fn records_are_found() {
        let header = [Header { name: "Content-Type", value: Some(b"image/png") }];
        let mut log = batch(5, &[(Encoding::Bytes, Some(b"k"), Some(b"v"), &header), (Encoding::Bytes, None, None, &[])]);
        log.extend(numbers(9, 1));
        let log = Bytes::from(log);
        let find = |offset| find(&log, RULES.partition, Offset::new(offset).unwrap()).unwrap();
        let first = find(5).unwrap();
        assert_eq!((first.value.as_deref(), first.key.as_deref()), (Some(&b"v"[..]), Some(&b"k"[..])));
        assert_eq!((first.content_type.as_deref(), first.timestamp), (Some(&b"image/png"[..]), 7));
        assert_eq!(find(6).unwrap().value, None);
        assert!(find(7).is_none() && find(4).is_none() && find(10).is_none() && find(9).is_some());
    }

    proptest! {
        /// A promise: whatever bytes are stored under whatever mark, the page is JSON and the bytes can be had back from it.
        #[test]
        fn any_bytes_come_back(
            records in proptest::collection::vec((0_u8..4, any::<Option<Vec<u8>>>(), any::<Option<Vec<u8>>>()), 1..8)
        ) {
            let given: Vec<Given<'_>> = records
                .iter()
                .map(|(mark, key, value)| (Encoding::from_attributes(*mark), key.as_deref(), value.as_deref(), &[][..]))
                .collect();
            let page = write(&fetched(0, 9, batch(0, &given)), &RULES).unwrap();
            let body: Value = serde_json::from_slice(&page.body).unwrap();
            for (record, (_, key, value)) in body["records"].as_array().unwrap().iter().zip(&records) {
                let bytes = |text: &str, base64: &str| match (&record[text], &record[base64]) {
                    (Value::String(text), _) => Some(text.clone().into_bytes()),
                    (_, Value::String(text)) => Some(STANDARD.decode(text).unwrap()),
                    _ => None,
                };
                prop_assert_eq!(&bytes("key", "key_base64"), key);
                if record.get("value").is_none() {
                    prop_assert_eq!(&bytes("text", "base64"), value);
                }
                prop_assert_eq!(record.get("tombstone").is_some(), value.is_none());
            }
        }
    }
}
