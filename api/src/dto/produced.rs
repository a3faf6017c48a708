//! The answer to a produce: where each record ended up, and how safe it is there.

use std::collections::BTreeMap;

use axum::http::StatusCode;
use serde_json::{Value, json};
use tidegate_cluster::{Acks, Appended, Error, Origin};
use tidegate_types::topic_config::Durability;
use tidegate_types::{ErrorCode, PartitionIndex, SideEffects, Timestamp};
use utoipa::ToSchema;

use super::collect::Placement;
use crate::error::{ApiError, status_of};
use crate::json::{put_integer, put_string};

/// Where records were written.
#[derive(Debug, ToSchema)]
#[schema(example = json!({"results": [{"partition": 1, "offset": 1042, "timestamp": 1_763_709_600_000_i64}], "durability": "fsync"}))]
#[expect(dead_code, reason = "written by hand; the struct is its schema")]
pub(crate) struct ProduceResponse {
    /// One for each record, in the order of the request; none with `acks=none`.
    results: Vec<ProduceResult>,
    /// What was waited for: `none`, `leader`, `replicated` or `fsync`.
    durability: String,
}

/// Where a record was written.
#[derive(Debug, ToSchema)]
#[schema(example = json!({"partition": 1, "offset": 1042, "timestamp": 1_763_709_600_000_i64}))]
#[expect(dead_code, reason = "written by hand; the struct is its schema")]
pub(crate) struct ProduceResult {
    /// Its partition.
    partition: u32,
    /// Its offset there; absent if its producer wrote it so long ago that the partition does not remember where.
    #[schema(nullable = false, maximum = 9_007_199_254_740_991_i64)]
    offset: Option<u64>,
    /// Its timestamp, in ms since 1970-01-01 UTC; absent with the offset, and if an earlier request wrote the record and it is gone.
    #[schema(nullable = false, minimum = 0, maximum = 9_007_199_254_740_991_i64)]
    timestamp: Option<i64>,
}

/// Where batches were written.
#[derive(Debug, serde::Serialize, ToSchema)]
#[schema(example = json!({"base_offset": 1042, "last_offset": 1050, "durability": "fsync"}))]
pub(crate) struct BatchesResponse {
    /// Offset of the first record; absent with `acks=none`, and if its producer wrote it so long ago that the partition does not remember where.
    #[schema(nullable = false, maximum = 9_007_199_254_740_991_i64)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) base_offset: Option<u64>,
    /// Offset of the last record; absent with the first.
    #[schema(nullable = false, maximum = 9_007_199_254_740_991_i64)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) last_offset: Option<u64>,
    /// What was waited for: `none`, `leader`, `replicated` or `fsync`.
    #[schema(value_type = String)]
    pub(crate) durability: &'static str,
}

/// What a stream wrote.
#[derive(Debug, serde::Serialize, ToSchema)]
#[schema(example = json!({"committed_records": 2000, "last": [{"partition": 0, "offset": 1041}, {"partition": 1, "offset": 957}]}))]
pub(crate) struct StreamResponse {
    /// Records written.
    #[schema(maximum = 9_007_199_254_740_991_i64)]
    pub(crate) committed_records: u64,
    /// The last record of each partition that was written to.
    pub(crate) last: Vec<LastOffset>,
}

/// The last record of a partition.
#[derive(Debug, Clone, Copy, serde::Serialize, ToSchema)]
#[schema(example = json!({"partition": 0, "offset": 1041}))]
pub(crate) struct LastOffset {
    /// The partition.
    pub(crate) partition: u32,
    /// The record's offset; absent with `acks=none`.
    #[schema(nullable = false, maximum = 9_007_199_254_740_991_i64)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) offset: Option<u64>,
}

/// What was waited for (D8): the weakest that any part got. The parts say it, not the topic: its config may have changed meanwhile.
pub(crate) fn durability<'p>(acks: Acks, parts: impl IntoIterator<Item = &'p Appended>) -> &'static str {
    let is_replicated = || parts.into_iter().any(|appended| appended.durability == Durability::Replicated);
    match acks {
        Acks::None => "none",
        Acks::Leader => "leader",
        Acks::All if is_replicated() => "replicated",
        Acks::All => "fsync",
    }
}

