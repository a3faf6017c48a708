//! Records on their way into record sets: every rule is checked here, before anything is written.
//!
//! Its promise: **all records of a request or none.** A broken rule does not end the walk, so that a client learns of all its bad records
//! at once; but what has one bad record makes no record set.

use std::borrow::Cow;

use serde_json::json;
use tidegate_cluster::{Error, Topic};
use tidegate_types::limits::BATCH_HEADER_BYTES;
use tidegate_types::record::Header;
use tidegate_types::record_set::RecordError;
use tidegate_types::topic_config::TimestampType;
use tidegate_types::{Encoding, ErrorCode, Limits, Offset, PartitionIndex, RecordSet, RecordSetBuilder, Timestamp, TopicConfig};

use super::envelope::{Draft, DraftHeader, ReadError};
use crate::error::{ApiError, nearest};
use crate::json::line_and_column;

/// Bad records that one answer lists.
const REJECTIONS_MAX: usize = 100;

/// The earliest and the latest timestamp that a topic accepts, in ms: never negative, and never more than JSON readers can hold.
pub(crate) fn accepted_timestamps(config: &TopicConfig, now: Timestamp) -> (i64, i64) {
    let largest = Offset::MAX.to_i64();
    if config.timestamp_type == TimestampType::LogAppendTime {
        return (0, largest); // What the producer says is replaced.
    }
    let (earliest, latest) = config.timestamp_range(now);
    (earliest, latest.min(largest))
}

/// Why a body makes no record sets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum CollectError {
    /// It could not be read.
    Read(ReadError),
    /// More records than one request may have.
    TooMany,
    /// A record names a partition that the topic does not have.
    NoPartition {
        /// Its place in the request.
        index: usize,
        /// The partition.
        partition: PartitionIndex,
    },
    /// A record is larger than any batch of the topic.
    TooLarge {
        /// Its place in the request.
        index: usize,
        /// Bytes that it takes at least.
        actual: usize,
    },
}

impl From<ReadError> for CollectError {
    fn from(error: ReadError) -> Self {
        Self::Read(error)
    }
}

/// A rule that a record breaks.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Broken {
    /// JSON pointer from the record.
    pointer: Cow<'static, str>,
    /// Kebab-case name of the rule.
    rule: &'static str,
    detail: Cow<'static, str>,
}

impl Broken {
    fn new(pointer: impl Into<Cow<'static, str>>, rule: &'static str, detail: impl Into<Cow<'static, str>>) -> Self {
        Self { pointer: pointer.into(), rule, detail: detail.into() }
    }
}

/// A broken rule, and by which record.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Rejection {
    index: usize,
    broken: Broken,
}

/// Where one record of a request went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Placement {
    /// Which part of the produce.
    pub(crate) part: usize,
    /// Its timestamp, in ms.
    pub(crate) timestamp: i64,
}

/// Records that may be written.
#[derive(Debug)]
pub(crate) struct Collected {
    /// One record set a partition.
    pub(crate) parts: Vec<(PartitionIndex, RecordSet)>,
    /// Where each record went, in the order of the request.
    pub(crate) placements: Vec<Placement>,
}

/// What records are checked against.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rules<'c> {
    /// The topic that they go to.
    pub(crate) topic: &'c Topic,
    /// The partition, if the path names it.
    pub(crate) partition: Option<PartitionIndex>,
    /// The node's bounds.
    pub(crate) limits: &'c Limits,
    /// The timestamp of records that bring none.
    pub(crate) now: Timestamp,
    /// Bytes of the body, from which the room that is needed is guessed.
    pub(crate) body_bytes: usize,
    /// Whether each record is a text of its own (a line, a body) rather than one of an envelope's.
    pub(crate) is_alone: bool,
}

/// A record whose fields are bytes.
#[derive(Debug)]
pub(crate) struct Plain<'p, H> {
    pub(crate) key: Option<&'p [u8]>,
    pub(crate) encoding: Encoding,
    /// `None` is a tombstone.
    pub(crate) value: Option<&'p [u8]>,
    pub(crate) timestamp: Option<i64>,
    pub(crate) partition: Option<u32>,
    pub(crate) headers: H,
}

