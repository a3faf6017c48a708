//! A partition's offsets, and where a fetch may begin (D29).

use std::time::Duration;

use serde::{Deserialize, Serialize};
use tidegate_cluster::{OffsetQuestion, OffsetReset, Offsets, Position};
use tidegate_types::{Offset, PartitionIndex};
use utoipa::{IntoParams, ToSchema};

use super::page::ValueShape;
use crate::error::ApiError;

/// A question about a partition's offsets; at most one.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(default)]
pub(crate) struct OffsetsQuery {
    /// The offset at this place.
    #[param(inline, nullable = false)]
    at: Option<AskedPlace>,
    /// The offset of the first record with a timestamp of at least this, in ms since 1970-01-01 UTC.
    #[param(nullable = false, maximum = 9_007_199_254_740_991_i64)]
    timestamp: Option<i64>,
}

/// A place to ask for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum AskedPlace {
    /// The earliest offset.
    Earliest,
    /// The high watermark.
    Latest,
    /// The record with the largest timestamp.
    MaxTimestamp,
}

impl OffsetsQuery {
    /// The question.
    ///
    /// # Errors
    /// 422 `validation-failed` if there are two.
    pub(crate) fn question(&self) -> Result<Option<OffsetQuestion>, ApiError> {
        match (self.at, self.timestamp) {
            (Some(_), Some(_)) => Err(ApiError::invalid("?timestamp", "at-most-one-of", "at most one of at and timestamp is given")),
            (Some(AskedPlace::Earliest), None) => Ok(Some(OffsetQuestion::Earliest)),
            (Some(AskedPlace::Latest), None) => Ok(Some(OffsetQuestion::Latest)),
            (Some(AskedPlace::MaxTimestamp), None) => Ok(Some(OffsetQuestion::MaxTimestamp)),
            (None, timestamp) => Ok(timestamp.map(OffsetQuestion::Timestamp)),
        }
    }
}

/// A partition's offsets.
#[derive(Debug, Serialize, ToSchema)]
#[schema(example = json!({"partition": 0, "earliest_offset": 0, "latest_offset": 84_194, "last_stable_offset": 84_194, "leader_epoch": 0}))]
pub(crate) struct PartitionOffsets {
    /// The partition.
    partition: u32,
    /// The first offset kept.
    #[schema(maximum = 9_007_199_254_740_991_i64)]
    earliest_offset: u64,
    /// The next offset to be readable.
    #[schema(maximum = 9_007_199_254_740_991_i64)]
    latest_offset: u64,
    /// Below it no transaction is open.
    #[schema(maximum = 9_007_199_254_740_991_i64)]
    last_stable_offset: u64,
    /// Version of the leadership.
    leader_epoch: i32,
    /// The answer to the question; absent if none was asked, or no record fits it.
    #[schema(nullable = false, maximum = 9_007_199_254_740_991_i64)]
    #[serde(skip_serializing_if = "Option::is_none")]
    offset: Option<u64>,
    /// Timestamp of the record at `offset`, if one stands there.
    #[schema(nullable = false, minimum = 0, maximum = 9_007_199_254_740_991_i64)]
    #[serde(skip_serializing_if = "Option::is_none")]
    timestamp: Option<i64>,
}

impl PartitionOffsets {
    /// The offsets of `partition`.
    pub(crate) fn new(partition: PartitionIndex, offsets: &Offsets) -> Self {
        Self {
            partition: partition.get(),
            earliest_offset: offsets.earliest.get(),
            latest_offset: offsets.latest.get(),
            last_stable_offset: offsets.last_stable.get(),
            leader_epoch: offsets.leader_epoch.get(),
            offset: offsets.answer.map(|(offset, _)| offset.get()),
            timestamp: offsets.answer.and_then(|(_, timestamp)| timestamp).map(|timestamp| timestamp.millis()),
        }
    }
}

/// One end of a partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum End {
    /// The earliest record.
    Earliest,
    /// What comes from now on.
    Latest,
}