/// Where a part of a request went.
#[derive(Debug, Clone)]
pub(crate) struct Part {
    pub(crate) partition: PartitionIndex,
    pub(crate) appended: Appended,
    /// If it was written by an earlier request: the timestamps that its records have there, by offset.
    pub(crate) timestamps: BTreeMap<u64, i64>,
}

/// The body of a [`ProduceResponse`]. `parts` says where each part went, in the order of the placements' `part`.
pub(crate) fn body(placements: &[Placement], parts: &[Part], durability: &str) -> Vec<u8> {
    let mut next: Vec<u64> = parts.iter().map(|part| part.appended.base_offset.get()).collect();
    // 75 bytes hold the names of a result and a number of 16 digits for its offset, of 13 for its timestamp.
    let mut out = Vec::with_capacity(64 + 75 * placements.len());
    out.extend_from_slice(b"{\"results\":[");
    for (place, placement) in placements.iter().enumerate() {
        if place > 0 {
            out.push(b',');
        }
        let Part { partition, appended, timestamps } = &parts[placement.part];
        out.extend_from_slice(b"{\"partition\":");
        put_integer(&mut out, partition.get());
        if appended.origin != Origin::Forgotten {
            let offset = next[placement.part];
            next[placement.part] += 1;
            out.extend_from_slice(b",\"offset\":");
            put_integer(&mut out, offset);
            let now = appended.append_time.map_or(placement.timestamp, Timestamp::millis);
            let told = timestamps.get(&offset).copied().or((appended.origin == Origin::Written).then_some(now));
            if let Some(told) = told {
                out.extend_from_slice(b",\"timestamp\":");
                put_integer(&mut out, told);
            }
        }
        out.push(b'}');
    }
    out.extend_from_slice(b"],\"durability\":");
    put_string(&mut out, durability);
    out.extend_from_slice(b"}\n");
    out
}

/// The problem of a produce of which not all parts were written.
///
/// If nothing was written and all parts failed alike, it is that failure; else `partial-write`, with what is known of each record.
pub(crate) fn failure(placements: &[Placement], parts: &[(PartitionIndex, Result<Appended, Error>)]) -> ApiError {
    let errors: Vec<&Error> = parts.iter().filter_map(|(_, outcome)| outcome.as_ref().err()).collect();
    let Some(first) = errors.first().copied() else {
        return ApiError::new(ErrorCode::Internal, "a write was taken for a failure");
    };
    if errors.len() == parts.len() && errors.iter().all(|error| error.code() == first.code()) {
        return first.clone().into();
    }
    let detail = format!("{} of {} partitions failed to confirm their records", errors.len(), parts.len());
    let problem = ApiError::new(ErrorCode::PartialWrite, detail).with("results", results(placements, parts));
    let only_timeouts = errors.iter().all(|error| status_of(error.code()) == StatusCode::GATEWAY_TIMEOUT);
    problem.with("cause", first.code().as_str()).with("timed_out", only_timeouts)
}

fn results(placements: &[Placement], parts: &[(PartitionIndex, Result<Appended, Error>)]) -> Vec<Value> {
    let mut next: Vec<u64> = parts.iter().map(|(_, outcome)| outcome.as_ref().map_or(0, |appended| appended.base_offset.get())).collect();
    let one = |(index, placement): (usize, &Placement)| {
        let (partition, outcome) = &parts[placement.part];
        let offset = next[placement.part];
        next[placement.part] += 1;
        match outcome {
            Ok(_) => json!({"index": index, "state": "committed", "partition": partition.get(), "offset": offset}),
            Err(error) => json!({"index": index, "state": state(error), "partition": partition.get()}),
        }
    };
    placements.iter().enumerate().map(one).collect()
}

fn state(error: &Error) -> &'static str {
    match error.code().side_effects() {
        SideEffects::None => "not_written",
        SideEffects::Possible => "unknown",
    }
}

#[cfg(test)]
mod tests {
    use tidegate_types::{Offset, Timestamp};

    use super::*;

    fn appended(base: u64, count: u64, append_time: Option<i64>) -> Appended {
        let offset = |n| Offset::new(n).unwrap();
        Appended {
            base_offset: offset(base),
            last_offset: offset(base + count - 1),
            append_time: append_time.map(Timestamp::from_millis),
            durability: Durability::Fsync,
            origin: Origin::Written,
            key_window_ms: None,
        }
    }