/// The records for one partition.
struct Part<'c> {
    partition: PartitionIndex,
    set: RecordSetBuilder<'c>,
    /// Bytes that they take in a batch at most, its header included.
    bytes: usize,
}

/// Checks records and sorts them by partition.
pub(crate) struct Collector<'c, R> {
    rules: Rules<'c>,
    accepted: (i64, i64),
    /// The partition of a key, or of records without one.
    route: R,
    /// Asked once a request: records without a key stay together.
    keyless: Option<PartitionIndex>,
    parts: Vec<Part<'c>>,
    /// By partition: its place in `parts` + 1, or 0.
    slots: Vec<usize>,
    placements: Vec<Placement>,
    rejections: Vec<Rejection>,
    rejected: usize,
}

impl<'c, R: Fn(Option<&[u8]>) -> PartitionIndex> Collector<'c, R> {
    /// An empty one.
    pub(crate) fn new(rules: Rules<'c>, route: R) -> Self {
        let slots = if rules.partition.is_some() { 0 } else { rules.topic.partitions.len() };
        Self {
            rules,
            accepted: accepted_timestamps(&rules.topic.config, rules.now),
            route,
            keyless: None,
            parts: Vec::new(),
            slots: vec![0; slots],
            placements: Vec::with_capacity(records_guess(&rules)),
            rejections: Vec::new(),
            rejected: 0,
        }
    }

    /// Whether the record still fits into the batch of its partition with those before it. The first one always does: whether it is too
    /// large by itself is another question.
    pub(crate) fn has_room(&mut self, draft: &Draft<'_>) -> bool {
        let Ok(record) = plain_of(draft) else { return true };
        let Ok(partition) = self.partition_of(record.partition, record.key) else { return true };
        let slot = usize::try_from(partition.get()).unwrap_or(usize::MAX);
        let place = if self.rules.partition.is_some() { Some(1) } else { self.slots.get(slot).copied() };
        let part = place.and_then(|place| place.checked_sub(1)).and_then(|place| self.parts.get(place));
        let taken = part.map_or(0, |part| part.bytes);
        taken == 0 || taken + bytes_at_most(draft) <= self.rules.topic.config.batch_bytes_max
    }

    /// Records so far.
    pub(crate) fn len(&self) -> usize {
        self.placements.len() + self.rejected
    }

    /// Checks the record at `index` and takes it; a broken rule is kept for [`Collector::finish`].
    pub(crate) fn push(&mut self, index: usize, draft: &Draft<'_>) -> Result<(), CollectError> {
        self.admit(index, bytes_at_least(draft), draft.partition)?;
        let taken = plain_of(draft).and_then(|record| self.take(record)).map(|part| self.parts[part].bytes += bytes_at_most(draft));
        self.keep(index, taken);
        Ok(())
    }