/// Which records to fetch. At most one of `offset`, `timestamp`, `tail` and `at` says where to begin; without one it is `at=earliest`.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(default)]
pub(crate) struct FetchQuery {
    /// Begin at this offset.
    #[param(nullable = false, maximum = 9_007_199_254_740_991_i64)]
    offset: Option<u64>,
    /// Begin with the first record with a timestamp of at least this, in ms since 1970-01-01 UTC.
    #[param(nullable = false, maximum = 9_007_199_254_740_991_i64)]
    timestamp: Option<i64>,
    /// Begin so many records before the end.
    #[param(nullable = false, maximum = 9_007_199_254_740_991_i64)]
    tail: Option<u64>,
    /// Begin at this end.
    #[param(inline, nullable = false)]
    at: Option<End>,
    /// What to do if the position is gone: `error`, `earliest`, `latest`, or `duration:PT1H` for the first record that is no older.
    #[param(nullable = false, default = "error", pattern = "^(error|earliest|latest|duration:P.+)$")]
    offset_reset: Option<String>,
    /// Records at most.
    #[param(nullable = false, minimum = 1, maximum = 10_000, default = 500)]
    max_records: Option<usize>,
    /// Bytes at most; one record is given even if it is larger.
    #[param(nullable = false, minimum = 1, maximum = 67_108_864, default = 1_048_576)]
    max_bytes: Option<usize>,
    /// Bytes to wait for.
    #[param(nullable = false, minimum = 0, maximum = 67_108_864, default = 1)]
    min_bytes: Option<usize>,
    /// How long to wait for them, in ms; then the answer has no records.
    #[param(nullable = false, minimum = 0, maximum = 55_000, default = 0)]
    max_wait_ms: Option<u64>,
    /// The shape of the values: `auto` (if left out) as they were given, else all alike as far as they can be.
    #[param(inline, nullable = false)]
    encoding: Option<ValueShape>,
}

/// Which batches to fetch. At most one of `offset`, `timestamp`, `tail` and `at` says where to begin; without one it is `at=earliest`.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(default)]
pub(crate) struct FetchBatchesQuery {
    /// Begin with the batch that holds this offset.
    #[param(nullable = false, maximum = 9_007_199_254_740_991_i64)]
    offset: Option<u64>,
    /// Begin with the batch that holds the first record with a timestamp of at least this, in ms since 1970-01-01 UTC.
    #[param(nullable = false, maximum = 9_007_199_254_740_991_i64)]
    timestamp: Option<i64>,
    /// Begin so many records before the end.
    #[param(nullable = false, maximum = 9_007_199_254_740_991_i64)]
    tail: Option<u64>,
    /// Begin at this end.
    #[param(inline, nullable = false)]
    at: Option<End>,
    /// What to do if the position is gone: `error`, `earliest`, `latest`, or `duration:PT1H` for the first record that is no older.
    #[param(nullable = false, default = "error", pattern = "^(error|earliest|latest|duration:P.+)$")]
    offset_reset: Option<String>,
    /// Bytes at most; one batch is given even if it is larger.
    #[param(nullable = false, minimum = 1, maximum = 67_108_864, default = 1_048_576)]
    max_bytes: Option<usize>,
    /// Bytes to wait for.
    #[param(nullable = false, minimum = 0, maximum = 67_108_864, default = 1)]
    min_bytes: Option<usize>,
    /// How long to wait for them, in ms; then the answer is empty.
    #[param(nullable = false, minimum = 0, maximum = 55_000, default = 0)]
    max_wait_ms: Option<u64>,
}

/// Where a fetch begins, how much it takes and how long it waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct FetchPlan {
    pub(crate) position: Position,
    pub(crate) reset: OffsetReset,
    pub(crate) max_bytes: usize,
    pub(crate) min_bytes: usize,
    pub(crate) max_wait: Duration,
    pub(crate) max_records: usize,
    pub(crate) shape: ValueShape,
}

impl FetchPlan {
    /// The batch at `position`, if it is there now.
    pub(crate) fn one(position: Position) -> Self {
        Self {
            position,
            reset: OffsetReset::Error,
            max_bytes: 1,
            min_bytes: 0,
            max_wait: Duration::ZERO,
            max_records: 1,
            shape: ValueShape::Auto,
        }
    }
}

const MAX_RECORDS_DEFAULT: usize = 500;
const MAX_BYTES_DEFAULT: usize = 1 << 20;