    fn part(partition: u32, appended: Appended) -> Part {
        Part { partition: PartitionIndex::new(partition), appended, timestamps: BTreeMap::new() }
    }

    const PLACEMENTS: [Placement; 4] = [
        Placement { part: 0, timestamp: 1 },
        Placement { part: 1, timestamp: 2 },
        Placement { part: 0, timestamp: 3 },
        Placement { part: 0, timestamp: 4 },
    ];

    /// A promise: each record gets the offset that it has, in the order of the request, and the time it was stamped with.
    #[test]
    fn offsets_follow_the_request() {
        let parts = [part(7, appended(100, 3, None)), part(2, appended(50, 1, Some(9)))];
        let body: Value = serde_json::from_slice(&body(&PLACEMENTS, &parts, "fsync")).unwrap();
        let expected = json!({"results": [
            {"partition": 7, "offset": 100, "timestamp": 1},
            {"partition": 2, "offset": 50, "timestamp": 9},
            {"partition": 7, "offset": 101, "timestamp": 3},
            {"partition": 7, "offset": 102, "timestamp": 4},
        ], "durability": "fsync"});
        assert_eq!(body, expected);
        assert_eq!(super::body(&[], &[], "none"), b"{\"results\":[],\"durability\":\"none\"}\n");
    }

    /// A promise: records that were written before have the timestamps of then; if it is not known any more where they are, nothing is said of that.
    #[test]
    fn repetitions_tell_of_then() {
        let replayed = Appended { origin: Origin::Replayed, ..appended(100, 3, None) };
        let then = Part { timestamps: BTreeMap::from([(100, 77), (102, 79)]), ..part(7, replayed) };
        let forgotten = part(2, Appended { origin: Origin::Forgotten, ..appended(50, 1, None) });
        let body: Value = serde_json::from_slice(&body(&PLACEMENTS, &[then, forgotten], "fsync")).unwrap();
        let expected = json!([
            {"partition": 7, "offset": 100, "timestamp": 77},
            {"partition": 2},
            {"partition": 7, "offset": 101},
            {"partition": 7, "offset": 102, "timestamp": 79},
        ]);
        assert_eq!(body["results"], expected);
    }

    /// A promise: an answer promises no more than the weakest of its parts got, and no more than was waited for.
    #[test]
    fn the_weakest_part_counts() {
        let synced = appended(0, 1, None);
        let written = Appended { durability: Durability::Replicated, ..synced };
        assert_eq!(durability(Acks::All, &[synced, synced]), "fsync");
        assert_eq!(durability(Acks::All, &[synced, written, synced]), "replicated");
        assert_eq!((durability(Acks::Leader, &[synced]), durability(Acks::None, &[])), ("leader", "none"));
    }

    /// A promise: a partial write says of every record what is known: written where, certainly not, or perhaps.
    #[test]
    fn partial_writes_are_told_apart() {
        let (seven, two) = (PartitionIndex::new(7), PartitionIndex::new(2));
        let problem = failure(&PLACEMENTS, &[(seven, Ok(appended(100, 3, None))), (two, Err(Error::WriteTimeout))]);
        assert_eq!(problem.code(), ErrorCode::PartialWrite);
        let expected = json!([
            {"index": 0, "state": "committed", "partition": 7, "offset": 100},
            {"index": 1, "state": "unknown", "partition": 2},
            {"index": 2, "state": "committed", "partition": 7, "offset": 101},
            {"index": 3, "state": "committed", "partition": 7, "offset": 102},
        ]);
        assert_eq!(problem.extras()["results"], expected);
        let mixed = failure(&PLACEMENTS, &[(seven, Err(Error::Draining)), (two, Err(Error::WriteTimeout))]);
        assert_eq!(mixed.code(), ErrorCode::PartialWrite);
        assert_eq!(mixed.extras()["results"][0]["state"], json!("not_written"));
    }

    /// A promise: a failure that all parts share is answered as itself.
    #[test]
    fn shared_failures_are_themselves() {
        let failed = || (PartitionIndex::new(0), Err(Error::WriteTimeout));
        assert_eq!(failure(&PLACEMENTS, &[failed(), failed()]).code(), ErrorCode::WriteTimeout);
        assert_eq!(failure(&PLACEMENTS[..1], &[(PartitionIndex::new(0), Err(Error::Draining))]).code(), ErrorCode::Draining);
    }
}