    /// As [`Collector::push`], for the only record of a request.
    pub(crate) fn push_only<'h>(&mut self, record: Plain<'_, impl ExactSizeIterator<Item = Header<'h>>>) -> Result<(), CollectError> {
        let actual = BATCH_HEADER_BYTES + record.key.map_or(0, <[u8]>::len) + record.value.map_or(0, <[u8]>::len);
        self.admit(0, actual, record.partition)?;
        let taken = self.take(record).map(|_| ());
        self.keep(0, taken);
        Ok(())
    }

    /// Refuses what ends the walk: nothing more needs to be known of the request.
    fn admit(&self, index: usize, actual: usize, partition: Option<u32>) -> Result<(), CollectError> {
        if self.len() >= self.rules.limits.records_per_request {
            return Err(CollectError::TooMany);
        }
        if actual > self.rules.topic.config.batch_bytes_max {
            return Err(CollectError::TooLarge { index, actual });
        }
        match partition.map(PartitionIndex::new) {
            Some(partition) if self.rules.topic.partition(partition).is_none() => Err(CollectError::NoPartition { index, partition }),
            Some(_) | None => Ok(()),
        }
    }

    fn keep(&mut self, index: usize, taken: Result<(), Broken>) {
        if let Err(broken) = taken {
            self.rejected += 1;
            if self.rejections.len() < REJECTIONS_MAX {
                self.rejections.push(Rejection { index, broken });
            }
        }
    }

    /// The rules that were broken so far, which are forgotten: the other records stay good.
    pub(crate) fn take_rejection(&mut self) -> Option<ApiError> {
        let rejected_count = std::mem::take(&mut self.rejected);
        let rejections = std::mem::take(&mut self.rejections);
        (rejected_count > 0).then(|| rejected(&rejections, rejected_count, self.rules.is_alone))
    }

    /// Checks a record and puts it into its part, which is returned.
    fn take<'h>(&mut self, record: Plain<'_, impl ExactSizeIterator<Item = Header<'h>>>) -> Result<usize, Broken> {
        let timestamp = self.timestamp_of(record.timestamp)?;
        if record.key.is_none() && self.rules.topic.config.cleanup_policy.compact {
            return Err(Broken::new("/key", "key-required", "the topic is compacted, so every record needs a key"));
        }
        let partition = self.partition_of(record.partition, record.key)?;
        let part = self.part_of(partition);
        let set = &mut self.parts[part].set;
        set.push(timestamp, record.encoding, record.key, record.value, record.headers).map_err(|error| over_limit(&error))?;
        self.placements.push(Placement { part, timestamp: timestamp.millis() });
        Ok(part)
    }

    fn timestamp_of(&self, asked: Option<i64>) -> Result<Timestamp, Broken> {
        let Some(timestamp) = asked else {
            return Ok(self.rules.now);
        };
        let (earliest, latest) = self.accepted;
        if (earliest..=latest).contains(&timestamp) {
            let is_replaced = self.rules.topic.config.timestamp_type == TimestampType::LogAppendTime;
            return Ok(if is_replaced { self.rules.now } else { Timestamp::from_millis(timestamp) });
        }
        let detail = format!("the topic accepts timestamps from {earliest} to {latest} ms now");
        Err(Broken::new("/timestamp", "timestamp-out-of-range", detail))
    }

    fn partition_of(&mut self, asked: Option<u32>, key: Option<&[u8]>) -> Result<PartitionIndex, Broken> {
        match (self.rules.partition, asked.map(PartitionIndex::new)) {
            (Some(fixed), None) => Ok(fixed),
            (Some(fixed), Some(asked)) if asked == fixed => Ok(fixed),
            (Some(_), Some(_)) => Err(Broken::new("/partition", "partition-differs", "the record names another partition than the path")),
            (None, Some(asked)) => Ok(asked),
            (None, None) if key.is_some() => Ok((self.route)(key)),
            (None, None) => Ok(*self.keyless.get_or_insert_with(|| (self.route)(None))),
        }
    }

    /// The place in `parts` of a partition's record set, which is begun if need be.
    fn part_of(&mut self, partition: PartitionIndex) -> usize {
        if self.rules.partition.is_some() {
            if self.parts.is_empty() {
                self.begin(partition, 1);
            }
            return 0;
        }
        // A partition beyond the topic's own would be the router's mistake; it gets a set of its own and is refused further down.
        let slot = usize::try_from(partition.get()).unwrap_or(usize::MAX);
        match self.slots.get(slot).copied() {
            Some(0) => {
                self.begin(partition, self.slots.len());
                self.slots[slot] = self.parts.len();
                self.parts.len() - 1
            }
            Some(place) => place - 1,
            None => {
                self.begin(partition, self.slots.len());
                self.parts.len() - 1
            }
        }
    }

    /// Begins a record set with room for its share, if the records spread over `partitions`.
    fn begin(&mut self, partition: PartitionIndex, partitions: usize) {
        let share = partitions.clamp(1, 8); // Many partitions seldom all get something.
        let (records, bytes) = (records_guess(&self.rules) / share + 1, self.rules.body_bytes / share + 64);
        let set = RecordSetBuilder::with_capacity(self.rules.limits, records, bytes);
        self.parts.push(Part { partition, set, bytes: BATCH_HEADER_BYTES });
    }

    /// The record sets, if no record broke a rule.
    ///
    /// # Errors
    /// 422 `record-rejected` with the broken rules, or `validation-failed` if there are no records.
    pub(crate) fn finish(self) -> Result<Collected, ApiError> {
        if self.rejected > 0 {
            return Err(rejected(&self.rejections, self.rejected, self.rules.is_alone));
        }
        if self.placements.is_empty() {
            return Err(ApiError::invalid("/records", "empty", "at least one record is needed"));
        }
        // A set is empty if the record that it was begun for was refused after all; nothing was taken after that one.
        let parts = self.parts.into_iter().filter(|part| !part.set.is_empty()).map(|part| (part.partition, part.set.finish())).collect();
        Ok(Collected { parts, placements: self.placements })
    }
}