impl FetchQuery {
    /// What is asked for, within `limits`.
    ///
    /// # Errors
    /// 400 `malformed-parameter`, 422 `validation-failed`.
    pub(crate) fn plan(self, limits: &tidegate_types::Limits) -> Result<FetchPlan, ApiError> {
        let max_records = self.max_records.unwrap_or(MAX_RECORDS_DEFAULT);
        within("?max_records", max_records, 1, limits.records_per_request)?;
        let shape = self.encoding.unwrap_or_default();
        let batches = FetchBatchesQuery {
            offset: self.offset,
            timestamp: self.timestamp,
            tail: self.tail,
            at: self.at,
            offset_reset: self.offset_reset,
            max_bytes: self.max_bytes,
            min_bytes: self.min_bytes,
            max_wait_ms: self.max_wait_ms,
        };
        Ok(FetchPlan { max_records, shape, ..batches.plan(limits)? })
    }
}

impl FetchBatchesQuery {
    /// What is asked for, within `limits`.
    ///
    /// # Errors
    /// 400 `malformed-parameter`, 422 `validation-failed`.
    pub(crate) fn plan(self, limits: &tidegate_types::Limits) -> Result<FetchPlan, ApiError> {
        let max_bytes = self.max_bytes.unwrap_or(MAX_BYTES_DEFAULT.min(limits.max_bytes));
        within("?max_bytes", max_bytes, 1, limits.max_bytes)?;
        let min_bytes = self.min_bytes.unwrap_or(1);
        within("?min_bytes", min_bytes, 0, limits.max_bytes)?;
        let max_wait_ms = self.max_wait_ms.unwrap_or(0);
        within("?max_wait_ms", max_wait_ms, 0, limits.max_wait_ms)?;
        Ok(FetchPlan {
            position: self.position()?,
            reset: self.offset_reset.as_deref().map_or(Ok(OffsetReset::Error), reset)?,
            max_bytes,
            // More than is taken would be waited for in vain.
            min_bytes: min_bytes.min(max_bytes),
            max_wait: Duration::from_millis(max_wait_ms),
            max_records: MAX_RECORDS_DEFAULT,
            shape: ValueShape::Auto,
        })
    }

    fn position(&self) -> Result<Position, ApiError> {
        if let Some(tail) = self.tail {
            within("?tail", tail, 0, Offset::MAX.get())?;
        }
        let given = [
            self.offset.map(Position::Offset),
            self.timestamp.map(Position::Timestamp),
            self.tail.map(Position::Tail),
            self.at.map(|end| match end {
                End::Earliest => Position::Earliest,
                End::Latest => Position::Latest,
            }),
        ];
        let mut given = given.into_iter().flatten();
        let position = given.next().unwrap_or(Position::Earliest);
        if given.next().is_some() {
            return Err(ApiError::invalid("?offset", "at-most-one-of", "at most one of offset, timestamp, tail and at is given"));
        }
        Ok(position)
    }
}

/// Requires `min ≤ number ≤ max` of a query parameter.
///
/// # Errors
/// 422 `validation-failed`.
pub(crate) fn within<N: Copy + PartialOrd + std::fmt::Display>(parameter: &'static str, number: N, min: N, max: N) -> Result<(), ApiError> {
    if number < min || number > max {
        let name = parameter.trim_start_matches('?');
        return Err(ApiError::invalid(parameter, "out-of-range", format!("{name} is from {min} to {max}")));
    }
    Ok(())
}

fn reset(text: &str) -> Result<OffsetReset, ApiError> {
    match text {
        "error" => Ok(OffsetReset::Error),
        "earliest" => Ok(OffsetReset::Earliest),
        "latest" => Ok(OffsetReset::Latest),
        other => match other.strip_prefix("duration:").and_then(duration) {
            Some(duration) => Ok(OffsetReset::Duration(duration)),
            None => Err(ApiError::malformed_parameter("offset_reset", "it is one of error, earliest, latest and duration:PT1H")),
        },
    }
}