/// The record that `draft` stands for.
fn plain_of<'d>(draft: &'d Draft<'_>) -> Result<Plain<'d, impl ExactSizeIterator<Item = Header<'d>>>, Broken> {
    let headers = draft.headers.as_deref().unwrap_or_default();
    if let Some(at) = headers.iter().position(|header| header.value.is_some() && header.base64.is_some()) {
        let pointer = format!("/headers/{at}");
        return Err(Broken::new(pointer, "at-most-one-of", "a header has at most one of value and base64"));
    }
    let key = key_of(draft)?;
    let (encoding, value) = value_of(draft)?;
    let (timestamp, partition) = (draft.timestamp, draft.partition);
    Ok(Plain { key, encoding, value, timestamp, partition, headers: headers.iter().map(header_of) })
}

/// A record of few bytes still takes some to say.
fn records_guess(rules: &Rules<'_>) -> usize {
    (rules.body_bytes / 100 + 1).min(rules.limits.records_per_request)
}

/// What a batch with nothing but this record has at least.
fn bytes_at_least(draft: &Draft<'_>) -> usize {
    let text = |text: &Option<Cow<'_, str>>| text.as_ref().map_or(0, |text| text.len());
    let bytes = |bytes: &Option<Vec<u8>>| bytes.as_ref().map_or(0, Vec::len);
    let headers = draft.headers.as_deref().unwrap_or_default();
    let headers: usize = headers.iter().map(|header| text(&header.name) + text(&header.value) + bytes(&header.base64)).sum();
    let value = draft.value.map_or(0, str::len) + text(&draft.text) + bytes(&draft.base64);
    BATCH_HEADER_BYTES + text(&draft.key) + bytes(&draft.key_base64) + value + headers
}

/// What the record adds to a batch at most: 36 bytes hold its length, attributes, deltas, the lengths of key and value and the number of
/// its headers; 10 hold the two lengths of a header.
fn bytes_at_most(draft: &Draft<'_>) -> usize {
    36 + 10 * draft.headers.as_ref().map_or(0, Vec::len) + bytes_at_least(draft) - BATCH_HEADER_BYTES
}

fn key_of<'d>(draft: &'d Draft<'_>) -> Result<Option<&'d [u8]>, Broken> {
    match (&draft.key, &draft.key_base64) {
        (Some(_), Some(_)) => Err(Broken::new("/key", "at-most-one-of", "a record has at most one of key and key_base64")),
        (Some(key), None) => Ok(Some(key.as_bytes())),
        (None, key) => Ok(key.as_deref()),
    }
}

fn value_of<'d>(draft: &'d Draft<'_>) -> Result<(Encoding, Option<&'d [u8]>), Broken> {
    match (draft.value, &draft.text, &draft.base64, draft.tombstone.unwrap_or(false)) {
        (Some(json), None, None, false) => Ok((Encoding::Json, Some(json.as_bytes()))),
        (None, Some(text), None, false) => Ok((Encoding::Text, Some(text.as_bytes()))),
        (None, None, Some(bytes), false) => Ok((Encoding::Bytes, Some(bytes))),
        (None, None, None, true) => Ok((Encoding::Unknown, None)),
        _ => Err(Broken::new("", "exactly-one-of", "a record has exactly one of value, text, base64 and tombstone: true")),
    }
}

fn header_of<'d>(header: &'d DraftHeader<'_>) -> Header<'d> {
    let value = header.value.as_ref().map(|value| value.as_bytes()).or(header.base64.as_deref());
    Header { name: header.name.as_deref().unwrap_or_default(), value }
}

fn over_limit(error: &RecordError) -> Broken {
    let (pointer, rule) = match error {
        RecordError::KeyTooLong { .. } => ("/key", "key-too-long"),
        RecordError::TooManyHeaders { .. } => ("/headers", "too-many-headers"),
        RecordError::HeadersTooLong { .. } => ("/headers", "headers-too-long"),
    };
    Broken::new(pointer, rule, error.to_string())
}

fn rejected(rejections: &[Rejection], rejected: usize, is_alone: bool) -> ApiError {
    let errors: Vec<_> = rejections.iter().map(|rejection| rejection_json(rejection, is_alone)).collect();
    let first = rejections.first().map_or("a record breaks a rule", |first| first.broken.detail.as_ref());
    let detail = match rejected {
        0 | 1 => first.to_owned(),
        more => format!("{more} records break rules; the first: {first}"),
    };
    ApiError::new(ErrorCode::RecordRejected, detail).with("errors", errors)
}

fn rejection_json(rejection: &Rejection, is_alone: bool) -> serde_json::Value {
    let Rejection { index, broken } = rejection;
    let mut error = json!({"pointer": broken.pointer, "code": broken.rule, "detail": broken.detail});
    if !is_alone {
        error["index"] = json!(index);
        error["pointer"] = json!(format!("/records/{index}{}", broken.pointer));
    }
    error
}

/// The problem that `error` is, on reading `text` under `rules`.
pub(crate) fn problem(error: CollectError, text: &str, rules: &Rules<'_>) -> ApiError {
    let limits = rules.limits;
    match error {
        CollectError::TooMany => {
            let detail = format!("a request has at most {} records", limits.records_per_request);
            ApiError::invalid("/records", "too-many", detail).with("limit", limits.records_per_request)
        }
        CollectError::TooLarge { index, actual } => {
            too_large((!rules.is_alone).then_some(index), actual, rules.topic.config.batch_bytes_max)
        }
        CollectError::NoPartition { index, partition } => {
            let partitions = rules.topic.partition_count();
            let error = Error::PartitionNotFound { topic: rules.topic.name.clone(), partition, partitions };
            ApiError::from(error).with_some("index", (!rules.is_alone).then_some(index))
        }
        CollectError::Read(ReadError::Malformed { at, pointer, reason }) => {
            let (line, column) = line_and_column(text, at);
            let detail = format!("line {line}, column {column}: {reason}");
            let problem = ApiError::malformed_body(detail).with("pointer", pointer).with("column", column);
            if rules.is_alone { problem } else { problem.with("line", line) }
        }
        CollectError::Read(ReadError::TooDeep { pointer }) => {
            let detail = format!("a value is nested deeper than {} levels", limits.json_depth);
            let error = json!({"pointer": pointer, "code": "too-deep", "detail": detail});
            ApiError::new(ErrorCode::RecordRejected, detail).with("errors", vec![error])
        }
        CollectError::Read(ReadError::Missing { pointer }) => {
            let field = pointer.rsplit('/').next().unwrap_or_default();
            if pointer == "/records" {
                let detail = format!("the field '{field}' is required");
                return ApiError::invalid(pointer, "required", detail);
            }
            ApiError::malformed_body(format!("the field '{field}' is missing")).with("pointer", pointer)
        }
        CollectError::Read(ReadError::UnknownField { at, pointer, known }) => {
            let (line, column) = line_and_column(text, at);
            let field = pointer.rsplit('/').next().unwrap_or_default().to_owned();
            let did_you_mean = nearest(&field, known.iter().copied());
            let problem = ApiError::new(ErrorCode::UnknownField, format!("line {line}, column {column}: there is no such field"))
                .with_some("did_you_mean", did_you_mean)
                .with("field", shortened(field))
                .with("pointer", shortened(pointer));
            if rules.is_alone { problem } else { problem.with("line", line) }
        }
    }
}