/// A duration of ISO 8601 in whole weeks, days, hours, minutes and seconds, in that order (`P1DT12H`).
fn duration(text: &str) -> Option<Duration> {
    let mut rest = text.strip_prefix('P')?;
    let mut seconds = 0_u64;
    let mut units = [('W', 604_800), ('D', 86_400), ('T', 0), ('H', 3_600), ('M', 60), ('S', 1)].iter();
    let mut in_time = false;
    while !rest.is_empty() {
        if let Some(after) = rest.strip_prefix('T')
            && !in_time
        {
            units.find(|(unit, _)| *unit == 'T')?;
            in_time = true;
            rest = after;
            if rest.is_empty() {
                return None;
            }
            continue;
        }
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let number: u64 = rest[..digits].parse().ok()?;
        let unit = rest[digits..].chars().next()?;
        let (_, worth) = units.find(|(known, _)| *known == unit).filter(|_| in_time == "HMS".contains(unit))?;
        seconds = seconds.checked_add(number.checked_mul(*worth)?)?;
        rest = &rest[digits + 1..];
    }
    (text.len() > 1).then(|| Duration::from_secs(seconds))
}

#[cfg(test)]
mod tests {
    use tidegate_types::{ErrorCode, Limits};

    use super::*;

    /// A promise: durations are read as ISO 8601 writes them, and nothing else is one.
    #[test]
    fn durations_are_read() {
        for (text, seconds) in [("PT1H", 3600), ("P1DT12H", 129_600), ("P2W", 1_209_600), ("PT0S", 0), ("PT1M30S", 90), ("P1W1D", 691_200)]
        {
            assert_eq!(duration(text), Some(Duration::from_secs(seconds)), "{text}");
        }
        for wrong in [
            "",
            "P",
            "PT",
            "1H",
            "P1H",
            "PT1D",
            "PT1S1M",
            "PT1.5S",
            "PT-1S",
            "PTH",
            "PT1",
            "P1D2D",
            "PT1HT1M",
            "PT99999999999999999999S",
            "P1é",
        ] {
            assert_eq!(duration(wrong), None, "{wrong}");
        }
    }

    /// A promise: a fetch begins at one place, the earliest if none is named, and asks for no more than it may.
    #[test]
    fn plans_are_bounded() {
        let limits = Limits::default();
        let plan = FetchQuery::default().plan(&limits).unwrap();
        let expected = FetchPlan {
            position: Position::Earliest,
            reset: OffsetReset::Error,
            max_bytes: 1 << 20,
            min_bytes: 1,
            max_wait: Duration::ZERO,
            max_records: 500,
            shape: ValueShape::Auto,
        };
        assert_eq!(plan, expected);
        let tail = FetchQuery { tail: Some(3), max_bytes: Some(10), min_bytes: Some(20), ..FetchQuery::default() }.plan(&limits).unwrap();
        assert_eq!((tail.position, tail.min_bytes), (Position::Tail(3), 10));
        for query in [
            FetchQuery { offset: Some(1), at: Some(End::Latest), ..FetchQuery::default() },
            FetchQuery { timestamp: Some(1), tail: Some(1), ..FetchQuery::default() },
            FetchQuery { max_records: Some(0), ..FetchQuery::default() },
            FetchQuery { max_records: Some(10_001), ..FetchQuery::default() },
            FetchQuery { max_bytes: Some(0), ..FetchQuery::default() },
            FetchQuery { max_bytes: Some((64 << 20) + 1), ..FetchQuery::default() },
            FetchQuery { max_wait_ms: Some(55_001), ..FetchQuery::default() },
        ] {
            let shown = format!("{query:?}");
            assert_eq!(query.plan(&limits).unwrap_err().code(), ErrorCode::ValidationFailed, "{shown}");
        }
        let query = FetchQuery { offset_reset: Some("none".into()), ..FetchQuery::default() };
        assert_eq!(query.plan(&limits).unwrap_err().code(), ErrorCode::MalformedParameter);
    }

    /// A promise: one question at a time.
    #[test]
    fn questions_are_single() {
        let both = OffsetsQuery { at: Some(AskedPlace::Latest), timestamp: Some(1) };
        assert_eq!(both.question().unwrap_err().code(), ErrorCode::ValidationFailed);
        assert_eq!(OffsetsQuery::default().question().unwrap(), None);
        assert_eq!(OffsetsQuery { at: None, timestamp: Some(-1) }.question().unwrap(), Some(OffsetQuestion::Timestamp(-1)));
    }
}