/// A client's own words are given back to it, but not at length.
fn shortened(mut words: String) -> String {
    if let Some((end, _)) = words.char_indices().nth(200) {
        words.truncate(end);
        words.push('…');
    }
    words
}

/// 413 `record-too-large`.
pub(crate) fn too_large(index: Option<usize>, actual: usize, limit: usize) -> ApiError {
    let subject = index.map_or_else(|| "what is to be one batch".to_owned(), |index| format!("record {index}"));
    let detail = format!("{subject} takes {actual} bytes, more than max.message.bytes = {limit}");
    ApiError::new(ErrorCode::RecordTooLarge, detail).with_some("index", index).with("actual", actual).with("limit", limit)
}

impl Collected {
    /// The place in the request of the record that stands at `index` in `part`.
    pub(crate) fn request_index(placements: &[Placement], part: usize, index: usize) -> usize {
        let of_part = placements.iter().enumerate().filter(|(_, placement)| placement.part == part);
        of_part.map(|(place, _)| place).nth(index).unwrap_or(index)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use tidegate_cluster::PartitionState;
    use tidegate_types::{LeaderEpoch, TopicId, TopicName};

    use super::super::envelope::{Strictness, read_envelope};
    use super::*;

    fn topic(partitions: usize, config: &[(&str, &str)]) -> Topic {
        let overrides: BTreeMap<_, _> = config.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let state = PartitionState { replicas: vec![], in_sync: vec![], leader: None, leader_epoch: LeaderEpoch::ZERO };
        Topic {
            id: TopicId::new(uuid::Uuid::nil()),
            name: TopicName::new("t").unwrap(),
            partitions: vec![state; partitions],
            replication_factor: 1,
            config: TopicConfig::from_overrides(&overrides).unwrap(),
            overrides,
            created_at: Timestamp::from_millis(0),
        }
    }

    const NOW: Timestamp = Timestamp::from_millis(1_000_000_000);

    fn collect(topic: &Topic, partition: Option<u32>, limits: &Limits, text: &str) -> Result<Collected, ApiError> {
        let partition = partition.map(PartitionIndex::new);
        let rules = Rules { topic, partition, limits, now: NOW, body_bytes: text.len(), is_alone: false };
        // Keys name their partition; records without one go to the last.
        let route = |key: Option<&[u8]>| {
            let last = topic.partition_count() - 1;
            PartitionIndex::new(key.and_then(|key| std::str::from_utf8(key).ok()?.parse().ok()).unwrap_or(last))
        };
        let mut collector = Collector::new(rules, route);
        read_envelope(text, limits.json_depth, &mut Strictness::default(), |index, draft| collector.push(index, draft))
            .map_err(|error| problem(error, text, &rules))?;
        collector.finish()
    }

    fn rules_broken(result: Result<Collected, ApiError>) -> Vec<(u64, String, String)> {
        let error = result.unwrap_err();
        assert_eq!(error.code(), ErrorCode::RecordRejected, "{error:?}");
        let errors = error.extras()["errors"].as_array().unwrap().clone();
        errors
            .iter()
            .map(|e| (e["index"].as_u64().unwrap(), e["pointer"].as_str().unwrap().into(), e["code"].as_str().unwrap().into()))
            .collect()
    }

    /// A promise: records go where they say, or where their key does; those without a key stay together; places are remembered.
    #[test]
    fn records_are_sorted_by_partition() {
        let topic = topic(3, &[]);
        let text = r#"{"records":[{"key":"1","value":1},{"value":2},{"partition":1,"text":"a"},{"text":"b"},{"key":"0","tombstone":true,"timestamp":5}]}"#;
        let collected = collect(&topic, None, &Limits::default(), text).unwrap();
        let parts: Vec<_> = collected.parts.iter().map(|(partition, set)| (partition.get(), set.len())).collect();
        assert_eq!(parts, [(1, 2), (2, 2), (0, 1)]);
        let places: Vec<_> = collected.placements.iter().map(|p| (p.part, p.timestamp)).collect();
        let now = NOW.millis();
        assert_eq!(places, [(0, now), (1, now), (0, now), (1, now), (2, 5)]);
        assert_eq!(Collected::request_index(&collected.placements, 1, 1), 3);
        assert_eq!(Collected::request_index(&collected.placements, 2, 0), 4);
    }

    /// A promise: every bad record is listed with its pointer and its rule, and nothing comes of the good ones.
    #[test]
    fn every_bad_record_is_listed() {
        let topic = topic(2, &[("cleanup.policy", "compact"), ("message.timestamp.after.max.ms", "10")]);
        let limits = Limits { key_bytes: 3, headers_per_record: 1, header_bytes_per_record: 8, ..Limits::default() };
        let text = r#"{"records":[
            {"key":"0","value":null},
            {"value":1},
            {"key":"0"},
            {"key":"0","tombstone":false},
            {"key":"0","value":1,"text":"a"},
            {"key":"0","value":1,"tombstone":true},
            {"key":"0","key_base64":"AA==","value":1},
            {"key":"0","value":1,"headers":[{"name":"a","value":"b","base64":""}]},
            {"key":"0","value":1,"timestamp":-1},
            {"key":"0","value":1,"timestamp":1000000011},
            {"key":"0000","value":1},
            {"key":"0","value":1,"headers":[{"name":"a"},{"name":"a"}]},
            {"key":"0","value":1,"headers":[{"name":"a","value":"12345678"}]}
        ]}"#;
        let expected = [
            (1, "/key", "key-required"),
            (2, "", "exactly-one-of"),
            (3, "", "exactly-one-of"),
            (4, "", "exactly-one-of"),
            (5, "", "exactly-one-of"),
            (6, "/key", "at-most-one-of"),
            (7, "/headers/0", "at-most-one-of"),
            (8, "/timestamp", "timestamp-out-of-range"),
            (9, "/timestamp", "timestamp-out-of-range"),
            (10, "/key", "key-too-long"),
            (11, "/headers", "too-many-headers"),
            (12, "/headers", "headers-too-long"),
        ];
        let expected: Vec<_> =
            expected.iter().map(|(i, pointer, rule)| (*i, format!("/records/{i}{pointer}"), (*rule).to_owned())).collect();
        assert_eq!(rules_broken(collect(&topic, None, &limits, text)), expected);
    }

    /// A promise: a record may repeat the path's partition but not contradict it.
    #[test]
    fn the_paths_partition_holds() {
        let topic = topic(3, &[]);
        let text = r#"{"records":[{"key":"0","value":1},{"partition":2,"value":1}]}"#;
        let collected = collect(&topic, Some(2), &Limits::default(), text).unwrap();
        assert_eq!((collected.parts.len(), collected.parts[0].0.get(), collected.parts[0].1.len()), (1, 2, 2));
        let broken = rules_broken(collect(&topic, Some(1), &Limits::default(), text));
        assert_eq!(broken, [(1, "/records/1/partition".into(), "partition-differs".into())]);
    }

    /// A promise: a piece ends where its batch would become too large, a bad line spoils none before it, and no empty set is made.
    #[test]
    fn pieces_end_in_time() {
        let topic = topic(2, &[("max.message.bytes", "1024")]);
        let limits = Limits { key_bytes: 1, ..Limits::default() };
        let rules = Rules { topic: &topic, partition: None, limits: &limits, now: NOW, body_bytes: 0, is_alone: true };
        let mut collector = Collector::new(rules, |_: Option<&[u8]>| PartitionIndex::new(1));
        let text = "x".repeat(100);
        let draft = Draft { text: Some(text.as_str().into()), ..Draft::default() };
        let mut count = 0;
        while collector.has_room(&draft) {
            collector.push(count, &draft).unwrap();
            count += 1;
        }
        let elsewhere = Draft { partition: Some(0), ..draft.clone() };
        assert!(count >= 6 && collector.has_room(&elsewhere));
        let bad = Draft { key: Some("long".into()), ..elsewhere };
        collector.push(0, &bad).unwrap();
        assert_eq!(collector.take_rejection().unwrap().extras()["errors"][0]["pointer"], "/key");
        let collected = collector.finish().unwrap();
        assert_eq!((collected.parts.len(), collected.placements.len()), (1, count));
        let set = &collected.parts[0].1;
        assert!(set.bytes() + BATCH_HEADER_BYTES <= 1024, "the broker judges a set by this");
    }

    /// A promise: no answer lists more than a hundred bad records, and it says how many there were.
    #[test]
    fn lists_are_bounded() {
        let text = format!(r#"{{"records":[{}{{}}]}}"#, "{},".repeat(249));
        let error = collect(&topic(1, &[]), None, &Limits::default(), &text).unwrap_err();
        assert_eq!(error.extras()["errors"].as_array().unwrap().len(), 100);
        assert!(error.detail().starts_with("250 records"), "{}", error.detail());
    }

    /// A promise: what cannot be read is 400, what breaks a rule is 422, what is too large is 413, each with its code.
    #[test]
    fn problems_have_their_codes() {
        let limits = Limits { records_per_request: 2, json_depth: 2, ..Limits::default() };
        let topic = topic(1, &[("max.message.bytes", "1024")]);
        let large = format!(r#"{{"records":[{{"value":1}},{{"text":"{}"}}]}}"#, "x".repeat(1000));
        for (text, code) in [
            (r#"{"records":[]}"#, ErrorCode::ValidationFailed),
            ("{}", ErrorCode::ValidationFailed),
            (r#"{"records":[{"value":1,"headers":[{"value":"x"}]}]}"#, ErrorCode::MalformedBody),
            (r#"{"records":[{"value":1,"partition":1}]}"#, ErrorCode::PartitionNotFound),
            (r#"{"records":[{"value":1},{"value":1},{"value":1}]}"#, ErrorCode::ValidationFailed),
            (r#"{"records":[{"value":[[[]]]}]}"#, ErrorCode::RecordRejected),
            (r#"{"records":[{"vaule":1}]}"#, ErrorCode::UnknownField),
            (r#"{"records":[{"value":1}"#, ErrorCode::MalformedBody),
            (&large, ErrorCode::RecordTooLarge),
        ] {
            assert_eq!(collect(&topic, None, &limits, text).unwrap_err().code(), code, "{text}");
        }
        let error = collect(&topic, None, &limits, r#"{"records":[{"vaule":1}]}"#).unwrap_err();
        assert_eq!((&error.extras()["did_you_mean"], &error.extras()["pointer"]), (&json!("value"), &json!("/records/0/vaule")));
        let error = collect(&topic, None, &limits, &large).unwrap_err();
        assert_eq!((&error.extras()["index"], &error.extras()["limit"]), (&json!(1), &json!(1024)));
    }

    /// A promise: a topic that stamps records itself takes any timestamp, and no topic takes what JSON readers cannot hold.
    #[test]
    fn timestamps_are_bounded() {
        let own = accepted_timestamps(&topic(1, &[("message.timestamp.type", "LogAppendTime")]).config, NOW);
        assert_eq!(own, (0, (1 << 53) - 1));
        let never = "9223372036854775807";
        let wide = [("message.timestamp.before.max.ms", never), ("message.timestamp.after.max.ms", never)];
        assert_eq!(accepted_timestamps(&topic(1, &wide).config, NOW), (0, (1 << 53) - 1));
        let narrow = [("message.timestamp.before.max.ms", "1"), ("message.timestamp.after.max.ms", "2")];
        assert_eq!(accepted_timestamps(&topic(1, &narrow).config, NOW), (NOW.millis() - 1, NOW.millis() + 2));
    }
}
